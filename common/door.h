/*
 * door.h: how a process that a command started finds the slot that runs the command. The slot listens (waiters.c of the
 * worker) and says where in the environment; a connection to it means "I wait", for as long as it stands: who dies
 * waits no more. The answer is one byte.
 */
#ifndef QUERN_COMMON_DOOR_H
#define QUERN_COMMON_DOOR_H

#include "common/place.h"

#include <sys/socket.h>
#include <sys/un.h>

/* ADDRESS:DEPTH. ADDRESS: of a socket in the abstract name space; DEPTH: of tasks that are submitted there. */
#define DOOR_ENVIRONMENT "QUERN_SLOT"
/* The id of the task, for whoever wants to know. */
#define DOOR_TASK_ENVIRONMENT "QUERN_TASK"
#define DOOR_ADDRESS_SIZE 64u
#define DOOR_GIVEN 'g'
#define DOOR_REFUSED 'r'

/* Of this process's environment; NULL: no command's process. Waits in any of its threads count. */
const struct place *door_place(void);
unsigned door_depth(void); /* 0: no command's process */

/* The size of *address_out; 0: too long. */
socklen_t door_address(const char *address, struct sockaddr_un *address_out);

#endif

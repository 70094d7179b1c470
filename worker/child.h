/*
 * child.h: the slot process: runs the tasks it is given, one after the other, until its socket ends.
 */
#ifndef QUERN_WORKER_CHILD_H
#define QUERN_WORKER_CHILD_H

#include "worker/modules.h"
#include "worker/statuspage.h"

/* In the slot's process, with all functions loaded. fd: the slot's end of its socket. Initialises the slot, says that
 * it is ready, runs tasks. */
__attribute__((noreturn)) void child_begin(int fd, struct statuspage *page, struct registry *registry);
/* It cannot run tasks: registry->why goes to the supervisor. */
__attribute__((noreturn)) void child_refuse(int fd, struct statuspage *page, const struct registry *registry);

#endif

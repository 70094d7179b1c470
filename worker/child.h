/*
 * child.h: the slot process: runs the tasks it is given, one after the other, until its socket ends.
 */
#ifndef QUERN_WORKER_CHILD_H
#define QUERN_WORKER_CHILD_H

#include "worker/modules.h"
#include "worker/statuspage.h"

/* In the forked process. fd: the slot's end of its socket. Never returns. */
__attribute__((noreturn)) void child_run(int fd, struct statuspage *page, const struct registry *registry);

#endif

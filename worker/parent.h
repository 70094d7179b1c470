/*
 * parent.h: the tie to the program that started this worker for itself (an embedded pool): the worker ends when that
 * program is gone, whatever ended it, and tells it when it is ready.
 */
#ifndef QUERN_WORKER_PARENT_H
#define QUERN_WORKER_PARENT_H

#include <stdbool.h>
#include <stddef.h>

struct parent {
    int fd;       /* a pipe or socket whose other end is the parent's alone; -1: no tie */
    int ready_fd; /* where the ready line goes; -1: to stdout */
};

/* Is this an open pipe or socket? */
bool parent_fd_is_good(int fd);
/* Neither descriptor reaches what this process starts. */
void parent_begin(const struct parent *parent);
/* The other end is closed. Nothing is read, so that the parent may write to it. */
bool parent_is_gone(const struct parent *parent);
/* One line: "ready NAME slots=N". Its descriptor is closed then, unless it is the tie itself. */
void parent_tell_ready(struct parent *parent, const char *name, size_t slot_count);

#endif

/*
 * parent.h: the ties of a broker or worker to the program that started it for itself (an embedded pool): it ends when
 * that program is gone, whatever ended it, and tells it when it is ready, or why it never will be.
 *
 * Two ties, for neither is enough alone. A pipe says that its other end was closed, also by exec; but a child that the
 * program forked holds that end too, and goes on holding it. A pidfd of the program says that all of the program's
 * threads have ended, whoever inherited what; but it outlives an exec. (PR_SET_PDEATHSIG would be a third: it fires
 * when the thread that started us ends, though the program goes on.)
 */
#ifndef QUERN_COMMON_PARENT_H
#define QUERN_COMMON_PARENT_H

#include <poll.h>
#include <stdbool.h>
#include <stddef.h>

#define PARENT_FD_COUNT 2u

struct parent {
    int fd;       /* a pipe or socket whose other end is the parent's alone; -1: no such tie */
    int pidfd;    /* of the parent; -1: no such tie */
    int ready_fd; /* where the ready line goes; -1: to stdout */
};
#define PARENT_INIT                                                                                                    \
    {                                                                                                                  \
        .fd = -1, .pidfd = -1, .ready_fd = -1                                                                          \
    }

/* Takes the number of a descriptor from the command line; false: that is none, or not of the wanted kind. */
bool parent_fd_read(const char *word, int *fd_out);       /* a pipe or socket */
bool parent_pidfd_read(const char *word, int *fd_out);    /* a pidfd */
bool parent_ready_fd_read(const char *word, int *fd_out); /* any; errors go there from now on (log_errors_to) */

/* None of the descriptors reaches what this process starts. */
void parent_begin(const struct parent *parent);

/* What to poll for, in fds; descriptors are -1 where there is no tie. When one reports anything, ask parent_is_gone. */
void parent_poll_fds(const struct parent *parent, struct pollfd fds[PARENT_FD_COUNT]);
bool parent_is_gone(const struct parent *parent);

/* The ready line, with its newline. Its descriptor is closed then, unless it is the tie itself. */
void parent_tell_ready(struct parent *parent, const char *line);

#endif

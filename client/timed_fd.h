/*
 * timed_fd.h: a descriptor that is readable while another one is, and from a certain time on.
 */
#ifndef QUERN_CLIENT_TIMED_FD_H
#define QUERN_CLIENT_TIMED_FD_H

#include <stdint.h>

struct timed_fd {
    int joined_fd; /* -1: none yet */
    int timer_fd;
};
#define TIMED_FD_INIT                                                                                                  \
    {                                                                                                                  \
        .joined_fd = -1, .timer_fd = -1                                                                                \
    }

/* The descriptor, made when it is asked for first; fd stays the caller's. Without an end (INT64_MAX) it is fd itself.
 * -1, with errno: none could be made. */
int timed_fd_get(struct timed_fd *timed, int fd, int64_t deadline_ms);
void timed_fd_fini(struct timed_fd *timed);

#endif

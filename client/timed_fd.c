/*
 * timed_fd.c owns how the end of a time comes to those who poll: an epoll descriptor over theirs and a timer.
 * It must not know what is waited for.
 * Start reading at timed_fd_get.
 */
#include "client/timed_fd.h"

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

static int timer_make(int64_t deadline_ms)
{
    struct itimerspec at = {.it_value = {.tv_sec = deadline_ms / 1000, .tv_nsec = deadline_ms % 1000 * 1000000}};
    at.it_value.tv_nsec += at.it_value.tv_sec == 0 && at.it_value.tv_nsec == 0; /* 0 would be never */
    int fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    if (fd >= 0 && timerfd_settime(fd, TFD_TIMER_ABSTIME, &at, NULL) != 0) {
        (void)close(fd);
        return -1;
    }
    return fd;
}

static bool join(int joined_fd, int fd)
{
    struct epoll_event event = {.events = EPOLLIN};
    return fd >= 0 && epoll_ctl(joined_fd, EPOLL_CTL_ADD, fd, &event) == 0;
}

int timed_fd_get(struct timed_fd *timed, int fd, int64_t deadline_ms)
{
    if (fd < 0 || deadline_ms == INT64_MAX || timed->joined_fd >= 0) {
        return timed->joined_fd >= 0 ? timed->joined_fd : fd;
    }
    timed->joined_fd = epoll_create1(EPOLL_CLOEXEC);
    timed->timer_fd = timed->joined_fd < 0 ? -1 : timer_make(deadline_ms);
    if (timed->joined_fd < 0 || !join(timed->joined_fd, fd) || !join(timed->joined_fd, timed->timer_fd)) {
        int why = errno;
        timed_fd_fini(timed);
        errno = why;
    }
    return timed->joined_fd;
}

void timed_fd_fini(struct timed_fd *timed)
{
    if (timed->timer_fd >= 0) {
        (void)close(timed->timer_fd);
    }
    if (timed->joined_fd >= 0) {
        (void)close(timed->joined_fd);
    }
    timed->timer_fd = timed->joined_fd = -1;
}

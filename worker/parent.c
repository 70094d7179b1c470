/*
 * parent.c owns the two descriptors that tie a worker to the program that started it.
 * It must not know what ends with the worker, nor who the parent is.
 * Start reading at parent_is_gone.
 */
#include "worker/parent.h"

#include "common/limits.h"

#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

bool parent_fd_is_good(int fd)
{
    struct stat facts;
    return fstat(fd, &facts) == 0 && (S_ISFIFO(facts.st_mode) || S_ISSOCK(facts.st_mode));
}

static void keep_to_ourselves(int fd)
{
    if (fd >= 0) {
        (void)fcntl(fd, F_SETFD, FD_CLOEXEC);
    }
}

void parent_begin(const struct parent *parent)
{
    keep_to_ourselves(parent->fd);
    keep_to_ourselves(parent->ready_fd);
}

bool parent_is_gone(const struct parent *parent)
{
    /* The kernel reports an end that is closed whether asked or not; for a socket that also covers half-closed ones. */
    struct pollfd end = {.fd = parent->fd, .events = POLLRDHUP};
    return parent->fd >= 0 && poll(&end, 1, 0) > 0 && (end.revents & (POLLRDHUP | POLLHUP | POLLERR | POLLNVAL)) != 0;
}

void parent_tell_ready(struct parent *parent, const char *name, size_t slot_count)
{
    char line[WORKER_NAME_SIZE_MAX + 64];
    int size = snprintf(line, sizeof(line), "ready %s slots=%zu\n", name, slot_count);
    int fd = parent->ready_fd >= 0 ? parent->ready_fd : STDOUT_FILENO;
    /* Shorter than what a pipe takes at once; a reader that is gone wants no news. */
    (void)!write(fd, line, (size_t)size);
    if (parent->ready_fd >= 0 && parent->ready_fd != parent->fd) {
        close(parent->ready_fd);
    }
    parent->ready_fd = -1;
}

/*
 * parent.c owns the descriptors that tie a broker or worker to the program that started it.
 * It must not know what ends with them, nor who the parent is.
 * Start reading at parent_is_gone.
 */
#include "common/parent.h"

#include "common/log.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- the command line ---- */

static bool fd_read(const char *word, int *fd_out)
{
    char *end = NULL;
    unsigned long fd = strtoul(word, &end, 10);
    if (*word < '0' || *word > '9' || *end != '\0' || fd > INT_MAX || fcntl((int)fd, F_GETFD) < 0) {
        return false;
    }
    *fd_out = (int)fd;
    return true;
}

bool parent_ready_fd_read(const char *word, int *fd_out)
{
    bool is = fd_read(word, fd_out);
    if (is) {
        log_errors_to(*fd_out);
    }
    return is;
}

bool parent_fd_read(const char *word, int *fd_out)
{
    struct stat facts;
    return fd_read(word, fd_out) && fstat(*fd_out, &facts) == 0 && (S_ISFIFO(facts.st_mode) || S_ISSOCK(facts.st_mode));
}

/* What the kernel says of the descriptor; the process may have ended already. */
static bool is_pidfd(int fd)
{
    char path[sizeof("/proc/self/fdinfo/") + 16];
    char line[128];
    bool is = false;
    snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
    FILE *file = fopen(path, "re");
    while (file != NULL && !is && fgets(line, sizeof(line), file) != NULL) {
        is = strncmp(line, "Pid:", strlen("Pid:")) == 0;
    }
    if (file != NULL) {
        fclose(file);
    }
    return is;
}

bool parent_pidfd_read(const char *word, int *fd_out)
{
    return fd_read(word, fd_out) && is_pidfd(*fd_out);
}

/* ---- the tie ---- */

static void keep_to_ourselves(int fd)
{
    if (fd >= 0) {
        (void)fcntl(fd, F_SETFD, FD_CLOEXEC);
    }
}

void parent_begin(const struct parent *parent)
{
    keep_to_ourselves(parent->fd);
    keep_to_ourselves(parent->pidfd);
    keep_to_ourselves(parent->ready_fd);
}

void parent_poll_fds(const struct parent *parent, struct pollfd fds[PARENT_FD_COUNT])
{
    /* The kernel reports an end that is closed whether asked or not; for a socket this also covers half-closed ones.
     * Not POLLIN: nothing is read, so that the parent may write to it. */
    fds[0] = (struct pollfd){.fd = parent->fd, .events = POLLRDHUP};
    fds[1] = (struct pollfd){.fd = parent->pidfd, .events = POLLIN};
}

bool parent_is_gone(const struct parent *parent)
{
    struct pollfd fds[PARENT_FD_COUNT];
    parent_poll_fds(parent, fds);
    return poll(fds, PARENT_FD_COUNT, 0) > 0 &&
           ((fds[0].revents & (POLLRDHUP | POLLHUP | POLLERR | POLLNVAL)) != 0 || fds[1].revents != 0);
}

void parent_tell_ready(struct parent *parent, const char *line)
{
    log_errors_to(-1);
    int fd = parent->ready_fd >= 0 ? parent->ready_fd : STDOUT_FILENO;
    /* Shorter than what a pipe takes at once; a reader that is gone wants no news. */
    (void)!write(fd, line, strlen(line));
    if (parent->ready_fd >= 0 && parent->ready_fd != parent->fd) {
        close(parent->ready_fd);
    }
    parent->ready_fd = -1;
}

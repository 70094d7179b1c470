/*
 * waiters.c owns the door of a slot that runs a command, and who of the command's processes waits.
 * It must not know what they wait for, nor what the command writes.
 * Start reading at waiters_serve.
 */
#include "worker/waiters.h"

#include "common/clock.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

/* The supervisor answers at once; if it does not, the wait begins all the same. */
#define ANSWER_MS 1000
/* Who waits again and again leaves for a moment: the place is not taken back for that, or it might be refused when all
 * are taken. */
#define LINGER_MS 50
/* Of a process up to the slot; more is a loop in what /proc says, or no child of ours. */
#define ANCESTOR_COUNT_MAX 4096u
#define BACKLOG_COUNT 64

bool waiters_open(struct waiters *waiters)
{
    uint64_t secret[2];
    struct sockaddr_un address;
    if (getrandom(secret, sizeof secret, 0) != sizeof secret) {
        return false;
    }
    snprintf(waiters->address, sizeof waiters->address, "quern-slot-%016llx%016llx", (unsigned long long)secret[0],
             (unsigned long long)secret[1]);
    socklen_t size = door_address(waiters->address, &address);
    waiters->fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (waiters->fd < 0 || bind(waiters->fd, (struct sockaddr *)&address, size) != 0 ||
        listen(waiters->fd, BACKLOG_COUNT) != 0) {
        waiters_close(waiters);
        return false;
    }
    return true;
}

/* ---- who may come in ---- */

/* 0: it is gone. */
static pid_t parent_of(pid_t pid)
{
    char path[32];
    char text[512];
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    FILE *file = fopen(path, "re");
    size_t n = file != NULL ? fread(text, 1, sizeof text - 1, file) : 0;
    if (file != NULL) {
        fclose(file);
    }
    text[n] = '\0';
    const char *end = strrchr(text, ')'); /* a name may hold anything */
    return end != NULL && strlen(end) > 4 ? (pid_t)strtol(end + 4, NULL, 10) : 0;
}

/* Orphans come to us, their subreaper: every process of the command is below this one. */
static bool is_below_us(pid_t pid)
{
    for (unsigned i = 0; i < ANCESTOR_COUNT_MAX && pid > 1; i++) {
        pid = parent_of(pid);
        if (pid == getpid()) {
            return true;
        }
    }
    return false;
}

static bool may_come_in(int fd)
{
    struct ucred peer;
    socklen_t size = sizeof peer;
    return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 && peer.uid == geteuid() && is_below_us(peer.pid);
}

/* ---- serving ---- */

static void answer(int fd, char word)
{
    (void)!send(fd, &word, 1, MSG_DONTWAIT | MSG_NOSIGNAL); /* who is gone needs none */
}

static void come_in(struct waiters *waiters, int fd)
{
    bool has_room = waiters->count < COMMAND_WAITER_COUNT_MAX;
    if (!may_come_in(fd)) {
        close(fd);
        return;
    }
    if (has_room && !waiters->is_given) {
        waiters->is_given = quern_place_give(clock_mono_ms() + ANSWER_MS);
    }
    if (!has_room || !waiters->is_given) {
        answer(fd, DOOR_REFUSED);
        close(fd);
        return;
    }
    answer(fd, DOOR_GIVEN);
    waiters->peers[waiters->count++] = fd;
}

static void leave(struct waiters *waiters, const struct pollfd *fds, size_t count)
{
    for (size_t i = count; i-- > 0;) {
        if (fds[i].revents != 0) { /* they have nothing to say: it is closed, or no waiter of ours */
            close(waiters->peers[i]);
            waiters->peers[i] = waiters->peers[--waiters->count];
        }
    }
}

size_t waiters_poll_fds(const struct waiters *waiters, struct pollfd *fds)
{
    fds[0] = (struct pollfd){.fd = waiters->fd, .events = POLLIN};
    for (size_t i = 0; i < waiters->count; i++) {
        fds[1 + i] = (struct pollfd){.fd = waiters->peers[i], .events = POLLIN | POLLRDHUP};
    }
    return 1 + waiters->count;
}

static void place_settle(struct waiters *waiters)
{
    if (waiters->count > 0 || !waiters->is_given) {
        waiters->take_ms = INT64_MAX;
    } else if (waiters->take_ms == INT64_MAX) {
        waiters->take_ms = clock_mono_ms() + LINGER_MS;
    } else if (clock_mono_ms() >= waiters->take_ms) {
        quern_place_take();
        waiters->is_given = false;
        waiters->take_ms = INT64_MAX;
    }
}

void waiters_serve(struct waiters *waiters, const struct pollfd *fds)
{
    int fd;
    leave(waiters, fds + 1, waiters->count);
    while (waiters->fd >= 0 && fds[0].revents != 0 &&
           (fd = accept4(waiters->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK)) >= 0) {
        come_in(waiters, fd);
    }
    place_settle(waiters);
}

void waiters_close(struct waiters *waiters)
{
    if (waiters->fd >= 0) {
        close(waiters->fd);
        waiters->fd = -1;
    }
    while (waiters->count > 0) {
        close(waiters->peers[--waiters->count]);
    }
    if (waiters->is_given) {
        quern_place_take();
        waiters->is_given = false;
    }
    waiters->take_ms = INT64_MAX;
}

/*
 * waiters.h: the processes of a command that wait for other tasks. While one of them does, the place of the slot is
 * given to others (common/place.h), whatever the other processes of the command do meanwhile: a shell waits for its
 * children in a way that nobody can see. Each is a connection to the slot's door (common/door.h), so that who dies
 * waits no more; only the same user's processes below this slot are let in.
 */
#ifndef QUERN_WORKER_WAITERS_H
#define QUERN_WORKER_WAITERS_H

#include "common/door.h"
#include "common/limits.h"

#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WAITERS_FD_COUNT_MAX (COMMAND_WAITER_COUNT_MAX + 1u)

struct waiters {
    int fd; /* listens; -1: there is no door */
    char address[DOOR_ADDRESS_SIZE];
    int peers[COMMAND_WAITER_COUNT_MAX];
    size_t count;
    bool is_given;
    int64_t take_ms; /* nobody waits any more: take the place back then (monotonic); INT64_MAX: no */
};
#define WAITERS_INIT                                                                                                   \
    {                                                                                                                  \
        .fd = -1, .take_ms = INT64_MAX                                                                                 \
    }

/* False: there is no door; then nobody can say that it waits. */
bool waiters_open(struct waiters *waiters);
/* What to poll for; at most WAITERS_FD_COUNT_MAX. */
size_t waiters_poll_fds(const struct waiters *waiters, struct pollfd *fds);
/* What poll said of them, and what is due; in the handler's thread. */
void waiters_serve(struct waiters *waiters, const struct pollfd *fds);
/* Nobody is heard any more; the place is taken. Twice is fine. */
void waiters_close(struct waiters *waiters);

#endif

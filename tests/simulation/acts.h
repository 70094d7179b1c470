/*
 * acts: all that can happen next in a random world, each with its weight. Knows cast.h. Start at ACTION_LIST.
 */
#ifndef QUERN_TESTS_ACTS_H
#define QUERN_TESTS_ACTS_H

#include "cast.h"

/* weight, what */
#define ACTION_LIST(X)                                                                                                 \
    X(3000, to_broker)                                                                                                 \
    X(3000, to_peer)                                                                                                   \
    X(900, seal)                                                                                                       \
    X(900, apply)                                                                                                      \
    X(900, notice)                                                                                                     \
    X(400, load)                                                                                                       \
    X(1500, time)                                                                                                      \
    X(350, submit)                                                                                                     \
    X(500, line)                                                                                                       \
    X(600, take)                                                                                                       \
    X(300, acknowledge)                                                                                                \
    X(60, cancel)                                                                                                      \
    X(10, close)                                                                                                       \
    X(50, client_drop)                                                                                                 \
    X(20, client_die)                                                                                                  \
    X(10, client_leave)                                                                                                \
    X(8, client_rival)                                                                                                 \
    X(50, worker_drop)                                                                                                 \
    X(12, worker_die)                                                                                                  \
    X(10, worker_pause)                                                                                                \
    X(6, worker_drain)                                                                                                 \
    X(15, worker_return)                                                                                               \
    X(40, late)                                                                                                        \
    X(60, mend)                                                                                                        \
    X(15, cut)                                                                                                         \
    X(8, client_pause)                                                                                                 \
    X(4, broker_pause)                                                                                                 \
    X(10, stall)                                                                                                       \
    X(12, full)                                                                                                        \
    X(6, clock)                                                                                                        \
    X(5, worker_rival)                                                                                                 \
    X(20, stranger)                                                                                                    \
    X(30, repeat)                                                                                                      \
    X(25, forge)                                                                                                       \
    X(20, impostor)                                                                                                    \
    X(40, intruder)                                                                                                    \
    X(30, crash)                                                                                                       \
    X(4, stop)                                                                                                         \
    X(15, stats)

#define X(weight, name) ACTION_##name,
enum { ACTION_LIST(X) ACTION_COUNT };
#undef X

#define X(weight, name) void act_##name(struct chaos *chaos);
ACTION_LIST(X)
#undef X

#endif

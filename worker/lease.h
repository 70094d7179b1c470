/*
 * lease.h: one worker's connection with the broker as numbers: generation, whether it is welcome, pings, and until when
 * it may start tasks. Pure: the time comes in.
 *
 * The lease ends lease_ms after the *sending* of the last HELLO or PING that was answered (by WELCOME, by PONG): the
 * broker counts from its receiving, which is later, so the worker stops starting before the broker gives up waiting.
 */
#ifndef QUERN_WORKER_LEASE_H
#define QUERN_WORKER_LEASE_H

#include "common/message.h"

#include <stdbool.h>
#include <stdint.h>

/* Pings whose answers are still awaited; a peer that is dead_ms silent is dropped long before more are under way. */
#define LEASE_PING_COUNT_MAX 16u

enum lease_state { LEASE_DOWN, LEASE_GREETED, LEASE_WELCOME };

struct lease {
    enum lease_state state;
    uint32_t generation; /* of this connection; 0 before the first */
    uint64_t lease_ms;
    uint64_t heartbeat_ms;
    uint64_t dead_ms;
    int64_t hello_ms; /* sent */
    int64_t heard_ms; /* last frame of this connection */
    int64_t ping_ms;  /* sent */
    uint64_t ping_number;
    int64_t sent_ms[LEASE_PING_COUNT_MAX]; /* of ping number % MAX */
    uint64_t answered;                     /* number of the newest ping that was answered */
    int64_t end_ms;                        /* of the lease; INT64_MIN before the first WELCOME */
};

void lease_init(struct lease *lease, const struct limits *defaults);
/* A fresh connection: the generation rises, HELLO is sent now. */
void lease_greet(struct lease *lease, int64_t now_ms);
void lease_disconnected(struct lease *lease);
void lease_heard(struct lease *lease, int64_t now_ms);
void lease_welcome(struct lease *lease, const struct msg_WELCOME_WORKER *welcome);
/* A ping is due: its number, to be sent now. 0: none is. */
uint64_t lease_ping(struct lease *lease, int64_t now_ms);
void lease_pong(struct lease *lease, uint64_t number);
/* A ping beyond the rhythm (a drain asks whether everything before it has arrived). */
uint64_t lease_ping_now(struct lease *lease, int64_t now_ms);

bool lease_is_over(const struct lease *lease, int64_t now_ms);
/* The broker was silent for too long: connect anew. */
bool lease_is_silent(const struct lease *lease, int64_t now_ms);
/* When to look again at the latest; INT64_MAX: no need. */
int64_t lease_wake_ms(const struct lease *lease);

#endif

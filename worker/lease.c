/*
 * lease.c owns a worker's standing with its broker: generation, welcome, pings, the end of the lease.
 * It must not know sockets, attempts or slots; it reads no clock.
 * Start reading at lease_pong.
 */
#include "worker/lease.h"

#include "common/limits.h"

void lease_init(struct lease *lease, const struct limits *defaults)
{
    *lease = (struct lease){.state = LEASE_DOWN,
                            .lease_ms = defaults->lease_ms,
                            .heartbeat_ms = defaults->heartbeat_ms,
                            .dead_ms = defaults->dead_ms,
                            .end_ms = INT64_MIN};
}

void lease_greet(struct lease *lease, int64_t now_ms)
{
    lease->state = LEASE_GREETED;
    lease->generation++;
    lease->hello_ms = now_ms;
    lease->heard_ms = now_ms;
    lease->ping_ms = now_ms;
    lease->answered = lease->ping_number;
}

void lease_disconnected(struct lease *lease)
{
    lease->state = LEASE_DOWN;
}

void lease_heard(struct lease *lease, int64_t now_ms)
{
    lease->heard_ms = now_ms;
}

/* Renewals may be answered out of step with their sending; the end never moves back. */
static void renew(struct lease *lease, int64_t sent_ms)
{
    int64_t end_ms = sent_ms + (int64_t)lease->lease_ms;
    if (end_ms > lease->end_ms) {
        lease->end_ms = end_ms;
    }
}

void lease_welcome(struct lease *lease, const struct msg_WELCOME_WORKER *welcome)
{
    lease->state = LEASE_WELCOME;
    lease->lease_ms = welcome->lease_ms;
    lease->heartbeat_ms = welcome->heartbeat_ms > 0 ? welcome->heartbeat_ms : 1;
    lease->dead_ms = welcome->dead_ms;
    renew(lease, lease->hello_ms);
}

uint64_t lease_ping_now(struct lease *lease, int64_t now_ms)
{
    lease->ping_ms = now_ms;
    lease->ping_number++;
    lease->sent_ms[lease->ping_number % LEASE_PING_COUNT_MAX] = now_ms;
    return lease->ping_number;
}

uint64_t lease_ping(struct lease *lease, int64_t now_ms)
{
    if (lease->state != LEASE_WELCOME || now_ms < lease->ping_ms + (int64_t)lease->heartbeat_ms) {
        return 0;
    }
    return lease_ping_now(lease, now_ms);
}

void lease_pong(struct lease *lease, uint64_t number)
{
    /* Numbers of an earlier connection, never sent ones and those whose time was overwritten renew nothing. */
    if (lease->state != LEASE_WELCOME || number <= lease->answered || number > lease->ping_number ||
        lease->ping_number - number >= LEASE_PING_COUNT_MAX) {
        return;
    }
    lease->answered = number;
    renew(lease, lease->sent_ms[number % LEASE_PING_COUNT_MAX]);
}

bool lease_is_over(const struct lease *lease, int64_t now_ms)
{
    return now_ms >= lease->end_ms;
}

bool lease_is_silent(const struct lease *lease, int64_t now_ms)
{
    return lease->state != LEASE_DOWN && now_ms >= lease->heard_ms + (int64_t)lease->dead_ms;
}

int64_t lease_wake_ms(const struct lease *lease)
{
    if (lease->state == LEASE_DOWN) {
        return INT64_MAX;
    }
    int64_t wake_ms = lease->heard_ms + (int64_t)lease->dead_ms;
    if (lease->state == LEASE_WELCOME && lease->ping_ms + (int64_t)lease->heartbeat_ms < wake_ms) {
        wake_ms = lease->ping_ms + (int64_t)lease->heartbeat_ms;
    }
    return wake_ms;
}

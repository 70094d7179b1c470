/*
 * real_worker: the supervisor's own decisions (worker/dialogue, ledger, lease, assign, turn, waits, places, pace, slot,
 * statuspage, postmortem, admission) in the simulated world, in the place of the model. Processes, sockets and the
 * kernel are played: process.c is what runs in slots.
 *
 * Knows world.h and worker/supervisor_private.h. Called by worker.c. Start at sim_worker_new_real in world.h.
 */
#ifndef QUERN_TESTS_REAL_WORKER_H
#define QUERN_TESTS_REAL_WORKER_H

#include "world.h"

#include "worker/supervisor_private.h"

struct real_worker {
    struct supervisor supervisor;
    struct options options;
    const char *functions[1];
    bool is_over;        /* its loop has ended, */
    bool is_polite;      /* after the broker had heard of it */
    int64_t wake_ms;     /* of its last turn */
    int32_t pid_last;    /* of its processes */
    int64_t lease_until; /* counted by the world: sending of the last HELLO or PING that was answered, and lease_ms */
    int64_t lease_ms;
    int64_t hello_sent;
    struct ping {
        uint64_t number;
        int64_t sent;
    } pings[64];
};

void sim_worker_drain_real(struct worker *worker);
bool sim_worker_is_over(const struct worker *worker);
void sim_worker_free_real(struct worker *worker);

/* ---- process.c ---- */
/* A slot's process is forked: the slot is LIVE. */
void process_make(struct worker *worker, struct slot *slot);
/* One step of each process: it starts, ends, crashes, dies. */
void processes_step(struct worker *worker);
/* The supervisor is dead: so are they. */
void processes_die(struct worker *worker);
/* What a supervisor sees of it. */
bool process_is_dead(const struct slot *slot, int32_t *status_out);
bool process_rings(struct slot *slot); /* it has said "look", once */
int64_t process_wake(const struct slot *slot, int64_t now);
/* What really runs in it, if anything: a token to compare. */
bool process_runs(const struct slot *slot, struct token *token_out);

#endif

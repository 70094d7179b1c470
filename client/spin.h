/*
 * spin.h: a thread that waits for a short task looks for its outcome for a moment before it sleeps.
 *
 * A lone short task costs wake-ups, not work: where CPUs halt between its hops, waking each of them takes longer than
 * all that is done for it. While one thread looks, its CPU does not halt, the hops of the task share the other, and its
 * outcome needs no wake-up. It must cost others nothing: one thread of a client at a time, for tasks that have been
 * short of late, and only while nobody else wants the CPU.
 */
#ifndef QUERN_CLIENT_SPIN_H
#define QUERN_CLIENT_SPIN_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* Looked for so long, then slept. */
#define SPIN_US_MAX 500
/* A thread that let others run for longer than this has met somebody who computes. */
#define SPIN_YIELD_US_MAX 100
/* With more tasks under way than this their outcomes come in batches, and every CPU is needed. */
#define SPIN_TASK_COUNT_MAX 4u
/* When looking was in vain, it is not tried for a while, and longer each time. */
#define SPIN_REST_MS_MIN 10
#define SPIN_REST_MS_MAX 1000

/* Under the lock of its client, but for is_told. */
struct spin {
    const pthread_cond_t *condition; /* what its thread would sleep for; NULL: nobody looks */
    atomic_bool is_told;
    bool has_cpus;       /* more than one that we may use */
    unsigned vain_count; /* in a row */
    int64_t again_us;    /* not before */
};

void spin_init(struct spin *spin);
bool spin_may(const struct spin *spin, uint64_t task_count, int64_t now_us);
void spin_begin(struct spin *spin, const pthread_cond_t *condition);
/* Without the lock. True: told. */
bool spin_look(const struct spin *spin);
/* Of the thread that spins: it was told, or gave up. */
void spin_end(struct spin *spin, int64_t now_us);
/* Those who sleep for condition are being woken. */
void spin_tell(struct spin *spin, const pthread_cond_t *condition);

#endif

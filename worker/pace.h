/*
 * pace.h: how long functions take, and from that how many attempts a worker asks for and how many it hands to a slot in
 * advance. Enough to hide the way there and back for tasks of microseconds, next to none behind tasks of seconds. Pure.
 */
#ifndef QUERN_WORKER_PACE_H
#define QUERN_WORKER_PACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Work kept at hand per slot by the worker, and within that in the slot itself. */
#define PACE_WORKER_US 20000u
#define PACE_SLOT_US 2000u
#define PACE_PREFETCH_COUNT_MAX 4096u
/* Taken for a function that has not run yet: long, so that nothing is put behind it. */
#define PACE_UNKNOWN_US PACE_WORKER_US
/* A task that runs for longer than this is told as started, and counts as slow while it runs. */
#define PACE_SLOW_US 20000u

struct pace {
    /* Each mean is kept times its weight. */
    uint64_t *function_us; /* per function; 0 not known */
    size_t function_count;
    uint64_t worker_us; /* mean of what ran here of late; 0 not known */
};

void pace_init(struct pace *pace, size_t function_count);
void pace_fini(struct pace *pace);
void pace_ran(struct pace *pace, uint32_t function, uint64_t run_us);
/* A task of this function runs for elapsed_us and is not over: what is known of it was too hopeful. Said once a run. */
void pace_runs(struct pace *pace, uint32_t function, uint64_t elapsed_us);
/* Every slot runs something for so long already: the same for the worker as a whole. */
void pace_is_stuck(struct pace *pace, uint64_t elapsed_us);
uint64_t pace_function_us(const struct pace *pace, uint32_t function);
/* Attempts to hold unfinished, with so many slots. */
uint64_t pace_capacity(const struct pace *pace, unsigned slot_count);
/* Is a change of capacity worth a message? */
bool pace_is_news(uint64_t told, uint64_t now);

#endif

/*
 * retry.c: who is blamed for a failed attempt, and whether the task is tried again. Pure: numbers in, a decision out.
 * The table:
 *   handler failed, timeout, own memory limit   its retry policy   counts towards attempts (default 1)
 *   slot died otherwise, also by the kernel's   yes                crashes (default 3, then quarantined)
 *   memory killer (cause memory, with a signal)
 *   worker or host lost                         yes                losses (default 10, then lost)
 *   broker restart, drained, returned unstarted yes                nothing (never comes here)
 * Each counter has its own limit. An at_most_once task that may have started is never tried again, whatever the table
 * says: its caller was promised that it runs once.
 */
#include "broker/state.h"

enum blame retry_blame(enum cause cause, uint64_t signal)
{
    switch (cause) {
    case CAUSE_CRASHED:
        return BLAME_CRASH;
    case CAUSE_LOST:
        return BLAME_LOSS;
    case CAUSE_MEMORY:
        return signal != 0 ? BLAME_CRASH : BLAME_ATTEMPT;
    default:
        return BLAME_ATTEMPT;
    }
}

/* Doubling from backoff_ms up to the cap, and then between half of it and all of it, so that a crowd spreads. */
static uint64_t backoff_delay(const struct task_options *option, uint32_t failures, uint64_t random)
{
    uint64_t cap = option->backoff_cap_ms ? option->backoff_cap_ms : (uint64_t)3600 * 1000;
    uint64_t delay = option->backoff_ms;
    for (uint32_t i = 1; i < failures && delay < cap; i++) {
        delay *= 2;
    }
    if (delay > cap) {
        delay = cap;
    }
    return delay - (delay > 1 ? random % (delay / 2 + 1) : 0);
}

/* A step has one random number, and hundreds of tasks may fail in it: with the same delay they would all come back in
 * the same moment. splitmix64's finisher. */
uint64_t retry_chance(uint64_t random, uint64_t task)
{
    uint64_t mixed = random + task * 0x9e3779b97f4a7c15u;
    mixed = (mixed ^ mixed >> 30) * 0xbf58476d1ce4e5b9u;
    mixed = (mixed ^ mixed >> 27) * 0x94d049bb133111ebu;
    return mixed ^ mixed >> 31;
}

struct decision retry_decide(const struct task_options *option, uint32_t attempts, uint32_t crashes, uint32_t losses,
                             enum blame blame, enum cause cause, uint64_t random)
{
    struct decision decision = {.blame = blame, .cause = cause};
    switch (blame) {
    case BLAME_CRASH:
        decision.again = crashes < option->crashes_max;
        decision.cause = CAUSE_QUARANTINED;
        break;
    case BLAME_LOSS:
        decision.again = losses < option->losses_max;
        break;
    case BLAME_ATTEMPT:
        decision.again = attempts < option->attempts && (option->retry_on & 1u << cause) != 0;
        decision.delay_ms = decision.again ? backoff_delay(option, attempts, random) : 0;
        break;
    }
    if (option->at_most_once) {
        decision.again = false;
        decision.cause = cause;
    }
    return decision;
}

/* ---- memory ---- */

uint64_t retry_memory(const struct task_options *option, uint32_t attempts)
{
    uint64_t size = option->memory_bytes;
    uint64_t growth = option->memory_growth > 100 ? option->memory_growth : 100;
    uint64_t max = size <= INT64_MAX / MEMORY_GROWTH_CAP ? size * MEMORY_GROWTH_CAP : INT64_MAX;
    uint64_t cap = option->memory_cap_bytes > 0 ? option->memory_cap_bytes : max;
    for (uint32_t i = 0; i < attempts && growth > 100 && size > 0 && size < cap; i++) {
        /* In percent, and at least one more; a limit this large is none. */
        uint64_t more = size <= INT64_MAX / MEMORY_GROWTH_MAX ? size * (growth - 100) / 100 : INT64_MAX - size;
        size = more >= cap - size ? cap : size + (more > 0 ? more : 1);
    }
    return size;
}

bool retry_is_alone(const struct task_options *option, uint32_t attempts)
{
    return option->alone == ALONE_ALWAYS || (option->alone == ALONE_RETRIED && attempts > 0);
}

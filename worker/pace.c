/*
 * pace.c owns the measured run times and the depths of queues that follow from them.
 * It must not know attempts, slots or clocks.
 * Start reading at pace_capacity.
 */
#include "worker/pace.h"

#include "common/check.h"
#include "common/limits.h"

#include <stdlib.h>

/* A mean is kept times its weight, so that fractions of microseconds count, and moves by one part in it per run. The
 * worker's is heavy: one long task among hundreds of short ones must not make it give back what is done in a moment. */
#define FUNCTION_WEIGHT 8u
#define WORKER_WEIGHT 64u

void pace_init(struct pace *pace, size_t function_count)
{
    *pace = (struct pace){.function_count = function_count};
    pace->function_us = xcalloc(function_count + 1, sizeof(pace->function_us[0]));
}

void pace_fini(struct pace *pace)
{
    free(pace->function_us);
    *pace = (struct pace){0};
}

static void mean_move(uint64_t *mean, uint64_t weight, uint64_t run_us)
{
    /* One at least: a run below the clock's grain still is a run. */
    uint64_t us = run_us > 0 ? run_us : 1;
    *mean = *mean == 0 ? us * weight : *mean - *mean / weight + us;
}

static void mean_raise(uint64_t *mean, uint64_t weight, uint64_t run_us)
{
    if (*mean != 0 && *mean < run_us * weight) {
        *mean = run_us * weight;
    }
}

void pace_ran(struct pace *pace, uint32_t function, uint64_t run_us)
{
    mean_move(&pace->worker_us, WORKER_WEIGHT, run_us);
    if (function < pace->function_count) {
        mean_move(&pace->function_us[function], FUNCTION_WEIGHT, run_us);
    }
}

void pace_runs(struct pace *pace, uint32_t function, uint64_t elapsed_us)
{
    if (function < pace->function_count) {
        mean_raise(&pace->function_us[function], FUNCTION_WEIGHT, elapsed_us);
    }
}

void pace_is_stuck(struct pace *pace, uint64_t elapsed_us)
{
    mean_raise(&pace->worker_us, WORKER_WEIGHT, elapsed_us);
}

uint64_t pace_function_us(const struct pace *pace, uint32_t function)
{
    if (function >= pace->function_count || pace->function_us[function] == 0) {
        return PACE_UNKNOWN_US;
    }
    uint64_t us = pace->function_us[function] / FUNCTION_WEIGHT;
    return us > 0 ? us : 1;
}

uint64_t pace_capacity(const struct pace *pace, unsigned slot_count)
{
    if (pace->worker_us == 0) {
        return slot_count;
    }
    uint64_t prefetch = (uint64_t)slot_count * PACE_WORKER_US * WORKER_WEIGHT / pace->worker_us;
    return slot_count + (prefetch < PACE_PREFETCH_COUNT_MAX ? prefetch : PACE_PREFETCH_COUNT_MAX);
}

bool pace_is_news(uint64_t told, uint64_t now)
{
    return told != now && (told == 0 || now == 0 || now >= told + told / 2 || now <= told / 2);
}

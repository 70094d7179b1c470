/*
 * chaos: a world moved by chance. Knows world.h. What kinds of faults there are, and how often, is drawn from the seed.
 */
#ifndef QUERN_TESTS_CHAOS_H
#define QUERN_TESTS_CHAOS_H

#include "world.h"

struct chaos;

#define CHAOS_STEP_COUNT_MAX 10000u

/* A world that is cut down (quern-sim, shrink.c). */
struct chaos_plan {
    uint64_t seed;
    uint64_t step_count;
    uint64_t client_max; /* 0: as many as the seed says */
    uint64_t worker_max;
    uint64_t without; /* bit of an action: it does nothing */
    bool skips[CHAOS_STEP_COUNT_MAX];
};
unsigned chaos_action_count(void);
const char *chaos_action_name(unsigned index);
/* False: not understood. */
bool chaos_plan_without(struct chaos_plan *plan, const char *names);
bool chaos_plan_only(struct chaos_plan *plan, const char *ranges);

struct chaos *chaos_new(struct world *world);
struct chaos *chaos_new_planned(struct world *world, const struct chaos_plan *plan); /* borrowed */
/* Nobody leaves and nothing is at_most_once, so that what happens does not depend on when batches commit. */
struct chaos *chaos_new_tame(struct world *world);
void chaos_free(struct chaos **chaos);
/* Nobody but the broker is hurt: no task may be blamed, none lost. */
bool chaos_is_gentle(const struct chaos *chaos);
void chaos_step(struct chaos *chaos);
/* Faults stop, everything is mended; runs until every task is done and every outcome taken, or stops the process. */
void chaos_drain(struct chaos *chaos);

#endif

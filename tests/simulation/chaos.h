/*
 * chaos: a world moved by chance. Knows world.h. What kinds of faults there are, and how often, is drawn from the seed.
 */
#ifndef QUERN_TESTS_CHAOS_H
#define QUERN_TESTS_CHAOS_H

#include "world.h"

struct chaos;

struct chaos *chaos_new(struct world *world);
/* Nobody leaves and nothing is at_most_once, so that what happens does not depend on when batches commit. */
struct chaos *chaos_new_tame(struct world *world);
void chaos_free(struct chaos **chaos);
/* Nobody but the broker is hurt: no task may be blamed, none lost. */
bool chaos_is_gentle(const struct chaos *chaos);
void chaos_step(struct chaos *chaos);
/* Faults stop, everything is mended; runs until every task is done and every outcome taken, or stops the process. */
void chaos_drain(struct chaos *chaos);

#endif

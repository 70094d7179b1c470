/*
 * test_random: random worlds by seed. Without arguments a few hundred short ones (for ctest).
 *   --seed N       just this one       --steps M   this many steps
 *   --trace        say everything      --count C   this many seeds, from --seed or 1
 *   --all          thousands of seeds (or QUERN_SIMULATION_LONG=1)
 * On failure: the seed and the last events, exit status not 0.
 */
#include "chaos.h"
#include "oracle.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SEED_COUNT_SHORT 300u
#define SEED_COUNT_LONG 10000u
#define STEP_COUNT_DEFAULT 2500u

static struct world *current;

struct totals {
    uint64_t submitted, outcomes, taken, lost, starts, crashes, lost_batches, unheard_batches, gentle;
};

/* A failed CHECK in the core ends in abort(): say which world it was. */
static void on_abort(int signal_number)
{
    signal(SIGABRT, SIG_DFL);
    if (current != NULL) {
        world_report(current);
    }
    raise(signal_number);
}

static void run_seed(uint64_t seed, uint64_t steps, bool echo, struct totals *totals)
{
    struct world *world = world_new(seed);
    current = world;
    world->echo = echo;
    struct chaos *chaos = chaos_new(world);
    for (uint64_t i = 0; i < steps; i++) {
        chaos_step(chaos);
    }
    chaos_drain(chaos);
    struct oracle_counts counts = oracle_counts(world);
    totals->submitted += counts.submitted;
    totals->outcomes += counts.outcomes;
    totals->taken += counts.taken;
    totals->lost += counts.lost;
    totals->starts += counts.starts;
    totals->crashes += world->crash_count;
    totals->lost_batches += world->lost_batches;
    totals->unheard_batches += world->unheard_batches;
    totals->gentle += chaos_is_gentle(chaos);
    chaos_free(&chaos);
    current = NULL;
    world_free(&world);
}

static int usage(void)
{
    fprintf(stderr, "usage: test_random [--seed N] [--count C] [--steps M] [--trace] [--all]\n");
    return 2;
}

int main(int argc, char **argv)
{
    uint64_t seed = 1;
    uint64_t count = getenv("QUERN_SIMULATION_LONG") != NULL ? SEED_COUNT_LONG : SEED_COUNT_SHORT;
    uint64_t steps = STEP_COUNT_DEFAULT;
    bool echo = false;
    for (int i = 1; i < argc; i++) {
        bool has_value = i + 1 < argc;
        if (strcmp(argv[i], "--seed") == 0 && has_value) {
            seed = strtoull(argv[++i], NULL, 10);
            count = 1;
        } else if (strcmp(argv[i], "--count") == 0 && has_value) {
            count = strtoull(argv[++i], NULL, 10);
        } else if (strcmp(argv[i], "--steps") == 0 && has_value) {
            steps = strtoull(argv[++i], NULL, 10);
        } else if (strcmp(argv[i], "--trace") == 0) {
            echo = true;
        } else if (strcmp(argv[i], "--all") == 0) {
            count = SEED_COUNT_LONG;
        } else {
            return usage();
        }
    }
    signal(SIGABRT, on_abort);
    struct totals totals = {0};
    for (uint64_t i = 0; i < count; i++) {
        run_seed(seed + i, steps, echo, &totals);
    }
    printf("%" PRIu64 " worlds (%" PRIu64 " gentle): %" PRIu64 " submits, %" PRIu64 " outcomes, %" PRIu64
           " taken, %" PRIu64 " lost with their broker, %" PRIu64 " starts, %" PRIu64 " broker crashes, %" PRIu64
           " batches lost, %" PRIu64 " committed unheard\n",
           count, totals.gentle, totals.submitted, totals.outcomes, totals.taken, totals.lost, totals.starts,
           totals.crashes, totals.lost_batches, totals.unheard_batches);
    /* A run of many worlds in which no crash ever hit a batch would prove nothing. */
    return count >= SEED_COUNT_SHORT && (totals.lost_batches == 0 || totals.unheard_batches == 0 || totals.lost == 0)
               ? 1
               : 0;
}

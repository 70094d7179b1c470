/*
 * quern-sim: random worlds by seed, replayed, counted, and made smaller.
 *
 *   quern-sim SEED                       this world, and all that happens in it, line by line: time, who, what
 *   quern-sim --from A --worlds N        N worlds from seed A on (without options: 1500 from 1)
 *   quern-sim --seconds S [--from A]     worlds for so long, from seed A or the time of day on
 *   quern-sim --shrink SEED              a smaller world that fails in the same way, and the command to replay it
 *
 * What a world is made of can be cut (--shrink says how): --steps N, --clients N, --workers N, --without FAULT,FAULT,
 * --only STEPS (as 3,7,9-12). Every step draws from a stream of its own, so that leaving one out changes no other.
 * On failure: the last events, the broken promise, the command to replay it; exit status not 0.
 */
#include "chaos.h"
#include "common/check.h"
#include "oracle.h"
#include "shrink.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define WORLD_COUNT_DEFAULT 1500u
#define STEP_COUNT_DEFAULT 2500u
/* From so many on, a run in which no crash ever hit a batch would prove nothing. */
#define WORLD_COUNT_TELLING 300u

static struct world *current;

struct totals {
    uint64_t worlds, submitted, outcomes, taken, lost, starts, crashes, deaths, lost_batches, unheard_batches, gentle,
        full_batches, full_ends, hostile, refused_full, refused_disk;
};

/* A failed CHECK ends in abort(): say which world it was. */
static void on_abort(int signal_number)
{
    signal(SIGABRT, SIG_DFL);
    if (current != NULL) {
        world_report(current);
    }
    raise(signal_number);
}

static void totals_add(struct totals *totals, const struct world *world, const struct chaos *chaos)
{
    struct oracle_counts counts = oracle_counts(world);
    totals->worlds++;
    totals->submitted += counts.submitted;
    totals->outcomes += counts.outcomes;
    totals->taken += counts.taken;
    totals->lost += counts.lost;
    totals->starts += counts.starts;
    totals->crashes += world->crash_count;
    totals->deaths += world->death_count;
    totals->lost_batches += world->lost_batches;
    totals->unheard_batches += world->unheard_batches;
    totals->gentle += chaos_is_gentle(chaos);
    totals->full_batches += world->full_batches;
    totals->full_ends += world->full_ends;
    totals->hostile += world->hostile_count;
    totals->refused_full += counts.refused_full;
    totals->refused_disk += counts.refused_disk;
}

static void world_run(const struct chaos_plan *plan, bool echo, struct totals *totals)
{
    struct world *world = world_new(plan->seed);
    current = world;
    world->echo = echo;
    struct chaos *chaos = chaos_new_planned(world, plan);
    for (uint64_t i = 0; i < plan->step_count; i++) {
        chaos_step(chaos);
    }
    chaos_drain(chaos);
    totals_add(totals, world, chaos);
    chaos_free(&chaos);
    current = NULL;
    world_free(&world);
}

/* For shrink.c, in a child process. */
static void world_try(const struct chaos_plan *plan)
{
    struct totals totals = {0};
    signal(SIGABRT, SIG_DFL);
    world_run(plan, false, &totals);
}

static void print_totals(const struct totals *totals, uint64_t from)
{
    double minutes = (double)clock() / CLOCKS_PER_SEC / 60.0;
    printf("seeds %" PRIu64 "..%" PRIu64 ": %" PRIu64 " worlds (%" PRIu64 " gentle), none broke a promise\n", from,
           from + totals->worlds - 1, totals->worlds, totals->gentle);
    printf("%" PRIu64 " submits, %" PRIu64 " outcomes, %" PRIu64 " taken, %" PRIu64
           " lost with volatile sessions, %" PRIu64 " starts; %" PRIu64 " crashes of brokers (%" PRIu64
           " batches lost, %" PRIu64 " committed unheard), %" PRIu64 " deaths of others\n",
           totals->submitted, totals->outcomes, totals->taken, totals->lost, totals->starts, totals->crashes,
           totals->lost_batches, totals->unheard_batches, totals->deaths);
    printf("%" PRIu64 " batches found the disk full (%" PRIu64 " brokers ended with one), %" PRIu64
           " submits refused for it; %" PRIu64 " refused for want of room; %" PRIu64 " times somebody was hostile\n",
           totals->full_batches, totals->full_ends, totals->refused_disk, totals->refused_full, totals->hostile);
    printf("a minute of one core: %.0f task lives, %.0f crashes of brokers, %.0f deaths of others\n",
           (double)totals->outcomes / minutes, (double)totals->crashes / minutes, (double)totals->deaths / minutes);
}

static int worlds_run(struct chaos_plan plan, uint64_t count, uint64_t seconds)
{
    struct totals totals = {0};
    time_t until = time(NULL) + (time_t)seconds;
    uint64_t from = plan.seed;
    while (seconds > 0 ? time(NULL) < until : totals.worlds < count) {
        world_run(&plan, false, &totals);
        plan.seed++;
    }
    print_totals(&totals, from);
    bool is_telling = totals.lost_batches > 0 && totals.unheard_batches > 0 && totals.lost > 0 &&
                      totals.full_ends > 0 && totals.refused_disk > 0 && totals.refused_full > 0 && totals.hostile > 0;
    if (totals.worlds >= WORLD_COUNT_TELLING && !is_telling) {
        printf("and something was never hit that was to be hit: this proves nothing\n");
        return 1;
    }
    return 0;
}

static int usage(void)
{
    fprintf(stderr, "usage: quern-sim [SEED | --shrink SEED | --from SEED] [--worlds N | --seconds S]\n"
                    "                 [--steps N] [--clients N] [--workers N] [--without FAULT,...] [--only STEPS]\n");
    return 2;
}

struct wish {
    struct chaos_plan plan;
    uint64_t count;
    uint64_t seconds;
    bool has_seed;
    bool shrinks;
    bool echo;
};

/* False: no such option. */
static bool option_read(struct wish *wish, const char *name, const char *value)
{
    struct chaos_plan *plan = &wish->plan;
    uint64_t number = strtoull(value, NULL, 10);
    if (strcmp(name, "--from") == 0) {
        plan->seed = number;
        wish->has_seed = true;
    } else if (strcmp(name, "--shrink") == 0) {
        plan->seed = number;
        wish->shrinks = true;
    } else if (strcmp(name, "--worlds") == 0) {
        wish->count = number;
    } else if (strcmp(name, "--seconds") == 0) {
        wish->seconds = number;
    } else if (strcmp(name, "--steps") == 0) {
        plan->step_count = number;
    } else if (strcmp(name, "--clients") == 0) {
        plan->client_max = number;
    } else if (strcmp(name, "--workers") == 0) {
        plan->worker_max = number;
    } else if (strcmp(name, "--without") == 0) {
        return chaos_plan_without(plan, value);
    } else if (strcmp(name, "--only") == 0) {
        return chaos_plan_only(plan, value);
    } else {
        return false;
    }
    return true;
}

int main(int argc, char **argv)
{
    struct wish wish = {.plan = {.seed = 1, .step_count = STEP_COUNT_DEFAULT}, .count = WORLD_COUNT_DEFAULT};
    for (int i = 1; i < argc; i++) {
        if (argv[i][0] >= '0' && argv[i][0] <= '9') {
            wish.plan.seed = strtoull(argv[i], NULL, 10);
            wish.echo = true;
        } else if (argv[i][0] != '\0' && (i + 1 == argc || !option_read(&wish, argv[i], argv[i + 1]))) {
            return usage();
        } else if (argv[i][0] != '\0') {
            i++;
        }
    }
    if (wish.shrinks) {
        return shrink(&wish.plan, world_try);
    }
    signal(SIGABRT, on_abort);
    if (wish.echo) {
        struct totals totals = {0};
        world_run(&wish.plan, true, &totals);
        print_totals(&totals, wish.plan.seed);
        return 0;
    }
    if (wish.seconds > 0 && !wish.has_seed) {
        wish.plan.seed = (uint64_t)time(NULL) * 1000;
    }
    printf("seeds from %" PRIu64 " on\n", wish.plan.seed);
    fflush(stdout);
    return worlds_run(wish.plan, wish.count, wish.seconds);
}

/*
 * shrink.c owns the search for a smaller failing world: fewer faults, fewer parties, fewer steps.
 * It must not know what a step does.
 * Start reading at shrink.
 */
#include "shrink.h"

#include "common/check.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define FAILURE_SIZE 512u

struct search {
    void (*run)(const struct chaos_plan *plan);
    char failure[FAILURE_SIZE]; /* what is to stay: the last line it prints, without numbers */
    unsigned tries;
};

/* The last line that says what is broken; numbers differ from world to world. */
static void failure_read(FILE *file, char failure[FAILURE_SIZE])
{
    char line[FAILURE_SIZE];
    failure[0] = '\0';
    while (fgets(line, sizeof line, file) != NULL) {
        if (strncmp(line, "BROKEN: ", 8) != 0 && strncmp(line, "*** what:", 9) != 0 &&
            strstr(line, "ERROR: ") == NULL) {
            continue;
        }
        size_t n = 0;
        for (const char *c = line; *c != '\0' && *c != '\n' && n + 1 < FAILURE_SIZE; c++) {
            bool is_number = (*c >= '0' && *c <= '9') || (n > 0 && failure[n - 1] == '#' && strchr("abcdef", *c));
            if (!is_number || n == 0 || failure[n - 1] != '#') {
                failure[n++] = is_number ? '#' : *c;
            }
        }
        failure[n] = '\0';
        return;
    }
}

/* In a process of its own; "" if nothing failed. */
static void try_it(struct search *search, const struct chaos_plan *plan, char failure[FAILURE_SIZE])
{
    FILE *file = tmpfile();
    CHECK(file != NULL);
    fflush(stdout);
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        dup2(fileno(file), STDERR_FILENO);
        dup2(fileno(file), STDOUT_FILENO);
        search->run(plan);
        _exit(0);
    }
    int status = 0;
    CHECK(waitpid(pid, &status, 0) == pid);
    rewind(file);
    failure_read(file, failure);
    if (status == 0) {
        failure[0] = '\0';
    }
    fclose(file);
    search->tries++;
}

static bool still_fails(struct search *search, const struct chaos_plan *plan)
{
    char failure[FAILURE_SIZE];
    try_it(search, plan, failure);
    return failure[0] != '\0' && strcmp(failure, search->failure) == 0;
}

/* Takes the change if it fails all the same. */
static bool take_if(struct search *search, struct chaos_plan *plan, const struct chaos_plan *changed)
{
    if (!still_fails(search, changed)) {
        return false;
    }
    *plan = *changed;
    return true;
}

static void fewer_steps(struct search *search, struct chaos_plan *plan)
{
    uint64_t low = 0;
    while (low < plan->step_count) {
        struct chaos_plan changed = *plan;
        changed.step_count = low + (plan->step_count - low) / 2;
        if (!take_if(search, plan, &changed)) {
            low = changed.step_count + 1;
        }
    }
}

static void fewer_faults(struct search *search, struct chaos_plan *plan)
{
    for (unsigned i = 0; i < chaos_action_count(); i++) {
        struct chaos_plan changed = *plan;
        changed.without |= (uint64_t)1 << i;
        if (changed.without != plan->without) {
            (void)take_if(search, plan, &changed);
        }
    }
}

static void fewer_parties(struct search *search, struct chaos_plan *plan)
{
    for (uint64_t count = 1; count <= 3; count++) {
        struct chaos_plan changed = *plan;
        changed.client_max = count;
        if ((plan->client_max == 0 || count < plan->client_max) && take_if(search, plan, &changed)) {
            break;
        }
    }
    for (uint64_t count = 1; count <= 3; count++) {
        struct chaos_plan changed = *plan;
        changed.worker_max = count;
        if ((plan->worker_max == 0 || count < plan->worker_max) && take_if(search, plan, &changed)) {
            break;
        }
    }
}

/* Leaves out pieces of the steps that are left, large ones first. */
static void thinner(struct search *search, struct chaos_plan *plan)
{
    for (uint64_t piece = plan->step_count / 2; piece > 0; piece /= 2) {
        for (uint64_t from = 0; from < plan->step_count; from += piece) {
            struct chaos_plan changed = *plan;
            bool is_other = false;
            for (uint64_t i = from; i < from + piece && i < plan->step_count && i < CHAOS_STEP_COUNT_MAX; i++) {
                is_other = is_other || !changed.skips[i];
                changed.skips[i] = true;
            }
            if (is_other) {
                (void)take_if(search, plan, &changed);
            }
        }
    }
}

static void print_command(const struct chaos_plan *plan)
{
    printf("quern-sim %" PRIu64 " --steps %" PRIu64, plan->seed, plan->step_count);
    if (plan->client_max > 0) {
        printf(" --clients %" PRIu64, plan->client_max);
    }
    if (plan->worker_max > 0) {
        printf(" --workers %" PRIu64, plan->worker_max);
    }
    const char *between = " --without ";
    for (unsigned i = 0; i < chaos_action_count(); i++) {
        if (plan->without >> i & 1) {
            printf("%s%s", between, chaos_action_name(i));
            between = ",";
        }
    }
    between = " --only ";
    for (uint64_t i = 0; i < plan->step_count && i < CHAOS_STEP_COUNT_MAX; i++) {
        uint64_t first = i;
        while (i < plan->step_count && i < CHAOS_STEP_COUNT_MAX && !plan->skips[i]) {
            i++;
        }
        if (i > first) {
            printf(i > first + 1 ? "%s%" PRIu64 "-%" PRIu64 : "%s%" PRIu64, between, first, i - 1);
            between = ",";
        }
    }
    printf("\n");
}

static unsigned steps_left(const struct chaos_plan *plan)
{
    unsigned count = 0;
    for (uint64_t i = 0; i < plan->step_count && i < CHAOS_STEP_COUNT_MAX; i++) {
        count += !plan->skips[i];
    }
    return count;
}

int shrink(const struct chaos_plan *wanted, void (*run)(const struct chaos_plan *plan))
{
    struct search search = {.run = run};
    struct chaos_plan plan = *wanted;
    try_it(&search, &plan, search.failure);
    if (search.failure[0] == '\0') {
        printf("seed %" PRIu64 " breaks nothing\n", plan.seed);
        return 1;
    }
    printf("fails with %s\n", search.failure);
    fewer_steps(&search, &plan);
    fewer_faults(&search, &plan);
    fewer_parties(&search, &plan);
    fewer_steps(&search, &plan);
    thinner(&search, &plan);
    thinner(&search, &plan);
    printf("after %u tries: %u steps are left of %" PRIu64 "; to replay:\n", search.tries, steps_left(&plan),
           wanted->step_count);
    print_command(&plan);
    return 0;
}

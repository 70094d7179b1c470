/*
 * The search for a smaller failing world, on worlds that fail by a rule of this test's own.
 * Must not know what a step does. Start at world_pretend.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "shrink.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define PRINTED_SIZE_MAX 16384

static char output[PRINTED_SIZE_MAX];

static bool has_step(const struct chaos_plan *plan, uint64_t step)
{
    return step < plan->step_count && !plan->skips[step];
}

/* Steps 7 and 11, action 2 and two clients are what it takes; a single worker fails in another way. */
static bool is_broken(const struct chaos_plan *plan)
{
    return has_step(plan, 7) && has_step(plan, 11) && !(plan->without >> 2 & 1) && plan->client_max != 1;
}

static void world_pretend(const struct chaos_plan *plan)
{
    if (plan->worker_max == 1) {
        printf("BROKEN: the only worker has left\n");
    } else if (is_broken(plan)) {
        printf("BROKEN: task %d-%d ran twice\n", (int)plan->step_count, (int)plan->client_max);
    } else {
        return;
    }
    fflush(stdout);
    _exit(1);
}

/* What it prints, in output. */
static int shrink_captured(const struct chaos_plan *plan)
{
    int fd = memfd_create("stdout", MFD_CLOEXEC);
    assert_true(fd >= 0);
    fflush(stdout);
    int saved = dup(STDOUT_FILENO);
    assert_int_equal(dup2(fd, STDOUT_FILENO), STDOUT_FILENO);
    int status = shrink(plan, world_pretend);
    fflush(stdout);
    assert_int_equal(dup2(saved, STDOUT_FILENO), STDOUT_FILENO);
    close(saved);
    ssize_t size = pread(fd, output, sizeof output - 1, 0);
    assert_true(size >= 0);
    output[size] = '\0';
    close(fd);
    return status;
}

/* The value of an option in the command that was printed; up to the next blank. */
static const char *option(const char *name)
{
    static char value[PRINTED_SIZE_MAX];
    const char *at = strstr(output, name);
    assert_non_null(at);
    assert_int_equal(sscanf(at + strlen(name), " %s", value), 1);
    return value;
}

static void test_only_what_it_takes_is_left(void **state)
{
    (void)state;
    struct chaos_plan plan = {.seed = 5, .step_count = 300};
    assert_int_equal(shrink_captured(&plan), 0);
    assert_non_null(strstr(output, "fails with BROKEN: task #-# ran twice\n"));
    assert_non_null(strstr(output, " 2 steps are left of 300"));
    assert_string_equal(option("quern-sim"), "5");
    assert_string_equal(option("--steps"), "12");
    assert_string_equal(option("--clients"), "2");
    assert_string_equal(option("--workers"), "2"); /* one breaks something, but not the same */
    assert_string_equal(option("--only"), "7,11");
}

static void test_the_command_it_prints_is_the_smaller_world(void **state)
{
    (void)state;
    struct chaos_plan plan = {.seed = 5, .step_count = 300};
    struct chaos_plan printed = {.seed = 5, .step_count = 12, .client_max = 2, .worker_max = 2};
    assert_int_equal(shrink_captured(&plan), 0);
    assert_true(chaos_plan_without(&printed, option("--without")));
    assert_true(chaos_plan_only(&printed, option("--only")));
    assert_true(is_broken(&printed));
    for (unsigned i = 0; i < chaos_action_count(); i++) {
        assert_int_equal(printed.without >> i & 1, i != 2);
    }
    for (uint64_t i = 0; i < printed.step_count; i++) {
        assert_int_equal(printed.skips[i], i != 7 && i != 11);
    }
}

static void test_a_world_that_breaks_nothing_is_not_made_smaller(void **state)
{
    (void)state;
    struct chaos_plan plan = {.seed = 5, .step_count = 11};
    assert_int_equal(shrink_captured(&plan), 1);
    assert_string_equal(output, "seed 5 breaks nothing\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_only_what_it_takes_is_left),
        cmocka_unit_test(test_the_command_it_prints_is_the_smaller_world),
        cmocka_unit_test(test_a_world_that_breaks_nothing_is_not_made_smaller),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/*
 * Who is blamed and what follows: every row of the table at the head of retry.c.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "broker/state.h"

static struct decision decide(const struct task_options *option, uint32_t attempts, uint32_t crashes, uint32_t losses,
                              enum cause cause, uint64_t random)
{
    return retry_decide(option, attempts, crashes, losses, retry_blame(cause, 0), cause, random);
}

static struct task_options policy(uint64_t attempts)
{
    struct task_options option = task_options_default();
    option.attempts = attempts;
    return option;
}

/* A handler that failed is not asked again unless its caller said so. */
static void test_failed_handler_is_final_by_default(void **state)
{
    (void)state;
    struct task_options option = task_options_default();
    struct decision decision = decide(&option, 1, 0, 0, CAUSE_ERROR, 0);
    assert_false(decision.again);
    assert_int_equal(decision.cause, CAUSE_ERROR);
    assert_int_equal(retry_blame(CAUSE_ERROR, 0), BLAME_ATTEMPT);
}

static void test_policy_tries_as_often_as_it_says(void **state)
{
    (void)state;
    struct task_options option = policy(3);
    assert_true(decide(&option, 1, 0, 0, CAUSE_ERROR, 0).again);
    assert_true(decide(&option, 2, 0, 0, CAUSE_TIMEOUT, 0).again);
    assert_false(decide(&option, 3, 0, 0, CAUSE_ERROR, 0).again);
}

static void test_policy_tries_only_the_causes_it_names(void **state)
{
    (void)state;
    struct task_options option = policy(3);
    option.retry_on = 1u << CAUSE_TIMEOUT;
    assert_false(decide(&option, 1, 0, 0, CAUSE_ERROR, 0).again);
    assert_true(decide(&option, 1, 0, 0, CAUSE_TIMEOUT, 0).again);
}

/* A slot that died is not the caller's fault, up to a point: a task that kills its slots must not kill them for ever.
 */
static void test_third_crash_quarantines_whatever_attempts_say(void **state)
{
    (void)state;
    struct task_options option = policy(1);
    assert_true(decide(&option, 0, 1, 0, CAUSE_CRASHED, 0).again);
    assert_true(decide(&option, 0, 2, 0, CAUSE_CRASHED, 0).again);
    struct decision third = decide(&option, 0, 3, 0, CAUSE_CRASHED, 0);
    assert_false(third.again);
    assert_int_equal(third.cause, CAUSE_QUARANTINED);
}

static void test_losses_have_a_limit_of_their_own(void **state)
{
    (void)state;
    struct task_options option = policy(1);
    assert_true(decide(&option, 1, 2, 9, CAUSE_LOST, 0).again);
    struct decision tenth = decide(&option, 0, 0, 10, CAUSE_LOST, 0);
    assert_false(tenth.again);
    assert_int_equal(tenth.cause, CAUSE_LOST);
}

/* Its caller was promised that it runs at most once; crash, loss and failure all end it, each under its own name. */
static void test_at_most_once_is_never_tried_again(void **state)
{
    (void)state;
    static const enum cause causes[] = {CAUSE_ERROR, CAUSE_CRASHED, CAUSE_LOST, CAUSE_TIMEOUT};
    struct task_options option = task_options_default();
    option.at_most_once = true;
    for (size_t i = 0; i < sizeof causes / sizeof *causes; i++) {
        struct decision decision = decide(&option, 1, 1, 1, causes[i], 7);
        assert_false(decision.again);
        assert_int_equal(decision.cause, causes[i]);
    }
}

/* Doubling up to the cap, spread over the upper half, never beyond. */
static void test_backoff_doubles_to_its_cap_with_jitter(void **state)
{
    (void)state;
    struct task_options option = policy(100);
    option.backoff_ms = 1000;
    option.backoff_cap_ms = 5000;
    static const uint64_t full[] = {0, 1000, 2000, 4000, 5000, 5000};
    for (uint32_t failures = 1; failures <= 5; failures++) {
        uint64_t least = UINT64_MAX;
        uint64_t most = 0;
        for (uint64_t random = 0; random < 10000; random += 7) {
            uint64_t delay = decide(&option, failures, 0, 0, CAUSE_ERROR, random).delay_ms;
            least = delay < least ? delay : least;
            most = delay > most ? delay : most;
        }
        assert_int_equal(most, full[failures]);
        assert_true(least >= full[failures] / 2 && least < most);
    }
}

/* Three counters, each with a limit of its own: whoever is blamed, the others' numbers do not matter. */
static void test_each_cause_counts_towards_one_counter(void **state)
{
    (void)state;
    static const struct {
        enum cause cause;
        enum blame blame;
    } table[] = {{CAUSE_ERROR, BLAME_ATTEMPT}, {CAUSE_TIMEOUT, BLAME_ATTEMPT}, {CAUSE_MEMORY, BLAME_ATTEMPT},
                 {CAUSE_CRASHED, BLAME_CRASH}, {CAUSE_LOST, BLAME_LOSS},       {CAUSE_UNENCODABLE, BLAME_ATTEMPT}};
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        struct task_options option = policy(3);
        option.retry_on = UINT16_MAX;
        uint32_t limit = table[i].blame == BLAME_ATTEMPT ? 3
                         : table[i].blame == BLAME_CRASH ? (uint32_t)option.crashes_max
                                                         : (uint32_t)option.losses_max;
        for (uint32_t count = 1; count <= limit; count++) {
            uint32_t counts[3] = {1000, 1000, 1000};
            counts[table[i].blame] = count;
            struct decision decision = decide(&option, counts[0], counts[1], counts[2], table[i].cause, 0);
            assert_int_equal(decision.blame, table[i].blame);
            assert_int_equal(decision.again, count < limit);
        }
    }
}

/* Hundreds of tasks fail in one step, which has one random number: they must not all come back in the same moment. */
static void test_tasks_that_fail_in_one_step_come_back_at_different_times(void **state)
{
    (void)state;
    struct task_options option = policy(2);
    bool was_seen[51] = {false};
    size_t different = 0;
    option.backoff_ms = 100;
    for (uint64_t task = 1; task <= 200; task++) {
        uint64_t delay = decide(&option, 1, 0, 0, CAUSE_ERROR, retry_chance(4711, (uint64_t)7 << 32 | task)).delay_ms;
        assert_in_range(delay, 50, 100);
        different += was_seen[delay - 50] ? 0 : 1;
        was_seen[delay - 50] = true;
    }
    assert_true(different > 35);
}

/* Its own limit is its own fault; what the kernel kills for want of memory may have been anybody's. */
static void test_memory_is_blamed_by_who_killed(void **state)
{
    (void)state;
    struct task_options option = policy(2);
    assert_int_equal(retry_blame(CAUSE_MEMORY, 0), BLAME_ATTEMPT);
    assert_int_equal(retry_blame(CAUSE_MEMORY, 9), BLAME_CRASH);
    assert_true(decide(&option, 1, 0, 0, CAUSE_MEMORY, 0).again);
    struct decision second = decide(&option, 2, 0, 0, CAUSE_MEMORY, 0);
    assert_false(second.again);
    assert_int_equal(second.cause, CAUSE_MEMORY); /* never quarantined */
    option = policy(1);
    assert_true(retry_decide(&option, 0, 2, 0, BLAME_CRASH, CAUSE_MEMORY, 0).again);
    struct decision third = retry_decide(&option, 0, 3, 0, BLAME_CRASH, CAUSE_MEMORY, 0);
    assert_false(third.again);
    assert_int_equal(third.cause, CAUSE_QUARANTINED);
}

static void test_limit_of_memory_grows_to_its_cap(void **state)
{
    (void)state;
    struct task_options option = policy(100);
    assert_true(retry_memory(&option, 3) == 0); /* none named: the worker's own, which does not grow */
    option.memory_bytes = 100 * MIB;
    assert_true(retry_memory(&option, 3) == 100 * MIB);
    option.memory_growth = 150;
    assert_true(retry_memory(&option, 0) == 100 * MIB);
    assert_true(retry_memory(&option, 1) == 150 * MIB);
    assert_true(retry_memory(&option, 2) == 225 * MIB);
    assert_true(retry_memory(&option, 99) == 1600 * MIB);
    option.memory_cap_bytes = 160 * MIB;
    assert_true(retry_memory(&option, 2) == 160 * MIB);
}

/* Nothing that a SUBMIT may say makes it overflow, shrink or stand still. */
static void test_limit_of_memory_grows_within_bounds_whatever_is_asked(void **state)
{
    (void)state;
    static const uint64_t sizes[] = {1, 2, 99, 1 << 20, INT64_MAX / 17, INT64_MAX - 1, INT64_MAX};
    static const uint64_t growths[] = {0, 1, 100, 101, MEMORY_GROWTH_MAX};
    static const uint64_t caps[] = {0, 1, 1 << 30, INT64_MAX};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes * 20; i++) {
        struct task_options option = policy(1000);
        option.memory_bytes = sizes[i / 20];
        option.memory_growth = growths[i % 5];
        option.memory_cap_bytes = caps[i / 5 % 4];
        uint64_t last = option.memory_bytes;
        for (uint32_t attempts = 0; attempts < ATTEMPTS_MAX; attempts++) {
            uint64_t now = retry_memory(&option, attempts);
            assert_true(now >= last && now <= INT64_MAX);
            last = now;
        }
        uint64_t cap = option.memory_cap_bytes;
        assert_true(cap < option.memory_bytes || last <= cap);
        assert_true(option.memory_growth < MEMORY_GROWTH_MAX || cap == 0 || last >= cap);
    }
}

static void test_alone_from_the_first_attempt_or_the_second(void **state)
{
    (void)state;
    struct task_options option = policy(3);
    assert_false(retry_is_alone(&option, 1));
    option.alone = ALONE_RETRIED;
    assert_false(retry_is_alone(&option, 0));
    assert_true(retry_is_alone(&option, 1));
    option.alone = ALONE_ALWAYS;
    assert_true(retry_is_alone(&option, 0));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_failed_handler_is_final_by_default),
        cmocka_unit_test(test_policy_tries_as_often_as_it_says),
        cmocka_unit_test(test_policy_tries_only_the_causes_it_names),
        cmocka_unit_test(test_third_crash_quarantines_whatever_attempts_say),
        cmocka_unit_test(test_losses_have_a_limit_of_their_own),
        cmocka_unit_test(test_at_most_once_is_never_tried_again),
        cmocka_unit_test(test_backoff_doubles_to_its_cap_with_jitter),
        cmocka_unit_test(test_each_cause_counts_towards_one_counter),
        cmocka_unit_test(test_tasks_that_fail_in_one_step_come_back_at_different_times),
        cmocka_unit_test(test_memory_is_blamed_by_who_killed),
        cmocka_unit_test(test_limit_of_memory_grows_to_its_cap),
        cmocka_unit_test(test_limit_of_memory_grows_within_bounds_whatever_is_asked),
        cmocka_unit_test(test_alone_from_the_first_attempt_or_the_second),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

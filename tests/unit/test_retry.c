/*
 * Who is blamed and what follows: every row of the table at the head of retry.c.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "broker/state.h"

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
    struct decision decision = retry_decide(&option, 1, 0, 0, CAUSE_ERROR, 0);
    assert_false(decision.again);
    assert_int_equal(decision.cause, CAUSE_ERROR);
    assert_int_equal(decision.blame, BLAME_ATTEMPT);
}

static void test_policy_tries_as_often_as_it_says(void **state)
{
    (void)state;
    struct task_options option = policy(3);
    assert_true(retry_decide(&option, 1, 0, 0, CAUSE_ERROR, 0).again);
    assert_true(retry_decide(&option, 2, 0, 0, CAUSE_TIMEOUT, 0).again);
    assert_false(retry_decide(&option, 3, 0, 0, CAUSE_ERROR, 0).again);
}

static void test_policy_tries_only_the_causes_it_names(void **state)
{
    (void)state;
    struct task_options option = policy(3);
    option.retry_on = 1u << CAUSE_TIMEOUT;
    assert_false(retry_decide(&option, 1, 0, 0, CAUSE_ERROR, 0).again);
    assert_true(retry_decide(&option, 1, 0, 0, CAUSE_TIMEOUT, 0).again);
}

/* A slot that died is not the caller's fault, up to a point: a task that kills its slots must not kill them for ever.
 */
static void test_third_crash_quarantines_whatever_attempts_say(void **state)
{
    (void)state;
    struct task_options option = policy(1);
    assert_true(retry_decide(&option, 0, 1, 0, CAUSE_CRASHED, 0).again);
    assert_true(retry_decide(&option, 0, 2, 0, CAUSE_CRASHED, 0).again);
    struct decision third = retry_decide(&option, 0, 3, 0, CAUSE_CRASHED, 0);
    assert_false(third.again);
    assert_int_equal(third.cause, CAUSE_QUARANTINED);
}

static void test_losses_have_a_limit_of_their_own(void **state)
{
    (void)state;
    struct task_options option = policy(1);
    assert_true(retry_decide(&option, 1, 2, 9, CAUSE_LOST, 0).again);
    struct decision tenth = retry_decide(&option, 0, 0, 10, CAUSE_LOST, 0);
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
        struct decision decision = retry_decide(&option, 1, 1, 1, causes[i], 7);
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
            uint64_t delay = retry_decide(&option, failures, 0, 0, CAUSE_ERROR, random).delay_ms;
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
            struct decision decision = retry_decide(&option, counts[0], counts[1], counts[2], table[i].cause, 0);
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
        uint64_t delay =
            retry_decide(&option, 1, 0, 0, CAUSE_ERROR, retry_chance(4711, (uint64_t)7 << 32 | task)).delay_ms;
        assert_in_range(delay, 50, 100);
        different += was_seen[delay - 50] ? 0 : 1;
        was_seen[delay - 50] = true;
    }
    assert_true(different > 35);
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
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

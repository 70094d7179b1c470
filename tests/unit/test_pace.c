/*
 * test_pace: how much is held ahead, by what functions are seen to take (worker/pace.c).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "worker/pace.h"

#define SLOTS 4u

static void ran(struct pace *pace, uint32_t function, uint64_t us, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        pace_ran(pace, function, us);
    }
}

/* A way of a millisecond there and back is hidden by so many tasks of microseconds. */
static void test_of_short_tasks_enough_is_held_to_hide_the_way(void **state)
{
    (void)state;
    struct pace pace;
    pace_init(&pace, 1);
    ran(&pace, 0, 5, 500);
    assert_true(pace_capacity(&pace, 1) >= 1000 / 5);
    assert_int_equal(pace_capacity(&pace, SLOTS), SLOTS + PACE_PREFETCH_COUNT_MAX); /* and no more than that */
    ran(&pace, 0, 0, 1000);                                                         /* below the grain of the clock */
    assert_int_equal(pace_capacity(&pace, SLOTS), SLOTS + PACE_PREFETCH_COUNT_MAX);
    pace_fini(&pace);
}

static void test_next_to_nothing_is_held_behind_long_ones(void **state)
{
    (void)state;
    struct pace pace;
    pace_init(&pace, 1);
    ran(&pace, 0, 1000000, 1);
    assert_int_equal(pace_capacity(&pace, SLOTS), SLOTS);
    ran(&pace, 0, 10000, 10000);
    assert_in_range(pace_capacity(&pace, SLOTS), 2 * SLOTS, 3 * SLOTS);
    pace_fini(&pace);
}

/* Nobody knows what it will take: one a slot, and none behind it. */
static void test_an_unknown_function_counts_as_long(void **state)
{
    (void)state;
    struct pace pace;
    pace_init(&pace, 2);
    assert_int_equal(pace_capacity(&pace, SLOTS), SLOTS);
    assert_true(pace_function_us(&pace, 0) > PACE_SLOT_US);
    assert_true(pace_function_us(&pace, 99) > PACE_SLOT_US);
    ran(&pace, 0, 5, 1);
    assert_true(pace_function_us(&pace, 1) > PACE_SLOT_US); /* what another takes says nothing */
    pace_fini(&pace);
}

/* A slot takes ahead what is short, whatever else its worker serves; and nothing is put behind what is long. */
static void test_functions_are_known_apart(void **state)
{
    (void)state;
    struct pace pace;
    pace_init(&pace, 2);
    for (int i = 0; i < 300; i++) {
        pace_ran(&pace, 0, 10);
        pace_ran(&pace, 1, 1000000);
    }
    assert_in_range(pace_function_us(&pace, 0), 9, 11);
    assert_in_range(pace_function_us(&pace, 1), 900000, 1100000);
    assert_int_equal(pace_capacity(&pace, SLOTS), SLOTS); /* half of what comes is long */
    pace_fini(&pace);
}

static void test_one_that_becomes_slow_is_believed_at_once_and_one_that_becomes_fast_after_some_runs(void **state)
{
    (void)state;
    struct pace pace;
    pace_init(&pace, 2);
    ran(&pace, 0, 10, 1000);
    ran(&pace, 1, 10, 1000);
    pace_runs(&pace, 0, PACE_SLOW_US); /* it still runs */
    assert_int_equal(pace_function_us(&pace, 0), PACE_SLOW_US);
    assert_int_equal(pace_function_us(&pace, 1), 10);
    pace_runs(&pace, 0, 5); /* no run makes it shorter before it is over */
    assert_int_equal(pace_function_us(&pace, 0), PACE_SLOW_US);
    ran(&pace, 0, 10, 8);
    assert_true(pace_function_us(&pace, 0) > PACE_SLOT_US);
    ran(&pace, 0, 10, 40);
    assert_true(pace_function_us(&pace, 0) < PACE_SLOT_US / 10);
    pace_fini(&pace);
}

/* One long one among many short ones must not make a worker give back what is done in a moment; but when no slot moves,
 * what waits there is of more use elsewhere, the more so the longer it lasts. */
static void test_when_no_slot_moves_less_and_less_is_held(void **state)
{
    (void)state;
    struct pace pace;
    pace_init(&pace, 2);
    ran(&pace, 0, 10, 1000);
    pace_runs(&pace, 1, 1000000);
    assert_true(pace_capacity(&pace, SLOTS) > 1000);
    pace_is_stuck(&pace, PACE_SLOW_US);
    assert_in_range(pace_capacity(&pace, SLOTS), SLOTS, 2 * SLOTS);
    pace_is_stuck(&pace, 10 * PACE_SLOW_US);
    assert_int_equal(pace_capacity(&pace, SLOTS), SLOTS);
    ran(&pace, 0, 10, 1000); /* it is over */
    assert_true(pace_capacity(&pace, SLOTS) > 1000);
    pace_fini(&pace);
}

/* Each change would be a message. */
static void test_only_what_changes_much_is_news(void **state)
{
    (void)state;
    assert_false(pace_is_news(100, 100));
    assert_false(pace_is_news(100, 149));
    assert_false(pace_is_news(100, 51));
    assert_true(pace_is_news(100, 150));
    assert_true(pace_is_news(100, 50));
    assert_true(pace_is_news(0, 1));
    assert_true(pace_is_news(1, 0));
    assert_false(pace_is_news(0, 0));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_of_short_tasks_enough_is_held_to_hide_the_way),
        cmocka_unit_test(test_next_to_nothing_is_held_behind_long_ones),
        cmocka_unit_test(test_an_unknown_function_counts_as_long),
        cmocka_unit_test(test_functions_are_known_apart),
        cmocka_unit_test(test_one_that_becomes_slow_is_believed_at_once_and_one_that_becomes_fast_after_some_runs),
        cmocka_unit_test(test_when_no_slot_moves_less_and_less_is_held),
        cmocka_unit_test(test_only_what_changes_much_is_news),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* --keep-order: whatever order things finish in, they come out in the order of the input. And the spool below it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "client/cli/inputs.h"
#include "client/cli/order.h"
#include "client/cli/spool.h"
#include <string.h>

static char mark; /* an item is only a pointer here */

static void assert_taken(struct order *order, uint64_t expected)
{
    uint64_t ordinal = 0;
    assert_ptr_equal(order_take(order, &ordinal), &mark);
    assert_int_equal(ordinal, expected);
}

static void assert_nothing(struct order *order)
{
    uint64_t ordinal;
    assert_null(order_take(order, &ordinal));
}

static void test_what_finishes_early_waits_for_its_turn(void **state)
{
    (void)state;
    struct order order;
    order_init(&order, 0, 0);
    order_promise(&order, 1);
    order_promise(&order, 2);
    order_promise(&order, 5);
    order_arrive(&order, 5, &mark, false);
    order_arrive(&order, 2, &mark, false);
    assert_nothing(&order);
    order_arrive(&order, 1, &mark, false);
    assert_taken(&order, 1);
    assert_taken(&order, 2);
    assert_taken(&order, 5);
    assert_nothing(&order);
    order_fini(&order);
}

/* Which lines an earlier run has printed is not known, only how many it has not. */
static void test_what_earlier_runs_left_comes_out_sorted_once_it_is_complete(void **state)
{
    (void)state;
    struct order order;
    order_init(&order, 10, 3);
    order_promise(&order, 11);
    order_arrive(&order, 11, &mark, false);
    order_arrive(&order, 9, &mark, true);
    order_arrive(&order, 4, &mark, true);
    assert_nothing(&order);
    order_arrive(&order, 7, &mark, true);
    assert_taken(&order, 4);
    assert_taken(&order, 7);
    assert_taken(&order, 9);
    assert_taken(&order, 11);
    assert_nothing(&order);
    order_fini(&order);
}

static void test_the_end_of_the_earlier_ones_lets_go(void **state)
{
    (void)state;
    struct order order;
    order_init(&order, 10, 2);
    order_arrive(&order, 3, &mark, true);
    assert_nothing(&order);
    order_earlier_end(&order);
    assert_taken(&order, 3);
    order_fini(&order);
}

/* A retried task has no place in the input. */
static void test_something_without_a_place_comes_out_at_once(void **state)
{
    (void)state;
    struct order order;
    order_init(&order, 0, 0);
    order_promise(&order, 1);
    order_arrive(&order, 0, &mark, false);
    assert_taken(&order, 0);
    assert_nothing(&order);
    order_fini(&order);
}

static void test_any_order_of_many_comes_out_sorted(void **state)
{
    (void)state;
    enum { COUNT = 1000, STEP = 7 };
    struct order order;
    uint64_t next = 1;
    order_init(&order, 0, 0);
    for (uint64_t i = 1; i <= COUNT; i++) {
        order_promise(&order, i);
    }
    for (uint64_t i = 0; i < COUNT; i++) {
        uint64_t ordinal;
        order_arrive(&order, (i * STEP) % COUNT + 1, &mark, false);
        while (order_take(&order, &ordinal) != NULL) {
            assert_int_equal(ordinal, next);
            next++;
        }
    }
    assert_int_equal(next, COUNT + 1);
    order_fini(&order);
}

static void test_a_spool_gives_back_what_was_put_in_order(void **state)
{
    (void)state;
    struct spool spool;
    struct spool_record record;
    uint64_t place;
    spool_init(&spool);
    assert_true(spool_is_empty(&spool));
    for (int round = 0; round < 2; round++) {
        assert_true(spool_put(&spool, 7, bytes_text("why"), bytes_text("item"), &place));
        assert_true(spool_put(&spool, 8, bytes_text(""), (struct bytes){0}, &place));
        assert_true(spool_take(&spool, &record));
        assert_int_equal(record.number, 7);
        assert_true(bytes_is(record.first, "why"));
        assert_true(bytes_is(record.second, "item"));
        assert_true(spool_take(&spool, &record));
        assert_int_equal(record.number, 8);
        assert_int_equal(record.second.n, 0);
        assert_true(spool_is_empty(&spool));
    }
    spool_fini(&spool);
}

static void test_large_inputs_are_kept_by_ordinal_and_given_back_once(void **state)
{
    (void)state;
    static uint8_t large[5000];
    struct inputs inputs;
    memset(large, 'x', sizeof large);
    inputs_init(&inputs);
    assert_true(inputs_put(&inputs, 3, bytes_of(large, sizeof large)));
    large[0] = 'y';
    assert_true(inputs_put(&inputs, 4, bytes_of(large, sizeof large)));
    assert_true(inputs_put(&inputs, 5, bytes_of(large, 10)));
    struct bytes found = inputs_take(&inputs, 4);
    assert_int_equal(found.n, sizeof large);
    assert_memory_equal(found.p, large, sizeof large);
    assert_int_equal(inputs_take(&inputs, 4).n, 0);
    assert_int_equal(inputs_take(&inputs, 5).n, 0);
    assert_int_equal(inputs_take(&inputs, 0).n, 0);
    found = inputs_take(&inputs, 3);
    assert_int_equal(found.p[0], 'x');
    inputs_fini(&inputs);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_finishes_early_waits_for_its_turn),
        cmocka_unit_test(test_what_earlier_runs_left_comes_out_sorted_once_it_is_complete),
        cmocka_unit_test(test_the_end_of_the_earlier_ones_lets_go),
        cmocka_unit_test(test_something_without_a_place_comes_out_at_once),
        cmocka_unit_test(test_any_order_of_many_comes_out_sorted),
        cmocka_unit_test(test_a_spool_gives_back_what_was_put_in_order),
        cmocka_unit_test(test_large_inputs_are_kept_by_ordinal_and_given_back_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

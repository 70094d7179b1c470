/*
 * test_worker_pace: what a real worker holds ahead of what it runs, behind functions of different lengths.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/clock.h"
#include "worker/pace.h"
#include "worker_world.h"

#define SLOTS 2u
#define LONG_S 3.0

static struct world *begin(void)
{
    struct world *world = ww_begin();
    ww_worker(world, "2");
    return world;
}

static bool holds_many(struct world *world, uint64_t least)
{
    return world->capacity >= least;
}

static bool holds_few(struct world *world, uint64_t most)
{
    return world->capacity <= most;
}

static bool are_returned(struct world *world, uint64_t count)
{
    return world->returned >= count;
}

/* Tasks 1..count of a function that takes microseconds: the worker asks for many ahead. */
static void learn_short(struct world *world, uint64_t count)
{
    ww_dispatch_run(world, 1, count, "square");
    ww_await(world, ww_all_ended, count, "short tasks");
    ww_await(world, holds_many, 100, "a capacity that hides the way");
}

static void dispatch_sleeps(struct world *world, uint64_t first, uint64_t count, double seconds)
{
    for (uint64_t i = 0; i < count; i++) {
        ww_dispatch_f64(world, first + i, "sleep", seconds);
    }
}

/* The worker knew short tasks only, asked for many, and got long ones. */
static void test_long_tasks_of_an_unknown_function_are_given_back_while_the_first_run(void **state)
{
    (void)state;
    struct world *world = begin();
    learn_short(world, 500);
    int64_t begun_ms = clock_mono_ms();
    dispatch_sleeps(world, 501, 60, LONG_S);
    ww_await(world, are_returned, 60 - SLOTS, "what waits behind long ones");
    ww_await(world, holds_few, SLOTS, "a capacity of no more than there are slots");
    assert_true(clock_mono_ms() - begun_ms < (int64_t)(LONG_S * 1000)); /* not when they ended */
    (void)ww_end(&world);
}

/* The same function, which was short a hundred times. */
static void test_a_function_that_becomes_slow_is_noticed_while_it_runs(void **state)
{
    (void)state;
    struct world *world = begin();
    dispatch_sleeps(world, 1, 300, 0);
    ww_await(world, ww_all_ended, 300, "sleeps of no time");
    ww_await(world, holds_many, 50, "a capacity that hides the way");
    int64_t begun_ms = clock_mono_ms();
    dispatch_sleeps(world, 301, 60, LONG_S);
    ww_await(world, are_returned, 60 - SLOTS, "what waits behind long ones");
    assert_true(clock_mono_ms() - begun_ms < (int64_t)(LONG_S * 1000));
    (void)ww_end(&world);
}

/* One slot is long busy: short ones go by it, and the worker goes on asking for many of them. */
static void test_short_tasks_pass_by_a_long_one_of_another_function(void **state)
{
    (void)state;
    struct world *world = begin();
    learn_short(world, 500);
    dispatch_sleeps(world, 501, 1, LONG_S);
    ww_await(world, ww_is_started, 501, "the long one");
    unsigned before = world->finished;
    for (uint64_t first = 1001; first <= 3001; first += 500) {
        ww_dispatch_run(world, first, 500, "square");
        while (world->finished < before + first + 499 - 1000) {
            ww_serve_for(world, 1);
            assert_int_equal(world->returned, 0);
        }
    }
    assert_int_equal(world->tasks[501].finished, 0);
    assert_true(world->capacity >= 100);
    (void)ww_end(&world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_long_tasks_of_an_unknown_function_are_given_back_while_the_first_run),
        cmocka_unit_test(test_a_function_that_becomes_slow_is_noticed_while_it_runs),
        cmocka_unit_test(test_short_tasks_pass_by_a_long_one_of_another_function),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

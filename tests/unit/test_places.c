/*
 * Who may run while others wait inside their handlers (worker/places.c).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/limits.h"
#include "worker/places.h"

static void test_without_waiters_there_are_as_many_places_as_slots(void **state)
{
    (void)state;
    for (unsigned slots = 1; slots <= SLOT_COUNT_MAX; slots *= 2) {
        struct places places = {.slots = slots, .running = slots - 1};
        assert_true(places_may_start(&places, 0));
        assert_int_equal(places_slots(&places), slots);
        places.running++;
        assert_false(places_may_start(&places, 0));
        assert_false(places_may_start(&places, TASK_DEPTH_MAX));
    }
}

static void test_a_waiting_slot_gives_its_place_to_a_child_at_once(void **state)
{
    (void)state;
    for (unsigned slots = 1; slots <= SLOT_COUNT_MAX; slots++) {
        struct places places = {.slots = slots, .running = slots - 1, .waiting = 1};
        assert_true(places_may_start(&places, 1));
        assert_true(places_slots(&places) > slots);
    }
}

/* Those that wait resume: for a moment more run than there are slots. */
static void test_nothing_starts_while_as_many_run_as_there_are_slots(void **state)
{
    (void)state;
    struct places places = {.slots = 2, .running = 2, .waiting = 3, .deepest = 1};
    assert_false(places_may_start(&places, 2));
    places.running = 5;
    assert_false(places_may_start(&places, 2));
    places.running = 1;
    assert_true(places_may_start(&places, 2));
}

/* Roots that start and wait, as many as there are: they leave most of the places to what they wait for. */
static void test_a_flood_of_roots_does_not_use_up_the_places(void **state)
{
    (void)state;
    for (unsigned slots = 1; slots <= SLOT_COUNT_MAX; slots++) {
        struct places places = {.slots = slots};
        while (places_may_start(&places, 0)) {
            places.waiting++;
        }
        unsigned left = places_waiting_max(slots) - places.waiting;
        assert_true(places.waiting >= slots);
        assert_true(places.waiting <= 2 * slots);
        assert_true(left >= WORKER_WAITING_COUNT_MAX / 2);
        assert_true(places_may_start(&places, 1));
    }
}

/* The worst order: at each level as many wait as may start. A chain as deep as the reserve still goes on. */
static void test_a_tree_of_waiters_becomes_a_chain_before_the_places_are_used_up(void **state)
{
    (void)state;
    for (unsigned slots = 1; slots <= 64; slots++) {
        struct places places = {.slots = slots};
        unsigned levels = 0;
        for (unsigned depth = 0; places_may_wait(&places); depth++, levels++) {
            places.running = 0;
            while (places_may_start(&places, depth)) {
                places.running++;
            }
            assert_true(places.running >= 1); /* never a deadlock */
            places.waiting += places.running;
            places.deepest = depth;
        }
        assert_true(levels >= WORKER_WAITING_COUNT_MAX / 4);
        assert_true(places.waiting <= places_waiting_max(slots));
    }
}

/* With one slot a chain may be as deep as tasks may be: all of them wait, and the last one runs. */
static void test_one_slot_is_enough_for_the_deepest_chain(void **state)
{
    (void)state;
    struct places places = {.slots = 1};
    for (unsigned depth = 0; depth < TASK_DEPTH_MAX; depth++) {
        assert_true(places_may_start(&places, depth));
        assert_true(places_may_wait(&places));
        places.waiting++;
        places.deepest = depth;
    }
    assert_true(places_may_start(&places, TASK_DEPTH_MAX));
    assert_false(places_may_wait(&places));
    assert_true(places_slots(&places) <= places_slots_max(1));
}

/* A handler may wait for what it did not submit. */
static void test_what_is_not_deeper_starts_when_nothing_moves(void **state)
{
    (void)state;
    struct places places = {.slots = 1, .waiting = 2, .deepest = 5};
    assert_false(places_may_start(&places, 5));
    places.is_stuck = true;
    assert_true(places_may_start(&places, 5));
    assert_true(places_may_start(&places, 0));
    places.running = 1;
    assert_false(places_may_start(&places, 0));
    places.running = 0;
    places.waiting = WORKER_WAITING_COUNT_MAX - WORKER_WAITING_COUNT_MAX / 4;
    assert_false(places_may_start(&places, 0)); /* the rest is for what is deeper */
    assert_true(places_may_start(&places, 6));
}

/* Up to 32 slots it is 64 whatever their number; beyond, each slot may wait and have one more that does. */
static void test_with_more_than_32_slots_twice_as_many_may_wait_and_not_one_more(void **state)
{
    static const struct {
        unsigned slots;
        unsigned max;
    } rows[] = {{1, 64}, {31, 64}, {32, 64}, {33, 66}, {64, 128}, {100, 200}, {SLOT_COUNT_MAX, 2 * SLOT_COUNT_MAX}};
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct places places = {.slots = rows[i].slots, .waiting = rows[i].max - 1};
        assert_int_equal(places_waiting_max(rows[i].slots), rows[i].max);
        assert_int_equal(places_slots_max(rows[i].slots), rows[i].slots + rows[i].max);
        assert_true(places_may_wait(&places));
        places.waiting++;
        assert_false(places_may_wait(&places));
    }
}

static void test_slots_to_keep_alive_are_bounded(void **state)
{
    (void)state;
    for (unsigned slots = 1; slots <= SLOT_COUNT_MAX; slots++) {
        struct places places = {.slots = slots};
        for (; places.waiting <= places_waiting_max(slots); places.waiting++) {
            assert_true(places_slots(&places) <= places_slots_max(slots));
            assert_true(places_slots(&places) > places.waiting || places.waiting == 0);
        }
    }
}

/* What may start of the deeper ones, counted one by one, is what the worker asks for. */
static void test_room_is_how_many_deeper_ones_may_start(void **state)
{
    (void)state;
    for (unsigned slots = 1; slots <= 8; slots++) {
        for (unsigned waiting = 1; waiting <= places_waiting_max(slots); waiting++) {
            for (unsigned running = 0; running <= slots; running++) {
                struct places places = {.slots = slots, .running = running, .waiting = waiting, .deepest = 3};
                unsigned count = 0;
                unsigned room = places_room(&places);
                while (places_may_start(&places, 4)) {
                    places.running++;
                    count++;
                }
                assert_int_equal(room, count);
            }
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_room_is_how_many_deeper_ones_may_start),
        cmocka_unit_test(test_without_waiters_there_are_as_many_places_as_slots),
        cmocka_unit_test(test_a_waiting_slot_gives_its_place_to_a_child_at_once),
        cmocka_unit_test(test_nothing_starts_while_as_many_run_as_there_are_slots),
        cmocka_unit_test(test_a_flood_of_roots_does_not_use_up_the_places),
        cmocka_unit_test(test_a_tree_of_waiters_becomes_a_chain_before_the_places_are_used_up),
        cmocka_unit_test(test_one_slot_is_enough_for_the_deepest_chain),
        cmocka_unit_test(test_what_is_not_deeper_starts_when_nothing_moves),
        cmocka_unit_test(test_with_more_than_32_slots_twice_as_many_may_wait_and_not_one_more),
        cmocka_unit_test(test_slots_to_keep_alive_are_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

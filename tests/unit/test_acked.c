/*
 * test_acked: what is kept of acknowledged outcomes comes out as it went in, however it is packed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "broker/state.h"

/* Retention deletes rows by what comes out here: each id once, in its order, and the bytes of all as they were. */
static void test_every_id_comes_out_once_in_its_order(void **state)
{
    (void)state;
    struct acked acked = {0};
    uint64_t chance = 7;
    uint64_t ids[3000];
    uint64_t bytes = 0;
    uint64_t id = id_make(3, 1);
    int64_t now = 1700000000000;
    size_t popped = 0;
    for (size_t i = 0; i < 3000; i++) {
        chance = chance * 6364136223846793005u + 1442695040888963407u;
        uint64_t size = 200 + (chance >> 40) % 100;
        now += (chance >> 33) % 7 == 0 ? 900 : 1;
        id += (chance >> 50) % 20 == 0 ? 5 : 1;
        ids[i] = id;
        acked_push(&acked, id, now, size);
        bytes += size;
        assert_int_equal(acked.bytes, bytes);
        if ((chance >> 45) % 3 == 0) {
            uint64_t before = acked.bytes;
            assert_int_equal(acked_pop(&acked), ids[popped++]);
            bytes -= before - acked.bytes;
        }
        assert_int_equal(acked.count, i + 1 - popped);
    }
    assert_true(acked.run_count < acked.count / 5);
    while (acked.count > 0) {
        assert_int_equal(acked_pop(&acked), ids[popped++]);
    }
    assert_int_equal(popped, 3000);
    assert_int_equal(acked.bytes, 0);
    acked_fini(&acked);
}

/* Never before its time, and hardly later. */
static void test_age_is_that_of_the_youngest_of_its_run(void **state)
{
    (void)state;
    struct acked acked = {0};
    acked_push(&acked, 10, 5000, 1);
    acked_push(&acked, 11, 5800, 1);
    acked_push(&acked, 12, 6100, 1); /* too late for that run */
    acked_push(&acked, 13, 5900, 1); /* earlier than its neighbour */
    assert_int_equal(acked_oldest(&acked), 5800);
    assert_int_equal(acked_pop(&acked), 10);
    assert_int_equal(acked_oldest(&acked), 5800);
    assert_int_equal(acked_pop(&acked), 11);
    assert_int_equal(acked_oldest(&acked), 6100);
    acked_fini(&acked);
}

/* What a start has read comes in the order of ids and goes in the order of time. */
static void test_sorted_runs_go_by_time(void **state)
{
    (void)state;
    struct acked acked = {0};
    acked_push(&acked, 1, 9000, 1);
    acked_push(&acked, 5, 3000, 1);
    acked_push(&acked, 6, 3001, 1);
    acked_push(&acked, 9, 5000, 1);
    acked_sort(&acked);
    const uint64_t wanted[] = {5, 6, 9, 1};
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(acked_pop(&acked), wanted[i]);
    }
    acked_fini(&acked);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_id_comes_out_once_in_its_order),
        cmocka_unit_test(test_age_is_that_of_the_youngest_of_its_run),
        cmocka_unit_test(test_sorted_runs_go_by_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

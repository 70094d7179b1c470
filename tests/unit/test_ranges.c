/*
 * Sets of numbers as ranges: what a client has taken, what a session has acknowledged.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/ranges.h"

#define NUMBER_MAX 64u

static uint64_t next_random(uint64_t *seed)
{
    *seed = *seed * 6364136223846793005u + 1442695040888963407u;
    return *seed >> 33;
}

static void check_same(const struct ranges *ranges, const bool *in)
{
    uint64_t before = 0;
    for (size_t i = 0; i < ranges->count; i++) {
        assert_true(ranges->at[i].first <= ranges->at[i].last);
        assert_true(i == 0 || ranges->at[i].first > before + 1); /* sorted, disjoint, not adjacent */
        before = ranges->at[i].last;
    }
    for (uint64_t n = 1; n < NUMBER_MAX; n++) {
        uint64_t gap = n;
        while (gap < NUMBER_MAX && in[gap]) {
            gap++;
        }
        assert_int_equal(ranges_has(ranges, n), in[n]);
        const struct range *around = ranges_around(ranges, n);
        assert_int_equal(around != NULL, in[n]);
        assert_true(around == NULL || (around->first <= n && n <= around->last));
        if (gap < NUMBER_MAX) {
            assert_int_equal(ranges_gap(ranges, n), gap);
        }
    }
}

/* Random additions and drops, against an array of booleans. */
static void test_ranges_are_what_a_plain_set_is(void **state)
{
    (void)state;
    uint64_t seed = 7;
    for (unsigned round = 0; round < 500; round++) {
        struct ranges ranges = {0};
        bool in[NUMBER_MAX] = {false};
        for (unsigned step = 0; step < 40; step++) {
            uint64_t first = 1 + next_random(&seed) % (NUMBER_MAX - 1);
            uint64_t last = first + next_random(&seed) % 5;
            last = last < NUMBER_MAX ? last : NUMBER_MAX - 1;
            if (next_random(&seed) % 8 == 0) {
                ranges_drop(&ranges, first);
                for (uint64_t n = 0; n <= first; n++) {
                    in[n] = false;
                }
            } else {
                ranges_add(&ranges, first, last);
                for (uint64_t n = first; n <= last; n++) {
                    in[n] = true;
                }
            }
            check_same(&ranges, in);
        }
        ranges_fini(&ranges);
    }
}

static void test_prefix_is_what_begins_at_one(void **state)
{
    (void)state;
    struct ranges ranges = {0};
    assert_int_equal(ranges_prefix(&ranges), 0);
    ranges_add(&ranges, 3, 5);
    assert_int_equal(ranges_prefix(&ranges), 0);
    ranges_add(&ranges, 1, 2);
    assert_int_equal(ranges_prefix(&ranges), 5);
    ranges_fini(&ranges);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ranges_are_what_a_plain_set_is),
        cmocka_unit_test(test_prefix_is_what_begins_at_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

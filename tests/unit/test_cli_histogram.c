/* The histogram of quern bench: percentiles against sorting, and its edges. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>

#include "client/cli/histogram.h"

#define VALUE_COUNT 20000

static struct histogram histogram;
static int64_t values[VALUE_COUNT];

static int fresh(void **state)
{
    (void)state;
    histogram = (struct histogram){0};
    return 0;
}

static int value_compare(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a;
    int64_t y = *(const int64_t *)b;
    return x < y ? -1 : x > y;
}

static void test_no_durations_have_percentile_0(void **state)
{
    (void)state;
    assert_int_equal(histogram_percentile_us(&histogram, 50), 0);
    assert_int_equal(histogram_percentile_us(&histogram, 100), 0);
}

static void test_below_128_us_every_percentile_is_exact(void **state)
{
    (void)state;
    for (int64_t us = 1; us <= 100; us++) {
        histogram_add(&histogram, us);
    }
    for (int percent = 1; percent <= 100; percent++) {
        assert_int_equal(histogram_percentile_us(&histogram, percent), percent);
    }
    assert_int_equal(histogram_percentile_us(&histogram, 0.1), 1);
}

static void test_percentiles_are_those_of_sorted_durations_to_one_in_128(void **state)
{
    (void)state;
    srandom(1);
    for (int i = 0; i < VALUE_COUNT; i++) {
        values[i] = random() >> (random() % 31); /* all magnitudes alike */
        histogram_add(&histogram, values[i]);
    }
    qsort(values, VALUE_COUNT, sizeof values[0], value_compare);
    for (int percent = 1; percent <= 100; percent++) {
        int64_t sorted = values[VALUE_COUNT / 100 * percent - 1];
        int64_t told = histogram_percentile_us(&histogram, percent);
        assert_in_range(told, sorted, sorted + sorted / 128);
    }
    assert_int_equal(histogram_percentile_us(&histogram, 100), values[VALUE_COUNT - 1]);
}

static void test_every_duration_falls_into_a_bucket_that_ends_behind_it(void **state)
{
    (void)state;
    for (unsigned bits = 0; bits < 63; bits++) {
        for (int64_t at = -1; at <= 1; at++) {
            int64_t us = (INT64_C(1) << bits) + at;
            int64_t counted = us > HISTOGRAM_US_MAX ? HISTOGRAM_US_MAX : us;
            fresh(NULL);
            histogram_add(&histogram, us);
            histogram_add(&histogram, HISTOGRAM_US_MAX);
            assert_in_range(histogram_percentile_us(&histogram, 50), counted, counted + counted / 128);
        }
    }
}

static void test_less_than_nothing_counts_as_nothing_and_too_long_as_the_longest(void **state)
{
    (void)state;
    histogram_add(&histogram, -5);
    histogram_add(&histogram, INT64_MAX);
    assert_int_equal(histogram_percentile_us(&histogram, 50), 0);
    assert_int_equal(histogram_percentile_us(&histogram, 100), HISTOGRAM_US_MAX);
}

static void test_merged_histograms_are_one_of_all_durations(void **state)
{
    (void)state;
    static struct histogram other;
    for (int64_t us = 1; us <= 50; us++) {
        histogram_add(&histogram, us);
        histogram_add(&other, us + 50);
    }
    histogram_merge(&histogram, &other);
    assert_int_equal(histogram.count, 100);
    assert_int_equal(histogram_percentile_us(&histogram, 75), 75);
    assert_int_equal(histogram_percentile_us(&histogram, 100), 100);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_no_durations_have_percentile_0, fresh),
        cmocka_unit_test_setup(test_below_128_us_every_percentile_is_exact, fresh),
        cmocka_unit_test_setup(test_percentiles_are_those_of_sorted_durations_to_one_in_128, fresh),
        cmocka_unit_test_setup(test_every_duration_falls_into_a_bucket_that_ends_behind_it, fresh),
        cmocka_unit_test_setup(test_less_than_nothing_counts_as_nothing_and_too_long_as_the_longest, fresh),
        cmocka_unit_test_setup(test_merged_histograms_are_one_of_all_durations, fresh),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

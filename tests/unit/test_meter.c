/*
 * test_meter: looking at the memory of a slot (worker/meter.c), with this process in its place.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "worker/meter.h"

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define SIZE ((size_t)32 << 20)

static void test_growth_is_what_was_taken_since_the_beginning(void **state)
{
    struct meter meter;
    (void)state;
    meter_begin(&meter, getpid(), 1000);
    assert_int_equal(meter_growth(&meter), 0);
    void *p = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(p, MAP_FAILED);
    memset(p, 1, SIZE);
    assert_int_equal(meter_look(&meter, getpid(), 1, true, 1001), INT64_MAX);
    assert_in_range(meter_growth(&meter), SIZE, 2 * SIZE);
    munmap(p, SIZE);
    (void)meter_look(&meter, getpid(), 2, true, 1100);
    assert_in_range(meter_growth(&meter), 0, SIZE / 2);
}

/* Reading costs more than a short task takes. */
static void test_it_looks_no_more_often_than_needed(void **state)
{
    struct meter meter;
    (void)state;
    meter_begin(&meter, getpid(), 1000);
    assert_int_equal(meter_look(&meter, getpid(), 0, true, 2000), INT64_MAX); /* nothing has run */
    assert_int_equal(meter.looked_ms, 1000);
    assert_int_equal(meter_look(&meter, getpid(), 1, false, 1005), 1000 + METER_BUSY_MS);
    assert_int_equal(meter_look(&meter, getpid(), 1, true, 1000), 1000 + METER_IDLE_MS);
    assert_int_equal(meter_look(&meter, getpid(), 1, true, 1005), INT64_MAX);
    assert_int_equal(meter.looked_ms, 1005);
}

static void test_a_process_that_is_gone_has_none(void **state)
{
    (void)state;
    assert_int_equal(meter_read(-1), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_growth_is_what_was_taken_since_the_beginning),
        cmocka_unit_test(test_it_looks_no_more_often_than_needed),
        cmocka_unit_test(test_a_process_that_is_gone_has_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

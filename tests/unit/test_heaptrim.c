/* When memory goes back to the kernel: only some time after the last large frame. (That it does is a story of payloads.) */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>

#include <cmocka.h>

#include "broker/heaptrim.h"

static void test_small_frames_never_lead_to_a_trim(void **state)
{
    struct heaptrim trim;
    (void)state;
    heaptrim_init(&trim);
    heaptrim_saw_frame(&trim, HEAPTRIM_LARGE_SIZE - 1, 1000);
    assert_int_equal(trim.due_ms, INT64_MAX);
}

static void test_a_trim_is_due_when_no_large_frame_came_for_a_while(void **state)
{
    struct heaptrim trim;
    (void)state;
    heaptrim_init(&trim);
    heaptrim_saw_frame(&trim, HEAPTRIM_LARGE_SIZE, 1000);
    heaptrim_saw_frame(&trim, HEAPTRIM_LARGE_SIZE, 1500);
    heaptrim_look(&trim, 1500 + HEAPTRIM_QUIET_MS - 1);
    assert_int_equal(trim.due_ms, 1500 + HEAPTRIM_QUIET_MS);
    heaptrim_look(&trim, 1500 + HEAPTRIM_QUIET_MS);
    assert_int_equal(trim.due_ms, INT64_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_small_frames_never_lead_to_a_trim),
        cmocka_unit_test(test_a_trim_is_due_when_no_large_frame_came_for_a_while),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

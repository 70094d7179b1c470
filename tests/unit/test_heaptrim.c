/*
 * When memory goes back to the kernel: some time after the last large frame, or after a burst of small blocks; and that
 * it does, though something that is still used lies on every tenth page.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "broker/heaptrim.h"
#include "support/valgrind.h"

#define BLOCK_SIZE 320u
#define BLOCK_COUNT 200000u
#define KEPT_EACH 128u

/* To look through the heap for a few would be work without end. */
static void test_small_frames_and_a_few_blocks_fewer_do_not_lead_to_a_trim(void **state)
{
    struct heaptrim trim;
    (void)state;
    heaptrim_init(&trim);
    heaptrim_saw_frame(&trim, HEAPTRIM_LARGE_SIZE - 1, 1000);
    heaptrim_look(&trim, HEAPTRIM_FEW_COUNT, 1000);
    heaptrim_look(&trim, 1, 1001);
    assert_int_equal(trim.due_ms, INT64_MAX);
}

static void test_some_blocks_go_back_when_nothing_goes_on(void **state)
{
    struct heaptrim trim;
    (void)state;
    heaptrim_init(&trim);
    int64_t now_ms = 1000;
    heaptrim_look(&trim, HEAPTRIM_FEW_COUNT, now_ms);
    for (uint64_t count = 0; count < 3; count++, now_ms += HEAPTRIM_QUIET_MS) {
        heaptrim_look(&trim, count % 2, now_ms); /* one comes, one goes */
        assert_int_equal(trim.due_ms, now_ms + HEAPTRIM_QUIET_MS);
    }
    heaptrim_look(&trim, 0, now_ms);
    assert_int_equal(trim.due_ms, INT64_MAX);
}

/* While they go it would cost time, again and again. */
static void test_a_trim_waits_until_blocks_have_stopped_going(void **state)
{
    struct heaptrim trim;
    (void)state;
    heaptrim_init(&trim);
    uint64_t count = 100 * HEAPTRIM_FEWER_COUNT;
    int64_t now_ms = 1000;
    heaptrim_look(&trim, count, now_ms);
    for (; count > 0; now_ms += HEAPTRIM_QUIET_MS) {
        count -= HEAPTRIM_FEWER_COUNT;
        heaptrim_look(&trim, count, now_ms);
        assert_int_equal(trim.due_ms, now_ms + HEAPTRIM_QUIET_MS);
    }
    heaptrim_look(&trim, 1, now_ms); /* a lone task does not hold it up */
    assert_int_equal(trim.due_ms, INT64_MAX);
    heaptrim_look(&trim, 0, now_ms + 1); /* nor is it done twice */
    assert_int_equal(trim.due_ms, INT64_MAX);
}

static size_t resident_kib(void)
{
    size_t size = 0;
    size_t resident = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    assert_non_null(file);
    assert_int_equal(fscanf(file, "%zu %zu", &size, &resident), 2);
    fclose(file);
    return resident * 4;
}

/* 64 MB of small blocks were used, and one in 128 is still: without a trim they stay resident, for the heap's end is
 * used. */
static void test_what_a_burst_of_small_blocks_left_goes_back(void **state)
{
    struct heaptrim trim;
    (void)state;
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    print_message("the malloc of a sanitizer keeps what it likes\n");
    skip();
#endif
    SKIP_UNDER_VALGRIND("valgrind's malloc keeps what it likes");
    heaptrim_prepare();
    heaptrim_init(&trim);
    size_t before = resident_kib();
    void **blocks = calloc(BLOCK_COUNT, sizeof *blocks);
    for (size_t i = 0; i < BLOCK_COUNT; i++) {
        blocks[i] = malloc(BLOCK_SIZE);
        memset(blocks[i], 1, BLOCK_SIZE);
    }
    size_t most = resident_kib() - before;
    for (size_t i = 0; i < BLOCK_COUNT; i++) {
        if (i % KEPT_EACH != 0 && i + 1 < BLOCK_COUNT) {
            free(blocks[i]);
        }
    }
    assert_true(resident_kib() - before > most / 10 * 9);
    heaptrim_look(&trim, BLOCK_COUNT, 1000);
    heaptrim_look(&trim, BLOCK_COUNT / KEPT_EACH, 1001);
    heaptrim_look(&trim, BLOCK_COUNT / KEPT_EACH, trim.due_ms);
    assert_true(resident_kib() - before < most / 3);
    for (size_t i = 0; i < BLOCK_COUNT; i++) {
        if (i % KEPT_EACH == 0 || i + 1 == BLOCK_COUNT) {
            free(blocks[i]);
        }
    }
    free(blocks);
}

static void test_a_trim_is_due_when_no_large_frame_came_for_a_while(void **state)
{
    struct heaptrim trim;
    (void)state;
    heaptrim_init(&trim);
    heaptrim_saw_frame(&trim, HEAPTRIM_LARGE_SIZE, 1000);
    heaptrim_saw_frame(&trim, HEAPTRIM_LARGE_SIZE, 1500);
    heaptrim_look(&trim, 0, 1500 + HEAPTRIM_QUIET_MS - 1);
    assert_int_equal(trim.due_ms, 1500 + HEAPTRIM_QUIET_MS);
    heaptrim_look(&trim, 0, 1500 + HEAPTRIM_QUIET_MS);
    assert_int_equal(trim.due_ms, INT64_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_small_frames_and_a_few_blocks_fewer_do_not_lead_to_a_trim),
        cmocka_unit_test(test_some_blocks_go_back_when_nothing_goes_on),
        cmocka_unit_test(test_a_trim_waits_until_blocks_have_stopped_going),
        cmocka_unit_test(test_what_a_burst_of_small_blocks_left_goes_back),
        cmocka_unit_test(test_a_trim_is_due_when_no_large_frame_came_for_a_while),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/*
 * When memory that another thread allocated and this one freed goes back to the kernel, though something that is still
 * used lies between.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support/valgrind.h"
#include "worker/heaptrim.h"

/* 64 MB of payloads below the size from which malloc maps each for itself. */
#define BLOCK_SIZE 100000u
#define BLOCK_COUNT 640u
#define KEPT_EACH 64u

static void *blocks[BLOCK_COUNT];

static void *fill(void *nothing)
{
    (void)nothing;
    for (size_t i = 0; i < BLOCK_COUNT; i++) {
        if (blocks[i] == NULL) {
            blocks[i] = malloc(BLOCK_SIZE);
            assert_non_null(blocks[i]);
            memset(blocks[i], 1, BLOCK_SIZE);
        }
    }
    return NULL;
}

static void fill_in_a_thread(void)
{
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, fill, NULL), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
}

static void drop(size_t kept_each)
{
    for (size_t i = 0; i < BLOCK_COUNT; i++) {
        if (kept_each == 0 || (i % kept_each != 0 && i + 1 < BLOCK_COUNT)) {
            free(blocks[i]);
            blocks[i] = NULL;
        }
    }
}

static size_t resident_kib(void)
{
    size_t resident = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    assert_non_null(file);
    assert_int_equal(fscanf(file, "%*u %zu", &resident), 1);
    fclose(file);
    return resident * 4;
}

static void test_what_was_freed_goes_back_and_is_looked_at_now_and_then(void **state)
{
    struct heaptrim trim = {0};
    (void)state;
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    print_message("the malloc of a sanitizer keeps what it likes\n");
    skip();
#endif
    SKIP_UNDER_VALGRIND("valgrind's malloc keeps what it likes");
    int64_t now_ms = 1000;
    size_t before = resident_kib();
    fill_in_a_thread();
    size_t most = resident_kib() - before;
    heaptrim_look(&trim, now_ms);
    assert_true(resident_kib() - before > most / 10 * 9); /* what is used stays */

    drop(KEPT_EACH);
    assert_true(resident_kib() - before > most / 10 * 9); /* malloc by itself gives nothing back */
    heaptrim_look(&trim, now_ms + HEAPTRIM_LOOK_MS - 1);
    assert_true(resident_kib() - before > most / 10 * 9); /* too soon */
    heaptrim_look(&trim, now_ms + HEAPTRIM_LOOK_MS);
    assert_true(resident_kib() - before < most / 3);
    drop(0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_was_freed_goes_back_and_is_looked_at_now_and_then),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

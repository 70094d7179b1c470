/*
 * test_worker_options: the command line of a worker (worker/options.c).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/bytes.h"
#include "worker/options.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* What option and value are read as; what would be said of it is not shown. */
static enum options_result read_one(struct options *options, const char *option, const char *value)
{
    char *argv[] = {(char *)(uintptr_t) "quern-worker", (char *)(uintptr_t)option, (char *)(uintptr_t)value, NULL};
    int before = dup(2);
    assert_non_null(freopen("/dev/null", "w", stderr));
    enum options_result result = options_read(options, 3, argv, true);
    fflush(stderr);
    dup2(before, 2);
    close(before);
    return result;
}

static void test_sizes_have_units_of_1024(void **state)
{
    static const struct {
        const char *word;
        uint64_t size;
    } good[] = {{"1", 1}, {"100K", 100 << 10}, {"500M", 500ull << 20}, {"2G", 2ull << 30}};
    static const char *const bad[] = {"",           "0", "-1", "K", "1KB", "1k", "1.5G", " 1", "99999999999999999999",
                                      "9999999999G"};
    uint64_t size = 0;
    (void)state;
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        assert_true(size_read(good[i].word, &size));
        assert_int_equal(size, good[i].size);
    }
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_false(size_read(bad[i], &size));
    }
}

/* Zero slots would wait for ever. */
static void test_counts_begin_at_1(void **state)
{
    static const char *const options_with_counts[] = {
        "--slots",           "--max-tasks-per-slot", "--max-memory-per-slot", "--memory-per-task",
        "--memory-per-slot", "--rlimit-as",          "--rlimit-data"};
    static const char *const bad[] = {"0", "-1", "x", "", "1x"};
    struct options options;
    (void)state;
    for (size_t i = 0; i < 7; i++) {
        assert_int_equal(read_one(&options, options_with_counts[i], "1"), OPTIONS_RUN);
        for (size_t j = 0; j < sizeof(bad) / sizeof(bad[0]); j++) {
            assert_int_equal(read_one(&options, options_with_counts[i], bad[j]), OPTIONS_USAGE);
        }
    }
    assert_int_equal(read_one(&options, "--max-tasks-per-slot", "1K"), OPTIONS_USAGE);
    assert_int_equal(read_one(&options, "--max-tasks-per-slot", "7"), OPTIONS_RUN);
    assert_int_equal(options.slot_tasks_max, 7);
    assert_int_equal(options.slot_memory_size, 0);
}

static void test_words_for_cgroups(void **state)
{
    struct options options;
    (void)state;
    assert_int_equal(read_one(&options, "--cgroup", "off"), OPTIONS_RUN);
    assert_true(options.no_cgroups);
    assert_int_equal(read_one(&options, "--cgroup", "auto"), OPTIONS_RUN);
    assert_false(options.no_cgroups || options.pins);
    assert_int_equal(read_one(&options, "--cgroup", "on"), OPTIONS_USAGE);
    assert_int_equal(read_one(&options, "--free-memory-floor", "12%"), OPTIONS_RUN);
    assert_int_equal(options.floor.percent, 12);
    assert_int_equal(read_one(&options, "--free-memory-floor", "12 %"), OPTIONS_USAGE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sizes_have_units_of_1024),
        cmocka_unit_test(test_counts_begin_at_1),
        cmocka_unit_test(test_words_for_cgroups),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

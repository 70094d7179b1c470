/*
 * test_cpus: how many slots a worker has by itself (worker/cpus.c), with cgroups made of plain files.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/limits.h"
#include "worker/cpus.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char root[64];

static int root_make(void **state)
{
    char path[128];
    (void)state;
    memcpy(root, "/tmp/quern-test-XXXXXX", sizeof("/tmp/quern-test-XXXXXX"));
    assert_non_null(mkdtemp(root));
    snprintf(path, sizeof(path), "%s/a", root);
    assert_int_equal(mkdir(path, 0700), 0);
    snprintf(path, sizeof(path), "%s/a/b", root);
    return mkdir(path, 0700);
}

static void quota_write(const char *group, const char *text)
{
    char path[128];
    snprintf(path, sizeof(path), "%s%s/cpu.max", root, group);
    unlink(path);
    FILE *file = text == NULL ? NULL : fopen(path, "w");
    if (file != NULL) {
        fputs(text, file);
        fclose(file);
    }
}

static int root_remove(void **state)
{
    static const char *const groups[] = {"/a/b", "/a", ""};
    (void)state;
    for (size_t i = 0; i < 3; i++) {
        char path[128];
        quota_write(groups[i], NULL);
        snprintf(path, sizeof(path), "%s%s", root, groups[i]);
        rmdir(path);
    }
    return 0;
}

static void test_a_quota_is_rounded_up(void **state)
{
    (void)state;
    quota_write("/a/b", "150000 100000\n");
    assert_int_equal(cpus_granted(root, "/a/b"), 2);
    quota_write("/a/b", "200000 100000\n");
    assert_int_equal(cpus_granted(root, "/a/b"), 2);
    quota_write("/a/b", "1000 100000\n");
    assert_int_equal(cpus_granted(root, "/a/b"), 1);
}

static void test_what_is_no_quota_is_none(void **state)
{
    static const char *const texts[] = {"max 100000\n", "", "x", "5", "100 0", "0 100", "18446744073709551615 1", NULL};
    (void)state;
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        quota_write("/a/b", texts[i]);
        assert_int_equal(cpus_granted(root, "/a/b"), 0);
    }
}

/* A unit of systemd has no quota of its own, but the slice it stands in may have one. */
static void test_the_least_on_the_way_to_the_root_counts(void **state)
{
    (void)state;
    quota_write("/a/b", "max 100000\n");
    quota_write("/a", "300000 100000\n");
    assert_int_equal(cpus_granted(root, "/a/b"), 3);
    quota_write("/a/b", "400000 100000\n");
    assert_int_equal(cpus_granted(root, "/a/b"), 3);
    quota_write("", "200000 100000\n");
    assert_int_equal(cpus_granted(root, "/a/b"), 2);
    assert_int_equal(cpus_granted(root, "/"), 2);
    assert_int_equal(cpus_granted(root, "/gone/c"), 2);
}

static void test_affinity_is_heeded(void **state)
{
    cpu_set_t before;
    cpu_set_t one;
    (void)state;
    assert_int_equal(sched_getaffinity(0, sizeof(before), &before), 0);
    assert_in_range(cpus_usable(), 1, CPU_COUNT(&before));
    CPU_ZERO(&one);
    for (size_t cpu = 0; CPU_COUNT(&one) == 0; cpu++) {
        if (CPU_ISSET(cpu, &before)) {
            CPU_SET(cpu, &one);
        }
    }
    assert_int_equal(sched_setaffinity(0, sizeof(one), &one), 0);
    assert_int_equal(cpus_usable(), 1);
    assert_int_equal(sched_setaffinity(0, sizeof(before), &before), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_quota_is_rounded_up, root_make, root_remove),
        cmocka_unit_test_setup_teardown(test_what_is_no_quota_is_none, root_make, root_remove),
        cmocka_unit_test_setup_teardown(test_the_least_on_the_way_to_the_root_counts, root_make, root_remove),
        cmocka_unit_test(test_affinity_is_heeded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

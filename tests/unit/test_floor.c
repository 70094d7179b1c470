/*
 * test_floor: when free memory counts as short (worker/floor.c), with files in place of the kernel's.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/limits.h"
#include "worker/floor.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char root[64];

static void file_write(const char *name, const char *text)
{
    char path[128];
    snprintf(path, sizeof(path), "%s/%s", root, name);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static int root_make(void **state)
{
    char path[128];
    (void)state;
    memcpy(root, "/tmp/quern-test-XXXXXX", sizeof("/tmp/quern-test-XXXXXX"));
    assert_non_null(mkdtemp(root));
    snprintf(path, sizeof(path), "%s/a", root);
    return mkdir(path, 0700);
}

static int root_remove(void **state)
{
    static const char *const names[] = {
        "a/memory.max", "a/memory.current", "a/memory.stat", "memory.max", "memory.current",
        "meminfo",      "mounts",           "own",           "a",          ""};
    (void)state;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        char path[128];
        snprintf(path, sizeof(path), "%s/%s", root, names[i]);
        (void)remove(path);
    }
    return 0;
}

static struct floor floor_of(const char *word)
{
    struct floor floor;
    struct floor_plan plan;
    file_write("meminfo", "MemTotal: 4194304 kB\nMemFree: 1 kB\nMemAvailable: 2097152 kB\n");
    if (word == NULL) {
        plan = (struct floor_plan){.percent = FLOOR_PERCENT, .is_default = true};
    } else {
        assert_true(floor_read(word, &plan));
    }
    floor_init(&floor, &plan, root);
    memcpy(floor.cgroup.root, root, sizeof(root));
    memcpy(floor.cgroup.path, "/a", 3);
    return floor;
}

/* Just above the floor, the next task would bring it below again. */
static void test_what_is_short_stays_so_until_a_good_deal_more_is_free(void **state)
{
    (void)state;
    struct floor floor = {.size = 800 * MIB};
    assert_false(floor_judge(&floor, 800 * MIB, 1000));
    assert_false(floor.is_short);
    assert_true(floor_judge(&floor, 800 * MIB - 1, 2000));
    assert_true(floor.is_short && floor.short_ms == 2000);
    assert_false(floor_judge(&floor, 900 * MIB - 1, 3000));
    assert_true(floor.is_short && floor.short_ms == 2000);
    assert_true(floor_judge(&floor, 900 * MIB, 4000));
    assert_false(floor.is_short);
    assert_true(floor_judge(&floor, 0, 5000)); /* short anew, and the time counts anew */
    assert_int_equal(floor.short_ms, 5000);
}

/* Reading /proc/meminfo takes as long as ten short tasks. */
static void test_it_is_looked_at_in_a_bounded_rate(void **state)
{
    (void)state;
    struct floor floor = floor_of("3G");
    assert_true(floor_look(&floor, 1000));
    assert_true(floor.is_short);
    file_write("meminfo", "MemAvailable: 4194304 kB\n");
    assert_false(floor_look(&floor, 1000 + FLOOR_LOOK_SHORT_MS - 1));
    assert_true(floor_look(&floor, 1000 + FLOOR_LOOK_SHORT_MS));
    assert_false(floor.is_short);
    file_write("meminfo", "MemAvailable: 1 kB\n");
    assert_false(floor_look(&floor, 1000 + FLOOR_LOOK_SHORT_MS + FLOOR_LOOK_MS - 1));
    assert_true(floor_look(&floor, 1000 + FLOOR_LOOK_SHORT_MS + FLOOR_LOOK_MS));
}

/* The host may have plenty while the cgroup of the worker, or one above it, is used up. */
static void test_the_least_that_a_cgroup_grants_counts(void **state)
{
    (void)state;
    struct floor floor = floor_of("1G");
    file_write("a/memory.max", "max\n");
    file_write("a/memory.current", "9999999999\n");
    assert_false(floor_look(&floor, 1000));
    assert_true(floor.free == 2048 * MIB);
    file_write("a/memory.max", "1610612736\n"); /* 1536 MiB */
    file_write("a/memory.current", "1073741824\n");
    assert_true(floor_look(&floor, 2000));
    assert_true(floor.free == 512 * MIB);
    file_write("a/memory.stat", "anon 5\ninactive_file 1073741824\nactive_file 7\n");
    assert_true(floor_look(&floor, 3000)); /* it only holds files, and can give them up */
    assert_true(floor.free == 1536 * MIB);
    file_write("memory.max", "1048576\n");
    file_write("memory.current", "2097152\n");
    assert_true(floor_look(&floor, 4000));
    assert_true(floor.free == 0);
}

static void test_what_cannot_be_told_holds_up_nothing(void **state)
{
    (void)state;
    struct floor floor = floor_of("1G");
    file_write("meminfo", "nonsense\n");
    assert_false(floor_look(&floor, 1000));
    assert_false(floor.is_short);
}

static void test_the_default_is_a_part_of_what_is_usable(void **state)
{
    (void)state;
    struct floor floor = floor_of(NULL);
    assert_true(floor.usable == 0 || floor.usable <= 4096 * MIB); /* the machine's own cgroups may grant less */
    assert_true(floor.size == floor.usable / 100 * FLOOR_PERCENT);
    struct floor_plan plan = {.percent = FLOOR_PERCENT, .is_default = true};
    file_write("meminfo", "MemTotal: 1073741824 kB\n");
    floor_init(&floor, &plan, root);
    assert_true(floor.size <= FLOOR_SIZE_MAX);
}

static void test_floors_are_bytes_or_a_percentage_or_none(void **state)
{
    static const char *const bad[] = {"", "-1", "101%", "5 %", "%", "x", "5%%", "1.5%", "1T"};
    struct floor_plan plan;
    (void)state;
    assert_true(floor_read("500M", &plan) && plan.size == 500 * MIB && plan.percent == 0 && !plan.is_default);
    assert_true(floor_read("100%", &plan) && plan.size == 0 && plan.percent == 100);
    assert_true(floor_read("0", &plan) && plan.size == 0 && plan.percent == 0);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_false(floor_read(bad[i], &plan));
    }
    struct floor floor = floor_of("0");
    assert_false(floor_look(&floor, 1000));
    assert_false(floor.is_short);
}

/* ---- where a process stands (worker/cgroup.c) ---- */

static bool find(const char *mounts, const char *own, struct cgroup *cgroup)
{
    char paths[2][128];
    file_write("mounts", mounts);
    file_write("own", own);
    snprintf(paths[0], sizeof(paths[0]), "%s/mounts", root);
    snprintf(paths[1], sizeof(paths[1]), "%s/own", root);
    return cgroup_find(paths[0], paths[1], cgroup);
}

static void test_a_cgroup_is_found_where_it_is_mounted(void **state)
{
    (void)state;
    struct cgroup cgroup;
    const char *v1 = "30 24 0:26 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n";
    char both[256];
    assert_false(find(v1, "4:memory:/x\n0::/\n", &cgroup));
    snprintf(both, sizeof(both), "%s31 24 0:27 / /sys/fs/cgroup/unified rw,relatime shared:9 - cgroup2 cgroup2 rw\n",
             v1);
    assert_true(find(both, "4:memory:/x\n0::/\n", &cgroup));
    assert_string_equal(cgroup.root, "/sys/fs/cgroup/unified");
    assert_string_equal(cgroup.path, "/");
    assert_true(find(both, "0::/system.slice/quern-worker.service\n", &cgroup));
    assert_string_equal(cgroup.path, "/system.slice/quern-worker.service");
    assert_false(find(both, "4:memory:/x\n", &cgroup));
    /* A container that sees its own part only: */
    const char *part = "31 24 0:27 /docker/1 /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
    assert_true(find(part, "0::/docker/1/a\n", &cgroup));
    assert_string_equal(cgroup.path, "/a");
    assert_true(find(part, "0::/docker/1\n", &cgroup));
    assert_string_equal(cgroup.path, "/");
    /* and one that is not part of what is mounted there. */
    assert_false(find(part, "0::/docker/12\n", &cgroup));
    assert_false(find(both, "0::/../outside\n", &cgroup));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_is_short_stays_so_until_a_good_deal_more_is_free),
        cmocka_unit_test_setup_teardown(test_it_is_looked_at_in_a_bounded_rate, root_make, root_remove),
        cmocka_unit_test_setup_teardown(test_the_least_that_a_cgroup_grants_counts, root_make, root_remove),
        cmocka_unit_test_setup_teardown(test_what_cannot_be_told_holds_up_nothing, root_make, root_remove),
        cmocka_unit_test_setup_teardown(test_the_default_is_a_part_of_what_is_usable, root_make, root_remove),
        cmocka_unit_test_setup_teardown(test_floors_are_bytes_or_a_percentage_or_none, root_make, root_remove),
        cmocka_unit_test_setup_teardown(test_a_cgroup_is_found_where_it_is_mounted, root_make, root_remove),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

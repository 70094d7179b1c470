/*
 * test_groups: making and removing the cgroups of a worker (worker/groups.c), on plain directories: what the kernel
 * does with real ones, story_cgroup.py looks at.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "worker/groups.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char root[64];

static int root_make(void **state)
{
    (void)state;
    memcpy(root, "/tmp/quern-test-XXXXXX", sizeof("/tmp/quern-test-XXXXXX"));
    return mkdtemp(root) == NULL;
}

static int root_remove(void **state)
{
    (void)state;
    return rmdir(root); /* fails if a test has left anything there */
}

static size_t count_entries(void)
{
    size_t count = 0;
    DIR *entries = opendir(root);
    assert_non_null(entries);
    for (const struct dirent *entry = readdir(entries); entry != NULL; entry = readdir(entries)) {
        count += entry->d_name[0] != '.';
    }
    closedir(entries);
    return count;
}

static void make(const char *format, int number)
{
    char path[128];
    char name[64];
    snprintf(name, sizeof(name), format, number);
    snprintf(path, sizeof(path), "%s/%s", root, name);
    assert_int_equal(mkdir(path, 0700), 0);
}

static void test_a_worker_leaves_nothing_behind(void **state)
{
    (void)state;
    struct groups groups;
    groups_open(&groups, root, false);
    assert_int_equal(groups.use, GROUPS_KILL); /* nobody hands out memory here */
    assert_int_equal(count_entries(), 1);
    groups_close(&groups);
    assert_int_equal(count_entries(), 0);
    groups_close(&groups);
}

static void test_what_a_killed_worker_left_is_removed_by_the_next(void **state)
{
    (void)state;
    struct groups groups;
    make("quern-worker-%d", 7);
    make("quern-worker-7/slot-%d", 8);
    make("quern-worker-7/slot-8/quern-worker-%d", 9); /* of a worker that a task had started */
    make("other-%d", 7);
    groups_open(&groups, root, false);
    assert_int_equal(count_entries(), 2);
    groups_close(&groups);
    assert_int_equal(count_entries(), 1);
    char path[128];
    snprintf(path, sizeof(path), "%s/other-7", root);
    assert_int_equal(rmdir(path), 0);
}

static void test_a_living_one_is_left_alone(void **state)
{
    (void)state;
    struct groups groups;
    int ready[2];
    int life[2];
    char byte;
    assert_int_equal(pipe(ready), 0);
    assert_int_equal(pipe(life), 0);
    pid_t pid = fork();
    if (pid == 0) {
        struct groups theirs;
        close(life[1]);
        groups_open(&theirs, root, false);
        (void)!write(ready[1], "", 1);
        (void)!read(life[0], &byte, 1);
        _exit(theirs.use == GROUPS_KILL ? 0 : 1); /* as if killed: it closes nothing */
    }
    close(life[0]);
    assert_int_equal(read(ready[0], &byte, 1), 1);
    groups_open(&groups, root, false);
    assert_int_equal(count_entries(), 2);
    groups_close(&groups);
    assert_int_equal(count_entries(), 1);
    close(life[1]);
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    groups_open(&groups, root, false);
    assert_int_equal(count_entries(), 1);
    groups_close(&groups);
    close(ready[0]);
    close(ready[1]);
}

static void test_where_it_may_not_write_there_are_none_and_it_says_so(void **state)
{
    (void)state;
    struct groups groups;
    struct group group;
    groups_open(&groups, "/nowhere", false);
    assert_int_equal(groups.use, GROUPS_NONE);
    assert_string_equal(groups.why, "not writable here");
    group_open(&group, &groups, 1);
    assert_false(group_kill(&group));
    assert_false(group_end(&group).was_killed);
    group_limit(&group, 1, 0);
    group_close(&group, &groups);
    groups_close(&groups);
    groups_open(&groups, root, true);
    assert_int_equal(count_entries(), 0);
    groups_close(&groups);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_worker_leaves_nothing_behind, root_make, root_remove),
        cmocka_unit_test_setup_teardown(test_what_a_killed_worker_left_is_removed_by_the_next, root_make, root_remove),
        cmocka_unit_test_setup_teardown(test_a_living_one_is_left_alone, root_make, root_remove),
        cmocka_unit_test_setup_teardown(test_where_it_may_not_write_there_are_none_and_it_says_so, root_make,
                                        root_remove),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

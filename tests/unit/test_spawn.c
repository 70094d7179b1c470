/*
 * Starting a program: what was planned is done before it runs, and if a step could not be kept, nothing runs.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

static char *const ENVIRONMENT[] = {NULL};

static void test_what_is_planned_is_done(void **state)
{
    (void)state;
    char word[8] = {0};
    char *const argv[] = {"sh", "-c", "printf %s \"${PWD#/}\"", NULL};
    int ends[2];
    pid_t pid = 0;
    int status = -1;
    struct spawn_plan plan;
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    spawn_plan_init(&plan);
    spawn_plan_open(&plan, STDIN_FILENO, "/dev/null", O_RDONLY);
    spawn_plan_chdir(&plan, "/proc");
    spawn_plan_dup(&plan, ends[1], STDOUT_FILENO);
    spawn_plan_close_from(&plan, STDERR_FILENO + 1);
    assert_int_equal(spawn_program(&pid, "/bin/sh", &plan, argv, ENVIRONMENT), 0);
    close(ends[1]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    assert_int_equal(read(ends[0], word, sizeof word - 1), 4);
    assert_string_equal(word, "proc");
    close(ends[0]);
}

/* As when there is no memory for it. */
static void test_nothing_is_started_without_a_step_that_could_not_be_kept(void **state)
{
    (void)state;
    char *const argv[] = {"true", NULL};
    pid_t pid = 0;
    struct spawn_plan plan;
    spawn_plan_init(&plan);
    spawn_plan_dup(&plan, -1, STDOUT_FILENO);
    spawn_plan_open(&plan, STDIN_FILENO, "/dev/null", O_RDONLY);
    assert_int_equal(spawn_program(&pid, "/bin/true", &plan, argv, ENVIRONMENT), EBADF);
    assert_int_equal(pid, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_is_planned_is_done),
        cmocka_unit_test(test_nothing_is_started_without_a_step_that_could_not_be_kept),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

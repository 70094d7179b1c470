/*
 * test_reaper: dead children and what they leave behind (worker/reaper.c). We are a subreaper here, as those are that
 * use it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "worker/reaper.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define PATIENCE_MS 10000 /* the safety net */

/* A child with a child of its own, each in a session of its own. */
struct family {
    pid_t child;
    pid_t grandchild;
};

static void live(void)
{
    for (;;) {
        pause();
    }
}

static struct family family_make(void)
{
    int told[2];
    struct family family = {0};
    assert_int_equal(pipe(told), 0);
    family.child = fork();
    if (family.child == 0) {
        setsid();
        pid_t pid = fork();
        if (pid == 0) {
            setsid();
            live();
        }
        (void)!write(told[1], &pid, sizeof(pid));
        live();
    }
    assert_int_equal(read(told[0], &family.grandchild, sizeof(pid_t)), sizeof(pid_t));
    close(told[0]);
    close(told[1]);
    return family;
}

static bool is_known(void *self, pid_t pid)
{
    return pid == *(const pid_t *)self;
}

static void family_end(const struct family *family)
{
    assert_int_equal(kill(family->grandchild, SIGKILL), 0);
    assert_int_equal(kill(family->child, SIGKILL), 0);
    assert_int_equal(waitpid(family->child, NULL, 0), family->child);
    assert_int_equal(waitpid(family->grandchild, NULL, 0), family->grandchild);
}

/* Who is born for one that is missing is born as often as one is killed: nobody may die before all stand still. */
static void test_a_family_is_stopped_as_a_whole_and_dies_as_a_whole(void **state)
{
    (void)state;
    struct family family = family_make();
    pid_t nobody = 0;
    int status = 0;
    assert_true(reaper_freeze_strays(is_known, &nobody));
    assert_int_equal(waitpid(family.child, &status, 0), family.child);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    /* Without another look: it was killed as a descendant, before it came to us. */
    struct pollfd end = {.fd = (int)syscall(SYS_pidfd_open, family.grandchild, 0), .events = POLLIN};
    bool is_dead = poll(&end, 1, PATIENCE_MS) > 0;
    close(end.fd);
    kill(family.grandchild, SIGKILL);
    assert_int_equal(waitpid(family.grandchild, &status, 0), family.grandchild);
    assert_true(is_dead);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    assert_false(reaper_freeze_strays(is_known, &nobody));
}

static void test_what_is_known_is_left_alone_with_all_below_it(void **state)
{
    (void)state;
    struct family family = family_make();
    int status = 0;
    assert_false(reaper_freeze_strays(is_known, &family.child));
    assert_false(reaper_kill_strays(is_known, &family.child));
    assert_int_equal(waitpid(family.child, &status, WNOHANG | WUNTRACED), 0); /* neither dead nor stopped */
    family_end(&family);
}

static void test_a_death_is_not_reported_while_something_of_it_lives(void **state)
{
    (void)state;
    static struct deaths deaths;
    struct family family = family_make();
    pid_t nobody = 0;
    deaths_add(&deaths, &(struct reaped){.pid = 7}, 1000);
    assert_false(deaths_are_complete(&deaths, is_known, &nobody, 1000));
    assert_int_equal(waitpid(family.child, NULL, 0), family.child); /* now the grandchild comes to us */
    assert_false(deaths_are_complete(&deaths, is_known, &nobody, 1001));
    assert_int_equal(waitpid(family.grandchild, NULL, 0), family.grandchild);
    assert_true(deaths_are_complete(&deaths, is_known, &nobody, 1002));
    assert_false(deaths.list[0].is_survived);
}

static void test_what_cannot_be_killed_is_said_in_the_report(void **state)
{
    (void)state;
    static struct deaths deaths;
    struct family family = family_make();
    pid_t nobody = 0;
    deaths_add(&deaths, &(struct reaped){.pid = 7}, 1000);
    assert_false(deaths_are_complete(&deaths, is_known, &nobody, 1000 + REAPER_STRAYS_MS - 1));
    assert_true(deaths_are_complete(&deaths, is_known, &nobody, 1000 + REAPER_STRAYS_MS)); /* still not reaped */
    assert_true(deaths.list[0].is_survived);
    while (waitpid(-1, NULL, 0) > 0 || errno == EINTR) {
    }
    (void)family;
}

static int become_subreaper(void **state)
{
    (void)state;
    alarm(6 * PATIENCE_MS / 1000); /* what a failed test leaves must not be waited for by the next */
    return prctl(PR_SET_CHILD_SUBREAPER, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_family_is_stopped_as_a_whole_and_dies_as_a_whole),
        cmocka_unit_test(test_what_is_known_is_left_alone_with_all_below_it),
        cmocka_unit_test(test_a_death_is_not_reported_while_something_of_it_lives),
        cmocka_unit_test(test_what_cannot_be_killed_is_said_in_the_report),
    };
    return cmocka_run_group_tests(tests, become_subreaper, NULL);
}

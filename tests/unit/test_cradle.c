/*
 * test_cradle: the process between, in which slots are born into their cgroup (worker/cradle.c). What needs a cgroup
 * that may be written is skipped, and says so, where there is none.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "worker/cgroup.h"
#include "worker/cradle.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char directory[PATH_MAX];
static unsigned forked; /* seen by the handlers of pthread_atfork */

static void count_prepare(void)
{
    forked += 1;
}

static void count_parent(void)
{
    forked += 10;
}

static void count_child(void)
{
    forked += 100;
}

/* A cgroup below our own; its directory, open. */
static int group_open_own(void)
{
    struct cgroup own;
    char ours[PATH_MAX];
    if (!cgroup_own(&own) || !cgroup_first(&own, ours)) {
        return -1;
    }
    int size = snprintf(directory, sizeof(directory), "%s/quern-test-%d", ours, getpid());
    return size < PATH_MAX && mkdir(directory, 0755) == 0 ? open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
}

struct made {
    pid_t pid;
    int out[2];
};

/* What the child says of itself: its cgroup, and what its handlers have counted. */
static void child_say(int fd)
{
    char line[PATH_MAX + 32];
    struct cgroup own;
    bool is_found = cgroup_own(&own);
    int size = snprintf(line, sizeof(line), "%u %d %s", forked, getppid(), is_found ? own.path : "");
    _exit(write(fd, line, (size_t)size) == size ? 7 : 1);
}

static void make(void *self)
{
    struct made *made = self;
    made->pid = fork();
    if (made->pid == 0) {
        child_say(made->out[1]);
    }
}

/* It would be an orphan with a clone that fork knows nothing of, in the cgroup of its maker, after a dozen ms. */
static void test_what_is_forked_there_is_ours_and_a_true_fork_and_stands_there(void **state)
{
    (void)state;
    char line[PATH_MAX + 32];
    char path[PATH_MAX];
    unsigned seen = 0;
    int parent = 0;
    int status = 0;
    struct made made = {0};
    int group = group_open_own();
    if (group < 0) {
        print_message("no cgroup of v2 may be written here: births in one are not shown\n");
        skip();
    }
    assert_int_equal(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
    assert_int_equal(pipe(made.out), 0);
    assert_int_equal(pthread_atfork(count_prepare, count_parent, count_child), 0);
    bool has_run = cradle_run(group, make, &made);
    int why = errno;
    close(made.out[1]);
    if (has_run) {
        ssize_t size = read(made.out[0], line, sizeof(line) - 1);
        assert_true(size > 0);
        line[size] = '\0';
        assert_int_equal(sscanf(line, "%u %d %s", &seen, &parent, path), 3);
        assert_int_equal(waitpid(made.pid, &status, 0), made.pid);
    }
    close(made.out[0]);
    close(group);
    while (rmdir(directory) != 0 && errno == EBUSY) {
    }
    if (!has_run) {
        print_message("the kernel lets nobody be born in a cgroup here (%s)\n", strerror(why));
        skip();
    }
    assert_int_equal(WEXITSTATUS(status), 7);
    assert_int_equal(seen, 101);  /* prepare, child */
    assert_int_equal(forked, 11); /* prepare, parent: in our memory */
    assert_non_null(strstr(path, strrchr(directory, '/')));
    assert_int_equal(waitpid(-1, NULL, __WALL), -1); /* the process between was waited for */
}

static void count_call(void *self)
{
    ++*(unsigned *)self;
}

static void test_what_is_no_cgroup_makes_nothing(void **state)
{
    (void)state;
    unsigned calls = 0;
    int fd = open("/tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_false(cradle_run(fd, count_call, &calls));
    assert_false(cradle_run(-1, count_call, &calls));
    close(fd);
    assert_int_equal(calls, 0);
    assert_int_equal(waitpid(-1, NULL, __WALL), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_is_forked_there_is_ours_and_a_true_fork_and_stands_there),
        cmocka_unit_test(test_what_is_no_cgroup_makes_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

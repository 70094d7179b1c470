/*
 * Which state of a task may follow which: every pair is tried, in a process of its own, for a move that is not allowed
 * stops the broker with a report.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "broker/state.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#define STATE_FIRST TASK_DELAYED
#define STATE_LAST TASK_CANCELLED

/* "-" where a move is not allowed; from each row to each column, in the order of enum task_state. */
static const char allowed[][STATE_LAST + 1] = {
    /* delayed, waiting, ready, leased, running, backoff, done, failed, cancelled */
    [TASK_DELAYED] = "--xx--xxx", [TASK_WAITING] = "--x----xx", [TASK_READY] = "---x--xxx",
    [TASK_LEASED] = "--x-xxxxx",  [TASK_RUNNING] = "--x--xxxx", [TASK_BACKOFF] = "--xx--xxx",
    [TASK_DONE] = "---------",    [TASK_FAILED] = "---------",  [TASK_CANCELLED] = "---------",
};

static struct task *task_of(struct core *core)
{
    struct task_options option = task_options_default();
    struct buf options = {0};
    task_options_put(&options, &option);
    struct call *call =
        call_intern(core, bytes_text("default"), bytes_text("square"), buf_bytes(&options), &option, false);
    buf_fini(&options);
    return task_new(core, id_make(9, 1), session_new(core, bytes_of(NULL, 0), false), call, bytes_text("x"));
}

/* In a child: from one state, as if it were there by itself, to the other. Returns if it may. */
static void move(enum task_state from, enum task_state to)
{
    static struct update update;
    static struct worker worker;
    struct limits limits = limits_default();
    struct store_facts facts = {
        .epoch = 1, .was_clean = true, .meta = {.series_next = 1, .session_next = 1, .worker_next = 1, .call_next = 1}};
    struct core *core = core_open(&limits, &facts);
    update_init(&update);
    core_begin(core, 1000, 1000);
    core->update = &update;
    struct task *task = task_of(core);
    task->worker = &worker; /* what a held one needs */
    task->attempt = 1;
    task->state = (uint8_t)from;
    core->state_count[from]++;
    task_move(core, task, to);
}

/* What the report says is nobody's concern here. */
static bool may_move(enum task_state from, enum task_state to)
{
    int status = 0;
    pid_t pid = fork();
    if (pid == 0) {
        (void)dup2(open("/dev/null", O_WRONLY | O_CLOEXEC), STDERR_FILENO);
        move(from, to);
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true((WIFEXITED(status) && WEXITSTATUS(status) == 0) ||
                (WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT));
    return WIFEXITED(status);
}

static void test_only_the_arrows_of_the_diagram_may_be_taken_and_final_states_are_never_left(void **state)
{
    (void)state;
    for (unsigned from = STATE_FIRST; from <= STATE_LAST; from++) {
        for (unsigned to = STATE_FIRST; to <= STATE_LAST; to++) {
            if (may_move((enum task_state)from, (enum task_state)to) != (allowed[from][to - STATE_FIRST] == 'x')) {
                fail_msg("%s -> %s", task_state_word((enum task_state)from), task_state_word((enum task_state)to));
            }
        }
    }
}

static void test_done_failed_and_cancelled_are_final_and_no_other_is(void **state)
{
    (void)state;
    for (unsigned at = STATE_FIRST; at <= STATE_LAST; at++) {
        assert_int_equal(task_is_final((enum task_state)at),
                         at == TASK_DONE || at == TASK_FAILED || at == TASK_CANCELLED);
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_only_the_arrows_of_the_diagram_may_be_taken_and_final_states_are_never_left),
        cmocka_unit_test(test_done_failed_and_cancelled_are_final_and_no_other_is),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/*
 * test_postmortem: what is said of an attempt whose slot died or was stopped (worker/postmortem.c).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/limits.h"
#include "worker/postmortem.h"

#include <signal.h>
#include <string.h>

static struct attempt attempt = {.token = {.task = (uint64_t)7 << 32 | 42, .epoch = 1, .attempt = 1},
                                 .timeout_ms = 250};
static char text[DEATH_TEXT_SIZE];

static struct death death_of(enum stop stop, enum misdeed misdeed, int32_t status)
{
    return (struct death){
        .attempt = &attempt, .stop = stop, .misdeed = misdeed, .host = "here", .pid = 123, .status = status};
}

static void assert_says(const char *part)
{
    assert_non_null(strstr(text, part));
}

/* Who reads a failure finds the task, the place and the reason in one sentence. */
static void test_a_crash_names_task_process_and_signal(void **state)
{
    (void)state;
    struct death death = death_of(STOP_NONE, MISDEED_NONE, SIGSEGV);
    struct outcome outcome = postmortem(&death, text);
    assert_int_equal(outcome.cause, CAUSE_CRASHED);
    assert_int_equal(outcome.signal, SIGSEGV);
    assert_says("task 7-42: slot 123 on here died of signal 11");
    death = death_of(STOP_NONE, MISDEED_NONE, 3 << 8);
    outcome = postmortem(&death, text);
    assert_int_equal(outcome.exit_status, 3);
    assert_says("exited with status 3");
}

/* A slot dies of a stop by some signal, which is of no interest: it was told to. */
static void test_a_stop_counts_more_than_how_the_slot_died_of_it(void **state)
{
    (void)state;
    struct death death = death_of(STOP_TIMEOUT, MISDEED_HUNG_UP, SIGKILL);
    struct outcome outcome = postmortem(&death, text);
    assert_int_equal(outcome.state, FINISHED_FAILED);
    assert_int_equal(outcome.cause, CAUSE_TIMEOUT);
    assert_int_equal(outcome.signal, 0);
    assert_says("its timeout of 250 ms");
    death = death_of(STOP_KILLED, MISDEED_NONE, SIGSEGV);
    outcome = postmortem(&death, text);
    assert_int_equal(outcome.state, FINISHED_KILLED);
    assert_int_equal(outcome.cause, CAUSE_NONE);
}

/* "Signal 9" would send its author looking for who sent it. */
static void test_what_we_killed_a_slot_for_is_said_instead_of_our_signal(void **state)
{
    (void)state;
    struct death death = death_of(STOP_NONE, MISDEED_HUNG_UP, SIGKILL);
    struct outcome outcome = postmortem(&death, text);
    assert_int_equal(outcome.cause, CAUSE_CRASHED);
    assert_int_equal(outcome.signal, 0);
    assert_says("closed its connection");
    death = death_of(STOP_NONE, MISDEED_SCRIBBLED, DEATH_UNKNOWN);
    (void)postmortem(&death, text);
    assert_says("wrote over memory");
    death = death_of(STOP_NONE, MISDEED_SCRIBBLED, SIGSEGV); /* it was faster than we */
    outcome = postmortem(&death, text);
    assert_int_equal(outcome.signal, SIGSEGV);
    assert_says("signal 11");
}

/* Its own limit is a failed attempt of its own; the host's end of memory is a crash, by its signal (the broker's
 * table), and a guess stays a guess. */
static void test_who_was_killed_for_memory_says_for_whose(void **state)
{
    (void)state;
    struct death death = death_of(STOP_NONE, MISDEED_HUNG_UP, SIGKILL); /* it died slowly */
    death.oom = OOM_OWN_LIMIT;
    death.memory_limit.task = 100 * MIB;
    death.group = (struct group_end){.was_killed = true, .was_own = true, .peak = 120 * MIB};
    struct outcome outcome = postmortem(&death, text);
    assert_int_equal(outcome.cause, CAUSE_MEMORY);
    assert_int_equal(outcome.signal, 0);
    assert_int_equal(outcome.peak, 120 * 1024);
    assert_says("it had taken 120.0 MiB of memory, and may take 100.0 MiB");
    death.oom = OOM_HOST;
    outcome = postmortem(&death, text);
    assert_int_equal(outcome.cause, CAUSE_MEMORY);
    assert_int_equal(outcome.signal, SIGKILL);
    assert_says("which had no memory left");
    death = death_of(STOP_NONE, MISDEED_NONE, SIGKILL);
    death.oom = OOM_PROBABLY;
    outcome = postmortem(&death, text);
    assert_int_equal(outcome.cause, CAUSE_CRASHED);
    assert_int_equal(outcome.signal, SIGKILL);
    assert_says("killed, probably by the kernel's memory killer");
    death.stop = STOP_TIMEOUT; /* we had told it to end */
    death.oom = OOM_OWN_LIMIT;
    assert_int_equal(postmortem(&death, text).cause, CAUSE_TIMEOUT);
}

/* Whoever reads the outcome must not believe that the machine is clean. */
static void test_what_outlives_its_task_is_said(void **state)
{
    (void)state;
    struct death death = death_of(STOP_KILLED, MISDEED_NONE, SIGKILL);
    (void)postmortem(&death, text);
    assert_null(strstr(text, "could not be killed"));
    death.is_survived = true;
    struct outcome outcome = postmortem(&death, text);
    assert_says("was killed as asked");
    assert_says("something that it had started could not be killed, and may still run");
    assert_int_equal(outcome.message.n, strlen(text));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_crash_names_task_process_and_signal),
        cmocka_unit_test(test_a_stop_counts_more_than_how_the_slot_died_of_it),
        cmocka_unit_test(test_what_we_killed_a_slot_for_is_said_instead_of_our_signal),
        cmocka_unit_test(test_who_was_killed_for_memory_says_for_whose),
        cmocka_unit_test(test_what_outlives_its_task_is_said),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

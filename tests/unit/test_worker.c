/*
 * test_worker: a real quern-worker with its zygote and slots against a broker of a few lines (worker_world.c). What its
 * functions and commands may do is in test_worker_calls.
 * Start reading anywhere.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/clock.h"
#include "common/random.h"
#include "unit/worker_world.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static bool slots_are_idle_after(struct world *world, uint64_t count)
{
    return world->finished >= count;
}

/* ---- results ---- */

static void test_function_runs_and_its_result_comes_back(void **state)
{
    (void)state;
    struct world *world = ww_begin_with("1");
    ww_dispatch_i64(world, 1, "square", 12);
    ww_await(world, ww_is_finished, 1, "square");
    assert_int_equal(ww_result_i64(world, 1), 144);
    assert_true(world->tasks[1].last.pid > 0);
    assert_true(world->tasks[1].last.started > 0);
    assert_int_equal(ww_end(&world), 0);
}

/* What overflows is an error, never a wrong number. */
static void test_overflow_is_an_error(void **state)
{
    (void)state;
    struct world *world = ww_begin_with("1");
    ww_dispatch_i64(world, 1, "cube", 3000000);
    ww_await(world, ww_is_finished, 1, "cube");
    assert_int_equal(world->tasks[1].last.state, FINISHED_FAILED);
    assert_int_equal(world->tasks[1].last.cause, CAUSE_ERROR);
    assert_string_equal(world->tasks[1].kind, "Overflow");
    ww_dispatch_i64(world, 2, "divide", 0);
    ww_await(world, ww_is_finished, 2, "divide");
    assert_string_equal(world->tasks[2].kind, "DivisionByZero");
    ww_dispatch(world, 3, &(struct ww_call){.function = "square"}, NULL);
    ww_await(world, ww_is_finished, 3, "square of nothing");
    assert_string_equal(world->tasks[3].kind, "BadArguments");
    assert_int_equal(ww_end(&world), 0);
}

/* Thousands of short tasks go through in batches, every one once. */
static void test_many_short_tasks_each_end_once(void **state)
{
    (void)state;
    struct world *world = ww_begin_with("2");
    uint64_t count = 10000;
    for (uint64_t first = 1; first <= count; first += 500) {
        ww_dispatch_run(world, first, 500, "square");
    }
    ww_await(world, ww_all_ended, count, "10000 squares");
    for (uint64_t task = 1; task <= count; task++) {
        assert_int_equal(world->tasks[task].finished, 1);
        assert_int_equal(ww_result_i64(world, task), (int64_t)(task * task));
    }
    assert_true(world->capacity > 100); /* it has seen that they are short */
    assert_int_equal(ww_end(&world), 0);
}

static void test_payload_of_16_mib_goes_both_ways(void **state)
{
    (void)state;
    struct world *world = ww_begin_with("1");
    size_t size = PAYLOAD_SIZE_MAX - 16;
    char *text = malloc(size);
    assert_non_null(text);
    memset(text, 'x', size);
    struct quern_writer *args = quern_writer_new();
    quern_write_array(args, 1);
    quern_write_bin(args, text, size);
    ww_dispatch(world, 1, &(struct ww_call){.function = "echo"}, args);
    ww_await(world, ww_is_finished, 1, "echo");
    assert_int_equal(world->tasks[1].last.state, FINISHED_DONE);
    struct quern_reader reader;
    const void *p;
    size_t n;
    quern_reader_init(&reader, world->tasks[1].result.p, world->tasks[1].result.n);
    assert_int_equal(quern_read_bin(&reader, &p, &n), QUERN_OK);
    assert_int_equal(n, size);
    assert_memory_equal(p, text, size);
    free(text);
    assert_int_equal(ww_end(&world), 0);
}

/* ---- crashes ---- */

static void test_crash_costs_one_attempt_and_names_it(void **state)
{
    (void)state;
    struct world *world = ww_begin_with("1");
    ww_dispatch(world, 1, &(struct ww_call){.function = "crash"}, NULL);
    ww_await(world, ww_is_finished, 1, "crash");
    const struct seen *seen = &world->tasks[1];
    assert_int_equal(seen->last.state, FINISHED_FAILED);
    assert_int_equal(seen->last.cause, CAUSE_CRASHED);
    assert_int_equal(seen->last.signal, SIGSEGV);
    char words[64];
    snprintf(words, sizeof(words), "task 0-1: slot %d on ", (int)seen->last.pid);
    assert_non_null(strstr(seen->message, words));
    assert_non_null(strstr(seen->message, "signal 11"));
    ww_dispatch_i64(world, 2, "square", 3);
    ww_await(world, ww_is_finished, 2, "square after the crash");
    assert_int_equal(ww_result_i64(world, 2), 9);
    assert_int_not_equal(world->tasks[2].last.pid, seen->last.pid);
    assert_int_equal(ww_end(&world), 0);
}

static void test_exit_is_a_crash_with_its_status(void **state)
{
    (void)state;
    struct world *world = ww_begin_with("1");
    ww_dispatch_i64(world, 1, "exit", 3);
    ww_await(world, ww_is_finished, 1, "exit");
    assert_int_equal(world->tasks[1].last.cause, CAUSE_CRASHED);
    assert_int_equal(world->tasks[1].last.exit_status, 3);
    assert_non_null(strstr(world->tasks[1].message, "status 3"));
    assert_int_equal(ww_end(&world), 0);
}

/* All of first..last have finished; what the worker gave back, finding that it would wait for long, is dispatched
 * again. */
static bool are_finished(struct world *world, uint64_t first, uint64_t last, const char *function)
{
    bool is_done = true;
    for (uint64_t task = first; task <= last; task++) {
        if (world->conn != 0 && !world->tasks[task].is_out && world->tasks[task].finished == 0) {
            ww_dispatch_run(world, task, 1, function);
        }
        is_done = is_done && world->tasks[task].finished > 0;
    }
    return is_done;
}

#define CRASH_TASK 501u

static bool squares_and_crash_are_finished(struct world *world, uint64_t last)
{
    bool is_crashed = are_finished(world, CRASH_TASK, CRASH_TASK, "crash");
    return are_finished(world, 1, last, "square") && is_crashed;
}

/* What was finished before the crash counts, what had not started runs elsewhere: only one attempt is lost. */
static void test_crash_amid_short_tasks_costs_only_itself(void **state)
{
    (void)state;
    struct world *world = ww_begin_with("1");
    ww_dispatch_run(world, 1, 500, "square");
    ww_dispatch(world, CRASH_TASK, &(struct ww_call){.function = "crash"}, NULL);
    ww_dispatch_run(world, 502, 500, "square");
    ww_await(world, squares_and_crash_are_finished, 1001, "squares around a crash");
    for (uint64_t task = 1; task <= 1001; task++) {
        assert_int_equal(world->tasks[task].finished, 1);
        assert_int_equal(world->tasks[task].last.state, task == CRASH_TASK ? FINISHED_FAILED : FINISHED_DONE);
    }
    assert_int_equal(ww_end(&world), 0);
}

/* The slot that sent the newest outcome among first..last; 0: none yet. */
static pid_t slot_seen(struct world *world, uint64_t first, uint64_t last)
{
    for (uint64_t task = last; task >= first; task--) {
        if (world->tasks[task].finished > 0 && world->tasks[task].last.state == FINISHED_DONE) {
            return (pid_t)world->tasks[task].last.pid;
        }
    }
    return 0;
}

#define FACTORIAL_BASE 15000u /* of these on, a factorial takes milliseconds */

static bool factorials_are_done(struct world *world, uint64_t last)
{
    return are_finished(world, FACTORIAL_BASE + 1, last, "factorial");
}

/* Slots killed at any moment: every attempt still ends once, and each kill costs at most one. */
static void test_killed_slots_cost_one_attempt_each(void **state)
{
    (void)state;
    struct world *world = ww_begin_with("2");
    unsigned kills = 0;
    uint64_t first = FACTORIAL_BASE + 1;
    for (; first <= FACTORIAL_BASE + 600; first += 20) {
        unsigned before = world->finished;
        ww_dispatch_run(world, first, 20, "factorial");
        ww_await(world, slots_are_idle_after, before + 1, "a factorial");
        pid_t pid = slot_seen(world, first, first + 19);
        kills += pid > 0 && kill(pid, SIGKILL) == 0;
        ww_await(world, factorials_are_done, first + 19, "twenty factorials");
    }
    unsigned failed = 0;
    for (uint64_t task = FACTORIAL_BASE + 1; task < first; task++) {
        assert_int_equal(world->tasks[task].finished, 1);
        if (world->tasks[task].last.state == FINISHED_FAILED) {
            assert_int_equal(world->tasks[task].last.cause, CAUSE_CRASHED);
            assert_int_equal(world->tasks[task].last.signal, SIGKILL);
            failed++;
        }
    }
    print_message("%u kills hit %u attempts\n", kills, failed);
    assert_true(failed > 0);
    assert_true(failed <= kills);
    assert_int_equal(ww_end(&world), 0);
}

/* The zygote's death costs no attempt: what runs goes on, and new slots come from a new zygote. */
static void test_zygote_death_costs_no_attempt(void **state)
{
    (void)state;
    struct world *world = ww_begin_with("2");
    ww_dispatch_f64(world, 1, "sleep", 0.5);
    ww_dispatch_shell(world, 2, "sleep 0.5; echo survived", 0);
    ww_await(world, ww_is_started, 1, "sleep to start");
    ww_await(world, ww_is_started, 2, "command to start");
    assert_int_equal(kill(ww_zygote_of(world->worker), SIGKILL), 0);
    ww_await(world, ww_is_finished, 1, "sleep");
    ww_await(world, ww_is_finished, 2, "command");
    assert_int_equal(world->tasks[1].last.state, FINISHED_DONE);
    assert_string_equal(ww_result_text(world, 2, "stdout"), "survived\n");
    for (uint64_t task = 3; task < 8; task++) {
        ww_dispatch(world, task, &(struct ww_call){.function = "crash"}, NULL);
        ww_await(world, ww_is_finished, task, "crash after the zygote's death");
    }
    ww_dispatch_i64(world, 8, "square", 5);
    ww_await(world, ww_is_finished, 8, "square");
    assert_int_equal(ww_result_i64(world, 8), 25);
    assert_int_equal(ww_end(&world), 0);
}

/* A slot that dies while no zygote stands behind it is reaped by the supervisor, and named as well. */
static void test_slot_death_without_zygote_is_seen(void **state)
{
    (void)state;
    struct world *world = ww_begin_with("1");
    ww_dispatch_f64(world, 1, "sleep", 30);
    ww_await(world, ww_is_started, 1, "sleep to start");
    assert_int_equal(kill(ww_zygote_of(world->worker), SIGKILL), 0);
    ww_serve_for(world, 100);
    assert_int_equal(kill(world->tasks[1].started_pid, SIGKILL), 0);
    ww_await(world, ww_is_finished, 1, "sleep's end");
    assert_int_equal(world->tasks[1].last.cause, CAUSE_CRASHED);
    assert_int_equal(world->tasks[1].last.signal, SIGKILL);
    assert_int_equal(ww_end(&world), 0);
}

/* ---- dying ---- */

static const char detached[] = "setsid sh -c 'sleep 1000 & sleep 1000' > /dev/null 2>&1 & (sleep 1000 &) ; sleep 1000";

static void kill_worker(struct world *world)
{
    pid_t pid = world->worker;
    world->worker = 0;
    assert_int_equal(kill(pid, SIGKILL), 0);
}

/* When the supervisor alone is killed, nothing of it is left within 2 s, detached grandchildren included. */
static void test_supervisor_death_leaves_nothing(void **state)
{
    (void)state;
    struct world *world = ww_begin_with("3");
    ww_dispatch_shell(world, 1, detached, 0);
    ww_dispatch_f64(world, 2, "sleep", 1000);
    ww_await(world, ww_is_started, 1, "command to start");
    ww_await(world, ww_is_started, 2, "sleep to start");
    ww_serve_for(world, 100);
    assert_true(ww_process_count(world) >= 9);
    kill_worker(world);
    ww_await_no_process(world, 2000);
    (void)ww_end(&world);
}

/* The same after a zygote has died and was replaced. */
static void test_supervisor_death_after_zygote_death_leaves_nothing(void **state)
{
    (void)state;
    struct world *world = ww_begin_with("2");
    assert_int_equal(kill(ww_zygote_of(world->worker), SIGKILL), 0);
    ww_serve_for(world, 500);
    ww_dispatch_shell(world, 1, detached, 0);
    ww_await(world, ww_is_started, 1, "command to start");
    ww_serve_for(world, 100);
    kill_worker(world);
    ww_await_no_process(world, 2000);
    (void)ww_end(&world);
}

/* When both are killed at once, slots and their process groups die by the kernel's hand. */
static void test_death_of_both_kills_process_groups(void **state)
{
    (void)state;
    struct world *world = ww_begin_with("2");
    ww_dispatch_shell(world, 1, "sleep 1000 & sleep 1000", 0);
    ww_dispatch_f64(world, 2, "sleep", 1000);
    ww_await(world, ww_is_started, 1, "command to start");
    ww_await(world, ww_is_started, 2, "sleep to start");
    pid_t zygote = ww_zygote_of(world->worker);
    assert_int_equal(kill(zygote, SIGSTOP), 0);
    kill_worker(world);
    assert_int_equal(kill(zygote, SIGKILL), 0);
    ww_await_no_process(world, 2000);
    (void)ww_end(&world);
}

/* ---- time-outs, revokes, drops ---- */

static void test_timeout_stops_the_process_group(void **state)
{
    (void)state;
    struct world *world = ww_begin_with("1");
    int64_t begun_ms = clock_mono_ms();
    ww_dispatch_shell(world, 1, "trap '' TERM; sleep 1000 & while :; do sleep 1; done", 200);
    ww_await(world, ww_is_finished, 1, "timeout");
    assert_int_equal(world->tasks[1].last.state, FINISHED_FAILED);
    assert_int_equal(world->tasks[1].last.cause, CAUSE_TIMEOUT);
    assert_non_null(strstr(world->tasks[1].message, "200 ms"));
    assert_true(clock_mono_ms() - begun_ms >= 200);
    ww_dispatch_f64(world, 2, "sleep", 0);
    ww_await(world, ww_is_finished, 2, "the next task");
    ww_dispatch_shell(world, 3, "ps -eo args | grep -c '[s]leep 1000' || true", 0);
    ww_await(world, ww_is_finished, 3, "ps");
    assert_int_equal(ww_process_count(world), 3); /* supervisor, zygote, slot */
    assert_int_equal(ww_end(&world), 0);
}

static void test_command_may_clean_up_at_its_timeout(void **state)
{
    (void)state;
    struct world *world = ww_begin_with("1");
    ww_dispatch_shell(world, 1, "trap 'echo cleaned > mark; exit 0' TERM; while :; do sleep 0.01; done", 300);
    ww_await(world, ww_is_finished, 1, "timeout");
    assert_int_equal(world->tasks[1].last.cause, CAUSE_TIMEOUT);
    ww_dispatch_shell(world, 2, "cat mark", 0);
    ww_await(world, ww_is_finished, 2, "cat");
    assert_string_equal(ww_result_text(world, 2, "stdout"), "cleaned\n");
    assert_int_equal(ww_end(&world), 0);
}

/* Tasks behind one that is stopped were never started: they run elsewhere. */
static void test_timeout_spares_what_waits_behind(void **state)
{
    (void)state;
    struct world *world = ww_begin_with("1");
    ww_dispatch_run(world, 1, 500, "square");
    ww_await(world, ww_all_ended, 500, "squares");
    struct quern_writer *args = quern_writer_new();
    quern_write_array(args, 1);
    quern_write_f64(args, 100);
    ww_dispatch(world, 501, &(struct ww_call){.function = "sleep", .timeout_ms = 100}, args);
    ww_dispatch_run(world, 502, 100, "square");
    ww_await(world, ww_all_ended, 601, "all");
    assert_int_equal(world->tasks[501].last.cause, CAUSE_TIMEOUT);
    for (uint64_t task = 502; task <= 601; task++) {
        assert_int_equal(world->tasks[task].last.state, FINISHED_DONE);
    }
    assert_int_equal(ww_end(&world), 0);
}

static void test_revoke_returns_the_unstarted_and_spares_the_started(void **state)
{
    (void)state;
    struct world *world = ww_begin_with("1");
    ww_dispatch_f64(world, 1, "sleep", 0.3);
    ww_await(world, ww_is_started, 1, "sleep to start");
    ww_dispatch_f64(world, 2, "sleep", 0.1);
    ww_revoke(world, 2, false);
    ww_await(world, ww_is_returned, 2, "RETURNED");
    ww_revoke(world, 1, false);
    ww_await(world, ww_is_finished, 1, "sleep");
    assert_int_equal(world->tasks[1].last.state, FINISHED_DONE);
    assert_int_equal(world->tasks[2].finished, 0);
    assert_int_equal(ww_end(&world), 0);
}

static void test_forced_revoke_kills_and_says_so(void **state)
{
    (void)state;
    struct world *world = ww_begin_with("1");
    ww_dispatch_f64(world, 1, "sleep", 1000);
    ww_await(world, ww_is_started, 1, "sleep to start");
    ww_revoke(world, 1, true);
    ww_await(world, ww_is_finished, 1, "the kill");
    assert_int_equal(world->tasks[1].last.state, FINISHED_KILLED);
    assert_int_equal(ww_end(&world), 0);
}

static void test_drop_kills_and_says_nothing(void **state)
{
    (void)state;
    struct world *world = ww_begin_with("1");
    ww_dispatch_f64(world, 1, "sleep", 1000);
    ww_await(world, ww_is_started, 1, "sleep to start");
    ww_drop(world, 1);
    ww_dispatch_i64(world, 2, "square", 7);
    ww_await(world, ww_is_finished, 2, "square on a fresh slot");
    assert_int_equal(world->tasks[1].reports, 0);
    world->tasks[1].is_out = false;
    assert_int_equal(ww_end(&world), 0);
}

/* Revokes race with starts: each attempt is returned or finished, never both (worker_world.c checks), never neither. */
static void test_revoke_and_start_never_both_win(void **state)
{
    (void)state;
    struct world *world = ww_begin_with("2");
    uint64_t count = 4000;
    ww_dispatch_run(world, 10001, 1000, "square"); /* warm up: from here on many wait in the slots */
    ww_await(world, slots_are_idle_after, 1000, "warming up");
    for (uint64_t first = 1; first <= count; first += 200) {
        ww_dispatch_run(world, first, 200, "square");
        for (uint64_t task = first; task < first + 200; task++) {
            ww_revoke(world, first + random_u64() % 200, false);
        }
    }
    ww_await(world, ww_all_ended, count, "all");
    for (uint64_t task = 1; task <= count; task++) {
        assert_int_equal(world->tasks[task].finished + world->tasks[task].returned, 1);
    }
    print_message("finished %u, returned %u\n", world->finished - 1000, world->returned);
    assert_true(world->returned > 0);
    assert_int_equal(ww_end(&world), 0);
}

/* ---- broker and lease ---- */

/* A broker that dies and returns: running tasks go on, outcomes without receipt come again. */
static void test_broker_restart_is_a_non_event(void **state)
{
    (void)state;
    struct world *world = ww_begin_with("2");
    world->holds_receipts = true;
    ww_dispatch_f64(world, 1, "sleep", 0.6);
    ww_dispatch_i64(world, 2, "square", 4);
    ww_await(world, ww_is_finished, 2, "square");
    ww_await(world, ww_is_started, 1, "sleep to start");
    ww_broker_dies(world);
    world->holds_receipts = false;
    ww_broker_returns(world);
    assert_int_equal(world->held[HELD_FINISHED] + world->held[HELD_RUNNING], 2);
    ww_await(world, ww_is_finished, 1, "sleep");
    assert_int_equal(world->tasks[1].last.state, FINISHED_DONE);
    assert_int_equal(world->tasks[2].reports, 2);
    assert_int_equal(world->tasks[1].epoch, 1); /* its token has not changed */
    assert_int_equal(ww_end(&world), 0);
}

static void test_another_store_makes_it_drop_all(void **state)
{
    (void)state;
    struct world *world = ww_begin_with("1");
    ww_dispatch_f64(world, 1, "sleep", 1000);
    ww_await(world, ww_is_started, 1, "sleep to start");
    ww_broker_dies(world);
    world->store = uuid_random();
    ww_broker_returns(world);
    world->tasks[1].is_out = false;
    ww_dispatch_i64(world, 2, "square", 2);
    ww_await(world, ww_is_finished, 2, "square");
    assert_int_equal(world->tasks[1].reports, 0);
    assert_int_equal(ww_end(&world), 0);
}

static bool is_past(struct world *world, uint64_t ms)
{
    (void)world;
    return (uint64_t)clock_mono_ms() >= ms;
}

/* A worker whose renewals are not answered starts nothing once its lease is over; renewed, it goes on. */
static void test_nothing_starts_after_the_lease(void **state)
{
    (void)state;
    struct world *world = ww_begin();
    world->lease_ms = 400;
    world->heartbeat_ms = 50;
    ww_worker(world, "1");
    ww_dispatch_i64(world, 1, "square", 2);
    ww_await(world, ww_is_finished, 1, "square within the lease");
    world->is_silent = true;
    ww_await(world, is_past, (uint64_t)clock_mono_ms() + 600, "the lease's end");
    ww_dispatch_i64(world, 2, "square", 2);
    ww_serve_for(world, 300);
    assert_int_equal(world->tasks[2].finished, 0);
    world->is_silent = false;
    ww_await(world, ww_is_finished, 2, "square after the renewal");
    assert_int_equal(ww_end(&world), 0);
}

/* SIGTERM: what runs is finished and handed in, the rest is returned, then BYE. */
static void test_drain_finishes_what_runs_and_returns_the_rest(void **state)
{
    (void)state;
    struct world *world = ww_begin_with("1");
    ww_dispatch_f64(world, 1, "sleep", 0.4);
    ww_await(world, ww_is_started, 1, "sleep to start");
    ww_dispatch_f64(world, 2, "sleep", 0.4);
    kill(world->worker, SIGTERM);
    ww_await(world, ww_is_returned, 2, "RETURNED");
    assert_int_equal(world->capacity, 0);
    ww_await(world, ww_is_finished, 1, "sleep");
    pid_t worker = world->worker;
    assert_int_equal(kill(worker, 0), 0);
    int status = ww_end(&world); /* sends a second SIGTERM, if it has not ended yet */
    assert_int_equal(status, 0);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_function_runs_and_its_result_comes_back),
        cmocka_unit_test(test_overflow_is_an_error),
        cmocka_unit_test(test_many_short_tasks_each_end_once),
        cmocka_unit_test(test_payload_of_16_mib_goes_both_ways),
        cmocka_unit_test(test_crash_costs_one_attempt_and_names_it),
        cmocka_unit_test(test_exit_is_a_crash_with_its_status),
        cmocka_unit_test(test_crash_amid_short_tasks_costs_only_itself),
        cmocka_unit_test(test_killed_slots_cost_one_attempt_each),
        cmocka_unit_test(test_zygote_death_costs_no_attempt),
        cmocka_unit_test(test_slot_death_without_zygote_is_seen),
        cmocka_unit_test(test_supervisor_death_leaves_nothing),
        cmocka_unit_test(test_supervisor_death_after_zygote_death_leaves_nothing),
        cmocka_unit_test(test_death_of_both_kills_process_groups),
        cmocka_unit_test(test_timeout_stops_the_process_group),
        cmocka_unit_test(test_command_may_clean_up_at_its_timeout),
        cmocka_unit_test(test_timeout_spares_what_waits_behind),
        cmocka_unit_test(test_revoke_returns_the_unstarted_and_spares_the_started),
        cmocka_unit_test(test_forced_revoke_kills_and_says_so),
        cmocka_unit_test(test_drop_kills_and_says_nothing),
        cmocka_unit_test(test_revoke_and_start_never_both_win),
        cmocka_unit_test(test_broker_restart_is_a_non_event),
        cmocka_unit_test(test_another_store_makes_it_drop_all),
        cmocka_unit_test(test_nothing_starts_after_the_lease),
        cmocka_unit_test(test_drain_finishes_what_runs_and_returns_the_rest),
    };
    if (argc > 1) {
        cmocka_set_test_filter(argv[1]);
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}

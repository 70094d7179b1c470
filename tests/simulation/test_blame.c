/*
 * test_blame: who is blamed for what, row by row: the counters on disk after each thing that can end an attempt, and
 * that a restart of the broker neither raises nor resets them. Which causes count towards what:
 * tests/unit/test_retry.c. The oracle watches every scene as well. Start reading at blame_table.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "scenario.h"

#include <stdio.h>

/* ---- what can end an attempt: it began on w1, and has run if it was started ---- */

typedef void ending(struct world *w, struct worker *w1, uint64_t task);

static void fails(struct world *w, struct worker *w1, uint64_t task)
{
    sim_worker_start(w1, task, true);
    sim_worker_finish(w1, task, FINISHED_FAILED, CAUSE_ERROR);
    settle(w);
}

static void crashes(struct world *w, struct worker *w1, uint64_t task)
{
    sim_worker_start(w1, task, true);
    sim_worker_finish(w1, task, FINISHED_FAILED, CAUSE_CRASHED);
    settle(w);
}

/* The report and the broker cross; it comes again after the worker's next HELLO. */
static void crashes_while_the_broker_is_away(struct world *w, struct worker *w1, uint64_t task)
{
    sim_worker_start(w1, task, false);
    settle(w);
    broker_crash(w);
    sim_worker_finish(w1, task, FINISHED_FAILED, CAUSE_CRASHED);
    broker_start(w);
    again(w, w1);
    claims_over(w);
}

/* The row of the failure is on disk, its receipt is not: it is reported twice. */
static void crashes_and_the_receipt_is_lost(struct world *w, struct worker *w1, uint64_t task)
{
    sim_worker_start(w1, task, true);
    settle(w);
    sim_worker_finish(w1, task, FINISHED_FAILED, CAUSE_CRASHED);
    deliver(w);
    broker_seal(w);
    broker_apply(w);
    crash_and_start(w);
    again(w, w1);
    claims_over(w);
}

static void loses_its_lease(struct world *w, struct worker *w1, uint64_t task)
{
    sim_worker_start(w1, task, true);
    settle(w);
    w1->peer.wire->is_cut = true;
    lease_over(w);
    settle(w);
}

static void is_started_anew(struct world *w, struct worker *w1, uint64_t task)
{
    sim_worker_start(w1, task, true);
    settle(w);
    w->workers_were_hurt = true;
    die(w, w1);
    worker_hire(w, w1->peer.name, 0, 0);
    settle(w);
}

static void is_claimed_by_nobody_after_a_restart(struct world *w, struct worker *w1, uint64_t task)
{
    sim_worker_start(w1, task, true);
    settle(w);
    die(w, w1);
    crash_and_start(w);
    lease_over(w);
    settle(w);
}

static void goes_on_over_a_restart(struct world *w, struct worker *w1, uint64_t task)
{
    sim_worker_start(w1, task, true);
    settle(w);
    crash_and_start(w);
    again(w, w1);
    claims_over(w);
}

static void goes_on_over_a_break(struct world *w, struct worker *w1, uint64_t task)
{
    sim_worker_start(w1, task, true);
    lose_wire(w, w1);
    again(w, w1);
}

/* The broker stands still for longer than a lease. What it hears then, it hears of living workers. */
static void cannot_be_heard_for_long(struct world *w, struct worker *w1, uint64_t task)
{
    sim_worker_start(w1, task, true);
    settle(w);
    w->now += 3 * (int64_t)w->limits.lease_ms;
    broker_tick(w);
    again(w, w1);
    pass_still(w, (int64_t)w->limits.lease_ms / 2);
    settle(w);
}

static void is_returned(struct world *w, struct worker *w1, uint64_t task)
{
    sim_worker_capacity(w1, 0);
    sim_worker_return(w1, task);
    settle(w);
}

static void is_drained(struct world *w, struct worker *w1, uint64_t task)
{
    (void)task;
    sim_worker_drain(w1);
    settle(w);
}

static void never_arrives(struct world *w, struct worker *w1, uint64_t task)
{
    w1->held_count = 0; /* as if the DISPATCH had died with the wire */
    (void)task;
    w1->slots = w1->prefetch = 0;
    lose_wire(w, w1);
    again(w, w1);
}

/* ---- the table ---- */

static const struct row {
    ending *happens;
    uint32_t attempts, crashes, losses; /* after it */
    uint32_t once;                      /* the state of a task that runs at most once; 0: it may still run */
} blame_table[] = {
    {fails, 1, 0, 0, TASK_FAILED},
    {crashes, 0, 1, 0, TASK_FAILED},
    {crashes_while_the_broker_is_away, 0, 1, 0, TASK_FAILED},
    {crashes_and_the_receipt_is_lost, 0, 1, 0, TASK_FAILED},
    {loses_its_lease, 0, 0, 1, TASK_FAILED},
    {is_started_anew, 0, 0, 1, TASK_FAILED},
    {is_claimed_by_nobody_after_a_restart, 0, 0, 1, TASK_FAILED},
    {goes_on_over_a_restart, 0, 0, 0, 0},
    {goes_on_over_a_break, 0, 0, 0, 0},
    {cannot_be_heard_for_long, 0, 0, 0, 0},
    {is_returned, 0, 0, 0, 0},
    {is_drained, 0, 0, 0, 0},
    {never_arrives, 0, 0, 0, 0},
};
#define ROW_COUNT (sizeof blame_table / sizeof *blame_table)

static void assert_counts(const struct world *w, uint64_t task, const struct row *row)
{
    const struct task_row *stored = memstore_task(w->disk, task);
    assert_non_null(stored);
    assert_int_equal(stored->attempts, row->attempts);
    assert_int_equal(stored->crashes, row->crashes);
    assert_int_equal(stored->losses, row->losses);
}

static void test_each_end_of_an_attempt_counts_as_written_and_a_restart_changes_no_count(void **state)
{
    (void)state;
    for (size_t i = 0; i < ROW_COUNT; i++) {
        const struct row *row = &blame_table[i];
        struct world *w = scene();
        struct client *c = client_open(w, "s");
        struct worker *w1 = worker_hire(w, "w1", 1, 0);
        uint64_t t = put_settled(c, RETRIED(5));
        print_message("row %zu\n", i);
        assert_non_null(sim_worker_held(w1, t));
        row->happens(w, w1, t);
        assert_counts(w, t, row);
        assert_int_equal(memstore_failure_count(w->disk, t), row->attempts + row->crashes + row->losses);
        crash_and_start(w);
        assert_counts(w, t, row);
        scene_end(w);
    }
}

/* What may have started is over, whoever is to blame; what has not may still run, once. */
static void test_what_runs_at_most_once_never_starts_twice_whatever_ends_its_attempt(void **state)
{
    (void)state;
    for (size_t i = 0; i < ROW_COUNT; i++) {
        const struct row *row = &blame_table[i];
        struct world *w = scene();
        struct client *c = client_open(w, "s");
        struct worker *w1 = worker_hire(w, "w1", 1, 0);
        uint64_t t = put_settled(c, ONCE);
        print_message("row %zu\n", i);
        row->happens(w, w1, t);
        assert_true(row->once == 0 || stored_state(w, t) == row->once);
        struct worker *w2 = worker_hire(w, "w2", 1, 0);
        if (!sim_worker_start(w2, t, true)) {
            w2 = w1;
        }
        if (row->once == 0) {
            sim_worker_finish(w2, t, FINISHED_DONE, CAUSE_NONE);
            settle(w);
            assert_int_equal(stored_state(w, t), TASK_DONE);
        }
        assert_int_equal(oracle_starts(w, t), 1);
        scene_end(w);
    }
}

/* ---- quarantine ---- */

/* Every way in which the task may come to be given out again; none blames a crash. */
static ending *const comes_back_by[] = {loses_its_lease, is_started_anew, is_claimed_by_nobody_after_a_restart,
                                        is_returned,     is_drained,      never_arrives};

/* Whoever has it by now; a fresh worker if it waits for one. */
static struct worker *next_holder(struct world *w, uint64_t task, unsigned number)
{
    struct worker *holder = NULL;
    char name[16];
    snprintf(name, sizeof name, "n%u", number);
    claims_over(w);
    if (stored_state(w, task) == TASK_READY) {
        holder = worker_hire(w, name, 1, 0);
    }
    for (size_t i = 0; i < w->peer_count && holder == NULL; i++) {
        struct worker *worker = w->peers[i]->kind == PEER_WORKER && !w->peers[i]->is_dead ? (void *)w->peers[i] : NULL;
        const struct held *held = worker != NULL ? sim_worker_held(worker, task) : NULL;
        holder = held != NULL && held->token.attempt == memstore_task(w->disk, task)->attempt ? worker : NULL;
    }
    assert_non_null(holder);
    assert_non_null(sim_worker_held(holder, task));
    return holder;
}

/* A task that kills its slots must not kill them for ever: the third death ends it, however it was given out. */
static void test_the_third_dead_slot_quarantines_on_every_path_back(void **state)
{
    (void)state;
    static ending *const deaths[] = {crashes, crashes_while_the_broker_is_away, crashes_and_the_receipt_is_lost};
    for (size_t i = 0; i < sizeof comes_back_by / sizeof *comes_back_by; i++) {
        struct world *w = scene();
        struct client *c = client_open(w, "s");
        uint64_t t = put_settled(c, PLAIN);
        unsigned crash_count = 0;
        for (unsigned n = 0; crash_count < CRASHES_MAX_DEFAULT; n++) {
            struct worker *worker = next_holder(w, t, n);
            bool is_death = n % 2 == 1;
            assert_int_equal(stored_cause(w, t), CAUSE_NONE);
            (is_death ? deaths[crash_count] : comes_back_by[i])(w, worker, t);
            crash_count += is_death;
        }
        assert_int_equal(stored_cause(w, t), CAUSE_QUARANTINED);
        worker_hire(w, "last", 1, 0);
        assert_int_equal(stored_state(w, t), TASK_FAILED);
        scene_end(w);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_end_of_an_attempt_counts_as_written_and_a_restart_changes_no_count),
        cmocka_unit_test(test_what_runs_at_most_once_never_starts_twice_whatever_ends_its_attempt),
        cmocka_unit_test(test_the_third_dead_slot_quarantines_on_every_path_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/*
 * test_trace_attempts: one named scene for each rule of attempts: tokens, leases, lists of workers, recovery.
 * The oracle watches every scene as well; the assertions say what the scene is about.
 * Start reading anywhere.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "scenario.h"

/* ---- instances and lists ---- */

/* Without: not listed, goes back without blame, runs twice. */
static void test_03_what_a_former_instance_held_is_lost(void **state)
{
    (void)state;
    struct world *w = scene();
    struct client *c = client_open(w, "s");
    struct worker *w1 = worker_hire(w, "w1", 2, 0);
    uint64_t once = put_settled(c, ONCE);
    uint64_t plain = put_settled(c, PLAIN);
    sim_worker_start(w1, once, false);
    sim_worker_start(w1, plain, false);
    die(w, w1);
    crash_and_start(w);
    worker_hire(w, "w1", 2, 0);
    assert_int_equal(stored_state(w, once), TASK_FAILED);
    assert_int_equal(stored_cause(w, once), CAUSE_LOST);
    assert_int_equal(memstore_task(w->disk, plain)->losses, 1);
    scene_end(w);
}

/* Without: the worker forgets what it killed, the broker crashes, not listed, goes back, runs again. */
static void test_04_a_killed_attempt_is_listed_until_its_receipt(void **state)
{
    (void)state;
    struct world *w = scene();
    struct client *c = client_open(w, "s");
    struct worker *w1 = worker_hire(w, "w1", 1, 0);
    uint64_t t = put_settled(c, ONCE);
    sim_worker_start(w1, t, true);
    settle(w);
    sim_client_cancel(c, t, true);
    deliver(w); /* revoke, killed, reported; nothing is committed */
    assert_int_equal(sim_worker_held(w1, t)->state, HELD_FINISHED);
    crash_and_start(w);
    again(w, w1);
    assert_null(sim_worker_held(w1, t));
    assert_int_equal(stored_state(w, t), TASK_CANCELLED);
    assert_int_equal(oracle_starts(w, t), 1);
    scene_end(w);
}

/* ---- submits ---- */

/* Without: "not held: returned", dispatched again, and both dispatches go out with the commit. */
static void test_10_a_revoke_withdraws_its_own_gated_dispatch(void **state)
{
    (void)state;
    struct world *w = scene();
    struct client *c = client_open(w, "s");
    struct worker *w1 = worker_hire(w, "w1", 1, 0);
    uint64_t t = put(c, ONCE);
    sim_client_cancel(c, t, false);
    settle(w);
    assert_null(sim_worker_held(w1, t));
    assert_int_equal(stored_state(w, t), TASK_CANCELLED);
    assert_int_equal(sim_client_request(c)->code, QUERN_OK);
    scene_end(w);
}

/* Without: the dispatch that waits for its lease row follows a worker that was told that all has arrived. */
static void test_10_a_worker_that_drains_is_not_sent_a_gated_dispatch(void **state)
{
    (void)state;
    struct world *w = scene();
    struct client *c = client_open(w, "s");
    struct worker *w1 = worker_hire(w, "w1", 1, 0);
    uint64_t t = put(c, ONCE);
    sim_worker_drain(w1);
    settle(w);
    assert_true(sim_worker_is_drained(w1));
    assert_null(sim_worker_held(w1, t));
    assert_int_equal(stored_state(w, t), TASK_READY);
    scene_end(w);
}

/* Without: a worker returns, is told that all has arrived, leaves; the return was not on disk: lost. */
static void test_10_a_worker_leaves_when_its_returns_are_on_disk(void **state)
{
    (void)state;
    struct world *w = scene();
    struct client *c = client_open(w, "s");
    struct worker *w1 = worker_hire(w, "w1", 1, 0);
    uint64_t t = put_settled(c, ONCE);
    sim_worker_drain(w1);
    deliver(w);
    assert_false(sim_worker_is_drained(w1));
    commit(w);
    deliver(w);
    assert_true(sim_worker_is_drained(w1));
    die(w, w1);
    crash_and_start(w);
    struct worker *w2 = worker_hire(w, "w1", 1, 0);
    claims_over(w);
    assert_non_null(sim_worker_held(w2, t));
    scene_end(w);
}

/* ---- tokens ---- */

/* Without: the retry is committed, the receipt lost; the same failure is reported again and counts twice. */
static void test_11_a_failure_counts_once(void **state)
{
    (void)state;
    struct world *w = scene();
    struct client *c = client_open(w, "s");
    struct worker *w1 = worker_hire(w, "w1", 1, 0);
    uint64_t t = put_settled(c, RETRIED(3));
    sim_worker_start(w1, t, true);
    sim_worker_finish(w1, t, FINISHED_FAILED, CAUSE_ERROR);
    deliver(w);
    broker_seal(w);
    broker_apply(w);
    crash_and_start(w);
    again(w, w1);
    assert_null(sim_worker_held(w1, t));
    assert_int_equal(memstore_task(w->disk, t)->attempts, 1);
    assert_int_equal(memstore_failure_count(w->disk, t), 1);
    scene_end(w);
}

static void test_12_at_most_once_is_never_retried(void **state)
{
    (void)state;
    struct world *w = scene();
    struct client *c = client_open(w, "s");
    struct worker *w1 = worker_hire(w, "w1", 1, 0);
    uint64_t t = put_settled(c, ONCE);
    sim_worker_start(w1, t, true);
    sim_worker_finish(w1, t, FINISHED_FAILED, CAUSE_CRASHED);
    settle(w);
    assert_int_equal(stored_state(w, t), TASK_FAILED);
    assert_int_equal(oracle_starts(w, t), 1);
    scene_end(w);
}

/* Without: a worker that was cut off wakes and starts what was cancelled meanwhile. */
static void test_13_nothing_starts_after_the_lease(void **state)
{
    (void)state;
    struct world *w = scene();
    struct client *c = client_open(w, "s");
    struct worker *w1 = worker_hire(w, "w1", 1, 0);
    uint64_t t = put_settled(c, PLAIN);
    w1->peer.wire->is_cut = true;
    sim_client_cancel(c, t, false);
    settle(w);
    assert_false(sim_client_request(c)->is_answered); /* it may have started */
    lease_over(w);
    settle(w);
    assert_int_equal(stored_state(w, t), TASK_CANCELLED);
    again(w, c); /* its connection was silent for so long that it was given up: it asks again, and hears true */
    sim_client_cancel(c, t, false);
    settle(w);
    assert_true(sim_client_request(c)->is_answered);
    assert_int_equal(sim_client_request(c)->code, QUERN_OK);
    assert_false(sim_worker_start(w1, t, true));
    scene_end(w);
}

/* ---- receipts name tokens ---- */

/* Without: "stale" for the first attempt removes the second: leased for ever. */
static void test_16_a_receipt_names_its_token(void **state)
{
    (void)state;
    struct world *w = scene();
    struct client *c = client_open(w, "s");
    struct worker *w1 = worker_hire(w, "w1", 1, 1);
    uint64_t t = put_settled(c, PLAIN);
    sim_worker_start(w1, t, true);
    settle(w);
    lose_wire(w, w1);
    sim_worker_finish(w1, t, FINISHED_FAILED, CAUSE_ERROR);
    lease_over(w);
    again(w, w1);
    assert_int_equal(w1->held_count, 1);
    assert_int_equal(sim_worker_held(w1, t)->token.attempt, 2);
    sim_worker_start(w1, t, true);
    sim_worker_finish(w1, t, FINISHED_DONE, CAUSE_NONE);
    settle(w);
    assert_int_equal(stored_state(w, t), TASK_DONE);
    scene_end(w);
}

/* ---- commit, then send ---- */

static void test_22_at_most_once_of_unknown_fate_is_lost(void **state)
{
    (void)state;
    struct world *w = scene();
    struct client *c = client_open(w, "s");
    struct worker *w1 = worker_hire(w, "w1", 1, 0);
    uint64_t t = put_settled(c, ONCE);
    sim_worker_start(w1, t, false);
    w1->peer.wire->is_cut = true;
    lease_over(w);
    settle(w);
    assert_int_equal(stored_cause(w, t), CAUSE_LOST);
    worker_hire(w, "w2", 1, 0);
    assert_int_equal(oracle_starts(w, t), 1);
    scene_end(w);
}

/* ---- recovery ---- */

/* Without: a restart makes leased rows ready at once: twice. */
static void test_23_leased_rows_wait_for_the_grace_period(void **state)
{
    (void)state;
    struct world *w = scene();
    struct client *c = client_open(w, "s");
    struct worker *w1 = worker_hire(w, "w1", 1, 0);
    uint64_t t = put_settled(c, PLAIN);
    sim_worker_start(w1, t, false);
    settle(w);
    crash_and_start(w);
    struct worker *w2 = worker_hire(w, "w2", 1, 0);
    claims_over(w);
    assert_null(sim_worker_held(w2, t));
    again(w, w1);
    sim_worker_finish(w1, t, FINISHED_DONE, CAUSE_NONE);
    settle(w);
    assert_int_equal(stored_state(w, t), TASK_DONE);
    assert_int_equal(oracle_starts(w, t), 1);
    scene_end(w);
}

/* No less: its worker may run it until its lease is over, and has heard of nothing. */
static void test_23_the_grace_period_is_a_whole_lease(void **state)
{
    (void)state;
    struct world *w = scene();
    struct client *c = client_open(w, "s");
    struct worker *w1 = worker_hire(w, "w1", 1, 0);
    uint64_t t = put_settled(c, PLAIN);
    sim_worker_start(w1, t, false);
    settle(w);
    crash_and_start(w);
    w->workers_were_hurt = true; /* nobody hears of w1 any more */
    pass_still(w, (int64_t)w->limits.lease_ms - 100);
    struct worker *w2 = worker_hire(w, "w2", 1, 0);
    assert_null(sim_worker_held(w2, t));
    pass_still(w, 200);
    settle(w);
    assert_non_null(sim_worker_held(w2, t));
    scene_end(w);
}

/* The claim window: the lease row of a ready task may be the one thing that was lost. */
static void test_23_a_ready_row_waits_for_claims_after_an_unclean_end(void **state)
{
    (void)state;
    struct world *w = scene();
    struct client *c = client_open(w, "s");
    uint64_t t = put_settled(c, PLAIN);
    struct worker *w1 = sim_worker_new(w, "w1", 1);
    hello(w, w1);
    commit_one(w); /* welcome, and dispatched; the lease row is in the next batch */
    sim_worker_start(w1, t, false);
    crash_and_start(w);
    assert_int_equal(stored_state(w, t), TASK_READY);
    struct worker *w2 = worker_hire(w, "w2", 1, 0);
    assert_null(sim_worker_held(w2, t));
    again(w, w1);
    claims_over(w);
    assert_null(sim_worker_held(w2, t));
    sim_worker_finish(w1, t, FINISHED_DONE, CAUSE_NONE);
    settle(w);
    assert_int_equal(oracle_starts(w, t), 1);
    assert_int_equal(stored_state(w, t), TASK_DONE);
    scene_end(w);
}

/* Whoever could have it has its row on disk: when all of them have said what they hold, nothing is waited for. */
static void test_23_ready_tasks_go_when_every_worker_on_record_has_come_back(void **state)
{
    (void)state;
    struct world *w = scene();
    struct client *c = client_open(w, "s");
    struct worker *w1 = worker_hire(w, "w1", 1, 0);
    uint64_t t1 = put_settled(c, PLAIN);
    uint64_t t2 = put_settled(c, PLAIN);
    sim_worker_start(w1, t1, false);
    settle(w);
    crash_and_start(w);
    struct worker *w2 = worker_hire(w, "w2", 1, 0);
    assert_null(sim_worker_held(w2, t2));
    again(w, w1);
    assert_non_null(sim_worker_held(w2, t2));
    assert_non_null(sim_worker_held(w1, t1));
    scene_end(w);
}

static void test_23_a_new_process_of_that_name_speaks_for_the_dead_one(void **state)
{
    (void)state;
    struct world *w = scene();
    struct client *c = client_open(w, "s");
    struct worker *w1 = worker_hire(w, "w1", 1, 0);
    struct worker *w2 = worker_hire(w, "w2", 1, 0);
    die(w, w1);
    crash_and_start(w);
    again(w, c);
    uint64_t t = put_settled(c, PLAIN);
    again(w, w2);
    assert_null(sim_worker_held(w2, t));
    worker_hire(w, "w1", 0, 0);
    assert_non_null(sim_worker_held(w2, t));
    scene_end(w);
}

static void test_23_nothing_is_waited_for_if_no_worker_ever_came(void **state)
{
    (void)state;
    struct world *w = scene();
    struct client *c = client_open(w, "s");
    uint64_t t = put_settled(c, PLAIN);
    crash_and_start(w);
    struct worker *w1 = worker_hire(w, "w1", 1, 0);
    assert_non_null(sim_worker_held(w1, t));
    scene_end(w);
}

/* A start deletes rows of workers when there are too many: one of those may be alive. */
static void test_23_after_rows_of_workers_were_deleted_all_claims_are_waited_for(void **state)
{
    (void)state;
    struct world *w = scene();
    struct client *c = client_open(w, "s");
    uint64_t t = put_settled(c, PLAIN);
    w->workers_are_swept = true;
    crash_and_start(w);
    struct worker *w1 = worker_hire(w, "w1", 1, 0);
    assert_null(sim_worker_held(w1, t));
    claims_over(w);
    assert_non_null(sim_worker_held(w1, t));
    scene_end(w);
}

/* Without: finished but not listed goes back: twice. */
static void test_24_hello_lists_what_is_finished(void **state)
{
    (void)state;
    struct world *w = scene();
    struct client *c = client_open(w, "s");
    struct worker *w1 = worker_hire(w, "w1", 1, 0);
    uint64_t t = put_settled(c, ONCE);
    sim_worker_start(w1, t, false);
    crash_and_start(w);
    sim_worker_finish(w1, t, FINISHED_DONE, CAUSE_NONE);
    again(w, w1);
    assert_int_equal(stored_state(w, t), TASK_DONE);
    assert_int_equal(oracle_starts(w, t), 1);
    scene_end(w);
}

/* ---- generations ---- */

/* Without: the old HELLO, which lists nothing, gives back what was dispatched on the new connection. */
static void test_25_a_late_hello_of_a_worker_is_ignored(void **state)
{
    (void)state;
    struct world *w = scene();
    struct client *c = client_open(w, "s");
    struct worker *w1 = sim_worker_new(w, "w1", 1);
    sim_peer_connect(&w1->peer);
    struct wire *late = w1->peer.wire;
    late->is_cut = true;
    sim_peer_drop_wire(&w1->peer, false);
    again(w, w1);
    uint64_t t = put_settled(c, PLAIN);
    late->is_cut = false;
    settle(w);
    struct worker *w2 = worker_hire(w, "w2", 1, 0);
    assert_null(sim_worker_held(w2, t));
    sim_worker_start(w1, t, true);
    sim_worker_finish(w1, t, FINISHED_DONE, CAUSE_NONE);
    settle(w);
    assert_int_equal(stored_state(w, t), TASK_DONE);
    assert_int_equal(oracle_starts(w, t), 1);
    scene_end(w);
}

/* Without: the late failure of a lost attempt counts for the new one. */
static void test_26_an_outcome_counts_only_with_its_token(void **state)
{
    (void)state;
    struct world *w = scene();
    struct client *c = client_open(w, "s");
    struct worker *w1 = worker_hire(w, "w1", 1, 0);
    uint64_t t = put_settled(c, PLAIN);
    sim_worker_start(w1, t, true);
    settle(w);
    lose_wire(w, w1);
    lease_over(w);
    struct worker *w2 = worker_hire(w, "w2", 1, 0);
    assert_non_null(sim_worker_held(w2, t));
    sim_worker_finish(w1, t, FINISHED_FAILED, CAUSE_ERROR);
    again(w, w1);
    assert_null(sim_worker_held(w1, t));
    assert_int_equal(stored_state(w, t), TASK_LEASED);
    sim_worker_start(w2, t, true);
    sim_worker_finish(w2, t, FINISHED_DONE, CAUSE_NONE);
    settle(w);
    assert_int_equal(stored_state(w, t), TASK_DONE);
    scene_end(w);
}

/* Without the epoch: the number of an attempt whose lease row was lost is used again, and two dispatches share a token.
 */
static void test_27_the_epoch_is_in_the_token(void **state)
{
    (void)state;
    struct world *w = scene();
    struct client *c = client_open(w, "s");
    uint64_t t = put_settled(c, PLAIN);
    struct worker *w1 = sim_worker_new(w, "w1", 1);
    hello(w, w1);
    commit_one(w); /* welcome, and 1.1 is dispatched; its lease row is in the next batch */
    sim_worker_start(w1, t, false);
    crash_and_start(w);
    struct worker *w2 = worker_hire(w, "w2", 1, 0);
    claims_over(w);
    assert_int_equal(sim_worker_held(w2, t)->token.attempt, sim_worker_held(w1, t)->token.attempt);
    sim_worker_finish(w1, t, FINISHED_FAILED, CAUSE_ERROR);
    again(w, w1);
    assert_int_equal(stored_state(w, t), TASK_LEASED); /* the late failure of 1.1 counts for nobody */
    sim_worker_start(w2, t, true);
    sim_worker_finish(w2, t, FINISHED_DONE, CAUSE_NONE);
    settle(w);
    assert_int_equal(stored_state(w, t), TASK_DONE);
    scene_end(w);
}

/* Without: returned, dispatched with the same number, and a report on the first counts for the second. */
static void test_28_the_attempt_number_rises_with_every_dispatch(void **state)
{
    (void)state;
    struct world *w = scene();
    struct client *c = client_open(w, "s");
    struct worker *w1 = worker_hire(w, "w1", 1, 0);
    uint64_t t = put_settled(c, ONCE);
    assert_int_equal(sim_worker_held(w1, t)->token.attempt, 1);
    sim_worker_return(w1, t);
    settle(w);
    assert_int_equal(sim_worker_held(w1, t)->token.attempt, 2);
    crash_and_start(w);
    again(w, w1);
    sim_worker_return(w1, t);
    claims_over(w);
    assert_int_equal(sim_worker_held(w1, t)->token.attempt, 3);
    scene_end(w);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_03_what_a_former_instance_held_is_lost),
        cmocka_unit_test(test_04_a_killed_attempt_is_listed_until_its_receipt),
        cmocka_unit_test(test_10_a_revoke_withdraws_its_own_gated_dispatch),
        cmocka_unit_test(test_10_a_worker_that_drains_is_not_sent_a_gated_dispatch),
        cmocka_unit_test(test_10_a_worker_leaves_when_its_returns_are_on_disk),
        cmocka_unit_test(test_11_a_failure_counts_once),
        cmocka_unit_test(test_12_at_most_once_is_never_retried),
        cmocka_unit_test(test_13_nothing_starts_after_the_lease),
        cmocka_unit_test(test_16_a_receipt_names_its_token),
        cmocka_unit_test(test_22_at_most_once_of_unknown_fate_is_lost),
        cmocka_unit_test(test_23_leased_rows_wait_for_the_grace_period),
        cmocka_unit_test(test_23_the_grace_period_is_a_whole_lease),
        cmocka_unit_test(test_23_a_ready_row_waits_for_claims_after_an_unclean_end),
        cmocka_unit_test(test_23_ready_tasks_go_when_every_worker_on_record_has_come_back),
        cmocka_unit_test(test_23_a_new_process_of_that_name_speaks_for_the_dead_one),
        cmocka_unit_test(test_23_nothing_is_waited_for_if_no_worker_ever_came),
        cmocka_unit_test(test_23_after_rows_of_workers_were_deleted_all_claims_are_waited_for),
        cmocka_unit_test(test_24_hello_lists_what_is_finished),
        cmocka_unit_test(test_25_a_late_hello_of_a_worker_is_ignored),
        cmocka_unit_test(test_26_an_outcome_counts_only_with_its_token),
        cmocka_unit_test(test_27_the_epoch_is_in_the_token),
        cmocka_unit_test(test_28_the_attempt_number_rises_with_every_dispatch),
    };
    if (argc > 1) {
        cmocka_set_test_filter(argv[1]);
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}

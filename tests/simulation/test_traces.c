/*
 * test_traces: one named scene for each rule of gates and commits: what would go wrong without it. Those of sessions
 * and attempts are in test_trace_sessions.c and test_trace_attempts.c.
 * The oracle watches every scene as well; the assertions say what the scene is about. Start reading anywhere.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "scenario.h"

/* ---- gates ---- */

/* Without: stale goes out at once, the worker drops it, the next crash gives it back as never started. */
static void test_01_a_drop_waits_for_the_batch_that_justifies_it(void **state)
{
    (void)state;
    struct world *w = scene();
    struct client *c = client_open(w, "s");
    struct worker *w1 = worker_hire(w, "w1", 1, 0);
    uint64_t t = put_settled(c, ONCE);
    sim_worker_start(w1, t, true);
    settle(w);
    crash_and_start(w);
    lease_over(w); /* failed as lost, not committed yet */
    hello(w, w1);
    assert_non_null(sim_worker_held(w1, t));
    crash_and_start(w);
    again(w, w1);
    sim_worker_finish(w1, t, FINISHED_DONE, CAUSE_NONE);
    settle(w);
    assert_int_equal(stored_state(w, t), TASK_DONE);
    assert_int_equal(oracle_starts(w, t), 1);
    scene_end(w);
}

/* Without: an outcome that only memory knows is sent again at once to a client that reconnects. */
static void test_01_an_outcome_sent_again_waits_for_its_batch(void **state)
{
    (void)state;
    struct world *w = scene();
    struct client *c = client_open(w, "s");
    struct worker *w1 = worker_hire(w, "w1", 1, 0);
    uint64_t t = put_settled(c, PLAIN);
    sim_worker_start(w1, t, true);
    sim_worker_finish(w1, t, FINISHED_DONE, CAUSE_NONE);
    deliver(w);
    hello(w, c);
    assert_null(sim_client_took(c, t));
    assert_false(c->peer.is_welcomed);
    commit(w);
    deliver(w);
    assert_non_null(sim_client_took(c, t));
    scene_end(w);
}

static void test_01_a_repeated_submit_waits_for_the_batch_of_the_first(void **state)
{
    (void)state;
    struct world *w = scene();
    struct client *c = client_open(w, "s");
    put(c, PLAIN);
    hello(w, c);
    assert_true(is_unanswered(c, 1));
    crash_and_start(w);
    assert_int_equal(tasks_stored(w), 0);
    again(w, c);
    assert_true(is_accepted(c, 1));
    assert_int_equal(tasks_stored(w), 1);
    scene_end(w);
}

/* Without: the successor is told ordinal 1, skips line 1, and a crash makes it exist nowhere. */
static void test_02_welcome_is_gated(void **state)
{
    (void)state;
    struct world *w = scene();
    struct client *p1 = client_open(w, "s");
    put_line(p1, 1, 0);
    die(w, p1);
    struct client *p2 = sim_client_new(w, "s");
    hello(w, p2);
    assert_false(p2->peer.is_welcomed);
    crash_and_start(w);
    again(w, p2);
    assert_int_equal(p2->ordinal_high, 0);
    put_line(p2, 1, 0);
    settle(w);
    assert_true(is_accepted(p2, 1));
    scene_end(w);
}

/* Without: a take-over is told, not on disk, and after a crash the new owner is refused. */
static void test_02_a_take_over_is_told_when_it_is_on_disk(void **state)
{
    (void)state;
    struct world *w = scene();
    struct client *p1 = client_open(w, "s");
    struct client *p2 = sim_client_new(w, "s");
    p2->take_over = true;
    hello(w, p2);
    assert_false(p2->peer.is_welcomed);
    assert_false(p1->peer.is_denied);
    crash_and_start(w);
    again(w, p1);
    assert_true(p1->peer.is_welcomed);
    scene_end(w);
}

/* ---- commit, then send ---- */

static void test_17_accepted_comes_after_the_commit(void **state)
{
    (void)state;
    struct world *w = scene();
    struct client *c = client_open(w, "s");
    put(c, PLAIN);
    assert_true(is_unanswered(c, 1));
    broker_seal(w);
    deliver(w);
    assert_true(is_unanswered(c, 1));
    broker_apply(w);
    broker_notice(w);
    deliver(w);
    assert_true(is_accepted(c, 1));
    scene_end(w);
}

static void test_18_a_result_comes_after_the_commit(void **state)
{
    (void)state;
    struct world *w = scene();
    struct client *c = client_open(w, "s");
    struct worker *w1 = worker_hire(w, "w1", 1, 0);
    uint64_t t = put_settled(c, PLAIN);
    sim_worker_start(w1, t, true);
    sim_worker_finish(w1, t, FINISHED_DONE, CAUSE_NONE);
    deliver(w);
    assert_null(sim_client_took(c, t));
    commit(w);
    deliver(w);
    assert_non_null(sim_client_took(c, t));
    scene_end(w);
}

/* Without: done, receipt, crash, not listed, runs twice. */
static void test_19_a_receipt_comes_after_the_commit(void **state)
{
    (void)state;
    struct world *w = scene();
    struct client *c = client_open(w, "s");
    struct worker *w1 = worker_hire(w, "w1", 1, 0);
    uint64_t t = put_settled(c, ONCE);
    sim_worker_start(w1, t, true);
    sim_worker_finish(w1, t, FINISHED_DONE, CAUSE_NONE);
    deliver(w);
    assert_non_null(sim_worker_held(w1, t));
    crash_and_start(w);
    again(w, w1);
    assert_null(sim_worker_held(w1, t));
    assert_int_equal(stored_state(w, t), TASK_DONE);
    assert_int_equal(oracle_starts(w, t), 1);
    scene_end(w);
}

/* Without: the notice of one batch releases what waits for the next. */
static void test_20_a_gate_names_its_own_batch(void **state)
{
    (void)state;
    struct world *w = scene();
    struct client *c = client_open(w, "s");
    put(c, PLAIN);
    broker_seal(w);
    put(c, PLAIN);
    broker_apply(w);
    broker_notice(w);
    deliver(w);
    assert_true(is_accepted(c, 1));
    assert_true(is_unanswered(c, 2));
    commit(w);
    deliver(w);
    assert_true(is_accepted(c, 2));
    scene_end(w);
}

/* Without: a DISPATCH overtakes the WELCOME that names its epoch. */
static void test_20_a_worker_is_sent_to_after_its_own_welcome(void **state)
{
    (void)state;
    struct world *w = scene();
    struct client *c = client_open(w, "s");
    uint64_t t = put(c, PLAIN);
    broker_seal(w);
    struct worker *w1 = sim_worker_new(w, "w1", 1);
    hello(w, w1);
    broker_apply(w);
    broker_notice(w);
    deliver(w);
    assert_null(sim_worker_held(w1, t));
    settle(w);
    assert_non_null(sim_worker_held(w1, t));
    scene_end(w);
}

/* Without: started, crash, the row says ready, again. */
static void test_21_at_most_once_leaves_after_its_lease_is_on_disk(void **state)
{
    (void)state;
    struct world *w = scene();
    struct client *c = client_open(w, "s");
    struct worker *w1 = worker_hire(w, "w1", 1, 0);
    uint64_t t = put(c, ONCE);
    assert_null(sim_worker_held(w1, t));
    settle(w);
    assert_non_null(sim_worker_held(w1, t));
    assert_int_equal(stored_state(w, t), TASK_LEASED);
    scene_end(w);
}

/* The other side of the same: an ordinary task runs while its submit is still being committed. */
static void test_21_an_ordinary_task_does_not_wait(void **state)
{
    (void)state;
    struct world *w = scene();
    struct client *c = client_open(w, "s");
    struct worker *w1 = worker_hire(w, "w1", 1, 0);
    uint64_t t = put(c, PLAIN);
    assert_non_null(sim_worker_held(w1, t));
    assert_int_equal(tasks_stored(w), 0);
    scene_end(w);
}

/* ---- one commit ---- */

/* Without: the outcome is on disk, and the repeated submit creates the task again. */
static void test_29_submitted_high_commits_with_the_submits(void **state)
{
    (void)state;
    struct world *w = scene();
    struct client *c = client_open(w, "s");
    struct worker *w1 = worker_hire(w, "w1", 1, 0);
    uint64_t t = put(c, PLAIN);
    sim_worker_start(w1, t, true);
    sim_worker_finish(w1, t, FINISHED_DONE, CAUSE_NONE);
    deliver(w);
    broker_seal(w);
    broker_apply(w);
    crash_and_start(w);
    again(w, c);
    assert_true(is_accepted(c, 1));
    assert_int_equal(tasks_stored(w), 1);
    assert_int_equal(stored_state(w, t), TASK_DONE);
    scene_end(w);
}

static void test_30_completion_numbers_are_given_once(void **state)
{
    (void)state;
    struct world *w = scene();
    struct client *c = client_open(w, "s");
    struct worker *w1 = worker_hire(w, "w1", 1, 0);
    for (uint64_t completion = 1; completion <= 3; completion++) {
        uint64_t t = put_settled(c, PLAIN);
        sim_worker_start(w1, t, true);
        sim_worker_finish(w1, t, FINISHED_DONE, CAUSE_NONE);
        deliver(w);
        broker_seal(w);
        broker_apply(w);
        crash_and_start(w);
        again(w, w1);
        again(w, c);
        assert_int_equal(sim_client_took(c, t)->completion, completion);
        claims_over(w);
    }
    scene_end(w);
}

/* Without: one line becomes two tasks. */
static void test_31_an_ordinal_commits_with_its_submit(void **state)
{
    (void)state;
    struct world *w = scene();
    struct client *p1 = client_open(w, "s");
    put_line(p1, 1, 0);
    broker_seal(w);
    broker_apply(w);
    crash_and_start(w);
    die(w, p1);
    struct client *p2 = client_open(w, "s");
    assert_int_equal(p2->ordinal_high, 1);
    put_line(p2, 2, 1);
    settle(w);
    assert_true(is_accepted(p2, 1));
    assert_int_equal(tasks_stored(w), 2);
    scene_end(w);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_01_a_drop_waits_for_the_batch_that_justifies_it),
        cmocka_unit_test(test_01_an_outcome_sent_again_waits_for_its_batch),
        cmocka_unit_test(test_01_a_repeated_submit_waits_for_the_batch_of_the_first),
        cmocka_unit_test(test_02_welcome_is_gated),
        cmocka_unit_test(test_02_a_take_over_is_told_when_it_is_on_disk),
        cmocka_unit_test(test_17_accepted_comes_after_the_commit),
        cmocka_unit_test(test_18_a_result_comes_after_the_commit),
        cmocka_unit_test(test_19_a_receipt_comes_after_the_commit),
        cmocka_unit_test(test_20_a_gate_names_its_own_batch),
        cmocka_unit_test(test_20_a_worker_is_sent_to_after_its_own_welcome),
        cmocka_unit_test(test_21_at_most_once_leaves_after_its_lease_is_on_disk),
        cmocka_unit_test(test_21_an_ordinary_task_does_not_wait),
        cmocka_unit_test(test_29_submitted_high_commits_with_the_submits),
        cmocka_unit_test(test_30_completion_numbers_are_given_once),
        cmocka_unit_test(test_31_an_ordinal_commits_with_its_submit),
    };
    if (argc > 1) {
        cmocka_set_test_filter(argv[1]);
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}

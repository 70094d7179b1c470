/*
 * test_traces: one named scene for each rule of identity, gates, recovery and leases: what would go wrong without it.
 * The oracle watches every scene as well; the assertions say what the scene is about.
 * Start reading anywhere.
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

/* Without: a series given out in the open batch is given out again after the crash, for other work. */
static void test_05_a_series_is_durable_before_it_is_used(void **state)
{
    (void)state;
    struct world *w = scene();
    struct client *p1 = sim_client_new(w, "s");
    hello(w, p1);
    assert_false(p1->was_welcomed);
    crash_and_start(w);
    again(w, p1);
    uint64_t t = put(p1, PLAIN);
    crash_and_start(w);
    die(w, p1);
    struct client *p2 = client_open(w, "s");
    assert_true(p2->series != p1->series);
    assert_true(put_settled(p2, PLAIN) != t);
    scene_end(w);
}

/* Without: after a crash before ACCEPTED the submit is sent again under a second series: two tasks. */
static void test_05_the_same_instance_keeps_its_series(void **state)
{
    (void)state;
    struct world *w = scene();
    struct client *c = client_open(w, "s");
    put(c, PLAIN);
    broker_seal(w);
    broker_apply(w);
    crash_and_start(w);
    again(w, c);
    assert_true(is_accepted(c, 1));
    assert_int_equal(tasks_stored(w), 1);
    scene_end(w);
}

/* Without: work of a later process runs under the number of an earlier one whose series is gone. */
static void test_05_a_number_of_a_series_is_never_given_again(void **state)
{
    (void)state;
    struct world *w = scene();
    uint64_t last = 0;
    size_t count = 0;
    for (unsigned life = 0; life < 3; life++) {
        for (unsigned i = 0; i < 2 * SESSION_SERIES_COUNT_MAX; i++) {
            struct client *c = client_open(w, "s");
            assert_true(c->series > last);
            last = c->series;
            put_settled(c, PLAIN);
            die(w, c);
            assert_int_equal(tasks_stored(w), ++count);
        }
        crash_and_start(w);
    }
    assert_null(memstore_series(w->disk, last - SESSION_SERIES_COUNT_MAX));
    assert_non_null(memstore_series(w->disk, last - SESSION_SERIES_COUNT_MAX + 1));
    scene_end(w);
}

/* Without: a HELLO of a process that is dead by now arrives late and takes the session from the living. */
static void test_06_a_late_hello_of_the_dead_changes_nothing(void **state)
{
    (void)state;
    struct world *w = scene();
    struct client *p1 = sim_client_new(w, "s");
    p1->take_over = true;
    sim_peer_connect(&p1->peer);
    struct wire *late = p1->peer.wire;
    late->is_cut = true;
    sim_peer_die(&p1->peer, false);
    struct client *p2 = client_open(w, "s");
    late->is_cut = false;
    settle(w);
    assert_false(p2->peer.is_denied);
    put_settled(p2, PLAIN);
    assert_true(is_accepted(p2, 1));
    again(w, p2);
    assert_true(p2->peer.is_welcomed);
    scene_end(w);
}

/* Without: a process that opened twice is told by its own first echo that it was taken over. */
static void test_06_a_late_echo_of_an_older_connection_changes_nothing(void **state)
{
    (void)state;
    struct world *w = scene();
    struct client *c = sim_client_new(w, "s");
    hello(w, c);
    crash_and_start(w);
    sim_peer_connect(&c->peer);
    struct wire *late = c->peer.wire;
    wire_deliver_to_broker(w, late); /* HELLO */
    wire_deliver_to_peer(w, late);   /* CHALLENGE; the echo is on its way */
    late->is_cut = true;
    sim_peer_drop_wire(&c->peer, false);
    again(w, c);
    assert_true(c->peer.is_welcomed);
    late->is_cut = false;
    settle(w);
    assert_false(c->peer.is_denied);
    put_settled(c, PLAIN);
    assert_true(is_accepted(c, 1));
    scene_end(w);
}

/* Without: an echo that was held up takes the session back from a process that took it over meanwhile. */
static void test_06_a_late_echo_does_not_take_the_session_back(void **state)
{
    (void)state;
    struct world *w = scene();
    struct client *p1 = sim_client_new(w, "s");
    p1->take_over = true;
    sim_peer_connect(&p1->peer);
    struct wire *late = p1->peer.wire;
    wire_deliver_to_broker(w, late); /* HELLO */
    wire_deliver_to_peer(w, late);   /* CHALLENGE; the echo is on its way */
    late->is_cut = true;
    sim_peer_die(&p1->peer, false);
    struct client *p2 = client_open(w, "s");
    assert_true(p2->peer.is_welcomed);
    late->is_cut = false;
    settle(w);
    assert_false(p2->peer.is_denied);
    put_settled(p2, PLAIN);
    assert_true(is_accepted(p2, 1));
    scene_end(w);
}

/* Without: the loser takes the session back, and outcome 1 is delivered to nobody. */
static void test_07_a_session_has_one_owner(void **state)
{
    (void)state;
    struct world *w = scene();
    struct client *p1 = client_open(w, "s");
    struct worker *w1 = worker_hire(w, "w1", 1, 0);
    uint64_t t = put_settled(p1, PLAIN);
    struct client *rude = client_open(w, "s");
    assert_int_equal(rude->peer.denied, QUERN_IN_USE);
    struct client *p2 = sim_client_new(w, "s");
    p2->take_over = true;
    again(w, p2);
    assert_int_equal(p1->peer.denied, QUERN_TAKEN_OVER);
    again(w, p1);
    assert_false(p1->peer.is_welcomed);
    sim_worker_start(w1, t, true);
    sim_worker_finish(w1, t, FINISHED_DONE, CAUSE_NONE);
    settle(w);
    assert_non_null(sim_client_took(p2, t));
    assert_null(sim_client_took(p1, t));
    scene_end(w);
}

/* Without: a process whose WELCOME was lost is refused for ever. */
static void test_07_a_lost_welcome_is_given_again(void **state)
{
    (void)state;
    struct world *w = scene();
    struct client *p1 = sim_client_new(w, "s");
    hello(w, p1);
    commit(w);
    lose_wire(w, p1);
    assert_false(p1->was_welcomed);
    again(w, p1);
    assert_true(p1->peer.is_welcomed);
    scene_end(w);
}

/* ---- submits ---- */

/* Without: 1 is refused at once and not stored; crash; the client goes on from 2: a gap. */
static void test_08_a_refusal_is_gated(void **state)
{
    (void)state;
    struct world *w = scene();
    struct client *c = client_open(w, "s");
    broker_stats(w, true);
    put(c, PLAIN);
    put(c, PLAIN);
    assert_true(is_unanswered(c, 1));
    crash_and_start(w);
    again(w, c);
    assert_true(is_accepted(c, 1));
    assert_true(is_accepted(c, 2));
    scene_end(w);
}

/* Without: the answer is lost, and the repeated submit is called forgotten though it never ran. */
static void test_08_a_refusal_is_stored(void **state)
{
    (void)state;
    struct world *w = scene();
    struct client *c = client_open(w, "s");
    broker_stats(w, true);
    put(c, PLAIN);
    commit(w);
    crash_and_start(w);
    again(w, c);
    assert_int_equal(c->submits[0].answer, ANSWER_REFUSED);
    assert_int_equal(c->submits[0].code, QUERN_DISK);
    put_settled(c, PLAIN);
    assert_true(is_accepted(c, 2));
    assert_int_equal(tasks_stored(w), 1);
    scene_end(w);
}

/* Without: line 1 is refused, line 2 accepted, and line 1 never runs. */
static void test_09_an_ordinal_names_its_predecessor(void **state)
{
    (void)state;
    struct world *w = scene();
    struct client *c = client_open(w, "s");
    broker_stats(w, true);
    put_line(c, 1, 0);
    broker_stats(w, false);
    put_line(c, 2, 1);
    settle(w);
    assert_int_equal(c->submits[1].code, QUERN_PREDECESSOR);
    put_line(c, 1, 0);
    put_line(c, 2, 1);
    settle(w);
    assert_true(is_accepted(c, 3));
    assert_true(is_accepted(c, 4));
    scene_end(w);
}

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
    assert_false(sim_worker_start(w1, t, true));
    scene_end(w);
}

/* ---- acknowledgements ---- */

/* Without: an acknowledgement that was on its way when the session changed hands is honoured too late. */
static void test_14_acknowledgements_of_former_owners_are_ignored(void **state)
{
    (void)state;
    struct world *w = scene();
    struct client *p1 = client_open(w, "s");
    struct worker *w1 = worker_hire(w, "w1", 1, 0);
    uint64_t t = put_settled(p1, PLAIN);
    sim_worker_start(w1, t, true);
    sim_worker_finish(w1, t, FINISHED_DONE, CAUSE_NONE);
    settle(w);
    p1->peer.wire->is_cut = true;
    struct wire *late = p1->peer.wire;
    sim_client_take(p1);
    sim_client_acknowledge(p1);
    struct client *p2 = sim_client_new(w, "s");
    p2->take_over = true;
    p2->window = 1;
    again(w, p2);
    late->is_cut = false;
    settle(w);
    assert_int_equal(memstore_session(w->disk, p2->session)->acked_prefix, 0);
    assert_non_null(sim_client_took(p2, t));
    scene_end(w);
}

/* Without: taken, acknowledged, crash; it comes again, is dropped as a duplicate, and is never acknowledged. */
static void test_15_hello_carries_what_was_taken(void **state)
{
    (void)state;
    struct world *w = scene();
    struct client *p1 = client_open(w, "s");
    struct worker *w1 = worker_hire(w, "w1", 1, 0);
    uint64_t t = put_settled(p1, PLAIN);
    sim_worker_start(w1, t, true);
    sim_worker_finish(w1, t, FINISHED_DONE, CAUSE_NONE);
    settle(w);
    sim_client_take(p1);
    sim_client_acknowledge(p1);
    deliver(w);
    crash_and_start(w);
    again(w, p1);
    assert_int_equal(memstore_session(w->disk, p1->session)->acked_prefix, 1);
    die(w, p1);
    struct client *p2 = client_open(w, "s");
    assert_null(sim_client_took(p2, t));
    scene_end(w);
}

static void test_15_a_taken_outcome_in_a_range_is_not_sent_again(void **state)
{
    (void)state;
    struct world *w = scene();
    struct client *p1 = client_open(w, "s");
    struct worker *w1 = worker_hire(w, "w1", 3, 0);
    for (unsigned i = 0; i < 3; i++) {
        uint64_t t = put_settled(p1, PLAIN);
        sim_worker_start(w1, t, true);
        sim_worker_finish(w1, t, FINISHED_DONE, CAUSE_NONE);
        settle(w);
    }
    sim_client_take_at(p1, 2);
    sim_client_acknowledge(p1);
    settle(w);
    crash_and_start(w);
    die(w, p1);
    struct client *p2 = client_open(w, "s");
    assert_int_equal(p2->took_count, 2);
    assert_int_equal(p2->took[0].completion, 1);
    assert_int_equal(p2->took[1].completion, 3);
    scene_end(w);
}

/* Every second outcome is taken: exactly the others come again, however many ranges that makes. */
static void test_15_exactly_what_is_not_acknowledged_comes_again(void **state)
{
    (void)state;
    struct world *w = scene();
    w->check_every = 100;
    struct client *p1 = client_open(w, "s");
    uint64_t count = 2100;
    for (uint64_t i = 1; i <= count; i++) {
        put(p1, (struct spec){.delay_ms = DURATION_MS_MAX});
    }
    settle(w);
    for (uint64_t i = 1; i <= count; i++) {
        sim_client_cancel(p1, sim_client_task(p1, i), false);
    }
    settle(w);
    assert_int_equal(p1->took_count, count);
    for (uint64_t round = 0; round < 3; round++) { /* in several batches, so that some ranges grow together on disk */
        for (uint64_t i = 2 + 2 * round; i <= count; i += 6) {
            sim_client_take_at(p1, i);
        }
        sim_client_acknowledge(p1);
        settle(w);
    }
    for (uint64_t i = 2001; i <= 2051; i += 2) { /* holes that are filled */
        sim_client_take_at(p1, i);
    }
    sim_client_acknowledge(p1);
    settle(w);
    crash_and_start(w);
    die(w, p1);
    struct client *p2 = client_open(w, "s");
    assert_int_equal(p2->took_count, count / 2 - 26);
    for (size_t i = 0; i < p2->took_count; i++) {
        uint64_t completion = p2->took[i].completion;
        assert_true(completion % 2 == 1 && (completion < 2001 || completion > 2051));
    }
    while (sim_client_take(p2)) {
    }
    sim_client_acknowledge(p2);
    settle(w);
    crash_and_start(w);
    die(w, p2);
    struct client *p3 = client_open(w, "s");
    assert_int_equal(p3->took_count, 0);
    assert_int_equal(memstore_session(w->disk, p3->session)->acked_prefix, count);
    assert_int_equal(memstore_taken_count(w->disk), 0);
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

/* Without: a late old HELLO resets the generation, and the client is never welcomed. */
static void test_25_a_late_hello_of_a_client_is_ignored(void **state)
{
    (void)state;
    struct world *w = scene();
    struct client *c = client_open(w, "s");
    lose_wire(w, c);
    sim_peer_connect(&c->peer);
    struct wire *late = c->peer.wire;
    late->is_cut = true;
    sim_peer_drop_wire(&c->peer, false);
    again(w, c);
    late->is_cut = false;
    settle(w);
    assert_true(c->peer.is_welcomed);
    put_settled(c, PLAIN);
    assert_true(is_accepted(c, 1));
    again(w, c);
    assert_true(c->peer.is_welcomed);
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

static void test_32_an_unanswered_submit_is_sent_again(void **state)
{
    (void)state;
    struct world *w = scene();
    struct client *c = client_open(w, "s");
    c->peer.wire->is_cut = true;
    put(c, PLAIN);
    put(c, PLAIN);
    lose_wire(w, c);
    again(w, c);
    assert_true(is_accepted(c, 1));
    assert_true(is_accepted(c, 2));
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
        cmocka_unit_test(test_03_what_a_former_instance_held_is_lost),
        cmocka_unit_test(test_04_a_killed_attempt_is_listed_until_its_receipt),
        cmocka_unit_test(test_05_a_series_is_durable_before_it_is_used),
        cmocka_unit_test(test_05_the_same_instance_keeps_its_series),
        cmocka_unit_test(test_05_a_number_of_a_series_is_never_given_again),
        cmocka_unit_test(test_06_a_late_hello_of_the_dead_changes_nothing),
        cmocka_unit_test(test_06_a_late_echo_of_an_older_connection_changes_nothing),
        cmocka_unit_test(test_06_a_late_echo_does_not_take_the_session_back),
        cmocka_unit_test(test_07_a_session_has_one_owner),
        cmocka_unit_test(test_07_a_lost_welcome_is_given_again),
        cmocka_unit_test(test_08_a_refusal_is_gated),
        cmocka_unit_test(test_08_a_refusal_is_stored),
        cmocka_unit_test(test_09_an_ordinal_names_its_predecessor),
        cmocka_unit_test(test_10_a_revoke_withdraws_its_own_gated_dispatch),
        cmocka_unit_test(test_10_a_worker_that_drains_is_not_sent_a_gated_dispatch),
        cmocka_unit_test(test_10_a_worker_leaves_when_its_returns_are_on_disk),
        cmocka_unit_test(test_11_a_failure_counts_once),
        cmocka_unit_test(test_12_at_most_once_is_never_retried),
        cmocka_unit_test(test_13_nothing_starts_after_the_lease),
        cmocka_unit_test(test_14_acknowledgements_of_former_owners_are_ignored),
        cmocka_unit_test(test_15_hello_carries_what_was_taken),
        cmocka_unit_test(test_15_a_taken_outcome_in_a_range_is_not_sent_again),
        cmocka_unit_test(test_15_exactly_what_is_not_acknowledged_comes_again),
        cmocka_unit_test(test_16_a_receipt_names_its_token),
        cmocka_unit_test(test_17_accepted_comes_after_the_commit),
        cmocka_unit_test(test_18_a_result_comes_after_the_commit),
        cmocka_unit_test(test_19_a_receipt_comes_after_the_commit),
        cmocka_unit_test(test_20_a_gate_names_its_own_batch),
        cmocka_unit_test(test_20_a_worker_is_sent_to_after_its_own_welcome),
        cmocka_unit_test(test_21_at_most_once_leaves_after_its_lease_is_on_disk),
        cmocka_unit_test(test_21_an_ordinary_task_does_not_wait),
        cmocka_unit_test(test_22_at_most_once_of_unknown_fate_is_lost),
        cmocka_unit_test(test_23_leased_rows_wait_for_the_grace_period),
        cmocka_unit_test(test_23_a_ready_row_waits_for_claims_after_an_unclean_end),
        cmocka_unit_test(test_23_ready_tasks_go_when_every_worker_on_record_has_come_back),
        cmocka_unit_test(test_23_a_new_process_of_that_name_speaks_for_the_dead_one),
        cmocka_unit_test(test_23_nothing_is_waited_for_if_no_worker_ever_came),
        cmocka_unit_test(test_23_after_rows_of_workers_were_deleted_all_claims_are_waited_for),
        cmocka_unit_test(test_24_hello_lists_what_is_finished),
        cmocka_unit_test(test_25_a_late_hello_of_a_worker_is_ignored),
        cmocka_unit_test(test_25_a_late_hello_of_a_client_is_ignored),
        cmocka_unit_test(test_26_an_outcome_counts_only_with_its_token),
        cmocka_unit_test(test_27_the_epoch_is_in_the_token),
        cmocka_unit_test(test_28_the_attempt_number_rises_with_every_dispatch),
        cmocka_unit_test(test_29_submitted_high_commits_with_the_submits),
        cmocka_unit_test(test_30_completion_numbers_are_given_once),
        cmocka_unit_test(test_31_an_ordinal_commits_with_its_submit),
        cmocka_unit_test(test_32_an_unanswered_submit_is_sent_again),
    };
    if (argc > 1) {
        cmocka_set_test_filter(argv[1]);
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/*
 * test_trace_sessions: one named scene for each rule of sessions: series, owners, submits, acknowledgements.
 * The oracle watches every scene as well; the assertions say what the scene is about.
 * Start reading anywhere.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "real_client.h"
#include "scenario.h"

/* ---- instances and lists ---- */

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

/* What is tried again by hand is a new task each time, in a series that no client has. */
static void test_05_the_broker_submits_under_numbers_of_its_own(void **state)
{
    (void)state;
    struct world *w = scene();
    struct client *c = client_open(w, "s");
    struct worker *w1 = worker_hire(w, "w1", 1, 0);
    uint64_t t = put_settled(c, PLAIN);
    sim_worker_start(w1, t, false);
    sim_worker_finish(w1, t, FINISHED_DONE, CAUSE_NONE);
    settle(w);
    die(w, w1); /* what nobody runs stands on disk to be looked at */
    settle(w);
    for (unsigned i = 0; i < 3; i++) {
        struct msg_RETRY retry = {.request = sim_client_ask(c, MSG_RETRY, t)->number, .task = t};
        msg_RETRY_put(sim_peer_out(&c->peer), &retry);
        sim_peer_flush(&c->peer);
        settle(w);
    }
    assert_int_equal(tasks_stored(w), 4);
    for (size_t i = 0; i < 3; i++) {
        assert_int_not_equal(id_series(memstore_task_at(w->disk, i)->id), id_series(t));
    }
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

/* ---- generations ---- */

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

/* ---- one commit ---- */

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
        cmocka_unit_test(test_05_a_series_is_durable_before_it_is_used),
        cmocka_unit_test(test_05_the_same_instance_keeps_its_series),
        cmocka_unit_test(test_05_a_number_of_a_series_is_never_given_again),
        cmocka_unit_test(test_05_the_broker_submits_under_numbers_of_its_own),
        cmocka_unit_test(test_06_a_late_hello_of_the_dead_changes_nothing),
        cmocka_unit_test(test_06_a_late_echo_of_an_older_connection_changes_nothing),
        cmocka_unit_test(test_06_a_late_echo_does_not_take_the_session_back),
        cmocka_unit_test(test_07_a_session_has_one_owner),
        cmocka_unit_test(test_07_a_lost_welcome_is_given_again),
        cmocka_unit_test(test_08_a_refusal_is_gated),
        cmocka_unit_test(test_08_a_refusal_is_stored),
        cmocka_unit_test(test_09_an_ordinal_names_its_predecessor),
        cmocka_unit_test(test_14_acknowledgements_of_former_owners_are_ignored),
        cmocka_unit_test(test_15_hello_carries_what_was_taken),
        cmocka_unit_test(test_15_a_taken_outcome_in_a_range_is_not_sent_again),
        cmocka_unit_test(test_15_exactly_what_is_not_acknowledged_comes_again),
        cmocka_unit_test(test_25_a_late_hello_of_a_client_is_ignored),
        cmocka_unit_test(test_32_an_unanswered_submit_is_sent_again),
    };
    if (argc > 1) {
        cmocka_set_test_filter(argv[1]);
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}

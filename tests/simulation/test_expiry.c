/*
 * test_expiry: scenes about when a task may start: what expires, what waits for a time of the clock, and what fails at
 * once because nobody serves its function. The oracle watches that nothing expires too early, and that nothing that has
 * expired starts.
 * Start reading anywhere.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "scenario.h"

#define EXPIRES_MS 1000
#define EXPIRING ((struct spec){.expires_ms = EXPIRES_MS})

static void wait_ms(struct world *w, int64_t ms)
{
    pass_still(w, ms);
    settle(w);
}

static void assert_expired(struct world *w, struct client *c, uint64_t task)
{
    assert_int_equal(stored_state(w, task), TASK_FAILED);
    assert_int_equal(stored_cause(w, task), CAUSE_EXPIRED);
    assert_non_null(sim_client_took(c, task));
    assert_int_equal(sim_client_took(c, task)->cause, CAUSE_EXPIRED);
}

/* ---- expires ---- */

static void test_a_task_that_nobody_started_in_time_fails_as_expired(void **state)
{
    (void)state;
    struct world *w = scene();
    struct client *c = client_open(w, "s");
    uint64_t t = put_settled(c, EXPIRING);
    uint64_t other = put_settled(c, PLAIN);
    wait_ms(w, EXPIRES_MS - 1);
    assert_int_equal(stored_state(w, t), TASK_READY);
    wait_ms(w, 1);
    assert_expired(w, c, t);
    assert_int_equal(stored_state(w, other), TASK_READY);
    struct worker *w1 = worker_hire(w, "w1", 2, 0);
    assert_null(sim_worker_held(w1, t));
    assert_non_null(sim_worker_held(w1, other));
    scene_end(w);
}

static void test_a_delayed_task_expires_too(void **state)
{
    (void)state;
    struct world *w = scene();
    struct client *c = client_open(w, "s");
    uint64_t t = put_settled(c, (struct spec){.expires_ms = EXPIRES_MS, .delay_ms = 5 * EXPIRES_MS});
    wait_ms(w, EXPIRES_MS);
    assert_expired(w, c, t);
    scene_end(w);
}

/* It runs as long as it runs. */
static void test_a_task_that_has_started_does_not_expire(void **state)
{
    (void)state;
    struct world *w = scene();
    struct client *c = client_open(w, "s");
    struct worker *w1 = worker_hire(w, "w1", 1, 0);
    uint64_t t = put_settled(c, EXPIRING);
    sim_worker_start(w1, t, true);
    settle(w);
    wait_ms(w, 2 * EXPIRES_MS);
    sim_worker_finish(w1, t, FINISHED_DONE, CAUSE_NONE);
    settle(w);
    assert_int_equal(stored_state(w, t), TASK_DONE);
    scene_end(w);
}

/* Neither while it backs off nor while it waits for its second attempt, also over a restart. */
static void test_a_retry_does_not_expire(void **state)
{
    (void)state;
    struct world *w = scene();
    struct client *c = client_open(w, "s");
    struct worker *w1 = worker_hire(w, "w1", 1, 0);
    uint64_t t = put_settled(c, (struct spec){.expires_ms = EXPIRES_MS, .attempts = 3});
    sim_worker_start(w1, t, false);
    sim_worker_finish(w1, t, FINISHED_FAILED, CAUSE_ERROR);
    settle(w);
    die(w, w1);
    assert_int_equal(stored_state(w, t), TASK_BACKOFF);
    wait_ms(w, 2 * EXPIRES_MS);
    assert_int_equal(stored_state(w, t), TASK_READY);
    crash_and_start(w);
    again(w, c);
    wait_ms(w, 2 * EXPIRES_MS);
    assert_int_equal(stored_state(w, t), TASK_READY);
    struct worker *w2 = worker_hire(w, "w2", 1, 0);
    sim_worker_start(w2, t, true);
    sim_worker_finish(w2, t, FINISHED_DONE, CAUSE_NONE);
    settle(w);
    assert_int_equal(stored_state(w, t), TASK_DONE);
    scene_end(w);
}

/* Nothing is said of it before its worker has said that it did not start it. */
static void test_a_leased_task_expires_when_its_worker_has_returned_it(void **state)
{
    (void)state;
    struct world *w = scene();
    struct client *c = client_open(w, "s");
    struct worker *w1 = worker_hire(w, "w1", 1, 0);
    uint64_t t = put_settled(c, EXPIRING);
    pass_still(w, EXPIRES_MS);
    commit(w);
    assert_int_equal(stored_state(w, t), TASK_LEASED); /* its revoke is on its way */
    assert_non_null(sim_worker_held(w1, t));
    settle(w);
    assert_null(sim_worker_held(w1, t));
    assert_expired(w, c, t);
    scene_end(w);
}

/* The revoke and the start cross on the way. */
static void test_a_leased_task_that_starts_as_its_time_ends_runs(void **state)
{
    (void)state;
    struct world *w = scene();
    struct client *c = client_open(w, "s");
    struct worker *w1 = worker_hire(w, "w1", 1, 0);
    uint64_t t = put_settled(c, EXPIRING);
    pass_still(w, EXPIRES_MS);
    sim_worker_start(w1, t, false);
    settle(w);
    assert_int_equal(stored_state(w, t), TASK_RUNNING);
    sim_worker_finish(w1, t, FINISHED_FAILED, CAUSE_ERROR);
    settle(w);
    assert_int_equal(stored_cause(w, t), CAUSE_ERROR);
    scene_end(w);
}

static void test_a_leased_task_whose_worker_is_lost_after_its_time_expires(void **state)
{
    (void)state;
    struct world *w = scene();
    struct client *c = client_open(w, "s");
    struct worker *w1 = worker_hire(w, "w1", 1, 0);
    uint64_t t = put_settled(c, EXPIRING);
    pass_still(w, EXPIRES_MS);
    die(w, w1);
    settle(w);
    assert_int_equal(stored_state(w, t), TASK_LEASED);
    lease_over(w);
    again(w, c);
    assert_int_equal(stored_cause(w, t), CAUSE_EXPIRED);
    assert_int_equal(memstore_failure_count(w->disk, t), 1);
    scene_end(w);
}

/* Whoever submitted it was promised to be told if it may have run. */
static void test_what_runs_at_most_once_and_is_lost_after_its_time_is_lost(void **state)
{
    (void)state;
    struct world *w = scene();
    struct client *c = client_open(w, "s");
    struct worker *w1 = worker_hire(w, "w1", 1, 0);
    uint64_t t = put_settled(c, (struct spec){.expires_ms = EXPIRES_MS, .at_most_once = true});
    assert_non_null(sim_worker_held(w1, t));
    pass_still(w, EXPIRES_MS);
    die(w, w1);
    lease_over(w);
    settle(w);
    assert_int_equal(stored_cause(w, t), CAUSE_LOST);
    scene_end(w);
}

/* Its dispatch waits for the commit: there is nobody to ask. */
static void test_what_runs_at_most_once_expires_at_once_while_its_dispatch_is_not_sent(void **state)
{
    (void)state;
    struct world *w = scene();
    struct client *c = client_open(w, "s");
    struct worker *w1 = worker_hire(w, "w1", 1, 0);
    uint64_t t = put(c, (struct spec){.expires_ms = EXPIRES_MS, .at_most_once = true});
    assert_null(sim_worker_held(w1, t));
    pass_still(w, EXPIRES_MS);
    settle(w);
    assert_null(sim_worker_held(w1, t));
    assert_expired(w, c, t);
    scene_end(w);
}

/* Lost before its time was over, and no start was told: it may still expire. Lost while it ran: not any more. */
static void test_a_lost_attempt_ends_the_expiry_only_if_it_was_known_to_run(void **state)
{
    (void)state;
    for (int runs = 0; runs <= 1; runs++) {
        struct world *w = scene();
        w->limits.lease_ms = 400;
        w->limits.heartbeat_ms = 100;
        w->limits.dead_ms = 300;
        broker_restart(w);
        struct client *c = client_open(w, "s");
        struct worker *w1 = worker_hire(w, "w1", 1, 0);
        uint64_t t = put_settled(c, EXPIRING);
        if (runs) {
            sim_worker_start(w1, t, true);
            settle(w);
        }
        die(w, w1);
        lease_over(w);
        settle(w);
        assert_int_equal(stored_state(w, t), TASK_READY);
        assert_int_equal(memstore_task(w->disk, t)->losses, 1);
        crash_and_start(w); /* the disk knows which of them it was */
        wait_ms(w, 2 * EXPIRES_MS);
        assert_int_equal(stored_cause(w, t), runs ? CAUSE_NONE : CAUSE_EXPIRED);
        scene_end(w);
    }
}

static void test_the_time_goes_on_while_the_broker_is_away(void **state)
{
    (void)state;
    struct world *w = scene();
    struct client *c = client_open(w, "s");
    uint64_t early = put_settled(c, EXPIRING);
    uint64_t late = put_settled(c, (struct spec){.expires_ms = 5 * EXPIRES_MS});
    broker_crash(w);
    deliver(w);
    pass_still(w, 2 * EXPIRES_MS);
    broker_start(w);
    again(w, c);
    claims_over(w);
    assert_expired(w, c, early);
    assert_int_equal(stored_state(w, late), TASK_READY);
    wait_ms(w, 3 * EXPIRES_MS);
    assert_expired(w, c, late);
    scene_end(w);
}

/* Its lease row is what the crash has taken: its worker has the claim window to say that it runs. */
static void test_the_claim_window_comes_before_the_expiry(void **state)
{
    (void)state;
    struct world *w = scene();
    struct client *c = client_open(w, "s");
    uint64_t t = put_settled(c, EXPIRING);
    struct worker *w1 = sim_worker_new(w, "w1", 1);
    hello(w, w1);
    commit_one(w);
    assert_non_null(sim_worker_held(w1, t));
    assert_int_equal(stored_state(w, t), TASK_READY);
    broker_crash(w);
    sim_worker_start(w1, t, false);
    deliver(w);
    pass_still(w, EXPIRES_MS);
    broker_start(w);
    broker_tick(w);
    settle(w);
    assert_int_equal(stored_cause(w, t), CAUSE_NONE);
    again(w, w1);
    again(w, c);
    assert_int_equal(stored_state(w, t), TASK_RUNNING);
    wait_ms(w, 2 * EXPIRES_MS);
    sim_worker_finish(w1, t, FINISHED_DONE, CAUSE_NONE);
    settle(w);
    assert_int_equal(stored_state(w, t), TASK_DONE);
    scene_end(w);
}

/* The worker that holds it is away when its time ends: it is asked when it is back. */
static void test_a_leased_task_is_called_back_when_its_worker_is_back(void **state)
{
    (void)state;
    struct world *w = scene();
    struct client *c = client_open(w, "s");
    struct worker *w1 = worker_hire(w, "w1", 1, 0);
    uint64_t t = put_settled(c, EXPIRING);
    crash_and_start(w);
    again(w, c);
    wait_ms(w, 2 * EXPIRES_MS);
    assert_int_equal(stored_state(w, t), TASK_LEASED);
    again(w, w1);
    assert_null(sim_worker_held(w1, t));
    assert_expired(w, c, t);
    scene_end(w);
}

/* A clock that was set while the broker was away gives nobody more time than he had, and ends the world of nobody who
 * waits for a backoff. */
static void test_a_clock_set_back_over_a_restart_gives_no_more_time_than_there_was(void **state)
{
    (void)state;
    struct world *w = scene();
    struct client *c = client_open(w, "s");
    uint64_t t = put_settled(c, EXPIRING);
    broker_crash(w);
    deliver(w);
    w->wall_shift = -1000000000;
    broker_start(w);
    again(w, c);
    wait_ms(w, EXPIRES_MS);
    assert_expired(w, c, t);
    scene_end(w);
}

/* While it runs the broker goes by a clock that nobody sets. */
static void test_a_clock_that_is_set_expires_nothing(void **state)
{
    (void)state;
    struct world *w = scene();
    struct client *c = client_open(w, "s");
    uint64_t t = put_settled(c, EXPIRING);
    w->wall_shift = 1000000000;
    wait_ms(w, EXPIRES_MS - 1);
    assert_int_equal(stored_state(w, t), TASK_READY);
    w->wall_shift = -1000000000;
    wait_ms(w, 1);
    assert_expired(w, c, t);
    scene_end(w);
}

static void test_a_task_of_a_volatile_session_expires(void **state)
{
    (void)state;
    struct world *w = scene();
    struct client *c = sim_client_new(w, "v");
    c->is_volatile = true;
    again(w, c);
    uint64_t t = put_settled(c, EXPIRING);
    wait_ms(w, EXPIRES_MS);
    assert_non_null(sim_client_took(c, t));
    assert_int_equal(sim_client_took(c, t)->cause, CAUSE_EXPIRED);
    assert_int_equal(tasks_stored(w), 0);
    scene_end(w);
}

/* One of both, whichever was first; the cancel is answered. */
static void test_a_cancel_and_the_end_of_its_time_make_one_outcome(void **state)
{
    (void)state;
    struct world *w = scene();
    struct client *c = client_open(w, "s");
    struct worker *w1 = worker_hire(w, "w1", 1, 0);
    uint64_t held = put_settled(c, EXPIRING);
    uint64_t waits = put_settled(c, EXPIRING);
    assert_non_null(sim_worker_held(w1, held));
    sim_client_cancel(c, held, false);
    deliver(w);
    pass_still(w, EXPIRES_MS);
    settle(w);
    assert_int_equal(stored_state(w, held), TASK_CANCELLED);
    assert_int_equal(sim_client_request(c)->code, QUERN_OK);
    assert_expired(w, c, waits);
    sim_client_cancel(c, waits, false);
    settle(w);
    assert_int_equal(sim_client_request(c)->code, QUERN_FINISHED);
    scene_end(w);
}

/* More than one step takes on: nothing of the rest is handed out meanwhile. */
static void test_a_crowd_expires_in_slices_and_nothing_of_it_starts(void **state)
{
    (void)state;
    struct world *w = scene();
    struct client *c = client_open(w, "s");
    w->check_every = 1000;
    unsigned count = EXPIRE_COUNT_MAX + 100;
    struct worker *w1 = worker_hire(w, "w1", 1, 0);
    sim_worker_capacity(w1, 0);
    settle(w);
    for (unsigned i = 0; i < count; i++) {
        sim_client_submit(c, &EXPIRING);
    }
    settle(w);
    w->now += EXPIRES_MS;
    sim_worker_capacity(w1, 1000); /* the event that finds them all over */
    deliver(w);
    settle(w);
    assert_int_equal(w1->held_count, 0);
    wait_ms(w, 1);
    assert_int_equal(oracle_counts(w).outcomes, count);
    assert_int_equal(oracle_counts(w).dispatches, 0);
    scene_end(w);
}

/* ---- at ---- */

static struct spec at(const struct world *w, int64_t from_now_ms)
{
    return (struct spec){.delay_ms = (uint64_t)(WALL_START + w->wall_shift + w->now + from_now_ms)};
}

static void test_a_task_for_a_time_of_the_clock_waits_for_that_time(void **state)
{
    (void)state;
    struct world *w = scene();
    struct client *c = client_open(w, "s");
    uint64_t t = put_settled(c, at(w, 5000));
    uint64_t past = put_settled(c, at(w, -5000));
    assert_int_equal(stored_state(w, past), TASK_READY);
    wait_ms(w, 4999);
    assert_int_equal(stored_state(w, t), TASK_DELAYED);
    wait_ms(w, 1);
    assert_int_equal(stored_state(w, t), TASK_READY);
    scene_end(w);
}

/* Set forward: it is that time now. Set back: it is not yet. A delay is not touched by either. */
static void test_a_clock_that_is_set_moves_what_waits_for_a_time_and_no_delay(void **state)
{
    (void)state;
    struct world *w = scene();
    struct client *c = client_open(w, "s");
    uint64_t t = put_settled(c, at(w, 3600000));
    uint64_t delayed = put_settled(c, (struct spec){.delay_ms = 3600000});
    w->wall_shift = 3600000;
    wait_ms(w, WALL_LOOK_MS);
    assert_int_equal(stored_state(w, t), TASK_READY);
    assert_int_equal(stored_state(w, delayed), TASK_DELAYED);
    uint64_t later = put_settled(c, at(w, 2000));
    w->wall_shift = 0;
    wait_ms(w, 3000);
    assert_int_equal(stored_state(w, later), TASK_DELAYED);
    scene_end(w);
}

/* What is on record is a time: over a restart a delay and a time of the clock are kept, and both follow the clock. */
static void test_over_a_restart_delays_and_times_are_kept_by_the_wall_clock(void **state)
{
    (void)state;
    struct world *w = scene();
    struct client *c = client_open(w, "s");
    uint64_t t = put_settled(c, at(w, 60000));
    uint64_t delayed = put_settled(c, (struct spec){.delay_ms = 60000});
    crash_and_start(w);
    again(w, c);
    wait_ms(w, 5000);
    assert_int_equal(stored_state(w, t), TASK_DELAYED);
    assert_int_equal(stored_state(w, delayed), TASK_DELAYED);
    w->wall_shift = 55000;
    wait_ms(w, WALL_LOOK_MS);
    assert_int_equal(stored_state(w, t), TASK_READY);
    assert_int_equal(stored_state(w, delayed), TASK_READY);
    scene_end(w);
}

static void test_a_cancelled_task_leaves_the_clock(void **state)
{
    (void)state;
    struct world *w = scene();
    struct client *c = client_open(w, "s");
    uint64_t t = put_settled(c, at(w, 2000));
    uint64_t other = put_settled(c, at(w, 2000));
    sim_client_cancel(c, t, false);
    settle(w);
    assert_int_equal(stored_state(w, t), TASK_CANCELLED);
    wait_ms(w, 2000);
    assert_int_equal(stored_state(w, other), TASK_READY);
    scene_end(w);
}

/* ---- known ---- */

#define KNOWN(name) ((struct spec){.function = (name), .known = true})

static void assert_unknown(struct world *w, struct client *c, uint64_t task)
{
    assert_int_equal(stored_state(w, task), TASK_FAILED);
    assert_int_equal(stored_cause(w, task), CAUSE_ERROR);
    assert_true(bytes_is(memstore_outcome(w->disk, task)->kind, "UnknownFunction"));
    assert_int_equal(memstore_outcome(w->disk, task)->attempt, 0);
    assert_non_null(sim_client_took(c, task));
}

/* What it knows when the submit arrives: with a worker it waits, without it fails, and only if it was asked to. */
static void test_a_task_that_must_be_known_fails_at_once_when_nobody_serves_it(void **state)
{
    (void)state;
    struct world *w = scene();
    claims_over(w);
    struct client *c = client_open(w, "s");
    assert_unknown(w, c, put_settled(c, KNOWN(NULL)));
    uint64_t waits = put_settled(c, PLAIN);
    assert_int_equal(stored_state(w, waits), TASK_READY);
    struct worker *w1 = worker_hire(w, "w1", 1, 0);
    uint64_t t = put_settled(c, KNOWN(NULL));
    assert_int_equal(stored_cause(w, t), CAUSE_NONE);
    assert_unknown(w, c, put_settled(c, KNOWN("wrok")));
    die(w, w1);
    settle(w);
    assert_int_equal(stored_cause(w, t), CAUSE_NONE); /* it was known: it waits */
    scene_end(w);
}

static void test_a_delayed_task_that_must_be_known_is_looked_at_now_and_when_it_is_due(void **state)
{
    (void)state;
    struct world *w = scene();
    claims_over(w);
    struct client *c = client_open(w, "s");
    assert_unknown(w, c, put_settled(c, (struct spec){.known = true, .delay_ms = 1000}));
    struct worker *w1 = worker_hire(w, "w1", 1, 0);
    uint64_t t = put_settled(c, (struct spec){.known = true, .delay_ms = 1000});
    assert_int_equal(stored_state(w, t), TASK_DELAYED);
    sim_peer_die(&w1->peer, true);
    lease_over(w);
    again(w, c);
    assert_int_equal(stored_cause(w, t), CAUSE_NONE); /* the lease was not over when it was due */
    scene_end(w);
}

/* Its connection broke a moment ago; it is likely to be back. */
static void test_a_worker_counts_as_known_until_its_lease_is_over(void **state)
{
    (void)state;
    struct world *w = scene();
    claims_over(w);
    struct client *c = client_open(w, "s");
    struct worker *w1 = worker_hire(w, "w1", 1, 0);
    lose_wire(w, w1);
    uint64_t t = put_settled(c, KNOWN(NULL));
    assert_int_equal(stored_state(w, t), TASK_READY);
    lease_over(w);
    again(w, c);
    assert_int_equal(stored_state(w, t), TASK_READY); /* once it waits it waits */
    assert_unknown(w, c, put_settled(c, KNOWN(NULL)));
    scene_end(w);
}

/* Workers are coming back: who submits in that moment is told the truth, after it. */
static void test_after_a_restart_workers_have_the_claim_window_to_be_known(void **state)
{
    (void)state;
    for (int comes_back = 0; comes_back <= 1; comes_back++) {
        struct world *w = scene();
        struct client *c = client_open(w, "s");
        struct worker *w1 = worker_hire(w, "w1", 1, 0);
        crash_and_start(w);
        again(w, c);
        uint64_t t = put_settled(c, KNOWN(NULL));
        assert_int_equal(stored_cause(w, t), CAUSE_NONE);
        if (comes_back) {
            again(w, w1);
        }
        claims_over(w);
        assert_int_equal(stored_cause(w, t), comes_back ? CAUSE_NONE : CAUSE_ERROR);
        assert_int_equal(comes_back, sim_worker_held(w1, t) != NULL);
        scene_end(w);
    }
}

/* A second crash within that window: the look is still to come, and comes once. */
static void test_a_crash_in_the_claim_window_does_not_lose_the_look(void **state)
{
    (void)state;
    struct world *w = scene();
    struct client *c = client_open(w, "s");
    crash_and_start(w);
    again(w, c);
    uint64_t t = put_settled(c, KNOWN(NULL));
    crash_and_start(w);
    again(w, c);
    assert_int_equal(stored_cause(w, t), CAUSE_NONE);
    claims_over(w);
    settle(w);
    assert_unknown(w, c, t);
    scene_end(w);
}

/* The answer was lost, not the task: sent again it is what it was. */
static void test_a_repeated_submit_is_not_looked_at_again(void **state)
{
    (void)state;
    struct world *w = scene();
    claims_over(w);
    struct client *c = client_open(w, "s");
    struct worker *w1 = worker_hire(w, "w1", 1, 0);
    put_settled(c, PLAIN);
    uint64_t t = put(c, KNOWN(NULL));
    commit_one(w);
    die(w, w1);
    lease_over(w);
    again(w, c);
    c->submits[1].answer = ANSWER_NONE;
    again(w, c);
    assert_true(is_accepted(c, 2));
    assert_int_equal(stored_state(w, t), TASK_READY);
    scene_end(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_task_that_nobody_started_in_time_fails_as_expired),
        cmocka_unit_test(test_a_delayed_task_expires_too),
        cmocka_unit_test(test_a_task_that_has_started_does_not_expire),
        cmocka_unit_test(test_a_retry_does_not_expire),
        cmocka_unit_test(test_a_leased_task_expires_when_its_worker_has_returned_it),
        cmocka_unit_test(test_a_leased_task_that_starts_as_its_time_ends_runs),
        cmocka_unit_test(test_a_leased_task_whose_worker_is_lost_after_its_time_expires),
        cmocka_unit_test(test_what_runs_at_most_once_and_is_lost_after_its_time_is_lost),
        cmocka_unit_test(test_what_runs_at_most_once_expires_at_once_while_its_dispatch_is_not_sent),
        cmocka_unit_test(test_a_lost_attempt_ends_the_expiry_only_if_it_was_known_to_run),
        cmocka_unit_test(test_the_time_goes_on_while_the_broker_is_away),
        cmocka_unit_test(test_the_claim_window_comes_before_the_expiry),
        cmocka_unit_test(test_a_leased_task_is_called_back_when_its_worker_is_back),
        cmocka_unit_test(test_a_clock_set_back_over_a_restart_gives_no_more_time_than_there_was),
        cmocka_unit_test(test_a_clock_that_is_set_expires_nothing),
        cmocka_unit_test(test_a_task_of_a_volatile_session_expires),
        cmocka_unit_test(test_a_cancel_and_the_end_of_its_time_make_one_outcome),
        cmocka_unit_test(test_a_crowd_expires_in_slices_and_nothing_of_it_starts),
        cmocka_unit_test(test_a_task_for_a_time_of_the_clock_waits_for_that_time),
        cmocka_unit_test(test_a_clock_that_is_set_moves_what_waits_for_a_time_and_no_delay),
        cmocka_unit_test(test_over_a_restart_delays_and_times_are_kept_by_the_wall_clock),
        cmocka_unit_test(test_a_cancelled_task_leaves_the_clock),
        cmocka_unit_test(test_a_task_that_must_be_known_fails_at_once_when_nobody_serves_it),
        cmocka_unit_test(test_a_delayed_task_that_must_be_known_is_looked_at_now_and_when_it_is_due),
        cmocka_unit_test(test_a_worker_counts_as_known_until_its_lease_is_over),
        cmocka_unit_test(test_after_a_restart_workers_have_the_claim_window_to_be_known),
        cmocka_unit_test(test_a_crash_in_the_claim_window_does_not_lose_the_look),
        cmocka_unit_test(test_a_repeated_submit_is_not_looked_at_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

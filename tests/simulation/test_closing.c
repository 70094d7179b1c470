/*
 * test_closing: scenes about clients that leave: what becomes of their work, what of its results, and when the session
 * goes.
 * Start reading anywhere.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "scenario.h"

#define HOUR_MS 3600000

static void run(struct world *w, struct worker *worker, uint64_t task)
{
    assert_true(sim_worker_start(worker, task, true));
    sim_worker_finish(worker, task, FINISHED_DONE, CAUSE_NONE);
    settle(w);
    assert_int_equal(stored_state(w, task), TASK_DONE);
}

static size_t sessions_stored(const struct world *w)
{
    size_t count = 0;
    for (uint64_t id = 1; id < 100; id++) {
        count += memstore_session(w->disk, id) != NULL;
    }
    return count;
}

static void wait_ms(struct world *w, int64_t ms)
{
    pass_still(w, ms);
    settle(w);
}

/* After ten seconds without it. */
static struct client *client_that_expires(struct world *w)
{
    struct client *c = sim_client_new(w, NULL);
    c->expire_ms = 10000;
    again(w, c);
    return c;
}

/* Closed or killed: nobody can tell, and it does not matter. */
static void test_work_of_an_unnamed_session_runs_though_its_client_has_left(void **state)
{
    (void)state;
    for (int restarts = 0; restarts <= 1; restarts++) {
        struct world *w = scene();
        struct client *c = client_open(w, NULL);
        uint64_t first = put_settled(c, PLAIN);
        uint64_t second = put_settled(c, (struct spec){.delay_ms = HOUR_MS});
        die(w, c);
        wait_ms(w, HOUR_MS / 2);
        if (restarts) {
            crash_and_start(w);
        }
        wait_ms(w, HOUR_MS);
        assert_int_equal(stored_state(w, first), TASK_READY);
        struct worker *w1 = worker_hire(w, "w1", 2, 0);
        run(w, w1, first);
        run(w, w1, second);
        assert_int_equal(sessions_stored(w), 1);
        scene_end(w);
    }
}

/* Its network was away, or its lid was closed. */
static void test_a_client_that_was_away_for_long_goes_on_in_its_unnamed_session(void **state)
{
    (void)state;
    struct world *w = scene();
    struct client *c = client_open(w, NULL);
    uint64_t first = put_settled(c, PLAIN);
    lose_wire(w, c);
    wait_ms(w, HOUR_MS);
    struct worker *w1 = worker_hire(w, "w1", 1, 0);
    run(w, w1, first);
    again(w, c);
    assert_non_null(sim_client_took(c, first));
    uint64_t second = put_settled(c, PLAIN);
    assert_true(is_accepted(c, 2));
    run(w, w1, second);
    scene_end(w);
}

static void test_results_that_nobody_fetches_go_after_their_time_and_the_session_with_them(void **state)
{
    (void)state;
    for (int keep = 0; keep <= 1; keep++) {
        struct world *w = scene();
        w->limits.left_keep_ms = HOUR_MS;
        w->limits.unacked_keep_ms = 3 * HOUR_MS;
        broker_restart(w);
        claims_over(w);
        struct client *c = sim_client_new(w, NULL);
        c->keep = keep;
        again(w, c);
        uint64_t t = put_settled(c, PLAIN);
        die(w, c);
        wait_ms(w, 2 * HOUR_MS); /* it counts from the end of its work */
        struct worker *w1 = worker_hire(w, "w1", 1, 0);
        run(w, w1, t);
        wait_ms(w, HOUR_MS - 60000);
        assert_int_equal(sessions_stored(w), 1);
        wait_ms(w, 60000);
        assert_int_equal(sessions_stored(w), keep);
        wait_ms(w, 2 * HOUR_MS);
        assert_int_equal(sessions_stored(w), 0);
        scene_end(w);
    }
}

static void test_an_unnamed_session_of_which_nothing_is_left_goes_soon(void **state)
{
    (void)state;
    struct world *w = scene();
    struct client *c = client_open(w, NULL);
    struct worker *w1 = worker_hire(w, "w1", 1, 0);
    run(w, w1, put_settled(c, PLAIN));
    sim_client_take(c);
    sim_client_acknowledge(c);
    settle(w);
    die(w, c);
    wait_ms(w, (int64_t)w->limits.session_gone_ms - 1);
    assert_int_equal(sessions_stored(w), 1);
    wait_ms(w, 1);
    assert_int_equal(sessions_stored(w), 0);
    scene_end(w);
}

/* Who opened it so has asked for that. */
static void test_a_session_that_expires_cancels_what_has_not_started(void **state)
{
    (void)state;
    struct world *w = scene();
    struct client *c = client_that_expires(w);
    uint64_t t = put_settled(c, PLAIN);
    die(w, c);
    wait_ms(w, 9999);
    assert_int_equal(stored_state(w, t), TASK_READY);
    wait_ms(w, 1);
    assert_int_equal(stored_state(w, t), TASK_CANCELLED);
    scene_end(w);
}

/* It says nothing but that it lives. */
static void test_a_session_does_not_expire_while_its_client_is_connected(void **state)
{
    (void)state;
    struct world *w = scene();
    struct client *c = client_that_expires(w);
    uint64_t t = put_settled(c, PLAIN);
    pass(w, HOUR_MS);
    assert_int_equal(stored_state(w, t), TASK_READY);
    uint64_t next = put_settled(c, PLAIN);
    assert_true(is_accepted(c, 2));
    die(w, c);
    wait_ms(w, 9999);
    assert_int_equal(stored_state(w, t), TASK_READY);
    assert_int_equal(stored_state(w, next), TASK_READY);
    wait_ms(w, 1);
    assert_int_equal(stored_state(w, t), TASK_CANCELLED);
    assert_int_equal(stored_state(w, next), TASK_CANCELLED);
    scene_end(w);
}

static void test_a_client_that_comes_back_has_the_time_of_expiry_begin_anew(void **state)
{
    (void)state;
    struct world *w = scene();
    struct client *c = client_that_expires(w);
    uint64_t t = put_settled(c, PLAIN);
    for (int i = 0; i < 5; i++) {
        lose_wire(w, c);
        wait_ms(w, 9999);
        assert_int_equal(stored_state(w, t), TASK_READY);
        again(w, c);
        wait_ms(w, 5000);
    }
    die(w, c);
    wait_ms(w, 9999);
    assert_int_equal(stored_state(w, t), TASK_READY);
    wait_ms(w, 1);
    assert_int_equal(stored_state(w, t), TASK_CANCELLED);
    scene_end(w);
}

static void test_work_of_a_volatile_unnamed_session_is_cancelled_when_its_client_is_gone(void **state)
{
    (void)state;
    struct world *w = scene();
    claims_over(w);
    struct client *c = sim_client_new(w, NULL);
    c->is_volatile = true;
    again(w, c);
    uint64_t t = put_settled(c, PLAIN);
    die(w, c);
    wait_ms(w, (int64_t)w->limits.session_gone_ms);
    wait_ms(w, 1);
    struct worker *w1 = worker_hire(w, "w1", 1, 0);
    assert_null(sim_worker_held(w1, t));
    scene_end(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_work_of_an_unnamed_session_runs_though_its_client_has_left),
        cmocka_unit_test(test_a_client_that_was_away_for_long_goes_on_in_its_unnamed_session),
        cmocka_unit_test(test_results_that_nobody_fetches_go_after_their_time_and_the_session_with_them),
        cmocka_unit_test(test_an_unnamed_session_of_which_nothing_is_left_goes_soon),
        cmocka_unit_test(test_a_session_that_expires_cancels_what_has_not_started),
        cmocka_unit_test(test_a_session_does_not_expire_while_its_client_is_connected),
        cmocka_unit_test(test_a_client_that_comes_back_has_the_time_of_expiry_begin_anew),
        cmocka_unit_test(test_work_of_a_volatile_unnamed_session_is_cancelled_when_its_client_is_gone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

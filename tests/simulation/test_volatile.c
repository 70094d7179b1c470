/*
 * test_volatile: sessions in memory only, in named scenes: what is told before any commit, what is lost with the
 * broker, what bounds them. That nothing of them is ever written is watched by the oracle in every world. Start at any
 * test.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "scenario.h"

/* Connects and is welcomed, without a commit. */
static struct client *volatile_open(struct world *w, const char *session)
{
    struct client *c = sim_client_new(w, session);
    c->is_volatile = true;
    sim_peer_connect(&c->peer);
    deliver(w);
    return c;
}

/* Runs and is done, without a commit. */
static void run_done(struct world *w, struct worker *k, uint64_t task)
{
    assert_true(sim_worker_start(k, task, false));
    sim_worker_finish(k, task, FINISHED_DONE, CAUSE_NONE);
    deliver(w);
}

/* What nobody waits for has left too: ACCEPTED, a receipt. */
static void moment(struct world *w)
{
    pass_still(w, 10);
    deliver(w);
}

static struct world *scene_settled(void)
{
    struct world *w = scene();
    settle(w);
    return w;
}

static void test_nothing_waits_for_a_commit(void **state)
{
    (void)state;
    struct world *w = scene_settled();
    struct worker *k = worker_hire(w, "W", 2, 0);
    struct client *c = volatile_open(w, "s");
    assert_true(c->was_welcomed);
    uint64_t plain = put(c, PLAIN);
    uint64_t once = put(c, ONCE);
    moment(w);
    assert_true(is_accepted(c, 1) && is_accepted(c, 2));
    run_done(w, k, plain);
    run_done(w, k, once);
    assert_non_null(sim_client_took(c, plain));
    assert_non_null(sim_client_took(c, once));
    moment(w);
    assert_null(sim_worker_held(k, plain)); /* its receipt is here */
    sim_client_cancel(c, put(c, (struct spec){.function = "nobody's"}), false);
    deliver(w);
    assert_int_equal(sim_client_request(c)->code, QUERN_OK);
    sim_client_close(c, true);
    deliver(w);
    assert_true(sim_client_request(c)->is_answered);
    assert_false(core_wants_commit(w->core, w->now));
    assert_int_equal(tasks_stored(w), 0);
    scene_end(w);
}

/* Without: a crash, and the number that somebody has printed is given again. */
static void test_the_first_welcome_waits_until_its_numbers_are_reserved(void **state)
{
    (void)state;
    struct world *w = scene();
    struct client *c = volatile_open(w, "s");
    assert_false(c->was_welcomed);
    commit(w);
    deliver(w);
    assert_true(c->was_welcomed);
    scene_end(w);
}

static void test_numbers_are_not_given_again_after_a_crash(void **state)
{
    (void)state;
    struct world *w = scene_settled();
    uint64_t series = 0;
    uint64_t session = 0;
    for (unsigned life = 0; life < 3; life++) {
        for (unsigned i = 0; i < 3; i++) {
            struct client *c = volatile_open(w, NULL);
            assert_true(c->series > series && c->session > session);
            series = c->series;
            session = c->session;
        }
        crash_and_start(w);
        settle(w);
    }
    scene_end(w);
}

/* More sessions than a block has numbers: those beyond it wait for the next block, none is given twice. */
static void test_a_block_that_is_used_up_is_followed_by_another(void **state)
{
    (void)state;
    struct world *w = scene_settled();
    uint64_t series = 0;
    for (unsigned i = 0; i < 2 * NUMBER_BLOCK_COUNT; i++) {
        struct client *c = volatile_open(w, NULL);
        settle(w);
        assert_true(c->was_welcomed && c->series > series);
        series = c->series;
    }
    crash_and_start(w);
    settle(w);
    struct client *c = volatile_open(w, NULL);
    assert_true(c->series > series);
    scene_end(w);
}

static void test_a_clean_end_gives_numbers_back(void **state)
{
    (void)state;
    struct world *w = scene_settled();
    struct client *c = volatile_open(w, NULL);
    uint64_t session = c->session;
    broker_stop(w);
    deliver(w);
    broker_start(w);
    settle(w);
    assert_int_equal(volatile_open(w, NULL)->session, session + 1);
    scene_end(w);
}

static void test_what_is_open_is_lost_with_the_broker_once(void **state)
{
    (void)state;
    struct world *w = scene_settled();
    struct worker *k = worker_hire(w, "W", 1, 0);
    struct client *c = volatile_open(w, "s");
    uint64_t running = put(c, PLAIN);
    put(c, PLAIN);
    uint64_t done = put(c, (struct spec){.priority = -1});
    assert_true(sim_worker_start(k, running, true));
    moment(w);
    crash_and_start(w);
    again(w, k);
    assert_null(sim_worker_held(k, running)); /* the new broker does not know it, and does not wait for its submit */
    again(w, c);
    assert_int_equal(c->peer.denied, QUERN_UNKNOWN);
    assert_int_equal(oracle_counts(w).lost, 3);
    assert_false(oracle_has_outcome(w, done));
    claims_over(w);
    struct client *next = volatile_open(w, "s");
    assert_true(next->was_welcomed);
    uint64_t task = put(next, PLAIN);
    run_done(w, k, task);
    assert_non_null(sim_client_took(next, task));
    scene_end(w);
}

/* There is no disk to read it back from: it stays until it is acknowledged, however little room there is. */
static void test_outcomes_stay_in_memory_until_they_are_acknowledged(void **state)
{
    (void)state;
    struct world *w = scene();
    w->limits.resident_bytes_max = 0;
    broker_restart(w);
    claims_over(w);
    struct worker *k = worker_hire(w, "W", 1, 0);
    struct client *c = volatile_open(w, "s");
    uint64_t task = put(c, PLAIN);
    run_done(w, k, task);
    settle(w);
    again(w, c);
    assert_int_equal(c->arrived, 1); /* it came again */
    sim_client_take(c);
    sim_client_acknowledge(c);
    again(w, c);
    assert_int_equal(c->arrived, 0);
    scene_end(w);
}

static void test_their_memory_is_bounded_and_freed_by_taking(void **state)
{
    (void)state;
    struct world *w = scene();
    w->limits.volatile_bytes_max = 200;
    broker_restart(w);
    claims_over(w);
    struct worker *k = worker_hire(w, "W", 1, 0);
    struct client *c = volatile_open(w, "s");
    put(c, (struct spec){.big = true});
    put(c, PLAIN);
    assert_int_equal(c->submits[1].answer, ANSWER_REFUSED);
    assert_int_equal(c->submits[1].code, QUERN_FULL);
    struct client *durable = client_open(w, "d");
    put_settled(durable, PLAIN);
    assert_true(is_accepted(durable, 1)); /* that is another bound */
    run_done(w, k, sim_client_task(c, 1));
    put(c, PLAIN);
    assert_int_equal(c->submits[2].answer, ANSWER_REFUSED); /* its outcome has the arguments */
    sim_client_take(c);
    sim_client_acknowledge(c);
    put(c, PLAIN);
    moment(w);
    assert_true(is_accepted(c, 4));
    scene_end(w);
}

static void test_a_disk_without_room_does_not_concern_them(void **state)
{
    (void)state;
    struct world *w = scene_settled();
    struct client *c = volatile_open(w, "s");
    struct client *durable = client_open(w, "d");
    broker_stats(w, true);
    put(c, PLAIN);
    put_settled(durable, PLAIN);
    moment(w);
    assert_true(is_accepted(c, 1));
    assert_int_equal(durable->submits[0].code, QUERN_DISK);
    scene_end(w);
}

/* What a client that died left behind makes room by itself: nobody can come for it but by its number. */
static void test_what_a_dead_client_left_goes_after_a_time(void **state)
{
    (void)state;
    struct world *w = scene();
    w->limits.volatile_bytes_max = 200;
    broker_restart(w);
    claims_over(w);
    struct worker *k = worker_hire(w, "W", 1, 0);
    k->peer.is_auto = true;
    struct client *c = volatile_open(w, NULL);
    uint64_t task = put(c, (struct spec){.big = true});
    run_done(w, k, task);
    die(w, c);
    struct client *next = volatile_open(w, NULL);
    next->peer.is_auto = true;
    put(next, PLAIN);
    assert_int_equal(next->submits[0].answer, ANSWER_REFUSED);
    pass(w, (int64_t)w->limits.session_gone_ms * 2 + 1000);
    put(next, PLAIN);
    moment(w);
    assert_true(is_accepted(next, 2));
    scene_end(w);
}

static void test_a_session_keeps_its_durability(void **state)
{
    (void)state;
    struct world *w = scene_settled();
    struct client *durable = client_open(w, "d");
    put_settled(durable, PLAIN);
    die(w, durable);
    struct client *c = volatile_open(w, "d");
    settle(w);
    assert_int_equal(c->peer.denied, QUERN_INVALID);
    struct client *first = volatile_open(w, "v");
    put(first, PLAIN);
    die(w, first);
    struct client *other = client_open(w, "v");
    assert_int_equal(other->peer.denied, QUERN_INVALID);
    scene_end(w);
}

/* Within one life of the broker it is a session like any other. */
static void test_a_reconnect_and_a_successor_find_everything(void **state)
{
    (void)state;
    struct world *w = scene_settled();
    struct worker *k = worker_hire(w, "W", 1, 0);
    struct client *c = volatile_open(w, "s");
    uint64_t task = put(c, PLAIN);
    lose_wire(w, c);
    again(w, c);
    run_done(w, k, task);
    assert_non_null(sim_client_took(c, task));
    die(w, c);
    struct client *next = volatile_open(w, "s");
    assert_non_null(sim_client_took(next, task));
    sim_client_take(next);
    sim_client_acknowledge(next);
    deliver(w);
    die(w, next);
    assert_null(sim_client_took(volatile_open(w, "s"), task));
    scene_end(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nothing_waits_for_a_commit),
        cmocka_unit_test(test_the_first_welcome_waits_until_its_numbers_are_reserved),
        cmocka_unit_test(test_numbers_are_not_given_again_after_a_crash),
        cmocka_unit_test(test_a_block_that_is_used_up_is_followed_by_another),
        cmocka_unit_test(test_a_clean_end_gives_numbers_back),
        cmocka_unit_test(test_what_is_open_is_lost_with_the_broker_once),
        cmocka_unit_test(test_outcomes_stay_in_memory_until_they_are_acknowledged),
        cmocka_unit_test(test_their_memory_is_bounded_and_freed_by_taking),
        cmocka_unit_test(test_a_disk_without_room_does_not_concern_them),
        cmocka_unit_test(test_what_a_dead_client_left_goes_after_a_time),
        cmocka_unit_test(test_a_session_keeps_its_durability),
        cmocka_unit_test(test_a_reconnect_and_a_successor_find_everything),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

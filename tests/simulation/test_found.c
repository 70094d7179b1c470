/*
 * test_found: what random worlds have found in the client and the worker, each as a scene of its own, with the
 * product's state machines in it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "scenario.h"

static struct client *real_open(struct world *world, const char *session)
{
    struct client *client = sim_client_new_real(world, session);
    again(world, client);
    return client;
}

static struct client *half_used_up(struct world *world)
{
    world->limits.series_used_max = 2;
    broker_start(world);
    struct client *client = real_open(world, "s");
    put_settled(client, PLAIN);
    put_settled(client, PLAIN);
    return client;
}

/* The exchange was an open, and so it took the session back from whoever had taken it over and was away for a moment.
 */
static void test_who_exchanges_its_series_takes_back_nothing(void **state)
{
    (void)state;
    struct world *world = world_new(1);
    struct client *client = half_used_up(world);
    sim_peer_tick(&client->peer); /* asks whether all that it said has arrived */
    settle(world);
    sim_peer_tick(&client->peer); /* and is about to exchange it */
    assert_null(client->peer.wire);
    struct client *newcomer = sim_client_new(world, "s");
    newcomer->take_over = true;
    again(world, newcomer);
    assert_true(newcomer->was_welcomed);
    lose_wire(world, newcomer);
    again(world, client);
    assert_true(client->peer.is_denied);
    assert_int_equal(client->peer.denied, QUERN_TAKEN_OVER);
    again(world, newcomer);
    assert_true(newcomer->peer.is_welcomed);
    scene_end(world);
}

/* The broker took the process that exchanged its series for somebody else, and told its former connection that the
 * session was taken over. The oracle watches. */
static void test_who_exchanges_its_series_takes_over_from_nobody(void **state)
{
    (void)state;
    struct world *world = world_new(1);
    struct client *client = half_used_up(world);
    struct worker *worker = worker_hire(world, "w", 1, 0);
    uint64_t first = sim_client_task(client, 1);
    uint64_t series = client->series;
    sim_client_submit(client, &PLAIN); /* there is no room for it */
    assert_int_equal(client->submit_count, 2);
    sim_peer_tick(&client->peer); /* asks whether all that it said has arrived */
    settle(world);
    sim_peer_tick(&client->peer); /* and opens anew, while its former connection still stands */
    again(world, client);
    assert_true(client->series > series);
    uint64_t third = put_settled(client, PLAIN);
    assert_int_equal(id_series(third), client->series);
    sim_worker_start(worker, first, true);
    sim_worker_finish(worker, first, FINISHED_DONE, CAUSE_NONE);
    settle(world);
    assert_non_null(sim_client_took(client, first));
    scene_end(world);
}

/* The outcome of a submit comes before its answer, and then the broker dies, and with it the volatile session: the task
 * was told as lost beside its outcome. */
static void test_what_has_its_outcome_is_not_lost_with_the_session(void **state)
{
    (void)state;
    struct world *world = scene();
    struct client *client = sim_client_new_real(world, "s");
    client->is_volatile = true;
    again(world, client);
    struct worker *worker = worker_hire(world, "w", 1, 0);
    uint64_t task = put(client, PLAIN);
    wire_lose(world, client->peer.wire, false, 0); /* its acceptance, if it was under way */
    lose_wire(world, client);
    settle(world);
    sim_worker_start(worker, task, true);
    sim_worker_finish(worker, task, FINISHED_DONE, CAUSE_NONE);
    settle(world);
    sim_peer_connect(&client->peer);
    for (unsigned i = 0; i < 20 && sim_client_took(client, task) == NULL; i++) {
        commit(world);
        wire_deliver_to_broker(world, client->peer.wire);
        wire_deliver_to_peer(world, client->peer.wire);
    }
    assert_non_null(sim_client_took(client, task));
    assert_true(sim_client_take(client));
    assert_true(is_unanswered(client, 1));
    crash_and_start(world);
    again(world, client); /* the session is gone */
    again(world, client); /* and there is another */
    assert_true(is_accepted(client, 1));
    scene_end(world);
}

static struct worker *real_hire(struct world *world)
{
    struct worker *worker = sim_worker_new_real(world, "w", 1);
    again(world, worker);
    return worker;
}

/* Asks until it may leave. */
static void drain_on(struct world *world, struct worker *worker)
{
    for (unsigned i = 0; i < 10 && !sim_worker_is_drained(worker); i++) {
        world->now++;
        sim_peer_tick(&worker->peer);
        settle(world);
    }
    assert_true(sim_worker_is_drained(worker));
    assert_true(sim_worker_is_polite(worker));
}

/* Something arrived behind the last question of a drain, and went back behind it: the answer says nothing about that,
 * and had the broker died, the task would have been blamed for a lost worker. */
static void test_a_drained_worker_asks_again_when_it_had_to_return_something(void **state)
{
    (void)state;
    struct world *world = scene();
    struct client *client = client_open(world, "s");
    struct worker *worker = real_hire(world);
    sim_worker_drain(worker);
    sim_peer_tick(&worker->peer); /* that it wants nothing, and its question, are on their way */
    sim_client_submit(client, &PLAIN);
    wire_deliver_to_broker(world, client->peer.wire); /* and the other way a dispatch */
    while (wire_deliver_to_broker(world, worker->peer.wire)) {
    }
    commit(world);
    while (wire_deliver_to_peer(world, worker->peer.wire)) {
    }
    assert_false(sim_worker_is_drained(worker));
    drain_on(world, worker);
    assert_int_equal(oracle_counts(world).dispatches, 1);
    scene_end(world);
}

/* The same of those that stand in for workers (worker.c): seed 1795289464416. */
static void test_a_stand_in_that_drained_asks_again_when_it_had_to_return_something(void **state)
{
    (void)state;
    struct world *world = scene();
    struct client *client = client_open(world, "s");
    struct worker *worker = worker_hire(world, "w", 1, 0);
    sim_worker_drain(worker);
    sim_client_submit(client, &PLAIN);
    wire_deliver_to_broker(world, client->peer.wire);
    settle(world);
    assert_int_equal(worker->held_count, 1);
    sim_worker_return(worker, worker->held[0].token.task);
    assert_false(sim_worker_is_drained(worker));
    sim_worker_ping(worker);
    settle(world);
    assert_true(sim_worker_is_drained(worker));
    scene_end(world);
}

/* The broker has its HELLO, and may have sent something: it does not leave without a word. */
static void test_a_worker_that_has_greeted_does_not_leave_without_a_word(void **state)
{
    (void)state;
    struct world *world = scene();
    struct worker *worker = sim_worker_new_real(world, "w", 1);
    sim_peer_connect(&worker->peer);
    sim_worker_drain(worker);
    sim_peer_tick(&worker->peer);
    assert_false(sim_worker_is_drained(worker));
    settle(world);
    drain_on(world, worker);
    scene_end(world);
}

/* A handler waits for two tasks, one of them runs, something else has the other place, and all of it takes long: the
 * second one was given back as what may not start here, and came again at once, thousands of times in a second. */
static void test_what_may_not_start_beside_a_waiting_handler_does_not_go_to_and_fro(void **state)
{
    (void)state;
    struct world *world = scene();
    struct client *client = client_open(world, "s");
    struct worker *worker = sim_worker_new_real(world, "w", 2);
    worker->run_ms_max = 60000;
    again(world, worker);
    world->peers[0]->is_auto = true;
    worker->peer.is_auto = true;
    sim_client_submit(client, &(struct spec){.nested = 2});
    sim_client_submit(client, &PLAIN);
    pass(world, 1000);
    assert_true(oracle_counts(world).starts >= 3);
    assert_true(oracle_counts(world).dispatches < 20);
    scene_end(world);
}

/* A handler waits for room in the queue, which is full of a task that runs at most once. Such a task goes to idle slots
 * only, and a slot whose handler waits did not count as idle: nothing ever moved again. */
static void test_what_runs_at_most_once_may_start_beside_a_waiting_handler(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 8; seed++) {
        struct world *world = world_new(seed);
        world->limits.task_count_max = 2;
        broker_start(world);
        struct client *client = client_open(world, "s");
        struct worker *worker = sim_worker_new_real(world, "w", 1);
        again(world, worker);
        client->peer.is_auto = true;
        worker->peer.is_auto = true;
        sim_client_submit(client, &(struct spec){.nested = 1});
        sim_client_submit(client, &ONCE);
        pass(world, 10000);
        assert_int_equal(client->took_count, 2);
        world_free(&world);
    }
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_who_exchanges_its_series_takes_back_nothing),
        cmocka_unit_test(test_who_exchanges_its_series_takes_over_from_nobody),
        cmocka_unit_test(test_what_has_its_outcome_is_not_lost_with_the_session),
        cmocka_unit_test(test_a_drained_worker_asks_again_when_it_had_to_return_something),
        cmocka_unit_test(test_a_stand_in_that_drained_asks_again_when_it_had_to_return_something),
        cmocka_unit_test(test_a_worker_that_has_greeted_does_not_leave_without_a_word),
        cmocka_unit_test(test_what_may_not_start_beside_a_waiting_handler_does_not_go_to_and_fro),
        cmocka_unit_test(test_what_runs_at_most_once_may_start_beside_a_waiting_handler),
    };
    if (argc > 1) {
        cmocka_set_test_filter(argv[1]);
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/*
 * test_parked: scenes about tasks that are on disk only: which, when, in what order they come back, and that whoever
 * asks about one, cancels it or still runs it finds it as if it were in memory. Start reading anywhere.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "scenario.h"

#include <stdio.h>
#include <string.h>

#define COUNT 9u

/* A broker that keeps so many ready tasks of a session in memory. */
static struct world *scene_of(uint64_t keep)
{
    struct world *w = scene();
    w->limits.ready_turn_count = keep;
    broker_restart(w);
    claims_over(w);
    return w;
}

static uint64_t parked(const struct world *w)
{
    return core_parked(w->core);
}

static void put_many(struct client *c, uint64_t *ids, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        ids[i] = put(c, PLAIN);
    }
    settle(c->peer.world);
}

static void run(struct world *w, struct worker *worker, uint64_t task)
{
    assert_true(sim_worker_start(worker, task, true));
    sim_worker_finish(worker, task, FINISHED_DONE, CAUSE_NONE);
    settle(w);
    assert_int_equal(stored_state(w, task), TASK_DONE);
}

/* A worker with one place gets them one after the other. */
static void run_in_order(struct world *w, const uint64_t *ids, size_t count)
{
    struct worker *worker = worker_hire(w, "w1", 1, 0);
    for (size_t i = 0; i < count; i++) {
        core_check(w->core);
        assert_int_equal(worker->held_count, 1);
        run(w, worker, ids[i]);
    }
    assert_int_equal(worker->held_count, 0);
}

/* Else a crash would lose what was accepted. */
static void test_what_is_behind_is_parked_when_its_row_is_on_disk(void **state)
{
    (void)state;
    struct world *w = scene_of(2);
    struct client *c = client_open(w, "s");
    for (unsigned i = 0; i < 5; i++) {
        put(c, PLAIN);
    }
    assert_true(broker_seal(w));
    assert_true(broker_apply(w)); /* on disk, and the core does not know */
    assert_int_equal(parked(w), 0);
    commit(w);
    assert_int_equal(parked(w), 3);
    assert_int_equal(tasks_stored(w), 5);
    core_check(w->core);
    scene_end(w);
}

/* What is read back would be older than what is known. Found by seed 1795260859486. */
static void test_nothing_is_parked_while_a_later_batch_is_on_its_way_to_the_disk(void **state)
{
    (void)state;
    struct world *w = scene_of(1);
    struct client *c = client_open(w, "s");
    uint64_t ids[3];
    for (size_t i = 0; i < 3; i++) {
        ids[i] = put(c, PLAIN);
    }
    assert_true(broker_seal(w));
    sim_client_cancel(c, ids[2], false);
    assert_true(broker_seal(w));
    assert_true(broker_apply(w));
    assert_true(broker_notice(w));
    assert_int_equal(parked(w), 0);
    settle(w);
    assert_int_equal(stored_state(w, ids[2]), TASK_CANCELLED);
    core_check(w->core);
    run_in_order(w, ids, 2);
    scene_end(w);
}

static void test_parked_tasks_go_in_order_of_submission_each_once(void **state)
{
    (void)state;
    for (uint64_t keep = 1; keep <= 4; keep++) {
        for (int restarts = 0; restarts <= 1; restarts++) {
            struct world *w = scene_of(keep);
            uint64_t ids[COUNT];
            put_many(client_open(w, "s"), ids, COUNT);
            if (restarts) {
                crash_and_start(w);
                claims_over(w);
            }
            assert_int_equal(parked(w), COUNT - keep);
            run_in_order(w, ids, COUNT);
            scene_end(w);
        }
    }
}

/* A higher priority is not overtaken because it has to be read first. */
static void test_a_lower_priority_does_not_overtake_what_is_parked(void **state)
{
    (void)state;
    struct world *w = scene_of(1);
    struct client *c = client_open(w, "s");
    uint64_t ids[COUNT];
    for (size_t i = 0; i < COUNT; i++) {
        ids[i] = put(c, (struct spec){.priority = i < 4 ? 5 : 0});
    }
    settle(w);
    run_in_order(w, ids, COUNT);
    scene_end(w);
}

/* One after the other, and all at once to a worker with room for all: the next ones are still being read then. */
static void test_what_wakes_goes_where_its_number_belongs(void **state)
{
    (void)state;
    for (int at_once = 0; at_once <= 1; at_once++) {
        struct world *w = scene_of(1);
        struct client *c = client_open(w, "s");
        uint64_t ids[COUNT];
        for (size_t i = 0; i < COUNT; i++) {
            ids[i] = put(c, (struct spec){.delay_ms = i == 5 ? 2000 : i % 2 == 1 ? 1000 : 0});
        }
        settle(w);
        assert_int_equal(parked(w), 4);
        for (int i = 0; i < 2; i++) {
            pass_still(w, 1001);
            settle(w);
        }
        if (at_once) {
            struct worker *worker = worker_hire(w, "w1", COUNT, 0);
            assert_int_equal(worker->held_count, COUNT);
            for (size_t i = 0; i < COUNT; i++) {
                assert_int_equal(worker->held[i].token.task, ids[i]);
            }
        } else {
            run_in_order(w, ids, COUNT);
        }
        scene_end(w);
    }
}

static void test_one_parked_task_is_cancelled_and_the_others_run(void **state)
{
    (void)state;
    for (size_t which = 1; which < COUNT; which++) {
        struct world *w = scene_of(1);
        struct client *c = client_open(w, "s");
        uint64_t ids[COUNT];
        put_many(c, ids, COUNT);
        sim_client_cancel(c, ids[which], false);
        settle(w);
        assert_true(sim_client_request(c)->is_answered);
        assert_int_equal(sim_client_request(c)->code, QUERN_OK);
        assert_int_equal(stored_state(w, ids[which]), TASK_CANCELLED);
        assert_int_equal(parked(w), COUNT - 2);
        memmove(&ids[which], &ids[which + 1], (COUNT - which - 1) * sizeof *ids);
        run_in_order(w, ids, COUNT - 1);
        scene_end(w);
    }
}

/* All of them, however few fit into memory at once, and also if the broker dies on the way. */
static void test_a_session_that_is_closed_cancels_what_is_parked(void **state)
{
    (void)state;
    for (int restarts = 0; restarts <= 1; restarts++) {
        struct world *w = scene_of(2);
        struct client *c = client_open(w, "s");
        uint64_t ids[COUNT];
        put_many(c, ids, COUNT);
        sim_client_close(c, true);
        if (restarts) {
            deliver(w);
            commit_one(w);
            crash_and_start(w);
        }
        settle(w);
        pass_still(w, 1);
        settle(w);
        for (size_t i = 0; i < COUNT; i++) {
            assert_int_equal(stored_state(w, ids[i]), TASK_CANCELLED);
        }
        assert_int_equal(parked(w), 0);
        scene_end(w);
    }
}

/* Its answer was lost: it is neither made again nor called forgotten. */
static void test_a_repeated_submit_of_a_parked_task_is_accepted(void **state)
{
    (void)state;
    struct world *w = scene_of(1);
    struct client *c = client_open(w, "s");
    uint64_t ids[COUNT];
    for (size_t i = 0; i < COUNT; i++) {
        ids[i] = put(c, PLAIN);
    }
    commit(w);
    assert_int_equal(parked(w), COUNT - 1);
    lose_wire(w, c);
    again(w, c);
    for (size_t i = 0; i < COUNT; i++) {
        assert_true(is_accepted(c, i + 1));
    }
    assert_int_equal(tasks_stored(w), COUNT);
    run_in_order(w, ids, COUNT);
    scene_end(w);
}

/* The lease row is what a crash can lose: the worker still has it, and goes on. */
static void test_an_attempt_whose_task_is_parked_after_a_crash_goes_on(void **state)
{
    (void)state;
    struct world *w = scene_of(1);
    struct client *c = client_open(w, "s");
    uint64_t ids[COUNT];
    struct worker *w1 = worker_hire(w, "w1", COUNT, 0);
    sim_worker_capacity(w1, 0);
    settle(w);
    put_many(c, ids, COUNT);
    sim_worker_capacity(w1, COUNT);
    for (size_t i = 0; i < COUNT; i++) {
        deliver(w);
        while (broker_answer_load(w)) {
        }
    }
    for (size_t i = 0; i < COUNT; i++) {
        assert_true(sim_worker_start(w1, ids[i], false));
        assert_int_equal(stored_state(w, ids[i]), TASK_READY);
    }
    crash_and_start(w);
    assert_int_equal(parked(w), COUNT - 1);
    again(w, w1);
    for (size_t i = 0; i < COUNT; i++) {
        assert_non_null(sim_worker_held(w1, ids[i])); /* it was not told to drop it */
        sim_worker_finish(w1, ids[i], FINISHED_DONE, CAUSE_NONE);
        settle(w);
        assert_int_equal(stored_state(w, ids[i]), TASK_DONE);
    }
    assert_int_equal(w1->started_count, COUNT);
    scene_end(w);
}

/* Many turns, few of them in memory at once, and one load of each at most. */
static void test_sessions_take_turns_with_what_is_parked(void **state)
{
    (void)state;
    struct world *w = scene_of(1);
    struct client *clients[3];
    uint64_t ids[3][3];
    char name[8];
    for (size_t i = 0; i < 3; i++) {
        snprintf(name, sizeof name, "s%zu", i);
        clients[i] = client_open(w, name);
        put_many(clients[i], ids[i], 3);
    }
    assert_int_equal(parked(w), 6);
    struct worker *worker = worker_hire(w, "w1", 1, 0);
    for (size_t i = 0; i < 9; i++) {
        run(w, worker, ids[i % 3][i / 3]);
    }
    scene_end(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_is_behind_is_parked_when_its_row_is_on_disk),
        cmocka_unit_test(test_nothing_is_parked_while_a_later_batch_is_on_its_way_to_the_disk),
        cmocka_unit_test(test_parked_tasks_go_in_order_of_submission_each_once),
        cmocka_unit_test(test_a_lower_priority_does_not_overtake_what_is_parked),
        cmocka_unit_test(test_what_wakes_goes_where_its_number_belongs),
        cmocka_unit_test(test_one_parked_task_is_cancelled_and_the_others_run),
        cmocka_unit_test(test_a_session_that_is_closed_cancels_what_is_parked),
        cmocka_unit_test(test_a_repeated_submit_of_a_parked_task_is_accepted),
        cmocka_unit_test(test_an_attempt_whose_task_is_parked_after_a_crash_goes_on),
        cmocka_unit_test(test_sessions_take_turns_with_what_is_parked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

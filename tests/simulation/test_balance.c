/*
 * test_balance: what waits at one worker while another is idle is called back, and nothing else is. The oracle watches
 * every scene as well.
 * Start reading at the first test.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "scenario.h"

struct stage {
    struct world *w;
    struct client *c;
    struct worker *w1;
    uint64_t tasks[8];
};

/* The first worker has one slot, runs the first task and holds the others behind it. */
static struct stage stage_of(size_t count)
{
    struct stage stage = {.w = scene()};
    stage.c = client_open(stage.w, "s");
    stage.w1 = worker_hire(stage.w, "w1", 1, 8);
    for (size_t i = 0; i < count; i++) {
        stage.tasks[i] = put_settled(stage.c, PLAIN);
    }
    assert_true(sim_worker_start(stage.w1, stage.tasks[0], true));
    settle(stage.w);
    assert_int_equal(stage.w1->held_count, count);
    return stage;
}

/* Long enough that the broker has looked, and looked again. */
static void look(struct world *w)
{
    for (int i = 0; i < 3; i++) {
        pass_still(w, BALANCE_MS);
        settle(w);
    }
}

/* Without: a worker that joins waits beside tasks that wait behind something long. */
static void test_what_waits_at_another_comes_to_the_one_that_joins(void **state)
{
    (void)state;
    struct stage s = stage_of(4);
    struct worker *w2 = worker_hire(s.w, "w2", 2, 8);
    look(s.w);
    assert_int_equal(w2->held_count, 2);
    assert_non_null(sim_worker_held(w2, s.tasks[3])); /* the newest: it would have run last */
    assert_non_null(sim_worker_held(w2, s.tasks[2]));
    assert_int_equal(s.w1->held_count, 2);
    assert_int_equal(memstore_task(s.w->disk, s.tasks[3])->losses, 0);
    assert_int_equal(memstore_failure_count(s.w->disk, s.tasks[3]), 0);
    scene_end(s.w);
}

/* Only for idle slots: nothing goes to and fro, and a worker without a free slot calls for nothing. */
static void test_nothing_goes_to_and_fro(void **state)
{
    (void)state;
    struct stage s = stage_of(6);
    struct worker *w2 = worker_hire(s.w, "w2", 1, 8);
    look(s.w);
    uint64_t dispatches = oracle_counts(s.w).dispatches;
    for (int i = 0; i < 50; i++) {
        look(s.w);
    }
    assert_int_equal(oracle_counts(s.w).dispatches, dispatches);
    assert_int_equal(w2->held_count, 1);
    uint64_t took = w2->held[0].token.task;
    assert_true(sim_worker_start(w2, took, true));
    sim_worker_finish(w2, took, FINISHED_DONE, CAUSE_NONE);
    look(s.w); /* idle again: the next */
    assert_int_equal(oracle_counts(s.w).dispatches, dispatches + 1);
    scene_end(s.w);
}

/* The call and the start cross: whoever has begun it keeps it. */
static void test_what_has_begun_stays_where_it_is(void **state)
{
    (void)state;
    struct stage s = stage_of(2);
    struct worker *w2 = worker_hire(s.w, "w2", 1, 8);
    s.w1->slots = 2; /* a slot of it was free all the same */
    pass_still(s.w, 3 * BALANCE_MS);
    assert_true(sim_worker_start(s.w1, s.tasks[1], false));
    look(s.w);
    assert_int_equal(w2->held_count, 0);
    sim_worker_finish(s.w1, s.tasks[1], FINISHED_DONE, CAUSE_NONE);
    settle(s.w);
    assert_int_equal(stored_state(s.w, s.tasks[1]), TASK_DONE);
    assert_int_equal(oracle_starts(s.w, s.tasks[1]), 1);
    scene_end(s.w);
}

static void test_what_runs_at_most_once_is_not_called_back(void **state)
{
    (void)state;
    struct world *w = scene();
    struct client *c = client_open(w, "s");
    struct worker *w1 = worker_hire(w, "w1", 2, 8);
    uint64_t once = put_settled(c, ONCE);
    put_settled(c, PLAIN);
    put_settled(c, PLAIN);
    assert_int_equal(w1->held_count, 3);
    struct worker *w2 = worker_hire(w, "w2", 4, 8);
    look(w);
    assert_non_null(sim_worker_held(w1, once));
    assert_int_equal(memstore_task(w->disk, once)->attempt, 1);
    assert_int_equal(w2->held_count, 1);
    scene_end(w);
}

/* Also when it is the only one that waits behind what runs. */
static void test_what_runs_at_most_once_stays_although_nothing_else_could_be_called_back(void **state)
{
    (void)state;
    struct world *w = scene();
    struct client *c = client_open(w, "s");
    struct worker *w1 = worker_hire(w, "w1", 2, 8);
    uint64_t once = put_settled(c, ONCE);
    uint64_t first = put_settled(c, PLAIN);
    uint64_t second = put_settled(c, PLAIN);
    assert_true(sim_worker_start(w1, first, true));
    assert_true(sim_worker_start(w1, second, true));
    settle(w);
    struct worker *w2 = worker_hire(w, "w2", 4, 8);
    look(w);
    assert_int_equal(w2->held_count, 0);
    assert_non_null(sim_worker_held(w1, once));
    assert_int_equal(memstore_task(w->disk, once)->attempt, 1);
    scene_end(w);
}

/* It is about to be begun there: elsewhere it would begin no sooner. */
static void test_what_a_free_slot_will_begin_stays(void **state)
{
    (void)state;
    struct world *w = scene();
    struct client *c = client_open(w, "s");
    struct worker *w1 = worker_hire(w, "w1", 3, 8);
    uint64_t running = put_settled(c, PLAIN);
    put_settled(c, PLAIN);
    put_settled(c, PLAIN);
    assert_true(sim_worker_start(w1, running, true));
    settle(w);
    uint64_t dispatches = oracle_counts(w).dispatches;
    struct worker *w2 = worker_hire(w, "w2", 4, 8);
    look(w);
    assert_int_equal(w1->held_count, 3);
    assert_int_equal(w2->held_count, 0);
    assert_int_equal(oracle_counts(w).dispatches, dispatches);
    scene_end(w);
}

/* The call died with its connection: it is made again. */
static void test_a_call_that_was_not_heard_is_made_again(void **state)
{
    (void)state;
    struct stage s = stage_of(2);
    struct worker *w2 = worker_hire(s.w, "w2", 1, 8);
    pass_still(s.w, 3 * BALANCE_MS);
    lose_wire(s.w, s.w1);
    again(s.w, s.w1);
    look(s.w);
    assert_int_equal(w2->held_count, 1);
    assert_int_equal(s.w1->held_count, 1);
    scene_end(s.w);
}

/* A worker that stands still does not answer: nobody waits for it, and what it holds is given out once, when its lease
 * is over. */
static void test_one_that_does_not_answer_is_left_to_its_lease(void **state)
{
    (void)state;
    struct stage s = stage_of(2);
    struct worker *w2 = worker_hire(s.w, "w2", 2, 8);
    s.w1->peer.wire->is_cut = true;
    look(s.w);
    assert_int_equal(w2->held_count, 0);
    lease_over(s.w);
    again(s.w, w2);
    settle(s.w);
    assert_int_equal(w2->held_count, 2);
    assert_int_equal(memstore_task(s.w->disk, s.tasks[1])->losses, 1);
    scene_end(s.w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_waits_at_another_comes_to_the_one_that_joins),
        cmocka_unit_test(test_nothing_goes_to_and_fro),
        cmocka_unit_test(test_what_has_begun_stays_where_it_is),
        cmocka_unit_test(test_what_runs_at_most_once_is_not_called_back),
        cmocka_unit_test(test_what_runs_at_most_once_stays_although_nothing_else_could_be_called_back),
        cmocka_unit_test(test_what_a_free_slot_will_begin_stays),
        cmocka_unit_test(test_a_call_that_was_not_heard_is_made_again),
        cmocka_unit_test(test_one_that_does_not_answer_is_left_to_its_lease),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

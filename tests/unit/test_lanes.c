/*
 * What runs next: priority, turns between sessions, order of submission, and tasks that come back.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "broker/state.h"

#include <stdio.h>
#include <stdlib.h>

struct bench {
    struct core *core;
    struct update update;
    struct session *sessions[4];
    uint32_t sequence;
};

static int bench_open(void **state)
{
    struct bench *bench = xcalloc(1, sizeof *bench);
    struct limits limits = limits_default();
    struct store_facts facts = {
        .epoch = 1, .was_clean = true, .meta = {.series_next = 1, .session_next = 1, .worker_next = 1, .call_next = 1}};
    bench->core = core_open(&limits, &facts);
    update_init(&bench->update);
    core_begin(bench->core, 1000, 1000);
    bench->core->update = &bench->update;
    for (size_t i = 0; i < 4; i++) {
        bench->sessions[i] = session_new(bench->core, bytes_of(NULL, 0), false);
    }
    *state = bench;
    return 0;
}

static int bench_close(void **state)
{
    struct bench *bench = *state;
    core_check(bench->core);
    core_close(&bench->core);
    update_fini(&bench->update);
    free(bench);
    return 0;
}

static struct task *push_at(struct bench *bench, size_t session, uint64_t depth, int64_t priority)
{
    struct task_options option = task_options_default();
    struct buf options = {0};
    option.depth = depth;
    option.priority = priority;
    task_options_put(&options, &option);
    struct call *call =
        call_intern(bench->core, bytes_text("default"), bytes_text("square"), buf_bytes(&options), &option, false);
    buf_fini(&options);
    struct task *task =
        task_new(bench->core, id_make(9, ++bench->sequence), bench->sessions[session], call, bytes_text("x"));
    task_move(bench->core, task, TASK_READY);
    lane_push(bench->core, task);
    return task;
}

static struct task *push(struct bench *bench, size_t session, int64_t priority)
{
    return push_at(bench, session, 0, priority);
}

static struct task *take_first(struct bench *bench, struct lane *lane)
{
    struct task *task = lane_peek(lane);
    if (task != NULL) {
        lane_take(bench->core, task);
    }
    return task;
}

static struct task *pop(struct bench *bench)
{
    struct lane *lane = lane_of(bench->core, bytes_text("default"), bytes_text("square"));
    struct task *task = take_first(bench, lane);
    if (task != NULL) { /* out of the way, as if it had been dispatched and had failed */
        struct ending ending = {.state = TASK_CANCELLED};
        lane_push(bench->core, task);
        task_finish(bench->core, task, &ending);
    }
    return task;
}

static void test_within_a_session_tasks_go_in_order_of_submission(void **state)
{
    struct bench *bench = *state;
    struct task *tasks[5];
    for (size_t i = 0; i < 5; i++) {
        tasks[i] = push(bench, 0, 0);
    }
    for (size_t i = 0; i < 5; i++) {
        assert_ptr_equal(pop(bench), tasks[i]);
    }
    assert_null(pop(bench));
}

static void test_higher_priority_goes_first(void **state)
{
    struct bench *bench = *state;
    struct task *low = push(bench, 0, -5);
    struct task *middle = push(bench, 0, 0);
    struct task *high = push(bench, 1, 1000);
    assert_ptr_equal(pop(bench), high);
    assert_ptr_equal(pop(bench), middle);
    assert_ptr_equal(pop(bench), low);
}

/* What a handler submitted holds up a slot that waits for it: the lowest of them goes before the highest root. */
static void test_deeper_goes_before_higher_priority(void **state)
{
    struct bench *bench = *state;
    struct task *root = push_at(bench, 0, 0, PRIORITY_MAX);
    struct task *low = push_at(bench, 0, 1, PRIORITY_MIN);
    struct task *child = push_at(bench, 1, 1, 0);
    struct task *deepest = push_at(bench, 0, TASK_DEPTH_MAX, PRIORITY_MIN);
    assert_ptr_equal(pop(bench), deepest);
    assert_ptr_equal(pop(bench), child);
    assert_ptr_equal(pop(bench), low);
    assert_ptr_equal(pop(bench), root);
}

/* Ten tasks beside a hundred thousand: the small session does not wait behind the large one. */
static void test_sessions_take_turns_whatever_their_size(void **state)
{
    struct bench *bench = *state;
    for (size_t i = 0; i < 100000; i++) {
        push(bench, 0, 0);
    }
    for (size_t i = 0; i < 10; i++) {
        push(bench, 1, 0);
    }
    size_t taken = 0;
    for (size_t small = 0; small < 10; taken++) {
        struct session *owner = lane_peek(lane_of(bench->core, bytes_text("default"), bytes_text("square")))->session;
        pop(bench);
        small += owner == bench->sessions[1];
    }
    assert_true(taken <= 20);
}

/* What comes back unstarted goes before what was submitted after it. */
static void test_a_returned_task_goes_back_to_its_place(void **state)
{
    struct bench *bench = *state;
    struct lane *lane = lane_of(bench->core, bytes_text("default"), bytes_text("square"));
    struct task *tasks[4];
    for (size_t i = 0; i < 4; i++) {
        tasks[i] = push(bench, 0, 0);
    }
    assert_ptr_equal(take_first(bench, lane), tasks[0]);
    assert_ptr_equal(take_first(bench, lane), tasks[1]);
    lane_push(bench->core, tasks[1]);
    lane_push(bench->core, tasks[0]);
    for (size_t i = 0; i < 4; i++) {
        assert_ptr_equal(pop(bench), tasks[i]);
    }
}

static void test_a_task_can_be_taken_out_of_the_middle(void **state)
{
    struct bench *bench = *state;
    struct task *first = push(bench, 0, 0);
    struct task *second = push(bench, 0, 0);
    struct task *third = push(bench, 0, 0);
    struct ending ending = {.state = TASK_CANCELLED};
    task_finish(bench->core, second, &ending);
    assert_ptr_equal(pop(bench), first);
    assert_ptr_equal(pop(bench), third);
    assert_null(pop(bench));
}

/* A queue per job: what is over is let go, or every dispatch would look through all queues there ever were. */
static void test_lanes_of_the_past_are_let_go(void **state)
{
    struct bench *bench = *state;
    struct task_options option = task_options_default();
    struct ending ending = {.state = TASK_CANCELLED};
    for (unsigned i = 0; i < 2 * LANE_COUNT_MAX; i++) {
        char queue[32];
        snprintf(queue, sizeof queue, "job-%u", i);
        struct call *call =
            call_intern(bench->core, bytes_text(queue), bytes_text("square"), bytes_of(NULL, 0), &option, false);
        assert_non_null(call);
        struct task *task =
            task_new(bench->core, id_make(9, ++bench->sequence), bench->sessions[0], call, bytes_of(NULL, 0));
        task_move(bench->core, task, TASK_READY);
        lane_push(bench->core, task);
        task_finish(bench->core, task, &ending);
        if (i % 100 == 0) { /* its record leaves memory with its batch */
            struct batch *batch = core_seal(bench->core);
            batch_committed(bench->core, batch->number);
            batch_free(bench->core, &batch);
            outcomes_acknowledge(bench->core, bench->sessions[0], 1, UINT64_MAX);
        }
    }
    assert_true(bench->core->lane_count < 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_within_a_session_tasks_go_in_order_of_submission, bench_open, bench_close),
        cmocka_unit_test_setup_teardown(test_deeper_goes_before_higher_priority, bench_open, bench_close),
        cmocka_unit_test_setup_teardown(test_higher_priority_goes_first, bench_open, bench_close),
        cmocka_unit_test_setup_teardown(test_sessions_take_turns_whatever_their_size, bench_open, bench_close),
        cmocka_unit_test_setup_teardown(test_a_returned_task_goes_back_to_its_place, bench_open, bench_close),
        cmocka_unit_test_setup_teardown(test_a_task_can_be_taken_out_of_the_middle, bench_open, bench_close),
        cmocka_unit_test_setup_teardown(test_lanes_of_the_past_are_let_go, bench_open, bench_close),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

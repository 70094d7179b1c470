/*
 * Who gets a task while handlers wait for tasks of their own: deeper ones first, and to workers that seem full too.
 * The core alone: one client, one worker with the functions "outer" and "inner", frames in and frames out.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "broker/state.h"

#include <stdlib.h>

#define CLIENT 2u
#define WORKER 3u

struct scene {
    struct limits limits;
    struct core *core;
    struct update update;
    struct buf frame; /* under way to the broker */
    struct uuid nonce;
    uint64_t series;
    uint64_t sequence;
    uint64_t given[64]; /* sequences of dispatched tasks, in order */
    uint64_t depths[64];
    size_t given_count;
    size_t given_seen;
};

static void hear_message(struct scene *scene, struct message *message)
{
    struct item_dispatch item;
    scene->nonce = message->kind == MSG_CHALLENGE ? message->CHALLENGE.nonce : scene->nonce;
    scene->series = message->kind == MSG_WELCOME_CLIENT ? message->WELCOME_CLIENT.series : scene->series;
    while (message->kind == MSG_DISPATCH && item_dispatch_next(&message->DISPATCH.items, &item)) {
        scene->given[scene->given_count] = id_sequence(item.task);
        scene->depths[scene->given_count++] = item.depth;
    }
}

static void hear(struct scene *scene, struct outbox *outbox)
{
    for (size_t i = 0; i < outbox->count; i++) {
        struct cursor cursor;
        struct message message;
        uint32_t generation;
        uint64_t unknown;
        const char *why;
        assert_int_equal(frame_open(buf_bytes(&outbox->frames[i].frame), &generation, &cursor), QUERN_OK);
        while (message_next(&cursor, &message, &unknown, &why) == QUERN_OK) {
            hear_message(scene, &message);
        }
    }
}

static void step(struct scene *scene, struct event *event)
{
    event->mono_ms = event->wall_ms = 1000;
    core_step(scene->core, event, &scene->update);
    hear(scene, &scene->update.now);
    update_clear(&scene->update);
}

static struct buf *say(struct scene *scene)
{
    scene->frame.n = 0;
    frame_begin(&scene->frame, 1);
    return &scene->frame;
}

static void said(struct scene *scene, uint64_t conn)
{
    struct event event = {.kind = EVENT_FRAME, .conn = conn, .frame = buf_bytes(&scene->frame)};
    step(scene, &event);
}

static void commit(struct scene *scene)
{
    struct batch *batch = core_seal(scene->core);
    struct event event = {.kind = EVENT_COMMITTED, .batch = batch->number};
    step(scene, &event);
    hear(scene, &batch->gated);
    batch_free(scene->core, &batch);
}

static void client_comes(struct scene *scene)
{
    struct msg_HELLO_CLIENT hello = {.instance = {{2}}, .pid = 2, .credit_count = INT64_MAX, .credit_bytes = INT64_MAX};
    msg_HELLO_CLIENT_put(say(scene), &hello);
    said(scene, CLIENT);
    struct msg_ECHO echo = {.nonce = scene->nonce};
    msg_ECHO_put(say(scene), &echo);
    said(scene, CLIENT);
    commit(scene);
}

static void worker_comes(struct scene *scene, uint64_t slots, uint64_t count, uint64_t bytes)
{
    struct msg_HELLO_WORKER hello = {.instance = {{3}},
                                     .pid = 3,
                                     .host = bytes_text("host"),
                                     .name = bytes_text("host-1"),
                                     .slots = slots,
                                     .capacity_count = count,
                                     .capacity_bytes = bytes};
    struct buf names = {0};
    item_name_put(&names, &(struct item_name){.name = bytes_text("outer")});
    item_name_put(&names, &(struct item_name){.name = bytes_text("inner")});
    hello.functions = (struct list){.items = buf_bytes(&names), .count = 2};
    msg_HELLO_WORKER_put(say(scene), &hello);
    said(scene, WORKER);
    commit(scene);
    buf_fini(&names);
}

static void submit(struct scene *scene, const char *function, uint64_t depth, int64_t priority, bool at_most_once)
{
    struct task_options option = task_options_default();
    struct buf options = {0};
    option.depth = depth;
    option.priority = priority;
    option.at_most_once = at_most_once;
    task_options_put(&options, &option);
    struct message head = {.kind = MSG_SUBMIT,
                           .SUBMIT = {.series = scene->series,
                                      .sequence = ++scene->sequence,
                                      .function = bytes_text(function),
                                      .options = buf_bytes(&options)}};
    struct run run;
    run_open(&run, say(scene), &head);
    item_submit_put(run.out, &(struct item_submit){.args = bytes_of("\x91\x07", 2)});
    run.count = 1;
    run_close(&run);
    said(scene, CLIENT);
    buf_fini(&options);
}

static void capacity(struct scene *scene, struct msg_CAPACITY message)
{
    msg_CAPACITY_put(say(scene), &message);
    said(scene, WORKER);
}

/* These sequences, and no others, were dispatched since the last look, in this order. */
#define assert_given(scene, ...)                                                                                       \
    assert_given_are((scene), (const uint64_t[]){__VA_ARGS__}, sizeof((const uint64_t[]){__VA_ARGS__}) / 8)

static void assert_given_are(struct scene *scene, const uint64_t *sequences, size_t count)
{
    assert_int_equal(scene->given_count - scene->given_seen, count);
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(scene->given[scene->given_seen + i], sequences[i]);
    }
    scene->given_seen = scene->given_count;
}

static void assert_none_given(const struct scene *scene)
{
    assert_int_equal(scene->given_count, scene->given_seen);
}

static int scene_begin(void **state)
{
    struct store_facts facts = {.uuid = {{7}}, .epoch = 4, .was_clean = true, .is_new = true, .meta = {1, 1, 1, 1}};
    struct scene *scene = xcalloc(1, sizeof *scene);
    scene->limits = limits_default();
    scene->core = core_open(&scene->limits, &facts);
    update_init(&scene->update);
    core_begin(scene->core, 1000, 1000);
    client_comes(scene);
    *state = scene;
    return 0;
}

static int scene_end(void **state)
{
    struct scene *scene = *state;
    core_check(scene->core);
    core_close(&scene->core);
    update_fini(&scene->update);
    buf_fini(&scene->frame);
    free(scene);
    return 0;
}

/* Somebody waits for it in a slot. */
static void test_the_deepest_goes_first_whatever_its_lane_and_priority(void **state)
{
    struct scene *scene = *state;
    submit(scene, "outer", 0, 1000, false);
    submit(scene, "inner", 0, 999, false);
    submit(scene, "outer", 1, 0, false);
    submit(scene, "inner", 2, -1000, false);
    submit(scene, "outer", 2, 5, false);
    worker_comes(scene, 5, 5, INT64_MAX);
    assert_given(scene, 5, 4, 3, 1, 2);
    assert_int_equal(scene->depths[0], 2);
    assert_int_equal(scene->depths[2], 1);
    assert_int_equal(scene->depths[4], 0);
}

/* Its one slot waits, and roots fill the rest of what it takes: the child comes all the same, further roots do not. */
static void test_a_full_worker_whose_handler_waits_gets_its_children(void **state)
{
    struct scene *scene = *state;
    worker_comes(scene, 1, 3, INT64_MAX);
    for (int i = 0; i < 5; i++) {
        submit(scene, "outer", 0, 0, false);
    }
    assert_given(scene, 1, 2, 3);
    submit(scene, "inner", 1, 0, false);
    assert_none_given(scene);
    capacity(scene, (struct msg_CAPACITY){.count = 3, .bytes = INT64_MAX, .nested = 3, .depth = 1});
    assert_given(scene, 6);
    submit(scene, "inner", 1, 0, false);
    assert_given(scene, 7);
    capacity(scene, (struct msg_CAPACITY){.count = 3, .bytes = INT64_MAX});
    submit(scene, "inner", 1, 0, false);
    assert_none_given(scene);
}

/* The child waits too: only what it may wait for comes, not its brothers. */
static void test_only_what_is_deep_enough_comes_beyond_the_count(void **state)
{
    struct scene *scene = *state;
    worker_comes(scene, 1, 1, INT64_MAX);
    submit(scene, "outer", 0, 0, false);
    assert_given(scene, 1);
    capacity(scene, (struct msg_CAPACITY){.count = 1, .bytes = INT64_MAX, .nested = 1, .depth = 1});
    submit(scene, "inner", 1, 0, false);
    submit(scene, "inner", 1, 0, false);
    assert_given(scene, 2);
    capacity(scene, (struct msg_CAPACITY){.count = 1, .bytes = INT64_MAX, .nested = 2, .depth = 2});
    assert_none_given(scene);
    submit(scene, "inner", 2, 0, false);
    assert_given(scene, 4);
}

static void test_a_child_that_runs_at_most_once_finds_the_freed_slot(void **state)
{
    struct scene *scene = *state;
    worker_comes(scene, 1, 8, INT64_MAX);
    submit(scene, "outer", 0, 0, false);
    submit(scene, "outer", 0, 0, false);
    assert_given(scene, 1, 2);
    capacity(scene, (struct msg_CAPACITY){.count = 8, .bytes = INT64_MAX, .nested = 2, .depth = 1});
    submit(scene, "inner", 1, 0, true);
    submit(scene, "inner", 1, 0, true);
    commit(scene); /* its lease first */
    commit(scene);
    assert_given(scene, 3);
}

/* Arguments of what waits fill the bytes a worker takes. */
static void test_bytes_do_not_keep_a_child_from_a_free_slot(void **state)
{
    struct scene *scene = *state;
    worker_comes(scene, 1, 8, 3);
    submit(scene, "outer", 0, 0, false);
    submit(scene, "outer", 0, 0, false);
    submit(scene, "outer", 0, 0, false);
    assert_given(scene, 1, 2); /* 2 + 2 bytes */
    capacity(scene, (struct msg_CAPACITY){.count = 8, .bytes = 3, .nested = 2, .depth = 1});
    submit(scene, "inner", 1, 0, false);
    assert_given(scene, 4);
    submit(scene, "inner", 1, 0, false);
    assert_none_given(scene); /* the slot has its work */
}

int main(void)
{
#define IN_SCENE(test) cmocka_unit_test_setup_teardown(test, scene_begin, scene_end)
    const struct CMUnitTest tests[] = {
        IN_SCENE(test_the_deepest_goes_first_whatever_its_lane_and_priority),
        IN_SCENE(test_a_full_worker_whose_handler_waits_gets_its_children),
        IN_SCENE(test_only_what_is_deep_enough_comes_beyond_the_count),
        IN_SCENE(test_a_child_that_runs_at_most_once_finds_the_freed_slot),
        IN_SCENE(test_bytes_do_not_keep_a_child_from_a_free_slot),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/*
 * core_scene: a core and three peers who say what a test wants, frame by frame, without a loop or a store.
 * Knows the core's insides. Include cmocka.h before it. Start at scene_begin.
 */
#ifndef QUERN_TESTS_CORE_SCENE_H
#define QUERN_TESTS_CORE_SCENE_H

#include "broker/state.h"
#include "tests/support/frames.h"

#include <stdlib.h>
#include <string.h>

#define OPERATOR 1u
#define CLIENT 2u
#define WORKER 3u

struct scene {
    struct limits limits;
    struct core *core;
    struct update update;
    struct buf heard; /* everything the broker said, as lines of text */
    struct buf frame; /* under way to the broker */
    int64_t now;
    struct uuid nonce;
    uint64_t session;
    uint64_t series;
    struct map series_rows; /* on disk, if there were one */
    size_t worker_bytes;    /* said to the worker */
};

static inline void scene_begin(struct scene *scene)
{
    struct store_facts facts = {.uuid = {{7}}, .epoch = 4, .was_clean = true, .is_new = true, .meta = {1, 1, 1, 1}};
    *scene = (struct scene){.limits = limits_default(), .now = 1000};
    scene->core = core_open(&scene->limits, &facts);
    update_init(&scene->update);
    core_begin(scene->core, scene->now, scene->now);
}

static inline void scene_end(struct scene *scene)
{
    core_check(scene->core);
    update_fini(&scene->update);
    core_close(&scene->core);
    buf_fini(&scene->heard);
    buf_fini(&scene->frame);
    map_fini(&scene->series_rows);
}

static inline void hear(struct scene *scene, struct outbox *outbox)
{
    for (size_t i = 0; i < outbox->count; i++) {
        struct cursor cursor;
        struct message message;
        uint32_t generation;
        uint64_t unknown;
        const char *why;
        scene->worker_bytes += outbox->frames[i].conn == WORKER ? outbox->frames[i].frame.n : 0;
        assert_int_equal(frame_open(buf_bytes(&outbox->frames[i].frame), &generation, &cursor), QUERN_OK);
        while (message_next(&cursor, &message, &unknown, &why) == QUERN_OK) {
            scene->nonce = message.kind == MSG_CHALLENGE ? message.CHALLENGE.nonce : scene->nonce;
            scene->series = message.kind == MSG_WELCOME_CLIENT ? message.WELCOME_CLIENT.series : scene->series;
            scene->session = message.kind == MSG_WELCOME_CLIENT ? message.WELCOME_CLIENT.session : scene->session;
            buf_printf(&scene->heard, "%u: ", (unsigned)outbox->frames[i].conn);
            message_text(&scene->heard, &message);
            buf_put_u8(&scene->heard, '\n');
        }
    }
}

static inline void step(struct scene *scene, struct event *event)
{
    event->mono_ms = scene->now;
    event->wall_ms = scene->now;
    core_step(scene->core, event, &scene->update);
    hear(scene, &scene->update.now);
}

static inline struct buf *say(struct scene *scene)
{
    scene->frame.n = 0;
    frame_begin(&scene->frame, 1);
    return &scene->frame;
}

static inline void said(struct scene *scene, uint64_t conn)
{
    struct event event = {.kind = EVENT_FRAME, .conn = conn, .frame = buf_bytes(&scene->frame)};
    step(scene, &event);
    update_clear(&scene->update);
}

/* What is open comes to disk, as the loop does it. */
static inline void commit(struct scene *scene)
{
    struct batch *batch = core_seal(scene->core);
    struct event event = {.kind = EVENT_COMMITTED, .batch = batch->number};
    for (size_t i = 0; i < batch->count; i++) {
        if (batch->changes[i].kind == CHANGE_SERIES) {
            map_put(&scene->series_rows, batch->changes[i].series.id, scene);
        } else if (batch->changes[i].kind == CHANGE_SERIES_DELETE) {
            map_remove(&scene->series_rows, batch->changes[i].series.id);
        }
    }
    step(scene, &event);
    hear(scene, &batch->gated);
    batch_free(scene->core, &batch);
    update_clear(&scene->update);
}

static inline bool has_heard(struct scene *scene, const char *text)
{
    buf_put_u8(&scene->heard, 0);
    bool found = strstr((const char *)scene->heard.p, text) != NULL;
    scene->heard.n = 0;
    return found;
}

static inline void operator_comes(struct scene *scene)
{
    struct msg_HELLO_OPERATOR hello = {.instance = {{1}}, .pid = 1};
    msg_HELLO_OPERATOR_put(say(scene), &hello);
    said(scene, OPERATOR);
    commit(scene);
}

static inline void client_comes(struct scene *scene)
{
    struct msg_HELLO_CLIENT hello = {.instance = {{2}}, .pid = 2, .credit_count = INT64_MAX, .credit_bytes = INT64_MAX};
    msg_HELLO_CLIENT_put(say(scene), &hello);
    said(scene, CLIENT);
    struct msg_ECHO echo = {.nonce = scene->nonce};
    msg_ECHO_put(say(scene), &echo);
    said(scene, CLIENT);
    commit(scene);
}

static inline void worker_comes_with(struct scene *scene, unsigned slots, bool take_short)
{
    struct msg_HELLO_WORKER hello = {.instance = {{3}},
                                     .pid = 3,
                                     .host = bytes_text("host"),
                                     .name = bytes_text("host-1"),
                                     .slots = slots,
                                     .capacity_count = slots,
                                     .capacity_bytes = INT64_MAX,
                                     .take_short = take_short};
    struct buf names = {0};
    struct item_name item = {.name = bytes_text("work")};
    item_name_put(&names, &item);
    hello.functions = (struct list){.items = buf_bytes(&names), .count = 1};
    msg_HELLO_WORKER_put(say(scene), &hello);
    said(scene, WORKER);
    commit(scene);
    buf_fini(&names);
}

static inline void worker_comes(struct scene *scene)
{
    worker_comes_with(scene, 1, false);
}

static inline void submit_at(struct scene *scene, uint64_t conn, uint64_t sequence, struct bytes args)
{
    struct message head = {.kind = MSG_SUBMIT};
    struct item_submit item = {.args = args};
    struct run run;
    head.SUBMIT.series = scene->series;
    head.SUBMIT.sequence = sequence;
    head.SUBMIT.function = bytes_text("work");
    run_open(&run, say(scene), &head);
    item_submit_put(run.out, &item);
    run.count = 1;
    run_close(&run);
    said(scene, conn);
}

static inline void submit(struct scene *scene, uint64_t sequence, struct bytes args)
{
    submit_at(scene, CLIENT, sequence, args);
}

static inline void finished(struct scene *scene, const struct item_finished *item)
{
    struct message head = {.kind = MSG_FINISHED};
    struct run run;
    run_open(&run, say(scene), &head);
    item_finished_put(run.out, item);
    run.count = 1;
    run_close(&run);
    said(scene, WORKER);
}

static inline void query(struct scene *scene, uint64_t conn, const char *what, uint64_t id, bool wait)
{
    struct buf params = {0};
    static const uint8_t head = 0x82;
    buf_put(&params, &head, 1);
    put_text(&params, "id");
    put_u64(&params, id);
    put_text(&params, "wait");
    put_flag(&params, wait);
    struct msg_QUERY message = {.request = 1, .what = bytes_text(what), .params = buf_bytes(&params)};
    msg_QUERY_put(say(scene), &message);
    said(scene, conn);
    buf_fini(&params);
}

#endif

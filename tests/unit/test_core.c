/*
 * test_core: the core alone, frame by frame, where no model peer would go: hostile numbers, and what a step leaves
 * behind. What a whole world shows is in tests/simulation. Start at scene_begin.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "broker/state.h"
#include "tests/support/frames.h"

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

static void scene_begin(struct scene *scene)
{
    struct store_facts facts = {.uuid = {{7}}, .epoch = 4, .was_clean = true, .is_new = true, .meta = {1, 1, 1, 1}};
    *scene = (struct scene){.limits = limits_default(), .now = 1000};
    scene->core = core_open(&scene->limits, &facts);
    update_init(&scene->update);
    core_begin(scene->core, scene->now, scene->now);
}

static void scene_end(struct scene *scene)
{
    core_check(scene->core);
    update_fini(&scene->update);
    core_close(&scene->core);
    buf_fini(&scene->heard);
    buf_fini(&scene->frame);
    map_fini(&scene->series_rows);
}

static void hear(struct scene *scene, struct outbox *outbox)
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

static void step(struct scene *scene, struct event *event)
{
    event->mono_ms = scene->now;
    event->wall_ms = scene->now;
    core_step(scene->core, event, &scene->update);
    hear(scene, &scene->update.now);
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
    update_clear(&scene->update);
}

/* What is open comes to disk, as the loop does it. */
static void commit(struct scene *scene)
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

static bool has_heard(struct scene *scene, const char *text)
{
    buf_put_u8(&scene->heard, 0);
    bool found = strstr((const char *)scene->heard.p, text) != NULL;
    scene->heard.n = 0;
    return found;
}

static void operator_comes(struct scene *scene)
{
    struct msg_HELLO_OPERATOR hello = {.instance = {{1}}, .pid = 1};
    msg_HELLO_OPERATOR_put(say(scene), &hello);
    said(scene, OPERATOR);
    commit(scene);
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

static void worker_comes_with(struct scene *scene, unsigned slots, bool take_short)
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

static void worker_comes(struct scene *scene)
{
    worker_comes_with(scene, 1, false);
}

static void submit_at(struct scene *scene, uint64_t conn, uint64_t sequence, struct bytes args)
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

static void submit(struct scene *scene, uint64_t sequence, struct bytes args)
{
    submit_at(scene, CLIENT, sequence, args);
}

static void finished(struct scene *scene, const struct item_finished *item)
{
    struct message head = {.kind = MSG_FINISHED};
    struct run run;
    run_open(&run, say(scene), &head);
    item_finished_put(run.out, item);
    run.count = 1;
    run_close(&run);
    said(scene, WORKER);
}

static void query(struct scene *scene, uint64_t conn, const char *what, uint64_t id, bool wait)
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

/* Zero is the number of no task; it comes from whoever leaves the field out. */
static void test_a_question_about_task_zero_is_answered(void **state)
{
    struct scene scene;
    (void)state;
    scene_begin(&scene);
    operator_comes(&scene);
    static const char *const what[] = {"result", "show", "explain"};
    for (size_t i = 0; i < sizeof what / sizeof *what; i++) {
        query(&scene, OPERATOR, what[i], 0, false);
    }
    struct msg_CANCEL cancel = {.request = 2};
    struct msg_RETRY retry = {.request = 3};
    msg_CANCEL_put(say(&scene), &cancel);
    msg_RETRY_put(&scene.frame, &retry);
    said(&scene, OPERATOR);
    commit(&scene);
    scene_end(&scene);
}

/* An operator and a stranger look with list; what is open is for who makes futures of it. */
static void test_what_is_open_is_told_to_the_owner_alone(void **state)
{
    struct scene scene;
    (void)state;
    scene_begin(&scene);
    operator_comes(&scene);
    client_comes(&scene);
    for (uint64_t sequence = 1; sequence <= 5; sequence++) {
        submit(&scene, sequence, bytes_text("\xc0"));
    }
    struct msg_CANCEL cancel = {.request = 2, .task = id_make((uint32_t)scene.series, 3)};
    msg_CANCEL_put(say(&scene), &cancel);
    said(&scene, CLIENT);
    commit(&scene);
    scene.heard.n = 0;
    query(&scene, OPERATOR, "open", 0, false);
    query(&scene, CLIENT, "open", 0, false);
    commit(&scene);
    assert_int_equal(scene.series, 2);
    buf_put_u8(&scene.heard, 0);
    const char *heard = (const char *)scene.heard.p;
    assert_non_null(strstr(heard, "1: REPLY request=1 code=1 "));
    /* runs of tasks, newest first: from 2-4 on two, from 2-1 on two */
    assert_non_null(strstr(heard, "94cf000000020000000402cf000000020000000102"));
    /* completion 1 is that of 2-3 */
    assert_non_null(strstr(heard, "9201cf0000000200000003"));
    scene_end(&scene);
}

static void test_an_outcome_of_task_zero_gets_its_receipt(void **state)
{
    struct scene scene;
    (void)state;
    scene_begin(&scene);
    worker_comes(&scene);
    struct item_finished item = {.epoch = 4, .attempt = 1};
    finished(&scene, &item);
    commit(&scene);
    assert_true(has_heard(&scene, "RECEIPT"));
    scene_end(&scene);
}

/* An attempt's number is never given twice, also not by counting beyond the last one. */
static void test_an_attempt_of_the_highest_number_does_not_count(void **state)
{
    struct scene scene;
    (void)state;
    scene_begin(&scene);
    client_comes(&scene);
    submit(&scene, 1, bytes_text("\xc0"));
    commit(&scene);
    worker_comes(&scene);
    submit(&scene, 2, bytes_text("\xc0"));
    struct item_finished item = {.task = id_make((uint32_t)scene.series, 2),
                                 .epoch = 3,
                                 .attempt = UINT32_MAX,
                                 .state = FINISHED_FAILED,
                                 .cause = CAUSE_CRASHED};
    finished(&scene, &item);
    item.epoch = 4;
    finished(&scene, &item);
    item.attempt = 9; /* this broker has given no such attempt */
    finished(&scene, &item);
    item.epoch = 3;
    item.attempt = 0; /* nor has any */
    finished(&scene, &item);
    scene.heard.n = 0;
    commit(&scene);
    assert_true(has_heard(&scene, "verdict=1"));
    assert_int_equal(scene.core->counters.finished_stale, 4);
    scene_end(&scene);
}

/* A client that sent more than a batch should hold, and from then on waits for credit: there is no later commit. */
static void test_credit_that_was_withheld_comes_with_the_commit(void **state)
{
    struct scene scene;
    struct bytes args = bytes_of(calloc(1, MIB), MIB);
    (void)state;
    scene_begin(&scene);
    scene.core->limits.batch_bytes_max = 4 * MIB;
    client_comes(&scene);
    for (uint64_t i = 1; i <= 32; i++) {
        submit(&scene, i, args);
    }
    (void)has_heard(&scene, "");
    assert_int_equal(scene.core->starving_count, 1);
    commit(&scene);
    assert_true(has_heard(&scene, "CREDIT"));
    free((void *)(uintptr_t)args.p);
    scene_end(&scene);
}

/* What large tasks leave for the disk is what small ones of others wait for: results would only add to it. */
static void test_nothing_is_dispatched_while_the_disk_is_behind(void **state)
{
    struct scene scene;
    struct bytes args = bytes_of(calloc(1, MIB), MIB);
    (void)state;
    scene_begin(&scene);
    scene.core->limits.batch_bytes_max = MIB;
    client_comes(&scene);
    worker_comes_with(&scene, 2, false);
    submit(&scene, 1, args);
    assert_true(has_heard(&scene, "DISPATCH"));
    submit(&scene, 2, bytes_text("\xc0")); /* a byte more than may wait */
    assert_false(has_heard(&scene, "DISPATCH"));
    commit(&scene);
    assert_true(has_heard(&scene, "DISPATCH"));
    assert_int_equal(scene.core->ready, 0);
    free((void *)(uintptr_t)args.p);
    scene_end(&scene);
}

/* What the store read before a task ended does not say that there is no such task. */
static void test_a_task_that_ends_while_it_is_looked_up_is_shown(void **state)
{
    struct scene scene;
    (void)state;
    scene_begin(&scene);
    operator_comes(&scene);
    client_comes(&scene);
    worker_comes(&scene);
    submit(&scene, 1, bytes_text("\xc0"));
    commit(&scene);
    uint64_t id = id_make((uint32_t)scene.series, 1);
    query(&scene, OPERATOR, "show", id, false);
    struct item_finished item = {.task = id, .epoch = 4, .attempt = 1};
    finished(&scene, &item);
    struct loaded loaded = {.kind = LOAD_SHOW, .number = scene.core->load_number, .has_task = true};
    struct event event = {.kind = EVENT_LOADED, .loaded = &loaded};
    step(&scene, &event);
    commit(&scene);
    assert_int_equal(loaded.number + 1, scene.core->load_number);
    assert_false(has_heard(&scene, "there is no task"));
    scene_end(&scene);
}

/* Those who ask, wait and leave must not fill the broker. */
static void test_who_leaves_takes_what_it_waits_for_along(void **state)
{
    struct scene scene;
    (void)state;
    scene_begin(&scene);
    operator_comes(&scene);
    client_comes(&scene);
    submit(&scene, 1, bytes_text("\xc0"));
    commit(&scene);
    query(&scene, OPERATOR, "result", id_make((uint32_t)scene.series, 1), true);
    assert_int_equal(scene.core->query_count, 1);
    struct event event = {.kind = EVENT_CLOSED, .conn = OPERATOR};
    step(&scene, &event);
    assert_int_equal(scene.core->query_count, 0);
    scene_end(&scene);
}

/* A question of a few bytes is answered with thousands: how many answers may wait is bounded. */
static void test_answers_to_a_flood_of_questions_are_bounded(void **state)
{
    struct scene scene;
    struct msg_QUERY message = {.what = bytes_text("status")};
    (void)state;
    scene_begin(&scene);
    operator_comes(&scene);
    (void)say(&scene);
    for (message.request = 1; message.request <= 1000; message.request++) {
        msg_QUERY_put(&scene.frame, &message);
    }
    said(&scene, OPERATOR);
    struct batch *batch = core_seal(scene.core);
    struct event event = {.kind = EVENT_COMMITTED, .batch = batch->number};
    size_t size = 0;
    for (size_t i = 0; i < batch->gated.count; i++) {
        size += batch->gated.frames[i].frame.n;
    }
    step(&scene, &event);
    batch_free(scene.core, &batch);
    assert_in_range(size, 1000, 64 * 4096 + 1000 * 100);
    scene_end(&scene);
}

static void test_a_peer_that_speaks_of_nothing_known_is_dropped(void **state)
{
    struct scene scene;
    (void)state;
    scene_begin(&scene);
    operator_comes(&scene);
    (void)say(&scene);
    for (unsigned i = 0; i < 100000; i++) {
        buf_put(&scene.frame, "\x91\x63", 2);
    }
    said(&scene, OPERATOR);
    assert_null(conn_find(scene.core, OPERATOR));
    assert_int_equal(scene.core->counters.unknown_messages, PEER_UNKNOWN_COUNT_MAX);
    scene_end(&scene);
}

/* Runs of submits without a care for credit; how many came through before the broker ended it. */
static uint64_t submits_until_denied(struct scene *scene, uint64_t conn, struct bytes args, uint64_t run_count,
                                     uint64_t count_max)
{
    uint64_t sent = 0;
    while (!conn_find(scene->core, conn)->is_denied && sent < count_max) {
        struct message head = {.kind = MSG_SUBMIT};
        struct item_submit item = {.args = args};
        struct run run;
        head.SUBMIT.series = scene->series;
        head.SUBMIT.sequence = sent + 1;
        head.SUBMIT.function = bytes_text("work");
        run_open(&run, say(scene), &head);
        for (uint64_t i = 0; i < run_count; i++) {
            item_submit_put(run.out, &item);
            run.count++;
        }
        run_close(&run);
        said(scene, conn);
        sent += run_count;
    }
    return sent;
}

/* The stranger sends without end and the disk does not come after; the other client, within its credit, goes on. */
static void expect_only_the_immodest_is_denied(struct bytes args, uint64_t run_count, uint64_t wanted)
{
    struct scene scene;
    scene_begin(&scene);
    scene.core->limits.client_window_count = 50;
    scene.core->limits.client_window_bytes = 2 * MIB;
    scene.core->limits.batch_row_count_max = 0; /* behind at once: no credit is given until a commit */
    client_comes(&scene);
    uint64_t modest = scene.series;
    struct msg_HELLO_CLIENT hello = {.instance = {{9}}, .pid = 9};
    msg_HELLO_CLIENT_put(say(&scene), &hello);
    said(&scene, 101);
    struct msg_ECHO echo = {.nonce = scene.nonce};
    msg_ECHO_put(say(&scene), &echo);
    said(&scene, 101);
    commit(&scene);
    (void)has_heard(&scene, "");

    uint64_t sent = submits_until_denied(&scene, 101, args, run_count, wanted + run_count);
    assert_int_equal(sent, wanted);
    assert_int_equal(scene.core->tasks.count, sent - run_count); /* the last run was not taken */
    commit(&scene);
    assert_true(has_heard(&scene, "101: DENIED"));

    scene.series = modest;
    submit(&scene, 1, bytes_text("\xc0"));
    commit(&scene);
    assert_true(has_heard(&scene, "2: ACCEPTED"));
    assert_int_equal(scene.core->tasks.count, sent - run_count + 1);
    scene_end(&scene);
}

/* Credit of one window, and two more that a resend may come to: then it is over, by number and by size. */
static void test_who_submits_far_beyond_its_credit_is_denied_alone(void **state)
{
    struct bytes big = bytes_of(calloc(1, MIB), MIB);
    (void)state;
    expect_only_the_immodest_is_denied(bytes_text("\xc0"), 10, 170);
    expect_only_the_immodest_is_denied(big, 1, 24); /* 3 windows of 2 MiB, and one argument of 16 MiB */
    free((void *)(uintptr_t)big.p);
}

/* Up to there it is soft: a client that begins anew may repeat what it had sent. */
static void test_who_is_a_little_beyond_its_credit_goes_on(void **state)
{
    struct scene scene;
    (void)state;
    scene_begin(&scene);
    scene.core->limits.client_window_count = 50;
    scene.core->limits.batch_row_count_max = 0;
    client_comes(&scene);
    assert_int_equal(submits_until_denied(&scene, CLIENT, bytes_text("\xc0"), 10, 150), 150);
    commit(&scene);
    assert_true(has_heard(&scene, "CREDIT"));
    assert_int_equal(scene.core->tasks.count, 150);
    scene_end(&scene);
}

/* ---- one session, many processes ---- */

static struct uuid process_instance(uint32_t process)
{
    struct uuid uuid = {{0xc1}};
    memcpy(&uuid.b[4], &process, sizeof process);
    return uuid;
}

/* Opens the session "s" over connection `conn`, and takes it over if need be. */
static void process_opens(struct scene *scene, uint64_t conn, uint32_t process)
{
    struct msg_HELLO_CLIENT hello = {
        .instance = process_instance(process), .pid = 2, .name = bytes_text("s"), .take_over = true};
    msg_HELLO_CLIENT_put(say(scene), &hello);
    said(scene, conn);
    struct msg_ECHO echo = {.nonce = scene->nonce};
    msg_ECHO_put(say(scene), &echo);
    said(scene, conn);
    commit(scene);
}

static void process_resumes(struct scene *scene, uint64_t conn, uint32_t process, uint64_t series)
{
    struct msg_HELLO_CLIENT hello = {
        .instance = process_instance(process), .pid = 2, .session = scene->session, .series = series};
    msg_HELLO_CLIENT_put(say(scene), &hello);
    said(scene, conn);
    commit(scene);
}

static void conn_ends(struct scene *scene, uint64_t conn)
{
    struct event event = {.kind = EVENT_CLOSED, .conn = conn};
    step(scene, &event);
    update_clear(&scene->update);
}

/* Each new owner has a series of its own; what the former ones leave behind is bounded, in memory and on disk. */
static void test_owners_of_a_session_leave_a_bounded_number_of_series(void **state)
{
    struct scene scene;
    uint64_t last = 0;
    (void)state;
    scene_begin(&scene);
    for (uint32_t process = 1; process <= 10000; process++) {
        process_opens(&scene, 100 + process, process);
        assert_true(scene.series > last); /* a number is never given again */
        last = scene.series;
        submit_at(&scene, 100 + process, 1, bytes_text("\xc0"));
        if (process % 3 == 0) {
            commit(&scene);
        }
        if (process % 2 == 0) {
            conn_ends(&scene, 100 + process);
        }
        assert_true(scene.core->series.count <= SESSION_SERIES_COUNT_MAX);
        assert_true(scene.series_rows.count <= SESSION_SERIES_COUNT_MAX);
    }
    commit(&scene);
    assert_int_equal(scene.series_rows.count, SESSION_SERIES_COUNT_MAX);
    assert_int_equal(scene.core->tasks.count, 10000); /* what they submitted is there */
    scene_end(&scene);
}

/* As long as its series is kept, a former owner that opens the session again goes on where it was. */
static void test_a_former_owner_that_opens_soon_has_its_series_again(void **state)
{
    struct scene scene;
    (void)state;
    scene_begin(&scene);
    process_opens(&scene, 101, 1);
    uint64_t series = scene.series;
    submit_at(&scene, 101, 1, bytes_text("\xc0"));
    commit(&scene);
    for (uint32_t i = 0; i < 3 * SESSION_SERIES_COUNT_MAX; i++) { /* others come and go, it comes back each time */
        process_opens(&scene, 200 + i, 2 + i);
        assert_int_not_equal(scene.series, series);
        process_opens(&scene, 300 + i, 1);
        assert_int_equal(scene.series, series);
        submit_at(&scene, 300 + i, 1, bytes_text("\xc0"));
        commit(&scene);
        assert_int_equal(scene.core->tasks.count, 1);
    }
    scene_end(&scene);
}

/* When its series is gone: to resume it is told that it was taken over; what it sends of then is not done again. */
static void test_a_former_owner_that_comes_late_doubles_nothing(void **state)
{
    struct scene scene;
    (void)state;
    scene_begin(&scene);
    process_opens(&scene, 101, 1);
    uint64_t series = scene.series;
    submit_at(&scene, 101, 1, bytes_text("\xc0"));
    commit(&scene);
    conn_ends(&scene, 101);
    for (uint32_t process = 2; process < 2 + SESSION_SERIES_COUNT_MAX; process++) {
        process_opens(&scene, 100 + process, process);
    }
    assert_null(series_find(scene.core, series));
    (void)has_heard(&scene, "");
    process_resumes(&scene, 201, 1, series);
    assert_true(has_heard(&scene, "taken over"));
    process_resumes(&scene, 202, 77, series + 1000); /* a number that was never given */
    assert_true(has_heard(&scene, "no such session"));

    process_opens(&scene, 203, 1);
    assert_true(scene.series > series);
    (void)has_heard(&scene, "");
    scene.series = series;
    submit_at(&scene, 203, 1, bytes_text("\xc0"));
    commit(&scene);
    assert_true(has_heard(&scene, "not this client's"));
    assert_int_equal(scene.core->tasks.count, 1);
    scene_end(&scene);
}

static void test_who_opens_when_no_series_is_left_is_refused(void **state)
{
    struct scene scene;
    (void)state;
    scene_begin(&scene);
    scene.core->series_numbers.next = SERIES_MAX;
    process_opens(&scene, 101, 1);
    assert_int_equal(scene.series, SERIES_MAX);
    (void)has_heard(&scene, "");
    process_opens(&scene, 102, 2);
    assert_true(has_heard(&scene, "no numbers left"));
    assert_int_equal(scene.core->series.count, 1);
    scene_end(&scene);
}

static void moment(struct scene *scene)
{
    struct event event = {.kind = EVENT_TICK};
    scene->now += 10;
    step(scene, &event);
    update_clear(&scene->update);
}

static void volatile_client_comes(struct scene *scene)
{
    struct msg_HELLO_CLIENT hello = {
        .instance = {{5}}, .pid = 2, .is_volatile = true, .credit_count = INT64_MAX, .credit_bytes = INT64_MAX};
    msg_HELLO_CLIENT_put(say(scene), &hello);
    said(scene, CLIENT);
    struct msg_ECHO echo = {.nonce = scene->nonce};
    msg_ECHO_put(say(scene), &echo);
    said(scene, CLIENT);
    commit(scene);
    (void)has_heard(scene, "");
}

/* Who waits for a result is not woken for ACCEPTED first: it comes along, ahead of what rests on it. */
static void test_what_nobody_waits_for_goes_along_with_the_next_frame(void **state)
{
    struct scene scene;
    (void)state;
    scene_begin(&scene);
    volatile_client_comes(&scene);
    submit_at(&scene, CLIENT, 1, bytes_text("\xc0"));
    assert_false(has_heard(&scene, "ACCEPTED"));
    struct msg_PING ping = {.number = 7};
    msg_PING_put(say(&scene), &ping);
    said(&scene, CLIENT);
    buf_put_u8(&scene.heard, 0);
    const char *accepted = strstr((const char *)scene.heard.p, "ACCEPTED");
    const char *pong = strstr((const char *)scene.heard.p, "PONG");
    assert_true(accepted != NULL && pong != NULL && accepted < pong);
    scene.heard.n = 0;
    moment(&scene);
    assert_false(has_heard(&scene, "ACCEPTED")); /* once */
    scene_end(&scene);
}

/* It does not wait for ever: without company it goes alone. */
static void test_what_nobody_waits_for_goes_alone_after_a_moment(void **state)
{
    struct scene scene;
    (void)state;
    scene_begin(&scene);
    volatile_client_comes(&scene);
    submit_at(&scene, CLIENT, 1, bytes_text("\xc0"));
    moment(&scene);
    assert_true(has_heard(&scene, "ACCEPTED"));
    for (uint32_t i = 2; i <= 200; i++) {
        submit_at(&scene, CLIENT, i, bytes_text("\xc0"));
    }
    assert_true(has_heard(&scene, "ACCEPTED")); /* nor beyond a number of them */
    scene_end(&scene);
}

/* Nobody is left for it. */
static void test_what_would_leave_soon_goes_with_its_connection(void **state)
{
    struct scene scene;
    (void)state;
    scene_begin(&scene);
    volatile_client_comes(&scene);
    submit_at(&scene, CLIENT, 1, bytes_text("\xc0"));
    struct event closed = {.kind = EVENT_CLOSED, .conn = CLIENT};
    step(&scene, &closed);
    update_clear(&scene.update);
    moment(&scene);
    assert_false(has_heard(&scene, "ACCEPTED"));
    scene_end(&scene);
}

/* Without a store nothing durable can be promised: who wants it is told what to do. */
static void test_a_broker_without_a_store_serves_volatile_sessions_only(void **state)
{
    struct scene scene;
    (void)state;
    scene_begin(&scene);
    scene.core->has_store = false;
    client_comes(&scene);
    assert_true(has_heard(&scene, "no store"));
    struct msg_HELLO_CLIENT hello = {.instance = {{5}}, .pid = 2, .is_volatile = true, .credit_count = 1};
    msg_HELLO_CLIENT_put(say(&scene), &hello);
    said(&scene, 9);
    struct msg_ECHO echo = {.nonce = scene.nonce};
    msg_ECHO_put(say(&scene), &echo);
    said(&scene, 9);
    assert_true(has_heard(&scene, "WELCOME_CLIENT"));
    submit_at(&scene, 9, 1, bytes_text("\xc0"));
    moment(&scene);
    assert_true(has_heard(&scene, "ACCEPTED"));
    assert_int_equal(scene.core->tasks.count, 1);
    scene_end(&scene);
}

/* Dispatches of a hundred tasks: in bytes. */
static size_t dispatch_size(bool take_short)
{
    struct scene scene;
    scene_begin(&scene);
    client_comes(&scene);
    for (uint64_t sequence = 1; sequence <= 100; sequence++) {
        submit(&scene, sequence, bytes_text("\xc0"));
    }
    worker_comes_with(&scene, 100, take_short);
    assert_true(has_heard(&scene, "DISPATCH"));
    assert_int_equal(scene.core->state_count[TASK_LEASED], 100);
    scene_end(&scene);
    return scene.worker_bytes;
}

/* An older worker, or one in another language, would take a short item for a malformed one. */
static void test_a_peer_that_takes_no_short_items_gets_whole_ones(void **state)
{
    (void)state;
    assert_true(dispatch_size(false) > 100 * 15);
    assert_true(dispatch_size(true) < 100 * 8);
}

/* ---- rules that a peer who keeps the protocol never tries ---- */

static struct series *own_series(const struct scene *scene)
{
    return series_find(scene->core, scene->series);
}

static struct task *own_task(const struct scene *scene, uint32_t sequence)
{
    return task_find(scene->core, id_make((uint32_t)scene->series, sequence));
}

static void submit_line(struct scene *scene, uint64_t sequence, uint64_t ordinal, uint64_t predecessor,
                        struct bytes args)
{
    struct message head = {.kind = MSG_SUBMIT};
    struct item_submit item = {.args = args, .ordinal = ordinal};
    struct run run;
    head.SUBMIT.series = scene->series;
    head.SUBMIT.sequence = sequence;
    head.SUBMIT.function = bytes_text("work");
    head.SUBMIT.predecessor = predecessor;
    run_open(&run, say(scene), &head);
    item_submit_put(run.out, &item);
    run.count = 1;
    run_close(&run);
    said(scene, CLIENT);
}

/* What would fill the gap could never be told from what was sent again. */
static void test_a_gap_ends_the_connection_and_uses_up_nothing(void **state)
{
    struct scene scene;
    (void)state;
    scene_begin(&scene);
    client_comes(&scene);
    submit(&scene, 2, bytes_text("\xc0"));
    commit(&scene);
    assert_true(has_heard(&scene, "leaves a gap"));
    assert_int_equal(scene.core->tasks.count, 0);
    assert_int_equal(own_series(&scene)->submitted_high, 0);
    scene_end(&scene);
}

/* Old and new pipes of one peer can interleave: what was sent for another connection is not obeyed on this one. */
static void test_a_frame_of_another_generation_is_ignored(void **state)
{
    struct scene scene;
    (void)state;
    scene_begin(&scene);
    client_comes(&scene);
    struct msg_BYE bye = {0};
    scene.frame.n = 0;
    frame_begin(&scene.frame, 7);
    msg_BYE_put(&scene.frame, &bye);
    said(&scene, CLIENT);
    submit(&scene, 1, bytes_text("\xc0"));
    commit(&scene);
    assert_true(has_heard(&scene, "ACCEPTED"));
    assert_int_equal(scene.core->counters.frames_stale, 1);
    scene_end(&scene);
}

/* A program that reads its input again learns from it whether the input is the same. */
static void test_the_digest_tells_arguments_apart(void **state)
{
    static const char *const second[] = {"\x02", "\x03"};
    uint8_t digests[2][DIGEST_SIZE];
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct scene scene;
        scene_begin(&scene);
        client_comes(&scene);
        submit_line(&scene, 1, 1, 0, bytes_text("\x01"));
        submit_line(&scene, 2, 2, 1, bytes_text(second[i]));
        memcpy(digests[i], session_find(scene.core, scene.session)->digest, DIGEST_SIZE);
        commit(&scene);
        scene_end(&scene);
    }
    assert_memory_not_equal(digests[0], digests[1], DIGEST_SIZE);
}

/* A line that was accepted is not done again, whatever sequence it comes under. */
static void test_an_ordinal_is_accepted_once(void **state)
{
    struct scene scene;
    (void)state;
    scene_begin(&scene);
    client_comes(&scene);
    submit_line(&scene, 1, 5, 0, bytes_text("\x01"));
    submit_line(&scene, 2, 5, 5, bytes_text("\x01"));
    submit_line(&scene, 3, 4, 5, bytes_text("\x01"));
    commit(&scene);
    assert_true(has_heard(&scene, "REFUSED"));
    assert_int_equal(scene.core->tasks.count, 1);
    assert_int_equal(session_find(scene.core, scene.session)->ordinal_high, 5);
    scene_end(&scene);
}

/* A late return of an earlier attempt would give away what runs. */
static void test_a_return_names_its_token(void **state)
{
    struct scene scene;
    (void)state;
    scene_begin(&scene);
    client_comes(&scene);
    worker_comes(&scene);
    submit(&scene, 1, bytes_text("\xc0"));
    commit(&scene);
    const struct task *task = own_task(&scene, 1);
    assert_int_equal(task->state, TASK_LEASED);
    struct item_token item = {.task = task->id, .epoch = task->epoch, .attempt = task->attempt + 1};
    struct message head = {.kind = MSG_RETURNED};
    struct run run;
    run_open(&run, say(&scene), &head);
    item_token_put(run.out, &item);
    run.count = 1;
    run_close(&run);
    said(&scene, WORKER);
    assert_int_equal(scene.core->counters.returned, 0);
    assert_int_equal(own_task(&scene, 1)->attempt, 1);
    scene_end(&scene);
}

/* It says that the task is done and gone: the disk must say so too. */
static void test_forgotten_waits_for_the_commit(void **state)
{
    struct scene scene;
    (void)state;
    scene_begin(&scene);
    client_comes(&scene);
    own_series(&scene)->submitted_high = 3; /* as if they had been done, and deleted */
    submit(&scene, 1, bytes_text("\xc0"));
    assert_false(has_heard(&scene, "FORGOTTEN"));
    commit(&scene);
    assert_true(has_heard(&scene, "FORGOTTEN"));
    scene_end(&scene);
}

/* Every second submit is refused: each is a range of its own. */
static void test_refusals_that_are_kept_are_bounded(void **state)
{
    struct scene scene;
    (void)state;
    scene_begin(&scene);
    client_comes(&scene);
    for (uint64_t sequence = 1; sequence <= 2 * REFUSED_RANGE_COUNT_MAX + 100; sequence++) {
        scene.core->limits.task_count_max = sequence % 2 == 0 ? 0 : 1000000;
        submit(&scene, sequence, bytes_text("\xc0"));
        assert_true(own_series(&scene)->refused_count <= REFUSED_RANGE_COUNT_MAX);
    }
    commit(&scene);
    assert_int_equal(own_series(&scene)->refused_count, REFUSED_RANGE_COUNT_MAX);
    scene_end(&scene);
}

/* What it took it had not told before the session was taken from it: its successor gets it. */
static void test_a_former_owner_that_resumes_acknowledges_nothing(void **state)
{
    struct scene scene;
    (void)state;
    scene_begin(&scene);
    process_opens(&scene, 101, 1);
    uint64_t series = scene.series;
    worker_comes(&scene);
    submit_at(&scene, 101, 1, bytes_text("\xc0"));
    commit(&scene);
    struct item_finished item = {.task = id_make((uint32_t)series, 1), .epoch = 4, .attempt = 1};
    finished(&scene, &item);
    commit(&scene);
    process_opens(&scene, 102, 2);
    struct msg_HELLO_CLIENT hello = {
        .instance = process_instance(1), .pid = 2, .session = scene.session, .series = series, .taken_prefix = 1};
    msg_HELLO_CLIENT_put(say(&scene), &hello);
    said(&scene, 103);
    commit(&scene);
    assert_int_equal(session_find(scene.core, scene.session)->acked_prefix, 0);
    scene_end(&scene);
}

/* Numbers of another store mean other work: what it lists is not adopted, and how far ours got nobody knows. */
static void test_what_a_worker_held_for_another_store_is_lost(void **state)
{
    struct scene scene;
    (void)state;
    scene_begin(&scene);
    client_comes(&scene);
    worker_comes(&scene);
    submit(&scene, 1, bytes_text("\xc0"));
    commit(&scene);
    conn_ends(&scene, WORKER);
    struct buf items = {0};
    struct item_held item = {.task = own_task(&scene, 1)->id, .epoch = 4, .attempt = 1, .state = HELD_RUNNING};
    item_held_put(&items, &item);
    struct msg_HELLO_WORKER hello = {.instance = {{3}},
                                     .pid = 3,
                                     .host = bytes_text("host"),
                                     .name = bytes_text("host-1"),
                                     .store = {{99}},
                                     .held = {.items = buf_bytes(&items), .count = 1}};
    scene.frame.n = 0;
    frame_begin(&scene.frame, 2);
    msg_HELLO_WORKER_put(&scene.frame, &hello);
    said(&scene, WORKER + 100);
    commit(&scene);
    assert_int_equal(scene.core->counters.lost, 1);
    assert_int_equal(own_task(&scene, 1)->losses, 1);
    buf_fini(&items);
    scene_end(&scene);
}

/* It is there and talks, but its supervisor may be the one that hangs: only a PING renews. */
static void test_a_worker_that_talks_and_does_not_renew_loses_what_it_holds(void **state)
{
    struct scene scene;
    struct event tick = {.kind = EVENT_TICK};
    (void)state;
    scene_begin(&scene);
    client_comes(&scene);
    worker_comes(&scene);
    submit(&scene, 1, bytes_text("\xc0"));
    commit(&scene);
    for (unsigned i = 0; i < 6; i++) {
        struct msg_PONG pong = {.number = i};
        scene.now += (int64_t)scene.limits.heartbeat_ms;
        msg_PONG_put(say(&scene), &pong);
        said(&scene, WORKER);
        step(&scene, &tick);
        update_clear(&scene.update);
    }
    assert_int_equal(scene.core->counters.lost, 1);
    scene_end(&scene);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_gap_ends_the_connection_and_uses_up_nothing),
        cmocka_unit_test(test_a_frame_of_another_generation_is_ignored),
        cmocka_unit_test(test_the_digest_tells_arguments_apart),
        cmocka_unit_test(test_an_ordinal_is_accepted_once),
        cmocka_unit_test(test_a_return_names_its_token),
        cmocka_unit_test(test_forgotten_waits_for_the_commit),
        cmocka_unit_test(test_refusals_that_are_kept_are_bounded),
        cmocka_unit_test(test_a_former_owner_that_resumes_acknowledges_nothing),
        cmocka_unit_test(test_what_a_worker_held_for_another_store_is_lost),
        cmocka_unit_test(test_a_worker_that_talks_and_does_not_renew_loses_what_it_holds),
        cmocka_unit_test(test_what_nobody_waits_for_goes_along_with_the_next_frame),
        cmocka_unit_test(test_what_nobody_waits_for_goes_alone_after_a_moment),
        cmocka_unit_test(test_what_would_leave_soon_goes_with_its_connection),
        cmocka_unit_test(test_a_broker_without_a_store_serves_volatile_sessions_only),
        cmocka_unit_test(test_a_peer_that_takes_no_short_items_gets_whole_ones),
        cmocka_unit_test(test_a_question_about_task_zero_is_answered),
        cmocka_unit_test(test_what_is_open_is_told_to_the_owner_alone),
        cmocka_unit_test(test_an_outcome_of_task_zero_gets_its_receipt),
        cmocka_unit_test(test_an_attempt_of_the_highest_number_does_not_count),
        cmocka_unit_test(test_credit_that_was_withheld_comes_with_the_commit),
        cmocka_unit_test(test_nothing_is_dispatched_while_the_disk_is_behind),
        cmocka_unit_test(test_a_task_that_ends_while_it_is_looked_up_is_shown),
        cmocka_unit_test(test_who_leaves_takes_what_it_waits_for_along),
        cmocka_unit_test(test_answers_to_a_flood_of_questions_are_bounded),
        cmocka_unit_test(test_a_peer_that_speaks_of_nothing_known_is_dropped),
        cmocka_unit_test(test_who_submits_far_beyond_its_credit_is_denied_alone),
        cmocka_unit_test(test_who_is_a_little_beyond_its_credit_goes_on),
        cmocka_unit_test(test_owners_of_a_session_leave_a_bounded_number_of_series),
        cmocka_unit_test(test_a_former_owner_that_opens_soon_has_its_series_again),
        cmocka_unit_test(test_a_former_owner_that_comes_late_doubles_nothing),
        cmocka_unit_test(test_who_opens_when_no_series_is_left_is_refused),
    };
    if (argc > 1) {
        cmocka_set_test_filter(argv[1]);
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/*
 * test_core: the core alone, frame by frame, where no model peer would go: hostile numbers, floods, and what a step
 * leaves behind. What a whole world shows is in tests/simulation; rules that need two peers or more: test_core_rules.
 * Start at any test; scenes are in core_scene.h.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core_scene.h"

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
    scene.core->limits.batch_submit_bytes_max = UINT64_MAX;
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

/* What large tasks leave for the disk is what small ones of others wait for: their results would only add to it. Small
 * ones would but wait for one commit more. */
static void test_large_tasks_are_not_dispatched_while_the_disk_is_behind_small_ones_are(void **state)
{
    struct scene scene;
    struct bytes args = bytes_of(calloc(1, MIB), MIB);
    (void)state;
    scene_begin(&scene);
    scene.core->limits.batch_bytes_max = MIB;
    scene.core->limits.batch_submit_bytes_max = UINT64_MAX;
    client_comes(&scene);
    worker_comes_with(&scene, 8, false);
    submit(&scene, 1, args);
    assert_true(has_heard(&scene, "DISPATCH"));
    submit(&scene, 2, bytes_text("\xc0")); /* a byte more than may wait */
    assert_true(has_heard(&scene, "DISPATCH"));
    submit(&scene, 3, args);
    assert_false(has_heard(&scene, "DISPATCH"));
    commit(&scene);
    assert_true(has_heard(&scene, "DISPATCH"));

    struct item_finished item = {
        .task = id_make((uint32_t)scene.series, 1), .epoch = 4, .attempt = 1, .result = bytes_of(args.p, MIB - 1)};
    finished(&scene, &item);
    item.task = id_make((uint32_t)scene.series, 3);
    finished(&scene, &item);
    submit(&scene, 4, bytes_text("\xc0")); /* the function's results were large */
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

static void output_said(struct scene *scene, uint64_t conn, uint64_t number)
{
    struct msg_OUTPUT output = {.request = number, .is_running = true, .output = bytes_text("\xc1 no output at all")};
    msg_OUTPUT_put(say(scene), &output);
    said(scene, conn);
}

/* Who looks at a task is not to be shown what another worker makes up, nor what nobody asked for. */
static void test_output_is_heard_only_from_the_worker_that_was_asked(void **state)
{
    struct scene scene;
    (void)state;
    scene_begin(&scene);
    operator_comes(&scene);
    client_comes(&scene);
    worker_comes(&scene);
    struct msg_HELLO_WORKER other = {
        .instance = {{4}}, .pid = 4, .host = bytes_text("elsewhere"), .name = bytes_text("elsewhere-1"), .slots = 1};
    msg_HELLO_WORKER_put(say(&scene), &other);
    said(&scene, WORKER + 1);
    commit(&scene);
    output_said(&scene, WORKER, 1); /* nobody has asked anything */
    submit(&scene, 1, bytes_text("\xc0"));
    commit(&scene);
    query(&scene, OPERATOR, "logs", id_make((uint32_t)scene.series, 1), false);
    assert_true(has_heard(&scene, "LOOK"));
    uint64_t asked = scene.core->look_number;
    uint64_t loads = scene.core->load_number;
    output_said(&scene, WORKER + 1, asked);
    output_said(&scene, CLIENT, asked);
    output_said(&scene, WORKER, asked + 1);
    assert_int_equal(scene.core->looks.count, 1);
    assert_int_equal(scene.core->load_number, loads); /* still waiting for it */
    output_said(&scene, WORKER, asked);
    assert_int_equal(scene.core->looks.count, 0);
    assert_int_equal(scene.core->load_number, loads + 1);
    struct loaded loaded = {.kind = LOAD_LOGS, .number = scene.core->load_number};
    struct event event = {.kind = EVENT_LOADED, .loaded = &loaded};
    step(&scene, &event);
    commit(&scene);
    assert_false(has_heard(&scene, "no output at all")); /* what is no output is left out */
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
    scene.core->limits.batch_submit_count_max = UINT64_MAX;
    scene.core->limits.batch_submit_bytes_max = UINT64_MAX;
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

/* Credit of one window, and a frame or two windows' bytes more: then it is over, by number and by size. */
static void test_who_submits_far_beyond_its_credit_is_denied_alone(void **state)
{
    struct bytes big = bytes_of(calloc(1, MIB), MIB);
    (void)state;
    expect_only_the_immodest_is_denied(bytes_text("\xc0"), 10, 50 + BATCH_COUNT_SOFT + 4);
    expect_only_the_immodest_is_denied(big, 1, 24); /* 3 windows of 2 MiB, and one argument of 16 MiB */
    free((void *)(uintptr_t)big.p);
}

/* Up to there it is soft: a clumsy client may go over it by a frame. */
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

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_question_about_task_zero_is_answered),
        cmocka_unit_test(test_what_is_open_is_told_to_the_owner_alone),
        cmocka_unit_test(test_an_outcome_of_task_zero_gets_its_receipt),
        cmocka_unit_test(test_an_attempt_of_the_highest_number_does_not_count),
        cmocka_unit_test(test_credit_that_was_withheld_comes_with_the_commit),
        cmocka_unit_test(test_large_tasks_are_not_dispatched_while_the_disk_is_behind_small_ones_are),
        cmocka_unit_test(test_a_task_that_ends_while_it_is_looked_up_is_shown),
        cmocka_unit_test(test_output_is_heard_only_from_the_worker_that_was_asked),
        cmocka_unit_test(test_who_leaves_takes_what_it_waits_for_along),
        cmocka_unit_test(test_answers_to_a_flood_of_questions_are_bounded),
        cmocka_unit_test(test_a_peer_that_speaks_of_nothing_known_is_dropped),
        cmocka_unit_test(test_who_submits_far_beyond_its_credit_is_denied_alone),
        cmocka_unit_test(test_who_is_a_little_beyond_its_credit_goes_on),
        cmocka_unit_test(test_what_nobody_waits_for_goes_along_with_the_next_frame),
        cmocka_unit_test(test_what_nobody_waits_for_goes_alone_after_a_moment),
        cmocka_unit_test(test_what_would_leave_soon_goes_with_its_connection),
        cmocka_unit_test(test_a_broker_without_a_store_serves_volatile_sessions_only),
        cmocka_unit_test(test_a_peer_that_takes_no_short_items_gets_whole_ones),
    };
    if (argc > 1) {
        cmocka_set_test_filter(argv[1]);
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}

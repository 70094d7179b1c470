/*
 * test_core_floods: who submits more than a batch takes waits, others do not; and one frame or message is never long.
 * By counts, not by time. Start at test_a_flood_goes_into_many_batches_and_others_into_the_next.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core_scene.h"

#define GREEDY 101u
#define GREEDY_TOO 102u

/* Another client; its series. */
static uint64_t greedy_comes(struct scene *scene, uint64_t conn, bool is_volatile)
{
    struct msg_HELLO_CLIENT hello = {.instance = {{(uint8_t)conn}}, .pid = 9, .is_volatile = is_volatile};
    msg_HELLO_CLIENT_put(say(scene), &hello);
    said(scene, conn);
    struct msg_ECHO echo = {.nonce = scene->nonce};
    msg_ECHO_put(say(scene), &echo);
    said(scene, conn);
    commit(scene);
    return scene->series;
}

static void submits_at(struct scene *scene, uint64_t conn, uint64_t series, uint64_t first, unsigned count)
{
    struct message head = {.kind = MSG_SUBMIT};
    struct item_submit item = {.args = bytes_text("\xc0")};
    struct run run;
    head.SUBMIT.series = series;
    head.SUBMIT.sequence = first;
    head.SUBMIT.function = bytes_text("work");
    run_open(&run, say(scene), &head);
    for (unsigned i = 0; i < count; i++) {
        item_submit_put(run.out, &item);
        run.count++;
    }
    run_close(&run);
    said(scene, conn);
}

static void greedy_submits(struct scene *scene, uint64_t conn, uint64_t series, unsigned count)
{
    for (unsigned sent = 0; sent < count; sent += 50) {
        submits_at(scene, conn, series, sent + 1, 50);
    }
}

/* One message can hold millions of submits: it is not even looked through. */
static void test_one_message_far_beyond_the_credit_takes_nothing(void **state)
{
    struct scene scene;
    (void)state;
    scene_begin(&scene);
    scene.core->limits.client_window_count = 50;
    client_comes(&scene);
    submits_at(&scene, CLIENT, scene.series, 1, 50 + BATCH_COUNT_SOFT + 1);
    assert_true(conn_find(scene.core, CLIENT)->is_denied);
    assert_int_equal(scene.core->tasks.count, 0);
    scene_end(&scene);
}

/* A frame of 34 MiB could hold eleven million of them, and each has an answer. */
static void test_a_frame_of_too_many_messages_ends_its_connection(void **state)
{
    struct scene scene;
    struct msg_PING ping = {.number = 1};
    (void)state;
    scene_begin(&scene);
    client_comes(&scene);
    struct buf *frame = say(&scene);
    for (unsigned i = 0; i < 3 * FRAME_MESSAGE_COUNT_MAX; i++) {
        msg_PING_put(frame, &ping);
    }
    struct event event = {.kind = EVENT_FRAME, .conn = CLIENT, .frame = buf_bytes(frame)};
    core_step(scene.core, &event, &scene.update);
    assert_null(conn_find(scene.core, CLIENT));
    assert_int_equal(scene.update.kick_count, 1);
    update_clear(&scene.update);
    scene_end(&scene);
}

/* What one client sends in a flood goes into several batches, each of which is short; who has one task to submit is in
 * the next commit all the same. */
static void test_a_flood_goes_into_many_batches_and_others_into_the_next(void **state)
{
    struct scene scene;
    (void)state;
    scene_begin(&scene);
    scene.core->limits.batch_submit_count_max = 200;
    client_comes(&scene);
    uint64_t modest = scene.series;
    uint64_t greedy = greedy_comes(&scene, GREEDY, false);
    greedy_submits(&scene, GREEDY, greedy, 1000);
    assert_int_equal(scene.core->tasks.count, 200);
    scene.series = modest;
    submit(&scene, 1, bytes_text("\xc0"));
    assert_int_equal(scene.core->tasks.count, 201);
    for (unsigned batch = 1; batch <= 5; batch++) {
        assert_int_equal(scene.core->tasks.count, 200 * batch + 1);
        commit(&scene); /* and the next one begins with what waited */
        assert_true(batch != 1 || has_heard(&scene, "2: ACCEPTED"));
    }
    assert_true(has_heard(&scene, "101: ACCEPTED series=3 sequence=951 count=50"));
    assert_int_equal(scene.core->backlog_bytes, 0);
    assert_int_equal(scene.core->counters.protocol_errors, 0);
    scene_end(&scene);
}

/* Two of them share what there is. */
static void test_who_waits_for_the_next_batch_takes_turns(void **state)
{
    struct scene scene;
    (void)state;
    scene_begin(&scene);
    scene.core->limits.batch_submit_count_max = 200;
    uint64_t one = greedy_comes(&scene, GREEDY, false);
    uint64_t two = greedy_comes(&scene, GREEDY_TOO, false);
    greedy_submits(&scene, GREEDY, one, 1000);
    greedy_submits(&scene, GREEDY_TOO, two, 1000);
    uint64_t before = conn_find(scene.core, GREEDY)->received_count - conn_find(scene.core, GREEDY_TOO)->received_count;
    uint64_t tasks = scene.core->tasks.count;
    commit(&scene);
    assert_true(scene.core->tasks.count >= tasks + 200);
    assert_true(scene.core->tasks.count <= tasks + 2 * 200);
    assert_int_equal(conn_find(scene.core, GREEDY)->received_count - conn_find(scene.core, GREEDY_TOO)->received_count,
                     before);
    scene_end(&scene);
}

/* Not by number alone: a megabyte takes as long as thousands of small ones, and results as long as arguments. */
static void test_a_batch_is_full_by_bytes_too(void **state)
{
    struct scene scene;
    struct bytes big = bytes_of(calloc(1, MIB), MIB);
    (void)state;
    scene_begin(&scene);
    scene.core->limits.batch_submit_bytes_max = MIB;
    client_comes(&scene);
    uint64_t first = scene.series;
    worker_comes(&scene);
    submit(&scene, 1, bytes_text("\xc0"));
    commit(&scene);
    uint64_t modest = greedy_comes(&scene, GREEDY_TOO, false);
    (void)greedy_comes(&scene, GREEDY, false);
    for (unsigned i = 1; i <= 2; i++) {
        submit_at(&scene, GREEDY, i, big);
    }
    submits_at(&scene, GREEDY_TOO, modest, 1, 1);
    assert_int_equal(scene.core->tasks.count, 1 + 2);
    commit(&scene);
    assert_int_equal(scene.core->tasks.count, 1 + 3);
    commit(&scene);

    struct item_finished item = {.task = id_make((uint32_t)first, 1), .epoch = 4, .attempt = 1, .result = big};
    finished(&scene, &item);
    submit_at(&scene, GREEDY, 3, big); /* the first of it in this batch, and too much all the same */
    submits_at(&scene, GREEDY_TOO, modest, 2, 1);
    assert_int_equal(scene.core->tasks.count, 3 + 1);
    commit(&scene);
    assert_int_equal(scene.core->tasks.count, 3 + 2);
    free((void *)(uintptr_t)big.p);
    scene_end(&scene);
}

/* A client's messages keep their order, whatever has to wait. */
static void test_what_comes_behind_a_submit_that_waits_waits_too(void **state)
{
    struct scene scene;
    struct msg_PING ping = {.number = 77};
    (void)state;
    scene_begin(&scene);
    scene.core->limits.batch_submit_count_max = 200;
    uint64_t greedy = greedy_comes(&scene, GREEDY, false);
    greedy_submits(&scene, GREEDY, greedy, 350);
    msg_PING_put(say(&scene), &ping);
    said(&scene, GREEDY);
    assert_false(has_heard(&scene, "PONG"));
    commit(&scene);
    assert_int_equal(scene.core->tasks.count, 350);
    assert_true(has_heard(&scene, "PONG number=77"));
    scene_end(&scene);
}

/* It was not answered, so whoever sent it sends it again. */
static void test_what_waits_goes_with_its_connection(void **state)
{
    struct scene scene;
    struct event gone = {.kind = EVENT_CLOSED, .conn = GREEDY};
    (void)state;
    scene_begin(&scene);
    scene.core->limits.batch_submit_count_max = 200;
    uint64_t greedy = greedy_comes(&scene, GREEDY, false);
    greedy_submits(&scene, GREEDY, greedy, 1000);
    step(&scene, &gone);
    update_clear(&scene.update);
    assert_int_equal(scene.core->backlog_bytes, 0);
    commit(&scene);
    assert_int_equal(scene.core->tasks.count, 200);
    scene_end(&scene);
}

/* A volatile session uses no disk, so it does not wait for one, not even where everybody else does. */
static void test_volatile_submits_never_wait_for_a_batch(void **state)
{
    struct scene scene;
    uint64_t series[4];
    (void)state;
    scene_begin(&scene);
    scene.core->limits.batch_submit_count_max = 100;
    for (unsigned i = 0; i < 4; i++) {
        series[i] = greedy_comes(&scene, GREEDY + i, i == 3);
    }
    for (unsigned i = 0; i < 4; i++) {
        greedy_submits(&scene, GREEDY + i, series[i], 500);
    }
    assert_int_equal(scene.core->tasks.count, 100 + 100 + 500); /* modest ones, too, have but one batch more */
    scene_end(&scene);
}

static void named_comes(struct scene *scene, uint64_t conn)
{
    struct msg_HELLO_CLIENT hello = {
        .instance = {{(uint8_t)conn}}, .pid = 9, .name = bytes_text("s"), .take_over = true};
    msg_HELLO_CLIENT_put(say(scene), &hello);
    said(scene, conn);
    struct msg_ECHO echo = {.nonce = scene->nonce};
    msg_ECHO_put(say(scene), &echo);
    said(scene, conn);
}

/* Another one takes the session over while it waits: found by the simulation. */
static void test_what_waits_goes_with_its_session(void **state)
{
    struct scene scene;
    (void)state;
    scene_begin(&scene);
    scene.core->limits.batch_submit_count_max = 200;
    named_comes(&scene, GREEDY);
    commit(&scene);
    greedy_submits(&scene, GREEDY, scene.series, 1000);
    assert_true(scene.core->backlog_bytes > 0);
    named_comes(&scene, GREEDY_TOO);
    assert_true(conn_find(scene.core, GREEDY)->is_denied);
    assert_int_equal(scene.core->backlog_bytes, 0);
    core_check(scene.core);
    commit(&scene);
    assert_int_equal(scene.core->tasks.count, 200);
    scene_end(&scene);
}

/* What waits has a bound, too. */
static void test_who_fills_its_backlog_is_denied(void **state)
{
    struct scene scene;
    struct bytes big = bytes_of(calloc(1, 4 * MIB), 4 * MIB);
    (void)state;
    scene_begin(&scene);
    (void)greedy_comes(&scene, GREEDY, false);
    unsigned sent = 0;
    while (!conn_find(scene.core, GREEDY)->is_denied && sent < 20) {
        submit_at(&scene, GREEDY, ++sent, big);
    }
    assert_int_equal(sent, 1 + 9); /* 34 MiB and a window of 2, and an argument more than that */
    assert_int_equal(scene.core->backlog_bytes, 0);
    assert_int_equal(scene.core->counters.protocol_errors, 1);
    commit(&scene);
    assert_true(has_heard(&scene, "101: DENIED"));
    assert_int_equal(scene.core->tasks.count, 1);
    free((void *)(uintptr_t)big.p);
    scene_end(&scene);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_message_far_beyond_the_credit_takes_nothing),
        cmocka_unit_test(test_a_frame_of_too_many_messages_ends_its_connection),
        cmocka_unit_test(test_a_flood_goes_into_many_batches_and_others_into_the_next),
        cmocka_unit_test(test_who_waits_for_the_next_batch_takes_turns),
        cmocka_unit_test(test_a_batch_is_full_by_bytes_too),
        cmocka_unit_test(test_what_comes_behind_a_submit_that_waits_waits_too),
        cmocka_unit_test(test_what_waits_goes_with_its_connection),
        cmocka_unit_test(test_what_waits_goes_with_its_session),
        cmocka_unit_test(test_volatile_submits_never_wait_for_a_batch),
        cmocka_unit_test(test_who_fills_its_backlog_is_denied),
    };
    if (argc > 1) {
        cmocka_set_test_filter(argv[1]);
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}

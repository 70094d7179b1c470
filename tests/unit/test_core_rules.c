/*
 * test_core_rules: the core alone, frame by frame: owners of a session, and rules that a peer who keeps the protocol
 * never tries. What a whole world shows is in tests/simulation.
 * Start at any test; scenes are in core_scene.h.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core_scene.h"

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

/* Its session is another's now: nothing that it still says is done or answered, and talking does not keep it here. */
static void test_who_was_denied_is_heard_no_more(void **state)
{
    struct scene scene;
    (void)state;
    scene_begin(&scene);
    process_opens(&scene, 101, 1);
    uint64_t series = scene.series;
    process_opens(&scene, 102, 2);
    assert_true(has_heard(&scene, "101: DENIED"));
    scene.series = series;
    submit_at(&scene, 101, 1, bytes_text("\xc0"));
    query(&scene, 101, "status", 0, false);
    commit(&scene);
    assert_int_equal(scene.heard.n, 0);
    assert_int_equal(scene.core->tasks.count, 0);
    assert_int_equal(scene.core->counters.frames_stale, 2);
    for (int64_t until = scene.now + (int64_t)scene.limits.dead_ms; scene.now < until;) {
        assert_non_null(conn_find(scene.core, 101));
        scene.now += 1000;
        submit_at(&scene, 101, 1, bytes_text("\xc0"));
    }
    assert_null(conn_find(scene.core, 101));
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
        cmocka_unit_test(test_owners_of_a_session_leave_a_bounded_number_of_series),
        cmocka_unit_test(test_a_former_owner_that_opens_soon_has_its_series_again),
        cmocka_unit_test(test_a_former_owner_that_comes_late_doubles_nothing),
        cmocka_unit_test(test_who_opens_when_no_series_is_left_is_refused),
        cmocka_unit_test(test_a_gap_ends_the_connection_and_uses_up_nothing),
        cmocka_unit_test(test_a_frame_of_another_generation_is_ignored),
        cmocka_unit_test(test_who_was_denied_is_heard_no_more),
        cmocka_unit_test(test_the_digest_tells_arguments_apart),
        cmocka_unit_test(test_an_ordinal_is_accepted_once),
        cmocka_unit_test(test_a_return_names_its_token),
        cmocka_unit_test(test_forgotten_waits_for_the_commit),
        cmocka_unit_test(test_refusals_that_are_kept_are_bounded),
        cmocka_unit_test(test_a_former_owner_that_resumes_acknowledges_nothing),
        cmocka_unit_test(test_what_a_worker_held_for_another_store_is_lost),
        cmocka_unit_test(test_a_worker_that_talks_and_does_not_renew_loses_what_it_holds),
    };
    if (argc > 1) {
        cmocka_set_test_filter(argv[1]);
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}

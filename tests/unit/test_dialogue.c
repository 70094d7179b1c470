/*
 * test_dialogue: what a worker says to the broker and does at its word (worker/dialogue.c), frame by frame, with slots
 * that only note what they are told.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/log.h"
#include "worker/dialogue.h"

#include <string.h>

struct scene {
    struct ledger ledger;
    struct dialogue dialogue;
    bool slot_has_started; /* what a revoke finds */
    unsigned revokes;
    unsigned kills;
    unsigned forgets;
    struct buf frame; /* from the worker */
    struct cursor cursor;
    struct uuid store;
};

static bool on_revoke(void *self, struct attempt *attempt)
{
    struct scene *scene = self;
    scene->revokes++;
    if (scene->slot_has_started) {
        ledger_start(&scene->ledger, attempt);
        return false;
    }
    ledger_take_back(&scene->ledger, attempt);
    return true;
}

static void on_kill(void *self, struct attempt *attempt)
{
    (void)attempt;
    ((struct scene *)self)->kills++;
}

static void on_forget(void *self, struct attempt *attempt)
{
    (void)attempt;
    ((struct scene *)self)->forgets++;
}

/* Every slot has written the same two letters. */
static bool on_look(void *self, struct attempt *attempt, const uint64_t known[OUTPUT_STREAM_COUNT], struct buf *out)
{
    static const char text[] = "ab";
    struct output_writer writer;
    (void)self;
    (void)attempt;
    output_begin(&writer, out);
    output_put(&writer, OUTPUT_STDOUT, bytes_of(&text[known[0]], 2 - (size_t)known[0]));
    output_end(&writer);
    return true;
}

static const char *const functions[] = {"square", "cube"};

static void begin(struct scene *scene)
{
    *scene = (struct scene){.store = {{1}}};
    struct limits limits = limits_default();
    struct dialogue_facts facts = {
        .host = "host", .name = "host-1", .pid = 1, .slot_count = 2, .functions = functions, .function_count = 2};
    struct dialogue_slots slots = {
        .self = scene, .revoke = on_revoke, .kill = on_kill, .forget = on_forget, .look = on_look};
    log_open("test", LOG_ERROR);
    ledger_init(&scene->ledger);
    dialogue_init(&scene->dialogue, &facts, &slots, &scene->ledger, &limits);
}

static void end(struct scene *scene)
{
    dialogue_fini(&scene->dialogue);
    ledger_fini(&scene->ledger);
    buf_fini(&scene->frame);
}

/* The next message the worker has to say; false: nothing (then the next call asks for a new frame). */
static bool next(struct scene *scene, struct message *message)
{
    uint64_t unknown;
    const char *why = "";
    if (cursor_done(&scene->cursor)) {
        uint32_t generation;
        if (!dialogue_next(&scene->dialogue, &scene->frame)) {
            return false;
        }
        assert_int_equal(frame_open(buf_bytes(&scene->frame), &generation, &scene->cursor), QUERN_OK);
        assert_int_equal(generation, scene->dialogue.lease.generation);
    }
    assert_int_equal(message_next(&scene->cursor, message, &unknown, &why), QUERN_OK);
    return true;
}

static void expect(struct scene *scene, enum message_kind kind, struct message *message)
{
    assert_true(next(scene, message));
    assert_string_equal(message_word(message->kind), message_word(kind));
}

static void expect_silence(struct scene *scene)
{
    struct message message;
    assert_false(next(scene, &message));
}

static enum dialogue_verdict hear(struct scene *scene, uint32_t generation, const struct message *message)
{
    struct buf frame = {0};
    frame_begin(&frame, generation);
    switch (message->kind) {
#define X(number, name, required, direction)                                                                           \
    case MSG_##name:                                                                                                   \
        msg_##name##_put(&frame, &message->name);                                                                      \
        break;
        MESSAGE_LIST(X)
#undef X
    }
    enum dialogue_verdict verdict = dialogue_frame(&scene->dialogue, buf_bytes(&frame), 1000);
    buf_fini(&frame);
    return verdict;
}

static void connect_as(struct scene *scene, uint32_t epoch)
{
    struct message message;
    dialogue_up(&scene->dialogue, 1000);
    expect(scene, MSG_HELLO_WORKER, &message);
    expect_silence(scene);
    struct message welcome = {
        .kind = MSG_WELCOME_WORKER,
        .WELCOME_WORKER = {
            .store = scene->store, .epoch = epoch, .lease_ms = 15000, .heartbeat_ms = 3000, .dead_ms = 10000}};
    assert_int_equal(hear(scene, scene->dialogue.lease.generation, &welcome), DIALOGUE_OK);
    assert_true(dialogue_is_welcome(&scene->dialogue));
}

static enum dialogue_verdict dispatch_at(struct scene *scene, uint32_t generation, uint64_t task, const char *function,
                                         uint64_t depth)
{
    struct item_dispatch item = {.task = task, .attempt = 1, .args = bytes_text("\x90"), .depth = depth};
    struct buf items = {0};
    item_dispatch_put(&items, &item);
    struct message message = {
        .kind = MSG_DISPATCH,
        .DISPATCH = {.function = bytes_text(function), .items = {.count = 1, .items = buf_bytes(&items)}}};
    enum dialogue_verdict verdict = hear(scene, generation, &message);
    buf_fini(&items);
    return verdict;
}

static enum dialogue_verdict dispatch_as(struct scene *scene, uint32_t generation, uint64_t task, const char *function)
{
    return dispatch_at(scene, generation, task, function, 0);
}

static struct attempt *dispatch(struct scene *scene, uint64_t task)
{
    assert_int_equal(dispatch_as(scene, scene->dialogue.lease.generation, task, "square"), DIALOGUE_OK);
    return ledger_find(&scene->ledger, (struct token){task, scene->ledger.epoch, 1});
}

static void revoke_of(struct scene *scene, uint32_t epoch, uint64_t task, bool is_forced)
{
    struct item_revoke item = {.task = task, .epoch = epoch, .attempt = 1, .force = is_forced};
    struct buf items = {0};
    item_revoke_put(&items, &item);
    struct message message = {.kind = MSG_REVOKE, .REVOKE = {.items = {.count = 1, .items = buf_bytes(&items)}}};
    assert_int_equal(hear(scene, scene->dialogue.lease.generation, &message), DIALOGUE_OK);
    buf_fini(&items);
}

static void revoke(struct scene *scene, uint64_t task, bool is_forced)
{
    revoke_of(scene, scene->ledger.epoch, task, is_forced);
}

static void expect_returned(struct scene *scene, uint64_t task)
{
    struct message message;
    struct item_token item;
    expect(scene, MSG_RETURNED, &message);
    assert_true(item_token_next(&message.RETURNED.items, &item));
    assert_int_equal(item.task, task);
    assert_false(item_token_next(&message.RETURNED.items, &item));
}

static void look(struct scene *scene, uint64_t request, uint64_t task, uint64_t known)
{
    struct message message = {
        .kind = MSG_LOOK,
        .LOOK = {.request = request, .task = task, .epoch = scene->ledger.epoch, .attempt = 1, .stdout_known = known}};
    assert_int_equal(hear(scene, scene->dialogue.lease.generation, &message), DIALOGUE_OK);
}

static void expect_output(struct scene *scene, uint64_t request, bool is_running, const char *text)
{
    struct message message;
    struct output_reader reader;
    struct output_piece piece = {.bytes = bytes_text("")};
    expect(scene, MSG_OUTPUT, &message);
    assert_int_equal(message.OUTPUT.request, request);
    assert_int_equal(message.OUTPUT.is_running, is_running);
    assert_true(output_open(&reader, message.OUTPUT.output));
    (void)output_next(&reader, &piece);
    assert_true(bytes_is(piece.bytes, text));
}

/* ---- connections ---- */

static void test_hello_is_first_and_alone(void **state)
{
    (void)state;
    struct scene scene;
    struct message message;
    begin(&scene);
    expect_silence(&scene);
    dialogue_up(&scene.dialogue, 1000);
    expect(&scene, MSG_HELLO_WORKER, &message);
    assert_int_equal(message.HELLO_WORKER.slots, 2);
    assert_int_equal(message.HELLO_WORKER.functions.count, 2);
    assert_int_equal(message.HELLO_WORKER.queues.count, 0);
    assert_int_equal(message.HELLO_WORKER.capacity_count, 2);
    assert_false(dialogue_may_start(&scene.dialogue, 1000)); /* no lease yet */
    expect_silence(&scene);
    end(&scene);
}

/* A broker asks about what runs, knows some already, and asks about what is not here; each question has an answer. */
static void test_every_look_is_answered(void **state)
{
    (void)state;
    struct scene scene;
    begin(&scene);
    connect_as(&scene, 1);
    struct attempt *attempt = dispatch(&scene, 7);
    look(&scene, 1, 7, 0); /* it waits */
    expect_output(&scene, 1, false, "");
    ledger_hand(&scene.ledger, attempt);
    ledger_start(&scene.ledger, attempt);
    look(&scene, 2, 7, 0);
    look(&scene, 3, 7, 1);
    look(&scene, 4, 8, 0); /* nobody */
    expect_output(&scene, 2, true, "ab");
    expect_output(&scene, 3, true, "b");
    expect_output(&scene, 4, false, "");
    for (unsigned i = 0; i < LOOK_COUNT_MAX + 1; i++) {
        look(&scene, i, 7, 0);
    }
    for (unsigned i = 0; i < LOOK_COUNT_MAX; i++) {
        expect_output(&scene, i, true, "ab");
    }
    expect_output(&scene, LOOK_COUNT_MAX, false, ""); /* bounded */
    look(&scene, 5, 7, 0);
    dialogue_down(&scene.dialogue); /* what was asked on a connection that is gone is not answered on another */
    connect_as(&scene, 2);
    assert_int_equal(scene.dialogue.look_count, 0);
    end(&scene);
}

/* Old and new pipes can interleave: what was said to another connection must not count for this one. */
static void test_frames_of_another_generation_are_ignored(void **state)
{
    (void)state;
    struct scene scene;
    begin(&scene);
    connect_as(&scene, 1);
    assert_int_equal(dispatch_as(&scene, 2, 7, "square"), DIALOGUE_OK);
    assert_int_equal(dispatch_as(&scene, 3, 7, "square"), DIALOGUE_OK);
    assert_int_equal(scene.ledger.held_count, 0);
    dialogue_down(&scene.dialogue);
    connect_as(&scene, 1);
    assert_int_equal(dispatch_as(&scene, 1, 7, "square"), DIALOGUE_OK);
    assert_int_equal(scene.ledger.held_count, 0);
    end(&scene);
}

/* Before WELCOME there is no epoch, so no token could be right. */
static void test_nothing_is_taken_before_welcome(void **state)
{
    (void)state;
    struct scene scene;
    begin(&scene);
    dialogue_up(&scene.dialogue, 1000);
    assert_int_equal(dispatch_as(&scene, 1, 7, "square"), DIALOGUE_OK);
    assert_int_equal(scene.ledger.held_count, 0);
    end(&scene);
}

static void test_outcomes_wait_for_welcome_and_come_again_on_each_connection(void **state)
{
    (void)state;
    struct scene scene;
    struct message message;
    struct outcome outcome = {.state = FINISHED_DONE};
    begin(&scene);
    connect_as(&scene, 1);
    struct attempt *attempt = dispatch(&scene, 7);
    ledger_hand(&scene.ledger, attempt);
    dialogue_down(&scene.dialogue);
    ledger_finish(&scene.ledger, attempt, &outcome);
    expect_silence(&scene);
    connect_as(&scene, 2);
    expect(&scene, MSG_FINISHED, &message);
    struct item_finished item;
    assert_true(item_finished_next(&message.FINISHED.items, &item));
    assert_int_equal(item.epoch, 1); /* a restart does not change tokens */
    expect_silence(&scene);
    dialogue_down(&scene.dialogue);
    connect_as(&scene, 3);
    expect(&scene, MSG_FINISHED, &message);
    end(&scene);
}

/* Whether it was recorded, came too late, or nobody knows of it: the broker has said what there is to say. */
static void test_every_receipt_frees_the_copy(void **state)
{
    (void)state;
    static const enum receipt_verdict verdicts[] = {RECEIPT_RECORDED, RECEIPT_STALE, RECEIPT_UNKNOWN};
    struct scene scene;
    begin(&scene);
    connect_as(&scene, 1);
    for (size_t i = 0; i < sizeof verdicts / sizeof *verdicts; i++) {
        struct outcome outcome = {.state = FINISHED_DONE};
        struct item_receipt item = {.task = 7 + i, .epoch = 1, .attempt = 1, .verdict = verdicts[i]};
        struct buf items = {0};
        struct message message;
        struct attempt *attempt = dispatch(&scene, item.task);
        ledger_hand(&scene.ledger, attempt);
        ledger_finish(&scene.ledger, attempt, &outcome);
        expect(&scene, MSG_FINISHED, &message);
        assert_int_equal(scene.ledger.held_count, 1);
        item_receipt_put(&items, &item);
        message = (struct message){.kind = MSG_RECEIPT, .RECEIPT = {.items = {1, buf_bytes(&items)}}};
        assert_int_equal(hear(&scene, 1, &message), DIALOGUE_OK);
        assert_int_equal(scene.ledger.held_count, 0);
        buf_fini(&items);
    }
    dialogue_down(&scene.dialogue);
    connect_as(&scene, 2);
    expect_silence(&scene);
    end(&scene);
}

static void test_another_store_kills_and_drops_all(void **state)
{
    (void)state;
    struct scene scene;
    begin(&scene);
    connect_as(&scene, 1);
    struct attempt *attempt = dispatch(&scene, 7);
    ledger_hand(&scene.ledger, attempt);
    ledger_start(&scene.ledger, attempt);
    dispatch(&scene, 8);
    dialogue_down(&scene.dialogue);
    scene.store.b[0] = 2;
    connect_as(&scene, 1);
    assert_int_equal(scene.forgets, 1);
    assert_int_equal(scene.ledger.held_count, 0);
    end(&scene);
}

static void test_verdicts_on_the_connection(void **state)
{
    (void)state;
    struct scene scene;
    begin(&scene);
    connect_as(&scene, 1);
    struct message need = {.kind = MSG_ERROR, .ERROR = {.code = QUERN_NEED_HELLO}};
    struct message other = {.kind = MSG_ERROR, .ERROR = {.code = QUERN_PROTOCOL}};
    struct message full = {.kind = MSG_DENIED, .DENIED = {.code = QUERN_FULL, .text = bytes_text("full")}};
    struct message version = {.kind = MSG_DENIED, .DENIED = {.code = QUERN_VERSION}};
    struct message bye = {.kind = MSG_BYE};
    assert_int_equal(hear(&scene, 1, &need), DIALOGUE_RECONNECT);
    assert_int_equal(hear(&scene, 1, &other), DIALOGUE_OK);
    assert_int_equal(hear(&scene, 1, &full), DIALOGUE_BACK_OFF);
    assert_non_null(strstr(scene.dialogue.why, "full"));
    assert_int_equal(hear(&scene, 1, &version), DIALOGUE_REFUSED);
    assert_int_equal(hear(&scene, 1, &bye), DIALOGUE_BACK_OFF);
    assert_int_equal(dialogue_frame(&scene.dialogue, bytes_text("garbage"), 1000), DIALOGUE_BACK_OFF);
    assert_int_equal(dialogue_tick(&scene.dialogue, 1000 + 10000), DIALOGUE_BACK_OFF);
    end(&scene);
}

static void test_pings_are_sent_in_rhythm_and_answered(void **state)
{
    (void)state;
    struct scene scene;
    struct message message;
    begin(&scene);
    connect_as(&scene, 1);
    assert_int_equal(dialogue_tick(&scene.dialogue, 3999), DIALOGUE_OK);
    expect_silence(&scene);
    assert_int_equal(dialogue_tick(&scene.dialogue, 4000), DIALOGUE_OK);
    expect(&scene, MSG_PING, &message);
    struct message pong = {.kind = MSG_PONG, .PONG = {.number = message.PING.number}};
    assert_int_equal(hear(&scene, 1, &pong), DIALOGUE_OK);
    assert_false(dialogue_may_start(&scene.dialogue, 4000 + 15000));
    assert_true(dialogue_may_start(&scene.dialogue, 4000 + 14999));
    struct message ping = {.kind = MSG_PING, .PING = {.number = 0}};
    assert_int_equal(hear(&scene, 1, &ping), DIALOGUE_OK);
    expect(&scene, MSG_PONG, &message);
    assert_int_equal(message.PONG.number, 0);
    end(&scene);
}

/* ---- revokes and drops ---- */

/* *Returned* is said only for what is held unstarted: for anything else the broker would run it twice. */
static void test_revoke_returns_only_what_has_not_started(void **state)
{
    (void)state;
    struct scene scene;
    begin(&scene);
    connect_as(&scene, 1);
    revoke(&scene, 99, false);
    revoke(&scene, 99, true); /* not held */
    expect_silence(&scene);
    dispatch(&scene, 1);
    revoke(&scene, 1, false);
    expect_returned(&scene, 1);
    ledger_hand(&scene.ledger, dispatch(&scene, 2));
    revoke(&scene, 2, false);
    expect_returned(&scene, 2);
    struct attempt *started = dispatch(&scene, 3);
    ledger_hand(&scene.ledger, started);
    scene.slot_has_started = true;
    revoke(&scene, 3, false);
    expect_silence(&scene);
    assert_int_equal(scene.kills, 0);
    assert_int_equal(scene.ledger.held_count, 1);
    revoke(&scene, 3, true);
    assert_int_equal(scene.kills, 1);
    assert_int_equal(scene.revokes, 2); /* 2 and 3; what runs for sure is not asked again */
    end(&scene);
}

static void test_drop_forgets_without_a_word(void **state)
{
    (void)state;
    struct scene scene;
    begin(&scene);
    connect_as(&scene, 1);
    struct attempt *attempt = dispatch(&scene, 1);
    ledger_hand(&scene.ledger, attempt);
    struct item_token item = {.task = 1, .epoch = 1, .attempt = 1};
    struct buf items = {0};
    item_token_put(&items, &item);
    struct message message = {.kind = MSG_DROP, .DROP = {.items = {.count = 1, .items = buf_bytes(&items)}}};
    assert_int_equal(hear(&scene, 1, &message), DIALOGUE_OK);
    assert_int_equal(scene.forgets, 1);
    assert_int_equal(scene.ledger.held_count, 0);
    expect_silence(&scene);
    buf_fini(&items);
    end(&scene);
}

/* What runs is killed before its attempt is forgotten: else nobody would know that it runs. */
static void test_drop_of_what_runs_stops_it(void **state)
{
    (void)state;
    struct scene scene;
    begin(&scene);
    connect_as(&scene, 1);
    struct attempt *attempt = dispatch(&scene, 1);
    ledger_hand(&scene.ledger, attempt);
    ledger_start(&scene.ledger, attempt);
    struct item_token item = {.task = 1, .epoch = 1, .attempt = 1};
    struct buf items = {0};
    item_token_put(&items, &item);
    struct message message = {.kind = MSG_DROP, .DROP = {.items = {.count = 1, .items = buf_bytes(&items)}}};
    assert_int_equal(hear(&scene, 1, &message), DIALOGUE_OK);
    assert_int_equal(scene.forgets, 1);
    assert_int_equal(scene.ledger.held_count, 0);
    buf_fini(&items);
    end(&scene);
}

/* What goes back behind a farewell is not covered by its answer: a broker that died then would call it lost. */
static void test_the_answer_to_a_farewell_says_nothing_of_what_goes_back_later(void **state)
{
    (void)state;
    struct scene scene;
    begin(&scene);
    connect_as(&scene, 1);
    dialogue_farewell(&scene.dialogue, 1000);
    struct message pong = {.kind = MSG_PONG, .PONG = {.number = scene.dialogue.farewell}};
    dispatch(&scene, 1);
    revoke(&scene, 1, false); /* to be returned; it is not written yet */
    assert_int_equal(hear(&scene, scene.dialogue.lease.generation, &pong), DIALOGUE_OK);
    assert_false(scene.dialogue.farewell_is_heard);
    end(&scene);
}

/* It holds two attempts of one task: each goes only by its own name. */
static void test_a_revoke_names_its_token(void **state)
{
    (void)state;
    struct scene scene;
    begin(&scene);
    connect_as(&scene, 1);
    struct attempt *former = dispatch(&scene, 1);
    ledger_hand(&scene.ledger, former);
    ledger_start(&scene.ledger, former);
    connect_as(&scene, 2);
    dispatch(&scene, 1); /* the same task, by a broker that takes the former attempt for lost */
    scene.slot_has_started = true;
    revoke_of(&scene, 1, 1, false);
    expect_silence(&scene);
    assert_int_equal(scene.ledger.held_count, 2);
    revoke_of(&scene, 1, 1, true);
    assert_int_equal(scene.kills, 1);
    revoke_of(&scene, 2, 1, false);
    expect_returned(&scene, 1);
    assert_int_equal(scene.ledger.held_count, 1);
    end(&scene);
}

/* A started attempt leaves only by its receipt: forgotten, it would be taken for one that never began. */
static void test_what_was_cancelled_by_force_is_held_until_its_receipt(void **state)
{
    (void)state;
    struct scene scene;
    begin(&scene);
    connect_as(&scene, 1);
    struct attempt *attempt = dispatch(&scene, 1);
    ledger_hand(&scene.ledger, attempt);
    ledger_start(&scene.ledger, attempt);
    revoke(&scene, 1, true);
    assert_int_equal(scene.kills, 1);
    assert_int_equal(scene.ledger.held_count, 1);
    struct outcome outcome = {.state = FINISHED_KILLED, .pid = 1};
    ledger_finish(&scene.ledger, ledger_find(&scene.ledger, (struct token){1, 1, 1}), &outcome);
    assert_int_equal(scene.ledger.held_count, 1);
    end(&scene);
}

/* Outcomes without a receipt are bounded: at the bound nothing new begins, and nothing is asked for. */
static void test_a_worker_full_of_outcomes_starts_nothing(void **state)
{
    (void)state;
    struct scene scene;
    struct outcome outcome = {.state = FINISHED_DONE, .pid = 1};
    begin(&scene);
    connect_as(&scene, 1);
    assert_true(dialogue_may_start(&scene.dialogue, 1000));
    for (uint64_t task = 1; task <= WORKER_HELD_COUNT_MAX / 2; task++) {
        ledger_finish(&scene.ledger, dispatch(&scene, task), &outcome);
    }
    assert_false(dialogue_may_start(&scene.dialogue, 1000));
    end(&scene);
}

static void test_unknown_function_is_a_failure_not_a_loop(void **state)
{
    (void)state;
    struct scene scene;
    struct message message;
    begin(&scene);
    connect_as(&scene, 1);
    assert_int_equal(dispatch_as(&scene, 1, 7, "no such"), DIALOGUE_OK);
    expect(&scene, MSG_FINISHED, &message);
    struct item_finished item;
    assert_true(item_finished_next(&message.FINISHED.items, &item));
    assert_true(bytes_is(item.kind, "UnknownFunction"));
    end(&scene);
}

/* ---- draining ---- */

static void test_draining_worker_asks_for_nothing_and_returns_what_comes(void **state)
{
    (void)state;
    struct scene scene;
    struct message message;
    begin(&scene);
    connect_as(&scene, 1);
    dialogue_drain(&scene.dialogue);
    assert_false(dialogue_may_start(&scene.dialogue, 1000));
    expect(&scene, MSG_CAPACITY, &message);
    assert_int_equal(message.CAPACITY.count, 0);
    assert_null(dispatch(&scene, 5));
    expect_returned(&scene, 5);
    dialogue_farewell(&scene.dialogue, 2000);
    expect(&scene, MSG_PING, &message);
    assert_false(dialogue_is_over(&scene.dialogue));
    struct message pong = {.kind = MSG_PONG, .PONG = {.number = message.PING.number}};
    assert_int_equal(hear(&scene, 1, &pong), DIALOGUE_OK);
    expect(&scene, MSG_BYE, &message);
    assert_true(dialogue_is_over(&scene.dialogue));
    end(&scene);
}

/* What runs can only end if what it waits for runs. */
static void test_draining_worker_takes_what_its_handlers_wait_for(void **state)
{
    (void)state;
    struct scene scene;
    struct message message;
    begin(&scene);
    connect_as(&scene, 1);
    dialogue_drain(&scene.dialogue);
    dialogue_set_nested(&scene.dialogue, 3, 1);
    assert_true(dialogue_may_start(&scene.dialogue, 1000));
    expect(&scene, MSG_CAPACITY, &message);
    assert_int_equal(message.CAPACITY.count, 0);
    assert_int_equal(message.CAPACITY.nested, 3);
    assert_int_equal(message.CAPACITY.depth, 1);
    assert_int_equal(dispatch_at(&scene, 1, 5, "square", 0), DIALOGUE_OK);
    assert_int_equal(dispatch_at(&scene, 1, 6, "square", 1), DIALOGUE_OK);
    expect_returned(&scene, 5);
    assert_int_equal(scene.ledger.waiting.count, 1);
    dialogue_set_nested(&scene.dialogue, 0, 0);
    assert_false(dialogue_may_start(&scene.dialogue, 1000));
    end(&scene);
}

/* HELLO does not say it. */
static void test_what_does_not_count_is_said_when_it_changes_and_on_each_connection(void **state)
{
    (void)state;
    struct scene scene;
    struct message message;
    begin(&scene);
    connect_as(&scene, 1);
    dialogue_set_nested(&scene.dialogue, 2, 1);
    expect(&scene, MSG_CAPACITY, &message);
    assert_int_equal(message.CAPACITY.nested, 2);
    expect_silence(&scene);
    dialogue_set_nested(&scene.dialogue, 2, 2);
    expect(&scene, MSG_CAPACITY, &message);
    assert_int_equal(message.CAPACITY.depth, 2);
    dialogue_set_nested(&scene.dialogue, 2, 2);
    expect_silence(&scene);
    dialogue_down(&scene.dialogue);
    connect_as(&scene, 1);
    expect(&scene, MSG_CAPACITY, &message);
    assert_int_equal(message.CAPACITY.nested, 2);
    assert_int_equal(message.CAPACITY.depth, 2);
    dialogue_set_nested(&scene.dialogue, 0, 7);
    expect(&scene, MSG_CAPACITY, &message);
    assert_int_equal(message.CAPACITY.nested, 0);
    assert_int_equal(message.CAPACITY.depth, 0);
    expect_silence(&scene);
    end(&scene);
}

/* Why it takes less: people who wait for a task ask. */
static void test_why_it_takes_less_is_said_when_it_changes_and_on_each_connection(void **state)
{
    (void)state;
    struct scene scene;
    struct message message;
    begin(&scene);
    connect_as(&scene, 1);
    dialogue_set_capacity(&scene.dialogue, 0);
    dialogue_set_scarce(&scene.dialogue, SCARCE_MEMORY);
    expect(&scene, MSG_CAPACITY, &message);
    assert_int_equal(message.CAPACITY.scarce, SCARCE_MEMORY);
    assert_int_equal(message.CAPACITY.count, 0);
    expect_silence(&scene);
    dialogue_down(&scene.dialogue);
    connect_as(&scene, 1);
    expect(&scene, MSG_CAPACITY, &message);
    assert_int_equal(message.CAPACITY.scarce, SCARCE_MEMORY);
    dialogue_set_scarce(&scene.dialogue, SCARCE_ALONE); /* also when it takes as much as before */
    expect(&scene, MSG_CAPACITY, &message);
    assert_int_equal(message.CAPACITY.scarce, SCARCE_ALONE);
    dialogue_set_scarce(&scene.dialogue, SCARCE_NOTHING);
    expect(&scene, MSG_CAPACITY, &message);
    assert_int_equal(message.CAPACITY.scarce, SCARCE_NOTHING);
    expect_silence(&scene);
    end(&scene);
}

/* Room is made smaller before it is freed: else the broker fills it again at once. */
static void test_capacity_is_said_before_what_is_returned(void **state)
{
    (void)state;
    struct scene scene;
    struct message message;
    begin(&scene);
    connect_as(&scene, 1);
    struct attempt *attempt = dispatch(&scene, 1);
    dialogue_set_capacity(&scene.dialogue, 1);
    ledger_return(&scene.ledger, &attempt);
    expect(&scene, MSG_CAPACITY, &message);
    expect_returned(&scene, 1);
    end(&scene);
}

/* The broker's bytes never crash a worker: every cut and every changed byte of good frames. */
static void test_mangled_frames_are_survived(void **state)
{
    (void)state;
    struct scene scene;
    begin(&scene);
    connect_as(&scene, 1);
    struct item_dispatch item = {.task = 7, .attempt = 1, .args = bytes_text("\x90")};
    struct buf frame = {0};
    struct message head = {.kind = MSG_DISPATCH, .DISPATCH = {.function = bytes_text("square")}};
    struct run run;
    frame_begin(&frame, 1);
    run_open(&run, &frame, &head);
    item_dispatch_put(run.out, &item);
    run.count++;
    run_close(&run);
    for (size_t at = 0; at < frame.n; at++) {
        uint8_t byte = frame.p[at];
        enum dialogue_verdict verdict = dialogue_frame(&scene.dialogue, (struct bytes){frame.p, at}, 1000);
        assert_true(verdict == DIALOGUE_OK || verdict == DIALOGUE_BACK_OFF);
        for (unsigned value = 0; value < 256; value++) {
            frame.p[at] = (uint8_t)value;
            verdict = dialogue_frame(&scene.dialogue, buf_bytes(&frame), 1000);
            assert_true(verdict <= DIALOGUE_REFUSED);
        }
        frame.p[at] = byte;
        ledger_check(&scene.ledger);
    }
    buf_fini(&frame);
    end(&scene);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hello_is_first_and_alone),
        cmocka_unit_test(test_every_look_is_answered),
        cmocka_unit_test(test_frames_of_another_generation_are_ignored),
        cmocka_unit_test(test_nothing_is_taken_before_welcome),
        cmocka_unit_test(test_outcomes_wait_for_welcome_and_come_again_on_each_connection),
        cmocka_unit_test(test_every_receipt_frees_the_copy),
        cmocka_unit_test(test_another_store_kills_and_drops_all),
        cmocka_unit_test(test_verdicts_on_the_connection),
        cmocka_unit_test(test_pings_are_sent_in_rhythm_and_answered),
        cmocka_unit_test(test_revoke_returns_only_what_has_not_started),
        cmocka_unit_test(test_a_revoke_names_its_token),
        cmocka_unit_test(test_the_answer_to_a_farewell_says_nothing_of_what_goes_back_later),
        cmocka_unit_test(test_drop_forgets_without_a_word),
        cmocka_unit_test(test_drop_of_what_runs_stops_it),
        cmocka_unit_test(test_what_was_cancelled_by_force_is_held_until_its_receipt),
        cmocka_unit_test(test_a_worker_full_of_outcomes_starts_nothing),
        cmocka_unit_test(test_unknown_function_is_a_failure_not_a_loop),
        cmocka_unit_test(test_draining_worker_asks_for_nothing_and_returns_what_comes),
        cmocka_unit_test(test_draining_worker_takes_what_its_handlers_wait_for),
        cmocka_unit_test(test_what_does_not_count_is_said_when_it_changes_and_on_each_connection),
        cmocka_unit_test(test_why_it_takes_less_is_said_when_it_changes_and_on_each_connection),
        cmocka_unit_test(test_capacity_is_said_before_what_is_returned),
        cmocka_unit_test(test_mangled_frames_are_survived),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

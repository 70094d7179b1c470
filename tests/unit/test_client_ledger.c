/*
 * The protocol state of a client, driven frame by frame: what it says, what it never says twice, what it keeps.
 * No sockets, no threads, no clock.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "client/ledger.h"

#define TOLD_MAX 64u
#define SAID_MAX 64u
#define ITEM_MAX 32u

/* What the ledger told its owner. */
struct told {
    char what; /* 'a'ccepted, 'r'efused, 'n'ew number, 'o'utcome */
    const char *owner;
    uint64_t id;
    uint64_t old_id;
    enum quern_err code;
};

/* One message the ledger said. */
struct said {
    enum message_kind kind;
    struct message message; /* views are not valid any more: numbers only */
    uint32_t count;
    struct item_submit submits[ITEM_MAX];
    struct item_range ranges[ITEM_MAX];
};

struct desk {
    struct client_ledger ledger;
    struct told told[TOLD_MAX];
    size_t told_count;
    unsigned replied;
    struct said said[SAID_MAX];
    size_t said_count;
    size_t frame_count;
    uint32_t generation;
    int64_t now;
    struct buf frame; /* being written for the ledger */
};

/* ---- what it tells ---- */

static struct told *tell(void *context, char what, void *owner, uint64_t id)
{
    struct desk *desk = context;
    assert_true(desk->told_count < TOLD_MAX);
    struct told *told = &desk->told[desk->told_count++];
    *told = (struct told){.what = what, .owner = owner, .id = id};
    return told;
}

static void on_accepted(void *context, void *owner, uint64_t id)
{
    tell(context, 'a', owner, id);
}

static void on_refused(void *context, void *owner, const struct submit_refusal *refusal)
{
    tell(context, 'r', owner, refusal->id)->code = refusal->code;
}

static void on_renumbered(void *context, void *owner, uint64_t old_id, uint64_t id)
{
    tell(context, 'n', owner, id)->old_id = old_id;
}

static void on_outcome(void *context, const struct item_outcome *outcome)
{
    tell(context, 'o', NULL, outcome->task);
}

static void on_replied(void *context)
{
    ((struct desk *)context)->replied++;
}

/* ---- what it says ---- */

static void said_keep(struct desk *desk, const struct message *message)
{
    assert_true(desk->said_count < SAID_MAX);
    struct said *said = &desk->said[desk->said_count++];
    struct list list = {0};
    *said = (struct said){.kind = message->kind, .message = *message};
    if (message->kind == MSG_SUBMIT) {
        list = message->SUBMIT.items;
        while (said->count < ITEM_MAX && item_submit_next(&list, &said->submits[said->count])) {
            said->count++;
        }
    } else if (message->kind == MSG_TAKEN || message->kind == MSG_HELLO_CLIENT) {
        list = message->kind == MSG_TAKEN ? message->TAKEN.ranges : message->HELLO_CLIENT.taken;
        while (said->count < ITEM_MAX && item_range_next(&list, &said->ranges[said->count])) {
            said->count++;
        }
    }
}

/* Everything the ledger has to say now; the said of before is forgotten. */
static void listen(struct desk *desk)
{
    desk->said_count = desk->frame_count = 0;
    struct buf frame = {0};
    while (client_ledger_write(&desk->ledger, desk->now, &frame)) {
        struct cursor cursor;
        struct message message;
        uint64_t unknown;
        const char *why;
        desk->frame_count++;
        assert_int_equal(frame_open(buf_bytes(&frame), &desk->generation, &cursor), QUERN_OK);
        while (message_next(&cursor, &message, &unknown, &why) == QUERN_OK) {
            said_keep(desk, &message);
        }
        assert_true(cursor_done(&cursor));
        buf_fini(&frame);
    }
    buf_fini(&frame);
}

static const struct said *find_said(const struct desk *desk, enum message_kind kind)
{
    for (size_t i = 0; i < desk->said_count; i++) {
        if (desk->said[i].kind == kind) {
            return &desk->said[i];
        }
    }
    return NULL;
}

/* ---- what is said to it ---- */

static struct buf *write_to(struct desk *desk)
{
    if (desk->frame.n == 0) {
        frame_begin(&desk->frame, desk->ledger.generation);
    }
    return &desk->frame;
}

static enum ledger_verdict send_it(struct desk *desk)
{
    enum ledger_verdict verdict = client_ledger_frame(&desk->ledger, buf_bytes(&desk->frame), desk->now);
    buf_fini(&desk->frame);
    return verdict;
}

static void say_accepted(struct desk *desk, uint32_t sequence, uint32_t count)
{
    struct msg_ACCEPTED accepted = {.series = 7, .sequence = sequence, .count = count};
    msg_ACCEPTED_put(write_to(desk), &accepted);
    assert_int_equal(send_it(desk), LEDGER_GO_ON);
}

static void say_refused(struct desk *desk, uint32_t sequence, uint32_t count, enum quern_err code, uint64_t ordinal)
{
    struct msg_REFUSED refused = {
        .series = 7, .sequence = sequence, .count = count, .code = (uint64_t)code, .ordinal_high = ordinal};
    msg_REFUSED_put(write_to(desk), &refused);
    assert_int_equal(send_it(desk), LEDGER_GO_ON);
}

static void say_outcome(struct desk *desk, uint64_t id, uint64_t completion, const char *result)
{
    struct message head = {.kind = MSG_OUTCOME};
    struct run run = {0};
    struct item_outcome item = {.task = id, .completion = completion, .state = TASK_DONE, .result = bytes_text(result)};
    run_open(&run, write_to(desk), &head);
    item_outcome_put(run.out, &item);
    run.count++;
    run_close(&run);
    assert_int_equal(send_it(desk), LEDGER_GO_ON);
}

static void say_credit(struct desk *desk, uint64_t count, uint64_t bytes)
{
    struct msg_CREDIT credit = {.count = count, .bytes = bytes};
    msg_CREDIT_put(write_to(desk), &credit);
    assert_int_equal(send_it(desk), LEDGER_GO_ON);
}

static struct msg_WELCOME_CLIENT welcome_default(void)
{
    return (struct msg_WELCOME_CLIENT){
        .store = {{1}},
        .epoch = 1,
        .session = 3,
        .series = 7,
        .is_new = true,
        .heartbeat_ms = 3000,
        .dead_ms = 10000,
        .credit_count = 1000,
        .credit_bytes = 1000000,
    };
}

static enum ledger_verdict say_welcome(struct desk *desk, const struct msg_WELCOME_CLIENT *welcome)
{
    msg_WELCOME_CLIENT_put(write_to(desk), welcome);
    return send_it(desk);
}

/* ---- beginnings ---- */

static struct desk *desk_make(uint64_t window_count, uint64_t window_bytes)
{
    struct desk *desk = calloc(1, sizeof *desk);
    struct ledger_options options = {
        .instance = {{9, 9}},
        .host = "here",
        .pid = 42,
        .program = "test",
        .session = "work",
        .window_count = window_count,
        .window_bytes = window_bytes,
        .submit_count_max = 8,
        .submit_bytes_max = 1000,
        .heartbeat_ms = 3000,
        .dead_ms = 10000,
    };
    struct ledger_sink sink = {
        .context = desk,
        .submits = {.accepted = on_accepted, .refused = on_refused, .renumbered = on_renumbered},
        .outcome = on_outcome,
        .replied = on_replied,
    };
    desk->now = 1000;
    client_ledger_init(&desk->ledger, &options, &sink);
    return desk;
}

static struct desk *desk_welcomed(void)
{
    struct desk *desk = desk_make(100, 10000);
    struct msg_WELCOME_CLIENT welcome = welcome_default();
    client_ledger_up(&desk->ledger, desk->now);
    listen(desk);
    assert_int_equal(say_welcome(desk, &welcome), LEDGER_GO_ON);
    assert_int_equal(desk->ledger.phase, LEDGER_UP);
    return desk;
}

static void desk_free(struct desk *desk)
{
    client_ledger_fini(&desk->ledger);
    buf_fini(&desk->frame);
    free(desk);
}

/* The connection breaks and a new one is welcomed. */
static void come_again(struct desk *desk, struct msg_WELCOME_CLIENT welcome)
{
    client_ledger_down(&desk->ledger);
    client_ledger_up(&desk->ledger, desk->now);
    listen(desk);
    assert_int_equal(say_welcome(desk, &welcome), LEDGER_GO_ON);
}

static uint64_t put(struct desk *desk, const char *owner, uint64_t ordinal, bool may_wait)
{
    struct task_options options = task_options_default();
    struct msg_SUBMIT head = {.function = bytes_text("square")};
    struct submit *submit = submit_make(bytes_text("\x91\x07"), ordinal, may_wait, (void *)(uintptr_t)owner);
    uint64_t id = 0;
    assert_int_equal(client_ledger_submit(&desk->ledger, &head, &options, &submit, &id), QUERN_OK);
    assert_null(submit);
    return id;
}

/* ---- the handshake ---- */

/* The dead cannot echo: a late HELLO of a dead process changes nothing. */
static void test_a_challenge_is_echoed(void **state)
{
    (void)state;
    struct desk *desk = desk_make(100, 10000);
    client_ledger_up(&desk->ledger, desk->now);
    listen(desk);
    const struct said *hello = find_said(desk, MSG_HELLO_CLIENT);
    assert_non_null(hello);
    assert_int_equal(hello->message.HELLO_CLIENT.session, 0);
    assert_int_equal(hello->message.HELLO_CLIENT.credit_count, 100);
    assert_int_equal(hello->message.HELLO_CLIENT.credit_bytes, 10000);
    struct msg_CHALLENGE challenge = {.nonce = {{1, 2, 3}}};
    msg_CHALLENGE_put(write_to(desk), &challenge);
    assert_int_equal(send_it(desk), LEDGER_GO_ON);
    listen(desk);
    const struct said *echo = find_said(desk, MSG_ECHO);
    assert_non_null(echo);
    assert_true(uuid_equal(&echo->message.ECHO.nonce, &challenge.nonce));
    desk_free(desk);
}

/* Nothing is numbered before a series is durable. */
static void test_no_submit_before_the_first_welcome(void **state)
{
    (void)state;
    struct desk *desk = desk_make(100, 10000);
    struct task_options options = task_options_default();
    struct msg_SUBMIT head = {.function = bytes_text("square")};
    struct submit *submit = submit_make(bytes_text("\x90"), 0, true, NULL);
    uint64_t id = 0;
    assert_int_equal(client_ledger_submit(&desk->ledger, &head, &options, &submit, &id), QUERN_CLOSED);
    free(submit);
    desk_free(desk);
}

/* Old and new pipes can interleave: an answer of an older connection says nothing about this one. */
static void test_frames_of_another_generation_are_ignored(void **state)
{
    (void)state;
    struct desk *desk = desk_welcomed();
    put(desk, "a", 0, true);
    come_again(desk, welcome_default());
    listen(desk);
    struct msg_ACCEPTED accepted = {.series = 7, .sequence = 1, .count = 1};
    frame_begin(&desk->frame, desk->ledger.generation - 1);
    msg_ACCEPTED_put(&desk->frame, &accepted);
    assert_int_equal(send_it(desk), LEDGER_GO_ON);
    assert_int_equal(desk->told_count, 0);
    assert_int_equal(desk->ledger.submits.count, 1);
    desk_free(desk);
}

static void test_a_resume_names_session_and_series_and_rises_in_generation(void **state)
{
    (void)state;
    struct desk *desk = desk_welcomed();
    assert_int_equal(desk->generation, 1);
    client_ledger_down(&desk->ledger);
    client_ledger_up(&desk->ledger, desk->now);
    listen(desk);
    assert_int_equal(desk->generation, 2);
    const struct said *hello = find_said(desk, MSG_HELLO_CLIENT);
    assert_int_equal(hello->message.HELLO_CLIENT.session, 3);
    assert_int_equal(hello->message.HELLO_CLIENT.series, 7);
    desk_free(desk);
}

static void test_being_taken_over_ends_the_ledger(void **state)
{
    (void)state;
    struct desk *desk = desk_welcomed();
    struct msg_DENIED denied = {.code = QUERN_TAKEN_OVER, .text = bytes_text("by there:7")};
    msg_DENIED_put(write_to(desk), &denied);
    assert_int_equal(send_it(desk), LEDGER_END);
    assert_int_equal(desk->ledger.end_code, QUERN_TAKEN_OVER);
    assert_string_equal(desk->ledger.why, "by there:7");
    client_ledger_down(&desk->ledger);
    client_ledger_up(&desk->ledger, desk->now);
    listen(desk);
    assert_int_equal(desk->said_count, 0);
    desk_free(desk);
}

static void test_a_draining_broker_is_come_back_to(void **state)
{
    (void)state;
    struct desk *desk = desk_welcomed();
    struct msg_DENIED denied = {.code = QUERN_DRAINING};
    msg_DENIED_put(write_to(desk), &denied);
    assert_int_equal(send_it(desk), LEDGER_RECONNECT_LATER);
    struct msg_BYE bye = {.code = QUERN_DRAINING};
    msg_BYE_put(write_to(desk), &bye);
    assert_int_equal(send_it(desk), LEDGER_RECONNECT_LATER);
    desk_free(desk);
}

/* What was accepted by another store is not there: going on would pretend that it is. */
static void test_another_store_ends_the_ledger(void **state)
{
    (void)state;
    struct desk *desk = desk_welcomed();
    struct msg_WELCOME_CLIENT welcome = welcome_default();
    welcome.store.b[0] = 99;
    client_ledger_down(&desk->ledger);
    client_ledger_up(&desk->ledger, desk->now);
    listen(desk);
    assert_int_equal(say_welcome(desk, &welcome), LEDGER_END);
    assert_int_equal(desk->ledger.end_code, QUERN_CLOSED);
    desk_free(desk);
}

static void test_a_store_that_forgot_accepted_submits_ends_the_ledger(void **state)
{
    (void)state;
    struct desk *desk = desk_welcomed();
    put(desk, "a", 0, true);
    put(desk, "b", 0, true);
    listen(desk);
    say_accepted(desk, 1, 2);
    struct msg_WELCOME_CLIENT welcome = welcome_default();
    welcome.submitted_high = 1;
    client_ledger_down(&desk->ledger);
    client_ledger_up(&desk->ledger, desk->now);
    listen(desk);
    assert_int_equal(say_welcome(desk, &welcome), LEDGER_END);
    desk_free(desk);
}

/* ---- liveness ---- */

static void test_a_quiet_client_pings_and_a_silent_broker_is_left(void **state)
{
    (void)state;
    struct desk *desk = desk_welcomed();
    listen(desk);
    assert_int_equal(desk->said_count, 0);
    desk->now += 2999;
    assert_int_equal(client_ledger_wake_ms(&desk->ledger), desk->now + 1);
    listen(desk);
    assert_int_equal(desk->said_count, 0);
    desk->now += 1;
    listen(desk);
    assert_non_null(find_said(desk, MSG_PING));
    assert_int_equal(client_ledger_tick(&desk->ledger, desk->now), LEDGER_GO_ON);
    desk->now = 1000 + 9999;
    assert_int_equal(client_ledger_tick(&desk->ledger, desk->now), LEDGER_GO_ON);
    desk->now += 1;
    assert_int_equal(client_ledger_tick(&desk->ledger, desk->now), LEDGER_RECONNECT_LATER);
    desk_free(desk);
}

static void test_a_ping_is_answered_with_its_number(void **state)
{
    (void)state;
    struct desk *desk = desk_welcomed();
    struct msg_PING ping = {.number = 77};
    msg_PING_put(write_to(desk), &ping);
    assert_int_equal(send_it(desk), LEDGER_GO_ON);
    listen(desk);
    assert_int_equal(find_said(desk, MSG_PONG)->message.PONG.number, 77);
    desk_free(desk);
}

static void test_an_unknown_connection_is_made_anew_at_once(void **state)
{
    (void)state;
    struct desk *desk = desk_welcomed();
    struct msg_ERROR error = {.code = QUERN_NEED_HELLO};
    msg_ERROR_put(write_to(desk), &error);
    assert_int_equal(send_it(desk), LEDGER_RECONNECT);
    desk_free(desk);
}

static void test_random_bytes_are_left_not_believed(void **state)
{
    (void)state;
    struct desk *desk = desk_welcomed();
    assert_int_equal(client_ledger_frame(&desk->ledger, bytes_text("garbage"), desk->now), LEDGER_RECONNECT_LATER);
    desk_free(desk);
}

/* ---- submits ---- */

static void test_alike_submits_travel_as_one_run(void **state)
{
    (void)state;
    struct desk *desk = desk_welcomed();
    assert_int_equal(put(desk, "a", 0, true), id_make(7, 1));
    put(desk, "b", 0, true);
    put(desk, "c", 0, true);
    listen(desk);
    assert_int_equal(desk->said_count, 1);
    assert_int_equal(desk->said[0].kind, MSG_SUBMIT);
    assert_int_equal(desk->said[0].message.SUBMIT.sequence, 1);
    assert_int_equal(desk->said[0].count, 3);
    listen(desk);
    assert_int_equal(desk->said_count, 0);
    desk_free(desk);
}

static void test_an_accepted_submit_is_told_once_and_not_sent_again(void **state)
{
    (void)state;
    struct desk *desk = desk_welcomed();
    uint64_t id = put(desk, "a", 0, true);
    listen(desk);
    say_accepted(desk, 1, 1);
    say_accepted(desk, 1, 1);
    assert_int_equal(desk->told_count, 1);
    assert_int_equal(desk->told[0].what, 'a');
    assert_string_equal(desk->told[0].owner, "a");
    assert_int_equal(desk->told[0].id, id);
    struct msg_WELCOME_CLIENT welcome = welcome_default();
    welcome.submitted_high = 1;
    come_again(desk, welcome);
    listen(desk);
    assert_null(find_said(desk, MSG_SUBMIT));
    desk_free(desk);
}

/* A submit without answer may be on disk or nowhere: only the broker knows, so it is asked again, under the same
 * number, before anything new. */
static void test_unanswered_submits_are_sent_again_exactly(void **state)
{
    (void)state;
    struct desk *desk = desk_welcomed();
    put(desk, "a", 0, true);
    put(desk, "b", 0, true);
    put(desk, "c", 0, true);
    listen(desk);
    say_accepted(desk, 1, 1);
    struct msg_WELCOME_CLIENT welcome = welcome_default();
    welcome.submitted_high = 2;
    come_again(desk, welcome);
    put(desk, "d", 0, true);
    listen(desk);
    const struct said *submit = find_said(desk, MSG_SUBMIT);
    assert_int_equal(submit->message.SUBMIT.sequence, 2);
    assert_int_equal(submit->count, 3);
    say_accepted(desk, 2, 3);
    assert_int_equal(desk->ledger.submits.count, 0);
    desk_free(desk);
}

static void test_submits_wait_for_the_brokers_credit(void **state)
{
    (void)state;
    struct desk *desk = desk_make(100, 10000);
    struct msg_WELCOME_CLIENT welcome = welcome_default();
    welcome.credit_count = 2;
    client_ledger_up(&desk->ledger, desk->now);
    listen(desk);
    say_welcome(desk, &welcome);
    for (int i = 0; i < 5; i++) {
        put(desk, "x", 0, true);
    }
    listen(desk);
    assert_int_equal(desk->said_count, 1);
    assert_int_equal(desk->said[0].count, 2);
    say_credit(desk, 4, 1000000);
    listen(desk);
    assert_int_equal(desk->said[0].message.SUBMIT.sequence, 3);
    assert_int_equal(desk->said[0].count, 2);
    say_credit(desk, 5, 8); /* 8 bytes are used up: totals never shrink, so the bytes of WELCOME hold */
    listen(desk);
    assert_int_equal(desk->said[0].count, 1);
    desk_free(desk);
}

/* On a new connection totals count anew. */
static void test_credit_counts_anew_after_a_reconnect(void **state)
{
    (void)state;
    struct desk *desk = desk_welcomed();
    struct msg_WELCOME_CLIENT welcome = welcome_default();
    welcome.credit_count = 2;
    for (int i = 0; i < 5; i++) {
        put(desk, "x", 0, true);
    }
    listen(desk);
    come_again(desk, welcome);
    listen(desk);
    assert_int_equal(desk->said[0].count, 2);
    desk_free(desk);
}

static void test_the_window_is_bounded_by_count_and_bytes(void **state)
{
    (void)state;
    struct desk *desk = desk_welcomed();
    for (int i = 0; i < 8; i++) {
        assert_true(client_ledger_has_room(&desk->ledger));
        put(desk, "x", 0, true);
    }
    assert_false(client_ledger_has_room(&desk->ledger));
    listen(desk);
    say_accepted(desk, 1, 1);
    assert_true(client_ledger_has_room(&desk->ledger));
    desk_free(desk);
}

static void test_ordinals_name_their_predecessors(void **state)
{
    (void)state;
    struct desk *desk = desk_make(100, 10000);
    struct msg_WELCOME_CLIENT welcome = welcome_default();
    welcome.ordinal_high = 4;
    client_ledger_up(&desk->ledger, desk->now);
    listen(desk);
    say_welcome(desk, &welcome);
    put(desk, "a", 5, true);
    put(desk, "b", 8, true);
    put(desk, "n", 0, true);
    put(desk, "c", 9, true);
    listen(desk);
    assert_int_equal(desk->said_count, 3);
    assert_int_equal(desk->said[0].message.SUBMIT.predecessor, 4);
    assert_int_equal(desk->said[0].count, 2);
    assert_int_equal(desk->said[1].submits[0].ordinal, 0);
    assert_int_equal(desk->said[2].message.SUBMIT.predecessor, 8);
    desk_free(desk);
}

static void test_an_ordinal_must_rise(void **state)
{
    (void)state;
    struct desk *desk = desk_welcomed();
    struct task_options options = task_options_default();
    struct msg_SUBMIT head = {.function = bytes_text("square")};
    put(desk, "a", 5, true);
    struct submit *submit = submit_make(bytes_text("\x90"), 5, true, NULL);
    uint64_t id = 0;
    assert_int_equal(client_ledger_submit(&desk->ledger, &head, &options, &submit, &id), QUERN_INVALID);
    free(submit);
    desk_free(desk);
}

/* Line 1 refused, line 2 pipelined behind it: both go again, in order, under numbers the broker has never seen; what
 * was never sent moves up. Without this line 1 would never run (trace 9). */
static void test_refused_ordinals_go_again_in_order_under_fresh_numbers(void **state)
{
    (void)state;
    struct desk *desk = desk_make(100, 10000);
    struct msg_WELCOME_CLIENT welcome = welcome_default();
    welcome.credit_count = 2;
    client_ledger_up(&desk->ledger, desk->now);
    listen(desk);
    say_welcome(desk, &welcome);
    put(desk, "a", 1, false);
    put(desk, "b", 2, false);
    uint64_t third = put(desk, "c", 3, false);
    listen(desk);
    assert_int_equal(desk->said[0].count, 2);
    say_credit(desk, 1000, 1000000);
    say_refused(desk, 1, 1, QUERN_FULL, 0);
    listen(desk);
    assert_int_equal(desk->said_count, 0); /* nothing overtakes, and 2 is not answered */
    say_refused(desk, 2, 1, QUERN_PREDECESSOR, 0);
    assert_int_equal(desk->told_count, 0);
    listen(desk);
    assert_int_equal(desk->said_count, 0); /* not at once: the broker is full */
    desk->now = client_ledger_wake_ms(&desk->ledger);
    listen(desk);
    assert_int_equal(desk->said[0].message.SUBMIT.sequence, 3);
    assert_int_equal(desk->said[0].message.SUBMIT.predecessor, 0);
    assert_int_equal(desk->said[0].count, 3);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(desk->said[0].submits[i].ordinal, i + 1);
    }
    assert_int_equal(desk->told_count, 3);
    assert_string_equal(desk->told[0].owner, "c");
    assert_int_equal(desk->told[0].old_id, third);
    assert_int_equal(desk->told[0].id, id_make(7, 5));
    assert_string_equal(desk->told[2].owner, "a");
    assert_int_equal(desk->told[2].old_id, id_make(7, 1));
    assert_int_equal(desk->told[2].id, id_make(7, 3));
    say_accepted(desk, 3, 3);
    assert_int_equal(desk->ledger.submits.count, 0);
    desk_free(desk);
}

/* The one who is too fast is told, if that is what was asked for. */
static void test_full_is_told_to_who_does_not_wait_and_retried_for_who_does(void **state)
{
    (void)state;
    struct desk *desk = desk_welcomed();
    put(desk, "told", 0, false);
    put(desk, "waits", 0, true);
    listen(desk);
    say_refused(desk, 1, 2, QUERN_FULL, 0);
    assert_int_equal(desk->told_count, 1);
    assert_int_equal(desk->told[0].what, 'r');
    assert_int_equal(desk->told[0].code, QUERN_FULL);
    assert_string_equal(desk->told[0].owner, "told");
    int64_t first = client_ledger_wake_ms(&desk->ledger) - desk->now;
    desk->now = client_ledger_wake_ms(&desk->ledger);
    listen(desk);
    assert_int_equal(find_said(desk, MSG_SUBMIT)->message.SUBMIT.sequence, 3);
    say_refused(desk, 3, 1, QUERN_FULL, 0);
    assert_true(client_ledger_wake_ms(&desk->ledger) - desk->now > first);
    desk_free(desk);
}

static void test_a_duplicate_ordinal_is_told(void **state)
{
    (void)state;
    struct desk *desk = desk_welcomed();
    put(desk, "a", 1, true);
    listen(desk);
    say_refused(desk, 1, 1, QUERN_DUPLICATE, 4);
    assert_int_equal(desk->told[0].what, 'r');
    assert_int_equal(desk->told[0].code, QUERN_DUPLICATE);
    put(desk, "b", 5, true);
    listen(desk);
    assert_int_equal(find_said(desk, MSG_SUBMIT)->count, 1);
    desk_free(desk);
}

/* A session that ends refuses everything: that must not cost a round trip each. */
static void test_an_ending_session_refuses_all_that_hangs_on_an_ordinal_at_once(void **state)
{
    (void)state;
    struct desk *desk = desk_welcomed();
    put(desk, "a", 1, true);
    put(desk, "b", 2, true);
    put(desk, "c", 3, true);
    listen(desk);
    say_refused(desk, 1, 1, QUERN_CLOSED, 0);
    say_refused(desk, 2, 2, QUERN_PREDECESSOR, 0);
    assert_int_equal(desk->told_count, 3);
    assert_int_equal(desk->told[2].code, QUERN_CLOSED);
    assert_int_equal(desk->ledger.submits.count, 0);
    desk_free(desk);
}

/* A refused submit whose second try is still to come survives the loss of the connection. */
static void test_a_second_try_survives_a_reconnect(void **state)
{
    (void)state;
    struct desk *desk = desk_welcomed();
    put(desk, "a", 0, true);
    put(desk, "b", 0, true);
    listen(desk);
    say_refused(desk, 1, 1, QUERN_FULL, 0);
    struct msg_WELCOME_CLIENT welcome = welcome_default();
    welcome.submitted_high = 2;
    come_again(desk, welcome);
    listen(desk);
    assert_int_equal(find_said(desk, MSG_SUBMIT)->message.SUBMIT.sequence, 2);
    assert_int_equal(find_said(desk, MSG_SUBMIT)->count, 1);
    say_accepted(desk, 2, 1);
    desk->now += 10000 - 1;
    listen(desk);
    assert_int_equal(find_said(desk, MSG_SUBMIT)->message.SUBMIT.sequence, 3);
    desk_free(desk);
}

/* ---- outcomes ---- */

static void test_a_duplicate_is_dropped_and_acknowledged_again_once_taken(void **state)
{
    (void)state;
    struct desk *desk = desk_welcomed();
    say_outcome(desk, id_make(7, 1), 1, "r");
    say_outcome(desk, id_make(7, 1), 1, "r");
    assert_int_equal(desk->told_count, 1);
    listen(desk);
    assert_null(find_said(desk, MSG_TAKEN));
    client_ledger_take(&desk->ledger, 1, 1);
    listen(desk);
    assert_int_equal(find_said(desk, MSG_TAKEN)->message.TAKEN.prefix, 1);
    listen(desk);
    assert_null(find_said(desk, MSG_TAKEN));
    /* The broker died before it had written the acknowledgement: it sends it again and must be told again (trace 15).
     */
    struct msg_WELCOME_CLIENT welcome = welcome_default();
    welcome.untaken = 1;
    come_again(desk, welcome);
    say_outcome(desk, id_make(7, 1), 1, "r");
    assert_int_equal(desk->told_count, 1);
    listen(desk);
    assert_int_equal(find_said(desk, MSG_TAKEN)->message.TAKEN.prefix, 1);
    desk_free(desk);
}

static void test_what_was_taken_is_told_as_prefix_and_ranges(void **state)
{
    (void)state;
    struct desk *desk = desk_welcomed();
    for (uint64_t i = 1; i <= 6; i++) {
        say_outcome(desk, id_make(7, (uint32_t)i), i, "r");
    }
    client_ledger_take(&desk->ledger, 1, 1);
    client_ledger_take(&desk->ledger, 3, 1);
    client_ledger_take(&desk->ledger, 4, 1);
    client_ledger_take(&desk->ledger, 6, 1);
    listen(desk);
    const struct said *taken = find_said(desk, MSG_TAKEN);
    assert_int_equal(taken->message.TAKEN.prefix, 1);
    assert_int_equal(taken->count, 2);
    assert_int_equal(taken->ranges[0].first, 3);
    assert_int_equal(taken->ranges[0].last, 4);
    assert_int_equal(taken->ranges[1].first, 6);
    client_ledger_down(&desk->ledger);
    client_ledger_up(&desk->ledger, desk->now);
    listen(desk);
    const struct said *hello = find_said(desk, MSG_HELLO_CLIENT);
    assert_int_equal(hello->message.HELLO_CLIENT.taken_prefix, 1);
    assert_int_equal(hello->count, 2);
    desk_free(desk);
}

/* Takings in disorder make more ranges than one message may hold: none may be left out for good. */
static void test_more_ranges_than_fit_into_a_hello_are_told_after_it(void **state)
{
    (void)state;
    struct desk *desk = desk_make(10000, 100000);
    struct msg_WELCOME_CLIENT welcome = welcome_default();
    client_ledger_up(&desk->ledger, desk->now);
    listen(desk);
    say_welcome(desk, &welcome);
    struct completions *completions = &desk->ledger.completions;
    for (uint64_t i = 2; i <= 2 * (TAKEN_RANGE_COUNT_MAX + 5); i += 2) {
        assert_true(completions_receive(completions, i, 0));
        completions_take(completions, i, 0);
    }
    struct msg_HELLO_CLIENT hello = {0};
    struct buf ranges = {0};
    completions_hello(completions, &hello, &ranges);
    assert_int_equal(hello.taken.count, TAKEN_RANGE_COUNT_MAX);
    assert_int_equal(completions->fresh.count, 5);
    buf_fini(&ranges);
    desk_free(desk);
}

static void test_credit_for_outcomes_follows_what_is_taken(void **state)
{
    (void)state;
    struct desk *desk = desk_make(4, 10000);
    struct msg_WELCOME_CLIENT welcome = welcome_default();
    client_ledger_up(&desk->ledger, desk->now);
    listen(desk);
    assert_int_equal(find_said(desk, MSG_HELLO_CLIENT)->message.HELLO_CLIENT.credit_count, 4);
    say_welcome(desk, &welcome);
    for (uint64_t i = 1; i <= 4; i++) {
        say_outcome(desk, id_make(7, (uint32_t)i), i, "r");
    }
    listen(desk);
    assert_null(find_said(desk, MSG_CREDIT)); /* nothing taken, nobody waits: the broker keeps the rest */
    client_ledger_take(&desk->ledger, 1, 1);
    listen(desk);
    assert_int_equal(find_said(desk, MSG_CREDIT)->message.CREDIT.count, 5);
    desk_free(desk);
}

/* All of the window is held by futures that nobody takes; the one that is waited for must come all the same. */
static void test_a_waiter_behind_a_full_window_gets_credit_that_is_paid_back(void **state)
{
    (void)state;
    struct desk *desk = desk_make(4, 10000);
    struct msg_WELCOME_CLIENT welcome = welcome_default();
    client_ledger_up(&desk->ledger, desk->now);
    listen(desk);
    say_welcome(desk, &welcome);
    for (uint64_t i = 1; i <= 4; i++) {
        say_outcome(desk, id_make(7, (uint32_t)i), i, "r");
    }
    client_ledger_want(&desk->ledger, true);
    listen(desk);
    assert_int_equal(find_said(desk, MSG_CREDIT)->message.CREDIT.count, 5);
    listen(desk);
    assert_int_equal(desk->said_count, 0); /* once, until that is used up as well */
    say_outcome(desk, id_make(7, 5), 5, "r");
    client_ledger_want(&desk->ledger, false);
    client_ledger_take(&desk->ledger, 1, 1);
    listen(desk);
    assert_null(find_said(desk, MSG_CREDIT)); /* paid back */
    client_ledger_take(&desk->ledger, 2, 1);
    listen(desk);
    assert_int_equal(find_said(desk, MSG_CREDIT)->message.CREDIT.count, 6);
    desk_free(desk);
}

static void test_bytes_are_a_window_too(void **state)
{
    (void)state;
    struct desk *desk = desk_make(100, 8);
    struct msg_WELCOME_CLIENT welcome = welcome_default();
    client_ledger_up(&desk->ledger, desk->now);
    listen(desk);
    say_welcome(desk, &welcome);
    say_outcome(desk, id_make(7, 1), 1, "twelve bytes");
    assert_true(completions_is_exhausted(&desk->ledger.completions));
    client_ledger_take(&desk->ledger, 1, 12);
    listen(desk);
    assert_int_equal(find_said(desk, MSG_CREDIT)->message.CREDIT.bytes, 8 + 12);
    desk_free(desk);
}

/* What is held comes again after a reconnect and must not eat the window of what is new. */
static void test_held_outcomes_fit_into_the_first_grant_of_a_new_connection(void **state)
{
    (void)state;
    struct desk *desk = desk_make(4, 10000);
    struct msg_WELCOME_CLIENT welcome = welcome_default();
    client_ledger_up(&desk->ledger, desk->now);
    listen(desk);
    say_welcome(desk, &welcome);
    client_ledger_want(&desk->ledger, true);
    for (uint64_t i = 1; i <= 6; i++) {
        say_outcome(desk, id_make(7, (uint32_t)i), i, "r");
        listen(desk);
    }
    client_ledger_want(&desk->ledger, false);
    client_ledger_down(&desk->ledger);
    client_ledger_up(&desk->ledger, desk->now);
    listen(desk);
    assert_int_equal(find_said(desk, MSG_HELLO_CLIENT)->message.HELLO_CLIENT.credit_count, 6);
    desk_free(desk);
}

/* ---- what is still to come ---- */

static void test_outstanding_counts_submits_tasks_and_outcomes_not_received(void **state)
{
    (void)state;
    struct desk *desk = desk_make(100, 10000);
    struct msg_WELCOME_CLIENT welcome = welcome_default();
    welcome.live = 2;
    welcome.untaken = 3;
    welcome.completion_last = 9;
    welcome.acked_prefix = 2;
    client_ledger_up(&desk->ledger, desk->now);
    listen(desk);
    say_welcome(desk, &welcome);
    assert_int_equal(client_ledger_outstanding(&desk->ledger), 5);
    put(desk, "a", 0, true);
    assert_int_equal(client_ledger_outstanding(&desk->ledger), 6);
    listen(desk);
    say_accepted(desk, 1, 1);
    assert_int_equal(client_ledger_outstanding(&desk->ledger), 6);
    say_outcome(desk, id_make(2, 1), 3, "r");
    assert_int_equal(client_ledger_outstanding(&desk->ledger), 5);
    put(desk, "b", 0, false);
    listen(desk);
    say_refused(desk, 2, 1, QUERN_FULL, 0);
    assert_int_equal(client_ledger_outstanding(&desk->ledger), 5);
    desk_free(desk);
}

/* A submit may be counted by WELCOME already although its answer was lost: it is one task, not two. */
static void test_outstanding_is_counted_anew_by_each_welcome(void **state)
{
    (void)state;
    struct desk *desk = desk_welcomed();
    put(desk, "a", 0, true);
    put(desk, "b", 0, true);
    listen(desk);
    say_outcome(desk, id_make(7, 1), 1, "r"); /* held, not taken */
    struct msg_WELCOME_CLIENT welcome = welcome_default();
    welcome.submitted_high = 1;
    welcome.untaken = 1;
    come_again(desk, welcome);
    say_outcome(desk, id_make(7, 1), 1, "r");
    listen(desk);
    say_accepted(desk, 1, 2);
    assert_int_equal(client_ledger_outstanding(&desk->ledger), 1);
    desk_free(desk);
}

/* Its outcome was received, taken, acknowledged and deleted before the repeated submit was answered. */
static void test_forgotten_after_its_outcome_means_accepted(void **state)
{
    (void)state;
    struct desk *desk = desk_welcomed();
    put(desk, "a", 0, true);
    put(desk, "b", 0, true);
    listen(desk);
    say_outcome(desk, id_make(7, 1), 1, "r");
    struct msg_FORGOTTEN forgotten = {.series = 7, .sequence = 1, .count = 2};
    msg_FORGOTTEN_put(write_to(desk), &forgotten);
    assert_int_equal(send_it(desk), LEDGER_GO_ON);
    assert_int_equal(desk->told_count, 3);
    assert_int_equal(desk->told[1].what, 'a');
    assert_int_equal(desk->told[2].what, 'r');
    assert_int_equal(desk->told[2].code, QUERN_FORGOTTEN);
    desk_free(desk);
}

/* ---- requests ---- */

static struct request *ask_cancel(struct desk *desk, uint64_t id)
{
    struct message message = {.kind = MSG_CANCEL};
    message.CANCEL.task = id;
    return requests_ask(&desk->ledger.requests, &message);
}

static void say_reply(struct desk *desk, uint64_t request, enum quern_err code, bool more, struct bytes body)
{
    struct msg_REPLY reply = {
        .request = request, .code = (uint64_t)code, .text = bytes_text("so"), .more = more, .body = body};
    msg_REPLY_put(write_to(desk), &reply);
    assert_int_equal(send_it(desk), LEDGER_GO_ON);
}

static void test_a_request_gets_its_own_reply(void **state)
{
    (void)state;
    struct desk *desk = desk_welcomed();
    struct request *first = ask_cancel(desk, id_make(7, 1));
    struct request *second = ask_cancel(desk, id_make(7, 2));
    listen(desk);
    assert_int_equal(desk->said_count, 2);
    say_reply(desk, second->number, QUERN_FINISHED, false, bytes_text(NULL));
    assert_false(first->is_done);
    assert_true(second->is_done);
    assert_int_equal(second->code, QUERN_FINISHED);
    assert_string_equal((char *)second->text.p, "so");
    assert_int_equal(desk->replied, 1);
    requests_drop(&desk->ledger.requests, &second);
    desk_free(desk);
}

static void test_replies_in_parts_are_joined(void **state)
{
    (void)state;
    struct desk *desk = desk_welcomed();
    struct message message = {.kind = MSG_QUERY};
    message.QUERY.what = bytes_text("list");
    struct request *request = requests_ask(&desk->ledger.requests, &message);
    listen(desk);
    say_reply(desk, request->number, QUERN_OK, true, bytes_of("\x92\x01\x02", 3));
    assert_false(request->is_done);
    say_reply(desk, request->number, QUERN_OK, true, bytes_of("\x91\x03", 2));
    say_reply(desk, request->number, QUERN_OK, false, bytes_of("\x90", 1));
    assert_true(request->is_done);
    assert_int_equal(request->code, QUERN_OK);
    assert_int_equal(request->body.n, 4);
    assert_memory_equal(request->body.p, "\x93\x01\x02\x03", 4);
    desk_free(desk);
}

/* A cancel twice is a cancel; a retry twice is two tasks. */
static void test_only_harmless_requests_are_asked_again(void **state)
{
    (void)state;
    struct desk *desk = desk_welcomed();
    struct request *cancel = ask_cancel(desk, id_make(7, 1));
    struct message message = {.kind = MSG_RETRY};
    message.RETRY.task = id_make(7, 2);
    struct request *retry = requests_ask(&desk->ledger.requests, &message);
    listen(desk);
    come_again(desk, welcome_default());
    assert_true(retry->is_done);
    assert_int_equal(retry->code, QUERN_TIMEOUT);
    assert_int_equal(desk->replied, 1);
    listen(desk);
    assert_non_null(find_said(desk, MSG_CANCEL));
    assert_null(find_said(desk, MSG_RETRY));
    assert_false(cancel->is_done);
    desk_free(desk);
}

static void test_a_retry_into_this_session_is_one_more_to_come(void **state)
{
    (void)state;
    struct desk *desk = desk_welcomed();
    struct message message = {.kind = MSG_RETRY};
    message.RETRY.task = id_make(7, 2);
    struct request *retry = requests_ask(&desk->ledger.requests, &message);
    struct buf body = {0};
    listen(desk);
    put_map(&body, 4);
    put_text(&body, "id");
    put_text(&body, "8-1");
    put_text(&body, "session");
    put_u64(&body, 3);
    put_text(&body, "session_name");
    put_text(&body, "work");
    put_text(&body, "new_session");
    put_flag(&body, false);
    say_reply(desk, retry->number, QUERN_OK, false, buf_bytes(&body));
    assert_int_equal(client_ledger_outstanding(&desk->ledger), 1);
    buf_fini(&body);
    desk_free(desk);
}

static void test_a_barrier_is_passed_when_its_ping_comes_back(void **state)
{
    (void)state;
    struct desk *desk = desk_welcomed();
    say_outcome(desk, id_make(7, 1), 1, "r");
    client_ledger_take(&desk->ledger, 1, 1);
    client_ledger_barrier(&desk->ledger);
    listen(desk);
    assert_int_equal(desk->said_count, 2);
    assert_int_equal(desk->said[0].kind, MSG_TAKEN); /* before the ping, or it would prove nothing */
    assert_int_equal(desk->said[1].kind, MSG_PING);
    come_again(desk, welcome_default());
    listen(desk);
    struct msg_PONG pong = {.number = find_said(desk, MSG_PING)->message.PING.number};
    assert_false(desk->ledger.barrier_is_passed);
    msg_PONG_put(write_to(desk), &pong);
    send_it(desk);
    assert_true(desk->ledger.barrier_is_passed);
    desk_free(desk);
}

/* Thousands of submits through refusals and lost connections against a broker in ten lines: each accepted once, in order.
 */
static void test_ordinals_survive_any_mix_of_refusals_and_reconnects(void **state)
{
    (void)state;
    struct desk *desk = desk_welcomed();
    uint64_t seed = 12345;
    uint64_t ordinal_high = 0;
    uint32_t submitted_high = 0;
    uint64_t next = 1;
    for (int step = 0; step < 20000; step++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        uint32_t chance = (uint32_t)(seed >> 33);
        desk->told_count = 0;
        desk->now += 50;
        if (chance % 3 != 0 && client_ledger_has_room(&desk->ledger)) {
            put(desk, "x", next++, chance % 2 == 0);
            continue;
        }
        listen(desk);
        if (chance % 7 == 0) { /* everything said is lost */
            struct msg_WELCOME_CLIENT welcome = welcome_default();
            welcome.submitted_high = submitted_high;
            welcome.ordinal_high = ordinal_high;
            come_again(desk, welcome);
            listen(desk);
        }
        for (size_t i = 0; i < desk->said_count; i++) {
            const struct said *said = &desk->said[i];
            uint64_t predecessor = said->message.SUBMIT.predecessor;
            for (uint32_t j = 0; said->kind == MSG_SUBMIT && j < said->count; j++) {
                uint32_t sequence = (uint32_t)said->message.SUBMIT.sequence + j;
                uint64_t ordinal = said->submits[j].ordinal;
                assert_true(sequence == submitted_high + 1);
                submitted_high = sequence;
                if (predecessor != ordinal_high) {
                    say_refused(desk, sequence, 1, QUERN_PREDECESSOR, ordinal_high);
                } else if ((chance >> j) % 5 == 0) {
                    say_refused(desk, sequence, 1, QUERN_FULL, ordinal_high);
                } else {
                    assert_int_equal(ordinal, ordinal_high + 1);
                    ordinal_high = ordinal;
                    say_accepted(desk, sequence, 1);
                }
                predecessor = ordinal;
            }
        }
    }
    assert_true(ordinal_high > 1000);
    assert_true(next - 1 - ordinal_high == desk->ledger.submits.count);
    desk_free(desk);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_challenge_is_echoed),
        cmocka_unit_test(test_no_submit_before_the_first_welcome),
        cmocka_unit_test(test_frames_of_another_generation_are_ignored),
        cmocka_unit_test(test_a_resume_names_session_and_series_and_rises_in_generation),
        cmocka_unit_test(test_being_taken_over_ends_the_ledger),
        cmocka_unit_test(test_a_draining_broker_is_come_back_to),
        cmocka_unit_test(test_another_store_ends_the_ledger),
        cmocka_unit_test(test_a_store_that_forgot_accepted_submits_ends_the_ledger),
        cmocka_unit_test(test_a_quiet_client_pings_and_a_silent_broker_is_left),
        cmocka_unit_test(test_a_ping_is_answered_with_its_number),
        cmocka_unit_test(test_an_unknown_connection_is_made_anew_at_once),
        cmocka_unit_test(test_random_bytes_are_left_not_believed),
        cmocka_unit_test(test_alike_submits_travel_as_one_run),
        cmocka_unit_test(test_an_accepted_submit_is_told_once_and_not_sent_again),
        cmocka_unit_test(test_unanswered_submits_are_sent_again_exactly),
        cmocka_unit_test(test_submits_wait_for_the_brokers_credit),
        cmocka_unit_test(test_credit_counts_anew_after_a_reconnect),
        cmocka_unit_test(test_the_window_is_bounded_by_count_and_bytes),
        cmocka_unit_test(test_ordinals_name_their_predecessors),
        cmocka_unit_test(test_an_ordinal_must_rise),
        cmocka_unit_test(test_refused_ordinals_go_again_in_order_under_fresh_numbers),
        cmocka_unit_test(test_full_is_told_to_who_does_not_wait_and_retried_for_who_does),
        cmocka_unit_test(test_a_duplicate_ordinal_is_told),
        cmocka_unit_test(test_an_ending_session_refuses_all_that_hangs_on_an_ordinal_at_once),
        cmocka_unit_test(test_a_second_try_survives_a_reconnect),
        cmocka_unit_test(test_a_duplicate_is_dropped_and_acknowledged_again_once_taken),
        cmocka_unit_test(test_what_was_taken_is_told_as_prefix_and_ranges),
        cmocka_unit_test(test_more_ranges_than_fit_into_a_hello_are_told_after_it),
        cmocka_unit_test(test_credit_for_outcomes_follows_what_is_taken),
        cmocka_unit_test(test_a_waiter_behind_a_full_window_gets_credit_that_is_paid_back),
        cmocka_unit_test(test_bytes_are_a_window_too),
        cmocka_unit_test(test_held_outcomes_fit_into_the_first_grant_of_a_new_connection),
        cmocka_unit_test(test_outstanding_counts_submits_tasks_and_outcomes_not_received),
        cmocka_unit_test(test_outstanding_is_counted_anew_by_each_welcome),
        cmocka_unit_test(test_forgotten_after_its_outcome_means_accepted),
        cmocka_unit_test(test_a_request_gets_its_own_reply),
        cmocka_unit_test(test_replies_in_parts_are_joined),
        cmocka_unit_test(test_only_harmless_requests_are_asked_again),
        cmocka_unit_test(test_a_retry_into_this_session_is_one_more_to_come),
        cmocka_unit_test(test_a_barrier_is_passed_when_its_ping_comes_back),
        cmocka_unit_test(test_ordinals_survive_any_mix_of_refusals_and_reconnects),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

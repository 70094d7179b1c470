/*
 * The ledger of one client on a desk: what it says is read, what is said to it is written, what it tells is kept. No
 * sockets, no threads, no clock. Include cmocka.h before it.
 */
#ifndef QUERN_TESTS_CLIENT_DESK_H
#define QUERN_TESTS_CLIENT_DESK_H

#include "client/ledger.h"

#include <stdlib.h>
#include <string.h>

#define TOLD_MAX 64u
#define SAID_MAX 64u
#define ITEM_MAX 32u

/* What the ledger told its owner. */
struct told {
    char what; /* 'a'ccepted, 'r'efused, 'n'ew number, 'o'utcome, 'l'ost, 's'ession lost (id: how many unfinished) */
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
    struct unfinished lost;
};

/* ---- what it tells ---- */

static inline struct told *tell(void *context, char what, void *owner, uint64_t id)
{
    struct desk *desk = context;
    assert_true(desk->told_count < TOLD_MAX);
    struct told *told = &desk->told[desk->told_count++];
    *told = (struct told){.what = what, .owner = owner, .id = id};
    return told;
}

static inline void on_accepted(void *context, void *owner, uint64_t id)
{
    tell(context, 'a', owner, id);
}

static inline void on_refused(void *context, void *owner, const struct submit_refusal *refusal)
{
    tell(context, 'r', owner, refusal->id)->code = refusal->code;
}

static inline void on_renumbered(void *context, void *owner, uint64_t old_id, uint64_t id)
{
    tell(context, 'n', owner, id)->old_id = old_id;
}

static inline void on_outcome(void *context, const struct item_outcome *outcome)
{
    tell(context, 'o', NULL, outcome->task);
}

static inline void on_lost(void *context, void *owner, uint64_t id, uint64_t ordinal)
{
    (void)ordinal;
    tell(context, 'l', owner, id);
}

static inline void on_session_lost(void *context, struct unfinished *unfinished, const char *why)
{
    struct desk *desk = context;
    tell(context, 's', why[0] != 0 ? "why" : NULL, unfinished->count);
    unfinished_move(&desk->lost, unfinished);
}

static inline void on_replied(void *context)
{
    ((struct desk *)context)->replied++;
}

/* ---- what it says ---- */

static inline void said_keep(struct desk *desk, const struct message *message)
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
static inline void listen(struct desk *desk)
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

static inline const struct said *find_said(const struct desk *desk, enum message_kind kind)
{
    for (size_t i = 0; i < desk->said_count; i++) {
        if (desk->said[i].kind == kind) {
            return &desk->said[i];
        }
    }
    return NULL;
}

/* ---- what is said to it ---- */

static inline struct buf *write_to(struct desk *desk)
{
    if (desk->frame.n == 0) {
        frame_begin(&desk->frame, desk->ledger.generation);
    }
    return &desk->frame;
}

static inline enum ledger_verdict send_it(struct desk *desk)
{
    enum ledger_verdict verdict = client_ledger_frame(&desk->ledger, buf_bytes(&desk->frame), desk->now);
    buf_fini(&desk->frame);
    return verdict;
}

static inline void say_accepted(struct desk *desk, uint32_t sequence, uint32_t count)
{
    struct msg_ACCEPTED accepted = {.series = 7, .sequence = sequence, .count = count};
    msg_ACCEPTED_put(write_to(desk), &accepted);
    assert_int_equal(send_it(desk), LEDGER_GO_ON);
}

static inline void say_refused(struct desk *desk, uint32_t sequence, uint32_t count, enum quern_err code,
                               uint64_t ordinal)
{
    struct msg_REFUSED refused = {
        .series = 7, .sequence = sequence, .count = count, .code = (uint64_t)code, .ordinal_high = ordinal};
    msg_REFUSED_put(write_to(desk), &refused);
    assert_int_equal(send_it(desk), LEDGER_GO_ON);
}

static inline void say_outcome(struct desk *desk, uint64_t id, uint64_t completion, const char *result)
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

static inline void say_credit(struct desk *desk, uint64_t count, uint64_t bytes)
{
    struct msg_CREDIT credit = {.count = count, .bytes = bytes};
    msg_CREDIT_put(write_to(desk), &credit);
    assert_int_equal(send_it(desk), LEDGER_GO_ON);
}

static inline struct msg_WELCOME_CLIENT welcome_default(void)
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

static inline enum ledger_verdict say_welcome(struct desk *desk, const struct msg_WELCOME_CLIENT *welcome)
{
    msg_WELCOME_CLIENT_put(write_to(desk), welcome);
    return send_it(desk);
}

/* ---- beginnings ---- */

static inline struct desk *desk_make(uint64_t window_count, uint64_t window_bytes)
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
        .submits = {.accepted = on_accepted, .refused = on_refused, .renumbered = on_renumbered, .lost = on_lost},
        .outcome = on_outcome,
        .session_lost = on_session_lost,
        .replied = on_replied,
    };
    desk->now = 1000;
    assert_true(client_ledger_init(&desk->ledger, &options, &sink));
    return desk;
}

static inline void desk_welcome(struct desk *desk, const struct msg_WELCOME_CLIENT *welcome)
{
    client_ledger_up(&desk->ledger, desk->now);
    listen(desk);
    assert_int_equal(say_welcome(desk, welcome), LEDGER_GO_ON);
    assert_int_equal(desk->ledger.phase, LEDGER_UP);
}

static inline struct desk *desk_welcomed(void)
{
    struct desk *desk = desk_make(100, 10000);
    struct msg_WELCOME_CLIENT welcome = welcome_default();
    desk_welcome(desk, &welcome);
    return desk;
}

static inline struct desk *desk_volatile(void)
{
    struct desk *desk = desk_make(100, 10000);
    struct msg_WELCOME_CLIENT welcome = welcome_default();
    desk->ledger.options.is_volatile = desk->ledger.submits.is_volatile = true;
    welcome.is_volatile = true;
    desk_welcome(desk, &welcome);
    return desk;
}

static inline void desk_free(struct desk *desk)
{
    client_ledger_fini(&desk->ledger);
    buf_fini(&desk->frame);
    unfinished_fini(&desk->lost);
    free(desk);
}

/* The connection breaks and a new one is welcomed. */
static inline void come_again(struct desk *desk, struct msg_WELCOME_CLIENT welcome)
{
    client_ledger_down(&desk->ledger);
    client_ledger_up(&desk->ledger, desk->now);
    listen(desk);
    assert_int_equal(say_welcome(desk, &welcome), LEDGER_GO_ON);
}

static inline uint64_t put(struct desk *desk, const char *owner, uint64_t ordinal, bool may_wait)
{
    struct task_options options = task_options_default();
    struct msg_SUBMIT head = {.function = bytes_text("square")};
    struct submit *submit = submit_make(bytes_text("\x91\x07"), ordinal, may_wait, (void *)(uintptr_t)owner);
    uint64_t id = 0;
    assert_int_equal(client_ledger_submit(&desk->ledger, &head, &options, &submit, &id), QUERN_OK);
    assert_null(submit);
    return id;
}

#endif

/*
 * A broker in one thread for tests of the client: the real router and codec, one session in memory, and knobs to make
 * it slow, forgetful of connections, full or hostile. It CHECKs what a client must never do: leave a gap in its
 * sequences, send more than its credit, resend what was answered, use an old generation.
 * A task's result is its arguments. Knobs and figures are used under lock: fake_lock, fake_unlock, fake_await.
 */
#ifndef QUERN_TESTS_FAKE_BROKER_H
#define QUERN_TESTS_FAKE_BROKER_H

#include "common/check.h"
#include "common/clock.h"
#include "common/link.h"
#include "common/message.h"

#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define FAKE_MS_MAX 20000
#define FAKE_TASK_MAX 400000u
#define FAKE_SERIES 7u
/* Tasks of a former owner: in the series before, and in the upper part of the table of tasks. */
#define FAKE_FORMER 300000u

struct fake_task {
    uint64_t ordinal;
    uint64_t completion;   /* 0: none yet */
    enum task_state state; /* of its outcome */
    struct bytes args;
    bool is_answered; /* ACCEPTED was sent on some connection */
    bool is_acked;
};

struct fake {
    char directory[64];
    char url[128];
    struct router *router;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int wake_fd;
    /* knobs */
    bool must_stop;
    bool must_kick;
    bool holds_answers;
    bool holds_outcomes;
    bool is_silent; /* reads, says nothing */
    bool is_newer;  /* of the next version of the protocol */
    bool holds_replies;
    bool is_by_hand;           /* tasks end by fake_complete alone */
    uint32_t fail_sequence;    /* this one fails */
    bool is_quiet;             /* no heartbeat hides a wake-up that was missed */
    bool obeys_cancel;         /* CANCEL ends what is not done; else it gets reply_code */
    uint32_t late_sequence;    /* in the list of ready ones (which all are) only when that is asked for again */
    enum quern_err deny;       /* answer to HELLO */
    enum quern_err deny_now;   /* said to the connected client, once */
    enum quern_err refuse;     /* every submit */
    unsigned refuse_count;     /* only so many */
    uint64_t credit_count;     /* submits that may be without answer */
    enum quern_err reply_code; /* to every request */
    /* figures */
    unsigned hello_count;
    unsigned resume_count;
    unsigned request_count;
    unsigned ready_list_count;
    unsigned bye_count;
    uint64_t submit_count;   /* items received, repeated ones too */
    uint64_t repeated_count; /* of them */
    uint64_t taken_message_count;
    uint64_t outcome_count; /* sent, repeated ones too */
    uint64_t acked_count;
    struct uuid instance;
    unsigned cancel_count;
    unsigned force_count; /* of them */
    bool last_force;
    uint64_t last_depth; /* of a submit */
    uint64_t last_crashes_max;
    uint64_t last_losses_max;
    bool last_drop;
    bool last_cancel;
    bool was_operator;
    /* the session */
    uint64_t conn; /* welcomed one, 0 none */
    uint32_t generation;
    uint64_t opening;
    uint64_t live;
    uint32_t submitted_high;
    uint32_t answer_first; /* received on this connection, not answered on it */
    uint32_t answer_count;
    uint64_t granted; /* submits, on this connection */
    uint64_t ordinal_high;
    struct fake_task *tasks; /* by sequence */
    uint32_t *completed;     /* sequence by completion */
    uint64_t completion_last;
    uint64_t next_send;
    uint64_t credit_outcomes;
    uint64_t credit_bytes;
    uint64_t sent_outcomes;
    uint64_t sent_bytes;
    uint64_t received; /* submits on this connection */
    uint64_t pending_reply[64];
    enum quern_err pending_code[64];
    struct buf pending_body[64];
    uint32_t former_count;
    uint32_t page_size; /* of the query open: tasks and outcomes looked at */
    unsigned pending_replies;
};

static inline void fake_lock(struct fake *fake)
{
    pthread_mutex_lock(&fake->lock);
}

static inline void fake_unlock(struct fake *fake)
{
    pthread_mutex_unlock(&fake->lock);
    CHECK(eventfd_write(fake->wake_fd, 1) == 0);
}

/* Waits, with the lock held, until the expression is true. */
#define fake_await(fake, expression)                                                                                   \
    do {                                                                                                               \
        int64_t deadline_ms = clock_mono_ms() + FAKE_MS_MAX;                                                           \
        while (!(expression)) {                                                                                        \
            CHECK_THAT(clock_mono_ms() < deadline_ms, "never came: %s", #expression);                                  \
            struct timespec at;                                                                                        \
            clock_gettime(CLOCK_REALTIME, &at);                                                                        \
            at.tv_sec += 1;                                                                                            \
            (void)pthread_cond_timedwait(&(fake)->changed, &(fake)->lock, &at);                                        \
        }                                                                                                              \
    } while (0)

/* ---- saying ---- */

static inline void fake_send(struct fake *fake, uint64_t conn, struct buf *frame)
{
    if (fake->is_silent) {
        buf_fini(frame);
        return;
    }
    if (fake->is_newer) {
        frame->p[1]++; /* behind the head of an array, and shorter than a number with a head */
    }
    (void)router_send(fake->router, conn, frame);
}

static inline struct buf fake_frame(uint32_t generation)
{
    struct buf frame = {0};
    frame_begin(&frame, generation);
    return frame;
}

static inline void fake_deny(struct fake *fake, uint64_t conn, uint32_t generation, enum quern_err code)
{
    struct buf frame = fake_frame(generation);
    struct msg_DENIED denied = {.code = (uint64_t)code,
                                .text = bytes_text("it belongs to there:99, says the fake"),
                                .owner = bytes_text("there:99")};
    msg_DENIED_put(&frame, &denied);
    fake_send(fake, conn, &frame);
}

static inline uint64_t fake_untaken(const struct fake *fake)
{
    return fake->completion_last - fake->acked_count;
}

static inline uint64_t fake_acked_prefix(const struct fake *fake)
{
    uint64_t prefix = 0;
    while (prefix < fake->completion_last && fake->tasks[fake->completed[prefix + 1]].is_acked) {
        prefix++;
    }
    return prefix;
}

static inline void fake_welcome(struct fake *fake, uint64_t conn, uint32_t generation)
{
    struct buf frame = fake_frame(generation);
    struct msg_WELCOME_CLIENT welcome = {
        .store = {{1}},
        .epoch = 1,
        .session = 3,
        .series = FAKE_SERIES,
        .submitted_high = fake->submitted_high,
        .completion_last = fake->completion_last,
        .acked_prefix = fake_acked_prefix(fake),
        .ordinal_high = fake->ordinal_high,
        .is_new = fake->submitted_high == 0,
        .live = fake->live,
        .heartbeat_ms = fake->is_quiet ? 3600000 : 3000,
        .dead_ms = fake->is_quiet ? 7200000 : 10000,
        .credit_count = fake->credit_count,
        .credit_bytes = 64 * MIB,
        .untaken = fake_untaken(fake),
    };
    fake->conn = conn;
    fake->generation = generation;
    fake->next_send = 1;
    fake->sent_outcomes = fake->sent_bytes = fake->received = 0;
    fake->answer_count = 0;
    fake->granted = fake->credit_count;
    msg_WELCOME_CLIENT_put(&frame, &welcome);
    fake_send(fake, conn, &frame);
}

static inline void fake_reply(struct fake *fake, uint64_t request, enum quern_err code, struct bytes body)
{
    struct buf frame = fake_frame(fake->generation);
    struct msg_REPLY reply = {
        .request = request, .code = (uint64_t)code, .body = body.n > 0 ? body : bytes_of("\x81\xa1x\x01", 4)};
    msg_REPLY_put(&frame, &reply);
    fake_send(fake, fake->conn, &frame);
}

/* ---- hearing ---- */

static inline void fake_ack(struct fake *fake, uint64_t first, uint64_t last)
{
    CHECK(last <= fake->completion_last);
    for (uint64_t completion = first; completion <= last; completion++) {
        struct fake_task *task = &fake->tasks[fake->completed[completion]];
        fake->acked_count += !task->is_acked;
        task->is_acked = true;
        free((void *)(uintptr_t)task->args.p); /* never sent again */
        task->args = (struct bytes){NULL, 0};
    }
}

static inline void fake_ack_list(struct fake *fake, uint64_t prefix, struct list ranges)
{
    struct item_range range;
    if (prefix > 0) {
        fake_ack(fake, 1, prefix);
    }
    while (item_range_next(&ranges, &range)) {
        fake_ack(fake, range.first, range.last);
    }
}

static inline void fake_hello(struct fake *fake, uint64_t conn, uint32_t generation,
                              const struct msg_HELLO_CLIENT *hello)
{
    fake->hello_count++;
    if (fake->deny != QUERN_OK) {
        fake_deny(fake, conn, generation, fake->deny);
        return;
    }
    fake->credit_outcomes = hello->credit_count;
    fake->credit_bytes = hello->credit_bytes;
    fake->instance = hello->instance;
    if (hello->session != 0) {
        CHECK(hello->session == 3 && hello->series == FAKE_SERIES);
        fake->resume_count++;
        fake_ack_list(fake, hello->taken_prefix, hello->taken);
        fake_welcome(fake, conn, generation);
        return;
    }
    struct buf frame = fake_frame(generation);
    struct msg_CHALLENGE challenge = {.nonce = {{42}}};
    msg_CHALLENGE_put(&frame, &challenge);
    fake->opening = conn;
    fake_send(fake, conn, &frame);
}

static inline void fake_complete_as(struct fake *fake, uint32_t sequence, enum task_state state)
{
    CHECK(fake->tasks[sequence].completion == 0);
    fake->tasks[sequence].state = state;
    fake->tasks[sequence].completion = ++fake->completion_last;
    fake->completed[fake->completion_last] = sequence;
    fake->live--;
}

/* A second outcome for a task that has one, under a number of its own: what no broker may say. */
static inline void fake_complete_again(struct fake *fake, uint32_t sequence, enum task_state state)
{
    CHECK(fake->tasks[sequence].completion != 0);
    fake->tasks[sequence].state = state;
    fake->tasks[sequence].completion = ++fake->completion_last;
    fake->completed[fake->completion_last] = sequence;
}

static inline void fake_complete(struct fake *fake, uint32_t sequence)
{
    fake_complete_as(fake, sequence, TASK_DONE);
}

static inline void fake_answer(struct fake *fake)
{
    if (fake->conn == 0 || fake->answer_count == 0) {
        return;
    }
    struct buf frame = fake_frame(fake->generation);
    struct msg_ACCEPTED accepted = {.series = FAKE_SERIES, .sequence = fake->answer_first, .count = fake->answer_count};
    fake->granted = fake->credit_count + fake->received;
    struct msg_CREDIT credit = {.count = fake->granted, .bytes = INT64_MAX};
    msg_ACCEPTED_put(&frame, &accepted);
    msg_CREDIT_put(&frame, &credit);
    fake->answer_count = 0;
    fake_send(fake, fake->conn, &frame);
}

static inline void fake_answer_later(struct fake *fake, uint32_t sequence)
{
    if (fake->answer_count > 0 && fake->answer_first + fake->answer_count != sequence) {
        fake_answer(fake);
    }
    fake->answer_first = fake->answer_count == 0 ? sequence : fake->answer_first;
    fake->answer_count++;
}

/* Takes one submit; answers are written by fake_answer. */
static inline void fake_take(struct fake *fake, uint32_t sequence, const struct item_submit *item)
{
    fake->submit_count++;
    fake->received++;
    CHECK_THAT(fake->received <= fake->granted, "beyond its credit");
    CHECK_THAT(sequence <= fake->submitted_high + 1, "a gap in the series");
    fake_answer_later(fake, sequence);
    struct fake_task *task = &fake->tasks[sequence];
    if (sequence <= fake->submitted_high) {
        fake->repeated_count++;
        CHECK_THAT(task->is_acked || bytes_equal(task->args, item->args), "one number, two tasks");
        return;
    }
    CHECK(sequence < FAKE_FORMER);
    fake->submitted_high = sequence;
    uint8_t *args = xmalloc(item->args.n + 1);
    memcpy(args, item->args.p, item->args.n);
    task->args = bytes_of(args, item->args.n);
    task->ordinal = item->ordinal;
    fake->live++;
    if (!fake->holds_outcomes && !fake->is_by_hand) {
        fake_complete_as(fake, sequence, sequence == fake->fail_sequence ? TASK_FAILED : TASK_DONE);
    }
}

static inline void fake_refuse(struct fake *fake, uint32_t sequence, struct bytes args)
{
    struct buf frame = fake_frame(fake->generation);
    struct msg_REFUSED refused = {
        .series = FAKE_SERIES, .sequence = sequence, .count = 1, .code = (uint64_t)fake->refuse};
    msg_REFUSED_put(&frame, &refused);
    fake->submit_count++;
    fake->received++;
    fake->refuse_count--;
    fake->submitted_high = sequence;
    fake->tasks[sequence].args = bytes_of(memcpy(xmalloc(args.n + 1), args.p, args.n), args.n);
    fake_send(fake, fake->conn, &frame);
}

static inline void fake_submit(struct fake *fake, const struct msg_SUBMIT *submit)
{
    struct list items = submit->items;
    struct item_submit item;
    uint32_t sequence = (uint32_t)submit->sequence;
    struct task_options options;
    const char *why;
    CHECK(submit->series == FAKE_SERIES && task_options_read(submit->options, &options, &why) == QUERN_OK);
    fake->last_depth = options.depth;
    fake->last_crashes_max = options.crashes_max;
    fake->last_losses_max = options.losses_max;
    while (item_submit_next(&items, &item)) {
        if (fake->refuse != QUERN_OK && fake->refuse_count > 0) {
            fake_refuse(fake, sequence, item.args);
        } else {
            fake_take(fake, sequence, &item);
        }
        sequence++;
    }
}

static inline uint32_t fake_index(uint64_t id)
{
    return id_series(id) == FAKE_SERIES ? id_sequence(id) : FAKE_FORMER + id_sequence(id);
}

static inline uint64_t fake_id(uint32_t index)
{
    return index > FAKE_FORMER ? id_make(FAKE_SERIES - 1, index - FAKE_FORMER) : id_make(FAKE_SERIES, index);
}

/* Unfinished tasks of a former owner: sequence 1, 2, 3 ... of the series before. */
static inline void fake_add_former(struct fake *fake, uint32_t count)
{
    for (uint32_t i = 1; i <= count; i++) {
        uint8_t *args = xmalloc(2);
        memcpy(args, "\x91\x07", 2);
        fake->tasks[FAKE_FORMER + i].args = bytes_of(args, 2);
    }
    fake->former_count = count;
    fake->live += count;
}

static inline uint64_t fake_param(struct bytes params, const char *name)
{
    struct cursor cursor = cursor_of(params);
    struct value key;
    struct value value = {0};
    CHECK(cursor_next(&cursor, &key) && key.count == 1);
    CHECK(cursor_next(&cursor, &key) && cursor_next(&cursor, &value));
    return bytes_is(key.bytes, name) ? value.u : 0;
}

/* What is open: one task for each run, as if none stood side by side. */
static inline void fake_open_page(struct fake *fake, const struct msg_QUERY *query, struct buf *body)
{
    uint64_t id = fake_param(query->params, "id");
    uint64_t after = fake_param(query->params, "after");
    uint64_t completion = fake_param(query->params, "completion");
    uint32_t room = fake->page_size;
    struct buf tasks = {0};
    struct buf outcomes = {0};
    uint32_t task_count = 0;
    uint32_t outcome_count = 0;
    uint32_t index = after == 0 ? 0 : fake_index(after);
    uint64_t last = 0;
    bool is_last = true;
    for (index++; completion == 0 && index <= FAKE_FORMER + fake->former_count; index++) {
        index = index > fake->submitted_high && index <= FAKE_FORMER ? FAKE_FORMER + 1 : index;
        if (index > FAKE_FORMER + fake->former_count || (is_last = room > 0) == false) {
            break;
        }
        if (fake->tasks[index].completion == 0 && (id == 0 || id == fake_id(index))) {
            put_u64(&tasks, fake_id(index));
            put_u64(&tasks, 1);
            task_count += 2;
        }
        last = fake_id(index);
        room--;
    }
    after = is_last ? 0 : last;
    for (completion++; is_last && completion <= fake->completion_last; completion++) {
        if (room-- == 0) {
            break;
        }
        uint64_t task = fake_id(fake->completed[completion]);
        if (!fake->tasks[fake->completed[completion]].is_acked && (id == 0 || id == task)) {
            put_u64(&outcomes, completion);
            put_u64(&outcomes, task);
            outcome_count += 2;
        }
    }
    put_map(body, 4);
    put_text(body, "tasks");
    put_array(body, task_count);
    buf_put(body, tasks.p, tasks.n);
    put_text(body, "outcomes");
    put_array(body, outcome_count);
    buf_put(body, outcomes.p, outcomes.n);
    put_text(body, "after");
    put_u64(body, after);
    put_text(body, "completion");
    put_u64(body, is_last && completion <= fake->completion_last ? completion - 1 : 0);
    buf_fini(&tasks);
    buf_fini(&outcomes);
}

/* A task that runs, whatever its state. */
static inline void fake_show(struct buf *body)
{
    put_map(body, 9);
    put_text(body, "state");
    put_text(body, "running");
    put_text(body, "cause");
    put_nil(body);
    put_text(body, "attempt");
    put_u64(body, 3);
    put_text(body, "crashes");
    put_u64(body, 2);
    put_text(body, "created_ms");
    put_u64(body, 1000);
    put_text(body, "started_ms");
    put_u64(body, 2000);
    put_text(body, "worker");
    put_text(body, "host:7");
    put_text(body, "something newer");
    put_array(body, 1);
    put_u64(body, 1);
    put_text(body, "progress");
    put_map(body, 2);
    put_text(body, "fraction");
    put_f64(body, 0.25);
    put_text(body, "text");
    put_text(body, "a quarter");
}

static inline bool fake_is_listed(const struct fake *fake, uint32_t sequence)
{
    return fake->tasks[sequence].completion == 0 && (sequence != fake->late_sequence || fake->ready_list_count > 1);
}

/* What was submitted and has no outcome is ready; nothing is in another state. */
static inline void fake_list(struct fake *fake, const struct msg_QUERY *query, struct buf *body)
{
    struct cursor cursor = cursor_of(query->params);
    struct value head = {0};
    struct value key = {0};
    struct value state = {0};
    uint32_t count = 0;
    CHECK(cursor_next(&cursor, &head) && cursor_next(&cursor, &key) && cursor_next(&cursor, &state));
    CHECK(bytes_is(key.bytes, "state"));
    bool is_ready = bytes_is(state.bytes, "ready");
    fake->ready_list_count += is_ready;
    for (uint32_t i = 1; is_ready && i <= fake->submitted_high; i++) {
        count += fake_is_listed(fake, i);
    }
    put_array(body, count);
    for (uint32_t i = 1; count > 0 && i <= fake->submitted_high; i++) {
        if (fake_is_listed(fake, i)) {
            char text[ID_TEXT_SIZE];
            put_map(body, 1);
            put_text(body, "id");
            put_text(body, id_text(fake_id(i), text));
        }
    }
}

static inline void fake_query(struct fake *fake, const struct msg_QUERY *query, struct buf *body)
{
    if (bytes_is(query->what, "list")) {
        fake_list(fake, query, body);
        return;
    }
    if (bytes_is(query->what, "open")) {
        fake_open_page(fake, query, body);
    } else if (bytes_is(query->what, "show")) {
        fake_show(body);
    }
}

static inline enum quern_err fake_cancel(struct fake *fake, uint64_t id)
{
    uint32_t sequence = fake_index(id);
    fake->cancel_count++;
    if (!fake->obeys_cancel) {
        return fake->reply_code;
    }
    CHECK_THAT(sequence <= fake->submitted_high || sequence > FAKE_FORMER, "cancelled before it was submitted");
    if (fake->tasks[sequence].completion == 0) {
        fake_complete_as(fake, sequence, TASK_CANCELLED);
    }
    return fake->tasks[sequence].state == TASK_CANCELLED ? QUERN_OK : QUERN_FINISHED;
}

static inline void fake_message(struct fake *fake, uint64_t conn, uint32_t generation, const struct message *message)
{
    struct buf frame = {0};
    uint64_t request = 0;
    enum quern_err code = fake->reply_code;
    switch (message->kind) {
    case MSG_HELLO_CLIENT:
        fake_hello(fake, conn, generation, &message->HELLO_CLIENT);
        return;
    case MSG_HELLO_OPERATOR:
        frame = fake_frame(generation);
        fake->conn = conn;
        fake->generation = generation;
        fake->was_operator = true;
        msg_WELCOME_OPERATOR_put(&frame, &(struct msg_WELCOME_OPERATOR){.store = {{1}}, .epoch = 1});
        fake_send(fake, conn, &frame);
        return;
    case MSG_ECHO:
        CHECK(conn == fake->opening && message->ECHO.nonce.b[0] == 42);
        fake_welcome(fake, conn, generation);
        return;
    case MSG_PING:
        frame = fake_frame(generation);
        msg_PONG_put(&frame, &(struct msg_PONG){.number = message->PING.number});
        fake_send(fake, conn, &frame);
        return;
    default:
        break;
    }
    if (conn != fake->conn) {
        return;
    }
    CHECK(generation == fake->generation);
    switch (message->kind) {
    case MSG_SUBMIT:
        fake_submit(fake, &message->SUBMIT);
        return;
    case MSG_TAKEN:
        fake->taken_message_count++;
        fake_ack_list(fake, message->TAKEN.prefix, message->TAKEN.ranges);
        return;
    case MSG_CREDIT:
        fake->credit_outcomes = message->CREDIT.count;
        fake->credit_bytes = message->CREDIT.bytes;
        return;
    case MSG_BYE:
        fake->bye_count++;
        return;
    case MSG_CANCEL:
        request = message->CANCEL.request;
        fake->last_force = message->CANCEL.force;
        fake->force_count += message->CANCEL.force;
        code = fake_cancel(fake, message->CANCEL.task);
        break;
    case MSG_RETRY:
        request = message->RETRY.request;
        break;
    case MSG_QUERY:
        request = message->QUERY.request;
        fake_query(fake, &message->QUERY, &fake->pending_body[fake->pending_replies]);
        break;
    case MSG_CLOSE:
        request = message->CLOSE.request;
        fake->last_cancel = message->CLOSE.cancel;
        fake->last_drop = message->CLOSE.drop;
        break;
    default:
        CHECK_THAT(false, "message kind %d", (int)message->kind);
    }
    fake->request_count++;
    CHECK(fake->pending_replies < 64);
    fake->pending_code[fake->pending_replies] = code;
    fake->pending_reply[fake->pending_replies++] = request;
}

static inline void fake_heard(struct fake *fake, const struct router_event *event)
{
    uint32_t generation;
    struct cursor cursor;
    struct message message;
    uint64_t unknown;
    const char *why = "";
    enum quern_err err;
    if (event->kind == ROUTER_CLOSED) {
        fake->conn = event->conn == fake->conn ? 0 : fake->conn;
        fake->pending_replies = event->conn == fake->conn ? 0 : fake->pending_replies;
        return;
    }
    CHECK(frame_open(event->frame, &generation, &cursor) == QUERN_OK);
    while ((err = message_next(&cursor, &message, &unknown, &why)) != QUERN_END) {
        CHECK_THAT(err == QUERN_OK, "%s", why);
        fake_message(fake, event->conn, generation, &message);
    }
}

/* ---- what follows ---- */

static inline void fake_deliver(struct fake *fake)
{
    struct buf frame = {0};
    struct run run = {0};
    while (fake->conn != 0 && !fake->holds_outcomes && fake->next_send <= fake->completion_last &&
           fake->sent_outcomes < fake->credit_outcomes && fake->sent_bytes < fake->credit_bytes &&
           frame.n < BATCH_SIZE_SOFT) {
        uint32_t sequence = fake->completed[fake->next_send++];
        const struct fake_task *task = &fake->tasks[sequence];
        if (task->is_acked) {
            continue;
        }
        if (frame.n == 0) {
            frame = fake_frame(fake->generation);
            run_open(&run, &frame, &(struct message){.kind = MSG_OUTCOME});
        }
        struct item_outcome item = {.task = fake_id(sequence),
                                    .completion = task->completion,
                                    .ordinal = task->ordinal,
                                    .state = task->state,
                                    .cause = task->state == TASK_FAILED ? CAUSE_ERROR : 0,
                                    .kind = bytes_text(task->state == TASK_FAILED ? "DivisionByZero" : ""),
                                    .message = bytes_text(task->state == TASK_FAILED ? "100/0" : ""),
                                    .attempts = 1,
                                    .attempt = 3, /* two came back from a worker unstarted */
                                    .result = task->state == TASK_DONE ? task->args : (struct bytes){NULL, 0},
                                    .worker = bytes_text("host:1")};
        item_outcome_put(run.out, &item);
        run.count++;
        fake->sent_outcomes++;
        fake->sent_bytes += item.result.n;
        fake->outcome_count++;
    }
    if (frame.n > 0) {
        run_close(&run);
        fake_send(fake, fake->conn, &frame);
    }
}

static inline void fake_obey(struct fake *fake)
{
    if (fake->must_kick && fake->conn != 0) {
        router_kick(fake->router, fake->conn);
        fake->must_kick = false;
        fake->conn = 0;
    }
    if (fake->deny_now != QUERN_OK && fake->conn != 0) {
        fake_deny(fake, fake->conn, fake->generation, fake->deny_now);
        fake->deny_now = QUERN_OK;
        fake->conn = 0;
    }
    while (!fake->holds_replies && fake->pending_replies > 0) {
        fake->pending_replies--;
        struct buf *body = &fake->pending_body[fake->pending_replies];
        fake_reply(fake, fake->pending_reply[fake->pending_replies], fake->pending_code[fake->pending_replies],
                   buf_bytes(body));
        buf_fini(body);
    }
    if (!fake->holds_answers) {
        fake_answer(fake);
    }
    fake_deliver(fake);
}

static inline void *fake_main(void *context)
{
    struct fake *fake = context;
    for (;;) {
        struct router_event event;
        pthread_mutex_lock(&fake->lock);
        bool is_busy = false;
        for (int i = 0; i < 16 && router_next(fake->router, &event); i++) {
            fake_heard(fake, &event);
            is_busy = true;
        }
        uint64_t before = fake->outcome_count;
        fake_obey(fake);
        is_busy = is_busy || before != fake->outcome_count;
        bool must_stop = fake->must_stop;
        pthread_cond_broadcast(&fake->changed);
        pthread_mutex_unlock(&fake->lock);
        if (must_stop) {
            return NULL;
        }
        if (is_busy || router_next(fake->router, &event)) {
            if (!is_busy) {
                pthread_mutex_lock(&fake->lock);
                fake_heard(fake, &event);
                pthread_mutex_unlock(&fake->lock);
            }
            continue;
        }
        struct pollfd fds[ROUTER_FD_COUNT_MAX + 1] = {{.fd = fake->wake_fd, .events = POLLIN}};
        int router_fd[ROUTER_FD_COUNT_MAX];
        size_t count = router_fds(fake->router, router_fd);
        for (size_t i = 0; i < count; i++) {
            fds[i + 1] = (struct pollfd){.fd = router_fd[i], .events = POLLIN};
        }
        (void)poll(fds, (nfds_t)count + 1, 1000);
        eventfd_t value;
        (void)eventfd_read(fake->wake_fd, &value);
    }
}

static inline void fake_open_router(struct fake *fake)
{
    const char *url = fake->url;
    char *why = NULL;
    enum quern_err err = router_open(&url, 1, false, &fake->router, &why);
    CHECK_THAT(err == QUERN_OK, "%s", why == NULL ? "" : why);
    free(why);
}

/* Listens; answers nobody before fake_start. */
static inline struct fake *fake_make(void)
{
    struct fake *fake = xcalloc(1, sizeof *fake);
    snprintf(fake->directory, sizeof fake->directory, "/tmp/quern-client-XXXXXX");
    CHECK(mkdtemp(fake->directory) != NULL);
    snprintf(fake->url, sizeof fake->url, "ipc://%s/broker.sock", fake->directory);
    fake->tasks = xcalloc(FAKE_TASK_MAX, sizeof *fake->tasks);
    fake->completed = xcalloc(FAKE_TASK_MAX, sizeof *fake->completed);
    fake->credit_count = 20000;
    fake->page_size = 1000;
    fake->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    pthread_mutex_init(&fake->lock, NULL);
    pthread_cond_init(&fake->changed, NULL);
    return fake;
}

static inline void fake_start(struct fake *fake)
{
    fake_open_router(fake);
    CHECK(pthread_create(&fake->thread, NULL, fake_main, fake) == 0);
}

static inline void fake_stop(struct fake *fake)
{
    if (fake->router != NULL) {
        fake_lock(fake);
        fake->must_stop = true;
        fake_unlock(fake);
        pthread_join(fake->thread, NULL);
        router_close(&fake->router);
        fake->must_stop = false;
    }
}

static inline void fake_free(struct fake *fake)
{
    char path[256];
    fake_stop(fake);
    for (unsigned i = 0; i < fake->pending_replies; i++) {
        buf_fini(&fake->pending_body[i]);
    }
    for (uint32_t i = 0; i < FAKE_TASK_MAX; i++) {
        free((void *)(uintptr_t)fake->tasks[i].args.p);
    }
    snprintf(path, sizeof path, "%s/broker.sock", fake->directory);
    (void)unlink(path);
    snprintf(path, sizeof path, "%s/broker.sock.lock", fake->directory);
    (void)unlink(path);
    CHECK(rmdir(fake->directory) == 0);
    (void)close(fake->wake_fd);
    free(fake->tasks);
    free(fake->completed);
    pthread_mutex_destroy(&fake->lock);
    pthread_cond_destroy(&fake->changed);
    free(fake);
}

#endif

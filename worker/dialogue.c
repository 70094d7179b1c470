/*
 * dialogue.c owns what a worker says to the broker and what the broker's words do to what the worker holds.
 * It must not know sockets, processes or clocks.
 * Start reading at dialogue_frame and dialogue_next.
 */
#include "worker/dialogue.h"

#include "common/check.h"
#include "common/log.h"

#include <stdio.h>
#include <string.h>

/* Receipts whose attempts are called for at a time. */
#define RECEIPT_FETCH_COUNT 16u

void dialogue_init(struct dialogue *dialogue, const struct dialogue_facts *facts, const struct dialogue_slots *slots,
                   struct ledger *ledger, const struct limits *defaults)
{
    *dialogue = (struct dialogue){.facts = *facts, .slots = *slots, .ledger = ledger, .capacity = facts->slot_count};
    lease_init(&dialogue->lease, defaults);
}

void dialogue_fini(struct dialogue *dialogue)
{
    buf_fini(&dialogue->started_items);
    buf_fini(&dialogue->progress_items);
    buf_fini(&dialogue->looks);
}

/* They may have been long. */
static void looks_clear(struct dialogue *dialogue)
{
    buf_fini(&dialogue->looks);
    dialogue->look_count = 0;
}

static void forget_gathered(struct dialogue *dialogue)
{
    dialogue->started_items.n = 0;
    dialogue->started_count = 0;
    dialogue->progress_items.n = 0;
    dialogue->progress_count = 0;
    dialogue->pong_number = 0;
    dialogue->ping_number = 0;
    dialogue->farewell = 0;
    dialogue->farewell_is_heard = false;
    looks_clear(dialogue);
}

void dialogue_up(struct dialogue *dialogue, int64_t now_ms)
{
    lease_greet(&dialogue->lease, now_ms);
    ledger_disconnected(dialogue->ledger); /* what was returned meanwhile is not listed in HELLO: that says it */
    forget_gathered(dialogue);
    dialogue->hello_is_due = true;
}

void dialogue_down(struct dialogue *dialogue)
{
    lease_disconnected(&dialogue->lease);
    ledger_disconnected(dialogue->ledger);
    forget_gathered(dialogue);
    dialogue->hello_is_due = false;
}

bool dialogue_is_welcome(const struct dialogue *dialogue)
{
    return dialogue->lease.state == LEASE_WELCOME;
}

bool dialogue_may_start(const struct dialogue *dialogue, int64_t now_ms)
{
    return (!dialogue->is_draining || dialogue->nested > 0) && !lease_is_over(&dialogue->lease, now_ms) &&
           !ledger_is_full(dialogue->ledger);
}

/* ---- the broker's words ---- */

static enum dialogue_verdict verdict(struct dialogue *dialogue, enum dialogue_verdict what, const char *why)
{
    dialogue->why = why;
    return what;
}

/* Everything held belongs to another store: kill what runs, forget all. */
static void clear_all(struct dialogue *dialogue)
{
    struct ledger *ledger = dialogue->ledger;
    log_event(LOG_WARN, "another store", "held=%zu kept=0", ledger->held_count);
    for (struct attempt *attempt = ledger->handed.first; attempt != NULL; attempt = attempt->next) {
        dialogue->slots.forget(dialogue->slots.self, attempt);
    }
    ledger_clear(ledger);
}

static enum dialogue_verdict on_welcome(struct dialogue *dialogue, const struct msg_WELCOME_WORKER *welcome)
{
    if (dialogue->lease.state != LEASE_GREETED) {
        return verdict(dialogue, DIALOGUE_BACK_OFF, "a WELCOME that was not asked for");
    }
    lease_welcome(&dialogue->lease, welcome);
    if (ledger_welcome(dialogue->ledger, &welcome->store, (uint32_t)welcome->epoch)) {
        clear_all(dialogue);
    }
    dialogue->ledger->puts_short = welcome->take_short;
    dialogue->was_welcome = true;
    return DIALOGUE_OK;
}

static uint32_t function_index(const struct dialogue *dialogue, struct bytes name)
{
    for (size_t i = 0; i < dialogue->facts.function_count; i++) {
        if (bytes_is(name, dialogue->facts.functions[i])) {
            return (uint32_t)i;
        }
    }
    return FUNCTION_INDEX_NONE;
}

static void refuse_unknown(struct dialogue *dialogue, struct attempt *attempt, struct bytes function)
{
    char message[FUNCTION_NAME_SIZE_MAX + 64];
    snprintf(message, sizeof(message), "this worker does not serve the function %.*s", (int)function.n,
             (const char *)function.p);
    struct outcome outcome = {.state = FINISHED_FAILED,
                              .cause = CAUSE_ERROR,
                              .kind = bytes_text("UnknownFunction"),
                              .message = bytes_text(message),
                              .pid = dialogue->facts.pid};
    ledger_finish(dialogue->ledger, attempt, &outcome);
}

static bool is_wanted(const struct dialogue *dialogue, const struct attempt *attempt)
{
    bool is_nested = dialogue->nested > 0 && attempt->depth >= dialogue->nested_depth;
    return (!dialogue->is_draining || is_nested) && dialogue->ledger->held_count <= WORKER_HELD_COUNT_MAX;
}

static void on_dispatch(struct dialogue *dialogue, const struct msg_DISPATCH *call)
{
    uint32_t function = function_index(dialogue, call->function);
    struct list items = call->items;
    struct item_dispatch item;
    while (item_dispatch_next(&items, &item)) {
        struct attempt *attempt = ledger_dispatch(dialogue->ledger, function, call, &item);
        if (attempt == NULL) {
            continue;
        }
        if (!is_wanted(dialogue, attempt)) {
            ledger_return(dialogue->ledger, &attempt);
        } else if (function == FUNCTION_INDEX_NONE) {
            refuse_unknown(dialogue, attempt, call->function);
        }
    }
}

static void revoke(struct dialogue *dialogue, struct token token, bool is_forced)
{
    struct attempt *attempt = ledger_find(dialogue->ledger, token);
    if (attempt == NULL || attempt->state == ATTEMPT_FINISHED) {
        return; /* nothing held unstarted, nothing to say */
    }
    struct dialogue_slots *slots = &dialogue->slots;
    if (attempt->state == ATTEMPT_WAITING ||
        (attempt->state == ATTEMPT_HANDED && slots->revoke(slots->self, attempt))) {
        ledger_return(dialogue->ledger, &attempt);
    } else if (is_forced) {
        slots->kill(slots->self, attempt);
    }
}

static void on_revoke(struct dialogue *dialogue, struct list items)
{
    struct item_revoke item;
    while (item_revoke_next(&items, &item)) {
        struct token token = {.task = item.task, .epoch = (uint32_t)item.epoch, .attempt = (uint32_t)item.attempt};
        revoke(dialogue, token, item.force != 0);
    }
}

static void on_drop(struct dialogue *dialogue, struct list items)
{
    struct item_token item;
    while (item_token_next(&items, &item)) {
        struct token token = {.task = item.task, .epoch = (uint32_t)item.epoch, .attempt = (uint32_t)item.attempt};
        struct attempt *attempt = ledger_find(dialogue->ledger, token);
        if (attempt == NULL) {
            continue;
        }
        if (attempt->state == ATTEMPT_HANDED || attempt->state == ATTEMPT_RUNNING) {
            dialogue->slots.forget(dialogue->slots.self, attempt);
        }
        ledger_drop(dialogue->ledger, &attempt);
    }
}

/* What they are for was sent long ago: of so many at a time each is called for before the first is looked at. */
static void on_receipt(struct dialogue *dialogue, struct list items)
{
    struct item_receipt item;
    struct token tokens[RECEIPT_FETCH_COUNT];
    size_t count;
    do {
        for (count = 0; count < RECEIPT_FETCH_COUNT && item_receipt_next(&items, &item); count++) {
            tokens[count] =
                (struct token){.task = item.task, .epoch = (uint32_t)item.epoch, .attempt = (uint32_t)item.attempt};
            ledger_fetch(dialogue->ledger, tokens[count]);
        }
        for (size_t i = 0; i < count; i++) {
            (void)ledger_receipt(dialogue->ledger, tokens[i]);
        }
    } while (count == RECEIPT_FETCH_COUNT);
}

static void on_look(struct dialogue *dialogue, const struct msg_LOOK *look)
{
    struct token token = {.task = look->task, .epoch = (uint32_t)look->epoch, .attempt = (uint32_t)look->attempt};
    const uint64_t known[OUTPUT_STREAM_COUNT] = {look->stdout_known, look->stderr_known};
    struct attempt *attempt = ledger_find(dialogue->ledger, token);
    struct dialogue_slots *slots = &dialogue->slots;
    struct buf output = {0};
    struct msg_OUTPUT answer = {.request = look->request};
    answer.is_running = attempt != NULL && (attempt->state == ATTEMPT_HANDED || attempt->state == ATTEMPT_RUNNING) &&
                        dialogue->look_count < LOOK_COUNT_MAX && slots->look != NULL &&
                        slots->look(slots->self, attempt, known, &output);
    answer.output = output.n > 0 ? buf_bytes(&output) : (struct bytes){NULL, 0};
    msg_OUTPUT_put(&dialogue->looks, &answer);
    dialogue->look_count++;
    buf_fini(&output);
}

static enum dialogue_verdict on_denied(struct dialogue *dialogue, const struct msg_DENIED *denied)
{
    snprintf(dialogue->why_text, sizeof(dialogue->why_text), "%.*s (%s)",
             (int)(denied->text.n < 400 ? denied->text.n : 400),
             denied->text.p != NULL ? (const char *)denied->text.p : "", quern_err_word((enum quern_err)denied->code));
    return verdict(dialogue, denied->code == QUERN_VERSION ? DIALOGUE_REFUSED : DIALOGUE_BACK_OFF, dialogue->why_text);
}

static enum dialogue_verdict on_error(struct dialogue *dialogue, const struct msg_ERROR *error)
{
    if (error->code == QUERN_NEED_HELLO) {
        return verdict(dialogue, DIALOGUE_RECONNECT, "the broker does not know this connection");
    }
    log_event(LOG_WARN, "the broker refused a message", "kind=%s code=%s text=\"%.*s\"",
              message_word((unsigned)error->kind), quern_err_word((enum quern_err)error->code), (int)error->text.n,
              error->text.p != NULL ? (const char *)error->text.p : "");
    return DIALOGUE_OK;
}

static void on_pong(struct dialogue *dialogue, uint64_t number)
{
    lease_pong(&dialogue->lease, number);
    if (dialogue->farewell == 0 || number != dialogue->farewell) {
        return;
    }
    if (dialogue->ledger->returned_count > 0) {
        dialogue->farewell = 0; /* what came meanwhile goes back first */
        return;
    }
    dialogue->farewell_is_heard = true;
    dialogue->bye_is_due = true;
}

static enum dialogue_verdict on_message(struct dialogue *dialogue, const struct message *message)
{
    /* Before WELCOME there is no epoch to read tokens with. */
    bool is_welcome = dialogue_is_welcome(dialogue);
    switch (message->kind) {
    case MSG_WELCOME_WORKER:
        return on_welcome(dialogue, &message->WELCOME_WORKER);
    case MSG_DENIED:
        return on_denied(dialogue, &message->DENIED);
    case MSG_ERROR:
        return on_error(dialogue, &message->ERROR);
    case MSG_PING:
        dialogue->pong_number = message->PING.number + 1;
        return DIALOGUE_OK;
    case MSG_PONG:
        on_pong(dialogue, message->PONG.number);
        return DIALOGUE_OK;
    case MSG_BYE:
        return verdict(dialogue, DIALOGUE_BACK_OFF, "the broker is going away");
    case MSG_DISPATCH:
        if (is_welcome) {
            on_dispatch(dialogue, &message->DISPATCH);
        }
        return DIALOGUE_OK;
    case MSG_REVOKE:
        if (is_welcome) {
            on_revoke(dialogue, message->REVOKE.items);
        }
        return DIALOGUE_OK;
    case MSG_DROP:
        if (is_welcome) {
            on_drop(dialogue, message->DROP.items);
        }
        return DIALOGUE_OK;
    case MSG_RECEIPT:
        if (is_welcome) {
            on_receipt(dialogue, message->RECEIPT.items);
        }
        return DIALOGUE_OK;
    case MSG_LOOK:
        if (is_welcome) {
            on_look(dialogue, &message->LOOK);
        }
        return DIALOGUE_OK;
    default:
        return DIALOGUE_OK; /* not for workers */
    }
}

enum dialogue_verdict dialogue_frame(struct dialogue *dialogue, struct bytes frame, int64_t now_ms)
{
    struct cursor cursor;
    uint32_t generation;
    enum quern_err err = frame_open(frame, &generation, &cursor);
    if (err == QUERN_VERSION) {
        return verdict(dialogue, DIALOGUE_REFUSED, "the broker speaks a newer protocol");
    }
    if (err != QUERN_OK) {
        return verdict(dialogue, DIALOGUE_BACK_OFF, "the broker sent what is no frame");
    }
    if (generation != dialogue->lease.generation || dialogue->lease.state == LEASE_DOWN) {
        return DIALOGUE_OK;
    }
    lease_heard(&dialogue->lease, now_ms);
    for (;;) {
        struct message message;
        uint64_t unknown;
        const char *why = NULL;
        err = message_next(&cursor, &message, &unknown, &why);
        if (err == QUERN_END) {
            return DIALOGUE_OK;
        }
        if (err == QUERN_PROTOCOL) {
            snprintf(dialogue->why_text, sizeof(dialogue->why_text), "the broker sent a malformed message: %s", why);
            return verdict(dialogue, DIALOGUE_BACK_OFF, dialogue->why_text);
        }
        enum dialogue_verdict what = err == QUERN_OK ? on_message(dialogue, &message) : DIALOGUE_OK;
        if (what != DIALOGUE_OK) {
            return what;
        }
    }
}

/* ---- time ---- */

enum dialogue_verdict dialogue_tick(struct dialogue *dialogue, int64_t now_ms)
{
    if (lease_is_silent(&dialogue->lease, now_ms)) {
        return verdict(dialogue, DIALOGUE_BACK_OFF, "the broker is silent");
    }
    uint64_t number = lease_ping(&dialogue->lease, now_ms);
    if (number != 0) {
        dialogue->ping_number = number;
    }
    return DIALOGUE_OK;
}

int64_t dialogue_wake_ms(const struct dialogue *dialogue)
{
    return lease_wake_ms(&dialogue->lease);
}

/* ---- the worker's words ---- */

static uint64_t capacity_count(const struct dialogue *dialogue)
{
    return dialogue->is_draining || ledger_is_full(dialogue->ledger) ? 0 : dialogue->capacity;
}

/* In steps of 16 MiB, so that not every outcome is news. */
static uint64_t capacity_bytes(const struct dialogue *dialogue)
{
    size_t kept = dialogue->ledger->finished_bytes;
    return kept >= WORKER_HELD_BYTES_MAX ? 0 : (WORKER_HELD_BYTES_MAX - kept + 16 * MIB - 1) / (16 * MIB) * (16 * MIB);
}

static struct list names_list(struct buf *items, const char *const *names, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct item_name item = {.name = bytes_text(names[i])};
        item_name_put(items, &item);
    }
    return (struct list){.count = (uint32_t)count, .items = buf_bytes(items)};
}

static void put_hello(struct dialogue *dialogue, struct buf *frame)
{
    const struct dialogue_facts *facts = &dialogue->facts;
    struct buf functions = {0};
    struct buf queues = {0};
    struct buf held = {0};
    uint32_t held_count = ledger_put_held(dialogue->ledger, &held);
    dialogue->capacity_told = capacity_count(dialogue);
    dialogue->bytes_told = capacity_bytes(dialogue);
    dialogue->nested_told = 0;
    dialogue->nested_depth_told = 0;
    dialogue->scarce_told = SCARCE_NOTHING;
    struct msg_HELLO_WORKER hello = {.instance = facts->instance,
                                     .host = bytes_text(facts->host),
                                     .pid = facts->pid,
                                     .name = bytes_text(facts->name),
                                     .store = dialogue->ledger->store,
                                     .slots = facts->slot_count,
                                     .capacity_count = dialogue->capacity_told,
                                     .capacity_bytes = dialogue->bytes_told,
                                     .functions = names_list(&functions, facts->functions, facts->function_count),
                                     .queues = names_list(&queues, facts->queues, facts->queue_count),
                                     .held = {.count = held_count, .items = buf_bytes(&held)},
                                     .memory = bytes_text(facts->memory != NULL ? facts->memory : ""),
                                     .take_short = true};
    msg_HELLO_WORKER_put(frame, &hello);
    buf_fini(&functions);
    buf_fini(&queues);
    buf_fini(&held);
}

static void put_capacity(struct dialogue *dialogue, struct buf *frame)
{
    uint64_t count = capacity_count(dialogue);
    uint64_t bytes = capacity_bytes(dialogue);
    if (count == dialogue->capacity_told && bytes == dialogue->bytes_told &&
        dialogue->nested == dialogue->nested_told && dialogue->nested_depth == dialogue->nested_depth_told &&
        dialogue->scarce == dialogue->scarce_told) {
        return;
    }
    struct msg_CAPACITY capacity = {.count = count,
                                    .bytes = bytes,
                                    .nested = dialogue->nested,
                                    .depth = dialogue->nested_depth,
                                    .scarce = dialogue->scarce};
    msg_CAPACITY_put(frame, &capacity);
    dialogue->nested_told = dialogue->nested;
    dialogue->nested_depth_told = dialogue->nested_depth;
    dialogue->scarce_told = dialogue->scarce;
    dialogue->capacity_told = count;
    dialogue->bytes_told = bytes;
}

static void put_pings(struct dialogue *dialogue, struct buf *frame)
{
    if (dialogue->pong_number != 0) {
        struct msg_PONG pong = {.number = dialogue->pong_number - 1};
        msg_PONG_put(frame, &pong);
        dialogue->pong_number = 0;
    }
    if (dialogue->ping_number != 0) {
        struct msg_PING ping = {.number = dialogue->ping_number};
        msg_PING_put(frame, &ping);
        dialogue->ping_number = 0;
    }
}

static void put_gathered(struct dialogue *dialogue, struct buf *frame)
{
    if (dialogue->started_count > 0) {
        struct msg_STARTED started = {
            .items = {.count = dialogue->started_count, .items = buf_bytes(&dialogue->started_items)}};
        msg_STARTED_put(frame, &started);
    }
    if (dialogue->progress_count > 0) {
        struct msg_PROGRESS progress = {
            .items = {.count = dialogue->progress_count, .items = buf_bytes(&dialogue->progress_items)}};
        msg_PROGRESS_put(frame, &progress);
    }
    dialogue->started_items.n = 0;
    dialogue->started_count = 0;
    dialogue->progress_items.n = 0;
    dialogue->progress_count = 0;
}

static void put_looks(struct dialogue *dialogue, struct buf *frame)
{
    if (dialogue->look_count > 0) {
        buf_put(frame, dialogue->looks.p, dialogue->looks.n);
        looks_clear(dialogue);
    }
}

static void put_news(struct dialogue *dialogue, struct buf *frame)
{
    /* First how much may come, then what makes room: else the broker fills the room at once. A ping last: its answer
     * says that all before it has arrived. */
    put_capacity(dialogue, frame);
    if (dialogue->ledger->returned_count > 0 && dialogue->ping_number != dialogue->farewell) {
        dialogue->farewell = 0; /* its answer would not say that this has arrived: another one is needed */
    }
    ledger_put_returned(dialogue->ledger, frame);
    put_gathered(dialogue, frame);
    (void)ledger_put_finished(dialogue->ledger, frame);
    put_looks(dialogue, frame); /* after what may just have finished */
    if (dialogue->ledger->unsent.count == 0) {
        put_pings(dialogue, frame);
    }
    if (dialogue->bye_is_due) {
        struct msg_BYE bye = {.code = QUERN_OK};
        msg_BYE_put(frame, &bye);
        dialogue->bye_is_due = false;
    }
}

bool dialogue_next(struct dialogue *dialogue, struct buf *frame)
{
    frame->n = 0;
    if (dialogue->lease.state == LEASE_DOWN) {
        return false;
    }
    frame_begin(frame, dialogue->lease.generation);
    size_t head_size = frame->n;
    if (dialogue->hello_is_due) {
        put_hello(dialogue, frame);
        dialogue->hello_is_due = false;
    } else if (dialogue_is_welcome(dialogue)) {
        put_news(dialogue, frame);
    } else {
        put_pings(dialogue, frame);
    }
    return frame->n > head_size;
}

void dialogue_set_capacity(struct dialogue *dialogue, uint64_t count)
{
    dialogue->capacity = count < WORKER_HELD_COUNT_MAX ? count : WORKER_HELD_COUNT_MAX;
}

void dialogue_set_nested(struct dialogue *dialogue, uint64_t count, unsigned depth)
{
    dialogue->nested = count < WORKER_HELD_COUNT_MAX ? count : WORKER_HELD_COUNT_MAX;
    dialogue->nested_depth = count == 0 ? 0 : depth < TASK_DEPTH_MAX ? depth : TASK_DEPTH_MAX;
}

void dialogue_set_scarce(struct dialogue *dialogue, enum scarce scarce)
{
    dialogue->scarce = scarce;
}

void dialogue_started(struct dialogue *dialogue, struct attempt *attempt, uint32_t pid)
{
    if (dialogue->lease.state == LEASE_DOWN) {
        return; /* HELLO will say that it runs */
    }
    struct item_started item = {
        .task = attempt->token.task, .epoch = attempt->token.epoch, .attempt = attempt->token.attempt, .pid = pid};
    item_started_put(&dialogue->started_items, &item);
    dialogue->started_count++;
}

void dialogue_progress(struct dialogue *dialogue, const struct attempt *attempt, double fraction, struct bytes text)
{
    if (dialogue->lease.state == LEASE_DOWN) {
        return;
    }
    struct item_progress item = {.task = attempt->token.task,
                                 .epoch = attempt->token.epoch,
                                 .attempt = attempt->token.attempt,
                                 .fraction = fraction,
                                 .text = text};
    item_progress_put(&dialogue->progress_items, &item);
    dialogue->progress_count++;
}

/* ---- the end ---- */

void dialogue_drain(struct dialogue *dialogue)
{
    dialogue->is_draining = true;
}

void dialogue_farewell(struct dialogue *dialogue, int64_t now_ms)
{
    if (dialogue->farewell == 0 && dialogue_is_welcome(dialogue)) {
        dialogue->farewell = lease_ping_now(&dialogue->lease, now_ms);
        dialogue->ping_number = dialogue->farewell;
    }
}

bool dialogue_leave(struct dialogue *dialogue, struct buf *frame)
{
    if (!dialogue_is_welcome(dialogue)) {
        return false;
    }
    struct msg_BYE bye = {.code = QUERN_OK};
    frame->n = 0;
    frame_begin(frame, dialogue->lease.generation);
    msg_BYE_put(frame, &bye);
    return true;
}

bool dialogue_is_over(const struct dialogue *dialogue)
{
    return dialogue->farewell_is_heard && !dialogue->bye_is_due;
}

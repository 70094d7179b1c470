/*
 * ledger.c owns what a worker holds: each attempt from its dispatch to its receipt.
 * It must not know slots, sockets, clocks or how an attempt is run.
 * Start reading at the diagram in ledger.h, then attempt_move.
 */
#include "worker/ledger.h"

#include "common/check.h"

#include <stdlib.h>
#include <string.h>

/* ---- lists ---- */

static void list_unlink(struct attempt *attempt)
{
    struct attempt_list *list = attempt->list;
    if (list == NULL) {
        return;
    }
    *(attempt->prev != NULL ? &attempt->prev->next : &list->first) = attempt->next;
    *(attempt->next != NULL ? &attempt->next->prev : &list->last) = attempt->prev;
    list->count--;
    attempt->list = NULL;
    attempt->prev = NULL;
    attempt->next = NULL;
}

/* next: NULL at the end. */
static void list_insert(struct attempt_list *list, struct attempt *attempt, struct attempt *next)
{
    CHECK(attempt->list == NULL);
    attempt->list = list;
    attempt->next = next;
    attempt->prev = next != NULL ? next->prev : list->last;
    *(attempt->prev != NULL ? &attempt->prev->next : &list->first) = attempt;
    *(next != NULL ? &next->prev : &list->last) = attempt;
    list->count++;
}

static void list_append(struct attempt_list *list, struct attempt *attempt)
{
    list_insert(list, attempt, NULL);
}

static void list_prepend(struct attempt_list *list, struct attempt *attempt)
{
    list_insert(list, attempt, list->first);
}

/* The first that is less deep than this. From the front, where the deep ones are, and they are few. */
static struct attempt *list_below(const struct attempt_list *list, unsigned depth)
{
    if (list->last == NULL || list->last->depth >= depth) {
        return NULL;
    }
    struct attempt *attempt = list->first;
    while (attempt->depth >= depth) {
        attempt = attempt->next;
    }
    return attempt;
}

/* ---- states ---- */

#define TO(state) (1u << ATTEMPT_##state)

static const struct {
    const char *name;
    unsigned next;
} attempt_rule[] = {
    [ATTEMPT_WAITING] = {"waiting", TO(HANDED) | TO(FINISHED)},
    [ATTEMPT_HANDED] = {"handed", TO(WAITING) | TO(RUNNING) | TO(FINISHED)},
    [ATTEMPT_RUNNING] = {"running", TO(FINISHED)},
    [ATTEMPT_FINISHED] = {"finished", 0},
};

/* The one place that writes attempt->state after the dispatch. */
static void attempt_move(struct attempt *attempt, enum attempt_state to)
{
    CHECK_THAT(attempt_rule[attempt->state].next & 1u << to, "attempt %s to %s", attempt_rule[attempt->state].name,
               attempt_rule[to].name);
    attempt->state = to;
}

/* ---- memory ---- */

/* A view of a copy at *at, which moves behind it; none stays none. */
static struct bytes copy_into(uint8_t **at, struct bytes from)
{
    if (from.p == NULL) {
        return (struct bytes){NULL, 0};
    }
    uint8_t *p = *at;
    if (from.n > 0) {
        memcpy(p, from.p, from.n);
    }
    *at += from.n;
    return (struct bytes){p, from.n};
}

static void memory_free(struct ledger *ledger, struct attempt *attempt)
{
    ledger->args_bytes -= attempt->args.n;
    ledger->finished_bytes -= attempt->outcome_bytes;
    ledger->output_bytes -= attempt->outcome.output.n;
    attempt->args = (struct bytes){NULL, 0};
    attempt->outcome_bytes = 0;
    attempt->outcome.output = (struct bytes){NULL, 0};
    if (attempt->memory != attempt->small) {
        free(attempt->memory);
    }
    attempt->memory = NULL;
}

static uint8_t *memory_take(struct attempt *attempt, size_t size)
{
    attempt->memory = size <= sizeof(attempt->small) ? attempt->small : xmalloc(size);
    return attempt->memory;
}

static void args_keep(struct ledger *ledger, struct attempt *attempt, struct bytes args)
{
    uint8_t *at = memory_take(attempt, args.n);
    attempt->args = copy_into(&at, args);
    ledger->args_bytes += args.n;
}

static void outcome_keep(struct ledger *ledger, struct attempt *attempt, const struct outcome *outcome)
{
    size_t size = outcome->result.n + outcome->kind.n + outcome->message.n + outcome->detail.n + outcome->report.n +
                  outcome->output.n;
    uint8_t *at = memory_take(attempt, size);
    attempt->outcome = *outcome;
    attempt->outcome.result = copy_into(&at, outcome->result);
    attempt->outcome.kind = copy_into(&at, outcome->kind);
    attempt->outcome.message = copy_into(&at, outcome->message);
    attempt->outcome.detail = copy_into(&at, outcome->detail);
    attempt->outcome.report = copy_into(&at, outcome->report);
    attempt->outcome.output = copy_into(&at, outcome->output);
    attempt->outcome_bytes = size;
    ledger->finished_bytes += size;
    ledger->output_bytes += outcome->output.n;
}

static void by_task_add(struct ledger *ledger, struct attempt *attempt)
{
    attempt->same_task = map_get(&ledger->by_task, attempt->token.task);
    map_put(&ledger->by_task, attempt->token.task, attempt);
}

static void by_task_remove(struct ledger *ledger, struct attempt *attempt)
{
    struct attempt *first = map_remove(&ledger->by_task, attempt->token.task);
    if (first == attempt && attempt->same_task == NULL) {
        return; /* mostly */
    }
    map_put(&ledger->by_task, attempt->token.task, first == attempt ? attempt->same_task : first);
    if (first != attempt) {
        while (first->same_task != attempt) {
            first = first->same_task;
        }
        first->same_task = attempt->same_task;
    }
}

static void attempt_free(struct ledger *ledger, struct attempt *attempt)
{
    list_unlink(attempt);
    by_task_remove(ledger, attempt);
    ledger->unfinished[attempt->depth] -= attempt->state != ATTEMPT_FINISHED;
    memory_free(ledger, attempt);
    ledger->held_count--;
    spares_give(&ledger->spares, attempt, sizeof(*attempt));
}

/* ---- life ---- */

void ledger_init(struct ledger *ledger)
{
    *ledger = (struct ledger){0};
    spares_init(&ledger->spares, sizeof(struct attempt));
}

static void list_clear(struct ledger *ledger, struct attempt_list *list)
{
    while (list->first != NULL) {
        attempt_free(ledger, list->first);
    }
}

void ledger_clear(struct ledger *ledger)
{
    list_clear(ledger, &ledger->waiting);
    list_clear(ledger, &ledger->handed);
    list_clear(ledger, &ledger->unsent);
    list_clear(ledger, &ledger->sent);
    ledger_disconnected(ledger);
    CHECK(ledger->held_count == 0 && ledger->finished_bytes == 0 && ledger->args_bytes == 0);
}

void ledger_fini(struct ledger *ledger)
{
    ledger_clear(ledger);
    map_fini(&ledger->by_task);
    buf_fini(&ledger->returned);
    spares_fini(&ledger->spares);
}

/* Everything that was sent goes before everything that never was: older outcomes first. */
static void unsend_all(struct ledger *ledger)
{
    while (ledger->sent.last != NULL) {
        struct attempt *attempt = ledger->sent.last;
        list_unlink(attempt);
        attempt->is_sent = false;
        list_prepend(&ledger->unsent, attempt);
    }
}

void ledger_disconnected(struct ledger *ledger)
{
    ledger->returned.n = 0;
    ledger->returned_count = 0;
    unsend_all(ledger);
}

bool ledger_welcome(struct ledger *ledger, const struct uuid *store, uint32_t epoch)
{
    bool is_other = !uuid_is_zero(&ledger->store) && !uuid_equal(&ledger->store, store);
    ledger->store = *store;
    ledger->epoch = epoch;
    unsend_all(ledger);
    return is_other;
}

/* ---- attempts ---- */

static bool token_is(struct token a, struct token b)
{
    return a.task == b.task && a.epoch == b.epoch && a.attempt == b.attempt;
}

struct attempt *ledger_find(const struct ledger *ledger, struct token token)
{
    struct attempt *attempt = token.task == 0 ? NULL : map_get(&ledger->by_task, token.task);
    while (attempt != NULL && !token_is(attempt->token, token)) {
        attempt = attempt->same_task;
    }
    return attempt;
}

struct attempt *ledger_dispatch(struct ledger *ledger, uint32_t function, const struct msg_DISPATCH *call,
                                const struct item_dispatch *item)
{
    struct token token = {.task = item->task, .epoch = ledger->epoch, .attempt = (uint32_t)item->attempt};
    if (token.task == 0 || ledger_find(ledger, token) != NULL) {
        return NULL;
    }
    struct attempt *attempt = spares_take(&ledger->spares, sizeof(*attempt));
    memset(attempt, 0, offsetof(struct attempt, small));
    attempt->token = token;
    attempt->state = ATTEMPT_WAITING;
    attempt->function = function;
    attempt->timeout_ms = call->timeout_ms;
    attempt->at_most_once = call->at_most_once;
    attempt->depth = (uint8_t)item->depth;
    attempt->is_alone = item->alone;
    attempt->memory_max = item->memory;
    args_keep(ledger, attempt, item->args);
    ledger->held_count++;
    ledger->came_count++;
    ledger->unfinished[attempt->depth]++;
    by_task_add(ledger, attempt);
    list_insert(&ledger->waiting, attempt, list_below(&ledger->waiting, attempt->depth));
    return attempt;
}

void ledger_hand(struct ledger *ledger, struct attempt *attempt)
{
    attempt_move(attempt, ATTEMPT_HANDED);
    list_unlink(attempt);
    list_append(&ledger->handed, attempt);
}

void ledger_take_back(struct ledger *ledger, struct attempt *attempt)
{
    attempt_move(attempt, ATTEMPT_WAITING);
    attempt->holder = NULL;
    list_unlink(attempt);
    list_insert(&ledger->waiting, attempt, list_below(&ledger->waiting, attempt->depth + 1u));
}

void ledger_start(struct ledger *ledger, struct attempt *attempt)
{
    (void)ledger;
    if (attempt->state != ATTEMPT_RUNNING) {
        attempt_move(attempt, ATTEMPT_RUNNING);
    }
}

void ledger_finish(struct ledger *ledger, struct attempt *attempt, const struct outcome *outcome)
{
    attempt_move(attempt, ATTEMPT_FINISHED);
    ledger->unfinished[attempt->depth]--;
    attempt->holder = NULL;
    list_unlink(attempt);
    memory_free(ledger, attempt);
    outcome_keep(ledger, attempt, outcome);
    list_append(&ledger->unsent, attempt);
}

static struct item_token token_item(struct token token)
{
    return (struct item_token){.task = token.task, .epoch = token.epoch, .attempt = token.attempt};
}

void ledger_return(struct ledger *ledger, struct attempt **attempt)
{
    CHECK((*attempt)->state == ATTEMPT_WAITING);
    struct item_token item = token_item((*attempt)->token);
    item_token_put(&ledger->returned, &item);
    ledger->returned_count++;
    attempt_free(ledger, *attempt);
    *attempt = NULL;
}

void ledger_drop(struct ledger *ledger, struct attempt **attempt)
{
    attempt_free(ledger, *attempt);
    *attempt = NULL;
}

bool ledger_receipt(struct ledger *ledger, struct token token)
{
    struct attempt *attempt = ledger_find(ledger, token);
    if (attempt == NULL || attempt->state != ATTEMPT_FINISHED) {
        return false;
    }
    attempt_free(ledger, attempt);
    return true;
}

/* ---- what is said to the broker ---- */

static enum held_state held_state_of(const struct attempt *attempt)
{
    switch (attempt->state) {
    case ATTEMPT_FINISHED:
        return HELD_FINISHED;
    case ATTEMPT_RUNNING:
        return HELD_RUNNING;
    default:
        return HELD_LEASED;
    }
}

static uint32_t list_put_held(const struct attempt_list *list, struct buf *items)
{
    for (const struct attempt *attempt = list->first; attempt != NULL; attempt = attempt->next) {
        struct item_held item = {.task = attempt->token.task,
                                 .epoch = attempt->token.epoch,
                                 .attempt = attempt->token.attempt,
                                 .state = held_state_of(attempt)};
        item_held_put(items, &item);
    }
    return (uint32_t)list->count;
}

uint32_t ledger_put_held(const struct ledger *ledger, struct buf *items)
{
    return list_put_held(&ledger->sent, items) + list_put_held(&ledger->unsent, items) +
           list_put_held(&ledger->handed, items) + list_put_held(&ledger->waiting, items);
}

static void finished_put(struct buf *buf, const struct attempt *attempt, struct item_last *last)
{
    const struct outcome *o = &attempt->outcome;
    struct item_finished item = {.task = attempt->token.task,
                                 .epoch = attempt->token.epoch,
                                 .attempt = attempt->token.attempt,
                                 .state = o->state,
                                 .cause = o->cause,
                                 .result = o->result,
                                 .kind = o->kind,
                                 .message = o->message,
                                 .detail = o->detail,
                                 .pid = o->pid,
                                 .started = o->started,
                                 .run_us = o->run_us,
                                 .signal = o->signal,
                                 .exit_status = o->exit_status,
                                 .cpu_us = o->cpu_us,
                                 .peak = o->peak,
                                 .report = o->report,
                                 .output = o->output};
    item_finished_put_after(buf, &item, last);
}

bool ledger_put_finished(struct ledger *ledger, struct buf *frame)
{
    if (ledger->unsent.first == NULL) {
        return false;
    }
    struct message head = {.kind = MSG_FINISHED};
    struct run run;
    struct item_last last;
    last.has = false;
    run_open(&run, frame, &head);
    while (ledger->unsent.first != NULL && run.count < BATCH_COUNT_SOFT &&
           (run.count == 0 || frame->n < BATCH_SIZE_SOFT)) {
        struct attempt *attempt = ledger->unsent.first;
        finished_put(run.out, attempt, ledger->puts_short ? &last : NULL);
        run.count++;
        attempt->is_sent = true;
        list_unlink(attempt);
        list_append(&ledger->sent, attempt);
    }
    run_close(&run);
    return ledger->unsent.first != NULL;
}

void ledger_put_returned(struct ledger *ledger, struct buf *frame)
{
    if (ledger->returned_count == 0) {
        return;
    }
    struct msg_RETURNED returned = {.items = {.count = ledger->returned_count, .items = buf_bytes(&ledger->returned)}};
    msg_RETURNED_put(frame, &returned);
    ledger->returned.n = 0;
    ledger->returned_count = 0;
}

size_t ledger_shallower(const struct ledger *ledger, unsigned depth)
{
    size_t count = 0;
    for (unsigned i = 0; i < depth && i <= TASK_DEPTH_MAX; i++) {
        count += ledger->unfinished[i];
    }
    return count;
}

bool ledger_has_news(const struct ledger *ledger)
{
    return ledger->unsent.count > 0 || ledger->returned_count > 0;
}

bool ledger_is_full(const struct ledger *ledger)
{
    size_t finished = ledger->unsent.count + ledger->sent.count;
    return ledger->finished_bytes >= WORKER_HELD_BYTES_MAX || finished >= WORKER_HELD_COUNT_MAX / 2;
}

static size_t list_check(const struct attempt_list *list, unsigned states)
{
    size_t count = 0;
    for (const struct attempt *attempt = list->first; attempt != NULL; attempt = attempt->next) {
        CHECK(attempt->list == list);
        CHECK(states & 1u << attempt->state);
        CHECK(attempt->next != NULL || list->last == attempt);
        count++;
    }
    CHECK(count == list->count);
    return count;
}

void ledger_check(const struct ledger *ledger)
{
    size_t count = list_check(&ledger->waiting, TO(WAITING)) + list_check(&ledger->handed, TO(HANDED) | TO(RUNNING)) +
                   list_check(&ledger->unsent, TO(FINISHED)) + list_check(&ledger->sent, TO(FINISHED));
    CHECK(count == ledger->held_count);
    CHECK(ledger_shallower(ledger, TASK_DEPTH_MAX + 1) == ledger->waiting.count + ledger->handed.count);
    for (const struct attempt *attempt = ledger->waiting.first; attempt != NULL; attempt = attempt->next) {
        CHECK(attempt->next == NULL || attempt->depth >= attempt->next->depth);
    }
    size_t at = 0;
    size_t found = 0;
    uint64_t task;
    void *value;
    while (map_next(&ledger->by_task, &at, &task, &value)) {
        for (const struct attempt *attempt = value; attempt != NULL; attempt = attempt->same_task) {
            CHECK(attempt->token.task == task);
            found++;
        }
    }
    CHECK(found == count);
}

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

static void memory_free(struct attempt *attempt)
{
    if (attempt->memory != attempt->small) {
        free(attempt->memory);
    }
    attempt->memory = NULL;
}

static void value_keep(struct attempt *attempt, struct bytes value)
{
    uint8_t *at = value.n <= sizeof(attempt->small) ? attempt->small : xmalloc(value.n);
    attempt->memory = at;
    attempt->value = copy_into(&at, value);
}

static void args_keep(struct ledger *ledger, struct attempt *attempt, struct bytes args)
{
    value_keep(attempt, args);
    ledger->args_bytes += args.n;
}

static void args_drop(struct ledger *ledger, struct attempt *attempt)
{
    ledger->args_bytes -= attempt->value.n;
    memory_free(attempt);
}

static size_t texts_size(const struct outcome *outcome)
{
    return outcome->result.n + outcome->kind.n + outcome->message.n + outcome->detail.n + outcome->report.n +
           outcome->output.n;
}

static void whole_keep(struct ledger *ledger, struct attempt *attempt, const struct outcome *outcome)
{
    attempt->memory = xmalloc(sizeof(*outcome) + texts_size(outcome));
    attempt->value = (struct bytes){NULL, 0};
    struct outcome *whole = (struct outcome *)(void *)attempt->memory;
    uint8_t *at = attempt->memory + sizeof(*whole);
    *whole = *outcome;
    whole->result = copy_into(&at, outcome->result);
    whole->kind = copy_into(&at, outcome->kind);
    whole->message = copy_into(&at, outcome->message);
    whole->detail = copy_into(&at, outcome->detail);
    whole->report = copy_into(&at, outcome->report);
    whole->output = copy_into(&at, outcome->output);
    attempt->whole = whole;
    ledger->finished_bytes += texts_size(outcome);
    ledger->output_bytes += outcome->output.n;
}

/* A result and figures, as most are. */
static bool is_plain(const struct outcome *outcome)
{
    return outcome->state == FINISHED_DONE && outcome->cause == CAUSE_NONE && outcome->kind.p == NULL &&
           outcome->message.p == NULL && outcome->detail.p == NULL && outcome->report.p == NULL &&
           outcome->output.p == NULL && outcome->signal == 0 && outcome->exit_status == 0;
}

static void outcome_drop(struct ledger *ledger, struct attempt *attempt)
{
    const struct outcome *whole = attempt->whole;
    ledger->finished_bytes -= whole != NULL ? texts_size(whole) : attempt->value.n;
    ledger->output_bytes -= whole != NULL ? whole->output.n : 0;
    attempt->whole = NULL;
    memory_free(attempt);
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
    if (attempt->state == ATTEMPT_FINISHED) {
        outcome_drop(ledger, attempt);
    } else {
        ledger->unfinished[attempt->depth]--;
        args_drop(ledger, attempt);
    }
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

/* Of those of its task. */
static struct attempt *find_among(struct attempt *attempt, struct token token)
{
    while (attempt != NULL && !token_is(attempt->token, token)) {
        attempt = attempt->same_task;
    }
    return attempt;
}

struct attempt *ledger_find(const struct ledger *ledger, struct token token)
{
    return token.task == 0 ? NULL : find_among(map_get(&ledger->by_task, token.task), token);
}

void ledger_fetch(const struct ledger *ledger, struct token token)
{
    const struct attempt *attempt = token.task == 0 ? NULL : map_get(&ledger->by_task, token.task);
    if (attempt != NULL) {
        __builtin_prefetch(attempt, 1);
        __builtin_prefetch(&attempt->value, 1);
    }
}

struct attempt *ledger_dispatch(struct ledger *ledger, uint32_t function, const struct msg_DISPATCH *call,
                                const struct item_dispatch *item)
{
    struct token token = {.task = item->task, .epoch = ledger->epoch, .attempt = (uint32_t)item->attempt};
    struct attempt *same_task = token.task == 0 ? NULL : map_get(&ledger->by_task, token.task);
    if (token.task == 0 || find_among(same_task, token) != NULL) {
        return NULL;
    }
    struct attempt *attempt = spares_take(&ledger->spares, sizeof(*attempt));
    memset(attempt, 0, offsetof(struct attempt, figures));
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
    attempt->same_task = same_task;
    map_put(&ledger->by_task, token.task, attempt);
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

static void finish(struct ledger *ledger, struct attempt *attempt)
{
    attempt_move(attempt, ATTEMPT_FINISHED);
    ledger->unfinished[attempt->depth]--;
    attempt->holder = NULL;
    list_unlink(attempt);
    args_drop(ledger, attempt);
    list_append(&ledger->unsent, attempt);
}

struct figures *ledger_finish_plain(struct ledger *ledger, struct attempt *attempt, struct bytes result)
{
    finish(ledger, attempt);
    value_keep(attempt, result);
    ledger->finished_bytes += result.n;
    return &attempt->figures;
}

void ledger_finish(struct ledger *ledger, struct attempt *attempt, const struct outcome *outcome)
{
    if (!is_plain(outcome)) {
        finish(ledger, attempt);
        whole_keep(ledger, attempt, outcome);
        return;
    }
    *ledger_finish_plain(ledger, attempt, outcome->result) = (struct figures){.pid = outcome->pid,
                                                                              .started = outcome->started,
                                                                              .run_us = outcome->run_us,
                                                                              .cpu_us = outcome->cpu_us,
                                                                              .peak = outcome->peak};
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

static struct item_finished whole_item(struct token token, const struct outcome *whole)
{
    return (struct item_finished){.task = token.task,
                                  .epoch = token.epoch,
                                  .attempt = token.attempt,
                                  .state = whole->state,
                                  .cause = whole->cause,
                                  .result = whole->result,
                                  .kind = whole->kind,
                                  .message = whole->message,
                                  .detail = whole->detail,
                                  .pid = whole->pid,
                                  .started = whole->started,
                                  .run_us = whole->run_us,
                                  .signal = whole->signal,
                                  .exit_status = whole->exit_status,
                                  .cpu_us = whole->cpu_us,
                                  .peak = whole->peak,
                                  .report = whole->report,
                                  .output = whole->output};
}

/* plain: an item of what is done, in which all that is the same for many was written once. */
static void finished_put(struct buf *buf, const struct attempt *attempt, struct item_finished *plain,
                         struct item_last *last)
{
    if (attempt->whole != NULL) {
        struct item_finished whole = whole_item(attempt->token, attempt->whole);
        item_finished_put_after(buf, &whole, last);
        return;
    }
    plain->task = attempt->token.task;
    plain->epoch = attempt->token.epoch;
    plain->attempt = attempt->token.attempt;
    plain->result = attempt->value;
    plain->pid = attempt->figures.pid;
    plain->started = attempt->figures.started;
    plain->run_us = attempt->figures.run_us;
    plain->cpu_us = attempt->figures.cpu_us;
    plain->peak = attempt->figures.peak;
    item_finished_put_after(buf, plain, last);
}

bool ledger_put_finished(struct ledger *ledger, struct buf *frame)
{
    if (ledger->unsent.first == NULL) {
        return false;
    }
    struct message head = {.kind = MSG_FINISHED};
    struct item_finished plain = {.state = FINISHED_DONE, .cause = CAUSE_NONE};
    struct run run;
    struct item_last last;
    last.has = false;
    run_open(&run, frame, &head);
    while (ledger->unsent.first != NULL && run.count < BATCH_COUNT_SOFT &&
           (run.count == 0 || frame->n < BATCH_SIZE_SOFT)) {
        struct attempt *attempt = ledger->unsent.first;
        finished_put(run.out, attempt, &plain, ledger->puts_short ? &last : NULL);
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

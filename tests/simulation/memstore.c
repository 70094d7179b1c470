/*
 * memstore.c owns the tables of a simulated store.
 * It must not know the core's insides, nor SQL.
 * Start reading at memstore_apply.
 */
#include "memstore.h"

#include "common/check.h"
#include "common/codec.h"
#include "common/message.h"
#include "common/ranges.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum table_kind { CALLS, SESSIONS, TAKEN, SERIES, WORKERS, TASKS, OUTCOMES, FAILURES, TABLE_COUNT };

struct row {
    uint64_t key;
    uint64_t sub; /* failures: attempt; taken: first */
    void *data;
};

struct table {
    struct row *rows;
    size_t count;
    size_t cap;
};

struct memstore {
    struct uuid uuid;
    uint32_t epoch;
    bool was_clean;
    struct meta_row meta;
    struct table tables[TABLE_COUNT];
    char why[256];
};

/* Where a row has views into other memory: what a deep copy must bring along. */
#define AT(type, field) offsetof(struct type, field)
static const struct shape {
    size_t size;
    size_t count;
    size_t at[8];
} shapes[TABLE_COUNT] = {
    [CALLS] = {sizeof(struct call_row), 3, {AT(call_row, queue), AT(call_row, function), AT(call_row, options)}},
    [SESSIONS] = {sizeof(struct session_row),
                  3,
                  {AT(session_row, name), AT(session_row, description), AT(session_row, owner_text)}},
    [TAKEN] = {sizeof(struct taken_row), 0, {0}},
    [SERIES] = {sizeof(struct series_row), 1, {AT(series_row, refused)}},
    [WORKERS] = {sizeof(struct worker_row), 2, {AT(worker_row, name), AT(worker_row, host)}},
    [TASKS] = {sizeof(struct task_row), 1, {AT(task_row, args)}},
    [OUTCOMES] = {sizeof(struct outcome_row),
                  8,
                  {AT(outcome_row, worker), AT(outcome_row, kind), AT(outcome_row, message), AT(outcome_row, detail),
                   AT(outcome_row, report), AT(outcome_row, result), AT(outcome_row, args), AT(outcome_row, output)}},
    [FAILURES] = {sizeof(struct failure_row),
                  6,
                  {AT(failure_row, worker), AT(failure_row, kind), AT(failure_row, message), AT(failure_row, detail),
                   AT(failure_row, report), AT(failure_row, output)}},
};

static struct bytes *view_at(void *row, size_t at)
{
    return (struct bytes *)(void *)((uint8_t *)row + at);
}

static void *row_copy(enum table_kind kind, const void *source)
{
    const struct shape *shape = &shapes[kind];
    size_t size = shape->size;
    for (size_t i = 0; i < shape->count; i++) {
        size += view_at((void *)(uintptr_t)source, shape->at[i])->n;
    }
    uint8_t *copy = xmalloc(size);
    memcpy(copy, source, shape->size);
    uint8_t *end = copy + shape->size;
    for (size_t i = 0; i < shape->count; i++) {
        struct bytes *view = view_at(copy, shape->at[i]);
        if (view->n > 0) {
            memcpy(end, view->p, view->n);
        }
        *view = view->p ? bytes_of(end, view->n) : (struct bytes){NULL, 0};
        end += view->n;
    }
    return copy;
}

/* ---- tables: sorted arrays ---- */

static size_t table_place(const struct table *table, uint64_t key, uint64_t sub)
{
    size_t low = 0;
    size_t high = table->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        const struct row *row = &table->rows[middle];
        bool is_before = row->key < key || (row->key == key && row->sub < sub);
        if (is_before) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static void *table_get(const struct table *table, uint64_t key, uint64_t sub)
{
    size_t place = table_place(table, key, sub);
    if (place < table->count && table->rows[place].key == key && table->rows[place].sub == sub) {
        return table->rows[place].data;
    }
    return NULL;
}

static void table_put(struct memstore *store, enum table_kind kind, uint64_t key, uint64_t sub, const void *source)
{
    struct table *table = &store->tables[kind];
    void *copy = row_copy(kind, source);
    size_t place = table_place(table, key, sub);
    if (place < table->count && table->rows[place].key == key && table->rows[place].sub == sub) {
        free(table->rows[place].data);
        table->rows[place].data = copy;
        return;
    }
    if (table->count == table->cap) {
        table->cap = table->cap ? table->cap * 2 : 64;
        table->rows = xrealloc(table->rows, table->cap * sizeof *table->rows);
    }
    memmove(&table->rows[place + 1], &table->rows[place], (table->count - place) * sizeof *table->rows);
    table->rows[place] = (struct row){key, sub, copy};
    table->count++;
}

static void table_remove_at(struct table *table, size_t place)
{
    free(table->rows[place].data);
    table->count--;
    memmove(&table->rows[place], &table->rows[place + 1], (table->count - place) * sizeof *table->rows);
}

static bool table_remove(struct table *table, uint64_t key, uint64_t sub)
{
    size_t place = table_place(table, key, sub);
    if (place >= table->count || table->rows[place].key != key || table->rows[place].sub != sub) {
        return false;
    }
    table_remove_at(table, place);
    return true;
}

/* ---- life ---- */

struct memstore *memstore_open(uint64_t seed)
{
    struct memstore *store = xcalloc(1, sizeof *store);
    memcpy(store->uuid.b, &seed, sizeof seed);
    store->uuid.b[15] = 0x51;
    store->meta = (struct meta_row){1, 1, 1, 1};
    return store;
}

void memstore_close(struct memstore **store)
{
    if (*store == NULL) {
        return;
    }
    for (size_t kind = 0; kind < TABLE_COUNT; kind++) {
        struct table *table = &(*store)->tables[kind];
        for (size_t i = 0; i < table->count; i++) {
            free(table->rows[i].data);
        }
        free(table->rows);
    }
    free(*store);
    *store = NULL;
}

void memstore_replace(struct memstore **store, uint64_t seed)
{
    memstore_close(store);
    *store = memstore_open(seed);
}

static bool call_is_used(const struct memstore *store, uint64_t call)
{
    for (size_t i = 0; i < store->tables[TASKS].count; i++) {
        if (((struct task_row *)store->tables[TASKS].rows[i].data)->call == call) {
            return true;
        }
    }
    for (size_t i = 0; i < store->tables[OUTCOMES].count; i++) {
        if (((struct outcome_row *)store->tables[OUTCOMES].rows[i].data)->call == call) {
            return true;
        }
    }
    return false;
}

void memstore_start(struct memstore *store, struct store_facts *facts_out)
{
    struct table *calls = &store->tables[CALLS];
    for (size_t i = calls->count; i-- > 0;) {
        if (!call_is_used(store, calls->rows[i].key)) {
            table_remove_at(calls, i);
        }
    }
    store->epoch++;
    *facts_out = (struct store_facts){.uuid = store->uuid,
                                      .epoch = store->epoch,
                                      .was_clean = store->was_clean,
                                      .is_new = store->epoch == 1,
                                      .meta = store->meta};
    store->was_clean = false;
}

void memstore_mark_clean(struct memstore *store)
{
    store->was_clean = true;
}

/* ---- batches ---- */

#define REFUSE(store, ...) (snprintf((store)->why, sizeof(store)->why, __VA_ARGS__), (store)->why)

/* Rows are of memory of their own: the view can go, the bytes stay until the row goes. */
static void remove_old_output(struct memstore *store, const struct failure_row *row)
{
    struct table *table = &store->tables[FAILURES];
    for (uint32_t i = 1; row->output.n > 0 && i + OUTPUT_ATTEMPT_COUNT_MAX <= row->attempt; i++) {
        struct failure_row *old = table_get(table, row->task, i);
        if (old != NULL) {
            old->output.n = 0;
        }
    }
}

static void remove_failures(struct memstore *store, uint64_t task)
{
    struct table *table = &store->tables[FAILURES];
    size_t place = table_place(table, task, 0);
    while (place < table->count && table->rows[place].key == task) {
        table_remove_at(table, place);
    }
}

static void remove_series_of(struct memstore *store, uint64_t session)
{
    struct table *table = &store->tables[SERIES];
    for (size_t i = table->count; i-- > 0;) {
        if (((struct series_row *)table->rows[i].data)->session == session) {
            table_remove_at(table, i);
        }
    }
}

static size_t taken_count_to(const struct memstore *store, uint64_t session, uint64_t prefix)
{
    const struct table *table = &store->tables[TAKEN];
    return table_place(table, session, prefix + 1) - table_place(table, session, 0);
}

static void remove_taken_to(struct memstore *store, uint64_t session, uint64_t prefix)
{
    struct table *table = &store->tables[TAKEN];
    for (size_t left = taken_count_to(store, session, prefix); left > 0; left--) {
        table_remove_at(table, table_place(table, session, 0));
    }
}

static const char *apply_session(struct memstore *store, const struct change *change)
{
    const struct session_row *row = &change->session;
    table_put(store, SESSIONS, row->id, 0, row);
    if (change->had_taken) {
        remove_taken_to(store, row->id, row->acked_prefix);
    }
    if (taken_count_to(store, row->id, row->acked_prefix) > 0) {
        return REFUSE(store, "session %" PRIu64 " leaves rows behind of what is within its prefix", row->id);
    }
    return NULL;
}

static const char *apply_taken(struct memstore *store, const struct taken_row *row)
{
    const struct session_row *session = memstore_session(store, row->session);
    if (session == NULL || row->first > row->last || row->first <= session->acked_prefix + 1 ||
        row->last > session->completion_last) {
        return REFUSE(store, "session %" PRIu64 " cannot have taken %" PRIu64 " to %" PRIu64, row->session, row->first,
                      row->last);
    }
    table_put(store, TAKEN, row->session, row->first, row);
    return NULL;
}

static const char *apply_task_state(struct memstore *store, const struct task_row *change, bool again)
{
    struct task_row *row = table_get(&store->tables[TASKS], change->id, 0);
    if (row == NULL) {
        return again ? NULL : REFUSE(store, "state of task %" PRIx64 " that is not stored", change->id);
    }
    row->state = change->state;
    row->attempt = change->attempt;
    row->epoch = change->epoch;
    row->worker = change->worker;
    row->attempts = change->attempts;
    row->crashes = change->crashes;
    row->losses = change->losses;
    row->due = change->due;
    return NULL;
}

static const char *apply_outcome(struct memstore *store, const struct change *change, bool again)
{
    uint64_t id = change->outcome.id;
    bool was_there = change->had_task && table_remove(&store->tables[TASKS], id, 0);
    if (!again && change->had_task && !was_there) {
        return REFUSE(store, "outcome of %" PRIx64 " says it had a task, none is stored", id);
    }
    if (!again && !change->had_task && table_get(&store->tables[TASKS], id, 0) != NULL) {
        return REFUSE(store, "outcome of %" PRIx64 " says it had no task, one is stored", id);
    }
    if (table_get(&store->tables[OUTCOMES], id, 0) != NULL) {
        return again ? NULL : REFUSE(store, "second outcome of %" PRIx64, id);
    }
    table_put(store, OUTCOMES, id, 0, &change->outcome);
    return NULL;
}

static const char *apply_one(struct memstore *store, const struct change *change, bool again)
{
    switch (change->kind) {
    case CHANGE_META:
        store->meta = change->meta;
        return NULL;
    case CHANGE_CALL:
        if (!again && table_get(&store->tables[CALLS], change->call.id, 0) != NULL) {
            return REFUSE(store, "call %" PRIu64 " inserted twice", change->call.id);
        }
        table_put(store, CALLS, change->call.id, 0, &change->call);
        return NULL;
    case CHANGE_SESSION:
        return apply_session(store, change);
    case CHANGE_TAKEN:
        return apply_taken(store, &change->taken);
    case CHANGE_SESSION_DELETE:
        table_remove(&store->tables[SESSIONS], change->number, 0);
        remove_series_of(store, change->number);
        remove_taken_to(store, change->number, INT64_MAX);
        return NULL;
    case CHANGE_SERIES:
        table_put(store, SERIES, change->series.id, 0, &change->series);
        return NULL;
    case CHANGE_SERIES_DELETE:
        table_remove(&store->tables[SERIES], change->series.id, 0);
        return NULL;
    case CHANGE_WORKER:
        table_put(store, WORKERS, change->worker.id, 0, &change->worker);
        return NULL;
    case CHANGE_TASK:
        if (!again && table_get(&store->tables[TASKS], change->task.id, 0) != NULL) {
            return REFUSE(store, "task %" PRIx64 " inserted twice", change->task.id);
        }
        table_put(store, TASKS, change->task.id, 0, &change->task);
        return NULL;
    case CHANGE_TASK_STATE:
        return apply_task_state(store, &change->task, again);
    case CHANGE_OUTCOME:
        return apply_outcome(store, change, again);
    case CHANGE_FAILURE:
        table_put(store, FAILURES, change->failure.task, change->failure.attempt, &change->failure);
        remove_old_output(store, &change->failure);
        return NULL;
    case CHANGE_OUTCOME_DELETE:
        table_remove(&store->tables[OUTCOMES], change->number, 0);
        remove_failures(store, change->number);
        return NULL;
    }
    return REFUSE(store, "change of unknown kind %d", (int)change->kind);
}

/* What a row names must be there when the batch is on disk. */
static const char *check_references(struct memstore *store, const struct change *change)
{
    if (change->kind == CHANGE_TASK || change->kind == CHANGE_TASK_STATE) {
        const struct task_row *row = memstore_task(store, change->task.id);
        if (row == NULL) {
            return NULL; /* its outcome is in the same batch */
        }
        if (table_get(&store->tables[CALLS], row->call, 0) == NULL) {
            return REFUSE(store, "task %" PRIx64 " of call %" PRIu64 " that is not stored", row->id, row->call);
        }
        if (table_get(&store->tables[SESSIONS], row->session, 0) == NULL) {
            return REFUSE(store, "task %" PRIx64 " of session %" PRIu64 " that is not stored", row->id, row->session);
        }
        bool is_held = row->state == TASK_LEASED || row->state == TASK_RUNNING;
        if (is_held && table_get(&store->tables[WORKERS], row->worker, 0) == NULL) {
            return REFUSE(store, "task %" PRIx64 " held by worker %" PRIu64 " that is not stored", row->id,
                          row->worker);
        }
        if (row->state < TASK_DELAYED || row->state > TASK_BACKOFF) {
            return REFUSE(store, "live task %" PRIx64 " in state %u", row->id, row->state);
        }
    }
    if (change->kind == CHANGE_OUTCOME) {
        const struct outcome_row *row = memstore_outcome(store, change->outcome.id);
        if (row != NULL && table_get(&store->tables[CALLS], row->call, 0) == NULL) {
            return REFUSE(store, "outcome %" PRIx64 " of call %" PRIu64 " that is not stored", row->id, row->call);
        }
    }
    return NULL;
}

const char *memstore_apply(struct memstore *store, const struct change *changes, size_t count, bool again)
{
    for (size_t i = 0; i < count; i++) {
        const char *why = apply_one(store, &changes[i], again);
        if (why != NULL) {
            return why;
        }
    }
    for (size_t i = 0; i < count; i++) {
        const char *why = check_references(store, &changes[i]);
        if (why != NULL) {
            return why;
        }
    }
    return NULL;
}

/* ---- recovery ---- */

static uint64_t outcome_payload(const struct outcome_row *row)
{
    return row->result.n + row->args.n + row->kind.n + row->message.n + row->detail.n + row->report.n + row->output.n;
}

#define EACH(store, table, type, row)                                                                                  \
    for (size_t index_ = 0; index_ < (store)->tables[table].count; index_++)                                           \
        for (const struct type *row = (store)->tables[table].rows[index_].data; row != NULL; row = NULL)

void memstore_load(const struct memstore *store, const struct store_visitor *visitor)
{
    EACH(store, CALLS, call_row, row)
    {
        visitor->call(visitor->context, row);
    }
    EACH(store, SESSIONS, session_row, row)
    {
        visitor->session(visitor->context, row);
    }
    EACH(store, TAKEN, taken_row, row)
    {
        visitor->taken(visitor->context, row);
    }
    EACH(store, SERIES, series_row, row)
    {
        visitor->series(visitor->context, row);
    }
    EACH(store, WORKERS, worker_row, row)
    {
        visitor->worker(visitor->context, row);
    }
    EACH(store, TASKS, task_row, row)
    {
        visitor->task(visitor->context, row);
    }
    EACH(store, OUTCOMES, outcome_row, row)
    {
        visitor->outcome(visitor->context, row->id, row->session, row->completion, row->finished, outcome_payload(row));
    }
}

/* ---- loads: rows point into the store's own, which do not change while an answer is read ---- */

static void answer_outcomes(const struct memstore *store, const struct load *load, struct loaded *loaded)
{
    loaded->outcomes = xcalloc(load->count + 1, sizeof *loaded->outcomes);
    for (size_t i = 0; i < load->count; i++) {
        const struct outcome_row *row = memstore_outcome(store, load->ids[i]);
        if (row != NULL) {
            loaded->outcomes[loaded->outcome_count++] = *row;
        }
    }
}

static void answer_show(const struct memstore *store, const struct load *load, struct loaded *loaded)
{
    answer_outcomes(store, load, loaded);
    const struct task_row *task = memstore_task(store, load->ids[0]);
    uint64_t call = 0;
    if (loaded->outcome_count > 0) {
        call = loaded->outcomes[0].call;
    } else if (task != NULL) {
        loaded->has_task = true;
        loaded->task = *task;
        call = task->call;
    }
    const struct call_row *row = table_get(&store->tables[CALLS], call, 0);
    if (row != NULL) {
        loaded->call = *row;
    }
    loaded->failures = xcalloc(LOAD_FAILURE_COUNT_MAX, sizeof *loaded->failures);
    EACH(store, FAILURES, failure_row, failure)
    {
        if (failure->task == load->ids[0] && loaded->failure_count < LOAD_FAILURE_COUNT_MAX) {
            loaded->failures[loaded->failure_count++] = *failure;
        }
    }
}

static void answer_output(const struct memstore *store, const struct load *load, struct loaded *loaded)
{
    bool has_outcome = loaded->outcome_count > 0;
    loaded->attempt = load->attempt;
    if (loaded->attempt == 0 && has_outcome) {
        loaded->attempt = loaded->outcomes[0].attempt;
    }
    EACH(store, FAILURES, failure_row, failure)
    {
        if (failure->task == load->ids[0] && load->attempt == 0 && failure->attempt > loaded->attempt) {
            loaded->attempt = failure->attempt;
        }
    }
    if (has_outcome && loaded->outcomes[0].attempt == loaded->attempt) {
        loaded->output = loaded->outcomes[0].output;
    }
    const struct failure_row *failure = table_get(&store->tables[FAILURES], load->ids[0], loaded->attempt);
    if (failure != NULL && failure->output.n > 0) {
        loaded->output = failure->output;
    }
}

static struct list_row list_of_task(const struct task_row *row)
{
    return (struct list_row){.id = row->id,
                             .session = row->session,
                             .call = row->call,
                             .state = row->state,
                             .attempts = row->attempts,
                             .created = row->created};
}

static struct list_row list_of_outcome(const struct outcome_row *row)
{
    return (struct list_row){.id = row->id,
                             .session = row->session,
                             .call = row->call,
                             .state = row->state,
                             .cause = row->cause,
                             .attempts = row->attempts,
                             .created = row->created,
                             .finished = row->finished,
                             .worker = row->worker,
                             .message = row->message};
}

static bool list_wants(const struct list_query *query, const struct list_row *row)
{
    return (query->before == 0 || row->id < query->before) && (query->session == 0 || query->session == row->session) &&
           (query->state == 0 || query->state == row->state) && (query->cause == 0 || query->cause == row->cause);
}

static int list_newer_first(const void *a, const void *b)
{
    uint64_t left = ((const struct list_row *)a)->id;
    uint64_t right = ((const struct list_row *)b)->id;
    return left < right ? 1 : left > right ? -1 : 0;
}

static void answer_list(const struct memstore *store, const struct load *load, struct loaded *loaded)
{
    loaded->list = xcalloc(store->tables[TASKS].count + store->tables[OUTCOMES].count + 1, sizeof *loaded->list);
    EACH(store, TASKS, task_row, task)
    {
        struct list_row row = list_of_task(task);
        if (list_wants(&load->list, &row)) {
            loaded->list[loaded->list_count++] = row;
        }
    }
    EACH(store, OUTCOMES, outcome_row, outcome)
    {
        struct list_row row = list_of_outcome(outcome);
        if (list_wants(&load->list, &row)) {
            loaded->list[loaded->list_count++] = row;
        }
    }
    qsort(loaded->list, loaded->list_count, sizeof *loaded->list, list_newer_first);
    if (loaded->list_count > load->limit) {
        loaded->list_count = load->limit;
    }
}

struct loaded *memstore_answer(const struct memstore *store, const struct load *load)
{
    struct loaded *loaded = xcalloc(1, sizeof *loaded);
    loaded->kind = load->kind;
    loaded->number = load->number;
    switch (load->kind) {
    case LOAD_OUTCOMES:
        answer_outcomes(store, load, loaded);
        break;
    case LOAD_SHOW:
        answer_show(store, load, loaded);
        break;
    case LOAD_LIST:
        answer_list(store, load, loaded);
        break;
    case LOAD_BACKUP: /* in memory there is nothing to copy */
        loaded->code = QUERN_UNSUPPORTED;
        free(load->path);
        break;
    case LOAD_LOGS:
        answer_show(store, load, loaded);
        answer_output(store, load, loaded);
        break;
    }
    return loaded;
}

void memstore_loaded_free(struct loaded **loaded)
{
    free((*loaded)->outcomes);
    free((*loaded)->failures);
    free((*loaded)->list);
    free(*loaded);
    *loaded = NULL;
}

/* ---- looking ---- */

#define GETTER(function, type, table)                                                                                  \
    const struct type *function(const struct memstore *store, uint64_t id)                                             \
    {                                                                                                                  \
        return table_get(&store->tables[table], id, 0);                                                                \
    }
GETTER(memstore_task, task_row, TASKS)
GETTER(memstore_outcome, outcome_row, OUTCOMES)
GETTER(memstore_session, session_row, SESSIONS)
GETTER(memstore_series, series_row, SERIES)
GETTER(memstore_worker, worker_row, WORKERS)

#define GETTER_AT(function, type, table)                                                                               \
    const struct type *function(const struct memstore *store, size_t index)                                            \
    {                                                                                                                  \
        return index < store->tables[table].count ? store->tables[table].rows[index].data : NULL;                      \
    }
GETTER_AT(memstore_task_at, task_row, TASKS)
GETTER_AT(memstore_outcome_at, outcome_row, OUTCOMES)
GETTER_AT(memstore_session_at, session_row, SESSIONS)

size_t memstore_failure_count(const struct memstore *store, uint64_t task)
{
    size_t count = 0;
    EACH(store, FAILURES, failure_row, row)
    {
        count += row->task == task;
    }
    return count;
}

struct uuid memstore_uuid(const struct memstore *store)
{
    return store->uuid;
}

uint32_t memstore_epoch(const struct memstore *store)
{
    return store->epoch;
}

const struct meta_row *memstore_meta(const struct memstore *store)
{
    return &store->meta;
}

/* Reads [[first, last, ...], ...] and says whether a number is in one of them; *third_out is what follows. */
static bool ranges_have(struct bytes ranges, uint64_t number, uint64_t *third_out)
{
    struct cursor cursor = cursor_of(ranges);
    struct value value;
    if (ranges.n == 0 || !cursor_next(&cursor, &value) || value.type != VALUE_ARRAY) {
        return false;
    }
    for (uint32_t left = value.count; left > 0; left--) {
        struct value item;
        uint64_t fields[3] = {0, 0, 0};
        CHECK(cursor_next(&cursor, &item) && item.type == VALUE_ARRAY && item.count <= 3);
        for (uint32_t i = 0; i < item.count; i++) {
            struct value field;
            CHECK(cursor_next(&cursor, &field) && field.type == VALUE_UINT);
            fields[i] = field.u;
        }
        if (number >= fields[0] && number <= fields[1]) {
            if (third_out != NULL) {
                *third_out = fields[2];
            }
            return true;
        }
    }
    return false;
}

bool memstore_acked(const struct memstore *store, uint64_t session, uint64_t completion)
{
    const struct session_row *row = memstore_session(store, session);
    const struct table *table = &store->tables[TAKEN];
    if (row == NULL || completion <= row->acked_prefix) {
        return row != NULL;
    }
    for (size_t i = table_place(table, session, 0); i < table->count && table->rows[i].key == session; i++) {
        const struct taken_row *taken = table->rows[i].data;
        if (taken->first <= completion && completion <= taken->last) {
            return true;
        }
    }
    return false;
}

size_t memstore_taken_count(const struct memstore *store)
{
    return store->tables[TAKEN].count;
}

bool series_row_refused(const struct series_row *row, uint64_t sequence, uint64_t *code_out)
{
    return ranges_have(row->refused, sequence, code_out);
}

/* ---- dump ---- */

static const char *const table_words[TABLE_COUNT] = {"call",   "session", "taken",   "series",
                                                     "worker", "task",    "outcome", "failure"};

static void dump_hex(struct buf *out, const uint8_t *p, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        buf_printf(out, "%02x", p[i]);
    }
}

/* The fixed part without its views (padding is zero or copied alike only by luck, so fields are taken by type). */
static void dump_fixed(struct buf *out, enum table_kind kind, const void *data)
{
    if (kind == SESSIONS) {
        const struct session_row *row = data;
        buf_printf(out, " last=%" PRIu64 " acked=%" PRIu64 " ordinal=%" PRIu64 " failed=%" PRIu64 " keep=%d ending=%d",
                   row->completion_last, row->acked_prefix, row->ordinal_high, row->failed, row->keep, row->is_ending);
        dump_hex(out, row->owner.b, UUID_SIZE);
        dump_hex(out, row->digest, DIGEST_SIZE);
        buf_printf(out, " %" PRId64 " %" PRId64 " %" PRIu64, row->created, row->used, row->expire_ms);
    } else if (kind == SERIES) {
        const struct series_row *row = data;
        buf_printf(out, " session=%" PRIu64 " high=%" PRIu64 " ", row->session, row->submitted_high);
        dump_hex(out, row->instance.b, UUID_SIZE);
    } else if (kind == WORKERS) {
        const struct worker_row *row = data;
        buf_printf(out, " pid=%" PRIu64 " ", row->pid);
        dump_hex(out, row->instance.b, UUID_SIZE);
    } else if (kind == TASKS) {
        const struct task_row *row = data;
        buf_printf(out, " session=%" PRIu64 " call=%" PRIu64 " state=%u priority=%d token=%u.%u worker=%" PRIu64,
                   row->session, row->call, row->state, row->priority, row->epoch, row->attempt, row->worker);
        buf_printf(out, " blame=%u/%u/%u due=%" PRId64 " created=%" PRId64 " ordinal=%" PRIu64 " of=%" PRIx64,
                   row->attempts, row->crashes, row->losses, row->due, row->created, row->ordinal, row->retry_of);
    } else if (kind == OUTCOMES) {
        const struct outcome_row *row = data;
        buf_printf(out, " session=%" PRIu64 " completion=%" PRIu64 " call=%" PRIu64 " state=%u cause=%u attempt=%u/%u",
                   row->session, row->completion, row->call, row->state, row->cause, row->attempt, row->attempts);
        buf_printf(out, " signal=%u exit=%u %" PRId64 " %" PRId64 " %" PRId64 " run=%" PRIu64 " ordinal=%" PRIu64,
                   row->signal, row->exit_status, row->created, row->started, row->finished, row->run_us, row->ordinal);
        buf_printf(out, " of=%" PRIx64 " args=%" PRIu64 "/%" PRIx64, row->retry_of, row->args_size, row->args_hash);
        buf_printf(out, " cpu=%" PRIu64 " peak=%" PRIu64, row->cpu_us, row->peak);
    } else if (kind == FAILURES) {
        const struct failure_row *row = data;
        buf_printf(out, " at=%" PRId64 " cause=%u signal=%u exit=%u run=%" PRIu64 "/%" PRIu64 "/%" PRIu64, row->at,
                   row->cause, row->signal, row->exit_status, row->run_us, row->cpu_us, row->peak);
    }
}

/* Their union: how it is cut into rows is not what is stored. */
static void dump_taken(const struct table *table, struct buf *out)
{
    struct ranges union_of = {0};
    for (size_t i = 0; i < table->count; i++) {
        const struct taken_row *row = table->rows[i].data;
        ranges_add(&union_of, row->first, row->last);
        if (i + 1 < table->count && table->rows[i + 1].key == row->session) {
            continue;
        }
        buf_printf(out, "taken %" PRIu64, row->session);
        for (size_t n = 0; n < union_of.count; n++) {
            buf_printf(out, " %" PRIu64 "-%" PRIu64, union_of.at[n].first, union_of.at[n].last);
        }
        buf_printf(out, "\n");
        ranges_clear(&union_of);
    }
    ranges_fini(&union_of);
}

void memstore_dump(const struct memstore *store, struct buf *out)
{
    buf_printf(out, "meta %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 "\n", store->meta.series_next,
               store->meta.session_next, store->meta.worker_next, store->meta.call_next);
    dump_taken(&store->tables[TAKEN], out);
    for (size_t kind = 0; kind < TABLE_COUNT; kind++) {
        for (size_t i = 0; i < store->tables[kind].count && kind != TAKEN; i++) {
            const struct row *row = &store->tables[kind].rows[i];
            buf_printf(out, "%s %" PRIx64 "/%" PRIu64, table_words[kind], row->key, row->sub);
            dump_fixed(out, (enum table_kind)kind, row->data);
            for (size_t v = 0; v < shapes[kind].count; v++) {
                struct bytes view = *view_at(row->data, shapes[kind].at[v]);
                buf_printf(out, " [");
                dump_hex(out, view.p, view.n);
                buf_printf(out, "]");
            }
            buf_printf(out, "\n");
        }
    }
}

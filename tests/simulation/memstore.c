/*
 * memstore.c owns what a simulated store does with batches, and its life from start to start.
 * It must not know the core's insides, nor SQL.
 * Start reading at memstore_apply.
 */
#include "memtables.h"

#include "common/check.h"
#include "common/codec.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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
            memtable_remove_at(calls, i);
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
        struct failure_row *old = memtable_get(table, row->task, i);
        if (old != NULL) {
            old->output.n = 0;
        }
    }
}

static void remove_failures(struct memstore *store, uint64_t task)
{
    struct table *table = &store->tables[FAILURES];
    size_t place = memtable_place(table, task, 0);
    while (place < table->count && table->rows[place].key == task) {
        memtable_remove_at(table, place);
    }
}

static void remove_series_of(struct memstore *store, uint64_t session)
{
    struct table *table = &store->tables[SERIES];
    for (size_t i = table->count; i-- > 0;) {
        if (((struct series_row *)table->rows[i].data)->session == session) {
            memtable_remove_at(table, i);
        }
    }
}

static size_t taken_count_to(const struct memstore *store, uint64_t session, uint64_t prefix)
{
    const struct table *table = &store->tables[TAKEN];
    return memtable_place(table, session, prefix + 1) - memtable_place(table, session, 0);
}

static void remove_taken_to(struct memstore *store, uint64_t session, uint64_t prefix)
{
    struct table *table = &store->tables[TAKEN];
    for (size_t left = taken_count_to(store, session, prefix); left > 0; left--) {
        memtable_remove_at(table, memtable_place(table, session, 0));
    }
}

static const char *apply_session(struct memstore *store, const struct change *change)
{
    const struct session_row *row = &change->session;
    memtable_put(store, SESSIONS, row->id, 0, row);
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
    memtable_put(store, TAKEN, row->session, row->first, row);
    return NULL;
}

static const char *apply_task_state(struct memstore *store, const struct task_row *change, bool again)
{
    struct task_row *row = memtable_get(&store->tables[TASKS], change->id, 0);
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
    bool was_there = change->had_task && memtable_remove(&store->tables[TASKS], id, 0);
    if (!again && change->had_task && !was_there) {
        return REFUSE(store, "outcome of %" PRIx64 " says it had a task, none is stored", id);
    }
    if (!again && !change->had_task && memtable_get(&store->tables[TASKS], id, 0) != NULL) {
        return REFUSE(store, "outcome of %" PRIx64 " says it had no task, one is stored", id);
    }
    if (memtable_get(&store->tables[OUTCOMES], id, 0) != NULL) {
        return again ? NULL : REFUSE(store, "second outcome of %" PRIx64, id);
    }
    memtable_put(store, OUTCOMES, id, 0, &change->outcome);
    return NULL;
}

static const char *apply_one(struct memstore *store, const struct change *change, bool again)
{
    switch (change->kind) {
    case CHANGE_META:
        store->meta = change->meta;
        return NULL;
    case CHANGE_CALL:
        if (!again && memtable_get(&store->tables[CALLS], change->call.id, 0) != NULL) {
            return REFUSE(store, "call %" PRIu64 " inserted twice", change->call.id);
        }
        memtable_put(store, CALLS, change->call.id, 0, &change->call);
        return NULL;
    case CHANGE_SESSION:
        return apply_session(store, change);
    case CHANGE_TAKEN:
        return apply_taken(store, &change->taken);
    case CHANGE_SESSION_DELETE:
        memtable_remove(&store->tables[SESSIONS], change->number, 0);
        remove_series_of(store, change->number);
        remove_taken_to(store, change->number, INT64_MAX);
        return NULL;
    case CHANGE_SERIES:
        memtable_put(store, SERIES, change->series.id, 0, &change->series);
        return NULL;
    case CHANGE_SERIES_DELETE:
        memtable_remove(&store->tables[SERIES], change->series.id, 0);
        return NULL;
    case CHANGE_WORKER:
        memtable_put(store, WORKERS, change->worker.id, 0, &change->worker);
        return NULL;
    case CHANGE_TASK:
        if (!again && memtable_get(&store->tables[TASKS], change->task.id, 0) != NULL) {
            return REFUSE(store, "task %" PRIx64 " inserted twice", change->task.id);
        }
        memtable_put(store, TASKS, change->task.id, 0, &change->task);
        return NULL;
    case CHANGE_TASK_STATE:
        return apply_task_state(store, &change->task, again);
    case CHANGE_OUTCOME:
        return apply_outcome(store, change, again);
    case CHANGE_FAILURE:
        memtable_put(store, FAILURES, change->failure.task, change->failure.attempt, &change->failure);
        remove_old_output(store, &change->failure);
        return NULL;
    case CHANGE_OUTCOME_DELETE:
        memtable_remove(&store->tables[OUTCOMES], change->number, 0);
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
        if (memtable_get(&store->tables[CALLS], row->call, 0) == NULL) {
            return REFUSE(store, "task %" PRIx64 " of call %" PRIu64 " that is not stored", row->id, row->call);
        }
        if (memtable_get(&store->tables[SESSIONS], row->session, 0) == NULL) {
            return REFUSE(store, "task %" PRIx64 " of session %" PRIu64 " that is not stored", row->id, row->session);
        }
        bool is_held = row->state == TASK_LEASED || row->state == TASK_RUNNING;
        if (is_held && memtable_get(&store->tables[WORKERS], row->worker, 0) == NULL) {
            return REFUSE(store, "task %" PRIx64 " held by worker %" PRIu64 " that is not stored", row->id,
                          row->worker);
        }
        if (row->state < TASK_DELAYED || row->state > TASK_BACKOFF) {
            return REFUSE(store, "live task %" PRIx64 " in state %u", row->id, row->state);
        }
    }
    if (change->kind == CHANGE_OUTCOME) {
        const struct outcome_row *row = memstore_outcome(store, change->outcome.id);
        if (row != NULL && memtable_get(&store->tables[CALLS], row->call, 0) == NULL) {
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
/* ---- looking ---- */

#define GETTER(function, type, table)                                                                                  \
    const struct type *function(const struct memstore *store, uint64_t id)                                             \
    {                                                                                                                  \
        return memtable_get(&store->tables[table], id, 0);                                                             \
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
GETTER_AT(memstore_series_at, series_row, SERIES)

size_t memstore_task_count(const struct memstore *store)
{
    return store->tables[TASKS].count;
}

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
    for (size_t i = memtable_place(table, session, 0); i < table->count && table->rows[i].key == session; i++) {
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

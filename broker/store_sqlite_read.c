/*
 * Reading the store: everything a broker needs in memory at its start, single rows, listings in slices.
 * Must not write, but for sweeping out at the start what nothing refers to any more.
 * Start at store_load.
 */
#include "broker/store_sqlite.h"
#include "common/check.h"
#include "common/clock.h"
#include "common/codec.h"
#include "common/log.h"
#include "common/map.h"
#include "common/message.h"

#include <inttypes.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Rows between two looks at the clock. */
#define LIST_CLOCK_ROWS 16u

/* ---- columns ---- */

static uint64_t col_u64(sqlite3_stmt *statement, int at)
{
    return (uint64_t)sqlite3_column_int64(statement, at);
}

static uint32_t col_u32(sqlite3_stmt *statement, int at)
{
    return (uint32_t)sqlite3_column_int64(statement, at);
}

/* Text too: it is stored as it came, and asking for the blob adds no NUL to it. */
static struct bytes col_bytes(sqlite3_stmt *statement, int at)
{
    if (sqlite3_column_type(statement, at) == SQLITE_NULL) {
        return (struct bytes){0};
    }
    const void *p = sqlite3_column_blob(statement, at);
    /* Nothing is what an empty one gives too: it must not stand in the place of what there was no memory for. */
    CHECK_THAT(p != NULL || sqlite3_errcode(sqlite3_db_handle(statement)) != SQLITE_NOMEM, "memory is used up");
    return bytes_of(p == NULL ? "" : p, (size_t)sqlite3_column_bytes(statement, at));
}

static bool col_fixed(sqlite3_stmt *statement, int at, uint8_t *out, size_t n)
{
    struct bytes bytes = col_bytes(statement, at);
    if (bytes.n != n) {
        return false;
    }
    memcpy(out, bytes.p, n);
    return true;
}

/* ---- rows: false if the row cannot be one that we wrote ---- */

static bool is_id(uint64_t id)
{
    return id != 0 && id <= INT64_MAX;
}

static bool read_call(sqlite3_stmt *statement, struct call_row *row)
{
    *row = (struct call_row){
        .id = col_u64(statement, 0),
        .queue = col_bytes(statement, 1),
        .function = col_bytes(statement, 2),
        .options = col_bytes(statement, 3),
    };
    return is_id(row->id);
}

static bool read_session(sqlite3_stmt *statement, struct session_row *row)
{
    *row = (struct session_row){
        .id = col_u64(statement, 0),
        .completion_last = col_u64(statement, 1),
        .acked_prefix = col_u64(statement, 2),
        .ordinal_high = col_u64(statement, 3),
        .failed = col_u64(statement, 4),
        .keep = col_u64(statement, 5) != 0,
        .is_ending = col_u64(statement, 6) != 0,
        .is_cancelling = col_u64(statement, 6) == ENDING_CANCELLING,
        .created = sqlite3_column_int64(statement, 7),
        .used = sqlite3_column_int64(statement, 8),
        .expire_ms = col_u64(statement, 9),
        .name = col_bytes(statement, 12),
        .owner_text = col_bytes(statement, 13),
        .description = col_bytes(statement, 14),
    };
    return is_id(row->id) && row->acked_prefix <= row->completion_last && row->expire_ms <= DURATION_MS_MAX &&
           col_fixed(statement, 10, row->owner.b, UUID_SIZE) && col_fixed(statement, 11, row->digest, DIGEST_SIZE);
}

static bool read_taken(sqlite3_stmt *statement, struct taken_row *row)
{
    *row = (struct taken_row){
        .session = col_u64(statement, 0),
        .first = col_u64(statement, 1),
        .last = col_u64(statement, 2),
    };
    return is_id(row->session) && is_id(row->first) && is_id(row->last) && row->first <= row->last;
}

/* An array of [first, last, code]. */
static bool is_refusals(struct bytes refused)
{
    struct cursor cursor = cursor_of(refused);
    struct value head;
    struct value item[4];
    bool is_well = cursor_next(&cursor, &head) && head.type == VALUE_ARRAY;
    for (uint32_t i = 0; is_well && i < head.count; i++) {
        is_well = cursor_next(&cursor, &item[0]) && item[0].type == VALUE_ARRAY && item[0].count == 3;
        for (int k = 1; is_well && k < 4; k++) {
            is_well = cursor_next(&cursor, &item[k]) && item[k].type == VALUE_UINT && item[k].u <= SEQUENCE_MAX;
        }
        is_well = is_well && item[1].u <= item[2].u;
    }
    return is_well;
}

static bool read_series(sqlite3_stmt *statement, struct series_row *row)
{
    *row = (struct series_row){
        .session = col_u64(statement, 0),
        .id = col_u64(statement, 1),
        .submitted_high = col_u64(statement, 2),
        .refused = col_bytes(statement, 4),
    };
    return is_id(row->id) && is_id(row->session) && col_fixed(statement, 3, row->instance.b, UUID_SIZE) &&
           (row->refused.n == 0 || is_refusals(row->refused));
}

static bool read_worker(sqlite3_stmt *statement, struct worker_row *row)
{
    *row = (struct worker_row){
        .id = col_u64(statement, 0),
        .pid = col_u64(statement, 1),
        .name = col_bytes(statement, 3),
        .host = col_bytes(statement, 4),
    };
    return is_id(row->id) && col_fixed(statement, 2, row->instance.b, UUID_SIZE);
}

static bool read_task(sqlite3_stmt *statement, struct task_row *row)
{
    *row = (struct task_row){
        .id = col_u64(statement, 0),
        .session = col_u64(statement, 1),
        .call = col_u64(statement, 2),
        .state = col_u32(statement, 3),
        .priority = sqlite3_column_int(statement, 4),
        .attempt = col_u32(statement, 5),
        .epoch = col_u32(statement, 6),
        .worker = col_u64(statement, 7),
        .attempts = col_u32(statement, 8),
        .crashes = col_u32(statement, 9),
        .losses = col_u32(statement, 10),
        .due = sqlite3_column_int64(statement, 11),
        .created = sqlite3_column_int64(statement, 12),
        .ordinal = col_u64(statement, 13),
        .retry_of = col_u64(statement, 14),
        .args = col_bytes(statement, 15),
    };
    return is_id(row->id) && row->state >= TASK_DELAYED && row->state <= TASK_BACKOFF;
}

static bool read_outcome(sqlite3_stmt *statement, struct outcome_row *row)
{
    *row = (struct outcome_row){
        .id = col_u64(statement, 0),
        .session = col_u64(statement, 1),
        .completion = col_u64(statement, 2),
        .finished = sqlite3_column_int64(statement, 3),
        .call = col_u64(statement, 5),
        .state = col_u32(statement, 6),
        .cause = col_u32(statement, 7),
        .attempt = col_u32(statement, 8),
        .attempts = col_u32(statement, 9),
        .signal = col_u32(statement, 10),
        .exit_status = col_u32(statement, 11),
        .created = sqlite3_column_int64(statement, 12),
        .started = sqlite3_column_int64(statement, 13),
        .run_us = col_u64(statement, 14),
        .cpu_us = col_u64(statement, 15),
        .peak = col_u64(statement, 16),
        .ordinal = col_u64(statement, 17),
        .retry_of = col_u64(statement, 18),
        .args_size = col_u64(statement, 19),
        .args_hash = col_u64(statement, 20),
        .worker = col_bytes(statement, 21),
        .kind = col_bytes(statement, 22),
        .message = col_bytes(statement, 23),
        .detail = col_bytes(statement, 24),
        .report = col_bytes(statement, 25),
        .args = col_bytes(statement, 26),
        .result = col_bytes(statement, 27),
    };
    return is_id(row->id) && row->state >= TASK_DONE && row->state <= TASK_CANCELLED;
}

static void read_failure(sqlite3_stmt *statement, struct failure_row *row)
{
    *row = (struct failure_row){
        .task = col_u64(statement, 0),
        .attempt = col_u32(statement, 1),
        .at = sqlite3_column_int64(statement, 2),
        .cause = col_u32(statement, 3),
        .signal = col_u32(statement, 4),
        .exit_status = col_u32(statement, 5),
        .run_us = col_u64(statement, 6),
        .cpu_us = col_u64(statement, 7),
        .peak = col_u64(statement, 8),
        .worker = col_bytes(statement, 9),
        .kind = col_bytes(statement, 10),
        .message = col_bytes(statement, 11),
        .detail = col_bytes(statement, 12),
        .report = col_bytes(statement, 13),
    };
}

/* ---- everything, at the start ---- */

struct scan {
    struct store *store;
    const struct store_visitor *visitor;
    char **why_out;
    struct map sessions; /* that were read: id to anything */
    struct map calls;
    struct map workers;
    uint64_t session; /* of the last task: most tasks are like the one before */
    uint64_t call;
    int64_t from; /* id of the next task */
    bool is_over; /* said by visit_row: go no further */
};

/* visit_row: reads the row the statement stands on and passes it on; false if it is damaged. */
static enum quern_err scan_all(struct scan *scan, enum statement which, const char *table,
                               bool (*visit_row)(struct scan *scan, sqlite3_stmt *statement))
{
    sqlite3_stmt *statement = store_statement(scan->store, which);
    int code = SQLITE_DONE;
    while (!scan->is_over && (code = sqlite3_step(statement)) == SQLITE_ROW) {
        if (!visit_row(scan, statement)) {
            *scan->why_out = sentence(
                "%s is damaged (row %" PRId64 " of table %s): restore a backup (`quern-broker --check --db %s` "
                "says more)",
                scan->store->disk.path, (int64_t)sqlite3_column_int64(statement, 0), table, scan->store->disk.path);
            sqlite3_reset(statement);
            return QUERN_MALFORMED;
        }
    }
    enum quern_err err =
        code == SQLITE_DONE || code == SQLITE_ROW ? QUERN_OK : store_err(scan->store, code, scan->why_out);
    sqlite3_reset(statement);
    return err;
}

static bool visit_call(struct scan *scan, sqlite3_stmt *statement)
{
    struct call_row row;
    bool is_whole = read_call(statement, &row);
    if (is_whole) {
        map_put(&scan->calls, row.id, scan);
        if (scan->visitor->call != NULL) {
            scan->visitor->call(scan->visitor->context, &row);
        }
    }
    return is_whole;
}

static bool visit_session(struct scan *scan, sqlite3_stmt *statement)
{
    struct session_row row;
    bool is_whole = read_session(statement, &row);
    if (is_whole) {
        map_put(&scan->sessions, row.id, scan);
        if (scan->visitor->session != NULL) {
            scan->visitor->session(scan->visitor->context, &row);
        }
    }
    return is_whole;
}

static bool visit_taken(struct scan *scan, sqlite3_stmt *statement)
{
    struct taken_row row;
    bool is_whole = read_taken(statement, &row);
    if (is_whole) {
        if (scan->visitor->taken != NULL) {
            scan->visitor->taken(scan->visitor->context, &row);
        }
    }
    return is_whole;
}

static bool visit_series(struct scan *scan, sqlite3_stmt *statement)
{
    struct series_row row;
    bool is_whole = read_series(statement, &row);
    if (is_whole) {
        if (scan->visitor->series != NULL) {
            scan->visitor->series(scan->visitor->context, &row);
        }
    }
    return is_whole;
}

static bool visit_worker(struct scan *scan, sqlite3_stmt *statement)
{
    struct worker_row row;
    bool is_whole = read_worker(statement, &row);
    if (is_whole) {
        map_put(&scan->workers, row.id, scan);
        if (scan->visitor->worker != NULL) {
            scan->visitor->worker(scan->visitor->context, &row);
        }
    }
    return is_whole;
}

/* Whether what it names is there: the core could not go on without it. */
static bool names_what_is_there(struct scan *scan, const struct task_row *row)
{
    bool is_held = row->state == TASK_LEASED || row->state == TASK_RUNNING;
    if (!is_id(row->session) || !is_id(row->call) ||
        (row->session != scan->session && map_get(&scan->sessions, row->session) == NULL) ||
        (row->call != scan->call && map_get(&scan->calls, row->call) == NULL)) {
        return false;
    }
    scan->session = row->session;
    scan->call = row->call;
    return !is_held || (row->worker != 0 && map_get(&scan->workers, row->worker) != NULL);
}

/* Whatever else a row may say, it was dispatched before. */
bool task_row_is_plain(const struct task_row *row)
{
    return row->state == TASK_READY && row->attempt == 0 && row->due == 0;
}

static bool is_enough(const struct scan *scan, const struct task_row *row, uint64_t args_size)
{
    return scan->visitor->plain_task != NULL &&
           scan->visitor->plain_task(scan->visitor->context, row->id, row->session, row->call, args_size);
}

/* Whole rows, until one of which the head is enough. */
static bool visit_task(struct scan *scan, sqlite3_stmt *statement)
{
    struct task_row row;
    if (!read_task(statement, &row) || !names_what_is_there(scan, &row)) {
        return false;
    }
    scan->from = (int64_t)(row.id + 1);
    scan->is_over = task_row_is_plain(&row) && is_enough(scan, &row, row.args.n);
    if (!scan->is_over && scan->visitor->task != NULL) {
        scan->visitor->task(scan->visitor->context, &row);
    }
    return true;
}

/* Heads of rows, until one is wanted whole: of millions all but few are enough, in less than half of the time. */
static bool visit_task_head(struct scan *scan, sqlite3_stmt *statement)
{
    struct task_row row = {.id = col_u64(statement, 0),
                           .session = col_u64(statement, 1),
                           .call = col_u64(statement, 2),
                           .state = col_u32(statement, 3),
                           .attempt = col_u32(statement, 4),
                           .due = sqlite3_column_int64(statement, 5)};
    bool is_plain = task_row_is_plain(&row);
    bool is_whole = !is_plain || (is_id(row.id) && names_what_is_there(scan, &row));
    scan->is_over = is_whole && !(is_plain && is_enough(scan, &row, col_u64(statement, 6)));
    scan->from = scan->is_over ? scan->from : (int64_t)(row.id + 1);
    return is_whole;
}

/* The two take turns, each from where the other came to. */
static enum quern_err scan_tasks(struct scan *scan)
{
    enum statement which = STATEMENT_READ_TASKS;
    enum quern_err err;
    do {
        bool is_of_heads = which == STATEMENT_READ_TASK_HEADS;
        sqlite3_bind_int64(store_statement(scan->store, which), 1, scan->from);
        scan->is_over = false;
        err = scan_all(scan, which, "task", is_of_heads ? visit_task_head : visit_task);
        which = is_of_heads ? STATEMENT_READ_TASKS : STATEMENT_READ_TASK_HEADS;
    } while (err == QUERN_OK && scan->is_over && scan->from != INT64_MIN); /* behind the last number there is */
    return err;
}

static bool visit_outcome(struct scan *scan, sqlite3_stmt *statement)
{
    uint64_t id = col_u64(statement, 0);
    if (!is_id(id)) {
        return false;
    }
    if (scan->visitor->outcome != NULL) {
        scan->visitor->outcome(scan->visitor->context, id, col_u64(statement, 1), col_u64(statement, 2),
                               sqlite3_column_int64(statement, 3), col_u64(statement, 4));
    }
    return true;
}

/* ---- sweeping: calls and workers that neither tasks nor outcomes refer to ---- */

/* Before the broker sees them, or it might hand a number out again whose row is gone. */
static enum quern_err sweep_table(struct store *store, const char *table, const char *sql, bool *is_swept_out,
                                  char **why_out)
{
    char *count_sql = sentence("SELECT count(*) > %u FROM %s", STORE_SWEEP_COUNT, table);
    sqlite3_stmt *statement = NULL;
    int code = sqlite3_prepare_v2(store->db, count_sql, -1, &statement, NULL);
    free(count_sql);
    code = code != SQLITE_OK ? code : sqlite3_step(statement);
    bool is_due = code == SQLITE_ROW && sqlite3_column_int(statement, 0) != 0;
    sqlite3_finalize(statement);
    *is_swept_out = is_due;
    if (code == SQLITE_ROW) {
        code = is_due ? sqlite3_exec(store->db, sql, NULL, NULL, NULL) : SQLITE_OK;
    }
    if ((code & 0xff) == SQLITE_FULL) {
        log_event(LOG_WARN, "store not swept, the disk is full", "path=\"%s\"", store->disk.path);
        return QUERN_OK; /* the statement is undone, and nothing needs it */
    }
    return code == SQLITE_OK ? QUERN_OK : store_err(store, code, why_out);
}

enum quern_err store_scan(struct store *store, const struct store_visitor *visitor, char **why_out)
{
    struct scan scan = {.store = store, .visitor = visitor, .why_out = why_out, .from = INT64_MIN};
    enum quern_err err = scan_all(&scan, STATEMENT_READ_CALLS, "call", visit_call);
    err = err != QUERN_OK ? err : scan_all(&scan, STATEMENT_READ_SESSIONS, "session", visit_session);
    err = err != QUERN_OK ? err : scan_all(&scan, STATEMENT_READ_TAKEN, "taken", visit_taken);
    err = err != QUERN_OK ? err : scan_all(&scan, STATEMENT_READ_SERIES, "series", visit_series);
    err = err != QUERN_OK ? err : scan_all(&scan, STATEMENT_READ_WORKERS, "worker", visit_worker);
    err = err != QUERN_OK ? err : scan_tasks(&scan);
    scan.is_over = false;
    err = err != QUERN_OK ? err : scan_all(&scan, STATEMENT_READ_OUTCOMES, "outcome", visit_outcome);
    map_fini(&scan.sessions);
    map_fini(&scan.calls);
    map_fini(&scan.workers);
    return err;
}

enum quern_err store_load(struct store *store, const struct store_visitor *visitor, char **why_out)
{
    bool is_swept = false;
    store_release(store);
    *why_out = NULL;
    enum quern_err err = sweep_table(store, "call",
                                     "DELETE FROM call WHERE id NOT IN"
                                     " (SELECT call FROM task UNION SELECT call FROM outcome)",
                                     &is_swept, why_out);
    err = err != QUERN_OK ? err
                          : sweep_table(store, "worker", "DELETE FROM worker WHERE id NOT IN (SELECT worker FROM task)",
                                        &is_swept, why_out);
    if (err == QUERN_OK && is_swept && visitor->workers_swept != NULL) {
        visitor->workers_swept(visitor->context);
    }
    return err != QUERN_OK ? err : store_scan(store, visitor, why_out);
}

/* ---- single rows ---- */

/* Step to the one row with this number and hold it for the caller. */
static enum quern_err find(struct store *store, enum statement which, uint64_t number, sqlite3_stmt **statement_out)
{
    store_release(store);
    sqlite3_stmt *statement = store_statement(store, which);
    sqlite3_bind_int64(statement, 1, (int64_t)number);
    int code = sqlite3_step(statement);
    if (code == SQLITE_ROW) {
        store->held = statement;
        *statement_out = statement;
        return QUERN_OK;
    }
    enum quern_err err = code == SQLITE_DONE ? QUERN_UNKNOWN : store_err(store, code, NULL);
    sqlite3_reset(statement);
    return err;
}

enum quern_err store_outcome(struct store *store, uint64_t task, struct outcome_row *row_out)
{
    sqlite3_stmt *statement = NULL;
    enum quern_err err = find(store, STATEMENT_READ_OUTCOME, task, &statement);
    return err == QUERN_OK && !read_outcome(statement, row_out) ? QUERN_MALFORMED : err;
}

enum quern_err store_task(struct store *store, uint64_t task, struct task_row *row_out)
{
    sqlite3_stmt *statement = NULL;
    enum quern_err err = find(store, STATEMENT_READ_TASK, task, &statement);
    return err == QUERN_OK && !read_task(statement, row_out) ? QUERN_MALFORMED : err;
}

enum quern_err store_tasks(struct store *store, uint64_t first, uint64_t last, void *context,
                           bool (*visit)(void *context, const struct task_row *row))
{
    store_release(store);
    sqlite3_stmt *statement = store_statement(store, STATEMENT_READ_TASKS_BETWEEN);
    sqlite3_bind_int64(statement, 1, (int64_t)first);
    sqlite3_bind_int64(statement, 2, (int64_t)last);
    enum quern_err err = QUERN_END;
    int code = SQLITE_ROW;
    while (err == QUERN_END && (code = sqlite3_step(statement)) == SQLITE_ROW) {
        struct task_row row;
        if (!read_task(statement, &row)) {
            err = QUERN_MALFORMED;
        } else if (!visit(context, &row)) {
            err = QUERN_OK;
        }
    }
    if (code != SQLITE_ROW && code != SQLITE_DONE) {
        err = store_err(store, code, NULL);
    }
    sqlite3_reset(statement);
    return err;
}

enum quern_err store_call(struct store *store, uint64_t call, struct call_row *row_out)
{
    sqlite3_stmt *statement = NULL;
    enum quern_err err = find(store, STATEMENT_READ_CALL, call, &statement);
    return err == QUERN_OK && !read_call(statement, row_out) ? QUERN_MALFORMED : err;
}

enum quern_err store_failures(struct store *store, uint64_t task, size_t limit, void *context,
                              void (*visit)(void *context, const struct failure_row *row))
{
    store_release(store);
    sqlite3_stmt *statement = store_statement(store, STATEMENT_READ_FAILURES);
    sqlite3_bind_int64(statement, 1, (int64_t)task);
    sqlite3_bind_int64(statement, 2, (int64_t)limit);
    int code;
    while ((code = sqlite3_step(statement)) == SQLITE_ROW) {
        struct failure_row row;
        read_failure(statement, &row);
        visit(context, &row);
    }
    enum quern_err err = code == SQLITE_DONE ? QUERN_OK : store_err(store, code, NULL);
    sqlite3_reset(statement);
    return err;
}

enum quern_err store_output(struct store *store, uint64_t task, uint32_t *attempt, struct bytes *output_out)
{
    sqlite3_stmt *statement = NULL;
    *output_out = (struct bytes){0};
    if (*attempt == 0) {
        enum quern_err err = find(store, STATEMENT_READ_ATTEMPT, task, &statement);
        if (err != QUERN_OK) {
            return err;
        }
        *attempt = col_u32(statement, 0);
    }
    store_release(store);
    statement = store_statement(store, STATEMENT_READ_OUTPUT);
    sqlite3_bind_int64(statement, 1, (int64_t)task);
    sqlite3_bind_int64(statement, 2, (int64_t)*attempt);
    int code = sqlite3_step(statement);
    if (code == SQLITE_ROW) {
        *output_out = col_bytes(statement, 0);
        store->held = statement;
        return QUERN_OK;
    }
    sqlite3_reset(statement);
    return code == SQLITE_DONE ? QUERN_OK : store_err(store, code, NULL);
}

/* ---- listings: tasks and outcomes merged by id, newest first ---- */

struct side {
    sqlite3_stmt *statement; /* NULL: nothing on this side can be asked for */
    uint64_t id;             /* it stands on; 0: at its end */
    int code;
};

static void side_step(struct side *side)
{
    side->code = sqlite3_step(side->statement);
    side->id = side->code == SQLITE_ROW ? col_u64(side->statement, 0) : 0;
}

static void side_open(struct side *side, struct store *store, enum statement which, uint64_t before)
{
    *side = (struct side){.statement = store_statement(store, which)};
    sqlite3_bind_int64(side->statement, 1, (int64_t)before);
    side_step(side);
}

static void list_row_read(struct store *store, sqlite3_stmt *statement, struct list_row *row)
{
    *row = (struct list_row){
        .id = col_u64(statement, 0),
        .session = col_u64(statement, 1),
        .call = col_u64(statement, 2),
        .state = col_u32(statement, 3),
        .cause = col_u32(statement, 4),
        .attempts = col_u32(statement, 5),
        .created = sqlite3_column_int64(statement, 6),
        .finished = sqlite3_column_int64(statement, 7),
        .worker = col_bytes(statement, 8),
        .message = col_bytes(statement, 10),
    };
    if (sqlite3_column_type(statement, 9) != SQLITE_NULL) { /* a live task: HOST and PID stand apart */
        int n = snprintf(store->list_worker, sizeof store->list_worker, "%.*s:%" PRIu64,
                         (int)(row->worker.n < HOST_NAME_SIZE_MAX ? row->worker.n : HOST_NAME_SIZE_MAX),
                         (const char *)row->worker.p, col_u64(statement, 9));
        row->worker = bytes_of(store->list_worker, (size_t)n);
    }
    struct call_row call;
    if (store_call(store, row->call, &call) == QUERN_OK) {
        row->function = call.function;
        row->queue = call.queue;
    }
}

/* By the columns alone, so that a row that is not wanted costs no more than its first bytes. */
static bool list_wants(const struct list_query *query, sqlite3_stmt *statement)
{
    return (query->session == 0 || query->session == col_u64(statement, 1)) &&
           (query->state == 0 || query->state == col_u32(statement, 3)) &&
           (query->cause == 0 || query->cause == col_u32(statement, 4));
}

static bool list_over(size_t examined, size_t visited, size_t rows_max, int64_t end_us)
{
    return visited >= rows_max || (examined % LIST_CLOCK_ROWS == 0 && clock_mono_us() >= end_us);
}

static enum quern_err list_merge(struct store *store, struct list_query *query, struct side sides[2], size_t rows_max,
                                 int64_t end_us, void *context,
                                 void (*visit)(void *context, const struct list_row *row))
{
    size_t visited = 0;
    for (size_t examined = 1; sides[0].id != 0 || sides[1].id != 0; examined++) {
        struct side *side = sides[0].id > sides[1].id ? &sides[0] : &sides[1];
        if (list_wants(query, side->statement)) {
            struct list_row row;
            list_row_read(store, side->statement, &row);
            visit(context, &row);
            visited++;
        }
        query->before = side->id;
        if (list_over(examined, visited, rows_max, end_us)) {
            return QUERN_OK;
        }
        side_step(side);
    }
    return QUERN_END;
}

enum quern_err store_list_slice(struct store *store, struct list_query *query, size_t rows_max, uint64_t slice_us,
                                void *context, void (*visit)(void *context, const struct list_row *row))
{
    store_release(store);
    int64_t end_us = clock_mono_us() + (int64_t)slice_us;
    uint64_t before = query->before == 0 ? INT64_MAX : query->before;
    struct side sides[2] = {{.code = SQLITE_DONE}, {.code = SQLITE_DONE}};
    bool is_final = query->state >= TASK_DONE;
    if (!is_final && query->cause == 0) {
        side_open(&sides[0], store, STATEMENT_LIST_TASKS, before);
    }
    if (query->state == 0 || is_final) {
        side_open(&sides[1], store, STATEMENT_LIST_OUTCOMES, before);
    }
    enum quern_err err = list_merge(store, query, sides, rows_max, end_us, context, visit);
    for (size_t i = 0; i < 2; i++) {
        if (sides[i].code != SQLITE_ROW && sides[i].code != SQLITE_DONE) {
            err = store_err(store, sides[i].code, NULL);
        }
        if (sides[i].statement != NULL) {
            sqlite3_reset(sides[i].statement);
        }
    }
    return err;
}

/*
 * The store on SQLite: row changes, and the one transaction per batch that makes them durable.
 * Must not know what rows mean, nor decide anything about tasks.
 * Start at store_apply; what each kind of change writes is in apply_change.
 */
#include "broker/store_sqlite.h"
#include "common/check.h"
#include "common/log.h"
#include "common/message.h"

#include <sqlite3.h>

/* ---- binding ---- */

struct binder {
    sqlite3_stmt *statement;
    int at;
    int code; /* the first that went wrong */
};

static struct binder binder_of(struct store *store, enum statement which)
{
    return (struct binder){.statement = store->statements[which]};
}

static void bound(struct binder *binder, int code)
{
    if (binder->code == SQLITE_OK) {
        binder->code = code;
    }
}

static void bind_i64(struct binder *binder, int64_t value)
{
    bound(binder, sqlite3_bind_int64(binder->statement, ++binder->at, value));
}

/* Bit for bit: what is above 2^63 (a hash) comes back as it was. */
static void bind_u64(struct binder *binder, uint64_t value)
{
    bind_i64(binder, (int64_t)value);
}

static void bind_text(struct binder *binder, struct bytes text)
{
    bound(binder, text.p == NULL ? sqlite3_bind_null(binder->statement, ++binder->at)
                                 : sqlite3_bind_text64(binder->statement, ++binder->at, (const char *)text.p, text.n,
                                                       SQLITE_STATIC, SQLITE_UTF8));
}

static void bind_blob(struct binder *binder, struct bytes blob)
{
    bound(binder, blob.p == NULL ? sqlite3_bind_null(binder->statement, ++binder->at)
                                 : sqlite3_bind_blob64(binder->statement, ++binder->at, blob.p, blob.n, SQLITE_STATIC));
}

static int binder_run(const struct binder *binder, struct store *store, enum statement which)
{
    return binder->code != SQLITE_OK ? binder->code : store_run(store, which);
}

/* ---- row changes ---- */

static int run_with_number(struct store *store, enum statement which, uint64_t number)
{
    struct binder b = binder_of(store, which);
    bind_u64(&b, number);
    return binder_run(&b, store, which);
}

/* Both are included; every number between them is meant. */
static int run_with_range(struct store *store, enum statement which, uint64_t first, uint64_t last)
{
    struct binder b = binder_of(store, which);
    bind_u64(&b, first);
    bind_u64(&b, last);
    return binder_run(&b, store, which);
}

static int apply_meta(struct store *store, const struct meta_row *row)
{
    struct binder b = binder_of(store, STATEMENT_META);
    bind_u64(&b, row->series_next);
    bind_u64(&b, row->session_next);
    bind_u64(&b, row->worker_next);
    bind_u64(&b, row->call_next);
    return binder_run(&b, store, STATEMENT_META);
}

static int apply_call(struct store *store, const struct call_row *row)
{
    struct binder b = binder_of(store, STATEMENT_CALL);
    bind_u64(&b, row->id);
    bind_text(&b, row->queue);
    bind_text(&b, row->function);
    bind_blob(&b, row->options);
    return binder_run(&b, store, STATEMENT_CALL);
}

/* In a table of its own and compared first: it may be 64 KiB, and a session row is written with every outcome. */
static int apply_description(struct store *store, const struct session_row *row)
{
    if (row->description.p == NULL) {
        return run_with_number(store, STATEMENT_DESCRIPTION_DELETE, row->id);
    }
    struct binder b = binder_of(store, STATEMENT_DESCRIPTION);
    bind_u64(&b, row->id);
    bind_blob(&b, row->description);
    return binder_run(&b, store, STATEMENT_DESCRIPTION);
}

static int apply_taken(struct store *store, const struct taken_row *row)
{
    struct binder b = binder_of(store, STATEMENT_TAKEN);
    bind_u64(&b, row->session);
    bind_u64(&b, row->first);
    bind_u64(&b, row->last);
    return binder_run(&b, store, STATEMENT_TAKEN);
}

static int apply_taken_delete(struct store *store, uint64_t session, uint64_t prefix)
{
    struct binder b = binder_of(store, STATEMENT_TAKEN_DELETE);
    bind_u64(&b, session);
    bind_u64(&b, prefix);
    return binder_run(&b, store, STATEMENT_TAKEN_DELETE);
}

static int apply_session(struct store *store, const struct session_row *row, bool had_taken)
{
    struct binder b = binder_of(store, STATEMENT_SESSION);
    bind_u64(&b, row->id);
    bind_u64(&b, row->completion_last);
    bind_u64(&b, row->acked_prefix);
    bind_u64(&b, row->ordinal_high);
    bind_u64(&b, row->failed);
    bind_u64(&b, row->keep);
    bind_u64(&b, row->is_cancelling ? ENDING_CANCELLING : row->is_ending);
    bind_i64(&b, row->created);
    bind_i64(&b, row->used);
    bind_u64(&b, row->expire_ms);
    bind_blob(&b, bytes_of(row->owner.b, UUID_SIZE));
    bind_blob(&b, bytes_of(row->digest, DIGEST_SIZE));
    bind_text(&b, row->name);
    bind_text(&b, row->owner_text);
    int code = binder_run(&b, store, STATEMENT_SESSION);
    if (code == SQLITE_OK && had_taken) {
        code = apply_taken_delete(store, row->id, row->acked_prefix);
    }
    return code != SQLITE_OK ? code : apply_description(store, row);
}

static int apply_session_delete(struct store *store, uint64_t session)
{
    int code = run_with_number(store, STATEMENT_SESSION_DELETE, session);
    code = code != SQLITE_OK ? code : run_with_number(store, STATEMENT_DESCRIPTION_DELETE, session);
    code = code != SQLITE_OK ? code : apply_taken_delete(store, session, INT64_MAX);
    return code != SQLITE_OK ? code : run_with_number(store, STATEMENT_SERIES_DELETE_ALL, session);
}

static int apply_series(struct store *store, const struct series_row *row)
{
    struct binder b = binder_of(store, STATEMENT_SERIES);
    bind_u64(&b, row->session);
    bind_u64(&b, row->id);
    bind_u64(&b, row->submitted_high);
    bind_blob(&b, bytes_of(row->instance.b, UUID_SIZE));
    bind_blob(&b, row->refused);
    return binder_run(&b, store, STATEMENT_SERIES);
}

static int apply_series_delete(struct store *store, const struct series_row *row)
{
    struct binder b = binder_of(store, STATEMENT_SERIES_DELETE);
    bind_u64(&b, row->session);
    bind_u64(&b, row->id);
    return binder_run(&b, store, STATEMENT_SERIES_DELETE);
}

static int apply_worker(struct store *store, const struct worker_row *row)
{
    struct binder b = binder_of(store, STATEMENT_WORKER);
    bind_u64(&b, row->id);
    bind_u64(&b, row->pid);
    bind_blob(&b, bytes_of(row->instance.b, UUID_SIZE));
    bind_text(&b, row->name);
    bind_text(&b, row->host);
    return binder_run(&b, store, STATEMENT_WORKER);
}

static void bind_task(struct binder *binder, const struct task_row *row)
{
    bind_u64(binder, row->id);
    bind_u64(binder, row->session);
    bind_u64(binder, row->call);
    bind_u64(binder, row->state);
    bind_i64(binder, row->priority);
    bind_u64(binder, row->attempt);
    bind_u64(binder, row->epoch);
    bind_u64(binder, row->worker);
    bind_u64(binder, row->attempts);
    bind_u64(binder, row->crashes);
    bind_u64(binder, row->losses);
    bind_i64(binder, row->due);
    bind_i64(binder, row->created);
    bind_u64(binder, row->ordinal);
    bind_u64(binder, row->retry_of);
    bind_blob(binder, row->args);
}

static int apply_task(struct store *store, const struct task_row *row)
{
    struct binder b = binder_of(store, STATEMENT_TASK);
    bind_task(&b, row);
    return binder_run(&b, store, STATEMENT_TASK);
}

static int apply_task_state(struct store *store, const struct task_row *row)
{
    struct binder b = binder_of(store, STATEMENT_TASK_STATE);
    bind_u64(&b, row->id);
    bind_u64(&b, row->state);
    bind_u64(&b, row->attempt);
    bind_u64(&b, row->epoch);
    bind_u64(&b, row->worker);
    bind_u64(&b, row->attempts);
    bind_u64(&b, row->crashes);
    bind_u64(&b, row->losses);
    bind_i64(&b, row->due);
    return binder_run(&b, store, STATEMENT_TASK_STATE);
}

static uint64_t outcome_size(const struct outcome_row *row)
{
    return row->kind.n + row->message.n + row->detail.n + row->report.n + row->args.n + row->result.n + row->output.n;
}

static int apply_outcome(struct store *store, const struct outcome_row *row, bool had_task)
{
    struct binder b = binder_of(store, STATEMENT_OUTCOME);
    bind_u64(&b, row->id);
    bind_u64(&b, row->session);
    bind_u64(&b, row->completion);
    bind_i64(&b, row->finished);
    bind_u64(&b, outcome_size(row));
    bind_u64(&b, row->call);
    bind_u64(&b, row->state);
    bind_u64(&b, row->cause);
    bind_u64(&b, row->attempt);
    bind_u64(&b, row->attempts);
    bind_u64(&b, row->signal);
    bind_u64(&b, row->exit_status);
    bind_i64(&b, row->created);
    bind_i64(&b, row->started);
    bind_u64(&b, row->run_us);
    bind_u64(&b, row->cpu_us);
    bind_u64(&b, row->peak);
    bind_u64(&b, row->ordinal);
    bind_u64(&b, row->retry_of);
    bind_u64(&b, row->args_size);
    bind_u64(&b, row->args_hash);
    bind_text(&b, row->worker);
    bind_text(&b, row->kind);
    bind_text(&b, row->message);
    bind_blob(&b, row->detail);
    bind_blob(&b, row->report);
    bind_blob(&b, row->args);
    bind_blob(&b, row->result);
    bind_blob(&b, row->output);
    int code = binder_run(&b, store, STATEMENT_OUTCOME);
    return code != SQLITE_OK || !had_task ? code : run_with_range(store, STATEMENT_TASK_DELETE, row->id, row->id);
}

/* ---- many rows by one statement ---- */

_Static_assert(TASK_DONE == 7, "SQL_DONE_ROW says so");

/* Nothing to tell but the result: its row is SQL_DONE_ROW. */
static bool is_plain(const struct outcome_row *row)
{
    return row->state == TASK_DONE && row->cause == CAUSE_NONE && row->signal == 0 && row->exit_status == 0 &&
           row->retry_of == 0 && row->kind.p == NULL && row->message.p == NULL && row->detail.p == NULL &&
           row->report.p == NULL && row->output.n == 0;
}

/* Do so many changes of this kind begin here that one statement takes them? */
static bool is_run(const struct change *changes, size_t count, enum change_kind kind)
{
    for (size_t i = 0; i < STORE_ROWS_COUNT; i++) {
        if (i == count || changes[i].kind != kind || (kind == CHANGE_OUTCOME && !is_plain(&changes[i].outcome))) {
            return false;
        }
    }
    return true;
}

/* So many changes, one at least, are of the same kind, alike in having had a task, and of ids in a row: rows that go
 * can go together. */
static size_t row_count(const struct change *changes, size_t count)
{
    size_t alike = 1;
    while (alike < count && changes[alike].kind == changes->kind && changes[alike].had_task == changes->had_task &&
           changes[alike].number == changes->number + alike) {
        alike++;
    }
    return alike;
}

static int apply_tasks(struct store *store, const struct change *changes)
{
    struct binder b = binder_of(store, STATEMENT_TASKS);
    for (size_t i = 0; i < STORE_ROWS_COUNT; i++) {
        bind_task(&b, &changes[i].task);
    }
    return binder_run(&b, store, STATEMENT_TASKS);
}

static void bind_done(struct binder *binder, const struct outcome_row *row)
{
    bind_u64(binder, row->id);
    bind_u64(binder, row->session);
    bind_u64(binder, row->completion);
    bind_i64(binder, row->finished);
    bind_u64(binder, outcome_size(row));
    bind_u64(binder, row->call);
    bind_u64(binder, row->attempt);
    bind_u64(binder, row->attempts);
    bind_i64(binder, row->created);
    bind_i64(binder, row->started);
    bind_u64(binder, row->run_us);
    bind_u64(binder, row->cpu_us);
    bind_u64(binder, row->peak);
    bind_u64(binder, row->ordinal);
    bind_u64(binder, row->args_size);
    bind_u64(binder, row->args_hash);
    bind_text(binder, row->worker);
    bind_blob(binder, row->args);
    bind_blob(binder, row->result);
}

static int apply_done(struct store *store, const struct change *changes)
{
    struct binder b = binder_of(store, STATEMENT_OUTCOMES_DONE);
    for (size_t i = 0; i < STORE_ROWS_COUNT; i++) {
        bind_done(&b, &changes[i].outcome);
    }
    int code = binder_run(&b, store, STATEMENT_OUTCOMES_DONE);
    for (size_t i = 0, count; i < STORE_ROWS_COUNT && code == SQLITE_OK; i += count) {
        count = row_count(&changes[i], STORE_ROWS_COUNT - i);
        if (changes[i].had_task) {
            code = run_with_range(store, STATEMENT_TASK_DELETE, changes[i].number, changes[i + count - 1].number);
        }
    }
    return code;
}

/* ---- any change ---- */

static int apply_failure(struct store *store, const struct failure_row *row)
{
    struct binder b = binder_of(store, STATEMENT_FAILURE);
    bind_u64(&b, row->task);
    bind_u64(&b, row->attempt);
    bind_i64(&b, row->at);
    bind_u64(&b, row->cause);
    bind_u64(&b, row->signal);
    bind_u64(&b, row->exit_status);
    bind_u64(&b, row->run_us);
    bind_u64(&b, row->cpu_us);
    bind_u64(&b, row->peak);
    bind_text(&b, row->worker);
    bind_text(&b, row->kind);
    bind_text(&b, row->message);
    bind_blob(&b, row->detail);
    bind_blob(&b, row->report);
    bind_blob(&b, row->output);
    int code = binder_run(&b, store, STATEMENT_FAILURE);
    if (code == SQLITE_OK && row->output.n > 0 && row->attempt > OUTPUT_ATTEMPT_COUNT_MAX) {
        b = binder_of(store, STATEMENT_FAILURE_OUTPUT_DELETE);
        bind_u64(&b, row->task);
        bind_u64(&b, row->attempt - OUTPUT_ATTEMPT_COUNT_MAX);
        code = binder_run(&b, store, STATEMENT_FAILURE_OUTPUT_DELETE);
    }
    return code;
}

static int apply_outcomes_delete(struct store *store, uint64_t first, uint64_t last)
{
    int code = run_with_range(store, STATEMENT_OUTCOME_DELETE, first, last);
    return code != SQLITE_OK ? code : run_with_range(store, STATEMENT_FAILURE_DELETE, first, last);
}

static int apply_change(struct store *store, const struct change *change)
{
    switch (change->kind) {
    case CHANGE_META:
        return apply_meta(store, &change->meta);
    case CHANGE_CALL:
        return apply_call(store, &change->call);
    case CHANGE_SESSION:
        return apply_session(store, &change->session, change->had_taken);
    case CHANGE_SESSION_DELETE:
        return apply_session_delete(store, change->number);
    case CHANGE_TAKEN:
        return apply_taken(store, &change->taken);
    case CHANGE_SERIES:
        return apply_series(store, &change->series);
    case CHANGE_SERIES_DELETE:
        return apply_series_delete(store, &change->series);
    case CHANGE_WORKER:
        return apply_worker(store, &change->worker);
    case CHANGE_TASK:
        return apply_task(store, &change->task);
    case CHANGE_TASK_STATE:
        return apply_task_state(store, &change->task);
    case CHANGE_OUTCOME:
        return apply_outcome(store, &change->outcome, change->had_task);
    case CHANGE_FAILURE:
        return apply_failure(store, &change->failure);
    case CHANGE_OUTCOME_DELETE:
        return apply_outcomes_delete(store, change->number, change->number);
    }
    CHECK_THAT(false, "change of kind %d", (int)change->kind);
    return SQLITE_MISUSE;
}

/* ---- committing ---- */

static enum store_verdict verdict_of(const struct store *store, int code)
{
    switch (code & 0xff) {
    case SQLITE_OK:
        return STORE_OK;
    case SQLITE_FULL:
        /* Only a write says this, and it comes before the sync of the commit: so it is not on disk. */
        return STORE_FULL;
    case SQLITE_ERROR:
    case SQLITE_CONSTRAINT:
    case SQLITE_MISMATCH:
    case SQLITE_MISUSE:
    case SQLITE_RANGE:
    case SQLITE_TOOBIG:
    case SQLITE_SCHEMA:
        CHECK_THAT(false, "a row change that SQLite refuses: %s (code %d)", sqlite3_errmsg(store->db), code);
        return STORE_UNKNOWN;
    default:
        return STORE_UNKNOWN;
    }
}

static enum store_verdict store_fail(struct store *store, const char *what, int code)
{
    log_event(LOG_ERROR, what, "path=\"%s\" code=%d error=\"%s\"", store->disk.path, code, sqlite3_errmsg(store->db));
    store->is_failed = true;
    return STORE_UNKNOWN;
}

/* The first of these changes, or the first few if they go together: *taken_out says how many. */
static int apply_next(struct store *store, const struct change *changes, size_t count, size_t *taken_out)
{
    *taken_out = STORE_ROWS_COUNT;
    if (is_run(changes, count, CHANGE_OUTCOME)) {
        return apply_done(store, changes);
    }
    if (is_run(changes, count, CHANGE_TASK)) {
        return apply_tasks(store, changes);
    }
    if (changes->kind == CHANGE_OUTCOME_DELETE) {
        *taken_out = row_count(changes, count);
        return apply_outcomes_delete(store, changes->number, changes[*taken_out - 1].number);
    }
    *taken_out = 1;
    return apply_change(store, changes);
}

static enum store_verdict apply_once(struct store *store, const struct change *changes, size_t count)
{
    int code = store_run(store, STATEMENT_BEGIN);
    for (size_t i = 0, taken; i < count && code == SQLITE_OK; i += taken) {
        code = apply_next(store, &changes[i], count - i, &taken);
    }
    if (code == SQLITE_OK) {
        code = store_run(store, STATEMENT_COMMIT);
    }
    enum store_verdict verdict = verdict_of(store, code);
    if (verdict == STORE_UNKNOWN) {
        return store_fail(store, "commit failed", code);
    }
    if (verdict == STORE_FULL && !sqlite3_get_autocommit(store->db)) {
        code = store_run(store, STATEMENT_ROLLBACK); /* some errors roll back by themselves */
    }
    return sqlite3_get_autocommit(store->db) ? verdict : store_fail(store, "rollback failed", code);
}

/* Copy the log into the database. A disk too full for it is no failure: what is committed stays in the log. */
static bool checkpoint(struct store *store)
{
    int code = sqlite3_wal_checkpoint_v2(store->db, "main", SQLITE_CHECKPOINT_PASSIVE, NULL, NULL);
    if ((code & 0xff) == SQLITE_FULL && disk_ballast_give_up(&store->disk)) {
        code = sqlite3_wal_checkpoint_v2(store->db, "main", SQLITE_CHECKPOINT_PASSIVE, NULL, NULL);
    }
    if (code == SQLITE_OK) {
        store->log_pages = 0;
    } else if ((code & 0xff) != SQLITE_FULL) {
        store_fail(store, "checkpoint failed", code);
        return false;
    }
    return true;
}

enum quern_err store_rest(struct store *store)
{
    store_release(store);
    bool is_well = !store->is_failed && (store->log_pages < store->checkpoint_pages || checkpoint(store));
    return is_well ? QUERN_OK : QUERN_IO;
}

enum store_verdict store_apply(struct store *store, uint32_t epoch, const struct change *changes, size_t count)
{
    if (epoch != store->epoch) {
        return STORE_FENCED;
    }
    if (store_rest(store) != QUERN_OK) {
        return STORE_UNKNOWN;
    }
    if (count == 0) {
        return STORE_OK;
    }
    enum store_verdict verdict = apply_once(store, changes, count);
    if (verdict == STORE_FULL && disk_ballast_give_up(&store->disk)) {
        log_event(LOG_WARN, "disk full, ballast given up", "path=\"%s\"", store->disk.ballast_path);
        verdict = apply_once(store, changes, count);
    }
    if (verdict == STORE_OK) {
        store->batches++;
        store->rows += count;
    }
    return verdict;
}

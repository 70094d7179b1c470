/*
 * store_sqlite.h: private to store_sqlite*.c (and their tests): the open store, its statements, its file layer.
 * Names sqlite3's types without including its header, which only store_sqlite*.c do.
 * Start at struct store.
 */
#ifndef QUERN_BROKER_STORE_SQLITE_H
#define QUERN_BROKER_STORE_SQLITE_H

#include "broker/disk.h"
#include "broker/store.h"

struct sqlite3;
struct sqlite3_stmt;

#define STORE_APPLICATION_ID 0x7175726e /* "qurn" */
#define STORE_PAGE_SIZE 4096
/* Pages in the log at which they are copied into the database: later costs longer pauses and gains nothing. */
#define STORE_CHECKPOINT_PAGES 1000
/* Above this many bytes a check after an unclean end, or of a file that came from elsewhere, would hold up the start
 * too long; */
#define STORE_QUICK_CHECK_BYTES GIB
/* up to this many it is made at every start. */
#define STORE_ALWAYS_CHECK_BYTES (64 * MIB)
/* How long an open waits for somebody who only looks into the file. */
#define STORE_BUSY_MS 1000
/* Unreferenced calls and workers are looked for only when there are more than this: looking is a scan. */
#define STORE_SWEEP_COUNT 1024u
/* session.is_ending of a session that is ending and cancelled. */
#define ENDING_CANCELLING 2u

/* ---- statements: prepared at the opening, kept for life ---- */

#define SQL_OUTCOME_COLUMNS                                                                                            \
    "id, session, completion, finished, size, call, state, cause, attempt, attempts, signal, exit_status, created,"    \
    " started, run_us, cpu_us, peak, ordinal, retry_of, args_size, args_hash, worker, kind, message, detail, report,"  \
    " args, result"
#define SQL_TASK_COLUMNS                                                                                               \
    "id, session, call, state, priority, attempt, epoch, worker, attempts, crashes, losses, due, created, ordinal,"    \
    " retry_of, args"
#define SQL_FAILURE_COLUMNS                                                                                            \
    "task, attempt, at, cause, signal, exit_status, run_us, cpu_us, peak, worker, kind, message, detail, report"

/* So many rows of a kind go into one statement, for half of what a row costs is the statement around it. */
#define STORE_ROWS_COUNT 16u
#define SQL_ROWS(row) row "," row "," row "," row "," row "," row "," row "," row "," SQL_ROWS_HALF(row)
#define SQL_ROWS_HALF(row) row "," row "," row "," row "," row "," row "," row "," row
#define SQL_TASK_ROW "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
/* Of a task that is done, state 7: what says how one failed has nothing to say. */
#define SQL_DONE_ROW "(?, ?, ?, ?, ?, ?, 7, 0, ?, ?, 0, 0, ?, ?, ?, ?, ?, ?, 0, ?, ?, ?, NULL, NULL, NULL, NULL, ?, ?)"

#define STATEMENT_LIST(X)                                                                                              \
    X(BEGIN, "BEGIN IMMEDIATE")                                                                                        \
    X(COMMIT, "COMMIT")                                                                                                \
    X(ROLLBACK, "ROLLBACK")                                                                                            \
    X(META, "UPDATE meta SET series_next = ?1, session_next = ?2, worker_next = ?3, call_next = ?4")                   \
    X(EPOCH, "UPDATE meta SET epoch = ?1, uuid = ?2, inode = ?3, born_ns = ?4, is_clean = 0")                          \
    X(CLEAN, "UPDATE meta SET is_clean = 1")                                                                           \
    X(CALL, "INSERT OR IGNORE INTO call (id, queue, function, options) VALUES (?1, ?2, ?3, ?4)")                       \
    X(SESSION, "INSERT OR REPLACE INTO session (id, completion_last, acked_prefix, ordinal_high, failed, keep,"        \
               " is_ending, created, used, expire_ms, owner, digest, name, owner_text)"                                \
               " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)")                                \
    X(DESCRIPTION, "INSERT INTO description (session, text) VALUES (?1, ?2)"                                           \
                   " ON CONFLICT (session) DO UPDATE SET text = excluded.text WHERE text <> excluded.text")            \
    X(DESCRIPTION_DELETE, "DELETE FROM description WHERE session = ?1")                                                \
    X(TAKEN, "INSERT OR REPLACE INTO taken (session, first, last) VALUES (?1, ?2, ?3)")                                \
    X(TAKEN_DELETE, "DELETE FROM taken WHERE session = ?1 AND first <= ?2")                                            \
    X(SESSION_DELETE, "DELETE FROM session WHERE id = ?1")                                                             \
    X(SERIES_DELETE, "DELETE FROM series WHERE session = ?1 AND id = ?2")                                              \
    X(SERIES_DELETE_ALL, "DELETE FROM series WHERE session = ?1")                                                      \
    X(SERIES, "INSERT OR REPLACE INTO series (session, id, submitted_high, instance, refused)"                         \
              " VALUES (?1, ?2, ?3, ?4, ?5)")                                                                          \
    X(WORKER, "INSERT OR REPLACE INTO worker (id, pid, instance, name, host) VALUES (?1, ?2, ?3, ?4, ?5)")             \
    X(TASK, "INSERT OR REPLACE INTO task (" SQL_TASK_COLUMNS ")"                                                       \
            " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)")                         \
    X(TASK_STATE, "UPDATE task SET state = ?2, attempt = ?3, epoch = ?4, worker = ?5, attempts = ?6, crashes = ?7,"    \
                  " losses = ?8, due = ?9 WHERE id = ?1")                                                              \
    X(TASK_DELETE, "DELETE FROM task WHERE id BETWEEN ?1 AND ?2")                                                      \
    X(OUTCOME, "INSERT OR IGNORE INTO outcome (" SQL_OUTCOME_COLUMNS ", output)"                                       \
               " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20,"   \
               " ?21, ?22, ?23, ?24, ?25, ?26, ?27, ?28, ?29)")                                                        \
    X(TASKS, "INSERT OR REPLACE INTO task (" SQL_TASK_COLUMNS ") VALUES " SQL_ROWS(SQL_TASK_ROW))                      \
    X(OUTCOMES_DONE, "INSERT OR IGNORE INTO outcome (" SQL_OUTCOME_COLUMNS ") VALUES " SQL_ROWS(SQL_DONE_ROW))         \
    X(OUTCOME_DELETE, "DELETE FROM outcome WHERE id BETWEEN ?1 AND ?2")                                                \
    X(FAILURE, "INSERT OR REPLACE INTO failure (" SQL_FAILURE_COLUMNS ", output)"                                      \
               " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)")                           \
    X(FAILURE_OUTPUT_DELETE, "UPDATE failure SET output = NULL"                                                        \
                             " WHERE task = ?1 AND attempt <= ?2 AND output IS NOT NULL")                              \
    X(FAILURE_DELETE, "DELETE FROM failure WHERE task BETWEEN ?1 AND ?2")                                              \
    X(READ_META, "SELECT uuid, inode, born_ns, epoch, is_clean, series_next, session_next, worker_next, call_next"     \
                 " FROM meta")                                                                                         \
    X(READ_CALLS, "SELECT id, queue, function, options FROM call ORDER BY id")                                         \
    X(READ_CALL, "SELECT id, queue, function, options FROM call WHERE id = ?1")                                        \
    X(READ_SESSIONS, "SELECT s.id, s.completion_last, s.acked_prefix, s.ordinal_high, s.failed, s.keep, s.is_ending,"  \
                     " s.created, s.used, s.expire_ms, s.owner, s.digest, s.name, s.owner_text, d.text"                \
                     " FROM session AS s LEFT JOIN description AS d ON d.session = s.id ORDER BY s.id")                \
    X(READ_TAKEN, "SELECT session, first, last FROM taken")                                                            \
    X(READ_SERIES, "SELECT session, id, submitted_high, instance, refused FROM series"                                 \
                   " ORDER BY session, id")                                                                            \
    X(READ_WORKERS, "SELECT id, pid, instance, name, host FROM worker ORDER BY id")                                    \
    X(READ_TASKS, "SELECT " SQL_TASK_COLUMNS " FROM task WHERE id >= ?1 ORDER BY id")                                  \
    X(READ_TASK_HEADS, "SELECT id, session, call, state, attempt, due, length(args) FROM task WHERE id >= ?1"          \
                       " ORDER BY id")                                                                                 \
    X(READ_TASKS_BETWEEN, "SELECT " SQL_TASK_COLUMNS " FROM task WHERE id BETWEEN ?1 AND ?2 ORDER BY id")              \
    X(READ_TASK, "SELECT " SQL_TASK_COLUMNS " FROM task WHERE id = ?1")                                                \
    X(READ_OUTCOMES, "SELECT id, session, completion, finished, size FROM outcome ORDER BY id")                        \
    X(READ_OUTCOME, "SELECT " SQL_OUTCOME_COLUMNS " FROM outcome WHERE id = ?1")                                       \
    X(READ_FAILURES, "SELECT " SQL_FAILURE_COLUMNS " FROM failure WHERE task = ?1 ORDER BY attempt LIMIT ?2")          \
    X(READ_ATTEMPT, "SELECT max(a) FROM (SELECT max(attempt) AS a FROM failure WHERE task = ?1"                        \
                    " UNION ALL SELECT attempt FROM outcome WHERE id = ?1)")                                           \
    X(READ_OUTPUT, "SELECT output FROM failure WHERE task = ?1 AND attempt = ?2 AND output IS NOT NULL"                \
                   " UNION ALL SELECT output FROM outcome WHERE id = ?1 AND attempt = ?2 AND output IS NOT NULL"       \
                   " LIMIT 1")                                                                                         \
    X(LIST_TASKS, "SELECT t.id, t.session, t.call, t.state, 0, t.attempts, t.created, 0, w.host, w.pid, NULL"          \
                  " FROM task AS t LEFT JOIN worker AS w ON w.id = t.worker"                                           \
                  " WHERE t.id < ?1 ORDER BY t.id DESC")                                                               \
    X(LIST_OUTCOMES, "SELECT id, session, call, state, cause, attempts, created, finished, worker, NULL, message"      \
                     " FROM outcome WHERE id < ?1 ORDER BY id DESC")

enum statement {
#define X(name, sql) STATEMENT_##name,
    STATEMENT_LIST(X)
#undef X
        STATEMENT_COUNT
};

/* ---- the file layer: SQLite's own, with its syncs counted and timed ---- */

struct store_files;
/* Wraps the default VFS of the process as it is now. only_looks: no file is changed, made, locked or removed. */
struct store_files *store_files_open(bool only_looks);
void store_files_close(struct store_files **files);
const char *store_files_name(const struct store_files *files);
uint64_t store_files_syncs(const struct store_files *files);
uint64_t store_files_sync_us(const struct store_files *files);

/* ---- the store ---- */

struct store {
    struct disk disk;
    struct store_files *files;
    struct sqlite3 *db;
    struct sqlite3_stmt *statements[STATEMENT_COUNT];
    struct sqlite3_stmt *held; /* whose row the caller still looks at; reset by the next call */
    struct limits limits;
    struct uuid uuid;
    uint32_t epoch;       /* 0: not open yet */
    bool is_failed;       /* what is on disk is not known any more: nothing further is written */
    int log_pages;        /* in the log since it was last copied into the database */
    int checkpoint_pages; /* at which it is copied */
    uint64_t batches;
    uint64_t rows;
    struct disk_facts facts;
    int64_t looked_ms;
    bool has_looked;
    char list_worker[HOST_NAME_SIZE_MAX + 32];
};

/* Reset what the last call left for its caller to look at. */
void store_release(struct store *store);
/* Rewind and hand out a statement. */
struct sqlite3_stmt *store_statement(struct store *store, enum statement which);
/* Step a statement that returns no row, and rewind it. SQLite's code; 0 is well. */
int store_run(struct store *store, enum statement which);
/* What an error of SQLite is to the caller of an opening or a read; *why_out, if asked for, a malloc'd sentence. */
enum quern_err store_err(const struct store *store, int code, char **why_out);

/* ---- store_sqlite_read.c ---- */

/* store_load without sweeping out what nothing refers to: writes nothing. */
QUERN_MUST_USE enum quern_err store_scan(struct store *store, const struct store_visitor *visitor, char **why_out);

/* ---- store_sqlite.c ---- */

/* Open the database through a layer that only looks, in exclusive mode; nothing but store->disk is needed. */
QUERN_MUST_USE enum quern_err store_look(struct store *store, char **why_out);
QUERN_MUST_USE enum quern_err store_prepare(struct store *store, char **why_out);

/* ---- store_sqlite_schema.c ---- */

/* An SQL query's number in its first column; SQLite's code. */
int store_read_number(struct store *store, const char *sql, int64_t *number_out);
extern const char *const schema_steps[];
extern const uint32_t schema_step_count;
/* Refuse what is no store or too new; bring an older store up to date, in one transaction, after copying it beside. */
QUERN_MUST_USE enum quern_err schema_check(struct store *store, bool *is_new_out, char **why_out);
QUERN_MUST_USE enum quern_err schema_migrate(struct store *store, const char *const *steps, uint32_t count,
                                             char **why_out);

#endif

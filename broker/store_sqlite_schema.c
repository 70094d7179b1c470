/*
 * The tables, and how a store of an older quern becomes one of this. Explained in SCHEMA.md.
 * Must not know rows or batches.
 * Start at schema_steps: the steps 1..N, each written once and never changed after a release.
 */
#include "broker/store_sqlite.h"
#include "common/check.h"
#include "common/log.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Small columns first, large ones last: what a row begins with can be read without its overflow pages. No secondary
 * indexes: a random one costs a factor of eight in inserts, and the broker looks things up in memory. */
static const char step_1[] =
    "CREATE TABLE meta ("
    " one INTEGER PRIMARY KEY CHECK (one = 1), uuid BLOB NOT NULL, inode INTEGER NOT NULL, born_ns INTEGER NOT NULL,"
    " epoch INTEGER NOT NULL, is_clean INTEGER NOT NULL, series_next INTEGER NOT NULL, session_next INTEGER NOT NULL,"
    " worker_next INTEGER NOT NULL, call_next INTEGER NOT NULL) STRICT;"
    "INSERT INTO meta VALUES (1, zeroblob(16), 0, 0, 0, 1, 1, 1, 1, 1);"
    "CREATE TABLE call ("
    " id INTEGER PRIMARY KEY, queue TEXT NOT NULL, function TEXT NOT NULL, options BLOB) STRICT;"
    "CREATE TABLE session ("
    " id INTEGER PRIMARY KEY, completion_last INTEGER NOT NULL, acked_prefix INTEGER NOT NULL,"
    " ordinal_high INTEGER NOT NULL, failed INTEGER NOT NULL, keep INTEGER NOT NULL, is_ending INTEGER NOT NULL,"
    " created INTEGER NOT NULL, used INTEGER NOT NULL, expire_ms INTEGER NOT NULL, owner BLOB NOT NULL,"
    " digest BLOB NOT NULL, name TEXT, owner_text TEXT) STRICT;"
    "CREATE TABLE taken ("
    " session INTEGER NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL,"
    " PRIMARY KEY (session, first)) STRICT, WITHOUT ROWID;"
    "CREATE TABLE description (session INTEGER PRIMARY KEY, text BLOB NOT NULL) STRICT;"
    "CREATE TABLE series ("
    " session INTEGER NOT NULL, id INTEGER NOT NULL, submitted_high INTEGER NOT NULL, instance BLOB NOT NULL,"
    " refused BLOB, PRIMARY KEY (session, id)) STRICT, WITHOUT ROWID;"
    "CREATE TABLE worker ("
    " id INTEGER PRIMARY KEY, pid INTEGER NOT NULL, instance BLOB NOT NULL, name TEXT, host TEXT) STRICT;"
    "CREATE TABLE task ("
    " id INTEGER PRIMARY KEY, session INTEGER NOT NULL, call INTEGER NOT NULL, state INTEGER NOT NULL,"
    " priority INTEGER NOT NULL, attempt INTEGER NOT NULL, epoch INTEGER NOT NULL, worker INTEGER NOT NULL,"
    " attempts INTEGER NOT NULL, crashes INTEGER NOT NULL, losses INTEGER NOT NULL, due INTEGER NOT NULL,"
    " created INTEGER NOT NULL, ordinal INTEGER NOT NULL, retry_of INTEGER NOT NULL, args BLOB) STRICT;"
    "CREATE TABLE outcome ("
    " id INTEGER PRIMARY KEY, session INTEGER NOT NULL, completion INTEGER NOT NULL, finished INTEGER NOT NULL,"
    " size INTEGER NOT NULL, call INTEGER NOT NULL, state INTEGER NOT NULL, cause INTEGER NOT NULL,"
    " attempt INTEGER NOT NULL, attempts INTEGER NOT NULL, signal INTEGER NOT NULL, exit_status INTEGER NOT NULL,"
    " created INTEGER NOT NULL, started INTEGER NOT NULL, run_us INTEGER NOT NULL, cpu_us INTEGER NOT NULL,"
    " peak INTEGER NOT NULL, ordinal INTEGER NOT NULL, retry_of INTEGER NOT NULL, args_size INTEGER NOT NULL,"
    " args_hash INTEGER NOT NULL, worker TEXT, kind TEXT, message TEXT, detail BLOB, report BLOB, args BLOB,"
    " result BLOB) STRICT;"
    "CREATE TABLE failure ("
    " task INTEGER NOT NULL, attempt INTEGER NOT NULL, at INTEGER NOT NULL, cause INTEGER NOT NULL,"
    " signal INTEGER NOT NULL, exit_status INTEGER NOT NULL, run_us INTEGER NOT NULL, cpu_us INTEGER NOT NULL,"
    " peak INTEGER NOT NULL, worker TEXT, kind TEXT, message TEXT, detail BLOB, report BLOB,"
    " PRIMARY KEY (task, attempt)) STRICT, WITHOUT ROWID;";

/* What attempts wrote: in the row that each has anyway. */
static const char step_2[] = "ALTER TABLE outcome ADD COLUMN output BLOB;"
                             "ALTER TABLE failure ADD COLUMN output BLOB;";

const char *const schema_steps[] = {step_1, step_2};
const uint32_t schema_step_count = sizeof schema_steps / sizeof schema_steps[0];

int store_read_number(struct store *store, const char *sql, int64_t *number_out)
{
    sqlite3_stmt *statement = NULL;
    int code = sqlite3_prepare_v2(store->db, sql, -1, &statement, NULL);
    if (code == SQLITE_OK) {
        code = sqlite3_step(statement);
    }
    if (code == SQLITE_ROW) {
        *number_out = sqlite3_column_int64(statement, 0);
        code = SQLITE_OK;
    }
    sqlite3_finalize(statement);
    return code;
}

enum quern_err schema_check(struct store *store, bool *is_new_out, char **why_out)
{
    int64_t application = 0;
    int64_t version = 0;
    int64_t tables = 0;
    int code = store_read_number(store, "PRAGMA application_id", &application);
    code = code != SQLITE_OK ? code : store_read_number(store, "PRAGMA user_version", &version);
    code = code != SQLITE_OK ? code : store_read_number(store, "SELECT count(*) FROM sqlite_schema", &tables);
    if (code != SQLITE_OK) {
        return store_err(store, code, why_out);
    }
    /* A store is made in one transaction: it is there, or there is nothing at all. */
    *is_new_out = application == 0 && version == 0 && tables == 0;
    if (*is_new_out) {
        return QUERN_OK;
    }
    if (application != STORE_APPLICATION_ID) {
        *why_out = sentence("%s is a database of some other program, not a quern store", store->disk.path);
        return QUERN_MALFORMED;
    }
    if (version < 1) {
        *why_out = sentence("%s is damaged: a quern store of version %" PRId64, store->disk.path, version);
        return QUERN_MALFORMED;
    }
    if (version > schema_step_count) {
        *why_out = sentence("%s was written by a newer quern (store version %" PRId64 ", this one knows %" PRIu32
                            "): use that one",
                            store->disk.path, version, schema_step_count);
        return QUERN_VERSION;
    }
    return QUERN_OK;
}

static bool sync_path(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    bool done = fd >= 0 && fsync(fd) == 0;
    if (fd >= 0) {
        close(fd);
    }
    return done;
}

/* The store as it was, beside it, before a step changes it. */
static enum quern_err copy_beside(struct store *store, int64_t version, char **why_out)
{
    char *copy = sentence("%s.version-%" PRId64, store->disk.path, version);
    char *half = sentence("%s.part", copy);
    char *sql = sqlite3_mprintf("VACUUM INTO %Q", half);
    CHECK(sql != NULL);
    unlink(half);
    enum quern_err err = QUERN_OK;
    if (sqlite3_exec(store->db, sql, NULL, NULL, NULL) != SQLITE_OK) {
        *why_out = sentence("copy %s before bringing the store up to date: %s", copy, sqlite3_errmsg(store->db));
        err = QUERN_IO;
    } else if (!sync_path(half) || rename(half, copy) != 0 || !disk_sync_directory(copy)) {
        *why_out = sentence("copy %s before bringing the store up to date: %s", copy, strerror(errno));
        err = QUERN_IO;
    }
    sqlite3_free(sql);
    free(half);
    free(copy);
    return err;
}

static int run_steps(struct store *store, const char *const *steps, int64_t from, uint32_t count)
{
    int code = sqlite3_exec(store->db, "BEGIN IMMEDIATE", NULL, NULL, NULL);
    for (int64_t step = from; step < count && code == SQLITE_OK; step++) {
        code = sqlite3_exec(store->db, steps[step], NULL, NULL, NULL);
    }
    if (code == SQLITE_OK) {
        char sql[128];
        snprintf(sql, sizeof sql, "PRAGMA application_id = %d; PRAGMA user_version = %" PRIu32 "; COMMIT",
                 STORE_APPLICATION_ID, count);
        code = sqlite3_exec(store->db, sql, NULL, NULL, NULL);
    }
    return code;
}

enum quern_err schema_migrate(struct store *store, const char *const *steps, uint32_t count, char **why_out)
{
    int64_t version = 0;
    int code = store_read_number(store, "PRAGMA user_version", &version);
    if (code != SQLITE_OK) {
        return store_err(store, code, why_out);
    }
    if (version >= count) {
        return QUERN_OK;
    }
    if (version > 0) {
        enum quern_err err = copy_beside(store, version, why_out);
        if (err != QUERN_OK) {
            return err;
        }
        log_event(LOG_INFO, "store brought up to date", "from=%" PRId64 " to=%" PRIu32, version, count);
    }
    code = run_steps(store, steps, version, count);
    if (code != SQLITE_OK) {
        enum quern_err err = store_err(store, code, why_out);
        if (!sqlite3_get_autocommit(store->db)) {
            sqlite3_exec(store->db, "ROLLBACK", NULL, NULL, NULL);
        }
        return err;
    }
    return QUERN_OK;
}

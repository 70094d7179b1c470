/*
 * The store on SQLite: opening, state, closing. Knows the file system through disk.h.
 * Must not know what rows mean, nor decide anything about tasks. Commits: store_sqlite_apply.c.
 * Start at store_open and open_database: they are the order of a start.
 */
#include "broker/store_sqlite.h"
#include "common/check.h"
#include "common/clock.h"
#include "common/log.h"

#include <inttypes.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define LOOK_MS 1000

/* ---- statements ---- */

static const char *const statement_sql[] = {
#define X(name, sql) [STATEMENT_##name] = sql,
    STATEMENT_LIST(X)
#undef X
};

void store_release(struct store *store)
{
    if (store->held != NULL) {
        sqlite3_reset(store->held);
        store->held = NULL;
    }
}

sqlite3_stmt *store_statement(struct store *store, enum statement which)
{
    sqlite3_stmt *statement = store->statements[which];
    sqlite3_reset(statement);
    return statement;
}

int store_run(struct store *store, enum statement which)
{
    int code = sqlite3_step(store->statements[which]);
    CHECK(code != SQLITE_ROW);
    sqlite3_reset(store->statements[which]);
    return code == SQLITE_DONE ? SQLITE_OK : code;
}

enum quern_err store_err(const struct store *store, int code, char **why_out)
{
    enum quern_err err = QUERN_IO;
    const char *what = "cannot be read or written";
    switch (code & 0xff) {
    case SQLITE_BUSY:
        err = QUERN_IN_USE;
        what = "is in use by another process";
        break;
    case SQLITE_READONLY:
    case SQLITE_PERM:
        err = QUERN_DENIED;
        what = "may not be written by this user";
        break;
    case SQLITE_NOTADB:
        err = QUERN_MALFORMED;
        what = "is not a quern store";
        break;
    case SQLITE_CORRUPT:
    case SQLITE_ERROR: /* a table or column that should be there is not */
    case SQLITE_MISMATCH:
    case SQLITE_CONSTRAINT:
        err = QUERN_MALFORMED;
        what = "is damaged: restore a backup, or see what `quern-broker --check` says";
        break;
    case SQLITE_FULL:
        what = "cannot be written: the disk is full";
        break;
    case SQLITE_NOMEM:
        what = "cannot be read or written: memory is used up";
        break;
    default:
        break;
    }
    if (why_out != NULL) {
        *why_out = sentence("%s %s (%s, SQLite code %d)", store->disk.path, what, sqlite3_errmsg(store->db), code);
    }
    return err;
}

/* ---- opening ---- */

static int on_commit(void *context, sqlite3 *db, const char *name, int pages)
{
    (void)db;
    (void)name;
    ((struct store *)context)->log_pages = pages;
    return SQLITE_OK;
}

/* otherwise: what it is if the answer is another one. */
static enum quern_err read_word(struct store *store, const char *sql, const char *wanted, enum quern_err otherwise,
                                char **why_out)
{
    sqlite3_stmt *statement = NULL;
    int code = sqlite3_prepare_v2(store->db, sql, -1, &statement, NULL);
    code = code != SQLITE_OK ? code : sqlite3_step(statement);
    enum quern_err err = QUERN_OK;
    const char *answer = code == SQLITE_ROW ? (const char *)sqlite3_column_text(statement, 0) : NULL;
    if (answer == NULL) {
        err = store_err(store, code == SQLITE_ROW ? SQLITE_NOMEM : code, why_out);
    } else if (strcmp(answer, wanted) != 0) {
        *why_out = sentence("%s: \"%s\" answers %s instead of %s", store->disk.path, sql, answer, wanted);
        err = otherwise;
    }
    sqlite3_finalize(statement);
    return err;
}

static enum quern_err connect_database(struct store *store, bool only_looks, char **why_out)
{
    int flags = SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE | SQLITE_OPEN_NOFOLLOW;
    flags |= only_looks ? SQLITE_OPEN_READONLY : SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE;
    /* Counting its own memory costs SQLite a lock per allocation. Too late if it runs already, and harmless then. */
    sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0);
    store->files = store_files_open(only_looks);
    int code = sqlite3_open_v2(store->disk.path, &store->db, flags, store_files_name(store->files));
    if (code != SQLITE_OK) {
        return store_err(store, code, why_out);
    }
    sqlite3_busy_timeout(store->db, STORE_BUSY_MS);
    sqlite3_wal_hook(store->db, on_commit, store);
    /* Before the first look into the file: so the log's index is in memory, and nobody else gets in. */
    return read_word(store, "PRAGMA locking_mode = EXCLUSIVE", "exclusive", QUERN_IO, why_out);
}

static enum quern_err set_pragmas(struct store *store, char **why_out)
{
    char *sql = sentence("PRAGMA page_size = %d; PRAGMA auto_vacuum = NONE; PRAGMA journal_size_limit = %" PRIu64 ";"
                         "PRAGMA cache_size = -8192; PRAGMA cache_spill = OFF; PRAGMA secure_delete = OFF; PRAGMA mmap_size = 0;"
                         "PRAGMA temp_store = MEMORY; PRAGMA cell_size_check = ON; PRAGMA trusted_schema = OFF;"
                         "PRAGMA synchronous = FULL;",
                         STORE_PAGE_SIZE, store->limits.wal_bytes_max);
    int code = sqlite3_exec(store->db, sql, NULL, NULL, NULL);
    free(sql);
    if (code != SQLITE_OK) {
        return store_err(store, code, why_out);
    }
    enum quern_err err = read_word(store, "PRAGMA journal_mode = WAL", "wal", QUERN_IO, why_out);
    /* FULL is 2: the log is synced with every commit. All promises rest on it. */
    return err != QUERN_OK ? err : read_word(store, "PRAGMA synchronous", "2", QUERN_IO, why_out);
}

enum quern_err store_prepare(struct store *store, char **why_out)
{
    for (size_t i = 0; i < STATEMENT_COUNT; i++) {
        int code =
            sqlite3_prepare_v3(store->db, statement_sql[i], -1, SQLITE_PREPARE_PERSISTENT, &store->statements[i], NULL);
        if (code != SQLITE_OK) {
            return store_err(store, code, why_out);
        }
    }
    return QUERN_OK;
}

static enum quern_err read_meta(struct store *store, struct store_facts *facts_out, struct file_identity *identity_out,
                                char **why_out)
{
    sqlite3_stmt *statement = store_statement(store, STATEMENT_READ_META);
    int code = sqlite3_step(statement);
    if (code != SQLITE_ROW) {
        return store_err(store, code == SQLITE_DONE ? SQLITE_CORRUPT : code, why_out);
    }
    int64_t epoch = sqlite3_column_int64(statement, 3);
    bool is_whole = sqlite3_column_bytes(statement, 0) == UUID_SIZE && epoch >= 0 && epoch < UINT32_MAX;
    if (is_whole) {
        memcpy(facts_out->uuid.b, sqlite3_column_blob(statement, 0), UUID_SIZE);
        identity_out->inode = (uint64_t)sqlite3_column_int64(statement, 1);
        identity_out->born_ns = sqlite3_column_int64(statement, 2);
        facts_out->epoch = (uint32_t)epoch;
        facts_out->was_clean = sqlite3_column_int64(statement, 4) != 0;
        facts_out->meta = (struct meta_row){.series_next = (uint64_t)sqlite3_column_int64(statement, 5),
                                            .session_next = (uint64_t)sqlite3_column_int64(statement, 6),
                                            .worker_next = (uint64_t)sqlite3_column_int64(statement, 7),
                                            .call_next = (uint64_t)sqlite3_column_int64(statement, 8)};
    }
    sqlite3_reset(statement);
    return is_whole ? QUERN_OK : store_err(store, SQLITE_CORRUPT, why_out);
}

/* Before the first write: what is refused is left as it is. */
static enum quern_err check_pages(struct store *store, bool is_suspect, char **why_out)
{
    struct disk_facts facts;
    if (disk_look(&store->disk, &facts) != QUERN_OK ||
        facts.file_bytes > (is_suspect ? STORE_QUICK_CHECK_BYTES : STORE_ALWAYS_CHECK_BYTES)) {
        return QUERN_OK;
    }
    enum quern_err err = read_word(store, "PRAGMA quick_check(1)", "ok", QUERN_MALFORMED, why_out);
    if (err == QUERN_MALFORMED) {
        free(*why_out);
        *why_out = sentence("%s is damaged: restore a backup (`quern-broker --check --db %s` says more)",
                            store->disk.path, store->disk.path);
    }
    return err;
}

/* A copy of a store, or one that has gone back in time under the same name, must not speak for the one that workers
 * and clients know: it gets an identity of its own. */
static void choose_uuid(const struct store *store, struct store_facts *facts, const struct file_identity *known,
                        const struct file_identity *now)
{
    struct uuid last;
    uint32_t last_epoch;
    bool is_copy = !file_identity_same(known, now);
    bool is_older = disk_read_life(&store->disk, &last, &last_epoch) && uuid_equal(&last, &facts->uuid) &&
                    last_epoch > facts->epoch;
    if (facts->is_new || is_copy || is_older) {
        facts->uuid = uuid_random();
    }
    if (!facts->is_new && (is_copy || is_older)) {
        log_event(LOG_WARN, "store was copied or restored, it has a new identity", "path=\"%s\" reason=\"%s\"",
                  store->disk.path, is_copy ? "another file" : "older than its lock file");
    }
}

static int raise_epoch_once(struct store *store, const struct store_facts *facts, const struct file_identity *identity)
{
    sqlite3_stmt *statement = store_statement(store, STATEMENT_EPOCH);
    sqlite3_bind_int64(statement, 1, facts->epoch);
    sqlite3_bind_blob(statement, 2, facts->uuid.b, UUID_SIZE, SQLITE_STATIC);
    sqlite3_bind_int64(statement, 3, (int64_t)identity->inode);
    sqlite3_bind_int64(statement, 4, identity->born_ns);
    int code = store_run(store, STATEMENT_BEGIN);
    code = code != SQLITE_OK ? code : store_run(store, STATEMENT_EPOCH);
    code = code != SQLITE_OK ? code : store_run(store, STATEMENT_COMMIT);
    if (code != SQLITE_OK && !sqlite3_get_autocommit(store->db)) {
        store_run(store, STATEMENT_ROLLBACK);
    }
    return code;
}

static enum quern_err raise_epoch(struct store *store, struct store_facts *facts, char **why_out)
{
    struct file_identity known = {0};
    struct file_identity now = {0};
    enum quern_err err = read_meta(store, facts, &known, why_out);
    if (err != QUERN_OK) {
        return err;
    }
    if (!disk_identity(&store->disk, &now)) {
        *why_out = sentence("%s: cannot be looked at", store->disk.path);
        return QUERN_IO;
    }
    if (!facts->is_new) {
        err = check_pages(store, !facts->was_clean || !file_identity_same(&known, &now), why_out);
    }
    if (err != QUERN_OK) {
        return err;
    }
    choose_uuid(store, facts, &known, &now);
    facts->epoch++;
    int code = raise_epoch_once(store, facts, &now);
    if ((code & 0xff) == SQLITE_FULL && disk_ballast_give_up(&store->disk)) {
        code = raise_epoch_once(store, facts, &now);
    }
    return code == SQLITE_OK ? QUERN_OK : store_err(store, code, why_out);
}

static enum quern_err open_database(struct store *store, struct store_facts *facts, char **why_out)
{
    enum quern_err err = connect_database(store, false, why_out);
    err = err != QUERN_OK ? err : schema_check(store, &facts->is_new, why_out);
    err = err != QUERN_OK ? err : set_pragmas(store, why_out);
    err = err != QUERN_OK ? err : schema_migrate(store, schema_steps, schema_step_count, why_out);
    err = err != QUERN_OK ? err : store_prepare(store, why_out);
    return err != QUERN_OK ? err : raise_epoch(store, facts, why_out);
}

enum quern_err store_look(struct store *store, char **why_out)
{
    return connect_database(store, true, why_out);
}

static void settle(struct store *store, const struct store_facts *facts)
{
    store->uuid = facts->uuid;
    store->epoch = facts->epoch;
    sqlite3_busy_timeout(store->db, 0);
    disk_pin(&store->disk);
    disk_write_life(&store->disk, &store->uuid, store->epoch);
    if (!store->disk.ballast_given_up) {
        disk_ballast_make(&store->disk);
    }
}

enum quern_err store_open(const char *path, const struct limits *limits, struct store **store_out,
                          struct store_facts *facts_out, char **why_out)
{
    struct store *store = xcalloc(1, sizeof *store);
    mode_t mask = umask(077);
    store->limits = *limits;
    store->checkpoint_pages = STORE_CHECKPOINT_PAGES;
    *store_out = NULL;
    *why_out = NULL;
    *facts_out = (struct store_facts){0};
    enum quern_err err = disk_open(&store->disk, path, limits, why_out);
    err = err != QUERN_OK ? err : disk_renew_log(&store->disk, why_out);
    if (err == QUERN_OK) {
        disk_read_ahead(&store->disk, STORE_QUICK_CHECK_BYTES);
        err = open_database(store, facts_out, why_out);
    }
    if (err == QUERN_OK) {
        settle(store, facts_out);
        *store_out = store;
    } else {
        store->is_failed = true;
        store_close(&store, false);
    }
    umask(mask);
    return err;
}

void store_close(struct store **store_io, bool is_clean)
{
    struct store *store = *store_io;
    if (store == NULL) {
        return;
    }
    *store_io = NULL;
    bool is_marked = is_clean && !store->is_failed && store->epoch != 0;
    if (is_marked) {
        store_release(store);
        is_marked = store_run(store, STATEMENT_CLEAN) == SQLITE_OK;
    }
    if (store->db != NULL) {
        /* After a failure nothing more is written, not even by SQLite's own last checkpoint. */
        sqlite3_db_config(store->db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, is_marked ? 0 : 1, NULL);
        for (size_t i = 0; i < STATEMENT_COUNT; i++) {
            sqlite3_finalize(store->statements[i]);
        }
        int code = sqlite3_close(store->db);
        CHECK_THAT(code == SQLITE_OK, "code %d", code);
    }
    store_files_close(&store->files);
    disk_close(&store->disk); /* the lock last */
    free(store);
}

/* ---- state ---- */

enum quern_err store_stats(struct store *store, struct store_stats *stats_out)
{
    int64_t now = clock_mono_ms();
    enum quern_err err = QUERN_OK;
    if (!store->has_looked || now - store->looked_ms >= LOOK_MS) {
        err = disk_look(&store->disk, &store->facts);
        store->looked_ms = now;
        store->has_looked = true;
    }
    *stats_out = (struct store_stats){.batches = store->batches,
                                      .rows = store->rows,
                                      .syncs = store_files_syncs(store->files),
                                      .sync_us = store_files_sync_us(store->files),
                                      .file_bytes = store->facts.file_bytes,
                                      .wal_bytes = store->facts.wal_bytes,
                                      .disk_free_bytes = store->facts.free_bytes,
                                      .disk_low = store->facts.is_low || store->disk.ballast_given_up,
                                      .ballast_given_up = store->disk.ballast_given_up};
    return err;
}

/*
 * A copy of the store under load. Pages are copied in slices through the store's own connection, which brings what is
 * committed meanwhile into the copy too; what follows needs the copy alone and may take its time elsewhere.
 * Must not know who wants it.
 * Start at backup_open; the order of the end, which makes it a file that is whole or not there, is in backup_finish.
 */
#include "broker/store_sqlite.h"
#include "common/check.h"
#include "common/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define STEP_PAGES 16
/* The kernel is asked to write what was copied this often, so that neither a commit nor the last sync meets all of it.
 */
#define WRITE_OUT_BYTES (8 * MIB)
/* Steps of SQLite's machine between two looks whether the end was asked for. */
#define FINISH_LOOK_STEPS 10000

struct backup {
    struct store *store; /* NULL once all is copied */
    char *path;
    char *half;
    int fd; /* of the half, to have it written out and synced */
    sqlite3 *to;
    sqlite3_backup *copying;
    uint64_t written_out;
    bool is_named;
    atomic_bool is_cancelled;
};

/* ---- the half ---- */

/* A half that a killed broker left, and what SQLite may have put beside it. */
static void remove_half(const char *half)
{
    static const char *const beside[] = {"", "-wal", "-journal"};
    for (size_t i = 0; i < sizeof beside / sizeof beside[0]; i++) {
        char *path = sentence("%s%s", half, beside[i]);
        unlink(path);
        free(path);
    }
}

static enum quern_err refuse_if_there(const char *path, char **why_out)
{
    struct stat st;
    if (lstat(path, &st) == 0) {
        *why_out = sentence("%s is there already: name another file, nothing is overwritten", path);
        return QUERN_DENIED;
    }
    if (errno != ENOENT) {
        *why_out = sentence("%s: %s", path, strerror(errno));
        return QUERN_IO;
    }
    return QUERN_OK;
}

static enum quern_err refuse_if_too_large(const struct store *store, const char *half, uint64_t bytes, char **why_out)
{
    struct statvfs to;
    struct stat from;
    struct stat half_st;
    if (statvfs(half, &to) != 0 || stat(half, &half_st) != 0 || stat(store->disk.path, &from) != 0) {
        *why_out = sentence("%s: %s", half, strerror(errno));
        return QUERN_IO;
    }
    uint64_t is_free = (uint64_t)to.f_bavail * to.f_frsize;
    uint64_t needed = bytes + (half_st.st_dev == from.st_dev ? store->disk.free_floor : 0);
    if (is_free < needed) {
        *why_out =
            sentence("no room for a copy of %" PRIu64 " MiB: %" PRIu64 " MiB are free where it is to be%s", bytes / MIB,
                     is_free / MIB, half_st.st_dev == from.st_dev ? ", and the store's own reserve is there too" : "");
        return QUERN_DISK;
    }
    return QUERN_OK;
}

static enum quern_err make_half(struct backup *backup, char **why_out)
{
    remove_half(backup->half);
    backup->fd = open(backup->half, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (backup->fd < 0) {
        *why_out = sentence("%s: %s", backup->half, strerror(errno));
        return QUERN_IO;
    }
    return QUERN_OK;
}

/* ---- copying, between two commits ---- */

static enum quern_err copy_err(const struct backup *backup, int code, char **why_out)
{
    *why_out = sentence("copying into %s: %s", backup->half,
                        (code & 0xff) == SQLITE_FULL ? "the disk is full" : sqlite3_errstr(code));
    return (code & 0xff) == SQLITE_FULL ? QUERN_DISK : QUERN_IO;
}

static int start_copying(struct backup *backup)
{
    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE | SQLITE_OPEN_NOFOLLOW;
    int code = sqlite3_open_v2(backup->half, &backup->to, flags, NULL);
    if (code == SQLITE_OK) {
        /* Half a copy is worth nothing: it needs neither a journal nor a sync before it is whole. */
        code = sqlite3_exec(backup->to,
                            "PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;"
                            "PRAGMA cache_size = -1024",
                            NULL, NULL, NULL);
    }
    if (code == SQLITE_OK) {
        backup->copying = sqlite3_backup_init(backup->to, "main", backup->store->db, "main");
        code = backup->copying != NULL ? SQLITE_OK : sqlite3_errcode(backup->to);
    }
    return code;
}

enum quern_err backup_open(struct store *store, const char *path, struct backup **backup_out, char **why_out)
{
    struct backup *backup = xcalloc(1, sizeof *backup);
    int64_t pages = 0;
    store_release(store);
    backup->store = store;
    backup->path = xstrdup(path);
    backup->half = sentence("%s.part", path);
    backup->fd = -1;
    *why_out = NULL;
    enum quern_err err = refuse_if_there(path, why_out);
    err = err != QUERN_OK ? err : make_half(backup, why_out);
    if (err == QUERN_OK && store_read_number(store, "PRAGMA page_count", &pages) != SQLITE_OK) {
        err = store_err(store, sqlite3_errcode(store->db), why_out);
    }
    err = err != QUERN_OK ? err : refuse_if_too_large(store, backup->half, (uint64_t)pages * STORE_PAGE_SIZE, why_out);
    if (err == QUERN_OK) {
        int code = start_copying(backup);
        err = code == SQLITE_OK ? QUERN_OK : copy_err(backup, code, why_out);
    }
    if (err != QUERN_OK) {
        backup_close(&backup);
    }
    *backup_out = backup;
    return err;
}

static void write_out(struct backup *backup)
{
    uint64_t copied = 0;
    uint64_t all = 0;
    backup_progress(backup, &copied, &all);
    if (copied >= backup->written_out + WRITE_OUT_BYTES) {
        (void)sync_file_range(backup->fd, (off_t)backup->written_out, (off_t)(copied - backup->written_out),
                              SYNC_FILE_RANGE_WRITE);
        backup->written_out = copied;
    }
}

enum quern_err backup_slice(struct backup *backup, uint64_t slice_us, char **why_out)
{
    int64_t end_us = clock_mono_us() + (int64_t)slice_us;
    int code;
    store_release(backup->store);
    do {
        code = sqlite3_backup_step(backup->copying, STEP_PAGES);
    } while (code == SQLITE_OK && clock_mono_us() < end_us);
    write_out(backup);
    if (code == SQLITE_OK) {
        return QUERN_OK;
    }
    if (code == SQLITE_DONE) {
        code = sqlite3_backup_finish(backup->copying);
        backup->copying = NULL;
        backup->store = NULL;
    }
    return code == SQLITE_OK ? QUERN_END : copy_err(backup, code, why_out);
}

void backup_progress(const struct backup *backup, uint64_t *copied_out, uint64_t *all_out)
{
    uint64_t all = backup->copying != NULL ? (uint64_t)sqlite3_backup_pagecount(backup->copying) : 0;
    uint64_t left = backup->copying != NULL ? (uint64_t)sqlite3_backup_remaining(backup->copying) : 0;
    *all_out = all * STORE_PAGE_SIZE;
    *copied_out = (all - left) * STORE_PAGE_SIZE;
}

/* ---- the end: of the copy alone ---- */

static int stop_if_cancelled(void *context)
{
    return atomic_load(&((struct backup *)context)->is_cancelled);
}

static bool answers_ok(sqlite3 *db, const char *sql)
{
    sqlite3_stmt *statement = NULL;
    bool is_row =
        sqlite3_prepare_v2(db, sql, -1, &statement, NULL) == SQLITE_OK && sqlite3_step(statement) == SQLITE_ROW;
    const char *answer = is_row ? (const char *)sqlite3_column_text(statement, 0) : NULL;
    bool is_ok = answer != NULL && strcmp(answer, "ok") == 0;
    sqlite3_finalize(statement);
    return is_ok;
}

/* One file without a log, no longer the file that it was copied from: whoever opens it gives it an identity of its own.
 */
static int settle_copy(struct backup *backup)
{
    int code = sqlite3_exec(
        backup->to, "PRAGMA journal_mode = MEMORY; UPDATE meta SET inode = 0, born_ns = 0; PRAGMA cache_size = -65536",
        NULL, NULL, NULL);
    if (code == SQLITE_OK) {
        sqlite3_progress_handler(backup->to, FINISH_LOOK_STEPS, stop_if_cancelled, backup);
        code = answers_ok(backup->to, "PRAGMA quick_check(1)") ? SQLITE_OK : SQLITE_CORRUPT;
    }
    return code;
}

/* Never over another file: link fails where rename would replace. */
static bool give_name(struct backup *backup)
{
    if (renameat2(AT_FDCWD, backup->half, AT_FDCWD, backup->path, RENAME_NOREPLACE) != 0) {
        if (errno != EINVAL || link(backup->half, backup->path) != 0 || unlink(backup->half) != 0) {
            return false;
        }
    }
    backup->is_named = true;
    return true;
}

enum quern_err backup_finish(struct backup *backup, uint64_t *bytes_out, char **why_out)
{
    struct stat st;
    int code = settle_copy(backup);
    if (atomic_load(&backup->is_cancelled)) {
        *why_out = sentence("the broker is ending");
        return QUERN_DRAINING;
    }
    if (code != SQLITE_OK) {
        *why_out =
            sentence("the copy of the store is not whole (%s): see what `quern-broker --check` says of the store once "
                     "its broker has ended",
                     sqlite3_errmsg(backup->to));
        return QUERN_IO;
    }
    code = sqlite3_close(backup->to);
    CHECK_THAT(code == SQLITE_OK, "code %d", code);
    backup->to = NULL;
    if (fsync(backup->fd) != 0 || fstat(backup->fd, &st) != 0 || !give_name(backup) ||
        !disk_sync_directory(backup->path)) {
        *why_out = errno == EEXIST ? sentence("%s was made meanwhile: nothing is overwritten", backup->path)
                                   : sentence("%s: %s", backup->path, strerror(errno));
        return errno == EEXIST ? QUERN_DENIED : QUERN_IO;
    }
    *bytes_out = (uint64_t)st.st_size;
    return QUERN_OK;
}

void backup_cancel(struct backup *backup)
{
    atomic_store(&backup->is_cancelled, true);
}

void backup_close(struct backup **backup_io)
{
    struct backup *backup = *backup_io;
    if (backup == NULL) {
        return;
    }
    *backup_io = NULL;
    if (backup->copying != NULL) {
        sqlite3_backup_finish(backup->copying);
    }
    if (backup->to != NULL) {
        sqlite3_close(backup->to);
    }
    if (backup->fd >= 0) {
        close(backup->fd);
        if (!backup->is_named) {
            remove_half(backup->half);
        }
    }
    free(backup->half);
    free(backup->path);
    free(backup);
}

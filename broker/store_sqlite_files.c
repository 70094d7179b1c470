/*
 * store_files: a thin layer between SQLite and its own VFS that counts and times syncs, calls a used-up quota a full
 * disk, and gathers writes. Must not know what is in the files. Has no shared memory on purpose: a database in WAL mode
 * can then only be opened in exclusive mode, so the rule "one connection" does not hang on a pragma alone. Start at
 * files_open.
 *
 * SQLite writes each page of the log in two pieces and each page of the database by itself: two system calls and more
 * for every 4 KiB. Writes that follow one another are gathered and go to the file as one, before it is read, cut,
 * measured or synced, so that reads see them and a sync covers them. Nobody else looks into the file (exclusive mode),
 * and no promise rests on what is not synced yet. What fails then is told by the next write or sync, whose results
 * SQLite heeds (it does not heed those of every truncation and hint): it gives the transaction or the checkpoint up, as
 * it does when a write fails at once.
 */
#include "broker/store_sqlite.h"
#include "common/check.h"
#include "common/clock.h"

#include <errno.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct store_files {
    sqlite3_vfs vfs;
    sqlite3_vfs *base;
    uint64_t syncs;
    bool only_looks;
    uint64_t sync_us;
    char name[32];
};

/* SQLite's own VFS takes the length of a write modulo 128 KiB. */
#define GATHER_SIZE (124u * 1024u)

struct file {
    sqlite3_file head;
    struct store_files *files;
    char *gathered; /* NULL: every write goes by itself */
    size_t gathered_size;
    sqlite3_int64 gathered_at;
    int failed; /* a code that the next write or sync tells; SQLITE_OK: none */
    /* the file of the base VFS follows */
};

static sqlite3_file *base_of(sqlite3_file *head)
{
    return (sqlite3_file *)((struct file *)head + 1);
}

static int write_at_once(sqlite3_file *head, const void *p, int n, sqlite3_int64 at)
{
    int code = base_of(head)->pMethods->xWrite(base_of(head), p, n, at);
    /* SQLite calls ENOSPC and a short write FULL by itself. A quota is just as safe to try again: nothing of this
     * write that counts is in the file, and no sync has failed. */
    return code == SQLITE_IOERR_WRITE && errno == EDQUOT ? SQLITE_FULL : code;
}

/* What was gathered goes to the file; after a failure it is nowhere. */
static int gathered_write(sqlite3_file *head)
{
    struct file *file = (struct file *)head;
    size_t size = file->gathered_size;
    file->gathered_size = 0;
    if (size > 0) {
        int code = write_at_once(head, file->gathered, (int)size, file->gathered_at);
        file->failed = code != SQLITE_OK ? code : file->failed;
    }
    return file->failed;
}

/* The same, and a failure is told here. */
static int gathered_tell(sqlite3_file *head)
{
    int code = gathered_write(head);
    ((struct file *)head)->failed = SQLITE_OK;
    return code;
}

static int file_write(sqlite3_file *head, const void *p, int n, sqlite3_int64 at)
{
    struct file *file = (struct file *)head;
    bool follows = file->gathered_size > 0 && at == file->gathered_at + (sqlite3_int64)file->gathered_size &&
                   file->gathered_size + (size_t)n <= GATHER_SIZE;
    int code = follows ? SQLITE_OK : gathered_tell(head);
    if (code != SQLITE_OK) {
        return code;
    }
    if (file->gathered == NULL || (size_t)n > GATHER_SIZE) {
        return write_at_once(head, p, n, at);
    }
    file->gathered_at = file->gathered_size == 0 ? at : file->gathered_at;
    memcpy(file->gathered + file->gathered_size, p, (size_t)n);
    file->gathered_size += (size_t)n;
    return SQLITE_OK;
}

static int file_close(sqlite3_file *head)
{
    struct file *file = (struct file *)head;
    (void)gathered_write(head); /* not synced, and nobody waits for it */
    free(file->gathered);
    file->gathered = NULL;
    return base_of(head)->pMethods->xClose(base_of(head));
}

static int file_read(sqlite3_file *head, void *p, int n, sqlite3_int64 at)
{
    int code = gathered_write(head);
    return code != SQLITE_OK ? code : base_of(head)->pMethods->xRead(base_of(head), p, n, at);
}

static int file_truncate(sqlite3_file *head, sqlite3_int64 size)
{
    int code = gathered_write(head);
    return code != SQLITE_OK ? code : base_of(head)->pMethods->xTruncate(base_of(head), size);
}

static int file_sync(sqlite3_file *head, int flags)
{
    struct store_files *files = ((struct file *)head)->files;
    int code = gathered_tell(head);
    if (code != SQLITE_OK) {
        return code; /* no sync has failed: what a full disk did not take may be tried again */
    }
    int64_t begun_us = clock_mono_us();
    code = base_of(head)->pMethods->xSync(base_of(head), flags);
    files->syncs++;
    files->sync_us += (uint64_t)(clock_mono_us() - begun_us);
    return code;
}

static int file_size(sqlite3_file *head, sqlite3_int64 *size_out)
{
    int code = gathered_write(head);
    return code != SQLITE_OK ? code : base_of(head)->pMethods->xFileSize(base_of(head), size_out);
}

static int file_lock(sqlite3_file *head, int level)
{
    return base_of(head)->pMethods->xLock(base_of(head), level);
}

static int file_unlock(sqlite3_file *head, int level)
{
    return base_of(head)->pMethods->xUnlock(base_of(head), level);
}

static int file_check_reserved(sqlite3_file *head, int *out)
{
    return base_of(head)->pMethods->xCheckReservedLock(base_of(head), out);
}

static int file_control(sqlite3_file *head, int op, void *arg)
{
    return base_of(head)->pMethods->xFileControl(base_of(head), op, arg);
}

static int file_sector_size(sqlite3_file *head)
{
    return base_of(head)->pMethods->xSectorSize(base_of(head));
}

static int file_characteristics(sqlite3_file *head)
{
    return base_of(head)->pMethods->xDeviceCharacteristics(base_of(head));
}

static const sqlite3_io_methods file_methods = {
    .iVersion = 1,
    .xClose = file_close,
    .xRead = file_read,
    .xWrite = file_write,
    .xTruncate = file_truncate,
    .xSync = file_sync,
    .xFileSize = file_size,
    .xLock = file_lock,
    .xUnlock = file_unlock,
    .xCheckReservedLock = file_check_reserved,
    .xFileControl = file_control,
    .xSectorSize = file_sector_size,
    .xDeviceCharacteristics = file_characteristics,
};

/* ---- only looking: SQLite reads a log only with the database in its exclusive hold, and makes one if there is none
 * ---- */

static int look_write(sqlite3_file *head, const void *p, int n, sqlite3_int64 at)
{
    (void)head;
    (void)p;
    (void)n;
    (void)at;
    return SQLITE_READONLY;
}

static int look_truncate(sqlite3_file *head, sqlite3_int64 size)
{
    (void)head;
    (void)size;
    return SQLITE_READONLY;
}

static int look_number(sqlite3_file *head, int number)
{
    (void)head;
    (void)number;
    return SQLITE_OK;
}

static int look_check_reserved(sqlite3_file *head, int *out)
{
    (void)head;
    *out = 0;
    return SQLITE_OK;
}

static const sqlite3_io_methods look_methods = {
    .iVersion = 1,
    .xClose = file_close,
    .xRead = file_read,
    .xWrite = look_write,
    .xTruncate = look_truncate,
    .xSync = look_number,
    .xFileSize = file_size,
    .xLock = look_number,
    .xUnlock = look_number,
    .xCheckReservedLock = look_check_reserved,
    .xFileControl = file_control,
    .xSectorSize = file_sector_size,
    .xDeviceCharacteristics = file_characteristics,
};

/* In the place of a log that is not there. */
static int nothing_close(sqlite3_file *head)
{
    (void)head;
    return SQLITE_OK;
}

static int nothing_read(sqlite3_file *head, void *p, int n, sqlite3_int64 at)
{
    (void)head;
    (void)at;
    memset(p, 0, (size_t)n);
    return SQLITE_IOERR_SHORT_READ;
}

static int nothing_size(sqlite3_file *head, sqlite3_int64 *size_out)
{
    (void)head;
    *size_out = 0;
    return SQLITE_OK;
}

static int nothing_control(sqlite3_file *head, int op, void *arg)
{
    (void)head;
    (void)op;
    (void)arg;
    return SQLITE_NOTFOUND;
}

static int nothing_sector_size(sqlite3_file *head)
{
    (void)head;
    return STORE_PAGE_SIZE;
}

static int nothing_characteristics(sqlite3_file *head)
{
    (void)head;
    return 0;
}

static const sqlite3_io_methods nothing_methods = {
    .iVersion = 1,
    .xClose = nothing_close,
    .xRead = nothing_read,
    .xWrite = look_write,
    .xTruncate = look_truncate,
    .xSync = look_number,
    .xFileSize = nothing_size,
    .xLock = look_number,
    .xUnlock = look_number,
    .xCheckReservedLock = look_check_reserved,
    .xFileControl = nothing_control,
    .xSectorSize = nothing_sector_size,
    .xDeviceCharacteristics = nothing_characteristics,
};

static int look_open(struct store_files *files, const char *name, sqlite3_file *head, int flags, int *flags_out)
{
    int is_there = 1;
    int looking = (flags & ~(SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE)) | SQLITE_OPEN_READONLY;
    if ((flags & SQLITE_OPEN_WAL) != 0) {
        files->base->xAccess(files->base, name, SQLITE_ACCESS_EXISTS, &is_there);
    }
    if (!is_there) {
        head->pMethods = &nothing_methods;
        if (flags_out != NULL) {
            *flags_out = looking;
        }
        return SQLITE_OK;
    }
    int code = files->base->xOpen(files->base, name, base_of(head), looking, flags_out);
    head->pMethods = base_of(head)->pMethods == NULL ? NULL : &look_methods;
    return code;
}

/* ---- the layer ---- */

static int files_open(sqlite3_vfs *vfs, const char *name, sqlite3_file *head, int flags, int *flags_out)
{
    struct store_files *files = vfs->pAppData;
    struct file *file = (struct file *)head;
    bool is_store = (flags & (SQLITE_OPEN_MAIN_DB | SQLITE_OPEN_WAL)) != 0; /* the rest is SQLite's for a moment */
    *file = (struct file){.files = files};
    if (files->only_looks && is_store) {
        return look_open(files, name, head, flags, flags_out);
    }
    int code = files->base->xOpen(files->base, name, base_of(head), flags, flags_out);
    if (is_store && code == SQLITE_OK) {
        file->gathered = malloc(GATHER_SIZE); /* without it every write goes by itself */
    }
    /* The base leaves methods behind also after some failures, and wants its xClose then. */
    head->pMethods = base_of(head)->pMethods == NULL ? NULL : &file_methods;
    return code;
}

static int files_delete(sqlite3_vfs *vfs, const char *name, int sync_directory)
{
    const struct store_files *files = vfs->pAppData;
    return files->only_looks ? SQLITE_OK : files->base->xDelete(files->base, name, sync_directory);
}

static int files_access(sqlite3_vfs *vfs, const char *name, int flags, int *out)
{
    sqlite3_vfs *base = ((struct store_files *)vfs->pAppData)->base;
    return base->xAccess(base, name, flags, out);
}

static int files_full_path(sqlite3_vfs *vfs, const char *name, int n, char *out)
{
    sqlite3_vfs *base = ((struct store_files *)vfs->pAppData)->base;
    return base->xFullPathname(base, name, n, out);
}

struct store_files *store_files_open(bool only_looks)
{
    struct store_files *files = xcalloc(1, sizeof *files);
    files->base = sqlite3_vfs_find(NULL);
    CHECK(files->base != NULL);
    files->only_looks = only_looks;
    snprintf(files->name, sizeof files->name, "quern-%p", (void *)files);
    /* Everything else (chance, sleep, time, errors) is the base's own function, told apart by nothing but its name. */
    files->vfs = *files->base;
    files->vfs.pNext = NULL;
    files->vfs.zName = files->name;
    files->vfs.szOsFile = (int)sizeof(struct file) + files->base->szOsFile;
    files->vfs.pAppData = files;
    files->vfs.xOpen = files_open;
    files->vfs.xDelete = files_delete;
    files->vfs.xAccess = files_access;
    files->vfs.xFullPathname = files_full_path;
    CHECK(sqlite3_vfs_register(&files->vfs, 0) == SQLITE_OK);
    return files;
}

void store_files_close(struct store_files **files)
{
    if (*files != NULL) {
        sqlite3_vfs_unregister(&(*files)->vfs);
        free(*files);
        *files = NULL;
    }
}

const char *store_files_name(const struct store_files *files)
{
    return files->name;
}

uint64_t store_files_syncs(const struct store_files *files)
{
    return files->syncs;
}

uint64_t store_files_sync_us(const struct store_files *files)
{
    return files->sync_us;
}

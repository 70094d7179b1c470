/*
 * fault_vfs: failing and forgetting disks. Must not know what is in the files.
 * Start at fault_due for failures; what a disk forgets is in disk_model.c.
 */
#include "support/fault_vfs.h"

#include "support/disk_model.h"

#include "common/check.h"

#include <errno.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct file {
    sqlite3_file head;
    struct model_file *watched;
    bool syncs_names; /* with its first sync, as SQLite's own VFS does for a new log or journal */
};

static struct {
    sqlite3_vfs vfs;
    sqlite3_vfs *base;
    bool is_installed;
    bool is_watching;
    bool is_paused;
    void (*on_operation)(void *context);
    void *context;
} fault;

static _Atomic int armed_kind;
static _Atomic int64_t armed_at;
static _Atomic bool armed_forever;
static _Atomic bool armed_hit;

static sqlite3_file *base_of(sqlite3_file *head)
{
    return (sqlite3_file *)((struct file *)head + 1);
}

static bool fault_due(enum fault_kind kind)
{
    if (atomic_load(&armed_kind) != (int)kind) {
        return false;
    }
    int64_t left = atomic_fetch_sub(&armed_at, 1) - 1;
    bool is_due = left == 0 || (left < 0 && atomic_load(&armed_forever));
    if (is_due) {
        atomic_store(&armed_hit, true);
    }
    return is_due;
}

void fault_operation(void)
{
    if (fault.is_watching && !fault.is_paused && fault.on_operation != NULL) {
        fault.on_operation(fault.context);
    }
}

bool fault_is_watching(void)
{
    return fault.is_watching && !fault.is_paused;
}

void fault_power_loss(const char *directory, uint64_t seed)
{
    model_power_loss(directory, seed);
}

/* ---- the files ---- */

static int fault_close(sqlite3_file *head)
{
    return base_of(head)->pMethods->xClose(base_of(head));
}

static int fault_read(sqlite3_file *head, void *p, int n, sqlite3_int64 at)
{
    return fault_due(FAULT_IO_READ) ? SQLITE_IOERR_READ : base_of(head)->pMethods->xRead(base_of(head), p, n, at);
}

static int fault_write(sqlite3_file *head, const void *p, int n, sqlite3_int64 at)
{
    struct model_file *watched = ((struct file *)head)->watched;
    fault_operation();
    if (fault_due(FAULT_IO_WRITE)) {
        errno = EIO;
        return SQLITE_IOERR_WRITE;
    }
    if (fault_due(FAULT_QUOTA)) {
        errno = EDQUOT;
        return SQLITE_IOERR_WRITE;
    }
    bool is_full = fault_due(FAULT_FULL);
    bool is_short = fault_due(FAULT_SHORT_WRITE);
    int part = is_full || is_short ? n / 2 : n;
    int code = base_of(head)->pMethods->xWrite(base_of(head), p, part, at);
    if (watched != NULL && fault.is_watching && code == SQLITE_OK) {
        model_write(watched, (size_t)at, p, (size_t)part);
    }
    errno = is_short ? EIO : errno;
    return is_full ? SQLITE_FULL : is_short ? SQLITE_IOERR_WRITE : code;
}

static int fault_truncate(sqlite3_file *head, sqlite3_int64 size)
{
    struct model_file *watched = ((struct file *)head)->watched;
    fault_operation();
    if (fault_due(FAULT_IO_TRUNCATE)) {
        return SQLITE_IOERR_TRUNCATE;
    }
    int code = base_of(head)->pMethods->xTruncate(base_of(head), size);
    if (watched != NULL && fault.is_watching && code == SQLITE_OK) {
        model_truncate(watched, (size_t)size);
    }
    return code;
}

static int fault_sync(sqlite3_file *head, int flags)
{
    struct model_file *watched = ((struct file *)head)->watched;
    fault_operation();
    if (fault_due(FAULT_IO_SYNC)) {
        if (watched != NULL) {
            model_forget_writes(watched); /* still to be read, never to be written: what Linux makes of such pages */
        }
        return SQLITE_IOERR_FSYNC;
    }
    if (watched != NULL && fault.is_watching) {
        model_sync(watched);
        if (((struct file *)head)->syncs_names) {
            model_sync_names();
            ((struct file *)head)->syncs_names = false;
        }
        return SQLITE_OK; /* the real disk need not be kept waiting */
    }
    return base_of(head)->pMethods->xSync(base_of(head), flags);
}

static int fault_size(sqlite3_file *head, sqlite3_int64 *size_out)
{
    return base_of(head)->pMethods->xFileSize(base_of(head), size_out);
}

static int fault_lock(sqlite3_file *head, int level)
{
    if (fault_due(FAULT_IO_LOCK)) {
        return SQLITE_IOERR_LOCK;
    }
    return base_of(head)->pMethods->xLock(base_of(head), level);
}

static int fault_unlock(sqlite3_file *head, int level)
{
    return base_of(head)->pMethods->xUnlock(base_of(head), level);
}

static int fault_check_reserved(sqlite3_file *head, int *out)
{
    return base_of(head)->pMethods->xCheckReservedLock(base_of(head), out);
}

static int fault_control(sqlite3_file *head, int op, void *arg)
{
    /* Without the hint that lets the real file grow at once, every byte passes through fault_write. */
    return op == SQLITE_FCNTL_SIZE_HINT ? SQLITE_OK : base_of(head)->pMethods->xFileControl(base_of(head), op, arg);
}

static int fault_sector_size(sqlite3_file *head)
{
    return base_of(head)->pMethods->xSectorSize(base_of(head));
}

static int fault_characteristics(sqlite3_file *head)
{
    return base_of(head)->pMethods->xDeviceCharacteristics(base_of(head));
}

static const sqlite3_io_methods fault_methods = {
    .iVersion = 1,
    .xClose = fault_close,
    .xRead = fault_read,
    .xWrite = fault_write,
    .xTruncate = fault_truncate,
    .xSync = fault_sync,
    .xFileSize = fault_size,
    .xLock = fault_lock,
    .xUnlock = fault_unlock,
    .xCheckReservedLock = fault_check_reserved,
    .xFileControl = fault_control,
    .xSectorSize = fault_sector_size,
    .xDeviceCharacteristics = fault_characteristics,
};

static int vfs_open(sqlite3_vfs *vfs, const char *name, sqlite3_file *head, int flags, int *flags_out)
{
    (void)vfs;
    struct file *file = (struct file *)head;
    bool was_there = name == NULL || access(name, F_OK) == 0;
    if (!was_there) {
        fault_operation();
    }
    if (fault_due(FAULT_IO_OPEN)) {
        head->pMethods = NULL;
        return SQLITE_CANTOPEN;
    }
    int code = fault.base->xOpen(fault.base, name, base_of(head), flags, flags_out);
    head->pMethods = base_of(head)->pMethods == NULL ? NULL : &fault_methods;
    file->watched = code == SQLITE_OK && fault_is_watching() && name != NULL ? model_open(name, was_there) : NULL;
    file->syncs_names =
        !was_there && (flags & (SQLITE_OPEN_WAL | SQLITE_OPEN_MAIN_JOURNAL | SQLITE_OPEN_SUPER_JOURNAL)) != 0;
    return code;
}

static int vfs_delete(sqlite3_vfs *vfs, const char *name, int sync_directory)
{
    (void)vfs;
    fault_operation();
    if (fault_due(FAULT_IO_DELETE)) {
        return SQLITE_IOERR_DELETE;
    }
    if (fault_is_watching()) {
        model_delete(name);
        if (sync_directory) {
            model_sync_names();
        }
    }
    return fault.base->xDelete(fault.base, name, sync_directory);
}

static int vfs_access(sqlite3_vfs *vfs, const char *name, int flags, int *out)
{
    (void)vfs;
    return fault.base->xAccess(fault.base, name, flags, out);
}

static int vfs_full_path(sqlite3_vfs *vfs, const char *name, int n, char *out)
{
    (void)vfs;
    return fault.base->xFullPathname(fault.base, name, n, out);
}

/* ---- life ---- */

void fault_install(void)
{
    CHECK(!fault.is_installed);
    fault.base = sqlite3_vfs_find(NULL);
    fault.vfs = *fault.base;
    fault.vfs.pNext = NULL;
    fault.vfs.zName = "quern-fault";
    fault.vfs.szOsFile = (int)sizeof(struct file) + fault.base->szOsFile;
    fault.vfs.pAppData = NULL;
    fault.vfs.xOpen = vfs_open;
    fault.vfs.xDelete = vfs_delete;
    fault.vfs.xAccess = vfs_access;
    fault.vfs.xFullPathname = vfs_full_path;
    CHECK(sqlite3_vfs_register(&fault.vfs, 1) == SQLITE_OK);
    fault.is_installed = true;
    fault_disarm();
}

void fault_remove(void)
{
    if (fault.is_installed) {
        sqlite3_vfs_unregister(&fault.vfs);
        sqlite3_vfs_register(fault.base, 1);
        fault_unwatch();
        fault.is_installed = false;
    }
}

void fault_pause(bool is_paused)
{
    fault.is_paused = is_paused;
    sqlite3_vfs_register(is_paused ? fault.base : &fault.vfs, 1);
}

void fault_arm(enum fault_kind kind, uint64_t at, bool forever)
{
    atomic_store(&armed_kind, FAULT_NONE);
    atomic_store(&armed_hit, false);
    atomic_store(&armed_at, (int64_t)at);
    atomic_store(&armed_forever, forever);
    atomic_store(&armed_kind, (int)kind);
}

void fault_disarm(void)
{
    fault_arm(FAULT_NONE, 0, false);
}

uint64_t fault_stride(void)
{
    const char *text = getenv("QUERN_FAULT_STRIDE");
    return text != NULL ? strtoull(text, NULL, 10) : 1;
}

bool fault_hit(void)
{
    return atomic_load(&armed_hit);
}

void fault_watch(void (*on_operation)(void *context), void *context)
{
    CHECK(fault.is_installed);
    fault_unwatch();
    fault.is_watching = true;
    fault.on_operation = on_operation;
    fault.context = context;
}

void fault_unwatch(void)
{
    model_clear();
    fault.is_watching = false;
}

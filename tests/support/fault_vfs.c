/*
 * fault_vfs: failing and forgetting disks. Must not know what is in the files.
 * Start at watched_write for power loss, at fault_due for failures.
 */
#include "support/fault_vfs.h"

#include "common/bytes.h"
#include "common/check.h"

#include <errno.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define WATCHED_COUNT_MAX 8u

/* A write or a truncation that no sync has followed yet. */
struct pending {
    struct pending *next;
    bool is_truncate;
    size_t at;
    size_t n;
    uint8_t bytes[];
};

struct watched {
    char *path;
    ino_t inode;
    struct buf durable;
    struct pending *first;
    struct pending **end;
};

struct file {
    sqlite3_file head;
    struct watched *watched;
};

static struct {
    sqlite3_vfs vfs;
    sqlite3_vfs *base;
    bool is_installed;
    bool is_watching;
    void (*on_operation)(void *context);
    void *context;
    struct watched watched[WATCHED_COUNT_MAX];
    size_t watched_count;
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

/* ---- what is durable and what is not ---- */

static void put_at(struct buf *image, size_t at, const uint8_t *p, size_t n)
{
    if (image->n < at + n) {
        size_t old = image->n;
        buf_reserve(image, at + n - old);
        memset(image->p + old, 0, at + n - old);
        image->n = at + n;
    }
    memcpy(image->p + at, p, n);
}

static void put_truncate(struct buf *image, size_t size)
{
    if (size < image->n) {
        image->n = size;
    }
}

static void watched_add(struct watched *watched, bool is_truncate, size_t at, const void *p, size_t n)
{
    struct pending *pending = xmalloc(sizeof *pending + n);
    *pending = (struct pending){.is_truncate = is_truncate, .at = at, .n = n};
    if (n > 0) {
        memcpy(pending->bytes, p, n);
    }
    *watched->end = pending;
    watched->end = &pending->next;
}

static void watched_forget(struct watched *watched)
{
    while (watched->first != NULL) {
        struct pending *next = watched->first->next;
        free(watched->first);
        watched->first = next;
    }
    watched->end = &watched->first;
}

static void watched_sync(struct watched *watched)
{
    for (const struct pending *p = watched->first; p != NULL; p = p->next) {
        if (p->is_truncate) {
            put_truncate(&watched->durable, p->at);
        } else {
            put_at(&watched->durable, p->at, p->bytes, p->n);
        }
    }
    watched_forget(watched);
}

static struct watched *watched_find(const char *path)
{
    for (size_t i = 0; i < fault.watched_count; i++) {
        if (strcmp(fault.watched[i].path, path) == 0) {
            return &fault.watched[i];
        }
    }
    CHECK(fault.watched_count < WATCHED_COUNT_MAX);
    struct watched *watched = &fault.watched[fault.watched_count++];
    *watched = (struct watched){.path = xstrdup(path)};
    watched->end = &watched->first;
    return watched;
}

static void operation(void)
{
    if (fault.is_watching && fault.on_operation != NULL) {
        fault.on_operation(fault.context);
    }
}

/* Chance by seed: splitmix64. */
static uint64_t roll(uint64_t *state)
{
    uint64_t z = (*state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static void damage(struct buf *image, const struct pending *pending, uint64_t *state)
{
    uint64_t fate = roll(state) % 4;
    size_t n = pending->n;
    if (fate == 0) {
        return;
    }
    if (pending->is_truncate) {
        put_truncate(image, pending->at);
        return;
    }
    if (fate == 1 && n > 0) {
        n = (size_t)(roll(state) % n);
    }
    put_at(image, pending->at, pending->bytes, n);
    if (fate == 2) {
        for (size_t i = 0; i < n; i++) {
            image->p[pending->at + i] = (uint8_t)roll(state);
        }
    }
}

void fault_power_loss(const char *directory, uint64_t seed)
{
    uint64_t state = seed;
    for (size_t i = 0; i < fault.watched_count; i++) {
        const struct watched *watched = &fault.watched[i];
        struct buf image = {0};
        buf_put(&image, watched->durable.p, watched->durable.n);
        for (const struct pending *p = watched->first; p != NULL && seed != 0; p = p->next) {
            if (seed > 1) {
                damage(&image, p, &state);
            } else if (p->is_truncate) {
                put_truncate(&image, p->at);
            } else {
                put_at(&image, p->at, p->bytes, p->n);
            }
        }
        const char *slash = strrchr(watched->path, '/');
        char path[4096];
        snprintf(path, sizeof path, "%s%s", directory, slash);
        FILE *file = fopen(path, "wb");
        CHECK(file != NULL);
        CHECK(image.n == 0 || fwrite(image.p, image.n, 1, file) == 1);
        CHECK(fclose(file) == 0);
        buf_fini(&image);
    }
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
    struct watched *watched = ((struct file *)head)->watched;
    operation();
    if (fault_due(FAULT_IO_WRITE)) {
        errno = EIO;
        return SQLITE_IOERR_WRITE;
    }
    if (fault_due(FAULT_QUOTA)) {
        errno = EDQUOT;
        return SQLITE_IOERR_WRITE;
    }
    bool is_full = fault_due(FAULT_FULL);
    int part = is_full ? n / 2 : n;
    int code = base_of(head)->pMethods->xWrite(base_of(head), p, part, at);
    if (watched != NULL && fault.is_watching && code == SQLITE_OK) {
        watched_add(watched, false, (size_t)at, p, (size_t)part);
    }
    return is_full ? SQLITE_FULL : code;
}

static int fault_truncate(sqlite3_file *head, sqlite3_int64 size)
{
    struct watched *watched = ((struct file *)head)->watched;
    operation();
    int code = base_of(head)->pMethods->xTruncate(base_of(head), size);
    if (watched != NULL && fault.is_watching && code == SQLITE_OK) {
        watched_add(watched, true, (size_t)size, NULL, 0);
    }
    return code;
}

static int fault_sync(sqlite3_file *head, int flags)
{
    struct watched *watched = ((struct file *)head)->watched;
    operation();
    if (fault_due(FAULT_IO_SYNC)) {
        if (watched != NULL) {
            watched_forget(watched); /* still to be read, never to be written: what Linux makes of such pages */
        }
        return SQLITE_IOERR_FSYNC;
    }
    if (watched != NULL && fault.is_watching) {
        watched_sync(watched);
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

/* A file that is there and is another one than before came by rename, and who renames has synced. */
static void watched_open(struct watched *watched)
{
    struct stat st;
    if (stat(watched->path, &st) != 0 || st.st_ino == watched->inode) {
        return;
    }
    watched->inode = st.st_ino;
    watched_forget(watched);
    watched->durable.n = 0;
    if (st.st_size > 0) {
        FILE *file = fopen(watched->path, "rb");
        buf_reserve(&watched->durable, (size_t)st.st_size);
        CHECK(file != NULL && fread(watched->durable.p, (size_t)st.st_size, 1, file) == 1);
        CHECK(fclose(file) == 0);
        watched->durable.n = (size_t)st.st_size;
    }
}

static int vfs_open(sqlite3_vfs *vfs, const char *name, sqlite3_file *head, int flags, int *flags_out)
{
    (void)vfs;
    struct file *file = (struct file *)head;
    file->watched = fault.is_watching && name != NULL ? watched_find(name) : NULL;
    int code = fault.base->xOpen(fault.base, name, base_of(head), flags, flags_out);
    head->pMethods = base_of(head)->pMethods == NULL ? NULL : &fault_methods;
    if (code == SQLITE_OK && file->watched != NULL) {
        watched_open(file->watched);
    }
    return code;
}

static int vfs_delete(sqlite3_vfs *vfs, const char *name, int sync_directory)
{
    (void)vfs;
    for (size_t i = 0; i < fault.watched_count; i++) {
        if (strcmp(fault.watched[i].path, name) == 0) {
            watched_forget(&fault.watched[i]);
            fault.watched[i].durable.n = 0;
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
    for (size_t i = 0; i < fault.watched_count; i++) {
        watched_forget(&fault.watched[i]);
        buf_fini(&fault.watched[i].durable);
        free(fault.watched[i].path);
    }
    fault.watched_count = 0;
    fault.is_watching = false;
}

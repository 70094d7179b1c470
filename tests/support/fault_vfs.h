/*
 * fault_vfs.h: a SQLite VFS over the real one for tests: makes the N-th write or sync fail, and can tell at any moment
 * what a disk might hold if the power went now. One per process.
 */
#ifndef QUERN_TESTS_FAULT_VFS_H
#define QUERN_TESTS_FAULT_VFS_H

#include <stdbool.h>
#include <stdint.h>

enum fault_kind {
    FAULT_NONE,
    FAULT_FULL,        /* a write that writes half of it and says the disk is full */
    FAULT_QUOTA,       /* a write that fails for want of quota */
    FAULT_IO_WRITE,    /* a write that fails */
    FAULT_IO_SYNC,     /* a sync that fails */
    FAULT_IO_READ,     /* a read that fails */
    FAULT_SHORT_WRITE, /* a write that writes half of it and fails */
    FAULT_IO_OPEN,     /* an opening of a file that fails */
    FAULT_IO_TRUNCATE,
    FAULT_IO_DELETE,
    FAULT_IO_LOCK,
    FAULT_KIND_COUNT,
};

/* Become, and stop being, the default VFS of the process. */
void fault_install(void);
void fault_remove(void);

/* The operation of that kind that comes at-th from now (1: the next) fails, and all after it if forever. Any thread. */
void fault_arm(enum fault_kind kind, uint64_t at, bool forever);
void fault_disarm(void);
/* Whether what was armed has happened. */
bool fault_hit(void);

/* How far the next one to fail is from this one: 1; QUERN_FAULT_STRIDE=40: every 40th will do, for a look with valgrind. */
uint64_t fault_stride(void);

/* Watch all files: what is synced, what is only written. on_operation is called before every write, sync, truncation,
 * making and deleting of a file (only for the thread that watches; NULL: nobody). */
void fault_watch(void (*on_operation)(void *context), void *context);
void fault_unwatch(void);
/* While paused, the process's default VFS is the real one again, and nothing is watched that is opened meanwhile. */
void fault_pause(bool is_paused);
/* For calls that do not pass through SQLite: what on_operation is for. */
void fault_operation(void);
bool fault_is_watching(void);
/* model_power_loss (disk_model.h). */
void fault_power_loss(const char *directory, uint64_t seed);

#endif

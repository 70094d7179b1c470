/*
 * disk.h: the files around the database and the file system they live on: the lock that keeps a second broker out, the
 * ballast that is given up when the disk is full, free space, and whether somebody swaps the database under us.
 * Must not know what is in the database, and never opens it (closing such a descriptor would drop SQLite's locks).
 */
#ifndef QUERN_BROKER_DISK_H
#define QUERN_BROKER_DISK_H

#include "common/ids.h"
#include "common/limits.h"
#include "quern/err.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* Which file this is: the same for as long as a file lives, another one for every copy of it. Device numbers are not
 * part of it, they change with the order in which disks are found. */
struct file_identity {
    uint64_t inode;
    int64_t born_ns; /* 0: the file system does not tell */
};

struct disk {
    char *path; /* without symbolic links */
    char *wal_path;
    char *lock_path;
    char *ballast_path;
    int lock; /* descriptor; -1: not locked */
    uint64_t free_floor;
    uint64_t ballast_bytes;
    bool ballast_given_up;
    uint64_t pinned_inode[2]; /* database, log; 0: not pinned */
};

/* Find the place, refuse file systems that cannot lock and files of other users, take the lock.
 * Errors: IN_USE, DENIED, IO; *why_out: a malloc'd sentence. disk_close it in every case. */
QUERN_MUST_USE enum quern_err disk_open(struct disk *disk, const char *path, const struct limits *limits,
                                        char **why_out);
/* The same for who changes nothing: no file is made, and a lock file that is there is locked against brokers.
 * Also UNKNOWN: there is no such file. */
QUERN_MUST_USE enum quern_err disk_open_to_look(struct disk *disk, const char *path, char **why_out);
void disk_close(struct disk *disk);

/* What the lock file says of the last life that was opened here: false if nothing. */
bool disk_read_life(const struct disk *disk, struct uuid *store_out, uint32_t *epoch_out);
/* Say who holds the lock, and which life of which store that is. Only after the epoch is durable. */
void disk_write_life(const struct disk *disk, const struct uuid *store, uint32_t epoch);

/* Put a fresh, synced copy in the place of a log that was left behind: if the last life ended because a sync failed,
 * what is read from the log may be nowhere but in the kernel's cache, and no later sync would write it. Only before
 * SQLite has the database open. IN_USE: some process has it open, and with it the log. */
QUERN_MUST_USE enum quern_err disk_renew_log(struct disk *disk, char **why_out);

/* Have the kernel fetch the database, in order and at once: page by page, as SQLite will ask, takes many times longer
 * after a reboot. Only before SQLite has it open. */
void disk_read_ahead(const struct disk *disk, uint64_t bytes_max);

bool disk_identity(const struct disk *disk, struct file_identity *identity_out);
bool file_identity_same(const struct file_identity *a, const struct file_identity *b);

/* Make the ballast whole, or remember that there is none. */
void disk_ballast_make(struct disk *disk);
/* True if there was something to give. */
bool disk_ballast_give_up(struct disk *disk);

/* Remember which files the database and its log are. */
void disk_pin(struct disk *disk);

struct disk_facts {
    uint64_t file_bytes;
    uint64_t wal_bytes;
    uint64_t free_bytes;
    bool is_low; /* submits are to be refused */
};
/* Looks, and makes the ballast anew if there is room again. QUERN_IO: a pinned file is gone or is another one now. */
QUERN_MUST_USE enum quern_err disk_look(struct disk *disk, struct disk_facts *facts_out);

/* The name of a file system on which locks or syncs cannot be relied on, by its f_type; NULL for any other. */
const char *disk_refuses(uint64_t f_type);

/* Make the names in the directory of a file durable (its path holds a slash). */
bool disk_sync_directory(const char *path);

/* A malloc'd sentence. */
char *sentence(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif

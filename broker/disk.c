/*
 * disk: lock, ballast, free space and identity of the files around the database.
 * Must not know what is in the database, nor open it.
 * Start at disk_open.
 */
#include "broker/disk.h"

#include "common/check.h"
#include "common/log.h"
#include "common/path.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>
#include <unistd.h>

#define LIFE_TEXT_SIZE 128u
#define COPY_SIZE (1024u * 1024u)

char *sentence(const char *format, ...)
{
    char *text = NULL;
    va_list args;
    va_start(args, format);
    int n = vasprintf(&text, format, args);
    va_end(args);
    CHECK(n >= 0);
    return text;
}

const char *disk_refuses(uint64_t f_type)
{
    /* Numbers of statfs(2); those that linux/magic.h lacks included, so all of them by value. */
    static const struct {
        uint32_t f_type;
        const char *name;
    } unreliable[] = {
        {0x6969, "NFS"},     {0xff534d42, "CIFS"}, {0x517b, "SMB"},        {0xfe534d42, "SMB"},
        {0x01021997, "9P"},  {0x65735546, "FUSE"}, {0x00c36400, "Ceph"},   {0x5346414f, "AFS"},
        {0x6b414653, "AFS"}, {0x73757245, "Coda"}, {0x0bd00bd0, "Lustre"},
    };
    for (size_t i = 0; i < sizeof unreliable / sizeof unreliable[0]; i++) {
        if (unreliable[i].f_type == (uint32_t)f_type) {
            return unreliable[i].name;
        }
    }
    return NULL;
}

/* ---- the place ---- */

/* The path without symbolic links: two names of one store must come to the same lock. */
static char *canonical_path(const char *path, char **why_out)
{
    char *directory;
    char *whole = path_whole(path, &directory);
    if (whole == NULL) {
        *why_out = sentence("directory %s of the store: %s; create it first", directory, strerror(errno));
        free(directory);
    }
    return whole;
}

/* Of a canonical path; malloc'd. */
static char *directory_of(const char *path)
{
    char *directory = xstrdup(path);
    char *slash = strrchr(directory, '/');
    CHECK(slash != NULL);
    slash[slash == directory ? 1 : 0] = '\0';
    return directory;
}

static enum quern_err check_file_system(const char *path, char **why_out)
{
    char *directory = directory_of(path);
    struct statfs fs;
    enum quern_err err = QUERN_OK;
    if (statfs(directory, &fs) != 0) {
        *why_out = sentence("directory %s of the store: %s", directory, strerror(errno));
        err = QUERN_IO;
    } else if (disk_refuses((uint64_t)fs.f_type) != NULL) {
        *why_out =
            sentence("%s is on %s, where neither locks nor syncs can be relied on: put the store on a local disk", path,
                     disk_refuses((uint64_t)fs.f_type));
        err = QUERN_DENIED;
    }
    free(directory);
    return err;
}

static bool exists(const char *path)
{
    return access(path, F_OK) == 0;
}

/* Before anything is made beside it: whoever names some other file by mistake finds nothing changed. Not where a lock
 * file or a log is already: there a torn first page is for SQLite to mend. (SQLite has not opened it yet in this
 * process, so closing it here drops no lock.) */
static enum quern_err check_header(const char *path, char **why_out)
{
    static const char magic[16] = "SQLite format 3";
    char head[sizeof magic];
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    ssize_t n = fd >= 0 ? read(fd, head, sizeof head) : -1;
    if (fd >= 0) {
        close(fd);
    }
    if (n <= 0 || (n == (ssize_t)sizeof head && memcmp(head, magic, sizeof magic) == 0)) {
        return QUERN_OK; /* new, ours to see, or not readable, which is for SQLite to say */
    }
    *why_out = sentence("%s is not a quern store: name another file, or move this one away", path);
    return QUERN_MALFORMED;
}

static enum quern_err check_file(const char *path, char **why_out)
{
    struct stat st;
    if (lstat(path, &st) != 0) {
        if (errno == ENOENT) {
            return QUERN_OK;
        }
        *why_out = sentence("%s: %s", path, strerror(errno));
        return QUERN_IO;
    }
    if (!S_ISREG(st.st_mode)) {
        *why_out = sentence("%s is not a regular file", path);
        return QUERN_DENIED;
    }
    if (st.st_uid != geteuid()) {
        *why_out = sentence("%s belongs to user %u, this broker runs as user %u: run it as the owner", path,
                            (unsigned)st.st_uid, (unsigned)geteuid());
        return QUERN_DENIED;
    }
    return QUERN_OK;
}

/* ---- the lock ---- */

static bool lock_read(const struct disk *disk, char text[LIFE_TEXT_SIZE])
{
    ssize_t n = pread(disk->lock, text, LIFE_TEXT_SIZE - 1, 0);
    text[n > 0 ? n : 0] = '\0';
    return n > 0;
}

/* What flock said no for. */
static enum quern_err lock_refused(const struct disk *disk, char **why_out)
{
    if (errno != EWOULDBLOCK) {
        *why_out = sentence("lock file %s: %s", disk->lock_path, strerror(errno));
        return QUERN_IO;
    }
    char text[LIFE_TEXT_SIZE];
    long pid = lock_read(disk, text) ? strtol(text, NULL, 10) : 0;
    *why_out = pid > 0 ? sentence("store %s is in use by the broker with pid %ld", disk->path, pid)
                       : sentence("store %s is in use by another broker", disk->path);
    return QUERN_IN_USE;
}

static enum quern_err lock_take(struct disk *disk, char **why_out)
{
    /* Never unlinked: between unlink and open two brokers could hold locks on two files of one name. */
    disk->lock = open(disk->lock_path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (disk->lock < 0) {
        *why_out = sentence("lock file %s: %s", disk->lock_path, strerror(errno));
        return errno == EACCES || errno == ELOOP ? QUERN_DENIED : QUERN_IO;
    }
    if (flock(disk->lock, LOCK_EX | LOCK_NB) == 0) {
        return QUERN_OK;
    }
    return lock_refused(disk, why_out);
}

/* ---- other programs ---- */

/* The bytes of the database file on which SQLite's processes lock each other out. */
#define SQLITE_LOCK_AT 0x40000000
#define SQLITE_LOCK_SIZE 512

static pid_t open_elsewhere(const struct disk *disk)
{
    struct flock lock = {.l_type = F_WRLCK, .l_start = SQLITE_LOCK_AT, .l_len = SQLITE_LOCK_SIZE};
    int fd = open(disk->path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0) {
        return 0;
    }
    bool is_locked = fcntl(fd, F_GETLK, &lock) == 0 && lock.l_type != F_UNLCK;
    close(fd);
    return is_locked ? lock.l_pid : 0;
}

/* Only before SQLite has it open in this process. */
static enum quern_err check_not_open_elsewhere(const struct disk *disk, char **why_out)
{
    pid_t holder = open_elsewhere(disk);
    if (holder != 0) {
        *why_out = sentence("%s is in use by the process with pid %ld", disk->path, (long)holder);
        return QUERN_IN_USE;
    }
    return QUERN_OK;
}

static uint64_t inode_of(const char *path, uint64_t *size_out);

/* An empty database is a new store, unless something beside it tells of one: to begin anew in silence would be to lose
 * it in silence. (No crash leaves this: a database has its first page before it has a log, and a lock file tells of a
 * life only when that is on disk.) */
static enum quern_err check_not_emptied(const struct disk *disk, char **why_out)
{
    uint64_t size;
    uint64_t wal_size;
    struct uuid store;
    uint32_t epoch;
    uint64_t inode = inode_of(disk->path, &size);
    inode_of(disk->wal_path, &wal_size);
    if (size > 0) {
        return QUERN_OK;
    }
    if (wal_size > 0) {
        *why_out =
            sentence("%s is %s, but its log %s is there: put the database back beside it or restore a backup; to begin "
                     "a new store, move the log away",
                     disk->path, inode == 0 ? "missing" : "empty", disk->wal_path);
        return QUERN_MALFORMED;
    }
    if (inode != 0 && disk_read_life(disk, &store, &epoch)) {
        *why_out = sentence("%s is empty, but %s tells of a store that was here (epoch %" PRIu32
                            "): restore a backup; to begin a new store, remove the empty file",
                            disk->path, disk->lock_path, epoch);
        return QUERN_MALFORMED;
    }
    return QUERN_OK;
}

static void disk_name_files(struct disk *disk)
{
    disk->wal_path = sentence("%s-wal", disk->path);
    disk->lock_path = sentence("%s.lock", disk->path);
    disk->ballast_path = sentence("%s.ballast", disk->path);
}

/* SQLite lays any log over any database that has its name. A store that ever had a log says so at its head; a backup
 * says that it has none, until it is opened. */
static enum quern_err check_log_is_its_own(const struct disk *disk, char **why_out)
{
    static const char magic[16] = "SQLite format 3";
    char head[20];
    uint64_t wal_size;
    int fd = open(disk->path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    ssize_t n = fd >= 0 ? read(fd, head, sizeof head) : -1;
    if (fd >= 0) {
        close(fd);
    }
    inode_of(disk->wal_path, &wal_size);
    if (wal_size == 0 || n != (ssize_t)sizeof head || memcmp(head, magic, sizeof magic) != 0 || head[18] != 1 ||
        head[19] != 1) {
        return QUERN_OK;
    }
    *why_out = sentence("%s is a backup, and the log %s is not its own: move the log away, it would overwrite what was "
                        "restored",
                        disk->path, disk->wal_path);
    return QUERN_MALFORMED;
}

enum quern_err disk_open(struct disk *disk, const char *path, const struct limits *limits, char **why_out)
{
    *disk = (struct disk){.lock = -1,
                          .free_floor = limits->wal_bytes_max + limits->disk_reserve_bytes,
                          .ballast_bytes = limits->ballast_bytes};
    disk->path = canonical_path(path, why_out);
    if (disk->path == NULL) {
        return QUERN_IO;
    }
    disk_name_files(disk);
    enum quern_err err = check_file_system(disk->path, why_out);
    if (err == QUERN_OK) {
        err = check_file(disk->path, why_out);
    }
    char *journal = sentence("%s-journal", disk->path);
    if (err == QUERN_OK && !exists(disk->lock_path) && !exists(disk->wal_path) && !exists(journal)) {
        err = check_header(disk->path, why_out);
    }
    free(journal);
    if (err == QUERN_OK) {
        err = lock_take(disk, why_out);
    }
    err = err != QUERN_OK ? err : check_not_emptied(disk, why_out);
    return err != QUERN_OK ? err : check_log_is_its_own(disk, why_out);
}

static enum quern_err lock_share(struct disk *disk, char **why_out)
{
    disk->lock = open(disk->lock_path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (disk->lock < 0 || flock(disk->lock, LOCK_SH | LOCK_NB) == 0) {
        return QUERN_OK; /* without a lock file no broker has ever been here */
    }
    return lock_refused(disk, why_out);
}

enum quern_err disk_open_to_look(struct disk *disk, const char *path, char **why_out)
{
    uint64_t size;
    *disk = (struct disk){.lock = -1};
    disk->path = canonical_path(path, why_out);
    if (disk->path == NULL) {
        return QUERN_UNKNOWN;
    }
    disk_name_files(disk);
    if (inode_of(disk->path, &size) == 0) {
        *why_out = sentence("there is no store %s", disk->path);
        return QUERN_UNKNOWN;
    }
    enum quern_err err = lock_share(disk, why_out);
    err = err != QUERN_OK ? err : check_not_emptied(disk, why_out);
    err = err != QUERN_OK ? err : check_log_is_its_own(disk, why_out);
    err = err != QUERN_OK || exists(disk->wal_path) ? err : check_header(disk->path, why_out);
    return err != QUERN_OK ? err : check_not_open_elsewhere(disk, why_out);
}

void disk_close(struct disk *disk)
{
    if (disk->lock >= 0) {
        close(disk->lock);
    }
    free(disk->path);
    free(disk->wal_path);
    free(disk->lock_path);
    free(disk->ballast_path);
    *disk = (struct disk){.lock = -1};
}

bool disk_read_life(const struct disk *disk, struct uuid *store_out, uint32_t *epoch_out)
{
    char text[LIFE_TEXT_SIZE];
    char hex[2 * UUID_SIZE + 1];
    unsigned pid;
    if (!lock_read(disk, text) || sscanf(text, "%u %32[0-9a-f] %" SCNu32, &pid, hex, epoch_out) != 3 ||
        strlen(hex) != 2 * UUID_SIZE) {
        return false;
    }
    for (size_t i = 0; i < UUID_SIZE; i++) {
        char pair[3] = {hex[2 * i], hex[2 * i + 1], '\0'};
        store_out->b[i] = (uint8_t)strtoul(pair, NULL, 16);
    }
    return true;
}

void disk_write_life(const struct disk *disk, const struct uuid *store, uint32_t epoch)
{
    char hex[2 * UUID_SIZE + 1];
    char text[LIFE_TEXT_SIZE];
    int n = snprintf(text, sizeof text, "%ld %s %" PRIu32 "\n", (long)getpid(), uuid_text(store, hex), epoch);
    /* What cannot be written only makes a message poorer and a restored backup harder to notice. */
    if (pwrite(disk->lock, text, (size_t)n, 0) != n || ftruncate(disk->lock, n) != 0 || fdatasync(disk->lock) != 0) {
        log_event(LOG_WARN, "lock file not written", "path=\"%s\" error=\"%s\"", disk->lock_path, strerror(errno));
    }
}

/* ---- before SQLite opens it ---- */

/* With read and write: a copy that the file system makes by sharing blocks would share the lost ones. */
static bool copy_bytes(int from, int to)
{
    char *block = xmalloc(COPY_SIZE);
    ssize_t n;
    while ((n = read(from, block, COPY_SIZE)) > 0 && write(to, block, (size_t)n) == n) {
    }
    free(block);
    return n == 0 && fsync(to) == 0;
}

bool disk_sync_directory(const char *path)
{
    char *directory = directory_of(path);
    int fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool is_done = fd >= 0 && fsync(fd) == 0;
    if (fd >= 0) {
        close(fd);
    }
    free(directory);
    return is_done;
}

static bool renew(const char *path)
{
    char *fresh = sentence("%s.new", path);
    int from = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    int to = open(fresh, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    bool is_done = from >= 0 && to >= 0 && copy_bytes(from, to) && rename(fresh, path) == 0 && disk_sync_directory(path);
    if (!is_done) {
        int error = errno;
        unlink(fresh);
        errno = error;
    }
    if (from >= 0) {
        close(from);
    }
    if (to >= 0) {
        close(to);
    }
    free(fresh);
    return is_done;
}

enum quern_err disk_renew_log(struct disk *disk, char **why_out)
{
    struct stat st;
    if (lstat(disk->wal_path, &st) != 0 || st.st_size == 0) {
        return QUERN_OK;
    }
    enum quern_err err = check_not_open_elsewhere(disk, why_out);
    if (err != QUERN_OK) {
        return err;
    }
    if (!renew(disk->wal_path) && !(disk_ballast_give_up(disk) && renew(disk->wal_path))) {
        /* No reason to stay away: it only matters if a sync has failed and the power fails too. */
        log_event(LOG_WARN, "log not renewed", "path=\"%s\" error=\"%s\"", disk->wal_path, strerror(errno));
    }
    return QUERN_OK;
}

/* By reading: the kernel's own readahead, asked for a whole file, stops after a megabyte or so. */
void disk_read_ahead(const struct disk *disk, uint64_t bytes_max)
{
    int fd = open(disk->path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0) {
        return;
    }
    void *block = xmalloc(COPY_SIZE);
    uint64_t done = 0;
    ssize_t n;
    while (done < bytes_max && (n = read(fd, block, COPY_SIZE)) > 0) {
        done += (uint64_t)n;
    }
    free(block);
    close(fd);
}

/* ---- identity ---- */

bool disk_identity(const struct disk *disk, struct file_identity *identity_out)
{
    struct statx stx;
    if (statx(AT_FDCWD, disk->path, AT_SYMLINK_NOFOLLOW, STATX_INO | STATX_BTIME, &stx) != 0) {
        return false;
    }
    identity_out->inode = stx.stx_ino;
    identity_out->born_ns =
        (stx.stx_mask & STATX_BTIME) == 0 ? 0 : stx.stx_btime.tv_sec * 1000000000 + stx.stx_btime.tv_nsec;
    return true;
}

bool file_identity_same(const struct file_identity *a, const struct file_identity *b)
{
    return a->inode == b->inode && (a->born_ns == 0 || b->born_ns == 0 || a->born_ns == b->born_ns);
}

/* ---- ballast ---- */

void disk_ballast_make(struct disk *disk)
{
    disk->ballast_given_up = false;
    if (disk->ballast_bytes == 0) {
        return;
    }
    int fd = open(disk->ballast_path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    int error = fd < 0 ? errno : posix_fallocate(fd, 0, (off_t)disk->ballast_bytes);
    if (error == 0 && ftruncate(fd, (off_t)disk->ballast_bytes) != 0) {
        error = errno;
    }
    if (error != 0) {
        log_event(LOG_WARN, "no ballast", "path=\"%s\" error=\"%s\"", disk->ballast_path, strerror(error));
        disk->ballast_given_up = true;
        if (fd >= 0 && ftruncate(fd, 0) != 0) { /* half a ballast only takes room */
            unlink(disk->ballast_path);
        }
    }
    if (fd >= 0) {
        close(fd);
    }
}

bool disk_ballast_give_up(struct disk *disk)
{
    disk->ballast_given_up = disk->ballast_bytes > 0;
    int fd = open(disk->ballast_path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0) {
        return false;
    }
    struct stat st;
    bool had_some = fstat(fd, &st) == 0 && st.st_blocks > 0;
    if (had_some && ftruncate(fd, 0) != 0) {
        had_some = unlink(disk->ballast_path) == 0;
    }
    if (had_some && fsync(fd) != 0) { /* some file systems free blocks only once that is on record */
        log_event(LOG_WARN, "ballast not synced", "path=\"%s\" error=\"%s\"", disk->ballast_path, strerror(errno));
    }
    close(fd);
    return had_some;
}

/* ---- looking ---- */

static uint64_t inode_of(const char *path, uint64_t *size_out)
{
    struct stat st;
    *size_out = 0;
    if (lstat(path, &st) != 0) {
        return 0;
    }
    *size_out = (uint64_t)st.st_size;
    return st.st_ino;
}

void disk_pin(struct disk *disk)
{
    uint64_t size;
    disk->pinned_inode[0] = inode_of(disk->path, &size);
    disk->pinned_inode[1] = inode_of(disk->wal_path, &size);
}

static bool is_pinned(uint64_t pinned, uint64_t inode)
{
    return pinned == 0 || pinned == inode;
}

enum quern_err disk_look(struct disk *disk, struct disk_facts *facts_out)
{
    struct statvfs fs;
    *facts_out = (struct disk_facts){0};
    if (!is_pinned(disk->pinned_inode[0], inode_of(disk->path, &facts_out->file_bytes)) ||
        !is_pinned(disk->pinned_inode[1], inode_of(disk->wal_path, &facts_out->wal_bytes))) {
        return QUERN_IO;
    }
    if (statvfs(disk->path, &fs) != 0) {
        return QUERN_IO;
    }
    facts_out->free_bytes = (uint64_t)fs.f_bavail * fs.f_frsize;
    /* Twice, so that making the ballast does not itself bring the disk below the floor. */
    if (disk->ballast_given_up && facts_out->free_bytes >= disk->free_floor + 2 * disk->ballast_bytes) {
        disk_ballast_make(disk);
    }
    facts_out->is_low = facts_out->free_bytes < disk->free_floor || disk->ballast_given_up;
    return QUERN_OK;
}

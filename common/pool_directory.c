/*
 * pool_directory.c owns making, recognising and removing the private directories of embedded pools.
 * It must not know who uses them for what.
 * Start reading at pool_directory_make; what may be removed is in files_remove.
 */
#include "common/pool_directory.h"

#include "common/bytes.h"
#include "common/check.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define NAME_PREFIX "quern-pool-"
#define NAME_TEMPLATE NAME_PREFIX "XXXXXX"
#define MARK_NAME "pool"
#define SOCKET_LOCK_NAME "broker.sock.lock"
/* A socket's path has 107 bytes: what is left for the directory that ours is made in. */
#define BASE_SIZE_MAX (107u - sizeof("/" NAME_TEMPLATE "/broker.sock"))
/* Bounds of looking for what others left; what is not found this time will be another time. */
#define SWEEP_LOOK_COUNT_MAX 10000u
#define SWEEP_COUNT_MAX 16u
#define MAKE_COUNT_MAX 8u
#define REMOVE_COUNT_MAX 3u

static enum quern_err say(char **why_out, const char *what, const char *path)
{
    if (asprintf(why_out, "%s %s: %s", what, path, strerror(errno)) < 0) {
        *why_out = NULL;
        return QUERN_NO_MEMORY;
    }
    return QUERN_IO;
}

/* ---- recognising ---- */

/* A descriptor of the directory, -1 if it is none of ours. */
static int ours_open(int base, const char *name)
{
    struct stat facts;
    int fd = openat(base, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd >= 0 && fstat(fd, &facts) == 0 && facts.st_uid == geteuid() && (facts.st_mode & 07777) == 0700 &&
        fstatat(fd, MARK_NAME, &facts, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(facts.st_mode)) {
        return fd;
    }
    if (fd >= 0) {
        close(fd);
    }
    return -1;
}

static bool is_pool_name(const char *name)
{
    return strlen(name) == strlen(NAME_TEMPLATE) && strncmp(name, NAME_PREFIX, strlen(NAME_PREFIX)) == 0;
}

/* ---- removing ---- */

/* What a pool's broker and worker put there. */
static bool is_pool_file(const char *name)
{
    static const char *const names[] = {"broker.sock", SOCKET_LOCK_NAME};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (strcmp(name, names[i]) == 0) {
            return true;
        }
    }
    size_t n = strlen(name);
    bool is_worker_lock = strncmp(name, "worker-", 7) == 0 && n > 5 && strcmp(name + n - 5, ".lock") == 0;
    return is_worker_lock;
}

static void files_remove(int fd)
{
    struct dirent *entry = NULL;
    DIR *list = fdopendir(dup(fd));
    while (list != NULL && (entry = readdir(list)) != NULL) {
        if (is_pool_file(entry->d_name)) {
            (void)unlinkat(fd, entry->d_name, 0);
        }
    }
    if (list != NULL) {
        closedir(list);
    }
}

/* The mark last, and back again if the directory stays (somebody's file is in it, or a worker that ends has just made
 * one): without it nobody would know whose the rest is. */
static bool try_to_remove(int base, const char *name, int fd)
{
    files_remove(fd);
    (void)unlinkat(fd, MARK_NAME, 0);
    if (unlinkat(base, name, AT_REMOVEDIR) == 0) {
        return true;
    }
    int mark = openat(fd, MARK_NAME, O_CREAT | O_WRONLY | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (mark >= 0) {
        close(mark);
    }
    return false;
}

static void remove_at(int base, const char *name)
{
    int fd = is_pool_name(name) ? ours_open(base, name) : -1;
    for (unsigned i = 0; fd >= 0 && i < REMOVE_COUNT_MAX; i++) {
        if (try_to_remove(base, name, fd)) {
            break;
        }
    }
    if (fd >= 0) {
        close(fd);
    }
}

void pool_directory_remove_path(const char *path)
{
    const char *slash = strrchr(path, '/');
    char base_path[PATH_MAX] = ".";
    if (slash != NULL) {
        (void)snprintf(base_path, sizeof(base_path), "%.*s", slash == path ? 1 : (int)(slash - path), path);
    }
    int base = open(base_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (base >= 0) {
        remove_at(base, slash == NULL ? path : slash + 1);
        close(base);
    }
}

void pool_directory_remove(struct pool_directory *directory)
{
    if (directory->path != NULL) {
        pool_directory_remove_path(directory->path);
    }
    free(directory->path);
    directory->path = NULL;
    if (directory->mark_fd >= 0) {
        close(directory->mark_fd);
        directory->mark_fd = -1;
    }
}

/* ---- what was left behind ---- */

/* The lock of a file in it; true if nobody holds it (it is held by us then), or there is no such file. */
static bool lock_is_free(int fd, const char *name, int *lock_fd_out)
{
    *lock_fd_out = openat(fd, name, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
    return *lock_fd_out < 0 ? errno == ENOENT : flock(*lock_fd_out, LOCK_EX | LOCK_NB) == 0;
}

/* Removes it if program and broker are both gone: the kernel drops locks with their holders. Ours are held meanwhile:
 * a program that makes its mark just now sees that. */
static bool remove_abandoned(int base, const char *name)
{
    int fd = ours_open(base, name);
    int lock_fds[2] = {-1, -1};
    bool is = fd >= 0 && lock_is_free(fd, MARK_NAME, &lock_fds[0]) && lock_fds[0] >= 0 &&
              lock_is_free(fd, SOCKET_LOCK_NAME, &lock_fds[1]);
    if (is) {
        remove_at(base, name);
    }
    for (size_t i = 0; i < 2; i++) {
        if (lock_fds[i] >= 0) {
            close(lock_fds[i]);
        }
    }
    if (fd >= 0) {
        close(fd);
    }
    return is;
}

/* Its program was killed before it could make its mark; or it is about to: then it makes another directory. */
static bool remove_empty(int base, const char *name)
{
    struct stat facts;
    return fstatat(base, name, &facts, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(facts.st_mode) &&
           facts.st_uid == geteuid() && unlinkat(base, name, AT_REMOVEDIR) == 0;
}

static void sweep(const char *base_path)
{
    struct dirent *entry = NULL;
    unsigned swept = 0;
    DIR *list = opendir(base_path);
    for (unsigned i = 0; list != NULL && i < SWEEP_LOOK_COUNT_MAX && swept < SWEEP_COUNT_MAX; i++) {
        entry = readdir(list);
        if (entry == NULL) {
            break;
        }
        if (is_pool_name(entry->d_name) &&
            (remove_abandoned(dirfd(list), entry->d_name) || remove_empty(dirfd(list), entry->d_name))) {
            swept++;
        }
    }
    if (list != NULL) {
        closedir(list);
    }
}

/* ---- making ---- */

static bool mark(struct pool_directory *directory)
{
    int fd = open(directory->path, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    directory->mark_fd = fd < 0 ? -1 : openat(fd, MARK_NAME, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd >= 0) {
        int error = errno;
        close(fd);
        errno = error;
    }
    /* Whoever sweeps may have seen it before it was locked: another one then. */
    return directory->mark_fd >= 0 && flock(directory->mark_fd, LOCK_EX | LOCK_NB) == 0;
}

static enum quern_err make_in(const char *base, struct pool_directory *directory, char **why_out)
{
    for (unsigned i = 0; i < MAKE_COUNT_MAX; i++) {
        if (asprintf(&directory->path, "%s/" NAME_TEMPLATE, base) < 0) {
            directory->path = NULL;
            return QUERN_NO_MEMORY;
        }
        if (mkdtemp(directory->path) == NULL) {
            free(directory->path);
            directory->path = NULL;
            return say(why_out, "cannot make a directory in", base);
        }
        if (mark(directory)) {
            return QUERN_OK;
        }
        (void)say(why_out, "cannot make a file in", directory->path);
        char path[PATH_MAX];
        (void)snprintf(path, sizeof(path), "%s", directory->path);
        pool_directory_remove(directory);
        (void)rmdir(path); /* without a mark it is still ours */
        if (i + 1 < MAKE_COUNT_MAX) {
            free(*why_out);
            *why_out = NULL;
        }
    }
    return QUERN_IO;
}

static bool is_usable(const char *base)
{
    return base != NULL && base[0] == '/' && strlen(base) <= BASE_SIZE_MAX && access(base, W_OK | X_OK) == 0;
}

enum quern_err pool_directory_make(struct pool_directory *directory_out, char **why_out)
{
    const char *bases[] = {getenv("XDG_RUNTIME_DIR"), getenv("TMPDIR"), "/tmp"};
    enum quern_err err = QUERN_IO;
    *directory_out = (struct pool_directory)POOL_DIRECTORY_INIT;
    for (size_t i = 0; err == QUERN_IO && i < sizeof(bases) / sizeof(bases[0]); i++) {
        if (is_usable(bases[i]) || i == 2) {
            free(*why_out);
            *why_out = NULL;
            sweep(bases[i]);
            err = make_in(bases[i], directory_out, why_out);
        }
    }
    return err;
}

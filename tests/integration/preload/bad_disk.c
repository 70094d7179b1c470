/*
 * bad_disk: preloaded into a broker by stories. If there is a file $QUERN_BAD_DISK/sync-fails, the next fdatasync or
 * fsync fails with EIO, once: the file is gone then. While there is a file $QUERN_BAD_DISK/full, there is no room:
 * writes of the store fail with ENOSPC.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/types.h>
#include <unistd.h>

/* POSIX promises that a function's address fits into what dlsym returns; C does not. */
union next {
    void *object;
    int (*sync)(int fd);
    ssize_t (*write)(int fd, const void *p, size_t n, off64_t at);
    int (*allocate)(int fd, off_t at, off_t size);
};

static union next next_of(const char *name)
{
    return (union next){.object = dlsym(RTLD_NEXT, name)};
}

static bool place_of(const char *name, char path[4096])
{
    const char *directory = getenv("QUERN_BAD_DISK");
    snprintf(path, 4096, "%s/%s", directory != NULL ? directory : "", name);
    return directory != NULL;
}

static bool sync_fails(void)
{
    char path[4096];
    return place_of("sync-fails", path) && unlink(path) == 0;
}

static bool is_full(void)
{
    char path[4096];
    return place_of("full", path) && access(path, F_OK) == 0;
}

__attribute__((visibility("default"))) int fdatasync(int fd)
{
    if (sync_fails()) {
        errno = EIO;
        return -1;
    }
    return next_of("fdatasync").sync(fd);
}

__attribute__((visibility("default"))) int fsync(int fd)
{
    if (sync_fails()) {
        errno = EIO;
        return -1;
    }
    return next_of("fsync").sync(fd);
}

__attribute__((visibility("default"))) ssize_t pwrite64(int fd, const void *p, size_t n, off64_t at)
{
    if (is_full()) {
        errno = ENOSPC;
        return -1;
    }
    return next_of("pwrite64").write(fd, p, n, at);
}

__attribute__((visibility("default"))) int posix_fallocate(int fd, off_t at, off_t size)
{
    return is_full() ? ENOSPC : next_of("posix_fallocate").allocate(fd, at, size);
}

/*
 * disk_calls: the calls to a disk that do not pass through SQLite (locks, renewed logs, copies and their names), told
 * to the model of the disk and open to a crash like SQLite's own. Linked in by --wrap; must not know who calls. Start
 * at __wrap_fsync.
 */
#include "support/disk_model.h"
#include "support/fault_vfs.h"

#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

int __real_rename(const char *from, const char *to);
int __real_renameat2(int from_fd, const char *from, int to_fd, const char *to, unsigned flags);
int __real_unlink(const char *path);
int __wrap_fsync(int fd);
int __wrap_fdatasync(int fd);
int __wrap_rename(const char *from, const char *to);
int __wrap_renameat2(int from_fd, const char *from, int to_fd, const char *to, unsigned flags);
int __wrap_unlink(const char *path);

int __real_fsync(int fd);
int __real_fdatasync(int fd);

/* The real disk need not be kept waiting. */
int __wrap_fsync(int fd)
{
    if (!fault_is_watching()) {
        return __real_fsync(fd);
    }
    fault_operation();
    model_sync_fd(fd);
    return 0;
}

int __wrap_fdatasync(int fd)
{
    return fault_is_watching() ? __wrap_fsync(fd) : __real_fdatasync(fd);
}

static int renamed(int code, const char *from, const char *to)
{
    if (code == 0 && fault_is_watching()) {
        model_rename(from, to);
    }
    return code;
}

/* Known to the model before, or it could not be looked at any more. */
static void know(const char *path)
{
    if (fault_is_watching()) {
        fault_operation();
        if (access(path, F_OK) == 0) {
            (void)model_open(path, false);
        }
    }
}

int __wrap_rename(const char *from, const char *to)
{
    know(from);
    return renamed(__real_rename(from, to), from, to);
}

int __wrap_renameat2(int from_fd, const char *from, int to_fd, const char *to, unsigned flags)
{
    know(from);
    return renamed(__real_renameat2(from_fd, from, to_fd, to, flags), from, to);
}

int __wrap_unlink(const char *path)
{
    if (fault_is_watching() && access(path, F_OK) == 0) {
        fault_operation();
        model_delete(path);
    }
    return __real_unlink(path);
}

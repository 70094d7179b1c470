/*
 * link_claim: the right to bind a socket path. Binding an ipc address removes whatever is at its path, a running
 * broker's socket included, so the path is locked first, and its directory must be one that only we may write.
 * Must not know ZeroMQ.
 * Start at claim_take.
 */
#include "common/link_private.h"

#include "common/check.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum quern_err claim_check_directory(const char *path, char **why_out)
{
    struct stat st;
    if (lstat(path, &st) != 0) {
        *why_out = link_say("the directory %s of the socket cannot be used: %s; make it with: mkdir -m 700 %s", path,
                            strerror(errno), path);
        return QUERN_IO;
    }
    if (!S_ISDIR(st.st_mode)) {
        *why_out = link_say("%s is %s, not a directory; the socket needs a real directory of its own", path,
                            S_ISLNK(st.st_mode) ? "a symbolic link" : "a file");
        return QUERN_DENIED;
    }
    if (st.st_uid != geteuid()) {
        *why_out = link_say("the directory %s belongs to user %u, not to %u; choose another place for the socket", path,
                            (unsigned)st.st_uid, (unsigned)geteuid());
        return QUERN_DENIED;
    }
    if ((st.st_mode & 0777) != 0700) {
        *why_out = link_say("the directory %s has mode %04o, so that others may reach or replace the socket; "
                            "set it with: chmod 700 %s",
                            path, (unsigned)(st.st_mode & 07777), path);
        return QUERN_DENIED;
    }
    return QUERN_OK;
}

static enum quern_err check_parent(const char *path, char **why_out)
{
    char *copy = xstrdup(path);
    enum quern_err err = claim_check_directory(dirname(copy), why_out);
    free(copy);
    return err;
}

/* libzmq removes what is at the path before it binds: let that be a socket only. */
static enum quern_err check_path(const char *path, char **why_out)
{
    struct stat st;
    if (lstat(path, &st) == 0 && !S_ISSOCK(st.st_mode)) {
        *why_out = link_say("%s exists and is not a socket; remove it or choose another path", path);
        return QUERN_DENIED;
    }
    return QUERN_OK;
}

static void say_in_use(int lock_fd, const char *path, char **why_out)
{
    char pid[16] = "";
    ssize_t size = pread(lock_fd, pid, sizeof pid - 1, 0);
    pid[size > 0 ? strcspn(pid, "\n") : 0] = '\0';
    *why_out = link_say("another broker%s%s listens on %s; stop it or choose another path",
                        pid[0] != '\0' ? ", pid " : "", pid, path);
}

static enum quern_err lock(const char *path, int *fd_out, char **why_out)
{
    char *lock_path = link_say("%s.lock", path);
    /* Never removed: a new file under the same name would be another lock. */
    int fd = open(lock_path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) {
        *why_out = link_say("cannot open the lock file %s: %s", lock_path, strerror(errno));
        free(lock_path);
        return QUERN_IO;
    }
    free(lock_path);
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        say_in_use(fd, path, why_out);
        close(fd);
        return QUERN_IN_USE;
    }
    /* Only for the message of the second one. */
    if (ftruncate(fd, 0) == 0) {
        dprintf(fd, "%d\n", (int)getpid());
    }
    *fd_out = fd;
    return QUERN_OK;
}

enum quern_err claim_take(const char *path, struct claim *claim_out, char **why_out)
{
    enum quern_err err = check_parent(path, why_out);
    if (err == QUERN_OK) {
        err = check_path(path, why_out);
    }
    int fd = -1;
    if (err == QUERN_OK) {
        err = lock(path, &fd, why_out);
    }
    if (err != QUERN_OK) {
        return err;
    }
    *claim_out = (struct claim){.lock_fd = fd, .path = xstrdup(path)};
    return QUERN_OK;
}

void claim_drop(struct claim *claim)
{
    if (claim->path != NULL) {
        unlink(claim->path);
        free(claim->path);
        claim->path = NULL;
    }
    if (claim->lock_fd >= 0) {
        close(claim->lock_fd);
        claim->lock_fd = -1;
    }
}

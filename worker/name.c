/*
 * name.c owns that no two living workers of one user on a host have one name.
 * It must not know what the name is used for.
 * Start reading at name_hold.
 *
 * What a former instance of a worker held is given up for lost when its successor says HELLO, so a name must be free
 * only when its last holder is dead: a lock that the kernel drops with the process says just that.
 */
#include "worker/name.h"

#include "common/bytes.h"
#include "common/check.h"
#include "common/limits.h"
#include "common/link.h"

#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

/* The descriptor, -1 if somebody holds it, -2 and errno. */
static int lock(const char *directory, const char *file)
{
    struct buf path = {0};
    buf_printf(&path, "%s/%s.lock", directory, file);
    buf_put_u8(&path, 0);
    int fd = open((const char *)path.p, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    buf_fini(&path);
    if (fd < 0) {
        return -2;
    }
    if (flock(fd, LOCK_EX | LOCK_NB) == 0) {
        return fd;
    }
    int err = errno;
    close(fd);
    errno = err;
    return err == EWOULDBLOCK ? -1 : -2;
}

static enum quern_err hold_wanted(const char *directory, const char *wanted, int *fd_out)
{
    /* Any bytes may be in a name, and many of them. */
    unsigned char digest[crypto_generichash_BYTES_MIN];
    char file[sizeof("worker-") + 2 * sizeof(digest)] = "worker-";
    crypto_generichash(digest, sizeof(digest), (const unsigned char *)wanted, strlen(wanted), NULL, 0);
    sodium_bin2hex(file + strlen("worker-"), 2 * sizeof(digest) + 1, digest, sizeof(digest));
    *fd_out = lock(directory, file);
    return *fd_out >= 0 ? QUERN_OK : *fd_out == -1 ? QUERN_IN_USE : QUERN_IO;
}

static enum quern_err hold_any(const char *directory, const char *host, char **name_out, int *fd_out)
{
    for (unsigned n = 1; n <= WORKER_COUNT_MAX; n++) {
        char name[WORKER_NAME_SIZE_MAX + 1];
        snprintf(name, sizeof(name), "%.*s-%u", (int)(WORKER_NAME_SIZE_MAX - 8), host, n);
        enum quern_err err = hold_wanted(directory, name, fd_out);
        if (err != QUERN_IN_USE) {
            *name_out = err == QUERN_OK ? xstrdup(name) : NULL;
            return err;
        }
    }
    return QUERN_FULL;
}

static char *why_of(enum quern_err err, const char *wanted, const char *directory)
{
    struct buf why = {0};
    if (err == QUERN_IN_USE) {
        buf_printf(&why, "a worker named \"%s\" runs already for this user: choose another --name", wanted);
    } else if (err == QUERN_FULL) {
        buf_printf(&why, "%u workers run already for this user", WORKER_COUNT_MAX);
    } else {
        buf_printf(&why, "cannot lock a name in %s: %s", directory, strerror(errno));
    }
    char *text = bytes_dup_text(buf_bytes(&why));
    buf_fini(&why);
    return text;
}

enum quern_err name_hold(const char *wanted, const char *host, char **name_out, int *fd_out, char **why_out)
{
    char *directory = NULL;
    enum quern_err err = link_default_directory(&directory, why_out);
    if (err != QUERN_OK) {
        return err;
    }
    CHECK(sodium_init() >= 0);
    if (wanted == NULL) {
        err = hold_any(directory, host, name_out, fd_out);
    } else {
        err = hold_wanted(directory, wanted, fd_out);
        *name_out = err == QUERN_OK ? xstrdup(wanted) : NULL;
    }
    if (err != QUERN_OK) {
        *why_out = why_of(err, wanted, directory);
    }
    free(directory);
    return err;
}

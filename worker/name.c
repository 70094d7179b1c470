/*
 * name.c owns that no two living workers of one user on a host have one name.
 * It must not know what the name is used for.
 * Start reading at name_take.
 *
 * What a former instance of a worker held is given up for lost when its successor says HELLO, so a name must be free
 * only when its last holder is dead: a lock that the kernel drops with the process says just that. The lock file stands
 * in the runtime directory, and one user may have several (a login has XDG_RUNTIME_DIR, a cron job has none), as other
 * users have theirs; so the name is held a second time by an abstract socket, which all of the host's workers of that
 * broker find.
 */
#include "worker/name.h"

#include "common/bytes.h"
#include "common/check.h"
#include "common/limits.h"
#include "common/link.h"

#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define HASH_TEXT_SIZE (2 * crypto_generichash_BYTES_MIN + 1)

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

/* The descriptor, -1 if somebody has it. -2: there are no such sockets here. */
static int bind_name(const char *hash)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int size = snprintf(address.sun_path + 1, sizeof(address.sun_path) - 1, "quern-worker-%s", hash);
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return -2;
    }
    socklen_t length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)size);
    if (bind(fd, (const struct sockaddr *)&address, length) == 0) {
        return fd;
    }
    int err = errno;
    close(fd);
    return err == EADDRINUSE ? -1 : -2;
}

/* Any bytes may be in a name, and many of them. */
static void hash_of(const char *a, const char *b, char hash[HASH_TEXT_SIZE])
{
    unsigned char digest[crypto_generichash_BYTES_MIN];
    crypto_generichash_state state;
    crypto_generichash_init(&state, NULL, 0, sizeof(digest));
    crypto_generichash_update(&state, (const unsigned char *)a, strlen(a) + (b != NULL));
    if (b != NULL) {
        crypto_generichash_update(&state, (const unsigned char *)b, strlen(b));
    }
    crypto_generichash_final(&state, digest, sizeof(digest));
    sodium_bin2hex(hash, HASH_TEXT_SIZE, digest, sizeof(digest));
}

static enum quern_err take_wanted(const char *directory, const char *wanted, const char *broker, struct name_hold *hold)
{
    char file[sizeof("worker-") + HASH_TEXT_SIZE] = "worker-";
    char hash[HASH_TEXT_SIZE];
    hash_of(wanted, NULL, file + strlen("worker-"));
    hash_of(wanted, broker, hash);
    hold->file = lock(directory, file);
    if (hold->file < 0) {
        return hold->file == -1 ? QUERN_IN_USE : QUERN_IO;
    }
    hold->socket = bind_name(hash);
    if (hold->socket == -1) {
        close(hold->file);
        hold->file = -1;
        return QUERN_IN_USE;
    }
    hold->name = xstrdup(wanted);
    return QUERN_OK;
}

static enum quern_err take_any(const char *directory, const char *host, const char *broker, struct name_hold *hold)
{
    for (unsigned n = 1; n <= WORKER_COUNT_MAX; n++) {
        char name[WORKER_NAME_SIZE_MAX + 1];
        snprintf(name, sizeof(name), "%.*s-%u", (int)(WORKER_NAME_SIZE_MAX - 8), host, n);
        enum quern_err err = take_wanted(directory, name, broker, hold);
        if (err != QUERN_IN_USE) {
            return err;
        }
    }
    return QUERN_FULL;
}

static char *why_of(enum quern_err err, const char *wanted, const char *directory)
{
    struct buf why = {0};
    if (err == QUERN_IN_USE) {
        buf_printf(&why, "a worker named \"%s\" runs already: choose another --name", wanted);
    } else if (err == QUERN_FULL) {
        buf_printf(&why, "%u workers run already", WORKER_COUNT_MAX);
    } else {
        buf_printf(&why, "cannot lock a name in %s: %s", directory, strerror(errno));
    }
    char *text = bytes_dup_text(buf_bytes(&why));
    buf_fini(&why);
    return text;
}

enum quern_err name_take(const char *wanted, const char *host, const char *broker, const char *given,
                         struct name_hold *hold_out, char **why_out)
{
    char *directory = given != NULL ? xstrdup(given) : NULL;
    *hold_out = (struct name_hold){.file = -1, .socket = -1};
    enum quern_err err = given != NULL ? QUERN_OK : link_default_directory(&directory, why_out);
    if (err != QUERN_OK) {
        return err;
    }
    CHECK(sodium_init() >= 0);
    err =
        wanted == NULL ? take_any(directory, host, broker, hold_out) : take_wanted(directory, wanted, broker, hold_out);
    if (err != QUERN_OK) {
        *why_out = why_of(err, wanted, directory);
    }
    free(directory);
    return err;
}

void name_release(struct name_hold *hold)
{
    free(hold->name);
    if (hold->file >= 0) {
        close(hold->file);
    }
    if (hold->socket >= 0) {
        close(hold->socket);
    }
    *hold = (struct name_hold){.file = -1, .socket = -1};
}

/*
 * sync_gate: preloaded into a broker by stories. While the file $QUERN_GATE/closed exists, fdatasync and fsync wait
 * before they do anything, and say so by making $QUERN_GATE/waiting. So a story can look at what leaves before a sync.
 * The file $QUERN_GATE/once lets one of them through, and is gone then.
 */
#include <dlfcn.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define LOOK_AGAIN_MS 1

static void wait_while_closed(void)
{
    const char *gate = getenv("QUERN_GATE");
    char closed[4096];
    char waiting[4096];
    char once[4096];
    if (gate == NULL) {
        return;
    }
    snprintf(closed, sizeof closed, "%s/closed", gate);
    snprintf(waiting, sizeof waiting, "%s/waiting", gate);
    snprintf(once, sizeof once, "%s/once", gate);
    while (access(closed, F_OK) == 0) {
        int fd = open(waiting, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
        if (fd >= 0) {
            close(fd);
        }
        if (unlink(once) == 0) {
            unlink(waiting);
            return;
        }
        poll(NULL, 0, LOOK_AGAIN_MS);
    }
}

typedef int sync_function(int fd);

/* POSIX promises that a function's address fits into what dlsym returns; C does not. */
static sync_function *next_of(const char *name)
{
    union {
        void *object;
        sync_function *function;
    } next = {.object = dlsym(RTLD_NEXT, name)};
    return next.function;
}

__attribute__((visibility("default"))) int fdatasync(int fd)
{
    wait_while_closed();
    return next_of("fdatasync")(fd);
}

__attribute__((visibility("default"))) int fsync(int fd)
{
    wait_while_closed();
    return next_of("fsync")(fd);
}

/*
 * set: futures that are given out once each, as they complete.
 * Knows nothing of clients but through its watcher.
 * Start at quern_set_next.
 */
#include "client/inside.h"
#include "client/timed_fd.h"
#include "common/check.h"
#include "common/clock.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct quern_set {
    unsigned fork_count;
    int64_t deadline_ms;
    struct watcher watcher;
    struct timed_fd timed_fd; /* over the watcher's: the deadline ends the wait, too */
};

static enum quern_err set_check(const struct quern_set *set)
{
    if (set == NULL) {
        return error_set(QUERN_INVALID, "the set is NULL; quern_as_completed gives one");
    }
    if (set->fork_count != client_fork_count()) {
        return error_set(QUERN_CLOSED, "this set belongs to the parent of a fork");
    }
    return QUERN_OK;
}

/* ---- what is in it ---- */

enum quern_err quern_set_add(struct quern_set *set, struct quern_future *future)
{
    enum quern_err err = set_check(set);
    err = err != QUERN_OK ? err : future_check(future);
    if (err != QUERN_OK) {
        return err;
    }
    struct tie *tie = calloc(1, sizeof(*tie));
    if (tie == NULL) {
        return error_memory("one more future in a set");
    }
    tie->is_owned = true;
    err = watcher_tie(&set->watcher, tie, future);
    if (err == QUERN_OK) {
        return err;
    }
    free(tie);
    return err != QUERN_DUPLICATE ? err : error_set(err, "the future is or was in this set, which gives it once");
}

static struct quern_set *set_make(int64_t deadline_ms)
{
    struct quern_set *set = calloc(1, sizeof(*set));
    if (set != NULL) {
        set->fork_count = client_fork_count();
        set->deadline_ms = deadline_ms;
        set->timed_fd = (struct timed_fd)TIMED_FD_INIT;
        watcher_init(&set->watcher, QUERN_FIRST_COMPLETED);
    }
    return set;
}

enum quern_err quern_as_completed(struct quern_future *const futures[], size_t count, int timeout_ms,
                                  struct quern_set **set_out)
{
    int64_t deadline_ms = deadline_of(timeout_ms);
    if (set_out == NULL || (futures == NULL && count > 0)) {
        return error_set(QUERN_INVALID, "quern_as_completed: %s is NULL", set_out == NULL ? "set_out" : "futures");
    }
    struct quern_set *set = set_make(deadline_ms);
    if (set == NULL) {
        return error_memory("a set");
    }
    for (size_t i = 0; i < count; i++) {
        enum quern_err err = quern_set_add(set, futures[i]);
        if (err != QUERN_OK && err != QUERN_DUPLICATE) {
            quern_set_close(&set);
            return err;
        }
    }
    *set_out = set;
    return QUERN_OK;
}

/* ---- what comes out of it ---- */

/* With the watcher's lock. QUERN_CLOSED stands for whatever the clients say. */
static enum quern_err set_take(struct quern_set *set, struct quern_future **future_out)
{
    struct watcher *watcher = &set->watcher;
    struct tie *tie = watcher->ties[TIE_READY].first;
    if (tie != NULL) {
        tie_move(watcher, tie, TIE_GIVEN);
        watcher_fd_update(watcher);
        *future_out = tie->future;
        return QUERN_OK;
    }
    if (watcher->pending == 0) {
        return error_set(QUERN_END, "every future of the set was given");
    }
    if (watcher->alive == 0) {
        return QUERN_CLOSED;
    }
    return error_set(QUERN_TIMEOUT, "%zu of %zu futures are unfinished; they go on", watcher->pending, watcher->total);
}

enum quern_err quern_set_next(struct quern_set *set, int timeout_ms, struct quern_future **future_out)
{
    enum quern_err err = set_check(set);
    err = err != QUERN_OK ? err : out_check("quern_set_next", "future_out", future_out);
    if (err != QUERN_OK) {
        return err;
    }
    int64_t deadline_ms = deadline_of(timeout_ms);
    deadline_ms = set->deadline_ms < deadline_ms ? set->deadline_ms : deadline_ms;
    pthread_mutex_lock(&set->watcher.lock);
    do { /* another thread may have taken what was there */
        err = watcher_await(&set->watcher, deadline_ms);
        err = err != QUERN_OK ? err : set_take(set, future_out);
    } while (err == QUERN_TIMEOUT && clock_mono_ms() < deadline_ms);
    bool is_polled_for_more = err == QUERN_OK && set->watcher.fd >= 0 && !watcher_is_due(&set->watcher);
    pthread_mutex_unlock(&set->watcher.lock);
    if (is_polled_for_more) {
        watcher_want(&set->watcher);
    }
    return err == QUERN_CLOSED ? watcher_end(&set->watcher) : err;
}

/* ---- its descriptor ---- */

/* With the watcher's lock. */
static int fd_make(struct quern_set *set)
{
    struct watcher *watcher = &set->watcher;
    if (watcher->fd < 0) {
        watcher->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        watcher_fd_update(watcher);
    }
    return timed_fd_get(&set->timed_fd, watcher->fd, set->deadline_ms);
}

int quern_set_fd(struct quern_set *set)
{
    if (set_check(set) != QUERN_OK) {
        return -1;
    }
    pthread_mutex_lock(&set->watcher.lock);
    int fd = fd_make(set);
    int why = errno;
    bool must_want = fd >= 0 && !watcher_is_due(&set->watcher);
    pthread_mutex_unlock(&set->watcher.lock);
    if (fd < 0) {
        (void)error_set(QUERN_IO, "no descriptor for a set: %s", strerror(why));
    }
    if (must_want) {
        watcher_want(&set->watcher);
    }
    return fd;
}

void quern_set_close(struct quern_set **taken)
{
    if (taken == NULL || *taken == NULL) {
        return;
    }
    struct quern_set *set = *taken;
    *taken = NULL;
    if (set_check(set) != QUERN_OK) {
        return; /* in the child of a fork nobody knows what state it is in */
    }
    timed_fd_fini(&set->timed_fd);
    watcher_fini(&set->watcher);
    free(set);
}

/*
 * wait: until some or all of several futures are done.
 * Knows nothing of how it is told; the watcher does.
 * Start at quern_wait.
 */
#include "client/inside.h"
#include "common/check.h"

#include <stdlib.h>

/* One wait: ties[i] of futures[i]; of one that stands there twice only the first is used. */
struct several {
    struct watcher watcher;
    struct tie *ties;
    size_t count;
};

static enum quern_err wait_check(struct quern_future *const futures[], size_t count, enum quern_when when)
{
    if (when != QUERN_FIRST_COMPLETED && when != QUERN_FIRST_EXCEPTION && when != QUERN_ALL_COMPLETED) {
        return error_set(QUERN_INVALID,
                         "quern_wait: when is %d; it may be QUERN_FIRST_COMPLETED, QUERN_FIRST_EXCEPTION or "
                         "QUERN_ALL_COMPLETED",
                         (int)when);
    }
    if (futures == NULL && count > 0) {
        return error_set(QUERN_INVALID, "quern_wait: futures is NULL and count is %zu", count);
    }
    for (size_t i = 0; i < count; i++) {
        enum quern_err err = future_check(futures[i]);
        if (err != QUERN_OK) {
            return err;
        }
    }
    return QUERN_OK;
}

static enum quern_err several_tie(struct several *several, struct quern_future *const futures[], size_t count)
{
    several->ties = calloc(count + 1, sizeof(struct tie));
    if (several->ties == NULL) {
        return error_memory("waiting for futures");
    }
    for (; several->count < count; several->count++) {
        enum quern_err err = watcher_tie(&several->watcher, &several->ties[several->count], futures[several->count]);
        if (err != QUERN_OK && err != QUERN_DUPLICATE) {
            return err;
        }
    }
    return QUERN_OK;
}

/* What is done at one moment, with the watcher's lock. */
static void several_tell(const struct several *several, bool done_out[], size_t *done_count_out)
{
    for (size_t i = 0; done_out != NULL && i < several->count; i++) {
        const struct tie *tie = &several->ties[i];
        done_out[i] = (tie->first != NULL ? tie->first : tie)->state == TIE_READY;
    }
    if (done_count_out != NULL) {
        *done_count_out = several->watcher.total - several->watcher.pending;
    }
}

/* True: the wait ended because something that is waited for will not come. */
static bool is_broken(const struct watcher *watcher)
{
    bool has_one = watcher->ties[TIE_READY].first != NULL;
    if (watcher->alive == watcher->pending || (watcher->when == QUERN_FIRST_EXCEPTION && watcher->failed > 0)) {
        return false;
    }
    return watcher->when == QUERN_FIRST_COMPLETED ? !has_one && watcher->alive == 0 : watcher_is_due(watcher);
}

enum quern_err quern_wait(struct quern_future *const futures[], size_t count, enum quern_when when, int timeout_ms,
                          bool done_out[], size_t *done_count_out)
{
    int64_t deadline_ms = deadline_of(timeout_ms);
    enum quern_err err = wait_check(futures, count, when);
    if (err != QUERN_OK) {
        return err;
    }
    struct several several = {0};
    watcher_init(&several.watcher, when);
    err = several_tie(&several, futures, count);
    if (err == QUERN_OK) {
        pthread_mutex_lock(&several.watcher.lock);
        err = watcher_await(&several.watcher, deadline_ms);
        several_tell(&several, done_out, done_count_out);
        bool must_say = is_broken(&several.watcher);
        pthread_mutex_unlock(&several.watcher.lock);
        err = must_say ? watcher_end(&several.watcher) : err;
    }
    watcher_fini(&several.watcher);
    free(several.ties);
    return err;
}

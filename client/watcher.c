/*
 * watcher: who waits for several futures, and how he hears of them.
 * Knows nothing of outcomes' contents, of frames or of order.
 * Start at watcher_tie and watcher_await; ties_done is where completions come in.
 */
#include "client/inside.h"
#include "common/check.h"
#include "common/clock.h"
#include "common/place.h"

#include <stdlib.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

/* ---- lists ---- */

static void list_append(struct tie_list *list, struct tie *tie)
{
    tie->next = NULL;
    tie->prev = list->last;
    *(list->last == NULL ? &list->first : &list->last->next) = tie;
    list->last = tie;
}

static void list_remove(struct tie_list *list, struct tie *tie)
{
    *(tie->prev == NULL ? &list->first : &tie->prev->next) = tie->next;
    *(tie->next == NULL ? &list->last : &tie->next->prev) = tie->prev;
}

void tie_move(struct watcher *watcher, struct tie *tie, enum tie_state state)
{
    list_remove(&watcher->ties[tie->state], tie);
    tie->state = state;
    list_append(&watcher->ties[state], tie);
}

/* ---- being due ---- */

bool watcher_is_due(const struct watcher *watcher)
{
    if (watcher->pending == 0 || watcher->alive == 0) {
        return true;
    }
    switch (watcher->when) {
    case QUERN_FIRST_COMPLETED:
        return watcher->ties[TIE_READY].first != NULL;
    case QUERN_FIRST_EXCEPTION:
        return watcher->failed > 0;
    case QUERN_ALL_COMPLETED:
        break;
    }
    return watcher->alive < watcher->pending;
}

void watcher_fd_update(struct watcher *watcher)
{
    if (watcher->fd < 0) {
        return;
    }
    bool is_readable = watcher_is_due(watcher);
    eventfd_t count;
    if (is_readable && !watcher->is_readable) {
        (void)eventfd_write(watcher->fd, 1);
    } else if (!is_readable && watcher->is_readable) {
        (void)eventfd_read(watcher->fd, &count);
    }
    watcher->is_readable = is_readable;
}

static void watcher_tell(struct watcher *watcher)
{
    if (watcher->waiters > 0 && watcher_is_due(watcher)) {
        pthread_cond_broadcast(&watcher->due);
    }
    watcher_fd_update(watcher);
}

/* ---- watches ---- */

static struct watch *watch_find(const struct watcher *watcher, const struct quern_client *client)
{
    struct watch *watch = watcher->watches;
    while (watch != NULL && watch->client != client) {
        watch = watch->next;
    }
    return watch;
}

/* With both locks. */
static struct watch *watch_make(struct watcher *watcher, struct quern_client *client)
{
    struct watches *watches = &client->watches;
    struct watch *watch = calloc(1, sizeof(*watch));
    if (watch == NULL) {
        return NULL;
    }
    client_ref(client);
    watch->watcher = watcher;
    watch->client = client;
    watch->is_over = client_is_over(client);
    watch->client_next = watches->first;
    if (watches->first != NULL) {
        watches->first->client_prev = watch;
    }
    watches->first = watch;
    watch->next = watcher->watches;
    watcher->watches = watch;
    if (watcher->waiters > 0) {
        pthread_cond_broadcast(&watcher->due); /* who waits must tell this client too that he does */
    }
    return watch;
}

/* With the client's lock, when nothing is tied to it. */
static void watch_free(struct watch *watch)
{
    struct watches *watches = &watch->client->watches;
    CHECK(!watch->is_told && watch->waiters == 0);
    *(watch->client_prev == NULL ? &watches->first : &watch->client_prev->client_next) = watch->client_next;
    if (watch->client_next != NULL) {
        watch->client_next->client_prev = watch->client_prev;
    }
    free(watch);
}

/* Wakes wait until client_tell: once for a frame, however many are done by it. */
static void watch_tell_later(struct watch *watch)
{
    struct watches *watches = &watch->client->watches;
    if (!watch->is_told) {
        watch->is_told = true;
        watch->told_next = watches->told;
        watches->told = watch;
    }
}

static void watch_end(struct watch *watch)
{
    struct watcher *watcher = watch->watcher;
    pthread_mutex_lock(&watcher->lock);
    if (!watch->is_over) {
        watch->is_over = true;
        watcher->alive -= watch->pending;
    }
    pthread_mutex_unlock(&watcher->lock);
    watch_tell_later(watch);
}

void watches_tell(struct quern_client *client)
{
    struct watches *watches = &client->watches;
    if (!watches->is_over && client_is_over(client)) {
        watches->is_over = true;
        for (struct watch *watch = watches->first; watch != NULL; watch = watch->client_next) {
            watch_end(watch);
        }
    }
    while (watches->told != NULL) {
        struct watch *watch = watches->told;
        struct watcher *watcher = watch->watcher;
        watches->told = watch->told_next;
        watch->is_told = false;
        pthread_mutex_lock(&watcher->lock);
        watcher_tell(watcher);
        pthread_mutex_unlock(&watcher->lock);
    }
}

static bool watch_wants(const struct watch *watch)
{
    struct watcher *watcher = watch->watcher;
    pthread_mutex_lock(&watcher->lock);
    bool is_wanted = watch->pending > 0 && (watch->waiters > 0 || watcher->fd >= 0) && !watcher_is_due(watcher);
    pthread_mutex_unlock(&watcher->lock);
    return is_wanted;
}

bool watches_want(struct quern_client *client)
{
    if (client->is_closed || !completions_is_exhausted(&client->ledger.completions)) {
        return false; /* what is wanted comes by itself */
    }
    for (const struct watch *watch = client->watches.first; watch != NULL; watch = watch->client_next) {
        if (watch_wants(watch)) {
            return true;
        }
    }
    return false;
}

/* ---- ties ---- */

static struct tie *future_tie(const struct quern_future *future, const struct watcher *watcher)
{
    struct tie *tie = future->ties;
    while (tie != NULL && tie->watch->watcher != watcher) {
        tie = tie->future_next;
    }
    return tie;
}

static bool is_failed(const struct quern_future *future)
{
    return future->delivery != NULL && future->delivery->outcome.state == QUERN_STATE_FAILED;
}

/* With both locks. */
static void tie_fasten(struct watch *watch, struct tie *tie, struct quern_future *future)
{
    struct watcher *watcher = watch->watcher;
    tie->future = future;
    tie->watch = watch;
    tie->future_next = future->ties;
    future->ties = tie;
    tie->state = future->delivery == NULL ? TIE_PENDING : TIE_READY;
    list_append(&watcher->ties[tie->state], tie);
    watcher->total++;
    if (tie->state == TIE_PENDING) {
        watch->pending++;
        watcher->pending++;
        watcher->alive += watch->is_over ? 0 : 1;
    }
    watcher->failed += is_failed(future);
    watcher_tell(watcher);
}

/* It has no outcome, or none that is missing. With both locks. */
static void tie_settle(const struct tie *tie)
{
    struct watcher *watcher = tie->watch->watcher;
    tie->watch->pending--;
    watcher->pending--;
    watcher->alive -= tie->watch->is_over ? 0 : 1;
}

/* Takes it out of its watcher's lists; that of the future is the caller's. With both locks. */
static void tie_cut(struct tie *tie)
{
    struct watcher *watcher = tie->watch->watcher;
    list_remove(&watcher->ties[tie->state], tie);
    if (tie->state == TIE_PENDING) {
        tie_settle(tie);
    }
    watcher->failed -= tie->state != TIE_PENDING && is_failed(tie->future);
    watcher->total -= tie->state == TIE_GIVEN ? 0 : 1;
    tie->future = NULL;
    if (tie->is_owned) {
        free(tie);
    }
}

static void tie_unlist(struct tie *tie)
{
    struct tie **at = &tie->future->ties;
    while (*at != tie) {
        at = &(*at)->future_next;
    }
    *at = tie->future_next;
}

void ties_done(struct quern_future *future)
{
    for (struct tie *tie = future->ties; tie != NULL; tie = tie->future_next) {
        struct watcher *watcher = tie->watch->watcher;
        pthread_mutex_lock(&watcher->lock);
        tie_settle(tie);
        tie_move(watcher, tie, TIE_READY);
        watcher->failed += is_failed(future);
        pthread_mutex_unlock(&watcher->lock);
        watch_tell_later(tie->watch);
    }
}

void ties_cut(struct quern_future *future)
{
    while (future->ties != NULL) {
        struct tie *tie = future->ties;
        struct watch *watch = tie->watch;
        future->ties = tie->future_next;
        pthread_mutex_lock(&watch->watcher->lock);
        tie_cut(tie);
        pthread_mutex_unlock(&watch->watcher->lock);
        watch_tell_later(watch);
    }
}

enum quern_err watcher_tie(struct watcher *watcher, struct tie *tie, struct quern_future *future)
{
    struct quern_client *client = future->client;
    enum quern_err err = QUERN_OK;
    pthread_mutex_lock(&client->lock);
    tie->first = future_tie(future, watcher);
    if (tie->first != NULL) {
        pthread_mutex_unlock(&client->lock);
        return QUERN_DUPLICATE;
    }
    pthread_mutex_lock(&watcher->lock);
    struct watch *watch = watch_find(watcher, client);
    watch = watch != NULL ? watch : watch_make(watcher, client);
    if (watch == NULL) {
        err = error_memory("watching a future");
    } else {
        tie_fasten(watch, tie, future);
    }
    bool is_looked_at = watch != NULL && tie->state == TIE_PENDING && (watch->waiters > 0 || watcher->fd >= 0);
    pthread_mutex_unlock(&watcher->lock);
    if (is_looked_at && client_want(client)) {
        io_wake(client);
    }
    pthread_mutex_unlock(&client->lock);
    return err;
}

/* ---- life ---- */

void watcher_init(struct watcher *watcher, enum quern_when when)
{
    *watcher = (struct watcher){.when = when, .fd = -1};
    pthread_mutex_init(&watcher->lock, NULL);
    condition_init(&watcher->due);
}

/* A tie that is left, in whatever state. */
static struct tie *watcher_any(const struct watcher *watcher)
{
    for (unsigned state = 0; state < TIE_STATE_COUNT; state++) {
        if (watcher->ties[state].first != NULL) {
            return watcher->ties[state].first;
        }
    }
    return NULL;
}

static struct quern_client *watcher_any_client(struct watcher *watcher)
{
    pthread_mutex_lock(&watcher->lock);
    const struct tie *tie = watcher_any(watcher);
    struct quern_client *client = tie == NULL ? NULL : tie->watch->client; /* the watch keeps it */
    pthread_mutex_unlock(&watcher->lock);
    return client;
}

void watcher_cut(struct watcher *watcher)
{
    struct quern_client *client;
    while ((client = watcher_any_client(watcher)) != NULL) {
        pthread_mutex_lock(&client->lock);
        pthread_mutex_lock(&watcher->lock);
        struct tie *tie;
        while ((tie = watcher_any(watcher)) != NULL && tie->watch->client == client) {
            tie_unlist(tie);
            tie_cut(tie);
        }
        pthread_mutex_unlock(&watcher->lock);
        pthread_mutex_unlock(&client->lock);
    }
}

void watcher_fini(struct watcher *watcher)
{
    watcher_cut(watcher);
    while (watcher->watches != NULL) {
        struct watch *watch = watcher->watches;
        struct quern_client *client = watch->client;
        watcher->watches = watch->next;
        pthread_mutex_lock(&client->lock);
        watches_tell(client);
        watch_free(watch);
        client_unref_unlock(client);
    }
    if (watcher->fd >= 0) {
        (void)close(watcher->fd);
    }
    pthread_cond_destroy(&watcher->due);
    pthread_mutex_destroy(&watcher->lock);
}

/* ---- waiting ---- */

/* Tells the clients behind `first` that a thread waits, or not any more. The list only grows in front of it. */
static void waiters_add(struct watch *first, int change)
{
    for (struct watch *watch = first; watch != NULL; watch = watch->next) {
        struct quern_client *client = watch->client;
        pthread_mutex_lock(&client->lock);
        pthread_mutex_lock(&watch->watcher->lock);
        watch->waiters += (unsigned)change;
        bool is_wanted = change > 0 && watch->pending > 0;
        pthread_mutex_unlock(&watch->watcher->lock);
        if (is_wanted && client_want(client)) {
            io_wake(client);
        }
        pthread_mutex_unlock(&client->lock);
    }
}

void watcher_want(struct watcher *watcher)
{
    pthread_mutex_lock(&watcher->lock);
    struct watch *first = watcher->watches;
    pthread_mutex_unlock(&watcher->lock);
    waiters_add(first, 1);
    waiters_add(first, -1);
}

/* False: the deadline has passed. */
static bool due_wait(struct watcher *watcher, int64_t deadline_ms)
{
    if (deadline_ms == INT64_MAX) {
        return pthread_cond_wait(&watcher->due, &watcher->lock) == 0;
    }
    if (clock_mono_ms() >= deadline_ms) {
        return false;
    }
    struct timespec at = {.tv_sec = deadline_ms / 1000, .tv_nsec = deadline_ms % 1000 * 1000000};
    (void)pthread_cond_timedwait(&watcher->due, &watcher->lock, &at);
    return true;
}

static void due_await(struct watcher *watcher, int64_t deadline_ms)
{
    bool is_in_time = true;
    while (is_in_time && !watcher_is_due(watcher)) {
        struct watch *first = watcher->watches;
        pthread_mutex_unlock(&watcher->lock);
        waiters_add(first, 1);
        pthread_mutex_lock(&watcher->lock);
        watcher->waiters++;
        while (is_in_time && !watcher_is_due(watcher) && watcher->watches == first) {
            is_in_time = due_wait(watcher, deadline_ms);
        }
        watcher->waiters--;
        pthread_mutex_unlock(&watcher->lock);
        waiters_add(first, -1);
        pthread_mutex_lock(&watcher->lock);
    }
}

enum quern_err watcher_await(struct watcher *watcher, int64_t deadline_ms)
{
    if (watcher_is_due(watcher)) {
        return QUERN_OK;
    }
    if (clock_mono_ms() >= deadline_ms) { /* who looks again and again waits, in a way */
        pthread_mutex_unlock(&watcher->lock);
        watcher_want(watcher);
        pthread_mutex_lock(&watcher->lock);
        return QUERN_OK;
    }
    pthread_mutex_unlock(&watcher->lock);
    bool is_given = quern_place_give(deadline_ms);
    pthread_mutex_lock(&watcher->lock);
    if (!is_given) {
        return wait_refused();
    }
    due_await(watcher, deadline_ms);
    quern_place_take();
    return QUERN_OK;
}

enum quern_err watcher_end(struct watcher *watcher)
{
    enum quern_err err = QUERN_OK;
    pthread_mutex_lock(&watcher->lock);
    struct watch *watch = watcher->watches;
    while (watch != NULL && (!watch->is_over || watch->pending == 0)) {
        watch = watch->next;
    }
    pthread_mutex_unlock(&watcher->lock);
    if (watch != NULL) {
        pthread_mutex_lock(&watch->client->lock);
        err = client_end(watch->client);
        pthread_mutex_unlock(&watch->client->lock);
    }
    return err;
}

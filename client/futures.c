/*
 * futures: what a submit gave back, until its outcome is there and released.
 * Knows nothing of sockets or of the order of completion.
 * Start at quern_future_wait; future_complete is where outcomes arrive.
 */
#include "client/inside.h"
#include "common/check.h"
#include "common/clock.h"

#include <stdlib.h>

struct quern_future *future_make(struct quern_client *client)
{
    struct quern_future *future = xcalloc(1, sizeof(*future));
    future->client = client;
    return future;
}

void future_free(struct quern_future *future)
{
    free(future);
}

/* Drops one reference. The client keeps those that its futures hold: the last one of a future gives it back. */
static void future_unref(struct quern_future *future)
{
    CHECK(future->refs > 0);
    if (--future->refs > 0) {
        return;
    }
    if (future->delivery != NULL) {
        delivery_unref(future->delivery);
    }
    future->client->refs--;
    free(future);
}

void future_queued(struct quern_future *future, uint64_t id)
{
    struct quern_client *client = future->client;
    future->id = id;
    future->refs = 3; /* the application, the submit, client->futures */
    future->is_held = true;
    client->refs++;
    client->pending_count++;
    map_put(&client->futures, id, future);
}

void future_accepted(struct quern_future *future)
{
    future->is_accepted = true;
    future_unref(future);
}

void future_dropped(struct quern_future *future)
{
    future_unref(future);
}

void future_renumbered(struct quern_future *future, uint64_t old_id, uint64_t id)
{
    struct quern_client *client = future->client;
    future->id = id;
    if (map_remove(&client->futures, old_id) != NULL) {
        map_put(&client->futures, id, future);
    }
}

/* Its outcome or refusal is here. The reference of client->futures goes. */
static void future_complete(struct quern_future *future, struct delivery *delivery)
{
    struct quern_client *client = future->client;
    if (future->is_held) {
        future->delivery = delivery;
        client->pending_count--;
        client->settled_wake = client->settled_wake || future->waiters > 0;
    } else {
        queue_push(&client->queue, delivery);
    }
    future_unref(future);
}

void future_refused(struct quern_future *future, struct delivery *delivery)
{
    struct quern_client *client = future->client;
    if (map_remove(&client->futures, future->id) != NULL) {
        future_complete(future, delivery);
    } else {
        delivery_unref(delivery); /* its outcome came before */
    }
    future_unref(future);
}

bool futures_outcome(struct quern_client *client, struct delivery *delivery)
{
    struct quern_future *future = map_remove(&client->futures, delivery->outcome.id);
    if (future == NULL) {
        return false;
    }
    future->is_accepted = true;
    future_complete(future, delivery);
    return true;
}

void futures_end(struct quern_client *client)
{
    size_t at = 0;
    uint64_t id;
    void *value;
    while (map_next(&client->futures, &at, &id, &value)) {
        future_unref(value);
    }
    map_fini(&client->futures);
    client->pending_count = 0;
}

/* ---- the public face ---- */

uint64_t quern_future_id(const struct quern_future *future)
{
    if (client_check(future->client) != QUERN_OK) {
        return future->id;
    }
    pthread_mutex_lock(&future->client->lock);
    uint64_t id = future->id;
    pthread_mutex_unlock(&future->client->lock);
    return id;
}

bool quern_future_accepted(const struct quern_future *future)
{
    if (client_check(future->client) != QUERN_OK) {
        return false;
    }
    pthread_mutex_lock(&future->client->lock);
    bool is_accepted = future->is_accepted;
    pthread_mutex_unlock(&future->client->lock);
    return is_accepted;
}

bool quern_future_done(const struct quern_future *future)
{
    struct quern_client *client = future->client;
    if (client_check(client) != QUERN_OK) {
        return false;
    }
    pthread_mutex_lock(&client->lock);
    bool is_done = future->delivery != NULL;
    bool must_wake = !is_done && client_want(client);
    pthread_mutex_unlock(&client->lock);
    if (must_wake) {
        io_wake(client);
    }
    return is_done;
}

/* Waits with the lock held; QUERN_OK: future->delivery is there. */
static enum quern_err future_await(struct quern_future *future, int timeout_ms)
{
    struct quern_client *client = future->client;
    int64_t deadline_ms = deadline_of(timeout_ms);
    while (future->delivery == NULL) {
        enum quern_err err = client_end(client);
        if (err != QUERN_OK) {
            return err;
        }
        bool must_wake = client_want(client);
        if (must_wake) {
            pthread_mutex_unlock(&client->lock);
            io_wake(client);
            pthread_mutex_lock(&client->lock);
            continue;
        }
        if (clock_mono_ms() >= deadline_ms) {
            return error_set(QUERN_TIMEOUT, "task %u-%u has no outcome after %d ms; it goes on, wait again",
                             id_series(future->id), id_sequence(future->id), timeout_ms);
        }
        future->waiters++;
        client->wanting++;
        (void)client_wait(client, &client->settled, &client->settled_waiters, deadline_ms);
        client->wanting--;
        future->waiters--;
    }
    return QUERN_OK;
}

enum quern_err quern_future_wait(struct quern_future *future, int timeout_ms, struct quern_outcome **outcome_out)
{
    enum quern_err err = client_check(future->client);
    if (err != QUERN_OK) {
        return err;
    }
    pthread_mutex_lock(&future->client->lock);
    err = future_await(future, timeout_ms);
    if (err == QUERN_OK) {
        future->is_asked = true;
        *outcome_out = delivery_hand_out(future->delivery);
    }
    pthread_mutex_unlock(&future->client->lock);
    return err;
}

/* The application lets go of it: with the outcome asked for it was taken; else the outcome comes out of quern_next. */
static void future_let_go(struct quern_future *future)
{
    struct quern_client *client = future->client;
    struct delivery *delivery = future->delivery;
    future->is_held = false;
    if (delivery == NULL) {
        client->pending_count -= client->is_closed ? 0 : 1;
    } else if (future->is_asked) {
        delivery_take(delivery);
    } else if (!client->is_closed) {
        future->delivery = NULL;
        queue_push_late(&client->queue, delivery);
    }
    future_unref(future);
    client_tell(client);
}

void quern_future_release(struct quern_future **taken)
{
    struct quern_future *future = *taken;
    *taken = NULL;
    if (future == NULL || client_check(future->client) != QUERN_OK) {
        return; /* in the child of a fork nobody knows what state it is in */
    }
    struct quern_client *client = future->client;
    pthread_mutex_lock(&client->lock);
    client_ref(client);
    future_let_go(future);
    client_unref_unlock(client);
}

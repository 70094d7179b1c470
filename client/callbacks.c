/*
 * callbacks: functions called when a future is done, by a thread that does nothing else.
 * Knows nothing of outcomes.
 * Start at quern_future_on_done and callbacks_main.
 */
#include "client/inside.h"
#include "common/check.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>

void callbacks_init(struct callbacks *callbacks)
{
    *callbacks = (struct callbacks){0};
    condition_init(&callbacks->due);
}

void callbacks_fini(struct callbacks *callbacks)
{
    CHECK(callbacks->first == NULL);
    pthread_cond_destroy(&callbacks->due);
}

void callbacks_due(struct quern_future *future)
{
    struct callbacks *callbacks = &future->client->callbacks;
    struct callback *first = NULL;
    struct callback *last = future->callbacks;
    if (last == NULL) {
        return;
    }
    while (future->callbacks != NULL) { /* the last added stands first */
        struct callback *callback = future->callbacks;
        future->callbacks = callback->next;
        callback->next = first;
        first = callback;
    }
    *(callbacks->last == NULL ? &callbacks->first : &callbacks->last->next) = first;
    callbacks->last = last;
    pthread_cond_signal(&callbacks->due);
}

void callbacks_drop(struct quern_future *future)
{
    while (future->callbacks != NULL) {
        struct callback *callback = future->callbacks;
        future->callbacks = callback->next;
        free(callback);
    }
}

/* ---- the thread ---- */

static struct callback *callbacks_pop(struct callbacks *callbacks)
{
    struct callback *callback = callbacks->first;
    callbacks->first = callback->next;
    callbacks->last = callback->next == NULL ? NULL : callbacks->last;
    return callback;
}

static void *callbacks_main(void *context)
{
    struct quern_client *client = context;
    struct callbacks *callbacks = &client->callbacks;
    pthread_mutex_lock(&client->lock);
    for (;;) {
        while (callbacks->first == NULL && !callbacks->must_stop) {
            (void)pthread_cond_wait(&callbacks->due, &client->lock);
        }
        if (callbacks->first == NULL) {
            break;
        }
        struct callback *callback = callbacks_pop(callbacks);
        pthread_mutex_unlock(&client->lock);
        callback->function(callback->future, callback->context); /* which may release the future */
        free(callback);
        pthread_mutex_lock(&client->lock);
    }
    client_unref_unlock(client);
    return NULL;
}

/* Under the lock. */
static enum quern_err callbacks_start(struct quern_client *client)
{
    sigset_t all;
    sigset_t before;
    if (client->callbacks.is_started) {
        return QUERN_OK;
    }
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int failed = pthread_create(&client->callbacks.thread, NULL, callbacks_main, client);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (failed != 0) {
        return error_set(QUERN_IO, "the thread for callbacks could not be started: %s", strerror(failed));
    }
    client->callbacks.is_started = true;
    client_ref(client); /* the thread's */
    return QUERN_OK;
}

void callbacks_stop(struct quern_client *client)
{
    struct callbacks *callbacks = &client->callbacks;
    pthread_mutex_lock(&client->lock);
    bool is_started = callbacks->is_started;
    callbacks->must_stop = true;
    pthread_cond_signal(&callbacks->due);
    pthread_mutex_unlock(&client->lock);
    if (!is_started) {
        return;
    }
    if (pthread_equal(callbacks->thread, pthread_self())) {
        (void)pthread_detach(callbacks->thread); /* a callback closes its client: the thread ends behind it */
    } else {
        (void)pthread_join(callbacks->thread, NULL);
    }
}

/* ---- the public face ---- */

/* Under the lock. QUERN_FINISHED: it is done already. */
static enum quern_err callback_add(struct callback *callback)
{
    struct quern_future *future = callback->future;
    if (future->is_done) {
        return QUERN_FINISHED;
    }
    enum quern_err err = client_end(future->client);
    err = err != QUERN_OK ? err : callbacks_start(future->client);
    if (err == QUERN_OK) {
        callback->next = future->callbacks;
        future->callbacks = callback;
    }
    return err;
}

enum quern_err quern_future_on_done(struct quern_future *future, quern_callback *function, void *context)
{
    enum quern_err err = future_check(future);
    if (err == QUERN_OK && function == NULL) {
        err = error_set(QUERN_INVALID, "quern_future_on_done: callback is NULL");
    }
    if (err != QUERN_OK) {
        return err;
    }
    struct callback *callback = malloc(sizeof(*callback));
    if (callback == NULL) {
        return error_memory("a callback");
    }
    *callback = (struct callback){.future = future, .function = function, .context = context};
    pthread_mutex_lock(&future->client->lock);
    err = callback_add(callback);
    pthread_mutex_unlock(&future->client->lock);
    if (err != QUERN_OK) {
        free(callback);
    }
    if (err == QUERN_FINISHED) {
        function(future, context);
        return QUERN_OK;
    }
    return err;
}

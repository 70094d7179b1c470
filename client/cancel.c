/*
 * cancel: asking for the end of a future's task.
 * Knows nothing of waiting for outcomes.
 * Start at quern_future_cancel.
 */
#include "client/inside.h"
#include "common/clock.h"

enum quern_err future_answer_await(struct quern_future *future, int64_t deadline_ms)
{
    struct quern_client *client = future->client;
    int64_t since_ms = clock_mono_ms();
    while (!future->is_done && !future->is_accepted) {
        enum quern_err err = client_end(client);
        if (err != QUERN_OK) {
            return err;
        }
        if (clock_mono_ms() >= deadline_ms) {
            return error_set(QUERN_TIMEOUT, "the broker has not answered the submit of task %u-%u yet",
                             id_series(future->id), id_sequence(future->id));
        }
        client->flush_waiters++;
        err = client_wait_answer(client, &client->settled, &client->settled_waiters, since_ms, deadline_ms);
        client->flush_waiters--;
        if (err != QUERN_OK) {
            return err;
        }
    }
    return QUERN_OK;
}

static enum quern_err finished_verdict(const struct quern_future *future)
{
    return future->delivery->outcome.state == QUERN_STATE_CANCELLED
               ? QUERN_OK
               : error_set(QUERN_FINISHED, "the task %u-%u finished first", id_series(future->id),
                           id_sequence(future->id));
}

static enum quern_err future_cancel(struct quern_future *future, bool force, int64_t deadline_ms)
{
    struct message message = {.kind = MSG_CANCEL};
    enum quern_err err = future_answer_await(future, deadline_ms);
    if (err == QUERN_OK && future->is_done) {
        return finished_verdict(future);
    }
    if (err != QUERN_OK) {
        return err;
    }
    message.CANCEL = (struct msg_CANCEL){.task = future->id, .force = force};
    return client_ask(future->client, &message, deadline_ms, NULL);
}

enum quern_err quern_future_cancel(struct quern_future *future, bool force, int timeout_ms)
{
    enum quern_err err = future_check(future);
    if (err != QUERN_OK) {
        return err;
    }
    struct quern_client *client = future->client;
    int64_t deadline_ms = deadline_of(timeout_ms);
    pthread_mutex_lock(&client->lock);
    client_ref(client);
    err = future_cancel(future, force, deadline_ms);
    client_unref_unlock(client);
    return err;
}

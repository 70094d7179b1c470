/*
 * cancel: asking for the end of a future's task, or of all in a group.
 * Knows nothing of waiting for outcomes.
 * Start at quern_future_cancel and cancels_go_on.
 */
#include "client/group.h"
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
               : error_set(QUERN_FINISHED, "the task %u-%u finished first; look at its outcome", id_series(future->id),
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

/* ---- groups: many, and nobody waits for the answers ---- */

/* From this future on. */
static void cancels_enter(struct quern_group *group, struct quern_future *first)
{
    struct cancels *cancels = &group->client->cancels;
    group->cancel_at = first;
    if (!group->is_in_cancels) {
        group->is_in_cancels = true;
        group->cancels_next = cancels->first;
        cancels->first = group;
    }
}

void cancels_begin(struct quern_group *group)
{
    cancels_enter(group, group->first);
    group->client->cancels.is_due = true;
}

void cancels_forget(struct quern_group *group)
{
    struct quern_group **at = &group->client->cancels.first;
    while (*at != NULL && *at != group) {
        at = &(*at)->cancels_next;
    }
    if (*at == group) {
        *at = group->cancels_next;
    }
    group->is_in_cancels = false;
}

/* The next future whose cancel can be asked for; NULL: none now. */
static const struct quern_future *cancels_next(struct cancels *cancels)
{
    struct quern_group **at = &cancels->first;
    while (*at != NULL) {
        struct quern_group *group = *at;
        while (group->cancel_at != NULL && group->cancel_at->is_done) {
            group->cancel_at = group->cancel_at->group_next;
        }
        if (group->cancel_at != NULL && group->cancel_at->is_accepted) {
            return group->cancel_at;
        }
        if (group->cancel_at == NULL) {
            *at = group->cancels_next;
            group->is_in_cancels = false;
        } else {
            at = &group->cancels_next; /* its submit has no answer yet: future_accepted calls again */
        }
    }
    return NULL;
}

/* False: nothing could be asked. */
static bool cancels_ask(struct quern_client *client, const struct quern_future *future, struct request **place)
{
    struct message message = {.kind = MSG_CANCEL};
    message.CANCEL = (struct msg_CANCEL){.task = future->id, .force = future->group->is_forced};
    enum quern_err err = requests_ask(&client->ledger.requests, &message, place);
    client->cancels.is_due = client->cancels.is_due || err == QUERN_NO_MEMORY; /* whatever comes next brings us back */
    return err == QUERN_OK;
}

/* Takes an answer from its place; what the broker had no room for is asked again there. If that cannot be now, its
 * group goes back to it: who stands behind it may be asked for twice, which does no harm. */
static void cancels_answered(struct quern_client *client, struct request **place)
{
    uint64_t id = (*place)->code == QUERN_FULL ? (*place)->task : 0;
    requests_drop(&client->ledger.requests, place);
    struct quern_future *future = id == 0 ? NULL : owner_future(map_get(&client->futures, id));
    if (future != NULL && !future->is_done && future->group != NULL && !cancels_ask(client, future, place)) {
        cancels_enter(future->group, future);
    }
}

void cancels_go_on(struct quern_client *client)
{
    struct cancels *cancels = &client->cancels;
    const struct quern_future *future = NULL;
    if (!cancels->is_due || client_is_over(client)) {
        return;
    }
    cancels->is_due = false;
    for (unsigned i = 0; i < CANCELS_UNDER_WAY_MAX; i++) {
        struct request **place = &cancels->asked[i];
        if (*place != NULL && (*place)->is_done) {
            cancels_answered(client, place);
        }
        /* Beyond the bound of requests an answer to another brings us back. */
        if (*place == NULL && (future = cancels_next(cancels)) != NULL && cancels_ask(client, future, place)) {
            future->group->cancel_at = future->group_next;
        }
    }
    if (client->ledger.requests.unsent_count > 0 && io_poke(client)) {
        io_wake(client);
    }
}

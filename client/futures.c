/*
 * futures: what a submit gave back, until its outcome is there and released.
 * Knows nothing of sockets or of the order of completion.
 * Start at quern_future_wait; future_complete is where outcomes arrive.
 */
#include "client/group.h"
#include "common/check.h"
#include "common/clock.h"

#include <stdlib.h>

static const struct owner_kind future_kind;

struct quern_future *future_make(struct quern_client *client)
{
    struct quern_future *future = calloc(1, sizeof(*future));
    if (future != NULL) {
        future->owner.kind = &future_kind;
        future->client = client;
    }
    return future;
}

struct quern_future *owner_future(struct owner *owner)
{
    return owner != NULL && owner->kind == &future_kind ? (struct quern_future *)owner : NULL;
}

void future_free(struct quern_future *future)
{
    free(future);
}

enum quern_err future_check(const struct quern_future *future)
{
    return future == NULL ? error_set(QUERN_INVALID, "the future is NULL; quern_submit gives one")
                          : client_check(future->client);
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
    future->refs = 3; /* the application, the submit, until it is done */
    future->is_held = true;
    client->refs++;
    client->pending_count++;
    map_put(&client->futures, id, future);
    if (future->group != NULL) {
        group_joined(future);
    }
}

bool futures_try_reserve(struct quern_client *client, size_t more)
{
    return map_try_reserve(&client->futures, more) && queue_try_reserve(&client->queue, more);
}

void future_of_task(struct quern_future *future, uint64_t id, struct delivery *delivery)
{
    struct quern_client *client = future->client;
    future->id = id;
    future->delivery = delivery;
    future->is_done = delivery != NULL;
    future->is_held = future->is_accepted = true;
    future->refs = future->is_done ? 1 : 2; /* the application, until it is done */
    client->refs++;
    client->pending_count += future->is_done ? 0 : 1;
    map_put(&client->futures, id, future);
    if (future->is_done) {
        queue_expect(&client->queue);
    }
}

/* Nobody holds it, and nothing of ours will speak of it: what comes of its task goes by, for quern_next. */
static void future_forget(struct quern_future *future)
{
    struct quern_client *client = future->client;
    if (!future->is_held && !client->is_closed && (future->is_accepted || future->is_done)) {
        (void)map_remove(&client->futures, future->id);
        if (!future->is_done) {
            future_unref(future);
        }
    }
}

static void future_accepted(struct owner *owner)
{
    struct quern_future *future = (struct quern_future *)owner;
    bool is_first = !future->is_accepted;
    future->is_accepted = true;
    if (future->group != NULL && future->group->is_in_cancels) {
        future->client->cancels.is_due = true; /* it can be asked for now */
    }
    if (is_first) {
        future_forget(future);
    }
    future_unref(future);
}

static void future_dropped(struct owner *owner)
{
    future_unref((struct quern_future *)owner);
}

static void future_renumbered(struct owner *owner, uint64_t old_id, uint64_t id)
{
    struct quern_future *future = (struct quern_future *)owner;
    struct quern_client *client = future->client;
    future->id = id;
    if (map_remove(&client->futures, old_id) != NULL) {
        map_put(&client->futures, id, future);
    }
}

static void sleeper_wake(struct quern_client *client, struct sleeper *sleeper)
{
    spin_tell(&client->spin, &sleeper->woken);
    pthread_cond_signal(&sleeper->woken);
}

/* They are woken when the lock is about to be given back, for they want it. */
static void sleepers_due(struct quern_future *future)
{
    struct quern_client *client = future->client;
    for (struct sleeper *sleeper = future->sleepers; sleeper != NULL; sleeper = sleeper->next) {
        if (!sleeper->is_due) {
            sleeper->is_due = true;
            sleeper->due_next = client->due;
            client->due = sleeper;
        }
    }
}

void futures_tell(struct quern_client *client)
{
    for (; client->due != NULL; client->due = client->due->due_next) {
        sleeper_wake(client, client->due);
    }
    if (client->sleeper_count > 0 && client_is_over(client)) {
        futures_wake(client);
    }
}

void futures_wake(struct quern_client *client)
{
    size_t at = 0;
    uint64_t id;
    void *value;
    while (client->sleeper_count > 0 && map_next(&client->futures, &at, &id, &value)) {
        const struct quern_future *future = owner_future(value);
        for (struct sleeper *sleeper = future == NULL ? NULL : future->sleepers; sleeper != NULL;
             sleeper = sleeper->next) {
            sleeper_wake(client, sleeper);
        }
    }
}

/* Its outcome or refusal is here. */
static void future_complete(struct quern_future *future, struct delivery *delivery)
{
    struct quern_client *client = future->client;
    future->is_done = true;
    if (future->is_held) {
        future->delivery = delivery;
        queue_expect(&client->queue);
        client->pending_count--;
        sleepers_due(future);
        ties_done(future);
        callbacks_due(future);
        if (future->group != NULL) {
            group_done(future);
        }
    } else {
        (void)map_remove(&client->futures, future->id);
        queue_push(&client->queue, delivery);
    }
    future_unref(future);
}

static void future_refused(struct owner *owner, struct delivery *delivery)
{
    struct quern_future *future = (struct quern_future *)owner;
    if (!future->is_done) {
        future_complete(future, delivery);
    } else {
        delivery_unref(delivery); /* its outcome came before */
    }
    future_unref(future);
}

static bool future_completed(struct owner *owner, struct delivery *delivery)
{
    struct quern_future *future = (struct quern_future *)owner;
    if (future->is_done) {
        return false;
    }
    future->is_accepted = true;
    future_complete(future, delivery);
    return true;
}

static void future_ended(struct owner *owner)
{
    struct quern_future *future = (struct quern_future *)owner;
    if (!future->is_done) {
        future_unref(future);
    }
}

static const struct owner_kind future_kind = {
    .accepted = future_accepted,
    .refused = future_refused,
    .renumbered = future_renumbered,
    .dropped = future_dropped,
    .completed = future_completed,
    .ended = future_ended,
};

bool futures_outcome(struct quern_client *client, struct delivery *delivery)
{
    struct owner *owner = map_get(&client->futures, delivery->outcome.id);
    return owner != NULL && owner->kind->completed(owner, delivery);
}

/* Those of the lost session: not those whose submit was never sent, which go on. */
static size_t ids_of_lost(const struct quern_client *client, uint64_t *ids)
{
    size_t count = 0;
    size_t at = 0;
    uint64_t id;
    void *value;
    while (map_next(&client->futures, &at, &id, &value)) {
        if (!submits_is_unanswered(&client->ledger.submits, id)) {
            ids[count++] = id;
        }
    }
    return count;
}

void futures_lost(struct quern_client *client, struct unfinished *lost)
{
    uint64_t *ids = xcalloc(client->futures.count + 1, sizeof(uint64_t));
    size_t count = ids_of_lost(client, ids); /* completing one may change the map */
    for (size_t i = 0; i < count; i++) {
        uint64_t ordinal = 0;
        (void)unfinished_remove(lost, ids[i], &ordinal);
        struct delivery *delivery = delivery_of_loss(client, ids[i], ordinal);
        CHECK_THAT(delivery != NULL, "memory is used up");
        if (!futures_outcome(client, delivery)) {
            delivery_unref(delivery); /* it was done, and is held */
        }
    }
    free(ids);
}

void futures_end(struct quern_client *client)
{
    size_t at = 0;
    uint64_t id;
    void *value;
    while (map_next(&client->futures, &at, &id, &value)) {
        ((struct owner *)value)->kind->ended(value);
    }
    map_fini(&client->futures);
    client->pending_count = 0;
}

/* ---- the public face ---- */

uint64_t quern_future_id(const struct quern_future *future)
{
    if (future_check(future) != QUERN_OK) {
        return future == NULL ? 0 : future->id;
    }
    pthread_mutex_lock(&future->client->lock);
    uint64_t id = future->id;
    pthread_mutex_unlock(&future->client->lock);
    return id;
}

bool quern_future_accepted(const struct quern_future *future)
{
    if (future_check(future) != QUERN_OK) {
        return false;
    }
    pthread_mutex_lock(&future->client->lock);
    bool is_accepted = future->is_accepted;
    pthread_mutex_unlock(&future->client->lock);
    return is_accepted;
}

/* Its delivery's state, 0 while there is none. Who looks again and again waits, in a way: see client_want. */
static enum quern_state future_look(const struct quern_future *future)
{
    if (future_check(future) != QUERN_OK) {
        return (enum quern_state)0;
    }
    struct quern_client *client = future->client;
    pthread_mutex_lock(&client->lock);
    enum quern_state state = future->delivery == NULL ? (enum quern_state)0 : future->delivery->outcome.state;
    if (state == 0 && client_want(client)) {
        io_wake(client);
    }
    pthread_mutex_unlock(&client->lock);
    return state;
}

bool quern_future_done(const struct quern_future *future)
{
    return future_look(future) != 0;
}

bool quern_future_cancelled(const struct quern_future *future)
{
    return future_look(future) == QUERN_STATE_CANCELLED;
}

static void sleeper_leave(const struct sleeper *sleeper, struct quern_future *future)
{
    struct sleeper **at = &future->sleepers;
    while (*at != sleeper) {
        at = &(*at)->next;
    }
    *at = sleeper->next;
    at = &future->client->due;
    while (sleeper->is_due && *at != NULL && *at != sleeper) {
        at = &(*at)->due_next;
    }
    if (sleeper->is_due && *at != NULL) { /* woken by something else first */
        *at = sleeper->due_next;
    }
}

/* Until it is done or the client is over. */
static enum quern_err future_sleep(struct quern_future *future, int64_t deadline_ms)
{
    struct quern_client *client = future->client;
    struct sleeper sleeper = {.next = future->sleepers};
    condition_init(&sleeper.woken);
    future->sleepers = &sleeper;
    client->wanting++;
    enum quern_err err = client_wait_away(client, &sleeper.woken, &client->sleeper_count, deadline_ms);
    client->wanting--;
    sleeper_leave(&sleeper, future);
    pthread_cond_destroy(&sleeper.woken);
    return err;
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
        err = future_sleep(future, deadline_ms);
        if (err != QUERN_OK) {
            return err;
        }
    }
    return QUERN_OK;
}

enum quern_err quern_future_wait(struct quern_future *future, int timeout_ms, struct quern_outcome **outcome_out)
{
    enum quern_err err = future_check(future);
    err = err != QUERN_OK ? err : out_check("quern_future_wait", "outcome_out", outcome_out);
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

/* What the outcome says, as an answer and in one sentence. */
enum quern_err outcome_verdict(const struct quern_outcome *outcome)
{
    char id[ID_TEXT_SIZE];
    (void)id_text(outcome->id, id);
    if (outcome->refusal != QUERN_OK) {
        return error_set((enum quern_err)outcome->refusal, "the broker refused task %s: %s", id, outcome->message);
    }
    if (outcome->state == QUERN_STATE_CANCELLED) {
        return error_set(QUERN_CANCELLED, "task %s was cancelled", id);
    }
    if (outcome->state == QUERN_STATE_DONE) {
        return QUERN_OK;
    }
    const char *place = outcome->worker[0] == 0 ? "no worker" : outcome->worker;
    bool has_kind = outcome->kind[0] != 0;
    return error_set(QUERN_TASK_FAILED, "task %s failed (%s%s%s) on %s, attempt %u: %s", id,
                     quern_cause_word(outcome->cause), has_kind ? ", " : "", outcome->kind, place, outcome->attempts,
                     outcome->message);
}

enum quern_err quern_future_result(struct quern_future *future, int timeout_ms, struct quern_outcome **outcome_out)
{
    enum quern_err err = quern_future_wait(future, timeout_ms, outcome_out);
    return err != QUERN_OK ? err : outcome_verdict(*outcome_out);
}

/* The application lets go of it: with the outcome asked for it was taken; else the outcome comes out of quern_next. */
static void future_let_go(struct quern_future *future)
{
    struct quern_client *client = future->client;
    struct delivery *delivery = future->delivery;
    future->is_held = false;
    future->group = NULL; /* which may go before its submit is answered: a close that could not wait */
    ties_cut(future);
    callbacks_drop(future);
    future_forget(future);
    if (delivery == NULL) {
        client->pending_count -= client->is_closed ? 0 : 1;
    } else if (future->is_asked) {
        queue_unexpect(&client->queue);
        delivery_take(delivery);
    } else if (!client->is_closed) {
        future->delivery = NULL;
        queue_push_late(&client->queue, delivery);
    }
    future_unref(future);
}

void future_acknowledge(struct quern_future *future)
{
    future->is_asked = true;
    future_let_go(future);
}

void quern_future_release(struct quern_future **taken)
{
    if (taken == NULL || *taken == NULL) {
        return;
    }
    struct quern_future *future = *taken;
    *taken = NULL;
    if (future_check(future) != QUERN_OK) {
        return; /* in the child of a fork nobody knows what state it is in */
    }
    struct quern_client *client = future->client;
    pthread_mutex_lock(&client->lock);
    client_ref(client);
    future_let_go(future);
    client_tell(client);
    client_unref_unlock(client);
}

/*
 * group: futures that are left together: waited for, cancelled when one of them fails, released.
 * Knows nothing of frames or of how a cancel is asked.
 * Start at group_done and quern_group_close.
 */
#include "client/group.h"
#include "common/check.h"
#include "common/clock.h"

#include <stdlib.h>

/* Futures released under one hold of the lock. */
#define RELEASE_COUNT 1024u

static enum quern_err group_check(const struct quern_group *group)
{
    return group == NULL ? error_set(QUERN_INVALID, "the group is NULL; quern_group_open gives one")
                         : client_check(group->client);
}

/* ---- what is in it ---- */

/* The group that comes after this one when all within `root` are looked at, those within after the one they are in. */
static struct quern_group *tree_next(const struct quern_group *root, struct quern_group *group)
{
    if (group->children != NULL) {
        return group->children;
    }
    while (group != root && group->next == NULL) {
        group = group->parent;
    }
    return group == root ? NULL : group->next;
}

static uint64_t tree_pending(struct quern_group *root)
{
    uint64_t pending = 0;
    for (struct quern_group *group = root; group != NULL; group = tree_next(root, group)) {
        pending += group->pending;
    }
    return pending;
}

static bool tree_is_done(struct quern_group *root)
{
    struct quern_group *group = root;
    while (group != NULL && group->pending == 0) {
        group = tree_next(root, group);
    }
    return group == NULL;
}

/* The group within whose failure was the first of all; NULL: none failed. */
static const struct quern_group *tree_failure(struct quern_group *root)
{
    const struct quern_group *first = NULL;
    for (struct quern_group *group = root; group != NULL; group = tree_next(root, group)) {
        if (group->failure != NULL && (first == NULL || group->failure_number < first->failure_number)) {
            first = group;
        }
    }
    return first;
}

static bool tree_has_cancelled(struct quern_group *root)
{
    struct quern_group *group = root;
    while (group != NULL && group->cancelled == 0) {
        group = tree_next(root, group);
    }
    return group != NULL;
}

static void tree_cancel(struct quern_group *root, bool force)
{
    for (struct quern_group *group = root; group != NULL; group = tree_next(root, group)) {
        if (!group->is_cancelled || (force && !group->is_forced)) {
            group->is_cancelled = true;
            group->is_forced = group->is_forced || force;
            cancels_begin(group);
        }
    }
}

void group_joined(struct quern_future *future)
{
    struct quern_group *group = future->group;
    *(group->last == NULL ? &group->first : &group->last->group_next) = future;
    group->last = future;
    group->pending++;
}

static void group_failed(struct quern_group *group, struct delivery *failure)
{
    uint64_t number = ++group->client->failure_count;
    if (group->failure == NULL) {
        group->failure = failure;
        group->failure_number = number;
        failure->refs++;
    }
    /* A failure within becomes that of the group around it when that is closed, before it was reported here. */
    for (struct quern_group *at = group; at != NULL; at = at->parent) {
        if ((at == group || at->is_closing) && (at->flags & QUERN_GROUP_FAIL_FAST) != 0) {
            tree_cancel(at, (at->flags & QUERN_GROUP_FORCE) != 0);
        }
    }
}

void group_done(struct quern_future *future)
{
    struct quern_group *group = future->group;
    struct quern_client *client = group->client;
    group->pending--;
    client->settled_wake = client->settled_wake || (group->pending == 0 && client->group_waiters > 0);
    if (future->delivery->outcome.state == QUERN_STATE_CANCELLED) {
        group->cancelled++;
    } else if (future->delivery->outcome.state == QUERN_STATE_FAILED) {
        group_failed(group, future->delivery);
    }
}

/* ---- opening, submitting, cancelling, waiting ---- */

/* Under the lock. */
static void group_attach(struct quern_group *group, struct quern_group *parent)
{
    client_ref(group->client);
    group->parent = parent;
    if (parent == NULL) {
        return;
    }
    group->is_cancelled = parent->is_cancelled;
    group->is_forced = parent->is_forced;
    group->next = parent->children;
    if (group->next != NULL) {
        group->next->prev = group;
    }
    parent->children = group;
}

enum quern_err quern_group_open(struct quern_client *client, struct quern_group *parent, unsigned flags,
                                struct quern_group **group_out)
{
    enum quern_err err = client_check(client);
    if (err != QUERN_OK) {
        return err;
    }
    if (group_out == NULL || (flags & ~(QUERN_GROUP_FAIL_FAST | QUERN_GROUP_FORCE)) != 0) {
        return error_set(QUERN_INVALID, "quern_group_open: %s",
                         group_out == NULL ? "group_out is NULL" : "flags has a bit that is not known");
    }
    if (parent != NULL && parent->client != client) {
        return error_set(QUERN_INVALID, "quern_group_open: the parent is a group of another client");
    }
    struct quern_group *group = calloc(1, sizeof(*group));
    if (group == NULL) {
        return error_memory("a group");
    }
    group->client = client;
    group->flags = flags;
    pthread_mutex_lock(&client->lock);
    err = client_end(client);
    if (err == QUERN_OK) {
        group_attach(group, parent);
    }
    pthread_mutex_unlock(&client->lock);
    if (err != QUERN_OK) {
        free(group);
        return err;
    }
    *group_out = group;
    return QUERN_OK;
}

enum quern_err quern_group_submit(struct quern_group *group, const struct quern_call *call,
                                  struct quern_future **future_out)
{
    enum quern_err err = group_check(group);
    if (err != QUERN_OK) {
        return err;
    }
    struct quern_future *future = future_make(group->client);
    uint64_t id = 0;
    if (future == NULL) {
        return error_memory("a future");
    }
    future->group = group;
    err = call_submit(group->client, call, future, &id);
    if (err != QUERN_OK) {
        future_free(future);
        return err;
    }
    if (future_out != NULL) {
        *future_out = future;
    }
    return QUERN_OK;
}

enum quern_err quern_group_cancel(struct quern_group *group, bool force)
{
    enum quern_err err = group_check(group);
    if (err != QUERN_OK) {
        return err;
    }
    pthread_mutex_lock(&group->client->lock);
    err = client_end(group->client);
    if (err == QUERN_OK) {
        tree_cancel(group, force);
        client_tell(group->client);
    }
    pthread_mutex_unlock(&group->client->lock);
    return err;
}

/* Under the lock. */
static enum quern_err group_await(struct quern_group *group, int64_t deadline_ms)
{
    struct quern_client *client = group->client;
    enum quern_err err = QUERN_OK;
    while (!tree_is_done(group)) {
        err = client_end(client);
        if (err != QUERN_OK) {
            return err;
        }
        if (client_want(client)) {
            io_wake(client);
        }
        if (clock_mono_ms() >= deadline_ms) {
            return error_set(QUERN_TIMEOUT,
                             "%llu futures of the group and of groups within are unfinished; they go on, wait again",
                             (unsigned long long)tree_pending(group));
        }
        client->group_waiters++;
        client->wanting++;
        err = client_wait_away(client, &client->settled, &client->settled_waiters, deadline_ms);
        client->wanting--;
        client->group_waiters--;
        if (err != QUERN_OK) {
            return err;
        }
    }
    return QUERN_OK;
}

enum quern_err quern_group_wait(struct quern_group *group, int timeout_ms)
{
    enum quern_err err = group_check(group);
    if (err != QUERN_OK) {
        return err;
    }
    int64_t deadline_ms = deadline_of(timeout_ms);
    pthread_mutex_lock(&group->client->lock);
    err = group_await(group, deadline_ms);
    pthread_mutex_unlock(&group->client->lock);
    return err;
}

/* ---- leaving ---- */

/* Takes the failures within over. */
static void group_begin_closing(struct quern_group *group)
{
    group->is_closing = true;
    if ((group->flags & QUERN_GROUP_FAIL_FAST) != 0 && tree_failure(group) != NULL) {
        tree_cancel(group, (group->flags & QUERN_GROUP_FORCE) != 0);
        client_tell(group->client);
    }
}

static enum quern_err group_verdict(struct quern_group *group, struct quern_outcome **failure_out)
{
    const struct quern_group *failed = tree_failure(group);
    if (failed != NULL) {
        if (failure_out != NULL) {
            *failure_out = delivery_hand_out(failed->failure);
        }
        (void)outcome_verdict(&failed->failure->outcome); /* the text */
        return QUERN_TASK_FAILED;
    }
    return tree_has_cancelled(group) ? error_set(QUERN_CANCELLED, "some futures of the group were cancelled")
                                     : QUERN_OK;
}

static void futures_release(struct quern_group *group)
{
    struct quern_client *client = group->client;
    for (unsigned count = 1; group->first != NULL; count++) {
        struct quern_future *future = group->first;
        group->first = future->group_next;
        future_acknowledge(future);
        if (count % RELEASE_COUNT == 0) { /* others want the lock, too */
            pthread_mutex_unlock(&client->lock);
            pthread_mutex_lock(&client->lock);
        }
    }
}

/* Under the lock; gives it back, with the group's reference to the client. */
static void group_free_unlock(struct quern_group *group)
{
    struct quern_client *client = group->client;
    cancels_forget(group);
    futures_release(group);
    if (group->parent != NULL) {
        *(group->prev == NULL ? &group->parent->children : &group->prev->next) = group->next;
        if (group->next != NULL) {
            group->next->prev = group->prev;
        }
    }
    if (group->failure != NULL) {
        delivery_unref(group->failure);
    }
    free(group);
    client_tell(client);
    client_unref_unlock(client);
}

/* With all that is within, innermost first. */
static void tree_free(struct quern_group *root)
{
    struct quern_client *client = root->client;
    bool is_last = false;
    while (!is_last) {
        struct quern_group *group = root;
        pthread_mutex_lock(&client->lock);
        while (group->children != NULL) {
            group = group->children;
        }
        is_last = group == root;
        group_free_unlock(group);
    }
}

enum quern_err quern_group_close(struct quern_group **taken, struct quern_outcome **failure_out)
{
    if (failure_out != NULL) {
        *failure_out = NULL;
    }
    if (taken == NULL || *taken == NULL) {
        return QUERN_OK;
    }
    struct quern_group *group = *taken;
    *taken = NULL;
    enum quern_err err = group_check(group);
    if (err != QUERN_OK) {
        return err; /* in the child of a fork */
    }
    pthread_mutex_lock(&group->client->lock);
    group_begin_closing(group);
    err = group_await(group, INT64_MAX);
    err = err != QUERN_OK ? err : group_verdict(group, failure_out);
    pthread_mutex_unlock(&group->client->lock);
    tree_free(group);
    return err;
}

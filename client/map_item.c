/*
 * map_item: items of maps between submitting and giving, and the cancelling of those nobody wants.
 * Knows nothing of inputs, or of who waits.
 * Start at item_done, map_window_take and cancels_ask.
 */
#include "client/map_item.h"
#include "common/check.h"

#include <stdlib.h>

static const struct owner_kind item_kind;

struct map_item *map_item_make(struct quern_client *client, struct map_window *window, uint64_t index, size_t args_size)
{
    struct map_item *item = spares_try(&client->item_spares, sizeof(*item));
    if (item == NULL) {
        return NULL;
    }
    *item = (struct map_item){
        .owner = {&item_kind}, .client = client, .window = window, .index = index, .args_size = (uint32_t)args_size};
    return item;
}

void map_item_unmake(struct map_item *item)
{
    spares_give(&item->client->item_spares, item, sizeof(*item));
}

static void items_add(struct map_items *items, struct map_item *item)
{
    item->next = NULL;
    item->prev = items->last;
    *(items->last == NULL ? &items->first : &items->last->next) = item;
    items->last = item;
}

static void items_remove(struct map_items *items, struct map_item *item)
{
    *(item->prev == NULL ? &items->first : &item->prev->next) = item->next;
    *(item->next == NULL ? &items->last : &item->next->prev) = item->prev;
}

void map_item_queued(struct map_item *item, uint64_t id)
{
    struct quern_client *client = item->client;
    item->id = id;
    item->window->unfinished_bytes += item->args_size;
    items_add(&item->window->items, item);
    client->pending_count++;
    map_put(&client->futures, id, item);
}

static void item_settle(struct map_item *item)
{
    if (item->is_over && item->is_answered) {
        map_item_unmake(item);
    }
}

static void item_over(struct map_item *item)
{
    item->is_over = true;
    item_settle(item);
}

/* To be acknowledged when the ledger may be called. */
static void unseen_add(struct quern_client *client, struct delivery *delivery)
{
    delivery->next = client->maps.unseen;
    client->maps.unseen = delivery;
}

static void unlist(struct map_item *item)
{
    if (item->is_listed) {
        items_remove(&item->client->maps.unwanted, item);
        item->is_listed = false;
    }
}

/* ---- the window ---- */

static bool delivery_failed(const struct delivery *delivery)
{
    return delivery->outcome.state != QUERN_STATE_DONE;
}

static void ready_add(struct map_window *window, struct map_item *item)
{
    item->ready_next = NULL;
    *(window->ready_last == NULL ? &window->ready_first : &window->ready_last->ready_next) = item;
    window->ready_last = item;
}

static void window_done(struct map_window *window, struct map_item *item)
{
    window->unfinished_bytes -= item->args_size;
    window->done_bytes += item->delivery->size;
    if (window->order == QUERN_COMPLETION_ORDER) {
        ready_add(window, item);
    }
    if (!window->stops_at_failure || !delivery_failed(item->delivery)) {
        return;
    }
    bool is_first = window->order == QUERN_COMPLETION_ORDER ? window->failed_index == UINT64_MAX
                                                            : item->index < window->failed_index;
    window->failed_index = is_first ? item->index : window->failed_index;
}

static struct map_item *window_front(const struct map_window *window)
{
    if (window->order == QUERN_COMPLETION_ORDER) {
        return window->ready_first;
    }
    struct map_item *first = window->items.first;
    return first != NULL && first->delivery != NULL && first->index == window->taken_index ? first : NULL;
}

bool map_window_is_ready(const struct map_window *window)
{
    return window_front(window) != NULL;
}

struct delivery *map_window_take(struct map_window *window, uint64_t *index_out)
{
    struct map_item *item = window_front(window);
    if (item == NULL) {
        return NULL;
    }
    struct delivery *delivery = item->delivery;
    bool is_last = window->stops_at_failure && delivery_failed(delivery);
    *index_out = item->index;
    items_remove(&window->items, item);
    if (window->order == QUERN_COMPLETION_ORDER) {
        window->ready_first = item->ready_next;
        window->ready_last = item->ready_next == NULL ? NULL : window->ready_last;
    }
    window->done_bytes -= delivery->size;
    window->taken_index++;
    item->window = NULL;
    item_over(item);
    if (is_last) {
        map_window_close(window);
    }
    return delivery;
}

static void window_disown(struct map_window *window, struct map_item *item)
{
    struct quern_client *client = item->client;
    items_remove(&window->items, item);
    item->window = NULL;
    if (item->delivery != NULL) {
        window->done_bytes -= item->delivery->size;
        unseen_add(client, item->delivery);
        item_over(item);
    } else {
        window->unfinished_bytes -= item->args_size;
        item->must_force = window->force;
        item->is_listed = true;
        items_add(&client->maps.unwanted, item);
    }
}

void map_window_drop(struct map_window *window, uint64_t failed_index)
{
    struct map_item *next;
    for (struct map_item *item = window->items.first; item != NULL; item = next) {
        next = item->next;
        bool is_behind = window->order == QUERN_COMPLETION_ORDER ? item->delivery == NULL : item->index > failed_index;
        if (is_behind) {
            window_disown(window, item);
        }
    }
}

void map_window_close(struct map_window *window)
{
    while (window->items.first != NULL) {
        window_disown(window, window->items.first);
    }
    window->ready_first = window->ready_last = NULL;
}

/* ---- what the ledger tells ---- */

/* Its outcome or refusal is here; the table of what is unfinished has it no more. */
static void item_done(struct map_item *item, struct delivery *delivery)
{
    struct quern_client *client = item->client;
    client->pending_count--;
    unlist(item);
    if (item->window == NULL) {
        unseen_add(client, delivery);
        item_over(item);
    } else {
        item->delivery = delivery;
        window_done(item->window, item);
    }
}

static bool item_completed(struct owner *owner, struct delivery *delivery)
{
    struct map_item *item = (struct map_item *)owner;
    (void)map_remove(&item->client->futures, item->id);
    item_done(item, delivery);
    return true;
}

static void item_accepted(struct owner *owner)
{
    struct map_item *item = (struct map_item *)owner;
    item->is_answered = true;
    item_settle(item);
}

static void item_refused(struct owner *owner, struct delivery *delivery)
{
    struct map_item *item = (struct map_item *)owner;
    item->is_answered = true;
    if (map_remove(&item->client->futures, item->id) != NULL) {
        item_done(item, delivery);
    } else {
        delivery_unref(delivery); /* its outcome came before */
        item_settle(item);
    }
}

static void item_renumbered(struct owner *owner, uint64_t old_id, uint64_t id)
{
    struct map_item *item = (struct map_item *)owner;
    item->id = id;
    if (map_remove(&item->client->futures, old_id) != NULL) {
        map_put(&item->client->futures, id, item);
    }
}

static void item_ended(struct owner *owner)
{
    struct map_item *item = (struct map_item *)owner;
    unlist(item);
    if (item->window != NULL) {
        items_remove(&item->window->items, item);
        item->window->unfinished_bytes -= item->args_size;
        item->window->is_cut = true;
        item->window = NULL;
    }
    item_over(item);
}

static const struct owner_kind item_kind = {
    .accepted = item_accepted,
    .refused = item_refused,
    .renumbered = item_renumbered,
    .dropped = item_accepted,
    .completed = item_completed,
    .ended = item_ended,
};

/* ---- what nobody wants ---- */

/* The broker was too busy to hear it: ask again, if there is still something to cancel. */
static void cancel_again(struct quern_client *client, uint64_t id)
{
    struct owner *owner = map_get(&client->futures, id);
    struct map_item *item = (struct map_item *)owner;
    if (owner != NULL && owner->kind == &item_kind && item->window == NULL && !item->is_listed) {
        item->is_listed = true;
        items_add(&client->maps.unwanted, item);
    }
}

static void cancels_hear(struct quern_client *client)
{
    struct maps *maps = &client->maps;
    for (unsigned i = 0; i < MAP_CANCEL_COUNT_MAX && maps->cancel_count > 0; i++) {
        struct request *request = maps->cancels[i];
        if (request == NULL || !request->is_done) {
            continue;
        }
        if (request->code == QUERN_FULL) {
            cancel_again(client, request->task);
        }
        requests_drop(&client->ledger.requests, &maps->cancels[i]);
        maps->cancel_count--;
    }
}

/* A cancel names a task that the broker knows: one whose submit it has answered. */
static void cancels_ask(struct quern_client *client)
{
    struct maps *maps = &client->maps;
    for (unsigned i = 0; i < MAP_CANCEL_COUNT_MAX && client->ledger.phase != LEDGER_ENDED; i++) {
        struct map_item *item = maps->unwanted.first;
        if (item == NULL || !item->is_answered) {
            return;
        }
        if (maps->cancels[i] != NULL) {
            continue;
        }
        struct message message = {.kind = MSG_CANCEL};
        message.CANCEL = (struct msg_CANCEL){.task = item->id, .force = item->must_force};
        if (requests_ask(&client->ledger.requests, &message, &maps->cancels[i]) != QUERN_OK) {
            return; /* whatever comes next brings us back */
        }
        maps->cancel_count++;
        unlist(item);
    }
}

static void unseen_take(struct quern_client *client)
{
    while (client->maps.unseen != NULL) {
        struct delivery *delivery = client->maps.unseen;
        client->maps.unseen = delivery->next;
        delivery_take(delivery);
        delivery_unref(delivery);
    }
}

void maps_tell(struct quern_client *client)
{
    unseen_take(client);
    if (!client->is_closed) {
        cancels_hear(client);
        cancels_ask(client);
        if (client->ledger.requests.unsent_count > 0 && io_poke(client)) {
            io_wake(client);
        }
    }
    maps_wake(client);
}

bool maps_are_quiet(const struct quern_client *client)
{
    return client->maps.unwanted.first == NULL && client->maps.cancel_count == 0;
}

void maps_end(struct quern_client *client)
{
    unseen_take(client);
    client->maps.cancel_count = 0; /* the ledger has freed them */
    for (unsigned i = 0; i < MAP_CANCEL_COUNT_MAX; i++) {
        client->maps.cancels[i] = NULL;
    }
    maps_wake(client);
}

/*
 * map_item.h: the items of maps that were submitted and not taken out yet, and what becomes of those nobody wants any
 * more. Everything under the client's lock.
 *
 *   queued --outcome or refusal--> done --map_window_take--> given to the application
 *      \                             \
 *       the map stops or closes       the same
 *        \                             \
 *         unwanted --cancelled--> its outcome is acknowledged unseen
 *
 * An item is freed when it has left its window and its submit was answered, whichever comes last.
 */
#ifndef QUERN_CLIENT_MAP_ITEM_H
#define QUERN_CLIENT_MAP_ITEM_H

#include "client/inside.h"

/* The items of one map. */
struct map_window {
    enum quern_order order;
    bool stops_at_failure;
    bool force;                   /* what is cancelled is stopped too if it runs */
    struct map_items items;       /* not taken, in order of input */
    struct map_item *ready_first; /* those that are done, in order of completion: if that is the order */
    struct map_item *ready_last;
    bool is_cut;               /* the client closed with items unfinished */
    uint64_t taken_index;      /* the next, in order of input */
    uint64_t unfinished_bytes; /* arguments of what has no outcome */
    uint64_t done_bytes;       /* outcomes that were not taken */
    uint64_t failed_index;     /* the failure to stop at; UINT64_MAX none: the first by the order */
};

struct map_item {
    struct owner owner;
    struct quern_client *client;
    struct map_window *window; /* NULL: it has left it */
    struct map_item *next;     /* in the window, or among the unwanted */
    struct map_item *prev;
    struct map_item *ready_next;
    struct delivery *delivery; /* NULL: none yet */
    uint64_t id;
    uint64_t index;
    uint32_t args_size;
    bool is_answered; /* its submit */
    bool is_over;     /* has an outcome that was taken, or will not have one */
    bool is_listed;   /* among the unwanted */
    bool must_force;
};

/* Not queued yet: queue it, or give it back. NULL: no memory. */
struct map_item *map_item_make(struct quern_client *client, struct map_window *window, uint64_t index,
                               size_t args_size);
void map_item_unmake(struct map_item *item);
/* Needs no memory once map_try_reserve(&client->futures, 1) has said yes. */
void map_item_queued(struct map_item *item, uint64_t id);

/* Is there something to take? */
bool map_window_is_ready(const struct map_window *window);
/* Out of the window, in its order; the caller gets the delivery. NULL: nothing to take. */
struct delivery *map_window_take(struct map_window *window, uint64_t *index_out);
/* The map ends at this failure: what does not come before it, in the window's order, is unwanted. */
void map_window_drop(struct map_window *window, uint64_t failed_index);
void map_window_close(struct map_window *window);

#endif

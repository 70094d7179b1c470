/*
 * quern/map.h: one function over many inputs, read lazily. Included by quern/client.h.
 *
 *     static enum quern_err number(void *context, struct quern_writer *args)    // the next arguments
 *     {
 *         uint64_t *next = context;
 *         if (*next == 1000) {
 *             return QUERN_END;
 *         }
 *         quern_write_array(args, 1);
 *         quern_write_u64(args, (*next)++);
 *         return QUERN_OK;
 *     }
 *
 *     struct quern_map_options options = QUERN_MAP_OPTIONS_INIT;
 *     options.call.function = "square";
 *     quern_map_open(client, &options, number, &next, &map);
 *     while ((err = quern_map_next(map, QUERN_FOREVER, &item)) == QUERN_OK) {
 *         ... item.index, item.outcome ...
 *         quern_outcome_release(&item.outcome);
 *     }
 *     ... QUERN_END: these were all; anything else is an error ...
 *     quern_map_close(&map);
 *
 * Every item is a task of its own: own id, outcome, retries, deadline and cancel; one bad item costs one item. One
 * thread at a time uses a map.
 *
 * On the wire items travel in runs, and a worker holds as many in advance as it runs in some milliseconds: both lengths
 * are found by themselves, from how fast inputs come and from how long items take, so that one item of seconds has
 * nothing waiting behind it that another slot could run. What was read is submitted within half a millisecond, but not
 * before an input that is being asked for has answered: inputs that may keep one waiting (a pipe, a network) want
 * chunk = 1, and nothing is given while they do. chunk fixes how many inputs are read before they are submitted; it
 * does not bind items together, and what a worker holds in advance adapts all the same.
 */
#ifndef QUERN_MAP_H
#define QUERN_MAP_H

#include <quern/client.h>
#include <quern/value.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

struct quern_map;

enum quern_order {
    QUERN_INPUT_ORDER = 0,
    QUERN_COMPLETION_ORDER = 1,
};

/* Begin with QUERN_MAP_OPTIONS_INIT; call.function is all that must be set. */
struct quern_map_options {
    size_t size;
    struct quern_call call; /* of every item; args and ordinal are not looked at */
    enum quern_order order;
    size_t window_count; /* items submitted and not given yet, 1..10,000,000, default 8,000 */
    /* Inputs are read while the arguments of unfinished items and the results that are here and were not given are
     * less than this, default 64 MiB. Results are not known before they are here: those of items that are submitted
     * already, at most window_count, may come beyond it. For large results give a small window_count. */
    size_t window_bytes;
    size_t chunk;         /* items submitted in one run: 0 (default) adapts, else 1..10,000; see above */
    int timeout_ms;       /* for the whole map, from quern_map_open; default QUERN_FOREVER */
    bool stop_at_failure; /* the first item that is not done ends the map: what has not started is cancelled */
    bool force;           /* a map that ends early also stops what runs */
};
#ifdef __cplusplus
#define QUERN_MAP_OPTIONS_INIT                                                                                         \
    QUERN_INIT_IN_CXX(struct quern_map_options, it.call.size = sizeof(it.call); it.call.attempts = 1;                  \
                      it.call.wait_ms = QUERN_FOREVER; it.window_count = 8000; it.window_bytes = (size_t)64 << 20;     \
                      it.timeout_ms = QUERN_FOREVER)
#else
#define QUERN_MAP_OPTIONS_INIT                                                                                         \
    {                                                                                                                  \
        .size = sizeof(struct quern_map_options), .call = QUERN_CALL_INIT, .window_count = 8000,                       \
        .window_bytes = (size_t)64 << 20, .timeout_ms = QUERN_FOREVER                                                  \
    }
#endif

/* Writes the next arguments (one msgpack array) and returns QUERN_OK; QUERN_END: there are no more; any other error
 * ends the inputs and comes out of quern_map_next once all items before it were given. Called by quern_map_next, in its
 * thread, never ahead of the window. */
typedef enum quern_err quern_input(void *context, struct quern_writer *args);

/* QUERN_INVALID, QUERN_TOO_BIG  an option or the call's fields, as quern_submit; options or input is NULL */
QUERN_MUST_USE enum quern_err quern_map_open(struct quern_client *client, const struct quern_map_options *options,
                                             quern_input *input, void *context, struct quern_map **map_out);

struct quern_map_item {
    uint64_t index;                /* 0, 1, 2 ... in order of input */
    struct quern_outcome *outcome; /* to be released */
};
/*
 * The next item: in order of input, or of completion. A failed item is an item: look at outcome->state.
 *
 * QUERN_END      every item was given, or the map has stopped at a failure (which was given last)
 * QUERN_TIMEOUT  of this call or of the map: quern_last_error says how far it is; it may be called again
 * QUERN_FULL     in a handler: too many wait there already (quern/futures.h); it may be called again
 * an error of input; QUERN_CLOSED, QUERN_TAKEN_OVER
 * QUERN_NO_MEMORY  no further input could be submitted: it may be called again, and no input is lost; but one that
 * input itself could not write ends the inputs
 */
QUERN_MUST_USE enum quern_err quern_map_next(struct quern_map *map, int timeout_ms, struct quern_map_item *item_out);
/* A file descriptor that is readable while quern_map_next would not block (for QUERN_END, errors and the end of the
 * map's own time too); for poll. Do not read from it, do not close it; the map closes it. -1: none could be made. */
int quern_map_fd(struct quern_map *map);
/* Ends it; before its end: cancels what has not started (with force: what runs too), and what still comes of it is
 * acknowledged unseen. */
void quern_map_close(struct quern_map **map);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif

#endif

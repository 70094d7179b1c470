/*
 * map: one function over many inputs: a window of items that were submitted and not given yet.
 * Knows nothing of sockets, and of futures only that they share the table of what is unfinished.
 * Start at quern_map_next, then batch_read and hand_fill; the life of one item: map_item.h.
 *
 * The application's thread alone reads inputs and gives items, and takes the lock once for many of them: it reads and
 * queues a batch of inputs, and takes a handful of what is done. What other threads change is under the lock: the
 * items, their window, waiting.
 */
#include "client/map_item.h"
#include "client/timed_fd.h"
#include "common/check.h"
#include "common/clock.h"
#include "quern/value.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define MAP_WINDOW_COUNT_MAX 10000000u
#define MAP_CHUNK_MAX 10000u
/* Inputs read, and items taken, with one taking of the lock. */
#define MAP_BATCH_COUNT_MAX 1024u
/* Memory that large inputs left behind is given back above this. */
#define STAGED_KEEP_SIZE (1024u * 1024u)
/* Inputs that were read are submitted after this time; while it is not enough for all, fewer are read at once. */
#define MAP_BATCH_US 500
/* So many of a batch are timed one by one; behind them the clock is read when the kernel's has ticked: it costs as much
 * as a twentieth of an item. */
#define MAP_TIMED_COUNT 16u

/* An input that was read: where its arguments are. */
struct staged {
    size_t at;
    size_t size;
};

struct given {
    uint64_t index;
    struct delivery *delivery;
};

struct quern_map {
    struct map_window window; /* first: an item knows no more of its map */
    struct quern_client *client;
    struct quern_map *next; /* of the client's */
    struct quern_map *prev;
    /* fixed */
    char *function;
    char *queue;
    struct task_options options;
    uint64_t delay_ms;
    bool may_wait;
    uint64_t window_count;
    uint64_t window_bytes;
    uint64_t read_step; /* room for so many is worth reading inputs */
    int64_t deadline_ms;
    quern_input *input;
    void *context;
    /* of the application's thread */
    struct quern_writer *writer;
    uint64_t read_count;
    uint64_t given_count;
    enum quern_err input_end; /* QUERN_OK: there may be more inputs; QUERN_END; or the error they ended with */
    char input_text[ERROR_TEXT_SIZE_MAX]; /* of that error */
    uint64_t stopped_at;                  /* the failure that was acted upon; UINT64_MAX none */
    uint64_t batch_count;                 /* inputs to be read at once; */
    uint64_t batch_count_min;             /* it adapts within these */
    uint64_t batch_count_max;
    struct buf staged_args;
    struct staged *staged; /* batch_count_max of them */
    bool is_unstaged;      /* the writer has one that there was no memory for */
    size_t staged_at;
    size_t staged_count;
    uint64_t staged_bytes;
    struct given hand[MAP_BATCH_COUNT_MAX];
    size_t hand_at;
    size_t hand_count;
    uint64_t hand_bytes;
    /* under the lock */
    pthread_cond_t changed;
    unsigned waiters;
    bool is_reading; /* inputs, without the lock: look at nothing */
    int fd;          /* -1 until asked for */
    bool fd_is_set;
    struct timed_fd timed_fd; /* over fd: the deadline ends waiting, too */
};

/* ---- reading inputs: without lock ---- */

static void inputs_end(struct quern_map *map, enum quern_err err)
{
    map->input_end = err;
    if (err != QUERN_END) {
        (void)snprintf(map->input_text, sizeof(map->input_text), "%s", quern_last_error());
    }
}

/* False: the inputs have ended. */
static bool input_ask(struct quern_map *map)
{
    quern_writer_reset(map->writer);
    enum quern_err err = map->input(map->context, map->writer);
    if (err != QUERN_OK) {
        inputs_end(map, err == QUERN_END ? err : error_set(err, "the inputs ended: %s", quern_err_text(err)));
    }
    return err == QUERN_OK;
}

/* The next input is staged; false: there is none, or no memory for it. */
static bool input_read(struct quern_map *map)
{
    const void *p;
    size_t n;
    if (!map->is_unstaged && !input_ask(map)) {
        return false;
    }
    quern_writer_bytes(map->writer, &p, &n);
    struct bytes args = n > 0 ? bytes_of(p, n) : args_none();
    enum quern_err err = quern_writer_error(map->writer);
    if (err != QUERN_OK || (n == 0 && !quern_writer_is_empty(map->writer))) {
        err = error_set(err != QUERN_OK ? err : QUERN_INVALID, "input %llu: its arguments were not written completely",
                        (unsigned long long)map->read_count);
    } else {
        err = args_written_check(args);
    }
    if (err != QUERN_OK) {
        inputs_end(map, err);
        return false;
    }
    map->is_unstaged = !buf_try_reserve(&map->staged_args, args.n);
    if (map->is_unstaged) {
        return false;
    }
    map->staged[map->staged_count++] = (struct staged){.at = map->staged_args.n, .size = args.n};
    map->staged_bytes += args.n;
    map->read_count++;
    buf_put(&map->staged_args, args.p, args.n);
    return true;
}

static bool bytes_are_full(const struct quern_map *map, uint64_t bytes)
{
    return map->read_count > map->given_count && bytes >= map->window_bytes;
}

struct batch_time {
    int64_t begun_us;
    int64_t tick_us;
};

static bool batch_is_slow(const struct quern_map *map, const struct batch_time *time)
{
    bool is_timed = map->staged_count <= MAP_TIMED_COUNT || clock_tick_us() != time->tick_us;
    return is_timed && clock_mono_us() - time->begun_us > MAP_BATCH_US;
}

/* Up to room inputs; bytes: what is in the window already. What was read does not wait for slow ones behind it, unless
 * the length is fixed. */
static void batch_read(struct quern_map *map, uint64_t room, uint64_t bytes)
{
    struct batch_time time = {.begun_us = clock_mono_us(), .tick_us = clock_tick_us()};
    uint64_t count = room < map->batch_count ? room : map->batch_count;
    bool is_fixed = map->batch_count_min == map->batch_count_max;
    bool is_slow = false;
    map->staged_at = map->staged_count = 0;
    map->staged_bytes = 0;
    map->staged_args.n = 0;
    while (map->staged_count < count && !is_slow && !bytes_are_full(map, bytes + map->staged_bytes) &&
           input_read(map)) {
        is_slow = !is_fixed && batch_is_slow(map, &time);
    }
    uint64_t next = is_slow ? map->batch_count / 2 : map->batch_count * 2;
    next = next < map->batch_count_max ? next : map->batch_count_max;
    map->batch_count = next > map->batch_count_min ? next : map->batch_count_min;
}

/* ---- submitting: under the lock ---- */

static void staged_drop(struct quern_map *map)
{
    map->staged_at = map->staged_count = 0;
    map->staged_bytes = 0;
    buf_fini(&map->staged_args);
}

static bool may_queue(const struct quern_map *map)
{
    const struct quern_client *client = map->client;
    return !client->is_closing && client->ledger.phase != LEDGER_ENDED && client_ledger_has_room(&client->ledger);
}

/* head: NULL: the one before it was queued just now, by this map too. */
static enum quern_err one_queue(struct quern_map *map, const struct msg_SUBMIT *head, uint64_t index, struct bytes args)
{
    struct client_ledger *ledger = &map->client->ledger;
    struct map_item *item = map_item_make(map->client, &map->window, index, args.n);
    struct submit *submit = item == NULL ? NULL : submits_make(&ledger->submits, args, map->may_wait, &item->owner);
    enum quern_err err = QUERN_NO_MEMORY;
    uint64_t id;
    if (submit != NULL && map_try_reserve(&map->client->futures, 1)) {
        err = head != NULL ? client_ledger_submit(ledger, head, &map->options, &submit, &id)
                           : client_ledger_submit_alike(ledger, &submit, &id);
    }
    if (err == QUERN_OK) {
        map_item_queued(item, id);
        return QUERN_OK;
    }
    if (submit != NULL) {
        submits_unmake(&ledger->submits, submit);
    }
    if (item != NULL) {
        map_item_unmake(item);
    }
    return error_set(err, "item %llu cannot be submitted: %s", (unsigned long long)index, quern_err_text(err));
}

/* QUERN_NO_MEMORY: what is left stays staged. */
static enum quern_err staged_queue(struct quern_map *map)
{
    struct msg_SUBMIT head = {
        .function = bytes_text(map->function), .queue = bytes_text(map->queue), .delay_ms = map->delay_ms};
    for (bool is_first = true; map->staged_at < map->staged_count && may_queue(map); is_first = false) {
        const struct staged *staged = &map->staged[map->staged_at];
        uint64_t index = map->read_count - (map->staged_count - map->staged_at);
        enum quern_err err =
            one_queue(map, is_first ? &head : NULL, index, bytes_of(map->staged_args.p + staged->at, staged->size));
        if (err == QUERN_NO_MEMORY) {
            return err;
        }
        if (err != QUERN_OK) {
            inputs_end(map, err);
            staged_drop(map);
            return QUERN_OK;
        }
        map->staged_bytes -= staged->size;
        map->staged_at++;
    }
    if (map->staged_at == map->staged_count && map->staged_args.cap > STAGED_KEEP_SIZE) {
        buf_fini(&map->staged_args);
    }
    return map->is_unstaged && map->staged_count == 0 ? error_memory("one more input") : QUERN_OK;
}

static uint64_t window_used(const struct quern_map *map)
{
    return map->window.unfinished_bytes + map->window.done_bytes + map->hand_bytes + map->staged_bytes;
}

/* Inputs that may be read now, if that is worth while. */
static uint64_t read_room(const struct quern_map *map)
{
    uint64_t room = map->window_count - (map->read_count - map->given_count);
    bool is_over = map->input_end != QUERN_OK || map->window.failed_index != UINT64_MAX;
    return is_over || room < map->read_step || bytes_are_full(map, window_used(map)) ? 0 : room;
}

static bool can_submit(const struct quern_map *map)
{
    return (map->staged_at < map->staged_count || read_room(map) > 0) && may_queue(map);
}

/* Reads inputs and queues them; the lock is free while inputs are read. QUERN_NO_MEMORY: not all of them. */
static enum quern_err map_submit(struct quern_map *map)
{
    struct quern_client *client = map->client;
    if (map->staged_at == map->staged_count) {
        uint64_t room = read_room(map);
        uint64_t bytes = window_used(map);
        map->is_reading = true;
        pthread_mutex_unlock(&client->lock);
        batch_read(map, room, bytes);
        pthread_mutex_lock(&client->lock);
        map->is_reading = false;
    }
    enum quern_err err = staged_queue(map);
    client_ready_update(client);
    if (client->ledger.phase == LEDGER_UP && submits_has_news(&client->ledger.submits, 0) && io_poke(client)) {
        io_wake(client);
    }
    return err;
}

/* ---- giving: under the lock ---- */

/* An item failed that ends the map: what comes behind it is not wanted any more. */
static void map_stop(struct quern_map *map)
{
    if (map->window.failed_index == map->stopped_at) {
        return;
    }
    map->stopped_at = map->window.failed_index;
    map->input_end = QUERN_END;
    staged_drop(map);
    map_window_drop(&map->window, map->stopped_at);
    maps_tell(map->client);
}

static void hand_fill(struct quern_map *map)
{
    map->hand_at = map->hand_count = 0;
    while (map->hand_count < MAP_BATCH_COUNT_MAX) {
        struct given *given = &map->hand[map->hand_count];
        given->delivery = map_window_take(&map->window, &given->index);
        if (given->delivery == NULL) {
            return;
        }
        map->client->refs++; /* of the outcome that will be handed out */
        map->hand_bytes += given->delivery->size;
        map->hand_count++;
    }
}

static bool hand_is_empty(const struct quern_map *map)
{
    return map->hand_at == map->hand_count;
}

static void hand_give(struct quern_map *map, struct quern_map_item *item_out)
{
    struct given *given = &map->hand[map->hand_at++];
    map->hand_bytes -= given->delivery->size;
    map->given_count++;
    *item_out = (struct quern_map_item){.index = given->index, .outcome = &given->delivery->outcome};
}

/* Without lock, if nothing else is to be done now. */
static bool give_at_once(struct quern_map *map, struct quern_map_item *item_out)
{
    bool must_read =
        map->input_end == QUERN_OK && map->window_count - (map->read_count - map->given_count) >= map->read_step;
    if (hand_is_empty(map) || must_read || map->fd >= 0) {
        return false;
    }
    hand_give(map, item_out);
    return true;
}

/* QUERN_OK: there may be something to wait for. */
static enum quern_err map_verdict(const struct quern_map *map)
{
    bool is_empty = map->staged_at == map->staged_count && map->window.items.first == NULL && !map->window.is_cut;
    if (map->input_end != QUERN_OK && is_empty) {
        return map->input_end == QUERN_END
                   ? error_set(QUERN_END, "all %llu items were given", (unsigned long long)map->given_count)
                   : error_set(map->input_end, "%s", map->input_text);
    }
    return client_end(map->client);
}

static bool map_is_ready(const struct quern_map *map)
{
    return !hand_is_empty(map) || map_window_is_ready(&map->window) || can_submit(map) ||
           map->window.failed_index != map->stopped_at || map->client->is_closed ||
           map->client->ledger.phase == LEDGER_ENDED || (map->input_end != QUERN_OK && map->window.items.first == NULL);
}

static void map_fd_update(struct quern_map *map)
{
    eventfd_t count;
    bool is_set = map->fd >= 0 && map_is_ready(map);
    if (is_set && !map->fd_is_set) {
        (void)eventfd_write(map->fd, 1);
    } else if (!is_set && map->fd_is_set) {
        (void)eventfd_read(map->fd, &count);
    }
    map->fd_is_set = is_set;
}

static enum quern_err timeout_tell(const struct quern_map *map)
{
    return error_set(QUERN_TIMEOUT, "%llu of %llu items%s were given; the others go on, ask again",
                     (unsigned long long)map->given_count, (unsigned long long)map->read_count,
                     map->input_end == QUERN_OK ? " read so far" : "");
}

/* Waits until there is something in the hand. */
static enum quern_err hand_await(struct quern_map *map, int64_t deadline_ms)
{
    struct quern_client *client = map->client;
    for (;;) {
        enum quern_err submitted = QUERN_OK;
        map_stop(map);
        if (can_submit(map)) {
            submitted = map_submit(map);
            map_stop(map);
        }
        if (hand_is_empty(map)) {
            hand_fill(map);
        }
        if (!hand_is_empty(map)) {
            return QUERN_OK;
        }
        enum quern_err err = map_verdict(map);
        err = err != QUERN_OK ? err : submitted;
        if (err != QUERN_OK) {
            return err;
        }
        if (client_want(client)) {
            io_wake(client);
        }
        if (clock_mono_ms() >= deadline_ms) {
            return timeout_tell(map);
        }
        if (can_submit(map)) {
            continue;
        }
        client->wanting++;
        err = client_wait_away(client, &map->changed, &map->waiters, deadline_ms);
        client->wanting--;
        if (err != QUERN_OK) {
            return err;
        }
    }
}

static enum quern_err map_check(const struct quern_map *map)
{
    return map == NULL ? error_set(QUERN_INVALID, "the map is NULL; quern_map_open gives one")
                       : client_check(map->client);
}

enum quern_err quern_map_next(struct quern_map *map, int timeout_ms, struct quern_map_item *item_out)
{
    enum quern_err err = map_check(map);
    err = err != QUERN_OK ? err : out_check("quern_map_next", "item_out", item_out);
    if (err != QUERN_OK || give_at_once(map, item_out)) {
        return err;
    }
    struct quern_client *client = map->client;
    int64_t deadline_ms = deadline_of(timeout_ms);
    pthread_mutex_lock(&client->lock);
    client_ref(client);
    err = hand_await(map, deadline_ms < map->deadline_ms ? deadline_ms : map->deadline_ms);
    if (err == QUERN_OK) {
        hand_give(map, item_out);
    }
    map_fd_update(map);
    client_unref_unlock(client);
    return err;
}

int quern_map_fd(struct quern_map *map)
{
    if (map_check(map) != QUERN_OK) {
        return -1;
    }
    struct quern_client *client = map->client;
    pthread_mutex_lock(&client->lock);
    if (map->fd < 0) {
        map->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        map_fd_update(map);
    }
    int fd = timed_fd_get(&map->timed_fd, map->fd, map->deadline_ms);
    int why = errno;
    pthread_mutex_unlock(&client->lock);
    if (fd < 0) {
        (void)error_set(QUERN_IO, "no descriptor for a map: %s", strerror(why));
    }
    return fd;
}

void maps_wake(struct quern_client *client)
{
    for (struct quern_map *map = client->maps.first; map != NULL; map = map->next) {
        if (map->waiters > 0 && map_is_ready(map)) {
            pthread_cond_signal(&map->changed);
        }
        if (map->fd >= 0 && !map->is_reading) {
            map_fd_update(map);
        }
    }
}

/* ---- opening and closing ---- */

static enum quern_err options_check(const struct quern_map_options *options)
{
    if (options->order != QUERN_INPUT_ORDER && options->order != QUERN_COMPLETION_ORDER) {
        return error_set(QUERN_INVALID, "order is %d; it is QUERN_INPUT_ORDER or QUERN_COMPLETION_ORDER",
                         (int)options->order);
    }
    if (options->window_count < 1 || options->window_count > MAP_WINDOW_COUNT_MAX) {
        return error_set(QUERN_INVALID, "window_count is %zu; it may be 1 to %u", options->window_count,
                         MAP_WINDOW_COUNT_MAX);
    }
    if (options->window_bytes < 1 || options->window_bytes > CLIENT_WINDOW_MAX) {
        return error_set(QUERN_INVALID, "window_bytes is %zu; it may be 1 to 2^40", options->window_bytes);
    }
    if (options->chunk > MAP_CHUNK_MAX) {
        return error_set(QUERN_INVALID, "chunk is %zu; it may be 1 to %u, or 0 to adapt", options->chunk,
                         MAP_CHUNK_MAX);
    }
    return QUERN_OK;
}

static enum quern_err options_read(const struct quern_map_options *given, struct quern_map_options *options)
{
    struct quern_call call = QUERN_CALL_INIT;
    enum quern_err err = sized_copy(options, sizeof(*options), given, "struct quern_map_options");
    err = err != QUERN_OK ? err : sized_copy(&call, sizeof(call), &given->call, "struct quern_call");
    err = err != QUERN_OK ? err : options_check(options);
    options->call = call;
    return err != QUERN_OK ? err : call_check(&call);
}

static void map_free(struct quern_map *map)
{
    timed_fd_fini(&map->timed_fd);
    if (map->fd >= 0) {
        (void)close(map->fd);
    }
    pthread_cond_destroy(&map->changed);
    quern_writer_free(map->writer);
    free(map->staged);
    free(map->function);
    free(map->queue);
    free(map);
}

static bool has_memory(const struct quern_map *map, const struct quern_map_options *options)
{
    return map->function != NULL && (map->queue != NULL || options->call.queue == NULL) && map->staged != NULL &&
           map->writer != NULL;
}

/* NULL: no memory. */
static struct quern_map *map_make(struct quern_client *client, const struct quern_map_options *options)
{
    pthread_condattr_t monotonic;
    struct quern_map *map = calloc(1, sizeof(*map));
    if (map == NULL) {
        return NULL;
    }
    map->window = (struct map_window){.order = options->order,
                                      .stops_at_failure = options->stop_at_failure,
                                      .force = options->force,
                                      .failed_index = UINT64_MAX};
    map->client = client;
    map->function = strdup(options->call.function);
    map->queue = options->call.queue == NULL ? NULL : strdup(options->call.queue);
    map->options = call_options(&options->call);
    map->delay_ms = call_delay(&options->call);
    map->may_wait = options->call.wait_ms != 0;
    map->window_count = options->window_count;
    map->window_bytes = options->window_bytes;
    map->batch_count_max = options->chunk > 0 ? options->chunk : MAP_BATCH_COUNT_MAX;
    map->batch_count = map->batch_count_min = options->chunk > 0 ? options->chunk : 1;
    map->staged = calloc(map->batch_count_max, sizeof(map->staged[0]));
    map->read_step =
        options->window_count / 4 < map->batch_count_max ? options->window_count / 4 : map->batch_count_max;
    map->read_step = map->read_step > 0 ? map->read_step : 1;
    map->deadline_ms = deadline_of(options->timeout_ms);
    map->writer = quern_writer_new();
    map->stopped_at = UINT64_MAX;
    map->fd = -1;
    map->timed_fd = (struct timed_fd)TIMED_FD_INIT;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&map->changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
    if (!has_memory(map, options)) {
        map_free(map);
        return NULL;
    }
    return map;
}

enum quern_err quern_map_open(struct quern_client *client, const struct quern_map_options *given, quern_input *input,
                              void *context, struct quern_map **map_out)
{
    struct quern_map_options options = QUERN_MAP_OPTIONS_INIT;
    enum quern_err err = client_check(client);
    if (err == QUERN_OK && (given == NULL || input == NULL)) {
        err = error_set(QUERN_INVALID, "quern_map_open: %s is NULL", given == NULL ? "options" : "input");
    }
    err = err != QUERN_OK ? err : out_check("quern_map_open", "map_out", map_out);
    err = err != QUERN_OK ? err : options_read(given, &options);
    if (err == QUERN_OK && client->is_operator) {
        err = error_set(QUERN_INVALID, "quern_map_open: this client has no session; open one without no_session");
    }
    if (err != QUERN_OK) {
        return err;
    }
    struct quern_map *map = map_make(client, &options);
    if (map == NULL) {
        return error_memory("a map");
    }
    map->input = input;
    map->context = context;
    pthread_mutex_lock(&client->lock);
    client_ref(client);
    map->next = client->maps.first;
    if (map->next != NULL) {
        map->next->prev = map;
    }
    client->maps.first = map;
    pthread_mutex_unlock(&client->lock);
    *map_out = map;
    return QUERN_OK;
}

/* What was taken and not given is acknowledged all the same. */
static void hand_drop(struct quern_map *map)
{
    for (; map->hand_at < map->hand_count; map->hand_at++) {
        struct delivery *delivery = map->hand[map->hand_at].delivery;
        delivery_take(delivery);
        delivery_unref(delivery);
        map->client->refs--;
    }
}

void quern_map_close(struct quern_map **taken)
{
    if (taken == NULL || *taken == NULL) {
        return;
    }
    struct quern_map *map = *taken;
    *taken = NULL;
    if (map_check(map) != QUERN_OK) {
        return; /* in the child of a fork nobody knows what state it is in */
    }
    struct quern_client *client = map->client;
    pthread_mutex_lock(&client->lock);
    *(map->prev == NULL ? &client->maps.first : &map->prev->next) = map->next;
    if (map->next != NULL) {
        map->next->prev = map->prev;
    }
    staged_drop(map);
    hand_drop(map);
    map_window_close(&map->window);
    client_tell(client);
    if (io_poke(client)) {
        io_wake(client);
    }
    client_unref_unlock(client);
    map_free(map);
}

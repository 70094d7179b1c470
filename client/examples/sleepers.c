/*
 * sleepers: tasks that sleep for 5, 2, 3, 4 and 1 fifths of a second, with a slot for each: by map in the order of the
 * inputs, by as_completed in the order in which they end. Each is told when to wake, so that it does not matter when it
 * started.
 */
#include "example.h"

#include <time.h>

#define COUNT 5
#define FIFTH_MS 200

static const int64_t fifths[COUNT] = {5, 2, 3, 4, 1};

/* A moment at which all have started: from then on the fifths count. By a clock that all processes share. */
static int64_t soon_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000 + now.tv_nsec / 1000000 + 2 * FIFTH_MS;
}

static enum quern_err nap(struct quern_task *task, struct quern_reader *args, struct quern_writer *result)
{
    int64_t until_ms;

    if (quern_read_i64(args, &until_ms) != QUERN_OK || until_ms < 0) {
        return quern_task_fail_args(task, args, "nap takes the time to wake, in milliseconds");
    }
    struct timespec time = {.tv_sec = until_ms / 1000, .tv_nsec = until_ms % 1000 * 1000000};
    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &time, NULL);
    quern_write_i64(result, until_ms);
    return QUERN_OK;
}

static const struct quern_function functions[] = {{"nap", nap}, {NULL, NULL}};
static const struct quern_module module = {.size = sizeof module, .functions = functions};

struct naps {
    int64_t start_ms;
    int next;
};

static enum quern_err next_nap(void *context, struct quern_writer *args)
{
    struct naps *naps = context;

    if (naps->next == COUNT) {
        return QUERN_END;
    }
    quern_write_array(args, 1);
    quern_write_i64(args, naps->start_ms + FIFTH_MS * fifths[naps->next++]);
    return QUERN_OK;
}

static void in_input_order(struct quern_client *client)
{
    struct quern_map_options options = QUERN_MAP_OPTIONS_INIT;
    struct quern_map_item item;
    struct quern_map *map;
    struct naps naps = {.start_ms = soon_ms()};
    enum quern_err err;

    printf("by map:         ");
    options.call.function = "nap";
    must(quern_map_open(client, &options, next_nap, &naps, &map));
    while ((err = quern_map_next(map, QUERN_FOREVER, &item)) == QUERN_OK) {
        printf(" %" PRId64, (outcome_i64(item.outcome) - naps.start_ms) / FIFTH_MS);
        quern_outcome_release(&item.outcome);
    }
    must_be_end(err);
    printf("\n");
    quern_map_close(&map);
}

static void as_they_complete(struct quern_client *client)
{
    struct quern_future *futures[COUNT];
    struct quern_future *future;
    struct quern_set *set;
    int64_t start_ms = soon_ms();
    enum quern_err err;

    printf("by as_completed:");
    for (int i = 0; i < COUNT; i++) {
        futures[i] = submit_i64(client, "nap", start_ms + FIFTH_MS * fifths[i]);
    }
    must(quern_as_completed(futures, COUNT, QUERN_FOREVER, &set));
    while ((err = quern_set_next(set, QUERN_FOREVER, &future)) == QUERN_OK) {
        printf(" %" PRId64, (result_i64(future) - start_ms) / FIFTH_MS);
    }
    must_be_end(err);
    printf("\n");
    quern_set_close(&set);
    for (int i = 0; i < COUNT; i++) {
        quern_future_release(&futures[i]);
    }
}

int main(int argc, char **argv)
{
    quern_pool_main(argc, argv, &module);

    struct quern_pool *pool = pool_of(COUNT);

    in_input_order(quern_pool_client(pool));
    as_they_complete(quern_pool_client(pool));
    must(quern_pool_close(&pool, 0));
    return 0;
}

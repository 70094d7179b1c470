/*
 * sleepers: tasks that take 5, 2, 3, 4 and 1 fifths of a second, with a slot for each: by map in the order of the
 * inputs, by as_completed in the order in which they end.
 */
#include "example.h"

#include <time.h>

#define COUNT 5

static const int64_t fifths[COUNT] = {5, 2, 3, 4, 1};

static enum quern_err nap(struct quern_task *task, struct quern_reader *args, struct quern_writer *result)
{
    int64_t n;

    if (quern_read_i64(args, &n) != QUERN_OK || n < 0) {
        return quern_task_fail_args(task, args, "nap takes fifths of a second");
    }
    struct timespec time = {.tv_sec = n / 5, .tv_nsec = n % 5 * 200000000};
    nanosleep(&time, NULL);
    quern_write_i64(result, n);
    return QUERN_OK;
}

static const struct quern_function functions[] = {{"nap", nap}, {NULL, NULL}};
static const struct quern_module module = {.size = sizeof module, .functions = functions};

static enum quern_err next_nap(void *context, struct quern_writer *args)
{
    int *next = context;

    if (*next == COUNT) {
        return QUERN_END;
    }
    quern_write_array(args, 1);
    quern_write_i64(args, fifths[(*next)++]);
    return QUERN_OK;
}

static void in_input_order(struct quern_client *client)
{
    struct quern_map_options options = QUERN_MAP_OPTIONS_INIT;
    struct quern_map_item item;
    struct quern_map *map;
    int next = 0;
    enum quern_err err;

    printf("by map:         ");
    options.call.function = "nap";
    must(quern_map_open(client, &options, next_nap, &next, &map));
    while ((err = quern_map_next(map, QUERN_FOREVER, &item)) == QUERN_OK) {
        printf(" %" PRId64, outcome_i64(item.outcome));
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
    enum quern_err err;

    printf("by as_completed:");
    for (int i = 0; i < COUNT; i++) {
        futures[i] = submit_i64(client, "nap", fifths[i]);
    }
    must(quern_as_completed(futures, COUNT, QUERN_FOREVER, &set));
    while ((err = quern_set_next(set, QUERN_FOREVER, &future)) == QUERN_OK) {
        printf(" %" PRId64, result_i64(future));
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

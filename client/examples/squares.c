/*
 * squares: map a function over 1..10, results in the order of the inputs.
 *
 *     with ProcessPoolExecutor() as pool:
 *         for square in pool.map(square, range(1, 11)): print(square)
 */
#include "example.h"

static enum quern_err square(struct quern_task *task, struct quern_reader *args, struct quern_writer *result)
{
    int64_t x;

    if (quern_read_i64(args, &x) != QUERN_OK) {
        return quern_task_fail_args(task, args, "square takes one integer");
    }
    quern_write_i64(result, x * x);
    return QUERN_OK;
}

static const struct quern_function functions[] = {{"square", square}, {NULL, NULL}};
static const struct quern_module module = {.size = sizeof module, .functions = functions};

/* The inputs, one at a time, as the map asks for them. */
static enum quern_err next_number(void *context, struct quern_writer *args)
{
    int64_t *next = context;

    if (*next > 10) {
        return QUERN_END;
    }
    quern_write_array(args, 1);
    quern_write_i64(args, (*next)++);
    return QUERN_OK;
}

int main(int argc, char **argv)
{
    quern_pool_main(argc, argv, &module); /* first: the workers of the pool are this program too */

    struct quern_pool *pool = pool_of(2);
    struct quern_map_options options = QUERN_MAP_OPTIONS_INIT;
    struct quern_map_item item;
    struct quern_map *map;
    int64_t next = 1;
    enum quern_err err;

    options.call.function = "square";
    must(quern_map_open(quern_pool_client(pool), &options, next_number, &next, &map));
    while ((err = quern_map_next(map, QUERN_FOREVER, &item)) == QUERN_OK) {
        printf("%" PRId64 "\n", outcome_i64(item.outcome));
        quern_outcome_release(&item.outcome);
    }
    must_be_end(err);
    quern_map_close(&map);
    must(quern_pool_close(&pool, 0));
    return 0;
}

/*
 * cubes: submit one call after the other, keep the futures, ask each for its result.
 *
 *     futures = [pool.submit(cube, x) for x in range(5)]
 *     print([future.result() for future in futures])
 */
#include "example.h"

#define COUNT 5

static enum quern_err cube(struct quern_task *task, struct quern_reader *args, struct quern_writer *result)
{
    int64_t x;

    if (quern_read_i64(args, &x) != QUERN_OK) {
        return quern_task_fail_args(task, args, "cube takes one integer");
    }
    quern_write_i64(result, x * x * x);
    return QUERN_OK;
}

static const struct quern_function functions[] = {{"cube", cube}, {NULL, NULL}};
static const struct quern_module module = {.size = sizeof module, .functions = functions};

int main(int argc, char **argv)
{
    quern_pool_main(argc, argv, &module);

    struct quern_pool *pool = pool_of(2);
    struct quern_future *futures[COUNT];

    for (int x = 0; x < COUNT; x++) {
        futures[x] = submit_i64(quern_pool_client(pool), "cube", x);
    }
    for (int x = 0; x < COUNT; x++) {
        printf("%d^3 = %" PRId64 "\n", x, result_i64(futures[x]));
        quern_future_release(&futures[x]);
    }
    must(quern_pool_close(&pool, 0));
    return 0;
}

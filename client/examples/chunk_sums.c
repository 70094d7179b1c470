/*
 * chunk_sums: the sum of the squares and of the cubes of 0..9999, each in ten chunks that are summed by the pool. The
 * two groups run at the same time; leaving a group waits for everything in it.
 */
#include "example.h"

#define COUNT 10000
#define CHUNKS 10

/* sum_powers(power, first, last) */
static enum quern_err sum_powers(struct quern_task *task, struct quern_reader *args, struct quern_writer *result)
{
    int64_t power;
    int64_t first;
    int64_t last;
    int64_t sum = 0;

    if (quern_read_i64(args, &power) != QUERN_OK || quern_read_i64(args, &first) != QUERN_OK ||
        quern_read_i64(args, &last) != QUERN_OK) {
        return quern_task_fail_args(task, args, "sum_powers takes power, first and last");
    }
    for (int64_t n = first; n <= last; n++) {
        int64_t product = 1;
        for (int64_t i = 0; i < power; i++) {
            product *= n;
        }
        sum += product;
    }
    quern_write_i64(result, sum);
    return QUERN_OK;
}

static const struct quern_function functions[] = {{"sum_powers", sum_powers}, {NULL, NULL}};
static const struct quern_module module = {.size = sizeof module, .functions = functions};

static void submit_chunks(struct quern_group *group, int64_t power, struct quern_future *futures[CHUNKS])
{
    struct quern_call call = QUERN_CALL_INIT;
    struct quern_writer *args = quern_writer_new();

    call.function = "sum_powers";
    for (int64_t i = 0; i < CHUNKS; i++) {
        quern_writer_reset(args);
        quern_write_array(args, 3);
        quern_write_i64(args, power);
        quern_write_i64(args, i * (COUNT / CHUNKS));
        quern_write_i64(args, (i + 1) * (COUNT / CHUNKS) - 1);
        quern_writer_bytes(args, &call.args, &call.args_size);
        must(quern_group_submit(group, &call, &futures[i])); /* the futures are the group's */
    }
    quern_writer_free(args);
}

static int64_t sum_of(struct quern_future *futures[CHUNKS])
{
    int64_t sum = 0;

    for (int i = 0; i < CHUNKS; i++) {
        sum += result_i64(futures[i]);
    }
    return sum;
}

int main(int argc, char **argv)
{
    quern_pool_main(argc, argv, &module);

    struct quern_pool *pool = pool_of(2);
    struct quern_future *squares[CHUNKS];
    struct quern_future *cubes[CHUNKS];
    struct quern_group *group;

    must(quern_group_open(quern_pool_client(pool), NULL, QUERN_GROUP_FAIL_FAST, &group));
    submit_chunks(group, 2, squares);
    submit_chunks(group, 3, cubes);
    printf("sum of squares of 0..%d: %" PRId64 "\n", COUNT - 1, sum_of(squares));
    printf("sum of cubes of 0..%d: %" PRId64 "\n", COUNT - 1, sum_of(cubes));
    must(quern_group_close(&group, NULL));
    must(quern_pool_close(&pool, 0));
    return 0;
}

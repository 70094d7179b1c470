/*
 * fibonacci: of 40, 35 and 30, the slow way; shown as they complete: the one that was submitted last comes first.
 *
 *     for future in as_completed(futures): print(future.result())
 */
#include "example.h"

static int64_t fib(int64_t n)
{
    return n < 2 ? n : fib(n - 1) + fib(n - 2);
}

static enum quern_err fibonacci(struct quern_task *task, struct quern_reader *args, struct quern_writer *result)
{
    int64_t n;

    if (quern_read_i64(args, &n) != QUERN_OK || n < 0 || n > 50) {
        return quern_task_fail_args(task, args, "fibonacci takes a number of 0..50");
    }
    quern_write_array(result, 2);
    quern_write_i64(result, n);
    quern_write_i64(result, fib(n));
    return QUERN_OK;
}

static const struct quern_function functions[] = {{"fibonacci", fibonacci}, {NULL, NULL}};
static const struct quern_module module = {.size = sizeof module, .functions = functions};

static void print_result(struct quern_future *future)
{
    struct quern_outcome *outcome;
    struct quern_reader reader;
    int64_t n;
    int64_t value;

    must(quern_future_result(future, 0, &outcome));
    quern_reader_init(&reader, outcome->result, outcome->result_size);
    quern_read_array(&reader, NULL);
    quern_read_i64(&reader, &n);
    must(quern_read_i64(&reader, &value)); /* a reader remembers its first error: one look is enough */
    printf("fibonacci(%" PRId64 ") = %" PRId64 "\n", n, value);
    quern_outcome_release(&outcome);
}

int main(int argc, char **argv)
{
    quern_pool_main(argc, argv, &module);

    static const int64_t inputs[] = {40, 35, 30};
    struct quern_pool *pool = pool_of(3);
    struct quern_future *futures[3];
    struct quern_future *future;
    struct quern_set *set;
    enum quern_err err;

    for (int i = 0; i < 3; i++) {
        futures[i] = submit_i64(quern_pool_client(pool), "fibonacci", inputs[i]);
    }
    must(quern_as_completed(futures, 3, QUERN_FOREVER, &set));
    while ((err = quern_set_next(set, QUERN_FOREVER, &future)) == QUERN_OK) {
        print_result(future);
    }
    must_be_end(err);
    quern_set_close(&set);
    for (int i = 0; i < 3; i++) {
        quern_future_release(&futures[i]);
    }
    must(quern_pool_close(&pool, 0));
    return 0;
}

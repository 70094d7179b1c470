/*
 * exceptions: 100 / x for x in 2, 0, 5: one fails, and says how; the others are not touched.
 *
 *     try: print(future.result())
 *     except ZeroDivisionError as error: print(error)
 */
#include "example.h"

static enum quern_err divide_100(struct quern_task *task, struct quern_reader *args, struct quern_writer *result)
{
    int64_t x;

    if (quern_read_i64(args, &x) != QUERN_OK) {
        return quern_task_fail_args(task, args, "divide_100 takes one integer");
    }
    if (x == 0) {
        return quern_task_fail(task, "DivisionByZero", "100 / %" PRId64, x);
    }
    quern_write_i64(result, 100 / x);
    return QUERN_OK;
}

static const struct quern_function functions[] = {{"divide_100", divide_100}, {NULL, NULL}};
static const struct quern_module module = {.size = sizeof module, .functions = functions};

int main(int argc, char **argv)
{
    quern_pool_main(argc, argv, &module);

    static const int64_t inputs[] = {2, 0, 5};
    struct quern_pool *pool = pool_of(2);
    struct quern_future *futures[3];

    for (int i = 0; i < 3; i++) {
        futures[i] = submit_i64(quern_pool_client(pool), "divide_100", inputs[i]);
    }
    for (int i = 0; i < 3; i++) {
        struct quern_outcome *outcome;
        enum quern_err err = quern_future_result(futures[i], QUERN_FOREVER, &outcome);

        if (err == QUERN_OK) {
            printf("100 / %" PRId64 " = %" PRId64 "\n", inputs[i], outcome_i64(outcome));
        } else if (err == QUERN_TASK_FAILED) {
            printf("100 / %" PRId64 " failed: %s: %s\n", inputs[i], outcome->kind, outcome->message);
        } else {
            must(err);
        }
        quern_outcome_release(&outcome);
        quern_future_release(&futures[i]);
    }
    must(quern_pool_close(&pool, 0));
    return 0;
}

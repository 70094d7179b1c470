/*
 * timeouts: of two kinds. A timeout of the wait stops only the waiting: the task goes on, and can be waited for again.
 * A timeout of the task stops the task: its process is ended, and the slot is replaced.
 */
#include "example.h"

#include <time.h>

static enum quern_err nap(struct quern_task *task, struct quern_reader *args, struct quern_writer *result)
{
    int64_t ms;

    if (quern_read_i64(args, &ms) != QUERN_OK || ms < 0) {
        return quern_task_fail_args(task, args, "nap takes milliseconds");
    }
    struct timespec time = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
    nanosleep(&time, NULL);
    quern_write_i64(result, ms);
    return QUERN_OK;
}

static const struct quern_function functions[] = {{"nap", nap}, {NULL, NULL}};
static const struct quern_module module = {.size = sizeof module, .functions = functions};

static void stop_waiting(struct quern_client *client)
{
    struct quern_future *future = submit_i64(client, "nap", 400);
    struct quern_outcome *outcome;

    if (quern_future_result(future, 50, &outcome) == QUERN_TIMEOUT) {
        printf("not yet; the task goes on\n");
    }
    printf("it slept %" PRId64 " ms\n", result_i64(future));
    quern_future_release(&future);
}

static void stop_the_task(struct quern_client *client)
{
    struct quern_call call = QUERN_CALL_INIT;
    struct quern_future *future;
    struct quern_outcome *outcome;

    call.function = "nap";
    call.args = "\x91\xcd\xea\x60"; /* [60000] */
    call.args_size = 4;
    call.timeout_ms = 200; /* from the start of each attempt */
    must(quern_submit(client, &call, &future, NULL));
    if (quern_future_result(future, QUERN_FOREVER, &outcome) == QUERN_TASK_FAILED) {
        printf("a minute's sleep was ended: cause %s\n", quern_cause_word(outcome->cause));
    }
    quern_outcome_release(&outcome);
    quern_future_release(&future);
}

int main(int argc, char **argv)
{
    quern_pool_main(argc, argv, &module);

    struct quern_pool *pool = pool_of(1);

    stop_waiting(quern_pool_client(pool));
    stop_the_task(quern_pool_client(pool));
    struct quern_future *future = submit_i64(quern_pool_client(pool), "nap", 1);
    printf("and the slot works on: it slept %" PRId64 " ms\n", result_i64(future));
    quern_future_release(&future);
    must(quern_pool_close(&pool, 0));
    return 0;
}

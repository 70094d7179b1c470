/*
 * Example functions that are clients of their own broker: they submit parts of their work as tasks and wait for them.
 * A module of its own, because it links libquern. While a handler waits its slot is free for other tasks, so that this
 * works on a worker with one slot too.
 */
#include <quern/client.h>
#include <quern/value.h>
#include <quern/worker.h>

#define FIBONACCI_MAX 90

/* One client for the life of the slot: it is opened by the first task that needs it. Not in an initialiser: a client
 * has a thread, and slots are made by fork. */
static struct quern_client *client;

static enum quern_err client_begin(struct quern_task *task)
{
    if (client != NULL) {
        return QUERN_OK;
    }
    enum quern_err err = quern_client_open(NULL, &client); /* where, and with or without a store: the worker says it */
    return err == QUERN_OK ? err : quern_task_fail(task, "NoClient", "%s", quern_last_error());
}

static enum quern_err submit(struct quern_task *task, const char *function, const struct quern_writer *args,
                             struct quern_future **future_out)
{
    struct quern_call call = QUERN_CALL_INIT;
    const void *bytes;
    call.function = function;
    quern_writer_bytes(args, &bytes, &call.args_size);
    call.args = bytes;
    if (quern_submit(client, &call, future_out, NULL) != QUERN_OK) {
        return quern_task_fail(task, "NotSubmitted", "%s", quern_last_error());
    }
    return QUERN_OK;
}

/* The child's result, one integer, is added to *sum. The future is released. */
static enum quern_err take(struct quern_task *task, struct quern_future **future, uint64_t *sum)
{
    struct quern_outcome *outcome = NULL;
    enum quern_err err = quern_future_result(*future, QUERN_FOREVER, &outcome);
    uint64_t part = 0;
    if (err == QUERN_OK) {
        struct quern_reader reader;
        quern_reader_init(&reader, outcome->result, outcome->result_size);
        err = quern_read_u64(&reader, &part);
    }
    if (err == QUERN_TASK_FAILED) {
        err = quern_task_fail(task, outcome->kind, "%s", outcome->message); /* as it failed, so does this one */
    } else if (err != QUERN_OK) {
        err = quern_task_fail(task, "NoResult", "%s", quern_last_error());
    }
    *sum += part;
    quern_outcome_release(&outcome);
    quern_future_release(future);
    return err;
}

/* Both, also if the first one failed: nothing is left behind in the session. */
static enum quern_err take_both(struct quern_task *task, struct quern_future *futures[2], struct quern_writer *result)
{
    uint64_t sum = 0;
    enum quern_err first = take(task, &futures[0], &sum);
    enum quern_err second = futures[1] == NULL ? first : take(task, &futures[1], &sum);
    quern_write_u64(result, sum);
    return first != QUERN_OK ? first : second;
}

static enum quern_err submit_fibonacci(struct quern_task *task, uint64_t n, struct quern_future **future_out)
{
    struct quern_writer *args = quern_writer_new();
    quern_write_array(args, 1);
    quern_write_u64(args, n);
    enum quern_err err = submit(task, "fib_nested", args, future_out);
    quern_writer_free(args);
    return err;
}

/* Fibonacci as it is defined: each task submits two smaller ones. */
static enum quern_err run_fib_nested(struct quern_task *task, struct quern_reader *args, struct quern_writer *result)
{
    uint64_t n;
    struct quern_future *futures[2] = {NULL, NULL};
    if (quern_read_u64(args, &n) != QUERN_OK || n > FIBONACCI_MAX) {
        return quern_task_fail_args(task, args, "fib_nested takes one integer, 0 to 90");
    }
    if (n < 2) {
        quern_write_u64(result, n);
        return QUERN_OK;
    }
    enum quern_err err = client_begin(task);
    err = err != QUERN_OK ? err : submit_fibonacci(task, n - 1, &futures[0]);
    if (err != QUERN_OK) {
        return err;
    }
    err = submit_fibonacci(task, n - 2, &futures[1]);
    enum quern_err taken = take_both(task, futures, result);
    return err != QUERN_OK ? err : taken;
}

static enum quern_err submit_range(struct quern_task *task, uint64_t first, uint64_t last, uint64_t grain,
                                   struct quern_future **future_out)
{
    struct quern_writer *args = quern_writer_new();
    quern_write_array(args, 3);
    quern_write_u64(args, first);
    quern_write_u64(args, last);
    quern_write_u64(args, grain);
    enum quern_err err = submit(task, "tree_sum", args, future_out);
    quern_writer_free(args);
    return err;
}

/* The sum of first..last: a range of more than `grain` numbers is halved, and each half is a task. */
static enum quern_err run_tree_sum(struct quern_task *task, struct quern_reader *args, struct quern_writer *result)
{
    uint64_t first;
    uint64_t last;
    uint64_t grain;
    struct quern_future *futures[2] = {NULL, NULL};
    if (quern_read_u64(args, &first) != QUERN_OK || quern_read_u64(args, &last) != QUERN_OK ||
        quern_read_u64(args, &grain) != QUERN_OK || first > last || last > UINT32_MAX || grain < 1) {
        return quern_task_fail_args(task, args, "tree_sum takes [first, last, grain], first <= last < 2^32, grain > 0");
    }
    if (last - first < grain) {
        quern_write_u64(result, (first + last) * (last - first + 1) / 2);
        return QUERN_OK;
    }
    uint64_t middle = first + (last - first) / 2;
    enum quern_err err = client_begin(task);
    err = err != QUERN_OK ? err : submit_range(task, first, middle, grain, &futures[0]);
    if (err != QUERN_OK) {
        return err;
    }
    err = submit_range(task, middle + 1, last, grain, &futures[1]);
    enum quern_err taken = take_both(task, futures, result);
    return err != QUERN_OK ? err : taken;
}

static const struct quern_function functions[] = {
    {"fib_nested", run_fib_nested},
    {"tree_sum", run_tree_sum},
    {NULL, NULL},
};

QUERN_MODULE(.functions = functions)

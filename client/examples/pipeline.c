/*
 * pipeline: three stages (make a number, square it, describe it), each a task, with never more than WIDTH items under
 * way. A set gives what completes, whatever stage it is in; each completion submits the next stage of its item. So the
 * bound holds over the whole pipeline and no stage waits for another one to end. How many were under way is counted.
 */
#include "example.h"

#define ITEMS 40
#define WIDTH 4
#define STAGES 3

static enum quern_err make(struct quern_task *task, struct quern_reader *args, struct quern_writer *result)
{
    int64_t x;

    if (quern_read_i64(args, &x) != QUERN_OK) {
        return quern_task_fail_args(task, args, "make takes one integer");
    }
    quern_write_i64(result, x + 1);
    return QUERN_OK;
}

static enum quern_err square(struct quern_task *task, struct quern_reader *args, struct quern_writer *result)
{
    int64_t x;

    if (quern_read_i64(args, &x) != QUERN_OK) {
        return quern_task_fail_args(task, args, "square takes one integer");
    }
    quern_write_i64(result, x * x);
    return QUERN_OK;
}

static enum quern_err digit_sum(struct quern_task *task, struct quern_reader *args, struct quern_writer *result)
{
    int64_t x;
    int64_t sum = 0;

    if (quern_read_i64(args, &x) != QUERN_OK) {
        return quern_task_fail_args(task, args, "digit_sum takes one integer");
    }
    for (; x > 0; x /= 10) {
        sum += x % 10;
    }
    quern_write_i64(result, sum);
    return QUERN_OK;
}

static const struct quern_function functions[] = {
    {"make", make}, {"square", square}, {"digit_sum", digit_sum}, {NULL, NULL}};
static const struct quern_module module = {.size = sizeof module, .functions = functions};

static const char *const stages[STAGES] = {"make", "square", "digit_sum"};

/* The items under way: which stage of each. */
static struct {
    struct quern_future *future;
    int stage;
} items[WIDTH];

/* Tasks under way now, and the most there ever were: of each stage, and behind them of all. */
static int now[STAGES + 1];
static int most[STAGES + 1];

static void count(int what, int change)
{
    now[what] += change;
    most[what] = now[what] > most[what] ? now[what] : most[what];
}

static int item_of(const struct quern_future *future)
{
    int i = 0;

    while (items[i].future != future) {
        i++;
    }
    return i;
}

static void enter(struct quern_client *client, struct quern_set *set, int i, int stage, int64_t x)
{
    items[i].stage = stage;
    items[i].future = submit_i64(client, stages[stage], x);
    must(quern_set_add(set, items[i].future));
    count(stage, 1);
    count(STAGES, 1);
}

static void leave(int i)
{
    count(items[i].stage, -1);
    count(STAGES, -1);
}

int main(int argc, char **argv)
{
    quern_pool_main(argc, argv, &module);

    struct quern_pool *pool = pool_of(2);
    struct quern_client *client = quern_pool_client(pool);
    struct quern_future *future;
    struct quern_set *set;
    int64_t total = 0;
    int entered = 0;
    int finished = 0;
    enum quern_err err;

    must(quern_as_completed(NULL, 0, QUERN_FOREVER, &set));
    while (entered < WIDTH) {
        enter(client, set, entered, 0, entered);
        entered++;
    }
    while ((err = quern_set_next(set, QUERN_FOREVER, &future)) == QUERN_OK) {
        int i = item_of(future);
        int64_t value = result_i64(future);

        quern_future_release(&future);
        leave(i);
        if (items[i].stage < STAGES - 1) {
            enter(client, set, i, items[i].stage + 1, value);
            continue;
        }
        total += value;
        finished++;
        if (entered < ITEMS) { /* one out, one in */
            enter(client, set, i, 0, entered++);
        }
    }
    must_be_end(err);
    quern_set_close(&set);
    printf("%d items went through; the digits of all squares sum to %" PRId64 "\n", finished, total);
    printf("under way at once: at most %d", most[STAGES]);
    for (int stage = 0; stage < STAGES; stage++) {
        printf("; %s %d", stages[stage], most[stage]);
    }
    printf("\n");
    must(quern_pool_close(&pool, 0));
    return 0;
}

/*
 * quern's side of the comparison with a process pool: the same four things as pool.py does with Python's, by the calls
 * that a program would use. Prints one line of JSON. Start at main; the figures are put side by side by
 * tests/bench/run.
 *
 *     bench_pool one|submit|map|open [--count N] [--slots N] [--database FILE] [--window N]
 */
#include <getopt.h>
#include <inttypes.h>
#include <quern/client.h>
#include <quern/pool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define COUNT_DEFAULT 1000
#define COUNT_MAX 100000000
#define SLOTS_DEFAULT 2
#define WARM_UP_COUNT 100
#define PATIENCE_MS 60000 /* nothing for so long: something is broken */

static void must(enum quern_err err, const char *what)
{
    if (err != QUERN_OK) {
        fprintf(stderr, "bench_pool: %s: %s: %s\n", what, quern_err_word(err), quern_last_error());
        exit(1);
    }
}

static void must_be(bool fact, const char *what)
{
    if (!fact) {
        fprintf(stderr, "bench_pool: not so: %s\n", what);
        exit(1);
    }
}

static int64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* ---- the functions that slots run ---- */

static enum quern_err noop(struct quern_task *task, struct quern_reader *args, struct quern_writer *result)
{
    (void)task;
    (void)args;
    quern_write_nil(result);
    return QUERN_OK;
}

static enum quern_err square(struct quern_task *task, struct quern_reader *args, struct quern_writer *result)
{
    uint64_t x;
    if (quern_read_u64(args, &x) != QUERN_OK) {
        return quern_task_fail_args(task, args, "square takes one integer");
    }
    quern_write_u64(result, x * x);
    return QUERN_OK;
}

static const struct quern_function functions[] = {{"noop", noop}, {"square", square}, {NULL, NULL}};
static const struct quern_module module = {.size = sizeof module, .functions = functions};

/* ---- one at a time: submit, wait for the result ---- */

static void one_task(struct quern_client *client)
{
    struct quern_call call = QUERN_CALL_INIT;
    struct quern_future *future = NULL;
    struct quern_outcome *outcome = NULL;
    call.function = "noop";
    must(quern_submit(client, &call, &future, NULL), "submit");
    must(quern_future_result(future, PATIENCE_MS, &outcome), "result");
    quern_outcome_release(&outcome);
    quern_future_release(&future);
}

static int time_compare(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a;
    int64_t y = *(const int64_t *)b;
    return x < y ? -1 : x > y;
}

/* The smallest time that `percent` of all do not exceed, in microseconds. */
static double percentile_us(const int64_t *sorted_ns, size_t count, size_t percent)
{
    size_t rank = (count * percent + 99) / 100;
    return (double)sorted_ns[rank > 0 ? rank - 1 : 0] / 1000.0;
}

static void bench_one(struct quern_client *client, size_t count)
{
    int64_t *times_ns = calloc(count, sizeof *times_ns);
    must_be(times_ns != NULL, "memory");
    for (int i = 0; i < WARM_UP_COUNT; i++) {
        one_task(client);
    }
    for (size_t i = 0; i < count; i++) {
        int64_t begun_ns = now_ns();
        one_task(client);
        times_ns[i] = now_ns() - begun_ns;
    }
    qsort(times_ns, count, sizeof *times_ns, time_compare);
    printf("\"p50_us\":%.1f,\"p90_us\":%.1f,\"p99_us\":%.1f,", percentile_us(times_ns, count, 50),
           percentile_us(times_ns, count, 90), percentile_us(times_ns, count, 99));
    free(times_ns);
}

/* ---- submit all, take them as they complete ---- */

static void bench_submit(struct quern_client *client, size_t count)
{
    struct quern_future **futures = calloc(count, sizeof(struct quern_future *));
    struct quern_call call = QUERN_CALL_INIT;
    struct quern_set *set = NULL;
    struct quern_future *future = NULL;
    size_t done = 0;
    must_be(futures != NULL, "memory");
    call.function = "noop";
    int64_t begun_ns = now_ns();
    for (size_t i = 0; i < count; i++) {
        must(quern_submit(client, &call, &futures[i], NULL), "submit");
    }
    must(quern_as_completed(futures, count, QUERN_FOREVER, &set), "as_completed");
    while (quern_set_next(set, PATIENCE_MS, &future) == QUERN_OK) {
        struct quern_outcome *outcome = NULL;
        must(quern_future_result(future, 0, &outcome), "result");
        quern_outcome_release(&outcome);
        done++;
    }
    double seconds = (double)(now_ns() - begun_ns) / 1e9;
    must_be(done == count, "every future was given");
    quern_set_close(&set);
    for (size_t i = 0; i < count; i++) {
        quern_future_release(&futures[i]);
    }
    free(futures);
    printf("\"seconds\":%.6f,\"per_second\":%.1f,", seconds, (double)count / seconds);
}

/* ---- map of x * x ---- */

static size_t window_count; /* 0: the default */

static bool is_square(const struct quern_outcome *outcome, uint64_t x)
{
    struct quern_reader reader;
    uint64_t value = 0;
    quern_reader_init(&reader, outcome->result, outcome->result_size);
    return outcome->state == QUERN_STATE_DONE && quern_read_u64(&reader, &value) == QUERN_OK && value == x * x;
}

struct numbers {
    uint64_t next;
    uint64_t count;
};

static enum quern_err next_number(void *context, struct quern_writer *args)
{
    struct numbers *numbers = context;
    if (numbers->next == numbers->count) {
        return QUERN_END;
    }
    quern_write_array(args, 1);
    quern_write_u64(args, numbers->next++);
    return QUERN_OK;
}

/* In order of input, as Python's. */
static void bench_map(struct quern_client *client, size_t count)
{
    struct quern_map_options options = QUERN_MAP_OPTIONS_INIT;
    if (window_count > 0) {
        options.window_count = window_count;
    }
    struct numbers numbers = {.count = count};
    struct quern_map *map = NULL;
    struct quern_map_item item;
    uint64_t given = 0;
    options.call.function = "square";
    int64_t begun_ns = now_ns();
    must(quern_map_open(client, &options, next_number, &numbers, &map), "map");
    while (quern_map_next(map, PATIENCE_MS, &item) == QUERN_OK) {
        must_be(item.index == given++ && is_square(item.outcome, item.index), "the square of each number, in order");
        quern_outcome_release(&item.outcome);
    }
    double seconds = (double)(now_ns() - begun_ns) / 1e9;
    must_be(given == count, "every item was given");
    quern_map_close(&map);
    printf("\"seconds\":%.6f,\"per_second\":%.1f,", seconds, (double)count / seconds);
}

/* The most resident memory of this process so far. Not getrusage: that also counts what the process before exec had. */
static long rss_max_kib(void)
{
    char line[256];
    long kib = 0;
    FILE *file = fopen("/proc/self/status", "re");
    must_be(file != NULL, "/proc/self/status");
    while (kib == 0 && fgets(line, sizeof line, file) != NULL) {
        kib = strncmp(line, "VmHWM:", 6) == 0 ? strtol(line + 6, NULL, 10) : 0;
    }
    fclose(file);
    return kib;
}

/* ---- all of it ---- */

static void bench_open(struct quern_client *client, size_t count)
{
    (void)client;
    (void)count;
}

static const struct {
    const char *name;
    void (*run)(struct quern_client *client, size_t count);
} benches[] = {{"one", bench_one}, {"submit", bench_submit}, {"map", bench_map}, {"open", bench_open}};

static int usage(void)
{
    fprintf(stderr,
            "usage: bench_pool one|submit|map|open [--count 1..%d] [--slots N] [--database FILE] [--window N]\n",
            COUNT_MAX);
    return 2;
}

static void bench(size_t which, const struct quern_pool_options *options, size_t count)
{
    struct quern_pool *pool = NULL;
    int64_t begun_ns = now_ns();
    must(quern_pool_open(options, &pool), "open");
    struct quern_client *client = quern_pool_client(pool);
    one_task(client);
    printf("{\"what\":\"%s\",\"count\":%zu,\"open_ms\":%.3f,", benches[which].name, count,
           (double)(now_ns() - begun_ns) / 1e6);
    benches[which].run(client, count);
    begun_ns = now_ns();
    must(quern_pool_close(&pool, 0), "close");
    printf("\"close_ms\":%.3f,\"rss_max_kib\":%ld}\n", (double)(now_ns() - begun_ns) / 1e6, rss_max_kib());
}

int main(int argc, char **argv)
{
    static const struct option words[] = {{"count", required_argument, NULL, 'n'},
                                          {"slots", required_argument, NULL, 's'},
                                          {"database", required_argument, NULL, 'd'},
                                          {"window", required_argument, NULL, 'w'},
                                          {NULL, 0, NULL, 0}};
    struct quern_pool_options options = QUERN_POOL_OPTIONS_INIT;
    long long count = COUNT_DEFAULT;
    quern_pool_main(argc, argv, &module);
    options.slots = SLOTS_DEFAULT;
    for (int word; (word = getopt_long(argc, argv, "", words, NULL)) != -1;) {
        count = word == 'n' ? strtoll(optarg, NULL, 10) : count;
        options.slots = word == 's' ? (unsigned)strtoul(optarg, NULL, 10) : options.slots;
        options.database = word == 'd' ? optarg : options.database;
        window_count = word == 'w' ? strtoul(optarg, NULL, 10) : window_count;
        if (word == '?' || count < 1 || count > COUNT_MAX) {
            return usage();
        }
    }
    for (size_t i = 0; optind + 1 == argc && i < sizeof benches / sizeof *benches; i++) {
        if (strcmp(argv[optind], benches[i].name) == 0) {
            bench(i, &options, (size_t)count);
            return 0;
        }
    }
    return usage();
}

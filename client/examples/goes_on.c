/*
 * goes_on: a program that may be killed at any time and goes on when it is started again: goes_on DIRECTORY
 *
 * 200 tasks in the session "nightly" on a database in DIRECTORY; each result becomes a line of DIRECTORY/results. Each
 * submit has an ordinal, so a second run knows which tasks are accepted already and submits only the others. A result
 * that was written but not yet acknowledged when the program died comes once more: it is known by its number.
 */
#include "example.h"

#include <time.h>

#define COUNT 200

static enum quern_err square(struct quern_task *task, struct quern_reader *args, struct quern_writer *result)
{
    int64_t x;

    if (quern_read_i64(args, &x) != QUERN_OK) {
        return quern_task_fail_args(task, args, "square takes one integer");
    }
    nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL); /* as if it were work: time to be killed in */
    quern_write_i64(result, x * x);
    return QUERN_OK;
}

static const struct quern_function functions[] = {{"square", square}, {NULL, NULL}};
static const struct quern_module module = {.size = sizeof module, .functions = functions};

static struct quern_pool *pool_in(const char *directory)
{
    struct quern_pool_options options = QUERN_POOL_OPTIONS_INIT;
    struct quern_pool *pool;
    char database[4096];

    snprintf(database, sizeof database, "%s/goes_on.db", directory);
    options.slots = 2;
    options.database = database;
    options.session = "nightly";
    must(quern_pool_open(&options, &pool));
    return pool;
}

/* The file of results; is_there says which of them former runs have written. */
static FILE *results_open(const char *directory, bool is_there[COUNT + 1])
{
    char path[4096];
    uint64_t ordinal;
    int64_t value;

    snprintf(path, sizeof path, "%s/results", directory);
    FILE *file = fopen(path, "a+");
    if (file == NULL) {
        perror(path);
        exit(1);
    }
    while (fscanf(file, "%" SCNu64 " %" SCNd64, &ordinal, &value) == 2 && ordinal <= COUNT) {
        is_there[ordinal] = true;
    }
    return file;
}

/* What no former run has submitted. */
static void submit_rest(struct quern_client *client, uint64_t ordinal_high)
{
    for (uint64_t x = ordinal_high + 1; x <= COUNT; x++) {
        const unsigned char args[] = {0x91, 0xcc, (unsigned char)x}; /* [x] */
        struct quern_call call = QUERN_CALL_INIT;

        call.function = "square";
        call.args = args;
        call.args_size = sizeof args;
        call.ordinal = x;
        must(quern_submit(client, &call, NULL, NULL)); /* no future: results are taken with quern_next */
    }
}

int main(int argc, char **argv)
{
    quern_pool_main(argc, argv, &module);

    if (argc != 2) {
        fprintf(stderr, "usage: goes_on DIRECTORY (for its database and its results)\n");
        return 2;
    }
    struct quern_pool *pool = pool_in(argv[1]);
    struct quern_client *client = quern_pool_client(pool);
    struct quern_session_info info = QUERN_SESSION_INFO_INIT;
    struct quern_outcome *outcome;
    bool is_there[COUNT + 1] = {false};
    int written = 0;
    int again = 0;
    enum quern_err err;

    must(quern_session_info(client, &info));
    printf("accepted by former runs: %" PRIu64 "\n", info.ordinal_high);
    fflush(stdout);
    FILE *results = results_open(argv[1], is_there);
    submit_rest(client, info.ordinal_high);
    while ((err = quern_next(client, QUERN_FOREVER, &outcome)) == QUERN_OK) {
        if (is_there[outcome->ordinal]) {
            again++;
        } else {
            fprintf(results, "%" PRIu64 " %" PRId64 "\n", outcome->ordinal, outcome_i64(outcome));
            fflush(results);
            written++;
        }
        quern_outcome_release(&outcome); /* acknowledged: after it was written */
    }
    must_be_end(err);
    fclose(results);
    printf("written by this run: %d; had come before: %d\n", written, again);
    must(quern_pool_close(&pool, 0));
    return 0;
}

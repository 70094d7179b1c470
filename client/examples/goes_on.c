/*
 * goes_on: a program that is killed in the middle and goes on. It runs itself twice on one database: the first run
 * submits 200 tasks into the session "nightly", takes some results and is killed with SIGKILL, together with its pool;
 * the second opens the same session and takes what is left. Nothing is lost; only what had been taken but was not yet
 * acknowledged can come twice, which the tally below takes into account as a user's program would: by the task's
 * number.
 */
#include "example.h"

#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define COUNT 200
#define BEFORE_THE_KILL 50

static enum quern_err square(struct quern_task *task, struct quern_reader *args, struct quern_writer *result)
{
    int64_t x;

    if (quern_read_i64(args, &x) != QUERN_OK) {
        return quern_task_fail_args(task, args, "square takes one integer");
    }
    quern_write_array(result, 2);
    quern_write_i64(result, x);
    quern_write_i64(result, x * x);
    return QUERN_OK;
}

static const struct quern_function functions[] = {{"square", square}, {NULL, NULL}};
static const struct quern_module module = {.size = sizeof module, .functions = functions};

static struct quern_pool *pool_on(const char *database)
{
    struct quern_pool_options options = QUERN_POOL_OPTIONS_INIT;
    struct quern_pool *pool;

    options.slots = 2;
    options.database = database;
    options.session = "nightly";
    must(quern_pool_open(&options, &pool));
    return pool;
}

/* Marks in seen what the outcome is about, and checks it. */
static void tally(const struct quern_outcome *outcome, bool seen[COUNT])
{
    struct quern_reader reader;
    int64_t x;
    int64_t y;

    quern_reader_init(&reader, outcome->result, outcome->result_size);
    quern_read_array(&reader, NULL);
    quern_read_i64(&reader, &x);
    must(quern_read_i64(&reader, &y));
    if (x < 0 || x >= COUNT || y != x * x) {
        fprintf(stderr, "a wrong result\n");
        exit(1);
    }
    seen[x] = true;
}

static void take(struct quern_client *client, int count, bool seen[COUNT])
{
    struct quern_outcome *outcome;

    for (int i = 0; i < count && quern_next(client, QUERN_FOREVER, &outcome) == QUERN_OK; i++) {
        tally(outcome, seen);
        quern_outcome_release(&outcome);
    }
}

/* What the first run saw goes to the second through a pipe, as a user's program would write it to a file. */
static void first_run(const char *database, int out)
{
    struct quern_pool *pool = pool_on(database);
    struct quern_client *client = quern_pool_client(pool);
    bool seen[COUNT] = {false};

    for (int64_t x = 0; x < COUNT; x++) {
        struct quern_future *future = submit_i64(client, "square", x);
        quern_future_release(&future); /* results are taken with quern_next */
    }
    must(quern_flush(client, QUERN_FOREVER)); /* all on disk */
    take(client, BEFORE_THE_KILL, seen);
    if (write(out, seen, sizeof seen) == sizeof seen) {
        raise(SIGKILL);
    }
}

static void second_run(const char *database, bool seen[COUNT])
{
    struct quern_pool *pool = pool_on(database);
    struct quern_session_info info = QUERN_SESSION_INFO_INIT;

    must(quern_session_info(quern_pool_client(pool), &info));
    printf("the session is there: %s\n", info.live + info.untaken >= COUNT - BEFORE_THE_KILL ? "yes" : "no");
    take(quern_pool_client(pool), 2 * COUNT, seen); /* until QUERN_END */
    must(quern_pool_close(&pool, 0));
}

int main(int argc, char **argv)
{
    quern_pool_main(argc, argv, &module);

    char database[256];
    bool seen[COUNT] = {false};
    int ends[2];
    int count = 0;

    if (argc != 2 || pipe(ends) != 0) {
        fprintf(stderr, "usage: goes_on DIRECTORY (for its database)\n");
        return 2;
    }
    snprintf(database, sizeof database, "%s/goes_on.db", argv[1]);
    pid_t child = fork(); /* before any client is there */
    if (child == 0) {
        first_run(database, ends[1]);
        _exit(1);
    }
    int status = 0;
    waitpid(child, &status, 0);
    printf("the first run was killed: %s\n", WIFSIGNALED(status) ? "yes" : "no");
    if (read(ends[0], seen, sizeof seen) != sizeof seen) {
        return 1;
    }
    second_run(database, seen);
    for (int x = 0; x < COUNT; x++) {
        count += seen[x];
    }
    printf("%d of %d results, in two runs\n", count, COUNT);
    return count != COUNT;
}

/*
 * heir.c: a client for stories of futures that outlive their program, and of groups. Must not know: how they are kept.
 * Start reading at main.
 *
 *     heir leave SESSION COUNT   submits COUNT calls of `square`, says `left`, holds the session until it is killed
 *     heir part SESSION FLAGS    submits two calls of `square` and closes with these flags of quern_client_close
 *     heir take SESSION COUNT    futures for what was left; takes COUNT as they complete, says how many there were and
 *                                the sum of the squares, and leaves the rest
 *     heir group SESSION         a group that fails fast, and stops what runs: says what it reports
 *     heir kind SESSION KIND     durable or volatile: what the session and a task of it say of its durability
 *     heir tell SESSION NAME...  a call of each function at once: says all that its outcome tells of a failure, bytes
 *                                that cannot be printed as \\xHH
 *     heir cancel SESSION        one task that runs: says what is known of it and what becomes of cancels
 */
#include <quern/client.h>
#include <quern/value.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int fail(const char *what)
{
    (void)fprintf(stderr, "heir: %s: %s\n", what, quern_last_error());
    return EXIT_FAILURE;
}

static void say(const char *text)
{
    (void)puts(text);
    (void)fflush(stdout);
}

static enum quern_err submit(struct quern_client *client, struct quern_group *group, const char *function,
                             int64_t number, struct quern_future **future_out)
{
    struct quern_call call = QUERN_CALL_INIT;
    struct quern_writer *writer = quern_writer_new();
    const void *args = NULL;

    (void)quern_write_array(writer, 1);
    (void)quern_write_i64(writer, number);
    quern_writer_bytes(writer, &args, &call.args_size);
    call.args = args;
    call.function = function;
    enum quern_err err =
        group != NULL ? quern_group_submit(group, &call, future_out) : quern_submit(client, &call, future_out, NULL);
    quern_writer_free(writer);
    return err;
}

static int leave(struct quern_client *client, long count)
{
    char byte = 0;

    for (long i = 1; i <= count; i++) {
        if (submit(client, NULL, "square", i, NULL) != QUERN_OK) {
            return fail("submit");
        }
    }
    if (quern_flush(client, QUERN_FOREVER) != QUERN_OK) {
        return fail("flush");
    }
    say("left");
    return read(STDIN_FILENO, &byte, 1) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

static int part(struct quern_client **client, unsigned flags)
{
    if (submit(*client, NULL, "square", 7, NULL) != QUERN_OK || submit(*client, NULL, "square", 8, NULL) != QUERN_OK) {
        return fail("submit");
    }
    return quern_client_close(client, flags) == QUERN_OK ? EXIT_SUCCESS : fail("close");
}

static int order(const void *a, const void *b)
{
    uint64_t left = *(const uint64_t *)a;
    uint64_t right = *(const uint64_t *)b;

    return (left > right) - (left < right);
}

/* One that is done: its number is added to the sum, and it leaves the array, which is in order of ids. */
static int take_one(struct quern_set *set, struct quern_future **futures, const uint64_t *ids, size_t count,
                    int64_t *sum)
{
    struct quern_future *future = NULL;
    struct quern_outcome *outcome = NULL;
    struct quern_reader reader;
    int64_t number = 0;

    if (quern_set_next(set, QUERN_FOREVER, &future) != QUERN_OK) {
        return fail("next");
    }
    if (quern_future_result(future, 0, &outcome) != QUERN_OK) {
        return fail("result");
    }
    quern_reader_init(&reader, outcome->result, outcome->result_size);
    if (quern_read_i64(&reader, &number) == QUERN_OK) {
        *sum += number;
    }
    const uint64_t *at = bsearch(&outcome->id, ids, count, sizeof(*ids), order);
    quern_outcome_release(&outcome);
    quern_future_release(&futures[at - ids]);
    return EXIT_SUCCESS;
}

static int take(struct quern_client *client, long count)
{
    struct quern_future **futures = NULL;
    struct quern_set *set = NULL;
    size_t found = 0;
    int64_t sum = 0;
    int status = EXIT_SUCCESS;

    if (quern_session_futures(client, QUERN_FOREVER, &futures, &found) != QUERN_OK) {
        return fail("session_futures");
    }
    uint64_t *ids = calloc(found + 1, sizeof(*ids));
    for (size_t i = 0; i < found; i++) {
        ids[i] = quern_future_id(futures[i]);
    }
    if (quern_as_completed(futures, found, QUERN_FOREVER, &set) != QUERN_OK) {
        return fail("as_completed");
    }
    for (long i = 0; i < count && status == EXIT_SUCCESS; i++) {
        status = take_one(set, futures, ids, found, &sum);
    }
    quern_set_close(&set);
    for (size_t i = 0; i < found; i++) {
        quern_future_release(&futures[i]);
    }
    free(futures);
    free(ids);
    (void)printf("found %zu, sum %" PRId64 "\n", found, sum);
    return status;
}

static int run_group(struct quern_client *client)
{
    struct quern_group *group = NULL;
    struct quern_group *within = NULL;
    struct quern_future *running = NULL;
    struct quern_outcome *failure = NULL;
    struct quern_task_info info = QUERN_TASK_INFO_INIT;

    if (quern_group_open(client, NULL, QUERN_GROUP_FAIL_FAST | QUERN_GROUP_FORCE, &group) != QUERN_OK ||
        quern_group_open(client, group, 0, &within) != QUERN_OK ||
        submit(client, within, "sleep", 3600, &running) != QUERN_OK) {
        return fail("group");
    }
    while (info.state != QUERN_STATE_RUNNING) {
        if (quern_future_info(running, QUERN_FOREVER, &info) != QUERN_OK) {
            return fail("info");
        }
    }
    for (int i = 0; i < 100; i++) {
        enum quern_err err = submit(client, group, i == 10 ? "fail" : "square", i, NULL);
        if (err != QUERN_OK && err != QUERN_CANCELLED) {
            return fail("submit");
        }
    }
    enum quern_err err = quern_group_close(&group, &failure); /* and what is within */
    (void)printf("%s: %s\n", quern_err_word(err), failure == NULL ? "" : quern_cause_word(failure->cause));
    quern_outcome_release(&failure);
    return EXIT_SUCCESS;
}

static int run_cancel(struct quern_client *client)
{
    struct quern_future *future = NULL;
    struct quern_outcome *outcome = NULL;
    struct quern_task_info info = QUERN_TASK_INFO_INIT;

    if (submit(client, NULL, "sleep", 3600, &future) != QUERN_OK) {
        return fail("submit");
    }
    while (info.state != QUERN_STATE_RUNNING) {
        if (quern_future_info(future, QUERN_FOREVER, &info) != QUERN_OK) {
            return fail("info");
        }
    }
    (void)printf("attempt %u on %s\n", info.attempt, strchr(info.worker, ':') == NULL ? "nothing" : "a worker");
    say(quern_err_word(quern_future_cancel(future, false, QUERN_FOREVER)));
    say(quern_err_word(quern_future_cancel(future, true, QUERN_FOREVER)));
    say(quern_err_word(quern_future_result(future, QUERN_FOREVER, &outcome)));
    quern_outcome_release(&outcome);
    if (quern_future_info(future, QUERN_FOREVER, &info) != QUERN_OK) {
        return fail("info");
    }
    say(quern_state_word((enum quern_state)info.state));
    quern_future_release(&future);
    return EXIT_SUCCESS;
}

static int say_kind(struct quern_client *client)
{
    struct quern_session_info session = QUERN_SESSION_INFO_INIT;
    struct quern_task_info task = QUERN_TASK_INFO_INIT;
    struct quern_future *future = NULL;

    if (quern_session_info(client, &session) != QUERN_OK || submit(client, NULL, "square", 7, &future) != QUERN_OK ||
        quern_future_info(future, QUERN_FOREVER, &task) != QUERN_OK) {
        return fail("kind");
    }
    (void)printf("%s %s\n", session.is_volatile ? "volatile" : "durable", task.is_volatile ? "volatile" : "durable");
    quern_future_release(&future);
    return EXIT_SUCCESS;
}

static void put_bytes(const char *what, const void *p, size_t n)
{
    const unsigned char *bytes = p;

    (void)printf("|%s=", what);
    for (size_t i = 0; i < n; i++) {
        (void)printf(bytes[i] >= ' ' && bytes[i] < 0x7f ? "%c" : "\\x%02x", bytes[i]);
    }
}

static int tell_one(const char *function, struct quern_future **future)
{
    struct quern_outcome *outcome = NULL;

    if (quern_future_wait(*future, QUERN_FOREVER, &outcome) != QUERN_OK) {
        return fail("wait");
    }
    (void)printf("%s|%s|%s", function, quern_state_word(outcome->state), quern_cause_word(outcome->cause));
    put_bytes("kind", outcome->kind, strlen(outcome->kind));
    put_bytes("message", outcome->message, strlen(outcome->message));
    put_bytes("detail", outcome->detail, outcome->detail_size);
    put_bytes("result", outcome->result, outcome->result_size);
    say("");
    quern_outcome_release(&outcome);
    quern_future_release(future);
    return EXIT_SUCCESS;
}

static int tell(struct quern_client *client, char *const names[], size_t count)
{
    struct quern_future **futures = calloc(count, sizeof(*futures));
    int status = EXIT_SUCCESS;

    for (size_t i = 0; i < count && status == EXIT_SUCCESS; i++) {
        status = submit(client, NULL, names[i], 1, &futures[i]) == QUERN_OK ? EXIT_SUCCESS : fail("submit");
    }
    for (size_t i = 0; i < count && status == EXIT_SUCCESS; i++) {
        status = tell_one(names[i], &futures[i]);
    }
    free(futures);
    return status;
}

int main(int argc, char **argv)
{
    struct quern_client_options options = QUERN_CLIENT_OPTIONS_INIT;
    struct quern_client *client = NULL;
    int status = 2;

    if (argc < 3) {
        return status;
    }
    options.session = argv[2];
    options.is_volatile = argc == 4 && strcmp(argv[3], "volatile") == 0;
    if (quern_client_open(&options, &client) != QUERN_OK) {
        return fail("open");
    }
    if (strcmp(argv[1], "leave") == 0 && argc == 4) {
        status = leave(client, strtol(argv[3], NULL, 10));
    } else if (strcmp(argv[1], "part") == 0 && argc == 4) {
        return part(&client, (unsigned)strtoul(argv[3], NULL, 10));
    } else if (strcmp(argv[1], "take") == 0 && argc == 4) {
        status = take(client, strtol(argv[3], NULL, 10));
    } else if (strcmp(argv[1], "group") == 0) {
        status = run_group(client);
    } else if (strcmp(argv[1], "kind") == 0) {
        status = say_kind(client);
    } else if (strcmp(argv[1], "tell") == 0 && argc > 3) {
        status = tell(client, argv + 3, (size_t)argc - 3);
    } else if (strcmp(argv[1], "cancel") == 0) {
        status = run_cancel(client);
    }
    if (quern_client_close(&client, 0) != QUERN_OK && status == EXIT_SUCCESS) {
        status = fail("close");
    }
    return status;
}

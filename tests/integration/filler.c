/*
 * filler.c: a client for stories about bounds: it fills the broker until that refuses, and goes on when there is room.
 * Must not know: which bound it is. Start reading at fill.
 *
 *     filler SESSION live|held SIZE [volatile]
 *
 * Submits calls of `echo` with SIZE bytes, one after the other, each not to be tried again: says how many were taken
 * and what the next was refused for. `held`: of each it waits for the outcome, and keeps it. Then two that may wait:
 * says `waiting`. `held`: lets go of the outcomes when it reads a line. Says what has become of all of them.
 */
#include <quern/client.h>
#include <quern/value.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define COUNT_MAX 100u
#define WAITING_COUNT 2u
#define SIZE_MAX_HERE 4096u
#define LOOK_MS 300

struct filler {
    struct quern_client *client;
    struct quern_future *futures[COUNT_MAX + WAITING_COUNT];
    struct quern_outcome *held[COUNT_MAX];
    size_t size;
    size_t count;
};

static int fail(const char *what)
{
    (void)fprintf(stderr, "filler: %s: %s\n", what, quern_last_error());
    return EXIT_FAILURE;
}

static void say(const char *what, enum quern_err err)
{
    (void)printf("%s %s\n", what, quern_err_word(err));
    (void)fflush(stdout);
}

/* Bytes that no other call has. */
static void bytes_of(const struct filler *filler, size_t number, char bytes[SIZE_MAX_HERE])
{
    memset(bytes, '.', filler->size);
    (void)snprintf(bytes, SIZE_MAX_HERE, "%04zu", number);
}

static enum quern_err submit(struct filler *filler, size_t number, int wait_ms)
{
    struct quern_call call = QUERN_CALL_INIT;
    struct quern_writer *writer = quern_writer_new();
    char bytes[SIZE_MAX_HERE];

    bytes_of(filler, number, bytes);
    quern_write_array(writer, 1);
    quern_write_bin(writer, bytes, filler->size);
    quern_writer_bytes(writer, &call.args, &call.args_size);
    call.function = "echo";
    call.wait_ms = wait_ms;
    enum quern_err err = quern_submit(filler->client, &call, &filler->futures[number], NULL);
    quern_writer_free(writer);
    return err;
}

/* Until one is refused: its code. */
static enum quern_err fill_up(struct filler *filler, bool is_held)
{
    for (; filler->count < COUNT_MAX; filler->count++) {
        enum quern_err err = submit(filler, filler->count, 0);
        err = err != QUERN_OK ? err : quern_flush(filler->client, QUERN_FOREVER);
        if (err == QUERN_OK && is_held) {
            err = quern_future_result(filler->futures[filler->count], QUERN_FOREVER, &filler->held[filler->count]);
        }
        if (err != QUERN_OK) {
            return err;
        }
    }
    return QUERN_OK;
}

static bool is_right(const struct filler *filler, size_t number, const struct quern_outcome *outcome)
{
    struct quern_reader reader;
    char bytes[SIZE_MAX_HERE];
    const void *p = NULL;
    size_t n = 0;

    bytes_of(filler, number, bytes);
    quern_reader_init(&reader, outcome->result, outcome->result_size);
    return quern_read_bin(&reader, &p, &n) == QUERN_OK && n == filler->size && memcmp(p, bytes, n) == 0;
}

/* Waits for one, if that was not done before. False: it is not its own result. */
static bool take(struct filler *filler, size_t number)
{
    struct quern_outcome *outcome = NULL;
    bool is = quern_future_result(filler->futures[number], QUERN_FOREVER, &outcome) == QUERN_OK &&
              is_right(filler, number, outcome);
    quern_outcome_release(&outcome);
    quern_future_release(&filler->futures[number]);
    return is;
}

static size_t take_range(struct filler *filler, size_t first, size_t count)
{
    size_t right = 0;
    for (size_t i = first; i < first + count; i++) {
        right += take(filler, i);
    }
    return right;
}

static int fill(struct filler *filler, bool is_held)
{
    struct quern_outcome *refused = NULL;
    enum quern_err err = fill_up(filler, is_held);
    size_t full = filler->count;
    size_t taken = 0;
    char line[8];

    (void)printf("took %zu, then ", full);
    say("", err);
    say("the future of that says", quern_future_result(filler->futures[full], 0, &refused));
    quern_outcome_release(&refused);
    quern_future_release(&filler->futures[full]);
    for (size_t i = 0; i < WAITING_COUNT; i++) {
        if (submit(filler, full + i, QUERN_FOREVER) != QUERN_OK) {
            return fail("submit");
        }
    }
    say("waiting:", quern_flush(filler->client, LOOK_MS));
    if (is_held) {
        if (fgets(line, sizeof(line), stdin) == NULL) {
            return fail("no line");
        }
        for (size_t i = 0; i < full; i++) {
            quern_outcome_release(&filler->held[i]);
        }
        taken = take_range(filler, 0, full);
    }
    say("durable:", quern_flush(filler->client, QUERN_FOREVER));
    taken += take_range(filler, is_held ? full : 0, is_held ? WAITING_COUNT : full + WAITING_COUNT);
    (void)printf("%zu of %zu are right\n", taken, full + WAITING_COUNT);
    return EXIT_SUCCESS;
}

int main(int argc, char **argv)
{
    struct quern_client_options options = QUERN_CLIENT_OPTIONS_INIT;
    struct filler filler = {0};

    if (argc < 4) {
        return 2;
    }
    options.session = argv[1];
    options.is_volatile = argc > 4;
    filler.size = strtoul(argv[3], NULL, 10);
    if (filler.size < 5 || filler.size > SIZE_MAX_HERE) {
        return 2;
    }
    if (quern_client_open(&options, &filler.client) != QUERN_OK) {
        return fail("open");
    }
    int status = fill(&filler, strcmp(argv[2], "held") == 0);
    return quern_client_close(&filler.client, 0) == QUERN_OK ? status : fail("close");
}

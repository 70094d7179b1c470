/*
 * loser.c: a client for stories whose broker dies. In a volatile session it submits calls of `sleep`, two with futures
 * and three without, says `submitted`, and tells what becomes of them; then it submits `square` and tells the result.
 * loser [SESSION] Must not know: when the broker is killed. Start reading at main.
 */
#include <quern/client.h>
#include <quern/futures.h>

#include <stdio.h>
#include <stdlib.h>

#define FUTURE_COUNT 2u
#define OTHER_COUNT 3u

static int fail(const char *what)
{
    (void)fprintf(stderr, "loser: %s: %s\n", what, quern_last_error());
    return EXIT_FAILURE;
}

static void say(const char *what, const struct quern_outcome *outcome)
{
    (void)printf("%s %s %s completion %llu: %s\n", what, quern_state_word(outcome->state),
                 quern_cause_word(outcome->cause), (unsigned long long)outcome->completion, outcome->message);
    (void)fflush(stdout);
}

static enum quern_err submit(struct quern_client *client, const char *function, struct quern_future **future_out)
{
    struct quern_call call = QUERN_CALL_INIT;

    call.function = function;
    call.args = "\x91\x07";
    call.args_size = 2;
    return quern_submit(client, &call, future_out, NULL);
}

static int await(struct quern_future **future)
{
    struct quern_outcome *outcome = NULL;

    if (quern_future_wait(*future, QUERN_FOREVER, &outcome) != QUERN_OK) {
        return fail("wait");
    }
    say("future", outcome);
    quern_outcome_release(&outcome);
    quern_future_release(future);
    return EXIT_SUCCESS;
}

static int take_all(struct quern_client *client)
{
    struct quern_outcome *outcome = NULL;
    enum quern_err err = QUERN_OK;

    while ((err = quern_next(client, QUERN_FOREVER, &outcome)) == QUERN_OK) {
        say("next", outcome);
        quern_outcome_release(&outcome);
    }
    return err == QUERN_END ? EXIT_SUCCESS : fail("next");
}

static int lose(struct quern_client *client)
{
    struct quern_future *futures[FUTURE_COUNT];
    struct quern_future *last = NULL;
    int status = EXIT_SUCCESS;

    for (unsigned i = 0; i < FUTURE_COUNT + OTHER_COUNT; i++) {
        if (submit(client, "sleep", i < FUTURE_COUNT ? &futures[i] : NULL) != QUERN_OK) {
            return fail("submit");
        }
    }
    if (quern_flush(client, QUERN_FOREVER) != QUERN_OK) {
        return fail("flush");
    }
    (void)puts("submitted");
    (void)fflush(stdout);
    for (unsigned i = 0; i < FUTURE_COUNT && status == EXIT_SUCCESS; i++) {
        status = await(&futures[i]);
    }
    if (status == EXIT_SUCCESS) {
        status = take_all(client);
    }
    if (status == EXIT_SUCCESS && submit(client, "square", &last) != QUERN_OK) {
        return fail("submit");
    }
    return status == EXIT_SUCCESS ? await(&last) : status;
}

int main(int argc, char **argv)
{
    struct quern_client_options options = QUERN_CLIENT_OPTIONS_INIT;
    struct quern_client *client = NULL;
    int status = EXIT_FAILURE;

    options.is_volatile = true;
    options.session = argc > 1 ? argv[1] : NULL;
    if (quern_client_open(&options, &client) != QUERN_OK) {
        return fail("open");
    }
    status = lose(client);
    if (quern_client_close(&client, 0) != QUERN_OK) {
        return fail("close");
    }
    return status;
}

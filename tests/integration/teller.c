/*
 * teller.c: a client for stories that tells every field of an outcome, as a C program has it: one line each, NAME HEX,
 * the bytes of the value as hexadecimal. teller FUNCTION TEXT...: arguments are the texts (+N: a number); of
 * quern.command, the words of the command. TELLER_RETRY=grow: what takes more than 50 MiB is tried again with twice as
 * much; alone: with as much, and nothing beside it; else it runs at most once. Start reading at main.
 */
#include <quern/client.h>
#include <quern/value.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void must(enum quern_err err, const char *what)
{
    if (err != QUERN_OK) {
        (void)fprintf(stderr, "teller: %s: %s\n", what, quern_last_error());
        exit(EXIT_FAILURE);
    }
}

static void tell_bytes(const char *name, const void *p, size_t n)
{
    const unsigned char *byte = p;
    printf("%s ", name);
    for (size_t i = 0; i < n; i++) {
        printf("%02x", byte[i]);
    }
    printf("\n");
}

static void tell_text(const char *name, const char *text)
{
    tell_bytes(name, text, strlen(text));
}

static void tell_number(const char *name, uint64_t number)
{
    char text[24];
    (void)snprintf(text, sizeof text, "%" PRIu64, number);
    tell_text(name, text);
}

static void tell(const struct quern_outcome *outcome)
{
    char id[QUERN_ID_TEXT_SIZE];
    tell_text("id", quern_id_text(outcome->id, id));
    tell_text("cause", quern_cause_word(outcome->cause));
    tell_text("kind", outcome->kind);
    tell_text("message", outcome->message);
    tell_text("worker", outcome->worker);
    tell_number("attempt", outcome->attempt);
    tell_number("attempts", outcome->attempts);
    tell_number("signal", outcome->signal);
    tell_text("signal_name", outcome->signal_name);
    tell_number("exit_status", outcome->exit_status);
    tell_number("core_dumped", outcome->core_dumped);
    tell_number("run_us", outcome->run_us);
    tell_number("cpu_us", outcome->cpu_us);
    tell_number("peak_kib", outcome->peak_kib);
    tell_text("backtrace", outcome->backtrace);
    tell_bytes("stderr", outcome->stderr_text, outcome->stderr_size);
    tell_bytes("stdout", outcome->stdout_text, outcome->stdout_size);
    tell_bytes("result", outcome->result, outcome->result_size);
}

static void write_args(struct quern_writer *args, bool is_command, char **words, size_t count)
{
    quern_write_array(args, is_command ? 2 : count);
    if (is_command) {
        quern_write_array(args, count);
    }
    for (size_t i = 0; i < count; i++) {
        if (words[i][0] == '+') {
            quern_write_i64(args, strtoll(words[i], NULL, 10));
        } else {
            quern_write_text(args, words[i]);
        }
    }
    if (is_command) {
        quern_write_map(args, 0);
    }
}

static void set_retry(struct quern_call *call, const char *retry)
{
    call->at_most_once = retry == NULL;
    if (retry != NULL) {
        call->memory_bytes = (uint64_t)50 << 20;
        call->attempts = 5;
        call->backoff_ms = 1;
        call->memory_growth = strcmp(retry, "grow") == 0 ? 200 : 0;
        call->alone = strcmp(retry, "alone") == 0 ? QUERN_ALONE_RETRIED : QUERN_ALONE_NEVER;
    }
}

int main(int argc, char **argv)
{
    struct quern_call call = QUERN_CALL_INIT;
    struct quern_writer *args = quern_writer_new();
    struct quern_client *client = NULL;
    struct quern_future *future = NULL;
    struct quern_outcome *outcome = NULL;
    if (argc < 2 || args == NULL) {
        return 2;
    }
    call.function = argv[1];
    set_retry(&call, getenv("TELLER_RETRY"));
    write_args(args, strcmp(argv[1], "quern.command") == 0, argv + 2, (size_t)argc - 2);
    quern_writer_bytes(args, &call.args, &call.args_size);
    must(quern_client_open(NULL, &client), "open");
    must(quern_submit(client, &call, &future, NULL), "submit");
    must(quern_future_wait(future, QUERN_FOREVER, &outcome), "wait");
    tell(outcome);
    quern_outcome_release(&outcome);
    quern_future_release(&future);
    must(quern_client_close(&client, 0), "close");
    quern_writer_free(args);
    return 0;
}

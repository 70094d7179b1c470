/*
 * Owns `quern logs`: what a task wrote to stdout and stderr, as it was, or as it comes. Start at logs_main.
 *
 * Following is asking again and again, each time from where we are: how much of each stream was seen. Answers about
 * what runs begin there; those about what has ended begin at the beginning, and what was seen is stepped over.
 */
#include "client/cli/answer.h"
#include "client/cli/json.h"
#include "client/cli/out.h"
#include "client/cli/words.h"
#include "common/codec.h"
#include "common/messages.h"
#include "common/output.h"
#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Between two questions: soon again while something comes, seldom while nothing does. */
#define FOLLOW_MIN_MS 20
#define FOLLOW_MAX_MS 250

struct logs {
    const struct cli *cli;
    const char *word;
    uint64_t id;
    int64_t attempt; /* asked for, or followed; 0: the last */
    bool is_one;     /* no other than that */
    bool wants[OUTPUT_STREAM_COUNT];
    bool follows;
    bool was_seen;                       /* the attempt, in some answer: */
    uint64_t known[OUTPUT_STREAM_COUNT]; /* bytes of it that were seen */
    bool had_news;
    struct out out;
    struct out err;
};

static const char *stream_word(enum output_stream stream)
{
    return stream == OUTPUT_STDOUT ? "stdout" : "stderr";
}

/* ---- printing ---- */

/* A terminal is not to be moved by what a task wrote. */
static void put_shown(struct out *out, struct bytes bytes)
{
    for (size_t i = 0; i < bytes.n; i++) {
        uint8_t byte = bytes.p[i];
        if (out->is_terminal && ((byte < 0x20 && byte != '\t' && byte != '\n') || byte == 0x7f)) {
            buf_printf(&out->buf, "\\x%02x", byte);
        } else {
            buf_put_u8(&out->buf, byte);
        }
    }
}

static void put_json_piece(struct buf *to, const struct output_piece *piece)
{
    buf_printf(to, "\"stream\":\"%s\",", stream_word(piece->stream));
    if (piece->left_out > 0) {
        buf_printf(to, "\"left_out\":%" PRIu64, piece->left_out);
    } else {
        buf_printf(to, "\"text\":");
        json_put_text_or_bin(to, piece->bytes);
    }
}

/* With one stream alone that is what is printed; with both, each goes where it went. */
static void print_piece(struct logs *logs, const struct output_piece *piece)
{
    bool is_alone = !logs->wants[0] || !logs->wants[1];
    struct out *out = piece->stream == OUTPUT_STDOUT || is_alone ? &logs->out : &logs->err;
    if (!logs->wants[piece->stream - 1]) {
        return;
    }
    logs->had_news = true;
    if (logs->cli->json) {
        buf_printf(&logs->out.buf, "{\"attempt\":%" PRId64 ",", logs->attempt);
        put_json_piece(&logs->out.buf, piece);
        buf_put(&logs->out.buf, "}\n", 2);
    } else if (piece->left_out > 0) {
        (void)out_flush(&logs->out);
        (void)out_flush(&logs->err);
        say("%" PRIu64 " bytes of %s are left out here", piece->left_out, stream_word(piece->stream));
    } else {
        put_shown(out, piece->bytes);
    }
}

/* ---- pieces of an answer ---- */

struct pieces {
    struct output_reader reader;
    struct output_piece own[OUTPUT_STREAM_COUNT]; /* of a command's result, in place of the reader's */
    unsigned own_count;
    unsigned own_at;
};

/* A command that ended by itself has what it wrote in its result. */
static void pieces_open(struct pieces *pieces, struct bytes answer)
{
    struct bytes result = answer_bytes(answer, "result");
    *pieces = (struct pieces){0};
    (void)output_open(&pieces->reader, answer_bytes(answer, "output"));
    if (pieces->reader.left > 0 || result.n == 0 || !bytes_is(answer_bytes(answer, "function"), FUNCTION_COMMAND)) {
        return;
    }
    for (unsigned i = 0; i < OUTPUT_STREAM_COUNT; i++) {
        enum output_stream stream = (enum output_stream)(i + 1);
        struct bytes bytes = answer_bytes(result, stream_word(stream));
        if (bytes.n > 0) {
            pieces->own[pieces->own_count++] = (struct output_piece){.stream = stream, .bytes = bytes};
        }
    }
}

static bool pieces_next(struct pieces *pieces, struct output_piece *piece_out)
{
    if (pieces->own_at < pieces->own_count) {
        *piece_out = pieces->own[pieces->own_at++];
        return true;
    }
    return output_next(&pieces->reader, piece_out);
}

/* What of a piece that begins at `at` in its stream is new; nothing: false. */
static bool piece_trim(struct output_piece *piece, uint64_t at, uint64_t known)
{
    uint64_t size = piece->left_out + piece->bytes.n;
    uint64_t seen = known > at ? known - at : 0;
    if (seen >= size) {
        return false;
    }
    if (piece->left_out > 0) {
        piece->left_out -= seen;
    } else {
        piece->bytes = bytes_of(piece->bytes.p + seen, piece->bytes.n - (size_t)seen);
    }
    return true;
}

static void print_news(struct logs *logs, struct bytes answer)
{
    struct pieces pieces;
    struct output_piece piece;
    uint64_t at[OUTPUT_STREAM_COUNT] = {0};
    if (answer_flag(answer, "is_running")) {
        memcpy(at, logs->known, sizeof at);
    }
    for (pieces_open(&pieces, answer); pieces_next(&pieces, &piece);) {
        unsigned i = piece.stream - 1;
        uint64_t begin = at[i];
        at[i] += piece.left_out + piece.bytes.n;
        if (piece_trim(&piece, begin, logs->known[i])) {
            print_piece(logs, &piece);
            logs->known[i] = at[i];
        }
    }
}

/* ---- asking ---- */

static enum quern_err logs_ask(struct logs *logs, struct quern_client *client, struct bytes *answer_out)
{
    struct buf params = {0};
    void *p = NULL;
    size_t n = 0;
    put_map(&params, 4);
    put_text(&params, "id");
    put_u64(&params, logs->id);
    put_text(&params, "attempt");
    put_u64(&params, (uint64_t)logs->attempt);
    for (unsigned i = 0; i < OUTPUT_STREAM_COUNT; i++) {
        put_text(&params, stream_word((enum output_stream)(i + 1)));
        put_u64(&params, logs->known[i]);
    }
    enum quern_err err = quern_query(client, "logs", params.p, params.n, QUERN_FOREVER, &p, &n);
    *answer_out = bytes_of(p, n);
    buf_fini(&params);
    return err;
}

static bool is_final(struct bytes answer)
{
    struct bytes state = answer_bytes(answer, "state");
    return bytes_is(state, "done") || bytes_is(state, "failed") || bytes_is(state, "cancelled");
}

static bool attempt_is_over(struct bytes answer)
{
    return !answer_flag(answer, "is_running") && !answer_is_nil(answer, "ended");
}

/* ---- once ---- */

static void put_json(struct buf *to, struct bytes answer, struct logs *logs)
{
    static const char *const keys[] = {"id",     "state",      "cause",  "function", "attempt",
                                       "latest", "is_running", "worker", "ended",    "failed"};
    struct pieces pieces;
    struct output_piece piece;
    char separator = '{';
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++, separator = ',') {
        buf_printf(to, "%c\"%s\":", separator, keys[i]);
        if (json_from_msgpack(answer_field(answer, keys[i]), to) != QUERN_OK) {
            buf_put(to, "null", 4);
        }
    }
    buf_printf(to, ",\"output\":[");
    separator = 0;
    for (pieces_open(&pieces, answer); pieces_next(&pieces, &piece);) {
        if (logs->wants[piece.stream - 1]) {
            buf_printf(to, "%s{", separator != 0 ? "," : "");
            put_json_piece(to, &piece);
            buf_put_u8(to, '}');
            separator = ',';
        }
    }
    buf_printf(to, "]}\n");
}

/* Did this attempt ever run, as far as is known? */
static bool is_known(const struct logs *logs, struct bytes answer)
{
    return !logs->is_one || answer_flag(answer, "is_running") || !answer_is_nil(answer, "ended") ||
           (uint64_t)logs->attempt == answer_u64(answer, "latest");
}

static int print_once(struct logs *logs, struct bytes answer)
{
    if (!is_known(logs, answer)) {
        say("%s: nothing is known of an attempt %" PRId64 "; the last one is %" PRIu64, logs->word, logs->attempt,
            answer_u64(answer, "latest"));
        return STATUS_NOT_DONE;
    }
    if (logs->cli->json) {
        put_json(&logs->out.buf, answer, logs);
        return STATUS_OK;
    }
    print_news(logs, answer);
    return STATUS_OK;
}

/* ---- following ---- */

static void say_begun(struct logs *logs)
{
    logs->was_seen = true;
    if (!logs->cli->json) {
        (void)out_flush(&logs->out);
        (void)out_flush(&logs->err);
        say("%s: attempt %" PRId64, logs->word, logs->attempt);
    }
}

static void say_over(struct logs *logs, struct bytes answer)
{
    const char *ended = answer_shown(answer, "ended");
    if (logs->cli->json) {
        buf_printf(&logs->out.buf, "{\"attempt\":%" PRId64 ",\"ended\":\"%s\"}\n", logs->attempt, ended);
        return;
    }
    (void)out_flush(&logs->out);
    (void)out_flush(&logs->err);
    say("%s: attempt %" PRId64 " ended: %s", logs->word, logs->attempt, ended);
}

/* The attempt after the one that is followed: the next that failed, else the newest; 0: there is none yet. */
static int64_t attempt_next(const struct logs *logs, struct bytes answer)
{
    struct answer_walk walk;
    struct bytes value;
    struct value number;
    for (answer_walk_array(&walk, answer_field(answer, "failed")); answer_walk_next(&walk, &value);) {
        struct cursor cursor = cursor_of(value);
        if (cursor_next(&cursor, &number) && number.type == VALUE_UINT && number.u > (uint64_t)logs->attempt) {
            return (int64_t)number.u;
        }
    }
    int64_t latest = (int64_t)answer_u64(answer, "latest");
    return latest > logs->attempt ? latest : 0;
}

static void attempt_begin(struct logs *logs, int64_t attempt)
{
    logs->attempt = attempt;
    logs->was_seen = false;
    memset(logs->known, 0, sizeof logs->known);
}

/* One answer. True: there is more to come. */
static bool follow_step(struct logs *logs, struct bytes answer)
{
    bool is_over = attempt_is_over(answer);
    if (logs->attempt == 0) {
        logs->attempt = (int64_t)answer_u64(answer, "attempt");
    }
    if (logs->attempt != 0 && !logs->was_seen && (is_over || answer_flag(answer, "is_running"))) {
        say_begun(logs);
    }
    print_news(logs, answer);
    int64_t next = is_over || !answer_flag(answer, "is_running") ? attempt_next(logs, answer) : 0;
    if (is_over) {
        say_over(logs, answer);
    }
    if (logs->is_one) {
        return !is_over && next == 0 && !is_final(answer);
    }
    if (next != 0) {
        attempt_begin(logs, next);
        logs->had_news = true; /* ask at once */
        return true;
    }
    if (is_over && !is_final(answer)) {
        attempt_begin(logs, logs->attempt + 1); /* it is to come */
    }
    return !is_final(answer);
}

/* A volatile task is gone as soon as its outcome is taken. */
static int say_gone(const struct logs *logs, enum quern_err err, bool was_answered)
{
    if (err == QUERN_UNKNOWN && was_answered) {
        say("%s: it has ended, and its outcome was taken; nothing further is known of it", logs->word);
        return STATUS_OK;
    }
    return say_error(err, logs->word);
}

static int follow(struct logs *logs, struct quern_client *client)
{
    int wait_ms = FOLLOW_MIN_MS;
    bool was_answered = false;
    for (;;) {
        struct bytes answer = {0};
        logs->had_news = false;
        enum quern_err err = logs_ask(logs, client, &answer);
        if (err != QUERN_OK) {
            return say_gone(logs, err, was_answered);
        }
        was_answered = true;
        bool goes_on = follow_step(logs, answer);
        int status = bytes_is(answer_bytes(answer, "state"), "done") || goes_on || !is_final(answer)
                         ? STATUS_OK
                         : STATUS_TASK_FAILED;
        free((void *)(uintptr_t)answer.p);
        if (!goes_on || !out_flush(&logs->out) || !out_flush(&logs->err)) {
            return status;
        }
        wait_ms = logs->had_news ? FOLLOW_MIN_MS : wait_ms * 2 < FOLLOW_MAX_MS ? wait_ms * 2 : FOLLOW_MAX_MS;
        (void)poll(NULL, 0, wait_ms);
    }
}

/* ---- the command ---- */

static int logs_run(struct logs *logs)
{
    struct quern_client *client = NULL;
    struct bytes answer = {0};
    int status = cli_open_operator(logs->cli, &client);
    if (status != STATUS_OK) {
        return status;
    }
    out_init(&logs->out, STDOUT_FILENO);
    out_init(&logs->err, STDERR_FILENO);
    if (logs->follows) {
        status = follow(logs, client);
    } else {
        enum quern_err err = logs_ask(logs, client, &answer);
        status = err == QUERN_OK ? print_once(logs, answer) : say_error(err, logs->word);
        free((void *)(uintptr_t)answer.p);
    }
    (void)out_flush(&logs->err);
    status = out_finish(&logs->out, status);
    out_fini(&logs->out);
    out_fini(&logs->err);
    (void)quern_client_close(&client, 0);
    return status;
}

int logs_main(struct cli *cli, struct arguments *arguments)
{
    struct logs logs = {.cli = cli};
    const struct option table[] = {
        {.name = "attempt", .kind = OPTION_NUMBER, .to = &logs.attempt, .min = 1, .max = UINT32_MAX},
        {.name = "stdout", .kind = OPTION_FLAG, .to = &logs.wants[OUTPUT_STDOUT - 1]},
        {.name = "stderr", .kind = OPTION_FLAG, .to = &logs.wants[OUTPUT_STDERR - 1]},
        {.name = "follow", .letter = 'f', .kind = OPTION_FLAG, .to = &logs.follows},
    };
    int status = arguments_parse(arguments, table, sizeof table / sizeof table[0]);
    if (status != ARGUMENTS_GO_ON) {
        return status;
    }
    if (!arguments_expect(arguments, 1, 1, "a task id") || ids_check(arguments) != ARGUMENTS_GO_ON) {
        return STATUS_USAGE;
    }
    logs.word = arguments->words[0];
    logs.id = id_of(logs.word);
    logs.is_one = logs.attempt != 0;
    if (!logs.wants[0] && !logs.wants[1]) {
        logs.wants[0] = logs.wants[1] = true;
    }
    return logs_run(&logs);
}

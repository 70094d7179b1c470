/*
 * Owns `quern show`: everything known of one task, every attempt with its failure. Start at show_main.
 */
#include "client/cli/ask.h"
#include "client/cli/json.h"
#include "client/cli/print.h"
#include "client/cli/words.h"
#include "common/codec.h"
#include "common/messages.h"
#include <inttypes.h>
#include <string.h>
#include <time.h>

/* Arguments and result are payloads: msgpack inside a bin. Shown as what they say. */
static void put_payload(struct buf *to, struct bytes row, const char *name)
{
    struct bytes payload = answer_bytes(row, name);
    bool is_command = bytes_is(answer_bytes(row, "function"), FUNCTION_COMMAND) && strcmp(name, "result") == 0;
    if (print_result(to, payload, is_command) != QUERN_OK) {
        json_put_text_or_bin(to, payload);
    }
}

static void put_line(struct buf *to, const char *label, const char *value)
{
    if (value[0] != '\0') {
        buf_printf(to, "%-11s%s\n", label, value);
    }
}

static void put_time(struct buf *to, const char *label, struct bytes row, const char *name)
{
    char age[AGE_SIZE];
    int64_t at_ms = answer_i64(row, name);
    if (at_ms != 0) {
        buf_printf(to, "%-11s%s ago\n", label, age_text(at_ms, age));
    }
}

/* A moment to come, of this host's clock. */
static void put_moment(struct buf *to, const char *label, struct bytes row, const char *name)
{
    char text[64];
    struct tm local;
    time_t second = (time_t)(answer_i64(row, name) / 1000);
    if (second != 0 && localtime_r(&second, &local) != NULL &&
        strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S%z", &local) > 0) {
        put_line(to, label, text);
    }
}

/* Text of several lines beside its label; what would move the cursor is written out. */
static void put_block(struct buf *to, const char *label, struct bytes text)
{
    bool is_new = true;
    size_t end = text.n > 0 && text.p[text.n - 1] == '\n' ? text.n - 1 : text.n;
    for (size_t i = 0; i < end; i++) {
        if (is_new) {
            buf_printf(to, "%-11s", i == 0 ? label : "");
        }
        is_new = text.p[i] == '\n';
        if ((text.p[i] < 0x20 && text.p[i] != '\t' && !is_new) || text.p[i] == 0x7f) {
            buf_printf(to, "\\x%02x", text.p[i]);
        } else {
            buf_put_u8(to, text.p[i]);
        }
    }
    if (end > 0) {
        buf_put_u8(to, '\n');
    }
}

static void put_end(struct buf *to, struct bytes row)
{
    uint64_t signal = answer_u64(row, "signal");
    uint64_t exit_status = answer_u64(row, "exit_status");
    if (signal != 0) {
        buf_printf(to, "%-11s%" PRIu64 " %s%s\n", "signal", signal, answer_shown(row, "signal_name"),
                   answer_flag(answer_field(row, "report"), "core_dumped") ? ", core dumped" : "");
    } else if (exit_status != 0) {
        buf_printf(to, "%-11s%" PRIu64 "\n", "exit", exit_status);
    }
}

/* How long it ran, and what it took. */
static void put_figures(struct buf *to, struct bytes row)
{
    uint64_t peak_kib = answer_u64(row, "peak_kib");
    if (answer_u64(row, "run_us") == 0 && peak_kib == 0) {
        return;
    }
    buf_printf(to, "%-11s%g ms, CPU %g ms", "ran", (double)answer_u64(row, "run_us") / 1000.0,
               (double)answer_u64(row, "cpu_us") / 1000.0);
    if (peak_kib != 0) {
        buf_printf(to, ", memory %.1f MiB at most", (double)peak_kib / 1024.0);
    }
    buf_put_u8(to, '\n');
}

static void put_failure(struct buf *to, struct bytes row, const char *label)
{
    struct bytes detail = answer_bytes(row, "detail");
    struct bytes report = answer_field(row, "report");
    const char *cause = answer_shown(row, "cause"); /* none of a cancelled task */
    const char *kind = answer_shown(row, "kind");
    const char *message = answer_shown(row, "message");
    if (cause[0] != '\0' || kind[0] != '\0' || message[0] != '\0') {
        buf_printf(to, "%-11s%s%s%s%s%s\n", label, cause, cause[0] != '\0' && kind[0] != '\0' ? ", " : "", kind,
                   cause[0] != '\0' || kind[0] != '\0' ? ": " : "", message);
    }
    put_end(to, row);
    put_figures(to, row);
    if (detail.n > 0) {
        buf_printf(to, "%-11s", "detail");
        json_put_text_or_bin(to, detail);
        buf_put_u8(to, '\n');
    }
    put_block(to, "backtrace", answer_bytes(report, "backtrace"));
    put_block(to, "stdout", answer_bytes(report, "stdout"));
    put_block(to, "stderr", answer_bytes(report, "stderr"));
}

/* The attempts that failed, but for the one whose failure became the outcome: that is told already. */
static void put_failures(struct buf *to, struct bytes answer)
{
    struct answer_walk walk;
    struct bytes row;
    bool is_told = bytes_is(answer_bytes(answer, "state"), "failed");
    for (answer_walk_array(&walk, answer_field(answer, "failures")); answer_walk_next(&walk, &row);) {
        char age[AGE_SIZE];
        uint64_t attempt = answer_u64(row, "attempt");
        buf_printf(to, "\nattempt %" PRIu64 " failed on %s, %s ago\n", attempt, answer_shown(row, "worker"),
                   age_text(answer_i64(row, "at_ms"), age));
        if (is_told && attempt == answer_u64(answer, "attempt")) {
            put_line(to, "because", "as above");
        } else {
            put_failure(to, row, "because");
        }
    }
}

/* If it was set: not told (0) by an older broker. */
static void put_limit(struct buf *to, const char *what, uint64_t max, uint64_t otherwise)
{
    if (max != 0 && max != otherwise) {
        buf_printf(to, ", %s %" PRIu64, what, max);
    }
}

static void put_options(struct buf *to, struct bytes answer)
{
    struct bytes options = answer_field(answer, "options");
    char seconds[AGE_SIZE];
    buf_printf(to, "%-11spriority %" PRId64 ", attempts %" PRIu64, "options", answer_i64(answer, "priority"),
               answer_u64(options, "attempts"));
    put_limit(to, "crashes", answer_u64(options, "crashes_max"), CRASHES_MAX_DEFAULT);
    put_limit(to, "losses", answer_u64(options, "losses_max"), LOSSES_MAX_DEFAULT);
    if (answer_u64(options, "timeout_ms") != 0) {
        buf_printf(to, ", timeout %s", seconds_text(answer_u64(options, "timeout_ms"), seconds));
    }
    if (answer_u64(options, "backoff_ms") != 0) {
        buf_printf(to, ", backoff %s", seconds_text(answer_u64(options, "backoff_ms"), seconds));
    }
    if (answer_u64(options, "memory_bytes") != 0) {
        buf_printf(to, ", memory %" PRIu64 " MiB", (answer_u64(options, "memory_bytes") + 524288) / 1048576);
    }
    if (answer_u64(options, "expires_ms") != 0) {
        buf_printf(to, ", expires after %s", seconds_text(answer_u64(options, "expires_ms"), seconds));
    }
    buf_printf(to, "%s%s%s\n", answer_flag(options, "known") ? ", known" : "",
               answer_u64(options, "alone") != 0 ? ", alone" : "",
               answer_flag(options, "at_most_once") ? ", at most once" : "");
}

static void put_progress(struct buf *to, struct bytes answer)
{
    struct bytes progress = answer_field(answer, "progress");
    if (!answer_is_nil(answer, "progress")) {
        const char *text = answer_shown(progress, "text");
        buf_printf(to, "%-11s%.0f %%%s%s\n", "progress", answer_f64(progress, "fraction") * 100.0,
                   text[0] != '\0' ? " " : "", text);
    }
}

static void put_show(struct buf *to, struct bytes answer)
{
    struct bytes state = answer_bytes(answer, "state");
    put_line(to, "task", answer_shown(answer, "id"));
    put_line(to, "state", answer_shown(answer, "state"));
    put_line(to, "function", answer_shown(answer, "function"));
    put_line(to, "queue", answer_shown(answer, "queue"));
    buf_printf(to, "%-11s%s, %s\n", "session", answer_shown(answer, "session"),
               answer_flag(answer, "durable") ? "durable" : "volatile");
    put_line(to, "retry of", answer_shown(answer, "retry_of"));
    if (answer_u64(answer, "ordinal") != 0) {
        buf_printf(to, "%-11s%" PRIu64 "\n", "line", answer_u64(answer, "ordinal"));
    }
    put_options(to, answer);
    put_time(to, "submitted", answer, "created_ms");
    put_moment(to, "due", answer, "due_ms");
    put_moment(to, "expires", answer, "expiry_ms");
    put_time(to, "started", answer, "started_ms");
    put_time(to, "finished", answer, "finished_ms");
    put_line(to, "worker", answer_shown(answer, "worker"));
    buf_printf(to, "%-11s%" PRIu64 ", %" PRIu64 " crashes, %" PRIu64 " losses\n", "attempts",
               answer_u64(answer, "attempts"), answer_u64(answer, "crashes"), answer_u64(answer, "losses"));
    put_progress(to, answer);
    buf_printf(to, "%-11s", "arguments");
    put_payload(to, answer, "args");
    buf_put_u8(to, '\n');
    if (bytes_is(state, "done") || answer_bytes(answer, "result").n > 0) {
        buf_printf(to, "%-11s", "result");
        put_payload(to, answer, "result");
        buf_put_u8(to, '\n');
    }
    if (bytes_is(state, "failed") || bytes_is(state, "cancelled")) {
        put_failure(to, answer, "because");
    } else if (bytes_is(state, "done")) {
        put_figures(to, answer);
    }
    put_failures(to, answer);
}

/* The answer with payloads and details decoded. */
static void put_show_json(struct buf *to, struct bytes answer)
{
    struct answer_walk walk;
    struct bytes key;
    struct bytes value;
    char separator = '{';
    for (answer_walk_map(&walk, answer); answer_walk_pair(&walk, &key, &value); separator = ',') {
        buf_put_u8(to, (uint8_t)separator);
        json_put_str(to, key);
        buf_put_u8(to, ':');
        if (bytes_is(key, "args") || bytes_is(key, "result")) {
            put_payload(to, answer, bytes_is(key, "args") ? "args" : "result");
        } else if (bytes_is(key, "detail") && answer_bytes(answer, "detail").n > 0) {
            json_put_text_or_bin(to, answer_bytes(answer, "detail"));
        } else if (json_from_msgpack(value, to) != QUERN_OK) {
            buf_put(to, "null", 4);
        }
    }
    buf_put_u8(to, '}');
}

int show_main(struct cli *cli, struct arguments *arguments)
{
    struct buf params = {0};
    int status = arguments_parse(arguments, NULL, 0);
    if (status != ARGUMENTS_GO_ON) {
        return status;
    }
    if (!arguments_expect(arguments, 1, 1, "a task id") || ids_check(arguments) != ARGUMENTS_GO_ON) {
        return STATUS_USAGE;
    }
    put_map(&params, 1);
    put_text(&params, "id");
    put_u64(&params, id_of(arguments->words[0]));
    const struct question question = {.what = "show",
                                      .params = &params,
                                      .about = arguments->words[0],
                                      .put_text = put_show,
                                      .put_json = put_show_json};
    status = ask(cli, &question);
    buf_fini(&params);
    return status;
}

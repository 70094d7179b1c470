/*
 * Owns the shapes in which outcomes are printed. Must not know where they come from. Start at print_outcome.
 */
#include "client/cli/print.h"

#include "client/cli/answer.h"
#include "client/cli/json.h"
#include "common/ids.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define WHERE_SIZE 80

/* What is said about an outcome that is not done. */
struct failure {
    const char *cause;
    const char *kind;
    const char *message;
    struct bytes detail;
};

static bool has_id(const struct quern_outcome *outcome)
{
    return outcome->refusal == 0 && outcome->id != 0;
}

static struct failure failure_of(const struct quern_outcome *outcome)
{
    struct failure failure = {.cause = quern_cause_word(outcome->cause),
                              .kind = outcome->kind,
                              .message = outcome->message,
                              .detail = bytes_of(outcome->detail, outcome->detail_size)};
    if (outcome->refusal != 0) {
        failure.cause = "refused";
        failure.kind = quern_err_word((enum quern_err)outcome->refusal);
        if (failure.message[0] == '\0') {
            failure.message = quern_err_text((enum quern_err)outcome->refusal);
        }
    } else if (outcome->state == QUERN_STATE_CANCELLED) {
        failure.cause = "cancelled";
        if (failure.message[0] == '\0') {
            failure.message = "cancelled";
        }
    }
    return failure;
}

/* ---- the object ---- */

static void put_text_json(struct buf *to, const char *text)
{
    json_put_text_or_bin(to, bytes_text(text));
}

/* The text, or null if there is none. */
static void put_text_or_null(struct buf *to, const char *text)
{
    if (text == NULL || text[0] == '\0') {
        buf_put(to, "null", 4);
    } else {
        put_text_json(to, text);
    }
}

static void put_error(struct buf *to, const struct failure *failure)
{
    buf_printf(to, "\"error\":{\"cause\":");
    put_text_json(to, failure->cause);
    buf_printf(to, ",\"kind\":");
    put_text_json(to, failure->kind);
    buf_printf(to, ",\"message\":");
    put_text_json(to, failure->message);
    buf_printf(to, ",\"detail\":");
    if (failure->detail.n > 0) {
        json_put_text_or_bin(to, failure->detail);
    } else {
        buf_put(to, "null", 4);
    }
    buf_put_u8(to, '}');
}

static struct bytes args_element(struct bytes args, uint32_t index)
{
    struct answer_walk walk;
    struct bytes value = {0};
    answer_walk_array(&walk, args);
    for (uint32_t i = 0; answer_walk_next(&walk, &value); i++) {
        if (i == index) {
            return value;
        }
    }
    return (struct bytes){0};
}

static void put_input(struct buf *to, enum print_input input, struct bytes args)
{
    struct bytes shown = args;
    if (input == INPUT_VALUE && answer_count(args) == 1) {
        shown = args_element(args, 0);
    }
    if (input == INPUT_LINE) {
        struct bytes line = answer_bytes(answer_field(args_element(args, 1), "env"), "QUERN_INPUT");
        if (line.p != NULL) {
            json_put_text_or_bin(to, line);
            return;
        }
    }
    if (shown.n == 0 || json_from_msgpack(shown, to) != QUERN_OK) {
        buf_put(to, "null", 4);
    }
}

/* {exit_status, stdout, stderr}: output as text where it is UTF-8. */
static enum quern_err put_command_result(struct buf *to, struct bytes result)
{
    if (answer_is_nil(result, "exit_status")) {
        return json_from_msgpack(result, to);
    }
    buf_printf(to, "{\"exit_status\":%" PRId64 ",\"stdout\":", answer_i64(result, "exit_status"));
    json_put_text_or_bin(to, answer_bytes(result, "stdout"));
    buf_printf(to, ",\"stderr\":");
    json_put_text_or_bin(to, answer_bytes(result, "stderr"));
    buf_put_u8(to, '}');
    return QUERN_OK;
}

enum quern_err print_result(struct buf *to, struct bytes result, bool is_command)
{
    if (result.n == 0) {
        buf_put(to, "null", 4);
        return QUERN_OK;
    }
    return is_command ? put_command_result(to, result) : json_from_msgpack(result, to);
}

static struct failure failure_of_showing(enum quern_err err)
{
    return (struct failure){.cause = quern_cause_word(QUERN_CAUSE_UNENCODABLE),
                            .kind = err == QUERN_TOO_BIG ? "TooDeep" : "Malformed",
                            .message = err == QUERN_TOO_BIG ? "the result is nested too deep to be shown as JSON"
                                                            : "the result is not well-formed msgpack"};
}

static void put_head(struct buf *to, const char *id, uint64_t line)
{
    buf_printf(to, "{\"id\":");
    put_text_or_null(to, id);
    if (line > 0) {
        buf_printf(to, ",\"line\":%" PRIu64, line);
    } else {
        buf_printf(to, ",\"line\":null");
    }
    buf_printf(to, ",\"input\":");
}

static bool put_object(const struct printing *printing, const struct quern_outcome *outcome, struct bytes args)
{
    struct buf *to = &printing->out->buf;
    struct buf json = {0};
    struct bytes result = bytes_of(outcome->result, outcome->result_size);
    char id[ID_TEXT_SIZE] = "";
    bool is_ok = outcome->state == QUERN_STATE_DONE;
    enum quern_err err = print_result(&json, result, printing->is_command);
    put_head(to, has_id(outcome) ? id_text(outcome->id, id) : id, outcome->ordinal);
    put_input(to, printing->input, args);
    if (is_ok && err != QUERN_OK) {
        struct failure failure = failure_of_showing(err);
        is_ok = false;
        buf_printf(to, ",\"ok\":false,");
        put_error(to, &failure);
    } else if (!is_ok) {
        struct failure failure = failure_of(outcome);
        buf_printf(to, ",\"ok\":false,");
        put_error(to, &failure);
    } else {
        buf_printf(to, ",\"ok\":true");
    }
    if (err == QUERN_OK && (is_ok || result.n > 0)) {
        buf_printf(to, ",\"result\":");
        buf_put(to, json.p, json.n);
    }
    buf_printf(to, ",\"attempts\":%u,\"worker\":", outcome->attempts);
    put_text_or_null(to, outcome->worker);
    buf_printf(to, ",\"ms\":");
    if (outcome->worker[0] != '\0') {
        json_put_f64(to, (double)outcome->run_us / 1000.0);
    } else {
        buf_put(to, "null", 4);
    }
    buf_printf(to, ",\"durable\":%s}\n", printing->is_volatile ? "false" : "true");
    buf_fini(&json);
    return is_ok;
}

/* ---- plain ---- */

static void where(const struct quern_outcome *outcome, char text[WHERE_SIZE])
{
    struct buf buf = {0};
    char id[ID_TEXT_SIZE];
    if (outcome->ordinal > 0) {
        buf_printf(&buf, "line %" PRIu64 "%s", outcome->ordinal, has_id(outcome) ? ", " : "");
    }
    if (has_id(outcome)) {
        buf_printf(&buf, "task %s", id_text(outcome->id, id));
    } else if (outcome->ordinal == 0) {
        buf_printf(&buf, "the task");
    }
    memcpy(text, buf.p, buf.n < WHERE_SIZE ? buf.n : WHERE_SIZE - 1);
    text[buf.n < WHERE_SIZE ? buf.n : WHERE_SIZE - 1] = '\0';
    buf_fini(&buf);
}

/* Without its own "task ID: ", which stands at the head of the line. */
static const char *message_shown(const struct quern_outcome *outcome, const char *message)
{
    char own[ID_TEXT_SIZE + 8];
    char id[ID_TEXT_SIZE];
    int size = snprintf(own, sizeof own, "task %s: ", id_text(outcome->id, id));
    return strncmp(message, own, (size_t)size) == 0 ? message + size : message;
}

static void put_failure_line(const struct printing *printing, const struct quern_outcome *outcome,
                             const struct failure *failure)
{
    char place[WHERE_SIZE];
    struct buf tail = {0};
    where(outcome, place);
    if (failure->kind[0] != '\0') {
        buf_printf(&tail, ": %s", failure->kind);
    }
    if (failure->message[0] != '\0') {
        buf_printf(&tail, ": %s", message_shown(outcome, failure->message));
    } else if (outcome->signal != 0) {
        buf_printf(&tail, ": signal %u", outcome->signal);
    } else if (outcome->exit_status != 0) {
        buf_printf(&tail, ": exit status %u", outcome->exit_status);
    }
    if (outcome->worker[0] != '\0' && outcome->attempts > 0) {
        buf_printf(&tail, " (attempt %u, on %s)", outcome->attempts, outcome->worker);
    } else if (outcome->worker[0] != '\0') {
        buf_printf(&tail, " (on %s)", outcome->worker);
    }
    say_into(&printing->err->buf, "%s: %s%.*s", place, failure->cause, (int)tail.n, (const char *)tail.p);
    buf_fini(&tail);
}

static bool put_output(const struct printing *printing, const struct quern_outcome *outcome)
{
    struct bytes result = bytes_of(outcome->result, outcome->result_size);
    struct bytes to_out = answer_bytes(result, "stdout");
    struct bytes to_err = answer_bytes(result, "stderr");
    if (to_out.n > 0) {
        buf_put(&printing->out->buf, to_out.p, to_out.n);
    }
    if (to_err.n > 0) {
        buf_put(&printing->err->buf, to_err.p, to_err.n);
    }
    return outcome->state == QUERN_STATE_DONE;
}

static bool put_plain(const struct printing *printing, const struct quern_outcome *outcome)
{
    struct buf *to = &printing->out->buf;
    bool is_ok = outcome->state == QUERN_STATE_DONE;
    struct failure failure = failure_of(outcome);
    if (printing->shape == PRINT_OUTPUT) {
        is_ok = put_output(printing, outcome);
    } else if (is_ok) {
        enum quern_err err = print_result(to, bytes_of(outcome->result, outcome->result_size), printing->is_command);
        if (err != QUERN_OK) {
            failure = failure_of_showing(err);
            is_ok = false;
        }
    }
    if (!is_ok) {
        put_failure_line(printing, outcome, &failure);
        if (printing->shape == PRINT_RESULT && printing->null_for_failed) {
            buf_put(to, "null\n", 5);
        }
    } else if (printing->shape == PRINT_RESULT) {
        buf_put_u8(to, '\n');
    }
    return is_ok;
}

bool print_outcome(const struct printing *printing, const struct quern_outcome *outcome, struct bytes args)
{
    if (outcome->args != NULL) {
        args = bytes_of(outcome->args, outcome->args_size);
    }
    return printing->shape == PRINT_OBJECT ? put_object(printing, outcome, args) : put_plain(printing, outcome);
}

void print_bad_item(const struct printing *printing, uint64_t line, struct bytes input, const char *why)
{
    struct buf *to = &printing->out->buf;
    if (printing->shape != PRINT_OBJECT) {
        say_into(&printing->err->buf, "line %" PRIu64 ": not submitted: %s", line, why);
        if (printing->shape == PRINT_RESULT && printing->null_for_failed) {
            buf_put(to, "null\n", 5);
        }
        return;
    }
    struct failure failure = {.cause = "invalid", .kind = "BadItem", .message = why};
    put_head(to, NULL, line);
    if (input.p != NULL) {
        json_put_text_or_bin(to, input);
    } else {
        buf_put(to, "null", 4);
    }
    buf_printf(to, ",\"ok\":false,");
    put_error(to, &failure);
    buf_printf(to, ",\"attempts\":0,\"worker\":null,\"ms\":null,\"durable\":%s}\n",
               printing->is_volatile ? "false" : "true");
}

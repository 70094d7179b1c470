/*
 * report.c owns the bytes of a report.
 * It must not know who makes one, or where it is kept.
 * Start reading at report_put.
 */
#include "common/report.h"

#include "common/codec.h"
#include "common/limits.h"

#include <signal.h>

#define KEY_CORE "core_dumped"
#define KEY_BACKTRACE "backtrace"
#define KEY_STDERR "stderr"
#define KEY_STDOUT "stdout"

static bool is_inside(uint8_t byte)
{
    return (byte & 0xc0) == 0x80;
}

/* The first max bytes, without half a character at the end. */
static struct bytes head_of(struct bytes text, size_t max)
{
    if (text.n > max) {
        text.n = max;
        while (text.n > 0 && is_inside(text.p[text.n])) {
            text.n--;
        }
    }
    return text;
}

/* The last max bytes. They may begin inside a character: at most three bytes more are left out then. */
static struct bytes tail_of(struct bytes text, size_t max)
{
    if (text.n > max) {
        text = bytes_of(text.p + (text.n - max), max);
        for (int i = 0; i < 3 && text.n > 0 && is_inside(text.p[0]); i++) {
            text = bytes_of(text.p + 1, text.n - 1);
        }
    }
    return text;
}

/* What is no text goes as binary. */
static void put_text_or_bin(struct buf *buf, struct bytes text)
{
    if (bytes_is_utf8(text)) {
        put_str(buf, text);
    } else {
        put_bin(buf, text);
    }
}

void report_put(struct buf *buf, const struct report *report)
{
    struct bytes backtrace = head_of(report->backtrace, BACKTRACE_SIZE_MAX);
    struct bytes tail = tail_of(report->tail, ERROR_STDERR_SIZE_MAX);
    struct bytes out_tail = tail_of(report->out_tail, ERROR_STDOUT_SIZE_MAX);
    uint32_t count = (report->core_dumped ? 1u : 0u) + (backtrace.n > 0 ? 1u : 0u) + (tail.n > 0 ? 1u : 0u) +
                     (out_tail.n > 0 ? 1u : 0u);
    if (count == 0) {
        return;
    }
    put_map(buf, count);
    if (report->core_dumped) {
        put_text(buf, KEY_CORE);
        put_flag(buf, true);
    }
    if (backtrace.n > 0) {
        put_text(buf, KEY_BACKTRACE);
        put_text_or_bin(buf, backtrace);
    }
    if (tail.n > 0) {
        put_text(buf, KEY_STDERR);
        put_text_or_bin(buf, tail);
    }
    if (out_tail.n > 0) {
        put_text(buf, KEY_STDOUT);
        put_text_or_bin(buf, out_tail);
    }
}

static bool take_text(const struct value *value, struct bytes *text_out)
{
    if (value->type == VALUE_STR || value->type == VALUE_BIN) {
        *text_out = value->bytes;
        return true;
    }
    return value->type == VALUE_NIL;
}

static bool read_pair(struct cursor *cursor, struct report *report)
{
    struct value key;
    struct value value;
    struct bytes view;
    if (!cursor_next(cursor, &key) || key.type != VALUE_STR || !cursor_skip(cursor, VALUE_DEPTH_MAX, &view)) {
        return false;
    }
    struct cursor at = cursor_of(view);
    (void)cursor_next(&at, &value);
    if (bytes_is(key.bytes, KEY_CORE)) {
        report->core_dumped = value.type == VALUE_FLAG && value.flag;
        return value.type == VALUE_FLAG;
    }
    if (bytes_is(key.bytes, KEY_BACKTRACE)) {
        return take_text(&value, &report->backtrace);
    }
    if (bytes_is(key.bytes, KEY_STDERR)) {
        return take_text(&value, &report->tail);
    }
    if (bytes_is(key.bytes, KEY_STDOUT)) {
        return take_text(&value, &report->out_tail);
    }
    return true;
}

bool report_read(struct bytes bytes, struct report *report_out)
{
    struct cursor cursor = cursor_of(bytes);
    struct value map;
    struct report report = {0};
    *report_out = report;
    if (bytes.n == 0 || !cursor_next(&cursor, &map) || map.type != VALUE_MAP) {
        return false;
    }
    for (uint32_t i = 0; i < map.count; i++) {
        if (!read_pair(&cursor, &report)) {
            return false;
        }
    }
    if (!cursor_done(&cursor)) {
        return false;
    }
    *report_out = report;
    return true;
}

/* Numbers are those of the worker's machine; all that quern runs on agree. */
const char *signal_name(unsigned number)
{
#define X(name) [name] = #name
    static const char *const names[] = {
        X(SIGHUP),  X(SIGINT),  X(SIGQUIT), X(SIGILL),    X(SIGTRAP), X(SIGABRT), X(SIGBUS),   X(SIGFPE),
        X(SIGKILL), X(SIGUSR1), X(SIGSEGV), X(SIGUSR2),   X(SIGPIPE), X(SIGALRM), X(SIGTERM),  X(SIGSTKFLT),
        X(SIGCHLD), X(SIGCONT), X(SIGSTOP), X(SIGTSTP),   X(SIGTTIN), X(SIGTTOU), X(SIGURG),   X(SIGXCPU),
        X(SIGXFSZ), X(SIGPROF), X(SIGIO),   X(SIGVTALRM), X(SIGPWR),  X(SIGSYS),  X(SIGWINCH),
    };
#undef X
    const char *name = number < sizeof(names) / sizeof(names[0]) ? names[number] : NULL;
    return name != NULL ? name : "";
}

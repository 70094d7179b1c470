/*
 * Owns what quern says to people on stderr, and which exit status an error means.
 * Must not know commands. Start at say.
 */
#include "client/cli/cli.h"
#include "client/cli/print.h"
#include "client/cli/progress.h"
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#define SAY_SIZE_MAX 8192u

static void put_line(struct buf *to, const char *format, va_list list)
{
    char text[SAY_SIZE_MAX];
    (void)vsnprintf(text, sizeof text, format, list);
    buf_printf(to, "quern: ");
    for (const char *p = text; *p != '\0'; p++) {
        unsigned char c = (unsigned char)*p;
        if (c == '\n') {
            buf_put(to, "\\n", 2);
        } else if ((c < 0x20 && c != '\t') || c == 0x7f) {
            buf_printf(to, "\\x%02x", c);
        } else {
            buf_put_u8(to, c);
        }
    }
    buf_put_u8(to, '\n');
}

void say_into(struct buf *to, const char *format, ...)
{
    va_list list;
    va_start(list, format);
    put_line(to, format, list);
    va_end(list);
}

void say(const char *format, ...)
{
    struct buf line = {0};
    va_list list;
    va_start(list, format);
    put_line(&line, format, list);
    va_end(list);
    progress_clear();
    /* A closed stderr is no reason to stop working. */
    ssize_t written = write(STDERR_FILENO, line.p, line.n);
    (void)written;
    buf_fini(&line);
}

enum status status_of(enum quern_err err)
{
    switch (err) {
    case QUERN_OK:
        return STATUS_OK;
    case QUERN_INVALID:
        return STATUS_USAGE;
    case QUERN_NO_BROKER:
        return STATUS_NO_BROKER;
    case QUERN_TASK_FAILED:
        return STATUS_TASK_FAILED;
    case QUERN_INTERRUPTED:
        return STATUS_INTERRUPTED;
    default:
        return STATUS_NOT_DONE;
    }
}

/* What to do, where the library's sentence does not say it. */
static const char *hint_of(enum quern_err err)
{
    switch (err) {
    case QUERN_UNKNOWN:
        return "; `quern list` shows tasks, `quern sessions` sessions";
    case QUERN_NOT_FINISHED:
        return "; `quern result ID --wait` waits for it";
    case QUERN_RUNNING:
        return "; `quern cancel --force ID` stops it";
    case QUERN_FINISHED:
        return "; `quern result ID` prints it";
    case QUERN_FULL:
    case QUERN_DISK:
        return "; `quern status` shows what is full";
    case QUERN_TAKEN_OVER:
        return "; --take-over takes the session back";
    default:
        return "";
    }
}

int say_error(enum quern_err err, const char *about)
{
    const char *text = quern_last_error();
    if (text[0] == '\0') {
        text = quern_err_text(err);
    }
    say("%s%s%s%s", about != NULL ? about : "", about != NULL ? ": " : "", text, hint_of(err));
    return (int)status_of(err);
}

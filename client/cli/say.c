/*
 * Owns what quern says to people on stderr, and which exit status an error means.
 * Must not know commands. Start at say.
 */
#include "client/cli/cli.h"
#include "client/cli/progress.h"
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#define SAY_SIZE_MAX 8192u

void say(const char *format, ...)
{
    char text[SAY_SIZE_MAX];
    struct buf line = {0};
    va_list list;
    va_start(list, format);
    (void)vsnprintf(text, sizeof text, format, list);
    va_end(list);
    buf_printf(&line, "quern: ");
    for (const char *p = text; *p != '\0'; p++) {
        unsigned char c = (unsigned char)*p;
        if (c < 0x20 || c == 0x7f) {
            buf_printf(&line, c == '\n' ? "\\n" : c == '\t' ? "\t" : "\\x%02x", c);
        } else {
            buf_put_u8(&line, c);
        }
    }
    buf_put_u8(&line, '\n');
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

int say_error(enum quern_err err, const char *about)
{
    const char *text = quern_last_error();
    if (text[0] == '\0') {
        text = quern_err_text(err);
    }
    if (about != NULL) {
        say("%s: %s", about, text);
    } else {
        say("%s", text);
    }
    return (int)status_of(err);
}

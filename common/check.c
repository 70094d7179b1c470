/*
 * check: the report of a bug, and memory that is there or stops the process.
 * Must not allocate on its way to the report, nor call the log (it may be what is broken).
 * Start at check_failed.
 */
#include "common/check.h"

#include <errno.h>
#include <execinfo.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define BACKTRACE_DEPTH_MAX 64
#define REPORT_SIZE_MAX 2048u

static void report_write(const char *text, size_t n)
{
    while (n > 0) {
        ssize_t wrote = write(STDERR_FILENO, text, n);
        if (wrote < 0 && errno == EINTR) {
            continue;
        }
        if (wrote <= 0) {
            return;
        }
        text += wrote;
        n -= (size_t)wrote;
    }
}

void check_failed(const char *file, int line, const char *what, const char *format, ...)
{
    int error = errno;
    char detail[REPORT_SIZE_MAX / 2];
    va_list args;
    va_start(args, format);
    vsnprintf(detail, sizeof detail, format, args);
    va_end(args);

    char report[REPORT_SIZE_MAX];
    int size =
        snprintf(report, sizeof report,
                 "\n*** BUG in %s (pid %d, thread %ld)\n*** what:  %s%s%s\n*** where: %s:%d\n*** errno: %d (%s)\n"
                 "*** stack:\n",
                 program_invocation_short_name, (int)getpid(), (long)syscall(SYS_gettid), what,
                 detail[0] == '\0' ? "" : ": ", detail, file, line, error, strerrordesc_np(error));
    if (size > 0) {
        report_write(report, (size_t)size < sizeof report ? (size_t)size : sizeof report - 1);
    }
    void *stack[BACKTRACE_DEPTH_MAX];
    backtrace_symbols_fd(stack, backtrace(stack, BACKTRACE_DEPTH_MAX), STDERR_FILENO);
    abort();
}

void *xmalloc(size_t n)
{
    void *p = malloc(n > 0 ? n : 1);
    CHECK_THAT(p != NULL, "memory is used up: %zu bytes", n);
    return p;
}

void *xcalloc(size_t count, size_t n)
{
    void *p = calloc(count > 0 ? count : 1, n > 0 ? n : 1);
    CHECK_THAT(p != NULL, "memory is used up: %zu times %zu bytes", count, n);
    return p;
}

void *xrealloc(void *old, size_t n)
{
    void *p = realloc(old, n > 0 ? n : 1);
    CHECK_THAT(p != NULL, "memory is used up: %zu bytes", n);
    return p;
}

char *xstrdup(const char *text)
{
    size_t size = strlen(text) + 1;
    return memcpy(xmalloc(size), text, size);
}

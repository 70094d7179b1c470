/*
 * log: one line per event on stderr, in one write(2), with what could forge a line escaped.
 * Must not know what the events mean; says nothing before log_open (a library does not print).
 * Start at log_event.
 */
#include "common/log.h"

#include "common/bytes.h"

#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define PROGRAM_SIZE_MAX 32u
#define LOG_NOTHING (-1)
#define CUT_MARK "..."

static const char *const level_words[] = {
    [LOG_ERROR] = "error", [LOG_WARN] = "warn", [LOG_INFO] = "info", [LOG_DEBUG] = "debug"};

static char log_program[PROGRAM_SIZE_MAX];
static atomic_int log_errors_fd = -1;
static atomic_int log_level_max = LOG_NOTHING;

void log_open(const char *program, enum log_level level)
{
    snprintf(log_program, sizeof log_program, "%s", program);
    atomic_store(&log_level_max, (int)level);
}

bool log_level_parse(const char *word, enum log_level *level_out)
{
    for (size_t i = 0; i < sizeof level_words / sizeof level_words[0]; i++) {
        if (strcmp(word, level_words[i]) == 0) {
            *level_out = (enum log_level)i;
            return true;
        }
    }
    return false;
}

void log_errors_to(int fd)
{
    atomic_store(&log_errors_fd, fd);
}

void log_errors_say(const char *text)
{
    int fd = atomic_load(&log_errors_fd);
    if (fd >= 0) {
        (void)dprintf(fd, "%s\n", text);
    }
}

bool log_wants(enum log_level level)
{
    return (int)level <= atomic_load_explicit(&log_level_max, memory_order_relaxed);
}

/* A line being built; room for the cut mark and the newline is kept free behind it. */
struct line {
    char text[LOG_LINE_SIZE_MAX];
    size_t n;
    bool is_cut;
};

#define LINE_ROOM (LOG_LINE_SIZE_MAX - sizeof CUT_MARK)

static void line_put(struct line *line, const char *p, size_t n)
{
    if (line->is_cut || n > LINE_ROOM - line->n) {
        line->is_cut = true;
        return;
    }
    memcpy(line->text + line->n, p, n);
    line->n += n;
}

/* Terminals obey C0 and C1 controls, and bytes that are not UTF-8 are shown as they please: escape all three. */
static void line_put_safely(struct line *line, const char *text)
{
    bool is_utf8 = bytes_is_utf8(bytes_text(text));
    for (const uint8_t *p = (const uint8_t *)text; *p != '\0'; p++) {
        bool is_c1 = p[0] == 0xc2 && p[1] < 0xa0;
        if (*p < 0x20 || *p == 0x7f || (*p >= 0x80 && !is_utf8) || is_c1) {
            char escaped[16];
            int size = is_c1 && is_utf8 ? snprintf(escaped, sizeof escaped, "\\u%04x", (unsigned)*++p)
                                        : snprintf(escaped, sizeof escaped, "\\x%02x", (unsigned)*p);
            line_put(line, escaped, (size_t)size);
            continue;
        }
        size_t size = *p < 0x80 ? 1 : *p < 0xe0 ? 2 : *p < 0xf0 ? 3 : 4;
        line_put(line, (const char *)p, size);
        p += size - 1;
    }
}

static void line_put_head(struct line *line, enum log_level level)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    struct tm tm;
    gmtime_r(&now.tv_sec, &tm);
    char head[128];
    size_t size = strftime(head, sizeof head, "%Y-%m-%dT%H:%M:%S", &tm);
    int more = snprintf(head + size, sizeof head - size, ".%03dZ %-5s %s ", (int)(now.tv_nsec / 1000000),
                        level_words[level], log_program);
    line_put(line, head, size + (size_t)more);
}

/* head_size: of time, level and program, which whoever reads errors knows himself. */
static void line_write(struct line *line, enum log_level level, size_t head_size)
{
    int errors_fd = atomic_load(&log_errors_fd);

    if (line->is_cut) {
        memcpy(line->text + line->n, CUT_MARK, strlen(CUT_MARK));
        line->n += strlen(CUT_MARK);
    }
    line->text[line->n++] = '\n';
    while (write(STDERR_FILENO, line->text, line->n) < 0 && errno == EINTR) {
    }
    if (level == LOG_ERROR && errors_fd >= 0) {
        (void)!write(errors_fd, line->text + head_size, line->n - head_size);
    }
}

void log_event(enum log_level level, const char *event, const char *format, ...)
{
    if (!log_wants(level)) {
        return;
    }
    int error = errno;
    struct line line;
    line.n = 0;
    line.is_cut = false;
    line_put_head(&line, level);
    size_t head_size = line.n;
    line_put_safely(&line, event);
    char pairs[LOG_LINE_SIZE_MAX];
    va_list args;
    va_start(args, format);
    errno = error; /* for %m */
    int size = vsnprintf(pairs, sizeof pairs, format, args);
    va_end(args);
    if (size > 0) {
        line_put(&line, " ", 1);
        line_put_safely(&line, pairs);
        line.is_cut |= (size_t)size >= sizeof pairs;
    }
    line_write(&line, level, head_size);
    errno = error;
}

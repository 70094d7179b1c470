/*
 * Structured log lines on stderr, one write(2) each:
 *   2026-01-31T12:00:00.123Z info  broker ready url="ipc:///run/user/1000/quern/broker.sock" epoch=3
 * event is a short fixed phrase; the rest are key=value pairs from a printf format. Any thread. Bounded at
 * LOG_LINE_SIZE_MAX (cut with "..."). Control characters are escaped, so that bytes from outside cannot forge a line.
 */
#ifndef QUERN_COMMON_LOG_H
#define QUERN_COMMON_LOG_H

#include <stdbool.h>

#define LOG_LINE_SIZE_MAX 4096u

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };

void log_open(const char *program, enum log_level level);
/* "error", "warn", "info", "debug"; false for any other word. */
bool log_level_parse(const char *word, enum log_level *level_out);
bool log_wants(enum log_level level);
/* Until it is called with -1: what errors say also goes to fd, one line each. */
void log_errors_to(int fd);
/* A sentence that is no line of the log goes there too. */
void log_errors_say(const char *text);
void log_event(enum log_level level, const char *event, const char *format, ...) __attribute__((format(printf, 3, 4)));

#endif

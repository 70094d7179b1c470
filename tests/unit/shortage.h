/*
 * Memory that is used up for one thread: malloc and its kin fail from some request on, or at one alone. Whoever
 * includes this is linked with --wrap for each of them (tests/CMakeLists.txt); other libraries keep theirs.
 */
#ifndef QUERN_TESTS_SHORTAGE_H
#define QUERN_TESTS_SHORTAGE_H

#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static _Thread_local struct {
    bool is_on;
    bool is_lasting; /* all from `at` on fail; else the one */
    unsigned at;
    unsigned asked;
    unsigned failed;
} shortage;

static inline void shortage_begin(unsigned at, bool is_lasting)
{
    shortage.is_on = true;
    shortage.is_lasting = is_lasting;
    shortage.at = at;
    shortage.asked = shortage.failed = 0;
}

/* The next calloc of one of this size, by whatever thread, fails; 0: none. */
static atomic_size_t shortage_size;

/* How many failed. */
static inline unsigned shortage_end(void)
{
    shortage.is_on = false;
    return shortage.failed;
}

static inline bool shortage_hits(void)
{
    if (!shortage.is_on) {
        return false;
    }
    unsigned number = shortage.asked++;
    if (number != shortage.at && !(shortage.is_lasting && number > shortage.at)) {
        return false;
    }
    shortage.failed++;
    errno = ENOMEM;
    return true;
}

void *__real_malloc(size_t n);
void *__real_calloc(size_t count, size_t n);
void *__real_realloc(void *p, size_t n);
char *__real_strdup(const char *text);
char *__real_realpath(const char *path, char *resolved);
int __real_vasprintf(char **text, const char *format, va_list args);

void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t count, size_t n);
void *__wrap_realloc(void *p, size_t n);
char *__wrap_strdup(const char *text);
char *__wrap_realpath(const char *path, char *resolved);
int __wrap_vasprintf(char **text, const char *format, va_list args) __attribute__((format(printf, 2, 0)));
int __wrap_asprintf(char **text, const char *format, ...) __attribute__((format(printf, 2, 3)));

void *__wrap_malloc(size_t n)
{
    return shortage_hits() ? NULL : __real_malloc(n);
}

void *__wrap_calloc(size_t count, size_t n)
{
    size_t size = n;
    bool is_named = count == 1 && n > 0 && atomic_compare_exchange_strong(&shortage_size, &size, 0);
    return is_named || shortage_hits() ? NULL : __real_calloc(count, n);
}

void *__wrap_realloc(void *p, size_t n)
{
    return shortage_hits() ? NULL : __real_realloc(p, n);
}

char *__wrap_strdup(const char *text)
{
    return shortage_hits() ? NULL : __real_strdup(text);
}

char *__wrap_realpath(const char *path, char *resolved)
{
    return resolved == NULL && shortage_hits() ? NULL : __real_realpath(path, resolved);
}

int __wrap_vasprintf(char **text, const char *format, va_list args)
{
    return shortage_hits() ? -1 : __real_vasprintf(text, format, args);
}

int __wrap_asprintf(char **text, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int size = __wrap_vasprintf(text, format, args);
    va_end(args);
    return size;
}

/* It needs none. */
#define WITHOUT_MEMORY(call)                                                                                           \
    do {                                                                                                               \
        shortage_begin(0, true);                                                                                       \
        call;                                                                                                          \
        unsigned asked = shortage.asked;                                                                               \
        (void)shortage_end();                                                                                          \
        assert_int_equal(asked, 0);                                                                                    \
    } while (0)

#define ANSWERS_WITHOUT_MEMORY(code, call)                                                                             \
    do {                                                                                                               \
        enum quern_err answer;                                                                                         \
        WITHOUT_MEMORY(answer = call);                                                                                 \
        assert_int_equal(answer, code);                                                                                \
    } while (0)

#endif

/*
 * CHECK: a bug stops the process with a report, in every build. For what we control, never for bytes from outside.
 */
#ifndef QUERN_COMMON_CHECK_H
#define QUERN_COMMON_CHECK_H

__attribute__((noreturn, format(printf, 4, 5))) void check_failed(const char *file, int line, const char *what,
                                                                  const char *format, ...);

#define CHECK(fact)                                                                                                    \
    do {                                                                                                               \
        if (__builtin_expect(!(fact), 0)) {                                                                            \
            check_failed(__FILE__, __LINE__, #fact, "%s", "");                                                         \
        }                                                                                                              \
    } while (0)

#define CHECK_THAT(fact, ...)                                                                                          \
    do {                                                                                                               \
        if (__builtin_expect(!(fact), 0)) {                                                                            \
            check_failed(__FILE__, __LINE__, #fact, __VA_ARGS__);                                                      \
        }                                                                                                              \
    } while (0)

/* malloc, calloc, realloc, strdup that stop the process when memory is used up: a queue that cannot allocate
 * cannot keep a promise by going on; the restart recovers. */
void *xmalloc(__SIZE_TYPE__ n);
void *xcalloc(__SIZE_TYPE__ count, __SIZE_TYPE__ n);
void *xrealloc(void *p, __SIZE_TYPE__ n);
char *xstrdup(const char *text);

#endif

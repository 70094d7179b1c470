/*
 * valgrind.h: tests that leave themselves out where tests/run watches them with valgrind, and why: its malloc
 * tells no figures and gives nothing back.
 */
#ifndef QUERN_TESTS_SUPPORT_VALGRIND_H
#define QUERN_TESTS_SUPPORT_VALGRIND_H

#include <stdlib.h>

/* In a cmocka test, before anything is open. */
#define SKIP_UNDER_VALGRIND(reason)                                                                                    \
    do {                                                                                                               \
        if (getenv("QUERN_VALGRIND") != NULL) {                                                                        \
            print_message("skipped: %s\n", reason);                                                                    \
            skip();                                                                                                    \
        }                                                                                                              \
    } while (0)

#endif

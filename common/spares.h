/*
 * Memory of about one size that comes and goes all the time: what is given back is kept, up to a bound, for the next
 * taking, which then costs next to nothing. What is larger goes to malloc. One user at a time.
 */
#ifndef QUERN_COMMON_SPARES_H
#define QUERN_COMMON_SPARES_H

#include "common/check.h"

#include <stdint.h>
#include <stdlib.h>

/* Kept unused at most: what a burst leaves behind goes back to malloc. */
#define SPARES_COUNT_MAX 16384u

struct spares {
    size_t size; /* 0: everything goes to malloc */
    void *first; /* each begins with a pointer to the next */
    uint32_t count;
};

/* With AddressSanitizer nothing is kept, so that it sees every use of what was given back. */
#if defined(__SANITIZE_ADDRESS__)
#define SPARES_ARE_KEPT 0
#else
#define SPARES_ARE_KEPT 1
#endif

static inline void spares_init(struct spares *spares, size_t size)
{
    size_t at_least = size > sizeof(void *) ? size : sizeof(void *);
    *spares = (struct spares){.size = SPARES_ARE_KEPT ? at_least : 0};
}

/* NULL: no memory. */
static inline void *spares_try(struct spares *spares, size_t size)
{
    void *p = spares->first;
    if (size > spares->size || p == NULL) {
        return malloc(size > spares->size ? size : spares->size);
    }
    spares->first = *(void **)p;
    spares->count--;
    __builtin_prefetch(spares->first, 1); /* it is taken next, and has not been used for long, or elsewhere */
    return p;
}

static inline void *spares_take(struct spares *spares, size_t size)
{
    void *p = spares_try(spares, size);
    CHECK_THAT(p != NULL, "memory is used up: %zu bytes", size);
    return p;
}

/* size: as it was taken. NULL is fine. */
static inline void spares_give(struct spares *spares, void *p, size_t size)
{
    if (p == NULL || size > spares->size || spares->count >= SPARES_COUNT_MAX) {
        free(p);
        return;
    }
    *(void **)p = spares->first;
    spares->first = p;
    spares->count++;
}

static inline void spares_fini(struct spares *spares)
{
    while (spares->first != NULL) {
        void *p = spares->first;
        spares->first = *(void **)p;
        free(p);
    }
    spares->count = 0;
}

#endif

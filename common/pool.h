/*
 * Memory of about one size that comes and goes all the time: what is given back is kept, up to a bound, for the next
 * taking, which then costs next to nothing. What is larger than the pool's size goes to malloc. One user at a time.
 */
#ifndef QUERN_COMMON_POOL_H
#define QUERN_COMMON_POOL_H

#include "common/check.h"

#include <stdint.h>
#include <stdlib.h>

/* Kept unused at most: what a burst leaves behind goes back to malloc. */
#define POOL_COUNT_MAX 16384u

struct pool {
    size_t size; /* 0: everything goes to malloc */
    void *first; /* each begins with a pointer to the next */
    uint32_t count;
};

/* With AddressSanitizer nothing is kept, so that it sees every use of what was given back. */
#if defined(__SANITIZE_ADDRESS__)
#define POOL_KEEPS 0
#else
#define POOL_KEEPS 1
#endif

static inline void pool_init(struct pool *pool, size_t size)
{
    size_t at_least = size > sizeof(void *) ? size : sizeof(void *);
    *pool = (struct pool){.size = POOL_KEEPS ? at_least : 0};
}

static inline void *pool_take(struct pool *pool, size_t size)
{
    void *p = pool->first;
    if (size > pool->size) {
        return xmalloc(size);
    }
    if (p == NULL) {
        return xmalloc(pool->size);
    }
    pool->first = *(void **)p;
    pool->count--;
    return p;
}

/* size: as it was taken. NULL is fine. */
static inline void pool_give(struct pool *pool, void *p, size_t size)
{
    if (p == NULL || size > pool->size || pool->count >= POOL_COUNT_MAX) {
        free(p);
        return;
    }
    *(void **)p = pool->first;
    pool->first = p;
    pool->count++;
}

static inline void pool_fini(struct pool *pool)
{
    while (pool->first != NULL) {
        void *p = pool->first;
        pool->first = *(void **)p;
        free(p);
    }
    pool->count = 0;
}

#endif

/*
 * random: chance from the kernel.
 * Must not know what it is for.
 * Start at random_fill.
 */
#include "common/random.h"

#include "common/check.h"

#include <errno.h>
#include <sys/random.h>

void random_fill(void *p, size_t n)
{
    char *at = p;
    while (n > 0) {
        ssize_t got = getrandom(at, n, 0);
        if (got < 0) {
            CHECK(errno == EINTR);
            continue;
        }
        at += got;
        n -= (size_t)got;
    }
}

uint64_t random_u64(void)
{
    uint64_t number;
    random_fill(&number, sizeof number);
    return number;
}

/* Chance from the kernel. Knows nobody. */
#ifndef QUERN_COMMON_RANDOM_H
#define QUERN_COMMON_RANDOM_H

#include <stddef.h>
#include <stdint.h>

void random_fill(void *p, size_t n);
uint64_t random_u64(void);

#endif

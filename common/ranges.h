/*
 * ranges: a set of numbers kept as sorted, disjoint, non-adjacent ranges. Here: completion numbers.
 * Knows nothing of them. Growing at either end, or where it grew last, costs O(1); in the middle a memmove.
 */
#ifndef QUERN_COMMON_RANGES_H
#define QUERN_COMMON_RANGES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct range {
    uint64_t first;
    uint64_t last;
};

/* {0} is the empty set. */
struct ranges {
    struct range *at;
    size_t count;
    size_t cap;
    size_t grown; /* index of the range that grew last, if it is still there */
};

void ranges_fini(struct ranges *ranges);
void ranges_clear(struct ranges *ranges); /* keeps its memory */
/* Room for so many ranges in all: adding needs no memory until there are more. Stops the process if memory is used up.
 */
void ranges_reserve(struct ranges *ranges, size_t count);
/* first <= last. */
void ranges_add(struct ranges *ranges, uint64_t first, uint64_t last);
bool ranges_has(const struct ranges *ranges, uint64_t number);
/* The range that holds the number; NULL if it is not in the set. Holds until the next change. */
const struct range *ranges_around(const struct ranges *ranges, uint64_t number);
/* The smallest number from `from` on that is not in the set. */
uint64_t ranges_gap(const struct ranges *ranges, uint64_t from);
/* Takes every number up to last out. */
void ranges_drop(struct ranges *ranges, uint64_t last);
/* n such that 1..n are all in the set; 0 if 1 is not. */
uint64_t ranges_prefix(const struct ranges *ranges);

#endif

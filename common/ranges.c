/*
 * ranges: sorted disjoint ranges of numbers.
 * Knows nothing of what the numbers mean.
 * Start at ranges_add.
 */
#include "common/ranges.h"

#include <stdlib.h>
#include <string.h>

#include "common/check.h"

void ranges_fini(struct ranges *ranges)
{
    free(ranges->at);
    *ranges = (struct ranges){0};
}

void ranges_clear(struct ranges *ranges)
{
    ranges->count = 0;
}

/* Index of the first range that ends at or behind number; count if there is none. New numbers are mostly the highest.
 */
static size_t ranges_find(const struct ranges *ranges, uint64_t number)
{
    size_t low = 0;
    size_t high = ranges->count;
    if (high > 0 && ranges->at[high - 1].last < number) {
        return high;
    }
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (ranges->at[middle].last < number) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

void ranges_reserve(struct ranges *ranges, size_t count)
{
    if (count > ranges->cap) {
        size_t twice = ranges->cap == 0 ? 8 : ranges->cap * 2;
        ranges->cap = count > twice ? count : twice;
        ranges->at = xrealloc(ranges->at, ranges->cap * sizeof(*ranges->at));
    }
}

static void ranges_insert(struct ranges *ranges, size_t index, struct range range)
{
    ranges_reserve(ranges, ranges->count + 1);
    memmove(&ranges->at[index + 1], &ranges->at[index], (ranges->count - index) * sizeof(*ranges->at));
    ranges->at[index] = range;
    ranges->count++;
}

/* True: the range that grew last ended right before first, and has grown. */
static bool ranges_grow(struct ranges *ranges, uint64_t first, uint64_t last)
{
    if (ranges->grown >= ranges->count) {
        return false;
    }
    struct range *range = &ranges->at[ranges->grown];
    bool is_last = ranges->grown + 1 == ranges->count;
    bool grows =
        first > 0 && range->last == first - 1 && (is_last || (range[1].first > last && range[1].first - last > 1));
    range->last = grows ? last : range->last;
    return grows;
}

void ranges_add(struct ranges *ranges, uint64_t first, uint64_t last)
{
    CHECK(first <= last);
    if (ranges_grow(ranges, first, last)) {
        return;
    }
    /* A range that ends right before first is merged too. */
    size_t index = ranges_find(ranges, first == 0 ? 0 : first - 1);
    size_t end = index;
    ranges->grown = index;
    while (end < ranges->count && (last == UINT64_MAX || ranges->at[end].first <= last + 1)) {
        first = ranges->at[end].first < first ? ranges->at[end].first : first;
        last = ranges->at[end].last > last ? ranges->at[end].last : last;
        end++;
    }
    if (end == index) {
        ranges_insert(ranges, index, (struct range){first, last});
        return;
    }
    ranges->at[index] = (struct range){first, last};
    memmove(&ranges->at[index + 1], &ranges->at[end], (ranges->count - end) * sizeof(*ranges->at));
    ranges->count -= end - index - 1;
}

const struct range *ranges_around(const struct ranges *ranges, uint64_t number)
{
    size_t index = ranges_find(ranges, number);
    return index < ranges->count && ranges->at[index].first <= number ? &ranges->at[index] : NULL;
}

bool ranges_has(const struct ranges *ranges, uint64_t number)
{
    return ranges_around(ranges, number) != NULL;
}

uint64_t ranges_gap(const struct ranges *ranges, uint64_t from)
{
    size_t index = ranges_find(ranges, from);
    bool is_in = index < ranges->count && ranges->at[index].first <= from;
    return is_in ? ranges->at[index].last + 1 : from;
}

void ranges_drop(struct ranges *ranges, uint64_t last)
{
    size_t count = ranges_find(ranges, last);
    if (count < ranges->count && ranges->at[count].last == last) {
        count++;
    } else if (count < ranges->count && ranges->at[count].first <= last) {
        ranges->at[count].first = last + 1;
    }
    if (count > 0) {
        ranges->count -= count;
        memmove(&ranges->at[0], &ranges->at[count], ranges->count * sizeof(*ranges->at));
    }
}

uint64_t ranges_prefix(const struct ranges *ranges)
{
    return ranges->count > 0 && ranges->at[0].first <= 1 ? ranges->at[0].last : 0;
}

/*
 * fuzz_ranges.c owns the comparison of sets of ranges with a plain table of bits, change by change.
 * It must not know what the numbers are.
 * Start reading at LLVMFuzzerTestOneInput.
 */
#include "common/check.h"
#include "common/ranges.h"
#include "fuzz/input.h"

#define NUMBER_COUNT 256u

static void set_check(const struct ranges *ranges, const bool *has, uint64_t base)
{
    for (unsigned i = 0; i < NUMBER_COUNT; i++) {
        CHECK(ranges_has(ranges, base + i) == has[i]);
    }
    for (size_t i = 0; i < ranges->count; i++) {
        CHECK(ranges->at[i].first <= ranges->at[i].last);
        CHECK(i == 0 || ranges->at[i - 1].last + 1 < ranges->at[i].first);
    }
}

static void question_check(const struct ranges *ranges, const bool *has, uint64_t base, unsigned at)
{
    unsigned gap = at;
    while (gap < NUMBER_COUNT && has[gap]) {
        gap++;
    }
    CHECK(gap == NUMBER_COUNT || ranges_gap(ranges, base + at) == base + gap);
    const struct range *around = ranges_around(ranges, base + at);
    CHECK((around != NULL) == has[at]);
    CHECK(around == NULL || (around->first <= base + at && base + at <= around->last));
}

static void prefix_check(const struct ranges *ranges)
{
    uint64_t prefix = ranges_prefix(ranges);
    CHECK(prefix == UINT64_MAX || !ranges_has(ranges, prefix + 1));
    CHECK(prefix == 0 || (ranges_has(ranges, 1) && ranges_has(ranges, prefix)));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint64_t bases[] = {0, 1, UINT32_MAX - 100u, INT64_MAX - 100u, UINT64_MAX - (NUMBER_COUNT - 1)};
    struct input input = input_of(data, size);
    uint64_t base = bases[input_below(&input, 5)];
    struct ranges ranges = {0};
    bool has[NUMBER_COUNT] = {false};
    while (input.left > 0) {
        unsigned what = input_u8(&input);
        unsigned a = input_u8(&input);
        unsigned b = a + what / 8;
        b = b < NUMBER_COUNT ? b : NUMBER_COUNT - 1;
        if (what % 8 == 0) {
            ranges_drop(&ranges, base + a);
            memset(has, 0, a + 1);
        } else if (what % 8 == 1) {
            ranges_reserve(&ranges, a);
        } else {
            ranges_add(&ranges, base + a, base + b);
            memset(has + a, 1, b - a + 1);
        }
        set_check(&ranges, has, base);
        question_check(&ranges, has, base, a);
        prefix_check(&ranges);
    }
    ranges_fini(&ranges);
    return 0;
}

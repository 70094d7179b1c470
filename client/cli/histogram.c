/*
 * Owns the order of buckets: the first 128 are single microseconds, then 128 for each doubling.
 * Must not know what was timed. Start at bucket_of.
 */
#include "client/cli/histogram.h"
#include <math.h>

#define STEP_COUNT (1u << HISTOGRAM_STEP_BITS)

static unsigned bucket_of(uint64_t us)
{
    if (us < STEP_COUNT) {
        return (unsigned)us;
    }
    unsigned shift = 63u - (unsigned)__builtin_clzll(us) - HISTOGRAM_STEP_BITS;
    return (shift << HISTOGRAM_STEP_BITS) + (unsigned)(us >> shift);
}

/* The longest duration that falls into it. */
static int64_t bucket_end_us(unsigned bucket)
{
    if (bucket < STEP_COUNT) {
        return bucket;
    }
    unsigned shift = (bucket >> HISTOGRAM_STEP_BITS) - 1;
    uint64_t step = (bucket & (STEP_COUNT - 1)) + STEP_COUNT;
    return (int64_t)(((step + 1) << shift) - 1);
}

void histogram_add(struct histogram *histogram, int64_t us)
{
    us = us < 0 ? 0 : us > HISTOGRAM_US_MAX ? HISTOGRAM_US_MAX : us;
    histogram->buckets[bucket_of((uint64_t)us)]++;
    histogram->count++;
    histogram->max_us = us > histogram->max_us ? us : histogram->max_us;
}

void histogram_merge(struct histogram *to, const struct histogram *from)
{
    for (unsigned i = 0; i < HISTOGRAM_BUCKET_COUNT; i++) {
        to->buckets[i] += from->buckets[i];
    }
    to->count += from->count;
    to->max_us = from->max_us > to->max_us ? from->max_us : to->max_us;
}

int64_t histogram_percentile_us(const struct histogram *histogram, double percent)
{
    uint64_t rank = (uint64_t)ceil((double)histogram->count * percent / 100.0);
    uint64_t below = 0;
    for (unsigned i = 0; i < HISTOGRAM_BUCKET_COUNT; i++) {
        below += histogram->buckets[i];
        if (below >= rank && below > 0) {
            int64_t end_us = bucket_end_us(i);
            return end_us < histogram->max_us ? end_us : histogram->max_us;
        }
    }
    return 0;
}

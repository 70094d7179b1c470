/*
 * Durations by frequency: buckets whose width grows with the value, so that any percentile of any number of durations
 * is exact to 1/128 in 32 KiB (the scheme of HDR histograms). Must not know what was timed.
 */
#ifndef QUERN_CLI_HISTOGRAM_H
#define QUERN_CLI_HISTOGRAM_H

#include <stdint.h>

#define HISTOGRAM_STEP_BITS 7u /* every doubling has 128 buckets */
#define HISTOGRAM_VALUE_BITS 36u
#define HISTOGRAM_US_MAX ((INT64_C(1) << HISTOGRAM_VALUE_BITS) - 1) /* 19 hours; what is longer counts as this */
#define HISTOGRAM_BUCKET_COUNT ((HISTOGRAM_VALUE_BITS - HISTOGRAM_STEP_BITS + 1) << HISTOGRAM_STEP_BITS)

struct histogram {
    uint64_t count;
    int64_t max_us;
    uint64_t buckets[HISTOGRAM_BUCKET_COUNT];
};

/* Less than 0 counts as 0. */
void histogram_add(struct histogram *histogram, int64_t us);
void histogram_merge(struct histogram *to, const struct histogram *from);
/* The smallest duration that so many percent (above 0, to 100) of all do not exceed; 0 if there are none. */
int64_t histogram_percentile_us(const struct histogram *histogram, double percent);

#endif

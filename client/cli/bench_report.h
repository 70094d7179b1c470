/*
 * What `quern bench` prints: the figures of its phases and what they depend on. Must not know how they were taken.
 */
#ifndef QUERN_CLI_BENCH_REPORT_H
#define QUERN_CLI_BENCH_REPORT_H

#include "client/cli/histogram.h"
#include "common/bytes.h"

/* What the broker wrote; all 0 for a volatile session. */
struct store_figures {
    uint64_t batches;
    uint64_t rows;
    uint64_t syncs;
    uint64_t sync_us;
};

struct phase {
    int64_t tasks;
    int64_t took_us;
    struct histogram times;
    struct store_figures store;
};

struct bench_report {
    const char *broker_version;
    bool is_volatile;
    unsigned cpus; /* this process may use */
    uint64_t slots;
    int64_t clients;
    int64_t payload_size; /* 0: numbers */
    int64_t depth;        /* 0: unbounded */
    double rate;          /* per second; 0: as fast as it goes */
    int64_t warm_up;
    struct phase alone; /* one task at a time */
    struct phase all;
};

void put_bench_json(struct buf *to, const struct bench_report *report);
void put_bench_text(struct buf *to, const struct bench_report *report);

#endif

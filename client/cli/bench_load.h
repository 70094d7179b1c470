/*
 * The load of one client of `quern bench`: tasks that are submitted, taken back and checked, each timed. Must not know
 * phases, or how figures are printed. A load belongs to one thread.
 */
#ifndef QUERN_CLI_BENCH_LOAD_H
#define QUERN_CLI_BENCH_LOAD_H

#include "client/cli/cli.h"
#include "client/cli/histogram.h"

/* The function that is called: square of a number; or, with a payload, echo of bytes that begin with the number. */
const char *load_function(size_t payload_size);

struct load {
    struct quern_client *client;
    size_t payload_size;  /* 0: square */
    int64_t tasks;        /* to be done now */
    int64_t depth;        /* at most so many outstanding; 0: as many as the session may */
    double interval_us;   /* between two submits, however late the answers are; 0: as fast as it goes */
    struct histogram *to; /* from when a task was due, or else from its submit, to its result */
    /* of the present run */
    int64_t begun_us;
    int64_t submitted;
    int64_t done;
    int64_t *times_us; /* when each began */
    uint8_t *seen;     /* by number: each must come once */
    uint8_t *payload;
    struct buf args;
};

/* Its tasks once, in the present thread. STATUS_OK when all are back and right; else said. */
int load_run(struct load *load);

#endif

/*
 * flight.h: a page in a file that says what the broker was about, readable after it was killed: which batch was open,
 * which was in commit, and how much was in them. Off unless the configuration names a file (broker/flight-recorder).
 * For finding out after a crash, and for tests that must know what a kill hit. Loop thread only; never blocks.
 */
#ifndef QUERN_BROKER_FLIGHT_H
#define QUERN_BROKER_FLIGHT_H

#include <stdint.h>

#include "broker/core.h"

#define FLIGHT_MAGIC UINT64_C(0x7468676c66717231) /* "1rqflght" */

/* The page: 64-bit numbers of this machine's byte order, in this order. */
struct flight {
    uint64_t magic;
    uint64_t pid;
    uint64_t epoch;
    uint64_t committed;      /* number of the newest batch known to be on disk */
    uint64_t open_rows;      /* marked rows of the open batch */
    uint64_t open_collapsed; /* tasks in it that were submitted and finished within it */
    uint64_t commit_rows;    /* rows of the batch in commit, 0 if none is */
    uint64_t commit_collapsed;
};

/* Create or overwrite the file. QUERN_IO: it cannot be made; *why_out: malloc'd sentence. */
QUERN_MUST_USE enum quern_err flight_open(const char *path, uint32_t epoch, struct flight **flight_out, char **why_out);
void flight_close(struct flight **flight); /* NULL is fine; the file stays */

/* in_commit: NULL if no batch is. flight: NULL does nothing. */
void flight_note(struct flight *flight, const struct core *core, const struct batch *in_commit);

#endif

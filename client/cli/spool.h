/*
 * A file without a name in $TMPDIR that holds what must not fill the memory: records (a number and two texts), in the
 * order they were put, and taken from the front or by their place. Must not know what they are for.
 */
#ifndef QUERN_CLI_SPOOL_H
#define QUERN_CLI_SPOOL_H

#include "common/bytes.h"

struct spool {
    int fd; /* -1 before the first record */
    uint64_t front;
    uint64_t end;
    struct buf scratch; /* the record read last */
};

struct spool_record {
    uint64_t number;
    struct bytes first; /* valid until the next call */
    struct bytes second;
};

void spool_init(struct spool *spool);
void spool_fini(struct spool *spool);
bool spool_is_empty(const struct spool *spool);
/* False if the file cannot be made or written (errno). */
bool spool_put(struct spool *spool, uint64_t number, struct bytes first, struct bytes second, uint64_t *place_out);
/* The record at a place; the front one is at spool->front. False if it cannot be read. */
bool spool_read(struct spool *spool, uint64_t place, struct spool_record *record_out);
/* Reads the front record and moves on. */
bool spool_take(struct spool *spool, struct spool_record *record_out);

/* Gives the disk space of a record that was read by its place back. */
void spool_forget(struct spool *spool, uint64_t place, uint64_t size);

#endif

/*
 * Arguments of items that are under way and too large for the broker to send back with the outcome: by ordinal, in a
 * spool. Must not know how they are printed.
 */
#ifndef QUERN_CLI_INPUTS_H
#define QUERN_CLI_INPUTS_H

#include "client/cli/spool.h"
#include "common/map.h"

/* Smaller arguments come back with the outcome: the broker keeps those of up to 4 KiB unless its configuration says
 * otherwise (limits/args_keep_size). */
#define INPUTS_SIZE_MIN 1024u

struct inputs {
    struct spool spool;
    struct map places; /* ordinal -> place + 1 in the spool */
};

void inputs_init(struct inputs *inputs);
void inputs_fini(struct inputs *inputs);
/* Keeps them if they are large. False if the file cannot be written (errno). */
bool inputs_put(struct inputs *inputs, uint64_t ordinal, struct bytes args);
/* None if they were not kept. Valid until the next call. */
struct bytes inputs_take(struct inputs *inputs, uint64_t ordinal);

#endif

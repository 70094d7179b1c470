/* params.h: the parameters of queries, as they come from outside: one map for all of them. Inside the core only. */
#ifndef QUERN_BROKER_PARAMS_H
#define QUERN_BROKER_PARAMS_H

#include "common/bytes.h"
#include "common/output.h"

struct params {
    uint64_t id;
    uint64_t limit;
    uint64_t after;
    uint64_t completion;
    uint64_t attempt;
    uint64_t known[OUTPUT_STREAM_COUNT];
    bool wait;
    bool ack;
    struct bytes state;
    struct bytes cause;
    struct bytes session;
    struct bytes file;
};

/* False: a key that is not known, or a value of the wrong kind. A map that is missing is an empty one. */
bool params_read(struct bytes map, struct params *params);

#endif

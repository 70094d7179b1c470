/*
 * example.h: what the examples share: ending with a sentence when a call fails, opening a pool of one's own, one
 * integer as arguments, one integer or number out of a result.
 */
#ifndef QUERN_EXAMPLE_H
#define QUERN_EXAMPLE_H

#include <inttypes.h>
#include <quern/pool.h>
#include <quern/value.h>
#include <stdio.h>
#include <stdlib.h>

/* Every call says what went wrong, to what, and what to do about it. */
static inline void must(enum quern_err err)
{
    if (err != QUERN_OK) {
        fprintf(stderr, "%s\n", quern_last_error());
        exit(1);
    }
}

/* A loop over what comes has ended: because all has come, or by an error. */
static inline void must_be_end(enum quern_err err)
{
    if (err != QUERN_END) {
        must(err);
    }
}

static inline struct quern_pool *pool_of(unsigned slots)
{
    struct quern_pool_options options = QUERN_POOL_OPTIONS_INIT;
    struct quern_pool *pool;

    options.slots = slots;
    must(quern_pool_open(&options, &pool));
    return pool;
}

/* Submit function(x). */
static inline struct quern_future *submit_i64(struct quern_client *client, const char *function, int64_t x)
{
    struct quern_writer *args = quern_writer_new();
    struct quern_call call = QUERN_CALL_INIT;
    struct quern_future *future;

    quern_write_array(args, 1);
    quern_write_i64(args, x);
    call.function = function;
    quern_writer_bytes(args, &call.args, &call.args_size);
    must(quern_submit(client, &call, &future, NULL));
    quern_writer_free(args);
    return future;
}

static inline int64_t outcome_i64(const struct quern_outcome *outcome)
{
    struct quern_reader reader;
    int64_t value;

    quern_reader_init(&reader, outcome->result, outcome->result_size);
    must(quern_read_i64(&reader, &value));
    return value;
}

/* Wait for a result that is one integer. */
static inline int64_t result_i64(struct quern_future *future)
{
    struct quern_outcome *outcome;

    must(quern_future_result(future, QUERN_FOREVER, &outcome));
    int64_t value = outcome_i64(outcome);
    quern_outcome_release(&outcome);
    return value;
}

#endif

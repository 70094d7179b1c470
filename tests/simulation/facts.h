/*
 * facts: what the oracle's files know of the world: every submit with its attempts and its fate, every session.
 * Knows world.h. Start at struct job.
 */
#ifndef QUERN_TESTS_FACTS_H
#define QUERN_TESTS_FACTS_H

#include "common/map.h"
#include "oracle.h"

#define TAKER_COUNT_MAX 8u

/* One dispatch of one task. */
struct
try {
    struct token token;
    uint64_t starter; /* serial of the worker that started it */
    bool is_started;
    bool is_returned;
    bool is_let_go; /* dropped, or its receipt has come */
    bool is_handed_in;
    enum finished_state end;
    enum cause cause;
};

/* One submit, whatever becomes of it. */
struct job {
    uint64_t id;
    char work[64];
    struct spec spec;
    uint64_t session;
    int64_t submitted_at;
    int64_t not_before;
    bool is_volatile; /* of a volatile session: never on disk; its fate is what was sent first */
    bool is_named;
    uint32_t epoch;   /* in which it was submitted */
    bool is_lost;     /* a client takes it for lost */
    bool is_accepted; /* a client has read it */
    bool is_cancelling;
    bool was_stored;
    struct try *tries;
    size_t try_count;
    size_t try_cap;
    unsigned starts;
    bool has_fate; /* its outcome is on disk */
    uint64_t completion;
    uint32_t state;
    uint32_t cause;
    uint32_t fate_epoch;
    uint64_t fate_hash;
    uint64_t acked_at; /* batches on disk when its acknowledgement was; 0 not yet */
    uint64_t takers[TAKER_COUNT_MAX];
    size_t taker_count;
};

/* What is known of a session. */
struct ledger {
    uint64_t id;
    bool is_gone; /* deleted on disk */
    bool is_volatile;
    bool is_closing;
    uint32_t epoch; /* of a volatile one */
    uint64_t completion_last;
    struct job **by_completion; /* index completion - 1 */
    size_t completion_cap;
    uint64_t *by_ordinal; /* task, index ordinal */
    size_t ordinal_cap;
};

struct oracle {
    struct map jobs;
    struct map ledgers;
    struct map cancels; /* tasks that somebody has asked to cancel, also before they were submitted */
    struct oracle_counts counts;
    uint64_t series_last; /* the highest number of a series on disk, ever */
};

struct job *job_of(const struct world *world, uint64_t task); /* NULL: never submitted */
struct ledger *ledger_of(struct world *world, uint64_t session);
struct try *try_of(struct job *job, struct token token); /* NULL: never dispatched so */

uint64_t fate_hash(uint32_t state, uint32_t cause, struct bytes result, struct bytes kind, struct bytes message);
/* Its outcome holds from now on; stops the world if it may not be that one. */
void fate_note(struct world *world, struct job *job, const struct outcome_row *row);

#endif

/*
 * journal.h: the one thread that owns the store. It commits one batch at a time; between batches it answers loads, and
 * long listings in slices, so that no commit waits for a query longer than a slice.
 *
 * Threads: everything here is called by the loop thread. Batches are borrowed from journal_commit until their
 * JOURNAL_COMMITTED comes out of journal_next; loads are taken.
 * Failure: STORE_UNKNOWN or STORE_FENCED ends the process with status 70, from the journal thread, before anything else
 * is said (fail-stop: nobody is answered, the restart recovers). STORE_FULL keeps the batch, waits and tries again.
 */
#ifndef QUERN_BROKER_JOURNAL_H
#define QUERN_BROKER_JOURNAL_H

#include "broker/core.h"

#define EXIT_STORE_FAILURE 70

struct journal;

enum journal_event_kind {
    JOURNAL_COMMITTED, /* batch number */
    JOURNAL_LOADED,    /* loaded: journal_loaded_free it */
    JOURNAL_STATS,     /* about once a second while there is something to do, and at the start */
};

struct journal_event {
    enum journal_event_kind kind;
    uint64_t batch;
    struct loaded *loaded;
    struct store_stats stats;
};

/* Takes the store (loaded already). NULL: a broker without one. Then there is no thread and no disk: a batch counts as
 * committed when it comes, loads find nothing, and there are no stats. */
struct journal *journal_open(struct store **store, uint32_t epoch);
/* Waits for the batch in commit, ends the thread, closes the store (clean: marks the end clean). */
void journal_close(struct journal **journal, bool is_clean);

/* Readable when journal_next may have something. */
int journal_fd(const struct journal *journal);
bool journal_next(struct journal *journal, struct journal_event *event_out);
void journal_loaded_free(struct loaded **loaded);

/* True when no batch is in commit. */
bool journal_is_idle(const struct journal *journal);
/* Only while idle. */
void journal_commit(struct journal *journal, const struct batch *batch);
void journal_load(struct journal *journal, struct load **load);

#endif

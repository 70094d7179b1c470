/*
 * oracle: sees everything in the world and stops it when a promise is broken. It knows what was really submitted, run
 * and taken, and what is on disk; never the core's insides. Start at oracle_sent (what the broker says must rest on
 * disk) and oracle_after_apply (what the disk says must be true).
 */
#ifndef QUERN_TESTS_ORACLE_H
#define QUERN_TESTS_ORACLE_H

#include "world.h"

struct oracle *oracle_new(struct world *world);
void oracle_free(struct oracle **oracle);

/* It leaves the client under this id. */
void oracle_submitted(struct world *world, const struct client *client, const struct piece *submit, uint64_t id);
void oracle_accepted(struct world *world, uint64_t task);
void oracle_cancelling(struct world *world, uint64_t task);
/* Somebody asks for the end of the session: its outcomes need not be taken. */
void oracle_closing(struct world *world, uint64_t session);
/* A client of a volatile session takes this accepted task for lost. */
void oracle_lost(struct world *world, const struct client *client, uint64_t task);
void oracle_started(struct world *world, const struct worker *worker, const struct held *held);
void oracle_handed_in(struct world *world, const struct worker *worker, const struct held *held);
/* A worker says that it holds this attempt no more and never started it. */
void oracle_returned(struct world *world, const struct worker *worker, struct token token);
/* A worker has been told to drop it, or has the receipt. */
void oracle_let_go(struct world *world, struct token token);
/* A HELLO lists what a worker holds. */
void oracle_listed(struct world *world, const struct worker *worker, struct list held);
void oracle_taken(struct world *world, const struct client *client, const struct took *took);
/* A broker process began: what the last one knew and had not stored is gone. */
void oracle_restarted(struct world *world);
void oracle_before_apply(struct world *world, const struct change *changes, size_t count);
void oracle_after_apply(struct world *world, const struct change *changes, size_t count);
/* A frame leaves the broker. */
void oracle_sent(struct world *world, struct wire *wire, struct bytes frame);

/* At the end, when faults have stopped: is there an accepted task without outcome, or an outcome not taken? */
bool oracle_is_drained(struct world *world, bool explain);
/* Counts, for reports and for tests that something happened at all. */
struct oracle_counts {
    uint64_t submitted, accepted, outcomes, lost, done, failed, cancelled, taken, starts, restarts, tokens, receipts,
        dispatches, refused_full, refused_disk;
};
struct oracle_counts oracle_counts(const struct world *world);
unsigned oracle_starts(const struct world *world, uint64_t task);  /* attempts of it that really started */
bool oracle_has_outcome(const struct world *world, uint64_t task); /* on disk, ever */

#endif

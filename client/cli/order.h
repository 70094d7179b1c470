/*
 * Puts what finished in any order back into the order of the input. Entries are promised in rising order (their place
 * in the input), arrive later in any order, and come out in the promised one. What was accepted by an earlier run was
 * promised there: how much of it is still to come is known, not which; it comes out sorted once all of it has arrived.
 * Bounded by the window of its user: promised and not taken. Must not know outcomes.
 */
#ifndef QUERN_CLI_ORDER_H
#define QUERN_CLI_ORDER_H

#include "common/heap.h"
#include <stdint.h>

struct order_entry {
    size_t index; /* of the heap */
    uint64_t ordinal;
    void *item;
};

struct order {
    struct heap arrived;
    uint64_t *promised; /* a ring */
    size_t promised_first;
    size_t promised_count;
    size_t promised_cap;
    uint64_t earlier_high; /* ordinals up to here were promised by earlier runs */
    uint64_t earlier_left; /* that many of them are still to arrive */
};

void order_init(struct order *order, uint64_t earlier_high, uint64_t earlier_left);
/* The items must have been taken out before. */
void order_fini(struct order *order);
void order_promise(struct order *order, uint64_t ordinal);
/* is_earlier: one of those that earlier_left counts. */
void order_arrive(struct order *order, uint64_t ordinal, void *item, bool is_earlier);
/* Nothing of the earlier runs comes any more. */
void order_earlier_end(struct order *order);
/* The next that is due, or NULL. */
void *order_take(struct order *order, uint64_t *ordinal_out);
/* Anything that arrived, due or not; NULL at the end. */
void *order_drain(struct order *order);

#endif

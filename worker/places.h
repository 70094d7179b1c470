/*
 * places.h: how many slots may run at once, and which task may start on a free one, while others wait inside their
 * handlers. Pure.
 *
 * A slot that waits gives its place to another. What it waits for stands deeper than its own task as a rule (it has
 * submitted it), so what is deeper than everything that waits always gets a place: the deepest that waits can go on
 * then, and by it the others, one after the other. Everything else gets one only as far as it costs nothing: the slots
 * that may wait are few, and a crowd of roots that start and wait would use them up.
 *
 *   total = running + waiting          who may start, with one place free
 *   below the number of slots          any task
 *   from there on                      what is deeper than all that wait; as fewer may still wait, fewer at once
 *   ... and below places_root_max      any task
 *   nothing moved for a while          any task: perhaps it is what is waited for
 */
#ifndef QUERN_WORKER_PLACES_H
#define QUERN_WORKER_PLACES_H

#include <stdbool.h>

/* While nothing moves for this long, what is not deeper may start too. */
#define PLACES_PATIENCE_MS 500

struct places {
    unsigned slots;   /* as configured */
    unsigned running; /* slots that have a task and do not wait */
    unsigned waiting; /* slots whose handler waits */
    unsigned deepest; /* depth of the deepest task that waits */
    bool is_stuck;    /* nothing moved for PLACES_PATIENCE_MS */
    bool is_alone;    /* what runs wants nothing beside it (and does not wait) */
};

/* Slots that may wait at once: WORKER_WAITING_COUNT_MAX, or twice as many as there are. */
unsigned places_waiting_max(unsigned slots);
bool places_may_wait(const struct places *places);
/* May a task of this depth start on an idle slot? */
bool places_may_start(const struct places *places, unsigned depth);
/* While some wait: how many more that are deeper than all of them may start. */
unsigned places_room(const struct places *places);
/* With is_alone: the same for one that wants nothing beside it. What waits inside its handler is not beside it. */
bool places_may_start_alone(const struct places *places);
/* Slots to keep alive. */
unsigned places_slots(const struct places *places);
/* The most there will ever be, with so many configured. */
unsigned places_slots_max(unsigned slots);

#endif

/*
 * place.c owns who holds the place of this process's slot: the handler's thread, or nobody while that waits.
 * It must not know slots, tasks or clients; whoever calls it does not know the others.
 * Start reading at quern_place_give.
 */
#include "common/place.h"

#include "common/door.h"

#include <stdatomic.h>
#include <stddef.h>
#include <unistd.h>

/* Depth of the running task + 1; 0: none runs. */
static atomic_uint depth_next;

static _Thread_local struct {
    const struct place *place; /* NULL: no handler runs in this thread */
    const struct place *known; /* the last one, of this process: a child that the handler forks is no slot */
    pid_t pid;
    unsigned given; /* how many waits, one within the other, gave it */
} here;

void quern_place_begin(const struct place *place, unsigned depth)
{
    here.place = place;
    if (here.known != place) { /* once in a slot's life */
        here.known = place;
        here.pid = getpid();
    }
    here.given = 0;
    atomic_store_explicit(&depth_next, depth + 1, memory_order_relaxed);
}

void quern_place_end(void)
{
    if (here.given > 0) {
        here.given = 1;
        quern_place_take();
    }
    here.place = NULL;
    atomic_store_explicit(&depth_next, 0, memory_order_relaxed);
}

unsigned quern_place_depth(void)
{
    unsigned depth = atomic_load_explicit(&depth_next, memory_order_relaxed);
    return depth > 0 ? depth : door_depth();
}

/* What this thread can give; NULL: nothing. */
static const struct place *place_here(void)
{
    return here.place == NULL ? door_place() : here.pid == getpid() ? here.place : NULL;
}

bool quern_place_give(int64_t deadline_ms)
{
    const struct place *place = place_here();
    if (place == NULL) {
        return true;
    }
    if (here.given == 0 && !place->give(place->self, deadline_ms)) {
        return false;
    }
    here.given++;
    return true;
}

void quern_place_take(void)
{
    const struct place *place = place_here();
    if (place == NULL || here.given == 0) {
        return;
    }
    if (--here.given == 0) {
        place->take(place->self);
    }
}

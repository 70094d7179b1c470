/*
 * places.c owns who may run while others wait.
 * It must not know slots, attempts or clocks.
 * Start reading at places_may_start.
 */
#include "worker/places.h"

#include "common/limits.h"

/* The last so many that may wait are for one task after the other, each deeper than the one before. */
#define PLACES_RESERVE_COUNT (WORKER_WAITING_COUNT_MAX / 4)

static unsigned smaller(unsigned a, unsigned b)
{
    return a < b ? a : b;
}

static unsigned larger(unsigned a, unsigned b)
{
    return a > b ? a : b;
}

unsigned places_waiting_max(unsigned slots)
{
    return larger(WORKER_WAITING_COUNT_MAX, 2 * slots);
}

bool places_may_wait(const struct places *places)
{
    return places->waiting < places_waiting_max(places->slots);
}

/* How many may still come to wait beyond the reserve. */
static unsigned room(const struct places *places)
{
    unsigned used = places->waiting + PLACES_RESERVE_COUNT;
    unsigned max = places_waiting_max(places->slots);
    return used < max ? max - used : 0;
}

/* Of what is deeper, so many run at once: all of them, and as the room ends, one. */
static unsigned width(const struct places *places)
{
    return larger(1, smaller(places->slots, room(places)));
}

static unsigned root_max(unsigned slots)
{
    return larger(slots, smaller(2 * slots, WORKER_WAITING_COUNT_MAX / 2));
}

bool places_may_start(const struct places *places, unsigned depth)
{
    unsigned total = places->running + places->waiting;
    if (places->is_alone || places->running >= places->slots) {
        return false;
    }
    if (total < root_max(places->slots) || places->waiting == 0) {
        return true;
    }
    if (depth > places->deepest) {
        return places->running < width(places);
    }
    return places->is_stuck && places->running == 0 && room(places) > 0;
}

unsigned places_room(const struct places *places)
{
    unsigned most = places->running + places->waiting < root_max(places->slots) ? places->slots : width(places);
    return places->is_alone || places->running >= most ? 0 : most - places->running;
}

bool places_may_start_alone(const struct places *places)
{
    return !places->is_alone && places->running == 0;
}

unsigned places_slots(const struct places *places)
{
    return places->waiting == 0                              ? places->slots
           : places->waiting + width(places) > places->slots ? places->waiting + width(places)
                                                             : places->slots;
}

unsigned places_slots_max(unsigned slots)
{
    return slots + places_waiting_max(slots);
}

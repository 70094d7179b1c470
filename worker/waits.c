/*
 * waits.c owns the answers to slots whose handlers want to wait, and who is counted as waiting.
 * It must not know what they wait for, nor what runs in their places.
 * Start reading at waits_look; who may run meanwhile is decided in places.c.
 */
#include "worker/supervisor_private.h"

static void count_waiting(struct places *places, struct slot *slot)
{
    const struct attempt *front = slot_front(slot);
    slot->is_waiting = true;
    places->waiting++;
    if (front != NULL && front->depth > places->deepest) {
        places->deepest = front->depth;
    }
}

static void count(struct places *places, struct slot *slot)
{
    slot->is_waiting = false;
    if (place_read(slot->page) == PLACE_GIVEN) {
        count_waiting(places, slot);
    } else if (slot_front(slot) != NULL) {
        places->running++;
        places->is_alone = places->is_alone || slot_front(slot)->is_alone;
    }
}

/* What was handed to it behind the one that waits goes back: somebody else has the place. */
static void answer(struct supervisor *supervisor, struct slot *slot)
{
    struct places *places = &supervisor->places;
    (void)slot_read(slot, &supervisor->yard);
    bool is_given = places_may_wait(places);
    wait_answer(slot->page, is_given);
    if (is_given) {
        slot_revoke_all(slot, &supervisor->yard);
        places->running--;
        places->is_alone = false; /* what it waits for may be beside it */
        count_waiting(places, slot);
    } else {
        log_event(LOG_DEBUG, "a task cannot wait", "pid=%d waiting=%u", slot->pid, places->waiting);
    }
}

void waits_look(struct supervisor *supervisor)
{
    struct places *places = &supervisor->places;
    *places = (struct places){.slots = places->slots};
    for (size_t i = 0; i < supervisor->slot_count; i++) {
        if (supervisor->slots[i].state == SLOT_LIVE) {
            count(places, &supervisor->slots[i]);
        }
    }
    for (size_t i = 0; i < supervisor->slot_count; i++) {
        struct slot *slot = &supervisor->slots[i];
        if (slot->state == SLOT_LIVE && place_read(slot->page) == PLACE_ASKED && slot_front(slot) != NULL) {
            answer(supervisor, slot);
        }
    }
    places->is_stuck = places->waiting > 0 && places->running == 0 &&
                       supervisor->now_us >= supervisor->handed_us + PLACES_PATIENCE_MS * 1000;
}

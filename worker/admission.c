/*
 * admission.c owns what a worker does while its host is short of memory: nothing new starts, what has not started goes
 * back after a short while, the broker and the log are told. What runs goes on.
 * It must not know how memory is looked at (floor.c).
 * Start reading at admission_look.
 *
 * A worker on a host that stays short waits for ever, and says so. There is one exception, so that it never waits for
 * itself: when everything that runs here only waits for other tasks, these may start, one at a time.
 */
#include "common/log.h"
#include "worker/supervisor_private.h"

static void tell_change(const struct floor *floor)
{
    if (floor->is_short) {
        log_event(LOG_WARN, "free memory is below its floor: nothing new starts", "free_mib=%llu floor_mib=%llu",
                  (unsigned long long)(floor->free / MIB), (unsigned long long)(floor->size / MIB));
    } else {
        log_event(LOG_INFO, "free memory is above its floor again", "free_mib=%llu floor_mib=%llu",
                  (unsigned long long)(floor->free / MIB), (unsigned long long)(floor->size / MIB));
    }
}

/* What slots hold that they have not begun would start without asking us. */
static void revoke_all(struct supervisor *supervisor)
{
    for (size_t i = 0; i < supervisor->slot_count; i++) {
        if (supervisor->slots[i].state == SLOT_LIVE) {
            slot_revoke_all(&supervisor->slots[i], &supervisor->yard);
        }
    }
}

bool admission_is_needed(const struct supervisor *supervisor, const struct attempt *attempt)
{
    return supervisor->places.waiting > 0 && attempt->depth > supervisor->places.deepest;
}

static bool only_waits(const struct supervisor *supervisor)
{
    return supervisor->places.waiting > 0 && supervisor->places.running == 0;
}

/* The newest first: they go again in the order of their submits. */
static void return_waiting(struct supervisor *supervisor)
{
    struct attempt *before;
    for (struct attempt *attempt = supervisor->ledger.waiting.last; attempt != NULL; attempt = before) {
        before = attempt->prev;
        if (!admission_is_needed(supervisor, attempt)) {
            ledger_return(&supervisor->ledger, &attempt);
        }
    }
}

int64_t admission_look(struct supervisor *supervisor)
{
    struct floor *floor = &supervisor->floor;
    int64_t now_ms = supervisor->now_us / 1000;
    /* Looked at only while something is to start, or until what is short is short no more. */
    if ((floor->is_short || supervisor->ledger.waiting.first != NULL) && floor_look(floor, now_ms)) {
        tell_change(floor);
        if (floor->is_short) {
            revoke_all(supervisor);
        }
    }
    if (!floor->is_short) {
        return INT64_MAX;
    }
    int64_t return_ms = floor->short_ms + FLOOR_RETURN_MS;
    if (now_ms >= return_ms && dialogue_is_welcome(&supervisor->dialogue)) {
        return_waiting(supervisor);
    }
    return now_ms < return_ms && return_ms < floor->look_ms ? return_ms : floor->look_ms;
}

bool admission_allows(const struct supervisor *supervisor, const struct attempt *attempt)
{
    return !supervisor->floor.is_short || (only_waits(supervisor) && admission_is_needed(supervisor, attempt));
}

uint64_t admission_capacity(const struct supervisor *supervisor)
{
    return only_waits(supervisor) ? 1 : 0;
}

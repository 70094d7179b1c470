/*
 * turn.c owns what one turn of the supervisor decides, once everything was read: whether a drain is over, what goes to
 * which slot, how much more is asked for.
 * It must not know sockets, processes or clocks, so that the simulation drives this very code.
 * Start reading at turn_decide.
 */
#include "worker/supervisor_private.h"

/* Draining, with outcomes to hand over and no broker: given up after this. */
#define DRAIN_WAIT_MS 30000
/* A broker that does not answer the last question of a drain has its time too. */
#define FAREWELL_MS 3000
/* While draining. */
#define DRAIN_LOOK_MS 100

void turn_look(struct supervisor *supervisor)
{
    for (size_t i = 0; i < supervisor->slot_count; i++) {
        struct slot *slot = &supervisor->slots[i];
        if (slot->state == SLOT_LIVE) {
            (void)slot_read(slot, &supervisor->yard);
            (void)slot_running(slot, &supervisor->yard);
        }
    }
}

/* True: without a broker, or without its answer, for longer than is waited. */
static bool has_waited_enough(struct supervisor *supervisor)
{
    bool is_welcome = dialogue_is_welcome(&supervisor->dialogue);
    bool is_up = supervisor->dialogue.lease.state != LEASE_DOWN;
    bool is_empty = supervisor->ledger.held_count == 0;
    int64_t now_ms = supervisor->now_us / 1000;
    if (supervisor->ledger.handed.count > 0 || (is_welcome && !is_empty)) {
        supervisor->quiet_ms = 0;
        return false;
    }
    if (supervisor->quiet_ms == 0) {
        supervisor->quiet_ms = now_ms;
    }
    /* A broker that has our HELLO may have sent something since: who leaves without a word has lost it. */
    return now_ms >= supervisor->quiet_ms + (is_empty ? (is_up ? FAREWELL_MS : 0) : DRAIN_WAIT_MS);
}

static void drain(struct supervisor *supervisor)
{
    assign_return_all(supervisor);
    if (supervisor->ledger.held_count == 0) {
        dialogue_farewell(&supervisor->dialogue, supervisor->now_us / 1000);
    }
    if (dialogue_is_over(&supervisor->dialogue)) {
        supervisor->exit_status = 0;
    } else if (has_waited_enough(supervisor)) {
        if (supervisor->ledger.held_count > 0) {
            log_event(LOG_WARN, "outcomes could not be handed over", "count=%zu", supervisor->ledger.held_count);
        }
        supervisor->exit_status = 0;
    }
}

int64_t turn_decide(struct supervisor *supervisor)
{
    if (supervisor->dialogue.lease.end_ms != supervisor->lease_told_ms) {
        assign_lease(supervisor);
    }
    if (supervisor->is_draining) {
        drain(supervisor);
    }
    int64_t wake_ms = admission_look(supervisor);
    assign_capacity(supervisor);
    assign_work(supervisor);
    int64_t drain_ms = supervisor->is_draining ? supervisor->now_us / 1000 + DRAIN_LOOK_MS : INT64_MAX;
    return drain_ms < wake_ms ? drain_ms : wake_ms;
}

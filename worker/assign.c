/*
 * assign.c owns which attempt goes to which slot, and the look at what runs: starts, progress, timeouts.
 * It must not know how slots are made or how frames travel.
 * Start reading at assign_work and check_slot.
 */
#include "common/clock.h"
#include "worker/supervisor_private.h"

#include <signal.h>

/* At most so many to one slot before the next slot gets some. */
#define ASSIGN_CHUNK_COUNT_MAX 512u
/* Held ahead while handlers wait: each level of depth may hold so many. */
#define NESTED_PREFETCH_COUNT_MAX 128u
/* Progress of a slot is passed on at most this often; a long run is looked at this often. */
#define PROGRESS_MS 200
#define CHECK_MS ((int64_t)PACE_SLOW_US / 1000)

/* ---- handing ---- */

static bool takes(const struct supervisor *supervisor, const struct slot *slot, const struct attempt *attempt)
{
    if (!slot_has_room(slot)) {
        return false;
    }
    const struct places *places = &supervisor->places;
    if (!admission_allows(supervisor, attempt)) {
        return false;
    }
    if (!slot_may_limit(slot, &supervisor->yard, attempt)) {
        return false;
    }
    if (places->is_alone || (attempt->is_alone && (slot->queued > 0 || !places_may_start_alone(places)))) {
        return false;
    }
    if (slot->queued == 0) {
        return places_may_start(places, attempt->depth);
    }
    /* What runs at most once goes to idle slots only: what waits behind others could be lost without need. */
    return !attempt->at_most_once && (places->waiting == 0 || attempt->depth > places->deepest) &&
           slot->queued_us + pace_function_us(&supervisor->pace, attempt->function) <= PACE_SLOT_US;
}

static void check_by(struct supervisor *supervisor, int64_t at_ms)
{
    if (at_ms < supervisor->check_ms) {
        supervisor->check_ms = at_ms;
    }
}

static void hand(struct supervisor *supervisor, struct slot *slot, struct attempt *attempt)
{
    int64_t look_ms =
        attempt->timeout_ms > 0 && (int64_t)attempt->timeout_ms < CHECK_MS ? (int64_t)attempt->timeout_ms : CHECK_MS;
    supervisor->places.running += slot->queued == 0;
    supervisor->places.is_alone = attempt->is_alone;
    supervisor->handed_us = supervisor->now_us;
    slot_hand(slot, &supervisor->yard, attempt, supervisor->now_us / 1000);
    check_by(supervisor, supervisor->now_us / 1000 + look_ms);
}

/* A chunk for this slot; true if it took any. */
static bool fill(struct supervisor *supervisor, struct slot *slot, size_t chunk)
{
    struct attempt_list *waiting = &supervisor->ledger.waiting;
    (void)slot_front(slot);
    size_t count = 0;
    while (count < chunk && waiting->first != NULL && takes(supervisor, slot, waiting->first)) {
        hand(supervisor, slot, waiting->first);
        count++;
    }
    return count > 0;
}

void assign_work(struct supervisor *supervisor)
{
    struct attempt_list *waiting = &supervisor->ledger.waiting;
    bool was_any = true;
    while (waiting->first != NULL && was_any && dialogue_may_start(&supervisor->dialogue, supervisor->now_us / 1000)) {
        size_t share = waiting->count / supervisor->places.slots;
        size_t chunk = share < 1 ? 1 : share < ASSIGN_CHUNK_COUNT_MAX ? share : ASSIGN_CHUNK_COUNT_MAX;
        was_any = false;
        for (size_t i = 0; i < supervisor->slot_count && waiting->first != NULL; i++) {
            was_any = fill(supervisor, &supervisor->slots[i], chunk) || was_any;
        }
    }
}

/* ---- looking ---- */

static void tell_progress(struct supervisor *supervisor, struct slot *slot, const struct attempt *attempt)
{
    struct progress progress;
    int64_t now_ms = supervisor->now_us / 1000;
    if (now_ms < slot->progress_ms + PROGRESS_MS ||
        !progress_read(slot->page, attempt->number, &slot->progress_version, &progress)) {
        return;
    }
    struct bytes text = bytes_of(progress.text, progress.text_size);
    slot->progress_ms = now_ms;
    dialogue_progress(&supervisor->dialogue, attempt, progress.fraction,
                      text.n > 0 && bytes_is_utf8(text) ? text : (struct bytes){NULL, 0});
}

/* What waits beyond the capacity goes back, the newest first: it may be worth more elsewhere. Not what a handler here
 * waits for: those that wait count as held, too. */
static void return_surplus(struct supervisor *supervisor)
{
    struct ledger *ledger = &supervisor->ledger;
    while (ledger->waiting.last != NULL && !admission_is_needed(supervisor, ledger->waiting.last) &&
           ledger->waiting.count + ledger->handed.count > supervisor->dialogue.capacity) {
        struct attempt *attempt = ledger->waiting.last;
        ledger_return(ledger, &attempt);
    }
}

/* No slot moves: each runs something that takes long, or waits, and none is free for a root. */
static bool is_stuck(struct supervisor *supervisor)
{
    for (size_t i = 0; i < supervisor->slot_count; i++) {
        struct slot *slot = &supervisor->slots[i];
        const struct attempt *front = slot->state == SLOT_LIVE ? slot_front(slot) : NULL;
        if (front != NULL && !front->start_is_told) {
            return false;
        }
    }
    return !places_may_start(&supervisor->places, 0);
}

/* It takes long: the broker is told that it runs, and what waits behind it may go elsewhere; to another worker, if no
 * slot of this one moves. */
static void tell_started(struct supervisor *supervisor, struct slot *slot, struct attempt *attempt, int64_t run_us)
{
    attempt->start_is_told = true;
    pace_runs(&supervisor->pace, attempt->function, (uint64_t)run_us);
    dialogue_started(&supervisor->dialogue, attempt, (uint32_t)slot->pid);
    slot_revoke_all(slot, &supervisor->yard);
    if (is_stuck(supervisor)) {
        pace_is_stuck(&supervisor->pace, (uint64_t)run_us);
        assign_capacity(supervisor);
        if (dialogue_is_welcome(&supervisor->dialogue)) {
            return_surplus(supervisor);
        }
    }
}

/* True: it has taken too much, and is being killed. */
static bool check_memory(struct supervisor *supervisor, struct slot *slot, struct attempt *attempt, int64_t elapsed_us)
{
    struct memory_watch *watch = &slot->memory;
    struct memory_limit limit = slot_memory_limit(&supervisor->yard, attempt);
    int64_t now_ms = supervisor->now_us / 1000;
    if ((limit.task == 0 && limit.slot == 0) || slot->stop != STOP_NONE ||
        elapsed_us < (int64_t)MEMORY_AFTER_MS * 1000) {
        return false;
    }
    if (watch->number == attempt->number && now_ms < watch->again_ms) {
        check_by(supervisor, watch->again_ms);
        return false;
    }
    uint64_t base = atomic_load_explicit(&slot->page->memory_base, memory_order_relaxed);
    int64_t began_us = clock_mono_us();
    struct memory_seen seen = memory_see(slot->pid, memory_look_size(watch, attempt->number, base, &limit));
    bool is_first = watch->number != attempt->number;
    if (is_first) {
        memory_begin(watch, attempt->number, base, &seen);
    }
    enum memory_verdict verdict = memory_judge(watch, &limit, &seen, now_ms, clock_mono_us() - began_us);
    check_by(supervisor, watch->again_ms);
    slot->memory_limit = limit;
    if (is_first) {
        slot_limit_again(slot, watch->size, now_ms);
    }
    return verdict != MEMORY_WITHIN && slot_stop(slot, &supervisor->yard, attempt, STOP_MEMORY, now_ms);
}

static void check_running(struct supervisor *supervisor, struct slot *slot, struct attempt *attempt)
{
    int64_t now_ms = supervisor->now_us / 1000;
    int64_t started_us = slot_started_us(slot, attempt, supervisor->now_us);
    int64_t elapsed_us = supervisor->now_us - started_us;
    if (!attempt->start_is_told && elapsed_us >= (int64_t)PACE_SLOW_US) {
        int64_t waited_us = (int64_t)statuspage_waited_us(slot->page, supervisor->now_us);
        tell_started(supervisor, slot, attempt, waited_us < elapsed_us ? elapsed_us - waited_us : 0);
    }
    check_by(supervisor, now_ms + (attempt->start_is_told ? PROGRESS_MS : CHECK_MS));
    if (attempt->start_is_told) {
        tell_progress(supervisor, slot, attempt);
    }
    if (check_memory(supervisor, slot, attempt, elapsed_us)) {
        return;
    }
    if (attempt->timeout_ms > 0 && slot->stop == STOP_NONE) {
        int64_t due_us = started_us + (int64_t)attempt->timeout_ms * 1000;
        if (supervisor->now_us >= due_us) {
            (void)slot_stop(slot, &supervisor->yard, attempt, STOP_TIMEOUT, now_ms);
        } else {
            check_by(supervisor, (due_us + 999) / 1000);
        }
    }
}

static void check_slot(struct supervisor *supervisor, struct slot *slot)
{
    int64_t now_ms = supervisor->now_us / 1000;
    (void)slot_read(slot, &supervisor->yard);
    struct attempt *attempt = slot_running(slot, &supervisor->yard);
    if (attempt != NULL) {
        check_running(supervisor, slot, attempt);
    } else if (slot->queued > 0) {
        check_by(supervisor, now_ms + CHECK_MS);
    }
    if (now_ms >= slot->kill_ms) {
        slot->kill_ms = INT64_MAX;
        slot_signal(slot, SIGKILL);
    }
    check_by(supervisor, slot->kill_ms);
}

void assign_check(struct supervisor *supervisor)
{
    if (supervisor->now_us / 1000 < supervisor->check_ms) {
        return;
    }
    supervisor->check_ms = INT64_MAX;
    yard_look(&supervisor->yard, supervisor->now_us / 1000);
    for (size_t i = 0; i < supervisor->slot_count; i++) {
        if (supervisor->slots[i].state == SLOT_LIVE) {
            check_slot(supervisor, &supervisor->slots[i]);
        }
    }
    assign_stuck(supervisor);
}

/* ---- lease and capacity ---- */

void assign_lease(struct supervisor *supervisor)
{
    int64_t end_ms = supervisor->dialogue.lease.end_ms;
    for (size_t i = 0; i < supervisor->slot_count; i++) {
        struct slot *slot = &supervisor->slots[i];
        if (slot->state == SLOT_LIVE) {
            atomic_store_explicit(&slot->page->lease_end_ms, end_ms, memory_order_relaxed);
        }
    }
    supervisor->lease_told_ms = end_ms;
}

/* Something that wants nothing beside it runs for long already, or waits behind what does: what waits with it is of
 * more use elsewhere. */
static bool is_alone_long(struct supervisor *supervisor)
{
    const struct attempt *first = supervisor->ledger.waiting.first;
    bool is_long = supervisor->now_us >= supervisor->handed_us + (int64_t)PACE_SLOW_US;
    return is_long &&
           (supervisor->places.is_alone || (first != NULL && first->is_alone && supervisor->places.running > 0));
}

static enum scarce scarce_now(struct supervisor *supervisor)
{
    return supervisor->floor.is_short ? SCARCE_MEMORY : is_alone_long(supervisor) ? SCARCE_ALONE : SCARCE_NOTHING;
}

/* Handlers wait, and nothing has moved for a while: what may not start here is of more use elsewhere. Nor has anything
 * come: the broker may count otherwise than we do (what it does not know yet), and what goes back may come again at
 * once. */
static bool is_closed(struct supervisor *supervisor)
{
    const struct ledger *ledger = &supervisor->ledger;
    if (ledger->came_count != supervisor->came_count) {
        supervisor->came_count = ledger->came_count;
        supervisor->came_us = supervisor->now_us;
    }
    int64_t last_us = supervisor->handed_us > supervisor->came_us ? supervisor->handed_us : supervisor->came_us;
    if (supervisor->places.waiting == 0 || !is_stuck(supervisor)) {
        return false;
    }
    if (supervisor->now_us < last_us + (int64_t)PACE_SLOW_US && ledger->waiting.first != NULL) {
        check_by(supervisor, (last_us + (int64_t)PACE_SLOW_US) / 1000 + 1);
    }
    return supervisor->now_us >= last_us + (int64_t)PACE_SLOW_US;
}

/* Of what is deeper than everything that waits: what runs, and what may still start. What came beyond that would be
 * given back, and come again, as fast as the broker and we can. */
static uint64_t capacity_closed(const struct supervisor *supervisor)
{
    uint64_t count = places_room(&supervisor->places);
    for (const struct attempt *attempt = supervisor->ledger.handed.first; attempt != NULL; attempt = attempt->next) {
        count += attempt->depth > supervisor->places.deepest;
    }
    return count;
}

static uint64_t capacity_wanted(struct supervisor *supervisor, bool is_shut)
{
    const struct places *places = &supervisor->places;
    if (herd_is_barren(supervisor)) {
        return 0;
    }
    if (supervisor->floor.is_short) {
        return admission_capacity(supervisor);
    }
    if (supervisor->dialogue.scarce == SCARCE_ALONE) {
        return supervisor->ledger.handed.count + (places->is_alone ? 0 : 1);
    }
    uint64_t capacity = pace_capacity(&supervisor->pace, places->slots);
    uint64_t held = supervisor->ledger.waiting.count + supervisor->ledger.handed.count;
    if (places->waiting == 0) {
        return capacity;
    }
    if (places->is_stuck) {
        return held + 1; /* perhaps it is what is waited for */
    }
    uint64_t max = is_shut ? capacity_closed(supervisor) : places->slots + NESTED_PREFETCH_COUNT_MAX;
    return capacity < max ? capacity : max;
}

/* What may not start now goes back. */
static void return_closed(struct supervisor *supervisor)
{
    struct ledger *ledger = &supervisor->ledger;
    while (ledger->waiting.last != NULL && !places_may_start(&supervisor->places, ledger->waiting.last->depth)) {
        struct attempt *attempt = ledger->waiting.last;
        ledger_return(ledger, &attempt);
    }
}

/* What waits, and whatever else does not stand deeper, must not keep away what is waited for. While draining, when
 * nothing else may come, so much of that as there are slots. */
static void tell_nested(struct supervisor *supervisor, bool is_shut)
{
    const struct places *places = &supervisor->places;
    uint64_t count = places->waiting == 0 ? 0 : ledger_shallower(&supervisor->ledger, places->deepest + 1);
    uint64_t more = !supervisor->is_draining ? 0 : is_shut ? capacity_closed(supervisor) : places->slots;
    dialogue_set_nested(&supervisor->dialogue, count > 0 ? count + more : 0, places->deepest + 1);
}

/* How long what runs has run, at least; 0: something has only begun, or nothing runs. */
static uint64_t least_run_us(struct supervisor *supervisor)
{
    int64_t least = INT64_MAX;
    for (size_t i = 0; i < supervisor->slot_count; i++) {
        struct slot *slot = &supervisor->slots[i];
        const struct attempt *front = slot->state == SLOT_LIVE && !slot->is_waiting ? slot_front(slot) : NULL;
        if (front != NULL) {
            int64_t run_us = front->start_is_told
                                 ? supervisor->now_us - slot_started_us(slot, front, supervisor->now_us) -
                                       (int64_t)statuspage_waited_us(slot->page, supervisor->now_us)
                                 : 0;
            least = run_us < least ? run_us : least;
        }
    }
    return least == INT64_MAX || least < 0 ? 0 : (uint64_t)least;
}

/* The longer no slot moves, the less is worth holding behind what runs. */
void assign_stuck(struct supervisor *supervisor)
{
    uint64_t run_us = least_run_us(supervisor);
    if (run_us < PACE_SLOW_US || !is_stuck(supervisor)) {
        return;
    }
    pace_is_stuck(&supervisor->pace, run_us);
    uint64_t capacity = capacity_wanted(supervisor, is_closed(supervisor));
    if (capacity < supervisor->dialogue.capacity) {
        dialogue_set_capacity(&supervisor->dialogue, capacity); /* however little: it may wait for long */
    }
    if (dialogue_is_welcome(&supervisor->dialogue)) {
        return_surplus(supervisor);
    }
}

void assign_capacity(struct supervisor *supervisor)
{
    bool is_shut = is_closed(supervisor);
    enum scarce scarce = scarce_now(supervisor);
    bool is_other = scarce != supervisor->dialogue.scarce;
    dialogue_set_scarce(&supervisor->dialogue, scarce);
    uint64_t capacity = capacity_wanted(supervisor, is_shut);
    uint64_t told = supervisor->dialogue.capacity;
    if (pace_is_news(told, capacity) || (told != capacity && (is_shut || is_other || supervisor->places.is_stuck))) {
        dialogue_set_capacity(&supervisor->dialogue, capacity);
    }
    tell_nested(supervisor, is_shut);
    bool gives_back = scarce == SCARCE_ALONE || (capacity == 0 && scarce == SCARCE_NOTHING);
    if (gives_back && dialogue_is_welcome(&supervisor->dialogue)) {
        return_surplus(supervisor);
    }
    if (is_shut && dialogue_is_welcome(&supervisor->dialogue)) {
        return_closed(supervisor);
    }
    if (supervisor->places.waiting > 0 && supervisor->places.running == 0 && !supervisor->places.is_stuck) {
        check_by(supervisor, supervisor->handed_us / 1000 + PLACES_PATIENCE_MS + 1);
    }
}

void assign_return_all(struct supervisor *supervisor)
{
    struct ledger *ledger = &supervisor->ledger;
    struct attempt *next;
    for (struct attempt *attempt = ledger->handed.first; attempt != NULL; attempt = next) {
        next = attempt->next;
        if (attempt->state == ATTEMPT_HANDED && !admission_is_needed(supervisor, attempt)) {
            (void)slot_revoke(attempt->holder, &supervisor->yard, attempt);
        }
    }
    while (ledger->waiting.last != NULL && !admission_is_needed(supervisor, ledger->waiting.last)) {
        struct attempt *attempt = ledger->waiting.last;
        ledger_return(ledger, &attempt);
    }
}

/* ---- the broker's words on what runs (dialogue.h) ---- */

static bool on_revoke(void *self, struct attempt *attempt)
{
    struct supervisor *supervisor = self;
    return slot_revoke(attempt->holder, &supervisor->yard, attempt);
}

static void on_kill(void *self, struct attempt *attempt)
{
    struct supervisor *supervisor = self;
    struct slot *slot = attempt->holder;
    if (slot_stop(slot, &supervisor->yard, attempt, STOP_KILLED, supervisor->now_us / 1000)) {
        check_by(supervisor, slot->kill_ms);
    }
}

static void on_forget(void *self, struct attempt *attempt)
{
    struct supervisor *supervisor = self;
    slot_forget(attempt->holder, &supervisor->yard, attempt);
}

static bool on_look(void *self, struct attempt *attempt, const uint64_t known[OUTPUT_STREAM_COUNT], struct buf *out)
{
    struct supervisor *supervisor = self;
    return slot_look(attempt->holder, &supervisor->yard, attempt, known, out);
}

struct dialogue_slots assign_slots(struct supervisor *supervisor)
{
    return (struct dialogue_slots){
        .self = supervisor, .revoke = on_revoke, .kill = on_kill, .forget = on_forget, .look = on_look};
}

/*
 * real_worker.c owns how the supervisor's own code stands in the world: its turns, its frames on wires, its processes'
 * birth and burial (herd.c is played), and what is checked of its words.
 * It must not know the core; it writes of the supervisor only what supervisor.c and herd.c write.
 * Start reading at real_turn.
 */
#include "real_worker.h"

#include "common/check.h"
#include "common/log.h"
#include "oracle.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FORKS_PERCENT 60u
#define BURIES_PERCENT 60u
#define PING_COUNT (sizeof((struct real_worker *)0)->pings / sizeof(struct ping))

static struct worker *worker_of(struct peer *peer)
{
    return (struct worker *)(void *)peer;
}

static struct supervisor *mind_of(struct worker *worker)
{
    return &worker->real->supervisor;
}

/* ---- what it says ---- */

static void note_ping(struct real_worker *real, uint64_t number, int64_t now)
{
    real->pings[number % PING_COUNT] = (struct ping){.number = number, .sent = now};
}

static struct token token_of(uint64_t task, uint64_t epoch, uint64_t attempt)
{
    return (struct token){task, (uint32_t)epoch, (uint32_t)attempt};
}

/* What really runs is listed, and as running. */
static void check_hello(struct worker *worker, const struct msg_HELLO_WORKER *hello)
{
    struct world *world = worker->peer.world;
    struct supervisor *supervisor = mind_of(worker);
    for (size_t i = 0; i < supervisor->slot_count; i++) {
        struct token token;
        struct list items = hello->held;
        struct item_held held;
        bool is_listed = false;
        const struct slot *slot = &supervisor->slots[i];
        if (slot->state != SLOT_LIVE || slot->is_doomed || !process_runs(slot, &token)) {
            continue;
        }
        while (item_held_next(&items, &held)) {
            is_listed = is_listed || (token_compare(token_of(held.task, held.epoch, held.attempt), token) == 0 &&
                                      held.task == token.task && held.state != HELD_LEASED);
        }
        WORLD_CHECK(world, is_listed, "%s runs %" PRIx64 " (%u.%u), and its HELLO does not list it as started",
                    worker->peer.name, token.task, token.epoch, token.attempt);
    }
    oracle_listed(world, worker, hello->held);
}

/* What is told to have ended runs nowhere any more. */
static void check_ended(struct worker *worker, struct token token)
{
    struct supervisor *supervisor = mind_of(worker);
    for (size_t i = 0; i < supervisor->slot_count; i++) {
        struct token runs;
        bool is_it = supervisor->slots[i].state == SLOT_LIVE && process_runs(&supervisor->slots[i], &runs) &&
                     runs.task == token.task && token_compare(runs, token) == 0;
        WORLD_CHECK(worker->peer.world, !is_it, "%s says how %" PRIx64 " ended, and it runs", worker->peer.name,
                    token.task);
    }
}

static void note_finished(struct worker *worker, struct list items)
{
    struct item_finished item;
    while (item_finished_next(&items, &item)) {
        struct held held = {.token = token_of(item.task, item.epoch, item.attempt),
                            .state = HELD_FINISHED,
                            .end = (enum finished_state)item.state,
                            .cause = (enum cause)item.cause};
        world_say(worker->peer.world, "%s hands in %" PRIx64 " (%u.%u): %s", worker->peer.name, item.task,
                  held.token.epoch, held.token.attempt,
                  item.state == FINISHED_DONE     ? "done"
                  : item.state == FINISHED_KILLED ? "killed"
                                                  : cause_word((unsigned)item.cause));
        check_ended(worker, held.token);
        oracle_handed_in(worker->peer.world, worker, &held);
    }
}

static void note_returned(struct worker *worker, struct list items)
{
    struct item_token item;
    while (item_token_next(&items, &item)) {
        world_say(worker->peer.world, "%s returns %" PRIx64 " (%" PRIu64 ".%" PRIu64 ")", worker->peer.name, item.task,
                  item.epoch, item.attempt);
        oracle_returned(worker->peer.world, worker, token_of(item.task, item.epoch, item.attempt));
    }
}

static void note_frame(struct worker *worker, struct bytes frame)
{
    struct world *world = worker->peer.world;
    uint32_t generation;
    struct cursor cursor;
    struct message message;
    uint64_t unknown;
    const char *why = "";
    WORLD_CHECK(world, frame_open(frame, &generation, &cursor) == QUERN_OK && generation == worker->peer.generation,
                "%s writes a frame that is none of this connection", worker->peer.name);
    while (message_next(&cursor, &message, &unknown, &why) == QUERN_OK) {
        if (message.kind == MSG_HELLO_WORKER) {
            worker->real->hello_sent = world->now;
            check_hello(worker, &message.HELLO_WORKER);
        } else if (message.kind == MSG_PING) {
            note_ping(worker->real, message.PING.number, world->now);
        } else if (message.kind == MSG_FINISHED) {
            note_finished(worker, message.FINISHED.items);
        } else if (message.kind == MSG_CAPACITY) {
            world_say(world, "%s asks for %" PRIu64 ", and %" PRIu64 " from depth %" PRIu64 " on", worker->peer.name,
                      message.CAPACITY.count, message.CAPACITY.nested, message.CAPACITY.depth);
        } else if (message.kind == MSG_RETURNED) {
            note_returned(worker, message.RETURNED.items);
        }
    }
}

static void write_frames(struct worker *worker)
{
    struct peer *peer = &worker->peer;
    struct dialogue *dialogue = &mind_of(worker)->dialogue;
    while (peer->wire != NULL && !peer->wire->is_broken && dialogue_next(dialogue, &peer->out)) {
        note_frame(worker, buf_bytes(&peer->out));
        sim_peer_flush(peer);
    }
    buf_fini(&peer->out);
}

/* ---- what it hears ---- */

static void renew(struct real_worker *real, int64_t sent)
{
    int64_t until = sent + real->lease_ms;
    real->lease_until = until > real->lease_until ? until : real->lease_until;
}

static void hear_dropped(struct worker *worker, struct list items)
{
    struct item_token item;
    while (item_token_next(&items, &item)) {
        world_say(worker->peer.world, "%s is to drop %" PRIx64 " (%" PRIu64 ".%" PRIu64 ")", worker->peer.name,
                  item.task, item.epoch, item.attempt);
        oracle_let_go(worker->peer.world, token_of(item.task, item.epoch, item.attempt));
    }
}

static void hear_receipts(struct worker *worker, struct list items)
{
    struct item_receipt item;
    while (item_receipt_next(&items, &item)) {
        oracle_let_go(worker->peer.world, token_of(item.task, item.epoch, item.attempt));
    }
}

static void hear_dispatch(struct worker *worker, struct list items)
{
    struct item_dispatch item;
    while (item_dispatch_next(&items, &item)) {
        world_say(worker->peer.world, "%s is given %" PRIx64 " (attempt %" PRIu64 ")", worker->peer.name, item.task,
                  item.attempt);
    }
}

static void hear_message(struct worker *worker, const struct message *message)
{
    struct real_worker *real = worker->real;
    struct world *world = worker->peer.world;
    switch (message->kind) {
    case MSG_WELCOME_WORKER:
        real->lease_ms = (int64_t)message->WELCOME_WORKER.lease_ms;
        renew(real, real->hello_sent);
        break;
    case MSG_PONG:
        if (real->pings[message->PONG.number % PING_COUNT].number == message->PONG.number) {
            renew(real, real->pings[message->PONG.number % PING_COUNT].sent);
        }
        break;
    case MSG_DROP:
        hear_dropped(worker, message->DROP.items);
        break;
    case MSG_RECEIPT:
        hear_receipts(worker, message->RECEIPT.items);
        break;
    case MSG_DISPATCH:
        hear_dispatch(worker, message->DISPATCH.items);
        break;
    case MSG_ERROR:
        WORLD_CHECK(world, message->ERROR.code == QUERN_NEED_HELLO || worker->peer.is_odd,
                    "%s, which keeps to the protocol, is told of error "
                    "%s for %s",
                    worker->peer.name, quern_err_word((enum quern_err)message->ERROR.code),
                    message_word((unsigned)message->ERROR.kind));
        break;
    default:
        break;
    }
}

static void hear_frame(struct worker *worker, struct bytes frame)
{
    uint32_t generation;
    struct cursor cursor;
    struct message message;
    uint64_t unknown;
    const char *why = "";
    if (frame_open(frame, &generation, &cursor) != QUERN_OK) {
        return;
    }
    while (message_next(&cursor, &message, &unknown, &why) == QUERN_OK) {
        hear_message(worker, &message);
    }
}

/* ---- processes come and go (herd.c) ---- */

static void bury_dead(struct worker *worker, struct slot *slot)
{
    struct supervisor *supervisor = mind_of(worker);
    int32_t status;
    if (process_is_dead(slot, &status) && rng_percent(&worker->peer.world->rng, BURIES_PERCENT)) {
        slot_bury(slot, &supervisor->yard, status, 0, 0, supervisor->now_us);
    }
}

static void replace_spent(struct supervisor *supervisor, struct slot *slot)
{
    slot->is_spent = slot->is_spent || (slot->tasks_max > 0 && slot->ran >= slot->tasks_max);
    if (slot->is_spent && !slot->is_doomed) {
        slot_revoke_all(slot, &supervisor->yard);
        if (slot->queued == 0) {
            slot->is_doomed = true;
            slot_signal(slot, SIGKILL);
        }
    }
}

static void fork_missing(struct worker *worker)
{
    struct supervisor *supervisor = mind_of(worker);
    const struct places *places = &supervisor->places;
    size_t wanted = supervisor->is_draining && places->waiting == 0 ? 0 : places_slots(places);
    size_t used = 0;
    for (size_t i = 0; i < supervisor->slot_count; i++) {
        used += supervisor->slots[i].state == SLOT_LIVE;
    }
    supervisor->slot_count = supervisor->slot_count < wanted ? wanted : supervisor->slot_count;
    for (size_t i = 0; i < supervisor->slot_count && used < wanted; i++) {
        if (supervisor->slots[i].state != SLOT_LIVE && rng_percent(&worker->peer.world->rng, FORKS_PERCENT)) {
            process_make(worker, &supervisor->slots[i]);
            assign_lease(supervisor);
            used++;
        }
    }
}

static void tend(struct worker *worker)
{
    struct supervisor *supervisor = mind_of(worker);
    for (size_t i = 0; i < supervisor->slot_count; i++) {
        struct slot *slot = &supervisor->slots[i];
        if (slot->state == SLOT_LIVE && process_rings(slot)) {
            (void)slot_read(slot, &supervisor->yard);
        }
        if (slot->state == SLOT_LIVE) {
            replace_spent(supervisor, slot);
            bury_dead(worker, slot);
        }
    }
    fork_missing(worker);
}

/* ---- turns ---- */

static void obey(struct worker *worker, enum dialogue_verdict verdict)
{
    struct peer *peer = &worker->peer;
    if (verdict == DIALOGUE_OK) {
        return;
    }
    world_say(peer->world, "%s: %s", peer->name, mind_of(worker)->dialogue.why);
    WORLD_CHECK(peer->world, verdict != DIALOGUE_REFUSED, "%s is refused for good", peer->name);
    sim_peer_drop_wire(peer, true);
    if (verdict == DIALOGUE_RECONNECT) {
        peer->retry_at = peer->world->now;
    }
}

static void flush_slots(struct supervisor *supervisor)
{
    for (size_t i = 0; i < supervisor->slot_count; i++) {
        if (supervisor->slots[i].state == SLOT_LIVE && supervisor->slots[i].out.n > 0) {
            slot_flush(&supervisor->slots[i]);
        }
    }
}

/* As `turn` of supervisor.c, in its order. */
static void real_turn(struct worker *worker)
{
    struct supervisor *supervisor = mind_of(worker);
    if (worker->real->is_over) {
        return;
    }
    supervisor->now_us = worker->peer.world->now * 1000;
    waits_look(supervisor);
    obey(worker, dialogue_tick(&supervisor->dialogue, worker->peer.world->now));
    assign_check(supervisor);
    tend(worker);
    int64_t wake_ms = turn_decide(supervisor);
    flush_slots(supervisor);
    write_frames(worker);
    ledger_check(&supervisor->ledger);
    int64_t dialogue_ms = dialogue_wake_ms(&supervisor->dialogue);
    wake_ms = wake_ms < supervisor->check_ms ? wake_ms : supervisor->check_ms;
    worker->real->wake_ms = wake_ms < dialogue_ms ? wake_ms : dialogue_ms;
    worker->peer.is_welcomed = dialogue_is_welcome(&supervisor->dialogue);
    worker->real->is_over = supervisor->exit_status >= 0;
    worker->real->is_polite = dialogue_is_over(&supervisor->dialogue);
}

/* After its BYE it does not sleep. */
static void real_turns(struct worker *worker)
{
    real_turn(worker);
    if (dialogue_is_over(&mind_of(worker)->dialogue)) {
        real_turn(worker);
    }
}

static void real_up(struct peer *peer)
{
    struct worker *worker = worker_of(peer);
    struct supervisor *supervisor = mind_of(worker);
    supervisor->now_us = peer->world->now * 1000;
    turn_look(supervisor);
    dialogue_up(&supervisor->dialogue, peer->world->now);
    peer->wire->generation = peer->generation = supervisor->dialogue.lease.generation;
    write_frames(worker);
}

static void real_down(struct peer *peer)
{
    dialogue_down(&mind_of(worker_of(peer))->dialogue);
}

static void real_frame(struct peer *peer, struct bytes frame)
{
    struct worker *worker = worker_of(peer);
    struct supervisor *supervisor = mind_of(worker);
    supervisor->now_us = peer->world->now * 1000;
    hear_frame(worker, frame);
    bool was_welcome = dialogue_is_welcome(&supervisor->dialogue);
    enum dialogue_verdict verdict = dialogue_frame(&supervisor->dialogue, frame, peer->world->now);
    if (!was_welcome && dialogue_is_welcome(&supervisor->dialogue)) {
        world_say(peer->world, "%s is welcome, epoch %u, holds %zu", peer->name, supervisor->ledger.epoch,
                  supervisor->ledger.held_count);
    }
    obey(worker, verdict);
    real_turns(worker);
}

static void real_tick(struct peer *peer)
{
    real_turns(worker_of(peer));
}

static void real_pulse(struct peer *peer)
{
    processes_step(worker_of(peer));
}

static void real_die(struct peer *peer)
{
    processes_die(worker_of(peer));
}

static int64_t real_wake(const struct peer *peer)
{
    const struct worker *worker = (const struct worker *)(const void *)peer;
    const struct supervisor *supervisor = &worker->real->supervisor;
    int64_t at = worker->real->wake_ms;
    for (size_t i = 0; i < supervisor->slot_count; i++) {
        if (supervisor->slots[i].state == SLOT_LIVE) {
            int64_t wake = process_wake(&supervisor->slots[i], peer->world->now);
            at = wake < at ? wake : at;
        }
    }
    return at;
}

static const struct role real_role = {.up = real_up,
                                      .down = real_down,
                                      .frame = real_frame,
                                      .tick = real_tick,
                                      .pulse = real_pulse,
                                      .die = real_die,
                                      .wake = real_wake};

/* ---- its life ---- */

static void mind_begin(struct worker *worker)
{
    struct real_worker *real = worker->real;
    struct supervisor *supervisor = &real->supervisor;
    unsigned slots = (unsigned)worker->slots;
    real->functions[0] = "work";
    real->options.slot_count = slots;
    supervisor->options = &real->options;
    supervisor->exit_status = -1;
    supervisor->check_ms = INT64_MAX;
    supervisor->lease_told_ms = INT64_MIN;
    supervisor->slot_count = slots;
    supervisor->places.slots = slots;
    supervisor->slots = xcalloc(places_slots_max(slots), sizeof(struct slot));
    snprintf(supervisor->host, sizeof supervisor->host, "simhost");
    ledger_init(&supervisor->ledger);
    pace_init(&supervisor->pace, 1);
    supervisor->yard =
        (struct slot_yard){.ledger = &supervisor->ledger, .pace = &supervisor->pace, .host = supervisor->host};
    struct dialogue_facts facts = {.instance = worker->peer.instance,
                                   .host = supervisor->host,
                                   .name = worker->peer.name,
                                   .pid = (uint32_t)worker->peer.serial,
                                   .slot_count = slots,
                                   .functions = real->functions,
                                   .function_count = 1,
                                   .memory = ""};
    struct dialogue_slots by = assign_slots(supervisor);
    dialogue_init(&supervisor->dialogue, &facts, &by, &supervisor->ledger, &worker->peer.world->limits);
}

struct worker *sim_worker_new_real(struct world *world, const char *name, uint64_t slots)
{
    struct worker *worker = sim_worker_new(world, name, slots);
    worker->real = xcalloc(1, sizeof *worker->real);
    worker->real->lease_until = INT64_MIN;
    worker->real->wake_ms = world->now;
    if (rng_percent(&world->rng, 30)) {
        worker->real->options.slot_tasks_max = 1 + rng_below(&world->rng, 6);
    }
    worker->peer.role = &real_role;
    log_open("simulation", LOG_ERROR);
    mind_begin(worker);
    return worker;
}

void sim_worker_drain_real(struct worker *worker)
{
    struct supervisor *supervisor = mind_of(worker);
    if (!supervisor->is_draining) {
        supervisor->is_draining = true;
        dialogue_drain(&supervisor->dialogue);
    }
}

bool sim_worker_is_over(const struct worker *worker)
{
    return worker->real->is_over;
}

bool sim_worker_is_polite(const struct worker *worker)
{
    return worker->real == NULL || worker->real->is_polite;
}

void sim_worker_free_real(struct worker *worker)
{
    if (worker->real == NULL) {
        return;
    }
    struct supervisor *supervisor = mind_of(worker);
    for (size_t i = 0; i < supervisor->slot_count; i++) {
        if (supervisor->slots[i].state == SLOT_LIVE) {
            supervisor->slots[i].queued = 0;
            slot_close(&supervisor->slots[i], &supervisor->yard);
        }
    }
    free(supervisor->slots);
    dialogue_fini(&supervisor->dialogue);
    ledger_fini(&supervisor->ledger);
    pace_fini(&supervisor->pace);
    free(worker->real);
}

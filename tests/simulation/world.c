/*
 * world.c owns virtual time, the broker's life and death, and its batches on their way to disk.
 * It must not know what messages mean (peers and oracle do), nor the core's insides.
 * Start reading at broker_step.
 */
#include "world.h"

#include "common/check.h"
#include "oracle.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FULL_RETRY_MS 200

/* ---- chance: splitmix64 ---- */

uint64_t rng_next(struct rng *rng)
{
    uint64_t z = (rng->state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

uint64_t rng_below(struct rng *rng, uint64_t bound)
{
    return bound == 0 ? 0 : rng_next(rng) % bound;
}

bool rng_percent(struct rng *rng, unsigned percent)
{
    return rng_below(rng, 100) < percent;
}

/* ---- trace ---- */

void world_say(struct world *world, const char *format, ...)
{
    char *line = world->trace[world->trace_count++ % TRACE_LINE_COUNT];
    int n = snprintf(line, TRACE_LINE_SIZE, "%8" PRId64 " ", world->now);
    va_list args;
    va_start(args, format);
    vsnprintf(line + n, TRACE_LINE_SIZE - (size_t)n, format, args);
    va_end(args);
    if (world->echo) {
        puts(line);
    }
}

void world_report(struct world *world)
{
    uint64_t count = world->trace_count < TRACE_LINE_COUNT ? world->trace_count : TRACE_LINE_COUNT;
    fflush(stdout);
    for (uint64_t i = world->trace_count - count; !world->echo && i < world->trace_count; i++) {
        fprintf(stderr, "%s\n", world->trace[i % TRACE_LINE_COUNT]);
    }
    fprintf(stderr,
            "seed %" PRIu64 " after %" PRIu64 " steps (quern-sim %" PRIu64 " replays it, quern-sim --shrink %" PRIu64
            " makes it smaller)\n",
            world->seed, world->step_count, world->seed, world->seed);
}

void world_fail(struct world *world, const char *format, ...)
{
    va_list args;
    world_report(world);
    fprintf(stderr, "BROKEN: ");
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fprintf(stderr, "\n");
    fflush(stderr);
    exit(99);
}

/* ---- the broker: one step ---- */

static void send_frames(struct world *world, struct outbox *outbox)
{
    for (size_t i = 0; i < outbox->count; i++) {
        struct frame_out *out = &outbox->frames[i];
        struct bytes frame = buf_bytes(&out->frame);
        struct wire *wire = wire_of(world, out->conn);
        if (world->send_left > 0) {
            world->send_left -= world->send_left != SIZE_MAX;
            if (wire != NULL && !wire->is_broken && wire->maker->kind != PEER_STRANGER) {
                oracle_sent(world, wire, frame);
            }
            if (wire != NULL && wire->peer != NULL && !wire->is_broken) {
                fifo_push(&wire->to_peer, frame);
            }
        }
        buf_fini(&out->frame);
    }
    outbox->count = 0;
}

static void keep_loads(struct world *world)
{
    for (size_t i = 0; i < world->update.load_count; i++) {
        if (world->load_count == world->load_cap) {
            world->load_cap = world->load_cap ? world->load_cap * 2 : 8;
            world->loads = xrealloc(world->loads, world->load_cap * sizeof(struct load *));
        }
        world->loads[world->load_count++] = world->update.loads[i];
    }
    world->update.load_count = 0;
}

static void carry_out(struct world *world)
{
    send_frames(world, &world->update.now);
    for (size_t i = 0; i < world->update.kick_count; i++) {
        struct wire *wire = wire_of(world, world->update.kicks[i]);
        if (wire != NULL) {
            world_say(world, "broker kicks wire %" PRIu64, wire->conn);
            wire->is_broken = true;
            wire->wants_closed = true;
        }
    }
    keep_loads(world);
    world->wake_at = world->update.wake_ms;
    update_clear(&world->update);
}

static void core_take(struct world *world, struct event *event)
{
    event->mono_ms = world->now;
    event->wall_ms = world->now + WALL_START + world->wall_shift;
    event->random[0] = rng_next(&world->rng);
    event->random[1] = rng_next(&world->rng);
    if (world->observe != NULL) {
        world->observe(world->observe_context, event);
    }
    world->step_count++;
    core_step(world->core, event, &world->update);
    if (world->check_every != 0 && world->step_count % world->check_every == 0) {
        core_check(world->core);
    }
}

static void broker_step(struct world *world, struct event *event)
{
    core_take(world, event);
    carry_out(world);
}

static bool is_stopped(const struct world *world)
{
    return world->stopped_until > world->now;
}

/* ---- life ---- */

static void begin_core(struct world *world)
{
    struct store_facts facts;
    struct store_visitor visitor;
    memstore_start(world->disk, &facts);
    world->core = core_open(&world->limits, &facts);
    core_visitor(world->core, &visitor);
    if (world->workers_are_swept) {
        visitor.workers_swept(visitor.context);
    }
    memstore_load(world->disk, &visitor);
    core_begin(world->core, world->now, world->now + WALL_START + world->wall_shift);
    core_check(world->core);
}

void broker_start(struct world *world)
{
    CHECK(world->core == NULL);
    world->life++;
    world->send_left = SIZE_MAX;
    update_init(&world->update);
    begin_core(world);
    oracle_restarted(world);
    world_say(world, "broker starts, epoch %u", memstore_epoch(world->disk));
    struct event event = {.kind = EVENT_TICK};
    broker_step(world, &event);
}

static void apply(struct world *world, const struct batch *batch, bool again)
{
    if (!again) {
        world->applied_count++;
        oracle_before_apply(world, batch->changes, batch->count);
    }
    const char *why = memstore_apply(world->disk, batch->changes, batch->count, again);
    WORLD_CHECK(world, why == NULL, "batch %" PRIu64 ": %s", batch->number, why);
    if (!again) {
        oracle_after_apply(world, batch->changes, batch->count);
    }
}

static void break_wires(struct world *world)
{
    for (size_t i = 0; i < world->wire_count; i++) {
        world->wires[i]->is_broken = true;
        fifo_keep(&world->wires[i]->to_broker, 0);
    }
}

static void end_core(struct world *world)
{
    while (world->sealed_count > 0) {
        batch_free(world->core, &world->sealed[--world->sealed_count].batch);
    }
    for (size_t i = 0; i < world->load_count; i++) {
        free(world->loads[i]);
    }
    world->load_count = 0;
    world->is_full = false;
    world->stopped_until = 0;
    update_fini(&world->update);
    core_close(&world->core);
    break_wires(world);
    world->wake_at = INT64_MAX;
}

void broker_crash(struct world *world)
{
    if (world->core == NULL) {
        return;
    }
    bool had_open = core_wants_commit(world->core, world->now);
    for (size_t i = 0; i < world->sealed_count; i++) {
        world->unheard_batches += world->sealed[i].is_applied && world->sealed[i].batch->count > 0;
        world->lost_batches += !world->sealed[i].is_applied && world->sealed[i].batch->count > 0;
    }
    world->lost_batches += had_open;
    world->full_ends += world->is_full;
    world->crash_count++;
    world_say(world, "broker crashes: %zu sealed%s", world->sealed_count, had_open ? ", one open" : "");
    end_core(world);
}

void broker_restart(struct world *world)
{
    broker_crash(world);
    broker_start(world);
}

void broker_stop(struct world *world)
{
    if (world->core == NULL) {
        return;
    }
    world->stopped_until = 0;
    world->stalled_until = 0; /* it waits */
    bool is_drained = commit(world);
    if (is_drained) {
        core_give_back(world->core);
        is_drained = commit(world);
    }
    core_stop(world->core, &world->update);
    carry_out(world);
    if (is_drained) {
        memstore_mark_clean(world->disk);
    }
    world->full_ends += !is_drained;
    world_say(world, is_drained ? "broker stops cleanly" : "broker stops, and a batch finds no room");
    end_core(world);
}

void broker_tick(struct world *world)
{
    struct event event = {.kind = EVENT_TICK};
    if (world->core != NULL && !is_stopped(world)) {
        broker_step(world, &event);
    }
}

void broker_stats(struct world *world, bool disk_low)
{
    struct store_stats stats = {.disk_low = disk_low || world->is_full};
    struct event event = {.kind = EVENT_STATS, .stats = &stats};
    if (world->core != NULL && !is_stopped(world)) {
        world->disk_low = stats.disk_low;
        broker_step(world, &event);
    }
}

/* ---- batches ---- */

bool broker_seal(struct world *world)
{
    if (world->core == NULL || is_stopped(world) || world->sealed_count == SEALED_COUNT_MAX) {
        return false;
    }
    struct batch *batch = core_seal(world->core);
    world_say(world, "seal %" PRIu64 ": %zu rows, %zu gated frames", batch->number, batch->count, batch->gated.count);
    world->sealed[world->sealed_count++] = (struct sealed){.batch = batch};
    return true;
}

/* As the journal does it: the batch stays as it is, submits are refused, loads are answered, and it tries again. */
static bool finds_no_room(struct world *world)
{
    if (world->is_full && (world->full_retry_at > world->now || is_stopped(world))) {
        return true;
    }
    if (world->full_until <= world->now || is_stopped(world) || !rng_percent(&world->rng, world->full_percent)) {
        return false;
    }
    world->full_retry_at = world->now + FULL_RETRY_MS;
    if (!world->is_full) {
        world->is_full = true;
        world->full_batches++;
        world_say(world, "the disk is full");
        broker_stats(world, true);
    }
    return true;
}

static void has_room_again(struct world *world)
{
    if (world->is_full) {
        world->is_full = false;
        world_say(world, "the disk has room");
        broker_stats(world, world->full_until > world->now); /* told before anybody hears of the commit */
    }
}

bool broker_apply(struct world *world)
{
    if (world->stalled_until > world->now) {
        return false;
    }
    for (size_t i = 0; world->core != NULL && i < world->sealed_count; i++) {
        if (!world->sealed[i].is_applied) {
            if (finds_no_room(world)) {
                return false;
            }
            apply(world, world->sealed[i].batch, false);
            /* The outcome of a commit may be unknown, and the same batch applied again (idempotent rows). */
            if (rng_percent(&world->rng, 10)) {
                apply(world, world->sealed[i].batch, true);
            }
            world->sealed[i].is_applied = true;
            world->sealed[i].applied_as = world->applied_count;
            world_say(world, "batch %" PRIu64 " is on disk", world->sealed[i].batch->number);
            has_room_again(world);
            return true;
        }
    }
    return false;
}

/* In the loop's order: the step, the gated frames, then what the step itself said. */
bool broker_notice(struct world *world)
{
    if (world->core == NULL || is_stopped(world) || world->sealed_count == 0 || !world->sealed[0].is_applied) {
        return false;
    }
    struct batch *batch = world->sealed[0].batch;
    struct event event = {.kind = EVENT_COMMITTED, .batch = batch->number};
    core_take(world, &event);
    world->sending_for = world->sealed[0].applied_as;
    send_frames(world, &batch->gated);
    batch_free(world->core, &batch);
    world->sealed_count--;
    memmove(&world->sealed[0], &world->sealed[1], world->sealed_count * sizeof world->sealed[0]);
    carry_out(world);
    return true;
}

bool broker_answer_load(struct world *world)
{
    if (world->core == NULL || is_stopped(world) || world->stalled_until > world->now || world->load_count == 0) {
        return false;
    }
    struct load *load = world->loads[0];
    memmove(&world->loads[0], &world->loads[1], --world->load_count * sizeof world->loads[0]);
    struct loaded *loaded = memstore_answer(world->disk, load);
    struct event event = {.kind = EVENT_LOADED, .loaded = loaded};
    broker_step(world, &event);
    memstore_loaded_free(&loaded);
    free(load);
    return true;
}

/* ---- delivering ---- */

static bool deliver_closed(struct world *world, struct wire *wire)
{
    if (!wire->wants_closed) {
        return false;
    }
    wire->wants_closed = false;
    world_say(world, "broker learns that wire %" PRIu64 " is gone", wire->conn);
    struct event event = {.kind = EVENT_CLOSED, .conn = wire->conn};
    broker_step(world, &event);
    return true;
}

bool wire_deliver_to_broker(struct world *world, struct wire *wire)
{
    if (world->core == NULL || is_stopped(world) || wire->life != world->life || wire->is_cut || wire->is_cut_there) {
        return false;
    }
    if (wire->is_broken) { /* kicked: the link says so, once */
        fifo_keep(&wire->to_broker, 0);
        return deliver_closed(world, wire);
    }
    if (wire->to_broker.count == 0) {
        return deliver_closed(world, wire);
    }
    struct buf frame = fifo_pop(&wire->to_broker);
    struct event event = {.kind = EVENT_FRAME, .conn = wire->conn, .frame = buf_bytes(&frame), .peer = "simulated"};
    broker_step(world, &event);
    struct buf *kept = &wire->said[wire->said_count++ % SAID_COUNT];
    buf_fini(kept);
    *kept = frame;
    return true;
}

bool wire_deliver_to_peer(struct world *world, struct wire *wire)
{
    struct peer *peer = wire->peer;
    if (peer == NULL || wire->is_cut || wire->is_cut_back || peer->paused_until > world->now) {
        return false;
    }
    if (wire->to_peer.count > 0) {
        struct buf frame = fifo_pop(&wire->to_peer);
        sim_peer_receive(peer, buf_bytes(&frame));
        buf_fini(&frame);
        return true;
    }
    if (wire->is_broken) {
        sim_peer_down(peer);
        return true;
    }
    return false;
}

/* ---- for scenarios ---- */

bool commit(struct world *world)
{
    for (unsigned i = 0; world->core != NULL && i < 8; i++) {
        while (broker_apply(world) || broker_notice(world)) {
        }
        if (!core_wants_commit(world->core, INT64_MAX)) {
            break;
        }
        broker_seal(world);
    }
    return world->sealed_count == 0;
}

static bool deliver_some(struct world *world)
{
    bool did = false;
    for (size_t i = 0; i < world->wire_count; i++) {
        while (wire_deliver_to_broker(world, world->wires[i])) {
            did = true;
        }
        while (wire_deliver_to_peer(world, world->wires[i])) {
            did = true;
        }
    }
    wires_sweep(world);
    return did;
}

void deliver(struct world *world)
{
    for (unsigned i = 0; i < 1000 && deliver_some(world); i++) {
    }
}

void settle(struct world *world)
{
    for (unsigned i = 0; i < 1000; i++) {
        bool did = deliver_some(world);
        while (broker_answer_load(world)) {
            did = true;
        }
        if (world->core != NULL && (world->sealed_count > 0 || core_wants_commit(world->core, INT64_MAX))) {
            did = commit(world) || did;
        }
        if (!did) {
            return;
        }
    }
}

static int64_t next_wake(const struct world *world, int64_t end)
{
    int64_t at = end;
    if (world->core != NULL && world->wake_at < at) {
        at = world->wake_at;
    }
    for (size_t i = 0; i < world->peer_count; i++) {
        int64_t wake = sim_peer_wake(world->peers[i]);
        at = wake < at ? wake : at;
    }
    return at > world->now ? at : world->now + 1;
}

void pass_still(struct world *world, int64_t ms)
{
    int64_t end = world->now + ms;
    int64_t piece = (int64_t)world->limits.heartbeat_ms; /* in one leap the broker would take itself for stopped */
    while (world->now < end) {
        world->now += end - world->now < piece ? end - world->now : piece;
        broker_tick(world);
    }
}

void pass(struct world *world, int64_t ms)
{
    int64_t end = world->now + ms;
    settle(world);
    while (world->now < end) {
        world->now = next_wake(world, end);
        if (world->core != NULL && world->wake_at <= world->now) {
            broker_tick(world);
        }
        for (size_t i = 0; i < world->peer_count; i++) {
            sim_peer_tick(world->peers[i]);
        }
        settle(world);
    }
}

/* ---- the whole ---- */

struct world *world_new(uint64_t seed)
{
    struct world *world = xcalloc(1, sizeof *world);
    world->seed = seed;
    world->rng.state = seed * 0x2545f4914f6cdd1du + 1;
    world->now = 1000;
    world->limits = limits_default();
    world->trace = xcalloc(TRACE_LINE_COUNT, TRACE_LINE_SIZE);
    world->disk = memstore_open(seed + 1);
    world->send_left = SIZE_MAX;
    world->wake_at = INT64_MAX;
    world->check_every = 1;
    world->stranger = (struct peer){.world = world, .kind = PEER_STRANGER, .name = "a stranger"};
    world->oracle = oracle_new(world);
    return world;
}

static void peer_free(struct peer *peer)
{
    if (peer->kind == PEER_CLIENT) {
        sim_client_free((struct client *)(void *)peer);
    } else {
        sim_worker_free((struct worker *)(void *)peer);
    }
}

void world_free(struct world **world_in)
{
    struct world *world = *world_in;
    if (world->core != NULL) {
        end_core(world);
    }
    for (size_t i = 0; i < world->wire_count; i++) {
        wire_free(&world->wires[i]);
    }
    for (size_t i = 0; i < world->peer_count; i++) {
        peer_free(world->peers[i]);
    }
    oracle_free(&world->oracle);
    memstore_close(&world->disk);
    free(world->wires);
    free(world->peers);
    free(world->loads);
    free(world->trace);
    free(world);
    *world_in = NULL;
}

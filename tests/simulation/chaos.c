/*
 * chaos.c owns the choice of what happens next in a random world: which frame arrives, what commits, who dies.
 * It must not know the core, and must draw everything from the world's seed.
 * Start reading at the table of actions.
 */
#include "chaos.h"

#include "common/check.h"
#include "oracle.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ACTOR_COUNT_MAX 6u
#define SUBMIT_COUNT_MAX 60u
#define DRAIN_ROUND_COUNT_MAX 4000u
#define DRAIN_ROUND_MS 100
#define RIVAL_COUNT_MAX 2u
#define NESTED_ROOM 10000u
#define CLOCK_STEP_MS ((int64_t)2 * 3600 * 1000)

/* A place for clients of one session, one process after the other. */
struct actor {
    char session_name[32]; /* "": unnamed */
    struct client *client;
    uint64_t line_count;
    int64_t returns_at;
    bool is_volatile;
    bool is_rival; /* a second one on somebody else's session; not replaced */
};

struct chaos {
    struct world *world;
    const struct chaos_plan *plan; /* NULL: all that the seed says */
    uint64_t step_count;
    struct actor actors[ACTOR_COUNT_MAX];
    size_t actor_count;
    struct worker *workers[4];
    size_t worker_count;
    int64_t worker_returns_at[4];
    struct worker *rivals[RIVAL_COUNT_MAX]; /* second ones of a name */
    size_t rival_count;
    bool is_gentle;
    bool is_tame;
    unsigned real_percent; /* of peers that are the product's own code; the others are models */
    unsigned amo_percent;
    unsigned nested_percent;
    unsigned retry_percent;
    unsigned sealed_max;
    int64_t broker_returns_at;
};

static uint64_t below(struct chaos *chaos, uint64_t bound)
{
    return rng_below(&chaos->world->rng, bound);
}

static bool percent(struct chaos *chaos, unsigned percent)
{
    return rng_percent(&chaos->world->rng, percent);
}

/* ---- cast ---- */

static void actor_enter(struct chaos *chaos, struct actor *actor)
{
    bool is_real = percent(chaos, chaos->real_percent);
    struct client *client = is_real ? sim_client_new_real(chaos->world, actor->session_name)
                                    : sim_client_new(chaos->world, actor->session_name);
    client->peer.is_auto = true;
    client->peer.retry_at = chaos->world->now + (int64_t)below(chaos, 50);
    client->take_over = percent(chaos, 80);
    client->window = percent(chaos, 50) ? 1 + below(chaos, 5) : 0;
    client->is_volatile = actor->is_volatile;
    client->line_count = actor->line_count;
    client->line_ahead = 1 + (unsigned)below(chaos, 6);
    actor->client = client;
}

static void worker_enter(struct chaos *chaos, size_t index)
{
    char name[16];
    snprintf(name, sizeof name, "worker%zu", index);
    bool is_real = percent(chaos, chaos->real_percent);
    uint64_t slots = 1 + below(chaos, 3);
    struct worker *worker =
        is_real ? sim_worker_new_real(chaos->world, name, slots) : sim_worker_new(chaos->world, name, slots);
    worker->peer.is_auto = true;
    worker->prefetch = below(chaos, 4);
    worker->tells_start = percent(chaos, 60);
    worker->fail_percent = percent(chaos, 50) ? 25 : 0;
    worker->crash_percent = !chaos->is_gentle && percent(chaos, 40) ? 15 : 0;
    worker->memory_percent = percent(chaos, 30) ? 10 : 0;
    worker->run_ms_max = percent(chaos, 30) ? 2000 : 50;
    chaos->workers[index] = worker;
}

static void draw_limits(struct chaos *chaos)
{
    struct limits *limits = &chaos->world->limits;
    if (percent(chaos, 50)) {
        limits->resident_bytes_max = below(chaos, 400);
    }
    if (percent(chaos, 50)) {
        limits->client_window_count = 1 + below(chaos, 8);
    }
    if (percent(chaos, 30)) {
        /* So few could all be handlers that wait for tasks there is no room for: that bound is in the millions. */
        limits->task_count_max = 5 + below(chaos, 20) + (chaos->nested_percent > 0 ? NESTED_ROOM : 0);
    }
    if (percent(chaos, 30)) {
        limits->series_used_max = 4 + below(chaos, 30);
    }
    if (percent(chaos, 30)) {
        limits->acked_count_max = below(chaos, 6);
    }
    if (percent(chaos, 20)) {
        limits->batch_row_count_max = 4 + below(chaos, 10);
    }
    if (!chaos->is_gentle && percent(chaos, 60)) {
        limits->heartbeat_ms = 300;
        limits->dead_ms = 1000;
        limits->lease_ms = 1500;
        limits->claim_ms = 100;
    }
}

static size_t at_most(size_t count, uint64_t max)
{
    return max > 0 && count > max ? (size_t)max : count;
}

static struct chaos *enter(struct world *world, bool is_tame, const struct chaos_plan *plan)
{
    struct chaos *chaos = xcalloc(1, sizeof *chaos);
    chaos->world = world;
    chaos->plan = plan;
    chaos->is_tame = is_tame;
    chaos->is_gentle = percent(chaos, 35);
    chaos->real_percent = percent(chaos, 75) ? 80 : 0;
    chaos->nested_percent = percent(chaos, 30) && !is_tame ? 25 : 0;
    chaos->amo_percent = percent(chaos, 60) && !is_tame ? 30 : 0;
    chaos->retry_percent = percent(chaos, 60) ? 40 : 0;
    chaos->sealed_max = percent(chaos, 70) ? 1 : SEALED_COUNT_MAX;
    world->workers_were_hurt = !chaos->is_gentle;
    draw_limits(chaos);
    broker_start(world);
    chaos->actor_count = at_most(1 + below(chaos, 3), plan ? plan->client_max : 0);
    for (size_t i = 0; i < chaos->actor_count; i++) {
        struct actor *actor = &chaos->actors[i];
        bool is_named = i == 0 || percent(chaos, 75);
        if (is_named) {
            snprintf(actor->session_name, sizeof actor->session_name, "session%zu", i);
        }
        actor->is_volatile = !is_tame && percent(chaos, 30);
        actor->line_count = is_named && percent(chaos, 50) ? 5 + below(chaos, 30) : 0;
        actor_enter(chaos, actor);
    }
    chaos->worker_count = at_most(1 + below(chaos, 3), plan ? plan->worker_max : 0);
    for (size_t i = 0; i < chaos->worker_count; i++) {
        worker_enter(chaos, i);
    }
    return chaos;
}

struct chaos *chaos_new(struct world *world)
{
    return enter(world, false, NULL);
}

struct chaos *chaos_new_planned(struct world *world, const struct chaos_plan *plan)
{
    return enter(world, false, plan);
}

struct chaos *chaos_new_tame(struct world *world)
{
    return enter(world, true, NULL);
}

void chaos_free(struct chaos **chaos)
{
    free(*chaos);
    *chaos = NULL;
}

bool chaos_is_gentle(const struct chaos *chaos)
{
    return chaos->is_gentle;
}

/* ---- actions ---- */

static struct wire *any_wire(struct chaos *chaos)
{
    struct world *world = chaos->world;
    return world->wire_count == 0 ? NULL : world->wires[below(chaos, world->wire_count)];
}

static struct actor *any_actor(struct chaos *chaos)
{
    struct actor *actor = &chaos->actors[below(chaos, chaos->actor_count)];
    return actor->client == NULL || actor->client->peer.is_dead || actor->client->peer.is_denied ? NULL : actor;
}

static struct worker *any_worker(struct chaos *chaos)
{
    struct worker *worker = chaos->workers[below(chaos, chaos->worker_count)];
    return worker->peer.is_dead ? NULL : worker;
}

static void act_to_broker(struct chaos *chaos)
{
    struct wire *wire = any_wire(chaos);
    if (wire != NULL) {
        wire_deliver_to_broker(chaos->world, wire);
    }
}

static void act_to_peer(struct chaos *chaos)
{
    struct wire *wire = any_wire(chaos);
    if (wire != NULL) {
        wire_deliver_to_peer(chaos->world, wire);
    }
}

static void act_seal(struct chaos *chaos)
{
    struct world *world = chaos->world;
    bool wants = world->core != NULL && core_wants_commit(world->core, world->now);
    if (world->sealed_count < chaos->sealed_max && (wants || percent(chaos, 5))) {
        broker_seal(world);
    }
}

static void act_apply(struct chaos *chaos)
{
    broker_apply(chaos->world);
}

static void act_notice(struct chaos *chaos)
{
    broker_notice(chaos->world);
}

static void act_load(struct chaos *chaos)
{
    broker_answer_load(chaos->world);
}

static int64_t draw_time(struct chaos *chaos)
{
    unsigned dice = (unsigned)below(chaos, 1000);
    if (dice < 700) {
        return (int64_t)below(chaos, 4);
    }
    if (dice < 980 || chaos->is_gentle || chaos->is_tame) {
        return (int64_t)below(chaos, 40);
    }
    return (int64_t)below(chaos, chaos->world->limits.lease_ms * 5 / 4);
}

static void act_time(struct chaos *chaos)
{
    struct world *world = chaos->world;
    world->now += draw_time(chaos);
    if (world->core != NULL && world->wake_at <= world->now) {
        broker_tick(world);
    }
    for (size_t i = 0; i < world->peer_count; i++) {
        sim_peer_tick(world->peers[i]);
    }
}

static void act_submit(struct chaos *chaos)
{
    struct actor *actor = any_actor(chaos);
    if (actor == NULL || actor->client->submit_count >= SUBMIT_COUNT_MAX || actor->line_count > 0) {
        return;
    }
    struct spec spec = {.at_most_once = percent(chaos, chaos->amo_percent), .big = percent(chaos, 10)};
    if (percent(chaos, 20)) {
        spec.priority = (int32_t)below(chaos, 5) - 2;
    }
    if (percent(chaos, 15)) {
        spec.delay_ms = below(chaos, 300);
    }
    if (percent(chaos, 20)) {
        spec.expires_ms = 1 + below(chaos, 200);
    }
    if (!spec.at_most_once && percent(chaos, chaos->retry_percent)) {
        spec.attempts = 2 + below(chaos, 3);
    }
    spec.timeout_ms = percent(chaos, 15) ? 1 + below(chaos, 100) : 0;
    /* No limits of memory: a worker would look at the memory of a process of that number, and of this machine. */
    spec.nested = percent(chaos, chaos->nested_percent) ? 1 + (unsigned)below(chaos, 3) : 0;
    for (uint64_t left = 1 + below(chaos, 3); left > 0; left--) {
        sim_client_submit(actor->client, &spec);
    }
}

static void act_line(struct chaos *chaos)
{
    struct actor *actor = any_actor(chaos);
    if (actor != NULL && actor->line_count > 0 && sim_client_unanswered(actor->client) < actor->client->line_ahead &&
        actor->client->was_welcomed) {
        sim_client_line(actor->client);
    }
}

static void act_take(struct chaos *chaos)
{
    struct actor *actor = any_actor(chaos);
    if (actor == NULL) {
        return;
    }
    if (percent(chaos, 30) && actor->client->took_count > 0) {
        sim_client_take_at(actor->client, actor->client->took[below(chaos, actor->client->took_count)].completion);
    } else {
        sim_client_take(actor->client);
    }
}

static void act_acknowledge(struct chaos *chaos)
{
    struct actor *actor = any_actor(chaos);
    if (actor != NULL && actor->client->must_acknowledge) {
        sim_client_acknowledge(actor->client);
    }
}

static void act_cancel(struct chaos *chaos)
{
    struct actor *actor = any_actor(chaos);
    if (actor != NULL && actor->client->submit_count > 0 && actor->client->was_welcomed) {
        sim_client_cancel(actor->client, sim_client_task(actor->client, 1 + below(chaos, actor->client->submit_count)),
                          percent(chaos, 40));
    }
}

/* Ends submitting; when all is taken the session is gone, and its name is free for a new one. */
static void act_close(struct chaos *chaos)
{
    struct actor *actor = any_actor(chaos);
    if (actor != NULL && actor->line_count == 0) {
        sim_client_close(actor->client, percent(chaos, 50));
    }
}

/* Frames on their way may be lost, or arrive late; the broker may learn of the end only by silence. */
static void drop_wire(struct chaos *chaos, struct peer *peer)
{
    struct wire *wire = peer->wire;
    if (wire == NULL) {
        return;
    }
    if (percent(chaos, 60)) {
        wire_lose(chaos->world, wire, true, below(chaos, wire->to_broker.count + 1));
    }
    world_say(chaos->world, "%s loses its wire", peer->name);
    sim_peer_drop_wire(peer, percent(chaos, 70));
}

static void act_client_drop(struct chaos *chaos)
{
    struct actor *actor = any_actor(chaos);
    if (actor != NULL) {
        drop_wire(chaos, &actor->client->peer);
    }
}

static void act_client_die(struct chaos *chaos)
{
    struct actor *actor = any_actor(chaos);
    if (actor != NULL) {
        drop_wire(chaos, &actor->client->peer);
        sim_peer_die(&actor->client->peer, true);
        actor->returns_at = chaos->world->now + (int64_t)below(chaos, 300);
    }
}

/* It leaves politely. */
static void act_client_leave(struct chaos *chaos)
{
    struct actor *actor = any_actor(chaos);
    if (actor != NULL && percent(chaos, 30)) {
        sim_client_leave(actor->client);
        actor->returns_at = chaos->world->now + (int64_t)below(chaos, 300);
    }
}

static void act_client_rival(struct chaos *chaos)
{
    struct actor *actor = any_actor(chaos);
    if (actor != NULL && actor->session_name[0] != '\0' && !actor->is_rival && chaos->actor_count < ACTOR_COUNT_MAX) {
        struct actor *rival = &chaos->actors[chaos->actor_count++];
        *rival = (struct actor){.line_count = actor->line_count, .is_volatile = actor->is_volatile, .is_rival = true};
        memcpy(rival->session_name, actor->session_name, sizeof rival->session_name);
        actor_enter(chaos, rival);
    }
}

static void actors_return(struct chaos *chaos)
{
    for (size_t i = 0; i < chaos->actor_count; i++) {
        struct actor *actor = &chaos->actors[i];
        struct peer *peer = &actor->client->peer;
        if (peer->is_denied && !peer->is_dead) {
            sim_peer_die(peer, true);
            actor->returns_at = chaos->world->now + (int64_t)below(chaos, 100);
        }
        if (peer->is_dead && !actor->is_rival && actor->returns_at <= chaos->world->now && percent(chaos, 20)) {
            actor_enter(chaos, actor);
        }
    }
}

static void act_worker_drop(struct chaos *chaos)
{
    struct worker *worker = any_worker(chaos);
    if (worker != NULL && !chaos->is_tame) {
        drop_wire(chaos, &worker->peer);
    }
}

static void act_worker_die(struct chaos *chaos)
{
    size_t index = below(chaos, chaos->worker_count);
    if (chaos->is_gentle || chaos->is_tame || chaos->workers[index]->peer.is_dead) {
        return;
    }
    drop_wire(chaos, &chaos->workers[index]->peer);
    sim_peer_die(&chaos->workers[index]->peer, true);
    chaos->worker_returns_at[index] = chaos->world->now + (int64_t)below(chaos, 500);
}

static void workers_return(struct chaos *chaos)
{
    for (size_t i = 0; i < chaos->worker_count; i++) {
        struct worker *worker = chaos->workers[i];
        bool is_drained = sim_worker_is_drained(worker);
        if ((worker->peer.is_dead && chaos->worker_returns_at[i] <= chaos->world->now) || is_drained) {
            if (!worker->peer.is_dead) {
                bool was_hurt = chaos->world->workers_were_hurt;
                bool is_polite = sim_worker_is_polite(worker);
                sim_peer_die(&worker->peer, true);
                chaos->world->workers_were_hurt = was_hurt || !is_polite; /* it held nothing */
            }
            worker_enter(chaos, i);
        }
    }
}

static void act_worker_pause(struct chaos *chaos)
{
    struct worker *worker = any_worker(chaos);
    if (worker != NULL && !chaos->is_gentle && !chaos->is_tame) {
        worker->peer.paused_until = chaos->world->now + (int64_t)below(chaos, chaos->world->limits.lease_ms * 3 / 2);
        world_say(chaos->world, "%s stops until %" PRId64, worker->peer.name, worker->peer.paused_until);
    }
}

static void act_worker_drain(struct chaos *chaos)
{
    struct worker *worker = any_worker(chaos);
    if (worker != NULL && !worker->is_draining && !chaos->is_tame) {
        world_say(chaos->world, "%s drains", worker->peer.name);
        sim_worker_drain(worker);
    }
}

static void act_worker_return(struct chaos *chaos)
{
    struct worker *worker = any_worker(chaos);
    if (worker != NULL && worker->held_count > 0 && !chaos->is_tame) {
        sim_worker_return(worker, worker->held[below(chaos, worker->held_count)].token.task);
    }
}

/* Both ways, or one of them. */
static void act_cut(struct chaos *chaos)
{
    struct wire *wire = any_wire(chaos);
    if (wire == NULL || chaos->is_gentle || chaos->is_tame) {
        return;
    }
    unsigned which = 1 + (unsigned)below(chaos, 3);
    wire->is_cut_there ^= (which & 1) != 0;
    wire->is_cut_back ^= (which & 2) != 0;
    world_say(chaos->world, "wire %" PRIu64 " is %s to the broker, %s back", wire->conn, wire->is_cut ? "cut" : "whole",
              wire->is_cut_back ? "cut" : "whole");
}

static void act_client_pause(struct chaos *chaos)
{
    struct actor *actor = any_actor(chaos);
    if (actor != NULL && !chaos->is_tame) {
        struct peer *peer = &actor->client->peer;
        peer->paused_until = chaos->world->now + (int64_t)below(chaos, chaos->world->limits.dead_ms * 3 / 2);
        world_say(chaos->world, "%s stops until %" PRId64, peer->name, peer->paused_until);
    }
}

/* The broker is stopped and goes on. */
static void act_broker_pause(struct chaos *chaos)
{
    struct world *world = chaos->world;
    if (world->core != NULL && !chaos->is_gentle && !chaos->is_tame) {
        world->stopped_until = world->now + (int64_t)below(chaos, world->limits.lease_ms * 3 / 2);
        world_say(world, "the broker stops until %" PRId64, world->stopped_until);
    }
}

/* The disk does not answer, or is full until somebody makes room. */
static void act_stall(struct chaos *chaos)
{
    struct world *world = chaos->world;
    if (!chaos->is_tame) {
        world->stalled_until = world->now + (int64_t)below(chaos, chaos->is_gentle ? 200 : 5000);
        world_say(world, "the disk stalls until %" PRId64, world->stalled_until);
    }
}

static void act_clock(struct chaos *chaos)
{
    struct world *world = chaos->world;
    if (!chaos->is_tame) {
        world->wall_ahead += (int64_t)below(chaos, 2 * CLOCK_STEP_MS) - CLOCK_STEP_MS;
        world->clock_has_jumped = true;
        world_say(world, "the wall clock is set, %" PRId64 " ms ahead", world->wall_ahead);
    }
}

/* Whoever knows the tokens of a worker is that worker, as far as anybody can tell. */
static bool is_inventory(struct bytes frame)
{
    uint32_t generation;
    struct cursor cursor;
    struct message message;
    uint64_t unknown;
    const char *why = "";
    return frame_open(frame, &generation, &cursor) == QUERN_OK &&
           message_next(&cursor, &message, &unknown, &why) == QUERN_OK && message.kind == MSG_HELLO_WORKER;
}

/* Bytes by chance, or what an honest peer says with some bytes changed, under a name of his own. */
static void act_stranger(struct chaos *chaos)
{
    struct world *world = chaos->world;
    struct wire *wire = any_wire(chaos);
    struct buf frame = {0};
    if (wire == NULL || chaos->is_tame || chaos->is_gentle) {
        return;
    }
    struct bytes heard = wire_newest(wire);
    if (heard.n == 0 || percent(chaos, 30) || is_inventory(heard)) {
        frame_begin(&frame, (uint32_t)below(chaos, 4));
        for (uint64_t left = below(chaos, 60); left > 0; left--) {
            buf_put_u8(&frame, (uint8_t)below(chaos, 256));
        }
    } else {
        buf_put(&frame, heard.p, heard.n);
        for (uint64_t left = 1 + below(chaos, 5); left > 0; left--) {
            frame.p[below(chaos, frame.n)] = (uint8_t)below(chaos, 256);
        }
        for (size_t i = 0; i < frame.n; i++) { /* nobody's name but his own */
            bool is_instance = frame.p[i] == 0xc1 || frame.p[i] == 0x30;
            frame.p[i] = is_instance ? 0x55 : frame.p[i];
        }
    }
    world_say(world, "a stranger sends %zu bytes", frame.n);
    world_stranger(world, buf_bytes(&frame));
    buf_fini(&frame);
}

/* Somebody starts a second one of a name that is in use. It goes when faults stop. */
static void act_worker_rival(struct chaos *chaos)
{
    struct worker *worker = any_worker(chaos);
    if (worker == NULL || chaos->is_gentle || chaos->is_tame || chaos->rival_count == RIVAL_COUNT_MAX) {
        return;
    }
    struct worker *rival = percent(chaos, 70) ? sim_worker_new_real(chaos->world, worker->peer.name, 1)
                                              : sim_worker_new(chaos->world, worker->peer.name, 1);
    rival->peer.is_auto = true;
    rival->run_ms_max = 50;
    chaos->world->names_are_shared = true;
    chaos->rivals[chaos->rival_count++] = rival;
    world_say(chaos->world, "a second %s starts", worker->peer.name);
}

/* It connects, its HELLO (or its echo) is held up on the way, and it connects again. A worker may be dead when it
 * arrives, and its successor, whom nobody asks to prove that it lives, is then taken for the former one: that costs
 * attempts. */
static void act_late(struct chaos *chaos)
{
    struct actor *actor = any_actor(chaos);
    struct worker *worker = any_worker(chaos);
    struct peer *peer = percent(chaos, 50) && worker && !chaos->is_gentle ? &worker->peer
                        : actor                                           ? &actor->client->peer
                                                                          : NULL;
    if (peer == NULL || chaos->is_tame || chaos->world->core == NULL || peer->paused_until > chaos->world->now) {
        return;
    }
    if (percent(chaos, 70) || peer->wire == NULL) {
        sim_peer_connect(peer);
    }
    if (percent(chaos, 30)) {
        wire_deliver_to_broker(chaos->world, peer->wire);
        wire_deliver_to_peer(chaos->world, peer->wire);
    }
    if (peer->wire != NULL) {
        peer->wire->is_cut = true;
        sim_peer_drop_wire(peer, percent(chaos, 50));
        peer->retry_at = chaos->world->now;
    }
}

/* What was held up arrives. */
static void act_mend(struct chaos *chaos)
{
    struct wire *wire = any_wire(chaos);
    if (wire != NULL) {
        wire->is_cut = wire->is_cut_there = wire->is_cut_back = false;
    }
}

static void crash(struct chaos *chaos)
{
    struct world *world = chaos->world;
    broker_crash(world);
    for (size_t i = 0; i < world->wire_count; i++) {
        wire_lose(world, world->wires[i], false, below(chaos, world->wires[i]->to_peer.count + 1));
    }
    chaos->broker_returns_at = world->now + (int64_t)below(chaos, 60);
}

/* Between any two steps, or in the middle of sending what one of them said. */
static void act_crash(struct chaos *chaos)
{
    struct world *world = chaos->world;
    if (world->core == NULL || chaos->is_tame) {
        return;
    }
    unsigned dice = (unsigned)below(chaos, 100);
    if (dice < 50) {
        world->send_left = below(chaos, 4);
        if (!broker_notice(world)) {
            act_to_broker(chaos);
        }
        world->send_left = 0;
    } else if (dice < 70 && broker_seal(world)) {
        broker_apply(world);
    }
    crash(chaos);
}

static void act_stop(struct chaos *chaos)
{
    if (chaos->world->core != NULL && !chaos->is_tame) {
        broker_stop(chaos->world);
        chaos->broker_returns_at = chaos->world->now + (int64_t)below(chaos, 60);
    }
}

static void act_stats(struct chaos *chaos)
{
    broker_stats(chaos->world, !chaos->is_tame && percent(chaos, 30));
}

/* weight, what */
#define ACTION_LIST(X)                                                                                                 \
    X(3000, to_broker)                                                                                                 \
    X(3000, to_peer)                                                                                                   \
    X(900, seal)                                                                                                       \
    X(900, apply)                                                                                                      \
    X(900, notice)                                                                                                     \
    X(400, load)                                                                                                       \
    X(1500, time)                                                                                                      \
    X(350, submit)                                                                                                     \
    X(500, line)                                                                                                       \
    X(600, take)                                                                                                       \
    X(300, acknowledge)                                                                                                \
    X(60, cancel)                                                                                                      \
    X(10, close)                                                                                                       \
    X(50, client_drop)                                                                                                 \
    X(20, client_die)                                                                                                  \
    X(10, client_leave)                                                                                                \
    X(8, client_rival)                                                                                                 \
    X(50, worker_drop)                                                                                                 \
    X(12, worker_die)                                                                                                  \
    X(10, worker_pause)                                                                                                \
    X(6, worker_drain)                                                                                                 \
    X(15, worker_return)                                                                                               \
    X(40, late)                                                                                                        \
    X(60, mend)                                                                                                        \
    X(15, cut)                                                                                                         \
    X(8, client_pause)                                                                                                 \
    X(4, broker_pause)                                                                                                 \
    X(10, stall)                                                                                                       \
    X(6, clock)                                                                                                        \
    X(5, worker_rival)                                                                                                 \
    X(20, stranger)                                                                                                    \
    X(30, crash)                                                                                                       \
    X(4, stop)                                                                                                         \
    X(15, stats)

static const struct {
    unsigned weight;
    const char *name;
    void (*act)(struct chaos *chaos);
} actions[] = {
#define X(weight, name) {weight, #name, act_##name},
    ACTION_LIST(X)
#undef X
};

static unsigned weight_sum(void)
{
    unsigned sum = 0;
    for (size_t i = 0; i < sizeof actions / sizeof actions[0]; i++) {
        sum += actions[i].weight;
    }
    return sum;
}

unsigned chaos_action_count(void)
{
    return sizeof actions / sizeof actions[0];
}

const char *chaos_action_name(unsigned index)
{
    return actions[index].name;
}

static bool name_read(struct chaos_plan *plan, const char *name, size_t size)
{
    for (unsigned i = 0; i < chaos_action_count(); i++) {
        if (strlen(actions[i].name) == size && memcmp(actions[i].name, name, size) == 0) {
            plan->without |= (uint64_t)1 << i;
            return true;
        }
    }
    return false;
}

bool chaos_plan_without(struct chaos_plan *plan, const char *names)
{
    _Static_assert(sizeof actions / sizeof actions[0] <= 64, "a bit for each");
    while (*names != '\0') {
        size_t size = strcspn(names, ",");
        if (!name_read(plan, names, size)) {
            return false;
        }
        names += size + (names[size] == ',');
    }
    return true;
}

bool chaos_plan_only(struct chaos_plan *plan, const char *ranges)
{
    memset(plan->skips, true, sizeof plan->skips);
    while (*ranges != '\0') {
        char *end;
        uint64_t first = strtoull(ranges, &end, 10);
        uint64_t last = *end == '-' ? strtoull(end + 1, &end, 10) : first;
        if (last < first || last >= CHAOS_STEP_COUNT_MAX || (*end != ',' && *end != '\0')) {
            return false;
        }
        memset(&plan->skips[first], false, last - first + 1);
        ranges = end + (*end == ',');
    }
    return true;
}

static bool is_skipped(const struct chaos *chaos, uint64_t step)
{
    return chaos->plan != NULL && step < CHAOS_STEP_COUNT_MAX && chaos->plan->skips[step];
}

static void act(struct chaos *chaos)
{
    unsigned dice = (unsigned)below(chaos, weight_sum());
    unsigned i = 0;
    while (dice >= actions[i].weight) {
        dice -= actions[i++].weight;
    }
    if (chaos->plan == NULL || !(chaos->plan->without >> i & 1)) {
        actions[i].act(chaos);
    }
}

void chaos_step(struct chaos *chaos)
{
    struct world *world = chaos->world;
    uint64_t step = chaos->step_count++;
    if (is_skipped(chaos, step)) {
        return;
    }
    world->rng.state = (world->seed * 0x2545f4914f6cdd1du + step) * 0x9e3779b97f4a7c15u; /* a stream of its own */
    (void)rng_next(&world->rng);
    act(chaos);
    if (world->core == NULL && chaos->broker_returns_at <= world->now) {
        broker_start(world);
    }
    actors_return(chaos);
    workers_return(chaos);
    wires_sweep(world);
}

/* ---- the end: faults stop ---- */

static void mend(struct chaos *chaos)
{
    struct world *world = chaos->world;
    for (size_t i = 0; i < world->wire_count; i++) {
        struct wire *wire = world->wires[i];
        wire->is_cut = wire->is_cut_there = wire->is_cut_back = false;
    }
    world->stopped_until = 0;
    world->stalled_until = 0;
    for (size_t i = 0; i < chaos->rival_count; i++) {
        if (!chaos->rivals[i]->peer.is_dead) {
            sim_peer_die(&chaos->rivals[i]->peer, true);
        }
    }
    for (size_t i = 0; i < world->peer_count; i++) {
        world->peers[i]->paused_until = 0;
    }
    for (size_t i = 0; i < chaos->actor_count; i++) {
        struct actor *actor = &chaos->actors[i];
        if (actor->is_rival && !actor->client->peer.is_dead) {
            sim_peer_die(&actor->client->peer, true);
        }
    }
    if (world->core == NULL) {
        broker_start(world);
    }
    broker_stats(world, false);
    world_say(world, "faults stop");
}

static bool actor_finish(struct chaos *chaos, struct actor *actor)
{
    struct client *client = actor->client;
    if (actor->is_rival) {
        return true;
    }
    if (client->peer.is_denied || client->peer.is_dead) {
        client->peer.is_dead = true;
        actor_enter(chaos, actor);
        actor->client->take_over = true;
        return false;
    }
    for (unsigned i = 0; i < 10 && client->was_welcomed && actor->line_count > 0; i++) {
        sim_client_line(client);
    }
    while (sim_client_take(client)) {
    }
    if (client->must_acknowledge) {
        sim_client_acknowledge(client);
    }
    bool has_lines = actor->line_count == 0 || client->ordinal_high + 1 >= actor->line_count;
    return client->was_welcomed && has_lines && sim_client_unanswered(client) == 0 && !client->must_acknowledge;
}

static bool drain_round(struct chaos *chaos)
{
    bool is_done = true;
    for (size_t i = 0; i < chaos->actor_count; i++) {
        is_done = actor_finish(chaos, &chaos->actors[i]) && is_done;
    }
    workers_return(chaos);
    pass(chaos->world, DRAIN_ROUND_MS);
    return is_done && oracle_is_drained(chaos->world, false);
}

void chaos_drain(struct chaos *chaos)
{
    struct world *world = chaos->world;
    mend(chaos);
    for (unsigned i = 0; i < DRAIN_ROUND_COUNT_MAX; i++) {
        if (drain_round(chaos)) {
            core_check(world->core);
            return;
        }
    }
    oracle_is_drained(world, true);
    for (size_t i = 0; i < chaos->actor_count; i++) {
        const struct client *client = chaos->actors[i].client;
        world_say(world, "%s: welcomed %d, %zu of %zu unanswered, ordinal %" PRIu64 " of %" PRIu64, client->peer.name,
                  client->peer.is_welcomed, sim_client_unanswered(client), client->submit_count, client->ordinal_high,
                  chaos->actors[i].line_count);
    }
    world_fail(world, "faults have stopped, and the world does not come to rest");
}

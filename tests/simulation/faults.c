/*
 * faults.c owns what goes wrong in a random world: connections, processes, disk, clock.
 * It must not know what is right: oracle.c.
 * Start reading at act_crash.
 */
#include "acts.h"

#include <inttypes.h>
#include <string.h>

#define CLOCK_STEP_MS ((int64_t)2 * 3600 * 1000)

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

void act_client_drop(struct chaos *chaos)
{
    struct actor *actor = any_actor(chaos);
    if (actor != NULL) {
        drop_wire(chaos, &actor->client->peer);
    }
}

void act_client_die(struct chaos *chaos)
{
    struct actor *actor = any_actor(chaos);
    if (actor != NULL) {
        drop_wire(chaos, &actor->client->peer);
        sim_peer_die(&actor->client->peer, true);
        actor->returns_at = chaos->world->now + (int64_t)below(chaos, 300);
    }
}

/* It leaves politely. */
void act_client_leave(struct chaos *chaos)
{
    struct actor *actor = any_actor(chaos);
    if (actor != NULL && percent(chaos, 30)) {
        sim_client_leave(actor->client);
        actor->returns_at = chaos->world->now + (int64_t)below(chaos, 300);
    }
}

void act_client_rival(struct chaos *chaos)
{
    struct actor *actor = any_actor(chaos);
    if (actor != NULL && actor->session_name[0] != '\0' && !actor->is_rival && chaos->actor_count < ACTOR_COUNT_MAX) {
        struct actor *rival = &chaos->actors[chaos->actor_count++];
        *rival = (struct actor){.line_count = actor->line_count, .is_volatile = actor->is_volatile, .is_rival = true};
        memcpy(rival->session_name, actor->session_name, sizeof rival->session_name);
        actor_enter(chaos, rival);
    }
}
void act_worker_drop(struct chaos *chaos)
{
    struct worker *worker = any_worker(chaos);
    if (worker != NULL && !chaos->is_tame) {
        drop_wire(chaos, &worker->peer);
    }
}

void act_worker_die(struct chaos *chaos)
{
    size_t index = below(chaos, chaos->worker_count);
    if (chaos->is_gentle || chaos->is_tame || chaos->workers[index]->peer.is_dead) {
        return;
    }
    drop_wire(chaos, &chaos->workers[index]->peer);
    sim_peer_die(&chaos->workers[index]->peer, true);
    chaos->worker_returns_at[index] = chaos->world->now + (int64_t)below(chaos, 500);
}
void act_worker_pause(struct chaos *chaos)
{
    struct worker *worker = any_worker(chaos);
    if (worker != NULL && !chaos->is_gentle && !chaos->is_tame) {
        worker->peer.paused_until = chaos->world->now + (int64_t)below(chaos, chaos->world->limits.lease_ms * 3 / 2);
        world_say(chaos->world, "%s stops until %" PRId64, worker->peer.name, worker->peer.paused_until);
    }
}

void act_worker_drain(struct chaos *chaos)
{
    struct worker *worker = any_worker(chaos);
    if (worker != NULL && !worker->is_draining && !chaos->is_tame) {
        world_say(chaos->world, "%s drains", worker->peer.name);
        sim_worker_drain(worker);
    }
}

void act_worker_return(struct chaos *chaos)
{
    struct worker *worker = any_worker(chaos);
    if (worker != NULL && worker->held_count > 0 && !chaos->is_tame) {
        sim_worker_return(worker, worker->held[below(chaos, worker->held_count)].token.task);
    }
}

/* Both ways, or one of them. */
void act_cut(struct chaos *chaos)
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

void act_client_pause(struct chaos *chaos)
{
    struct actor *actor = any_actor(chaos);
    if (actor != NULL && !chaos->is_tame) {
        struct peer *peer = &actor->client->peer;
        peer->paused_until = chaos->world->now + (int64_t)below(chaos, chaos->world->limits.dead_ms * 3 / 2);
        world_say(chaos->world, "%s stops until %" PRId64, peer->name, peer->paused_until);
    }
}

/* The broker is stopped and goes on. */
void act_broker_pause(struct chaos *chaos)
{
    struct world *world = chaos->world;
    if (world->core != NULL && !chaos->is_gentle && !chaos->is_tame) {
        world->stopped_until = world->now + (int64_t)below(chaos, world->limits.lease_ms * 3 / 2);
        world_say(world, "the broker stops until %" PRId64, world->stopped_until);
    }
}

/* The disk has no room for a batch, and then again it has: somebody makes room, and somebody else takes it. */
void act_full(struct chaos *chaos)
{
    struct world *world = chaos->world;
    if (!chaos->is_tame) {
        world->full_until = world->now + (int64_t)below(chaos, chaos->is_gentle ? 1000 : 5000);
        world->full_percent = percent(chaos, 50) ? 100 : 20 + (unsigned)below(chaos, 60);
        world_say(world, "the disk is full for %u%% of batches until %" PRId64, world->full_percent, world->full_until);
    }
}

/* The disk does not answer. */
void act_stall(struct chaos *chaos)
{
    struct world *world = chaos->world;
    if (!chaos->is_tame) {
        world->stalled_until = world->now + (int64_t)below(chaos, chaos->is_gentle ? 200 : 5000);
        world_say(world, "the disk stalls until %" PRId64, world->stalled_until);
    }
}

void act_clock(struct chaos *chaos)
{
    struct world *world = chaos->world;
    if (!chaos->is_tame) {
        world->wall_ahead += (int64_t)below(chaos, 2 * CLOCK_STEP_MS) - CLOCK_STEP_MS;
        world->clock_has_jumped = true;
        world_say(world, "the wall clock is set, %" PRId64 " ms ahead", world->wall_ahead);
    }
}
/* Somebody starts a second one of a name that is in use. It goes when faults stop. */
void act_worker_rival(struct chaos *chaos)
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
void act_late(struct chaos *chaos)
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
void act_mend(struct chaos *chaos)
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
void act_crash(struct chaos *chaos)
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

void act_stop(struct chaos *chaos)
{
    if (chaos->world->core != NULL && !chaos->is_tame) {
        broker_stop(chaos->world);
        chaos->broker_returns_at = chaos->world->now + (int64_t)below(chaos, 60);
    }
}

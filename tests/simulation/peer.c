/*
 * peer.c owns what model clients and workers have in common: connecting with a fresh generation, heartbeats, giving a
 * silent broker up, and reading frames.
 * It must not know the core. Written from the protocol's text.
 * Start reading at sim_peer_receive.
 */
#include "common/check.h"
#include "oracle.h"
#include "world.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define RETRY_MS_MAX 400u

static struct client *as_client(struct peer *peer)
{
    return (struct client *)(void *)peer;
}

static struct worker *as_worker(struct peer *peer)
{
    return (struct worker *)(void *)peer;
}

/* ---- sending ---- */

struct buf *sim_peer_out(struct peer *peer)
{
    if (peer->out.n == 0) {
        frame_begin(&peer->out, peer->generation);
    }
    return &peer->out;
}

void sim_peer_flush(struct peer *peer)
{
    if (peer->out.n == 0) {
        return;
    }
    if (peer->wire == NULL || peer->wire->is_broken) {
        buf_fini(&peer->out); /* what must not be lost is sent again after the next WELCOME */
        return;
    }
    peer->sent = peer->world->now;
    wire_say(peer->wire, buf_bytes(&peer->out));
    buf_fini(&peer->out);
}

static void beat(struct peer *peer)
{
    if (peer->kind == PEER_WORKER) {
        sim_worker_ping(as_worker(peer));
        return;
    }
    struct msg_PING ping = {.number = ++peer->ping_number};
    msg_PING_put(sim_peer_out(peer), &ping);
    sim_peer_flush(peer);
}

/* ---- connecting ---- */

void sim_peer_connect(struct peer *peer)
{
    struct world *world = peer->world;
    if (world->core == NULL || peer->is_dead) {
        return;
    }
    if (peer->wire != NULL) {
        sim_peer_drop_wire(peer, true);
    }
    peer->generation++;
    peer->is_welcomed = false;
    peer->wire = world_wire_make(world, peer);
    peer->wire->generation = peer->generation;
    peer->heard = world->now;
    peer->heartbeat_ms = (int64_t)world->limits.heartbeat_ms;
    peer->dead_ms = (int64_t)world->limits.dead_ms;
    buf_fini(&peer->out);
    world_say(world, "%s connects: wire %" PRIu64 " generation %u", peer->name, peer->wire->conn, peer->generation);
    if (peer->role != NULL) {
        peer->role->up(peer);
        return;
    }
    if (peer->kind == PEER_CLIENT) {
        sim_client_hello(as_client(peer), sim_peer_out(peer));
    } else {
        sim_worker_hello(as_worker(peer), sim_peer_out(peer));
    }
    sim_peer_flush(peer);
}

void sim_peer_drop_wire(struct peer *peer, bool told)
{
    struct wire *wire = peer->wire;
    if (wire == NULL) {
        return;
    }
    wire->peer = NULL;
    wire->wants_closed = told;
    peer->wire = NULL;
    peer->is_welcomed = false;
    buf_fini(&peer->out);
    peer->retry_at = peer->world->now + (int64_t)rng_below(&peer->world->rng, RETRY_MS_MAX);
    if (peer->role != NULL) {
        peer->role->down(peer);
    }
}

void sim_peer_die(struct peer *peer, bool told)
{
    world_say(peer->world, "%s dies", peer->name);
    peer->world->death_count++;
    sim_peer_drop_wire(peer, told);
    peer->is_dead = true;
    if (peer->role != NULL && peer->role->die != NULL) {
        peer->role->die(peer);
    }
    if (peer->kind == PEER_WORKER) {
        peer->world->workers_were_hurt = true;
    }
}

void sim_peer_down(struct peer *peer)
{
    world_say(peer->world, "%s: its wire is down", peer->name);
    sim_peer_drop_wire(peer, true);
}

/* ---- reading ---- */

static void denied(struct peer *peer, const struct msg_DENIED *denied)
{
    world_say(peer->world, "%s is denied: %s: %.*s", peer->name, quern_err_word((enum quern_err)denied->code),
              (int)denied->text.n, (const char *)denied->text.p);
    peer->denied = (enum quern_err)denied->code;
    if (peer->kind == PEER_CLIENT) {
        sim_client_denied(as_client(peer), peer->denied);
    }
    peer->is_denied = peer->kind != PEER_WORKER; /* a worker tries again: whoever has its name may be leaving */
    sim_peer_drop_wire(peer, true);
}

static void error(struct peer *peer, const struct msg_ERROR *error)
{
    world_say(peer->world, "%s: error %s for %s: %.*s", peer->name, quern_err_word((enum quern_err)error->code),
              message_word((unsigned)error->kind), (int)error->text.n, (const char *)error->text.p);
    WORLD_CHECK(peer->world, error->code == QUERN_NEED_HELLO || peer->is_odd,
                "%s, which keeps to the protocol, is told of error %s", peer->name,
                quern_err_word((enum quern_err)error->code));
    sim_peer_drop_wire(peer, true);
}

/* What both kinds answer alike; false: it is for the kind. */
static bool read_common(struct peer *peer, const struct message *message)
{
    switch (message->kind) {
    case MSG_DENIED:
        denied(peer, &message->DENIED);
        return true;
    case MSG_ERROR:
        error(peer, &message->ERROR);
        return true;
    case MSG_BYE:
        sim_peer_drop_wire(peer, true);
        return true;
    case MSG_PING: {
        struct msg_PONG pong = {.number = message->PING.number};
        msg_PONG_put(sim_peer_out(peer), &pong);
        sim_peer_flush(peer);
        return true;
    }
    default:
        return false;
    }
}

void sim_peer_receive(struct peer *peer, struct bytes frame)
{
    struct world *world = peer->world;
    struct wire *wire = peer->wire;
    uint32_t generation;
    struct cursor cursor;
    enum quern_err err = frame_open(frame, &generation, &cursor);
    WORLD_CHECK(world, err == QUERN_OK, "%s reads a frame that is none", peer->name);
    WORLD_CHECK(world, generation == wire->generation,
                "%s: frame of generation %u on wire %" PRIu64 " of generation %u", peer->name, generation, wire->conn,
                wire->generation);
    peer->heard = world->now;
    if (peer->role != NULL) {
        peer->role->frame(peer, frame);
        return;
    }
    while (peer->wire == wire) {
        struct message message;
        uint64_t unknown;
        const char *why = "";
        err = message_next(&cursor, &message, &unknown, &why);
        if (err == QUERN_END) {
            return;
        }
        WORLD_CHECK(world, err == QUERN_OK, "%s reads a message that is none: %s", peer->name, why);
        if (read_common(peer, &message)) {
            continue;
        }
        if (peer->kind == PEER_CLIENT) {
            sim_client_message(as_client(peer), &message);
        } else {
            sim_worker_message(as_worker(peer), &message);
        }
    }
}

/* ---- time ---- */

void sim_peer_tick(struct peer *peer)
{
    struct world *world = peer->world;
    if (!peer->is_dead && peer->role != NULL && peer->role->pulse != NULL) {
        peer->role->pulse(peer);
    }
    if (peer->is_dead || peer->paused_until > world->now) {
        return;
    }
    if (peer->role != NULL) {
        peer->role->tick(peer);
    } else if (peer->kind == PEER_WORKER && peer->is_auto) {
        sim_worker_tick(as_worker(peer));
    }
    if (peer->is_dead) {
        return;
    }
    if (peer->wire == NULL) {
        if (peer->is_auto && !peer->is_denied && peer->retry_at <= world->now) {
            sim_peer_connect(peer);
        }
        return;
    }
    if (peer->role != NULL) {
        return; /* its own tick has seen to it */
    }
    if (!peer->is_auto) {
        return;
    }
    if (world->now - peer->heard >= peer->dead_ms) {
        world_say(world, "%s gives the silent broker up", peer->name);
        sim_peer_drop_wire(peer, true);
        return;
    }
    bool is_due = world->now - peer->sent >= peer->heartbeat_ms ||
                  (peer->kind == PEER_WORKER && peer->is_welcomed &&
                   world->now - as_worker(peer)->ping_sent >= peer->heartbeat_ms);
    if (is_due) {
        beat(peer);
    }
}

int64_t sim_peer_wake(const struct peer *peer)
{
    if (peer->is_dead || !peer->is_auto) {
        return INT64_MAX;
    }
    int64_t at = INT64_MAX;
    if (peer->paused_until > peer->world->now) {
        return peer->paused_until;
    }
    if (peer->role != NULL) {
        at = peer->role->wake(peer);
        return peer->wire == NULL && !peer->is_denied && peer->retry_at < at ? peer->retry_at : at;
    }
    if (peer->wire == NULL) {
        at = peer->is_denied ? INT64_MAX : peer->retry_at;
    } else {
        at = peer->sent + peer->heartbeat_ms;
    }
    if (peer->kind == PEER_WORKER) {
        const struct worker *worker = (const struct worker *)(const void *)peer;
        for (size_t i = 0; i < worker->held_count; i++) {
            if (worker->held[i].state == HELD_RUNNING && worker->held[i].ends_at < at) {
                at = worker->held[i].ends_at;
            }
        }
        if (peer->is_welcomed && worker->ping_sent + peer->heartbeat_ms < at) {
            at = worker->ping_sent + peer->heartbeat_ms;
        }
    }
    return at;
}

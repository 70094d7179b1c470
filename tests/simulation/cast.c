/*
 * cast.c owns who takes part in a random world, and what kind of world it is.
 * It must not know what happens in it.
 * Start reading at enter.
 */
#include "cast.h"

#include "common/check.h"

#include <stdio.h>
#include <stdlib.h>

#define NESTED_ROOM 10000u

uint64_t below(struct chaos *chaos, uint64_t bound)
{
    return rng_below(&chaos->world->rng, bound);
}

bool percent(struct chaos *chaos, unsigned percent)
{
    return rng_percent(&chaos->world->rng, percent);
}

void actor_enter(struct chaos *chaos, struct actor *actor)
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

void worker_enter(struct chaos *chaos, size_t index)
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

/* So little could all be taken by handlers that wait for tasks there is no room for: those bounds are in GiB. */
static void draw_memory(struct chaos *chaos, struct limits *limits)
{
    if (chaos->is_tame) {
        return; /* what is there no more, and so what is refused, depends on when batches commit */
    }
    if (percent(chaos, 20)) {
        limits->volatile_bytes_max = 1 + below(chaos, 2000); /* at 0 nothing is ever accepted */
    }
    if (chaos->nested_percent == 0 && percent(chaos, 20)) {
        limits->task_bytes_max = 1 + below(chaos, 4000);
    }
    if (chaos->nested_percent == 0 && percent(chaos, 10)) {
        limits->unacked_count_max = 1 + below(chaos, 10);
    } else if (chaos->nested_percent == 0 && percent(chaos, 10)) {
        limits->unacked_bytes_max = below(chaos, 1000);
    }
    if (percent(chaos, 60)) { /* the rest of what is ready is on disk only */
        limits->ready_turn_count = 1 + below(chaos, 5);
    }
    if (percent(chaos, 10)) {
        limits->ready_bytes_max = 0;
    }
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
        limits->batch_submit_count_max = 1 + limits->batch_row_count_max % 4;
    }
    draw_memory(chaos, limits);
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
/* ---- who is there, who comes again ---- */

struct wire *any_wire(struct chaos *chaos)
{
    struct world *world = chaos->world;
    return world->wire_count == 0 ? NULL : world->wires[below(chaos, world->wire_count)];
}

struct actor *any_actor(struct chaos *chaos)
{
    struct actor *actor = &chaos->actors[below(chaos, chaos->actor_count)];
    return actor->client == NULL || actor->client->peer.is_dead || actor->client->peer.is_denied ? NULL : actor;
}

struct worker *any_worker(struct chaos *chaos)
{
    struct worker *worker = chaos->workers[below(chaos, chaos->worker_count)];
    return worker->peer.is_dead ? NULL : worker;
}
void actors_return(struct chaos *chaos)
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
void workers_return(struct chaos *chaos)
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

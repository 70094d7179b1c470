/*
 * chaos.c owns the choice of what happens next in a random world, and its end: when faults have stopped, it drains.
 * It must not know the core, and must draw everything from the world's seed.
 * Start reading at chaos_step.
 */
#include "acts.h"
#include "oracle.h"

#include <inttypes.h>

#define DRAIN_ROUND_COUNT_MAX 4000u
#define DRAIN_ROUND_MS 100

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

/* Outcomes that nobody will take stay for a day and more: where few may stay, the next broker is given more room. */
static void raise_limits(struct world *world)
{
    const struct limits usual = limits_default();
    struct limits *limits = &world->limits;
    if (limits->unacked_count_max != usual.unacked_count_max || limits->unacked_bytes_max != usual.unacked_bytes_max) {
        limits->unacked_count_max = usual.unacked_count_max;
        limits->unacked_bytes_max = usual.unacked_bytes_max;
        broker_crash(world);
    }
}

static void mend(struct chaos *chaos)
{
    struct world *world = chaos->world;
    for (size_t i = 0; i < world->wire_count; i++) {
        struct wire *wire = world->wires[i];
        wire->is_cut = wire->is_cut_there = wire->is_cut_back = false;
    }
    world->stopped_until = 0;
    world->stalled_until = 0;
    world->full_until = 0;
    if (chaos->intruder != NULL) {
        sim_peer_die(&chaos->intruder->peer, true);
        chaos->intruder = NULL;
    }
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
    raise_limits(world);
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

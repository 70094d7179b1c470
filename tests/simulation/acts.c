/*
 * acts.c owns what happens in a random world when nobody is hurt: frames arrive, batches commit, people work.
 * It must not know what goes wrong there: faults.c, hostile.c.
 * Start reading at act_to_broker.
 */
#include "acts.h"

#define SUBMIT_COUNT_MAX 60u

void act_to_broker(struct chaos *chaos)
{
    struct wire *wire = any_wire(chaos);
    if (wire != NULL) {
        wire_deliver_to_broker(chaos->world, wire);
    }
}

void act_to_peer(struct chaos *chaos)
{
    struct wire *wire = any_wire(chaos);
    if (wire != NULL) {
        wire_deliver_to_peer(chaos->world, wire);
    }
}

void act_seal(struct chaos *chaos)
{
    struct world *world = chaos->world;
    bool wants = world->core != NULL && core_wants_commit(world->core, world->now);
    if (world->sealed_count < chaos->sealed_max && (wants || percent(chaos, 5))) {
        broker_seal(world);
    }
}

void act_apply(struct chaos *chaos)
{
    broker_apply(chaos->world);
}

void act_notice(struct chaos *chaos)
{
    broker_notice(chaos->world);
}

void act_load(struct chaos *chaos)
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

void act_time(struct chaos *chaos)
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

void act_submit(struct chaos *chaos)
{
    struct actor *actor = any_actor(chaos);
    if (actor == NULL || actor->client->submit_count >= SUBMIT_COUNT_MAX || actor->line_count > 0) {
        return;
    }
    struct spec spec = {.at_most_once = percent(chaos, chaos->amo_percent)};
    spec.big = percent(chaos, 10);
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

void act_line(struct chaos *chaos)
{
    struct actor *actor = any_actor(chaos);
    if (actor != NULL && actor->line_count > 0 && sim_client_unanswered(actor->client) < actor->client->line_ahead &&
        actor->client->was_welcomed) {
        sim_client_line(actor->client);
    }
}

void act_take(struct chaos *chaos)
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

void act_acknowledge(struct chaos *chaos)
{
    struct actor *actor = any_actor(chaos);
    if (actor != NULL && actor->client->must_acknowledge) {
        sim_client_acknowledge(actor->client);
    }
}

void act_cancel(struct chaos *chaos)
{
    struct actor *actor = any_actor(chaos);
    if (actor != NULL && actor->client->submit_count > 0 && actor->client->was_welcomed) {
        uint64_t sequence = 1 + below(chaos, actor->client->submit_count);
        sim_client_cancel(actor->client, sim_client_task(actor->client, sequence), percent(chaos, 40));
    }
}

/* Ends submitting; when all is taken the session is gone, and its name is free for a new one. */
void act_close(struct chaos *chaos)
{
    struct actor *actor = any_actor(chaos);
    if (actor != NULL && actor->line_count == 0) {
        sim_client_close(actor->client, percent(chaos, 50));
    }
}

void act_stats(struct chaos *chaos)
{
    broker_stats(chaos->world, !chaos->is_tame && percent(chaos, 30));
}

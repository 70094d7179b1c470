/*
 * scenario.c owns the short words of the named scenes. It must not know the core.
 * Start reading at scene.
 */
#include "scenario.h"

struct world *scene(void)
{
    struct world *world = world_new(1);
    broker_start(world);
    return world;
}

void scene_end(struct world *world)
{
    if (world->core != NULL) {
        core_check(world->core);
    }
    world_free(&world);
}

struct client *client_open(struct world *world, const char *session)
{
    struct client *client = sim_client_new(world, session);
    again(world, client);
    return client;
}

struct worker *worker_hire(struct world *world, const char *name, uint64_t slots, uint64_t prefetch)
{
    struct worker *worker = sim_worker_new(world, name, slots);
    worker->prefetch = prefetch;
    again(world, worker);
    return worker;
}

uint64_t put(struct client *client, struct spec spec)
{
    sim_client_submit(client, &spec);
    deliver(client->peer.world);
    return sim_client_task(client, client->submit_count);
}

uint64_t put_line(struct client *client, uint64_t ordinal, uint64_t predecessor)
{
    return put(client, (struct spec){.ordinal = ordinal, .predecessor = predecessor});
}

uint64_t put_settled(struct client *client, struct spec spec)
{
    uint64_t task = put(client, spec);
    settle(client->peer.world);
    return task;
}

void again(struct world *world, void *peer)
{
    sim_peer_connect(peer);
    settle(world);
}

void hello(struct world *world, void *peer)
{
    sim_peer_connect(peer);
    deliver(world);
}

void commit_one(struct world *world)
{
    broker_seal(world);
    broker_apply(world);
    broker_notice(world);
    deliver(world);
}

void lose_wire(struct world *world, void *peer)
{
    struct wire *wire = ((struct peer *)peer)->wire;
    if (wire != NULL) {
        wire_lose(world, wire, true, 0);
        wire_lose(world, wire, false, 0);
        sim_peer_drop_wire(peer, true);
    }
    deliver(world);
}

void die(struct world *world, void *peer)
{
    lose_wire(world, peer);
    sim_peer_die(peer, true);
}

void crash_and_start(struct world *world)
{
    broker_crash(world);
    for (size_t i = 0; i < world->wire_count; i++) {
        wire_lose(world, world->wires[i], false, 0);
    }
    deliver(world);
    broker_start(world);
}

void lease_over(struct world *world)
{
    world->workers_were_hurt = true;
    pass_still(world, (int64_t)world->limits.lease_ms + 1);
}

void claims_over(struct world *world)
{
    pass_still(world, (int64_t)world->limits.claim_ms + 1);
    settle(world);
}

bool is_accepted(const struct client *client, size_t sequence)
{
    return client->submits[sequence - 1].answer == ANSWER_ACCEPTED;
}

bool is_unanswered(const struct client *client, size_t sequence)
{
    return client->submits[sequence - 1].answer == ANSWER_NONE;
}

uint32_t stored_state(const struct world *world, uint64_t task)
{
    const struct outcome_row *outcome = memstore_outcome(world->disk, task);
    const struct task_row *row = memstore_task(world->disk, task);
    return outcome ? outcome->state : row ? row->state : 0;
}

uint32_t stored_cause(const struct world *world, uint64_t task)
{
    const struct outcome_row *outcome = memstore_outcome(world->disk, task);
    return outcome ? outcome->cause : CAUSE_NONE;
}

size_t tasks_stored(const struct world *world)
{
    size_t count = 0;
    while (memstore_task_at(world->disk, count) != NULL) {
        count++;
    }
    size_t outcomes = 0;
    while (memstore_outcome_at(world->disk, outcomes) != NULL) {
        outcomes++;
    }
    return count + outcomes;
}

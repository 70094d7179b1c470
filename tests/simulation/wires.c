/*
 * wires.c owns the pipes between the broker and everybody else.
 * It must not know what goes through them.
 * Start reading at wire_say.
 */
#include "world.h"

#include "common/check.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

void fifo_push(struct fifo *fifo, struct bytes frame)
{
    if (fifo->head + fifo->count == fifo->cap) {
        if (fifo->head > 0) {
            memmove(fifo->items, fifo->items + fifo->head, fifo->count * sizeof *fifo->items);
            fifo->head = 0;
        } else {
            fifo->cap = fifo->cap ? fifo->cap * 2 : 8;
            fifo->items = xrealloc(fifo->items, fifo->cap * sizeof *fifo->items);
        }
    }
    struct buf copy = {0};
    buf_put(&copy, frame.p, frame.n);
    fifo->items[fifo->head + fifo->count++] = copy;
}

struct buf fifo_pop(struct fifo *fifo)
{
    fifo->count--;
    return fifo->items[fifo->head++];
}

void fifo_keep(struct fifo *fifo, size_t keep)
{
    while (fifo->count > keep) {
        buf_fini(&fifo->items[fifo->head + --fifo->count]);
    }
}

static void fifo_fini(struct fifo *fifo)
{
    fifo_keep(fifo, 0);
    free(fifo->items);
    *fifo = (struct fifo){0};
}

struct wire *wire_of(const struct world *world, uint64_t conn)
{
    for (size_t i = world->wire_count; i-- > 0;) {
        if (world->wires[i]->conn == conn) {
            return world->wires[i];
        }
    }
    return NULL;
}

struct wire *world_wire_make(struct world *world, struct peer *peer)
{
    struct wire *wire = xcalloc(1, sizeof *wire);
    wire->conn = ++world->conn_last;
    wire->life = world->life;
    wire->peer = peer;
    wire->maker = peer;
    if (world->wire_count == world->wire_cap) {
        world->wire_cap = world->wire_cap ? world->wire_cap * 2 : 16;
        world->wires = xrealloc(world->wires, world->wire_cap * sizeof(struct wire *));
    }
    world->wires[world->wire_count++] = wire;
    return wire;
}

struct bytes wire_newest(const struct wire *wire)
{
    size_t count = wire->to_broker.count;
    return count == 0 ? (struct bytes){NULL, 0} : buf_bytes(&wire->to_broker.items[wire->to_broker.head + count - 1]);
}

struct bytes wire_said(const struct wire *wire, uint64_t before)
{
    size_t kept = wire->said_count < SAID_COUNT ? wire->said_count : SAID_COUNT;
    return kept == 0 ? (struct bytes){NULL, 0}
                     : buf_bytes(&wire->said[(wire->said_count - 1 - before % kept) % SAID_COUNT]);
}

void wire_say(struct wire *wire, struct bytes frame)
{
    fifo_push(&wire->to_broker, frame);
}

struct wire *world_stranger(struct world *world, struct bytes frame)
{
    if (world->core == NULL) {
        return NULL;
    }
    world->hostile_count++;
    struct wire *wire = world_wire_make(world, &world->stranger);
    wire->peer = NULL; /* it goes when all is read */
    wire->wants_closed = true;
    wire_say(wire, frame);
    return wire;
}

void wire_free(struct wire **wire)
{
    fifo_fini(&(*wire)->to_broker);
    fifo_fini(&(*wire)->to_peer);
    for (size_t i = 0; i < SAID_COUNT; i++) {
        buf_fini(&(*wire)->said[i]);
    }
    free(*wire);
    *wire = NULL;
}

void wires_sweep(struct world *world)
{
    for (size_t i = world->wire_count; i-- > 0;) {
        struct wire *wire = world->wires[i];
        bool is_of_use =
            world->core != NULL && wire->life == world->life && (wire->to_broker.count > 0 || wire->wants_closed);
        if (wire->peer == NULL && !is_of_use) {
            wire_free(&world->wires[i]);
            world->wires[i] = world->wires[--world->wire_count];
        }
    }
}

void wire_lose(struct world *world, struct wire *wire, bool to_broker, size_t keep)
{
    struct fifo *fifo = to_broker ? &wire->to_broker : &wire->to_peer;
    if (fifo->count > keep) {
        world_say(world, "wire %" PRIu64 " loses %zu frames to %s", wire->conn, fifo->count - keep,
                  to_broker ? "broker" : "peer");
    }
    fifo_keep(fifo, keep);
}

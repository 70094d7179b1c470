/*
 * worker.c owns the model worker: one supervisor process with its slots. It holds attempts, starts them while its lease
 * lasts, keeps how they ended until a receipt, and lists everything it holds when it connects.
 * It must not know the core. Written from the protocol's text.
 * Start reading at sim_worker_message.
 */
#include "common/check.h"
#include "oracle.h"
#include "real_worker.h"
#include "world.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CAPACITY_BYTES (1u << 30)
#define RUN_MS_MAX_DEFAULT 60u

struct worker *sim_worker_new(struct world *world, const char *name, uint64_t slots)
{
    struct worker *worker = xcalloc(1, sizeof *worker);
    struct peer *peer = &worker->peer;
    peer->world = world;
    peer->kind = PEER_WORKER;
    if (world->peer_count == world->peer_cap) {
        world->peer_cap = world->peer_cap ? world->peer_cap * 2 : 16;
        world->peers = xrealloc(world->peers, world->peer_cap * sizeof(struct peer *));
    }
    world->peers[world->peer_count++] = peer;
    peer->serial = world->peer_count;
    memcpy(peer->instance.b, &peer->serial, sizeof peer->serial);
    peer->instance.b[15] = 0x30;
    snprintf(peer->name, sizeof peer->name, "%s", name);
    worker->slots = slots;
    worker->prefetch = 1;
    worker->run_ms_max = RUN_MS_MAX_DEFAULT;
    return worker;
}

void sim_worker_free(struct worker *worker)
{
    sim_worker_free_real(worker);
    buf_fini(&worker->peer.out);
    free(worker->held);
    free(worker);
}

/* ---- what it holds ---- */

static struct held *held_find(struct worker *worker, struct token token)
{
    for (size_t i = 0; i < worker->held_count; i++) {
        struct held *held = &worker->held[i];
        if (held->token.task == token.task && held->token.epoch == token.epoch &&
            held->token.attempt == token.attempt) {
            return held;
        }
    }
    return NULL;
}

struct held *sim_worker_held(struct worker *worker, uint64_t task)
{
    struct held *newest = NULL;
    for (size_t i = 0; i < worker->held_count; i++) {
        struct held *held = &worker->held[i];
        if (held->token.task == task && (newest == NULL || token_compare(held->token, newest->token) > 0)) {
            newest = held;
        }
    }
    return newest;
}

static void held_remove(struct worker *worker, struct held *held)
{
    size_t index = (size_t)(held - worker->held);
    worker->held_count--;
    memmove(held, held + 1, (worker->held_count - index) * sizeof *held);
}

size_t sim_worker_running(const struct worker *worker)
{
    size_t count = 0;
    for (size_t i = 0; i < worker->held_count; i++) {
        count += worker->held[i].state == HELD_RUNNING;
    }
    return count;
}

#define TOKEN_FIELDS(held) .task = (held)->token.task, .epoch = (held)->token.epoch, .attempt = (held)->token.attempt

void sim_worker_hello(struct worker *worker, struct buf *out)
{
    struct buf functions = {0};
    struct buf held = {0};
    struct item_name name = {.name = bytes_text("work")};
    item_name_put(&functions, &name);
    for (size_t i = 0; i < worker->held_count; i++) {
        struct item_held item = {TOKEN_FIELDS(&worker->held[i]), .state = worker->held[i].state};
        item_held_put(&held, &item);
    }
    struct msg_HELLO_WORKER hello = {.instance = worker->peer.instance,
                                     .host = bytes_text("simhost"),
                                     .pid = worker->peer.serial,
                                     .name = bytes_text(worker->peer.name),
                                     .store = worker->store,
                                     .slots = worker->slots,
                                     .capacity_count = worker->is_draining ? 0 : worker->slots + worker->prefetch,
                                     .capacity_bytes = CAPACITY_BYTES,
                                     .functions = {.count = 1, .items = buf_bytes(&functions)},
                                     .held = {.count = (uint32_t)worker->held_count, .items = buf_bytes(&held)},
                                     .take_short = worker->peer.serial % 2 == 0};
    msg_HELLO_WORKER_put(out, &hello);
    buf_fini(&functions);
    buf_fini(&held);
    worker->hello_sent = worker->peer.world->now;
    worker->ping_sent = worker->peer.world->now;
}

void sim_worker_ping(struct worker *worker)
{
    struct msg_PING ping = {.number = ++worker->peer.ping_number};
    worker->ping_times[ping.number % PING_TIME_COUNT] = worker->peer.world->now;
    worker->ping_sent = worker->peer.world->now;
    msg_PING_put(sim_peer_out(&worker->peer), &ping);
    sim_peer_flush(&worker->peer);
}

void sim_worker_capacity(struct worker *worker, uint64_t count)
{
    if (worker->peer.is_welcomed) {
        struct msg_CAPACITY capacity = {.count = count, .bytes = count ? CAPACITY_BYTES : 0};
        msg_CAPACITY_put(sim_peer_out(&worker->peer), &capacity);
        sim_peer_flush(&worker->peer);
    }
}

static void put_started(struct worker *worker, struct held *held)
{
    struct message head = {.kind = MSG_STARTED};
    struct item_started item = {TOKEN_FIELDS(held), .pid = worker->peer.serial};
    struct run run;
    if (!worker->peer.is_welcomed) {
        return;
    }
    run_open(&run, sim_peer_out(&worker->peer), &head);
    item_started_put(run.out, &item);
    run.count++;
    run_close(&run);
    held->is_told = true;
}

static void put_finished(struct worker *worker, const struct held *held)
{
    struct message head = {.kind = MSG_FINISHED};
    struct buf result = {0};
    struct buf text = {0};
    struct run run;
    if (!worker->peer.is_welcomed) {
        return;
    }
    buf_printf(&text, "R|%s|%u.%u", held->work, held->token.epoch, held->token.attempt);
    put_str(&result, buf_bytes(&text));
    struct item_finished item = {TOKEN_FIELDS(held),
                                 .state = held->end,
                                 .cause = held->end == FINISHED_FAILED ? held->cause : CAUSE_NONE,
                                 .pid = worker->peer.serial,
                                 .started = (uint64_t)(held->began + WALL_START),
                                 .run_us = 1000};
    if (held->end == FINISHED_DONE) {
        item.result = buf_bytes(&result);
    } else if (held->end == FINISHED_FAILED) {
        item.kind = bytes_text("ModelError");
        item.message = buf_bytes(&text);
        item.signal = held->cause == CAUSE_CRASHED ? 11 : 0;
    }
    run_open(&run, sim_peer_out(&worker->peer), &head);
    item_finished_put(run.out, &item);
    run.count++;
    run_close(&run);
    buf_fini(&result);
    buf_fini(&text);
}

static void put_returned(struct worker *worker, const struct held *held)
{
    struct message head = {.kind = MSG_RETURNED};
    struct item_token item = {TOKEN_FIELDS(held)};
    struct run run;
    if (!worker->peer.is_welcomed) {
        return;
    }
    run_open(&run, sim_peer_out(&worker->peer), &head);
    item_token_put(run.out, &item);
    run.count++;
    run_close(&run);
    worker->drain_ping = worker->peer.ping_number + 1; /* the next one is behind it */
}

/* ---- what it does ---- */

static bool may_start(const struct worker *worker)
{
    const struct world *world = worker->peer.world;
    return !worker->peer.is_dead && worker->peer.paused_until <= world->now && world->now < worker->lease_until &&
           sim_worker_running(worker) < worker->slots;
}

static void start(struct worker *worker, struct held *held, bool tell)
{
    struct world *world = worker->peer.world;
    held->state = HELD_RUNNING;
    held->began = world->now;
    held->ends_at = world->now + (int64_t)rng_below(&world->rng, worker->run_ms_max + 1);
    worker->started_count++;
    world_say(world, "%s starts %" PRIx64 " (%u.%u)", worker->peer.name, held->token.task, held->token.epoch,
              held->token.attempt);
    oracle_started(world, worker, held);
    if (tell) {
        put_started(worker, held);
        sim_peer_flush(&worker->peer);
    }
}

bool sim_worker_start(struct worker *worker, uint64_t task, bool tell)
{
    struct held *held = sim_worker_held(worker, task);
    if (held == NULL || held->state != HELD_LEASED || !may_start(worker)) {
        return false;
    }
    start(worker, held, tell);
    return true;
}

static void finish(struct worker *worker, struct held *held, enum finished_state state, enum cause cause)
{
    held->state = HELD_FINISHED;
    held->end = state;
    held->cause = cause;
    world_say(worker->peer.world, "%s finishes %" PRIx64 " (%u.%u): %s", worker->peer.name, held->token.task,
              held->token.epoch, held->token.attempt,
              state == FINISHED_DONE     ? "done"
              : state == FINISHED_KILLED ? "killed"
                                         : cause_word(cause));
    oracle_handed_in(worker->peer.world, worker, held);
    put_finished(worker, held);
    sim_peer_flush(&worker->peer);
}

void sim_worker_finish(struct worker *worker, uint64_t task, enum finished_state state, enum cause cause)
{
    struct held *held = sim_worker_held(worker, task);
    WORLD_CHECK(worker->peer.world, held != NULL && held->state == HELD_RUNNING, "%s does not run %" PRIx64,
                worker->peer.name, task);
    finish(worker, held, state, cause);
}

void sim_worker_return(struct worker *worker, uint64_t task)
{
    struct held *held = sim_worker_held(worker, task);
    if (held != NULL && held->state == HELD_LEASED && worker->peer.is_welcomed) {
        put_returned(worker, held);
        held_remove(worker, held);
        sim_peer_flush(&worker->peer);
    }
}

void sim_worker_drain(struct worker *worker)
{
    worker->is_draining = true;
    if (worker->real != NULL) {
        sim_worker_drain_real(worker);
        return;
    }
    sim_worker_capacity(worker, 0);
    for (size_t i = worker->held_count; worker->peer.is_welcomed && i-- > 0;) {
        if (worker->held[i].state == HELD_LEASED) {
            sim_worker_return(worker, worker->held[i].token.task);
        }
    }
    if (worker->peer.is_welcomed) {
        sim_worker_ping(worker);
    }
    worker->drain_ping = worker->peer.ping_number;
}

/* Everything dispatched before the broker knew has come, or was listed as not held in the HELLO of this wire; and what
 * was returned has arrived. */
bool sim_worker_is_drained(const struct worker *worker)
{
    if (worker->real != NULL) {
        return sim_worker_is_over(worker);
    }
    return worker->is_draining && worker->peer.is_welcomed && worker->held_count == 0 &&
           worker->ponged >= worker->drain_ping;
}

void sim_worker_tick(struct worker *worker)
{
    struct world *world = worker->peer.world;
    for (size_t i = 0; i < worker->held_count; i++) {
        struct held *held = &worker->held[i];
        if (held->state == HELD_RUNNING && held->ends_at <= world->now) {
            uint64_t dice = rng_below(&world->rng, 100);
            if (dice < worker->crash_percent) {
                finish(worker, held, FINISHED_FAILED, CAUSE_CRASHED);
            } else if (dice < worker->crash_percent + worker->memory_percent) {
                finish(worker, held, FINISHED_FAILED, CAUSE_MEMORY);
            } else if (dice < worker->crash_percent + worker->fail_percent) {
                finish(worker, held, FINISHED_FAILED, CAUSE_ERROR);
            } else {
                finish(worker, held, FINISHED_DONE, CAUSE_NONE);
            }
        }
    }
    for (size_t i = 0; i < worker->held_count && may_start(worker); i++) {
        if (worker->held[i].state == HELD_LEASED) {
            start(worker, &worker->held[i], worker->tells_start && rng_percent(&world->rng, 70));
        }
    }
}

/* ---- reading ---- */

static void read_welcome(struct worker *worker, const struct msg_WELCOME_WORKER *welcome)
{
    struct world *world = worker->peer.world;
    if (!uuid_is_zero(&worker->store) && !uuid_equal(&worker->store, &welcome->store)) {
        world_say(world, "%s finds another store: kills and drops what it holds", worker->peer.name);
        worker->held_count = 0;
    }
    world_say(world, "%s is welcome, epoch %" PRIu64 ", holds %zu", worker->peer.name, welcome->epoch,
              worker->held_count);
    worker->store = welcome->store;
    worker->epoch = (uint32_t)welcome->epoch;
    worker->lease_ms = (int64_t)welcome->lease_ms;
    worker->lease_until = worker->hello_sent + worker->lease_ms;
    worker->peer.heartbeat_ms = (int64_t)welcome->heartbeat_ms;
    worker->peer.dead_ms = (int64_t)welcome->dead_ms;
    worker->peer.is_welcomed = true;
    for (size_t i = 0; i < worker->held_count; i++) {
        if (worker->held[i].state == HELD_FINISHED) {
            put_finished(worker, &worker->held[i]);
        }
    }
    if (worker->is_draining) {
        sim_worker_drain(worker);
    }
    sim_peer_flush(&worker->peer);
}

static void read_dispatch(struct worker *worker, const struct msg_DISPATCH *dispatch)
{
    struct world *world = worker->peer.world;
    struct list items = dispatch->items;
    struct item_dispatch item;
    while (item_dispatch_next(&items, &item)) {
        struct held held = {.token = {item.task, worker->epoch, (uint32_t)item.attempt},
                            .state = HELD_LEASED,
                            .at_most_once = dispatch->at_most_once};
        struct cursor cursor = cursor_of(item.args);
        struct value value;
        WORLD_CHECK(world, cursor_next(&cursor, &value) && value.type == VALUE_STR && cursor_done(&cursor),
                    "%s: arguments of %" PRIx64 " are not what was submitted", worker->peer.name, item.task);
        const uint8_t *pad = memchr(value.bytes.p, '#', value.bytes.n);
        size_t size = pad ? (size_t)(pad - value.bytes.p) : value.bytes.n;
        snprintf(held.work, sizeof held.work, "%.*s", (int)size, (const char *)value.bytes.p);
        WORLD_CHECK(world, held_find(worker, held.token) == NULL, "%s is given %" PRIx64 " (%u.%u) twice",
                    worker->peer.name, item.task, held.token.epoch, held.token.attempt);
        if (worker->held_count == worker->held_cap) {
            worker->held_cap = worker->held_cap ? worker->held_cap * 2 : 16;
            worker->held = xrealloc(worker->held, worker->held_cap * sizeof *worker->held);
        }
        worker->held[worker->held_count++] = held;
        world_say(world, "%s is given %" PRIx64 " (%u.%u) %s", worker->peer.name, item.task, held.token.epoch,
                  held.token.attempt, held.work);
    }
}

static void read_revoke(struct worker *worker, const struct msg_REVOKE *revoke)
{
    struct list items = revoke->items;
    struct item_revoke item;
    while (item_revoke_next(&items, &item)) {
        struct held *held = held_find(worker, (struct token){item.task, (uint32_t)item.epoch, (uint32_t)item.attempt});
        if (held == NULL || held->state == HELD_FINISHED) {
            continue; /* nothing is held unstarted: nothing is said */
        }
        if (held->state == HELD_LEASED) {
            put_returned(worker, held);
            held_remove(worker, held);
        } else if (item.force) {
            finish(worker, held, FINISHED_KILLED, CAUSE_NONE);
        } else if (!held->is_told) {
            put_started(worker, held);
        }
    }
    sim_peer_flush(&worker->peer);
}

static void read_receipt(struct worker *worker, const struct msg_RECEIPT *receipt)
{
    struct list items = receipt->items;
    struct item_receipt item;
    while (item_receipt_next(&items, &item)) {
        struct held *held = held_find(worker, (struct token){item.task, (uint32_t)item.epoch, (uint32_t)item.attempt});
        if (held != NULL) {
            WORLD_CHECK(worker->peer.world, held->state == HELD_FINISHED,
                        "%s: receipt for %" PRIx64 " which has not ended", worker->peer.name, item.task);
            held_remove(worker, held);
        }
    }
}

static void read_drop(struct worker *worker, const struct msg_DROP *drop)
{
    struct list items = drop->items;
    struct item_token item;
    while (item_token_next(&items, &item)) {
        struct held *held = held_find(worker, (struct token){item.task, (uint32_t)item.epoch, (uint32_t)item.attempt});
        if (held != NULL) {
            world_say(worker->peer.world, "%s drops %" PRIx64 " (%u.%u)", worker->peer.name, item.task,
                      held->token.epoch, held->token.attempt);
            held_remove(worker, held);
        }
    }
}

void sim_worker_message(struct worker *worker, const struct message *message)
{
    struct world *world = worker->peer.world;
    WORLD_CHECK(world, message->kind == MSG_WELCOME_WORKER || message->kind == MSG_PONG || worker->peer.is_welcomed,
                "%s: %s before WELCOME", worker->peer.name, message_word(message->kind));
    switch (message->kind) {
    case MSG_WELCOME_WORKER:
        read_welcome(worker, &message->WELCOME_WORKER);
        return;
    case MSG_DISPATCH:
        read_dispatch(worker, &message->DISPATCH);
        return;
    case MSG_REVOKE:
        read_revoke(worker, &message->REVOKE);
        return;
    case MSG_RECEIPT:
        read_receipt(worker, &message->RECEIPT);
        return;
    case MSG_DROP:
        read_drop(worker, &message->DROP);
        return;
    case MSG_PONG: {
        int64_t until = worker->ping_times[message->PONG.number % PING_TIME_COUNT] + worker->lease_ms;
        worker->ponged = message->PONG.number;
        if (worker->peer.is_welcomed && until > worker->lease_until) {
            worker->lease_until = until;
        }
        return;
    }
    default:
        world_fail(world, "%s is sent a %s", worker->peer.name, message_word(message->kind));
    }
}

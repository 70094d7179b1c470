/*
 * hostile.c owns what no honest peer does in a random world: frames said again, forged tokens, names of others.
 * It must not know what the broker makes of it.
 * Start reading at act_stranger.
 */
#include "acts.h"

#include "oracle.h"

#include <inttypes.h>
#include <string.h>

#define FORGED_COUNT_MAX 6u

static bool is_peaceful(const struct chaos *chaos)
{
    return chaos->is_tame || chaos->world->core == NULL;
}

static struct uuid strange_instance(struct chaos *chaos)
{
    struct uuid uuid = {{0x55}};
    uint64_t number = rng_next(&chaos->world->rng);
    memcpy(&uuid.b[8], &number, sizeof number);
    return uuid;
}

/* ---- bytes ---- */

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
void act_stranger(struct chaos *chaos)
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
            uint8_t *p = &frame.p[below(chaos, frame.n)];
            *p = (uint8_t)below(chaos, 256);
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

/* A peer says again what it has said on this connection: ZeroMQ would not, a peer may. */
void act_repeat(struct chaos *chaos)
{
    struct wire *wire = any_wire(chaos);
    if (is_peaceful(chaos) || wire == NULL || wire->peer == NULL || wire->life != chaos->world->life) {
        return;
    }
    struct bytes frame = wire_said(wire, below(chaos, SAID_COUNT));
    if (frame.n > 0) {
        struct buf copy = {0};
        buf_put(&copy, frame.p, frame.n);
        world_say(chaos->world, "wire %" PRIu64 ": a frame of %zu bytes is said again", wire->conn, copy.n);
        wire->peer->is_odd = true;
        wire_say(wire, buf_bytes(&copy));
        buf_fini(&copy);
        chaos->world->hostile_count++;
    }
}

/* ---- somebody calls himself a worker ---- */

/* Of a task on disk: its own token, an older one, one of this life that was never given, one of a life to come. */
static bool token_forge(struct chaos *chaos, struct token *token_out)
{
    struct memstore *disk = chaos->world->disk;
    const struct task_row *row = memstore_task_at(disk, below(chaos, 20));
    const struct outcome_row *outcome = memstore_outcome_at(disk, below(chaos, 20));
    if (row == NULL && outcome == NULL) {
        return false;
    }
    *token_out = row != NULL ? (struct token){row->id, row->epoch, row->attempt}
                             : (struct token){outcome->id, memstore_epoch(disk), outcome->attempt};
    switch (below(chaos, 4)) {
    case 0:
        token_out->attempt -= token_out->attempt > 0;
        break;
    case 1:
        token_out->epoch = memstore_epoch(disk);
        token_out->attempt++;
        break;
    case 2:
        token_out->epoch = memstore_epoch(disk) + 1 + (uint32_t)below(chaos, 3);
        token_out->attempt += (uint32_t)below(chaos, 3);
        break;
    default:
        break;
    }
    return true;
}

static void forged_hello(struct chaos *chaos, struct buf *frame, const struct token *tokens, uint32_t count)
{
    struct buf names = {0};
    struct buf held = {0};
    struct item_name name = {.name = bytes_text("work")};
    struct msg_HELLO_WORKER hello = {.instance = strange_instance(chaos),
                                     .host = bytes_text("nowhere"),
                                     .pid = 1,
                                     .name = bytes_text("forger"),
                                     .store = memstore_uuid(chaos->world->disk)};
    for (uint32_t i = 0; i < count; i++) {
        struct item_held item = {.task = tokens[i].task,
                                 .epoch = tokens[i].epoch,
                                 .attempt = tokens[i].attempt,
                                 .state = below(chaos, HELD_FINISHED + 1)};
        item_held_put(&held, &item);
    }
    item_name_put(&names, &name);
    hello.functions = (struct list){.items = buf_bytes(&names), .count = 1};
    hello.held = (struct list){.items = buf_bytes(&held), .count = count};
    frame_begin(frame, 1);
    msg_HELLO_WORKER_put(frame, &hello);
    buf_fini(&names);
    buf_fini(&held);
}

static void forged_report(struct chaos *chaos, struct buf *frame, struct token token)
{
    struct message head = {.kind = below(chaos, 3) > 0 ? MSG_FINISHED : below(chaos, 2) ? MSG_RETURNED : MSG_STARTED};
    struct run run;
    run_open(&run, frame, &head);
    if (head.kind == MSG_FINISHED) {
        struct item_finished item = {.task = token.task,
                                     .epoch = token.epoch,
                                     .attempt = token.attempt,
                                     .state = below(chaos, 3),
                                     .result = bytes_text("\xa6"
                                                          "FORGED")};
        item.cause = item.state == FINISHED_DONE ? 0 : CAUSE_CRASHED;
        item_finished_put(run.out, &item);
    } else if (head.kind == MSG_RETURNED) {
        struct item_token item = {.task = token.task, .epoch = token.epoch, .attempt = token.attempt};
        item_token_put(run.out, &item);
    } else {
        struct item_started item = {.task = token.task, .epoch = token.epoch, .attempt = token.attempt};
        item_started_put(run.out, &item);
    }
    run.count = 1;
    run_close(&run);
}

/* A worker that lists attempts that are not its own, and hands in results for them. */
void act_forge(struct chaos *chaos)
{
    struct token tokens[FORGED_COUNT_MAX];
    uint32_t count = 0;
    struct buf frame = {0};
    if (is_peaceful(chaos)) {
        return;
    }
    for (uint64_t left = 1 + below(chaos, FORGED_COUNT_MAX - 1); left > 0; left--) {
        count += token_forge(chaos, &tokens[count]);
    }
    forged_hello(chaos, &frame, tokens, percent(chaos, 70) ? count : 0);
    struct wire *wire = world_stranger(chaos->world, buf_bytes(&frame));
    world_say(chaos->world, "a forger says HELLO, of %u attempts", count);
    for (uint32_t i = 0; i < count; i++) {
        frame.n = 0;
        frame_begin(&frame, 1);
        forged_report(chaos, &frame, tokens[i]);
        wire_say(wire, buf_bytes(&frame));
    }
    buf_fini(&frame);
}

/* ---- somebody calls himself the owner of a session ---- */

static void strange_submit(struct chaos *chaos, struct buf *frame, uint64_t series, uint64_t sequence)
{
    struct message head = {.kind = MSG_SUBMIT};
    struct item_submit item = {.args = bytes_text("\xa6"
                                                  "FORGED")};
    struct run run;
    head.SUBMIT.series = series;
    head.SUBMIT.sequence = sequence;
    head.SUBMIT.function = bytes_text("work");
    run_open(&run, frame, &head);
    item_submit_put(run.out, &item);
    run.count = 1 + (uint32_t)below(chaos, 2);
    if (run.count == 2) {
        item_submit_put(run.out, &item);
    }
    run_close(&run);
}

static void strange_taken(struct chaos *chaos, struct buf *frame)
{
    struct buf ranges = {0};
    struct item_range range = {.first = 2 + below(chaos, 20)};
    range.last = range.first + below(chaos, 5);
    item_range_put(&ranges, &range);
    struct msg_TAKEN taken = {.prefix = below(chaos, 30), .ranges = {.items = buf_bytes(&ranges), .count = 1}};
    msg_TAKEN_put(frame, &taken);
    buf_fini(&ranges);
}

/* It opens a session by its name and echoes a nonce it was not given, or resumes one by its numbers; and then it speaks
 * as if it had been welcomed. */
void act_impostor(struct chaos *chaos)
{
    struct world *world = chaos->world;
    const struct session_row *session = memstore_session_at(world->disk, below(chaos, 4));
    const struct series_row *series = memstore_series_at(world->disk, below(chaos, 6));
    struct msg_HELLO_CLIENT hello = {.instance = strange_instance(chaos), .pid = 1, .take_over = true};
    struct msg_ECHO echo = {.nonce = strange_instance(chaos)};
    struct buf frame = {0};
    if (is_peaceful(chaos) || session == NULL || series == NULL) {
        return;
    }
    if (percent(chaos, 50)) {
        hello.name = session->name;
    } else {
        hello.session = series->session;
        hello.series = series->id;
        hello.taken_prefix = below(chaos, 20);
    }
    frame_begin(&frame, 1);
    msg_HELLO_CLIENT_put(&frame, &hello);
    struct wire *wire = world_stranger(world, buf_bytes(&frame));
    world_say(world, "an impostor of session %" PRIu64, series->session);
    frame.n = 0;
    frame_begin(&frame, 1);
    msg_ECHO_put(&frame, &echo);
    strange_submit(chaos, &frame, series->id, series->submitted_high + 1);
    strange_taken(chaos, &frame);
    wire_say(wire, buf_bytes(&frame));
    buf_fini(&frame);
}

/* ---- a client with a session of its own speaks of what is others' ---- */

static struct client *intruder_of(struct chaos *chaos)
{
    struct client *client = chaos->intruder;
    if (client != NULL && (client->peer.is_denied || client->peer.is_dead)) {
        client = NULL;
    }
    if (client == NULL) {
        client = sim_client_new(chaos->world, "");
        client->peer.is_auto = true;
        client->peer.is_odd = true;
        client->peer.retry_at = chaos->world->now;
        chaos->intruder = client;
    }
    return client;
}

static void cancel_of_others(struct chaos *chaos, struct client *client)
{
    const struct task_row *row = memstore_task_at(chaos->world->disk, below(chaos, 20));
    if (row != NULL) {
        sim_client_cancel(client, row->id, percent(chaos, 50));
    }
}

void act_intruder(struct chaos *chaos)
{
    if (is_peaceful(chaos)) {
        return;
    }
    struct client *client = intruder_of(chaos);
    if (!client->peer.is_welcomed) {
        return;
    }
    const struct series_row *series = memstore_series_at(chaos->world->disk, below(chaos, 6));
    struct buf *out = sim_peer_out(&client->peer);
    chaos->world->hostile_count++;
    switch (below(chaos, 4)) {
    case 0:
        if (percent(chaos, 20)) {
            cancel_of_others(chaos, client);
        }
        break;
    case 1:
        strange_taken(chaos, out);
        break;
    case 2: { /* others' series, or its own over a gap */
        bool is_others = series != NULL && series->session != client->session && percent(chaos, 50);
        strange_submit(chaos, out, is_others ? series->id : client->series, is_others ? 1 : 3);
        break;
    }
    default: {
        struct msg_CREDIT credit = {.count = rng_next(&chaos->world->rng) >> 1};
        credit.bytes = below(chaos, 2);
        msg_CREDIT_put(out, &credit);
        break;
    }
    }
    sim_peer_flush(&client->peer);
}

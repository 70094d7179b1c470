/*
 * fuzz_core.c owns a broker's core to which an input says what happens: peers connect, say sound messages with fuzzed
 * numbers, damaged ones and nonsense; time passes; batches are sealed, reach the disk, and are noticed; the broker
 * crashes and starts from what was on disk. After every step the core's invariants hold, the disk takes every batch,
 * and nobody was told what is not on disk.
 * It must not know the core's insides, nor be a good peer.
 * Start reading at step. QUERN_FUZZ_TRACE=1 tells what happened.
 */
#include "broker/core.h"
#include "common/check.h"
#include "fuzz/made.h"
#include "simulation/memstore.h"
#include "support/frames.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define CONN_COUNT 6u
#define SEALED_COUNT_MAX 4u
#define LOAD_COUNT_MAX 64u
#define STEP_COUNT_MAX 300u
#define SERIES_COUNT_MAX 64u
#define WALL_START 1700000000000

struct sealed {
    struct batch *batch;
    bool is_applied;
};

struct series_seen {
    uint64_t id;
    uint64_t session;
    bool is_volatile;
};

struct scene {
    struct input input;
    struct known known;
    struct limits limits;
    struct memstore *disk;
    struct core *core;
    struct update update;
    struct sealed sealed[SEALED_COUNT_MAX];
    size_t sealed_count;
    struct load *loads[LOAD_COUNT_MAX];
    size_t load_count;
    int64_t now_ms;
    uint64_t chance;
    uint64_t conns[CONN_COUNT]; /* 0: not connected */
    uint32_t generations[CONN_COUNT];
    uint64_t conn_last;
    struct series_seen series[SERIES_COUNT_MAX]; /* of WELCOMEs */
    size_t series_count;
    uint64_t ended[SERIES_COUNT_MAX]; /* sessions that were deleted */
    size_t ended_count;
    bool is_told_of_disk; /* what is said now must be on disk */
};

/* ---- what happened, for people: QUERN_FUZZ_TRACE=1 ---- */

static bool is_traced(void)
{
    static int is = -1;
    is = is < 0 ? getenv("QUERN_FUZZ_TRACE") != NULL : is;
    return is != 0;
}

static void trace(const char *what, uint64_t number)
{
    if (is_traced()) {
        fprintf(stderr, "%s %" PRIu64 "\n", what, number);
    }
}

static void trace_frame(const char *way, uint64_t conn, struct bytes frame)
{
    struct cursor cursor;
    struct message message;
    uint32_t generation;
    uint64_t unknown;
    const char *why = "";
    if (!is_traced() || frame_open(frame, &generation, &cursor) != QUERN_OK) {
        return;
    }
    while (message_next(&cursor, &message, &unknown, &why) == QUERN_OK) {
        struct buf text = {0};
        message_text(&text, &message);
        fprintf(stderr, "%s %" PRIu64 " g%u %.*s\n", way, conn, generation, (int)text.n, (const char *)text.p);
        buf_fini(&text);
    }
    fprintf(stderr, "%s", why[0] != '\0' ? "   then refused: " : "");
    fprintf(stderr, "%s%s", why, why[0] != '\0' ? "\n" : "");
}

/* ---- what it says ---- */

static const struct series_seen *series_seen(const struct scene *scene, uint64_t id)
{
    for (size_t i = 0; i < scene->series_count && i < SERIES_COUNT_MAX; i++) {
        if (scene->series[i].id == id) {
            return &scene->series[i];
        }
    }
    return NULL;
}

/* Nothing of it is on disk. */
static bool is_volatile(const struct scene *scene, uint64_t series)
{
    const struct series_seen *seen = series_seen(scene, series);
    return seen != NULL && seen->is_volatile;
}

/* Its session was told to end, and to take everything with it, before this was sent. */
static bool is_over(const struct scene *scene, uint64_t series)
{
    const struct series_seen *seen = series_seen(scene, series);
    for (size_t i = 0; seen != NULL && i < scene->ended_count && i < SERIES_COUNT_MAX; i++) {
        if (scene->ended[i] == seen->session) {
            return memstore_session(scene->disk, seen->session) == NULL;
        }
    }
    return false;
}

/* Who reads ACCEPTED may exit: after a crash the disk alone knows of the task. */
static void answer_check(const struct scene *scene, uint64_t series, uint64_t last)
{
    const struct series_row *row = memstore_series(scene->disk, series);
    if (!is_volatile(scene, series)) {
        CHECK(scene->is_told_of_disk);
        CHECK(row != NULL ? row->submitted_high >= last : is_over(scene, series));
    }
}

static void outcome_check(const struct scene *scene, const struct item_outcome *item)
{
    const struct outcome_row *row = memstore_outcome(scene->disk, item->task);
    uint64_t series = item->task >> 32;
    if (is_volatile(scene, series)) {
        return;
    }
    const struct series_seen *seen = series_seen(scene, series);
    bool is_taken = seen != NULL && memstore_session(scene->disk, seen->session) != NULL &&
                    memstore_acked(scene->disk, seen->session, item->completion);
    CHECK(scene->is_told_of_disk);
    CHECK(row != NULL ? row->completion == item->completion && row->state == item->state
                      : is_taken || is_over(scene, series));
}

static void outcomes_check(const struct scene *scene, struct list list)
{
    struct item_outcome item;
    while (item_outcome_next(&list, &item)) {
        outcome_check(scene, &item);
    }
}

/* Recorded, stale or unknown: it may not run any more as far as the disk knows. */
static void receipts_check(const struct scene *scene, struct list list)
{
    struct item_receipt item;
    while (item_receipt_next(&list, &item)) {
        const struct task_row *row = memstore_task(scene->disk, item.task);
        bool is_out = row != NULL && row->epoch == item.epoch && row->attempt == item.attempt &&
                      (row->state == TASK_LEASED || row->state == TASK_RUNNING);
        CHECK(is_volatile(scene, item.task >> 32) || (scene->is_told_of_disk && !is_out));
    }
}

static void drops_check(const struct scene *scene, struct list list)
{
    struct item_token item;
    while (item_token_next(&list, &item)) {
        CHECK(is_volatile(scene, item.task >> 32) || scene->is_told_of_disk);
    }
}

static void welcome_check(struct scene *scene, const struct msg_WELCOME_CLIENT *welcome)
{
    CHECK(welcome->is_volatile || scene->is_told_of_disk);
    if (series_seen(scene, welcome->series) == NULL) {
        scene->series[scene->series_count++ % SERIES_COUNT_MAX] = (struct series_seen){
            .id = welcome->series, .session = welcome->session, .is_volatile = welcome->is_volatile};
    }
}

static bool is_volatile_session(const struct scene *scene, uint64_t session)
{
    for (size_t i = 0; i < scene->series_count && i < SERIES_COUNT_MAX; i++) {
        if (scene->series[i].session == session) {
            return scene->series[i].is_volatile;
        }
    }
    return false;
}

/* What a map says of one key, if that is a number or text. */
static void field_note(struct series_seen *made, struct bytes key, struct bytes view)
{
    char text[ID_TEXT_SIZE];
    uint64_t id;
    struct value value;
    struct cursor cursor = cursor_of(view);
    CHECK(cursor_next(&cursor, &value));
    if (bytes_is(key, "session") && value.type == VALUE_UINT) {
        made->session = value.u;
    } else if (bytes_is(key, "id") && value.type == VALUE_STR && value.bytes.n < sizeof text) {
        snprintf(text, sizeof text, "%.*s", (int)value.bytes.n, (const char *)value.bytes.p);
        made->id = id_parse(text, &id) ? id_series(id) : 0;
    }
}

/* The answer to a RETRY: the task that was made is in a series of its session that no WELCOME has told. */
static void reply_note(struct scene *scene, struct bytes body)
{
    struct series_seen made = {.is_volatile = true};
    struct cursor cursor = cursor_of(body);
    struct value map;
    if (!cursor_next(&cursor, &map) || map.type != VALUE_MAP) {
        return;
    }
    for (uint32_t left = map.count; left > 0; left--) {
        struct value key;
        struct bytes value;
        CHECK(cursor_next(&cursor, &key) && cursor_skip(&cursor, VALUE_DEPTH_MAX, &value));
        if (key.type == VALUE_STR) {
            field_note(&made, key.bytes, value);
        }
    }
    if (made.id != 0 && is_volatile_session(scene, made.session) && series_seen(scene, made.id) == NULL) {
        scene->series[scene->series_count++ % SERIES_COUNT_MAX] = made;
    }
}

static void message_check(void *context, const struct message *message)
{
    struct scene *scene = context;
    switch (message->kind) {
    case MSG_WELCOME_CLIENT:
        welcome_check(scene, &message->WELCOME_CLIENT);
        break;
    case MSG_ACCEPTED:
        answer_check(scene, message->ACCEPTED.series, message->ACCEPTED.sequence + message->ACCEPTED.count - 1);
        break;
    case MSG_REFUSED:
        answer_check(scene, message->REFUSED.series, message->REFUSED.sequence + message->REFUSED.count - 1);
        break;
    case MSG_FORGOTTEN:
        answer_check(scene, message->FORGOTTEN.series, message->FORGOTTEN.sequence + message->FORGOTTEN.count - 1);
        break;
    case MSG_OUTCOME:
        outcomes_check(scene, message->OUTCOME.items);
        break;
    case MSG_RECEIPT:
        receipts_check(scene, message->RECEIPT.items);
        break;
    case MSG_DROP:
        drops_check(scene, message->DROP.items);
        break;
    case MSG_REPLY:
        reply_note(scene, message->REPLY.body);
        break;
    default:
        break;
    }
}

static void send_frames(struct scene *scene, struct outbox *outbox, bool is_gated)
{
    scene->is_told_of_disk = is_gated;
    for (size_t i = 0; i < outbox->count; i++) {
        trace_frame(is_gated ? "  gated to" : "  to", outbox->frames[i].conn, buf_bytes(&outbox->frames[i].frame));
        known_note_frame(&scene->known, buf_bytes(&outbox->frames[i].frame), message_check, scene);
        buf_fini(&outbox->frames[i].frame);
    }
    outbox->count = 0;
}

static void carry_out(struct scene *scene)
{
    struct update *update = &scene->update;
    send_frames(scene, &update->now, false);
    for (size_t i = 0; i < update->load_count; i++) {
        if (scene->load_count < LOAD_COUNT_MAX) {
            scene->loads[scene->load_count++] = update->loads[i];
        } else {
            free(update->loads[i]); /* a slow disk has not answered yet */
        }
    }
    update->load_count = 0;
    update_clear(update);
}

static void core_take(struct scene *scene, struct event *event)
{
    event->mono_ms = scene->now_ms;
    event->wall_ms = scene->now_ms + WALL_START;
    scene->chance = scene->chance * 6364136223846793005u + 1442695040888963407u;
    event->random[0] = scene->chance >> 8;
    event->random[1] = scene->chance * 0x9e3779b97f4a7c15u;
    core_step(scene->core, event, &scene->update);
    core_check(scene->core);
}

/* A kicked connection: the core is told that it is gone, once. */
static void take_kicks(struct scene *scene)
{
    for (size_t k = 0; k < scene->update.kick_count; k++) {
        for (unsigned i = 0; i < CONN_COUNT; i++) {
            if (scene->conns[i] == scene->update.kicks[k]) {
                scene->conns[i] = 0;
            }
        }
    }
    for (size_t left = scene->update.kick_count; left > 0; left--) {
        uint64_t conn = scene->update.kicks[left - 1];
        struct event event = {.kind = EVENT_CLOSED, .conn = conn};
        scene->update.kick_count = left - 1;
        core_take(scene, &event);
    }
}

static void take(struct scene *scene, struct event *event)
{
    core_take(scene, event);
    take_kicks(scene);
    carry_out(scene);
}

/* ---- the broker's life ---- */

static void broker_start(struct scene *scene)
{
    struct store_facts facts;
    struct store_visitor visitor;
    struct event event = {.kind = EVENT_TICK};
    memstore_start(scene->disk, &facts);
    trace("start, epoch", facts.epoch);
    scene->core = core_open(&scene->limits, &facts);
    core_visitor(scene->core, &visitor);
    memstore_load(scene->disk, &visitor);
    core_begin(scene->core, scene->now_ms, scene->now_ms + WALL_START);
    core_check(scene->core);
    update_init(&scene->update);
    take(scene, &event);
}

static void broker_end(struct scene *scene)
{
    while (scene->sealed_count > 0) {
        batch_free(scene->core, &scene->sealed[--scene->sealed_count].batch);
    }
    while (scene->load_count > 0) {
        free(scene->loads[--scene->load_count]);
    }
    update_fini(&scene->update);
    core_close(&scene->core);
    memset(scene->conns, 0, sizeof scene->conns);
}

static void seal(struct scene *scene)
{
    if (scene->sealed_count < SEALED_COUNT_MAX) {
        scene->sealed[scene->sealed_count++] = (struct sealed){.batch = core_seal(scene->core)};
    }
}

static void apply(struct scene *scene, bool twice)
{
    for (size_t i = 0; i < scene->sealed_count; i++) {
        struct sealed *sealed = &scene->sealed[i];
        if (!sealed->is_applied) {
            trace("apply batch", sealed->batch->number);
            for (size_t c = 0; c < sealed->batch->count; c++) {
                const struct change *change = &sealed->batch->changes[c];
                trace("  change of kind", change->kind);
                if (change->kind == CHANGE_SESSION_DELETE) {
                    scene->ended[scene->ended_count++ % SERIES_COUNT_MAX] = change->number;
                }
            }
            const char *why = memstore_apply(scene->disk, sealed->batch->changes, sealed->batch->count, false);
            CHECK_THAT(why == NULL, "%s", why);
            why = twice ? memstore_apply(scene->disk, sealed->batch->changes, sealed->batch->count, true) : NULL;
            CHECK_THAT(why == NULL, "%s", why);
            sealed->is_applied = true;
            return;
        }
    }
}

static void notice(struct scene *scene)
{
    if (scene->sealed_count == 0 || !scene->sealed[0].is_applied) {
        return;
    }
    struct batch *batch = scene->sealed[0].batch;
    trace("notice of batch", batch->number);
    struct event event = {.kind = EVENT_COMMITTED, .batch = batch->number};
    core_take(scene, &event);
    send_frames(scene, &batch->gated, true);
    batch_free(scene->core, &batch);
    scene->sealed_count--;
    memmove(&scene->sealed[0], &scene->sealed[1], scene->sealed_count * sizeof scene->sealed[0]);
    take_kicks(scene);
    carry_out(scene);
}

static void commit(struct scene *scene)
{
    for (unsigned i = 0; i < 4; i++) {
        while (scene->sealed_count > 0) {
            apply(scene, false);
            notice(scene);
        }
        if (!core_wants_commit(scene->core, INT64_MAX)) {
            return;
        }
        seal(scene);
    }
}

static void answer_load(struct scene *scene)
{
    if (scene->load_count == 0) {
        return;
    }
    struct load *load = scene->loads[0];
    scene->load_count--;
    memmove(&scene->loads[0], &scene->loads[1], scene->load_count * sizeof scene->loads[0]);
    struct loaded *loaded = memstore_answer(scene->disk, load);
    struct event event = {.kind = EVENT_LOADED, .loaded = loaded};
    take(scene, &event);
    memstore_loaded_free(&loaded);
    free(load);
}

/* ---- peers ---- */

static void connect_peer(struct scene *scene, unsigned which)
{
    if (scene->conns[which] == 0) {
        scene->conns[which] = ++scene->conn_last;
        scene->generations[which]++;
    }
}

static void hear(struct scene *scene, unsigned which, const struct buf *frame)
{
    trace_frame("from", scene->conns[which], buf_bytes(frame));
    uint8_t *copy = input_copy(frame->p, frame->n);
    struct event event = {
        .kind = EVENT_FRAME, .conn = scene->conns[which], .frame = bytes_of(copy, frame->n), .peer = "fuzzed"};
    take(scene, &event);
    free(copy);
}

static void say(struct scene *scene, unsigned which)
{
    static const uint8_t kinds[] = {
        MSG_HELLO_CLIENT, MSG_HELLO_WORKER,  MSG_HELLO_OPERATOR, MSG_ECHO,    MSG_SUBMIT,   MSG_SUBMIT,
        MSG_SUBMIT,       MSG_SUBMIT,        MSG_TAKEN,          MSG_CREDIT,  MSG_CANCEL,   MSG_RETRY,
        MSG_CLOSE,        MSG_QUERY,         MSG_RETURNED,       MSG_STARTED, MSG_FINISHED, MSG_FINISHED,
        MSG_PROGRESS,     MSG_CAPACITY,      MSG_PING,           MSG_PONG,    MSG_BYE,      MSG_ERROR,
        MSG_OUTCOME,      MSG_WELCOME_CLIENT};
    struct buf frame = {0};
    unsigned how = input_u8(&scene->input);
    connect_peer(scene, which);
    frame_begin(&frame, scene->generations[which] - (how % 32 == 31));
    for (unsigned count = 1 + how / 32 % 4; count > 0; count--) {
        unsigned kind = input_below(&scene->input, sizeof kinds);
        message_make(&frame, &scene->input, &scene->known, (enum message_kind)kinds[kind]);
    }
    if (how % 32 == 30) {
        frame_damage(&frame, &scene->input);
    }
    hear(scene, which, &frame);
    buf_fini(&frame);
}

/* A client or worker that is welcomed, as a good one would be: so that short inputs come to what is behind. */
static void greet(struct scene *scene, unsigned which, bool is_worker, unsigned how)
{
    struct buf frame = {0};
    connect_peer(scene, which);
    frame_begin(&frame, scene->generations[which]);
    if (is_worker) {
        struct buf names = {0};
        struct item_name name = {.name = bytes_text("f")};
        item_name_put(&names, &name);
        struct msg_HELLO_WORKER hello = {.instance = {{(uint8_t)(which + 1), (uint8_t)how}},
                                         .host = bytes_text("h"),
                                         .pid = which,
                                         .name = bytes_text(which % 2 == 0 ? "w0" : "w1"),
                                         .slots = 2,
                                         .capacity_count = 4,
                                         .capacity_bytes = 1000,
                                         .functions = {1, buf_bytes(&names)}};
        msg_HELLO_WORKER_put(&frame, &hello);
        buf_fini(&names);
    } else {
        struct msg_HELLO_CLIENT hello = {.instance = {{(uint8_t)(which + 1)}},
                                         .host = bytes_text("h"),
                                         .pid = which,
                                         .name = how % 3 == 0 ? (struct bytes){NULL, 0} : bytes_text("w"),
                                         .take_over = how % 2 == 0,
                                         .is_volatile = how % 7 == 6,
                                         .credit_count = 8,
                                         .credit_bytes = 4000};
        msg_HELLO_CLIENT_put(&frame, &hello);
    }
    hear(scene, which, &frame);
    buf_fini(&frame);
    /* The nonce of the challenge is known now, unless it was refused. */
    frame_begin(&frame, scene->generations[which]);
    if (!is_worker && scene->conns[which] != 0) {
        struct input latest = input_of(NULL, 0);
        message_make(&frame, &latest, &scene->known, MSG_ECHO);
        hear(scene, which, &frame);
    }
    buf_fini(&frame);
    commit(scene);
}

static void part(struct scene *scene, unsigned which)
{
    if (scene->conns[which] != 0) {
        trace("closed", scene->conns[which]);
        struct event event = {.kind = EVENT_CLOSED, .conn = scene->conns[which]};
        scene->conns[which] = 0;
        take(scene, &event);
    }
}

static void pass(struct scene *scene, unsigned how)
{
    static const int64_t spans[] = {1, 20, 50, 1000, 3000, 10001, 15001, 60001, (int64_t)8 * 24 * 3600 * 1000};
    struct event event = {.kind = EVENT_TICK};
    trace("pass ms", (uint64_t)spans[how % (sizeof spans / sizeof spans[0])]);
    scene->now_ms += spans[how % (sizeof spans / sizeof spans[0])];
    take(scene, &event);
}

static void tell_stats(struct scene *scene, bool is_low)
{
    struct store_stats stats = {.disk_low = is_low};
    struct event event = {.kind = EVENT_STATS, .stats = &stats};
    take(scene, &event);
}

static void step(struct scene *scene)
{
    unsigned what = input_u8(&scene->input);
    unsigned which = what / 16 % CONN_COUNT;
    switch (what % 16) {
    case 0:
        part(scene, which);
        break;
    case 1:
        pass(scene, what / 16);
        break;
    case 2:
        seal(scene);
        break;
    case 3:
        apply(scene, what > 200);
        break;
    case 4:
        notice(scene);
        break;
    case 5:
        answer_load(scene);
        break;
    case 6:
        if (what > 200) {
            tell_stats(scene, what > 230);
        } else {
            broker_end(scene);
            broker_start(scene);
        }
        break;
    case 7:
        greet(scene, which, which >= CONN_COUNT / 2, input_u8(&scene->input));
        break;
    case 8:
        commit(scene);
        break;
    default:
        say(scene, which);
    }
}

static struct limits limits_small(unsigned how)
{
    struct limits limits = limits_default();
    if (how % 2 == 1) {
        limits.task_count_max = 12;
        limits.task_bytes_max = 4000;
        limits.unacked_count_max = 8;
        limits.unacked_bytes_max = 4000;
        limits.acked_count_max = 4;
        limits.acked_bytes_max = 2000;
        limits.retention_row_count = 2;
        limits.args_keep_size = 8;
        limits.client_window_count = 4;
        limits.client_window_bytes = 1000;
        limits.submit_pool_bytes = 2000;
        limits.volatile_bytes_max = 2000;
        limits.resident_bytes_max = 100;
        limits.ready_turn_count = 2;
        limits.batch_row_count_max = 16;
        limits.batch_submit_count_max = 2;
        limits.batch_submit_bytes_max = 100;
    }
    return limits;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct scene scene; /* large */
    scene = (struct scene){.input = input_of(data, size), .now_ms = 1000, .chance = size};
    scene.limits = limits_small(input_u8(&scene.input));
    scene.disk = memstore_open(7);
    broker_start(&scene);
    for (unsigned i = 0; i < STEP_COUNT_MAX && scene.input.left > 0; i++) {
        step(&scene);
    }
    broker_end(&scene);
    memstore_close(&scene.disk);
    return 0;
}

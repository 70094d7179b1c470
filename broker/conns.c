/*
 * conns.c: connections, and the frames that are written to them. There are three ways out, and the caller chooses by
 * name: *_now leaves at once; *_soon with the next frame that leaves at once, or a moment later; *_gated when the batch
 * that is open now is on disk. Must not know what messages mean.
 * A frame is valid after every step: its last run's count is patched with every item.
 */
#include "broker/state.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/check.h"

/* What leaves soon leaves by itself after this. Longer than a tick of the kernel (4 ms): with less every lone task took
 * half as long again (DECISIONS.md, 21). */
#define SOON_MS 10
/* Or when there is more of it than this. */
#define SOON_COUNT_MAX 64u

/* ---- outboxes ---- */

void outbox_fini(struct outbox *outbox)
{
    for (size_t i = 0; i < outbox->count; i++) {
        buf_fini(&outbox->frames[i].frame);
    }
    free(outbox->frames);
    *outbox = (struct outbox){0};
}

void update_init(struct update *update)
{
    *update = (struct update){.wake_ms = INT64_MAX, .serial = 1};
}

void update_clear(struct update *update)
{
    for (size_t i = 0; i < update->now.count; i++) {
        buf_fini(&update->now.frames[i].frame);
    }
    for (size_t i = 0; i < update->load_count; i++) {
        free(update->loads[i]);
    }
    update->now.count = 0;
    update->kick_count = 0;
    update->load_count = 0;
    update->wake_ms = INT64_MAX;
    update->serial++;
}

void update_fini(struct update *update)
{
    update_clear(update);
    outbox_fini(&update->now);
    free(update->kicks);
    free(update->loads);
    *update = (struct update){0};
}

/* ---- writing ---- */

static void frame_start(struct conn *conn, struct outlet *outlet, struct outbox *outbox, uint64_t serial)
{
    ARRAY_RESERVE(outbox->frames, outbox->count, outbox->cap);
    outlet->serial = serial;
    outlet->index = outbox->count++;
    outlet->messages = 0;
    outlet->run_kind = 0;
    outbox->frames[outlet->index] = (struct frame_out){.conn = conn->id};
    frame_begin(&outbox->frames[outlet->index].frame, conn->generation);
}

/* A frame that leaves at once takes along what leaves soon. */
static void soon_join(struct conn *conn, struct outlet *outlet)
{
    if (conn->soon_count > 0) {
        buf_put(outlet->frame, conn->soon.p, conn->soon.n);
        outlet->messages += conn->soon_count;
        outlet->run_kind = 0;
        conn->soon.n = 0;
        conn->soon_count = 0;
    }
}

static struct outbox *outbox_of(struct core *core, bool gated)
{
    return gated ? &core->open.gated : &core->update->now;
}

/* Its frame is one of this outbox, and not full. */
static bool has_room(const struct core *core, const struct outlet *outlet, const struct outbox *outbox, bool gated)
{
    return outlet->serial == (gated ? core->open.number : core->update->serial) &&
           outbox->frames[outlet->index].frame.n < BATCH_SIZE_SOFT && outlet->messages < BATCH_COUNT_SOFT;
}

static struct outlet *outlet_of(struct core *core, struct conn *conn, bool gated)
{
    struct outlet *outlet = gated ? &conn->gated : &conn->now;
    struct outbox *outbox = outbox_of(core, gated);
    if (!has_room(core, outlet, outbox, gated)) {
        frame_start(conn, outlet, outbox, gated ? core->open.number : core->update->serial);
    }
    outlet->frame = &outbox->frames[outlet->index].frame;
    if (!gated) {
        soon_join(conn, outlet);
        conn->sent_ms = core->now;
    }
    return outlet;
}

static struct buf *send_message(struct core *core, struct conn *conn, bool gated)
{
    struct outlet *outlet = outlet_of(core, conn, gated);
    outlet->run_kind = 0;
    outlet->messages++;
    return outlet->frame;
}

struct buf *send_now(struct core *core, struct conn *conn)
{
    return send_message(core, conn, false);
}

struct buf *send_gated(struct core *core, struct conn *conn)
{
    return send_message(core, conn, true);
}

struct buf *send_soon(struct core *core, struct conn *conn)
{
    if (conn->soon_count >= SOON_COUNT_MAX) {
        (void)outlet_of(core, conn, false);
    }
    if (!conn->is_soon_listed) {
        ARRAY_RESERVE(core->soon, core->soon_count, core->soon_cap);
        core->soon[core->soon_count++] = conn->id;
        conn->is_soon_listed = true;
        core->soon_ms = core->soon_ms == INT64_MAX ? core->now + SOON_MS : core->soon_ms;
    }
    conn->soon_count++;
    return &conn->soon;
}

void conns_send_soon(struct core *core)
{
    if (core->now < core->soon_ms) {
        return;
    }
    for (size_t i = 0; i < core->soon_count; i++) {
        struct conn *conn = conn_find(core, core->soon[i]);
        if (conn != NULL && conn->soon_count > 0) {
            (void)outlet_of(core, conn, false);
        }
        if (conn != NULL) {
            conn->is_soon_listed = false;
        }
    }
    core->soon_count = 0;
    core->soon_ms = INT64_MAX;
}

/* Not inline: the way of an item whose run is open saves no registers for it. */
__attribute__((noinline)) static struct outlet *run_start(struct core *core, struct conn *conn,
                                                          const struct message *head, const void *key, bool gated)
{
    struct outlet *outlet = outlet_of(core, conn, gated);
    struct run run;
    run_open(&run, outlet->frame, head);
    outlet->run_kind = head->kind;
    outlet->run_key = key;
    outlet->count_at = run.count_at;
    outlet->count = 0;
    outlet->last.has = false;
    outlet->after = conn->takes_short ? &outlet->last : NULL;
    return outlet;
}

/* Mostly the run is open already: that is looked at first, and at once. */
static inline struct outlet *run_message(struct core *core, struct conn *conn, const struct message *head,
                                         const void *key, bool gated)
{
    struct outlet *outlet = gated ? &conn->gated : &conn->now;
    struct outbox *outbox = outbox_of(core, gated);
    if (outlet->run_kind != head->kind || outlet->run_key != key || (!gated && conn->soon_count > 0) ||
        !has_room(core, outlet, outbox, gated)) {
        return run_start(core, conn, head, key, gated);
    }
    outlet->frame = &outbox->frames[outlet->index].frame;
    conn->sent_ms = gated ? conn->sent_ms : core->now;
    return outlet;
}

struct outlet *run_now(struct core *core, struct conn *conn, const struct message *head, const void *key)
{
    return run_message(core, conn, head, key, false);
}

struct outlet *run_gated(struct core *core, struct conn *conn, const struct message *head, const void *key)
{
    return run_message(core, conn, head, key, true);
}

void run_added(struct outlet *run)
{
    run->messages++;
    array_close(run->frame, run->count_at, ++run->count);
}

/* Nothing overtakes a WELCOME that had to wait for its numbers. */
bool answer_is_gated(struct core *core, struct conn *conn)
{
    if (conn->session == NULL || !conn->session->is_volatile) {
        return true;
    }
    if (conn->behind <= core->committed) {
        return false;
    }
    conn->behind = core->open.number;
    return true;
}

struct buf *send_answer(struct core *core, struct conn *conn)
{
    return send_message(core, conn, answer_is_gated(core, conn));
}

struct buf *send_answer_soon(struct core *core, struct conn *conn)
{
    return answer_is_gated(core, conn) ? send_gated(core, conn) : send_soon(core, conn);
}

/* ---- life ---- */

struct conn *conn_find(const struct core *core, uint64_t id)
{
    return map_get(&core->conns, id);
}

struct conn *conn_open(struct core *core, uint64_t id)
{
    struct conn *conn = xcalloc(1, sizeof *conn);
    conn->id = id;
    conn->heard_ms = core->now;
    conn->sent_ms = core->now;
    conn->next = core->conn_list;
    if (conn->next != NULL) {
        conn->next->prev = conn;
    }
    core->conn_list = conn;
    map_put(&core->conns, id, conn);
    core_sweep_by(core, core->now + (int64_t)core->limits.dead_ms);
    return conn;
}

static void conn_free(struct conn *conn)
{
    buf_fini(&conn->soon);
    free(conn->host);
    free(conn->program);
    if (conn->opening != NULL) {
        free(conn->opening);
    }
    free(conn);
}

void conn_close(struct core *core, struct conn *conn)
{
    query_conn_closed(core, conn);
    backlog_drop(core, conn);
    if (conn->session != NULL) {
        session_left(core, conn->session);
    }
    if (conn->worker != NULL) {
        worker_left(core, conn->worker);
    }
    if (conn->role == ROLE_CLIENT) {
        core->client_count--;
    }
    if (conn->is_starving) {
        core->starving_count--;
    }
    if (conn->prev != NULL) {
        conn->prev->next = conn->next;
    } else {
        core->conn_list = conn->next;
    }
    if (conn->next != NULL) {
        conn->next->prev = conn->prev;
    }
    map_remove(&core->conns, conn->id);
    conn_free(conn);
}

/* Break it: it is forgotten here at once, and what still arrives from it finds an unknown connection. */
void conn_part(struct core *core, struct conn *conn)
{
    ARRAY_RESERVE(core->update->kicks, core->update->kick_count, core->update->kick_cap);
    core->update->kicks[core->update->kick_count++] = conn->id;
    conn_close(core, conn);
}

void conn_kick(struct core *core, struct conn *conn)
{
    core->counters.peers_kicked++;
    conn_part(core, conn);
}

/* The last word to a peer, after the disk knows what it rests on, if it rests on it. The peer then leaves, or is
 * dropped for silence. */
void conn_deny(struct core *core, struct conn *conn, enum quern_err code, const char *owner, const char *text)
{
    struct msg_DENIED denied = {.code = code, .text = bytes_text(text), .owner = bytes_text(owner)};
    msg_DENIED_put(send_answer(core, conn), &denied);
    conn->is_denied = true;
    backlog_drop(core, conn); /* what it sent is heard no more; also if another one took its session over */
    if (conn->session != NULL) {
        session_left(core, conn->session);
    }
    conn->session = NULL;
    conn->series = NULL;
}

void conn_error(struct core *core, struct conn *conn, enum quern_err code, uint64_t kind, const char *text)
{
    struct msg_ERROR error = {.code = code, .kind = kind, .text = bytes_text(text)};
    core->counters.protocol_errors++;
    msg_ERROR_put(send_now(core, conn), &error);
    conn->errors++;
}

static void conn_check(struct core *core, struct conn *conn, int64_t *next)
{
    int64_t dead = conn->heard_ms + (int64_t)core->limits.dead_ms;
    int64_t ping = conn->sent_ms + (int64_t)core->limits.heartbeat_ms;
    if (dead <= core->now) {
        conn_kick(core, conn);
        return;
    }
    if (conn->role != ROLE_NONE && ping <= core->now) {
        struct msg_PING message = {.number = 0};
        msg_PING_put(send_now(core, conn), &message);
        ping = core->now + (int64_t)core->limits.heartbeat_ms;
    }
    int64_t first = conn->role != ROLE_NONE && ping < dead ? ping : dead;
    *next = first < *next ? first : *next;
}

void conn_sweep(struct core *core)
{
    int64_t next_sweep = INT64_MAX;
    for (struct conn *conn = core->conn_list; conn != NULL;) {
        struct conn *next = conn->next;
        conn_check(core, conn, &next_sweep);
        conn = next;
    }
    core_sweep_by(core, next_sweep);
}

void conns_fini(struct core *core)
{
    for (struct conn *conn = core->conn_list; conn != NULL;) {
        struct conn *next = conn->next;
        backlog_drop(core, conn);
        conn_free(conn);
        conn = next;
    }
    map_fini(&core->conns);
    free(core->soon);
}

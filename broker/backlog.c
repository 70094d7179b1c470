/*
 * backlog.c: owns what clients sent faster than the disk takes it. An open batch that has grown to its bound takes no
 * more submits of those who filled it: what they sent is kept here, in order, and goes into the next batches, a piece
 * of each client in turn. So a commit stays short, and a client with little to submit never waits behind one with much.
 * Must not know what a message means, but for SUBMIT's kind. Start reading at backlog_must_wait.
 */
#include "broker/state.h"

#include <stdlib.h>
#include <string.h>

/* What a client may always have in a batch: it did not fill it. */
#define MODEST_COUNT 128u
#define MODEST_BYTES (16 * KIB)
/* Unless there are so many of them that the batch has so many times its number of submits. */
#define MODEST_BATCHES 2u
/* Of what was kept this much is taken in one step: others have their turn between. */
#define STEP_BYTES (64 * KIB)

/* Messages of one frame, or what is left of them. */
struct piece {
    struct piece *next;
    size_t at;
    size_t size;
    uint8_t bytes[];
};

/* ---- what is in the open batch ---- */

void backlog_count(struct core *core, struct conn *conn, size_t size)
{
    if (conn->batch != core->open.number) {
        conn->batch = core->open.number;
        conn->batch_count = 0;
        conn->batch_bytes = 0;
    }
    conn->batch_count++;
    conn->batch_bytes += size;
    core->open.submit_count++;
}

/* By results too: who waits for the commit waits for their bytes as well. */
static bool is_full(const struct core *core)
{
    return core->open.submit_count >= core->limits.batch_submit_count_max ||
           core->open.bytes >= core->limits.batch_submit_bytes_max;
}

/* size: of what it says now. */
static bool is_modest(const struct core *core, const struct conn *conn, size_t size)
{
    bool is_known = conn->batch == core->open.number;
    return core->open.submit_count / MODEST_BATCHES < core->limits.batch_submit_count_max &&
           (is_known ? conn->batch_count : 0) < MODEST_COUNT &&
           (is_known ? conn->batch_bytes : 0) + size < MODEST_BYTES;
}

bool backlog_must_wait(const struct core *core, const struct conn *conn, const struct cursor *cursor)
{
    return is_full(core) && conn->session != NULL && !conn->session->is_volatile &&
           !is_modest(core, conn, (size_t)(cursor->end - cursor->p)) &&
           core->backlog_bytes < core->limits.submit_pool_bytes && message_peek(cursor) == MSG_SUBMIT;
}

/* ---- keeping ---- */

static void line_join(struct core *core, struct conn *conn)
{
    conn->backlog_before = core->backlog_last;
    conn->backlog_after = NULL;
    *(core->backlog_last != NULL ? &core->backlog_last->backlog_after : &core->backlog_first) = conn;
    core->backlog_last = conn;
    core->backlog_count++;
}

static void line_leave(struct core *core, struct conn *conn)
{
    *(conn->backlog_before != NULL ? &conn->backlog_before->backlog_after : &core->backlog_first) = conn->backlog_after;
    *(conn->backlog_after != NULL ? &conn->backlog_after->backlog_before : &core->backlog_last) = conn->backlog_before;
    core->backlog_count--;
}

static void to_the_end(struct core *core, struct conn *conn)
{
    line_leave(core, conn);
    line_join(core, conn);
}

static void piece_put(struct core *core, struct conn *conn, struct piece *piece, bool is_first)
{
    if (conn->backlog == NULL) {
        line_join(core, conn);
    }
    piece->next = is_first ? conn->backlog : NULL;
    if (conn->backlog == NULL || !is_first) {
        *(conn->backlog == NULL ? &conn->backlog : &conn->backlog_end->next) = piece;
        conn->backlog_end = piece;
    } else {
        conn->backlog = piece;
    }
    conn->backlog_bytes += piece->size;
    core->backlog_bytes += piece->size;
}

static struct piece *piece_take(struct core *core, struct conn *conn)
{
    struct piece *piece = conn->backlog;
    conn->backlog = piece->next;
    conn->backlog_bytes -= piece->size;
    core->backlog_bytes -= piece->size;
    if (conn->backlog == NULL) {
        line_leave(core, conn);
    }
    return piece;
}

bool backlog_add(struct core *core, struct conn *conn, const struct cursor *cursor)
{
    size_t size = (size_t)(cursor->end - cursor->p);
    if (conn->backlog_bytes + size > core->limits.client_window_bytes + FRAME_SIZE_MAX) {
        return false;
    }
    struct piece *piece = xmalloc(sizeof *piece + size);
    *piece = (struct piece){.size = size};
    memcpy(piece->bytes, cursor->p, size);
    core->counters.held_back += conn->backlog == NULL;
    piece_put(core, conn, piece, false);
    return true;
}

void backlog_drop(struct core *core, struct conn *conn)
{
    while (conn->backlog != NULL) {
        free(piece_take(core, conn));
    }
}

/* ---- the next batch ---- */

/* One piece of this client, as far as there is room. Answers how many bytes were taken; 0: there is no room for it. */
static size_t piece_run(struct core *core, struct conn *conn)
{
    uint64_t id = conn->id;
    struct cursor cursor =
        cursor_of(bytes_of(conn->backlog->bytes + conn->backlog->at, conn->backlog->size - conn->backlog->at));
    to_the_end(core, conn);
    if (backlog_must_wait(core, conn, &cursor)) {
        return 0;
    }
    struct piece *piece = piece_take(core, conn);
    take_messages(core, id, &cursor);
    size_t taken = (size_t)(cursor.p - (piece->bytes + piece->at));
    piece->at += taken;
    conn = conn_find(core, id); /* what it said may have ended it */
    if (conn != NULL && !conn->is_denied && piece->at < piece->size) {
        piece_put(core, conn, piece, true);
    } else {
        free(piece);
    }
    return taken;
}

bool backlog_is_due(const struct core *core)
{
    return core->backlog_count > 0 && core->backlog_batch != core->open.number;
}

/* In turns, until there is no room or enough was done for one step. */
void backlog_run(struct core *core)
{
    size_t bytes = 0;
    size_t idle_count = 0;
    while (backlog_is_due(core) && bytes < STEP_BYTES) {
        size_t taken = piece_run(core, core->backlog_first);
        bytes += taken;
        idle_count = taken > 0 ? 0 : idle_count + 1;
        if (idle_count >= core->backlog_count) {
            core->backlog_batch = core->open.number; /* it is full: more when there is another */
        }
    }
}

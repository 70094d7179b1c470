/*
 * submits.c: SUBMIT, and what answers it. Rules:
 *   - a series is taken strictly in sequence; a gap uses up nothing and ends the connection;
 *   - at or below submitted_high nothing is created again: the answer is its state, its refusal, or forgotten;
 *   - a refusal uses up its sequence and is stored with the series;
 *   - an ordinal names the one before it, so that a refused line cannot be overtaken by the next.
 * submitted_high, the ordinal and its digest are in the commit that makes the task. Start reading at client_submit.
 */
#include "broker/state.h"

#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/check.h"

/* Answers to consecutive sequences that are the same are one message. */
struct answer {
    enum message_kind kind; /* ACCEPTED, REFUSED, FORGOTTEN; 0 none yet */
    enum quern_err code;
    uint32_t first;
    uint32_t count;
};

static const char *refusal_text(enum quern_err code)
{
    switch (code) {
    case QUERN_FULL:
        return "the broker holds as much as it may; take outcomes, or try again later";
    case QUERN_DISK:
        return "the broker's disk is nearly full; free space on it and try again";
    case QUERN_CLOSED:
        return "the session is ending and takes no further submits";
    case QUERN_TOO_BIG:
        return "the arguments are over 16 MiB";
    default:
        return quern_err_text(code);
    }
}

static void answer_send(struct core *core, struct conn *conn, const struct answer *answer)
{
    uint64_t series = conn->series->id;
    if (answer->kind == MSG_ACCEPTED) {
        struct msg_ACCEPTED message = {.series = series, .sequence = answer->first, .count = answer->count};
        msg_ACCEPTED_put(send_answer_soon(core, conn), &message);
    } else if (answer->kind == MSG_FORGOTTEN) {
        struct msg_FORGOTTEN message = {.series = series, .sequence = answer->first, .count = answer->count};
        msg_FORGOTTEN_put(send_answer(core, conn), &message);
    } else if (answer->kind == MSG_REFUSED) {
        struct msg_REFUSED message = {.series = series,
                                      .sequence = answer->first,
                                      .count = answer->count,
                                      .code = answer->code,
                                      .ordinal_high = conn->session->ordinal_high,
                                      .text = bytes_text(refusal_text(answer->code))};
        msg_REFUSED_put(send_answer(core, conn), &message);
    }
}

static void answer_add(struct core *core, struct conn *conn, struct answer *answer, uint32_t sequence,
                       enum message_kind kind, enum quern_err code)
{
    if (answer->kind == kind && answer->code == code && answer->first + answer->count == sequence) {
        answer->count++;
        return;
    }
    answer_send(core, conn, answer);
    *answer = (struct answer){.kind = kind, .code = code, .first = sequence, .count = 1};
}

/* ---- repeated ones ---- */

static const struct refusal *refusal_find(const struct series *series, uint32_t sequence)
{
    for (size_t i = series->refused_count; i > 0; i--) {
        if (sequence >= series->refused[i - 1].first && sequence <= series->refused[i - 1].last) {
            return &series->refused[i - 1];
        }
    }
    return NULL;
}

static void answer_repeated(struct core *core, struct conn *conn, struct answer *answer, uint32_t sequence)
{
    uint64_t id = id_make((uint32_t)conn->series->id, sequence);
    const struct refusal *refusal = refusal_find(conn->series, sequence);
    core->counters.resubmitted++;
    if (task_find(core, id) != NULL || parked_turn(core, id) != NULL || outcome_find(core, id) != NULL) {
        answer_add(core, conn, answer, sequence, MSG_ACCEPTED, QUERN_OK);
    } else if (refusal != NULL) {
        answer_add(core, conn, answer, sequence, MSG_REFUSED, (enum quern_err)refusal->code);
    } else {
        answer_add(core, conn, answer, sequence, MSG_FORGOTTEN, QUERN_OK);
    }
}

/* ---- new ones ---- */

static void refusal_store(struct core *core, struct series *series, uint32_t sequence, enum quern_err code)
{
    struct refusal *last = series->refused_count ? &series->refused[series->refused_count - 1] : NULL;
    batch_series(core, series);
    if (last != NULL && last->last + 1 == sequence && last->code == (uint32_t)code) {
        last->last = sequence;
        return;
    }
    if (series->refused == NULL) {
        series->refused = xmalloc(REFUSED_RANGE_COUNT_MAX * sizeof *series->refused);
        series->refused_cap = REFUSED_RANGE_COUNT_MAX;
    } else if (series->refused_cap < REFUSED_RANGE_COUNT_MAX) { /* as loaded: just as many as there were */
        series->refused = xrealloc(series->refused, REFUSED_RANGE_COUNT_MAX * sizeof *series->refused);
        series->refused_cap = REFUSED_RANGE_COUNT_MAX;
    }
    if (series->refused_count == REFUSED_RANGE_COUNT_MAX) { /* the oldest answers become "forgotten" */
        memmove(series->refused, series->refused + 1, (REFUSED_RANGE_COUNT_MAX - 1) * sizeof *series->refused);
        series->refused_count--;
    }
    series->refused[series->refused_count++] =
        (struct refusal){.first = sequence, .last = sequence, .code = (uint32_t)code};
}

static enum quern_err ordinal_check(const struct session *session, uint64_t ordinal, uint64_t predecessor)
{
    if (ordinal == 0) {
        return QUERN_OK;
    }
    if (ordinal <= session->ordinal_high) {
        return QUERN_DUPLICATE;
    }
    return predecessor == session->ordinal_high ? QUERN_OK : QUERN_PREDECESSOR;
}

enum quern_err submit_room(const struct core *core, bool is_volatile)
{
    if (core->disk_low && !is_volatile) {
        return QUERN_DISK;
    }
    if (is_volatile && core->volatile_bytes >= core->limits.volatile_bytes_max) {
        return QUERN_FULL;
    }
    bool is_full =
        core->tasks.count >= core->limits.task_count_max || core->task_bytes >= core->limits.task_bytes_max ||
        core->outcomes.count >= core->limits.unacked_count_max || core->unacked_bytes >= core->limits.unacked_bytes_max;
    return is_full ? QUERN_FULL : QUERN_OK;
}

static enum quern_err item_check(const struct core *core, const struct session *session, const struct item_submit *item,
                                 uint64_t predecessor)
{
    enum quern_err err = ordinal_check(session, item->ordinal, predecessor);
    if (err == QUERN_OK && session->is_ending) {
        err = QUERN_CLOSED;
    }
    if (err == QUERN_OK && item->args.n > PAYLOAD_SIZE_MAX) {
        err = QUERN_TOO_BIG;
    }
    return err == QUERN_OK ? submit_room(core, session->is_volatile) : err;
}

/* digest = BLAKE2b-256(digest, ordinal little-endian, arguments) */
static void digest_step(struct session *session, uint64_t ordinal, struct bytes args)
{
    crypto_generichash_state state;
    uint8_t little[8];
    for (size_t i = 0; i < sizeof little; i++) {
        little[i] = (uint8_t)(ordinal >> (8 * i));
    }
    crypto_generichash_init(&state, NULL, 0, DIGEST_SIZE);
    crypto_generichash_update(&state, session->digest, DIGEST_SIZE);
    crypto_generichash_update(&state, little, sizeof little);
    crypto_generichash_update(&state, args.p, args.n);
    crypto_generichash_final(&state, session->digest, DIGEST_SIZE);
}

static void task_begin(struct core *core, struct task *task, uint64_t delay_ms)
{
    task->created = core->wall;
    expiry_start(core, task);
    if (delay_ms > DURATION_MS_MAX && (int64_t)delay_ms > core->wall) {
        task_wait_for_wall(core, task, (int64_t)delay_ms);
    } else if (delay_ms > 0 && delay_ms <= DURATION_MS_MAX) {
        task_wait_until(core, task, TASK_DELAYED, delay_ms);
    } else if (task->call->option.known && known_is_early(core) && !lane_is_served(core, task->call->lane)) {
        task_wait_until(core, task, TASK_DELAYED, (uint64_t)(known_from(core) - core->now));
    } else {
        task_move(core, task, TASK_READY);
        lane_push(core, task);
    }
    batch_task(core, task, false);
    core->counters.submitted++;
}

static void item_accept(struct core *core, struct conn *conn, uint64_t id, struct call *call,
                        const struct item_submit *item, uint64_t delay_ms)
{
    struct session *session = conn->session;
    if (!session->is_volatile) {
        backlog_count(core, conn, item->args.n);
    }
    call->refs++;
    struct task *task = task_new(core, id, session, call, item->args);
    task->ordinal = item->ordinal;
    if (item->ordinal != 0) {
        session->ordinal_high = item->ordinal;
        digest_step(session, item->ordinal, item->args);
    }
    batch_session(core, session, false);
    task_begin(core, task, delay_ms);
}

/* After they were answered (an outcome must not come before its acceptance). */
static void knowns_look(struct core *core, uint64_t series, uint32_t first, uint32_t last)
{
    for (uint64_t sequence = first; sequence <= last && !known_is_early(core); sequence++) {
        struct task *task = task_find(core, id_make((uint32_t)series, (uint32_t)sequence));
        if (task != NULL) {
            task_fail_unknown(core, task);
        }
    }
}

static void item_take(struct core *core, struct conn *conn, const struct msg_SUBMIT *submit, struct call *call,
                      enum quern_err refuse_all, struct answer *answer, uint32_t sequence,
                      const struct item_submit *item, uint64_t predecessor)
{
    struct series *series = conn->series;
    if (sequence <= series->submitted_high) {
        answer_repeated(core, conn, answer, sequence);
        return;
    }
    enum quern_err err = refuse_all != QUERN_OK ? refuse_all : item_check(core, conn->session, item, predecessor);
    series->submitted_high = sequence;
    batch_series(core, series);
    if (err == QUERN_OK) {
        item_accept(core, conn, id_make((uint32_t)series->id, sequence), call, item, submit->delay_ms);
        answer_add(core, conn, answer, sequence, MSG_ACCEPTED, QUERN_OK);
    } else {
        core->counters.refused++;
        refusal_store(core, series, sequence, err);
        answer_add(core, conn, answer, sequence, MSG_REFUSED, err);
    }
}

static enum quern_err submit_check(const struct conn *conn, const struct msg_SUBMIT *submit,
                                   struct task_options *option_out, const char **why_out)
{
    if (submit->series != conn->series->id) {
        *why_out = "SUBMIT names a series that is not this client's";
        return QUERN_PROTOCOL;
    }
    if (submit->sequence == 0 || submit->sequence + submit->items.count - 1 > SEQUENCE_MAX) {
        *why_out = "SUBMIT: a sequence is outside 1..2147483647";
        return QUERN_PROTOCOL;
    }
    if (submit->sequence > conn->series->submitted_high + 1) {
        *why_out = "SUBMIT leaves a gap in its series";
        return QUERN_PROTOCOL;
    }
    if (submit->function.n == 0) {
        *why_out = "SUBMIT names no function";
        return QUERN_PROTOCOL;
    }
    return task_options_read(submit->options, option_out, why_out);
}

/* ---- credit for submits ---- */

uint64_t client_window_share(const struct core *core)
{
    uint64_t share = core->limits.submit_pool_bytes / (core->client_count ? core->client_count : 1);
    share = share < MIB ? MIB : share;
    return share < core->limits.client_window_bytes ? share : core->limits.client_window_bytes;
}

bool disk_rows_are_behind(const struct core *core)
{
    return core->open.task_count + core->open.record_count > core->limits.batch_row_count_max;
}

bool disk_is_behind(const struct core *core)
{
    return core_open_bytes(core) > core->limits.batch_bytes_max || disk_rows_are_behind(core);
}

static void grant(struct core *core, struct conn *conn)
{
    uint64_t share = client_window_share(core);
    uint64_t count = conn->received_count + core->limits.client_window_count;
    uint64_t bytes = conn->received_bytes + share;
    if (conn->granted_count >= count - core->limits.client_window_count / 2 &&
        conn->granted_bytes >= bytes - share / 2) {
        return; /* more than half is left: later, in one message */
    }
    conn->granted_count = count > conn->granted_count ? count : conn->granted_count;
    conn->granted_bytes = bytes > conn->granted_bytes ? bytes : conn->granted_bytes;
    struct msg_CREDIT message = {.count = conn->granted_count, .bytes = conn->granted_bytes};
    msg_CREDIT_put(send_now(core, conn), &message);
}

static void credit_renew(struct core *core, struct conn *conn)
{
    if (conn->session->is_volatile || !disk_is_behind(core)) {
        grant(core, conn);
    } else if (!conn->is_starving) {
        conn->is_starving = true;
        core->starving_count++;
    }
}

void clients_grant(struct core *core)
{
    if (core->starving_count == 0 || disk_is_behind(core)) {
        return;
    }
    for (struct conn *conn = core->conn_list; conn != NULL && core->starving_count > 0; conn = conn->next) {
        if (conn->is_starving) {
            grant(core, conn);
            conn->is_starving = false;
            core->starving_count--;
        }
    }
}

/* Credit is soft by an item; but a peer that pays no heed to it would fill the memory of all, and one message of
 * millions would hold up everybody. A whole frame more than was given is as much as a clumsy one can come to. */
static bool is_beyond_credit(const struct core *core, const struct conn *conn, const struct msg_SUBMIT *submit)
{
    return conn->received_count + submit->items.count > conn->granted_count + BATCH_COUNT_SOFT ||
           conn->received_bytes > conn->granted_bytes + 2 * core->limits.client_window_bytes + PAYLOAD_SIZE_MAX;
}

/* ---- SUBMIT ---- */

void client_submit(struct core *core, struct conn *conn, const struct msg_SUBMIT *submit)
{
    struct task_options option;
    const char *why = NULL;
    if (conn->session == NULL || conn->series == NULL) {
        conn_deny(core, conn, QUERN_CLOSED, NULL, "this client's session has ended");
        return;
    }
    if (submit_check(conn, submit, &option, &why) != QUERN_OK) {
        core->counters.protocol_errors++;
        conn_deny(core, conn, QUERN_PROTOCOL, NULL, why);
        return;
    }
    if (is_beyond_credit(core, conn, submit)) {
        core->counters.protocol_errors++;
        conn_deny(core, conn, QUERN_PROTOCOL, NULL, "SUBMIT goes on far beyond the credit that was given");
        return;
    }
    struct bytes queue = submit->queue.n ? submit->queue : bytes_text("default");
    struct call *call =
        call_intern(core, queue, submit->function, submit->options, &option, conn->session->is_volatile);
    enum quern_err refuse_all = call == NULL ? QUERN_FULL : QUERN_OK;
    struct answer answer = {0};
    struct list items = submit->items;
    struct item_submit item;
    uint64_t predecessor = submit->predecessor;
    uint32_t sequence = (uint32_t)submit->sequence;
    uint32_t fresh = (uint32_t)conn->series->submitted_high + 1;
    uint64_t bytes = 0;
    while (item_submit_next(&items, &item)) {
        item_take(core, conn, submit, call, refuse_all, &answer, sequence++, &item, predecessor);
        predecessor = item.ordinal != 0 ? item.ordinal : predecessor;
        bytes += item.args.n;
    }
    answer_send(core, conn, &answer);
    claims_meet(core, conn->series->id, (uint32_t)submit->sequence, submit->items.count);
    if (option.known) {
        knowns_look(core, conn->series->id, fresh, sequence - 1);
    }
    if (call != NULL) {
        call_release(core, call);
    }
    conn->received_count += submit->items.count;
    conn->received_bytes += bytes;
    credit_renew(core, conn);
}

/* ---- retry: a new task, in a series of the broker's own ---- */

struct task *task_submit_retry(struct core *core, struct session *session, struct call *call, struct bytes args,
                               uint64_t retry_of)
{
    CHECK(core->own_series != 0 && core->own_sequence < SEQUENCE_MAX);
    call->refs++;
    struct task *task = task_new(core, id_make(core->own_series, ++core->own_sequence), session, call, args);
    task->retry_of = retry_of;
    session_touch(core, session);
    batch_session(core, session, false);
    task_begin(core, task, 0);
    return task;
}

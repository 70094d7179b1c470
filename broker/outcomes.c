/*
 * outcomes.c: what ended a task for good: recorded once, numbered in order of completion within its session, sent to
 * the session's client, acknowledged, kept for a time, deleted. Payloads stay in memory while there is room; others are
 * read back when the client takes them. Must not know how an attempt ran. Start reading at task_finish.
 */
#include "broker/state.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "common/check.h"

/* Bytes asked of the store at once for one client. */
#define LOAD_BYTES_SOFT (4 * MIB)
/* What an outcome takes besides its payloads, roughly, on disk. */
#define OUTCOME_OVERHEAD 100u

/* ---- records ---- */

void record_unref(struct core *core, struct record *record)
{
    CHECK(record->refs > 0);
    if (--record->refs == 0) {
        call_release(core, record->call);
        spares_give(&core->record_spares, record, sizeof *record + record->memory_size);
    }
}

/* None stays none, and an empty one empty. */
static void copy_behind(uint8_t **at, struct bytes *view)
{
    if (view->p != NULL) {
        memcpy(*at, view->p, view->n);
        view->p = *at;
        *at += view->n;
    }
}

/* The same in every process and version: it is stored, to tell arguments apart that were not kept. */
static uint64_t args_hash(const struct task *task)
{
    if (task->session->is_volatile) {
        return 0;
    }
    static const unsigned char key[crypto_shorthash_KEYBYTES] = {0};
    uint64_t hash;
    crypto_shorthash((unsigned char *)&hash, task->args, task->args_size, key);
    return hash & INT64_MAX;
}

static struct record *record_new(struct core *core, struct task *task, const struct ending *ending)
{
    bool keeps_args = ending->state != TASK_DONE || task->args_size <= core->limits.args_keep_size;
    struct bytes args = keeps_args ? task_args(task) : bytes_of(NULL, 0);
    size_t memory_size = ending->result.n + ending->kind.n + ending->message.n + ending->detail.n + ending->report.n +
                         ending->worker.n + args.n + ending->output.n;
    struct record *record = spares_take(&core->record_spares, sizeof *record + memory_size);
    uint8_t *at = record->memory;
    record->memory_size = memory_size;
    record->call = task->call;
    record->call->refs++;
    record->refs = 1;
    record->had_task = task->is_stored;
    record->row = (struct outcome_row){.id = task->id,
                                       .session = task->session->id,
                                       .completion = ++task->session->completion_last,
                                       .call = task->call->id,
                                       .state = ending->state,
                                       .cause = ending->cause,
                                       .attempt = task->attempt,
                                       .attempts = task->attempts + task->crashes + task->losses +
                                                   (ending->state == TASK_DONE ? 1 : 0),
                                       .signal = ending->signal,
                                       .exit_status = ending->exit_status,
                                       .created = task->created,
                                       .started = ending->started,
                                       .finished = core->wall,
                                       .run_us = ending->run_us,
                                       .cpu_us = ending->cpu_us,
                                       .peak = ending->peak,
                                       .ordinal = task->ordinal,
                                       .retry_of = task->retry_of,
                                       .result = ending->result,
                                       .kind = ending->kind,
                                       .message = ending->message,
                                       .detail = ending->detail,
                                       .report = ending->report,
                                       .worker = ending->worker,
                                       .args = args,
                                       .output = ending->output,
                                       .args_size = task->args_size,
                                       .args_hash = args_hash(task)};
    copy_behind(&at, &record->row.result);
    copy_behind(&at, &record->row.kind);
    copy_behind(&at, &record->row.message);
    copy_behind(&at, &record->row.detail);
    copy_behind(&at, &record->row.report);
    copy_behind(&at, &record->row.worker);
    copy_behind(&at, &record->row.args);
    copy_behind(&at, &record->row.output);
    return record;
}

static uint64_t row_size(const struct outcome_row *row)
{
    return OUTCOME_OVERHEAD + row->result.n + row->kind.n + row->message.n + row->detail.n + row->report.n +
           row->args.n + row->output.n;
}

/* ---- the session's ring of outcomes behind its acknowledged prefix ---- */

static size_t ring_index(const struct session *session, uint64_t completion)
{
    return (session->ring_head + (size_t)(completion - session->acked_prefix - 1)) & (session->ring_cap - 1);
}

struct outcome *session_outcome(const struct session *session, uint64_t completion)
{
    CHECK(completion > session->acked_prefix && completion <= session->completion_last);
    return session->ring[ring_index(session, completion)];
}

/* Room for every completion up to completion_last. */
static void ring_reserve(struct session *session, uint64_t used)
{
    uint64_t need = session->completion_last - session->acked_prefix;
    if (need <= session->ring_cap) {
        return;
    }
    size_t cap = session->ring_cap ? session->ring_cap : 16;
    while (cap < need) {
        cap *= 2;
    }
    struct outcome **ring = xcalloc(cap, sizeof *ring);
    for (uint64_t i = 0; i < used; i++) {
        ring[i] = session->ring[(session->ring_head + i) & (session->ring_cap - 1)];
    }
    free(session->ring);
    session->ring = ring;
    session->ring_cap = cap;
    session->ring_head = 0;
}

static struct outcome *outcome_add(struct core *core, uint64_t id, struct session *session, uint64_t completion,
                                   int64_t finished, uint64_t size)
{
    struct outcome *outcome = spares_take(&core->outcome_spares, sizeof *outcome);
    *outcome = (struct outcome){
        .id = id, .completion = completion, .session = session, .finished = finished, .size = (uint32_t)size};
    session->ring[ring_index(session, completion)] = outcome;
    session->untaken++;
    core->unacked_bytes += size;
    core->volatile_bytes += session->is_volatile ? size : 0;
    map_put(&core->outcomes, id, outcome);
    return outcome;
}

struct outcome *outcome_find(const struct core *core, uint64_t id)
{
    return id == 0 ? NULL : map_get(&core->outcomes, id);
}

static void outcome_keep_record(struct core *core, struct outcome *outcome, struct record *record)
{
    outcome->record = record;
    record->refs++;
    core->resident_bytes += outcome->session->is_volatile ? 0 : outcome->size;
}

static void outcome_drop_record(struct core *core, struct outcome *outcome)
{
    if (outcome->record != NULL) {
        core->resident_bytes -= outcome->session->is_volatile ? 0 : outcome->size;
        record_unref(core, outcome->record);
        outcome->record = NULL;
    }
}

/* ---- recording ---- */

static void count_ending(struct core *core, struct session *session, const struct ending *ending)
{
    switch (ending->state) {
    case TASK_DONE:
        core->counters.done++;
        break;
    case TASK_FAILED:
        core->counters.failed++;
        session->failed++;
        break;
    default:
        core->counters.cancelled++;
        break;
    }
}

void task_finish(struct core *core, struct task *task, const struct ending *ending)
{
    struct session *session = task->session;
    uint64_t id = task->id;
    struct record *record = record_new(core, task, ending);
    task_detach(core, task);
    task_move(core, task, ending->state);
    count_ending(core, session, ending);
    core->counters.collapsed += task->is_stored || session->is_volatile ? 0 : 1;

    ring_reserve(session, session->completion_last - 1 - session->acked_prefix);
    struct outcome *outcome =
        outcome_add(core, id, session, record->row.completion, record->row.finished, row_size(&record->row));
    outcome_keep_record(core, outcome, record);
    if (!session->is_volatile) {
        task->call->lane->weight = row_size(&record->row);
        outcome->batch = core->open.number;
        batch_record(core, record);
    }
    record_unref(core, record);
    session_touch(core, session);
    batch_session(core, session, false);
    task_forget(core, task);
    outcomes_deliver(core, session);
    query_task_finished(core, id);
}

/* ---- delivering ---- */

static void outcome_send(struct core *core, struct session *session, const struct outcome_row *row)
{
    static const struct message head = {.kind = MSG_OUTCOME};
    struct conn *conn = session->conn;
    struct item_outcome item = {.task = row->id,
                                .completion = row->completion,
                                .ordinal = row->ordinal,
                                .state = row->state,
                                .cause = row->cause,
                                .result = row->result,
                                .kind = row->kind,
                                .message = row->message,
                                .detail = row->detail,
                                .attempts = row->attempts,
                                .worker = row->worker,
                                .created = (uint64_t)row->created,
                                .started = (uint64_t)row->started,
                                .finished = (uint64_t)row->finished,
                                .run_us = row->run_us,
                                .signal = row->signal,
                                .exit_status = row->exit_status,
                                .args = conn->want_args ? row->args : bytes_of(NULL, 0),
                                .attempt = row->attempt,
                                .cpu_us = row->cpu_us,
                                .peak = row->peak,
                                .report = row->report};
    struct outlet *run =
        answer_is_gated(core, conn) ? run_gated(core, conn, &head, NULL) : run_now(core, conn, &head, NULL);
    item_outcome_put_after(run->frame, &item, run->after);
    run_added(run);
    session->sent_count++;
    session->sent_bytes += row->result.n + row->detail.n + row->report.n + item.args.n;
    session->next_send = row->completion + 1;
    core->counters.outcomes_sent++;
}

static void outcomes_load(struct core *core, struct session *session)
{
    struct load *load = load_new(core, LOAD_OUTCOMES);
    uint64_t credit = session->credit_count - session->sent_count;
    uint64_t bytes_credit = session->credit_bytes - session->sent_bytes;
    uint64_t bytes_max = bytes_credit < LOAD_BYTES_SOFT ? bytes_credit : LOAD_BYTES_SOFT;
    uint64_t bytes = 0;
    for (uint64_t i = session->next_send; i <= session->completion_last; i++) {
        struct outcome *outcome = session_outcome(session, i);
        if (outcome->is_acked) {
            continue;
        }
        if (outcome->record != NULL || load->count == LOAD_OUTCOME_COUNT_MAX || load->count == credit ||
            (load->count > 0 && bytes + outcome->size > bytes_max)) {
            break;
        }
        load->ids[load->count++] = outcome->id;
        bytes += outcome->size;
    }
    session->loading = load->number;
    map_put(&core->loads, load->number, (void *)(uintptr_t)session->id);
}

static bool has_credit(const struct session *session)
{
    return session->sent_count < session->credit_count && session->sent_bytes < session->credit_bytes;
}

void outcomes_deliver(struct core *core, struct session *session)
{
    while (session->conn != NULL && session->loading == 0 && session->next_send <= session->completion_last) {
        struct outcome *outcome = session_outcome(session, session->next_send);
        if (outcome->is_acked) {
            session->next_send++;
            continue;
        }
        if (!has_credit(session)) {
            return;
        }
        if (outcome->record == NULL) {
            outcomes_load(core, session);
            return;
        }
        outcome_send(core, session, &outcome->record->row);
        if (outcome->batch <= core->committed && !session->is_volatile) {
            outcome_drop_record(core, outcome);
        }
    }
}

static struct session *session_of_load(struct core *core, uint64_t number)
{
    struct session *session = session_find(core, (uint64_t)(uintptr_t)map_remove(&core->loads, number));
    return session != NULL && session->loading == number ? session : NULL;
}

/* Rows read back. If the session has another connection by now the load was forgotten, and these are not wanted; what
 * is missing was acknowledged and deleted meanwhile. */
void outcomes_loaded(struct core *core, const struct loaded *loaded)
{
    struct session *session = session_of_load(core, loaded->number);
    if (session == NULL) {
        return;
    }
    session->loading = 0;
    core->counters.outcomes_loaded += loaded->outcome_count;
    for (size_t i = 0; i < loaded->outcome_count && session->conn != NULL && has_credit(session); i++) {
        const struct outcome_row *row = &loaded->outcomes[i];
        struct outcome *outcome = outcome_find(core, row->id);
        if (outcome != NULL && row->completion >= session->next_send) {
            outcome_send(core, session, row);
        }
    }
    outcomes_deliver(core, session);
}

void outcomes_committed(struct core *core, struct record *const *records, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct outcome *outcome = outcome_find(core, records[i]->row.id);
        if (outcome == NULL || outcome->record == NULL) {
            continue;
        }
        bool is_sent = outcome->session->conn != NULL && outcome->completion < outcome->session->next_send;
        if (is_sent || core->resident_bytes > core->limits.resident_bytes_max) {
            outcome_drop_record(core, outcome);
        }
    }
}

/* ---- acknowledging ---- */

static void outcome_acknowledge(struct core *core, struct outcome *outcome)
{
    struct session *session = outcome->session;
    if (outcome->is_acked) {
        return;
    }
    outcome_drop_record(core, outcome);
    outcome->is_acked = true;
    session->untaken--;
    core->unacked_bytes -= outcome->size;
    map_remove(&core->outcomes, outcome->id);
    if (session->is_volatile) { /* that was all of it: there is no history */
        core->volatile_bytes -= outcome->size;
    } else {
        acked_push(&core->acked, outcome->id, outcome->finished, outcome->size);
    }
}

/* The prefix moves over what is acknowledged behind it. */
static void prefix_advance(struct core *core, struct session *session)
{
    while (session->acked_prefix < session->completion_last && session->ring[session->ring_head]->is_acked) {
        struct outcome *outcome = session->ring[session->ring_head];
        session->ring[session->ring_head] = NULL;
        session->ring_head = (session->ring_head + 1) & (session->ring_cap - 1);
        session->acked_prefix++;
        spares_give(&core->outcome_spares, outcome, sizeof *outcome);
    }
    ranges_drop(&session->acked_beyond, session->acked_prefix);
}

/* What is acknowledged was sent long ago, and is far away by now: it is called for while those before it are worked on.
 */
#define FETCH_OUTCOME_AHEAD 8u
#define FETCH_RECORD_AHEAD 4u /* an outcome that is here says where its record is */
static void outcomes_fetch(const struct session *session, uint64_t completion, uint64_t last)
{
    if (completion + FETCH_OUTCOME_AHEAD <= last) {
        __builtin_prefetch(session_outcome(session, completion + FETCH_OUTCOME_AHEAD), 1);
    }
    if (completion + FETCH_RECORD_AHEAD <= last) {
        struct record *record = session_outcome(session, completion + FETCH_RECORD_AHEAD)->record;
        if (record != NULL) { /* else it is on disk only */
            __builtin_prefetch(&record->row, 1);
            __builtin_prefetch(&record->refs, 1);
        }
    }
}

void outcomes_acknowledge(struct core *core, struct session *session, uint64_t first, uint64_t last)
{
    first = first > session->acked_prefix ? first : session->acked_prefix + 1;
    last = last < session->completion_last ? last : session->completion_last;
    if (first > last) {
        return;
    }
    bool is_beyond =
        first > session->acked_prefix + 1 && !session->is_volatile; /* else the prefix passes it, and says it */
    for (uint64_t i = ranges_gap(&session->acked_beyond, first); i <= last;
         i = ranges_gap(&session->acked_beyond, i + 1)) {
        outcomes_fetch(session, i, last);
        outcome_acknowledge(core, session_outcome(session, i));
        if (is_beyond) {
            ranges_add(&session->acked_fresh, i, i);
        }
    }
    ranges_add(&session->acked_beyond, first, last);
    prefix_advance(core, session);
    if (session->next_send <= session->acked_prefix) {
        session->next_send = session->acked_prefix + 1;
    }
    batch_session(core, session, true);
}

/* ---- retention: acknowledged ones, oldest first ---- */

static bool acked_is_due(const struct core *core)
{
    const struct acked *acked = &core->acked;
    return acked->count > 0 &&
           (acked->count > core->limits.acked_count_max || acked->bytes > core->limits.acked_bytes_max ||
            acked_oldest(acked) + (int64_t)core->limits.acked_keep_ms <= core->wall);
}

void outcomes_retain(struct core *core, size_t at_least)
{
    size_t most = core->limits.retention_row_count > 2 * at_least ? core->limits.retention_row_count : 2 * at_least;
    for (size_t i = 0; i < most && acked_is_due(core); i++) {
        batch_single(core, CHANGE_OUTCOME_DELETE)->number = acked_pop(&core->acked);
        core->counters.outcomes_deleted++;
    }
}

/* Deletions ride with other commits; where there are none, this makes one. */
void outcomes_sweep(struct core *core)
{
    if (acked_is_due(core)) {
        outcomes_retain(core, 0);
        core_sweep_by(core, core->now + (int64_t)core->limits.lazy_commit_ms);
    } else if (core->acked.count > 0) {
        int64_t age = core->wall - acked_oldest(&core->acked);
        core_sweep_by(core, core->now + (int64_t)core->limits.acked_keep_ms - age);
    }
}

/* ---- recovery ---- */

/* What is restored as taken has put acknowledged stand-ins into the ring already. */
void outcome_restore(struct core *core, uint64_t id, struct session *session, uint64_t completion, int64_t finished,
                     uint64_t size)
{
    size += OUTCOME_OVERHEAD;
    if (session == NULL || completion <= session->acked_prefix || completion > session->completion_last ||
        session->ring[ring_index(session, completion)] != NULL) {
        acked_push(&core->acked, id, finished, size);
        return;
    }
    outcome_add(core, id, session, completion, finished, size);
}

void session_restore_ring(struct session *session)
{
    ring_reserve(session, 0);
}

void session_restore_acked(struct core *core, struct session *session, uint64_t first, uint64_t last)
{
    for (uint64_t i = first; i <= last && i <= session->completion_last; i++) {
        if (i <= session->acked_prefix || session->ring[ring_index(session, i)] != NULL) {
            continue;
        }
        struct outcome *outcome = spares_take(&core->outcome_spares, sizeof *outcome);
        *outcome = (struct outcome){.completion = i, .session = session, .is_acked = true};
        session->ring[ring_index(session, i)] = outcome;
        ranges_add(&session->acked_beyond, i, i);
    }
}

/* A completion that has no row and is not among the taken is none of ours (somebody edited the file): nobody can be
 * told of it, and what is behind it must not wait for it. */
void session_restore_end(struct core *core, struct session *session)
{
    session_restore_acked(core, session, session->acked_prefix + 1, session->completion_last);
    prefix_advance(core, session);
    session->next_send = session->acked_prefix + 1;
}

/* Only at the start, when the ring has not turned yet. */
void outcomes_sort_restored(struct core *core)
{
    acked_sort(&core->acked);
}

/* Everything of a session that ends: what is in its ring goes; the rows go by retention. */
void session_free_outcomes(struct core *core, struct session *session)
{
    outcomes_acknowledge(core, session, session->acked_prefix + 1, session->completion_last);
    free(session->ring);
    session->ring = NULL;
    session->ring_cap = 0;
}

void outcomes_fini(struct core *core)
{
    size_t at = 0;
    uint64_t id;
    void *value;
    while (map_next(&core->outcomes, &at, &id, &value)) {
        struct outcome *outcome = value;
        if (outcome->record != NULL) {
            record_unref(core, outcome->record);
            outcome->record = NULL;
        }
    }
    map_fini(&core->outcomes);
    acked_fini(&core->acked);
}

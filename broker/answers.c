/*
 * answers.c: what queries are told, written as msgpack maps. Reads everything, changes nothing. The shapes are
 * documented in PROTOCOL.md, QUERY; the command line prints them. Start with the answer you look for.
 */
#include "broker/answers.h"

#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#include "common/check.h"
#include "common/report.h"

/* A map whose pairs are counted as they are written. */
struct pairs {
    struct buf *out;
    size_t at;
    uint32_t count;
};

/* A map header with a 32-bit count, patched at the end. */
static struct pairs pairs_open(struct buf *out)
{
    struct pairs pairs = {.out = out, .at = out->n};
    static const uint8_t head[5] = {0xdf, 0, 0, 0, 0};
    buf_put(out, head, sizeof head);
    return pairs;
}

static void pairs_close(const struct pairs *pairs)
{
    for (unsigned i = 0; i < 4; i++) {
        pairs->out->p[pairs->at + 1 + i] = (uint8_t)(pairs->count >> (24 - 8 * i));
    }
}

static struct buf *pair(struct pairs *pairs, const char *key)
{
    pairs->count++;
    put_text(pairs->out, key);
    return pairs->out;
}

static void pair_u64(struct pairs *pairs, const char *key, uint64_t value)
{
    put_u64(pair(pairs, key), value);
}

static void pair_time(struct pairs *pairs, const char *key, int64_t value)
{
    if (value == 0) {
        put_nil(pair(pairs, key));
    } else {
        put_i64(pair(pairs, key), value);
    }
}

static void pair_text(struct pairs *pairs, const char *key, const char *value)
{
    put_text(pair(pairs, key), value);
}

static void pair_str(struct pairs *pairs, const char *key, struct bytes value)
{
    put_str(pair(pairs, key), value.n ? value : bytes_of(NULL, 0));
}

static void pair_bin(struct pairs *pairs, const char *key, struct bytes value)
{
    put_bin(pair(pairs, key), value);
}

static void pair_flag(struct pairs *pairs, const char *key, bool value)
{
    put_flag(pair(pairs, key), value);
}

static void pair_id(struct pairs *pairs, const char *key, uint64_t id)
{
    char text[ID_TEXT_SIZE];
    put_text(pair(pairs, key), id ? id_text(id, text) : NULL);
}

static void pair_session(struct pairs *pairs, const struct core *core, uint64_t id)
{
    const struct session *session = session_find(core, id);
    struct buf label = {0};
    if (session != NULL) {
        session_label(session, &label);
    } else {
        buf_printf(&label, "#%llu", (unsigned long long)id);
    }
    pair_str(pairs, "session", buf_bytes(&label));
    pair_flag(pairs, "durable", session == NULL || !session->is_volatile); /* of a volatile one nothing stays */
    buf_fini(&label);
}

/* ---- status ---- */

static uint64_t volatile_sessions_count(const struct core *core)
{
    uint64_t count = 0;
    size_t at = 0;
    uint64_t id;
    void *value;
    while (map_next(&core->sessions, &at, &id, &value)) {
        count += ((const struct session *)value)->is_volatile;
    }
    return count;
}

static void status_tasks(const struct core *core, struct buf *out)
{
    struct pairs tasks = pairs_open(out);
    pair_u64(&tasks, "delayed", core->state_count[TASK_DELAYED]);
    pair_u64(&tasks, "ready", core->state_count[TASK_READY]);
    pair_u64(&tasks, "leased", core->state_count[TASK_LEASED]);
    pair_u64(&tasks, "running", core->state_count[TASK_RUNNING]);
    pair_u64(&tasks, "backoff", core->state_count[TASK_BACKOFF]);
    pairs_close(&tasks);
}

static void names_put(struct buf *out, const struct bytes *names, size_t count)
{
    put_array(out, (uint32_t)count);
    for (size_t i = 0; i < count; i++) {
        put_str(out, names[i]);
    }
}

/* Why a worker takes less than it could; NULL: it does not. */
static const char *scarce_word(uint64_t scarce)
{
    return scarce == SCARCE_MEMORY ? "memory" : scarce == SCARCE_ALONE ? "alone" : NULL;
}

static void status_workers(const struct core *core, struct buf *out)
{
    put_array(out, (uint32_t)core->worker_count);
    for (const struct worker *worker = core->workers; worker != NULL; worker = worker->next) {
        struct pairs row = pairs_open(out);
        pair_text(&row, "name", worker->name);
        pair_text(&row, "host", worker->host);
        pair_u64(&row, "pid", worker->pid);
        pair_u64(&row, "slots", worker->slots);
        pair_u64(&row, "held", worker->held_count);
        pair_u64(&row, "capacity", worker->capacity_count);
        pair_flag(&row, "connected", worker->conn != NULL);
        pair_text(&row, "memory", worker->memory);
        pair_text(&row, "scarce", scarce_word(worker->scarce));
        names_put(pair(&row, "functions"), worker->functions, worker->function_count);
        names_put(pair(&row, "queues"), worker->queues, worker->queue_count);
        pairs_close(&row);
    }
}

static void status_queues(const struct core *core, struct buf *out)
{
    size_t at = array_open(out);
    uint32_t count = 0;
    for (size_t i = 0; i < core->lane_bucket_count; i++) {
        for (const struct lane *lane = core->lane_buckets[i]; lane != NULL; lane = lane->next) {
            if (lane->ready == 0 && lane->leased == 0) {
                continue;
            }
            struct pairs row = pairs_open(out);
            pair_str(&row, "queue", lane->queue);
            pair_str(&row, "function", lane->function);
            pair_u64(&row, "ready", lane->ready);
            pair_u64(&row, "leased", lane->leased);
            pair_u64(&row, "workers", lane->worker_count);
            pairs_close(&row);
            count++;
        }
    }
    array_close(out, at, count);
}

static void status_counters(const struct core *core, struct buf *out)
{
    struct pairs counters = pairs_open(out);
#define X(name, meaning) pair_u64(&counters, #name, core->counters.name);
    COUNTER_LIST(X)
#undef X
    pairs_close(&counters);
}

static void status_store(const struct core *core, struct buf *out)
{
    struct pairs stats = pairs_open(out);
    pair_u64(&stats, "batches", core->stats.batches);
    pair_u64(&stats, "rows", core->stats.rows);
    pair_u64(&stats, "syncs", core->stats.syncs);
    pair_u64(&stats, "sync_us", core->stats.sync_us);
    pair_u64(&stats, "file_bytes", core->stats.file_bytes);
    pair_u64(&stats, "wal_bytes", core->stats.wal_bytes);
    pair_u64(&stats, "disk_free_bytes", core->stats.disk_free_bytes);
    pair_flag(&stats, "disk_low", core->stats.disk_low);
    pair_u64(&stats, "backup_bytes", core->stats.backup_bytes);
    pair_u64(&stats, "backup_all_bytes", core->stats.backup_all_bytes);
    pairs_close(&stats);
}

static void status_limits(const struct core *core, struct buf *out)
{
    struct pairs limits = pairs_open(out);
#define X(name, value, meaning) pair_u64(&limits, #name, core->limits.name);
    LIMITS_TUNABLE(X)
#undef X
#define X(name, value) pair_u64(&limits, #name, value);
    LIMITS_FIXED(X)
#undef X
    pairs_close(&limits);
}

void answer_status(const struct core *core, struct buf *body)
{
    char store[2 * UUID_SIZE + 1];
    struct pairs top = pairs_open(body);
    pair_text(&top, "version", QUERN_VERSION_TEXT);
    pair_u64(&top, "protocol", PROTOCOL_MAJOR);
    pair_text(&top, "store", uuid_text(&core->store, store));
    pair_u64(&top, "epoch", core->epoch);
    pair_u64(&top, "pid", core->pid);
    pair_flag(&top, "durable", core->has_store);
    pair_u64(&top, "uptime_ms", (uint64_t)(core->now - core->begun_ms));
    status_tasks(core, pair(&top, "tasks"));
    pair_u64(&top, "unacked", core->outcomes.count);
    pair_u64(&top, "acked", core->acked.count);
    pair_u64(&top, "volatile_bytes", core->volatile_bytes);
    pair_u64(&top, "sessions", core->sessions.count);
    pair_u64(&top, "volatile_sessions", volatile_sessions_count(core));
    pair_u64(&top, "clients", core->client_count);
    status_workers(core, pair(&top, "workers"));
    status_queues(core, pair(&top, "queues"));
    status_counters(core, pair(&top, "counters"));
    status_store(core, pair(&top, "store_stats"));
    status_limits(core, pair(&top, "limits"));
    pairs_close(&top);
}

/* ---- sessions ---- */

#define SESSION_ROWS_PER_REPLY 256u

static void session_row_put(const struct core *core, const struct session *session, struct buf *out)
{
    struct pairs row = pairs_open(out);
    pair_u64(&row, "id", session->id);
    pair_text(&row, "name", session->name);
    pair_text(&row, "state", session->is_ending ? "ending" : "open");
    pair_flag(&row, "connected", session->conn != NULL);
    pair_text(&row, "owner", session->owner_text);
    pair_flag(&row, "durable", !session->is_volatile);
    pair_u64(&row, "expire_ms", session->expire_ms);
    pair_time(&row, "end_ms", session_end_ms(core, session));
    pair_u64(&row, "live", session->live);
    pair_u64(&row, "untaken", session->untaken);
    pair_u64(&row, "completed", session->completion_last);
    pair_u64(&row, "failed", session->failed);
    pair_u64(&row, "ordinal_high", session->ordinal_high);
    pair_time(&row, "created_ms", session->created);
    pair_time(&row, "used_ms", session->used);
    pairs_close(&row);
}

void answer_sessions(struct core *core, struct conn *conn, uint64_t request)
{
    struct buf rows = {0};
    size_t head = array_open(&rows);
    uint32_t count = 0;
    size_t at = 0;
    uint64_t id;
    void *value;
    while (map_next(&core->sessions, &at, &id, &value)) {
        session_row_put(core, value, &rows);
        if (++count == SESSION_ROWS_PER_REPLY) {
            array_close(&rows, head, count);
            reply_put(core, conn, request, QUERN_OK, NULL, true, buf_bytes(&rows));
            rows.n = 0;
            head = array_open(&rows);
            count = 0;
        }
    }
    array_close(&rows, head, count);
    reply_put(core, conn, request, QUERN_OK, NULL, false, buf_bytes(&rows));
    buf_fini(&rows);
}

/* ---- list ---- */

static void pair_call(struct pairs *row, const struct core *core, uint64_t id, const struct call_row *loaded)
{
    const struct call *call = map_get(&core->calls, id);
    bool has_loaded = loaded != NULL && loaded->id == id;
    pair_str(row, "function", call != NULL ? call->function : has_loaded ? loaded->function : bytes_of(NULL, 0));
    pair_str(row, "queue", call != NULL ? call->queue : has_loaded ? loaded->queue : bytes_of(NULL, 0));
}

void answer_list(const struct core *core, const struct list_row *rows, size_t count, struct buf *body)
{
    put_array(body, (uint32_t)count);
    for (size_t i = 0; i < count; i++) {
        const struct list_row *from = &rows[i];
        struct pairs row = pairs_open(body);
        pair_id(&row, "id", from->id);
        pair_text(&row, "state", task_state_word(from->state));
        pair_text(&row, "cause", from->cause ? cause_word(from->cause) : NULL);
        pair_str(&row, "function", from->function);
        pair_str(&row, "queue", from->queue);
        pair_session(&row, core, from->session);
        pair_u64(&row, "attempts", from->attempts);
        pair_str(&row, "worker", from->worker);
        pair_time(&row, "created_ms", from->created);
        pair_time(&row, "finished_ms", from->finished);
        pair_str(&row, "message", from->message);
        pairs_close(&row);
    }
}

/* ---- show ---- */

static void options_put(struct buf *out, const struct task_options *option)
{
    struct pairs row = pairs_open(out);
    pair_u64(&row, "timeout_ms", option->timeout_ms);
    pair_u64(&row, "attempts", option->attempts);
    pair_u64(&row, "retry_on", option->retry_on);
    pair_u64(&row, "backoff_ms", option->backoff_ms);
    pair_u64(&row, "backoff_cap_ms", option->backoff_cap_ms);
    pair_flag(&row, "at_most_once", option->at_most_once);
    pair_u64(&row, "crashes_max", option->crashes_max);
    pair_u64(&row, "losses_max", option->losses_max);
    pair_u64(&row, "memory_bytes", option->memory_bytes);
    pair_u64(&row, "memory_growth", option->memory_growth);
    pair_u64(&row, "memory_cap_bytes", option->memory_cap_bytes);
    pair_u64(&row, "alone", option->alone);
    pair_u64(&row, "expires_ms", option->expires_ms);
    pair_flag(&row, "known", option->known);
    pairs_close(&row);
}

static void pair_signal(struct pairs *row, unsigned number)
{
    pair_text(row, "signal_name", number != 0 ? signal_name(number) : NULL);
}

static void pair_report(struct pairs *row, struct bytes bytes)
{
    struct report report;
    struct buf *out = pair(row, "report");
    size_t before = out->n;
    if (report_read(bytes, &report)) {
        report_put(out, &report); /* what is known, and no deeper than that */
    }
    if (out->n == before) {
        put_nil(out);
    }
}

static void failures_put(struct buf *out, const struct loaded *loaded)
{
    put_array(out, (uint32_t)loaded->failure_count);
    for (size_t i = 0; i < loaded->failure_count; i++) {
        const struct failure_row *from = &loaded->failures[i];
        struct pairs row = pairs_open(out);
        pair_u64(&row, "attempt", from->attempt);
        pair_time(&row, "at_ms", from->at);
        pair_str(&row, "worker", from->worker);
        pair_text(&row, "cause", cause_word(from->cause));
        pair_str(&row, "kind", from->kind);
        pair_str(&row, "message", from->message);
        pair_bin(&row, "detail", from->detail);
        pair_u64(&row, "signal", from->signal);
        pair_signal(&row, from->signal);
        pair_u64(&row, "exit_status", from->exit_status);
        pair_u64(&row, "run_us", from->run_us);
        pair_u64(&row, "cpu_us", from->cpu_us);
        pair_u64(&row, "peak_kib", from->peak);
        pair_report(&row, from->report);
        pairs_close(&row);
    }
}

static void pair_options(struct pairs *row, const struct core *core, uint64_t call_id, const struct call_row *loaded)
{
    struct task_options option = task_options_default();
    const struct call *call = map_get(&core->calls, call_id);
    const char *why;
    if (call != NULL) {
        option = call->option;
    } else if (loaded->id != call_id || task_options_read(loaded->options, &option, &why) != QUERN_OK) {
        option = task_options_default();
    }
    put_i64(pair(row, "priority"), option.priority);
    options_put(pair(row, "options"), &option);
}

static void show_live(struct pairs *row, const struct core *core, const struct task *task, const struct loaded *loaded)
{
    bool is_held = task->state == TASK_LEASED || task->state == TASK_RUNNING;
    pair_text(row, "state", task_state_word(task->state));
    pair_text(row, "cause", NULL);
    pair_call(row, core, task->call->id, NULL);
    pair_session(row, core, task->session->id);
    pair_options(row, core, task->call->id, &loaded->call);
    pair_u64(row, "attempt", task->attempt);
    pair_u64(row, "attempts", task->attempts);
    pair_u64(row, "crashes", task->crashes);
    pair_u64(row, "losses", task->losses);
    pair_time(row, "created_ms", task->created);
    pair_time(row, "started_ms", task->started);
    pair_time(row, "finished_ms", 0);
    pair_time(row, "due_ms", task_waits(task) ? task->due : 0);
    pair_time(row, "expiry_ms", expiry_due_ms(task));
    pair_u64(row, "run_us", 0);
    pair_u64(row, "cpu_us", 0);
    pair_u64(row, "peak_kib", 0);
    pair_text(row, "worker", is_held ? task->worker->label : NULL);
    pair_u64(row, "ordinal", task->ordinal);
    pair_id(row, "retry_of", task->retry_of);
    pair_text(row, "kind", NULL);
    pair_text(row, "message", NULL);
    pair_text(row, "detail", NULL);
    pair_u64(row, "signal", 0);
    pair_signal(row, 0);
    pair_u64(row, "exit_status", 0);
    pair_text(row, "report", NULL);
    pair_bin(row, "args", task_args(task));
    pair_text(row, "result", NULL);
    if (task->progress == NULL) {
        put_nil(pair(row, "progress"));
        return;
    }
    struct pairs progress = pairs_open(pair(row, "progress"));
    put_f64(pair(&progress, "fraction"), task->progress->fraction);
    pair_text(&progress, "text", task->progress->text);
    pairs_close(&progress);
}

/* An outcome's row has the sum of all attempts: who was blamed is in the rows of its failures, by the rule that counted
 * them then. Of more failures than are shown, those are counted that are. */
static uint64_t failure_count(const struct loaded *loaded, enum blame blame)
{
    uint64_t count = 0;
    for (size_t i = 0; i < loaded->failure_count; i++) {
        count += retry_blame(loaded->failures[i].cause, loaded->failures[i].signal) == blame;
    }
    return count;
}

static void show_outcome(struct pairs *row, const struct core *core, const struct outcome_row *from,
                         const struct loaded *loaded)
{
    pair_text(row, "state", task_state_word(from->state));
    pair_text(row, "cause", from->cause ? cause_word(from->cause) : NULL);
    pair_call(row, core, from->call, &loaded->call);
    pair_session(row, core, from->session);
    pair_options(row, core, from->call, &loaded->call);
    pair_u64(row, "attempt", from->attempt);
    pair_u64(row, "attempts", from->attempts);
    pair_u64(row, "crashes", failure_count(loaded, BLAME_CRASH));
    pair_u64(row, "losses", failure_count(loaded, BLAME_LOSS));
    pair_time(row, "created_ms", from->created);
    pair_time(row, "started_ms", from->started);
    pair_time(row, "finished_ms", from->finished);
    pair_time(row, "due_ms", 0);
    pair_time(row, "expiry_ms", 0);
    pair_u64(row, "run_us", from->run_us);
    pair_u64(row, "cpu_us", from->cpu_us);
    pair_u64(row, "peak_kib", from->peak);
    pair_str(row, "worker", from->worker);
    pair_u64(row, "ordinal", from->ordinal);
    pair_id(row, "retry_of", from->retry_of);
    pair_str(row, "kind", from->kind);
    pair_str(row, "message", from->message);
    pair_bin(row, "detail", from->detail);
    pair_u64(row, "signal", from->signal);
    pair_signal(row, from->signal);
    pair_u64(row, "exit_status", from->exit_status);
    pair_report(row, from->report);
    pair_bin(row, "args", from->args);
    pair_bin(row, "result", from->result);
    put_nil(pair(row, "progress"));
}

void answer_show(const struct core *core, uint64_t id, const struct loaded *loaded, struct buf *body)
{
    const struct task *task = task_find(core, id);
    struct pairs row = pairs_open(body);
    pair_id(&row, "id", id);
    if (task != NULL) {
        show_live(&row, core, task, loaded);
    } else {
        show_outcome(&row, core, &loaded->outcomes[0], loaded);
    }
    failures_put(pair(&row, "failures"), loaded);
    pairs_close(&row);
}

/* ---- logs ---- */

static const struct failure_row *failure_of(const struct loaded *loaded, uint32_t attempt)
{
    for (size_t i = 0; i < loaded->failure_count; i++) {
        if (loaded->failures[i].attempt == attempt) {
            return &loaded->failures[i];
        }
    }
    return NULL;
}

/* How the attempt ended: as the task did, or as a failure that was tried again. A command that ended by itself has its
 * output in its result. */
static void logs_end_put(struct pairs *row, const struct loaded *loaded, const struct logs *logs)
{
    const struct outcome_row *outcome = loaded->outcome_count > 0 ? &loaded->outcomes[0] : NULL;
    const struct failure_row *failure = failure_of(loaded, logs->attempt);
    bool is_last = outcome != NULL && outcome->attempt == logs->attempt && !logs->is_running;
    failure = logs->is_running ? NULL : failure;
    pair_str(row, "worker", is_last ? outcome->worker : failure != NULL ? failure->worker : bytes_of(NULL, 0));
    pair_text(row, "ended",
              failure != NULL ? cause_word(failure->cause)
              : is_last       ? task_state_word(outcome->state)
                              : NULL);
    pair_bin(row, "result", is_last && logs->output.n == 0 ? outcome->result : bytes_of(NULL, 0));
}

void answer_logs(const struct core *core, uint64_t id, const struct loaded *loaded, const struct logs *logs,
                 struct buf *body)
{
    const struct task *task = task_find(core, id);
    const struct outcome_row *outcome = loaded->outcome_count > 0 ? &loaded->outcomes[0] : NULL;
    struct pairs row = pairs_open(body);
    pair_id(&row, "id", id);
    pair_text(&row, "state", task_state_word(task != NULL ? task->state : outcome->state));
    pair_text(&row, "cause", task == NULL && outcome->cause ? cause_word(outcome->cause) : NULL);
    pair_call(&row, core, task != NULL ? task->call->id : outcome->call, &loaded->call);
    pair_u64(&row, "attempt", logs->attempt);
    pair_u64(&row, "latest", task != NULL ? task->attempt : outcome->attempt);
    pair_flag(&row, "is_running", logs->is_running);
    logs_end_put(&row, loaded, logs);
    pair_bin(&row, "output", logs->output);
    put_array(pair(&row, "failed"), (uint32_t)loaded->failure_count);
    for (size_t i = 0; i < loaded->failure_count; i++) {
        put_u64(row.out, loaded->failures[i].attempt);
    }
    pairs_close(&row);
}

/* ---- explain ---- */

static void explain_put(struct buf *body, uint64_t id, bool is_volatile, const char *state, const char *why,
                        const char *text)
{
    struct pairs row = pairs_open(body);
    pair_id(&row, "id", id);
    pair_flag(&row, "durable", !is_volatile);
    pair_text(&row, "state", state);
    pair_text(&row, "why", why);
    pair_text(&row, "text", text);
    pairs_close(&row);
}

static const char *explain_ready(const struct core *core, const struct task *task, struct buf *text)
{
    const struct lane *lane = task->call->lane;
    if (core->now < core->hold_until) {
        buf_printf(text, "the broker has just started and waits %lld ms for workers that may still have it",
                   (long long)(core->hold_until - core->now));
        return "claiming";
    }
    if (lane->worker_count == 0) {
        buf_printf(text, "no connected worker serves function %.*s on queue %.*s", (int)lane->function.n,
                   (const char *)lane->function.p, (int)lane->queue.n, (const char *)lane->queue.p);
        return "no_worker";
    }
    size_t short_count = 0;
    size_t alone_count = 0;
    for (size_t i = 0; i < lane->worker_count; i++) {
        const struct worker *worker = lane->workers[i];
        if (worker->held_count < worker->capacity_count) {
            buf_printf(text, "it waits for its turn: %llu tasks of its function are ready",
                       (unsigned long long)lane->ready);
            return "turn";
        }
        short_count += worker->scarce == SCARCE_MEMORY;
        alone_count += worker->scarce == SCARCE_ALONE;
    }
    if (short_count > 0) {
        buf_printf(text,
                   "of %zu workers that serve it, %zu start nothing new, because free memory is below their floor",
                   lane->worker_count, short_count);
        return "memory";
    }
    if (alone_count > 0) {
        buf_printf(text, "of %zu workers that serve it, %zu keep a task alone, or wait until they can",
                   lane->worker_count, alone_count);
        return "alone";
    }
    buf_printf(text, "all %zu workers that serve it hold as much as they take; %llu tasks of its function are ready",
               lane->worker_count, (unsigned long long)lane->ready);
    return "no_credit";
}

static int64_t wait_ms(const struct core *core, const struct task *task)
{
    int64_t wait = task->is_by_wall ? task->due - core->wall : task->due_mono - core->now;
    return wait > 0 ? wait : 0;
}

void answer_explain(const struct core *core, const struct task *task, struct buf *body)
{
    struct buf text = {0};
    const char *why = task_state_word(task->state);
    switch (task->state) {
    case TASK_READY:
        why = explain_ready(core, task, &text);
        break;
    case TASK_DELAYED:
    case TASK_BACKOFF:
        buf_printf(&text, "%s for another %lld ms",
                   task->state == TASK_DELAYED ? "its delay runs"
                                               : "its last attempt failed; it waits to be tried again",
                   (long long)wait_ms(core, task));
        break;
    default:
        buf_printf(&text, task->state == TASK_RUNNING ? "worker %s (%s) runs it%s" : "worker %s (%s) holds it%s",
                   task->worker->name, task->worker->label,
                   task->worker->conn == NULL              ? "; the worker is not connected, its lease still runs"
                   : task->state == TASK_RUNNING           ? ""
                   : task->worker->scarce == SCARCE_MEMORY ? "; free memory there is below its floor"
                   : task->worker->scarce == SCARCE_ALONE  ? "; a task runs alone there, or waits until it can"
                                                           : "");
        break;
    }
    buf_put_u8(&text, 0);
    explain_put(body, task->id, task->session->is_volatile, task_state_word(task->state), why, (const char *)text.p);
    buf_fini(&text);
}

void answer_explain_finished(uint64_t id, bool is_volatile, struct buf *body)
{
    explain_put(body, id, is_volatile, "finished", "finished", "it has its outcome; see show or result");
}

/* ---- retry ---- */

void answer_retry(const struct session *session, const struct task *task, bool is_new, struct buf *body)
{
    struct pairs row = pairs_open(body);
    pair_id(&row, "id", task->id);
    pair_u64(&row, "session", session->id);
    pair_text(&row, "session_name", session->name);
    pair_flag(&row, "new_session", is_new);
    pairs_close(&row);
}

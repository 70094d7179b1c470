/*
 * queries.c: questions of people and programs: QUERY, CANCEL, RETRY, and who waits for an answer. What is in memory is
 * answered at once (gated like everything a client reads); what is on disk is asked of the store after the batch that
 * was open when the question came is on disk, so that one's own submits are seen. Must not change tasks but by the
 * nouns' own functions. The shapes of the answers: PROTOCOL.md, QUERY; they are written in answers.c.
 */
#include "broker/answers.h"
#include "broker/listing.h"
#include "broker/params.h"
#include "broker/state.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/check.h"
#include "common/output.h"

enum query_kind { QUERY_SHOW, QUERY_EXPLAIN, QUERY_RESULT, QUERY_LIST, QUERY_RETRY, QUERY_CANCELLED, QUERY_LOGS };
enum query_stage {
    STAGE_NEW,
    STAGE_TASK,  /* waits for the task to end (result), or for its worker's word (cancel) */
    STAGE_LOOK,  /* a worker was asked what its attempt has written (logs) */
    STAGE_BATCH, /* waits for a batch before the store is asked */
    STAGE_LOAD,  /* the store was asked */
};

struct query {
    struct query *next;
    struct query **link;     /* what points to it in the list of all */
    struct query *wait_next; /* STAGE_TASK: others that wait for the same task */
    enum query_kind kind;
    enum query_stage stage;
    uint64_t conn; /* 0: it left */
    uint64_t request;
    uint64_t task;
    bool force;       /* cancel */
    bool is_volatile; /* its task was in memory only when it was asked about: the answer rests on no commit */
    uint64_t batch;
    struct list_query list;
    size_t limit;
    struct look *look; /* logs */
};

/* What a question about output is about. */
struct look {
    uint32_t wanted;  /* attempt; 0: the last */
    uint32_t attempt; /* STAGE_LOOK: that the worker is asked about, */
    uint64_t worker;  /* on this connection, */
    uint64_t number;  /* under this number, */
    int64_t until_ms; /* and waited for until then */
    bool is_running;  /* it has answered that it runs: */
    struct buf output;
};

static const char text_runs[] = "the task runs; it was left alone";
static const char text_not_finished[] = "the task has no outcome yet; only a finished one can be submitted again";

/* Whose the task is, or was: NULL if only the store may know. */
static const struct session *session_of_task(const struct core *core, uint64_t id)
{
    const struct task *task = task_find(core, id);
    const struct outcome *outcome = outcome_find(core, id);
    return task != NULL ? task->session : outcome != NULL ? outcome->session : NULL;
}

static bool is_volatile(const struct session *session)
{
    return session != NULL && session->is_volatile;
}

/* ---- the list of those under way ---- */

static struct query *query_add(struct core *core, struct conn *conn, uint64_t request, enum query_kind kind,
                               uint64_t task)
{
    if (conn->queries >= QUERY_COUNT_MAX) {
        reply_put(core, conn, request, QUERN_FULL, "too many questions of this client are under way", false,
                  bytes_of(NULL, 0));
        return NULL;
    }
    struct query *query = xcalloc(1, sizeof *query);
    query->kind = kind;
    query->conn = conn->id;
    query->request = request;
    query->task = task;
    query->is_volatile = is_volatile(session_of_task(core, task));
    query->next = core->queries;
    query->link = &core->queries;
    if (query->next != NULL) {
        query->next->link = &query->next;
    }
    core->queries = query;
    core->query_count++;
    conn->queries++;
    return query;
}

/* From now on until its task has an outcome. */
static void query_wait(struct core *core, struct query *query)
{
    query->stage = STAGE_TASK;
    query->wait_next = map_get(&core->query_waits, query->task);
    map_put(&core->query_waits, query->task, query);
}

static void query_wait_over(struct core *core, struct query *query)
{
    if (query->stage != STAGE_TASK) {
        return;
    }
    struct query *first = map_get(&core->query_waits, query->task);
    struct query **at = &first;
    while (*at != query) {
        at = &(*at)->wait_next;
    }
    *at = query->wait_next;
    if (first != NULL) {
        map_put(&core->query_waits, query->task, first);
    } else {
        map_remove(&core->query_waits, query->task);
    }
    query->stage = STAGE_NEW;
}

/* The worker's answer is not waited for any longer. */
static void query_look_over(struct core *core, struct query *query)
{
    if (query->stage == STAGE_LOOK) {
        map_remove(&core->looks, query->look->number);
        query->stage = STAGE_NEW;
    }
}

static void query_free(struct query *query)
{
    if (query->look != NULL) {
        buf_fini(&query->look->output);
        free(query->look);
    }
    free(query);
}

static void query_end(struct core *core, struct query *query)
{
    struct conn *conn = query->conn ? conn_find(core, query->conn) : NULL;
    query_wait_over(core, query);
    query_look_over(core, query);
    *query->link = query->next;
    if (query->next != NULL) {
        query->next->link = query->link;
    }
    core->query_count--;
    if (conn != NULL) {
        conn->queries--;
    }
    query_free(query);
}

/* What nobody waits for any more goes, or those who come and leave would fill the list; a load comes back first. */
void query_conn_closed(struct core *core, struct conn *conn)
{
    struct query *next;
    for (struct query *query = core->queries; query != NULL && conn->queries > 0; query = next) {
        next = query->next;
        if (query->conn == conn->id && (query->stage == STAGE_TASK || query->stage == STAGE_LOOK)) {
            query_end(core, query);
        } else if (query->conn == conn->id) {
            query->conn = 0;
        }
    }
}

void queries_fini(struct core *core)
{
    while (core->queries != NULL) {
        struct query *next = core->queries->next;
        query_free(core->queries);
        core->queries = next;
    }
    map_fini(&core->query_waits);
    map_fini(&core->looks);
    map_fini(&core->loads);
    backups_fini(core);
}

/* ---- replies ---- */

void reply_put(struct core *core, struct conn *conn, uint64_t request, enum quern_err code, const char *text, bool more,
               struct bytes body)
{
    struct msg_REPLY reply = {.request = request, .code = code, .text = bytes_text(text), .more = more, .body = body};
    msg_REPLY_put(send_gated(core, conn), &reply);
}

static void reply_now(struct core *core, struct conn *conn, uint64_t request, enum quern_err code, const char *text,
                      struct bytes body)
{
    struct msg_REPLY reply = {.request = request, .code = code, .text = bytes_text(text), .body = body};
    msg_REPLY_put(send_now(core, conn), &reply);
}

void reply_about(struct core *core, struct conn *conn, const struct session *session, uint64_t request,
                 enum quern_err code, const char *text, struct bytes body)
{
    if (is_volatile(session)) {
        reply_now(core, conn, request, code, text, body);
    } else {
        reply_put(core, conn, request, code, text, false, body);
    }
}

static void query_reply(struct core *core, struct query *query, enum quern_err code, const char *text,
                        struct bytes body)
{
    struct conn *conn = query->conn ? conn_find(core, query->conn) : NULL;
    if (conn != NULL && query->is_volatile) {
        reply_now(core, conn, query->request, code, text, body);
    } else if (conn != NULL) {
        reply_put(core, conn, query->request, code, text, false, body);
    }
    query_end(core, query);
}

static void reply_unknown(struct core *core, struct query *query)
{
    char text[96];
    char id[ID_TEXT_SIZE];
    snprintf(text, sizeof text, "there is no task %s, or retention has deleted it", id_text(query->task, id));
    query_reply(core, query, QUERN_UNKNOWN, text, bytes_of(NULL, 0));
}

/* ---- asking the store ---- */

struct load *load_new(struct core *core, enum load_kind kind)
{
    struct load *load = xcalloc(1, sizeof *load);
    load->kind = kind;
    load->number = ++core->load_number;
    ARRAY_RESERVE(core->update->loads, core->update->load_count, core->update->load_cap);
    core->update->loads[core->update->load_count++] = load;
    return load;
}

static void query_load(struct core *core, struct query *query)
{
    struct load *load = load_new(core, query->kind == QUERY_LIST   ? LOAD_LIST
                                       : query->kind == QUERY_LOGS ? LOAD_LOGS
                                                                   : LOAD_SHOW);
    query->stage = STAGE_LOAD;
    map_put(&core->loads, load->number, query);
    if (query->kind == QUERY_LIST) {
        load->list = query->list;
        load->limit = query->limit;
    } else {
        load->count = 1;
        load->ids[0] = query->task;
        load->attempt = query->look != NULL ? query->look->wanted : 0;
    }
}

static void query_answer(struct core *core, struct query *query, const struct loaded *loaded);

/* What is volatile is here, or nowhere: as if the store had answered. */
static void query_answer_from_memory(struct core *core, struct query *query)
{
    const struct outcome *outcome = outcome_find(core, query->task);
    struct loaded loaded = {.kind = LOAD_SHOW};
    if (outcome != NULL) {
        const struct call *call = outcome->record->call;
        loaded.outcome_count = 1;
        loaded.outcomes = &outcome->record->row;
        loaded.call = (struct call_row){
            .id = call->id, .queue = call->queue, .function = call->function, .options = call->options};
        loaded.attempt = outcome->record->row.attempt;
        loaded.output = outcome->record->row.output;
    }
    if (query->look != NULL && query->look->wanted != 0 && query->look->wanted != loaded.attempt) {
        loaded.attempt = query->look->wanted;
        loaded.output = bytes_of(NULL, 0);
    }
    query_answer(core, query, &loaded);
}

/* Answers the query, now or later: it may be gone afterwards. */
static void query_ask_store(struct core *core, struct query *query)
{
    query_wait_over(core, query);
    if (query->is_volatile) {
        query_answer_from_memory(core, query);
        return;
    }
    query->batch = core->open.is_urgent ? core->open.number : core->open.number - 1;
    query->stage = STAGE_BATCH;
    if (query->batch <= core->committed) {
        query_load(core, query);
    }
}

void queries_committed(struct core *core)
{
    for (struct query *query = core->queries; query != NULL; query = query->next) {
        if (query->stage == STAGE_BATCH && query->batch <= core->committed) {
            query_load(core, query);
        }
    }
}

/* ---- QUERY ---- */

/* A session by name, or as "#7". */
static struct session *session_of_label(const struct core *core, struct bytes label)
{
    struct session *session = session_by_name(core, label);
    if (session == NULL && label.n > 1 && label.n < 20 && label.p[0] == '#') {
        char digits[24] = {0};
        memcpy(digits, label.p + 1, label.n - 1);
        session = session_find(core, strtoull(digits, NULL, 10));
    }
    return session;
}

static enum quern_err list_prepare(const struct core *core, const struct params *params, struct list_query *list)
{
    char word[32] = {0};
    *list = (struct list_query){0};
    if (params->session.n > 0) {
        const struct session *session = session_of_label(core, params->session);
        if (session == NULL) {
            return QUERN_UNKNOWN;
        }
        list->session = session->id;
    }
    if (params->state.n > 0) {
        snprintf(word, sizeof word, "%.*s", (int)params->state.n, (const char *)params->state.p);
        int state = task_state_of_word(word);
        if (state <= 0) {
            return QUERN_INVALID;
        }
        list->state = (uint32_t)state;
    }
    if (params->cause.n > 0) {
        snprintf(word, sizeof word, "%.*s", (int)params->cause.n, (const char *)params->cause.p);
        int cause = cause_of_word(word);
        if (cause <= 0) {
            return QUERN_INVALID;
        }
        list->cause = (uint32_t)cause;
    }
    return QUERN_OK;
}

static void ask_list(struct core *core, struct conn *conn, uint64_t request, const struct params *params)
{
    struct list_query list;
    enum quern_err err = list_prepare(core, params, &list);
    if (params->limit == 0 || params->limit > QUERY_ROW_COUNT_MAX) {
        reply_put(core, conn, request, QUERN_INVALID, "a list has a limit of 1 to 10000 rows", false,
                  bytes_of(NULL, 0));
        return;
    }
    if (err != QUERN_OK) {
        reply_put(core, conn, request, err,
                  err == QUERN_UNKNOWN ? "there is no such session" : "there is no such state or cause", false,
                  bytes_of(NULL, 0));
        return;
    }
    struct query *query = query_add(core, conn, request, QUERY_LIST, 0);
    if (query != NULL) {
        query->list = list;
        query->limit = params->limit;
        query_ask_store(core, query);
    }
}

static void ask_explain(struct core *core, struct conn *conn, uint64_t request, uint64_t id)
{
    struct task *task = task_find(core, id);
    if (task != NULL) {
        struct buf body = {0};
        answer_explain(core, task, &body);
        reply_about(core, conn, task->session, request, QUERN_OK, NULL, buf_bytes(&body));
        buf_fini(&body);
        return;
    }
    struct query *query = query_add(core, conn, request, QUERY_EXPLAIN, id);
    if (query != NULL) {
        query_ask_store(core, query);
    }
}

/* Somebody who asked for it has it: acknowledged, in its session. */
static void take_outcome(struct core *core, struct conn *conn, uint64_t request, struct outcome *outcome)
{
    struct session *session = outcome != NULL ? outcome->session : NULL; /* both may go with the acknowledgement */
    reply_about(core, conn, session, request, QUERN_OK, NULL, bytes_of(NULL, 0));
    if (outcome != NULL) {
        outcomes_acknowledge(core, session, outcome->completion, outcome->completion);
        core->open.is_urgent = core->open.is_urgent || !session->is_volatile;
        session_settle(core, session);
    }
}

static void ask_result(struct core *core, struct conn *conn, uint64_t request, const struct params *params)
{
    if (params->ack) {
        take_outcome(core, conn, request, outcome_find(core, params->id));
        return;
    }
    const struct task *task = task_find(core, params->id);
    const struct turn *parked = parked_turn(core, params->id);
    bool is_live = task != NULL || parked != NULL;
    if (is_live && !params->wait) {
        reply_about(core, conn, task != NULL ? task->session : parked->session, request, QUERN_NOT_FINISHED,
                    "the task has no outcome yet", bytes_of(NULL, 0));
        return;
    }
    struct query *query = query_add(core, conn, request, QUERY_RESULT, params->id);
    if (query == NULL) {
        return;
    }
    if (is_live) {
        query_wait(core, query);
    } else {
        query_ask_store(core, query);
    }
}

static void ask_show(struct core *core, struct conn *conn, uint64_t request, uint64_t id)
{
    struct query *query = query_add(core, conn, request, QUERY_SHOW, id);
    if (query != NULL) {
        query_ask_store(core, query);
    }
}

/* ---- logs: of what runs, first the worker is asked; then the store, for what has ended meanwhile ---- */

static bool is_at_worker(const struct task *task, uint32_t attempt)
{
    return task != NULL && (task->state == TASK_LEASED || task->state == TASK_RUNNING) && !task->is_unsent &&
           task->worker->is_welcomed && (attempt == 0 || attempt == task->attempt);
}

static void look_ask(struct core *core, struct query *query, const struct task *task, const uint64_t *known)
{
    struct look *look = query->look;
    struct msg_LOOK message = {.request = ++core->look_number,
                               .task = task->id,
                               .epoch = task->epoch,
                               .attempt = task->attempt,
                               .stdout_known = known[OUTPUT_STDOUT - 1],
                               .stderr_known = known[OUTPUT_STDERR - 1]};
    look->attempt = task->attempt;
    look->worker = task->worker->conn->id;
    look->number = core->look_number;
    look->until_ms = core->now + LOOK_WAIT_MS;
    query->stage = STAGE_LOOK;
    map_put(&core->looks, look->number, query);
    msg_LOOK_put(send_now(core, task->worker->conn), &message);
    core_sweep_by(core, look->until_ms);
}

static void ask_logs(struct core *core, struct conn *conn, uint64_t request, const struct params *params)
{
    const struct task *task = task_find(core, params->id);
    struct query *query = query_add(core, conn, request, QUERY_LOGS, params->id);
    if (query == NULL) {
        return;
    }
    query->look = xcalloc(1, sizeof *query->look);
    query->look->wanted = (uint32_t)params->attempt;
    if (is_at_worker(task, query->look->wanted)) {
        look_ask(core, query, task, params->known);
    } else {
        query_ask_store(core, query);
    }
}

void worker_output(struct core *core, struct conn *conn, const struct msg_OUTPUT *output)
{
    struct query *query = map_get(&core->looks, output->request);
    struct output_reader reader;
    if (query == NULL || query->look->worker != conn->id) {
        return; /* it was late, or is not for this worker to say */
    }
    query_look_over(core, query);
    if (output->is_running) {
        query->look->is_running = true;
        query->look->wanted = query->look->attempt;
        if (output_open(&reader, output->output)) {
            buf_put(&query->look->output, output->output.p, output->output.n);
        }
    }
    query_ask_store(core, query);
}

/* A worker that is stopped, or far away, or knows no LOOK. */
void queries_sweep(struct core *core)
{
    struct query *next;
    for (struct query *query = core->queries; core->looks.count > 0 && query != NULL; query = next) {
        next = query->next;
        if (query->stage == STAGE_LOOK && query->look->until_ms <= core->now) {
            query_look_over(core, query);
            query_ask_store(core, query);
        } else if (query->stage == STAGE_LOOK) {
            core_sweep_by(core, query->look->until_ms);
        }
    }
}

static void ask_status(struct core *core, struct conn *conn, uint64_t request)
{
    struct buf body = {0};
    answer_status(core, &body);
    if (core->disk_low) { /* it may be full: then no commit comes, and this answer is the one that says why */
        struct msg_REPLY reply = {.request = request, .code = QUERN_OK, .body = buf_bytes(&body)};
        msg_REPLY_put(send_now(core, conn), &reply);
    } else {
        reply_put(core, conn, request, QUERN_OK, NULL, false, buf_bytes(&body));
    }
    buf_fini(&body);
}

/* Some answers are far longer than their question, and wait in memory for the commit. */
static bool may_ask(const struct core *core, struct conn *conn)
{
    if (conn->asked_batch != core->open.number) {
        conn->asked_batch = core->open.number;
        conn->asked = 0;
    }
    return conn->asked++ < QUERY_COUNT_MAX;
}

void query_ask(struct core *core, struct conn *conn, const struct msg_QUERY *query)
{
    struct params params;
    bool is_long =
        bytes_is(query->what, "status") || bytes_is(query->what, "sessions") || bytes_is(query->what, "open");
    if (is_long && !may_ask(core, conn)) {
        reply_put(core, conn, query->request, QUERN_FULL, "too many questions of this client at once", false,
                  bytes_of(NULL, 0));
    } else if (!params_read(query->params, &params)) {
        reply_put(core, conn, query->request, QUERN_INVALID, "the parameters of this query are not understood", false,
                  bytes_of(NULL, 0));
    } else if (bytes_is(query->what, "status")) {
        ask_status(core, conn, query->request);
    } else if (bytes_is(query->what, "sessions")) {
        answer_sessions(core, conn, query->request);
    } else if (bytes_is(query->what, "list")) {
        ask_list(core, conn, query->request, &params);
    } else if (bytes_is(query->what, "open")) {
        const struct open_query open = {.id = params.id, .after = params.after, .completion = params.completion};
        query_open(core, conn, query->request, &open);
    } else if (bytes_is(query->what, "show")) {
        ask_show(core, conn, query->request, params.id);
    } else if (bytes_is(query->what, "explain")) {
        ask_explain(core, conn, query->request, params.id);
    } else if (bytes_is(query->what, "result")) {
        ask_result(core, conn, query->request, &params);
    } else if (bytes_is(query->what, "backup")) {
        backup_ask(core, conn, query->request, params.file);
    } else if (bytes_is(query->what, "logs")) {
        ask_logs(core, conn, query->request, &params);
    } else {
        reply_put(core, conn, query->request, QUERN_UNSUPPORTED, "there is no query of that name", false,
                  bytes_of(NULL, 0));
    }
}

/* ---- CANCEL ---- */

/* Of a task that is live. The query is gone afterwards, or waits for its worker's word. */
static void cancel_begin(struct core *core, struct query *query, struct task *task, bool force)
{
    query_wait(core, query);
    if (task->state == TASK_LEASED || task->state == TASK_RUNNING) {
        task->wants_cancel = true;
        task->wants_kill = task->wants_kill || force;
        task_revoke(core, task, task->wants_kill);
    } else {
        struct ending ending = {.state = TASK_CANCELLED, .message = bytes_text("cancelled before it started")};
        task_finish(core, task, &ending);
    }
}

void query_cancel(struct core *core, struct conn *conn, const struct msg_CANCEL *cancel)
{
    struct task *task = task_find(core, cancel->task);
    if (task != NULL && task->state == TASK_RUNNING && !cancel->force) {
        reply_about(core, conn, task->session, cancel->request, QUERN_RUNNING, text_runs, bytes_of(NULL, 0));
        return;
    }
    struct query *query = query_add(core, conn, cancel->request, QUERY_CANCELLED, cancel->task);
    if (query == NULL) {
        return;
    }
    query->force = cancel->force;
    if (task == NULL) {
        query_ask_store(core, query);
    } else {
        cancel_begin(core, query, task, cancel->force);
    }
}

/* ---- RETRY ---- */

void query_retry(struct core *core, struct conn *conn, const struct msg_RETRY *retry)
{
    const struct task *task = task_find(core, retry->task);
    if (task != NULL) {
        reply_about(core, conn, task->session, retry->request, QUERN_NOT_FINISHED, text_not_finished,
                    bytes_of(NULL, 0));
        return;
    }
    struct query *query = query_add(core, conn, retry->request, QUERY_RETRY, retry->task);
    if (query != NULL) {
        query_ask_store(core, query);
    }
}

static bool has_room_for_retry(const struct core *core, bool needs_session, bool in_memory)
{
    return submit_room(core, in_memory) == QUERN_OK && core->own_series != 0 && core->own_sequence < SEQUENCE_MAX &&
           (!needs_session || core->sessions.count < SESSION_COUNT_MAX);
}

static void retry_row(struct core *core, struct query *query, const struct loaded *loaded)
{
    const struct outcome_row *row = &loaded->outcomes[0];
    struct task_options option;
    const char *why;
    if (row->args.p == NULL && row->args_size > 0) {
        query_reply(core, query, QUERN_FORGOTTEN,
                    "its arguments were not kept (a done task keeps them up to 4 KiB); submit it anew",
                    bytes_of(NULL, 0));
        return;
    }
    struct call *call = task_options_read(loaded->call.options, &option, &why) == QUERN_OK
                            ? call_intern(core, loaded->call.queue, loaded->call.function, loaded->call.options,
                                          &option, query->is_volatile)
                            : NULL;
    struct session *session = session_find(core, row->session);
    bool is_new = session == NULL || session->is_ending;
    if (call == NULL || !has_room_for_retry(core, is_new, query->is_volatile)) {
        if (call != NULL) {
            call_release(core, call);
        }
        query_reply(core, query, QUERN_FULL, "the broker takes no further tasks now", bytes_of(NULL, 0));
        return;
    }
    if (is_new) {
        session = session_new(core, bytes_of(NULL, 0), query->is_volatile);
        session->keep = true;
    }
    struct task *task = task_submit_retry(core, session, call, row->args, row->id);
    call_release(core, call);
    struct buf body = {0};
    answer_retry(session, task, is_new, &body);
    query_reply(core, query, QUERN_OK, NULL, buf_bytes(&body));
    buf_fini(&body);
    if (!known_is_early(core)) {
        task_fail_unknown(core, task);
    }
}

/* ---- what they waited for ---- */

static enum quern_err cancel_verdict(enum task_state state)
{
    return state == TASK_CANCELLED ? QUERN_OK : QUERN_FINISHED;
}

void query_task_finished(struct core *core, uint64_t id)
{
    struct query *query;
    while (core->query_waits.count > 0 && (query = map_get(&core->query_waits, id)) != NULL) {
        const struct outcome *outcome = outcome_find(core, id);
        if (query->kind == QUERY_CANCELLED && outcome != NULL && outcome->record != NULL) {
            enum quern_err code = cancel_verdict((enum task_state)outcome->record->row.state);
            query_reply(core, query, code, code == QUERN_OK ? NULL : "the task finished first", bytes_of(NULL, 0));
        } else {
            query_ask_store(core, query);
        }
    }
}

void query_task_not_cancelled(struct core *core, uint64_t id, enum quern_err code)
{
    struct query *next;
    for (struct query *query = map_get(&core->query_waits, id); query != NULL; query = next) {
        next = query->wait_next;
        if (query->kind == QUERY_CANCELLED) {
            query_reply(core, query, code, "the task has started; it was left alone", bytes_of(NULL, 0));
        }
    }
}

static void shown(struct core *core, struct query *query, const struct loaded *loaded)
{
    struct buf body = {0};
    answer_show(core, query->task, loaded, &body);
    query_reply(core, query, QUERN_OK, NULL, buf_bytes(&body));
    buf_fini(&body);
}

static void explained(struct core *core, struct query *query)
{
    struct buf body = {0};
    answer_explain_finished(query->task, query->is_volatile, &body);
    query_reply(core, query, QUERN_OK, NULL, buf_bytes(&body));
    buf_fini(&body);
}

static void logged(struct core *core, struct query *query, const struct loaded *loaded)
{
    struct buf body = {0};
    bool is_running = query->look->is_running;
    const struct logs logs = {.is_running = is_running,
                              .attempt = is_running ? query->look->attempt : loaded->attempt,
                              .output = is_running ? buf_bytes(&query->look->output) : loaded->output};
    answer_logs(core, query->task, loaded, &logs, &body);
    query_reply(core, query, QUERN_OK, NULL, buf_bytes(&body));
    buf_fini(&body);
}

static void listed(struct core *core, struct query *query, const struct loaded *loaded)
{
    struct buf body = {0};
    size_t count;
    struct list_row *rows = listing_merge(core, &query->list, query->limit, loaded, &count);
    answer_list(core, rows, count, &body);
    free(rows);
    query_reply(core, query, QUERN_OK, NULL, buf_bytes(&body));
    buf_fini(&body);
}

void query_loaded(struct core *core, const struct loaded *loaded)
{
    struct query *query = map_remove(&core->loads, loaded->number);
    if (query != NULL) {
        query_answer(core, query, loaded);
    }
}

/* It was parked when it was asked about, and is in memory now: as if it had been there. */
static void query_go_on(struct core *core, struct query *query, struct task *task)
{
    struct buf body = {0};
    if (query->kind == QUERY_EXPLAIN) {
        answer_explain(core, task, &body);
        query_reply(core, query, QUERN_OK, NULL, buf_bytes(&body));
    } else if (query->kind == QUERY_RETRY) {
        query_reply(core, query, QUERN_NOT_FINISHED, text_not_finished, bytes_of(NULL, 0));
    } else if (query->kind == QUERY_RESULT) {
        query_wait(core, query);
    } else if (task->state == TASK_RUNNING && !query->force) {
        query_reply(core, query, QUERN_RUNNING, text_runs, bytes_of(NULL, 0));
    } else {
        cancel_begin(core, query, task, query->force);
    }
    buf_fini(&body);
}

static void query_answer(struct core *core, struct query *query, const struct loaded *loaded)
{
    if (loaded->has_task && parked_turn(core, query->task) != NULL) {
        task_unpark(core, &loaded->task);
    }
    struct task *task = task_find(core, query->task);
    bool is_live = task != NULL;
    bool is_shown = query->kind == QUERY_SHOW || query->kind == QUERY_LOGS;
    if (query->kind == QUERY_LIST) {
        listed(core, query, loaded);
    } else if (loaded->outcome_count == 0 && is_live && !is_shown) {
        query_go_on(core, query, task);
    } else if (loaded->outcome_count == 0 && loaded->has_task && !is_live) {
        query_ask_store(core, query); /* it ended since the store looked */
    } else if (loaded->outcome_count == 0 && !is_live) {
        reply_unknown(core, query);
    } else if (query->kind == QUERY_LOGS) {
        logged(core, query, loaded);
    } else if (query->kind == QUERY_RETRY) {
        retry_row(core, query, loaded);
    } else if (query->kind == QUERY_EXPLAIN) {
        explained(core, query);
    } else if (query->kind == QUERY_CANCELLED) {
        enum quern_err code = cancel_verdict((enum task_state)loaded->outcomes[0].state);
        query_reply(core, query, code, code == QUERN_OK ? NULL : "the task has its outcome already", bytes_of(NULL, 0));
    } else {
        shown(core, query, loaded);
    }
}

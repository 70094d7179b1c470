/*
 * core.c: the machine's front: takes an event, hands it to the noun it belongs to, and finishes the step (tasks meet
 * workers, the next wake-up is said). Must not know how any noun does its work. Start reading at core_step.
 */
#include "broker/core.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "broker/state.h"
#include "common/check.h"

/* ---- life ---- */

/* Payloads up to this cost no memory of their own: for a task little, as there may be millions; an outcome has a
 * worker's name beside arguments and result. */
#define TASK_SMALL_SIZE 16u
#define RECORD_SMALL_SIZE 96u

static bool due_earlier(const void *a, const void *b)
{
    const struct task *x = a;
    const struct task *y = b;
    return x->due_mono != y->due_mono ? x->due_mono < y->due_mono : x->id < y->id;
}

static bool due_earlier_by_wall(const void *a, const void *b)
{
    const struct task *x = a;
    const struct task *y = b;
    return x->due != y->due ? x->due < y->due : x->id < y->id;
}

struct core *core_open(const struct limits *limits, const struct store_facts *facts)
{
    struct core *core = xcalloc(1, sizeof *core);
    core->limits = *limits;
    core->store = facts->uuid;
    core->epoch = facts->epoch;
    core->meta = facts->meta;
    core->has_store = !facts->is_none;
    core->was_clean = facts->was_clean || facts->is_new; /* nobody can hold anything of a store without a past */
    core->pid = (uint64_t)getpid();
    core->sweep_ms = INT64_MAX;
    core->balance_ms = INT64_MAX;
    core->expected_ms = INT64_MAX;
    core->soon_ms = INT64_MAX;
    heap_init(&core->due, offsetof(struct task, heap_index), due_earlier);
    heap_init(&core->due_by_wall, offsetof(struct task, heap_index), due_earlier_by_wall);
    expiries_init(core);
    spares_init(&core->task_spares, sizeof(struct task) + TASK_SMALL_SIZE);
    spares_init(&core->record_spares, sizeof(struct record) + RECORD_SMALL_SIZE);
    spares_init(&core->outcome_spares, sizeof(struct outcome));
    lanes_shed(core);
    parked_look(core);
    batch_open(core);
    return core;
}

static void visit_call(void *context, const struct call_row *row)
{
    call_restore(context, row);
}

static void visit_session(void *context, const struct session_row *row)
{
    session_restore(context, row);
}

static void visit_taken(void *context, const struct taken_row *row)
{
    taken_restore(context, row);
}

static void visit_series(void *context, const struct series_row *row)
{
    series_restore(context, row);
}

static void visit_worker(void *context, const struct worker_row *row)
{
    worker_restore(context, row);
}

/* One of those may be alive and never be heard of again: the whole window is waited for. */
static void visit_workers_swept(void *context)
{
    struct core *core = context;
    core->unheard_count++;
}

static bool visit_plain_task(void *context, uint64_t id, uint64_t session, uint64_t call, uint64_t args_size)
{
    return parked_restore(context, id, session, call, args_size);
}

static void visit_task(void *context, const struct task_row *row)
{
    task_restore(context, row);
}

static void visit_outcome(void *context, uint64_t id, uint64_t session, uint64_t completion, int64_t finished,
                          uint64_t size)
{
    struct core *core = context;
    outcome_restore(core, id, session_find(core, session), completion, finished, size);
}

void core_visitor(struct core *core, struct store_visitor *visitor_out)
{
    *visitor_out = (struct store_visitor){.context = core,
                                          .call = visit_call,
                                          .session = visit_session,
                                          .taken = visit_taken,
                                          .series = visit_series,
                                          .worker = visit_worker,
                                          .workers_swept = visit_workers_swept,
                                          .plain_task = visit_plain_task,
                                          .task = visit_task,
                                          .outcome = visit_outcome};
}

static void begin_timers(struct core *core)
{
    size_t at = 0;
    uint64_t id;
    void *value;
    while (map_next(&core->tasks, &at, &id, &value)) {
        struct task *task = task_of_entry(value);
        if (task != NULL && task_waits(task)) {
            task_wait_restored(core, task);
        }
    }
    expiries_begin(core);
}

static void begin_sessions(struct core *core)
{
    size_t at = 0;
    uint64_t id;
    void *value;
    while (map_next(&core->sessions, &at, &id, &value)) {
        struct session *session = value;
        session->idle_since = core->now;
        session->left_at = core->now;
        session_restore_end(core, session);
        session_go_on_ending(core, session);
    }
}

/* Attempts on record as leased may still be running: their workers have one lease to claim them. After an unclean end
 * ready tasks wait a moment too: their lease row may be the one thing that was lost. Not if nobody could have them. */
void core_begin(struct core *core, int64_t mono_ms, int64_t wall_ms)
{
    core->now = mono_ms;
    core->wall = wall_ms;
    core->begun_ms = mono_ms;
    begin_sessions(core);
    outcomes_sort_restored(core);
    begin_timers(core);
    for (struct worker *worker = core->workers; worker != NULL; worker = worker->next) {
        worker->lease_until = mono_ms + (int64_t)core->limits.lease_ms;
    }
    if (!core->was_clean) {
        core->hold_until = mono_ms + (int64_t)core->limits.claim_ms;
        core->claims_until = mono_ms + (int64_t)core->limits.lease_ms;
    }
    if (core->unheard_count == 0) {
        core->hold_until = mono_ms;
    }
    numbers_begin(core);
    /* No task of it is dispatched before a worker was welcomed, so after the commit that reserves it. */
    core->own_series = series_are_left(core) ? (uint32_t)series_number_give(core) : 0;
    core_sweep_by(core, mono_ms);
    core->has_begun = true;
}

void core_close(struct core **core_at)
{
    struct core *core = *core_at;
    if (core == NULL) {
        return;
    }
    struct update update;
    update_init(&update);
    core->update = &update;
    batch_close(core);
    conns_fini(core);
    queries_fini(core);
    claims_fini(core);
    outcomes_fini(core);
    parked_fini(core);
    core_free_tasks(core);
    sessions_fini(core);
    workers_fini(core);
    lanes_fini(core);
    calls_fini(core);
    heap_fini(&core->due);
    heap_fini(&core->due_by_wall);
    heap_fini(&core->expiries);
    update_fini(&update);
    spares_fini(&core->task_spares);
    spares_fini(&core->record_spares);
    spares_fini(&core->outcome_spares);
    free(core);
    *core_at = NULL;
}

/* ---- messages ---- */

static void hello_common(struct core *core, struct conn *conn, enum role role, const struct uuid *instance,
                         struct bytes host, uint64_t pid, struct bytes program)
{
    (void)core;
    conn->role = role;
    conn->instance = *instance;
    conn->host = bytes_dup_text(host);
    conn->pid = pid;
    conn->program = bytes_dup_text(program);
    core_sweep_by(core, core->now + (int64_t)core->limits.heartbeat_ms);
}

/* At once: it rests on no commit, and who asks why nothing is committed must get in. */
static void operator_hello(struct core *core, struct conn *conn)
{
    struct msg_WELCOME_OPERATOR message = {.store = core->store,
                                           .epoch = core->epoch,
                                           .heartbeat_ms = core->limits.heartbeat_ms,
                                           .dead_ms = core->limits.dead_ms};
    msg_WELCOME_OPERATOR_put(send_now(core, conn), &message);
}

static void take_hello(struct core *core, struct conn *conn, const struct message *message)
{
    if (message->kind == MSG_HELLO_CLIENT) {
        const struct msg_HELLO_CLIENT *hello = &message->HELLO_CLIENT;
        conn->takes_short = hello->take_short;
        hello_common(core, conn, ROLE_CLIENT, &hello->instance, hello->host, hello->pid, hello->program);
        core->client_count++;
        client_hello(core, conn, hello);
    } else if (message->kind == MSG_HELLO_WORKER) {
        const struct msg_HELLO_WORKER *hello = &message->HELLO_WORKER;
        conn->takes_short = hello->take_short;
        hello_common(core, conn, ROLE_WORKER, &hello->instance, hello->host, hello->pid, hello->name);
        worker_hello(core, conn, hello);
    } else {
        const struct msg_HELLO_OPERATOR *hello = &message->HELLO_OPERATOR;
        hello_common(core, conn, ROLE_OPERATOR, &hello->instance, hello->host, hello->pid, hello->program);
        operator_hello(core, conn);
    }
}

static bool is_hello(enum message_kind kind)
{
    return kind == MSG_HELLO_CLIENT || kind == MSG_HELLO_WORKER || kind == MSG_HELLO_OPERATOR;
}

static void take_ping(struct core *core, struct conn *conn, const struct msg_PING *ping)
{
    struct msg_PONG pong = {.number = ping->number};
    bool is_leaving = conn->worker != NULL && conn->worker->capacity_count == 0;
    if (conn->worker != NULL) {
        worker_renew(core, conn->worker);
    }
    /* A worker that drains leaves with this answer: what it returned must be on disk, or a crash would call it lost. */
    msg_PONG_put(is_leaving ? send_gated(core, conn) : send_now(core, conn), &pong);
}

static void not_for_you(struct core *core, struct conn *conn, const struct message *message)
{
    conn_error(core, conn, QUERN_PROTOCOL, message->kind, "this message is not for this role, or not in this state");
}

static void take_client(struct core *core, struct conn *conn, struct message *message)
{
    if (!conn->was_welcomed && message->kind != MSG_ECHO) {
        not_for_you(core, conn, message);
        return;
    }
    switch (message->kind) {
    case MSG_ECHO:
        client_echo(core, conn, &message->ECHO);
        break;
    case MSG_SUBMIT:
        client_submit(core, conn, &message->SUBMIT);
        break;
    case MSG_TAKEN:
        client_taken(core, conn, &message->TAKEN);
        break;
    case MSG_CREDIT:
        client_credit(core, conn, &message->CREDIT);
        break;
    default:
        not_for_you(core, conn, message);
        break;
    }
}

static void take_worker(struct core *core, struct conn *conn, struct message *message)
{
    switch (message->kind) {
    case MSG_FINISHED:
        worker_finished(core, conn, &message->FINISHED);
        break;
    case MSG_RETURNED:
        worker_returned(core, conn, &message->RETURNED);
        break;
    case MSG_STARTED:
        worker_started(core, conn, &message->STARTED);
        break;
    case MSG_PROGRESS:
        worker_progress(core, conn, &message->PROGRESS);
        break;
    case MSG_CAPACITY:
        worker_capacity(core, conn, &message->CAPACITY);
        break;
    case MSG_OUTPUT:
        worker_output(core, conn, &message->OUTPUT);
        break;
    default:
        not_for_you(core, conn, message);
        break;
    }
}

/* A client that was challenged and not yet welcomed may only echo. One whose session has ended may still ask. */
static bool is_welcomed(const struct conn *conn)
{
    return conn->role == ROLE_OPERATOR || conn->was_welcomed;
}

static void take_message(struct core *core, struct conn *conn, struct message *message)
{
    if (message->kind == MSG_PING) {
        take_ping(core, conn, &message->PING);
    } else if (message->kind == MSG_PONG || message->kind == MSG_ERROR) {
        return; /* that it came is all it says */
    } else if (message->kind == MSG_BYE) {
        if (conn->worker != NULL) {
            worker_bye(core, conn->worker);
        }
        conn_part(core, conn);
    } else if (conn->role == ROLE_WORKER) {
        take_worker(core, conn, message);
    } else if (message->kind == MSG_QUERY && is_welcomed(conn)) {
        query_ask(core, conn, &message->QUERY);
    } else if (message->kind == MSG_CANCEL && is_welcomed(conn)) {
        query_cancel(core, conn, &message->CANCEL);
    } else if (message->kind == MSG_RETRY && is_welcomed(conn)) {
        query_retry(core, conn, &message->RETRY);
    } else if (message->kind == MSG_CLOSE && is_welcomed(conn)) {
        client_close(core, conn, &message->CLOSE);
    } else if (conn->role == ROLE_CLIENT) {
        take_client(core, conn, message);
    } else {
        not_for_you(core, conn, message);
    }
}

/* ---- frames ---- */

static void take_malformed(struct core *core, struct conn *conn, enum quern_err err, uint64_t unknown, const char *why)
{
    if (err == QUERN_UNSUPPORTED) {
        struct msg_ERROR error = {.code = QUERN_UNSUPPORTED,
                                  .kind = unknown <= UINT32_MAX ? unknown : 0,
                                  .text = bytes_text("this broker does not know messages of this kind")};
        core->counters.unknown_messages++;
        msg_ERROR_put(send_now(core, conn), &error);
        if (++conn->unknowns >= PEER_UNKNOWN_COUNT_MAX) {
            conn_kick(core, conn);
        }
        return;
    }
    conn_error(core, conn, QUERN_PROTOCOL, unknown, why);
    if (conn->errors >= PEER_ERROR_COUNT_MAX) {
        conn_kick(core, conn);
    }
}

/* Whom a frame is from: NULL if it is not to be read any further. */
static struct conn *frame_conn(struct core *core, uint64_t id, uint32_t generation)
{
    struct conn *conn = conn_find(core, id);
    if (conn == NULL) {
        conn = conn_open(core, id);
        conn->generation = generation;
    }
    if (conn->generation != generation || conn->is_denied) {
        core->counters.frames_stale++;
        return NULL;
    }
    conn->heard_ms = core->now;
    return conn;
}

static void deny_version(struct core *core, uint64_t id, uint32_t generation)
{
    struct conn *conn = frame_conn(core, id, generation);
    if (conn != NULL) {
        conn_deny(core, conn, QUERN_VERSION, NULL,
                  "this broker speaks protocol 1; the other side speaks a newer one: update the broker first");
    }
}

/* A stranger says HELLO first, or is sent away. */
static void take_first(struct core *core, struct conn *conn, const struct message *message, uint64_t kind)
{
    if (message != NULL && is_hello(message->kind)) {
        take_hello(core, conn, message);
        return;
    }
    struct msg_ERROR error = {
        .code = QUERN_NEED_HELLO, .kind = kind, .text = bytes_text("say HELLO first, on a new connection")};
    msg_ERROR_put(send_now(core, conn), &error);
    conn_kick(core, conn);
}

/* One message of a frame; false at the end of the frame. */
static bool take_next(struct core *core, struct conn *conn, struct cursor *cursor)
{
    struct message message = {0};
    uint64_t unknown = 0;
    const char *why = "malformed";
    enum quern_err err = message_next(cursor, &message, &unknown, &why);
    if (err == QUERN_END) {
        return false;
    }
    uint64_t kind = err == QUERN_UNSUPPORTED ? unknown : (uint64_t)message.kind;
    if (conn->role == ROLE_NONE && err != QUERN_PROTOCOL) {
        take_first(core, conn, err == QUERN_OK ? &message : NULL, kind <= UINT32_MAX ? kind : 0);
    } else if (err != QUERN_OK) {
        take_malformed(core, conn, err, kind, why);
    } else if (is_hello(message.kind)) {
        not_for_you(core, conn, &message);
    } else {
        take_message(core, conn, &message);
    }
    return true;
}

/* Up to the end, or to a submit that has no room in the open batch. */
void take_messages(struct core *core, uint64_t id, struct cursor *cursor)
{
    struct conn *conn = conn_find(core, id);
    uint32_t count = 0;
    while (conn != NULL && !conn->is_denied && !backlog_must_wait(core, conn, cursor) &&
           take_next(core, conn, cursor)) {
        conn = conn_find(core, id); /* a message may have ended its connection */
        if (conn != NULL && ++count > FRAME_MESSAGE_COUNT_MAX) {
            conn_error(core, conn, QUERN_PROTOCOL, 0, "a frame of too many messages");
            conn->errors = PEER_ERROR_COUNT_MAX;
        }
        if (conn != NULL && conn->errors >= PEER_ERROR_COUNT_MAX) {
            conn_kick(core, conn);
            return;
        }
    }
}

static void take_frame(struct core *core, uint64_t id, struct bytes frame)
{
    struct cursor cursor;
    uint32_t generation = 0;
    core->counters.frames++;
    enum quern_err err = frame_open(frame, &generation, &cursor);
    if (err == QUERN_VERSION) {
        deny_version(core, id, generation);
        return;
    }
    struct conn *conn = err == QUERN_OK ? frame_conn(core, id, generation) : conn_find(core, id);
    if (err != QUERN_OK) {
        conn = conn != NULL ? conn : conn_open(core, id);
        take_malformed(core, conn, err, 0, "these bytes are not a frame of the protocol");
        return;
    }
    if (conn != NULL && conn->backlog == NULL) {
        take_messages(core, id, &cursor);
        conn = conn_find(core, id);
    }
    if (conn != NULL && !conn->is_denied && !cursor_done(&cursor) && !backlog_add(core, conn, &cursor)) {
        core->counters.protocol_errors++;
        conn_deny(core, conn, QUERN_PROTOCOL, NULL, "SUBMIT goes on far beyond the credit that was given");
    }
}

/* ---- time ---- */

void core_sweep_by(struct core *core, int64_t mono_ms)
{
    core->sweep_ms = mono_ms < core->sweep_ms ? mono_ms : core->sweep_ms;
}

static void sweep(struct core *core)
{
    if (core->now < core->sweep_ms) {
        return;
    }
    core->sweep_ms = INT64_MAX;
    conn_sweep(core);
    workers_sweep(core);
    claims_sweep(core);
    sessions_sweep(core);
    outcomes_sweep(core);
    queries_sweep(core);
}

static int64_t wake_at(const struct core *core)
{
    int64_t wake = core->sweep_ms < core->soon_ms ? core->sweep_ms : core->soon_ms;
    int64_t due = tasks_due_wake(core);
    int64_t expiry = expiries_wake(core);
    wake = core->balance_ms < wake ? core->balance_ms : wake;
    wake = due < wake ? due : wake;
    wake = expiry < wake ? expiry : wake;
    wake = backlog_is_due(core) ? core->now : wake;
    if (core->open.lazy_since != 0 && core->open.lazy_since + (int64_t)core->limits.lazy_commit_ms < wake) {
        wake = core->open.lazy_since + (int64_t)core->limits.lazy_commit_ms;
    }
    if (core->ready > 0 && core->hold_until > core->now && core->hold_until < wake) {
        wake = core->hold_until;
    }
    return wake;
}

/* ---- the step ---- */

/* This process stood still (stopped, or its machine overloaded): who could not be heard is not blamed for it. Leases
 * only grow longer here, and workers go by their own clocks, so nothing is given away too early. */
static void excuse_absence(struct core *core, int64_t now)
{
    int64_t late_ms = core->expected_ms == INT64_MAX ? 0 : now - core->expected_ms;
    if (late_ms <= (int64_t)core->limits.heartbeat_ms) {
        return;
    }
    workers_excuse(core, late_ms);
    core->claims_until += core->claims_until != 0 ? late_ms : 0;
    for (struct conn *conn = core->conn_list; conn != NULL; conn = conn->next) {
        conn->heard_ms += late_ms;
    }
}

void core_step(struct core *core, const struct event *event, struct update *update)
{
    excuse_absence(core, event->mono_ms);
    core->update = update;
    core->parked_fetching = NULL;
    parked_look(core);
    core->now = event->mono_ms;
    core->wall = event->wall_ms;
    core->random = event->random[0];
    core->random_second = event->random[1];
    core->peer = event->peer;
    core->is_remote = event->is_remote;
    switch (event->kind) {
    case EVENT_FRAME:
        take_frame(core, event->conn, event->frame);
        break;
    case EVENT_CLOSED: {
        struct conn *conn = conn_find(core, event->conn);
        if (conn != NULL) {
            conn_close(core, conn);
        }
        break;
    }
    case EVENT_TICK:
        break;
    case EVENT_COMMITTED:
        batch_committed(core, event->batch);
        queries_committed(core);
        break;
    case EVENT_LOADED:
        if (event->loaded->kind == LOAD_OUTCOMES) {
            outcomes_loaded(core, event->loaded);
        } else if (event->loaded->kind == LOAD_TASKS) {
            parked_loaded(core, event->loaded);
        } else if (event->loaded->kind == LOAD_BACKUP) {
            backup_made(core, event->loaded);
        } else {
            query_loaded(core, event->loaded);
        }
        break;
    case EVENT_STATS:
        core->stats = *event->stats;
        core->disk_low = event->stats->disk_low;
        break;
    }
    backlog_run(core);
    expiries_due(core);
    tasks_wake_due(core);
    sweep(core);
    dispatch_all(core);
    balance_workers(core);
    conns_send_soon(core);
    update->wake_ms = wake_at(core);
    core->expected_ms = update->wake_ms > core->now ? update->wake_ms : core->now;
    core->update = NULL;
}

void core_stop(struct core *core, struct update *update)
{
    core->update = update;
    struct msg_BYE bye = {.code = QUERN_DRAINING};
    for (struct conn *conn = core->conn_list; conn != NULL; conn = conn->next) {
        msg_BYE_put(send_now(core, conn), &bye);
    }
    core->update = NULL;
}

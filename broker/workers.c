/*
 * workers.c: workers, their leases, and the attempts they hold. An attempt is known by its token; what counts is:
 *   - a token equal to that of a leased row held by this very worker process, or
 *   - a token newer than that of a row that is not leased (its lease row was lost with a crash).
 * Everything else is stale. Every report gets a receipt, after the commit of what it says; each receipt frees the
 * worker's copy. Who is blamed is decided in retry.c. Start reading at worker_hello and worker_finished.
 */
#include "broker/state.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/check.h"

/* ---- life ---- */

static void worker_set_texts(struct worker *worker, struct bytes name, struct bytes host, uint64_t pid)
{
    struct buf label = {0};
    free(worker->name);
    free(worker->host);
    free(worker->label);
    worker->name = bytes_dup_text(name);
    worker->host = bytes_dup_text(host);
    worker->pid = pid;
    buf_printf(&label, "%s:%llu", worker->host, (unsigned long long)pid);
    worker->label = bytes_dup_text(buf_bytes(&label));
    buf_fini(&label);
}

static struct worker *worker_add(struct core *core, uint64_t id, const struct uuid *instance)
{
    struct worker *worker = xcalloc(1, sizeof *worker);
    worker->id = id;
    worker->instance = *instance;
    worker->next = core->workers;
    core->workers = worker;
    core->worker_count++;
    map_put(&core->workers_by_id, id, worker);
    return worker;
}

struct worker *worker_restore(struct core *core, const struct worker_row *row)
{
    struct worker *worker = worker_add(core, row->id, &row->instance);
    worker_set_texts(worker, row->name, row->host, row->pid);
    return worker;
}

static struct worker *worker_of_instance(struct core *core, const struct uuid *instance)
{
    for (struct worker *worker = core->workers; worker != NULL; worker = worker->next) {
        if (uuid_equal(&worker->instance, instance)) {
            return worker;
        }
    }
    return NULL;
}

static struct worker *worker_new(struct core *core, const struct msg_HELLO_WORKER *hello)
{
    struct worker *worker = worker_add(core, core->meta.worker_next++, &hello->instance);
    worker_set_texts(worker, hello->name, hello->host, hello->pid);
    core->open.meta_changed = true;
    struct change *change = batch_single(core, CHANGE_WORKER);
    change->number = worker->id;
    change->worker = (struct worker_row){.id = worker->id,
                                         .name = arena_copy(&core->open.arena, hello->name),
                                         .instance = hello->instance,
                                         .host = arena_copy(&core->open.arena, hello->host),
                                         .pid = hello->pid};
    return worker;
}

static void names_free(struct bytes **names, size_t *count)
{
    for (size_t i = 0; i < *count; i++) {
        free((void *)(uintptr_t)(*names)[i].p);
    }
    free(*names);
    *names = NULL;
    *count = 0;
}

static void names_read(struct list list, struct bytes **names_out, size_t *count_out)
{
    struct item_name item;
    *names_out = xcalloc(list.count ? list.count : 1, sizeof **names_out);
    *count_out = 0;
    while (item_name_next(&list, &item)) {
        (*names_out)[(*count_out)++] = bytes_of(bytes_dup_text(item.name), item.name.n);
    }
}

static void worker_free(struct worker *worker)
{
    names_free(&worker->functions, &worker->function_count);
    names_free(&worker->queues, &worker->queue_count);
    free(worker->lanes);
    free(worker->name);
    free(worker->host);
    free(worker->label);
    free(worker);
}

/* Nothing is held and nobody is connected: the process is of the past. Rows that still name it keep its row. */
static void worker_forget(struct core *core, struct worker *worker)
{
    struct worker **at = &core->workers;
    while (*at != worker) {
        at = &(*at)->next;
    }
    *at = worker->next;
    core->worker_count--;
    map_remove(&core->workers_by_id, worker->id);
    for (size_t i = 0; i < core->hungry_count; i++) {
        if (core->hungry[i] == worker) {
            core->hungry[i] = core->hungry[--core->hungry_count];
            break;
        }
    }
    worker_free(worker);
}

static void worker_withdraw_unsent(struct core *core, struct worker *worker);

void worker_left(struct core *core, struct worker *worker)
{
    worker_withdraw_unsent(core, worker);
    worker->conn = NULL;
    worker->is_welcomed = false;
    claims_left(core, worker);
    lanes_unserve(core, worker);
    core_sweep_by(core, worker->lease_until);
}

static void worker_feed(struct core *core, struct worker *worker)
{
    if (!worker->is_hungry) {
        ARRAY_RESERVE(core->hungry, core->hungry_count, core->hungry_cap);
        core->hungry[core->hungry_count++] = worker;
        worker->is_hungry = true;
    }
}

/* ---- what it holds ---- */

void worker_hold(struct core *core, struct worker *worker, struct task *task)
{
    (void)core;
    task->worker = worker;
    task->worker_id = worker->id;
    task->prev = NULL;
    task->next = worker->held;
    if (task->next != NULL) {
        task->next->prev = task;
    }
    worker->held = task;
    worker->held_count++;
    worker->held_bytes += task->args_size;
    task->call->lane->leased++;
}

void worker_drop(struct core *core, struct task *task)
{
    struct worker *worker = task->worker;
    if (task->prev != NULL) {
        task->prev->next = task->next;
    } else {
        worker->held = task->next;
    }
    if (task->next != NULL) {
        task->next->prev = task->prev;
    }
    task->prev = task->next = NULL;
    task->is_unsent = false;
    worker->held_count--;
    worker->held_bytes -= task->args_size;
    task->call->lane->leased--;
    worker_feed(core, worker);
}

static bool is_held(const struct task *task)
{
    return task->state == TASK_LEASED || task->state == TASK_RUNNING;
}

/* Could a former life of the broker have given it? This one knows of all it gave; and a number that could not rise any
 * more would be given twice. */
static bool token_was_given(const struct core *core, struct token token)
{
    return token.epoch < core->epoch && token.attempt <= ATTEMPT_NUMBER_MAX;
}

/* Does a report of this worker with this token count? An attempt whose row lost its lease is taken over first. */
static bool token_counts(struct core *core, struct worker *worker, struct task *task, struct token token)
{
    if (task == NULL) {
        return false;
    }
    if (is_held(task)) {
        return task->worker == worker && token_compare(task_token(task), token) == 0;
    }
    if (token_compare(token, task_token(task)) <= 0 || !token_was_given(core, token)) {
        return false;
    }
    task_detach(core, task);
    task->epoch = token.epoch;
    task->attempt = token.attempt;
    worker_hold(core, worker, task);
    task_move(core, task, TASK_LEASED);
    batch_task(core, task, true);
    core->counters.adopted++;
    return true;
}

/* ---- how attempts end ---- */

static void cancel_now(struct core *core, struct task *task, const char *message)
{
    struct ending ending = {.state = TASK_CANCELLED, .message = bytes_text(message)};
    if (is_held(task)) {
        ending.worker = bytes_text(task->worker->label);
    }
    task_finish(core, task, &ending);
}

/* A cancel that waited for the attempt's end, or the end of a session that is cancelled as a whole. */
static bool is_unwanted(const struct task *task)
{
    return task->wants_cancel || task->session->is_cancelling;
}

void attempt_returned(struct core *core, struct task *task)
{
    core->counters.returned++;
    if (is_unwanted(task)) {
        cancel_now(core, task, "cancelled before it started");
        return;
    }
    task_make_ready(core, task);
    batch_task(core, task, true);
}

/* What still waits for its lease row is ours to take back: a worker that drains leaves once a PING behind its CAPACITY
 * 0 is answered, and to one whose connection is gone it would never be sent. */
static void worker_withdraw_unsent(struct core *core, struct worker *worker)
{
    struct task *next;
    for (struct task *task = worker->held; task != NULL; task = next) {
        next = task->next;
        if (task->is_unsent) {
            attempt_returned(core, task);
        }
    }
}

static void failure_note(struct core *core, const struct task *task, const struct ending *ending)
{
    struct arena *arena = &core->open.arena;
    struct change *change = batch_single(core, CHANGE_FAILURE);
    change->number = task->id;
    change->failure = (struct failure_row){.task = task->id,
                                           .attempt = task->attempt,
                                           .at = core->wall,
                                           .worker = arena_copy(arena, ending->worker),
                                           .cause = ending->cause,
                                           .signal = ending->signal,
                                           .exit_status = ending->exit_status,
                                           .kind = arena_copy(arena, ending->kind),
                                           .message = arena_copy(arena, ending->message),
                                           .detail = arena_copy(arena, ending->detail)};
}

static void fail_for_good(struct core *core, struct task *task, const struct ending *ending, enum cause cause)
{
    struct ending final = *ending;
    struct buf text = {0};
    final.state = TASK_FAILED;
    final.cause = cause;
    if (cause == CAUSE_QUARANTINED) {
        buf_printf(&text, "its slot died %u times; last: %.*s", task->crashes, (int)ending->message.n,
                   ending->message.n ? (const char *)ending->message.p : "");
        text.n = text.n > ERROR_MESSAGE_SIZE_MAX ? ERROR_MESSAGE_SIZE_MAX : text.n;
        final.message = buf_bytes(&text);
    }
    task_finish(core, task, &final);
    buf_fini(&text);
}

void attempt_failed(struct core *core, struct task *task, const struct ending *ending)
{
    bool by_attempt = ending->cause != CAUSE_CRASHED && ending->cause != CAUSE_LOST;
    task->attempts += by_attempt ? 1 : 0;
    task->crashes += ending->cause == CAUSE_CRASHED ? 1 : 0;
    task->losses += ending->cause == CAUSE_LOST ? 1 : 0;
    failure_note(core, task, ending);
    if (is_unwanted(task)) {
        cancel_now(core, task, "cancelled; its last attempt had failed");
        return;
    }
    struct decision decision =
        retry_decide(&task->call->option, task->attempts, task->crashes, task->losses, ending->cause, core->random);
    if (!decision.again) {
        fail_for_good(core, task, ending, decision.cause);
        return;
    }
    core->counters.retried++;
    if (decision.delay_ms > 0) {
        task_wait_until(core, task, TASK_BACKOFF, decision.delay_ms);
    } else {
        task_make_ready(core, task);
    }
    batch_task(core, task, false);
}

/* how: printf-less sentence about the worker. An at_most_once task whose dispatch never left was not lost. */
void attempt_lost(struct core *core, struct task *task, const char *how)
{
    if (task->is_unsent) {
        attempt_returned(core, task);
        return;
    }
    char text[ID_TEXT_SIZE];
    char message[512];
    snprintf(message, sizeof message, "worker %.200s (%.200s) %s while it held attempt %u of task %s",
             task->worker->name, task->worker->label, how, task->attempt, id_text(task->id, text));
    struct ending ending = {.state = TASK_FAILED,
                            .cause = CAUSE_LOST,
                            .message = bytes_text(message),
                            .worker = bytes_text(task->worker->label),
                            .started = task->started};
    core->counters.lost++;
    attempt_failed(core, task, &ending);
}

static void worker_lose_all(struct core *core, struct worker *worker, const char *how)
{
    while (worker->held != NULL) {
        attempt_lost(core, worker->held, how);
    }
}

void task_revoke(struct core *core, struct task *task, bool force)
{
    if (task->is_unsent) {
        attempt_returned(core, task); /* still ours: there is nothing to call back */
        return;
    }
    if (task->worker->conn == NULL || !task->worker->is_welcomed) {
        return; /* asked again when the worker is back */
    }
    struct message head = {.kind = MSG_REVOKE};
    struct token token = task_token(task);
    struct item_revoke item = {.task = token.task, .epoch = token.epoch, .attempt = token.attempt, .force = force};
    item_revoke_put(run_now(core, task->worker->conn, &head, NULL), &item);
    run_added(core, task->worker->conn, false);
}

/* ---- HELLO ---- */

static void drop_attempt(struct core *core, struct conn *conn, struct token token)
{
    struct message head = {.kind = MSG_DROP};
    struct item_token item = {.task = token.task, .epoch = token.epoch, .attempt = token.attempt};
    item_token_put(run_gated(core, conn, &head, NULL), &item);
    run_added(core, conn, true);
}

static void task_mark_running(struct core *core, struct task *task)
{
    if (task->state == TASK_LEASED) {
        task_move(core, task, TASK_RUNNING);
        task->started = task->started ? task->started : core->wall;
        batch_task(core, task, true);
    }
}

/* What this very process holds by our own record, and lists: it goes on. */
static void inventory_mark(struct core *core, struct worker *worker, struct list list)
{
    struct item_held held;
    while (item_held_next(&list, &held)) {
        struct task *task = task_find(core, held.task);
        struct token token = {held.task, (uint32_t)held.epoch, (uint32_t)held.attempt};
        if (task != NULL && is_held(task) && token_counts(core, worker, task, token)) {
            task->is_listed = true;
        }
    }
}

/* What this very process does not list it never started: back, without blame. */
static void inventory_settle(struct core *core, struct worker *worker)
{
    struct task *next;
    for (struct task *task = worker->held; task != NULL; task = next) {
        next = task->next;
        if (task->is_listed) {
            task->is_listed = false;
        } else {
            attempt_returned(core, task);
        }
    }
}

/* What it lists, against what is on record by now. Finished ones are reported again right after. */
static void inventory_read(struct core *core, struct worker *worker, struct conn *conn, struct list list)
{
    struct item_held held;
    while (item_held_next(&list, &held)) {
        struct task *task = task_find(core, held.task);
        struct token token = {held.task, (uint32_t)held.epoch, (uint32_t)held.attempt};
        if (task == NULL && claim_keep(core, worker, &held)) {
            continue;
        }
        if (!token_counts(core, worker, task, token)) {
            if (held.state != HELD_FINISHED) {
                drop_attempt(core, conn, token);
            }
        } else if (held.state == HELD_RUNNING) {
            task_mark_running(core, task);
        }
    }
}

/* A former process of this worker is dead: its name was held by a lock. What it held may have run. */
static void former_lose(struct core *core, const struct worker *worker)
{
    struct worker *next;
    for (struct worker *former = core->workers; former != NULL; former = next) {
        next = former->next;
        if (former == worker || strcmp(former->name, worker->name) != 0) {
            continue;
        }
        worker_lose_all(core, former, "was started anew");
        worker_forget(core, former);
    }
}

static void welcome(struct core *core, struct conn *conn, struct worker *worker)
{
    struct msg_WELCOME_WORKER message = {.store = core->store,
                                         .epoch = core->epoch,
                                         .lease_ms = core->limits.lease_ms,
                                         .heartbeat_ms = core->limits.heartbeat_ms,
                                         .dead_ms = core->limits.dead_ms};
    msg_WELCOME_WORKER_put(send_gated(core, conn), &message);
    worker->welcomed_batch = core->open.number;
    worker->is_welcomed = false;
    core->welcome_batch = core->open.number;
}

static bool hello_is_late(struct core *core, struct conn *conn, struct worker *worker)
{
    if (worker->generation >= conn->generation) {
        core->counters.frames_stale++;
        conn_kick(core, conn);
        return true;
    }
    if (worker->conn != NULL) {
        conn_kick(core, worker->conn);
    }
    return false;
}

static void worker_take_facts(struct core *core, struct worker *worker, const struct msg_HELLO_WORKER *hello)
{
    names_free(&worker->functions, &worker->function_count);
    names_free(&worker->queues, &worker->queue_count);
    names_read(hello->functions, &worker->functions, &worker->function_count);
    names_read(hello->queues, &worker->queues, &worker->queue_count);
    worker->slots = hello->slots;
    worker->capacity_count = hello->capacity_count;
    worker->capacity_bytes = hello->capacity_bytes;
    worker->lease_until = core->now + (int64_t)core->limits.lease_ms;
    core_sweep_by(core, worker->lease_until);
}

/* Another process of that name is connected: it is alive, so this one is on another host, or a HELLO of the dead. */
static const struct worker *namesake_connected(const struct core *core, const struct msg_HELLO_WORKER *hello)
{
    for (const struct worker *worker = core->workers; worker != NULL; worker = worker->next) {
        if (worker->conn != NULL && !uuid_equal(&worker->instance, &hello->instance) &&
            bytes_is(hello->name, worker->name)) {
            return worker;
        }
    }
    return NULL;
}

static void deny_name(struct core *core, struct conn *conn, const struct worker *namesake)
{
    char text[512];
    snprintf(text, sizeof text, "the worker name %.200s is in use by %.200s; give this worker another one (--name)",
             namesake->name, namesake->label);
    conn_deny(core, conn, QUERN_IN_USE, namesake->label, text);
}

void worker_hello(struct core *core, struct conn *conn, const struct msg_HELLO_WORKER *hello)
{
    struct worker *worker = worker_of_instance(core, &hello->instance);
    const struct worker *namesake = namesake_connected(core, hello);
    if (hello->functions.count > WORKER_FUNCTION_COUNT_MAX || hello->queues.count > WORKER_QUEUE_COUNT_MAX ||
        hello->held.count > WORKER_HELD_COUNT_MAX) {
        conn_deny(core, conn, QUERN_TOO_BIG, NULL, "a worker lists more functions, queues or attempts than allowed");
        return;
    }
    if (namesake != NULL) {
        deny_name(core, conn, namesake);
        return;
    }
    if (worker == NULL && core->worker_count >= WORKER_COUNT_MAX) {
        conn_deny(core, conn, QUERN_FULL, NULL, "the broker serves as many workers as it can");
        return;
    }
    if (worker == NULL) {
        worker = worker_new(core, hello);
    } else if (hello_is_late(core, conn, worker)) {
        return;
    }
    worker->conn = conn;
    worker->generation = conn->generation;
    conn->worker = worker;
    worker_take_facts(core, worker, hello);
    former_lose(core, worker);
    welcome(core, conn, worker);
    if (uuid_is_zero(&hello->store) || uuid_equal(&hello->store, &core->store)) {
        inventory_mark(core, worker, hello->held);
        inventory_settle(core, worker);
        inventory_read(core, worker, conn, hello->held);
    } else { /* it is about to drop what it ran for another store: nobody knows how far that got */
        worker_lose_all(core, worker, "belongs to another store");
    }
    lanes_serve(core, worker);
    worker_feed(core, worker);
}

/* WELCOME is on its way: from here on the worker can be sent to. */
void worker_welcomed(struct core *core, uint64_t batch)
{
    if (core->welcome_batch < batch) {
        return; /* nobody has been welcomed since */
    }
    for (struct worker *worker = core->workers; worker != NULL; worker = worker->next) {
        if (worker->conn == NULL || worker->is_welcomed || worker->welcomed_batch > batch) {
            continue;
        }
        worker->is_welcomed = true;
        worker_feed(core, worker);
        struct task *next;
        for (struct task *task = worker->held; task != NULL; task = next) { /* cancels that waited for it */
            next = task->next;
            if (task->wants_cancel && !task->is_unsent) {
                task_revoke(core, task, task->wants_kill);
            }
        }
    }
}

/* ---- what it reports ---- */

static void receipt_send(struct core *core, struct conn *conn, struct token token, enum receipt_verdict verdict)
{
    struct message head = {.kind = MSG_RECEIPT};
    struct item_receipt item = {.task = token.task, .epoch = token.epoch, .attempt = token.attempt, .verdict = verdict};
    item_receipt_put(run_gated(core, conn, &head, NULL), &item);
    run_added(core, conn, true);
}

static void finish_by(struct core *core, struct worker *worker, struct task *task, const struct item_finished *item)
{
    char label[WORKER_NAME_SIZE_MAX + 1];
    snprintf(label, sizeof label, "%.200s:%llu", worker->host, (unsigned long long)item->pid);
    struct ending ending = {.state = item->state == FINISHED_DONE ? TASK_DONE : TASK_FAILED,
                            .cause = item->state == FINISHED_DONE ? CAUSE_NONE : (enum cause)item->cause,
                            .result = item->result,
                            .kind = item->kind,
                            .message = item->message,
                            .detail = item->detail,
                            .worker = bytes_text(label),
                            .signal = (uint32_t)item->signal,
                            .exit_status = (uint32_t)item->exit_status,
                            .started = (int64_t)item->started,
                            .run_us = item->run_us};
    if (item->state == FINISHED_KILLED) {
        ending.state = TASK_CANCELLED;
        ending.cause = CAUSE_NONE;
        task_finish(core, task, &ending);
    } else if (ending.state == TASK_DONE) {
        task_finish(core, task, &ending);
    } else {
        if (ending.cause == CAUSE_NONE || ending.cause > CAUSE_UNENCODABLE || ending.cause == CAUSE_QUARANTINED ||
            ending.cause == CAUSE_EXPIRED) {
            ending.cause = CAUSE_ERROR; /* the others are for the broker to say */
        }
        attempt_failed(core, task, &ending);
    }
}

void worker_finished(struct core *core, struct conn *conn, struct msg_FINISHED *finished)
{
    struct item_finished item;
    while (conn->worker != NULL && item_finished_next(&finished->items, &item)) {
        struct token token = {item.task, (uint32_t)item.epoch, (uint32_t)item.attempt};
        struct task *task = task_find(core, item.task);
        enum receipt_verdict verdict = RECEIPT_RECORDED;
        if (task == NULL && claim_finish(core, conn->worker, &item)) {
            continue; /* its receipt comes when its submit has come, or is given up */
        }
        if (token_counts(core, conn->worker, task, token)) {
            finish_by(core, conn->worker, task, &item);
        } else {
            verdict = task != NULL || outcome_find(core, item.task) != NULL ? RECEIPT_STALE : RECEIPT_UNKNOWN;
            core->counters.finished_stale++;
        }
        receipt_send(core, conn, token, verdict);
    }
}

void attempt_adopt(struct core *core, struct worker *worker, struct task *task, struct token token, bool is_running,
                   struct bytes finished)
{
    struct list list = {.count = finished.n > 0 ? 1 : 0, .items = finished};
    struct item_finished item;
    if (!token_counts(core, worker, task, token)) {
        attempt_disown(core, worker, token, finished.n > 0);
        return;
    }
    if (is_running) {
        task_mark_running(core, task);
    }
    if (item_finished_next(&list, &item)) {
        finish_by(core, worker, task, &item);
        receipt_send(core, worker->conn, token, RECEIPT_RECORDED);
    }
}

void attempt_disown(struct core *core, struct worker *worker, struct token token, bool is_finished)
{
    if (is_finished) {
        receipt_send(core, worker->conn, token, RECEIPT_UNKNOWN);
    } else {
        drop_attempt(core, worker->conn, token);
    }
}

void worker_returned(struct core *core, struct conn *conn, struct msg_RETURNED *returned)
{
    struct item_token item;
    while (item_token_next(&returned->items, &item)) {
        struct token token = {item.task, (uint32_t)item.epoch, (uint32_t)item.attempt};
        struct task *task = task_find(core, item.task);
        if (task == NULL) {
            claim_return(core, conn->worker, token);
        } else if (task->state == TASK_LEASED && task->worker == conn->worker &&
                   token_compare(task_token(task), token) == 0) {
            attempt_returned(core, task);
        }
    }
}

void worker_started(struct core *core, struct conn *conn, struct msg_STARTED *started)
{
    struct item_started item;
    while (item_started_next(&started->items, &item)) {
        struct token token = {item.task, (uint32_t)item.epoch, (uint32_t)item.attempt};
        struct task *task = task_find(core, item.task);
        if (task == NULL || !is_held(task) || task->worker != conn->worker ||
            token_compare(task_token(task), token) != 0) {
            continue;
        }
        task_mark_running(core, task);
        if (task->wants_cancel && !task->wants_kill) {
            task->wants_cancel = false;
            query_task_not_cancelled(core, task->id, QUERN_RUNNING);
        }
    }
}

void worker_progress(struct core *core, struct conn *conn, struct msg_PROGRESS *progress)
{
    struct item_progress item;
    while (item_progress_next(&progress->items, &item)) {
        struct token token = {item.task, (uint32_t)item.epoch, (uint32_t)item.attempt};
        struct task *task = task_find(core, item.task);
        if (task == NULL || !is_held(task) || task->worker != conn->worker ||
            token_compare(task_token(task), token) != 0) {
            continue;
        }
        if (task->progress == NULL) {
            task->progress = xcalloc(1, sizeof *task->progress);
        }
        task->progress->fraction = item.fraction;
        snprintf(task->progress->text, sizeof task->progress->text, "%.*s", (int)item.text.n,
                 item.text.n ? (const char *)item.text.p : "");
    }
}

void worker_renew(struct core *core, struct worker *worker)
{
    bool was_over = worker->lease_until <= core->now;
    worker->lease_until = core->now + (int64_t)core->limits.lease_ms;
    if (was_over) {
        worker_feed(core, worker);
    }
}

void worker_capacity(struct core *core, struct conn *conn, const struct msg_CAPACITY *capacity)
{
    conn->worker->capacity_count = capacity->count;
    conn->worker->capacity_bytes = capacity->bytes;
    if (capacity->count == 0) {
        worker_withdraw_unsent(core, conn->worker);
    }
    worker_feed(core, conn->worker);
}

/* ---- leases ---- */

void workers_sweep(struct core *core)
{
    struct worker *next;
    for (struct worker *worker = core->workers; worker != NULL; worker = next) {
        next = worker->next;
        if (worker->lease_until <= core->now) {
            worker_lose_all(core, worker, "did not renew its lease");
            if (worker->conn == NULL) {
                worker_forget(core, worker);
            }
        } else {
            core_sweep_by(core, worker->lease_until);
        }
    }
}

void workers_fini(struct core *core)
{
    while (core->workers != NULL) {
        struct worker *next = core->workers->next;
        worker_free(core->workers);
        core->workers = next;
    }
    free(core->hungry);
    map_fini(&core->workers_by_id);
}

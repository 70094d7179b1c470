/*
 * attempts.c: what workers say of the attempts they hold, and what becomes of those. An attempt is known by its token;
 * what counts is:
 *   - a token equal to that of a leased row held by this very worker process, or
 *   - a token newer than that of a row that is not leased (its lease row was lost with a crash).
 * Everything else is stale. Every report gets a receipt, after the commit of what it says; each receipt frees the
 * worker's copy. Who is blamed is decided in retry.c. Must not know names, capacities or leases. Start reading at
 * token_counts and worker_finished.
 */
#include "broker/state.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/check.h"
#include "common/output.h"

/* ---- tokens ---- */

static bool is_held(const struct task *task)
{
    return task->state == TASK_LEASED || task->state == TASK_RUNNING;
}

static bool is_of_attempt(const struct task *task, struct token token)
{
    return token.epoch == task->epoch && token.attempt == task->attempt;
}

/* Could a former life of the broker have given it? This one knows of all it gave; the first attempt has number 1; and a
 * number that could not rise any more would be given twice. */
static bool token_was_given(const struct core *core, struct token token)
{
    return token.epoch < core->epoch && token.attempt > 0 && token.attempt <= ATTEMPT_NUMBER_MAX;
}

/* Does a report of this worker with this token count? An attempt whose row lost its lease is taken over first. */
static bool token_counts(struct core *core, struct worker *worker, struct task *task, struct token token)
{
    if (task == NULL) {
        return false;
    }
    if (is_held(task)) {
        return task->worker == worker && is_of_attempt(task, token);
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
    if (expiry_is_over(task)) {
        task_expire(core, task, bytes_of(NULL, 0));
        return;
    }
    task_make_ready(core, task);
    batch_task(core, task, true);
}

/* is_last: the outcome has what it wrote. */
static void failure_note(struct core *core, const struct task *task, const struct ending *ending, bool is_last)
{
    struct arena *arena = &core->open.arena;
    if (task->session->is_volatile) {
        return;
    }
    struct change *change = batch_single(core, CHANGE_FAILURE);
    change->number = task->id;
    change->failure = (struct failure_row){.task = task->id,
                                           .attempt = task->attempt,
                                           .at = core->wall,
                                           .worker = arena_copy(arena, ending->worker),
                                           .cause = ending->cause,
                                           .signal = ending->signal,
                                           .exit_status = ending->exit_status,
                                           .run_us = ending->run_us,
                                           .cpu_us = ending->cpu_us,
                                           .peak = ending->peak,
                                           .kind = arena_copy(arena, ending->kind),
                                           .message = arena_copy(arena, ending->message),
                                           .detail = arena_copy(arena, ending->detail),
                                           .report = arena_copy(arena, ending->report),
                                           .output = is_last ? bytes_of(NULL, 0) : arena_copy(arena, ending->output)};
    core->open.bytes += ending->report.n + change->failure.output.n;
}

/* What a worker says of a dead slot names the task first, for logs. */
static struct bytes message_without_id(const struct task *task, struct bytes message)
{
    char own[ID_TEXT_SIZE + 8];
    char id[ID_TEXT_SIZE];
    size_t size = (size_t)snprintf(own, sizeof own, "task %s: ", id_text(task->id, id));
    bool has_id = message.n >= size && memcmp(message.p, own, size) == 0;
    return has_id ? bytes_of(message.p + size, message.n - size) : message;
}

static void fail_for_good(struct core *core, struct task *task, const struct ending *ending, enum cause cause)
{
    struct ending final = *ending;
    struct buf text = {0};
    final.state = TASK_FAILED;
    final.cause = cause;
    if (cause == CAUSE_QUARANTINED) {
        struct bytes last = message_without_id(task, ending->message);
        buf_printf(&text, "its slot died %u times; last: %.*s", task->crashes, (int)last.n,
                   last.n ? (const char *)last.p : "");
        text.n = text.n > ERROR_MESSAGE_SIZE_MAX ? ERROR_MESSAGE_SIZE_MAX : text.n;
        final.message = buf_bytes(&text);
    }
    task_finish(core, task, &final);
    buf_fini(&text);
}

void attempt_failed(struct core *core, struct task *task, const struct ending *ending)
{
    enum blame blame = retry_blame(ending->cause, ending->signal);
    task->attempts += blame == BLAME_ATTEMPT ? 1 : 0;
    task->crashes += blame == BLAME_CRASH ? 1 : 0;
    task->losses += blame == BLAME_LOSS ? 1 : 0;
    struct decision decision = retry_decide(&task->call->option, task->attempts, task->crashes, task->losses, blame,
                                            ending->cause, retry_chance(core->random, task->id));
    failure_note(core, task, ending, !decision.again && !is_unwanted(task));
    bool is_start_unknown = ending->cause == CAUSE_LOST && task->state == TASK_LEASED;
    if (!is_start_unknown) {
        expiry_stop(core, task); /* it did start */
    }
    if (is_unwanted(task)) {
        cancel_now(core, task, "cancelled; its last attempt had failed");
        return;
    }
    if (is_start_unknown && expiry_is_over(task) && !task->call->option.at_most_once) {
        task_expire(core, task, ending->message);
        return;
    }
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

void task_revoke(struct core *core, struct task *task, bool force)
{
    if (task->is_unsent) {
        attempt_returned(core, task); /* still ours: there is nothing to call back */
        return;
    }
    if (task->worker->conn == NULL || !task->worker->is_welcomed) {
        return; /* asked again when the worker is back */
    }
    static const struct message head = {.kind = MSG_REVOKE};
    struct token token = task_token(task);
    struct item_revoke item = {.task = token.task, .epoch = token.epoch, .attempt = token.attempt, .force = force};
    struct outlet *run = run_now(core, task->worker->conn, &head, NULL);
    item_revoke_put(run->frame, &item);
    run_added(run);
}

/* ---- what HELLO lists ---- */

static void drop_attempt(struct core *core, struct conn *conn, struct token token)
{
    static const struct message head = {.kind = MSG_DROP};
    struct item_token item = {.task = token.task, .epoch = token.epoch, .attempt = token.attempt};
    struct outlet *run = run_gated(core, conn, &head, NULL);
    item_token_put(run->frame, &item);
    run_added(run);
}

static void task_mark_running(struct core *core, struct task *task)
{
    if (task->state == TASK_LEASED) {
        task_move(core, task, TASK_RUNNING);
        expiry_stop(core, task);
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
            task->is_called_back = false; /* it may not have been heard */
        }
    }
}

/* What this very process does not list it never started: back, without blame. If it has said that it runs it, one of
 * both is wrong, and what may run at most once is not risked on that. */
static void inventory_settle(struct core *core, struct worker *worker)
{
    struct task *next;
    for (struct task *task = worker->held; task != NULL; task = next) {
        next = task->next;
        if (task->is_listed) {
            task->is_listed = false;
        } else if (task->state == TASK_RUNNING && task->call->option.at_most_once) {
            attempt_lost(core, task, "no longer knew of it");
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

void attempts_listed(struct core *core, struct worker *worker, struct conn *conn, struct list list)
{
    inventory_mark(core, worker, list);
    inventory_settle(core, worker);
    inventory_read(core, worker, conn, list);
}

/* ---- what a worker reports ---- */

/* gated: what it says is on its way to the disk, or may be. */
static void receipt_send(struct core *core, struct conn *conn, struct token token, enum receipt_verdict verdict,
                         bool gated)
{
    static const struct message head = {.kind = MSG_RECEIPT};
    struct item_receipt item = {.task = token.task, .epoch = token.epoch, .attempt = token.attempt, .verdict = verdict};
    struct outlet *run = gated ? run_gated(core, conn, &head, NULL) : run_now(core, conn, &head, NULL);
    item_receipt_put_after(run->frame, &item, run->after);
    run_added(run);
}

/* Where it ran; mostly where the one before ran. */
static struct bytes slot_label(struct worker *worker, uint64_t pid)
{
    if (worker->slot_label_size == 0 || worker->slot_pid != pid) {
        worker->slot_label_size = (size_t)snprintf(worker->slot_label, sizeof worker->slot_label, "%.200s:%llu",
                                                   worker->host, (unsigned long long)pid);
        worker->slot_pid = pid;
    }
    return bytes_of(worker->slot_label, worker->slot_label_size);
}

/* The worker waits for none: one that would go alone goes along with the next task. */
static void receipt_send_soon(struct core *core, struct conn *conn, struct token token, enum receipt_verdict verdict)
{
    static const struct message head = {.kind = MSG_RECEIPT};
    struct item_receipt item = {.task = token.task, .epoch = token.epoch, .attempt = token.attempt, .verdict = verdict};
    struct buf *to = send_soon(core, conn);
    struct run run;
    run_open(&run, to, &head);
    item_receipt_put(to, &item);
    run.count = 1;
    run_close(&run);
}

static void finish_by(struct core *core, struct worker *worker, struct task *task, const struct item_finished *item)
{
    struct output_reader reader;
    bool has_output = item->output.n > 0 && output_open(&reader, item->output);
    struct ending ending = {.state = item->state == FINISHED_DONE ? TASK_DONE : TASK_FAILED,
                            .cause = item->state == FINISHED_DONE ? CAUSE_NONE : (enum cause)item->cause,
                            .result = item->result,
                            .kind = item->kind,
                            .message = item->message,
                            .detail = item->detail,
                            .report = item->report,
                            .output = has_output ? item->output : bytes_of(NULL, 0),
                            .worker = slot_label(worker, item->pid),
                            .signal = (uint32_t)item->signal,
                            .exit_status = (uint32_t)item->exit_status,
                            .started = (int64_t)item->started,
                            .run_us = item->run_us,
                            .cpu_us = item->cpu_us,
                            .peak = item->peak};
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

/* Of a task that nobody knows it cannot be said: the disk may. */
static bool is_of_volatile(const struct core *core, const struct task *task, uint64_t id)
{
    const struct outcome *outcome = task != NULL ? NULL : outcome_find(core, id);
    const struct session *session = task != NULL ? task->session : outcome != NULL ? outcome->session : NULL;
    return session != NULL && session->is_volatile;
}

/* Neighbours finish one behind the other, mostly, and came so long ago that their memory is far away. */
#define FETCH_TASK_AHEAD 4u

void worker_finished(struct core *core, struct conn *conn, struct msg_FINISHED *finished)
{
    struct item_finished item;
    bool is_alone = finished->items.count == 1;
    while (conn->worker != NULL && item_finished_next(&finished->items, &item)) {
        struct token token = {item.task, (uint32_t)item.epoch, (uint32_t)item.attempt};
        struct task *task = task_find(core, item.task);
        task_fetch(core, item.task + FETCH_TASK_AHEAD);
        enum receipt_verdict verdict = RECEIPT_RECORDED;
        if (task == NULL && claim_finish(core, conn->worker, &item)) {
            continue; /* its receipt comes when its submit has come, or is given up */
        }
        bool gated = !is_of_volatile(core, task, item.task);
        if (token_counts(core, conn->worker, task, token)) {
            finish_by(core, conn->worker, task, &item);
        } else {
            verdict = task != NULL || outcome_find(core, item.task) != NULL ? RECEIPT_STALE : RECEIPT_UNKNOWN;
            core->counters.finished_stale++;
        }
        if (is_alone && !gated) {
            receipt_send_soon(core, conn, token, verdict);
        } else {
            receipt_send(core, conn, token, verdict, gated);
        }
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
        receipt_send(core, worker->conn, token, RECEIPT_RECORDED, true);
    }
}

void attempt_disown(struct core *core, struct worker *worker, struct token token, bool is_finished)
{
    if (is_finished) {
        receipt_send(core, worker->conn, token, RECEIPT_UNKNOWN, true);
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
        } else if (task->state == TASK_LEASED && task->worker == conn->worker && is_of_attempt(task, token)) {
            attempt_returned(core, task);
        }
    }
}

/* The task whose attempt this very worker holds; NULL: it does not, or not any more. */
static struct task *task_of_attempt(const struct core *core, const struct conn *conn, struct token token)
{
    struct task *task = task_find(core, token.task);
    bool is_its = task != NULL && is_held(task) && task->worker == conn->worker && is_of_attempt(task, token);
    return is_its ? task : NULL;
}

void worker_started(struct core *core, struct conn *conn, struct msg_STARTED *started)
{
    struct item_started item;
    while (item_started_next(&started->items, &item)) {
        struct token token = {item.task, (uint32_t)item.epoch, (uint32_t)item.attempt};
        struct task *task = task_of_attempt(core, conn, token);
        if (task == NULL) {
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
        struct task *task = task_of_attempt(core, conn, token);
        if (task == NULL) {
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

/*
 * workers.c: workers: their names, what they can take, their leases, the list of what each holds. Must not know what
 * becomes of an attempt (attempts.c). Start reading at worker_hello and workers_sweep.
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
    worker->slot_label_size = 0;
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
    worker->is_unheard = true;
    core->unheard_count++;
    return worker;
}

/* Its row was on disk before anything was dispatched to it: when all on record have said what they hold, or are known
 * to be dead, nobody else can come with an attempt. */
static void worker_was_heard(struct core *core, struct worker *worker)
{
    if (worker->is_unheard && --core->unheard_count == 0) {
        core->hold_until = core->now;
    }
    worker->is_unheard = false;
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
    free(worker->memory);
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
    worker_was_heard(core, worker);
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
    task->is_called_back = false;
    worker->held_count--;
    worker->held_bytes -= task->args_size;
    task->call->lane->leased--;
    worker_feed(core, worker);
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

static void worker_lose_all(struct core *core, struct worker *worker, const char *how)
{
    while (worker->held != NULL) {
        attempt_lost(core, worker->held, how);
    }
}

/* ---- HELLO ---- */

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
    struct msg_WELCOME_WORKER message = {.take_short = true,
                                         .store = core->store,
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
    worker->nested_count = 0; /* CAPACITY says it again, */
    worker->scarce = 0;       /* and this */
    free(worker->memory);
    worker->memory = hello->memory.n > 0 ? bytes_dup_text(hello->memory) : NULL;
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
        attempts_listed(core, worker, conn, hello->held);
    } else { /* it is about to drop what it ran for another store: nobody knows how far that got */
        worker_lose_all(core, worker, "belongs to another store");
    }
    worker_was_heard(core, worker);
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
        for (struct task *task = worker->held; task != NULL; task = next) { /* what waited for it */
            next = task->next;
            if ((task->wants_cancel || expiry_is_over(task)) && !task->is_unsent) {
                task_revoke(core, task, task->wants_kill);
            }
        }
    }
}

/* ---- its lease, and what it can take ---- */

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
    conn->worker->nested_count = capacity->nested;
    conn->worker->nested_depth = capacity->depth;
    conn->worker->scarce = capacity->scarce;
    if (capacity->count == 0) {
        worker_withdraw_unsent(core, conn->worker);
    }
    worker_feed(core, conn->worker);
}

/* It has killed what it ran: nobody needs to wait for the end of its lease. */
void worker_bye(struct core *core, struct worker *worker)
{
    worker_lose_all(core, worker, "was told to end at once");
}

void workers_excuse(struct core *core, int64_t late_ms)
{
    for (struct worker *worker = core->workers; worker != NULL; worker = worker->next) {
        worker->lease_until += late_ms;
    }
}

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

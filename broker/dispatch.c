/*
 * dispatch.c: ready tasks meet workers with room. Idle slots are served first, one task a worker in turn; then what is
 * left is spread as prefetch in small runs. An at_most_once task goes to an idle slot only, and leaves after its lease
 * row is on disk: until then its dispatch is an intention that a revoke simply forgets. Must not know how attempts end.
 */
#include "broker/state.h"

#include <stdlib.h>
#include <string.h>

#include "common/check.h"

/* Tasks up to this size, arguments and result together, are light: results of these go on while the disk is behind. */
#define LIGHT_SIZE_MAX (64 * KIB)
/* Tasks given to one worker before the next has its turn, while prefetching. */
#define PREFETCH_RUN 16u

/* nested: for tasks that its waiting handlers may be waiting for. What these hold must not keep such a task away, or
 * nothing would ever go on there. */
static bool has_room(const struct core *core, const struct worker *worker, bool only_idle, bool nested)
{
    uint64_t count = only_idle && worker->slots < worker->capacity_count ? worker->slots : worker->capacity_count;
    bool has_bytes = worker->held_bytes < worker->capacity_bytes || worker->held_count == 0 || (nested && only_idle);
    if (only_idle && worker->nested_count > 0 && worker->capacity_count == worker->held_count + 1) {
        count = worker->capacity_count; /* handlers wait in its slots, and it has a place for just one more */
    }
    count += nested ? worker->nested_count : 0;
    return worker->conn != NULL && worker->is_welcomed && worker->lease_until > core->now &&
           worker->held_count < count && has_bytes;
}

/* The next task of this lane, or what came of its last one, is large, and goes to the disk. */
static bool burdens_disk(const struct lane *lane, const struct task *task)
{
    return !task->session->is_volatile && (task->args_size > LIGHT_SIZE_MAX || lane->weight > LIGHT_SIZE_MAX);
}

/* The first of the lane this worker should take from: the deepest, then highest priority, and in turn among equals. */
static struct task *best_task(const struct core *core, struct worker *worker, bool only_idle)
{
    struct task *best = NULL;
    int32_t best_rank = 0;
    size_t best_at = 0;
    size_t at = worker->lane_cursor;
    for (size_t i = 0; i < worker->lane_count; i++, at++) {
        at = at < worker->lane_count ? at : 0;
        const struct lane *lane = worker->lanes[at];
        struct task *first = lane_peek(lane);
        if (first == NULL || (!only_idle && first->call->option.at_most_once) ||
            (core->spares_disk && burdens_disk(lane, first))) {
            continue;
        }
        if (best == NULL || lane->levels[0]->rank > best_rank) {
            best = first;
            best_rank = lane->levels[0]->rank;
            best_at = at;
        }
    }
    worker->lane_cursor = best_at + 1 < worker->lane_count ? best_at + 1 : 0;
    return best;
}

/* What it should get now; NULL: nothing. */
static struct task *task_for(const struct core *core, struct worker *worker, bool only_idle)
{
    if (has_room(core, worker, only_idle, false)) {
        return best_task(core, worker, only_idle);
    }
    if (worker->nested_count == 0 || !has_room(core, worker, only_idle, true)) {
        return NULL;
    }
    struct task *task = best_task(core, worker, only_idle);
    return task != NULL && task->call->option.depth >= worker->nested_depth ? task : NULL;
}

static void dispatch_send(struct core *core, struct task *task)
{
    const struct call *call = task->call;
    struct message head; /* of all the others nothing is read: to clear their room would cost more than the rest */
    head.kind = MSG_DISPATCH;
    head.DISPATCH = (struct msg_DISPATCH){
        .function = call->function, .timeout_ms = call->option.timeout_ms, .at_most_once = call->option.at_most_once};
    struct item_dispatch item = {.task = task->id,
                                 .attempt = task->attempt,
                                 .args = task_args(task),
                                 .depth = call->option.depth,
                                 .memory = retry_memory(&call->option, task->attempts),
                                 .alone = retry_is_alone(&call->option, task->attempts)};
    struct outlet *run = run_now(core, task->worker->conn, &head, call);
    item_dispatch_put_after(run->frame, &item, run->after);
    run_added(run);
    task->is_unsent = false;
    core->counters.dispatched++;
}

static void dispatch_one(struct core *core, struct worker *worker, struct task *task)
{
    lane_take(core, task);
    task->attempt++; /* with every dispatch, so that no two dispatches share a token */
    task->epoch = core->epoch;
    worker_hold(core, worker, task);
    task_move(core, task, TASK_LEASED);
    if (task->call->option.at_most_once && !task->session->is_volatile) {
        task->is_unsent = true;
        batch_task(core, task, false);
        batch_amo(core, task_token(task));
    } else {
        batch_task(core, task, true);
        dispatch_send(core, task);
    }
}

/* One round over the workers with room; true if anything was given. */
static bool dispatch_round(struct core *core, bool only_idle)
{
    bool given = false;
    for (size_t i = 0; i < core->hungry_count;) {
        struct worker *worker = core->hungry[i];
        if (!has_room(core, worker, false, true) && !has_room(core, worker, true, true)) {
            core->hungry[i] = core->hungry[--core->hungry_count];
            worker->is_hungry = false;
            continue;
        }
        for (unsigned k = 0; k < (only_idle ? 1 : PREFETCH_RUN) && core->ready > 0; k++) {
            struct task *task = task_for(core, worker, only_idle);
            if (task == NULL) {
                break;
            }
            dispatch_one(core, worker, task);
            given = true;
        }
        i++;
    }
    return given;
}

void dispatch_all(struct core *core)
{
    if (core->ready == 0 || core->hungry_count == 0 || expiries_are_behind(core) || disk_rows_are_behind(core)) {
        return;
    }
    if (core->now < core->hold_until) {
        core_sweep_by(core, core->hold_until);
        return;
    }
    core->spares_disk = disk_is_behind(core); /* by bytes */
    while (core->ready > 0 && dispatch_round(core, true)) {
    }
    while (core->ready > 0 && dispatch_round(core, false)) {
    }
}

/* Their lease rows are on disk. What was revoked, lost or dispatched again meanwhile has another token or no lease. */
void dispatch_gated(struct core *core, const struct token *tokens, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct task *task = task_find(core, tokens[i].task);
        if (task != NULL && task->is_unsent && task->state == TASK_LEASED &&
            token_compare(task_token(task), tokens[i]) == 0 && task->worker->conn != NULL &&
            task->worker->is_welcomed) {
            dispatch_send(core, task);
        }
    }
}

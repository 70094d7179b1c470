/*
 * task.c: a live task and its states. The table below is the diagram: only task_move writes a state, and only along an
 * arrow. Must not know of messages or rows beyond marking the task as changed. Start reading at task_rule.
 */
#include "broker/state.h"

#include <stdlib.h>
#include <string.h>

#include "common/check.h"

#define TO(state) (1u << TASK_##state)
#define TO_FINAL (TO(DONE) | TO(FAILED) | TO(CANCELLED))

/*
 *  delayed --due--> ready --dispatch--> leased --start--> running --> done | failed | cancelled
 *                     ^ ^                  |                 |
 *                     | +-- backoff <------+-- lost, failed -+      (if its policy has attempts left)
 *                     +--------------------+-- returned unstarted, drained, not listed in HELLO
 *  leased --> done | failed: its start was never told. ready, backoff, delayed --> leased: a worker still had it.
 */
static const uint32_t task_rule[] = {
    [TASK_DELAYED] = TO(READY) | TO(LEASED) | TO_FINAL,
    [TASK_WAITING] = TO(READY) | TO(FAILED) | TO(CANCELLED),
    [TASK_READY] = TO(LEASED) | TO_FINAL,
    [TASK_LEASED] = TO(RUNNING) | TO(READY) | TO(BACKOFF) | TO_FINAL,
    [TASK_RUNNING] = TO(READY) | TO(BACKOFF) | TO_FINAL,
    [TASK_BACKOFF] = TO(READY) | TO(LEASED) | TO_FINAL,
    [TASK_DONE] = 0, /* a final state is never left */
    [TASK_FAILED] = 0,
    [TASK_CANCELLED] = 0,
};

bool task_is_final(enum task_state state)
{
    return (TO_FINAL & 1u << state) != 0;
}

bool task_waits(const struct task *task)
{
    return task->state == TASK_DELAYED || task->state == TASK_BACKOFF;
}

static void check_invariant(const struct task *task)
{
    bool held = task->state == TASK_LEASED || task->state == TASK_RUNNING;
    CHECK(!held || task->worker != NULL);
    CHECK(!held || task->attempt > 0);
    CHECK(task->state == TASK_READY || task->turn == NULL);
}

__attribute__((cold, noinline)) static void no_arrow(const struct task *task, enum task_state state)
{
    char text[ID_TEXT_SIZE];
    CHECK_THAT(false, "task %s: %s -> %s", id_text(task->id, text), task_state_word(task->state),
               task_state_word(state));
}

void task_move(struct core *core, struct task *task, enum task_state state)
{
    if (task->state != 0) {
        if ((task_rule[task->state] & 1u << state) == 0) {
            no_arrow(task, state);
        }
        core->state_count[task->state]--;
    }
    task->state = (uint8_t)state;
    core->state_count[state]++;
    check_invariant(task);
}

static void session_link(struct task *task)
{
    task->session_next = task->session->tasks;
    if (task->session_next != NULL) {
        task->session_next->session_prev = task;
    }
    task->session->tasks = task;
    task->session->live++;
}

static void session_unlink(struct task *task)
{
    if (task->session_prev != NULL) {
        task->session_prev->session_next = task->session_next;
    } else {
        task->session->tasks = task->session_next;
    }
    if (task->session_next != NULL) {
        task->session_next->session_prev = task->session_prev;
    }
    task->session->live--;
}

/* The task comes without a state: the caller moves it to its first. */
struct task *task_new(struct core *core, uint64_t id, struct session *session, struct call *call, struct bytes args)
{
    struct task *task = spares_take(&core->task_spares, sizeof *task + args.n);
    memset(task, 0, sizeof *task);
    task->id = id;
    task->session = session;
    task->call = call;
    task->refs = 1;
    task->args_size = (uint32_t)args.n;
    if (args.n > 0) {
        memcpy(task->args, args.p, args.n);
    }
    core->task_bytes += args.n;
    core->volatile_bytes += session->is_volatile ? args.n : 0;
    map_put(&core->tasks, id, task);
    session_link(task);
    return task;
}

static void restore_held(struct core *core, struct task *task, const struct task_row *row)
{
    struct worker *worker = map_get(&core->workers_by_id, row->worker ? row->worker : UINT64_MAX);
    CHECK_THAT(worker != NULL, "leased task without a worker row %llu", (unsigned long long)row->worker);
    worker_hold(core, worker, task);
    task_move(core, task, (enum task_state)row->state);
}

struct task *task_restore(struct core *core, const struct task_row *row)
{
    struct session *session = session_find(core, row->session);
    struct call *call = map_get(&core->calls, row->call);
    CHECK_THAT(session != NULL && call != NULL, "task %llu without its session or call", (unsigned long long)row->id);
    struct task *task = task_new(core, row->id, session, call, row->args);
    call->refs++;
    task->is_stored = true;
    task->attempt = row->attempt;
    task->epoch = row->epoch;
    task->attempts = row->attempts;
    task->crashes = row->crashes;
    task->losses = row->losses;
    task->worker_id = row->worker;
    task->due = row->due;
    task->created = row->created;
    task->ordinal = row->ordinal;
    task->retry_of = row->retry_of;
    switch (row->state) {
    case TASK_LEASED:
    case TASK_RUNNING:
        restore_held(core, task, row);
        break;
    case TASK_DELAYED:
    case TASK_BACKOFF:
        task_move(core, task, (enum task_state)row->state);
        break; /* its timer is set when the clock is known */
    default:
        task_move(core, task, TASK_READY);
        lane_push(core, task);
        break;
    }
    expiry_restore(core, task, row->due);
    return task;
}

void task_unref(struct core *core, struct task *task)
{
    CHECK(task->refs > 0);
    if (--task->refs == 0) {
        free(task->progress);
        spares_give(&core->task_spares, task, sizeof *task + task->args_size);
    }
}

void task_forget(struct core *core, struct task *task)
{
    expiry_stop(core, task);
    map_remove(&core->tasks, task->id);
    core->task_bytes -= task->args_size;
    core->volatile_bytes -= task->session->is_volatile ? task->args_size : 0;
    session_unlink(task);
    call_release(core, task->call);
    task_unref(core, task);
}

void task_leave_memory(struct core *core, struct task *task)
{
    session_unlink(task);
    task->session->live++;
    task_unref(core, task);
}

struct task *task_find(const struct core *core, uint64_t id)
{
    return id == 0 ? NULL : task_of_entry(map_get(&core->tasks, id));
}

void task_fetch(const struct core *core, uint64_t id)
{
    struct task *task = task_find(core, id);
    if (task != NULL) {
        __builtin_prefetch(&task->id, 1);
        __builtin_prefetch(&task->session_prev, 1);
        __builtin_prefetch(&task->attempt, 1);
    }
}

struct token task_token(const struct task *task)
{
    return (struct token){.task = task->id, .epoch = task->epoch, .attempt = task->attempt};
}

struct bytes task_args(const struct task *task)
{
    return bytes_of(task->args, task->args_size);
}

void task_detach(struct core *core, struct task *task)
{
    if (task->turn != NULL) {
        lane_remove(core, task);
    } else if (task->heap_index != 0) {
        heap_remove(task->is_by_wall ? &core->due_by_wall : &core->due, task);
        task->is_by_wall = false;
    } else if (task->state == TASK_LEASED || task->state == TASK_RUNNING) {
        worker_drop(core, task);
    }
}

void task_make_ready(struct core *core, struct task *task)
{
    task_detach(core, task);
    task_move(core, task, TASK_READY);
    task->due = 0;
    task->started = 0;
    lane_push(core, task);
}

void task_wait_until(struct core *core, struct task *task, enum task_state state, uint64_t delay_ms)
{
    task_detach(core, task);
    task_move(core, task, state);
    task->started = 0;
    task->due = core->wall + (int64_t)delay_ms;
    task->due_mono = core->now + (int64_t)delay_ms;
    heap_push(&core->due, task);
}

void task_wait_for_wall(struct core *core, struct task *task, int64_t wall_ms)
{
    task_detach(core, task);
    task_move(core, task, TASK_DELAYED);
    task->started = 0;
    task->due = wall_ms;
    task->is_by_wall = true;
    heap_push(&core->due_by_wall, task);
}

/* What is on record is a time of the wall clock: a delay goes on by that. A backoff is as short as it was drawn,
 * however somebody has set the clock meanwhile. */
void task_wait_restored(struct core *core, struct task *task)
{
    int64_t wait = task->due - core->wall;
    if (task->state == TASK_DELAYED) {
        task->is_by_wall = true;
        heap_push(&core->due_by_wall, task);
        return;
    }
    wait = wait < (int64_t)DURATION_MS_MAX ? wait : (int64_t)DURATION_MS_MAX;
    task->due_mono = core->now + (wait > 0 ? wait : 0);
    heap_push(&core->due, task);
}

/* Its time has come. */
static void task_wake(struct core *core, struct task *task)
{
    bool was_delayed = task->state == TASK_DELAYED;
    if (was_delayed && task->call->option.known && known_is_early(core)) {
        task_detach(core, task); /* nobody can be said to know it yet, or not to */
        task->due_mono = known_from(core);
        heap_push(&core->due, task);
        return;
    }
    if (was_delayed && task_fail_unknown(core, task)) {
        return;
    }
    task_make_ready(core, task);
    batch_task(core, task, true);
}

void tasks_wake_due(struct core *core)
{
    struct task *task;
    while ((task = heap_top(&core->due)) != NULL && task->due_mono <= core->now) {
        task_wake(core, task);
    }
    while ((task = heap_top(&core->due_by_wall)) != NULL && task->due <= core->wall) {
        task_wake(core, task);
    }
}

/* Who waits for a time of the wall clock cannot know when that is: the clock may be set. */
int64_t tasks_due_wake(const struct core *core)
{
    const struct task *due = heap_top(&core->due);
    const struct task *by_wall = heap_top(&core->due_by_wall);
    int64_t wake = due != NULL ? due->due_mono : INT64_MAX;
    if (by_wall != NULL) {
        int64_t wait = by_wall->due - core->wall;
        wait = wait < WALL_LOOK_MS ? wait : WALL_LOOK_MS;
        wake = core->now + wait < wake ? core->now + wait : wake;
    }
    return wake;
}

void core_free_tasks(struct core *core)
{
    size_t at = 0;
    uint64_t id;
    void *value;
    while (map_next(&core->tasks, &at, &id, &value)) {
        struct task *task = task_of_entry(value);
        if (task == NULL) {
            continue; /* parked */
        }
        if (task->turn != NULL) {
            lane_remove(core, task);
        }
        expiry_stop(core, task);
        task_unref(core, task);
    }
    map_fini(&core->tasks);
}

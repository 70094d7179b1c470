/*
 * parked.c: ready tasks that are on disk only, so that millions of them fit into little memory. A turn (lanes.c) that
 * has enough tasks in memory parks what comes behind them: when the commit of its row is known, all that stays of a
 * task here is its place in core->tasks (its turn, marked) and its share of a run of ids. Runs are read back in order
 * before those in memory are used up; one that somebody asks for is read back by itself. Rules:
 *   - parked is only what its row says all of: on disk, ready, never dispatched, without a time or a word about it;
 *   - a task is in memory or parked, never both, and counts the same in either; once read back it is not parked again;
 *   - what is parked goes when its turn comes by id, as if it were in memory.
 * Must not know messages. Start reading at tasks_park, parked_loaded.
 */
#include "broker/state.h"

#include <stdlib.h>
#include <string.h>

#include "common/check.h"

/* A turn keeps so many in memory however many others there are: a load for fewer costs more than it brings. */
#define KEEP_COUNT_MIN 16u

/* ---- a place in core->tasks: the turn, marked ---- */

#define MARK ((uintptr_t)1)

static void *marked(struct turn *turn)
{
    return (void *)((uintptr_t)turn | MARK);
}

struct turn *parked_turn(const struct core *core, uint64_t id)
{
    uintptr_t value = id == 0 ? 0 : (uintptr_t)map_get(&core->tasks, id);
    return (value & MARK) != 0 ? (struct turn *)(value & ~MARK) : NULL;
}

struct task *task_of_entry(void *value)
{
    return ((uintptr_t)value & MARK) != 0 ? NULL : value;
}

uint64_t core_parked(const struct core *core)
{
    return core->parked_count;
}

/* ---- runs ---- */

uint64_t parked_first(const struct parked *parked)
{
    return parked->head < parked->end ? parked->runs[parked->head].first : UINT64_MAX;
}

static uint64_t run_end(const struct load_run *run)
{
    return run->first + run->count - 1;
}

/* The first run that ends at or behind this id; parked->end if there is none. */
static size_t run_at(const struct parked *parked, uint64_t id)
{
    size_t low = parked->head;
    size_t high = parked->end;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (run_end(&parked->runs[middle]) < id) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

/* Room for one more run at the end. */
static void runs_reserve(struct parked *parked)
{
    size_t count = parked->end - parked->head;
    if (parked->end == parked->cap && parked->head > count) { /* so that each is moved once */
        memcpy(parked->runs, parked->runs + parked->head, count * sizeof *parked->runs);
        parked->head = 0;
        parked->end = count;
    }
    ARRAY_RESERVE(parked->runs, parked->end, parked->cap);
}

static void runs_add(struct parked *parked, uint64_t id)
{
    struct load_run *last = parked->head < parked->end ? &parked->runs[parked->end - 1] : NULL;
    CHECK(last == NULL || run_end(last) < id);
    if (last != NULL && run_end(last) + 1 == id) {
        last->count++;
    } else {
        runs_reserve(parked);
        parked->runs[parked->end++] = (struct load_run){.first = id, .count = 1};
    }
    parked->count++;
}

static void runs_remove(struct parked *parked, uint64_t id)
{
    size_t at = run_at(parked, id);
    struct load_run *run = &parked->runs[at];
    CHECK(at < parked->end && run->first <= id);
    uint64_t behind = run_end(run) - id;
    parked->count--;
    if (id == run->first && behind > 0) {
        run->first++;
        run->count--;
        return;
    }
    if (id > run->first && behind > 0) { /* out of the middle */
        runs_reserve(parked);
        at = run_at(parked, id);
        run = &parked->runs[at];
        memmove(run + 2, run + 1, (parked->end - at - 1) * sizeof *run);
        run[1] = (struct load_run){.first = id + 1, .count = behind};
        parked->end++;
    }
    run->count = id - run->first;
    if (run->count == 0 && at == parked->head) {
        parked->head++;
    } else if (run->count == 0) {
        memmove(run, run + 1, (parked->end - at - 1) * sizeof *run);
        parked->end--;
    }
}

uint64_t parked_next(const struct session *session, uint64_t after, uint64_t *count_out)
{
    uint64_t first = 0;
    for (const struct turn *turn = after < INT64_MAX ? session->turns : NULL; turn != NULL; turn = turn->session_next) {
        const struct parked *parked = &turn->parked;
        size_t at = run_at(parked, after + 1);
        if (at == parked->end) {
            continue;
        }
        const struct load_run *run = &parked->runs[at];
        uint64_t from = run->first > after ? run->first : after + 1;
        if (first == 0 || from < first) {
            first = from;
            *count_out = run_end(run) - from + 1;
        }
    }
    return first;
}

/* ---- which ---- */

/* With many turns each keeps less; one that came when there were few keeps what it has until it is used up. */
void parked_look(struct core *core)
{
    const struct limits *limits = &core->limits;
    uint64_t share = core->turn_count > 0 ? limits->ready_count_max / 4 / core->turn_count : limits->ready_count_max;
    bool is_much = core->ready - core->parked_count >= limits->ready_count_max ||
                   core->task_bytes - core->parked_bytes >= limits->ready_bytes_max;
    share = share < KEEP_COUNT_MIN || is_much ? KEEP_COUNT_MIN : share;
    share = share < limits->ready_turn_count ? share : limits->ready_turn_count;
    core->keep_count = share > 0 ? share : 1;
}

bool task_may_park(const struct task *task)
{
    return task->attempt == 0 && task->expiry == NULL && !task->session->is_volatile;
}

/* Is all that is to know of it on disk, and would it wait behind others? */
static bool is_to_park(const struct task *task, uint64_t batch)
{
    const struct turn *turn = task->turn;
    const struct session *session = task->session;
    if (turn == NULL || task->heap_index != 0 || task->id < turn->boundary || task->is_dirty || !task->is_stored ||
        session->is_cancelling || batch <= session->parks_after || !task_may_park(task)) {
        return false;
    }
    const struct parked *parked = &turn->parked;
    return parked->count == 0 || run_end(&parked->runs[parked->end - 1]) < task->id;
}

/* ---- in and out ---- */

/* Everything that counts tasks counts it. */
static void enter(struct core *core, struct turn *turn, struct call *call, uint64_t id, uint64_t args_size)
{
    runs_add(&turn->parked, id);
    map_put(&core->tasks, id, marked(turn));
    call->refs++;
    call->lane->ready++;
    turn->session->live++;
    turn->session->parked++;
    core->ready++;
    core->task_bytes += args_size;
    core->state_count[TASK_READY]++;
    core->parked_count++;
    core->parked_bytes += args_size;
}

static void leave(struct core *core, struct turn *turn, struct call *call, uint64_t id, uint64_t args_size)
{
    runs_remove(&turn->parked, id);
    map_remove(&core->tasks, id);
    call_release(core, call);
    call->lane->ready--;
    turn->session->live--;
    turn->session->parked--;
    core->ready--;
    core->task_bytes -= args_size;
    core->state_count[TASK_READY]--;
    core->parked_count--;
    core->parked_bytes -= args_size;
}

/* What counts tasks goes on counting it. It was not to go before those ahead, and is not now: the turn needs no look.
 */
static void task_park(struct core *core, struct task *task)
{
    struct turn *turn = task->turn;
    lane_leave_behind(turn, task);
    runs_add(&turn->parked, task->id);
    map_put(&core->tasks, task->id, marked(turn));
    task->session->parked++;
    core->parked_count++;
    core->parked_bytes += task->args_size;
    core->counters.parked++;
    task_leave_memory(core, task);
}

void tasks_park(struct core *core, uint64_t batch, struct task *const *tasks, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (is_to_park(tasks[i], batch)) {
            task_park(core, tasks[i]);
        }
    }
}

bool parked_restore(struct core *core, uint64_t id, uint64_t session_id, uint64_t call_id, uint64_t args_size)
{
    struct session *session = session_find(core, session_id);
    struct call *call = map_get(&core->calls, call_id);
    CHECK(session != NULL && call != NULL);
    struct turn *turn = turn_of_call(core, session, call);
    if (turn->boundary == UINT64_MAX) {
        parked_look(core);
    }
    bool is_parked = turn_parks(core, turn);
    if (is_parked) {
        enter(core, turn, call, id, args_size);
    }
    if (turn->boundary == UINT64_MAX) {
        turn_settle(core, turn); /* the others go on as they are */
    }
    return is_parked;
}

struct task *task_unpark(struct core *core, const struct task_row *row)
{
    struct turn *turn = parked_turn(core, row->id);
    struct call *call = map_get(&core->calls, row->call);
    CHECK(turn != NULL && call != NULL && turn->session->id == row->session && row->state == TASK_READY);
    leave(core, turn, call, row->id, row->args.n);
    struct task *task = task_restore(core, row);
    core->counters.unparked++;
    claims_meet(core, id_series(row->id), id_sequence(row->id), 1);
    return task_find(core, row->id) == task ? task : NULL;
}

/* ---- reading back ---- */

/* As many of the next ones as are to be in memory. */
static void turn_load(struct core *core, struct turn *turn)
{
    struct parked *parked = &turn->parked;
    struct load *load = load_new(core, LOAD_TASKS);
    uint64_t keep = core->keep_count;
    uint64_t left = keep > turn->ahead ? keep - turn->ahead : 1;
    left = left < LOAD_TASK_COUNT_MAX ? left : LOAD_TASK_COUNT_MAX;
    for (size_t at = parked->head; at < parked->end && left > 0 && load->count < LOAD_RUN_COUNT_MAX; at++) {
        struct load_run run = parked->runs[at];
        run.count = run.count < left ? run.count : left;
        left -= run.count;
        load->limit += run.count;
        load->runs[load->count++] = run;
    }
    parked->load = load->number;
    core->parked_load_count++;
    map_put(&core->loads, load->number, turn);
}

static void waiting_leave(struct core *core, struct turn *turn)
{
    struct parked *parked = &turn->parked;
    if (!parked->is_waiting) {
        return;
    }
    parked->is_waiting = false;
    if (parked->wait_prev != NULL) {
        parked->wait_prev->parked.wait_next = parked->wait_next;
    } else {
        core->parked_waiting = parked->wait_next;
    }
    if (parked->wait_next != NULL) {
        parked->wait_next->parked.wait_prev = parked->wait_prev;
    } else {
        core->parked_waiting_last = parked->wait_prev;
    }
}

static void waiting_enter(struct core *core, struct turn *turn)
{
    struct parked *parked = &turn->parked;
    parked->is_waiting = true;
    parked->wait_next = NULL;
    parked->wait_prev = core->parked_waiting_last;
    if (parked->wait_prev != NULL) {
        parked->wait_prev->parked.wait_next = turn;
    } else {
        core->parked_waiting = turn;
    }
    core->parked_waiting_last = turn;
}

void parked_want(struct core *core, struct turn *turn)
{
    struct parked *parked = &turn->parked;
    if (parked->count == 0 || parked->load != 0 || parked->is_waiting || core->update == NULL) {
        return;
    }
    if (core->parked_load_count < LOAD_TURN_COUNT_MAX) {
        turn_load(core, turn);
    } else {
        waiting_enter(core, turn);
    }
}

static void load_over(struct core *core, struct turn *turn)
{
    turn->parked.load = 0;
    core->parked_load_count--;
    struct turn *next = core->parked_waiting;
    if (next != NULL && core->update != NULL) {
        waiting_leave(core, next);
        parked_want(core, next);
    }
}

void parked_fetch(struct core *core, uint64_t id)
{
    struct load *load = core->parked_fetching;
    if (load == NULL || load->count == LOAD_RUN_COUNT_MAX) {
        load = load_new(core, LOAD_TASKS);
        core->parked_fetching = load;
    }
    load->runs[load->count++] = (struct load_run){.first = id, .count = 1};
    load->limit++;
}

/* What is not parked any more was asked for twice. */
void parked_loaded(struct core *core, const struct loaded *loaded)
{
    for (size_t i = 0; i < loaded->task_count; i++) {
        if (parked_turn(core, loaded->tasks[i].id) != NULL) {
            task_unpark(core, &loaded->tasks[i]);
        }
    }
    struct turn *turn = map_remove(&core->loads, loaded->number);
    if (turn == NULL) {
        return; /* each was fetched for itself, or none is parked any more */
    }
    struct session *session = turn->session;
    CHECK_THAT(parked_first(&turn->parked) > loaded->through, "task %llu is not on disk",
               (unsigned long long)parked_first(&turn->parked));
    load_over(core, turn);
    if (session->is_sweeping) {
        core_sweep_by(core, core->now);
    }
    turn_settle(core, turn);
}

void parked_drop(struct core *core, struct turn *turn)
{
    waiting_leave(core, turn);
    if (turn->parked.load != 0) {
        map_remove(&core->loads, turn->parked.load);
        load_over(core, turn);
    }
    free(turn->parked.runs);
}

void parked_fini(struct core *core)
{
    size_t at = 0;
    uint64_t id;
    void *value;
    while (map_next(&core->sessions, &at, &id, &value)) {
        struct turn *next;
        for (struct turn *turn = ((struct session *)value)->turns; turn != NULL; turn = next) {
            next = turn->session_next;
            core->parked_count -= turn->parked.count;
            turn->parked.count = 0;
            turn->parked.head = turn->parked.end;
            turn_settle(core, turn);
        }
    }
}

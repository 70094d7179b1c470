/*
 * balance.c: what was given ahead to a worker is called back when another one is idle. A worker measures how much it
 * can take, and returns what waits behind something long; but only the broker knows that somebody else could begin at
 * once. Only as many are called back as slots are idle, so that nothing goes to and fro, the newest first, which would
 * have run last; never by force, so an attempt that has begun stays where it is. What runs at most once is never given
 * ahead: it stays as well. Must not know how attempts end. Start reading at balance_workers.
 */
#include "broker/state.h"

static bool is_reachable(const struct core *core, const struct worker *worker)
{
    return worker->conn != NULL && worker->is_welcomed && worker->lease_until > core->now;
}

static uint64_t idle_slots(const struct core *core, const struct worker *worker)
{
    uint64_t slots = worker->slots < worker->capacity_count ? worker->slots : worker->capacity_count;
    uint64_t held = worker->held_count + worker->expected_count;
    bool has_bytes = worker->held_bytes < worker->capacity_bytes || held == 0;
    return is_reachable(core, worker) && has_bytes && held < slots ? slots - held : 0;
}

/* A worker that would begin this at once; NULL: none. */
static struct worker *taker_of(const struct core *core, const struct task *task, unsigned *looks)
{
    const struct lane *lane = task->call->lane;
    for (size_t i = 0; i < lane->worker_count && *looks < BALANCE_LOOK_COUNT_MAX; i++) {
        ++*looks;
        if (lane->workers[i] != task->worker && idle_slots(core, lane->workers[i]) > 0) {
            return lane->workers[i];
        }
    }
    return NULL;
}

/* What handlers of its worker may be waiting for would only come back there. */
static bool may_call_back(const struct task *task)
{
    const struct worker *worker = task->worker;
    bool is_needed = worker->nested_count > 0 && task->call->option.depth >= worker->nested_depth;
    return !is_needed && task->state == TASK_LEASED && !task->is_unsent && !task->is_called_back &&
           !task->wants_cancel && !task->call->option.at_most_once;
}

/* What a worker holds beyond its slots waits there. */
static void call_back_from(struct core *core, struct worker *worker, unsigned *looks)
{
    uint64_t surplus = worker->held_count > worker->slots ? worker->held_count - worker->slots : 0;
    for (struct task *task = worker->held; task != NULL && surplus > 0 && *looks < BALANCE_LOOK_COUNT_MAX;
         task = task->next) {
        ++*looks;
        struct worker *taker = may_call_back(task) ? taker_of(core, task, looks) : NULL;
        if (taker != NULL) {
            taker->expected_count++;
            task->is_called_back = true;
            core->counters.called_back++;
            task_revoke(core, task, false);
            surplus--;
        }
    }
}

/* Begins anywhere in the list, so that those behind have their turn although there is a bound on what is looked at. */
static void call_back(struct core *core)
{
    uint64_t skip = core->random % core->worker_count;
    struct worker *worker = core->workers;
    unsigned looks = 0;
    bool is_any_idle = false;
    for (struct worker *each = core->workers; each != NULL; each = each->next) {
        each->expected_count = 0;
        is_any_idle = is_any_idle || idle_slots(core, each) > 0;
    }
    for (; skip > 0; skip--) {
        worker = worker->next;
    }
    for (size_t i = 0; is_any_idle && i < core->worker_count && looks < BALANCE_LOOK_COUNT_MAX; i++) {
        looks++;
        if (is_reachable(core, worker)) {
            call_back_from(core, worker, &looks);
        }
        worker = worker->next != NULL ? worker->next : core->workers;
    }
}

/* Not before some time has passed: what takes microseconds is done before it could be called back. */
void balance_workers(struct core *core)
{
    bool may_help = core->state_count[TASK_LEASED] > 0 && core->worker_count > 1 && core->now >= core->hold_until;
    if (!may_help) {
        core->balance_ms = INT64_MAX;
    } else if (core->balance_ms == INT64_MAX) {
        core->balance_ms = core->now + BALANCE_MS;
    } else if (core->now >= core->balance_ms) {
        call_back(core);
        core->balance_ms = core->now + BALANCE_MS;
    }
}

/*
 * claims.c: attempts of tasks that are not on record yet, or on record but not in memory. Execution overlaps the commit
 * of its submit, so a crash can leave a worker running what the disk never saw; its client sends the submit again.
 * Until one lease after such a start, what a worker lists of an unknown task that its series has not come to yet is
 * kept as a claim; the repeated submit then finds its attempt instead of running a second one. Only double work is
 * saved here: no promise rests on it. Must not know how attempts end. Start reading at claim_keep.
 */
#include "broker/state.h"

#include <stdlib.h>

#include "common/check.h"

struct claim {
    struct token token;
    struct worker *worker;
    bool is_running;
    struct buf finished; /* the item of its FINISHED, if that came already */
};

/* Could a client that was cut off still send this submit? Ids are never used again, so it can be no other work. What
 * is parked comes by itself. */
static bool is_awaited(const struct core *core, struct token token)
{
    const struct series *series = series_find(core, id_series(token.task));
    bool is_to_come = series != NULL && id_sequence(token.task) > series->submitted_high;
    return core->now < core->claims_until && token.epoch < core->epoch &&
           (is_to_come || parked_turn(core, token.task) != NULL);
}

bool claim_keep(struct core *core, struct worker *worker, const struct item_held *held)
{
    struct token token = {held->task, (uint32_t)held->epoch, (uint32_t)held->attempt};
    struct claim *claim = map_get(&core->claims, held->task ? held->task : UINT64_MAX);
    if (claim != NULL || core->claims.count >= WORKER_HELD_COUNT_MAX || !is_awaited(core, token)) {
        return false;
    }
    claim = xcalloc(1, sizeof *claim);
    *claim = (struct claim){.token = token, .worker = worker, .is_running = held->state == HELD_RUNNING};
    map_put(&core->claims, held->task, claim);
    if (parked_turn(core, held->task) != NULL) {
        parked_fetch(core, held->task);
    }
    return true;
}

static struct claim *claim_find(const struct core *core, const struct worker *worker, struct token token)
{
    struct claim *claim = map_get(&core->claims, token.task ? token.task : UINT64_MAX);
    bool is_it = claim != NULL && claim->worker == worker && token_compare(claim->token, token) == 0;
    return is_it ? claim : NULL;
}

static void claim_free(struct core *core, struct claim *claim)
{
    map_remove(&core->claims, claim->token.task);
    core->claim_bytes -= claim->finished.n;
    buf_fini(&claim->finished);
    free(claim);
}

bool claim_finish(struct core *core, struct worker *worker, const struct item_finished *item)
{
    struct token token = {item->task, (uint32_t)item->epoch, (uint32_t)item->attempt};
    struct claim *claim = claim_find(core, worker, token);
    if (claim == NULL) {
        return false;
    }
    if (core->claim_bytes > WORKER_HELD_BYTES_MAX) { /* no room: the report is unknown, and the task runs again */
        claim_free(core, claim);
        return false;
    }
    core->claim_bytes -= claim->finished.n;
    claim->finished.n = 0;
    item_finished_put(&claim->finished, item);
    core->claim_bytes += claim->finished.n;
    return true;
}

void claim_return(struct core *core, struct worker *worker, struct token token)
{
    struct claim *claim = claim_find(core, worker, token);
    if (claim != NULL) {
        claim_free(core, claim);
    }
}

static void claim_meet(struct core *core, struct claim *claim, struct task *task)
{
    map_remove(&core->claims, claim->token.task);
    core->claim_bytes -= claim->finished.n;
    attempt_adopt(core, claim->worker, task, claim->token, claim->is_running, buf_bytes(&claim->finished));
    buf_fini(&claim->finished);
    free(claim);
}

/* The submits are here, and answered (an outcome must not come before its acceptance): attempts go on where they are.
 */
void claims_meet(struct core *core, uint64_t series, uint32_t sequence, uint32_t count)
{
    for (uint32_t i = 0; i < count && core->claims.count > 0; i++) {
        uint64_t id = id_make((uint32_t)series, sequence + i);
        struct claim *claim = map_get(&core->claims, id);
        struct task *task = claim != NULL ? task_find(core, id) : NULL;
        if (task != NULL) {
            claim_meet(core, claim, task);
        }
    }
}

/* Takes every claim of this worker (of any if NULL) out of the table in one pass; malloc'd, *count_out of them. */
static struct claim **claims_take_out(struct core *core, const struct worker *worker, size_t *count_out)
{
    struct claim **list = xmalloc((core->claims.count + 1) * sizeof(struct claim *));
    size_t at = 0;
    uint64_t id;
    void *value;
    *count_out = 0;
    while (map_next(&core->claims, &at, &id, &value)) {
        struct claim *claim = value;
        if (worker == NULL || claim->worker == worker) {
            list[(*count_out)++] = claim;
        }
    }
    for (size_t i = 0; i < *count_out; i++) {
        map_remove(&core->claims, list[i]->token.task);
    }
    return list;
}

static void claims_drop(struct core *core, const struct worker *worker, bool tell)
{
    size_t count;
    struct claim **list = claims_take_out(core, worker, &count);
    for (size_t i = 0; i < count; i++) {
        if (tell) {
            attempt_disown(core, list[i]->worker, list[i]->token, list[i]->finished.n > 0);
        }
        core->claim_bytes -= list[i]->finished.n;
        buf_fini(&list[i]->finished);
        free(list[i]);
    }
    free(list);
}

/* It lists them again when it is back. */
void claims_left(struct core *core, const struct worker *worker)
{
    if (core->claims.count > 0) {
        claims_drop(core, worker, false);
    }
}

/* Nobody sent them again in time: the workers are told to let go. */
void claims_sweep(struct core *core)
{
    if (core->claims.count == 0) {
        return;
    }
    if (core->now < core->claims_until) {
        core_sweep_by(core, core->claims_until);
        return;
    }
    claims_drop(core, NULL, true);
}

void claims_fini(struct core *core)
{
    claims_drop(core, NULL, false);
    map_fini(&core->claims);
}

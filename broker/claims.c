/*
 * claims.c: attempts of tasks that are not on record yet. Execution overlaps the commit of its submit, so a crash can
 * leave a worker running what the disk never saw; its client sends the submit again. Until one lease after such a
 * start, what a worker lists of an unknown task that its series has not come to yet is kept as a claim; the repeated
 * submit then finds its attempt instead of running a second one. Only double work is saved here: no promise rests on
 * it. Must not know how attempts end. Start reading at claim_keep.
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

/* Could a client that was cut off still send this submit? Ids are never used again, so it can be no other work. */
static bool is_awaited(const struct core *core, struct token token)
{
    const struct series *series = map_get(&core->series, id_series(token.task) ? id_series(token.task) : UINT64_MAX);
    return core->now < core->claims_until && token.epoch < core->epoch && series != NULL &&
           id_sequence(token.task) > series->submitted_high;
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
    return true;
}

static struct claim *claim_find(const struct core *core, const struct worker *worker, struct token token)
{
    struct claim *claim = map_get(&core->claims, token.task ? token.task : UINT64_MAX);
    bool is_it = claim != NULL && claim->worker == worker && token_compare(claim->token, token) == 0;
    return is_it ? claim : NULL;
}

bool claim_finish(struct core *core, struct worker *worker, const struct item_finished *item)
{
    struct token token = {item->task, (uint32_t)item->epoch, (uint32_t)item->attempt};
    struct claim *claim = claim_find(core, worker, token);
    if (claim == NULL) {
        return false;
    }
    claim->finished.n = 0;
    item_finished_put(&claim->finished, item);
    return true;
}

static void claim_free(struct core *core, struct claim *claim)
{
    map_remove(&core->claims, claim->token.task);
    buf_fini(&claim->finished);
    free(claim);
}

void claim_return(struct core *core, struct worker *worker, struct token token)
{
    struct claim *claim = claim_find(core, worker, token);
    if (claim != NULL) {
        claim_free(core, claim);
    }
}

/* The submit is here: its attempt goes on where it is. */
void claim_meet(struct core *core, struct task *task)
{
    struct claim *claim = core->claims.count ? map_get(&core->claims, task->id) : NULL;
    if (claim == NULL) {
        return;
    }
    map_remove(&core->claims, task->id);
    attempt_adopt(core, claim->worker, task, claim->token, claim->is_running, buf_bytes(&claim->finished));
    buf_fini(&claim->finished);
    free(claim);
}

/* The next one of this worker, or of any if NULL. */
static struct claim *claim_any(const struct core *core, const struct worker *worker)
{
    size_t at = 0;
    uint64_t id;
    void *value;
    while (map_next(&core->claims, &at, &id, &value)) {
        struct claim *claim = value;
        if (worker == NULL || claim->worker == worker) {
            return claim;
        }
    }
    return NULL;
}

/* It lists them again when it is back. */
void claims_left(struct core *core, const struct worker *worker)
{
    struct claim *claim;
    while (core->claims.count > 0 && (claim = claim_any(core, worker)) != NULL) {
        claim_free(core, claim);
    }
}

/* Nobody sent them again in time: the workers are told to let go. */
void claims_sweep(struct core *core)
{
    struct claim *claim;
    if (core->claims.count == 0) {
        return;
    }
    if (core->now < core->claims_until) {
        core_sweep_by(core, core->claims_until);
        return;
    }
    while ((claim = claim_any(core, NULL)) != NULL) {
        attempt_disown(core, claim->worker, claim->token, claim->finished.n > 0);
        claim_free(core, claim);
    }
}

void claims_fini(struct core *core)
{
    struct claim *claim;
    while ((claim = claim_any(core, NULL)) != NULL) {
        claim_free(core, claim);
    }
    map_fini(&core->claims);
}

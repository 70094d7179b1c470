/*
 * oracle.c owns what really happened in a world, as clients and workers did it, and whether it came to its end.
 * It must not know the core's insides; of peers it reads what is public.
 * Start reading at oracle_submitted.
 */
#include "facts.h"

#include "common/check.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct oracle *oracle_new(struct world *world)
{
    (void)world;
    return xcalloc(1, sizeof(struct oracle));
}

void oracle_free(struct oracle **oracle)
{
    size_t at = 0;
    uint64_t key;
    void *value;
    while (map_next(&(*oracle)->jobs, &at, &key, &value)) {
        free(((struct job *)value)->tries);
        free(value);
    }
    at = 0;
    while (map_next(&(*oracle)->ledgers, &at, &key, &value)) {
        free(((struct ledger *)value)->by_completion);
        free(((struct ledger *)value)->by_ordinal);
        free(value);
    }
    map_fini(&(*oracle)->jobs);
    map_fini(&(*oracle)->ledgers);
    map_fini(&(*oracle)->cancels);
    free(*oracle);
    *oracle = NULL;
}
struct job *job_of(const struct world *world, uint64_t task)
{
    return map_get(&world->oracle->jobs, task);
}

struct ledger *ledger_of(struct world *world, uint64_t session)
{
    struct ledger *ledger = map_get(&world->oracle->ledgers, session);
    if (ledger == NULL) {
        ledger = xcalloc(1, sizeof *ledger);
        ledger->id = session;
        map_put(&world->oracle->ledgers, session, ledger);
    }
    return ledger;
}

struct try *try_of(struct job *job, struct token token)
{
    for (size_t i = 0; i < job->try_count; i++) {
        if (job->tries[i].token.epoch == token.epoch && job->tries[i].token.attempt == token.attempt) {
            return &job->tries[i];
        }
    }
    return NULL;
}

/* ---- what clients and workers do ---- */

void oracle_submitted(struct world *world, const struct client *client, const struct piece *submit, uint64_t id)
{
    struct job *job = job_of(world, id);
    if (job != NULL) {
        WORLD_CHECK(world, strcmp(job->work, submit->work) == 0, "two pieces of work under the number %" PRIx64, id);
        return;
    }
    job = xcalloc(1, sizeof *job);
    job->id = id;
    snprintf(job->work, sizeof job->work, "%s", submit->work);
    job->spec = submit->spec;
    job->session = client->session;
    job->is_volatile = client->is_volatile;
    job->is_named = client->session_name[0] != '\0';
    job->epoch = memstore_epoch(world->disk);
    job->is_cancelling = map_get(&world->oracle->cancels, id) != NULL;
    job->submitted_at = world->now;
    job->not_before = submit->spec.delay_ms <= DURATION_MS_MAX ? world->now + (int64_t)submit->spec.delay_ms
                                                               : (int64_t)submit->spec.delay_ms - WALL_START;
    map_put(&world->oracle->jobs, id, job);
    world->oracle->counts.submitted++;
}

void oracle_accepted(struct world *world, uint64_t task)
{
    struct job *job = job_of(world, task);
    world->oracle->counts.accepted += !job->is_accepted;
    job->is_accepted = true;
}

void oracle_cancelling(struct world *world, uint64_t task)
{
    struct job *job = job_of(world, task);
    if (job != NULL) {
        job->is_cancelling = true;
    }
    map_put(&world->oracle->cancels, task, world);
}

void oracle_closing(struct world *world, uint64_t session)
{
    ledger_of(world, session)->is_closing = true;
}

void oracle_lost(struct world *world, const struct client *client, uint64_t task)
{
    struct job *job = job_of(world, task);
    const struct ledger *ledger = ledger_of(world, job->session);
    WORLD_CHECK(world, job->is_volatile && !job->is_lost, "%s loses %" PRIx64 ", which is durable or was lost before",
                client->peer.name, task);
    WORLD_CHECK(world, job->epoch < memstore_epoch(world->disk) || ledger->is_closing || !job->is_named,
                "%s loses %" PRIx64 ", and the broker has not ended since", client->peer.name, task);
    for (size_t i = 0; i < job->taker_count; i++) {
        WORLD_CHECK(world, job->takers[i] != client->peer.serial, "%s loses %" PRIx64 ", whose outcome it took",
                    client->peer.name, task);
    }
    job->is_lost = true;
    world->oracle->counts.lost++;
}

void oracle_started(struct world *world, const struct worker *worker, const struct held *held)
{
    struct job *job = job_of(world, held->token.task);
    struct try *try = try_of(job, held->token);
    WORLD_CHECK(world, strcmp(job->work, held->work) == 0, "%s runs %s as task %" PRIx64 " which is %s",
                worker->peer.name, held->work, job->id, job->work);
    WORLD_CHECK(world, try != NULL && !try->is_started, "%s starts an attempt of %" PRIx64 " again", worker->peer.name,
                job->id);
    WORLD_CHECK(world, !try->is_returned && !try->is_let_go, "%s starts %" PRIx64 ", which it %s", worker->peer.name,
                job->id, try->is_returned ? "has returned" : "was to drop");
    try->is_started = true;
    try->starter = worker->peer.serial;
    job->starts++;
    world->oracle->counts.starts++;
    world->oracle->counts.restarts += job->starts > 1;
    WORLD_CHECK(world, !job->spec.at_most_once || job->starts == 1, "at_most_once task %" PRIx64 " runs a second time",
                job->id);
    bool was_cancelled = job->has_fate && job->state == TASK_CANCELLED && job->fate_epoch == held->token.epoch;
    WORLD_CHECK(world, !was_cancelled || world->names_are_shared,
                "task %" PRIx64 " starts though its cancelling is on disk", job->id);
    bool has_expired = job->has_fate && job->cause == CAUSE_EXPIRED && job->fate_epoch == held->token.epoch;
    WORLD_CHECK(world, !has_expired || world->names_are_shared,
                "task %" PRIx64 " starts though it is on disk as expired", job->id);
}

void oracle_handed_in(struct world *world, const struct worker *worker, const struct held *held)
{
    struct try *try = try_of(job_of(world, held->token.task), held->token);
    WORLD_CHECK(world, try != NULL && try->is_started, "%s hands in %" PRIx64 " (%u.%u), which it never started",
                worker->peer.name, held->token.task, held->token.epoch, held->token.attempt);
    WORLD_CHECK(world, !try->is_handed_in || (try->end == held->end && try->cause == held->cause),
                "%s hands in %" PRIx64 " (%u.%u) again, as something else", worker->peer.name, held->token.task,
                held->token.epoch, held->token.attempt);
    try->is_handed_in = true;
    try->end = held->end;
    try->cause = held->cause;
}

void oracle_returned(struct world *world, const struct worker *worker, struct token token)
{
    struct try *try = try_of(job_of(world, token.task), token);
    WORLD_CHECK(world, try != NULL && !try->is_started, "%s returns %" PRIx64 " (%u.%u), which it has started",
                worker->peer.name, token.task, token.epoch, token.attempt);
    try->is_returned = true;
}

void oracle_let_go(struct world *world, struct token token)
{
    struct job *job = job_of(world, token.task);
    struct try *try = job != NULL ? try_of(job, token) : NULL;
    if (try != NULL) {
        try->is_let_go = true;
    }
}

static bool is_listed(struct list held, struct token token)
{
    struct item_held item;
    while (item_held_next(&held, &item)) {
        if (item.task == token.task && item.epoch == token.epoch && item.attempt == token.attempt &&
            item.state != HELD_LEASED) {
            return true;
        }
    }
    return false;
}

/* Once started, an attempt leaves the list only by a receipt or a DROP. */
void oracle_listed(struct world *world, const struct worker *worker, struct list held)
{
    size_t at = 0;
    uint64_t key;
    void *value;
    while (map_next(&world->oracle->jobs, &at, &key, &value)) {
        const struct job *job = value;
        for (size_t i = 0; i < job->try_count; i++) {
            const struct try *try = &job->tries[i];
            bool is_due = try->is_started && try->starter == worker->peer.serial && !try->is_let_go;
            WORLD_CHECK(world, !is_due || is_listed(held, try->token),
                        "%s has started %" PRIx64 " (%u.%u), has no receipt, and does not list it in HELLO",
                        worker->peer.name, job->id, try->token.epoch, try->token.attempt);
        }
    }
}

void oracle_taken(struct world *world, const struct client *client, const struct took *took)
{
    struct job *job = job_of(world, took->task);
    WORLD_CHECK(world, job != NULL && job->has_fate && job->completion == took->completion,
                "%s took an outcome of %" PRIx64 " that is not on disk", client->peer.name, took->task);
    for (size_t i = 0; i < job->taker_count; i++) {
        WORLD_CHECK(world, job->takers[i] != client->peer.serial, "%s takes the outcome of %" PRIx64 " twice",
                    client->peer.name, took->task);
    }
    WORLD_CHECK(world, job->taker_count < TAKER_COUNT_MAX, "outcome of %" PRIx64 " delivered to %u processes", job->id,
                TAKER_COUNT_MAX);
    job->takers[job->taker_count++] = client->peer.serial;
    world->oracle->counts.taken++;
}

void oracle_restarted(struct world *world)
{
    (void)world;
}
/* ---- the end ---- */

/* Of a session that others may still open: it has an outcome, and somebody took it; or it went with its broker. */
static bool volatile_is_drained(struct world *world, const struct job *job)
{
    bool is_followed = job->is_accepted && job->is_named && !ledger_of(world, job->session)->is_closing &&
                       job->epoch == memstore_epoch(world->disk);
    if (!is_followed || (job->has_fate && job->taker_count > 0)) {
        return true;
    }
    world_say(world, "volatile task %" PRIx64 " (%s) has no outcome that was taken", job->id, job->work);
    return false;
}

static bool job_is_drained(struct world *world, const struct job *job)
{
    if (job->is_volatile) {
        return volatile_is_drained(world, job);
    }
    const struct session_row *row = memstore_session(world->disk, job->session);
    bool is_followed = row != NULL && row->name.n > 0;
    if (job->was_stored && !job->has_fate) {
        const struct task_row *task = memstore_task(world->disk, job->id);
        world_say(world, "task %" PRIx64 " (%s) has no outcome, on disk it is %s", job->id, job->work,
                  task != NULL ? task_state_word(task->state) : "not there");
        return false;
    }
    if (job->is_accepted && !job->was_stored) {
        world_fail(world, "task %" PRIx64 " was accepted and is nowhere", job->id);
    }
    if (job->has_fate && is_followed && (job->taker_count == 0 || job->acked_at == 0)) {
        world_say(world, "outcome %" PRIu64 " of %" PRIx64 " (%s) is %s", job->completion, job->id, job->work,
                  job->taker_count ? "not acknowledged" : "not taken");
        return false;
    }
    return true;
}

bool oracle_is_drained(struct world *world, bool explain)
{
    size_t at = 0;
    uint64_t key;
    void *value;
    uint64_t count = world->trace_count;
    bool echo = world->echo;
    world->echo = echo && explain;
    while (map_next(&world->oracle->jobs, &at, &key, &value)) {
        if (!job_is_drained(world, value)) {
            if (!explain) {
                world->trace_count = count;
                world->echo = echo;
                return false;
            }
        }
    }
    world->echo = echo;
    return world->trace_count == count;
}

struct oracle_counts oracle_counts(const struct world *world)
{
    return world->oracle->counts;
}

unsigned oracle_starts(const struct world *world, uint64_t task)
{
    const struct job *job = job_of(world, task);
    return job == NULL ? 0 : job->starts;
}

bool oracle_has_outcome(const struct world *world, uint64_t task)
{
    const struct job *job = job_of(world, task);
    return job != NULL && job->has_fate;
}

/*
 * oracle.c owns what really happened, and compares: with every batch that reaches the disk, every frame that leaves the
 * broker, every start and every taking. It must not know the core's insides; of peers it reads what is public.
 * Start reading at oracle_sent and oracle_before_apply.
 */
#include "oracle.h"

#include "common/check.h"
#include "common/map.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TAKER_COUNT_MAX 8u
#define EMPTY_LINE_EVERY 5u
#define RESULT_SIZE 128u
/* To and fro more often than this, it leads nowhere. */
#define DISPATCH_COUNT_MAX 5000u

/* One dispatch of one task. */
struct
try {
    struct token token;
    uint64_t starter; /* serial of the worker that started it */
    bool is_started;
    bool is_returned;
    bool is_let_go; /* dropped, or its receipt has come */
    bool is_handed_in;
    enum finished_state end;
    enum cause cause;
};

/* One submit, whatever becomes of it. */
struct job {
    uint64_t id;
    char work[64];
    struct spec spec;
    uint64_t session;
    int64_t submitted_at;
    int64_t not_before;
    bool is_volatile; /* of a volatile session: never on disk; its fate is what was sent first */
    bool is_named;
    uint32_t epoch;   /* in which it was submitted */
    bool is_lost;     /* a client takes it for lost */
    bool is_accepted; /* a client has read it */
    bool is_cancelling;
    bool was_stored;
    struct try *tries;
    size_t try_count;
    size_t try_cap;
    unsigned starts;
    bool has_fate; /* its outcome is on disk */
    uint64_t completion;
    uint32_t state;
    uint32_t cause;
    uint32_t fate_epoch;
    uint64_t fate_hash;
    uint64_t acked_at; /* batches on disk when its acknowledgement was; 0 not yet */
    uint64_t takers[TAKER_COUNT_MAX];
    size_t taker_count;
};

/* What is known of a session. */
struct ledger {
    uint64_t id;
    bool is_gone; /* deleted on disk */
    bool is_volatile;
    bool is_closing;
    uint32_t epoch; /* of a volatile one */
    uint64_t completion_last;
    struct job **by_completion; /* index completion - 1 */
    size_t completion_cap;
    uint64_t *by_ordinal; /* task, index ordinal */
    size_t ordinal_cap;
};

struct oracle {
    struct map jobs;
    struct map ledgers;
    struct oracle_counts counts;
    uint64_t series_last; /* the highest number of a series on disk, ever */
};

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
    free(*oracle);
    *oracle = NULL;
}

static struct job *job_of(const struct world *world, uint64_t task)
{
    return map_get(&world->oracle->jobs, task);
}

static struct ledger *ledger_of(struct world *world, uint64_t session)
{
    struct ledger *ledger = map_get(&world->oracle->ledgers, session);
    if (ledger == NULL) {
        ledger = xcalloc(1, sizeof *ledger);
        ledger->id = session;
        map_put(&world->oracle->ledgers, session, ledger);
    }
    return ledger;
}

static struct try *try_of(struct job *job, struct token token)
{
    for (size_t i = 0; i < job->try_count; i++) {
        if (job->tries[i].token.epoch == token.epoch && job->tries[i].token.attempt == token.attempt) {
            return &job->tries[i];
        }
    }
    return NULL;
}

static unsigned count_ended(const struct job *job, enum cause cause)
{
    unsigned count = 0;
    for (size_t i = 0; i < job->try_count; i++) {
        const struct try *try = &job->tries[i];
        count += try->is_handed_in && try->end == FINISHED_FAILED && try->cause == cause;
    }
    return count;
}

static uint64_t hash_more(uint64_t hash, struct bytes bytes)
{
    for (size_t i = 0; i < bytes.n; i++) {
        hash = (hash ^ bytes.p[i]) * 0x100000001b3u;
    }
    return hash * 31 + bytes.n;
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

/* ---- what reaches the disk ---- */

/* Tasks that the broker itself submitted (retry) are other tasks with the same work. */
static struct job *job_of_retry(struct world *world, uint64_t id, uint64_t retry_of, uint64_t session)
{
    struct job *old = retry_of ? job_of(world, retry_of) : NULL;
    if (old == NULL) {
        return NULL;
    }
    struct job *job = xcalloc(1, sizeof *job);
    job->id = id;
    job->spec = old->spec;
    job->spec.ordinal = 0;
    job->session = session;
    snprintf(job->work, sizeof job->work, "%s", old->work);
    map_put(&world->oracle->jobs, id, job);
    return job;
}

static void note_ordinal(struct world *world, struct ledger *ledger, uint64_t ordinal, uint64_t task)
{
    if (ordinal == 0) {
        return;
    }
    if (ordinal >= ledger->ordinal_cap) {
        size_t cap = ordinal * 2;
        ledger->by_ordinal = xrealloc(ledger->by_ordinal, cap * sizeof *ledger->by_ordinal);
        memset(&ledger->by_ordinal[ledger->ordinal_cap], 0, (cap - ledger->ordinal_cap) * sizeof(uint64_t));
        ledger->ordinal_cap = cap;
    }
    uint64_t *slot = &ledger->by_ordinal[ordinal];
    WORLD_CHECK(world, *slot == 0 || *slot == task,
                "line %" PRIu64 " of session %" PRIu64 " is two tasks, %" PRIx64 " and %" PRIx64, ordinal, ledger->id,
                *slot, task);
    *slot = task;
}

static struct job *store_job(struct world *world, uint64_t id, uint64_t session, uint64_t ordinal, uint64_t retry_of)
{
    struct job *job = job_of(world, id);
    if (job == NULL) {
        job = job_of_retry(world, id, retry_of, session);
    }
    WORLD_CHECK(world, job != NULL, "task %" PRIx64 " is on disk and was never submitted", id);
    WORLD_CHECK(world, !job->is_volatile, "task %" PRIx64 " is on disk, and its session is volatile", id);
    WORLD_CHECK(world, job->session == session && job->spec.ordinal == ordinal,
                "task %" PRIx64 " is on disk in session %" PRIu64 " with ordinal %" PRIu64 ", was submitted otherwise",
                id, session, ordinal);
    note_ordinal(world, ledger_of(world, session), ordinal, id);
    job->was_stored = true;
    return job;
}

static void check_task(struct world *world, const struct task_row *row)
{
    struct job *job = store_job(world, row->id, row->session, row->ordinal, row->retry_of);
    struct cursor cursor = cursor_of(row->args);
    struct value value;
    WORLD_CHECK(world, !job->has_fate, "task %" PRIx64 " is created again after its outcome", row->id);
    bool is_same = cursor_next(&cursor, &value) && value.type == VALUE_STR && value.bytes.n >= strlen(job->work) &&
                   memcmp(value.bytes.p, job->work, strlen(job->work)) == 0;
    WORLD_CHECK(world, is_same, "arguments of %" PRIx64 " on disk are not those submitted", row->id);
}

static void check_blame(struct world *world, const struct task_row *row)
{
    const struct job *job = job_of(world, row->id);
    WORLD_CHECK(world, job != NULL && !job->has_fate, "task %" PRIx64 " changes after its outcome", row->id);
    unsigned failed = count_ended(job, CAUSE_ERROR) + count_ended(job, CAUSE_TIMEOUT) + count_ended(job, CAUSE_MEMORY);
    WORLD_CHECK(world, row->attempts <= failed, "task %" PRIx64 " is blamed for %u failed attempts and had %u", row->id,
                row->attempts, failed);
    WORLD_CHECK(world, row->crashes <= count_ended(job, CAUSE_CRASHED),
                "task %" PRIx64 " is blamed for %u crashes and had %u", row->id, row->crashes,
                count_ended(job, CAUSE_CRASHED));
    WORLD_CHECK(world, row->losses == 0 || world->workers_were_hurt,
                "task %" PRIx64 " is blamed for a loss, and no worker was hurt", row->id);
}

static void check_done(struct world *world, struct job *job, const struct outcome_row *row)
{
    struct cursor cursor = cursor_of(row->result);
    struct value value;
    bool is_text = cursor_next(&cursor, &value) && value.type == VALUE_STR && value.bytes.n < RESULT_SIZE;
    WORLD_CHECK(world, is_text, "result of %" PRIx64 " is none that a worker gave", row->id);
    bool is_found = false;
    for (size_t i = 0; i < job->try_count; i++) {
        char text[RESULT_SIZE];
        const struct try *try = &job->tries[i];
        snprintf(text, sizeof text, "R|%s|%u.%u", job->work, try->token.epoch, try->token.attempt);
        is_found = is_found || (bytes_is(value.bytes, text) && try->is_handed_in && try->end == FINISHED_DONE);
    }
    WORLD_CHECK(world, is_found, "result of %" PRIx64 " (%s) is %.*s", row->id, job->work, (int)value.bytes.n,
                (const char *)value.bytes.p);
}

/* Not too early, and not what this broker could know to have started. */
static void check_expired(struct world *world, const struct job *job)
{
    WORLD_CHECK(world, job->spec.expires_ms > 0 && world->now >= job->submitted_at + (int64_t)job->spec.expires_ms,
                "task %" PRIx64 " expired too early", job->id);
    for (size_t i = 0; i < job->try_count; i++) {
        const struct try *try = &job->tries[i];
        bool is_known = try->is_started && try->token.epoch == memstore_epoch(world->disk) && !world->workers_were_hurt;
        WORLD_CHECK(world, !is_known, "task %" PRIx64 " expired though it had started", job->id);
    }
}

static void check_failure(struct world *world, struct job *job, const struct outcome_row *row)
{
    unsigned errors = count_ended(job, CAUSE_ERROR) + count_ended(job, CAUSE_TIMEOUT) + count_ended(job, CAUSE_MEMORY);
    unsigned crashes = count_ended(job, CAUSE_CRASHED);
    uint64_t allowed = job->spec.attempts > 1 ? job->spec.attempts : 1;
    switch (row->cause) {
    case CAUSE_ERROR:
        if (bytes_is(row->kind, "UnknownFunction")) {
            WORLD_CHECK(world, job->spec.known && job->try_count == 0, "task %" PRIx64 " is called unknown", row->id);
            return;
        }
        WORLD_CHECK(world, errors >= allowed, "task %" PRIx64 " failed after %u of %" PRIu64 " attempts", row->id,
                    errors, allowed);
        return;
    case CAUSE_TIMEOUT:
    case CAUSE_MEMORY:
        WORLD_CHECK(world, count_ended(job, row->cause) >= 1, "task %" PRIx64 " failed by %s, and no attempt did",
                    row->id, cause_word(row->cause));
        return;
    case CAUSE_CRASHED:
        WORLD_CHECK(world, crashes >= 1 && job->spec.at_most_once,
                    "task %" PRIx64 " failed as crashed after %u crashes", row->id, crashes);
        return;
    case CAUSE_QUARANTINED:
        WORLD_CHECK(world, crashes >= CRASHES_MAX_DEFAULT, "task %" PRIx64 " quarantined after %u crashes", row->id,
                    crashes);
        return;
    case CAUSE_LOST:
        WORLD_CHECK(world, world->workers_were_hurt, "task %" PRIx64 " failed as lost, and no worker was hurt",
                    row->id);
        WORLD_CHECK(world, job->spec.at_most_once || job->try_count >= LOSSES_MAX_DEFAULT,
                    "task %" PRIx64 " failed as lost after %zu dispatches", row->id, job->try_count);
        return;
    case CAUSE_EXPIRED:
        check_expired(world, job);
        return;
    default:
        world_fail(world, "task %" PRIx64 " failed with cause %s", row->id, cause_word(row->cause));
    }
}

static uint64_t content_hash(uint32_t state, uint32_t cause, struct bytes result, struct bytes kind,
                             struct bytes message)
{
    return hash_more(hash_more(hash_more(state * 1000003u + cause, result), kind), message);
}

static void note_completion(struct world *world, struct ledger *ledger, struct job *job)
{
    WORLD_CHECK(world, job->completion == ledger->completion_last + 1,
                "session %" PRIu64 ": completion %" PRIu64 " recorded after %" PRIu64, ledger->id, job->completion,
                ledger->completion_last);
    if (ledger->completion_last == ledger->completion_cap) {
        ledger->completion_cap = ledger->completion_cap ? ledger->completion_cap * 2 : 64;
        ledger->by_completion = xrealloc(ledger->by_completion, ledger->completion_cap * sizeof *ledger->by_completion);
    }
    ledger->by_completion[ledger->completion_last++] = job;
}

static void note_fate(struct world *world, struct job *job, const struct outcome_row *row)
{
    struct oracle_counts *counts = &world->oracle->counts;
    WORLD_CHECK(world, !job->has_fate, "second outcome of %" PRIx64, row->id);
    job->has_fate = true;
    job->completion = row->completion;
    job->state = row->state;
    job->cause = row->cause;
    job->fate_epoch = memstore_epoch(world->disk);
    job->fate_hash = content_hash(row->state, row->cause, row->result, row->kind, row->message);
    counts->outcomes++;
    note_completion(world, ledger_of(world, row->session), job);
    if (row->state == TASK_DONE) {
        counts->done++;
        check_done(world, job, row);
    } else if (row->state == TASK_FAILED) {
        counts->failed++;
        check_failure(world, job, row);
    } else {
        counts->cancelled++;
        WORLD_CHECK(world, row->state == TASK_CANCELLED, "outcome of %" PRIx64 " in state %u", row->id, row->state);
    }
}

static void check_outcome(struct world *world, const struct outcome_row *row)
{
    note_fate(world, store_job(world, row->id, row->session, row->ordinal, row->retry_of), row);
}

static bool was_taken_by(const struct job *job, const struct uuid *instance)
{
    uint64_t serial;
    memcpy(&serial, instance->b, sizeof serial);
    for (size_t i = 0; i < job->taker_count; i++) {
        if (job->takers[i] == serial) {
            return true;
        }
    }
    return false;
}

/* Who acknowledged what: only what was taken, and only by the owner of then. */
static void note_acknowledged(struct world *world, const struct session_row *row, uint64_t completion)
{
    const struct session_row *old = memstore_session(world->disk, row->id);
    const struct ledger *ledger = ledger_of(world, row->id);
    WORLD_CHECK(world, completion <= ledger->completion_last,
                "session %" PRIu64 ": completion %" PRIu64 " acknowledged before it is on disk", row->id, completion);
    struct job *job = ledger->by_completion[completion - 1];
    bool by_owner = was_taken_by(job, &row->owner) || (old != NULL && was_taken_by(job, &old->owner));
    WORLD_CHECK(world, by_owner, "session %" PRIu64 ": completion %" PRIu64 " acknowledged and not taken by its owner",
                row->id, completion);
    job->acked_at = world->applied_count;
}

static void check_acknowledged(struct world *world, const struct change *changes, size_t count,
                               const struct session_row *row)
{
    const struct session_row *old = memstore_session(world->disk, row->id);
    WORLD_CHECK(world, old == NULL || old->acked_prefix <= row->acked_prefix,
                "session %" PRIu64 ": its acknowledged prefix falls back", row->id);
    for (uint64_t completion = 1; completion <= row->completion_last; completion++) {
        bool is = completion <= row->acked_prefix;
        for (size_t i = 0; i < count && !is; i++) {
            const struct taken_row *taken = &changes[i].taken;
            is = changes[i].kind == CHANGE_TAKEN && taken->session == row->id && taken->first <= completion &&
                 completion <= taken->last;
        }
        if (is && !memstore_acked(world->disk, row->id, completion)) {
            note_acknowledged(world, row, completion);
        }
    }
}

/* A session goes when nothing is left of it: every outcome was taken (nobody takes those of an unnamed one that ended).
 */
static void check_session_gone(struct world *world, uint64_t id)
{
    const struct session_row *old = memstore_session(world->disk, id);
    struct ledger *ledger = ledger_of(world, id);
    for (uint64_t completion = 1; completion <= ledger->completion_last; completion++) {
        struct job *job = ledger->by_completion[completion - 1];
        bool is_named = old != NULL && old->name.n > 0;
        WORLD_CHECK(world, job->acked_at != 0 || job->taker_count > 0 || !is_named,
                    "session %" PRIu64 " is deleted, and completion %" PRIu64 " was not taken", id, completion);
        job->acked_at = job->acked_at ? job->acked_at : world->applied_count;
    }
    ledger->is_gone = true;
    size_t at = 0;
    const struct task_row *row;
    while ((row = memstore_task_at(world->disk, at++)) != NULL) {
        WORLD_CHECK(world, row->session != id || oracle_has_outcome(world, row->id),
                    "session %" PRIu64 " is deleted, and task %" PRIx64 " lives", id, row->id);
    }
}

void oracle_before_apply(struct world *world, const struct change *changes, size_t count)
{
    uint64_t series_last = world->oracle->series_last; /* rows of one batch are in no order */
    for (size_t i = 0; i < count; i++) {
        const struct change *change = &changes[i];
        switch (change->kind) {
        case CHANGE_TASK:
            check_task(world, &change->task);
            check_blame(world, &change->task);
            break;
        case CHANGE_TASK_STATE:
            check_blame(world, &change->task);
            break;
        case CHANGE_OUTCOME:
            check_outcome(world, &change->outcome);
            break;
        case CHANGE_FAILURE: {
            const struct job *job = job_of(world, change->failure.task);
            WORLD_CHECK(world, job == NULL || !job->is_volatile,
                        "a failure of %" PRIx64 " is on disk, and its session is volatile", change->failure.task);
            break;
        }
        case CHANGE_SERIES: {
            WORLD_CHECK(world, !ledger_of(world, change->series.session)->is_volatile,
                        "series %" PRIu64 " is on disk, and its session is volatile", change->series.id);
            const struct series_row *old = memstore_series(world->disk, change->series.id);
            WORLD_CHECK(world,
                        old == NULL || (old->session == change->series.session &&
                                        uuid_equal(&old->instance, &change->series.instance) &&
                                        old->submitted_high <= change->series.submitted_high),
                        "series %" PRIu64 " is given to another, or falls back", change->series.id);
            WORLD_CHECK(world, old != NULL || change->series.id > world->oracle->series_last,
                        "series %" PRIu64 " is made again", change->series.id);
            series_last = change->series.id > series_last ? change->series.id : series_last;
            break;
        }
        default:
            break;
        }
    }
    world->oracle->series_last = series_last;
    for (size_t i = 0; i < count; i++) {
        if (changes[i].kind == CHANGE_SESSION_DELETE) {
            check_session_gone(world, changes[i].number);
        }
        if (changes[i].kind == CHANGE_SESSION) {
            WORLD_CHECK(world, !ledger_of(world, changes[i].session.id)->is_volatile,
                        "session %" PRIu64 " is on disk, and it is volatile", changes[i].session.id);
            check_acknowledged(world, changes, count, &changes[i].session);
        }
    }
    for (size_t i = 0; i < count; i++) {
        const struct job *job = changes[i].kind == CHANGE_OUTCOME_DELETE ? job_of(world, changes[i].number) : NULL;
        WORLD_CHECK(world, job == NULL || job->acked_at != 0,
                    "outcome of %" PRIx64 " deleted, and its acknowledgement is not on disk", changes[i].number);
    }
}

static void check_session(struct world *world, uint64_t id)
{
    const struct session_row *row = memstore_session(world->disk, id);
    const struct ledger *ledger = ledger_of(world, id);
    if (row == NULL) {
        return;
    }
    WORLD_CHECK(world, row->completion_last == ledger->completion_last,
                "session %" PRIu64 " says completion_last %" PRIu64 ", %" PRIu64 " are recorded", id,
                row->completion_last, ledger->completion_last);
    for (uint64_t line = 1; line <= row->ordinal_high; line++) {
        bool is_there = line < ledger->ordinal_cap && ledger->by_ordinal[line] != 0;
        WORLD_CHECK(world, is_there || line % EMPTY_LINE_EVERY == 0,
                    "session %" PRIu64 ": line %" PRIu64 " is passed over, ordinal_high is %" PRIu64, id, line,
                    row->ordinal_high);
    }
    for (uint64_t line = row->ordinal_high + 1; line < ledger->ordinal_cap; line++) {
        WORLD_CHECK(world, ledger->by_ordinal[line] == 0,
                    "session %" PRIu64 ": line %" PRIu64 " is on disk, ordinal_high is %" PRIu64, id, line,
                    row->ordinal_high);
    }
}

/* What was acknowledged stays so. */
static void check_taken(struct world *world, uint64_t id)
{
    const struct ledger *ledger = ledger_of(world, id);
    for (uint64_t completion = 1; completion <= ledger->completion_last && !ledger->is_gone; completion++) {
        bool was = ledger->by_completion[completion - 1]->acked_at != 0;
        WORLD_CHECK(world, memstore_acked(world->disk, id, completion) == was,
                    "session %" PRIu64 ": acknowledgement of %" PRIu64 " %s", id, completion,
                    was ? "taken back" : "from nowhere");
    }
}

void oracle_after_apply(struct world *world, const struct change *changes, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const struct change *change = &changes[i];
        if (change->kind == CHANGE_SESSION) {
            check_session(world, change->session.id);
            check_taken(world, change->session.id);
        } else if (change->kind == CHANGE_OUTCOME) {
            check_session(world, change->outcome.session);
        }
        if (change->kind == CHANGE_TASK || change->kind == CHANGE_OUTCOME) {
            uint64_t id = change->kind == CHANGE_TASK ? change->task.id : change->outcome.id;
            const struct series_row *series = memstore_series(world->disk, id_series(id));
            uint64_t high = series ? series->submitted_high : UINT64_MAX;
            WORLD_CHECK(world, id_sequence(id) <= high, "task %" PRIx64 " is on disk, submitted_high is %" PRIu64, id,
                        high);
            WORLD_CHECK(world, series == NULL || !series_row_refused(series, id_sequence(id), NULL),
                        "task %" PRIx64 " is on disk and refused", id);
        }
    }
}

/* ---- what the broker says ---- */

/* Its numbers are given once, whatever dies: they are reserved on disk before anybody hears them. */
static void sent_welcome_volatile(struct world *world, const struct wire *wire,
                                  const struct msg_WELCOME_CLIENT *welcome)
{
    struct ledger *ledger = ledger_of(world, welcome->session);
    const struct meta_row *meta = memstore_meta(world->disk);
    WORLD_CHECK(world, welcome->session < meta->session_next && welcome->series < meta->series_next,
                "%s is welcomed with numbers that are not reserved on disk", wire->maker->name);
    WORLD_CHECK(world,
                memstore_session(world->disk, welcome->session) == NULL &&
                    memstore_series(world->disk, welcome->series) == NULL,
                "%s is welcomed to a volatile session whose number is on disk", wire->maker->name);
    WORLD_CHECK(world, !ledger->is_volatile || ledger->epoch == memstore_epoch(world->disk),
                "%s is welcomed to a volatile session of a former broker", wire->maker->name);
    WORLD_CHECK(world, ledger->is_volatile || ledger->completion_last == 0,
                "%s is welcomed to a volatile session that was durable", wire->maker->name);
    ledger->is_volatile = true;
    ledger->epoch = memstore_epoch(world->disk);
}

static void sent_welcome(struct world *world, struct wire *wire, const struct msg_WELCOME_CLIENT *welcome)
{
    if (welcome->is_volatile) {
        sent_welcome_volatile(world, wire, welcome);
        return;
    }
    const struct session_row *row = memstore_session(world->disk, welcome->session);
    const struct series_row *series = memstore_series(world->disk, welcome->series);
    if (row == NULL && ledger_of(world, welcome->session)->is_gone) {
        return; /* nothing was left of it, and it went with the same batch: the next submit is told so */
    }
    if (row != NULL && series == NULL && !uuid_equal(&row->owner, &wire->maker->instance)) {
        return; /* others owned it within the same batch: it is told so next */
    }
    WORLD_CHECK(world, row != NULL && series != NULL, "%s is welcomed to a session or series that is not on disk",
                wire->maker->name);
    WORLD_CHECK(world, uuid_equal(&series->instance, &wire->maker->instance) && series->session == welcome->session,
                "%s is welcomed to a series that is not its own", wire->maker->name);
    bool is_told_truth = welcome->submitted_high <= series->submitted_high &&
                         welcome->ordinal_high <= row->ordinal_high &&
                         welcome->completion_last <= row->completion_last && welcome->acked_prefix <= row->acked_prefix;
    WORLD_CHECK(world, is_told_truth, "%s is told in WELCOME what is not on disk", wire->maker->name);
    wire->welcomed_at = world->sending_for;
}

static void sent_accepted(struct world *world, const struct msg_ACCEPTED *accepted)
{
    for (uint64_t i = 0; i < accepted->count; i++) {
        uint64_t id = id_make((uint32_t)accepted->series, (uint32_t)(accepted->sequence + i));
        const struct job *job = job_of(world, id);
        WORLD_CHECK(world, job != NULL && (job->is_volatile || job->has_fate || memstore_task(world->disk, id) != NULL),
                    "ACCEPTED of %" PRIx64 " leaves, and it is not on disk", id);
    }
}

static void sent_refused(struct world *world, const struct wire *wire, const struct msg_REFUSED *refused)
{
    if (wire->maker->kind != PEER_CLIENT) {
        return;
    }
    const struct series_row *series = memstore_series(world->disk, refused->series);
    const struct client *client = (const struct client *)(const void *)wire->maker;
    const struct session_row *row = memstore_session(world->disk, client->session);
    if (series == NULL && (row == NULL || !uuid_equal(&row->owner, &client->peer.instance))) {
        return; /* the session is gone or has other owners, and its series is gone too: who resumes is told so */
    }
    for (uint64_t i = 0; i < refused->count; i++) {
        uint64_t code = 0;
        WORLD_CHECK(world,
                    series != NULL && series_row_refused(series, refused->sequence + i, &code) && code == refused->code,
                    "REFUSED (%s) of %" PRIu64 "-%" PRIu64 " leaves, and it is not on disk (%s)",
                    quern_err_word((enum quern_err)refused->code), refused->series, refused->sequence + i,
                    series == NULL ? "no such series" : "not among its refused");
        WORLD_CHECK(world, refused->code != QUERN_DUPLICATE, "an honest client is told that its line is a duplicate");
    }
}

/* It is what was sent first that holds from then on. */
static void note_volatile(struct world *world, struct job *job, const struct item_outcome *item)
{
    const struct outcome_row row = {.id = item->task,
                                    .session = job->session,
                                    .completion = item->completion,
                                    .state = (uint32_t)item->state,
                                    .cause = (uint32_t)item->cause,
                                    .kind = item->kind,
                                    .message = item->message,
                                    .result = item->result};
    WORLD_CHECK(world, !job->is_lost && job->epoch == memstore_epoch(world->disk),
                "outcome of %" PRIx64 " leaves, and it was lost with its broker", item->task);
    if (!job->has_fate) {
        note_fate(world, job, &row);
    }
}

static void sent_outcome(struct world *world, const struct wire *wire, const struct item_outcome *item)
{
    struct job *job = job_of(world, item->task);
    if (job != NULL && job->is_volatile) {
        note_volatile(world, job, item);
    }
    WORLD_CHECK(world, job != NULL && job->has_fate, "outcome of %" PRIx64 " leaves, and it is not on disk",
                item->task);
    uint64_t hash = content_hash((uint32_t)item->state, (uint32_t)item->cause, item->result, item->kind, item->message);
    WORLD_CHECK(world,
                job->completion == item->completion && job->state == item->state && job->cause == item->cause &&
                    job->fate_hash == hash,
                "outcome of %" PRIx64 " leaves and is another than the one on disk", item->task);
    WORLD_CHECK(world, item->completion > wire->taken_prefix,
                "outcome of %" PRIx64 " leaves to %s, whose HELLO says that "
                "it was taken",
                item->task, wire->maker->name);
    WORLD_CHECK(world, job->acked_at == 0 || job->acked_at > wire->welcomed_at,
                "outcome of %" PRIx64 " leaves to %s, and its acknowledgement was on disk when that was welcomed",
                item->task, wire->maker->name);
}

/* Whatever the verdict: after it the worker forgets, so nothing on disk may still wait for this attempt. */
static void sent_release(struct world *world, struct token token, bool is_recorded, const char *what)
{
    const struct task_row *row = memstore_task(world->disk, token.task);
    const struct job *job = job_of(world, token.task);
    bool is_waited_for = row != NULL && (row->state == TASK_LEASED || row->state == TASK_RUNNING) &&
                         row->epoch == token.epoch && row->attempt == token.attempt;
    WORLD_CHECK(world, !is_waited_for, "%s of %" PRIx64 " (%u.%u) leaves, and the disk still waits for it", what,
                token.task, token.epoch, token.attempt);
    if (is_recorded && !(job != NULL && job->is_volatile)) {
        bool is_older = row != NULL && token_compare((struct token){row->id, row->epoch, row->attempt}, token) < 0;
        WORLD_CHECK(world, job != NULL && (job->has_fate || (row != NULL && !is_older)),
                    "%s of %" PRIx64 " (%u.%u) says recorded, and the disk does not know", what, token.task,
                    token.epoch, token.attempt);
    }
    world->oracle->counts.receipts++;
}

static void sent_dispatch(struct world *world, const struct item_dispatch *item)
{
    struct token token = {item->task, memstore_epoch(world->disk), (uint32_t)item->attempt};
    struct job *job = job_of(world, item->task);
    WORLD_CHECK(world, job != NULL, "task %" PRIx64 " is dispatched and was never submitted", item->task);
    WORLD_CHECK(world, !job->has_fate, "task %" PRIx64 " is dispatched after its outcome is on disk", item->task);
    WORLD_CHECK(world, world->wall_shift != 0 || world->now >= job->not_before,
                "task %" PRIx64 " is dispatched before its time", item->task);
    if (job->try_count > 0) {
        struct token last = job->tries[job->try_count - 1].token;
        WORLD_CHECK(world, token_compare(last, token) < 0, "task %" PRIx64 " is dispatched as %u.%u after %u.%u",
                    item->task, token.epoch, token.attempt, last.epoch, last.attempt);
    }
    WORLD_CHECK(world, job->try_count < DISPATCH_COUNT_MAX, "task %" PRIx64 " is dispatched again and again",
                item->task);
    if (job->spec.at_most_once && !job->is_volatile) {
        const struct task_row *row = memstore_task(world->disk, item->task);
        WORLD_CHECK(world,
                    row != NULL && (row->state == TASK_LEASED || row->state == TASK_RUNNING) &&
                        row->epoch == token.epoch && row->attempt == token.attempt,
                    "at_most_once task %" PRIx64 " is dispatched, and its lease is not on disk", item->task);
    }
    if (job->try_count == job->try_cap) {
        job->try_cap = job->try_cap ? job->try_cap * 2 : 4;
        job->tries = xrealloc(job->tries, job->try_cap * sizeof *job->tries);
    }
    job->tries[job->try_count++] = (struct try){.token = token};
    world->oracle->counts.dispatches++;
}

static void sent_reply(struct world *world, const struct wire *wire, const struct msg_REPLY *reply)
{
    const struct client *client = (const struct client *)(const void *)wire->maker;
    if (wire->maker->kind != PEER_CLIENT) {
        return;
    }
    for (size_t i = 0; i < client->request_count; i++) {
        const struct asked *request = &client->requests[i];
        if (request->number != reply->request || request->kind != MSG_CANCEL) {
            continue;
        }
        const struct job *job = job_of(world, request->task);
        if (job != NULL && job->is_volatile) {
            WORLD_CHECK(world, reply->code != QUERN_OK || !job->has_fate || job->state == TASK_CANCELLED,
                        "%s is told that %" PRIx64 " is cancelled, and it has another outcome", client->peer.name,
                        request->task);
        } else if (reply->code == QUERN_OK) {
            WORLD_CHECK(world, job != NULL && job->has_fate && job->state == TASK_CANCELLED,
                        "%s is told that %" PRIx64 " is cancelled, and the disk does not say so", client->peer.name,
                        request->task);
        } else if (reply->code == QUERN_FINISHED) {
            WORLD_CHECK(world, job != NULL && job->has_fate,
                        "%s is told that %" PRIx64 " was finished, and the disk does not say so", client->peer.name,
                        request->task);
        }
    }
}

/* Who is told that the session was taken over must not be its owner on disk. */
static void sent_denied(struct world *world, const struct wire *wire, const struct msg_DENIED *denied)
{
    if (denied->code != QUERN_TAKEN_OVER || wire->maker->kind != PEER_CLIENT) {
        return;
    }
    const struct client *client = (const struct client *)(const void *)wire->maker;
    const struct session_row *row = memstore_session(world->disk, client->session);
    WORLD_CHECK(world, row == NULL || !uuid_equal(&row->owner, &client->peer.instance),
                "%s owns its session, and is told that it was taken over", client->peer.name);
}

static void sent_message(struct world *world, struct wire *wire, struct message *message)
{
    struct item_outcome outcome;
    struct item_receipt receipt;
    struct item_token token;
    struct item_dispatch dispatch;
    switch (message->kind) {
    case MSG_WELCOME_CLIENT:
        sent_welcome(world, wire, &message->WELCOME_CLIENT);
        break;
    case MSG_ACCEPTED:
        sent_accepted(world, &message->ACCEPTED);
        break;
    case MSG_REFUSED:
        sent_refused(world, wire, &message->REFUSED);
        break;
    case MSG_OUTCOME:
        while (item_outcome_next(&message->OUTCOME.items, &outcome)) {
            sent_outcome(world, wire, &outcome);
        }
        break;
    case MSG_RECEIPT:
        while (item_receipt_next(&message->RECEIPT.items, &receipt)) {
            sent_release(world, (struct token){receipt.task, (uint32_t)receipt.epoch, (uint32_t)receipt.attempt},
                         receipt.verdict == RECEIPT_RECORDED, "receipt");
        }
        break;
    case MSG_DROP:
        while (item_token_next(&message->DROP.items, &token)) {
            sent_release(world, (struct token){token.task, (uint32_t)token.epoch, (uint32_t)token.attempt}, false,
                         "drop");
        }
        break;
    case MSG_DISPATCH:
        while (item_dispatch_next(&message->DISPATCH.items, &dispatch)) {
            sent_dispatch(world, &dispatch);
        }
        break;
    case MSG_DENIED:
        sent_denied(world, wire, &message->DENIED);
        break;
    case MSG_REPLY:
        sent_reply(world, wire, &message->REPLY);
        break;
    default:
        break;
    }
}

void oracle_sent(struct world *world, struct wire *wire, struct bytes frame)
{
    uint32_t generation;
    struct cursor cursor;
    struct message message;
    uint64_t unknown;
    const char *why = "";
    if (frame_open(frame, &generation, &cursor) != QUERN_OK) {
        world_fail(world, "the broker sends a frame that is none");
    }
    for (;;) {
        enum quern_err err = message_next(&cursor, &message, &unknown, &why);
        if (err == QUERN_END) {
            return;
        }
        WORLD_CHECK(world, err == QUERN_OK, "the broker sends a message that is none: %s", why);
        sent_message(world, wire, &message);
    }
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

/*
 * oracle_disk.c owns the comparison of what reaches the disk with what really happened, before and after each batch.
 * It must not know the core's insides.
 * Start reading at oracle_before_apply and oracle_after_apply.
 */
#include "facts.h"

#include "common/check.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EMPTY_LINE_EVERY 5u
#define RESULT_SIZE 128u
#define ARGS_SIZE_MAX 4096u /* of one task */

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

uint64_t fate_hash(uint32_t state, uint32_t cause, struct bytes result, struct bytes kind, struct bytes message)
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

void fate_note(struct world *world, struct job *job, const struct outcome_row *row)
{
    struct oracle_counts *counts = &world->oracle->counts;
    WORLD_CHECK(world, !job->has_fate, "second outcome of %" PRIx64, row->id);
    job->has_fate = true;
    job->completion = row->completion;
    job->state = row->state;
    job->cause = row->cause;
    job->fate_epoch = memstore_epoch(world->disk);
    job->fate_hash = fate_hash(row->state, row->cause, row->result, row->kind, row->message);
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
        bool is_asked = job->is_cancelling || !job->is_named || ledger_of(world, job->session)->is_closing;
        WORLD_CHECK(world, is_asked, "task %" PRIx64 " is cancelled, and nobody asked for it", row->id);
        WORLD_CHECK(world, row->state == TASK_CANCELLED, "outcome of %" PRIx64 " in state %u", row->id, row->state);
    }
}

static void check_outcome(struct world *world, const struct outcome_row *row)
{
    fate_note(world, store_job(world, row->id, row->session, row->ordinal, row->retry_of), row);
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

/* What is refused for want of room has none: soft by one message, whose run has one set of arguments after the other.
 */
static void check_room(struct world *world)
{
    const struct limits *limits = &world->limits;
    size_t count = memstore_task_count(world->disk);
    WORLD_CHECK(world, count <= limits->task_count_max, "%zu tasks are on disk, task_count_max is %" PRIu64, count,
                limits->task_count_max);
    uint64_t bytes = 0;
    for (size_t i = 0; i < count && limits->task_bytes_max < MIB; i++) {
        bytes += memstore_task_at(world->disk, i)->args.n;
    }
    WORLD_CHECK(world, bytes <= limits->task_bytes_max + ARGS_SIZE_MAX,
                "%" PRIu64 " bytes of tasks are on disk, task_bytes_max is %" PRIu64, bytes, limits->task_bytes_max);
}

void oracle_after_apply(struct world *world, const struct change *changes, size_t count)
{
    check_room(world);
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

/*
 * batch.c: the open batch. Steps mark what changed; core_seal reads the final state of everything marked, so a row is
 * written at most once a batch, and a task that came and went within it is one insert (collapse). Rows that are final
 * as they are made (calls, workers, failures, deletions) are kept as they are. Must not know why anything changed.
 */
#include "broker/state.h"

#include <stdlib.h>
#include <string.h>

#include "common/check.h"

#define ARENA_CHUNK_SIZE (64u * 1024u)

struct arena_chunk {
    struct arena_chunk *next;
    size_t used;
    size_t size;
    uint8_t bytes[];
};

void *arena_alloc(struct arena *arena, size_t n)
{
    struct arena_chunk *chunk = arena->chunks;
    n = (n + 7) & ~(size_t)7;
    if (chunk == NULL || chunk->size - chunk->used < n) {
        size_t size = n > ARENA_CHUNK_SIZE ? n : ARENA_CHUNK_SIZE;
        chunk = xmalloc(sizeof *chunk + size);
        *chunk = (struct arena_chunk){.next = arena->chunks, .size = size};
        arena->chunks = chunk;
    }
    void *p = chunk->bytes + chunk->used;
    chunk->used += n;
    return p;
}

struct bytes arena_copy(struct arena *arena, struct bytes bytes)
{
    if (bytes.p == NULL) {
        return bytes;
    }
    void *p = arena_alloc(arena, bytes.n ? bytes.n : 1);
    memcpy(p, bytes.p, bytes.n);
    return bytes_of(p, bytes.n);
}

void arena_fini(struct arena *arena)
{
    while (arena->chunks != NULL) {
        struct arena_chunk *next = arena->chunks->next;
        free(arena->chunks);
        arena->chunks = next;
    }
}

/* Row changes whose memory is kept for the next batch: a few MiB. */
#define CHANGES_KEPT_COUNT_MAX 32768u

/* ---- marking ---- */

static void mark(struct core *core, bool is_lazy)
{
    if (!is_lazy) {
        core->open.is_urgent = true;
    } else if (core->open.lazy_since == 0) {
        core->open.lazy_since = core->now ? core->now : 1;
    }
}

/* What is volatile ends here: nothing of such a session is ever marked. */
void batch_task(struct core *core, struct task *task, bool is_lazy)
{
    if (task->session->is_volatile) {
        return;
    }
    mark(core, is_lazy);
    if (!task->is_dirty) {
        ARRAY_RESERVE(core->open.tasks, core->open.task_count, core->open.task_cap);
        core->open.tasks[core->open.task_count++] = task;
        task->is_dirty = true;
        task->refs++;
        core->open.bytes += task->is_stored ? 0 : task->args_size;
    }
}

void batch_session(struct core *core, struct session *session, bool is_lazy)
{
    if (session->is_volatile) {
        return;
    }
    mark(core, is_lazy);
    if (!session->is_dirty) {
        ARRAY_RESERVE(core->open.sessions, core->open.session_count, core->open.session_cap);
        core->open.sessions[core->open.session_count++] = session;
        session->is_dirty = true;
    }
}

void batch_series(struct core *core, struct series *series)
{
    if (series->session->is_volatile) {
        return;
    }
    mark(core, false);
    if (!series->is_dirty) {
        ARRAY_RESERVE(core->open.series, core->open.series_count, core->open.series_cap);
        core->open.series[core->open.series_count++] = series;
        series->is_dirty = true;
    }
}

struct change *batch_single(struct core *core, enum change_kind kind)
{
    mark(core, kind == CHANGE_OUTCOME_DELETE);
    ARRAY_RESERVE(core->open.singles, core->open.single_count, core->open.single_cap);
    struct change *change = &core->open.singles[core->open.single_count++];
    *change = (struct change){.kind = kind};
    return change;
}

void batch_record(struct core *core, struct record *record)
{
    mark(core, false);
    ARRAY_RESERVE(core->open.records, core->open.record_count, core->open.record_cap);
    core->open.records[core->open.record_count++] = record;
    record->refs++;
    core->open.collapsed += record->had_task ? 0 : 1;
    core->open.bytes += record->row.result.n + record->row.detail.n + record->row.report.n +
                        record->row.output.n;
}

void batch_amo(struct core *core, struct token token)
{
    ARRAY_RESERVE(core->open.amo, core->open.amo_count, core->open.amo_cap);
    core->open.amo[core->open.amo_count++] = token;
}

void batch_forget_series(struct core *core, const struct series *series)
{
    struct open_batch *open = &core->open;
    for (size_t i = 0; i < open->series_count && series->is_dirty; i++) {
        if (open->series[i] == series) {
            open->series[i] = open->series[--open->series_count];
            return;
        }
    }
}

/* The session and its series are about to be freed. */
void batch_forget_session(struct core *core, struct session *session)
{
    struct open_batch *open = &core->open;
    for (size_t i = 0; i < open->session_count; i++) {
        if (open->sessions[i] == session) {
            open->sessions[i] = open->sessions[--open->session_count];
            break;
        }
    }
    for (size_t i = 0; i < open->series_count;) {
        if (open->series[i]->session == session) {
            open->series[i] = open->series[--open->series_count];
        } else {
            i++;
        }
    }
}

/* ---- sealing ---- */

/* What a sealed batch keeps alive until it is on disk. */
struct batch_memory {
    struct arena arena;
    struct task **tasks;
    size_t task_count;
    struct record **records;
    size_t record_count;
    struct token *amo;
    size_t amo_count;
    struct batch_memory *next; /* sealed, in order */
    uint64_t number;
    size_t bytes;
};

static struct change *change_add(struct batch *batch, enum change_kind kind)
{
    ARRAY_RESERVE(batch->changes, batch->count, batch->cap);
    struct change *change = &batch->changes[batch->count++];
    *change = (struct change){.kind = kind};
    return change;
}

/* What was acknowledged since the last batch and the prefix has not passed: as much of it as hangs together, so that
 * who takes everything but one writes one row again and again. Rows within it become superfluous, and go when the
 * prefix passes them. Each number begins at most one row, so there are never more of them than acknowledged outcomes.
 */
static void seal_taken(struct batch *batch, struct session *session)
{
    uint64_t last = 0;
    ranges_drop(&session->acked_fresh, session->acked_prefix);
    for (size_t i = 0; i < session->acked_fresh.count; i++) {
        const struct range *range = ranges_around(&session->acked_beyond, session->acked_fresh.at[i].first);
        if (range->last > last) {
            struct change *change = change_add(batch, CHANGE_TAKEN);
            change->number = session->id;
            change->taken = (struct taken_row){.session = session->id, .first = range->first, .last = range->last};
            last = range->last;
        }
    }
    session->has_taken = session->acked_beyond.count > 0 && (session->has_taken || session->acked_fresh.count > 0);
    ranges_clear(&session->acked_fresh);
}

static void seal_session(struct core *core, struct batch *batch, struct session *session)
{
    struct arena *arena = &core->open.arena;
    struct change *change = change_add(batch, CHANGE_SESSION);
    session->is_dirty = false;
    change->number = session->id;
    change->had_taken = session->has_taken;
    change->session = (struct session_row){.id = session->id,
                                           .name = arena_copy(arena, bytes_text(session->name)),
                                           .description = arena_copy(arena, buf_bytes(&session->description)),
                                           .owner = session->owner,
                                           .owner_text = arena_copy(arena, bytes_text(session->owner_text)),
                                           .completion_last = session->completion_last,
                                           .acked_prefix = session->acked_prefix,
                                           .ordinal_high = session->ordinal_high,
                                           .failed = session->failed,
                                           .keep = session->keep,
                                           .is_ending = session->is_ending,
                                           .is_cancelling = session->is_cancelling,
                                           .created = session->created,
                                           .used = session->used,
                                           .expire_ms = session->expire_ms};
    memcpy(change->session.digest, session->digest, DIGEST_SIZE);
    seal_taken(batch, session);
}

static void seal_series(struct core *core, struct batch *batch, struct series *series)
{
    struct change *change = change_add(batch, CHANGE_SERIES);
    struct buf buf = {0};
    series->is_dirty = false;
    if (series->refused_count > 0) {
        put_array(&buf, (uint32_t)series->refused_count);
        for (size_t i = 0; i < series->refused_count; i++) {
            put_array(&buf, 3);
            put_u64(&buf, series->refused[i].first);
            put_u64(&buf, series->refused[i].last);
            put_u64(&buf, series->refused[i].code);
        }
    }
    change->number = series->id;
    change->series = (struct series_row){.id = series->id,
                                         .session = series->session->id,
                                         .instance = series->instance,
                                         .submitted_high = series->submitted_high,
                                         .refused = arena_copy(&core->open.arena, buf_bytes(&buf))};
    buf_fini(&buf);
}

static void seal_task(struct core *core, struct batch *batch, struct task *task)
{
    (void)core;
    task->is_dirty = false;
    if (task_is_final(task->state)) {
        return; /* its outcome says it all */
    }
    struct change *change = change_add(batch, task->is_stored ? CHANGE_TASK_STATE : CHANGE_TASK);
    task->is_stored = true;
    change->number = task->id;
    change->task = (struct task_row){.id = task->id,
                                     .session = task->session->id,
                                     .call = task->call->id,
                                     .state = task->state,
                                     .priority = (int32_t)task->call->option.priority,
                                     .attempt = task->attempt,
                                     .epoch = task->epoch,
                                     .worker = task->worker_id,
                                     .attempts = task->attempts,
                                     .crashes = task->crashes,
                                     .losses = task->losses,
                                     .due = task_waits(task) ? task->due : expiry_due_ms(task),
                                     .created = task->created,
                                     .ordinal = task->ordinal,
                                     .retry_of = task->retry_of,
                                     .args = task_args(task)};
}

static void seal_rows(struct core *core, struct batch *batch)
{
    struct open_batch *open = &core->open;
    if (open->meta_changed) {
        change_add(batch, CHANGE_META)->meta = core->meta;
    }
    for (size_t i = 0; i < open->single_count; i++) {
        if (open->singles[i].kind == CHANGE_CALL || open->singles[i].kind == CHANGE_WORKER) {
            *change_add(batch, open->singles[i].kind) = open->singles[i];
        }
    }
    for (size_t i = 0; i < open->session_count; i++) {
        seal_session(core, batch, open->sessions[i]);
    }
    for (size_t i = 0; i < open->series_count; i++) {
        seal_series(core, batch, open->series[i]);
    }
    for (size_t i = 0; i < open->task_count; i++) {
        seal_task(core, batch, open->tasks[i]);
    }
    for (size_t i = 0; i < open->record_count; i++) {
        struct change *change = change_add(batch, CHANGE_OUTCOME);
        change->number = open->records[i]->row.id;
        change->had_task = open->records[i]->had_task;
        change->outcome = open->records[i]->row;
    }
    for (size_t i = 0; i < open->single_count; i++) {
        if (open->singles[i].kind != CHANGE_CALL && open->singles[i].kind != CHANGE_WORKER) {
            *change_add(batch, open->singles[i].kind) = open->singles[i];
        }
    }
}

void batch_open(struct core *core)
{
    uint64_t number = core->open.number + 1;
    free(core->open.singles);
    free(core->open.sessions);
    free(core->open.series);
    core->open = (struct open_batch){.number = number};
}

/* Those of a batch before it, if they are enough: of tens of thousands of rows each page would be a fault anew. */
static void changes_take(struct core *core, struct batch *batch)
{
    const struct open_batch *open = &core->open;
    batch->changes = core->spare_changes;
    batch->cap = core->spare_change_cap;
    core->spare_changes = NULL;
    core->spare_change_cap = 0;
    size_t count =
        1 + open->single_count + open->session_count + open->series_count + open->task_count + open->record_count;
    if (batch->cap < count) { /* what was taken beyond a prefix comes on top, and seldom */
        free(batch->changes);
        batch->changes = xmalloc(count * sizeof *batch->changes);
        batch->cap = count;
    }
}

static void changes_give(struct core *core, struct batch *batch)
{
    bool is_kept = batch->cap <= CHANGES_KEPT_COUNT_MAX && batch->cap > core->spare_change_cap;
    free(is_kept ? core->spare_changes : batch->changes);
    core->spare_changes = is_kept ? batch->changes : core->spare_changes;
    core->spare_change_cap = is_kept ? batch->cap : core->spare_change_cap;
    batch->changes = NULL;
}

struct batch *core_seal(struct core *core)
{
    struct batch *batch = xcalloc(1, sizeof *batch);
    struct batch_memory *memory = xcalloc(1, sizeof *memory);
    outcomes_retain(core, core->open.record_count);
    changes_take(core, batch);
    batch->number = core->open.number;
    seal_rows(core, batch);
    batch->bytes = core->open.bytes;
    batch->collapsed = core->open.collapsed;
    batch->gated = core->open.gated;
    batch->memory = memory;
    *memory = (struct batch_memory){.arena = core->open.arena,
                                    .number = batch->number,
                                    .bytes = batch->bytes,
                                    .tasks = core->open.tasks,
                                    .task_count = core->open.task_count,
                                    .records = core->open.records,
                                    .record_count = core->open.record_count,
                                    .amo = core->open.amo,
                                    .amo_count = core->open.amo_count};
    core->sealed_bytes += batch->bytes;
    struct batch_memory **at = &core->sealed;
    while (*at != NULL) {
        at = &(*at)->next;
    }
    *at = memory;
    batch_open(core);
    return batch;
}

/* On disk: what waited for it may go on. The frames are the caller's; here are the rest. */
void batch_committed(struct core *core, uint64_t number)
{
    struct batch_memory *memory = core->sealed;
    CHECK_THAT(memory != NULL && memory->number == number, "batch %llu committed out of order",
               (unsigned long long)number);
    core->sealed = memory->next;
    core->committed = number;
    core->sealed_bytes -= memory->bytes; /* before credit is looked at: there may be no later commit to look again */
    core->counters.batches++;
    numbers_committed(core, number);
    outcomes_committed(core, memory->records, memory->record_count);
    worker_welcomed(core, number);
    dispatch_gated(core, memory->amo, memory->amo_count);
    if (core->sealed == NULL) { /* else a change of one of them may be in there, and not on disk yet */
        tasks_park(core, number, memory->tasks, memory->task_count);
    }
    clients_grant(core);
}

void batch_free(struct core *core, struct batch **batch)
{
    if (*batch == NULL) {
        return;
    }
    struct batch_memory *memory = (*batch)->memory;
    for (size_t i = 0; i < memory->task_count; i++) {
        task_unref(core, memory->tasks[i]);
    }
    for (size_t i = 0; i < memory->record_count; i++) {
        record_unref(core, memory->records[i]);
    }
    for (struct batch_memory **at = &core->sealed; *at != NULL; at = &(*at)->next) {
        if (*at == memory) { /* never committed: the core ends */
            *at = memory->next;
            core->sealed_bytes -= memory->bytes;
            break;
        }
    }
    arena_fini(&memory->arena);
    free(memory->tasks);
    free(memory->records);
    free(memory->amo);
    free(memory);
    outbox_fini(&(*batch)->gated);
    changes_give(core, *batch);
    free(*batch);
    *batch = NULL;
}

void batch_close(struct core *core)
{
    struct batch *batch = core_seal(core);
    batch_free(core, &batch);
    free(core->spare_changes);
    free(core->open.singles);
    free(core->open.sessions);
    free(core->open.series);
    arena_fini(&core->open.arena);
}

bool core_wants_commit(const struct core *core, int64_t mono_ms)
{
    const struct open_batch *open = &core->open;
    return open->is_urgent || open->gated.count > 0 || open->amo_count > 0 ||
           (open->lazy_since != 0 && mono_ms >= open->lazy_since + (int64_t)core->limits.lazy_commit_ms);
}

size_t core_open_bytes(const struct core *core)
{
    return core->sealed_bytes + core->open.bytes;
}

struct core_open_facts core_open_facts(const struct core *core)
{
    const struct open_batch *open = &core->open;
    return (struct core_open_facts){.committed = core->committed,
                                    .rows = open->task_count + open->record_count + open->single_count +
                                            open->session_count + open->series_count,
                                    .collapsed = open->collapsed};
}

/*
 * loaded: answers to loads. Every row's pieces stand in one chunk of memory of their own, so that no pointer moves when
 * the answer grows; the chunks hang together in loaded.memory.
 * Must not know threads, nor what is done with the rows.
 * Start at job_slice.
 */
#include "broker/loaded.h"

#include "common/check.h"
#include "common/clock.h"

#include <stdlib.h>
#include <string.h>

/* Rows between two looks at the clock. */
#define TASK_CLOCK_ROWS 32u

struct chunk {
    struct chunk *next;
    uint8_t bytes[];
};

/* ---- copies ---- */

static uint8_t *chunk_add(struct loaded *loaded, size_t n)
{
    struct chunk *chunk = xmalloc(sizeof *chunk + n);
    chunk->next = (struct chunk *)(void *)loaded->memory.p;
    loaded->memory.p = (uint8_t *)chunk;
    return chunk->bytes;
}

/* Turn views into views of one new chunk. */
static void keep(struct loaded *loaded, struct bytes *const views[], size_t count)
{
    size_t n = 1; /* so that an empty view points at something */
    for (size_t i = 0; i < count; i++) {
        n += views[i]->n;
    }
    uint8_t *p = chunk_add(loaded, n);
    for (size_t i = 0; i < count; i++) {
        if (views[i]->p != NULL) {
            memcpy(p, views[i]->p, views[i]->n);
            views[i]->p = p;
            p += views[i]->n;
        }
    }
}

#define KEEP(loaded, ...)                                                                                              \
    do {                                                                                                               \
        struct bytes *const views[] = {__VA_ARGS__};                                                                   \
        keep(loaded, views, sizeof views / sizeof views[0]);                                                           \
    } while (0)

static void keep_outcome(struct loaded *loaded, struct outcome_row *row)
{
    KEEP(loaded, &row->worker, &row->kind, &row->message, &row->detail, &row->report, &row->result, &row->args);
}

static void keep_failure(void *context, const struct failure_row *row)
{
    struct loaded *loaded = context;
    struct failure_row *kept = &loaded->failures[loaded->failure_count++];
    *kept = *row;
    KEEP(loaded, &kept->worker, &kept->kind, &kept->message, &kept->detail, &kept->report);
}

static void keep_list_row(void *context, const struct list_row *row)
{
    struct loaded *loaded = context;
    struct list_row *kept = &loaded->list[loaded->list_count++];
    *kept = *row;
    KEEP(loaded, &kept->function, &kept->queue, &kept->worker, &kept->message);
}

/* ---- the kinds ---- */

static enum quern_err slice_outcomes(struct job *job, struct store *store, bool *is_done_out)
{
    struct loaded *loaded = job->loaded;
    int64_t end_us = clock_mono_us() + QUERY_SLICE_US;
    do {
        struct outcome_row *row = &loaded->outcomes[loaded->outcome_count];
        enum quern_err err = store_outcome(store, job->load->ids[job->at], row);
        if (err == QUERN_OK) {
            keep_outcome(loaded, row);
            loaded->outcome_count++;
        } else if (err != QUERN_UNKNOWN) {
            return err;
        }
        job->at++;
    } while (job->at < job->load->count && clock_mono_us() < end_us);
    *is_done_out = job->at == job->load->count;
    return QUERN_OK;
}

/* False: the slice or the answer has come to its end with this row. */
static bool keep_task(void *context, const struct task_row *row)
{
    struct job *job = context;
    struct loaded *loaded = job->loaded;
    CHECK(loaded->task_count < job->load->limit);
    struct task_row *kept = &loaded->tasks[loaded->task_count++];
    *kept = *row;
    KEEP(loaded, &kept->args);
    loaded->through = row->id;
    job->bytes += row->args.n;
    bool is_late = loaded->task_count % TASK_CLOCK_ROWS == 0 && clock_mono_us() >= job->end_us;
    return job->bytes < LOAD_TASK_BYTES_SOFT && !is_late;
}

static enum quern_err slice_tasks(struct job *job, struct store *store, bool *is_done_out)
{
    struct loaded *loaded = job->loaded;
    enum quern_err err = QUERN_OK;
    job->end_us = clock_mono_us() + QUERY_SLICE_US;
    do {
        const struct load_run *run = &job->load->runs[job->at];
        uint64_t last = run->first + run->count - 1;
        uint64_t first = loaded->through >= run->first ? loaded->through + 1 : run->first;
        err = first <= last ? store_tasks(store, first, last, job, keep_task) : QUERN_END;
        if (err == QUERN_END) { /* of this run */
            loaded->through = last;
            job->at++;
            err = QUERN_OK;
        }
    } while (err == QUERN_OK && job->at < job->load->count && job->bytes < LOAD_TASK_BYTES_SOFT &&
             clock_mono_us() < job->end_us);
    *is_done_out = job->at == job->load->count || job->bytes >= LOAD_TASK_BYTES_SOFT;
    return err;
}

/* The task or the outcome of that id; *call_out: its call, 0 if there is neither. */
static enum quern_err load_task_or_outcome(struct loaded *loaded, struct store *store, uint64_t id, uint64_t *call_out)
{
    enum quern_err err = store_task(store, id, &loaded->task);
    if (err == QUERN_OK) {
        loaded->has_task = true;
        KEEP(loaded, &loaded->task.args);
        *call_out = loaded->task.call;
        return QUERN_OK;
    }
    loaded->task = (struct task_row){0};
    if (err == QUERN_UNKNOWN) {
        err = store_outcome(store, id, &loaded->outcomes[0]);
    }
    if (err == QUERN_OK) {
        loaded->outcome_count = 1;
        keep_outcome(loaded, &loaded->outcomes[0]);
        *call_out = loaded->outcomes[0].call;
    }
    return err == QUERN_UNKNOWN ? QUERN_OK : err;
}

static enum quern_err slice_show(struct job *job, struct store *store, bool *is_done_out)
{
    struct loaded *loaded = job->loaded;
    uint64_t id = job->load->ids[0];
    uint64_t call = 0;
    enum quern_err err = load_task_or_outcome(loaded, store, id, &call);
    if (err == QUERN_OK && call != 0) {
        err = store_call(store, call, &loaded->call);
        if (err == QUERN_OK) {
            KEEP(loaded, &loaded->call.queue, &loaded->call.function, &loaded->call.options);
        } else {
            loaded->call = (struct call_row){0};
            err = err == QUERN_UNKNOWN ? QUERN_OK : err;
        }
    }
    *is_done_out = true;
    return err != QUERN_OK ? err : store_failures(store, id, LOAD_FAILURE_COUNT_MAX, loaded, keep_failure);
}

static enum quern_err slice_logs(struct job *job, struct store *store, bool *is_done_out)
{
    struct loaded *loaded = job->loaded;
    enum quern_err err = slice_show(job, store, is_done_out);
    loaded->attempt = job->load->attempt;
    if (err == QUERN_OK) {
        err = store_output(store, job->load->ids[0], &loaded->attempt, &loaded->output);
    }
    if (err == QUERN_OK) {
        KEEP(loaded, &loaded->output);
    }
    return err;
}

static enum quern_err slice_list(struct job *job, struct store *store, bool *is_done_out)
{
    struct loaded *loaded = job->loaded;
    enum quern_err err = store_list_slice(store, &job->load->list, job->load->limit - loaded->list_count,
                                          QUERY_SLICE_US, loaded, keep_list_row);
    *is_done_out = err == QUERN_END || loaded->list_count >= job->load->limit;
    return err == QUERN_END ? QUERN_OK : err;
}

/* What goes wrong with a copy is its asker's, not the store's. */
static void slice_backup(struct job *job, struct store *store, bool *is_done_out)
{
    struct loaded *loaded = job->loaded;
    if (job->backup == NULL) {
        loaded->code = backup_open(store, job->load->path, &job->backup, &loaded->text);
    } else {
        loaded->code = backup_slice(job->backup, QUERY_SLICE_US, &loaded->text);
    }
    *is_done_out = loaded->code != QUERN_OK;
    if (loaded->code == QUERN_END) {
        job->needs_store = false;
    }
}

void job_finish(struct job *job)
{
    struct loaded *loaded = job->loaded;
    loaded->code = backup_finish(job->backup, &loaded->bytes, &loaded->text);
}

enum quern_err job_slice(struct job *job, struct store *store, bool *is_done_out)
{
    *is_done_out = false;
    switch (job->load->kind) {
    case LOAD_OUTCOMES:
        return slice_outcomes(job, store, is_done_out);
    case LOAD_SHOW:
        return slice_show(job, store, is_done_out);
    case LOAD_LIST:
        return slice_list(job, store, is_done_out);
    case LOAD_BACKUP:
        slice_backup(job, store, is_done_out);
        return QUERN_OK;
    case LOAD_LOGS:
        return slice_logs(job, store, is_done_out);
    case LOAD_TASKS:
        return slice_tasks(job, store, is_done_out);
    }
    CHECK_THAT(false, "load of kind %d", (int)job->load->kind);
    return QUERN_INVALID;
}

/* ---- life ---- */

struct job *job_open(struct load **load)
{
    struct job *job = xcalloc(1, sizeof *job);
    struct loaded *loaded = xcalloc(1, sizeof *loaded);
    job->load = *load;
    *load = NULL;
    job->loaded = loaded;
    job->needs_store = true;
    loaded->kind = job->load->kind;
    loaded->number = job->load->number;
    switch (job->load->kind) {
    case LOAD_OUTCOMES:
        CHECK(job->load->count >= 1 && job->load->count <= LOAD_OUTCOME_COUNT_MAX);
        loaded->outcomes = xcalloc(job->load->count, sizeof *loaded->outcomes);
        break;
    case LOAD_SHOW:
    case LOAD_LOGS:
        CHECK(job->load->count == 1);
        loaded->outcomes = xcalloc(1, sizeof *loaded->outcomes);
        loaded->failures = xcalloc(LOAD_FAILURE_COUNT_MAX, sizeof *loaded->failures);
        break;
    case LOAD_TASKS:
        CHECK(job->load->count >= 1 && job->load->count <= LOAD_RUN_COUNT_MAX && job->load->limit >= 1 &&
              job->load->limit <= LOAD_TASK_COUNT_MAX);
        loaded->tasks = xcalloc(job->load->limit, sizeof *loaded->tasks);
        break;
    case LOAD_LIST:
        CHECK(job->load->limit >= 1 && job->load->limit <= QUERY_ROW_COUNT_MAX);
        loaded->list = xcalloc(job->load->limit, sizeof *loaded->list);
        break;
    case LOAD_BACKUP:
        CHECK(job->load->path != NULL);
        loaded->code = QUERN_DRAINING; /* if it is not come to any more */
        break;
    }
    return job;
}

struct loaded *job_close(struct job **job)
{
    struct loaded *loaded = (*job)->loaded;
    backup_close(&(*job)->backup);
    free((*job)->load->path);
    free((*job)->load);
    free(*job);
    *job = NULL;
    return loaded;
}

void loaded_free(struct loaded **loaded)
{
    if (*loaded == NULL) {
        return;
    }
    struct chunk *chunk = (struct chunk *)(void *)(*loaded)->memory.p;
    while (chunk != NULL) {
        struct chunk *next = chunk->next;
        free(chunk);
        chunk = next;
    }
    free((*loaded)->outcomes);
    free((*loaded)->failures);
    free((*loaded)->tasks);
    free((*loaded)->list);
    free((*loaded)->text);
    free(*loaded);
    *loaded = NULL;
}

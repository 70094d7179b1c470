/*
 * memloads.c owns what is read back from a simulated store: all rows at a start, and the answers to loads.
 * It must not know how rows come there.
 * Start reading at memstore_load and memstore_answer.
 */
#include "memtables.h"

#include "common/check.h"

#include <stdlib.h>

/* ---- recovery ---- */

static uint64_t outcome_payload(const struct outcome_row *row)
{
    return row->result.n + row->args.n + row->kind.n + row->message.n + row->detail.n + row->report.n + row->output.n;
}

void memstore_load(const struct memstore *store, const struct store_visitor *visitor)
{
    EACH(store, CALLS, call_row, row)
    {
        visitor->call(visitor->context, row);
    }
    EACH(store, SESSIONS, session_row, row)
    {
        visitor->session(visitor->context, row);
    }
    EACH(store, TAKEN, taken_row, row)
    {
        visitor->taken(visitor->context, row);
    }
    EACH(store, SERIES, series_row, row)
    {
        visitor->series(visitor->context, row);
    }
    EACH(store, WORKERS, worker_row, row)
    {
        visitor->worker(visitor->context, row);
    }
    EACH(store, TASKS, task_row, row)
    {
        if (!task_row_is_plain(row) ||
            !visitor->plain_task(visitor->context, row->id, row->session, row->call, row->args.n)) {
            visitor->task(visitor->context, row);
        }
    }
    EACH(store, OUTCOMES, outcome_row, row)
    {
        visitor->outcome(visitor->context, row->id, row->session, row->completion, row->finished, outcome_payload(row));
    }
}

/* ---- loads: rows point into the store's own, which do not change while an answer is read ---- */

static void answer_outcomes(const struct memstore *store, const struct load *load, struct loaded *loaded)
{
    loaded->outcomes = xcalloc(load->count + 1, sizeof *loaded->outcomes);
    for (size_t i = 0; i < load->count; i++) {
        const struct outcome_row *row = memstore_outcome(store, load->ids[i]);
        if (row != NULL) {
            loaded->outcomes[loaded->outcome_count++] = *row;
        }
    }
}

static void answer_show(const struct memstore *store, const struct load *load, struct loaded *loaded)
{
    answer_outcomes(store, load, loaded);
    const struct task_row *task = memstore_task(store, load->ids[0]);
    uint64_t call = 0;
    if (loaded->outcome_count > 0) {
        call = loaded->outcomes[0].call;
    } else if (task != NULL) {
        loaded->has_task = true;
        loaded->task = *task;
        call = task->call;
    }
    const struct call_row *row = memtable_get(&store->tables[CALLS], call, 0);
    if (row != NULL) {
        loaded->call = *row;
    }
    loaded->failures = xcalloc(LOAD_FAILURE_COUNT_MAX, sizeof *loaded->failures);
    EACH(store, FAILURES, failure_row, failure)
    {
        if (failure->task == load->ids[0] && loaded->failure_count < LOAD_FAILURE_COUNT_MAX) {
            loaded->failures[loaded->failure_count++] = *failure;
        }
    }
}

static void answer_output(const struct memstore *store, const struct load *load, struct loaded *loaded)
{
    bool has_outcome = loaded->outcome_count > 0;
    loaded->attempt = load->attempt;
    if (loaded->attempt == 0 && has_outcome) {
        loaded->attempt = loaded->outcomes[0].attempt;
    }
    EACH(store, FAILURES, failure_row, failure)
    {
        if (failure->task == load->ids[0] && load->attempt == 0 && failure->attempt > loaded->attempt) {
            loaded->attempt = failure->attempt;
        }
    }
    if (has_outcome && loaded->outcomes[0].attempt == loaded->attempt) {
        loaded->output = loaded->outcomes[0].output;
    }
    const struct failure_row *failure = memtable_get(&store->tables[FAILURES], load->ids[0], loaded->attempt);
    if (failure != NULL && failure->output.n > 0) {
        loaded->output = failure->output;
    }
}

static struct list_row list_of_task(const struct task_row *row)
{
    return (struct list_row){.id = row->id,
                             .session = row->session,
                             .call = row->call,
                             .state = row->state,
                             .attempts = row->attempts,
                             .created = row->created};
}

static struct list_row list_of_outcome(const struct outcome_row *row)
{
    return (struct list_row){.id = row->id,
                             .session = row->session,
                             .call = row->call,
                             .state = row->state,
                             .cause = row->cause,
                             .attempts = row->attempts,
                             .created = row->created,
                             .finished = row->finished,
                             .worker = row->worker,
                             .message = row->message};
}

static bool list_wants(const struct list_query *query, const struct list_row *row)
{
    return (query->before == 0 || row->id < query->before) && (query->session == 0 || query->session == row->session) &&
           (query->state == 0 || query->state == row->state) && (query->cause == 0 || query->cause == row->cause);
}

static int list_newer_first(const void *a, const void *b)
{
    uint64_t left = ((const struct list_row *)a)->id;
    uint64_t right = ((const struct list_row *)b)->id;
    return left < right ? 1 : left > right ? -1 : 0;
}

static void answer_list(const struct memstore *store, const struct load *load, struct loaded *loaded)
{
    loaded->list = xcalloc(store->tables[TASKS].count + store->tables[OUTCOMES].count + 1, sizeof *loaded->list);
    EACH(store, TASKS, task_row, task)
    {
        struct list_row row = list_of_task(task);
        if (list_wants(&load->list, &row)) {
            loaded->list[loaded->list_count++] = row;
        }
    }
    EACH(store, OUTCOMES, outcome_row, outcome)
    {
        struct list_row row = list_of_outcome(outcome);
        if (list_wants(&load->list, &row)) {
            loaded->list[loaded->list_count++] = row;
        }
    }
    qsort(loaded->list, loaded->list_count, sizeof *loaded->list, list_newer_first);
    if (loaded->list_count > load->limit) {
        loaded->list_count = load->limit;
    }
}

/* Now and then only some of what was asked for, as when it is long. */
static void answer_tasks(const struct memstore *store, const struct load *load, struct loaded *loaded)
{
    size_t most = load->number % 3 == 0 ? 1 + load->number % 5 : load->limit;
    loaded->tasks = xcalloc(load->limit, sizeof *loaded->tasks);
    for (size_t i = 0; i < load->count; i++) {
        for (uint64_t k = 0; k < load->runs[i].count; k++) {
            const struct task_row *row = memstore_task(store, load->runs[i].first + k);
            if (row != NULL && loaded->task_count == most) {
                return;
            }
            if (row != NULL) {
                loaded->tasks[loaded->task_count++] = *row;
            }
            loaded->through = load->runs[i].first + k;
        }
    }
}

struct loaded *memstore_answer(const struct memstore *store, const struct load *load)
{
    struct loaded *loaded = xcalloc(1, sizeof *loaded);
    loaded->kind = load->kind;
    loaded->number = load->number;
    switch (load->kind) {
    case LOAD_OUTCOMES:
        answer_outcomes(store, load, loaded);
        break;
    case LOAD_SHOW:
        answer_show(store, load, loaded);
        break;
    case LOAD_LIST:
        answer_list(store, load, loaded);
        break;
    case LOAD_BACKUP: /* in memory there is nothing to copy */
        loaded->code = QUERN_UNSUPPORTED;
        free(load->path);
        break;
    case LOAD_LOGS:
        answer_show(store, load, loaded);
        answer_output(store, load, loaded);
        break;
    case LOAD_TASKS:
        answer_tasks(store, load, loaded);
        break;
    }
    return loaded;
}

void memstore_loaded_free(struct loaded **loaded)
{
    free((*loaded)->outcomes);
    free((*loaded)->failures);
    free((*loaded)->tasks);
    free((*loaded)->list);
    free(*loaded);
    *loaded = NULL;
}

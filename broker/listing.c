/*
 * listing.c: the rows of a list. What the store holds was read by it; tasks and outcomes of volatile sessions are added
 * here, from memory, so that one list shows both. Must not know messages. Start reading at listing_merge.
 */
#include "broker/listing.h"

#include <stdlib.h>

#include "common/check.h"

struct listing {
    const struct list_query *query;
    struct list_row *rows;
    size_t count;
    size_t cap;
    size_t looked; /* tasks and outcomes so far */
};

static bool is_wanted(const struct list_query *query, const struct list_row *row)
{
    return (query->state == 0 || query->state == row->state) && (query->cause == 0 || query->cause == row->cause);
}

static void listing_add(struct listing *listing, const struct list_row *row)
{
    if (is_wanted(listing->query, row)) {
        ARRAY_RESERVE(listing->rows, listing->count, listing->cap);
        listing->rows[listing->count++] = *row;
    }
}

static void add_task(struct listing *listing, const struct task *task)
{
    bool is_held = task->state == TASK_LEASED || task->state == TASK_RUNNING;
    struct list_row row = {.id = task->id,
                           .session = task->session->id,
                           .call = task->call->id,
                           .state = task->state,
                           .attempts = task->attempts,
                           .created = task->created,
                           .function = task->call->function,
                           .queue = task->call->queue,
                           .worker = is_held ? bytes_text(task->worker->label) : bytes_of(NULL, 0)};
    listing_add(listing, &row);
}

static void add_outcome(struct listing *listing, const struct outcome *outcome)
{
    const struct outcome_row *from = &outcome->record->row;
    struct list_row row = {.id = from->id,
                           .session = from->session,
                           .call = from->call,
                           .state = from->state,
                           .cause = from->cause,
                           .attempts = from->attempts,
                           .created = from->created,
                           .finished = from->finished,
                           .function = outcome->record->call->function,
                           .queue = outcome->record->call->queue,
                           .worker = from->worker,
                           .message = from->message};
    listing_add(listing, &row);
}

/* Both newest first: where the list of a session with too many is cut, the old ones are left out. */
static void add_session(struct listing *listing, const struct session *session)
{
    for (const struct task *task = session->tasks; task != NULL && listing->looked < LISTING_LOOK_COUNT_MAX;
         task = task->session_next) {
        listing->looked++;
        add_task(listing, task);
    }
    for (uint64_t i = session->completion_last; i > session->acked_prefix && listing->looked < LISTING_LOOK_COUNT_MAX;
         i--) {
        const struct outcome *outcome = session_outcome(session, i);
        listing->looked++;
        if (!outcome->is_acked) {
            add_outcome(listing, outcome);
        }
    }
}

static int newer_first(const void *a, const void *b)
{
    const struct list_row *x = a;
    const struct list_row *y = b;
    return x->id < y->id ? 1 : x->id > y->id ? -1 : 0;
}

struct list_row *listing_merge(const struct core *core, const struct list_query *query, size_t limit,
                               const struct loaded *loaded, size_t *count_out)
{
    struct listing listing = {.query = query};
    size_t at = 0;
    uint64_t id;
    void *value;
    for (size_t i = 0; i < loaded->list_count; i++) {
        ARRAY_RESERVE(listing.rows, listing.count, listing.cap);
        listing.rows[listing.count++] = loaded->list[i];
    }
    while (map_next(&core->sessions, &at, &id, &value)) {
        const struct session *session = value;
        if (session->is_volatile && (query->session == 0 || query->session == id)) {
            add_session(&listing, session);
        }
    }
    if (listing.count > 0) {
        qsort(listing.rows, listing.count, sizeof *listing.rows, newer_first);
    }
    *count_out = listing.count < limit ? listing.count : limit;
    return listing.rows;
}

/*
 * open.c: what a session's owner still has to hear of: its tasks without outcome and its outcomes not acknowledged, as
 * ids, in pages. Reads everything, changes nothing but what may be parked. The shape: PROTOCOL.md, QUERY. Start at
 * query_open.
 *
 * Parked tasks come before those in memory, and these before outcomes. A task only ever goes this way: the one that is
 * parked later would be missed, so what is in memory when the first page is asked for is not parked any more. So
 * nothing that is open then is missed, however much moves on or ends between two pages. What is named twice is no harm.
 */
#include "broker/answers.h"

struct page {
    struct buf tasks; /* first, count, first, count ...: runs of ids */
    uint32_t task_numbers;
    struct buf outcomes; /* completion, id, completion, id ... */
    uint32_t outcome_numbers;
    uint32_t room; /* tasks and outcomes still to be looked at */
    uint64_t first;
    uint64_t count; /* of the run under way */
};

static void run_put(struct page *page)
{
    if (page->count > 0) {
        put_u64(&page->tasks, page->first);
        put_u64(&page->tasks, page->count);
        page->task_numbers += 2;
    }
    page->count = 0;
}

/* Tasks stand newest first. */
static void task_put(struct page *page, uint64_t id)
{
    if (page->count > 0 && id + 1 == page->first) {
        page->first = id;
        page->count++;
    } else {
        run_put(page);
        page->first = id;
        page->count = 1;
    }
}

static void outcome_put(struct page *page, const struct outcome *outcome)
{
    put_u64(&page->outcomes, outcome->completion);
    put_u64(&page->outcomes, outcome->id);
    page->outcome_numbers += 2;
}

/* What says to ask on among those that are parked: no id has this bit. */
#define AMONG_PARKED ((uint64_t)1 << 63)

/* Those that are parked, by id, from behind `after` on. The last that was put, if the page is full; else 0. */
static uint64_t parked_put(const struct session *session, uint64_t after, struct page *page)
{
    uint64_t count;
    uint64_t first = parked_next(session, after, &count);
    for (; first != 0 && page->room > 0; first = parked_next(session, after, &count)) {
        page->first = first;
        page->count = count < page->room ? count : page->room;
        page->room -= (uint32_t)page->count;
        after = first + page->count - 1;
        run_put(page);
    }
    return page->room == 0 ? after : 0;
}

/* From the task behind `after` on, or, if that has ended meanwhile, from the first. The last that was looked at; 0: the
 * end is reached, and there is room for outcomes. */
static uint64_t tasks_put(const struct core *core, const struct session *session, uint64_t after, struct page *page)
{
    const struct task *last = after == 0 ? NULL : task_find(core, after);
    bool is_there = last != NULL && last->session == session;
    const struct task *task = is_there ? last->session_next : session->tasks;
    uint64_t at = 0;
    for (; task != NULL && page->room > 0; task = task->session_next) {
        task_put(page, task->id);
        at = task->id;
        page->room--;
    }
    run_put(page);
    return task == NULL && page->room > 0 ? 0 : at;
}

/* Parked ones, then those in memory. What the next page is to ask for; 0: the end is reached. */
static uint64_t live_put(const struct core *core, struct conn *conn, uint64_t after, struct page *page)
{
    struct session *session = conn->session;
    if (after == 0 || !conn->asked_open) { /* a page of another connection, or of a former broker, counts for nothing */
        conn->asked_open = true;
        session->parks_after = core->open.number;
        after = AMONG_PARKED;
    }
    if ((after & AMONG_PARKED) != 0) {
        after = parked_put(session, after & ~AMONG_PARKED, page);
        if (after != 0) {
            return after | AMONG_PARKED;
        }
    }
    return tasks_put(core, session, after, page);
}

/* Behind that completion number. The last that was looked at; 0: the end is reached. */
static uint64_t outcomes_put(const struct session *session, uint64_t after, struct page *page)
{
    uint64_t completion = (after > session->acked_prefix ? after : session->acked_prefix) + 1;
    for (; completion <= session->completion_last && page->room > 0; completion++) {
        const struct outcome *outcome = session_outcome(session, completion);
        if (!outcome->is_acked) {
            outcome_put(page, outcome);
        }
        page->room--;
    }
    return completion > session->completion_last ? 0 : completion - 1;
}

static void one_put(const struct core *core, const struct session *session, uint64_t id, struct page *page)
{
    const struct task *task = task_find(core, id);
    const struct outcome *outcome = outcome_find(core, id);
    const struct turn *parked = parked_turn(core, id);
    if ((task != NULL && task->session == session) || (parked != NULL && parked->session == session)) {
        task_put(page, id);
        run_put(page);
    } else if (outcome != NULL && outcome->session == session && !outcome->is_acked) {
        outcome_put(page, outcome);
    }
}

static void page_reply(struct core *core, struct conn *conn, uint64_t request, struct page *page, uint64_t after,
                       uint64_t completion)
{
    struct buf body = {0};
    put_map(&body, 4);
    put_text(&body, "tasks");
    put_array(&body, page->task_numbers);
    buf_put(&body, page->tasks.p, page->tasks.n);
    put_text(&body, "outcomes");
    put_array(&body, page->outcome_numbers);
    buf_put(&body, page->outcomes.p, page->outcomes.n);
    put_text(&body, "after");
    put_u64(&body, after);
    put_text(&body, "completion");
    put_u64(&body, completion);
    reply_about(core, conn, conn->session, request, QUERN_OK, NULL, buf_bytes(&body));
    buf_fini(&body);
    buf_fini(&page->tasks);
    buf_fini(&page->outcomes);
}

void query_open(struct core *core, struct conn *conn, uint64_t request, const struct open_query *query)
{
    struct session *session = conn->session;
    struct page page = {.room = QUERY_OPEN_COUNT_MAX};
    uint64_t after = 0;
    uint64_t completion = 0;
    if (session == NULL) {
        reply_put(core, conn, request, QUERN_INVALID, "only the owner of a session asks what is open in it", false,
                  bytes_of(NULL, 0));
        return;
    }
    if (query->id != 0) {
        one_put(core, session, query->id, &page);
    } else {
        after = query->completion == 0 ? live_put(core, conn, query->after, &page) : 0;
        completion = after == 0 ? outcomes_put(session, query->completion, &page) : 0;
    }
    page_reply(core, conn, request, &page, after, completion);
}

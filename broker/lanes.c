/*
 * lanes.c: what runs next. A lane is the ready tasks of one (queue, function). In a lane tasks that a deeper handler
 * submitted go first (somebody waits for them, in a slot), then higher priorities: that is a task's rank. Within a rank
 * sessions take turns; within a session tasks go in order of submission (of id). A task that comes back is put where
 * its id belongs: at the end of the list if it is the newest, else into the turn's small heap of late ones. Every
 * operation is O(1) or O(log n). Must not know of workers beyond who serves a lane.
 */
#include "broker/state.h"

#include <stdlib.h>
#include <string.h>

#include "common/check.h"

/* ---- lanes by name ---- */

static uint64_t lane_hash(const struct core *core, struct bytes queue, struct bytes function)
{
    return name_hash(core, queue) * 31 + name_hash(core, function);
}

static void buckets_grow(struct core *core)
{
    size_t count = core->lane_bucket_count ? core->lane_bucket_count * 2 : 64;
    struct lane **buckets = xcalloc(count, sizeof *buckets);
    for (size_t i = 0; i < core->lane_bucket_count; i++) {
        struct lane *lane = core->lane_buckets[i];
        while (lane != NULL) {
            struct lane *next = lane->next;
            struct lane **bucket = &buckets[lane->hash & (count - 1)];
            lane->next = *bucket;
            *bucket = lane;
            lane = next;
        }
    }
    free(core->lane_buckets);
    core->lane_buckets = buckets;
    core->lane_bucket_count = count;
}

static bool list_has(const struct bytes *names, size_t count, struct bytes name)
{
    for (size_t i = 0; i < count; i++) {
        if (bytes_equal(names[i], name)) {
            return true;
        }
    }
    return false;
}

bool worker_serves(const struct worker *worker, const struct lane *lane)
{
    return list_has(worker->functions, worker->function_count, lane->function) &&
           (worker->queue_count == 0 || list_has(worker->queues, worker->queue_count, lane->queue));
}

/* One that lost its connection counts until its lease is over: it may be back in a moment. */
bool lane_is_served(const struct core *core, const struct lane *lane)
{
    bool is_served = lane->worker_count > 0;
    for (const struct worker *worker = core->workers; worker != NULL && !is_served; worker = worker->next) {
        is_served = worker->conn == NULL && worker->lease_until > core->now && worker_serves(worker, lane);
    }
    return is_served;
}

static void lane_join(struct lane *lane, struct worker *worker)
{
    ARRAY_RESERVE(lane->workers, lane->worker_count, lane->worker_cap);
    lane->workers[lane->worker_count++] = worker;
    ARRAY_RESERVE(worker->lanes, worker->lane_count, worker->lane_cap);
    worker->lanes[worker->lane_count++] = lane;
}

static struct lane *lane_new(struct core *core, struct bytes queue, struct bytes function)
{
    if (core->lane_count >= core->lane_bucket_count) {
        buckets_grow(core);
    }
    struct lane *lane = xcalloc(1, sizeof *lane + queue.n + function.n);
    uint8_t *text = (uint8_t *)(lane + 1);
    memcpy(text, queue.p, queue.n);
    memcpy(text + queue.n, function.p, function.n);
    lane->queue = bytes_of(text, queue.n);
    lane->function = bytes_of(text + queue.n, function.n);
    lane->hash = lane_hash(core, queue, function);
    struct lane **bucket = &core->lane_buckets[lane->hash & (core->lane_bucket_count - 1)];
    lane->next = *bucket;
    *bucket = lane;
    core->lane_count++;
    for (struct worker *worker = core->workers; worker != NULL; worker = worker->next) {
        if (worker->conn != NULL && worker_serves(worker, lane)) {
            lane_join(lane, worker);
        }
    }
    return lane;
}

struct lane *lane_of(struct core *core, struct bytes queue, struct bytes function)
{
    uint64_t hash = lane_hash(core, queue, function);
    struct lane *lane = core->lane_bucket_count ? core->lane_buckets[hash & (core->lane_bucket_count - 1)] : NULL;
    for (; lane != NULL; lane = lane->next) {
        if (lane->hash == hash && bytes_equal(lane->function, function) && bytes_equal(lane->queue, queue)) {
            return lane;
        }
    }
    return core->lane_count < LANE_COUNT_MAX || !core->has_begun ? lane_new(core, queue, function) : NULL;
}

/* ---- who serves which ---- */

void lanes_serve(struct core *core, struct worker *worker)
{
    for (size_t i = 0; i < core->lane_bucket_count; i++) {
        for (struct lane *lane = core->lane_buckets[i]; lane != NULL; lane = lane->next) {
            if (worker_serves(worker, lane)) {
                lane_join(lane, worker);
            }
        }
    }
}

void lanes_unserve(struct core *core, struct worker *worker)
{
    (void)core;
    for (size_t i = 0; i < worker->lane_count; i++) {
        struct lane *lane = worker->lanes[i];
        for (size_t k = 0; k < lane->worker_count; k++) {
            if (lane->workers[k] == worker) {
                lane->workers[k] = lane->workers[--lane->worker_count];
                break;
            }
        }
    }
    worker->lane_count = 0;
    worker->lane_cursor = 0;
}

/* ---- lanes that nobody needs ---- */

/* Users name queues as they like, one per job perhaps: without this a worker would look through all there ever were. */
#define LANE_SHED_COUNT 256u

static void lane_leave(struct lane *lane, struct worker *worker)
{
    for (size_t i = 0; i < worker->lane_count; i++) {
        if (worker->lanes[i] == lane) {
            worker->lanes[i] = worker->lanes[--worker->lane_count];
            break;
        }
    }
    worker->lane_cursor = 0;
}

static void lane_free(struct lane *lane)
{
    free(lane->levels);
    free(lane->workers);
    free(lane);
}

static size_t bucket_shed(struct lane **at)
{
    size_t count = 0;
    while (*at != NULL) {
        struct lane *lane = *at;
        if (lane->calls > 0 || lane->ready > 0 || lane->leased > 0) {
            at = &lane->next;
            continue;
        }
        for (size_t i = 0; i < lane->worker_count; i++) {
            lane_leave(lane, lane->workers[i]);
        }
        *at = lane->next;
        lane_free(lane);
        count++;
    }
    return count;
}

void lanes_shed(struct core *core)
{
    for (size_t i = 0; i < core->lane_bucket_count; i++) {
        core->lane_count -= bucket_shed(&core->lane_buckets[i]);
    }
    core->lane_shed_at = core->lane_count * 2 > LANE_SHED_COUNT ? core->lane_count * 2 : LANE_SHED_COUNT;
}

/* ---- levels and turns ---- */

static bool is_earlier(const void *a, const void *b)
{
    return ((const struct task *)a)->id < ((const struct task *)b)->id;
}

int32_t lane_rank(const struct task_options *option)
{
    return (int32_t)option->depth * (PRIORITY_MAX - PRIORITY_MIN + 1) + (int32_t)option->priority;
}

static struct level *level_of(struct lane *lane, int32_t rank)
{
    size_t low = 0;
    size_t high = lane->level_count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (lane->levels[middle]->rank > rank) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    if (low < lane->level_count && lane->levels[low]->rank == rank) {
        return lane->levels[low];
    }
    ARRAY_RESERVE(lane->levels, lane->level_count, lane->level_cap);
    memmove(&lane->levels[low + 1], &lane->levels[low], (lane->level_count - low) * sizeof *lane->levels);
    struct level *level = xcalloc(1, sizeof *level);
    level->lane = lane;
    level->rank = rank;
    lane->levels[low] = level;
    lane->level_count++;
    return level;
}

static void level_drop(struct level *level)
{
    struct lane *lane = level->lane;
    for (size_t i = 0; i < lane->level_count; i++) {
        if (lane->levels[i] == level) {
            lane->level_count--;
            memmove(&lane->levels[i], &lane->levels[i + 1], (lane->level_count - i) * sizeof *lane->levels);
            free(level);
            return;
        }
    }
}

static void session_link(struct session *session, struct turn *turn)
{
    turn->session_prev = NULL;
    turn->session_next = session->turns;
    if (turn->session_next != NULL) {
        turn->session_next->session_prev = turn;
    }
    session->turns = turn;
}

static void session_unlink(struct session *session, struct turn *turn)
{
    if (turn->session_prev != NULL) {
        turn->session_prev->session_next = turn->session_next;
    } else {
        session->turns = turn->session_next;
    }
    if (turn->session_next != NULL) {
        turn->session_next->session_prev = turn->session_prev;
    }
}

/* The last to come is the last in the round. */
static void ring_join(struct turn *turn)
{
    struct level *level = turn->level;
    turn->is_asleep = false;
    if (level->current == NULL) {
        turn->prev = turn->next = turn;
        level->current = turn;
        return;
    }
    turn->next = level->current;
    turn->prev = level->current->prev;
    turn->prev->next = turn;
    turn->next->prev = turn;
}

static void ring_leave(struct turn *turn)
{
    struct level *level = turn->level;
    turn->is_asleep = true;
    if (turn->next == turn) {
        level->current = NULL;
        return;
    }
    turn->prev->next = turn->next;
    turn->next->prev = turn->prev;
    if (level->current == turn) {
        level->current = turn->next;
    }
}

static struct turn *turn_of(struct core *core, struct session *session, struct level *level)
{
    for (struct turn *turn = session->turns; turn != NULL; turn = turn->session_next) {
        if (turn->level == level) {
            if (turn != session->turns) { /* the next push is likely to want it too */
                session_unlink(session, turn);
                session_link(session, turn);
            }
            return turn;
        }
    }
    struct turn *turn = xcalloc(1, sizeof *turn);
    turn->session = session;
    turn->level = level;
    turn->boundary = UINT64_MAX;
    heap_init(&turn->late, offsetof(struct task, heap_index), is_earlier);
    session_link(session, turn);
    ring_join(turn);
    level->turn_count++;
    core->turn_count++;
    return turn;
}

struct turn *turn_of_call(struct core *core, struct session *session, const struct call *call)
{
    int32_t rank = lane_rank(&call->option);
    struct turn *turn = session->turns;
    if (turn != NULL && turn->level->lane == call->lane && turn->level->rank == rank) {
        return turn; /* that of the push before, mostly */
    }
    return turn_of(core, session, level_of(call->lane, rank));
}

static void turn_drop(struct core *core, struct turn *turn)
{
    struct level *level = turn->level;
    parked_drop(core, turn);
    session_unlink(turn->session, turn);
    heap_fini(&turn->late);
    if (!turn->is_asleep) {
        ring_leave(turn);
    }
    core->turn_count--;
    if (--level->turn_count == 0) {
        level_drop(level);
    }
    free(turn);
}

/* ---- what is ahead, and what is behind ---- */

/* Of it; NULL: all that can be had is behind. */
static struct task *turn_first(const struct turn *turn)
{
    struct task *head = turn->ahead > 0 ? turn->head : NULL;
    struct task *late = heap_top(&turn->late);
    if (late == NULL || late->id >= turn->boundary || (head != NULL && head->id < late->id)) {
        return head;
    }
    return late;
}

bool turn_parks(const struct core *core, const struct turn *turn)
{
    return turn->boundary != UINT64_MAX || turn->ahead >= core->keep_count;
}

/* Those in memory that no parked one goes before come to the front as there is room; for the others a load is asked
 * for. */
static void turn_advance(struct core *core, struct turn *turn)
{
    uint64_t first = parked_first(&turn->parked);
    uint64_t keep = core->keep_count;
    bool is_short = turn->ahead * 2 < keep;
    while (is_short && turn->ahead < keep && turn->behind != NULL && turn->behind->id < first) {
        turn->behind = turn->behind->next;
        turn->ahead++;
    }
    turn->boundary = turn->behind != NULL && turn->behind->id < first ? turn->behind->id : first;
    if (turn->ahead * 2 < keep) {
        parked_want(core, turn);
    }
}

void turn_settle(struct core *core, struct turn *turn)
{
    if (turn->boundary != UINT64_MAX || turn->parked.count > 0) {
        turn_advance(core, turn);
    }
    if (turn->head == NULL && turn->late.count == 0 && turn->parked.count == 0) {
        turn_drop(core, turn);
        return;
    }
    bool is_asleep = turn_first(turn) == NULL;
    if (is_asleep && !turn->is_asleep) {
        ring_leave(turn);
    } else if (!is_asleep && turn->is_asleep) {
        ring_join(turn);
    }
}

/* ---- tasks ---- */

/* before: NULL: at the end. */
static void list_insert(struct turn *turn, struct task *task, struct task *before)
{
    task->next = before;
    task->prev = before != NULL ? before->prev : turn->tail;
    if (task->prev != NULL) {
        task->prev->next = task;
    } else {
        turn->head = task;
    }
    if (before != NULL) {
        before->prev = task;
    } else {
        turn->tail = task;
    }
}

static void list_remove(struct turn *turn, struct task *task)
{
    if (task == turn->behind) {
        turn->behind = task->next;
    } else if (task->id < turn->boundary) {
        turn->ahead--;
    }
    if (task->prev != NULL) {
        task->prev->next = task->next;
    } else {
        turn->head = task->next;
    }
    if (task->next != NULL) {
        task->next->prev = task->prev;
    } else {
        turn->tail = task->prev;
    }
}

void lane_leave_behind(struct turn *turn, struct task *task)
{
    list_remove(turn, task);
    task->prev = task->next = NULL;
    task->turn = NULL;
}

/* At the end of those ahead, or at the end of all: the two places where tasks come in order. */
void lane_push(struct core *core, struct task *task)
{
    struct lane *lane = task->call->lane;
    struct turn *turn = turn_of_call(core, task->session, task->call);
    CHECK(task->turn == NULL && task->heap_index == 0);
    task->turn = turn;
    struct task *ahead_tail = turn->behind != NULL ? turn->behind->prev : turn->tail;
    bool is_first_behind = task->id > turn->boundary;
    if (turn->behind == NULL && turn->boundary == UINT64_MAX && task_may_park(task)) {
        is_first_behind = turn_parks(core, turn);
    }
    if (turn->behind != NULL && task->id > turn->tail->id) {
        list_insert(turn, task, NULL);
    } else if ((ahead_tail != NULL && task->id < ahead_tail->id) ||
               (turn->behind != NULL && task->id > turn->behind->id)) {
        heap_push(&turn->late, task);
    } else {
        list_insert(turn, task, turn->behind);
        turn->behind = is_first_behind ? task : turn->behind;
        turn->ahead += is_first_behind ? 0 : 1;
        turn->boundary = is_first_behind && task->id < turn->boundary ? task->id : turn->boundary;
    }
    lane->ready++;
    core->ready++;
    turn_settle(core, turn);
}

struct task *lane_peek(const struct lane *lane)
{
    const struct turn *turn = lane->level_count == 0 ? NULL : lane->levels[0]->current;
    return turn != NULL ? turn_first(turn) : NULL;
}

void lane_remove(struct core *core, struct task *task)
{
    struct turn *turn = task->turn;
    struct lane *lane = task->call->lane;
    if (task->heap_index != 0) {
        heap_remove(&turn->late, task);
    } else {
        list_remove(turn, task);
    }
    task->prev = task->next = NULL;
    task->turn = NULL;
    lane->ready--;
    core->ready--;
    turn_settle(core, turn);
}

void lane_take(struct core *core, struct task *first)
{
    first->turn->level->current = first->turn->next; /* the next session's turn */
    lane_remove(core, first);
}

void lanes_fini(struct core *core)
{
    for (size_t i = 0; i < core->lane_bucket_count; i++) {
        struct lane *lane = core->lane_buckets[i];
        while (lane != NULL) {
            struct lane *next = lane->next;
            lane_free(lane);
            lane = next;
        }
    }
    free(core->lane_buckets);
}

/*
 * invariants.c: what must hold between the core's nouns, walked completely. For tests and the simulation; slow. Must
 * not change anything.
 */
#include "broker/state.h"

#include "common/check.h"

static void check_tasks(const struct core *core)
{
    uint64_t bytes = core->parked_bytes;
    uint64_t ready = core->parked_count;
    uint64_t parked = 0;
    uint64_t states[TASK_CANCELLED + 1] = {0};
    size_t at = 0;
    uint64_t id;
    void *value;
    while (map_next(&core->tasks, &at, &id, &value)) {
        const struct task *task = task_of_entry(value);
        if (task == NULL) {
            CHECK(outcome_find(core, id) == NULL && !parked_turn(core, id)->session->is_volatile);
            parked++;
            continue;
        }
        CHECK(task->id == id && task->refs > 0 && !task_is_final(task->state));
        CHECK(outcome_find(core, id) == NULL);
        CHECK((task->state == TASK_READY) == (task->turn != NULL));
        bool waits = task->state == TASK_DELAYED || task->state == TASK_BACKOFF;
        CHECK(!waits || (task->heap_index != 0 && task->turn == NULL));
        CHECK(!task->is_by_wall || task->state == TASK_DELAYED);
        CHECK(task->expiry == NULL || task->call->option.expires_ms > 0);
        CHECK(task->expiry == NULL || (task->state != TASK_RUNNING && task->state != TASK_BACKOFF));
        CHECK(!expiry_is_over(task) || task->state == TASK_LEASED);
        CHECK(task->epoch <= core->epoch);
        CHECK(!task->is_listed);
        CHECK(!task->session->is_volatile || (!task->is_stored && !task->is_dirty && !task->is_unsent));
        bytes += task->args_size;
        ready += task->state == TASK_READY;
        states[task->state]++;
    }
    CHECK(bytes == core->task_bytes && ready == core->ready && parked == core->parked_count);
    states[TASK_READY] += parked;
    for (unsigned state = TASK_DELAYED; state <= TASK_BACKOFF; state++) {
        CHECK(states[state] == core->state_count[state]);
    }
}

/* Ids side by side are one run; each is marked in the table of tasks. */
static void check_parked(const struct core *core, const struct turn *turn)
{
    const struct parked *parked = &turn->parked;
    uint64_t count = 0;
    for (size_t i = parked->head; i < parked->end; i++) {
        const struct load_run *run = &parked->runs[i];
        CHECK(run->count > 0 && (i == parked->head || run[-1].first + run[-1].count <= run->first));
        for (uint64_t id = run->first; id < run->first + run->count; id++, count++) {
            CHECK(parked_turn(core, id) == turn);
        }
    }
    CHECK(count == parked->count && (parked->load == 0 || map_get(&core->loads, parked->load) == turn));
    CHECK(!turn->is_asleep || parked->load != 0 || parked->is_waiting); /* or it would sleep for ever */
}

static void check_turn(const struct core *core, const struct turn *turn, uint64_t *count)
{
    const struct task *before = NULL;
    uint64_t ahead = 0;
    bool is_ahead = true;
    CHECK(turn->head != NULL || turn->late.count > 0 || turn->parked.count > 0);
    for (const struct task *task = turn->head; task != NULL; task = task->next) {
        CHECK(task->turn == turn && task->prev == before && (before == NULL || before->id < task->id));
        is_ahead = is_ahead && task != turn->behind;
        CHECK(is_ahead == (task->id < turn->boundary));
        ahead += is_ahead;
        before = task;
        (*count)++;
    }
    CHECK(turn->tail == before && ahead == turn->ahead);
    CHECK(turn->boundary <= parked_first(&turn->parked));
    check_parked(core, turn);
    *count += turn->late.count + turn->parked.count;
}

static void check_lane(const struct lane *lane)
{
    uint64_t count = 0;
    for (size_t i = 0; i < lane->level_count; i++) {
        const struct level *level = lane->levels[i];
        CHECK(i == 0 || lane->levels[i - 1]->rank > level->rank);
        const struct turn *turn = level->current;
        size_t awake = 0;
        while (turn != NULL && (awake == 0 || turn != level->current)) {
            CHECK(turn->next->prev == turn && turn->level == level && !turn->is_asleep);
            turn = turn->next;
            awake++;
        }
        CHECK(awake <= level->turn_count && level->turn_count > 0);
        count += level->turn_count;
    }
    CHECK(count <= lane->ready);
}

static void check_lanes(const struct core *core)
{
    for (size_t i = 0; i < core->lane_bucket_count; i++) {
        for (const struct lane *lane = core->lane_buckets[i]; lane != NULL; lane = lane->next) {
            check_lane(lane);
        }
    }
}

/* Its turns, asleep or not. */
static void check_turns(const struct core *core, const struct session *session)
{
    uint64_t ready = 0;
    uint64_t parked = 0;
    uint64_t count = 0;
    for (const struct turn *turn = session->turns; turn != NULL; turn = turn->session_next) {
        CHECK(turn->session == session);
        check_turn(core, turn, &count);
        parked += turn->parked.count;
    }
    for (const struct task *task = session->tasks; task != NULL; task = task->session_next) {
        ready += task->state == TASK_READY;
    }
    CHECK(parked == session->parked && count == ready + parked);
}

static void check_session(const struct session *session)
{
    uint64_t live = session->parked;
    uint64_t untaken = 0;
    uint64_t beyond = 0;
    for (const struct task *task = session->tasks; task != NULL; task = task->session_next) {
        CHECK(task->session == session);
        live++;
    }
    for (uint64_t i = session->acked_prefix + 1; i <= session->completion_last; i++) {
        const struct outcome *outcome = session_outcome(session, i);
        CHECK(outcome != NULL && outcome->completion == i && outcome->session == session);
        untaken += !outcome->is_acked;
        beyond += outcome->is_acked;
    }
    for (size_t i = 0; i < session->acked_beyond.count; i++) {
        const struct range *range = &session->acked_beyond.at[i];
        CHECK(range->first > session->acked_prefix + 1 && range->last <= session->completion_last);
        beyond -= range->last - range->first + 1;
    }
    for (size_t i = 0; i < session->acked_fresh.count; i++) {
        const struct range *fresh = &session->acked_fresh.at[i];
        const struct range *range = ranges_around(&session->acked_beyond, fresh->last);
        CHECK(session->is_dirty);
        CHECK(fresh->last <= session->acked_prefix || (range != NULL && range->last >= fresh->last));
    }
    CHECK(live == session->live && untaken == session->untaken && beyond == 0);
    CHECK(session->acked_prefix == session->completion_last ||
          !session_outcome(session, session->acked_prefix + 1)->is_acked);
    CHECK(session->next_send > session->acked_prefix && session->next_send <= session->completion_last + 1);
    CHECK(session->conn == NULL || session->conn->session == session);
}

static void check_workers(const struct core *core)
{
    for (const struct worker *worker = core->workers; worker != NULL; worker = worker->next) {
        uint64_t count = 0;
        uint64_t bytes = 0;
        for (const struct task *task = worker->held; task != NULL; task = task->next) {
            CHECK(task->worker == worker && (task->state == TASK_LEASED || task->state == TASK_RUNNING));
            count++;
            bytes += task->args_size;
        }
        CHECK(count == worker->held_count && bytes == worker->held_bytes);
        CHECK(worker->conn == NULL || worker->conn->worker == worker);
    }
}

static uint64_t volatile_args(const struct core *core)
{
    uint64_t bytes = 0;
    size_t at = 0;
    uint64_t id;
    void *value;
    while (map_next(&core->sessions, &at, &id, &value)) {
        const struct session *session = value;
        CHECK(core->has_store || session->is_volatile);
        CHECK(!session->is_volatile || (!session->is_dirty && session->loading == 0 && !session->has_taken));
        for (const struct task *task = session->tasks; task != NULL; task = task->session_next) {
            bytes += session->is_volatile ? task->args_size : 0;
        }
    }
    return bytes;
}

/* Who has a backlog stands in line for the next batch. */
static void check_backlogs(const struct core *core)
{
    size_t count = 0;
    size_t bytes = 0;
    const struct conn *before = NULL;
    for (const struct conn *conn = core->backlog_first; conn != NULL; conn = conn->backlog_after) {
        CHECK(conn->backlog != NULL && conn->backlog_before == before && !conn->is_denied);
        bytes += conn->backlog_bytes;
        before = conn;
        count++;
    }
    CHECK(core->backlog_last == before && core->backlog_count == count && core->backlog_bytes == bytes);
}

void core_check(const struct core *core)
{
    size_t at = 0;
    uint64_t id;
    void *value;
    check_tasks(core);
    check_lanes(core);
    check_workers(core);
    check_backlogs(core);
    while (map_next(&core->sessions, &at, &id, &value)) {
        const struct session *session = value;
        check_session(value);
        check_turns(core, value);
        CHECK(session->name == NULL || session_by_name(core, bytes_text(session->name)) == session);
    }
    uint64_t bytes = 0;
    uint64_t resident = 0;
    uint64_t in_memory = volatile_args(core);
    at = 0;
    while (map_next(&core->outcomes, &at, &id, &value)) {
        const struct outcome *outcome = value;
        CHECK(!outcome->is_acked && outcome->id == id);
        bool is_volatile = outcome->session->is_volatile;
        CHECK(outcome->record != NULL || (outcome->batch <= core->committed && !is_volatile));
        bytes += outcome->size;
        resident += outcome->record != NULL && !is_volatile ? outcome->size : 0;
        in_memory += is_volatile ? outcome->size : 0;
    }
    CHECK(bytes == core->unacked_bytes && resident == core->resident_bytes && in_memory == core->volatile_bytes);
}

/*
 * slot.c owns one slot as the supervisor sees it: its queue, its results, its stopping and its burial.
 * It must not know the broker's messages, nor choose which attempt goes where; it makes no call of the kernel but on a
 * slot's cgroup: what it wants done to the process is in slot_process.c, so that the simulation drives this very code.
 * Start reading at slot_hand, slot_read and slot_bury.
 *
 * Who may say what of a task handed to a slot (the claim words: statuspage.h):
 *   - revoked before it was claimed: it never starts here; it goes back to waiting;
 *   - its whole result stands in the ring: it has finished, whatever became of the slot since;
 *   - claimed, and no whole result in the ring of a dead slot: it was running, it crashed.
 * Before anything is stopped, everything unclaimed is revoked and the ring is read once more. After that the slot can
 * start nothing else, so a signal can only hit what was to be stopped.
 */
#include "worker/slot.h"

#include "common/check.h"
#include "common/log.h"
#include "common/report.h"
#include "worker/board.h"
#include "worker/crash.h"
#include "worker/slotwire.h"

#include <signal.h>
#include <string.h>

void slot_init(struct slot *slot)
{
    *slot = (struct slot){.fd = -1, .pidfd = -1, .kill_ms = INT64_MAX};
    capture_init(&slot->capture);
}

/* ---- the queue ---- */

static struct attempt **queue_at(struct slot *slot, uint64_t number)
{
    return &slot->queue[number % SLOT_QUEUE_COUNT_MAX];
}

/* The number it got. */
static uint64_t queue_add(struct slot *slot, struct attempt *attempt, uint64_t expected_us)
{
    uint32_t us = expected_us < UINT32_MAX ? (uint32_t)expected_us : UINT32_MAX;
    uint64_t number = slot->next++;
    attempt->holder = slot;
    attempt->number = number;
    *queue_at(slot, number) = attempt;
    slot->expected_us[number % SLOT_QUEUE_COUNT_MAX] = us;
    slot->queued++;
    slot->queued_us += us;
    return number;
}

static void queue_remove(struct slot *slot, const struct attempt *attempt)
{
    CHECK(*queue_at(slot, attempt->number) == attempt);
    *queue_at(slot, attempt->number) = NULL;
    slot->queued--;
    slot->queued_us -= slot->expected_us[attempt->number % SLOT_QUEUE_COUNT_MAX];
}

struct attempt *slot_front(struct slot *slot)
{
    while (slot->first < slot->next && *queue_at(slot, slot->first) == NULL) {
        slot->first++;
    }
    return slot->first < slot->next ? *queue_at(slot, slot->first) : NULL;
}

bool slot_has_room(const struct slot *slot)
{
    if (!slot->is_ready || slot->is_spent || (slot->tasks_max > 0 && slot->ran + slot->queued >= slot->tasks_max)) {
        return false;
    }
    return slot->state == SLOT_LIVE && !slot->is_waiting && !slot->is_doomed && !slot->is_orphan &&
           slot->dead_ms == 0 && slot->fd >= 0 && slot->next - slot->first < SLOT_QUEUE_COUNT_MAX;
}

struct memory_limit slot_memory_limit(const struct slot_yard *yard, const struct attempt *attempt)
{
    struct memory_limit limit = yard->memory_limit;
    limit.task = attempt->memory_max > 0 ? attempt->memory_max : limit.task;
    return limit;
}

/* What the kernel is to allow an attempt; 0: anything. */
static uint64_t room_of(const struct slot *slot, const struct memory_limit *limit)
{
    uint64_t used = slot->memory.slot_size;
    uint64_t slot_room = limit->slot == 0 ? 0 : limit->slot > used ? limit->slot - used : 1;
    return limit->task == 0 || (slot_room > 0 && slot_room < limit->task) ? slot_room : limit->task;
}

bool slot_may_limit(const struct slot *slot, const struct slot_yard *yard, const struct attempt *attempt)
{
    struct memory_limit limit = slot_memory_limit(yard, attempt);
    return slot->queued == 0 || !group_is_limited(&slot->group) || limit.task == slot->task_limit;
}

static void limit_for(struct slot *slot, const struct slot_yard *yard, const struct attempt *attempt, int64_t now_ms)
{
    struct memory_limit limit = slot_memory_limit(yard, attempt);
    bool is_recent = limit.task == slot->task_limit && now_ms < slot->group.set_ms + MEMORY_AFTER_MS;
    if (slot->queued == 0 && !is_recent) {
        slot->task_limit = limit.task;
        group_limit(&slot->group, room_of(slot, &limit), now_ms);
    }
}

void slot_limit_again(struct slot *slot, uint64_t taken, int64_t now_ms)
{
    uint64_t room = room_of(slot, &slot->memory_limit);
    group_limit(&slot->group, room == 0 || room > taken ? room - (room == 0 ? 0 : taken) : 1, now_ms);
}

void slot_hand(struct slot *slot, const struct slot_yard *yard, struct attempt *attempt, int64_t now_ms)
{
    limit_for(slot, yard, attempt, now_ms);
    uint64_t number = queue_add(slot, attempt, pace_function_us(yard->pace, attempt->function));
    claim_hand(slot->page, number);
    buf_reserve(&slot->out, sizeof(struct slot_task) + attempt->value.n);
    struct slot_task *task = (struct slot_task *)(void *)(slot->out.p + slot->out.n);
    *task = (struct slot_task){.args_size = (uint32_t)attempt->value.n,
                               .function = attempt->function,
                               .number = number,
                               .task = attempt->token.task,
                               .timeout_ms = attempt->timeout_ms,
                               .attempt = attempt->token.attempt,
                               .depth = attempt->depth,
                               .memory = slot_memory_limit(yard, attempt).task};
    slot->out.n += sizeof(*task);
    buf_put(&slot->out, attempt->value.p, attempt->value.n);
    ledger_hand(yard->ledger, attempt);
}

/* ---- reports ---- */

/* What an attempt has written, wherever that is. */
static void put_output(struct slot *slot, uint64_t number, const struct capture_part *part, const uint64_t *known,
                       struct buf *out)
{
    if (board_is_of(slot->page, number)) {
        board_output(slot->page, known, out);
    } else {
        capture_output(&slot->capture, part, known, out);
    }
}

/* Only how much there was. */
static void put_sizes(struct bytes output, struct buf *out)
{
    struct output_writer writer;
    struct output_reader reader;
    struct output_piece piece;
    output_begin(&writer, out);
    (void)output_open(&reader, output);
    while (output_next(&reader, &piece)) {
        output_leave_out(&writer, piece.stream, piece.left_out + piece.bytes.n);
    }
    output_end(&writer);
}

/* Texts of an outcome that it looks into. */
struct account {
    struct buf report;
    struct buf output;
};

static void account_fini(struct account *account)
{
    buf_fini(&account->report);
    buf_fini(&account->output);
}

/* What is told of an attempt besides its words: of a failure a report, and what it wrote, unless that is its result. */
static void account_make(struct slot *slot, const struct slot_yard *yard, uint64_t number,
                         const struct capture_part *part, struct report report, struct account *account,
                         struct outcome *outcome)
{
    struct buf tails[OUTPUT_STREAM_COUNT] = {{0}};
    struct buf sizes = {0};
    capture_drain(&slot->capture, slot->page, part);
    put_output(slot, number, part, NULL, &account->output);
    if (outcome->state != FINISHED_DONE) {
        output_tail(buf_bytes(&account->output), OUTPUT_STDOUT, ERROR_STDOUT_SIZE_MAX, &tails[0]);
        output_tail(buf_bytes(&account->output), OUTPUT_STDERR, ERROR_STDERR_SIZE_MAX, &tails[1]);
        report.out_tail = buf_bytes(&tails[0]);
        report.tail = buf_bytes(&tails[1]);
        report_put(&account->report, &report);
    }
    if (yard->ledger->output_bytes + account->output.n > OUTPUT_HELD_BYTES_MAX) {
        put_sizes(buf_bytes(&account->output), &sizes);
        account->output.n = 0;
        buf_put(&account->output, sizes.p, sizes.n);
    }
    bool is_in_result = outcome->result.n > 0 && board_is_of(slot->page, number);
    outcome->report = account->report.n > 0 ? buf_bytes(&account->report) : (struct bytes){NULL, 0};
    outcome->output = account->output.n > 0 && !is_in_result ? buf_bytes(&account->output) : (struct bytes){NULL, 0};
    buf_fini(&tails[0]);
    buf_fini(&tails[1]);
    buf_fini(&sizes);
}

/* ---- results ---- */

/* Texts go on as UTF-8; a handler may have written anything. */
static struct bytes clean_text(uint8_t *p, size_t n)
{
    struct bytes text = {p, n};
    if (!bytes_is_utf8(text)) {
        for (size_t i = 0; i < n; i++) {
            p[i] = p[i] < 0x80 ? p[i] : '?';
        }
    }
    return text;
}

static bool result_is_sane(const struct slot_result *result)
{
    return result->result_size <= PAYLOAD_SIZE_MAX && result->detail_size <= ERROR_DETAIL_SIZE_MAX &&
           result->message_size <= ERROR_MESSAGE_SIZE_MAX && result->kind_size <= ERROR_KIND_SIZE_MAX &&
           (result->state == FINISHED_DONE || result->state == FINISHED_FAILED) && result->cause <= CAUSE_UNENCODABLE &&
           result->run_us <= INT64_MAX && result->waited_us <= result->run_us && result->cpu_us <= INT64_MAX &&
           result->peak_kib <= INT64_MAX && result->started_wall_ms <= INT64_MAX;
}

static bool has_written(const struct slot_result *result)
{
    return result->output_from[0] != result->output_to[0] || result->output_from[1] != result->output_to[1];
}

/* A result, and nothing else to tell: so are most. */
static bool is_plain(const struct slot_result *result)
{
    return result->state == FINISHED_DONE && result->cause == CAUSE_NONE && result->kind_size == 0 &&
           result->message_size == 0 && result->detail_size == 0 && result->exit_status == 0 && result->signal == 0 &&
           !has_written(result);
}

/* Its figures are written where they stay: an outcome on the way there would be written in words, and read in vectors
 * before these have arrived, which the processor waits for. */
static void settle_plain(const struct slot *slot, const struct slot_yard *yard, struct attempt *attempt,
                         const struct slot_result *result, const uint8_t *body)
{
    struct bytes none = {NULL, 0};
    struct bytes value = result->result_size > 0 ? bytes_of(body, result->result_size) : none;
    struct figures *figures = ledger_finish_plain(yard->ledger, attempt, value);
    figures->pid = (uint64_t)slot->pid;
    figures->started = result->started_wall_ms;
    figures->run_us = result->run_us;
    figures->cpu_us = result->cpu_us;
    figures->peak = result->peak_kib;
}

static struct outcome outcome_of(const struct slot *slot, const struct slot_result *result, uint8_t *body)
{
    uint8_t *kind = body + result->result_size;
    uint8_t *message = kind + result->kind_size;
    uint8_t *detail = message + result->message_size;
    struct bytes none = {NULL, 0};
    return (struct outcome){
        .state = (enum finished_state)result->state,
        .cause = (enum cause)result->cause,
        .result = result->result_size > 0 ? bytes_of(body, result->result_size) : none,
        .kind = result->kind_size > 0 ? clean_text(kind, result->kind_size) : none,
        .message = result->message_size > 0 ? clean_text(message, result->message_size) : none,
        .detail = result->detail_size > 0 ? bytes_of(detail, result->detail_size) : none,
        .pid = (uint64_t)slot->pid,
        .started = result->started_wall_ms,
        .run_us = result->run_us,
        .cpu_us = result->cpu_us,
        .peak = result->peak_kib,
        .exit_status = result->exit_status,
        .signal = result->signal,
    };
}

/* With all that is told of a failure, or of what wrote something. */
static void settle_whole(struct slot *slot, const struct slot_yard *yard, struct attempt *attempt,
                         const struct slot_result *result, uint8_t *body)
{
    struct outcome outcome = outcome_of(slot, result, body);
    struct account account = {0};
    if (outcome.state == FINISHED_FAILED || has_written(result)) {
        struct capture_part part;
        memcpy(part.from, result->output_from, sizeof(part.from));
        memcpy(part.to, result->output_to, sizeof(part.to));
        account_make(slot, yard, result->number, &part, (struct report){0}, &account, &outcome);
    }
    ledger_finish(yard->ledger, attempt, &outcome);
    account_fini(&account);
}

/* It came to an end by itself, but after it had been told to stop: that is what counts. It stays at the head of the
 * queue until the slot and what it may have started are gone. */
static void settle_stopped(struct slot *slot, const struct slot_result *result)
{
    slot->has_ended = true;
    slot->ended = (struct slot_figures){.started_wall_ms = result->started_wall_ms,
                                        .run_us = result->run_us,
                                        .cpu_us = result->cpu_us,
                                        .peak_kib = result->peak_kib};
    slot_signal(slot, SIGKILL);
}

/* False: no such task is under way here. */
static bool settle(struct slot *slot, const struct slot_yard *yard, const struct slot_result *result, uint8_t *body)
{
    if (result->number < slot->first || result->number >= slot->next) {
        return false;
    }
    struct attempt *attempt = *queue_at(slot, result->number);
    if (attempt == NULL) {
        return true; /* forgotten meanwhile */
    }
    if (attempt->number != result->number) {
        return false;
    }
    slot->has_run = true;
    slot->ran++;
    pace_ran(yard->pace, attempt->function, result->run_us - result->waited_us);
    if (slot->stop != STOP_NONE && slot->stop_number == result->number) {
        settle_stopped(slot, result);
        return true;
    }
    queue_remove(slot, attempt);
    if (is_plain(result)) {
        settle_plain(slot, yard, attempt, result, body);
    } else {
        settle_whole(slot, yard, attempt, result, body);
    }
    return true;
}

/* Every whole result in slot->in. False: one that makes no sense. */
static bool settle_all(struct slot *slot, const struct slot_yard *yard)
{
    size_t at = 0;
    struct slot_result result;
    while (slot->in.n - at >= sizeof(result)) {
        memcpy(&result, slot->in.p + at, sizeof(result));
        if (!result_is_sane(&result)) {
            return false;
        }
        size_t body_size = result.result_size + result.kind_size + (size_t)result.message_size + result.detail_size;
        if (slot->in.n - at < sizeof(result) + body_size) {
            buf_reserve(&slot->in, at + sizeof(result) + body_size - slot->in.n); /* once, not at each doubling */
            break;
        }
        if (!settle(slot, yard, &result, slot->in.p + at + sizeof(result))) {
            return false;
        }
        at += sizeof(result) + body_size;
    }
    size_t left = slot->in.n - at;
    if (at > 0 && left > 0) {
        memmove(slot->in.p, slot->in.p + at, left);
    }
    slot->in.n = left;
    if (left == 0 && slot->in.cap > SLOT_BUFFER_KEEP_SIZE) {
        buf_fini(&slot->in);
    }
    return true;
}

char *slot_refusal(struct slot *slot)
{
    if (slot->page == NULL || slot->is_ready || birth_read(slot->page) != BIRTH_REFUSED ||
        !ring_take(slot->page, &slot->ring_read, &slot->in)) {
        return NULL;
    }
    size_t size = slot->in.n < SLOT_WHY_SIZE_MAX ? slot->in.n : SLOT_WHY_SIZE_MAX;
    struct bytes why = clean_text(slot->in.p, size);
    slot->in.n = 0;
    return bytes_dup_text(why);
}

bool slot_read(struct slot *slot, const struct slot_yard *yard)
{
    if (slot->page == NULL || !slot->is_ready) {
        return true;
    }
    bool is_sane = true;
    uint64_t before;
    do {
        before = slot->ring_read;
        is_sane = ring_take(slot->page, &slot->ring_read, &slot->in);
        is_sane = is_sane && (slot->in.n == 0 || settle_all(slot, yard));
    } while (is_sane && slot->ring_read != before && slot->in.n > 0);
    if (!is_sane && !slot->is_doomed) {
        slot_condemn(slot, yard, MISDEED_SCRIBBLED);
    }
    if (!is_sane) {
        slot->in.n = 0;
    }
    return is_sane;
}

/* ---- what runs ---- */

struct attempt *slot_running(struct slot *slot, const struct slot_yard *yard)
{
    struct attempt *attempt = slot_front(slot);
    if (attempt == NULL || claim_read(slot->page, attempt->number) == CLAIM_HANDED) {
        return NULL;
    }
    ledger_start(yard->ledger, attempt);
    return attempt;
}

/* What runs, or ran last, has written all from there on. */
static struct capture_part running_part(struct slot *slot)
{
    struct capture_part part;
    for (unsigned i = 0; i < OUTPUT_STREAM_COUNT; i++) {
        part.from[i] = atomic_load_explicit(&slot->page->output_from[i], memory_order_relaxed);
        part.to[i] = UINT64_MAX;
    }
    return part;
}

bool slot_look(struct slot *slot, const struct slot_yard *yard, struct attempt *attempt,
               const uint64_t known[OUTPUT_STREAM_COUNT], struct buf *out)
{
    (void)slot_read(slot, yard);
    uint64_t running = slot->page != NULL ? atomic_load_explicit(&slot->page->running, memory_order_relaxed) : 0;
    if (attempt->state == ATTEMPT_FINISHED || attempt->holder != slot || running != attempt->number) {
        return false;
    }
    struct capture_part part = running_part(slot);
    put_output(slot, attempt->number, &part, known, out);
    return true;
}

int64_t slot_started_us(const struct slot *slot, const struct attempt *attempt, int64_t now_us)
{
    int64_t started_us;
    int64_t wall_ms;
    bool is_said = statuspage_started(slot->page, attempt->number, &started_us, &wall_ms);
    return is_said && started_us <= now_us ? started_us : now_us;
}

bool slot_revoke(struct slot *slot, const struct slot_yard *yard, struct attempt *attempt)
{
    if (!claim_revoke(slot->page, attempt->number)) {
        ledger_start(yard->ledger, attempt);
        return false;
    }
    queue_remove(slot, attempt);
    ledger_take_back(yard->ledger, attempt);
    return true;
}

void slot_revoke_all(struct slot *slot, const struct slot_yard *yard)
{
    /* From the last one back: each goes before all that wait, so their order stays. */
    for (uint64_t number = slot->next; number-- > slot->first;) {
        struct attempt *attempt = *queue_at(slot, number);
        if (attempt != NULL && attempt->number == number && attempt->state == ATTEMPT_HANDED) {
            (void)slot_revoke(slot, yard, attempt);
        }
    }
}

/* ---- the end ---- */

bool slot_stop(struct slot *slot, const struct slot_yard *yard, struct attempt *attempt, enum stop stop, int64_t now_ms)
{
    uint64_t number = attempt->number;
    if (slot->stop != STOP_NONE) {
        return true; /* on its way already; the first reason stays */
    }
    slot_revoke_all(slot, yard);
    (void)slot_read(slot, yard);
    struct attempt *front = slot_front(slot);
    if (front == NULL || front->number != number) {
        return false;
    }
    slot->stop = stop;
    slot->stop_number = number;
    slot->is_doomed = true;
    slot->kill_ms = now_ms + SLOT_GRACE_MS;
    statuspage_stop(slot->page, number);
    /* What takes too much memory takes more of it while it is asked to end. */
    slot_signal(slot, stop == STOP_MEMORY ? SIGKILL : SIGTERM);
    return true;
}

void slot_condemn(struct slot *slot, const struct slot_yard *yard, enum misdeed misdeed)
{
    log_event(LOG_WARN, "a slot is killed", "pid=%d why=\"it %s\"", slot->pid, misdeed_text(misdeed));
    slot->misdeed = misdeed;
    slot->is_doomed = true;
    slot_revoke_all(slot, yard);
    slot_signal(slot, SIGKILL);
}

void slot_forget(struct slot *slot, const struct slot_yard *yard, struct attempt *attempt)
{
    if (!claim_revoke(slot->page, attempt->number)) {
        slot_revoke_all(slot, yard);
        slot->is_doomed = true;
        slot_signal(slot, SIGKILL);
    }
    queue_remove(slot, attempt);
}

static void bury_running(struct slot *slot, const struct slot_yard *yard, struct attempt *attempt, struct death *death,
                         int64_t now_us)
{
    char text[DEATH_TEXT_SIZE];
    int64_t started_us = now_us;
    int64_t wall_ms = 0;
    bool is_said = statuspage_started(slot->page, attempt->number, &started_us, &wall_ms);
    uint64_t counted = atomic_load_explicit(&slot->page->cpu_counted_us, memory_order_relaxed);
    death->attempt = attempt;
    death->stop = slot->stop_number == attempt->number ? slot->stop : STOP_NONE;
    death->misdeed = slot->misdeed;
    death->is_survived = slot->is_survived;
    death->started_wall_ms = is_said && wall_ms > 0 ? (uint64_t)wall_ms : 0;
    death->run_us = started_us > 0 && started_us < now_us ? (uint64_t)(now_us - started_us) : 0;
    death->cpu_us = death->cpu_us > counted ? death->cpu_us - counted : 0;
    death->memory_limit = slot_memory_limit(yard, attempt);
    if (slot->memory.number == attempt->number) {
        death->memory = slot->memory;
        death->memory_limit = slot->memory_limit;
    }
    if (slot->has_ended && death->stop != STOP_NONE) {
        death->started_wall_ms = slot->ended.started_wall_ms;
        death->run_us = slot->ended.run_us;
        death->cpu_us = slot->ended.cpu_us;
        death->peak_kib = slot->ended.peak_kib;
    }
    struct buf backtrace = {0};
    struct account account = {0};
    crash_read(slot->page, attempt->number, &backtrace);
    death->backtrace = buf_bytes(&backtrace);
    struct outcome outcome = postmortem(death, text);
    struct report facts = {.core_dumped = death_dumped_core(death), .backtrace = death->backtrace};
    struct capture_part part = running_part(slot);
    account_make(slot, yard, attempt->number, &part, facts, &account, &outcome);
    log_event(LOG_WARN, "a slot died with a task", "message=\"%s\"", text);
    queue_remove(slot, attempt);
    ledger_finish(yard->ledger, attempt, &outcome);
    account_fini(&account);
    buf_fini(&backtrace);
}

void slot_bury(struct slot *slot, struct slot_yard *yard, int32_t status, uint64_t cpu_us, uint64_t peak_kib,
               int64_t now_us)
{
    (void)slot_read(slot, yard);
    slot_revoke_all(slot, yard);
    struct death death = {.host = yard->host, .pid = slot->pid, .status = status, .peak_kib = peak_kib};
    death.oom = slot_oom(slot, yard, status, &death.group);
    for (struct attempt *attempt = slot_front(slot); attempt != NULL; attempt = slot_front(slot)) {
        death.cpu_us = cpu_us;
        bury_running(slot, yard, attempt, &death, now_us);
    }
    struct capture_part rest = running_part(slot);
    capture_drain(&slot->capture, slot->page, &rest);
    slot_close(slot, yard);
}

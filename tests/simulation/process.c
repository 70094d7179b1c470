/*
 * process.c owns what runs in the slots of a real worker: it plays child.c on the slot's status page (which is the
 * product's own), and the kernel's part of slot_process.c.
 * It must not know the supervisor's decisions, only what reaches a process: its socket, its page, signals.
 * Start reading at process_step.
 */
#include "common/check.h"
#include "oracle.h"
#include "real_worker.h"
#include "worker/slotwire.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NEST_DEPTH_MAX 3u
#define NEST_LOOK_MS 5
#define WALL_START 1700000000000
/* Of steps after the signal. */
#define DIES_PERCENT 60u
#define HEEDS_PERCENT 40u
/* Of crashes: with half of a result written. */
#define TORN_PERCENT 30u

struct order {
    uint64_t number;
    uint64_t depth;
    unsigned nested;
    struct token token; /* task 0: taken back before it was sent */
    char work[64];
};

/* Of a handler that submits tasks of its own and waits for them. */
enum nest { NEST_NONE, NEST_ASKED, NEST_WAITS, NEST_OVER };

struct process {
    struct statuspage page; /* first: the slot's pointer is ours */
    struct worker *worker;
    pid_t pid;
    struct order *inbox;
    size_t inbox_count;
    size_t inbox_cap;
    struct order runs;
    enum nest nest;
    struct client *inner; /* its client; NULL: none */
    bool is_running;
    int64_t began;
    int64_t ends_at;
    bool is_told;
    bool is_killed;
    bool is_dead;
    bool took_too_much; /* memory: the kernel has killed it */
    bool rings;
    int32_t status;
};

static struct process *process_of(const struct slot *slot)
{
    return (struct process *)(void *)slot->page;
}

void process_make(struct worker *worker, struct slot *slot)
{
    struct process *process = xcalloc(1, sizeof *process);
    process->worker = worker;
    process->pid = ++worker->real->pid_last;
    slot_init(slot);
    slot->state = SLOT_LIVE;
    slot->pid = process->pid;
    slot->fd = INT32_MAX; /* open, and nothing of this program */
    slot->page = &process->page;
    slot->next = 1;
    slot->first = 1;
    slot->born_ms = worker->peer.world->now;
    slot->is_ready = true;
    slot->tasks_max = worker->real->options.slot_tasks_max;
}

static void inner_end(struct process *process)
{
    if (process->inner != NULL && !process->inner->peer.is_dead) {
        sim_peer_die(&process->inner->peer, true);
    }
    process->inner = NULL;
}

/* ---- in the place of slot_process.c ---- */

void slot_close(struct slot *slot, struct slot_yard *yard)
{
    (void)yard;
    struct process *process = process_of(slot);
    CHECK(slot->queued == 0);
    free(process->inbox);
    free(process);
    slot->page = NULL;
    capture_close(&slot->capture);
    buf_fini(&slot->out);
    buf_fini(&slot->in);
    slot_init(slot);
}

static void order_take(struct process *process, const struct slot *slot, const struct slot_task *task,
                       struct bytes args)
{
    if (process->inbox_count == process->inbox_cap) {
        process->inbox_cap = process->inbox_cap ? process->inbox_cap * 2 : 8;
        process->inbox = xrealloc(process->inbox, process->inbox_cap * sizeof *process->inbox);
    }
    struct order *order = &process->inbox[process->inbox_count++];
    *order = (struct order){.number = task->number, .depth = task->depth};
    const struct attempt *attempt = slot->queue[task->number % SLOT_QUEUE_COUNT_MAX];
    if (attempt != NULL && attempt->number == task->number) {
        order->token = attempt->token;
    }
    struct cursor cursor = cursor_of(args);
    struct value value;
    CHECK(cursor_next(&cursor, &value) && value.type == VALUE_STR);
    const uint8_t *pad = memchr(value.bytes.p, '#', value.bytes.n);
    size_t size = pad ? (size_t)(pad - value.bytes.p) : value.bytes.n;
    snprintf(order->work, sizeof order->work, "%.*s", (int)size, (const char *)value.bytes.p);
    const char *mark = strchr(order->work, '!');
    order->nested = mark ? (unsigned)strtoul(mark + 1, NULL, 10) : 0;
}

void slot_flush(struct slot *slot)
{
    struct process *process = process_of(slot);
    size_t at = 0;
    while (!process->is_dead && at < slot->out.n) {
        struct slot_task task;
        memcpy(&task, slot->out.p + at, sizeof task);
        at += sizeof task;
        order_take(process, slot, &task, bytes_of(slot->out.p + at, task.args_size));
        at += task.args_size;
    }
    slot->out.n = 0;
    slot->out_at = 0;
}

void slot_signal(const struct slot *slot, int number)
{
    struct process *process = process_of(slot);
    process->is_killed = process->is_killed || number == SIGKILL;
    process->is_told = process->is_told || number == SIGTERM;
}

void yard_look(struct slot_yard *yard, int64_t now_ms)
{
    (void)yard;
    (void)now_ms;
}

enum oom slot_oom(const struct slot *slot, const struct slot_yard *yard, int32_t status, struct group_end *end_out)
{
    (void)yard;
    (void)status;
    bool was = process_of(slot)->took_too_much;
    *end_out = (struct group_end){.was_killed = was, .was_own = was};
    return was ? OOM_OWN_LIMIT : OOM_NONE;
}

/* ---- what it does ---- */

static void die(struct process *process, int32_t status)
{
    inner_end(process);
    world_say(process->worker->peer.world, "%s: slot %d dies, status %d", process->worker->peer.name, process->pid,
              status);
    process->worker->peer.world->death_count++;
    process->is_dead = true;
    process->status = status;
    process->is_running = false;
}

static bool start_next(struct process *process)
{
    struct worker *worker = process->worker;
    struct world *world = worker->peer.world;
    while (process->inbox_count > 0) {
        struct order order = process->inbox[0];
        if (world->now >= process->page.lease_end_ms && claim_read(&process->page, order.number) == CLAIM_HANDED) {
            return false; /* until the lease is renewed, or somebody takes it back */
        }
        memmove(process->inbox, process->inbox + 1, --process->inbox_count * sizeof order);
        if (!claim_start(&process->page, order.number)) {
            continue;
        }
        statuspage_run(&process->page, order.number, world->now * 1000, world->now + WALL_START);
        process->runs = order;
        process->nest = order.nested > 0 ? NEST_ASKED : NEST_NONE;
        process->is_running = true;
        process->began = world->now;
        process->ends_at = world->now + (int64_t)rng_below(&world->rng, worker->run_ms_max + 1);
        worker->started_count++;
        struct held held = {.token = order.token, .state = HELD_RUNNING};
        snprintf(held.work, sizeof held.work, "%s", order.work);
        world_say(world, "%s: slot %d starts %" PRIx64 " (%u.%u)", worker->peer.name, process->pid, order.token.task,
                  order.token.epoch, order.token.attempt);
        WORLD_CHECK(world, order.token.task != 0, "%s: slot %d starts what was taken back", worker->peer.name,
                    process->pid);
        WORLD_CHECK(world, world->now < worker->real->lease_until, "%s starts %" PRIx64 " after its lease",
                    worker->peer.name, order.token.task);
        oracle_started(world, worker, &held);
        return true;
    }
    return false;
}

static void write_result(struct process *process, bool is_done, bool is_torn)
{
    struct world *world = process->worker->peer.world;
    const struct order *runs = &process->runs;
    struct buf text = {0};
    struct buf body = {0};
    buf_printf(&text, "R|%s|%u.%u", runs->work, runs->token.epoch, runs->token.attempt);
    struct slot_result result = {.number = runs->number,
                                 .started_wall_ms = (uint64_t)(process->began + WALL_START),
                                 .run_us = (uint64_t)(world->now - process->began) * 1000,
                                 .state = is_done ? FINISHED_DONE : FINISHED_FAILED,
                                 .cause = is_done ? CAUSE_NONE : CAUSE_ERROR};
    if (is_done) {
        put_str(&body, buf_bytes(&text));
        result.result_size = (uint32_t)body.n;
    } else {
        buf_put(&body, "ModelError", 10);
        buf_put(&body, text.p, text.n);
        result.kind_size = 10;
        result.message_size = (uint16_t)text.n;
    }
    struct buf whole = {0};
    buf_put(&whole, &result, sizeof result);
    buf_put(&whole, body.p, body.n);
    size_t size = is_torn ? 1 + rng_below(&world->rng, whole.n - 1) : whole.n;
    CHECK(ring_put(&process->page, bytes_of(whole.p, size)) == size);
    buf_fini(&whole);
    buf_fini(&text);
    buf_fini(&body);
    process->rings = true;
}

static void end_run(struct process *process)
{
    struct worker *worker = process->worker;
    struct rng *rng = &worker->peer.world->rng;
    uint64_t dice = rng_below(rng, 100);
    bool is_crash = dice < worker->crash_percent;
    if (is_crash) {
        if (rng_percent(rng, TORN_PERCENT)) {
            write_result(process, true, true);
        }
        die(process, SIGSEGV);
        return;
    }
    if (dice < worker->crash_percent + worker->memory_percent) {
        process->took_too_much = true;
        die(process, SIGKILL);
        return;
    }
    bool is_done = dice >= worker->crash_percent + worker->memory_percent + worker->fail_percent;
    world_say(worker->peer.world, "%s: slot %d ends %" PRIx64 ": %s", worker->peer.name, process->pid,
              process->runs.token.task, is_done ? "done" : "error");
    write_result(process, is_done, false);
    process->is_running = false;
}

/* ---- a handler that waits for tasks of its own ---- */

static void inner_submit(struct process *process)
{
    struct spec spec = {.depth = process->runs.depth + 1};
    struct rng *rng = &process->worker->peer.world->rng;
    while (process->inner->submit_count < process->runs.nested) {
        size_t before = process->inner->submit_count;
        spec.nested =
            process->runs.depth < NEST_DEPTH_MAX && rng_percent(rng, 40) ? 1 + (unsigned)rng_below(rng, 2) : 0;
        sim_client_submit(process->inner, &spec);
        if (process->inner->submit_count == before) {
            return; /* it has no room yet */
        }
    }
}

static void nest_begin(struct process *process)
{
    struct world *world = process->worker->peer.world;
    process->inner = rng_percent(&world->rng, 70) ? sim_client_new_real(world, NULL) : sim_client_new(world, NULL);
    process->inner->peer.is_auto = true;
    process->inner->peer.retry_at = world->now;
    wait_begin(&process->page, world->now * 1000);
    process->rings = true;
    process->nest = NEST_WAITS;
}

/* Its client was told that its session is gone, or cannot be: the handler fails. */
static void nest_give_up(struct process *process)
{
    inner_end(process);
    wait_end(&process->page, process->worker->peer.world->now * 1000);
    process->nest = NEST_OVER;
}

/* True: the handler goes on. */
static bool nest_step(struct process *process)
{
    struct world *world = process->worker->peer.world;
    if (process->nest == NEST_ASKED) {
        nest_begin(process);
    }
    if (process->nest != NEST_WAITS) {
        return true;
    }
    enum place_word place = place_read(&process->page);
    if (place == PLACE_REFUSED || process->inner->peer.is_denied) {
        nest_give_up(process);
        return true;
    }
    if (place == PLACE_ASKED) {
        return false;
    }
    inner_submit(process);
    while (sim_client_take(process->inner)) {
    }
    sim_client_acknowledge(process->inner);
    size_t answers = process->inner->took_count;
    for (size_t i = 0; i < process->inner->submit_count; i++) {
        answers += process->inner->submits[i].answer == ANSWER_REFUSED;
    }
    if (process->inner->submit_count == process->runs.nested && answers >= process->runs.nested) {
        nest_give_up(process);
        process->ends_at = world->now;
        return true;
    }
    return false;
}

static void process_step(struct process *process)
{
    struct world *world = process->worker->peer.world;
    if (process->is_dead) {
        return;
    }
    if (process->is_killed && rng_percent(&world->rng, DIES_PERCENT)) {
        die(process, SIGKILL);
        return;
    }
    if (process->is_running && process->is_told && rng_percent(&world->rng, HEEDS_PERCENT)) {
        process->ends_at = world->now; /* its handler asks, and clears up */
    }
    bool goes_on = !process->is_running || nest_step(process) || process->is_told;
    if (process->is_running && goes_on && process->ends_at <= world->now) {
        inner_end(process);
        end_run(process);
    }
    if (!process->is_running && !process->is_dead) {
        start_next(process);
    }
}

void processes_die(struct worker *worker)
{
    struct supervisor *supervisor = &worker->real->supervisor;
    for (size_t i = 0; i < supervisor->slot_count; i++) {
        if (supervisor->slots[i].state == SLOT_LIVE) {
            die(process_of(&supervisor->slots[i]), SIGKILL);
        }
    }
}

void processes_step(struct worker *worker)
{
    struct supervisor *supervisor = &worker->real->supervisor;
    for (size_t i = 0; i < supervisor->slot_count; i++) {
        if (supervisor->slots[i].state == SLOT_LIVE) {
            process_step(process_of(&supervisor->slots[i]));
        }
    }
}

/* ---- what a supervisor sees ---- */

bool process_is_dead(const struct slot *slot, int32_t *status_out)
{
    *status_out = process_of(slot)->status;
    return process_of(slot)->is_dead;
}

bool process_rings(struct slot *slot)
{
    bool rings = process_of(slot)->rings;
    process_of(slot)->rings = false;
    return rings;
}

bool process_runs(const struct slot *slot, struct token *token_out)
{
    *token_out = process_of(slot)->runs.token;
    return process_of(slot)->is_running;
}

int64_t process_wake(const struct slot *slot, int64_t now)
{
    const struct process *process = process_of(slot);
    if (process->is_dead || process->is_killed || process->is_told || process->rings) {
        return now + 1;
    }
    if (process->is_running && process->nest != NEST_ASKED && process->nest != NEST_WAITS) {
        return process->ends_at;
    }
    if (process->is_running) {
        return now + NEST_LOOK_MS;
    }
    return process->inbox_count > 0 ? now + 1 : INT64_MAX;
}

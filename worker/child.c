/*
 * child.c owns the loop of a slot process: read tasks, claim, run the handler, publish the result.
 * It must not know the broker, tokens or other slots; it may be killed at any instruction.
 * Start reading at child_begin, then run_task.
 */
#include "worker/child.h"

#include "common/check.h"
#include "common/clock.h"
#include "common/limits.h"
#include "common/place.h"
#include "worker/capture.h"
#include "worker/crash.h"
#include "worker/memory.h"
#include "worker/meter.h"
#include "worker/slotwire.h"
#include "worker/task.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdio_ext.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

/* Finished results are announced one byte for many, but none waits behind others for longer than this, */
#define ANNOUNCE_US 500
/* nor behind more of them than this, so that the supervisor refills a slot before it runs dry. */
#define ANNOUNCE_COUNT 1024u
/* Tasks that ran for less are not worth a call for their CPU time: it is what they ran. */
#define CPU_COUNTED_US 1000
/* How often a slot that may not start looks whether it may again. */
#define LEASE_LOOK_MS 20
/* A buffer grown by a large payload is given back above this. */
#define BUFFER_KEEP_SIZE (1024u * 1024u)
#define INPUT_READ_SIZE (64u * 1024u)

/* How often it looks at the wall clock; between it is the other clock that goes on. */
#define WALL_LOOK_US 100000

/* Where the output stands is looked at before a task if it was not for so long; */
#define OUTPUT_LOOK_US 100
/* after one that ran for so long (to write takes as long as that); */
#define OUTPUT_RUN_US 2
/* and always after one of a function that has not been found silent so often in a row. */
#define OUTPUT_SILENT_COUNT 16u

struct child {
    const volatile uint8_t *own; /* 1 in the slot; 0 in a child that a handler forked and that returned from it */
    int fd;
    struct statuspage *page;
    const struct registry *registry;
    struct buf in;
    size_t in_at;
    struct quern_task task;
    struct place place;
    struct quern_writer *writer;
    unsigned unannounced;
    int64_t unannounced_us;                  /* since when */
    int64_t *slow_us;                        /* per function: how long it ran of late; 0 not known */
    int64_t now_us;                          /* end of the last task: start of the next, unless it was waited for */
    int64_t wall_ahead_us;                   /* of the monotonic clock, as looked at last */
    int64_t wall_look_us;                    /* look again then */
    int64_t memory_look_us;                  /* at its own memory as well */
    int output[OUTPUT_STREAM_COUNT];         /* descriptors of its own for the pipes that stdout and stderr are */
    uint64_t output_at[OUTPUT_STREAM_COUNT]; /* where they stood, */
    int64_t output_look_us;                  /* when that was looked at */
    uint8_t *silent;                         /* per function: looks in a row that found nothing written */
    uint32_t last_function;
    bool has_waited;
};

/* ---- announcing ---- */

static void announce(struct child *child)
{
    if (child->unannounced > 0) {
        /* Failing means the socket is full of such bytes already, or the supervisor is gone. */
        (void)!send(child->fd, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL);
        child->unannounced = 0;
    }
}

static void ring_write(struct child *child, const void *p, size_t n)
{
    struct bytes left = {p, n};
    while (left.n > 0) {
        size_t put = ring_put(child->page, left);
        left.p += put;
        left.n -= put;
        if (left.n > 0) {
            child->unannounced++;
            announce(child);
            ring_wait(child->page);
        }
    }
}

/* ---- waiting inside the handler (common/place.h) ---- */

static bool place_give(void *self, int64_t deadline_ms)
{
    struct child *child = self;
    wait_begin(child->page, clock_mono_us());
    child->unannounced++; /* the byte that says look */
    announce(child);
    if (!wait_is_given(child->page, deadline_ms)) {
        wait_end(child->page, clock_mono_us());
        return false;
    }
    return true;
}

static void place_take(void *self)
{
    struct child *child = self;
    wait_end(child->page, clock_mono_us());
}

/* ---- input ---- */

/* Orphans of earlier tasks come to us, their subreaper. */
static void reap_orphans(void)
{
    while (waitpid(-1, NULL, WNOHANG) > 0) {
    }
}

static void input_compact(struct child *child)
{
    size_t left = child->in.n - child->in_at;
    if (left == 0 && child->in.cap > BUFFER_KEEP_SIZE) {
        buf_fini(&child->in);
    } else if (child->in_at > 0 && left > 0) {
        memmove(child->in.p, child->in.p + child->in_at, left);
    }
    child->in.n = left;
    child->in_at = 0;
}

/* Read more; blocks if nothing is there. Ends the process at end of file. */
static void input_read(struct child *child, size_t want)
{
    input_compact(child);
    buf_reserve(&child->in, want > INPUT_READ_SIZE ? want : INPUT_READ_SIZE);
    uint8_t *to = child->in.p + child->in.n;
    size_t room = child->in.cap - child->in.n;
    ssize_t got = recv(child->fd, to, room, MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
        announce(child);
        reap_orphans();
        child->has_waited = true;
        /* Not a recv that blocks: it would wake once more when the supervisor has read what we announced. */
        struct pollfd readable = {.fd = child->fd, .events = POLLIN};
        do {
            (void)poll(&readable, 1, -1);
            got = recv(child->fd, to, room, MSG_DONTWAIT);
        } while (got < 0 && (errno == EINTR || errno == EAGAIN || errno == EWOULDBLOCK));
    }
    if (got == 0 || (got < 0 && errno != EINTR)) {
        _exit(0);
    }
    child->in.n += got > 0 ? (size_t)got : 0;
}

/* The next task and its arguments, which stay where they are until the next call. */
static struct bytes input_next(struct child *child, struct slot_task *task_out)
{
    while (child->in.n - child->in_at < sizeof(*task_out)) {
        input_read(child, sizeof(*task_out));
    }
    memcpy(task_out, child->in.p + child->in_at, sizeof(*task_out));
    size_t size = sizeof(*task_out) + task_out->args_size;
    while (child->in.n - child->in_at < size) {
        input_read(child, size - (child->in.n - child->in_at));
    }
    struct bytes args = {child->in.p + child->in_at + sizeof(*task_out), task_out->args_size};
    child->in_at += size;
    return args;
}

/* ---- claiming ---- */

/* Sleeps while the worker's lease is over. False: the task was revoked, or withdrawn with its socket. */
static bool wait_for_lease(struct child *child, uint64_t number)
{
    while (child->now_us / 1000 >= atomic_load_explicit(&child->page->lease_end_ms, memory_order_relaxed)) {
        announce(child);
        if (claim_read(child->page, number) != CLAIM_HANDED) {
            return false;
        }
        struct pollfd end = {.fd = child->fd, .events = POLLRDHUP};
        if (poll(&end, 1, LEASE_LOOK_MS) > 0 && (end.revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0) {
            _exit(0);
        }
        child->now_us = clock_mono_us();
    }
    return true;
}

/* ---- running ---- */

static uint64_t cpu_us(const struct rusage *usage)
{
    return (uint64_t)(usage->ru_utime.tv_sec + usage->ru_stime.tv_sec) * 1000000u +
           (uint64_t)(usage->ru_utime.tv_usec + usage->ru_stime.tv_usec);
}

/* CPU time and peak memory of what just ran. Calls for it only after long runs: the time that short ones took is kept
 * as counted, so that the next long one is not charged for them. */
static void measure(struct child *child, struct slot_result *result)
{
    uint64_t counted = atomic_load_explicit(&child->page->cpu_counted_us, memory_order_relaxed);
    result->cpu_us = result->run_us;
    result->peak_kib = 0;
    if (result->run_us >= CPU_COUNTED_US) {
        struct rusage own;
        struct rusage children;
        getrusage(RUSAGE_SELF, &own);
        getrusage(RUSAGE_CHILDREN, &children);
        uint64_t total = cpu_us(&own) + cpu_us(&children);
        result->cpu_us = total > counted ? total - counted : 0;
        result->peak_kib = (uint64_t)own.ru_maxrss;
    }
    if (child->task.peak_kib > 0) {
        result->peak_kib = child->task.peak_kib;
    }
    atomic_store_explicit(&child->page->cpu_counted_us, counted + result->cpu_us, memory_order_relaxed);
}

static void fail_unencodable(struct quern_task *task, enum quern_err err)
{
    quern_task_fail(task, "Unencodable", "the result cannot be encoded: %s",
                    err == QUERN_TOO_BIG   ? "it is over 16 MiB"
                    : err == QUERN_OK      ? "an array or map was left incomplete"
                    : err == QUERN_INVALID ? "more than one value was written, or something that is no msgpack value"
                                           : quern_err_text(err));
    task->cause = CAUSE_UNENCODABLE;
}

/* The one value that was written; nil if none was. False: unencodable. */
static bool result_of(struct child *child, struct bytes *result_out)
{
    static const uint8_t nil = 0xc0;
    const void *p;
    size_t n;
    quern_writer_bytes(child->writer, &p, &n);
    *result_out = n > 0 ? bytes_of(p, n) : bytes_of(&nil, 1);
    return n > 0 || quern_writer_is_empty(child->writer);
}

/* As new; memory that a large result left behind is given back. */
static void writer_renew(struct child *child, size_t size)
{
    if (child->writer == NULL || size > BUFFER_KEEP_SIZE) {
        quern_writer_free(child->writer);
        child->writer = quern_writer_new();
        CHECK(child->writer != NULL);
    }
    quern_writer_reset(child->writer);
}

/* ---- output ---- */

/* True: something was written since the last look. */
static bool output_look(struct child *child)
{
    bool has_moved = false;
    (void)fflush(stdout);
    for (unsigned i = 0; i < OUTPUT_STREAM_COUNT; i++) {
        uint64_t at = capture_position(child->page, i, child->output[i]);
        has_moved = has_moved || at != child->output_at[i];
        child->output_at[i] = at;
    }
    /* What the look took is not the next task's: it would seem long, and be looked at too. */
    child->now_us = clock_mono_us();
    child->output_look_us = child->now_us;
    return has_moved;
}

/* Seen without a call of the kernel: the supervisor has taken something, or stdio holds it. */
static bool output_shows(const struct child *child)
{
    bool shows = __fpending(stdout) > 0;
    for (unsigned i = 0; i < OUTPUT_STREAM_COUNT; i++) {
        shows = shows || atomic_load_explicit(&child->page->captured[i], memory_order_relaxed) > child->output_at[i];
    }
    return shows;
}

/* Where the output stands as a task begins. To look is a call of the kernel: not for every short task. What was written
 * since the last look is nobody's. */
static void output_mark(struct child *child, uint32_t function)
{
    bool is_talker = child->silent[child->last_function] < OUTPUT_SILENT_COUNT;
    if (child->output_look_us != child->now_us &&
        (is_talker || child->now_us - child->output_look_us >= OUTPUT_LOOK_US || output_shows(child)) &&
        output_look(child)) {
        child->silent[child->last_function] = 0;
    }
    child->last_function = function < child->registry->count ? function : 0;
}

/* What the task that has just ended wrote. */
static void output_settle(struct child *child, struct slot_result *result)
{
    uint8_t *silent = &child->silent[child->last_function];
    if (*silent == OUTPUT_SILENT_COUNT && result->state == FINISHED_DONE && result->run_us < OUTPUT_RUN_US &&
        !output_shows(child)) {
        memset(result->output_from, 0, sizeof(result->output_from));
        memset(result->output_to, 0, sizeof(result->output_to));
        return;
    }
    memcpy(result->output_from, child->output_at, sizeof(result->output_from));
    *silent = output_look(child) ? 0 : (uint8_t)(*silent + (*silent < OUTPUT_SILENT_COUNT));
    memcpy(result->output_to, child->output_at, sizeof(result->output_to));
}

/* Not inlined: a backtrace ends here. */
__attribute__((noinline)) static enum quern_err call_handler(struct child *child, const struct slot_task *in,
                                                             struct bytes args)
{
    struct quern_task *task = &child->task;
    if (in->function >= child->registry->count) {
        return quern_task_fail(task, "UnknownFunction", "this worker has no function of index %u", in->function);
    }
    struct quern_reader reader;
    size_t count;
    quern_reader_init(&reader, args.p, args.n);
    if (quern_read_array(&reader, &count) != QUERN_OK) {
        return quern_task_fail(task, "BadArguments", "the arguments are not an array of positional arguments");
    }
    return child->registry->functions[in->function].handler(task, &reader, child->writer);
}

/* Where a result is written: mostly at once where it is published. All its fields are to be. */
static struct slot_result *result_place(struct child *child, struct slot_result *elsewhere)
{
    uint8_t *room = ring_room(child->page, sizeof(*elsewhere));
    return room != NULL ? (struct slot_result *)(void *)room : elsewhere;
}

/* True: all of it stands in the ring, in one piece. */
static bool publish_there(struct child *child, const struct slot_result *result, const struct bytes *parts,
                          size_t part_count)
{
    size_t size = sizeof(*result);
    for (size_t i = 0; i < part_count; i++) {
        size += parts[i].n;
    }
    uint8_t *to = ring_room(child->page, size);
    if (to != (const uint8_t *)result) {
        return false;
    }
    to += sizeof(*result);
    for (size_t i = 0; i < part_count; i++) {
        if (parts[i].n > 0) {
            memcpy(to, parts[i].p, parts[i].n);
            to += parts[i].n;
        }
    }
    ring_publish(child->page, size);
    return true;
}

/* Publish the result: from here on the task is finished, whatever becomes of this process. */
static void publish(struct child *child, struct slot_result *result, struct bytes value)
{
    const struct quern_task *task = &child->task;
    bool is_failed = result->state == FINISHED_FAILED;
    result->result_size = (uint32_t)value.n;
    result->kind_size = is_failed ? (uint8_t)task->kind.n : 0;
    result->message_size = is_failed ? (uint16_t)task->message.n : 0;
    result->detail_size = is_failed ? (uint32_t)task->detail.n : 0;
    const struct bytes parts[] = {value,
                                  {task->kind.p, result->kind_size},
                                  {task->message.p, result->message_size},
                                  {task->detail.p, result->detail_size}};
    size_t part_count = is_failed ? sizeof(parts) / sizeof(parts[0]) : 1;
    if (!publish_there(child, result, parts, part_count)) {
        struct slot_result copy = *result;
        ring_write(child, &copy, sizeof(copy));
        for (size_t i = 0; i < part_count; i++) {
            ring_write(child, parts[i].p, parts[i].n);
        }
    }
    if (child->unannounced++ == 0) {
        child->unannounced_us = child->now_us;
    }
    writer_renew(child, value.n);
}

static void settle(struct child *child, struct slot_result *result, enum quern_err err)
{
    struct quern_task *task = &child->task;
    struct bytes value = {NULL, 0};
    bool has_result = err == QUERN_OK || task->keeps_result;
    if (has_result && !result_of(child, &value)) {
        if (err == QUERN_OK) {
            fail_unencodable(task, quern_writer_error(child->writer));
            err = QUERN_TASK_FAILED;
        }
        value = (struct bytes){NULL, 0};
    }
    if (err != QUERN_OK && task->kind.n == 0) {
        quern_task_fail(task, quern_err_word(err), "the handler returned \"%s\"", quern_err_text(err));
    }
    result->state = err == QUERN_OK ? FINISHED_DONE : FINISHED_FAILED;
    result->cause = err == QUERN_OK ? CAUSE_NONE : (uint8_t)task->cause;
    result->exit_status = task->exit_status;
    result->signal = task->signal;
    result->padding[0] = 0;
    measure(child, result);
    output_settle(child, result);
    publish(child, result, value);
}

static void task_prepare(struct child *child, const struct slot_task *in)
{
    struct quern_task *task = &child->task;
    task_begin(task);
    task->id = in->task;
    task->attempt = in->attempt;
    task->number = in->number;
    task->started_us = child->now_us;
    task->deadline_us = in->timeout_ms == 0 ? INT64_MAX : child->now_us + (int64_t)in->timeout_ms * 1000;
}

/* A result that is ready must not wait behind a task that takes long, or may do so. */
static void announce_before(struct child *child, uint32_t function)
{
    if (child->unannounced > 0 && function < child->registry->count &&
        (child->slow_us[function] == 0 || child->slow_us[function] >= ANNOUNCE_US)) {
        announce(child);
    }
}

static int64_t wall_now_ms(struct child *child)
{
    if (child->now_us >= child->wall_look_us) {
        child->wall_ahead_us = clock_wall_ms() * 1000 - child->now_us;
        child->wall_look_us = child->now_us + WALL_LOOK_US;
    }
    return (child->now_us + child->wall_ahead_us) / 1000;
}

/* What is there already does not count against what now begins. Short tasks in a row share one look. */
static void memory_mark(struct child *child, const struct slot_task *in)
{
    if (in->memory > 0 && child->now_us >= child->memory_look_us) {
        atomic_store_explicit(&child->page->memory_base, meter_read(getpid()), memory_order_relaxed);
        child->memory_look_us = child->now_us + (int64_t)MEMORY_AFTER_MS * 1000;
    }
}

/* Not inlined: its only caller never returns, so the compiler would take it for what runs once, and save bytes. */
__attribute__((noinline, hot)) static void run_task(struct child *child, const struct slot_task *in, struct bytes args)
{
    if (child->has_waited) {
        child->now_us = clock_mono_us();
        child->has_waited = false;
    }
    announce_before(child, in->function);
    if (!wait_for_lease(child, in->number) || !claim_start(child->page, in->number)) {
        return;
    }
    int64_t wall_ms = wall_now_ms(child);
    memory_mark(child, in);
    output_mark(child, in->function);
    for (unsigned i = 0; i < OUTPUT_STREAM_COUNT; i++) {
        atomic_store_explicit(&child->page->output_from[i], child->output_at[i], memory_order_relaxed);
    }
    statuspage_run(child->page, in->number, child->now_us, wall_ms);
    task_prepare(child, in);

    int64_t started_us = child->now_us;
    quern_place_begin(&child->place, in->depth);
    enum quern_err err = call_handler(child, in, args);
    if (*child->own == 0) {
        _exit(0); /* it would take tasks from the slot's socket, and write results over the slot's own */
    }
    if (crash_is_under_way()) {
        crash_await_end(); /* a thread of the handler's: what it came to is not to be trusted */
    }
    quern_place_end();
    child->now_us = clock_mono_us();

    uint64_t run_us = (uint64_t)(child->now_us - started_us);
    uint64_t waited_us = atomic_load_explicit(&child->page->waited_us, memory_order_relaxed);
    struct slot_result elsewhere;
    struct slot_result *result = result_place(child, &elsewhere);
    result->number = in->number;
    result->started_wall_ms = (uint64_t)wall_ms;
    result->run_us = run_us;
    result->waited_us = waited_us < run_us ? waited_us : run_us;
    settle(child, result, err);
    if (in->function < child->registry->count) {
        child->slow_us[in->function] = (int64_t)run_us + 1;
    }
    if (child->unannounced >= ANNOUNCE_COUNT || child->now_us - child->unannounced_us >= ANNOUNCE_US ||
        run_us >= ANNOUNCE_US) {
        announce(child);
    }
}

/* A page that reads 1 here, and 0 in every process forked from this one: a look at it after each task costs nothing,
 * where a call of getpid would be a good part of a short task. */
static const volatile uint8_t *own_page(void)
{
    size_t size = (size_t)sysconf(_SC_PAGESIZE);
    uint8_t *page = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(page != MAP_FAILED && madvise(page, size, MADV_WIPEONFORK) == 0);
    *page = 1;
    return page;
}

__attribute__((noreturn)) static void run(int fd, struct statuspage *page, const struct registry *registry)
{
    struct child child = {.own = own_page(), .fd = fd, .page = page, .registry = registry, .has_waited = true};
    child.task.page = page;
    child.place = (struct place){.self = &child, .give = place_give, .take = place_take};
    task_take_term();
    crash_watch(page, (void (*)(void))call_handler);
    child.slow_us = xcalloc(registry->count + 1, sizeof(child.slow_us[0]));
    child.silent = xcalloc(registry->count + 1, sizeof(child.silent[0]));
    child.output[OUTPUT_STDOUT - 1] = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);
    child.output[OUTPUT_STDERR - 1] = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
    writer_renew(&child, 0);
    for (;;) {
        struct slot_task in;
        struct bytes args = input_next(&child, &in);
        run_task(&child, &in, args);
    }
}

/* ---- birth ---- */

void child_refuse(int fd, struct statuspage *page, const struct registry *registry)
{
    const char *why = registry->why != NULL ? registry->why : "memory is used up";
    (void)ring_put(page, bytes_of(why, strnlen(why, SLOT_WHY_SIZE_MAX)));
    statuspage_birth(page, BIRTH_REFUSED);
    (void)!send(fd, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL);
    _exit(1);
}

void child_begin(int fd, struct statuspage *page, struct registry *registry)
{
    if (!registry_initialise_slot(registry)) {
        child_refuse(fd, page, registry);
    }
    atomic_store_explicit(&page->functions_hash, registry_hash(registry), memory_order_relaxed);
    statuspage_birth(page, BIRTH_READY);
    (void)!send(fd, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL);
    run(fd, page, registry);
}

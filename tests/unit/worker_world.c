/*
 * worker_world.c owns a broker of a few lines and the worker under test. See the header.
 */
#include "unit/worker_world.h"

#include "common/check.h"
#include "common/clock.h"
#include "common/link.h"
#include "quern/worker.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

#ifndef BUILD_DIR
#define BUILD_DIR "."
#endif

/* ---- life ---- */

static void router_begin(struct world *world)
{
    const char *urls[] = {world->url};
    char *why = NULL;
    enum quern_err err = router_open(urls, 1, false, &world->router, &why);
    CHECK_THAT(err == QUERN_OK, "%s", why);
}

struct world *ww_begin(void)
{
    struct world *world = xcalloc(1, sizeof(*world));
    snprintf(world->directory, sizeof(world->directory), "/tmp/quern-test-XXXXXX");
    CHECK(mkdtemp(world->directory) != NULL);
    snprintf(world->url, sizeof(world->url), "ipc://%s/broker.sock", world->directory);
    world->store = uuid_random();
    world->epoch = 1;
    world->lease_ms = 15000;
    world->heartbeat_ms = 3000;
    router_begin(world);
    return world;
}

static char **world_environment(const struct world *world, struct buf *storage)
{
    size_t count = 0;
    while (environ[count] != NULL) {
        count++;
    }
    char **list = xcalloc(count + 3, sizeof(list[0]));
    memcpy(list, environ, count * sizeof(list[0]));
    buf_reserve(storage, 512);
    list[count] = (char *)storage->p;
    int size = snprintf(list[count], 256, "XDG_RUNTIME_DIR=%s", world->directory) + 1;
    list[count + 1] = list[count] + size;
    snprintf(list[count + 1], 256, "QUERN_TEST_WORLD=%s", world->directory);
    return list;
}

static bool was_greeted(struct world *world, uint64_t arg)
{
    return world->hellos >= arg && world->conn != 0;
}

/* The worker dies with us, whatever ends us: a failed test leaves nothing behind. */
static void start(struct world *world, const char *program, char **argv)
{
    struct buf storage = {0};
    char **list = world_environment(world, &storage);
    world->worker = fork();
    CHECK(world->worker >= 0);
    if (world->worker == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
        dup2(null, 1);
        execve(program, argv, list);
        fprintf(stderr, "%s: %s\n", program, strerror(errno));
        _exit(127);
    }
    free(list);
    buf_fini(&storage);
    ww_await(world, was_greeted, world->hellos + 1, "HELLO");
}

static char *log_level(void)
{
    return getenv("QUERN_TEST_LOG") != NULL ? getenv("QUERN_TEST_LOG") : (char *)(uintptr_t) "error";
}

void ww_worker(struct world *world, const char *slots)
{
    ww_worker_of(world, slots, "lib/quern/examples.so");
}

struct world *ww_begin_with(const char *slots)
{
    struct world *world = ww_begin();
    ww_worker(world, slots);
    return world;
}

void ww_worker_of(struct world *world, const char *slots, const char *file)
{
    const char *build = getenv("QUERN_BUILD") != NULL ? getenv("QUERN_BUILD") : BUILD_DIR;
    char program[512];
    char module[512];
    snprintf(program, sizeof(program), "%s/bin/quern-worker", build);
    snprintf(module, sizeof(module), "%s/%s", build, file);
    char *argv[] = {program,    "--url", world->url,         "--slots",     (char *)(uintptr_t)slots,
                    "--module", module,  "--allow-commands", "--log-level", log_level(),
                    NULL};
    start(world, program, argv);
}

void ww_program(struct world *world, const char *slots)
{
    char *argv[] = {"program",     QUERN_WORKER_ARGUMENT, "--url", world->url, "--slots", (char *)(uintptr_t)slots,
                    "--log-level", log_level(),           NULL};
    start(world, program_invocation_name, argv); /* /proc/self/exe may be valgrind */
}

bool ww_is_program(int argc, char **argv)
{
    return argc > 1 && strncmp(argv[1], QUERN_WORKER_PREFIX, strlen(QUERN_WORKER_PREFIX)) == 0;
}

static bool worker_is_over(struct world *world, uint64_t arg)
{
    (void)arg;
    if (world->worker > 0 && waitpid(world->worker, &world->worker_status, WNOHANG) == world->worker) {
        world->worker = 0;
    }
    return world->worker == 0;
}

static int remove_one(const char *path, const struct stat *facts, int type, struct FTW *at)
{
    (void)facts;
    (void)type;
    (void)at;
    return remove(path);
}

int ww_end(struct world **world_taken)
{
    struct world *world = *world_taken;
    *world_taken = NULL;
    int status = -1;
    if (world->worker > 0) {
        kill(world->worker, SIGTERM);
        ww_await(world, worker_is_over, 0, "the worker's end");
        status = WIFEXITED(world->worker_status) ? WEXITSTATUS(world->worker_status) : -1;
    }
    ww_await_no_process(world, 3000);
    router_close(&world->router);
    CHECK(nftw(world->directory, remove_one, 8, FTW_DEPTH | FTW_PHYS) == 0);
    for (size_t i = 0; i < WORLD_TASK_MAX; i++) {
        buf_fini(&world->tasks[i].result);
    }
    free(world);
    return status;
}

void ww_broker_dies(struct world *world)
{
    router_close(&world->router);
    world->conn = 0;
}

void ww_broker_returns(struct world *world)
{
    world->epoch++;
    router_begin(world);
    ww_await(world, was_greeted, world->hellos + 1, "HELLO after the broker's return");
}

/* ---- saying ---- */

static struct buf frame_of(struct world *world)
{
    struct buf frame = {0};
    frame_begin(&frame, world->generation);
    return frame;
}

static void say(struct world *world, struct buf *frame)
{
    (void)router_send(world->router, world->conn, frame);
    buf_fini(frame);
}

static void say_welcome(struct world *world)
{
    struct msg_WELCOME_WORKER welcome = {.store = world->store,
                                         .epoch = world->epoch,
                                         .lease_ms = world->lease_ms,
                                         .heartbeat_ms = world->heartbeat_ms,
                                         .dead_ms = 10000};
    struct buf frame = frame_of(world);
    msg_WELCOME_WORKER_put(&frame, &welcome);
    say(world, &frame);
}

/* ---- hearing ---- */

static struct seen *seen_of(struct world *world, uint64_t task, uint64_t epoch, uint64_t attempt)
{
    CHECK_THAT(task > 0 && task < WORLD_TASK_MAX, "task %llu", (unsigned long long)task);
    struct seen *seen = &world->tasks[task];
    CHECK_THAT(seen->attempt == attempt && seen->epoch == epoch, "task %llu: token %llu.%llu", (unsigned long long)task,
               (unsigned long long)epoch, (unsigned long long)attempt);
    return seen;
}

static void text_keep(char *to, size_t size, struct bytes text)
{
    size_t n = text.n < size - 1 ? text.n : size - 1;
    memcpy(to, text.n > 0 ? (const char *)text.p : "", n);
    to[n] = '\0';
}

static void on_finished(struct world *world, struct list items)
{
    struct buf frame = frame_of(world);
    struct message head = {.kind = MSG_RECEIPT};
    struct run run;
    run_open(&run, &frame, &head);
    struct item_finished item;
    while (item_finished_next(&items, &item)) {
        struct seen *seen = seen_of(world, item.task, item.epoch, item.attempt);
        CHECK_THAT(!(seen->returned > 0 && seen->is_out == false), "finished after it was returned: %llu",
                   (unsigned long long)item.task);
        seen->reports++;
        world->finished += seen->is_out;
        seen->finished += seen->is_out;
        seen->is_out = false;
        seen->last = item;
        text_keep(seen->kind, sizeof(seen->kind), item.kind);
        text_keep(seen->message, sizeof(seen->message), item.message);
        seen->result.n = 0;
        buf_put(&seen->result, item.result.p, item.result.n);
        struct item_receipt receipt = {.task = item.task, .epoch = item.epoch, .attempt = item.attempt};
        item_receipt_put(run.out, &receipt);
        run.count++;
    }
    run_close(&run);
    if (world->holds_receipts) {
        buf_fini(&frame);
    } else {
        say(world, &frame);
    }
}

static void on_returned(struct world *world, struct list items)
{
    struct item_token item;
    while (item_token_next(&items, &item)) {
        struct seen *seen = seen_of(world, item.task, item.epoch, item.attempt);
        CHECK_THAT(seen->is_out, "returned what had ended: %llu", (unsigned long long)item.task);
        CHECK_THAT(seen->started_pid == 0, "returned what had started: %llu", (unsigned long long)item.task);
        seen->is_out = false;
        seen->returned++;
        world->returned++;
    }
}

static void on_hello(struct world *world, uint64_t conn, uint32_t generation, const struct msg_HELLO_WORKER *hello)
{
    CHECK(generation > world->generation || world->hellos == 0 || hello->held.count == 0);
    world->conn = conn;
    world->generation = generation;
    world->hellos++;
    world->capacity = hello->capacity_count;
    memset(world->held, 0, sizeof(world->held));
    struct list items = hello->held;
    struct item_held item;
    while (item_held_next(&items, &item)) {
        world->held[item.state]++;
    }
    say_welcome(world);
}

static void on_progress(struct world *world, struct list items)
{
    struct item_progress item;
    while (item_progress_next(&items, &item)) {
        struct seen *seen = seen_of(world, item.task, item.epoch, item.attempt);
        seen->progress = item.fraction;
        text_keep(seen->progress_text, sizeof(seen->progress_text), item.text);
    }
}

static void on_started(struct world *world, struct list items)
{
    struct item_started item;
    while (item_started_next(&items, &item)) {
        seen_of(world, item.task, item.epoch, item.attempt)->started_pid = (pid_t)item.pid;
    }
}

static void on_message(struct world *world, const struct message *message)
{
    switch (message->kind) {
    case MSG_PING:
        if (!world->is_silent) {
            struct buf frame = frame_of(world);
            struct msg_PONG pong = {.number = message->PING.number};
            msg_PONG_put(&frame, &pong);
            say(world, &frame);
        }
        break;
    case MSG_FINISHED:
        on_finished(world, message->FINISHED.items);
        break;
    case MSG_RETURNED:
        on_returned(world, message->RETURNED.items);
        break;
    case MSG_STARTED:
        on_started(world, message->STARTED.items);
        break;
    case MSG_PROGRESS:
        on_progress(world, message->PROGRESS.items);
        break;
    case MSG_CAPACITY:
        world->capacity = message->CAPACITY.count;
        world->nested = message->CAPACITY.nested;
        world->nested_depth = message->CAPACITY.depth;
        break;
    case MSG_BYE:
        world->byes++;
        break;
    default:
        CHECK_THAT(false, "a worker said %s", message_word(message->kind));
    }
}

static void on_frame(struct world *world, const struct router_event *event)
{
    struct cursor cursor;
    uint32_t generation;
    struct message message;
    uint64_t unknown;
    const char *why = "";
    /* the router's bytes are valid until the next call of it, and answers are calls */
    struct buf copy = {0};
    buf_put(&copy, event->frame.p, event->frame.n);
    CHECK(frame_open(buf_bytes(&copy), &generation, &cursor) == QUERN_OK);
    for (;;) {
        enum quern_err err = message_next(&cursor, &message, &unknown, &why);
        if (err == QUERN_END) {
            break;
        }
        CHECK_THAT(err == QUERN_OK, "%s", why);
        if (message.kind == MSG_HELLO_WORKER) {
            on_hello(world, event->conn, generation, &message.HELLO_WORKER);
        } else if (event->conn == world->conn) {
            CHECK(generation == world->generation);
            on_message(world, &message);
        }
    }
    buf_fini(&copy);
}

static void serve(struct world *world, int timeout_ms)
{
    struct router_event event;
    bool was_any = false;
    if (world->router == NULL) {
        poll(NULL, 0, timeout_ms < 5 ? timeout_ms : 5);
        return;
    }
    while (router_next(world->router, &event)) {
        was_any = true;
        if (event.kind == ROUTER_FRAME) {
            on_frame(world, &event);
        } else if (event.conn == world->conn) {
            world->conn = 0;
        }
    }
    if (!was_any) {
        int fds[ROUTER_FD_COUNT_MAX];
        struct pollfd polled[ROUTER_FD_COUNT_MAX];
        size_t count = router_fds(world->router, fds);
        for (size_t i = 0; i < count; i++) {
            polled[i] = (struct pollfd){.fd = fds[i], .events = POLLIN};
        }
        (void)poll(polled, count, timeout_ms);
    }
}

void ww_await(struct world *world, world_fact *fact, uint64_t arg, const char *what)
{
    int64_t until_ms = clock_mono_ms() + AWAIT_MS_MAX;
    while (!fact(world, arg)) {
        CHECK_THAT(clock_mono_ms() < until_ms, "waited in vain for %s (%llu); finished %u, returned %u", what,
                   (unsigned long long)arg, world->finished, world->returned);
        serve(world, 10);
    }
}

void ww_serve_for(struct world *world, int ms)
{
    int64_t until_ms = clock_mono_ms() + ms;
    while (clock_mono_ms() < until_ms) {
        serve(world, 5);
    }
}

bool ww_is_finished(struct world *world, uint64_t task)
{
    return world->tasks[task].finished > 0 && !world->tasks[task].is_out;
}

bool ww_is_returned(struct world *world, uint64_t task)
{
    return world->tasks[task].returned > 0 && !world->tasks[task].is_out;
}

bool ww_is_started(struct world *world, uint64_t task)
{
    return world->tasks[task].started_pid != 0;
}

bool ww_all_ended(struct world *world, uint64_t count)
{
    for (uint64_t task = 1; task <= count; task++) {
        if (world->tasks[task].is_out) {
            return false;
        }
    }
    return true;
}

/* ---- dispatching ---- */

static struct item_dispatch item_of(struct world *world, uint64_t task, struct bytes args)
{
    struct seen *seen = &world->tasks[task];
    CHECK(task > 0 && task < WORLD_TASK_MAX && !seen->is_out);
    seen->attempt++;
    seen->epoch = world->epoch;
    seen->is_out = true;
    seen->started_pid = 0;
    return (struct item_dispatch){.task = task, .attempt = seen->attempt, .args = args};
}

void ww_dispatch(struct world *world, uint64_t task, const struct ww_call *call, struct quern_writer *args)
{
    static const uint8_t none = 0x90;
    const void *p = &none;
    size_t n = 1;
    if (args != NULL) {
        quern_writer_bytes(args, &p, &n);
        CHECK(n > 0);
    }
    struct item_dispatch item = item_of(world, task, bytes_of(p, n));
    item.depth = call->depth;
    struct buf frame = frame_of(world);
    struct message head = {.kind = MSG_DISPATCH,
                           .DISPATCH = {.function = bytes_text(call->function),
                                        .timeout_ms = call->timeout_ms,
                                        .at_most_once = call->at_most_once}};
    struct run run;
    run_open(&run, &frame, &head);
    item_dispatch_put(run.out, &item);
    run.count++;
    run_close(&run);
    say(world, &frame);
    quern_writer_free(args);
}

void ww_dispatch_i64(struct world *world, uint64_t task, const char *function, int64_t arg)
{
    struct quern_writer *args = quern_writer_new();
    quern_write_array(args, 1);
    quern_write_i64(args, arg);
    ww_dispatch(world, task, &(struct ww_call){.function = function}, args);
}

void ww_dispatch_f64(struct world *world, uint64_t task, const char *function, double arg)
{
    struct quern_writer *args = quern_writer_new();
    quern_write_array(args, 1);
    quern_write_f64(args, arg);
    ww_dispatch(world, task, &(struct ww_call){.function = function}, args);
}

void ww_dispatch_shell(struct world *world, uint64_t task, const char *script, uint64_t timeout_ms)
{
    struct quern_writer *args = quern_writer_new();
    quern_write_array(args, 2);
    quern_write_array(args, 3);
    quern_write_text(args, "sh");
    quern_write_text(args, "-c");
    quern_write_text(args, script);
    quern_write_map(args, 1);
    quern_write_text(args, "cwd");
    quern_write_text(args, world->directory);
    ww_dispatch(world, task, &(struct ww_call){.function = FUNCTION_COMMAND, .timeout_ms = timeout_ms}, args);
}

void ww_dispatch_run(struct world *world, uint64_t first, uint64_t count, const char *function)
{
    struct buf frame = frame_of(world);
    struct message head = {.kind = MSG_DISPATCH, .DISPATCH = {.function = bytes_text(function)}};
    struct run run;
    run_open(&run, &frame, &head);
    for (uint64_t task = first; task < first + count; task++) {
        struct buf args = {0};
        put_array(&args, 1);
        put_u64(&args, task);
        struct item_dispatch item = item_of(world, task, buf_bytes(&args));
        item_dispatch_put(run.out, &item);
        run.count++;
        buf_fini(&args);
    }
    run_close(&run);
    say(world, &frame);
}

void ww_revoke(struct world *world, uint64_t task, bool is_forced)
{
    const struct seen *seen = &world->tasks[task];
    struct item_revoke item = {.task = task, .epoch = seen->epoch, .attempt = seen->attempt, .force = is_forced};
    struct buf frame = frame_of(world);
    struct message head = {.kind = MSG_REVOKE};
    struct run run;
    run_open(&run, &frame, &head);
    item_revoke_put(run.out, &item);
    run.count++;
    run_close(&run);
    say(world, &frame);
}

void ww_drop(struct world *world, uint64_t task)
{
    struct seen *seen = &world->tasks[task];
    struct item_token item = {.task = task, .epoch = seen->epoch, .attempt = seen->attempt};
    struct buf frame = frame_of(world);
    struct message head = {.kind = MSG_DROP};
    struct run run;
    run_open(&run, &frame, &head);
    item_token_put(run.out, &item);
    run.count++;
    run_close(&run);
    say(world, &frame);
}

/* ---- results ---- */

int64_t ww_result_i64(struct world *world, uint64_t task)
{
    struct quern_reader reader;
    int64_t value = 0;
    const struct seen *seen = &world->tasks[task];
    CHECK_THAT(seen->last.state == FINISHED_DONE, "%s: %s", seen->kind, seen->message);
    quern_reader_init(&reader, seen->result.p, seen->result.n);
    CHECK(quern_read_i64(&reader, &value) == QUERN_OK);
    return value;
}

static void find_key(struct world *world, uint64_t task, const char *key, struct quern_reader *reader)
{
    const struct seen *seen = &world->tasks[task];
    size_t count = 0;
    quern_reader_init(reader, seen->result.p, seen->result.n);
    CHECK_THAT(quern_read_map(reader, &count) == QUERN_OK, "%s: %s", seen->kind, seen->message);
    while (count-- > 0) {
        const char *p;
        size_t n;
        CHECK(quern_read_str(reader, &p, &n) == QUERN_OK);
        if (bytes_is(bytes_of(p, n), key)) {
            return;
        }
        CHECK(quern_read_any(reader, NULL, NULL) == QUERN_OK);
    }
    CHECK_THAT(false, "no key %s", key);
}

const char *ww_result_text(struct world *world, uint64_t task, const char *key)
{
    static char text[4096];
    struct quern_reader reader;
    const void *p;
    size_t n;
    find_key(world, task, key, &reader);
    CHECK(quern_read_bytes(&reader, &p, &n) == QUERN_OK);
    text_keep(text, sizeof(text), bytes_of(p, n));
    return text;
}

int64_t ww_result_key_i64(struct world *world, uint64_t task, const char *key)
{
    struct quern_reader reader;
    int64_t value = 0;
    find_key(world, task, key, &reader);
    CHECK(quern_read_i64(&reader, &value) == QUERN_OK);
    return value;
}

/* ---- processes ---- */

pid_t ww_zygote_of(pid_t worker)
{
    char path[128];
    int pid = 0;
    snprintf(path, sizeof(path), "/proc/%d/task/%d/children", worker, worker);
    FILE *file = fopen(path, "re");
    CHECK(file != NULL && fscanf(file, "%d", &pid) == 1);
    fclose(file);
    return pid;
}

static bool is_of_world(const struct world *world, const char *pid)
{
    char path[64];
    char environment[32768];
    snprintf(path, sizeof(path), "/proc/%.20s/environ", pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t size = fd < 0 ? -1 : read(fd, environment, sizeof(environment));
    if (fd >= 0) {
        close(fd);
    }
    char mark[128];
    int mark_size = snprintf(mark, sizeof(mark), "QUERN_TEST_WORLD=%s", world->directory);
    return size > 0 && memmem(environment, (size_t)size, mark, (size_t)mark_size) != NULL;
}

unsigned ww_process_count(const struct world *world)
{
    DIR *proc = opendir("/proc");
    unsigned count = 0;
    CHECK(proc != NULL);
    for (struct dirent *entry = readdir(proc); entry != NULL; entry = readdir(proc)) {
        count += entry->d_name[0] >= '1' && entry->d_name[0] <= '9' && is_of_world(world, entry->d_name);
    }
    closedir(proc);
    return count;
}

void ww_await_no_process(const struct world *world, int within_ms)
{
    int64_t until_ms = clock_mono_ms() + within_ms;
    while (ww_process_count(world) > 0) {
        CHECK_THAT(clock_mono_ms() < until_ms, "%u processes of the worker are left", ww_process_count(world));
        poll(NULL, 0, 10);
    }
}

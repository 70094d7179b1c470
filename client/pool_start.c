/*
 * pool_start.c owns the order in which a pool's processes are started and ended, and what they are told.
 * It must not know what happens in between.
 * Start reading at pool_start.
 */
#include "client/pool_inside.h"

#include "client/pool_find.h"
#include "common/check.h"
#include "common/clock.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A former pool's broker on the same database may be ending still. */
#define STORE_WAIT_MS_MAX 2000
/* What the worker is given to end in order, and both to end at all, before they are killed. */
#define ORDER_MS 5000
#define END_MS 5000

/* ---- what they are told ---- */

__attribute__((format(printf, 2, 3))) static void add(struct pool_process *process, const char *format, ...)
{
    char *argument = NULL;
    va_list arguments;
    va_start(arguments, format);
    int size = vasprintf(&argument, format, arguments);
    va_end(arguments);
    argument = size < 0 ? NULL : argument;
    pool_process_add(process, argument);
    free(argument);
}

static void add_pair(struct pool_process *process, const char *option, const char *value)
{
    pool_process_add(process, option);
    pool_process_add(process, value);
}

static void add_ties(struct pool_process *process)
{
    add_pair(process, "--parent-fd", POOL_TIE_WORD);
    add_pair(process, "--parent-pidfd", POOL_SELF_WORD);
    add_pair(process, "--ready-fd", POOL_READY_WORD);
    add_pair(process, "--log-level", "warn"); /* what goes well is of no interest in another program's stderr */
}

static void add_all(struct pool_process *process, const char *const *arguments)
{
    for (size_t i = 0; arguments != NULL && arguments[i] != NULL; i++) {
        pool_process_add(process, arguments[i]);
    }
}

/* NULL: no memory. */
static char *url_of(const struct quern_pool *pool)
{
    char *url = NULL;
    return asprintf(&url, "ipc://%s/broker.sock", pool->directory.path) < 0 ? NULL : url;
}

static enum quern_err told(const struct pool_process *process)
{
    return process->is_short ? error_memory("a pool") : QUERN_OK;
}

static int store_wait_ms(const struct quern_pool_options *options)
{
    int half_ms = options->start_timeout_ms / 2;
    return options->start_timeout_ms < 0 || half_ms > STORE_WAIT_MS_MAX ? STORE_WAIT_MS_MAX : half_ms;
}

static enum quern_err broker_tell(struct quern_pool *pool, const struct quern_pool_options *options)
{
    struct pool_process *broker = &pool->broker.process;
    char *url = url_of(pool);
    enum quern_err err = pool_find("quern-broker", &broker->path);
    pool_process_add(broker, "quern-broker");
    add_ties(broker);
    add_pair(broker, "--remove-directory", pool->directory.path);
    add_pair(broker, "--listen", url);
    if (options->database != NULL) {
        add_pair(broker, "--db", options->database);
        pool_process_add(broker, "--handover");
        add(broker, "%d", store_wait_ms(options));
    } else {
        pool_process_add(broker, "--volatile");
    }
    add_all(broker, options->broker_args);
    free(url);
    return err != QUERN_OK ? err : told(broker);
}

static void worker_tell_limits(struct pool_process *worker, const struct quern_pool_options *options)
{
    if (options->slots > 0) {
        pool_process_add(worker, "--slots");
        add(worker, "%u", options->slots);
    }
    if (options->max_tasks_per_slot > 0) {
        pool_process_add(worker, "--max-tasks-per-slot");
        add(worker, "%u", options->max_tasks_per_slot);
    }
    if (options->memory_per_slot > 0) {
        pool_process_add(worker, "--max-memory-per-slot");
        add(worker, "%llu", (unsigned long long)options->memory_per_slot);
    }
    if (options->slot_memory_limit > 0) {
        pool_process_add(worker, "--memory-per-slot");
        add(worker, "%llu", (unsigned long long)options->slot_memory_limit);
    }
    if (options->start == QUERN_START_SPAWN) {
        add_pair(worker, "--start", "spawn");
    }
}

/* The program itself if it has functions, as what it was started from, whatever its name leads to now. */
static enum quern_err worker_tell(struct quern_pool *pool, const struct quern_pool_options *options)
{
    struct pool_process *worker = &pool->worker.process;
    const struct pool_program *program = pool_program();
    char *url = url_of(pool);
    enum quern_err err = QUERN_OK;
    if (program->has_functions) {
        worker->path = strdup("/proc/self/exe");
        worker->is_short = worker->path == NULL;
        pool_process_add(worker, program->name);
        pool_process_add(worker, QUERN_WORKER_ARGUMENT);
    } else {
        err = pool_find("quern-worker", &worker->path);
        pool_process_add(worker, "quern-worker");
    }
    add_ties(worker);
    add_pair(worker, "--name-directory", pool->directory.path);
    add_pair(worker, "--url", url);
    worker_tell_limits(worker, options);
    for (size_t i = 0; options->modules != NULL && options->modules[i] != NULL; i++) {
        add_pair(worker, "--module", options->modules[i]);
    }
    add_all(worker, options->worker_args);
    free(url);
    return err != QUERN_OK ? err : told(worker);
}

/* ---- starting ---- */

static enum quern_err part_start(struct quern_pool *pool, struct pool_part *part)
{
    int failed = pool_process_start(&part->process, &pool->ground);
    return failed == 0 ? QUERN_OK
                       : error_set(QUERN_IO, "%s could not be started: %s", part->process.path, strerror(failed));
}

static enum quern_err died(const struct pool_process *process)
{
    char text[POOL_WORDS_SIZE_MAX + 512];
    pool_process_obituary(process, text, sizeof(text));
    return error_set(QUERN_IO, "%s%s", text, process->words_size > 0 ? "" : " (its stderr may say more)");
}

/* Until it is ready; the other one, if it runs, must not die meanwhile. */
static enum quern_err part_await(struct pool_process *process, struct pool_process *other, int64_t deadline_ms)
{
    while (!process->is_ready) {
        int64_t left_ms = deadline_ms - clock_mono_ms();
        struct pollfd fds[] = {{.fd = process->ready_fd, .events = POLLIN},
                               {.fd = process->pidfd, .events = POLLIN},
                               {.fd = other->pidfd, .events = POLLIN}};
        if (left_ms <= 0) {
            return error_set(QUERN_TIMEOUT, "%s is not ready in time%s%s", process->argv[0],
                             process->words_size > 0 ? ": " : "", process->words);
        }
        (void)poll(fds, 3, left_ms > INT_MAX ? -1 : (int)left_ms);
        pool_process_look(process);
        pool_process_look(other);
        if (!pool_process_is_running(process)) {
            return died(process);
        }
        if (fds[2].revents != 0) {
            return died(other);
        }
    }
    return QUERN_OK;
}

static enum quern_err client_start(struct quern_pool *pool, const struct quern_pool_options *options,
                                   int64_t deadline_ms)
{
    struct quern_client_options ours = QUERN_CLIENT_OPTIONS_INIT;
    int64_t left_ms = deadline_ms - clock_mono_ms();
    char *url = url_of(pool);
    if (url == NULL) {
        return error_memory("a pool");
    }
    ours.url = url;
    ours.session = options->session;
    ours.is_volatile = options->database == NULL;
    ours.connect_timeout_ms = left_ms > INT_MAX ? QUERN_FOREVER : left_ms < 0 ? 0 : (int)left_ms;
    enum quern_err err = quern_client_open(&ours, &pool->client);
    free(url);
    return err == QUERN_NO_BROKER ? QUERN_TIMEOUT : err;
}

/* The worker loads its modules while the client connects. */
static enum quern_err all_start(struct quern_pool *pool, const struct quern_pool_options *options)
{
    int64_t deadline_ms = deadline_of(options->start_timeout_ms);
    enum quern_err err = part_start(pool, &pool->broker);
    err = err != QUERN_OK ? err : part_await(&pool->broker.process, &pool->worker.process, deadline_ms);
    err = err != QUERN_OK ? err : part_start(pool, &pool->worker);
    err = err != QUERN_OK ? err : client_start(pool, options, deadline_ms);
    return err != QUERN_OK ? err : part_await(&pool->worker.process, &pool->broker.process, deadline_ms);
}

static enum quern_err ground_make(struct quern_pool *pool)
{
    char *why = NULL;
    enum quern_err err = pool_ground_open(&pool->ground);
    if (err != QUERN_OK) {
        return err;
    }
    err = pool_directory_make(&pool->directory, &why);
    if (err != QUERN_OK) {
        err = err == QUERN_NO_MEMORY || why == NULL ? error_memory("a pool") : error_set(err, "%s", why);
    }
    free(why);
    return err;
}

enum quern_err pool_start(struct quern_pool *pool, const struct quern_pool_options *options)
{
    char text[ERROR_TEXT_SIZE_MAX];
    pool->has_processes = true;
    enum quern_err err = ground_make(pool);
    err = err != QUERN_OK ? err : broker_tell(pool, options);
    err = err != QUERN_OK ? err : worker_tell(pool, options);
    err = err != QUERN_OK ? err : all_start(pool, options);
    err = err != QUERN_OK ? err : keeper_start(pool);
    if (err == QUERN_OK) {
        return QUERN_OK;
    }
    snprintf(text, sizeof(text), "%s", quern_last_error()); /* what follows may fail too, which is not of interest */
    if (pool->client != NULL) {
        client_break(pool->client, QUERN_CLOSED, "the pool did not start");
        (void)quern_client_close(&pool->client, 0);
    }
    pool_stop(pool, false);
    return error_set(err, "%s", text);
}

/* ---- ending ---- */

static void part_end(struct pool_part *part)
{
    if (!pool_process_await_end(&part->process, END_MS)) {
        pool_process_signal(&part->process, SIGKILL);
        (void)pool_process_await_end(&part->process, END_MS);
    }
    pool_process_fini(&part->process);
}

void pool_stop(struct quern_pool *pool, bool in_order)
{
    keeper_stop(pool);
    if (in_order) {
        pool_process_signal(&pool->worker.process, SIGTERM);
        (void)pool_process_await_end(&pool->worker.process, ORDER_MS);
    }
    pool_ground_close(&pool->ground); /* what still runs ends at once, the worker with all below it */
    pool_process_signal(&pool->broker.process, SIGTERM);
    part_end(&pool->worker);
    part_end(&pool->broker);
    pool_directory_remove(&pool->directory);
}

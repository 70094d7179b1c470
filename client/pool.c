/*
 * pool.c owns what users call of an embedded pool: opening, shutting down, letting go.
 * It must not know how processes are started (pool_start.c) or kept (pool_keeper.c).
 * Start reading at quern_pool_open, then pool_finish.
 *
 * How everything ends with the program, whatever ends it: broker and worker hold the read end of a pipe whose write end
 * is the program's, and a pidfd of the program (common/parent.h says why both). The kernel closes the one and reports
 * the other at every end, SIGKILL included; nothing in the program has to run for it. The worker then kills all below
 * it and the broker ends as at SIGTERM and removes the private directory. In a forked child of the program a pool is
 * not its own: calls answer QUERN_CLOSED.
 */
#include "client/pool_inside.h"

#include "common/check.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define POOL_SLOTS_MAX 1024u

/* ---- the rule of main ---- */

static struct pool_program program;

const struct pool_program *pool_program(void)
{
    return &program;
}

void quern_pool_main(int argc, char **argv, const struct quern_module *module)
{
    program.was_called = true;
    program.has_functions = module != NULL;
    program.name = argc > 0 ? argv[0] : "quern-worker";
    if (argc > 1 && strncmp(argv[1], QUERN_WORKER_PREFIX, strlen(QUERN_WORKER_PREFIX)) == 0) {
        int status = quern_worker_main(argc, argv, module);
        (void)fflush(NULL);
        _exit(status); /* the program has not begun: what it would do at its end is not due */
    }
}

/* ---- opening ---- */

static const char *url_of_others(const struct quern_pool_options *options)
{
    const char *url = options->url != NULL ? options->url : getenv("QUERN_POOL_URL");
    return url != NULL && url[0] != '\0' ? url : NULL;
}

static bool is_empty(const char *const *list)
{
    return list == NULL || list[0] == NULL;
}

static enum quern_err functions_check(const struct quern_pool_options *options)
{
    if (program.has_functions || !is_empty(options->modules) || !is_empty(options->worker_args)) {
        return QUERN_OK;
    }
    if (!program.was_called) {
        return error_set(QUERN_INVALID, "quern_pool_open: no functions: main must call quern_pool_main(argc, argv, "
                                        "&module) first of all, or name modules in the options");
    }
    return error_set(QUERN_INVALID, "quern_pool_open: no functions: quern_pool_main was given no module, and the "
                                    "options name none");
}

static enum quern_err options_check(const struct quern_pool_options *options)
{
    if (options->start_timeout_ms == 0) {
        return error_set(QUERN_INVALID, "quern_pool_open: start_timeout_ms is 0: nothing starts in no time");
    }
    if (url_of_others(options) != NULL) {
        return QUERN_OK;
    }
    if (options->slots > POOL_SLOTS_MAX) {
        return error_set(QUERN_INVALID, "quern_pool_open: %u slots; there may be %u", options->slots, POOL_SLOTS_MAX);
    }
    if (options->start != QUERN_START_FORK_SERVER && options->start != QUERN_START_SPAWN) {
        return error_set(QUERN_INVALID, "quern_pool_open: start is %d, which is no enum quern_start",
                         (int)options->start);
    }
    if (options->session != NULL && options->database == NULL) {
        return error_set(QUERN_INVALID, "quern_pool_open: a session with a name is durable: it needs a database, or "
                                        "the url of a broker");
    }
    if (options->database != NULL && options->database[0] == '\0') {
        return error_set(QUERN_INVALID, "quern_pool_open: database is an empty text; NULL is a pool without one");
    }
    return functions_check(options);
}

/* NULL: no memory. */
static struct quern_pool *pool_make(const struct quern_pool_options *options)
{
    struct quern_pool *pool = calloc(1, sizeof(*pool));
    char *session = options->session != NULL ? strdup(options->session) : NULL;
    if (pool == NULL || (options->session != NULL && session == NULL)) {
        free(pool);
        free(session);
        return NULL;
    }
    pool->pid = getpid();
    pool->session = session;
    pool->keeper_wake = -1;
    pool->directory = (struct pool_directory)POOL_DIRECTORY_INIT;
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->over, NULL);
    pool_process_init(&pool->broker.process);
    pool_process_init(&pool->worker.process);
    return pool;
}

/* One that is over, or never began. */
static void pool_free(struct quern_pool *pool)
{
    (void)quern_client_close(&pool->client, 0);
    pool_process_fini(&pool->broker.process);
    pool_process_fini(&pool->worker.process);
    pthread_cond_destroy(&pool->over);
    pthread_mutex_destroy(&pool->lock);
    free(pool->session);
    free(pool);
}

static enum quern_err join_others(struct quern_pool *pool, const struct quern_pool_options *options)
{
    struct quern_client_options ours = QUERN_CLIENT_OPTIONS_INIT;
    ours.url = url_of_others(options);
    ours.session = options->session;
    ours.connect_timeout_ms = options->start_timeout_ms;
    return quern_client_open(&ours, &pool->client);
}

enum quern_err quern_pool_open(const struct quern_pool_options *given, struct quern_pool **pool_out)
{
    struct quern_pool_options options = QUERN_POOL_OPTIONS_INIT;
    enum quern_err err =
        given == NULL ? QUERN_OK : sized_copy(&options, sizeof(options), given, "struct quern_pool_options");
    err = err != QUERN_OK ? err : options_check(&options);
    err = err != QUERN_OK ? err : out_check("quern_pool_open", "pool_out", pool_out);
    if (err != QUERN_OK) {
        return err;
    }
    struct quern_pool *pool = pool_make(&options);
    if (pool == NULL) {
        return error_memory("a pool");
    }
    err = url_of_others(&options) != NULL ? join_others(pool, &options) : pool_start(pool, &options);
    if (err != QUERN_OK) {
        pool_free(pool);
        return err;
    }
    *pool_out = pool;
    return QUERN_OK;
}

struct quern_client *quern_pool_client(struct quern_pool *pool)
{
    return pool == NULL ? NULL : pool->client;
}

/* ---- the end ---- */

static enum quern_err pool_check(const struct quern_pool *pool)
{
    if (pool == NULL) {
        return error_set(QUERN_INVALID, "pool is NULL; open one with quern_pool_open");
    }
    if (pool->pid != getpid()) {
        return error_set(QUERN_CLOSED, "this pool belongs to the parent of a fork; open one in this process");
    }
    return QUERN_OK;
}

static enum quern_err flags_check(unsigned flags)
{
    if ((flags & ~(QUERN_POOL_CANCEL_QUEUED | QUERN_POOL_NO_WAIT)) != 0) {
        return error_set(QUERN_INVALID, "flags of a pool's end have a bit that is not known; the pool stays open");
    }
    return QUERN_OK;
}

/* Everything is awaited, told, ended. By one thread, once; whoever has let go of the pool before leaves it to us. */
static void pool_finish(struct quern_pool *pool)
{
    enum quern_err err = client_await_outcomes(pool->client);
    bool is_whole = err == QUERN_OK;
    enum quern_err parted = client_part(pool->client, 0, "the pool was shut down");
    err = is_whole ? parted : err;
    (void)snprintf(pool->end_text, sizeof(pool->end_text), "%s", quern_last_error());
    if (pool->has_processes) {
        pool_stop(pool, is_whole);
    }
    pthread_mutex_lock(&pool->lock);
    pool->phase = POOL_OVER;
    pool->end_code = err;
    bool is_let_go = pool->is_let_go;
    pthread_cond_broadcast(&pool->over);
    pthread_mutex_unlock(&pool->lock);
    if (is_let_go) {
        pool_free(pool);
    }
}

static void *finisher_main(void *context)
{
    pool_finish(context);
    return NULL;
}

static void finish_later(struct quern_pool *pool)
{
    sigset_t all;
    sigset_t before;
    pthread_t thread;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int failed = pthread_create(&thread, NULL, finisher_main, pool);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (failed == 0) {
        pthread_detach(thread);
    } else {
        pool_finish(pool); /* late is better than never */
    }
}

static enum quern_err end_await(struct quern_pool *pool)
{
    pthread_mutex_lock(&pool->lock);
    while (pool->phase != POOL_OVER) {
        pthread_cond_wait(&pool->over, &pool->lock);
    }
    enum quern_err err = pool->end_code;
    pthread_mutex_unlock(&pool->lock);
    return err == QUERN_OK ? err : error_set(err, "%s", pool->end_text);
}

/* True: this call is the first, and has to finish. */
static bool is_first(struct quern_pool *pool)
{
    pthread_mutex_lock(&pool->lock);
    bool is = pool->phase == POOL_OPEN;
    pool->phase = is ? POOL_CLOSING : pool->phase;
    pthread_mutex_unlock(&pool->lock);
    return is;
}

enum quern_err quern_pool_shutdown(struct quern_pool *pool, unsigned flags)
{
    enum quern_err cancelled = QUERN_OK;
    enum quern_err err = pool_check(pool);
    err = err != QUERN_OK ? err : flags_check(flags);
    if (err != QUERN_OK) {
        return err;
    }
    client_shut(pool->client);
    if ((flags & QUERN_POOL_CANCEL_QUEUED) != 0) {
        cancelled = client_cancel_queued(pool->client, pool->session);
        cancelled = cancelled == QUERN_CLOSED ? QUERN_OK : cancelled; /* it was over already */
    }
    bool must_finish = is_first(pool);
    if ((flags & QUERN_POOL_NO_WAIT) != 0) {
        if (must_finish) {
            finish_later(pool);
        }
        return cancelled;
    }
    if (must_finish) {
        pool_finish(pool);
    }
    err = end_await(pool);
    return err != QUERN_OK ? err : cancelled;
}

enum quern_err quern_pool_close(struct quern_pool **taken, unsigned flags)
{
    if (taken == NULL || *taken == NULL) {
        return QUERN_OK;
    }
    enum quern_err err = flags_check(flags);
    if (err != QUERN_OK) {
        return err;
    }
    struct quern_pool *pool = *taken;
    *taken = NULL;
    err = pool_check(pool);
    if (err != QUERN_OK) {
        return err; /* in the child of a fork its memory is not ours to free */
    }
    err = quern_pool_shutdown(pool, flags);
    pthread_mutex_lock(&pool->lock);
    bool is_over = pool->phase == POOL_OVER;
    pool->is_let_go = true;
    pthread_mutex_unlock(&pool->lock);
    if (is_over) {
        pool_free(pool);
    }
    return err;
}

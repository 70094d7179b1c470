/*
 * client: opening and closing, who may use a client, waiting and waking.
 * Knows nothing of messages.
 * Start at quern_client_open and quern_client_close.
 */
#include "client/inside.h"
#include "client/map_item.h"
#include "common/check.h"
#include "common/clock.h"
#include "common/link.h"
#include "common/place.h"
#include "common/random.h"

#include <errno.h>
#include <sodium.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* The broker answers at once, unless it has no room before tasks have ended, or was asked to wait for one. */
#define ANSWER_PATIENCE_MS 100

/* ---- fork ---- */

static atomic_uint fork_count;

static void forked(void)
{
    atomic_fetch_add(&fork_count, 1);
    link_forget_after_fork();
}

static void fork_watch(void)
{
    (void)pthread_atfork(NULL, NULL, forked);
}

unsigned client_fork_count(void)
{
    return atomic_load_explicit(&fork_count, memory_order_relaxed);
}

enum quern_err client_check(const struct quern_client *client)
{
    if (client == NULL) {
        return error_set(QUERN_INVALID, "client is NULL; open one with quern_client_open");
    }
    if (client->fork_count != client_fork_count()) {
        return error_set(QUERN_CLOSED, "this client belongs to the parent of a fork; open one in this process");
    }
    return QUERN_OK;
}

/* ---- references ---- */

void client_ref(struct quern_client *client)
{
    client->refs++;
}

static void client_free(struct quern_client *client)
{
    if (client->ready_fd >= 0) {
        (void)close(client->ready_fd);
    }
    if (client->wake_fd >= 0) {
        (void)close(client->wake_fd);
    }
    spares_fini(&client->delivery_spares);
    spares_fini(&client->item_spares);
    free(client->url_text);
    free(client->refusal_text);
    free(client->lost_why);
    pthread_cond_destroy(&client->arrived);
    pthread_cond_destroy(&client->settled);
    pthread_cond_destroy(&client->room);
    callbacks_fini(&client->callbacks);
    pthread_mutex_destroy(&client->lock);
    free(client);
}

void client_unref_unlock(struct quern_client *client)
{
    bool is_last = --client->refs == 0;
    pthread_mutex_unlock(&client->lock);
    if (is_last) {
        client_free(client);
    }
}

/* ---- waiting ---- */

int64_t deadline_of(int timeout_ms)
{
    return timeout_ms < 0 ? INT64_MAX : clock_mono_ms() + timeout_ms;
}

void condition_init(pthread_cond_t *condition)
{
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(condition, &monotonic);
    pthread_condattr_destroy(&monotonic);
}

bool client_wait(struct quern_client *client, pthread_cond_t *condition, unsigned *waiters, int64_t deadline_ms)
{
    int failed;
    ++*waiters;
    if (deadline_ms == INT64_MAX) {
        failed = pthread_cond_wait(condition, &client->lock);
    } else {
        struct timespec at = {.tv_sec = deadline_ms / 1000, .tv_nsec = deadline_ms % 1000 * 1000000};
        failed = pthread_cond_timedwait(condition, &client->lock, &at);
    }
    --*waiters;
    return failed == 0;
}

/* True: the thread has looked for a moment; what it waits for may be there. */
static bool client_spin(struct quern_client *client, const pthread_cond_t *condition)
{
    if (!spin_may(&client->spin, client_ledger_outstanding(&client->ledger), clock_mono_us())) {
        return false;
    }
    spin_begin(&client->spin, condition);
    pthread_mutex_unlock(&client->lock);
    (void)spin_look(&client->spin);
    pthread_mutex_lock(&client->lock);
    spin_end(&client->spin, clock_mono_us());
    return true;
}

bool client_is_over(const struct quern_client *client)
{
    return client->is_closed || client->ledger.phase == LEDGER_ENDED;
}

enum quern_err wait_refused(void)
{
    return error_set(QUERN_FULL, "as many tasks of this worker wait inside their handlers as it allows, so this one "
                                 "cannot wait too; let fewer tasks wait at once, or give the worker more slots");
}

/* The lock is held while the place is given, so that nothing that is waited for comes in between: the slot's supervisor
 * answers, who waits for nobody. */
enum quern_err client_wait_away(struct quern_client *client, pthread_cond_t *condition, unsigned *waiters,
                                int64_t deadline_ms)
{
    if (!quern_place_give(deadline_ms)) {
        return wait_refused();
    }
    if (!client_spin(client, condition)) {
        (void)client_wait(client, condition, waiters, deadline_ms);
    }
    quern_place_take();
    return QUERN_OK;
}

enum quern_err client_wait_answer(struct quern_client *client, pthread_cond_t *condition, unsigned *waiters,
                                  int64_t since_ms, int64_t deadline_ms)
{
    int64_t patient_ms = since_ms + ANSWER_PATIENCE_MS;
    if (clock_mono_ms() >= patient_ms) {
        return client_wait_away(client, condition, waiters, deadline_ms);
    }
    (void)client_wait(client, condition, waiters, patient_ms < deadline_ms ? patient_ms : deadline_ms);
    return QUERN_OK;
}

enum quern_err client_end(const struct quern_client *client)
{
    if (client->is_closed) {
        return error_set(QUERN_CLOSED, "the client was closed; nothing comes any more, open another one");
    }
    if (client->ledger.phase == LEDGER_ENDED) {
        return error_set(client->ledger.end_code, "%s", client->ledger.why);
    }
    return QUERN_OK;
}

/* Waiting submitters are let on when a good part of the window is free, not for each place. */
static bool room_is_worth_it(const struct quern_client *client)
{
    const struct submits *submits = &client->ledger.submits;
    return client->is_closing || client->ledger.phase == LEDGER_ENDED ||
           (submits->count <= CLIENT_SUBMIT_COUNT_MAX / 4 * 3 && submits->bytes <= CLIENT_SUBMIT_BYTES_MAX / 4 * 3);
}

static void condition_tell(struct quern_client *client, pthread_cond_t *condition, unsigned waiters)
{
    spin_tell(&client->spin, condition);
    if (waiters > 0) {
        pthread_cond_broadcast(condition);
    }
}

void client_tell(struct quern_client *client)
{
    futures_tell(client);
    if (client->settled_wake) {
        condition_tell(client, &client->settled, client->settled_waiters);
    }
    client->settled_wake = false;
    watches_tell(client);
    cancels_go_on(client);
    if ((client->arrived_waiters > 0 || client->spin.condition == &client->arrived) && client_is_ready(client)) {
        condition_tell(client, &client->arrived, client->arrived_waiters);
    }
    if (client->room_waiters > 0 && room_is_worth_it(client)) {
        pthread_cond_broadcast(&client->room);
    }
    maps_tell(client);
    client_ready_update(client);
}

/* ---- opening ---- */

static enum quern_err urls_parse(struct quern_client *client, const char *text)
{
    client->url_text = text != NULL ? strdup(text) : link_try_default_url();
    if (client->url_text == NULL) {
        return error_memory("a client");
    }
    char *rest = client->url_text;
    char *url;
    while ((url = strsep(&rest, ",")) != NULL) {
        if (client->url_count == URL_COUNT_MAX) {
            return error_set(QUERN_TOO_BIG, "url names more than %u addresses; drop some", URL_COUNT_MAX);
        }
        enum quern_err err = text_check("url", url, URL_SIZE_MAX);
        if (err != QUERN_OK) {
            return err;
        }
        client->urls[client->url_count++] = url;
    }
    return QUERN_OK;
}

static enum quern_err options_check(const struct quern_client_options *options)
{
    if (options->expire_ms > DURATION_MS_MAX) {
        return error_set(QUERN_INVALID, "expire_ms is %llu; it may be at most %llu",
                         (unsigned long long)options->expire_ms, (unsigned long long)DURATION_MS_MAX);
    }
    if (options->no_session && options->session != NULL) {
        return error_set(QUERN_INVALID, "no_session and session exclude each other; drop one");
    }
    if (options->must_exist && options->session == NULL) {
        return error_set(QUERN_INVALID, "must_exist needs the name of a session; set session, too");
    }
    if (options->description_size > DESCRIPTION_SIZE_MAX) {
        return error_set(QUERN_TOO_BIG, "the description has %zu bytes; the limit is %u", options->description_size,
                         DESCRIPTION_SIZE_MAX);
    }
    if (options->window_count > CLIENT_WINDOW_MAX || options->window_bytes > CLIENT_WINDOW_MAX) {
        return error_set(QUERN_INVALID, "window_count and window_bytes may be at most 2^40");
    }
    enum quern_err err = QUERN_OK;
    if (options->session != NULL) {
        err = text_check("session", options->session, SESSION_NAME_SIZE_MAX);
    }
    if (err == QUERN_OK && options->program != NULL) {
        err = text_check("program", options->program, PROGRAM_NAME_SIZE_MAX);
    }
    return err;
}

static void locks_init(struct quern_client *client)
{
    pthread_mutex_init(&client->lock, NULL);
    condition_init(&client->arrived);
    condition_init(&client->settled);
    condition_init(&client->room);
    callbacks_init(&client->callbacks);
}

/* NULL: no memory. */
static struct quern_client *client_make(const struct quern_client_options *options)
{
    struct quern_client *client = calloc(1, sizeof(*client));
    if (client == NULL) {
        return NULL;
    }
    client->fork_count = client_fork_count();
    client->refs = 1;
    client->ready_fd = client->wake_fd = -1;
    (void)snprintf(client->down_why, sizeof(client->down_why), "no connection yet");
    client->is_operator = options->no_session;
    client->on_connection = options->on_connection;
    client->context = options->context;
    queue_init(&client->queue);
    spin_init(&client->spin);
    spares_init(&client->delivery_spares, sizeof(struct delivery) + DELIVERY_SMALL_SIZE);
    spares_init(&client->item_spares, sizeof(struct map_item));
    locks_init(client);
    return client;
}

/* A program's name may be anything; what is shown must be UTF-8. */
static const char *program_default(void)
{
    const char *name = program_invocation_short_name;
    size_t size = name == NULL ? 0 : strlen(name);
    return size > 0 && size <= PROGRAM_NAME_SIZE_MAX && bytes_is_utf8(bytes_of(name, size)) ? name : "program";
}

/* What runs in a slot says nothing of durability unless it asks for it: it finds its worker's broker in the environment
 * and need not know what that has. */
static bool may_be_volatile(const struct quern_client_options *options)
{
    const char *word = getenv("QUERN_VOLATILE");
    return options->url == NULL && options->session == NULL && word != NULL && strcmp(word, "auto") == 0;
}

static enum quern_err ledger_begin(struct quern_client *client, const struct quern_client_options *options)
{
    struct limits limits = limits_default();
    char host[HOST_NAME_SIZE_MAX + 1] = "localhost";
    (void)gethostname(host, sizeof(host) - 1);
    struct ledger_options ledger = {
        .instance = uuid_random(),
        .host = bytes_is_utf8(bytes_text(host)) ? host : "localhost",
        .pid = (uint64_t)getpid(),
        .program = options->program != NULL ? options->program : program_default(),
        .is_operator = options->no_session,
        .session = options->session,
        .description = bytes_of(options->description, options->description_size),
        .take_over = options->take_over,
        .must_exist = options->must_exist,
        .keep = options->keep,
        .is_volatile = options->is_volatile,
        .may_be_volatile = may_be_volatile(options),
        .expire_ms = options->expire_ms,
        .want_args = options->want_args,
        .window_count = options->window_count > 0 ? options->window_count : CLIENT_WINDOW_COUNT_DEFAULT,
        .window_bytes = options->window_bytes > 0 ? options->window_bytes : CLIENT_WINDOW_BYTES_DEFAULT,
        .submit_count_max = CLIENT_SUBMIT_COUNT_MAX,
        .submit_bytes_max = CLIENT_SUBMIT_BYTES_MAX,
        .heartbeat_ms = limits.heartbeat_ms,
        .dead_ms = limits.dead_ms,
    };
    return client_ledger_begin(client, &ledger) ? QUERN_OK : error_memory("a client");
}

/* What a half-open or closing client holds, once its thread is gone. */
static void client_empty(struct quern_client *client)
{
    client_ledger_fini(&client->ledger);
    futures_end(client);
    maps_end(client);
    queue_fini(&client->queue);
    unfinished_fini(&client->lost);
}

static enum quern_err welcome_await(struct quern_client *client, int timeout_ms)
{
    int64_t deadline_ms = deadline_of(timeout_ms);
    while (!client->ledger.is_welcomed) {
        enum quern_err err = client_end(client);
        if (err != QUERN_OK) {
            return err;
        }
        if (clock_mono_ms() >= deadline_ms && client->ledger.is_challenged) {
            return error_set(QUERN_NO_BROKER,
                             "the broker at %s answers but has committed nothing for %d ms; is its disk full? "
                             "`quern status` shows it",
                             client->urls[0], timeout_ms);
        }
        if (clock_mono_ms() >= deadline_ms) {
            return error_set(QUERN_NO_BROKER, "no broker answered at %s within %d ms (%s); is quern-broker running?",
                             client->urls[0], timeout_ms, client->down_why);
        }
        (void)client_wait(client, &client->settled, &client->settled_waiters, deadline_ms);
    }
    return QUERN_OK;
}

static enum quern_err client_connect(struct quern_client *client, int timeout_ms)
{
    enum quern_err err = io_start(client);
    if (err != QUERN_OK) {
        return err;
    }
    pthread_mutex_lock(&client->lock);
    err = welcome_await(client, timeout_ms);
    pthread_mutex_unlock(&client->lock);
    if (err != QUERN_OK) {
        io_stop(client);
    }
    return err;
}

enum quern_err quern_client_open(const struct quern_client_options *given, struct quern_client **client_out)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    struct quern_client_options options = QUERN_CLIENT_OPTIONS_INIT;
    enum quern_err err =
        given == NULL ? QUERN_OK : sized_copy(&options, sizeof(options), given, "struct quern_client_options");
    err = err != QUERN_OK ? err : options_check(&options);
    err = err != QUERN_OK ? err : out_check("quern_client_open", "client_out", client_out);
    if (err != QUERN_OK) {
        return err;
    }
    if (sodium_init() < 0) {
        return error_set(QUERN_IO, "libsodium cannot be initialised (no source of random numbers?)");
    }
    (void)pthread_once(&once, fork_watch);
    struct quern_client *client = client_make(&options);
    if (client == NULL) {
        return error_memory("a client");
    }
    err = ledger_begin(client, &options);
    err = err != QUERN_OK ? err : urls_parse(client, options.url != NULL ? options.url : getenv("QUERN_URL"));
    err = err != QUERN_OK ? err : client_connect(client, options.connect_timeout_ms);
    if (err != QUERN_OK) {
        client_empty(client);
        client_free(client);
        return err;
    }
    *client_out = client;
    return QUERN_OK;
}

enum quern_err quern_session_info(struct quern_client *client, struct quern_session_info *info_out)
{
    struct quern_session_info info = QUERN_SESSION_INFO_INIT;
    enum quern_err err = client_check(client);
    err = err != QUERN_OK ? err : out_check("quern_session_info", "info_out", info_out);
    if (err != QUERN_OK) {
        return err;
    }
    if (client->is_operator) {
        return error_set(QUERN_INVALID, "quern_session_info: this client has no session");
    }
    if (info_out->size < sizeof(size_t)) {
        return error_set(QUERN_INVALID, "struct quern_session_info: its size is not set; use the INIT macro");
    }
    pthread_mutex_lock(&client->lock);
    const struct client_ledger *ledger = &client->ledger;
    err = client->is_closed ? client_end(client) : QUERN_OK;
    info.session = ledger->session;
    info.is_new = ledger->is_new;
    info.is_ending = ledger->is_ending;
    info.ordinal_high = ledger->ordinal_high;
    info.live = ledger->live;
    info.untaken = ledger->untaken;
    info.failed = ledger->failed;
    memcpy(info.digest, ledger->digest, DIGEST_SIZE);
    info.description = ledger->description.p;
    info.description_size = ledger->description.n;
    info.epoch = ledger->epoch;
    info.is_volatile = ledger->options.is_volatile;
    pthread_mutex_unlock(&client->lock);
    info.size = info_out->size;
    memcpy(info_out, &info, info.size < sizeof(info) ? info.size : sizeof(info));
    return err;
}

/* ---- closing ---- */

/* Waits for a fact that the I/O thread brings about; false if the deadline passed or the ledger ended. */
static bool close_await(struct quern_client *client, bool (*is_so)(const struct quern_client *client),
                        int64_t deadline_ms)
{
    client->flush_waiters++;
    while (!is_so(client) && client->ledger.phase != LEDGER_ENDED && clock_mono_ms() < deadline_ms) {
        (void)client_wait(client, &client->settled, &client->settled_waiters, deadline_ms);
    }
    client->flush_waiters--;
    return is_so(client);
}

static bool all_is_answered(const struct quern_client *client)
{
    return client->ledger.submits.count == 0;
}

static bool barrier_is_passed(const struct quern_client *client)
{
    return client->ledger.barrier_is_passed;
}

/* What was taken is told, and the broker has read it. Without a connection only if there is something to tell. */
static void taken_flush(struct quern_client *client, int64_t deadline_ms)
{
    if (client->ledger.phase != LEDGER_UP && client->ledger.completions.fresh.count == 0) {
        return;
    }
    client_ledger_barrier(&client->ledger);
    if (io_poke(client)) {
        io_wake(client);
    }
    (void)close_await(client, barrier_is_passed, deadline_ms);
}

static enum quern_err client_leave(struct quern_client *client, unsigned flags)
{
    int64_t deadline_ms = clock_mono_ms() + CLIENT_CLOSE_MS;
    enum quern_err err = QUERN_OK;
    client->is_closing = true;
    client_tell(client);
    if (!close_await(client, all_is_answered, deadline_ms)) {
        err = client_end(client);
        err = err != QUERN_OK
                  ? err
                  : error_set(QUERN_TIMEOUT,
                              "%llu submits were not acknowledged within %d ms: they may or may not be done",
                              (unsigned long long)client->ledger.submits.count, CLIENT_CLOSE_MS);
    }
    (void)close_await(client, maps_are_quiet, deadline_ms);
    if (flags != 0 && !client->is_operator && client->ledger.phase != LEDGER_ENDED) {
        enum quern_err asked = session_close_ask(client, flags, deadline_ms);
        err = err != QUERN_OK ? err : asked;
    }
    taken_flush(client, deadline_ms);
    client_ledger_bye(&client->ledger);
    return err;
}

/* All who wait look again. */
static void wake_all(struct quern_client *client)
{
    pthread_cond_broadcast(&client->settled);
    pthread_cond_broadcast(&client->arrived);
    pthread_cond_broadcast(&client->room);
    futures_wake(client);
    watches_tell(client);
    client_ready_update(client);
}

enum quern_err client_part(struct quern_client *client, unsigned flags, const char *why)
{
    pthread_mutex_lock(&client->lock);
    enum quern_err err = client_leave(client, flags);
    pthread_mutex_unlock(&client->lock);
    io_stop(client);
    pthread_mutex_lock(&client->lock);
    client->has_parted = true;
    client_ledger_end(&client->ledger, QUERN_CLOSED, why);
    wake_all(client);
    pthread_mutex_unlock(&client->lock);
    return err;
}

void client_break(struct quern_client *client, enum quern_err code, const char *why)
{
    pthread_mutex_lock(&client->lock);
    client_ledger_end(&client->ledger, code, why);
    wake_all(client);
    pthread_mutex_unlock(&client->lock);
}

enum quern_err quern_client_close(struct quern_client **taken, unsigned flags)
{
    if (taken == NULL || *taken == NULL) {
        return QUERN_OK;
    }
    if ((flags & ~(QUERN_CLOSE_CANCEL | QUERN_CLOSE_SESSION | QUERN_CLOSE_DROP)) != 0) {
        return error_set(QUERN_INVALID, "quern_client_close: flags has a bit that is not known; the client stays open");
    }
    struct quern_client *client = *taken;
    *taken = NULL;
    enum quern_err err = client_check(client);
    if (err != QUERN_OK) {
        return err;
    }
    err = client->has_parted ? QUERN_OK : client_part(client, flags, "the client was closed");
    pthread_mutex_lock(&client->lock);
    client->is_closed = true;
    client_empty(client);
    wake_all(client);
    pthread_mutex_unlock(&client->lock);
    callbacks_stop(client);
    pthread_mutex_lock(&client->lock);
    client_unref_unlock(client);
    return err;
}

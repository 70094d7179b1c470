/*
 * call: what may be submitted, and submitting it; waiting until it is durable.
 * Knows nothing of outcomes.
 * Start at quern_submit.
 */
#include "client/group.h"
#include "common/check.h"
#include "common/clock.h"
#include "common/place.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>

static const uint8_t no_args[] = {0x90}; /* an empty array */

enum quern_err text_check(const char *what, const char *text, size_t size_max)
{
    size_t size = text == NULL ? 0 : strnlen(text, size_max + 1);
    if (size == 0) {
        return error_set(QUERN_INVALID, "%s is missing or empty; give 1 to %zu bytes of UTF-8", what, size_max);
    }
    if (size > size_max) {
        return error_set(QUERN_TOO_BIG, "%s has more than %zu bytes; shorten it", what, size_max);
    }
    if (!bytes_is_utf8(bytes_of(text, size))) {
        return error_set(QUERN_INVALID, "%s is not valid UTF-8", what);
    }
    return QUERN_OK;
}

static enum quern_err number_check(const char *what, uint64_t value, uint64_t max)
{
    if (value > max) {
        return error_set(QUERN_INVALID, "%s is %llu; it may be at most %llu", what, (unsigned long long)value,
                         (unsigned long long)max);
    }
    return QUERN_OK;
}

struct bytes args_none(void)
{
    return bytes_of(no_args, sizeof(no_args));
}

static enum quern_err not_an_array(void)
{
    return error_set(QUERN_INVALID, "the arguments are not one msgpack array; write them with quern_writer");
}

enum quern_err args_written_check(struct bytes args)
{
    struct cursor cursor = cursor_of(args);
    struct value head;
    return cursor_next(&cursor, &head) && head.type == VALUE_ARRAY ? QUERN_OK : not_an_array();
}

enum quern_err args_check(struct bytes args)
{
    if (args.n > PAYLOAD_SIZE_MAX) {
        return error_set(QUERN_TOO_BIG,
                         "the arguments have %zu bytes; the limit is %u: put them into a file and submit its path",
                         args.n, PAYLOAD_SIZE_MAX);
    }
    return value_is_whole(args, VALUE_DEPTH_MAX) ? args_written_check(args) : not_an_array();
}

static enum quern_err memory_check(const struct quern_call *call)
{
    if (call->memory_bytes == 0 && (call->memory_growth != 0 || call->memory_cap_bytes != 0)) {
        return error_set(QUERN_INVALID, "memory_growth and memory_cap_bytes say how memory_bytes grows, which is 0");
    }
    if (call->memory_growth != 0 && (call->memory_growth < 100 || call->memory_growth > MEMORY_GROWTH_MAX)) {
        return error_set(QUERN_INVALID, "memory_growth is %u percent; it may be 0 or 100 to %u", call->memory_growth,
                         MEMORY_GROWTH_MAX);
    }
    if (call->memory_cap_bytes != 0 && call->memory_cap_bytes < call->memory_bytes) {
        return error_set(QUERN_INVALID, "memory_cap_bytes is below memory_bytes");
    }
    enum quern_err err = number_check("memory_bytes", call->memory_bytes, INT64_MAX);
    err = err != QUERN_OK ? err : number_check("memory_cap_bytes", call->memory_cap_bytes, INT64_MAX);
    return err != QUERN_OK ? err : number_check("alone", call->alone, ALONE_RETRIED);
}

static enum quern_err deaths_check(const struct quern_call *call)
{
    if (call->at_most_once && (call->crashes_max != 0 || call->losses_max != 0)) {
        return error_set(QUERN_INVALID, "at_most_once and crashes_max or losses_max exclude each other; drop one");
    }
    enum quern_err err = number_check("crashes_max", call->crashes_max, ATTEMPTS_MAX);
    return err != QUERN_OK ? err : number_check("losses_max", call->losses_max, ATTEMPTS_MAX);
}

/* When it may start, and until when. */
static enum quern_err times_check(const struct quern_call *call)
{
    if (call->at_ms != 0 && call->delay_ms != 0) {
        return error_set(QUERN_INVALID, "at_ms and delay_ms both say when the task may start; drop one");
    }
    uint64_t now_ms = (uint64_t)clock_wall_ms();
    uint64_t wait_ms = call->at_ms > now_ms ? call->at_ms - now_ms : call->delay_ms;
    if (call->expires_ms != 0 && call->expires_ms <= wait_ms) {
        return error_set(QUERN_INVALID,
                         "expires_ms counts from the submit, and %s is not before it: the task could never start",
                         call->at_ms != 0 ? "at_ms" : "delay_ms");
    }
    return QUERN_OK;
}

uint64_t call_delay(const struct quern_call *call)
{
    return call->at_ms > DURATION_MS_MAX ? call->at_ms : call->delay_ms;
}

static enum quern_err options_check(const struct quern_call *call)
{
    if (call->priority < PRIORITY_MIN || call->priority > PRIORITY_MAX) {
        return error_set(QUERN_INVALID, "priority is %d; it may be %d to %d", call->priority, PRIORITY_MIN,
                         PRIORITY_MAX);
    }
    if (call->attempts < 1 || call->attempts > ATTEMPTS_MAX) {
        return error_set(QUERN_INVALID, "attempts is %u; it may be 1 to %u", call->attempts, ATTEMPTS_MAX);
    }
    if (call->at_most_once && call->attempts > 1) {
        return error_set(QUERN_INVALID, "at_most_once and attempts %u exclude each other; drop one", call->attempts);
    }
    enum quern_err err = deaths_check(call);
    if (err != QUERN_OK) {
        return err;
    }
    if (quern_place_depth() > TASK_DEPTH_MAX) {
        return error_set(QUERN_INVALID,
                         "this task was submitted by a task that was submitted by a task, and so on, %u deep, which is "
                         "as deep as it goes; compute the rest here",
                         TASK_DEPTH_MAX);
    }
    err = number_check("timeout_ms", call->timeout_ms, DURATION_MS_MAX);
    err = err != QUERN_OK ? err : number_check("delay_ms", call->delay_ms, DURATION_MS_MAX);
    err = err != QUERN_OK ? err : number_check("expires_ms", call->expires_ms, DURATION_MS_MAX);
    err = err != QUERN_OK ? err : number_check("at_ms", call->at_ms, WALL_MS_MAX);
    err = err != QUERN_OK ? err : times_check(call);
    err = err != QUERN_OK ? err : number_check("backoff_ms", call->backoff_ms, DURATION_MS_MAX);
    err = err != QUERN_OK ? err : number_check("backoff_cap_ms", call->backoff_cap_ms, DURATION_MS_MAX);
    err = err != QUERN_OK ? err : number_check("retry_on", call->retry_on, UINT16_MAX);
    err = err != QUERN_OK ? err : memory_check(call);
    return err != QUERN_OK ? err : number_check("ordinal", call->ordinal, INT64_MAX);
}

enum quern_err call_check(const struct quern_call *call)
{
    enum quern_err err = text_check("function", call->function, FUNCTION_NAME_SIZE_MAX);
    if (err == QUERN_OK && call->queue != NULL) {
        err = text_check("queue", call->queue, QUEUE_NAME_SIZE_MAX);
    }
    return err != QUERN_OK ? err : options_check(call);
}

static enum quern_err call_args_check(const struct quern_call *call)
{
    if (call->args == NULL && call->args_size != 0) {
        return error_set(QUERN_INVALID, "args is NULL and args_size is %zu; set both or neither", call->args_size);
    }
    return call->args == NULL ? QUERN_OK : args_check(bytes_of(call->args, call->args_size));
}

struct task_options call_options(const struct quern_call *call)
{
    struct task_options options = task_options_default();
    options.priority = call->priority;
    options.timeout_ms = call->timeout_ms;
    options.attempts = call->attempts;
    options.retry_on = call->retry_on != 0 ? call->retry_on : options.retry_on;
    options.backoff_ms = call->backoff_ms != 0 ? call->backoff_ms : options.backoff_ms;
    options.backoff_cap_ms = call->backoff_cap_ms != 0 ? call->backoff_cap_ms : options.backoff_cap_ms;
    options.at_most_once = call->at_most_once;
    options.crashes_max = call->crashes_max != 0 ? call->crashes_max : options.crashes_max;
    options.losses_max = call->losses_max != 0 ? call->losses_max : options.losses_max;
    options.depth = quern_place_depth();
    options.memory_bytes = call->memory_bytes;
    options.memory_growth = call->memory_growth;
    options.memory_cap_bytes = call->memory_cap_bytes;
    options.alone = call->alone;
    options.expires_ms = call->expires_ms;
    options.known = call->known;
    return options;
}

/* Waits until the window has room. */
static enum quern_err room_await(struct quern_client *client, int wait_ms)
{
    int64_t deadline_ms = INT64_MIN;
    int64_t since_ms = 0;
    for (;;) {
        enum quern_err err = client_end(client);
        if (err != QUERN_OK) {
            return err;
        }
        if (client->is_closing) {
            return error_set(QUERN_CLOSED, "the client is being closed; nothing was submitted");
        }
        if (client_ledger_has_room(&client->ledger)) {
            return QUERN_OK;
        }
        if (deadline_ms == INT64_MIN) { /* most find room, and look at no clock */
            since_ms = clock_mono_ms();
            deadline_ms = deadline_of(wait_ms);
        }
        if (clock_mono_ms() >= deadline_ms) {
            return error_set(QUERN_FULL,
                             "%llu submits wait for the broker's answer, which is as many as this client keeps; "
                             "nothing was submitted, try again later",
                             (unsigned long long)client->ledger.submits.count);
        }
        err = client_wait_answer(client, &client->room, &client->room_waiters, since_ms, deadline_ms);
        if (err != QUERN_OK) {
            return err;
        }
    }
}

/* Under the lock; takes the submit on QUERN_OK. */
static enum quern_err submit_queue(struct quern_client *client, const struct quern_call *call, struct submit **submit,
                                   uint64_t *id_out)
{
    enum quern_err err = room_await(client, call->wait_ms);
    if (err != QUERN_OK) {
        return err;
    }
    const struct quern_future *future = owner_future((*submit)->owner);
    if (future != NULL && future->group != NULL && future->group->is_cancelled) {
        return error_set(QUERN_CANCELLED, "the group was cancelled or has failed; nothing was submitted");
    }
    if (future != NULL && !map_try_reserve(&client->futures, 1)) {
        return error_memory("a submit");
    }
    struct task_options options = call_options(call);
    struct msg_SUBMIT head = {
        .function = bytes_text(call->function),
        .queue = bytes_text(call->queue),
        .delay_ms = call_delay(call),
    };
    err = client_ledger_submit(&client->ledger, &head, &options, submit, id_out);
    if (err == QUERN_INVALID) {
        return error_set(err, "ordinal %llu is not above the last one submitted; ordinals must rise",
                         (unsigned long long)call->ordinal);
    }
    if (err == QUERN_FULL) {
        return error_set(err, "this client has used up the numbers of its series; open a new one");
    }
    if (err == QUERN_NO_MEMORY) {
        return error_memory("a submit");
    }
    return err == QUERN_OK ? err : error_set(err, "the client cannot submit any more");
}

/* NULL: no memory. */
static struct submit *submit_spare(struct quern_client *client, const struct quern_call *call, struct bytes args,
                                   struct quern_future *future)
{
    struct submit *submit = submits_make(&client->ledger.submits, args, call->wait_ms != 0, future);
    if (submit != NULL) {
        submit->ordinal = call->ordinal;
    }
    return submit;
}

static enum quern_err submit_locked(struct quern_client *client, const struct quern_call *call,
                                    struct quern_future *future, uint64_t *id_out, bool *must_wake_out)
{
    struct bytes args = call->args == NULL ? args_none() : bytes_of(call->args, call->args_size);
    bool is_small = args.n <= SUBMIT_SMALL_SIZE; /* large ones are not copied under the lock */
    struct submit *submit = is_small ? NULL : submit_make(args, call->ordinal, call->wait_ms != 0, future);
    uint64_t id = 0;
    if (submit == NULL && !is_small) {
        return error_memory("a submit");
    }
    pthread_mutex_lock(&client->lock);
    client_ref(client);
    submit = is_small ? submit_spare(client, call, args, future) : submit;
    enum quern_err err = submit == NULL ? error_memory("a submit") : submit_queue(client, call, &submit, &id);
    if (err == QUERN_OK) {
        if (future != NULL) {
            future_queued(future, id);
        }
        client_ready_update(client);
        *must_wake_out =
            client->ledger.phase == LEDGER_UP && submits_has_news(&client->ledger.submits, 0) && io_poke(client);
    }
    if (*must_wake_out) {
        io_wake(client);
    }
    client_unref_unlock(client);
    free(submit);
    *id_out = id;
    return err;
}

enum quern_err call_submit(struct quern_client *client, const struct quern_call *given, struct quern_future *future,
                           uint64_t *id_out)
{
    struct quern_call call = QUERN_CALL_INIT;
    bool must_wake = false;
    enum quern_err err = QUERN_OK;
    if (given == NULL) {
        return error_set(QUERN_INVALID, "quern_submit: call is NULL");
    }
    err = sized_copy(&call, sizeof(call), given, "struct quern_call");
    err = err != QUERN_OK ? err : call_check(&call);
    err = err != QUERN_OK ? err : call_args_check(&call);
    if (err == QUERN_OK && client->is_operator) {
        err = error_set(QUERN_INVALID, "quern_submit: this client has no session; open one without no_session");
    }
    return err != QUERN_OK ? err : submit_locked(client, &call, future, id_out, &must_wake);
}

enum quern_err quern_submit(struct quern_client *client, const struct quern_call *given,
                            struct quern_future **future_out, uint64_t *id_out)
{
    enum quern_err err = client_check(client);
    if (err != QUERN_OK) {
        return err;
    }
    struct quern_future *future = future_out == NULL ? NULL : future_make(client);
    uint64_t id = 0;
    if (future_out != NULL && future == NULL) {
        return error_memory("a future");
    }
    err = call_submit(client, given, future, &id);
    if (err != QUERN_OK) {
        future_free(future);
        return err;
    }
    if (future_out != NULL) {
        *future_out = future;
    }
    if (id_out != NULL) {
        *id_out = id;
    }
    return QUERN_OK;
}

static enum quern_err flush_verdict(struct quern_client *client)
{
    enum quern_err code = client->refusal;
    if (code != QUERN_OK) {
        (void)error_set(code, "%s", client->refusal_text);
    }
    client->refusal = QUERN_OK;
    free(client->refusal_text);
    client->refusal_text = NULL;
    return code;
}

/* Every submit up to this number has its answer. */
static enum quern_err answers_await(struct quern_client *client, uint64_t number, int64_t deadline_ms)
{
    int64_t since_ms = clock_mono_ms();
    for (;;) {
        enum quern_err err = client_end(client);
        if (err != QUERN_OK) {
            return err;
        }
        if (submits_unanswered_number(&client->ledger.submits) > number) {
            return QUERN_OK;
        }
        if (clock_mono_ms() >= deadline_ms) {
            return error_set(QUERN_TIMEOUT,
                             "%llu submits have no answer of the broker yet; they are kept and sent "
                             "again, wait longer",
                             (unsigned long long)client->ledger.submits.count);
        }
        client->flush_waiters++;
        err = client_wait_answer(client, &client->settled, &client->settled_waiters, since_ms, deadline_ms);
        client->flush_waiters--;
        if (err != QUERN_OK) {
            return err;
        }
    }
}

/* In a volatile session ACCEPTED leaves with whatever leaves next: let there be something. */
static void answers_draw(struct quern_client *client)
{
    if (client->ledger.options.is_volatile && client->ledger.submits.count > 0) {
        client_ledger_barrier(&client->ledger);
        if (io_poke(client)) {
            io_wake(client);
        }
    }
}

enum quern_err quern_flush(struct quern_client *client, int timeout_ms)
{
    enum quern_err err = client_check(client);
    if (err != QUERN_OK) {
        return err;
    }
    pthread_mutex_lock(&client->lock);
    client_ref(client);
    err = client_end(client);
    if (err == QUERN_OK) {
        answers_draw(client);
        err = answers_await(client, client->ledger.submits.number_last, deadline_of(timeout_ms));
    }
    err = err != QUERN_OK ? err : flush_verdict(client);
    client_unref_unlock(client);
    return err;
}

void quern_digest_step(unsigned char digest[32], uint64_t ordinal, const void *args, size_t args_size)
{
    unsigned char number[8];
    unsigned char next[DIGEST_SIZE];
    crypto_generichash_state state;
    struct bytes bytes = args == NULL ? args_none() : bytes_of(args, args_size);
    for (unsigned i = 0; i < sizeof(number); i++) {
        number[i] = (unsigned char)(ordinal >> (8 * i));
    }
    crypto_generichash_init(&state, NULL, 0, DIGEST_SIZE);
    crypto_generichash_update(&state, digest, DIGEST_SIZE);
    crypto_generichash_update(&state, number, sizeof(number));
    crypto_generichash_update(&state, bytes.p, bytes.n);
    crypto_generichash_final(&state, next, DIGEST_SIZE);
    memcpy(digest, next, DIGEST_SIZE);
}

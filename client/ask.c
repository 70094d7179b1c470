/*
 * ask: cancel, retry, close a session, query: one question, one answer, with a time to wait.
 * Knows nothing of futures.
 * Start at client_ask.
 */
#include "client/inside.h"
#include "common/check.h"
#include "common/clock.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Once the client is closed the request is freed: it must not be looked at. */
static enum quern_err reply_await(struct quern_client *client, const struct request *request, int64_t deadline_ms)
{
    int64_t since_ms = clock_mono_ms();
    for (;;) {
        if (client->is_closed) {
            return client_end(client);
        }
        if (request->is_done) {
            return QUERN_OK;
        }
        if (clock_mono_ms() >= deadline_ms) {
            return error_set(QUERN_TIMEOUT, "the broker has not answered in time (%s); ask again",
                             client->ledger.phase == LEDGER_UP ? "it is connected" : client->down_why);
        }
        enum quern_err err =
            client_wait_answer(client, &client->settled, &client->settled_waiters, since_ms, deadline_ms);
        if (err != QUERN_OK) {
            return err;
        }
    }
}

static const char *reply_text(const struct request *request)
{
    const char *text = request->text.n > 1 ? (const char *)request->text.p : quern_err_text(request->code);
    return text;
}

static bool is_own_close(const struct client_ledger *ledger, const struct message *message)
{
    if (message->kind != MSG_CLOSE || message->CLOSE.name.n == 0) {
        return message->kind == MSG_CLOSE && message->CLOSE.session == ledger->session;
    }
    return bytes_equal(message->CLOSE.name, bytes_text(ledger->options.session));
}

enum quern_err client_ask(struct quern_client *client, struct message *message, int64_t deadline_ms, struct buf *body)
{
    enum quern_err err = client_end(client);
    if (err != QUERN_OK) {
        return err;
    }
    struct request *request = NULL;
    err = requests_ask(&client->ledger.requests, message, &request);
    if (err != QUERN_OK) {
        return err == QUERN_NO_MEMORY
                   ? error_memory("a request")
                   : error_set(err, "%u requests are under way already; wait for one of them", REQUEST_COUNT_MAX);
    }
    request->is_own_close = is_own_close(&client->ledger, message);
    if (io_poke(client)) {
        io_wake(client);
    }
    err = reply_await(client, request, deadline_ms);
    if (client->is_closed) {
        return err; /* the ledger has freed it */
    }
    if (err == QUERN_OK) {
        err = request->code;
        if (err != QUERN_OK) {
            (void)error_set(err, "%s", reply_text(request));
        }
        if (body != NULL) {
            *body = request->body;
            request->body = (struct buf){0};
        }
    }
    requests_drop(&client->ledger.requests, &request);
    return err;
}

static enum quern_err ask(struct quern_client *client, struct message *message, int timeout_ms, struct buf *body)
{
    pthread_mutex_lock(&client->lock);
    client_ref(client);
    enum quern_err err = client_ask(client, message, deadline_of(timeout_ms), body);
    client_unref_unlock(client);
    return err;
}

static enum quern_err session_close_once(struct quern_client *client, unsigned flags, int64_t deadline_ms)
{
    struct message message = {.kind = MSG_CLOSE};
    message.CLOSE = (struct msg_CLOSE){
        .session = client->ledger.session,
        .cancel = (flags & QUERN_CLOSE_CANCEL) != 0,
        .drop = (flags & QUERN_CLOSE_DROP) != 0,
    };
    return client_ask(client, &message, deadline_ms, NULL);
}

/* A volatile session may have been lost, and opened anew, while it was asked for: then the new one is meant. One that
 * is unknown has gone, as it should: lost with its broker, or closed by somebody else. */
enum quern_err session_close_ask(struct quern_client *client, unsigned flags, int64_t deadline_ms)
{
    uint64_t session = client->ledger.session;
    enum quern_err err = session_close_once(client, flags, deadline_ms);
    if (err == QUERN_UNKNOWN && client->ledger.session != session) {
        err = session_close_once(client, flags, deadline_ms);
    }
    return err == QUERN_UNKNOWN ? QUERN_OK : err;
}

enum quern_err id_check(uint64_t id)
{
    if (!id_is_sound(id)) {
        return error_set(QUERN_INVALID, "%llu is no id of a task", (unsigned long long)id);
    }
    return QUERN_OK;
}

enum quern_err client_answer_await(struct quern_client *client, uint64_t id, int64_t deadline_ms)
{
    int64_t since_ms = clock_mono_ms();
    for (;;) {
        enum quern_err err = client_end(client);
        if (err != QUERN_OK || !submits_is_unanswered(&client->ledger.submits, id)) {
            return err;
        }
        if (clock_mono_ms() >= deadline_ms) {
            return error_set(QUERN_TIMEOUT, "the broker has not answered the submit of task %u-%u yet", id_series(id),
                             id_sequence(id));
        }
        client->flush_waiters++;
        err = client_wait_answer(client, &client->settled, &client->settled_waiters, since_ms, deadline_ms);
        client->flush_waiters--;
        if (err != QUERN_OK) {
            return err;
        }
    }
}

enum quern_err quern_cancel(struct quern_client *client, uint64_t id, bool force, int timeout_ms)
{
    enum quern_err err = client_check(client);
    err = err != QUERN_OK ? err : id_check(id);
    if (err != QUERN_OK) {
        return err;
    }
    struct message message = {.kind = MSG_CANCEL};
    message.CANCEL = (struct msg_CANCEL){.task = id, .force = force};
    int64_t deadline_ms = deadline_of(timeout_ms);
    pthread_mutex_lock(&client->lock);
    client_ref(client);
    err = client_answer_await(client, id, deadline_ms);
    err = err != QUERN_OK ? err : client_ask(client, &message, deadline_ms, NULL);
    client_unref_unlock(client);
    return err;
}

enum quern_err quern_retry(struct quern_client *client, uint64_t id, uint64_t *new_id_out, uint64_t *session_out,
                           int timeout_ms)
{
    enum quern_err err = client_check(client);
    err = err != QUERN_OK ? err : id_check(id);
    if (err != QUERN_OK) {
        return err;
    }
    struct message message = {.kind = MSG_RETRY};
    message.RETRY = (struct msg_RETRY){.task = id};
    struct buf body = {0};
    uint64_t new_id = 0;
    uint64_t session = 0;
    err = ask(client, &message, timeout_ms, &body);
    if (err == QUERN_OK && !reply_retry_read(buf_bytes(&body), &new_id, &session)) {
        err = error_set(QUERN_PROTOCOL, "the broker's answer to retry names no task; is it of another version?");
    }
    buf_fini(&body);
    if (err != QUERN_OK) {
        return err;
    }
    if (new_id_out != NULL) {
        *new_id_out = new_id;
    }
    if (session_out != NULL) {
        *session_out = session;
    }
    return QUERN_OK;
}

/* "#7" is session number 7; anything else a name. */
static enum quern_err session_parse(const char *text, struct msg_CLOSE *close)
{
    if (text == NULL || text[0] != '#') {
        close->name = bytes_text(text);
        return text_check("session", text, SESSION_NAME_SIZE_MAX);
    }
    char *end = NULL;
    errno = 0;
    unsigned long long number = strtoull(text + 1, &end, 10);
    if (errno != 0 || *end != 0 || text[1] < '0' || text[1] > '9' || number == 0 || number > INT64_MAX) {
        return error_set(QUERN_INVALID, "session \"%.140s\": behind # stands its number, as in #7", text);
    }
    close->session = number;
    return QUERN_OK;
}

enum quern_err quern_session_close(struct quern_client *client, const char *session, unsigned flags, int timeout_ms)
{
    struct message message = {.kind = MSG_CLOSE};
    message.CLOSE = (struct msg_CLOSE){
        .cancel = (flags & QUERN_CLOSE_CANCEL) != 0,
        .drop = (flags & QUERN_CLOSE_DROP) != 0,
    };
    enum quern_err err = client_check(client);
    if (err == QUERN_OK && (flags & ~(QUERN_CLOSE_CANCEL | QUERN_CLOSE_SESSION | QUERN_CLOSE_DROP)) != 0) {
        err = error_set(QUERN_INVALID, "quern_session_close: flags has a bit that is not known");
    }
    err = err != QUERN_OK ? err : session_parse(session, &message.CLOSE);
    return err != QUERN_OK ? err : ask(client, &message, timeout_ms, NULL);
}

static enum quern_err params_check(const void *params, size_t params_size)
{
    if (params == NULL) {
        return QUERN_OK;
    }
    struct bytes bytes = bytes_of(params, params_size);
    struct cursor cursor = cursor_of(bytes);
    struct value head;
    if (!cursor_next(&cursor, &head) || head.type != VALUE_MAP || !value_is_whole(bytes, ENVELOPE_DEPTH_MAX - 2)) {
        return error_set(QUERN_INVALID, "params is not one msgpack map; write it with quern_writer");
    }
    return QUERN_OK;
}

enum quern_err quern_query(struct quern_client *client, const char *what, const void *params, size_t params_size,
                           int timeout_ms, void **answer_out, size_t *size_out)
{
    enum quern_err err = client_check(client);
    err = err != QUERN_OK ? err : text_check("what", what, FUNCTION_NAME_SIZE_MAX);
    err = err != QUERN_OK ? err : params_check(params, params_size);
    err = err != QUERN_OK ? err : out_check("quern_query", "answer_out", answer_out);
    err = err != QUERN_OK ? err : out_check("quern_query", "size_out", size_out);
    if (err != QUERN_OK) {
        return err;
    }
    struct message message = {.kind = MSG_QUERY};
    message.QUERY = (struct msg_QUERY){
        .what = bytes_text(what),
        .params = params == NULL ? (struct bytes){NULL, 0} : bytes_of(params, params_size),
    };
    struct buf body = {0};
    err = ask(client, &message, timeout_ms, &body);
    if (err != QUERN_OK) {
        buf_fini(&body);
        return err;
    }
    if (body.n == 0) {
        if (!buf_try_reserve(&body, 1)) {
            return error_memory("the answer");
        }
        put_nil(&body);
    }
    *answer_out = buf_release(&body, size_out);
    return QUERN_OK;
}

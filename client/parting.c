/*
 * parting.c owns what comes before the end of a pool's client: no more submits, queued tasks cancelled, outcomes
 * awaited. It must not know processes. Start reading at client_await_outcomes.
 */
#include "client/parting.h"

#include "quern/value.h"

#include <stdlib.h>
#include <string.h>

/* Tasks of one state that are cancelled at a time. */
#define CANCEL_COUNT_MAX 10000u
/* Cancels under way at once: each answer waits for a commit, which they share. A broker answers 64 questions of a
 * client. */
#define CANCELS_AT_ONCE 32u
/* The states are asked for one after the other, and a task may go back meanwhile to one that was looked at (from a
 * worker that is lost: leased, then ready). So they are gone through again until nothing is found, at most so often. */
#define CANCEL_PASSES_MIN 2u
#define CANCEL_PASSES_MAX 100u

void client_shut(struct quern_client *client)
{
    pthread_mutex_lock(&client->lock);
    client->is_closing = true;
    client_tell(client);
    pthread_mutex_unlock(&client->lock);
}

/* ---- waiting ---- */

static enum quern_err outcomes_await(struct quern_client *client)
{
    for (;;) {
        enum quern_err err = client_end(client);
        if (err != QUERN_OK || client_ledger_outstanding(&client->ledger) == 0) {
            return err;
        }
        if (client_want(client)) {
            pthread_mutex_unlock(&client->lock);
            io_wake(client);
            pthread_mutex_lock(&client->lock);
            continue;
        }
        /* Wanting: the window must not hold up outcomes that nobody takes before the end. */
        client->wanting++;
        client->flush_waiters++;
        (void)client_wait(client, &client->settled, &client->settled_waiters, INT64_MAX);
        client->flush_waiters--;
        client->wanting--;
    }
}

enum quern_err client_await_outcomes(struct quern_client *client)
{
    pthread_mutex_lock(&client->lock);
    client_ref(client);
    enum quern_err err = outcomes_await(client);
    client_unref_unlock(client);
    return err;
}

/* ---- cancelling ---- */

static enum quern_err answers_await(struct quern_client *client)
{
    enum quern_err err = QUERN_OK;
    while ((err = client_end(client)) == QUERN_OK && client->ledger.submits.count > 0) {
        client->flush_waiters++;
        (void)client_wait(client, &client->settled, &client->settled_waiters, INT64_MAX);
        client->flush_waiters--;
    }
    return err;
}

/* The id in one row of a list; 0: none. */
static uint64_t row_id(struct quern_reader *reader)
{
    size_t pairs = 0;
    uint64_t id = 0;
    if (quern_read_map(reader, &pairs) != QUERN_OK) {
        return 0;
    }
    while (pairs-- > 0) {
        const char *key = NULL;
        size_t key_size = 0;
        const char *text = NULL;
        size_t text_size = 0;
        char word[64];
        if (quern_read_str(reader, &key, &key_size) != QUERN_OK) {
            return 0;
        }
        if (key_size == 2 && memcmp(key, "id", 2) == 0 && quern_peek(reader) == QUERN_TYPE_STR &&
            quern_read_str(reader, &text, &text_size) == QUERN_OK && text_size < sizeof(word)) {
            memcpy(word, text, text_size);
            word[text_size] = '\0';
            id = id_parse(word, &id) ? id : 0;
        } else if (text == NULL && quern_read_any(reader, NULL, NULL) != QUERN_OK) {
            return 0;
        }
    }
    return quern_read_close(reader) == QUERN_OK ? id : 0;
}

static enum quern_err list_ask(struct quern_client *client, const char *session, const char *state, void **answer_out,
                               size_t *size_out)
{
    struct quern_writer *params = quern_writer_new();
    const void *p = NULL;
    size_t n = 0;
    if (params == NULL) {
        return error_memory("a request");
    }
    quern_write_map(params, 3);
    quern_write_text(params, "state");
    quern_write_text(params, state);
    quern_write_text(params, "session");
    quern_write_text(params, session);
    quern_write_text(params, "limit");
    quern_write_u64(params, CANCEL_COUNT_MAX);
    quern_writer_bytes(params, &p, &n);
    enum quern_err err = quern_writer_error(params);
    err = err != QUERN_OK ? error_memory("a request")
                          : quern_query(client, "list", p, n, QUERN_FOREVER, answer_out, size_out);
    quern_writer_free(params);
    return err;
}

/* The ids in a list; *count_out of them. */
static enum quern_err list_read(const void *answer, size_t size, uint64_t *ids, size_t *count_out)
{
    struct quern_reader reader;
    size_t rows = 0;
    quern_reader_init(&reader, answer, size);
    enum quern_err err = quern_read_array(&reader, &rows);
    rows = err == QUERN_OK && rows <= CANCEL_COUNT_MAX ? rows : 0;
    for (*count_out = 0; *count_out < rows; ++*count_out) {
        ids[*count_out] = row_id(&reader);
        if (ids[*count_out] == 0) {
            return error_set(QUERN_PROTOCOL, "the broker's list has a row without id");
        }
    }
    return err;
}

/* Those that are asked for at the same time. */
struct cancelling {
    struct request *asked[CANCELS_AT_ONCE];
    const uint64_t *ids;
    size_t count;
    size_t at;
    size_t under_way;
    size_t cancelled;
    enum quern_err err;
};

/* Takes an answer from its place. What has started or ended meanwhile stays; the broker may have had no room. */
static void answer_take(struct quern_client *client, struct cancelling *all, struct request **place)
{
    struct message again = {.kind = MSG_CANCEL, .CANCEL = {.task = (*place)->task}};
    enum quern_err code = (*place)->code;
    requests_drop(&client->ledger.requests, place);
    all->under_way--;
    if (code == QUERN_FULL) {
        code = requests_ask(&client->ledger.requests, &again, place);
        all->under_way += code == QUERN_OK;
    } else {
        all->cancelled += code == QUERN_OK;
    }
    if (code != QUERN_OK && code != QUERN_RUNNING && code != QUERN_FINISHED && code != QUERN_UNKNOWN) {
        all->err = error_set(code, "what has not started could not be cancelled: %s", quern_err_text(code));
    }
}

/* Takes what is answered, and asks for more. */
static void cancelling_go_on(struct quern_client *client, struct cancelling *all)
{
    for (size_t i = 0; i < CANCELS_AT_ONCE; i++) {
        if (all->asked[i] != NULL && all->asked[i]->is_done) {
            answer_take(client, all, &all->asked[i]);
        }
        if (all->asked[i] == NULL && all->err == QUERN_OK && all->at < all->count) {
            struct message message = {.kind = MSG_CANCEL, .CANCEL = {.task = all->ids[all->at]}};
            enum quern_err err = requests_ask(&client->ledger.requests, &message, &all->asked[i]);
            all->at += err == QUERN_OK;
            all->under_way += err == QUERN_OK;
            all->err = err != QUERN_NO_MEMORY ? QUERN_OK : error_memory("a request");
        }
    }
    if (client->ledger.requests.unsent_count > 0 && io_poke(client)) {
        io_wake(client);
    }
}

static enum quern_err ids_cancel(struct quern_client *client, struct cancelling *all)
{
    pthread_mutex_lock(&client->lock);
    client_ref(client);
    while (!client_is_over(client)) {
        cancelling_go_on(client, all);
        if (all->under_way == 0 && (all->err != QUERN_OK || all->at == all->count)) {
            break;
        }
        /* Beyond the bound of requests an answer to another brings us back. */
        (void)client_wait(client, &client->settled, &client->settled_waiters, INT64_MAX);
    }
    for (size_t i = 0; i < CANCELS_AT_ONCE && !client->is_closed; i++) { /* closed: they are gone with the ledger */
        requests_drop(&client->ledger.requests, &all->asked[i]);
    }
    enum quern_err err = all->err != QUERN_OK ? all->err : client_end(client);
    client_unref_unlock(client);
    return err;
}

/* *cancelled_out: how many were; *is_more_out: the list was full, and what was cancelled of it makes room. */
static enum quern_err cancel_in_state(struct quern_client *client, const char *session, const char *state,
                                      size_t *cancelled_out, bool *is_more_out)
{
    struct cancelling all = {.err = QUERN_OK};
    uint64_t *ids = calloc(CANCEL_COUNT_MAX, sizeof(*ids));
    void *answer = NULL;
    size_t size = 0;
    *is_more_out = false;
    enum quern_err err = ids == NULL ? error_memory("a list") : list_ask(client, session, state, &answer, &size);
    err = err != QUERN_OK ? err : list_read(answer, size, ids, &all.count);
    free(answer);
    if (err == QUERN_OK) {
        all.ids = ids;
        err = ids_cancel(client, &all);
    }
    *cancelled_out = all.cancelled;
    *is_more_out = all.count == CANCEL_COUNT_MAX && all.cancelled > 0;
    free(ids);
    return err;
}

static enum quern_err cancel_pass(struct quern_client *client, const char *session, size_t *cancelled_out)
{
    static const char *const states[] = {"delayed", "waiting", "ready", "backoff", "leased"};
    enum quern_err err = QUERN_OK;
    *cancelled_out = 0;
    for (size_t i = 0; err == QUERN_OK && i < sizeof(states) / sizeof(states[0]); i++) {
        bool is_more = true;
        while (err == QUERN_OK && is_more) {
            size_t cancelled = 0;
            err = cancel_in_state(client, session, states[i], &cancelled, &is_more);
            *cancelled_out += cancelled;
        }
    }
    return err;
}

/* Task by task: closing it would end the name's session, which the program may want to open again. */
static enum quern_err cancel_named(struct quern_client *client, const char *session)
{
    enum quern_err err = QUERN_OK;
    size_t cancelled = 0;
    for (unsigned pass = 0; err == QUERN_OK && pass < CANCEL_PASSES_MAX && (pass < CANCEL_PASSES_MIN || cancelled > 0);
         pass++) {
        err = cancel_pass(client, session, &cancelled);
    }
    return err;
}

enum quern_err client_cancel_queued(struct quern_client *client, const char *session)
{
    pthread_mutex_lock(&client->lock);
    client_ref(client);
    enum quern_err err = answers_await(client);
    if (err == QUERN_OK && session == NULL) {
        err = session_close_ask(client, QUERN_CLOSE_CANCEL, INT64_MAX);
    }
    client_unref_unlock(client);
    return err != QUERN_OK || session == NULL ? err : cancel_named(client, session);
}

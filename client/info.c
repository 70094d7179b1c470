/*
 * info: what the broker knows of a task now.
 * Knows nothing of how it is asked.
 * Start at quern_future_info.
 */
#include "client/inside.h"
#include "common/clock.h"
#include "quern/value.h"

#include <stdio.h>
#include <string.h>

/* ---- reading the answer: a map, whose keys may be more than we know ---- */

/* The next value as a number; nil and what is none: 0. */
static int64_t number_read(struct quern_reader *reader)
{
    int64_t number = 0;
    if (quern_peek(reader) == QUERN_TYPE_INT) {
        (void)quern_read_i64(reader, &number);
    } else {
        (void)quern_read_any(reader, NULL, NULL);
    }
    return number;
}

static void text_read(struct quern_reader *reader, char *text, size_t size)
{
    const char *p = NULL;
    size_t n = 0;
    text[0] = 0;
    if (quern_peek(reader) != QUERN_TYPE_STR) {
        (void)quern_read_any(reader, NULL, NULL);
    } else if (quern_read_str(reader, &p, &n) == QUERN_OK) {
        (void)snprintf(text, size, "%.*s", (int)(n < size ? n : size - 1), p);
    }
}

static bool is_key(const char *key, size_t size, const char *text)
{
    return size == strlen(text) && memcmp(key, text, size) == 0;
}

static void progress_read(struct quern_reader *reader, struct quern_task_info *info)
{
    size_t count = 0;
    if (quern_peek(reader) != QUERN_TYPE_MAP || quern_read_map(reader, &count) != QUERN_OK) {
        (void)quern_read_any(reader, NULL, NULL);
        return;
    }
    for (size_t i = 0; i < count; i++) {
        const char *key = "";
        size_t size = 0;
        (void)quern_read_str(reader, &key, &size);
        if (is_key(key, size, "fraction")) {
            (void)quern_read_f64(reader, &info->fraction);
        } else if (is_key(key, size, "text")) {
            text_read(reader, info->progress, sizeof(info->progress));
        } else {
            (void)quern_read_any(reader, NULL, NULL);
        }
    }
    (void)quern_read_close(reader);
}

static int word_read(struct quern_reader *reader, int (*of_word)(const char *word))
{
    char word[32];
    text_read(reader, word, sizeof(word));
    return word[0] == 0 ? 0 : of_word(word);
}

static void pair_read(struct quern_reader *reader, struct quern_task_info *info)
{
    const struct {
        const char *key;
        unsigned *number;
    } counts[] = {{"attempt", &info->attempt},
                  {"attempts", &info->attempts},
                  {"crashes", &info->crashes},
                  {"losses", &info->losses}};
    const struct {
        const char *key;
        int64_t *ms;
    } times[] = {{"created_ms", &info->created_ms},
                 {"due_ms", &info->due_ms},
                 {"started_ms", &info->started_ms},
                 {"finished_ms", &info->finished_ms}};
    const char *key = "";
    size_t size = 0;
    (void)quern_read_str(reader, &key, &size);
    for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
        if (is_key(key, size, counts[i].key)) {
            *counts[i].number = (unsigned)number_read(reader);
            return;
        }
        if (is_key(key, size, times[i].key)) {
            *times[i].ms = number_read(reader);
            return;
        }
    }
    if (is_key(key, size, "state")) {
        info->state = word_read(reader, task_state_of_word);
    } else if (is_key(key, size, "cause")) {
        info->cause = word_read(reader, cause_of_word);
    } else if (is_key(key, size, "worker")) {
        text_read(reader, info->worker, sizeof(info->worker));
    } else if (is_key(key, size, "progress")) {
        progress_read(reader, info);
    } else {
        (void)quern_read_any(reader, NULL, NULL);
    }
}

static enum quern_err info_read(struct bytes body, struct quern_task_info *info)
{
    struct quern_reader reader;
    size_t count = 0;
    quern_reader_init(&reader, body.p, body.n);
    enum quern_err err = quern_read_map(&reader, &count);
    for (size_t i = 0; err == QUERN_OK && i < count; i++) {
        pair_read(&reader, info);
        err = quern_reader_error(&reader);
    }
    return err == QUERN_OK && info->state != 0
               ? QUERN_OK
               : error_set(QUERN_PROTOCOL,
                           "the broker's answer does not say where the task is; is it of another version?");
}

/* ---- where it comes from ---- */

static void info_of_outcome(const struct quern_outcome *outcome, struct quern_task_info *info)
{
    info->state = (int)outcome->state;
    info->cause = (int)outcome->cause;
    info->attempt = outcome->attempt;
    info->attempts = outcome->attempts;
    info->created_ms = outcome->created_ms;
    info->started_ms = outcome->started_ms;
    info->finished_ms = outcome->finished_ms;
    (void)snprintf(info->worker, sizeof(info->worker), "%s", outcome->worker);
}

/* Under the lock. */
static enum quern_err info_ask(struct quern_client *client, uint64_t id, int64_t deadline_ms,
                               struct quern_task_info *info)
{
    struct buf params = {0};
    struct buf body = {0};
    struct message message = {.kind = MSG_QUERY};
    if (!buf_try_reserve(&params, PARAMS_SIZE_MAX)) {
        return error_memory("a request");
    }
    put_map(&params, 1);
    put_text(&params, "id");
    put_u64(&params, id);
    message.QUERY = (struct msg_QUERY){.what = bytes_text("show"), .params = buf_bytes(&params)};
    enum quern_err err = client_ask(client, &message, deadline_ms, &body);
    err = err != QUERN_OK ? err : info_read(buf_bytes(&body), info);
    buf_fini(&body);
    buf_fini(&params);
    return err;
}

/* The broker knows more of a finished task than its outcome tells; where it does not answer, that will do. */
static enum quern_err future_info(struct quern_future *future, int64_t deadline_ms, struct quern_task_info *info)
{
    enum quern_err err = future_answer_await(future, deadline_ms);
    if (err != QUERN_OK) {
        return err;
    }
    if (future->delivery != NULL && future->delivery->outcome.refusal != 0) {
        return error_set(QUERN_UNKNOWN, "the broker refused the task %u-%u: %s", id_series(future->id),
                         id_sequence(future->id), future->delivery->outcome.message);
    }
    err = info_ask(future->client, future->id, deadline_ms, info);
    if (err != QUERN_OK && future->delivery != NULL) {
        info_of_outcome(&future->delivery->outcome, info);
        err = QUERN_OK;
    }
    /* An outcome counts the attempt that was done, too. */
    info->attempts -= info->state == QUERN_STATE_DONE && info->attempts > 0 ? 1 : 0;
    return err;
}

enum quern_err quern_future_info(struct quern_future *future, int timeout_ms, struct quern_task_info *info_out)
{
    enum quern_err err = future_check(future);
    err = err != QUERN_OK ? err : out_check("quern_future_info", "info_out", info_out);
    if (err == QUERN_OK && info_out->size < sizeof(size_t)) {
        err = error_set(QUERN_INVALID, "struct quern_task_info: its size is not set; use the INIT macro");
    }
    if (err != QUERN_OK) {
        return err;
    }
    struct quern_client *client = future->client;
    struct quern_task_info info = {.fraction = -1};
    int64_t deadline_ms = deadline_of(timeout_ms);
    pthread_mutex_lock(&client->lock);
    client_ref(client);
    err = future_info(future, deadline_ms, &info);
    info.is_volatile = client->ledger.options.is_volatile;
    client_unref_unlock(client);
    if (err == QUERN_OK) {
        info.size = info_out->size;
        memcpy(info_out, &info, info.size < sizeof(info) ? info.size : sizeof(info));
    }
    return err;
}

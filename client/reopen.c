/*
 * reopen: futures for tasks that were submitted earlier, by this process or by a former owner of the session.
 * Knows nothing of waiting.
 * Start at quern_session_futures; candidate_settle decides what becomes of one task.
 *
 * The broker says what is open, and by the time its answer is read more may have happened: an outcome came and lies in
 * the queue, or it was even taken out of there. So, while an answer is awaited, the tasks of arriving outcomes are
 * noted (client->seen): what the broker says has no outcome, and is not among them, has none here.
 */
#include "client/inside.h"
#include "common/check.h"
#include "common/clock.h"

#include <stdlib.h>

/* Futures made so far. */
struct found {
    struct quern_client *client;
    struct quern_future **futures;
    size_t count;
    size_t cap;
    struct map maybe; /* ids that have an outcome here, in the queue, or given out: each with a future to be used */
    bool has_own;     /* also what this process submitted */
    bool has_duplicate;
};

/* ---- noting what comes ---- */

static void seen_begin(struct quern_client *client)
{
    client->seen_users++;
}

static void seen_end(struct quern_client *client)
{
    if (--client->seen_users == 0) {
        map_fini(&client->seen);
    }
}

/* ---- one task ---- */

static enum quern_err found_reserve(struct found *found, size_t more)
{
    size_t cap = found->cap == 0 ? 64 : found->cap;
    if (found->count + more <= found->cap) {
        return QUERN_OK;
    }
    while (cap < found->count + more) {
        cap *= 2;
    }
    struct quern_future **futures = realloc(found->futures, cap * sizeof(struct quern_future *));
    if (futures == NULL) {
        return error_memory("futures");
    }
    found->futures = futures;
    found->cap = cap;
    return QUERN_OK;
}

/* A future for one task more, and room for all that will be done with it. */
static enum quern_err candidate_make(struct found *found, struct quern_future **future_out)
{
    size_t more = found->maybe.count + 1;
    enum quern_err err = found_reserve(found, more);
    if (err != QUERN_OK) {
        return err;
    }
    if (!futures_try_reserve(found->client, more) || !map_try_reserve(&found->maybe, 1)) {
        return error_memory("futures");
    }
    *future_out = future_make(found->client);
    return *future_out == NULL ? error_memory("futures") : QUERN_OK;
}

/* completion: of its outcome, 0: the broker knows of none. */
static enum quern_err candidate_settle(struct found *found, uint64_t id, uint64_t completion)
{
    struct quern_client *client = found->client;
    bool is_own = id_series(id) == client->ledger.series;
    if (map_get(&client->futures, id) != NULL) {
        found->has_duplicate = true;
        return QUERN_OK;
    }
    if (is_own && !found->has_own) {
        return QUERN_OK;
    }
    bool has_come = completion != 0 ? ranges_has(&client->ledger.completions.received, completion)
                                    : map_get(&client->seen, id) != NULL;
    struct quern_future *future = NULL;
    if (map_get(&found->maybe, id) != NULL) {
        return QUERN_OK;
    }
    enum quern_err err = candidate_make(found, &future);
    if (err == QUERN_OK && has_come) {
        map_put(&found->maybe, id, future);
    } else if (err == QUERN_OK) {
        future_of_task(future, id, NULL);
        found->futures[found->count++] = future;
    }
    return err;
}

/* Those that lie in the queue go over to futures; others were given out. */
static void queue_search(struct found *found)
{
    struct delivery *list = queue_extract(&found->client->queue, &found->maybe);
    size_t at = 0;
    uint64_t id;
    void *value;
    while (list != NULL) {
        struct delivery *delivery = list;
        struct quern_future *future = map_remove(&found->maybe, delivery->outcome.id);
        list = delivery->next;
        future_of_task(future, delivery->outcome.id, delivery);
        found->futures[found->count++] = future;
    }
    while (map_next(&found->maybe, &at, &id, &value)) {
        future_free(value);
    }
    map_fini(&found->maybe);
}

/* ---- the broker's answer ---- */

struct page {
    struct cursor tasks;
    uint32_t task_numbers;
    struct cursor outcomes;
    uint32_t outcome_numbers;
    uint64_t after;
    uint64_t completion;
};

static bool numbers_read(struct bytes whole, struct cursor *numbers_out, uint32_t *count_out)
{
    struct value head;
    *numbers_out = cursor_of(whole);
    *count_out = 0;
    if (!cursor_next(numbers_out, &head) || head.type != VALUE_ARRAY || head.count % 2 != 0) {
        return false;
    }
    *count_out = head.count;
    return true;
}

static bool page_pair_read(struct page *page, struct bytes key, struct bytes whole)
{
    struct cursor cursor = cursor_of(whole);
    struct value value;
    if (bytes_is(key, "tasks")) {
        return numbers_read(whole, &page->tasks, &page->task_numbers);
    }
    if (bytes_is(key, "outcomes")) {
        return numbers_read(whole, &page->outcomes, &page->outcome_numbers);
    }
    if (cursor_next(&cursor, &value) && value.type == VALUE_UINT) {
        page->after = bytes_is(key, "after") ? value.u : page->after;
        page->completion = bytes_is(key, "completion") ? value.u : page->completion;
    }
    return true;
}

static bool page_read(struct bytes body, struct page *page)
{
    struct cursor cursor = cursor_of(body);
    struct value map;
    *page = (struct page){0};
    if (!cursor_next(&cursor, &map) || map.type != VALUE_MAP) {
        return false;
    }
    for (uint32_t i = 0; i < map.count; i++) {
        struct value key;
        struct bytes whole;
        if (!cursor_next(&cursor, &key) || !cursor_skip(&cursor, ENVELOPE_DEPTH_MAX, &whole) ||
            !page_pair_read(page, key.bytes, whole)) {
            return false;
        }
    }
    return true;
}

/* Two numbers from a list of pairs. */
static bool two_next(struct cursor *cursor, uint64_t *first_out, uint64_t *second_out)
{
    struct value first;
    struct value second;
    if (!cursor_next(cursor, &first) || !cursor_next(cursor, &second) || first.type != VALUE_UINT ||
        second.type != VALUE_UINT) {
        return false;
    }
    *first_out = first.u;
    *second_out = second.u;
    return true;
}

static enum quern_err page_malformed(void)
{
    return error_set(QUERN_PROTOCOL, "the broker's answer does not say what is open; is it of another version?");
}

static enum quern_err page_settle(struct found *found, struct page *page)
{
    enum quern_err err = QUERN_OK;
    uint64_t id = 0;
    uint64_t count = 0;
    uint64_t completion = 0;
    for (uint32_t i = 0; err == QUERN_OK && i < page->task_numbers; i += 2) {
        if (!two_next(&page->tasks, &id, &count) || id == 0 || count > QUERY_OPEN_COUNT_MAX) {
            err = page_malformed();
            break;
        }
        for (; err == QUERN_OK && count > 0; count--) {
            err = candidate_settle(found, id++, 0);
        }
    }
    for (uint32_t i = 0; err == QUERN_OK && i < page->outcome_numbers; i += 2) {
        if (!two_next(&page->outcomes, &completion, &id) || id == 0 || completion == 0) {
            err = page_malformed();
            break;
        }
        err = candidate_settle(found, id, completion);
    }
    queue_search(found);
    return err;
}

/* Asks with one number of that name; the answer's numbers lie in body. */
static enum quern_err page_ask(struct quern_client *client, const char *key, uint64_t number, int64_t deadline_ms,
                               struct buf *body, struct page *page)
{
    struct buf params = {0};
    struct message message = {.kind = MSG_QUERY};
    if (!buf_try_reserve(&params, PARAMS_SIZE_MAX)) {
        return error_memory("a request");
    }
    put_map(&params, 1);
    put_text(&params, key);
    put_u64(&params, number);
    message.QUERY = (struct msg_QUERY){.what = bytes_text("open"), .params = buf_bytes(&params)};
    enum quern_err err = client_ask(client, &message, deadline_ms, body);
    buf_fini(&params);
    if (err == QUERN_OK && !page_read(buf_bytes(body), page)) {
        err = page_malformed();
    }
    return err;
}

/* ---- all of them ---- */

static enum quern_err pages_ask(struct found *found, int64_t deadline_ms)
{
    enum quern_err err;
    struct page page = {0};
    do {
        struct buf body = {0};
        bool is_behind = page.completion != 0;
        err = page_ask(found->client, is_behind ? "completion" : "after", is_behind ? page.completion : page.after,
                       deadline_ms, &body, &page);
        err = err != QUERN_OK ? err : page_settle(found, &page);
        buf_fini(&body);
    } while (err == QUERN_OK && (page.after != 0 || page.completion != 0));
    return err;
}

static int future_order(const void *a, const void *b)
{
    const struct quern_future *left = *(struct quern_future *const *)a;
    const struct quern_future *right = *(struct quern_future *const *)b;
    return (left->id > right->id) - (left->id < right->id);
}

/* Without lock: what was found goes back, after an error. */
static void found_release(struct found *found)
{
    for (size_t i = 0; i < found->count; i++) {
        quern_future_release(&found->futures[i]);
    }
    free(found->futures);
    found->futures = NULL;
    found->count = 0;
}

static enum quern_err session_check(const struct quern_client *client)
{
    enum quern_err err = client_check(client);
    if (err == QUERN_OK && client->is_operator) {
        err = error_set(QUERN_INVALID, "this client has no session; open one without no_session");
    }
    return err;
}

enum quern_err quern_session_futures(struct quern_client *client, int timeout_ms, struct quern_future ***futures_out,
                                     size_t *count_out)
{
    int64_t deadline_ms = deadline_of(timeout_ms);
    struct found found = {.client = client};
    enum quern_err err = session_check(client);
    err = err != QUERN_OK ? err : out_check("quern_session_futures", "futures_out", futures_out);
    err = err != QUERN_OK ? err : out_check("quern_session_futures", "count_out", count_out);
    if (err != QUERN_OK) {
        return err;
    }
    pthread_mutex_lock(&client->lock);
    client_ref(client);
    seen_begin(client);
    err = pages_ask(&found, deadline_ms);
    seen_end(client);
    client_ready_update(client);
    client_unref_unlock(client);
    if (err != QUERN_OK) {
        found_release(&found);
        return err;
    }
    if (found.count > 0) {
        qsort(found.futures, found.count, sizeof(struct quern_future *), future_order);
    }
    *futures_out = found.futures;
    *count_out = found.count;
    return QUERN_OK;
}

/* ---- one of them ---- */

static enum quern_err duplicate_tell(uint64_t id)
{
    return error_set(QUERN_DUPLICATE, "this client has a future for task %u-%u already", id_series(id),
                     id_sequence(id));
}

/* Under the lock. */
static enum quern_err future_open(struct found *found, uint64_t id, int64_t deadline_ms)
{
    struct quern_client *client = found->client;
    struct buf body = {0};
    struct page page;
    enum quern_err err = client_answer_await(client, id, deadline_ms);
    if (err != QUERN_OK) {
        return err;
    }
    if (map_get(&client->futures, id) != NULL) {
        return duplicate_tell(id);
    }
    seen_begin(client);
    err = page_ask(client, "id", id, deadline_ms, &body, &page);
    err = err != QUERN_OK ? err : page_settle(found, &page);
    seen_end(client);
    buf_fini(&body);
    if (err != QUERN_OK || found->count == 1) {
        return err;
    }
    if (found->has_duplicate) {
        return duplicate_tell(id); /* another thread was faster */
    }
    return error_set(QUERN_UNKNOWN, "there is no task %u-%u in this session, or its outcome was taken already",
                     id_series(id), id_sequence(id));
}

enum quern_err quern_future_open(struct quern_client *client, uint64_t id, int timeout_ms,
                                 struct quern_future **future_out)
{
    int64_t deadline_ms = deadline_of(timeout_ms);
    struct found found = {.client = client, .has_own = true};
    enum quern_err err = session_check(client);
    err = err != QUERN_OK ? err : id_check(id);
    err = err != QUERN_OK ? err : out_check("quern_future_open", "future_out", future_out);
    if (err != QUERN_OK) {
        return err;
    }
    pthread_mutex_lock(&client->lock);
    client_ref(client);
    err = future_open(&found, id, deadline_ms);
    client_ready_update(client);
    client_unref_unlock(client);
    if (err != QUERN_OK) {
        found_release(&found);
        return err;
    }
    *future_out = found.futures[0];
    free(found.futures);
    return QUERN_OK;
}

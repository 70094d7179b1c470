/*
 * request: requests and their replies.
 * Knows nothing of connections, threads or what a reply means.
 * Start at requests_ask, then requests_reply.
 */
#include "client/request.h"
#include "common/check.h"

#include <stdlib.h>
#include <string.h>

/* Of a request's message all but its texts: kind, numbers, flags, heads of the texts. */
#define MESSAGE_REST_SIZE_MAX 64u

static void request_free(struct request *request)
{
    buf_fini(&request->text);
    buf_fini(&request->body);
    buf_fini(&request->message);
    free(request);
}

void requests_fini(struct requests *requests)
{
    while (requests->first != NULL) {
        struct request *request = requests->first;
        requests->first = request->next;
        request_free(request);
    }
    *requests = (struct requests){0};
}

static void request_encode(struct request *request, struct message *message)
{
    switch (message->kind) {
    case MSG_CANCEL:
        message->CANCEL.request = request->number;
        request->task = message->CANCEL.task;
        msg_CANCEL_put(&request->message, &message->CANCEL);
        break;
    case MSG_RETRY:
        message->RETRY.request = request->number;
        request->task = message->RETRY.task;
        request->is_idempotent = false;
        msg_RETRY_put(&request->message, &message->RETRY);
        break;
    case MSG_CLOSE:
        message->CLOSE.request = request->number;
        msg_CLOSE_put(&request->message, &message->CLOSE);
        break;
    default:
        CHECK(message->kind == MSG_QUERY);
        message->QUERY.request = request->number;
        msg_QUERY_put(&request->message, &message->QUERY);
        break;
    }
}

/* With room for the message as it is sent: its texts, and what stands around them. NULL: no memory. */
static struct request *request_make(const struct message *message)
{
    struct request *request = calloc(1, sizeof(*request));
    size_t size = MESSAGE_REST_SIZE_MAX;
    size += message->kind == MSG_CLOSE ? message->CLOSE.name.n : 0;
    size += message->kind == MSG_QUERY ? message->QUERY.what.n + message->QUERY.params.n : 0;
    if (request != NULL && !buf_try_reserve(&request->message, size)) {
        free(request);
        return NULL;
    }
    return request;
}

enum quern_err requests_ask(struct requests *requests, struct message *message, struct request **request_out)
{
    *request_out = NULL;
    if (requests->count >= REQUEST_COUNT_MAX) {
        return QUERN_FULL;
    }
    struct request *request = request_make(message);
    if (request == NULL) {
        return QUERN_NO_MEMORY;
    }
    request->number = ++requests->number_last;
    request->kind = message->kind;
    request->is_idempotent = true;
    request_encode(request, message);
    request->prev = requests->last;
    if (requests->last == NULL) {
        requests->first = request;
    } else {
        requests->last->next = request;
    }
    requests->last = request;
    requests->count++;
    requests->unsent_count++;
    *request_out = request;
    return QUERN_OK;
}

static bool is_unsent(const struct request *request)
{
    return !request->is_sent && !request->is_done;
}

void requests_drop(struct requests *requests, struct request **taken)
{
    struct request *request = *taken;
    *taken = NULL;
    if (request == NULL) {
        return;
    }
    requests->unsent_count -= is_unsent(request);
    *(request->prev == NULL ? &requests->first : &request->prev->next) = request->next;
    *(request->next == NULL ? &requests->last : &request->next->prev) = request->prev;
    requests->count--;
    request_free(request);
}

static void request_finish(struct requests *requests, struct request *request, enum quern_err code, struct bytes text)
{
    requests->unsent_count -= is_unsent(request);
    request->is_done = true;
    request->code = code;
    if (buf_try_reserve(&request->text, text.n + 1)) { /* also asked by a thread that closes and must get through */
        buf_put(&request->text, text.p, text.n);
        buf_put_u8(&request->text, 0);
    }
}

/* Parts of a long reply are arrays: their elements are gathered behind one head, which is written at the end. */
static bool part_add(struct request *request, struct bytes body)
{
    struct cursor cursor = cursor_of(body);
    struct value head;
    if (body.n == 0) {
        return true;
    }
    if (!cursor_next(&cursor, &head) || head.type != VALUE_ARRAY) {
        return false;
    }
    request->element_count += head.count;
    buf_put(&request->body, cursor.p, (size_t)(cursor.end - cursor.p));
    return request->body.n <= REPLY_SIZE_MAX && request->element_count <= UINT32_MAX;
}

static void parts_join(struct request *request)
{
    struct buf joined = {0};
    buf_reserve(&joined, request->body.n + 8);
    put_array(&joined, (uint32_t)request->element_count);
    buf_put(&joined, request->body.p, request->body.n);
    buf_fini(&request->body);
    request->body = joined;
}

static struct request *requests_find(const struct requests *requests, uint64_t number)
{
    struct request *request = requests->first;
    while (request != NULL && request->number != number) {
        request = request->next;
    }
    return request;
}

struct request *requests_reply(struct requests *requests, const struct msg_REPLY *reply)
{
    struct request *request = requests_find(requests, reply->request);
    if (request == NULL || request->is_done) {
        return NULL;
    }
    if (request->part_count == 0 && !reply->more) {
        buf_put(&request->body, reply->body.p, reply->body.n);
        request_finish(requests, request, (enum quern_err)reply->code, reply->text);
        return request;
    }
    request->part_count++;
    if (!part_add(request, reply->body)) {
        request_finish(requests, request, QUERN_PROTOCOL, bytes_text("the broker's answer in parts cannot be joined"));
        return request;
    }
    if (reply->more) {
        return NULL;
    }
    parts_join(request);
    request_finish(requests, request, (enum quern_err)reply->code, reply->text);
    return request;
}

uint32_t requests_refuse(struct requests *requests, uint64_t kind, enum quern_err code, struct bytes text)
{
    uint32_t ended = 0;
    for (struct request *request = requests->first; request != NULL; request = request->next) {
        if (request->is_sent && !request->is_done && request->kind == kind) {
            request_finish(requests, request, code, text);
            ended++;
        }
    }
    return ended;
}

uint32_t requests_disconnected(struct requests *requests)
{
    uint32_t ended = 0;
    for (struct request *request = requests->first; request != NULL; request = request->next) {
        if (!request->is_sent || request->is_done) {
            continue;
        }
        if (request->is_idempotent) {
            request->is_sent = false;
            request->part_count = 0;
            request->element_count = 0;
            request->body.n = 0;
            requests->unsent_count++;
        } else {
            request_finish(requests, request, QUERN_TIMEOUT,
                           bytes_text("the connection was lost before the broker answered: it may have been done or "
                                      "not; look (list) before asking again"));
            ended++;
        }
    }
    return ended;
}

uint32_t requests_session_gone(struct requests *requests)
{
    uint32_t ended = 0;
    for (struct request *request = requests->first; request != NULL; request = request->next) {
        if (request->is_own_close && !request->is_done) {
            request_finish(requests, request, QUERN_OK, bytes_text(""));
            ended++;
        }
    }
    return ended;
}

uint32_t requests_end(struct requests *requests, enum quern_err code, const char *text)
{
    uint32_t ended = 0;
    for (struct request *request = requests->first; request != NULL; request = request->next) {
        if (!request->is_done) {
            request_finish(requests, request, code, bytes_text(text));
            ended++;
        }
    }
    return ended;
}

void requests_write(struct requests *requests, struct buf *frame)
{
    if (requests->unsent_count == 0) {
        return;
    }
    for (struct request *request = requests->first; request != NULL && frame->n < BATCH_SIZE_SOFT;
         request = request->next) {
        if (is_unsent(request)) {
            buf_put(frame, request->message.p, request->message.n);
            request->is_sent = true;
            requests->unsent_count--;
        }
    }
}

bool reply_retry_read(struct bytes body, uint64_t *id_out, uint64_t *session_out)
{
    struct cursor cursor = cursor_of(body);
    struct value map;
    struct value key;
    struct value value;
    *id_out = *session_out = 0;
    if (!cursor_next(&cursor, &map) || map.type != VALUE_MAP) {
        return false;
    }
    for (uint32_t i = 0; i < map.count; i++) {
        struct bytes whole;
        if (!cursor_next(&cursor, &key) || !cursor_skip(&cursor, ENVELOPE_DEPTH_MAX, &whole)) {
            return false;
        }
        struct cursor inner = cursor_of(whole);
        if (!cursor_next(&inner, &value)) {
            return false;
        }
        if (bytes_is(key.bytes, "id") && value.type == VALUE_STR && value.bytes.n < ID_TEXT_SIZE) {
            char text[ID_TEXT_SIZE] = "";
            memcpy(text, value.bytes.p, value.bytes.n);
            (void)id_parse(text, id_out);
        } else if (bytes_is(key.bytes, "session") && value.type == VALUE_UINT) {
            *session_out = value.u;
        }
    }
    return *id_out != 0;
}

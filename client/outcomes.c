/*
 * outcomes: what came, in order of completion, for quern_next; acknowledged when it is released.
 * Knows nothing of sockets.
 * Start at quern_next and quern_outcome_release.
 */
#include "client/inside.h"
#include "common/check.h"
#include "common/clock.h"
#include "common/report.h"

#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* ---- deliveries ---- */

/* Its outcome is the caller's to set, whole. NULL: no memory. */
static struct delivery *delivery_try(struct quern_client *client, size_t size)
{
    struct delivery *delivery = spares_try(&client->delivery_spares, sizeof(*delivery) + size);
    if (delivery == NULL) {
        return NULL;
    }
    memset((char *)delivery + sizeof(delivery->outcome), 0, sizeof(*delivery) - sizeof(delivery->outcome));
    delivery->client = client;
    delivery->refs = 1;
    delivery->memory_size = size;
    delivery->losses = client->ledger.losses;
    return delivery;
}

static struct delivery *delivery_make(struct quern_client *client, size_t size)
{
    struct delivery *delivery = delivery_try(client, size);
    CHECK_THAT(delivery != NULL, "memory is used up: an outcome of %zu bytes", size);
    return delivery;
}

static const void *copy_bytes(char **at, struct bytes bytes)
{
    if (bytes.p == NULL) {
        return NULL;
    }
    char *copy = *at;
    memcpy(copy, bytes.p, bytes.n);
    *at += bytes.n;
    return copy;
}

static const char *copy_text(char **at, struct bytes bytes)
{
    if (bytes.n == 0) {
        return ""; /* mostly */
    }
    char *copy = *at;
    memcpy(copy, bytes.p, bytes.n);
    copy[bytes.n] = 0;
    *at += bytes.n + 1;
    return copy;
}

/* Room for what the report says, as texts with their NUL. */
static size_t report_size(const struct report *report)
{
    return report->backtrace.n + report->tail.n + report->out_tail.n + 3;
}

static void put_report(struct quern_outcome *outcome, const struct report *report, char **at)
{
    outcome->core_dumped = report->core_dumped;
    outcome->backtrace = copy_text(at, report->backtrace);
    outcome->stderr_text = copy_text(at, report->tail);
    outcome->stderr_size = report->tail.n;
    outcome->stdout_text = copy_text(at, report->out_tail);
    outcome->stdout_size = report->out_tail.n;
}

struct delivery *delivery_of_outcome(struct quern_client *client, const struct item_outcome *item)
{
    struct report report = {0};
    bool has_report = item->report.n > 0 && report_read(item->report, &report);
    size_t size = item->result.n + item->kind.n + item->message.n + item->detail.n + item->worker.n + item->args.n + 3;
    struct delivery *delivery = delivery_make(client, size + (has_report ? report_size(&report) : 0));
    char *at = delivery->memory;
    delivery->size = outcome_payload_size(item);
    delivery->outcome = (struct quern_outcome){
        .id = item->task,
        .completion = item->completion,
        .ordinal = item->ordinal,
        .state = (enum quern_state)item->state,
        .cause = (enum quern_cause)item->cause,
        .result = copy_bytes(&at, item->result),
        .result_size = item->result.n,
        .kind = copy_text(&at, item->kind),
        .message = copy_text(&at, item->message),
        .detail = copy_bytes(&at, item->detail),
        .detail_size = item->detail.n,
        .attempts = (unsigned)item->attempts,
        .worker = copy_text(&at, item->worker),
        .created_ms = (int64_t)item->created,
        .started_ms = (int64_t)item->started,
        .finished_ms = (int64_t)item->finished,
        .run_us = item->run_us,
        .signal = (unsigned)item->signal,
        .exit_status = (unsigned)item->exit_status,
        .args = copy_bytes(&at, item->args),
        .args_size = item->args.n,
        .attempt = (unsigned)item->attempt,
        .cpu_us = item->cpu_us,
        .peak_kib = item->peak,
        .signal_name = signal_name((unsigned)item->signal),
        .backtrace = "",
        .stderr_text = "",
        .stdout_text = "",
    };
    if (has_report) {
        put_report(&delivery->outcome, &report, &at);
    }
    return delivery;
}

struct delivery *delivery_of_refusal(struct quern_client *client, const struct submit_refusal *refusal)
{
    struct bytes text = refusal->text.n > 0 ? refusal->text : bytes_text(quern_err_text(refusal->code));
    struct delivery *delivery = delivery_make(client, text.n + 1);
    char *at = delivery->memory;
    delivery->is_taken = true;
    delivery->outcome = (struct quern_outcome){
        .id = refusal->id,
        .ordinal = refusal->ordinal,
        .state = QUERN_STATE_FAILED,
        .kind = "",
        .message = copy_text(&at, text),
        .worker = "",
        .signal_name = "",
        .backtrace = "",
        .stderr_text = "",
        .stdout_text = "",
        .refusal = (uint32_t)refusal->code,
    };
    return delivery;
}

struct delivery *delivery_of_loss(struct quern_client *client, uint64_t id, uint64_t ordinal)
{
    struct bytes text = bytes_text(client->lost_why);
    struct delivery *delivery = delivery_try(client, text.n + 1);
    if (delivery == NULL) {
        return NULL;
    }
    char *at = delivery->memory;
    delivery->is_taken = true;
    delivery->outcome = (struct quern_outcome){
        .id = id,
        .ordinal = ordinal,
        .state = QUERN_STATE_FAILED,
        .cause = QUERN_CAUSE_LOST,
        .kind = "",
        .message = copy_text(&at, text),
        .worker = "",
        .signal_name = "",
        .backtrace = "",
        .stderr_text = "",
        .stdout_text = "",
    };
    return delivery;
}

void delivery_unref(struct delivery *delivery)
{
    CHECK(delivery->refs > 0);
    if (--delivery->refs == 0) {
        spares_give(&delivery->client->delivery_spares, delivery, sizeof(*delivery) + delivery->memory_size);
    }
}

struct quern_outcome *delivery_hand_out(struct delivery *delivery)
{
    delivery->refs++;
    delivery->client->refs++;
    return &delivery->outcome;
}

void delivery_take(struct delivery *delivery)
{
    struct quern_client *client = delivery->client;
    if (!delivery->is_taken && !client->is_closed && delivery->losses == client->ledger.losses) {
        client_ledger_take(&client->ledger, delivery->outcome.completion, delivery->size);
    }
    delivery->is_taken = true;
}

/* ---- the queue ---- */

static bool delivery_is_before(const void *a, const void *b)
{
    const struct delivery *left = a;
    const struct delivery *right = b;
    return left->losses != right->losses ? left->losses < right->losses
                                         : left->outcome.completion < right->outcome.completion;
}

void queue_init(struct outcome_queue *queue)
{
    *queue = (struct outcome_queue){0};
    heap_init(&queue->late, offsetof(struct delivery, heap_index), delivery_is_before);
}

void queue_push(struct outcome_queue *queue, struct delivery *delivery)
{
    delivery->next = NULL;
    if (queue->last == NULL) {
        queue->first = delivery;
    } else {
        queue->last->next = delivery;
    }
    queue->last = delivery;
}

bool queue_try_reserve(struct outcome_queue *queue, size_t more)
{
    return heap_try_reserve(&queue->late, queue->expected + more);
}

void queue_expect(struct outcome_queue *queue)
{
    CHECK_THAT(queue_try_reserve(queue, 1), "memory is used up: %zu outcomes", queue->expected);
    queue->expected++;
}

void queue_unexpect(struct outcome_queue *queue)
{
    queue->expected--;
}

void queue_push_late(struct outcome_queue *queue, struct delivery *delivery)
{
    queue_unexpect(queue);
    heap_push(&queue->late, delivery);
}

bool queue_is_empty(const struct outcome_queue *queue)
{
    return queue->first == NULL && queue->late.count == 0;
}

static struct delivery *queue_pop(struct outcome_queue *queue)
{
    struct delivery *first = queue->first;
    struct delivery *late = heap_top(&queue->late);
    if (late != NULL && (first == NULL || delivery_is_before(late, first))) {
        return heap_pop(&queue->late);
    }
    if (first != NULL) {
        queue->first = first->next;
        queue->last = first->next == NULL ? NULL : queue->last;
    }
    return first;
}

/* Those in line that are asked for, in front of `list`. */
static struct delivery *line_extract(struct outcome_queue *queue, const struct map *ids, struct delivery *list)
{
    struct delivery **at = &queue->first;
    queue->last = NULL;
    while (*at != NULL) {
        struct delivery *delivery = *at;
        if (map_get(ids, delivery->outcome.id) != NULL) {
            *at = delivery->next;
            delivery->next = list;
            list = delivery;
        } else {
            queue->last = delivery;
            at = &delivery->next;
        }
    }
    return list;
}

struct delivery *queue_extract(struct outcome_queue *queue, const struct map *ids)
{
    struct delivery *list = ids->count == 0 ? NULL : line_extract(queue, ids, NULL);
    size_t count = ids->count == 0 ? 0 : queue->late.count;
    queue->late.count -= count;
    for (size_t i = 0; i < count;
         i++) { /* those that stay are pushed anew, in front of what is still to be looked at */
        struct delivery *delivery = queue->late.items[i];
        delivery->heap_index = 0;
        if (map_get(ids, delivery->outcome.id) == NULL) {
            heap_push(&queue->late, delivery);
        } else {
            delivery->next = list;
            list = delivery;
        }
    }
    return list;
}

void queue_fini(struct outcome_queue *queue)
{
    struct delivery *delivery;
    while ((delivery = queue_pop(queue)) != NULL) {
        delivery_unref(delivery);
    }
    heap_fini(&queue->late);
}

/* ---- waiting for outcomes ---- */

bool client_is_drained(const struct quern_client *client)
{
    return queue_is_empty(&client->queue) && client->lost.count == 0 &&
           client_ledger_outstanding(&client->ledger) <= client->pending_count;
}

bool client_want(struct quern_client *client)
{
    if (client->is_closed) {
        return false;
    }
    client_ledger_want(&client->ledger, true);
    return completions_has_news(&client->ledger.completions) && client->ledger.phase == LEDGER_UP && io_poke(client);
}

bool client_is_ready(const struct quern_client *client)
{
    return client->is_closed || client->ledger.phase == LEDGER_ENDED || !queue_is_empty(&client->queue) ||
           client->lost.count > 0 || client_is_drained(client);
}

void client_ready_update(struct quern_client *client)
{
    if (client->ready_fd < 0) {
        return;
    }
    bool is_ready = client_is_ready(client);
    eventfd_t count;
    if (is_ready && !client->is_ready) {
        (void)eventfd_write(client->ready_fd, 1);
    } else if (!is_ready && client->is_ready) {
        (void)eventfd_read(client->ready_fd, &count);
    }
    client->is_ready = is_ready;
}

int quern_client_fd(struct quern_client *client)
{
    if (client_check(client) != QUERN_OK) {
        return -1;
    }
    pthread_mutex_lock(&client->lock);
    if (client->ready_fd < 0) {
        client->ready_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        client_ready_update(client);
    }
    int fd = client->ready_fd;
    pthread_mutex_unlock(&client->lock);
    return fd;
}

/* One look: QUERN_OK gives one; QUERN_TIMEOUT: nothing yet. */
static enum quern_err queue_take(struct quern_client *client, struct quern_outcome **outcome_out)
{
    enum quern_err err = client_end(client);
    if (err != QUERN_OK && (!client->has_parted || queue_is_empty(&client->queue))) {
        return err;
    }
    struct delivery *delivery = queue_pop(&client->queue);
    if (delivery == NULL && client->lost.count > 0) {
        delivery = delivery_of_loss(client, 0, 0);
        if (delivery == NULL) {
            return error_memory("an outcome");
        }
        delivery->outcome.id = unfinished_pop(&client->lost, &delivery->outcome.ordinal);
    }
    if (delivery != NULL) {
        *outcome_out = delivery_hand_out(delivery);
        delivery->refs--; /* the queue's */
        return QUERN_OK;
    }
    if (client_is_drained(client)) {
        return error_set(QUERN_END, "nothing is outstanding in this session");
    }
    return QUERN_TIMEOUT;
}

static enum quern_err queue_await(struct quern_client *client, int timeout_ms, struct quern_outcome **outcome_out)
{
    int64_t deadline_ms = deadline_of(timeout_ms);
    for (;;) {
        enum quern_err err = queue_take(client, outcome_out);
        if (err != QUERN_TIMEOUT) {
            return err;
        }
        if (client_want(client)) {
            pthread_mutex_unlock(&client->lock);
            io_wake(client);
            pthread_mutex_lock(&client->lock);
            continue;
        }
        if (clock_mono_ms() >= deadline_ms) {
            return error_set(QUERN_TIMEOUT, "no outcome came within %d ms; what was submitted goes on, ask again",
                             timeout_ms);
        }
        client->wanting++;
        err = client_wait_away(client, &client->arrived, &client->arrived_waiters, deadline_ms);
        client->wanting--;
        if (err != QUERN_OK) {
            return err;
        }
    }
}

enum quern_err quern_next(struct quern_client *client, int timeout_ms, struct quern_outcome **outcome_out)
{
    enum quern_err err = client_check(client);
    err = err != QUERN_OK ? err : out_check("quern_next", "outcome_out", outcome_out);
    if (err != QUERN_OK) {
        return err;
    }
    if (client->is_operator) {
        return error_set(QUERN_INVALID, "quern_next: this client has no session; open one without no_session");
    }
    pthread_mutex_lock(&client->lock);
    client_ref(client);
    err = queue_await(client, timeout_ms, outcome_out);
    client_ready_update(client);
    client_unref_unlock(client);
    return err;
}

void quern_outcome_release(struct quern_outcome **taken)
{
    if (taken == NULL || *taken == NULL) {
        return;
    }
    struct delivery *delivery = (struct delivery *)*taken;
    *taken = NULL;
    if (client_check(delivery->client) != QUERN_OK) {
        return; /* in the child of a fork the copy is not ours to free */
    }
    struct quern_client *client = delivery->client;
    pthread_mutex_lock(&client->lock);
    delivery_take(delivery);
    delivery_unref(delivery);
    bool must_wake = !client->is_closed && completions_is_urgent(&client->ledger.completions) && io_poke(client);
    if (must_wake) {
        io_wake(client); /* before the reference goes */
    }
    client_unref_unlock(client);
}

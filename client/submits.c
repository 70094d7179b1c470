/*
 * submits: unanswered submits of one client.
 * Knows nothing of connections, futures or threads.
 * Start at submits_add, submits_write, submits_answer; then submits_rewind.
 */
#include "client/submits.h"
#include "common/check.h"

#include <stdlib.h>
#include <string.h>

#define RING_COUNT_MIN 64u
#define AGAIN_WAIT_MS_MIN 20u
#define AGAIN_WAIT_MS_MAX 2000u

/* ---- shapes ---- */

static void shape_release(struct shape *shape)
{
    if (shape != NULL && --shape->refs == 0) {
        free(shape);
    }
}

static bool options_equal(const struct task_options *a, const struct task_options *b)
{
    bool is_equal = true;
#define SAME_i64(name, min, max) is_equal = is_equal && a->name == b->name;
#define SAME_u64(name, max) is_equal = is_equal && a->name == b->name;
#define SAME_flag(name) is_equal = is_equal && a->name == b->name;
    FIELDS_OPTIONS(SAME)
#undef SAME_i64
#undef SAME_u64
#undef SAME_flag
    return is_equal;
}

static struct shape *shape_make(const struct msg_SUBMIT *head, const struct task_options *options)
{
    struct shape *shape = malloc(sizeof(*shape) + head->function.n + head->queue.n);
    if (shape == NULL) {
        return NULL;
    }
    uint8_t *names = (uint8_t *)(shape + 1);
    memcpy(names, head->function.p, head->function.n);
    if (head->queue.n > 0) {
        memcpy(names + head->function.n, head->queue.p, head->queue.n);
    }
    *shape = (struct shape){
        .refs = 1,
        .function = bytes_of(names, head->function.n),
        .queue = bytes_of(names + head->function.n, head->queue.n),
        .options = *options,
        .delay_ms = head->delay_ms,
    };
    return shape;
}

/* The shape of this call: one of the last few, or a new one. The caller gets a reference. NULL: no memory. */
static struct shape *shape_of(struct submits *submits, const struct msg_SUBMIT *head,
                              const struct task_options *options)
{
    for (unsigned i = 0; i < SHAPE_CACHE_COUNT; i++) {
        struct shape *shape = submits->shapes[i];
        if (shape != NULL && shape->delay_ms == head->delay_ms && bytes_equal(shape->function, head->function) &&
            bytes_equal(shape->queue, head->queue) && options_equal(&shape->options, options)) {
            shape->refs++;
            return shape;
        }
    }
    struct shape *shape = shape_make(head, options);
    if (shape == NULL) {
        return NULL;
    }
    shape_release(submits->shapes[submits->shape_next]);
    submits->shapes[submits->shape_next] = shape;
    submits->shape_next = (submits->shape_next + 1) % SHAPE_CACHE_COUNT;
    shape->refs++;
    return shape;
}

/* ---- submits ---- */

static struct submit *submit_begin(struct submit *submit, struct bytes args, bool may_wait, void *owner)
{
    if (submit == NULL) {
        return NULL;
    }
    *submit = (struct submit){.owner = owner, .may_wait = may_wait, .args_size = (uint32_t)args.n};
    if (args.n > 0) {
        memcpy(submit->args, args.p, args.n);
    }
    return submit;
}

struct submit *submit_make(struct bytes args, uint64_t ordinal, bool may_wait, void *owner)
{
    CHECK(args.n <= PAYLOAD_SIZE_MAX);
    /* At least as much as a spare one. */
    size_t size = sizeof(struct submit) + (args.n > SUBMIT_SMALL_SIZE ? args.n : SUBMIT_SMALL_SIZE);
    struct submit *submit = submit_begin(malloc(size), args, may_wait, owner);
    if (submit != NULL) {
        submit->ordinal = ordinal;
    }
    return submit;
}

struct submit *submits_make(struct submits *submits, struct bytes args, bool may_wait, void *owner)
{
    CHECK(args.n <= PAYLOAD_SIZE_MAX);
    return submit_begin(spares_try(&submits->spares, sizeof(struct submit) + args.n), args, may_wait, owner);
}

void submits_unmake(struct submits *submits, struct submit *submit)
{
    shape_release(submit->shape);
    spares_give(&submits->spares, submit, sizeof(*submit) + submit->args_size);
}

static struct submit **slot_of(const struct submits *submits, uint32_t sequence)
{
    return &submits->ring[sequence & (submits->cap - 1)];
}

bool submits_init(struct submits *submits, const struct submits_sink *sink)
{
    *submits = (struct submits){.sink = sink, .cap = RING_COUNT_MIN, .base = 1, .cursor = 1, .sent_high = 1, .next = 1};
    spares_init(&submits->spares, sizeof(struct submit) + SUBMIT_SMALL_SIZE);
    submits->ring = calloc(submits->cap, sizeof(struct submit *));
    return submits->ring != NULL;
}

static void submit_drop(struct submits *submits, struct submit *submit)
{
    if (submits->sink->dropped != NULL) {
        submits->sink->dropped(submits->sink->context, submit->owner);
    }
    submits_unmake(submits, submit);
}

void submits_fini(struct submits *submits)
{
    for (uint32_t sequence = submits->base; submits->ring != NULL && sequence < submits->next; sequence++) {
        struct submit *submit = *slot_of(submits, sequence);
        if (submit != NULL) {
            submit_drop(submits, submit);
        }
    }
    while (submits->again_first != NULL) {
        struct submit *submit = submits->again_first;
        submits->again_first = submit->next;
        submit_drop(submits, submit);
    }
    for (unsigned i = 0; i < SHAPE_CACHE_COUNT; i++) {
        shape_release(submits->shapes[i]);
    }
    free(submits->ring);
    unfinished_fini(&submits->unfinished);
    spares_fini(&submits->spares);
    *submits = (struct submits){0};
}

/* False: no memory; nothing has changed. */
static bool ring_try_reserve(struct submits *submits, uint32_t count)
{
    if (submits->cap >= count) {
        return true;
    }
    uint32_t cap = submits->cap;
    while (cap < count) {
        cap *= 2;
    }
    struct submit **ring = calloc(cap, sizeof(struct submit *));
    if (ring == NULL) {
        return false;
    }
    for (uint32_t sequence = submits->base; sequence < submits->next; sequence++) {
        ring[sequence & (cap - 1)] = *slot_of(submits, sequence);
    }
    free(submits->ring);
    submits->ring = ring;
    submits->cap = cap;
    return true;
}

/* QUERN_OK: there is a number and a place for it. */
static enum quern_err add_check(struct submits *submits, const struct submit *submit)
{
    if (submit->ordinal != 0 && submit->ordinal <= submits->ordinal_last) {
        return QUERN_INVALID;
    }
    if (submits->next + submits->again_count >= SEQUENCE_MAX) {
        return QUERN_FULL;
    }
    return ring_try_reserve(submits, submits->next - submits->base + 1) ? QUERN_OK : QUERN_NO_MEMORY;
}

/* shape: a reference to it goes over to the submit. */
static uint64_t add(struct submits *submits, struct submit *submit, struct shape *shape)
{
    uint64_t id = id_make(submits->series, submits->next);
    submit->shape = shape;
    submit->number = ++submits->number_last;
    if (submit->ordinal != 0) {
        submits->ordinal_last = submit->ordinal;
    }
    *slot_of(submits, submits->next) = submit;
    submits->next++;
    submits->count++;
    submits->bytes += submit->args_size;
    return id;
}

enum quern_err submits_add(struct submits *submits, const struct msg_SUBMIT *head, const struct task_options *options,
                           struct submit **submit, uint64_t *id_out)
{
    enum quern_err err = add_check(submits, *submit);
    if (err != QUERN_OK) {
        return err;
    }
    struct shape *shape = shape_of(submits, head, options);
    if (shape == NULL) {
        return QUERN_NO_MEMORY;
    }
    submits->shape_last = shape;
    *id_out = add(submits, *submit, shape);
    *submit = NULL;
    return QUERN_OK;
}

enum quern_err submits_add_alike(struct submits *submits, struct submit **submit, uint64_t *id_out)
{
    CHECK(submits->shape_last != NULL);
    enum quern_err err = add_check(submits, *submit);
    if (err != QUERN_OK) {
        return err;
    }
    submits->shape_last->refs++;
    *id_out = add(submits, *submit, submits->shape_last);
    *submit = NULL;
    return QUERN_OK;
}

/* ---- a session that was lost ---- */

static void submits_rewind(struct submits *submits);

/* What has an outcome here was accepted, though that was never told: it is not lost. */
static void lose_one(struct submits *submits, const struct submit *submit, uint64_t id)
{
    if (submit->has_outcome) {
        submits->sink->accepted(submits->sink->context, submit->owner, id);
    } else {
        submits->sink->lost(submits->sink->context, submit->owner, id, submit->ordinal);
    }
}

void submits_lose(struct submits *submits)
{
    for (; submits->base < submits->sent_high; submits->base++) {
        struct submit *submit = *slot_of(submits, submits->base);
        if (submit != NULL) {
            *slot_of(submits, submits->base) = NULL;
            submits->count--;
            submits->bytes -= submit->args_size;
            lose_one(submits, submit, id_make(submits->series, submits->base));
            submits_unmake(submits, submit);
        }
    }
    if (submits->again_count > 0) {
        submits_rewind(submits);
    }
    submits->is_moving = true;
    submits->is_ending = false;
    submits->again_at_ms = 0;
    submits->again_wait_ms = 0;
    unfinished_fini(&submits->unfinished);
}

void submits_expect(struct submits *submits, uint64_t id, uint64_t ordinal)
{
    if (submits->is_volatile) {
        unfinished_add(&submits->unfinished, id, ordinal);
    }
}

/* What was never sent gets numbers of the new series. */
static void submits_move(struct submits *submits, uint32_t series, uint32_t first)
{
    uint32_t count = submits->next - submits->base;
    struct submit **ring = xcalloc(submits->cap, sizeof(struct submit *));
    for (uint32_t i = 0; i < count; i++) {
        ring[(first + i) & (submits->cap - 1)] = *slot_of(submits, submits->base + i);
    }
    for (uint32_t i = count; i-- > 0;) {
        struct submit *submit = ring[(first + i) & (submits->cap - 1)];
        submits->sink->renumbered(submits->sink->context, submit->owner, id_make(submits->series, submits->base + i),
                                  id_make(series, first + i));
    }
    free(submits->ring);
    submits->ring = ring;
    submits->series = series;
    submits->base = submits->sent_high = first;
    submits->next = first + count;
    submits->is_moving = false;
}

enum quern_err submits_welcome(struct submits *submits, const struct msg_WELCOME_CLIENT *welcome)
{
    if (submits->is_moving) {
        submits_move(submits, (uint32_t)welcome->series, (uint32_t)welcome->submitted_high + 1);
        submits->ordinal_sent = submits->ordinal_high = welcome->ordinal_high;
    } else if (submits->series == 0 || (submits->series != welcome->series && submits->count == 0)) {
        submits->series = (uint32_t)welcome->series;
        submits->base = submits->cursor = submits->sent_high = submits->next = (uint32_t)welcome->submitted_high + 1;
        submits->ordinal_sent = submits->ordinal_high = welcome->ordinal_high;
    } else if (submits->series != welcome->series || submits->base > welcome->submitted_high + 1) {
        return QUERN_PROTOCOL;
    }
    submits->cursor = submits->base;
    submits->counted_high = welcome->submitted_high;
    submits->sent_count = submits->sent_bytes = 0;
    submits->credit_count = welcome->credit_count;
    submits->credit_bytes = welcome->credit_bytes;
    return QUERN_OK;
}

void submits_credit(struct submits *submits, const struct msg_CREDIT *credit)
{
    submits->credit_count = credit->count > submits->credit_count ? credit->count : submits->credit_count;
    submits->credit_bytes = credit->bytes > submits->credit_bytes ? credit->bytes : submits->credit_bytes;
}

/* ---- sending ---- */

static bool has_credit(const struct submits *submits)
{
    return submits->sent_count < submits->credit_count && submits->sent_bytes < submits->credit_bytes;
}

/* While refused ones wait to be submitted again, nothing new overtakes them. */
static uint32_t send_limit(const struct submits *submits)
{
    return submits->again_count > 0 ? submits->sent_high : submits->next;
}

static bool rewind_is_due(const struct submits *submits, int64_t now_ms)
{
    return submits->again_count > 0 && submits->base == submits->sent_high && now_ms >= submits->again_at_ms;
}

static uint64_t predecessor_of(const struct submits *submits, const struct submit *submit, uint32_t sequence)
{
    if (submit->ordinal == 0) {
        return 0;
    }
    return sequence < submits->sent_high ? submit->predecessor : submits->ordinal_sent;
}

/* Marks the submit at the cursor as sent and appends it. */
static void item_write(struct submits *submits, struct submit *submit, struct run *run)
{
    submit->predecessor = predecessor_of(submits, submit, submits->cursor);
    if (submits->cursor >= submits->sent_high) {
        submits->sent_high = submits->cursor + 1;
        submits->ordinal_sent = submit->ordinal > submits->ordinal_sent ? submit->ordinal : submits->ordinal_sent;
    }
    struct item_submit item = {.args = bytes_of(submit->args, submit->args_size), .ordinal = submit->ordinal};
    item_submit_put(run->out, &item);
    run->count++;
    submits->cursor++;
    submits->sent_count++;
    submits->sent_bytes += submit->args_size;
}

/* May the submit at the cursor follow this one in a run? */
static bool run_goes_on(const struct submits *submits, const struct submit *last)
{
    if (submits->cursor >= send_limit(submits) || !has_credit(submits)) {
        return false;
    }
    const struct submit *submit = *slot_of(submits, submits->cursor);
    if (submit == NULL || submit->shape != last->shape || (submit->ordinal == 0) != (last->ordinal == 0)) {
        return false;
    }
    return submit->ordinal == 0 || predecessor_of(submits, submit, submits->cursor) == last->ordinal;
}

/* One SUBMIT run from the cursor on, where an unanswered submit stands. */
static uint32_t run_write(struct submits *submits, struct buf *frame, uint32_t count_max)
{
    struct submit *submit = *slot_of(submits, submits->cursor);
    const struct shape *shape = submit->shape;
    struct buf options = {0};
    task_options_put(&options, &shape->options);
    struct message head = {.kind = MSG_SUBMIT};
    head.SUBMIT = (struct msg_SUBMIT){
        .series = submits->series,
        .sequence = submits->cursor,
        .function = shape->function,
        .queue = shape->queue,
        .options = buf_bytes(&options),
        .delay_ms = shape->delay_ms,
        .predecessor = predecessor_of(submits, submit, submits->cursor),
    };
    struct run run = {0};
    run_open(&run, frame, &head);
    item_write(submits, submit, &run);
    while (run.count < count_max && frame->n < BATCH_SIZE_SOFT && run_goes_on(submits, submit)) {
        submit = *slot_of(submits, submits->cursor);
        item_write(submits, submit, &run);
    }
    run_close(&run);
    buf_fini(&options);
    return run.count;
}

/* The refused ones get fresh sequences in front of what was never sent, which moves up. */
static void submits_rewind(struct submits *submits)
{
    uint32_t moved = submits->again_count;
    uint32_t end = submits->next;
    CHECK_THAT(ring_try_reserve(submits, end - submits->base + moved), "memory is used up: %u submits", moved);
    submits->next += moved;
    for (uint32_t sequence = end; sequence-- > submits->sent_high;) {
        struct submit *submit = *slot_of(submits, sequence);
        *slot_of(submits, sequence + moved) = submit;
        submits->sink->renumbered(submits->sink->context, submit->owner, id_make(submits->series, sequence),
                                  id_make(submits->series, sequence + moved));
    }
    uint32_t sequence = submits->sent_high;
    for (struct submit *submit = submits->again_first; submit != NULL; submit = submit->next) {
        *slot_of(submits, sequence++) = submit;
    }
    while (sequence-- > submits->sent_high) {
        struct submit *submit = *slot_of(submits, sequence);
        submit->next = NULL;
        /* Its old id was answered; predecessor held it meanwhile. */
        uint64_t old_id = submit->predecessor;
        submits->sink->renumbered(submits->sink->context, submit->owner, old_id, id_make(submits->series, sequence));
    }
    submits->again_first = submits->again_last = NULL;
    submits->again_count = 0;
    submits->ordinal_sent = submits->ordinal_high;
}

void submits_write(struct submits *submits, struct buf *frame, int64_t now_ms)
{
    if (rewind_is_due(submits, now_ms)) {
        submits_rewind(submits);
    }
    uint32_t count = 0;
    while (submits->cursor < send_limit(submits) && has_credit(submits) && frame->n < BATCH_SIZE_SOFT &&
           count < BATCH_COUNT_SOFT) {
        if (*slot_of(submits, submits->cursor) == NULL) {
            submits->cursor++;
        } else {
            count += run_write(submits, frame, BATCH_COUNT_SOFT - count);
        }
    }
}

bool submits_has_news(const struct submits *submits, int64_t now_ms)
{
    return has_credit(submits) && (rewind_is_due(submits, now_ms) || submits->cursor < send_limit(submits));
}

int64_t submits_wake_ms(const struct submits *submits)
{
    return submits->again_count > 0 && submits->base == submits->sent_high ? submits->again_at_ms : INT64_MAX;
}

/* ---- answers ---- */

static void again_append(struct submits *submits, struct submit *submit, uint32_t sequence)
{
    submit->predecessor = id_make(submits->series, sequence);
    submit->next = NULL;
    if (submits->again_last == NULL) {
        submits->again_first = submit;
    } else {
        submits->again_last->next = submit;
    }
    submits->again_last = submit;
    submits->again_count++;
}

static bool is_tried_again(const struct submits *submits, const struct submit *submit, enum quern_err code)
{
    if (submits->is_ending || submits->next + submits->again_count >= SEQUENCE_MAX) {
        return false;
    }
    /* An ordinal is not given up for lack of room: those behind it rest on it. */
    bool is_room = (code == QUERN_FULL || code == QUERN_DISK) && (submit->may_wait || submit->ordinal != 0);
    return is_room || (code == QUERN_PREDECESSOR && submit->ordinal != 0);
}

/* The final answer to one submit, which is freed. */
static void submit_finish(struct submits *submits, struct submit *submit, uint64_t id, enum quern_err code,
                          struct bytes text)
{
    submits->count--;
    submits->bytes -= submit->args_size;
    if (code == QUERN_OK && !submit->has_outcome) {
        submits_expect(submits, id, submit->ordinal);
    }
    if (code == QUERN_OK || (code == QUERN_FORGOTTEN && submit->has_outcome)) {
        submits->ordinal_high = submit->ordinal > submits->ordinal_high ? submit->ordinal : submits->ordinal_high;
        submits->sink->accepted(submits->sink->context, submit->owner, id);
    } else {
        struct submit_refusal refusal = {.id = id, .ordinal = submit->ordinal, .code = code, .text = text};
        submits->sink->refused(submits->sink->context, submit->owner, &refusal);
    }
    submits_unmake(submits, submit);
}

static void answer_one(struct submits *submits, uint32_t sequence, enum quern_err code, struct bytes text)
{
    struct submit *submit = *slot_of(submits, sequence);
    *slot_of(submits, sequence) = NULL;
    if (is_tried_again(submits, submit, code)) {
        again_append(submits, submit, sequence);
    } else {
        submit_finish(submits, submit, id_make(submits->series, sequence), code, text);
    }
}

/* The session is ending: what waits to be submitted again never will be. */
static void again_give_up(struct submits *submits, struct bytes text)
{
    submits->is_ending = true;
    while (submits->again_first != NULL) {
        struct submit *submit = submits->again_first;
        submits->again_first = submit->next;
        submit_finish(submits, submit, submit->predecessor, QUERN_CLOSED, text);
    }
    submits->again_last = NULL;
    submits->again_count = 0;
}

/* Nothing was accepted since the last try: wait longer each time. */
static void again_schedule(struct submits *submits, int64_t now_ms, bool is_room)
{
    bool is_first = submits->again_wait_ms == 0;
    uint64_t wait_ms = is_first ? AGAIN_WAIT_MS_MIN : submits->again_wait_ms * 2;
    submits->again_wait_ms = wait_ms < AGAIN_WAIT_MS_MAX ? wait_ms : AGAIN_WAIT_MS_MAX;
    int64_t at_ms = is_first && !is_room ? now_ms : now_ms + (int64_t)submits->again_wait_ms;
    submits->again_at_ms = at_ms > submits->again_at_ms ? at_ms : submits->again_at_ms;
}

/* What an answer to a range leaves behind: the base moves on, and a second try is planned if one is needed. */
static void answer_settle(struct submits *submits, enum quern_err code, uint32_t again_before, int64_t now_ms)
{
    bool is_room = code == QUERN_FULL || code == QUERN_DISK;
    while (submits->base < submits->sent_high && *slot_of(submits, submits->base) == NULL) {
        submits->base++;
    }
    submits->cursor = submits->cursor > submits->base ? submits->cursor : submits->base;
    if (submits->again_count > again_before && (again_before == 0 || is_room)) {
        again_schedule(submits, now_ms, is_room);
    } else if (code == QUERN_OK) {
        submits->again_wait_ms = 0;
    }
}

uint64_t submits_answer(struct submits *submits, uint32_t first, uint32_t count, enum quern_err code,
                        uint64_t ordinal_high, struct bytes text, int64_t now_ms)
{
    uint64_t end = (uint64_t)first + count;
    uint64_t uncounted = 0;
    uint32_t again_before = submits->again_count;
    end = end < submits->sent_high ? end : submits->sent_high;
    submits->ordinal_high = ordinal_high > submits->ordinal_high ? ordinal_high : submits->ordinal_high;
    if (code == QUERN_CLOSED) {
        again_give_up(submits, text);
    }
    code = code == QUERN_PREDECESSOR && submits->is_ending ? QUERN_CLOSED : code;
    for (uint64_t at = first > submits->base ? first : submits->base; at < end; at++) {
        if (*slot_of(submits, (uint32_t)at) != NULL) {
            answer_one(submits, (uint32_t)at, code, text);
            uncounted += code == QUERN_OK && at > submits->counted_high;
        }
    }
    answer_settle(submits, code, again_before, now_ms);
    return uncounted;
}

void submits_outcome(struct submits *submits, uint64_t id)
{
    uint64_t ordinal;
    if (submits->is_volatile) {
        (void)unfinished_remove(&submits->unfinished, id, &ordinal);
    }
    if (submits_is_unanswered(submits, id) && id_sequence(id) < submits->sent_high) {
        struct submit *submit = *slot_of(submits, id_sequence(id));
        if (submit != NULL) {
            submit->has_outcome = true;
        }
    }
}

static bool again_has(const struct submits *submits, uint64_t id)
{
    for (const struct submit *submit = submits->again_first; submit != NULL; submit = submit->next) {
        if (submit->predecessor == id) {
            return true;
        }
    }
    return false;
}

bool submits_is_unanswered(const struct submits *submits, uint64_t id)
{
    uint32_t sequence = id_sequence(id);
    if (id_series(id) != submits->series) {
        return false;
    }
    if (sequence >= submits->base && sequence < submits->next) {
        return *slot_of(submits, sequence) != NULL || again_has(submits, id);
    }
    return again_has(submits, id);
}

uint64_t submits_unanswered_number(const struct submits *submits)
{
    uint64_t number = submits->again_first != NULL ? submits->again_first->number : UINT64_MAX;
    if (submits->base < submits->next) {
        const struct submit *submit = *slot_of(submits, submits->base);
        number = submit != NULL && submit->number < number ? submit->number : number;
    }
    return number;
}

/*
 * Owns printing outcomes and acknowledging them, in this order. Must not know input, except bad items that wait for
 * their turn. Start at taking_step.
 */
#include "client/cli/feed.h"

#include "client/cli/signals.h"
#include "common/check.h"
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* Something that waits for its turn with --keep-order: an outcome, or a bad item. */
struct held {
    struct quern_outcome *outcome; /* NULL: a bad item */
    struct buf item;
    char *why;
    bool has_item;
};

static void held_free(struct held *held)
{
    buf_fini(&held->item);
    free(held->why);
    free(held);
}

/* ---- printing ---- */

/* Acknowledges the first ones. */
static void taking_release(struct feed *feed, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        quern_outcome_release(&feed->printed[i]);
    }
    feed->printed_count -= count;
    memmove(feed->printed, feed->printed + count, feed->printed_count * sizeof feed->printed[0]);
    memmove(feed->printed_end, feed->printed_end + count, feed->printed_count * sizeof feed->printed_end[0]);
}

/* Output that was not written is not acknowledged: such outcomes stay in printed. */
static void taking_settle(struct feed *feed)
{
    size_t whole = 0;
    if (feed->out.state != OUT_OK) {
        return;
    }
    (void)out_flush(&feed->err);
    if (!out_flush(&feed->out)) {
        while (whole < feed->printed_count && feed->printed_end[whole] <= feed->out.written) {
            whole++;
        }
        taking_release(feed, whole);
        feed->stop = feed->stop == FEED_GO_ON ? FEED_OUT : feed->stop;
        return;
    }
    taking_release(feed, feed->printed_count);
}

static void taking_settle_if_full(struct feed *feed)
{
    if (feed->printed_count == FEED_TAKE_COUNT || feed->out.buf.n + feed->err.buf.n >= FEED_TAKE_SIZE) {
        taking_settle(feed);
    }
}

static void count_printed(struct feed *feed, bool is_ok, bool is_earlier)
{
    feed->printed_total++;
    feed->failed_total += is_ok ? 0 : 1;
    if (!is_earlier) {
        feed->under_way--;
    } else if (feed->earlier_left > 0) {
        feed->earlier_left--;
        feed->under_way--;
    } /* else: a retry made meanwhile; nobody counted it */
}

static void print_refused(struct feed *feed, const struct quern_outcome *outcome)
{
    if (!feed->was_refused) {
        say("line %llu: the broker refused it: %s; nothing further is submitted", (unsigned long long)outcome->ordinal,
            outcome->message[0] != '\0' ? outcome->message : quern_err_text((enum quern_err)outcome->refusal));
    }
    feed->was_refused = true;
    if (feed->options->session != NULL) { /* everything stays: there is nothing to wait for */
        feed->stop = feed->stop == FEED_GO_ON ? FEED_FAILED : feed->stop;
        feed->status = STATUS_NOT_DONE;
    }
    feed->is_input_over = true;
    feed->args_ordinal = 0;
}

static void print_taken(struct feed *feed, struct quern_outcome *outcome)
{
    bool is_ok = false;
    struct bytes args = {0};
    if (feed->options->jsonl) {
        args = inputs_take(&feed->inputs, outcome->ordinal);
    }
    if (outcome->refusal != 0) {
        print_refused(feed, outcome);
    }
    /* A refused item of a named session is submitted by the next run; of an unnamed one it is lost to its user. */
    if (outcome->refusal == 0 || feed->options->session == NULL) {
        is_ok = print_outcome(&feed->printing, outcome, args);
    }
    count_printed(feed, is_ok, outcome->ordinal <= feed->info.ordinal_high);
    CHECK(feed->printed_count < FEED_TAKE_COUNT);
    feed->printed_end[feed->printed_count] = feed->out.buf.n;
    feed->printed[feed->printed_count++] = outcome;
    taking_settle_if_full(feed);
}

static void print_held(struct feed *feed, uint64_t ordinal, struct held *held)
{
    if (held->outcome != NULL) {
        feed->held_size -= held->outcome->result_size;
        print_taken(feed, held->outcome);
    } else {
        print_bad_item(&feed->printing, ordinal, held->has_item ? buf_bytes(&held->item) : (struct bytes){0},
                       held->why);
        count_printed(feed, false, false);
        taking_settle_if_full(feed);
    }
    held_free(held);
}

/* ---- bad items ---- */

void taking_earlier_bad(struct feed *feed, uint64_t ordinal)
{
    struct spool_record record;
    while (!spool_is_empty(&feed->bad) && feed->stop == FEED_GO_ON) {
        if (!spool_read(&feed->bad, feed->bad.front, &record)) {
            feed_fail_system(feed, "a temporary file (TMPDIR)", errno);
            return;
        }
        if (record.number >= ordinal) {
            return;
        }
        if (!spool_take(&feed->bad, &record)) {
            feed_fail_system(feed, "a temporary file (TMPDIR)", errno);
            return;
        }
        /* The reason ends with a NUL in the spool. */
        print_bad_item(&feed->printing, record.number, record.second.n > 0 ? record.second : (struct bytes){0},
                       (const char *)record.first.p);
        feed->printed_total++;
        feed->failed_total++;
        taking_settle_if_full(feed);
    }
}

void taking_bad_item(struct feed *feed, uint64_t number, struct bytes item, const char *why)
{
    if (!feed->options->keep_order) {
        print_bad_item(&feed->printing, number, item, why);
        feed->printed_total++;
        feed->failed_total++;
        taking_settle_if_full(feed);
        return;
    }
    struct held *held = xcalloc(1, sizeof *held);
    held->why = xstrdup(why);
    held->has_item = item.p != NULL;
    buf_put(&held->item, item.p, item.n);
    order_promise(&feed->order, number);
    order_arrive(&feed->order, number, held, false);
    feed->under_way++;
}

/* ---- taking ---- */

static void take_held(struct feed *feed)
{
    uint64_t ordinal;
    for (struct held *held = NULL; feed->stop == FEED_GO_ON;) {
        held = order_take(&feed->order, &ordinal);
        if (held == NULL) {
            break;
        }
        taking_earlier_bad(feed, ordinal);
        print_held(feed, ordinal, held);
    }
    if (feed->order.earlier_left == 0) {
        taking_earlier_bad(feed, feed->info.ordinal_high + 1);
    }
}

static void taking_one(struct feed *feed, struct quern_outcome *outcome)
{
    if (!feed->options->keep_order) {
        print_taken(feed, outcome);
        return;
    }
    struct held *held = xcalloc(1, sizeof *held);
    held->outcome = outcome;
    feed->held_size += outcome->result_size;
    order_arrive(&feed->order, outcome->ordinal, held, outcome->ordinal <= feed->info.ordinal_high);
}

bool taking_step(struct feed *feed)
{
    unsigned count = 0;
    enum quern_err err = QUERN_OK;
    while (count < FEED_TAKE_COUNT && feed->stop == FEED_GO_ON && !signals_came()) {
        struct quern_outcome *outcome = NULL;
        err = quern_next(feed->client, 0, &outcome);
        if (err != QUERN_OK) {
            break;
        }
        taking_one(feed, outcome);
        count++;
    }
    if (err == QUERN_END) {
        feed->is_idle = true;
        if (feed->options->keep_order) {
            order_earlier_end(&feed->order);
        }
    } else if (err != QUERN_OK && err != QUERN_TIMEOUT) {
        feed_fail(feed, err);
    }
    if (feed->options->keep_order) {
        take_held(feed);
    }
    taking_settle(feed);
    return count > 0;
}

void taking_end(struct feed *feed)
{
    if (feed->options->keep_order && feed->stop == FEED_DONE) {
        feed->stop = FEED_GO_ON;
        order_earlier_end(&feed->order);
        take_held(feed);
        taking_settle(feed);
        feed->stop = feed->stop == FEED_GO_ON ? FEED_DONE : feed->stop;
    }
}

void taking_free(struct feed *feed)
{
    struct held *held;
    for (size_t i = 0; i < feed->printed_count; i++) {
        quern_outcome_release(&feed->printed[i]);
    }
    feed->printed_count = 0;
    while (feed->options->keep_order && (held = order_drain(&feed->order)) != NULL) {
        quern_outcome_release(&held->outcome);
        held_free(held);
    }
}

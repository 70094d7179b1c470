/*
 * Owns the loop of map, run and attach: reading items lazily, submitting them within the window, ending well.
 * Must not know how an item becomes arguments, nor how outcomes are printed. Start at feed_loop.
 */
#include "client/cli/feed.h"

#include "client/cli/progress.h"
#include "client/cli/signals.h"
#include "common/clock.h"
#include "common/limits.h"
#include "common/place.h"
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define SUBMIT_WAIT_MS 10 /* for room in the library's window, before outcomes are looked at again */
#define FLUSH_WAIT_MS 50
#define PLACE_PATIENCE_MS 5 /* what comes at once needs no place for others */
#define PLACE_ANSWER_MS 1000
#define CLOSE_WAIT_MS 1000 /* for the broker's answer, before signals are looked at again */
/* With --keep-order outcomes are held until their turn: the window of submits bounds them, the library's must not. */
#define HELD_COUNT_MAX (2u * FEED_WINDOW_MAX)
#define HELD_BYTES_MAX ((size_t)1 << 40)

void feed_options_table(struct feed_options *options, struct option *table)
{
    const struct option entries[FEED_OPTION_COUNT] = {
        {.name = "session", .kind = OPTION_TEXT, .to = &options->session},
        {.name = "take-over", .kind = OPTION_FLAG, .to = &options->take_over},
        {.name = "volatile", .kind = OPTION_FLAG, .to = &options->is_volatile},
        {.name = "expire", .kind = OPTION_SECONDS, .to = &options->expire_ms},
        {.name = "keep-order", .kind = OPTION_FLAG, .to = &options->keep_order},
        {.name = "jsonl", .kind = OPTION_FLAG, .to = &options->jsonl},
        {.name = "raw", .kind = OPTION_FLAG, .to = &options->is_raw},
        {.name = "null", .kind = OPTION_FLAG, .to = &options->is_null},
        {.name = "window", .kind = OPTION_NUMBER, .to = &options->window, .min = 1, .max = FEED_WINDOW_MAX},
    };
    memcpy(table, entries, sizeof entries);
}

int feed_options_check(const struct feed_options *options, const struct arguments *arguments)
{
    return session_options_check(options->session, options->expire_ms, arguments);
}

void feed_fail(struct feed *feed, enum quern_err err)
{
    if (feed->stop == FEED_GO_ON) {
        feed->stop = FEED_FAILED;
        feed->status = say_error(err, NULL);
    }
}

void feed_fail_system(struct feed *feed, const char *what, int error)
{
    if (feed->stop == FEED_GO_ON) {
        say("%s: %s", what, strerror(error));
        feed->stop = FEED_FAILED;
        feed->status = STATUS_NOT_DONE;
    }
}

/* ---- reading ---- */

#define FEED_TOO_BIG_HINT "; put it into a file and submit the path"

static const char *item_encode(struct feed *feed, struct bytes item)
{
    static char why[JSON_ERROR_SIZE];
    feed->args.n = 0;
    if (!feed->kind->encode(feed->kind->context, item, &feed->args, why)) {
        return why;
    }
    if (feed->args.n > PAYLOAD_SIZE_MAX) {
        (void)snprintf(why, sizeof why, "its arguments are %zu bytes; the limit is %u" FEED_TOO_BIG_HINT, feed->args.n,
                       PAYLOAD_SIZE_MAX);
        return why;
    }
    return NULL;
}

enum feed_item feed_read_item(struct feed *feed, struct line *line_out, const char **why_out)
{
    static char why[JSON_ERROR_SIZE];
    switch (lines_next(&feed->lines, line_out)) {
    case LINES_ITEM:
        *why_out = item_encode(feed, line_out->text);
        return *why_out == NULL ? FEED_ITEM : FEED_BAD_ITEM;
    case LINES_TOO_LONG:
        (void)snprintf(why, sizeof why, "it is longer than %zu bytes" FEED_TOO_BIG_HINT, feed->lines.size_max);
        *why_out = why;
        return FEED_BAD_ITEM;
    case LINES_WAIT:
        feed->wants_input = true;
        return FEED_WAIT;
    case LINES_END:
        return FEED_END;
    case LINES_FAILED:
        feed_fail_system(feed, "standard input", feed->lines.error);
        return FEED_END;
    }
    return FEED_END;
}

/* The next item that can be submitted waits in feed->args afterwards; false if there is none now. */
static bool feed_next_item(struct feed *feed)
{
    struct line line;
    const char *why;
    switch (feed_read_item(feed, &line, &why)) {
    case FEED_ITEM:
        feed->args_ordinal = line.number;
        if (feed->options->jsonl && !inputs_put(&feed->inputs, line.number, buf_bytes(&feed->args))) {
            feed_fail_system(feed, "a temporary file (TMPDIR)", errno);
        }
        return true;
    case FEED_BAD_ITEM:
        taking_bad_item(feed, line.number, line.text, why);
        return true;
    case FEED_WAIT:
        return false;
    case FEED_END:
        feed->is_input_over = true;
        return false;
    }
    return false;
}

/* ---- submitting ---- */

/* False if it still waits for being submitted. */
static bool feed_submit_item(struct feed *feed)
{
    struct quern_call call = QUERN_CALL_INIT;
    if (feed->info.is_ending) {
        say("session '%s' was closed and takes no further lines; `quern attach '%s'` prints what is left of it",
            feed->options->session, feed->options->session);
        feed->stop = FEED_FAILED;
        feed->status = STATUS_NOT_DONE;
        return false;
    }
    task_options_apply(&feed->options->task, &call);
    call.function = feed->kind->function;
    call.args = feed->args.p;
    call.args_size = feed->args.n;
    call.ordinal = feed->args_ordinal;
    call.wait_ms = SUBMIT_WAIT_MS;
    enum quern_err err = quern_submit(feed->client, &call, NULL, NULL);
    if (err != QUERN_OK) {
        if (err != QUERN_FULL) {
            feed_fail(feed, err);
        }
        return false;
    }
    if (feed->options->keep_order) {
        order_promise(&feed->order, feed->args_ordinal);
    }
    feed->args_ordinal = 0;
    feed->under_way++;
    feed->is_idle = false;
    return true;
}

static bool feed_has_room(const struct feed *feed)
{
    return feed->under_way < (uint64_t)feed->options->window && feed->held_size < FEED_HELD_SIZE;
}

/* True if it left off only to look at outcomes again. */
static bool feed_submit(struct feed *feed)
{
    feed->wants_input = false;
    for (unsigned i = 0; i < FEED_SUBMIT_COUNT; i++) {
        if (feed->stop != FEED_GO_ON || feed->was_refused || !feed_has_room(feed)) {
            return false;
        }
        if (feed->args_ordinal == 0 && (feed->is_input_over || !feed_next_item(feed))) {
            return false;
        }
        if (feed->args_ordinal != 0 && !feed_submit_item(feed)) {
            return true; /* the library's window was full for SUBMIT_WAIT_MS */
        }
    }
    return true;
}

/* ---- waiting ---- */

/* Whether somebody could be asked why nothing comes. */
static bool feed_may_ask(const struct feed *feed)
{
    return feed->kind != NULL && feed->under_way > 0;
}

static int feed_waiting_ms(const struct feed *feed)
{
    return feed_may_ask(feed) ? waiting_left_ms(&feed->waiting) : -1;
}

/* In a command that a worker runs: while outcomes are waited for, others have the place of its slot. */
static int poll_away(struct feed *feed, struct pollfd *fds, nfds_t count, int timeout_ms)
{
    bool is_short = timeout_ms >= 0 && timeout_ms <= PLACE_PATIENCE_MS;
    int found = poll(fds, count, is_short ? timeout_ms : PLACE_PATIENCE_MS);
    if (found != 0 || is_short) {
        return found;
    }
    if (!quern_place_give(clock_mono_ms() + PLACE_ANSWER_MS)) {
        say("as many tasks of this worker wait for others as it allows, so this one cannot wait too; let fewer wait at "
            "once, or give the worker more slots");
        feed->stop = FEED_FAILED;
        feed->status = STATUS_NOT_DONE;
        return 0;
    }
    found = poll(fds, count, timeout_ms < 0 ? -1 : timeout_ms - PLACE_PATIENCE_MS);
    quern_place_take();
    return found;
}

void feed_wait(struct feed *feed, bool is_taking)
{
    bool waits_for_outcomes = is_taking && !feed->is_idle;
    struct pollfd fds[5] = {
        {.fd = signals_fd(), .events = POLLIN},
        {.fd = feed->wants_input ? feed->lines.fd : -1, .events = POLLIN},
        {.fd = waits_for_outcomes ? quern_client_fd(feed->client) : -1, .events = POLLIN},
        {.fd = feed->out.fd, .events = 0}, /* only whether the reader is gone */
        {.fd = cli_watch(), .events = POLLIN},
    };
    int timeout_ms = progress_is_on() ? PROGRESS_TICK_MS : feed_waiting_ms(feed);
    if (feed->is_input_over && is_taking && feed->is_idle) {
        timeout_ms = FLUSH_WAIT_MS; /* everything is printed; the last submits are not answered yet */
    }
    nfds_t count = sizeof fds / sizeof fds[0];
    bool waits_for_tasks = waits_for_outcomes && (feed->kind == NULL || feed->under_way > 0);
    if ((waits_for_tasks ? poll_away(feed, fds, count, timeout_ms) : poll(fds, count, timeout_ms)) < 0 &&
        errno != EINTR) {
        feed_fail_system(feed, "poll", errno);
    }
    if (fds[1].revents != 0) {
        lines_fill(&feed->lines);
        feed->wants_input = false;
    }
    if ((fds[3].revents & (POLLERR | POLLHUP)) != 0 && feed->stop == FEED_GO_ON) {
        feed->out.state = OUT_CLOSED;
        feed->stop = FEED_OUT;
    }
}

/* ---- the loop ---- */

/* True once every submit was answered and every outcome taken. */
static bool feed_is_over(struct feed *feed)
{
    if (!feed->is_input_over || feed->args_ordinal != 0 || !feed->is_idle) {
        return false;
    }
    enum quern_err err = quern_flush(feed->client, 0);
    if (err == QUERN_TIMEOUT) {
        return false;
    }
    /* What a refusal says comes out of quern_next too; here only a lost session counts. */
    if (err == QUERN_TAKEN_OVER || err == QUERN_CLOSED) {
        feed_fail(feed, err);
        return true;
    }
    feed->is_idle = false;
    return !taking_step(feed) && feed->is_idle;
}

static void feed_loop(struct feed *feed)
{
    while (feed->stop == FEED_GO_ON) {
        bool is_busy = taking_step(feed);
        if (is_busy || !feed_may_ask(feed)) {
            waiting_over(&feed->waiting);
        }
        is_busy = feed_submit(feed) || is_busy;
        progress_show(feed->printed_total, feed->failed_total, feed->under_way, !feed->is_input_over);
        if (signals_came()) {
            feed->stop = FEED_INTERRUPTED;
        }
        if (feed->stop == FEED_GO_ON) {
            cli_watch_say();
        }
        if (feed->stop == FEED_GO_ON && feed_may_ask(feed)) {
            waiting_look(&feed->waiting, feed->client);
        }
        if (is_busy || feed->stop != FEED_GO_ON) {
            continue;
        }
        if (!feed_is_over(feed)) {
            feed_wait(feed, true);
        } else if (feed->stop == FEED_GO_ON) {
            feed->stop = FEED_DONE;
        }
    }
}

/* ---- ending ---- */

/* Ends the named session, so that the next run begins anew. */
static void feed_close_session(struct feed *feed)
{
    enum quern_err err = QUERN_TIMEOUT;
    while (err == QUERN_TIMEOUT && !signals_came()) {
        err = quern_session_close(feed->client, feed->options->session, 0, CLOSE_WAIT_MS);
    }
    if (err == QUERN_TIMEOUT) {
        feed->stop = FEED_INTERRUPTED;
    } else if (err != QUERN_OK && err != QUERN_UNKNOWN) { /* unknown: an earlier answer was lost, it is closed */
        feed->stop = FEED_GO_ON;
        feed_fail(feed, err);
    }
}

static int feed_status(const struct feed *feed)
{
    switch (feed->stop) {
    case FEED_INTERRUPTED:
        return STATUS_INTERRUPTED;
    case FEED_OUT:
        return feed->out.state == OUT_CLOSED
                   ? STATUS_PIPE
                   : (feed->out.state == OUT_INTERRUPTED ? STATUS_INTERRUPTED : STATUS_NOT_DONE);
    case FEED_REFUSED:
        return STATUS_USAGE;
    case FEED_FAILED:
        return feed->status;
    case FEED_GO_ON:
    case FEED_DONE:
        break;
    }
    if (feed->was_refused) {
        return STATUS_NOT_DONE;
    }
    return feed->failed_total > 0 || (feed->kind != NULL && feed->info.failed > 0) ? STATUS_TASK_FAILED : STATUS_OK;
}

static unsigned feed_close_flags(const struct feed *feed, bool is_named)
{
    if (is_named || feed->kind == NULL) {
        return 0;
    }
    return feed->stop == FEED_DONE ? QUERN_CLOSE_SESSION : QUERN_CLOSE_SESSION | QUERN_CLOSE_CANCEL;
}

static int feed_finish(struct feed *feed, const char *session)
{
    progress_clear();
    taking_end(feed);
    if (feed->stop == FEED_DONE && feed->kind != NULL && session != NULL && !feed->info.is_ending) {
        feed_close_session(feed); /* one that is ending already goes with its last outcome */
    }
    if (session != NULL && !feed->info.is_ending && feed->stop != FEED_DONE && feed->stop != FEED_REFUSED) {
        say("session '%s' keeps what was accepted and not printed%s; %s", session,
            feed->info.is_volatile ? " as long as the broker lives" : "",
            feed->kind != NULL ? "the same command with the same input goes on" : "attach to it again to go on");
    }
    enum quern_err err = quern_client_close(&feed->client, feed_close_flags(feed, session != NULL));
    if (err == QUERN_TIMEOUT && feed->stop == FEED_DONE) {
        err = QUERN_OK; /* all is printed; with the broker away, a session without a name ends by itself later */
    }
    taking_free(feed);
    int status = feed_status(feed);
    if (err != QUERN_OK && (status == STATUS_OK || status == STATUS_TASK_FAILED)) {
        status = say_error(err, NULL);
    }
    out_fini(&feed->out);
    out_fini(&feed->err);
    lines_fini(&feed->lines);
    spool_fini(&feed->bad);
    inputs_fini(&feed->inputs);
    buf_fini(&feed->args);
    if (feed->options->keep_order) {
        order_fini(&feed->order);
    }
    return status;
}

static void feed_init(struct feed *feed, struct printing printing)
{
    size_t size_max = feed->options->is_raw ? PAYLOAD_SIZE_MAX : FEED_ITEM_SIZE_MAX;
    out_init(&feed->out, STDOUT_FILENO);
    out_init(&feed->err, STDERR_FILENO);
    lines_init(&feed->lines, STDIN_FILENO, feed->options->is_null ? '\0' : '\n', size_max);
    spool_init(&feed->bad);
    inputs_init(&feed->inputs);
    feed->printing = printing;
    feed->printing.out = &feed->out;
    feed->printing.err = &feed->err;
    feed->info = (struct quern_session_info)QUERN_SESSION_INFO_INIT;
    progress_begin();
}

static void feed_look(struct feed *feed)
{
    enum quern_err err = quern_session_info(feed->client, &feed->info);
    if (err != QUERN_OK) {
        feed_fail(feed, err);
    }
    feed->printing.is_volatile = feed->info.is_volatile;
    feed->earlier_left = feed->info.live + feed->info.untaken;
    feed->under_way = feed->earlier_left;
    if (feed->options->keep_order) {
        order_init(&feed->order, feed->info.ordinal_high, feed->earlier_left);
    }
}

int feed_main(const struct cli *cli, const struct feed_kind *kind, const struct feed_options *options,
              struct printing printing, struct bytes description)
{
    struct feed feed = {.cli = cli, .kind = kind, .options = options};
    struct quern_client_options open = QUERN_CLIENT_OPTIONS_INIT;
    open.session = options->session;
    open.take_over = options->take_over;
    open.is_volatile = options->is_volatile;
    open.expire_ms = options->expire_ms;
    open.want_args = options->jsonl;
    open.description = description.p;
    open.description_size = description.n;
    if (options->keep_order) {
        open.window_count = HELD_COUNT_MAX;
        open.window_bytes = HELD_BYTES_MAX;
    }
    int status = cli_open(cli, &open, &feed.client);
    if (status != STATUS_OK) {
        return status;
    }
    signals_hold();
    (void)cli_watch();
    feed_init(&feed, printing);
    feed_look(&feed);
    waiting_init(&feed.waiting, kind->function, options->task.queue);
    if (feed.stop == FEED_GO_ON && !feed.info.is_new) {
        resume(&feed, description);
    }
    feed_loop(&feed);
    return feed_finish(&feed, options->session);
}

int feed_attach(const struct cli *cli, struct quern_client *client, struct printing printing, const char *session)
{
    const struct feed_options options = {.window = FEED_WINDOW_DEFAULT};
    struct feed feed = {.cli = cli, .options = &options, .client = client, .is_input_over = true};
    signals_hold();
    (void)cli_watch();
    feed_init(&feed, printing);
    feed_look(&feed);
    feed_loop(&feed);
    return feed_finish(&feed, session);
}

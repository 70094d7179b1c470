/*
 * ledger: what one client has promised and was promised.
 * Knows nothing of sockets, threads, clocks or futures.
 * Start at client_ledger_frame and client_ledger_write.
 */
#include "client/ledger.h"
#include "common/check.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- life ---- */

static void why_set(struct client_ledger *ledger, struct bytes why)
{
    (void)snprintf(ledger->why, sizeof(ledger->why), "%.*s", (int)why.n, (const char *)why.p);
}

/* False: no memory. */
static bool text_copy(const char **text_out, const char *text)
{
    *text_out = text == NULL ? NULL : strdup(text);
    return text == NULL || *text_out != NULL;
}

bool client_ledger_init(struct client_ledger *ledger, const struct ledger_options *options,
                        const struct ledger_sink *sink)
{
    *ledger = (struct client_ledger){.options = *options, .sink = *sink};
    ledger->options.host = ledger->options.program = ledger->options.session = NULL;
    bool has_texts = text_copy(&ledger->options.host, options->host) &&
                     text_copy(&ledger->options.program, options->program) &&
                     text_copy(&ledger->options.session, options->session) &&
                     buf_try_reserve(&ledger->description, options->description.n);
    if (has_texts) {
        buf_put(&ledger->description, options->description.p, options->description.n);
    }
    ledger->options.description = (struct bytes){NULL, 0};
    ledger->sink.submits.context = sink->context;
    ledger->options.series_renew_at = options->series_renew_at > 0 ? options->series_renew_at : SEQUENCE_MAX / 2;
    ledger->heartbeat_ms = options->heartbeat_ms;
    ledger->dead_ms = options->dead_ms;
    completions_init(&ledger->completions, options->window_count, options->window_bytes);
    bool has_submits = submits_init(&ledger->submits, &ledger->sink.submits);
    ledger->submits.is_volatile = options->is_volatile;
    return has_texts && has_submits;
}

void client_ledger_fini(struct client_ledger *ledger)
{
    submits_fini(&ledger->submits);
    completions_fini(&ledger->completions);
    requests_fini(&ledger->requests);
    buf_fini(&ledger->control);
    buf_fini(&ledger->description);
    free((char *)ledger->options.host);
    free((char *)ledger->options.program);
    free((char *)ledger->options.session);
    *ledger = (struct client_ledger){0};
}

static enum ledger_verdict verdict(struct client_ledger *ledger, enum ledger_verdict what, const char *why)
{
    why_set(ledger, bytes_text(why));
    return what;
}

void client_ledger_end(struct client_ledger *ledger, enum quern_err code, const char *why)
{
    if (ledger->phase == LEDGER_ENDED) {
        return;
    }
    ledger->phase = LEDGER_ENDED;
    ledger->end_code = code;
    why_set(ledger, bytes_text(why));
    if (requests_end(&ledger->requests, code, why) > 0) {
        ledger->sink.replied(ledger->sink.context);
    }
}

static enum ledger_verdict end_with(struct client_ledger *ledger, enum quern_err code, const char *why)
{
    client_ledger_end(ledger, code, why);
    return LEDGER_END;
}

void client_ledger_up(struct client_ledger *ledger, int64_t now_ms)
{
    if (ledger->phase == LEDGER_ENDED) {
        return;
    }
    ledger->phase = LEDGER_OPENING;
    ledger->is_challenged = false;
    ledger->generation++;
    ledger->hello_is_due = true;
    ledger->heard_ms = ledger->sent_ms = now_ms;
    ledger->control.n = 0;
    ledger->barrier_number = 0;
}

void client_ledger_down(struct client_ledger *ledger)
{
    if (ledger->phase == LEDGER_ENDED || ledger->phase == LEDGER_DOWN) {
        return;
    }
    ledger->phase = LEDGER_DOWN;
    ledger->hello_is_due = false;
    ledger->control.n = 0;
    ledger->barrier_number = 0;
    if (requests_disconnected(&ledger->requests) > 0) {
        ledger->sink.replied(ledger->sink.context);
    }
}

/* ---- what comes: the handshake ---- */

static enum ledger_verdict on_challenge(struct client_ledger *ledger, const struct msg_CHALLENGE *challenge)
{
    if (ledger->phase == LEDGER_OPENING) {
        struct msg_ECHO echo = {.nonce = challenge->nonce};
        ledger->is_challenged = true;
        msg_ECHO_put(&ledger->control, &echo);
    }
    return LEDGER_GO_ON;
}

static void session_keep(struct client_ledger *ledger, const struct msg_WELCOME_CLIENT *welcome)
{
    ledger->is_welcomed = true;
    ledger->store = welcome->store;
    ledger->session = welcome->session;
    ledger->series = (uint32_t)welcome->series;
    ledger->is_new = welcome->is_new;
    ledger->ordinal_high = welcome->ordinal_high;
    ledger->live = welcome->live;
    ledger->untaken = welcome->untaken;
    ledger->failed = welcome->failed;
    if (welcome->digest.n == DIGEST_SIZE) {
        memcpy(ledger->digest, welcome->digest.p, DIGEST_SIZE);
    }
    if (!ledger->is_lost) { /* the application may look at what the first one said */
        buf_fini(&ledger->description);
        buf_put(&ledger->description, welcome->description.p, welcome->description.n);
    }
}

static void heartbeat_keep(struct client_ledger *ledger, uint64_t heartbeat_ms, uint64_t dead_ms)
{
    ledger->heartbeat_ms = heartbeat_ms > 0 ? heartbeat_ms : ledger->options.heartbeat_ms;
    ledger->dead_ms = dead_ms > 0 ? dead_ms : ledger->options.dead_ms;
}

static enum ledger_verdict on_welcome(struct client_ledger *ledger, const struct msg_WELCOME_CLIENT *welcome)
{
    if (ledger->phase != LEDGER_OPENING || ledger->options.is_operator) {
        return LEDGER_GO_ON;
    }
    if (welcome->series == 0 || welcome->session == 0) {
        return verdict(ledger, LEDGER_RECONNECT_LATER, "the broker's WELCOME names no session");
    }
    if (!ledger->is_welcomed || ledger->is_lost) {
        session_keep(ledger, welcome);
    } else if (!uuid_equal(&ledger->store, &welcome->store)) {
        return end_with(ledger, QUERN_CLOSED,
                        "the broker has another store than before: what was submitted to the old one is not there; "
                        "open a new client");
    }
    if (welcome->session != ledger->session) {
        return end_with(ledger, QUERN_CLOSED, "the session is gone; open a new client");
    }
    if (submits_welcome(&ledger->submits, welcome) != QUERN_OK) {
        return end_with(ledger, QUERN_CLOSED,
                        "the broker's store has gone back behind what it had accepted (an old copy of it?); open a "
                        "new client and look which tasks are there");
    }
    completions_welcome(&ledger->completions, welcome);
    ledger->series = ledger->submits.series;
    ledger->renewal = RENEWAL_NONE;
    ledger->is_lost = false;
    ledger->epoch = (uint32_t)welcome->epoch;
    ledger->is_ending = welcome->is_ending;
    heartbeat_keep(ledger, welcome->heartbeat_ms, welcome->dead_ms);
    ledger->phase = LEDGER_UP;
    return LEDGER_GO_ON;
}

static enum ledger_verdict on_welcome_operator(struct client_ledger *ledger, const struct msg_WELCOME_OPERATOR *welcome)
{
    if (ledger->phase == LEDGER_OPENING && ledger->options.is_operator) {
        ledger->is_welcomed = true;
        ledger->store = welcome->store;
        ledger->epoch = (uint32_t)welcome->epoch;
        heartbeat_keep(ledger, welcome->heartbeat_ms, welcome->dead_ms);
        ledger->phase = LEDGER_UP;
    }
    return LEDGER_GO_ON;
}

/* The broker that had the volatile session in its memory has ended, or ended the session. What it held is lost and told
 * so; what it never saw goes on in a new one. */
static enum ledger_verdict session_lose(struct client_ledger *ledger, const char *text)
{
    struct buf why = {0};
    buf_printf(&why, "it was lost with its session: %s", text);
    buf_put_u8(&why, 0);
    struct unfinished unfinished = {0};
    unfinished_move(&unfinished, &ledger->submits.unfinished);
    ledger->is_lost = true;
    ledger->losses++;
    ledger->renewal = RENEWAL_NONE;
    why_set(ledger, bytes_text((const char *)why.p));
    buf_fini(&why);
    completions_lose(&ledger->completions);
    submits_lose(&ledger->submits);
    ledger->sink.session_lost(ledger->sink.context, &unfinished, ledger->why);
    unfinished_fini(&unfinished);
    return LEDGER_RECONNECT;
}

/* What the broker said, or in our words if it only named a code. */
static struct bytes said(struct bytes text, enum quern_err code)
{
    return text.n > 0 && text.p[0] != 0 ? text : bytes_text(quern_err_text(code));
}

static enum ledger_verdict on_denied(struct client_ledger *ledger, const struct msg_DENIED *denied)
{
    enum quern_err code = (enum quern_err)denied->code;
    char *text = bytes_dup_text(said(denied->text, code));
    enum ledger_verdict what = LEDGER_END;
    if (code == QUERN_DRAINING || code == QUERN_NEED_HELLO) {
        what = verdict(ledger, LEDGER_RECONNECT_LATER, text);
    } else if (code == QUERN_UNSUPPORTED && ledger->options.may_be_volatile && !ledger->options.is_volatile) {
        ledger->options.is_volatile = ledger->submits.is_volatile = true;
        what = verdict(ledger, LEDGER_RECONNECT, text);
    } else if (code == QUERN_UNKNOWN && ledger->options.is_volatile && ledger->is_welcomed && !ledger->is_lost) {
        what = session_lose(ledger, text);
    } else {
        /* The session is gone, or has another owner, since we were welcomed: this client cannot be used any more. If
         * it was to be closed, the answer to that was lost with the broker, and it is. */
        if (code == QUERN_UNKNOWN && ledger->is_welcomed && requests_session_gone(&ledger->requests) > 0) {
            ledger->sink.replied(ledger->sink.context);
        }
        code = code == QUERN_UNKNOWN && ledger->is_welcomed ? QUERN_CLOSED : code;
        code = code == QUERN_IN_USE && ledger->is_welcomed ? QUERN_TAKEN_OVER : code;
        client_ledger_end(ledger, code == QUERN_OK ? QUERN_DENIED : code, text);
    }
    free(text);
    return what;
}

static enum ledger_verdict on_error(struct client_ledger *ledger, const struct msg_ERROR *error)
{
    if (error->code == QUERN_NEED_HELLO) {
        return verdict(ledger, LEDGER_RECONNECT, "the broker does not know this connection");
    }
    if (requests_refuse(&ledger->requests, error->kind, (enum quern_err)error->code, error->text) > 0) {
        ledger->sink.replied(ledger->sink.context);
        return LEDGER_GO_ON;
    }
    why_set(ledger, said(error->text, (enum quern_err)error->code));
    /* A message of the handshake or a submit that was not taken will never be answered: begin anew, not too fast. */
    bool is_stuck = ledger->phase == LEDGER_OPENING || error->kind == MSG_SUBMIT || error->kind == MSG_TAKEN;
    return is_stuck ? LEDGER_RECONNECT_LATER : LEDGER_GO_ON;
}

/* ---- what comes: submits, outcomes, requests ---- */

static void answer(struct client_ledger *ledger, uint64_t series, uint64_t first, uint64_t count, enum quern_err code,
                   uint64_t ordinal_high, struct bytes text, int64_t now_ms)
{
    if (series == ledger->series) {
        ledger->completions.remaining +=
            submits_answer(&ledger->submits, (uint32_t)first, (uint32_t)count, code, ordinal_high, text, now_ms);
    }
}

static void on_refused(struct client_ledger *ledger, const struct msg_REFUSED *refused, int64_t now_ms)
{
    enum quern_err code = refused->code == QUERN_OK ? QUERN_PROTOCOL : (enum quern_err)refused->code;
    answer(ledger, refused->series, refused->sequence, refused->count, code, refused->ordinal_high, refused->text,
           now_ms);
}

uint64_t outcome_payload_size(const struct item_outcome *outcome)
{
    return outcome->result.n + outcome->detail.n + outcome->report.n + outcome->args.n;
}

static enum ledger_verdict on_outcomes(struct client_ledger *ledger, struct list items)
{
    struct item_outcome outcome;
    while (item_outcome_next(&items, &outcome)) {
        if (!id_is_sound(outcome.task) || outcome.completion == 0) {
            return verdict(ledger, LEDGER_RECONNECT_LATER,
                           "the broker sent an outcome of no task, or without a number");
        }
        if (completions_receive(&ledger->completions, outcome.completion, outcome_payload_size(&outcome))) {
            submits_outcome(&ledger->submits, outcome.task);
            ledger->sink.outcome(ledger->sink.context, &outcome);
        }
    }
    return LEDGER_GO_ON;
}

static void on_ping(struct client_ledger *ledger, const struct msg_PING *ping)
{
    struct msg_PONG pong = {.number = ping->number};
    msg_PONG_put(&ledger->control, &pong);
}

static void on_pong(struct client_ledger *ledger, const struct msg_PONG *pong)
{
    if (ledger->barrier_number != 0 && pong->number >= ledger->barrier_number) {
        ledger->barrier_is_due = false;
        ledger->barrier_is_passed = true;
    }
}

static void on_reply(struct client_ledger *ledger, const struct msg_REPLY *reply)
{
    const struct request *request = requests_reply(&ledger->requests, reply);
    if (request == NULL) {
        return;
    }
    uint64_t id;
    uint64_t session;
    if (request->kind == MSG_RETRY && request->code == QUERN_OK &&
        reply_retry_read(buf_bytes(&request->body), &id, &session) && session == ledger->session) {
        ledger->completions.remaining++; /* a task of this session that no submit of ours announced */
        submits_expect(&ledger->submits, id, 0);
    }
    ledger->sink.replied(ledger->sink.context);
}

/* What only a welcomed client may be told. */
static enum ledger_verdict on_message_up(struct client_ledger *ledger, const struct message *message, int64_t now_ms)
{
    switch (message->kind) {
    case MSG_ACCEPTED:
        answer(ledger, message->ACCEPTED.series, message->ACCEPTED.sequence, message->ACCEPTED.count, QUERN_OK, 0,
               bytes_text(""), now_ms);
        break;
    case MSG_REFUSED:
        on_refused(ledger, &message->REFUSED, now_ms);
        break;
    case MSG_FORGOTTEN:
        answer(ledger, message->FORGOTTEN.series, message->FORGOTTEN.sequence, message->FORGOTTEN.count,
               QUERN_FORGOTTEN, 0, bytes_text("it was done, and its outcome is deleted"), now_ms);
        break;
    case MSG_OUTCOME:
        return on_outcomes(ledger, message->OUTCOME.items);
    case MSG_CREDIT:
        submits_credit(&ledger->submits, &message->CREDIT);
        break;
    case MSG_REPLY:
        on_reply(ledger, &message->REPLY);
        break;
    default: /* progress, and what is meant for others */
        break;
    }
    return LEDGER_GO_ON;
}

static enum ledger_verdict on_message(struct client_ledger *ledger, const struct message *message, int64_t now_ms)
{
    switch (message->kind) {
    case MSG_CHALLENGE:
        return on_challenge(ledger, &message->CHALLENGE);
    case MSG_WELCOME_CLIENT:
        return on_welcome(ledger, &message->WELCOME_CLIENT);
    case MSG_WELCOME_OPERATOR:
        return on_welcome_operator(ledger, &message->WELCOME_OPERATOR);
    case MSG_DENIED:
        return on_denied(ledger, &message->DENIED);
    case MSG_BYE:
        return verdict(ledger, LEDGER_RECONNECT_LATER, "the broker said goodbye");
    case MSG_ERROR:
        return on_error(ledger, &message->ERROR);
    case MSG_PING:
        on_ping(ledger, &message->PING);
        return LEDGER_GO_ON;
    case MSG_PONG:
        on_pong(ledger, &message->PONG);
        return LEDGER_GO_ON;
    default:
        return ledger->phase == LEDGER_UP ? on_message_up(ledger, message, now_ms) : LEDGER_GO_ON;
    }
}

static void unsupported_put(struct client_ledger *ledger, uint64_t kind)
{
    struct msg_ERROR error = {
        .code = QUERN_UNSUPPORTED, .kind = kind & UINT32_MAX, .text = bytes_text("this client does not know it")};
    msg_ERROR_put(&ledger->control, &error);
}

static enum ledger_verdict messages_read(struct client_ledger *ledger, struct cursor *cursor, int64_t now_ms)
{
    for (;;) {
        struct message message;
        uint64_t unknown = 0;
        const char *why = "";
        enum ledger_verdict what = LEDGER_GO_ON;
        switch (message_next(cursor, &message, &unknown, &why)) {
        case QUERN_OK:
            what = on_message(ledger, &message, now_ms);
            break;
        case QUERN_END:
            return LEDGER_GO_ON;
        case QUERN_UNSUPPORTED:
            unsupported_put(ledger, unknown);
            break;
        default:
            what = verdict(ledger, LEDGER_RECONNECT_LATER, why);
            break;
        }
        if (what != LEDGER_GO_ON) {
            return what;
        }
    }
}

enum ledger_verdict client_ledger_frame(struct client_ledger *ledger, struct bytes frame, int64_t now_ms)
{
    uint32_t generation = 0;
    struct cursor cursor;
    if (ledger->phase == LEDGER_ENDED) {
        return LEDGER_END;
    }
    if (ledger->phase == LEDGER_DOWN) {
        return LEDGER_GO_ON;
    }
    switch (frame_open(frame, &generation, &cursor)) {
    case QUERN_OK:
        break;
    case QUERN_VERSION:
        return end_with(ledger, QUERN_VERSION, "the broker speaks a newer protocol; use a newer quern here");
    default:
        return verdict(ledger, LEDGER_RECONNECT_LATER, "the broker sent something that is not a frame");
    }
    if (generation != ledger->generation) {
        return LEDGER_GO_ON;
    }
    ledger->heard_ms = now_ms;
    return messages_read(ledger, &cursor, now_ms);
}

/* ---- time ---- */

static int64_t dead_at(const struct client_ledger *ledger)
{
    return ledger->heard_ms + (int64_t)ledger->dead_ms;
}

static int64_t ping_at(const struct client_ledger *ledger)
{
    return ledger->sent_ms + (int64_t)ledger->heartbeat_ms;
}

/* True: a fresh series is to be asked for now. */
static bool renewal_step(struct client_ledger *ledger)
{
    if (ledger->phase != LEDGER_UP || ledger->submits.count > 0 ||
        ledger->submits.next <= ledger->options.series_renew_at) {
        return false;
    }
    if (ledger->renewal == RENEWAL_NONE) {
        ledger->renewal = RENEWAL_FLUSHING;
        client_ledger_barrier(ledger);
    } else if (ledger->renewal == RENEWAL_FLUSHING && ledger->barrier_is_passed) {
        if (ledger->completions.fresh.count == 0) {
            ledger->renewal = RENEWAL_OPENING;
            return true;
        }
        client_ledger_barrier(ledger); /* something was taken meanwhile */
    }
    return false;
}

enum ledger_verdict client_ledger_tick(struct client_ledger *ledger, int64_t now_ms)
{
    if (ledger->phase == LEDGER_ENDED) {
        return LEDGER_END;
    }
    if (ledger->phase != LEDGER_DOWN && now_ms >= dead_at(ledger)) {
        return verdict(ledger, LEDGER_RECONNECT_LATER, "the broker is silent");
    }
    if (renewal_step(ledger)) {
        return verdict(ledger, LEDGER_RECONNECT, "half of the series is used up: asking for a fresh one");
    }
    return LEDGER_GO_ON;
}

int64_t client_ledger_wake_ms(const struct client_ledger *ledger)
{
    if (ledger->phase == LEDGER_ENDED || ledger->phase == LEDGER_DOWN) {
        return INT64_MAX;
    }
    int64_t at = dead_at(ledger);
    if (ledger->phase == LEDGER_UP) {
        int64_t again_at = submits_wake_ms(&ledger->submits);
        at = ping_at(ledger) < at ? ping_at(ledger) : at;
        at = again_at < at ? again_at : at;
    }
    return at;
}

/* ---- what goes ---- */

static void hello_operator_write(struct client_ledger *ledger, struct buf *frame)
{
    struct msg_HELLO_OPERATOR hello = {
        .instance = ledger->options.instance,
        .host = bytes_text(ledger->options.host),
        .pid = ledger->options.pid,
        .program = bytes_text(ledger->options.program),
    };
    msg_HELLO_OPERATOR_put(frame, &hello);
}

static void hello_client_write(struct client_ledger *ledger, struct buf *frame)
{
    struct buf ranges = {0};
    bool is_resume = ledger->is_welcomed && !ledger->is_lost;
    struct msg_HELLO_CLIENT hello = {
        .instance = ledger->options.instance,
        .host = bytes_text(ledger->options.host),
        .pid = ledger->options.pid,
        .program = bytes_text(ledger->options.program),
        .session = is_resume ? ledger->session : 0,
        .series = is_resume && ledger->renewal != RENEWAL_OPENING ? ledger->series : 0,
        .name = bytes_text(ledger->options.session),
        .description = is_resume ? (struct bytes){NULL, 0} : buf_bytes(&ledger->description),
        .take_over = ledger->options.take_over && !ledger->is_welcomed,
        .is_volatile = ledger->options.is_volatile,
        .must_exist = is_resume || (ledger->options.must_exist && !ledger->is_lost),
        .keep = ledger->options.keep,
        .want_args = ledger->options.want_args,
        .take_short = true,
        .expire_ms = ledger->options.expire_ms,
    };
    completions_hello(&ledger->completions, is_resume, &hello, &ranges);
    msg_HELLO_CLIENT_put(frame, &hello);
    buf_fini(&ranges);
}

static void hello_write(struct client_ledger *ledger, struct buf *frame)
{
    ledger->hello_is_due = false;
    if (ledger->options.is_operator) {
        hello_operator_write(ledger, frame);
    } else {
        hello_client_write(ledger, frame);
    }
}

static void ping_write(struct client_ledger *ledger, struct buf *frame)
{
    struct msg_PING ping = {.number = ++ledger->ping_number};
    msg_PING_put(frame, &ping);
}

static bool up_has_news(const struct client_ledger *ledger, int64_t now_ms)
{
    return ledger->requests.unsent_count > 0 || submits_has_news(&ledger->submits, now_ms) ||
           completions_has_news(&ledger->completions) || ledger->bye_is_due ||
           (ledger->barrier_is_due && ledger->barrier_number == 0) || now_ms >= ping_at(ledger);
}

/* Submits before requests: a cancel may name one of them. */
static void up_write(struct client_ledger *ledger, struct buf *frame, int64_t now_ms)
{
    size_t empty = frame->n;
    if (!ledger->options.is_operator) {
        completions_write(&ledger->completions, frame);
    }
    submits_write(&ledger->submits, frame, now_ms);
    requests_write(&ledger->requests, frame);
    if (ledger->barrier_is_due && ledger->barrier_number == 0) {
        ping_write(ledger, frame);
        ledger->barrier_number = ledger->ping_number;
    }
    if (ledger->bye_is_due) {
        struct msg_BYE bye = {.code = QUERN_OK};
        msg_BYE_put(frame, &bye);
        ledger->bye_is_due = false;
    }
    if (frame->n == empty && now_ms >= ping_at(ledger)) {
        ping_write(ledger, frame);
    }
}

bool client_ledger_write(struct client_ledger *ledger, int64_t now_ms, struct buf *frame)
{
    if (ledger->phase != LEDGER_OPENING && ledger->phase != LEDGER_UP) {
        return false;
    }
    if (!ledger->hello_is_due && ledger->control.n == 0 &&
        (ledger->phase != LEDGER_UP || !up_has_news(ledger, now_ms))) {
        return false;
    }
    frame_begin(frame, ledger->generation);
    size_t empty = frame->n;
    if (ledger->hello_is_due) {
        hello_write(ledger, frame);
    }
    buf_put(frame, ledger->control.p, ledger->control.n);
    ledger->control.n = 0;
    if (ledger->phase == LEDGER_UP) {
        up_write(ledger, frame, now_ms);
    }
    if (frame->n == empty) {
        frame->n = 0;
        return false;
    }
    ledger->sent_ms = now_ms;
    return true;
}

/* ---- what the application does ---- */

bool client_ledger_has_room(const struct client_ledger *ledger)
{
    return ledger->submits.next <= ledger->options.series_renew_at &&
           ledger->submits.count < ledger->options.submit_count_max &&
           ledger->submits.bytes < ledger->options.submit_bytes_max;
}

enum quern_err client_ledger_submit(struct client_ledger *ledger, const struct msg_SUBMIT *head,
                                    const struct task_options *options, struct submit **submit, uint64_t *id_out)
{
    if (ledger->phase == LEDGER_ENDED || ledger->series == 0) {
        return QUERN_CLOSED;
    }
    return submits_add(&ledger->submits, head, options, submit, id_out);
}

enum quern_err client_ledger_submit_alike(struct client_ledger *ledger, struct submit **submit, uint64_t *id_out)
{
    if (ledger->phase == LEDGER_ENDED || ledger->series == 0) {
        return QUERN_CLOSED;
    }
    return submits_add_alike(&ledger->submits, submit, id_out);
}

void client_ledger_take(struct client_ledger *ledger, uint64_t completion, uint64_t size)
{
    completions_take(&ledger->completions, completion, size);
}

void client_ledger_want(struct client_ledger *ledger, bool is_wanted)
{
    ledger->completions.is_wanted = is_wanted;
}

uint64_t client_ledger_outstanding(const struct client_ledger *ledger)
{
    return ledger->completions.remaining + ledger->submits.count;
}

void client_ledger_barrier(struct client_ledger *ledger)
{
    ledger->barrier_is_due = true;
    ledger->barrier_is_passed = false;
    ledger->barrier_number = 0;
}

void client_ledger_bye(struct client_ledger *ledger)
{
    ledger->bye_is_due = true;
}

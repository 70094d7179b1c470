/*
 * client.c owns the model client: one process that opens a session, submits, takes outcomes and acknowledges them. It
 * is small and honest, and keeps in memory only what a process would lose when it dies. It must not know the core.
 * Written from the protocol's text. Start reading at sim_client_message.
 */
#include "common/check.h"
#include "oracle.h"
#include "real_client.h"
#include "world.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CREDIT_ALL (1u << 30)
#define EMPTY_LINE_EVERY 5u
#define ARGS_PAD_SIZE 3000u
#define RUN_COUNT_MAX 8u

#define GROW(items, count, cap)                                                                                        \
    do {                                                                                                               \
        if ((count) == (cap)) {                                                                                        \
            (cap) = (cap) ? (cap)*2 : 16;                                                                              \
            (items) = xrealloc((items), (cap) * sizeof *(items));                                                      \
        }                                                                                                              \
    } while (0)

struct client *sim_client_new(struct world *world, const char *session_name)
{
    struct client *client = xcalloc(1, sizeof *client);
    struct peer *peer = &client->peer;
    peer->world = world;
    peer->kind = PEER_CLIENT;
    GROW(world->peers, world->peer_count, world->peer_cap);
    world->peers[world->peer_count++] = peer;
    peer->serial = world->peer_count;
    memcpy(peer->instance.b, &peer->serial, sizeof peer->serial);
    peer->instance.b[15] = 0xc1;
    snprintf(client->session_name, sizeof client->session_name, "%s", session_name ? session_name : "");
    snprintf(peer->name, sizeof peer->name, "client%" PRIu64 "(%.32s)", peer->serial, client->session_name);
    return client;
}

void sim_client_free(struct client *client)
{
    buf_fini(&client->peer.out);
    sim_real_free(client);
    free(client->submits);
    free(client->took);
    free(client->requests);
    free(client);
}

/* ---- what was taken ---- */

static int by_number(const void *a, const void *b)
{
    uint64_t left = *(const uint64_t *)a;
    uint64_t right = *(const uint64_t *)b;
    return left < right ? -1 : left > right;
}

/* The prefix, and the ranges beyond it and beyond *after into ranges (encoded items), as many as one message may hold;
 * returns how many. *after: the last of them. */
static uint32_t taken_ranges(const struct client *client, uint64_t *prefix_out, uint64_t *after, struct buf *ranges)
{
    uint64_t *numbers = xcalloc(client->took_count + 1, sizeof *numbers);
    size_t count = 0;
    for (size_t i = 0; i < client->took_count; i++) {
        if (client->took[i].is_taken && client->took[i].completion > client->acked_base) {
            numbers[count++] = client->took[i].completion;
        }
    }
    qsort(numbers, count, sizeof *numbers, by_number);
    uint64_t prefix = client->acked_base;
    uint32_t range_count = 0;
    size_t i = 0;
    while (i < count && numbers[i] == prefix + 1) {
        prefix = numbers[i++];
    }
    while (i < count && numbers[i] <= *after) {
        i++;
    }
    while (i < count && range_count < TAKEN_RANGE_COUNT_MAX) {
        struct item_range range = {.first = numbers[i], .last = numbers[i]};
        while (++i < count && numbers[i] == range.last + 1) {
            range.last = numbers[i];
        }
        item_range_put(ranges, &range);
        range_count++;
        *after = range.last;
    }
    free(numbers);
    *prefix_out = prefix;
    return range_count;
}

void sim_client_hello(struct client *client, struct buf *out)
{
    struct buf ranges = {0};
    struct msg_HELLO_CLIENT hello = {.instance = client->peer.instance,
                                     .host = bytes_text("simhost"),
                                     .pid = client->peer.serial,
                                     .program = bytes_text("model"),
                                     .take_over = client->take_over,
                                     .is_volatile = client->is_volatile,
                                     .keep = client->keep,
                                     .expire_ms = client->expire_ms,
                                     .credit_bytes = CREDIT_ALL,
                                     .take_short = client->peer.serial % 2 == 0};
    if (client->was_welcomed) {
        hello.session = client->session;
        hello.series = client->series;
        uint64_t after = 0;
        hello.taken.count = taken_ranges(client, &hello.taken_prefix, &after, &ranges);
        hello.taken.items = buf_bytes(&ranges);
        client->peer.wire->taken_prefix = hello.taken_prefix;
    } else if (client->session_name[0] != '\0') {
        hello.name = bytes_text(client->session_name);
    }
    size_t untaken = sim_client_untaken(client);
    client->granted = client->window == 0 ? CREDIT_ALL : client->window > untaken ? client->window - untaken : 0;
    client->arrived = 0;
    client->last_arrived = 0;
    hello.credit_count = client->granted;
    msg_HELLO_CLIENT_put(out, &hello);
    buf_fini(&ranges);
}

static void grant(struct client *client)
{
    if (client->window == 0 || !client->peer.is_welcomed) {
        return;
    }
    size_t untaken = sim_client_untaken(client);
    uint64_t total = untaken > client->window ? 0 : client->arrived + client->window - untaken;
    if (total > client->granted) {
        struct msg_CREDIT credit = {.count = total, .bytes = CREDIT_ALL};
        client->granted = total;
        msg_CREDIT_put(sim_peer_out(&client->peer), &credit);
        sim_peer_flush(&client->peer);
    }
}

void sim_client_acknowledge(struct client *client)
{
    if (client->real != NULL) {
        sim_real_write(client);
        return;
    }
    if (!client->peer.is_welcomed) {
        return; /* the next HELLO says it */
    }
    struct buf ranges = {0};
    struct msg_TAKEN taken = {0};
    uint64_t after = 0;
    do {
        ranges.n = 0;
        taken.ranges.count = taken_ranges(client, &taken.prefix, &after, &ranges);
        taken.ranges.items = buf_bytes(&ranges);
        msg_TAKEN_put(sim_peer_out(&client->peer), &taken);
    } while (taken.ranges.count == TAKEN_RANGE_COUNT_MAX);
    sim_peer_flush(&client->peer);
    buf_fini(&ranges);
    client->must_acknowledge = false;
}

static void take(struct client *client, struct took *took)
{
    took->is_taken = true;
    oracle_taken(client->peer.world, client, took);
    client->must_acknowledge = true;
    if (client->real != NULL) {
        sim_real_take(client, took);
    } else {
        grant(client);
    }
}

bool sim_client_take(struct client *client)
{
    for (size_t i = 0; i < client->took_count; i++) {
        if (!client->took[i].is_taken) {
            take(client, &client->took[i]);
            return true;
        }
    }
    return false;
}

void sim_client_take_at(struct client *client, uint64_t completion)
{
    for (size_t i = 0; i < client->took_count; i++) {
        if (client->took[i].completion == completion && !client->took[i].is_taken) {
            take(client, &client->took[i]);
        }
    }
}

size_t sim_client_untaken(const struct client *client)
{
    size_t count = 0;
    for (size_t i = 0; i < client->took_count; i++) {
        count += !client->took[i].is_taken;
    }
    return count;
}

const struct took *sim_client_took(const struct client *client, uint64_t task)
{
    for (size_t i = 0; i < client->took_count; i++) {
        if (client->took[i].task == task) {
            return &client->took[i];
        }
    }
    return NULL;
}

/* ---- submitting ---- */

uint64_t sim_client_task(const struct client *client, size_t sequence)
{
    return client->real != NULL ? client->submits[sequence - 1].task
                                : id_make((uint32_t)client->series, (uint32_t)sequence);
}

size_t sim_client_unanswered(const struct client *client)
{
    size_t count = 0;
    for (size_t i = 0; i < client->submit_count; i++) {
        count += client->submits[i].answer == ANSWER_NONE;
    }
    return count;
}

struct task_options sim_client_options(const struct spec *spec)
{
    struct task_options options = task_options_default();
    options.priority = spec->priority;
    options.at_most_once = spec->at_most_once;
    options.timeout_ms = spec->timeout_ms;
    options.memory_bytes = spec->memory_bytes;
    options.depth = spec->depth;
    options.expires_ms = spec->expires_ms;
    options.known = spec->known;
    if (spec->attempts > 1) {
        options.attempts = spec->attempts;
        options.retry_on = 1u << CAUSE_ERROR | 1u << CAUSE_TIMEOUT | 1u << CAUSE_MEMORY;
        options.backoff_ms = 20;
        options.backoff_cap_ms = 100;
    }
    return options;
}

void sim_client_args(struct buf *buf, const struct piece *submit)
{
    struct buf text = {0};
    buf_printf(&text, "%s", submit->work);
    if (submit->spec.big) {
        buf_put_u8(&text, '#');
        for (size_t i = 0; i < ARGS_PAD_SIZE; i++) {
            buf_put_u8(&text, (uint8_t)('a' + (submit->sequence + i) % 26));
        }
    }
    put_str(buf, buf_bytes(&text));
    buf_fini(&text);
}

static bool may_share_message(const struct piece *a, const struct piece *b)
{
    return a->spec.at_most_once == b->spec.at_most_once && a->spec.priority == b->spec.priority &&
           a->spec.delay_ms == b->spec.delay_ms && a->spec.expires_ms == b->spec.expires_ms &&
           a->spec.known == b->spec.known && a->spec.attempts == b->spec.attempts &&
           a->spec.timeout_ms == b->spec.timeout_ms && a->spec.memory_bytes == b->spec.memory_bytes &&
           a->spec.depth == b->spec.depth && a->spec.function == b->spec.function &&
           (b->spec.ordinal == 0 ? a->spec.ordinal == 0 : b->spec.predecessor == a->spec.ordinal);
}

static bool has_credit(const struct client *client)
{
    return client->sent_index < client->submit_count && client->sent_count < client->credit_count &&
           client->sent_bytes < client->credit_bytes;
}

static void put_item(struct client *client, struct run *run)
{
    struct piece *submit = &client->submits[client->sent_index++];
    struct buf args = {0};
    sim_client_args(&args, submit);
    struct item_submit item = {.args = buf_bytes(&args), .ordinal = submit->spec.ordinal};
    item_submit_put(run->out, &item);
    run->count++;
    client->sent_count++;
    client->sent_bytes += args.n;
    buf_fini(&args);
    oracle_submitted(client->peer.world, client, submit, sim_client_task(client, submit->sequence));
}

static void flush_submits(struct client *client)
{
    struct rng *rng = &client->peer.world->rng;
    while (client->peer.is_welcomed && has_credit(client)) {
        const struct piece *first = &client->submits[client->sent_index];
        struct buf options = {0};
        struct task_options wanted = sim_client_options(&first->spec);
        task_options_put(&options, &wanted);
        struct message head = {.kind = MSG_SUBMIT};
        head.SUBMIT = (struct msg_SUBMIT){.series = client->series,
                                          .sequence = first->sequence,
                                          .function = bytes_text(first->spec.function ? first->spec.function : "work"),
                                          .options = buf_bytes(&options),
                                          .delay_ms = first->spec.delay_ms,
                                          .predecessor = first->spec.predecessor};
        struct run run;
        run_open(&run, sim_peer_out(&client->peer), &head);
        put_item(client, &run);
        while (run.count < RUN_COUNT_MAX && has_credit(client) && rng_percent(rng, 60) &&
               may_share_message(&client->submits[client->sent_index - 1], &client->submits[client->sent_index])) {
            put_item(client, &run);
        }
        run_close(&run);
        buf_fini(&options);
        if (rng_percent(rng, 50)) {
            sim_peer_flush(&client->peer);
        }
    }
    sim_peer_flush(&client->peer);
}

void sim_client_submit(struct client *client, const struct spec *spec)
{
    if (client->real != NULL && !sim_real_has_room(client)) {
        return; /* the application waits */
    }
    GROW(client->submits, client->submit_count, client->submit_cap);
    struct piece *submit = &client->submits[client->submit_count++];
    *submit = (struct piece){.sequence = (uint32_t)client->submit_count};
    if (spec != NULL) {
        submit->spec = *spec;
    }
    if (submit->spec.ordinal != 0) {
        snprintf(submit->work, sizeof submit->work, "L%.32s:%" PRIu64, client->session_name, submit->spec.ordinal);
    } else if (submit->spec.nested > 0) {
        snprintf(submit->work, sizeof submit->work, "w%" PRIu64 ".%u!%u", client->peer.serial, submit->sequence,
                 submit->spec.nested);
    } else {
        snprintf(submit->work, sizeof submit->work, "w%" PRIu64 ".%u", client->peer.serial, submit->sequence);
    }
    if (client->real != NULL) {
        sim_real_submit(client, submit);
    } else {
        flush_submits(client);
    }
}

static uint64_t line_before(uint64_t line)
{
    line--;
    return line % EMPTY_LINE_EVERY == 0 && line > 0 ? line - 1 : line;
}

void sim_client_line(struct client *client)
{
    if (client->line_rewind) {
        if (!client->was_welcomed || sim_client_unanswered(client) > 0) {
            return;
        }
        client->line_next = client->ordinal_high + 1;
        client->line_rewind = false;
    }
    if (client->real != NULL && !sim_real_has_room(client)) {
        return;
    }
    if (client->line_next % EMPTY_LINE_EVERY == 0) {
        client->line_next++; /* an empty line: it is counted, not submitted */
    }
    if (client->line_next <= client->line_count) {
        struct spec spec = {.ordinal = client->line_next, .predecessor = line_before(client->line_next)};
        client->line_next++;
        sim_client_submit(client, &spec);
    }
}

/* ---- asking ---- */

struct asked *sim_client_ask(struct client *client, enum message_kind kind, uint64_t task)
{
    GROW(client->requests, client->request_count, client->request_cap);
    struct asked *request = &client->requests[client->request_count++];
    *request = (struct asked){.number = client->request_count, .kind = kind, .task = task};
    return request;
}

void sim_client_cancel(struct client *client, uint64_t task, bool force)
{
    if (client->real != NULL) {
        sim_real_cancel(client, task, force);
    } else if (client->peer.is_welcomed) {
        struct asked *request = sim_client_ask(client, MSG_CANCEL, task);
        oracle_cancelling(client->peer.world, task);
        struct msg_CANCEL cancel = {.request = request->number, .task = task, .force = force};
        msg_CANCEL_put(sim_peer_out(&client->peer), &cancel);
        sim_peer_flush(&client->peer);
    }
}

void sim_client_close(struct client *client, bool cancel)
{
    if (client->real != NULL) {
        sim_real_close(client, cancel);
    } else if (client->peer.is_welcomed) {
        struct asked *request = sim_client_ask(client, MSG_CLOSE, 0);
        oracle_closing(client->peer.world, client->session);
        struct msg_CLOSE close = {.request = request->number, .session = client->session, .cancel = cancel};
        msg_CLOSE_put(sim_peer_out(&client->peer), &close);
        sim_peer_flush(&client->peer);
    }
}

const struct asked *sim_client_request(const struct client *client)
{
    return client->request_count == 0 ? NULL : &client->requests[client->request_count - 1];
}

/* ---- reading ---- */

static void read_welcome(struct client *client, const struct msg_WELCOME_CLIENT *welcome)
{
    struct world *world = client->peer.world;
    world_say(world,
              "%s is welcome: session %" PRIu64 " series %" PRIu64 " high %" PRIu64 " acked %" PRIu64
              " ordinal %" PRIu64,
              client->peer.name, welcome->session, welcome->series, welcome->submitted_high, welcome->acked_prefix,
              welcome->ordinal_high);
    if (client->was_welcomed) {
        WORLD_CHECK(world, client->session == welcome->session && client->series == welcome->series,
                    "%s resumed session %" PRIu64 " series %" PRIu64 " and is welcomed to others", client->peer.name,
                    client->session, client->series);
        WORLD_CHECK(world, client->ordinal_high <= welcome->ordinal_high, "%s: the highest ordinal fell",
                    client->peer.name);
    } else {
        client->line_next = welcome->ordinal_high + 1;
        WORLD_CHECK(world, welcome->submitted_high == 0, "%s: a fresh series is not empty", client->peer.name);
    }
    WORLD_CHECK(world, welcome->is_volatile == client->is_volatile, "%s: the session is of the other durability",
                client->peer.name);
    client->was_welcomed = true;
    client->peer.is_welcomed = true;
    client->session = welcome->session;
    client->series = welcome->series;
    client->ordinal_high = welcome->ordinal_high;
    client->epoch = (uint32_t)welcome->epoch;
    client->acked_base = welcome->acked_prefix > client->acked_base ? welcome->acked_prefix : client->acked_base;
    client->peer.heartbeat_ms = (int64_t)welcome->heartbeat_ms;
    client->peer.dead_ms = (int64_t)welcome->dead_ms;
    client->sent_count = 0;
    client->sent_bytes = 0;
    client->credit_count = welcome->credit_count;
    client->credit_bytes = welcome->credit_bytes;
    client->sent_index = 0;
    while (client->sent_index < client->submit_count && client->submits[client->sent_index].answer != ANSWER_NONE) {
        client->sent_index++;
    }
    client->high_at_welcome = welcome->submitted_high;
    WORLD_CHECK(world, welcome->submitted_high >= client->sent_index && welcome->submitted_high <= client->submit_count,
                "%s: %zu submits answered, %zu made, submitted_high says %" PRIu64, client->peer.name,
                client->sent_index, client->submit_count, welcome->submitted_high);
    client->line_rewind = client->line_rewind || client->line_count > 0;
    flush_submits(client);
    grant(client);
}

static void read_answer(struct client *client, uint64_t series, uint64_t sequence, uint64_t count, enum answer answer,
                        enum quern_err code)
{
    struct world *world = client->peer.world;
    world_say(world, "%s: %s %" PRIu64 " + %" PRIu64 " %s", client->peer.name,
              answer == ANSWER_ACCEPTED  ? "accepted"
              : answer == ANSWER_REFUSED ? "refused"
                                         : "forgotten",
              sequence, count, answer == ANSWER_REFUSED ? quern_err_word(code) : "");
    WORLD_CHECK(world, series == client->series && sequence >= 1 && sequence + count - 1 <= client->submit_count,
                "%s: answer to what it never submitted", client->peer.name);
    for (uint64_t i = sequence - 1; i < sequence - 1 + count; i++) {
        struct piece *submit = &client->submits[i];
        if (submit->answer != ANSWER_NONE && client->peer.is_odd) {
            continue; /* somebody has said it again in its name: the first answer is the one */
        }
        WORLD_CHECK(world, submit->answer == ANSWER_NONE || submit->answer == answer,
                    "%s: submit %" PRIu64 " has two different answers", client->peer.name, i + 1);
        submit->answer = answer;
        submit->code = code;
        if (answer == ANSWER_ACCEPTED) {
            oracle_accepted(world, sim_client_task(client, i + 1));
            client->ordinal_high =
                submit->spec.ordinal > client->ordinal_high ? submit->spec.ordinal : client->ordinal_high;
        } else if (answer == ANSWER_REFUSED && submit->spec.ordinal != 0) {
            client->line_rewind = true;
        }
    }
}

void sim_client_came(struct client *client, struct took took)
{
    GROW(client->took, client->took_count, client->took_cap);
    client->took[client->took_count++] = took;
}

static void read_outcome(struct client *client, const struct item_outcome *item)
{
    struct world *world = client->peer.world;
    WORLD_CHECK(world, item->completion > client->last_arrived, "%s: completion %" PRIu64 " comes after %" PRIu64,
                client->peer.name, item->completion, client->last_arrived);
    client->last_arrived = item->completion;
    client->arrived++;
    WORLD_CHECK(world, client->arrived <= client->granted, "%s: %" PRIu64 " outcomes, credit for %" PRIu64,
                client->peer.name, client->arrived, client->granted);
    for (size_t i = 0; i < client->took_count; i++) {
        const struct took *took = &client->took[i];
        if (took->completion == item->completion) {
            WORLD_CHECK(world, took->task == item->task && took->state == item->state && took->cause == item->cause,
                        "%s: completion %" PRIu64 " comes again as something else", client->peer.name,
                        item->completion);
            client->must_acknowledge = client->must_acknowledge || took->is_taken;
            grant(client); /* it came again and was dropped: there is room for another */
            return;
        }
        WORLD_CHECK(world, took->task != item->task, "%s: task %" PRIx64 " has two outcomes", client->peer.name,
                    item->task);
    }
    uint32_t sequence = id_sequence(item->task);
    WORLD_CHECK(world,
                id_series(item->task) != client->series || sequence <= client->high_at_welcome ||
                    client->submits[sequence - 1].answer == ANSWER_ACCEPTED,
                "%s: the outcome of %" PRIx64 " comes before its acceptance", client->peer.name, item->task);
    world_say(world, "%s: outcome %" PRIu64 " of %" PRIx64 ": %s %s", client->peer.name, item->completion, item->task,
              task_state_word((unsigned)item->state), cause_word((unsigned)item->cause));
    sim_client_came(client, (struct took){.completion = item->completion,
                                          .task = item->task,
                                          .state = (uint32_t)item->state,
                                          .cause = (uint32_t)item->cause});
}

static void read_reply(struct client *client, const struct msg_REPLY *reply)
{
    for (size_t i = 0; i < client->request_count; i++) {
        struct asked *request = &client->requests[i];
        if (request->number == reply->request) {
            WORLD_CHECK(client->peer.world, !request->is_answered || client->peer.is_odd,
                        "%s: request %" PRIu64 " answered twice", client->peer.name, request->number);
            request->is_answered = true;
            request->code = (enum quern_err)reply->code;
            world_say(client->peer.world, "%s: %s of %" PRIx64 " answered %s", client->peer.name,
                      message_word(request->kind), request->task, quern_err_word(request->code));
            return;
        }
    }
    world_fail(client->peer.world, "%s: reply to nothing", client->peer.name);
}

/* Its volatile session is gone: what was accepted and has no outcome here is lost, and it knows. */
void sim_client_denied(struct client *client, enum quern_err code)
{
    if (!client->is_volatile || !client->was_welcomed || code != QUERN_UNKNOWN) {
        return;
    }
    for (size_t i = 1; i <= client->submit_count; i++) {
        uint64_t task = sim_client_task(client, i);
        if (client->submits[i - 1].answer == ANSWER_ACCEPTED && sim_client_took(client, task) == NULL) {
            oracle_lost(client->peer.world, client, task);
        }
    }
}

static void must_be_welcome(struct client *client, const struct message *message)
{
    WORLD_CHECK(client->peer.world, client->peer.is_welcomed, "%s: %s before WELCOME", client->peer.name,
                message_word(message->kind));
}

void sim_client_message(struct client *client, const struct message *message)
{
    switch (message->kind) {
    case MSG_CHALLENGE: {
        struct msg_ECHO echo = {.nonce = message->CHALLENGE.nonce};
        msg_ECHO_put(sim_peer_out(&client->peer), &echo);
        sim_peer_flush(&client->peer);
        return;
    }
    case MSG_WELCOME_CLIENT:
        read_welcome(client, &message->WELCOME_CLIENT);
        return;
    case MSG_PONG:
        return;
    default:
        break;
    }
    must_be_welcome(client, message);
    switch (message->kind) {
    case MSG_ACCEPTED:
        read_answer(client, message->ACCEPTED.series, message->ACCEPTED.sequence, message->ACCEPTED.count,
                    ANSWER_ACCEPTED, QUERN_OK);
        return;
    case MSG_REFUSED:
        read_answer(client, message->REFUSED.series, message->REFUSED.sequence, message->REFUSED.count, ANSWER_REFUSED,
                    (enum quern_err)message->REFUSED.code);
        return;
    case MSG_FORGOTTEN:
        read_answer(client, message->FORGOTTEN.series, message->FORGOTTEN.sequence, message->FORGOTTEN.count,
                    ANSWER_FORGOTTEN, QUERN_OK);
        return;
    case MSG_OUTCOME: {
        struct list items = message->OUTCOME.items;
        struct item_outcome item;
        while (item_outcome_next(&items, &item)) {
            read_outcome(client, &item);
        }
        return;
    }
    case MSG_CREDIT:
        client->credit_count = message->CREDIT.count;
        client->credit_bytes = message->CREDIT.bytes;
        flush_submits(client);
        return;
    case MSG_REPLY:
        read_reply(client, &message->REPLY);
        return;
    case MSG_PROGRESS:
        return;
    default:
        world_fail(client->peer.world, "%s is sent a %s", client->peer.name, message_word(message->kind));
    }
}

/*
 * oracle_frames.c owns the comparison of what the broker says with what is on disk.
 * It must not know the core's insides; of peers it reads what is public.
 * Start reading at oracle_sent.
 */
#include "facts.h"

#include "common/check.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* To and fro more often than this, it leads nowhere. */
#define DISPATCH_COUNT_MAX 5000u

/* Its numbers are given once, whatever dies: they are reserved on disk before anybody hears them. */
static void sent_welcome_volatile(struct world *world, const struct wire *wire,
                                  const struct msg_WELCOME_CLIENT *welcome)
{
    struct ledger *ledger = ledger_of(world, welcome->session);
    const struct meta_row *meta = memstore_meta(world->disk);
    WORLD_CHECK(world, welcome->session < meta->session_next && welcome->series < meta->series_next,
                "%s is welcomed with numbers that are not reserved on disk", wire->maker->name);
    WORLD_CHECK(world,
                memstore_session(world->disk, welcome->session) == NULL &&
                    memstore_series(world->disk, welcome->series) == NULL,
                "%s is welcomed to a volatile session whose number is on disk", wire->maker->name);
    WORLD_CHECK(world, !ledger->is_volatile || ledger->epoch == memstore_epoch(world->disk),
                "%s is welcomed to a volatile session of a former broker", wire->maker->name);
    WORLD_CHECK(world, ledger->is_volatile || ledger->completion_last == 0,
                "%s is welcomed to a volatile session that was durable", wire->maker->name);
    ledger->is_volatile = true;
    ledger->epoch = memstore_epoch(world->disk);
}

static void sent_welcome(struct world *world, struct wire *wire, const struct msg_WELCOME_CLIENT *welcome)
{
    if (welcome->is_volatile) {
        sent_welcome_volatile(world, wire, welcome);
        return;
    }
    const struct session_row *row = memstore_session(world->disk, welcome->session);
    const struct series_row *series = memstore_series(world->disk, welcome->series);
    if (row == NULL && ledger_of(world, welcome->session)->is_gone) {
        return; /* nothing was left of it, and it went with the same batch: the next submit is told so */
    }
    if (row != NULL && series == NULL && !uuid_equal(&row->owner, &wire->maker->instance)) {
        return; /* others owned it within the same batch: it is told so next */
    }
    WORLD_CHECK(world, row != NULL && series != NULL, "%s is welcomed to a session or series that is not on disk",
                wire->maker->name);
    WORLD_CHECK(world, uuid_equal(&series->instance, &wire->maker->instance) && series->session == welcome->session,
                "%s is welcomed to a series that is not its own", wire->maker->name);
    bool is_told_truth = welcome->submitted_high <= series->submitted_high &&
                         welcome->ordinal_high <= row->ordinal_high &&
                         welcome->completion_last <= row->completion_last && welcome->acked_prefix <= row->acked_prefix;
    WORLD_CHECK(world, is_told_truth, "%s is told in WELCOME what is not on disk", wire->maker->name);
    wire->welcomed_at = world->sending_for;
}

static void sent_accepted(struct world *world, const struct msg_ACCEPTED *accepted)
{
    for (uint64_t i = 0; i < accepted->count; i++) {
        uint64_t id = id_make((uint32_t)accepted->series, (uint32_t)(accepted->sequence + i));
        const struct job *job = job_of(world, id);
        WORLD_CHECK(world, job != NULL && (job->is_volatile || job->has_fate || memstore_task(world->disk, id) != NULL),
                    "ACCEPTED of %" PRIx64 " leaves, and it is not on disk", id);
    }
}

static void sent_refused(struct world *world, const struct wire *wire, const struct msg_REFUSED *refused)
{
    world->oracle->counts.refused_full += refused->code == QUERN_FULL ? refused->count : 0;
    world->oracle->counts.refused_disk += refused->code == QUERN_DISK ? refused->count : 0;
    if (wire->maker->kind != PEER_CLIENT) {
        return;
    }
    const struct series_row *series = memstore_series(world->disk, refused->series);
    const struct client *client = (const struct client *)(const void *)wire->maker;
    const struct session_row *row = memstore_session(world->disk, client->session);
    if (series == NULL && (row == NULL || !uuid_equal(&row->owner, &client->peer.instance))) {
        return; /* the session is gone or has other owners, and its series is gone too: who resumes is told so */
    }
    for (uint64_t i = 0; i < refused->count; i++) {
        uint64_t code = 0;
        WORLD_CHECK(world,
                    series != NULL && series_row_refused(series, refused->sequence + i, &code) && code == refused->code,
                    "REFUSED (%s) of %" PRIu64 "-%" PRIu64 " leaves, and it is not on disk (%s)",
                    quern_err_word((enum quern_err)refused->code), refused->series, refused->sequence + i,
                    series == NULL ? "no such series" : "not among its refused");
        WORLD_CHECK(world, refused->code != QUERN_DUPLICATE, "an honest client is told that its line is a duplicate");
    }
}

/* It is what was sent first that holds from then on. */
static void note_volatile(struct world *world, struct job *job, const struct item_outcome *item)
{
    const struct outcome_row row = {.id = item->task,
                                    .session = job->session,
                                    .completion = item->completion,
                                    .state = (uint32_t)item->state,
                                    .cause = (uint32_t)item->cause,
                                    .kind = item->kind,
                                    .message = item->message,
                                    .result = item->result};
    WORLD_CHECK(world, !job->is_lost && job->epoch == memstore_epoch(world->disk),
                "outcome of %" PRIx64 " leaves, and it was lost with its broker", item->task);
    if (!job->has_fate) {
        fate_note(world, job, &row);
    }
}

static void sent_outcome(struct world *world, const struct wire *wire, const struct item_outcome *item)
{
    struct job *job = job_of(world, item->task);
    if (job != NULL && job->is_volatile) {
        note_volatile(world, job, item);
    }
    WORLD_CHECK(world, job != NULL && job->has_fate, "outcome of %" PRIx64 " leaves, and it is not on disk",
                item->task);
    uint64_t hash = fate_hash((uint32_t)item->state, (uint32_t)item->cause, item->result, item->kind, item->message);
    WORLD_CHECK(world,
                job->completion == item->completion && job->state == item->state && job->cause == item->cause &&
                    job->fate_hash == hash,
                "outcome of %" PRIx64 " leaves and is another than the one on disk", item->task);
    WORLD_CHECK(world, item->completion > wire->taken_prefix,
                "outcome of %" PRIx64 " leaves to %s, whose HELLO says that "
                "it was taken",
                item->task, wire->maker->name);
    WORLD_CHECK(world, job->acked_at == 0 || job->acked_at > wire->welcomed_at,
                "outcome of %" PRIx64 " leaves to %s, and its acknowledgement was on disk when that was welcomed",
                item->task, wire->maker->name);
}

/* Whatever the verdict: after it the worker forgets, so nothing on disk may still wait for this attempt. */
static void sent_release(struct world *world, struct token token, bool is_recorded, const char *what)
{
    const struct task_row *row = memstore_task(world->disk, token.task);
    const struct job *job = job_of(world, token.task);
    bool is_waited_for = row != NULL && (row->state == TASK_LEASED || row->state == TASK_RUNNING) &&
                         row->epoch == token.epoch && row->attempt == token.attempt;
    WORLD_CHECK(world, !is_waited_for, "%s of %" PRIx64 " (%u.%u) leaves, and the disk still waits for it", what,
                token.task, token.epoch, token.attempt);
    if (is_recorded && !(job != NULL && job->is_volatile)) {
        bool is_older = row != NULL && token_compare((struct token){row->id, row->epoch, row->attempt}, token) < 0;
        WORLD_CHECK(world, job != NULL && (job->has_fate || (row != NULL && !is_older)),
                    "%s of %" PRIx64 " (%u.%u) says recorded, and the disk does not know", what, token.task,
                    token.epoch, token.attempt);
    }
    world->oracle->counts.receipts++;
}

static void sent_dispatch(struct world *world, const struct item_dispatch *item)
{
    struct token token = {item->task, memstore_epoch(world->disk), (uint32_t)item->attempt};
    struct job *job = job_of(world, item->task);
    WORLD_CHECK(world, job != NULL, "task %" PRIx64 " is dispatched and was never submitted", item->task);
    WORLD_CHECK(world, !job->has_fate, "task %" PRIx64 " is dispatched after its outcome is on disk", item->task);
    WORLD_CHECK(world, world->wall_shift != 0 || world->now >= job->not_before,
                "task %" PRIx64 " is dispatched before its time", item->task);
    if (job->try_count > 0) {
        struct token last = job->tries[job->try_count - 1].token;
        WORLD_CHECK(world, token_compare(last, token) < 0, "task %" PRIx64 " is dispatched as %u.%u after %u.%u",
                    item->task, token.epoch, token.attempt, last.epoch, last.attempt);
    }
    WORLD_CHECK(world, job->try_count < DISPATCH_COUNT_MAX, "task %" PRIx64 " is dispatched again and again",
                item->task);
    if (job->spec.at_most_once && !job->is_volatile) {
        const struct task_row *row = memstore_task(world->disk, item->task);
        WORLD_CHECK(world,
                    row != NULL && (row->state == TASK_LEASED || row->state == TASK_RUNNING) &&
                        row->epoch == token.epoch && row->attempt == token.attempt,
                    "at_most_once task %" PRIx64 " is dispatched, and its lease is not on disk", item->task);
    }
    if (job->try_count == job->try_cap) {
        job->try_cap = job->try_cap ? job->try_cap * 2 : 4;
        job->tries = xrealloc(job->tries, job->try_cap * sizeof *job->tries);
    }
    job->tries[job->try_count++] = (struct try){.token = token};
    world->oracle->counts.dispatches++;
}

static void sent_reply(struct world *world, const struct wire *wire, const struct msg_REPLY *reply)
{
    const struct client *client = (const struct client *)(const void *)wire->maker;
    if (wire->maker->kind != PEER_CLIENT) {
        return;
    }
    for (size_t i = 0; i < client->request_count; i++) {
        const struct asked *request = &client->requests[i];
        if (request->number != reply->request || request->kind != MSG_CANCEL) {
            continue;
        }
        const struct job *job = job_of(world, request->task);
        if (job != NULL && job->is_volatile) {
            WORLD_CHECK(world, reply->code != QUERN_OK || !job->has_fate || job->state == TASK_CANCELLED,
                        "%s is told that %" PRIx64 " is cancelled, and it has another outcome", client->peer.name,
                        request->task);
        } else if (reply->code == QUERN_OK) {
            WORLD_CHECK(world, job != NULL && job->has_fate && job->state == TASK_CANCELLED,
                        "%s is told that %" PRIx64 " is cancelled, and the disk does not say so", client->peer.name,
                        request->task);
        } else if (reply->code == QUERN_FINISHED) {
            WORLD_CHECK(world, job != NULL && job->has_fate,
                        "%s is told that %" PRIx64 " was finished, and the disk does not say so", client->peer.name,
                        request->task);
        }
    }
}

/* Who is told that the session was taken over must not be its owner on disk. */
static void sent_denied(struct world *world, const struct wire *wire, const struct msg_DENIED *denied)
{
    if (denied->code != QUERN_TAKEN_OVER || wire->maker->kind != PEER_CLIENT) {
        return;
    }
    const struct client *client = (const struct client *)(const void *)wire->maker;
    const struct session_row *row = memstore_session(world->disk, client->session);
    WORLD_CHECK(world, row == NULL || !uuid_equal(&row->owner, &client->peer.instance),
                "%s owns its session, and is told that it was taken over", client->peer.name);
}

static void sent_message(struct world *world, struct wire *wire, struct message *message)
{
    struct item_outcome outcome;
    struct item_receipt receipt;
    struct item_token token;
    struct item_dispatch dispatch;
    switch (message->kind) {
    case MSG_WELCOME_CLIENT:
        sent_welcome(world, wire, &message->WELCOME_CLIENT);
        break;
    case MSG_ACCEPTED:
        sent_accepted(world, &message->ACCEPTED);
        break;
    case MSG_REFUSED:
        sent_refused(world, wire, &message->REFUSED);
        break;
    case MSG_OUTCOME:
        while (item_outcome_next(&message->OUTCOME.items, &outcome)) {
            sent_outcome(world, wire, &outcome);
        }
        break;
    case MSG_RECEIPT:
        while (item_receipt_next(&message->RECEIPT.items, &receipt)) {
            sent_release(world, (struct token){receipt.task, (uint32_t)receipt.epoch, (uint32_t)receipt.attempt},
                         receipt.verdict == RECEIPT_RECORDED, "receipt");
        }
        break;
    case MSG_DROP:
        while (item_token_next(&message->DROP.items, &token)) {
            sent_release(world, (struct token){token.task, (uint32_t)token.epoch, (uint32_t)token.attempt}, false,
                         "drop");
        }
        break;
    case MSG_DISPATCH:
        while (item_dispatch_next(&message->DISPATCH.items, &dispatch)) {
            sent_dispatch(world, &dispatch);
        }
        break;
    case MSG_DENIED:
        sent_denied(world, wire, &message->DENIED);
        break;
    case MSG_REPLY:
        sent_reply(world, wire, &message->REPLY);
        break;
    default:
        break;
    }
}

void oracle_sent(struct world *world, struct wire *wire, struct bytes frame)
{
    uint32_t generation;
    struct cursor cursor;
    struct message message;
    uint64_t unknown;
    const char *why = "";
    if (frame_open(frame, &generation, &cursor) != QUERN_OK) {
        world_fail(world, "the broker sends a frame that is none");
    }
    for (;;) {
        enum quern_err err = message_next(&cursor, &message, &unknown, &why);
        if (err == QUERN_END) {
            return;
        }
        WORLD_CHECK(world, err == QUERN_OK, "the broker sends a message that is none: %s", why);
        sent_message(world, wire, &message);
    }
}

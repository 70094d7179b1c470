/*
 * io: the thread of a client that talks to the broker: one dealer, one eventfd, one deadline.
 * Knows nothing of what messages mean; the ledger does.
 * Start at io_main.
 */
#include "client/inside.h"
#include "common/check.h"
#include "common/clock.h"
#include "common/link.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>

/* Frames read before something is written again, so that a flood of outcomes does not hold up credit and pings. */
#define IO_READ_COUNT_MAX 64u
#define IO_LINGER_MS 1000

struct io {
    struct quern_client *client;
    struct dealer *dealer; /* NULL once the ledger has ended */
    bool is_up;            /* as told to on_connection */
    bool was_up;           /* ever */
    bool must_read;        /* the dealer may have something */
};

bool io_poke(struct quern_client *client)
{
    bool must_wake = client->is_sleeping;
    client->is_sleeping = false;
    return must_wake;
}

void io_wake(const struct quern_client *client)
{
    CHECK(eventfd_write(client->wake_fd, 1) == 0 || errno == EAGAIN);
}

/* ---- what the ledger tells, under the lock ---- */

static const struct owner_kind *kind_of(const void *owner)
{
    return ((const struct owner *)owner)->kind;
}

static void sink_accepted(void *context, void *owner, uint64_t id)
{
    struct quern_client *client = context;
    (void)id;
    client->settled_wake = client->settled_wake || client->flush_waiters > 0;
    if (owner != NULL) {
        kind_of(owner)->accepted(owner);
    }
}

static void refusal_keep(struct quern_client *client, const struct delivery *delivery)
{
    enum quern_err code = (enum quern_err)delivery->outcome.refusal;
    /* A duplicate was accepted earlier: it is durable, which is all a flush asks. */
    if (client->refusal == QUERN_OK && code != QUERN_DUPLICATE) {
        client->refusal = code;
        free(client->refusal_text);
        client->refusal_text = xstrdup(delivery->outcome.message);
    }
}

static void sink_refused(void *context, void *owner, const struct submit_refusal *refusal)
{
    struct quern_client *client = context;
    struct delivery *delivery = delivery_of_refusal(client, refusal);
    refusal_keep(client, delivery);
    client->settled_wake = client->settled_wake || client->flush_waiters > 0;
    if (owner != NULL) {
        kind_of(owner)->refused(owner, delivery);
    } else {
        queue_push(&client->queue, delivery);
    }
}

static void lost_why_keep(struct quern_client *client, const char *why)
{
    if (client->lost_why == NULL || strcmp(client->lost_why, why) != 0) {
        free(client->lost_why);
        client->lost_why = xstrdup(why);
    }
}

static void sink_renumbered(void *context, void *owner, uint64_t old_id, uint64_t id)
{
    (void)context;
    if (owner != NULL) {
        kind_of(owner)->renumbered(owner, old_id, id);
    }
}

static void sink_dropped(void *context, void *owner)
{
    (void)context;
    if (owner != NULL) {
        kind_of(owner)->dropped(owner);
    }
}

static void sink_lost(void *context, void *owner, uint64_t id, uint64_t ordinal)
{
    struct quern_client *client = context;
    lost_why_keep(client, client->ledger.why);
    struct delivery *delivery = delivery_of_loss(client, id, ordinal);
    CHECK_THAT(delivery != NULL, "memory is used up");
    client->settled_wake = client->settled_wake || client->flush_waiters > 0;
    if (owner != NULL) {
        kind_of(owner)->refused(owner, delivery);
    } else {
        queue_push(&client->queue, delivery);
    }
}

static void sink_session_lost(void *context, struct unfinished *unfinished, const char *why)
{
    struct quern_client *client = context;
    lost_why_keep(client, why);
    futures_lost(client, unfinished);
    unfinished_move(&client->lost, unfinished);
}

static void sink_outcome(void *context, const struct item_outcome *outcome)
{
    struct quern_client *client = context;
    struct delivery *delivery = delivery_of_outcome(client, outcome);
    if (client->seen_users > 0) {
        map_put(&client->seen, outcome->task, client);
    }
    if (!futures_outcome(client, delivery)) {
        queue_push(&client->queue, delivery);
    }
}

static void sink_replied(void *context)
{
    struct quern_client *client = context;
    client->settled_wake = client->cancels.is_due = true;
}

static const struct ledger_sink io_sink = {
    .submits = {.accepted = sink_accepted,
                .refused = sink_refused,
                .renumbered = sink_renumbered,
                .dropped = sink_dropped,
                .lost = sink_lost},
    .outcome = sink_outcome,
    .session_lost = sink_session_lost,
    .replied = sink_replied,
};

bool client_ledger_begin(struct quern_client *client, const struct ledger_options *options)
{
    struct ledger_sink sink = io_sink;
    sink.context = client;
    return client_ledger_init(&client->ledger, options, &sink);
}

/* ---- the connection ---- */

static void down_why_set(struct quern_client *client, const char *why)
{
    (void)snprintf(client->down_why, sizeof(client->down_why), "%s", why);
}

/* Tells the application when the session is usable again or not any more. Without lock. */
static void connection_tell(struct io *io, bool is_up, const char *why)
{
    struct quern_client *client = io->client;
    if (is_up == io->is_up) {
        return;
    }
    io->is_up = is_up;
    if (is_up && !io->was_up) {
        io->was_up = true; /* quern_client_open says this one */
        return;
    }
    if (client->on_connection != NULL) {
        client->on_connection(client->context, is_up, why);
    }
}

static void io_end(struct io *io)
{
    dealer_close(&io->dealer, IO_LINGER_MS);
}

static void verdict_obey(struct io *io, enum ledger_verdict verdict, const char *why)
{
    switch (verdict) {
    case LEDGER_GO_ON:
        break;
    case LEDGER_RECONNECT:
    case LEDGER_RECONNECT_LATER:
        dealer_reconnect(io->dealer, verdict == LEDGER_RECONNECT_LATER, why);
        break;
    case LEDGER_END:
        connection_tell(io, false, why);
        io_end(io);
        break;
    }
}

/* Ends a stretch under the lock: wakes whom it concerns; the verdict's text outlives the lock. */
static char *io_unlock(struct io *io, enum ledger_verdict verdict)
{
    struct quern_client *client = io->client;
    char *why = NULL;
    if (verdict != LEDGER_GO_ON) {
        why = xstrdup(client->ledger.why);
        down_why_set(client, why);
        client->settled_wake = true;
    }
    client_tell(client);
    pthread_mutex_unlock(&client->lock);
    return why;
}

static void on_frame(struct io *io, struct bytes frame)
{
    struct quern_client *client = io->client;
    pthread_mutex_lock(&client->lock);
    enum ledger_phase before = client->ledger.phase;
    enum ledger_verdict verdict = client_ledger_frame(&client->ledger, frame, clock_mono_ms());
    bool is_up = client->ledger.phase == LEDGER_UP;
    bool is_closing = client->is_closing;
    client->settled_wake = client->settled_wake || before != client->ledger.phase || is_closing;
    char *why = io_unlock(io, verdict);
    if (is_up) {
        connection_tell(io, true, dealer_url(io->dealer));
    }
    verdict_obey(io, verdict, why);
    free(why);
}

static void on_up(struct io *io)
{
    pthread_mutex_lock(&io->client->lock);
    client_ledger_up(&io->client->ledger, clock_mono_ms());
    pthread_mutex_unlock(&io->client->lock);
}

static void on_down(struct io *io, const char *why)
{
    struct quern_client *client = io->client;
    pthread_mutex_lock(&client->lock);
    client_ledger_down(&client->ledger);
    down_why_set(client, why == NULL ? "the connection broke" : why);
    client->settled_wake = true;
    client_tell(client);
    pthread_mutex_unlock(&client->lock);
    connection_tell(io, false, why == NULL ? "the connection broke" : why);
}

/* True: there may be more. */
static bool io_read(struct io *io)
{
    struct dealer_event event;
    for (unsigned count = 0; io->dealer != NULL && count < IO_READ_COUNT_MAX; count++) {
        if (!dealer_next(io->dealer, &event)) {
            return false;
        }
        if (event.kind == DEALER_UP) {
            on_up(io);
        } else if (event.kind == DEALER_FRAME) {
            on_frame(io, event.frame);
        } else {
            on_down(io, event.why);
        }
    }
    return io->dealer != NULL;
}

static void io_tick(struct io *io)
{
    struct quern_client *client = io->client;
    pthread_mutex_lock(&client->lock);
    enum ledger_verdict verdict = client_ledger_tick(&client->ledger, clock_mono_ms());
    char *why = io_unlock(io, verdict);
    verdict_obey(io, verdict, why);
    free(why);
}

/* True: something was sent. False: nothing is left to send, and whoever queues something from now on will poke us. */
static bool io_write(struct io *io)
{
    struct quern_client *client = io->client;
    struct buf frame = {0};
    pthread_mutex_lock(&client->lock);
    bool has_frame = client_ledger_write(&client->ledger, clock_mono_ms(), &frame);
    if (!has_frame) {
        /* A descriptor that is watched waits as a thread would. */
        client_ledger_want(&client->ledger, client->wanting > 0 ||
                                                (client->ready_fd >= 0 && queue_is_empty(&client->queue)) ||
                                                watches_want(client));
        has_frame = client_ledger_write(&client->ledger, clock_mono_ms(), &frame);
        client->is_sleeping = !has_frame;
    }
    pthread_mutex_unlock(&client->lock);
    if (has_frame) {
        (void)dealer_send(io->dealer, &frame); /* without a connection it is dropped: WELCOME begins anew */
    }
    buf_fini(&frame);
    return has_frame;
}

/* ---- the thread ---- */

static int64_t io_wake_ms(struct io *io)
{
    pthread_mutex_lock(&io->client->lock);
    int64_t at = client_ledger_wake_ms(&io->client->ledger);
    pthread_mutex_unlock(&io->client->lock);
    int64_t dealer_at = io->dealer == NULL ? INT64_MAX : dealer_wake_ms(io->dealer);
    return dealer_at < at ? dealer_at : at;
}

static int timeout_until(int64_t at_ms)
{
    if (at_ms == INT64_MAX) {
        return -1;
    }
    int64_t left = at_ms - clock_mono_ms();
    return left <= 0 ? 0 : left > 60000 ? 60000 : (int)left;
}

static void io_sleep(struct io *io)
{
    struct pollfd fds[DEALER_FD_COUNT_MAX + 1];
    int dealer_fd[DEALER_FD_COUNT_MAX];
    nfds_t count = 0;
    fds[count++] = (struct pollfd){.fd = io->client->wake_fd, .events = POLLIN};
    size_t dealer_count = io->dealer == NULL ? 0 : dealer_fds(io->dealer, dealer_fd);
    for (size_t i = 0; i < dealer_count; i++) {
        fds[count++] = (struct pollfd){.fd = dealer_fd[i], .events = POLLIN};
    }
    bool is_woken = poll(fds, count, timeout_until(io_wake_ms(io))) > 0 && fds[0].revents != 0;
    if (is_woken) {
        eventfd_t value;
        (void)eventfd_read(io->client->wake_fd, &value);
    }
    /* Woken for something to send: nothing has come. */
    io->must_read = !is_woken || dealer_count == 0 || fds[1].revents != 0;
    pthread_mutex_lock(&io->client->lock);
    io->client->is_sleeping = false;
    pthread_mutex_unlock(&io->client->lock);
}

static bool io_must_stop(struct io *io)
{
    pthread_mutex_lock(&io->client->lock);
    bool must_stop = io->client->must_stop;
    pthread_mutex_unlock(&io->client->lock);
    return must_stop;
}

static void io_open(struct io *io)
{
    struct quern_client *client = io->client;
    char *why = NULL;
    enum quern_err err = dealer_open(client->urls, client->url_count, &io->dealer, &why);
    if (err != QUERN_OK) {
        pthread_mutex_lock(&client->lock);
        client_ledger_end(&client->ledger, err, why == NULL ? quern_err_text(err) : why);
        free(io_unlock(io, LEDGER_END));
    }
    free(why);
}

static void *io_main(void *context)
{
    struct io io = {.client = context, .must_read = true};
    io_open(&io);
    for (;;) {
        bool is_settled = io.dealer == NULL || dealer_wake_ms(io.dealer) == INT64_MAX;
        io.must_read = io.must_read || !is_settled;
        io.must_read = io.must_read && io_read(&io);
        if (io.dealer != NULL) {
            io_tick(&io);
        }
        bool has_written = io.dealer != NULL && io_write(&io);
        if (io_must_stop(&io) && !has_written) {
            break; /* the goodbye has been written */
        }
        if (has_written) {
            io.must_read = io.must_read || dealer_has_input(io.dealer);
        } else if (!io.must_read) {
            io_sleep(&io);
        }
    }
    if (io.dealer != NULL) {
        dealer_close(&io.dealer, IO_LINGER_MS);
    }
    return NULL;
}

enum quern_err io_start(struct quern_client *client)
{
    sigset_t all;
    sigset_t before;
    client->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (client->wake_fd < 0) {
        return error_set(QUERN_IO, "the client could not be started: eventfd: %s", strerror(errno));
    }
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int failed = pthread_create(&client->thread, NULL, io_main, client);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return failed == 0 ? QUERN_OK
                       : error_set(QUERN_IO, "the client's thread could not be started: %s", strerror(failed));
}

void io_stop(struct quern_client *client)
{
    pthread_mutex_lock(&client->lock);
    client->must_stop = true;
    pthread_mutex_unlock(&client->lock);
    io_wake(client);
    pthread_join(client->thread, NULL);
}

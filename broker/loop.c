/*
 * loop.c: owns the order in which events reach the core and messages leave: ungated ones at once, gated ones after the
 * commit of their batch. Must not know: messages, tasks, SQL, ZeroMQ. It alone may wait, and only in poll.
 * Start reading at loop_turn.
 */
#include "broker/loop.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "common/check.h"
#include "common/clock.h"
#include "common/limits.h"
#include "common/log.h"
#include "common/random.h"

/* Frames, and bytes of them, taken before commits and signals get their turn again, and what was said leaves. */
#define TURN_FRAME_COUNT_MAX 256u
#define TURN_BYTES_MAX (64 * KIB)
/* Batches without rows that may count as committed in one turn. */
#define TURN_EMPTY_BATCH_COUNT_MAX 64u
/* Commits after a signal to end; each may let the core write something more. */
#define STOP_BATCH_COUNT_MAX 8u
/* A full disk must not keep a broker from ending for ever. */
#define STOP_COMMIT_MS_MAX 30000
/* Turns without poll while something is sent in each: then signals and the parent have theirs. */
#define TURN_UNPOLLED_COUNT_MAX 16u
/* A core that knows of no time to wake is asked again after this, so that no forgotten timer can stop a broker. */
#define SLEEP_MS_MAX 60000

#define CHANCE_COUNT 512u

struct loop {
    struct core *core;
    struct journal *journal;
    struct router *router;
    int signal_fd;
    const struct parent *parent;
    struct flight *flight;   /* NULL: off */
    struct batch *in_commit; /* borrowed by the journal; NULL when it is idle */
    struct update update;
    int64_t mono_ms; /* of this turn */
    int64_t wall_ms;
    int64_t wake_ms;
    int64_t ticked_ms; /* monotonic time of the last tick: one a millisecond is enough */
    bool is_quiet;     /* the router said it has nothing, and nothing was sent since: only then may poll sleep */
    bool hears_router; /* or its time is over */
    bool hears_signal;
    unsigned unpolled_count;
    bool is_stopping;
    size_t chance_left;
    uint64_t chance[CHANCE_COUNT];
};

static uint64_t loop_chance(struct loop *loop)
{
    if (loop->chance_left == 0) {
        random_fill(loop->chance, sizeof(loop->chance));
        loop->chance_left = CHANCE_COUNT;
    }
    return loop->chance[--loop->chance_left];
}

static void loop_look_at_clock(struct loop *loop)
{
    loop->mono_ms = clock_mono_ms();
    loop->wall_ms = clock_wall_ms();
}

static void loop_step(struct loop *loop, struct event *event)
{
    event->mono_ms = loop->mono_ms;
    event->wall_ms = loop->wall_ms;
    event->random[0] = loop_chance(loop);
    event->random[1] = loop_chance(loop);
    core_step(loop->core, event, &loop->update);
    loop->wake_ms = loop->update.wake_ms;
}

/* ---- what the core says is done ---- */

static void send_all(struct loop *loop, struct outbox *outbox)
{
    for (size_t i = 0; i < outbox->count; i++) {
        struct frame_out *out = &outbox->frames[i];
        enum quern_err err = router_send(loop->router, out->conn, &out->frame);

        /* Gone, or beyond its credit and kicked: either way ROUTER_CLOSED tells the core, which knows what to keep. */
        if (err != QUERN_OK) {
            buf_fini(&out->frame);
            log_event(LOG_DEBUG, "frame not sent", "conn=%llu error=%s", (unsigned long long)out->conn,
                      quern_err_word(err));
        }
        loop->is_quiet = false;
    }
    outbox->count = 0;
}

/* What needs no commit: it goes now, kicks after it (a DENIED comes before its kick), loads to the journal. */
static void loop_carry_out(struct loop *loop)
{
    struct update *update = &loop->update;

    send_all(loop, &update->now);
    for (size_t i = 0; i < update->kick_count; i++) {
        router_kick(loop->router, update->kicks[i]);
        loop->is_quiet = false;
    }
    for (size_t i = 0; i < update->load_count; i++) {
        journal_load(loop->journal, &update->loads[i]);
    }
    update->load_count = 0;
    update_clear(update);
}

/* ---- the store's answers ---- */

/* A batch is on disk. Only here do answers leave: a client that read ACCEPTED may exit, a worker that read a receipt
 * forgets its copy, and after a crash the store is the only witness. What the core says to this event (dispatches that
 * waited for their lease row) comes behind the answers, as a WELCOME comes before the first DISPATCH. */
static void loop_committed(struct loop *loop, struct batch **batch)
{
    struct event event = {.kind = EVENT_COMMITTED, .batch = (*batch)->number};

    loop_carry_out(loop);
    loop_step(loop, &event);
    send_all(loop, &(*batch)->gated);
    batch_free(loop->core, batch);
    loop_carry_out(loop);
}

static void take_journal_events(struct loop *loop)
{
    struct journal_event said;

    while (journal_next(loop->journal, &said)) {
        struct event event = {0};

        switch (said.kind) {
        case JOURNAL_COMMITTED:
            CHECK(loop->in_commit != NULL && loop->in_commit->number == said.batch);
            loop_committed(loop, &loop->in_commit);
            break;
        case JOURNAL_LOADED:
            event.kind = EVENT_LOADED;
            event.loaded = said.loaded;
            loop_step(loop, &event);
            journal_loaded_free(&said.loaded);
            break;
        case JOURNAL_STATS:
            event.kind = EVENT_STATS;
            event.stats = &said.stats;
            loop_step(loop, &event);
            break;
        }
    }
}

/* Close the open batch and hand it to the disk; the next one fills while it commits. */
static void loop_commit_open(struct loop *loop)
{
    struct batch *batch = core_seal(loop->core);

    CHECK(loop->in_commit == NULL);
    if (batch->count == 0) {
        /* Nothing to write, and all before it is on disk, for no batch is in commit: so is this one. */
        loop_committed(loop, &batch);
        return;
    }
    loop->in_commit = batch;
    journal_commit(loop->journal, batch);
    if (!loop->is_stopping) { /* what had to wait for the next batch may have room in it */
        struct event tick = {.kind = EVENT_TICK};

        loop_step(loop, &tick);
        loop_carry_out(loop);
    }
}

static bool may_commit(const struct loop *loop)
{
    return loop->in_commit == NULL && journal_is_idle(loop->journal);
}

/* ---- frames, signals, time ---- */

static void take_frames(struct loop *loop)
{
    struct router_event said;
    size_t bytes = 0;

    if (loop->is_quiet && !loop->hears_router) {
        return;
    }
    for (unsigned i = 0; i < TURN_FRAME_COUNT_MAX && bytes < TURN_BYTES_MAX; i++) {
        struct event event = {.kind = EVENT_CLOSED};

        if (!router_next(loop->router, &said)) {
            loop->is_quiet = true; /* until something is sent */
            return;
        }
        event.conn = said.conn;
        if (said.kind == ROUTER_FRAME) {
            event.kind = EVENT_FRAME;
            event.frame = said.frame;
            bytes += said.frame.n;
            event.peer = router_peer_text(loop->router, said.conn);
            event.is_remote = router_peer_is_remote(loop->router, said.conn);
        }
        loop_step(loop, &event);
    }
    loop->is_quiet = false;
}

static void take_signals(struct loop *loop)
{
    struct signalfd_siginfo info;

    while (loop->hears_signal && read(loop->signal_fd, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
        if (!loop->is_stopping) {
            log_event(LOG_INFO, "stopping", "signal=%s", strsignal((int)info.ssi_signo));
        }
        loop->is_stopping = true;
    }
}

static void tick_if_due(struct loop *loop)
{
    struct event event = {.kind = EVENT_TICK};

    if (loop->wake_ms <= loop->mono_ms && loop->ticked_ms < loop->mono_ms) {
        loop->ticked_ms = loop->mono_ms;
        loop_step(loop, &event);
    }
}

static int sleep_ms(const struct loop *loop)
{
    int64_t left = loop->wake_ms - loop->mono_ms;

    if (!loop->is_quiet) {
        return 0;
    }
    if (left > SLEEP_MS_MAX) {
        return SLEEP_MS_MAX;
    }
    return left < 1 ? 1 : (int)left;
}

/* What a pool's program accepted before it died is kept as after any other end. */
static void look_at_parent(struct loop *loop)
{
    if (!loop->is_stopping && parent_is_gone(loop->parent)) {
        log_event(LOG_INFO, "stopping", "the program that started this broker is gone");
        loop->is_stopping = true;
    }
}

static void loop_wait(struct loop *loop, int timeout_ms)
{
    int router_fd[ROUTER_FD_COUNT_MAX];
    struct pollfd fds[ROUTER_FD_COUNT_MAX + 2 + PARENT_FD_COUNT];
    size_t count = router_fds(loop->router, router_fd);
    size_t router_count = count;

    for (size_t i = 0; i < count; i++) {
        fds[i] = (struct pollfd){.fd = router_fd[i], .events = POLLIN};
    }
    fds[count++] = (struct pollfd){.fd = journal_fd(loop->journal), .events = POLLIN};
    fds[count++] = (struct pollfd){.fd = loop->signal_fd, .events = POLLIN};
    parent_poll_fds(loop->parent, fds + count);
    if (poll(fds, count + PARENT_FD_COUNT, timeout_ms) < 0) {
        CHECK_THAT(errno == EINTR, "poll: %s", strerror(errno));
    } else if (fds[count].revents != 0 || fds[count + 1].revents != 0) {
        look_at_parent(loop);
    }
    loop->hears_router = false;
    for (size_t i = 0; i < router_count; i++) {
        loop->hears_router = loop->hears_router || fds[i].revents != 0;
    }
    loop->hears_signal = fds[router_count + 1].revents != 0;
}

/* Sleep until there is something to do. Between a send and the look whether it uncovered input, poll has nothing new.
 */
static void loop_listen(struct loop *loop)
{
    if (loop->is_quiet || ++loop->unpolled_count >= TURN_UNPOLLED_COUNT_MAX) {
        loop->unpolled_count = 0;
        loop_wait(loop, sleep_ms(loop));
    } else {
        loop->hears_router = loop->hears_signal = false;
    }
    loop_look_at_clock(loop);
}

/* One turn. Nothing in it waits except loop_wait; input is always read (credit, not silence, holds a peer back). */
static void loop_turn(struct loop *loop)
{
    loop_listen(loop);
    take_signals(loop);
    take_frames(loop);
    take_journal_events(loop);
    tick_if_due(loop);

    /* What may be lost without breaking a promise goes out now: execution overlaps the commit of its submit. */
    loop_carry_out(loop);

    /* Everything said to clients, and every receipt, waits in the batch for its commit (loop_committed). */
    for (unsigned i = 0; i < TURN_EMPTY_BATCH_COUNT_MAX && may_commit(loop); i++) {
        if (!core_wants_commit(loop->core, loop->mono_ms)) {
            break;
        }
        loop_commit_open(loop);
    }
    flight_note(loop->flight, loop->core, loop->in_commit);
}

/* ---- the end ---- */

/* False: the deadline has passed and the batch is still not on disk. */
static bool wait_for_commit(struct loop *loop, int64_t deadline_ms)
{
    loop_look_at_clock(loop);
    while (loop->in_commit != NULL && loop->mono_ms < deadline_ms) {
        struct pollfd fd = {.fd = journal_fd(loop->journal), .events = POLLIN};

        if (poll(&fd, 1, (int)(deadline_ms - loop->mono_ms)) < 0) {
            CHECK_THAT(errno == EINTR, "poll: %s", strerror(errno));
        }
        loop_look_at_clock(loop);
        take_journal_events(loop);
    }
    return loop->in_commit == NULL;
}

/* No more input; what was accepted is committed and answered. */
static bool loop_drain(struct loop *loop)
{
    int64_t deadline_ms = clock_mono_ms() + STOP_COMMIT_MS_MAX;
    bool is_drained = wait_for_commit(loop, deadline_ms);

    for (unsigned i = 0; is_drained && i < STOP_BATCH_COUNT_MAX && core_open_bytes(loop->core) > 0; i++) {
        loop_commit_open(loop);
        is_drained = wait_for_commit(loop, deadline_ms);
    }
    if (is_drained) {
        core_give_back(loop->core);
        loop_commit_open(loop); /* gates without rows, and lazy rows */
        is_drained = wait_for_commit(loop, deadline_ms);
    }
    core_stop(loop->core, &loop->update);
    loop_carry_out(loop);
    return is_drained;
}

bool loop_run(struct core *core, struct journal *journal, struct router *router, int signal_fd,
              const struct parent *parent, struct flight *flight)
{
    struct loop loop = {
        .core = core, .journal = journal, .router = router, .signal_fd = signal_fd, .parent = parent, .flight = flight};
    bool is_drained;

    update_init(&loop.update);
    loop.wake_ms = 0; /* the first tick asks the core when to wake */
    loop.ticked_ms = -1;
    while (!loop.is_stopping) {
        loop_turn(&loop);
    }
    is_drained = loop_drain(&loop);
    if (!is_drained) {
        log_event(LOG_ERROR, "disk full", "ended without committing batch=%llu; it was answered to nobody",
                  (unsigned long long)loop.in_commit->number);
    }
    update_fini(&loop.update);
    return is_drained;
}

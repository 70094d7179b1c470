/*
 * journal: the thread that owns the store. Batches first, then loads in slices, so that no commit waits longer than one
 * slice. The fail-stop lives here: a store whose state is unknown ends the process before anything else is said.
 * Must not know what batches and loads mean. Copies of loaded rows: loaded.c.
 * Start at journal_run.
 */
#include "broker/journal.h"

#include "broker/loaded.h"
#include "common/check.h"
#include "common/clock.h"
#include "common/log.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define STATS_MS 1000
#define FULL_RETRY_MS 200
/* Every query for people, one replay of outcomes for every connection, parked tasks for turns and for claims: the core
 * has no more than these. */
#define LOAD_QUEUE_COUNT_MAX (QUERY_COUNT_MAX + CONNECTION_COUNT_MAX + LOAD_TASKS_COUNT_MAX)

struct said { /* an event on its way to the loop thread */
    struct said *next;
    struct journal_event event;
};

struct journal {
    pthread_t thread;
    bool has_store;      /* and a thread */
    struct store *store; /* of the thread, until it has ended */
    uint32_t epoch;
    int fd;
    bool in_commit; /* of the loop thread: from journal_commit until COMMITTED was taken */

    pthread_mutex_t mutex; /* guards what follows */
    pthread_cond_t work;
    bool is_closing;
    const struct batch *batch; /* to be committed */
    struct job *jobs;
    struct job **jobs_end;
    size_t job_count;
    struct said *said;
    struct said **said_end;
    bool stats_said; /* one is among said: no second one */

    /* of the thread */
    bool is_full;     /* the batch did not fit on the disk */
    bool gave_up;     /* it still did not when the end came */
    bool is_watching; /* the disk is short: look again also when there is nothing to do */
    int64_t retry_ms;
    int64_t stats_ms;    /* the last ones */
    bool owes_slice;     /* a batch went before those who wait for a load */
    struct job *copying; /* makes a copy of the store */

    /* a thread that ends a copy when the store is not needed for it any more; one at a time */
    pthread_t finisher;
    bool has_finisher; /* to be joined */
    struct job *finishing;
};

__attribute__((noreturn)) static void die(const char *what)
{
    log_event(LOG_ERROR, what, "status=%d", EXIT_STORE_FAILURE);
    _exit(EXIT_STORE_FAILURE);
}

/* ---- what the loop thread hears ---- */

static void say(struct journal *journal, const struct journal_event *event)
{
    struct said *said = xmalloc(sizeof *said);
    *said = (struct said){.event = *event};
    pthread_mutex_lock(&journal->mutex);
    if (event->kind == JOURNAL_STATS && journal->stats_said) {
        free(said);
    } else {
        journal->stats_said |= event->kind == JOURNAL_STATS;
        *journal->said_end = said;
        journal->said_end = &said->next;
        uint64_t one = 1;
        CHECK(write(journal->fd, &one, sizeof one) == sizeof one);
    }
    pthread_mutex_unlock(&journal->mutex);
}

bool journal_next(struct journal *journal, struct journal_event *event_out)
{
    pthread_mutex_lock(&journal->mutex);
    struct said *said = journal->said;
    if (said != NULL) {
        journal->said = said->next;
        if (said->next == NULL) {
            journal->said_end = &journal->said;
            uint64_t count;
            CHECK(read(journal->fd, &count, sizeof count) == sizeof count);
        }
        if (said->event.kind == JOURNAL_STATS) {
            journal->stats_said = false;
        }
    }
    pthread_mutex_unlock(&journal->mutex);
    if (said == NULL) {
        return false;
    }
    *event_out = said->event;
    free(said);
    if (event_out->kind == JOURNAL_COMMITTED) {
        journal->in_commit = false;
    }
    return true;
}

int journal_fd(const struct journal *journal)
{
    return journal->fd;
}

void journal_loaded_free(struct loaded **loaded)
{
    loaded_free(loaded);
}

/* ---- what the loop thread asks for ---- */

bool journal_is_idle(const struct journal *journal)
{
    return !journal->in_commit;
}

void journal_commit(struct journal *journal, const struct batch *batch)
{
    CHECK(!journal->in_commit);
    journal->in_commit = true;
    if (!journal->has_store) {
        struct journal_event event = {.kind = JOURNAL_COMMITTED, .batch = batch->number};
        say(journal, &event);
        return;
    }
    pthread_mutex_lock(&journal->mutex);
    journal->batch = batch;
    pthread_cond_signal(&journal->work);
    pthread_mutex_unlock(&journal->mutex);
}

static void job_put(struct journal *journal, struct job *job)
{
    job->next = NULL;
    *journal->jobs_end = job;
    journal->jobs_end = &job->next;
    journal->job_count++;
    CHECK_THAT(journal->job_count <= LOAD_QUEUE_COUNT_MAX, "%zu loads", journal->job_count);
}

static struct job *job_take(struct journal *journal)
{
    struct job *job = journal->jobs;
    journal->jobs = job->next;
    if (journal->jobs == NULL) {
        journal->jobs_end = &journal->jobs;
    }
    journal->job_count--;
    return job;
}

void journal_load(struct journal *journal, struct load **load)
{
    struct job *job = job_open(load);
    if (!journal->has_store) {
        struct journal_event event = {.kind = JOURNAL_LOADED, .loaded = job_close(&job)};
        say(journal, &event);
        return;
    }
    pthread_mutex_lock(&journal->mutex);
    job_put(journal, job);
    pthread_cond_signal(&journal->work);
    pthread_mutex_unlock(&journal->mutex);
}

/* ---- the thread ---- */

static void say_stats(struct journal *journal)
{
    struct journal_event event = {.kind = JOURNAL_STATS};
    if (store_stats(journal->store, &event.stats) != QUERN_OK) {
        die("the store's files were replaced or are gone");
    }
    if (journal->copying != NULL && journal->copying->backup != NULL) {
        backup_progress(journal->copying->backup, &event.stats.backup_bytes, &event.stats.backup_all_bytes);
    }
    event.stats.disk_low = event.stats.disk_low || journal->is_full; /* the store looks only now and then */
    if (event.stats.disk_low != journal->is_watching) {
        log_event(LOG_WARN, event.stats.disk_low ? "disk low, submits are refused" : "disk has room again",
                  "free_bytes=%" PRIu64, event.stats.disk_free_bytes);
    }
    journal->is_watching = event.stats.disk_low;
    journal->stats_ms = clock_mono_ms();
    say(journal, &event);
}

static void say_stats_if_due(struct journal *journal)
{
    if (clock_mono_ms() - journal->stats_ms >= STATS_MS) {
        say_stats(journal);
    }
}

/* The batch stays as it is and waits: it may be applied again. */
static void on_full(struct journal *journal)
{
    journal->retry_ms = clock_mono_ms() + FULL_RETRY_MS;
    if (journal->is_full) {
        say_stats_if_due(journal);
        return;
    }
    journal->is_full = true;
    say_stats(journal);
    log_event(LOG_ERROR, "disk full, waiting for room", "retry_ms=%d", FULL_RETRY_MS);
}

static void on_committed(struct journal *journal, const struct batch *batch)
{
    struct journal_event event = {.kind = JOURNAL_COMMITTED, .batch = batch->number};
    if (journal->is_full) {
        log_event(LOG_INFO, "disk has room, committing again", "batch=%" PRIu64, batch->number);
    }
    journal->is_full = false;
    pthread_mutex_lock(&journal->mutex);
    journal->batch = NULL;
    pthread_mutex_unlock(&journal->mutex);
    say_stats(journal);   /* before it: whoever is answered after this commit and asks, sees it counted */
    say(journal, &event); /* from here on the batch is the loop's again */
    if (store_rest(journal->store) != QUERN_OK) {
        die("the store failed");
    }
}

static void commit(struct journal *journal, const struct batch *batch)
{
    switch (store_apply(journal->store, journal->epoch, batch->changes, batch->count)) {
    case STORE_OK:
        on_committed(journal, batch);
        return;
    case STORE_FULL:
        on_full(journal);
        return;
    case STORE_FENCED:
        die("another broker has taken the store over");
    case STORE_UNKNOWN:
        die("the store failed in a commit: what is on disk is not known");
    }
}

static void answer(struct journal *journal, struct job *job)
{
    struct journal_event event = {.kind = JOURNAL_LOADED, .loaded = job_close(&job)};
    say(journal, &event);
}

static void *finisher_run(void *context)
{
    struct journal *journal = context;
    pthread_setname_np(pthread_self(), "backup");
    struct job *job = journal->finishing;
    job_finish(job);
    pthread_mutex_lock(&journal->mutex);
    journal->finishing = NULL; /* from here on nobody may cancel it */
    pthread_mutex_unlock(&journal->mutex);
    answer(journal, job);
    return NULL;
}

static void finisher_join(struct journal *journal)
{
    if (journal->has_finisher) {
        CHECK(pthread_join(journal->finisher, NULL) == 0);
        journal->has_finisher = false;
    }
}

/* Checking and syncing a whole copy takes seconds: not in the thread that commits. Its signals are blocked as in there.
 */
static void finish_apart(struct journal *journal, struct job *job)
{
    finisher_join(journal); /* the one before has answered: the core asks for one at a time */
    pthread_mutex_lock(&journal->mutex);
    journal->finishing = job;
    pthread_mutex_unlock(&journal->mutex);
    int error = pthread_create(&journal->finisher, NULL, finisher_run, journal);
    CHECK_THAT(error == 0, "%s", strerror(error));
    journal->has_finisher = true;
}

static void work_on(struct journal *journal, struct job *job)
{
    bool is_done = false;
    journal->owes_slice = false;
    if (job_slice(job, journal->store, &is_done) != QUERN_OK) {
        die("the store cannot be read");
    }
    if (job->load->kind == LOAD_BACKUP) {
        journal->copying = is_done ? NULL : job;
        journal->stats_ms = is_done ? 0 : journal->stats_ms; /* told at once that there is no more of it */
    }
    if (is_done && !job->needs_store) {
        finish_apart(journal, job);
    } else if (is_done) {
        answer(journal, job);
    } else {
        /* To the end of the line: a listing through millions of rows does not hold up those who want one. */
        pthread_mutex_lock(&journal->mutex);
        job_put(journal, job);
        pthread_mutex_unlock(&journal->mutex);
    }
    say_stats_if_due(journal);
}

static void wait_for_work(struct journal *journal)
{
    int64_t until_ms = INT64_MAX;
    if (journal->is_watching) {
        until_ms = journal->stats_ms + STATS_MS;
    }
    if (journal->is_full && journal->retry_ms < until_ms) {
        until_ms = journal->retry_ms;
    }
    if (until_ms == INT64_MAX) {
        pthread_cond_wait(&journal->work, &journal->mutex);
    } else {
        struct timespec until = {.tv_sec = until_ms / 1000, .tv_nsec = until_ms % 1000 * 1000000};
        pthread_cond_timedwait(&journal->work, &journal->mutex, &until);
    }
}

/* One thing to do, with the mutex held on entry and return: batches first, but one slice of a load after each, so that
 * those who wait for one come to it under any load. False: the end. */
static bool journal_turn(struct journal *journal)
{
    const struct batch *batch = journal->batch;
    bool is_closing = journal->is_closing;
    bool is_turn_of_jobs = journal->owes_slice && journal->jobs != NULL && !is_closing;
    if (batch != NULL && !is_turn_of_jobs &&
        (!journal->is_full || is_closing || clock_mono_ms() >= journal->retry_ms)) {
        pthread_mutex_unlock(&journal->mutex);
        commit(journal, batch);
        journal->owes_slice = true;
        pthread_mutex_lock(&journal->mutex);
        /* Tried once more after the end was asked for: a disk that stays full must not hold it up for ever. */
        journal->gave_up = is_closing && journal->is_full;
        return !journal->gave_up;
    }
    if (is_closing) {
        return false;
    }
    if (journal->jobs != NULL) {
        struct job *job = job_take(journal);
        pthread_mutex_unlock(&journal->mutex);
        work_on(journal, job);
        pthread_mutex_lock(&journal->mutex);
        return true;
    }
    wait_for_work(journal);
    if (journal->is_watching) {
        pthread_mutex_unlock(&journal->mutex);
        say_stats_if_due(journal);
        pthread_mutex_lock(&journal->mutex);
    }
    return true;
}

static void *journal_run(void *context)
{
    struct journal *journal = context;
    pthread_setname_np(pthread_self(), "journal");
    say_stats(journal);
    pthread_mutex_lock(&journal->mutex);
    while (journal_turn(journal)) {
    }
    pthread_mutex_unlock(&journal->mutex);
    return NULL;
}

/* ---- life ---- */

static void start_thread(struct journal *journal)
{
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    /* Signals are the loop's: a handler here could interrupt a commit. */
    CHECK(pthread_sigmask(SIG_SETMASK, &all, &before) == 0);
    int error = pthread_create(&journal->thread, NULL, journal_run, journal);
    CHECK_THAT(error == 0, "%s", strerror(error));
    CHECK(pthread_sigmask(SIG_SETMASK, &before, NULL) == 0);
}

struct journal *journal_open(struct store **store, uint32_t epoch)
{
    struct journal *journal = xcalloc(1, sizeof *journal);
    journal->has_store = store != NULL;
    if (store != NULL) {
        journal->store = *store;
        *store = NULL;
    }
    journal->epoch = epoch;
    journal->jobs_end = &journal->jobs;
    journal->said_end = &journal->said;
    journal->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    CHECK_THAT(journal->fd >= 0, "eventfd: %s", strerror(errno));
    pthread_condattr_t attr;
    CHECK(pthread_condattr_init(&attr) == 0);
    CHECK(pthread_condattr_setclock(&attr, CLOCK_MONOTONIC) == 0); /* as clock_mono_ms */
    CHECK(pthread_cond_init(&journal->work, &attr) == 0);
    CHECK(pthread_condattr_destroy(&attr) == 0);
    CHECK(pthread_mutex_init(&journal->mutex, NULL) == 0);
    if (journal->has_store) {
        start_thread(journal);
    }
    return journal;
}

static void drop_what_is_left(struct journal *journal)
{
    struct journal_event event;
    while (journal_next(journal, &event)) {
        if (event.kind == JOURNAL_LOADED) {
            loaded_free(&event.loaded);
        }
    }
    while (journal->jobs != NULL) {
        struct job *job = job_take(journal);
        struct loaded *loaded = job_close(&job);
        loaded_free(&loaded);
    }
}

void journal_close(struct journal **journal_io, bool is_clean)
{
    struct journal *journal = *journal_io;
    if (journal == NULL) {
        return;
    }
    *journal_io = NULL;
    pthread_mutex_lock(&journal->mutex);
    journal->is_closing = true;
    pthread_cond_signal(&journal->work);
    pthread_mutex_unlock(&journal->mutex);
    if (journal->has_store) {
        CHECK(pthread_join(journal->thread, NULL) == 0);
    }
    pthread_mutex_lock(&journal->mutex);
    if (journal->finishing != NULL) {
        backup_cancel(journal->finishing->backup);
    }
    pthread_mutex_unlock(&journal->mutex);
    finisher_join(journal);
    if (journal->gave_up) {
        log_event(LOG_ERROR, "disk full, ending with a batch that is not on disk", "epoch=%" PRIu32, journal->epoch);
    }
    drop_what_is_left(journal);
    store_close(&journal->store, is_clean && !journal->gave_up);
    close(journal->fd);
    pthread_cond_destroy(&journal->work);
    pthread_mutex_destroy(&journal->mutex);
    free(journal);
}

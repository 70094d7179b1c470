/*
 * What threads do to futures at the same time, some thousands of times: meant for ThreadSanitizer. Each round must end;
 * a lost wake-up ends in the time-out of a wait.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdatomic.h>

#include "client/inside.h"
#include "client_calls.h"

enum { ROUND_COUNT = 3000, THREAD_COUNT = 4, CLOSE_COUNT = 100 };

static pthread_t start(void *(*run)(void *context), void *context)
{
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, run, context), 0);
    return thread;
}

/* ---- both orders of a race ---- */

enum { LEAD_US_MAX = 20000, STEP_US_MAX = 500 };

/* The end of a task against what its client does. Who is first is steered, now the one and now the other, however slow
 * the machine is: after each round whoever was last gets a greater lead. */
struct race {
    struct fake *fake;
    atomic_int lead_us; /* for so long at most the end is held back; negative: the client is */
    int step_us;
    bool was_end;
    unsigned round_count;
    unsigned end_count; /* rounds in which the end was first */
};

/* A part of that time, by chance. */
static void pause_us(int max_us)
{
    static atomic_uint chance = 1;
    unsigned random = atomic_fetch_add(&chance, 1) * 2654435761u >> 8;
    int64_t until_us = clock_mono_us() + (max_us > 0 ? random % (unsigned)max_us : 0);
    while (clock_mono_us() < until_us) {
        sched_yield();
    }
}

static void race_hold_client(struct race *race)
{
    pause_us(-atomic_load(&race->lead_us));
}

/* Once the client has its answer: until then it waits for that in many a call. */
static void race_hold_end(struct race *race, uint32_t sequence)
{
    struct fake *fake = race->fake;
    fake_lock(fake);
    fake_await(fake, fake->submitted_high >= sequence && fake->answer_count == 0);
    fake_unlock(fake);
    pause_us(atomic_load(&race->lead_us));
}

static void race_note(struct race *race, bool is_end)
{
    int step_us = is_end == race->was_end ? 2 * race->step_us : race->step_us / 2;
    race->step_us = step_us < 1 ? 1 : step_us > STEP_US_MAX ? STEP_US_MAX : step_us;
    int lead_us = atomic_load(&race->lead_us) + (is_end ? race->step_us : -race->step_us);
    atomic_store(&race->lead_us, lead_us > LEAD_US_MAX ? LEAD_US_MAX : lead_us < -LEAD_US_MAX ? -LEAD_US_MAX : lead_us);
    race->was_end = is_end;
    race->round_count++;
    race->end_count += is_end;
}

/* Otherwise it was no race. */
static void assert_both_orders(const struct race *race)
{
    print_message("the end was first in %u of %u rounds\n", race->end_count, race->round_count);
    assert_true(race->end_count > race->round_count / 20);
    assert_true(race->round_count - race->end_count > race->round_count / 20);
}

static void end_by_hand(struct fake *fake)
{
    fake_lock(fake);
    fake->is_by_hand = fake->obeys_cancel = true;
    fake_unlock(fake);
}

static void *end_held_back(void *context)
{
    struct race *race = context;
    for (uint32_t sequence = 1; sequence <= ROUND_COUNT; sequence++) {
        race_hold_end(race, sequence);
        end_as(race->fake, sequence, TASK_DONE);
    }
    return NULL;
}

/* ---- completion between look and wait ---- */

/* True: it was done already when the wait began. */
static bool wait_in_some_way(struct quern_future *future, unsigned way)
{
    bool was_done = false;
    struct quern_outcome *outcome = NULL;
    struct quern_future *given = NULL;
    struct quern_set *set = NULL;
    bool done = false;
    switch (way % 4) {
    case 0:
        was_done = quern_future_done(future);
        assert_int_equal(quern_future_result(future, WAIT_MS, &outcome), QUERN_OK);
        quern_outcome_release(&outcome);
        break;
    case 1:
        was_done = quern_future_done(future);
        assert_int_equal(quern_wait(&future, 1, QUERN_FIRST_COMPLETED, WAIT_MS, &done, NULL), QUERN_OK);
        assert_true(done);
        break;
    case 2:
        assert_int_equal(quern_as_completed(&future, 1, WAIT_MS, &set), QUERN_OK);
        was_done = quern_future_done(future);
        assert_int_equal(quern_set_next(set, QUERN_FOREVER, &given), QUERN_OK);
        assert_ptr_equal(given, future);
        quern_set_close(&set);
        break;
    default:
        assert_int_equal(quern_as_completed(NULL, 0, WAIT_MS, &set), QUERN_OK);
        struct pollfd poll_fd = {.fd = quern_set_fd(set), .events = POLLIN};
        assert_int_equal(quern_set_add(set, future), QUERN_OK);
        was_done = poll(&poll_fd, 1, 0) == 1;
        assert_int_equal(poll(&poll_fd, 1, WAIT_MS), 1);
        assert_int_equal(quern_set_next(set, 0, &given), QUERN_OK);
        quern_set_close(&set);
        break;
    }
    return was_done;
}

static void test_no_completion_is_missed_between_looking_and_waiting(void **state)
{
    struct race race = {.fake = *state};
    end_by_hand(*state);
    struct quern_client *client = open_default(*state);
    pthread_t thread = start(end_held_back, &race);
    for (unsigned i = 0; i < ROUND_COUNT; i++) {
        struct quern_future *future = submit(client);
        race_hold_client(&race);
        race_note(&race, wait_in_some_way(future, i));
        quern_future_release(&future);
    }
    pthread_join(thread, NULL);
    assert_int_equal(quern_client_close(&client, 0), QUERN_OK);
    assert_both_orders(&race);
}

/* ---- cancel against finish ---- */

/* Who is first: the broker has the end before the cancel, or the cancel with no end coming, or they race. */
enum first { FIRST_END, FIRST_CANCEL, FIRST_OPEN };
#define FIRST_COUNT 3u

/* The side effect of a task that ran: how often. */
struct effects {
    struct fake *fake;
    struct race race; /* of the open rounds */
    unsigned runs[ROUND_COUNT + 1];
};

static void run_once(struct effects *effects, uint32_t sequence)
{
    struct fake *fake = effects->fake;
    if (fake->tasks[sequence].completion == 0) {
        effects->runs[sequence]++;
        fake_complete(fake, sequence);
    }
}

/* The worker: a task that is cancelled never starts. */
static void *end_each(void *context)
{
    struct effects *effects = context;
    struct fake *fake = effects->fake;
    for (uint32_t sequence = 1; sequence <= ROUND_COUNT; sequence++) {
        if (sequence % FIRST_COUNT == FIRST_OPEN) {
            race_hold_end(&effects->race, sequence);
        }
        fake_lock(fake);
        fake_await(fake, fake->submitted_high >= sequence);
        if (sequence % FIRST_COUNT == FIRST_CANCEL) {
            fake_await(fake, fake->tasks[sequence].completion != 0);
        }
        run_once(effects, sequence);
        pthread_cond_broadcast(&fake->changed);
        fake_unlock(fake);
    }
    return NULL;
}

static void count_one(struct quern_future *future, void *context)
{
    CHECK(quern_future_done(future));
    atomic_fetch_add((atomic_uint *)context, 1);
}

/* One task: what the cancel said, what its future shows, and what was done agree. True: it was cancelled. */
static bool cancel_against_end(struct quern_client *client, struct effects *effects, uint32_t sequence,
                               atomic_uint *ends)
{
    struct fake *fake = effects->fake;
    enum first first = sequence % FIRST_COUNT;
    struct quern_outcome *outcome = NULL;
    struct quern_set *set = NULL;
    struct quern_future *given = NULL;
    fake_lock(fake);
    fake->holds_outcomes = first == FIRST_END; /* the client does not know when it asks */
    fake_unlock(fake);
    struct quern_future *future = submit(client);
    assert_int_equal(quern_future_on_done(future, count_one, ends), QUERN_OK);
    assert_int_equal(quern_as_completed(&future, 1, WAIT_MS, &set), QUERN_OK);
    if (first == FIRST_END) {
        fake_lock(fake);
        fake_await(fake, fake->tasks[sequence].completion != 0);
        fake_unlock(fake);
        assert_false(quern_future_done(future));
    }
    if (first == FIRST_OPEN) {
        race_hold_client(&effects->race);
    }
    enum quern_err cancelled = quern_future_cancel(future, sequence % 2 == 0, WAIT_MS);
    fake_lock(fake);
    fake->holds_outcomes = false;
    fake_unlock(fake);
    enum quern_err result = quern_future_result(future, WAIT_MS, &outcome);
    assert_int_equal(cancelled, result == QUERN_CANCELLED ? QUERN_OK : QUERN_FINISHED);
    assert_int_equal(outcome->state, result == QUERN_CANCELLED ? QUERN_STATE_CANCELLED : QUERN_STATE_DONE);
    assert_int_equal(outcome->id, id_make(FAKE_SERIES, sequence));
    assert_int_equal(outcome->result_size, result == QUERN_CANCELLED ? 0 : 2);
    if (first == FIRST_OPEN) {
        race_note(&effects->race, result != QUERN_CANCELLED);
    }
    assert_true(first == FIRST_OPEN || (result == QUERN_CANCELLED) == (first == FIRST_CANCEL));
    assert_int_equal(quern_future_cancelled(future), result == QUERN_CANCELLED);
    quern_outcome_release(&outcome);
    assert_int_equal(quern_set_next(set, WAIT_MS, &given), QUERN_OK);
    assert_int_equal(quern_set_next(set, 0, &given), QUERN_END);
    quern_set_close(&set);
    while (atomic_load(ends) == 0) { /* its callback may run behind its result */
        sched_yield();
    }
    quern_future_release(&future);
    return result == QUERN_CANCELLED;
}

static void test_a_cancel_and_an_end_agree_on_who_was_first(void **state)
{
    struct effects *effects = calloc(1, sizeof(*effects));
    bool *cancelled = calloc(ROUND_COUNT + 1, sizeof(*cancelled));
    atomic_uint *ends = calloc(ROUND_COUNT + 1, sizeof(*ends));
    struct fake *fake = *state;
    effects->fake = effects->race.fake = fake;
    end_by_hand(fake);
    struct quern_client *client = open_default(fake);
    pthread_t thread = start(end_each, effects);
    for (uint32_t sequence = 1; sequence <= ROUND_COUNT; sequence++) {
        cancelled[sequence] = cancel_against_end(client, effects, sequence, &ends[sequence]);
    }
    pthread_join(thread, NULL);
    assert_int_equal(next_now(client), QUERN_END); /* nothing ended twice */
    assert_int_equal(quern_client_close(&client, 0), QUERN_OK);
    assert_int_equal(fake->completion_last, ROUND_COUNT);
    for (uint32_t sequence = 1; sequence <= ROUND_COUNT; sequence++) {
        assert_int_equal(effects->runs[sequence], cancelled[sequence] ? 0 : 1);
        assert_int_equal(fake->tasks[sequence].state, cancelled[sequence] ? TASK_CANCELLED : TASK_DONE);
        assert_int_equal(atomic_load(&ends[sequence]), 1);
    }
    assert_both_orders(&effects->race);
    free(effects);
    free(cancelled);
    free(ends);
}

/* ---- a cancel, and all who wait ---- */

struct seen {
    struct quern_client *client;
    struct quern_future *future;
    struct quern_group *group;
    struct quern_set *set;
};

static void *see_by_result(void *context)
{
    struct seen *seen = context;
    struct quern_outcome *outcome = NULL;
    enum quern_err err = quern_future_result(seen->future, WAIT_MS, &outcome);
    quern_outcome_release(&outcome);
    return (void *)(uintptr_t)err;
}

static void *see_by_wait(void *context)
{
    struct seen *seen = context;
    bool done = false;
    enum quern_err err = quern_wait(&seen->future, 1, QUERN_FIRST_COMPLETED, WAIT_MS, &done, NULL);
    return err != QUERN_OK || !done ? NULL : see_by_result(context);
}

static void *see_by_wait_for_all(void *context)
{
    struct seen *seen = context;
    bool done = false;
    enum quern_err err = quern_wait(&seen->future, 1, QUERN_ALL_COMPLETED, WAIT_MS, &done, NULL);
    return err != QUERN_OK || !done ? NULL : see_by_result(context);
}

static void *see_by_set(void *context)
{
    struct seen *seen = context;
    struct quern_future *given = NULL;
    enum quern_err err = quern_set_next(seen->set, WAIT_MS, &given);
    return err != QUERN_OK || given != seen->future ? NULL : see_by_result(context);
}

static void *see_by_group(void *context)
{
    struct seen *seen = context;
    enum quern_err err = quern_group_wait(seen->group, WAIT_MS);
    return err != QUERN_OK ? NULL : see_by_result(context);
}

/* Each sleeps when the cancel comes, and is told: cancelled. */
static void test_all_who_wait_see_a_cancel(void **state)
{
    void *(*const ways[])(void *) = {see_by_result, see_by_result,       see_by_result, see_by_wait,
                                     see_by_wait,   see_by_wait_for_all, see_by_set,    see_by_group};
    enum { WAY_COUNT = sizeof(ways) / sizeof(ways[0]) };
    struct fake *fake = *state;
    struct quern_call call = call_of("\x91\x07");
    fake_lock(fake);
    fake->is_by_hand = fake->obeys_cancel = true;
    fake_unlock(fake);
    struct quern_client *client = open_default(fake);
    for (unsigned i = 0; i < CLOSE_COUNT; i++) {
        struct seen seen = {.client = client};
        pthread_t threads[WAY_COUNT];
        assert_int_equal(quern_group_open(client, NULL, 0, &seen.group), QUERN_OK);
        assert_int_equal(quern_group_submit(seen.group, &call, &seen.future), QUERN_OK);
        assert_int_equal(quern_as_completed(&seen.future, 1, QUERN_FOREVER, &seen.set), QUERN_OK);
        for (unsigned k = 0; k < WAY_COUNT; k++) {
            threads[k] = start(ways[k], &seen);
        }
        while (sleepers(client) < WAY_COUNT) {
            sched_yield();
        }
        assert_int_equal(quern_future_cancel(seen.future, false, WAIT_MS), QUERN_OK);
        for (unsigned k = 0; k < WAY_COUNT; k++) {
            void *result = NULL;
            pthread_join(threads[k], &result);
            assert_int_equal((uintptr_t)result, QUERN_CANCELLED);
        }
        quern_set_close(&seen.set);
        assert_int_equal(quern_group_close(&seen.group, NULL), QUERN_CANCELLED);
    }
    assert_int_equal(quern_client_close(&client, 0), QUERN_OK);
}

/* ---- callbacks added while finishing ---- */

/* Of a callback: how often it ran, and where. */
struct added {
    pthread_t adder;
    atomic_uint count;
    atomic_bool ran_in_adder; /* as one that is added to a finished future does */
};

static void note_thread(struct quern_future *future, void *context)
{
    struct added *added = context;
    CHECK(quern_future_done(future));
    atomic_store(&added->ran_in_adder, pthread_equal(pthread_self(), added->adder) != 0);
    atomic_fetch_add(&added->count, 1);
}

static void test_a_callback_added_while_finishing_runs_once(void **state)
{
    struct race race = {.fake = *state};
    end_by_hand(*state);
    struct quern_client *client = open_default(*state);
    struct quern_future **futures = calloc(ROUND_COUNT, sizeof(struct quern_future *));
    atomic_uint *counts = calloc(ROUND_COUNT, sizeof(atomic_uint));
    struct added *added = calloc(ROUND_COUNT, sizeof(*added));
    pthread_t thread = start(end_held_back, &race);
    for (unsigned i = 0; i < ROUND_COUNT; i++) {
        futures[i] = submit(client);
        added[i].adder = pthread_self();
        assert_int_equal(quern_future_on_done(futures[i], count_one, &counts[i]), QUERN_OK);
        race_hold_client(&race);
        assert_int_equal(quern_future_on_done(futures[i], note_thread, &added[i]), QUERN_OK);
        race_note(&race, atomic_load(&added[i].ran_in_adder));
    }
    assert_int_equal(quern_wait(futures, ROUND_COUNT, QUERN_ALL_COMPLETED, WAIT_MS, NULL, NULL), QUERN_OK);
    pthread_join(thread, NULL);
    assert_int_equal(quern_client_close(&client, 0), QUERN_OK); /* what is due is called before it returns */
    for (unsigned i = 0; i < ROUND_COUNT; i++) {
        assert_int_equal(atomic_load(&counts[i]), 1);
        assert_int_equal(atomic_load(&added[i].count), 1);
        quern_future_release(&futures[i]);
    }
    assert_both_orders(&race);
    free(futures);
    free(counts);
    free(added);
}

/* ---- sets used by many ---- */

struct shared {
    struct quern_client *client;
    struct quern_set *set;
    atomic_uint given[ROUND_COUNT + 1];
    atomic_uint total;
};

static void *take_each(void *context)
{
    struct shared *shared = context;
    struct quern_future *future = NULL;
    struct quern_outcome *outcome = NULL;
    while (atomic_load(&shared->total) < ROUND_COUNT) {
        enum quern_err err = quern_set_next(shared->set, 1, &future);
        if (err != QUERN_OK) {
            CHECK(err == QUERN_TIMEOUT || err == QUERN_END);
            continue;
        }
        CHECK(quern_future_result(future, 0, &outcome) == QUERN_OK);
        CHECK(atomic_fetch_add(&shared->given[id_sequence(outcome->id)], 1) == 0);
        quern_outcome_release(&outcome);
        quern_future_release(&future);
        atomic_fetch_add(&shared->total, 1);
    }
    return NULL;
}

static void test_many_threads_take_from_a_set_that_grows_and_each_future_is_given_once(void **state)
{
    struct shared *shared = calloc(1, sizeof *shared);
    pthread_t threads[THREAD_COUNT];
    shared->client = open_default(*state);
    assert_int_equal(quern_as_completed(NULL, 0, QUERN_FOREVER, &shared->set), QUERN_OK);
    for (unsigned i = 0; i < THREAD_COUNT; i++) {
        threads[i] = start(take_each, shared);
    }
    for (unsigned i = 0; i < ROUND_COUNT; i++) {
        assert_int_equal(quern_set_add(shared->set, submit(shared->client)), QUERN_OK);
    }
    for (unsigned i = 0; i < THREAD_COUNT; i++) {
        pthread_join(threads[i], NULL);
    }
    assert_int_equal(atomic_load(&shared->total), ROUND_COUNT);
    quern_set_close(&shared->set);
    assert_int_equal(quern_client_close(&shared->client, 0), QUERN_OK);
    free(shared);
}

/* ---- release while in a set ---- */

static void *drain(void *context)
{
    struct quern_future *future = NULL; /* never looked into: it may be gone */
    uintptr_t count = 0;
    while (quern_set_next(context, WAIT_MS, &future) == QUERN_OK) {
        count++;
    }
    return (void *)count;
}

static void test_a_future_released_while_it_completes_leaves_its_set(void **state)
{
    struct quern_client *client = open_default(*state);
    uintptr_t given = 0;
    for (unsigned i = 0; i < ROUND_COUNT / 10; i++) {
        struct quern_future *futures[10];
        struct quern_set *set = NULL;
        void *count = NULL;
        for (unsigned k = 0; k < 10; k++) {
            futures[k] = submit(client);
        }
        assert_int_equal(quern_as_completed(futures, 10, QUERN_FOREVER, &set), QUERN_OK);
        pthread_t thread = start(drain, set);
        release_all(futures, 10);
        pthread_join(thread, &count);
        given += (uintptr_t)count;
        quern_set_close(&set);
    }
    assert_true(given <= ROUND_COUNT);
    /* What was released without being asked for is there for quern_next. */
    for (unsigned i = 0; i < ROUND_COUNT; i++) {
        (void)take(client);
    }
    assert_int_equal(quern_client_close(&client, 0), QUERN_OK);
}

static void test_a_set_is_closed_while_its_futures_complete(void **state)
{
    struct quern_client *client = open_default(*state);
    for (unsigned i = 0; i < ROUND_COUNT / 10; i++) {
        struct quern_future *futures[10];
        struct quern_set *set = NULL;
        for (unsigned k = 0; k < 10; k++) {
            futures[k] = submit(client);
        }
        assert_int_equal(quern_as_completed(futures, 10, QUERN_FOREVER, &set), QUERN_OK);
        quern_set_close(&set);
        assert_int_equal(quern_wait(futures, 10, QUERN_FIRST_COMPLETED, WAIT_MS, NULL, NULL), QUERN_OK);
        release_all(futures, 10);
    }
    assert_int_equal(quern_client_close(&client, 0), QUERN_OK);
}

/* ---- close while waiting ---- */

struct waiters {
    struct quern_client *client;
    struct quern_future *futures[3];
    struct quern_set *set;
    struct quern_group *group;
};

static void *close_wait(void *context)
{
    struct waiters *waiters = context;
    return (void *)(uintptr_t)quern_wait(waiters->futures, 3, QUERN_ALL_COMPLETED, WAIT_MS, NULL, NULL);
}

static void *close_set(void *context)
{
    struct waiters *waiters = context;
    struct quern_future *future = NULL;
    return (void *)(uintptr_t)quern_set_next(waiters->set, WAIT_MS, &future);
}

static void *close_result(void *context)
{
    struct waiters *waiters = context;
    struct quern_outcome *outcome = NULL;
    return (void *)(uintptr_t)quern_future_result(waiters->futures[0], WAIT_MS, &outcome);
}

static void *close_group(void *context)
{
    struct waiters *waiters = context;
    return (void *)(uintptr_t)quern_group_wait(waiters->group, WAIT_MS);
}

static void nothing(struct quern_future *future, void *context)
{
    (void)future;
    (void)context;
    CHECK_THAT(false, "called without an outcome");
}

static void close_while_waiting(struct fake *fake)
{
    void *(*const ways[])(void *) = {close_wait, close_set, close_result, close_group};
    struct waiters waiters = {0};
    struct quern_call call = call_of("\x91\x07");
    pthread_t threads[4];
    waiters.client = open_by_hand(fake, waiters.futures, 3);
    assert_int_equal(quern_as_completed(waiters.futures, 3, QUERN_FOREVER, &waiters.set), QUERN_OK);
    assert_int_equal(quern_group_open(waiters.client, NULL, 0, &waiters.group), QUERN_OK);
    assert_int_equal(quern_group_submit(waiters.group, &call, NULL), QUERN_OK);
    assert_int_equal(quern_future_on_done(waiters.futures[1], nothing, NULL), QUERN_OK);
    for (unsigned i = 0; i < 4; i++) {
        threads[i] = start(ways[i], &waiters);
    }
    while (sleepers(waiters.client) < 4) { /* none may begin to wait once it is being closed */
        sched_yield();
    }
    assert_int_equal(quern_client_close(&waiters.client, 0), QUERN_OK);
    for (unsigned i = 0; i < 4; i++) {
        void *result = NULL;
        pthread_join(threads[i], &result);
        assert_int_equal((uintptr_t)result, QUERN_CLOSED);
    }
    quern_set_close(&waiters.set);
    assert_int_equal(quern_group_close(&waiters.group, NULL), QUERN_CLOSED);
    release_all(waiters.futures, 3);
}

static void test_who_waits_while_the_client_is_closed_is_let_go(void **state)
{
    for (unsigned i = 0; i < CLOSE_COUNT; i++) {
        (void)state;
        struct fake *fake = fake_make();
        fake_start(fake);
        close_while_waiting(fake);
        fake_free(fake);
    }
}

/* ---- groups ---- */

static void test_a_group_fails_while_it_is_submitted_to(void **state)
{
    struct fake *fake = *state;
    fake_lock(fake);
    fake->is_by_hand = fake->obeys_cancel = true;
    fake_unlock(fake);
    struct quern_client *client = open_default(fake);
    struct quern_call call = call_of("\x91\x07");
    for (unsigned i = 0; i < ROUND_COUNT / 30; i++) {
        struct quern_group *group = NULL;
        enum quern_err err = QUERN_OK;
        unsigned count = 0;
        assert_int_equal(quern_group_open(client, NULL, QUERN_GROUP_FAIL_FAST, &group), QUERN_OK);
        fake_lock(fake);
        uint32_t first = fake->submitted_high + 1;
        fake_unlock(fake);
        for (; err == QUERN_OK; count++) {
            err = quern_group_submit(group, &call, NULL);
            if (count % 1024 == 1023) { /* the broker has numbers for a second's worth, and may be slow */
                assert_int_equal(quern_flush(client, QUERN_FOREVER), QUERN_OK);
            }
            fake_lock(fake);
            if (fake->submitted_high >= first && fake->tasks[first].completion == 0) {
                fake_complete_as(fake, first, TASK_FAILED);
            }
            fake_unlock(fake);
        }
        assert_int_equal(err, QUERN_CANCELLED);
        assert_int_equal(quern_group_close(&group, NULL), QUERN_TASK_FAILED);
    }
    assert_int_equal(quern_client_close(&client, 0), QUERN_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_FAKE(test_no_completion_is_missed_between_looking_and_waiting),
        WITH_FAKE(test_a_cancel_and_an_end_agree_on_who_was_first),
        WITH_FAKE(test_all_who_wait_see_a_cancel),
        WITH_FAKE(test_a_callback_added_while_finishing_runs_once),
        WITH_FAKE(test_many_threads_take_from_a_set_that_grows_and_each_future_is_given_once),
        WITH_FAKE(test_a_future_released_while_it_completes_leaves_its_set),
        WITH_FAKE(test_a_set_is_closed_while_its_futures_complete),
        cmocka_unit_test(test_who_waits_while_the_client_is_closed_is_let_go),
        WITH_FAKE(test_a_group_fails_while_it_is_submitted_to),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

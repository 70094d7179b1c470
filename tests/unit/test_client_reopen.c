/*
 * Futures for what was submitted earlier, against the fake broker: what a former owner left, and what went by without a
 * future.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdatomic.h>
#include <sys/wait.h>

#include "client/inside.h"
#include "client_calls.h"

static uint64_t former(uint32_t sequence)
{
    return id_make(FAKE_SERIES - 1, sequence);
}

/* A session in which a former owner left tasks without outcome: 1 .. count. */
static struct quern_client *open_left(struct fake *fake, uint32_t count)
{
    fake_lock(fake);
    fake->is_by_hand = true;
    fake_add_former(fake, count);
    fake_unlock(fake);
    return open_default(fake);
}

static void end_former(struct fake *fake, uint32_t sequence, enum task_state state)
{
    end_as(fake, FAKE_FORMER + sequence, state);
}

/* Until the client has received so many outcomes. */
static void await_received(struct quern_client *client, uint64_t count)
{
    int64_t deadline_ms = clock_mono_ms() + WAIT_MS;
    uint64_t held = 0;
    while (held < count) {
        pthread_mutex_lock(&client->lock);
        held = client->ledger.completions.held_count;
        pthread_mutex_unlock(&client->lock);
        assert_true(clock_mono_ms() < deadline_ms);
        sched_yield();
    }
}

static struct quern_future *open_future(struct quern_client *client, uint64_t id)
{
    struct quern_future *future = NULL;
    enum quern_err err = quern_future_open(client, id, WAIT_MS, &future);
    if (err != QUERN_OK) {
        print_error("%s\n", quern_last_error());
    }
    assert_int_equal(err, QUERN_OK);
    return future;
}

static enum quern_err open_refused(struct quern_client *client, uint64_t id)
{
    struct quern_future *future = NULL;
    enum quern_err err = quern_future_open(client, id, WAIT_MS, &future);
    assert_null(future);
    return err;
}

/* ---- one ---- */

static void test_an_unfinished_task_of_a_former_owner_gets_a_future(void **state)
{
    struct fake *fake = *state;
    struct quern_client *client = open_left(fake, 3);
    struct quern_outcome *outcome = NULL;
    struct quern_future *future = open_future(client, former(2));
    assert_int_equal(quern_future_id(future), former(2));
    assert_true(quern_future_accepted(future));
    assert_false(quern_future_done(future));
    end_former(fake, 2, TASK_DONE);
    assert_int_equal(quern_future_result(future, QUERN_FOREVER, &outcome), QUERN_OK);
    quern_outcome_release(&outcome);
    quern_future_release(&future);
    assert_int_equal(next_now(client), QUERN_TIMEOUT); /* two are outstanding */
    assert_int_equal(quern_client_close(&client, 0), QUERN_OK);
    fake_stop(fake);
    assert_int_equal(fake->acked_count, 1);
}

/* Its outcome lies in the queue of quern_next: from there it moves to the future. */
static void test_an_outcome_that_is_here_moves_to_the_future(void **state)
{
    struct fake *fake = *state;
    struct quern_client *client = open_left(fake, 3);
    struct quern_outcome *outcome = NULL;
    end_former(fake, 3, TASK_DONE);
    end_former(fake, 1, TASK_DONE);
    end_former(fake, 2, TASK_DONE);
    await_received(client, 3);
    struct quern_future *future = open_future(client, former(1));
    assert_true(quern_future_done(future));
    assert_int_equal(quern_future_result(future, 0, &outcome), QUERN_OK);
    assert_int_equal(outcome->id, former(1));
    quern_outcome_release(&outcome);
    assert_int_equal(take(client), 1);
    assert_int_equal(take(client), 3);
    assert_int_equal(next_now(client), QUERN_END);
    quern_future_release(&future);
    assert_int_equal(quern_client_close(&client, 0), QUERN_OK);
}

static void test_an_outcome_goes_back_with_a_future_that_was_not_asked(void **state)
{
    struct fake *fake = *state;
    struct quern_client *client = open_left(fake, 1);
    end_former(fake, 1, TASK_DONE);
    await_received(client, 1);
    struct quern_future *future = open_future(client, former(1));
    quern_future_release(&future);
    future = open_future(client, former(1)); /* out of the late ones, too */
    quern_future_release(&future);
    assert_int_equal(take(client), 1);
    assert_int_equal(open_refused(client, former(1)), QUERN_UNKNOWN);
    assert_int_equal(quern_client_close(&client, 0), QUERN_OK);
}

static void test_what_was_given_out_already_has_no_future(void **state)
{
    struct fake *fake = *state;
    struct quern_client *client = open_left(fake, 1);
    struct quern_outcome *outcome = NULL;
    end_former(fake, 1, TASK_DONE);
    assert_int_equal(quern_next(client, WAIT_MS, &outcome), QUERN_OK); /* not released: not acknowledged */
    assert_int_equal(open_refused(client, former(1)), QUERN_UNKNOWN);
    assert_non_null(strstr(quern_last_error(), "6-1"));
    quern_outcome_release(&outcome);
    assert_int_equal(open_refused(client, former(9)), QUERN_UNKNOWN);
    assert_int_equal(quern_client_close(&client, 0), QUERN_OK);
}

static void test_a_second_future_for_a_task_is_refused(void **state)
{
    struct fake *fake = *state;
    struct quern_client *client = open_left(fake, 1);
    struct quern_future *own = submit(client);
    struct quern_future *future = open_future(client, former(1));
    assert_int_equal(open_refused(client, former(1)), QUERN_DUPLICATE);
    end_former(fake, 1, TASK_DONE);
    await_done(future);
    assert_int_equal(open_refused(client, former(1)), QUERN_DUPLICATE); /* also when it is done */
    assert_int_equal(open_refused(client, quern_future_id(own)), QUERN_DUPLICATE);
    quern_future_release(&future);
    quern_future_release(&own);
    assert_int_equal(quern_client_close(&client, 0), QUERN_OK);
}

/* Of this process, submitted without a future; the broker may not have answered yet. */
static void test_an_own_task_gets_a_future_later(void **state)
{
    struct fake *fake = *state;
    struct quern_client *client = open_left(fake, 0);
    submit_plain(client, 2);
    struct quern_future *future = open_future(client, id_make(FAKE_SERIES, 2));
    end_as(fake, 2, TASK_DONE);
    await_done(future);
    quern_future_release(&future);
    assert_int_equal(quern_client_close(&client, 0), QUERN_OK);
}

/* ---- all of them ---- */

static void test_all_that_was_left_gets_futures_in_order_of_submission(void **state)
{
    struct fake *fake = *state;
    struct quern_client *client = open_left(fake, 2500); /* in pages of 1000 */
    struct quern_future **futures = NULL;
    struct quern_set *set = NULL;
    size_t count = 0;
    for (uint32_t sequence = 2400; sequence > 2300; sequence--) {
        end_former(fake, sequence, TASK_DONE);
    }
    submit_plain(client, 10); /* its own are not left by anybody */
    await_received(client, 50);
    assert_int_equal(quern_session_futures(client, WAIT_MS, &futures, &count), QUERN_OK);
    assert_int_equal(count, 2500);
    for (uint32_t i = 0; i < count; i++) {
        assert_int_equal(quern_future_id(futures[i]), former(i + 1));
    }
    struct quern_future **again = NULL;
    size_t again_count = 7;
    assert_int_equal(quern_session_futures(client, WAIT_MS, &again, &again_count), QUERN_OK);
    assert_int_equal(again_count, 0);
    assert_null(again);
    assert_int_equal(quern_as_completed(futures, count, QUERN_FOREVER, &set), QUERN_OK);
    fake_lock(fake);
    for (uint32_t sequence = 1; sequence <= 2500; sequence++) {
        if (fake->tasks[FAKE_FORMER + sequence].completion == 0) {
            fake_complete(fake, FAKE_FORMER + sequence);
        }
    }
    fake_unlock(fake);
    for (size_t i = 0; i < count; i++) {
        struct quern_future *future = NULL;
        struct quern_outcome *outcome = NULL;
        assert_int_equal(quern_set_next(set, WAIT_MS, &future), QUERN_OK);
        assert_int_equal(quern_future_result(future, 0, &outcome), QUERN_OK);
        quern_outcome_release(&outcome);
        quern_future_release(&future);
    }
    quern_set_close(&set);
    free(futures);
    assert_int_equal(quern_client_close(&client, 0), QUERN_OK);
    fake_stop(fake);
    assert_int_equal(fake->acked_count, 2500);
}

static void test_outcomes_beyond_the_window_get_futures_too(void **state)
{
    struct fake *fake = *state;
    struct quern_client_options options = QUERN_CLIENT_OPTIONS_INIT;
    struct quern_future **futures = NULL;
    size_t count = 0;
    options.window_count = 4;
    fake_lock(fake);
    fake_add_former(fake, 50);
    for (uint32_t sequence = 1; sequence <= 50; sequence++) {
        fake_complete(fake, FAKE_FORMER + sequence);
    }
    fake_unlock(fake);
    struct quern_client *client = open_with(fake, options);
    assert_int_equal(quern_session_futures(client, WAIT_MS, &futures, &count), QUERN_OK);
    assert_int_equal(count, 50);
    assert_int_equal(quern_wait(futures, count, QUERN_ALL_COMPLETED, WAIT_MS, NULL, &count), QUERN_OK);
    assert_int_equal(count, 50);
    release_all(futures, 50);
    free(futures);
    assert_int_equal(quern_client_close(&client, 0), QUERN_OK);
}

/* While it is asked what is open, tasks end and another thread takes outcomes: each task gets either a future or is
 * given out by quern_next, and no future waits for what went by. */
struct race {
    struct quern_client *client;
    struct fake *fake;
    atomic_uint taken;
    atomic_bool must_stop;
};

static void *race_take(void *context)
{
    struct race *race = context;
    while (!atomic_load(&race->must_stop)) {
        struct quern_outcome *outcome = NULL;
        if (quern_next(race->client, 1, &outcome) == QUERN_OK) {
            atomic_fetch_add(&race->taken, 1);
            quern_outcome_release(&outcome);
        }
    }
    return NULL;
}

static void *race_end(void *context)
{
    struct race *race = context;
    for (uint32_t sequence = 1; sequence <= 400; sequence++) {
        end_former(race->fake, sequence, TASK_DONE);
    }
    return NULL;
}

static void test_no_outcome_is_lost_while_it_is_asked_what_is_open(void **state)
{
    struct fake *fake = *state;
    struct quern_client *client = open_left(fake, 400);
    struct race race = {.client = client, .fake = fake};
    struct quern_future **futures = NULL;
    size_t count = 0;
    size_t done = 0;
    pthread_t threads[2];
    fake_lock(fake);
    fake->page_size = 7;
    fake_unlock(fake);
    assert_int_equal(pthread_create(&threads[0], NULL, race_take, &race), 0);
    assert_int_equal(pthread_create(&threads[1], NULL, race_end, &race), 0);
    assert_int_equal(quern_session_futures(client, WAIT_MS, &futures, &count), QUERN_OK);
    assert_int_equal(quern_wait(futures, count, QUERN_ALL_COMPLETED, WAIT_MS, NULL, &done), QUERN_OK);
    assert_int_equal(done, count);
    pthread_join(threads[1], NULL);
    int64_t deadline_ms = clock_mono_ms() + WAIT_MS;
    while (atomic_load(&race.taken) + count < 400 && clock_mono_ms() < deadline_ms) {
        sched_yield();
    }
    atomic_store(&race.must_stop, true);
    pthread_join(threads[0], NULL);
    assert_int_equal(atomic_load(&race.taken) + count, 400);
    release_all(futures, (unsigned)count);
    free(futures);
    assert_int_equal(quern_client_close(&client, 0), QUERN_OK);
}

static void test_a_timeout_leaves_all_as_it_was(void **state)
{
    struct fake *fake = *state;
    struct quern_client *client = open_left(fake, 5);
    struct quern_future **futures = NULL;
    struct quern_future *future = NULL;
    size_t count = 0;
    end_former(fake, 1, TASK_DONE);
    await_received(client, 1);
    fake_lock(fake);
    fake->holds_replies = true;
    fake_unlock(fake);
    assert_int_equal(quern_session_futures(client, 5, &futures, &count), QUERN_TIMEOUT);
    assert_int_equal(quern_future_open(client, former(1), 5, &future), QUERN_TIMEOUT);
    assert_null(futures);
    assert_int_equal(take(client), 1);
    fake_lock(fake);
    fake->holds_replies = false;
    fake_unlock(fake);
    assert_int_equal(quern_client_close(&client, 0), QUERN_OK);
}

static void test_what_is_wrong_is_said_so(void **state)
{
    struct fake *fake = *state;
    struct quern_client_options options = QUERN_CLIENT_OPTIONS_INIT;
    struct quern_future **futures = NULL;
    struct quern_future *future = NULL;
    size_t count = 0;
    options.no_session = true;
    struct quern_client *client = open_with(fake, options);
    assert_int_equal(quern_session_futures(client, WAIT_MS, &futures, &count), QUERN_INVALID);
    assert_int_equal(quern_future_open(client, former(1), WAIT_MS, &future), QUERN_INVALID);
    assert_int_equal(quern_session_futures(NULL, WAIT_MS, &futures, &count), QUERN_INVALID);
    assert_int_equal(quern_client_close(&client, 0), QUERN_OK);
    client = open_default(fake);
    assert_int_equal(quern_session_futures(client, WAIT_MS, NULL, &count), QUERN_INVALID);
    assert_int_equal(quern_session_futures(client, WAIT_MS, &futures, NULL), QUERN_INVALID);
    assert_int_equal(quern_future_open(client, former(1), WAIT_MS, NULL), QUERN_INVALID);
    assert_int_equal(quern_future_open(client, 3, WAIT_MS, &future), QUERN_INVALID);
    pid_t child = fork();
    if (child == 0) {
        bool is_right = quern_session_futures(client, WAIT_MS, &futures, &count) == QUERN_CLOSED &&
                        quern_future_open(client, former(1), WAIT_MS, &future) == QUERN_CLOSED;
        _exit(is_right ? 0 : 1);
    }
    int status = -1;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_int_equal(quern_client_close(&client, 0), QUERN_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_FAKE(test_an_unfinished_task_of_a_former_owner_gets_a_future),
        WITH_FAKE(test_an_outcome_that_is_here_moves_to_the_future),
        WITH_FAKE(test_an_outcome_goes_back_with_a_future_that_was_not_asked),
        WITH_FAKE(test_what_was_given_out_already_has_no_future),
        WITH_FAKE(test_a_second_future_for_a_task_is_refused),
        WITH_FAKE(test_an_own_task_gets_a_future_later),
        WITH_FAKE(test_all_that_was_left_gets_futures_in_order_of_submission),
        WITH_FAKE(test_outcomes_beyond_the_window_get_futures_too),
        WITH_FAKE(test_no_outcome_is_lost_while_it_is_asked_what_is_open),
        WITH_FAKE(test_a_timeout_leaves_all_as_it_was),
        WITH_FAKE(test_what_is_wrong_is_said_so),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

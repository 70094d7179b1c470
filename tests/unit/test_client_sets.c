/*
 * quern_wait and sets against the fake broker: the lines of the contract of futures, and who waits through a set.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "client/inside.h"
#include "client_calls.h"

enum { MANY = 5 };

/* ---- help ---- */

/* Futures of tasks that end when the test says so: sequence 1, 2, 3 ... */
static struct quern_client *open_by_hand(struct fake *fake, struct quern_future *futures[], unsigned count)
{
    fake_lock(fake);
    fake->is_by_hand = true;
    fake_unlock(fake);
    struct quern_client *client = open_default(fake);
    for (unsigned i = 0; i < count; i++) {
        futures[i] = submit(client);
    }
    assert_int_equal(quern_flush(client, WAIT_MS), QUERN_OK);
    return client;
}

static void end_as(struct fake *fake, uint32_t sequence, enum task_state state)
{
    fake_lock(fake);
    fake_complete_as(fake, sequence, state);
    fake_unlock(fake);
}

static void release_all(struct quern_future *futures[], unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        quern_future_release(&futures[i]);
    }
}

static void close_all(struct quern_client *client, struct quern_future *futures[], unsigned count)
{
    release_all(futures, count);
    assert_int_equal(quern_client_close(&client, 0), QUERN_OK);
}

static void await_done(struct quern_future *future)
{
    struct quern_outcome *outcome = NULL;
    assert_int_equal(quern_future_wait(future, WAIT_MS, &outcome), QUERN_OK);
    quern_outcome_release(&outcome);
}

/* ---- wait ---- */

static void test_wait_for_none_returns_at_once(void **state)
{
    size_t count = 7;
    (void)state;
    assert_int_equal(quern_wait(NULL, 0, QUERN_ALL_COMPLETED, QUERN_FOREVER, NULL, &count), QUERN_OK);
    assert_int_equal(count, 0);
    assert_int_equal(quern_wait(NULL, 0, QUERN_FIRST_COMPLETED, QUERN_FOREVER, NULL, NULL), QUERN_OK);
}

static void test_wait_with_a_bad_constant_is_an_error_in_words(void **state)
{
    struct quern_future *futures[1] = {NULL};
    (void)state;
    assert_int_equal(quern_wait(NULL, 0, (enum quern_when)4, 0, NULL, NULL), QUERN_INVALID);
    assert_non_null(strstr(quern_last_error(), "QUERN_ALL_COMPLETED"));
    assert_int_equal(quern_wait(NULL, 0, (enum quern_when)0, 0, NULL, NULL), QUERN_INVALID);
    assert_int_equal(quern_wait(NULL, 1, QUERN_ALL_COMPLETED, 0, NULL, NULL), QUERN_INVALID);
    assert_int_equal(quern_wait(futures, 1, QUERN_ALL_COMPLETED, 0, NULL, NULL), QUERN_INVALID);
}

static void test_wait_for_the_first_sees_all_that_are_done(void **state)
{
    struct fake *fake = *state;
    struct quern_future *futures[MANY];
    struct quern_client *client = open_by_hand(fake, futures, MANY);
    bool done[MANY];
    size_t count = 0;
    end_as(fake, 2, TASK_DONE);
    end_as(fake, 4, TASK_CANCELLED);
    await_done(futures[1]);
    await_done(futures[3]);
    assert_int_equal(quern_wait(futures, MANY, QUERN_FIRST_COMPLETED, QUERN_FOREVER, done, &count), QUERN_OK);
    assert_int_equal(count, 2);
    const bool expected[MANY] = {false, true, false, true, false};
    assert_memory_equal(done, expected, sizeof done);
    close_all(client, futures, MANY);
}

/* A cancelled one is complete, too. */
static void test_wait_for_the_first_wakes_for_a_cancelled_one(void **state)
{
    struct fake *fake = *state;
    struct quern_future *futures[2];
    struct quern_client *client = open_by_hand(fake, futures, 2);
    size_t count = 0;
    end_as(fake, 1, TASK_CANCELLED);
    assert_int_equal(quern_wait(futures, 2, QUERN_FIRST_COMPLETED, QUERN_FOREVER, NULL, &count), QUERN_OK);
    assert_int_equal(count, 1);
    close_all(client, futures, 2);
}

static void test_wait_for_the_first_exception_does_not_count_a_cancelled_one(void **state)
{
    struct fake *fake = *state;
    struct quern_future *futures[MANY];
    struct quern_client *client = open_by_hand(fake, futures, MANY);
    size_t count = 0;
    end_as(fake, 1, TASK_CANCELLED);
    end_as(fake, 2, TASK_DONE);
    await_done(futures[1]);
    assert_int_equal(quern_wait(futures, MANY, QUERN_FIRST_EXCEPTION, 0, NULL, &count), QUERN_OK);
    assert_int_equal(count, 2); /* the time was over: nothing failed */
    end_as(fake, 3, TASK_FAILED);
    assert_int_equal(quern_wait(futures, MANY, QUERN_FIRST_EXCEPTION, QUERN_FOREVER, NULL, &count), QUERN_OK);
    assert_int_equal(count, 3);
    /* looked at on entry, too */
    assert_int_equal(quern_wait(futures, MANY, QUERN_FIRST_EXCEPTION, QUERN_FOREVER, NULL, &count), QUERN_OK);
    close_all(client, futures, MANY);
}

static void test_wait_for_the_first_exception_without_failures_waits_for_all(void **state)
{
    struct fake *fake = *state;
    struct quern_future *futures[2];
    struct quern_client *client = open_by_hand(fake, futures, 2);
    size_t count = 0;
    end_as(fake, 1, TASK_DONE);
    end_as(fake, 2, TASK_CANCELLED);
    assert_int_equal(quern_wait(futures, 2, QUERN_FIRST_EXCEPTION, QUERN_FOREVER, NULL, &count), QUERN_OK);
    assert_int_equal(count, 2);
    close_all(client, futures, 2);
}

static void test_wait_for_all_waits_for_failed_and_cancelled_ones(void **state)
{
    struct fake *fake = *state;
    struct quern_future *futures[3];
    struct quern_client *client = open_by_hand(fake, futures, 3);
    bool done[3];
    end_as(fake, 3, TASK_FAILED);
    end_as(fake, 1, TASK_DONE);
    end_as(fake, 2, TASK_CANCELLED);
    assert_int_equal(quern_wait(futures, 3, QUERN_ALL_COMPLETED, QUERN_FOREVER, done, NULL), QUERN_OK);
    assert_true(done[0] && done[1] && done[2]);
    close_all(client, futures, 3);
}

/* A time-out is no error, cancels nothing and leaves all as it was. */
static void test_a_wait_whose_time_is_over_is_no_error(void **state)
{
    struct fake *fake = *state;
    struct quern_future *futures[2];
    struct quern_client *client = open_by_hand(fake, futures, 2);
    bool done[2] = {true, true};
    size_t count = 9;
    assert_int_equal(quern_wait(futures, 2, QUERN_ALL_COMPLETED, 1, done, &count), QUERN_OK);
    assert_int_equal(count, 0);
    assert_false(done[0] || done[1]);
    fake_lock(fake);
    assert_int_equal(fake->cancel_count, 0);
    fake_unlock(fake);
    end_as(fake, 1, TASK_DONE);
    end_as(fake, 2, TASK_DONE);
    assert_int_equal(quern_wait(futures, 2, QUERN_ALL_COMPLETED, QUERN_FOREVER, done, &count), QUERN_OK);
    assert_int_equal(count, 2);
    close_all(client, futures, 2);
}

static void test_a_future_that_stands_twice_counts_once(void **state)
{
    struct fake *fake = *state;
    struct quern_future *futures[2];
    struct quern_client *client = open_by_hand(fake, futures, 2);
    struct quern_future *twice[] = {futures[0], futures[1], futures[0], futures[1], futures[0]};
    const bool expected[] = {false, true, false, true, false};
    bool done[5];
    size_t count = 0;
    end_as(fake, 2, TASK_DONE);
    assert_int_equal(quern_wait(twice, 5, QUERN_FIRST_COMPLETED, QUERN_FOREVER, done, &count), QUERN_OK);
    assert_int_equal(count, 1);
    assert_memory_equal(done, expected, sizeof done);
    close_all(client, futures, 2);
}

static void test_wait_serves_futures_of_several_clients(void **state)
{
    struct fake *fake = *state;
    struct fake *other_fake = fake_make();
    fake_start(other_fake);
    struct quern_future *futures[2];
    struct quern_client *client = open_by_hand(fake, &futures[0], 1);
    struct quern_client *other = open_by_hand(other_fake, &futures[1], 1);
    bool done[2];
    end_as(other_fake, 1, TASK_DONE);
    assert_int_equal(quern_wait(futures, 2, QUERN_FIRST_COMPLETED, QUERN_FOREVER, done, NULL), QUERN_OK);
    assert_false(done[0]);
    assert_true(done[1]);
    end_as(fake, 1, TASK_FAILED);
    assert_int_equal(quern_wait(futures, 2, QUERN_ALL_COMPLETED, QUERN_FOREVER, done, NULL), QUERN_OK);
    assert_true(done[0]);
    release_all(futures, 2);
    assert_int_equal(quern_client_close(&client, 0), QUERN_OK);
    assert_int_equal(quern_client_close(&other, 0), QUERN_OK);
    fake_free(other_fake);
}

/* With the first it goes on as long as one may come; for all of them one that will not come is the end. */
static void test_a_wait_for_what_will_not_come_says_so(void **state)
{
    struct fake *fake = *state;
    struct fake *other_fake = fake_make();
    fake_start(other_fake);
    struct quern_future *futures[2];
    struct quern_client *client = open_by_hand(fake, &futures[0], 1);
    struct quern_client *other = open_by_hand(other_fake, &futures[1], 1);
    size_t count = 9;
    assert_int_equal(quern_client_close(&client, 0), QUERN_OK);
    assert_int_equal(quern_wait(futures, 2, QUERN_ALL_COMPLETED, QUERN_FOREVER, NULL, &count), QUERN_CLOSED);
    assert_int_equal(count, 0);
    assert_int_equal(quern_wait(futures, 1, QUERN_FIRST_COMPLETED, QUERN_FOREVER, NULL, &count), QUERN_CLOSED);
    assert_int_equal(quern_wait(futures, 2, QUERN_FIRST_COMPLETED, 0, NULL, &count), QUERN_OK);
    end_as(other_fake, 1, TASK_DONE);
    assert_int_equal(quern_wait(futures, 2, QUERN_FIRST_COMPLETED, QUERN_FOREVER, NULL, &count), QUERN_OK);
    assert_int_equal(count, 1);
    assert_int_equal(quern_wait(futures, 2, QUERN_FIRST_EXCEPTION, QUERN_FOREVER, NULL, &count), QUERN_CLOSED);
    release_all(futures, 2);
    assert_int_equal(quern_client_close(&other, 0), QUERN_OK);
    fake_free(other_fake);
}

/* ---- as completed ---- */

static struct quern_set *set_of(struct quern_future *futures[], size_t count, int timeout_ms)
{
    struct quern_set *set = NULL;
    assert_int_equal(quern_as_completed(futures, count, timeout_ms, &set), QUERN_OK);
    return set;
}

static struct quern_future *next_of(struct quern_set *set)
{
    struct quern_future *future = NULL;
    enum quern_err err = quern_set_next(set, WAIT_MS, &future);
    if (err != QUERN_OK) {
        print_error("%s\n", quern_last_error());
    }
    assert_int_equal(err, QUERN_OK);
    return future;
}

static enum quern_err set_end(struct quern_set *set, int timeout_ms)
{
    struct quern_future *future = NULL;
    enum quern_err err = quern_set_next(set, timeout_ms, &future);
    assert_null(future);
    return err;
}

static void test_those_done_come_first_and_the_rest_as_they_complete(void **state)
{
    struct fake *fake = *state;
    struct quern_future *futures[MANY];
    struct quern_client *client = open_by_hand(fake, futures, MANY);
    end_as(fake, 4, TASK_DONE);
    end_as(fake, 2, TASK_DONE);
    await_done(futures[1]);
    struct quern_set *set = set_of(futures, MANY, QUERN_FOREVER);
    assert_ptr_equal(next_of(set), futures[1]);
    assert_ptr_equal(next_of(set), futures[3]);
    end_as(fake, 5, TASK_DONE);
    end_as(fake, 1, TASK_DONE);
    end_as(fake, 3, TASK_DONE);
    assert_ptr_equal(next_of(set), futures[4]);
    assert_ptr_equal(next_of(set), futures[0]);
    assert_ptr_equal(next_of(set), futures[2]);
    assert_int_equal(set_end(set, QUERN_FOREVER), QUERN_END);
    assert_int_equal(set_end(set, QUERN_FOREVER), QUERN_END);
    quern_set_close(&set);
    assert_null(set);
    quern_set_close(&set);
    close_all(client, futures, MANY);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_wait_for_none_returns_at_once),
        cmocka_unit_test(test_wait_with_a_bad_constant_is_an_error_in_words),
        WITH_FAKE(test_wait_for_the_first_sees_all_that_are_done),
        WITH_FAKE(test_wait_for_the_first_wakes_for_a_cancelled_one),
        WITH_FAKE(test_wait_for_the_first_exception_does_not_count_a_cancelled_one),
        WITH_FAKE(test_wait_for_the_first_exception_without_failures_waits_for_all),
        WITH_FAKE(test_wait_for_all_waits_for_failed_and_cancelled_ones),
        WITH_FAKE(test_a_wait_whose_time_is_over_is_no_error),
        WITH_FAKE(test_a_future_that_stands_twice_counts_once),
        WITH_FAKE(test_wait_serves_futures_of_several_clients),
        WITH_FAKE(test_a_wait_for_what_will_not_come_says_so),
        WITH_FAKE(test_those_done_come_first_and_the_rest_as_they_complete),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

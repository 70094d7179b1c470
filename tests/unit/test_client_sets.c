/*
 * quern_wait and sets against the fake broker: the lines of the contract of futures, and who waits through a set.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <sys/wait.h>

#include "client/inside.h"
#include "client_calls.h"

enum { MANY = 5 };

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

static void test_a_future_that_stands_twice_is_given_once(void **state)
{
    struct fake *fake = *state;
    struct quern_future *futures[2];
    struct quern_client *client = open_by_hand(fake, futures, 2);
    struct quern_future *twice[] = {futures[0], futures[1], futures[0], futures[1]};
    struct quern_set *set = set_of(twice, 4, QUERN_FOREVER);
    end_as(fake, 2, TASK_DONE);
    end_as(fake, 1, TASK_DONE);
    assert_ptr_equal(next_of(set), futures[1]);
    assert_int_equal(quern_set_add(set, futures[1]), QUERN_DUPLICATE); /* it was in the set */
    assert_int_equal(quern_set_add(set, futures[0]), QUERN_DUPLICATE); /* it is */
    assert_ptr_equal(next_of(set), futures[0]);
    assert_int_equal(set_end(set, QUERN_FOREVER), QUERN_END);
    quern_set_close(&set);
    set = set_of(twice, 4, QUERN_FOREVER); /* another set gives them again */
    assert_ptr_equal(next_of(set), futures[0]);
    assert_ptr_equal(next_of(set), futures[1]);
    quern_set_close(&set);
    close_all(client, futures, 2);
}

/* A failure shows only when its result is asked for. */
static void test_a_failure_does_not_end_the_iteration(void **state)
{
    struct fake *fake = *state;
    struct quern_future *futures[3];
    struct quern_client *client = open_by_hand(fake, futures, 3);
    struct quern_outcome *outcome = NULL;
    struct quern_set *set = set_of(futures, 3, QUERN_FOREVER);
    end_as(fake, 2, TASK_FAILED);
    end_as(fake, 1, TASK_CANCELLED);
    end_as(fake, 3, TASK_DONE);
    assert_ptr_equal(next_of(set), futures[1]);
    assert_ptr_equal(next_of(set), futures[0]);
    assert_ptr_equal(next_of(set), futures[2]);
    assert_int_equal(set_end(set, QUERN_FOREVER), QUERN_END);
    assert_int_equal(quern_future_result(futures[1], 0, &outcome), QUERN_TASK_FAILED);
    quern_outcome_release(&outcome);
    quern_set_close(&set);
    close_all(client, futures, 3);
}

/* What is done already is given although the time is over; then the time-out says how many are missing. */
static void test_what_is_done_is_given_before_a_timeout_is_told(void **state)
{
    struct fake *fake = *state;
    struct quern_future *futures[3];
    struct quern_client *client = open_by_hand(fake, futures, 3);
    end_as(fake, 3, TASK_DONE);
    end_as(fake, 1, TASK_DONE);
    await_done(futures[0]);
    struct quern_set *set = set_of(futures, 3, 0);
    assert_ptr_equal(next_of(set), futures[0]);
    assert_ptr_equal(next_of(set), futures[2]);
    assert_int_equal(set_end(set, QUERN_FOREVER), QUERN_TIMEOUT);
    assert_string_equal(quern_last_error(), "1 of 3 futures are unfinished; they go on");
    end_as(fake, 2, TASK_DONE);
    await_done(futures[1]);
    assert_ptr_equal(next_of(set), futures[1]);
    assert_int_equal(set_end(set, QUERN_FOREVER), QUERN_END);
    quern_set_close(&set);
    close_all(client, futures, 3);
}

/* The time of the whole iteration and that of one call: the shorter one counts. */
static void test_the_shorter_of_two_timeouts_counts(void **state)
{
    struct fake *fake = *state;
    struct quern_future *futures[1];
    struct quern_client *client = open_by_hand(fake, futures, 1);
    struct quern_set *set = set_of(futures, 1, 30);
    int64_t begun_ms = clock_mono_ms();
    assert_int_equal(set_end(set, 1), QUERN_TIMEOUT);
    assert_int_equal(set_end(set, QUERN_FOREVER), QUERN_TIMEOUT);
    assert_true(clock_mono_ms() - begun_ms >= 29); /* the set's time counts from its opening */
    quern_set_close(&set);
    close_all(client, futures, 1);
}

static void test_futures_are_added_while_iterating(void **state)
{
    struct fake *fake = *state;
    struct quern_client *client = open_default(fake);
    struct quern_set *set = set_of(NULL, 0, QUERN_FOREVER);
    assert_int_equal(set_end(set, QUERN_FOREVER), QUERN_END);
    struct quern_future *future = submit(client);
    assert_int_equal(quern_set_add(set, future), QUERN_OK);
    for (unsigned i = 0; i < 3000; i++) { /* each that is done is followed by another */
        struct quern_future *done = next_of(set);
        struct quern_outcome *outcome = NULL;
        assert_ptr_equal(done, future);
        future = submit(client);
        assert_int_equal(quern_set_add(set, future), QUERN_OK);
        assert_int_equal(quern_future_result(done, 0, &outcome), QUERN_OK);
        quern_outcome_release(&outcome);
        quern_future_release(&done);
    }
    quern_set_close(&set);
    quern_future_release(&future);
    assert_int_equal(quern_client_close(&client, 0), QUERN_OK);
}

/* Another thread adds to a set that one waits for: also a future of another client, which is told that it is wanted. */
static void *end_and_add(void *context)
{
    void **what = context;
    assert_int_equal(quern_set_add(what[0], what[1]), QUERN_OK);
    end_as(what[2], 1, TASK_DONE);
    return NULL;
}

static void test_a_future_of_another_client_joins_a_set_that_is_waited_for(void **state)
{
    struct fake *fake = *state;
    struct fake *other_fake = fake_make();
    fake_start(other_fake);
    struct quern_future *futures[2];
    struct quern_client *client = open_by_hand(fake, &futures[0], 1);
    struct quern_client *other = open_by_hand(other_fake, &futures[1], 1);
    struct quern_set *set = set_of(futures, 1, QUERN_FOREVER);
    void *what[] = {set, futures[1], other_fake};
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, end_and_add, what), 0);
    assert_ptr_equal(next_of(set), futures[1]);
    pthread_join(thread, NULL);
    /* Those of a client that is closed hold nobody up as long as others may come. */
    assert_int_equal(quern_client_close(&other, 0), QUERN_OK);
    end_as(fake, 1, TASK_DONE);
    assert_ptr_equal(next_of(set), futures[0]);
    quern_set_close(&set);
    release_all(futures, 2);
    assert_int_equal(quern_client_close(&client, 0), QUERN_OK);
    fake_free(other_fake);
}

static void test_a_released_future_leaves_its_sets(void **state)
{
    struct fake *fake = *state;
    struct quern_future *futures[3];
    struct quern_client *client = open_by_hand(fake, futures, 3);
    struct quern_set *set = set_of(futures, 3, QUERN_FOREVER);
    end_as(fake, 1, TASK_DONE);
    await_done(futures[0]);
    quern_future_release(&futures[0]); /* done, and not given */
    quern_future_release(&futures[1]); /* without outcome */
    assert_int_equal(set_end(set, 0), QUERN_TIMEOUT);
    assert_string_equal(quern_last_error(), "1 of 1 futures are unfinished; they go on");
    quern_future_release(&futures[2]);
    assert_int_equal(set_end(set, QUERN_FOREVER), QUERN_END);
    quern_set_close(&set);
    assert_int_equal(quern_client_close(&client, 0), QUERN_OK);
}

/* ---- the descriptor ---- */

static bool is_readable(int fd, int timeout_ms)
{
    struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
    return poll(&poll_fd, 1, timeout_ms) == 1;
}

static void test_the_descriptor_is_readable_while_a_set_would_not_block(void **state)
{
    struct fake *fake = *state;
    struct quern_future *futures[2];
    struct quern_client *client = open_by_hand(fake, futures, 2);
    struct quern_set *set = set_of(NULL, 0, QUERN_FOREVER);
    int fd = quern_set_fd(set);
    assert_int_equal(quern_set_fd(set), fd);
    assert_true(is_readable(fd, 0)); /* for the end */
    assert_int_equal(quern_set_add(set, futures[0]), QUERN_OK);
    assert_int_equal(quern_set_add(set, futures[1]), QUERN_OK);
    assert_false(is_readable(fd, 0));
    end_as(fake, 2, TASK_DONE);
    assert_true(is_readable(fd, WAIT_MS));
    assert_ptr_equal(next_of(set), futures[1]);
    assert_false(is_readable(fd, 0));
    assert_int_equal(quern_client_close(&client, 0), QUERN_OK);
    assert_true(is_readable(fd, WAIT_MS)); /* for the error */
    assert_int_equal(set_end(set, QUERN_FOREVER), QUERN_CLOSED);
    quern_set_close(&set);
    release_all(futures, 2);
}

static void test_the_descriptor_tells_of_the_end_of_time(void **state)
{
    struct fake *fake = *state;
    struct quern_future *futures[1];
    struct quern_client *client = open_by_hand(fake, futures, 1);
    struct quern_set *set = set_of(futures, 1, 5);
    assert_true(is_readable(quern_set_fd(set), WAIT_MS));
    assert_int_equal(set_end(set, QUERN_FOREVER), QUERN_TIMEOUT);
    end_as(fake, 1, TASK_DONE);
    await_done(futures[0]);
    assert_true(is_readable(quern_set_fd(set), 0));
    assert_ptr_equal(next_of(set), futures[0]);
    quern_set_close(&set);
    close_all(client, futures, 1);
}

/* ---- the window ---- */

enum { NARROW = 4, HELD = 40 };

static struct quern_client *open_narrow(struct fake *fake)
{
    struct quern_client_options options = QUERN_CLIENT_OPTIONS_INIT;
    options.window_count = NARROW;
    return open_with(fake, options);
}

/* Outcomes that are held fill the window: who waits for more, in whichever way, gets more. */
static void test_who_holds_more_than_the_window_is_not_stuck_in_wait(void **state)
{
    struct fake *fake = *state;
    struct quern_client *client = open_narrow(fake);
    struct quern_future *futures[HELD];
    size_t count = 0;
    for (unsigned i = 0; i < HELD; i++) {
        futures[i] = submit(client);
    }
    assert_int_equal(quern_wait(futures, HELD, QUERN_ALL_COMPLETED, WAIT_MS, NULL, &count), QUERN_OK);
    assert_int_equal(count, HELD);
    close_all(client, futures, HELD);
}

static void test_who_holds_more_than_the_window_is_not_stuck_in_a_set(void **state)
{
    struct fake *fake = *state;
    struct quern_client *client = open_narrow(fake);
    struct quern_future *futures[HELD];
    for (unsigned i = 0; i < HELD; i++) {
        futures[i] = submit(client);
    }
    struct quern_set *set = set_of(futures, HELD, QUERN_FOREVER);
    for (unsigned i = 0; i < HELD; i++) {
        assert_ptr_equal(next_of(set), futures[i]);
    }
    quern_set_close(&set);
    close_all(client, futures, HELD);
}

static void test_who_holds_more_than_the_window_is_not_stuck_polling_a_descriptor(void **state)
{
    struct fake *fake = *state;
    struct quern_client *client = open_narrow(fake);
    struct quern_future *futures[HELD];
    for (unsigned i = 0; i < HELD; i++) {
        futures[i] = submit(client);
    }
    struct quern_set *set = set_of(futures, HELD, QUERN_FOREVER);
    int fd = quern_set_fd(set);
    for (unsigned i = 0; i < HELD; i++) {
        struct quern_future *future = NULL;
        assert_true(is_readable(fd, WAIT_MS));
        assert_int_equal(quern_set_next(set, 0, &future), QUERN_OK);
        assert_ptr_equal(future, futures[i]);
    }
    quern_set_close(&set);
    close_all(client, futures, HELD);
}

static void test_who_holds_more_than_the_window_is_not_stuck_looking_again_and_again(void **state)
{
    struct fake *fake = *state;
    struct quern_client *client = open_narrow(fake);
    struct quern_future *futures[HELD];
    size_t count = 0;
    for (unsigned i = 0; i < HELD; i++) {
        futures[i] = submit(client);
    }
    struct quern_set *set = set_of(futures, HELD / 2, QUERN_FOREVER);
    int64_t deadline_ms = clock_mono_ms() + WAIT_MS;
    while (count < HELD / 2 && clock_mono_ms() < deadline_ms) {
        struct quern_future *future = NULL;
        count += quern_set_next(set, 0, &future) == QUERN_OK;
    }
    assert_int_equal(count, HELD / 2);
    while (count < HELD && clock_mono_ms() < deadline_ms) {
        assert_int_equal(quern_wait(futures, HELD, QUERN_ALL_COMPLETED, 0, NULL, &count), QUERN_OK);
    }
    assert_int_equal(count, HELD);
    quern_set_close(&set);
    close_all(client, futures, HELD);
}

/* A set that nobody waits for makes nobody send more than the window, however often the client has something to do. */
static void test_a_set_that_is_not_waited_for_does_not_stretch_the_window(void **state)
{
    struct fake *fake = *state;
    struct quern_client *client = open_narrow(fake);
    struct quern_future *futures[HELD];
    for (unsigned i = 0; i < HELD; i++) {
        futures[i] = submit(client);
    }
    struct quern_set *set = set_of(futures, HELD, QUERN_FOREVER);
    assert_ptr_equal(next_of(set), futures[0]);
    for (unsigned i = 0; i < HELD; i++) {
        void *answer = NULL;
        size_t size = 0;
        assert_int_equal(quern_query(client, "status", NULL, 0, WAIT_MS, &answer, &size), QUERN_OK);
        free(answer);
    }
    fake_lock(fake);
    uint64_t outcome_count = fake->outcome_count;
    fake_unlock(fake);
    assert_in_range(outcome_count, 1, 2 * NARROW);
    quern_set_close(&set);
    close_all(client, futures, HELD);
}

/* A thread waits for a set; what it waits for from now on is behind another client's window, which it holds full. */
static void *add_when_waited_for(void *context)
{
    void **what = context;
    struct quern_client *client = what[2];
    bool is_waited_for = false;
    while (!is_waited_for) {
        pthread_mutex_lock(&client->lock);
        is_waited_for = client->watches.first->waiters > 0;
        pthread_mutex_unlock(&client->lock);
        sched_yield();
    }
    assert_int_equal(quern_set_add(what[0], what[1]), QUERN_OK);
    return NULL;
}

static void test_who_waits_for_a_set_waits_for_a_client_that_joins_it(void **state)
{
    struct fake *fake = *state;
    struct fake *other_fake = fake_make();
    fake_start(other_fake);
    struct quern_future *futures[1];
    struct quern_future *others[HELD];
    struct quern_client *client = open_by_hand(fake, futures, 1);
    struct quern_client *other = open_narrow(other_fake);
    for (unsigned i = 0; i < HELD; i++) {
        others[i] = submit(other);
    }
    struct quern_set *set = set_of(futures, 1, QUERN_FOREVER);
    void *what[] = {set, others[HELD - 1], client};
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, add_when_waited_for, what), 0);
    assert_ptr_equal(next_of(set), others[HELD - 1]);
    pthread_join(thread, NULL);
    quern_set_close(&set);
    close_all(other, others, HELD);
    close_all(client, futures, 1);
    fake_free(other_fake);
}

/* ---- the end of a client ---- */

static void *take_from_set(void *context)
{
    struct quern_future *future = NULL;
    return (void *)(uintptr_t)quern_set_next(context, QUERN_FOREVER, &future);
}

static void test_being_taken_over_reaches_who_waits_for_a_set(void **state)
{
    struct fake *fake = *state;
    struct quern_future *futures[2];
    struct quern_client *client = open_by_hand(fake, futures, 2);
    struct quern_set *set = set_of(futures, 2, QUERN_FOREVER);
    pthread_t thread;
    void *result;
    size_t count = 7;
    assert_int_equal(pthread_create(&thread, NULL, take_from_set, set), 0);
    fake_lock(fake);
    fake->deny_now = QUERN_TAKEN_OVER;
    fake_unlock(fake);
    assert_int_equal(quern_wait(futures, 2, QUERN_ALL_COMPLETED, QUERN_FOREVER, NULL, &count), QUERN_TAKEN_OVER);
    assert_non_null(strstr(quern_last_error(), "there:99"));
    pthread_join(thread, &result);
    assert_int_equal((uintptr_t)result, QUERN_TAKEN_OVER);
    quern_set_close(&set);
    release_all(futures, 2);
    (void)quern_client_close(&client, 0);
}

static void test_what_is_done_is_given_after_the_client_has_closed(void **state)
{
    struct fake *fake = *state;
    struct quern_future *futures[2];
    struct quern_client *client = open_by_hand(fake, futures, 2);
    struct quern_set *set = set_of(futures, 2, QUERN_FOREVER);
    end_as(fake, 2, TASK_DONE);
    await_done(futures[1]);
    assert_int_equal(quern_client_close(&client, 0), QUERN_OK);
    assert_ptr_equal(next_of(set), futures[1]);
    assert_int_equal(set_end(set, QUERN_FOREVER), QUERN_CLOSED);
    quern_set_close(&set);
    release_all(futures, 2);
}

static void test_null_is_said_so(void **state)
{
    struct quern_set *set = NULL;
    struct quern_future *future = NULL;
    (void)state;
    assert_int_equal(quern_as_completed(NULL, 1, 0, &set), QUERN_INVALID);
    assert_int_equal(quern_as_completed(NULL, 0, 0, NULL), QUERN_INVALID);
    assert_int_equal(quern_as_completed(&future, 1, 0, &set), QUERN_INVALID);
    assert_null(set);
    assert_int_equal(quern_set_next(NULL, 0, &future), QUERN_INVALID);
    assert_int_equal(quern_set_add(NULL, NULL), QUERN_INVALID);
    assert_int_equal(quern_set_fd(NULL), -1);
    assert_int_equal(quern_as_completed(NULL, 0, 0, &set), QUERN_OK);
    assert_int_equal(quern_set_add(set, NULL), QUERN_INVALID);
    assert_int_equal(quern_set_next(set, 0, NULL), QUERN_INVALID);
    quern_set_close(&set);
    quern_set_close(NULL);
}

static void test_the_child_of_a_fork_is_told_that_the_set_is_not_its_own(void **state)
{
    struct fake *fake = *state;
    struct quern_future *futures[1];
    struct quern_client *client = open_by_hand(fake, futures, 1);
    struct quern_set *set = set_of(futures, 1, QUERN_FOREVER);
    pid_t child = fork();
    if (child == 0) {
        struct quern_future *future = NULL;
        struct quern_set *other = NULL;
        bool is_right = quern_set_next(set, QUERN_FOREVER, &future) == QUERN_CLOSED &&
                        quern_set_add(set, futures[0]) == QUERN_CLOSED && quern_set_fd(set) == -1 &&
                        quern_as_completed(futures, 1, 0, &other) == QUERN_CLOSED &&
                        quern_wait(futures, 1, QUERN_ALL_COMPLETED, QUERN_FOREVER, NULL, NULL) == QUERN_CLOSED &&
                        strstr(quern_last_error(), "fork") != NULL;
        quern_set_close(&set);
        _exit(is_right && set == NULL ? 0 : 1);
    }
    int status = -1;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    quern_set_close(&set);
    close_all(client, futures, 1);
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
        WITH_FAKE(test_a_future_that_stands_twice_is_given_once),
        WITH_FAKE(test_a_failure_does_not_end_the_iteration),
        WITH_FAKE(test_what_is_done_is_given_before_a_timeout_is_told),
        WITH_FAKE(test_the_shorter_of_two_timeouts_counts),
        WITH_FAKE(test_futures_are_added_while_iterating),
        WITH_FAKE(test_a_future_of_another_client_joins_a_set_that_is_waited_for),
        WITH_FAKE(test_a_released_future_leaves_its_sets),
        WITH_FAKE(test_the_descriptor_is_readable_while_a_set_would_not_block),
        WITH_FAKE(test_the_descriptor_tells_of_the_end_of_time),
        WITH_FAKE(test_who_holds_more_than_the_window_is_not_stuck_in_wait),
        WITH_FAKE(test_who_holds_more_than_the_window_is_not_stuck_in_a_set),
        WITH_FAKE(test_who_holds_more_than_the_window_is_not_stuck_polling_a_descriptor),
        WITH_FAKE(test_who_holds_more_than_the_window_is_not_stuck_looking_again_and_again),
        WITH_FAKE(test_a_set_that_is_not_waited_for_does_not_stretch_the_window),
        WITH_FAKE(test_who_waits_for_a_set_waits_for_a_client_that_joins_it),
        WITH_FAKE(test_being_taken_over_reaches_who_waits_for_a_set),
        WITH_FAKE(test_what_is_done_is_given_after_the_client_has_closed),
        cmocka_unit_test(test_null_is_said_so),
        WITH_FAKE(test_the_child_of_a_fork_is_told_that_the_set_is_not_its_own),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

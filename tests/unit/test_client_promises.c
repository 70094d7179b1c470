/*
 * What a future promises, where no other test of the client has it alone: against a broker in one thread
 * (fake_broker.h).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <semaphore.h>
#include <stdatomic.h>

#include "client/inside.h"
#include "client_calls.h"

#define MANY 6

static sem_t result_was_had;

static void wait_for_the_main_thread(struct quern_future *future, void *context)
{
    (void)future;
    (void)sem_wait(&result_was_had);
    *(bool *)context = true;
}

/* A callback that takes long holds up nobody who waits for the result. */
static void test_who_waits_for_a_result_goes_on_while_callbacks_still_run(void **state)
{
    struct fake *fake = *state;
    struct quern_future *futures[1];
    struct quern_client *client = open_by_hand(fake, futures, 1);
    bool has_run = false;
    assert_int_equal(sem_init(&result_was_had, 0, 0), 0);
    assert_int_equal(quern_future_on_done(futures[0], wait_for_the_main_thread, &has_run), QUERN_OK);
    end_as(fake, 1, TASK_DONE);
    await_done(futures[0]);
    assert_false(has_run); /* it cannot before we say so */
    assert_int_equal(sem_post(&result_was_had), 0);
    assert_int_equal(quern_client_close(&client, 0), QUERN_OK); /* waits for the callback that has begun */
    release_all(futures, 1);
    assert_int_equal(sem_destroy(&result_was_had), 0);
}

static void test_cancelling_a_cancelled_one_is_true_and_asks_nobody(void **state)
{
    struct fake *fake = *state;
    struct quern_future *futures[1];
    struct quern_client *client = open_by_hand(fake, futures, 1);
    end_as(fake, 1, TASK_CANCELLED);
    await_done(futures[0]);
    for (int force = 0; force < 2; force++) {
        assert_int_equal(quern_future_cancel(futures[0], force, WAIT_MS), QUERN_OK);
    }
    assert_true(quern_future_cancelled(futures[0]));
    close_all(client, futures, 1);
    fake_stop(fake);
    assert_int_equal(fake->cancel_count, 0);
}

/* Those with true and those with false are all of them, and a look changes nothing. */
static void test_wait_parts_futures_into_done_and_not_done_and_cancels_nothing(void **state)
{
    static const enum quern_when whens[] = {QUERN_FIRST_COMPLETED, QUERN_FIRST_EXCEPTION, QUERN_ALL_COMPLETED};
    struct fake *fake = *state;
    struct quern_future *futures[MANY];
    struct quern_client *client = open_by_hand(fake, futures, MANY);
    end_as(fake, 2, TASK_DONE);
    end_as(fake, 5, TASK_CANCELLED);
    await_done(futures[1]);
    await_done(futures[4]);
    for (size_t w = 0; w < 3; w++) {
        bool done[MANY];
        size_t count = 0;
        assert_int_equal(quern_wait(futures, MANY, whens[w], 5, done, &count), QUERN_OK);
        assert_int_equal(count, 2);
        for (size_t i = 0; i < MANY; i++) {
            assert_int_equal(done[i], i == 1 || i == 4);
            assert_int_equal(done[i], quern_future_done(futures[i]));
        }
    }
    close_all(client, futures, MANY);
    fake_stop(fake);
    assert_int_equal(fake->cancel_count, 0);
}

/* It need not come while somebody waits. */
static void test_a_failure_that_was_there_before_ends_wait_for_the_first_exception(void **state)
{
    struct fake *fake = *state;
    struct quern_future *futures[MANY];
    struct quern_client *client = open_by_hand(fake, futures, MANY);
    size_t count = 0;
    end_as(fake, 3, TASK_FAILED);
    await_done(futures[2]);
    assert_int_equal(quern_wait(futures, MANY, QUERN_FIRST_EXCEPTION, QUERN_FOREVER, NULL, &count), QUERN_OK);
    assert_int_equal(count, 1);
    close_all(client, futures, MANY);
}

/* A bad constant is an error whatever there is to wait for. */
static void test_a_bad_condition_is_an_error_also_where_nothing_is_waited_for(void **state)
{
    struct fake *fake = *state;
    struct quern_future *futures[1];
    struct quern_client *client = open_by_hand(fake, futures, 1);
    for (int when = -1; when <= 4; when += 5) {
        assert_int_equal(quern_wait(futures, 1, (enum quern_when)when, 0, NULL, NULL), QUERN_INVALID);
        assert_int_equal(quern_wait(NULL, 0, (enum quern_when)when, 0, NULL, NULL), QUERN_INVALID);
    }
    close_all(client, futures, 1);
}

static void count_call(struct quern_future *future, void *context)
{
    (void)future;
    atomic_fetch_add((atomic_uint *)context, 1);
}

/* Its outcome stays unacknowledged: the broker says it again. */
static void await_untaken(struct quern_future *future)
{
    assert_int_equal(quern_wait(&future, 1, QUERN_ALL_COMPLETED, WAIT_MS, NULL, NULL), QUERN_OK);
}

/* The same outcome once more, and then another one for the same task under a number of its own: the first one stays,
 * whoever looks, and nobody is told again. */
static void test_a_second_outcome_of_a_task_changes_nothing(void **state)
{
    struct fake *fake = *state;
    struct quern_future *futures[3];
    struct quern_client *client = open_by_hand(fake, futures, 3);
    atomic_uint calls = 0;
    assert_int_equal(quern_future_on_done(futures[0], count_call, &calls), QUERN_OK);
    end_as(fake, 1, TASK_CANCELLED);
    await_untaken(futures[0]);
    fake_lock(fake);
    fake->must_kick = true; /* and says everything again */
    fake_unlock(fake);
    end_as(fake, 2, TASK_DONE);
    await_untaken(futures[1]);
    assert_true(quern_future_cancelled(futures[0]));
    fake_lock(fake);
    fake_complete_again(fake, 1, TASK_DONE); /* as a broker would that forgot */
    fake_complete(fake, 3);
    fake_unlock(fake);
    await_untaken(futures[2]); /* which came behind it */
    assert_true(quern_future_cancelled(futures[0]));
    struct quern_outcome *outcome = NULL;
    assert_int_equal(quern_future_result(futures[0], 0, &outcome), QUERN_CANCELLED);
    assert_int_equal(outcome->completion, 1);
    assert_int_equal(outcome->state, QUERN_STATE_CANCELLED);
    quern_outcome_release(&outcome);
    close_all(client, futures, 3);
    fake_stop(fake);
    assert_int_equal(fake->outcome_count, 5); /* 1, again with 2 on the next connection, then the other one and 3 */
    assert_int_equal(atomic_load(&calls), 1);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        WITH_FAKE(test_who_waits_for_a_result_goes_on_while_callbacks_still_run),
        WITH_FAKE(test_cancelling_a_cancelled_one_is_true_and_asks_nobody),
        WITH_FAKE(test_wait_parts_futures_into_done_and_not_done_and_cancels_nothing),
        WITH_FAKE(test_a_failure_that_was_there_before_ends_wait_for_the_first_exception),
        WITH_FAKE(test_a_bad_condition_is_an_error_also_where_nothing_is_waited_for),
        WITH_FAKE(test_a_second_outcome_of_a_task_changes_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

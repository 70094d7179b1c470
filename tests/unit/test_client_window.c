/*
 * How much goes and comes at once: windows, credit, polling, against the fake broker.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "client/inside.h"
#include "client_calls.h"

/* ---- windows ---- */

static void test_submit_waits_for_the_window_or_says_full(void **state)
{
    struct fake *fake = *state;
    struct quern_client *client = open_default(fake);
    struct quern_call call = call_of("\x90");
    fake_lock(fake);
    fake->holds_answers = true;
    fake_unlock(fake);
    submit_plain(client, 20000);
    call.wait_ms = 0;
    assert_int_equal(quern_submit(client, &call, NULL, NULL), QUERN_FULL);
    call.wait_ms = 5;
    assert_int_equal(quern_submit(client, &call, NULL, NULL), QUERN_FULL);
    fake_lock(fake);
    fake->holds_answers = false;
    fake_unlock(fake);
    call.wait_ms = QUERN_FOREVER;
    assert_int_equal(quern_submit(client, &call, NULL, NULL), QUERN_OK);
    assert_int_equal(quern_flush(client, WAIT_MS), QUERN_OK);
    assert_int_equal(quern_client_close(&client, 0), QUERN_OK);
}

struct submitter {
    struct quern_client *client;
    struct quern_call call;
    enum quern_err err;
};

static void *submit_and_wait(void *context)
{
    struct submitter *submitter = context;
    submitter->err = quern_submit(submitter->client, &submitter->call, NULL, NULL);
    return NULL;
}

/* A thread sleeps in quern_submit behind a full window until answers come; then everything goes out, once. */
static void waits_behind(struct fake *fake, struct quern_client *client, const struct quern_call *call, uint32_t count)
{
    struct submitter submitter = {.client = client, .call = *call};
    pthread_t thread;
    unsigned waiters = 0;
    submitter.call.wait_ms = 0;
    assert_int_equal(quern_submit(client, &submitter.call, NULL, NULL), QUERN_FULL);
    submitter.call.wait_ms = QUERN_FOREVER;
    assert_int_equal(pthread_create(&thread, NULL, submit_and_wait, &submitter), 0);
    while (waiters == 0) {
        pthread_mutex_lock(&client->lock);
        waiters = client->room_waiters;
        pthread_mutex_unlock(&client->lock);
        sched_yield();
    }
    fake_lock(fake);
    fake->holds_answers = false;
    fake_unlock(fake);
    pthread_join(thread, NULL);
    assert_int_equal(submitter.err, QUERN_OK);
    assert_int_equal(quern_flush(client, WAIT_MS), QUERN_OK);
    fake_lock(fake);
    for (uint32_t sequence = 1; sequence <= count + 1; sequence++) {
        fake_complete(fake, sequence);
    }
    fake_unlock(fake);
    for (uint32_t i = 0; i <= count; i++) {
        take(client);
    }
    assert_int_equal(next_now(client), QUERN_END);
    fake_lock(fake);
    assert_int_equal(fake->submit_count, count + 1);
    fake_unlock(fake);
}

static void test_a_submit_that_waits_for_the_window_of_counts_goes_on(void **state)
{
    struct fake *fake = *state;
    struct quern_client *client = open_default(fake);
    struct quern_call call = call_of("\x90");
    fake_lock(fake);
    fake->holds_answers = fake->is_by_hand = true; /* no outcome comes in front of its acceptance */
    fake_unlock(fake);
    submit_plain(client, CLIENT_SUBMIT_COUNT_MAX);
    waits_behind(fake, client, &call, CLIENT_SUBMIT_COUNT_MAX);
    assert_int_equal(quern_client_close(&client, 0), QUERN_OK);
}

static void test_a_submit_that_waits_for_the_window_of_bytes_goes_on(void **state)
{
    enum { SIZE = 16 * 1024 * 1024, COUNT = CLIENT_SUBMIT_BYTES_MAX / SIZE };
    struct fake *fake = *state;
    struct quern_client *client = open_default(fake);
    struct quern_call call = call_of("");
    char *args = calloc(1, SIZE);
    memcpy(args, "\x91\xc6\x00\xff\xff\xfa", 6); /* [one bin of the rest] */
    call.args = args;
    call.args_size = SIZE;
    fake_lock(fake);
    fake->holds_answers = fake->is_by_hand = true; /* no outcome comes in front of its acceptance */
    fake_unlock(fake);
    for (int i = 0; i < COUNT; i++) {
        assert_int_equal(quern_submit(client, &call, NULL, NULL), QUERN_OK);
    }
    waits_behind(fake, client, &call, COUNT);
    free(args);
    assert_int_equal(quern_client_close(&client, 0), QUERN_OK);
}

/* The fake stops the test if more comes than it gave credit for. */
static void test_the_brokers_credit_is_respected(void **state)
{
    struct fake *fake = *state;
    fake_lock(fake);
    fake->credit_count = 10;
    fake_unlock(fake);
    struct quern_client *client = open_default(fake);
    submit_plain(client, 1000);
    assert_int_equal(quern_flush(client, WAIT_MS), QUERN_OK);
    for (int i = 0; i < 1000; i++) {
        take(client);
    }
    assert_int_equal(quern_client_close(&client, 0), QUERN_OK);
}

/* What nobody takes stays in the broker. */
static void test_no_more_outcomes_come_than_the_window_holds(void **state)
{
    struct fake *fake = *state;
    struct quern_client_options options = QUERN_CLIENT_OPTIONS_INIT;
    options.window_count = 10;
    struct quern_client *client = open_with(fake, options);
    submit_plain(client, 1000);
    assert_int_equal(quern_flush(client, WAIT_MS), QUERN_OK);
    fake_lock(fake);
    fake_await(fake, fake->completion_last == 1000 && fake->outcome_count >= 10);
    assert_int_equal(fake->outcome_count, 10);
    fake_unlock(fake);
    for (uint64_t i = 1; i <= 1000; i++) {
        assert_int_equal(take(client), i);
    }
    assert_int_equal(quern_client_close(&client, 0), QUERN_OK);
}

static void test_waiting_for_the_last_of_many_futures_cannot_deadlock(void **state)
{
    enum { COUNT = 500 };
    struct fake *fake = *state;
    struct quern_client_options options = QUERN_CLIENT_OPTIONS_INIT;
    struct quern_future *futures[COUNT];
    struct quern_outcome *outcome = NULL;
    options.window_count = 10;
    options.window_bytes = 16;
    struct quern_client *client = open_with(fake, options);
    for (int i = 0; i < COUNT; i++) {
        futures[i] = submit(client);
    }
    for (int i = COUNT - 1; i >= 0; i--) {
        assert_int_equal(quern_future_wait(futures[i], WAIT_MS, &outcome), QUERN_OK);
        quern_outcome_release(&outcome);
        quern_future_release(&futures[i]);
    }
    submit_plain(client, 100);
    for (int i = 0; i < 100; i++) {
        take(client);
    }
    assert_int_equal(quern_client_close(&client, 0), QUERN_OK);
    fake_stop(fake);
    assert_int_equal(fake->acked_count, COUNT + 100);
}

/* A program that only polls must get on as well. */
static void test_polling_behind_a_full_window_gets_on(void **state)
{
    enum { COUNT = 50 };
    struct fake *fake = *state;
    struct quern_client_options options = QUERN_CLIENT_OPTIONS_INIT;
    struct quern_future *futures[COUNT];
    options.window_count = 4;
    struct quern_client *client = open_with(fake, options);
    for (int i = 0; i < COUNT; i++) {
        futures[i] = submit(client);
    }
    int64_t deadline_ms = clock_mono_ms() + WAIT_MS;
    while (!quern_future_done(futures[COUNT - 1])) {
        assert_true(clock_mono_ms() < deadline_ms);
        sched_yield();
    }
    for (int i = 0; i < COUNT; i++) {
        quern_future_release(&futures[i]);
    }
    for (uint64_t i = 1; i <= COUNT; i++) {
        assert_int_equal(take(client), i); /* never asked for: they come out here, in order */
    }
    assert_int_equal(quern_client_close(&client, 0), QUERN_OK);
}

static bool is_readable(int fd)
{
    struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
    return poll(&poll_fd, 1, 0) == 1;
}

static void test_the_descriptor_is_readable_while_next_would_not_block(void **state)
{
    struct fake *fake = *state;
    struct quern_client *client = open_default(fake);
    int fd = quern_client_fd(client);
    assert_true(is_readable(fd)); /* END */
    fake_lock(fake);
    fake->holds_outcomes = true;
    fake_unlock(fake);
    submit_plain(client, 1);
    assert_false(is_readable(fd));
    fake_lock(fake);
    fake_await(fake, fake->submitted_high == 1);
    fake_complete(fake, 1);
    fake->holds_outcomes = false;
    fake_unlock(fake);
    struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
    assert_int_equal(poll(&poll_fd, 1, WAIT_MS), 1);
    assert_int_equal(take(client), 1);
    assert_true(is_readable(fd));
    assert_int_equal(quern_client_close(&client, 0), QUERN_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_FAKE(test_submit_waits_for_the_window_or_says_full),
        WITH_FAKE(test_a_submit_that_waits_for_the_window_of_counts_goes_on),
        WITH_FAKE(test_a_submit_that_waits_for_the_window_of_bytes_goes_on),
        WITH_FAKE(test_the_brokers_credit_is_respected),
        WITH_FAKE(test_no_more_outcomes_come_than_the_window_holds),
        WITH_FAKE(test_waiting_for_the_last_of_many_futures_cannot_deadlock),
        WITH_FAKE(test_polling_behind_a_full_window_gets_on),
        WITH_FAKE(test_the_descriptor_is_readable_while_next_would_not_block),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/*
 * What a program sees of broken connections, other owners, its own end, a fork and many threads, against the fake
 * broker.
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

/* ---- connections that break ---- */

static atomic_int ups;
static atomic_int downs;

static void on_connection(void *context, bool is_up, const char *text)
{
    (void)context;
    assert_non_null(text);
    atomic_fetch_add(is_up ? &ups : &downs, 1);
}

/* Waits of the application go on (P8); unanswered submits go again, exactly those, and nobody is executed twice. */
static void test_a_reconnect_resends_what_was_not_answered(void **state)
{
    struct fake *fake = *state;
    struct quern_client_options options = QUERN_CLIENT_OPTIONS_INIT;
    atomic_store(&ups, 0);
    atomic_store(&downs, 0);
    options.on_connection = on_connection;
    struct quern_client *client = open_with(fake, options);
    struct quern_outcome *outcome = NULL;
    submit_plain(client, 3);
    assert_int_equal(quern_flush(client, WAIT_MS), QUERN_OK);
    fake_lock(fake);
    fake->holds_answers = fake->holds_outcomes = true;
    fake_unlock(fake);
    struct quern_future *future = submit(client);
    submit_plain(client, 1);
    fake_lock(fake);
    fake_await(fake, fake->submitted_high == 5);
    fake->must_kick = true;
    fake_unlock(fake);
    fake_lock(fake);
    fake_await(fake, fake->resume_count == 1 && fake->repeated_count == 2);
    assert_int_equal(fake->submit_count, 7);
    fake_complete(fake, 4);
    fake_complete(fake, 5);
    fake->holds_answers = fake->holds_outcomes = false;
    fake_unlock(fake);
    assert_int_equal(quern_future_wait(future, WAIT_MS, &outcome), QUERN_OK);
    quern_outcome_release(&outcome);
    quern_future_release(&future);
    for (int i = 0; i < 4; i++) {
        take(client);
    }
    assert_int_equal(next_now(client), QUERN_END);
    assert_int_equal(quern_client_close(&client, 0), QUERN_OK);
    fake_stop(fake);
    assert_int_equal(atomic_load(&downs), 1);
    assert_int_equal(atomic_load(&ups), 1);
    assert_int_equal(fake->acked_count, 5);
}

/* Outcomes that the application holds come again after a reconnect: they are not delivered twice. */
static void test_an_outcome_is_delivered_once_over_many_connections(void **state)
{
    struct fake *fake = *state;
    struct quern_client *client = open_default(fake);
    submit_plain(client, 200);
    assert_int_equal(quern_flush(client, WAIT_MS), QUERN_OK);
    for (uint64_t i = 1; i <= 200; i++) {
        if (i % 50 == 0) {
            fake_lock(fake);
            unsigned before = fake->resume_count;
            fake->must_kick = true;
            fake_unlock(fake);
            fake_lock(fake);
            fake_await(fake, fake->resume_count > before);
            fake_unlock(fake);
        }
        assert_int_equal(take(client), i);
    }
    assert_int_equal(next_now(client), QUERN_END);
    assert_int_equal(quern_client_close(&client, 0), QUERN_OK);
    fake_stop(fake);
    assert_int_equal(fake->acked_count, 200);
    assert_true(fake->outcome_count > 200);
}

static void *wait_for_next(void *context)
{
    struct quern_outcome *outcome = NULL;
    return (void *)(uintptr_t)quern_next(context, QUERN_FOREVER, &outcome);
}

static void test_being_taken_over_ends_every_wait(void **state)
{
    struct fake *fake = *state;
    struct quern_client *client = open_default(fake);
    struct quern_outcome *outcome = NULL;
    pthread_t thread;
    void *result;
    fake_lock(fake);
    fake->holds_outcomes = true;
    fake_unlock(fake);
    struct quern_future *future = submit(client);
    submit_plain(client, 1);
    assert_int_equal(quern_flush(client, WAIT_MS), QUERN_OK);
    assert_int_equal(pthread_create(&thread, NULL, wait_for_next, client), 0);
    fake_lock(fake);
    fake->deny_now = QUERN_TAKEN_OVER;
    fake_unlock(fake);
    assert_int_equal(quern_future_wait(future, WAIT_MS, &outcome), QUERN_TAKEN_OVER);
    assert_non_null(strstr(quern_last_error(), "there:99"));
    pthread_join(thread, &result);
    assert_int_equal((uintptr_t)result, QUERN_TAKEN_OVER);
    struct quern_call call = call_of("\x90");
    assert_int_equal(quern_submit(client, &call, NULL, NULL), QUERN_TAKEN_OVER);
    assert_int_equal(quern_flush(client, WAIT_MS), QUERN_TAKEN_OVER);
    quern_future_release(&future);
    (void)quern_client_close(&client, 0);
}

static void test_a_restarted_broker_is_a_non_event(void **state)
{
    struct fake *fake = *state;
    struct quern_client *client = open_default(fake);
    submit_plain(client, 10);
    assert_int_equal(quern_flush(client, WAIT_MS), QUERN_OK);
    fake_stop(fake);
    fake->conn = 0;
    submit_plain(client, 10);
    fake_start(fake);
    assert_int_equal(quern_flush(client, WAIT_MS), QUERN_OK);
    for (uint64_t i = 1; i <= 20; i++) {
        assert_int_equal(take(client), i);
    }
    assert_int_equal(quern_client_close(&client, 0), QUERN_OK);
}

/* ---- closing ---- */

static void test_close_flushes_submits_and_acknowledgements(void **state)
{
    struct fake *fake = *state;
    struct quern_client *client = open_default(fake);
    submit_plain(client, 100);
    for (int i = 0; i < 10; i++) {
        take(client);
    }
    submit_plain(client, 1000);
    assert_int_equal(quern_client_close(&client, QUERN_CLOSE_SESSION | QUERN_CLOSE_CANCEL), QUERN_OK);
    fake_stop(fake);
    assert_int_equal(fake->submitted_high, 1100);
    assert_int_equal(fake->acked_count, 10);
    assert_true(fake->last_cancel);
    assert_false(fake->last_drop);
}

/* It was lost with its broker, or somebody else has closed it: what was asked for is so. */
static void test_a_session_that_has_gone_needs_no_closing(void **state)
{
    struct fake *fake = *state;
    struct quern_client *client = open_default(fake);
    fake_lock(fake);
    fake->reply_code = QUERN_UNKNOWN;
    fake_unlock(fake);
    assert_int_equal(quern_session_close(client, "mine", 0, WAIT_MS), QUERN_UNKNOWN); /* one that was named is told */
    assert_int_equal(quern_client_close(&client, QUERN_CLOSE_SESSION), QUERN_OK);
}

static void *close_session(void *context)
{
    struct quern_client *client = context;
    return (void *)(uintptr_t)quern_client_close(&client, QUERN_CLOSE_SESSION);
}

/* The broker closed it and died before it said so; the next one knows no such session. */
static void test_a_close_whose_answer_was_lost_with_the_broker_is_done(void **state)
{
    struct fake *fake = *state;
    struct quern_client *client = open_default(fake);
    pthread_t closing;
    void *result;
    fake_lock(fake);
    fake->holds_replies = true;
    fake_unlock(fake);
    assert_int_equal(pthread_create(&closing, NULL, close_session, client), 0);
    fake_lock(fake);
    fake_await(fake, fake->request_count == 1);
    fake->deny_now = QUERN_UNKNOWN;
    fake_unlock(fake);
    pthread_join(closing, &result);
    assert_int_equal((uintptr_t)result, QUERN_OK);
}

static void *wait_for_reply(void *context)
{
    return (void *)(uintptr_t)quern_cancel(context, id_make(7, 1), false, QUERN_FOREVER);
}

static bool is_waited_for(struct quern_client *client)
{
    pthread_mutex_lock(&client->lock);
    bool is_so = client->arrived_waiters > 0;
    pthread_mutex_unlock(&client->lock);
    return is_so;
}

/* The memory they wait in goes with the last of them. */
static void test_threads_that_wait_while_the_client_is_closed_are_let_go(void **state)
{
    struct fake *fake = *state;
    struct quern_client *client = open_default(fake);
    pthread_t next;
    pthread_t reply;
    void *result;
    fake_lock(fake);
    fake->holds_outcomes = fake->holds_replies = true;
    fake_unlock(fake);
    submit_plain(client, 1);
    assert_int_equal(pthread_create(&next, NULL, wait_for_next, client), 0);
    assert_int_equal(pthread_create(&reply, NULL, wait_for_reply, client), 0);
    fake_lock(fake);
    fake_await(fake, fake->request_count == 1 && fake->submitted_high == 1);
    fake_unlock(fake);
    while (!is_waited_for(client)) {
        sched_yield();
    }
    assert_int_equal(quern_client_close(&client, 0), QUERN_OK);
    pthread_join(next, &result);
    assert_int_equal((uintptr_t)result, QUERN_CLOSED);
    pthread_join(reply, &result);
    assert_int_equal((uintptr_t)result, QUERN_CLOSED);
}

static void test_what_outlives_its_client_can_be_released(void **state)
{
    struct fake *fake = *state;
    struct quern_client *client = open_default(fake);
    struct quern_outcome *outcome = NULL;
    struct quern_outcome *refused = NULL;
    struct quern_future *done = submit(client);
    assert_int_equal(quern_future_wait(done, WAIT_MS, &outcome), QUERN_OK);
    fake_lock(fake);
    fake->holds_outcomes = true;
    fake_unlock(fake);
    struct quern_future *open = submit(client);
    assert_int_equal(quern_client_close(&client, 0), QUERN_OK);
    assert_memory_equal(outcome->result, "\x91\x07", 2);
    assert_int_equal(quern_future_wait(open, WAIT_MS, &refused), QUERN_CLOSED);
    quern_outcome_release(&outcome);
    quern_future_release(&open);
    quern_future_release(&done);
}

/* The child has the parent's memory but not its thread: a call must not wait for it, nor speak on its socket. */
static void test_the_child_of_a_fork_is_told_that_it_has_no_client(void **state)
{
    struct fake *fake = *state;
    struct quern_client *client = open_default(fake);
    struct quern_future *future = submit(client);
    struct quern_outcome *outcome = NULL;
    assert_int_equal(quern_future_wait(future, WAIT_MS, &outcome), QUERN_OK);
    pid_t child = fork();
    if (child == 0) {
        struct quern_call call = call_of("\x90");
        bool is_right = quern_submit(client, &call, NULL, NULL) == QUERN_CLOSED && next_now(client) == QUERN_CLOSED &&
                        quern_flush(client, WAIT_MS) == QUERN_CLOSED &&
                        quern_cancel(client, id_make(7, 1), false, WAIT_MS) == QUERN_CLOSED;
        quern_outcome_release(&outcome);
        quern_future_release(&future);
        is_right = is_right && quern_client_close(&client, 0) == QUERN_CLOSED && client == NULL && future == NULL;
        _exit(is_right ? 0 : 1);
    }
    int status = -1;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    quern_outcome_release(&outcome);
    quern_future_release(&future);
    submit_plain(client, 1);
    take(client);
    assert_int_equal(quern_client_close(&client, 0), QUERN_OK);
}

/* ---- requests ---- */

static void test_requests_are_answered_and_asked_again_after_a_reconnect(void **state)
{
    struct fake *fake = *state;
    struct quern_client *client = open_default(fake);
    assert_int_equal(quern_cancel(client, id_make(7, 1), false, WAIT_MS), QUERN_OK);
    fake_lock(fake);
    fake->reply_code = QUERN_RUNNING;
    fake->holds_replies = true;
    fake_unlock(fake);
    assert_int_equal(quern_cancel(client, id_make(7, 1), false, 5), QUERN_TIMEOUT);
    fake_lock(fake);
    fake->must_kick = true;
    fake->holds_replies = false;
    fake_unlock(fake);
    assert_int_equal(quern_cancel(client, id_make(7, 1), false, WAIT_MS), QUERN_RUNNING);
    assert_int_equal(quern_session_close(client, "#7x", 0, WAIT_MS), QUERN_INVALID);
    assert_int_equal(quern_session_close(client, "#7", QUERN_CLOSE_DROP, WAIT_MS), QUERN_RUNNING);
    fake_lock(fake);
    assert_true(fake->last_drop);
    fake_unlock(fake);
    assert_int_equal(quern_client_close(&client, 0), QUERN_OK);
}

/* ---- threads ---- */

enum { THREAD_COUNT = 4, THREAD_SUBMIT_COUNT = 3000 };

static void *submit_many(void *context)
{
    struct quern_call call = call_of("\x91\x07");
    for (int i = 0; i < THREAD_SUBMIT_COUNT; i++) {
        struct quern_future *future = NULL;
        struct quern_outcome *outcome = NULL;
        bool wants_future = i % 100 == 0;
        CHECK(quern_submit(context, &call, wants_future ? &future : NULL, NULL) == QUERN_OK);
        if (wants_future) {
            CHECK(quern_future_wait(future, WAIT_MS, &outcome) == QUERN_OK);
            quern_outcome_release(&outcome);
            quern_future_release(&future);
        }
    }
    return NULL;
}

static void *take_many(void *context)
{
    struct quern_outcome *outcome = NULL;
    uintptr_t count = 0;
    uint64_t last = 0;
    enum quern_err err;
    while ((err = quern_next(context, WAIT_MS, &outcome)) == QUERN_OK || err == QUERN_END) {
        if (err == QUERN_OK) {
            CHECK(outcome->completion > last);
            last = outcome->completion;
            quern_outcome_release(&outcome);
            count++;
        }
        if (count == THREAD_COUNT * (THREAD_SUBMIT_COUNT - THREAD_SUBMIT_COUNT / 100)) {
            break;
        }
    }
    return (void *)count;
}

static void test_many_threads_submit_while_one_takes_and_the_connection_breaks(void **state)
{
    struct fake *fake = *state;
    struct quern_client *client = open_default(fake);
    pthread_t submitters[THREAD_COUNT];
    pthread_t taker;
    void *taken = NULL;
    assert_int_equal(pthread_create(&taker, NULL, take_many, client), 0);
    for (int i = 0; i < THREAD_COUNT; i++) {
        assert_int_equal(pthread_create(&submitters[i], NULL, submit_many, client), 0);
    }
    for (uint32_t high = 2000; high <= 10000; high += 2000) {
        fake_lock(fake);
        fake_await(fake, fake->submitted_high >= high);
        fake->must_kick = true;
        fake_unlock(fake);
    }
    for (int i = 0; i < THREAD_COUNT; i++) {
        pthread_join(submitters[i], NULL);
    }
    pthread_join(taker, &taken);
    assert_int_equal((uintptr_t)taken, THREAD_COUNT * (THREAD_SUBMIT_COUNT - THREAD_SUBMIT_COUNT / 100));
    assert_int_equal(quern_client_close(&client, 0), QUERN_OK);
    fake_stop(fake);
    assert_int_equal(fake->submitted_high, THREAD_COUNT * THREAD_SUBMIT_COUNT);
    assert_int_equal(fake->acked_count, THREAD_COUNT * THREAD_SUBMIT_COUNT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_FAKE(test_a_session_that_has_gone_needs_no_closing),
        WITH_FAKE(test_a_close_whose_answer_was_lost_with_the_broker_is_done),
        WITH_FAKE(test_a_reconnect_resends_what_was_not_answered),
        WITH_FAKE(test_an_outcome_is_delivered_once_over_many_connections),
        WITH_FAKE(test_being_taken_over_ends_every_wait),
        WITH_FAKE(test_a_restarted_broker_is_a_non_event),
        WITH_FAKE(test_close_flushes_submits_and_acknowledgements),
        WITH_FAKE(test_threads_that_wait_while_the_client_is_closed_are_let_go),
        WITH_FAKE(test_what_outlives_its_client_can_be_released),
        WITH_FAKE(test_the_child_of_a_fork_is_told_that_it_has_no_client),
        WITH_FAKE(test_requests_are_answered_and_asked_again_after_a_reconnect),
        WITH_FAKE(test_many_threads_submit_while_one_takes_and_the_connection_breaks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

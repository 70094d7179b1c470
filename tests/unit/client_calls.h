/*
 * What the tests of the client share: a fake broker for each test, and calls in one line. Include cmocka.h before it.
 */
#ifndef QUERN_TESTS_CLIENT_CALLS_H
#define QUERN_TESTS_CLIENT_CALLS_H

#include "client/inside.h"
#include "fake_broker.h"
#include "quern/client.h"

#define WAIT_MS 60000

static inline int setup(void **state)
{
    *state = fake_make();
    return 0;
}

static inline int setup_started(void **state)
{
    *state = fake_make();
    fake_start(*state);
    return 0;
}

static inline int teardown(void **state)
{
    fake_free(*state);
    return 0;
}

static inline struct quern_client *open_with(struct fake *fake, struct quern_client_options options)
{
    struct quern_client *client = NULL;
    options.url = fake->url;
    options.connect_timeout_ms = WAIT_MS;
    enum quern_err err = quern_client_open(&options, &client);
    if (err != QUERN_OK) {
        print_error("%s\n", quern_last_error());
    }
    assert_int_equal(err, QUERN_OK);
    return client;
}

static inline struct quern_client *open_default(struct fake *fake)
{
    return open_with(fake, (struct quern_client_options)QUERN_CLIENT_OPTIONS_INIT);
}

static inline struct quern_call call_of(const char *args)
{
    struct quern_call call = QUERN_CALL_INIT;
    call.function = "square";
    call.args = args;
    call.args_size = strlen(args);
    return call;
}

static inline struct quern_future *submit(struct quern_client *client)
{
    struct quern_call call = call_of("\x91\x07");
    struct quern_future *future = NULL;
    assert_int_equal(quern_submit(client, &call, &future, NULL), QUERN_OK);
    return future;
}

static inline void submit_plain(struct quern_client *client, unsigned count)
{
    struct quern_call call = call_of("\x91\x07");
    for (unsigned i = 0; i < count; i++) {
        assert_int_equal(quern_submit(client, &call, NULL, NULL), QUERN_OK);
    }
}

/* Takes the next outcome and returns its completion number. */
static inline uint64_t take(struct quern_client *client)
{
    struct quern_outcome *outcome = NULL;
    enum quern_err err = quern_next(client, WAIT_MS, &outcome);
    if (err != QUERN_OK) {
        print_error("%s\n", quern_last_error());
    }
    assert_int_equal(err, QUERN_OK);
    uint64_t completion = outcome->completion;
    quern_outcome_release(&outcome);
    assert_null(outcome);
    return completion;
}

static inline enum quern_err next_now(struct quern_client *client)
{
    struct quern_outcome *outcome = NULL;
    enum quern_err err = quern_next(client, 0, &outcome);
    quern_outcome_release(&outcome);
    return err;
}

/* Futures of tasks that end when the test says so: sequence 1, 2, 3 ... */
static inline struct quern_client *open_by_hand(struct fake *fake, struct quern_future *futures[], unsigned count)
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

static inline void end_as(struct fake *fake, uint32_t sequence, enum task_state state)
{
    fake_lock(fake);
    fake_complete_as(fake, sequence, state);
    fake_unlock(fake);
}

static inline void release_all(struct quern_future *futures[], unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        quern_future_release(&futures[i]);
    }
}

static inline void close_all(struct quern_client *client, struct quern_future *futures[], unsigned count)
{
    release_all(futures, count);
    assert_int_equal(quern_client_close(&client, 0), QUERN_OK);
}

static inline void await_done(struct quern_future *future)
{
    struct quern_outcome *outcome = NULL;
    assert_int_equal(quern_future_wait(future, WAIT_MS, &outcome), QUERN_OK);
    quern_outcome_release(&outcome);
}

/* Threads that sleep until a future of this client is done. */
static inline unsigned sleepers(struct quern_client *client)
{
    pthread_mutex_lock(&client->lock);
    unsigned count = client->sleeper_count + client->group_waiters;
    for (struct watch *watch = client->watches.first; watch != NULL; watch = watch->client_next) {
        pthread_mutex_lock(&watch->watcher->lock);
        count += watch->watcher->waiters;
        pthread_mutex_unlock(&watch->watcher->lock);
    }
    pthread_mutex_unlock(&client->lock);
    return count;
}

#define WITH_FAKE(test) cmocka_unit_test_setup_teardown(test, setup_started, teardown)

#endif

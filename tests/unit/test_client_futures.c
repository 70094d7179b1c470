/*
 * Futures against the fake broker: states, results, callbacks, cancel, what is known of a task.
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

/* ---- states and results ---- */

static void test_done_is_true_in_all_final_states(void **state)
{
    struct fake *fake = *state;
    struct quern_future *futures[4];
    struct quern_client *client = open_by_hand(fake, futures, 4);
    assert_false(quern_future_done(futures[0]));
    end_as(fake, 1, TASK_DONE);
    end_as(fake, 2, TASK_FAILED);
    end_as(fake, 3, TASK_CANCELLED);
    await_done(futures[2]);
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(quern_future_done(futures[i]), i < 3);
        assert_int_equal(quern_future_cancelled(futures[i]), i == 2);
    }
    close_all(client, futures, 4);
}

#define RESULT_THREAD_COUNT 4
#define RESULT_TIMES 50

/* Answers how often the result was had and right. */
static void *have_results(void *future)
{
    uintptr_t right = 0;
    for (int i = 0; i < RESULT_TIMES; i++) {
        struct quern_outcome *outcome = NULL;
        enum quern_err err = quern_future_result(future, QUERN_FOREVER, &outcome);
        right += err == QUERN_OK && outcome->result_size == 2 && memcmp(outcome->result, "\x91\x07", 2) == 0;
        quern_outcome_release(&outcome);
    }
    return (void *)right;
}

/* Those that wait before it is there, and those that come later. */
static void test_a_result_is_had_any_number_of_times_by_any_thread(void **state)
{
    struct fake *fake = *state;
    struct quern_future *futures[1];
    struct quern_client *client = open_by_hand(fake, futures, 1);
    pthread_t threads[RESULT_THREAD_COUNT];
    void *right;
    for (int i = 0; i < RESULT_THREAD_COUNT; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, have_results, futures[0]), 0);
    }
    end_as(fake, 1, TASK_DONE);
    for (int i = 0; i < RESULT_THREAD_COUNT; i++) {
        assert_int_equal(pthread_join(threads[i], &right), 0);
        assert_int_equal((uintptr_t)right, RESULT_TIMES);
    }
    assert_int_equal((uintptr_t)have_results(futures[0]), RESULT_TIMES);
    close_all(client, futures, 1);
}

static void test_a_failure_is_told_with_cause_kind_and_message(void **state)
{
    struct fake *fake = *state;
    struct quern_future *futures[1];
    struct quern_client *client = open_by_hand(fake, futures, 1);
    struct quern_outcome *outcome = NULL;
    end_as(fake, 1, TASK_FAILED);
    assert_int_equal(quern_future_result(futures[0], QUERN_FOREVER, &outcome), QUERN_TASK_FAILED);
    assert_string_equal(quern_last_error(), "task 7-1 failed (error, DivisionByZero) on host:1, attempt 1: 100/0");
    assert_int_equal(outcome->cause, QUERN_CAUSE_ERROR);
    assert_string_equal(outcome->kind, "DivisionByZero");
    quern_outcome_release(&outcome);
    close_all(client, futures, 1);
}

static void test_a_cancelled_ones_result_says_so(void **state)
{
    struct fake *fake = *state;
    struct quern_future *futures[1];
    struct quern_client *client = open_by_hand(fake, futures, 1);
    struct quern_outcome *outcome = NULL;
    end_as(fake, 1, TASK_CANCELLED);
    assert_int_equal(quern_future_result(futures[0], QUERN_FOREVER, &outcome), QUERN_CANCELLED);
    assert_int_equal(outcome->state, QUERN_STATE_CANCELLED);
    quern_outcome_release(&outcome);
    close_all(client, futures, 1);
}

static void test_a_timeout_touches_nothing(void **state)
{
    struct fake *fake = *state;
    struct quern_future *futures[1];
    struct quern_client *client = open_by_hand(fake, futures, 1);
    struct quern_outcome *outcome = NULL;
    assert_int_equal(quern_future_result(futures[0], 0, &outcome), QUERN_TIMEOUT);
    assert_int_equal(quern_future_result(futures[0], 1, &outcome), QUERN_TIMEOUT);
    assert_null(outcome);
    end_as(fake, 1, TASK_DONE);
    assert_int_equal(quern_future_result(futures[0], QUERN_FOREVER, &outcome), QUERN_OK);
    quern_outcome_release(&outcome);
    close_all(client, futures, 1);
}

static void test_a_refused_submits_result_is_its_refusal(void **state)
{
    struct fake *fake = *state;
    struct quern_client *client = open_default(fake);
    struct quern_call call = call_of("\x90");
    struct quern_future *future = NULL;
    struct quern_outcome *outcome = NULL;
    bool done = false;
    struct quern_task_info info = QUERN_TASK_INFO_INIT;
    call.wait_ms = 0; /* not tried again */
    fake_lock(fake);
    fake->refuse = QUERN_FULL;
    fake->refuse_count = 1;
    fake_unlock(fake);
    assert_int_equal(quern_submit(client, &call, &future, NULL), QUERN_OK);
    assert_int_equal(quern_wait(&future, 1, QUERN_FIRST_EXCEPTION, QUERN_FOREVER, &done, NULL), QUERN_OK);
    assert_true(done);
    assert_false(quern_future_accepted(future));
    assert_int_equal(quern_future_result(future, QUERN_FOREVER, &outcome), QUERN_FULL);
    assert_int_equal(outcome->refusal, QUERN_FULL);
    quern_outcome_release(&outcome);
    assert_int_equal(quern_future_cancel(future, false, WAIT_MS), QUERN_FINISHED);
    assert_int_equal(quern_future_info(future, WAIT_MS, &info), QUERN_UNKNOWN);
    quern_future_release(&future);
    (void)quern_client_close(&client, 0);
}

/* ---- cancel ---- */

static struct quern_client *open_obeying(struct fake *fake, struct quern_future *futures[], unsigned count)
{
    struct quern_client *client = open_by_hand(fake, futures, count);
    fake_lock(fake);
    fake->obeys_cancel = true;
    fake_unlock(fake);
    return client;
}

static void *wait_for_result(void *future)
{
    struct quern_outcome *outcome = NULL;
    enum quern_err err = quern_future_result(future, WAIT_MS, &outcome);
    quern_outcome_release(&outcome);
    return (void *)(uintptr_t)err;
}

/* Answers the future that was given. */
static void *wait_for_next(void *set)
{
    struct quern_future *given = NULL;
    return quern_set_next(set, WAIT_MS, &given) == QUERN_OK ? given : NULL;
}

/* Two threads wait for it when the cancel comes. */
static void test_a_queued_one_is_cancelled_and_every_waiter_sees_it(void **state)
{
    struct fake *fake = *state;
    struct quern_future *futures[1];
    struct quern_client *client = open_obeying(fake, futures, 1);
    struct quern_set *set = NULL;
    pthread_t result;
    pthread_t next;
    void *had = NULL;
    void *given = NULL;
    assert_int_equal(quern_as_completed(futures, 1, QUERN_FOREVER, &set), QUERN_OK);
    assert_int_equal(pthread_create(&result, NULL, wait_for_result, futures[0]), 0);
    assert_int_equal(pthread_create(&next, NULL, wait_for_next, set), 0);
    while (sleepers(client) < 2) {
        sched_yield();
    }
    assert_int_equal(quern_future_cancel(futures[0], false, QUERN_FOREVER), QUERN_OK);
    assert_int_equal(pthread_join(result, &had), 0);
    assert_int_equal((uintptr_t)had, QUERN_CANCELLED);
    assert_int_equal(pthread_join(next, &given), 0);
    assert_ptr_equal(given, futures[0]);
    assert_true(quern_future_cancelled(futures[0]));
    assert_int_equal(quern_future_cancel(futures[0], false, QUERN_FOREVER), QUERN_OK); /* already: no effect */
    quern_set_close(&set);
    fake_lock(fake);
    assert_int_equal(fake->cancel_count, 1);
    assert_false(fake->last_force);
    fake_unlock(fake);
    close_all(client, futures, 1);
}

static void test_a_finished_one_is_not_cancelled(void **state)
{
    struct fake *fake = *state;
    struct quern_future *futures[2];
    struct quern_client *client = open_obeying(fake, futures, 2);
    end_as(fake, 1, TASK_DONE);
    await_done(futures[0]);
    assert_int_equal(quern_future_cancel(futures[0], true, QUERN_FOREVER), QUERN_FINISHED);
    end_as(fake, 2, TASK_FAILED);
    await_done(futures[1]);
    assert_int_equal(quern_future_cancel(futures[1], false, QUERN_FOREVER), QUERN_FINISHED);
    assert_false(quern_future_cancelled(futures[1]));
    close_all(client, futures, 2);
}

static void test_a_running_one_is_left_alone_and_force_is_passed_on(void **state)
{
    struct fake *fake = *state;
    struct quern_future *futures[1];
    struct quern_client *client = open_by_hand(fake, futures, 1);
    fake_lock(fake);
    fake->reply_code = QUERN_RUNNING;
    fake_unlock(fake);
    assert_int_equal(quern_future_cancel(futures[0], false, QUERN_FOREVER), QUERN_RUNNING);
    assert_false(quern_future_done(futures[0]));
    fake_lock(fake);
    fake->reply_code = QUERN_OK;
    fake_unlock(fake);
    assert_int_equal(quern_future_cancel(futures[0], true, QUERN_FOREVER), QUERN_OK);
    fake_lock(fake);
    assert_true(fake->last_force);
    fake_unlock(fake);
    close_all(client, futures, 1);
}

/* The broker must know the task before it can cancel it. */
static void test_a_cancel_waits_for_the_answer_to_the_submit(void **state)
{
    struct fake *fake = *state;
    struct quern_client *client = open_default(fake);
    fake_lock(fake);
    fake->is_by_hand = fake->obeys_cancel = fake->holds_answers = true;
    fake_unlock(fake);
    struct quern_future *future = submit(client);
    assert_int_equal(quern_future_cancel(future, false, 1), QUERN_TIMEOUT);
    fake_lock(fake);
    assert_int_equal(fake->cancel_count, 0);
    fake->holds_answers = false;
    fake_unlock(fake);
    assert_int_equal(quern_future_cancel(future, false, QUERN_FOREVER), QUERN_OK);
    quern_future_release(&future);
    assert_int_equal(quern_client_close(&client, 0), QUERN_OK);
}

/* A submit that the broker was too full for goes again under another number: that one is cancelled. */
static void test_a_cancel_follows_a_submit_that_gets_another_id(void **state)
{
    struct fake *fake = *state;
    struct quern_client *client = open_default(fake);
    fake_lock(fake);
    fake->is_by_hand = fake->obeys_cancel = true;
    fake->refuse = QUERN_FULL;
    fake->refuse_count = 1;
    fake_unlock(fake);
    struct quern_future *future = submit(client);
    assert_int_equal(quern_future_cancel(future, false, QUERN_FOREVER), QUERN_OK);
    await_done(future);
    assert_int_equal(quern_future_id(future), id_make(FAKE_SERIES, 2));
    assert_true(quern_future_cancelled(future));
    quern_future_release(&future);
    assert_int_equal(quern_client_close(&client, 0), QUERN_OK);
}

/* ---- callbacks ---- */

enum { CALL_COUNT = 5 };

struct calls {
    atomic_uint count;
    unsigned order[CALL_COUNT];
    pthread_t thread;
    enum quern_err result;
};

struct one_call {
    struct calls *calls;
    unsigned number;
};

static void on_done(struct quern_future *future, void *context)
{
    struct one_call *call = context;
    struct quern_outcome *outcome = NULL;
    call->calls->thread = pthread_self();
    call->calls->result = quern_future_result(future, 0, &outcome);
    quern_outcome_release(&outcome);
    call->calls->order[atomic_load(&call->calls->count)] = call->number;
    atomic_fetch_add(&call->calls->count, 1);
}

static void await_calls(struct calls *calls, unsigned count)
{
    int64_t deadline_ms = clock_mono_ms() + WAIT_MS;
    while (atomic_load(&calls->count) < count) {
        assert_true(clock_mono_ms() < deadline_ms);
        sched_yield();
    }
}

static void test_callbacks_run_once_each_in_the_order_added_in_a_thread_of_their_own(void **state)
{
    struct fake *fake = *state;
    struct quern_future *futures[1];
    struct quern_client *client = open_by_hand(fake, futures, 1);
    struct calls calls = {0};
    struct one_call each[CALL_COUNT];
    for (unsigned i = 0; i < CALL_COUNT; i++) {
        each[i] = (struct one_call){&calls, i};
        assert_int_equal(quern_future_on_done(futures[0], on_done, &each[i]), QUERN_OK);
    }
    assert_int_equal(atomic_load(&calls.count), 0);
    end_as(fake, 1, TASK_DONE);
    await_calls(&calls, CALL_COUNT);
    for (unsigned i = 0; i < CALL_COUNT; i++) {
        assert_int_equal(calls.order[i], i);
    }
    assert_false(pthread_equal(calls.thread, pthread_self()));
    assert_false(pthread_equal(calls.thread, client->thread));
    assert_int_equal(calls.result, QUERN_OK);
    close_all(client, futures, 1);
    assert_int_equal(atomic_load(&calls.count), CALL_COUNT);
}

static void test_a_callback_added_to_a_finished_future_runs_at_once_in_the_caller(void **state)
{
    struct fake *fake = *state;
    struct quern_future *futures[1];
    struct quern_client *client = open_by_hand(fake, futures, 1);
    struct calls calls = {0};
    struct one_call call = {&calls, 0};
    end_as(fake, 1, TASK_FAILED);
    await_done(futures[0]);
    assert_int_equal(quern_future_on_done(futures[0], on_done, &call), QUERN_OK);
    assert_int_equal(atomic_load(&calls.count), 1);
    assert_true(pthread_equal(calls.thread, pthread_self()));
    assert_int_equal(calls.result, QUERN_TASK_FAILED);
    assert_false(client->callbacks.is_started); /* no thread for this */
    close_all(client, futures, 1);
}

/* It may do whatever a program may do: here, submit the next, wait for it, and release its own future. */
struct chain {
    struct quern_client *client;
    atomic_uint left;
};

static void on_done_go_on(struct quern_future *future, void *context)
{
    struct chain *chain = context;
    struct quern_outcome *outcome = NULL;
    CHECK(quern_future_wait(future, WAIT_MS, &outcome) == QUERN_OK);
    quern_outcome_release(&outcome);
    quern_future_release(&future);
    if (atomic_fetch_sub(&chain->left, 1) > 1) {
        struct quern_call call = call_of("\x91\x07");
        struct quern_future *next = NULL;
        CHECK(quern_submit(chain->client, &call, &next, NULL) == QUERN_OK);
        CHECK(quern_future_on_done(next, on_done_go_on, chain) == QUERN_OK);
    }
}

static void test_a_callback_may_submit_wait_and_release(void **state)
{
    struct quern_client *client = open_default(*state);
    struct chain chain = {.client = client};
    atomic_store(&chain.left, 200);
    assert_int_equal(quern_future_on_done(submit(client), on_done_go_on, &chain), QUERN_OK);
    int64_t deadline_ms = clock_mono_ms() + WAIT_MS;
    while (atomic_load(&chain.left) > 0) {
        assert_true(clock_mono_ms() < deadline_ms);
        sched_yield();
    }
    assert_int_equal(quern_client_close(&client, 0), QUERN_OK);
}

static void test_callbacks_of_what_has_no_outcome_are_dropped_at_close(void **state)
{
    struct fake *fake = *state;
    struct quern_future *futures[2];
    struct quern_client *client = open_by_hand(fake, futures, 2);
    struct calls calls = {0};
    struct one_call call = {&calls, 0};
    assert_int_equal(quern_future_on_done(futures[0], on_done, &call), QUERN_OK);
    assert_int_equal(quern_future_on_done(futures[1], on_done, &call), QUERN_OK);
    quern_future_release(&futures[1]); /* nobody will ask for it any more */
    assert_int_equal(quern_client_close(&client, 0), QUERN_OK);
    assert_int_equal(atomic_load(&calls.count), 0);
    assert_int_equal(quern_future_on_done(futures[0], on_done, &call), QUERN_CLOSED);
    quern_future_release(&futures[0]);
}

/* What is done is told, and told to the end, before close returns. */
struct slow {
    atomic_bool has_begun;
    atomic_bool may_end;
    atomic_bool has_ended;
    struct quern_client *client; /* to be closed by the callback */
};

static void on_done_slowly(struct quern_future *future, void *context)
{
    struct slow *slow = context;
    (void)future;
    atomic_store(&slow->has_begun, true);
    while (!atomic_load(&slow->may_end)) {
        sched_yield();
    }
    atomic_store(&slow->has_ended, true);
}

/* Once close has come to wait for it. */
static void *end_the_slow(void *context)
{
    struct slow *slow = context;
    bool is_awaited = false;
    while (!is_awaited) {
        pthread_mutex_lock(&slow->client->lock);
        is_awaited = slow->client->callbacks.must_stop;
        pthread_mutex_unlock(&slow->client->lock);
        sched_yield();
    }
    atomic_store(&slow->may_end, true);
    return NULL;
}

static void test_a_callback_that_has_begun_ends_before_close_returns(void **state)
{
    struct fake *fake = *state;
    struct quern_future *futures[1];
    struct quern_client *client = open_by_hand(fake, futures, 1);
    struct slow slow = {.client = client};
    pthread_t thread;
    assert_int_equal(quern_future_on_done(futures[0], on_done_slowly, &slow), QUERN_OK);
    end_as(fake, 1, TASK_DONE);
    while (!atomic_load(&slow.has_begun)) {
        sched_yield();
    }
    assert_int_equal(pthread_create(&thread, NULL, end_the_slow, &slow), 0);
    assert_int_equal(quern_client_close(&client, 0), QUERN_OK);
    assert_true(atomic_load(&slow.has_ended));
    pthread_join(thread, NULL); /* the future still holds the client's memory */
    quern_future_release(&futures[0]);
}

static void on_done_close(struct quern_future *future, void *context)
{
    struct slow *slow = context;
    CHECK(quern_client_close(&slow->client, 0) == QUERN_OK);
    quern_future_release(&future);
    atomic_store(&slow->has_ended, true);
}

static void test_a_callback_may_close_its_client(void **state)
{
    struct fake *fake = *state;
    struct quern_future *futures[1];
    struct slow slow = {.client = open_by_hand(fake, futures, 1)};
    assert_int_equal(quern_future_on_done(futures[0], on_done_close, &slow), QUERN_OK);
    end_as(fake, 1, TASK_DONE);
    while (!atomic_load(&slow.has_ended)) {
        sched_yield();
    }
    assert_null(slow.client);
}

/* ---- what is known of a task ---- */

static void test_info_tells_where_a_task_is(void **state)
{
    struct fake *fake = *state;
    struct quern_future *futures[1];
    struct quern_client *client = open_by_hand(fake, futures, 1);
    struct quern_task_info info = QUERN_TASK_INFO_INIT;
    assert_int_equal(quern_future_info(futures[0], WAIT_MS, &info), QUERN_OK);
    assert_int_equal(info.state, QUERN_STATE_RUNNING);
    assert_int_equal(info.cause, QUERN_CAUSE_NONE);
    assert_int_equal(info.attempt, 3);
    assert_int_equal(info.crashes, 2);
    assert_int_equal(info.losses, 0);
    assert_int_equal(info.created_ms, 1000);
    assert_int_equal(info.started_ms, 2000);
    assert_int_equal(info.finished_ms, 0);
    assert_true(info.fraction > 0.24 && info.fraction < 0.26);
    assert_string_equal(info.progress, "a quarter");
    assert_string_equal(info.worker, "host:7");
    close_all(client, futures, 1);
}

/* A finished task is known here, whatever has become of the broker and of its memory. */
static void test_info_of_a_finished_task_is_had_without_the_broker(void **state)
{
    struct fake *fake = *state;
    struct quern_future *futures[2];
    struct quern_client *client = open_by_hand(fake, futures, 2);
    struct quern_task_info info = QUERN_TASK_INFO_INIT;
    end_as(fake, 1, TASK_DONE);
    await_done(futures[0]);
    fake_lock(fake);
    fake->reply_code = QUERN_UNKNOWN;
    fake_unlock(fake);
    assert_int_equal(quern_future_info(futures[0], WAIT_MS, &info), QUERN_OK);
    assert_int_equal(info.state, QUERN_STATE_DONE);
    assert_int_equal(info.attempt, 3); /* two of them count for nothing */
    assert_int_equal(info.attempts, 0);
    assert_string_equal(info.worker, "host:1");
    assert_true(info.fraction < 0);
    assert_int_equal(quern_future_info(futures[1], WAIT_MS, &info), QUERN_UNKNOWN);
    assert_int_equal(quern_client_close(&client, 0), QUERN_OK);
    assert_int_equal(quern_future_info(futures[0], WAIT_MS, &info), QUERN_OK);
    assert_int_equal(quern_future_info(futures[1], WAIT_MS, &info), QUERN_CLOSED);
    release_all(futures, 2);
}

static void test_info_writes_no_more_than_the_program_has_room_for(void **state)
{
    struct fake *fake = *state;
    struct quern_future *futures[1];
    struct quern_client *client = open_by_hand(fake, futures, 1);
    struct quern_task_info info = QUERN_TASK_INFO_INIT;
    info.size = offsetof(struct quern_task_info, attempt);
    info.attempt = 77; /* a program of an older version has other things there */
    assert_int_equal(quern_future_info(futures[0], WAIT_MS, &info), QUERN_OK);
    assert_int_equal(info.attempt, 77);
    info.size = 0;
    assert_int_equal(quern_future_info(futures[0], WAIT_MS, &info), QUERN_INVALID);
    close_all(client, futures, 1);
}

/* ---- what is no future, and forks ---- */

static void test_null_is_said_so(void **state)
{
    struct fake *fake = *state;
    struct quern_future *futures[1];
    struct quern_client *client = open_by_hand(fake, futures, 1);
    struct quern_outcome *outcome = NULL;
    struct quern_future *none = NULL;
    assert_int_equal(quern_future_id(NULL), 0);
    assert_false(quern_future_done(NULL) || quern_future_accepted(NULL) || quern_future_cancelled(NULL));
    assert_int_equal(quern_future_wait(NULL, 0, &outcome), QUERN_INVALID);
    assert_int_equal(quern_future_result(NULL, 0, &outcome), QUERN_INVALID);
    assert_int_equal(quern_future_result(futures[0], 0, NULL), QUERN_INVALID);
    assert_int_equal(quern_future_on_done(NULL, on_done, NULL), QUERN_INVALID);
    assert_int_equal(quern_future_on_done(futures[0], NULL, NULL), QUERN_INVALID);
    assert_int_equal(quern_future_cancel(NULL, false, 0), QUERN_INVALID);
    assert_int_equal(quern_future_info(NULL, 0, NULL), QUERN_INVALID);
    assert_int_equal(quern_future_info(futures[0], 0, NULL), QUERN_INVALID);
    quern_future_release(&none);
    close_all(client, futures, 1);
}

static void test_the_child_of_a_fork_is_told_that_the_future_is_not_its_own(void **state)
{
    struct fake *fake = *state;
    struct quern_future *futures[1];
    struct quern_client *client = open_by_hand(fake, futures, 1);
    pid_t child = fork();
    if (child == 0) {
        struct quern_outcome *outcome = NULL;
        struct quern_task_info info = QUERN_TASK_INFO_INIT;
        struct calls calls = {0};
        bool is_right = quern_future_result(futures[0], QUERN_FOREVER, &outcome) == QUERN_CLOSED &&
                        quern_future_cancel(futures[0], true, QUERN_FOREVER) == QUERN_CLOSED &&
                        quern_future_on_done(futures[0], on_done, &calls) == QUERN_CLOSED &&
                        quern_future_info(futures[0], QUERN_FOREVER, &info) == QUERN_CLOSED &&
                        strstr(quern_last_error(), "fork") != NULL && !quern_future_done(futures[0]) &&
                        !quern_future_cancelled(futures[0]);
        quern_future_release(&futures[0]);
        _exit(is_right && futures[0] == NULL ? 0 : 1);
    }
    int status = -1;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    close_all(client, futures, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_FAKE(test_done_is_true_in_all_final_states),
        WITH_FAKE(test_a_result_is_had_any_number_of_times_by_any_thread),
        WITH_FAKE(test_a_failure_is_told_with_cause_kind_and_message),
        WITH_FAKE(test_a_cancelled_ones_result_says_so),
        WITH_FAKE(test_a_timeout_touches_nothing),
        WITH_FAKE(test_a_refused_submits_result_is_its_refusal),
        WITH_FAKE(test_a_queued_one_is_cancelled_and_every_waiter_sees_it),
        WITH_FAKE(test_a_finished_one_is_not_cancelled),
        WITH_FAKE(test_a_running_one_is_left_alone_and_force_is_passed_on),
        WITH_FAKE(test_a_cancel_waits_for_the_answer_to_the_submit),
        WITH_FAKE(test_a_cancel_follows_a_submit_that_gets_another_id),
        WITH_FAKE(test_callbacks_run_once_each_in_the_order_added_in_a_thread_of_their_own),
        WITH_FAKE(test_a_callback_added_to_a_finished_future_runs_at_once_in_the_caller),
        WITH_FAKE(test_a_callback_may_submit_wait_and_release),
        WITH_FAKE(test_callbacks_of_what_has_no_outcome_are_dropped_at_close),
        WITH_FAKE(test_a_callback_that_has_begun_ends_before_close_returns),
        WITH_FAKE(test_a_callback_may_close_its_client),
        WITH_FAKE(test_info_tells_where_a_task_is),
        WITH_FAKE(test_info_of_a_finished_task_is_had_without_the_broker),
        WITH_FAKE(test_info_writes_no_more_than_the_program_has_room_for),
        WITH_FAKE(test_null_is_said_so),
        WITH_FAKE(test_the_child_of_a_fork_is_told_that_the_future_is_not_its_own),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

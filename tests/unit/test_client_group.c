/*
 * Groups against the fake broker: leaving, failing fast, nesting.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <sys/wait.h>

#include "client/inside.h"
#include "client_calls.h"

static struct quern_client *open_obeying(struct fake *fake)
{
    fake_lock(fake);
    fake->is_by_hand = fake->obeys_cancel = true;
    fake_unlock(fake);
    return open_default(fake);
}

static struct quern_group *group_of(struct quern_client *client, struct quern_group *parent, unsigned flags)
{
    struct quern_group *group = NULL;
    assert_int_equal(quern_group_open(client, parent, flags, &group), QUERN_OK);
    return group;
}

static void group_submit(struct quern_group *group, unsigned count)
{
    struct quern_call call = call_of("\x91\x07");
    for (unsigned i = 0; i < count; i++) {
        assert_int_equal(quern_group_submit(group, &call, NULL), QUERN_OK);
    }
}

/* The numbers under which its tasks are known: those of the submits before it are count. */
static void await_submitted(struct quern_client *client)
{
    assert_int_equal(quern_flush(client, WAIT_MS), QUERN_OK);
}

static enum quern_err close_told(struct quern_group *group, uint64_t *failed_out)
{
    struct quern_outcome *failure = NULL;
    enum quern_err err = quern_group_close(&group, &failure);
    assert_null(group);
    *failed_out = failure == NULL ? 0 : failure->id;
    quern_outcome_release(&failure);
    return err;
}

/* ---- leaving ---- */

static void test_leaving_a_group_waits_for_all_and_acknowledges_them(void **state)
{
    struct fake *fake = *state;
    struct quern_client *client = open_default(fake);
    struct quern_group *group = group_of(client, NULL, 0);
    group_submit(group, 3000);
    assert_int_equal(quern_group_close(&group, NULL), QUERN_OK);
    assert_null(group);
    assert_int_equal(quern_group_close(&group, NULL), QUERN_OK);
    assert_int_equal(next_now(client), QUERN_END);
    assert_int_equal(quern_client_close(&client, 0), QUERN_OK);
    fake_stop(fake);
    assert_int_equal(fake->acked_count, 3000);
}

static void test_an_empty_group_is_left_at_once(void **state)
{
    struct quern_client *client = open_default(*state);
    struct quern_group *group = group_of(client, NULL, QUERN_GROUP_FAIL_FAST | QUERN_GROUP_FORCE);
    struct quern_group *within = group_of(client, group, 0);
    assert_int_equal(quern_group_wait(group, 0), QUERN_OK);
    assert_int_equal(quern_group_close(&within, NULL), QUERN_OK);
    assert_int_equal(quern_group_close(&group, NULL), QUERN_OK);
    assert_int_equal(quern_client_close(&client, 0), QUERN_OK);
}

static void test_a_groups_future_can_be_looked_at_until_the_group_is_left(void **state)
{
    struct fake *fake = *state;
    struct quern_client *client = open_default(fake);
    struct quern_group *group = group_of(client, NULL, 0);
    struct quern_call call = call_of("\x91\x07");
    struct quern_future *future = NULL;
    struct quern_outcome *outcome = NULL;
    assert_int_equal(quern_group_submit(group, &call, &future), QUERN_OK);
    assert_int_equal(quern_future_result(future, WAIT_MS, &outcome), QUERN_OK);
    quern_outcome_release(&outcome);
    assert_int_equal(quern_group_wait(group, WAIT_MS), QUERN_OK);
    assert_int_equal(quern_group_close(&group, NULL), QUERN_OK);
    assert_int_equal(quern_client_close(&client, 0), QUERN_OK);
}

static void test_without_fail_fast_a_failure_leaves_the_rest_alone(void **state)
{
    struct fake *fake = *state;
    struct quern_client *client = open_obeying(fake);
    struct quern_group *group = group_of(client, NULL, 0);
    uint64_t failed = 0;
    group_submit(group, 3);
    await_submitted(client);
    end_as(fake, 2, TASK_FAILED);
    end_as(fake, 1, TASK_FAILED);
    assert_int_equal(quern_group_wait(group, 1), QUERN_TIMEOUT);
    end_as(fake, 3, TASK_DONE);
    assert_int_equal(close_told(group, &failed), QUERN_TASK_FAILED);
    assert_int_equal(failed, id_make(FAKE_SERIES, 2)); /* the one that failed first */
    assert_non_null(strstr(quern_last_error(), "DivisionByZero"));
    fake_lock(fake);
    assert_int_equal(fake->cancel_count, 0);
    fake_unlock(fake);
    assert_int_equal(quern_client_close(&client, 0), QUERN_OK);
}

/* ---- failing fast ---- */

static void test_the_first_failure_cancels_the_rest_and_is_reported(void **state)
{
    struct fake *fake = *state;
    struct quern_client *client = open_obeying(fake);
    struct quern_group *group = group_of(client, NULL, QUERN_GROUP_FAIL_FAST);
    struct quern_call call = call_of("\x91\x07");
    uint64_t failed = 0;
    group_submit(group, 500);
    await_submitted(client);
    end_as(fake, 7, TASK_DONE);
    end_as(fake, 400, TASK_FAILED); /* nobody waits: it is cancelled all the same */
    fake_lock(fake);
    fake_await(fake, fake->cancel_count == 498);
    assert_false(fake->last_force);
    fake_unlock(fake);
    assert_int_equal(quern_group_submit(group, &call, NULL), QUERN_CANCELLED);
    assert_int_equal(close_told(group, &failed), QUERN_TASK_FAILED);
    assert_int_equal(failed, id_make(FAKE_SERIES, 400));
    assert_int_equal(quern_client_close(&client, 0), QUERN_OK);
    fake_stop(fake);
    assert_int_equal(fake->submitted_high, 500);
    assert_int_equal(fake->acked_count, 500);
}

static void test_force_is_passed_on(void **state)
{
    struct fake *fake = *state;
    struct quern_client *client = open_obeying(fake);
    struct quern_group *group = group_of(client, NULL, QUERN_GROUP_FAIL_FAST | QUERN_GROUP_FORCE);
    group_submit(group, 2);
    await_submitted(client);
    end_as(fake, 1, TASK_FAILED);
    assert_int_equal(quern_group_close(&group, NULL), QUERN_TASK_FAILED);
    fake_lock(fake);
    assert_true(fake->last_force);
    fake_unlock(fake);
    assert_int_equal(quern_client_close(&client, 0), QUERN_OK);
}

/* What has no answer yet cannot be cancelled yet: it is, as soon as it has one. */
static void test_what_was_not_answered_is_cancelled_when_it_is(void **state)
{
    struct fake *fake = *state;
    struct quern_client *client = open_obeying(fake);
    struct quern_group *group = group_of(client, NULL, 0);
    group_submit(group, 1);
    await_submitted(client);
    fake_lock(fake);
    fake->holds_answers = true;
    fake_unlock(fake);
    group_submit(group, 2);
    assert_int_equal(quern_group_cancel(group, false), QUERN_OK);
    fake_lock(fake);
    fake_await(fake, fake->cancel_count == 1);
    fake->holds_answers = false;
    fake_unlock(fake);
    assert_int_equal(quern_group_close(&group, NULL), QUERN_CANCELLED);
    assert_int_equal(quern_client_close(&client, 0), QUERN_OK);
}

static void test_what_the_broker_has_no_room_to_cancel_is_asked_again(void **state)
{
    struct fake *fake = *state;
    struct quern_client *client = open_obeying(fake);
    struct quern_group *group = group_of(client, NULL, 0);
    group_submit(group, 100);
    await_submitted(client);
    fake_lock(fake);
    fake->obeys_cancel = false;
    fake->reply_code = QUERN_FULL;
    fake_unlock(fake);
    assert_int_equal(quern_group_cancel(group, false), QUERN_OK);
    fake_lock(fake);
    fake_await(fake, fake->cancel_count >= 300);
    fake->obeys_cancel = true;
    fake_unlock(fake);
    assert_int_equal(quern_group_close(&group, NULL), QUERN_CANCELLED);
    assert_int_equal(quern_client_close(&client, 0), QUERN_OK);
}

static void test_a_running_one_is_waited_for_after_a_cancel(void **state)
{
    struct fake *fake = *state;
    struct quern_client *client = open_obeying(fake);
    struct quern_group *group = group_of(client, NULL, 0);
    group_submit(group, 1);
    await_submitted(client);
    fake_lock(fake);
    fake->obeys_cancel = false;
    fake->reply_code = QUERN_RUNNING;
    fake_unlock(fake);
    assert_int_equal(quern_group_cancel(group, false), QUERN_OK);
    assert_int_equal(quern_group_wait(group, 1), QUERN_TIMEOUT);
    fake_lock(fake);
    fake_await(fake, fake->cancel_count == 1);
    fake->obeys_cancel = true;
    fake_unlock(fake);
    assert_int_equal(quern_group_cancel(group, true), QUERN_OK); /* now also what runs */
    assert_int_equal(quern_group_close(&group, NULL), QUERN_CANCELLED);
    assert_int_equal(quern_client_close(&client, 0), QUERN_OK);
}

/* A cancel is asked again after a lost connection, like every request. */
static void test_a_cancelled_group_survives_a_lost_connection(void **state)
{
    struct fake *fake = *state;
    struct quern_client *client = open_obeying(fake);
    struct quern_group *group = group_of(client, NULL, 0);
    group_submit(group, 200);
    await_submitted(client);
    fake_lock(fake);
    fake->is_silent = true;
    fake_unlock(fake);
    assert_int_equal(quern_group_cancel(group, false), QUERN_OK);
    fake_lock(fake);
    fake_await(fake, fake->cancel_count > 0);
    fake->is_silent = false;
    fake->must_kick = true;
    fake->next_send = 1;
    fake_unlock(fake);
    assert_int_equal(quern_group_close(&group, NULL), QUERN_CANCELLED);
    assert_int_equal(quern_client_close(&client, 0), QUERN_OK);
}

/* ---- nesting ---- */

static void test_cancelling_a_group_cancels_the_groups_within(void **state)
{
    struct fake *fake = *state;
    struct quern_client *client = open_obeying(fake);
    struct quern_group *outer = group_of(client, NULL, 0);
    struct quern_group *inner = group_of(client, outer, 0);
    struct quern_group *innermost = group_of(client, inner, 0);
    struct quern_call call = call_of("\x91\x07");
    group_submit(outer, 2);
    group_submit(innermost, 2);
    await_submitted(client);
    assert_int_equal(quern_group_cancel(outer, false), QUERN_OK);
    assert_int_equal(quern_group_submit(inner, &call, NULL), QUERN_CANCELLED);
    struct quern_group *late = group_of(client, inner, 0);
    assert_int_equal(quern_group_submit(late, &call, NULL), QUERN_CANCELLED);
    assert_int_equal(quern_group_close(&late, NULL), QUERN_OK);
    assert_int_equal(quern_group_close(&innermost, NULL), QUERN_CANCELLED);
    assert_int_equal(quern_group_close(&inner, NULL), QUERN_OK);
    assert_int_equal(quern_group_close(&outer, NULL), QUERN_CANCELLED);
    assert_int_equal(quern_client_close(&client, 0), QUERN_OK);
}

static void test_a_failure_that_its_own_group_has_reported_is_not_the_outer_ones(void **state)
{
    struct fake *fake = *state;
    struct quern_client *client = open_obeying(fake);
    struct quern_group *outer = group_of(client, NULL, QUERN_GROUP_FAIL_FAST);
    struct quern_group *inner = group_of(client, outer, QUERN_GROUP_FAIL_FAST);
    uint64_t failed = 0;
    group_submit(outer, 1);
    group_submit(inner, 2);
    await_submitted(client);
    end_as(fake, 2, TASK_FAILED);
    assert_int_equal(close_told(inner, &failed), QUERN_TASK_FAILED);
    assert_int_equal(failed, id_make(FAKE_SERIES, 2));
    assert_int_equal(quern_group_wait(outer, 1), QUERN_TIMEOUT); /* not cancelled */
    end_as(fake, 1, TASK_DONE);
    assert_int_equal(close_told(outer, &failed), QUERN_OK);
    assert_int_equal(quern_client_close(&client, 0), QUERN_OK);
}

/* Leaving the outer group leaves those within: their failures are its own then, and end the rest. */
static void test_a_failure_within_is_the_outer_groups_when_that_is_left(void **state)
{
    struct fake *fake = *state;
    struct quern_client *client = open_obeying(fake);
    struct quern_group *outer = group_of(client, NULL, QUERN_GROUP_FAIL_FAST);
    struct quern_group *inner = group_of(client, outer, 0);
    uint64_t failed = 0;
    group_submit(outer, 2);
    group_submit(inner, 2);
    await_submitted(client);
    assert_int_equal(quern_group_wait(outer, 0), QUERN_TIMEOUT);
    assert_non_null(strstr(quern_last_error(), "4 futures of the group and of groups within are unfinished"));
    end_as(fake, 4, TASK_FAILED);
    assert_int_equal(quern_group_wait(inner, 1), QUERN_TIMEOUT);
    assert_int_equal(close_told(outer, &failed), QUERN_TASK_FAILED);
    assert_int_equal(failed, id_make(FAKE_SERIES, 4));
    assert_int_equal(quern_client_close(&client, 0), QUERN_OK);
    fake_stop(fake);
    assert_int_equal(fake->cancel_count, 3);
    assert_int_equal(fake->acked_count, 4);
}

static void *end_within(void *context)
{
    struct fake *fake = context;
    end_as(fake, 2, TASK_FAILED);
    return NULL;
}

static void test_a_failure_within_while_the_outer_group_is_left_ends_the_rest(void **state)
{
    struct fake *fake = *state;
    struct quern_client *client = open_obeying(fake);
    struct quern_group *outer = group_of(client, NULL, QUERN_GROUP_FAIL_FAST);
    struct quern_group *inner = group_of(client, outer, 0);
    uint64_t failed = 0;
    pthread_t thread;
    group_submit(outer, 1);
    group_submit(inner, 1);
    await_submitted(client);
    assert_int_equal(pthread_create(&thread, NULL, end_within, fake), 0);
    assert_int_equal(close_told(outer, &failed), QUERN_TASK_FAILED);
    pthread_join(thread, NULL);
    assert_int_equal(failed, id_make(FAKE_SERIES, 2));
    assert_int_equal(quern_client_close(&client, 0), QUERN_OK);
}

/* ---- the end of a client, and what is wrong ---- */

static void test_a_group_outlives_its_client(void **state)
{
    struct fake *fake = *state;
    struct quern_client *client = open_obeying(fake);
    struct quern_group *group = group_of(client, NULL, QUERN_GROUP_FAIL_FAST);
    struct quern_call call = call_of("\x91\x07");
    group_submit(group, 3);
    await_submitted(client);
    assert_int_equal(quern_client_close(&client, 0), QUERN_OK);
    assert_int_equal(quern_group_wait(group, QUERN_FOREVER), QUERN_CLOSED);
    assert_int_equal(quern_group_submit(group, &call, NULL), QUERN_CLOSED);
    assert_int_equal(quern_group_cancel(group, true), QUERN_CLOSED);
    assert_int_equal(quern_group_close(&group, NULL), QUERN_CLOSED);
}

static void test_what_is_wrong_is_said_so(void **state)
{
    struct fake *fake = *state;
    struct quern_client *client = open_default(fake);
    struct fake *other_fake = fake_make();
    fake_start(other_fake);
    struct quern_client *other = open_default(other_fake);
    struct quern_group *group = NULL;
    struct quern_call call = call_of("\x91");
    assert_int_equal(quern_group_open(NULL, NULL, 0, &group), QUERN_INVALID);
    assert_int_equal(quern_group_open(client, NULL, 4, &group), QUERN_INVALID);
    assert_int_equal(quern_group_open(client, NULL, 0, NULL), QUERN_INVALID);
    assert_int_equal(quern_group_submit(NULL, &call, NULL), QUERN_INVALID);
    assert_int_equal(quern_group_cancel(NULL, false), QUERN_INVALID);
    assert_int_equal(quern_group_wait(NULL, 0), QUERN_INVALID);
    assert_int_equal(quern_group_close(NULL, NULL), QUERN_OK);
    group = group_of(client, NULL, 0);
    struct quern_group *within = NULL;
    assert_int_equal(quern_group_open(other, group, 0, &within), QUERN_INVALID);
    assert_int_equal(quern_group_submit(group, &call, NULL), QUERN_INVALID); /* its arguments are not whole */
    assert_int_equal(quern_group_submit(group, NULL, NULL), QUERN_INVALID);
    pid_t child = fork();
    if (child == 0) {
        call = call_of("\x90");
        bool is_right = quern_group_submit(group, &call, NULL) == QUERN_CLOSED &&
                        quern_group_wait(group, QUERN_FOREVER) == QUERN_CLOSED &&
                        quern_group_open(client, NULL, 0, &within) == QUERN_CLOSED &&
                        quern_group_close(&group, NULL) == QUERN_CLOSED && group == NULL;
        _exit(is_right ? 0 : 1);
    }
    int status = -1;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_int_equal(quern_group_close(&group, NULL), QUERN_OK);
    assert_int_equal(quern_client_close(&client, 0), QUERN_OK);
    assert_int_equal(quern_client_close(&other, 0), QUERN_OK);
    fake_free(other_fake);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_FAKE(test_leaving_a_group_waits_for_all_and_acknowledges_them),
        WITH_FAKE(test_an_empty_group_is_left_at_once),
        WITH_FAKE(test_a_groups_future_can_be_looked_at_until_the_group_is_left),
        WITH_FAKE(test_without_fail_fast_a_failure_leaves_the_rest_alone),
        WITH_FAKE(test_the_first_failure_cancels_the_rest_and_is_reported),
        WITH_FAKE(test_force_is_passed_on),
        WITH_FAKE(test_what_was_not_answered_is_cancelled_when_it_is),
        WITH_FAKE(test_what_the_broker_has_no_room_to_cancel_is_asked_again),
        WITH_FAKE(test_a_running_one_is_waited_for_after_a_cancel),
        WITH_FAKE(test_a_cancelled_group_survives_a_lost_connection),
        WITH_FAKE(test_cancelling_a_group_cancels_the_groups_within),
        WITH_FAKE(test_a_failure_that_its_own_group_has_reported_is_not_the_outer_ones),
        WITH_FAKE(test_a_failure_within_is_the_outer_groups_when_that_is_left),
        WITH_FAKE(test_a_failure_within_while_the_outer_group_is_left_ends_the_rest),
        WITH_FAKE(test_a_group_outlives_its_client),
        WITH_FAKE(test_what_is_wrong_is_said_so),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

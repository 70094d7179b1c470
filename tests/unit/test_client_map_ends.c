/*
 * How maps end, against a broker in one thread (fake_broker.h), over a real socket: failures, time, ending early.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "client/inside.h"
#include "map_numbers.h"

#include <sched.h>
#include <sys/wait.h>

/* ---- failures ---- */

static void test_one_bad_item_costs_one_item(void **state)
{
    struct fake *fake = *state;
    struct quern_client *client = open_default(fake);
    struct numbers numbers = numbers_of(100);
    fake_lock(fake);
    fake->fail_sequence = 8;
    fake_unlock(fake);
    struct quern_map *map = map_of(client, options_of(QUERN_INPUT_ORDER), &numbers);
    for (uint64_t n = 0; n < 100; n++) {
        struct quern_map_item item;
        assert_int_equal(quern_map_next(map, WAIT_MS, &item), QUERN_OK);
        assert_int_equal(item.index, n);
        assert_int_equal(item.outcome->state, n == 7 ? QUERN_STATE_FAILED : QUERN_STATE_DONE);
        quern_outcome_release(&item.outcome);
    }
    assert_int_equal(next_of(map, WAIT_MS), QUERN_END);
    quern_map_close(&map);
    assert_int_equal(quern_client_close(&client, 0), QUERN_OK);
}

/* In order of input the items before the failure are still given; it is the last; what comes behind is cancelled. */
static void test_stopping_at_a_failure_in_order_of_input(void **state)
{
    struct fake *fake = *state;
    struct quern_client *client = open_default(fake);
    struct numbers numbers = numbers_of(1000);
    struct quern_map_options options = options_of(QUERN_INPUT_ORDER);
    options.stop_at_failure = true;
    options.window_count = 20;
    options.chunk = 20; /* all of it, however slowly inputs are read */
    by_hand(fake, true);
    struct quern_map *map = map_of(client, options, &numbers);
    while (numbers.next < 20) {
        assert_int_equal(next_of(map, 0), QUERN_TIMEOUT);
    }
    submits_await(fake, 20);
    fake_lock(fake);
    fake_complete_as(fake, 4, TASK_FAILED);
    fake_complete(fake, 6);
    fake_unlock(fake);
    fake_lock(fake);
    while (fake->cancel_count < 15) { /* all behind the failure but the one that was done */
        fake_unlock(fake);
        assert_int_equal(next_of(map, 0), QUERN_TIMEOUT);
        fake_lock(fake);
    }
    fake_complete(fake, 3);
    fake_complete(fake, 2);
    fake_complete(fake, 1);
    fake_unlock(fake);
    for (uint64_t n = 0; n < 3; n++) {
        assert_int_equal(item_take(map, &numbers), n);
    }
    struct quern_map_item item;
    assert_int_equal(quern_map_next(map, WAIT_MS, &item), QUERN_OK);
    assert_int_equal(item.index, 3);
    assert_int_equal(item.outcome->state, QUERN_STATE_FAILED);
    quern_outcome_release(&item.outcome);
    assert_int_equal(next_of(map, WAIT_MS), QUERN_END);
    assert_int_equal(numbers.next, 20);
    quern_map_close(&map);
    assert_int_equal(next_now(client), QUERN_END); /* nothing of it comes elsewhere */
    assert_int_equal(quern_client_close(&client, 0), QUERN_OK);
    fake_stop(fake);
    assert_int_equal(fake->cancel_count, 15);
    assert_int_equal(fake->force_count, 0);
    assert_int_equal(fake->acked_count, 20);
}

/* Until the client's thread sleeps, with that many outcomes come. */
static void sleep_await(struct quern_client *client, uint64_t completion)
{
    bool is_so = false;
    while (!is_so) {
        pthread_mutex_lock(&client->lock);
        is_so = client->is_sleeping && ranges_has(&client->ledger.completions.received, completion);
        pthread_mutex_unlock(&client->lock);
        sched_yield();
    }
}

/* Nobody calls again, and nothing else is said: the cancels go all the same. */
static void test_stopping_at_a_failure_cancels_the_rest_while_nobody_asks(void **state)
{
    struct fake *fake = *state;
    fake_lock(fake);
    fake->is_quiet = true;
    fake_unlock(fake);
    struct quern_client *client = open_default(fake);
    struct numbers numbers = numbers_of(20);
    struct quern_map_options options = options_of(QUERN_INPUT_ORDER);
    struct quern_map_item item;
    options.stop_at_failure = true;
    by_hand(fake, true);
    struct quern_map *map = map_of(client, options, &numbers);
    while (numbers.next < 20) {
        assert_int_equal(next_of(map, 0), QUERN_TIMEOUT);
    }
    submits_await(fake, 20);
    fake_lock(fake);
    fake_complete_as(fake, 1, TASK_FAILED);
    fake_unlock(fake);
    sleep_await(client, 1);
    assert_int_equal(quern_map_next(map, WAIT_MS, &item), QUERN_OK);
    assert_int_equal(item.outcome->state, QUERN_STATE_FAILED);
    fake_lock(fake);
    fake_await(fake, fake->cancel_count == 19);
    fake_unlock(fake);
    quern_outcome_release(&item.outcome);
    quern_map_close(&map);
    assert_int_equal(quern_client_close(&client, 0), QUERN_OK);
}

static void test_stopping_at_a_failure_in_order_of_completion(void **state)
{
    struct fake *fake = *state;
    struct quern_client *client = open_default(fake);
    struct numbers numbers = numbers_of(1000);
    struct quern_map_options options = options_of(QUERN_COMPLETION_ORDER);
    options.stop_at_failure = true;
    options.force = true;
    options.window_count = 20;
    options.chunk = 20; /* all of it, however slowly inputs are read */
    by_hand(fake, true);
    struct quern_map *map = map_of(client, options, &numbers);
    while (numbers.next < 20) {
        assert_int_equal(next_of(map, 0), QUERN_TIMEOUT);
    }
    submits_await(fake, 20);
    fake_lock(fake);
    fake_complete(fake, 9);
    fake_complete_as(fake, 4, TASK_FAILED);
    fake_complete(fake, 5);
    fake_unlock(fake);
    assert_int_equal(item_take(map, &numbers), 8);
    struct quern_map_item item;
    assert_int_equal(quern_map_next(map, WAIT_MS, &item), QUERN_OK);
    assert_int_equal(item.index, 3);
    quern_outcome_release(&item.outcome);
    assert_int_equal(next_of(map, WAIT_MS), QUERN_END);
    quern_map_close(&map);
    assert_int_equal(quern_client_close(&client, 0), QUERN_OK);
    fake_stop(fake);
    assert_true(fake->cancel_count >= 17);
    assert_int_equal(fake->force_count, fake->cancel_count);
    assert_int_equal(fake->acked_count, 20);
}

static void test_a_refused_item_is_an_item(void **state)
{
    struct fake *fake = *state;
    struct quern_client *client = open_default(fake);
    struct numbers numbers = numbers_of(10);
    refuse(fake, QUERN_CLOSED, 1);
    struct quern_map *map = map_of(client, options_of(QUERN_INPUT_ORDER), &numbers);
    struct quern_map_item item;
    assert_int_equal(quern_map_next(map, WAIT_MS, &item), QUERN_OK);
    assert_int_equal(item.index, 0);
    assert_int_equal(item.outcome->refusal, QUERN_CLOSED);
    quern_outcome_release(&item.outcome);
    for (uint64_t n = 1; n < 10; n++) {
        assert_int_equal(item_take(map, &numbers), n);
    }
    quern_map_close(&map);
    assert_int_equal(quern_client_close(&client, 0), QUERN_OK);
}

/* Refused for lack of room, it goes again under another number, and no item is lost or mixed up. */
static void test_items_that_are_submitted_again_keep_their_place(void **state)
{
    struct fake *fake = *state;
    struct quern_client *client = open_default(fake);
    struct numbers numbers = numbers_of(3000);
    refuse(fake, QUERN_FULL, 700);
    struct quern_map *map = map_of(client, options_of(QUERN_INPUT_ORDER), &numbers);
    for (uint64_t n = 0; n < 3000; n++) {
        assert_int_equal(item_take(map, &numbers), n);
    }
    assert_int_equal(next_of(map, WAIT_MS), QUERN_END);
    quern_map_close(&map);
    assert_int_equal(quern_client_close(&client, 0), QUERN_OK);
    fake_stop(fake);
    assert_int_equal(fake->submit_count, 3700);
}

static void test_a_lost_connection_costs_no_item(void **state)
{
    struct fake *fake = *state;
    struct quern_client *client = open_default(fake);
    struct numbers numbers = numbers_of(20000);
    struct quern_map *map = map_of(client, options_of(QUERN_COMPLETION_ORDER), &numbers);
    uint64_t sum = 0;
    for (uint64_t n = 0; n < 20000; n++) {
        if (n % 2500 == 1000) {
            fake_lock(fake);
            fake->must_kick = true;
            fake_unlock(fake);
        }
        sum += item_take(map, &numbers);
    }
    assert_int_equal(sum, 20000ull * 19999 / 2);
    assert_int_equal(next_of(map, WAIT_MS), QUERN_END);
    quern_map_close(&map);
    assert_int_equal(quern_client_close(&client, 0), QUERN_OK);
    fake_stop(fake);
    assert_true(fake->resume_count > 0);
}

/* ---- time ---- */

static void test_a_timeout_says_how_far_it_is_and_ends_nothing(void **state)
{
    struct fake *fake = *state;
    struct quern_client *client = open_default(fake);
    struct numbers numbers = numbers_of(3);
    by_hand(fake, false);
    struct quern_map *map = map_of(client, options_of(QUERN_INPUT_ORDER), &numbers);
    assert_int_equal(next_of(map, 5), QUERN_TIMEOUT);
    submits_await(fake, 3);
    complete(fake, 1);
    assert_int_equal(item_take(map, &numbers), 0);
    assert_int_equal(next_of(map, 5), QUERN_TIMEOUT);
    assert_non_null(strstr(quern_last_error(), "1 of 3"));
    complete(fake, 2);
    complete(fake, 3);
    assert_int_equal(item_take(map, &numbers), 1);
    assert_int_equal(item_take(map, &numbers), 2);
    assert_int_equal(next_of(map, WAIT_MS), QUERN_END);
    quern_map_close(&map);
    assert_int_equal(quern_client_close(&client, 0), QUERN_OK);
}

/* The map's own time counts from quern_map_open; what is done is given first. */
static void test_the_time_of_the_whole_map(void **state)
{
    struct fake *fake = *state;
    struct quern_client *client = open_default(fake);
    struct numbers numbers = numbers_of(2);
    struct quern_map_options options = options_of(QUERN_INPUT_ORDER);
    options.timeout_ms = 1;
    by_hand(fake, false);
    struct quern_map *map = map_of(client, options, &numbers);
    assert_int_equal(next_of(map, QUERN_FOREVER), QUERN_TIMEOUT);
    while (numbers.next < 2) {
        assert_int_equal(next_of(map, QUERN_FOREVER), QUERN_TIMEOUT);
    }
    submits_await(fake, 2);
    complete(fake, 1);
    while (next_of(map, QUERN_FOREVER) != QUERN_OK) {
    }
    assert_int_equal(next_of(map, QUERN_FOREVER), QUERN_TIMEOUT);
    complete(fake, 2);
    quern_map_close(&map);
    assert_int_equal(quern_client_close(&client, 0), QUERN_OK);
}

/* ---- ending early ---- */

static void test_closing_early_cancels_what_has_not_started(void **state)
{
    struct fake *fake = *state;
    struct quern_client *client = open_default(fake);
    struct numbers numbers = numbers_of(1000);
    by_hand(fake, true);
    struct quern_map *map = map_of(client, options_of(QUERN_INPUT_ORDER), &numbers);
    while (numbers.next < 1000) {
        assert_int_equal(next_of(map, 0), QUERN_TIMEOUT);
    }
    quern_map_close(&map);
    assert_int_equal(quern_client_close(&client, 0), QUERN_OK);
    fake_stop(fake);
    assert_int_equal(fake->cancel_count, 1000);
    assert_int_equal(fake->acked_count, 1000);
    assert_int_equal(fake->live, 0);
}

/* Nobody wants them: neither quern_next nor the window holds them up. */
static void test_what_still_comes_is_acknowledged_unseen(void **state)
{
    struct fake *fake = *state;
    struct quern_client_options small = QUERN_CLIENT_OPTIONS_INIT;
    small.window_count = 10;
    struct quern_client *client = open_with(fake, small);
    struct numbers numbers = numbers_of(200);
    struct quern_map *map = map_of(client, options_of(QUERN_INPUT_ORDER), &numbers);
    assert_int_equal(item_take(map, &numbers), 0);
    quern_map_close(&map);
    submit_plain(client, 1);
    (void)take(client);
    assert_int_equal(next_now(client), QUERN_END);
    assert_int_equal(quern_client_close(&client, 0), QUERN_OK);
    fake_stop(fake);
    assert_int_equal(fake->acked_count, fake->completion_last);
}

/* A cancel that the broker was too busy for is asked again. */
static void test_a_cancel_not_heard_is_asked_again(void **state)
{
    struct fake *fake = *state;
    struct quern_client *client = open_default(fake);
    struct numbers numbers = numbers_of(10);
    by_hand(fake, false);
    fake_lock(fake);
    fake->reply_code = QUERN_FULL;
    fake_unlock(fake);
    struct quern_map *map = map_of(client, options_of(QUERN_INPUT_ORDER), &numbers);
    while (numbers.next < 10) {
        assert_int_equal(next_of(map, 0), QUERN_TIMEOUT);
    }
    quern_map_close(&map);
    fake_lock(fake);
    fake_await(fake, fake->cancel_count > 20);
    fake->reply_code = QUERN_OK;
    fake->obeys_cancel = true;
    fake_await(fake, fake->acked_count == 10);
    fake_unlock(fake);
    assert_int_equal(quern_client_close(&client, 0), QUERN_OK);
}

static void test_a_map_outlives_its_client(void **state)
{
    struct fake *fake = *state;
    struct quern_client *client = open_default(fake);
    struct numbers numbers = numbers_of(100);
    by_hand(fake, false);
    struct quern_map *map = map_of(client, options_of(QUERN_COMPLETION_ORDER), &numbers);
    while (numbers.next < 100) {
        assert_int_equal(next_of(map, 0), QUERN_TIMEOUT);
    }
    submits_await(fake, 100);
    complete(fake, 5);
    while (next_of(map, 100) != QUERN_OK) {
    }
    assert_int_equal(quern_client_close(&client, 0), QUERN_OK);
    assert_int_equal(next_of(map, WAIT_MS), QUERN_CLOSED);
    quern_map_close(&map);
}

static void test_taken_over_is_said(void **state)
{
    struct fake *fake = *state;
    struct quern_client *client = open_default(fake);
    struct numbers numbers = numbers_of(100);
    by_hand(fake, false);
    struct quern_map *map = map_of(client, options_of(QUERN_INPUT_ORDER), &numbers);
    assert_int_equal(next_of(map, 0), QUERN_TIMEOUT);
    fake_lock(fake);
    fake->deny_now = QUERN_TAKEN_OVER;
    fake_unlock(fake);
    assert_int_equal(next_of(map, WAIT_MS), QUERN_TAKEN_OVER);
    quern_map_close(&map);
    assert_int_not_equal(quern_client_close(&client, 0), QUERN_INVALID);
}

static void test_a_child_of_fork_may_not_use_it(void **state)
{
    struct quern_client *client = open_default(*state);
    struct numbers numbers = numbers_of(100);
    struct quern_map *map = map_of(client, options_of(QUERN_INPUT_ORDER), &numbers);
    assert_int_equal(item_take(map, &numbers), 0);
    pid_t pid = fork();
    if (pid == 0) {
        struct quern_map_item item;
        bool is_right = quern_map_next(map, 0, &item) == QUERN_CLOSED && quern_map_fd(map) == -1;
        quern_map_close(&map);
        _exit(is_right ? 0 : 1);
    }
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    assert_int_equal(item_take(map, &numbers), 1);
    quern_map_close(&map);
    assert_int_equal(quern_client_close(&client, 0), QUERN_OK);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        WITH_FAKE(test_one_bad_item_costs_one_item),
        WITH_FAKE(test_stopping_at_a_failure_in_order_of_input),
        WITH_FAKE(test_stopping_at_a_failure_cancels_the_rest_while_nobody_asks),
        WITH_FAKE(test_stopping_at_a_failure_in_order_of_completion),
        WITH_FAKE(test_a_refused_item_is_an_item),
        WITH_FAKE(test_items_that_are_submitted_again_keep_their_place),
        WITH_FAKE(test_a_lost_connection_costs_no_item),
        WITH_FAKE(test_a_timeout_says_how_far_it_is_and_ends_nothing),
        WITH_FAKE(test_the_time_of_the_whole_map),
        WITH_FAKE(test_closing_early_cancels_what_has_not_started),
        WITH_FAKE(test_what_still_comes_is_acknowledged_unseen),
        WITH_FAKE(test_a_cancel_not_heard_is_asked_again),
        WITH_FAKE(test_a_map_outlives_its_client),
        WITH_FAKE(test_taken_over_is_said),
        WITH_FAKE(test_a_child_of_fork_may_not_use_it),
    };
    if (argc > 1) {
        cmocka_set_test_filter(argv[1]);
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}

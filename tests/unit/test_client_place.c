/*
 * The client inside a handler: what it submits stands one deeper, and whatever waits for tasks gives the slot's place
 * to others meanwhile. The slot is played by a struct place of two counters; the broker is fake_broker.h.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "client_calls.h"
#include "common/place.h"
#include "quern/value.h"

struct slot {
    struct place place;
    struct fake *fake;
    unsigned given;
    unsigned taken;
    bool is_full;
};

/* What the handler waits for comes only once its place is free. */
static bool give(void *self, int64_t deadline_ms)
{
    struct slot *slot = self;
    (void)deadline_ms;
    if (slot->is_full) {
        return false;
    }
    slot->given++;
    fake_lock(slot->fake);
    if (slot->fake->holds_outcomes) {
        slot->fake->holds_outcomes = slot->fake->holds_answers = false;
        fake_complete(slot->fake, 1);
    }
    fake_unlock(slot->fake);
    return true;
}

static void take_place(void *self)
{
    struct slot *slot = self;
    slot->taken++;
}

static void handler_begin(struct slot *slot, struct fake *fake, unsigned depth)
{
    *slot = (struct slot){.fake = fake, .place = {.self = slot, .give = give, .take = take_place}};
    quern_place_begin(&slot->place, depth);
}

static void handler_end(const struct slot *slot)
{
    quern_place_end();
    assert_int_equal(slot->given, slot->taken);
}

static void hold(struct fake *fake, bool answers)
{
    fake_lock(fake);
    fake->holds_outcomes = true;
    fake->holds_answers = answers;
    fake_unlock(fake);
}

static void test_a_submit_inside_a_handler_is_one_deeper_than_its_task(void **state)
{
    struct fake *fake = *state;
    struct quern_client *client = open_default(fake);
    struct slot slot;
    submit_plain(client, 1);
    assert_int_equal(take(client), 1);
    fake_lock(fake);
    assert_int_equal(fake->last_depth, 0);
    fake_unlock(fake);
    handler_begin(&slot, fake, 62);
    submit_plain(client, 1);
    assert_int_equal(take(client), 2);
    fake_lock(fake);
    assert_int_equal(fake->last_depth, 63);
    fake_unlock(fake);
    handler_end(&slot);
    assert_int_equal(quern_client_close(&client, 0), QUERN_OK);
}

static void test_what_would_be_too_deep_is_refused_in_words(void **state)
{
    struct fake *fake = *state;
    struct quern_client *client = open_default(fake);
    struct quern_call call = call_of("\x91\x07");
    struct slot slot;
    handler_begin(&slot, fake, TASK_DEPTH_MAX - 1);
    assert_int_equal(quern_submit(client, &call, NULL, NULL), QUERN_OK);
    handler_end(&slot);
    handler_begin(&slot, fake, TASK_DEPTH_MAX);
    assert_int_equal(quern_submit(client, &call, NULL, NULL), QUERN_INVALID);
    assert_non_null(strstr(quern_last_error(), "64 deep"));
    handler_end(&slot);
    assert_int_equal(quern_client_close(&client, 0), QUERN_OK);
}

static void test_waiting_for_a_future_gives_the_place_and_takes_it_back(void **state)
{
    struct fake *fake = *state;
    struct quern_client *client = open_default(fake);
    struct quern_outcome *outcome = NULL;
    struct slot slot;
    hold(fake, false);
    handler_begin(&slot, fake, 0);
    struct quern_future *future = submit(client);
    assert_int_equal(quern_future_wait(future, 0, &outcome), QUERN_TIMEOUT);
    assert_int_equal(slot.given, 0); /* a look is no wait */
    fake_lock(fake);
    fake_await(fake, fake->submitted_high == 1);
    fake_unlock(fake);
    assert_int_equal(quern_future_wait(future, WAIT_MS, &outcome), QUERN_OK);
    assert_true(slot.given > 0);
    assert_int_equal(slot.given, slot.taken);
    unsigned given = slot.given;
    quern_outcome_release(&outcome);
    assert_int_equal(quern_future_wait(future, WAIT_MS, &outcome), QUERN_OK);
    assert_int_equal(slot.given, given); /* nothing to wait for */
    quern_outcome_release(&outcome);
    quern_future_release(&future);
    handler_end(&slot);
    assert_int_equal(quern_client_close(&client, 0), QUERN_OK);
}

/* ---- one that waits among many ---- */

#define OTHER_COUNT 200u

struct sleeping {
    struct slot slot;
    struct quern_future *future;
    enum quern_err err;
};

/* Counts how often the thread falls asleep. */
static bool give_and_count(void *self, int64_t deadline_ms)
{
    struct slot *slot = self;
    (void)deadline_ms;
    pthread_mutex_lock(&slot->fake->lock);
    slot->given++;
    pthread_cond_broadcast(&slot->fake->changed);
    pthread_mutex_unlock(&slot->fake->lock);
    return true;
}

static void *sleep_in_a_handler(void *context)
{
    struct sleeping *sleeping = context;
    struct quern_outcome *outcome = NULL;
    quern_place_begin(&sleeping->slot.place, 0);
    sleeping->err = quern_future_result(sleeping->future, WAIT_MS, &outcome);
    quern_place_end();
    quern_outcome_release(&outcome);
    return NULL;
}

/* With a hundred threads and a million tasks each completion would wake all threads, and each would give its slot's
 * place anew. */
static void test_who_waits_for_a_future_is_not_woken_by_others(void **state)
{
    struct fake *fake = *state;
    struct quern_future *futures[OTHER_COUNT + 1];
    struct quern_client *client = open_by_hand(fake, futures, OTHER_COUNT + 1);
    struct sleeping sleeping = {.future = futures[0]};
    pthread_t thread;
    sleeping.slot =
        (struct slot){.fake = fake, .place = {.self = &sleeping.slot, .give = give_and_count, .take = take_place}};
    assert_int_equal(pthread_create(&thread, NULL, sleep_in_a_handler, &sleeping), 0);
    fake_lock(fake);
    fake_await(fake, sleeping.slot.given > 0);
    fake_unlock(fake);
    for (unsigned i = 1; i <= OTHER_COUNT; i++) {
        end_as(fake, i + 1, TASK_DONE);
        await_done(futures[i]);
    }
    end_as(fake, 1, TASK_DONE);
    pthread_join(thread, NULL);
    assert_int_equal(sleeping.err, QUERN_OK);
    assert_true(sleeping.slot.given <= 3); /* once; a wake-up without cause is allowed to a system */
    close_all(client, futures, OTHER_COUNT + 1);
}

static void test_waiting_for_the_next_outcome_gives_the_place(void **state)
{
    struct fake *fake = *state;
    struct quern_client *client = open_default(fake);
    struct slot slot;
    hold(fake, false);
    submit_plain(client, 1);
    fake_lock(fake);
    fake_await(fake, fake->submitted_high == 1);
    fake_unlock(fake);
    handler_begin(&slot, fake, 3);
    assert_int_equal(take(client), 1);
    assert_true(slot.given > 0);
    handler_end(&slot);
    assert_int_equal(quern_client_close(&client, 0), QUERN_OK);
}

static void test_waiting_for_several_futures_gives_the_place(void **state)
{
    struct fake *fake = *state;
    struct quern_client *client = open_default(fake);
    struct slot slot;
    size_t done = 0;
    hold(fake, false);
    handler_begin(&slot, fake, 0);
    struct quern_future *future = submit(client);
    assert_int_equal(quern_flush(client, WAIT_MS), QUERN_OK);
    assert_int_equal(slot.given, 0); /* it took no time */
    assert_int_equal(quern_wait(&future, 1, QUERN_ALL_COMPLETED, 0, NULL, &done), QUERN_OK);
    assert_int_equal(slot.given, 0);
    slot.is_full = true;
    assert_int_equal(quern_wait(&future, 1, QUERN_ALL_COMPLETED, WAIT_MS, NULL, &done), QUERN_FULL);
    assert_int_equal(done, 0);
    slot.is_full = false;
    assert_int_equal(quern_wait(&future, 1, QUERN_ALL_COMPLETED, WAIT_MS, NULL, &done), QUERN_OK);
    assert_int_equal(done, 1);
    assert_int_equal(slot.given, 1);
    handler_end(&slot);
    quern_future_release(&future);
    assert_int_equal(take(client), 1);
    assert_int_equal(quern_client_close(&client, 0), QUERN_OK);
}

static void test_waiting_for_a_set_gives_the_place(void **state)
{
    struct fake *fake = *state;
    struct quern_client *client = open_default(fake);
    struct quern_set *set = NULL;
    struct quern_future *given = NULL;
    struct slot slot;
    hold(fake, false);
    handler_begin(&slot, fake, 0);
    struct quern_future *future = submit(client);
    assert_int_equal(quern_flush(client, WAIT_MS), QUERN_OK);
    assert_int_equal(quern_as_completed(&future, 1, QUERN_FOREVER, &set), QUERN_OK);
    slot.is_full = true;
    assert_int_equal(quern_set_next(set, WAIT_MS, &given), QUERN_FULL);
    slot.is_full = false;
    assert_int_equal(quern_set_next(set, WAIT_MS, &given), QUERN_OK);
    assert_ptr_equal(given, future);
    assert_int_equal(slot.given, 1);
    assert_int_equal(quern_set_next(set, WAIT_MS, &given), QUERN_END);
    assert_int_equal(slot.given, 1);
    quern_set_close(&set);
    handler_end(&slot);
    quern_future_release(&future);
    assert_int_equal(take(client), 1);
    assert_int_equal(quern_client_close(&client, 0), QUERN_OK);
}

static enum quern_err one_input(void *context, struct quern_writer *args)
{
    unsigned *left = context;
    if (*left == 0) {
        return QUERN_END;
    }
    --*left;
    quern_write_array(args, 0);
    return QUERN_OK;
}

static void test_waiting_for_an_item_of_a_map_gives_the_place(void **state)
{
    struct fake *fake = *state;
    struct quern_client *client = open_default(fake);
    struct quern_map_options options = QUERN_MAP_OPTIONS_INIT;
    struct quern_map *map = NULL;
    struct quern_map_item item;
    struct slot slot;
    unsigned left = 1;
    hold(fake, false);
    handler_begin(&slot, fake, 4);
    options.call.function = "square";
    assert_int_equal(quern_map_open(client, &options, one_input, &left, &map), QUERN_OK);
    slot.is_full = true;
    assert_int_equal(quern_map_next(map, WAIT_MS, &item), QUERN_FULL);
    slot.is_full = false;
    assert_int_equal(quern_flush(client, WAIT_MS), QUERN_OK);
    assert_int_equal(quern_map_next(map, WAIT_MS, &item), QUERN_OK);
    assert_true(slot.given > 0);
    quern_outcome_release(&item.outcome);
    assert_int_equal(quern_map_next(map, WAIT_MS, &item), QUERN_END);
    quern_map_close(&map);
    handler_end(&slot);
    fake_lock(fake);
    assert_int_equal(fake->last_depth, 5);
    fake_unlock(fake);
    assert_int_equal(quern_client_close(&client, 0), QUERN_OK);
}

static void test_leaving_a_group_gives_the_place(void **state)
{
    struct fake *fake = *state;
    struct quern_client *client = open_default(fake);
    struct quern_call call = call_of("\x91\x07");
    struct quern_group *group = NULL;
    struct slot slot;
    hold(fake, false);
    handler_begin(&slot, fake, 0);
    assert_int_equal(quern_group_open(client, NULL, 0, &group), QUERN_OK);
    assert_int_equal(quern_group_submit(group, &call, NULL), QUERN_OK);
    assert_int_equal(quern_flush(client, WAIT_MS), QUERN_OK);
    slot.is_full = true;
    assert_int_equal(quern_group_wait(group, WAIT_MS), QUERN_FULL);
    slot.is_full = false;
    assert_int_equal(quern_group_close(&group, NULL), QUERN_OK);
    assert_true(slot.given > 0);
    handler_end(&slot);
    assert_int_equal(quern_client_close(&client, 0), QUERN_OK);
}

/* The broker may have no room for a submit before tasks have ended: they may need this place. */
static void test_waiting_for_acceptance_gives_the_place(void **state)
{
    struct fake *fake = *state;
    struct quern_client *client = open_default(fake);
    struct slot slot;
    hold(fake, true);
    submit_plain(client, 1);
    fake_lock(fake);
    fake_await(fake, fake->submitted_high == 1);
    fake_unlock(fake);
    handler_begin(&slot, fake, 0);
    assert_int_equal(quern_flush(client, WAIT_MS), QUERN_OK);
    assert_true(slot.given > 0);
    handler_end(&slot);
    assert_int_equal(take(client), 1);
    assert_int_equal(quern_client_close(&client, 0), QUERN_OK);
}

static void test_where_too_many_wait_a_wait_fails_at_once_in_words(void **state)
{
    struct fake *fake = *state;
    struct quern_client *client = open_default(fake);
    struct quern_outcome *outcome = NULL;
    struct slot slot;
    hold(fake, false);
    handler_begin(&slot, fake, 0);
    struct quern_future *future = submit(client);
    slot.is_full = true;
    assert_int_equal(quern_future_wait(future, QUERN_FOREVER, &outcome), QUERN_FULL);
    assert_non_null(strstr(quern_last_error(), "tasks of this worker wait"));
    assert_null(outcome);
    assert_int_equal(quern_flush(client, WAIT_MS), QUERN_OK);
    slot.is_full = false;
    assert_int_equal(quern_future_wait(future, WAIT_MS, &outcome), QUERN_OK); /* it touched nothing */
    quern_outcome_release(&outcome);
    quern_future_release(&future);
    handler_end(&slot);
    assert_int_equal(quern_client_close(&client, 0), QUERN_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_FAKE(test_a_submit_inside_a_handler_is_one_deeper_than_its_task),
        WITH_FAKE(test_what_would_be_too_deep_is_refused_in_words),
        WITH_FAKE(test_waiting_for_a_future_gives_the_place_and_takes_it_back),
        WITH_FAKE(test_who_waits_for_a_future_is_not_woken_by_others),
        WITH_FAKE(test_waiting_for_the_next_outcome_gives_the_place),
        WITH_FAKE(test_waiting_for_several_futures_gives_the_place),
        WITH_FAKE(test_waiting_for_a_set_gives_the_place),
        WITH_FAKE(test_waiting_for_an_item_of_a_map_gives_the_place),
        WITH_FAKE(test_leaving_a_group_gives_the_place),
        WITH_FAKE(test_waiting_for_acceptance_gives_the_place),
        WITH_FAKE(test_where_too_many_wait_a_wait_fails_at_once_in_words),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

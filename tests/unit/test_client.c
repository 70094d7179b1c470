/*
 * The client library against a broker in one thread (fake_broker.h), over a real socket: opening, submitting, waiting.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "client_calls.h"

/* ---- opening ---- */

static void test_no_broker_is_said_so(void **state)
{
    struct fake *fake = *state;
    struct quern_client *client = NULL;
    struct quern_client_options options = QUERN_CLIENT_OPTIONS_INIT;
    options.url = fake->url;
    options.connect_timeout_ms = 50;
    assert_int_equal(quern_client_open(&options, &client), QUERN_NO_BROKER);
    assert_non_null(strstr(quern_last_error(), fake->url));
}

static void test_a_bad_url_is_said_so(void **state)
{
    struct quern_client *client = NULL;
    struct quern_client_options options = QUERN_CLIENT_OPTIONS_INIT;
    (void)state;
    options.url = "nonsense";
    assert_int_equal(quern_client_open(&options, &client), QUERN_INVALID);
    options.url = "ipc:///tmp/x,,";
    assert_int_equal(quern_client_open(&options, &client), QUERN_INVALID);
}

static void test_a_session_that_expires_after_more_than_a_year_is_refused(void **state)
{
    struct quern_client *client = NULL;
    struct quern_client_options options = QUERN_CLIENT_OPTIONS_INIT;
    (void)state;
    options.expire_ms = UINT64_MAX;
    assert_int_equal(quern_client_open(&options, &client), QUERN_INVALID);
    assert_non_null(strstr(quern_last_error(), "expire_ms"));
}

/* Programs built against a newer header must not have a wish dropped in silence. */
static void test_a_field_of_a_newer_version_is_refused_if_set(void **state)
{
    struct quern_client *client = NULL;
    (void)state;
    struct {
        struct quern_client_options known;
        uint64_t newer;
    } options = {QUERN_CLIENT_OPTIONS_INIT, 1};
    options.known.size = sizeof options;
    assert_int_equal(quern_client_open(&options.known, &client), QUERN_UNSUPPORTED);
    options.known.size = 0;
    assert_int_equal(quern_client_open(&options.known, &client), QUERN_INVALID);
}

static void test_open_echoes_and_tells_of_the_session(void **state)
{
    struct fake *fake = *state;
    struct quern_client *client = open_default(fake);
    struct quern_session_info info = QUERN_SESSION_INFO_INIT;
    assert_int_equal(quern_session_info(client, &info), QUERN_OK);
    assert_int_equal(info.session, 3);
    assert_true(info.is_new);
    assert_int_equal(quern_client_close(&client, 0), QUERN_OK);
    assert_null(client);
    fake_lock(fake);
    fake_await(fake, fake->bye_count == 1);
    fake_unlock(fake);
}

static void test_a_session_in_use_names_its_owner(void **state)
{
    struct fake *fake = *state;
    struct quern_client *client = NULL;
    struct quern_client_options options = QUERN_CLIENT_OPTIONS_INIT;
    fake->deny = QUERN_IN_USE;
    fake_start(fake);
    options.url = fake->url;
    options.session = "work";
    assert_int_equal(quern_client_open(&options, &client), QUERN_IN_USE);
    assert_non_null(strstr(quern_last_error(), "there:99"));
}

static void test_an_operator_asks_and_does_not_submit(void **state)
{
    struct fake *fake = *state;
    struct quern_client_options options = QUERN_CLIENT_OPTIONS_INIT;
    options.no_session = true;
    struct quern_client *client = open_with(fake, options);
    struct quern_call call = call_of("\x90");
    void *answer = NULL;
    size_t size = 0;
    assert_int_equal(quern_submit(client, &call, NULL, NULL), QUERN_INVALID);
    assert_int_equal(next_now(client), QUERN_INVALID);
    assert_int_equal(quern_query(client, "status", NULL, 0, WAIT_MS, &answer, &size), QUERN_OK);
    assert_int_equal(size, 4);
    assert_memory_equal(answer, "\x81\xa1x\x01", 4);
    free(answer);
    fake_lock(fake);
    assert_true(fake->was_operator);
    fake_unlock(fake);
    assert_int_equal(quern_client_close(&client, 0), QUERN_OK);
}

/* ---- submitting and waiting ---- */

static void test_a_submit_is_accepted_and_its_outcome_waited_for(void **state)
{
    struct quern_client *client = open_default(*state);
    struct quern_future *future = submit(client);
    struct quern_outcome *outcome = NULL;
    assert_int_equal(quern_future_id(future), id_make(FAKE_SERIES, 1));
    assert_int_equal(quern_future_wait(future, WAIT_MS, &outcome), QUERN_OK);
    assert_true(quern_future_accepted(future));
    assert_true(quern_future_done(future));
    assert_int_equal(outcome->state, QUERN_STATE_DONE);
    assert_int_equal(outcome->completion, 1);
    assert_int_equal(outcome->result_size, 2);
    assert_memory_equal(outcome->result, "\x91\x07", 2);
    assert_string_equal(outcome->worker, "host:1");
    assert_string_equal(outcome->kind, "");
    struct quern_outcome *again = NULL;
    assert_int_equal(quern_future_wait(future, 0, &again), QUERN_OK);
    quern_outcome_release(&outcome);
    assert_memory_equal(again->result, "\x91\x07", 2);
    quern_outcome_release(&again);
    quern_future_release(&future);
    assert_int_equal(next_now(client), QUERN_END);
    assert_int_equal(quern_client_close(&client, 0), QUERN_OK);
}

static void test_what_is_out_of_range_is_refused_at_once(void **state)
{
    struct quern_client *client = open_default(*state);
    struct quern_call call = call_of("\x91\x07");
    call.priority = 1001;
    assert_int_equal(quern_submit(client, &call, NULL, NULL), QUERN_INVALID);
    call = call_of("\x91");
    assert_int_equal(quern_submit(client, &call, NULL, NULL), QUERN_INVALID);
    call = call_of("\x07");
    assert_int_equal(quern_submit(client, &call, NULL, NULL), QUERN_INVALID);
    call = call_of("\x90");
    call.function = "";
    assert_int_equal(quern_submit(client, &call, NULL, NULL), QUERN_INVALID);
    call = call_of("\x90");
    call.args_size = QUERN_PAYLOAD_SIZE_MAX + 1;
    assert_int_equal(quern_submit(client, &call, NULL, NULL), QUERN_TOO_BIG);
    assert_non_null(strstr(quern_last_error(), "16777216"));
    call = call_of("\x90");
    call.at_most_once = true;
    call.attempts = 2;
    assert_int_equal(quern_submit(client, &call, NULL, NULL), QUERN_INVALID);
    call = call_of("\x90");
    call.crashes_max = 1001;
    assert_int_equal(quern_submit(client, &call, NULL, NULL), QUERN_INVALID);
    assert_non_null(strstr(quern_last_error(), "crashes_max is 1001; it may be at most 1000"));
    call.crashes_max = 0;
    call.losses_max = 1001;
    assert_int_equal(quern_submit(client, &call, NULL, NULL), QUERN_INVALID);
    assert_non_null(strstr(quern_last_error(), "losses_max is 1001; it may be at most 1000"));
    for (unsigned which = 0; which < 2; which++) {
        call = call_of("\x90");
        call.at_most_once = true;
        *(which == 0 ? &call.crashes_max : &call.losses_max) = 1;
        assert_int_equal(quern_submit(client, &call, NULL, NULL), QUERN_INVALID);
        assert_non_null(strstr(quern_last_error(), "drop one"));
    }
    call = call_of("\x90");
    call.at_ms = 4099777200000;
    call.delay_ms = 1;
    assert_int_equal(quern_submit(client, &call, NULL, NULL), QUERN_INVALID);
    assert_non_null(strstr(quern_last_error(), "drop one"));
    call.at_ms = 253402300800000; /* the year 10000 */
    call.delay_ms = 0;
    assert_int_equal(quern_submit(client, &call, NULL, NULL), QUERN_INVALID);
    call.at_ms = 4099777200000;
    call.expires_ms = 1000;
    assert_int_equal(quern_submit(client, &call, NULL, NULL), QUERN_INVALID);
    assert_non_null(strstr(quern_last_error(), "never start"));
    call.at_ms = 0;
    call.delay_ms = 1000;
    assert_int_equal(quern_submit(client, &call, NULL, NULL), QUERN_INVALID);
    call.delay_ms = 0;
    call.expires_ms = UINT64_MAX;
    assert_int_equal(quern_submit(client, &call, NULL, NULL), QUERN_INVALID);
    assert_int_equal(quern_client_close(&client, 0), QUERN_OK);
}

/* 0: as many as the protocol has for those that name none. */
static void test_how_many_deaths_and_losses_end_a_task_reaches_the_broker(void **state)
{
    struct fake *fake = *state;
    struct quern_client *client = open_default(fake);
    const unsigned given[][2] = {{0, 0}, {1, 0}, {0, 1}, {1000, 999}};
    for (size_t i = 0; i < sizeof(given) / sizeof(given[0]); i++) {
        struct quern_call call = call_of("\x90");
        call.crashes_max = given[i][0];
        call.losses_max = given[i][1];
        assert_int_equal(quern_submit(client, &call, NULL, NULL), QUERN_OK);
        assert_int_equal(quern_flush(client, WAIT_MS), QUERN_OK);
        fake_lock(fake);
        assert_int_equal(fake->last_crashes_max, given[i][0] != 0 ? given[i][0] : CRASHES_MAX_DEFAULT);
        assert_int_equal(fake->last_losses_max, given[i][1] != 0 ? given[i][1] : LOSSES_MAX_DEFAULT);
        fake_unlock(fake);
    }
    assert_int_equal(quern_client_close(&client, 0), QUERN_OK);
}

static void test_an_id_is_written_and_read_as_people_do(void **state)
{
    (void)state;
    char text[QUERN_ID_TEXT_SIZE];
    uint64_t id = 5;
    assert_string_equal(quern_id_text((uint64_t)8 << 32 | 42, text), "8-42");
    assert_int_equal(quern_id_parse("8-42", &id), QUERN_OK);
    assert_true(id == ((uint64_t)8 << 32 | 42));
    assert_int_equal(quern_id_parse("8-", &id), QUERN_INVALID);
    assert_int_equal(quern_id_parse("", &id), QUERN_INVALID);
    assert_int_equal(quern_id_parse(NULL, &id), QUERN_INVALID);
    assert_int_equal(quern_id_parse("8-42", NULL), QUERN_INVALID);
    assert_int_equal(quern_id_parse("8-2147483648", &id), QUERN_INVALID);
    assert_non_null(strstr(quern_last_error(), "8-42"));
}

static void test_sixteen_mebibytes_go_through(void **state)
{
    struct quern_client *client = open_default(*state);
    struct quern_call call = QUERN_CALL_INIT;
    unsigned char *args = calloc(1, QUERN_PAYLOAD_SIZE_MAX);
    size_t inner = QUERN_PAYLOAD_SIZE_MAX - 6;
    args[0] = 0x91;
    args[1] = 0xc6;
    for (unsigned i = 0; i < 4; i++) {
        args[2 + i] = (unsigned char)(inner >> (24 - 8 * i));
    }
    call.function = "echo";
    call.args = args;
    call.args_size = QUERN_PAYLOAD_SIZE_MAX;
    struct quern_future *future = NULL;
    struct quern_outcome *outcome = NULL;
    assert_int_equal(quern_submit(client, &call, &future, NULL), QUERN_OK);
    assert_int_equal(quern_future_wait(future, WAIT_MS, &outcome), QUERN_OK);
    assert_int_equal(outcome->result_size, QUERN_PAYLOAD_SIZE_MAX);
    assert_memory_equal(outcome->result, args, 64);
    quern_outcome_release(&outcome);
    quern_future_release(&future);
    free(args);
    assert_int_equal(quern_client_close(&client, 0), QUERN_OK);
}

static void test_outcomes_come_in_order_of_completion_each_once(void **state)
{
    struct fake *fake = *state;
    struct quern_client *client = open_default(fake);
    submit_plain(client, 5000);
    for (uint64_t i = 1; i <= 5000; i++) {
        assert_int_equal(take(client), i);
    }
    assert_int_equal(next_now(client), QUERN_END);
    assert_int_equal(quern_client_close(&client, 0), QUERN_OK);
    fake_stop(fake);
    assert_int_equal(fake->acked_count, 5000);
    assert_true(fake->taken_message_count < 1000); /* not one message per outcome */
}

static void test_held_futures_do_not_come_out_of_next_and_released_ones_do(void **state)
{
    struct fake *fake = *state;
    struct quern_client *client = open_default(fake);
    struct quern_outcome *outcome = NULL;
    fake_lock(fake);
    fake->holds_outcomes = true;
    fake_unlock(fake);
    struct quern_future *held = submit(client);
    struct quern_future *released = submit(client);
    struct quern_future *late = submit(client);
    submit_plain(client, 1);
    quern_future_release(&released);
    fake_lock(fake);
    fake_await(fake, fake->submitted_high == 4);
    for (uint32_t i = 1; i <= 4; i++) {
        fake_complete(fake, i);
    }
    fake->holds_outcomes = false;
    fake_unlock(fake);
    assert_int_equal(take(client), 2);
    assert_int_equal(quern_future_wait(held, WAIT_MS, &outcome), QUERN_OK);
    quern_outcome_release(&outcome);
    fake_lock(fake);
    fake_await(fake, fake->outcome_count == 4);
    fake_unlock(fake);
    quern_future_release(&late); /* whether its outcome is here already or not */
    assert_int_equal(take(client), 3);
    assert_int_equal(take(client), 4);
    assert_int_equal(next_now(client), QUERN_END);
    quern_future_release(&held);
    assert_int_equal(quern_client_close(&client, 0), QUERN_OK);
    fake_stop(fake);
    assert_int_equal(fake->acked_count, 4);
}

static void test_a_wait_that_times_out_touches_nothing(void **state)
{
    struct fake *fake = *state;
    struct quern_client *client = open_default(fake);
    struct quern_outcome *outcome = NULL;
    fake_lock(fake);
    fake->holds_outcomes = true;
    fake_unlock(fake);
    struct quern_future *future = submit(client);
    assert_int_equal(quern_future_wait(future, 0, &outcome), QUERN_TIMEOUT);
    assert_int_equal(quern_future_wait(future, 5, &outcome), QUERN_TIMEOUT);
    assert_int_equal(next_now(client), QUERN_END); /* the future holds all there is */
    quern_future_release(&future);
    assert_int_equal(next_now(client), QUERN_TIMEOUT);
    fake_lock(fake);
    fake_await(fake, fake->submitted_high == 1);
    fake_complete(fake, 1);
    fake->holds_outcomes = false;
    fake_unlock(fake);
    assert_int_equal(take(client), 1);
    assert_int_equal(quern_client_close(&client, 0), QUERN_OK);
}

static void test_a_refusal_is_an_outcome_that_says_so(void **state)
{
    struct fake *fake = *state;
    struct quern_client *client = open_default(fake);
    struct quern_outcome *outcome = NULL;
    fake_lock(fake);
    fake->refuse = QUERN_FULL;
    fake->refuse_count = 2;
    fake_unlock(fake);
    struct quern_call call = call_of("\x90");
    struct quern_future *future = NULL;
    call.wait_ms = 0;
    assert_int_equal(quern_submit(client, &call, &future, NULL), QUERN_OK);
    assert_int_equal(quern_submit(client, &call, NULL, NULL), QUERN_OK);
    assert_int_equal(quern_future_wait(future, WAIT_MS, &outcome), QUERN_OK);
    assert_int_equal(outcome->refusal, QUERN_FULL);
    assert_int_equal(outcome->state, QUERN_STATE_FAILED);
    assert_false(quern_future_accepted(future));
    quern_outcome_release(&outcome);
    quern_future_release(&future);
    assert_int_equal(quern_next(client, WAIT_MS, &outcome), QUERN_OK);
    assert_int_equal(outcome->refusal, QUERN_FULL);
    quern_outcome_release(&outcome);
    assert_int_equal(quern_flush(client, WAIT_MS), QUERN_FULL);
    assert_int_equal(quern_flush(client, WAIT_MS), QUERN_OK);
    assert_int_equal(next_now(client), QUERN_END);
    assert_int_equal(quern_client_close(&client, 0), QUERN_OK);
}

/* Who waits does not see that the broker was full: the same task goes again under another number. */
static void test_full_is_waited_out_for_who_waits(void **state)
{
    struct fake *fake = *state;
    struct quern_client *client = open_default(fake);
    struct quern_outcome *outcome = NULL;
    fake_lock(fake);
    fake->refuse = QUERN_FULL;
    fake->refuse_count = 3;
    fake_unlock(fake);
    struct quern_future *future = submit(client);
    assert_int_equal(quern_future_wait(future, WAIT_MS, &outcome), QUERN_OK);
    assert_int_equal(outcome->refusal, 0);
    assert_int_equal(outcome->id, id_make(FAKE_SERIES, 4));
    assert_int_equal(quern_future_id(future), id_make(FAKE_SERIES, 4));
    quern_outcome_release(&outcome);
    quern_future_release(&future);
    assert_int_equal(quern_flush(client, WAIT_MS), QUERN_OK);
    assert_int_equal(quern_client_close(&client, 0), QUERN_OK);
}

/* ---- digests ---- */

static void test_the_digest_is_blake2b_of_digest_ordinal_and_arguments(void **state)
{
    (void)state;
    unsigned char digest[32] = {0};
    unsigned char same[32] = {0};
    quern_digest_step(digest, 1, "\x91\x07", 2);
    /* BLAKE2b-256 of 32 zeros, 01 00 00 00 00 00 00 00, 91 07 (Python's hashlib) */
    static const unsigned char expected[32] = {0xc3, 0xd4, 0x42, 0x18, 0x4f, 0x72, 0x1c, 0x81, 0x88, 0xc0, 0x3b,
                                               0x06, 0xc0, 0x3b, 0x09, 0x66, 0x35, 0xee, 0xd9, 0xbf, 0x9c, 0x0f,
                                               0x2a, 0xdc, 0xb4, 0x85, 0x3c, 0x38, 0x94, 0x9b, 0x1c, 0x05};
    assert_memory_equal(digest, expected, 32);
    quern_digest_step(digest, 2, NULL, 0);
    quern_digest_step(same, 1, "\x91\x07", 2);
    quern_digest_step(same, 2, "\x90", 1);
    assert_memory_equal(digest, same, 32);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_an_id_is_written_and_read_as_people_do),
        cmocka_unit_test_setup_teardown(test_no_broker_is_said_so, setup, teardown),
        cmocka_unit_test(test_a_bad_url_is_said_so),
        cmocka_unit_test(test_a_session_that_expires_after_more_than_a_year_is_refused),
        cmocka_unit_test(test_a_field_of_a_newer_version_is_refused_if_set),
        WITH_FAKE(test_open_echoes_and_tells_of_the_session),
        cmocka_unit_test_setup_teardown(test_a_session_in_use_names_its_owner, setup, teardown),
        WITH_FAKE(test_an_operator_asks_and_does_not_submit),
        WITH_FAKE(test_a_submit_is_accepted_and_its_outcome_waited_for),
        WITH_FAKE(test_what_is_out_of_range_is_refused_at_once),
        WITH_FAKE(test_how_many_deaths_and_losses_end_a_task_reaches_the_broker),
        WITH_FAKE(test_sixteen_mebibytes_go_through),
        WITH_FAKE(test_outcomes_come_in_order_of_completion_each_once),
        WITH_FAKE(test_held_futures_do_not_come_out_of_next_and_released_ones_do),
        WITH_FAKE(test_a_wait_that_times_out_touches_nothing),
        WITH_FAKE(test_a_refusal_is_an_outcome_that_says_so),
        WITH_FAKE(test_full_is_waited_out_for_who_waits),
        cmocka_unit_test(test_the_digest_is_blake2b_of_digest_ordinal_and_arguments),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* The protocol state of a client, frame by frame: handshake, liveness, requests. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "client_desk.h"

/* ---- the handshake ---- */

/* The dead cannot echo: a late HELLO of a dead process changes nothing. */
static void test_a_challenge_is_echoed(void **state)
{
    (void)state;
    struct desk *desk = desk_make(100, 10000);
    client_ledger_up(&desk->ledger, desk->now);
    listen(desk);
    const struct said *hello = find_said(desk, MSG_HELLO_CLIENT);
    assert_non_null(hello);
    assert_int_equal(hello->message.HELLO_CLIENT.session, 0);
    assert_int_equal(hello->message.HELLO_CLIENT.series, 0); /* who was never welcomed opens, it does not resume */
    assert_int_equal(hello->message.HELLO_CLIENT.credit_count, 100);
    assert_int_equal(hello->message.HELLO_CLIENT.credit_bytes, 10000);
    struct msg_CHALLENGE challenge = {.nonce = {{1, 2, 3}}};
    msg_CHALLENGE_put(write_to(desk), &challenge);
    assert_int_equal(send_it(desk), LEDGER_GO_ON);
    listen(desk);
    const struct said *echo = find_said(desk, MSG_ECHO);
    assert_non_null(echo);
    assert_true(uuid_equal(&echo->message.ECHO.nonce, &challenge.nonce));
    desk_free(desk);
}

/* Nothing is numbered before a series is durable. */
static void test_no_submit_before_the_first_welcome(void **state)
{
    (void)state;
    struct desk *desk = desk_make(100, 10000);
    struct task_options options = task_options_default();
    struct msg_SUBMIT head = {.function = bytes_text("square")};
    struct submit *submit = submit_make(bytes_text("\x90"), 0, true, NULL);
    uint64_t id = 0;
    assert_int_equal(client_ledger_submit(&desk->ledger, &head, &options, &submit, &id), QUERN_CLOSED);
    free(submit);
    desk_free(desk);
}

/* Old and new pipes can interleave: an answer of an older connection says nothing about this one. */
static void test_frames_of_another_generation_are_ignored(void **state)
{
    (void)state;
    struct desk *desk = desk_welcomed();
    put(desk, "a", 0, true);
    come_again(desk, welcome_default());
    listen(desk);
    struct msg_ACCEPTED accepted = {.series = 7, .sequence = 1, .count = 1};
    frame_begin(&desk->frame, desk->ledger.generation - 1);
    msg_ACCEPTED_put(&desk->frame, &accepted);
    assert_int_equal(send_it(desk), LEDGER_GO_ON);
    assert_int_equal(desk->told_count, 0);
    assert_int_equal(desk->ledger.submits.count, 1);
    desk_free(desk);
}

static void test_a_resume_names_session_and_series_and_rises_in_generation(void **state)
{
    (void)state;
    struct desk *desk = desk_welcomed();
    assert_int_equal(desk->generation, 1);
    client_ledger_down(&desk->ledger);
    client_ledger_up(&desk->ledger, desk->now);
    listen(desk);
    assert_int_equal(desk->generation, 2);
    const struct said *hello = find_said(desk, MSG_HELLO_CLIENT);
    assert_int_equal(hello->message.HELLO_CLIENT.session, 3);
    assert_int_equal(hello->message.HELLO_CLIENT.series, 7);
    desk_free(desk);
}

static void test_being_taken_over_ends_the_ledger(void **state)
{
    (void)state;
    struct desk *desk = desk_welcomed();
    struct msg_DENIED denied = {.code = QUERN_TAKEN_OVER, .text = bytes_text("by there:7")};
    msg_DENIED_put(write_to(desk), &denied);
    assert_int_equal(send_it(desk), LEDGER_END);
    assert_int_equal(desk->ledger.end_code, QUERN_TAKEN_OVER);
    assert_string_equal(desk->ledger.why, "by there:7");
    client_ledger_down(&desk->ledger);
    client_ledger_up(&desk->ledger, desk->now);
    listen(desk);
    assert_int_equal(desk->said_count, 0);
    desk_free(desk);
}

static void test_a_draining_broker_is_come_back_to(void **state)
{
    (void)state;
    struct desk *desk = desk_welcomed();
    struct msg_DENIED denied = {.code = QUERN_DRAINING};
    msg_DENIED_put(write_to(desk), &denied);
    assert_int_equal(send_it(desk), LEDGER_RECONNECT_LATER);
    struct msg_BYE bye = {.code = QUERN_DRAINING};
    msg_BYE_put(write_to(desk), &bye);
    assert_int_equal(send_it(desk), LEDGER_RECONNECT_LATER);
    desk_free(desk);
}

/* What was accepted by another store is not there: going on would pretend that it is. */
static void test_another_store_ends_the_ledger(void **state)
{
    (void)state;
    struct desk *desk = desk_welcomed();
    struct msg_WELCOME_CLIENT welcome = welcome_default();
    welcome.store.b[0] = 99;
    client_ledger_down(&desk->ledger);
    client_ledger_up(&desk->ledger, desk->now);
    listen(desk);
    assert_int_equal(say_welcome(desk, &welcome), LEDGER_END);
    assert_int_equal(desk->ledger.end_code, QUERN_CLOSED);
    desk_free(desk);
}

static void test_a_store_that_forgot_accepted_submits_ends_the_ledger(void **state)
{
    (void)state;
    struct desk *desk = desk_welcomed();
    put(desk, "a", 0, true);
    put(desk, "b", 0, true);
    listen(desk);
    say_accepted(desk, 1, 2);
    struct msg_WELCOME_CLIENT welcome = welcome_default();
    welcome.submitted_high = 1;
    client_ledger_down(&desk->ledger);
    client_ledger_up(&desk->ledger, desk->now);
    listen(desk);
    assert_int_equal(say_welcome(desk, &welcome), LEDGER_END);
    desk_free(desk);
}

/* ---- liveness ---- */

static void test_a_quiet_client_pings_and_a_silent_broker_is_left(void **state)
{
    (void)state;
    struct desk *desk = desk_welcomed();
    listen(desk);
    assert_int_equal(desk->said_count, 0);
    desk->now += 2999;
    assert_int_equal(client_ledger_wake_ms(&desk->ledger), desk->now + 1);
    listen(desk);
    assert_int_equal(desk->said_count, 0);
    desk->now += 1;
    listen(desk);
    assert_non_null(find_said(desk, MSG_PING));
    assert_int_equal(client_ledger_tick(&desk->ledger, desk->now), LEDGER_GO_ON);
    desk->now = 1000 + 9999;
    assert_int_equal(client_ledger_tick(&desk->ledger, desk->now), LEDGER_GO_ON);
    desk->now += 1;
    assert_int_equal(client_ledger_tick(&desk->ledger, desk->now), LEDGER_RECONNECT_LATER);
    desk_free(desk);
}

static void test_a_ping_is_answered_with_its_number(void **state)
{
    (void)state;
    struct desk *desk = desk_welcomed();
    struct msg_PING ping = {.number = 77};
    msg_PING_put(write_to(desk), &ping);
    assert_int_equal(send_it(desk), LEDGER_GO_ON);
    listen(desk);
    assert_int_equal(find_said(desk, MSG_PONG)->message.PONG.number, 77);
    desk_free(desk);
}

static void test_an_unknown_connection_is_made_anew_at_once(void **state)
{
    (void)state;
    struct desk *desk = desk_welcomed();
    struct msg_ERROR error = {.code = QUERN_NEED_HELLO};
    msg_ERROR_put(write_to(desk), &error);
    assert_int_equal(send_it(desk), LEDGER_RECONNECT);
    desk_free(desk);
}

static void test_random_bytes_are_left_not_believed(void **state)
{
    (void)state;
    struct desk *desk = desk_welcomed();
    assert_int_equal(client_ledger_frame(&desk->ledger, bytes_text("garbage"), desk->now), LEDGER_RECONNECT_LATER);
    desk_free(desk);
}

/* ---- requests ---- */

static struct request *ask(struct desk *desk, struct message *message)
{
    struct request *request = NULL;
    assert_int_equal(requests_ask(&desk->ledger.requests, message, &request), QUERN_OK);
    return request;
}

static struct request *ask_cancel(struct desk *desk, uint64_t id)
{
    struct message message = {.kind = MSG_CANCEL};
    message.CANCEL.task = id;
    return ask(desk, &message);
}

static void say_reply(struct desk *desk, uint64_t request, enum quern_err code, bool more, struct bytes body)
{
    struct msg_REPLY reply = {
        .request = request, .code = (uint64_t)code, .text = bytes_text("so"), .more = more, .body = body};
    msg_REPLY_put(write_to(desk), &reply);
    assert_int_equal(send_it(desk), LEDGER_GO_ON);
}

static void test_a_request_gets_its_own_reply(void **state)
{
    (void)state;
    struct desk *desk = desk_welcomed();
    struct request *first = ask_cancel(desk, id_make(7, 1));
    struct request *second = ask_cancel(desk, id_make(7, 2));
    listen(desk);
    assert_int_equal(desk->said_count, 2);
    say_reply(desk, second->number, QUERN_FINISHED, false, bytes_text(NULL));
    assert_false(first->is_done);
    assert_true(second->is_done);
    assert_int_equal(second->code, QUERN_FINISHED);
    assert_string_equal((char *)second->text.p, "so");
    assert_int_equal(desk->replied, 1);
    requests_drop(&desk->ledger.requests, &second);
    desk_free(desk);
}

static void test_replies_in_parts_are_joined(void **state)
{
    (void)state;
    struct desk *desk = desk_welcomed();
    struct message message = {.kind = MSG_QUERY};
    message.QUERY.what = bytes_text("list");
    struct request *request = ask(desk, &message);
    listen(desk);
    say_reply(desk, request->number, QUERN_OK, true, bytes_of("\x92\x01\x02", 3));
    assert_false(request->is_done);
    say_reply(desk, request->number, QUERN_OK, true, bytes_of("\x91\x03", 2));
    say_reply(desk, request->number, QUERN_OK, false, bytes_of("\x90", 1));
    assert_true(request->is_done);
    assert_int_equal(request->code, QUERN_OK);
    assert_int_equal(request->body.n, 4);
    assert_memory_equal(request->body.p, "\x93\x01\x02\x03", 4);
    desk_free(desk);
}

/* A cancel twice is a cancel; a retry twice is two tasks. */
static void test_only_harmless_requests_are_asked_again(void **state)
{
    (void)state;
    struct desk *desk = desk_welcomed();
    struct request *cancel = ask_cancel(desk, id_make(7, 1));
    struct message message = {.kind = MSG_RETRY};
    message.RETRY.task = id_make(7, 2);
    struct request *retry = ask(desk, &message);
    listen(desk);
    come_again(desk, welcome_default());
    assert_true(retry->is_done);
    assert_int_equal(retry->code, QUERN_TIMEOUT);
    assert_int_equal(desk->replied, 1);
    listen(desk);
    assert_non_null(find_said(desk, MSG_CANCEL));
    assert_null(find_said(desk, MSG_RETRY));
    assert_false(cancel->is_done);
    desk_free(desk);
}

static void test_a_retry_into_this_session_is_one_more_to_come(void **state)
{
    (void)state;
    struct desk *desk = desk_welcomed();
    struct message message = {.kind = MSG_RETRY};
    message.RETRY.task = id_make(7, 2);
    struct request *retry = ask(desk, &message);
    struct buf body = {0};
    listen(desk);
    put_map(&body, 4);
    put_text(&body, "id");
    put_text(&body, "8-1");
    put_text(&body, "session");
    put_u64(&body, 3);
    put_text(&body, "session_name");
    put_text(&body, "work");
    put_text(&body, "new_session");
    put_flag(&body, false);
    say_reply(desk, retry->number, QUERN_OK, false, buf_bytes(&body));
    assert_int_equal(client_ledger_outstanding(&desk->ledger), 1);
    buf_fini(&body);
    desk_free(desk);
}

static void test_a_barrier_is_passed_when_its_ping_comes_back(void **state)
{
    (void)state;
    struct desk *desk = desk_welcomed();
    say_outcome(desk, id_make(7, 1), 1, "r");
    client_ledger_take(&desk->ledger, 1, 1);
    client_ledger_barrier(&desk->ledger);
    listen(desk);
    assert_int_equal(desk->said_count, 2);
    assert_int_equal(desk->said[0].kind, MSG_TAKEN); /* before the ping, or it would prove nothing */
    assert_int_equal(desk->said[1].kind, MSG_PING);
    come_again(desk, welcome_default());
    listen(desk);
    struct msg_PONG pong = {.number = find_said(desk, MSG_PING)->message.PING.number};
    assert_false(desk->ledger.barrier_is_passed);
    msg_PONG_put(write_to(desk), &pong);
    send_it(desk);
    assert_true(desk->ledger.barrier_is_passed);
    desk_free(desk);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_challenge_is_echoed),
        cmocka_unit_test(test_no_submit_before_the_first_welcome),
        cmocka_unit_test(test_frames_of_another_generation_are_ignored),
        cmocka_unit_test(test_a_resume_names_session_and_series_and_rises_in_generation),
        cmocka_unit_test(test_being_taken_over_ends_the_ledger),
        cmocka_unit_test(test_a_draining_broker_is_come_back_to),
        cmocka_unit_test(test_another_store_ends_the_ledger),
        cmocka_unit_test(test_a_store_that_forgot_accepted_submits_ends_the_ledger),
        cmocka_unit_test(test_a_quiet_client_pings_and_a_silent_broker_is_left),
        cmocka_unit_test(test_a_ping_is_answered_with_its_number),
        cmocka_unit_test(test_an_unknown_connection_is_made_anew_at_once),
        cmocka_unit_test(test_random_bytes_are_left_not_believed),
        cmocka_unit_test(test_a_request_gets_its_own_reply),
        cmocka_unit_test(test_replies_in_parts_are_joined),
        cmocka_unit_test(test_only_harmless_requests_are_asked_again),
        cmocka_unit_test(test_a_retry_into_this_session_is_one_more_to_come),
        cmocka_unit_test(test_a_barrier_is_passed_when_its_ping_comes_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

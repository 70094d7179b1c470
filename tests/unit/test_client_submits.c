/* Submits without answer: numbers, ordinals, credit, what is sent again and what never is. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "client_desk.h"

/* ---- submits ---- */

static void test_alike_submits_travel_as_one_run(void **state)
{
    (void)state;
    struct desk *desk = desk_welcomed();
    assert_int_equal(put(desk, "a", 0, true), id_make(7, 1));
    put(desk, "b", 0, true);
    put(desk, "c", 0, true);
    listen(desk);
    assert_int_equal(desk->said_count, 1);
    assert_int_equal(desk->said[0].kind, MSG_SUBMIT);
    assert_int_equal(desk->said[0].message.SUBMIT.sequence, 1);
    assert_int_equal(desk->said[0].count, 3);
    listen(desk);
    assert_int_equal(desk->said_count, 0);
    desk_free(desk);
}

static void test_an_accepted_submit_is_told_once_and_not_sent_again(void **state)
{
    (void)state;
    struct desk *desk = desk_welcomed();
    uint64_t id = put(desk, "a", 0, true);
    listen(desk);
    say_accepted(desk, 1, 1);
    say_accepted(desk, 1, 1);
    assert_int_equal(desk->told_count, 1);
    assert_int_equal(desk->told[0].what, 'a');
    assert_string_equal(desk->told[0].owner, "a");
    assert_int_equal(desk->told[0].id, id);
    struct msg_WELCOME_CLIENT welcome = welcome_default();
    welcome.submitted_high = 1;
    come_again(desk, welcome);
    listen(desk);
    assert_null(find_said(desk, MSG_SUBMIT));
    desk_free(desk);
}

/* A submit without answer may be on disk or nowhere: only the broker knows, so it is asked again, under the same
 * number, before anything new. */
static void test_unanswered_submits_are_sent_again_exactly(void **state)
{
    (void)state;
    struct desk *desk = desk_welcomed();
    put(desk, "a", 0, true);
    put(desk, "b", 0, true);
    put(desk, "c", 0, true);
    listen(desk);
    say_accepted(desk, 1, 1);
    struct msg_WELCOME_CLIENT welcome = welcome_default();
    welcome.submitted_high = 2;
    come_again(desk, welcome);
    put(desk, "d", 0, true);
    listen(desk);
    const struct said *submit = find_said(desk, MSG_SUBMIT);
    assert_int_equal(submit->message.SUBMIT.sequence, 2);
    assert_int_equal(submit->count, 3);
    say_accepted(desk, 2, 3);
    assert_int_equal(desk->ledger.submits.count, 0);
    desk_free(desk);
}

static void test_submits_wait_for_the_brokers_credit(void **state)
{
    (void)state;
    struct desk *desk = desk_make(100, 10000);
    struct msg_WELCOME_CLIENT welcome = welcome_default();
    welcome.credit_count = 2;
    client_ledger_up(&desk->ledger, desk->now);
    listen(desk);
    say_welcome(desk, &welcome);
    for (int i = 0; i < 5; i++) {
        put(desk, "x", 0, true);
    }
    listen(desk);
    assert_int_equal(desk->said_count, 1);
    assert_int_equal(desk->said[0].count, 2);
    say_credit(desk, 4, 1000000);
    listen(desk);
    assert_int_equal(desk->said[0].message.SUBMIT.sequence, 3);
    assert_int_equal(desk->said[0].count, 2);
    say_credit(desk, 5, 8); /* 8 bytes are used up: totals never shrink, so the bytes of WELCOME hold */
    listen(desk);
    assert_int_equal(desk->said[0].count, 1);
    desk_free(desk);
}

/* On a new connection totals count anew. */
static void test_credit_counts_anew_after_a_reconnect(void **state)
{
    (void)state;
    struct desk *desk = desk_welcomed();
    struct msg_WELCOME_CLIENT welcome = welcome_default();
    welcome.credit_count = 2;
    for (int i = 0; i < 5; i++) {
        put(desk, "x", 0, true);
    }
    listen(desk);
    come_again(desk, welcome);
    listen(desk);
    assert_int_equal(desk->said[0].count, 2);
    desk_free(desk);
}

static void test_the_window_is_bounded_by_count_and_bytes(void **state)
{
    (void)state;
    struct desk *desk = desk_welcomed();
    for (int i = 0; i < 8; i++) {
        assert_true(client_ledger_has_room(&desk->ledger));
        put(desk, "x", 0, true);
    }
    assert_false(client_ledger_has_room(&desk->ledger));
    listen(desk);
    say_accepted(desk, 1, 1);
    assert_true(client_ledger_has_room(&desk->ledger));
    desk_free(desk);
}

static void test_ordinals_name_their_predecessors(void **state)
{
    (void)state;
    struct desk *desk = desk_make(100, 10000);
    struct msg_WELCOME_CLIENT welcome = welcome_default();
    welcome.ordinal_high = 4;
    client_ledger_up(&desk->ledger, desk->now);
    listen(desk);
    say_welcome(desk, &welcome);
    put(desk, "a", 5, true);
    put(desk, "b", 8, true);
    put(desk, "n", 0, true);
    put(desk, "c", 9, true);
    listen(desk);
    assert_int_equal(desk->said_count, 3);
    assert_int_equal(desk->said[0].message.SUBMIT.predecessor, 4);
    assert_int_equal(desk->said[0].count, 2);
    assert_int_equal(desk->said[1].submits[0].ordinal, 0);
    assert_int_equal(desk->said[2].message.SUBMIT.predecessor, 8);
    desk_free(desk);
}

/* Without: the broker, which is where it was, takes line 1 for one behind line 3, refuses it, and all of them go round.
 */
static void test_a_line_that_is_sent_again_names_the_predecessor_it_had(void **state)
{
    (void)state;
    struct desk *desk = desk_welcomed();
    put(desk, "a", 1, true);
    put(desk, "b", 2, true);
    put(desk, "c", 3, true);
    listen(desk);
    assert_int_equal(find_said(desk, MSG_SUBMIT)->message.SUBMIT.predecessor, 0);
    come_again(desk, welcome_default()); /* nothing of it had come to the broker */
    listen(desk);
    const struct said *submit = find_said(desk, MSG_SUBMIT);
    assert_int_equal(submit->message.SUBMIT.sequence, 1);
    assert_int_equal(submit->message.SUBMIT.predecessor, 0);
    assert_int_equal(submit->count, 3);
    say_accepted(desk, 1, 1);
    struct msg_WELCOME_CLIENT welcome = welcome_default();
    welcome.submitted_high = 1;
    welcome.ordinal_high = 1;
    come_again(desk, welcome);
    put(desk, "d", 4, true);
    listen(desk);
    submit = find_said(desk, MSG_SUBMIT);
    assert_int_equal(submit->message.SUBMIT.sequence, 2);
    assert_int_equal(submit->message.SUBMIT.predecessor, 1);
    assert_int_equal(submit->count, 3);
    desk_free(desk);
}

static void test_an_ordinal_must_rise(void **state)
{
    (void)state;
    struct desk *desk = desk_welcomed();
    struct task_options options = task_options_default();
    struct msg_SUBMIT head = {.function = bytes_text("square")};
    put(desk, "a", 5, true);
    struct submit *submit = submit_make(bytes_text("\x90"), 5, true, NULL);
    uint64_t id = 0;
    assert_int_equal(client_ledger_submit(&desk->ledger, &head, &options, &submit, &id), QUERN_INVALID);
    free(submit);
    desk_free(desk);
}

/* Line 1 refused, line 2 pipelined behind it: both go again, in order, under numbers the broker has never seen; what
 * was never sent moves up. Without this line 1 would never run (trace 9). */
static void test_refused_ordinals_go_again_in_order_under_fresh_numbers(void **state)
{
    (void)state;
    struct desk *desk = desk_make(100, 10000);
    struct msg_WELCOME_CLIENT welcome = welcome_default();
    welcome.credit_count = 2;
    client_ledger_up(&desk->ledger, desk->now);
    listen(desk);
    say_welcome(desk, &welcome);
    put(desk, "a", 1, false);
    put(desk, "b", 2, false);
    uint64_t third = put(desk, "c", 3, false);
    listen(desk);
    assert_int_equal(desk->said[0].count, 2);
    say_credit(desk, 1000, 1000000);
    say_refused(desk, 1, 1, QUERN_FULL, 0);
    listen(desk);
    assert_int_equal(desk->said_count, 0); /* nothing overtakes, and 2 is not answered */
    say_refused(desk, 2, 1, QUERN_PREDECESSOR, 0);
    assert_int_equal(desk->told_count, 0);
    listen(desk);
    assert_int_equal(desk->said_count, 0); /* not at once: the broker is full */
    desk->now = client_ledger_wake_ms(&desk->ledger);
    listen(desk);
    assert_int_equal(desk->said[0].message.SUBMIT.sequence, 3);
    assert_int_equal(desk->said[0].message.SUBMIT.predecessor, 0);
    assert_int_equal(desk->said[0].count, 3);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(desk->said[0].submits[i].ordinal, i + 1);
    }
    assert_int_equal(desk->told_count, 3);
    assert_string_equal(desk->told[0].owner, "c");
    assert_int_equal(desk->told[0].old_id, third);
    assert_int_equal(desk->told[0].id, id_make(7, 5));
    assert_string_equal(desk->told[2].owner, "a");
    assert_int_equal(desk->told[2].old_id, id_make(7, 1));
    assert_int_equal(desk->told[2].id, id_make(7, 3));
    say_accepted(desk, 3, 3);
    assert_int_equal(desk->ledger.submits.count, 0);
    desk_free(desk);
}

/* The one who is too fast is told, if that is what was asked for. */
static void test_full_is_told_to_who_does_not_wait_and_retried_for_who_does(void **state)
{
    (void)state;
    struct desk *desk = desk_welcomed();
    put(desk, "told", 0, false);
    put(desk, "waits", 0, true);
    listen(desk);
    say_refused(desk, 1, 2, QUERN_FULL, 0);
    assert_int_equal(desk->told_count, 1);
    assert_int_equal(desk->told[0].what, 'r');
    assert_int_equal(desk->told[0].code, QUERN_FULL);
    assert_string_equal(desk->told[0].owner, "told");
    int64_t first = client_ledger_wake_ms(&desk->ledger) - desk->now;
    desk->now = client_ledger_wake_ms(&desk->ledger);
    listen(desk);
    assert_int_equal(find_said(desk, MSG_SUBMIT)->message.SUBMIT.sequence, 3);
    say_refused(desk, 3, 1, QUERN_FULL, 0);
    assert_true(client_ledger_wake_ms(&desk->ledger) - desk->now > first);
    desk_free(desk);
}

static void test_a_duplicate_ordinal_is_told(void **state)
{
    (void)state;
    struct desk *desk = desk_welcomed();
    put(desk, "a", 1, true);
    listen(desk);
    say_refused(desk, 1, 1, QUERN_DUPLICATE, 4);
    assert_int_equal(desk->told[0].what, 'r');
    assert_int_equal(desk->told[0].code, QUERN_DUPLICATE);
    put(desk, "b", 5, true);
    listen(desk);
    assert_int_equal(find_said(desk, MSG_SUBMIT)->count, 1);
    desk_free(desk);
}

/* A session that ends refuses everything: that must not cost a round trip each. */
static void test_an_ending_session_refuses_all_that_hangs_on_an_ordinal_at_once(void **state)
{
    (void)state;
    struct desk *desk = desk_welcomed();
    put(desk, "a", 1, true);
    put(desk, "b", 2, true);
    put(desk, "c", 3, true);
    listen(desk);
    say_refused(desk, 1, 1, QUERN_CLOSED, 0);
    say_refused(desk, 2, 2, QUERN_PREDECESSOR, 0);
    assert_int_equal(desk->told_count, 3);
    assert_int_equal(desk->told[2].code, QUERN_CLOSED);
    assert_int_equal(desk->ledger.submits.count, 0);
    desk_free(desk);
}

/* A refused submit whose second try is still to come survives the loss of the connection. */
static void test_a_second_try_survives_a_reconnect(void **state)
{
    (void)state;
    struct desk *desk = desk_welcomed();
    put(desk, "a", 0, true);
    put(desk, "b", 0, true);
    listen(desk);
    say_refused(desk, 1, 1, QUERN_FULL, 0);
    struct msg_WELCOME_CLIENT welcome = welcome_default();
    welcome.submitted_high = 2;
    come_again(desk, welcome);
    listen(desk);
    assert_int_equal(find_said(desk, MSG_SUBMIT)->message.SUBMIT.sequence, 2);
    assert_int_equal(find_said(desk, MSG_SUBMIT)->count, 1);
    say_accepted(desk, 2, 1);
    desk->now += 10000 - 1;
    listen(desk);
    assert_int_equal(find_said(desk, MSG_SUBMIT)->message.SUBMIT.sequence, 3);
    desk_free(desk);
}

/* Two thousand million submits are twelve hours of a busy client: then it needs other numbers, and loses nothing. */
static void test_a_used_up_series_is_exchanged_once_all_is_answered(void **state)
{
    (void)state;
    struct desk *desk = desk_welcomed();
    desk->ledger.options.series_renew_at = 2;
    put(desk, "a", 0, true);
    put(desk, "b", 0, true);
    assert_false(client_ledger_has_room(&desk->ledger));
    listen(desk);
    say_outcome(desk, id_make(7, 1), 1, "r");
    client_ledger_take(&desk->ledger, 1, 1);
    assert_int_equal(client_ledger_tick(&desk->ledger, desk->now), LEDGER_GO_ON);
    say_accepted(desk, 1, 2);
    assert_int_equal(client_ledger_tick(&desk->ledger, desk->now), LEDGER_GO_ON);
    listen(desk);
    assert_non_null(find_said(desk, MSG_TAKEN));
    struct msg_PONG pong = {.number = find_said(desk, MSG_PING)->message.PING.number};
    msg_PONG_put(write_to(desk), &pong);
    assert_int_equal(send_it(desk), LEDGER_GO_ON);
    assert_int_equal(client_ledger_tick(&desk->ledger, desk->now), LEDGER_RECONNECT);
    client_ledger_down(&desk->ledger);
    client_ledger_up(&desk->ledger, desk->now);
    listen(desk);
    const struct said *hello = find_said(desk, MSG_HELLO_CLIENT);
    assert_int_not_equal(hello->message.HELLO_CLIENT.session, 0);
    assert_int_equal(hello->message.HELLO_CLIENT.series, 0);
    struct msg_WELCOME_CLIENT welcome = welcome_default();
    welcome.series = 8;
    welcome.live = 1;
    assert_int_equal(say_welcome(desk, &welcome), LEDGER_GO_ON);
    assert_true(client_ledger_has_room(&desk->ledger));
    assert_int_equal(client_ledger_outstanding(&desk->ledger), 1);
    assert_int_equal(put(desk, "c", 0, true), id_make(8, 1));
    desk_free(desk);
}

/* Thousands of submits through refusals and lost connections against a broker in ten lines: each accepted once, in
 * order.
 */
static void test_ordinals_survive_any_mix_of_refusals_and_reconnects(void **state)
{
    (void)state;
    struct desk *desk = desk_welcomed();
    uint64_t seed = 12345;
    uint64_t ordinal_high = 0;
    uint32_t submitted_high = 0;
    uint64_t next = 1;
    for (int step = 0; step < 20000; step++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        uint32_t chance = (uint32_t)(seed >> 33);
        desk->told_count = 0;
        desk->now += 50;
        if (chance % 3 != 0 && client_ledger_has_room(&desk->ledger)) {
            put(desk, "x", next++, chance % 2 == 0);
            continue;
        }
        listen(desk);
        if (chance % 7 == 0) { /* everything said is lost */
            struct msg_WELCOME_CLIENT welcome = welcome_default();
            welcome.submitted_high = submitted_high;
            welcome.ordinal_high = ordinal_high;
            come_again(desk, welcome);
            listen(desk);
        }
        for (size_t i = 0; i < desk->said_count; i++) {
            const struct said *said = &desk->said[i];
            uint64_t predecessor = said->message.SUBMIT.predecessor;
            for (uint32_t j = 0; said->kind == MSG_SUBMIT && j < said->count; j++) {
                uint32_t sequence = (uint32_t)said->message.SUBMIT.sequence + j;
                uint64_t ordinal = said->submits[j].ordinal;
                assert_true(sequence == submitted_high + 1);
                submitted_high = sequence;
                if (predecessor != ordinal_high) {
                    say_refused(desk, sequence, 1, QUERN_PREDECESSOR, ordinal_high);
                } else if ((chance >> j) % 5 == 0) {
                    say_refused(desk, sequence, 1, QUERN_FULL, ordinal_high);
                } else {
                    assert_int_equal(ordinal, ordinal_high + 1);
                    ordinal_high = ordinal;
                    say_accepted(desk, sequence, 1);
                }
                predecessor = ordinal;
            }
        }
    }
    assert_true(ordinal_high > 1000);
    assert_true(next - 1 - ordinal_high == desk->ledger.submits.count);
    desk_free(desk);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_alike_submits_travel_as_one_run),
        cmocka_unit_test(test_an_accepted_submit_is_told_once_and_not_sent_again),
        cmocka_unit_test(test_unanswered_submits_are_sent_again_exactly),
        cmocka_unit_test(test_submits_wait_for_the_brokers_credit),
        cmocka_unit_test(test_credit_counts_anew_after_a_reconnect),
        cmocka_unit_test(test_the_window_is_bounded_by_count_and_bytes),
        cmocka_unit_test(test_ordinals_name_their_predecessors),
        cmocka_unit_test(test_a_line_that_is_sent_again_names_the_predecessor_it_had),
        cmocka_unit_test(test_an_ordinal_must_rise),
        cmocka_unit_test(test_refused_ordinals_go_again_in_order_under_fresh_numbers),
        cmocka_unit_test(test_full_is_told_to_who_does_not_wait_and_retried_for_who_does),
        cmocka_unit_test(test_a_duplicate_ordinal_is_told),
        cmocka_unit_test(test_an_ending_session_refuses_all_that_hangs_on_an_ordinal_at_once),
        cmocka_unit_test(test_a_second_try_survives_a_reconnect),
        cmocka_unit_test(test_a_used_up_series_is_exchanged_once_all_is_answered),
        cmocka_unit_test(test_ordinals_survive_any_mix_of_refusals_and_reconnects),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

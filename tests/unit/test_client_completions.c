/* Outcomes: duplicates, acknowledgement, credit for them, and what is still to come. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "client_desk.h"

/* ---- outcomes ---- */

static void test_a_duplicate_is_dropped_and_acknowledged_again_once_taken(void **state)
{
    (void)state;
    struct desk *desk = desk_welcomed();
    say_outcome(desk, id_make(7, 1), 1, "r");
    say_outcome(desk, id_make(7, 1), 1, "r");
    assert_int_equal(desk->told_count, 1);
    listen(desk);
    assert_null(find_said(desk, MSG_TAKEN));
    client_ledger_take(&desk->ledger, 1, 1);
    listen(desk);
    assert_int_equal(find_said(desk, MSG_TAKEN)->message.TAKEN.prefix, 1);
    listen(desk);
    assert_null(find_said(desk, MSG_TAKEN));
    /* The broker died before it had written the acknowledgement: it sends it again and must be told again (trace 15).
     */
    struct msg_WELCOME_CLIENT welcome = welcome_default();
    welcome.untaken = 1;
    come_again(desk, welcome);
    say_outcome(desk, id_make(7, 1), 1, "r");
    assert_int_equal(desk->told_count, 1);
    listen(desk);
    assert_int_equal(find_said(desk, MSG_TAKEN)->message.TAKEN.prefix, 1);
    desk_free(desk);
}

static void test_what_was_taken_is_told_as_prefix_and_ranges(void **state)
{
    (void)state;
    struct desk *desk = desk_welcomed();
    for (uint64_t i = 1; i <= 6; i++) {
        say_outcome(desk, id_make(7, (uint32_t)i), i, "r");
    }
    client_ledger_take(&desk->ledger, 1, 1);
    client_ledger_take(&desk->ledger, 3, 1);
    client_ledger_take(&desk->ledger, 4, 1);
    client_ledger_take(&desk->ledger, 6, 1);
    listen(desk);
    const struct said *taken = find_said(desk, MSG_TAKEN);
    assert_int_equal(taken->message.TAKEN.prefix, 1);
    assert_int_equal(taken->count, 2);
    assert_int_equal(taken->ranges[0].first, 3);
    assert_int_equal(taken->ranges[0].last, 4);
    assert_int_equal(taken->ranges[1].first, 6);
    client_ledger_down(&desk->ledger);
    client_ledger_up(&desk->ledger, desk->now);
    listen(desk);
    const struct said *hello = find_said(desk, MSG_HELLO_CLIENT);
    assert_int_equal(hello->message.HELLO_CLIENT.taken_prefix, 1);
    assert_int_equal(hello->count, 2);
    desk_free(desk);
}

/* Takings in disorder make more ranges than one message may hold: none may be left out for good. */
static void test_more_ranges_than_fit_into_a_hello_are_told_after_it(void **state)
{
    (void)state;
    struct desk *desk = desk_make(10000, 100000);
    struct msg_WELCOME_CLIENT welcome = welcome_default();
    client_ledger_up(&desk->ledger, desk->now);
    listen(desk);
    say_welcome(desk, &welcome);
    struct completions *completions = &desk->ledger.completions;
    for (uint64_t i = 2; i <= 2 * (TAKEN_RANGE_COUNT_MAX + 5); i += 2) {
        assert_true(completions_receive(completions, i, 0));
        completions_take(completions, i, 0);
    }
    struct msg_HELLO_CLIENT hello = {0};
    struct buf ranges = {0};
    completions_hello(completions, true, &hello, &ranges);
    assert_int_equal(hello.taken.count, TAKEN_RANGE_COUNT_MAX);
    assert_int_equal(completions->fresh.count, 5);
    buf_fini(&ranges);
    desk_free(desk);
}

static void test_credit_for_outcomes_follows_what_is_taken(void **state)
{
    (void)state;
    struct desk *desk = desk_make(4, 10000);
    struct msg_WELCOME_CLIENT welcome = welcome_default();
    client_ledger_up(&desk->ledger, desk->now);
    listen(desk);
    assert_int_equal(find_said(desk, MSG_HELLO_CLIENT)->message.HELLO_CLIENT.credit_count, 4);
    say_welcome(desk, &welcome);
    for (uint64_t i = 1; i <= 4; i++) {
        say_outcome(desk, id_make(7, (uint32_t)i), i, "r");
    }
    listen(desk);
    assert_null(find_said(desk, MSG_CREDIT)); /* nothing taken, nobody waits: the broker keeps the rest */
    client_ledger_take(&desk->ledger, 1, 1);
    listen(desk);
    assert_int_equal(find_said(desk, MSG_CREDIT)->message.CREDIT.count, 5);
    desk_free(desk);
}

/* All of the window is held by futures that nobody takes; the one that is waited for must come all the same. */
static void test_a_waiter_behind_a_full_window_gets_credit_that_is_paid_back(void **state)
{
    (void)state;
    struct desk *desk = desk_make(4, 10000);
    struct msg_WELCOME_CLIENT welcome = welcome_default();
    client_ledger_up(&desk->ledger, desk->now);
    listen(desk);
    say_welcome(desk, &welcome);
    for (uint64_t i = 1; i <= 4; i++) {
        say_outcome(desk, id_make(7, (uint32_t)i), i, "r");
    }
    client_ledger_want(&desk->ledger, true);
    listen(desk);
    assert_int_equal(find_said(desk, MSG_CREDIT)->message.CREDIT.count, 5);
    listen(desk);
    assert_int_equal(desk->said_count, 0); /* once, until that is used up as well */
    say_outcome(desk, id_make(7, 5), 5, "r");
    client_ledger_want(&desk->ledger, false);
    client_ledger_take(&desk->ledger, 1, 1);
    listen(desk);
    assert_null(find_said(desk, MSG_CREDIT)); /* paid back */
    client_ledger_take(&desk->ledger, 2, 1);
    listen(desk);
    assert_int_equal(find_said(desk, MSG_CREDIT)->message.CREDIT.count, 6);
    desk_free(desk);
}

static void test_bytes_are_a_window_too(void **state)
{
    (void)state;
    struct desk *desk = desk_make(100, 8);
    struct msg_WELCOME_CLIENT welcome = welcome_default();
    client_ledger_up(&desk->ledger, desk->now);
    listen(desk);
    say_welcome(desk, &welcome);
    say_outcome(desk, id_make(7, 1), 1, "twelve bytes");
    assert_true(completions_is_exhausted(&desk->ledger.completions));
    client_ledger_take(&desk->ledger, 1, 12);
    listen(desk);
    assert_int_equal(find_said(desk, MSG_CREDIT)->message.CREDIT.bytes, 8 + 12);
    desk_free(desk);
}

/* What is held comes again after a reconnect and must not eat the window of what is new. */
static void test_held_outcomes_fit_into_the_first_grant_of_a_new_connection(void **state)
{
    (void)state;
    struct desk *desk = desk_make(4, 10000);
    struct msg_WELCOME_CLIENT welcome = welcome_default();
    client_ledger_up(&desk->ledger, desk->now);
    listen(desk);
    say_welcome(desk, &welcome);
    client_ledger_want(&desk->ledger, true);
    for (uint64_t i = 1; i <= 6; i++) {
        say_outcome(desk, id_make(7, (uint32_t)i), i, "r");
        listen(desk);
    }
    client_ledger_want(&desk->ledger, false);
    client_ledger_down(&desk->ledger);
    client_ledger_up(&desk->ledger, desk->now);
    listen(desk);
    assert_int_equal(find_said(desk, MSG_HELLO_CLIENT)->message.HELLO_CLIENT.credit_count, 6);
    desk_free(desk);
}

/* ---- what is still to come ---- */

static void test_outstanding_counts_submits_tasks_and_outcomes_not_received(void **state)
{
    (void)state;
    struct desk *desk = desk_make(100, 10000);
    struct msg_WELCOME_CLIENT welcome = welcome_default();
    welcome.live = 2;
    welcome.untaken = 3;
    welcome.completion_last = 9;
    welcome.acked_prefix = 2;
    client_ledger_up(&desk->ledger, desk->now);
    listen(desk);
    say_welcome(desk, &welcome);
    assert_int_equal(client_ledger_outstanding(&desk->ledger), 5);
    put(desk, "a", 0, true);
    assert_int_equal(client_ledger_outstanding(&desk->ledger), 6);
    listen(desk);
    say_accepted(desk, 1, 1);
    assert_int_equal(client_ledger_outstanding(&desk->ledger), 6);
    say_outcome(desk, id_make(2, 1), 3, "r");
    assert_int_equal(client_ledger_outstanding(&desk->ledger), 5);
    put(desk, "b", 0, false);
    listen(desk);
    say_refused(desk, 2, 1, QUERN_FULL, 0);
    assert_int_equal(client_ledger_outstanding(&desk->ledger), 5);
    desk_free(desk);
}

/* A submit may be counted by WELCOME already although its answer was lost: it is one task, not two. */
static void test_outstanding_is_counted_anew_by_each_welcome(void **state)
{
    (void)state;
    struct desk *desk = desk_welcomed();
    put(desk, "a", 0, true);
    put(desk, "b", 0, true);
    listen(desk);
    say_outcome(desk, id_make(7, 1), 1, "r"); /* held, not taken */
    struct msg_WELCOME_CLIENT welcome = welcome_default();
    welcome.submitted_high = 1;
    welcome.untaken = 1;
    come_again(desk, welcome);
    say_outcome(desk, id_make(7, 1), 1, "r");
    listen(desk);
    say_accepted(desk, 1, 2);
    assert_int_equal(client_ledger_outstanding(&desk->ledger), 1);
    desk_free(desk);
}

/* Its outcome was received, taken, acknowledged and deleted before the repeated submit was answered. */
static void test_forgotten_after_its_outcome_means_accepted(void **state)
{
    (void)state;
    struct desk *desk = desk_welcomed();
    put(desk, "a", 0, true);
    put(desk, "b", 0, true);
    listen(desk);
    say_outcome(desk, id_make(7, 1), 1, "r");
    struct msg_FORGOTTEN forgotten = {.series = 7, .sequence = 1, .count = 2};
    msg_FORGOTTEN_put(write_to(desk), &forgotten);
    assert_int_equal(send_it(desk), LEDGER_GO_ON);
    assert_int_equal(desk->told_count, 3);
    assert_int_equal(desk->told[1].what, 'a');
    assert_int_equal(desk->told[2].what, 'r');
    assert_int_equal(desk->told[2].code, QUERN_FORGOTTEN);
    desk_free(desk);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_duplicate_is_dropped_and_acknowledged_again_once_taken),
        cmocka_unit_test(test_what_was_taken_is_told_as_prefix_and_ranges),
        cmocka_unit_test(test_more_ranges_than_fit_into_a_hello_are_told_after_it),
        cmocka_unit_test(test_credit_for_outcomes_follows_what_is_taken),
        cmocka_unit_test(test_a_waiter_behind_a_full_window_gets_credit_that_is_paid_back),
        cmocka_unit_test(test_bytes_are_a_window_too),
        cmocka_unit_test(test_held_outcomes_fit_into_the_first_grant_of_a_new_connection),
        cmocka_unit_test(test_outstanding_counts_submits_tasks_and_outcomes_not_received),
        cmocka_unit_test(test_outstanding_is_counted_anew_by_each_welcome),
        cmocka_unit_test(test_forgotten_after_its_outcome_means_accepted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

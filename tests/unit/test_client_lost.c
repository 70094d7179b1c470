/*
 * What becomes of a volatile session's client when the broker has lost the session: frame by frame, and the set that
 * remembers which tasks were unfinished.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "client_desk.h"

/* ---- a new broker ---- */

/* The connection breaks, and who answers the resume knows no such session. */
static enum ledger_verdict say_gone(struct desk *desk)
{
    struct msg_DENIED denied = {.code = QUERN_UNKNOWN, .text = bytes_text("the broker was started anew")};
    client_ledger_down(&desk->ledger);
    client_ledger_up(&desk->ledger, desk->now);
    listen(desk);
    msg_DENIED_put(write_to(desk), &denied);
    return send_it(desk);
}

static struct msg_WELCOME_CLIENT welcome_elsewhere(void)
{
    struct msg_WELCOME_CLIENT welcome = welcome_default();
    welcome.store.b[0] = 2;
    welcome.session = 90;
    welcome.series = 91;
    welcome.is_volatile = true;
    return welcome;
}

static const struct told *told_of(const struct desk *desk, char what, uint64_t id)
{
    for (size_t i = 0; i < desk->told_count; i++) {
        if (desk->told[i].what == what && desk->told[i].id == id) {
            return &desk->told[i];
        }
    }
    return NULL;
}

/* Accepted: named by the set. Sent: told one by one. Finished: nothing. Never sent: goes on under a new number. */
static void test_what_the_broker_had_is_lost_and_what_it_never_saw_goes_on(void **state)
{
    (void)state;
    uint64_t ordinal = 0;
    struct desk *desk = desk_volatile();
    put(desk, "finished", 0, true);
    put(desk, "accepted", 5, true);
    put(desk, "sent", 0, true);
    listen(desk);
    say_accepted(desk, 1, 2);
    say_outcome(desk, id_make(7, 1), 1, "r");
    client_ledger_down(&desk->ledger);
    uint64_t unsent = put(desk, "unsent", 0, true);
    desk->told_count = 0;
    assert_int_equal(say_gone(desk), LEDGER_RECONNECT);
    assert_string_equal(told_of(desk, 'l', id_make(7, 3))->owner, "sent");
    assert_int_equal(told_of(desk, 's', 1)->id, 1);
    assert_int_equal(desk->told_count, 2);
    assert_int_equal(unfinished_pop(&desk->lost, &ordinal), id_make(7, 2));
    assert_int_equal(ordinal, 5);
    assert_non_null(strstr(desk->ledger.why, "started anew"));

    struct msg_WELCOME_CLIENT welcome = welcome_elsewhere();
    desk->told_count = 0;
    come_again(desk, welcome);
    assert_int_equal(told_of(desk, 'n', id_make(91, 1))->old_id, unsent);
    listen(desk);
    assert_int_equal(find_said(desk, MSG_SUBMIT)->message.SUBMIT.series, 91);
    assert_int_equal(find_said(desk, MSG_SUBMIT)->message.SUBMIT.sequence, 1);
    assert_int_equal(find_said(desk, MSG_SUBMIT)->count, 1);
    assert_int_equal(client_ledger_outstanding(&desk->ledger), 1);
    desk_free(desk);
}

static void test_the_new_session_is_opened_not_resumed(void **state)
{
    (void)state;
    struct desk *desk = desk_volatile();
    desk->ledger.options.must_exist = true;
    assert_int_equal(say_gone(desk), LEDGER_RECONNECT);
    client_ledger_down(&desk->ledger);
    client_ledger_up(&desk->ledger, desk->now);
    listen(desk);
    const struct msg_HELLO_CLIENT *hello = &find_said(desk, MSG_HELLO_CLIENT)->message.HELLO_CLIENT;
    assert_int_equal(hello->session, 0);
    assert_int_equal(hello->series, 0);
    assert_true(hello->is_volatile);
    assert_false(hello->must_exist);
    struct msg_WELCOME_CLIENT welcome = welcome_elsewhere();
    assert_int_equal(say_welcome(desk, &welcome), LEDGER_GO_ON);
    assert_int_equal(desk->ledger.session, 90);
    assert_int_equal(put(desk, "next", 0, true), id_make(91, 1));
    come_again(desk, welcome); /* and this one is resumed */
    assert_int_equal(desk->ledger.phase, LEDGER_UP);
    desk_free(desk);
}

/* Completion numbers begin anew: what was taken of the old session says nothing to the new one. */
static void test_outcomes_of_the_new_session_are_no_duplicates_of_the_old(void **state)
{
    (void)state;
    struct desk *desk = desk_volatile();
    put(desk, "a", 0, true);
    listen(desk);
    say_accepted(desk, 1, 1);
    say_outcome(desk, id_make(7, 1), 1, "r");
    client_ledger_take(&desk->ledger, 1, 1);
    say_gone(desk);
    struct msg_WELCOME_CLIENT welcome = welcome_elsewhere();
    come_again(desk, welcome);
    listen(desk);
    assert_null(find_said(desk, MSG_TAKEN));
    put(desk, "b", 0, true);
    listen(desk);
    desk->told_count = 0;
    struct msg_ACCEPTED accepted = {.series = 91, .sequence = 1, .count = 1};
    msg_ACCEPTED_put(write_to(desk), &accepted);
    assert_int_equal(send_it(desk), LEDGER_GO_ON);
    say_outcome(desk, id_make(91, 1), 1, "r");
    assert_non_null(told_of(desk, 'o', id_make(91, 1)));
    assert_int_equal(client_ledger_outstanding(&desk->ledger), 0);
    desk_free(desk);
}

/* Refused for lack of room is not accepted: it is still the client's, and goes before what is behind it. */
static void test_what_was_refused_for_a_time_goes_on_in_order(void **state)
{
    (void)state;
    struct desk *desk = desk_volatile();
    uint64_t first = put(desk, "first", 1, true);
    listen(desk);
    say_refused(desk, 1, 1, QUERN_FULL, 0);
    uint64_t second = put(desk, "second", 2, true);
    say_gone(desk);
    assert_null(told_of(desk, 'l', first));
    assert_null(told_of(desk, 'l', second));
    struct msg_WELCOME_CLIENT welcome = welcome_elsewhere();
    come_again(desk, welcome);
    listen(desk);
    const struct said *submit = find_said(desk, MSG_SUBMIT);
    assert_int_equal(submit->count, 2);
    assert_int_equal(submit->message.SUBMIT.predecessor, 0);
    assert_int_equal(submit->submits[0].ordinal, 1);
    assert_int_equal(submit->submits[1].ordinal, 2);
    desk_free(desk);
}

/* An outcome may come before its acceptance: then nothing is unfinished. */
static void test_a_task_whose_outcome_came_first_is_not_lost(void **state)
{
    (void)state;
    struct desk *desk = desk_volatile();
    struct msg_WELCOME_CLIENT welcome = welcome_default();
    put(desk, "a", 0, true);
    listen(desk);
    welcome.submitted_high = 1;
    welcome.untaken = 1;
    welcome.is_volatile = true;
    come_again(desk, welcome);
    say_outcome(desk, id_make(7, 1), 1, "r");
    say_accepted(desk, 1, 1);
    desk->told_count = 0;
    say_gone(desk);
    assert_int_equal(desk->told_count, 1);
    assert_int_equal(desk->told[0].id, 0);
    desk_free(desk);
}

static void test_a_session_that_is_lost_again_before_it_was_opened_ends_the_client(void **state)
{
    (void)state;
    struct desk *desk = desk_volatile();
    assert_int_equal(say_gone(desk), LEDGER_RECONNECT);
    assert_int_equal(say_gone(desk), LEDGER_END);
    assert_int_equal(desk->ledger.end_code, QUERN_CLOSED);
    desk_free(desk);
}

static void test_a_durable_session_that_is_gone_still_ends_the_client(void **state)
{
    (void)state;
    struct desk *desk = desk_welcomed();
    assert_int_equal(say_gone(desk), LEDGER_END);
    assert_int_equal(desk->ledger.end_code, QUERN_CLOSED);
    desk_free(desk);
}

/* ---- the set ---- */

static void test_unfinished_tasks_come_out_lowest_first_each_once(void **state)
{
    (void)state;
    uint64_t ordinal = 0;
    struct unfinished set = {0};
    const uint64_t ids[] = {id_make(9, 5), id_make(7, 70000), id_make(7, 2), id_make(7, 3), id_make(SERIES_MAX, 1)};
    for (size_t i = 0; i < 5; i++) {
        unfinished_add(&set, ids[i], 0);
        unfinished_add(&set, ids[i], 0);
    }
    assert_int_equal(set.count, 5);
    assert_true(unfinished_remove(&set, ids[3], &ordinal));
    assert_false(unfinished_remove(&set, ids[3], &ordinal));
    assert_false(unfinished_remove(&set, id_make(7, 4), &ordinal));
    assert_int_equal(unfinished_pop(&set, &ordinal), ids[2]);
    unfinished_add(&set, ids[2], 0); /* below the last one */
    assert_int_equal(unfinished_pop(&set, &ordinal), ids[2]);
    assert_int_equal(unfinished_pop(&set, &ordinal), ids[1]);
    assert_int_equal(unfinished_pop(&set, &ordinal), ids[0]);
    assert_int_equal(unfinished_pop(&set, &ordinal), ids[4]);
    assert_int_equal(unfinished_pop(&set, &ordinal), 0);
    unfinished_fini(&set);
}

/* A million that come and go leave no memory behind, one old straggler keeps one chunk. */
static void test_a_straggler_costs_one_chunk(void **state)
{
    (void)state;
    uint64_t ordinal = 0;
    struct unfinished set = {0};
    for (uint32_t i = 1; i <= 1000000; i++) {
        unfinished_add(&set, id_make(7, i), 0);
        if (i > 100 && i != 600) {
            assert_true(unfinished_remove(&set, id_make(7, i - 100), &ordinal));
        }
    }
    assert_true(set.chunks.count <= 3);
    unfinished_fini(&set);
}

static void test_moving_joins_two_sets(void **state)
{
    (void)state;
    uint64_t ordinal = 0;
    struct unfinished set = {0};
    struct unfinished other = {0};
    unfinished_add(&set, id_make(7, 1), 0);
    unfinished_add(&other, id_make(7, 2), 0);
    unfinished_add(&other, id_make(6, 9), 0);
    unfinished_move(&set, &other);
    assert_int_equal(other.count, 0);
    assert_int_equal(set.count, 3);
    assert_int_equal(unfinished_pop(&set, &ordinal), id_make(6, 9));
    unfinished_fini(&set);
    unfinished_fini(&other);
}

/* ---- durable if the broker can ---- */

static enum ledger_verdict say_no_store(struct desk *desk)
{
    struct msg_DENIED denied = {.code = QUERN_UNSUPPORTED, .text = bytes_text("this broker has no store")};
    client_ledger_up(&desk->ledger, desk->now);
    listen(desk);
    msg_DENIED_put(write_to(desk), &denied);
    return send_it(desk);
}

/* A function that opens a client need not know what its broker has. */
static void test_who_does_not_ask_for_durability_gets_a_volatile_session_where_there_is_no_store(void **state)
{
    (void)state;
    struct desk *desk = desk_make(100, 10000);
    desk->ledger.options.may_be_volatile = true;
    assert_int_equal(say_no_store(desk), LEDGER_RECONNECT);
    client_ledger_down(&desk->ledger);
    struct msg_WELCOME_CLIENT welcome = welcome_default();
    welcome.is_volatile = true;
    client_ledger_up(&desk->ledger, desk->now);
    listen(desk);
    assert_true(find_said(desk, MSG_HELLO_CLIENT)->message.HELLO_CLIENT.is_volatile);
    assert_int_equal(say_welcome(desk, &welcome), LEDGER_GO_ON);
    put(desk, "accepted", 0, true);
    listen(desk);
    say_accepted(desk, 1, 1);
    say_gone(desk); /* and it is lost as one that was asked for */
    assert_int_equal(desk->lost.count, 1);
    desk_free(desk);
}

static void test_who_asks_for_durability_is_refused_where_there_is_no_store(void **state)
{
    (void)state;
    struct desk *desk = desk_make(100, 10000);
    assert_int_equal(say_no_store(desk), LEDGER_END);
    assert_int_equal(desk->ledger.end_code, QUERN_UNSUPPORTED);
    desk_free(desk);
    desk = desk_make(100, 10000);
    desk->ledger.options.may_be_volatile = desk->ledger.options.is_volatile = true;
    assert_int_equal(say_no_store(desk), LEDGER_END); /* nor is a volatile one that is refused asked for for ever */
    desk_free(desk);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_who_does_not_ask_for_durability_gets_a_volatile_session_where_there_is_no_store),
        cmocka_unit_test(test_who_asks_for_durability_is_refused_where_there_is_no_store),
        cmocka_unit_test(test_what_the_broker_had_is_lost_and_what_it_never_saw_goes_on),
        cmocka_unit_test(test_the_new_session_is_opened_not_resumed),
        cmocka_unit_test(test_outcomes_of_the_new_session_are_no_duplicates_of_the_old),
        cmocka_unit_test(test_what_was_refused_for_a_time_goes_on_in_order),
        cmocka_unit_test(test_a_task_whose_outcome_came_first_is_not_lost),
        cmocka_unit_test(test_a_session_that_is_lost_again_before_it_was_opened_ends_the_client),
        cmocka_unit_test(test_a_durable_session_that_is_gone_still_ends_the_client),
        cmocka_unit_test(test_unfinished_tasks_come_out_lowest_first_each_once),
        cmocka_unit_test(test_a_straggler_costs_one_chunk),
        cmocka_unit_test(test_moving_joins_two_sets),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

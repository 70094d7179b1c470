/*
 * test_ledger: what a worker holds (worker/ledger.c), its lease and its pace: pure parts, no process needed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "worker/lease.h"
#include "worker/ledger.h"
#include "worker/pace.h"

#include <string.h>

static const struct uuid store_one = {{1}};
static const struct uuid store_two = {{2}};

static struct ledger *begin(struct ledger *ledger)
{
    ledger_init(ledger);
    assert_false(ledger_welcome(ledger, &store_one, 1));
    return ledger;
}

static struct attempt *dispatch_at(struct ledger *ledger, uint64_t task, uint32_t number, uint64_t depth)
{
    struct msg_DISPATCH call = {.function = bytes_text("f")};
    struct item_dispatch item = {.task = task, .attempt = number, .args = bytes_text("\x90"), .depth = depth};
    struct attempt *attempt = ledger_dispatch(ledger, 0, &call, &item);
    ledger_check(ledger);
    return attempt;
}

static struct attempt *dispatch(struct ledger *ledger, uint64_t task, uint32_t number)
{
    return dispatch_at(ledger, task, number, 0);
}

static struct attempt *finished(struct ledger *ledger, uint64_t task, uint32_t number)
{
    struct attempt *attempt = dispatch(ledger, task, number);
    struct outcome outcome = {.state = FINISHED_DONE, .result = bytes_text("\x2a")};
    ledger_hand(ledger, attempt);
    ledger_start(ledger, attempt);
    ledger_finish(ledger, attempt, &outcome);
    ledger_check(ledger);
    return attempt;
}

static struct token token_of(uint64_t task, uint32_t epoch, uint32_t number)
{
    return (struct token){.task = task, .epoch = epoch, .attempt = number};
}

/* Decode the one message in what was put; the buf must outlive it. */
static struct message decoded(const struct buf *buf)
{
    struct cursor cursor = cursor_of(buf_bytes(buf));
    struct message message;
    uint64_t unknown;
    const char *why = "";
    assert_int_equal(message_next(&cursor, &message, &unknown, &why), QUERN_OK);
    assert_true(cursor_done(&cursor));
    return message;
}

/* ---- tokens ---- */

/* A frame that comes twice must not run a task twice. */
static void test_token_held_already_is_not_taken_again(void **state)
{
    (void)state;
    struct ledger ledger;
    begin(&ledger);
    assert_non_null(dispatch(&ledger, 7, 1));
    assert_null(dispatch(&ledger, 7, 1));
    finished(&ledger, 8, 1);
    assert_null(dispatch(&ledger, 8, 1));
    assert_int_equal(ledger.held_count, 2);
    ledger_fini(&ledger);
}

/* A receipt names one attempt: another of the same task stays (else it would be leased for ever). */
static void test_receipt_frees_only_the_attempt_it_names(void **state)
{
    (void)state;
    struct ledger ledger;
    begin(&ledger);
    finished(&ledger, 7, 1);
    struct attempt *second = dispatch(&ledger, 7, 2);
    assert_non_null(second);
    assert_true(ledger_receipt(&ledger, token_of(7, 1, 1)));
    ledger_check(&ledger);
    assert_ptr_equal(ledger_find(&ledger, token_of(7, 1, 2)), second);
    assert_null(ledger_find(&ledger, token_of(7, 1, 1)));
    assert_false(ledger_receipt(&ledger, token_of(7, 1, 1)));
    ledger_fini(&ledger);
}

/* The epoch is part of the token: the same numbers of another life of the broker are another attempt. */
static void test_epoch_tells_attempts_apart(void **state)
{
    (void)state;
    struct ledger ledger;
    begin(&ledger);
    finished(&ledger, 7, 1);
    assert_false(ledger_welcome(&ledger, &store_one, 2));
    assert_non_null(dispatch(&ledger, 7, 1));
    assert_int_equal(ledger.held_count, 2);
    assert_false(ledger_receipt(&ledger, token_of(7, 2, 1))); /* that one waits */
    assert_true(ledger_receipt(&ledger, token_of(7, 1, 1)));
    ledger_fini(&ledger);
}

/* A started attempt leaves only by a receipt: one that comes before its outcome frees nothing. */
static void test_receipt_for_what_runs_frees_nothing(void **state)
{
    (void)state;
    struct ledger ledger;
    begin(&ledger);
    struct attempt *attempt = dispatch(&ledger, 7, 1);
    ledger_hand(&ledger, attempt);
    ledger_start(&ledger, attempt);
    assert_false(ledger_receipt(&ledger, token_of(7, 1, 1)));
    assert_ptr_equal(ledger_find(&ledger, token_of(7, 1, 1)), attempt);
    ledger_fini(&ledger);
}

/* ---- what HELLO lists ---- */

/* HELLO that lists only what runs would give back what is finished: it would run twice. */
static void test_inventory_lists_everything_with_its_state(void **state)
{
    (void)state;
    struct ledger ledger;
    begin(&ledger);
    dispatch(&ledger, 1, 1);
    ledger_hand(&ledger, dispatch(&ledger, 2, 1));
    struct attempt *running = dispatch(&ledger, 3, 1);
    ledger_hand(&ledger, running);
    ledger_start(&ledger, running);
    finished(&ledger, 4, 1);
    struct buf frame = {0};
    finished(&ledger, 5, 1);
    (void)ledger_put_finished(&ledger, &frame);
    buf_fini(&frame);

    static const uint64_t expected[] = {
        [1] = HELD_LEASED, [2] = HELD_LEASED, [3] = HELD_RUNNING, [4] = HELD_FINISHED, [5] = HELD_FINISHED};
    struct msg_HELLO_WORKER hello = {.name = bytes_text("w")};
    struct buf items = {0};
    hello.held.count = ledger_put_held(&ledger, &items);
    hello.held.items = buf_bytes(&items);
    assert_int_equal(hello.held.count, 5);
    unsigned seen = 0;
    struct item_held item;
    while (item_held_next(&hello.held, &item)) {
        assert_true(item.task >= 1 && item.task <= 5);
        assert_int_equal(item.state, expected[item.task]);
        assert_int_equal(item.epoch, 1);
        seen |= 1u << item.task;
    }
    assert_int_equal(seen, 0x3e);
    buf_fini(&items);
    ledger_fini(&ledger);
}

/* ---- outcomes ---- */

static unsigned sent_count(struct ledger *ledger)
{
    struct buf frame = {0};
    unsigned count = 0;
    if (ledger->unsent.count > 0) {
        (void)ledger_put_finished(ledger, &frame);
        count = decoded(&frame).FINISHED.items.count;
    }
    buf_fini(&frame);
    return count;
}

/* An outcome goes out once on a connection and again on the next one, until its receipt. */
static void test_outcome_is_sent_again_until_its_receipt(void **state)
{
    (void)state;
    struct ledger ledger;
    begin(&ledger);
    finished(&ledger, 1, 1);
    finished(&ledger, 2, 1);
    assert_int_equal(sent_count(&ledger), 2);
    assert_int_equal(sent_count(&ledger), 0);
    assert_true(ledger_receipt(&ledger, token_of(1, 1, 1)));
    ledger_disconnected(&ledger);
    assert_false(ledger_welcome(&ledger, &store_one, 2));
    assert_int_equal(sent_count(&ledger), 1);
    assert_true(ledger_receipt(&ledger, token_of(2, 1, 1)));
    assert_int_equal(ledger.held_count, 0);
    assert_int_equal(ledger.finished_bytes, 0);
    ledger_fini(&ledger);
}

static void test_outcome_carries_its_own_copies(void **state)
{
    (void)state;
    struct ledger ledger;
    begin(&ledger);
    char text[] = "message";
    struct outcome outcome = {.state = FINISHED_FAILED,
                              .cause = CAUSE_CRASHED,
                              .kind = bytes_text("Signal"),
                              .message = bytes_of(text, 7),
                              .signal = 11,
                              .run_us = 5};
    struct attempt *attempt = dispatch(&ledger, 1, 1);
    ledger_hand(&ledger, attempt);
    ledger_finish(&ledger, attempt, &outcome);
    memset(text, 'x', sizeof(text));
    struct buf frame = {0};
    assert_false(ledger_put_finished(&ledger, &frame));
    struct message message = decoded(&frame);
    struct item_finished item;
    assert_true(item_finished_next(&message.FINISHED.items, &item));
    assert_true(bytes_is(item.message, "message"));
    assert_true(bytes_is(item.kind, "Signal"));
    assert_null(item.result.p);
    assert_int_equal(item.cause, CAUSE_CRASHED);
    assert_int_equal(item.signal, 11);
    buf_fini(&frame);
    ledger_fini(&ledger);
}

/* What is done and says nothing besides is kept in another form than the rest: all of it is said, and nothing of the
 * failure that was said before it. */
static void test_done_outcome_says_its_result_and_figures(void **state)
{
    (void)state;
    struct ledger ledger;
    begin(&ledger);
    struct attempt *failed = dispatch(&ledger, 1, 1);
    struct outcome failure = {.state = FINISHED_FAILED, .cause = CAUSE_ERROR, .message = bytes_text("no"), .signal = 9};
    ledger_finish(&ledger, failed, &failure);
    struct attempt *done = dispatch(&ledger, 2, 1);
    ledger_hand(&ledger, done);
    char result[] = "*";
    *ledger_finish_plain(&ledger, done, bytes_of(result, 1)) =
        (struct figures){.pid = 1, .started = 2, .run_us = 3, .cpu_us = 4, .peak = 5};
    result[0] = 'x';
    struct buf frame = {0};
    assert_false(ledger_put_finished(&ledger, &frame));
    struct message message = decoded(&frame);
    struct item_finished item;
    assert_true(item_finished_next(&message.FINISHED.items, &item));
    assert_true(bytes_is(item.message, "no"));
    assert_true(item_finished_next(&message.FINISHED.items, &item));
    assert_int_equal(item.task, 2);
    assert_int_equal(item.epoch, 1);
    assert_int_equal(item.attempt, 1);
    assert_int_equal(item.state, FINISHED_DONE);
    assert_int_equal(item.cause, CAUSE_NONE);
    assert_true(bytes_is(item.result, "*"));
    assert_null(item.message.p);
    assert_null(item.output.p);
    assert_int_equal(item.signal, 0);
    assert_int_equal(item.pid, 1);
    assert_int_equal(item.started, 2);
    assert_int_equal(item.run_us, 3);
    assert_int_equal(item.cpu_us, 4);
    assert_int_equal(item.peak, 5);
    buf_fini(&frame);
    ledger_fini(&ledger);
}

/* Frames are bounded: what does not fit goes into the next. */
static void test_large_outcomes_go_in_several_frames(void **state)
{
    (void)state;
    static uint8_t big[BATCH_SIZE_SOFT];
    struct ledger ledger;
    begin(&ledger);
    for (uint64_t task = 1; task <= 3; task++) {
        struct outcome outcome = {.state = FINISHED_DONE, .result = bytes_of(big, sizeof(big))};
        ledger_finish(&ledger, dispatch(&ledger, task, 1), &outcome);
    }
    assert_int_equal(ledger.finished_bytes, 3 * sizeof(big));
    for (int i = 0; i < 3; i++) {
        assert_int_equal(sent_count(&ledger), 1);
    }
    assert_int_equal(sent_count(&ledger), 0);
    ledger_fini(&ledger);
}

/* At the bound nothing new may start; below it again, things go on. */
static void test_bound_of_bytes_makes_it_full(void **state)
{
    (void)state;
    struct ledger ledger;
    begin(&ledger);
    static uint8_t big[PAYLOAD_SIZE_MAX];
    uint64_t task = 0;
    while (!ledger_is_full(&ledger)) {
        struct outcome outcome = {.state = FINISHED_DONE, .result = bytes_of(big, sizeof(big))};
        ledger_finish(&ledger, dispatch(&ledger, ++task, 1), &outcome);
        assert_true(task <= WORKER_HELD_BYTES_MAX / PAYLOAD_SIZE_MAX);
    }
    assert_true(ledger_receipt(&ledger, token_of(1, 1, 1)));
    assert_false(ledger_is_full(&ledger));
    ledger_fini(&ledger);
}

/* ---- returns ---- */

static void test_returned_is_said_once_and_forgotten_with_the_connection(void **state)
{
    (void)state;
    struct ledger ledger;
    begin(&ledger);
    struct attempt *attempt = dispatch(&ledger, 1, 3);
    ledger_return(&ledger, &attempt);
    assert_null(attempt);
    assert_int_equal(ledger.held_count, 0);
    struct buf frame = {0};
    ledger_put_returned(&ledger, &frame);
    struct message message = decoded(&frame);
    struct item_token item;
    assert_true(item_token_next(&message.RETURNED.items, &item));
    assert_int_equal(item.task, 1);
    assert_int_equal(item.attempt, 3);
    frame.n = 0;
    ledger_put_returned(&ledger, &frame);
    assert_int_equal(frame.n, 0);
    attempt = dispatch(&ledger, 2, 1);
    ledger_return(&ledger, &attempt);
    ledger_disconnected(&ledger); /* not listed in the next HELLO: it goes back by itself */
    assert_false(ledger_has_news(&ledger));
    buf_fini(&frame);
    ledger_fini(&ledger);
}

/* What comes back from a slot goes before what waits: order of dispatch is kept. */
static void test_taken_back_attempts_come_first(void **state)
{
    (void)state;
    struct ledger ledger;
    begin(&ledger);
    struct attempt *one = dispatch(&ledger, 1, 1);
    struct attempt *two = dispatch(&ledger, 2, 1);
    dispatch(&ledger, 3, 1);
    ledger_hand(&ledger, one);
    ledger_hand(&ledger, two);
    ledger_take_back(&ledger, two);
    ledger_take_back(&ledger, one);
    ledger_check(&ledger);
    assert_int_equal(ledger.waiting.first->token.task, 1);
    assert_int_equal(ledger.waiting.first->next->token.task, 2);
    assert_int_equal(ledger.waiting.last->token.task, 3);
    ledger_fini(&ledger);
}

/* What is first is handed first: handlers wait for what is deep. */
static void test_deeper_attempts_come_first_and_go_back_to_their_place(void **state)
{
    static const uint64_t expected[] = {6, 3, 5, 7, 1, 2, 4};
    (void)state;
    struct ledger ledger;
    begin(&ledger);
    struct attempt *one = dispatch_at(&ledger, 1, 1, 0);
    dispatch_at(&ledger, 2, 1, 0);
    struct attempt *three = dispatch_at(&ledger, 3, 1, 1);
    dispatch_at(&ledger, 4, 1, 0);
    dispatch_at(&ledger, 5, 1, 1);
    struct attempt *six = dispatch_at(&ledger, 6, 1, TASK_DEPTH_MAX);
    dispatch_at(&ledger, 7, 1, 1);
    ledger_hand(&ledger, three);
    ledger_hand(&ledger, one);
    ledger_hand(&ledger, six);
    ledger_take_back(&ledger, six);
    ledger_take_back(&ledger, one);
    ledger_take_back(&ledger, three);
    ledger_check(&ledger);
    const struct attempt *attempt = ledger.waiting.first;
    for (size_t i = 0; i < 7; i++, attempt = attempt->next) {
        assert_int_equal(attempt->token.task, expected[i]);
    }
    ledger_fini(&ledger);
}

static void test_how_many_are_shallower_counts_what_has_no_outcome(void **state)
{
    (void)state;
    struct ledger ledger;
    struct outcome outcome = {.state = FINISHED_DONE};
    begin(&ledger);
    struct attempt *root = dispatch_at(&ledger, 1, 1, 0);
    struct attempt *child = dispatch_at(&ledger, 2, 1, 1);
    struct attempt *returned = dispatch_at(&ledger, 3, 1, 1);
    dispatch_at(&ledger, 4, 1, 2);
    assert_int_equal(ledger_shallower(&ledger, 0), 0);
    assert_int_equal(ledger_shallower(&ledger, 1), 1);
    assert_int_equal(ledger_shallower(&ledger, 2), 3);
    assert_int_equal(ledger_shallower(&ledger, 3), 4);
    ledger_return(&ledger, &returned);
    ledger_hand(&ledger, root);
    ledger_hand(&ledger, child);
    assert_int_equal(ledger_shallower(&ledger, 2), 2);
    ledger_finish(&ledger, child, &outcome);
    assert_int_equal(ledger_shallower(&ledger, 2), 1);
    assert_true(ledger_receipt(&ledger, token_of(2, 1, 1)));
    ledger_drop(&ledger, &root);
    assert_int_equal(ledger_shallower(&ledger, 2), 0);
    ledger_check(&ledger);
    ledger_fini(&ledger);
}

/* ---- stores ---- */

static void test_another_store_is_noticed(void **state)
{
    (void)state;
    struct ledger ledger;
    begin(&ledger);
    finished(&ledger, 1, 1);
    assert_false(ledger_welcome(&ledger, &store_one, 5));
    assert_true(ledger_welcome(&ledger, &store_two, 1));
    ledger_clear(&ledger);
    assert_int_equal(ledger.held_count, 0);
    assert_null(ledger_find(&ledger, token_of(1, 1, 1)));
    ledger_fini(&ledger);
}

static void test_drop_forgets_in_any_state(void **state)
{
    (void)state;
    struct ledger ledger;
    begin(&ledger);
    struct attempt *waiting = dispatch(&ledger, 1, 1);
    struct attempt *handed = dispatch(&ledger, 2, 1);
    ledger_hand(&ledger, handed);
    struct attempt *done = finished(&ledger, 3, 1);
    ledger_drop(&ledger, &waiting);
    ledger_drop(&ledger, &handed);
    ledger_drop(&ledger, &done);
    ledger_check(&ledger);
    assert_int_equal(ledger.held_count, 0);
    assert_int_equal(ledger.args_bytes, 0);
    assert_int_equal(ledger.finished_bytes, 0);
    ledger_fini(&ledger);
}

/* ---- the lease ---- */

static struct lease welcome_at(int64_t hello_ms)
{
    struct limits limits = limits_default();
    struct lease lease;
    lease_init(&lease, &limits);
    assert_true(lease_is_over(&lease, hello_ms));
    lease_greet(&lease, hello_ms);
    struct msg_WELCOME_WORKER welcome = {.lease_ms = 1000, .heartbeat_ms = 100, .dead_ms = 500};
    lease_welcome(&lease, &welcome);
    return lease;
}

/* It counts from the sending of what was answered, not from the answer: the broker heard it later than it was sent. */
static void test_lease_counts_from_the_sending(void **state)
{
    (void)state;
    struct lease lease = welcome_at(5000);
    assert_false(lease_is_over(&lease, 5999));
    assert_true(lease_is_over(&lease, 6000));
    assert_int_equal(lease_ping(&lease, 5050), 0);
    uint64_t first = lease_ping(&lease, 5100);
    uint64_t second = lease_ping(&lease, 5200);
    assert_true(first > 0 && second == first + 1);
    lease_heard(&lease, 5900);
    lease_pong(&lease, first);
    assert_false(lease_is_over(&lease, 6099));
    assert_true(lease_is_over(&lease, 6100));
    lease_pong(&lease, second);
    lease_pong(&lease, first); /* late, again: the end never moves back */
    assert_false(lease_is_over(&lease, 6199));
}

/* An answer to a ping of the connection before, or to none, renews nothing. */
static void test_foreign_pongs_renew_nothing(void **state)
{
    (void)state;
    struct lease lease = welcome_at(5000);
    uint64_t old = lease_ping(&lease, 5900);
    lease_disconnected(&lease);
    lease_greet(&lease, 6000);
    struct msg_WELCOME_WORKER welcome = {.lease_ms = 100, .heartbeat_ms = 100, .dead_ms = 500};
    lease_welcome(&lease, &welcome);
    lease_pong(&lease, old);
    lease_pong(&lease, old + 1000);
    lease_pong(&lease, 0);
    assert_true(lease_is_over(&lease, 6100));
}

static void test_silence_is_noticed(void **state)
{
    (void)state;
    struct lease lease = welcome_at(5000);
    assert_false(lease_is_silent(&lease, 5499));
    assert_true(lease_is_silent(&lease, 5500));
    lease_heard(&lease, 5400);
    assert_false(lease_is_silent(&lease, 5500));
    assert_int_equal(lease_wake_ms(&lease), 5100);
    lease_disconnected(&lease);
    assert_false(lease_is_silent(&lease, 99999));
    assert_true(lease_wake_ms(&lease) == INT64_MAX);
}

static void test_generation_rises_with_every_connection(void **state)
{
    (void)state;
    struct lease lease = welcome_at(1);
    assert_int_equal(lease.generation, 1);
    lease_disconnected(&lease);
    lease_greet(&lease, 2);
    assert_int_equal(lease.generation, 2);
}

/* ---- the pace ---- */

/* Enough work at hand for microsecond tasks, nothing in advance behind tasks of seconds. */
static void test_capacity_follows_the_run_time(void **state)
{
    (void)state;
    struct pace pace;
    pace_init(&pace, 1);
    assert_int_equal(pace_capacity(&pace, 2), 2);
    assert_int_equal(pace_function_us(&pace, 0), PACE_UNKNOWN_US);
    for (int i = 0; i < 100; i++) {
        pace_ran(&pace, 0, 2);
    }
    assert_int_equal(pace_capacity(&pace, 2), 2 + PACE_PREFETCH_COUNT_MAX);
    assert_true(pace_function_us(&pace, 0) <= 3);
    for (int i = 0; i < 10; i++) {
        pace_ran(&pace, 0, 2000000);
    }
    assert_int_equal(pace_capacity(&pace, 2), 2);
    pace_fini(&pace);
}

/* One long task among hundreds of short ones is no reason to ask for little. */
static void test_pace_stays_calm_after_one_long_run(void **state)
{
    (void)state;
    struct pace pace;
    pace_init(&pace, 1);
    for (int i = 0; i < 200; i++) {
        pace_ran(&pace, 0, 10);
    }
    pace_runs(&pace, 0, 50000);
    assert_true(pace_function_us(&pace, 0) >= 50000);
    pace_ran(&pace, 0, 50000);
    assert_true(pace_capacity(&pace, 2) > 40);
    for (int i = 0; i < 300; i++) {
        pace_ran(&pace, 0, 10);
    }
    assert_true(pace_capacity(&pace, 2) > 500);
    pace_fini(&pace);
}

/* When no slot moves, little is asked for, at once. */
static void test_stuck_worker_asks_for_little(void **state)
{
    (void)state;
    struct pace pace;
    pace_init(&pace, 1);
    pace_is_stuck(&pace, 20000);
    assert_int_equal(pace_capacity(&pace, 2), 2); /* as long as nothing has ended, too */
    for (int i = 0; i < 100; i++) {
        pace_ran(&pace, 0, 10);
    }
    pace_is_stuck(&pace, 20000);
    assert_int_equal(pace_capacity(&pace, 2), 4);
    pace_fini(&pace);
}

static void test_small_changes_of_capacity_are_no_news(void **state)
{
    (void)state;
    assert_false(pace_is_news(100, 100));
    assert_false(pace_is_news(100, 120));
    assert_false(pace_is_news(100, 80));
    assert_true(pace_is_news(100, 150));
    assert_true(pace_is_news(100, 50));
    assert_true(pace_is_news(0, 1));
    assert_true(pace_is_news(1, 0));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_token_held_already_is_not_taken_again),
        cmocka_unit_test(test_receipt_frees_only_the_attempt_it_names),
        cmocka_unit_test(test_epoch_tells_attempts_apart),
        cmocka_unit_test(test_receipt_for_what_runs_frees_nothing),
        cmocka_unit_test(test_inventory_lists_everything_with_its_state),
        cmocka_unit_test(test_outcome_is_sent_again_until_its_receipt),
        cmocka_unit_test(test_outcome_carries_its_own_copies),
        cmocka_unit_test(test_done_outcome_says_its_result_and_figures),
        cmocka_unit_test(test_large_outcomes_go_in_several_frames),
        cmocka_unit_test(test_bound_of_bytes_makes_it_full),
        cmocka_unit_test(test_returned_is_said_once_and_forgotten_with_the_connection),
        cmocka_unit_test(test_taken_back_attempts_come_first),
        cmocka_unit_test(test_deeper_attempts_come_first_and_go_back_to_their_place),
        cmocka_unit_test(test_how_many_are_shallower_counts_what_has_no_outcome),
        cmocka_unit_test(test_another_store_is_noticed),
        cmocka_unit_test(test_drop_forgets_in_any_state),
        cmocka_unit_test(test_lease_counts_from_the_sending),
        cmocka_unit_test(test_foreign_pongs_renew_nothing),
        cmocka_unit_test(test_silence_is_noticed),
        cmocka_unit_test(test_generation_rises_with_every_connection),
        cmocka_unit_test(test_capacity_follows_the_run_time),
        cmocka_unit_test(test_pace_stays_calm_after_one_long_run),
        cmocka_unit_test(test_stuck_worker_asks_for_little),
        cmocka_unit_test(test_small_changes_of_capacity_are_no_news),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

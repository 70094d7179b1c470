/*
 * Maps against a broker in one thread (fake_broker.h), over a real socket: the promises of quern/map.h, one by one.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "client/inside.h"
#include "client_calls.h"
#include "common/codec.h"
#include "quern/value.h"

#include <sched.h>
#include <sys/wait.h>

/* ---- numbers 0, 1, 2 ... as inputs ---- */

struct numbers {
    uint64_t next;
    uint64_t count;
    uint64_t given;     /* by the test's own count */
    uint64_t ahead_max; /* inputs read beyond what was given, at most */
    uint64_t pad;       /* bytes of each beside the number */
    enum quern_err end; /* QUERN_END, or an error */
    uint64_t nonsense;  /* this one is no array; UINT64_MAX none */
};

static struct numbers numbers_of(uint64_t count)
{
    return (struct numbers){.count = count, .end = QUERN_END, .nonsense = UINT64_MAX};
}

static enum quern_err number(void *context, struct quern_writer *args)
{
    static const char padding[100000];
    struct numbers *numbers = context;
    if (numbers->next == numbers->count) {
        return numbers->end;
    }
    if (numbers->next == numbers->nonsense) {
        quern_write_u64(args, 7);
        numbers->next++;
        return QUERN_OK;
    }
    quern_write_array(args, 2);
    quern_write_u64(args, numbers->next++);
    quern_write_bin(args, padding, numbers->pad);
    uint64_t ahead = numbers->next - numbers->given;
    numbers->ahead_max = ahead > numbers->ahead_max ? ahead : numbers->ahead_max;
    return QUERN_OK;
}

static struct quern_map_options options_of(enum quern_order order)
{
    struct quern_map_options options = QUERN_MAP_OPTIONS_INIT;
    options.call.function = "square";
    options.order = order;
    return options;
}

static struct quern_map *map_of(struct quern_client *client, struct quern_map_options options, struct numbers *numbers)
{
    struct quern_map *map = NULL;
    enum quern_err err = quern_map_open(client, &options, number, numbers, &map);
    if (err != QUERN_OK) {
        print_error("%s\n", quern_last_error());
    }
    assert_int_equal(err, QUERN_OK);
    return map;
}

/* The first of the two arguments, which came back as the result. */
static uint64_t number_of(const struct quern_outcome *outcome)
{
    struct quern_reader reader;
    size_t count;
    uint64_t value = UINT64_MAX;
    quern_reader_init(&reader, outcome->result, outcome->result_size);
    assert_int_equal(quern_read_array(&reader, &count), QUERN_OK);
    assert_int_equal(quern_read_u64(&reader, &value), QUERN_OK);
    return value;
}

/* Takes one item and checks that its result is that of its input. Returns its index. */
static uint64_t item_take(struct quern_map *map, struct numbers *numbers)
{
    struct quern_map_item item;
    enum quern_err err = quern_map_next(map, WAIT_MS, &item);
    if (err != QUERN_OK) {
        print_error("%s\n", quern_last_error());
    }
    assert_int_equal(err, QUERN_OK);
    assert_int_equal(number_of(item.outcome), item.index);
    numbers->given++;
    quern_outcome_release(&item.outcome);
    return item.index;
}

static enum quern_err next_of(struct quern_map *map, int timeout_ms)
{
    struct quern_map_item item = {0};
    enum quern_err err = quern_map_next(map, timeout_ms, &item);
    quern_outcome_release(&item.outcome);
    return err;
}

/* Waits until the fake has this many submits. */
static void submits_await(struct fake *fake, uint64_t count)
{
    fake_lock(fake);
    fake_await(fake, fake->submit_count >= count);
    assert_int_equal(fake->submit_count, count);
    fake_unlock(fake);
}

static void complete(struct fake *fake, uint32_t sequence)
{
    fake_lock(fake);
    fake_complete(fake, sequence);
    fake_unlock(fake);
}

/* Tasks end only as the test says; or as a cancel does, if that is obeyed. */
static void by_hand(struct fake *fake, bool obeys_cancel)
{
    fake_lock(fake);
    fake->is_by_hand = true;
    fake->obeys_cancel = obeys_cancel;
    fake_unlock(fake);
}

static void refuse(struct fake *fake, enum quern_err code, unsigned count)
{
    fake_lock(fake);
    fake->refuse = code;
    fake->refuse_count = count;
    fake_unlock(fake);
}

/* ---- order ---- */

static void test_items_come_in_order_of_input(void **state)
{
    struct quern_client *client = open_default(*state);
    struct numbers numbers = numbers_of(5000);
    struct quern_map *map = map_of(client, options_of(QUERN_INPUT_ORDER), &numbers);
    for (uint64_t i = 0; i < 5000; i++) {
        assert_int_equal(item_take(map, &numbers), i);
    }
    assert_int_equal(next_of(map, WAIT_MS), QUERN_END);
    assert_int_equal(next_of(map, WAIT_MS), QUERN_END);
    quern_map_close(&map);
    assert_null(map);
    assert_int_equal(quern_client_close(&client, 0), QUERN_OK);
}

/* What finishes first waits for its turn in one order, and is given at once in the other. */
static void test_order_of_completion_only_on_request(void **state)
{
    struct fake *fake = *state;
    struct quern_client *client = open_default(fake);
    by_hand(fake, false);
    struct numbers ordered = numbers_of(2);
    struct numbers completed = numbers_of(2);
    struct quern_map *map = map_of(client, options_of(QUERN_INPUT_ORDER), &ordered);
    struct quern_map *other = map_of(client, options_of(QUERN_COMPLETION_ORDER), &completed);
    assert_int_equal(next_of(map, 0), QUERN_TIMEOUT);
    while (ordered.next < 2 || completed.next < 2) {
        assert_int_equal(next_of(map, 0), QUERN_TIMEOUT);
        assert_int_equal(next_of(other, 0), QUERN_TIMEOUT);
    }
    submits_await(fake, 4);
    fake_lock(fake);
    uint32_t late[2];
    unsigned count = 0;
    for (uint32_t sequence = 1; sequence <= 4; sequence++) { /* the second of each map */
        if (fake->tasks[sequence].args.p[1] == 1) {
            fake_complete(fake, sequence);
        } else {
            late[count++] = sequence;
        }
    }
    assert_int_equal(count, 2);
    fake_unlock(fake);
    assert_int_equal(item_take(other, &completed), 1);
    assert_int_equal(next_of(map, 0), QUERN_TIMEOUT);
    complete(fake, late[0]);
    complete(fake, late[1]);
    assert_int_equal(item_take(map, &ordered), 0);
    assert_int_equal(item_take(map, &ordered), 1);
    assert_int_equal(item_take(other, &completed), 0);
    assert_int_equal(next_of(map, WAIT_MS), QUERN_END);
    assert_int_equal(next_of(other, WAIT_MS), QUERN_END);
    quern_map_close(&map);
    quern_map_close(&other);
    assert_int_equal(quern_client_close(&client, 0), QUERN_OK);
}

/* ---- windows ---- */

/* Inputs are never read further ahead than the window. */
static void test_inputs_are_read_within_the_window(void **state)
{
    static const size_t windows[] = {1, 2, 7, 64, 1000};
    for (size_t i = 0; i < sizeof windows / sizeof windows[0]; i++) {
        struct quern_client *client = open_default(*state);
        struct numbers numbers = numbers_of(3000);
        struct quern_map_options options = options_of(i % 2 == 0 ? QUERN_INPUT_ORDER : QUERN_COMPLETION_ORDER);
        options.window_count = windows[i];
        struct quern_map *map = map_of(client, options, &numbers);
        assert_int_equal(numbers.next, 0);
        for (uint64_t n = 0; n < 3000; n++) {
            (void)item_take(map, &numbers);
        }
        assert_int_equal(next_of(map, WAIT_MS), QUERN_END);
        /* The test counts an item as given only after the call that gave it. */
        assert_true(numbers.ahead_max <= windows[i]);
        quern_map_close(&map);
        assert_int_equal(quern_client_close(&client, 0), QUERN_OK);
    }
}

/* Arguments of what is unfinished count, and so do results that were not given. */
static void test_the_window_bounds_bytes_too(void **state)
{
    struct fake *fake = *state;
    struct quern_client *client = open_default(fake);
    struct numbers numbers = numbers_of(100);
    struct quern_map_options options = options_of(QUERN_INPUT_ORDER);
    numbers.pad = 10000;
    options.window_bytes = 25000;
    struct quern_map *map = map_of(client, options, &numbers);
    for (uint64_t n = 0; n < 100; n++) {
        assert_int_equal(item_take(map, &numbers), n);
    }
    assert_int_equal(next_of(map, WAIT_MS), QUERN_END);
    assert_true(numbers.ahead_max >= 2 && numbers.ahead_max <= 3);
    quern_map_close(&map);
    assert_int_equal(quern_client_close(&client, 0), QUERN_OK);
}

/* One input beyond the window's bytes is taken when nothing else is there. */
static void test_an_input_larger_than_the_window_goes_alone(void **state)
{
    struct quern_client *client = open_default(*state);
    struct numbers numbers = numbers_of(5);
    struct quern_map_options options = options_of(QUERN_COMPLETION_ORDER);
    numbers.pad = 1000;
    options.window_bytes = 1;
    struct quern_map *map = map_of(client, options, &numbers);
    for (uint64_t n = 0; n < 5; n++) {
        assert_int_equal(item_take(map, &numbers), n);
    }
    assert_int_equal(next_of(map, WAIT_MS), QUERN_END);
    assert_int_equal(numbers.ahead_max, 1);
    quern_map_close(&map);
    assert_int_equal(quern_client_close(&client, 0), QUERN_OK);
}

/* A map goes on where more than the client's window of unanswered submits is wanted. */
static void test_a_window_beyond_that_of_the_client(void **state)
{
    struct fake *fake = *state;
    fake_lock(fake);
    fake->credit_count = 100;
    fake_unlock(fake);
    struct quern_client *client = open_default(fake);
    struct numbers numbers = numbers_of(60000);
    struct quern_map_options options = options_of(QUERN_INPUT_ORDER);
    options.window_count = 50000;
    struct quern_map *map = map_of(client, options, &numbers);
    for (uint64_t n = 0; n < 60000; n++) {
        assert_int_equal(item_take(map, &numbers), n);
    }
    assert_int_equal(next_of(map, WAIT_MS), QUERN_END);
    quern_map_close(&map);
    assert_int_equal(quern_client_close(&client, 0), QUERN_OK);
}

/* What is read is submitted in runs of this length, if that is asked for; and never beyond the window. */
static void test_a_chunk_is_as_long_as_asked_for(void **state)
{
    static const size_t chunks[] = {1, 3, 10000};
    for (size_t i = 0; i < sizeof chunks / sizeof chunks[0]; i++) {
        struct quern_client *client = open_default(*state);
        struct numbers numbers = numbers_of(1000);
        struct quern_map_options options = options_of(QUERN_INPUT_ORDER);
        options.chunk = chunks[i];
        options.window_count = 500;
        struct quern_map *map = map_of(client, options, &numbers);
        enum quern_err err = next_of(map, 0);
        assert_true(err == QUERN_TIMEOUT || err == QUERN_OK);
        assert_int_equal(numbers.next, chunks[i] < 500 ? chunks[i] : 500);
        quern_map_close(&map);
        assert_int_equal(quern_client_close(&client, 0), QUERN_OK);
    }
}

static void test_a_map_over_nothing_is_at_its_end(void **state)
{
    struct quern_client *client = open_default(*state);
    struct numbers numbers = numbers_of(0);
    struct quern_map *map = map_of(client, options_of(QUERN_INPUT_ORDER), &numbers);
    assert_int_equal(next_of(map, 0), QUERN_END);
    quern_map_close(&map);
    quern_map_close(&map);
    assert_int_equal(quern_client_close(&client, 0), QUERN_OK);
}

/* ---- options ---- */

static void test_bad_options_are_refused(void **state)
{
    struct quern_client *client = open_default(*state);
    struct numbers numbers = numbers_of(1);
    struct quern_map *map = NULL;
    struct quern_map_options good = options_of(QUERN_INPUT_ORDER);
    struct quern_map_options bad = good;
#define REFUSED(field, value, code)                                                                                    \
    bad = good;                                                                                                        \
    bad.field = value;                                                                                                 \
    assert_int_equal(quern_map_open(client, &bad, number, &numbers, &map), code)
    REFUSED(window_count, 0, QUERN_INVALID);
    REFUSED(window_count, 10000001, QUERN_INVALID);
    REFUSED(window_bytes, 0, QUERN_INVALID);
    REFUSED(chunk, 10001, QUERN_INVALID);
    REFUSED(order, (enum quern_order)2, QUERN_INVALID);
    REFUSED(call.function, NULL, QUERN_INVALID);
    REFUSED(call.function, "", QUERN_INVALID);
    REFUSED(call.priority, 1001, QUERN_INVALID);
    REFUSED(call.attempts, 0, QUERN_INVALID);
    REFUSED(call.size, 0, QUERN_INVALID);
    REFUSED(size, 0, QUERN_INVALID);
#undef REFUSED
    char name[FUNCTION_NAME_SIZE_MAX + 2];
    memset(name, 'f', sizeof name - 1);
    name[sizeof name - 1] = 0;
    bad = good;
    bad.call.function = name;
    assert_int_equal(quern_map_open(client, &bad, number, &numbers, &map), QUERN_TOO_BIG);
    assert_int_equal(quern_map_open(client, NULL, number, &numbers, &map), QUERN_INVALID);
    assert_int_equal(quern_map_open(client, &good, NULL, &numbers, &map), QUERN_INVALID);
    assert_int_equal(quern_map_open(NULL, &good, number, &numbers, &map), QUERN_INVALID);
    assert_null(map);
    assert_int_equal(numbers.next, 0);
    assert_int_equal(quern_client_close(&client, 0), QUERN_OK);
}

/* ---- inputs that end badly ---- */

static void test_an_error_of_the_inputs_comes_after_the_items_before_it(void **state)
{
    struct quern_client *client = open_default(*state);
    struct numbers numbers = numbers_of(10);
    numbers.end = QUERN_IO;
    struct quern_map *map = map_of(client, options_of(QUERN_INPUT_ORDER), &numbers);
    for (uint64_t n = 0; n < 10; n++) {
        assert_int_equal(item_take(map, &numbers), n);
    }
    assert_int_equal(next_of(map, WAIT_MS), QUERN_IO);
    assert_int_equal(next_of(map, WAIT_MS), QUERN_IO);
    quern_map_close(&map);
    assert_int_equal(quern_client_close(&client, 0), QUERN_OK);
}

static void test_an_input_that_is_no_array_ends_them(void **state)
{
    struct quern_client *client = open_default(*state);
    struct numbers numbers = numbers_of(10);
    numbers.nonsense = 4;
    struct quern_map *map = map_of(client, options_of(QUERN_INPUT_ORDER), &numbers);
    for (uint64_t n = 0; n < 4; n++) {
        assert_int_equal(item_take(map, &numbers), n);
    }
    assert_int_equal(next_of(map, WAIT_MS), QUERN_INVALID);
    assert_non_null(strstr(quern_last_error(), "array"));
    assert_int_equal(numbers.next, 5);
    quern_map_close(&map);
    assert_int_equal(quern_client_close(&client, 0), QUERN_OK);
}

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

/* ---- apart from the rest of the session ---- */

static void test_items_do_not_come_out_of_quern_next(void **state)
{
    struct quern_client *client = open_default(*state);
    struct numbers numbers = numbers_of(50);
    struct quern_map *map = map_of(client, options_of(QUERN_INPUT_ORDER), &numbers);
    assert_int_equal(item_take(map, &numbers), 0);
    submit_plain(client, 3);
    for (unsigned i = 0; i < 3; i++) {
        (void)take(client);
    }
    assert_int_equal(next_now(client), QUERN_END);
    for (uint64_t n = 1; n < 50; n++) {
        assert_int_equal(item_take(map, &numbers), n);
    }
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

/* ---- the descriptor ---- */

static bool is_readable(int fd, int timeout_ms)
{
    struct pollfd poller = {.fd = fd, .events = POLLIN};
    return poll(&poller, 1, timeout_ms) == 1;
}

static void test_the_descriptor_is_readable_while_next_would_not_block(void **state)
{
    struct fake *fake = *state;
    struct quern_client *client = open_default(fake);
    struct numbers numbers = numbers_of(3);
    by_hand(fake, false);
    struct quern_map *map = map_of(client, options_of(QUERN_INPUT_ORDER), &numbers);
    int fd = quern_map_fd(map);
    assert_true(fd >= 0);
    assert_int_equal(quern_map_fd(map), fd);
    while (is_readable(fd, 0)) { /* there are inputs to be read */
        assert_int_equal(next_of(map, 0), QUERN_TIMEOUT);
    }
    assert_int_equal(numbers.next, 3);
    submits_await(fake, 3);
    assert_false(is_readable(fd, 0));
    complete(fake, 1);
    assert_true(is_readable(fd, WAIT_MS));
    assert_int_equal(item_take(map, &numbers), 0);
    assert_false(is_readable(fd, 0));
    complete(fake, 2);
    complete(fake, 3);
    assert_true(is_readable(fd, WAIT_MS));
    assert_int_equal(item_take(map, &numbers), 1);
    assert_true(is_readable(fd, WAIT_MS));
    assert_int_equal(item_take(map, &numbers), 2);
    assert_true(is_readable(fd, WAIT_MS)); /* the end */
    assert_int_equal(next_of(map, 0), QUERN_END);
    quern_map_close(&map);
    assert_int_equal(quern_client_close(&client, 0), QUERN_OK);
}

/* ---- several threads ---- */

struct one_map {
    struct quern_client *client;
    enum quern_order order;
    bool is_right;
};

static void *map_in_a_thread(void *context)
{
    struct one_map *one = context;
    struct numbers numbers = numbers_of(20000);
    struct quern_map_options options = options_of(one->order);
    options.window_count = 700;
    struct quern_map *map = NULL;
    struct quern_map_item item;
    uint64_t sum = 0;
    enum quern_err err = quern_map_open(one->client, &options, number, &numbers, &map);
    while (err == QUERN_OK && (err = quern_map_next(map, WAIT_MS, &item)) == QUERN_OK) {
        sum += item.index;
        quern_outcome_release(&item.outcome);
    }
    quern_map_close(&map);
    one->is_right = err == QUERN_END && sum == 20000ull * 19999 / 2;
    return NULL;
}

/* Two maps and plain submits share a client; run it under ThreadSanitizer too. */
static void test_maps_of_two_threads_do_not_mix(void **state)
{
    struct quern_client *client = open_default(*state);
    struct one_map maps[2] = {{.client = client, .order = QUERN_INPUT_ORDER},
                              {.client = client, .order = QUERN_COMPLETION_ORDER}};
    pthread_t threads[2];
    for (int i = 0; i < 2; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, map_in_a_thread, &maps[i]), 0);
    }
    for (unsigned i = 0; i < 200; i++) {
        submit_plain(client, 10);
        for (unsigned k = 0; k < 10; k++) {
            (void)take(client);
        }
    }
    for (int i = 0; i < 2; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        assert_true(maps[i].is_right);
    }
    assert_int_equal(quern_client_close(&client, 0), QUERN_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_FAKE(test_items_come_in_order_of_input),
        WITH_FAKE(test_order_of_completion_only_on_request),
        WITH_FAKE(test_inputs_are_read_within_the_window),
        WITH_FAKE(test_the_window_bounds_bytes_too),
        WITH_FAKE(test_an_input_larger_than_the_window_goes_alone),
        WITH_FAKE(test_a_window_beyond_that_of_the_client),
        WITH_FAKE(test_a_chunk_is_as_long_as_asked_for),
        WITH_FAKE(test_a_map_over_nothing_is_at_its_end),
        WITH_FAKE(test_bad_options_are_refused),
        WITH_FAKE(test_an_error_of_the_inputs_comes_after_the_items_before_it),
        WITH_FAKE(test_an_input_that_is_no_array_ends_them),
        WITH_FAKE(test_one_bad_item_costs_one_item),
        WITH_FAKE(test_stopping_at_a_failure_in_order_of_input),
        WITH_FAKE(test_stopping_at_a_failure_cancels_the_rest_while_nobody_asks),
        WITH_FAKE(test_stopping_at_a_failure_in_order_of_completion),
        WITH_FAKE(test_a_refused_item_is_an_item),
        WITH_FAKE(test_items_that_are_submitted_again_keep_their_place),
        WITH_FAKE(test_a_lost_connection_costs_no_item),
        WITH_FAKE(test_a_timeout_says_how_far_it_is_and_ends_nothing),
        WITH_FAKE(test_the_time_of_the_whole_map),
        WITH_FAKE(test_items_do_not_come_out_of_quern_next),
        WITH_FAKE(test_closing_early_cancels_what_has_not_started),
        WITH_FAKE(test_what_still_comes_is_acknowledged_unseen),
        WITH_FAKE(test_a_cancel_not_heard_is_asked_again),
        WITH_FAKE(test_a_map_outlives_its_client),
        WITH_FAKE(test_taken_over_is_said),
        WITH_FAKE(test_a_child_of_fork_may_not_use_it),
        WITH_FAKE(test_the_descriptor_is_readable_while_next_would_not_block),
        WITH_FAKE(test_maps_of_two_threads_do_not_mix),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/*
 * Maps against a broker in one thread (fake_broker.h), over a real socket: the promises of quern/map.h, one by one. How
 * maps end, well or badly, is in test_client_map_ends.c.
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

/* Waits until so many outcomes have reached the client. */
static void ended_await(struct quern_client *client, uint64_t completion)
{
    bool is_so = false;
    while (!is_so) {
        pthread_mutex_lock(&client->lock);
        is_so = ranges_has(&client->ledger.completions.received, completion);
        pthread_mutex_unlock(&client->lock);
        sched_yield();
    }
}

/* Results that wait for their turn keep inputs from being read; there is room again when they are given. */
static void test_results_that_were_not_given_fill_the_window(void **state)
{
    struct fake *fake = *state;
    struct quern_client *client = open_default(fake);
    struct numbers numbers = numbers_of(10);
    struct quern_map_options options = options_of(QUERN_INPUT_ORDER);
    numbers.pad = 10000;
    options.window_bytes = 25000;
    by_hand(fake, false);
    struct quern_map *map = map_of(client, options, &numbers);
    while (numbers.next < 3) {
        assert_int_equal(next_of(map, 0), QUERN_TIMEOUT);
    }
    submits_await(fake, 3);
    complete(fake, 2);
    complete(fake, 3);
    ended_await(client, 2);
    for (int i = 0; i < 100; i++) {
        assert_int_equal(next_of(map, 0), QUERN_TIMEOUT);
    }
    assert_int_equal(numbers.next, 3);
    complete(fake, 1);
    for (uint64_t n = 0; n < 3; n++) {
        assert_int_equal(item_take(map, &numbers), n);
    }
    while (numbers.next < 6) {
        assert_int_equal(next_of(map, 0), QUERN_TIMEOUT);
    }
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

/* In both orders, with an item that fails: all that was read is given before the error. */
static void test_an_error_of_the_inputs_loses_no_item_in_either_order(void **state)
{
    struct fake *fake = *state;
    by_hand(fake, false);
    struct quern_client *client = open_default(fake);
    for (uint32_t order = QUERN_INPUT_ORDER; order <= QUERN_COMPLETION_ORDER; order++) {
        struct numbers numbers = numbers_of(10);
        numbers.end = QUERN_IO;
        struct quern_map *map = map_of(client, options_of((enum quern_order)order), &numbers);
        for (int i = 0; i < 20; i++) {
            assert_int_equal(next_of(map, 0), QUERN_TIMEOUT);
        }
        submits_await(fake, (order + 1) * 10);
        for (uint32_t n = 10; n >= 1; n--) { /* the last one first; the fourth fails */
            end_as(fake, order * 10 + n, n == 4 ? TASK_FAILED : TASK_DONE);
        }
        for (uint64_t n = 0; n < 10; n++) {
            struct quern_map_item item;
            assert_int_equal(quern_map_next(map, WAIT_MS, &item), QUERN_OK);
            assert_int_equal(item.index, order == QUERN_INPUT_ORDER ? n : 9 - n);
            assert_int_equal(item.outcome->state, item.index == 3 ? QUERN_STATE_FAILED : QUERN_STATE_DONE);
            quern_outcome_release(&item.outcome);
        }
        assert_int_equal(next_of(map, WAIT_MS), QUERN_IO);
        quern_map_close(&map);
    }
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

/* One input fills the window: nothing but the time makes it readable. */
static void test_the_descriptor_tells_of_the_end_of_the_maps_time(void **state)
{
    struct fake *fake = *state;
    struct quern_client *client = open_default(fake);
    struct numbers numbers = numbers_of(1);
    struct quern_map_options options = options_of(QUERN_INPUT_ORDER);
    options.window_count = 1;
    options.timeout_ms = 5;
    by_hand(fake, false);
    struct quern_map *map = map_of(client, options, &numbers);
    assert_int_equal(next_of(map, 0), QUERN_TIMEOUT);
    submits_await(fake, 1);
    assert_true(is_readable(quern_map_fd(map), WAIT_MS));
    assert_int_equal(next_of(map, QUERN_FOREVER), QUERN_TIMEOUT);
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

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        WITH_FAKE(test_items_come_in_order_of_input),
        WITH_FAKE(test_order_of_completion_only_on_request),
        WITH_FAKE(test_inputs_are_read_within_the_window),
        WITH_FAKE(test_the_window_bounds_bytes_too),
        WITH_FAKE(test_results_that_were_not_given_fill_the_window),
        WITH_FAKE(test_an_input_larger_than_the_window_goes_alone),
        WITH_FAKE(test_a_window_beyond_that_of_the_client),
        WITH_FAKE(test_a_chunk_is_as_long_as_asked_for),
        WITH_FAKE(test_a_map_over_nothing_is_at_its_end),
        WITH_FAKE(test_bad_options_are_refused),
        WITH_FAKE(test_an_error_of_the_inputs_comes_after_the_items_before_it),
        WITH_FAKE(test_an_error_of_the_inputs_loses_no_item_in_either_order),
        WITH_FAKE(test_an_input_that_is_no_array_ends_them),
        WITH_FAKE(test_items_do_not_come_out_of_quern_next),
        WITH_FAKE(test_the_descriptor_is_readable_while_next_would_not_block),
        WITH_FAKE(test_the_descriptor_tells_of_the_end_of_the_maps_time),
        WITH_FAKE(test_maps_of_two_threads_do_not_mix),
    };
    if (argc > 1) {
        cmocka_set_test_filter(argv[1]);
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}

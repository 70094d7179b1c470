/*
 * Groups, maps and questions of one client in many threads at once, against a broker in one thread (fake_broker.h).
 * Moments that two threads may meet in: test_client_races.c.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdatomic.h>

#include "client/inside.h"
#include "client_calls.h"
#include "map_numbers.h"

#define GROUP_THREADS 4u
#define MAP_THREADS 3u
#define EACH 400u
#define WITHIN 20u /* groups within, of each thread; a task in each of them */

struct crowd {
    struct quern_client *client;
    struct quern_group *group;
    atomic_uint wrong;
    atomic_uint next_map;
    bool is_over; /* under the lock below */
    pthread_mutex_t lock;
};

static void count_wrong(struct crowd *crowd, bool is_right)
{
    atomic_fetch_add(&crowd->wrong, !is_right);
}

/* Into the group of all, and into groups within that it makes and leaves by itself. */
static void *submit_into_the_group(void *context)
{
    struct crowd *crowd = context;
    struct quern_call call = call_of("\x91\x07");
    for (unsigned i = 0; i < EACH; i++) {
        count_wrong(crowd, quern_group_submit(crowd->group, &call, NULL) == QUERN_OK);
        if (i % (EACH / WITHIN) == 0) {
            struct quern_group *within = NULL;
            count_wrong(crowd, quern_group_open(crowd->client, crowd->group, 0, &within) == QUERN_OK);
            count_wrong(crowd, quern_group_submit(within, &call, NULL) == QUERN_OK);
            count_wrong(crowd, quern_group_close(&within, NULL) == QUERN_OK);
        }
    }
    return NULL;
}

static void *map_numbers(void *context)
{
    struct crowd *crowd = context;
    bool is_input_order = atomic_fetch_add(&crowd->next_map, 1) % 2 == 0;
    struct numbers numbers = numbers_of(EACH * 10);
    struct quern_map_options options = options_of(is_input_order ? QUERN_INPUT_ORDER : QUERN_COMPLETION_ORDER);
    struct quern_map_item item;
    struct quern_map *map = NULL;
    uint64_t sum = 0;
    uint64_t count = 0;
    options.window_count = 50;
    count_wrong(crowd, quern_map_open(crowd->client, &options, number, &numbers, &map) == QUERN_OK);
    while (quern_map_next(map, WAIT_MS, &item) == QUERN_OK) {
        count_wrong(crowd, !is_input_order || item.index == count);
        sum += item.index;
        count++;
        quern_outcome_release(&item.outcome);
    }
    quern_map_close(&map);
    count_wrong(crowd, count == EACH * 10 && sum == count * (count - 1) / 2);
    return NULL;
}

/* Waits for the group again and again while it grows; it is waited for by two. */
static void *wait_for_the_group(void *context)
{
    struct crowd *crowd = context;
    for (bool is_over = false; !is_over;) {
        enum quern_err err = quern_group_wait(crowd->group, 1);
        count_wrong(crowd, err == QUERN_OK || err == QUERN_TIMEOUT);
        pthread_mutex_lock(&crowd->lock);
        is_over = crowd->is_over;
        pthread_mutex_unlock(&crowd->lock);
    }
    return NULL;
}

static void test_many_threads_submit_into_one_group_and_wait_for_it_while_others_map(void **state)
{
    struct fake *fake = *state;
    struct crowd crowd = {.client = open_default(fake), .lock = PTHREAD_MUTEX_INITIALIZER};
    pthread_t threads[GROUP_THREADS + MAP_THREADS];
    pthread_t waiters[2];
    assert_int_equal(quern_group_open(crowd.client, NULL, 0, &crowd.group), QUERN_OK);
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(pthread_create(&waiters[i], NULL, wait_for_the_group, &crowd), 0);
    }
    for (unsigned i = 0; i < GROUP_THREADS + MAP_THREADS; i++) {
        assert_int_equal(
            pthread_create(&threads[i], NULL, i < GROUP_THREADS ? submit_into_the_group : map_numbers, &crowd), 0);
    }
    for (unsigned i = 0; i < GROUP_THREADS + MAP_THREADS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    }
    pthread_mutex_lock(&crowd.lock);
    crowd.is_over = true;
    pthread_mutex_unlock(&crowd.lock);
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(pthread_join(waiters[i], NULL), 0);
    }
    assert_int_equal(quern_group_close(&crowd.group, NULL), QUERN_OK);
    assert_int_equal(atomic_load(&crowd.wrong), 0);
    assert_int_equal(next_now(crowd.client), QUERN_END); /* nothing of it came elsewhere */
    assert_int_equal(quern_client_close(&crowd.client, 0), QUERN_OK);
    fake_stop(fake);
    assert_int_equal(fake->submit_count, GROUP_THREADS * (EACH + WITHIN) + MAP_THREADS * EACH * 10);
    assert_int_equal(fake->acked_count, fake->submit_count);
}

/* Asks and waits for ever; a question of the test's own may be in its way at first. */
static void *ask_for_ever(void *context)
{
    struct crowd *crowd = context;
    enum quern_err err = QUERN_FULL;
    while (err == QUERN_FULL) {
        void *answer = NULL;
        size_t size = 0;
        err = quern_query(crowd->client, "status", NULL, 0, QUERN_FOREVER, &answer, &size);
    }
    count_wrong(crowd, err == QUERN_CLOSED);
    return NULL;
}

/* As many as may be under way: every call that asks the broker says so at once. */
static void test_one_request_too_many_is_full_whichever_call_asks(void **state)
{
    static pthread_t threads[REQUEST_COUNT_MAX];
    struct fake *fake = *state;
    struct quern_task_info info = QUERN_TASK_INFO_INIT;
    struct quern_future *future = NULL;
    struct quern_future *second = NULL;
    struct quern_future **left = NULL;
    struct crowd crowd = {.client = open_by_hand(fake, &future, 1)};
    uint64_t id = id_make(FAKE_SERIES - 1, 1);
    enum quern_err err = QUERN_TIMEOUT;
    void *answer = NULL;
    size_t size = 0;
    fake_stop(fake); /* nothing is answered any more */
    for (unsigned i = 0; i < REQUEST_COUNT_MAX; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, ask_for_ever, &crowd), 0);
    }
    while (err == QUERN_TIMEOUT) {
        err = quern_query(crowd.client, "status", NULL, 0, 1, &answer, &size);
    }
    assert_int_equal(err, QUERN_FULL);
    assert_non_null(strstr(quern_last_error(), "1024 requests are under way"));
    assert_int_equal(quern_query(crowd.client, "status", NULL, 0, WAIT_MS, &answer, &size), QUERN_FULL);
    assert_int_equal(quern_cancel(crowd.client, id, false, WAIT_MS), QUERN_FULL);
    assert_int_equal(quern_retry(crowd.client, id, NULL, NULL, WAIT_MS), QUERN_FULL);
    assert_int_equal(quern_session_close(crowd.client, "nightly", 0, WAIT_MS), QUERN_FULL);
    assert_int_equal(quern_future_open(crowd.client, id, WAIT_MS, &second), QUERN_FULL);
    assert_int_equal(quern_session_futures(crowd.client, WAIT_MS, &left, &size), QUERN_FULL);
    assert_int_equal(quern_future_cancel(future, false, WAIT_MS), QUERN_FULL);
    assert_int_equal(quern_future_info(future, WAIT_MS, &info), QUERN_FULL);
    quern_future_release(&future);
    (void)quern_client_close(&crowd.client, 0);
    for (unsigned i = 0; i < REQUEST_COUNT_MAX; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    }
    assert_int_equal(atomic_load(&crowd.wrong), 0);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        WITH_FAKE(test_many_threads_submit_into_one_group_and_wait_for_it_while_others_map),
        WITH_FAKE(test_one_request_too_many_is_full_whichever_call_asks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/*
 * How many inputs of a map are read before they are submitted, by a clock that the test moves, against a broker in one
 * thread (fake_broker.h). What is given, and what bounds it: test_client_map.c.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "client/inside.h"
#include "client_calls.h"
#include "quern/value.h"

#define RUN_MAX 64u
#define SLOW_US 1000 /* more than is waited for before what was read is submitted */

/* ---- the clock of the thread that reads; 0: the real one ---- */

int64_t __real_clock_mono_us(void);
int64_t __wrap_clock_mono_us(void);

static _Thread_local int64_t played_us;

int64_t __wrap_clock_mono_us(void)
{
    return played_us != 0 ? played_us : __real_clock_mono_us();
}

int64_t __real_clock_tick_us(void);
int64_t __wrap_clock_tick_us(void);

static _Thread_local int64_t tick_us = 1000; /* from one tick of the kernel's clock to the next */

int64_t __wrap_clock_tick_us(void)
{
    return played_us != 0 ? played_us / tick_us * tick_us : __real_clock_tick_us();
}

/* ---- inputs 0, 1, 2 ... that take no time, or some of them SLOW_US ---- */

struct paced {
    struct quern_client *client;
    uint64_t count;
    uint64_t slow_first;
    uint64_t slow_end;
    uint64_t next;
    uint64_t queued;
    uint64_t runs[RUN_MAX]; /* how many were asked for between one queueing and the next */
    size_t run_count;
};

static enum quern_err paced_number(void *context, struct quern_writer *args)
{
    struct paced *paced = context;
    if (paced->next == paced->count) {
        return QUERN_END;
    }
    pthread_mutex_lock(&paced->client->lock);
    uint64_t queued = paced->client->pending_count;
    pthread_mutex_unlock(&paced->client->lock);
    if (paced->run_count == 0 || queued != paced->queued) {
        assert_true(paced->run_count < RUN_MAX);
        paced->run_count++;
        paced->queued = queued;
    }
    paced->runs[paced->run_count - 1]++;
    played_us += paced->next >= paced->slow_first && paced->next < paced->slow_end ? SLOW_US : 0;
    quern_write_array(args, 1);
    quern_write_u64(args, paced->next++);
    return QUERN_OK;
}

static void paced_read(struct fake *fake, size_t chunk, struct paced *paced)
{
    struct quern_map_options options = QUERN_MAP_OPTIONS_INIT;
    struct quern_map_item item;
    struct quern_map *map = NULL;
    options.call.function = "square";
    options.window_count = 10000;
    options.chunk = chunk;
    fake_lock(fake);
    fake->is_by_hand = true; /* so that what is pending is what was queued */
    fake_unlock(fake);
    paced->client = open_default(fake);
    assert_int_equal(quern_map_open(paced->client, &options, paced_number, paced, &map), QUERN_OK);
    played_us = clock_mono_us();
    while (paced->next < paced->count) {
        assert_int_equal(quern_map_next(map, 0, &item), QUERN_TIMEOUT);
    }
    assert_int_equal(quern_map_next(map, 0, &item), QUERN_TIMEOUT);
    played_us = 0;
    quern_map_close(&map);
    assert_int_equal(quern_client_close(&paced->client, 0), QUERN_OK);
}

/* Twice as many each time while they come fast; half as many each time that they were slow; and however long the runs
 * had become, a slow one is queued before the next one is asked for. */
static void test_runs_grow_with_fast_inputs_and_behind_slow_ones_nothing_waits(void **state)
{
    struct paced paced = {.count = 2060, .slow_first = 2047, .slow_end = 2057};
    paced_read(*state, 0, &paced);
    for (size_t i = 0; i < 11; i++) {
        assert_int_equal(paced.runs[i], 1u << i);
    }
    for (size_t i = 11; i < 21; i++) {
        assert_int_equal(paced.runs[i], 1);
    }
    assert_int_equal(paced.runs[21], 1);
    assert_int_equal(paced.runs[22], 2);
    assert_int_equal(paced.run_count, 23);
}

/* What was read in front of a slow one goes with it, not with what comes behind it. */
static void test_a_slow_input_ends_its_run(void **state)
{
    struct paced paced = {.count = 140, .slow_first = 100, .slow_end = 101};
    paced_read(*state, 0, &paced);
    assert_int_equal(paced.runs[5], 32); /* 31 to 62 */
    assert_int_equal(paced.runs[6], 38); /* 63 to 100, of 64 */
    assert_int_equal(paced.runs[7], 32);
    assert_int_equal(paced.runs[8], 7);
    assert_int_equal(paced.run_count, 9);
}

/* Far into a run the time is looked at with the kernel's ticks: three slow ones may come in between, and then no more.
 */
static void test_a_run_of_slow_inputs_ends_with_the_tick(void **state)
{
    struct paced paced = {.count = 140, .slow_first = 100, .slow_end = 140};
    tick_us = 4 * SLOW_US;
    paced_read(*state, 0, &paced);
    tick_us = SLOW_US;
    assert_in_range(paced.runs[6], 38, 38 + 3); /* 63 to 100, of 64 */
    for (size_t i = 7; i < paced.run_count; i++) {
        assert_int_equal(paced.runs[i], 1);
    }
}

/* Who fixes the length has it, with slow inputs and with fast ones; with 1 each input is queued before the next one is
 * asked for. */
static void test_a_fixed_run_is_as_long_whatever_the_inputs_take(void **state)
{
    static const size_t chunks[] = {1, 10};
    for (size_t c = 0; c < 2; c++) {
        struct paced paced = {.count = 60, .slow_first = 0, .slow_end = 30};
        paced_read(*state, chunks[c], &paced);
        assert_int_equal(paced.run_count, 60 / chunks[c]);
        for (size_t i = 0; i < paced.run_count; i++) {
            assert_int_equal(paced.runs[i], chunks[c]);
        }
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        WITH_FAKE(test_runs_grow_with_fast_inputs_and_behind_slow_ones_nothing_waits),
        WITH_FAKE(test_a_slow_input_ends_its_run),
        WITH_FAKE(test_a_run_of_slow_inputs_ends_with_the_tick),
        WITH_FAKE(test_a_fixed_run_is_as_long_whatever_the_inputs_take),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

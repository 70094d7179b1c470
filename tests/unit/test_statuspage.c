/*
 * test_statuspage: the memory that supervisor and slot share (worker/statuspage.c), with a thread in the slot's place.
 * Run under ThreadSanitizer it also shows that the orderings are enough.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/random.h"
#include "worker/statuspage.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct statuspage *page_open(void)
{
    int fd = statuspage_create();
    assert_true(fd >= 0);
    struct statuspage *page = statuspage_map(fd);
    assert_non_null(page);
    close(fd);
    return page;
}

/* ---- claims ---- */

static void test_claim_is_won_by_one_side(void **state)
{
    (void)state;
    struct statuspage *page = page_open();
    claim_hand(page, 1);
    assert_int_equal(claim_read(page, 1), CLAIM_HANDED);
    assert_true(claim_start(page, 1));
    assert_false(claim_revoke(page, 1));
    assert_int_equal(claim_read(page, 1), CLAIM_STARTED);
    claim_hand(page, 2);
    assert_true(claim_revoke(page, 2));
    assert_false(claim_start(page, 2));
    assert_false(claim_start(page, 3)); /* never handed */
    statuspage_unmap(&page);
}

/* A handler learns that its own attempt is to end, and the next one does not inherit it. */
static void test_what_is_stopped_is_one_number(void **state)
{
    (void)state;
    struct statuspage *page = page_open();
    assert_false(statuspage_is_stopping(page, 1));
    statuspage_stop(page, 1);
    assert_true(statuspage_is_stopping(page, 1));
    assert_false(statuspage_is_stopping(page, 2));
    statuspage_unmap(&page);
}

/* A slot that comes late to a number whose word was given to a newer one must not start the old. */
static void test_reused_word_does_not_start_the_old_number(void **state)
{
    (void)state;
    struct statuspage *page = page_open();
    claim_hand(page, 5);
    assert_true(claim_revoke(page, 5));
    claim_hand(page, 5 + SLOT_QUEUE_COUNT_MAX);
    assert_false(claim_start(page, 5));
    assert_true(claim_start(page, 5 + SLOT_QUEUE_COUNT_MAX));
    statuspage_unmap(&page);
}

#define RACE_COUNT 200000u

struct race {
    struct statuspage *page;
    _Atomic uint64_t handed;
    uint8_t started[RACE_COUNT + 1];
};

static void *race_slot(void *arg)
{
    struct race *race = arg;
    for (uint64_t number = 1; number <= RACE_COUNT; number++) {
        while (atomic_load(&race->handed) < number) {
        }
        race->started[number] = claim_start(race->page, number);
    }
    return NULL;
}

/* Start and revoke of the same number, at the same time, 200,000 times: exactly one wins. */
static void test_start_and_revoke_never_both_win(void **state)
{
    (void)state;
    struct race *race = calloc(1, sizeof(*race));
    static uint8_t revoked[RACE_COUNT + 1];
    pthread_t thread;
    assert_non_null(race);
    race->page = page_open();
    assert_int_equal(pthread_create(&thread, NULL, race_slot, race), 0);
    for (uint64_t number = 1; number <= RACE_COUNT; number++) {
        claim_hand(race->page, number);
        atomic_store(&race->handed, number);
        revoked[number] = claim_revoke(race->page, number);
    }
    pthread_join(thread, NULL);
    for (uint64_t number = 1; number <= RACE_COUNT; number++) {
        assert_int_equal(race->started[number] + revoked[number], 1);
    }
    statuspage_unmap(&race->page);
    free(race);
}

/* ---- the ring ---- */

#define STREAM_SIZE (8u * 1024u * 1024u)

static uint8_t byte_at(uint64_t at)
{
    return (uint8_t)(at * 2654435761u >> 13);
}

static void *ring_writer(void *arg)
{
    struct statuspage *page = arg;
    static uint8_t piece[3 * SLOT_RING_SIZE];
    uint64_t at = 0;
    while (at < STREAM_SIZE) {
        size_t size = (size_t)(random_u64() % (at % 7 == 0 ? sizeof(piece) : 500)) + 1;
        size = size < STREAM_SIZE - at ? size : (size_t)(STREAM_SIZE - at);
        for (size_t i = 0; i < size; i++) {
            piece[i] = byte_at(at + i);
        }
        struct bytes left = {piece, size};
        uint8_t *room = at % 2 == 0 ? ring_room(page, size) : NULL;
        if (room != NULL) {
            memcpy(room, piece, size);
            ring_publish(page, size);
            left.n = 0;
        }
        while (left.n > 0) {
            size_t put = ring_put(page, left);
            left.p += put;
            left.n -= put;
            if (left.n > 0) {
                ring_wait(page);
            }
        }
        at += size;
    }
    return NULL;
}

/* Pieces smaller and larger than the ring arrive whole and in order, also those that are written where they are
 * published, and a full ring wakes up its writer. */
static void test_ring_keeps_every_byte(void **state)
{
    (void)state;
    struct statuspage *page = page_open();
    struct buf out = {0};
    uint64_t read = 0;
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, ring_writer, page), 0);
    while (out.n < STREAM_SIZE) {
        assert_true(ring_take(page, &read, &out));
    }
    pthread_join(thread, NULL);
    assert_int_equal(out.n, STREAM_SIZE);
    for (uint64_t at = 0; at < STREAM_SIZE; at++) {
        if (out.p[at] != byte_at(at)) {
            fail_msg("byte %llu", (unsigned long long)at);
        }
    }
    buf_fini(&out);
    statuspage_unmap(&page);
}

/* What is written in place stands in one piece, and never over what was not read. */
static void test_room_in_place_is_in_one_piece_and_free(void **state)
{
    (void)state;
    static const uint8_t piece[SLOT_RING_SIZE];
    struct statuspage *page = page_open();
    struct buf out = {0};
    uint64_t read = 0;
    assert_int_equal(ring_put(page, bytes_of(piece, SLOT_RING_SIZE - 8)), SLOT_RING_SIZE - 8);
    assert_true(ring_take(page, &read, &out));
    assert_null(ring_room(page, 9)); /* it would go on at the front */
    assert_ptr_equal(ring_room(page, 8), page->ring + SLOT_RING_SIZE - 8);
    ring_publish(page, 8);
    assert_ptr_equal(ring_room(page, SLOT_RING_SIZE - 8), page->ring);
    assert_null(ring_room(page, SLOT_RING_SIZE - 7)); /* the last were not read */
    buf_fini(&out);
    statuspage_unmap(&page);
}

/* A handler may write anything anywhere: positions that make no sense are refused, not followed. */
static void test_ring_with_wild_positions_is_refused(void **state)
{
    (void)state;
    struct statuspage *page = page_open();
    struct buf out = {0};
    uint64_t read = 0;
    atomic_store(&page->written, SLOT_RING_SIZE + 1);
    assert_false(ring_take(page, &read, &out));
    atomic_store(&page->written, UINT64_MAX);
    assert_false(ring_take(page, &read, &out));
    assert_int_equal(out.n, 0);
    statuspage_unmap(&page);
}

/* ---- progress ---- */

static void *progress_writer(void *arg)
{
    struct statuspage *page = arg;
    for (unsigned i = 0; i < 50000; i++) {
        char text[64];
        memset(text, 'a' + (int)(i % 26), sizeof(text));
        text[i % 60 + 1] = '\0';
        progress_write(page, 1, (double)(i % 26), text);
    }
    progress_write(page, 2, 1, "end");
    return NULL;
}

/* What is read is what was written at one moment: fraction and text belong together. */
static void test_progress_is_never_torn(void **state)
{
    (void)state;
    struct statuspage *page = page_open();
    uint32_t version = 0;
    struct progress progress;
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, progress_writer, page), 0);
    while (!progress_read(page, 2, &version, &progress)) {
        if (progress_read(page, 1, &version, &progress)) {
            assert_true(progress.text_size > 0);
            for (size_t i = 0; i < progress.text_size; i++) {
                assert_int_equal(progress.text[i], 'a' + (int)progress.fraction);
            }
        }
    }
    pthread_join(thread, NULL);
    assert_memory_equal(progress.text, "end", 3);
    assert_false(progress_read(page, 2, &version, &progress)); /* no news */
    statuspage_unmap(&page);
}

/* ---- place ---- */

#define WAIT_COUNT 20000u
#define FAR_MS INT64_MAX

struct waiter {
    struct statuspage *page;
    unsigned given;
};

static void *waiter_run(void *arg)
{
    struct waiter *waiter = arg;
    for (unsigned i = 0; i < WAIT_COUNT; i++) {
        wait_begin(waiter->page, 0);
        waiter->given += wait_is_given(waiter->page, FAR_MS);
        wait_end(waiter->page, 0);
    }
    return NULL;
}

/* Every wait gets its answer, each its own, and the slot sleeps until then. */
static void test_each_wait_is_answered_once(void **state)
{
    (void)state;
    struct waiter waiter = {.page = page_open()};
    pthread_t thread;
    unsigned given = 0;
    assert_int_equal(pthread_create(&thread, NULL, waiter_run, &waiter), 0);
    for (unsigned i = 0; i < WAIT_COUNT; i++) {
        while (place_read(waiter.page) != PLACE_ASKED) {
        }
        wait_answer(waiter.page, i % 3 != 0);
        given += i % 3 != 0;
    }
    pthread_join(thread, NULL);
    assert_int_equal(waiter.given, given);
    assert_int_equal(place_read(waiter.page), PLACE_HELD);
    statuspage_unmap(&waiter.page);
}

static void test_a_wait_without_an_answer_ends_at_its_deadline(void **state)
{
    (void)state;
    struct statuspage *page = page_open();
    wait_begin(page, 0);
    assert_true(wait_is_given(page, 0));
    assert_int_equal(place_read(page), PLACE_ASKED); /* it may still come */
    wait_end(page, 0);
    wait_answer(page, true); /* too late: the place is held */
    assert_int_equal(place_read(page), PLACE_HELD);
    atomic_store(&page->place, 77); /* a handler may write anything */
    assert_int_equal(place_read(page), PLACE_HELD);
    statuspage_unmap(&page);
}

static void test_waited_time_is_that_of_the_task_that_runs(void **state)
{
    (void)state;
    struct statuspage *page = page_open();
    statuspage_run(page, 1, 1000, 0);
    assert_int_equal(statuspage_waited_us(page, 5000), 0);
    wait_begin(page, 1500);
    wait_answer(page, true);
    assert_int_equal(statuspage_waited_us(page, 1700), 200);
    wait_end(page, 2000);
    assert_int_equal(statuspage_waited_us(page, 5000), 500);
    wait_begin(page, 3000);
    wait_end(page, 3001);
    assert_int_equal(statuspage_waited_us(page, 5000), 501);
    statuspage_run(page, 2, 6000, 0);
    assert_int_equal(statuspage_waited_us(page, 7000), 0);
    statuspage_unmap(&page);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_claim_is_won_by_one_side),
        cmocka_unit_test(test_what_is_stopped_is_one_number),
        cmocka_unit_test(test_reused_word_does_not_start_the_old_number),
        cmocka_unit_test(test_start_and_revoke_never_both_win),
        cmocka_unit_test(test_ring_keeps_every_byte),
        cmocka_unit_test(test_room_in_place_is_in_one_piece_and_free),
        cmocka_unit_test(test_ring_with_wild_positions_is_refused),
        cmocka_unit_test(test_progress_is_never_torn),
        cmocka_unit_test(test_each_wait_is_answered_once),
        cmocka_unit_test(test_a_wait_without_an_answer_ends_at_its_deadline),
        cmocka_unit_test(test_waited_time_is_that_of_the_task_that_runs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

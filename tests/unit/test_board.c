/*
 * test_board: what a command has written, on the status page (worker/board.c): read while it is written, and when the
 * slot has scribbled over it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/random.h"
#include "worker/board.h"

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

static char byte_at(uint64_t i)
{
    return (char)('a' + i % 23);
}

static void put_flood(struct statuspage *page, enum output_stream stream, uint64_t *at, size_t size)
{
    char *text = malloc(size);
    assert_non_null(text);
    for (size_t i = 0; i < size; i++) {
        text[i] = byte_at(*at + i);
    }
    board_put(page, stream, bytes_of(text, size));
    *at += size;
    free(text);
}

/* Every byte is where it belongs; answers how many there are with those left out. */
static uint64_t check(struct statuspage *page, const uint64_t *known, uint64_t *left_out_out)
{
    struct buf output = {0};
    struct output_reader reader;
    struct output_piece piece;
    uint64_t at = known != NULL ? known[0] : 0;
    *left_out_out = 0;
    board_output(page, known, &output);
    assert_true(output_open(&reader, buf_bytes(&output)));
    while (output_next(&reader, &piece)) {
        assert_int_equal(piece.stream, OUTPUT_STDOUT);
        for (size_t i = 0; i < piece.bytes.n; i++) {
            assert_int_equal(piece.bytes.p[i], byte_at(at + i));
        }
        at += piece.bytes.n + piece.left_out;
        *left_out_out += piece.left_out;
    }
    buf_fini(&output);
    return at;
}

static void test_the_beginning_and_the_end_are_kept(void **state)
{
    (void)state;
    static const size_t sizes[] = {1, 100, OUTPUT_HEAD_SIZE, OUTPUT_TAIL_SIZE, OUTPUT_TAIL_SIZE + 1, 200000};
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        struct statuspage *page = page_open();
        uint64_t at = 0;
        uint64_t left_out;
        board_begin(page, 1);
        for (unsigned round = 0; round < 7; round++) {
            put_flood(page, OUTPUT_STDOUT, &at, sizes[i]);
            assert_int_equal(check(page, NULL, &left_out), at);
            uint64_t kept = OUTPUT_HEAD_SIZE + OUTPUT_TAIL_SIZE;
            assert_int_equal(left_out, at > kept ? at - kept : 0);
            const uint64_t known[] = {at / 2, 0};
            assert_int_equal(check(page, known, &left_out), at);
        }
        statuspage_unmap(&page);
    }
}

static void test_it_is_of_one_number(void **state)
{
    (void)state;
    struct statuspage *page = page_open();
    struct buf output = {0};
    assert_false(board_is_of(page, 0));
    assert_false(board_is_of(page, 1));
    board_begin(page, 1);
    board_put(page, OUTPUT_STDERR, bytes_text("of the first"));
    assert_true(board_is_of(page, 1));
    board_begin(page, 2);
    assert_false(board_is_of(page, 1));
    board_output(page, NULL, &output);
    assert_int_equal(output.n, 0); /* nothing of the first is left */
    statuspage_unmap(&page);
    buf_fini(&output);
}

/* The supervisor believes nothing: whatever stands there, it reads within bounds. */
static void test_scribbles_are_harmless(void **state)
{
    (void)state;
    struct statuspage *page = page_open();
    static const uint64_t numbers[] = {0, 1, OUTPUT_TAIL_SIZE + 5, INT64_MAX, (uint64_t)INT64_MAX + 1, UINT64_MAX};
    const size_t count = sizeof(numbers) / sizeof(numbers[0]);
    board_begin(page, 1);
    for (size_t i = 0; i < count * count * count; i++) {
        struct buf output = {0};
        struct output_reader reader;
        const uint64_t known[] = {numbers[i % count] & INT64_MAX, numbers[i / count % count] & INT64_MAX};
        for (unsigned s = 0; s < 2; s++) {
            atomic_store(&page->board.streams[s].size, numbers[i / count % count]);
            atomic_store(&page->board.streams[s].end, numbers[i / count / count]);
        }
        board_output(page, known, &output);
        assert_true(output.n <= OUTPUT_SIZE_MAX);
        assert_true(output_open(&reader, buf_bytes(&output)));
        buf_fini(&output);
    }
    statuspage_unmap(&page);
}

static void *write_on(void *context)
{
    struct statuspage *page = context;
    uint64_t at = 0;
    for (unsigned i = 0; i < 3000; i++) {
        put_flood(page, OUTPUT_STDOUT, &at, 1 + (i * 7919) % 5000);
    }
    return NULL;
}

/* What is read while it is written is right, or left out. */
static void test_what_is_read_meanwhile_is_right(void **state)
{
    (void)state;
    struct statuspage *page = page_open();
    pthread_t thread;
    uint64_t left_out;
    board_begin(page, 1);
    assert_int_equal(pthread_create(&thread, NULL, write_on, page), 0);
    for (unsigned i = 0; i < 300; i++) {
        (void)check(page, NULL, &left_out);
    }
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_true(check(page, NULL, &left_out) > 1000000);
    statuspage_unmap(&page);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_beginning_and_the_end_are_kept),
        cmocka_unit_test(test_it_is_of_one_number),
        cmocka_unit_test(test_scribbles_are_harmless),
        cmocka_unit_test(test_what_is_read_meanwhile_is_right),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

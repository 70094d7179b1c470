/*
 * What an attempt wrote, as bytes: what goes in comes out, in order, bounded; and what comes from outside cannot hurt.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/limits.h"
#include "common/output.h"

#include <stdlib.h>
#include <string.h>

static void expect_piece(struct output_reader *reader, enum output_stream stream, const char *text, uint64_t left_out)
{
    struct output_piece piece;
    assert_true(output_next(reader, &piece));
    assert_int_equal(piece.stream, stream);
    assert_int_equal(piece.left_out, left_out);
    assert_true(bytes_is(piece.bytes, text));
}

static void expect_end(struct output_reader *reader)
{
    struct output_piece piece;
    assert_false(output_next(reader, &piece));
}

static void test_pieces_keep_their_order(void **state)
{
    (void)state;
    struct buf buf = {0};
    struct output_writer writer;
    struct output_reader reader;
    output_begin(&writer, &buf);
    output_put(&writer, OUTPUT_STDOUT, bytes_text("step 1\n"));
    output_put(&writer, OUTPUT_STDERR, bytes_text("\xff\x1b["));
    output_leave_out(&writer, OUTPUT_STDOUT, 7);
    output_leave_out(&writer, OUTPUT_STDOUT, 3);
    output_put(&writer, OUTPUT_STDOUT, bytes_text("step 9\n"));
    output_leave_out(&writer, OUTPUT_STDERR, 5);
    output_end(&writer);
    assert_true(output_open(&reader, buf_bytes(&buf)));
    expect_piece(&reader, OUTPUT_STDOUT, "step 1\n", 0);
    expect_piece(&reader, OUTPUT_STDERR, "\xff\x1b[", 0);
    expect_piece(&reader, OUTPUT_STDOUT, "", 10);
    expect_piece(&reader, OUTPUT_STDOUT, "step 9\n", 0);
    expect_piece(&reader, OUTPUT_STDERR, "", 5);
    expect_end(&reader);
    buf_fini(&buf);
}

/* A task that prints nothing pays nothing. */
static void test_nothing_is_no_bytes(void **state)
{
    (void)state;
    struct buf buf = {0};
    struct output_writer writer;
    struct output_reader reader;
    buf_put(&buf, "x", 1);
    output_begin(&writer, &buf);
    output_put(&writer, OUTPUT_STDOUT, bytes_text(""));
    output_end(&writer);
    assert_int_equal(buf.n, 1);
    assert_true(output_open(&reader, bytes_of(NULL, 0)));
    expect_end(&reader);
    buf_fini(&buf);
}

/* However often the streams take turns: it is bounded, and says how much is missing. */
static void test_too_many_pieces_end_in_a_count(void **state)
{
    (void)state;
    struct buf buf = {0};
    struct output_writer writer;
    struct output_reader reader;
    struct output_piece piece;
    uint64_t bytes = 0;
    uint64_t left_out = 0;
    output_begin(&writer, &buf);
    for (unsigned i = 0; i < 5000; i++) {
        output_put(&writer, i % 2 == 0 ? OUTPUT_STDOUT : OUTPUT_STDERR, bytes_text("ab"));
    }
    output_end(&writer);
    assert_true(output_open(&reader, buf_bytes(&buf)));
    assert_true(reader.left <= OUTPUT_CHUNK_COUNT_MAX);
    while (output_next(&reader, &piece)) {
        bytes += piece.bytes.n;
        left_out += piece.left_out;
    }
    assert_true(bytes > 1000);
    assert_true(left_out > 0);
    assert_int_equal(bytes + left_out, 10000);
    buf_fini(&buf);
}

/* The most that a worker keeps fits on the wire. */
static void test_all_that_is_kept_fits(void **state)
{
    (void)state;
    size_t size = OUTPUT_HEAD_SIZE + OUTPUT_TAIL_SIZE;
    struct buf buf = {0};
    struct output_writer writer;
    struct output_reader reader;
    output_begin(&writer, &buf);
    char *text = calloc(1, size);
    assert_non_null(text);
    for (unsigned i = 0; i < OUTPUT_CHUNK_COUNT_MAX - 4; i++) {
        size_t n = 2 * size / (OUTPUT_CHUNK_COUNT_MAX - 4);
        output_put(&writer, i % 2 == 0 ? OUTPUT_STDOUT : OUTPUT_STDERR, bytes_of(text, n));
    }
    output_leave_out(&writer, OUTPUT_STDOUT, INT64_MAX);
    output_leave_out(&writer, OUTPUT_STDOUT, INT64_MAX);
    output_end(&writer);
    assert_true(buf.n <= OUTPUT_SIZE_MAX);
    assert_true(output_open(&reader, buf_bytes(&buf)));
    free(text);
    buf_fini(&buf);
}

static void test_what_is_no_output_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        size_t size;
    } bad[] = {
        {"\xc0", 1},                         /* no array */
        {"\x91\x01", 2},                     /* a stream without its piece */
        {"\x92\x00\xc4\x01x", 5},            /* there is no stream 0 */
        {"\x92\x03\xc4\x01x", 5},            /* nor 3 */
        {"\x92\x01\xa1x", 4},                /* text, where bytes belong */
        {"\x92\x01\x00", 3},                 /* nothing left out */
        {"\x92\x01\xc4\x05x", 5},            /* it ends too early */
        {"\x92\x01\xc4\x01x\xc0", 6},        /* something behind */
        {"\x92\x01\xff", 3},                 /* -1 */
        {"\xdd\xff\xff\xff\xfe\x01\x01", 7}, /* more than there can be */
        {"\x92\x01\xcf\xff\xff\xff\xff\xff\xff\xff\xff", 11},
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct output_reader reader;
        /* in memory of its own, so that a step beyond the end is seen */
        void *copy = malloc(bad[i].size);
        assert_non_null(copy);
        memcpy(copy, bad[i].bytes, bad[i].size);
        assert_false(output_open(&reader, bytes_of(copy, bad[i].size)));
        expect_end(&reader);
        free(copy);
    }
}

static void test_the_tail_is_of_one_stream_and_has_no_gap(void **state)
{
    (void)state;
    struct buf buf = {0};
    struct buf tail = {0};
    struct output_writer writer;
    output_begin(&writer, &buf);
    output_put(&writer, OUTPUT_STDERR, bytes_text("first"));
    output_leave_out(&writer, OUTPUT_STDERR, 2);
    output_put(&writer, OUTPUT_STDERR, bytes_text("abc"));
    output_put(&writer, OUTPUT_STDOUT, bytes_text("other"));
    output_put(&writer, OUTPUT_STDERR, bytes_text("def"));
    output_end(&writer);
    output_tail(buf_bytes(&buf), OUTPUT_STDERR, 100, &tail);
    assert_true(bytes_is(buf_bytes(&tail), "abcdef"));
    tail.n = 0;
    output_tail(buf_bytes(&buf), OUTPUT_STDERR, 4, &tail);
    assert_true(bytes_is(buf_bytes(&tail), "cdef"));
    tail.n = 0;
    output_tail(bytes_text("garbage"), OUTPUT_STDERR, 4, &tail);
    assert_int_equal(tail.n, 0);
    buf_fini(&buf);
    buf_fini(&tail);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pieces_keep_their_order),
        cmocka_unit_test(test_nothing_is_no_bytes),
        cmocka_unit_test(test_too_many_pieces_end_in_a_count),
        cmocka_unit_test(test_all_that_is_kept_fits),
        cmocka_unit_test(test_what_is_no_output_is_refused),
        cmocka_unit_test(test_the_tail_is_of_one_stream_and_has_no_gap),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

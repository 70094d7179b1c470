/*
 * test_value.c owns what is claimed of quern/value.h: what handlers and the command read and write.
 * It must not know tasks or messages.
 * Start reading at main.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/limits.h"
#include "quern/value.h"

#define READER(reader, text)                                                                                           \
    struct quern_reader reader;                                                                                        \
    quern_reader_init(&reader, text, sizeof(text) - 1)

/* ---- reading ---- */

static void test_arguments_are_read_straight_down(void **state)
{
    READER(reader, "\x95\x07\xff\xcb\x3f\xf8\x00\x00\x00\x00\x00\x00\xa2hi\x82\xa1"
                   "a\xc3\xa1"
                   "b\xc4\x01\x00");
    size_t count;
    uint64_t u;
    int64_t i;
    double f;
    const char *text;
    const void *p;
    size_t n;
    bool flag;

    (void)state;
    assert_int_equal(quern_peek(&reader), QUERN_TYPE_ARRAY);
    assert_int_equal(quern_read_array(&reader, &count), QUERN_OK);
    assert_int_equal(count, 5);
    assert_int_equal(quern_read_u64(&reader, &u), QUERN_OK);
    assert_int_equal(u, 7);
    assert_int_equal(quern_read_i64(&reader, &i), QUERN_OK);
    assert_int_equal(i, -1);
    assert_int_equal(quern_read_f64(&reader, &f), QUERN_OK);
    assert_true(f >= 1.5 && f <= 1.5);
    assert_int_equal(quern_read_str(&reader, &text, &n), QUERN_OK);
    assert_int_equal(n, 2);
    assert_memory_equal(text, "hi", 2);
    assert_int_equal(quern_read_map(&reader, &count), QUERN_OK);
    assert_int_equal(count, 2);
    assert_int_equal(quern_read_bytes(&reader, &p, &n), QUERN_OK);
    assert_memory_equal(p, "a", 1);
    assert_int_equal(quern_read_bool(&reader, &flag), QUERN_OK);
    assert_true(flag);
    assert_int_equal(quern_read_any(&reader, &p, &n), QUERN_OK);
    assert_int_equal(n, 2); /* the encoded bytes: a1 62 */
    assert_int_equal(quern_read_bytes(&reader, &p, &n), QUERN_OK);
    assert_int_equal(n, 1);
    assert_int_equal(quern_peek(&reader), QUERN_TYPE_NONE);
    assert_int_equal(quern_read_close(&reader), QUERN_OK);
    assert_int_equal(quern_read_close(&reader), QUERN_OK);
    assert_int_equal(quern_peek(&reader), QUERN_TYPE_NONE);
    assert_int_equal(quern_reader_error(&reader), QUERN_OK);
}

/* A handler looks once, at the end: the first error must still be there, and later reads must not move or write. */
static void test_the_first_error_stays_and_nothing_moves(void **state)
{
    READER(reader, "\x92\xa1x\x07");
    size_t count;
    uint64_t u = 99;
    const char *text = NULL;
    size_t n = 99;

    (void)state;
    assert_int_equal(quern_read_array(&reader, &count), QUERN_OK);
    assert_int_equal(quern_read_u64(&reader, &u), QUERN_TYPE);
    assert_int_equal(quern_read_str(&reader, &text, &n), QUERN_TYPE);
    assert_int_equal(quern_read_any(&reader, NULL, &n), QUERN_TYPE);
    assert_int_equal(quern_read_close(&reader), QUERN_TYPE);
    assert_int_equal(quern_peek(&reader), QUERN_TYPE_NONE);
    assert_int_equal(quern_reader_error(&reader), QUERN_TYPE);
    assert_int_equal(u, 99);
    assert_int_equal(n, 99);
    assert_null(text);
}

static void test_reading_past_the_end_is_an_error(void **state)
{
    READER(empty, "");
    READER(one, "\x91\x01");
    size_t count;
    uint64_t u;

    (void)state;
    assert_int_equal(quern_peek(&empty), QUERN_TYPE_NONE);
    assert_int_equal(quern_read_nil(&empty), QUERN_END);
    assert_int_equal(quern_read_array(&one, &count), QUERN_OK);
    assert_int_equal(quern_read_u64(&one, &u), QUERN_OK);
    assert_int_equal(quern_read_u64(&one, &u), QUERN_END);
    assert_int_equal(quern_reader_error(&one), QUERN_END);
}

static void test_closing_what_is_not_open_is_an_error(void **state)
{
    READER(reader, "\x01");

    (void)state;
    assert_int_equal(quern_read_close(&reader), QUERN_INVALID);
}

static void test_closing_steps_over_what_was_not_read(void **state)
{
    READER(reader, "\x92\x93\x01\x92\x02\x03\x80\x09");
    size_t count;
    uint64_t u;

    (void)state;
    assert_int_equal(quern_read_array(&reader, &count), QUERN_OK);
    assert_int_equal(quern_read_array(&reader, &count), QUERN_OK);
    assert_int_equal(quern_read_u64(&reader, &u), QUERN_OK);
    assert_int_equal(quern_read_close(&reader), QUERN_OK);
    assert_int_equal(quern_read_u64(&reader, &u), QUERN_OK);
    assert_int_equal(u, 9);
}

/* An integer that does not fit is an error, never another integer. */
static void test_integers_are_never_changed(void **state)
{
    static const char u64_max[] = "\xcf\xff\xff\xff\xff\xff\xff\xff\xff";
    static const char i64_min[] = "\xd3\x80\x00\x00\x00\x00\x00\x00\x00";
    struct quern_reader reader;
    uint64_t u = 0;
    int64_t i = 0;

    (void)state;
    quern_reader_init(&reader, u64_max, sizeof u64_max - 1);
    assert_int_equal(quern_read_u64(&reader, &u), QUERN_OK);
    assert_true(u == UINT64_MAX);
    quern_reader_init(&reader, u64_max, sizeof u64_max - 1);
    assert_int_equal(quern_read_i64(&reader, &i), QUERN_RANGE);
    quern_reader_init(&reader, i64_min, sizeof i64_min - 1);
    assert_int_equal(quern_read_i64(&reader, &i), QUERN_OK);
    assert_true(i == INT64_MIN);
    quern_reader_init(&reader, i64_min, sizeof i64_min - 1);
    assert_int_equal(quern_read_u64(&reader, &u), QUERN_RANGE);
    quern_reader_init(&reader, "\xa0", 1);
    assert_int_equal(quern_read_i64(&reader, &i), QUERN_TYPE);
}

/* An integer is read as a float only if that is the same number. */
static void test_a_float_is_exact_or_refused(void **state)
{
    static const struct {
        const char *p;
        size_t n;
        enum quern_err err;
        double value;
    } cases[] = {
        {"\x07", 1, QUERN_OK, 7},
        {"\xff", 1, QUERN_OK, -1},
        {"\x00", 1, QUERN_OK, 0},
        {"\xcf\x00\x20\x00\x00\x00\x00\x00\x00", 9, QUERN_OK, 9007199254740992.0},
        {"\xcf\x00\x20\x00\x00\x00\x00\x00\x01", 9, QUERN_RANGE, 0},
        {"\xcf\x00\x20\x00\x00\x00\x00\x00\x02", 9, QUERN_OK, 9007199254740994.0},
        {"\xcf\xff\xff\xff\xff\xff\xff\xf8\x00", 9, QUERN_OK, 18446744073709549568.0},
        {"\xcf\xff\xff\xff\xff\xff\xff\xff\xff", 9, QUERN_RANGE, 0},
        {"\xd3\x80\x00\x00\x00\x00\x00\x00\x00", 9, QUERN_OK, -9223372036854775808.0},
        {"\xd3\x80\x00\x00\x00\x00\x00\x00\x01", 9, QUERN_RANGE, 0},
        {"\xca\x3f\xc0\x00\x00", 5, QUERN_OK, 1.5},
        {"\xa0", 1, QUERN_TYPE, 0},
        {"\xc3", 1, QUERN_TYPE, 0},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct quern_reader reader;
        double f = 0;

        quern_reader_init(&reader, cases[i].p, cases[i].n);
        assert_int_equal(quern_read_f64(&reader, &f), cases[i].err);
        assert_memory_equal(&f, &cases[i].value, sizeof f);
    }
}

static void test_bytes_that_are_no_msgpack_are_malformed(void **state)
{
    static const struct {
        const char *p;
        size_t n;
    } cases[] = {{"\xc1", 1}, {"\xdd\xff\xff\xff\xff", 5}, {"\xcd\x01", 2}, {"\xc6\x7f\xff\xff\xff", 5}, {"\xd9", 1}};

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct quern_reader reader;
        size_t count;

        quern_reader_init(&reader, cases[i].p, cases[i].n);
        assert_int_equal(quern_peek(&reader), QUERN_TYPE_NONE);
        assert_int_equal(quern_reader_error(&reader), QUERN_MALFORMED);
        quern_reader_init(&reader, cases[i].p, cases[i].n);
        assert_int_equal(quern_read_array(&reader, &count), QUERN_MALFORMED);
        quern_reader_init(&reader, cases[i].p, cases[i].n);
        assert_int_equal(quern_read_any(&reader, NULL, NULL), QUERN_MALFORMED);
    }
}

/* Entering and stepping over are bounded alike, so that what can be skipped can be read and the other way round. */
static void test_the_reader_follows_64_levels_and_no_more(void **state)
{
    char deep[QUERN_VALUE_DEPTH_MAX + 2];
    struct quern_reader reader;
    size_t count;

    (void)state;
    memset(deep, '\x91', sizeof deep);
    deep[sizeof deep - 1] = '\x01';
    quern_reader_init(&reader, deep + 1, sizeof deep - 1);
    for (unsigned i = 0; i < QUERN_VALUE_DEPTH_MAX; i++) {
        assert_int_equal(quern_read_array(&reader, &count), QUERN_OK);
    }
    assert_int_equal(quern_peek(&reader), QUERN_TYPE_INT);
    quern_reader_init(&reader, deep + 1, sizeof deep - 1);
    assert_int_equal(quern_read_any(&reader, NULL, NULL), QUERN_OK);

    quern_reader_init(&reader, deep, sizeof deep);
    for (unsigned i = 0; i < QUERN_VALUE_DEPTH_MAX; i++) {
        assert_int_equal(quern_read_array(&reader, &count), QUERN_OK);
    }
    assert_int_equal(quern_read_array(&reader, &count), QUERN_TOO_BIG);
    quern_reader_init(&reader, deep, sizeof deep);
    assert_int_equal(quern_read_any(&reader, NULL, NULL), QUERN_TOO_BIG);
    quern_reader_init(&reader, deep, sizeof deep);
    assert_int_equal(quern_read_array(&reader, &count), QUERN_OK);
    assert_int_equal(quern_read_close(&reader), QUERN_TOO_BIG); /* the level entered counts */
}

/* ---- writing ---- */

static void assert_written(struct quern_writer *writer, const char *expected, size_t size)
{
    const void *p;
    size_t n;

    assert_int_equal(quern_writer_error(writer), QUERN_OK);
    quern_writer_bytes(writer, &p, &n);
    assert_int_equal(n, size);
    assert_memory_equal(p, expected, size);
    quern_writer_free(writer);
}

static void assert_refused(struct quern_writer *writer, enum quern_err err)
{
    const void *p = "";
    size_t n = 99;

    assert_int_equal(quern_writer_error(writer), err);
    quern_write_nil(writer); /* does nothing */
    assert_int_equal(quern_writer_error(writer), err);
    quern_writer_bytes(writer, &p, &n);
    assert_null(p);
    assert_int_equal(n, 0);
    quern_writer_free(writer);
}

static void test_levels_close_by_themselves(void **state)
{
    struct quern_writer *writer = quern_writer_new();
    static const char expected[] = "\x96\x82\xa1"
                                   "a\x92\x01\xfe\xa1"
                                   "b\x80\x90\xc0\xc3\xc7\x03\x05xyz\xcb\x3f\xf0\x00\x00\x00\x00\x00\x00";

    (void)state;
    quern_write_array(writer, 6);
    quern_write_map(writer, 2);
    quern_write_text(writer, "a");
    quern_write_array(writer, 2);
    quern_write_u64(writer, 1);
    quern_write_i64(writer, -2);
    quern_write_str(writer, "b", 1);
    quern_write_map(writer, 0);
    quern_write_array(writer, 0);
    quern_write_text(writer, NULL);
    quern_write_bool(writer, true);
    quern_write_ext(writer, 5, "xyz", 3);
    quern_write_f64(writer, 1.0);
    assert_written(writer, expected, sizeof expected - 1);
}

/* Half an array handed over would be taken for whatever stands behind it. */
static void test_an_unfinished_value_is_not_handed_over(void **state)
{
    struct quern_writer *writer = quern_writer_new();
    const void *p;
    size_t n;

    (void)state;
    quern_writer_bytes(writer, &p, &n);
    assert_int_equal(n, 0);
    quern_write_map(writer, 1);
    quern_write_text(writer, "key");
    quern_writer_bytes(writer, &p, &n);
    assert_int_equal(n, 0);
    assert_int_equal(quern_writer_error(writer), QUERN_OK);
    quern_write_nil(writer);
    quern_writer_bytes(writer, &p, &n);
    assert_int_equal(n, 6);
    quern_writer_free(writer);
    quern_writer_free(NULL);
}

static void test_a_value_too_many_is_refused(void **state)
{
    struct quern_writer *writer = quern_writer_new();

    (void)state;
    quern_write_array(writer, 1);
    quern_write_nil(writer);
    quern_write_nil(writer);
    assert_refused(writer, QUERN_INVALID);
}

static void test_a_writer_can_begin_anew_after_an_error(void **state)
{
    struct quern_writer *writer = quern_writer_new();

    (void)state;
    quern_write_ext(writer, 128, "", 0);
    assert_int_equal(quern_writer_error(writer), QUERN_INVALID);
    quern_writer_reset(writer);
    quern_write_bin(writer, NULL, 0); /* empty, not nil */
    assert_written(writer, "\xc4\x00", 2);
}

static void test_the_writer_nests_64_levels_and_no_more(void **state)
{
    struct quern_writer *writer = quern_writer_new();

    (void)state;
    for (unsigned i = 0; i < QUERN_VALUE_DEPTH_MAX; i++) {
        quern_write_array(writer, 1);
    }
    assert_int_equal(quern_writer_error(writer), QUERN_OK);
    quern_write_array(writer, 1);
    assert_refused(writer, QUERN_INVALID);
}

static void test_raw_must_be_one_value(void **state)
{
    static const struct {
        const char *p;
        size_t n;
    } wrong[] = {{"", 0}, {"\x01\x02", 2}, {"\x91", 1}, {"\xc1", 1}, {"\xdd\xff\xff\xff\xff", 5}};
    struct quern_writer *writer;

    (void)state;
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        writer = quern_writer_new();
        quern_write_raw(writer, wrong[i].p, wrong[i].n);
        assert_refused(writer, QUERN_INVALID);
    }
    writer = quern_writer_new();
    quern_write_array(writer, 2);
    quern_write_raw(writer, "\x91\x01", 2);
    quern_write_raw(writer, "\xc0", 1);
    assert_written(writer, "\x92\x91\x01\xc0", 4);
}

/* The bound is exact: the largest legal payload goes through, one byte more is refused before it is copied. */
static void test_a_payload_is_bounded_exactly(void **state)
{
    size_t body_size = PAYLOAD_SIZE_MAX - 5; /* behind a bin 32 head */
    char *body = calloc(1, PAYLOAD_SIZE_MAX);
    struct quern_writer *writer = quern_writer_new();
    const void *p;
    size_t n;

    (void)state;
    assert_non_null(body);
    quern_write_bin(writer, body, body_size);
    quern_writer_bytes(writer, &p, &n);
    assert_int_equal(n, PAYLOAD_SIZE_MAX);
    quern_writer_reset(writer);
    quern_write_bin(writer, body, body_size + 1);
    assert_int_equal(quern_writer_error(writer), QUERN_TOO_BIG);
    quern_writer_reset(writer);
    quern_write_bin(writer, body, SIZE_MAX); /* never looked at */
    assert_int_equal(quern_writer_error(writer), QUERN_TOO_BIG);
    quern_writer_reset(writer);
    quern_write_array(writer, 2);
    quern_write_bin(writer, body, body_size - 1);
    quern_write_nil(writer);
    assert_refused(writer, QUERN_TOO_BIG);
    free(body);
}

/* What is written is read back as it was, extremes included. */
static void test_extremes_survive(void **state)
{
    struct quern_writer *writer = quern_writer_new();
    struct quern_reader reader;
    const void *p;
    size_t n;
    size_t count;
    uint64_t u;
    int64_t i;
    double f;
    int type;

    (void)state;
    quern_write_array(writer, 5);
    quern_write_u64(writer, UINT64_MAX);
    quern_write_i64(writer, INT64_MIN);
    quern_write_f64(writer, NAN);
    quern_write_f64(writer, -INFINITY);
    quern_write_ext(writer, -128, "\x00", 1);
    quern_writer_bytes(writer, &p, &n);
    quern_reader_init(&reader, p, n);
    quern_read_array(&reader, &count);
    quern_read_u64(&reader, &u);
    quern_read_i64(&reader, &i);
    quern_read_f64(&reader, &f);
    assert_true(u == UINT64_MAX && i == INT64_MIN && isnan(f));
    quern_read_f64(&reader, &f);
    quern_read_ext(&reader, &type, &p, &n);
    assert_int_equal(quern_read_close(&reader), QUERN_OK);
    assert_true(isinf(f) && f < 0 && type == -128 && n == 1);
    quern_writer_free(writer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_arguments_are_read_straight_down),
        cmocka_unit_test(test_the_first_error_stays_and_nothing_moves),
        cmocka_unit_test(test_reading_past_the_end_is_an_error),
        cmocka_unit_test(test_closing_what_is_not_open_is_an_error),
        cmocka_unit_test(test_closing_steps_over_what_was_not_read),
        cmocka_unit_test(test_integers_are_never_changed),
        cmocka_unit_test(test_a_float_is_exact_or_refused),
        cmocka_unit_test(test_bytes_that_are_no_msgpack_are_malformed),
        cmocka_unit_test(test_the_reader_follows_64_levels_and_no_more),
        cmocka_unit_test(test_levels_close_by_themselves),
        cmocka_unit_test(test_an_unfinished_value_is_not_handed_over),
        cmocka_unit_test(test_a_value_too_many_is_refused),
        cmocka_unit_test(test_a_writer_can_begin_anew_after_an_error),
        cmocka_unit_test(test_the_writer_nests_64_levels_and_no_more),
        cmocka_unit_test(test_raw_must_be_one_value),
        cmocka_unit_test(test_a_payload_is_bounded_exactly),
        cmocka_unit_test(test_extremes_survive),
    };
    return cmocka_run_group_tests_name("value", tests, NULL, NULL);
}

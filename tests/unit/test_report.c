/*
 * The report of an attempt: what goes in comes out, bounded, and what comes from outside cannot hurt.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/codec.h"
#include "common/limits.h"
#include "common/report.h"

#include <stdlib.h>
#include <string.h>

#define LITERAL(text) bytes_of(text, sizeof(text) - 1)

static bool is_same(struct bytes a, const char *text)
{
    return bytes_is(a, text);
}

static void test_what_goes_in_comes_out(void **state)
{
    (void)state;
    struct report put = {.core_dumped = true,
                         .backtrace = LITERAL("#0 divide\n#1 main\n"),
                         .tail = LITERAL("b is 0\n"),
                         .out_tail = LITERAL("dividing\n")};
    struct report got;
    struct buf buf = {0};
    report_put(&buf, &put);
    assert_true(report_read(buf_bytes(&buf), &got));
    assert_true(got.core_dumped);
    assert_true(is_same(got.backtrace, "#0 divide\n#1 main\n"));
    assert_true(is_same(got.tail, "b is 0\n"));
    assert_true(is_same(got.out_tail, "dividing\n"));
    buf_fini(&buf);
}

/* A done attempt has none, and pays nothing for it. */
static void test_nothing_to_tell_is_nothing(void **state)
{
    (void)state;
    struct report got = {.core_dumped = true};
    struct buf buf = {0};
    report_put(&buf, &(struct report){0});
    assert_int_equal(buf.n, 0);
    assert_false(report_read(buf_bytes(&buf), &got));
    assert_false(got.core_dumped);
}

static void test_long_texts_are_cut_where_they_say_least(void **state)
{
    (void)state;
    size_t size = 3 * BACKTRACE_SIZE_MAX;
    char *text = malloc(size);
    assert_non_null(text);
    memset(text, 'x', size);
    text[0] = 'A';
    text[size - 1] = 'Z';
    struct report put = {
        .backtrace = bytes_of(text, size), .tail = bytes_of(text, size), .out_tail = bytes_of(text, size)};
    struct report got;
    struct buf buf = {0};
    report_put(&buf, &put);
    assert_true(buf.n <= REPORT_SIZE_MAX);
    assert_true(report_read(buf_bytes(&buf), &got));
    assert_int_equal(got.backtrace.n, BACKTRACE_SIZE_MAX);
    assert_int_equal(got.backtrace.p[0], 'A');
    assert_int_equal(got.tail.n, ERROR_STDERR_SIZE_MAX);
    assert_int_equal(got.tail.p[got.tail.n - 1], 'Z');
    buf_fini(&buf);
    free(text);
}

/* A cut through the middle of a character would make a text of what was one. */
static void test_no_half_characters_are_left_by_a_cut(void **state)
{
    (void)state;
    char text[ERROR_STDERR_SIZE_MAX + 4];
    for (size_t i = 0; i + 1 < sizeof(text); i += 2) {
        memcpy(text + i, "\xc3\xa9", 2);
    }
    struct report put = {.tail = bytes_of(text + 1, ERROR_STDERR_SIZE_MAX + 3)};
    struct report got;
    struct buf buf = {0};
    report_put(&buf, &put);
    assert_true(report_read(buf_bytes(&buf), &got));
    assert_true(bytes_is_utf8(got.tail));
    assert_true(got.tail.n >= ERROR_STDERR_SIZE_MAX - 1);
    buf_fini(&buf);
}

/* stderr may be anything: then it is kept as it was. */
static void test_what_is_no_text_is_kept_as_bytes(void **state)
{
    (void)state;
    struct report put = {.tail = LITERAL("\xff\x00\x80")};
    struct report got;
    struct buf buf = {0};
    report_put(&buf, &put);
    assert_true(report_read(buf_bytes(&buf), &got));
    assert_int_equal(got.tail.n, 3);
    assert_memory_equal(got.tail.p, "\xff\x00\x80", 3);
    buf_fini(&buf);
}

static void test_unknown_keys_are_stepped_over(void **state)
{
    (void)state;
    struct report got;
    assert_true(report_read(LITERAL("\x82\xa3new\x91\x91\x07\xa6stderr\xa1x"), &got));
    assert_true(is_same(got.tail, "x"));
}

static void test_what_is_no_report_reads_as_none(void **state)
{
    (void)state;
    const struct bytes bad[] = {
        {NULL, 0},
        LITERAL("\xc0"),                 /* nil */
        LITERAL("\x81\xa6stderr"),       /* ends too early */
        LITERAL("\x81\xa6stderr\x07"),   /* a number */
        LITERAL("\x81\x07\xa1x"),        /* a key that is no text */
        LITERAL("\x80\x80"),             /* two of them */
        LITERAL("\xdf\xff\xff\xff\xff"), /* as many pairs as can be said */
        LITERAL("\x81\xa9"
                "backtrace\x91\xa1x"),
    };
    struct report got;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_false(report_read(bad[i], &got));
        assert_int_equal(got.tail.n + got.backtrace.n, 0);
    }
}

static void test_signals_have_names(void **state)
{
    (void)state;
    assert_string_equal(signal_name(11), "SIGSEGV");
    assert_string_equal(signal_name(6), "SIGABRT");
    assert_string_equal(signal_name(0), "");
    assert_string_equal(signal_name(200), "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_goes_in_comes_out),
        cmocka_unit_test(test_nothing_to_tell_is_nothing),
        cmocka_unit_test(test_long_texts_are_cut_where_they_say_least),
        cmocka_unit_test(test_no_half_characters_are_left_by_a_cut),
        cmocka_unit_test(test_what_is_no_text_is_kept_as_bytes),
        cmocka_unit_test(test_unknown_keys_are_stepped_over),
        cmocka_unit_test(test_what_is_no_report_reads_as_none),
        cmocka_unit_test(test_signals_have_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

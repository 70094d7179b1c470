/* bytes and buf. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/bytes.h"

#include <stdlib.h>
#include <string.h>

static void test_views_compare_by_content_and_size(void **state)
{
    (void)state;
    assert_true(bytes_equal(bytes_text("abc"), bytes_of("abcd", 3)));
    assert_false(bytes_equal(bytes_text("abc"), bytes_text("abd")));
    assert_false(bytes_equal(bytes_text("abc"), bytes_text("abcd")));
    assert_true(bytes_equal(bytes_text(NULL), bytes_text("")));
    assert_true(bytes_is(bytes_of("ping", 4), "ping"));
    assert_false(bytes_is(bytes_of("ping\0", 5), "ping"));
}

static void test_a_copy_of_text_ends_with_nul(void **state)
{
    (void)state;
    char *text = bytes_dup_text(bytes_of("abcdef", 3));
    assert_string_equal(text, "abc");
    free(text);
    text = bytes_dup_text(bytes_text(NULL));
    assert_string_equal(text, "");
    free(text);
}

static bool is_utf8(const char *p, size_t n)
{
    return bytes_is_utf8(bytes_of(p, n));
}

#define IS_UTF8(literal) is_utf8(literal, sizeof(literal) - 1)

static void test_utf8_takes_every_form_at_its_limits(void **state)
{
    (void)state;
    assert_true(IS_UTF8(""));
    assert_true(IS_UTF8("plain\0text"));
    assert_true(IS_UTF8("\x7f\xc2\x80\xdf\xbf"));
    assert_true(IS_UTF8("\xe0\xa0\x80\xed\x9f\xbf\xee\x80\x80\xef\xbf\xbf"));
    assert_true(IS_UTF8("\xf0\x90\x80\x80\xf4\x8f\xbf\xbf"));
}

static void test_utf8_refuses_what_rfc_3629_refuses(void **state)
{
    (void)state;
    assert_false(IS_UTF8("\x80"));
    assert_false(IS_UTF8("\xc0\xaf"));         /* overlong / */
    assert_false(IS_UTF8("\xc1\xbf"));         /* overlong */
    assert_false(IS_UTF8("\xe0\x9f\xbf"));     /* overlong */
    assert_false(IS_UTF8("\xf0\x8f\xbf\xbf")); /* overlong */
    assert_false(IS_UTF8("\xed\xa0\x80"));     /* surrogate */
    assert_false(IS_UTF8("\xf4\x90\x80\x80")); /* beyond U+10FFFF */
    assert_false(IS_UTF8("\xf5\x80\x80\x80"));
    assert_false(IS_UTF8("\xff"));
    assert_false(IS_UTF8("a\xc3")); /* cut */
    assert_false(IS_UTF8("a\xe2\x82"));
    assert_false(IS_UTF8("a\xf0\x9f\x98"));
    assert_false(IS_UTF8("\xe2\x28\xa1"));
    assert_false(IS_UTF8("\xe2\x82\x28"));
    assert_false(IS_UTF8("\xf0\x90\x80\x41"));
}

/* A character that is cut at the end of the view must not be read beyond it (seen by the address sanitizer). */
static void test_utf8_reads_nothing_behind_the_view(void **state)
{
    (void)state;
    for (size_t n = 1; n < 4; n++) {
        char *p = malloc(n);
        memcpy(p, "\xf0\x9f\x98", n);
        assert_false(is_utf8(p, n));
        free(p);
    }
}

static void test_hash_follows_content(void **state)
{
    (void)state;
    char copy[] = "some key";
    assert_int_equal(bytes_hash(bytes_text("some key")), bytes_hash(bytes_text(copy)));
    assert_int_not_equal(bytes_hash(bytes_text("some key")), bytes_hash(bytes_text("some keY")));
    assert_int_equal(bytes_hash(bytes_text(NULL)), bytes_hash(bytes_text("")));
}

static void test_buffer_grows_and_keeps_what_was_put(void **state)
{
    (void)state;
    struct buf buf = {0};
    for (unsigned i = 0; i < 100000; i++) {
        buf_put_u8(&buf, (uint8_t)i);
    }
    buf_put(&buf, NULL, 0);
    assert_int_equal(buf.n, 100000);
    for (unsigned i = 0; i < 100000; i++) {
        assert_int_equal(buf.p[i], (uint8_t)i);
    }
    assert_true(bytes_equal(buf_bytes(&buf), bytes_of(buf.p, buf.n)));
    buf_fini(&buf);
    assert_null(buf.p);
    buf_fini(&buf);
}

static void test_reserved_room_is_used_without_moving(void **state)
{
    (void)state;
    struct buf buf = {0};
    buf_reserve(&buf, 1000);
    const uint8_t *p = buf.p;
    for (int i = 0; i < 1000; i++) {
        buf_put_u8(&buf, 1);
    }
    assert_ptr_equal(buf.p, p);
    buf_fini(&buf);
}

static void test_printing_appends_without_the_nul(void **state)
{
    (void)state;
    struct buf buf = {0};
    buf_printf(&buf, "%s-%d", "task", 42);
    buf_printf(&buf, "%s", "");
    buf_printf(&buf, "%0200d", 7);
    assert_int_equal(buf.n, 7 + 200);
    assert_memory_equal(buf.p, "task-4200000", 12);
    assert_int_equal(buf.p[buf.n - 1], '7');
    buf_fini(&buf);
}

static void test_released_memory_is_the_callers(void **state)
{
    (void)state;
    struct buf buf = {0};
    buf_put(&buf, "abc", 3);
    size_t n = 0;
    uint8_t *p = buf_release(&buf, &n);
    assert_int_equal(n, 3);
    assert_memory_equal(p, "abc", 3);
    assert_null(buf.p);
    assert_int_equal(buf.n + buf.cap, 0);
    free(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_views_compare_by_content_and_size),
        cmocka_unit_test(test_a_copy_of_text_ends_with_nul),
        cmocka_unit_test(test_utf8_takes_every_form_at_its_limits),
        cmocka_unit_test(test_utf8_refuses_what_rfc_3629_refuses),
        cmocka_unit_test(test_utf8_reads_nothing_behind_the_view),
        cmocka_unit_test(test_hash_follows_content),
        cmocka_unit_test(test_buffer_grows_and_keeps_what_was_put),
        cmocka_unit_test(test_reserved_room_is_used_without_moving),
        cmocka_unit_test(test_printing_appends_without_the_nul),
        cmocka_unit_test(test_released_memory_is_the_callers),
    };
    return cmocka_run_group_tests_name("bytes", tests, NULL, NULL);
}

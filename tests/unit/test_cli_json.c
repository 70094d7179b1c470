/* JSON to msgpack and back: nothing changes silently, in either direction. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "client/cli/json.h"
#include "common/codec.h"
#include "common/limits.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

static bool read_json(const char *text, struct buf *to, char why[JSON_ERROR_SIZE])
{
    why[0] = '\0';
    return json_to_msgpack(bytes_text(text), VALUE_DEPTH_MAX, to, why);
}

static void assert_refused(const char *text, const char *word)
{
    struct buf value = {0};
    char why[JSON_ERROR_SIZE];
    put_nil(&value);
    if (read_json(text, &value, why)) {
        fail_msg("%s was taken", text);
    }
    if (strstr(why, word) == NULL) {
        fail_msg("%s: '%s' does not say '%s'", text, why, word);
    }
    assert_int_equal(value.n, 1); /* as before */
    buf_fini(&value);
}

static void assert_text(struct bytes value, const char *expected)
{
    struct buf text = {0};
    assert_int_equal(json_from_msgpack(value, &text), QUERN_OK);
    buf_put_u8(&text, 0);
    assert_string_equal((const char *)text.p, expected);
    buf_fini(&text);
}

/* JSON to msgpack to JSON. */
static void assert_becomes(const char *text, const char *expected)
{
    struct buf value = {0};
    char why[JSON_ERROR_SIZE];
    if (!read_json(text, &value, why)) {
        fail_msg("%s: %s", text, why);
    }
    assert_true(value_is_whole(buf_bytes(&value), VALUE_DEPTH_MAX));
    assert_text(buf_bytes(&value), expected);
    buf_fini(&value);
}

static void assert_stays(const char *text)
{
    assert_becomes(text, text);
}

/* msgpack to JSON to the same bytes. */
static void assert_survives(struct buf *value)
{
    struct buf text = {0};
    struct buf back = {0};
    char why[JSON_ERROR_SIZE];
    assert_int_equal(json_from_msgpack(buf_bytes(value), &text), QUERN_OK);
    if (!json_to_msgpack(buf_bytes(&text), VALUE_DEPTH_MAX, &back, why)) {
        fail_msg("%.*s: %s", (int)text.n, (const char *)text.p, why);
    }
    assert_int_equal(back.n, value->n);
    assert_memory_equal(back.p, value->p, value->n);
    buf_fini(&text);
    buf_fini(&back);
    buf_fini(value);
}

static void test_plain_values_stay(void **state)
{
    (void)state;
    assert_stays("null");
    assert_stays("true");
    assert_stays("false");
    assert_stays("0");
    assert_stays("\"\"");
    assert_stays("[]");
    assert_stays("{}");
    assert_stays("[1,[2,[3]],{\"b\":1,\"a\":{\"c\":null}}]");
    assert_becomes(" [ 1 , 2 ] \r", "[1,2]");
}

static void test_integers_stay_to_64_bits_signed_and_unsigned(void **state)
{
    (void)state;
    assert_stays("9223372036854775807");
    assert_stays("-9223372036854775808");
    assert_stays("9223372036854775808");
    assert_stays("18446744073709551615");
    assert_stays("[1,18446744073709551615,{\"a\":9223372036854775808}]");
    /* digits in a text are no number */
    assert_stays("\"18446744073709551615\"");
    assert_stays("\"\\\" 18446744073709551616\"");
}

static void test_integers_beyond_64_bits_are_refused(void **state)
{
    (void)state;
    assert_refused("18446744073709551616", "beyond 64 bits");
    assert_refused("-9223372036854775809", "beyond 64 bits");
    assert_refused("[123456789012345678901234567890]", "beyond 64 bits");
}

static void test_uint64_is_encoded_as_uint64(void **state)
{
    (void)state;
    struct buf value = {0};
    char why[JSON_ERROR_SIZE];
    assert_true(read_json("18446744073709551615", &value, why));
    assert_int_equal(value.n, 9);
    assert_memory_equal(value.p, "\xcf\xff\xff\xff\xff\xff\xff\xff\xff", 9);
    buf_fini(&value);
}

static void test_floats_stay_floats_and_read_back_the_same(void **state)
{
    (void)state;
    static const double values[] = {0.1,  1.0 / 3, 1e300, 5e-324, 1.7976931348623157e308, 123456789.125, 1e22, -2.5,
                                    1e15, 2.0,     -0.0,  100.0,  9007199254740993.0};
    assert_stays("1.0");
    assert_stays("0.1");
    assert_stays("-0.0");
    assert_stays("[1,1.0]");
    assert_becomes("1e2", "100.0");
    assert_becomes("-0", "0");
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
        struct buf value = {0};
        put_f64(&value, values[i]);
        assert_survives(&value);
    }
}

static void test_numbers_that_no_double_holds_are_refused(void **state)
{
    (void)state;
    assert_refused("1e400", "overflow");
    assert_refused("1e-400", "too small");
    assert_becomes("0e-400", "0.0");
    assert_becomes("0.000000000000000000000000", "0.0");
}

static void test_nan_and_infinity_are_said_and_read_back(void **state)
{
    (void)state;
    struct buf value = {0};
    uint64_t bits = 0xfff8000000000001u;
    double odd;
    assert_stays("{\"$float\":\"NaN\"}");
    assert_stays("{\"$float\":\"Infinity\"}");
    assert_stays("[{\"$float\":\"-Infinity\"}]");
    memcpy(&odd, &bits, sizeof odd);
    put_f64(&value, odd);
    assert_text(buf_bytes(&value), "{\"$float\":\"NaN:fff8000000000001\"}");
    assert_survives(&value);
    assert_refused("{\"$float\":\"nan\"}", "$float");
    assert_refused("{\"$float\":1.5}", "$float");
    assert_refused("{\"$float\":\"NaN:3ff0000000000000\"}", "NaN");
    assert_refused("NaN", "not JSON");
}

static void test_binary_extensions_and_broken_text_are_said_and_read_back(void **state)
{
    (void)state;
    struct buf value = {0};
    put_bin(&value, bytes_of("\x00\xff\x10", 3));
    assert_text(buf_bytes(&value), "{\"$bin\":\"AP8Q\"}");
    assert_survives(&value);
    put_bin(&value, bytes_of("", 0));
    assert_survives(&value);
    put_str(&value, bytes_of("a\xff", 2));
    assert_text(buf_bytes(&value), "{\"$str\":\"Yf8=\"}");
    assert_survives(&value);
    put_ext(&value, -7, bytes_of("xyz", 3));
    assert_text(buf_bytes(&value), "{\"$ext\":[-7,\"eHl6\"]}");
    assert_survives(&value);
    assert_refused("{\"$bin\":\"AP8\"}", "base64");
    assert_refused("{\"$bin\":\"AP8Q*\"}", "base64");
    assert_refused("{\"$bin\":7}", "base64");
    assert_refused("{\"$ext\":[128,\"\"]}", "$ext");
    assert_refused("{\"$ext\":\"AP8Q\"}", "$ext");
    assert_refused("\"\xff\"", "not JSON");
}

/* A map that happens to have one of our words as its only key must come back as that map. */
static void test_a_genuine_map_with_a_reserved_key_is_escaped(void **state)
{
    (void)state;
    struct buf value = {0};
    put_map(&value, 1);
    put_text(&value, "$bin");
    put_text(&value, "AP8Q");
    assert_text(buf_bytes(&value), "{\"$map\":[[\"$bin\",\"AP8Q\"]]}");
    assert_survives(&value);
    put_map(&value, 1);
    put_text(&value, "$map");
    put_array(&value, 0);
    assert_survives(&value);
    assert_stays("{\"$bin\":1,\"other\":2}");
    assert_stays("{\"$other\":1}");
}

static void test_maps_that_no_object_can_say_become_pairs(void **state)
{
    (void)state;
    struct buf value = {0};
    put_map(&value, 2);
    put_u64(&value, 1);
    put_text(&value, "a");
    put_array(&value, 0);
    put_nil(&value);
    assert_text(buf_bytes(&value), "{\"$map\":[[1,\"a\"],[[],null]]}");
    assert_survives(&value);
    put_map(&value, 2); /* the same key twice */
    put_text(&value, "k");
    put_u64(&value, 1);
    put_text(&value, "k");
    put_u64(&value, 2);
    assert_text(buf_bytes(&value), "{\"$map\":[[\"k\",1],[\"k\",2]]}");
    assert_survives(&value);
    put_map(&value, 2); /* a NUL in a key */
    put_str(&value, bytes_of("a\0b", 3));
    put_u64(&value, 1);
    put_text(&value, "c");
    put_u64(&value, 2);
    assert_text(buf_bytes(&value), "{\"$map\":[[\"a\\u0000b\",1],[\"c\",2]]}");
    assert_survives(&value);
    assert_refused("{\"$map\":[1]}", "$map");
    assert_refused("{\"$map\":{}}", "$map");
}

static void test_texts_keep_every_character(void **state)
{
    (void)state;
    struct buf value = {0};
    assert_stays("\"a\\u0000b\\n\\t\\r\\\"\\\\/\xc3\xa9\xf0\x9f\x98\x80\"");
    assert_becomes("\"\\u00e9\\ud83d\\ude00\"", "\"\xc3\xa9\xf0\x9f\x98\x80\"");
    assert_refused("\"\\ud83d\"", "not JSON");
    put_str(&value, bytes_of("\x1f\x7f", 2));
    assert_text(buf_bytes(&value), "\"\\u001f\\u007f\"");
    assert_survives(&value);
}

static void test_what_is_not_one_json_value_is_refused(void **state)
{
    (void)state;
    assert_refused("", "not JSON");
    assert_refused("{\"a\":1,\"a\":2}", "not JSON");
    assert_refused("1 2", "not JSON");
    assert_refused("18446744073709551615 2", "not JSON");
    assert_refused("{18446744073709551615:1}", "not JSON");
    assert_refused("[1", "not JSON");
    assert_refused("\"", "not JSON");
    assert_refused("\"\\", "not JSON");
    assert_refused("01", "not JSON");
    assert_refused("-", "not JSON");
    assert_refused("'a'", "not JSON");
}

static void test_nesting_is_bounded_both_ways(void **state)
{
    (void)state;
    struct buf text = {0};
    struct buf value = {0};
    char why[JSON_ERROR_SIZE];
    for (unsigned i = 0; i < VALUE_DEPTH_MAX; i++) {
        buf_put_u8(&text, '[');
        put_array(&value, 1);
    }
    for (unsigned i = 0; i < VALUE_DEPTH_MAX; i++) {
        buf_put_u8(&text, ']');
    }
    buf_put_u8(&text, 0);
    put_nil(&value);
    struct buf read = {0};
    assert_true(read_json((const char *)text.p, &read, why));
    assert_false(json_to_msgpack(bytes_text((const char *)text.p), VALUE_DEPTH_MAX - 1, &read, why));
    assert_non_null(strstr(why, "nested"));
    struct buf shown = {0};
    assert_int_equal(json_from_msgpack(buf_bytes(&value), &shown), QUERN_OK);
    value.n = 0;
    for (unsigned i = 0; i <= VALUE_DEPTH_MAX; i++) {
        put_array(&value, 1);
    }
    put_nil(&value);
    size_t before = shown.n;
    assert_int_equal(json_from_msgpack(buf_bytes(&value), &shown), QUERN_TOO_BIG);
    assert_int_equal(shown.n, before);
    buf_fini(&text);
    buf_fini(&value);
    buf_fini(&read);
    buf_fini(&shown);
}

/* Bytes from a worker: whatever they are, they are shown or refused. */
static void test_malformed_msgpack_is_refused(void **state)
{
    (void)state;
    static const struct bytes inputs[] = {
        {(const uint8_t *)"\xc1", 1},
        {(const uint8_t *)"\x92\x01", 2},
        {(const uint8_t *)"\xdb\xff\xff\xff\xff", 5},
        {(const uint8_t *)"\x81\xa1k", 3},
        {(const uint8_t *)"\x01\x02", 2},
        {(const uint8_t *)"", 0},
        {(const uint8_t *)"\xdf\xff\xff\xff\xff\x01", 6},
    };
    for (size_t i = 0; i < sizeof inputs / sizeof inputs[0]; i++) {
        struct buf text = {0};
        assert_int_equal(json_from_msgpack(inputs[i], &text), QUERN_MALFORMED);
        assert_int_equal(text.n, 0);
        buf_fini(&text);
    }
}

static void test_float32_keeps_its_value(void **state)
{
    (void)state;
    assert_text(bytes_of("\xca\x3f\xc0\x00\x00", 5), "1.5");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plain_values_stay),
        cmocka_unit_test(test_integers_stay_to_64_bits_signed_and_unsigned),
        cmocka_unit_test(test_integers_beyond_64_bits_are_refused),
        cmocka_unit_test(test_uint64_is_encoded_as_uint64),
        cmocka_unit_test(test_floats_stay_floats_and_read_back_the_same),
        cmocka_unit_test(test_numbers_that_no_double_holds_are_refused),
        cmocka_unit_test(test_nan_and_infinity_are_said_and_read_back),
        cmocka_unit_test(test_binary_extensions_and_broken_text_are_said_and_read_back),
        cmocka_unit_test(test_a_genuine_map_with_a_reserved_key_is_escaped),
        cmocka_unit_test(test_maps_that_no_object_can_say_become_pairs),
        cmocka_unit_test(test_texts_keep_every_character),
        cmocka_unit_test(test_what_is_not_one_json_value_is_refused),
        cmocka_unit_test(test_nesting_is_bounded_both_ways),
        cmocka_unit_test(test_malformed_msgpack_is_refused),
        cmocka_unit_test(test_float32_keeps_its_value),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

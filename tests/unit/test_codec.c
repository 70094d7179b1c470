/*
 * test_codec.c owns what is claimed of msgpack: every format is read, what is cut short or lies is refused, and our
 * writer and msgpack-c understand each other. It must not know messages.
 * Start reading at main.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <msgpack.h>
#include <string.h>

#include "common/codec.h"
#include "common/limits.h"

#define BYTES(text) bytes_of(text, sizeof(text) - 1)

/* ---- reading, format by format ---- */

static const struct {
    const char *p;
    size_t n;
    struct value value;
} formats[] = {
#define F(text, ...)                                                                                                   \
    {                                                                                                                  \
        text, sizeof(text) - 1,                                                                                        \
        {                                                                                                              \
            __VA_ARGS__                                                                                                \
        }                                                                                                              \
    }
    F("\xc0", .type = VALUE_NIL),
    F("\xc2", .type = VALUE_FLAG, .flag = false),
    F("\xc3", .type = VALUE_FLAG, .flag = true),
    F("\x00", .type = VALUE_UINT, .u = 0),
    F("\x7f", .type = VALUE_UINT, .u = 127),
    F("\xcc\xff", .type = VALUE_UINT, .u = 255),
    F("\xcc\x01", .type = VALUE_UINT, .u = 1), /* longer than needed is allowed */
    F("\xcd\x01\x02", .type = VALUE_UINT, .u = 0x0102),
    F("\xce\x01\x02\x03\x04", .type = VALUE_UINT, .u = 0x01020304),
    F("\xcf\xff\xff\xff\xff\xff\xff\xff\xff", .type = VALUE_UINT, .u = UINT64_MAX),
    F("\xff", .type = VALUE_INT, .i = -1),
    F("\xe0", .type = VALUE_INT, .i = -32),
    F("\xd0\x80", .type = VALUE_INT, .i = -128),
    F("\xd0\x05", .type = VALUE_UINT, .u = 5), /* not negative: UINT, whatever its encoding */
    F("\xd1\x80\x00", .type = VALUE_INT, .i = -32768),
    F("\xd2\x80\x00\x00\x00", .type = VALUE_INT, .i = INT32_MIN),
    F("\xd3\x80\x00\x00\x00\x00\x00\x00\x00", .type = VALUE_INT, .i = INT64_MIN),
    F("\xd3\x7f\xff\xff\xff\xff\xff\xff\xff", .type = VALUE_UINT, .u = INT64_MAX),
    F("\xca\x3f\x80\x00\x00", .type = VALUE_F64, .f = 1.0),
    F("\xcb\xc0\x04\x00\x00\x00\x00\x00\x00", .type = VALUE_F64, .f = -2.5),
    F("\xa0", .type = VALUE_STR, .bytes = {(const uint8_t *)"", 0}),
    F("\xa2hi", .type = VALUE_STR, .bytes = {(const uint8_t *)"hi", 2}),
    F("\xd9\x02hi", .type = VALUE_STR, .bytes = {(const uint8_t *)"hi", 2}),
    F("\xda\x00\x02hi", .type = VALUE_STR, .bytes = {(const uint8_t *)"hi", 2}),
    F("\xdb\x00\x00\x00\x02hi", .type = VALUE_STR, .bytes = {(const uint8_t *)"hi", 2}),
    F("\xc4\x00", .type = VALUE_BIN, .bytes = {(const uint8_t *)"", 0}),
    F("\xc4\x02\x00\xff", .type = VALUE_BIN, .bytes = {(const uint8_t *)"\x00\xff", 2}),
    F("\xc5\x00\x01x", .type = VALUE_BIN, .bytes = {(const uint8_t *)"x", 1}),
    F("\xc6\x00\x00\x00\x01x", .type = VALUE_BIN, .bytes = {(const uint8_t *)"x", 1}),
    F("\xd4\x05x", .type = VALUE_EXT, .ext_type = 5, .bytes = {(const uint8_t *)"x", 1}),
    F("\xd5\xffxy", .type = VALUE_EXT, .ext_type = -1, .bytes = {(const uint8_t *)"xy", 2}),
    F("\xd6\x80wxyz", .type = VALUE_EXT, .ext_type = -128, .bytes = {(const uint8_t *)"wxyz", 4}),
    F("\xd7\x7f"
      "12345678",
      .type = VALUE_EXT, .ext_type = 127, .bytes = {(const uint8_t *)"12345678", 8}),
    F("\xd8\x01"
      "1234567812345678",
      .type = VALUE_EXT, .ext_type = 1, .bytes = {(const uint8_t *)"1234567812345678", 16}),
    F("\xc7\x00\x09", .type = VALUE_EXT, .ext_type = 9, .bytes = {(const uint8_t *)"", 0}),
    F("\xc8\x00\x03\x09xyz", .type = VALUE_EXT, .ext_type = 9, .bytes = {(const uint8_t *)"xyz", 3}),
    F("\xc9\x00\x00\x00\x03\x09xyz", .type = VALUE_EXT, .ext_type = 9, .bytes = {(const uint8_t *)"xyz", 3}),
    F("\x90", .type = VALUE_ARRAY, .count = 0),
    F("\xdc\x00\x00", .type = VALUE_ARRAY, .count = 0),
    F("\xdd\x00\x00\x00\x00", .type = VALUE_ARRAY, .count = 0),
    F("\x80", .type = VALUE_MAP, .count = 0),
    F("\xde\x00\x00", .type = VALUE_MAP, .count = 0),
    F("\xdf\x00\x00\x00\x00", .type = VALUE_MAP, .count = 0),
#undef F
};

static void assert_value(const struct value *value, const struct value *expected)
{
    assert_int_equal(value->type, expected->type);
    switch (expected->type) {
    case VALUE_NIL:
        break;
    case VALUE_FLAG:
        assert_int_equal(value->flag, expected->flag);
        break;
    case VALUE_UINT:
        assert_true(value->u == expected->u);
        break;
    case VALUE_INT:
        assert_true(value->i == expected->i);
        break;
    case VALUE_F64:
        assert_memory_equal(&value->f, &expected->f, sizeof value->f);
        break;
    case VALUE_EXT:
        assert_int_equal(value->ext_type, expected->ext_type);
        assert_non_null(value->bytes.p);
        assert_true(bytes_equal(value->bytes, expected->bytes));
        break;
    case VALUE_STR:
    case VALUE_BIN:
        assert_non_null(value->bytes.p); /* empty is not none */
        assert_true(bytes_equal(value->bytes, expected->bytes));
        break;
    case VALUE_ARRAY:
    case VALUE_MAP:
        assert_int_equal(value->count, expected->count);
        break;
    }
}

static void test_every_format_is_read(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++) {
        struct bytes input = bytes_of(formats[i].p, formats[i].n);
        struct cursor cursor = cursor_of(input);
        struct value value;

        assert_true(cursor_next(&cursor, &value));
        assert_true(cursor_done(&cursor));
        assert_value(&value, &formats[i].value);
        assert_true(value_is_whole(input, 1));
    }
}

/* A frame may end anywhere. The copy is exactly as long as what is left, so that a sanitizer sees a read behind it. */
static void test_a_value_cut_short_is_refused_and_nothing_moves(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++) {
        for (size_t n = 0; n < formats[i].n; n++) {
            uint8_t *copy = test_malloc(n + 1);
            struct cursor cursor;
            struct value value;

            memcpy(copy + 1, formats[i].p, n);
            cursor = (struct cursor){.p = copy + 1, .end = copy + 1 + n};
            assert_false(cursor_next(&cursor, &value));
            assert_ptr_equal(cursor.p, copy + 1);
            assert_false(cursor_skip(&cursor, 8, NULL));
            assert_ptr_equal(cursor.p, copy + 1);
            test_free(copy);
        }
    }
}

/* Five bytes that announce four thousand million elements must cost nothing. */
static void test_a_count_that_cannot_follow_is_refused(void **state)
{
    static const struct bytes bombs[] = {
        {(const uint8_t *)"\xdd\xff\xff\xff\xff", 5},
        {(const uint8_t *)"\xdf\xff\xff\xff\xff", 5},
        {(const uint8_t *)"\xdf\x80\x00\x00\x00", 5},
        {(const uint8_t *)"\xdc\xff\xff", 3},
        {(const uint8_t *)"\x9f", 1},
        {(const uint8_t *)"\x81\x01", 2},
        {(const uint8_t *)"\x92\x01", 2},
        {(const uint8_t *)"\xc6\xff\xff\xff\xff", 5},
        {(const uint8_t *)"\xdb\xff\xff\xff\xff", 5},
        {(const uint8_t *)"\xc9\xff\xff\xff\xff\x01", 6},
        {(const uint8_t *)"\xdd\x00\x00\x00\x02\x01", 6},
        {(const uint8_t *)"\xc1", 1},
    };

    (void)state;
    for (size_t i = 0; i < sizeof bombs / sizeof *bombs; i++) {
        struct cursor cursor = cursor_of(bombs[i]);
        struct value value;

        assert_false(cursor_next(&cursor, &value));
        assert_int_equal(cursor_step(&cursor, 8, NULL), QUERN_MALFORMED);
        assert_ptr_equal(cursor.p, bombs[i].p);
        assert_false(value_is_whole(bombs[i], 8));
    }
}

static void test_no_bytes_are_no_value(void **state)
{
    struct cursor cursor = cursor_of((struct bytes){NULL, 0});
    struct value value;

    (void)state;
    assert_true(cursor_done(&cursor));
    assert_false(cursor_next(&cursor, &value));
    assert_false(cursor_skip(&cursor, 8, NULL));
    assert_false(value_is_whole((struct bytes){NULL, 0}, 8));
}

/* ---- stepping over ---- */

static void test_stepping_over_ends_behind_the_value(void **state)
{
    struct bytes input = BYTES("\x93\x01\x82\xa1k\x92\xc0\xc3\xa1m\x80\xc4\x01x\x07");
    struct cursor cursor = cursor_of(input);
    struct bytes whole;
    struct value value;

    (void)state;
    assert_true(cursor_skip(&cursor, 3, &whole));
    assert_true(bytes_equal(whole, bytes_of(input.p, input.n - 1)));
    assert_true(cursor_next(&cursor, &value));
    assert_int_equal(value.u, 7);
    assert_true(cursor_done(&cursor));
    assert_false(value_is_whole(input, 3)); /* something stands behind it */
    assert_true(value_is_whole(whole, 3));
    assert_false(value_is_whole(whole, 2)); /* array, map, array */
}

/* Depth is bounded by a number that the caller names, never by the stack. */
static void test_nesting_is_bounded_exactly(void **state)
{
    uint8_t deep[100];

    (void)state;
    memset(deep, 0x91, sizeof deep);
    deep[sizeof deep - 1] = 0xc0;
    for (uint32_t depth = 0; depth <= VALUE_DEPTH_MAX; depth++) {
        struct bytes input = bytes_of(deep + sizeof deep - 1 - depth, depth + 1);
        struct cursor cursor = cursor_of(input);

        assert_true(value_is_whole(input, depth));
        assert_true(value_is_whole(input, VALUE_DEPTH_MAX));
        if (depth > 0) {
            assert_int_equal(cursor_step(&cursor, depth - 1, NULL), QUERN_TOO_BIG);
            assert_ptr_equal(cursor.p, input.p);
        }
    }
    assert_false(value_is_whole(bytes_of(deep, sizeof deep), VALUE_DEPTH_MAX));
}

/* ---- writing ---- */

static void assert_written(struct buf *buf, struct bytes expected)
{
    assert_int_equal(buf->n, expected.n);
    assert_memory_equal(buf->p, expected.p, expected.n);
    buf_fini(buf);
}

static void test_integers_take_their_shortest_form(void **state)
{
    static const struct {
        uint64_t value;
        size_t size;
    } cases[] = {{0, 1},         {127, 1},        {128, 2},
                 {255, 2},       {256, 3},        {65535, 3},
                 {65536, 5},     {UINT32_MAX, 5}, {UINT32_MAX + UINT64_C(1), 9},
                 {UINT64_MAX, 9}};
    static const struct {
        int64_t value;
        size_t size;
    } negative[] = {{-1, 1}, {-32, 1}, {-33, 2}, {-128, 2}, {-129, 3}, {-32768, 3}, {-32769, 5}, {INT64_MIN, 9}};
    struct buf buf = {0};
    struct value value;

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct cursor cursor;

        buf.n = 0;
        put_u64(&buf, cases[i].value);
        assert_int_equal(buf.n, cases[i].size);
        cursor = cursor_of(buf_bytes(&buf));
        assert_true(cursor_next(&cursor, &value) && value.type == VALUE_UINT && value.u == cases[i].value);
    }
    for (size_t i = 0; i < sizeof negative / sizeof *negative; i++) {
        struct cursor cursor;

        buf.n = 0;
        put_i64(&buf, negative[i].value);
        assert_int_equal(buf.n, negative[i].size);
        cursor = cursor_of(buf_bytes(&buf));
        assert_true(cursor_next(&cursor, &value) && value.type == VALUE_INT && value.i == negative[i].value);
    }
    buf_fini(&buf);
}

/* None and empty are two things on the wire: a task without a result is not one whose result is no bytes. */
static void test_none_is_nil_and_empty_is_empty(void **state)
{
    struct buf buf = {0};

    (void)state;
    put_str(&buf, (struct bytes){NULL, 0});
    put_bin(&buf, (struct bytes){NULL, 0});
    put_text(&buf, NULL);
    put_raw(&buf, (struct bytes){NULL, 0});
    put_str(&buf, bytes_text(""));
    put_bin(&buf, bytes_text(""));
    put_text(&buf, "");
    assert_written(&buf, BYTES("\xc0\xc0\xc0\xc0\xa0\xc4\x00\xa0"));
}

static void test_sizes_take_their_shortest_form(void **state)
{
    static const struct {
        uint32_t size;
        uint32_t str_head;
        uint32_t bin_head;
    } cases[] = {{31, 1, 2}, {32, 2, 2}, {255, 2, 2}, {256, 3, 3}, {65535, 3, 3}, {65536, 5, 5}};
    static const uint8_t body[65536];
    struct buf buf = {0};

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        buf.n = 0;
        put_str(&buf, bytes_of(body, cases[i].size));
        assert_int_equal(buf.n, cases[i].str_head + cases[i].size);
        buf.n = 0;
        put_bin(&buf, bytes_of(body, cases[i].size));
        assert_int_equal(buf.n, cases[i].bin_head + cases[i].size);
        assert_true(value_is_whole(buf_bytes(&buf), 0));
    }
    buf_fini(&buf);
}

static void test_a_float_is_always_64_bits(void **state)
{
    struct buf buf = {0};

    (void)state;
    put_f64(&buf, 1.0);
    assert_written(&buf, BYTES("\xcb\x3f\xf0\x00\x00\x00\x00\x00\x00"));
}

static void test_not_a_number_stays_one(void **state)
{
    struct buf buf = {0};
    struct cursor cursor;
    struct value value;

    (void)state;
    put_f64(&buf, NAN);
    put_f64(&buf, -INFINITY);
    cursor = cursor_of(buf_bytes(&buf));
    assert_true(cursor_next(&cursor, &value) && value.type == VALUE_F64 && isnan(value.f));
    assert_true(cursor_next(&cursor, &value) && value.type == VALUE_F64 && isinf(value.f) && value.f < 0);
    buf_fini(&buf);
}

static void test_an_open_array_gets_its_count_later(void **state)
{
    struct buf buf = {0};
    size_t at;

    (void)state;
    put_nil(&buf);
    at = array_open(&buf);
    put_flag(&buf, true);
    put_flag(&buf, false);
    array_close(&buf, at, 2);
    assert_written(&buf, BYTES("\xc0\xdd\x00\x00\x00\x02\xc3\xc2"));
}

/* ---- with msgpack-c on the other side ---- */

static uint64_t next_random(uint64_t *seed)
{
    *seed = *seed * 6364136223846793005u + 1442695040888963407u;
    return *seed >> 11;
}

/* A whole random value, at most depth levels. */
static void random_put(struct buf *buf, uint64_t *seed, unsigned depth)
{
    static const uint8_t body[300] = {1, 2, 3};
    uint64_t kind = next_random(seed) % (depth == 0 ? 8 : 10);
    uint64_t number = (next_random(seed) << 11 | 5) >> next_random(seed) % 64;
    uint32_t count = (uint32_t)(next_random(seed) % 20);

    switch (kind) {
    case 0:
        put_nil(buf);
        break;
    case 1:
        put_flag(buf, number % 2 == 0);
        break;
    case 2:
        put_u64(buf, number);
        break;
    case 3:
        put_i64(buf, -(int64_t)(number >> 1));
        break;
    case 4:
        put_f64(buf, (double)number / 3);
        break;
    case 5:
        put_str(buf, bytes_of(body, number % sizeof body));
        break;
    case 6:
        put_bin(buf, bytes_of(body, number % sizeof body));
        break;
    case 7:
        put_ext(buf, (int8_t)(uint8_t)number, bytes_of(body, number % sizeof body));
        break;
    case 8:
        put_array(buf, count);
        for (uint32_t i = 0; i < count; i++) {
            random_put(buf, seed, depth - 1);
        }
        break;
    default:
        put_map(buf, count);
        for (uint32_t i = 0; i < 2 * count; i++) {
            random_put(buf, seed, depth - 1);
        }
    }
}

/* What we write msgpack-c reads, and what it writes from that are the same bytes. */
static void test_what_we_write_msgpack_c_reads(void **state)
{
    uint64_t seed = 20260101;

    (void)state;
    for (unsigned round = 0; round < 3000; round++) {
        struct buf buf = {0};
        msgpack_unpacked unpacked;
        msgpack_sbuffer again;
        msgpack_packer packer;
        size_t at = 0;

        random_put(&buf, &seed, 3);
        assert_true(value_is_whole(buf_bytes(&buf), 3));
        msgpack_unpacked_init(&unpacked);
        assert_int_equal(msgpack_unpack_next(&unpacked, (const char *)buf.p, buf.n, &at), MSGPACK_UNPACK_SUCCESS);
        assert_int_equal(at, buf.n);
        msgpack_sbuffer_init(&again);
        msgpack_packer_init(&packer, &again, msgpack_sbuffer_write);
        assert_int_equal(msgpack_pack_object(&packer, unpacked.data), 0);
        assert_int_equal(again.size, buf.n);
        assert_memory_equal(again.data, buf.p, buf.n);
        msgpack_sbuffer_destroy(&again);
        msgpack_unpacked_destroy(&unpacked);
        buf_fini(&buf);
    }
}

static void assert_same(struct cursor *cursor, const msgpack_object *object)
{
    struct value value;

    assert_true(cursor_next(cursor, &value));
    switch (object->type) {
    case MSGPACK_OBJECT_NIL:
        assert_int_equal(value.type, VALUE_NIL);
        break;
    case MSGPACK_OBJECT_BOOLEAN:
        assert_true(value.type == VALUE_FLAG && value.flag == object->via.boolean);
        break;
    case MSGPACK_OBJECT_POSITIVE_INTEGER:
        assert_true(value.type == VALUE_UINT && value.u == object->via.u64);
        break;
    case MSGPACK_OBJECT_NEGATIVE_INTEGER:
        assert_true(value.type == VALUE_INT && value.i == object->via.i64);
        break;
    case MSGPACK_OBJECT_FLOAT32:
    case MSGPACK_OBJECT_FLOAT64:
        assert_true(value.type == VALUE_F64);
        assert_memory_equal(&value.f, &object->via.f64, sizeof value.f);
        break;
    case MSGPACK_OBJECT_STR:
        assert_true(value.type == VALUE_STR &&
                    bytes_equal(value.bytes, bytes_of(object->via.str.ptr, object->via.str.size)));
        break;
    case MSGPACK_OBJECT_BIN:
        assert_true(value.type == VALUE_BIN &&
                    bytes_equal(value.bytes, bytes_of(object->via.bin.ptr, object->via.bin.size)));
        break;
    case MSGPACK_OBJECT_EXT:
        assert_true(value.type == VALUE_EXT && value.ext_type == object->via.ext.type);
        assert_true(bytes_equal(value.bytes, bytes_of(object->via.ext.ptr, object->via.ext.size)));
        break;
    case MSGPACK_OBJECT_ARRAY:
        assert_true(value.type == VALUE_ARRAY && value.count == object->via.array.size);
        for (uint32_t i = 0; i < value.count; i++) {
            assert_same(cursor, &object->via.array.ptr[i]);
        }
        break;
    case MSGPACK_OBJECT_MAP:
        assert_true(value.type == VALUE_MAP && value.count == object->via.map.size);
        for (uint32_t i = 0; i < value.count; i++) {
            assert_same(cursor, &object->via.map.ptr[i].key);
            assert_same(cursor, &object->via.map.ptr[i].val);
        }
        break;
    }
}

/* Random bytes: whatever msgpack-c takes for a value is the same value to us, byte for byte, and what it refuses we
 * refuse. (It refuses by depth too, at 32 levels; these are too short to get there.) */
static void test_we_and_msgpack_c_read_the_same(void **state)
{
    uint64_t seed = 42;
    unsigned read_count = 0;

    (void)state;
    for (unsigned round = 0; round < 200000; round++) {
        uint8_t bytes[24];
        size_t n = 1 + next_random(&seed) % sizeof bytes;
        msgpack_unpacked unpacked;
        struct cursor cursor;
        size_t at = 0;
        bool is_read;

        for (size_t i = 0; i < n; i++) {
            uint64_t chance = next_random(&seed);

            bytes[i] = (uint8_t)(chance % 3 == 0 ? 0x80 + (chance >> 8) % 0x60 : chance >> 8);
        }
        cursor = cursor_of(bytes_of(bytes, n));
        is_read = cursor_skip(&cursor, VALUE_DEPTH_MAX, NULL);
        if (bytes[0] == 0xdd || bytes[0] == 0xdf) {
            continue; /* it would reserve what the head announces */
        }
        if (memchr(bytes, 0xdd, n) != NULL || memchr(bytes, 0xdf, n) != NULL) {
            continue;
        }
        msgpack_unpacked_init(&unpacked);
        assert_int_equal(msgpack_unpack_next(&unpacked, (const char *)bytes, n, &at) == MSGPACK_UNPACK_SUCCESS,
                         is_read);
        if (is_read) {
            assert_int_equal(at, (size_t)(cursor.p - bytes));
            cursor = cursor_of(bytes_of(bytes, n));
            assert_same(&cursor, &unpacked.data);
            read_count++;
        }
        msgpack_unpacked_destroy(&unpacked);
    }
    assert_true(read_count > 10000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_format_is_read),
        cmocka_unit_test(test_a_value_cut_short_is_refused_and_nothing_moves),
        cmocka_unit_test(test_a_count_that_cannot_follow_is_refused),
        cmocka_unit_test(test_no_bytes_are_no_value),
        cmocka_unit_test(test_stepping_over_ends_behind_the_value),
        cmocka_unit_test(test_nesting_is_bounded_exactly),
        cmocka_unit_test(test_integers_take_their_shortest_form),
        cmocka_unit_test(test_none_is_nil_and_empty_is_empty),
        cmocka_unit_test(test_sizes_take_their_shortest_form),
        cmocka_unit_test(test_a_float_is_always_64_bits),
        cmocka_unit_test(test_not_a_number_stays_one),
        cmocka_unit_test(test_an_open_array_gets_its_count_later),
        cmocka_unit_test(test_what_we_write_msgpack_c_reads),
        cmocka_unit_test(test_we_and_msgpack_c_read_the_same),
    };
    return cmocka_run_group_tests_name("codec", tests, NULL, NULL);
}

/*
 * Owns msgpack to JSON text. Must not know tasks. Start at json_from_msgpack.
 */
#include "client/cli/json.h"

#include "client/cli/json_words.h"
#include "common/check.h"
#include "common/codec.h"
#include "common/limits.h"
#include <inttypes.h>
#include <math.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FLOAT_TEXT_SIZE 40

static void put_base64(struct buf *to, const char *word, struct bytes bytes)
{
    buf_printf(to, "{\"%s\":\"", word);
    size_t size = sodium_base64_ENCODED_LEN(bytes.n, sodium_base64_VARIANT_ORIGINAL);
    buf_reserve(to, size);
    (void)sodium_bin2base64((char *)to->p + to->n, size, bytes.p, bytes.n, sodium_base64_VARIANT_ORIGINAL);
    to->n += size - 1; /* without its NUL */
    buf_put(to, "\"}", 2);
}

static void put_escaped(struct buf *to, uint8_t c)
{
    switch (c) {
    case '"':
    case '\\':
        buf_put_u8(to, '\\');
        buf_put_u8(to, c);
        break;
    case '\n':
        buf_put(to, "\\n", 2);
        break;
    case '\t':
        buf_put(to, "\\t", 2);
        break;
    case '\r':
        buf_put(to, "\\r", 2);
        break;
    default:
        buf_printf(to, "\\u%04x", c);
    }
}

static void put_quoted(struct buf *to, struct bytes text)
{
    size_t from = 0;
    buf_put_u8(to, '"');
    for (size_t i = 0; i < text.n; i++) {
        uint8_t c = text.p[i];
        if (c < 0x20 || c == '"' || c == '\\' || c == 0x7f) {
            buf_put(to, text.p + from, i - from);
            put_escaped(to, c);
            from = i + 1;
        }
    }
    if (from < text.n) {
        buf_put(to, text.p + from, text.n - from);
    }
    buf_put_u8(to, '"');
}

void json_put_str(struct buf *to, struct bytes text)
{
    if (bytes_is_utf8(text)) {
        put_quoted(to, text);
    } else {
        put_base64(to, WORD_STR, text);
    }
}

void json_put_text_or_bin(struct buf *to, struct bytes bytes)
{
    if (bytes_is_utf8(bytes)) {
        put_quoted(to, bytes);
    } else {
        put_base64(to, WORD_BIN, bytes);
    }
}

static void put_nan(struct buf *to, double value)
{
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    if (bits == NAN_BITS) {
        buf_printf(to, "{\"" WORD_FLOAT "\":\"NaN\"}");
    } else {
        buf_printf(to, "{\"" WORD_FLOAT "\":\"NaN:%016" PRIx64 "\"}", bits);
    }
}

void json_put_f64(struct buf *to, double value)
{
    char text[FLOAT_TEXT_SIZE];
    if (isnan(value)) {
        put_nan(to, value);
        return;
    }
    if (isinf(value)) {
        buf_printf(to, "{\"" WORD_FLOAT "\":\"%sInfinity\"}", value < 0 ? "-" : "");
        return;
    }
    for (int digits = 15; digits <= 17; digits++) { /* the fewest that read back as the same number */
        (void)snprintf(text, sizeof text, "%.*g", digits, value);
        if (strtod(text, NULL) == value) {
            break;
        }
    }
    bool is_float = strpbrk(text, ".e") != NULL;
    buf_printf(to, "%s%s", text, is_float ? "" : ".0");
}

/* ---- maps ---- */

static int key_compare(const void *a, const void *b)
{
    const struct bytes *x = a;
    const struct bytes *y = b;
    if (x->n != y->n) {
        return x->n < y->n ? -1 : 1;
    }
    return x->n == 0 ? 0 : memcmp(x->p, y->p, x->n);
}

static bool keys_are_distinct(struct bytes *keys, size_t count)
{
    qsort(keys, count, sizeof keys[0], key_compare);
    for (size_t i = 1; i < count; i++) {
        if (key_compare(&keys[i - 1], &keys[i]) == 0) {
            return false;
        }
    }
    return true;
}

static bool key_is_plain(const struct value *key)
{
    return key->type == VALUE_STR && bytes_is_utf8(key->bytes) &&
           (key->bytes.n == 0 || memchr(key->bytes.p, '\0', key->bytes.n) == NULL);
}

/* A JSON object says the map that follows without loss: text keys, each once, and not one of our own words alone. */
static bool map_is_object(struct cursor cursor, uint32_t count, uint32_t depth)
{
    if (count == 0) {
        return true;
    }
    /* The announced count is bounded by the bytes that are left (cursor_next). */
    struct bytes *keys = xcalloc(count, sizeof keys[0]);
    bool is_object = true;
    for (uint32_t i = 0; i < count && is_object; i++) {
        struct value key;
        is_object = cursor_next(&cursor, &key) && key_is_plain(&key) && cursor_skip(&cursor, depth, NULL);
        keys[i] = is_object ? key.bytes : (struct bytes){0};
    }
    if (is_object && count == 1) {
        is_object = json_word_of(keys[0]) == JSON_WORD_NONE;
    }
    is_object = is_object && keys_are_distinct(keys, count);
    free(keys);
    return is_object;
}

static enum quern_err put_value(struct buf *to, struct cursor *cursor, uint32_t depth);

static enum quern_err put_elements(struct buf *to, struct cursor *cursor, uint32_t count, uint32_t depth)
{
    buf_put_u8(to, '[');
    for (uint32_t i = 0; i < count; i++) {
        if (i > 0) {
            buf_put_u8(to, ',');
        }
        enum quern_err err = put_value(to, cursor, depth);
        if (err != QUERN_OK) {
            return err;
        }
    }
    buf_put_u8(to, ']');
    return QUERN_OK;
}

static enum quern_err put_object(struct buf *to, struct cursor *cursor, uint32_t count, uint32_t depth)
{
    buf_put_u8(to, '{');
    for (uint32_t i = 0; i < count; i++) {
        if (i > 0) {
            buf_put_u8(to, ',');
        }
        enum quern_err err = put_value(to, cursor, depth); /* the key: a plain str, checked by map_is_object */
        if (err == QUERN_OK) {
            buf_put_u8(to, ':');
            err = put_value(to, cursor, depth);
        }
        if (err != QUERN_OK) {
            return err;
        }
    }
    buf_put_u8(to, '}');
    return QUERN_OK;
}

static enum quern_err put_pairs(struct buf *to, struct cursor *cursor, uint32_t count, uint32_t depth)
{
    buf_printf(to, "{\"" WORD_MAP "\":[");
    for (uint32_t i = 0; i < count; i++) {
        if (i > 0) {
            buf_put_u8(to, ',');
        }
        enum quern_err err = put_elements(to, cursor, 2, depth);
        if (err != QUERN_OK) {
            return err;
        }
    }
    buf_put(to, "]}", 2);
    return QUERN_OK;
}

/* ---- values ---- */

static void put_ext_value(struct buf *to, const struct value *value)
{
    struct buf inner = {0};
    put_base64(&inner, "", value->bytes);
    /* {"":"..."} without its first four and last byte is the quoted base64. */
    buf_printf(to, "{\"" WORD_EXT "\":[%d,", value->ext_type);
    buf_put(to, inner.p + 4, inner.n - 5);
    buf_put(to, "]}", 2);
    buf_fini(&inner);
}

static void put_scalar(struct buf *to, const struct value *value)
{
    switch (value->type) {
    case VALUE_FLAG:
        buf_printf(to, "%s", value->flag ? "true" : "false");
        break;
    case VALUE_UINT:
        buf_printf(to, "%" PRIu64, value->u);
        break;
    case VALUE_INT:
        buf_printf(to, "%" PRId64, value->i);
        break;
    case VALUE_F64:
        json_put_f64(to, value->f);
        break;
    case VALUE_STR:
        json_put_str(to, value->bytes);
        break;
    case VALUE_BIN:
        put_base64(to, WORD_BIN, value->bytes);
        break;
    case VALUE_EXT:
        put_ext_value(to, value);
        break;
    default:
        buf_put(to, "null", 4);
    }
}

static enum quern_err put_value(struct buf *to, struct cursor *cursor, uint32_t depth)
{
    struct value value;
    if (!cursor_next(cursor, &value)) {
        return QUERN_MALFORMED;
    }
    if (value.type != VALUE_ARRAY && value.type != VALUE_MAP) {
        put_scalar(to, &value);
        return QUERN_OK;
    }
    if (depth == 0) {
        return QUERN_TOO_BIG;
    }
    if (value.type == VALUE_ARRAY) {
        return put_elements(to, cursor, value.count, depth - 1);
    }
    if (map_is_object(*cursor, value.count, depth - 1)) {
        return put_object(to, cursor, value.count, depth - 1);
    }
    return put_pairs(to, cursor, value.count, depth - 1);
}

enum quern_err json_from_msgpack(struct bytes value, struct buf *to)
{
    size_t before = to->n;
    struct cursor cursor = cursor_of(value);
    enum quern_err err = put_value(to, &cursor, VALUE_DEPTH_MAX);
    if (err == QUERN_OK && !cursor_done(&cursor)) {
        err = QUERN_MALFORMED;
    }
    if (err != QUERN_OK) {
        to->n = before;
    }
    return err;
}

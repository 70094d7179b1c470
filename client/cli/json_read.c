/*
 * Owns JSON text to msgpack. Jansson reads the text; its integers end at 63 bits, so integers that need the 64th are
 * rewritten as {"$int": "..."} before it sees them. Must not know tasks. Start at json_to_msgpack.
 */
#include "client/cli/json.h"

#include "client/cli/json_words.h"
#include "common/check.h"
#include "common/codec.h"
#include "common/limits.h"
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <sodium.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Fewer characters than this are an integer of at most 63 bits. */
#define LONG_INTEGER_SIZE 19u
#define NUMBER_SHOWN_SIZE 40

struct reading {
    struct buf *to;
    char *error;
};

static bool refuse(char error[JSON_ERROR_SIZE], const char *format, ...) __attribute__((format(printf, 2, 3)));
static bool refuse(char error[JSON_ERROR_SIZE], const char *format, ...)
{
    va_list list;
    va_start(list, format);
    (void)vsnprintf(error, JSON_ERROR_SIZE, format, list);
    va_end(list);
    return false;
}

enum json_word json_word_of(struct bytes key)
{
    static const struct {
        const char *text;
        enum json_word word;
    } words[] = {{WORD_BIN, JSON_WORD_BIN}, {WORD_STR, JSON_WORD_STR},     {WORD_EXT, JSON_WORD_EXT},
                 {WORD_MAP, JSON_WORD_MAP}, {WORD_FLOAT, JSON_WORD_FLOAT}, {WORD_INT, JSON_WORD_INT}};
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        if (bytes_is(key, words[i].text)) {
            return words[i].word;
        }
    }
    return JSON_WORD_NONE;
}

/* ---- numbers, before Jansson sees them ---- */

static bool is_number_byte(uint8_t c)
{
    return (c >= '0' && c <= '9') || c == '-' || c == '+' || c == '.' || c == 'e' || c == 'E';
}

/* -1: text is no integer; 0: it fits; 1: it needs the 64th bit; 2: it is beyond 64 bits. */
static int integer_class(const char *text)
{
    const char *digits = text + (*text == '-');
    if (*digits == '\0' || digits[strspn(digits, "0123456789")] != '\0') {
        return -1;
    }
    errno = 0;
    (void)strtoll(text, NULL, 10);
    if (errno == 0) {
        return 0;
    }
    errno = 0;
    (void)strtoull(digits, NULL, 10);
    return errno == 0 && *text != '-' ? 1 : 2;
}

/* A real that is not zero must not become zero. */
static bool real_vanishes(const char *text)
{
    size_t mantissa = strcspn(text, "eE");
    size_t nonzero = strcspn(text, "123456789");
    return nonzero < mantissa && strtod(text, NULL) == 0.0;
}

/* Looks at the number token text[0..n). False if it cannot be represented; else what is to stand in its place is
 * appended to rewritten if *is_rewritten became true. */
static bool number_check(const uint8_t *p, size_t n, struct buf *rewritten, bool *is_rewritten, char *error)
{
    char *text = xmalloc(n + 1);
    memcpy(text, p, n);
    text[n] = '\0';
    int class = integer_class(text);
    bool is_ok = true;
    if (class == 2) {
        is_ok = refuse(error, "the integer %.*s%s is beyond 64 bits; write it as text", NUMBER_SHOWN_SIZE, text,
                       n > NUMBER_SHOWN_SIZE ? "..." : "");
    } else if (class == 1) {
        buf_printf(rewritten, "{\"" WORD_INT "\":\"%s\"}", text);
        *is_rewritten = true;
    } else if (class == -1 && real_vanishes(text)) {
        is_ok = refuse(error, "the number %.*s is too small for a double; write it as text", NUMBER_SHOWN_SIZE, text);
    }
    free(text);
    return is_ok;
}

static size_t string_end(struct bytes text, size_t at)
{
    for (at++; at < text.n && text.p[at] != '"'; at++) {
        if (text.p[at] == '\\') {
            at++;
        }
    }
    return at + 1 < text.n ? at + 1 : text.n;
}

/* Copies the text with integers of the 64th bit rewritten; *rewritten stays empty if there is none. */
static bool numbers_rewrite(struct bytes text, struct buf *rewritten, char *error)
{
    size_t copied = 0;
    size_t at = 0;
    while (at < text.n) {
        if (text.p[at] == '"') {
            at = string_end(text, at);
            continue;
        }
        if (!is_number_byte(text.p[at])) {
            at++;
            continue;
        }
        size_t from = at;
        bool has_exponent = false;
        for (; at < text.n && is_number_byte(text.p[at]); at++) {
            has_exponent = has_exponent || text.p[at] == 'e' || text.p[at] == 'E';
        }
        if (at - from < LONG_INTEGER_SIZE && !has_exponent) {
            continue;
        }
        bool is_rewritten = false;
        struct buf number = {0};
        bool is_ok = number_check(text.p + from, at - from, &number, &is_rewritten, error);
        if (is_ok && is_rewritten) {
            buf_put(rewritten, text.p + copied, from - copied);
            buf_put(rewritten, number.p, number.n);
            copied = at;
        }
        buf_fini(&number);
        if (!is_ok) {
            return false;
        }
    }
    if (copied > 0) {
        buf_put(rewritten, text.p + copied, text.n - copied);
    }
    return true;
}

/* ---- objects with a word of ours ---- */

static bool base64_read(struct reading *reading, const char *word, const json_t *json, struct buf *bytes)
{
    if (!json_is_string(json)) {
        return refuse(reading->error, "{\"%s\": ...} wants base64 text", word);
    }
    size_t size = json_string_length(json);
    size_t count = 0;
    buf_reserve(bytes, size + 1);
    if (sodium_base642bin(bytes->p, size + 1, json_string_value(json), size, NULL, &count, NULL,
                          sodium_base64_VARIANT_ORIGINAL) != 0) {
        return refuse(reading->error, "{\"%s\": ...} holds text that is not base64 (RFC 4648, with padding)", word);
    }
    bytes->n = count;
    return true;
}

static bool put_base64_value(struct reading *reading, enum json_word word, const json_t *json)
{
    struct buf bytes = {0};
    bool is_ok = base64_read(reading, word == JSON_WORD_BIN ? WORD_BIN : WORD_STR, json, &bytes);
    if (is_ok && word == JSON_WORD_BIN) {
        put_bin(reading->to, buf_bytes(&bytes));
    } else if (is_ok) {
        put_str(reading->to, buf_bytes(&bytes));
    }
    buf_fini(&bytes);
    return is_ok;
}

static bool put_ext_value(struct reading *reading, const json_t *json)
{
    const json_t *type = json_array_get(json, 0);
    if (json_array_size(json) != 2 || !json_is_integer(type) || json_integer_value(type) < INT8_MIN ||
        json_integer_value(type) > INT8_MAX) {
        return refuse(reading->error, "{\"" WORD_EXT "\": ...} wants [type from -128 to 127, base64 text]");
    }
    struct buf bytes = {0};
    bool is_ok = base64_read(reading, WORD_EXT, json_array_get(json, 1), &bytes);
    if (is_ok) {
        put_ext(reading->to, (int8_t)json_integer_value(type), buf_bytes(&bytes));
    }
    buf_fini(&bytes);
    return is_ok;
}

static bool put_nan_bits(struct reading *reading, const char *hex)
{
    char *end;
    uint64_t bits = strtoull(hex, &end, 16);
    double value;
    memcpy(&value, &bits, sizeof value);
    if (strlen(hex) != 16 || strspn(hex, "0123456789abcdef") != 16 || value == value) {
        return refuse(reading->error, "{\"" WORD_FLOAT "\": \"NaN:BITS\"} wants the 16 hex digits of a NaN");
    }
    put_f64(reading->to, value);
    return true;
}

static bool put_float_value(struct reading *reading, const json_t *json)
{
    const char *text = json_is_string(json) ? json_string_value(json) : "";
    uint64_t bits = NAN_BITS;
    double value;
    if (strncmp(text, "NaN:", 4) == 0) {
        return put_nan_bits(reading, text + 4);
    }
    if (strcmp(text, "NaN") == 0) {
        memcpy(&value, &bits, sizeof value);
    } else if (strcmp(text, "Infinity") == 0) {
        value = __builtin_inf();
    } else if (strcmp(text, "-Infinity") == 0) {
        value = -__builtin_inf();
    } else {
        return refuse(reading->error, "{\"" WORD_FLOAT "\": ...} wants \"NaN\", \"Infinity\" or \"-Infinity\"");
    }
    put_f64(reading->to, value);
    return true;
}

static bool put_int_value(struct reading *reading, const json_t *json)
{
    const char *text = json_is_string(json) ? json_string_value(json) : "";
    int class = integer_class(text);
    if (class != 0 && class != 1) {
        return refuse(reading->error, "{\"" WORD_INT "\": ...} wants the decimal text of an integer of up to 64 bits");
    }
    if (class == 1) {
        put_u64(reading->to, strtoull(text, NULL, 10));
    } else {
        put_i64(reading->to, strtoll(text, NULL, 10));
    }
    return true;
}

static bool put_json(struct reading *reading, const json_t *json, uint32_t depth);

static bool put_map_value(struct reading *reading, const json_t *json, uint32_t depth)
{
    size_t count = json_array_size(json);
    if (!json_is_array(json) || count > UINT32_MAX) {
        return refuse(reading->error, "{\"" WORD_MAP "\": ...} wants [[key, value], ...]");
    }
    put_map(reading->to, (uint32_t)count);
    for (size_t i = 0; i < count; i++) {
        const json_t *pair = json_array_get(json, i);
        if (json_array_size(pair) != 2) {
            return refuse(reading->error, "{\"" WORD_MAP "\": ...} wants [[key, value], ...]");
        }
        if (!put_json(reading, json_array_get(pair, 0), depth) || !put_json(reading, json_array_get(pair, 1), depth)) {
            return false;
        }
    }
    return true;
}

static bool too_deep(struct reading *reading)
{
    return refuse(reading->error, "arrays and objects are nested more than %u levels deep (the arguments are one)",
                  VALUE_DEPTH_MAX);
}

static bool put_word_value(struct reading *reading, enum json_word word, const json_t *json, uint32_t depth)
{
    switch (word) {
    case JSON_WORD_BIN:
    case JSON_WORD_STR:
        return put_base64_value(reading, word, json);
    case JSON_WORD_EXT:
        return put_ext_value(reading, json);
    case JSON_WORD_FLOAT:
        return put_float_value(reading, json);
    case JSON_WORD_INT:
        return put_int_value(reading, json);
    default:
        return depth > 0 ? put_map_value(reading, json, depth - 1) : too_deep(reading);
    }
}

/* ---- values ---- */

static bool put_json_object(struct reading *reading, const json_t *json, uint32_t depth)
{
    const char *key;
    size_t key_size;
    json_t *value;
    json_t *object = (json_t *)(uintptr_t)json; /* jansson walks without changing, but its type is not const */
    if (json_object_size(json) == 1) {
        void *first = json_object_iter(object);
        enum json_word word = json_word_of(bytes_text(json_object_iter_key(first)));
        if (word != JSON_WORD_NONE) {
            return put_word_value(reading, word, json_object_iter_value(first), depth);
        }
    }
    if (depth == 0) {
        return too_deep(reading);
    }
    put_map(reading->to, (uint32_t)json_object_size(json));
    json_object_keylen_foreach(object, key, key_size, value)
    {
        put_str(reading->to, bytes_of(key, key_size));
        if (!put_json(reading, value, depth - 1)) {
            return false;
        }
    }
    return true;
}

static bool put_json_array(struct reading *reading, const json_t *json, uint32_t depth)
{
    if (depth == 0) {
        return too_deep(reading);
    }
    put_array(reading->to, (uint32_t)json_array_size(json));
    for (size_t i = 0; i < json_array_size(json); i++) {
        if (!put_json(reading, json_array_get(json, i), depth - 1)) {
            return false;
        }
    }
    return true;
}

static bool put_json(struct reading *reading, const json_t *json, uint32_t depth)
{
    switch (json_typeof(json)) {
    case JSON_OBJECT:
        return put_json_object(reading, json, depth);
    case JSON_ARRAY:
        return put_json_array(reading, json, depth);
    case JSON_STRING:
        put_str(reading->to, bytes_of(json_string_value(json), json_string_length(json)));
        return true;
    case JSON_INTEGER:
        put_i64(reading->to, json_integer_value(json));
        return true;
    case JSON_REAL:
        put_f64(reading->to, json_real_value(json));
        return true;
    case JSON_TRUE:
    case JSON_FALSE:
        put_flag(reading->to, json_is_true(json));
        return true;
    case JSON_NULL:
        put_nil(reading->to);
        return true;
    }
    return refuse(reading->error, "a value of an unknown type");
}

bool json_to_msgpack(struct bytes text, uint32_t depth, struct buf *to, char error[JSON_ERROR_SIZE])
{
    struct buf rewritten = {0};
    struct reading reading = {.to = to, .error = error};
    size_t before = to->n;
    bool is_ok = numbers_rewrite(text, &rewritten, error);
    if (is_ok) {
        json_error_t why;
        struct bytes source = rewritten.n > 0 ? buf_bytes(&rewritten) : text;
        json_t *json = json_loadb(source.n > 0 ? (const char *)source.p : "", source.n,
                                  JSON_DECODE_ANY | JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &why);
        is_ok = json != NULL ? put_json(&reading, json, depth) : refuse(error, "not JSON: %s", why.text);
        json_decref(json);
    }
    if (!is_ok) {
        to->n = before;
    }
    buf_fini(&rewritten);
    return is_ok;
}

/*
 * value.c owns the typed reader and writer of quern/value.h, on the primitives of codec.h.
 * It must not know tasks, messages or who calls.
 * Start reading at reader_next and writer_may.
 */
#include "quern/value.h"

#include "common/codec.h"
#include "common/limits.h"

#include <stdlib.h>
#include <string.h>

_Static_assert(QUERN_VALUE_DEPTH_MAX == VALUE_DEPTH_MAX, "one bound, two names");

/* ================= reading ================= */

static enum quern_err reader_fail(struct quern_reader *reader, enum quern_err err)
{
    reader->err = err;
    return err;
}

static bool reader_at_end(const struct quern_reader *reader)
{
    return reader->depth == 0 ? reader->p == reader->end : reader->left[reader->depth] == 0;
}

/* Look at the next head without moving; an error is remembered. */
static enum quern_err reader_look(struct quern_reader *reader, struct value *value_out, struct cursor *behind_out)
{
    struct cursor cursor = {.p = reader->p, .end = reader->end};

    if (reader->err != QUERN_OK) {
        return reader->err;
    }
    if (reader_at_end(reader)) {
        return reader_fail(reader, QUERN_END);
    }
    if (!cursor_next(&cursor, value_out)) {
        return reader_fail(reader, QUERN_MALFORMED);
    }
    *behind_out = cursor;
    return QUERN_OK;
}

static void reader_move(struct quern_reader *reader, const uint8_t *behind)
{
    reader->p = behind;
    if (reader->depth > 0) {
        reader->left[reader->depth]--;
    }
}

/* Read the next head if it is of this type, else nothing moves and TYPE is remembered. */
static enum quern_err reader_next(struct quern_reader *reader, enum value_type type, struct value *value_out)
{
    struct cursor behind;
    enum quern_err err = reader_look(reader, value_out, &behind);

    if (err != QUERN_OK) {
        return err;
    }
    if (value_out->type != type) {
        return reader_fail(reader, QUERN_TYPE);
    }
    reader_move(reader, behind.p);
    return QUERN_OK;
}

void quern_reader_init(struct quern_reader *reader, const void *p, size_t n)
{
    struct cursor cursor = cursor_of(bytes_of(p, n));

    reader->p = cursor.p;
    reader->end = cursor.end;
    reader->left[0] = 0;
    reader->depth = 0;
    reader->err = QUERN_OK;
}

enum quern_err quern_reader_error(const struct quern_reader *reader)
{
    return reader->err;
}

enum quern_type quern_peek(struct quern_reader *reader)
{
    static const enum quern_type type_of[] = {
        [VALUE_NIL] = QUERN_TYPE_NIL, [VALUE_FLAG] = QUERN_TYPE_BOOL, [VALUE_UINT] = QUERN_TYPE_INT,
        [VALUE_INT] = QUERN_TYPE_INT, [VALUE_F64] = QUERN_TYPE_FLOAT, [VALUE_STR] = QUERN_TYPE_STR,
        [VALUE_BIN] = QUERN_TYPE_BIN, [VALUE_EXT] = QUERN_TYPE_EXT,   [VALUE_ARRAY] = QUERN_TYPE_ARRAY,
        [VALUE_MAP] = QUERN_TYPE_MAP,
    };
    struct value value;
    struct cursor behind;

    if (reader->err != QUERN_OK || reader_at_end(reader) || reader_look(reader, &value, &behind) != QUERN_OK) {
        return QUERN_TYPE_NONE;
    }
    return type_of[value.type];
}

enum quern_err quern_read_nil(struct quern_reader *reader)
{
    struct value value;

    return reader_next(reader, VALUE_NIL, &value);
}

enum quern_err quern_read_bool(struct quern_reader *reader, bool *value_out)
{
    struct value value;
    enum quern_err err = reader_next(reader, VALUE_FLAG, &value);

    if (err == QUERN_OK) {
        *value_out = value.flag;
    }
    return err;
}

/* Does the value belong to a read of numbers, and does it fit? */
static enum quern_err i64_of(const struct value *value, int64_t *number_out)
{
    if (value->type == VALUE_INT) {
        *number_out = value->i;
        return QUERN_OK;
    }
    if (value->type != VALUE_UINT) {
        return QUERN_TYPE;
    }
    if (value->u > INT64_MAX) {
        return QUERN_RANGE;
    }
    *number_out = (int64_t)value->u;
    return QUERN_OK;
}

static enum quern_err u64_of(const struct value *value, uint64_t *number_out)
{
    if (value->type == VALUE_UINT) {
        *number_out = value->u;
        return QUERN_OK;
    }
    return value->type == VALUE_INT ? QUERN_RANGE : QUERN_TYPE;
}

/* Is every bit of it within 53 neighbouring ones? */
static bool is_exact(uint64_t size)
{
    return size == 0 || size >> __builtin_ctzll(size) < (uint64_t)1 << 53;
}

static enum quern_err f64_of(const struct value *value, double *number_out)
{
    uint64_t size;

    switch (value->type) {
    case VALUE_F64:
        *number_out = value->f;
        return QUERN_OK;
    case VALUE_UINT:
        *number_out = (double)value->u;
        return is_exact(value->u) ? QUERN_OK : QUERN_RANGE;
    case VALUE_INT:
        size = 0 - (uint64_t)value->i;
        *number_out = (double)value->i;
        return is_exact(size) ? QUERN_OK : QUERN_RANGE;
    default:
        return QUERN_TYPE;
    }
}

#define NUMBER_READ(name, type)                                                                                        \
    enum quern_err quern_read_##name(struct quern_reader *reader, type *value_out)                                     \
    {                                                                                                                  \
        struct value value;                                                                                            \
        struct cursor behind;                                                                                          \
        type number = 0;                                                                                               \
        enum quern_err err = reader_look(reader, &value, &behind);                                                     \
                                                                                                                       \
        if (err != QUERN_OK) {                                                                                         \
            return err;                                                                                                \
        }                                                                                                              \
        err = name##_of(&value, &number);                                                                              \
        if (err != QUERN_OK) {                                                                                         \
            return reader_fail(reader, err);                                                                           \
        }                                                                                                              \
        reader_move(reader, behind.p);                                                                                 \
        *value_out = number;                                                                                           \
        return QUERN_OK;                                                                                               \
    }
NUMBER_READ(i64, int64_t)
NUMBER_READ(u64, uint64_t)
NUMBER_READ(f64, double)

enum quern_err quern_read_str(struct quern_reader *reader, const char **p_out, size_t *n_out)
{
    struct value value;
    enum quern_err err = reader_next(reader, VALUE_STR, &value);

    if (err == QUERN_OK) {
        *p_out = (const char *)value.bytes.p;
        *n_out = value.bytes.n;
    }
    return err;
}

enum quern_err quern_read_bin(struct quern_reader *reader, const void **p_out, size_t *n_out)
{
    struct value value;
    enum quern_err err = reader_next(reader, VALUE_BIN, &value);

    if (err == QUERN_OK) {
        *p_out = value.bytes.p;
        *n_out = value.bytes.n;
    }
    return err;
}

enum quern_err quern_read_bytes(struct quern_reader *reader, const void **p_out, size_t *n_out)
{
    const char *text;
    enum quern_err err;

    if (quern_peek(reader) != QUERN_TYPE_STR) {
        return quern_read_bin(reader, p_out, n_out);
    }
    err = quern_read_str(reader, &text, n_out);
    if (err == QUERN_OK) {
        *p_out = text;
    }
    return err;
}

enum quern_err quern_read_ext(struct quern_reader *reader, int *type_out, const void **p_out, size_t *n_out)
{
    struct value value;
    enum quern_err err = reader_next(reader, VALUE_EXT, &value);

    if (err == QUERN_OK) {
        *type_out = value.ext_type;
        *p_out = value.bytes.p;
        *n_out = value.bytes.n;
    }
    return err;
}

static enum quern_err reader_enter(struct quern_reader *reader, enum value_type type, size_t *count_out)
{
    struct value value;
    enum quern_err err = reader_next(reader, type, &value);

    if (err != QUERN_OK) {
        return err;
    }
    if (reader->depth == QUERN_VALUE_DEPTH_MAX) {
        return reader_fail(reader, QUERN_TOO_BIG);
    }
    reader->depth++;
    reader->left[reader->depth] = type == VALUE_MAP ? 2 * (uint64_t)value.count : value.count;
    if (count_out != NULL) {
        *count_out = value.count;
    }
    return QUERN_OK;
}

enum quern_err quern_read_array(struct quern_reader *reader, size_t *count_out)
{
    return reader_enter(reader, VALUE_ARRAY, count_out);
}

enum quern_err quern_read_map(struct quern_reader *reader, size_t *count_out)
{
    return reader_enter(reader, VALUE_MAP, count_out);
}

enum quern_err quern_read_any(struct quern_reader *reader, const void **p_out, size_t *n_out)
{
    struct cursor cursor = {.p = reader->p, .end = reader->end};
    struct bytes value;
    enum quern_err err = reader->err;

    if (err != QUERN_OK) {
        return err;
    }
    if (reader_at_end(reader)) {
        return reader_fail(reader, QUERN_END);
    }
    err = cursor_step(&cursor, QUERN_VALUE_DEPTH_MAX - reader->depth, &value);
    if (err != QUERN_OK) {
        return reader_fail(reader, err);
    }
    reader_move(reader, cursor.p);
    if (p_out != NULL) {
        *p_out = value.p;
    }
    if (n_out != NULL) {
        *n_out = value.n;
    }
    return QUERN_OK;
}

enum quern_err quern_read_close(struct quern_reader *reader)
{
    if (reader->err != QUERN_OK) {
        return reader->err;
    }
    if (reader->depth == 0) {
        return reader_fail(reader, QUERN_INVALID);
    }
    while (reader->left[reader->depth] > 0) {
        enum quern_err err = quern_read_any(reader, NULL, NULL);

        if (err != QUERN_OK) {
            return err;
        }
    }
    reader->depth--;
    return QUERN_OK;
}

/* ================= writing ================= */

struct quern_writer {
    struct buf buf;
    uint64_t left[QUERN_VALUE_DEPTH_MAX + 1]; /* values to come at each open level; at level 0 the one value */
    unsigned depth;
    enum quern_err err;
};

struct quern_writer *quern_writer_new(void)
{
    struct quern_writer *writer = calloc(1, sizeof *writer);

    if (writer != NULL) {
        quern_writer_reset(writer);
    }
    return writer;
}

void quern_writer_free(struct quern_writer *writer)
{
    if (writer != NULL) {
        buf_fini(&writer->buf);
        free(writer);
    }
}

void quern_writer_reset(struct quern_writer *writer)
{
    writer->buf.n = 0;
    writer->left[0] = 1;
    writer->depth = 0;
    writer->err = QUERN_OK;
}

enum quern_err quern_writer_error(const struct quern_writer *writer)
{
    return writer->err;
}

static bool writer_is_whole(const struct quern_writer *writer)
{
    return writer->err == QUERN_OK && writer->depth == 0 && writer->left[0] == 0;
}

bool quern_writer_is_empty(const struct quern_writer *writer)
{
    return writer->err == QUERN_OK && writer->depth == 0 && writer->left[0] == 1;
}

void quern_writer_bytes(const struct quern_writer *writer, const void **p_out, size_t *n_out)
{
    bool is_whole = writer_is_whole(writer);

    *p_out = is_whole ? writer->buf.p : NULL;
    *n_out = is_whole ? writer->buf.n : 0;
}

/* Bytes in front of the body of any value. */
#define HEAD_SIZE_MAX 9u

/* May a value whose body takes body_size bytes be written now? Then there is room for it, else why not is remembered.
 */
static bool writer_may(struct quern_writer *writer, size_t body_size)
{
    if (writer->err != QUERN_OK) {
        return false;
    }
    if (writer->left[writer->depth] == 0) {
        writer->err = QUERN_INVALID;
    } else if (body_size > PAYLOAD_SIZE_MAX || writer->buf.n + body_size > PAYLOAD_SIZE_MAX) {
        writer->err = QUERN_TOO_BIG;
    } else if (!buf_try_reserve(&writer->buf, HEAD_SIZE_MAX + body_size)) {
        writer->err = QUERN_NO_MEMORY;
    }
    return writer->err == QUERN_OK;
}

/* One value was written; levels that it completed close. */
static void writer_wrote(struct quern_writer *writer)
{
    if (writer->buf.n > PAYLOAD_SIZE_MAX) {
        writer->err = QUERN_TOO_BIG;
        return;
    }
    writer->left[writer->depth]--;
    while (writer->depth > 0 && writer->left[writer->depth] == 0) {
        writer->depth--;
    }
}

/* put: how the codec writes it. */
#define VALUE_WRITE(body_size, put)                                                                                    \
    if (writer_may(writer, (body_size))) {                                                                             \
        put;                                                                                                           \
        writer_wrote(writer);                                                                                          \
    }

void quern_write_nil(struct quern_writer *writer)
{
    VALUE_WRITE(0, put_nil(&writer->buf))
}

void quern_write_bool(struct quern_writer *writer, bool value)
{
    VALUE_WRITE(0, put_flag(&writer->buf, value))
}

void quern_write_i64(struct quern_writer *writer, int64_t value)
{
    VALUE_WRITE(0, put_i64(&writer->buf, value))
}

void quern_write_u64(struct quern_writer *writer, uint64_t value)
{
    VALUE_WRITE(0, put_u64(&writer->buf, value))
}

void quern_write_f64(struct quern_writer *writer, double value)
{
    VALUE_WRITE(0, put_f64(&writer->buf, value))
}

/* The codec writes {NULL, 0} as nil; here an empty body is an empty body, wherever it points. */
static struct bytes body_of(const void *p, size_t n)
{
    return n == 0 ? bytes_of("", 0) : bytes_of(p, n);
}

void quern_write_str(struct quern_writer *writer, const char *p, size_t n)
{
    VALUE_WRITE(n, put_str(&writer->buf, body_of(p, n)))
}

void quern_write_text(struct quern_writer *writer, const char *text)
{
    if (text == NULL) {
        quern_write_nil(writer);
    } else {
        quern_write_str(writer, text, strlen(text));
    }
}

void quern_write_bin(struct quern_writer *writer, const void *p, size_t n)
{
    VALUE_WRITE(n, put_bin(&writer->buf, body_of(p, n)))
}

void quern_write_ext(struct quern_writer *writer, int type, const void *p, size_t n)
{
    if (writer_may(writer, n)) {
        if (type < INT8_MIN || type > INT8_MAX) {
            writer->err = QUERN_INVALID;
            return;
        }
        put_ext(&writer->buf, (int8_t)type, body_of(p, n));
        writer_wrote(writer);
    }
}

/* A level opens with its head; one without values is whole at once. */
static void writer_enter(struct quern_writer *writer, size_t count, enum value_type type)
{
    if (!writer_may(writer, 0)) {
        return;
    }
    if (count > UINT32_MAX || writer->depth == QUERN_VALUE_DEPTH_MAX) {
        writer->err = QUERN_INVALID;
        return;
    }
    if (type == VALUE_MAP) {
        put_map(&writer->buf, (uint32_t)count);
    } else {
        put_array(&writer->buf, (uint32_t)count);
    }
    if (count == 0) {
        writer_wrote(writer);
        return;
    }
    writer->left[writer->depth]--;
    writer->depth++;
    writer->left[writer->depth] = type == VALUE_MAP ? 2 * (uint64_t)count : count;
}

void quern_write_array(struct quern_writer *writer, size_t count)
{
    writer_enter(writer, count, VALUE_ARRAY);
}

void quern_write_map(struct quern_writer *writer, size_t count)
{
    writer_enter(writer, count, VALUE_MAP);
}

void quern_write_raw(struct quern_writer *writer, const void *p, size_t n)
{
    if (writer_may(writer, n)) {
        if (!value_is_whole(bytes_of(p, n), QUERN_VALUE_DEPTH_MAX - writer->depth)) {
            writer->err = QUERN_INVALID;
            return;
        }
        put_raw(&writer->buf, bytes_of(p, n));
        writer_wrote(writer);
    }
}

/*
 * codec.c owns msgpack: writing into a buf (what is most frequent by hand, the rest through msgpack-c's packer),
 * reading with a cursor that allocates nothing. It must not know messages, nor what a value means. Start reading at
 * cursor_next.
 */
#include "common/codec.h"

#include "common/check.h"
#include "common/limits.h"

#include <endian.h>
#include <msgpack/pack.h>
#include <string.h>

/* ================= writing ================= */

static int sink_write(void *data, const char *p, size_t n)
{
    struct buf *buf = data;

    if (buf->cap - buf->n < n) {
        buf_reserve(buf, n);
    }
    memcpy(buf->p + buf->n, p, n);
    buf->n += n;
    return 0;
}

static msgpack_packer packer_of(struct buf *buf)
{
    return (msgpack_packer){.data = buf, .callback = sink_write};
}

#define ARRAY32_HEAD 0xdd
#define ARRAY32_HEAD_SIZE 5u

static void put_byte(struct buf *buf, uint8_t byte)
{
    buf_reserve(buf, 1);
    buf->p[buf->n++] = byte;
}

/* A head byte and a big-endian number of so many bytes. */
static void put_wide(struct buf *buf, uint8_t head, uint64_t number, unsigned size)
{
    buf_reserve(buf, HEAD_SIZE_MAX);
    buf->n = (size_t)(wide_at(buf->p + buf->n, head, number, size) - buf->p);
}

void put_nil(struct buf *buf)
{
    put_byte(buf, 0xc0);
}

void put_flag(struct buf *buf, bool value)
{
    put_byte(buf, value ? 0xc3 : 0xc2);
}

uint8_t *u64_at_wide(uint8_t *at, uint64_t value)
{
    if (value <= UINT8_MAX) {
        return wide_at(at, 0xcc, value, 1);
    }
    if (value <= UINT16_MAX) {
        return wide_at(at, 0xcd, value, 2);
    }
    return value <= UINT32_MAX ? wide_at(at, 0xce, value, 4) : wide_at(at, 0xcf, value, 8);
}

void put_u64(struct buf *buf, uint64_t value)
{
    buf_reserve(buf, HEAD_SIZE_MAX);
    buf->n = (size_t)(u64_at(buf->p + buf->n, value) - buf->p);
}

void put_i64(struct buf *buf, int64_t value)
{
    msgpack_packer packer = packer_of(buf);

    msgpack_pack_int64(&packer, value);
}

void put_f64(struct buf *buf, double value)
{
    msgpack_packer packer = packer_of(buf);

    msgpack_pack_double(&packer, value);
}

void put_str(struct buf *buf, struct bytes text)
{
    if (text.p == NULL) {
        put_nil(buf);
        return;
    }
    CHECK(text.n <= UINT32_MAX);
    buf_reserve(buf, text.n + HEAD_SIZE_MAX);
    if (text.n < 32) {
        put_byte(buf, (uint8_t)(0xa0 | text.n));
    } else if (text.n <= UINT8_MAX) {
        put_wide(buf, 0xd9, text.n, 1);
    } else if (text.n <= UINT16_MAX) {
        put_wide(buf, 0xda, text.n, 2);
    } else {
        put_wide(buf, 0xdb, text.n, 4);
    }
    buf_put(buf, text.p, text.n);
}

void put_text(struct buf *buf, const char *text)
{
    put_str(buf, bytes_text(text));
}

uint8_t *bin_at_wide(uint8_t *at, struct bytes bytes)
{
    CHECK(bytes.n <= UINT32_MAX);
    at = bytes.n <= UINT16_MAX ? wide_at(at, 0xc5, bytes.n, 2) : wide_at(at, 0xc6, bytes.n, 4);
    memcpy(at, bytes.p, bytes.n);
    return at + bytes.n;
}

void put_bin(struct buf *buf, struct bytes bytes)
{
    buf_reserve(buf, bytes.n + HEAD_SIZE_MAX);
    buf->n = (size_t)(bin_at(buf->p + buf->n, bytes) - buf->p);
}

void put_ext(struct buf *buf, int8_t type, struct bytes bytes)
{
    msgpack_packer packer = packer_of(buf);

    CHECK(bytes.n <= UINT32_MAX);
    msgpack_pack_ext(&packer, bytes.n, type);
    if (bytes.n > 0) {
        msgpack_pack_ext_body(&packer, bytes.p, bytes.n);
    }
}

void put_array(struct buf *buf, uint32_t count)
{
    if (count < 16) {
        put_byte(buf, ARRAY_HEAD_OF(count));
    } else if (count <= UINT16_MAX) {
        put_wide(buf, 0xdc, count, 2);
    } else {
        put_wide(buf, ARRAY32_HEAD, count, 4);
    }
}

void put_map(struct buf *buf, uint32_t count)
{
    msgpack_packer packer = packer_of(buf);

    msgpack_pack_map(&packer, count);
}

void put_raw(struct buf *buf, struct bytes value)
{
    if (value.n == 0) {
        put_nil(buf);
        return;
    }
    buf_put(buf, value.p, value.n);
}

size_t array_open(struct buf *buf)
{
    static const uint8_t head[ARRAY32_HEAD_SIZE] = {ARRAY32_HEAD, 0, 0, 0, 0};

    buf_put(buf, head, sizeof head);
    return buf->n - ARRAY32_HEAD_SIZE;
}

void array_close(struct buf *buf, size_t at, uint32_t count)
{
    CHECK(at + ARRAY32_HEAD_SIZE <= buf->n && buf->p[at] == ARRAY32_HEAD);
    uint32_t big = htobe32(count);
    memcpy(buf->p + at + 1, &big, sizeof big);
}

/* ================= reading ================= */

struct cursor cursor_of(struct bytes bytes)
{
    static const uint8_t nothing[1];
    const uint8_t *p = bytes.n == 0 ? nothing : bytes.p; /* so that views into it are never NULL */

    return (struct cursor){.p = p, .end = p + bytes.n};
}

static size_t left_of(const struct cursor *cursor)
{
    return (size_t)(cursor->end - cursor->p);
}

/* A big-endian number of size bytes behind the head byte. */
static bool number_next(struct cursor *cursor, size_t size, uint64_t *number_out)
{
    uint64_t number = 0;

    if (left_of(cursor) < size) {
        return false;
    }
    if (left_of(cursor) >= sizeof number) { /* at one stroke */
        memcpy(&number, cursor->p, sizeof number);
        number = be64toh(number) >> (64 - 8 * size);
    } else {
        for (size_t i = 0; i < size; i++) {
            number = number << 8 | cursor->p[i];
        }
    }
    cursor->p += size;
    *number_out = number;
    return true;
}

static bool uint_next(struct cursor *cursor, size_t size, struct value *value)
{
    value->type = VALUE_UINT;
    return number_next(cursor, size, &value->u);
}

static bool int_next(struct cursor *cursor, size_t size, struct value *value)
{
    uint64_t number;
    unsigned shift = 64 - 8 * (unsigned)size;

    if (!number_next(cursor, size, &number)) {
        return false;
    }
    value->i = (int64_t)(number << shift) >> shift;
    value->type = value->i < 0 ? VALUE_INT : VALUE_UINT;
    value->u = value->i < 0 ? 0 : (uint64_t)value->i;
    return true;
}

static bool float_next(struct cursor *cursor, size_t size, struct value *value)
{
    uint64_t number;

    if (!number_next(cursor, size, &number)) {
        return false;
    }
    value->type = VALUE_F64;
    if (size == sizeof(float)) {
        uint32_t narrow = (uint32_t)number;
        float f;

        memcpy(&f, &narrow, sizeof f);
        value->f = (double)f;
    } else {
        memcpy(&value->f, &number, sizeof value->f);
    }
    return true;
}

static bool body_next(struct cursor *cursor, enum value_type type, uint64_t size, struct value *value)
{
    if (left_of(cursor) < size) {
        return false;
    }
    value->type = type;
    value->bytes = bytes_of(cursor->p, (size_t)size);
    cursor->p += size;
    return true;
}

static bool ext_next(struct cursor *cursor, uint64_t size, struct value *value)
{
    uint64_t type;

    if (!number_next(cursor, 1, &type)) {
        return false;
    }
    value->ext_type = (int8_t)(uint8_t)type;
    return body_next(cursor, VALUE_EXT, size, value);
}

/* Every element takes a byte at least, so a count beyond the bytes that are left announces what cannot follow. */
static bool count_next(struct cursor *cursor, enum value_type type, uint64_t count, struct value *value)
{
    if (left_of(cursor) < (type == VALUE_MAP ? 2 * count : count)) {
        return false;
    }
    value->type = type;
    value->count = (uint32_t)count;
    return true;
}

static bool sized_next(struct cursor *cursor, enum value_type type, size_t size_size, struct value *value)
{
    uint64_t size;

    if (!number_next(cursor, size_size, &size)) {
        return false;
    }
    switch (type) {
    case VALUE_ARRAY:
    case VALUE_MAP:
        return count_next(cursor, type, size, value);
    case VALUE_EXT:
        return ext_next(cursor, size, value);
    default:
        return body_next(cursor, type, size, value);
    }
}

static bool flag_set(struct value *value, bool flag)
{
    value->type = VALUE_FLAG;
    value->flag = flag;
    return true;
}

/* Heads 0xc0..0xdf: the byte says type and width; the table of the msgpack specification. */
static bool wide_next(struct cursor *cursor, uint8_t head, struct value *value)
{
    switch (head) {
    case 0xc0:
        value->type = VALUE_NIL;
        return true;
    case 0xc2:
    case 0xc3:
        return flag_set(value, head == 0xc3);
    case 0xc4:
    case 0xc5:
    case 0xc6:
        return sized_next(cursor, VALUE_BIN, (size_t)1 << (head - 0xc4), value);
    case 0xc7:
    case 0xc8:
    case 0xc9:
        return sized_next(cursor, VALUE_EXT, (size_t)1 << (head - 0xc7), value);
    case 0xca:
        return float_next(cursor, sizeof(float), value);
    case 0xcb:
        return float_next(cursor, sizeof(double), value);
    case 0xcc:
    case 0xcd:
    case 0xce:
    case 0xcf:
        return uint_next(cursor, (size_t)1 << (head - 0xcc), value);
    case 0xd0:
    case 0xd1:
    case 0xd2:
    case 0xd3:
        return int_next(cursor, (size_t)1 << (head - 0xd0), value);
    case 0xd4:
    case 0xd5:
    case 0xd6:
    case 0xd7:
    case 0xd8:
        return ext_next(cursor, (uint64_t)1 << (head - 0xd4), value);
    case 0xd9:
    case 0xda:
    case 0xdb:
        return sized_next(cursor, VALUE_STR, (size_t)1 << (head - 0xd9), value);
    case 0xdc:
    case 0xdd:
        return sized_next(cursor, VALUE_ARRAY, (size_t)2 << (head - 0xdc), value);
    case 0xde:
    case 0xdf:
        return sized_next(cursor, VALUE_MAP, (size_t)2 << (head - 0xde), value);
    default:
        return false; /* 0xc1 is never used */
    }
}

static bool head_next(struct cursor *cursor, struct value *value)
{
    uint8_t head = *cursor->p++;

    if (head < 0x80) {
        value->type = VALUE_UINT;
        value->u = head;
        return true;
    }
    if (head < 0x90) {
        return count_next(cursor, VALUE_MAP, head & 0x0fu, value);
    }
    if (head < 0xa0) {
        return count_next(cursor, VALUE_ARRAY, head & 0x0fu, value);
    }
    if (head < 0xc0) {
        return body_next(cursor, VALUE_STR, head & 0x1fu, value);
    }
    if (head < 0xe0) {
        return wide_next(cursor, head, value);
    }
    value->type = VALUE_INT;
    value->i = (int8_t)head;
    return true;
}

bool cursor_next(struct cursor *cursor, struct value *value_out)
{
    struct cursor at = *cursor;

    if (cursor_done(&at) || !head_next(&at, value_out)) {
        return false;
    }
    *cursor = at;
    return true;
}

/* Values that follow a head before it is whole; 0 for a scalar. */
static uint64_t children_of(const struct value *value)
{
    switch (value->type) {
    case VALUE_ARRAY:
        return value->count;
    case VALUE_MAP:
        return 2 * (uint64_t)value->count;
    default:
        return 0;
    }
}

static bool is_container(const struct value *value)
{
    return value->type == VALUE_ARRAY || value->type == VALUE_MAP;
}

/* Bytes of a value whose first byte alone says how many; 0: it does not. */
static size_t fixed_size(uint8_t head)
{
    static const uint8_t sizes[0x20] = {
        /* of 0xc0..0xdf: nil, flags, floats, numbers */
        [0x00] = 1, [0x02] = 1, [0x03] = 1, [0x0a] = 5, [0x0b] = 9, [0x0c] = 2, [0x0d] = 3,
        [0x0e] = 5, [0x0f] = 9, [0x10] = 2, [0x11] = 3, [0x12] = 5, [0x13] = 9};

    if (head < 0x80 || head >= 0xe0) {
        return 1;
    }
    return head < 0xc0 ? 0 : sizes[head - 0xc0];
}

/* True: it stood before one of those, and now stands behind it. */
static bool fixed_skip(struct cursor *cursor)
{
    size_t size = cursor_done(cursor) ? 0 : fixed_size(*cursor->p);

    if (size == 0 || size > left_of(cursor)) {
        return false;
    }
    cursor->p += size;
    return true;
}

enum quern_err cursor_step(struct cursor *cursor, uint32_t depth_max, struct bytes *value_out)
{
    uint64_t left[VALUE_DEPTH_MAX + 1]; /* values still to come at each open level */
    uint32_t depth = 0;
    struct cursor at = *cursor;

    CHECK(depth_max <= VALUE_DEPTH_MAX);
    left[0] = 1;
    for (;;) {
        struct value value;

        while (left[depth] == 0 && depth > 0) {
            depth--;
        }
        if (left[depth] == 0) {
            break;
        }
        left[depth]--;
        if (fixed_skip(&at)) {
            continue; /* most are numbers: nobody asks here which */
        }
        if (!cursor_next(&at, &value)) {
            return QUERN_MALFORMED;
        }
        if (is_container(&value)) {
            if (depth == depth_max) {
                return QUERN_TOO_BIG;
            }
            left[++depth] = children_of(&value);
        }
    }
    if (value_out != NULL) {
        *value_out = bytes_of(cursor->p, (size_t)(at.p - cursor->p));
    }
    cursor->p = at.p;
    return QUERN_OK;
}

bool cursor_skip(struct cursor *cursor, uint32_t depth_max, struct bytes *value_out)
{
    return cursor_step(cursor, depth_max, value_out) == QUERN_OK;
}

bool value_is_whole(struct bytes bytes, uint32_t depth_max)
{
    struct cursor cursor = cursor_of(bytes);

    return cursor_skip(&cursor, depth_max, NULL) && cursor_done(&cursor);
}

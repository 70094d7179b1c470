/*
 * msgpack: writing into a buf (by msgpack-c's packer) and reading with a bounds-checked cursor.
 * The one file that includes msgpack.h is codec.c. Reading is done by hand because an envelope comes from outside:
 * the cursor allocates nothing, so no declared length can make it allocate (msgpack-c reserves what a header
 * announces, 96 GB for five bytes), and it does not care how deep a payload is.
 */
#ifndef QUERN_COMMON_CODEC_H
#define QUERN_COMMON_CODEC_H

#include "common/bytes.h"
#include "common/ids.h"
#include "quern/err.h"

#include <endian.h>
#include <string.h>

/* ---- writing ---- */
void put_nil(struct buf *buf);
void put_flag(struct buf *buf, bool value);
void put_u64(struct buf *buf, uint64_t value); /* shortest form */
void put_i64(struct buf *buf, int64_t value);
void put_f64(struct buf *buf, double value);
void put_str(struct buf *buf, struct bytes text);  /* {NULL, 0} is written as nil */
void put_text(struct buf *buf, const char *text);  /* NULL is written as nil */
void put_bin(struct buf *buf, struct bytes bytes); /* {NULL, 0} is written as nil */
void put_ext(struct buf *buf, int8_t type, struct bytes bytes);
void put_array(struct buf *buf, uint32_t count);
void put_map(struct buf *buf, uint32_t count);
void put_raw(struct buf *buf, struct bytes value); /* one msgpack value already; {NULL, 0} is written as nil */

/* The same where there is room already (HEAD_SIZE_MAX besides the bytes); they return what follows. */
#define HEAD_SIZE_MAX 9u                                /* a head byte and a number of eight */
#define ARRAY_HEAD_OF(count) (uint8_t)(0x90u | (count)) /* of fewer than 16 */
uint8_t *u64_at_wide(uint8_t *at, uint64_t value);
uint8_t *bin_at_wide(uint8_t *at, struct bytes bytes);
static inline uint8_t *wide_at(uint8_t *at, uint8_t head, uint64_t number, unsigned size)
{
    uint64_t big = htobe64(number << (64 - 8 * size));
    at[0] = head;
    memcpy(at + 1, &big, sizeof big); /* what is too much is written over by what follows */
    return at + 1 + size;
}
static inline uint8_t *u64_at(uint8_t *at, uint64_t value)
{
    if (value < 0x80) { /* mostly */
        *at = (uint8_t)value;
        return at + 1;
    }
    return u64_at_wide(at, value);
}
static inline uint8_t *bin_at(uint8_t *at, struct bytes bytes)
{
    if (bytes.p == NULL) {
        *at = 0xc0;
        return at + 1;
    }
    if (bytes.n > UINT8_MAX) {
        return bin_at_wide(at, bytes);
    }
    at[0] = 0xc4;
    at[1] = (uint8_t)bytes.n;
    memcpy(at + 2, bytes.p, bytes.n);
    return at + 2 + bytes.n;
}

/* A five-byte array header whose count is written later. Returns its offset for array_close. */
size_t array_open(struct buf *buf);
void array_close(struct buf *buf, size_t at, uint32_t count);

/* ---- reading ---- */
enum value_type {
    VALUE_NIL,
    VALUE_FLAG,
    VALUE_UINT,
    VALUE_INT,
    VALUE_F64,
    VALUE_STR,
    VALUE_BIN,
    VALUE_EXT,
    VALUE_ARRAY,
    VALUE_MAP
};

/* One decoded head. A non-negative number is UINT whatever its encoding; INT is negative. float32 is F64. */
struct value {
    enum value_type type;
    bool flag;
    int8_t ext_type;
    uint64_t u;
    int64_t i;
    double f;
    struct bytes bytes; /* STR, BIN, EXT: a view into the input */
    uint32_t count;     /* ARRAY: elements; MAP: pairs: they follow in the input */
};

struct cursor {
    const uint8_t *p;
    const uint8_t *end;
};

struct cursor cursor_of(struct bytes bytes);
static inline bool cursor_done(const struct cursor *cursor)
{
    return cursor->p == cursor->end;
}
/* Read one head (and the bytes of STR, BIN, EXT). False if the input ends too early or the byte 0xc1 stands there; an
 * announced count larger than the bytes that are left is refused too. The cursor does not move then. */
bool cursor_next(struct cursor *cursor, struct value *value_out);
/* Step over one whole value; *value_out (may be NULL) is the view of it. False if malformed or deeper than depth_max.
 */
bool cursor_skip(struct cursor *cursor, uint32_t depth_max, struct bytes *value_out);
/* The same, saying why not: QUERN_MALFORMED, or QUERN_TOO_BIG if deeper than depth_max (at most VALUE_DEPTH_MAX; 0
 * steps over a scalar only). */
QUERN_MUST_USE enum quern_err cursor_step(struct cursor *cursor, uint32_t depth_max, struct bytes *value_out);
/* Exactly one well-formed value, nothing behind it. */
bool value_is_whole(struct bytes bytes, uint32_t depth_max);

#endif

/*
 * quern/value.h: arguments and results as typed values over msgpack.
 *
 * A task's arguments are one msgpack array of positional arguments; its result is one msgpack value. A reader walks
 * values from left to right; a writer appends them. Both remember their first error, so that a handler may read and
 * write straight down and look once at the end.
 *
 * Threads: a reader or writer has one user at a time; different ones are independent.
 */
#ifndef QUERN_VALUE_H
#define QUERN_VALUE_H

#include <quern/err.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

enum quern_type {
    QUERN_TYPE_NONE, /* nothing further at this level */
    QUERN_TYPE_NIL,
    QUERN_TYPE_BOOL,
    QUERN_TYPE_INT, /* any integer; see quern_read_i64 and quern_read_u64 for the range */
    QUERN_TYPE_FLOAT,
    QUERN_TYPE_STR,
    QUERN_TYPE_BIN,
    QUERN_TYPE_EXT,
    QUERN_TYPE_ARRAY,
    QUERN_TYPE_MAP,
};

#define QUERN_VALUE_DEPTH_MAX 64 /* levels of nesting a reader or writer follows */

/* ---- reading ---- */

/* Make it with quern_reader_init; the fields are private. It borrows the bytes. */
struct quern_reader {
    const unsigned char *p;
    const unsigned char *end;
    uint64_t left[QUERN_VALUE_DEPTH_MAX + 1]; /* values left at each open level */
    unsigned depth;
    enum quern_err err;
};

/* The bytes hold values one behind the other (usually one). */
void quern_reader_init(struct quern_reader *reader, const void *p, size_t n);

/* The first error of this reader, QUERN_OK if none: TYPE (another type than asked for), RANGE (integer does not fit),
 * END (read past the end of an array), MALFORMED (not msgpack), TOO_BIG (nested too deep). After an error every read
 * answers the same error and touches nothing. */
enum quern_err quern_reader_error(const struct quern_reader *reader);

/* Type of the next value, without reading it; NONE at the end of the open array or map, or of the bytes. */
enum quern_type quern_peek(struct quern_reader *reader);

enum quern_err quern_read_nil(struct quern_reader *reader);
enum quern_err quern_read_bool(struct quern_reader *reader, bool *value_out);
enum quern_err quern_read_i64(struct quern_reader *reader, int64_t *value_out);
enum quern_err quern_read_u64(struct quern_reader *reader, uint64_t *value_out);
/* Floats, and integers that a double holds exactly (else RANGE). */
enum quern_err quern_read_f64(struct quern_reader *reader, double *value_out);
/* Views into the input, not NUL-terminated; a str is not checked to be UTF-8. */
enum quern_err quern_read_str(struct quern_reader *reader, const char **p_out, size_t *n_out);
enum quern_err quern_read_bin(struct quern_reader *reader, const void **p_out, size_t *n_out);
/* A str or a bin, as bytes: what a file name is. */
enum quern_err quern_read_bytes(struct quern_reader *reader, const void **p_out, size_t *n_out);
enum quern_err quern_read_ext(struct quern_reader *reader, int *type_out, const void **p_out, size_t *n_out);
/* Enter an array (count values follow) or map (count pairs: key, value, key, value...); leave it with quern_read_close,
 * which steps over what was not read (INVALID if no level is open). count_out may be NULL. */
enum quern_err quern_read_array(struct quern_reader *reader, size_t *count_out);
enum quern_err quern_read_map(struct quern_reader *reader, size_t *count_out);
enum quern_err quern_read_close(struct quern_reader *reader);
/* Step over one value of any type; p_out, n_out (may be NULL) are its encoded bytes. */
enum quern_err quern_read_any(struct quern_reader *reader, const void **p_out, size_t *n_out);

/* ---- writing ---- */

/* Writes one value, which may be an array or map of many. */
struct quern_writer;

/* For programs; a handler is given one. NULL only if memory is used up. */
struct quern_writer *quern_writer_new(void);
void quern_writer_free(struct quern_writer *writer); /* NULL is fine */
void quern_writer_reset(struct quern_writer *writer);

/* The first error: TOO_BIG (over 16 MiB), INVALID (a second value, or more of them than an array or map announced; no
 * msgpack; nested too deep), NO_MEMORY. After an error every write does nothing. */
enum quern_err quern_writer_error(const struct quern_writer *writer);
/* What was written; valid until the next call. Nothing if there was an error or a level is open still. */
void quern_writer_bytes(const struct quern_writer *writer, const void **p_out, size_t *n_out);
/* Nothing was written yet, nor did anything fail. */
bool quern_writer_is_empty(const struct quern_writer *writer);

void quern_write_nil(struct quern_writer *writer);
void quern_write_bool(struct quern_writer *writer, bool value);
void quern_write_i64(struct quern_writer *writer, int64_t value);
void quern_write_u64(struct quern_writer *writer, uint64_t value);
void quern_write_f64(struct quern_writer *writer, double value);
void quern_write_str(struct quern_writer *writer, const char *p, size_t n);
void quern_write_text(struct quern_writer *writer, const char *text); /* NUL-terminated; NULL is written as nil */
void quern_write_bin(struct quern_writer *writer, const void *p, size_t n);
void quern_write_ext(struct quern_writer *writer, int type, const void *p, size_t n);
/* Announce count values (array) or pairs (map); then write them. The level closes by itself with its last value. */
void quern_write_array(struct quern_writer *writer, size_t count);
void quern_write_map(struct quern_writer *writer, size_t count);
/* Bytes that are one well-formed msgpack value already; else INVALID. */
void quern_write_raw(struct quern_writer *writer, const void *p, size_t n);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif

#endif

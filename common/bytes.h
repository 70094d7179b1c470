/*
 * bytes: a borrowed view; buf: bytes we own and grow. Knows nobody. Not thread-safe: a buf has one user at a time.
 */
#ifndef QUERN_COMMON_BYTES_H
#define QUERN_COMMON_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A view: never freed, valid as long as what it looks into. {NULL, 0} is "none". */
struct bytes {
    const uint8_t *p;
    size_t n;
};

static inline struct bytes bytes_of(const void *p, size_t n)
{
    return (struct bytes){.p = (const uint8_t *)p, .n = n};
}
struct bytes bytes_text(const char *text); /* without the NUL; NULL gives none */
bool bytes_equal(struct bytes a, struct bytes b);
bool bytes_is(struct bytes a, const char *text);
/* A malloc'd NUL-terminated copy. Stops the process if memory is used up. */
char *bytes_dup_text(struct bytes a);
/* Valid UTF-8 (RFC 3629: no surrogates, no overlong forms). */
bool bytes_is_utf8(struct bytes a);
/* 64-bit hash keyed per process, for tables whose keys come from outside. */
uint64_t bytes_hash(struct bytes a);

/* A number of bytes that somebody typed, also with K, M or G behind it (KiB, MiB, GiB); 1..INT64_MAX. */
bool size_read(const char *word, uint64_t *size_out);

/* A growing buffer. {0} is an empty one. Growth stops the process if memory is used up (CHECK). */
struct buf {
    uint8_t *p;
    size_t n;
    size_t cap;
};

void buf_fini(struct buf *buf);
void buf_grow(struct buf *buf, size_t more);
bool buf_try_grow(struct buf *buf, size_t more);
static inline void buf_reserve(struct buf *buf, size_t more)
{
    if (buf->cap - buf->n < more) {
        buf_grow(buf, more);
    }
}
/* Room for so much, so that putting it needs no memory. False: there is none; nothing has changed. */
static inline bool buf_try_reserve(struct buf *buf, size_t more)
{
    return buf->cap - buf->n >= more || buf_try_grow(buf, more);
}
void buf_put(struct buf *buf, const void *p, size_t n);
void buf_put_u8(struct buf *buf, uint8_t byte);
void buf_printf(struct buf *buf, const char *format, ...) __attribute__((format(printf, 2, 3)));
struct bytes buf_bytes(const struct buf *buf);
/* Gives the malloc'd memory away; the buf is empty afterwards. */
uint8_t *buf_release(struct buf *buf, size_t *n_out);

#endif

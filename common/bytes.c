/*
 * bytes and buf: views and growing buffers, UTF-8 check, keyed hash.
 * Must not know what the bytes mean.
 * Start at buf_grow and bytes_is_utf8.
 */
#include "common/bytes.h"

#include "common/check.h"
#include "common/random.h"

#include <errno.h>
#include <pthread.h>
#include <sodium.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BUF_CAP_MIN 64u
#define BUF_SLACK_DIVISOR 16u

struct bytes bytes_text(const char *text)
{
    return text == NULL ? (struct bytes){NULL, 0} : bytes_of(text, strlen(text));
}

bool bytes_equal(struct bytes a, struct bytes b)
{
    return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}

bool bytes_is(struct bytes a, const char *text)
{
    return bytes_equal(a, bytes_text(text));
}

char *bytes_dup_text(struct bytes a)
{
    char *text = xmalloc(a.n + 1);
    if (a.n > 0) {
        memcpy(text, a.p, a.n);
    }
    text[a.n] = '\0';
    return text;
}

/* Size of the UTF-8 character at p, 0 if it is not one. Table 3-7 of the Unicode standard: the range of the second
 * byte is what excludes overlong forms, surrogates and numbers beyond U+10FFFF. */
static size_t utf8_size(const uint8_t *p, size_t n)
{
    uint8_t first = p[0];
    if (first < 0x80) {
        return 1;
    }
    size_t size = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
    if (first < 0xc2 || first > 0xf4 || n < size) {
        return 0;
    }
    uint8_t low = first == 0xe0 ? 0xa0 : first == 0xf0 ? 0x90 : 0x80;
    uint8_t high = first == 0xed ? 0x9f : first == 0xf4 ? 0x8f : 0xbf;
    if (p[1] < low || p[1] > high) {
        return 0;
    }
    for (size_t i = 2; i < size; i++) {
        if ((p[i] & 0xc0) != 0x80) {
            return 0;
        }
    }
    return size;
}

bool bytes_is_utf8(struct bytes a)
{
    size_t at = 0;
    uint64_t eight;
    while (a.n - at >= sizeof eight) { /* ASCII, which most of it is, at eight bytes a step */
        memcpy(&eight, a.p + at, sizeof eight);
        if ((eight & 0x8080808080808080u) != 0) {
            break;
        }
        at += sizeof eight;
    }
    while (at < a.n) {
        size_t size = utf8_size(a.p + at, a.n - at);
        if (size == 0) {
            return false;
        }
        at += size;
    }
    return true;
}

static unsigned char hash_key[crypto_shorthash_KEYBYTES];
static pthread_once_t hash_key_once = PTHREAD_ONCE_INIT;

static void hash_key_init(void)
{
    random_fill(hash_key, sizeof hash_key);
}

uint64_t bytes_hash(struct bytes a)
{
    pthread_once(&hash_key_once, hash_key_init);
    uint64_t hash = 0;
    _Static_assert(sizeof hash == crypto_shorthash_BYTES, "a hash is 64 bits");
    crypto_shorthash((unsigned char *)&hash, a.p, a.n, hash_key);
    return hash;
}

void buf_fini(struct buf *buf)
{
    free(buf->p);
    *buf = (struct buf){0};
}

bool buf_try_grow(struct buf *buf, size_t more)
{
    CHECK(more <= SIZE_MAX / 2 - buf->n);
    size_t need = buf->n + more;
    size_t cap = buf->cap < BUF_CAP_MIN ? BUF_CAP_MIN : buf->cap * 2;
    /* A large piece is seldom the last: without room behind it the few bytes that follow would move it. */
    cap = cap < need ? need + need / BUF_SLACK_DIVISOR : cap;
    uint8_t *p = realloc(buf->p, cap);
    if (p == NULL) {
        return false;
    }
    buf->p = p;
    buf->cap = cap;
    return true;
}

void buf_grow(struct buf *buf, size_t more)
{
    CHECK_THAT(buf_try_grow(buf, more), "memory is used up: %zu bytes more than %zu", more, buf->n);
}

void buf_put(struct buf *buf, const void *p, size_t n)
{
    if (n == 0) {
        return;
    }
    buf_reserve(buf, n);
    memcpy(buf->p + buf->n, p, n);
    buf->n += n;
}

void buf_put_u8(struct buf *buf, uint8_t byte)
{
    buf_put(buf, &byte, 1);
}

void buf_printf(struct buf *buf, const char *format, ...)
{
    CHECK(format != NULL); /* or gcc 12 warns of it when built with the sanitizers */
    va_list args;
    va_start(args, format);
    va_list again;
    va_copy(again, args);
    int size = vsnprintf(NULL, 0, format, args);
    va_end(args);
    CHECK(size >= 0);
    /* vsnprintf writes a NUL behind the text: room for it, but it is not part of the buffer. */
    buf_reserve(buf, (size_t)size + 1);
    vsnprintf((char *)buf->p + buf->n, (size_t)size + 1, format, again);
    va_end(again);
    buf->n += (size_t)size;
}

struct bytes buf_bytes(const struct buf *buf)
{
    return bytes_of(buf->p, buf->n);
}

uint8_t *buf_release(struct buf *buf, size_t *n_out)
{
    uint8_t *p = buf->p;
    *n_out = buf->n;
    *buf = (struct buf){0};
    return p;
}

bool size_read(const char *word, uint64_t *size_out)
{
    static const char units[] = "KMG";
    char *end;
    errno = 0;
    unsigned long long size = strtoull(word, &end, 10);
    const char *unit = *end != '\0' && end[1] == '\0' ? strchr(units, *end) : NULL;
    unsigned shift = unit == NULL ? 0 : 10u * (unsigned)(unit - units + 1);
    if (*word < '0' || *word > '9' || errno != 0 || (*end != '\0' && unit == NULL) || size == 0 ||
        size > (uint64_t)INT64_MAX >> shift) {
        return false;
    }
    *size_out = (uint64_t)size << shift;
    return true;
}

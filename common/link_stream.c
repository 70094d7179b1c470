/*
 * link_stream: ends a connection whose next bytes libzmq would keep without a bound. ZeroMQ hands a message of several
 * parts over when its last part has come; until then libzmq 4.3.4 keeps every part, counts none and tells nobody, and
 * a peer need never send the last one. A message of ours has one part, so the flag that announces another is the end.
 * Our recv is found before the C library's. It follows the framing (RFC 23, ZMTP 3) of connections that accept4 gave
 * out, and hands on what stands before the first head that must not come; others it leaves alone. Older ZMTP frames
 * otherwise: its peers are turned away at the greeting. What is inside CURVE's boxes cannot be seen from here.
 * Must not know sockets or peers. Only the broker is linked with it. Start at recv.
 */
#undef _FORTIFY_SOURCE /* its headers define a recv of their own */

#include "common/limits.h"
#include "common/link_private.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define GREETING_SIZE 64u
#define SIGNATURE_END 9u
#define VERSION_AT 10u
#define VERSION_MIN 3u
#define FRAME_HAS_MORE 0x01u
#define FRAME_IS_LONG 0x02u

/* ---- what may pass ---- */

static bool greeting_may(unsigned at, uint8_t byte)
{
    switch (at) {
    case 0:
        return byte == 0xff;
    case SIGNATURE_END:
        return (byte & 1) != 0;
    case VERSION_AT:
        return byte >= VERSION_MIN;
    default:
        return true;
    }
}

static bool greeting_pass(struct stream *stream, uint8_t byte)
{
    if (!greeting_may(stream->greeted, byte)) {
        return false;
    }
    if (++stream->greeted == GREETING_SIZE) {
        stream->at = STREAM_FLAGS;
    }
    return true;
}

static bool flags_pass(struct stream *stream, uint8_t flags)
{
    stream->size_left = (flags & FRAME_IS_LONG) != 0 ? 8 : 1;
    stream->left = 0;
    stream->at = STREAM_SIZE;
    return (flags & FRAME_HAS_MORE) == 0;
}

static bool size_pass(struct stream *stream, uint8_t byte)
{
    stream->left = stream->left << 8 | byte;
    if (--stream->size_left == 0) {
        stream->at = stream->left > 0 ? STREAM_BODY : STREAM_FLAGS;
    }
    return true;
}

size_t stream_pass(struct stream *stream, const uint8_t *p, size_t n)
{
    size_t i = 0;
    bool may = stream->at != STREAM_ENDED;
    while (may && i < n) {
        switch (stream->at) {
        case STREAM_BODY: {
            size_t step = stream->left < n - i ? (size_t)stream->left : n - i;
            stream->left -= step;
            stream->at = stream->left > 0 ? STREAM_BODY : STREAM_FLAGS;
            i += step;
            continue;
        }
        case STREAM_FLAGS:
            may = flags_pass(stream, p[i]);
            break;
        case STREAM_SIZE:
            may = size_pass(stream, p[i]);
            break;
        case STREAM_GREETING:
            may = greeting_pass(stream, p[i]);
            break;
        case STREAM_ENDED:
            break;
        }
        i += may;
    }
    if (!may) {
        stream->at = STREAM_ENDED;
    }
    return i;
}

/* ---- connections ---- */

/* By descriptor. Written by the I/O thread, which accepts and reads; only is_ended is read by others. */
static struct stream streams[GUARDED_FD_COUNT_MAX];

static struct stream *stream_of(int fd)
{
    return fd >= 0 && (unsigned)fd < GUARDED_FD_COUNT_MAX && streams[fd].inode != 0 ? &streams[fd] : NULL;
}

static ino_t inode_of(int fd)
{
    struct stat st;
    return fstat(fd, &st) == 0 ? st.st_ino : 0;
}

void stream_guard_begin(int fd)
{
    struct stream *stream = &streams[fd];
    stream->inode = inode_of(fd);
    stream->at = STREAM_GREETING;
    stream->greeted = 0;
    atomic_store(&stream->is_ended, false);
}

bool stream_guard_has_ended(int fd)
{
    return fd >= 0 && (unsigned)fd < GUARDED_FD_COUNT_MAX && atomic_load(&streams[fd].is_ended);
}

/* Descriptors are used again, and not only by accept4: before anything is ended, look who it is. */
static bool stream_is_of(struct stream *stream, int fd)
{
    if (inode_of(fd) == stream->inode) {
        return true;
    }
    stream->inode = 0;
    return false;
}

__attribute__((visibility("default"))) ssize_t recv(int fd, void *p, size_t n, int flags)
{
    ssize_t got = recvfrom(fd, p, n, flags, NULL, NULL);
    struct stream *stream = stream_of(fd);
    if (got <= 0 || stream == NULL) {
        return got;
    }
    size_t passed = stream_pass(stream, p, (size_t)got);
    if (passed == (size_t)got || !stream_is_of(stream, fd)) {
        return got;
    }
    atomic_store(&stream->is_ended, true);
    shutdown(fd, SHUT_RDWR); /* the rest is not asked for again unless it is readable */
    return (ssize_t)passed;  /* none: the end, as if the peer had left */
}

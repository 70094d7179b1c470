/*
 * capture.c owns the stream of what a slot writes: taking it in, passing it on, keeping its end.
 * It must not know attempts, nor what becomes of a cut.
 * Start reading at capture_take; the slot's side is capture_position.
 */
#include "worker/capture.h"

#include "common/check.h"
#include "common/log.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <unistd.h>

/* A slot that asks for the position while the supervisor moves it lets that go on, so often: a read is done by then,
 * unless the supervisor was stopped in it. */
#define POSITION_TRY_COUNT 1000

/* ---- supervisor ---- */

void capture_init(struct capture *capture)
{
    *capture = (struct capture){.fd = -1};
}

void capture_open(struct capture *capture, int fd)
{
    *capture = (struct capture){.fd = fd};
}

static void hang_up(struct capture *capture)
{
    if (capture->fd >= 0) {
        close(capture->fd);
        capture->fd = -1;
    }
}

/* Not passed on: who reads our stderr is too slow, and this cannot wait. */
static void drop(struct capture *capture)
{
    capture->dropped += capture->taken - capture->passed;
    capture->passed = capture->taken;
}

void capture_close(struct capture *capture)
{
    if (!capture_pass_on(capture)) {
        drop(capture);
    }
    if (capture->dropped > 0) {
        log_event(LOG_WARN, "output of a slot was dropped", "bytes=%llu", (unsigned long long)capture->dropped);
    }
    hang_up(capture);
    free(capture->ring);
    capture_init(capture);
}

/* One read into the ring. While it is under way, positions cannot be told. */
static ssize_t take_some(struct capture *capture, struct statuspage *page, size_t room)
{
    size_t at = capture->taken % CAPTURE_RING_SIZE;
    size_t first = CAPTURE_RING_SIZE - at < room ? CAPTURE_RING_SIZE - at : room;
    struct iovec parts[2] = {{.iov_base = capture->ring + at, .iov_len = first},
                             {.iov_base = capture->ring, .iov_len = room - first}};
    uint32_t version = atomic_load_explicit(&page->capture_version, memory_order_relaxed) | 1;
    atomic_store_explicit(&page->capture_version, version, memory_order_seq_cst);
    ssize_t got = readv(capture->fd, parts, 2);
    capture->taken += got > 0 ? (uint64_t)got : 0;
    atomic_store_explicit(&page->captured, capture->taken, memory_order_seq_cst);
    atomic_store_explicit(&page->capture_version, version + 1, memory_order_seq_cst);
    return got;
}

bool capture_take(struct capture *capture, struct statuspage *page)
{
    size_t room = CAPTURE_RING_SIZE - (size_t)(capture->taken - capture->passed);
    if (capture->fd < 0 || room == 0) {
        return false;
    }
    if (capture->ring == NULL) {
        capture->ring = xmalloc(CAPTURE_RING_SIZE);
    }
    ssize_t got = take_some(capture, page, room);
    if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR)) {
        hang_up(capture);
    }
    return got > 0;
}

/* Does our stderr take a piece without making us wait? A pipe that is writable takes as much as is written at once. */
static bool is_writable(void)
{
    struct pollfd end = {.fd = STDERR_FILENO, .events = POLLOUT};
    return poll(&end, 1, 0) > 0;
}

bool capture_pass_on(struct capture *capture)
{
    while (capture->passed < capture->taken) {
        size_t at = capture->passed % CAPTURE_RING_SIZE;
        size_t size = (size_t)(capture->taken - capture->passed);
        size = size < CAPTURE_RING_SIZE - at ? size : CAPTURE_RING_SIZE - at;
        size = size < PIPE_BUF ? size : PIPE_BUF;
        if (!is_writable()) {
            return false;
        }
        ssize_t put = write(STDERR_FILENO, capture->ring + at, size);
        if (put < 0 && (errno == EAGAIN || errno == EINTR)) {
            return false;
        }
        capture->passed += put > 0 ? (size_t)put : size; /* nobody reads it any more: gone */
    }
    return true;
}

void capture_drain(struct capture *capture, struct statuspage *page, uint64_t to)
{
    uint64_t drained = 0;
    uint64_t before = capture->taken;
    while (capture->fd >= 0 && capture->taken < to && drained < CAPTURE_DRAIN_SIZE_MAX) {
        if (!capture_pass_on(capture) && capture->taken - capture->passed == CAPTURE_RING_SIZE) {
            drop(capture);
        }
        if (!capture_take(capture, page)) {
            return;
        }
        drained = capture->taken - before;
    }
}

void capture_cut(const struct capture *capture, uint64_t from, uint64_t to, size_t max, struct buf *out)
{
    uint64_t kept = capture->taken < CAPTURE_RING_SIZE ? capture->taken : CAPTURE_RING_SIZE;
    uint64_t oldest = capture->taken - kept;
    to = to < capture->taken ? to : capture->taken;
    from = from > oldest ? from : oldest;
    if (from >= to) {
        return;
    }
    from = to - from > max ? to - max : from;
    size_t at = from % CAPTURE_RING_SIZE;
    size_t size = (size_t)(to - from);
    size_t first = CAPTURE_RING_SIZE - at < size ? CAPTURE_RING_SIZE - at : size;
    buf_put(out, capture->ring + at, first);
    buf_put(out, capture->ring, size - first);
}

/* ---- slot ---- */

uint64_t capture_position(struct statuspage *page, int fd)
{
    uint64_t position = 0;
    for (int i = 0; i < POSITION_TRY_COUNT; i++) {
        int waiting = 0;
        uint32_t version = atomic_load_explicit(&page->capture_version, memory_order_seq_cst);
        uint64_t taken = atomic_load_explicit(&page->captured, memory_order_seq_cst);
        if (ioctl(fd, FIONREAD, &waiting) != 0 || waiting < 0) {
            waiting = 0; /* the handler has closed it */
        }
        position = taken + (uint64_t)waiting;
        if ((version & 1) == 0 && version == atomic_load_explicit(&page->capture_version, memory_order_seq_cst)) {
            break;
        }
        (void)sched_yield();
    }
    return position;
}

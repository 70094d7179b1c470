/*
 * capture.c owns the streams of what a slot writes: taking them in, passing them on, keeping beginning and end.
 * It must not know attempts, nor what becomes of a part.
 * Start reading at capture_take, then capture_output; the slot's side is capture_position.
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

/* ---- life ---- */

void capture_init(struct capture *capture)
{
    *capture = (struct capture){0};
    for (unsigned i = 0; i < OUTPUT_STREAM_COUNT; i++) {
        capture->streams[i].fd = -1;
    }
}

void capture_open(struct capture *capture, const int fds[OUTPUT_STREAM_COUNT])
{
    capture_init(capture);
    for (unsigned i = 0; i < OUTPUT_STREAM_COUNT; i++) {
        capture->streams[i].fd = fds[i];
    }
}

static void hang_up(struct capture_stream *stream)
{
    if (stream->fd >= 0) {
        close(stream->fd);
        stream->fd = -1;
    }
}

bool capture_is_over(const struct capture *capture)
{
    return capture->streams[0].fd < 0 && capture->streams[1].fd < 0;
}

/* ---- passing on ---- */

/* Not passed on: who reads our stderr is too slow, and this cannot wait. */
static void drop(struct capture *capture, struct capture_stream *stream)
{
    capture->dropped += stream->taken - stream->passed;
    stream->passed = stream->taken;
}

/* Once something can be passed on again. */
static void tell_dropped(struct capture *capture)
{
    if (capture->dropped > 0) {
        log_event(LOG_WARN, "output of a slot was dropped", "bytes=%llu", (unsigned long long)capture->dropped);
        capture->dropped = 0;
    }
}

/* Does our stderr take a piece without making us wait? A pipe that is writable takes as much as is written at once. */
static bool is_writable(void)
{
    struct pollfd end = {.fd = STDERR_FILENO, .events = POLLOUT};
    return poll(&end, 1, 0) > 0;
}

/* False: it takes no more now. */
static bool pass_on(struct capture_stream *stream)
{
    while (stream->passed < stream->taken) {
        size_t at = stream->passed % CAPTURE_RING_SIZE;
        size_t size = (size_t)(stream->taken - stream->passed);
        size = size < CAPTURE_RING_SIZE - at ? size : CAPTURE_RING_SIZE - at;
        size = size < PIPE_BUF ? size : PIPE_BUF;
        if (!is_writable()) {
            return false;
        }
        ssize_t put = write(STDERR_FILENO, stream->memory->ring + at, size);
        if (put < 0 && (errno == EAGAIN || errno == EINTR)) {
            return false;
        }
        stream->passed += put > 0 ? (size_t)put : size; /* nobody reads it any more: gone */
    }
    return true;
}

static bool pass_on_all(struct capture *capture)
{
    return pass_on(&capture->streams[0]) && pass_on(&capture->streams[1]);
}

static void drop_all(struct capture *capture)
{
    drop(capture, &capture->streams[0]);
    drop(capture, &capture->streams[1]);
}

static bool has_pending(const struct capture *capture)
{
    return capture->streams[0].passed < capture->streams[0].taken ||
           capture->streams[1].passed < capture->streams[1].taken;
}

/* Passes on, and keeps track of how long that has been impossible. False: who writes is to wait. */
static bool pass_on_in_time(struct capture *capture, int64_t now_ms)
{
    if (!has_pending(capture)) {
        return true; /* which says nothing of our stderr */
    }
    if (pass_on_all(capture)) {
        capture->muted_ms = 0;
        capture->is_dropping = false;
        tell_dropped(capture);
        return true;
    }
    capture->muted_ms = capture->muted_ms == 0 ? now_ms : capture->muted_ms;
    capture->is_dropping = capture->is_dropping || now_ms - capture->muted_ms >= CAPTURE_WAIT_MS;
    if (capture->is_dropping) {
        drop_all(capture);
    }
    return capture->is_dropping;
}

void capture_close(struct capture *capture)
{
    if (!pass_on_all(capture)) {
        drop_all(capture);
    }
    tell_dropped(capture);
    for (unsigned i = 0; i < OUTPUT_STREAM_COUNT; i++) {
        hang_up(&capture->streams[i]);
        free(capture->streams[i].memory);
    }
    free(capture->marks);
    capture_init(capture);
}

/* ---- taking ---- */

static uint64_t oldest(const struct capture_stream *stream)
{
    return stream->taken < CAPTURE_RING_SIZE ? 0 : stream->taken - CAPTURE_RING_SIZE;
}

/* Both views of from..to, which the ring holds. */
static void ring_views(const struct capture_stream *stream, uint64_t from, uint64_t to, struct bytes views[2])
{
    size_t at = from % CAPTURE_RING_SIZE;
    size_t size = (size_t)(to - from);
    size_t first = CAPTURE_RING_SIZE - at < size ? CAPTURE_RING_SIZE - at : size;
    views[0] = bytes_of(stream->memory->ring + at, first);
    views[1] = bytes_of(stream->memory->ring, size - first);
}

/* Puts aside the beginning of what runs now. */
static void keep_head(struct capture_stream *stream, uint64_t from)
{
    struct bytes views[2];
    if (from != stream->head_from) {
        stream->head_from = from;
        stream->head_size = 0;
    }
    uint64_t begin = from + stream->head_size;
    if (from > stream->taken || begin >= stream->taken || begin < oldest(stream) ||
        stream->head_size == OUTPUT_HEAD_SIZE) {
        return;
    }
    uint64_t end = stream->taken - from < OUTPUT_HEAD_SIZE ? stream->taken : from + OUTPUT_HEAD_SIZE;
    ring_views(stream, begin, end, views);
    for (int i = 0; i < 2; i++) {
        memcpy(stream->memory->head + stream->head_size, views[i].p, views[i].n);
        stream->head_size += (uint32_t)views[i].n;
    }
}

static void mark(struct capture *capture, unsigned index, uint64_t from, uint64_t to)
{
    if (capture->marks == NULL) {
        capture->marks = xmalloc(CAPTURE_MARK_COUNT * sizeof(capture->marks[0]));
    }
    struct capture_mark *last = &capture->marks[(capture->mark_count - 1) % CAPTURE_MARK_COUNT];
    if (capture->mark_count > 0 && last->stream == index && last->to == from) {
        last->to = to;
        return;
    }
    capture->marks[capture->mark_count++ % CAPTURE_MARK_COUNT] =
        (struct capture_mark){.stream = index, .from = from, .to = to};
}

/* One read into the ring. While it is under way, positions cannot be told. */
static ssize_t read_into(struct capture_stream *stream, struct statuspage *page, unsigned index, size_t room)
{
    size_t at = stream->taken % CAPTURE_RING_SIZE;
    size_t first = CAPTURE_RING_SIZE - at < room ? CAPTURE_RING_SIZE - at : room;
    struct iovec parts[2] = {{.iov_base = stream->memory->ring + at, .iov_len = first},
                             {.iov_base = stream->memory->ring, .iov_len = room - first}};
    uint32_t version = atomic_load_explicit(&page->capture_version, memory_order_relaxed) | 1;
    atomic_store_explicit(&page->capture_version, version, memory_order_seq_cst);
    ssize_t got = readv(stream->fd, parts, 2);
    stream->taken += got > 0 ? (uint64_t)got : 0;
    atomic_store_explicit(&page->captured[index], stream->taken, memory_order_seq_cst);
    atomic_store_explicit(&page->capture_version, version + 1, memory_order_seq_cst);
    return got;
}

/* Bytes read. What was not passed on yet stays. */
static size_t take_some(struct capture *capture, struct statuspage *page, unsigned index)
{
    struct capture_stream *stream = &capture->streams[index];
    size_t room = CAPTURE_RING_SIZE - (size_t)(stream->taken - stream->passed);
    room = room < CAPTURE_READ_SIZE ? room : CAPTURE_READ_SIZE;
    if (stream->fd < 0 || room == 0) {
        return 0;
    }
    if (stream->memory == NULL) {
        stream->memory = xmalloc(sizeof(*stream->memory));
    }
    uint64_t before = stream->taken;
    ssize_t got = read_into(stream, page, index, room);
    if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR)) {
        hang_up(stream);
    }
    if (got <= 0) {
        return 0;
    }
    mark(capture, index, before, stream->taken);
    return (size_t)got;
}

bool capture_take(struct capture *capture, struct statuspage *page, int64_t now_ms)
{
    if (now_ms >= capture->slice_ms + CAPTURE_SLICE_MS) {
        capture->slice_ms = now_ms;
        capture->slice_size = 0;
    }
    bool goes_on = pass_on_in_time(capture, now_ms);
    if (goes_on && capture->slice_size < CAPTURE_SLICE_SIZE) {
        for (unsigned i = 0; i < OUTPUT_STREAM_COUNT; i++) {
            capture->slice_size += take_some(capture, page, i);
            keep_head(&capture->streams[i], atomic_load_explicit(&page->output_from[i], memory_order_relaxed));
        }
        goes_on = pass_on_in_time(capture, now_ms);
    }
    return goes_on && capture->slice_size < CAPTURE_SLICE_SIZE;
}

int64_t capture_wake_ms(const struct capture *capture, int64_t now_ms)
{
    int64_t slice_ms = capture->slice_ms + CAPTURE_SLICE_MS;
    return slice_ms > now_ms ? slice_ms : now_ms + CAPTURE_SLICE_MS;
}

static void drain_stream(struct capture *capture, struct statuspage *page, unsigned index,
                         const struct capture_part *part)
{
    struct capture_stream *stream = &capture->streams[index];
    size_t drained = 0;
    size_t got = 1;
    keep_head(stream, part->from[index]);
    while (got > 0 && stream->taken < part->to[index] && drained < CAPTURE_DRAIN_SIZE_MAX) {
        if (!pass_on(stream) && stream->taken - stream->passed > CAPTURE_RING_SIZE - CAPTURE_READ_SIZE) {
            drop(capture, stream);
        }
        got = take_some(capture, page, index);
        keep_head(stream, part->from[index]);
        drained += got;
    }
}

void capture_drain(struct capture *capture, struct statuspage *page, const struct capture_part *part)
{
    for (unsigned i = 0; i < OUTPUT_STREAM_COUNT; i++) {
        drain_stream(capture, page, i, part);
    }
}

/* ---- parts ---- */

void capture_cut(const struct capture *capture, unsigned index, uint64_t from, uint64_t to, size_t max, struct buf *out)
{
    const struct capture_stream *stream = &capture->streams[index];
    struct bytes views[2];
    to = to < stream->taken ? to : stream->taken;
    from = from > oldest(stream) ? from : oldest(stream);
    if (from >= to) {
        return;
    }
    from = to - from > max ? to - max : from;
    ring_views(stream, from, to, views);
    buf_put(out, views[0].p, views[0].n);
    buf_put(out, views[1].p, views[1].n);
}

/* A part being put together. */
struct cutting {
    const struct capture *capture;
    struct output_writer writer;
    uint64_t at[OUTPUT_STREAM_COUNT];        /* put up to here */
    uint64_t to[OUTPUT_STREAM_COUNT];        /* its end */
    uint64_t head_end[OUTPUT_STREAM_COUNT];  /* before this, the head has it */
    uint64_t tail_from[OUTPUT_STREAM_COUNT]; /* from here on, the ring has it */
};

static uint64_t larger(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

static uint64_t smaller(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static void cutting_begin(struct cutting *cutting, unsigned i, const struct capture_part *part, uint64_t known)
{
    const struct capture_stream *stream = &cutting->capture->streams[i];
    uint64_t to = smaller(part->to[i], stream->taken);
    uint64_t from = smaller(part->from[i], to);
    bool has_head = stream->head_from == from && stream->head_size > 0;
    cutting->at[i] = known < to - from ? from + known : to;
    cutting->to[i] = to;
    cutting->head_end[i] = has_head ? smaller(from + stream->head_size, to) : from;
    cutting->tail_from[i] = larger(oldest(stream), to - from > OUTPUT_TAIL_SIZE ? to - OUTPUT_TAIL_SIZE : from);
    if (!has_head && to - from <= OUTPUT_HEAD_SIZE + OUTPUT_TAIL_SIZE) {
        cutting->tail_from[i] = larger(oldest(stream), from); /* it ended between two reads: the ring has all of it */
    }
}

/* Goes on with this stream up to a position. */
static void cut_up_to(struct cutting *cutting, unsigned i, uint64_t end)
{
    const struct capture_stream *stream = &cutting->capture->streams[i];
    enum output_stream name = (enum output_stream)(i + 1);
    struct bytes views[2];
    uint64_t at = cutting->at[i];
    uint64_t head_end = smaller(end, cutting->head_end[i]);
    uint64_t gap_end = smaller(end, cutting->tail_from[i]);
    if (at < head_end) {
        output_put(&cutting->writer, name,
                   bytes_of(stream->memory->head + (at - stream->head_from), (size_t)(head_end - at)));
        at = head_end;
    }
    if (at < gap_end) {
        output_leave_out(&cutting->writer, name, gap_end - at);
        at = gap_end;
    }
    if (at < end) {
        ring_views(stream, at, end, views);
        output_put(&cutting->writer, name, views[0]);
        output_put(&cutting->writer, name, views[1]);
        at = end;
    }
    cutting->at[i] = at;
}

void capture_output(const struct capture *capture, const struct capture_part *part,
                    const uint64_t known[OUTPUT_STREAM_COUNT], struct buf *out)
{
    struct cutting cutting = {.capture = capture};
    for (unsigned i = 0; i < OUTPUT_STREAM_COUNT; i++) {
        cutting_begin(&cutting, i, part, known != NULL ? known[i] : 0);
    }
    if (cutting.at[0] == cutting.to[0] && cutting.at[1] == cutting.to[1]) {
        return;
    }
    output_begin(&cutting.writer, out);
    uint64_t first = capture->mark_count < CAPTURE_MARK_COUNT ? 0 : capture->mark_count - CAPTURE_MARK_COUNT;
    for (uint64_t number = first; number < capture->mark_count; number++) {
        const struct capture_mark *step = &capture->marks[number % CAPTURE_MARK_COUNT];
        uint64_t end = smaller(step->to, cutting.to[step->stream]);
        if (end > cutting.at[step->stream]) {
            cut_up_to(&cutting, step->stream, end);
        }
    }
    for (unsigned i = 0; i < OUTPUT_STREAM_COUNT; i++) {
        cut_up_to(&cutting, i, cutting.to[i]);
    }
    output_end(&cutting.writer);
}

/* ---- slot ---- */

uint64_t capture_position(struct statuspage *page, unsigned stream, int fd)
{
    uint64_t position = 0;
    for (int i = 0; i < POSITION_TRY_COUNT; i++) {
        int waiting = 0;
        uint32_t version = atomic_load_explicit(&page->capture_version, memory_order_seq_cst);
        uint64_t taken = atomic_load_explicit(&page->captured[stream], memory_order_seq_cst);
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

/*
 * board.c owns the output of a command on the status page: its writing in the slot, its reading in the supervisor.
 * It must not know commands, nor what becomes of what is read.
 * Start reading at board_put, then board_output.
 */
#include "worker/board.h"

#include <string.h>

/* ---- slot ---- */

void board_begin(struct statuspage *page, uint64_t number)
{
    for (unsigned i = 0; i < OUTPUT_STREAM_COUNT; i++) {
        atomic_store_explicit(&page->board.streams[i].end, 0, memory_order_seq_cst);
        atomic_store_explicit(&page->board.streams[i].size, 0, memory_order_seq_cst);
    }
    atomic_store_explicit(&page->board.number, number, memory_order_release);
}

static void put_head(struct board_stream *stream, uint64_t at, struct bytes bytes)
{
    if (at < OUTPUT_HEAD_SIZE) {
        size_t room = OUTPUT_HEAD_SIZE - (size_t)at;
        memcpy(stream->head + at, bytes.p, bytes.n < room ? bytes.n : room);
    }
}

static void put_tail(struct board_stream *stream, uint64_t at, struct bytes bytes)
{
    if (bytes.n > OUTPUT_TAIL_SIZE) {
        at += bytes.n - OUTPUT_TAIL_SIZE;
        bytes = bytes_of(bytes.p + (bytes.n - OUTPUT_TAIL_SIZE), OUTPUT_TAIL_SIZE);
    }
    size_t first = OUTPUT_TAIL_SIZE - (size_t)(at % OUTPUT_TAIL_SIZE);
    first = first < bytes.n ? first : bytes.n;
    memcpy(stream->tail + at % OUTPUT_TAIL_SIZE, bytes.p, first);
    memcpy(stream->tail, bytes.p + first, bytes.n - first);
}

void board_put(struct statuspage *page, enum output_stream which, struct bytes bytes)
{
    struct board_stream *stream = &page->board.streams[which - 1];
    uint64_t at = atomic_load_explicit(&stream->size, memory_order_relaxed);
    if (bytes.n == 0) {
        return;
    }
    atomic_store_explicit(&stream->end, at + bytes.n, memory_order_seq_cst);
    put_head(stream, at, bytes);
    put_tail(stream, at, bytes);
    atomic_store_explicit(&stream->size, at + bytes.n, memory_order_seq_cst);
}

/* ---- supervisor ---- */

bool board_is_of(struct statuspage *page, uint64_t number)
{
    return number != 0 && atomic_load_explicit(&page->board.number, memory_order_acquire) == number;
}

static uint64_t tail_begin(uint64_t end)
{
    return end > OUTPUT_TAIL_SIZE ? end - OUTPUT_TAIL_SIZE : 0;
}

static void stream_output(struct board_stream *stream, enum output_stream name, uint64_t at,
                          struct output_writer *writer)
{
    uint8_t tail[OUTPUT_TAIL_SIZE];
    uint8_t head[OUTPUT_HEAD_SIZE];
    uint64_t size = atomic_load_explicit(&stream->size, memory_order_seq_cst);
    size = size <= INT64_MAX ? size : 0; /* a slot may have scribbled over it */
    memcpy(head, stream->head, sizeof(head));
    memcpy(tail, stream->tail, sizeof(tail));
    uint64_t end = atomic_load_explicit(&stream->end, memory_order_seq_cst);
    uint64_t tail_from = end >= size && end <= INT64_MAX ? tail_begin(end) : size;
    uint64_t head_to = size < OUTPUT_HEAD_SIZE ? size : OUTPUT_HEAD_SIZE;
    if (at < head_to) {
        output_put(writer, name, bytes_of(head + at, (size_t)(head_to - at)));
        at = head_to;
    }
    tail_from = tail_from < size ? tail_from : size;
    if (at < tail_from) {
        output_leave_out(writer, name, tail_from - at);
        at = tail_from;
    }
    if (at < size) {
        size_t from = (size_t)(at % OUTPUT_TAIL_SIZE);
        size_t left = (size_t)(size - at);
        size_t first = left < OUTPUT_TAIL_SIZE - from ? left : OUTPUT_TAIL_SIZE - from;
        output_put(writer, name, bytes_of(tail + from, first));
        output_put(writer, name, bytes_of(tail, left - first));
    }
}

void board_output(struct statuspage *page, const uint64_t known[OUTPUT_STREAM_COUNT], struct buf *out)
{
    struct output_writer writer;
    output_begin(&writer, out);
    for (unsigned i = 0; i < OUTPUT_STREAM_COUNT; i++) {
        stream_output(&page->board.streams[i], (enum output_stream)(i + 1), known != NULL ? known[i] : 0, &writer);
    }
    output_end(&writer);
}

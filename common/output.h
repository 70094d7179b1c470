/*
 * output.h: what an attempt wrote to stdout and stderr, as it is sent and stored: pieces in the order in which they
 * were taken. One msgpack array [stream, piece, stream, piece, ...]: stream 1 or 2, piece a binary, or how many bytes
 * of that stream are left out at this place. PROTOCOL.md, section 11. Bytes are what was written, whatever that is.
 */
#ifndef QUERN_COMMON_OUTPUT_H
#define QUERN_COMMON_OUTPUT_H

#include "common/bytes.h"
#include "common/codec.h"

enum output_stream { OUTPUT_STDOUT = 1, OUTPUT_STDERR = 2 };
#define OUTPUT_STREAM_COUNT 2u

/* ---- writing ---- */
struct output_writer {
    struct buf *buf;
    size_t begin;
    size_t head;
    uint32_t count;                         /* of pieces */
    uint64_t left_out[OUTPUT_STREAM_COUNT]; /* not put yet: stands before the next piece */
};
void output_begin(struct output_writer *writer, struct buf *buf);
/* Of more than OUTPUT_CHUNK_COUNT_MAX pieces the last are left out. */
void output_put(struct output_writer *writer, enum output_stream stream, struct bytes bytes);
void output_leave_out(struct output_writer *writer, enum output_stream stream, uint64_t size);
/* If nothing was put, buf is as it was. */
void output_end(struct output_writer *writer);

/* ---- reading ---- */
struct output_piece {
    enum output_stream stream;
    struct bytes bytes;
    uint64_t left_out; /* if not 0, there are no bytes */
};
struct output_reader {
    struct cursor cursor;
    uint32_t left;
};
/* False if these bytes are no such array: then there is nothing to read. None at all are one without pieces. */
bool output_open(struct output_reader *reader, struct bytes bytes);
bool output_next(struct output_reader *reader, struct output_piece *piece_out);

/* The last max bytes of one stream, behind any that are left out, appended to out. */
void output_tail(struct bytes output, enum output_stream stream, size_t max, struct buf *out);

#endif

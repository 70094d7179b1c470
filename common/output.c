/*
 * output.c owns the bytes of an attempt's output.
 * It must not know where pieces come from, nor what is done with them.
 * Start reading at output_put and output_open.
 */
#include "common/output.h"

#include "common/limits.h"

/* ---- writing ---- */

void output_begin(struct output_writer *writer, struct buf *buf)
{
    *writer = (struct output_writer){.buf = buf, .begin = buf->n};
    writer->head = array_open(buf);
}

/* What was left out before this place. */
static void put_left_out(struct output_writer *writer)
{
    for (unsigned i = 0; i < OUTPUT_STREAM_COUNT; i++) {
        if (writer->left_out[i] > 0) {
            put_u64(writer->buf, i + 1u);
            put_u64(writer->buf, writer->left_out[i]);
            writer->left_out[i] = 0;
            writer->count++;
        }
    }
}

void output_put(struct output_writer *writer, enum output_stream stream, struct bytes bytes)
{
    if (bytes.n == 0) {
        return;
    }
    /* One piece, and what is left out before it and behind it. */
    if (writer->count + 1 + 2 * OUTPUT_STREAM_COUNT > OUTPUT_CHUNK_COUNT_MAX) {
        output_leave_out(writer, stream, bytes.n);
        return;
    }
    put_left_out(writer);
    put_u64(writer->buf, stream);
    put_bin(writer->buf, bytes);
    writer->count++;
}

void output_leave_out(struct output_writer *writer, enum output_stream stream, uint64_t size)
{
    uint64_t room = INT64_MAX - writer->left_out[stream - 1];
    writer->left_out[stream - 1] += size < room ? size : room;
}

void output_end(struct output_writer *writer)
{
    put_left_out(writer);
    if (writer->count == 0) {
        writer->buf->n = writer->begin;
    } else {
        array_close(writer->buf, writer->head, 2 * writer->count);
    }
}

/* ---- reading ---- */

static bool read_piece(struct cursor *cursor, struct output_piece *piece)
{
    struct value stream;
    struct value value;
    if (!cursor_next(cursor, &stream) || stream.type != VALUE_UINT || stream.u < OUTPUT_STDOUT ||
        stream.u > OUTPUT_STDERR || !cursor_next(cursor, &value)) {
        return false;
    }
    *piece = (struct output_piece){.stream = (enum output_stream)stream.u};
    if (value.type == VALUE_UINT && value.u > 0 && value.u <= INT64_MAX) {
        piece->left_out = value.u;
        return true;
    }
    piece->bytes = value.bytes;
    return value.type == VALUE_BIN;
}

bool output_open(struct output_reader *reader, struct bytes bytes)
{
    struct value array;
    struct output_piece piece;
    struct cursor cursor = cursor_of(bytes);
    *reader = (struct output_reader){0};
    if (bytes.n == 0) {
        return true;
    }
    if (bytes.n > OUTPUT_SIZE_MAX || !cursor_next(&cursor, &array) || array.type != VALUE_ARRAY ||
        array.count % 2 != 0 || array.count > 2 * OUTPUT_CHUNK_COUNT_MAX) {
        return false;
    }
    struct output_reader whole = {.cursor = cursor, .left = array.count / 2};
    for (uint32_t i = 0; i < whole.left; i++) {
        if (!read_piece(&cursor, &piece)) {
            return false;
        }
    }
    if (!cursor_done(&cursor)) {
        return false;
    }
    *reader = whole;
    return true;
}

bool output_next(struct output_reader *reader, struct output_piece *piece_out)
{
    if (reader->left == 0) {
        return false;
    }
    reader->left--;
    return read_piece(&reader->cursor, piece_out);
}

void output_tail(struct bytes output, enum output_stream stream, size_t max, struct buf *out)
{
    struct output_reader reader;
    struct output_piece piece;
    struct buf all = {0};
    (void)output_open(&reader, output);
    while (output_next(&reader, &piece)) {
        if (piece.stream == stream && piece.left_out > 0) {
            all.n = 0;
        } else if (piece.stream == stream) {
            buf_put(&all, piece.bytes.p, piece.bytes.n);
        }
    }
    size_t size = all.n < max ? all.n : max;
    if (size > 0) {
        buf_put(out, all.p + (all.n - size), size);
    }
    buf_fini(&all);
}

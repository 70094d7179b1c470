/*
 * fuzz_value.c owns what any bytes must be to handlers and clients as arguments, results and reports: read or refused,
 * within bounds; and what the reader takes, the writer writes so that it is read the same.
 * It must not know where the bytes come from.
 * Start reading at LLVMFuzzerTestOneInput.
 */
#include "common/check.h"
#include "common/codec.h"
#include "common/limits.h"
#include "common/report.h"
#include "fuzz/input.h"
#include "quern/value.h"

/* Reads as the wrong type too, when the input says so: an error, and nothing is touched. */
static void read_scalar(struct quern_reader *reader, unsigned how)
{
    bool flag;
    int64_t i;
    uint64_t u;
    double f;
    int type;
    const char *text;
    const void *p;
    size_t n;
    switch (how % 9) {
    case 0:
        (void)quern_read_bool(reader, &flag);
        break;
    case 1:
        (void)quern_read_i64(reader, &i);
        break;
    case 2:
        (void)quern_read_u64(reader, &u);
        break;
    case 3:
        (void)quern_read_f64(reader, &f);
        break;
    case 4:
        (void)quern_read_str(reader, &text, &n);
        break;
    case 5:
        (void)quern_read_bin(reader, &p, &n);
        break;
    case 6:
        (void)quern_read_bytes(reader, &p, &n);
        break;
    case 7:
        (void)quern_read_ext(reader, &type, &p, &n);
        break;
    default:
        (void)quern_read_nil(reader);
    }
}

/* Walk everything a handler could, entering each level, or as a confused one would. */
static void walk(struct bytes bytes, unsigned confusion)
{
    struct quern_reader reader;
    unsigned depth = 0;
    size_t count;

    quern_reader_init(&reader, bytes.p, bytes.n);
    while (quern_reader_error(&reader) == QUERN_OK) {
        switch (quern_peek(&reader)) {
        case QUERN_TYPE_ARRAY:
            depth += quern_read_array(&reader, &count) == QUERN_OK;
            break;
        case QUERN_TYPE_MAP:
            depth += quern_read_map(&reader, &count) == QUERN_OK;
            break;
        case QUERN_TYPE_NONE:
            if (depth == 0) {
                return;
            }
            depth -= quern_read_close(&reader) == QUERN_OK;
            break;
        default:
            if (confusion % 4 == 0) {
                read_scalar(&reader, confusion >> 2);
            } else {
                (void)quern_read_any(&reader, NULL, NULL);
            }
        }
        CHECK(reader.p <= reader.end);
    }
}

/* One value, written anew from what was read. False: it cannot be read. */
static bool copy_value(struct quern_reader *reader, struct quern_writer *writer)
{
    bool flag;
    int64_t i;
    uint64_t u;
    double f;
    int type;
    const char *text;
    const void *p;
    size_t n;
    switch (quern_peek(reader)) {
    case QUERN_TYPE_NONE:
        return false;
    case QUERN_TYPE_NIL:
        quern_write_nil(writer);
        return quern_read_nil(reader) == QUERN_OK;
    case QUERN_TYPE_BOOL:
        (void)quern_read_bool(reader, &flag);
        quern_write_bool(writer, flag);
        return true;
    case QUERN_TYPE_INT: {
        struct quern_reader again = *reader;
        if (quern_read_i64(reader, &i) == QUERN_OK) {
            quern_write_i64(writer, i);
            return true;
        }
        *reader = again;
        CHECK(quern_read_u64(reader, &u) == QUERN_OK); /* every integer is one of both */
        quern_write_u64(writer, u);
        return true;
    }
    case QUERN_TYPE_FLOAT:
        CHECK(quern_read_f64(reader, &f) == QUERN_OK);
        quern_write_f64(writer, f);
        return true;
    case QUERN_TYPE_STR:
        CHECK(quern_read_str(reader, &text, &n) == QUERN_OK);
        quern_write_str(writer, text, n);
        return true;
    case QUERN_TYPE_BIN:
        CHECK(quern_read_bin(reader, &p, &n) == QUERN_OK);
        quern_write_bin(writer, p, n);
        return true;
    case QUERN_TYPE_EXT:
        CHECK(quern_read_ext(reader, &type, &p, &n) == QUERN_OK);
        quern_write_ext(writer, type, p, n);
        return true;
    case QUERN_TYPE_ARRAY:
        if (quern_read_array(reader, &n) != QUERN_OK) {
            return false;
        }
        quern_write_array(writer, n);
        break;
    case QUERN_TYPE_MAP:
        if (quern_read_map(reader, &n) != QUERN_OK) {
            return false;
        }
        quern_write_map(writer, n);
        break;
    }
    while (quern_peek(reader) != QUERN_TYPE_NONE) {
        if (!copy_value(reader, writer)) {
            return false;
        }
    }
    return quern_read_close(reader) == QUERN_OK;
}

/* What was read, written and read again is written the same: and whoever says it is whole can read it. */
static void copy_check(struct bytes bytes)
{
    struct quern_reader reader;
    struct quern_writer *first = quern_writer_new();
    struct quern_writer *second = quern_writer_new();
    const void *p;
    const void *p_again;
    size_t n;
    size_t n_again;

    quern_reader_init(&reader, bytes.p, bytes.n);
    bool is_read = copy_value(&reader, first) && reader.p == reader.end;
    CHECK(is_read == value_is_whole(bytes, QUERN_VALUE_DEPTH_MAX));
    if (is_read) {
        CHECK(quern_writer_error(first) == QUERN_OK);
        quern_writer_bytes(first, &p, &n);
        quern_reader_init(&reader, p, n);
        CHECK(copy_value(&reader, second));
        quern_writer_bytes(second, &p_again, &n_again);
        CHECK(bytes_equal(bytes_of(p, n), bytes_of(p_again, n_again)));
    }
    quern_writer_free(first);
    quern_writer_free(second);
}

static void report_check(struct bytes bytes)
{
    struct report report;
    struct report again;
    struct buf buf = {0};
    if (!report_read(bytes, &report)) {
        CHECK(report.backtrace.n == 0 && report.tail.n == 0 && !report.core_dumped);
        return;
    }
    report_put(&buf, &report);
    CHECK(buf.n <= REPORT_SIZE_MAX);
    if (buf.n > 0) {
        CHECK(report_read(buf_bytes(&buf), &again));
        CHECK(again.core_dumped == report.core_dumped && again.tail.n <= ERROR_STDERR_SIZE_MAX);
    }
    buf_fini(&buf);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bytes bytes = bytes_of(data, size);
    walk(bytes, 1);
    walk(bytes, size > 0 ? (unsigned)data[size - 1] * 4 : 0);
    copy_check(bytes);
    report_check(bytes);
    return 0;
}

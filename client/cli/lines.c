/*
 * Owns cutting input into items. Must not know what they mean. Start at lines_next.
 */
#include "client/cli/lines.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

void lines_init(struct lines *lines, int fd, uint8_t end, size_t size_max)
{
    *lines = (struct lines){.fd = fd, .end = end, .size_max = size_max};
}

void lines_fini(struct lines *lines)
{
    buf_fini(&lines->buf);
}

void lines_fill(struct lines *lines)
{
    if (lines->at > 0) {
        memmove(lines->buf.p, lines->buf.p + lines->at, lines->buf.n - lines->at);
        lines->buf.n -= lines->at;
        lines->scanned -= lines->at;
        lines->at = 0;
    }
    buf_reserve(&lines->buf, LINES_READ_SIZE);
    ssize_t n = read(lines->fd, lines->buf.p + lines->buf.n, LINES_READ_SIZE);
    if (n > 0) {
        lines->buf.n += (size_t)n;
    } else if (n == 0) {
        lines->is_eof = true;
    } else if (errno != EINTR && errno != EAGAIN) {
        lines->error = errno;
    }
}

/* What lies between at and the end of the item, or of the buffer; true if the item's end is there. */
static bool item_scan(struct lines *lines, size_t *size_out)
{
    const uint8_t *found = NULL;
    if (lines->scanned < lines->buf.n) {
        found = memchr(lines->buf.p + lines->scanned, lines->end, lines->buf.n - lines->scanned);
    }
    size_t stop = found != NULL ? (size_t)(found - lines->buf.p) : lines->buf.n;
    lines->scanned = stop;
    *size_out = stop - lines->at;
    return found != NULL;
}

/* Nothing whole is buffered: wait, or the last item, which has no end of its own. */
static enum lines_state item_rest(struct lines *lines, size_t size, struct line *line_out)
{
    if (size > lines->size_max) {
        lines->is_skipping = true;
    }
    if (lines->is_skipping) {
        lines->at = lines->buf.n;
    }
    if (lines->error != 0) {
        return LINES_FAILED;
    }
    if (!lines->is_eof) {
        return LINES_WAIT;
    }
    if (lines->is_skipping) {
        lines->is_skipping = false;
        *line_out = (struct line){.number = ++lines->number};
        return LINES_TOO_LONG;
    }
    if (size == 0) {
        return LINES_END;
    }
    *line_out = (struct line){.text = {lines->buf.p + lines->at, size}, .number = ++lines->number};
    lines->at = lines->buf.n;
    return LINES_ITEM;
}

enum lines_state lines_next(struct lines *lines, struct line *line_out)
{
    size_t size;
    while (item_scan(lines, &size)) {
        const uint8_t *p = lines->buf.p + lines->at;
        bool is_too_long = lines->is_skipping || size > lines->size_max;
        lines->at += size + 1;
        lines->scanned = lines->at;
        lines->number++;
        lines->is_skipping = false;
        if (is_too_long) {
            *line_out = (struct line){.number = lines->number};
            return LINES_TOO_LONG;
        }
        if (size > 0) {
            *line_out = (struct line){.text = {p, size}, .number = lines->number};
            return LINES_ITEM;
        }
    }
    return item_rest(lines, size, line_out);
}

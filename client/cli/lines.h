/*
 * Items of a file descriptor: lines, or texts that end with NUL; with their physical number from 1. Reads no further
 * than asked. Must not know what an item means.
 */
#ifndef QUERN_CLI_LINES_H
#define QUERN_CLI_LINES_H

#include "common/bytes.h"

#define LINES_READ_SIZE (64u * 1024u)

enum lines_state {
    LINES_ITEM,     /* a whole item that is not empty */
    LINES_TOO_LONG, /* one over the bound: number is set, the bytes are not there any more */
    LINES_WAIT,     /* lines_fill first, when the descriptor is readable */
    LINES_END,
    LINES_FAILED, /* read(2) failed; lines->error */
};

struct line {
    struct bytes text; /* valid until the next call */
    uint64_t number;
};

struct lines {
    int fd;
    uint8_t end; /* '\n' or NUL */
    size_t size_max;
    struct buf buf;
    size_t at;      /* first byte not given out */
    size_t scanned; /* no end between at and here */
    uint64_t number;
    bool is_skipping; /* inside an item over the bound */
    bool is_eof;
    int error;
};

void lines_init(struct lines *lines, int fd, uint8_t end, size_t size_max);
void lines_fini(struct lines *lines);
/* The next item that is not empty; never reads. */
enum lines_state lines_next(struct lines *lines, struct line *line_out);
/* One read(2). Invalidates the last line. */
void lines_fill(struct lines *lines);

#endif

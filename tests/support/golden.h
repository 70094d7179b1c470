/*
 * golden.h: the frames of tests/golden/frames.txt, as our encoder is told to write them.
 */
#ifndef QUERN_TESTS_SUPPORT_GOLDEN_H
#define QUERN_TESTS_SUPPORT_GOLDEN_H

#include "common/bytes.h"

struct golden_vector {
    const char *name;
    const char *direction;
    const char *shows;
    void (*put)(struct buf *frame); /* appends the whole frame */
    bool is_in_protocol;            /* PROTOCOL.md's worked example shows it */
};

extern const struct golden_vector golden_vectors[];
extern const size_t golden_vector_count;

#endif

/*
 * input.h: the bytes of one input, read as choices. Behind their end everything is 0, so that every input means
 * something and shorter ones are simpler.
 */
#ifndef QUERN_TESTS_FUZZ_INPUT_H
#define QUERN_TESTS_FUZZ_INPUT_H

#include "common/bytes.h"

#include <string.h>

/* What libFuzzer and driver.c call. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct input {
    const uint8_t *p;
    size_t left;
};

static inline struct input input_of(const uint8_t *data, size_t size)
{
    return (struct input){.p = data, .left = size};
}

static inline uint8_t input_u8(struct input *input)
{
    if (input->left == 0) {
        return 0;
    }
    input->left--;
    return *input->p++;
}

static inline uint64_t input_u64(struct input *input)
{
    uint64_t value = 0;
    for (unsigned i = 0; i < 8; i++) {
        value = value << 8 | input_u8(input);
    }
    return value;
}

/* 0..bound - 1; bound up to 256. */
static inline unsigned input_below(struct input *input, unsigned bound)
{
    return input_u8(input) % bound;
}

/* The next size bytes, fewer if there are fewer. */
static inline struct bytes input_bytes(struct input *input, size_t size)
{
    struct bytes bytes = bytes_of(input->p, size < input->left ? size : input->left);
    input->p += bytes.n;
    input->left -= bytes.n;
    return bytes;
}

/* A copy that ends where the bytes end, so that a sanitizer sees a read behind them; the caller frees it. */
static inline uint8_t *input_copy(const uint8_t *data, size_t size)
{
    struct buf copy = {0};
    buf_reserve(&copy, size + 1);
    size_t n;
    buf_put(&copy, data, size);
    return buf_release(&copy, &n);
}

#endif

/*
 * test_random_bytes.c owns fuzzing that every run of the tests does: golden frames damaged by seed, and noise. The same
 * property under libFuzzer: README.md.
 * It must not know messages. Start reading at main.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "fuzz/fuzz_message.h"
#include "support/golden.h"

#define ROUND_COUNT 2000u

static uint64_t next_random(uint64_t *seed)
{
    *seed = *seed * 6364136223846793005u + 1442695040888963407u;
    return *seed >> 11;
}

/* Of exactly that size, so that a sanitizer sees a read behind it. */
static unsigned check_copy(struct bytes bytes)
{
    uint8_t *copy = test_malloc(bytes.n + 1);
    unsigned count;

    if (bytes.n > 0) {
        memcpy(copy + 1, bytes.p, bytes.n);
    }
    count = fuzz_message(bytes_of(copy + 1, bytes.n));
    test_free(copy);
    return count;
}

static uint8_t interesting_byte(uint64_t *seed)
{
    static const uint8_t bytes[] = {0x00, 0x01, 0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc0, 0xc1, 0xc4, 0xc6,
                                    0xca, 0xcb, 0xcf, 0xd3, 0xd9, 0xdb, 0xdc, 0xdd, 0xde, 0xdf, 0xe0, 0xff};

    return bytes[next_random(seed) % sizeof bytes];
}

/* Change a byte, take some out, put some in, or repeat a part. */
static void damage(struct buf *frame, uint64_t *seed)
{
    size_t at = next_random(seed) % (frame->n + 1);
    size_t size = next_random(seed) % 8;

    switch (next_random(seed) % 4) {
    case 0:
        if (at < frame->n) {
            frame->p[at] = interesting_byte(seed);
        }
        break;
    case 1:
        size = size < frame->n - at ? size : frame->n - at;
        memmove(frame->p + at, frame->p + at + size, frame->n - at - size);
        frame->n -= size;
        break;
    case 2:
        buf_reserve(frame, size);
        memmove(frame->p + at + size, frame->p + at, frame->n - at);
        for (size_t i = 0; i < size; i++) {
            frame->p[at + i] = interesting_byte(seed);
        }
        frame->n += size;
        break;
    default:
        size = frame->n - at;
        buf_reserve(frame, size);
        memmove(frame->p + at + size, frame->p + at, size);
        frame->n += size;
    }
}

/* Most of a damaged frame is right, so the damage is met deep inside. */
static void test_damaged_frames_are_read_or_refused(void **state)
{
    uint64_t seed = 7;
    unsigned read_count = 0;

    (void)state;
    for (size_t i = 0; i < golden_vector_count; i++) {
        for (unsigned round = 0; round < ROUND_COUNT; round++) {
            struct buf frame = {0};

            golden_vectors[i].put(&frame);
            for (uint64_t times = 1 + next_random(&seed) % 3; times > 0; times--) {
                damage(&frame, &seed);
            }
            read_count += check_copy(buf_bytes(&frame));
            buf_fini(&frame);
        }
    }
    assert_true(read_count > ROUND_COUNT); /* it does get inside */
}

static void test_noise_is_read_or_refused(void **state)
{
    uint64_t seed = 11;

    (void)state;
    for (unsigned round = 0; round < 20 * ROUND_COUNT; round++) {
        uint8_t bytes[64] = {0x92, 0x01, 0x01}; /* the head of a frame, so that it comes to messages */
        size_t n = 3 + next_random(&seed) % (sizeof bytes - 3);

        for (size_t i = 3; i < n; i++) {
            bytes[i] = next_random(&seed) % 2 == 0 ? interesting_byte(&seed) : (uint8_t)next_random(&seed);
        }
        check_copy(bytes_of(bytes, n));
        check_copy(bytes_of(bytes + 3, n - 3));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_damaged_frames_are_read_or_refused),
        cmocka_unit_test(test_noise_is_read_or_refused),
    };
    return cmocka_run_group_tests_name("random_bytes", tests, NULL, NULL);
}

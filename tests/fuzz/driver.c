/*
 * driver.c owns fuzzing without libFuzzer: replays the inputs of the files it is given, then damages them by seed for a
 * while. Every run of the tests does that; under clang libFuzzer takes its place (README.md).
 * It must not know what the target does with the bytes.
 * Start reading at main.
 *
 * Usage: fuzz_NOUN [--seconds N] [--seed N] FILE...
 * A file has one input per line, as hex; `hex ` may stand before it; other lines are passed over.
 */
#include "common/bytes.h"
#include "common/check.h"
#include "common/clock.h"
#include "common/random.h"
#include "fuzz/input.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define INPUT_SIZE_MAX 4096u
#define INPUT_COUNT_MAX 65536u
/* One input that takes longer is a loop without end. */
#define INPUT_SECONDS_MAX 30u

struct bed {
    struct buf *inputs;
    size_t count;
    uint64_t seed;
    uint64_t runs;
    char path[64];  /* what is tried now stands there, also when this process has died of it */
    uint32_t *size; /* mapped: size, bytes */
    uint8_t *bytes;
};

static uint64_t chance(struct bed *bed)
{
    bed->seed += 0x9e3779b97f4a7c15u;
    uint64_t z = bed->seed;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

/* ---- inputs ---- */

static int digit_of(char c)
{
    const char *at = c != '\0' ? strchr("0123456789abcdef", c) : NULL;
    return at != NULL ? (int)(at - "0123456789abcdef") : -1;
}

/* False: the line is something else. */
static bool line_read(const char *line, struct buf *input)
{
    if (strncmp(line, "hex ", 4) == 0) {
        line += 4;
    }
    for (; *line != '\0' && *line != '\n'; line += 2) {
        int high = digit_of(line[0]);
        int low = high < 0 ? -1 : digit_of(line[1]);
        if (low < 0) {
            return false;
        }
        buf_put_u8(input, (uint8_t)(high << 4 | low));
    }
    return true;
}

static void inputs_read(struct bed *bed, const char *path)
{
    char *line = NULL;
    size_t size = 0;
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        fprintf(stderr, "cannot read %s\n", path);
        exit(2);
    }
    while (getline(&line, &size, file) > 0 && bed->count < INPUT_COUNT_MAX) {
        struct buf input = {0};
        if (line_read(line, &input)) {
            bed->inputs[bed->count++] = input;
        } else {
            buf_fini(&input);
        }
    }
    free(line);
    (void)fclose(file);
}

/* ---- running ---- */

static void input_file_make(struct bed *bed)
{
    const char *folder = getenv("TMPDIR");
    snprintf(bed->path, sizeof bed->path, "%.40s/quern-fuzz-XXXXXX", folder != NULL ? folder : "/tmp");
    int fd = mkstemp(bed->path);
    CHECK(fd >= 0 && ftruncate(fd, INPUT_SIZE_MAX + 4) == 0);
    uint8_t *p = mmap(NULL, INPUT_SIZE_MAX + 4, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    CHECK(p != MAP_FAILED);
    close(fd);
    bed->size = (uint32_t *)(void *)p;
    bed->bytes = p + 4;
}

static void run(struct bed *bed, struct bytes input)
{
    size_t n = input.n < INPUT_SIZE_MAX ? input.n : INPUT_SIZE_MAX;
    *bed->size = (uint32_t)n;
    if (n > 0) {
        memcpy(bed->bytes, input.p, n);
    }
    /* Of its own, so that a sanitizer sees a read behind it. */
    uint8_t *copy = input_copy(input.p, n);
    (void)alarm(INPUT_SECONDS_MAX);
    (void)LLVMFuzzerTestOneInput(copy, n);
    free(copy);
    bed->runs++;
}

static void damage(struct bed *bed, struct buf *input)
{
    static const uint8_t words[] = {0x00, 0x01, 0x7f, 0x80, 0x8f, 0x90, 0xa0, 0xc0, 0xc1, 0xc4, 0xc6, 0xcb, 0xcf,
                                    0xd3, 0xd9, 0xdb, 0xdc, 0xdd, 0xdf, 0xff, ' ',  '"',  '{',  '\n', '0',  '-'};
    size_t at = chance(bed) % (input->n + 1);
    size_t size = 1 + chance(bed) % 8;
    size_t left = input->n - at;
    switch (chance(bed) % 6) {
    case 0:
        if (left > 0) {
            input->p[at] = (uint8_t)chance(bed);
        }
        break;
    case 1:
        if (left > 0) {
            input->p[at] = words[chance(bed) % sizeof words];
        }
        break;
    case 2:
        size = size < left ? size : left;
        memmove(input->p + at, input->p + at + size, left - size);
        input->n -= size;
        break;
    case 3:
        buf_reserve(input, size);
        memmove(input->p + at + size, input->p + at, left);
        for (size_t i = 0; i < size; i++) {
            input->p[at + i] = chance(bed) % 2 == 0 ? words[chance(bed) % sizeof words] : (uint8_t)chance(bed);
        }
        input->n += size;
        break;
    case 4: { /* the end of another one */
        const struct buf *other = &bed->inputs[chance(bed) % bed->count];
        size_t from = chance(bed) % (other->n + 1);
        input->n = at;
        buf_put(input, other->p + from, other->n - from);
        break;
    }
    default: /* a part again */
        buf_reserve(input, left);
        memmove(input->p + at + left, input->p + at, left);
        input->n += left;
    }
    input->n = input->n < INPUT_SIZE_MAX ? input->n : INPUT_SIZE_MAX;
}

static void run_damaged(struct bed *bed)
{
    const struct buf *from = &bed->inputs[chance(bed) % bed->count];
    struct buf input = {0};
    buf_reserve(&input, INPUT_SIZE_MAX);
    buf_put(&input, from->p, from->n);
    for (uint64_t times = 1 + chance(bed) % 4; times > 0; times--) {
        damage(bed, &input);
    }
    run(bed, buf_bytes(&input));
    buf_fini(&input);
}

static void bed_fini(struct bed *bed)
{
    for (size_t i = 0; i < bed->count; i++) {
        buf_fini(&bed->inputs[i]);
    }
    free(bed->inputs);
    munmap(bed->size, INPUT_SIZE_MAX + 4);
    (void)unlink(bed->path);
}

int main(int argc, char **argv)
{
    struct bed bed = {.inputs = xcalloc(INPUT_COUNT_MAX, sizeof(struct buf))};
    int64_t seconds = 2;
    random_fill(&bed.seed, sizeof bed.seed);
    bed.seed >>= 16;
    bed.inputs[bed.count++] = (struct buf){0}; /* nothing at all */
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--seconds") == 0 && i + 1 < argc) {
            seconds = (int64_t)strtoull(argv[++i], NULL, 10);
        } else if (strcmp(argv[i], "--seed") == 0 && i + 1 < argc) {
            bed.seed = strtoull(argv[++i], NULL, 10);
        } else {
            inputs_read(&bed, argv[i]);
        }
    }
    input_file_make(&bed);
    printf("seed %" PRIu64 "; if it dies, %s holds what of: size (4 bytes), input\n", bed.seed, bed.path);
    (void)fflush(stdout);
    for (size_t i = 0; i < bed.count; i++) {
        run(&bed, buf_bytes(&bed.inputs[i]));
    }
    for (int64_t end = clock_mono_ms() + seconds * 1000; clock_mono_ms() < end;) {
        run_damaged(&bed);
    }
    printf("%" PRIu64 " inputs, %zu of them kept ones\n", bed.runs, bed.count);
    bed_fini(&bed);
    return 0;
}

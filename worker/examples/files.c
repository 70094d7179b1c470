/* wordcount(path): bytes, lines and words as `LC_ALL=C wc` counts them, and the SHA-256. */
#include "examples.h"

#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define READ_SIZE (256u * 1024u)

struct counts {
    uint64_t bytes;
    uint64_t lines;
    uint64_t words;
    bool is_in_word;
    crypto_hash_sha256_state hash;
};

static bool is_separator(unsigned char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

/* In the C locale only printable characters make a word; others neither make nor end one. */
static bool is_printable(unsigned char c)
{
    return c > ' ' && c < 0x7f;
}

static void count(struct counts *counts, const unsigned char *p, size_t n)
{
    counts->bytes += n;
    crypto_hash_sha256_update(&counts->hash, p, n);
    for (size_t i = 0; i < n; i++) {
        counts->lines += p[i] == '\n';
        if (is_separator(p[i])) {
            counts->words += counts->is_in_word;
            counts->is_in_word = false;
        } else if (is_printable(p[i])) {
            counts->is_in_word = true;
        }
    }
}

/* 0, or errno. */
static int count_file(const char *path, struct counts *counts)
{
    /* A pipe that nobody writes to must not hold the slot; a directory says so itself. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    unsigned char *buffer = malloc(READ_SIZE);
    ssize_t got = -1;
    int err = fd < 0 ? errno : buffer == NULL ? ENOMEM : 0;
    while (err == 0 && (got = read(fd, buffer, READ_SIZE)) != 0) {
        if (got > 0) {
            count(counts, buffer, (size_t)got);
        } else if (errno != EINTR) {
            err = errno;
        }
    }
    counts->words += counts->is_in_word;
    free(buffer);
    if (fd >= 0) {
        close(fd);
    }
    return err;
}

static void write_counts(struct quern_writer *result, struct counts *counts)
{
    unsigned char digest[crypto_hash_sha256_BYTES];
    char hex[2 * sizeof(digest) + 1];
    crypto_hash_sha256_final(&counts->hash, digest);
    quern_write_map(result, 4);
    quern_write_text(result, "bytes");
    quern_write_u64(result, counts->bytes);
    quern_write_text(result, "lines");
    quern_write_u64(result, counts->lines);
    quern_write_text(result, "words");
    quern_write_u64(result, counts->words);
    quern_write_text(result, "sha256");
    quern_write_text(result, sodium_bin2hex(hex, sizeof(hex), digest, sizeof(digest)));
}

enum quern_err run_wordcount(struct quern_task *task, struct quern_reader *args, struct quern_writer *result)
{
    const void *p;
    size_t n;
    if (quern_read_bytes(args, &p, &n) != QUERN_OK || !args_are_done(args) || memchr(p, 0, n) != NULL) {
        return quern_task_fail_args(task, args, "wordcount takes the path of a file");
    }
    char *path = strndup(p, n);
    struct counts counts = {0};
    crypto_hash_sha256_init(&counts.hash);
    int err = path == NULL ? ENOMEM : count_file(path, &counts);
    if (err != 0) {
        (void)quern_task_fail(task, err == ENOENT ? "NoFile" : "ReadError", "%s: %s", path == NULL ? "" : path,
                              strerror(err));
        free(path);
        return QUERN_TASK_FAILED;
    }
    free(path);
    write_counts(result, &counts);
    return QUERN_OK;
}

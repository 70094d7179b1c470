/*
 * Owns the temporary file. Must not know what its records are for. Start at spool_put.
 */
#include "client/cli/spool.h"

#include "common/check.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

struct spool_head {
    uint64_t number;
    uint64_t first_size;
    uint64_t second_size;
};

void spool_init(struct spool *spool)
{
    *spool = (struct spool){.fd = -1};
}

void spool_fini(struct spool *spool)
{
    if (spool->fd >= 0) {
        (void)close(spool->fd);
    }
    buf_fini(&spool->scratch);
    spool_init(spool);
}

bool spool_is_empty(const struct spool *spool)
{
    return spool->front == spool->end;
}

static bool spool_open(struct spool *spool)
{
    const char *folder = getenv("TMPDIR");
    struct buf path = {0};
    if (spool->fd >= 0) {
        return true;
    }
    buf_printf(&path, "%s/quern-XXXXXX", folder != NULL && folder[0] != '\0' ? folder : "/tmp");
    buf_put_u8(&path, '\0');
    spool->fd = mkostemp((char *)path.p, O_CLOEXEC);
    if (spool->fd >= 0) {
        (void)unlink((const char *)path.p);
    }
    buf_fini(&path);
    return spool->fd >= 0;
}

static bool write_at(int fd, struct bytes bytes, uint64_t at)
{
    while (bytes.n > 0) {
        ssize_t n = pwrite(fd, bytes.p, bytes.n, (off_t)at);
        if (n < 0 && errno != EINTR) {
            return false;
        }
        if (n > 0) {
            bytes.p += n;
            bytes.n -= (size_t)n;
            at += (uint64_t)n;
        }
    }
    return true;
}

static bool read_at(int fd, void *to, size_t size, uint64_t at)
{
    uint8_t *p = to;
    while (size > 0) {
        ssize_t n = pread(fd, p, size, (off_t)at);
        if (n == 0 || (n < 0 && errno != EINTR)) {
            return false;
        }
        if (n > 0) {
            p += n;
            size -= (size_t)n;
            at += (uint64_t)n;
        }
    }
    return true;
}

bool spool_put(struct spool *spool, uint64_t number, struct bytes first, struct bytes second, uint64_t *place_out)
{
    struct spool_head head = {.number = number, .first_size = first.n, .second_size = second.n};
    uint64_t at = spool->end;
    if (!spool_open(spool) || !write_at(spool->fd, bytes_of(&head, sizeof head), at) ||
        !write_at(spool->fd, first, at + sizeof head) || !write_at(spool->fd, second, at + sizeof head + first.n)) {
        return false;
    }
    *place_out = at;
    spool->end = at + sizeof head + first.n + second.n;
    return true;
}

static bool record_read(struct spool *spool, uint64_t place, struct spool_record *record_out, uint64_t *size_out)
{
    struct spool_head head;
    if (!read_at(spool->fd, &head, sizeof head, place)) {
        return false;
    }
    size_t size = head.first_size + head.second_size;
    spool->scratch.n = 0;
    buf_reserve(&spool->scratch, size + 1);
    if (!read_at(spool->fd, spool->scratch.p, size, place + sizeof head)) {
        return false;
    }
    *record_out = (struct spool_record){.number = head.number,
                                        .first = {spool->scratch.p, head.first_size},
                                        .second = {spool->scratch.p + head.first_size, head.second_size}};
    *size_out = sizeof head + size;
    return true;
}

bool spool_read(struct spool *spool, uint64_t place, struct spool_record *record_out)
{
    uint64_t size;
    return record_read(spool, place, record_out, &size);
}

bool spool_take(struct spool *spool, struct spool_record *record_out)
{
    uint64_t size;
    CHECK(!spool_is_empty(spool));
    if (!record_read(spool, spool->front, record_out, &size)) {
        return false;
    }
    spool->front += size;
    if (spool->front == spool->end) { /* all taken: the file begins anew */
        spool->front = 0;
        spool->end = 0;
        return ftruncate(spool->fd, 0) == 0;
    }
    return true;
}

void spool_forget(struct spool *spool, uint64_t place, uint64_t size)
{
    /* A file system that cannot do this keeps the space until the process ends. */
    (void)fallocate(spool->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)place,
                    (off_t)(sizeof(struct spool_head) + size));
}

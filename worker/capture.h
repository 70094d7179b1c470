/*
 * capture.h: what a slot writes to stdout and to stderr: two pipes whose other ends the supervisor holds. It passes on
 * to its own stderr what comes, and keeps the last of each stream in a ring, by position in the whole stream. So what a
 * slot has written outlives its death, and the part that one attempt wrote can be told from that of others.
 *
 * Positions. A slot remembers where both streams stood when it started a task, and where they end after it. The
 * position is what the supervisor has taken, as it says on the status page, and what stands in the pipe: one call of
 * the kernel for each stream, which a slot does not make for tasks that are short and of functions that write nothing
 * (child.c).
 *
 * An attempt's part. Of each stream its first OUTPUT_HEAD_SIZE bytes and its last OUTPUT_TAIL_SIZE. The ring is larger
 * than that by one read, so that what ended between two reads is whole; the head of what writes more is put aside as it
 * comes: the page says where what runs began.
 *
 * Nothing blocks the supervisor, and it lets nobody wait for ever: if its own stderr takes no more, it stops reading
 * for CAPTURE_WAIT_MS; then it drops what it cannot pass on, until something can be passed on again.
 */
#ifndef QUERN_WORKER_CAPTURE_H
#define QUERN_WORKER_CAPTURE_H

#include "common/bytes.h"
#include "common/limits.h"
#include "common/output.h"
#include "worker/statuspage.h"

/* As much as a pipe holds: read at once. */
#define CAPTURE_READ_SIZE (64u * 1024u)
#define CAPTURE_RING_SIZE (128u * 1024u)
/* What is read of a pipe at once when its end is wanted, at most: a handler may have made it this large. */
#define CAPTURE_DRAIN_SIZE_MAX (2u * 1024u * 1024u)
/* A slot is read no faster than this: who writes more waits. */
#define CAPTURE_SLICE_MS 20
#define CAPTURE_SLICE_SIZE (256u * 1024u)
/* Our stderr takes no more: so long is it waited for. */
#define CAPTURE_WAIT_MS 1000
/* Changes from one stream to the other that are remembered; before them, stdout goes first. */
#define CAPTURE_MARK_COUNT 256u

/* ---- supervisor ---- */

/* Memory of one stream. */
struct capture_memory {
    uint8_t ring[CAPTURE_RING_SIZE]; /* [position % SIZE] */
    uint8_t head[OUTPUT_HEAD_SIZE];  /* [position - head_from] */
};

struct capture_stream {
    int fd;             /* -1: its end was seen */
    uint64_t taken;     /* bytes of the stream read so far */
    uint64_t passed;    /* of these, passed on, or dropped */
    uint64_t head_from; /* where what runs, or ran last, began */
    uint32_t head_size;
    struct capture_memory *memory; /* NULL until something comes */
};

/* Bytes of one stream that were taken one behind the other. */
struct capture_mark {
    uint64_t from;
    uint64_t to;
    unsigned stream; /* index */
};

struct capture {
    struct capture_stream streams[OUTPUT_STREAM_COUNT]; /* [OUTPUT_STDOUT - 1] ... */
    struct capture_mark *marks;                         /* [number % COUNT]; NULL until something comes */
    uint64_t mark_count;                                /* ever */
    uint64_t dropped;                                   /* bytes that were not passed on, and not yet told of */
    int64_t muted_ms;                                   /* our stderr takes no more, since then; 0 it does */
    bool is_dropping;                                   /* and has not for long */
    int64_t slice_ms;                                   /* the slice under way began then */
    size_t slice_size;
};

/* What an attempt wrote: positions in both streams. */
struct capture_part {
    uint64_t from[OUTPUT_STREAM_COUNT];
    uint64_t to[OUTPUT_STREAM_COUNT];
};

void capture_init(struct capture *capture);
/* fds: non-blocking; taken. */
void capture_open(struct capture *capture, const int fds[OUTPUT_STREAM_COUNT]);
/* Passes on what is left, if that goes without waiting. */
void capture_close(struct capture *capture);
bool capture_is_over(const struct capture *capture);
/* Read once what is there of each stream, and pass it on. False: no more is to be read before capture_wake_ms. */
bool capture_take(struct capture *capture, struct statuspage *page, int64_t now_ms);
int64_t capture_wake_ms(const struct capture *capture, int64_t now_ms);
/* Read to the end of the part, or all there is, and put its beginning aside; what cannot be passed on is dropped. */
void capture_drain(struct capture *capture, struct statuspage *page, const struct capture_part *part);
/* What was written in part, beyond the first known bytes of it (NULL: none): output.h, appended to out; nothing if
 * there is none. Positions that make no sense give nothing, or something else that this slot wrote. */
void capture_output(const struct capture *capture, const struct capture_part *part,
                    const uint64_t known[OUTPUT_STREAM_COUNT], struct buf *out);
/* The last of one stream's part, at most max bytes of it, appended to out. */
void capture_cut(const struct capture *capture, unsigned stream, uint64_t from, uint64_t to, size_t max,
                 struct buf *out);

/* ---- slot ---- */
/* Where a stream (index) stands now. fd: any descriptor of its pipe. */
uint64_t capture_position(struct statuspage *page, unsigned stream, int fd);

#endif

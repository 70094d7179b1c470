/*
 * capture.h: what a slot writes to stdout and stderr. Both are the same pipe, whose other end the supervisor holds: it
 * passes on to its own stderr what comes, and keeps the last of it in a ring, by position in the whole stream. So what
 * a slot has written outlives its death, and the part that one attempt wrote can be told from that of others.
 *
 * Positions. A slot remembers where the stream stood when it started a task, and if the task fails, where it ends. The
 * position is what the supervisor has taken, as it says on the status page, and what stands in the pipe: one call of
 * the kernel, which a slot does not make for tasks that are short and of functions that write nothing (child.c).
 *
 * Nothing blocks the supervisor: if its own stderr takes no more, it stops reading, and who writes waits.
 */
#ifndef QUERN_WORKER_CAPTURE_H
#define QUERN_WORKER_CAPTURE_H

#include "common/bytes.h"
#include "worker/statuspage.h"

/* As much as a pipe holds. */
#define CAPTURE_RING_SIZE (64u * 1024u)
/* What is read of a dead slot's pipe at most: a handler may have made it this large. */
#define CAPTURE_DRAIN_SIZE_MAX (2u * 1024u * 1024u)

/* ---- supervisor ---- */
struct capture {
    int fd;          /* -1: its end was seen */
    uint64_t taken;  /* bytes of the stream read so far */
    uint64_t passed; /* of these, passed on, or dropped */
    uint64_t dropped;
    uint8_t *ring; /* [position % SIZE]; NULL until something comes */
};

void capture_init(struct capture *capture);
/* fd: non-blocking; taken. */
void capture_open(struct capture *capture, int fd);
/* Passes on what is left, if that goes without waiting. */
void capture_close(struct capture *capture);
/* Read what is there and has room. False: nothing was. */
bool capture_take(struct capture *capture, struct statuspage *page);
/* Write on to our stderr what was taken. False: it takes no more now. */
bool capture_pass_on(struct capture *capture);
/* Read up to this position of the stream, or all there is; what cannot be passed on is dropped. */
void capture_drain(struct capture *capture, struct statuspage *page, uint64_t to);
/* The last of what was written from..to, at most max bytes of it, appended to out. Positions that make no sense give
 * nothing, or something else that this slot wrote. */
void capture_cut(const struct capture *capture, uint64_t from, uint64_t to, size_t max, struct buf *out);

/* ---- slot ---- */
/* Where the stream stands now. fd: any descriptor of the pipe. */
uint64_t capture_position(struct statuspage *page, int fd);

#endif

/*
 * statuspage.h: the memory that a supervisor and one of its slots share: claims, what runs, progress, and the ring of
 * results.
 *
 * Claims. Tasks handed to a slot are numbered 1, 2, 3 ... One word per number (at number % SLOT_QUEUE_COUNT_MAX) says
 * what became of it; both sides change it by compare-and-swap only, so exactly one of them wins:
 *
 *     HANDED --slot: claim_start--> STARTED         HANDED --supervisor: claim_revoke--> REVOKED
 *
 * The word holds the number too: a slot that comes late to a number whose word was given to a newer one finds that it
 * was revoked. A slot publishes the result of what it started before it starts the next, so at most one number is
 * STARTED without a whole result in the ring: what a dead slot was running.
 *
 * Ring. Results are a stream of bytes in shared memory, not in a socket: what a slot has finished outlives its death.
 * The slot sleeps on the space word (a futex) when the ring is full.
 *
 * Place. One word says whether the slot's handler waits for other tasks, so that its place is free for them:
 *
 *     HELD --slot: wait_begin--> ASKED --supervisor: wait_answer--> GIVEN or REFUSED --slot: wait_end--> HELD
 *
 * The slot sleeps on the word (a futex) until it is answered.
 *
 * A handler may scribble over all of this. The supervisor therefore keeps its own positions, copies before it looks,
 * and takes a word that makes no sense for STARTED.
 */
#ifndef QUERN_WORKER_STATUSPAGE_H
#define QUERN_WORKER_STATUSPAGE_H

#include "common/bytes.h"
#include "common/limits.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define SLOT_QUEUE_COUNT_MAX 2048u
#define SLOT_RING_SIZE (256u * 1024u)

enum place_word { PLACE_HELD, PLACE_ASKED, PLACE_GIVEN, PLACE_REFUSED };
/* Of a slot: it loads or initialises; it takes tasks; it never will, and the ring says why. */
enum birth_word { BIRTH_UNDER_WAY, BIRTH_READY, BIRTH_REFUSED };
#define SLOT_WHY_SIZE_MAX 4096u
enum claim { CLAIM_NONE, CLAIM_HANDED, CLAIM_STARTED, CLAIM_REVOKED };

/* What a task last said of its progress, guarded by a version that is odd while it is written. */
struct progress_board {
    _Atomic uint32_t version;
    _Atomic uint32_t text_size;
    _Atomic uint64_t number;
    _Atomic uint64_t fraction; /* bits of a double */
    _Atomic uint64_t text[PROGRESS_TEXT_SIZE_MAX / 8];
};

/* What a slot that crashed said of it (crash.c): a list of addresses, and the text that was made of it. */
struct crash_board {
    _Atomic uint64_t number; /* that ran; 0: it has not crashed */
    _Atomic uint32_t list_size;
    _Atomic uint32_t text_size;
    char list[BACKTRACE_SIZE_MAX];
    char text[BACKTRACE_SIZE_MAX];
};

/* What a command has written so far (board.h). */
struct board_stream {
    _Atomic uint64_t size; /* bytes that stand here, or did */
    _Atomic uint64_t end;  /* more than size while some are being written */
    uint8_t head[OUTPUT_HEAD_SIZE];
    uint8_t tail[OUTPUT_TAIL_SIZE]; /* [position % SIZE] */
};
struct board {
    _Atomic uint64_t number; /* of the task; 0: none yet */
    struct board_stream streams[2];
};

struct statuspage {
    /* written by the supervisor */
    _Alignas(64) _Atomic int64_t lease_end_ms; /* monotonic: nothing is started after it */
    _Atomic uint64_t read;                     /* bytes of the ring taken so far */
    _Atomic uint32_t space;                    /* futex: rises with every taking */
    _Atomic uint64_t stopping;                 /* number that is being stopped; 0 none */
    _Atomic uint32_t capture_version;          /* odd while captured is about to change (capture.c) */
    _Atomic uint64_t captured[2];              /* bytes of its stdout and stderr that were taken */
    /* written by the slot */
    _Alignas(64) _Atomic uint64_t written; /* bytes of the ring published so far */
    _Atomic uint32_t birth;                /* enum birth_word */
    _Atomic uint64_t functions_hash;       /* of what it has loaded; before READY */
    _Atomic uint32_t space_waiters;
    _Atomic uint64_t running;   /* number, 0 none; started_* are of it */
    _Atomic int64_t started_us; /* monotonic */
    _Atomic int64_t started_wall_ms;
    _Atomic uint64_t cpu_counted_us; /* CPU time of this slot that earlier attempts account for */
    _Atomic int64_t wait_since_us;   /* unless the place is held */
    _Atomic uint64_t waited_us;      /* of what runs, without the wait under way */
    _Atomic uint64_t memory_base;    /* memory of this slot (meter.h) just before what runs began; 0: not looked at */
    _Atomic uint64_t output_from[2]; /* where stdout and stderr stood when what runs was started */
    struct progress_board progress;
    /* written by both */
    _Alignas(64) _Atomic uint32_t place; /* enum place_word */
    _Alignas(64) _Atomic uint64_t claims[SLOT_QUEUE_COUNT_MAX];
    _Alignas(64) uint8_t ring[SLOT_RING_SIZE];
    /* written by the slot while it runs a command */
    _Alignas(64) struct board board;
    /* written by the slot as it dies */
    _Alignas(64) struct crash_board crash;
};

/* ---- both ---- */
enum claim claim_read(struct statuspage *page, uint64_t number);

/* ---- supervisor ---- */
/* Made in the zygote: a memfd of the page's size, zeroed; -1 and errno. */
int statuspage_create(void);
struct statuspage *statuspage_map(int fd); /* NULL and errno */
void statuspage_unmap(struct statuspage **page);
enum birth_word birth_read(struct statuspage *page);
void claim_hand(struct statuspage *page, uint64_t number);
/* True: the slot will never start it. */
bool claim_revoke(struct statuspage *page, uint64_t number);
/* Append what is published and not taken to out; false: the positions make no sense (*read is the supervisor's own). */
bool ring_take(struct statuspage *page, uint64_t *read, struct buf *out);
/* What runs under this number is to be stopped: its handler can ask. */
void statuspage_stop(struct statuspage *page, uint64_t number);
/* Since when number runs: false if the page does not say so (not begun to, or over). */
bool statuspage_started(struct statuspage *page, uint64_t number, int64_t *mono_us_out, int64_t *wall_ms_out);
/* Anything that makes no sense is HELD. */
enum place_word place_read(struct statuspage *page);
/* ASKED only: the slot waits, or (false) goes on without waiting. */
void wait_answer(struct statuspage *page, bool is_given);
/* Of what runs, the wait under way included. */
uint64_t statuspage_waited_us(struct statuspage *page, int64_t now_us);
struct progress {
    double fraction;
    size_t text_size;
    char text[PROGRESS_TEXT_SIZE_MAX];
};
/* What number said last; version tells whether it is new. False: nothing, or it is being written. */
bool progress_read(struct statuspage *page, uint64_t number, uint32_t *version, struct progress *progress_out);

/* ---- slot ---- */
/* True: it is ours to run. */
bool claim_start(struct statuspage *page, uint64_t number);
void statuspage_birth(struct statuspage *page, enum birth_word word);
void statuspage_run(struct statuspage *page, uint64_t number, int64_t mono_us, int64_t wall_ms);
bool statuspage_is_stopping(struct statuspage *page, uint64_t number);
/* Then the supervisor is to be told to look. */
void wait_begin(struct statuspage *page, int64_t now_us);
/* Sleeps until there is an answer, or until the deadline (monotonic ms; then it may still come). False: refused. */
bool wait_is_given(struct statuspage *page, int64_t deadline_ms);
void wait_end(struct statuspage *page, int64_t now_us);
/* Copy as much as fits, publish it, and return how much that was. */
size_t ring_put(struct statuspage *page, struct bytes bytes);
/* Where the next so many bytes stand, to be written there; NULL: there is no room for them now, or not in one piece. */
uint8_t *ring_room(struct statuspage *page, size_t size);
/* So many were written there. */
void ring_publish(struct statuspage *page, size_t size);
/* Sleep until there is space again (or a while has passed). */
void ring_wait(struct statuspage *page);
void progress_write(struct statuspage *page, uint64_t number, double fraction, const char *text);

#endif

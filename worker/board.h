/*
 * board.h: what the command of a slot has written so far, on the status page: there while it runs, and when it was
 * killed. The slot's own process reads the command's pipes and writes it down here; the result has all of it if it ends
 * by itself. Of each stream the beginning, and the end in a ring.
 */
#ifndef QUERN_WORKER_BOARD_H
#define QUERN_WORKER_BOARD_H

#include "common/bytes.h"
#include "common/output.h"
#include "worker/statuspage.h"

/* ---- slot ---- */
/* The command of the task of this number begins. */
void board_begin(struct statuspage *page, uint64_t number);
void board_put(struct statuspage *page, enum output_stream stream, struct bytes bytes);

/* ---- supervisor ---- */
/* Is it of this number? */
bool board_is_of(struct statuspage *page, uint64_t number);
/* What is there beyond the first known bytes of each stream (NULL: none), as in output.h, appended to out. What the
 * slot writes meanwhile is left out where it would be torn. */
void board_output(struct statuspage *page, const uint64_t known[OUTPUT_STREAM_COUNT], struct buf *out);

#endif

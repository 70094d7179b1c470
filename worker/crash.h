/*
 * crash.h: a slot that crashes says where: on the status page, as a list of addresses with the modules they are in, and
 * as text, which a fresh process makes of that list (backtrace.h). Then it dies of the signal as it would have.
 *
 * Everything the crashed process does is allowed in a signal handler, and its heap is not touched. Each step may crash
 * again, on what is damaged: then the next one follows, and what was written stays.
 */
#ifndef QUERN_WORKER_CRASH_H
#define QUERN_WORKER_CRASH_H

#include "common/bytes.h"
#include "worker/statuspage.h"

/* ---- slot ---- */
/* From here on this process tells of its crashes. Frames from base (a function that is not inlined) outwards are ours,
 * and of no interest to anybody. */
void crash_watch(struct statuspage *page, void (*base)(void));
/* Another thread of this process has crashed and is telling of it: nothing is to be told or begun any more. */
bool crash_is_under_way(void);
/* Waits for the end that is near. */
__attribute__((noreturn)) void crash_await_end(void);

/* ---- supervisor ---- */
/* The backtrace of what ran under this number, appended to out; nothing if it told none. */
void crash_read(struct statuspage *page, uint64_t number, struct buf *out);

#endif

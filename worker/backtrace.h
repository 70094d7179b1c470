/*
 * backtrace.h: from addresses to names. A crashed slot writes a list (crash.c), in lines:
 *
 *     @ ADDRESS          what could not be reached
 *     M BIAS PATH        the module of the frames that follow, and where it was loaded; no path: the program itself
 *     X ADDRESS          innermost frame: the instruction itself
 *     F ADDRESS          a frame that called the one before: where it is to go on
 *     S COUNT            so many are left out here
 *
 * Numbers are hexadecimal. The text that is made of it has a line for each frame:
 *
 *     #0 divide+0x12 (numbers.c:42) examples.so+0x4a1f
 */
#ifndef QUERN_WORKER_BACKTRACE_H
#define QUERN_WORKER_BACKTRACE_H

#include "common/bytes.h"

#define BACKTRACE_ADDRESS '@'
#define BACKTRACE_MODULE 'M'
#define BACKTRACE_EXACT 'X'
#define BACKTRACE_FRAME 'F'
#define BACKTRACE_SKIPPED 'S'
#define BACKTRACE_PATH_SIZE_MAX 1024u

/* The text without symbols: module and offset of each frame. Of a list that makes no sense: what does. */
void backtrace_put(struct bytes list, struct buf *out);
/* Of a text: where it crashed, in few words ("divide+0x12 (numbers.c:42)"): the innermost frame that is not the C
 * library's. Appended; nothing if there is none. */
void backtrace_place(struct bytes text, struct buf *out);

/* The process that finds symbols: PROGRAM --quern-backtrace LIST writes the text to stdout. */
#define BACKTRACE_ARGUMENT "--quern-backtrace"
int backtrace_main(int argc, char **argv);

#endif

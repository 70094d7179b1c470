/*
 * report.h: what is known of an attempt that did not end well, besides cause, kind and message: one msgpack map, made
 * by the worker, stored and sent on as it is, read by clients. PROTOCOL.md, section 11. Allocates nothing but the buf.
 */
#ifndef QUERN_COMMON_REPORT_H
#define QUERN_COMMON_REPORT_H

#include "common/bytes.h"

struct report {
    bool core_dumped;       /* the kernel says that it wrote a core */
    struct bytes backtrace; /* UTF-8, a line for each frame, innermost first; none: none */
    struct bytes tail;      /* the end of what the attempt wrote to stderr: whatever it was; none: nothing */
    struct bytes out_tail;  /* the same of stdout */
};

/* Appends the map; nothing if there is nothing to tell. Texts over their limits are cut: the backtrace at its end,
 * stderr and stdout at their beginning. */
void report_put(struct buf *buf, const struct report *report);
/* Views into bytes. False, and an empty report, if that is not such a map; keys that are not known are stepped over. */
bool report_read(struct bytes bytes, struct report *report_out);

/* "SIGSEGV"; "" if there is none of that number. */
const char *signal_name(unsigned number);

#endif

/*
 * complaint.h: why a worker does not start, for whoever started it: one sentence on stderr, "quern-worker: ...", and
 * on --ready-fd. What
 * happens later is told by the log.
 */
#ifndef QUERN_WORKER_COMPLAINT_H
#define QUERN_WORKER_COMPLAINT_H

/* Says what is wrong and, where it is not plain, what to do; no newline. */
void complain(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif

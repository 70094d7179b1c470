/*
 * task.h: the task that runs in this slot, as the handler's calls (quern/worker.h) and the slot see it.
 */
#ifndef QUERN_WORKER_TASK_H
#define QUERN_WORKER_TASK_H

#include "common/bytes.h"
#include "common/message.h"
#include "quern/worker.h"

struct statuspage;

struct quern_task {
    uint64_t id;
    uint32_t attempt;
    uint64_t number;         /* within the slot */
    int64_t started_us;      /* monotonic */
    int64_t deadline_us;     /* INT64_MAX: none */
    struct statuspage *page; /* NULL in tests: progress goes nowhere */
    struct buf kind;
    struct buf message;
    struct buf detail;
    enum cause cause;    /* of a failure: error, unless quern itself says otherwise */
    bool keeps_result;   /* a failure's result goes with it (commands) */
    uint64_t peak_kib;   /* of a command; 0: not known */
    uint8_t exit_status; /* of a command that failed, as signal */
    uint8_t signal;
};

/* In the slot, once: SIGTERM ends the process, unless the task that runs asks whether it was cancelled. */
void task_take_term(void);
/* Make it ready for the next attempt; buffers are kept. */
void task_begin(struct quern_task *task);
void task_fini(struct quern_task *task);

#endif

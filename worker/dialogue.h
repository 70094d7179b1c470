/*
 * dialogue.h: the worker's part of the protocol: frames in, frames out, on the ledger and the lease. Pure: no I/O, no
 * clock; slots are reached through struct dialogue_slots. The simulation drives this very code.
 *
 *   connection up      dialogue_up, then dialogue_next until false: each frame goes to the broker
 *   a frame            dialogue_frame, act on its verdict, dialogue_next until false
 *   connection down    dialogue_down
 *   time has passed    dialogue_tick, act on its verdict, dialogue_next until false
 *   what is to start   dialogue_may_start, then ledger->waiting from its front
 */
#ifndef QUERN_WORKER_DIALOGUE_H
#define QUERN_WORKER_DIALOGUE_H

#include "common/output.h"
#include "worker/lease.h"
#include "worker/ledger.h"

/* How the broker's words reach what runs. Each is called with an attempt of the ledger that is HANDED or RUNNING. */
struct dialogue_slots {
    void *self;
    /* Take it back from its slot, so that it will never start: true, and it is WAITING again (ledger_take_back was
     * called); false: it has started (ledger_start was called). */
    bool (*revoke)(void *self, struct attempt *attempt);
    /* It is to be stopped; later it ends by ledger_finish with FINISHED_KILLED, or by what it had reached before. */
    void (*kill)(void *self, struct attempt *attempt);
    /* The ledger forgets it now: kill it if it runs, and keep no pointer to it. */
    void (*forget)(void *self, struct attempt *attempt);
    /* What it has written so far beyond what is known of both streams (output.h), appended to out; false: it does not
     * run. NULL: nothing is known of any. */
    bool (*look)(void *self, struct attempt *attempt, const uint64_t known[OUTPUT_STREAM_COUNT], struct buf *out);
};

struct dialogue_facts {
    struct uuid instance;
    const char *host;
    const char *name;
    uint32_t pid;
    uint32_t slot_count;
    const char *const *functions; /* by index */
    size_t function_count;
    const char *const *queues; /* none: every queue */
    size_t queue_count;
    const char *memory; /* for people: how much there is, and who keeps limits of it */
};

enum dialogue_verdict {
    DIALOGUE_OK,
    DIALOGUE_RECONNECT, /* at once: the broker does not know this connection */
    DIALOGUE_BACK_OFF,  /* the connection is of no use now: connect anew after a while */
    DIALOGUE_REFUSED,   /* for good: this worker speaks what the broker does not */
};

struct dialogue {
    struct dialogue_facts facts; /* borrowed */
    struct dialogue_slots slots;
    struct ledger *ledger; /* borrowed */
    struct lease lease;
    const char *why; /* of the last verdict that is not OK; static, or in why_text */
    char why_text[512];
    uint64_t capacity;      /* wanted */
    uint64_t capacity_told; /* on this connection */
    uint64_t bytes_told;
    uint64_t nested; /* of what is held, of no account for tasks of at least this depth */
    uint64_t nested_told;
    unsigned nested_depth;
    unsigned nested_depth_told;
    enum scarce scarce; /* why it wants less than it could take */
    enum scarce scarce_told;
    bool is_draining;
    bool was_welcome; /* ever */
    bool hello_is_due;
    uint64_t pong_number; /* to be answered, + 1; 0: none */
    uint64_t ping_number; /* to be sent; 0: none */
    uint64_t farewell;    /* ping that closes a drain; 0: not sent */
    bool farewell_is_heard;
    bool bye_is_due;
    struct buf started_items; /* gathered for the next frame */
    struct buf progress_items;
    uint32_t started_count;
    uint32_t progress_count;
    struct buf looks; /* answers to LOOK, for the next frame */
    uint32_t look_count;
};

void dialogue_init(struct dialogue *dialogue, const struct dialogue_facts *facts, const struct dialogue_slots *slots,
                   struct ledger *ledger, const struct limits *defaults);
void dialogue_fini(struct dialogue *dialogue);

void dialogue_up(struct dialogue *dialogue, int64_t now_ms);
void dialogue_down(struct dialogue *dialogue);
QUERN_MUST_USE enum dialogue_verdict dialogue_frame(struct dialogue *dialogue, struct bytes frame, int64_t now_ms);
QUERN_MUST_USE enum dialogue_verdict dialogue_tick(struct dialogue *dialogue, int64_t now_ms);
/* The next frame to send now, in frame (which is emptied first). False: nothing to say. */
bool dialogue_next(struct dialogue *dialogue, struct buf *frame);
int64_t dialogue_wake_ms(const struct dialogue *dialogue);

bool dialogue_is_welcome(const struct dialogue *dialogue);
/* May something be started now? While draining: what handlers that still run may be waiting for. */
bool dialogue_may_start(const struct dialogue *dialogue, int64_t now_ms);
/* Attempts the worker wants to hold unfinished. */
void dialogue_set_capacity(struct dialogue *dialogue, uint64_t count);
/* Handlers wait; of what they wait for, which is at least so deep, so many more may come, and also while draining: they
 * could not end without. 0: none wait. */
void dialogue_set_nested(struct dialogue *dialogue, uint64_t count, unsigned depth);
void dialogue_set_scarce(struct dialogue *dialogue, enum scarce scarce);
void dialogue_started(struct dialogue *dialogue, struct attempt *attempt, uint32_t pid);
void dialogue_progress(struct dialogue *dialogue, const struct attempt *attempt, double fraction, struct bytes text);

/* Draining: ask for nothing, return what comes. When the ledger is empty: dialogue_farewell asks the broker whether all
 * has arrived; once it has answered, BYE is the last frame and dialogue_is_over. */
void dialogue_drain(struct dialogue *dialogue);
void dialogue_farewell(struct dialogue *dialogue, int64_t now_ms);
/* Ending at once, after everything that ran was killed: the last frame, BYE and nothing else. False: nobody to tell. */
bool dialogue_leave(struct dialogue *dialogue, struct buf *frame);
bool dialogue_is_over(const struct dialogue *dialogue);

#endif

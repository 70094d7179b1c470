/*
 * ledger.h: everything a worker holds: attempts that wait, were handed to a slot, run, or have an outcome that the
 * broker has not acknowledged. Pure: no I/O, no clock, no processes, so that the simulation drives this very code.
 *
 * The rules it keeps (DISPATCH and the others: PROTOCOL.md):
 *   - An attempt is named by its token (task, epoch, attempt); two attempts of one task are two entries.
 *   - A token that is held already is not taken again, whatever its state.
 *   - Once started, an attempt leaves only by a RECEIPT, a DROP, or a broker with another store.
 *   - RETURNED is said only for what is held and was not started.
 *   - An outcome is sent again on every new connection until its receipt.
 *
 * Life of an attempt (attempt_move in ledger.c checks the arrows):
 *
 *   ledger_dispatch -> WAITING --hand--> HANDED --start--> RUNNING --finish--> FINISHED --receipt--> gone
 *                        |  ^              |  \------------finish------------>    ^
 *                        |  +--take_back---+                                      |
 *                        +------------------finish (refused unrun)----------------+
 *   WAITING --return--> gone;  any --drop--> gone
 */
#ifndef QUERN_WORKER_LEDGER_H
#define QUERN_WORKER_LEDGER_H

#include "common/bytes.h"
#include "common/ids.h"
#include "common/limits.h"
#include "common/map.h"
#include "common/message.h"
#include "common/spares.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FUNCTION_INDEX_NONE UINT32_MAX

/* Arguments and results up to this cost no memory of their own. */
#define ATTEMPT_SMALL_SIZE 64u

enum attempt_state { ATTEMPT_WAITING, ATTEMPT_HANDED, ATTEMPT_RUNNING, ATTEMPT_FINISHED };

/* How an attempt ended: FINISHED without its token. Texts are views when given to ledger_finish, which copies them. */
struct outcome {
    enum finished_state state;
    enum cause cause;
    struct bytes result; /* {NULL, 0}: none */
    struct bytes kind;
    struct bytes message;
    struct bytes detail;
    struct bytes report; /* report.h */
    struct bytes output; /* output.h */
    uint64_t pid;
    uint64_t started; /* wall clock, ms */
    uint64_t run_us;
    uint64_t signal;
    uint64_t exit_status;
    uint64_t cpu_us;
    uint64_t peak; /* KiB */
};

/* Of an outcome that is a result and nothing else, as most are: what it says besides. */
struct figures {
    uint64_t pid;
    uint64_t started;
    uint64_t run_us;
    uint64_t cpu_us;
    uint64_t peak;
};

/* In the order of use: of each of thousands of short ones only the first lines of the cache are touched. */
struct attempt {
    struct attempt *prev;
    struct attempt *next;
    struct attempt_list *list; /* the one it stands in */
    struct token token;
    struct attempt *same_task;
    void *holder;    /* whoever it was handed to: not looked at by the ledger */
    uint64_t number; /* the same: number within the holder */
    enum attempt_state state;
    uint32_t function; /* index given at dispatch */
    uint8_t depth;     /* 0..TASK_DEPTH_MAX */
    bool at_most_once;
    bool is_alone;      /* nothing may run beside it */
    bool is_sent;       /* FINISHED: on this connection */
    bool start_is_told; /* STARTED was said on some connection */
    uint64_t timeout_ms;
    uint64_t memory_max;    /* bytes it may take; 0: what the worker allows */
    uint8_t *memory;        /* what value, or whole, looks into: small, or malloc'd; NULL none */
    struct bytes value;     /* its arguments; once finished, its result */
    struct outcome *whole;  /* FINISHED: in memory; NULL: there is nothing but value and figures, and it is done */
    struct figures figures; /* FINISHED, without a whole */
    uint8_t small[ATTEMPT_SMALL_SIZE];
};

struct attempt_list {
    struct attempt *first;
    struct attempt *last;
    size_t count;
};

struct ledger {
    struct spares spares; /* of attempts */
    struct uuid store;    /* zeros: none known yet */
    uint32_t epoch;       /* of this connection's WELCOME */
    bool puts_short;      /* the same: FINISHED may have short items */
    struct map by_task;
    struct attempt_list waiting; /* deepest first, of those oldest first */
    struct attempt_list handed;  /* HANDED and RUNNING */
    struct attempt_list unsent;  /* FINISHED, to be sent on this connection */
    struct attempt_list sent;    /* FINISHED, waiting for the receipt */
    size_t held_count;
    uint64_t came_count;                     /* attempts dispatched to this worker, ever */
    uint32_t unfinished[TASK_DEPTH_MAX + 1]; /* by depth */
    size_t finished_bytes;                   /* of outcomes kept */
    size_t output_bytes;                     /* the output among them */
    size_t args_bytes;                       /* of arguments kept */
    struct buf returned;                     /* item_token: to be said on this connection */
    uint32_t returned_count;
};

void ledger_init(struct ledger *ledger);
void ledger_fini(struct ledger *ledger);

/* What WELCOME said. True: another store than the one known: whoever runs things kills them all and calls
 * ledger_clear, before anything else. Everything finished is to be sent on this connection. */
bool ledger_welcome(struct ledger *ledger, const struct uuid *store, uint32_t epoch);
/* The connection is gone: what was to be said on it is void (who is not listed in HELLO goes back by itself). */
void ledger_disconnected(struct ledger *ledger);
/* Forget everything. */
void ledger_clear(struct ledger *ledger);

/* NULL: this token is held already, nothing was done. The arguments are copied. */
struct attempt *ledger_dispatch(struct ledger *ledger, uint32_t function, const struct msg_DISPATCH *call,
                                const struct item_dispatch *item);
struct attempt *ledger_find(const struct ledger *ledger, struct token token);

void ledger_hand(struct ledger *ledger, struct attempt *attempt);
/* Back to waiting, before all others of its depth. */
void ledger_take_back(struct ledger *ledger, struct attempt *attempt);
/* It has started (HANDED to RUNNING; nothing if it runs already). */
void ledger_start(struct ledger *ledger, struct attempt *attempt);
/* From any state but FINISHED. Copies what outcome points to. */
void ledger_finish(struct ledger *ledger, struct attempt *attempt, const struct outcome *outcome);
/* The same for what is done and left a result and nothing else: where its figures are to be written, all of them. */
struct figures *ledger_finish_plain(struct ledger *ledger, struct attempt *attempt, struct bytes result);
/* WAITING only: RETURNED will be said; the attempt is freed. */
void ledger_return(struct ledger *ledger, struct attempt **attempt);
/* DROP: forget it, whatever its state; the attempt is freed. */
void ledger_drop(struct ledger *ledger, struct attempt **attempt);
/* It is about to be used, and was not for long: called for, so that it need not be waited for. */
void ledger_fetch(const struct ledger *ledger, struct token token);
/* Frees a FINISHED attempt; false, and nothing, for any other. */
bool ledger_receipt(struct ledger *ledger, struct token token);

/* HELLO's inventory: appends one item_held for each attempt; returns how many. */
uint32_t ledger_put_held(const struct ledger *ledger, struct buf *items);
/* Append a FINISHED message with outcomes not sent on this connection, until frame has grown to BATCH_SIZE_SOFT.
 * True: more are left. */
bool ledger_put_finished(struct ledger *ledger, struct buf *frame);
/* Append RETURNED with everything to be returned; nothing if there is none. */
void ledger_put_returned(struct ledger *ledger, struct buf *frame);

/* Attempts without an outcome whose tasks are less deep than this. */
size_t ledger_shallower(const struct ledger *ledger, unsigned depth);
/* Something to say to the broker? */
bool ledger_has_news(const struct ledger *ledger);
/* Bound reached: outcomes kept are so many or so large that nothing new may start. */
bool ledger_is_full(const struct ledger *ledger);
/* Counts and lists agree with each other (CHECKs). Slow: for tests and the simulation. */
void ledger_check(const struct ledger *ledger);

#endif

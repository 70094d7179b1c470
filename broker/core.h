/*
 * core.h: the broker's decisions as one pure machine: events in, an update out. No I/O, no clock, no chance, no
 * globals: time and random numbers come with the event. loop.c feeds it in production, tests/simulation feeds it in a
 * simulated world, any crash between any two steps included.
 *
 * The order law lives in the types: what may go out at once is in update.now; what must wait for the disk is in the
 * batch that core_seal hands over together with the rows it waits for (batch.gated), and goes out when that batch, and
 * every one before it, is on disk. The core never sees a message leave before its time.
 *
 * Where to start reading: core.c core_step, then the file of the noun: task.c (states), lanes.c (what runs next),
 * sessions.c (identity, submits, outcomes), workers.c (leases), attempts.c, retry.c (who is blamed), batch.c (rows),
 * queries.c (answers for people).
 */
#ifndef QUERN_BROKER_CORE_H
#define QUERN_BROKER_CORE_H

#include "broker/store.h"
#include "common/message.h"

struct core;

/* ---- in ---- */

enum event_kind {
    EVENT_FRAME,     /* a frame from a connection */
    EVENT_CLOSED,    /* a connection is gone */
    EVENT_TICK,      /* nothing but time has passed */
    EVENT_COMMITTED, /* the batch of that number is on disk; gated frames of it leave right after this step */
    EVENT_LOADED,    /* the answer to a load */
    EVENT_STATS,     /* what the store says of itself; for status, and whether the disk is low */
};

enum load_kind {
    LOAD_OUTCOMES, /* outcomes whose payload is not in memory, to be sent to their session's client */
    LOAD_SHOW,     /* one task or outcome with its failures, for a query */
    LOAD_LIST,     /* a listing */
    LOAD_BACKUP,   /* no rows: a copy of the whole store is made */
    LOAD_LOGS,     /* SHOW, and what one attempt wrote */
    LOAD_TASKS,    /* tasks that are ready and on disk only */
};

#define LOAD_OUTCOME_COUNT_MAX 256u
#define LOAD_TASK_COUNT_MAX 4096u
#define LOAD_RUN_COUNT_MAX 256u
/* Of these under way: for turns, and for what workers hold of parked tasks. */
#define LOAD_TURN_COUNT_MAX 16u
#define LOAD_TASKS_COUNT_MAX (LOAD_TURN_COUNT_MAX + WORKER_HELD_COUNT_MAX / LOAD_RUN_COUNT_MAX + WORKER_COUNT_MAX)
/* Bytes of arguments after which an answer is long enough. */
#define LOAD_TASK_BYTES_SOFT (4 * MIB)
#define LOAD_FAILURE_COUNT_MAX 64u

/* What the core asks of the store. */
struct load {
    enum load_kind kind;
    uint64_t number; /* comes back with the answer */
    size_t count;    /* OUTCOMES: ids; SHOW: 1; TASKS: runs */
    uint64_t ids[LOAD_OUTCOME_COUNT_MAX];
    struct load_run { /* TASKS: ids side by side, in order */
        uint64_t first;
        uint64_t count;
    } runs[LOAD_RUN_COUNT_MAX];
    struct list_query list;
    size_t limit;     /* LIST: rows wanted; TASKS: ids in all runs */
    uint32_t attempt; /* LOGS: which; 0: the last that ended */
    char *path;       /* BACKUP: malloc'd, goes with the load */
};

/* The answer. Rows and what they point to live as long as the struct (the loop frees it after the step). */
struct loaded {
    enum load_kind kind;
    uint64_t number;
    size_t outcome_count;
    struct outcome_row *outcomes; /* OUTCOMES: those found, in the order asked; SHOW: 0 or 1 */
    bool has_task;                /* SHOW: it is live */
    struct task_row task;
    struct call_row call; /* SHOW: of the task or outcome, if there is one */
    size_t failure_count;
    struct failure_row *failures;
    size_t task_count;
    struct task_row *tasks; /* TASKS: those found */
    uint64_t through;       /* TASKS: ids up to this one were looked for; the rest would have been too long */
    uint32_t attempt;       /* LOGS: whose output it is; 0: none has ended */
    struct bytes output;    /* LOGS */
    size_t list_count;
    struct list_row *list;
    enum quern_err code; /* BACKUP */
    char *text;          /* BACKUP: why not; malloc'd */
    uint64_t bytes;      /* BACKUP: of the copy */
    struct buf memory;   /* private to whoever made it */
};

struct event {
    enum event_kind kind;
    int64_t mono_ms; /* never goes back */
    int64_t wall_ms;
    uint64_t random[2]; /* fresh with every event */
    uint64_t conn;      /* FRAME, CLOSED */
    struct bytes frame; /* FRAME: borrowed for the step */
    const char *peer;   /* FRAME: facts of the connection for texts; may be NULL */
    bool is_remote;     /* FRAME: not known to be of this broker's own user */
    uint64_t batch;     /* COMMITTED */
    const struct loaded *loaded;
    const struct store_stats *stats;
};

/* ---- out ---- */

struct frame_out {
    uint64_t conn;
    struct buf frame;
};

struct outbox {
    struct frame_out *frames;
    size_t count;
    size_t cap;
};
void outbox_fini(struct outbox *outbox);

/* What is to be done now. The caller empties it (update_clear) after it did all of it; steps only add. */
struct update {
    struct outbox now; /* leave at once */
    uint64_t *kicks;   /* connections to break, after what is in now */
    size_t kick_count;
    size_t kick_cap;
    struct load **loads; /* malloc'd; the caller takes them */
    size_t load_count;
    size_t load_cap;
    uint64_t serial; /* private to the core: which filling of this update it is */
    int64_t wake_ms; /* call again at the latest then (monotonic), also to ask core_wants_commit; INT64_MAX never */
};
void update_init(struct update *update);
void update_clear(struct update *update);
void update_fini(struct update *update);

/* Row changes that commit together, and the frames that wait for them. */
struct batch {
    uint64_t number; /* 1, 2, 3 ... */
    struct change *changes;
    size_t count;
    size_t cap;
    size_t bytes;     /* payload bytes in it */
    size_t collapsed; /* tasks in it that were submitted and finished within it */
    struct outbox gated;
    void *memory; /* private to the core */
};

/* ---- life ---- */

/* Start from what the store holds: open, then every row through core_visitor, then core_begin. */
struct core *core_open(const struct limits *limits, const struct store_facts *facts);
void core_visitor(struct core *core, struct store_visitor *visitor_out);
/* Rebuild lanes, timers and windows; attempts on record start their grace. */
void core_begin(struct core *core, int64_t mono_ms, int64_t wall_ms);
void core_close(struct core **core);

void core_step(struct core *core, const struct event *event, struct update *update);

/* Is there something to commit now (rows that somebody waits for, or lazy rows whose time has come)? */
bool core_wants_commit(const struct core *core, int64_t mono_ms);
/* Close the open batch and hand it over; a fresh one is open afterwards. Batches are to be committed in order, and
 * EVENT_COMMITTED fed back for each. One without changes counts as committed as soon as all before it are. Never NULL.
 */
struct batch *core_seal(struct core *core);
/* After its EVENT_COMMITTED step, when its gated frames were taken. */
void batch_free(struct core *core, struct batch **batch);
/* Rows and bytes sealed and not yet committed plus open: the loop stops reading input above a high-water mark. */
size_t core_open_bytes(const struct core *core);

/* What is open now, for the flight recorder. */
struct core_open_facts {
    uint64_t committed; /* number of the newest batch known to be on disk */
    uint64_t rows;      /* marked in the open batch */
    uint64_t collapsed; /* tasks submitted and finished within it */
};
struct core_open_facts core_open_facts(const struct core *core);

/* Before the last batch of a clean end, after the last step: numbers that were reserved and not given are free again.
 */
void core_give_back(struct core *core);

/* Tell every peer that the broker goes away (BYE), in update.now. */
void core_stop(struct core *core, struct update *update);

/* Ready tasks that are on disk only. */
uint64_t core_parked(const struct core *core);

/* Bug finder for tests and the simulation: walks everything and CHECKs the invariants. Slow. */
void core_check(const struct core *core);

#endif

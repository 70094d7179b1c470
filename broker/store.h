/*
 * store.h: where tasks, outcomes and sessions outlive the broker. Speaks in rows and batches of row changes, never in
 * SQL, so that another store fits behind it. Behind it today: store_sqlite.c, the only file that includes sqlite3.h.
 *
 * Threads: everything here is called by the journal thread alone (the opening and the load happen before the loop
 * starts). Rows in a batch are read-only while it is applied; what they point to belongs to whoever made the batch.
 * Times in rows are wall clock, ms since 1970. Every change is idempotent: a batch may be applied again.
 */
#ifndef QUERN_BROKER_STORE_H
#define QUERN_BROKER_STORE_H

#include "common/bytes.h"
#include "common/ids.h"
#include "common/limits.h"
#include "quern/err.h"

struct store;

/* ---- rows ---- */

/* A call: queue, function and options that many tasks share. Written in the batch of its first task, never changed. */
struct call_row {
    uint64_t id;
    struct bytes queue;
    struct bytes function;
    struct bytes options; /* as it came in SUBMIT; none: defaults */
};

struct session_row {
    uint64_t id;
    struct bytes name; /* none: unnamed */
    struct bytes description;
    struct uuid owner;       /* instance of the client process that owns it */
    struct bytes owner_text; /* "HOST:PID" */
    uint64_t completion_last;
    uint64_t acked_prefix;
    uint64_t ordinal_high;
    uint8_t digest[DIGEST_SIZE];
    uint64_t failed;    /* outcomes that failed, ever */
    bool keep;          /* outlives its client though unnamed */
    bool is_ending;     /* takes no further submits */
    bool is_cancelling; /* and what has not started is cancelled */
    int64_t created;
    int64_t used;       /* last time a client was connected or a task ended */
    uint64_t expire_ms; /* it ends after this time without a client; 0: never for this */
};

/* Completions of a session that were acknowledged beyond its prefix. Rows may overlap: what counts is their union. */
struct taken_row {
    uint64_t session;
    uint64_t first;
    uint64_t last;
};

struct series_row {
    uint64_t id;
    uint64_t session;
    struct uuid instance;
    uint64_t submitted_high;
    struct bytes refused; /* msgpack array of [first, last, code] */
};

/* A worker process that was given attempts. */
struct worker_row {
    uint64_t id;
    struct bytes name;
    struct uuid instance;
    struct bytes host;
    uint64_t pid;
};

/* A live task. */
struct task_row {
    uint64_t id;
    uint64_t session;
    uint64_t call;
    uint32_t state; /* enum task_state */
    int32_t priority;
    uint32_t attempt; /* last token: */
    uint32_t epoch;
    uint64_t worker;   /* worker_row of the last dispatch, 0 none */
    uint32_t attempts; /* failed attempts that count */
    uint32_t crashes;
    uint32_t losses;
    int64_t due; /* delayed, backoff: when ready; else when it expires, 0: it does not, or an attempt has started */
    int64_t created;
    uint64_t ordinal;
    uint64_t retry_of;
    struct bytes args;
};

/* What ended a task for good. */
struct outcome_row {
    uint64_t id; /* = task id */
    uint64_t session;
    uint64_t completion;
    uint64_t call;
    uint32_t state; /* TASK_DONE, TASK_FAILED, TASK_CANCELLED */
    uint32_t cause;
    uint32_t attempt;    /* last attempt number, 0: never dispatched */
    uint32_t attempts;   /* dispatches that started or may have started, for people */
    struct bytes worker; /* "HOST:PID" of the last attempt */
    uint32_t signal;
    uint32_t exit_status;
    int64_t created;
    int64_t started;
    int64_t finished;
    uint64_t run_us;
    uint64_t cpu_us;
    uint64_t peak; /* KiB */
    uint64_t ordinal;
    uint64_t retry_of;
    struct bytes kind;
    struct bytes message;
    struct bytes detail;
    struct bytes report; /* report.h; the broker looks into it only for `show` */
    struct bytes result;
    struct bytes args;   /* none if not kept */
    struct bytes output; /* output.h; of the last attempt, unless a failure_row has it; read by store_output only */
    uint64_t args_size;
    uint64_t args_hash;
};

/* One failed attempt of a task, also of one that was tried again. */
struct failure_row {
    uint64_t task;
    uint32_t attempt;
    int64_t at;
    struct bytes worker;
    uint32_t cause;
    uint32_t signal;
    uint32_t exit_status;
    uint64_t run_us;
    uint64_t cpu_us;
    uint64_t peak;
    struct bytes kind;
    struct bytes message;
    struct bytes detail;
    struct bytes report;
    struct bytes output; /* output.h; not of the last attempt; read by store_output only */
};

/* ---- batches ---- */

enum change_kind {
    CHANGE_META,           /* the next free numbers */
    CHANGE_CALL,           /* insert */
    CHANGE_SESSION,        /* insert or replace; and delete what is taken with first <= acked_prefix if had_taken */
    CHANGE_SESSION_DELETE, /* with its series and what is taken; number = id */
    CHANGE_TAKEN,          /* insert or replace by session and first */
    CHANGE_SERIES,         /* insert or replace */
    CHANGE_SERIES_DELETE,  /* by series.session and series.id */
    CHANGE_WORKER,         /* insert or replace */
    CHANGE_TASK,           /* insert a new live task */
    CHANGE_TASK_STATE,     /* update state, attempt, epoch, worker, attempts, crashes, losses, due of a stored task */
    CHANGE_OUTCOME,        /* insert or ignore; and delete the live task of that id if had_task */
    CHANGE_FAILURE,        /* insert or replace; if it has output, those of OUTPUT_ATTEMPT_COUNT_MAX attempts and more
                            * before it lose theirs */
    CHANGE_OUTCOME_DELETE, /* with its failures; number = task id */
};

struct meta_row {
    uint64_t series_next;
    uint64_t session_next;
    uint64_t worker_next;
    uint64_t call_next;
};

struct change {
    enum change_kind kind;
    bool had_task;  /* CHANGE_OUTCOME */
    bool had_taken; /* CHANGE_SESSION */
    uint64_t number;
    union {
        struct meta_row meta;
        struct call_row call;
        struct session_row session;
        struct taken_row taken;
        struct series_row series;
        struct worker_row worker;
        struct task_row task;
        struct outcome_row outcome;
        struct failure_row failure;
    };
};

enum store_verdict {
    STORE_OK,      /* on disk */
    STORE_FULL,    /* not applied; the disk is full: apply the same batch again later */
    STORE_FENCED,  /* not applied; another broker has taken the store over: stop */
    STORE_UNKNOWN, /* may or may not be on disk: stop at once, answer nobody, recover by restart */
};

/* Apply all changes in order, in one transaction, synced. epoch: of this life of the broker. */
QUERN_MUST_USE enum store_verdict store_apply(struct store *store, uint32_t epoch, const struct change *changes,
                                              size_t count);

/* Housekeeping that no commit should wait for: call it when a verdict has been passed on. store_apply does it first if
 * it is due all the same. QUERN_IO: as STORE_UNKNOWN. */
QUERN_MUST_USE enum quern_err store_rest(struct store *store);

/* ---- opening and recovery ---- */

struct store_facts {
    struct uuid uuid;
    uint32_t epoch; /* of this life, already durable */
    bool was_clean; /* the last life ended cleanly */
    bool is_new;
    bool is_none;         /* there is no store: nothing outlives this broker */
    struct meta_row meta; /* the next free numbers */
};

/* Open or create, migrate, raise the epoch. Errors: IN_USE (another process has it), DENIED (file system that cannot
 * lock, wrong owner), VERSION (written by a newer quern), MALFORMED (not a quern store, or damaged), IO.
 * *why_out: malloc'd sentence. */
QUERN_MUST_USE enum quern_err store_open(const char *path, const struct limits *limits, struct store **store_out,
                                         struct store_facts *facts_out, char **why_out);

/* Called with every row that a broker needs in memory. Views hold for the call. Order: calls, sessions, taken,
 * series, workers, tasks (by id), outcomes (by id; without result, args, kind, message, detail, report: sizes in their
 * place). NULL: such rows are read and checked, and nobody is called.
 */
bool task_row_is_plain(const struct task_row *row);
struct store_visitor {
    void *context;
    void (*call)(void *context, const struct call_row *row);
    void (*session)(void *context, const struct session_row *row);
    void (*taken)(void *context, const struct taken_row *row);
    void (*series)(void *context, const struct series_row *row);
    void (*worker)(void *context, const struct worker_row *row);
    void (*workers_swept)(void *context); /* before them, NULL: not asked; rows are gone of which no task told */
    /* Asked before task of a row as it was inserted: ready, without time or token. True: that is all that is wanted. */
    bool (*plain_task)(void *context, uint64_t id, uint64_t session, uint64_t call, uint64_t args_size);
    void (*task)(void *context, const struct task_row *row);
    /* size: bytes of args, result, kind, message, detail, report and output, as counted against limits */
    void (*outcome)(void *context, uint64_t id, uint64_t session, uint64_t completion, int64_t finished, uint64_t size);
};
QUERN_MUST_USE enum quern_err store_load(struct store *store, const struct store_visitor *visitor, char **why_out);

/* Mark the end clean, checkpoint, close. Also for a store that failed (then nothing is marked). NULL is fine. */
void store_close(struct store **store, bool is_clean);

/* ---- reading while running ---- */

/* One outcome by task id, with everything. QUERN_UNKNOWN if there is none. Views hold until the next store call. */
QUERN_MUST_USE enum quern_err store_outcome(struct store *store, uint64_t task, struct outcome_row *row_out);
/* One live task by id; one call; views as above. */
QUERN_MUST_USE enum quern_err store_task(struct store *store, uint64_t task, struct task_row *row_out);
/* Live tasks by id, from first to last; views hold for the visit. OK: visit has returned false; END: it has not. */
QUERN_MUST_USE enum quern_err store_tasks(struct store *store, uint64_t first, uint64_t last, void *context,
                                          bool (*visit)(void *context, const struct task_row *row));
QUERN_MUST_USE enum quern_err store_call(struct store *store, uint64_t call, struct call_row *row_out);
/* The failures of a task, oldest first, through visit; at most limit. */
QUERN_MUST_USE enum quern_err store_failures(struct store *store, uint64_t task, size_t limit, void *context,
                                             void (*visit)(void *context, const struct failure_row *row));

/* What an attempt of this task wrote: a view as above, none if nothing is kept of it. *attempt 0: the last that has
 * ended, which is put there; still 0: none has. */
QUERN_MUST_USE enum quern_err store_output(struct store *store, uint64_t task, uint32_t *attempt,
                                           struct bytes *output_out);

/* A listing of tasks and outcomes, newest id first, in slices. before: 0 at first, afterwards what the last slice
 * left in *before. session, state, cause: 0 any (cause NONE cannot be asked for). Stops after rows_max visited rows or
 * slice_us microseconds, whichever is first; QUERN_END in the return when nothing is left, QUERN_OK when there may be.
 */
struct list_row {
    uint64_t id;
    uint64_t session;
    uint64_t call;
    uint32_t state;
    uint32_t cause;
    uint32_t attempts;
    int64_t created;
    int64_t finished; /* 0: live */
    struct bytes function;
    struct bytes queue;
    struct bytes worker;
    struct bytes message;
};
struct list_query {
    uint64_t before;
    uint64_t session;
    uint32_t state;
    uint32_t cause;
};
QUERN_MUST_USE enum quern_err store_list_slice(struct store *store, struct list_query *query, size_t rows_max,
                                               uint64_t slice_us, void *context,
                                               void (*visit)(void *context, const struct list_row *row));

/* ---- a copy while it is written to ---- */

struct backup;
/* Begin one that is to be at path (absolute), which must not be there. Errors: DENIED (it is), DISK (no room), IO.
 * *why_out: a malloc'd sentence, as below. */
QUERN_MUST_USE enum quern_err backup_open(struct store *store, const char *path, struct backup **backup_out,
                                          char **why_out);
/* Copy for a while, between batches; what is committed meanwhile is in the copy too. QUERN_END: all is copied, and the
 * store is not needed any more. */
QUERN_MUST_USE enum quern_err backup_slice(struct backup *backup, uint64_t slice_us, char **why_out);
void backup_progress(const struct backup *backup, uint64_t *copied_out, uint64_t *all_out); /* bytes */
/* Any thread, after END: look through the copy, mark it as one, sync it, give it its name. It may take long. */
QUERN_MUST_USE enum quern_err backup_finish(struct backup *backup, uint64_t *bytes_out, char **why_out);
/* Any thread: have backup_finish end soon, if it is not at its end. */
void backup_cancel(struct backup *backup);
/* Without a finish that went well nothing of it stays. NULL is fine. */
void backup_close(struct backup **backup);

/* ---- looking at a store that nobody has open ---- */

#define STORE_FAULT_COUNT_MAX 128u

struct store_fault {
    char *text;
    uint64_t count; /* rows it is true of */
};

struct store_report {
    struct uuid uuid;
    uint32_t epoch;
    uint32_t version; /* of the schema */
    bool was_clean;
    uint64_t file_bytes;
    uint64_t wal_bytes;
    uint64_t sessions;
    uint64_t series;
    uint64_t calls;
    uint64_t workers;
    uint64_t tasks;
    uint64_t outcomes;
    uint64_t failures;
    size_t fault_count; /* 0: it is whole */
    struct store_fault faults[STORE_FAULT_COUNT_MAX];
};

/* Everything that must hold of a store (SCHEMA.md), page by page and row by row. Changes no file. OK: it could be
 * looked at; what is wrong is among the faults. Errors: UNKNOWN (no such file), IN_USE, MALFORMED (no quern store at
 * all), VERSION (of a newer quern), DENIED, IO. store_report_fini in every case. */
QUERN_MUST_USE enum quern_err store_check(const char *path, struct store_report *report_out, char **why_out);
void store_report_fini(struct store_report *report);

/* ---- state of the store, for status and for admission ---- */
struct store_stats {
    uint64_t batches;
    uint64_t rows;
    uint64_t syncs;   /* fdatasync and fsync calls made */
    uint64_t sync_us; /* the time they took, all together */
    uint64_t file_bytes;
    uint64_t wal_bytes;
    uint64_t disk_free_bytes;
    uint64_t backup_bytes;     /* of a copy under way, as far as it is; 0: none */
    uint64_t backup_all_bytes; /* of the whole copy */
    bool disk_low;             /* submits are to be refused */
    bool ballast_given_up;
};
/* Looks at the file system at most once a second. QUERN_IO: the database or its log was replaced under us: stop. */
QUERN_MUST_USE enum quern_err store_stats(struct store *store, struct store_stats *stats_out);

#endif

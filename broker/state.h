/*
 * state.h: the plain structs inside the core, and what its files call of each other. Nobody outside the core includes
 * it. Knows no I/O. Start with struct core at the end; then the file of the noun you look for.
 */
#ifndef QUERN_BROKER_STATE_H
#define QUERN_BROKER_STATE_H

#include "broker/core.h"
#include "broker/counters.h"
#include "broker/parked.h"
#include "common/check.h"
#include "common/heap.h"
#include "common/map.h"
#include "common/ranges.h"
#include "common/spares.h"

struct conn;
struct session;
struct worker;
struct lane;

/* Memory that lives as long as a batch. */
struct arena {
    struct arena_chunk *chunks;
};
void *arena_alloc(struct arena *arena, size_t n);
struct bytes arena_copy(struct arena *arena, struct bytes bytes);
void arena_fini(struct arena *arena);

/* ---- calls.c: queue, function and options shared by many tasks ---- */
struct call {
    uint64_t id;
    struct bytes queue;
    struct bytes function;
    struct bytes options; /* as they came */
    struct task_options option;
    struct lane *lane;
    uint64_t hash;
    struct call *next; /* of the same bucket */
    uint32_t refs;     /* tasks and outcomes in memory */
    bool is_stored;    /* its row is in this batch or an earlier one */
};
/* Find or make; NULL if CALL_COUNT_MAX are in use. A reference is taken. is_volatile: for a task that is not written.
 */
struct call *call_intern(struct core *core, struct bytes queue, struct bytes function, struct bytes options,
                         const struct task_options *option, bool is_volatile);
struct call *call_restore(struct core *core, const struct call_row *row);
void call_release(struct core *core, struct call *call);
void calls_fini(struct core *core);
uint64_t name_hash(const struct core *core, struct bytes name);

/* ---- task.c ---- */
struct task {
    uint64_t id;
    struct session *session;
    struct call *call;
    struct worker *worker; /* of the last dispatch; NULL: none, or forgotten */
    struct turn *turn;     /* ready: where it waits */
    uint64_t worker_id;    /* row of the worker of the last dispatch, 0 none */
    struct task *prev;     /* ready: in its turn; leased, running: in its worker's list */
    struct task *next;
    struct task *session_prev; /* all live tasks of the session */
    struct task *session_next;
    struct progress *progress;
    struct expiry *expiry; /* while it can expire: NULL once an attempt is known to have started */
    size_t heap_index;     /* delayed, backoff: among the due; ready and out of order: in its turn */
    int64_t due;           /* wall clock */
    int64_t due_mono;
    int64_t created;
    int64_t started; /* wall clock, of the running attempt, 0 unknown */
    uint64_t ordinal;
    uint64_t retry_of;
    uint32_t attempt;
    uint32_t epoch;
    uint32_t attempts;
    uint32_t crashes;
    uint32_t losses;
    uint32_t refs; /* itself while live, and every batch whose rows look into it */
    uint8_t state;
    bool is_stored;      /* its row is in an earlier batch */
    bool is_dirty;       /* its row changes with the open batch */
    bool wants_cancel;   /* cancelled as soon as it comes back unstarted */
    bool wants_kill;     /* a forced cancel: cancelled also when it was running */
    bool is_listed;      /* scratch: named in the HELLO being read */
    bool is_called_back; /* leased, and asked back for an idle worker */
    bool is_unsent;      /* leased, but its dispatch waits for the commit (at_most_once) */
    bool is_by_wall;     /* delayed: among the due by the wall clock */
    uint32_t args_size;
    uint8_t args[];
};
struct progress {
    double fraction;
    char text[PROGRESS_TEXT_SIZE_MAX + 1];
};
/* The only writer of task.state: checks the arrow. */
void task_move(struct core *core, struct task *task, enum task_state state);
bool task_is_final(enum task_state state);
bool task_waits(const struct task *task); /* for a time: delayed, backoff */
struct task *task_new(struct core *core, uint64_t id, struct session *session, struct call *call, struct bytes args);
void task_unref(struct core *core, struct task *task);
void task_leave_memory(struct core *core, struct task *task); /* it is parked: its call and its session keep it */
struct task *task_restore(struct core *core, const struct task_row *row); /* as it is on disk */
void task_forget(struct core *core, struct task *task);                   /* it is not live any more */
struct task *task_find(const struct core *core, uint64_t id);
void task_fetch(const struct core *core, uint64_t id); /* it will be wanted in a moment, if it is there */
struct token task_token(const struct task *task);
struct bytes task_args(const struct task *task);
/* Make a delayed, backing-off, new or returned task wait for its turn. */
void task_make_ready(struct core *core, struct task *task);
void task_wait_until(struct core *core, struct task *task, enum task_state state, uint64_t delay_ms);
void task_wait_for_wall(struct core *core, struct task *task, int64_t wall_ms); /* delayed until the clock says so */
void task_wait_restored(struct core *core, struct task *task); /* delayed, backoff: the clock is known now */
int64_t tasks_due_wake(const struct core *core);               /* monotonic; INT64_MAX: none waits */
/* Take it out of whatever queue or list it is in. */
void task_detach(struct core *core, struct task *task);
void tasks_wake_due(struct core *core);
void core_free_tasks(struct core *core);

/* ---- expiry.c: what must not start any more after a time ---- */
void expiries_init(struct core *core);
void expiry_start(struct core *core, struct task *task);                   /* it was submitted now */
void expiry_restore(struct core *core, struct task *task, int64_t due_ms); /* due_ms: as expiry_due_ms was stored */
void expiries_begin(struct core *core);                                    /* the clock is known now */
void expiry_stop(struct core *core, struct task *task); /* an attempt has started, or the task is no more */
int64_t expiry_due_ms(const struct task *task);         /* wall clock; 0: it does not expire */
bool expiry_is_over(const struct task *task); /* its time is over, and it may not be starting: see task_expire */
/* It fails as expired. lost: how its attempt was lost, of which no start had been told; none: it did not start. */
void task_expire(struct core *core, struct task *task, struct bytes lost);
void expiries_due(struct core *core);
bool expiries_are_behind(const struct core *core); /* some are over and wait for the next step: dispatch nothing */
int64_t expiries_wake(const struct core *core);    /* monotonic; INT64_MAX: none */

/* ---- known.c: what fails at once if nobody can run it ---- */
bool known_is_early(const struct core *core); /* workers of before the broker's start may still be coming back */
int64_t known_from(const struct core *core);  /* monotonic: it is not early any more */
/* Not yet started, and to fail at once if no worker serves its function: is it so? Then it has failed. */
bool task_fail_unknown(struct core *core, struct task *task);

/* ---- lanes.c: what runs next ---- */

/* The ready tasks of one session at one rank of a lane. When there are many, those from some id on are behind: on disk
 * only (parked), or about to be. They go after those ahead, and are read back when few of these are left. */
struct turn {
    struct session *session;
    struct level *level;
    struct task *head; /* in order of id */
    struct task *tail;
    struct task *behind; /* of these: the first that is behind; NULL: none */
    uint64_t ahead;      /* of these: so many are not */
    uint64_t boundary;   /* ids from here on are behind; UINT64_MAX: none */
    struct heap late;    /* came back out of order */
    struct parked parked;
    bool is_asleep;    /* none of it can go now: it is not in the ring */
    struct turn *prev; /* ring of the level */
    struct turn *next;
    struct turn *session_next; /* turns of the session */
    struct turn *session_prev;
};
struct level {
    struct lane *lane;
    int32_t rank;
    struct turn *current; /* whose turn it is; NULL: all are asleep */
    size_t turn_count;
};
struct lane {
    struct bytes queue;
    struct bytes function;
    uint64_t hash;
    struct lane *next;     /* of the same bucket */
    struct level **levels; /* highest rank first; none is empty */
    size_t level_count;
    size_t level_cap;
    uint64_t ready;
    uint64_t leased;
    uint64_t weight;         /* bytes that the last durable task of it brought to the disk */
    size_t calls;            /* in memory that name it: it goes when none does */
    struct worker **workers; /* connected ones that serve it */
    size_t worker_count;
    size_t worker_cap;
};
struct lane *lane_of(struct core *core, struct bytes queue, struct bytes function); /* NULL: LANE_COUNT_MAX reached */
int32_t lane_rank(const struct task_options *option); /* what goes first: by depth, then by priority */
void lane_push(struct core *core, struct task *task);
struct turn *turn_of_call(struct core *core, struct session *session, const struct call *call); /* find or make */
void lane_leave_behind(struct turn *turn, struct task *task);      /* it is parked; the caller counts */
void turn_settle(struct core *core, struct turn *turn);            /* after what is parked of it changed; it may go */
bool turn_parks(const struct core *core, const struct turn *turn); /* what comes next may be parked */
struct task *lane_peek(const struct lane *lane); /* NULL: nothing can go now, though some may be on disk */
void lane_take(struct core *core, struct task *first); /* what lane_peek has said */
void lane_remove(struct core *core, struct task *task);
void lanes_serve(struct core *core, struct worker *worker); /* find the lanes a worker serves */
void lanes_unserve(struct core *core, struct worker *worker);
bool worker_serves(const struct worker *worker, const struct lane *lane);
bool lane_is_served(const struct core *core, const struct lane *lane); /* also by one that may come back */
void lanes_shed(struct core *core);                                    /* those that no call names any more go */
void lanes_fini(struct core *core);

/* ---- outcomes.c ---- */
struct record {             /* the whole of an outcome */
    struct outcome_row row; /* views into memory */
    struct call *call;
    size_t memory_size;
    uint32_t refs;
    bool had_task;
    uint8_t memory[];
};
struct outcome { /* what nobody has acknowledged yet */
    uint64_t id;
    uint64_t completion;
    struct session *session;
    struct record *record; /* NULL: to be read from the store */
    uint64_t batch;        /* on disk when this batch is */
    int64_t finished;
    uint32_t size;
    bool is_acked;
};
/* ---- acked.c: acknowledged outcomes that are kept, oldest first ---- */

/* Ids side by side. */
struct acked_run {
    uint64_t id; /* the first */
    uint64_t bytes;
    int64_t first_finished;
    int64_t last_finished;
    uint32_t count;
};
struct acked {
    struct acked_run *runs; /* a ring */
    size_t head, run_count, cap;
    uint64_t count; /* outcomes */
    uint64_t bytes;
};
void acked_push(struct acked *acked, uint64_t id, int64_t finished, uint64_t size);
int64_t acked_oldest(const struct acked *acked); /* when it finished; there is one */
uint64_t acked_pop(struct acked *acked);         /* the id of the oldest */
void acked_sort(struct acked *acked);            /* by finish; at the start only */
void acked_fini(struct acked *acked);

/* How an attempt or a task ended, as told by a worker or decided here. */
struct ending {
    enum task_state state;
    enum cause cause;
    struct bytes result;
    struct bytes kind;
    struct bytes message;
    struct bytes detail;
    struct bytes report;
    struct bytes output;
    struct bytes worker; /* "HOST:PID" */
    uint32_t signal;
    uint32_t exit_status;
    int64_t started;
    uint64_t run_us;
    uint64_t cpu_us;
    uint64_t peak;
};
/* Record the outcome of a task and forget the task. */
void task_finish(struct core *core, struct task *task, const struct ending *ending);
void outcome_restore(struct core *core, uint64_t id, struct session *session, uint64_t completion, int64_t finished,
                     uint64_t size);
struct outcome *outcome_find(const struct core *core, uint64_t id);
void outcomes_deliver(struct core *core, struct session *session);
void outcomes_loaded(struct core *core, const struct loaded *loaded);
void outcomes_acknowledge(struct core *core, struct session *session, uint64_t first, uint64_t last);
void outcomes_committed(struct core *core, struct record *const *records, size_t count);
void outcomes_retain(struct core *core, size_t at_least); /* put deletions into the open batch */
struct outcome *session_outcome(const struct session *session, uint64_t completion);
void record_unref(struct core *core, struct record *record);
void outcomes_sort_restored(struct core *core);
void outcomes_sweep(struct core *core);
void session_restore_ring(struct session *session);
void session_restore_acked(struct core *core, struct session *session, uint64_t first, uint64_t last);
void session_restore_end(struct core *core, struct session *session);
void session_go_on_ending(struct core *core, struct session *session); /* what a restart interrupted */
void session_free_outcomes(struct core *core, struct session *session);
void outcomes_fini(struct core *core);

/* ---- series.c: the numbers of one client process ---- */
struct series {
    uint64_t id;
    struct session *session;
    struct uuid instance;
    uint64_t submitted_high;
    struct refusal {
        uint32_t first;
        uint32_t last;
        uint32_t code;
    } * refused;
    size_t refused_count;
    size_t refused_cap;
    struct series *next; /* of the session, the last used first */
    bool is_dirty;
};
void series_restore(struct core *core, const struct series_row *row);
struct series *series_find(const struct core *core, uint64_t id);
bool series_are_left(const struct core *core); /* numbers for new ones */
/* The series of this instance, or a new one. */
struct series *series_give(struct core *core, struct session *session, const struct uuid *instance);
void series_use(struct series *series);                       /* it is the last used one now */
void series_shed(struct core *core, struct session *session); /* those beyond SESSION_SERIES_COUNT_MAX go */
void series_end(struct core *core, struct session *session);  /* all of them: the session goes */

/* ---- numbers.c: numbers of sessions and series, given once in the life of a store ---- */
struct numbers {
    uint64_t next;    /* to be given */
    uint64_t durable; /* those below are reserved on disk: nobody is told of one that is not */
};
void numbers_begin(struct core *core);
uint64_t session_number_give(struct core *core);
uint64_t series_number_give(struct core *core); /* series_are_left */
bool numbers_are_durable(const struct core *core, uint64_t session, uint64_t series);
void numbers_committed(struct core *core, uint64_t batch);

/* ---- sessions.c, submits.c ---- */
struct session {
    uint64_t id;
    char *name;                /* NULL: unnamed */
    struct session *same_hash; /* in core->session_names */
    struct buf description;
    struct uuid owner;
    char *owner_text;
    struct conn *conn;   /* of the owner, while connected */
    uint32_t generation; /* of the owner's newest connection */
    uint64_t owned_at;   /* how many challenges had been given when it got its owner; a nonce from before is stale */
    struct series *series;
    struct turn *turns;
    struct task *tasks; /* live ones in memory */
    uint64_t live;
    uint64_t parked; /* of these: on disk only */
    uint64_t completion_last;
    uint64_t acked_prefix;
    struct outcome **ring; /* completions acked_prefix + 1 .. completion_last */
    size_t ring_head;
    size_t ring_cap;            /* a power of two */
    struct ranges acked_beyond; /* acknowledged ones behind one that is not */
    struct ranges acked_fresh;  /* of these, what no batch was sealed with yet */
    bool has_taken;             /* the store has rows of what is taken, or is about to */
    uint64_t untaken;           /* outcomes not acknowledged */
    uint64_t next_send;
    uint64_t loading;      /* number of the load under way, 0 none */
    uint64_t credit_count; /* totals on this connection */
    uint64_t credit_bytes;
    uint64_t sent_count;
    uint64_t sent_bytes;
    uint64_t ordinal_high;
    uint8_t digest[DIGEST_SIZE];
    uint64_t failed;
    int64_t created;
    int64_t used;
    int64_t idle_since; /* monotonic: neither client nor live tasks, or client gone */
    int64_t left_at;    /* monotonic: since when it has no client */
    uint64_t expire_ms; /* it ends after this time without a client; 0: as its kind does */
    bool keep;
    bool is_volatile; /* in memory only: nothing of it is ever put into a batch */
    bool is_ending;
    bool is_cancelling; /* ending, and what has not started is cancelled, also after a restart */
    bool is_dirty;
    uint64_t sweep_next;  /* task to go on with */
    bool is_sweeping;     /* what has not started is being cancelled, in slices */
    uint64_t parks_after; /* only what is in a later batch than this is parked: see open.c */
};
void session_restore(struct core *core, const struct session_row *row);
void taken_restore(struct core *core, const struct taken_row *row);
struct session *session_find(const struct core *core, uint64_t id);
struct session *session_by_name(const struct core *core, struct bytes name);
struct session *session_new(struct core *core, struct bytes name, bool is_volatile);
void session_label(const struct session *session, struct buf *out); /* its name, or "#7" */
void session_touch(struct core *core, struct session *session);
void session_settle(struct core *core, struct session *session); /* delete it if nothing is left of it */
void session_end(struct core *core, struct session *session, bool cancel, bool drop);
void session_left(struct core *core, struct session *session); /* its client is gone */
/* When it goes if nothing happens, wall clock; 0: not while it has a client, or tasks to do. */
int64_t session_end_ms(const struct core *core, const struct session *session);
void sessions_sweep(struct core *core); /* lifetimes; slices of cancelling */
void sessions_fini(struct core *core);
void client_hello(struct core *core, struct conn *conn, const struct msg_HELLO_CLIENT *hello);
void client_echo(struct core *core, struct conn *conn, const struct msg_ECHO *echo);
void client_taken(struct core *core, struct conn *conn, const struct msg_TAKEN *taken);
void client_credit(struct core *core, struct conn *conn, const struct msg_CREDIT *credit);
void client_close(struct core *core, struct conn *conn, const struct msg_CLOSE *close);
void client_submit(struct core *core, struct conn *conn, const struct msg_SUBMIT *submit);
void clients_grant(struct core *core); /* credit that was withheld */
uint64_t client_window_share(const struct core *core);
/* So much waits for the disk that nothing is to be added until the next commit: no credit, and no dispatches, whose
 * results would. What is small and comes meanwhile then waits for little. */
bool disk_rows_are_behind(const struct core *core);
bool disk_is_behind(const struct core *core);
enum quern_err submit_room(const struct core *core, bool is_volatile); /* does the broker take tasks now? */
struct task *task_submit_retry(struct core *core, struct session *session, struct call *call, struct bytes args,
                               uint64_t retry_of);

/* ---- workers.c, attempts.c, dispatch.c, retry.c ---- */
struct worker {
    uint64_t id;
    struct uuid instance;
    char *name;
    char *host;
    uint64_t pid;
    char *label;       /* "HOST:PID" */
    uint64_t slot_pid; /* that slot_label was made for */
    char slot_label[WORKER_NAME_SIZE_MAX + 1];
    size_t slot_label_size; /* 0: none was made */
    struct conn *conn;
    uint32_t generation;
    uint64_t welcomed_batch; /* may be sent to once this batch is on disk; UINT64_MAX before */
    bool is_welcomed;
    uint64_t slots;
    uint64_t capacity_count;
    uint64_t capacity_bytes;
    uint64_t nested_count; /* of what it holds: of no account for tasks of at least nested_depth */
    uint64_t nested_depth;
    uint64_t scarce; /* why it takes less: as in CAPACITY */
    char *memory;    /* how it keeps limits of memory, in words; NULL: it did not say */
    struct bytes *functions;
    size_t function_count;
    struct bytes *queues;
    size_t queue_count;
    struct lane **lanes; /* that it serves */
    size_t lane_count;
    size_t lane_cap;
    size_t lane_cursor;
    struct task *held;
    uint64_t held_count;
    uint64_t held_bytes;
    int64_t lease_until;     /* monotonic */
    struct worker *next;     /* all of them */
    bool is_hungry;          /* in core->hungry */
    uint64_t expected_count; /* scratch of balance.c: what was just called back for its idle slots */
    bool is_unheard;         /* of a former life of the broker, and has not said yet what it holds */
};
struct worker *worker_restore(struct core *core, const struct worker_row *row);
void worker_hello(struct core *core, struct conn *conn, const struct msg_HELLO_WORKER *hello);
void worker_left(struct core *core, struct worker *worker); /* its connection is gone; its lease runs on */
void worker_bye(struct core *core, struct worker *worker);  /* it ends now, with all that it still holds */
void worker_hold(struct core *core, struct worker *worker, struct task *task);
void worker_drop(struct core *core, struct task *task); /* no longer held */
void worker_capacity(struct core *core, struct conn *conn, const struct msg_CAPACITY *capacity);
void worker_renew(struct core *core, struct worker *worker); /* its lease, from now */
void worker_welcomed(struct core *core, uint64_t batch);
void workers_excuse(struct core *core, int64_t late_ms); /* nobody was there to hear them for so long */
void workers_sweep(struct core *core);                   /* leases that are over */
void workers_fini(struct core *core);
/* attempts.c: what a worker says of what it holds. */
void attempts_listed(struct core *core, struct worker *worker, struct conn *conn, struct list list); /* by its HELLO */
void worker_finished(struct core *core, struct conn *conn, struct msg_FINISHED *finished);
void worker_returned(struct core *core, struct conn *conn, struct msg_RETURNED *returned);
void worker_started(struct core *core, struct conn *conn, struct msg_STARTED *started);
void worker_progress(struct core *core, struct conn *conn, struct msg_PROGRESS *progress);
/* The attempt is over without the task having been started: back, without blame. */
void attempt_returned(struct core *core, struct task *task);
void attempt_failed(struct core *core, struct task *task, const struct ending *ending);
void attempt_lost(struct core *core, struct task *task, const char *how);
void task_revoke(struct core *core, struct task *task, bool force);
void dispatch_all(struct core *core);
void balance_workers(struct core *core); /* balance.c: what waits at one while another is idle */
void dispatch_gated(struct core *core, const struct token *tokens, size_t count);

/* claims.c: attempts of tasks whose submit is still to be repeated after a crash */
bool claim_keep(struct core *core, struct worker *worker, const struct item_held *held);
bool claim_finish(struct core *core, struct worker *worker, const struct item_finished *item);
void claim_return(struct core *core, struct worker *worker, struct token token);
void claims_meet(struct core *core, uint64_t series, uint32_t sequence, uint32_t count);
void claims_left(struct core *core, const struct worker *worker);
void claims_sweep(struct core *core);
void claims_fini(struct core *core);
/* A claimed attempt becomes the task's: finished is the item of its report, if there was one. */
void attempt_adopt(struct core *core, struct worker *worker, struct task *task, struct token token, bool is_running,
                   struct bytes finished);
/* Nobody wants it: drop it, or free its report. */
void attempt_disown(struct core *core, struct worker *worker, struct token token, bool is_finished);

/* retry.c: pure. What follows from a failed attempt. */
enum blame { BLAME_ATTEMPT, BLAME_CRASH, BLAME_LOSS };
struct decision {
    bool again;
    uint64_t delay_ms;
    enum blame blame;
    enum cause cause; /* of the task, if it is not tried again */
};
/* Who is blamed. signal: that the attempt's process died of, 0 none: what the kernel killed for want of memory is no
 * fault of the handler. */
enum blame retry_blame(enum cause cause, uint64_t signal);
/* blame, cause: of the failure, which is counted in attempts, crashes and losses. */
struct decision retry_decide(const struct task_options *option, uint32_t attempts, uint32_t crashes, uint32_t losses,
                             enum blame blame, enum cause cause, uint64_t random);
uint64_t retry_chance(uint64_t random, uint64_t task); /* a random number of its own for each task of a step */
/* After so many failed attempts: bytes the next one may take, 0: what its worker allows; must nothing run beside it? */
uint64_t retry_memory(const struct task_options *option, uint32_t attempts);
bool retry_is_alone(const struct task_options *option, uint32_t attempts);

/* ---- conns.c: connections and what is written to them ---- */
enum role { ROLE_NONE, ROLE_CLIENT, ROLE_WORKER, ROLE_OPERATOR };
struct outlet {      /* the frame under way to one connection */
    uint64_t serial; /* of the outbox it is in */
    size_t index;
    struct buf *frame;          /* until another one is begun */
    enum message_kind run_kind; /* an open run at its end, 0 none */
    const void *run_key;
    size_t count_at;
    uint32_t count;
    uint32_t messages;
    struct item_last *after; /* what the next item of the run may be shorter by; NULL: the peer takes no short ones */
    struct item_last last;   /* of the run */
};
struct conn {
    uint64_t id;
    enum role role;
    uint32_t generation;
    bool is_denied;
    bool was_welcomed; /* as a client */
    bool takes_short;  /* items */
    struct uuid instance;
    char *host;
    uint64_t pid;
    char *program;
    int64_t heard_ms;
    int64_t sent_ms;
    uint32_t errors;
    uint32_t unknowns; /* messages of unknown kinds */
    uint32_t queries;  /* under way */
    uint32_t asked;    /* in the open batch, whose number is: */
    uint64_t asked_batch;
    struct outlet now;
    struct outlet gated;
    struct buf soon; /* messages that leave with the next frame */
    uint32_t soon_count;
    bool is_soon_listed;
    struct opening *opening; /* a client that was challenged */
    struct session *session;
    struct series *series;
    bool want_args;
    bool asked_open;         /* for a first page of what is open */
    uint64_t behind;         /* answers at once stay behind what this batch gates */
    bool is_starving;        /* credit was withheld */
    uint64_t received_count; /* submits on this connection */
    uint64_t received_bytes;
    uint64_t granted_count;
    uint64_t granted_bytes;
    struct piece *backlog; /* what it sent and must wait (backlog.c), in order */
    struct piece *backlog_end;
    size_t backlog_bytes;
    struct conn *backlog_before; /* in the line of those who have some */
    struct conn *backlog_after;
    uint64_t batch; /* of its submits this batch has: */
    uint64_t batch_count;
    uint64_t batch_bytes;
    struct worker *worker;
    struct conn *prev;
    struct conn *next;
};
struct conn *conn_find(const struct core *core, uint64_t id);
struct conn *conn_open(struct core *core, uint64_t id);
void conn_close(struct core *core, struct conn *conn); /* it is gone: forget it */
void conn_part(struct core *core, struct conn *conn);  /* it said good-bye */
void conn_kick(struct core *core, struct conn *conn);
void conn_deny(struct core *core, struct conn *conn, enum quern_err code, const char *owner, const char *text);
void conn_error(struct core *core, struct conn *conn, enum quern_err code, uint64_t kind, const char *text);
void conn_sweep(struct core *core); /* heartbeats, and peers that are silent */
/* A frame to append one message to. */
struct buf *send_now(struct core *core, struct conn *conn);
struct buf *send_gated(struct core *core, struct conn *conn);
/* To append one message that nobody waits for and that rests on no commit: it leaves with the next frame that leaves at
 * once, at the latest SOON_MS from now. A peer that is not woken for it has its time for what is waited for. */
struct buf *send_soon(struct core *core, struct conn *conn);
void conns_send_soon(struct core *core); /* what has waited long enough */
/* With a run of that kind open at the end of its frame: append one item to that at once, then call run_added. */
struct outlet *run_now(struct core *core, struct conn *conn, const struct message *head, const void *key);
struct outlet *run_gated(struct core *core, struct conn *conn, const struct message *head, const void *key);
void run_added(struct outlet *run);
/* To a client: gated, unless its session is volatile: what rests on no commit leaves at once. */
bool answer_is_gated(struct core *core, struct conn *conn);
struct buf *send_answer(struct core *core, struct conn *conn);
struct buf *send_answer_soon(struct core *core, struct conn *conn); /* gated, or soon */
void conns_fini(struct core *core);

/* ---- batch.c: the open batch ---- */
struct batch_memory;
struct open_batch {
    uint64_t number;
    struct arena arena;
    struct outbox gated;
    struct task **tasks;
    size_t task_count, task_cap;
    struct session **sessions;
    size_t session_count, session_cap;
    struct series **series;
    size_t series_count, series_cap;
    struct change *singles; /* calls, workers, failures, deletions: rows that are final as they are made */
    size_t single_count, single_cap;
    struct record **records;
    size_t record_count, record_cap;
    size_t collapsed;  /* of the records: without a row of their task */
    struct token *amo; /* dispatches that wait for this batch */
    size_t amo_count, amo_cap;
    size_t bytes;
    uint64_t submit_count; /* of the tasks: new ones */
    bool meta_changed;
    bool is_urgent;
    int64_t lazy_since; /* 0: nothing lazy */
};
void batch_open(struct core *core);
void batch_close(struct core *core); /* throw the open batch away (the core ends) */
void batch_task(struct core *core, struct task *task, bool is_lazy);
void batch_session(struct core *core, struct session *session, bool is_lazy);
void batch_series(struct core *core, struct series *series);
struct change *batch_single(struct core *core, enum change_kind kind); /* fill it in; copy texts with arena_copy */
void batch_record(struct core *core, struct record *record);
void batch_amo(struct core *core, struct token token);
void batch_forget_series(struct core *core, const struct series *series);
void batch_forget_session(struct core *core, struct session *session);
void batch_committed(struct core *core, uint64_t number);

/* ---- backlog.c: what clients sent faster than the disk takes it ---- */
/* The next message is a submit that has no room in the open batch. */
bool backlog_must_wait(const struct core *core, const struct conn *conn, const struct cursor *cursor);
/* Keeps a copy of the rest of a frame. False: of this client too much is kept already. */
bool backlog_add(struct core *core, struct conn *conn, const struct cursor *cursor);
void backlog_drop(struct core *core, struct conn *conn);
void backlog_count(struct core *core, struct conn *conn, size_t size); /* a durable submit came into the open batch */
bool backlog_is_due(const struct core *core);                          /* there is a batch that may have room */
void backlog_run(struct core *core);
void take_messages(struct core *core, uint64_t conn, struct cursor *cursor); /* of core.c */

/* ---- backup.c ---- */

struct backup_waiter {
    uint64_t conn;
    uint64_t request;
};
struct backups {
    char *path; /* of the one under way; NULL: none is */
    size_t waiter_count;
    struct backup_waiter waiters[BACKUP_WAITER_COUNT_MAX];
};
void backup_ask(struct core *core, struct conn *conn, uint64_t request, struct bytes file);
void backup_made(struct core *core, const struct loaded *loaded);
void backups_fini(struct core *core);

/* ---- queries.c ---- */
void query_ask(struct core *core, struct conn *conn, const struct msg_QUERY *query);
void query_cancel(struct core *core, struct conn *conn, const struct msg_CANCEL *cancel);
void query_retry(struct core *core, struct conn *conn, const struct msg_RETRY *retry);
void query_loaded(struct core *core, const struct loaded *loaded);
void query_conn_closed(struct core *core, struct conn *conn);
void worker_output(struct core *core, struct conn *conn, const struct msg_OUTPUT *output); /* the answer to a LOOK */
void queries_sweep(struct core *core);                    /* those whose worker does not answer go on without it */
void query_task_finished(struct core *core, uint64_t id); /* answers who waits for it */
void query_task_not_cancelled(struct core *core, uint64_t id, enum quern_err code); /* it runs, or it finished first */
void reply_put(struct core *core, struct conn *conn, uint64_t request, enum quern_err code, const char *text, bool more,
               struct bytes body);
/* About a session or its tasks: at once if it is volatile. */
void reply_about(struct core *core, struct conn *conn, const struct session *session, uint64_t request,
                 enum quern_err code, const char *text, struct bytes body);
void queries_fini(struct core *core);
void queries_committed(struct core *core); /* those that waited for a batch ask the store */
struct load *load_new(struct core *core, enum load_kind kind);

struct core {
    struct limits limits;
    struct spares task_spares;   /* with small arguments */
    struct spares record_spares; /* with small payloads */
    struct spares outcome_spares;
    struct uuid store;
    uint32_t epoch;
    struct meta_row meta;           /* as the store has it, or will with the open batch */
    struct numbers session_numbers; /* of these blocks are reserved */
    struct numbers series_numbers;
    uint64_t numbers_batch; /* that reserves the newest block */
    uint64_t first_session; /* number that this life of the broker began with */
    uint64_t pid;           /* of this process, to show */
    bool has_store;         /* without one every session is volatile */
    bool was_clean;
    bool disk_low;
    bool has_begun;
    struct store_stats stats;
    struct counters counters;
    int64_t begun_ms;
    int64_t hold_until;   /* ready tasks wait for claims until then, or until every worker has said what it holds */
    size_t unheard_count; /* workers that have not */
    int64_t claims_until; /* attempts of unknown tasks are kept until then */
    uint64_t claim_bytes; /* of reports kept with them */
    struct map claims;    /* by task id */
    struct conn *backlog_first; /* clients with a backlog */
    struct conn *backlog_last;
    size_t backlog_count;
    bool spares_disk;       /* while dispatching: no large tasks now */
    size_t backlog_bytes;   /* of all */
    uint64_t backlog_batch; /* that has taken of it what it could */

    /* of the step under way */
    struct update *update;
    int64_t now;  /* monotonic */
    int64_t wall; /* since 1970 */
    uint64_t random;
    uint64_t random_second;
    const char *peer;
    bool is_remote; /* the peer of this step */

    struct open_batch open;
    uint64_t committed;           /* highest batch on disk */
    struct batch_memory *sealed;  /* in order, until each is on disk */
    struct change *spare_changes; /* of a batch that is on disk, for the next */
    size_t spare_change_cap;
    size_t sealed_bytes;

    struct map conns; /* by connection number */
    struct conn *conn_list;
    size_t client_count;
    size_t starving_count;

    struct map sessions;      /* by id */
    struct map session_names; /* by hash of the name; of the owner if it has none */
    struct map series;        /* by id */
    uint32_t own_series;      /* for retries; 0: there are no numbers left */
    uint32_t own_sequence;
    size_t sweeping_count;

    struct call **call_buckets;
    size_t call_bucket_count;
    size_t call_count;
    struct map calls; /* by id */

    struct lane **lane_buckets;
    size_t lane_bucket_count;
    size_t lane_count;
    size_t lane_shed_at; /* look for lanes that nobody needs when there are this many */
    uint64_t ready;      /* tasks in lanes, those parked included */
    uint64_t turn_count;

    struct map tasks; /* by id; of a parked one its turn (parked.c) */
    uint64_t task_bytes;
    uint64_t keep_count; /* so many ready tasks of a turn stay in memory; as of this step */
    uint64_t parked_count;
    uint64_t parked_bytes;       /* of task_bytes */
    size_t parked_load_count;    /* under way for turns */
    struct turn *parked_waiting; /* turns that wait for one */
    struct turn *parked_waiting_last;
    struct load *parked_fetching; /* of this step: takes further ids */
    uint64_t state_count[TASK_CANCELLED + 1];
    struct heap due;         /* delayed, backoff: by the monotonic clock */
    struct heap due_by_wall; /* delayed until a time of day, and those restored: by the wall clock */
    struct heap expiries;    /* struct expiry */

    struct map outcomes; /* unacknowledged, by id */
    uint64_t unacked_bytes;
    uint64_t resident_bytes; /* of those that can be read back */
    uint64_t volatile_bytes; /* arguments and outcomes of volatile sessions */
    struct acked acked;

    struct worker *workers;
    size_t worker_count;
    uint64_t welcome_batch; /* the newest that holds a WELCOME of a worker */
    struct map workers_by_id;
    struct worker **hungry;
    size_t hungry_count, hungry_cap;

    struct query *queries;
    struct backups backups;
    size_t query_count;
    struct map query_waits; /* task id → the first query that waits for its outcome */
    struct map loads;       /* number → the query that asked; or the session's id, for its outcomes */
    struct map looks;       /* number → the query that asked a worker */
    uint64_t challenge_count;
    uint64_t load_number;
    uint64_t look_number;

    int64_t soon_ms; /* messages that leave soon leave now at the latest; INT64_MAX none */
    uint64_t *soon;  /* the connections that may have some */
    size_t soon_count, soon_cap;
    int64_t expected_ms; /* the next step was to be by then; INT64_MAX: nobody knew */
    int64_t balance_ms;  /* next look at idle workers; INT64_MAX none */
    int64_t sweep_ms;    /* next look at lifetimes, leases, heartbeats */
};

/* Ask to be woken for a sweep at the latest then. */
void core_sweep_by(struct core *core, int64_t mono_ms);

/* Grow an array of anything by one. */
#define ARRAY_RESERVE(items, count, cap)                                                                               \
    do {                                                                                                               \
        if ((count) == (cap)) {                                                                                        \
            (cap) = (cap) ? (cap)*2 : 16;                                                                              \
            (items) = xrealloc((items), (cap) * sizeof *(items));                                                      \
        }                                                                                                              \
    } while (0)

#endif

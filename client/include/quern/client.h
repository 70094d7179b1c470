/*
 * quern/client.h: submit tasks, take their outcomes.
 *
 *     struct quern_client *client;
 *     struct quern_call call = QUERN_CALL_INIT;
 *     struct quern_future *future;
 *     struct quern_outcome *outcome;
 *
 *     // every call answers QUERN_OK or what went wrong; quern_last_error() says it in words. Left out here.
 *     quern_client_open(NULL, &client);                  // the default socket, an unnamed session
 *     call.function = "square";
 *     call.args = "\x91\x07"; call.args_size = 2;         // [7]; see quern/value.h
 *     quern_submit(client, &call, &future, NULL);
 *     quern_future_wait(future, QUERN_FOREVER, &outcome);
 *     ... outcome->state, outcome->result ...
 *     quern_outcome_release(&outcome);
 *     quern_future_release(&future);
 *     quern_client_close(&client, 0);
 *
 * A volatile session (quern_client_options.is_volatile) is in the broker's memory only. When the broker ends, SIGKILL
 * included, and the client reaches its successor, everything that was sent and has no outcome here has failed with
 * cause QUERN_CAUSE_LOST, at once: futures and, for tasks without one, outcomes of quern_next (their completion is 0).
 * The client opens a new session of that name by itself; what was never sent goes on there, under other ids. What a
 * former owner of the session had left in it is gone without a word, for this client does not know it. The same happens
 * if the session has ended while the client could not reach the broker.
 *
 * Every function may be called from any thread. A client owns one thread of its own that talks to the broker; it
 * connects again by itself, for ever, and sends again what was not acknowledged. In a child made by fork() a client
 * cannot be used: every call answers QUERN_CLOSED there, and releasing does nothing.
 *
 * Errors: what stands at a function is what is its own. Besides:
 *
 * QUERN_INVALID      a client, future, group, set, map or pool that is NULL, or a parameter to be written that is NULL
 *                    and may not be; a struct whose size is not set; a session is needed and the client has none
 *                    (no_session)
 *
 * QUERN_UNSUPPORTED  a struct of a newer header than this library's, with a field set that this one does not know
 *
 * QUERN_CLOSED       in a child of fork()
 *
 * QUERN_TAKEN_OVER, QUERN_CLOSED  the client has ended: from all that submits, asks the broker, or waits for what has
 *                    not come
 *
 * QUERN_FULL         from all that asks the broker (cancel, info, retry, query, closing a session, futures of earlier
 *                    tasks): 1,024 requests of this client are under way, and this one was not sent. In a handler, from
 *                    all that waits: as many tasks of its worker wait there as may (quern/futures.h)
 *
 * QUERN_PROTOCOL     from all that asks the broker: its answer is none that this library can read
 *
 * QUERN_NO_MEMORY    see below
 *
 * Times to wait: timeout_ms 0 looks and does not wait; QUERN_FOREVER, and whatever else is negative, waits for ever.
 * wait_ms and connect_timeout_ms are the same.
 *
 * Memory: a call that does not get what it needs answers QUERN_NO_MEMORY and has changed nothing: ask again when there
 * is some. Releasing needs none. Memory that the library's own thread needs and does not get stops the process with a
 * report; its bounds are window_count and window_bytes, and what was submitted and has no answer.
 *
 * Ownership: `T **` in a release or close is taken and becomes NULL; NULL in it, and NULL in its place, is fine:
 * nothing is done. A close that answers QUERN_INVALID (for its flags) has taken nothing. Strings and views in an
 * outcome live as long as the outcome. Structs that you fill in begin with their own size: an INIT macro sets that and
 * the defaults.
 */
#ifndef QUERN_CLIENT_H
#define QUERN_CLIENT_H

#include <quern/err.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

#define QUERN_FOREVER (-1)
#define QUERN_PAYLOAD_SIZE_MAX (16u * 1024u * 1024u)

struct quern_client;
struct quern_future;
struct quern_outcome;

/* Final states have the numbers of the wire. */
enum quern_state {
    QUERN_STATE_DELAYED = 1,
    QUERN_STATE_WAITING = 2,
    QUERN_STATE_READY = 3,
    QUERN_STATE_LEASED = 4,
    QUERN_STATE_RUNNING = 5,
    QUERN_STATE_BACKOFF = 6,
    QUERN_STATE_DONE = 7,
    QUERN_STATE_FAILED = 8,
    QUERN_STATE_CANCELLED = 9,
};

enum quern_cause {
    QUERN_CAUSE_NONE = 0,
    QUERN_CAUSE_ERROR = 1,
    QUERN_CAUSE_CRASHED = 2,
    QUERN_CAUSE_TIMEOUT = 3,
    QUERN_CAUSE_EXPIRED = 4,
    QUERN_CAUSE_MEMORY = 5,
    QUERN_CAUSE_LOST = 6,
    QUERN_CAUSE_QUARANTINED = 7,
    QUERN_CAUSE_UNENCODABLE = 8,
};

const char *quern_state_word(enum quern_state state);
const char *quern_cause_word(enum quern_cause cause);

/* A task's id as people read and write it: "8-42". */
#define QUERN_ID_TEXT_SIZE 24u
/* Writes it into text and returns that. */
char *quern_id_text(uint64_t id, char text[QUERN_ID_TEXT_SIZE]);
/* QUERN_INVALID  text is no id (or NULL): two numbers, 1 to 2147483647, with "-" between them */
QUERN_MUST_USE enum quern_err quern_id_parse(const char *text, uint64_t *id_out);

/* ---- opening and closing ---- */

/* Begin with QUERN_CLIENT_OPTIONS_INIT: defaults in all fields; or give NULL instead. */
struct quern_client_options {
    size_t size;
    const char *url;        /* one URL or several with commas between; NULL: QUERN_URL, else the default socket */
    const char *session;    /* NULL: an unnamed one, for this client alone (see quern_client_close) */
    bool take_over;         /* take the session from an owner that is connected */
    bool must_exist;        /* do not make the session: QUERN_UNKNOWN if there is none of that name */
    bool keep;              /* an unnamed session whose results stay when this client leaves, as those of a named one */
    bool is_volatile;       /* in the broker's memory only: fast, and lost with the broker (cause lost, at once). With
                             * neither url nor session and QUERN_VOLATILE=auto, as in a worker's slots: also if it is
                             * false and the broker has no store (quern_session_info says what it is) */
    bool want_args;         /* outcomes bring their arguments along, where they are kept */
    bool no_session;        /* an operator: queries, cancel, retry, close; no submits and no outcomes */
    int connect_timeout_ms; /* for the first connection, default 5000; QUERN_FOREVER waits */
    const char *program;    /* shown to others; default: this program's name */
    const void *description; /* kept with the session if it is made now (see quern_session_info); at most 64 KiB */
    size_t description_size;
    size_t window_count; /* outcomes received ahead of being taken, default 10,000 */
    size_t window_bytes; /* bytes of the same, default 64 MiB */
    /* Called by the client's thread when the connection is lost (is_up false) or back. May be NULL. Must not block and
     * must not call quern. */
    void (*on_connection)(void *context, bool is_up, const char *text);
    void *context;
    uint64_t expire_ms; /* a session made now ends by itself after this time without a client, and what has not started
                         * then is cancelled; 0: see quern_client_close */
};
#ifdef __cplusplus
#define QUERN_CLIENT_OPTIONS_INIT QUERN_INIT_IN_CXX(struct quern_client_options, it.connect_timeout_ms = 5000)
#else
#define QUERN_CLIENT_OPTIONS_INIT                                                                                      \
    {                                                                                                                  \
        .size = sizeof(struct quern_client_options), .connect_timeout_ms = 5000                                        \
    }
#endif

/*
 * Connect, and open the session. options may be NULL (all defaults).
 * QUERN_NO_BROKER   none reached within connect_timeout_ms
 * QUERN_IN_USE      the session's owner is connected (quern_last_error names it); see take_over
 * QUERN_UNKNOWN     must_exist and it does not
 * QUERN_UNSUPPORTED the broker has no store, and is_volatile is not set
 * QUERN_INVALID, QUERN_TOO_BIG  an option
 * QUERN_VERSION     the broker is newer
 * QUERN_FULL        it holds as many sessions as it can
 * QUERN_IO          no descriptor, or no thread, for this client: the system's limit
 */
QUERN_MUST_USE enum quern_err quern_client_open(const struct quern_client_options *options,
                                                struct quern_client **client_out);

#define QUERN_CLOSE_CANCEL 1u  /* cancel what has not started; ends the session too */
#define QUERN_CLOSE_SESSION 2u /* end the session: no further submits; it goes when all is taken */
/*
 * Sends what is queued (waits up to 5 s for submits to be accepted and acknowledgements to be read), then leaves.
 * Durable work is not cancelled by that, in no session, unless flags ask for it (or expire_ms did): what was submitted
 * runs. Of an unnamed session that was not kept the results stay a day after the last of it has ended, by id (`quern
 * result`) or in the session "#NUMBER" (`quern sessions`). Work in a volatile session without a name that has not
 * started is cancelled when the client was gone for a minute. Futures and outcomes still held stay valid to release;
 * what was not released before is not acknowledged. Threads that wait inside a call are let go with QUERN_CLOSED; none
 * may begin one meanwhile.
 *
 * flags  0, or bits of QUERN_CLOSE_*, DROP included
 *
 * QUERN_INVALID    flags has another bit: nothing is done, the client stays open
 * QUERN_TIMEOUT    some submits were not acknowledged
 * QUERN_TAKEN_OVER, QUERN_CLOSED  the same, and the client had ended before: they never will be
 * QUERN_NO_MEMORY  the client is closed, but what flags ask of the session could not be told to the broker
 */
enum quern_err quern_client_close(struct quern_client **client, unsigned flags);

/* The last error of this thread in words: what happened, to what, what to do. Never NULL; valid until the next call of
 * quern in this thread. */
const char *quern_last_error(void);

/* Begin with QUERN_SESSION_INFO_INIT. */
struct quern_session_info {
    size_t size;
    uint64_t session;
    bool is_new;              /* made by this open */
    bool is_ending;           /* takes no submits */
    uint64_t ordinal_high;    /* highest accepted ordinal when it was opened */
    uint64_t live;            /* tasks without outcome when it was opened */
    uint64_t untaken;         /* outcomes not acknowledged when it was opened: quern_next gives them first */
    uint64_t failed;          /* failed outcomes ever, when it was opened */
    unsigned char digest[32]; /* of the arguments up to ordinal_high; see quern_digest_step */
    const void *description;  /* as given by the client that made it; lives as long as the client */
    size_t description_size;
    uint32_t epoch;
    bool is_volatile;
};
#ifdef __cplusplus
#define QUERN_SESSION_INFO_INIT QUERN_INIT_IN_CXX(struct quern_session_info, (void)it)
#else
#define QUERN_SESSION_INFO_INIT                                                                                        \
    {                                                                                                                  \
        .size = sizeof(struct quern_session_info)                                                                      \
    }
#endif
/*
 * What the broker said of this client's session when it was opened; asks nobody.
 *
 * QUERN_INVALID  the size of *info_out is not set
 */
QUERN_MUST_USE enum quern_err quern_session_info(struct quern_client *client, struct quern_session_info *info_out);

/* The running digest of the arguments of a session's tasks that have an ordinal: digest becomes BLAKE2b (32 bytes, no
 * key) of digest, then ordinal as 8 bytes little-endian, then args as they were submitted (NULL: the one byte 0x90, [],
 * as quern_submit sends it). Starts as 32 zero bytes. */
void quern_digest_step(unsigned char digest[32], uint64_t ordinal, const void *args, size_t args_size);

/* ---- submitting ---- */

/* Nothing runs beside it on its worker, of any queue: it waits until nothing else does, and what comes later waits for
 * it. (While its handler waits for tasks, those may run.) */
enum quern_alone {
    QUERN_ALONE_NEVER = 0,
    QUERN_ALONE_ALWAYS = 1,
    QUERN_ALONE_RETRIED = 2, /* from its second attempt on */
};

/* Begin with QUERN_CALL_INIT; function is all that must be set. */
struct quern_call {
    size_t size;
    const char *function;
    const void *args;        /* one msgpack array of positional arguments; NULL: [] ; copied */
    size_t args_size;        /* 0..QUERN_PAYLOAD_SIZE_MAX */
    const char *queue;       /* NULL: "default" */
    int priority;            /* -1000..1000, higher first */
    uint64_t delay_ms;       /* not before this time from acceptance */
    uint64_t timeout_ms;     /* of each attempt, from its start; 0 none */
    unsigned attempts;       /* failed attempts before it fails for good: 1 (default) .. 1000 */
    uint32_t retry_on;       /* bits 1 << cause that are tried again; 0: error, timeout, memory */
    uint64_t backoff_ms;     /* wait before the second attempt, doubling */
    uint64_t backoff_cap_ms; /* up to this; 0: no doubling beyond an hour */
    bool at_most_once;       /* never run twice; not with attempts > 1 */
    uint64_t ordinal;        /* 0 none; strictly rising within the session: see quern_session_info */
    /* When the client's window is full: wait up to this long (QUERN_FOREVER, default) or 0. When the broker is full:
     * not 0 or an ordinal: submit again until it is accepted; else the submit comes back refused
     * (quern_outcome.refusal). */
    int wait_ms;
    /* Memory that an attempt may take beyond what its process had when it began, with all processes that it starts;
     * over it, it is stopped, and fails with cause memory. 0: what its worker allows. */
    uint64_t memory_bytes;
    unsigned memory_growth; /* percent: with every failed attempt the limit is so much of the last one; 0: it stays */
    uint64_t memory_cap_bytes; /* up to this; 0: 16 times memory_bytes */
    enum quern_alone alone;
    /* If no attempt of it has started this long after the broker took it, it fails with cause expired, and never
     * starts. One that was handed to a worker is called back first, and fails when that has not started it. A later
     * attempt, after a failure, does not expire. 0: never. More than delay_ms, and later than at_ms. */
    uint64_t expires_ms;
    uint64_t at_ms; /* not before this time of the broker's wall clock, ms since 1970 (in the past: now); 0; not with
                     * delay_ms. Where that clock is set meanwhile, by its new time. */
    /* If no worker serves the function in this queue, it fails at once (cause error, kind "UnknownFunction") and does
     * not wait for one: looked at when the broker takes it, and again when its delay is over. One that has lost its
     * connection counts until its lease is over; in the broker's first second its workers are waited for. */
    bool known;
    /* Deaths of a process that runs it before it fails as quarantined, and losses of its worker before it fails as
     * lost; attempts does not limit them. Up to 1000; 0: 3 deaths, 10 losses. Not with at_most_once. */
    unsigned crashes_max;
    unsigned losses_max;
};
#ifdef __cplusplus
#define QUERN_CALL_INIT QUERN_INIT_IN_CXX(struct quern_call, it.attempts = 1; it.wait_ms = QUERN_FOREVER)
#else
#define QUERN_CALL_INIT                                                                                                \
    {                                                                                                                  \
        .size = sizeof(struct quern_call), .attempts = 1, .wait_ms = QUERN_FOREVER                                     \
    }
#endif

/*
 * Queue one call; returns before it runs, and before it is durable (quern_future_accepted).
 *
 * future_out  NULL if no future is wanted (take outcomes with quern_next); else written on QUERN_OK and to be released
 * id_out      NULL, or the task's id. A submit that the broker was too full for goes again under another id, as does
 * one that was never sent when a volatile session was lost: quern_future_id and its outcome have the one that holds.
 *
 * QUERN_INVALID  a field is outside its range, at_ms and delay_ms are both given, it would expire before it may start,
 *                the ordinal does not rise, or (in a handler) the task would be more than 64 deep: submitted by a task
 *                that was submitted by a task, and so on
 *
 * QUERN_TOO_BIG  arguments or a name over the limit
 *
 * QUERN_FULL     the window is full and wait_ms has passed: nothing was queued. The window: 20,000 submits or 64 MiB of
 *                arguments without the broker's answer; while there is room it takes one of any size
 *
 * QUERN_TAKEN_OVER, QUERN_CLOSED  this client cannot submit any more
 */
QUERN_MUST_USE enum quern_err quern_submit(struct quern_client *client, const struct quern_call *call,
                                           struct quern_future **future_out, uint64_t *id_out);

/* Wait until every submit so far is durable (of a volatile session: accepted, or lost) or refused. QUERN_OK;
 * QUERN_TIMEOUT; QUERN_TAKEN_OVER; else the code of the first refusal since the last flush (quern_last_error says
 * which). */
QUERN_MUST_USE enum quern_err quern_flush(struct quern_client *client, int timeout_ms);

/* ---- outcomes ---- */

struct quern_outcome {
    uint64_t id;
    uint64_t completion; /* 1, 2, 3 ... within the session, in order of completion */
    uint64_t ordinal;
    enum quern_state state; /* DONE, FAILED or CANCELLED */
    enum quern_cause cause; /* of a failure */
    const void *result;     /* one msgpack value; of a failed command its output */
    size_t result_size;
    const char *kind;    /* NUL-terminated, "" if none */
    const char *message; /* "" if none */
    const void *detail;
    size_t detail_size;
    unsigned attempts;   /* how many count: those that failed, crashes and losses among them, and the one that was done.
                          * attempt, below, also counts what came back from a worker unstarted */
    const char *worker;  /* "HOST:PID" of the last attempt, "" if never started */
    int64_t created_ms;  /* wall clock, since 1970 */
    int64_t started_ms;  /* of the last attempt; 0: it has not started */
    int64_t finished_ms; /* of the task */
    uint64_t run_us;     /* of the last attempt */
    unsigned signal;     /* that ended the last attempt's process, or its command; 0: none did */
    unsigned exit_status; /* of that process if it ended by itself, or of a failed command; else 0 */
    const void *args;     /* with want_args, NULL if they were not kept */
    size_t args_size;
    /* enum quern_err: not 0 if the broker refused the submit (then state is FAILED, cause NONE, and message says why).
     * QUERN_DUPLICATE: its ordinal was accepted earlier; that task has its own outcome. QUERN_FORGOTTEN: it was done,
     * but its outcome is deleted. */
    uint32_t refusal;
    /* Of the last attempt; its host and pid are in worker. */
    unsigned attempt;        /* its number: rises with every dispatch; 0: never dispatched */
    uint64_t cpu_us;         /* CPU time, that of its child processes included */
    uint64_t peak_kib;       /* most resident memory of its process; 0 not measured (it was short) */
    const char *signal_name; /* "SIGSEGV"; "" if signal is 0 */
    bool core_dumped;
    const char *backtrace;   /* of a crash: a line for each frame, innermost first; "" if there is none */
    const char *stderr_text; /* of a failure: the end of what it wrote to stderr, up to 4 KiB; ends with a NUL, and may
                              * have others inside; "" if nothing */
    size_t stderr_size;
    const char *stdout_text; /* the same of stdout; of a command both are the command's. `quern logs ID` shows more, and
                              * quern_query "logs" gives it */
    size_t stdout_size;
};

/* Releases the outcome and acknowledges it (the first release of any copy counts): once the broker has read that, at
 * the latest at quern_client_close, no client will be given it again. */
void quern_outcome_release(struct quern_outcome **outcome);

/*
 * The next outcome of the session in completion order, each once, those left by earlier clients of the session first;
 * waits up to timeout_ms. Not those of futures that the application holds: they come here only if the future is
 * released before quern_future_wait gave them. Refused submits come here too, when no future holds them.
 *
 * QUERN_TIMEOUT  none came
 * QUERN_FULL     in a handler: too many wait there already (quern/futures.h)
 * QUERN_END      nothing is outstanding: no submit without answer, no task without outcome, no outcome not delivered,
 *                except what held futures will get (a retry that somebody else asks for is not foreseen)
 * QUERN_TAKEN_OVER, QUERN_CLOSED  none will come here
 */
QUERN_MUST_USE enum quern_err quern_next(struct quern_client *client, int timeout_ms,
                                         struct quern_outcome **outcome_out);

/* A file descriptor that is readable while quern_next would not block (also for QUERN_END); for poll. Do not read from
 * it, do not close it. -1 if there is none. */
int quern_client_fd(struct quern_client *client);

/*
 * A future for a task of this session that was submitted earlier, by this process or a former owner of the session:
 * unfinished, or finished and not taken yet.
 *
 * QUERN_UNKNOWN    no task of this session, or its outcome was taken already
 * QUERN_DUPLICATE  a future of this client has it already
 * QUERN_TIMEOUT    no answer of the broker yet
 */
QUERN_MUST_USE enum quern_err quern_future_open(struct quern_client *client, uint64_t id, int timeout_ms,
                                                struct quern_future **future_out);
/*
 * Futures for everything that former owners of the session left: its unfinished tasks and outcomes not taken, in order
 * of submission. To be taken with quern_as_completed, for example; quern_next gives the same outcomes without futures.
 *
 * futures_out  an array of *count_out futures: release each, then free() the array; NULL if there are none
 *
 * QUERN_TIMEOUT  no answer of the broker yet: there are none of these futures
 */
QUERN_MUST_USE enum quern_err quern_session_futures(struct quern_client *client, int timeout_ms,
                                                    struct quern_future ***futures_out, size_t *count_out);

/* ---- asking and telling ---- */

/*
 * Cancel a task by id, of any session; waits for the broker's answer, which is durable. Asked again by itself after a
 * lost connection, as are quern_session_close and quern_query.
 * force  also stop it if it runs: SIGTERM to its process group, after 1 s SIGKILL, and no process that it has started
 *        is left when the answer comes; what waits behind it and other tasks are not touched. Not so where its worker
 *        is cut off and not back when its lease ends: then the answer comes, and what runs is stopped when it is back;
 *        nor where a process cannot be killed within 3 s, which the outcome's message says
 * QUERN_OK  cancelled (now or before);  QUERN_RUNNING  it runs and was left alone;  QUERN_FINISHED  it has its outcome
 * QUERN_UNKNOWN  no such task;  QUERN_TIMEOUT  no answer yet: it may still be cancelled
 * QUERN_FULL  too many requests of this client are under way, here or at the broker
 */
QUERN_MUST_USE enum quern_err quern_cancel(struct quern_client *client, uint64_t id, bool force, int timeout_ms);

/*
 * Submit a finished task's call again as a new task. new_id_out, session_out (may be NULL): what and where it is.
 *
 * QUERN_UNKNOWN  no such task;  QUERN_NOT_FINISHED;  QUERN_FORGOTTEN  its arguments were not kept
 * QUERN_FULL     the broker takes no further tasks now
 * QUERN_TIMEOUT  also if the connection was lost before the answer: the new task may exist or not (look before you ask
 *                again)
 */
QUERN_MUST_USE enum quern_err quern_retry(struct quern_client *client, uint64_t id, uint64_t *new_id_out,
                                          uint64_t *session_out, int timeout_ms);

/* End a session by name or "#NUMBER". flags: QUERN_CLOSE_CANCEL; QUERN_CLOSE_DROP acknowledges all its outcomes.
 * QUERN_UNKNOWN  no such session;  QUERN_INVALID  neither a name nor a number;  QUERN_TIMEOUT */
#define QUERN_CLOSE_DROP 4u
QUERN_MUST_USE enum quern_err quern_session_close(struct quern_client *client, const char *session, unsigned flags,
                                                  int timeout_ms);

/*
 * Ask the broker (what: "status", "sessions", "list", "show", "explain", "result", "logs", "backup"; see PROTOCOL.md,
 * QUERY).
 *
 * params      a msgpack map or NULL
 * answer_out  one msgpack value, malloc'd: free() it. That of a query of many rows is one array
 *
 * QUERN_UNKNOWN       no such task or session
 * QUERN_NOT_FINISHED  of "result", unless it is to wait
 * QUERN_TIMEOUT       no answer yet
 * QUERN_INVALID       params is no map;  QUERN_UNSUPPORTED  the broker knows no such what
 */
QUERN_MUST_USE enum quern_err quern_query(struct quern_client *client, const char *what, const void *params,
                                          size_t params_size, int timeout_ms, void **answer_out, size_t *size_out);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif

#include <quern/futures.h>
#include <quern/group.h>
#include <quern/map.h>

#endif

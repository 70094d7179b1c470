/*
 * quern/futures.h: futures: looking, waiting, callbacks, cancelling; sets of them as they complete. Included by
 * quern/client.h, where a future comes from (quern_submit).
 *
 *     struct quern_set *set;
 *     struct quern_future *future;
 *     quern_as_completed(futures, count, QUERN_FOREVER, &set);
 *     while ((err = quern_set_next(set, QUERN_FOREVER, &future)) == QUERN_OK) {
 *         ... quern_future_result(future, 0, &outcome) ...
 *     }
 *     ... QUERN_END: these were all; anything else is an error ...
 *     quern_set_close(&set);
 *
 * Every function may be called from any thread. A future is released by the thread that no other uses it in.
 *
 * Inside a handler (quern/worker.h) a wait gives the place of its slot to other tasks, so that what is waited for can
 * run. At most 64 slots of a worker wait so, of one with more than 32 slots twice as many as it has: beyond that a wait
 * answers QUERN_FULL at once and touches nothing.
 */
#ifndef QUERN_FUTURES_H
#define QUERN_FUTURES_H

#include <quern/err.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

struct quern_client;
struct quern_future;
struct quern_outcome;

/* ---- looking: without waiting ---- */

/* The task's id. People and `quern` see it as SERIES-SEQUENCE: its upper and its lower 32 bits, decimal. */
uint64_t quern_future_id(const struct quern_future *future);
/* The broker has it: in a durable session, on disk. False also before it was answered, and if it was refused. */
bool quern_future_accepted(const struct quern_future *future);
/* It has an outcome (or was refused): done, failed or cancelled. */
bool quern_future_done(const struct quern_future *future);
/* It has an outcome and that is: cancelled. */
bool quern_future_cancelled(const struct quern_future *future);

/* ---- waiting for one ---- */

/*
 * Wait for the outcome, whatever it is: a copy that the caller releases (read it, do not write to it); any number of
 * times, from any thread. Releasing the first copy, or the future after it was asked, acknowledges the outcome.
 * Python's exception().
 *
 * QUERN_TIMEOUT  not yet; touches nothing
 * QUERN_FULL     in a handler: too many wait there already; touches nothing
 * QUERN_CLOSED, QUERN_TAKEN_OVER  it will not come here
 */
QUERN_MUST_USE enum quern_err quern_future_wait(struct quern_future *future, int timeout_ms,
                                                struct quern_outcome **outcome_out);
/*
 * The same, and the outcome's state is the answer. *outcome_out is written with the first three. Python's result().
 *
 * QUERN_OK           done: outcome->result
 * QUERN_TASK_FAILED  outcome->cause, kind, message, detail; quern_last_error has them in one sentence
 * QUERN_CANCELLED
 * a refused submit: its refusal's code; *outcome_out is written too
 * QUERN_TIMEOUT, QUERN_FULL, QUERN_CLOSED, QUERN_TAKEN_OVER  as quern_future_wait
 */
QUERN_MUST_USE enum quern_err quern_future_result(struct quern_future *future, int timeout_ms,
                                                  struct quern_outcome **outcome_out);

/* ---- callbacks ---- */

typedef void quern_callback(struct quern_future *future, void *context);
/*
 * Call callback(future, context) once, when the future is done: in a thread of the client that serves callbacks alone,
 * outside any lock, those of one future in the order they were added; it may call any function of quern, quern_submit
 * and quern_future_wait included. A future that is done already: at once, in this thread. A thread that waits for the
 * future may go on before its callbacks have run. When the client closes, callbacks of futures without outcome are
 * dropped; the call of one that has begun ends before quern_client_close returns (unless it closes the client itself).
 * The future must not be released before its callbacks have run, except by the last of them.
 *
 * QUERN_IO  the thread for callbacks, which the first one needs, could not be started: nothing was added
 */
QUERN_MUST_USE enum quern_err quern_future_on_done(struct quern_future *future, quern_callback *callback,
                                                   void *context);

/* ---- cancelling and asking ---- */

/*
 * Cancel the task; waits for the broker's answer, which is durable, and says whether it is cancelled.
 *
 * force  also stop it if it runs: its process group is ended; other tasks are not touched
 *
 * QUERN_OK        cancelled, now or before: it has this outcome already or will get it at once
 * QUERN_RUNNING   it runs and was left alone
 * QUERN_FINISHED  it finished first: no effect
 * QUERN_TIMEOUT   no answer yet: it may still be cancelled
 */
QUERN_MUST_USE enum quern_err quern_future_cancel(struct quern_future *future, bool force, int timeout_ms);

/* What is known of a task now. Begin with QUERN_TASK_INFO_INIT. */
struct quern_task_info {
    size_t size;
    int state;           /* enum quern_state */
    int cause;           /* enum quern_cause */
    unsigned attempt;    /* number of the current or last attempt, 0 before the first */
    unsigned attempts;   /* failed ones so far; of a finished task crashes and losses are among them */
    unsigned crashes;    /* of its slots */
    unsigned losses;     /* of its workers */
    int64_t created_ms;  /* wall clock, since 1970; 0: not yet */
    int64_t due_ms;      /* delayed, backoff: when it is ready */
    int64_t started_ms;  /* of the current or last attempt */
    int64_t finished_ms; /* of the task */
    double fraction;     /* of its progress, as its handler told; -1: none told */
    char progress[257];  /* its text, "" if none */
    char worker[260];    /* "HOST:PID" of the current or last attempt, "" before the first */
    bool is_volatile;    /* its session is: in the broker's memory only */
};
#ifdef __cplusplus
#define QUERN_TASK_INFO_INIT QUERN_INIT_IN_CXX(struct quern_task_info, (void)it)
#else
#define QUERN_TASK_INFO_INIT                                                                                           \
    {                                                                                                                  \
        .size = sizeof(struct quern_task_info)                                                                         \
    }
#endif
/*
 * Ask the broker where the task is, its attempts, times and progress. Of a finished one whose outcome the future has,
 * the broker is asked too, but need not answer, nor know it any more: the outcome tells state, cause, attempt,
 * attempts, times and worker.
 *
 * QUERN_UNKNOWN  refused; or finished and deleted, and the future has no outcome (another one took it)
 * QUERN_TIMEOUT  no answer, and the future has no outcome yet
 */
QUERN_MUST_USE enum quern_err quern_future_info(struct quern_future *future, int timeout_ms,
                                                struct quern_task_info *info_out);

/* Releasing a future that was not asked, or had nothing yet, leaves the task alone: its outcome comes out of
 * quern_next. It leaves the sets it is in. */
void quern_future_release(struct quern_future **future);

/* ---- waiting for several: of one client or of several ---- */

enum quern_when {
    QUERN_FIRST_COMPLETED = 1, /* one is done, failed or cancelled */
    QUERN_FIRST_EXCEPTION = 2, /* one failed (a cancelled one does not count), or all have their outcome */
    QUERN_ALL_COMPLETED = 3,
};
/*
 * Wait for a condition on some futures. Cancels nothing. What was true on entry counts. No futures: returns at once.
 *
 * done_out        NULL, or count flags: done_out[i] says that futures[i] has its outcome
 * done_count_out  NULL, or how many have theirs; one that stands in futures twice counts once
 *
 * QUERN_OK       the condition holds, or the time is over: look at what is done
 * QUERN_INVALID  when is none of the three
 * QUERN_FULL     in a handler: too many wait there already; done_out and done_count_out are written
 * QUERN_CLOSED, QUERN_TAKEN_OVER  an outcome that is waited for will not come here
 */
QUERN_MUST_USE enum quern_err quern_wait(struct quern_future *const futures[], size_t count, enum quern_when when,
                                         int timeout_ms, bool done_out[], size_t *done_count_out);

/* Futures that are given out once each as they complete. */
struct quern_set;
/*
 * Open a set of futures: those already done are given first, the rest in order of completion.
 *
 * futures     may be NULL if count is 0; one that stands there twice is given once
 * timeout_ms  for the whole iteration, from this call
 *
 * QUERN_INVALID  futures is NULL and count is not 0, or one of them is NULL
 */
QUERN_MUST_USE enum quern_err quern_as_completed(struct quern_future *const futures[], size_t count, int timeout_ms,
                                                 struct quern_set **set_out);
/* One more future, also between two calls of quern_set_next. It stays the caller's. QUERN_DUPLICATE: it is or was in
 * the set: no effect. */
QUERN_MUST_USE enum quern_err quern_set_add(struct quern_set *set, struct quern_future *future);
/*
 * The next that is done; its outcome is had by quern_future_result(future, 0, ...), which says if it failed. Releasing
 * what was given takes it out of the set, so that memory is that of the unfinished.
 *
 * timeout_ms  for this call; the set's own counts too, whichever is shorter. What is done already is given first.
 *
 * QUERN_END      every future was given
 * QUERN_TIMEOUT  quern_last_error says how many of how many are unfinished
 * QUERN_FULL     in a handler: too many wait there already
 * QUERN_CLOSED, QUERN_TAKEN_OVER  the rest will not come here
 */
QUERN_MUST_USE enum quern_err quern_set_next(struct quern_set *set, int timeout_ms, struct quern_future **future_out);
/* A file descriptor that is readable while quern_set_next would not block (for QUERN_END and errors too); for poll. Do
 * not read from it, do not close it; the set closes it. -1: none could be made. */
int quern_set_fd(struct quern_set *set);
/* Futures that were not given stay as they are. */
void quern_set_close(struct quern_set **set);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif

#endif

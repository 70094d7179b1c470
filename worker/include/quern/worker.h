/*
 * quern/worker.h: writing functions that quern runs.
 *
 * A function has a name and a handler. A handler reads its arguments, computes, writes one result value and returns
 * QUERN_OK; or calls quern_task_fail and returns what that returned. It runs in a process of its own (a slot), one
 * task at a time: it may use any amount of CPU, leak, crash or exit; that costs one attempt of this one task.
 *
 * As a module (a shared object loaded with `quern-worker --module FILE.so`):
 *
 *     static enum quern_err square(struct quern_task *task, struct quern_reader *args, struct quern_writer *result)
 *     {
 *         int64_t x;
 *         if (quern_read_i64(args, &x) != QUERN_OK) {
 *             return quern_task_fail_args(task, args, "square takes one integer");
 *         }
 *         quern_write_i64(result, x * x);
 *         return QUERN_OK;
 *     }
 *     static const struct quern_function functions[] = {{"square", square}, {NULL, NULL}};
 *     QUERN_MODULE(.functions = functions)
 *
 * Built with `cc -shared -fPIC functions.c $(pkg-config --cflags quern) -o functions.so`: the worker itself has what
 * quern/value.h and this header declare, so a module needs no libquern.
 *
 * A handler may be a client of its own broker (quern/client.h; then the module links libquern): quern_client_open(NULL,
 * ...) finds the broker, in QUERN_URL, and its session is a volatile one if that broker has no store (the worker says
 * QUERN_VOLATILE=auto), so a handler need not know what it runs in. Open it in the handler, not in the initialiser, and
 * keep it in a static variable: it is good for all tasks of the slot. What is submitted is one deeper than the task
 * that runs (64 at most) and goes before what is less deep. While the handler waits for its tasks, others have the
 * place of its slot, so that this works with one slot too; its own timeout goes on. At most 64 slots of a worker wait
 * so (twice as many as it has, if it has more than 32): beyond that a wait fails at once with QUERN_FULL. Waits in
 * other threads than the handler's own, and in processes that a handler of yours starts, give no place: with every slot
 * taken by such a wait, nothing goes on. A command (quern.command) is different: while any process that it has started
 * waits in quern (`quern submit`, `map`, `run`, `result --wait`, or a client of this library), its slot gives its
 * place, also if others of its processes go on; QUERN_TASK and QUERN_SLOT in its environment say which task and slot it
 * is. A slot that dies leaves the session of its client behind: what it had submitted goes on, and is there to be
 * looked at for a day; the task itself is tried again, as after any crash, and submits anew.
 *
 * In a program of your own: fill a struct quern_module and call quern_worker_main from main.
 */
#ifndef QUERN_WORKER_H
#define QUERN_WORKER_H

#include <quern/value.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

/* The task that runs: valid during the handler's call only. */
struct quern_task;

/*
 * args    stands inside the array of arguments: the first read gives the first argument; quern_peek says NONE behind
 *         the last. Borrowed, as is everything read from it.
 * result  takes exactly one value; none at all means nil. Over 16 MiB, or left incomplete: the attempt fails with cause
 *         unencodable.
 * Returns QUERN_OK: done. Anything else: the attempt failed with cause error; without quern_task_fail the kind is the
 *         error's word.
 *
 * What it writes to stdout and stderr is kept with the attempt, of each the first 16 and the last 48 KiB (`quern
 * logs`), and goes to the worker's stderr. What is written when no task runs is nobody's. If it crashes, a backtrace
 * and the end of both are part of the failure.
 */
typedef enum quern_err quern_handler(struct quern_task *task, struct quern_reader *args, struct quern_writer *result);

struct quern_function {
    const char *name; /* 1..128 bytes of UTF-8, not beginning with "quern." */
    quern_handler *handler;
};

/* What a module gives to the worker. size makes it grow without breaking older modules. */
struct quern_module {
    size_t size;                            /* sizeof(struct quern_module) */
    const struct quern_function *functions; /* ends with {NULL, NULL} */
    /* Called once in the zygote, before any slot is forked: load what all slots share (copy-on-write). It must leave no
     * thread behind. With --start spawn there is nothing to share: it is called once in every slot, and may. Not
     * QUERN_OK: the worker reports text (may point to a static string) and takes no tasks. May be NULL. */
    enum quern_err (*initialise)(const char **text_out);
    /* Called once in every slot, before its first task: open what a slot does not share (connections, devices), start
     * threads. Not QUERN_OK, when the worker starts: it reports text and ends; later: it reports text, takes no tasks
     * while it has no slot, and tries again. May be NULL. */
    enum quern_err (*initialise_slot)(const char **text_out);
};

/* The symbol the worker looks for. */
#define QUERN_MODULE_SYMBOL "quern_module"
/* A constant of C++ is seen in its own file only, unless it was declared before. */
#ifdef __cplusplus
#define QUERN_MODULE(...)                                                                                              \
    extern "C" __attribute__((visibility("default"))) const struct quern_module quern_module;                          \
    const struct quern_module quern_module = {.size = sizeof(struct quern_module), __VA_ARGS__};
#else
#define QUERN_MODULE(...)                                                                                              \
    __attribute__((visibility("default")))                                                                             \
    const struct quern_module quern_module = {.size = sizeof(struct quern_module), __VA_ARGS__};
#endif

/* ---- for handlers ---- */

/* Fail this attempt. kind: your own name for the error ("DivisionByZero", at most 128 bytes), message: printf format
 * (at most 4 KiB are kept). Returns a value to return from the handler. */
enum quern_err quern_task_fail(struct quern_task *task, const char *kind, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* The same with kind "BadArguments" and what the reader found wrong. usage: what the function takes. */
enum quern_err quern_task_fail_args(struct quern_task *task, const struct quern_reader *args, const char *usage);
/* Add bytes to the failure (a traceback, a report; at most 64 KiB are kept, and none if memory is used up). Before
 * quern_task_fail, which needs no memory. */
void quern_task_detail(struct quern_task *task, const void *p, size_t n);

/* Tell how far it is: fraction 0..1, text at most 256 bytes or NULL. Cheap: the last one before the next look of the
 * supervisor is what is shown. */
void quern_task_progress(struct quern_task *task, double fraction, const char *text);
/*
 * Around a wait of your own for something that needs no CPU here (a child process, another machine): meanwhile other
 * tasks have the place of this slot. In the thread in which the handler was called; elsewhere they do nothing. The
 * waits of quern/client.h do so by themselves. What waits is not stopped from timing out.
 *
 * QUERN_FULL  as many slots of this worker wait already as may (64, or twice its slots): this one keeps its place; wait
 *             all the same, without quern_task_wait_end, or fail
 */
QUERN_MUST_USE enum quern_err quern_task_wait_begin(struct quern_task *task);
void quern_task_wait_end(struct quern_task *task);
/* Milliseconds until this attempt is stopped, 0 when it is over, -1 if it has no timeout. */
int64_t quern_task_remaining_ms(const struct quern_task *task);
/* True once this attempt is being stopped: its timeout is over, or it was cancelled by force. A handler that asks has
 * 1 second from then on to clear up and return: from its first asking on SIGTERM does not end it, but wakes it from
 * sleep. What it returns counts no more, and its process ends after that. Any thread of the slot may ask. */
bool quern_task_is_cancelled(const struct quern_task *task);
/* Task id (shown as SERIES-SEQUENCE: its upper and lower 32 bits, decimal) and the number of this attempt. */
uint64_t quern_task_id(const struct quern_task *task);
unsigned quern_task_attempt(const struct quern_task *task);

/* ---- a worker in a program of your own ---- */

/*
 * Runs a worker until it is told to end (SIGTERM, SIGINT); takes quern-worker's options from argv and the functions of
 * module besides those of --module. Call it first thing in main: the program is started again for the worker's inner
 * processes, which also come through main and this call (with arguments that begin with --quern-).
 * Returns the exit status: 0 ended as told, 1 could not start, 2 wrong usage.
 *
 * A program that is a worker only at times: when its first argument begins with QUERN_WORKER_PREFIX, it was started to
 * be one, and main returns what this call returns. QUERN_WORKER_ARGUMENT as the first argument starts a worker (it is
 * passed over, options follow); with --parent-fd it ends with whoever started it.
 */
#define QUERN_WORKER_PREFIX "--quern-"
#define QUERN_WORKER_ARGUMENT "--quern-worker"
int quern_worker_main(int argc, char **argv, const struct quern_module *module);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif

#endif

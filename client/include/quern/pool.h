/*
 * quern/pool.h: a broker and workers of this program's own: started with it, ended with it.
 *
 *     static const struct quern_function functions[] = {{"square", square}, {NULL, NULL}};
 *     static const struct quern_module module = {.size = sizeof module, .functions = functions};
 *
 *     int main(int argc, char **argv)
 *     {
 *         quern_pool_main(argc, argv, &module);            // first thing: see below
 *         struct quern_pool_options options = QUERN_POOL_OPTIONS_INIT;
 *         struct quern_pool *pool;
 *         quern_pool_open(&options, &pool);
 *         struct quern_client *client = quern_pool_client(pool);
 *         ... quern_submit(client, ...) ...
 *         quern_pool_close(&pool, 0);
 *     }
 *
 * The rule of main: functions of the program itself run in processes made by starting the program again. Those come
 * through main too, so main must call quern_pool_main before it does anything else: in the program it returns at once,
 * in a worker it never returns. A program that gives modules instead (options.modules) need not call it. If it is
 * forgotten, quern_pool_open fails with QUERN_INVALID and says so; nothing is started over and over. Arguments that
 * begin with --quern- as the first one are for quern. The program is started as the file it was started from, with the
 * environment and in the directory it had when the pool was opened; a program without libquern.so (linked with
 * libquern.a) that loads modules besides is linked with -rdynamic.
 *
 * The broker and the worker are the programs quern-broker and quern-worker: looked for in QUERN_BIN, then beside
 * libquern (../bin), then in PATH. They read nothing, what they and the functions print goes to the program's stderr,
 * and they have none of its other descriptors; each is a process group of its own, so Ctrl-C is for the program. They
 * are children of the program: one that waits for any child (wait, waitpid(-1)) may meet their end, and does not come
 * to an end of its children while a pool is open.
 *
 * No process of a pool outlives the program, whatever ends it (return, exit, abort, SIGKILL, exec): broker and worker
 * watch a pipe that only the program holds, and the program itself by a pidfd, so that a child it has forked does not
 * keep them. What was not finished then is lost in a volatile pool, and goes on in the next one on the same database in
 * a durable one. Nothing stays of the private directory in XDG_RUNTIME_DIR (else TMPDIR, else /tmp); if program and
 * broker were killed at once, the next pool removes it. In a child made by fork() a pool cannot be used: its calls
 * answer QUERN_CLOSED, and closing does nothing.
 *
 * A worker or broker that dies is started again: at once, then after 0.1, 0.2, 0.4 and 0.8 s; after six deaths in a
 * row, each within 10 s of its start, the pool gives up, and everything that waits gets QUERN_IO and the last one's
 * last words. A worker's death costs its running tasks an attempt; a broker's death costs a durable pool nothing, and
 * in a volatile one all unfinished tasks fail as lost, at once.
 *
 * The same program with a shared broker: set options.url (or QUERN_POOL_URL): nothing is started, the client is one of
 * that broker (its session a durable one), the functions are those of its workers, and the options about processes and
 * the database are passed over.
 */
#ifndef QUERN_POOL_H
#define QUERN_POOL_H

#include <quern/client.h>
#include <quern/worker.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

struct quern_pool;

enum quern_start {
    QUERN_START_FORK_SERVER = 0, /* one process loads the modules and forks slots: fast, memory shared */
    QUERN_START_SPAWN = 1,       /* every slot is a fresh start: for modules that must not be forked */
};

/* Begin with QUERN_POOL_OPTIONS_INIT; NULL: defaults in all fields. */
struct quern_pool_options {
    size_t size;
    const char *url;             /* NULL: QUERN_POOL_URL; none either: a pool of its own */
    unsigned slots;              /* 0: the CPUs this process may use (affinity and cgroup quota); at most 1024 */
    const char *database;        /* NULL: volatile, no disk is used; else a file of its own, made if it is not there */
    const char *session;         /* NULL: an unnamed one; a name only with a database or a url */
    const char *const *modules;  /* NULL, or paths that end with NULL */
    unsigned max_tasks_per_slot; /* 0: no limit; a slot is replaced after that many */
    uint64_t memory_per_slot;    /* bytes; a slot that has grown by more is replaced, after its task, which is left to
                                  * end (one that is to be stopped: slot_memory_limit, below); 0: no limit */
    enum quern_start start;
    /* Arguments for `quern-worker` and `quern-broker` besides (NULL, or ending with NULL): what has no field here. */
    const char *const *worker_args;
    const char *const *broker_args;
    int start_timeout_ms; /* until broker and worker are ready, default 10,000; not 0; QUERN_FOREVER waits */
    /* bytes; a task is stopped, and fails with cause memory, when its slot, with all that it has started, has grown by
     * more since the slot began; 0: no limit. Unlike memory_per_slot, which waits for the task's end. A limit for one
     * task alone is quern_call.memory_bytes. */
    uint64_t slot_memory_limit;
};
#ifdef __cplusplus
#define QUERN_POOL_OPTIONS_INIT QUERN_INIT_IN_CXX(struct quern_pool_options, it.start_timeout_ms = 10000)
#else
#define QUERN_POOL_OPTIONS_INIT                                                                                        \
    {                                                                                                                  \
        .size = sizeof(struct quern_pool_options), .start_timeout_ms = 10000                                           \
    }
#endif

/* The rule of main, above. module: the program's own functions, kept for as long as it runs; NULL: none. */
void quern_pool_main(int argc, char **argv, const struct quern_module *module);

/*
 * Start a pool; returns when its first worker is connected.
 *
 * QUERN_INVALID  an option; no functions at all; quern_pool_main was not called
 * QUERN_UNKNOWN  quern-broker or quern-worker were not found: quern_last_error says where was looked
 * QUERN_IO       one could not be started, or ended at once (its last words are in quern_last_error): a module that
 *                does not load, an initialiser that failed, a database that is in use
 * QUERN_TIMEOUT  not ready in time; nothing is left running
 * With a url: what quern_client_open says.
 */
QUERN_MUST_USE enum quern_err quern_pool_open(const struct quern_pool_options *options, struct quern_pool **pool_out);
/* The pool's client; closed with the pool, not by the program. */
struct quern_client *quern_pool_client(struct quern_pool *pool);

#define QUERN_POOL_CANCEL_QUEUED 1u /* cancel what has not started */
#define QUERN_POOL_NO_WAIT 2u       /* return at once; what was submitted runs on (until the program ends) */
/*
 * No more submits: QUERN_CLOSED from now on. Waits until all submitted tasks have their outcome and broker and workers
 * have ended, unless told not to (a task whose function nobody has never gets one: cancel it). Futures keep what they
 * got, and quern_next gives what nobody has taken. May be called any number of times and by several threads: each that
 * waits returns when all has ended. In a durable pool, what is not released by then comes again when its session is
 * opened the next time; a session with a name stays.
 *
 * flags  0, or bits of QUERN_POOL_*
 *
 * QUERN_INVALID    flags has another bit: nothing is done, the pool stays open
 * QUERN_CLOSED     in a child made by fork()
 * QUERN_IO         the pool had given up: see above
 * QUERN_NO_MEMORY  what has not started could not be cancelled, and was waited for
 * With a url: also what else ended the client, QUERN_TAKEN_OVER for example.
 */
enum quern_err quern_pool_shutdown(struct quern_pool *pool, unsigned flags);
/* Shut down, and let go of it; as quern_pool_shutdown. Without waiting: futures get what comes as before, and when all
 * has come the rest ends by itself. No other thread may use the pool any more. */
enum quern_err quern_pool_close(struct quern_pool **pool, unsigned flags);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif

#endif

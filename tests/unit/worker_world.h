/*
 * A broker of a few lines for tests of the worker: the real router and codec, and a real quern-worker that it starts.
 * It CHECKs what a worker must never do: end an attempt twice, return what it has started, use an old generation.
 * Everything happens in await: it serves the socket until a fact holds, or fails the test after AWAIT_MS_MAX.
 */
#ifndef QUERN_TESTS_WORKER_WORLD_H
#define QUERN_TESTS_WORKER_WORLD_H

#include "common/message.h"
#include "quern/value.h"

#include <stdbool.h>
#include <sys/types.h>

#define AWAIT_MS_MAX 60000
#define WORLD_TASK_MAX 20000u

struct seen {
    uint32_t attempt; /* of the newest dispatch */
    uint32_t epoch;
    bool is_out; /* dispatched and not ended */
    unsigned returned;
    unsigned finished; /* distinct: counted once per attempt */
    unsigned reports;  /* every FINISHED */
    pid_t started_pid;
    double progress;
    char progress_text[64];
    struct item_finished last; /* texts below */
    char kind[129];
    char message[513];
    struct buf result;
};

struct world {
    char directory[64];
    char url[128];
    struct router *router;
    uint64_t conn; /* of the worker; 0: none */
    uint32_t generation;
    pid_t worker; /* 0: not running */
    int worker_status;
    /* knobs */
    struct uuid store;
    uint32_t epoch;
    uint64_t lease_ms;
    uint64_t heartbeat_ms;
    bool is_silent; /* PONG is not said */
    bool holds_receipts;
    /* figures */
    unsigned hellos;
    unsigned byes;
    unsigned finished;
    unsigned returned;
    uint64_t capacity;
    uint64_t nested;
    uint64_t nested_depth;
    unsigned held[3]; /* of the last HELLO, by state */
    unsigned held_counts;
    struct seen tasks[WORLD_TASK_MAX]; /* by number 1.. */
};

struct world *ww_begin(void);
/* Starts the worker with the example module, commands allowed, and so many slots; waits for its HELLO. */
void ww_worker(struct world *world, const char *slots);
struct world *ww_begin_with(const char *slots); /* and such a worker */
/* The same with another module, by its path below the build directory. */
void ww_worker_of(struct world *world, const char *slots, const char *module);
/* The same with this very program as the worker: its main must hand over to quern_worker_main if ww_is_program(). */
void ww_program(struct world *world, const char *slots);
bool ww_is_program(int argc, char **argv);
/* Stops what runs, frees all. The worker's exit status, -1 if it was killed or never ran. */
int ww_end(struct world **world);
/* Close the socket; open it again as a new epoch. */
void ww_broker_dies(struct world *world);
void ww_broker_returns(struct world *world);

/* Serve until fact(world, arg) holds; fails the test, naming what, if it never does. */
typedef bool world_fact(struct world *world, uint64_t arg);
void ww_await(struct world *world, world_fact *fact, uint64_t arg, const char *what);
/* Serve for a while, for facts that must not come about. */
void ww_serve_for(struct world *world, int ms);

bool ww_is_finished(struct world *world, uint64_t task);
bool ww_is_returned(struct world *world, uint64_t task);
bool ww_is_started(struct world *world, uint64_t task);
bool ww_all_ended(struct world *world, uint64_t count); /* tasks 1..count */

/* Dispatch task number; args: what is encoded in it (NULL: []). */
struct ww_call {
    const char *function;
    uint64_t timeout_ms;
    bool at_most_once;
    uint64_t depth;
};
void ww_dispatch(struct world *world, uint64_t task, const struct ww_call *call, struct quern_writer *args);
void ww_dispatch_i64(struct world *world, uint64_t task, const char *function, int64_t arg);
void ww_dispatch_f64(struct world *world, uint64_t task, const char *function, double arg);
/* sh -c script, with a timeout (0: none). */
void ww_dispatch_shell(struct world *world, uint64_t task, const char *script, uint64_t timeout_ms);
/* Many in one frame: numbers first..first+count-1, argument its number. */
void ww_dispatch_run(struct world *world, uint64_t first, uint64_t count, const char *function);
void ww_revoke(struct world *world, uint64_t task, bool is_forced);
void ww_drop(struct world *world, uint64_t task);

/* Results. */
int64_t ww_result_i64(struct world *world, uint64_t task);
/* stdout (or another key with binary) of a command's result, as text. */
const char *ww_result_text(struct world *world, uint64_t task, const char *key);
int64_t ww_result_key_i64(struct world *world, uint64_t task, const char *key);

/* Processes. */
pid_t ww_zygote_of(pid_t worker);
/* Processes alive whose environment has QUERN_TEST_WORLD=directory: the worker and everything it started. */
unsigned ww_process_count(const struct world *world);
void ww_await_no_process(const struct world *world, int within_ms);

#endif

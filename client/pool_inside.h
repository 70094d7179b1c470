/*
 * pool_inside.h: what the files of the embedded pool share: pool.c (what users call), pool_start.c (opening),
 * pool_keeper.c (the thread that keeps broker and worker alive), pool_process.c (one process).
 *
 * broker and worker belong to the opener, then to the keeper's thread, then to whoever ends the pool. lock guards the
 * phase and what goes with it.
 */
#ifndef QUERN_CLIENT_POOL_INSIDE_H
#define QUERN_CLIENT_POOL_INSIDE_H

#include "client/parting.h"
#include "client/pool_process.h"
#include "common/pool_directory.h"
#include "quern/pool.h"

#include <pthread.h>

enum pool_phase {
    POOL_OPEN,
    POOL_CLOSING, /* somebody waits for the last outcomes, then ends everything */
    POOL_OVER,
};

struct pool_part {
    struct pool_process process;
    int64_t started_ms;
    int64_t again_ms;  /* it died: start it again then; INT64_MAX: it runs */
    unsigned in_a_row; /* deaths, each soon after its start */
};

struct quern_pool {
    pid_t pid; /* of the process that opened it */
    pthread_mutex_t lock;
    pthread_cond_t over;
    enum pool_phase phase;
    bool is_let_go;          /* nobody has it any more: whoever ends it frees it */
    enum quern_err end_code; /* of the end, when it is over */
    char end_text[ERROR_TEXT_SIZE_MAX];
    char *session; /* NULL: unnamed */
    struct quern_client *client;

    /* Without a url of others. */
    bool has_processes;
    struct pool_directory directory;
    struct pool_ground ground;
    struct pool_part broker;
    struct pool_part worker;
    pthread_t keeper;
    bool has_keeper;
    int keeper_wake; /* eventfd: the keeper ends */
};

/* ---- pool.c: what quern_pool_main was told ---- */
struct pool_program {
    bool was_called;
    bool has_functions;
    const char *name; /* argv[0] */
};
const struct pool_program *pool_program(void);

/* ---- pool_start.c ---- */
/* Broker, worker and client of a pool of its own; on error all that was started is gone again. */
QUERN_MUST_USE enum quern_err pool_start(struct quern_pool *pool, const struct quern_pool_options *options);
/* Ends the processes and removes the directory. in_order: the worker has nothing to do any more. */
void pool_stop(struct quern_pool *pool, bool in_order);

/* ---- pool_keeper.c ---- */
QUERN_MUST_USE enum quern_err keeper_start(struct quern_pool *pool);
void keeper_stop(struct quern_pool *pool);

#endif

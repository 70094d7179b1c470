/*
 * loaded.h: the answer to a load, put together in slices, as copies that outlive the store's own rows.
 * Private to journal.c. Must not know threads.
 */
#ifndef QUERN_BROKER_LOADED_H
#define QUERN_BROKER_LOADED_H

#include "broker/core.h"

/* A load that is being answered. */
struct job {
    struct job *next; /* the queue's it stands in */
    struct load *load;
    struct loaded *loaded;
    size_t at; /* OUTCOMES: ids looked up; TASKS: runs */
    uint64_t bytes;  /* TASKS: of arguments, so far */
    int64_t end_us;  /* TASKS: of the slice */
    struct backup *backup;
    bool needs_store; /* or all that is left is job_finish */
};

/* Takes the load. */
struct job *job_open(struct load **load);
/* Work for a slice (QUERY_SLICE_US, soft by one row). Errors are the store's: what is missing is no error. */
QUERN_MUST_USE enum quern_err job_slice(struct job *job, struct store *store, bool *is_done_out);
/* In any thread, once is_done and no store is needed any more: what may take long. */
void job_finish(struct job *job);
/* The answer, as far as it came. */
struct loaded *job_close(struct job **job);

void loaded_free(struct loaded **loaded);

#endif

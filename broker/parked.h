/*
 * parked.h: ready tasks that are on disk only: what a turn (state.h) keeps of them, and what the core's files call.
 * Private to the core. Must not know messages. Start with struct parked.
 */
#ifndef QUERN_BROKER_PARKED_H
#define QUERN_BROKER_PARKED_H

#include "broker/core.h"

struct session;
struct task;
struct turn;

struct parked { /* of one turn, in order of id */
    struct load_run *runs;
    size_t head, end, cap; /* those from head to before end */
    uint64_t count;        /* tasks */
    uint64_t load;         /* number of the load under way, 0 none */
    bool is_waiting;       /* in core->parked_waiting */
    struct turn *wait_prev;
    struct turn *wait_next;
};
struct turn *parked_turn(const struct core *core, uint64_t id); /* where it waits; NULL: it is not parked */
struct task *task_of_entry(void *value);                        /* of core->tasks; NULL: it is parked */
uint64_t parked_first(const struct parked *parked);             /* UINT64_MAX: none */
void parked_look(struct core *core);         /* how many of a turn stay in memory now: core->keep_count */
bool task_may_park(const struct task *task); /* nothing but its row is needed to go on with it */
/* Those of a batch that is on disk now: what is behind. */
void tasks_park(struct core *core, uint64_t batch, struct task *const *tasks, size_t count);
/* False: it is to be in memory. */
bool parked_restore(struct core *core, uint64_t id, uint64_t session_id, uint64_t call_id, uint64_t args_size);
struct task *task_unpark(struct core *core, const struct task_row *row);
void parked_want(struct core *core, struct turn *turn); /* its next ones are wanted in memory, some time */
void parked_fetch(struct core *core, uint64_t id);      /* this one is */
void parked_loaded(struct core *core, const struct loaded *loaded);
void parked_drop(struct core *core, struct turn *turn); /* the turn is about to go */
void parked_fini(struct core *core);
/* The lowest parked id of the session that is higher than after, and how many are side by side; 0: none. */
uint64_t parked_next(const struct session *session, uint64_t after, uint64_t *count_out);

#endif

/*
 * place.h: where a running handler and the client library meet: how deep the task stands that runs here, and the place
 * of its slot, which is given to other tasks while the handler waits. The slot's loop says begin and end; who waits in
 * a handler says give and take; whoever runs in no slot finds depth 0 and a place that need not be given.
 *
 * A module that uses the client brings a libquern of its own into the slot. These functions are therefore visible to
 * the dynamic linker, which takes those of the program (quern-worker, or one with functions of its own) for all of
 * them. They are no interface for users: handlers have quern_task_wait_begin in quern/worker.h.
 */
#ifndef QUERN_COMMON_PLACE_H
#define QUERN_COMMON_PLACE_H

#include <stdbool.h>
#include <stdint.h>

#pragma GCC visibility push(default)

/* What a slot can do. Both are called in the handler's thread. */
struct place {
    void *self;
    /* False: too many slots of this worker wait already; the place is kept. Returns at the deadline (monotonic ms) at
     * the latest. */
    bool (*give)(void *self, int64_t deadline_ms);
    void (*take)(void *self);
};

/* A handler is about to be called in this thread, with a task of this depth. place: outlives quern_place_end. */
void quern_place_begin(const struct place *place, unsigned depth);
/* It has returned: what it gave and did not take is taken. */
void quern_place_end(void);

/* Of a task submitted here: one more than that of the task that runs in this process, or that started it as a command; 0
 * if none did. Any thread. */
unsigned quern_place_depth(void);

/* Around a wait; they nest. Nothing happens outside of the handler's own thread, nor in a process it forked: only that
 * thread's waiting leaves the slot without work. In a process that a command started (door.h) any thread's wait counts:
 * the slot gives its place while one of the command's processes waits. False: refused, do not take. */
bool quern_place_give(int64_t deadline_ms);
void quern_place_take(void);

#pragma GCC visibility pop

#endif

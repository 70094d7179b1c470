/*
 * expiry.c: tasks that must not start any more after a time. One whose time is over fails as expired, if no attempt of
 * it is known to have started: at once while it waits; if a worker holds it, it is called back, and fails when that has
 * answered that it did not start it, or is lost. A start, or any report of an attempt, ends this for good: a retry
 * never expires. Times run by the monotonic clock; over a restart by the wall clock, from the submit. Must not know
 * messages. Start reading at expiries_due.
 */
#include "broker/state.h"

#include <stdlib.h>

#include "common/check.h"

struct expiry {
    struct task *task;
    int64_t due_mono;
    size_t heap_index; /* 0: its time is over, and its worker was asked */
};

static bool is_earlier(const void *a, const void *b)
{
    const struct expiry *x = a;
    const struct expiry *y = b;
    return x->due_mono != y->due_mono ? x->due_mono < y->due_mono : x->task->id < y->task->id;
}

void expiries_init(struct core *core)
{
    heap_init(&core->expiries, offsetof(struct expiry, heap_index), is_earlier);
}

static struct expiry *expiry_new(struct task *task)
{
    struct expiry *expiry = xcalloc(1, sizeof *expiry);
    expiry->task = task;
    task->expiry = expiry;
    return expiry;
}

void expiry_start(struct core *core, struct task *task)
{
    if (task->call->option.expires_ms > 0) {
        struct expiry *expiry = expiry_new(task);
        expiry->due_mono = core->now + (int64_t)task->call->option.expires_ms;
        heap_push(&core->expiries, expiry);
    }
}

/* A delayed task has not started; of others the row says it: no time means that one has. */
void expiry_restore(struct core *core, struct task *task, int64_t due_ms)
{
    bool may_expire =
        task->state == TASK_DELAYED || ((task->state == TASK_READY || task->state == TASK_LEASED) && due_ms != 0);
    if (may_expire && task->call->option.expires_ms > 0) {
        heap_push(&core->expiries, expiry_new(task));
    }
}

/* Not longer than it had at first, however the clock was set meanwhile. */
void expiries_begin(struct core *core)
{
    struct heap restored = core->expiries;
    expiries_init(core);
    for (size_t i = 0; i < restored.count; i++) {
        struct expiry *expiry = restored.items[i];
        int64_t most = (int64_t)expiry->task->call->option.expires_ms;
        int64_t wait = expiry_due_ms(expiry->task) - core->wall;
        wait = wait < most ? wait : most;
        expiry->due_mono = core->now + (wait > 0 ? wait : 0);
        expiry->heap_index = 0;
        heap_push(&core->expiries, expiry);
    }
    heap_fini(&restored);
}

void expiry_stop(struct core *core, struct task *task)
{
    struct expiry *expiry = task->expiry;
    if (expiry == NULL) {
        return;
    }
    if (expiry->heap_index != 0) {
        heap_remove(&core->expiries, expiry);
    }
    task->expiry = NULL;
    free(expiry);
}

int64_t expiry_due_ms(const struct task *task)
{
    return task->expiry != NULL ? task->created + (int64_t)task->call->option.expires_ms : 0;
}

bool expiry_is_over(const struct task *task)
{
    return task->expiry != NULL && task->expiry->heap_index == 0;
}

void task_expire(struct core *core, struct task *task, struct bytes lost)
{
    struct buf message = {0};
    buf_printf(&message, "not started within %g s of its submit", (double)task->call->option.expires_ms / 1000.0);
    if (lost.n > 0) {
        buf_printf(&message, "; %.*s, and had told of no start", (int)lost.n, (const char *)lost.p);
    }
    struct ending ending = {.state = TASK_FAILED, .cause = CAUSE_EXPIRED, .message = buf_bytes(&message)};
    core->counters.expired++;
    task_finish(core, task, &ending);
    buf_fini(&message);
}

/* After an unclean end what is ready may be starting somewhere, until its worker has said so or the window is over. */
static int64_t due_from(const struct core *core, const struct expiry *expiry)
{
    return expiry->due_mono > core->hold_until ? expiry->due_mono : core->hold_until;
}

static struct expiry *expiry_next(const struct core *core)
{
    struct expiry *expiry = heap_top(&core->expiries);
    return expiry != NULL && due_from(core, expiry) <= core->now ? expiry : NULL;
}

void expiries_due(struct core *core)
{
    struct expiry *expiry;
    for (size_t i = 0; i < EXPIRE_COUNT_MAX && (expiry = expiry_next(core)) != NULL; i++) {
        struct task *task = expiry->task;
        CHECK(task->state != TASK_RUNNING && task->state != TASK_BACKOFF);
        heap_pop(&core->expiries);
        if (task->state == TASK_LEASED) {
            task_revoke(core, task, false);
        } else {
            task_expire(core, task, bytes_of(NULL, 0));
        }
    }
}

bool expiries_are_behind(const struct core *core)
{
    return expiry_next(core) != NULL;
}

int64_t expiries_wake(const struct core *core)
{
    const struct expiry *expiry = heap_top(&core->expiries);
    return expiry == NULL ? INT64_MAX : due_from(core, expiry);
}

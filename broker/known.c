/*
 * known.c: tasks that fail at once if no worker serves their function in their queue, because whoever submits them
 * asked for it: a name that was mistyped is told, and not waited for. Looked at when the submit arrives, and when a
 * delay is over; never later: a task that waits once goes on waiting. In the first moment of the broker's life its
 * workers may still be coming back: what comes then is looked at afterwards. Must not know who is connected (lanes.c).
 * Start reading at task_fail_unknown.
 */
#include "broker/state.h"

#include <stdlib.h>

int64_t known_from(const struct core *core)
{
    return core->begun_ms + (int64_t)core->limits.claim_ms;
}

bool known_is_early(const struct core *core)
{
    return core->now < known_from(core);
}

bool task_fail_unknown(struct core *core, struct task *task)
{
    const struct call *call = task->call;
    bool is_waiting = task->state == TASK_DELAYED || task->state == TASK_READY;
    if (!call->option.known || !is_waiting || lane_is_served(core, call->lane)) {
        return false;
    }
    struct buf message = {0};
    buf_printf(&message, "no worker serves function %.*s on queue %.*s", (int)call->function.n,
               (const char *)call->function.p, (int)call->queue.n, (const char *)call->queue.p);
    struct ending ending = {.state = TASK_FAILED,
                            .cause = CAUSE_ERROR,
                            .kind = bytes_text("UnknownFunction"),
                            .message = buf_bytes(&message)};
    task_finish(core, task, &ending);
    buf_fini(&message);
    return true;
}

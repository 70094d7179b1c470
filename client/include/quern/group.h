/*
 * quern/group.h: structured concurrency: a group owns the futures submitted in it, and is left when all are done.
 * Included by quern/client.h.
 *
 *     struct quern_group *group;
 *     quern_group_open(client, NULL, QUERN_GROUP_FAIL_FAST, &group);
 *     quern_group_submit(group, &call, NULL);
 *     quern_group_submit(group, &call, &future);          // a look at one of them; the group's
 *     if (quern_group_close(&group, &failure) != QUERN_OK) { ... failure->message ... }
 */
#ifndef QUERN_GROUP_H
#define QUERN_GROUP_H

#include <quern/client.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

struct quern_group;

#define QUERN_GROUP_FAIL_FAST 1u /* the first failure cancels the rest, also in the groups within */
#define QUERN_GROUP_FORCE 2u     /* and stops what runs */

/*
 * parent  NULL, or a group of the same client that this one belongs to: closing the parent closes it (its pointer is
 *         worth nothing then), cancelling the parent cancels it; a failure in it that its own close has not reported
 *         counts as the parent's once that is being closed
 * flags   0, or bits of QUERN_GROUP_*
 *
 * QUERN_INVALID  flags has another bit, or parent is a group of another client
 */
QUERN_MUST_USE enum quern_err quern_group_open(struct quern_client *client, struct quern_group *parent, unsigned flags,
                                               struct quern_group **group_out);
/* As quern_submit. future_out: NULL, or the group's future, valid until the group is closed (never release it).
 * QUERN_CANCELLED: the group was cancelled or has failed fast; nothing was submitted. */
QUERN_MUST_USE enum quern_err quern_group_submit(struct quern_group *group, const struct quern_call *call,
                                                 struct quern_future **future_out);
/* Cancel what has not started, here and in the groups within; force also what runs. Does not wait for the outcomes, nor
 * for memory: what cannot be asked of the broker now is asked when there is some. */
enum quern_err quern_group_cancel(struct quern_group *group, bool force);
/* Wait until everything submitted so far has its outcome, here and in the groups within.
 * QUERN_TIMEOUT; QUERN_FULL (in a handler: too many wait there already); QUERN_CLOSED, QUERN_TAKEN_OVER */
QUERN_MUST_USE enum quern_err quern_group_wait(struct quern_group *group, int timeout_ms);
/*
 * Leave the group: wait for all of it, then acknowledge and release its futures.
 *
 * failure_out  NULL, or with QUERN_TASK_FAILED the outcome that failed first, to be released; else NULL
 *
 * QUERN_OK           all are done
 * QUERN_TASK_FAILED  one failed
 * QUERN_CANCELLED    none failed, but some were cancelled
 * QUERN_CLOSED, QUERN_TAKEN_OVER  the client ended before: outcomes are missing
 * QUERN_FULL         in a handler: too many wait there already (quern/futures.h): outcomes are missing
 */
enum quern_err quern_group_close(struct quern_group **group, struct quern_outcome **failure_out);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif

#endif

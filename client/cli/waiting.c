/*
 * Owns telling why nothing comes. Must not know how outcomes are waited for. Start at waiting_look.
 */
#include "client/cli/waiting.h"

#include "client/cli/answer.h"
#include "common/clock.h"
#include "common/codec.h"
#include "common/ids.h"
#include "common/messages.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WAITING_MS 2000
#define ASK_WAIT_MS 200
#define HINT_SIZE 64u

void waiting_init(struct waiting *waiting, const char *function, const char *queue)
{
    *waiting = (struct waiting){.function = function, .queue = queue};
    waiting_over(waiting);
}

void waiting_over(struct waiting *waiting)
{
    waiting->pause_ms = WAITING_MS;
    waiting->look_ms = clock_mono_ms() + WAITING_MS;
}

static bool is_over(const struct waiting *waiting)
{
    return waiting->is_worker_said && waiting->is_disk_said;
}

int waiting_left_ms(const struct waiting *waiting)
{
    int64_t left_ms = waiting->look_ms - clock_mono_ms();
    if (is_over(waiting)) {
        return -1;
    }
    return left_ms < 0 ? 0 : (left_ms > INT_MAX ? INT_MAX : (int)left_ms);
}

/* Tasks are ready, and nobody could run them. */
static bool is_unserved(const struct waiting *waiting, struct bytes status)
{
    const char *queue = waiting->queue != NULL ? waiting->queue : "default";
    struct answer_walk walk;
    struct bytes row;
    for (answer_walk_array(&walk, answer_field(status, "queues")); answer_walk_next(&walk, &row);) {
        if (bytes_is(answer_bytes(row, "function"), waiting->function) && bytes_is(answer_bytes(row, "queue"), queue)) {
            return answer_u64(row, "ready") > 0 && answer_u64(row, "workers") == 0;
        }
    }
    return false;
}

static void say_unserved(const struct waiting *waiting)
{
    char hint[HINT_SIZE] = "quern status";
    char id[ID_TEXT_SIZE];
    if (waiting->id != 0) {
        (void)snprintf(hint, sizeof hint, "quern explain %s", id_text(waiting->id, id));
    }
    bool is_command = strcmp(waiting->function, FUNCTION_COMMAND) == 0;
    say("no connected worker%s%s%s %s%s%s; waiting (`%s`)", waiting->queue != NULL ? " of queue '" : "",
        waiting->queue != NULL ? waiting->queue : "", waiting->queue != NULL ? "'" : "",
        is_command ? "runs commands (quern-worker --allow-commands)" : "knows '", is_command ? "" : waiting->function,
        is_command ? "" : "'", hint);
}

static void waiting_judge(struct waiting *waiting, struct bytes status)
{
    if (!waiting->is_disk_said && answer_flag(answer_field(status, "store_stats"), "disk_low")) {
        say("the disk of the broker is nearly full: nothing is accepted until there is room; waiting (`quern status`)");
        waiting->is_disk_said = true;
    }
    if (!waiting->is_worker_said && is_unserved(waiting, status)) {
        say_unserved(waiting);
        waiting->is_worker_said = true;
    }
}

/* To be freed. None: the broker is gone, which is said elsewhere, or busy. */
static struct bytes asked(struct quern_client *client, const char *what, const struct buf *params)
{
    void *p = NULL;
    size_t n = 0;
    enum quern_err err = quern_query(client, what, params->p, params->n, ASK_WAIT_MS, &p, &n);
    return err == QUERN_OK ? bytes_of(p, n) : bytes_of(NULL, 0);
}

static void answer_free(struct bytes answer)
{
    free((void *)(uintptr_t)answer.p);
}

void waiting_look(struct waiting *waiting, struct quern_client *client)
{
    const struct buf nothing = {0};
    if (is_over(waiting) || clock_mono_ms() < waiting->look_ms) {
        return;
    }
    struct bytes status = asked(client, "status", &nothing);
    if (status.n > 0) {
        waiting_judge(waiting, status);
    }
    answer_free(status);
    waiting->pause_ms *= 2;
    waiting->look_ms = clock_mono_ms() + waiting->pause_ms;
}

/* row: of a task that is ready. */
static void tell(struct quern_client *client, uint64_t id, struct bytes row)
{
    struct waiting waiting;
    char *function = answer_text(row, "function");
    char *queue = answer_text(row, "queue");
    if (function != NULL && bytes_is(answer_bytes(row, "state"), "ready")) {
        waiting_init(&waiting, function, queue != NULL && strcmp(queue, "default") != 0 ? queue : NULL);
        waiting.id = id;
        waiting.look_ms = 0;
        waiting_look(&waiting, client);
    }
    free(function);
    free(queue);
}

void waiting_tell_task(struct quern_client *client, uint64_t id)
{
    struct buf params = {0};
    put_map(&params, 1);
    put_text(&params, "id");
    put_u64(&params, id);
    struct bytes answer = asked(client, "show", &params);
    if (answer.n > 0) {
        tell(client, id, answer);
    }
    answer_free(answer);
    buf_fini(&params);
}

void waiting_tell_session(struct quern_client *client, const char *session)
{
    struct buf params = {0};
    struct answer_walk walk;
    struct bytes row;
    put_map(&params, 3);
    put_text(&params, "state");
    put_text(&params, "ready");
    put_text(&params, "session");
    put_text(&params, session);
    put_text(&params, "limit");
    put_u64(&params, 1);
    struct bytes answer = asked(client, "list", &params);
    answer_walk_array(&walk, answer);
    if (answer_walk_next(&walk, &row)) {
        tell(client, 0, row);
    }
    answer_free(answer);
    buf_fini(&params);
}

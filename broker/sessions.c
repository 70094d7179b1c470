/*
 * sessions.c: the owners of futures. Who may open one, who owns it, what is told in WELCOME, when it ends. Must not
 * know how tasks run. Rules (each closes a hole through which work was lost or doubled):
 *   - an open by another instance changes the owner only after the newcomer has echoed a nonce: a HELLO of a dead
 * process that arrives late changes nothing;
 *   - a process that was never welcomed opens, it does not resume; the same instance that opens again is given the
 * series it had;
 *   - WELCOME leaves after the commit of what it says.
 */
#include "broker/state.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/check.h"

/* A client that was challenged: what its HELLO asked for. */
struct opening {
    struct uuid nonce;
    uint64_t number; /* of the challenge */
    bool take_over;
    bool must_exist;
    bool keep;
    bool is_volatile;
    uint64_t expire_ms;
    uint64_t credit_count;
    uint64_t credit_bytes;
    size_t name_size;
    size_t description_size;
    uint8_t texts[]; /* name, description */
};

/* ---- finding and making ---- */

struct session *session_find(const struct core *core, uint64_t id)
{
    return id == 0 ? NULL : map_get(&core->sessions, id);
}

/* What people call it, or whose it is. */
static uint64_t names_key(const struct core *core, struct bytes name)
{
    uint64_t hash = name_hash(core, name);
    return hash != 0 ? hash : 1;
}

static uint64_t names_key_of(const struct core *core, const struct session *session)
{
    return names_key(core, session->name != NULL ? bytes_text(session->name) : bytes_of(session->owner.b, UUID_SIZE));
}

static void names_enter(struct core *core, struct session *session)
{
    uint64_t key = names_key_of(core, session);
    session->same_hash = map_get(&core->session_names, key);
    map_put(&core->session_names, key, session);
}

static void names_leave(struct core *core, struct session *session)
{
    uint64_t key = names_key_of(core, session);
    struct session *first = map_get(&core->session_names, key);
    struct session **at = &first;
    while (*at != session) {
        at = &(*at)->same_hash;
    }
    *at = session->same_hash;
    if (first != NULL) {
        map_put(&core->session_names, key, first);
    } else {
        map_remove(&core->session_names, key);
    }
}

struct session *session_by_name(const struct core *core, struct bytes name)
{
    struct session *session = map_get(&core->session_names, names_key(core, name));
    while (session != NULL && (session->name == NULL || !bytes_is(name, session->name))) {
        session = session->same_hash;
    }
    return session;
}

static struct session *session_of_owner(const struct core *core, const struct uuid *instance)
{
    struct session *session = map_get(&core->session_names, names_key(core, bytes_of(instance->b, UUID_SIZE)));
    while (session != NULL && (session->name != NULL || !uuid_equal(&session->owner, instance))) {
        session = session->same_hash;
    }
    return session;
}

static void session_set_owner(struct core *core, struct session *session, const struct uuid *owner)
{
    names_leave(core, session);
    session->owner = *owner;
    names_enter(core, session);
}

static struct session *session_add(struct core *core, uint64_t id)
{
    struct session *session = xcalloc(1, sizeof *session);
    session->id = id;
    session->next_send = 1;
    session->idle_since = core->now;
    session->left_at = core->now;
    map_put(&core->sessions, id, session);
    return session;
}

struct session *session_new(struct core *core, struct bytes name, bool is_volatile)
{
    struct session *session = session_add(core, session_number_give(core));
    session->is_volatile = is_volatile;
    session->name = name.n > 0 ? bytes_dup_text(name) : NULL;
    session->owner_text = xstrdup("");
    session->created = core->wall;
    session->used = core->wall;
    names_enter(core, session);
    batch_session(core, session, false);
    return session;
}

void session_label(const struct session *session, struct buf *out)
{
    if (session->name != NULL) {
        buf_printf(out, "%s", session->name);
    } else {
        buf_printf(out, "#%llu", (unsigned long long)session->id);
    }
}

/* ---- recovery ---- */

void session_restore(struct core *core, const struct session_row *row)
{
    struct session *session = session_add(core, row->id);
    session->name = row->name.p != NULL ? bytes_dup_text(row->name) : NULL;
    buf_put(&session->description, row->description.p, row->description.n);
    session->owner = row->owner;
    names_enter(core, session);
    session->owner_text = bytes_dup_text(row->owner_text);
    session->completion_last = row->completion_last;
    session->acked_prefix = row->acked_prefix;
    session->ordinal_high = row->ordinal_high;
    memcpy(session->digest, row->digest, DIGEST_SIZE);
    session->failed = row->failed;
    session->keep = row->keep;
    session->expire_ms = row->expire_ms;
    session->is_ending = row->is_ending;
    session->is_cancelling = row->is_cancelling;
    session->created = row->created;
    session->used = row->used;
    session_restore_ring(session);
}

void taken_restore(struct core *core, const struct taken_row *row)
{
    struct session *session = session_find(core, row->session);
    if (session != NULL) {
        session->has_taken = true;
        session_restore_acked(core, session, row->first, row->last);
    }
}

/* ---- opening ---- */

static bool owner_is_connected(const struct session *session, const struct conn *conn)
{
    return session->conn != NULL && session->conn != conn && !uuid_equal(&session->owner, &conn->instance);
}

static void deny_in_use(struct core *core, struct conn *conn, const struct session *session)
{
    struct buf text = {0};
    buf_printf(&text, "session ");
    session_label(session, &text);
    buf_printf(&text, " is in use by %s; wait until it ends, or take it over (--take-over)", session->owner_text);
    buf_put_u8(&text, 0);
    conn_deny(core, conn, QUERN_IN_USE, session->owner_text, (const char *)text.p);
    buf_fini(&text);
}

static void deny_taken_over(struct core *core, struct conn *conn, const struct session *session)
{
    struct buf text = {0};
    buf_printf(&text, "session ");
    session_label(session, &text);
    buf_printf(&text, " was taken over by %s", session->owner_text);
    buf_put_u8(&text, 0);
    conn_deny(core, conn, QUERN_TAKEN_OVER, session->owner_text, (const char *)text.p);
    buf_fini(&text);
}

static void welcome(struct core *core, struct conn *conn, struct session *session, struct series *series, bool is_new)
{
    conn->was_welcomed = true;
    conn->session = session;
    conn->series = series;
    series_use(series);
    session->conn = conn;
    session->generation = conn->generation;
    session->next_send = session->acked_prefix + 1;
    session->loading = 0;
    session->sent_count = 0;
    session->sent_bytes = 0;
    session->used = core->wall;
    conn->granted_count = core->limits.client_window_count;
    conn->granted_bytes = client_window_share(core);
    batch_session(core, session, false);
    struct msg_WELCOME_CLIENT message = {.store = core->store,
                                         .epoch = core->epoch,
                                         .session = session->id,
                                         .series = series->id,
                                         .submitted_high = series->submitted_high,
                                         .completion_last = session->completion_last,
                                         .acked_prefix = session->acked_prefix,
                                         .ordinal_high = session->ordinal_high,
                                         .digest = bytes_of(session->digest, DIGEST_SIZE),
                                         .description = buf_bytes(&session->description),
                                         .is_new = is_new,
                                         .is_ending = session->is_ending,
                                         .live = session->live,
                                         .failed = session->failed,
                                         .heartbeat_ms = core->limits.heartbeat_ms,
                                         .dead_ms = core->limits.dead_ms,
                                         .credit_count = conn->granted_count,
                                         .credit_bytes = conn->granted_bytes,
                                         .untaken = session->untaken,
                                         .is_volatile = session->is_volatile};
    if (!numbers_are_durable(core, session->id, series->id)) {
        conn->behind = core->open.number; /* who prints an id before its number is reserved may see it given again */
    }
    msg_WELCOME_CLIENT_put(send_answer(core, conn), &message);
    outcomes_deliver(core, session);
}

static void acknowledge_list(struct core *core, struct session *session, uint64_t prefix, struct list ranges)
{
    struct item_range range;
    outcomes_acknowledge(core, session, 1, prefix);
    while (item_range_next(&ranges, &range)) {
        outcomes_acknowledge(core, session, range.first, range.last);
    }
}

/* Its series is gone because others owned the session after it; a number that was never given is a stranger's. */
static bool is_former_owner(const struct core *core, const struct session *session,
                            const struct msg_HELLO_CLIENT *hello)
{
    return !uuid_equal(&session->owner, &hello->instance) && hello->series != 0 &&
           hello->series < core->series_numbers.next;
}

static void deny_gone(struct core *core, struct conn *conn, const struct msg_HELLO_CLIENT *hello)
{
    char text[160];
    bool is_of_this_life = hello->session >= core->first_session && hello->session < core->session_numbers.next;
    if (!hello->is_volatile) {
        snprintf(text, sizeof text, "there is no such session any more; open a new one");
    } else if (is_of_this_life) {
        snprintf(text, sizeof text, "volatile session #%llu has ended", (unsigned long long)hello->session);
    } else {
        snprintf(text, sizeof text,
                 "the broker was started anew, and volatile session #%llu was in the memory of the former one",
                 (unsigned long long)hello->session);
    }
    conn_deny(core, conn, QUERN_UNKNOWN, NULL, text);
}

static void deny_used_up(struct core *core, struct conn *conn)
{
    conn_deny(core, conn, QUERN_FULL, NULL, "this store has no numbers left for clients; start with a new one");
}

/* False: it was denied. *series_out: NULL if it asks for a fresh one. */
static bool resume_may(struct core *core, struct conn *conn, const struct msg_HELLO_CLIENT *hello,
                       const struct session *session, struct series **series_out)
{
    struct series *series = series_find(core, hello->series);
    *series_out = series;
    if (session != NULL && series == NULL && is_former_owner(core, session, hello)) {
        deny_taken_over(core, conn, session);
        return false;
    }
    bool is_its_own = series != NULL && series->session == session && uuid_equal(&series->instance, &hello->instance);
    if (session == NULL || (hello->series != 0 && !is_its_own)) {
        deny_gone(core, conn, hello);
        return false;
    }
    if (!uuid_equal(&session->owner, &hello->instance)) {
        deny_taken_over(core, conn, session);
        return false;
    }
    return true;
}

/* False: this HELLO is older than the connection in use, or than the last one. */
static bool resume_is_newest(struct core *core, struct conn *conn, const struct session *session)
{
    uint32_t generation = session->conn != NULL ? session->conn->generation : session->generation;
    if (generation >= conn->generation) {
        core->counters.frames_stale++;
        conn_kick(core, conn);
        return false;
    }
    return true;
}

static void resume(struct core *core, struct conn *conn, const struct msg_HELLO_CLIENT *hello)
{
    struct session *session = session_find(core, hello->session);
    struct series *series;
    if (!resume_may(core, conn, hello, session, &series) || !resume_is_newest(core, conn, session)) {
        return;
    }
    if (series == NULL && !series_are_left(core)) {
        deny_used_up(core, conn);
        return;
    }
    if (session->conn != NULL) {
        conn_kick(core, session->conn);
    }
    series = series != NULL ? series : series_give(core, session, &hello->instance);
    acknowledge_list(core, session, hello->taken_prefix, hello->taken);
    session->credit_count = hello->credit_count;
    session->credit_bytes = hello->credit_bytes;
    welcome(core, conn, session, series, false);
    series_shed(core, session);
}

static void nonce_give(struct core *core, struct conn *conn, struct opening *opening)
{
    uint64_t mixed[2] = {core->random ^ conn->id, core->random_second};
    memcpy(opening->nonce.b, mixed, sizeof opening->nonce.b);
    opening->number = ++core->challenge_count;
    conn->opening = opening;
    struct msg_CHALLENGE message = {.nonce = opening->nonce};
    msg_CHALLENGE_put(send_now(core, conn), &message);
}

static void challenge(struct core *core, struct conn *conn, const struct msg_HELLO_CLIENT *hello)
{
    struct opening *opening = xcalloc(1, sizeof *opening + hello->name.n + hello->description.n);
    opening->take_over = hello->take_over;
    opening->must_exist = hello->must_exist;
    opening->keep = hello->keep;
    opening->is_volatile = hello->is_volatile;
    opening->expire_ms = hello->expire_ms;
    opening->credit_count = hello->credit_count;
    opening->credit_bytes = hello->credit_bytes;
    opening->name_size = hello->name.n;
    opening->description_size = hello->description.n;
    if (hello->name.n > 0) {
        memcpy(opening->texts, hello->name.p, hello->name.n);
    }
    if (hello->description.n > 0) {
        memcpy(opening->texts + hello->name.n, hello->description.p, hello->description.n);
    }
    free(conn->opening);
    nonce_give(core, conn, opening);
}

void client_hello(struct core *core, struct conn *conn, const struct msg_HELLO_CLIENT *hello)
{
    conn->want_args = hello->want_args;
    if (hello->taken.count > TAKEN_RANGE_COUNT_MAX) {
        conn_deny(core, conn, QUERN_TOO_BIG, NULL, "HELLO lists more ranges of taken outcomes than it may");
    } else if (!hello->is_volatile && !core->has_store) {
        conn_deny(core, conn, QUERN_UNSUPPORTED, NULL,
                  "this broker has no store and keeps no durable sessions: open a volatile one (--volatile), or start "
                  "the broker with a store (--db instead of --volatile)");
    } else if (hello->session != 0 || hello->series != 0) {
        resume(core, conn, hello);
    } else {
        challenge(core, conn, hello);
    }
}

/* "#7": how sessions without a name are shown; the way back to what one of them holds (a retry, a kept one). */
static struct session *session_by_number(const struct core *core, struct bytes label)
{
    char digits[24] = {0};
    if (label.n < 2 || label.n >= sizeof digits || label.p[0] != '#') {
        return NULL;
    }
    memcpy(digits, label.p + 1, label.n - 1);
    uint64_t number = strtoull(digits, NULL, 10);
    return number != 0 ? session_find(core, number) : NULL;
}

static void deny_durability(struct core *core, struct conn *conn, const struct session *session)
{
    struct buf text = {0};
    buf_printf(&text, "session ");
    session_label(session, &text);
    buf_printf(&text, session->is_volatile ? " is volatile and stays so: open it as a volatile one (--volatile)"
                                           : " is durable and stays so: open it as a durable one (without --volatile)");
    buf_put_u8(&text, 0);
    conn_deny(core, conn, QUERN_INVALID, NULL, (const char *)text.p);
    buf_fini(&text);
}

/* The session that an open asks for; NULL if it was denied. */
static struct session *opening_session(struct core *core, struct conn *conn, const struct opening *opening,
                                       bool *is_new_out)
{
    struct bytes name = bytes_of(opening->texts, opening->name_size);
    struct session *session =
        opening->name_size > 0 ? session_by_name(core, name) : session_of_owner(core, &conn->instance);
    if (session == NULL && opening->must_exist) {
        session = session_by_number(core, name);
    }
    *is_new_out = false;
    if (session != NULL) {
        if (session->is_volatile != opening->is_volatile) {
            deny_durability(core, conn, session);
            return NULL;
        }
        if (owner_is_connected(session, conn) && !opening->take_over) {
            deny_in_use(core, conn, session);
            return NULL;
        }
        return session;
    }
    if (opening->must_exist) {
        conn_deny(core, conn, QUERN_UNKNOWN, NULL, "there is no session of that name");
        return NULL;
    }
    if (core->sessions.count >= SESSION_COUNT_MAX) {
        conn_deny(core, conn, QUERN_FULL, NULL, "the broker holds as many sessions as it can; close some");
        return NULL;
    }
    *is_new_out = true;
    session = session_new(core, name, opening->is_volatile);
    session->keep = opening->keep;
    session->expire_ms = opening->expire_ms;
    buf_put(&session->description, opening->texts + opening->name_size, opening->description_size);
    return session;
}

/* The newcomer is alive: it echoed. The session is its own from here on. */
void client_echo(struct core *core, struct conn *conn, const struct msg_ECHO *echo)
{
    struct opening *opening = conn->opening;
    bool is_new;
    if (opening == NULL || !uuid_equal(&opening->nonce, &echo->nonce)) {
        conn_error(core, conn, QUERN_PROTOCOL, MSG_ECHO, "this nonce was not given to you");
        return;
    }
    conn->opening = NULL;
    if (!series_are_left(core)) {
        free(opening);
        deny_used_up(core, conn);
        return;
    }
    struct session *session = opening_session(core, conn, opening, &is_new);
    if (session == NULL) {
        free(opening);
        return;
    }
    if (session->owned_at >= opening->number) {
        nonce_give(core, conn, opening); /* it changed hands since: only who lives now can echo again */
        return;
    }
    struct conn *former = session->conn;
    char owner[WORKER_NAME_SIZE_MAX + 32];
    snprintf(owner, sizeof owner, "%.255s:%llu", conn->host, (unsigned long long)conn->pid);
    free(session->owner_text);
    session->owner_text = xstrdup(owner);
    session_set_owner(core, session, &conn->instance);
    session->owned_at = core->challenge_count;
    session->generation = 0;
    if (former != NULL && former != conn) {
        deny_taken_over(core, former, session);
    }
    session->credit_count = opening->credit_count;
    session->credit_bytes = opening->credit_bytes;
    free(opening);
    welcome(core, conn, session, series_give(core, session, &session->owner), is_new);
    series_shed(core, session);
}

/* ---- what an owner says ---- */

void client_taken(struct core *core, struct conn *conn, const struct msg_TAKEN *taken)
{
    if (taken->ranges.count > TAKEN_RANGE_COUNT_MAX) {
        conn_error(core, conn, QUERN_TOO_BIG, MSG_TAKEN, "more ranges than a client may acknowledge at once");
    } else if (conn->session != NULL) { /* anybody else's acknowledgement says nothing about this session */
        acknowledge_list(core, conn->session, taken->prefix, taken->ranges);
        session_settle(core, conn->session);
    }
}

void client_credit(struct core *core, struct conn *conn, const struct msg_CREDIT *credit)
{
    struct session *session = conn->session;
    if (session != NULL) {
        session->credit_count = credit->count > session->credit_count ? credit->count : session->credit_count;
        session->credit_bytes = credit->bytes > session->credit_bytes ? credit->bytes : session->credit_bytes;
        outcomes_deliver(core, session);
    }
}

void client_close(struct core *core, struct conn *conn, const struct msg_CLOSE *close)
{
    struct session *session =
        close->session != 0 ? session_find(core, close->session) : session_by_name(core, close->name);
    if (session == NULL) {
        reply_put(core, conn, close->request, QUERN_UNKNOWN, "there is no such session", false, bytes_of(NULL, 0));
        return;
    }
    reply_about(core, conn, session, close->request, QUERN_OK, NULL, bytes_of(NULL, 0)); /* it may go with this */
    session_end(core, session, close->cancel, close->drop);
}

/* ---- ending ---- */

void session_touch(struct core *core, struct session *session)
{
    session->used = core->wall;
    session->idle_since = core->now;
}

static void session_delete(struct core *core, struct session *session)
{
    session_free_outcomes(core, session);
    if (!session->is_volatile) {
        batch_forget_session(core, session);
        batch_single(core, CHANGE_SESSION_DELETE)->number = session->id;
        core->open.is_urgent = true;
    }
    if (session->conn != NULL) {
        session->conn->session = NULL;
        session->conn->series = NULL;
    }
    series_end(core, session);
    if (session->is_sweeping) {
        core->sweeping_count--;
    }
    map_remove(&core->sessions, session->id);
    names_leave(core, session);
    ranges_fini(&session->acked_beyond);
    ranges_fini(&session->acked_fresh);
    buf_fini(&session->description);
    free(session->name);
    free(session->owner_text);
    free(session);
}

void session_settle(struct core *core, struct session *session)
{
    if (session->is_ending && session->live == 0 && session->untaken == 0) {
        session_delete(core, session);
    }
}

static void sweep_begin(struct core *core, struct session *session)
{
    if (!session->is_sweeping && session->live > 0) {
        session->is_sweeping = true;
        session->sweep_next = 0;
        core->sweeping_count++;
        core_sweep_by(core, core->now);
    }
}

void session_end(struct core *core, struct session *session, bool cancel, bool drop)
{
    session->is_ending = true;
    session->is_cancelling = session->is_cancelling || cancel; /* on disk with the answer, the slices come later */
    batch_session(core, session, false);
    if (cancel) {
        sweep_begin(core, session);
    }
    if (drop) {
        outcomes_acknowledge(core, session, session->acked_prefix + 1, session->completion_last);
    }
    session_settle(core, session);
}

void session_go_on_ending(struct core *core, struct session *session)
{
    if (session->is_cancelling) {
        sweep_begin(core, session);
    }
}

/* The owner's connection is gone. Durable work goes on; a volatile session without a name has a time to see its client
 * again. */
void session_left(struct core *core, struct session *session)
{
    session->conn = NULL;
    session->loading = 0;
    session->left_at = core->now;
    session_touch(core, session);
    batch_session(core, session, true);
    bool is_short = session->expire_ms != 0 && session->expire_ms < core->limits.session_gone_ms;
    core_sweep_by(core, core->now + (int64_t)(is_short ? session->expire_ms : core->limits.session_gone_ms));
}

#define SWEEP_COUNT 4096u

static bool task_has_started(const struct task *task)
{
    return task->state == TASK_LEASED || task->state == TASK_RUNNING;
}

/* Cancel what has not started, a slice a step, so that a session of a million tasks does not hold up the others. What
 * is parked is read back as what is in memory grows less, and has the session swept again. */
static void sweep_slice(struct core *core, struct session *session)
{
    struct task *task = task_find(core, session->sweep_next);
    if (task == NULL || task->session != session) {
        task = session->tasks; /* it went meanwhile: begin again, what is left is less */
    }
    for (size_t i = 0; i < SWEEP_COUNT && task != NULL; i++) {
        struct task *next = task->session_next;
        if (task_has_started(task)) {
            if (!task->wants_cancel) {
                task->wants_cancel = true;
                task_revoke(core, task, false);
            }
        } else {
            struct ending ending = {.state = TASK_CANCELLED, .message = bytes_text("its session was closed")};
            task_finish(core, task, &ending);
        }
        task = next;
    }
    if (task == NULL && session->parked > 0) {
        session->sweep_next = 0;
    } else if (task == NULL) {
        session->is_sweeping = false;
        core->sweeping_count--;
        session_settle(core, session);
    } else {
        session->sweep_next = task->id;
        core_sweep_by(core, core->now);
    }
}

/* Nobody finds it by a name, and nobody said that it is to stay. */
static bool is_passing(const struct session *session)
{
    return session->name == NULL && !session->keep;
}

/* Outcomes that nobody took. Of a volatile session that ended without its client they are in the way of others; of one
 * that can be found by its number only, somebody may still come for them, but few will. */
static int64_t untaken_keep_ms(const struct core *core, const struct session *session)
{
    if (session->is_volatile && session->is_ending) {
        return (int64_t)core->limits.session_gone_ms;
    }
    bool is_left = is_passing(session) && !session->is_volatile;
    return (int64_t)(is_left ? core->limits.left_keep_ms : core->limits.unacked_keep_ms);
}

/* Without a client: when it ends, or, ending already, goes with what nobody took. INT64_MAX: it has tasks to do.
 * Durable work is cancelled only where the session was opened to expire. */
static int64_t lifetime_end(const struct core *core, const struct session *session, bool *cancel_out)
{
    *cancel_out = !session->is_ending && (session->expire_ms != 0 || (is_passing(session) && session->is_volatile));
    if (*cancel_out && session->expire_ms != 0) {
        return session->left_at + (int64_t)session->expire_ms;
    }
    if (*cancel_out) {
        return session->idle_since + (int64_t)core->limits.session_gone_ms;
    }
    if (session->live > 0) {
        return INT64_MAX;
    }
    if (session->untaken > 0) {
        return session->idle_since + untaken_keep_ms(core, session);
    }
    return session->idle_since +
           (int64_t)(is_passing(session) ? core->limits.session_gone_ms : core->limits.session_idle_ms);
}

int64_t session_end_ms(const struct core *core, const struct session *session)
{
    bool cancel;
    int64_t end = session->conn == NULL ? lifetime_end(core, session, &cancel) : INT64_MAX;
    return end == INT64_MAX ? 0 : core->wall + (end > core->now ? end - core->now : 0);
}

static void lifetime_check(struct core *core, struct session *session, int64_t *next)
{
    bool cancel;
    if (session->is_ending && session->live == 0 && session->untaken == 0) {
        session_delete(core, session); /* the last of it was acknowledged in a HELLO, or before a restart */
        return;
    }
    if (session->conn != NULL) {
        return;
    }
    int64_t end = lifetime_end(core, session, &cancel);
    if (end <= core->now) {
        session_end(core, session, cancel, !cancel);
        end = core->now; /* look again when it goes, if it has not gone */
    }
    *next = end < *next ? end : *next;
}

void sessions_sweep(struct core *core)
{
    int64_t next = INT64_MAX;
    size_t at = 0;
    uint64_t id;
    void *value;
    size_t count = 0;
    uint64_t *ids = xmalloc((core->sessions.count + 1) * sizeof *ids); /* ending one changes the map */
    while (map_next(&core->sessions, &at, &id, &value)) {
        ids[count++] = id;
    }
    for (size_t i = 0; i < count; i++) {
        struct session *session = session_find(core, ids[i]);
        if (session != NULL && session->is_sweeping) {
            sweep_slice(core, session);
        }
        session = session_find(core, ids[i]);
        if (session != NULL) {
            lifetime_check(core, session, &next);
        }
    }
    free(ids);
    core_sweep_by(core, next);
}

void sessions_fini(struct core *core)
{
    size_t at = 0;
    uint64_t id;
    void *value;
    while (map_next(&core->sessions, &at, &id, &value)) {
        struct session *session = value;
        for (uint64_t i = session->acked_prefix + 1; i <= session->completion_last; i++) {
            free(session_outcome(session, i));
        }
        free(session->ring);
        series_end(core, session);
        ranges_fini(&session->acked_beyond);
        ranges_fini(&session->acked_fresh);
        buf_fini(&session->description);
        free(session->name);
        free(session->owner_text);
        free(session);
    }
    map_fini(&core->sessions);
    map_fini(&core->session_names);
    map_fini(&core->series);
}

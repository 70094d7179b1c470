/*
 * inside.h: what the files of the client library share; no user sees it.
 *
 * One mutex (client->lock) guards the client, its ledger, its futures and the queue of outcomes. The I/O thread takes
 * it for each frame it reads or writes; application threads for each call. Sockets belong to the I/O thread alone and
 * are used without the lock. What a frame brings is told to waiting threads once per frame, and only if somebody waits.
 *
 * Waits for futures of several clients have watchers (watcher.h), each with a lock that is taken behind client->lock.
 *
 * Names: functions that begin with client_ want the lock held unless they say otherwise.
 */
#ifndef QUERN_CLIENT_INSIDE_H
#define QUERN_CLIENT_INSIDE_H

#include "client/ledger.h"
#include "client/spin.h"
#include "client/watcher.h"
#include "common/heap.h"
#include "common/map.h"
#include "common/spares.h"
#include "quern/client.h"

#include <pthread.h>

/* Submits queued or unanswered before quern_submit waits. */
#define CLIENT_SUBMIT_COUNT_MAX 20000u
#define CLIENT_SUBMIT_BYTES_MAX (64u * MIB)
#define CLIENT_WINDOW_COUNT_DEFAULT 10000u
#define CLIENT_WINDOW_BYTES_DEFAULT (64u * MIB)
#define CLIENT_WINDOW_MAX ((uint64_t)1 << 40)
#define CLIENT_CLOSE_MS 5000
/* An outcome whose texts and result are up to this costs no memory of its own. */
#define DELIVERY_SMALL_SIZE 128u
/* Cancels of what ended maps left behind that are under way at once; a broker answers 64 questions of a client. */
#define MAP_CANCEL_COUNT_MAX 32u

/* An outcome or refusal that came. Counted by the queue or future that keeps it and by every copy handed out. */
struct delivery {
    struct quern_outcome outcome; /* first: a handed out outcome is its delivery */
    struct quern_client *client;
    struct delivery *next; /* in the queue */
    size_t memory_size;
    size_t heap_index; /* among the late ones */
    unsigned refs;
    uint32_t losses; /* of the ledger when it came: what it is acknowledged to is that session, if it is still there */
    uint64_t size;   /* of the window */
    bool is_taken;   /* or nothing to take: a refusal, a loss */
    char memory[];
};

/* What quern_next gives: mostly in order of completion as it comes; a future that was released late puts its outcome
 * among the late ones. */
struct outcome_queue {
    struct delivery *first;
    struct delivery *last;
    struct heap late;
    size_t expected; /* outcomes that futures keep: there is room for them among the late ones */
};

/* A function that the application wants called when a future is done. */
struct callback {
    struct callback *next; /* of its future, last added first; then in the queue, first added first */
    struct quern_future *future;
    quern_callback *function;
    void *context;
};

/* The thread that calls them, and what it is to call. */
struct callbacks {
    struct callback *first;
    struct callback *last;
    pthread_cond_t due;
    pthread_t thread;
    bool is_started;
    bool must_stop; /* when all that is due was called */
};

/* The open maps, and what those that ended left behind. */
struct map_items {
    struct map_item *first;
    struct map_item *last;
};
struct maps {
    struct quern_map *first;
    struct map_items unwanted;                     /* to be cancelled, in order of submission */
    struct delivery *unseen;                       /* outcomes nobody wants: to be acknowledged */
    struct request *cancels[MAP_CANCEL_COUNT_MAX]; /* under way; NULL: free */
    unsigned cancel_count;
};

/* Cancels of groups: asked for a few at a time, without a thread that waits. */
#define CANCELS_UNDER_WAY_MAX 32u
struct cancels {
    struct quern_group *first; /* groups of which some are still to be asked for */
    struct request *asked[CANCELS_UNDER_WAY_MAX];
    bool is_due; /* an answer came, or there is something to ask for */
};

struct quern_client {
    unsigned fork_count; /* of the process that opened it */
    pthread_mutex_t lock;
    pthread_cond_t arrived; /* for quern_next */
    pthread_cond_t settled; /* for groups, flush, replies, opening and closing */
    pthread_cond_t room;    /* for quern_submit */
    unsigned arrived_waiters;
    unsigned settled_waiters;
    unsigned sleeper_count; /* who wait for one future, each with a condition of its own */
    struct sleeper *due;    /* of them, those to be woken */
    unsigned room_waiters;
    unsigned flush_waiters;
    unsigned wanting;  /* threads that wait for outcomes */
    bool settled_wake; /* somebody who waits for settled has what he waits for */
    struct spin spin;
    uint64_t refs;   /* the opener, futures, outcomes handed out, threads inside a wait */
    bool is_closing; /* no further submits */
    bool has_parted; /* no I/O thread: nothing comes any more, what came can be taken */
    bool is_closed;  /* nor a ledger */
    bool is_operator;

    struct client_ledger ledger;
    struct map futures;     /* struct owner by id: unfinished, or held by the application */
    struct map seen;        /* tasks whose outcomes came since somebody asked what is open: see reopen.c */
    unsigned seen_users;    /* who ask */
    uint64_t pending_count; /* not for quern_next: items of maps, and futures that are both */
    struct maps maps;
    struct spares delivery_spares; /* with small payloads */
    struct spares item_spares;     /* of maps */
    struct watches watches;
    struct callbacks callbacks;
    struct cancels cancels;
    unsigned group_waiters;
    uint64_t failure_count; /* in groups */
    struct outcome_queue queue;
    struct unfinished lost; /* with a volatile session: outcomes of them are made when quern_next comes for them */
    char *lost_why;         /* NULL: never */
    enum quern_err refusal; /* the first since the last flush */
    char *refusal_text;

    /* I/O */
    pthread_t thread;
    char *url_text; /* cut at the commas */
    const char *urls[URL_COUNT_MAX];
    size_t url_count;
    int wake_fd;
    bool is_sleeping; /* the I/O thread: poke it */
    bool must_stop;
    char down_why[LEDGER_WHY_SIZE_MAX]; /* why there is no connection */
    int ready_fd;                       /* -1 until asked for */
    bool is_ready;
    void (*on_connection)(void *context, bool is_up, const char *text);
    void *context;
};

/* What a submit belongs to: a future, or an item of a map, whose first field this is. Called under the lock and from
 * within the ledger, which therefore must not be called. */
struct owner {
    const struct owner_kind *kind;
};
struct owner_kind {
    void (*accepted)(struct owner *owner);
    void (*refused)(struct owner *owner, struct delivery *delivery); /* takes the delivery */
    void (*renumbered)(struct owner *owner, uint64_t old_id, uint64_t id);
    void (*dropped)(struct owner *owner); /* its submit will not be answered */
    /* Its outcome came: true if it takes the delivery. Whether it stays in client->futures is its own affair. */
    bool (*completed)(struct owner *owner, struct delivery *delivery);
    void (*ended)(struct owner *owner); /* the client closes, and it is in client->futures */
};

/* A thread that waits for one future, and is woken when that is done: not when others are, which may be very many. */
struct sleeper {
    pthread_cond_t woken;
    struct sleeper *next; /* of the same future */
    struct sleeper *due_next;
    bool is_due; /* the future is done: client_tell wakes it */
};

struct quern_future {
    struct owner owner;
    struct quern_client *client;
    uint64_t id;
    struct delivery *delivery; /* NULL: none yet */
    struct tie *ties;          /* who waits for it in a set or in quern_wait */
    struct callback *callbacks;
    struct quern_group *group;       /* NULL: in none */
    struct quern_future *group_next; /* the one submitted behind it */
    struct sleeper *sleepers;
    unsigned refs; /* the application; its submit until answered; until done */
    bool is_done;
    bool is_held; /* by the application */
    bool is_accepted;
    bool is_asked; /* its outcome was handed out */
};

/* ---- error.c: without lock ---- */
#define ERROR_TEXT_SIZE_MAX 5120u
/* Sets the text of quern_last_error and returns the code. */
enum quern_err error_set(enum quern_err code, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* QUERN_INVALID for a parameter of a public function that is to be written and is NULL. */
QUERN_MUST_USE enum quern_err out_check(const char *function, const char *name, const void *out);
/* QUERN_NO_MEMORY: none for what. Whoever answers it has changed nothing. */
enum quern_err error_memory(const char *what);

/* ---- options: without lock ---- */
/* Copies a struct that begins with its size into ours, which holds the defaults. QUERN_INVALID: no size, or it has
 * fields of a newer version that are set. */
QUERN_MUST_USE enum quern_err sized_copy(void *to, size_t to_size, const void *from, const char *what);

/* ---- client.c ---- */
/* QUERN_OK if this process may use the client. Without lock. */
QUERN_MUST_USE enum quern_err client_check(const struct quern_client *client);
unsigned client_fork_count(void);
void client_ref(struct quern_client *client);
/* Unlocks; frees the client if this was the last reference. */
void client_unref_unlock(struct quern_client *client);
/* Nothing will come any more. */
bool client_is_over(const struct quern_client *client);
/* The error that ends waits; QUERN_OK while they may go on. Sets the text. */
enum quern_err client_end(const struct quern_client *client);

/* ---- waiting ---- */
/* Absolute monotonic ms of a timeout; INT64_MAX for QUERN_FOREVER. */
int64_t deadline_of(int timeout_ms);
/* Its timed waits are by the monotonic clock. */
void condition_init(pthread_cond_t *condition);
/* False: the deadline has passed. Counts the waiter in *waiters. */
bool client_wait(struct quern_client *client, pthread_cond_t *condition, unsigned *waiters, int64_t deadline_ms);
/* In a handler that may not give its place (common/place.h): QUERN_FULL. */
enum quern_err wait_refused(void);
/* The same for what may need tasks to run meanwhile: in a handler its slot's place is given to them (common/place.h).
 * If it may come soon, the thread looks for a moment before it sleeps (spin.h). QUERN_OK: look again, at the deadline
 * too; QUERN_FULL: as many wait there as may. */
QUERN_MUST_USE enum quern_err client_wait_away(struct quern_client *client, pthread_cond_t *condition,
                                               unsigned *waiters, int64_t deadline_ms);
/* The same for the broker's answer, waited for since since_ms: gives the place only if it takes long. */
QUERN_MUST_USE enum quern_err client_wait_answer(struct quern_client *client, pthread_cond_t *condition,
                                                 unsigned *waiters, int64_t since_ms, int64_t deadline_ms);
/* After whatever may have changed something: wakes those it concerns. */
void client_tell(struct quern_client *client);

/* ---- io.c ---- */
QUERN_MUST_USE bool client_ledger_begin(struct quern_client *client, const struct ledger_options *options);
QUERN_MUST_USE enum quern_err io_start(struct quern_client *client);
void io_stop(struct quern_client *client); /* without lock; joins the thread */
/* True: call io_wake after unlocking. */
bool io_poke(struct quern_client *client);
void io_wake(const struct quern_client *client); /* without lock */

/* ---- futures.c ---- */
/* QUERN_OK if this is a future that this process may use. Without lock. */
QUERN_MUST_USE enum quern_err future_check(const struct quern_future *future);
struct quern_future *future_make(struct quern_client *client); /* without lock; NULL: no memory */
void future_free(struct quern_future *future);                 /* one that was never queued; without lock */
/* Needs no memory once map_try_reserve(&client->futures, 1) has said yes. */
void future_queued(struct quern_future *future, uint64_t id);
/* The future behind an owner; NULL: it is something else, or nothing. */
struct quern_future *owner_future(struct owner *owner);
/* A new one becomes that of a task that was submitted earlier; delivery: its outcome, if it is here, which goes over to
 * the future. Needs no memory once futures_try_reserve has said yes. */
void future_of_task(struct quern_future *future, uint64_t id, struct delivery *delivery);
/* Room for so many further ones of tasks that were submitted earlier. False: no memory. */
QUERN_MUST_USE bool futures_try_reserve(struct quern_client *client, size_t more);
/* Takes its outcome and releases it. */
void future_acknowledge(struct quern_future *future);
/* What an outcome says, as quern_future_result answers; sets the text. Without lock. */
enum quern_err outcome_verdict(const struct quern_outcome *outcome);
/* Every accepted one of the session that was lost; they are taken out of *lost. */
void futures_lost(struct quern_client *client, struct unfinished *lost);
/* True: the outcome belonged to a future, or to an item of a map. */
bool futures_outcome(struct quern_client *client, struct delivery *delivery);
/* Wake who waits for one future that is done; once the client is over, all who do. */
void futures_tell(struct quern_client *client);
/* All who wait for one future look again. */
void futures_wake(struct quern_client *client);
/* The client closes: nothing will come any more. */
void futures_end(struct quern_client *client);

/* ---- outcomes.c ---- */
struct delivery *delivery_of_outcome(struct quern_client *client, const struct item_outcome *item);
struct delivery *delivery_of_refusal(struct quern_client *client, const struct submit_refusal *refusal);
/* A failure as lost, with client->lost_why as its message. NULL: no memory. */
struct delivery *delivery_of_loss(struct quern_client *client, uint64_t id, uint64_t ordinal);
void delivery_unref(struct delivery *delivery);
/* Give it to the application: a reference for it. */
struct quern_outcome *delivery_hand_out(struct delivery *delivery);
/* The application has taken it: acknowledge it, once. */
void delivery_take(struct delivery *delivery);
void queue_init(struct outcome_queue *queue);
void queue_fini(struct outcome_queue *queue);
void queue_push(struct outcome_queue *queue, struct delivery *delivery);
/* A future keeps an outcome that may come to queue_push_late: until it does, or is taken (queue_unexpect). */
QUERN_MUST_USE bool queue_try_reserve(struct outcome_queue *queue, size_t more);
void queue_expect(struct outcome_queue *queue);
void queue_unexpect(struct outcome_queue *queue);
void queue_push_late(struct outcome_queue *queue, struct delivery *delivery);
bool queue_is_empty(const struct outcome_queue *queue);
/* Takes out the outcomes of these tasks: a list by `next`. */
struct delivery *queue_extract(struct outcome_queue *queue, const struct map *ids);
/* Nothing is outstanding for quern_next. */
bool client_is_drained(const struct quern_client *client);
/* Somebody found no outcome: tell the broker what was taken, stretch credit. True: call io_wake after unlocking. */
bool client_want(struct quern_client *client);
/* Would quern_next return at once? */
bool client_is_ready(const struct quern_client *client);
void client_ready_update(struct quern_client *client);

/* QUERN_OK if that can be an id of a task. Without lock. */
QUERN_MUST_USE enum quern_err id_check(uint64_t id);
/* A task of ours that the broker may not know yet: until it has answered. */
QUERN_MUST_USE enum quern_err client_answer_await(struct quern_client *client, uint64_t id, int64_t deadline_ms);

/* ---- cancel.c ---- */
/* Until the broker has answered its submit, or it is done. */
QUERN_MUST_USE enum quern_err future_answer_await(struct quern_future *future, int64_t deadline_ms);

/* Ask for the next of what groups want cancelled. */
void cancels_go_on(struct quern_client *client);

/* ---- callbacks.c ---- */
void callbacks_init(struct callbacks *callbacks);
void callbacks_fini(struct callbacks *callbacks);
/* The future is done: the thread has something to call. */
void callbacks_due(struct quern_future *future);
/* It will not be: they go. */
void callbacks_drop(struct quern_future *future);
/* The client is closed: what is due is called, then the thread ends; without lock. */
void callbacks_stop(struct quern_client *client);

/* ---- map_item.c, map.c ---- */
/* What has changed may concern maps: wakes those that wait, goes on cancelling, acknowledges what nobody wants. */
void maps_tell(struct quern_client *client);
void maps_wake(struct quern_client *client);
/* Everything that closed maps left is cancelled, as far as the broker can be asked. */
bool maps_are_quiet(const struct quern_client *client);
/* The client has closed. */
void maps_end(struct quern_client *client);

/* ---- ask.c ---- */
/* Of a query: one name and one number. */
#define PARAMS_SIZE_MAX 32u
/* One question, one answer; body (may be NULL) gets the answer's body, also with an error. */
enum quern_err client_ask(struct quern_client *client, struct message *message, int64_t deadline_ms, struct buf *body);
/* End the own session as flags (QUERN_CLOSE_*) say. */
enum quern_err session_close_ask(struct quern_client *client, unsigned flags, int64_t deadline_ms);

/* ---- call.c: without lock ---- */
/* Everything but the arguments. */
QUERN_MUST_USE enum quern_err call_check(const struct quern_call *call);
/* One msgpack array of a size that is allowed. */
QUERN_MUST_USE enum quern_err args_check(struct bytes args);
/* The same, of a whole value from a writer, which has looked at its size and what is inside. */
QUERN_MUST_USE enum quern_err args_written_check(struct bytes args);
struct task_options call_options(const struct quern_call *call);
uint64_t call_delay(const struct quern_call *call); /* SUBMIT's delay_ms: a delay, or a time of the wall clock */
/* As a call without arguments sends it: []. */
struct bytes args_none(void);
/* Checks the call and queues it; future may be NULL; what is wrong with them leaves it the caller's. */
QUERN_MUST_USE enum quern_err call_submit(struct quern_client *client, const struct quern_call *given,
                                          struct quern_future *future, uint64_t *id_out);
/* QUERN_OK if text is 1..size_max bytes of UTF-8; what: the field's name for the error. */
QUERN_MUST_USE enum quern_err text_check(const char *what, const char *text, size_t size_max);

#endif

/*
 * watcher.h: waiting for futures, also of several clients: a watcher is told of each that is tied to it when it is
 * done, and wakes who waits for it. Under sets and quern_wait; no user sees it.
 *
 *     future --ties--> tie ---> watch (one for each client) ---> watcher: lists of ties, a lock, a condition, an fd
 *
 * Locks: a client's, then the watcher's, never the other way. A future's list of ties and a client's list of watches
 * belong to the client's lock; the lists and counts of a watcher, its watches' counts included, to the watcher's. Who
 * waits holds the watcher's alone; a completion has both: so nothing is missed between looking and waiting.
 */
#ifndef QUERN_CLIENT_WATCHER_H
#define QUERN_CLIENT_WATCHER_H

#include "quern/client.h"

#include <pthread.h>

struct watch;
struct watcher;

/* PENDING: without outcome; READY: with, and not given; GIVEN: kept so that it is not given again. */
enum tie_state { TIE_PENDING, TIE_READY, TIE_GIVEN };
#define TIE_STATE_COUNT 3

struct tie {
    struct quern_future *future;
    struct watch *watch;
    struct tie *future_next;
    struct tie *first; /* of a future that was tied before: that tie; this one is not used */
    struct tie *prev;  /* in the watcher's list of its state */
    struct tie *next;
    enum tie_state state;
    bool is_owned; /* malloc'd for the watcher, which frees it */
};

/* What a watcher has to do with one client. */
struct watch {
    struct watcher *watcher;
    struct quern_client *client; /* a reference */
    struct watch *next;          /* of the watcher; never changes */
    struct watch *client_prev;
    struct watch *client_next;
    struct watch *told_next;
    bool is_told; /* something has changed: client_tell wakes who waits */
    bool is_over; /* the client will bring no outcome any more */
    size_t pending;
    unsigned waiters; /* threads that wait for the watcher */
};

/* The watches of a client. {0} holds none. */
struct watches {
    struct watch *first;
    struct watch *told;
    bool is_over;
};

struct tie_list {
    struct tie *first;
    struct tie *last;
};

struct watcher {
    pthread_mutex_t lock;
    pthread_cond_t due;
    enum quern_when when;  /* a set has FIRST_COMPLETED */
    struct watch *watches; /* new ones in front */
    struct tie_list ties[TIE_STATE_COUNT];
    size_t total;   /* ever tied, without those released before they were given */
    size_t pending; /* without outcome */
    size_t alive;   /* of them, those of clients that are not over */
    size_t failed;  /* with an outcome that is: failed */
    unsigned waiters;
    int fd; /* readable while it is due; -1 none */
    bool is_readable;
};

/* ---- without lock ---- */
void watcher_init(struct watcher *watcher, enum quern_when when);
/* Cuts all its ties. */
void watcher_fini(struct watcher *watcher);
/* Cuts those that are left, of one client after another, whose locks it takes. */
void watcher_cut(struct watcher *watcher);
/* Tie a future, locking its client. QUERN_DUPLICATE: it is tied; QUERN_NO_MEMORY. */
QUERN_MUST_USE enum quern_err watcher_tie(struct watcher *watcher, struct tie *tie, struct quern_future *future);
/* The error of a client that is over and owes an outcome; sets the text. */
QUERN_MUST_USE enum quern_err watcher_end(struct watcher *watcher);
/* Nobody looks for what is ready any more: tell the brokers that outcomes are wanted. */
void watcher_want(struct watcher *watcher);

/* ---- with the watcher's lock ---- */
/* There is something to see: what `when` says, or nothing more can come of what is waited for. */
bool watcher_is_due(const struct watcher *watcher);
/* Waits until it is due or the deadline has passed; gives the lock back meanwhile. QUERN_FULL: see wait_refused. */
QUERN_MUST_USE enum quern_err watcher_await(struct watcher *watcher, int64_t deadline_ms);
void watcher_fd_update(struct watcher *watcher);
void tie_move(struct watcher *watcher, struct tie *tie, enum tie_state state);

/* ---- with the client's lock ---- */
/* The future is done. */
void ties_done(struct quern_future *future);
/* It is released. */
void ties_cut(struct quern_future *future);
/* Wake those for whom something has changed; once the client is over, all of them. */
void watches_tell(struct quern_client *client);
/* Does somebody wait, with a thread or through a descriptor, for an outcome that is not here? */
bool watches_want(struct quern_client *client);

#endif

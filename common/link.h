/*
 * The ZeroMQ link: frames in, frames out, connections that come and go. The one place that includes zmq.h.
 * Knows frames as bytes only, never messages. Each router or dealer belongs to one thread; several may exist in a
 * process, all on the one context of link_context. No call blocks except where it says so.
 * Which libzmq traps are avoided, and how, stands at the top of link.c.
 */
#ifndef QUERN_COMMON_LINK_H
#define QUERN_COMMON_LINK_H

#include "common/bytes.h"
#include "quern/err.h"

/* ================= broker side ================= */

struct router;

enum router_event_kind {
    ROUTER_FRAME,  /* a frame came from conn */
    ROUTER_CLOSED, /* conn is gone (it left, was kicked, broke); no further event of it follows */
};

struct router_event {
    enum router_event_kind kind;
    uint64_t conn;      /* never used twice in the life of the router; never 0 */
    struct bytes frame; /* valid until the next router call */
};

/* urls: "ipc:///path/broker.sock" or "tcp://127.0.0.1:*". An ipc socket is made 0600 in a directory that must be a real
 * directory (lstat) of ours and 0700, else QUERN_DENIED; a lock file beside it (SOCKET.lock, flock) refuses a second
 * broker: QUERN_IN_USE. TCP without encryption only with insecure_tcp, else QUERN_DENIED.
 * *why_out: malloc'd sentence on error, what, where and what to do. */
QUERN_MUST_USE enum quern_err router_open(const char *const *urls, size_t url_count, bool insecure_tcp,
                                          struct router **router_out, char **why_out);
/* Queued frames have a moment to leave (0.2 s at most, waited for as in dealer_close). Removes socket files. */
void router_close(struct router **router);

/* The real address of a listener ("tcp://127.0.0.1:41233"); index 0..url_count-1. */
const char *router_url(const struct router *router, size_t index);

/* File descriptors that become readable when router_next may have something, or some time is over; the same ones for
 * the router's life. After any other call call router_next until it answers false before polling: what arrived
 * meanwhile may have been noticed, and makes nothing readable any more. Returns how many were written. */
#define ROUTER_FD_COUNT_MAX 20u
size_t router_fds(const struct router *router, int fds[ROUTER_FD_COUNT_MAX]);

/* The next event; false if there is none now. Peers on ipc must be of our user or root, others are dropped unseen. */
bool router_next(struct router *router, struct router_event *event_out);

/* Queue one frame; the memory is taken (*frame is empty afterwards). QUERN_CLOSED: conn is gone. QUERN_FULL: the peer
 * does not read and has gone beyond what it gave credit for: it was kicked, ROUTER_CLOSED follows. */
enum quern_err router_send(struct router *router, uint64_t conn, struct buf *frame);

/* Break the connection: ROUTER_CLOSED follows at once, nothing further of it is heard. Frames queued before have a
 * moment to leave, but may be lost: a DENIED before it is a courtesy. */
void router_kick(struct router *router, uint64_t conn);

/* Facts of a connection for texts: "uid 1000 pid 4711" or "10.0.0.7"; never NULL. */
const char *router_peer_text(const struct router *router, uint64_t conn);
/* Not known to be a process of our own user, or root's, on this host. */
bool router_peer_is_remote(const struct router *router, uint64_t conn);

/* ================= client and worker side ================= */

struct dealer;

enum dealer_event_kind {
    DEALER_UP,    /* a fresh connection: say HELLO with the next generation */
    DEALER_FRAME, /* a frame of this connection */
    DEALER_DOWN,  /* the connection is gone; the dealer connects again by itself, with randomised back-off */
};

struct dealer_event {
    enum dealer_event_kind kind;
    struct bytes frame; /* valid until the next dealer call */
    const char *why;    /* DOWN: short reason; valid until the next dealer call */
};

/* urls are tried in turn, starting with the first. Never fails for a broker that is not there: that is DOWN and retry.
 * QUERN_INVALID: no url, or one that is malformed. */
QUERN_MUST_USE enum quern_err dealer_open(const char *const *urls, size_t url_count, struct dealer **dealer_out,
                                          char **why_out);
/* Gives queued frames up to linger_ms to leave; waits for them only if this is the last router or dealer of the
 * process.
 */
void dealer_close(struct dealer **dealer, int linger_ms);

/* As router_fds, also in that they stay the same. Call dealer_next until false before polling, and no later than
 * dealer_wake_ms. */
#define DEALER_FD_COUNT_MAX 2u
size_t dealer_fds(const struct dealer *dealer, int fds[DEALER_FD_COUNT_MAX]);

/* When dealer_next wants to be called again at the latest (connect timeout, back-off), monotonic ms; INT64_MAX none. */
int64_t dealer_wake_ms(const struct dealer *dealer);

bool dealer_next(struct dealer *dealer, struct dealer_event *event_out);

/* Queue one frame on the current connection; the memory is taken. QUERN_CLOSED: there is none (dropped: whoever keeps
 * what it must not lose sends it again after the next WELCOME). */
enum quern_err dealer_send(struct dealer *dealer, struct buf *frame);

/* Drop the connection and connect anew (liveness lost, generation confused); DEALER_DOWN, then DEALER_UP follow.
 * backoff: wait as after a failed attempt. */
void dealer_reconnect(struct dealer *dealer, bool backoff, const char *why);

/* After sending: false: poll will say when dealer_next has something. */
bool dealer_has_input(const struct dealer *dealer);

/* The url in use or tried now. */
const char *dealer_url(const struct dealer *dealer);

/* Default socket: "ipc://$XDG_RUNTIME_DIR/quern/broker.sock", else "ipc:///tmp/quern-UID/broker.sock". malloc'd. */
char *link_default_url(void);
char *link_try_default_url(void); /* NULL: no memory */
/* The directory of the default socket, made 0700 if missing; QUERN_DENIED unless a real directory of ours. */
QUERN_MUST_USE enum quern_err link_default_directory(char **path_out, char **why_out);

/* In a child made by fork() without exec: forget the context (never touch inherited sockets). */
void link_forget_after_fork(void);

#endif

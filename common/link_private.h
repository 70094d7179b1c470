/*
 * What the files of the link share: the context, socket helpers, addresses, claims on socket paths, the guards on
 * accepting and reading. Included by common/link*.c and the test of the link alone. Nothing here includes zmq.h:
 * sockets are void *.
 */
#ifndef QUERN_COMMON_LINK_PRIVATE_H
#define QUERN_COMMON_LINK_PRIVATE_H

#include "common/bytes.h"
#include "quern/err.h"

#include <stdatomic.h>
#include <sys/types.h>

/* ---- context (link.c): one per process, made for its first user, ended with its last ---- */

/* NULL if libzmq cannot make one (descriptors or threads are used up); errno says why. */
void *link_context_hold(void);
/* The last one out waits until closed sockets have lingered. */
void link_context_release(void);

/* ---- sockets (link.c) ---- */

void link_set(void *socket, int option, int value);
/* Options that both ends share: no heartbeats of ZMTP, no limit on reading, a limit on frames, quick handshakes. */
void link_set_common(void *socket, const char *url);
int link_fd(void *socket);
/* Makes libzmq look at its mailbox now; a send alone looks only about once a millisecond. */
void link_refresh(void *socket);
/* The same; true: something can be received. */
bool link_has_input(void *socket);
/* Watch a socket's connections: the reading end, or NULL. events: ZMQ_EVENT_... */
void *link_monitor_open(void *context, void *socket, int events);
/* The next event, false if there is none now. */
bool link_monitor_next(void *monitor, int *event_out, int *value_out);
/* A look at a monitor costs two system calls, and what it has to say keeps its descriptor readable until somebody
 * looks. So it may wait while frames come and go, but not for ever. */
#define MONITOR_WAIT_COUNT_MAX 16u
struct monitor_rest {
    bool has_moved;      /* a frame came or went since the socket was found empty */
    unsigned wait_count; /* in a row */
};
/* The socket was found empty: false: look at its monitor, too. */
bool monitor_may_wait(struct monitor_rest *rest);
/* The descriptor of a connection, if it is local: room for large frames on their way out. It is libzmq's, and may be
 * another's by now, whom it does not harm. */
void link_widen(int fd);
/* Close a socket and its monitor; both may be NULL. */
void link_socket_close(void **socket, void **monitor, int linger_ms);
/* Send the frame as the last part, without copying a large one; the memory is taken. 0, or an errno. */
int link_send(void *socket, struct buf *frame);

/* ---- addresses (link.c) ---- */

enum link_transport { LINK_IPC, LINK_TCP };

/* QUERN_INVALID with a sentence unless "ipc://PATH" or "tcp://HOST:PORT" ("*" as the port only where is_listener). */
QUERN_MUST_USE enum quern_err link_url_check(const char *url, bool is_listener, enum link_transport *transport_out,
                                             char **why_out);
const char *link_url_path(const char *url); /* of an ipc url */
/* A malloc'd sentence. */
char *link_say(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* ---- the claim on a socket path (link_claim.c) ---- */

struct claim {
    int lock_fd; /* -1: none */
    char *path;  /* NULL: none */
};

/* Lock PATH.lock; refuses a directory that others may write, a second broker, and a path that is something else. */
QUERN_MUST_USE enum quern_err claim_take(const char *path, struct claim *claim_out, char **why_out);
/* Removes the socket file, then lets go of the lock. */
void claim_drop(struct claim *claim);
/* A real directory of ours that nobody else may enter? QUERN_DENIED or, if it is not there, QUERN_IO, with a sentence.
 */
QUERN_MUST_USE enum quern_err claim_check_directory(const char *path, char **why_out);

/* ---- the guard on accept (link_accept.c), in the broker alone ---- */

/* Descriptors that connections leave to the store, to libzmq and to the rest of the process. */
#define RESERVED_FD_COUNT 64
/* A connection's descriptor is below this. */
#define GUARDED_FD_COUNT_MAX (CONNECTION_COUNT_MAX + RESERVED_FD_COUNT)

/* Raise the soft limit of descriptors to the hard one and turn connections away before they are used up. */
void accept_guard_arm(void);
/* Connections turned away so far. */
unsigned long accept_guard_refused(void);

/* ---- the guard on reading (link_stream.c), in the broker alone ---- */

enum stream_at { STREAM_GREETING, STREAM_FLAGS, STREAM_SIZE, STREAM_BODY, STREAM_ENDED };

/* How far a connection's bytes have come in ZMTP's framing. */
struct stream {
    ino_t inode; /* of the socket; 0: none that we accepted */
    enum stream_at at;
    uint8_t greeted;   /* bytes of the greeting */
    uint8_t size_left; /* bytes of a size */
    uint64_t left;     /* bytes of a body */
    atomic_bool is_ended;
};

/* How many of the next n bytes libzmq may see; fewer than n: the connection has ended. */
size_t stream_pass(struct stream *stream, const uint8_t *p, size_t n);
/* A connection was accepted on this descriptor. */
void stream_guard_begin(int fd);
/* Was the last one there ended for what it sent? */
bool stream_guard_has_ended(int fd);

#endif

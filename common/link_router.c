/*
 * link_router: the broker's end: listeners, frames in turn, sends that never wait.
 * Must not know what a frame holds; which connection is which is link_peers.c.
 * Start at router_next.
 */
#include "common/link.h"

#include "common/check.h"
#include "common/clock.h"
#include "common/limits.h"
#include "common/link_peers.h"
#include "common/link_private.h"
#include "common/log.h"
#include "common/random.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <unistd.h>
#include <zmq.h>

#define LISTEN_BACKLOG 1024
#define CLOSE_LINGER_MS 200
/* Frames from one listener before the next has its turn. */
#define TURN_FRAME_COUNT_MAX 64u
/* Frames from one listener, which had some all the while, before its monitor is read: somebody may have gone. */
#define UNLOOKED_FRAME_COUNT_MAX 512u
/* Frames dropped in one call of router_next before the caller gets its thread back. */
#define DROP_COUNT_MAX 256u
/* What a flood of strangers could repeat is logged this often. */
#define STRANGER_LOG_MS 10000
/* A routing id that libzmq gave: a zero, and a counter. */
#define ROUTING_ID_SIZE 5u
/* Its name is behind DRAFT in zmq.h, its value is in the manual page of zmq_msg_gets. */
#define PEER_ADDRESS "Peer-Address"

struct listener {
    void *socket;
    void *monitor;
    enum link_transport transport;
    char url[URL_SIZE_MAX + 1]; /* the real one */
    struct claim claim;
    struct monitor_rest rest;
    unsigned unlooked_frame_count; /* since its monitor was read */
};

struct router {
    struct listener listeners[URL_COUNT_MAX];
    size_t listener_count;
    size_t turn;
    unsigned turn_frame_count;
    bool is_unfinished; /* router_next gave up on dropping: come again at once */
    struct peers peers;
    bool has_context;
    int epoll_fd;
    int timer_fd;
    int64_t timer_ms; /* INT64_MAX: not set */
    int64_t refused_log_ms;
    int64_t dropped_log_ms;
    zmq_msg_t frame; /* what the last event looks into */
};

/* ---- opening ---- */

static bool wait_on(struct router *router, int fd)
{
    struct epoll_event event = {.events = EPOLLIN};
    return epoll_ctl(router->epoll_fd, EPOLL_CTL_ADD, fd, &event) == 0;
}

static enum quern_err listener_bind(struct listener *listener, const char *url, char **why_out)
{
    /* The socket file is made by bind() with what the mask leaves. Process-wide, for a moment, and only stricter. */
    mode_t mask = umask(0177);
    int rc = zmq_bind(listener->socket, url);
    int error = errno;
    umask(mask);
    if (rc != 0) {
        *why_out = link_say("cannot listen on %s: %s", url, zmq_strerror(error));
        return error == EADDRINUSE ? QUERN_IN_USE : QUERN_IO;
    }
    size_t size = sizeof listener->url;
    snprintf(listener->url, size, "%s", url);
    if (listener->transport == LINK_TCP) {
        CHECK(zmq_getsockopt(listener->socket, ZMQ_LAST_ENDPOINT, listener->url, &size) == 0);
    }
    return QUERN_OK;
}

static enum quern_err listener_make_socket(struct router *router, void *context, struct listener *listener,
                                           const char *url, char **why_out)
{
    listener->socket = zmq_socket(context, ZMQ_ROUTER);
    if (listener->socket != NULL) {
        link_set_common(listener->socket, url);
        link_set(listener->socket, ZMQ_ROUTER_MANDATORY, 1);
        link_set(listener->socket, ZMQ_ROUTER_HANDOVER, 0);
        link_set(listener->socket, ZMQ_BACKLOG, LISTEN_BACKLOG);
        listener->monitor = link_monitor_open(context, listener->socket,
                                              ZMQ_EVENT_ACCEPTED | ZMQ_EVENT_DISCONNECTED | ZMQ_EVENT_ACCEPT_FAILED);
    }
    if (listener->monitor == NULL || !wait_on(router, link_fd(listener->socket)) ||
        !wait_on(router, link_fd(listener->monitor))) {
        *why_out = link_say("cannot make a socket for %s: %s", url, zmq_strerror(errno));
        return QUERN_IO;
    }
    return QUERN_OK;
}

static enum quern_err listener_open(struct router *router, void *context, const char *url, bool insecure_tcp,
                                    char **why_out)
{
    struct listener *listener = &router->listeners[router->listener_count++];
    listener->claim.lock_fd = -1;
    enum quern_err err = link_url_check(url, true, &listener->transport, why_out);
    if (err != QUERN_OK) {
        return err;
    }
    if (listener->transport == LINK_TCP && !insecure_tcp) {
        *why_out = link_say("%s: TCP is not encrypted yet, and every user who reaches the port could run tasks; "
                            "use an ipc:// address, or allow it with --insecure-tcp",
                            url);
        return QUERN_DENIED;
    }
    if (listener->transport == LINK_IPC) {
        err = claim_take(link_url_path(url), &listener->claim, why_out);
    }
    if (err == QUERN_OK) {
        err = listener_make_socket(router, context, listener, url, why_out);
    }
    return err == QUERN_OK ? listener_bind(listener, url, why_out) : err;
}

static enum quern_err router_prepare(struct router *router, void **context_out, char **why_out)
{
    /* libzmq takes the first routing id from rand(): it must not be one that a peer can know. */
    srand((unsigned)random_u64());
    accept_guard_arm();
    router->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    router->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    *context_out = link_context_hold();
    router->has_context = *context_out != NULL;
    if (router->epoll_fd < 0 || router->timer_fd < 0 || !router->has_context || !wait_on(router, router->timer_fd)) {
        *why_out = link_say("cannot set up the listeners: %s", zmq_strerror(errno));
        return QUERN_IO;
    }
    return QUERN_OK;
}

enum quern_err router_open(const char *const *urls, size_t url_count, bool insecure_tcp, struct router **router_out,
                           char **why_out)
{
    if (url_count == 0 || url_count > URL_COUNT_MAX) {
        *why_out = link_say("a broker listens on 1 to %u addresses, not on %zu", URL_COUNT_MAX, url_count);
        return QUERN_INVALID;
    }
    struct router *router = xcalloc(1, sizeof *router);
    router->timer_ms = INT64_MAX;
    zmq_msg_init(&router->frame);
    void *context = NULL;
    enum quern_err err = router_prepare(router, &context, why_out);
    for (size_t i = 0; err == QUERN_OK && i < url_count; i++) {
        err = listener_open(router, context, urls[i], insecure_tcp, why_out);
    }
    if (err != QUERN_OK) {
        router_close(&router);
        return err;
    }
    *router_out = router;
    return QUERN_OK;
}

static void close_fd(int *fd)
{
    if (*fd >= 0) {
        close(*fd);
        *fd = -1;
    }
}

void router_close(struct router **router_taken)
{
    struct router *router = *router_taken;
    if (router == NULL) {
        return;
    }
    *router_taken = NULL;
    zmq_msg_close(&router->frame);
    close_fd(&router->epoll_fd);
    close_fd(&router->timer_fd);
    for (size_t i = 0; i < router->listener_count; i++) {
        struct listener *listener = &router->listeners[i];
        link_socket_close(&listener->socket, &listener->monitor, CLOSE_LINGER_MS);
    }
    if (router->has_context) {
        link_context_release();
    }
    /* Only now: until the context has ended the old listener may still accept. */
    for (size_t i = 0; i < router->listener_count; i++) {
        claim_drop(&router->listeners[i].claim);
    }
    peers_fini(&router->peers);
    free(router);
}

const char *router_url(const struct router *router, size_t index)
{
    CHECK(index < router->listener_count);
    return router->listeners[index].url;
}

size_t router_fds(const struct router *router, int fds[ROUTER_FD_COUNT_MAX])
{
    fds[0] = router->epoll_fd;
    return 1;
}

/* ---- the timer: kicks that wait for their last words to leave, peers that say nothing ---- */

static void timer_set(struct router *router, int64_t at_ms)
{
    if (at_ms == router->timer_ms) {
        return;
    }
    router->timer_ms = at_ms;
    struct itimerspec spec = {0};
    if (at_ms != INT64_MAX) {
        spec.it_value.tv_sec = at_ms / 1000;
        spec.it_value.tv_nsec = at_ms % 1000 * 1000000 + 1; /* all zero would disarm it */
    }
    CHECK(timerfd_settime(router->timer_fd, TFD_TIMER_ABSTIME, &spec, NULL) == 0);
}

static void timer_run(struct router *router)
{
    if (router->is_unfinished) {
        timer_set(router, clock_mono_ms());
        return;
    }
    if (router->peers.kicked.count == 0 && router->peers.silent.count == 0) {
        timer_set(router, INT64_MAX);
        return;
    }
    int64_t now_ms = clock_mono_ms();
    if (router->timer_ms <= now_ms) {
        router->timer_ms = -1; /* gone off: must be set again, which also clears it */
    }
    timer_set(router, peers_run_due(&router->peers, now_ms));
}

/* ---- what the monitors say ---- */

static bool may_log(int64_t *due_ms)
{
    int64_t now_ms = clock_mono_ms();
    if (now_ms < *due_ms) {
        return false;
    }
    *due_ms = now_ms + STRANGER_LOG_MS;
    return true;
}

static void log_refused(struct router *router, const char *url)
{
    if (may_log(&router->refused_log_ms)) {
        log_event(LOG_WARN, "connections refused", "url=\"%s\" reason=\"descriptors are used up\" count=%lu", url,
                  accept_guard_refused());
    }
}

static void log_disconnected(struct router *router, size_t index, int fd)
{
    if (stream_guard_has_ended(fd) && may_log(&router->dropped_log_ms)) {
        log_event(LOG_WARN, "peer dropped",
                  "url=\"%s\" peer=\"%s\" reason=\"messages of several parts, or not ZMTP 3\"",
                  router->listeners[index].url, peers_text(&router->peers, index, fd));
    }
}

/* Answers whether anything was said. */
static bool monitor_read(struct router *router, size_t index)
{
    struct listener *listener = &router->listeners[index];
    int event = 0;
    int value = 0;
    bool is_news = false;
    listener->unlooked_frame_count = 0;
    while (link_monitor_next(listener->monitor, &event, &value)) {
        is_news = true;
        if (event == ZMQ_EVENT_ACCEPTED) {
            peers_accepted(&router->peers, index, value, clock_mono_ms());
            link_widen(value);
        } else if (event == ZMQ_EVENT_DISCONNECTED) {
            log_disconnected(router, index, value);
            peers_disconnected(&router->peers, index, value);
        } else {
            log_refused(router, listener->url);
        }
    }
    return is_news;
}

/* ---- frames ---- */

/* One part; false if there is none. */
static bool receive(void *socket, zmq_msg_t *msg)
{
    int size = 0;
    do {
        size = zmq_msg_recv(msg, socket, ZMQ_DONTWAIT);
    } while (size < 0 && errno == EINTR);
    CHECK_THAT(size >= 0 || errno == EAGAIN, "%s", zmq_strerror(errno));
    return size >= 0;
}

static void receive_rest(void *socket)
{
    zmq_msg_t part;
    zmq_msg_init(&part);
    bool has_more = true;
    while (has_more && receive(socket, &part)) {
        has_more = zmq_msg_more(&part);
    }
    zmq_msg_close(&part);
}

/* "localhost:UID:GID:PID" as the kernel says it. */
static bool ipc_peer_may(const char *address, char text[PEER_TEXT_SIZE_MAX])
{
    unsigned uid = 0;
    unsigned gid = 0;
    int pid = 0;
    if (address == NULL || sscanf(address, "localhost:%u:%u:%d", &uid, &gid, &pid) != 3) {
        return false;
    }
    snprintf(text, PEER_TEXT_SIZE_MAX, "uid %u pid %d", uid, pid);
    return uid == 0 || uid == geteuid();
}

/* The frame's metadata say where it comes from (they are on the body, not on the routing id). */
static bool peer_may(const struct router *router, const struct listener *listener, char text[PEER_TEXT_SIZE_MAX])
{
    const char *address = zmq_msg_gets(&router->frame, PEER_ADDRESS);
    if (listener->transport == LINK_IPC) {
        return ipc_peer_may(address, text);
    }
    snprintf(text, PEER_TEXT_SIZE_MAX, "%s", address != NULL ? address : "unknown address");
    return true;
}

static struct peer *peer_new(struct router *router, size_t index, bool is_given, uint32_t routing_id)
{
    int fd = zmq_msg_get(&router->frame, ZMQ_SRCFD);
    monitor_read(router, index);
    char text[PEER_TEXT_SIZE_MAX] = "";
    if (!is_given || !peer_may(router, &router->listeners[index], text)) {
        peers_refuse(&router->peers, index, fd);
        return NULL;
    }
    struct peer *peer = peers_add(&router->peers, index, routing_id, fd);
    if (peer != NULL) {
        memcpy(peer->text, text, sizeof text);
        peer->is_remote = router->listeners[index].transport != LINK_IPC;
    }
    return peer;
}

/* Whose frame it is; NULL: nobody's that we talk to. */
static struct peer *peer_of_frame(struct router *router, size_t index, zmq_msg_t *id)
{
    const uint8_t *p = zmq_msg_data(id);
    uint32_t routing_id = 0;
    bool is_given = zmq_msg_size(id) == ROUTING_ID_SIZE && p[0] == 0;
    if (is_given) {
        memcpy(&routing_id, p + 1, sizeof routing_id);
    }
    struct peer *peer = is_given ? peers_find(&router->peers, index, routing_id) : NULL;
    return peer != NULL ? peer : peer_new(router, index, is_given, routing_id);
}

static void peer_error(struct router *router, struct peer *peer)
{
    if (++peer->error_count >= PEER_ERROR_COUNT_MAX) {
        log_event(LOG_WARN, "peer dropped", "peer=\"%s\" reason=\"messages that are not one frame\"", peer->text);
        router_kick(router, peer->conn);
    }
}

enum received { RECEIVED_NOTHING, RECEIVED_DROPPED, RECEIVED_FRAME };

static enum received listener_receive(struct router *router, size_t index, struct router_event *event_out)
{
    void *socket = router->listeners[index].socket;
    zmq_msg_t id;
    zmq_msg_init(&id);
    if (!receive(socket, &id)) {
        zmq_msg_close(&id);
        return RECEIVED_NOTHING;
    }
    CHECK(zmq_msg_more(&id) && receive(socket, &router->frame));
    /* Not several parts, while link_stream.c stands in between; but what if it did not? */
    bool is_whole = !zmq_msg_more(&router->frame) && zmq_msg_size(&router->frame) > 0;
    if (zmq_msg_more(&router->frame)) {
        receive_rest(socket);
    }
    struct peer *peer = peer_of_frame(router, index, &id);
    zmq_msg_close(&id);
    if (++router->listeners[index].unlooked_frame_count >= UNLOOKED_FRAME_COUNT_MAX) {
        monitor_read(router, index);
    }
    if (peer != NULL) {
        peers_heard(&router->peers, peer);
    }
    if (peer == NULL || peer->state == PEER_KICKED) {
        return RECEIVED_DROPPED;
    }
    if (!is_whole) {
        peer_error(router, peer);
        return RECEIVED_DROPPED;
    }
    peer->is_seen = true;
    *event_out = (struct router_event){
        .kind = ROUTER_FRAME,
        .conn = peer->conn,
        .frame = bytes_of(zmq_msg_data(&router->frame), zmq_msg_size(&router->frame)),
    };
    return RECEIVED_FRAME;
}

static void turn_next(struct router *router)
{
    router->turn = (router->turn + 1) % router->listener_count;
    router->turn_frame_count = 0;
}

/* A frame from the listeners in turn; false when all were read to their end, or too much had to be dropped. */
static bool next_frame(struct router *router, struct router_event *event_out)
{
    unsigned dropped_count = 0;
    for (size_t idle_count = 0; idle_count < router->listener_count;) {
        enum received received = listener_receive(router, router->turn, event_out);
        if (received == RECEIVED_FRAME) {
            router->listeners[router->turn].rest.has_moved = true;
            if (++router->turn_frame_count >= TURN_FRAME_COUNT_MAX) {
                turn_next(router);
            }
            return true;
        }
        if (received == RECEIVED_DROPPED) {
            if (++dropped_count >= DROP_COUNT_MAX) {
                router->is_unfinished = true;
                return false;
            }
            continue;
        }
        peers_drained(&router->peers, router->turn);
        if (monitor_may_wait(&router->listeners[router->turn].rest) || !monitor_read(router, router->turn)) {
            turn_next(router);
            idle_count++;
        }
    }
    router->is_unfinished = false;
    return false;
}

static bool next_closed(struct router *router, struct router_event *event_out)
{
    uint64_t conn = peers_next_closed(&router->peers);
    *event_out = (struct router_event){.kind = ROUTER_CLOSED, .conn = conn};
    return conn != 0;
}

bool router_next(struct router *router, struct router_event *event_out)
{
    zmq_msg_close(&router->frame);
    zmq_msg_init(&router->frame);
    if (next_closed(router, event_out) || next_frame(router, event_out) || next_closed(router, event_out)) {
        return true;
    }
    timer_run(router);
    return false;
}

/* ---- sending ---- */

static int send_id(void *socket, uint32_t routing_id)
{
    uint8_t id[ROUTING_ID_SIZE] = {0};
    memcpy(id + 1, &routing_id, sizeof routing_id);
    int rc = 0;
    do {
        rc = zmq_send(socket, id, sizeof id, ZMQ_SNDMORE | ZMQ_DONTWAIT);
    } while (rc < 0 && errno == EINTR);
    return rc < 0 ? errno : 0;
}

enum quern_err router_send(struct router *router, uint64_t conn, struct buf *frame)
{
    struct peer *peer = peers_of_conn(&router->peers, conn);
    if (peer == NULL || peer->state != PEER_OPEN) {
        buf_fini(frame);
        return QUERN_CLOSED;
    }
    void *socket = router->listeners[peer->listener].socket;
    int error = send_id(socket, peer->routing_id);
    if (error == EAGAIN) {
        link_refresh(socket); /* the answer may be a millisecond old */
        error = send_id(socket, peer->routing_id);
    }
    if (error == 0) {
        /* Where to is settled: the frame cannot be refused now, only lost with the connection. */
        CHECK(link_send(socket, frame) == 0);
        router->listeners[peer->listener].rest.has_moved = true;
        return QUERN_OK;
    }
    CHECK_THAT(error == EAGAIN || error == EHOSTUNREACH, "%s", zmq_strerror(error));
    buf_fini(frame);
    if (error == EHOSTUNREACH) {
        return QUERN_CLOSED; /* the monitor knows already */
    }
    router_kick(router, conn);
    peers_shut_down(&router->peers, peer->listener, peer->fd);
    return QUERN_FULL;
}

void router_kick(struct router *router, uint64_t conn)
{
    struct peer *peer = peers_of_conn(&router->peers, conn);
    if (peer != NULL) {
        peers_kick(&router->peers, peer, clock_mono_ms() + PEERS_KICK_GRACE_MS);
    }
}

const char *router_peer_text(const struct router *router, uint64_t conn)
{
    const struct peer *peer = peers_of_conn(&router->peers, conn);
    return peer != NULL ? peer->text : "a connection that is gone";
}

bool router_peer_is_remote(const struct router *router, uint64_t conn)
{
    const struct peer *peer = peers_of_conn(&router->peers, conn);
    return peer == NULL || peer->is_remote;
}

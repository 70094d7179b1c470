/*
 * link_dealer: the client's and worker's end: one connection at a time, each on a fresh socket, and another when it
 * is gone. Must not know what a frame holds.
 * Start at dealer_next.
 *
 * libzmq's own reconnecting is off: a connecting socket that met a protocol error stays dead, and a socket that
 * connects again keeps frames of the old connection. What its monitor says with RECONNECT_IVL -1: CLOSED when
 * connecting failed at once (no such path, refused); HANDSHAKE_SUCCEEDED when the connection really stands;
 * DISCONNECTED when it is gone, also after a frame over the limit; nothing at all when the name of a host is not
 * found, so an attempt has a time limit of its own.
 */
#include "common/link.h"

#include "common/check.h"
#include "common/clock.h"
#include "common/limits.h"
#include "common/link_private.h"
#include "common/random.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>
#include <zmq.h>

#define ATTEMPT_MS_MAX 5000
#define BACKOFF_MS_MIN 50
#define BACKOFF_MS_MAX 2000
/* A connection that lasted this long was a good one: the next attempt comes quickly. */
#define LASTED_MS 2000
#define WHY_SIZE_MAX 128u
#define MONITOR_EVENTS                                                                                                 \
    (ZMQ_EVENT_CONNECTED | ZMQ_EVENT_CLOSED | ZMQ_EVENT_DISCONNECTED | ZMQ_EVENT_HANDSHAKE_SUCCEEDED |                 \
     ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL | ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL | ZMQ_EVENT_HANDSHAKE_FAILED_AUTH)

enum dealer_state {
    DEALER_WAITING,    /* no socket; next attempt at due_ms */
    DEALER_CONNECTING, /* given up at due_ms */
    DEALER_CONNECTED,
};

struct dealer {
    char *urls[URL_COUNT_MAX];
    size_t url_count;
    size_t url_index;
    enum dealer_state state;
    void *context;
    void *socket;
    void *monitor;
    int epoll_fd;
    int64_t due_ms;
    int64_t up_ms;
    unsigned failed_count; /* attempts, or connections that did not last, in a row */
    bool owes_down;        /* UP was told, DOWN not yet */
    bool is_lost;          /* the connection broke; what arrived before may still be read */
    struct monitor_rest rest;
    char why[WHY_SIZE_MAX];
    zmq_msg_t frame;
};

/* ---- opening and closing ---- */

static enum quern_err urls_check(const char *const *urls, size_t url_count, char **why_out)
{
    if (url_count == 0 || url_count > URL_COUNT_MAX) {
        *why_out = link_say("1 to %u addresses of a broker, not %zu", URL_COUNT_MAX, url_count);
        return QUERN_INVALID;
    }
    enum quern_err err = QUERN_OK;
    for (size_t i = 0; err == QUERN_OK && i < url_count; i++) {
        enum link_transport transport;
        err = link_url_check(urls[i], false, &transport, why_out);
    }
    return err;
}

enum quern_err dealer_open(const char *const *urls, size_t url_count, struct dealer **dealer_out, char **why_out)
{
    enum quern_err err = urls_check(urls, url_count, why_out);
    if (err != QUERN_OK) {
        return err;
    }
    struct dealer *dealer = xcalloc(1, sizeof *dealer);
    zmq_msg_init(&dealer->frame);
    for (size_t i = 0; i < url_count; i++) {
        dealer->urls[dealer->url_count++] = xstrdup(urls[i]);
    }
    dealer->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    dealer->context = link_context_hold();
    if (dealer->epoll_fd < 0 || dealer->context == NULL) {
        *why_out = link_say("cannot set up a connection: %s", zmq_strerror(errno));
        dealer_close(&dealer, 0);
        return QUERN_IO;
    }
    *dealer_out = dealer;
    return QUERN_OK;
}

static void stop_waiting_on(struct dealer *dealer, void *socket)
{
    if (socket != NULL) {
        /* The descriptors live on until libzmq has cleaned up in its own time. */
        epoll_ctl(dealer->epoll_fd, EPOLL_CTL_DEL, link_fd(socket), NULL);
    }
}

static void connection_drop(struct dealer *dealer, int linger_ms)
{
    stop_waiting_on(dealer, dealer->socket);
    stop_waiting_on(dealer, dealer->monitor);
    link_socket_close(&dealer->socket, &dealer->monitor, linger_ms);
    dealer->is_lost = false;
}

void dealer_close(struct dealer **dealer_taken, int linger_ms)
{
    struct dealer *dealer = *dealer_taken;
    if (dealer == NULL) {
        return;
    }
    *dealer_taken = NULL;
    zmq_msg_close(&dealer->frame);
    connection_drop(dealer, linger_ms);
    if (dealer->epoll_fd >= 0) {
        close(dealer->epoll_fd);
    }
    if (dealer->context != NULL) {
        link_context_release();
    }
    for (size_t i = 0; i < dealer->url_count; i++) {
        free(dealer->urls[i]);
    }
    free(dealer);
}

size_t dealer_fds(const struct dealer *dealer, int fds[DEALER_FD_COUNT_MAX])
{
    fds[0] = dealer->epoll_fd;
    return 1;
}

int64_t dealer_wake_ms(const struct dealer *dealer)
{
    if (dealer->is_lost || (dealer->owes_down && dealer->state != DEALER_CONNECTED)) {
        return 0; /* DOWN is to be told */
    }
    return dealer->state == DEALER_CONNECTED ? INT64_MAX : dealer->due_ms;
}

const char *dealer_url(const struct dealer *dealer)
{
    return dealer->urls[dealer->url_index];
}

/* ---- attempts ---- */

static int64_t jittered(int64_t ms)
{
    return ms / 2 + (int64_t)(random_u64() % (uint64_t)(ms / 2 + 1));
}

static int64_t backoff_ms(const struct dealer *dealer)
{
    int64_t ms = BACKOFF_MS_MIN;
    for (unsigned i = 0; i < dealer->failed_count && ms < BACKOFF_MS_MAX; i++) {
        ms *= 2;
    }
    return jittered(ms < BACKOFF_MS_MAX ? ms : BACKOFF_MS_MAX);
}

static void wait_then_connect(struct dealer *dealer, int64_t ms)
{
    connection_drop(dealer, 0);
    dealer->state = DEALER_WAITING;
    dealer->due_ms = clock_mono_ms() + ms;
}

/* The other addresses come at once; waiting grows only after all were tried. */
static void attempt_failed(struct dealer *dealer)
{
    int64_t ms = jittered(BACKOFF_MS_MIN);
    if (++dealer->url_index == dealer->url_count) {
        dealer->url_index = 0;
        ms = backoff_ms(dealer);
        dealer->failed_count++;
    }
    wait_then_connect(dealer, ms);
}

static bool wait_on(struct dealer *dealer, void *socket)
{
    struct epoll_event event = {.events = EPOLLIN};
    return epoll_ctl(dealer->epoll_fd, EPOLL_CTL_ADD, link_fd(socket), &event) == 0;
}

static bool attempt_make(struct dealer *dealer)
{
    dealer->socket = zmq_socket(dealer->context, ZMQ_DEALER);
    if (dealer->socket == NULL) {
        return false;
    }
    link_set_common(dealer->socket, dealer_url(dealer));
    link_set(dealer->socket, ZMQ_RECONNECT_IVL, -1);
    link_set(dealer->socket, ZMQ_IMMEDIATE, 1);
    link_set(dealer->socket, ZMQ_CONNECT_TIMEOUT, ATTEMPT_MS_MAX);
    dealer->monitor = link_monitor_open(dealer->context, dealer->socket, MONITOR_EVENTS);
    return dealer->monitor != NULL && wait_on(dealer, dealer->socket) && wait_on(dealer, dealer->monitor) &&
           zmq_connect(dealer->socket, dealer_url(dealer)) == 0;
}

static void attempt_start(struct dealer *dealer)
{
    dealer->state = DEALER_CONNECTING;
    dealer->due_ms = clock_mono_ms() + ATTEMPT_MS_MAX;
    if (!attempt_make(dealer)) {
        attempt_failed(dealer);
    }
}

/* A tcp connect to a free port of this host can meet itself, and DEALER talks to DEALER. */
static bool is_own_echo(int fd)
{
    struct sockaddr_storage here = {0};
    struct sockaddr_storage there = {0};
    socklen_t here_size = sizeof here;
    socklen_t there_size = sizeof there;
    if (getsockname(fd, (struct sockaddr *)&here, &here_size) != 0 ||
        getpeername(fd, (struct sockaddr *)&there, &there_size) != 0) {
        return false;
    }
    return (here.ss_family == AF_INET || here.ss_family == AF_INET6) && here_size == there_size &&
           memcmp(&here, &there, here_size) == 0;
}

/* What the monitor says of an attempt. */
static void attempt_follow(struct dealer *dealer)
{
    int event = 0;
    int value = 0;
    link_refresh(dealer->socket); /* or its descriptor stays readable, and the caller never rests */
    while (dealer->state == DEALER_CONNECTING && link_monitor_next(dealer->monitor, &event, &value)) {
        if (event == ZMQ_EVENT_HANDSHAKE_SUCCEEDED) {
            dealer->state = DEALER_CONNECTED;
            dealer->up_ms = clock_mono_ms();
            link_refresh(dealer->socket); /* so that the first send finds the connection */
        } else if (event != ZMQ_EVENT_CONNECTED || is_own_echo(value)) {
            attempt_failed(dealer);
        } else {
            link_widen(value);
        }
    }
    if (dealer->state == DEALER_CONNECTING && clock_mono_ms() >= dealer->due_ms) {
        attempt_failed(dealer);
    }
}

/* ---- the connection ---- */

static void say_why(struct dealer *dealer, const char *why)
{
    snprintf(dealer->why, sizeof dealer->why, "%s", why);
}

static bool next_frame(struct dealer *dealer, struct dealer_event *event_out)
{
    int size = 0;
    bool is_whole = false;
    while (!is_whole) {
        do {
            size = zmq_msg_recv(&dealer->frame, dealer->socket, ZMQ_DONTWAIT);
        } while (size < 0 && errno == EINTR);
        if (size < 0) {
            CHECK_THAT(errno == EAGAIN, "%s", zmq_strerror(errno));
            return false;
        }
        /* A broker sends neither empty frames nor several parts: such a one is passed over. */
        is_whole = size > 0 && !zmq_msg_more(&dealer->frame);
    }
    *event_out = (struct dealer_event){
        .kind = DEALER_FRAME,
        .frame = bytes_of(zmq_msg_data(&dealer->frame), zmq_msg_size(&dealer->frame)),
    };
    return true;
}

static bool is_gone(struct dealer *dealer)
{
    int event = 0;
    int value = 0;
    while (link_monitor_next(dealer->monitor, &event, &value)) {
        if (event != ZMQ_EVENT_CONNECTED && event != ZMQ_EVENT_HANDSHAKE_SUCCEEDED) {
            dealer->is_lost = true;
            say_why(dealer, "the broker is gone, or broke the connection");
        }
    }
    return dealer->is_lost;
}

static void connection_lost(struct dealer *dealer)
{
    bool has_lasted = clock_mono_ms() - dealer->up_ms >= LASTED_MS;
    dealer->failed_count = has_lasted ? 0 : dealer->failed_count;
    wait_then_connect(dealer, backoff_ms(dealer));
    dealer->failed_count++;
}

/* A frame, or false; then the connection may be lost. */
static bool connected_next(struct dealer *dealer, struct dealer_event *event_out)
{
    if (next_frame(dealer, event_out)) {
        dealer->rest.has_moved = true;
        return true;
    }
    if (!dealer->is_lost && monitor_may_wait(&dealer->rest)) {
        return false;
    }
    /* Gone: once more, for what came in between. */
    if (is_gone(dealer)) {
        if (next_frame(dealer, event_out)) {
            return true;
        }
        connection_lost(dealer);
    }
    return false;
}

static bool down_next(struct dealer *dealer, struct dealer_event *event_out)
{
    dealer->owes_down = false;
    *event_out = (struct dealer_event){.kind = DEALER_DOWN, .why = dealer->why};
    return true;
}

static bool up_next(struct dealer *dealer, struct dealer_event *event_out)
{
    dealer->owes_down = true;
    *event_out = (struct dealer_event){.kind = DEALER_UP};
    return true;
}

bool dealer_next(struct dealer *dealer, struct dealer_event *event_out)
{
    zmq_msg_close(&dealer->frame);
    zmq_msg_init(&dealer->frame);
    if (dealer->state == DEALER_CONNECTED && connected_next(dealer, event_out)) {
        return true;
    }
    if (dealer->state == DEALER_CONNECTED) {
        return false;
    }
    if (dealer->owes_down) {
        return down_next(dealer, event_out);
    }
    if (dealer->state == DEALER_WAITING && clock_mono_ms() >= dealer->due_ms) {
        attempt_start(dealer);
    }
    if (dealer->state == DEALER_CONNECTING) {
        attempt_follow(dealer);
    }
    return dealer->state == DEALER_CONNECTED && up_next(dealer, event_out);
}

enum quern_err dealer_send(struct dealer *dealer, struct buf *frame)
{
    if (dealer->state != DEALER_CONNECTED) {
        buf_fini(frame);
        return QUERN_CLOSED;
    }
    int error = link_send(dealer->socket, frame);
    if (error == 0) {
        dealer->rest.has_moved = true;
        return QUERN_OK;
    }
    CHECK_THAT(error == EAGAIN, "%s", zmq_strerror(error));
    dealer->is_lost = true;
    say_why(dealer, "the broker is gone, or does not read");
    return QUERN_CLOSED;
}

bool dealer_has_input(const struct dealer *dealer)
{
    return dealer->state != DEALER_CONNECTED || dealer->is_lost || link_has_input(dealer->socket);
}

void dealer_reconnect(struct dealer *dealer, bool backoff, const char *why)
{
    if (dealer->state == DEALER_WAITING) {
        return;
    }
    if (dealer->state == DEALER_CONNECTED) {
        say_why(dealer, why);
    }
    if (backoff) {
        wait_then_connect(dealer, backoff_ms(dealer));
        dealer->failed_count++;
    } else {
        wait_then_connect(dealer, jittered(BACKOFF_MS_MIN));
    }
}

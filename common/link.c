/*
 * link: the one ZeroMQ context, and what router and dealer both need: options, monitors, sending, addresses.
 * Must not know what a frame holds.
 * Start at link_context_hold; the broker's end is link_router.c, the other one link_dealer.c.
 *
 * libzmq 4.3.4 has traps, each reproduced; how they are avoided (tests/unit/test_link.c has one test for each):
 *  - A peer may choose a routing id of the form that a ROUTER gives to peers without one; when the counter reaches it,
 *    libzmq aborts. The counter starts from rand(), unseeded: router_open seeds it from the kernel; ids are told to
 *    nobody; a peer that chose an id is thrown out.
 *  - ZMTP heartbeats together with a finite RCVHWM abort either side. No heartbeats (the protocol has its own), and
 *    RCVHWM 0: reading never stops; memory is bounded by credit, and by MAXMSGSIZE for one frame.
 *  - accept() out of descriptors aborts (ipc) or spins (tcp): link_accept.c.
 *  - The parts of a message are kept until its last one comes, without a bound: link_stream.c.
 *  - LINGER does not mean delivery. Nothing rests on it: whoever must not lose a frame keeps it until it is answered.
 *  - A connecting socket that meets a protocol error never connects again, and zmq_connect to the same place then does
 *    nothing and says 0. Every connection of a dealer is a new socket; libzmq's own reconnecting is off.
 *  - Binding an ipc path takes it from whoever has it: link_claim.c.
 *  - A tcp connect to a free local port can meet itself: the dealer compares both ends.
 *  - Zero-copy receiving pins 8 KiB per kept message: off.
 * CURVE's traps belong to the day when encryption comes.
 */
#include "common/link.h"

#include "common/check.h"
#include "common/limits.h"
#include "common/link_private.h"

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include <zmq.h>

#define IO_THREAD_COUNT 1
#define HANDSHAKE_MS 5000
#define SEND_COUNT_MAX 100000
#define COPY_SIZE_MAX 512u
#define KEEPALIVE_IDLE_S 30
#define KEEPALIVE_INTERVAL_S 10
#define KEEPALIVE_COUNT 3
#define TCP_SILENT_MS 20000
/* Its name is behind DRAFT in zmq.h, its code is not. */
#define CONTEXT_ZERO_COPY_RECV 10

static pthread_mutex_t context_lock = PTHREAD_MUTEX_INITIALIZER;
static void *context;
static unsigned context_user_count;

static void *context_new(void)
{
    void *fresh = zmq_ctx_new();
    if (fresh != NULL) {
        CHECK(zmq_ctx_set(fresh, ZMQ_IO_THREADS, IO_THREAD_COUNT) == 0);
        CHECK(zmq_ctx_set(fresh, CONTEXT_ZERO_COPY_RECV, 0) == 0);
    }
    return fresh;
}

void *link_context_hold(void)
{
    pthread_mutex_lock(&context_lock);
    if (context == NULL) {
        context = context_new();
    }
    if (context != NULL) {
        context_user_count++;
    }
    void *held = context;
    pthread_mutex_unlock(&context_lock);
    return held;
}

void link_context_release(void)
{
    pthread_mutex_lock(&context_lock);
    CHECK(context_user_count > 0);
    if (--context_user_count == 0) {
        while (zmq_ctx_term(context) != 0 && errno == EINTR) {
        }
        context = NULL;
    }
    pthread_mutex_unlock(&context_lock);
}

void link_forget_after_fork(void)
{
    /* The thread that held the lock may not exist here. The context's threads do not: it cannot even be ended. */
    pthread_mutex_init(&context_lock, NULL);
    context = NULL;
    context_user_count = 0;
}

void link_set(void *socket, int option, int value)
{
    CHECK_THAT(zmq_setsockopt(socket, option, &value, sizeof value) == 0, "option %d: %s", option,
               zmq_strerror(zmq_errno()));
}

void link_set_common(void *socket, const char *url)
{
    int64_t frame_size_max = FRAME_SIZE_MAX;
    CHECK(zmq_setsockopt(socket, ZMQ_MAXMSGSIZE, &frame_size_max, sizeof frame_size_max) == 0);
    link_set(socket, ZMQ_RCVHWM, 0);
    link_set(socket, ZMQ_SNDHWM, SEND_COUNT_MAX);
    link_set(socket, ZMQ_HANDSHAKE_IVL, HANDSHAKE_MS);
    link_set(socket, ZMQ_LINGER, 0);
    link_set(socket, ZMQ_TCP_KEEPALIVE, 1);
    link_set(socket, ZMQ_TCP_KEEPALIVE_IDLE, KEEPALIVE_IDLE_S);
    link_set(socket, ZMQ_TCP_KEEPALIVE_INTVL, KEEPALIVE_INTERVAL_S);
    link_set(socket, ZMQ_TCP_KEEPALIVE_CNT, KEEPALIVE_COUNT);
    link_set(socket, ZMQ_TCP_MAXRT, TCP_SILENT_MS);
    if (strchr(url, '[') != NULL) {
        link_set(socket, ZMQ_IPV6, 1);
    }
}

int link_fd(void *socket)
{
    int fd = -1;
    size_t size = sizeof fd;
    CHECK(zmq_getsockopt(socket, ZMQ_FD, &fd, &size) == 0);
    return fd;
}

static int link_events(void *socket)
{
    int events = 0;
    size_t size = sizeof events;
    while (zmq_getsockopt(socket, ZMQ_EVENTS, &events, &size) != 0 && errno == EINTR) {
    }
    return events;
}

void link_refresh(void *socket)
{
    (void)link_events(socket);
}

bool link_has_input(void *socket)
{
    return (link_events(socket) & ZMQ_POLLIN) != 0;
}

void link_widen(int fd)
{
    int domain = 0;
    socklen_t domain_size = sizeof domain;
    int size = LOCAL_BUFFER_SIZE;
    if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &domain_size) == 0 && domain == AF_UNIX) {
        (void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
    }
}

void *link_monitor_open(void *zmq_context, void *socket, int events)
{
    static atomic_ulong count;
    char address[64];
    snprintf(address, sizeof address, "inproc://quern-monitor-%lu", atomic_fetch_add(&count, 1));
    void *monitor = NULL;
    if (zmq_socket_monitor(socket, address, events) != 0) {
        return NULL;
    }
    monitor = zmq_socket(zmq_context, ZMQ_PAIR);
    if (monitor == NULL) {
        return NULL;
    }
    /* Without a bound: the I/O thread would wait for us, and we may be waiting for it. Events are counted by accepts,
     * which the guard on accept bounds. */
    link_set(monitor, ZMQ_RCVHWM, 0);
    link_set(monitor, ZMQ_LINGER, 0);
    if (zmq_connect(monitor, address) != 0) {
        zmq_close(monitor);
        return NULL;
    }
    return monitor;
}

static int receive(zmq_msg_t *msg, void *socket)
{
    int size = 0;
    do {
        size = zmq_msg_recv(msg, socket, ZMQ_DONTWAIT);
    } while (size < 0 && errno == EINTR);
    return size;
}

/* An event is two parts: 16 bits of event and 32 bits of value, unaligned; and an address. */
bool link_monitor_next(void *monitor, int *event_out, int *value_out)
{
    zmq_msg_t msg;
    zmq_msg_init(&msg);
    if (receive(&msg, monitor) < 0) {
        zmq_msg_close(&msg);
        return false;
    }
    uint16_t event = 0;
    int32_t value = 0;
    CHECK(zmq_msg_size(&msg) == sizeof event + sizeof value && zmq_msg_more(&msg));
    const uint8_t *p = zmq_msg_data(&msg);
    memcpy(&event, p, sizeof event);
    memcpy(&value, p + sizeof event, sizeof value);
    CHECK(receive(&msg, monitor) >= 0);
    zmq_msg_close(&msg);
    *event_out = event;
    *value_out = value;
    return true;
}

bool monitor_may_wait(struct monitor_rest *rest)
{
    bool may_wait = rest->has_moved && rest->wait_count < MONITOR_WAIT_COUNT_MAX;
    rest->has_moved = false;
    rest->wait_count = may_wait ? rest->wait_count + 1 : 0;
    return may_wait;
}

void link_socket_close(void **socket, void **monitor, int linger_ms)
{
    if (*socket != NULL) {
        zmq_socket_monitor(*socket, NULL, 0);
        link_set(*socket, ZMQ_LINGER, linger_ms);
    }
    if (*monitor != NULL) {
        CHECK(zmq_close(*monitor) == 0);
        *monitor = NULL;
    }
    if (*socket != NULL) {
        CHECK(zmq_close(*socket) == 0);
        *socket = NULL;
    }
}

/* Called by an I/O thread of libzmq. */
static void free_later(void *p, void *hint)
{
    (void)hint;
    free(p);
}

int link_send(void *socket, struct buf *frame)
{
    CHECK_THAT(frame->n > 0 && frame->n <= FRAME_SIZE_MAX, "%zu bytes", frame->n);
    zmq_msg_t msg;
    if (frame->n <= COPY_SIZE_MAX) {
        CHECK(zmq_msg_init_size(&msg, frame->n) == 0);
        memcpy(zmq_msg_data(&msg), frame->p, frame->n);
        buf_fini(frame);
    } else {
        size_t size = 0;
        uint8_t *p = buf_release(frame, &size);
        CHECK(zmq_msg_init_data(&msg, p, size, free_later, NULL) == 0);
    }
    int error = 0;
    do {
        error = zmq_msg_send(&msg, socket, ZMQ_DONTWAIT) < 0 ? errno : 0;
        if (error == EAGAIN) {
            link_refresh(socket);
            error = zmq_msg_send(&msg, socket, ZMQ_DONTWAIT) < 0 ? errno : 0;
        }
    } while (error == EINTR);
    if (error != 0) {
        zmq_msg_close(&msg);
    }
    return error;
}

char *link_say(const char *format, ...)
{
    char *text = NULL;
    va_list args;
    va_start(args, format);
    int size = vasprintf(&text, format, args);
    va_end(args);
    CHECK(size >= 0);
    return text;
}

const char *link_url_path(const char *url)
{
    return url + strlen("ipc://");
}

static enum quern_err tcp_check(const char *url, bool is_listener, char **why_out)
{
    const char *host = url + strlen("tcp://");
    const char *colon = strrchr(host, ':');
    if (colon == NULL || colon == host) {
        *why_out = link_say("%s: an address is tcp://HOST:PORT", url);
        return QUERN_INVALID;
    }
    const char *port = colon + 1;
    if (is_listener && strcmp(port, "*") == 0) {
        return QUERN_OK;
    }
    unsigned long number = strspn(port, "0123456789") == strlen(port) ? strtoul(port, NULL, 10) : 0;
    if (number == 0 || number > UINT16_MAX) {
        *why_out = link_say("%s: the port is not a number from 1 to 65535%s", url, is_listener ? ", nor *" : "");
        return QUERN_INVALID;
    }
    return QUERN_OK;
}

static enum quern_err ipc_check(const char *url, char **why_out)
{
    const char *path = link_url_path(url);
    size_t path_size_max = sizeof((struct sockaddr_un *)NULL)->sun_path - 1;
    if (path[0] == '\0' || path[0] == '@' || path[0] == '*') {
        *why_out = link_say("%s: an address is ipc://PATH with the path of a socket file", url);
        return QUERN_INVALID;
    }
    if (strlen(path) > path_size_max) {
        *why_out = link_say("%s: the path of a socket may have %zu bytes, this one has %zu; choose a shorter one", url,
                            path_size_max, strlen(path));
        return QUERN_INVALID;
    }
    return QUERN_OK;
}

enum quern_err link_url_check(const char *url, bool is_listener, enum link_transport *transport_out, char **why_out)
{
    if (strlen(url) > URL_SIZE_MAX) {
        *why_out = link_say("an address may have %u bytes, this one has %zu", URL_SIZE_MAX, strlen(url));
        return QUERN_INVALID;
    }
    if (strncmp(url, "ipc://", strlen("ipc://")) == 0) {
        *transport_out = LINK_IPC;
        return ipc_check(url, why_out);
    }
    if (strncmp(url, "tcp://", strlen("tcp://")) == 0) {
        *transport_out = LINK_TCP;
        return tcp_check(url, is_listener, why_out);
    }
    *why_out = link_say("\"%s\": an address is ipc://PATH or tcp://HOST:PORT", url);
    return QUERN_INVALID;
}

/* What stands before and behind the default directory. NULL: no memory. */
static char *default_place(const char *before, const char *behind)
{
    const char *runtime = getenv("XDG_RUNTIME_DIR");
    char *place = NULL;
    int size = runtime != NULL && runtime[0] == '/'
                   ? asprintf(&place, "%s%s/quern%s", before, runtime, behind)
                   : asprintf(&place, "%s/tmp/quern-%u%s", before, (unsigned)geteuid(), behind);
    return size < 0 ? NULL : place;
}

char *link_try_default_url(void)
{
    return default_place("ipc://", "/broker.sock");
}

char *link_default_url(void)
{
    char *url = link_try_default_url();
    CHECK_THAT(url != NULL, "memory is used up");
    return url;
}

enum quern_err link_default_directory(char **path_out, char **why_out)
{
    char *path = default_place("", "");
    CHECK_THAT(path != NULL, "memory is used up");
    if (mkdir(path, 0700) != 0 && errno != EEXIST) {
        *why_out = link_say("cannot make the directory %s: %s", path, strerror(errno));
        free(path);
        return QUERN_IO;
    }
    enum quern_err err = claim_check_directory(path, why_out);
    if (err != QUERN_OK) {
        free(path);
        return err;
    }
    *path_out = path;
    return QUERN_OK;
}

/*
 * A router and a dealer in one thread, and all that they said: for tests of the link. Checks of every router event:
 * nothing comes from a connection after its CLOSED, CLOSED comes once, and only of connections that were heard.
 */
#ifndef QUERN_TESTS_LINK_WORLD_H
#define QUERN_TESTS_LINK_WORLD_H

#include "common/bytes.h"
#include "common/check.h"
#include "common/clock.h"
#include "common/link.h"
#include "common/map.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define WORLD_MS_MAX 60000

struct world {
    char directory[64];
    char url[128];
    struct router *router; /* may be NULL */
    struct dealer *dealer; /* may be NULL */
    char *why;             /* of a refused open */
    bool is_echo;          /* every frame is answered with itself */
    /* what the router said */
    struct map conns; /* conn → &conn_open or &conn_closed */
    unsigned heard_count;
    unsigned closed_count;
    uint64_t conn; /* of the last frame */
    struct buf heard;
    /* what the dealer said */
    unsigned up_count;
    unsigned down_count;
    unsigned frame_count;
    struct buf frame;
    char down_why[128];
};

static char conn_open;
static char conn_closed;

static inline void world_init(struct world *world)
{
    *world = (struct world){0};
    snprintf(world->directory, sizeof world->directory, "/tmp/quern-link-XXXXXX");
    CHECK(mkdtemp(world->directory) != NULL);
    snprintf(world->url, sizeof world->url, "ipc://%s/broker.sock", world->directory);
}

static inline enum quern_err world_try_router(struct world *world, const char *url, bool insecure_tcp,
                                              struct router **router_out)
{
    free(world->why);
    world->why = NULL;
    return router_open(&url, 1, insecure_tcp, router_out, &world->why);
}

static inline void world_open_router(struct world *world)
{
    CHECK_THAT(world_try_router(world, world->url, false, &world->router) == QUERN_OK, "%s", world->why);
}

static inline void world_open_dealer(struct world *world, const char *url)
{
    char *why = NULL;
    CHECK_THAT(dealer_open(&url, 1, &world->dealer, &why) == QUERN_OK, "%s", why);
}

static inline void world_fini(struct world *world)
{
    dealer_close(&world->dealer, 0);
    router_close(&world->router);
    map_fini(&world->conns);
    buf_fini(&world->heard);
    buf_fini(&world->frame);
    free(world->why);
    char path[128];
    snprintf(path, sizeof path, "%s/broker.sock.lock", world->directory);
    unlink(path);
    snprintf(path, sizeof path, "%s/broker.sock", world->directory);
    unlink(path);
    rmdir(world->directory);
}

static inline struct buf frame_of(const char *text)
{
    struct buf frame = {0};
    buf_put(&frame, text, strlen(text));
    return frame;
}

static inline void world_take_router_event(struct world *world, const struct router_event *event)
{
    void *known = map_get(&world->conns, event->conn);
    CHECK_THAT(known != &conn_closed, "an event of closed conn %lu", event->conn);
    if (event->kind == ROUTER_CLOSED) {
        CHECK_THAT(known == &conn_open, "CLOSED of conn %lu, never heard of", event->conn);
        map_put(&world->conns, event->conn, &conn_closed);
        world->closed_count++;
        return;
    }
    map_put(&world->conns, event->conn, &conn_open);
    world->heard_count++;
    world->conn = event->conn;
    world->heard.n = 0;
    buf_put(&world->heard, event->frame.p, event->frame.n);
    if (world->is_echo) {
        struct buf echo = {0};
        buf_put(&echo, event->frame.p, event->frame.n);
        (void)router_send(world->router, event->conn, &echo);
    }
}

static inline void world_take_dealer_event(struct world *world, const struct dealer_event *event)
{
    switch (event->kind) {
    case DEALER_UP:
        CHECK(world->up_count == world->down_count);
        world->up_count++;
        break;
    case DEALER_DOWN:
        CHECK(world->up_count == world->down_count + 1);
        world->down_count++;
        snprintf(world->down_why, sizeof world->down_why, "%s", event->why);
        break;
    case DEALER_FRAME:
        CHECK(world->up_count == world->down_count + 1);
        world->frame_count++;
        world->frame.n = 0;
        buf_put(&world->frame, event->frame.p, event->frame.n);
        break;
    }
}

/* Take all events that are there. */
static inline void world_take(struct world *world)
{
    struct router_event heard;
    while (world->router != NULL && router_next(world->router, &heard)) {
        world_take_router_event(world, &heard);
    }
    struct dealer_event told;
    while (world->dealer != NULL && dealer_next(world->dealer, &told)) {
        world_take_dealer_event(world, &told);
    }
}

/* Wait for others, as a program would: on the descriptors, and no longer than the dealer allows. */
static inline void world_wait(const struct world *world, int64_t ms)
{
    struct pollfd polled[ROUTER_FD_COUNT_MAX + DEALER_FD_COUNT_MAX];
    int fds[ROUTER_FD_COUNT_MAX + DEALER_FD_COUNT_MAX];
    size_t count = world->router != NULL ? router_fds(world->router, fds) : 0;
    if (world->dealer != NULL) {
        count += dealer_fds(world->dealer, fds + count);
        int64_t left_ms = dealer_wake_ms(world->dealer) - clock_mono_ms();
        ms = left_ms < ms ? left_ms : ms;
    }
    for (size_t i = 0; i < count; i++) {
        polled[i] = (struct pollfd){.fd = fds[i], .events = POLLIN};
    }
    poll(polled, count, ms > 0 ? (int)ms : 0);
}

/* Go on until the fact is true. A wake-up that is missed shows as a time-out. */
#define UNTIL(world, fact) UNTIL_EVERY(WORLD_MS_MAX, world, fact)
/* The same for a fact outside the world: nothing wakes us when it comes true. */
#define UNTIL_OUTSIDE(world, fact) UNTIL_EVERY(5, world, fact)
#define UNTIL_EVERY(ms, world, fact)                                                                                   \
    do {                                                                                                               \
        int64_t until_ms = clock_mono_ms() + WORLD_MS_MAX;                                                             \
        for (world_take(world); !(fact); world_take(world)) {                                                          \
            CHECK_THAT(clock_mono_ms() < until_ms, "waited %d ms for: %s", WORLD_MS_MAX, #fact);                       \
            world_wait(world, ms);                                                                                     \
        }                                                                                                              \
    } while (0)

/* One frame from the dealer to the router and back. */
static inline void world_check_echo(struct world *world, const char *text)
{
    world->is_echo = true;
    unsigned frame_count = world->frame_count;
    struct buf frame = frame_of(text);
    CHECK(dealer_send(world->dealer, &frame) == QUERN_OK);
    UNTIL(world, world->frame_count == frame_count + 1);
    CHECK(bytes_is(buf_bytes(&world->frame), text));
}

/* What the tests of a program share. */
static struct world *world;

static inline int setup(void **state)
{
    (void)state;
    world = xcalloc(1, sizeof *world);
    world_init(world);
    return 0;
}

static inline int teardown(void **state)
{
    (void)state;
    world_fini(world);
    free(world);
    return 0;
}

/* ---- a broker in a process of its own ---- */

struct broker {
    pid_t pid;
    int out; /* the broker's addresses come here */
};

/* What the program does when it is started as a broker: echo until it is killed. */
__attribute__((noreturn)) static inline void broker_run(const char *const *urls, size_t url_count)
{
    struct world child = {.is_echo = true};
    char *why = NULL;
    CHECK(prctl(PR_SET_PDEATHSIG, SIGKILL) == 0);
    CHECK_THAT(router_open(urls, url_count, true, &child.router, &why) == QUERN_OK, "%s", why);
    for (size_t i = 0; i < url_count; i++) {
        dprintf(STDOUT_FILENO, "%s\n", router_url(child.router, i));
    }
    for (;;) {
        world_take(&child);
        world_wait(&child, WORLD_MS_MAX);
    }
}

/* descriptor_max 0: as many as there are. The program starts itself anew: threads of libzmq do not survive a fork. */
static inline struct broker broker_start(const char *const *urls, size_t url_count, unsigned descriptor_max)
{
    char self[4096] = "";
    CHECK(readlink("/proc/self/exe", self, sizeof self - 1) > 0);
    char number[16];
    snprintf(number, sizeof number, "%u", descriptor_max);
    const char *argv[4 + 4] = {self, "--broker", number};
    CHECK(url_count <= 4);
    memcpy(argv + 3, urls, url_count * sizeof *urls);
    int out[2];
    assert_int_equal(pipe2(out, O_CLOEXEC), 0);
    struct broker broker = {.pid = fork(), .out = out[0]};
    assert_true(broker.pid >= 0);
    if (broker.pid == 0) {
        const struct rlimit none = {0, 0};
        setrlimit(RLIMIT_CORE, &none);
        signal(SIGABRT, SIG_DFL);
        dup2(out[1], STDOUT_FILENO);
        execv(argv[0], (char *const *)(uintptr_t)argv);
        _exit(127);
    }
    close(out[1]);
    return broker;
}

/* main of a test of the link: "--broker DESCRIPTORS URL..." or a pattern of test names. */
static inline void link_main(int argc, char **argv)
{
    if (argc > 3 && strcmp(argv[1], "--broker") == 0) {
        rlim_t descriptor_max = strtoul(argv[2], NULL, 10);
        const struct rlimit limit = {descriptor_max, descriptor_max};
        CHECK(descriptor_max == 0 || setrlimit(RLIMIT_NOFILE, &limit) == 0);
        broker_run((const char *const *)(uintptr_t)(argv + 3), (size_t)argc - 3);
    }
    if (argc > 1) {
        cmocka_set_test_filter(argv[1]);
    }
    signal(SIGPIPE, SIG_IGN);
}

/* The broker's index-th address, once it listens. */
static inline void broker_url(const struct broker *broker, char *url, size_t size)
{
    size_t at = 0;
    while (at + 1 < size && read(broker->out, url + at, 1) == 1 && url[at] != '\n') {
        at++;
    }
    url[at] = '\0';
    assert_true(at > 0);
}

static inline void broker_kill(struct broker *broker)
{
    int status = 0;
    assert_int_equal(waitpid(broker->pid, &status, WNOHANG), 0); /* it lived until now */
    kill(broker->pid, SIGKILL);
    assert_int_equal(waitpid(broker->pid, &status, 0), broker->pid);
    close(broker->out);
}

#endif

/*
 * The link and peers that do not behave: the traps of libzmq 4.3.4 (the list is at the head of common/link.c),
 * strangers, rubbish, floods.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/limits.h"
#include "tests/unit/link_world.h"
#include "tests/unit/zmtp_peer.h"

#include <fcntl.h>
#include <grp.h>
#include <pthread.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

/* Trap: a ROUTER names peers without a routing id 00 and a counter, which starts at the same place in every process;
 * a peer that chose the next name makes it abort. */
static void test_a_peer_that_guesses_the_next_routing_id_does_not_kill_the_broker(void **state)
{
    (void)state;
    const char *urls[] = {world->url};
    char url[128];
    struct broker broker = broker_start(urls, 1, 0);
    broker_url(&broker, url, sizeof url);
    int peers[64];
    for (uint32_t i = 0; i < 64; i++) {
        const uint32_t guess = 0x6b8b4567u + i;
        const uint8_t id[5] = {0, (uint8_t)(guess >> 24), (uint8_t)(guess >> 16), (uint8_t)(guess >> 8),
                               (uint8_t)guess};
        peers[i] = zmtp_connect(url, id, sizeof id);
        assert_true(peers[i] >= 0);
    }
    world_open_dealer(world, url);
    for (unsigned i = 1; i <= 8; i++) {
        UNTIL(world, world->up_count == i);
        world_check_echo(world, "hello");
        dealer_reconnect(world->dealer, false, "once more");
    }
    for (unsigned i = 0; i < 64; i++) {
        close(peers[i]);
    }
    broker_kill(&broker);
}

static void test_a_peer_with_a_routing_id_of_its_own_is_thrown_out(void **state)
{
    (void)state;
    world_open_router(world);
    const char *ids[] = {"x", "admin", "four", "a longer one"};
    for (unsigned i = 0; i < 4; i++) {
        int peer = zmtp_connect(world->url, ids[i], (uint8_t)strlen(ids[i]));
        assert_true(peer >= 0);
        assert_true(zmtp_send(peer, 0, "hi", 2));
        struct pollfd polled = {.fd = peer, .events = POLLRDHUP};
        UNTIL_OUTSIDE(world, poll(&polled, 1, 0) == 1);
        assert_true(zmtp_reads_end(peer));
        close(peer);
    }
    assert_int_equal(world->heard_count + world->closed_count, 0);
}

/* Trap: PINGs and a burst beyond the bound on reading, then an immediate close, abort a ROUTER with default options. */
static void test_a_burst_and_an_immediate_close_lose_nothing(void **state)
{
    (void)state;
    static uint8_t burst[1200 * 3 + 60 * 12];
    size_t size = 0;
    for (unsigned i = 0; i < 1200; i++) {
        size += zmtp_frame(burst + size, 0, "x", 1);
        if (i % 20 == 0) {
            size += zmtp_frame(burst + size, ZMTP_COMMAND, "\x04PING\x00\x01zz", 9);
        }
    }
    world_open_router(world);
    for (unsigned i = 1; i <= 20; i++) {
        int peer = zmtp_connect(world->url, NULL, 0);
        assert_true(peer >= 0);
        assert_true(zmtp_write(peer, burst, size));
        close(peer);
        UNTIL(world, world->closed_count == i);
    }
    assert_int_equal(world->heard_count, 20 * 1200);
    world_open_dealer(world, world->url);
    UNTIL(world, world->up_count == 1);
    world_check_echo(world, "hello");
}

static void test_empty_messages_are_dropped_and_then_the_peer(void **state)
{
    (void)state;
    world_open_router(world);
    int peer = zmtp_connect(world->url, NULL, 0);
    assert_true(peer >= 0);
    assert_true(zmtp_send(peer, 0, "good", 4));
    for (unsigned i = 0; i < PEER_ERROR_COUNT_MAX; i++) {
        if (i == PEER_ERROR_COUNT_MAX / 2) {
            assert_true(zmtp_send(peer, 0, "still good", 10));
            UNTIL(world, world->heard_count == 2);
        }
        assert_true(zmtp_send(peer, 0, NULL, 0));
    }
    UNTIL(world, world->closed_count == 1);
    assert_true(bytes_is(buf_bytes(&world->heard), "still good"));
    struct pollfd polled = {.fd = peer, .events = POLLRDHUP};
    UNTIL_OUTSIDE(world, poll(&polled, 1, 0) == 1);
    assert_true(zmtp_reads_end(peer));
    close(peer);
}

/* Trap: parts are kept until the last one comes, without a bound, and seen by nobody. */
static void test_the_first_part_of_several_ends_its_connection_and_no_other(void **state)
{
    (void)state;
    world_open_router(world);
    world_open_dealer(world, world->url);
    UNTIL(world, world->up_count == 1);
    world_check_echo(world, "hello");
    for (unsigned i = 1; i <= 20; i++) {
        int peer = zmtp_connect(world->url, NULL, 0);
        assert_true(peer >= 0);
        uint8_t bytes[64];
        size_t size = zmtp_frame(bytes, 0, "whole", 5);
        size += zmtp_frame(bytes + size, ZMTP_MORE, "one of", 6);
        size += zmtp_frame(bytes + size, 0, "two", 3);
        assert_true(zmtp_write(peer, bytes, size));
        assert_true(zmtp_reads_end(peer));
        UNTIL(world, world->closed_count == i);
        assert_int_equal(world->heard_count, 1 + i);
        assert_true(bytes_is(buf_bytes(&world->heard), "whole"));
        close(peer);
    }
    world_check_echo(world, "hello");
    assert_int_equal(world->up_count, 1);
}

static void test_a_peer_heard_only_with_rubbish_is_never_spoken_of(void **state)
{
    (void)state;
    world_open_router(world);
    int peer = zmtp_connect(world->url, NULL, 0);
    assert_true(peer >= 0);
    for (unsigned i = 0; i < PEER_ERROR_COUNT_MAX; i++) {
        assert_true(zmtp_send(peer, 0, NULL, 0));
    }
    struct pollfd polled = {.fd = peer, .events = POLLRDHUP};
    UNTIL_OUTSIDE(world, poll(&polled, 1, 0) == 1);
    close(peer);
    world_open_dealer(world, world->url);
    UNTIL(world, world->up_count == 1);
    world_check_echo(world, "hello");
    assert_int_equal(world->heard_count, 1);
    assert_int_equal(world->closed_count, 0);
}

static void test_a_frame_over_the_limit_ends_only_its_own_connection(void **state)
{
    (void)state;
    world_open_router(world);
    world_open_dealer(world, world->url);
    UNTIL(world, world->up_count == 1);
    int peer = zmtp_connect(world->url, NULL, 0);
    assert_true(peer >= 0);
    assert_true(zmtp_send(peer, 0, "good", 4));
    UNTIL(world, world->heard_count == 1);
    assert_true(zmtp_send_head(peer, FRAME_SIZE_MAX + 1ull));
    assert_true(zmtp_reads_end(peer));
    close(peer);
    UNTIL(world, world->closed_count == 1);
    assert_int_equal(world->heard_count, 1);
    world_check_echo(world, "hello");
    assert_int_equal(world->up_count, 1);
}

static int accept_as_router(int listener)
{
    struct pollfd polled = {.fd = listener, .events = POLLIN};
    UNTIL_OUTSIDE(world, poll(&polled, 1, 0) == 1);
    int fd = accept(listener, NULL, NULL);
    assert_true(fd >= 0);
    zmtp_limit_reads(fd);
    assert_true(zmtp_handshake(fd, "ROUTER", NULL, 0));
    return fd;
}

/* Trap: a connecting socket that meets a protocol error never connects again. */
static void test_a_frame_over_the_limit_does_not_leave_the_dealer_dead(void **state)
{
    (void)state;
    int listener = zmtp_listen(world->url);
    assert_true(listener >= 0);
    world_open_dealer(world, world->url);
    for (unsigned i = 1; i <= 3; i++) {
        int fd = accept_as_router(listener);
        UNTIL(world, world->up_count == i);
        assert_true(zmtp_send(fd, 0, "hi", 2));
        UNTIL(world, world->frame_count == i);
        assert_true(zmtp_send_head(fd, FRAME_SIZE_MAX + 1ull));
        UNTIL(world, world->down_count == i);
        close(fd);
    }
    close(listener);
}

/* UP must mean that the other side speaks ZMTP, not only that something accepted. */
static void test_a_listener_that_breaks_off_is_never_up(void **state)
{
    (void)state;
    int listener = zmtp_listen(world->url);
    assert_true(listener >= 0);
    world_open_dealer(world, world->url);
    for (unsigned i = 0; i < 4; i++) {
        struct pollfd polled = {.fd = listener, .events = POLLIN};
        UNTIL_OUTSIDE(world, poll(&polled, 1, 0) == 1);
        int fd = accept(listener, NULL, NULL);
        assert_true(fd >= 0);
        if (i % 2 == 1) {
            assert_true(zmtp_write(fd, "HTTP/1.0 400 what?\r\n\r\n", 22));
        }
        close(fd);
    }
    assert_int_equal(world->up_count, 0);
    int fd = accept_as_router(listener);
    UNTIL(world, world->up_count == 1);
    close(fd);
    close(listener);
}

/* A listener that never speaks: the caller must rest meanwhile, not spin on a descriptor that stays readable. */
static void test_waiting_for_a_handshake_does_not_spin(void **state)
{
    (void)state;
    int listener = zmtp_listen(world->url);
    assert_true(listener >= 0);
    world_open_dealer(world, world->url);
    UNTIL_OUTSIDE(world, poll(&(struct pollfd){.fd = listener, .events = POLLIN}, 1, 0) == 1);
    int64_t end_ms = clock_mono_ms() + 200;
    unsigned turn_count = 0;
    while (clock_mono_ms() < end_ms) {
        world_take(world);
        world_wait(world, 50);
        turn_count++;
    }
    assert_true(turn_count < 20);
    close(listener);
}

static void test_random_bytes_harm_nobody(void **state)
{
    (void)state;
    unsigned seed = (unsigned)getpid();
    print_message("seed %u\n", seed);
    world_open_router(world);
    world_open_dealer(world, world->url);
    UNTIL(world, world->up_count == 1);
    for (unsigned i = 0; i < 200; i++) {
        uint8_t bytes[256];
        for (size_t at = 0; at < sizeof bytes; at++) {
            bytes[at] = (uint8_t)rand_r(&seed);
        }
        int peer = i % 2 == 0 ? zmtp_dial(world->url) : zmtp_connect(world->url, NULL, 0);
        assert_true(peer >= 0);
        (void)zmtp_write(peer, bytes, sizeof bytes);
        close(peer);
        world_take(world);
    }
    world_check_echo(world, "hello");
    assert_int_equal(world->up_count, 1);
}

/* A peer that does not read goes beyond every credit: it is dropped, the caller never waits, others go on. */
static void test_a_peer_that_does_not_read_is_dropped(void **state)
{
    (void)state;
    world_open_router(world);
    world_open_dealer(world, world->url);
    UNTIL(world, world->up_count == 1);
    int peer = zmtp_connect(world->url, NULL, 0);
    assert_true(peer >= 0);
    assert_true(zmtp_send(peer, 0, "hi", 2));
    UNTIL(world, world->heard_count == 1);
    uint64_t conn = world->conn;
    enum quern_err err = QUERN_OK;
    unsigned sent_count = 0;
    while (err == QUERN_OK) {
        struct buf frame = frame_of("0123456789012345678901234567890123456789");
        err = router_send(world->router, conn, &frame);
        assert_true(++sent_count < 1000000);
    }
    assert_int_equal(err, QUERN_FULL);
    assert_true(sent_count > 50000);
    UNTIL(world, world->closed_count == 1);
    world_check_echo(world, "hello");
    assert_int_equal(world->up_count, 1);
    close(peer);
}

static int connect_as_nobody(void)
{
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        if (setgroups(0, NULL) != 0 || setgid(65534) != 0 || setuid(65534) != 0) {
            _exit(2);
        }
        int peer = zmtp_connect(world->url, NULL, 0);
        _exit(peer >= 0 && zmtp_send(peer, 0, "hi", 2) && zmtp_reads_end(peer) ? 0 : 1);
    }
    return pid;
}

static void test_a_peer_of_another_user_is_thrown_out(void **state)
{
    (void)state;
    if (geteuid() != 0) {
        print_message("only root can be another user\n");
        skip();
    }
    world_open_router(world);
    /* The directory keeps others out; should it be opened later, the link still does. */
    assert_int_equal(chmod(world->directory, 0755), 0);
    assert_int_equal(chmod(world->url + strlen("ipc://"), 0666), 0);
    pid_t pid = connect_as_nobody();
    int status = 0;
    UNTIL_OUTSIDE(world, waitpid(pid, &status, WNOHANG) == pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    assert_int_equal(world->heard_count + world->closed_count, 0);
}

/* After a flood a descriptor's former connection may not have been heard to its end: then the new one is broken off and
 * comes back, and who speaks says it again. */
static void check_echo_at_last(const char *text)
{
    world->is_echo = true;
    while (world->frame_count == 0) {
        UNTIL(world, world->up_count > world->down_count);
        unsigned up_count = world->up_count;
        struct buf frame = frame_of(text);
        (void)dealer_send(world->dealer, &frame);
        UNTIL(world, world->frame_count > 0 || world->down_count == up_count);
    }
    assert_true(bytes_is(buf_bytes(&world->frame), text));
    world->frame_count = 0;
}

/* Trap: out of descriptors, an ipc listener aborts and a tcp listener spins. */
static void test_more_connections_than_descriptors_do_not_kill_the_broker(void **state)
{
    (void)state;
    enum { FLOOD = 400, DESCRIPTORS = 160 };
    const char *urls[] = {world->url, "tcp://127.0.0.1:*"};
    char ipc_url[128];
    char tcp_url[128];
    struct broker broker = broker_start(urls, 2, DESCRIPTORS);
    broker_url(&broker, ipc_url, sizeof ipc_url);
    broker_url(&broker, tcp_url, sizeof tcp_url);
    static int flood[FLOOD];
    unsigned refused_count = 0;
    for (unsigned round = 0; round < 3; round++) {
        for (unsigned i = 0; i < FLOOD; i++) {
            flood[i] = zmtp_connect(ipc_url, NULL, 0);
            refused_count += flood[i] < 0;
        }
        for (unsigned i = 0; i < FLOOD; i++) {
            if (flood[i] >= 0) {
                close(flood[i]);
            }
        }
    }
    assert_true(refused_count > FLOOD);
    const char *back[] = {ipc_url, tcp_url};
    for (unsigned i = 0; i < 2; i++) {
        world_open_dealer(world, back[i]);
        check_echo_at_last("hello");
        dealer_close(&world->dealer, 0);
        world->down_count++;
    }
    broker_kill(&broker);
}

#define test(name) cmocka_unit_test_setup_teardown(test_##name, setup, teardown)

int main(int argc, char **argv)
{
    link_main(argc, argv);
    const struct CMUnitTest tests[] = {
        test(a_peer_that_guesses_the_next_routing_id_does_not_kill_the_broker),
        test(a_peer_with_a_routing_id_of_its_own_is_thrown_out),
        test(a_burst_and_an_immediate_close_lose_nothing),
        test(empty_messages_are_dropped_and_then_the_peer),
        test(the_first_part_of_several_ends_its_connection_and_no_other),
        test(a_peer_heard_only_with_rubbish_is_never_spoken_of),
        test(a_frame_over_the_limit_ends_only_its_own_connection),
        test(a_frame_over_the_limit_does_not_leave_the_dealer_dead),
        test(a_listener_that_breaks_off_is_never_up),
        test(waiting_for_a_handshake_does_not_spin),
        test(random_bytes_harm_nobody),
        test(a_peer_that_does_not_read_is_dropped),
        test(a_peer_of_another_user_is_thrown_out),
        test(more_connections_than_descriptors_do_not_kill_the_broker),
    };
    return cmocka_run_group_tests_name("link hostile", tests, NULL, NULL);
}

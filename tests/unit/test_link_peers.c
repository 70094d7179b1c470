/*
 * Which connection is which: a monitor's events and first frames in every order that two sockets can bring them, and
 * descriptors that are used again. No ZeroMQ here.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/check.h"
#include "common/link_peers.h"

#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

static struct peers *peers;
static int pair[2]; /* a connection: pair[0] is the broker's end */

static int setup(void **state)
{
    (void)state;
    peers = xcalloc(1, sizeof *peers);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    peers_fini(peers);
    free(peers);
    close(pair[0]);
    close(pair[1]);
    return 0;
}

static bool is_shut_down(void)
{
    struct pollfd polled = {.fd = pair[1], .events = POLLRDHUP};
    return poll(&polled, 1, 0) == 1 && (polled.revents & POLLRDHUP) != 0;
}

static void hear(struct peer *peer)
{
    assert_non_null(peer);
    peer->is_seen = true;
}

static void test_a_connection_is_found_by_its_routing_id_and_number(void **state)
{
    (void)state;
    peers_accepted(peers, 2, pair[0], 0);
    struct peer *peer = peers_add(peers, 2, 77, pair[0]);
    hear(peer);
    assert_ptr_equal(peers_find(peers, 2, 77), peer);
    assert_null(peers_find(peers, 1, 77));
    assert_null(peers_find(peers, 2, 78));
    assert_ptr_equal(peers_of_conn(peers, peer->conn), peer);
    assert_null(peers_of_conn(peers, 0));
}

/* Frames may wait behind the DISCONNECTED: it has not ended before the listener was read to its end. */
static void test_closed_is_told_once_and_only_after_the_last_frame(void **state)
{
    (void)state;
    peers_accepted(peers, 0, pair[0], 0);
    struct peer *peer = peers_add(peers, 0, 1, pair[0]);
    hear(peer);
    uint64_t conn = peer->conn;
    peers_disconnected(peers, 0, pair[0]);
    assert_int_equal(peers_next_closed(peers), 0);
    assert_ptr_equal(peers_find(peers, 0, 1), peer); /* another frame of it */
    peers_drained(peers, 0);
    assert_null(peers_find(peers, 0, 1));
    assert_int_equal(peers_next_closed(peers), conn);
    assert_non_null(peers_of_conn(peers, conn)); /* for its text */
    assert_int_equal(peers_next_closed(peers), 0);
    assert_null(peers_of_conn(peers, conn));
}

static void hear_often(struct peer *peer, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        peers_heard(peers, peer);
    }
}

/* The listener is never read to its end: but frames are taken from all in turn. */
static void test_who_says_nothing_while_others_go_on_has_ended(void **state)
{
    (void)state;
    peers_accepted(peers, 0, pair[0], 0);
    peers_accepted(peers, 0, pair[1], 0);
    struct peer *peer = peers_add(peers, 0, 1, pair[0]);
    struct peer *other = peers_add(peers, 0, 2, pair[1]);
    hear(peer);
    hear(other);
    uint64_t conn = peer->conn;
    hear_often(other, 1000);
    peers_disconnected(peers, 0, pair[0]);
    for (unsigned i = 0; i < 1000; i++) { /* it had much to say */
        peers_heard(peers, other);
        peers_heard(peers, peer);
        assert_int_equal(peers_next_closed(peers), 0);
    }
    hear_often(other, PEERS_ROUND_COUNT - 1);
    assert_int_equal(peers_next_closed(peers), 0);
    hear_often(other, 2);
    assert_int_equal(peers_next_closed(peers), conn);
    assert_null(peers_find(peers, 0, 1));
}

/* That others are heard at all says nothing if libzmq has not looked who has something. */
static void test_a_few_frames_of_others_do_not_end_it(void **state)
{
    (void)state;
    peers_accepted(peers, 0, pair[0], 0);
    peers_accepted(peers, 0, pair[1], 0);
    hear(peers_add(peers, 0, 1, pair[0]));
    struct peer *other = peers_add(peers, 0, 2, pair[1]);
    hear(other);
    peers_disconnected(peers, 0, pair[0]);
    hear_often(other, PEERS_FRAME_COUNT - 1);
    assert_int_equal(peers_next_closed(peers), 0);
    hear_often(other, 1);
    assert_int_equal(peers_next_closed(peers), 1);
}

static void test_another_listener_read_to_its_end_says_nothing(void **state)
{
    (void)state;
    peers_accepted(peers, 0, pair[0], 0);
    hear(peers_add(peers, 0, 1, pair[0]));
    peers_disconnected(peers, 0, pair[0]);
    peers_drained(peers, 1);
    assert_int_equal(peers_next_closed(peers), 0);
    peers_drained(peers, 0);
    assert_int_equal(peers_next_closed(peers), 1);
}

static void test_a_kick_is_told_at_once_and_shuts_down_when_due(void **state)
{
    (void)state;
    peers_accepted(peers, 0, pair[0], 0);
    struct peer *peer = peers_add(peers, 0, 1, pair[0]);
    hear(peer);
    peers_kick(peers, peer, 200);
    peers_kick(peers, peer, 300);
    assert_int_equal(peers_next_closed(peers), 1);
    assert_int_equal(peers_next_closed(peers), 0);
    assert_int_equal(peers_run_due(peers, 199), 200);
    assert_false(is_shut_down());
    peers_run_due(peers, 200);
    assert_true(is_shut_down());
    peers_disconnected(peers, 0, pair[0]);
    peers_drained(peers, 0);
    assert_int_equal(peers_next_closed(peers), 0);
    assert_null(peers_of_conn(peers, 1));
}

static void test_a_kick_of_one_that_is_ending_is_told_once(void **state)
{
    (void)state;
    peers_accepted(peers, 0, pair[0], 0);
    struct peer *peer = peers_add(peers, 0, 1, pair[0]);
    hear(peer);
    peers_disconnected(peers, 0, pair[0]);
    peers_kick(peers, peer, 200);
    peers_drained(peers, 0);
    assert_int_equal(peers_next_closed(peers), 1);
    assert_int_equal(peers_next_closed(peers), 0);
    assert_null(peers_of_conn(peers, 1));
}

/* The kick is due, but the descriptor is another connection's by now: hands off. */
static void test_a_late_kick_leaves_the_next_connection_alone(void **state)
{
    (void)state;
    peers_accepted(peers, 0, pair[0], 0);
    struct peer *peer = peers_add(peers, 0, 1, pair[0]);
    hear(peer);
    peers_kick(peers, peer, 200);
    peers_disconnected(peers, 0, pair[0]);
    peers_accepted(peers, 0, pair[0], 100);
    peers_drained(peers, 0);
    assert_non_null(peers_add(peers, 0, 2, pair[0]));
    peers_run_due(peers, 1000);
    assert_false(is_shut_down());
}

static void test_a_descriptor_that_is_something_else_now_is_not_shut_down(void **state)
{
    (void)state;
    int other[2];
    peers_accepted(peers, 0, pair[0], 0);
    struct peer *peer = peers_add(peers, 0, 1, pair[0]);
    hear(peer);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, other), 0);
    int saved = dup(pair[0]);
    assert_int_equal(dup2(other[0], pair[0]), pair[0]); /* libzmq closed it, someone else got it; no event yet */
    peers_shut_down(peers, 0, pair[0]);
    struct pollfd polled = {.fd = other[1], .events = POLLRDHUP};
    assert_int_equal(poll(&polled, 1, 0), 0);
    dup2(saved, pair[0]);
    peers_shut_down(peers, 0, pair[0]);
    assert_true(is_shut_down());
    close(saved);
    close(other[0]);
    close(other[1]);
}

/* One spoke and left, another one is on its descriptor: a first frame may be either's. Guessing would end the wrong
 * one one day, so the one that is there must come again. */
static void test_a_first_frame_that_may_be_of_the_one_before_is_refused(void **state)
{
    (void)state;
    peers_accepted(peers, 0, pair[0], 0);
    peers_disconnected(peers, 0, pair[0]);
    peers_accepted(peers, 0, pair[0], 0);
    assert_null(peers_add(peers, 0, 1, pair[0]));
    assert_true(is_shut_down());
}

static void test_after_a_read_to_the_end_the_descriptor_is_the_new_ones(void **state)
{
    (void)state;
    peers_accepted(peers, 0, pair[0], 0);
    peers_disconnected(peers, 0, pair[0]);
    peers_accepted(peers, 0, pair[0], 0);
    peers_drained(peers, 0);
    hear(peers_add(peers, 0, 1, pair[0]));
    assert_false(is_shut_down());
}

static void test_a_descriptor_is_the_new_ones_also_when_others_never_cease(void **state)
{
    (void)state;
    peers_accepted(peers, 0, pair[1], 0);
    struct peer *other = peers_add(peers, 0, 2, pair[1]);
    peers_accepted(peers, 0, pair[0], 0);
    peers_disconnected(peers, 0, pair[0]);
    peers_accepted(peers, 0, pair[0], 0);
    hear_often(other, PEERS_FRAME_COUNT);
    hear(peers_add(peers, 0, 1, pair[0]));
    assert_false(is_shut_down());
}

static void test_one_that_spoke_and_left_is_heard_to_its_end(void **state)
{
    (void)state;
    peers_accepted(peers, 0, pair[0], 0);
    peers_disconnected(peers, 0, pair[0]);
    struct peer *peer = peers_add(peers, 0, 1, pair[0]);
    hear(peer);
    assert_int_equal(peers_next_closed(peers), 0);
    peers_drained(peers, 0);
    assert_int_equal(peers_next_closed(peers), 1);
    assert_null(peers_add(peers, 0, 2, pair[0])); /* nothing of it can be left now */
}

static void test_a_descriptor_never_accepted_makes_no_connection(void **state)
{
    (void)state;
    assert_null(peers_add(peers, 0, 1, pair[0]));
    assert_null(peers_add(peers, 0, 1, -1));
    peers_disconnected(peers, 0, pair[0]);
    peers_disconnected(peers, 0, -1);
}

static void test_two_connections_on_one_descriptor_are_both_ended(void **state)
{
    (void)state;
    peers_accepted(peers, 0, pair[0], 0);
    hear(peers_add(peers, 0, 1, pair[0]));
    assert_null(peers_add(peers, 0, 2, pair[0])); /* cannot be; so it must not go on */
    assert_true(is_shut_down());
    peers_disconnected(peers, 0, pair[0]);
    peers_drained(peers, 0);
    assert_int_equal(peers_next_closed(peers), 1);
}

static void test_one_that_says_nothing_is_shut_down_in_time(void **state)
{
    (void)state;
    peers_accepted(peers, 0, pair[0], 1000);
    assert_int_equal(peers_run_due(peers, 1000), 1000 + PEERS_SILENT_MS_MAX);
    assert_false(is_shut_down());
    peers_run_due(peers, 1000 + PEERS_SILENT_MS_MAX);
    assert_true(is_shut_down());
    assert_int_equal(peers_run_due(peers, 1000 + PEERS_SILENT_MS_MAX), INT64_MAX);
}

static void test_the_next_one_on_the_descriptor_has_its_own_time(void **state)
{
    (void)state;
    peers_accepted(peers, 0, pair[0], 0);
    peers_disconnected(peers, 0, pair[0]);
    peers_accepted(peers, 0, pair[0], 10);
    assert_int_equal(peers_run_due(peers, PEERS_SILENT_MS_MAX), PEERS_SILENT_MS_MAX + 10);
    assert_false(is_shut_down());
    peers_run_due(peers, PEERS_SILENT_MS_MAX + 10);
    assert_true(is_shut_down());
}

static void test_one_that_spoke_is_not_shut_down_for_silence(void **state)
{
    (void)state;
    peers_accepted(peers, 0, pair[0], 0);
    hear(peers_add(peers, 0, 1, pair[0]));
    peers_run_due(peers, 10 * PEERS_SILENT_MS_MAX);
    assert_false(is_shut_down());
}

static void test_one_never_told_of_is_not_told_closed(void **state)
{
    (void)state;
    peers_accepted(peers, 0, pair[0], 0);
    struct peer *peer = peers_add(peers, 0, 1, pair[0]);
    peers_kick(peers, peer, 0);
    assert_int_equal(peers_next_closed(peers), 0);
    peers_disconnected(peers, 0, pair[0]);
    peers_drained(peers, 0);
    assert_int_equal(peers_next_closed(peers), 0);
    assert_null(peers_of_conn(peers, 1));
}

/* Thousands through one descriptor: every number is new, nothing is left behind (leaks show in the sanitizer). */
static void test_numbers_are_never_used_twice(void **state)
{
    (void)state;
    for (uint64_t i = 1; i <= 5000; i++) {
        peers_accepted(peers, 0, pair[0], 0);
        hear(peers_add(peers, 0, 9, pair[0]));
        peers_disconnected(peers, 0, pair[0]);
        peers_drained(peers, 0);
        assert_int_equal(peers_next_closed(peers), i);
    }
    assert_int_equal(peers->by_key.count, 0);
    assert_int_equal(peers->by_conn.count, 1); /* the last one's text */
}

#define test(name) cmocka_unit_test_setup_teardown(test_##name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        test(a_connection_is_found_by_its_routing_id_and_number),
        test(closed_is_told_once_and_only_after_the_last_frame),
        test(who_says_nothing_while_others_go_on_has_ended),
        test(a_few_frames_of_others_do_not_end_it),
        test(another_listener_read_to_its_end_says_nothing),
        test(a_kick_is_told_at_once_and_shuts_down_when_due),
        test(a_kick_of_one_that_is_ending_is_told_once),
        test(a_late_kick_leaves_the_next_connection_alone),
        test(a_descriptor_that_is_something_else_now_is_not_shut_down),
        test(a_first_frame_that_may_be_of_the_one_before_is_refused),
        test(after_a_read_to_the_end_the_descriptor_is_the_new_ones),
        test(a_descriptor_is_the_new_ones_also_when_others_never_cease),
        test(one_that_spoke_and_left_is_heard_to_its_end),
        test(a_descriptor_never_accepted_makes_no_connection),
        test(two_connections_on_one_descriptor_are_both_ended),
        test(one_that_says_nothing_is_shut_down_in_time),
        test(the_next_one_on_the_descriptor_has_its_own_time),
        test(one_that_spoke_is_not_shut_down_for_silence),
        test(one_never_told_of_is_not_told_closed),
        test(numbers_are_never_used_twice),
    };
    return cmocka_run_group_tests_name("link peers", tests, NULL, NULL);
}

/*
 * What a connection may send: ZMTP's framing is followed however the bytes are cut, up to the first head that libzmq
 * must not see, and descriptors are used again. No ZeroMQ here.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/limits.h"
#include "common/link_private.h"
#include "tests/unit/zmtp_peer.h"

#include <stdlib.h>
#include <string.h>

enum { LONG_SIZE = 300, STREAM_SIZE_MAX = 1024 };

/* Greeting, a command, an empty frame, a short and a long one; answers the size. */
static size_t good_bytes(uint8_t bytes[STREAM_SIZE_MAX])
{
    memset(bytes, 0, STREAM_SIZE_MAX);
    bytes[0] = 0xff;
    bytes[9] = 0x7f;
    bytes[10] = 3;
    size_t size = ZMTP_GREETING_SIZE;
    size += zmtp_frame(bytes + size, ZMTP_COMMAND, "\x05READY", 6);
    size += zmtp_frame(bytes + size, 0, NULL, 0);
    size += zmtp_frame(bytes + size, 0, "\x01\x01\x01", 3);
    bytes[size] = 0x02;
    bytes[size + 7] = LONG_SIZE >> 8;
    bytes[size + 8] = LONG_SIZE & 0xff;
    memset(bytes + size + 9, 0x01, LONG_SIZE);
    return size + 9 + LONG_SIZE;
}

/* How much passes when the bytes come in pieces of this size. */
static size_t pass_in_pieces(const uint8_t *p, size_t n, size_t piece)
{
    struct stream stream = {0};
    size_t passed = 0;
    for (size_t at = 0; at < n; at += piece) {
        passed += stream_pass(&stream, p + at, n - at < piece ? n - at : piece);
    }
    return passed;
}

static void test_whole_frames_pass_however_they_are_cut(void **state)
{
    (void)state;
    uint8_t bytes[STREAM_SIZE_MAX];
    size_t size = good_bytes(bytes);
    for (size_t piece = 1; piece <= size; piece++) {
        assert_int_equal(pass_in_pieces(bytes, size, piece), size);
    }
}

static void test_nothing_passes_from_the_first_part_of_several_on(void **state)
{
    (void)state;
    uint8_t bytes[STREAM_SIZE_MAX];
    size_t good = good_bytes(bytes);
    const uint8_t heads[] = {ZMTP_MORE, ZMTP_MORE | 0x02, ZMTP_MORE | ZMTP_COMMAND, 0xff};
    for (unsigned i = 0; i < sizeof heads; i++) {
        size_t size = good + zmtp_frame(bytes + good, heads[i], "more", 4);
        size += zmtp_frame(bytes + size, 0, "last", 4);
        for (size_t piece = 1; piece <= size; piece++) {
            assert_int_equal(pass_in_pieces(bytes, size, piece), good);
        }
    }
}

/* Before ZMTP 3 frames have other heads: an unversioned peer, one of 1.0, one of 2.0. */
static void test_older_peers_are_turned_away_at_the_greeting(void **state)
{
    (void)state;
    const struct {
        size_t at;
        uint8_t byte;
    } old[] = {{0, 0x01}, {0, 'G'}, {9, 0x7e}, {9, 0}, {10, 0}, {10, 1}, {10, 2}};
    for (unsigned i = 0; i < sizeof old / sizeof *old; i++) {
        uint8_t bytes[STREAM_SIZE_MAX];
        size_t size = good_bytes(bytes);
        bytes[old[i].at] = old[i].byte;
        for (size_t piece = 1; piece <= size; piece++) {
            assert_int_equal(pass_in_pieces(bytes, size, piece), old[i].at);
        }
    }
}

/* The size of a body that is never all there: nothing in it is taken for a head. */
static void test_a_huge_frame_is_followed_to_its_end(void **state)
{
    (void)state;
    uint8_t bytes[STREAM_SIZE_MAX];
    size_t size = good_bytes(bytes);
    const uint8_t head[] = {0x02, 0, 0, 0, 1, 0, 0, 0, 0};
    memcpy(bytes + size, head, sizeof head);
    struct stream stream = {0};
    assert_int_equal(stream_pass(&stream, bytes, size + sizeof head), size + sizeof head);
    static uint8_t body[1 << 20];
    memset(body, ZMTP_MORE, sizeof body);
    for (unsigned i = 0; i < 1u << 12; i++) {
        assert_int_equal(stream_pass(&stream, body, sizeof body), sizeof body);
    }
    assert_int_equal(stream_pass(&stream, body, 1), 0);
}

/* ---- our recv ---- */

static int pair[2];

static int setup(void **state)
{
    (void)state;
    return socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair);
}

static int teardown(void **state)
{
    (void)state;
    close(pair[0]);
    close(pair[1]);
    return 0;
}

static void test_a_connection_that_was_accepted_is_ended(void **state)
{
    (void)state;
    uint8_t bytes[STREAM_SIZE_MAX];
    size_t size = good_bytes(bytes);
    stream_guard_begin(pair[0]);
    assert_true(zmtp_write(pair[1], bytes, size));
    assert_int_equal(recv(pair[0], bytes, sizeof bytes, 0), size);
    assert_false(stream_guard_has_ended(pair[0]));
    assert_true(zmtp_send(pair[1], 0, "whole", 5));
    assert_true(zmtp_send(pair[1], ZMTP_MORE, "part", 4));
    assert_int_equal(recv(pair[0], bytes, sizeof bytes, 0), 7);
    assert_true(stream_guard_has_ended(pair[0]));
    assert_int_equal(recv(pair[0], bytes, sizeof bytes, 0), 0);
    assert_true(zmtp_reads_end(pair[1]));
}

static void test_other_sockets_are_left_alone(void **state)
{
    (void)state;
    uint8_t bytes[STREAM_SIZE_MAX];
    assert_true(zmtp_write(pair[1], "any", 3));
    assert_int_equal(recv(pair[0], bytes, sizeof bytes, 0), 3);
    assert_int_equal(recv(-1, bytes, sizeof bytes, 0), -1);
    assert_false(stream_guard_has_ended(-1));
    assert_false(stream_guard_has_ended(GUARDED_FD_COUNT_MAX));
}

/* The connection was closed and the descriptor is somebody else's: not ended for what it never sent. */
static void test_a_descriptor_that_is_used_again_is_left_alone(void **state)
{
    (void)state;
    uint8_t bytes[STREAM_SIZE_MAX];
    int fd = pair[0];
    stream_guard_begin(fd);
    close(pair[1]);
    int other[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, other), 0);
    assert_int_equal(dup2(other[0], fd), fd);
    close(other[0]);
    pair[1] = other[1];
    for (unsigned i = 0; i < 3; i++) {
        assert_true(zmtp_write(pair[1], "not ZMTP", 8));
        assert_int_equal(recv(fd, bytes, sizeof bytes, 0), 8);
    }
    assert_false(stream_guard_has_ended(fd));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_whole_frames_pass_however_they_are_cut),
        cmocka_unit_test(test_nothing_passes_from_the_first_part_of_several_on),
        cmocka_unit_test(test_older_peers_are_turned_away_at_the_greeting),
        cmocka_unit_test(test_a_huge_frame_is_followed_to_its_end),
        cmocka_unit_test_setup_teardown(test_a_connection_that_was_accepted_is_ended, setup, teardown),
        cmocka_unit_test_setup_teardown(test_other_sockets_are_left_alone, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_descriptor_that_is_used_again_is_left_alone, setup, teardown),
    };
    return cmocka_run_group_tests_name("link stream", tests, NULL, NULL);
}

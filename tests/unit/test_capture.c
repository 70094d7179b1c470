/*
 * test_capture: what a slot writes (worker/capture.c), with pipes of our own in the place of a slot's, and a pipe in
 * the place of the worker's stderr. Positions are those of the pipes: the test writes, and says where a task begins.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "worker/capture.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define OUT 0
#define ERR 1

struct scene {
    struct statuspage *page;
    struct capture capture;
    int slot[2];   /* the slot's ends */
    int stderr_fd; /* ours, put aside */
    int reader;    /* of what is passed on */
    int64_t now_ms;
};

static int open_scene(void **state)
{
    static struct scene scene;
    scene = (struct scene){.now_ms = 1000};
    int fd = statuspage_create();
    scene.page = statuspage_map(fd);
    close(fd);
    int ends[2];
    for (int i = 0; i < 2; i++) {
        int pair[2];
        assert_int_equal(pipe2(pair, O_CLOEXEC), 0);
        assert_int_equal(fcntl(pair[0], F_SETFL, O_NONBLOCK), 0);
        ends[i] = pair[0];
        scene.slot[i] = pair[1];
    }
    capture_open(&scene.capture, ends);
    int passed[2];
    assert_int_equal(pipe2(passed, O_CLOEXEC), 0);
    scene.stderr_fd = dup(STDERR_FILENO);
    dup2(passed[1], STDERR_FILENO);
    close(passed[1]);
    assert_int_equal(fcntl(passed[0], F_SETFL, O_NONBLOCK), 0);
    scene.reader = passed[0];
    *state = &scene;
    return 0;
}

static int close_scene(void **state)
{
    struct scene *scene = *state;
    capture_close(&scene->capture);
    dup2(scene->stderr_fd, STDERR_FILENO);
    close(scene->stderr_fd);
    close(scene->reader);
    close(scene->slot[0]);
    close(scene->slot[1]);
    statuspage_unmap(&scene->page);
    return 0;
}

/* Read away what was passed on. */
static size_t drain_passed(struct scene *scene)
{
    static char room[65536];
    size_t size = 0;
    ssize_t got;
    while ((got = read(scene->reader, room, sizeof(room))) > 0) {
        size += (size_t)got;
    }
    return size;
}

static bool take(struct scene *scene)
{
    return capture_take(&scene->capture, scene->page, scene->now_ms);
}

static void slot_writes(struct scene *scene, int stream, const char *text)
{
    assert_int_equal(write(scene->slot[stream], text, strlen(text)), strlen(text));
}

/* The slot begins a task: as child.c does it. */
static struct capture_part begin(struct scene *scene)
{
    struct capture_part part = {.to = {UINT64_MAX, UINT64_MAX}};
    for (unsigned i = 0; i < 2; i++) {
        part.from[i] = capture_position(scene->page, i, scene->slot[i]);
        atomic_store(&scene->page->output_from[i], part.from[i]);
    }
    return part;
}

static void end(struct scene *scene, struct capture_part *part)
{
    for (unsigned i = 0; i < 2; i++) {
        part->to[i] = capture_position(scene->page, i, scene->slot[i]);
    }
}

/* The part as text: "1:...", "2:...", "1-N" for what is left out, with blanks between. */
static void expect(struct scene *scene, const struct capture_part *part, const uint64_t *known, const char *expected)
{
    struct buf output = {0};
    struct buf text = {0};
    struct output_reader reader;
    struct output_piece piece;
    capture_output(&scene->capture, part, known, &output);
    assert_true(output_open(&reader, buf_bytes(&output)));
    while (output_next(&reader, &piece)) {
        if (piece.left_out > 0) {
            buf_printf(&text, "%u-%llu ", piece.stream, (unsigned long long)piece.left_out);
        } else {
            buf_printf(&text, "%u:%.*s ", piece.stream, (int)piece.bytes.n, (const char *)piece.bytes.p);
        }
    }
    buf_put_u8(&text, 0);
    assert_string_equal((const char *)text.p, expected);
    buf_fini(&output);
    buf_fini(&text);
}

/* ---- attribution ---- */

static void test_each_part_is_its_own(void **state)
{
    struct scene *scene = *state;
    slot_writes(scene, ERR, "initialiser\n");
    struct capture_part first = begin(scene);
    slot_writes(scene, OUT, "one\n");
    end(scene, &first);
    slot_writes(scene, OUT, "between\n"); /* a thread, or a process that the task left behind */
    struct capture_part second = begin(scene);
    slot_writes(scene, ERR, "two\n");
    end(scene, &second);
    capture_drain(&scene->capture, scene->page, &first);
    expect(scene, &first, NULL, "1:one\n ");
    capture_drain(&scene->capture, scene->page, &second);
    expect(scene, &second, NULL, "2:two\n ");
}

static void test_positions_go_on_while_the_supervisor_reads(void **state)
{
    struct scene *scene = *state;
    slot_writes(scene, OUT, "abc");
    assert_int_equal(capture_position(scene->page, OUT, scene->slot[OUT]), 3);
    (void)take(scene);
    assert_int_equal(capture_position(scene->page, OUT, scene->slot[OUT]), 3);
    slot_writes(scene, OUT, "de");
    assert_int_equal(capture_position(scene->page, OUT, scene->slot[OUT]), 5);
    assert_int_equal(capture_position(scene->page, ERR, scene->slot[ERR]), 0);
    assert_int_equal(capture_position(scene->page, OUT, -1), 3); /* the handler closed it */
}

static void test_streams_are_told_in_the_order_they_came(void **state)
{
    struct scene *scene = *state;
    struct capture_part part = begin(scene);
    slot_writes(scene, OUT, "a");
    (void)take(scene);
    slot_writes(scene, ERR, "b");
    (void)take(scene);
    slot_writes(scene, ERR, "c");
    (void)take(scene);
    slot_writes(scene, OUT, "d");
    (void)take(scene);
    expect(scene, &part, NULL, "1:a 2:bc 1:d ");
}

static void test_what_is_known_is_not_told_again(void **state)
{
    struct scene *scene = *state;
    struct capture_part part = begin(scene);
    slot_writes(scene, OUT, "abc");
    slot_writes(scene, ERR, "xyz");
    (void)take(scene);
    expect(scene, &part, (uint64_t[]){1, 3}, "1:bc ");
    expect(scene, &part, (uint64_t[]){3, 3}, "");
    expect(scene, &part, (uint64_t[]){UINT64_MAX, INT64_MAX}, "");
}

/* ---- much ---- */

/* Written by the slot while the supervisor reads, in steps that the pipe holds. Byte i of it is that of flood_byte. */
static char flood_byte(uint64_t i)
{
    return (char)('a' + i % 23);
}

static void flood(struct scene *scene, int stream, uint64_t *at, uint64_t size)
{
    char step[4096];
    for (uint64_t end_at = *at + size; *at < end_at;) {
        size_t n = end_at - *at < sizeof(step) ? (size_t)(end_at - *at) : sizeof(step);
        for (size_t i = 0; i < n; i++) {
            step[i] = flood_byte(*at + i);
        }
        assert_int_equal(write(scene->slot[stream], step, n), n);
        *at += n;
        scene->now_ms += CAPTURE_SLICE_MS; /* as fast as it likes */
        (void)take(scene);
        (void)drain_passed(scene);
    }
}

/* Of a part that begins at byte `base` of the flood. */
static void expect_flood(struct scene *scene, const struct capture_part *part, int stream, uint64_t base, uint64_t size)
{
    struct buf output = {0};
    struct output_reader reader;
    struct output_piece piece;
    uint64_t at = 0;
    uint64_t left_out = 0;
    capture_output(&scene->capture, part, NULL, &output);
    assert_true(output.n <= OUTPUT_SIZE_MAX);
    assert_true(output_open(&reader, buf_bytes(&output)));
    while (output_next(&reader, &piece)) {
        assert_int_equal(piece.stream, stream + 1);
        for (size_t i = 0; i < piece.bytes.n; i++) {
            assert_int_equal(piece.bytes.p[i], flood_byte(base + at + i));
        }
        if (piece.left_out > 0) {
            assert_int_equal(at, OUTPUT_HEAD_SIZE);
            assert_int_equal(left_out, 0);
            left_out = piece.left_out;
        }
        at += piece.bytes.n + piece.left_out;
    }
    assert_int_equal(at, size);
    uint64_t kept = OUTPUT_HEAD_SIZE + OUTPUT_TAIL_SIZE;
    assert_int_equal(left_out, size > kept ? size - kept : 0);
    buf_fini(&output);
}

static void test_of_much_the_beginning_and_the_end_are_kept(void **state)
{
    struct scene *scene = *state;
    uint64_t at = 0;
    flood(scene, OUT, &at, 1000); /* somebody else's */
    struct capture_part part = begin(scene);
    flood(scene, OUT, &at, 1000000);
    end(scene, &part);
    expect_flood(scene, &part, OUT, 1000, 1000000);
    struct capture_part next = begin(scene);
    flood(scene, OUT, &at, 70000);
    end(scene, &next);
    expect_flood(scene, &next, OUT, 1001000, 70000);
}

static void test_what_fits_is_whole(void **state)
{
    struct scene *scene = *state;
    uint64_t at = 0;
    for (unsigned i = 0; i < 5; i++) {
        uint64_t base = at;
        struct capture_part part = begin(scene);
        flood(scene, ERR, &at, OUTPUT_HEAD_SIZE + OUTPUT_TAIL_SIZE - i);
        end(scene, &part);
        expect_flood(scene, &part, ERR, base, OUTPUT_HEAD_SIZE + OUTPUT_TAIL_SIZE - i);
    }
}

/* It ended, and the next has begun and written, before the supervisor looked. */
static void test_what_ended_between_two_reads_is_whole(void **state)
{
    struct scene *scene = *state;
    uint64_t at = 0;
    struct capture_part first = begin(scene);
    flood(scene, OUT, &at, 40000); /* read */
    char step[20000];
    for (size_t i = 0; i < sizeof(step); i++) {
        step[i] = flood_byte(at + i);
    }
    assert_int_equal(write(scene->slot[OUT], step, sizeof(step)), sizeof(step)); /* not read */
    end(scene, &first);
    struct capture_part second = begin(scene);
    at += sizeof(step);
    char more[40000];
    for (size_t i = 0; i < sizeof(more); i++) {
        more[i] = flood_byte(at + i);
    }
    assert_int_equal(write(scene->slot[OUT], more, sizeof(more)), sizeof(more));
    end(scene, &second);
    scene->now_ms += CAPTURE_SLICE_MS;
    (void)take(scene);
    capture_drain(&scene->capture, scene->page, &first);
    expect_flood(scene, &first, OUT, 0, 60000);
    capture_drain(&scene->capture, scene->page, &second);
    expect_flood(scene, &second, OUT, 60000, 40000);
}

/* ---- a slot that says what makes no sense ---- */

static void test_positions_that_make_no_sense_are_harmless(void **state)
{
    struct scene *scene = *state;
    static const uint64_t numbers[] = {0, 1, 3, 4, 100000, (uint64_t)INT64_MAX, UINT64_MAX - 1, UINT64_MAX};
    const size_t count = sizeof(numbers) / sizeof(numbers[0]);
    slot_writes(scene, OUT, "abc");
    for (size_t i = 0; i < count * count; i++) {
        struct capture_part part = {.from = {numbers[i / count], numbers[i % count]},
                                    .to = {numbers[i % count], numbers[i / count]}};
        struct buf output = {0};
        struct output_reader reader;
        atomic_store(&scene->page->output_from[OUT], numbers[i / count]);
        scene->now_ms += CAPTURE_SLICE_MS;
        slot_writes(scene, ERR, "x");
        (void)take(scene);
        capture_drain(&scene->capture, scene->page, &part);
        capture_output(&scene->capture, &part, numbers, &output);
        assert_true(output_open(&reader, buf_bytes(&output)));
        assert_true(output.n < 300);
        buf_fini(&output);
    }
}

/* ---- who is slow ---- */

/* A reader of our stderr that has stopped: the slot waits for a while, then it goes on, and what it wrote is kept. */
static void test_a_stopped_reader_holds_nobody_up_for_long(void **state)
{
    struct scene *scene = *state;
    char step[4096] = {0};
    struct capture_part part = begin(scene);
    unsigned waits = 0;
    uint64_t written = 0;
    assert_int_equal(fcntl(scene->slot[ERR], F_SETFL, O_NONBLOCK), 0);
    int64_t since_ms = scene->now_ms;
    while (written < 1000000) {
        ssize_t put = write(scene->slot[ERR], step, sizeof(step));
        written += put > 0 ? (uint64_t)put : 0;
        waits += put < 0;
        scene->now_ms += CAPTURE_SLICE_MS;
        (void)take(scene);
        assert_true(scene->now_ms < since_ms + 60000);
    }
    assert_true(waits * CAPTURE_SLICE_MS >= CAPTURE_WAIT_MS / 2); /* it was made to wait, */
    assert_true(waits * CAPTURE_SLICE_MS <= 2 * CAPTURE_WAIT_MS); /* once */
    assert_true(scene->capture.dropped > 500000);
    struct buf output = {0};
    capture_output(&scene->capture, &part, NULL, &output);
    assert_true(output.n > OUTPUT_TAIL_SIZE);
    buf_fini(&output);
    (void)drain_passed(scene); /* it reads again: so is it told again */
    slot_writes(scene, ERR, "again\n");
    scene->now_ms += CAPTURE_SLICE_MS;
    (void)take(scene);
    assert_true(drain_passed(scene) >= strlen("again\n"));
    assert_false(scene->capture.is_dropping);
    assert_int_equal(scene->capture.dropped, 0); /* which was said */
}

/* One slot that floods is not read all the time. */
static void test_a_flood_is_read_in_slices(void **state)
{
    struct scene *scene = *state;
    char step[CAPTURE_READ_SIZE] = {0};
    size_t taken = 0;
    bool goes_on = true;
    while (goes_on) {
        assert_int_equal(write(scene->slot[OUT], step, sizeof(step)), sizeof(step));
        goes_on = take(scene);
        taken += drain_passed(scene);
        assert_true(taken <= CAPTURE_SLICE_SIZE);
    }
    (void)write(scene->slot[ERR], step, 100);
    assert_false(take(scene)); /* not before its time */
    assert_int_equal(drain_passed(scene), 0);
    assert_true(capture_wake_ms(&scene->capture, scene->now_ms) > scene->now_ms);
    scene->now_ms = capture_wake_ms(&scene->capture, scene->now_ms);
    assert_true(take(scene));
    assert_int_equal(drain_passed(scene), 100);
}

/* A process that the slot left behind may hold the pipe open for ever: nobody waits for its end. */
static void test_a_pipe_that_stays_open_holds_nobody_up(void **state)
{
    struct scene *scene = *state;
    struct capture_part part = begin(scene);
    slot_writes(scene, OUT, "last words");
    capture_drain(&scene->capture, scene->page, &part); /* returns */
    expect(scene, &part, NULL, "1:last words ");
    assert_false(capture_is_over(&scene->capture));
}

static void test_the_end_of_the_pipes_is_seen(void **state)
{
    struct scene *scene = *state;
    close(scene->slot[OUT]);
    (void)take(scene);
    assert_false(capture_is_over(&scene->capture));
    close(scene->slot[ERR]);
    (void)take(scene);
    assert_true(capture_is_over(&scene->capture));
    (void)take(scene);
    scene->slot[OUT] = scene->slot[ERR] = -1;
}

#define SCENE(test) cmocka_unit_test_setup_teardown(test, open_scene, close_scene)

int main(void)
{
    const struct CMUnitTest tests[] = {
        SCENE(test_each_part_is_its_own),
        SCENE(test_positions_go_on_while_the_supervisor_reads),
        SCENE(test_streams_are_told_in_the_order_they_came),
        SCENE(test_what_is_known_is_not_told_again),
        SCENE(test_of_much_the_beginning_and_the_end_are_kept),
        SCENE(test_what_fits_is_whole),
        SCENE(test_what_ended_between_two_reads_is_whole),
        SCENE(test_positions_that_make_no_sense_are_harmless),
        SCENE(test_a_stopped_reader_holds_nobody_up_for_long),
        SCENE(test_a_flood_is_read_in_slices),
        SCENE(test_a_pipe_that_stays_open_holds_nobody_up),
        SCENE(test_the_end_of_the_pipes_is_seen),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

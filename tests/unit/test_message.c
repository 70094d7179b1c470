/*
 * test_message.c owns what is claimed of frames, messages and task options: bounds, growth, what is refused and how.
 * It must not know what a message means. (Every message both ways, and cut short: test_golden.c.)
 * Start reading at main.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <string.h>

#include "common/message.h"

/* ---- a frame made by hand, and its first message read ---- */

#define PUT(frame, text) buf_put(frame, text, sizeof(text) - 1)

static struct buf frame_of(struct bytes messages)
{
    struct buf frame = {0};

    frame_begin(&frame, 1);
    buf_put(&frame, messages.p, messages.n);
    return frame;
}

#define FRAME(text) frame_of(bytes_of(text, sizeof(text) - 1))

/* Reads the first message; the views in it live as long as the frame. */
static enum quern_err first_read(const struct buf *frame, struct message *message, const char **why)
{
    struct cursor cursor;
    uint32_t generation;
    uint64_t unknown;

    *why = NULL;
    assert_int_equal(frame_open(buf_bytes(frame), &generation, &cursor), QUERN_OK);
    return message_next(&cursor, message, &unknown, why);
}

static void assert_refused(struct buf frame, const char *why_part)
{
    struct message message;
    const char *why;

    assert_int_equal(first_read(&frame, &message, &why), QUERN_PROTOCOL);
    assert_non_null(why);
    if (strstr(why, why_part) == NULL) {
        fail_msg("'%s' does not say '%s'", why, why_part);
    }
    buf_fini(&frame);
}

static struct message assert_read(struct buf *frame)
{
    struct message message;
    const char *why;
    enum quern_err err = first_read(frame, &message, &why);

    if (err != QUERN_OK) {
        fail_msg("refused: %s", why);
    }
    return message;
}

/* ---- frames ---- */

static void test_a_frame_says_version_and_generation(void **state)
{
    struct buf frame = {0};
    struct cursor cursor;
    uint32_t generation = 0;

    (void)state;
    frame_begin(&frame, UINT32_MAX);
    assert_int_equal(frame_open(buf_bytes(&frame), &generation, &cursor), QUERN_OK);
    assert_int_equal(generation, UINT32_MAX);
    assert_true(cursor_done(&cursor));
    buf_fini(&frame);
}

static void test_what_is_no_frame_is_refused(void **state)
{
    static const struct {
        const char *p;
        size_t n;
    } frames[] = {{"", 0},
                  {"\x92", 1},
                  {"\x92\x01", 2},
                  {"\x91\x01", 2},                                      /* no generation */
                  {"\x92\x00\x01", 3},                                  /* major 0 */
                  {"\x92\x01\x00", 3},                                  /* generation 0 */
                  {"\x92\x01\xff", 3},                                  /* negative */
                  {"\x92\x01\xcf\x00\x00\x00\x01\x00\x00\x00\x00", 11}, /* over 32 bits */
                  {"\x92\xa1x\x01", 4},                                 /* text */
                  {"\x82\x01\x01\x01\x01", 5},                          /* a map */
                  {"\x93\x01\x01\xc1", 4},                              /* what grew is not msgpack */
                  {"\xdd\xff\xff\xff\xff", 5},
                  {"GET / HTTP/1.1\r\n\r\n", 18}};

    (void)state;
    for (size_t i = 0; i < sizeof frames / sizeof *frames; i++) {
        struct cursor cursor;
        uint32_t generation;

        assert_int_equal(frame_open(bytes_of(frames[i].p, frames[i].n), &generation, &cursor), QUERN_PROTOCOL);
    }
}

/* A peer of a later major version is told so, in a frame with its own generation. */
static void test_a_newer_major_version_is_named(void **state)
{
    struct cursor cursor;
    uint32_t generation = 0;

    (void)state;
    assert_int_equal(frame_open(bytes_of("\x93\x02\x07\x91\x01", 5), &generation, &cursor), QUERN_VERSION);
    assert_int_equal(generation, 7);
}

static void test_the_head_of_a_frame_may_grow(void **state)
{
    struct buf frame = {0};
    struct cursor cursor;
    struct message message;
    uint32_t generation;
    uint64_t unknown;
    const char *why;

    (void)state;
    PUT(&frame, "\x94\x01\x03\xa3new\x92\x01\x02");
    msg_PING_put(&frame, &(struct msg_PING){.number = 9});
    assert_int_equal(frame_open(buf_bytes(&frame), &generation, &cursor), QUERN_OK);
    assert_int_equal(message_next(&cursor, &message, &unknown, &why), QUERN_OK);
    assert_int_equal(message.PING.number, 9);
    buf_fini(&frame);
}

/* ---- growth ---- */

/* A later version adds fields at the end: of messages and of items. Today's reader steps over them. */
static void test_fields_of_a_later_version_are_stepped_over(void **state)
{
    struct buf frame = FRAME("\x94\x0a\x05\xa3new\x92\xc0\x80"                          /* PING with two more */
                             "\x92\x2a\x92\x93\x01\x02\x03\x95\x04\x05\x06\xc3\x91\xc0" /* DROP, an item with more */
                             "\x92\x0b\x06");
    struct cursor cursor;
    struct message message;
    struct item_token token;
    uint32_t generation;
    uint64_t unknown;
    const char *why;

    (void)state;
    assert_int_equal(frame_open(buf_bytes(&frame), &generation, &cursor), QUERN_OK);
    assert_int_equal(message_next(&cursor, &message, &unknown, &why), QUERN_OK);
    assert_true(message.kind == MSG_PING && message.PING.number == 5);
    assert_int_equal(message_next(&cursor, &message, &unknown, &why), QUERN_OK);
    assert_true(message.kind == MSG_DROP && message.DROP.items.count == 2);
    assert_true(item_token_next(&message.DROP.items, &token) && token.task == 1 && token.attempt == 3);
    assert_true(item_token_next(&message.DROP.items, &token) && token.task == 4 && token.attempt == 6);
    assert_false(item_token_next(&message.DROP.items, &token));
    assert_int_equal(message_next(&cursor, &message, &unknown, &why), QUERN_OK);
    assert_true(message.kind == MSG_PONG && message.PONG.number == 6);
    assert_int_equal(message_next(&cursor, &message, &unknown, &why), QUERN_END);
    buf_fini(&frame);
}

/* FINISHED of a worker that is older than the last field of an item, which the protocol lets it leave out. */
static void put_finished_of(struct buf *frame, uint32_t fields)
{
    frame_begin(frame, 1);
    put_array(frame, 2);
    put_u64(frame, MSG_FINISHED);
    put_array(frame, 1);
    put_array(frame, fields);
    for (uint32_t i = 0; i < fields; i++) {
        bool is_nil = (i >= 5 && i <= 8) || i >= 16; /* payload, texts, binaries */
        is_nil ? put_nil(frame) : put_u64(frame, 1);
    }
}

static void test_a_later_field_of_an_item_may_be_missing_and_no_other(void **state)
{
    struct buf frame = {0};
    struct message message;
    struct item_finished item;

    (void)state;
    put_finished_of(&frame, 17);
    message = assert_read(&frame);
    assert_true(item_finished_next(&message.FINISHED.items, &item));
    assert_true(item.peak == 1 && item.output.p == NULL);
    buf_fini(&frame);
    put_finished_of(&frame, 16);
    assert_refused(frame, "an item 'finished' is not an array, or has too few fields");
}

static void test_a_message_of_unknown_kind_is_named_and_stepped_over(void **state)
{
    struct buf frame = FRAME("\x93\xcd\x03\xe7\x92\x01\x02\xc0"
                             "\x92\x0a\x07");
    struct cursor cursor;
    struct message message;
    uint32_t generation;
    uint64_t unknown = 0;
    const char *why;

    (void)state;
    assert_int_equal(frame_open(buf_bytes(&frame), &generation, &cursor), QUERN_OK);
    assert_int_equal(message_next(&cursor, &message, &unknown, &why), QUERN_UNSUPPORTED);
    assert_int_equal(unknown, 999);
    assert_int_equal(message_next(&cursor, &message, &unknown, &why), QUERN_OK);
    assert_int_equal(message.PING.number, 7);
    buf_fini(&frame);
}

/* ---- what is refused ---- */

/* A bad message that is whole costs itself only; one whose end cannot be known costs the rest of the frame. */
static void test_after_a_bad_message_reading_goes_on_where_it_can(void **state)
{
    struct buf whole = FRAME("\x92\x0a\xa1x\x92\x0b\x06");
    struct buf torn = FRAME("\x92\x0a\xc1\x92\x0b\x06");
    struct cursor cursor;
    struct message message;
    uint32_t generation;
    uint64_t unknown;
    const char *why;

    (void)state;
    assert_int_equal(frame_open(buf_bytes(&whole), &generation, &cursor), QUERN_OK);
    assert_int_equal(message_next(&cursor, &message, &unknown, &why), QUERN_PROTOCOL);
    assert_int_equal(message.kind, MSG_PING); /* so that the answer can name it */
    assert_int_equal(message_next(&cursor, &message, &unknown, &why), QUERN_OK);
    assert_int_equal(message.kind, MSG_PONG);
    assert_int_equal(message_next(&cursor, &message, &unknown, &why), QUERN_END);

    assert_int_equal(frame_open(buf_bytes(&torn), &generation, &cursor), QUERN_OK);
    assert_int_equal(message_next(&cursor, &message, &unknown, &why), QUERN_PROTOCOL);
    assert_int_equal(message_next(&cursor, &message, &unknown, &why), QUERN_END);
    buf_fini(&whole);
    buf_fini(&torn);
}

static void test_what_is_no_message_is_refused(void **state)
{
    (void)state;
    assert_refused(FRAME("\x90"), "begins with its kind");
    assert_refused(FRAME("\x0a"), "begins with its kind");
    assert_refused(FRAME("\x81\x0a\x05"), "begins with its kind");
    assert_refused(FRAME("\x92\xa1x\x05"), "kind");
    assert_refused(FRAME("\x92\xff\x05"), "kind");
    assert_refused(FRAME("\x91\x0a"), "PING: too few fields");
    assert_refused(FRAME("\x93\xcd\x03\xe7\xc1"), "unknown kind");
    assert_refused(FRAME("\xdd\xff\xff\xff\xff"), "begins with its kind");
}

static void test_a_number_over_its_bound_is_refused(void **state)
{
    struct buf frame = FRAME("\x94\x15\xce\x7f\xff\xff\xff\x01\x01");

    (void)state;
    assert_int_equal(assert_read(&frame).ACCEPTED.series, SERIES_MAX);
    buf_fini(&frame);
    assert_refused(FRAME("\x94\x15\xce\x80\x00\x00\x00\x01\x01"), "'series'");
    assert_refused(FRAME("\x94\x15\x07\xff\x01"), "'sequence'");
    assert_refused(FRAME("\x94\x15\x07\xcb\x3f\xf0\x00\x00\x00\x00\x00\x00\x01"), "'sequence'");
    assert_refused(FRAME("\x92\x0a\xcf\x80\x00\x00\x00\x00\x00\x00\x00"), "'number'");
}

static void test_every_field_is_checked_for_its_type(void **state)
{
    (void)state;
    assert_refused(FRAME("\x94\x1b\x01\x02\x01"), "'force': not a boolean");
    assert_refused(FRAME("\x94\x1e\x01\xc4\x01x\xc0"), "'what': not UTF-8 text");
    assert_refused(FRAME("\x94\x1e\x01\xa1\xff\xc0"), "'what': not UTF-8 text");
    assert_refused(FRAME("\x94\x1e\x01\xa3\xed\xa0\x80\xc0"), "'what': not UTF-8 text"); /* a surrogate */
    assert_refused(FRAME("\x92\x04\xc4\x0fxxxxxxxxxxxxxxx"), "'nonce': not binary of 16 bytes");
    assert_refused(FRAME("\x92\x04\xc0"), "'nonce'");
    assert_refused(FRAME("\x92\x2a\x01"), "not an array");
    assert_refused(FRAME("\x92\x2a\x91\x01"), "item 'token'");
    assert_refused(FRAME("\x92\x2a\x91\x92\x01\x02"), "item 'token'"); /* items have all fields listed now */
    assert_refused(FRAME("\x92\x2a\x92\x93\x01\x02\x03\x93\x01\x02\xc0"), "'attempt'"); /* the last item too */
    assert_refused(FRAME("\x92\x2f\x91\x95\x01\x02\x03\xa1x\xc0"), "'fraction': not a number");
}

/* A million announced items in five bytes cost nothing. */
static void test_a_bomb_in_a_list_is_refused(void **state)
{
    (void)state;
    assert_refused(FRAME("\x92\x2a\xdd\xff\xff\xff\xff"), "not an array");
    assert_refused(FRAME("\x92\x2a\xdd\x00\x00\x00\x02\x93\x01\x02\x03"), "token");
}

/* Nor do millions that are there: reading them would hold up everybody else. */
static void test_a_list_without_measure_is_refused_unread(void **state)
{
    (void)state;
    for (uint32_t count = LIST_ITEM_COUNT_MAX; count <= LIST_ITEM_COUNT_MAX + 1; count++) {
        struct buf frame = {0};
        frame_begin(&frame, 1);
        put_array(&frame, 2);
        put_u64(&frame, MSG_RETURNED);
        put_array(&frame, count);
        for (uint32_t i = 0; i < count; i++) {
            buf_put(&frame, "\x93\x01\x02\x03", 4);
        }
        if (count <= LIST_ITEM_COUNT_MAX) {
            struct message message = assert_read(&frame);
            assert_int_equal(message.RETURNED.items.count, count);
            buf_fini(&frame);
        } else {
            assert_refused(frame, "too many items");
        }
    }
}

static void test_names_are_bounded_exactly(void **state)
{
    char name[FUNCTION_NAME_SIZE_MAX + 1];
    struct buf frame = {0};

    (void)state;
    memset(name, 'f', sizeof name);
    frame_begin(&frame, 1);
    msg_QUERY_put(&frame, &(struct msg_QUERY){.request = 1, .what = bytes_of(name, FUNCTION_NAME_SIZE_MAX)});
    assert_int_equal(assert_read(&frame).QUERY.what.n, FUNCTION_NAME_SIZE_MAX);
    buf_fini(&frame);
    frame_begin(&frame, 1);
    msg_QUERY_put(&frame, &(struct msg_QUERY){.request = 1, .what = bytes_of(name, sizeof name)});
    assert_refused(frame, "up to FUNCTION_NAME_SIZE_MAX bytes");
}

/* 16 MiB go through, one byte more is refused by name. */
static void test_payloads_are_bounded_exactly(void **state)
{
    uint8_t *payload = test_calloc(1, PAYLOAD_SIZE_MAX + 1);

    (void)state;
    for (size_t more = 0; more <= 1; more++) {
        struct message head = {.kind = MSG_SUBMIT, .SUBMIT = {.series = 1, .sequence = 1}};
        struct buf frame = {0};
        struct run run;

        frame_begin(&frame, 1);
        run_open(&run, &frame, &head);
        item_submit_put(run.out, &(struct item_submit){.args = bytes_of(payload, PAYLOAD_SIZE_MAX + more)});
        run.count++;
        run_close(&run);
        assert_true(frame.n <= FRAME_SIZE_MAX);
        if (more == 0) {
            struct message message = assert_read(&frame);
            struct item_submit item;

            assert_true(item_submit_next(&message.SUBMIT.items, &item));
            assert_int_equal(item.args.n, PAYLOAD_SIZE_MAX);
            buf_fini(&frame);
        } else {
            assert_refused(frame, "'args': not an inline payload");
        }
    }
    test_free(payload);
}

/* Payload tags of later versions are refused, not taken for something else. */
static void test_a_tagged_payload_is_refused_for_now(void **state)
{
    (void)state;
    assert_refused(FRAME("\x99\x14\x01\x01\xa1"
                         "f\xc0\xc0\x00\x00\x91\x92\x92\x01\xc4\x01x\x00"),
                   "'args'");
    assert_refused(FRAME("\x99\x14\x01\x01\xa1"
                         "f\xc0\xc0\x00\x00\x91\x92\xa1x\x00"),
                   "'args'");
}

/* The message is the first level; a value inside may add seven. */
static void test_envelopes_are_bounded_in_depth(void **state)
{
    struct buf frame = FRAME("\x94\x1e\x01\xa1x\x91\x91\x91\x91\x91\x91\x91\xc0");

    (void)state;
    assert_int_equal(assert_read(&frame).QUERY.params.n, ENVELOPE_DEPTH_MAX);
    buf_fini(&frame);
    assert_refused(FRAME("\x94\x1e\x01\xa1x\x91\x91\x91\x91\x91\x91\x91\x91\xc0"), "'params'");
    assert_refused(FRAME("\x93\x0a\x05\x91\x91\x91\x91\x91\x91\x91\x91\xc0"), "nested too deep");
}

/* Depth inside a payload is nobody's business on the way. */
static void test_a_payload_may_be_of_any_depth(void **state)
{
    static uint8_t deep[100000];
    struct message head = {.kind = MSG_SUBMIT, .SUBMIT = {.series = 1, .sequence = 1}};
    struct buf frame = {0};
    struct run run;

    (void)state;
    memset(deep, 0x91, sizeof deep);
    frame_begin(&frame, 1);
    run_open(&run, &frame, &head);
    item_submit_put(run.out, &(struct item_submit){.args = bytes_of(deep, sizeof deep)});
    run.count++;
    run_close(&run);
    assert_int_equal(assert_read(&frame).SUBMIT.items.count, 1);
    buf_fini(&frame);
}

static void test_none_and_empty_stay_apart(void **state)
{
    struct buf frame = {0};
    struct message message;

    (void)state;
    frame_begin(&frame, 1);
    msg_DENIED_put(&frame, &(struct msg_DENIED){.text = bytes_text(""), .owner = bytes_text(NULL)});
    message = assert_read(&frame);
    assert_non_null(message.DENIED.text.p);
    assert_int_equal(message.DENIED.text.n, 0);
    assert_null(message.DENIED.owner.p);
    buf_fini(&frame);
}

/* A handler may compute 0/0: its progress must not cost the worker its connection. */
static void test_progress_that_is_no_number_is_read(void **state)
{
    struct message head = {.kind = MSG_PROGRESS};
    struct item_progress item;
    struct message message;
    struct buf frame = {0};
    struct run run;

    (void)state;
    frame_begin(&frame, 1);
    run_open(&run, &frame, &head);
    item_progress_put(run.out, &(struct item_progress){.task = 1, .fraction = NAN});
    run.count++;
    run_close(&run);
    message = assert_read(&frame);
    assert_true(item_progress_next(&message.PROGRESS.items, &item) && isnan(item.fraction));
    buf_fini(&frame);
}

static void test_other_encodings_of_the_same_are_read(void **state)
{
    /* PING 5 with a 64-bit number in a 32-bit array, kind as 16 bits; PROGRESS with an integer as fraction. */
    struct buf frame = FRAME("\xdd\x00\x00\x00\x02\xcd\x00\x0a\xd3\x00\x00\x00\x00\x00\x00\x00\x05");

    (void)state;
    assert_int_equal(assert_read(&frame).PING.number, 5);
    buf_fini(&frame);
    frame = FRAME("\x92\x2f\x91\x95\x01\x02\x03\x01\xd9\x01x");
    assert_int_equal(assert_read(&frame).PROGRESS.items.count, 1);
    buf_fini(&frame);
}

/* ---- task options ---- */

static enum quern_err options_read(struct bytes bytes, struct task_options *options, const char **why)
{
    *why = NULL;
    return task_options_read(bytes, options, why);
}

static void assert_options_refused(struct bytes bytes, const char *why_part)
{
    struct task_options options;
    const char *why;

    assert_int_equal(options_read(bytes, &options, &why), QUERN_PROTOCOL);
    if (strstr(why, why_part) == NULL) {
        fail_msg("'%s' does not say '%s'", why, why_part);
    }
}

#define BYTES(text) bytes_of(text, sizeof(text) - 1)

static void test_options_left_out_have_their_defaults(void **state)
{
    static const struct bytes same[] = {{NULL, 0},
                                        {(const uint8_t *)"\xc0", 1},
                                        {(const uint8_t *)"\x90", 1},
                                        {(const uint8_t *)"\x93\x00\x00\x00", 4},
                                        {(const uint8_t *)"\x99\x00\x00\x00\x00\x00\x00\xc2\x00\x00", 10}};
    struct task_options expected = task_options_default();

    (void)state;
    assert_int_equal(expected.attempts, 1);
    assert_int_equal(expected.retry_on, 1 << CAUSE_ERROR | 1 << CAUSE_TIMEOUT | 1 << CAUSE_MEMORY);
    assert_int_equal(expected.crashes_max, CRASHES_MAX_DEFAULT);
    assert_int_equal(expected.losses_max, LOSSES_MAX_DEFAULT);
    for (size_t i = 0; i < sizeof same / sizeof *same; i++) {
        struct task_options options;
        const char *why;

        assert_int_equal(options_read(same[i], &options, &why), QUERN_OK);
        assert_int_equal(options.priority, expected.priority);
        assert_int_equal(options.timeout_ms, expected.timeout_ms);
        assert_int_equal(options.attempts, expected.attempts);
        assert_int_equal(options.retry_on, expected.retry_on);
        assert_int_equal(options.backoff_ms, expected.backoff_ms);
        assert_int_equal(options.backoff_cap_ms, expected.backoff_cap_ms);
        assert_int_equal(options.at_most_once, expected.at_most_once);
        assert_int_equal(options.crashes_max, expected.crashes_max);
        assert_int_equal(options.losses_max, expected.losses_max);
    }
}

static void test_options_are_what_was_written(void **state)
{
    struct task_options written = {.priority = PRIORITY_MIN,
                                   .timeout_ms = DURATION_MS_MAX,
                                   .attempts = ATTEMPTS_MAX,
                                   .retry_on = 1u << CAUSE_CRASHED,
                                   .backoff_ms = 1,
                                   .backoff_cap_ms = 2,
                                   .crashes_max = 4,
                                   .losses_max = 5,
                                   .depth = TASK_DEPTH_MAX,
                                   .memory_bytes = INT64_MAX,
                                   .memory_growth = MEMORY_GROWTH_MAX,
                                   .memory_cap_bytes = INT64_MAX,
                                   .alone = ALONE_RETRIED,
                                   .expires_ms = DURATION_MS_MAX,
                                   .known = true};
    struct task_options options;
    struct buf buf = {0};
    const char *why;

    (void)state;
    task_options_put(&buf, &written);
    assert_true(buf.n <= OPTIONS_SIZE_MAX);
    assert_int_equal(options_read(buf_bytes(&buf), &options, &why), QUERN_OK);
    assert_int_equal(options.priority, PRIORITY_MIN);
    assert_true(options.timeout_ms == DURATION_MS_MAX);
    assert_int_equal(options.attempts, ATTEMPTS_MAX);
    assert_int_equal(options.retry_on, 1 << CAUSE_CRASHED);
    assert_int_equal(options.backoff_ms, 1);
    assert_int_equal(options.backoff_cap_ms, 2);
    assert_false(options.at_most_once);
    assert_int_equal(options.crashes_max, 4);
    assert_int_equal(options.losses_max, 5);
    assert_true(options.memory_bytes == INT64_MAX && options.memory_cap_bytes == INT64_MAX);
    assert_int_equal(options.memory_growth, MEMORY_GROWTH_MAX);
    assert_int_equal(options.alone, ALONE_RETRIED);
    assert_true(options.expires_ms == DURATION_MS_MAX && options.known);
    buf_fini(&buf);
}

static void test_options_out_of_bounds_are_refused_by_name(void **state)
{
    static const uint8_t long_options[OPTIONS_SIZE_MAX + 1] = {0xdc, 0x00, 0xfe};

    (void)state;
    assert_options_refused(BYTES("\x91\xcd\x03\xe9"), "'priority'");
    assert_options_refused(BYTES("\x91\xd1\xfc\x17"), "'priority'"); /* -1001 */
    assert_options_refused(BYTES("\x93\x00\x00\xcd\x03\xe9"), "'attempts'");
    assert_options_refused(BYTES("\x92\x00\xcf\x00\x00\x00\x07\x5c\xd7\x88\x01"), "'timeout_ms'");
    assert_options_refused(BYTES("\x97\x00\x00\x01\x00\x00\x00\x01"), "'at_most_once'");
    assert_options_refused(BYTES("\x97\x00\x00\x02\x00\x00\x00\xc3"), "contradict");
    assert_options_refused(BYTES("\x80"), "neither an array nor nil");
    assert_options_refused(BYTES("\x01"), "neither an array nor nil");
    assert_options_refused(BYTES("\xc0\xc0"), "neither an array nor nil");
    assert_options_refused(BYTES("\x91\x00\x00"), "one whole array");
    assert_options_refused(BYTES("\x92\x00"), "array");
    assert_options_refused(bytes_of(long_options, sizeof long_options), "OPTIONS_SIZE_MAX");
}

/* "Never twice" and "once" go together; options of a later version are stepped over. */
static void test_options_may_grow_and_at_most_once_allows_one_attempt(void **state)
{
    struct task_options options;
    const char *why;

    (void)state;
    assert_int_equal(options_read(BYTES("\x97\x00\x00\x01\x00\x00\x00\xc3"), &options, &why), QUERN_OK);
    assert_true(options.at_most_once);
    assert_int_equal(options_read(BYTES("\xdc\x00\x12\x05\x00\x00\x00\x00\x00\xc2\x00\x00\x01\x00\x00\x00\x02\x00\xc2"
                                        "\xa3new\x81\x01\x02"),
                                  &options, &why),
                     QUERN_OK);
    assert_int_equal(options.priority, 5);
}

/* ---- words ---- */

static void test_every_number_and_its_word_are_one(void **state)
{
    (void)state;
#define X(number, name, word)                                                                                          \
    assert_string_equal(task_state_word(number), word);                                                                \
    assert_int_equal(task_state_of_word(word), number);
    TASK_STATE_LIST(X)
#undef X
#define X(number, name, word)                                                                                          \
    assert_string_equal(cause_word(number), word);                                                                     \
    assert_int_equal(cause_of_word(word), number);
    CAUSE_LIST(X)
#undef X
    assert_string_equal(message_word(MSG_SUBMIT), "SUBMIT");
    assert_string_equal(message_word(0), "unknown");
    assert_string_equal(task_state_word(0), "unknown");
    assert_string_equal(cause_word(200), "unknown");
    assert_int_equal(task_state_of_word("finished"), -1);
    assert_int_equal(cause_of_word(""), -1);
}

/* ---- short items ---- */

static struct bytes one_of(const char *const *texts, uint32_t choice)
{
    return bytes_text(texts[choice]);
}

/* Outcomes as they come: mostly the next one of the same worker, sometimes anything else. */
static struct item_outcome outcome_after(struct item_outcome last, uint32_t *seed)
{
    static const char *const texts[] = {NULL, "", "host:1", "host:2"};
    struct item_outcome next = last;
    uint32_t chance = (*seed = *seed * 1664525u + 1013904223u) >> 8;

    next.task++;
    next.completion++;
    next.result = one_of(texts, chance % 4);
    next.run_us = chance % 300;
    next.cpu_us = chance % 299;
    if ((chance >> 14 & 3) == 0) {
        next.args = next.kind = next.detail = (struct bytes){NULL, 0};
    }
    switch (chance >> 8 & 31) {
    case 0:
        next.task += 2;
        break;
    case 1:
        next.completion += 2;
        break;
    case 2:
        next.worker = one_of(texts, chance >> 3 & 3);
        break;
    case 3:
        next.args = one_of(texts, chance >> 3 & 3);
        break;
    case 4:
        next.kind = one_of(texts, chance >> 3 & 3);
        break;
    case 5:
        next.detail = one_of(texts, chance >> 3 & 3);
        break;
    case 6:
        next.finished += chance >> 3 & 1;
        break;
    default:
        break;
    }
    return next;
}

/* Whatever stands before it: a field taken over from another task's outcome would be a wrong answer to somebody. */
static void test_short_items_say_the_same_as_whole_ones(void **state)
{
    enum { COUNT = 5000 };
    struct message head = {.kind = MSG_OUTCOME};
    struct message message = {.kind = 0};
    struct item_outcome item = {.task = 7, .completion = 1, .state = TASK_DONE};
    struct item_outcome got;
    struct item_last last = {.has = false};
    struct buf frame = {0};
    struct buf whole = {0};
    struct buf again = {0};
    struct run run;
    uint32_t seed = 11;

    (void)state;
    frame_begin(&frame, 1);
    run_open(&run, &frame, &head);
    for (; run.count < COUNT; run.count++) {
        item = outcome_after(item, &seed);
        item_outcome_put(&whole, &item);
        item_outcome_put_after(&frame, &item, &last);
    }
    run_close(&run);
    message = assert_read(&frame);
    assert_int_equal(message.OUTCOME.items.count, COUNT);
    while (item_outcome_next(&message.OUTCOME.items, &got)) {
        item_outcome_put(&again, &got);
    }
    assert_true(bytes_equal(buf_bytes(&whole), buf_bytes(&again)));
    assert_true(frame.n < whole.n * 2 / 3);
    buf_fini(&frame);
    buf_fini(&whole);
    buf_fini(&again);
}

static void test_receipts_of_a_run_take_a_byte_each(void **state)
{
    struct message head = {.kind = MSG_RECEIPT};
    struct item_last last = {.has = false};
    struct item_receipt item = {.epoch = 3, .attempt = 1};
    struct buf frame = {0};
    struct run run;

    (void)state;
    frame_begin(&frame, 1);
    run_open(&run, &frame, &head);
    for (item.task = 100; item.task < 200; item.task++, run.count++) {
        item_receipt_put_after(&frame, &item, &last);
    }
    run_close(&run);
    assert_true(frame.n < 120);
    struct message message = assert_read(&frame);
    for (uint64_t task = 100; task < 200; task++) {
        assert_true(item_receipt_next(&message.RECEIPT.items, &item));
        assert_true(item.task == task && item.epoch == 3 && item.attempt == 1 && item.verdict == 0);
    }
    assert_false(item_receipt_next(&message.RECEIPT.items, &item));
    buf_fini(&frame);
}

static void test_a_peer_that_takes_no_short_items_gets_none(void **state)
{
    struct item_receipt item = {.task = 1, .epoch = 1, .attempt = 1};
    struct buf with = {0};
    struct buf without = {0};

    (void)state;
    item_receipt_put(&with, &item);
    item_receipt_put_after(&without, &item, NULL);
    item.task++;
    item_receipt_put(&with, &item);
    item_receipt_put_after(&without, &item, NULL);
    assert_true(bytes_equal(buf_bytes(&with), buf_bytes(&without)));
    buf_fini(&with);
    buf_fini(&without);
}

static void test_a_short_item_needs_one_before_it(void **state)
{
    (void)state;
    assert_refused(FRAME("\x92\x2e\x92\x90\x94\x01\x01\x01\x00"), "receipt");     /* the first is short */
    assert_refused(FRAME("\x92\x2e\x92\x94\x01\x01\x01\x00\x91\x05"), "receipt"); /* neither short nor whole */
    assert_refused(FRAME("\x92\x2a\x92\x93\x01\x01\x01\x90"), "token");           /* cannot be short */
    assert_refused(FRAME("\x92\x2e\x92\x94\xcf\x7f\xff\xff\xff\xff\xff\xff\xff\x01\x01\x00\x90"), "task");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_frame_says_version_and_generation),
        cmocka_unit_test(test_what_is_no_frame_is_refused),
        cmocka_unit_test(test_a_newer_major_version_is_named),
        cmocka_unit_test(test_the_head_of_a_frame_may_grow),
        cmocka_unit_test(test_fields_of_a_later_version_are_stepped_over),
        cmocka_unit_test(test_a_later_field_of_an_item_may_be_missing_and_no_other),
        cmocka_unit_test(test_a_message_of_unknown_kind_is_named_and_stepped_over),
        cmocka_unit_test(test_after_a_bad_message_reading_goes_on_where_it_can),
        cmocka_unit_test(test_what_is_no_message_is_refused),
        cmocka_unit_test(test_a_number_over_its_bound_is_refused),
        cmocka_unit_test(test_every_field_is_checked_for_its_type),
        cmocka_unit_test(test_a_bomb_in_a_list_is_refused),
        cmocka_unit_test(test_a_list_without_measure_is_refused_unread),
        cmocka_unit_test(test_names_are_bounded_exactly),
        cmocka_unit_test(test_payloads_are_bounded_exactly),
        cmocka_unit_test(test_a_tagged_payload_is_refused_for_now),
        cmocka_unit_test(test_envelopes_are_bounded_in_depth),
        cmocka_unit_test(test_a_payload_may_be_of_any_depth),
        cmocka_unit_test(test_none_and_empty_stay_apart),
        cmocka_unit_test(test_progress_that_is_no_number_is_read),
        cmocka_unit_test(test_other_encodings_of_the_same_are_read),
        cmocka_unit_test(test_options_left_out_have_their_defaults),
        cmocka_unit_test(test_options_are_what_was_written),
        cmocka_unit_test(test_options_out_of_bounds_are_refused_by_name),
        cmocka_unit_test(test_options_may_grow_and_at_most_once_allows_one_attempt),
        cmocka_unit_test(test_every_number_and_its_word_are_one),
        cmocka_unit_test(test_short_items_say_the_same_as_whole_ones),
        cmocka_unit_test(test_receipts_of_a_run_take_a_byte_each),
        cmocka_unit_test(test_a_peer_that_takes_no_short_items_gets_none),
        cmocka_unit_test(test_a_short_item_needs_one_before_it),
    };
    return cmocka_run_group_tests_name("message", tests, NULL, NULL);
}

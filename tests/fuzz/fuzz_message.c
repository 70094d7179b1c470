/*
 * fuzz_message.c owns the property that any bytes must have: as a frame and as a payload they are read or refused,
 * within bounds, and a message that is read, written again and read again is the same.
 * It must not know where the bytes come from: libFuzzer (README.md), or test_random_bytes.c.
 * Start reading at LLVMFuzzerTestOneInput.
 */
#include "fuzz/fuzz_message.h"

#include "common/check.h"
#include "common/message.h"
#include "quern/value.h"
#include "support/frames.h"

/* By its text: a list keeps the bytes of fields it does not know, the text does not. */
static void message_check(const struct message *message)
{
    struct buf again = {0};
    struct buf text = {0};
    struct buf text_again = {0};
    struct cursor cursor;
    struct message second;
    uint64_t unknown;
    const char *why;

    message_again(&again, message);
    cursor = cursor_of(buf_bytes(&again));
    CHECK(message_next(&cursor, &second, &unknown, &why) == QUERN_OK);
    CHECK(cursor_done(&cursor));
    message_text(&text, message);
    message_text(&text_again, &second);
    CHECK(bytes_equal(buf_bytes(&text), buf_bytes(&text_again)));
    buf_fini(&again);
    buf_fini(&text);
    buf_fini(&text_again);
}

static void options_check(const struct message *message)
{
    struct task_options options;
    const char *why = NULL;

    if (message->kind == MSG_SUBMIT && task_options_read(message->SUBMIT.options, &options, &why) != QUERN_OK) {
        CHECK(why != NULL);
    }
}

static unsigned frame_check(struct bytes bytes)
{
    struct cursor cursor;
    uint32_t generation;
    unsigned count = 0;

    if (frame_open(bytes, &generation, &cursor) != QUERN_OK) {
        return 0;
    }
    for (;;) {
        struct message message;
        uint64_t unknown;
        const char *why = NULL;
        const uint8_t *start = cursor.p;
        enum quern_err err = message_next(&cursor, &message, &unknown, &why);

        CHECK(cursor.p <= cursor.end);
        if (err == QUERN_END) {
            return count;
        }
        CHECK(cursor.p > start); /* it always comes to an end */
        CHECK(err != QUERN_PROTOCOL || why != NULL);
        if (err == QUERN_OK) {
            message_check(&message);
            options_check(&message);
            count++;
        }
    }
}

/* Walk everything a handler could, entering each level. */
static void value_check(struct bytes bytes)
{
    struct quern_reader reader;
    unsigned depth = 0;
    size_t count;

    quern_reader_init(&reader, bytes.p, bytes.n);
    while (quern_reader_error(&reader) == QUERN_OK) {
        switch (quern_peek(&reader)) {
        case QUERN_TYPE_ARRAY:
            depth += quern_read_array(&reader, &count) == QUERN_OK;
            break;
        case QUERN_TYPE_MAP:
            depth += quern_read_map(&reader, &count) == QUERN_OK;
            break;
        case QUERN_TYPE_NONE:
            if (depth == 0) {
                return;
            }
            depth -= quern_read_close(&reader) == QUERN_OK;
            break;
        default:
            (void)quern_read_any(&reader, NULL, NULL);
        }
    }
}

unsigned fuzz_message(struct bytes bytes)
{
    value_check(bytes);
    (void)value_is_whole(bytes, VALUE_DEPTH_MAX);
    return frame_check(bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_message(bytes_of(data, size));
    return 0;
}

/*
 * fuzz_message.c owns the property that any bytes must have: as a frame they are read or refused, within bounds, and a
 * message that is read, written again and read again is the same.
 * It must not know where the bytes come from.
 * Start reading at LLVMFuzzerTestOneInput.
 */
#include "common/check.h"
#include "common/message.h"
#include "fuzz/input.h"
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

static void frame_check(struct bytes bytes)
{
    struct cursor cursor;
    uint32_t generation;

    if (frame_open(bytes, &generation, &cursor) != QUERN_OK) {
        return;
    }
    for (;;) {
        struct message message;
        uint64_t unknown;
        const char *why = NULL;
        const uint8_t *start = cursor.p;
        enum quern_err err = message_next(&cursor, &message, &unknown, &why);

        CHECK(cursor.p <= cursor.end);
        if (err == QUERN_END) {
            return;
        }
        CHECK(cursor.p > start); /* it always comes to an end */
        CHECK(err != QUERN_PROTOCOL || why != NULL);
        if (err == QUERN_OK) {
            message_check(&message);
            options_check(&message);
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    frame_check(bytes_of(data, size));
    return 0;
}

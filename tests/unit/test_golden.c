/*
 * test_golden.c owns the golden frames: tests/golden/frames.txt (name, what it shows, hex, meaning) is what our encoder
 * writes and our decoder reads, byte for byte, and every message of the protocol is among them. Whoever writes a client
 * or worker in another language tests it with the same file. After an intended change of the protocol write the file
 * anew with `test_golden --write` and read the difference.
 * It must not know what a broker answers. Start reading at main; the frames are in support/golden.c.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/message.h"
#include "support/frames.h"
#include "support/golden.h"

#define GOLDEN_PATH TESTS_DIR "/golden/frames.txt"
#define PROTOCOL_PATH TESTS_DIR "/../common/PROTOCOL.md"
#define FILE_SIZE_MAX (1024u * 1024u)

/* ---- files ---- */

static struct buf file_read(const char *path)
{
    struct buf text = {0};
    FILE *file = fopen(path, "rb");

    if (file == NULL) {
        fail_msg("cannot read %s", path);
    }
    buf_reserve(&text, FILE_SIZE_MAX);
    text.n = fread(text.p, 1, FILE_SIZE_MAX - 1, file);
    text.p[text.n] = '\0';
    fclose(file);
    return text;
}

static void hex_put(struct buf *out, struct bytes bytes)
{
    for (size_t i = 0; i < bytes.n; i++) {
        buf_printf(out, "%02x", bytes.p[i]);
    }
}

static struct buf hex_read(const char *hex, size_t size)
{
    struct buf bytes = {0};

    for (size_t i = 0; i + 1 < size; i += 2) {
        const char pair[3] = {hex[i], hex[i + 1], '\0'};
        char *end;

        buf_put_u8(&bytes, (uint8_t)strtoul(pair, &end, 16));
        assert_ptr_equal(end, pair + 2);
    }
    return bytes;
}

/* ---- a frame as text, and written again ---- */

static void frame_text(struct buf *out, struct bytes frame)
{
    struct cursor cursor;
    struct message message;
    uint32_t generation;
    uint64_t unknown;
    const char *why = "";
    enum quern_err err;

    assert_int_equal(frame_open(frame, &generation, &cursor), QUERN_OK);
    buf_printf(out, "frame generation=%" PRIu32 "\n", generation);
    while ((err = message_next(&cursor, &message, &unknown, &why)) == QUERN_OK) {
        message_text(out, &message);
        buf_put_u8(out, '\n');
    }
    if (err != QUERN_END) {
        fail_msg("%s after %.*s", why, (int)out->n, (const char *)out->p);
    }
}

static struct buf frame_again(struct bytes frame)
{
    struct buf again = {0};
    struct cursor cursor;
    struct message message;
    uint32_t generation;
    uint64_t unknown;
    const char *why;

    assert_int_equal(frame_open(frame, &generation, &cursor), QUERN_OK);
    frame_begin(&again, generation);
    while (message_next(&cursor, &message, &unknown, &why) == QUERN_OK) {
        message_again(&again, &message);
    }
    return again;
}

static void vector_text(struct buf *out, size_t index)
{
    struct buf frame = {0};

    golden_vectors[index].put(&frame);
    buf_printf(out, "== %s %s %s\nhex ", golden_vectors[index].name, golden_vectors[index].direction,
               golden_vectors[index].shows);
    hex_put(out, buf_bytes(&frame));
    buf_put_u8(out, '\n');
    frame_text(out, buf_bytes(&frame));
    buf_put_u8(out, '\n');
    buf_fini(&frame);
}

static const char file_head[] = "# Golden frames of quern's protocol: for each a name, its direction and what it "
                                "shows; the whole frame in hex; and\n"
                                "# what it means, line by line: the generation, then each message. h'..' is binary, "
                                "\"..\" text, nil none. Encoding the\n"
                                "# meaning gives the hex, and decoding the hex gives the meaning (lists of SUBMIT, "
                                "OUTCOME, DISPATCH, REVOKE, DROP,\n"
                                "# RETURNED, STARTED, FINISHED, RECEIPT and PROGRESS with a five-byte head; any head "
                                "is right). See common/PROTOCOL.md.\n"
                                "# Written by `test_golden --write`, checked by test_golden.\n\n";

static struct buf golden_text(void)
{
    struct buf text = {0};

    buf_put(&text, file_head, sizeof file_head - 1);
    for (size_t i = 0; i < golden_vector_count; i++) {
        vector_text(&text, i);
    }
    buf_put_u8(&text, '\0');
    text.n--;
    return text;
}

/* ---- tests ---- */

/* What we write is what the file says: another's client, tested with the file, understands us. */
static void test_the_encoder_writes_the_golden_frames(void **state)
{
    struct buf file = file_read(GOLDEN_PATH);
    struct buf text = golden_text();

    (void)state;
    for (char *ours = (char *)text.p, *theirs = (char *)file.p; *ours != '\0' || *theirs != '\0';) {
        size_t n = strcspn(ours, "\n");
        size_t m = strcspn(theirs, "\n");

        if (n != m || memcmp(ours, theirs, n) != 0) {
            fail_msg("golden file says\n%.*s\nwe write\n%.*s", (int)m, theirs, (int)n, ours);
        }
        ours += n + (ours[n] == '\n');
        theirs += m + (theirs[m] == '\n');
    }
    buf_fini(&text);
    buf_fini(&file);
}

/* The other way: the hex of the file alone is read, and written again it is the same. */
static void test_the_decoder_reads_the_golden_frames(void **state)
{
    struct buf file = file_read(GOLDEN_PATH);
    size_t count = 0;

    (void)state;
    for (const char *at = strstr((char *)file.p, "\nhex "); at != NULL; at = strstr(at, "\nhex ")) {
        struct buf frame;
        struct buf again;
        struct buf text = {0};

        at += strlen("\nhex ");
        frame = hex_read(at, strcspn(at, "\n"));
        again = frame_again(buf_bytes(&frame));
        assert_int_equal(again.n, frame.n);
        assert_memory_equal(again.p, frame.p, frame.n);
        frame_text(&text, buf_bytes(&frame));
        at += strcspn(at, "\n") + 1;
        assert_memory_equal(at, text.p, text.n);
        assert_int_equal(at[text.n], '\n');
        buf_fini(&text);
        buf_fini(&again);
        buf_fini(&frame);
        count++;
    }
    assert_int_equal(count, golden_vector_count);
    buf_fini(&file);
}

static void test_every_message_has_a_golden_frame(void **state)
{
    struct buf text = golden_text();

    (void)state;
#define X(number, name, required, direction)                                                                           \
    if (strstr((char *)text.p, "\n" #name) == NULL) {                                                                  \
        fail_msg("no golden frame has a " #name);                                                                      \
    }
    MESSAGE_LIST(X)
#undef X
    buf_fini(&text);
}

/* A frame may break anywhere. None of its beginnings crashes, and a message is taken only when it is whole. */
static void test_a_frame_cut_short_is_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < golden_vector_count; i++) {
        struct buf frame = {0};

        golden_vectors[i].put(&frame);
        for (size_t n = 0; n < frame.n; n++) {
            uint8_t *copy = test_malloc(n + 1); /* of exactly that size: a sanitizer sees a read behind it */
            struct cursor cursor;
            struct message message;
            uint32_t generation;
            uint64_t unknown;
            const char *why;
            enum quern_err err;

            memcpy(copy + 1, frame.p, n);
            err = frame_open(bytes_of(copy + 1, n), &generation, &cursor);
            if (err == QUERN_OK) {
                const uint8_t *start = cursor.p;

                while ((err = message_next(&cursor, &message, &unknown, &why)) == QUERN_OK) {
                    start = cursor.p;
                }
                /* Cut between two messages nothing is missing; cut anywhere else the rest is refused. */
                assert_int_equal(err, start == copy + 1 + n ? QUERN_END : QUERN_PROTOCOL);
                assert_int_equal(message_next(&cursor, &message, &unknown, &why), QUERN_END);
            } else {
                assert_int_equal(err, QUERN_PROTOCOL);
            }
            test_free(copy);
        }
        buf_fini(&frame);
    }
}

/* The document's example is the encoder's, whatever line breaks and blanks it is shown with. */
static void test_the_worked_example_is_real(void **state)
{
    struct buf doc = file_read(PROTOCOL_PATH);
    struct buf packed = {0};

    (void)state;
    for (size_t i = 0; i < doc.n; i++) {
        if (doc.p[i] != ' ' && doc.p[i] != '\n') {
            buf_put_u8(&packed, doc.p[i]);
        }
    }
    buf_put_u8(&packed, '\0');
    for (size_t i = 0; i < golden_vector_count; i++) {
        struct buf frame = {0};
        struct buf hex = {0};

        if (!golden_vectors[i].is_in_protocol) {
            continue;
        }
        golden_vectors[i].put(&frame);
        hex_put(&hex, buf_bytes(&frame));
        buf_put_u8(&hex, '\0');
        if (strstr((char *)packed.p, (char *)hex.p) == NULL) {
            fail_msg("PROTOCOL.md does not show %s:\n%s", golden_vectors[i].name, (char *)hex.p);
        }
        buf_fini(&hex);
        buf_fini(&frame);
    }
    buf_fini(&packed);
    buf_fini(&doc);
}

static int golden_write(void)
{
    struct buf text = golden_text();
    FILE *file = fopen(GOLDEN_PATH, "wb");
    bool is_written = file != NULL && fwrite(text.p, 1, text.n, file) == text.n;

    if (file != NULL && fclose(file) != 0) {
        is_written = false;
    }
    buf_fini(&text);
    return is_written ? 0 : 1;
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_encoder_writes_the_golden_frames),
        cmocka_unit_test(test_the_decoder_reads_the_golden_frames),
        cmocka_unit_test(test_every_message_has_a_golden_frame),
        cmocka_unit_test(test_a_frame_cut_short_is_refused),
        cmocka_unit_test(test_the_worked_example_is_real),
    };

    if (argc == 2 && strcmp(argv[1], "--write") == 0) {
        return golden_write();
    }
    return cmocka_run_group_tests_name("golden", tests, NULL, NULL);
}

/*
 * fuzz_json.c owns what must hold of JSON and msgpack of the command line, both ways: any bytes are taken or refused
 * with a reason, and nothing changes silently on the way there and back.
 * It must not know tasks.
 * Start reading at LLVMFuzzerTestOneInput.
 */
#include "client/cli/json.h"
#include "common/check.h"
#include "common/codec.h"
#include "common/limits.h"
#include "fuzz/input.h"

static void text_check(struct bytes text)
{
    char why[JSON_ERROR_SIZE] = "";
    struct buf value = {0};
    struct buf again = {0};
    struct buf value_again = {0};
    put_nil(&value);
    if (!json_to_msgpack(text, VALUE_DEPTH_MAX, &value, why)) {
        CHECK(value.n == 1 && why[0] != '\0');
        buf_fini(&value);
        return;
    }
    struct bytes bytes = bytes_of(value.p + 1, value.n - 1);
    CHECK(value_is_whole(bytes, VALUE_DEPTH_MAX));
    CHECK(json_from_msgpack(bytes, &again) == QUERN_OK);
    CHECK_THAT(json_to_msgpack(buf_bytes(&again), VALUE_DEPTH_MAX, &value_again, why), "%s", why);
    CHECK(bytes_equal(bytes, buf_bytes(&value_again)));
    buf_fini(&value);
    buf_fini(&again);
    buf_fini(&value_again);
}

/* What is written is one line of JSON, and read it is the same value, though numbers may be written shorter: so it is
 * the text that must not change any more. */
static void value_check(struct bytes value)
{
    char why[JSON_ERROR_SIZE] = "";
    struct buf text = {0};
    struct buf back = {0};
    struct buf text_again = {0};
    buf_put_u8(&text, 'x');
    if (json_from_msgpack(value, &text) != QUERN_OK) {
        CHECK(text.n == 1);
        buf_fini(&text);
        return;
    }
    struct bytes line = bytes_of(text.p + 1, text.n - 1);
    CHECK(bytes_is_utf8(line) && memchr(line.p, '\n', line.n) == NULL);
    if (json_to_msgpack(line, VALUE_DEPTH_MAX + 4, &back, why)) {
        CHECK(json_from_msgpack(buf_bytes(&back), &text_again) == QUERN_OK);
        CHECK(bytes_equal(line, buf_bytes(&text_again)));
    }
    buf_fini(&text);
    buf_fini(&back);
    buf_fini(&text_again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    text_check(bytes_of(data, size));
    value_check(bytes_of(data, size));
    return 0;
}

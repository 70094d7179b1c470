/*
 * Owns `quern map`: an item is the single argument of a call of one function. Must not know how items are read and
 * outcomes printed (feed.h). Start at map_main.
 */
#include "client/cli/describe.h"
#include "client/cli/feed.h"
#include "common/codec.h"
#include "common/limits.h"
#include <string.h>

#define RAW_HINT " (--raw takes a line as text)"

/* A JSON value; its array of arguments is one level of the payload. */
static bool encode_json(void *context, struct bytes item, struct buf *args, char why[JSON_ERROR_SIZE])
{
    (void)context;
    put_array(args, 1);
    if (json_to_msgpack(item, VALUE_DEPTH_MAX - 1, args, why)) {
        return true;
    }
    size_t size = strnlen(why, JSON_ERROR_SIZE - sizeof RAW_HINT);
    memcpy(why + size, RAW_HINT, sizeof RAW_HINT);
    return false;
}

static bool encode_raw(void *context, struct bytes item, struct buf *args, char why[JSON_ERROR_SIZE])
{
    (void)context;
    (void)why;
    put_array(args, 1);
    if (bytes_is_utf8(item)) {
        put_str(args, item);
    } else {
        put_bin(args, item);
    }
    return true;
}

static int map_start(const struct cli *cli, const char *function, const struct feed_options *options)
{
    const struct feed_kind kind = {.function = function, .encode = options->is_raw ? encode_raw : encode_json};
    const struct printing printing = {
        .shape = options->jsonl ? PRINT_OBJECT : PRINT_RESULT,
        .input = INPUT_VALUE,
        .null_for_failed = options->keep_order,
    };
    const struct description description = {
        .command = "map",
        .function = function,
        .is_raw = options->is_raw,
        .is_null = options->is_null,
        .task = &options->task,
    };
    struct buf described = {0};
    describe(&description, &described);
    int status = feed_main(cli, &kind, options, printing, buf_bytes(&described));
    buf_fini(&described);
    return status;
}

int map_main(struct cli *cli, struct arguments *arguments)
{
    struct feed_options options = {.window = FEED_WINDOW_DEFAULT};
    struct option table[FEED_OPTION_COUNT + TASK_OPTION_COUNT];
    task_options_init(&options.task);
    feed_options_table(&options, table);
    task_options_table(&options.task, table + FEED_OPTION_COUNT);
    int status = arguments_parse(arguments, table, FEED_OPTION_COUNT + TASK_OPTION_COUNT);
    if (status != ARGUMENTS_GO_ON) {
        return status;
    }
    options.jsonl = options.jsonl || cli->json;
    if (!arguments_expect(arguments, 1, 1, "the name of a function")) {
        return STATUS_USAGE;
    }
    status = feed_options_check(&options, arguments);
    status = status != ARGUMENTS_GO_ON ? status : task_options_check(&options.task, arguments);
    return status == ARGUMENTS_GO_ON ? map_start(cli, arguments->words[0], &options) : status;
}

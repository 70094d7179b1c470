/*
 * Owns `quern run`: an item becomes a command line that a worker executes. Must not know how items are read and
 * outcomes printed (feed.h). Start at run_main.
 */
#include "client/cli/describe.h"
#include "client/cli/feed.h"
#include "common/check.h"
#include "common/codec.h"
#include "common/limits.h"
#include "common/messages.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define RUN_ENV_COUNT_MAX 1024u
#define INPUT_NAME "QUERN_INPUT"
#define PLACE "{}"

struct run {
    char **argv;
    size_t argc;
    bool has_place;                     /* {} stands in one of them */
    const char *env[RUN_ENV_COUNT_MAX]; /* "NAME=VALUE", or "NAME": as it is here */
    size_t env_count;
    char *cwd;
};

/* ---- arguments of the task ---- */

static void put_bytes(struct buf *to, struct bytes bytes)
{
    if (bytes_is_utf8(bytes)) {
        put_str(to, bytes);
    } else {
        put_bin(to, bytes);
    }
}

/* One word of the command with every {} replaced. */
static void put_word(struct buf *to, const char *word, struct bytes item, struct buf *scratch)
{
    const char *rest = word;
    scratch->n = 0;
    for (const char *found; (found = strstr(rest, PLACE)) != NULL; rest = found + strlen(PLACE)) {
        buf_put(scratch, rest, (size_t)(found - rest));
        buf_put(scratch, item.p, item.n);
    }
    buf_put(scratch, rest, strlen(rest));
    buf_reserve(scratch, 1); /* an empty word has bytes to point to as well */
    put_bytes(to, buf_bytes(scratch));
}

static size_t env_name_size(const char *entry)
{
    return strcspn(entry, "=");
}

static void put_env(struct buf *to, const char *entry)
{
    size_t size = env_name_size(entry);
    put_bytes(to, bytes_of(entry, size));
    if (entry[size] == '=') {
        put_bytes(to, bytes_text(entry + size + 1));
    } else {
        put_bytes(to, bytes_text(getenv(entry)));
    }
}

static void put_env_entries(struct buf *to, const struct run *run)
{
    for (size_t i = 0; i < run->env_count; i++) {
        put_env(to, run->env[i]);
    }
}

/* [[argv...], {"env": {..., QUERN_INPUT: line}, "cwd": directory}] */
static bool encode_command(void *context, struct bytes item, struct buf *args, char why[JSON_ERROR_SIZE])
{
    const struct run *run = context;
    struct buf scratch = {0};
    if (memchr(item.p, '\0', item.n) != NULL) {
        (void)snprintf(why, JSON_ERROR_SIZE, "it has a NUL byte, which no command's argument can have");
        return false;
    }
    put_array(args, 2);
    put_array(args, (uint32_t)(run->argc + (run->has_place ? 0 : 1)));
    for (size_t i = 0; i < run->argc; i++) {
        put_word(args, run->argv[i], item, &scratch);
    }
    if (!run->has_place) {
        put_bytes(args, item);
    }
    put_map(args, 2);
    put_text(args, "env");
    put_map(args, (uint32_t)run->env_count + 1);
    put_env_entries(args, run);
    put_text(args, INPUT_NAME);
    put_bytes(args, item);
    put_text(args, "cwd");
    put_bytes(args, bytes_text(run->cwd));
    buf_fini(&scratch);
    return true;
}

/* ---- options ---- */

static bool env_set(void *to, const char *value)
{
    struct run *run = to;
    size_t size = env_name_size(value);
    if (size == 0) {
        say("--env '%s': the name is missing; write NAME=VALUE, or NAME to hand on its value here", value);
        return false;
    }
    if (size == strlen(INPUT_NAME) && memcmp(value, INPUT_NAME, size) == 0) {
        say("--env '%s': quern sets " INPUT_NAME " itself, to the line", value);
        return false;
    }
    if (value[size] == '\0' && getenv(value) == NULL) {
        say("--env %s: it is not set here; write %s=VALUE or export it", value, value);
        return false;
    }
    size_t at = 0;
    while (at < run->env_count && (env_name_size(run->env[at]) != size || memcmp(run->env[at], value, size) != 0)) {
        at++;
    }
    if (at == RUN_ENV_COUNT_MAX) {
        say("--env: at most %u variables", RUN_ENV_COUNT_MAX);
        return false;
    }
    run->env[at] = value; /* the last one of a name holds */
    run->env_count += at == run->env_count ? 1 : 0;
    return true;
}

static int run_start(const struct cli *cli, struct run *run, const struct feed_options *options)
{
    const struct feed_kind kind = {.function = FUNCTION_COMMAND, .encode = encode_command, .context = run};
    const struct printing printing = {
        .shape = options->jsonl ? PRINT_OBJECT : PRINT_OUTPUT,
        .input = INPUT_LINE,
        .is_command = true,
    };
    struct buf argv = {0};
    struct buf env = {0};
    struct buf described = {0};
    put_array(&argv, (uint32_t)run->argc);
    for (size_t i = 0; i < run->argc; i++) {
        put_bytes(&argv, bytes_text(run->argv[i]));
    }
    put_map(&env, (uint32_t)run->env_count);
    put_env_entries(&env, run);
    const struct description description = {
        .command = "run",
        .function = FUNCTION_COMMAND,
        .is_raw = options->is_raw,
        .is_null = options->is_null,
        .task = &options->task,
        .argv = buf_bytes(&argv),
        .env = buf_bytes(&env),
        .cwd = run->cwd,
    };
    describe(&description, &described);
    int status = feed_main(cli, &kind, options, printing, buf_bytes(&described));
    buf_fini(&described);
    buf_fini(&env);
    buf_fini(&argv);
    return status;
}

static int run_check(struct run *run, const struct feed_options *options, struct arguments *arguments)
{
    if (arguments->word_count > 0) {
        return usage_error(arguments, "'%s': the command stands behind `--`: quern run [OPTIONS] -- COMMAND [ARG]...",
                           arguments->words[0]);
    }
    if (arguments->behind_count == 0) {
        return usage_error(arguments, "the command is missing: quern run [OPTIONS] -- COMMAND [ARG]...");
    }
    run->argv = arguments->behind;
    run->argc = arguments->behind_count;
    for (size_t i = 0; i < run->argc; i++) {
        run->has_place = run->has_place || strstr(run->argv[i], PLACE) != NULL;
    }
    run->cwd = getcwd(NULL, 0);
    if (run->cwd == NULL) {
        say("the working directory cannot be found: %s; go to one that exists", strerror(errno));
        return STATUS_NOT_DONE;
    }
    int status = feed_options_check(options, arguments);
    return status != ARGUMENTS_GO_ON ? status : task_options_check(&options->task, arguments);
}

int run_main(struct cli *cli, struct arguments *arguments)
{
    enum { TABLE_COUNT = FEED_OPTION_COUNT + TASK_OPTION_COUNT + 1 };
    struct feed_options options = {.window = FEED_WINDOW_DEFAULT};
    struct option table[TABLE_COUNT];
    struct run *run = xcalloc(1, sizeof *run);
    task_options_init(&options.task);
    feed_options_table(&options, table);
    task_options_table(&options.task, table + FEED_OPTION_COUNT);
    table[TABLE_COUNT - 1] = (struct option){.name = "env", .kind = OPTION_CALL, .to = run, .call = env_set};
    int status = arguments_parse(arguments, table, TABLE_COUNT);
    if (status == ARGUMENTS_GO_ON) {
        options.jsonl = options.jsonl || cli->json;
        options.is_raw = true; /* lines are taken as they are: the bound is that of a payload */
        status = run_check(run, &options, arguments);
    }
    if (status == ARGUMENTS_GO_ON) {
        status = run_start(cli, run, &options);
    }
    free(run->cwd);
    free(run);
    return status;
}

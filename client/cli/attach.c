/*
 * Owns `quern attach`: prints the outcomes of a session that others submitted into. Start at attach_main.
 */
#include "client/cli/arguments.h"
#include "client/cli/describe.h"
#include "client/cli/feed.h"
#include "client/cli/waiting.h"
#include <stdlib.h>
#include <string.h>

static bool command_is(const char *command, const char *word)
{
    return command != NULL && strcmp(command, word) == 0;
}

/* What the session's maker left with it says how its outcomes are to be read. */
static int attach_print(const struct cli *cli, struct quern_client *client, const char *session)
{
    struct quern_session_info info = QUERN_SESSION_INFO_INIT;
    enum quern_err err = quern_session_info(client, &info);
    char *command = NULL;
    if (err == QUERN_OK) {
        command = describe_field(bytes_of(info.description, info.description_size), "command");
    }
    bool is_run = command_is(command, "run");
    const struct printing printing = {
        .shape = cli->json ? PRINT_OBJECT : (is_run ? PRINT_OUTPUT : PRINT_RESULT),
        .input = is_run ? INPUT_LINE : (command_is(command, "map") ? INPUT_VALUE : INPUT_ARGS),
        .is_command = is_run,
    };
    free(command);
    waiting_tell_session(client, session);
    return feed_attach(cli, client, printing, session);
}

int attach_main(struct cli *cli, struct arguments *arguments)
{
    bool jsonl = false;
    struct quern_client_options open = QUERN_CLIENT_OPTIONS_INIT;
    const struct option table[] = {
        {.name = "take-over", .kind = OPTION_FLAG, .to = &open.take_over},
        {.name = "jsonl", .kind = OPTION_FLAG, .to = &jsonl},
        {.name = "volatile", .kind = OPTION_FLAG, .to = &open.is_volatile},
    };
    struct quern_client *client = NULL;
    int status = arguments_parse(arguments, table, sizeof table / sizeof table[0]);
    if (status != ARGUMENTS_GO_ON) {
        return status;
    }
    if (!arguments_expect(arguments, 1, 1, "the name of a session")) {
        return STATUS_USAGE;
    }
    cli->json = cli->json || jsonl;
    open.session = arguments->words[0];
    open.must_exist = true;
    open.want_args = cli->json;
    status = cli_open(cli, &open, &client);
    return status == STATUS_OK ? attach_print(cli, client, arguments->words[0]) : status;
}

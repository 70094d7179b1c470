/*
 * quern: the command line. Owns finding the command among the words. Must not know what commands do.
 * Start at main; then the file of the command you look for.
 */
#include "client/cli/arguments.h"
#include "client/cli/commands.h"
#include "client/cli/help.h"
#include "client/cli/signals.h"
#include <string.h>

static int command_run(struct cli *cli, struct arguments *arguments)
{
    const char *word = arguments->words[0];
    if (strcmp(word, "help") == 0) {
        return help_print(arguments->word_count > 1 ? arguments->words[1] : NULL);
    }
    const struct command *command = command_find(word);
    if (command == NULL) {
        return usage_error(arguments, "'%s' is no command", word);
    }
    arguments->command = command->name;
    arguments->words++;
    arguments->word_count--;
    return command->run(cli, arguments);
}

int main(int argc, char **argv)
{
    struct cli cli = {.connect_timeout_ms = 5000};
    struct arguments arguments = {.cli = &cli, .words = argv + 1, .word_count = argc > 0 ? (size_t)argc - 1 : 0};
    signals_install();
    int status = arguments_parse_global(&arguments);
    if (status != ARGUMENTS_GO_ON) {
        return status;
    }
    if (arguments.word_count == 0) {
        return usage_error(&arguments, "a command is missing");
    }
    return command_run(&cli, &arguments);
}

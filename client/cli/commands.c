/*
 * Owns the table of commands. Start at COMMAND_LIST (commands.h).
 */
#include "client/cli/commands.h"

#include <string.h>

static const struct command commands[] = {
#define X(name, summary) {#name, summary, name##_main},
    COMMAND_LIST(X)
#undef X
};

const struct command *command_next(const struct command *command)
{
    const struct command *next = command == NULL ? commands : command + 1;
    return next < commands + sizeof commands / sizeof commands[0] ? next : NULL;
}

const struct command *command_find(const char *name)
{
    for (const struct command *command = command_next(NULL); command != NULL; command = command_next(command)) {
        if (strcmp(command->name, name) == 0) {
            return command;
        }
    }
    return NULL;
}

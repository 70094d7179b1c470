/* The texts of --help. Knows the list of commands by name only. */
#ifndef QUERN_CLI_HELP_H
#define QUERN_CLI_HELP_H

#include <stdbool.h>

/* The help of one command, or of quern if command is NULL or unknown. Answers the exit status. */
int help_print(const char *command);
int help_version(bool json);

#endif

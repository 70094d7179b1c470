/* Words of the command line that name tasks, and small things for people. Must not know commands. */
#ifndef QUERN_CLI_WORDS_H
#define QUERN_CLI_WORDS_H

#include "client/cli/arguments.h"

#define AGE_SIZE 24u

/* Every word is an id; else STATUS_USAGE, said. */
int ids_check(const struct arguments *arguments);
uint64_t id_of(const char *word);

/* "3 s", "5 min", "2 h", "4 d" before now; "" for 0. */
const char *age_text(int64_t at_ms, char text[AGE_SIZE]);
/* "0.5 s" */
const char *seconds_text(uint64_t ms, char text[AGE_SIZE]);

#endif

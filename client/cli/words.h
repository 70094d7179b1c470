/* Words of the command line that name tasks, and small things for people. Must not know commands. */
#ifndef QUERN_CLI_WORDS_H
#define QUERN_CLI_WORDS_H

#include "client/cli/arguments.h"
#include "client/cli/out.h"

#define AGE_SIZE 24u

/* Every word is an id; else STATUS_USAGE, said. */
int ids_check(const struct arguments *arguments);
uint64_t id_of(const char *word);

/* Opens a connection and does one thing for each id in turn; what do_one puts into out is printed as it comes.
 * The last status that is not OK. */
int ids_each(const struct cli *cli, const struct arguments *arguments, void *context,
             int (*do_one)(void *context, struct quern_client *client, const char *id, struct out *out));

/* "3 s", "5 min", "2 h", "4 d" before now; "" for 0. */
const char *age_text(int64_t at_ms, char text[AGE_SIZE]);
/* "0.5 s" */
const char *seconds_text(uint64_t ms, char text[AGE_SIZE]);

#endif

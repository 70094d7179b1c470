/* One line of progress on stderr, only if that is a terminal. Must not know where its numbers come from. */
#ifndef QUERN_CLI_PROGRESS_H
#define QUERN_CLI_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

#define PROGRESS_TICK_MS 200

void progress_begin(void);
/* True if the line is wanted at all: then call progress_show at least every PROGRESS_TICK_MS. */
bool progress_is_on(void);
void progress_show(uint64_t printed, uint64_t failed, uint64_t unprinted, bool is_reading);
/* Takes the line away before something else is written to the terminal. */
void progress_clear(void);

#endif

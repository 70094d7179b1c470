/* Ctrl-C, SIGTERM and SIGHUP (all the same). Must not know what is to be cancelled. */
#ifndef QUERN_CLI_SIGNALS_H
#define QUERN_CLI_SIGNALS_H

#include <stdbool.h>

/* From now on such a signal ends the process with status 130; SIGPIPE is ignored. What was ignored at the start (nohup)
 * stays ignored. */
void signals_install(void);
/* From now on the first signal is only noted; the second ends the process. */
void signals_hold(void);
bool signals_came(void);
/* Readable once a signal came, for poll. -1 before signals_hold. */
int signals_fd(void);

#endif

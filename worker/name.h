/*
 * name.h: a worker's name, held by a locked file for as long as the process lives.
 */
#ifndef QUERN_WORKER_NAME_H
#define QUERN_WORKER_NAME_H

#include "quern/err.h"

/* wanted NULL: HOST-N, N the first number whose lock is free. The lock is kept in *fd_out (close-on-exec).
 * QUERN_IN_USE: another living worker of this user has the name. *why_out is malloc'd on error. */
QUERN_MUST_USE enum quern_err name_hold(const char *wanted, const char *host, char **name_out, int *fd_out,
                                        char **why_out);

#endif

/*
 * name.h: a worker's name, held by a locked file for as long as the process lives.
 */
#ifndef QUERN_WORKER_NAME_H
#define QUERN_WORKER_NAME_H

#include "quern/err.h"

/* A name that is held: the kernel lets go of it with this process. */
struct name_hold {
    char *name;
    int file;   /* locked */
    int socket; /* bound; -1 if that could not be had */
};

/* wanted NULL: HOST-N, N the first number that is free. broker: where the name will be used, as it was given.
 * given: the directory for its lock; NULL: the runtime directory.
 * QUERN_IN_USE: another living worker has the name. *why_out is malloc'd on error. */
QUERN_MUST_USE enum quern_err name_take(const char *wanted, const char *host, const char *broker, const char *given,
                                        struct name_hold *hold_out, char **why_out);
void name_release(struct name_hold *hold);

#endif

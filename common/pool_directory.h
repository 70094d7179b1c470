/*
 * pool_directory.h: the private directory of an embedded pool: made by the program, removed by whoever of program and
 * broker is last, or by a later pool if both were killed at once. It holds the broker's socket, locks, and a mark: a
 * file whose lock the program holds for as long as it lives.
 */
#ifndef QUERN_COMMON_POOL_DIRECTORY_H
#define QUERN_COMMON_POOL_DIRECTORY_H

#include "quern/err.h"

struct pool_directory {
    char *path;  /* NULL: none */
    int mark_fd; /* locked */
};
#define POOL_DIRECTORY_INIT                                                                                            \
    {                                                                                                                  \
        .path = NULL, .mark_fd = -1                                                                                    \
    }

/* Makes one, 0700, in XDG_RUNTIME_DIR, else TMPDIR, else /tmp: the first that can be used and leaves room for the path
 * of a socket. Removes what pools that were killed left there. *why_out: malloc'd sentence on QUERN_IO; NULL if there
 * is no memory, not even for that. QUERN_NO_MEMORY. */
QUERN_MUST_USE enum quern_err pool_directory_make(struct pool_directory *directory_out, char **why_out);
/* Removes it, and lets go of it. NULL path: nothing. */
void pool_directory_remove(struct pool_directory *directory);

/* Removes a directory by its path, if it is a pool's: real, ours, 0700, of the right name and with a mark in it. Only
 * files that a pool makes are removed; with any other in it, it stays. */
void pool_directory_remove_path(const char *path);

#endif

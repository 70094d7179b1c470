/*
 * pool_find.h: where the programs of a pool are.
 */
#ifndef QUERN_CLIENT_POOL_FIND_H
#define QUERN_CLIENT_POOL_FIND_H

#include "quern/err.h"

/* The path of a program of quern by its name, malloc'd. QUERN_UNKNOWN with a text that says where was looked. */
QUERN_MUST_USE enum quern_err pool_find(const char *name, char **path_out);

#endif

/*
 * modules.h: the functions this worker serves, by index, and how they get here from shared objects and the program.
 * Lives in the zygote and, copied by fork, in every slot. Single-threaded.
 */
#ifndef QUERN_WORKER_MODULES_H
#define QUERN_WORKER_MODULES_H

#include "quern/worker.h"

struct registered {
    char *name;
    char *origin; /* "examples.so", "the program" */
    quern_handler *handler;
};

struct registry {
    struct registered *functions;
    size_t count;
    char *why; /* of the last error: what is wrong, where, and what to do */
};

/* Each answers false and sets registry->why. */
bool registry_add(struct registry *registry, const char *name, quern_handler *handler, const char *origin);
/* The functions of a module, after its initialiser has run once. */
bool registry_add_module(struct registry *registry, const struct quern_module *module, const char *origin);
/* dlopen it, find its module symbol, add that. */
bool registry_load(struct registry *registry, const char *path);
void registry_fini(struct registry *registry);

#endif

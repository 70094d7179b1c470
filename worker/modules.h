/*
 * modules.h: the functions this worker serves, by index, and how they get here from shared objects and the program.
 * Lives in the zygote and, copied by fork, in every slot. Single-threaded.
 */
#ifndef QUERN_WORKER_MODULES_H
#define QUERN_WORKER_MODULES_H

#include "quern/worker.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct registered {
    char *name;
    char *origin; /* "examples.so", "the program" */
    quern_handler *handler;
};

/* What is called in every slot. */
struct registered_slot {
    char *origin;
    enum quern_err (*initialise)(const char **text_out);
};

struct registry {
    struct registered *functions;
    size_t count;
    struct registered_slot *slots;
    size_t slot_count;
    bool leaves_uninitialised; /* names are wanted, nothing will run here */
    bool may_have_threads;     /* nothing is forked from here */
    char *why;                 /* of the last error: what is wrong, where, and what to do */
};

/* Each answers false and sets registry->why. */
bool registry_add(struct registry *registry, const char *name, quern_handler *handler, const char *origin);
/* The functions of a module, after its initialiser has run once. */
bool registry_add_module(struct registry *registry, const struct quern_module *module, const char *origin);
/* dlopen it, find its module symbol, add that. */
bool registry_load(struct registry *registry, const char *path);
/* What modules want to be done in each slot, once. */
bool registry_initialise_slot(struct registry *registry);
/* Of the names by index (names.h). */
uint64_t registry_hash(const struct registry *registry);
void registry_fini(struct registry *registry);

#endif

/*
 * modules.c owns which name means which handler, and the loading of shared objects.
 * It must not know slots, sockets or the broker.
 * Start reading at registry_load.
 */
#include "worker/modules.h"

#include "common/bytes.h"
#include "common/check.h"
#include "common/limits.h"
#include "common/messages.h"
#include "worker/names.h"

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

__attribute__((format(printf, 2, 3))) static bool refuse(struct registry *registry, const char *format, ...)
{
    va_list list;
    va_start(list, format);
    char *why = NULL;
    if (vasprintf(&why, format, list) < 0) {
        why = NULL;
    }
    va_end(list);
    free(registry->why);
    registry->why = why;
    return false;
}

static const struct registered *find(const struct registry *registry, const char *name)
{
    for (size_t i = 0; i < registry->count; i++) {
        if (strcmp(registry->functions[i].name, name) == 0) {
            return &registry->functions[i];
        }
    }
    return NULL;
}

bool registry_add(struct registry *registry, const char *name, quern_handler *handler, const char *origin)
{
    struct bytes text = bytes_text(name);
    const struct registered *other = find(registry, name);
    if (text.n == 0 || text.n > FUNCTION_NAME_SIZE_MAX || !bytes_is_utf8(text)) {
        return refuse(registry, "%s: a function's name must be 1 to %u bytes of UTF-8, not \"%.200s\"", origin,
                      FUNCTION_NAME_SIZE_MAX, name);
    }
    if (other != NULL) {
        return refuse(registry, "function \"%s\" is in %s and in %s: a worker serves each name once; rename one", name,
                      other->origin, origin);
    }
    if (registry->count == WORKER_FUNCTION_COUNT_MAX) {
        return refuse(registry, "%s: a worker serves at most %u functions", origin, WORKER_FUNCTION_COUNT_MAX);
    }
    registry->functions = xrealloc(registry->functions, (registry->count + 1) * sizeof(registry->functions[0]));
    registry->functions[registry->count++] =
        (struct registered){.name = xstrdup(name), .origin = xstrdup(origin), .handler = handler};
    return true;
}

static bool add_user_function(struct registry *registry, const struct quern_function *function, const char *origin)
{
    if (function->handler == NULL) {
        return refuse(registry, "%s: function \"%.200s\" has no handler", origin, function->name);
    }
    if (strncmp(function->name, FUNCTION_RESERVED_PREFIX, strlen(FUNCTION_RESERVED_PREFIX)) == 0) {
        return refuse(registry,
                      "%s: function \"%.200s\": names that begin with \"" FUNCTION_RESERVED_PREFIX "\" are quern's own",
                      origin, function->name);
    }
    return registry_add(registry, function->name, function->handler, origin);
}

/* Slots are forked from here, and fork copies one thread only: a lock held by another would stay locked for ever. */
static size_t thread_count(void)
{
    DIR *tasks = opendir("/proc/self/task");
    size_t count = 0;
    if (tasks == NULL) {
        return 1;
    }
    for (struct dirent *entry = readdir(tasks); entry != NULL; entry = readdir(tasks)) {
        count += entry->d_name[0] != '.';
    }
    closedir(tasks);
    return count;
}

/* A module built against an older header ends before the fields that came later. */
#define HAS_FIELD(module, field) ((module)->size >= offsetof(struct quern_module, field) + sizeof((module)->field))

static bool initialise(struct registry *registry, const struct quern_module *module, const char *origin)
{
    if (!HAS_FIELD(module, initialise) || module->initialise == NULL || registry->leaves_uninitialised) {
        return true;
    }
    size_t threads = thread_count();
    const char *text = NULL;
    enum quern_err err = module->initialise(&text);
    if (err != QUERN_OK) {
        return refuse(registry, "%s: its initialiser failed: %.1000s", origin,
                      text != NULL ? text : quern_err_text(err));
    }
    if (thread_count() > threads && !registry->may_have_threads) {
        return refuse(registry,
                      "%s: its initialiser left a thread running; slots are forked from here, so start "
                      "threads in the handler, or start the worker with --start spawn",
                      origin);
    }
    return true;
}

static bool add_slot_initialiser(struct registry *registry, const struct quern_module *module, const char *origin)
{
    if (HAS_FIELD(module, initialise_slot) && module->initialise_slot != NULL) {
        registry->slots = xrealloc(registry->slots, (registry->slot_count + 1) * sizeof(registry->slots[0]));
        registry->slots[registry->slot_count++] =
            (struct registered_slot){.origin = xstrdup(origin), .initialise = module->initialise_slot};
    }
    return true;
}

bool registry_add_module(struct registry *registry, const struct quern_module *module, const char *origin)
{
    if (module->size < offsetof(struct quern_module, initialise) || module->functions == NULL) {
        return refuse(registry, "%s: its quern_module has no functions: fill it with QUERN_MODULE(.functions = ...)",
                      origin);
    }
    for (const struct quern_function *function = module->functions; function->name != NULL; function++) {
        if (!add_user_function(registry, function, origin)) {
            return false;
        }
    }
    return initialise(registry, module, origin) && add_slot_initialiser(registry, module, origin);
}

bool registry_initialise_slot(struct registry *registry)
{
    for (size_t i = 0; i < registry->slot_count; i++) {
        const char *text = NULL;
        enum quern_err err = registry->slots[i].initialise(&text);
        if (err != QUERN_OK) {
            return refuse(registry, "%s: its initialiser of slots failed: %.1000s", registry->slots[i].origin,
                          text != NULL ? text : quern_err_text(err));
        }
    }
    return true;
}

uint64_t registry_hash(const struct registry *registry)
{
    uint64_t hash = NAMES_HASH_BEGIN;
    for (size_t i = 0; i < registry->count; i++) {
        hash = names_hash_add(hash, registry->functions[i].name);
    }
    return hash;
}

/* ---- shared objects ---- */

bool registry_load(struct registry *registry, const char *path)
{
    /* dlopen searches the library path for a name without a slash; a module is a file. */
    char *file = realpath(path, NULL);
    if (file == NULL) {
        return refuse(registry, "cannot load module %s: %s", path, strerror(errno));
    }
    size_t threads = thread_count();
    void *handle = dlopen(file, RTLD_NOW | RTLD_LOCAL);
    free(file);
    if (handle == NULL) {
        return refuse(registry, "cannot load module %s: %s", path, dlerror());
    }
    if (thread_count() > threads && !registry->may_have_threads) {
        return refuse(registry,
                      "%s: it, or a library it needs, started a thread when it was loaded; slots are forked from here, "
                      "so start threads in the handler, or start the worker with --start spawn",
                      path);
    }
    const struct quern_module *module = dlsym(handle, QUERN_MODULE_SYMBOL);
    if (module == NULL) {
        return refuse(registry, "module %s has no symbol " QUERN_MODULE_SYMBOL ": declare it with QUERN_MODULE(...)",
                      path);
    }
    return registry_add_module(registry, module, path);
}

void registry_fini(struct registry *registry)
{
    for (size_t i = 0; i < registry->count; i++) {
        free(registry->functions[i].name);
        free(registry->functions[i].origin);
    }
    for (size_t i = 0; i < registry->slot_count; i++) {
        free(registry->slots[i].origin);
    }
    free(registry->functions);
    free(registry->slots);
    free(registry->why);
    *registry = (struct registry){0};
}

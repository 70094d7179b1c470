/*
 * pool_find.c owns finding quern-broker and quern-worker for an embedded pool.
 * It must not know what they are started for.
 * Start reading at pool_find.
 */
#include "client/pool_find.h"

#include "client/inside.h"
#include "common/bytes.h"

#include <dlfcn.h>
#include <libgen.h>
#include <limits.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Directories that an error names. */
#define LOOKED_SIZE_MAX 2048u

static bool is_program(const char *path)
{
    struct stat facts;
    return stat(path, &facts) == 0 && S_ISREG(facts.st_mode) && access(path, X_OK) == 0;
}

/* What was found, and where was looked: the end of a long list is cut. */
struct search {
    const char *name;
    char found[PATH_MAX];
    char looked[LOOKED_SIZE_MAX];
    size_t looked_size;
};

static void looked_add(struct search *search, struct bytes directory)
{
    size_t room = sizeof(search->looked) - search->looked_size;
    int n = snprintf(search->looked + search->looked_size, room, "%s%.*s", search->looked_size > 0 ? ", " : "",
                     (int)directory.n, (const char *)directory.p);
    search->looked_size += n > 0 && (size_t)n < room ? (size_t)n : room - 1;
}

/* One place; true if it is there. */
static bool look_in(struct search *search, struct bytes directory)
{
    char path[PATH_MAX];
    if (directory.n == 0) {
        return false;
    }
    int n = snprintf(path, sizeof(path), "%.*s/%s", (int)directory.n, (const char *)directory.p, search->name);
    if (n <= 0 || (size_t)n >= sizeof(path) || !is_program(path)) {
        looked_add(search, directory);
        return false;
    }
    if (realpath(path, search->found) == NULL) { /* the program may change its directory before a restart */
        (void)snprintf(search->found, sizeof(search->found), "%s", path);
    }
    return true;
}

/* The file this code is in: libquern, or the program if it was linked in. False: not known. */
static bool own_file(char file[PATH_MAX])
{
    Dl_info info;
    struct link_map *map = NULL;
    if (dladdr1((void *)(uintptr_t)pool_find, &info, (void **)&map, RTLD_DL_LINKMAP) == 0 || map == NULL) {
        return false;
    }
    return realpath(map->l_name[0] == '\0' ? "/proc/self/exe" : map->l_name, file) != NULL;
}

static bool look_beside(struct search *search)
{
    char file[PATH_MAX];
    char directory[PATH_MAX + sizeof("/../bin")];
    if (!own_file(file)) {
        return false;
    }
    (void)snprintf(directory, sizeof(directory), "%s/../bin", dirname(file));
    return look_in(search, bytes_text(directory));
}

static bool look_in_path(struct search *search)
{
    const char *at = getenv("PATH");
    bool is_found = false;
    while (!is_found && at != NULL) {
        const char *colon = strchrnul(at, ':');
        is_found = look_in(search, bytes_of(at, (size_t)(colon - at)));
        at = *colon == ':' ? colon + 1 : NULL;
    }
    return is_found;
}

enum quern_err pool_find(const char *name, char **path_out)
{
    struct search search = {.name = name};
    const char *given = secure_getenv("QUERN_BIN");
    *path_out = NULL;
    if (!(given != NULL && look_in(&search, bytes_text(given))) && !look_beside(&search) && !look_in_path(&search)) {
        return error_set(QUERN_UNKNOWN, "%s was not found in %s; set QUERN_BIN to the directory that it is in", name,
                         search.looked);
    }
    *path_out = strdup(search.found);
    return *path_out != NULL ? QUERN_OK : error_memory("a pool");
}

/*
 * pool_find.c owns finding quern-broker and quern-worker for an embedded pool.
 * It must not know what they are started for.
 * Start reading at pool_find.
 */
#include "client/pool_find.h"

#include "client/inside.h"
#include "common/bytes.h"
#include "common/check.h"

#include <dlfcn.h>
#include <libgen.h>
#include <limits.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static bool is_program(const char *path)
{
    struct stat facts;
    return stat(path, &facts) == 0 && S_ISREG(facts.st_mode) && access(path, X_OK) == 0;
}

/* One place; the path if it is there. What was looked at is added to looked. */
static char *look_in(struct bytes directory, const char *name, struct buf *looked)
{
    char path[PATH_MAX];
    if (directory.n == 0) {
        return NULL;
    }
    int n = snprintf(path, sizeof(path), "%.*s/%s", (int)directory.n, (const char *)directory.p, name);
    if (n > 0 && (size_t)n < sizeof(path) && is_program(path)) {
        char *whole = realpath(path, NULL); /* the program may change its directory before a restart */
        return whole != NULL ? whole : xstrdup(path);
    }
    buf_printf(looked, "%s%.*s", looked->n > 0 ? ", " : "", (int)directory.n, (const char *)directory.p);
    return NULL;
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

static char *look_beside(const char *name, struct buf *looked)
{
    char file[PATH_MAX];
    struct buf directory = {0};
    char *found = NULL;
    if (own_file(file)) {
        buf_printf(&directory, "%s/../bin", dirname(file));
        found = look_in(buf_bytes(&directory), name, looked);
    }
    buf_fini(&directory);
    return found;
}

static char *look_in_path(const char *name, struct buf *looked)
{
    const char *at = getenv("PATH");
    char *found = NULL;
    while (found == NULL && at != NULL) {
        const char *colon = strchrnul(at, ':');
        found = look_in(bytes_of(at, (size_t)(colon - at)), name, looked);
        at = *colon == ':' ? colon + 1 : NULL;
    }
    return found;
}

enum quern_err pool_find(const char *name, char **path_out)
{
    struct buf looked = {0};
    const char *given = secure_getenv("QUERN_BIN");
    char *found = given != NULL ? look_in(bytes_text(given), name, &looked) : NULL;
    found = found != NULL ? found : look_beside(name, &looked);
    found = found != NULL ? found : look_in_path(name, &looked);
    enum quern_err err = QUERN_OK;
    if (found == NULL) {
        err = error_set(QUERN_UNKNOWN, "%s was not found in %.*s; set QUERN_BIN to the directory that it is in", name,
                        (int)looked.n, (const char *)looked.p);
    }
    buf_fini(&looked);
    *path_out = found;
    return err;
}

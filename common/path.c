/*
 * path.c owns naming a file that may not be there yet. It must not know whose files they are. Start at path_whole.
 */
#include "common/path.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/check.h"

/* Up to the last slash; malloc'd. */
static char *directory_of(const char *path, const char *slash)
{
    char *directory = slash == NULL   ? xstrdup(".")
                      : slash == path ? xstrdup("/")
                                      : strndup(path, (size_t)(slash - path));
    CHECK(directory != NULL);
    return directory;
}

char *path_whole(const char *path, char **directory_out)
{
    char *whole = realpath(path, NULL);
    if (whole != NULL) {
        return whole;
    }
    const char *slash = strrchr(path, '/');
    char *directory = directory_of(path, slash);
    char *real = realpath(directory, NULL);
    if (real == NULL) {
        *directory_out = directory;
        return NULL;
    }
    CHECK(asprintf(&whole, "%s/%s", strcmp(real, "/") == 0 ? "" : real, slash == NULL ? path : slash + 1) > 0);
    free(directory);
    free(real);
    return whole;
}

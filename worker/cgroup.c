/*
 * cgroup.c owns finding the cgroup of this process, and reading and writing the files of cgroups.
 * It must not know what they are used for.
 * Start reading at cgroup_find.
 */
#include "worker/cgroup.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define LINE_SIZE (PATH_MAX * 2)

/* ---- where ---- */

/* "36 25 0:30 ROOT POINT rw,relatime shared:9 - cgroup2 cgroup2 rw": the part of the hierarchy that is seen there. */
static bool mount_read(char *line, char seen[PATH_MAX], char point[PATH_MAX])
{
    const char *kind = strstr(line, " - cgroup2 ");
    char format[64];
    snprintf(format, sizeof(format), "%%*d %%*d %%*s %%%ds %%%ds", PATH_MAX - 1, PATH_MAX - 1);
    return kind != NULL && sscanf(line, format, seen, point) == 2;
}

static bool mount_find(const char *mounts, char seen[PATH_MAX], char point[PATH_MAX])
{
    static char line[LINE_SIZE];
    FILE *file = fopen(mounts, "re");
    bool is_found = false;
    while (file != NULL && !is_found && fgets(line, sizeof(line), file) != NULL) {
        is_found = mount_read(line, seen, point);
    }
    if (file != NULL) {
        fclose(file);
    }
    return is_found;
}

/* The line "0::PATH". */
static bool path_read(const char *membership, char path[PATH_MAX])
{
    static char line[LINE_SIZE];
    FILE *file = fopen(membership, "re");
    bool is_found = false;
    while (file != NULL && !is_found && fgets(line, sizeof(line), file) != NULL) {
        is_found = strncmp(line, "0::/", 4) == 0;
    }
    if (file != NULL) {
        fclose(file);
    }
    if (!is_found) {
        return false;
    }
    line[strcspn(line, "\n")] = '\0';
    size_t size = strlen(line + 3);
    if (size >= PATH_MAX) {
        return false;
    }
    memcpy(path, line + 3, size + 1);
    return true;
}

bool cgroup_find(const char *mounts, const char *membership, struct cgroup *cgroup_out)
{
    char seen[PATH_MAX];
    *cgroup_out = (struct cgroup){0};
    if (!mount_find(mounts, seen, cgroup_out->root) || !path_read(membership, cgroup_out->path)) {
        cgroup_out->root[0] = '\0';
        return false;
    }
    /* A container may see only the part of the hierarchy that is its own. */
    size_t size = strcmp(seen, "/") == 0 ? 0 : strlen(seen);
    char *path = cgroup_out->path;
    if (strncmp(path, seen, size) != 0 || (path[size] != '/' && path[size] != '\0') || strstr(path, "/..") != NULL) {
        cgroup_out->root[0] = '\0';
        return false;
    }
    memmove(path, path + size, strlen(path + size) + 1);
    if (path[0] == '\0') {
        memcpy(path, "/", 2);
    }
    return true;
}

bool cgroup_own(struct cgroup *cgroup_out)
{
    return cgroup_find("/proc/self/mountinfo", "/proc/self/cgroup", cgroup_out);
}

bool cgroup_first(const struct cgroup *cgroup, char directory[PATH_MAX])
{
    int size = snprintf(directory, PATH_MAX, "%s%s", cgroup->root, strcmp(cgroup->path, "/") == 0 ? "" : cgroup->path);
    return cgroup->root[0] != '\0' && size > 0 && size < PATH_MAX;
}

bool cgroup_above(const struct cgroup *cgroup, char directory[PATH_MAX])
{
    char *slash = strrchr(directory, '/');
    if (slash == NULL || (size_t)(slash - directory) < strlen(cgroup->root)) {
        return false;
    }
    *slash = '\0';
    return true;
}

/* ---- files ---- */

static FILE *file_open(const char *directory, const char *name)
{
    char path[PATH_MAX + 64];
    int size = snprintf(path, sizeof(path), "%s/%s", directory, name);
    return size > 0 && (size_t)size < sizeof(path) ? fopen(path, "re") : NULL;
}

bool cgroup_number(const char *directory, const char *file, uint64_t *number_out)
{
    FILE *from = file_open(directory, file);
    unsigned long long number = 0;
    if (from == NULL) {
        return false;
    }
    bool is_one = fscanf(from, "%llu", &number) == 1;
    fclose(from);
    *number_out = number;
    return is_one;
}

uint64_t cgroup_field(const char *directory, const char *file, const char *word)
{
    FILE *from = file_open(directory, file);
    char name[64];
    unsigned long long number = 0;
    uint64_t found = 0;
    while (from != NULL && fscanf(from, "%63s %llu", name, &number) == 2) {
        if (strcmp(name, word) == 0) {
            found = number;
            break;
        }
    }
    if (from != NULL) {
        fclose(from);
    }
    return found;
}

bool cgroup_has_word(const char *directory, const char *file, const char *word)
{
    FILE *from = file_open(directory, file);
    char name[64];
    bool is_found = false;
    while (from != NULL && !is_found && fscanf(from, "%63s", name) == 1) {
        is_found = strcmp(name, word) == 0;
    }
    if (from != NULL) {
        fclose(from);
    }
    return is_found;
}

int cgroup_write(const char *directory, const char *file, const char *text)
{
    char path[PATH_MAX + 64];
    int size = snprintf(path, sizeof(path), "%s/%s", directory, file);
    int fd = size > 0 && (size_t)size < sizeof(path) ? open(path, O_WRONLY | O_CLOEXEC) : -1;
    if (fd < 0) {
        return errno;
    }
    int err = write(fd, text, strlen(text)) == (ssize_t)strlen(text) ? 0 : errno;
    close(fd);
    return err;
}

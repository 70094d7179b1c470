/*
 * cpus.c owns counting the CPUs that this process may use.
 * It must not know what they are used for.
 * Start reading at cpus_usable.
 */
#include "worker/cpus.h"

#include "common/limits.h"

#include <limits.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define CGROUP_ROOT "/sys/fs/cgroup"

/* Of one cgroup; 0: no quota. "150000 100000" is one and a half CPUs: 2 processes use them up, 1 does not. */
static unsigned quota_read(const char *directory)
{
    char path[PATH_MAX + 16];
    unsigned long long quota = 0;
    unsigned long long period = 0;
    snprintf(path, sizeof(path), "%s/cpu.max", directory);
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        return 0;
    }
    bool is_limited = fscanf(file, "%llu %llu", &quota, &period) == 2 && period > 0 && quota > 0; /* else "max" */
    fclose(file);
    if (!is_limited || quota / period >= SLOT_COUNT_MAX) {
        return 0;
    }
    return (unsigned)((quota + period - 1) / period);
}

unsigned cpus_granted(const char *root, const char *path)
{
    char directory[PATH_MAX];
    int size = snprintf(directory, sizeof(directory), "%s%s", root, path);
    if (size < 0 || (size_t)size >= sizeof(directory)) {
        return 0;
    }
    unsigned least = 0;
    /* The root too: to a container its own cgroup looks like the root. */
    for (;;) {
        unsigned granted = quota_read(directory);
        least = granted > 0 && (least == 0 || granted < least) ? granted : least;
        char *slash = strrchr(directory, '/');
        if (slash == NULL || (size_t)(slash - directory) < strlen(root)) {
            return least;
        }
        *slash = '\0';
    }
}

/* Where this process stands in the hierarchy: the line "0::PATH". False: there is none. */
static bool own_cgroup(char path[PATH_MAX])
{
    FILE *file = fopen("/proc/self/cgroup", "re");
    char line[PATH_MAX];
    bool is_found = false;
    while (file != NULL && !is_found && fgets(line, sizeof(line), file) != NULL) {
        is_found = strncmp(line, "0::/", 4) == 0;
    }
    if (file != NULL) {
        fclose(file);
    }
    if (is_found) {
        line[strcspn(line, "\n")] = '\0';
        memcpy(path, line + 3, strlen(line + 3) + 1);
    }
    return is_found;
}

unsigned cpus_usable(void)
{
    cpu_set_t set;
    char path[PATH_MAX];
    unsigned count = 1;
    if (sched_getaffinity(0, sizeof(set), &set) == 0) {
        count = (unsigned)CPU_COUNT(&set);
    }
    unsigned granted = own_cgroup(path) ? cpus_granted(CGROUP_ROOT, path) : 0;
    if (granted > 0 && granted < count) {
        count = granted;
    }
    return count < SLOT_COUNT_MAX ? count : SLOT_COUNT_MAX;
}

/*
 * cpus.c owns counting the CPUs that this process may use.
 * It must not know what they are used for.
 * Start reading at cpus_usable.
 */
#include "worker/cpus.h"

#include "common/limits.h"
#include "worker/cgroup.h"

#include <errno.h>
#include <limits.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

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
    struct cgroup cgroup;
    char directory[PATH_MAX];
    unsigned least = 0;
    snprintf(cgroup.root, sizeof(cgroup.root), "%s", root);
    snprintf(cgroup.path, sizeof(cgroup.path), "%s", path);
    /* The root too: to a container its own cgroup looks like the root. */
    for (bool is_any = cgroup_first(&cgroup, directory); is_any; is_any = cgroup_above(&cgroup, directory)) {
        unsigned granted = quota_read(directory);
        least = granted > 0 && (least == 0 || granted < least) ? granted : least;
    }
    return least;
}

int cpus_nth(size_t index)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof(set), &set) != 0 || CPU_COUNT(&set) == 0) {
        return -1;
    }
    size_t nth = index % (size_t)CPU_COUNT(&set);
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (CPU_ISSET((size_t)cpu, &set) && nth-- == 0) {
            return cpu;
        }
    }
    return -1;
}

int cpus_bind(pid_t pid, int cpu)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET((size_t)cpu, &set);
    return sched_setaffinity(pid, sizeof(set), &set) == 0 ? 0 : errno;
}

unsigned cpus_usable(void)
{
    cpu_set_t set;
    struct cgroup own;
    unsigned count = 1;
    if (sched_getaffinity(0, sizeof(set), &set) == 0) {
        count = (unsigned)CPU_COUNT(&set);
    }
    unsigned granted = cgroup_own(&own) ? cpus_granted(own.root, own.path) : 0;
    if (granted > 0 && granted < count) {
        count = granted;
    }
    return count < SLOT_COUNT_MAX ? count : SLOT_COUNT_MAX;
}

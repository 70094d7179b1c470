/*
 * cpus.h: how many CPUs this process may use, by affinity and by the quota of its cgroups: the default of --slots.
 */
#ifndef QUERN_WORKER_CPUS_H
#define QUERN_WORKER_CPUS_H

/* 1..SLOT_COUNT_MAX. */
unsigned cpus_usable(void);
/* The smallest quota of a cgroup (v2) and of those above it, in CPUs rounded up; 0: none, or none that can be read.
 * root: where the hierarchy is mounted; path: of the cgroup in it, as /proc/self/cgroup says ("/a/b", "/"). */
unsigned cpus_granted(const char *root, const char *path);

#endif

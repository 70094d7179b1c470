/*
 * cpus.h: how many CPUs this process may use, by affinity and by the quota of its cgroups: the default of --slots.
 */
#ifndef QUERN_WORKER_CPUS_H
#define QUERN_WORKER_CPUS_H

#include <stddef.h>
#include <sys/types.h>

/* 1..SLOT_COUNT_MAX. */
unsigned cpus_usable(void);
/* The CPU of slot number index, each in turn of those that this process may use; -1: it cannot be told. */
int cpus_nth(size_t index);
/* Bind another process, and what it will start, to one CPU: 0, or errno. */
int cpus_bind(pid_t pid, int cpu);
/* The smallest quota of a cgroup (v2) and of those above it, in CPUs rounded up; 0: none, or none that can be read.
 * root: where the hierarchy is mounted; path: of the cgroup in it, as /proc/self/cgroup says ("/a/b", "/"). */
unsigned cpus_granted(const char *root, const char *path);

#endif

/*
 * cgroup.h: where a process stands in the hierarchy of cgroups (v2), and the files of one: small texts, read and
 * written whole.
 */
#ifndef QUERN_WORKER_CGROUP_H
#define QUERN_WORKER_CGROUP_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct cgroup {
    char root[PATH_MAX]; /* where the hierarchy is mounted; "" none is */
    char path[PATH_MAX]; /* in it: "/a/b", "/" */
};

/* This process's own; false: there is no hierarchy of v2, or it is not to be seen from here. */
bool cgroup_own(struct cgroup *cgroup_out);
/* The same, told by these files in place of /proc/self/mountinfo and /proc/self/cgroup. */
bool cgroup_find(const char *mounts, const char *membership, struct cgroup *cgroup_out);

/* A number in a file of a directory: false: there is none ("max", or no such file). */
bool cgroup_number(const char *directory, const char *file, uint64_t *number_out);
/* The number behind a word in a file of lines "WORD NUMBER"; 0: not there. */
uint64_t cgroup_field(const char *directory, const char *file, const char *word);
/* Is the word one of those in a file of words? */
bool cgroup_has_word(const char *directory, const char *file, const char *word);
/* 0, or errno. */
int cgroup_write(const char *directory, const char *file, const char *text);

/* Walks from the cgroup to the root: the first directory; then the next above it; false: there is none. size of it:
 * PATH_MAX. */
bool cgroup_first(const struct cgroup *cgroup, char directory[PATH_MAX]);
bool cgroup_above(const struct cgroup *cgroup, char directory[PATH_MAX]);

#endif

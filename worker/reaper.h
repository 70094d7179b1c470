/*
 * reaper.h: dead children and what they leave behind. Used by whoever is a subreaper: zygote, slots, and the supervisor
 * once a zygote has died.
 */
#ifndef QUERN_WORKER_REAPER_H
#define QUERN_WORKER_REAPER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* A child that is dead and was reaped. */
struct reaped {
    pid_t pid;
    int32_t status; /* as waitpid gives it */
    uint64_t cpu_us;
    uint64_t peak_kib;
};

#define REAPER_CHILD_COUNT_MAX 4096u

/* Reap one dead child, and kill what is left of its process group if it led one; false: none is dead now. */
bool reaper_next(struct reaped *reaped_out);
/* Pids of our children, dead ones not yet reaped included; at most max. */
size_t reaper_children(pid_t *pids, size_t max);
/* SIGKILL every child for which is_known answers false (NULL: every one); true if there was any. They are to be reaped,
 * and then this is to be called again: their children come to us. */
bool reaper_kill_strays(bool (*is_known)(void *self, pid_t pid), void *self);

#endif

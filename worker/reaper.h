/*
 * reaper.h: dead children and what they leave behind. Used by whoever is a subreaper: zygote, slots, and the supervisor
 * once a zygote has died.
 */
#ifndef QUERN_WORKER_REAPER_H
#define QUERN_WORKER_REAPER_H

#include "common/limits.h"

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
    bool is_survived; /* by something that it started, and that could not be killed */
};

#define REAPER_CHILD_COUNT_MAX 4096u
#define REAPER_DEATH_COUNT_MAX (SLOT_COUNT_MAX * 2u)
/* What cannot be killed within this (it waits for a disk that does not answer) does not hold up a report for ever. */
#define REAPER_STRAYS_MS 3000
/* While reports wait, strays are looked for again after this. */
#define REAPER_LOOK_MS 10
/* What is not gone after this gets away from its killer, or is born as fast as it dies: */
#define REAPER_PATIENCE_MS 50
/* then all of it is stopped before any is killed, until so many looks in a row find nobody new, for so long at most. */
#define REAPER_QUIET_COUNT 3u
#define REAPER_FREEZE_US 100000

/* Reap one dead child, and kill what is left of its process group if it led one; false: none is dead now. */
bool reaper_next(struct reaped *reaped_out);
/* Pids of our children, dead ones not yet reaped included; at most max. */
size_t reaper_children(pid_t *pids, size_t max);
/* SIGKILL every child for which is_known answers false (NULL: every one); true if there was any. They are to be reaped,
 * and then this is to be called again: their children come to us. */
bool reaper_kill_strays(bool (*is_known)(void *self, pid_t pid), void *self);

/* The same for those that do not stand still to be killed: all that is below such children is stopped (a stopped
 * process has no children, and leaves no gap that another fills), then killed. */
bool reaper_freeze_strays(bool (*is_known)(void *self, pid_t pid), void *self);

/* Slots that are dead and reaped, but not reported: first everything that they left behind is killed. */
struct deaths {
    struct reaped list[REAPER_DEATH_COUNT_MAX];
    size_t count;
    int64_t until_ms; /* reported then in any case */
};

void deaths_add(struct deaths *deaths, const struct reaped *reaped, int64_t now_ms);
bool deaths_has(const struct deaths *deaths, pid_t pid);
/* Kills strays; true: none is left, and those in the list may be reported (and then taken from it). Or it took too
 * long, and the list says so. */
bool deaths_are_complete(struct deaths *deaths, bool (*is_known)(void *self, pid_t pid), void *self, int64_t now_ms);

#endif

/*
 * groups.h: the cgroups (v2) of a worker, where the machine has them and lets it: one for each slot, by which the slot
 * and all it has started are killed at once, and, if the memory controller can be had, limited by the kernel.
 *
 *   OURS/                        where the worker was started (a unit of systemd with Delegate=yes, or any as root)
 *     quern-worker-PID/          locked (flock) while the worker lives
 *       supervisor/              the worker moves there if it would be in the way: who has processes of its own cannot
 *                                hand out controllers
 *       slot-N/                  one for each slot, numbered as they are made
 *
 * A worker that ended by SIGKILL leaves its own behind, with whatever still runs in it: the next worker that starts
 * beside it finds the lock free, kills that and removes them.
 */
#ifndef QUERN_WORKER_GROUPS_H
#define QUERN_WORKER_GROUPS_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* The kernel's limit is above ours by this part of it, and this: what the kernel counts besides (tables of pages, pages
 * of files) is nobody's fault. We look at memory, and stop what is over its limit; it stops what we would see too late.
 */
#define GROUP_SLACK_DIVISOR 8u
#define GROUP_SLACK_SIZE ((uint64_t)8 << 20)

#define GROUPS_LEFT_COUNT_MAX 64u

enum groups_use {
    GROUPS_NONE,
    GROUPS_KILL,   /* for killing only */
    GROUPS_MEMORY, /* for limits too */
};

struct groups {
    enum groups_use use;
    const char *why; /* why not for limits, or not at all; static */
    char ours[PATH_MAX];
    char directory[PATH_MAX]; /* of this worker */
    int lock;                 /* -1: none */
    bool has_moved;           /* into supervisor/ */
    bool has_enabled;         /* the memory controller, in ours */
    /* Slots that are gone, and something of theirs was still dying: to be removed. */
    uint64_t left[GROUPS_LEFT_COUNT_MAX];
    size_t left_count;
};

/* What becomes of one slot. */
struct group {
    const struct groups *groups; /* NULL: it has none */
    uint64_t number;
    uint64_t born;  /* what it had when it was made */
    uint64_t kills; /* and what the kernel had counted by then */
    uint64_t ooms;
    uint64_t room;  /* as last set; 0: no limit */
    int64_t set_ms; /* then */
    uint64_t max;   /* the kernel's limit */
};

/* What the kernel says of a group, when its slot is dead. */
struct group_end {
    bool was_killed; /* for memory */
    bool was_own;    /* at the group's own limit; else there was none left elsewhere */
    uint64_t peak;   /* bytes; 0: it does not say */
    uint64_t max;
};

/* root, path: NULL: where this process stands; else there (tests). is_off: none is to be used. */
void groups_open(struct groups *groups, const char *directory, bool is_off);
void groups_close(struct groups *groups);

/* In the zygote, which finds the worker's directory in its environment: make the group of a slot that is about to be
 * born. Its directory, open; -1: there is to be none, or it could not be made (the log says why). */
#define GROUPS_VARIABLE "QUERN_SLOT_GROUPS"
int group_make(uint64_t number);
/* Nobody was born there. */
void group_unmake(uint64_t number);
/* The slot cannot be born there (cradle.h): what is started from now on finds the group's name in its environment, */
#define GROUP_VARIABLE "QUERN_SLOT_GROUP"
void group_name(uint64_t number);
/* and goes there by itself, because the kernel may take a dozen milliseconds for it, in which others have other things
 * to do. In every slot: forget those names. */
void group_join(void);
/* Of this slot, which may not be there yet. Without one it is killed by walking through the tree. */
void group_open(struct group *group, struct groups *groups, uint64_t number);
/* It is there, and takes tasks. */
void group_begin(struct group *group);
/* It may take so much from now on; 0: no limit. Costs some microseconds unless nothing changes. */
void group_limit(struct group *group, uint64_t room, int64_t now_ms);
bool group_is_limited(const struct group *group);
/* Everything in it; false: it has none. */
bool group_kill(const struct group *group);
struct group_end group_end(const struct group *group);
void group_close(struct group *group, struct groups *groups);

#endif

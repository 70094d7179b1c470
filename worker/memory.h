/*
 * memory.h: how much memory the attempt that a slot runs has taken, and whether that is over its limit.
 *
 * What counts is what it took since it began: the growth of the slot's own memory (without files and shared memory),
 * and the memory of the processes it has started, as far as that is theirs alone. What was there before, above all what
 * a zygote has loaded for all, is nobody's fault. Two things are not seen: a write to memory that was there before, and
 * memory that the attempt shares with others (tmpfs, MAP_SHARED); a cgroup (cgroup.h) sees both.
 *
 * Looking costs some ten microseconds, so an attempt that is short is not looked at, and one that is far from its limit
 * is looked at seldom: an attempt that takes memory as fast as a machine can touch it is found out a few milliseconds
 * late.
 */
#ifndef QUERN_WORKER_MEMORY_H
#define QUERN_WORKER_MEMORY_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* An attempt that has run for less is not looked at; nor does a slot look at itself more often. */
#define MEMORY_AFTER_MS 20
/* No more and no less often than this, */
#define MEMORY_LOOK_MIN_MS 10
#define MEMORY_LOOK_MAX_MS 200
/* as if memory were taken at this pace; */
#define MEMORY_PACE_SIZE_PER_MS ((uint64_t)4 << 20)
/* and so that looking costs no more than this part of the time. */
#define MEMORY_COST_DIVISOR 50
/* Of one attempt; further ones are not looked at. */
#define MEMORY_PROCESS_COUNT_MAX 1024u

/* What one look saw. */
struct memory_seen {
    uint64_t own;  /* memory of the slot that is not files or shared, in bytes */
    uint64_t rest; /* of the processes below it */
};

struct memory_watch {
    uint64_t number;    /* of the attempt, within the slot; 0 none */
    uint64_t base;      /* of the slot, when the attempt began */
    uint64_t born;      /* of the slot, when it was ready: what belongs to no attempt */
    int64_t again_ms;   /* look then */
    uint64_t size;      /* what it had taken when last looked at, */
    uint64_t peak;      /* and at most */
    uint64_t slot_size; /* what the slot had taken since it was ready */
};

/* 0: none. */
struct memory_limit {
    uint64_t task; /* an attempt may take so much, */
    uint64_t slot; /* and all attempts of a slot together, as far as it is still there */
};

enum memory_verdict { MEMORY_WITHIN, MEMORY_TASK_OVER, MEMORY_SLOT_OVER };

/* Another attempt runs: base is what the slot says that it had when that began; 0: it did not say. */
void memory_begin(struct memory_watch *watch, uint64_t number, uint64_t base, const struct memory_seen *seen);
/* Pure. cost_us: what looking took. Sets again_ms. */
enum memory_verdict memory_judge(struct memory_watch *watch, const struct memory_limit *limit,
                                 const struct memory_seen *seen, int64_t now_ms, int64_t cost_us);

/* Own memory and the rest together may be so much before the rest must be known exactly. */
uint64_t memory_look_size(const struct memory_watch *watch, uint64_t number, uint64_t base,
                          const struct memory_limit *limit);
/* Look. limit_size: own memory from which on the rest is told apart exactly, which costs more: what a process has in
 * common with those it was forked from is not counted, and below the limit an upper bound will do. */
struct memory_seen memory_see(pid_t pid, uint64_t limit_size);
/* The processes below pid, at most max. */
uint32_t memory_descendants(pid_t pid, pid_t *pids, uint32_t max);

#endif

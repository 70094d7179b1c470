/*
 * floor.h: how much memory is free on this host, and whether that is below the floor under which a worker starts
 * nothing new.
 *
 * Free is what the kernel says could be taken without swapping (MemAvailable), or what the cgroups of this process
 * still grant, if that is less. Below the floor it is short of memory until a good deal more than the floor is free:
 * what starts at once would bring it below again.
 */
#ifndef QUERN_WORKER_FLOOR_H
#define QUERN_WORKER_FLOOR_H

#include "worker/cgroup.h"

#include <stdbool.h>
#include <stdint.h>

/* By default: this part of the memory that is usable, and no more than that. */
#define FLOOR_PERCENT 5u
#define FLOOR_SIZE_MAX ((uint64_t)1 << 30)
/* Over, when the floor and so much of it besides are free. */
#define FLOOR_MARGIN_DIVISOR 8u
/* Looked at no more often than this while something is to start; and while memory is short, this often. */
#define FLOOR_LOOK_MS 100
#define FLOOR_LOOK_SHORT_MS 250
/* What has not started goes back when memory has been short for this long. */
#define FLOOR_RETURN_MS 500

struct floor_plan {
    uint64_t size;    /* bytes; or, if 0, */
    unsigned percent; /* of what is usable; both 0: no floor */
    bool is_default;  /* the percentage is bounded by FLOOR_SIZE_MAX */
};

struct floor {
    uint64_t size;   /* 0: none */
    uint64_t usable; /* memory of the host, or what cgroups grant; 0: not known */
    uint64_t free;   /* when last looked at */
    bool is_short;
    int64_t look_ms;      /* no look before that */
    int64_t short_ms;     /* since when it is short */
    const char *proc;     /* borrowed */
    struct cgroup cgroup; /* ours */
};

/* proc: "/proc", or a directory with a file like meminfo there. */
void floor_init(struct floor *floor, const struct floor_plan *plan, const char *proc);
/* Look, if it is time. True: is_short has changed. */
bool floor_look(struct floor *floor, int64_t now_ms);
/* Pure: so much is free now. True: is_short has changed. */
bool floor_judge(struct floor *floor, uint64_t free, int64_t now_ms);
/* "5%", "500M", "0": false: none of these. */
bool floor_read(const char *word, struct floor_plan *plan_out);

#endif

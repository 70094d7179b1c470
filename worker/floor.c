/*
 * floor.c owns looking at the free memory of the host, and the judgement on it.
 * It must not know what follows from it (admission.c).
 * Start reading at floor_judge, then free_read.
 */
#include "worker/floor.h"

#include "common/bytes.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- looking ---- */

/* A line "WORD  NUMBER kB", in bytes; false: there is none. */
static bool meminfo_read(const char *proc, const char *word, uint64_t *size_out)
{
    char line[256];
    char path[PATH_MAX];
    snprintf(path, sizeof(path), "%s/meminfo", proc);
    FILE *file = fopen(path, "re");
    bool is_found = false;
    while (file != NULL && !is_found && fgets(line, sizeof(line), file) != NULL) {
        size_t size = strlen(word);
        unsigned long long kib = 0;
        is_found = strncmp(line, word, size) == 0 && line[size] == ':' && sscanf(line + size + 1, "%llu kB", &kib) == 1;
        *size_out = is_found ? (uint64_t)kib * 1024u : 0;
    }
    if (file != NULL) {
        fclose(file);
    }
    return is_found;
}

/* What a cgroup still grants: pages of files that it can give up at once are free. */
static uint64_t left_in(const char *directory, uint64_t max)
{
    uint64_t current = 0;
    (void)cgroup_number(directory, "memory.current", &current);
    uint64_t cached = cgroup_field(directory, "memory.stat", "inactive_file");
    uint64_t used = current > cached ? current - cached : 0;
    return max > used ? max - used : 0;
}

static uint64_t smaller(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* The least on the way to the root. UINT64_MAX: nothing can be told. */
static uint64_t free_read(const struct floor *floor)
{
    char directory[PATH_MAX];
    uint64_t max;
    uint64_t least;
    if (!meminfo_read(floor->proc, "MemAvailable", &least)) {
        least = UINT64_MAX;
    }
    for (bool is = cgroup_first(&floor->cgroup, directory); is; is = cgroup_above(&floor->cgroup, directory)) {
        if (cgroup_number(directory, "memory.max", &max)) {
            least = smaller(least, left_in(directory, max));
        }
    }
    return least;
}

static uint64_t usable_read(const struct floor *floor)
{
    char directory[PATH_MAX];
    uint64_t max;
    uint64_t least;
    if (!meminfo_read(floor->proc, "MemTotal", &least)) {
        least = UINT64_MAX;
    }
    for (bool is = cgroup_first(&floor->cgroup, directory); is; is = cgroup_above(&floor->cgroup, directory)) {
        if (cgroup_number(directory, "memory.max", &max)) {
            least = smaller(least, max);
        }
    }
    return least == UINT64_MAX ? 0 : least;
}

/* ---- the floor ---- */

void floor_init(struct floor *floor, const struct floor_plan *plan, const char *proc)
{
    *floor = (struct floor){.proc = proc, .size = plan->size};
    (void)cgroup_own(&floor->cgroup);
    floor->usable = usable_read(floor);
    if (plan->size == 0 && plan->percent > 0) {
        uint64_t size = floor->usable / 100 * plan->percent;
        floor->size = plan->is_default ? smaller(size, FLOOR_SIZE_MAX) : size;
    }
}

bool floor_judge(struct floor *floor, uint64_t free, int64_t now_ms)
{
    bool was_short = floor->is_short;
    uint64_t margin = was_short ? floor->size / FLOOR_MARGIN_DIVISOR : 0;
    floor->free = free;
    floor->is_short = free < floor->size || free - floor->size < margin;
    floor->look_ms = now_ms + (floor->is_short ? FLOOR_LOOK_SHORT_MS : FLOOR_LOOK_MS);
    floor->short_ms = was_short ? floor->short_ms : now_ms;
    return floor->is_short != was_short;
}

bool floor_look(struct floor *floor, int64_t now_ms)
{
    return floor->size > 0 && now_ms >= floor->look_ms && floor_judge(floor, free_read(floor), now_ms);
}

bool floor_read(const char *word, struct floor_plan *plan_out)
{
    char *end;
    struct floor_plan plan = {0};
    unsigned long percent = strtoul(word, &end, 10);
    bool is_percent = *word >= '0' && *word <= '9' && strcmp(end, "%") == 0 && percent <= 100;
    if (is_percent) {
        plan.percent = (unsigned)percent;
    } else if (strcmp(word, "0") != 0 && !size_read(word, &plan.size)) {
        return false;
    }
    *plan_out = plan;
    return true;
}

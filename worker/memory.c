/*
 * memory.c owns looking at the memory of what a slot runs, and the judgement on it.
 * It must not know attempts, nor what follows from a judgement.
 * Start reading at memory_judge, then memory_see.
 */
#include "worker/memory.h"

#include "worker/meter.h"

#include <dirent.h>
#include <stdio.h>
#include <string.h>

/* ---- judging ---- */

static uint64_t minus(uint64_t a, uint64_t b)
{
    return a > b ? a - b : 0;
}

void memory_begin(struct memory_watch *watch, uint64_t number, uint64_t base, const struct memory_seen *seen)
{
    uint64_t born = watch->born;
    /* It may have been written over: no more than what is there now, which it can only have taken since. */
    uint64_t known = base > 0 ? base : born;
    *watch = (struct memory_watch){.number = number, .born = born, .base = known < seen->own ? known : seen->own};
}

static uint64_t plus(uint64_t a, uint64_t b)
{
    return a > UINT64_MAX - b ? UINT64_MAX : a + b;
}

uint64_t memory_look_size(const struct memory_watch *watch, uint64_t number, uint64_t base,
                          const struct memory_limit *limit)
{
    uint64_t from = watch->number == number ? watch->base : base > 0 ? base : watch->born;
    uint64_t task = limit->task > 0 ? plus(from, limit->task) : UINT64_MAX;
    uint64_t slot = limit->slot > 0 ? plus(watch->born, limit->slot) : UINT64_MAX;
    return task < slot ? task : slot;
}

/* How long it may take, in ms, until another look is due. */
static int64_t pause_of(uint64_t distance, int64_t cost_us)
{
    uint64_t ms = distance / MEMORY_PACE_SIZE_PER_MS;
    int64_t pause_ms = ms < MEMORY_LOOK_MIN_MS   ? MEMORY_LOOK_MIN_MS
                       : ms > MEMORY_LOOK_MAX_MS ? MEMORY_LOOK_MAX_MS
                                                 : (int64_t)ms;
    int64_t cost_ms = cost_us * MEMORY_COST_DIVISOR / 1000;
    return pause_ms > cost_ms ? pause_ms : cost_ms;
}

enum memory_verdict memory_judge(struct memory_watch *watch, const struct memory_limit *limit,
                                 const struct memory_seen *seen, int64_t now_ms, int64_t cost_us)
{
    watch->size = minus(seen->own, watch->base) + seen->rest;
    watch->slot_size = minus(seen->own, watch->born) + seen->rest;
    watch->peak = watch->size > watch->peak ? watch->size : watch->peak;
    uint64_t task_left = limit->task > 0 ? minus(limit->task, watch->size) : UINT64_MAX;
    uint64_t slot_left = limit->slot > 0 ? minus(limit->slot, watch->slot_size) : UINT64_MAX;
    watch->again_ms = now_ms + pause_of(task_left < slot_left ? task_left : slot_left, cost_us);
    if (limit->task > 0 && watch->size > limit->task) {
        return MEMORY_TASK_OVER;
    }
    return limit->slot > 0 && watch->slot_size > limit->slot ? MEMORY_SLOT_OVER : MEMORY_WITHIN;
}

/* ---- looking ---- */

static uint32_t children_read(const char *path, pid_t *pids, uint32_t count, uint32_t max)
{
    FILE *file = fopen(path, "re");
    int pid;
    if (file == NULL) {
        return count;
    }
    while (count < max && fscanf(file, "%d", &pid) == 1) {
        pids[count++] = pid;
    }
    fclose(file);
    return count;
}

/* Those that a thread of pid has started are appended. */
static uint32_t children_of(pid_t pid, pid_t *pids, uint32_t count, uint32_t max)
{
    char path[64];
    snprintf(path, sizeof(path), "/proc/%d/task", pid);
    DIR *threads = opendir(path);
    if (threads == NULL) {
        return count;
    }
    for (const struct dirent *entry = readdir(threads); entry != NULL; entry = readdir(threads)) {
        char children[sizeof(path) + sizeof(entry->d_name) + sizeof("/children")];
        snprintf(children, sizeof(children), "%s/%s/children", path, entry->d_name);
        if (entry->d_name[0] != '.') {
            count = children_read(children, pids, count, max);
        }
    }
    closedir(threads);
    return count;
}

uint32_t memory_descendants(pid_t pid, pid_t *pids, uint32_t max)
{
    uint32_t count = children_of(pid, pids, 0, max);
    for (uint32_t i = 0; i < count; i++) {
        count = children_of(pids[i], pids, count, max);
    }
    return count;
}

/* Memory of a process that nobody else has, in bytes. The kernel walks through all of it. */
static uint64_t private_read(pid_t pid)
{
    char path[64];
    char line[256];
    unsigned long long kib = 0;
    snprintf(path, sizeof(path), "/proc/%d/smaps_rollup", pid);
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        return 0;
    }
    while (fgets(line, sizeof(line), file) != NULL && sscanf(line, "Private_Dirty: %llu kB", &kib) != 1) {
    }
    fclose(file);
    return kib * 1024u;
}

struct memory_seen memory_see(pid_t pid, uint64_t limit_size)
{
    pid_t pids[MEMORY_PROCESS_COUNT_MAX];
    uint32_t count = memory_descendants(pid, pids, MEMORY_PROCESS_COUNT_MAX);
    struct memory_seen seen = {.own = meter_read(pid)};
    for (uint32_t i = 0; i < count; i++) {
        seen.rest += meter_read(pids[i]);
    }
    if (count > 0 && seen.own + seen.rest > limit_size) {
        seen.rest = 0;
        for (uint32_t i = 0; i < count; i++) {
            seen.rest += private_read(pids[i]);
        }
    }
    return seen;
}

/*
 * reaper.c owns waiting for dead children and killing what they leave behind.
 * It must not know slots or tasks.
 * Start reading at reaper_next.
 */
#include "worker/reaper.h"

#include "common/clock.h"

#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static uint64_t time_us(const struct rusage *usage)
{
    return (uint64_t)(usage->ru_utime.tv_sec + usage->ru_stime.tv_sec) * 1000000u +
           (uint64_t)(usage->ru_utime.tv_usec + usage->ru_stime.tv_usec);
}

bool reaper_next(struct reaped *reaped_out)
{
    /* Looked at first without reaping: while the dead leader is there, nobody else can get its number, so killing the
     * group of that number hits what it left behind and no one else. A child that leads no group matches none. */
    siginfo_t info = {0};
    if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) != 0 || info.si_pid == 0) {
        return false;
    }
    kill(-info.si_pid, SIGKILL);
    struct rusage usage;
    int status = 0;
    if (wait4(info.si_pid, &status, WNOHANG, &usage) != info.si_pid) {
        return false;
    }
    *reaped_out = (struct reaped){
        .pid = info.si_pid, .status = status, .cpu_us = time_us(&usage), .peak_kib = (uint64_t)usage.ru_maxrss};
    return true;
}

static size_t read_pids(const char *path, pid_t *pids, size_t max)
{
    FILE *file = fopen(path, "re");
    size_t count = 0;
    int pid;
    if (file == NULL) {
        return 0;
    }
    while (count < max && fscanf(file, "%d", &pid) == 1) {
        pids[count++] = pid;
    }
    fclose(file);
    return count;
}

/* Of all its threads. */
static size_t children_of(const char *task, pid_t *pids, size_t max)
{
    DIR *threads = opendir(task);
    size_t count = 0;
    if (threads == NULL) {
        return 0;
    }
    for (struct dirent *entry = readdir(threads); entry != NULL; entry = readdir(threads)) {
        char path[64 + sizeof(entry->d_name)];
        snprintf(path, sizeof(path), "%s/%s/children", task, entry->d_name);
        count += read_pids(path, pids + count, max - count);
    }
    closedir(threads);
    return count;
}

size_t reaper_children(pid_t *pids, size_t max)
{
    return children_of("/proc/self/task", pids, max);
}

/* ---- strays ---- */

/* Processes that were found, each once: a table by pid, and the order in which they came. */
struct found {
    pid_t pids[REAPER_CHILD_COUNT_MAX];
    size_t count;
    pid_t table[REAPER_CHILD_COUNT_MAX * 2u];
};

/* False: it was found before, or there is no room for more. */
static bool found_add(struct found *found, pid_t pid)
{
    const size_t size = sizeof(found->table) / sizeof(found->table[0]);
    size_t at = (size_t)pid * 2654435761u % size;
    while (found->table[at] != 0 && found->table[at] != pid) {
        at = (at + 1) % size;
    }
    if (found->table[at] == pid || found->count == REAPER_CHILD_COUNT_MAX) {
        return false;
    }
    found->table[at] = pid;
    found->pids[found->count++] = pid;
    return true;
}

/* Stop every one of those that was not found before; how many. */
static size_t stop_new(struct found *found, const pid_t *pids, size_t count, bool (*is_known)(void *self, pid_t pid),
                       void *self)
{
    size_t new_count = 0;
    for (size_t i = 0; i < count; i++) {
        if ((is_known == NULL || !is_known(self, pids[i])) && found_add(found, pids[i])) {
            kill(pids[i], SIGSTOP);
            new_count++;
        }
    }
    return new_count;
}

/* All strays and their descendants, once. How many were new. */
static size_t stop_pass(struct found *found, bool (*is_known)(void *self, pid_t pid), void *self)
{
    static pid_t pids[REAPER_CHILD_COUNT_MAX];
    char task[sizeof("/proc//task") + 16];
    size_t new_count =
        stop_new(found, pids, children_of("/proc/self/task", pids, REAPER_CHILD_COUNT_MAX), is_known, self);
    for (size_t i = 0; i < found->count; i++) {
        snprintf(task, sizeof(task), "/proc/%d/task", found->pids[i]);
        new_count += stop_new(found, pids, children_of(task, pids, REAPER_CHILD_COUNT_MAX), NULL, NULL);
    }
    return new_count;
}

bool reaper_freeze_strays(bool (*is_known)(void *self, pid_t pid), void *self)
{
    static struct found found;
    int64_t until_us = clock_mono_us() + REAPER_FREEZE_US;
    unsigned quiet = 0;
    memset(&found, 0, sizeof(found));
    /* Not killed as they are found: whoever is born for one that is missing would be born as often. */
    while (quiet < REAPER_QUIET_COUNT && clock_mono_us() < until_us) {
        quiet = stop_pass(&found, is_known, self) > 0 ? 0 : quiet + 1;
    }
    for (size_t i = 0; i < found.count; i++) {
        kill(found.pids[i], SIGKILL);
    }
    return found.count > 0;
}

bool reaper_kill_strays(bool (*is_known)(void *self, pid_t pid), void *self)
{
    static pid_t pids[REAPER_CHILD_COUNT_MAX];
    size_t count = reaper_children(pids, REAPER_CHILD_COUNT_MAX);
    bool was_any = false;
    for (size_t i = 0; i < count; i++) {
        if (is_known == NULL || !is_known(self, pids[i])) {
            kill(pids[i], SIGKILL);
            was_any = true;
        }
    }
    return was_any;
}

/* ---- deaths ---- */

void deaths_add(struct deaths *deaths, const struct reaped *reaped, int64_t now_ms)
{
    if (deaths->count < REAPER_DEATH_COUNT_MAX) {
        deaths->list[deaths->count++] = *reaped;
        deaths->until_ms = now_ms + REAPER_STRAYS_MS;
    }
}

bool deaths_has(const struct deaths *deaths, pid_t pid)
{
    for (size_t i = 0; i < deaths->count; i++) {
        if (deaths->list[i].pid == pid) {
            return true;
        }
    }
    return false;
}

bool deaths_are_complete(struct deaths *deaths, bool (*is_known)(void *self, pid_t pid), void *self, int64_t now_ms)
{
    /* Twice: a list of children that is read while one of them ends may lack another. */
    bool has_strays = reaper_kill_strays(is_known, self) || reaper_kill_strays(is_known, self);
    if (has_strays && now_ms >= deaths->until_ms - REAPER_STRAYS_MS + REAPER_PATIENCE_MS) {
        (void)reaper_freeze_strays(is_known, self);
    }
    bool is_over = has_strays && now_ms >= deaths->until_ms;
    for (size_t i = 0; is_over && i < deaths->count; i++) {
        deaths->list[i].is_survived = true;
    }
    return !has_strays || is_over;
}

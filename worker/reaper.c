/*
 * reaper.c owns waiting for dead children and killing what they leave behind.
 * It must not know slots or tasks.
 * Start reading at reaper_next.
 */
#include "worker/reaper.h"

#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
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

size_t reaper_children(pid_t *pids, size_t max)
{
    DIR *threads = opendir("/proc/self/task");
    size_t count = 0;
    if (threads == NULL) {
        return 0;
    }
    for (struct dirent *entry = readdir(threads); entry != NULL; entry = readdir(threads)) {
        char path[sizeof("/proc/self/task//children") + sizeof(entry->d_name)];
        snprintf(path, sizeof(path), "/proc/self/task/%s/children", entry->d_name);
        count += read_pids(path, pids + count, max - count);
    }
    closedir(threads);
    return count;
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

bool deaths_are_complete(const struct deaths *deaths, bool (*is_known)(void *self, pid_t pid), void *self,
                         int64_t now_ms)
{
    /* Twice: a list of children that is read while one of them ends may lack another. */
    bool has_strays = reaper_kill_strays(is_known, self) || reaper_kill_strays(is_known, self);
    return !has_strays || now_ms >= deaths->until_ms;
}

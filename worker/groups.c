/*
 * groups.c owns the cgroups of a worker and its slots: making, limiting, killing, removing them.
 * It must not know attempts, nor why something is killed.
 * Start reading at groups_open, then group_open.
 */
#include "worker/groups.h"

#include "common/clock.h"
#include "common/log.h"
#include "worker/cgroup.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define WORKER_PREFIX "quern-worker-"
#define SLOT_PREFIX "slot-"
#define SUPERVISOR "supervisor"
/* Somebody else's start may be removing what is made just now. */
#define OPEN_TRIES 3
#define REMOVE_DEPTH_MAX 8
/* What was killed is gone within this, as a rule. */
#define REMOVE_MS 1000
#define REMOVE_LOOK_MS 5

static bool path_join(char out[PATH_MAX], const char *directory, const char *name)
{
    int size = snprintf(out, PATH_MAX, "%s/%s", directory, name);
    return size > 0 && size < PATH_MAX;
}

static bool number_join(char out[PATH_MAX], const char *directory, const char *prefix, uint64_t number)
{
    char name[48];
    snprintf(name, sizeof(name), "%s%llu", prefix, (unsigned long long)number);
    return path_join(out, directory, name);
}

static int procs_add(const char *directory, pid_t pid)
{
    char text[24];
    snprintf(text, sizeof(text), "%d", pid);
    return cgroup_write(directory, "cgroup.procs", text);
}

/* ---- removing ---- */

/* A directory of cgroups, with all below it. False: something is still in it. */
static bool tree_remove(const char *directory, unsigned depth)
{
    DIR *entries = depth > 0 ? opendir(directory) : NULL;
    for (const struct dirent *entry = entries == NULL ? NULL : readdir(entries); entry != NULL;
         entry = readdir(entries)) {
        char below[PATH_MAX];
        if (entry->d_type == DT_DIR && entry->d_name[0] != '.' && path_join(below, directory, entry->d_name)) {
            (void)tree_remove(below, depth - 1);
        }
    }
    if (entries != NULL) {
        closedir(entries);
    }
    return rmdir(directory) == 0 || errno == ENOENT;
}

static bool tree_kill_and_remove(const char *directory)
{
    int64_t until_ms = clock_mono_ms() + REMOVE_MS;
    (void)cgroup_write(directory, "cgroup.kill", "1");
    while (!tree_remove(directory, REMOVE_DEPTH_MAX)) {
        if (clock_mono_ms() >= until_ms) {
            return false;
        }
        (void)poll(NULL, 0, REMOVE_LOOK_MS);
    }
    return true;
}

/* What workers that ended by SIGKILL have left here: nobody holds their locks. */
static void stale_remove(const char *ours)
{
    DIR *entries = opendir(ours);
    for (const struct dirent *entry = entries == NULL ? NULL : readdir(entries); entry != NULL;
         entry = readdir(entries)) {
        char directory[PATH_MAX];
        if (strncmp(entry->d_name, WORKER_PREFIX, sizeof(WORKER_PREFIX) - 1) != 0 ||
            !path_join(directory, ours, entry->d_name)) {
            continue;
        }
        int lock = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (lock >= 0 && flock(lock, LOCK_EX | LOCK_NB) == 0) {
            bool is_gone = tree_kill_and_remove(directory);
            log_event(LOG_INFO, "removed the cgroups of a worker that is dead", "directory=\"%s\" gone=%d", directory,
                      is_gone);
        }
        if (lock >= 0) {
            close(lock);
        }
    }
    if (entries != NULL) {
        closedir(entries);
    }
}

/* ---- the worker's ---- */

/* Made and locked, in this order: who finds it unlocked takes it for that of a dead worker, and removes it. */
static bool own_make(struct groups *groups)
{
    if (!number_join(groups->directory, groups->ours, WORKER_PREFIX, (uint64_t)getpid())) {
        return false;
    }
    for (int i = 0; i < OPEN_TRIES; i++) {
        if (mkdir(groups->directory, 0755) != 0 && errno != EEXIST) {
            return false;
        }
        int lock = open(groups->directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (lock >= 0 && flock(lock, LOCK_EX | LOCK_NB) == 0 && access(groups->directory, F_OK) == 0) {
            groups->lock = lock;
            return true;
        }
        if (lock >= 0) {
            close(lock);
        }
    }
    return false;
}

/* Who has processes of its own, but for the root, cannot hand out controllers: we go one level down. */
static bool supervisor_move(struct groups *groups)
{
    char leaf[PATH_MAX];
    if (!path_join(leaf, groups->directory, SUPERVISOR) || (mkdir(leaf, 0755) != 0 && errno != EEXIST)) {
        return false;
    }
    groups->has_moved = procs_add(leaf, getpid()) == 0;
    return groups->has_moved;
}

static bool supervisor_move_back(struct groups *groups)
{
    char leaf[PATH_MAX];
    if (groups->has_moved && procs_add(groups->ours, getpid()) == 0) {
        groups->has_moved = false;
    }
    if (!groups->has_moved && path_join(leaf, groups->directory, SUPERVISOR)) {
        (void)rmdir(leaf);
    }
    return !groups->has_moved;
}

/* NULL: slots can be limited; else why not. */
static const char *memory_enable(struct groups *groups)
{
    if (!cgroup_has_word(groups->ours, "cgroup.controllers", "memory")) {
        return "the memory controller is not handed out here";
    }
    if (!cgroup_has_word(groups->ours, "cgroup.subtree_control", "memory")) {
        int err = cgroup_write(groups->ours, "cgroup.subtree_control", "+memory");
        if (err == EBUSY && supervisor_move(groups)) {
            err = cgroup_write(groups->ours, "cgroup.subtree_control", "+memory");
        }
        if (err != 0) {
            (void)supervisor_move_back(groups);
            return err == EBUSY ? "other processes share the worker's"
                                : "the memory controller is not ours to hand out";
        }
        groups->has_enabled = true;
    }
    return cgroup_write(groups->directory, "cgroup.subtree_control", "+memory") == 0
               ? NULL
               : "the memory controller is not ours to hand out";
}

void groups_open(struct groups *groups, const char *directory, bool is_off)
{
    struct cgroup own;
    *groups = (struct groups){.lock = -1, .why = "not used (--cgroup off)"};
    (void)unsetenv(GROUPS_VARIABLE); /* of a worker above us */
    if (is_off) {
        return;
    }
    groups->why = "none here";
    if (directory != NULL) {
        snprintf(groups->ours, sizeof(groups->ours), "%s", directory);
    } else if (!cgroup_own(&own) || !cgroup_first(&own, groups->ours)) {
        return;
    }
    groups->why = "not writable here";
    if (access(groups->ours, W_OK) != 0) {
        return;
    }
    stale_remove(groups->ours);
    if (!own_make(groups)) {
        return;
    }
    groups->why = memory_enable(groups);
    groups->use = groups->why == NULL ? GROUPS_MEMORY : GROUPS_KILL;
    if (setenv(GROUPS_VARIABLE, groups->directory, 1) != 0) {
        log_event(LOG_WARN, "slots have no cgroups", "why=\"%s\"", strerror(errno));
    }
}

void groups_close(struct groups *groups)
{
    if (groups->use == GROUPS_NONE) {
        return;
    }
    if (groups->has_moved) {
        /* Back to where we came from, which must hand out nothing then. */
        (void)cgroup_write(groups->directory, "cgroup.subtree_control", "-memory");
    }
    if (groups->has_enabled && groups->has_moved) {
        (void)cgroup_write(groups->ours, "cgroup.subtree_control", "-memory");
    }
    if (supervisor_move_back(groups)) {
        (void)tree_kill_and_remove(groups->directory);
    }
    close(groups->lock);
    *groups = (struct groups){.lock = -1};
}

/* ---- a slot's, where it is born ---- */

int group_make(uint64_t number)
{
    char directory[PATH_MAX];
    const char *ours = getenv(GROUPS_VARIABLE);
    if (ours == NULL || !number_join(directory, ours, SLOT_PREFIX, number)) {
        return -1;
    }
    int fd = mkdir(directory, 0755) == 0 ? open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    if (fd < 0) {
        log_event(LOG_WARN, "a slot has no cgroup", "directory=\"%s\" why=\"%s\"", directory, strerror(errno));
    }
    return fd;
}

void group_unmake(uint64_t number)
{
    char directory[PATH_MAX];
    const char *ours = getenv(GROUPS_VARIABLE);
    if (ours != NULL && number_join(directory, ours, SLOT_PREFIX, number)) {
        (void)rmdir(directory);
    }
}

void group_name(uint64_t number)
{
    char directory[PATH_MAX];
    const char *ours = getenv(GROUPS_VARIABLE);
    if (ours != NULL && number_join(directory, ours, SLOT_PREFIX, number)) {
        (void)setenv(GROUP_VARIABLE, directory, 1);
    }
}

void group_join(void)
{
    const char *directory = getenv(GROUP_VARIABLE);
    int err = directory == NULL ? 0 : procs_add(directory, getpid());
    if (err != 0) {
        log_event(LOG_WARN, "a slot has no cgroup", "pid=%d why=\"%s\"", getpid(), strerror(err));
    }
    (void)unsetenv(GROUP_VARIABLE); /* not for what it starts */
    (void)unsetenv(GROUPS_VARIABLE);
}

/* ---- a slot's, as the worker sees it ---- */

static bool directory_of(const struct group *group, char out[PATH_MAX])
{
    return group->groups != NULL && number_join(out, group->groups->directory, SLOT_PREFIX, group->number);
}

static void left_remove(struct groups *groups)
{
    for (size_t i = groups->left_count; i-- > 0;) {
        char directory[PATH_MAX];
        if (number_join(directory, groups->directory, SLOT_PREFIX, groups->left[i]) &&
            tree_remove(directory, REMOVE_DEPTH_MAX)) {
            groups->left[i] = groups->left[--groups->left_count];
        }
    }
}

void group_open(struct group *group, struct groups *groups, uint64_t number)
{
    left_remove(groups);
    *group = (struct group){.groups = groups->use == GROUPS_NONE ? NULL : groups, .number = number};
}

void group_begin(struct group *group)
{
    char directory[PATH_MAX];
    if (group_is_limited(group) && directory_of(group, directory)) {
        (void)cgroup_write(directory, "memory.oom.group", "1");
        (void)cgroup_write(directory, "memory.swap.max", "0");
        (void)cgroup_number(directory, "memory.current", &group->born);
        group->kills = cgroup_field(directory, "memory.events", "oom_kill");
        group->ooms = cgroup_field(directory, "memory.events", "oom");
    }
}

bool group_is_limited(const struct group *group)
{
    return group->groups != NULL && group->groups->use == GROUPS_MEMORY;
}

void group_limit(struct group *group, uint64_t room, int64_t now_ms)
{
    char directory[PATH_MAX];
    char text[24] = "max";
    uint64_t current = 0;
    if ((room == 0 && group->room == 0) || !group_is_limited(group) || !directory_of(group, directory)) {
        return;
    }
    if (room > 0 && cgroup_number(directory, "memory.current", &current) && room < (uint64_t)INT64_MAX / 2) {
        group->max = current + room + room / GROUP_SLACK_DIVISOR + GROUP_SLACK_SIZE;
        snprintf(text, sizeof(text), "%llu", (unsigned long long)group->max);
    }
    int err = cgroup_write(directory, "memory.max", text);
    if (err != 0) {
        log_event(LOG_WARN, "a slot has no limit of the kernel's", "group=%s%llu why=\"%s\"", SLOT_PREFIX,
                  (unsigned long long)group->number, strerror(err));
    }
    group->room = room;
    group->set_ms = now_ms;
}

bool group_kill(const struct group *group)
{
    char directory[PATH_MAX];
    return directory_of(group, directory) && cgroup_write(directory, "cgroup.kill", "1") == 0;
}

struct group_end group_end(const struct group *group)
{
    char directory[PATH_MAX];
    struct group_end end = {.max = group->max};
    if (group_is_limited(group) && directory_of(group, directory)) {
        end.was_killed = cgroup_field(directory, "memory.events", "oom_kill") > group->kills;
        end.was_own = cgroup_field(directory, "memory.events", "oom") > group->ooms;
        (void)cgroup_number(directory, "memory.peak", &end.peak);
        end.peak = end.peak > group->born ? end.peak - group->born : 0;
    }
    return end;
}

void group_close(struct group *group, struct groups *groups)
{
    char directory[PATH_MAX];
    if (directory_of(group, directory)) {
        (void)cgroup_write(directory, "cgroup.kill", "1");
        if (!tree_remove(directory, REMOVE_DEPTH_MAX) && groups->left_count < GROUPS_LEFT_COUNT_MAX) {
            groups->left[groups->left_count++] = group->number; /* else it goes with the worker's, at its end */
        }
    }
    *group = (struct group){0};
}

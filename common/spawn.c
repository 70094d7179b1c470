/*
 * spawn: see spawn.h.
 * Must not know what is started, or why.
 * Start at spawn_program.
 */
#include "common/spawn.h"

#include <signal.h>

void spawn_plan_init(struct spawn_plan *plan)
{
    plan->err = posix_spawn_file_actions_init(&plan->actions);
}

void spawn_plan_fini(struct spawn_plan *plan)
{
    posix_spawn_file_actions_destroy(&plan->actions);
}

static void keep(struct spawn_plan *plan, int err)
{
    plan->err = plan->err != 0 ? plan->err : err;
}

void spawn_plan_dup(struct spawn_plan *plan, int ours, int fd)
{
    keep(plan, posix_spawn_file_actions_adddup2(&plan->actions, ours, fd)); /* glibc clears close-on-exec */
}

void spawn_plan_open(struct spawn_plan *plan, int fd, const char *path, int flags)
{
    keep(plan, posix_spawn_file_actions_addopen(&plan->actions, fd, path, flags, 0));
}

void spawn_plan_chdir(struct spawn_plan *plan, const char *path)
{
    keep(plan, posix_spawn_file_actions_addchdir_np(&plan->actions, path));
}

void spawn_plan_fchdir(struct spawn_plan *plan, int directory)
{
    keep(plan, posix_spawn_file_actions_addfchdir_np(&plan->actions, directory));
}

void spawn_plan_close_from(struct spawn_plan *plan, int fd)
{
    keep(plan, posix_spawn_file_actions_addclosefrom_np(&plan->actions, fd));
}

int spawn_program(pid_t *pid_out, const char *path, struct spawn_plan *plan, char *const argv[],
                  char *const environment[])
{
    posix_spawnattr_t attributes;
    sigset_t none;
    sigset_t all;
    sigemptyset(&none);
    sigfillset(&all);
    posix_spawnattr_init(&attributes);
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setsigdefault(&attributes, &all);
    posix_spawnattr_setpgroup(&attributes, 0);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP);
    int err = plan->err != 0 ? plan->err : posix_spawn(pid_out, path, &plan->actions, &attributes, argv, environment);
    posix_spawnattr_destroy(&attributes);
    spawn_plan_fini(plan);
    return err;
}

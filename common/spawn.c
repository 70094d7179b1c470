/*
 * spawn: see spawn.h.
 * Must not know what is started, or why.
 * Start at spawn_program.
 */
#include "common/spawn.h"

#include <signal.h>

int spawn_program(pid_t *pid_out, const char *path, posix_spawn_file_actions_t *actions, char *const argv[],
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
    int err = posix_spawn(pid_out, path, actions, &attributes, argv, environment);
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(actions);
    return err;
}

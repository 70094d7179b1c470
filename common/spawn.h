/*
 * spawn: starting a program as a process that inherits nothing of how this one treats signals.
 * Knows nothing of which program, or of its descriptors.
 */
#ifndef QUERN_COMMON_SPAWN_H
#define QUERN_COMMON_SPAWN_H

#include <spawn.h>

/* Starts path with no signal blocked, all as they are by default, and as the head of a process group of its own: Ctrl-C
 * is for whoever starts it. Takes the actions (initialised by the caller). 0, or errno. */
int spawn_program(pid_t *pid_out, const char *path, posix_spawn_file_actions_t *actions, char *const argv[],
                  char *const environment[]);

#endif

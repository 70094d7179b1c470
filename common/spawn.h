/*
 * spawn: starting a program as a process that inherits nothing of how this one treats signals.
 * Knows nothing of which program, or of its descriptors.
 */
#ifndef QUERN_COMMON_SPAWN_H
#define QUERN_COMMON_SPAWN_H

#include <spawn.h>

/* What is done in the new process before the program runs. Each of these may lack memory, and a program must not run
 * without one of them (its output would go elsewhere): the first error is kept, and then nothing is started. */
struct spawn_plan {
    posix_spawn_file_actions_t actions;
    int err; /* errno; 0: none */
};

void spawn_plan_init(struct spawn_plan *plan);
void spawn_plan_fini(struct spawn_plan *plan);
/* fd there is this one of ours; onto itself: it is inherited. */
void spawn_plan_dup(struct spawn_plan *plan, int ours, int fd);
void spawn_plan_open(struct spawn_plan *plan, int fd, const char *path, int flags);
void spawn_plan_chdir(struct spawn_plan *plan, const char *path);
void spawn_plan_fchdir(struct spawn_plan *plan, int directory);
/* That number and all above. */
void spawn_plan_close_from(struct spawn_plan *plan, int fd);

/* Starts path with no signal blocked, all as they are by default, and as the head of a process group of its own: Ctrl-C
 * is for whoever starts it. Ends the plan. 0, or errno. */
int spawn_program(pid_t *pid_out, const char *path, struct spawn_plan *plan, char *const argv[],
                  char *const environment[]);

#endif

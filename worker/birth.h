/*
 * birth.h: how a slot process is made: forked from the zygote, which has loaded the modules (fork-server), or started
 * afresh from the program, so that it loads them itself (spawn). Belongs to the zygote; birth_main to a spawned slot.
 */
#ifndef QUERN_WORKER_BIRTH_H
#define QUERN_WORKER_BIRTH_H

#include "worker/modules.h"

#include <sys/types.h>

struct birth {
    const char *program_name; /* argv[0] */
    const struct quern_module *program;
    int life;      /* read end of the life pipe */
    int closes[2]; /* the zygote's own descriptors */
    const char *allow_commands;
    const char *level;
    bool is_spawned;
    char **modules;
    size_t module_count;
    struct registry *registry;
};

/* All functions, in the order that makes their indexes; false: registry->why. */
bool birth_load(const struct birth *birth, struct registry *registry);
/* Descriptors of a slot's birth: first those that go to the supervisor. */
enum birth_fd {
    BIRTH_SOCKET,
    BIRTH_PAGE,
    BIRTH_PIDFD,
    BIRTH_OUTPUT, /* stdout, then stderr */
    BIRTH_ERRORS,
    BIRTH_SLOT_SOCKET,
    BIRTH_SLOT_OUTPUT,
    BIRTH_SLOT_ERRORS,
    BIRTH_GROUP, /* the directory of its cgroup */
    BIRTH_FD_COUNT
};
/* number: of the slot. fds: -1 before, and those made are to be closed after. 0, or errno. */
int birth_slot(const struct birth *birth, uint64_t number, int fds[BIRTH_FD_COUNT], pid_t *pid_out);
/* A spawned slot's main: argv as in zygotewire.h. */
int birth_main(int argc, char **argv, const struct quern_module *program);

#endif

/*
 * Why nothing comes: who waits for outcomes is told once, on stderr, when no worker is there that could run the task or
 * the disk takes nothing. Must not know how outcomes are waited for.
 */
#ifndef QUERN_CLI_WAITING_H
#define QUERN_CLI_WAITING_H

#include "client/cli/cli.h"

struct waiting {
    const char *function;
    const char *queue; /* NULL: default */
    uint64_t id;       /* of the one task; 0: there are many */
    int64_t look_ms;
    int64_t pause_ms;
    bool is_worker_said;
    bool is_disk_said;
};

void waiting_init(struct waiting *waiting, const char *function, const char *queue);
/* Something came: there is nothing to ask for a while. */
void waiting_over(struct waiting *waiting);
/* Asks the broker if nothing has come for long enough, ever more rarely, and says what is in the way. */
void waiting_look(struct waiting *waiting, struct quern_client *client);
/* The same at once, for who can only wait: of a task (id), or of those of a session that are ready. */
void waiting_tell_task(struct quern_client *client, uint64_t id);
void waiting_tell_session(struct quern_client *client, const char *session);
/* Until then, for poll; -1: no more. */
int waiting_left_ms(const struct waiting *waiting);

#endif

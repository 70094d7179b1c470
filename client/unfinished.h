/*
 * unfinished: which tasks are accepted and have no outcome yet. Only clients of volatile sessions keep it, to name what
 * is lost with the session. A bit for each task, and its ordinal where tasks have one, in chunks of neighbours that are
 * there while one of them is. Pure; knows nothing of sessions.
 */
#ifndef QUERN_CLIENT_UNFINISHED_H
#define QUERN_CLIENT_UNFINISHED_H

#include "common/map.h"

#include <stdbool.h>

/* {0} is empty. */
struct unfinished {
    struct map chunks;
    uint64_t count;
    uint64_t first; /* no id is below it */
};

void unfinished_fini(struct unfinished *unfinished);
void unfinished_add(struct unfinished *unfinished, uint64_t id, uint64_t ordinal);
/* False: it was not there. */
bool unfinished_remove(struct unfinished *unfinished, uint64_t id, uint64_t *ordinal_out);
/* Takes the lowest id out; 0: there is none. */
uint64_t unfinished_pop(struct unfinished *unfinished, uint64_t *ordinal_out);
/* Everything of the other one too, which is empty afterwards. */
void unfinished_move(struct unfinished *unfinished, struct unfinished *from);

#endif

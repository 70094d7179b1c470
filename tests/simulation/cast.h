/*
 * cast: who takes part in a world that is moved by chance, for chaos's own files: clients, workers, rivals, and what
 * kind of world it is. Knows world.h. Start at struct chaos.
 */
#ifndef QUERN_TESTS_CAST_H
#define QUERN_TESTS_CAST_H

#include "chaos.h"

#define ACTOR_COUNT_MAX 6u
#define RIVAL_COUNT_MAX 2u

/* A place for clients of one session, one process after the other. */
struct actor {
    char session_name[32]; /* "": unnamed */
    struct client *client;
    uint64_t line_count;
    int64_t returns_at;
    bool is_volatile;
    bool is_rival; /* a second one on somebody else's session; not replaced */
};

struct chaos {
    struct world *world;
    const struct chaos_plan *plan; /* NULL: all that the seed says */
    uint64_t step_count;
    struct actor actors[ACTOR_COUNT_MAX];
    size_t actor_count;
    struct worker *workers[4];
    size_t worker_count;
    int64_t worker_returns_at[4];
    struct worker *rivals[RIVAL_COUNT_MAX]; /* second ones of a name */
    size_t rival_count;
    struct client *intruder; /* NULL: not yet, or it was thrown out */
    bool is_gentle;
    bool is_tame;
    unsigned real_percent; /* of peers that are the product's own code; the others are models */
    unsigned amo_percent;
    unsigned nested_percent;
    unsigned retry_percent;
    unsigned sealed_max;
    int64_t broker_returns_at;
};

/* Drawn from the world's seed. */
uint64_t below(struct chaos *chaos, uint64_t bound);
bool percent(struct chaos *chaos, unsigned percent);

void actor_enter(struct chaos *chaos, struct actor *actor);
void worker_enter(struct chaos *chaos, size_t index);
/* Those whose time has come. */
void actors_return(struct chaos *chaos);
void workers_return(struct chaos *chaos);
/* NULL: the one the dice fell on is not there. */
struct wire *any_wire(struct chaos *chaos);
struct actor *any_actor(struct chaos *chaos);
struct worker *any_worker(struct chaos *chaos);

#endif

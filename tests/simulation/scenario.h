/*
 * scenario: short words for named scenes: one thing happens when one line says so, nothing moves by itself.
 * Knows world.h. Frames move with deliver, batches with commit, both with settle.
 */
#ifndef QUERN_TESTS_SCENARIO_H
#define QUERN_TESTS_SCENARIO_H

#include "oracle.h"
#include "world.h"

struct world *scene(void); /* with a broker */
void scene_end(struct world *world);

struct client *client_open(struct world *world, const char *session);                                 /* settled */
struct worker *worker_hire(struct world *world, const char *name, uint64_t slots, uint64_t prefetch); /* settled */
/* Submits (delivered, not committed); the id of the task. */
uint64_t put(struct client *client, struct spec spec);
uint64_t put_line(struct client *client, uint64_t ordinal, uint64_t predecessor);
/* Submits, commits, and lets a worker have it. */
uint64_t put_settled(struct client *client, struct spec spec);

void again(struct world *world, void *peer);     /* a fresh connection; settled */
void commit_one(struct world *world);            /* just the batch that is open now; what it gates is delivered */
void hello(struct world *world, void *peer);     /* a fresh connection; delivered, not committed */
void lose_wire(struct world *world, void *peer); /* everything on its way is lost */
void die(struct world *world, void *peer);       /* the process, with what was on its way; the broker learns of it */
void crash_and_start(struct world *world);       /* everything not applied is gone, and everything on its way */
void lease_over(struct world *world);            /* and the grace after a restart */
void claims_over(struct world *world);           /* the short window after an unclean end */

bool is_accepted(const struct client *client, size_t sequence);
bool is_unanswered(const struct client *client, size_t sequence);
uint32_t stored_state(const struct world *world, uint64_t task); /* on disk, of task or outcome; 0: none */
uint32_t stored_cause(const struct world *world, uint64_t task);
size_t tasks_stored(const struct world *world); /* tasks and outcomes on disk */

#define PLAIN ((struct spec){0})
#define ONCE ((struct spec){.at_most_once = true})
#define RETRIED(n) ((struct spec){.attempts = (n)})

#endif

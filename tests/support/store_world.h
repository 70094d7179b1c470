/*
 * store_world.h: what tests of the store and the journal share: a directory of their own, a workload that is the same
 * every time, and a text that holds everything a store holds.
 */
#ifndef QUERN_TESTS_STORE_WORLD_H
#define QUERN_TESTS_STORE_WORLD_H

#include "broker/store.h"

/* A fresh directory under TMPDIR, else in memory, else under /tmp; malloc'd. */
char *world_directory(void);
/* Remove it with everything in it; frees and clears. */
void world_remove(char **directory);

/* Without a ballast and a floor, unless a test wants them. */
struct limits world_limits(void);
/* Opens DIRECTORY/quern.db, or fails the test. facts may be NULL. */
struct store *world_open(const char *directory, struct store_facts *facts);

#define WORLD_CHANGE_COUNT_MAX 64u
/* The number-th batch (1, 2, 3 ...) of the workload: every kind of change, payloads from none to 20 KB. */
size_t world_batch(uint32_t number, struct change changes[WORLD_CHANGE_COUNT_MAX]);
/* Apply it. */
QUERN_MUST_USE enum store_verdict world_apply(struct store *store, uint32_t epoch, uint32_t number);
/* Everything but identity and epoch, as text; malloc'd. */
char *world_dump(struct store *store);
/* The dumps after 0, 1 ... count batches; [count + 1] malloc'd texts. */
char **world_expected(uint32_t count);
void world_expected_free(char ***expected, uint32_t count);

#endif

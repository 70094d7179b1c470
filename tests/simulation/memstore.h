/*
 * memstore: what a store keeps, as plain tables in memory: "disk" for the simulation. It owns its rows (deep copies).
 * Knows store.h's rows and core.h's loads, not the core's insides. Start at memstore_apply.
 */
#ifndef QUERN_TESTS_MEMSTORE_H
#define QUERN_TESTS_MEMSTORE_H

#include "broker/core.h"

struct memstore;

struct memstore *memstore_open(uint64_t seed);
void memstore_close(struct memstore **store);

/* What a start of the broker does: raise the epoch, forget calls that nothing refers to. */
void memstore_start(struct memstore *store, struct store_facts *facts_out);
void memstore_mark_clean(struct memstore *store);
/* A restored backup or another machine: a store with another identity (and an empty one). */
void memstore_replace(struct memstore **store, uint64_t seed);

/* Apply in order. NULL, or what was wrong with it (static buffer): a row that should be there and is not, a second
 * outcome, a reference to nothing. again: the batch may be on disk already, so that everything must be bearable. */
const char *memstore_apply(struct memstore *store, const struct change *changes, size_t count, bool again);

void memstore_load(const struct memstore *store, const struct store_visitor *visitor);

/* The answer to a load; free it with memstore_loaded_free. */
struct loaded *memstore_answer(const struct memstore *store, const struct load *load);
void memstore_loaded_free(struct loaded **loaded);

const struct task_row *memstore_task(const struct memstore *store, uint64_t id);
const struct outcome_row *memstore_outcome(const struct memstore *store, uint64_t id);
const struct session_row *memstore_session(const struct memstore *store, uint64_t id);
const struct series_row *memstore_series(const struct memstore *store, uint64_t id);
const struct worker_row *memstore_worker(const struct memstore *store, uint64_t id);
/* By index, in order of id; NULL behind the last. */
const struct task_row *memstore_task_at(const struct memstore *store, size_t index);
const struct outcome_row *memstore_outcome_at(const struct memstore *store, size_t index);
const struct session_row *memstore_session_at(const struct memstore *store, size_t index);
const struct series_row *memstore_series_at(const struct memstore *store, size_t index);
size_t memstore_task_count(const struct memstore *store);
size_t memstore_failure_count(const struct memstore *store, uint64_t task);

struct uuid memstore_uuid(const struct memstore *store);
uint32_t memstore_epoch(const struct memstore *store);
const struct meta_row *memstore_meta(const struct memstore *store);

/* Everything but the epoch as text, for comparing. */
void memstore_dump(const struct memstore *store, struct buf *out);

/* Is a completion acknowledged, as the rows say? */
bool memstore_acked(const struct memstore *store, uint64_t session, uint64_t completion);
size_t memstore_taken_count(const struct memstore *store); /* rows of all sessions */
/* Is a sequence in this row's list of refused ones? code_out may be NULL. */
bool series_row_refused(const struct series_row *row, uint64_t sequence, uint64_t *code_out);

#endif

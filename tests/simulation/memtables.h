/*
 * memtables: the tables of the simulated store, for its own files. They own their rows (deep copies).
 * Knows the shapes of store.h's rows. Start at struct memstore.
 */
#ifndef QUERN_TESTS_MEMTABLES_H
#define QUERN_TESTS_MEMTABLES_H

#include "memstore.h"

enum table_kind { CALLS, SESSIONS, TAKEN, SERIES, WORKERS, TASKS, OUTCOMES, FAILURES, TABLE_COUNT };

struct row {
    uint64_t key;
    uint64_t sub; /* failures: attempt; taken: first */
    void *data;
};

struct table {
    struct row *rows;
    size_t count;
    size_t cap;
};

struct memstore {
    struct uuid uuid;
    uint32_t epoch;
    bool was_clean;
    struct meta_row meta;
    struct table tables[TABLE_COUNT];
    char why[256];
};

/* Where a row has views into other memory: what a deep copy must bring along. */
struct shape {
    size_t size;
    size_t count;
    size_t at[8];
};
extern const struct shape shapes[TABLE_COUNT];
struct bytes *view_at(void *row, size_t at);

/* Where it is, or would be. */
size_t memtable_place(const struct table *table, uint64_t key, uint64_t sub);
void *memtable_get(const struct table *table, uint64_t key, uint64_t sub); /* NULL: not there */
void memtable_put(struct memstore *store, enum table_kind kind, uint64_t key, uint64_t sub, const void *source);
void memtable_remove_at(struct table *table, size_t place);
bool memtable_remove(struct table *table, uint64_t key, uint64_t sub); /* whether it was there */

#define EACH(store, table, type, row)                                                                                  \
    for (size_t index_ = 0; index_ < (store)->tables[table].count; index_++)                                           \
        for (const struct type *row = (store)->tables[table].rows[index_].data; row != NULL; row = NULL)

#endif

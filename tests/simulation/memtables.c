/*
 * memtables.c owns the tables of the simulated store: sorted arrays of rows, each in one piece of memory.
 * It must not know what the rows mean.
 * Start reading at memtable_put.
 */
#include "memtables.h"

#include "common/check.h"

#include <stdlib.h>
#include <string.h>

/* Where a row has views into other memory: what a deep copy must bring along. */
#define AT(type, field) offsetof(struct type, field)
const struct shape shapes[TABLE_COUNT] = {
    [CALLS] = {sizeof(struct call_row), 3, {AT(call_row, queue), AT(call_row, function), AT(call_row, options)}},
    [SESSIONS] = {sizeof(struct session_row),
                  3,
                  {AT(session_row, name), AT(session_row, description), AT(session_row, owner_text)}},
    [TAKEN] = {sizeof(struct taken_row), 0, {0}},
    [SERIES] = {sizeof(struct series_row), 1, {AT(series_row, refused)}},
    [WORKERS] = {sizeof(struct worker_row), 2, {AT(worker_row, name), AT(worker_row, host)}},
    [TASKS] = {sizeof(struct task_row), 1, {AT(task_row, args)}},
    [OUTCOMES] = {sizeof(struct outcome_row),
                  8,
                  {AT(outcome_row, worker), AT(outcome_row, kind), AT(outcome_row, message), AT(outcome_row, detail),
                   AT(outcome_row, report), AT(outcome_row, result), AT(outcome_row, args), AT(outcome_row, output)}},
    [FAILURES] = {sizeof(struct failure_row),
                  6,
                  {AT(failure_row, worker), AT(failure_row, kind), AT(failure_row, message), AT(failure_row, detail),
                   AT(failure_row, report), AT(failure_row, output)}},
};

struct bytes *view_at(void *row, size_t at)
{
    return (struct bytes *)(void *)((uint8_t *)row + at);
}

static void *row_copy(enum table_kind kind, const void *source)
{
    const struct shape *shape = &shapes[kind];
    size_t size = shape->size;
    for (size_t i = 0; i < shape->count; i++) {
        size += view_at((void *)(uintptr_t)source, shape->at[i])->n;
    }
    uint8_t *copy = xmalloc(size);
    memcpy(copy, source, shape->size);
    uint8_t *end = copy + shape->size;
    for (size_t i = 0; i < shape->count; i++) {
        struct bytes *view = view_at(copy, shape->at[i]);
        if (view->n > 0) {
            memcpy(end, view->p, view->n);
        }
        *view = view->p ? bytes_of(end, view->n) : (struct bytes){NULL, 0};
        end += view->n;
    }
    return copy;
}

size_t memtable_place(const struct table *table, uint64_t key, uint64_t sub)
{
    size_t low = 0;
    size_t high = table->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        const struct row *row = &table->rows[middle];
        bool is_before = row->key < key || (row->key == key && row->sub < sub);
        if (is_before) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

void *memtable_get(const struct table *table, uint64_t key, uint64_t sub)
{
    size_t place = memtable_place(table, key, sub);
    if (place < table->count && table->rows[place].key == key && table->rows[place].sub == sub) {
        return table->rows[place].data;
    }
    return NULL;
}

void memtable_put(struct memstore *store, enum table_kind kind, uint64_t key, uint64_t sub, const void *source)
{
    struct table *table = &store->tables[kind];
    void *copy = row_copy(kind, source);
    size_t place = memtable_place(table, key, sub);
    if (place < table->count && table->rows[place].key == key && table->rows[place].sub == sub) {
        free(table->rows[place].data);
        table->rows[place].data = copy;
        return;
    }
    if (table->count == table->cap) {
        table->cap = table->cap ? table->cap * 2 : 64;
        table->rows = xrealloc(table->rows, table->cap * sizeof *table->rows);
    }
    memmove(&table->rows[place + 1], &table->rows[place], (table->count - place) * sizeof *table->rows);
    table->rows[place] = (struct row){key, sub, copy};
    table->count++;
}

void memtable_remove_at(struct table *table, size_t place)
{
    free(table->rows[place].data);
    table->count--;
    memmove(&table->rows[place], &table->rows[place + 1], (table->count - place) * sizeof *table->rows);
}

bool memtable_remove(struct table *table, uint64_t key, uint64_t sub)
{
    size_t place = memtable_place(table, key, sub);
    if (place >= table->count || table->rows[place].key != key || table->rows[place].sub != sub) {
        return false;
    }
    memtable_remove_at(table, place);
    return true;
}

/*
 * map.c owns the table from 64-bit keys to pointers: leaves of neighbouring keys, found by linear probing; removing a
 * leaf shifts back, so there are no tombstones and a table that lives for years stays as fast as a new one. It must not
 * know what the values are. Start reading at leaf_find.
 */
#include "common/map.h"

#include "common/check.h"

#include <stdlib.h>

#define MAP_CAP_FIRST 16u
#define LEAF_BITS 4u
#define LEAF_SIZE (1u << LEAF_BITS)
/* Empty leaves that removing keeps for the next; more only if they were asked for (map_try_reserve). */
#define LEAF_SPARE_COUNT_MAX 1024u

struct map_leaf {
    uint64_t key;          /* of the leaf: leaf_key of all its keys */
    struct map_leaf *next; /* among the spares */
    size_t used;
    void *values[LEAF_SIZE];
};

static uint64_t leaf_key(uint64_t key)
{
    return (key >> LEAF_BITS) + 1;
}

static void **value_at(struct map_leaf *leaf, uint64_t key)
{
    return &leaf->values[key & (LEAF_SIZE - 1)];
}

/* splitmix64's finisher: keys are mostly counters, and every bit of them must reach the low bits. */
static uint64_t key_mix(uint64_t key)
{
    key ^= key >> 30;
    key *= 0xbf58476d1ce4e5b9u;
    key ^= key >> 27;
    key *= 0x94d049bb133111ebu;
    return key ^ key >> 31;
}

static size_t key_home(const struct map *map, uint64_t key)
{
    return (size_t)key_mix(key) & (map->cap - 1);
}

/* Index of the leaf's key, or of the free slot where it belongs. The table is never full. */
static size_t slot_find(const struct map *map, uint64_t key)
{
    size_t at = key_home(map, key);

    while (map->entries[at].key != 0 && map->entries[at].key != key) {
        at = (at + 1) & (map->cap - 1);
    }
    return at;
}

/* NULL: there is none for this key. */
static struct map_leaf *leaf_find(const struct map *map, uint64_t key)
{
    if (map->last != NULL && map->last->key == leaf_key(key)) {
        return map->last;
    }
    return map->cap == 0 ? NULL : map->entries[slot_find(map, leaf_key(key))].leaf;
}

/* ---- room ---- */

static _Bool has_room(const struct map *map, size_t cap, size_t more)
{
    return map->leaf_count + more <= cap - cap / 4;
}

static _Bool entries_try_reserve(struct map *map, size_t more)
{
    struct map old = *map;
    size_t cap = old.cap;

    while (!has_room(map, cap, more)) {
        cap = cap == 0 ? MAP_CAP_FIRST : 2 * cap;
    }
    if (cap == old.cap) {
        return 1;
    }
    struct map_entry *entries = calloc(cap, sizeof *entries);
    if (entries == NULL) {
        return 0;
    }
    map->entries = entries;
    map->cap = cap;
    for (size_t i = 0; i < old.cap; i++) {
        if (old.entries[i].key != 0) {
            map->entries[slot_find(map, old.entries[i].key)] = old.entries[i];
        }
    }
    free(old.entries);
    return 1;
}

static void spare_push(struct map *map, struct map_leaf *leaf)
{
    leaf->next = map->spares;
    map->spares = leaf;
    map->spare_count++;
}

_Bool map_try_reserve(struct map *map, size_t more)
{
    while (map->spare_count < more) { /* each may come to a leaf of its own */
        struct map_leaf *leaf = calloc(1, sizeof *leaf);
        if (leaf == NULL) {
            return 0;
        }
        spare_push(map, leaf);
    }
    return entries_try_reserve(map, more);
}

static struct map_leaf *leaf_make(struct map *map, uint64_t key)
{
    CHECK_THAT(map_try_reserve(map, 1), "memory is used up: a table of %zu", map->count);
    struct map_leaf *leaf = map->spares;
    map->spares = leaf->next;
    map->spare_count--;
    leaf->key = leaf_key(key);
    map->entries[slot_find(map, leaf->key)] = (struct map_entry){.key = leaf->key, .leaf = leaf};
    map->leaf_count++;
    return leaf;
}

/* Entries behind the gap whose way from home leads over it move back into it. */
static void gap_close(struct map *map, size_t gap)
{
    size_t mask = map->cap - 1;

    for (size_t at = (gap + 1) & mask; map->entries[at].key != 0; at = (at + 1) & mask) {
        size_t home = key_home(map, map->entries[at].key);

        if (((at - home) & mask) >= ((at - gap) & mask)) {
            map->entries[gap] = map->entries[at];
            gap = at;
        }
    }
    map->entries[gap] = (struct map_entry){0};
}

static void leaf_drop(struct map *map, struct map_leaf *leaf)
{
    gap_close(map, slot_find(map, leaf->key));
    map->leaf_count--;
    map->last = NULL;
    if (map->spare_count < LEAF_SPARE_COUNT_MAX) {
        spare_push(map, leaf);
    } else {
        free(leaf);
    }
}

void map_fini(struct map *map)
{
    for (size_t i = 0; i < map->cap; i++) {
        free(map->entries[i].leaf);
    }
    while (map->spares != NULL) {
        struct map_leaf *leaf = map->spares;
        map->spares = leaf->next;
        free(leaf);
    }
    free(map->entries);
    *map = (struct map){0};
}

/* ---- keys ---- */

void *map_get(const struct map *map, uint64_t key)
{
    CHECK(key != 0);
    struct map_leaf *leaf = leaf_find(map, key);
    return leaf == NULL ? NULL : *value_at(leaf, key);
}

void map_put(struct map *map, uint64_t key, void *value)
{
    CHECK(key != 0 && value != NULL);
    struct map_leaf *leaf = leaf_find(map, key);
    leaf = leaf != NULL ? leaf : leaf_make(map, key);
    map->last = leaf;
    size_t is_new = *value_at(leaf, key) == NULL;
    leaf->used += is_new;
    map->count += is_new;
    *value_at(leaf, key) = value;
}

void *map_remove(struct map *map, uint64_t key)
{
    CHECK(key != 0);
    struct map_leaf *leaf = leaf_find(map, key);
    void *value = leaf == NULL ? NULL : *value_at(leaf, key);
    if (value == NULL) {
        return NULL;
    }
    *value_at(leaf, key) = NULL;
    map->count--;
    map->last = leaf;
    if (--leaf->used == 0) {
        leaf_drop(map, leaf);
    }
    return value;
}

_Bool map_next(const struct map *map, size_t *at, uint64_t *key_out, void **value_out)
{
    while (*at < map->cap * LEAF_SIZE) {
        const struct map_entry *entry = &map->entries[*at / LEAF_SIZE];
        size_t index = (*at)++ % LEAF_SIZE;

        if (entry->key == 0) {
            *at += LEAF_SIZE - 1 - index;
        } else if (entry->leaf->values[index] != NULL) {
            *key_out = ((entry->key - 1) << LEAF_BITS) + index;
            *value_out = entry->leaf->values[index];
            return 1;
        }
    }
    return 0;
}

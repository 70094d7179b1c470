/*
 * map.c owns the hash table from 64-bit keys to pointers: linear probing; removing shifts back, so there are no
 * tombstones and a table that lives for years stays as fast as a new one. It must not know what the values are.
 * Start reading at slot_find.
 */
#include "common/map.h"

#include "common/check.h"

#include <stdlib.h>

#define MAP_CAP_FIRST 16u

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

/* Index of the key, or of the free slot where it belongs. The table is never full. */
static size_t slot_find(const struct map *map, uint64_t key)
{
    size_t at = key_home(map, key);

    while (map->entries[at].key != 0 && map->entries[at].key != key) {
        at = (at + 1) & (map->cap - 1);
    }
    return at;
}

static _Bool has_room(const struct map *map, size_t cap, size_t more)
{
    return map->count + more <= cap - cap / 4;
}

_Bool map_try_reserve(struct map *map, size_t more)
{
    struct map old = *map;
    size_t cap = old.cap;

    if (has_room(map, cap, more)) {
        return 1;
    }
    while (!has_room(map, cap, more)) {
        cap = cap == 0 ? MAP_CAP_FIRST : 2 * cap;
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

void map_fini(struct map *map)
{
    free(map->entries);
    *map = (struct map){0};
}

void *map_get(const struct map *map, uint64_t key)
{
    CHECK(key != 0);
    return map->cap == 0 ? NULL : map->entries[slot_find(map, key)].value;
}

void map_put(struct map *map, uint64_t key, void *value)
{
    struct map_entry *entry;

    CHECK(key != 0 && value != NULL);
    CHECK_THAT(map_try_reserve(map, 1), "memory is used up: a table of %zu", map->count);
    entry = &map->entries[slot_find(map, key)];
    map->count += entry->key == 0;
    entry->key = key;
    entry->value = value;
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

void *map_remove(struct map *map, uint64_t key)
{
    size_t at;
    void *value;

    CHECK(key != 0);
    if (map->cap == 0) {
        return NULL;
    }
    at = slot_find(map, key);
    value = map->entries[at].value;
    if (value != NULL) {
        map->count--;
        gap_close(map, at);
    }
    return value;
}

_Bool map_next(const struct map *map, size_t *at, uint64_t *key_out, void **value_out)
{
    while (*at < map->cap) {
        const struct map_entry *entry = &map->entries[(*at)++];

        if (entry->key != 0) {
            *key_out = entry->key;
            *value_out = entry->value;
            return 1;
        }
    }
    return 0;
}

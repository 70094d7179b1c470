/* A hash table from 64-bit keys (not 0) to pointers: open addressing, grows by doubling, no allocation per entry. */
#ifndef QUERN_COMMON_MAP_H
#define QUERN_COMMON_MAP_H

#include <stddef.h>
#include <stdint.h>

struct map {
    struct map_entry *entries;
    size_t count;
    size_t cap; /* a power of two, or 0 */
};

struct map_entry {
    uint64_t key; /* 0: free */
    void *value;
};

void map_fini(struct map *map);
/* Room for so many further keys, so that putting them needs no memory. False: there is none; nothing has changed. */
_Bool map_try_reserve(struct map *map, size_t more);
void *map_get(const struct map *map, uint64_t key);       /* NULL if absent */
void map_put(struct map *map, uint64_t key, void *value); /* value not NULL; replaces */
void *map_remove(struct map *map, uint64_t key);          /* what was there, or NULL */
/* Walk in table order: *at starts at 0; false at the end. The table must not change meanwhile. */
_Bool map_next(const struct map *map, size_t *at, uint64_t *key_out, void **value_out);

#endif

/*
 * A table from 64-bit keys (not 0) to pointers. Made for ids, which come in sequence: neighbouring keys share a leaf of
 * 16, so that of many in a row only one is looked up in the hash table of leaves, and ten million take 13 bytes each.
 */
#ifndef QUERN_COMMON_MAP_H
#define QUERN_COMMON_MAP_H

#include <stddef.h>
#include <stdint.h>

struct map_leaf;

struct map {
    struct map_entry *entries; /* of leaves: open addressing, grows by doubling */
    size_t count;              /* keys */
    size_t leaf_count;
    size_t cap;              /* of entries: a power of two, or 0 */
    struct map_leaf *last;   /* the one that was changed last; NULL: none */
    struct map_leaf *spares; /* empty ones for the next */
    size_t spare_count;
};

struct map_entry {
    uint64_t key; /* of a leaf; 0: free */
    struct map_leaf *leaf;
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

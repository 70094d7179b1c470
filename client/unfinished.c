/*
 * unfinished: a set of task ids, dense in places.
 * Knows nothing of submits and outcomes.
 * Start at unfinished_add.
 */
#include "client/unfinished.h"
#include "common/check.h"

#include <stdlib.h>

#define CHUNK_BITS 1024u
#define WORD_BITS 64u

struct chunk {
    unsigned count;
    uint64_t *ordinals; /* NULL: none of them has one */
    uint64_t words[CHUNK_BITS / WORD_BITS];
};

static void chunk_free(struct chunk *chunk)
{
    free(chunk->ordinals);
    free(chunk);
}

void unfinished_fini(struct unfinished *unfinished)
{
    size_t at = 0;
    uint64_t key;
    void *value;
    while (map_next(&unfinished->chunks, &at, &key, &value)) {
        chunk_free(value);
    }
    map_fini(&unfinished->chunks);
    *unfinished = (struct unfinished){0};
}

static uint64_t *word_of(struct chunk *chunk, uint64_t id)
{
    return &chunk->words[id % CHUNK_BITS / WORD_BITS];
}

static uint64_t bit_of(uint64_t id)
{
    return (uint64_t)1 << id % WORD_BITS;
}

static void ordinal_set(struct chunk *chunk, uint64_t id, uint64_t ordinal)
{
    if (ordinal != 0 && chunk->ordinals == NULL) {
        chunk->ordinals = xcalloc(CHUNK_BITS, sizeof(uint64_t));
    }
    if (chunk->ordinals != NULL) {
        chunk->ordinals[id % CHUNK_BITS] = ordinal;
    }
}

/* Ids begin far above CHUNK_BITS (a series is at least 1), so no key is 0. */
void unfinished_add(struct unfinished *unfinished, uint64_t id, uint64_t ordinal)
{
    struct chunk *chunk = map_get(&unfinished->chunks, id / CHUNK_BITS);
    if (chunk == NULL) {
        chunk = xcalloc(1, sizeof(*chunk));
        map_put(&unfinished->chunks, id / CHUNK_BITS, chunk);
    }
    if ((*word_of(chunk, id) & bit_of(id)) == 0) {
        *word_of(chunk, id) |= bit_of(id);
        chunk->count++;
        unfinished->count++;
    }
    ordinal_set(chunk, id, ordinal);
    unfinished->first = id < unfinished->first ? id : unfinished->first;
}

bool unfinished_remove(struct unfinished *unfinished, uint64_t id, uint64_t *ordinal_out)
{
    struct chunk *chunk = map_get(&unfinished->chunks, id / CHUNK_BITS);
    if (chunk == NULL || (*word_of(chunk, id) & bit_of(id)) == 0) {
        return false;
    }
    *word_of(chunk, id) &= ~bit_of(id);
    *ordinal_out = chunk->ordinals != NULL ? chunk->ordinals[id % CHUNK_BITS] : 0;
    unfinished->count--;
    if (--chunk->count == 0) {
        (void)map_remove(&unfinished->chunks, id / CHUNK_BITS);
        chunk_free(chunk);
    }
    return true;
}

static uint64_t lowest_key(const struct unfinished *unfinished)
{
    uint64_t lowest = UINT64_MAX;
    size_t at = 0;
    uint64_t key;
    void *value;
    while (map_next(&unfinished->chunks, &at, &key, &value)) {
        lowest = key < lowest ? key : lowest;
    }
    return lowest;
}

/* The chunk of the one that was popped last has the next one, mostly. */
uint64_t unfinished_pop(struct unfinished *unfinished, uint64_t *ordinal_out)
{
    if (unfinished->count == 0) {
        return 0;
    }
    bool is_known = unfinished->first != 0;
    if (!is_known || map_get(&unfinished->chunks, unfinished->first / CHUNK_BITS) == NULL) {
        unfinished->first = lowest_key(unfinished) * CHUNK_BITS;
    }
    while (!unfinished_remove(unfinished, unfinished->first, ordinal_out)) {
        unfinished->first++;
        CHECK(unfinished->first % CHUNK_BITS != 0);
    }
    return unfinished->first;
}

void unfinished_move(struct unfinished *unfinished, struct unfinished *from)
{
    uint64_t id;
    uint64_t ordinal;
    if (unfinished->count == 0) {
        struct unfinished empty = *unfinished;
        *unfinished = *from;
        *from = empty;
        return;
    }
    while ((id = unfinished_pop(from, &ordinal)) != 0) {
        unfinished_add(unfinished, id, ordinal);
    }
}

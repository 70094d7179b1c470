/*
 * A binary heap of pointers whose elements know their place, so that any of them can be taken out.
 * The element carries a size_t that the heap keeps (its index + 1; 0 when in no heap) at index_offset.
 */
#ifndef QUERN_COMMON_HEAP_H
#define QUERN_COMMON_HEAP_H

#include <stdbool.h>
#include <stddef.h>

struct heap {
    void **items;
    size_t count;
    size_t cap;
    size_t index_offset;
    bool (*is_before)(const void *a, const void *b);
};

void heap_init(struct heap *heap, size_t index_offset, bool (*is_before)(const void *a, const void *b));
void heap_fini(struct heap *heap);
/* Room for so many further items, so that pushing them needs no memory. False: there is none; nothing has changed. */
bool heap_try_reserve(struct heap *heap, size_t more);
void heap_push(struct heap *heap, void *item);
void *heap_top(const struct heap *heap); /* NULL if empty */
void *heap_pop(struct heap *heap);
void heap_remove(struct heap *heap, void *item);

#endif

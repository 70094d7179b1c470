/*
 * heap.c owns the order of a binary heap whose elements know their place.
 * It must not know what the elements are.
 * Start reading at heap_push.
 */
#include "common/heap.h"

#include "common/check.h"

#include <stdlib.h>

#define HEAP_CAP_FIRST 16u

static size_t *place_of(const struct heap *heap, void *item)
{
    return (size_t *)(void *)((char *)item + heap->index_offset);
}

static void item_set(struct heap *heap, size_t index, void *item)
{
    heap->items[index] = item;
    *place_of(heap, item) = index + 1;
}

static void item_up(struct heap *heap, size_t index, void *item)
{
    while (index > 0) {
        size_t parent = (index - 1) / 2;

        if (!heap->is_before(item, heap->items[parent])) {
            break;
        }
        item_set(heap, index, heap->items[parent]);
        index = parent;
    }
    item_set(heap, index, item);
}

static void item_down(struct heap *heap, size_t index, void *item)
{
    for (;;) {
        size_t child = 2 * index + 1;

        if (child >= heap->count) {
            break;
        }
        if (child + 1 < heap->count && heap->is_before(heap->items[child + 1], heap->items[child])) {
            child++;
        }
        if (!heap->is_before(heap->items[child], item)) {
            break;
        }
        item_set(heap, index, heap->items[child]);
        index = child;
    }
    item_set(heap, index, item);
}

void heap_init(struct heap *heap, size_t index_offset, bool (*is_before)(const void *a, const void *b))
{
    *heap = (struct heap){.index_offset = index_offset, .is_before = is_before};
}

void heap_fini(struct heap *heap)
{
    free(heap->items);
    heap->items = NULL;
    heap->count = 0;
    heap->cap = 0;
}

bool heap_try_reserve(struct heap *heap, size_t more)
{
    size_t cap = heap->cap;

    if (heap->count + more <= cap) {
        return true;
    }
    while (cap < heap->count + more) {
        cap = cap == 0 ? HEAP_CAP_FIRST : 2 * cap;
    }
    void **items = realloc(heap->items, cap * sizeof *items);
    if (items == NULL) {
        return false;
    }
    heap->items = items;
    heap->cap = cap;
    return true;
}

void heap_push(struct heap *heap, void *item)
{
    CHECK(*place_of(heap, item) == 0);
    CHECK_THAT(heap_try_reserve(heap, 1), "memory is used up: a heap of %zu", heap->count);
    heap->count++;
    item_up(heap, heap->count - 1, item);
}

void *heap_top(const struct heap *heap)
{
    return heap->count == 0 ? NULL : heap->items[0];
}

void *heap_pop(struct heap *heap)
{
    void *top = heap_top(heap);

    if (top != NULL) {
        heap_remove(heap, top);
    }
    return top;
}

void heap_remove(struct heap *heap, void *item)
{
    size_t *place = place_of(heap, item);
    size_t index = *place - 1;
    void *last;

    CHECK(*place != 0 && index < heap->count && heap->items[index] == item);
    *place = 0;
    heap->count--;
    if (index == heap->count) {
        return;
    }
    /* The last element takes the place that came free; it may belong above or below it. */
    last = heap->items[heap->count];
    if (index > 0 && heap->is_before(last, heap->items[(index - 1) / 2])) {
        item_up(heap, index, last);
    } else {
        item_down(heap, index, last);
    }
}

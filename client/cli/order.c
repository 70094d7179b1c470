/*
 * Owns the order of printing. Must not know outcomes. Start at order_take.
 */
#include "client/cli/order.h"

#include "common/check.h"
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#define PROMISED_CAP_FIRST 64u

static bool is_before(const void *a, const void *b)
{
    return ((const struct order_entry *)a)->ordinal < ((const struct order_entry *)b)->ordinal;
}

void order_init(struct order *order, uint64_t earlier_high, uint64_t earlier_left)
{
    *order = (struct order){.earlier_high = earlier_high, .earlier_left = earlier_left};
    heap_init(&order->arrived, offsetof(struct order_entry, index), is_before);
}

void order_fini(struct order *order)
{
    free(order->promised);
    order->promised = NULL;
    heap_fini(&order->arrived);
}

static void ring_grow(struct order *order)
{
    size_t cap = order->promised_cap > 0 ? order->promised_cap * 2 : PROMISED_CAP_FIRST;
    uint64_t *grown = xcalloc(cap, sizeof grown[0]);
    for (size_t i = 0; i < order->promised_count; i++) {
        grown[i] = order->promised[(order->promised_first + i) % order->promised_cap];
    }
    free(order->promised);
    order->promised = grown;
    order->promised_cap = cap;
    order->promised_first = 0;
}

void order_promise(struct order *order, uint64_t ordinal)
{
    if (order->promised_count == order->promised_cap) {
        ring_grow(order);
    }
    order->promised[(order->promised_first + order->promised_count) % order->promised_cap] = ordinal;
    order->promised_count++;
}

void order_arrive(struct order *order, uint64_t ordinal, void *item, bool is_earlier)
{
    struct order_entry *entry = xcalloc(1, sizeof *entry);
    entry->ordinal = ordinal;
    entry->item = item;
    heap_push(&order->arrived, entry);
    if (is_earlier && order->earlier_left > 0) {
        order->earlier_left--;
    }
}

void order_earlier_end(struct order *order)
{
    order->earlier_left = 0;
}

static void *entry_pop(struct order *order, uint64_t *ordinal_out)
{
    struct order_entry *entry = heap_pop(&order->arrived);
    void *item = entry->item;
    *ordinal_out = entry->ordinal;
    free(entry);
    return item;
}

void *order_take(struct order *order, uint64_t *ordinal_out)
{
    const struct order_entry *top = heap_top(&order->arrived);
    if (top == NULL || order->earlier_left > 0) {
        return NULL;
    }
    uint64_t next = order->promised_count > 0 ? order->promised[order->promised_first] : UINT64_MAX;
    if (top->ordinal > next) {
        return NULL;
    }
    if (top->ordinal == next) {
        order->promised_first = (order->promised_first + 1) % order->promised_cap;
        order->promised_count--;
    }
    return entry_pop(order, ordinal_out);
}

void *order_drain(struct order *order)
{
    uint64_t ordinal;
    return heap_top(&order->arrived) != NULL ? entry_pop(order, &ordinal) : NULL;
}

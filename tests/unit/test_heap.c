/*
 * test_heap.c owns what is claimed of the heap: order, and that any element can be taken out.
 * It must not know what the broker keeps in one.
 * Start reading at main.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/heap.h"

#define NODE_COUNT 500u

struct node {
    uint32_t key;
    size_t place;
};

static bool node_is_before(const void *a, const void *b)
{
    const struct node *x = a;
    const struct node *y = b;

    return x->key != y->key ? x->key < y->key : x < y;
}

static uint32_t next_random(uint32_t *seed)
{
    *seed = *seed * 1664525u + 1013904223u;
    return *seed >> 8;
}

static void test_an_empty_heap_has_no_top(void **state)
{
    struct heap heap;

    (void)state;
    heap_init(&heap, offsetof(struct node, place), node_is_before);
    assert_null(heap_top(&heap));
    assert_null(heap_pop(&heap));
    heap_fini(&heap);
    heap_fini(&heap); /* twice is safe */
}

/* Timers fire in order whatever order they were set in. */
static void test_elements_come_out_in_order(void **state)
{
    static struct node nodes[NODE_COUNT];
    struct heap heap;
    uint32_t seed = 1;
    const struct node *last = NULL;

    (void)state;
    heap_init(&heap, offsetof(struct node, place), node_is_before);
    for (size_t i = 0; i < NODE_COUNT; i++) {
        nodes[i] = (struct node){.key = next_random(&seed) % 50}; /* many equal ones */
        heap_push(&heap, &nodes[i]);
    }
    for (size_t i = 0; i < NODE_COUNT; i++) {
        struct node *top = heap_top(&heap);

        assert_ptr_equal(heap_pop(&heap), top);
        assert_int_equal(top->place, 0);
        assert_true(last == NULL || node_is_before(last, top));
        last = top;
    }
    assert_null(heap_pop(&heap));
    heap_fini(&heap);
}

/* A cancelled task leaves its timer's heap from wherever it stands: the invariant must hold after each removal, also
 * when the element that fills the gap belongs above it. */
static void test_any_element_can_be_taken_out(void **state)
{
    static struct node nodes[NODE_COUNT];
    struct heap heap;
    uint32_t seed = 7;
    size_t in_count = 0;

    (void)state;
    heap_init(&heap, offsetof(struct node, place), node_is_before);
    for (size_t i = 0; i < NODE_COUNT; i++) {
        nodes[i] = (struct node){0};
    }
    for (unsigned step = 0; step < 20000; step++) {
        struct node *node = &nodes[next_random(&seed) % NODE_COUNT];

        if (node->place == 0) {
            node->key = next_random(&seed) % 1000;
            heap_push(&heap, node);
            in_count++;
        } else {
            heap_remove(&heap, node);
            assert_int_equal(node->place, 0);
            in_count--;
        }
        assert_int_equal(heap.count, in_count);
        for (size_t i = 0; step % 50 == 0 && i < heap.count; i++) {
            assert_int_equal(((struct node *)heap.items[i])->place, i + 1);
            assert_true(i == 0 || !node_is_before(heap.items[i], heap.items[(i - 1) / 2]));
        }
    }
    assert_true(in_count > 0);
    heap_fini(&heap);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_an_empty_heap_has_no_top),
        cmocka_unit_test(test_elements_come_out_in_order),
        cmocka_unit_test(test_any_element_can_be_taken_out),
    };
    return cmocka_run_group_tests_name("heap", tests, NULL, NULL);
}

/*
 * test_map.c owns what is claimed of the hash table: it answers as a plain array would, whatever the order of changes.
 * It must not know what the broker keeps in one.
 * Start reading at main.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/ids.h"
#include "common/map.h"

#define KEY_COUNT 700u

static char things[KEY_COUNT]; /* values are pointers into it */

static uint32_t next_random(uint32_t *seed)
{
    *seed = *seed * 1664525u + 1013904223u;
    return *seed >> 8;
}

static void test_an_empty_map_has_nothing(void **state)
{
    struct map map = {0};
    size_t at = 0;
    uint64_t key;
    void *value;

    (void)state;
    assert_null(map_get(&map, 1));
    assert_null(map_remove(&map, 1));
    assert_false(map_next(&map, &at, &key, &value));
    map_fini(&map);
}

static void test_putting_again_replaces(void **state)
{
    struct map map = {0};

    (void)state;
    map_put(&map, UINT64_MAX, &things[1]);
    map_put(&map, UINT64_MAX, &things[2]);
    assert_int_equal(map.count, 1);
    assert_ptr_equal(map_get(&map, UINT64_MAX), &things[2]);
    assert_ptr_equal(map_remove(&map, UINT64_MAX), &things[2]);
    assert_null(map_get(&map, UINT64_MAX));
    assert_int_equal(map.count, 0);
    map_fini(&map);
}

/* Removing shifts entries back; one shifted wrongly is a task that exists and cannot be found. */
static void test_it_agrees_with_a_plain_array(void **state)
{
    struct map map = {0};
    const void *expected[KEY_COUNT] = {0};
    size_t count = 0;
    uint32_t seed = 3;

    (void)state;
    for (unsigned step = 0; step < 60000; step++) {
        uint32_t index = next_random(&seed) % KEY_COUNT;
        uint64_t key = id_make(index % 7 + 1, index / 7 + 1); /* keys as they are: few series, rising sequences */

        if (expected[index] == NULL) {
            expected[index] = &things[next_random(&seed) % KEY_COUNT];
            map_put(&map, key, (void *)(uintptr_t)expected[index]);
            count++;
        } else if (next_random(&seed) % 4 != 0) {
            assert_ptr_equal(map_remove(&map, key), expected[index]);
            expected[index] = NULL;
            count--;
        }
        assert_int_equal(map.count, count);
        for (uint32_t i = 0; step % 500 == 0 && i < KEY_COUNT; i++) {
            assert_ptr_equal(map_get(&map, id_make(i % 7 + 1, i / 7 + 1)), expected[i]);
        }
    }
    assert_true(count > 0);
    map_fini(&map);
}

static void test_walking_meets_every_entry_once(void **state)
{
    struct map map = {0};
    unsigned met[KEY_COUNT] = {0};
    size_t at = 0;
    uint64_t key;
    void *value;

    (void)state;
    for (uint64_t i = 0; i < KEY_COUNT; i++) {
        map_put(&map, i + 1, &things[i]);
    }
    while (map_next(&map, &at, &key, &value)) {
        assert_ptr_equal(value, &things[key - 1]);
        met[key - 1]++;
    }
    for (size_t i = 0; i < KEY_COUNT; i++) {
        assert_int_equal(met[i], 1);
    }
    map_fini(&map);
}

/* Sequences of many series share their low bits; if they all had the same home, a million tasks would be one long walk.
 */
static void test_ids_spread_over_the_table(void **state)
{
    struct map map = {0};
    size_t run = 0;
    size_t longest = 0;

    (void)state;
    for (uint32_t series = 1; series <= 64; series++) {
        for (uint32_t sequence = 1; sequence <= 64; sequence++) {
            map_put(&map, id_make(series, sequence), things);
        }
    }
    for (size_t i = 0; i < map.cap; i++) {
        run = map.entries[i].key != 0 ? run + 1 : 0;
        longest = run > longest ? run : longest;
    }
    assert_in_range(longest, 1, 100);
    map_fini(&map);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_an_empty_map_has_nothing),     cmocka_unit_test(test_putting_again_replaces),
        cmocka_unit_test(test_it_agrees_with_a_plain_array), cmocka_unit_test(test_walking_meets_every_entry_once),
        cmocka_unit_test(test_ids_spread_over_the_table),
    };
    return cmocka_run_group_tests_name("map", tests, NULL, NULL);
}

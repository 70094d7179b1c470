/*
 * test_names: lists of function names (worker/names.c).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "worker/names.h"

static bool reads(const char *text, size_t size, size_t count)
{
    char **names;
    size_t found;
    bool is_list = names_read(text, size, count, &names, &found);
    names_free(names, found);
    return is_list;
}

static void test_a_list_is_as_many_names_as_it_says(void **state)
{
    (void)state;
    assert_true(reads("a\0bc\0", 5, 2));
    assert_true(reads("", 0, 0));
    assert_false(reads("a\0bc\0", 5, 1));
    assert_false(reads("a\0bc\0", 5, 3));
    assert_false(reads("a\0bc", 4, 2)); /* no end */
}

/* What was read under one index must not be run as another. */
static void test_the_hash_knows_order_and_borders(void **state)
{
    char ab[] = "ab";
    char c[] = "c";
    char a[] = "a";
    char bc[] = "bc";
    char *one[] = {ab, c};
    char *turned[] = {c, ab};
    char *shifted[] = {a, bc};
    (void)state;
    assert_true(names_hash(one, 2) == names_hash(one, 2));
    assert_true(names_hash(one, 2) != names_hash(turned, 2));
    assert_true(names_hash(one, 2) != names_hash(shifted, 2));
    assert_true(names_hash(one, 2) != names_hash(one, 1));
    assert_true(names_equal(one, 2, one, 2));
    assert_false(names_equal(one, 2, turned, 2));
    assert_false(names_equal(one, 2, one, 1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_list_is_as_many_names_as_it_says),
        cmocka_unit_test(test_the_hash_knows_order_and_borders),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

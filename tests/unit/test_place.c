/*
 * The place of a slot: who may give it, and that it is taken back as often as it was given.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/place.h"

#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

struct figures {
    unsigned given;
    unsigned taken;
    int64_t deadline_ms;
    bool is_full;
};

static bool give(void *self, int64_t deadline_ms)
{
    struct figures *figures = self;
    figures->deadline_ms = deadline_ms;
    figures->given += !figures->is_full;
    return !figures->is_full;
}

static void take(void *self)
{
    struct figures *figures = self;
    figures->taken++;
}

static void test_outside_of_a_handler_nothing_is_given_and_depth_is_0(void **state)
{
    (void)state;
    assert_int_equal(quern_place_depth(), 0);
    assert_true(quern_place_give(7));
    quern_place_take();
    quern_place_end();
    assert_int_equal(quern_place_depth(), 0);
}

static void test_what_a_handler_submits_is_one_deeper(void **state)
{
    (void)state;
    struct figures figures = {0};
    struct place place = {.self = &figures, .give = give, .take = take};
    quern_place_begin(&place, 0);
    assert_int_equal(quern_place_depth(), 1);
    quern_place_end();
    quern_place_begin(&place, 63);
    assert_int_equal(quern_place_depth(), 64);
    quern_place_end();
    assert_int_equal(quern_place_depth(), 0);
}

/* A handler that says itself that it waits, and then calls something that says so too. */
static void test_waits_within_waits_give_the_place_once(void **state)
{
    (void)state;
    struct figures figures = {0};
    struct place place = {.self = &figures, .give = give, .take = take};
    quern_place_begin(&place, 0);
    assert_true(quern_place_give(11));
    assert_true(quern_place_give(12));
    assert_int_equal(figures.given, 1);
    assert_int_equal(figures.deadline_ms, 11);
    quern_place_take();
    assert_int_equal(figures.taken, 0);
    quern_place_take();
    assert_int_equal(figures.taken, 1);
    quern_place_take(); /* one too many */
    assert_int_equal(figures.taken, 1);
    quern_place_end();
    assert_int_equal(figures.taken, 1);
}

static void test_a_handler_that_returns_without_taking_has_its_place_again(void **state)
{
    (void)state;
    struct figures figures = {0};
    struct place place = {.self = &figures, .give = give, .take = take};
    quern_place_begin(&place, 0);
    assert_true(quern_place_give(1));
    assert_true(quern_place_give(1));
    quern_place_end();
    assert_int_equal(figures.taken, 1);
    assert_true(quern_place_give(1));
    assert_int_equal(figures.given, 1);
}

static void test_a_refused_place_is_kept(void **state)
{
    (void)state;
    struct figures figures = {.is_full = true};
    struct place place = {.self = &figures, .give = give, .take = take};
    quern_place_begin(&place, 0);
    assert_false(quern_place_give(1));
    quern_place_take();
    figures.is_full = false;
    assert_true(quern_place_give(1));
    quern_place_end();
    assert_int_equal(figures.taken, 1);
}

static void *other_thread(void *arg)
{
    (void)arg;
    bool is_given = quern_place_give(1);
    quern_place_take();
    return is_given && quern_place_depth() == 1 ? arg : NULL;
}

/* The handler computes while a thread it has started waits: the slot is not idle. But what the thread submits belongs
 * to the task. */
static void test_another_thread_gives_nothing(void **state)
{
    (void)state;
    struct figures figures = {0};
    struct place place = {.self = &figures, .give = give, .take = take};
    pthread_t thread;
    void *result = NULL;
    quern_place_begin(&place, 0);
    assert_int_equal(pthread_create(&thread, NULL, other_thread, &figures), 0);
    assert_int_equal(pthread_join(thread, &result), 0);
    quern_place_end();
    assert_ptr_equal(result, &figures);
    assert_int_equal(figures.given, 0);
    assert_int_equal(figures.taken, 0);
}

static void test_a_forked_child_gives_nothing(void **state)
{
    (void)state;
    struct figures figures = {0};
    struct place place = {.self = &figures, .give = give, .take = take};
    int status = 0;
    quern_place_begin(&place, 0);
    pid_t pid = fork();
    if (pid == 0) {
        bool is_given = quern_place_give(1);
        quern_place_take();
        _exit(is_given && figures.given == 0 && figures.taken == 0 ? 0 : 1);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    quern_place_end();
    assert_int_equal(status, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_outside_of_a_handler_nothing_is_given_and_depth_is_0),
        cmocka_unit_test(test_what_a_handler_submits_is_one_deeper),
        cmocka_unit_test(test_waits_within_waits_give_the_place_once),
        cmocka_unit_test(test_a_handler_that_returns_without_taking_has_its_place_again),
        cmocka_unit_test(test_a_refused_place_is_kept),
        cmocka_unit_test(test_another_thread_gives_nothing),
        cmocka_unit_test(test_a_forked_child_gives_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/*
 * The moment for which a waiting thread looks for a lone task's outcome before it sleeps: when it may, what ends it,
 * and that looking in vain is not tried again at once.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "client/inside.h"
#include "client_calls.h"

static pthread_cond_t settled = PTHREAD_COND_INITIALIZER;
static pthread_cond_t arrived = PTHREAD_COND_INITIALIZER;

static struct spin spin_of_two_cpus(void)
{
    struct spin spin;
    spin_init(&spin);
    spin.has_cpus = true;
    return spin;
}

static void look_in_vain(struct spin *spin, int64_t now_us)
{
    spin_begin(spin, &settled);
    spin_end(spin, now_us);
}

/* On one CPU the looking thread would hold up what it looks for. */
static void test_nobody_looks_on_one_cpu(void **state)
{
    (void)state;
    struct spin spin = spin_of_two_cpus();
    assert_true(spin_may(&spin, 1, 0));
    spin.has_cpus = false;
    assert_false(spin_may(&spin, 1, 0));
}

/* Many under way: outcomes come in batches, and broker and slots need every CPU. */
static void test_nobody_looks_while_many_tasks_are_under_way(void **state)
{
    (void)state;
    struct spin spin = spin_of_two_cpus();
    assert_true(spin_may(&spin, SPIN_TASK_COUNT_MAX, 0));
    assert_false(spin_may(&spin, SPIN_TASK_COUNT_MAX + 1, 0));
}

static void test_one_thread_of_a_client_looks_at_a_time(void **state)
{
    (void)state;
    struct spin spin = spin_of_two_cpus();
    spin_begin(&spin, &settled);
    assert_false(spin_may(&spin, 1, 0));
    spin_tell(&spin, &settled);
    spin_end(&spin, 0);
    assert_true(spin_may(&spin, 1, 0));
}

/* It is not counted among the sleepers: without this it would look on beside what it waits for. */
static void test_who_looks_is_told_by_what_wakes_the_sleepers(void **state)
{
    (void)state;
    struct spin spin = spin_of_two_cpus();
    spin_begin(&spin, &settled);
    spin_tell(&spin, &settled);
    assert_true(spin_look(&spin));
}

static void test_news_for_others_do_not_end_a_look(void **state)
{
    (void)state;
    struct spin spin = spin_of_two_cpus();
    spin_begin(&spin, &settled);
    spin_tell(&spin, &arrived);
    assert_false(spin_look(&spin));
}

/* A task that takes long costs its waiter a moment of CPU time, not all the time that it takes. */
static void test_a_look_ends_by_itself(void **state)
{
    (void)state;
    struct spin spin = spin_of_two_cpus();
    spin_begin(&spin, &settled);
    assert_false(spin_look(&spin));
}

/* Who waits for long tasks looks seldom: at most a quarter of a thousandth of the time in the end. */
static void test_after_looks_in_vain_the_rests_grow_to_their_limit(void **state)
{
    (void)state;
    struct spin spin = spin_of_two_cpus();
    int64_t now_us = 1000;
    int64_t before_us = 0;
    for (int i = 0; i < 100; i++) {
        look_in_vain(&spin, now_us);
        int64_t rest_us = spin.again_us - now_us;
        assert_true(rest_us >= before_us && rest_us >= SPIN_REST_MS_MIN * 1000 && rest_us <= SPIN_REST_MS_MAX * 1000);
        assert_false(spin_may(&spin, 1, spin.again_us - 1));
        assert_true(spin_may(&spin, 1, spin.again_us));
        before_us = rest_us;
        now_us = spin.again_us;
    }
    assert_int_equal(before_us, SPIN_REST_MS_MAX * 1000);
}

static void test_after_a_look_that_was_worth_it_the_rests_are_short_again(void **state)
{
    (void)state;
    struct spin spin = spin_of_two_cpus();
    for (int i = 0; i < 100; i++) {
        look_in_vain(&spin, 0);
    }
    spin_begin(&spin, &settled);
    spin_tell(&spin, &settled);
    spin_end(&spin, 0);
    look_in_vain(&spin, 0);
    assert_int_equal(spin.again_us, SPIN_REST_MS_MIN * 1000);
}

/* A thread that looks for one future's outcome, played: it is told when that has come, and not by another's. */
static void test_who_looks_for_a_future_is_told_of_it(void **state)
{
    struct quern_future *futures[2];
    struct quern_client *client = open_by_hand(*state, futures, 2);
    struct sleeper sleeper = {.next = NULL};
    condition_init(&sleeper.woken);
    pthread_mutex_lock(&client->lock);
    futures[0]->sleepers = &sleeper;
    spin_begin(&client->spin, &sleeper.woken);
    pthread_mutex_unlock(&client->lock);
    end_as(*state, 2, TASK_DONE);
    assert_int_equal(quern_wait(&futures[1], 1, QUERN_ALL_COMPLETED, WAIT_MS, NULL, NULL), QUERN_OK);
    assert_false(atomic_load(&client->spin.is_told));
    end_as(*state, 1, TASK_DONE);
    assert_int_equal(quern_wait(&futures[0], 1, QUERN_ALL_COMPLETED, WAIT_MS, NULL, NULL), QUERN_OK);
    pthread_mutex_lock(&client->lock); /* behind the frame that brought it */
    assert_true(atomic_load(&client->spin.is_told));
    assert_null(client->due);
    futures[0]->sleepers = NULL;
    spin_end(&client->spin, 0);
    pthread_mutex_unlock(&client->lock);
    pthread_cond_destroy(&sleeper.woken);
    close_all(client, futures, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nobody_looks_on_one_cpu),
        cmocka_unit_test(test_nobody_looks_while_many_tasks_are_under_way),
        cmocka_unit_test(test_one_thread_of_a_client_looks_at_a_time),
        cmocka_unit_test(test_who_looks_is_told_by_what_wakes_the_sleepers),
        cmocka_unit_test(test_news_for_others_do_not_end_a_look),
        cmocka_unit_test(test_a_look_ends_by_itself),
        cmocka_unit_test(test_after_looks_in_vain_the_rests_grow_to_their_limit),
        cmocka_unit_test(test_after_a_look_that_was_worth_it_the_rests_are_short_again),
        WITH_FAKE(test_who_looks_for_a_future_is_told_of_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

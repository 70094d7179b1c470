/*
 * test_memory: what an attempt has taken, and whether that is too much (worker/memory.c); real processes in its place.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/bytes.h"
#include "common/limits.h"
#include "worker/memory.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define SIZE ((size_t)48 << 20)

static struct memory_seen seen_of(uint64_t own, uint64_t rest)
{
    return (struct memory_seen){.own = own * MIB, .rest = rest * MIB};
}

/* ---- judging ---- */

/* What was there when the attempt began, a preloaded table above all, is not its own. */
static void test_only_what_was_taken_since_the_beginning_counts(void **state)
{
    (void)state;
    struct memory_watch watch = {.born = 1000 * MIB};
    struct memory_limit limit = {.task = 100 * MIB};
    struct memory_seen seen = seen_of(1250, 0);
    memory_begin(&watch, 7, 1200 * MIB, &seen);
    assert_int_equal(memory_judge(&watch, &limit, &seen, 0, 0), MEMORY_WITHIN);
    assert_true(watch.size == 50 * MIB);
    seen = seen_of(1270, 29);
    assert_int_equal(memory_judge(&watch, &limit, &seen, 0, 0), MEMORY_WITHIN);
    seen = seen_of(1270, 31);
    assert_int_equal(memory_judge(&watch, &limit, &seen, 0, 0), MEMORY_TASK_OVER);
    assert_true(watch.peak == 101 * MIB);
}

/* Tasks that leave something behind, each a little. */
static void test_a_slot_has_a_limit_of_its_own(void **state)
{
    (void)state;
    struct memory_watch watch = {.born = 100 * MIB};
    struct memory_limit limit = {.task = 50 * MIB, .slot = 200 * MIB};
    struct memory_seen seen = seen_of(295, 0);
    memory_begin(&watch, 7, 290 * MIB, &seen);
    assert_int_equal(memory_judge(&watch, &limit, &seen, 0, 0), MEMORY_WITHIN);
    seen = seen_of(295, 10);
    assert_int_equal(memory_judge(&watch, &limit, &seen, 0, 0), MEMORY_SLOT_OVER);
    limit.slot = 0;
    assert_int_equal(memory_judge(&watch, &limit, &seen, 0, 0), MEMORY_WITHIN);
    limit.task = 0;
    seen = seen_of(295, 100000);
    assert_int_equal(memory_judge(&watch, &limit, &seen, 0, 0), MEMORY_WITHIN);
}

/* The slot says what it had, in memory that a handler may have written over. */
static void test_a_beginning_that_is_not_believed(void **state)
{
    (void)state;
    struct memory_watch watch = {.born = 10 * MIB};
    struct memory_limit limit = {.task = 100 * MIB};
    struct memory_seen seen = seen_of(30, 0);
    memory_begin(&watch, 7, UINT64_MAX, &seen);
    seen = seen_of(131, 0);
    assert_int_equal(memory_judge(&watch, &limit, &seen, 0, 0), MEMORY_TASK_OVER);
    memory_begin(&watch, 8, 0, &seen); /* it did not say: since it was ready */
    seen = seen_of(111, 0);
    assert_int_equal(memory_judge(&watch, &limit, &seen, 0, 0), MEMORY_TASK_OVER);
    assert_true(watch.size == 101 * MIB);
}

/* Far from its limit it is looked at seldom; and looking never takes more than its share of the time. */
static void test_looking_is_worth_its_cost(void **state)
{
    (void)state;
    struct memory_watch watch = {0};
    struct memory_limit limit = {.task = 4096 * MIB};
    struct memory_seen seen = seen_of(0, 1);
    (void)memory_judge(&watch, &limit, &seen, 1000, 50);
    assert_int_equal(watch.again_ms, 1000 + MEMORY_LOOK_MAX_MS);
    seen = seen_of(0, 4095);
    (void)memory_judge(&watch, &limit, &seen, 1000, 50);
    assert_int_equal(watch.again_ms, 1000 + MEMORY_LOOK_MIN_MS);
    seen = seen_of(0, 4096 - 400);
    (void)memory_judge(&watch, &limit, &seen, 1000, 50);
    assert_int_equal(watch.again_ms, 1000 + 100);
    (void)memory_judge(&watch, &limit, &seen, 1000, 20000);
    assert_int_equal(watch.again_ms, 1000 + 20 * MEMORY_COST_DIVISOR);
}

static void test_from_where_on_it_must_be_known_exactly(void **state)
{
    (void)state;
    struct memory_watch watch = {.born = 10, .number = 7, .base = 15};
    assert_true(memory_look_size(&watch, 7, 99, &(struct memory_limit){.task = 100, .slot = 200}) == 115);
    assert_true(memory_look_size(&watch, 8, 99, &(struct memory_limit){.task = 200, .slot = 100}) == 110);
    assert_true(memory_look_size(&watch, 8, 99, &(struct memory_limit){.task = 100}) == 199);
    assert_true(memory_look_size(&watch, 8, UINT64_MAX, &(struct memory_limit){.task = 100}) == UINT64_MAX);
}

/* ---- looking ---- */

static void *taken(void)
{
    void *p = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(p, MAP_FAILED);
    memset(p, 1, SIZE);
    return p;
}

/* A child that does so, says that it has, and lives until its stdin ends. */
static pid_t begin_child(void (*act)(void *), void *with, int life[2])
{
    int done[2];
    char byte;
    assert_int_equal(pipe(done), 0);
    pid_t pid = fork();
    if (pid == 0) {
        close(life[1]);
        act(with);
        (void)!write(done[1], "", 1);
        (void)!read(life[0], &byte, 1);
        _exit(0);
    }
    close(done[1]);
    assert_int_equal(read(done[0], &byte, 1), 1);
    close(done[0]);
    return pid;
}

static void act_take(void *with)
{
    (void)with;
    (void)taken();
}

static void act_nothing(void *with)
{
    (void)with;
}

static void act_write(void *with)
{
    memset(with, 2, SIZE);
}

/* What a forked process has in common with us is not counted as its own; what it writes to is. */
static void test_memory_in_common_is_counted_once(void **state)
{
    (void)state;
    void *table = taken();
    uint64_t before = memory_see(getpid(), 0).own;
    static const struct {
        void (*act)(void *);
        size_t least;
        size_t most;
    } acts[] = {{act_nothing, 0, SIZE / 2}, {act_take, SIZE, SIZE * 3 / 2}, {act_write, SIZE, SIZE * 3 / 2}};
    for (size_t i = 0; i < 3; i++) {
        int life[2];
        assert_int_equal(pipe(life), 0);
        pid_t pid = begin_child(acts[i].act, table, life);
        struct memory_seen seen = memory_see(getpid(), 0);
        assert_in_range(seen.rest, acts[i].least, acts[i].most);
        assert_in_range(seen.own, before - SIZE / 2, before + SIZE / 2);
        assert_true(memory_see(getpid(), UINT64_MAX).rest >= seen.rest); /* the upper bound */
        close(life[1]);
        waitpid(pid, NULL, 0);
        close(life[0]);
    }
    munmap(table, SIZE);
}

static void act_parent(void *with)
{
    int *life = with;
    (void)begin_child(act_take, NULL, life);
}

static void test_grandchildren_count(void **state)
{
    (void)state;
    int life[2];
    pid_t pids[4];
    assert_int_equal(pipe(life), 0);
    pid_t pid = begin_child(act_parent, life, life);
    assert_int_equal(memory_descendants(getpid(), pids, 4), 2);
    assert_int_equal(pids[0], pid);
    assert_int_equal(memory_descendants(getpid(), pids, 1), 1);
    assert_in_range(memory_see(getpid(), 0).rest, SIZE, 2 * SIZE);
    close(life[1]);
    waitpid(pid, NULL, 0);
    close(life[0]);
}

static void test_who_is_gone_has_nothing(void **state)
{
    (void)state;
    pid_t pid = fork();
    if (pid == 0) {
        _exit(0);
    }
    waitpid(pid, NULL, 0);
    struct memory_seen seen = memory_see(pid, 0);
    assert_true(seen.own == 0 && seen.rest == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_only_what_was_taken_since_the_beginning_counts),
        cmocka_unit_test(test_a_slot_has_a_limit_of_its_own),
        cmocka_unit_test(test_a_beginning_that_is_not_believed),
        cmocka_unit_test(test_looking_is_worth_its_cost),
        cmocka_unit_test(test_from_where_on_it_must_be_known_exactly),
        cmocka_unit_test(test_memory_in_common_is_counted_once),
        cmocka_unit_test(test_grandchildren_count),
        cmocka_unit_test(test_who_is_gone_has_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

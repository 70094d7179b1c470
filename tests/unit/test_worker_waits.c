/*
 * A real quern-worker whose handlers wait (tests/integration/modules/nest.c), against a broker of a few lines
 * (worker_world.c): who runs meanwhile, and what the broker is told of it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/check.h"
#include "unit/worker_world.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

/* On a busy machine a short task may take long: tried so often until one was short. */
#define SHORT_TRIES_MAX 100u

static struct world *begin(const char *slots)
{
    struct world *world = ww_begin();
    ww_worker_of(world, slots, "tests/nest.so");
    return world;
}

static const char *path_of(const struct world *world, const char *name, char path[128])
{
    snprintf(path, 128, "%s/%s", world->directory, name);
    return path;
}

/* A task that waits, its place given, until `count` have come to the meeting; then it is done. */
static void dispatch_waiting(struct world *world, uint64_t task, uint64_t depth, uint64_t count)
{
    char path[128];
    struct quern_writer *args = quern_writer_new();
    quern_write_array(args, 3);
    quern_write_u64(args, 0);
    quern_write_text(args, path_of(world, "met", path));
    quern_write_u64(args, count);
    ww_dispatch(world, task, &(struct ww_call){.function = "descend", .depth = depth}, args);
}

static void dispatch_leaf(struct world *world, uint64_t task, uint64_t depth)
{
    struct quern_writer *args = quern_writer_new();
    quern_write_array(args, 1);
    quern_write_u64(args, 7);
    ww_dispatch(world, task, &(struct ww_call){.function = "leaf", .depth = depth}, args);
}

/* So many more come to the meeting. */
static void meet(const struct world *world, unsigned count)
{
    char path[128];
    int fd = open(path_of(world, "met", path), O_CREAT | O_WRONLY | O_APPEND | O_CLOEXEC, 0600);
    CHECK(fd >= 0);
    while (count-- > 0) {
        CHECK(write(fd, ".", 1) == 1);
    }
    close(fd);
}

/* No slot begins while the gate is shut. */
static void shut_gate(const struct world *world)
{
    char path[128];
    int fd = open(path_of(world, "gate", path), O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    CHECK(fd >= 0);
    close(fd);
}

static void open_gate(const struct world *world)
{
    char path[128];
    CHECK(unlink(path_of(world, "gate", path)) == 0);
}

static bool were_born(struct world *world, uint64_t count)
{
    char path[128];
    struct stat stat_of;
    return stat(path_of(world, "born", path), &stat_of) == 0 && (uint64_t)stat_of.st_size >= count;
}

static bool says_nested(struct world *world, uint64_t count)
{
    return world->nested == count;
}

static void test_while_one_waits_another_runs_in_its_place(void **state)
{
    (void)state;
    struct world *world = begin("1");
    dispatch_waiting(world, 1, 0, 2);
    ww_await(world, says_nested, 1, "that one waits");
    assert_int_equal(world->nested_depth, 1);
    dispatch_leaf(world, 2, 1);
    ww_await(world, ww_is_finished, 2, "a child");
    dispatch_leaf(world, 3, 0);
    ww_await(world, ww_is_finished, 3, "a root");
    assert_false(ww_is_finished(world, 1));
    meet(world, 1);
    ww_await(world, ww_is_finished, 1, "what waited");
    assert_int_equal(world->tasks[1].last.state, FINISHED_DONE);
    ww_await(world, says_nested, 0, "that none waits");
    assert_int_equal(ww_end(&world), 0);
}

/* Beyond the second root none starts, and those that cannot go back for others; what is deeper starts at once. */
static void test_roots_that_cannot_start_go_back_and_children_go_on(void **state)
{
    (void)state;
    struct world *world = begin("1");
    dispatch_waiting(world, 1, 0, 9);
    ww_await(world, says_nested, 1, "that one waits");
    dispatch_waiting(world, 2, 0, 9);
    ww_await(world, says_nested, 2, "that two wait");
    dispatch_leaf(world, 3, 0);
    dispatch_leaf(world, 4, 0);
    ww_await(world, ww_is_returned, 3, "a root");
    ww_await(world, ww_is_returned, 4, "another");
    dispatch_waiting(world, 5, 1, 9);
    ww_await(world, says_nested, 3, "that a child waits");
    assert_int_equal(world->nested_depth, 2);
    dispatch_leaf(world, 6, 2);
    ww_await(world, ww_is_finished, 6, "its child");
    meet(world, 9);
    for (uint64_t task = 1; task <= 5; task += task == 2 ? 3 : 1) {
        ww_await(world, ww_is_finished, task, "what waited");
    }
    assert_int_equal(ww_end(&world), 0);
}

/* It has no slot yet when the start of what waits for it is told, which is when the worker counts anew what it may
 * hold. */
static void test_a_child_without_a_slot_yet_is_not_given_back(void **state)
{
    (void)state;
    struct world *world = begin("1");
    for (uint64_t task = 1; task <= 2; task++) {
        dispatch_waiting(world, task, 0, 9);
        ww_await(world, says_nested, task, "that a root waits");
    }
    ww_await(world, were_born, 3, "a slot for a child");
    shut_gate(world);
    dispatch_waiting(world, 3, 1, 9);
    ww_await(world, says_nested, 3, "that a child waits");
    dispatch_leaf(world, 4, 2);
    ww_await(world, ww_is_started, 3, "its STARTED");
    ww_serve_for(world, 100);
    assert_false(ww_is_returned(world, 4));
    open_gate(world);
    ww_await(world, ww_is_finished, 4, "what it waits for");
    meet(world, 9);
    for (uint64_t task = 1; task <= 3; task++) {
        ww_await(world, ww_is_finished, task, "what waited");
    }
    assert_int_equal(ww_end(&world), 0);
}

static bool wants_more_than(struct world *world, uint64_t count)
{
    return world->capacity > count;
}

/* A task that waits for long and computes for microseconds is a short one: others are prefetched behind such. */
static void test_waiting_is_no_run_time(void **state)
{
    (void)state;
    struct world *world = begin("1");
    for (uint64_t task = 1; task <= SHORT_TRIES_MAX && !wants_more_than(world, 1); task++) {
        dispatch_waiting(world, task, 0, 2 * task);
        ww_await(world, ww_is_started, task, "STARTED"); /* it has taken longer than a short task may */
        ww_serve_for(world, 300);
        meet(world, 1);
        ww_await(world, ww_is_finished, task, "what waited");
        assert_true(world->tasks[task].last.run_us >= 300000); /* this is said as it was */
        ww_serve_for(world, 100);
    }
    assert_true(wants_more_than(world, 1));
    assert_int_equal(ww_end(&world), 0);
}

static void test_a_new_connection_hears_that_handlers_wait(void **state)
{
    (void)state;
    struct world *world = begin("1");
    dispatch_waiting(world, 1, 0, 2);
    ww_await(world, says_nested, 1, "that one waits");
    ww_broker_dies(world);
    world->nested = 0;
    ww_broker_returns(world);
    ww_await(world, says_nested, 1, "that one waits");
    dispatch_leaf(world, 2, 1);
    ww_await(world, ww_is_finished, 2, "a child");
    meet(world, 1);
    ww_await(world, ww_is_finished, 1, "what waited");
    assert_int_equal(ww_end(&world), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_while_one_waits_another_runs_in_its_place),
        cmocka_unit_test(test_roots_that_cannot_start_go_back_and_children_go_on),
        cmocka_unit_test(test_a_child_without_a_slot_yet_is_not_given_back),
        cmocka_unit_test(test_waiting_is_no_run_time),
        cmocka_unit_test(test_a_new_connection_hears_that_handlers_wait),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

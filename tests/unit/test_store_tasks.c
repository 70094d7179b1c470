/*
 * Tasks read from the store: at a start, heads of rows where these are enough; later, runs of ids in slices.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "broker/loaded.h"
#include "common/check.h"
#include "support/store_world.h"

#include <stdlib.h>

#define COUNT 200u

struct seen {
    uint64_t ids[COUNT + 1];
    bool was_enough[COUNT + 1];
    size_t count;
    uint64_t bytes; /* of arguments */
};

static bool is_plain(uint64_t id)
{
    return id % 7 != 0 && id % 11 != 0;
}

static bool wants_head(uint64_t id)
{
    return id > 20 && id % 31 > 4;
}

static bool see_plain(void *context, uint64_t id, uint64_t session, uint64_t call, uint64_t args_size)
{
    struct seen *seen = context;
    assert_true(is_plain(id));
    assert_int_equal(session, 1);
    assert_int_equal(call, 1);
    assert_int_equal(args_size, id % 50);
    if (wants_head(id)) {
        assert_true(seen->count < COUNT);
        seen->was_enough[seen->count] = true;
        seen->ids[seen->count++] = id;
    }
    return wants_head(id);
}

static void see_task(void *context, const struct task_row *row)
{
    struct seen *seen = context;
    assert_true(seen->count < COUNT);
    assert_int_equal(row->args.n, row->id % 50);
    assert_int_equal(row->created, 1000 + (int64_t)row->id);
    seen->ids[seen->count++] = row->id;
}

/* Tasks 1 to COUNT; of seven one has been dispatched, of eleven one waits for a time. */
static struct store *store_of_tasks(const char *directory)
{
    static const uint8_t args[50];
    struct store_facts facts;
    struct store *store = world_open(directory, &facts);
    struct change changes[COUNT + 2] = {
        {.kind = CHANGE_CALL, .call = {.id = 1, .queue = bytes_text("q"), .function = bytes_text("f")}},
        {.kind = CHANGE_SESSION, .session = {.id = 1}}};
    for (uint64_t id = 1; id <= COUNT; id++) {
        changes[id + 1] = (struct change){.kind = CHANGE_TASK,
                                          .task = {.id = id,
                                                   .session = 1,
                                                   .call = 1,
                                                   .state = TASK_READY,
                                                   .attempt = id % 7 == 0,
                                                   .due = id % 11 == 0 ? 5 : 0,
                                                   .created = 1000 + (int64_t)id,
                                                   .args = bytes_of(args, id % 50)}};
    }
    assert_int_equal(store_apply(store, facts.epoch, changes, COUNT + 2), STORE_OK);
    return store;
}

/* None twice and none left out, wherever the two ways of reading change over. */
static void test_each_task_is_seen_once_and_in_order_by_its_head_where_that_is_enough(void **state)
{
    (void)state;
    char *directory = world_directory();
    struct store *store = store_of_tasks(directory);
    struct seen seen = {0};
    struct store_visitor visitor = {.context = &seen, .plain_task = see_plain, .task = see_task};
    char *why = NULL;
    assert_int_equal(store_load(store, &visitor, &why), QUERN_OK);
    assert_int_equal(seen.count, COUNT);
    for (uint64_t id = 1; id <= COUNT; id++) {
        assert_int_equal(seen.ids[id - 1], id);
        assert_int_equal(seen.was_enough[id - 1], is_plain(id) && wants_head(id));
    }
    store_close(&store, true);
    world_remove(&directory);
}

static struct loaded *load_all(struct store *store, const struct load *wanted, size_t *slices_out)
{
    struct load *load = xmalloc(sizeof *load);
    *load = *wanted;
    struct job *job = job_open(&load);
    bool is_done = false;
    for (*slices_out = 0; !is_done; ++*slices_out) {
        assert_int_equal(job_slice(job, store, &is_done), QUERN_OK);
    }
    return job_close(&job);
}

static void test_runs_of_tasks_are_read_whole(void **state)
{
    (void)state;
    char *directory = world_directory();
    struct store *store = store_of_tasks(directory);
    struct load load = {
        .kind = LOAD_TASKS, .number = 3, .count = 3, .limit = 122, .runs = {{2, 20}, {50, 1}, {99, 101}}};
    size_t slices;
    struct loaded *loaded = load_all(store, &load, &slices);
    assert_int_equal(loaded->task_count, 122);
    assert_int_equal(loaded->tasks[0].id, 2);
    assert_int_equal(loaded->tasks[19].id, 21);
    assert_int_equal(loaded->tasks[20].id, 50);
    assert_int_equal(loaded->tasks[121].id, 199);
    assert_int_equal(loaded->tasks[121].args.n, 199 % 50);
    assert_int_equal(loaded->through, 199);
    loaded_free(&loaded);
    store_close(&store, true);
    world_remove(&directory);
}

/* What is missing is no error, and was looked for. */
static void test_tasks_that_are_gone_are_left_out(void **state)
{
    (void)state;
    char *directory = world_directory();
    struct store *store = store_of_tasks(directory);
    struct load load = {.kind = LOAD_TASKS, .number = 3, .count = 2, .limit = 20, .runs = {{COUNT - 4, 10}, {900, 10}}};
    size_t slices;
    struct loaded *loaded = load_all(store, &load, &slices);
    assert_int_equal(loaded->task_count, 5);
    assert_int_equal(loaded->through, 909);
    loaded_free(&loaded);
    store_close(&store, true);
    world_remove(&directory);
}

/* An answer holds some megabytes: the rest is asked for again. */
static void test_an_answer_ends_when_it_is_long_and_says_how_far_it_came(void **state)
{
    (void)state;
    char *directory = world_directory();
    struct store *store = store_of_tasks(directory);
    struct change changes[6];
    uint8_t *args = xcalloc(MIB, 1);
    for (uint64_t i = 0; i < 6; i++) {
        changes[i] = (struct change){
            .kind = CHANGE_TASK,
            .task = {.id = 1000 + i, .session = 1, .call = 1, .state = TASK_READY, .args = bytes_of(args, MIB)}};
    }
    assert_int_equal(store_apply(store, 1, changes, 6), STORE_OK);
    struct load load = {.kind = LOAD_TASKS, .number = 3, .count = 1, .limit = 6, .runs = {{1000, 6}}};
    size_t slices;
    struct loaded *loaded = load_all(store, &load, &slices);
    assert_int_equal(loaded->task_count, LOAD_TASK_BYTES_SOFT / MIB);
    assert_int_equal(loaded->through, 1000 + LOAD_TASK_BYTES_SOFT / MIB - 1);
    loaded_free(&loaded);
    free(args);
    store_close(&store, true);
    world_remove(&directory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_task_is_seen_once_and_in_order_by_its_head_where_that_is_enough),
        cmocka_unit_test(test_runs_of_tasks_are_read_whole),
        cmocka_unit_test(test_tasks_that_are_gone_are_left_out),
        cmocka_unit_test(test_an_answer_ends_when_it_is_long_and_says_how_far_it_came),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

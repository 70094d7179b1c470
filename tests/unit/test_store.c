/*
 * The store: what goes in comes out, once, after any end. Refusals: test_store_open.c. Failing disks:
 * test_store_faults.c.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "support/store_world.h"

#include "broker/store_sqlite.h"
#include "common/check.h"
#include "common/message.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define BATCH_COUNT 12u

/* Whatever the broker wrote is what it finds at its next start, in every column. */
static void test_everything_comes_back_after_reopening(void **state)
{
    (void)state;
    char *directory = world_directory();
    struct store_facts facts;
    struct store *store = world_open(directory, &facts);
    assert_true(facts.is_new);
    assert_int_equal(facts.epoch, 1);
    for (uint32_t i = 1; i <= BATCH_COUNT; i++) {
        assert_int_equal(world_apply(store, facts.epoch, i), STORE_OK);
    }
    char *before = world_dump(store);
    store_close(&store, true);

    struct store_facts again;
    store = world_open(directory, &again);
    assert_false(again.is_new);
    assert_true(again.was_clean);
    assert_int_equal(again.epoch, 2);
    assert_true(uuid_equal(&again.uuid, &facts.uuid));
    assert_int_equal(again.meta.series_next, 4 + BATCH_COUNT);
    assert_int_equal(again.meta.session_next, 3 + BATCH_COUNT);
    assert_int_equal(again.meta.worker_next, 2 + BATCH_COUNT);
    assert_int_equal(again.meta.call_next, 2 + BATCH_COUNT / 5);
    char *after = world_dump(store);
    assert_string_equal(after, before);
    store_close(&store, true);
    free(before);
    free(after);
    world_remove(&directory);
}

static void expect_view(struct bytes got, struct bytes wanted)
{
    assert_true((got.p == NULL) == (wanted.p == NULL));
    assert_true(bytes_equal(got, wanted));
}

#define SAME(field) assert_true(got->field == put->field)

static void expect_task(const struct task_row *got, const struct task_row *put)
{
    SAME(id);
    SAME(session);
    SAME(call);
    SAME(state);
    SAME(priority);
    SAME(attempt);
    SAME(epoch);
    SAME(worker);
    SAME(attempts);
    SAME(crashes);
    SAME(losses);
    SAME(due);
    SAME(created);
    SAME(ordinal);
    SAME(retry_of);
    expect_view(got->args, put->args);
}

static void expect_outcome(const struct outcome_row *got, const struct outcome_row *put)
{
    SAME(id);
    SAME(session);
    SAME(completion);
    SAME(call);
    SAME(state);
    SAME(cause);
    SAME(attempt);
    SAME(attempts);
    SAME(signal);
    SAME(exit_status);
    SAME(created);
    SAME(started);
    SAME(finished);
    SAME(run_us);
    SAME(cpu_us);
    SAME(peak);
    SAME(ordinal);
    SAME(retry_of);
    SAME(args_size);
    SAME(args_hash);
    expect_view(got->worker, put->worker);
    expect_view(got->kind, put->kind);
    expect_view(got->message, put->message);
    expect_view(got->detail, put->detail);
    expect_view(got->report, put->report);
    expect_view(got->result, put->result);
    expect_view(got->args, put->args);
}

/* The dump compares one reading with another: here every column is compared with what was written. */
static void test_a_task_keeps_every_column(void **state)
{
    (void)state;
    char *directory = world_directory();
    struct store_facts facts;
    struct store *store = world_open(directory, &facts);
    struct task_row task = {.id = id_make(SERIES_MAX, SEQUENCE_MAX),
                            .session = 11,
                            .call = 12,
                            .state = TASK_BACKOFF,
                            .priority = PRIORITY_MIN,
                            .attempt = UINT32_MAX,
                            .epoch = UINT32_MAX - 1,
                            .worker = 13,
                            .attempts = 14,
                            .crashes = 15,
                            .losses = 16,
                            .due = -17,
                            .created = 18,
                            .ordinal = 19,
                            .retry_of = 20,
                            .args = bytes_text("")};
    struct change change = {.kind = CHANGE_TASK, .task = task};
    assert_int_equal(store_apply(store, facts.epoch, &change, 1), STORE_OK);
    struct task_row got;
    assert_int_equal(store_task(store, task.id, &got), QUERN_OK);
    expect_task(&got, &task);
    assert_int_equal(store_task(store, 1, &got), QUERN_UNKNOWN);

    change.kind = CHANGE_TASK_STATE;
    change.task = (struct task_row){.id = task.id,
                                    .state = TASK_READY,
                                    .attempt = 1,
                                    .epoch = 2,
                                    .worker = 3,
                                    .attempts = 4,
                                    .crashes = 5,
                                    .losses = 6,
                                    .due = 7};
    assert_int_equal(store_apply(store, facts.epoch, &change, 1), STORE_OK);
    assert_int_equal(store_task(store, task.id, &got), QUERN_OK);
    task.state = TASK_READY;
    task.attempt = 1;
    task.epoch = 2;
    task.worker = 3;
    task.attempts = 4;
    task.crashes = 5;
    task.losses = 6;
    task.due = 7;
    expect_task(&got, &task);
    store_close(&store, true);
    world_remove(&directory);
}

static void test_an_outcome_keeps_every_column(void **state)
{
    (void)state;
    char *directory = world_directory();
    struct store_facts facts;
    struct store *store = world_open(directory, &facts);
    static const uint8_t odd[] = {0, 255, 0, 128, '\n'};
    struct change change = {.kind = CHANGE_OUTCOME};
    change.outcome = (struct outcome_row){.id = id_make(1, 2),
                                          .session = 3,
                                          .completion = 4,
                                          .call = 5,
                                          .state = TASK_FAILED,
                                          .cause = CAUSE_QUARANTINED,
                                          .attempt = 6,
                                          .attempts = 7,
                                          .worker = bytes_text("a:1"),
                                          .signal = 8,
                                          .exit_status = 9,
                                          .created = 10,
                                          .started = 11,
                                          .finished = 12,
                                          .run_us = 13,
                                          .ordinal = 14,
                                          .retry_of = 15,
                                          .kind = bytes_text("Kind"),
                                          .message = bytes_of(odd, sizeof odd), /* not UTF-8, with a NUL */
                                          .detail = bytes_of(odd, 3),
                                          .result = bytes_of(odd, 0),
                                          .args = bytes_of(odd, 4),
                                          .args_size = 16,
                                          .args_hash = UINT64_MAX};
    assert_int_equal(store_apply(store, facts.epoch, &change, 1), STORE_OK);
    struct outcome_row got;
    assert_int_equal(store_outcome(store, change.outcome.id, &got), QUERN_OK);
    expect_outcome(&got, &change.outcome);
    store_close(&store, true);
    world_remove(&directory);
}

/* A change of a task, i of a batch: of many kinds of rows, in stretches that go into one statement and such that do
 * not. */
static struct change mixed_change(size_t i)
{
    static const uint8_t odd[] = {0, 255, 0, 128, '\n'};
    struct change change = {.kind = i < 100 ? CHANGE_TASK : CHANGE_OUTCOME,
                            .number = id_make(1, (uint32_t)(i % 100) + 1)};
    if (change.kind == CHANGE_TASK) {
        change.task = (struct task_row){.id = change.number,
                                        .session = 1,
                                        .call = 1,
                                        .state = TASK_READY,
                                        .attempt = (uint32_t)i,
                                        .created = (int64_t)i + 7,
                                        .args = bytes_of(odd, i % 6)};
        return change;
    }
    change.had_task = i % 3 == 0 || i > 150; /* one by one, and many in a row */
    change.outcome = (struct outcome_row){.id = change.number,
                                          .session = 1,
                                          .completion = i,
                                          .call = 2,
                                          .state = TASK_DONE,
                                          .attempt = 3,
                                          .attempts = 4,
                                          .worker = i % 5 == 0 ? (struct bytes){NULL, 0} : bytes_text("a:1"),
                                          .created = (int64_t)i,
                                          .started = 6,
                                          .finished = (int64_t)i * 2,
                                          .run_us = i,
                                          .cpu_us = i / 2,
                                          .peak = i % 9,
                                          .ordinal = i % 7,
                                          .result = bytes_of(odd, i % 6),
                                          .args = bytes_of(odd, i % 4),
                                          .args_size = 4,
                                          .args_hash = UINT64_MAX - i};
    switch (i) { /* a row that says more, in the middle of plain ones */
    case 120:
        change.outcome.state = TASK_FAILED;
        change.outcome.cause = CAUSE_ERROR;
        break;
    case 137:
        change.outcome.message = bytes_text("");
        break;
    case 154:
        change.outcome.retry_of = 9;
        break;
    case 171:
        change.outcome.report = bytes_of(odd, 2);
        break;
    default:
        break;
    }
    return change;
}

/* Rows of a kind that follow one another share a statement: each must be what it is alone; and where some go together,
 * no other goes. */
static void test_rows_written_together_are_those_written_alone(void **state)
{
    enum { COUNT = 200 };
    struct change changes[COUNT];
    struct store_facts facts;
    (void)state;
    for (size_t i = 0; i < COUNT; i++) {
        changes[i] = mixed_change(i);
    }
    char *directory = world_directory();
    struct store *store = world_open(directory, &facts);
    assert_int_equal(store_apply(store, facts.epoch, changes, COUNT), STORE_OK);
    assert_int_equal(store_apply(store, facts.epoch, changes + 100, COUNT - 100),
                     STORE_OK); /* again: nothing changes */
    for (size_t i = 0; i < COUNT; i++) {
        struct task_row task;
        struct outcome_row outcome;
        if (i >= 100) {
            assert_int_equal(store_outcome(store, changes[i].number, &outcome), QUERN_OK);
            expect_outcome(&outcome, &changes[i].outcome);
        } else if (changes[i + 100].had_task) {
            assert_int_equal(store_task(store, changes[i].number, &task), QUERN_UNKNOWN);
        } else {
            assert_int_equal(store_task(store, changes[i].number, &task), QUERN_OK);
            expect_task(&task, &changes[i].task);
        }
    }
    static const uint32_t gone[] = {5, 6, 7, 8, 10, 30, 31, 99, 98, 100};
    size_t left = 100;
    for (size_t i = 0; i < sizeof gone / sizeof gone[0]; i++) {
        changes[i] = (struct change){.kind = CHANGE_OUTCOME_DELETE, .number = id_make(1, gone[i])};
    }
    assert_int_equal(store_apply(store, facts.epoch, changes, sizeof gone / sizeof gone[0]), STORE_OK);
    for (uint32_t sequence = 1; sequence <= 100; sequence++) {
        struct outcome_row outcome;
        bool is_gone = false;
        for (size_t i = 0; i < sizeof gone / sizeof gone[0]; i++) {
            is_gone = is_gone || gone[i] == sequence;
        }
        left -= is_gone;
        assert_int_equal(store_outcome(store, id_make(1, sequence), &outcome), is_gone ? QUERN_UNKNOWN : QUERN_OK);
    }
    assert_int_equal(left, 90);
    store_close(&store, true);
    world_remove(&directory);
}

/* A commit whose answer was lost is tried again: the second time must change nothing. */
static void test_a_batch_applied_twice_is_as_once(void **state)
{
    (void)state;
    char **expected = world_expected(BATCH_COUNT);
    char *directory = world_directory();
    struct store_facts facts;
    struct store *store = world_open(directory, &facts);
    for (uint32_t i = 1; i <= BATCH_COUNT; i++) {
        assert_int_equal(world_apply(store, facts.epoch, i), STORE_OK);
        assert_int_equal(world_apply(store, facts.epoch, i), STORE_OK);
        char *dump = world_dump(store);
        assert_string_equal(dump, expected[i]);
        free(dump);
    }
    store_close(&store, true);
    world_remove(&directory);
    world_expected_free(&expected, BATCH_COUNT);
}

/* The first outcome stands: a task gets exactly one. */
static void test_a_second_outcome_changes_nothing(void **state)
{
    (void)state;
    char *directory = world_directory();
    struct store_facts facts;
    struct store *store = world_open(directory, &facts);
    struct change change = {.kind = CHANGE_OUTCOME, .outcome = {.id = 77, .state = TASK_DONE, .completion = 1}};
    assert_int_equal(store_apply(store, facts.epoch, &change, 1), STORE_OK);
    change.outcome.state = TASK_FAILED;
    change.outcome.completion = 2;
    assert_int_equal(store_apply(store, facts.epoch, &change, 1), STORE_OK);
    struct outcome_row got;
    assert_int_equal(store_outcome(store, 77, &got), QUERN_OK);
    assert_int_equal(got.state, TASK_DONE);
    assert_int_equal(got.completion, 1);
    store_close(&store, true);
    world_remove(&directory);
}

/* A task that was submitted and finished within one batch is written once; the same in two batches leaves the same. */
static void test_collapsed_and_uncollapsed_batches_leave_the_same(void **state)
{
    (void)state;
    char *dumps[2];
    for (int collapsed = 0; collapsed < 2; collapsed++) {
        char *directory = world_directory();
        struct store_facts facts;
        struct store *store = world_open(directory, &facts);
        struct change task = {.kind = CHANGE_TASK, .task = {.id = 5, .session = 1, .call = 1, .state = TASK_READY}};
        struct change outcome = {.kind = CHANGE_OUTCOME,
                                 .had_task = !collapsed,
                                 .outcome = {.id = 5, .session = 1, .call = 1, .state = TASK_DONE}};
        if (!collapsed) {
            assert_int_equal(store_apply(store, facts.epoch, &task, 1), STORE_OK);
        }
        assert_int_equal(store_apply(store, facts.epoch, &outcome, 1), STORE_OK);
        struct task_row row;
        assert_int_equal(store_task(store, 5, &row), QUERN_UNKNOWN);
        dumps[collapsed] = world_dump(store);
        store_close(&store, true);
        world_remove(&directory);
    }
    assert_string_equal(dumps[0], dumps[1]);
    free(dumps[0]);
    free(dumps[1]);
}

/* A broker that was replaced must not write into its successor's life. */
static void test_another_epoch_is_fenced(void **state)
{
    (void)state;
    char *directory = world_directory();
    struct store_facts facts;
    struct store *store = world_open(directory, &facts);
    char *before = world_dump(store);
    assert_int_equal(world_apply(store, facts.epoch - 1, 1), STORE_FENCED);
    assert_int_equal(world_apply(store, facts.epoch + 1, 1), STORE_FENCED);
    char *after = world_dump(store);
    assert_string_equal(after, before);
    free(before);
    free(after);
    store_close(&store, true);
    world_remove(&directory);
}

static void test_an_unclean_end_is_seen_and_the_epoch_rises(void **state)
{
    (void)state;
    char *directory = world_directory();
    struct store_facts facts;
    struct store *store = world_open(directory, &facts);
    assert_int_equal(world_apply(store, facts.epoch, 1), STORE_OK);
    store_close(&store, false);
    store = world_open(directory, &facts);
    assert_false(facts.was_clean);
    assert_int_equal(facts.epoch, 2);
    struct task_row row;
    assert_int_equal(store_task(store, id_make(3, 4), &row), QUERN_OK);
    store_close(&store, true);
    store = world_open(directory, &facts);
    assert_true(facts.was_clean);
    assert_int_equal(facts.epoch, 3);
    store_close(&store, true);
    store_close(&store, true); /* NULL is fine */
    world_remove(&directory);
}

/* Group commit: a batch costs one sync, whatever is in it. */
static void test_a_batch_costs_one_sync(void **state)
{
    (void)state;
    char *directory = world_directory();
    struct store_facts facts;
    struct store *store = world_open(directory, &facts);
    struct store_stats before;
    struct store_stats after;
    assert_int_equal(store_stats(store, &before), QUERN_OK);
    for (uint32_t i = 1; i <= 5; i++) {
        assert_int_equal(world_apply(store, facts.epoch, i), STORE_OK);
    }
    assert_int_equal(store_stats(store, &after), QUERN_OK);
    assert_int_equal(after.syncs - before.syncs, 5);
    assert_int_equal(after.batches - before.batches, 5);
    assert_true(after.rows - before.rows > 5 * 8);
    store_close(&store, true);
    world_remove(&directory);
}

/* The log is copied into the database as it grows, and written again from its start. */
static void test_the_log_stays_small(void **state)
{
    (void)state;
    char *directory = world_directory();
    struct store_facts facts;
    struct store *store = world_open(directory, &facts);
    store->checkpoint_pages = 50;
    for (uint32_t i = 1; i <= 100; i++) {
        assert_int_equal(world_apply(store, facts.epoch, i), STORE_OK);
        assert_int_equal(store_rest(store), QUERN_OK);
    }
    struct store_stats stats;
    store->has_looked = false;
    assert_int_equal(store_stats(store, &stats), QUERN_OK);
    assert_true(stats.wal_bytes < 150 * (STORE_PAGE_SIZE + 24));
    assert_true(stats.file_bytes > 50 * STORE_PAGE_SIZE);
    store_close(&store, true);
    world_remove(&directory);
}

/* ---- failures ---- */

static void count_failure(void *context, const struct failure_row *row)
{
    uint32_t *next = context;
    assert_int_equal(row->attempt, (*next)++);
}

static void test_failures_come_oldest_first_and_at_most_so_many(void **state)
{
    (void)state;
    char *directory = world_directory();
    struct store_facts facts;
    struct store *store = world_open(directory, &facts);
    struct change changes[6] = {{.kind = CHANGE_OUTCOME, .outcome = {.id = 8, .state = TASK_FAILED}}};
    for (uint32_t i = 1; i < 6; i++) {
        changes[i] = (struct change){.kind = CHANGE_FAILURE, .failure = {.task = 8, .attempt = 6 - i, .cause = 1}};
    }
    assert_int_equal(store_apply(store, facts.epoch, changes, 6), STORE_OK);
    uint32_t next = 1;
    assert_int_equal(store_failures(store, 8, 100, &next, count_failure), QUERN_OK);
    assert_int_equal(next, 6);
    next = 1;
    assert_int_equal(store_failures(store, 8, 2, &next, count_failure), QUERN_OK);
    assert_int_equal(next, 3);

    struct change gone = {.kind = CHANGE_OUTCOME_DELETE, .number = 8};
    assert_int_equal(store_apply(store, facts.epoch, &gone, 1), STORE_OK);
    next = 1;
    assert_int_equal(store_failures(store, 8, 100, &next, count_failure), QUERN_OK);
    assert_int_equal(next, 1);
    store_close(&store, true);
    world_remove(&directory);
}

/* ---- output ---- */

static void expect_output(struct store *store, uint32_t attempt, uint32_t found, const char *text)
{
    struct bytes output;
    assert_int_equal(store_output(store, 8, &attempt, &output), QUERN_OK);
    assert_int_equal(attempt, found);
    assert_true(bytes_is(output, text));
}

static void test_output_is_of_its_attempt(void **state)
{
    (void)state;
    char *directory = world_directory();
    struct store_facts facts;
    struct store *store = world_open(directory, &facts);
    expect_output(store, 0, 0, ""); /* no such task */
    const struct change changes[] = {
        {.kind = CHANGE_FAILURE, .failure = {.task = 8, .attempt = 2, .cause = 1, .output = bytes_text("second")}},
        {.kind = CHANGE_FAILURE, .failure = {.task = 8, .attempt = 4, .cause = 1}},
        {.kind = CHANGE_FAILURE, .failure = {.task = 9, .attempt = 7, .cause = 1, .output = bytes_text("other")}},
        {.kind = CHANGE_OUTCOME, .outcome = {.id = 8, .state = TASK_DONE, .attempt = 5, .output = bytes_text("last")}},
    };
    assert_int_equal(store_apply(store, facts.epoch, changes, 3), STORE_OK);
    expect_output(store, 0, 4, "");
    expect_output(store, 2, 2, "second");
    expect_output(store, 7, 7, "");
    assert_int_equal(store_apply(store, facts.epoch, changes + 3, 1), STORE_OK);
    expect_output(store, 0, 5, "last");
    expect_output(store, 2, 2, "second");
    store_close(&store, true);
    world_remove(&directory);
}

/* A task that fails for ever must not fill the disk with what it says. */
static void test_output_of_old_attempts_goes(void **state)
{
    (void)state;
    char *directory = world_directory();
    struct store_facts facts;
    struct store *store = world_open(directory, &facts);
    for (uint32_t i = 1; i <= 30; i++) {
        struct bytes output = i == 30 ? bytes_of(NULL, 0) : bytes_text("said");
        struct change change = {.kind = CHANGE_FAILURE,
                                .failure = {.task = 8, .attempt = i, .cause = 1, .output = output}};
        assert_int_equal(store_apply(store, facts.epoch, &change, 1), STORE_OK);
    }
    for (uint32_t i = 1; i < 30; i++) {
        expect_output(store, i, i, i + OUTPUT_ATTEMPT_COUNT_MAX > 29 ? "said" : "");
    }
    uint32_t next = 1;
    assert_int_equal(store_failures(store, 8, 100, &next, count_failure), QUERN_OK);
    assert_int_equal(next, 31); /* the failures themselves stay */
    store_close(&store, true);
    world_remove(&directory);
}

/* ---- listings ---- */

struct listed {
    uint64_t ids[64];
    size_t count;
    uint32_t state;
};

static void take_listed(void *context, const struct list_row *row)
{
    struct listed *listed = context;
    assert_true(listed->count < 64);
    assert_true(listed->count == 0 || row->id < listed->ids[listed->count - 1]);
    listed->ids[listed->count++] = row->id;
    listed->state = row->state;
    if (row->state == TASK_LEASED) {
        assert_true(bytes_is(row->worker, "host:4242"));
    }
    if (row->state == TASK_FAILED) {
        assert_true(bytes_is(row->worker, "other:1"));
        assert_true(bytes_is(row->message, "oh"));
        assert_int_equal(row->finished, 99);
    }
}

/* Tasks 1, 3, 5 ... 39 are live (every fourth leased), 2, 4, 6 ... 40 finished (every fourth failed). */
static struct store *listing_store(const char *directory)
{
    struct store_facts facts;
    struct store *store = world_open(directory, &facts);
    struct change worker = {.kind = CHANGE_WORKER, .worker = {.id = 9, .host = bytes_text("host"), .pid = 4242}};
    assert_int_equal(store_apply(store, facts.epoch, &worker, 1), STORE_OK);
    for (uint64_t id = 1; id <= 40; id++) {
        struct change change = {.kind = CHANGE_TASK,
                                .task = {.id = id, .session = 1 + id % 3, .state = TASK_READY, .call = 1}};
        if (id % 4 == 1) {
            change.task.state = TASK_LEASED;
            change.task.worker = 9;
        }
        if (id % 2 == 0) {
            change = (struct change){.kind = CHANGE_OUTCOME,
                                     .outcome = {.id = id,
                                                 .session = 1 + id % 3,
                                                 .state = id % 4 == 0 ? TASK_FAILED : TASK_DONE,
                                                 .cause = id % 4 == 0 ? CAUSE_ERROR : CAUSE_NONE,
                                                 .worker = bytes_text("other:1"),
                                                 .message = bytes_text("oh"),
                                                 .finished = 99}};
        }
        assert_int_equal(store_apply(store, facts.epoch, &change, 1), STORE_OK);
    }
    return store;
}

/* All slices of a listing; how many there were. */
static size_t list_all(struct store *store, struct list_query query, size_t rows_max, uint64_t slice_us,
                       struct listed *listed)
{
    size_t slices = 1;
    *listed = (struct listed){0};
    enum quern_err err;
    while ((err = store_list_slice(store, &query, rows_max, slice_us, listed, take_listed)) == QUERN_OK) {
        assert_true(slices++ < 200);
    }
    assert_int_equal(err, QUERN_END);
    return slices;
}

static void test_a_listing_merges_tasks_and_outcomes_newest_first(void **state)
{
    (void)state;
    char *directory = world_directory();
    struct store *store = listing_store(directory);
    struct listed listed;
    list_all(store, (struct list_query){0}, 100, 1000000, &listed);
    assert_int_equal(listed.count, 40);
    assert_int_equal(listed.ids[0], 40);
    assert_int_equal(listed.ids[39], 1);
    store_close(&store, true);
    world_remove(&directory);
}

static void test_a_listing_in_slices_misses_nothing(void **state)
{
    (void)state;
    char *directory = world_directory();
    struct store *store = listing_store(directory);
    struct listed listed;
    assert_int_equal(list_all(store, (struct list_query){0}, 7, 1000000, &listed), 6);
    assert_int_equal(listed.count, 40);
    /* No time at all: it still gets somewhere. */
    assert_true(list_all(store, (struct list_query){0}, 100, 0, &listed) > 1);
    assert_int_equal(listed.count, 40);
    store_close(&store, true);
    world_remove(&directory);
}

static void test_a_listing_is_filtered(void **state)
{
    (void)state;
    char *directory = world_directory();
    struct store *store = listing_store(directory);
    struct listed listed;
    list_all(store, (struct list_query){.state = TASK_LEASED}, 100, 1000000, &listed);
    assert_int_equal(listed.count, 10);
    assert_int_equal(listed.state, TASK_LEASED);
    list_all(store, (struct list_query){.state = TASK_DONE}, 100, 1000000, &listed);
    assert_int_equal(listed.count, 10);
    list_all(store, (struct list_query){.cause = CAUSE_ERROR}, 100, 1000000, &listed);
    assert_int_equal(listed.count, 10);
    assert_int_equal(listed.state, TASK_FAILED);
    list_all(store, (struct list_query){.cause = CAUSE_LOST}, 100, 1000000, &listed);
    assert_int_equal(listed.count, 0);
    list_all(store, (struct list_query){.session = 2}, 100, 1000000, &listed);
    assert_int_equal(listed.count, 14);
    list_all(store, (struct list_query){.session = 2, .state = TASK_READY}, 2, 1000000, &listed);
    assert_int_equal(listed.count, 3);
    list_all(store, (struct list_query){.state = TASK_READY, .cause = CAUSE_ERROR}, 100, 1000000, &listed);
    assert_int_equal(listed.count, 0);
    store_close(&store, true);
    world_remove(&directory);
}

/* ---- sweeping ---- */

static void count_call(void *context, const struct call_row *row)
{
    (void)row;
    ++*(uint32_t *)context;
}

static void count_worker(void *context, const struct worker_row *row)
{
    (void)row;
    *(uint32_t *)context += 1000000;
}

static void count_swept(void *context)
{
    *(uint32_t *)context += 1000000000;
}

static uint32_t count_shared(struct store *store)
{
    uint32_t count = 0;
    char *why = NULL;
    struct store_visitor visitor = {
        .context = &count, .call = count_call, .worker = count_worker, .workers_swept = count_swept};
    assert_int_equal(store_load(store, &visitor, &why), QUERN_OK);
    return count;
}

struct taken_list {
    struct taken_row rows[8];
    size_t count;
};

static void list_taken(void *context, const struct taken_row *row)
{
    struct taken_list *list = context;
    assert_true(list->count < 8);
    list->rows[list->count++] = *row;
}

static void expect_taken(struct store *store, const struct taken_row *wanted, size_t count)
{
    struct taken_list list = {0};
    char *why = NULL;
    struct store_visitor visitor = {.context = &list, .taken = list_taken};
    assert_int_equal(store_load(store, &visitor, &why), QUERN_OK);
    assert_int_equal(list.count, count);
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(list.rows[i].session, wanted[i].session);
        assert_int_equal(list.rows[i].first, wanted[i].first);
        assert_int_equal(list.rows[i].last, wanted[i].last);
    }
}

static void apply_all(struct store *store, uint32_t epoch, const struct change *changes, size_t count)
{
    assert_int_equal(store_apply(store, epoch, changes, count), STORE_OK);
}

/* What is taken beyond the prefix stays over a restart, until the prefix passes it or the session ends. */
static void test_what_is_taken_beyond_the_prefix_stays_until_that_passes(void **state)
{
    (void)state;
    char *directory = world_directory();
    struct store_facts facts;
    struct store *store = world_open(directory, &facts);
    struct change first[] = {
        {.kind = CHANGE_SESSION, .session = {.id = 1, .completion_last = 20, .acked_prefix = 1}},
        {.kind = CHANGE_SESSION, .session = {.id = 2, .completion_last = 20}},
        {.kind = CHANGE_TAKEN, .taken = {1, 7, 9}},
        {.kind = CHANGE_TAKEN, .taken = {1, 3, 3}},
        {.kind = CHANGE_TAKEN, .taken = {1, 11, 11}},
        {.kind = CHANGE_TAKEN, .taken = {2, 5, 5}},
        {.kind = CHANGE_TAKEN, .taken = {1, 11, 14}},
    };
    apply_all(store, facts.epoch, first, 7);
    store_close(&store, true);
    store = world_open(directory, &facts);
    expect_taken(store, (struct taken_row[]){{1, 3, 3}, {1, 7, 9}, {1, 11, 14}, {2, 5, 5}}, 4);

    struct change prefix = {.kind = CHANGE_SESSION, .session = {.id = 1, .completion_last = 20, .acked_prefix = 9}};
    apply_all(store, facts.epoch, &prefix, 1);
    expect_taken(store, (struct taken_row[]){{1, 3, 3}, {1, 7, 9}, {1, 11, 14}, {2, 5, 5}}, 4);
    prefix.had_taken = true;
    apply_all(store, facts.epoch, &prefix, 1);
    expect_taken(store, (struct taken_row[]){{1, 11, 14}, {2, 5, 5}}, 2);

    struct change gone = {.kind = CHANGE_SESSION_DELETE, .number = 1};
    apply_all(store, facts.epoch, &gone, 1);
    expect_taken(store, (struct taken_row[]){{2, 5, 5}}, 1);
    store_close(&store, true);
    world_remove(&directory);
}

/* Calls and workers of long ago go at the start, those that a task or an outcome still names stay. */
static void test_unreferenced_calls_and_workers_go(void **state)
{
    (void)state;
    char *directory = world_directory();
    struct store_facts facts;
    struct store *store = world_open(directory, &facts);
    size_t count = STORE_SWEEP_COUNT + 10;
    struct change *changes = xcalloc(2 * count + 3, sizeof *changes);
    for (size_t i = 0; i < count; i++) {
        changes[i] = (struct change){.kind = CHANGE_CALL,
                                     .call = {.id = i + 1, .queue = bytes_text("q"), .function = bytes_text("f")}};
        changes[count + i] = (struct change){.kind = CHANGE_WORKER, .worker = {.id = i + 1}};
    }
    changes[2 * count] =
        (struct change){.kind = CHANGE_TASK, .task = {.id = 1, .session = 1, .call = 7, .worker = 8, .state = 3}};
    changes[2 * count + 1] = (struct change){.kind = CHANGE_OUTCOME, .outcome = {.id = 2, .call = 9, .state = 7}};
    changes[2 * count + 2] = (struct change){.kind = CHANGE_SESSION, .session = {.id = 1}};
    assert_int_equal(store_apply(store, facts.epoch, changes, 2 * count + 3), STORE_OK);
    assert_int_equal(count_shared(store), 2 + 1000000 + 1000000000);
    assert_int_equal(count_shared(store), 2 + 1000000);
    struct call_row call;
    assert_int_equal(store_call(store, 7, &call), QUERN_OK);
    assert_int_equal(store_call(store, 9, &call), QUERN_OK);
    assert_int_equal(store_call(store, 8, &call), QUERN_UNKNOWN);
    free(changes);
    store_close(&store, true);
    world_remove(&directory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_everything_comes_back_after_reopening),
        cmocka_unit_test(test_a_task_keeps_every_column),
        cmocka_unit_test(test_an_outcome_keeps_every_column),
        cmocka_unit_test(test_rows_written_together_are_those_written_alone),
        cmocka_unit_test(test_a_batch_applied_twice_is_as_once),
        cmocka_unit_test(test_a_second_outcome_changes_nothing),
        cmocka_unit_test(test_collapsed_and_uncollapsed_batches_leave_the_same),
        cmocka_unit_test(test_another_epoch_is_fenced),
        cmocka_unit_test(test_an_unclean_end_is_seen_and_the_epoch_rises),
        cmocka_unit_test(test_a_batch_costs_one_sync),
        cmocka_unit_test(test_the_log_stays_small),
        cmocka_unit_test(test_failures_come_oldest_first_and_at_most_so_many),
        cmocka_unit_test(test_output_is_of_its_attempt),
        cmocka_unit_test(test_output_of_old_attempts_goes),
        cmocka_unit_test(test_a_listing_merges_tasks_and_outcomes_newest_first),
        cmocka_unit_test(test_a_listing_in_slices_misses_nothing),
        cmocka_unit_test(test_a_listing_is_filtered),
        cmocka_unit_test(test_what_is_taken_beyond_the_prefix_stays_until_that_passes),
        cmocka_unit_test(test_unreferenced_calls_and_workers_go),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/*
 * The journal thread: commits in order, answers loads between them, waits on a full disk, ends the process when the
 * store is unknown.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "support/fault_vfs.h"
#include "support/store_world.h"

#include "broker/journal.h"
#include "common/check.h"
#include "common/message.h"

#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define SAFETY_NET_MS 60000

struct scene {
    char *directory;
    struct store_facts facts;
    struct journal *journal;
    size_t stats_count;
    struct store_stats stats; /* the last ones */
};

static void scene_open(struct scene *scene)
{
    *scene = (struct scene){.directory = world_directory()};
    struct store *store = world_open(scene->directory, &scene->facts);
    scene->journal = journal_open(&store, scene->facts.epoch);
    assert_null(store);
}

static void scene_close(struct scene *scene)
{
    journal_close(&scene->journal, true);
    journal_close(&scene->journal, true); /* NULL is fine */
    world_remove(&scene->directory);
}

/* The next event of that kind; stats that come before it are noted. */
static struct journal_event expect_event(struct scene *scene, enum journal_event_kind kind)
{
    struct journal_event event;
    for (;;) {
        while (!journal_next(scene->journal, &event)) {
            struct pollfd fd = {.fd = journal_fd(scene->journal), .events = POLLIN};
            int n = poll(&fd, 1, SAFETY_NET_MS);
            if (n == 0) {
                fail_msg("no event");
            }
        }
        if (event.kind == JOURNAL_STATS) {
            scene->stats_count++;
            scene->stats = event.stats;
        }
        if (event.kind == kind) {
            return event;
        }
        assert_int_equal(event.kind, JOURNAL_STATS);
    }
}

/* A batch of the workload; its changes live as long as the struct. */
struct sample {
    struct change changes[WORLD_CHANGE_COUNT_MAX];
    struct batch batch;
};

static const struct batch *sample_make(struct sample *sample, uint32_t number)
{
    sample->batch =
        (struct batch){.number = number, .changes = sample->changes, .count = world_batch(number, sample->changes)};
    return &sample->batch;
}

static void commit_sample(struct scene *scene, uint32_t number)
{
    struct sample sample;
    assert_true(journal_is_idle(scene->journal));
    journal_commit(scene->journal, sample_make(&sample, number));
    assert_false(journal_is_idle(scene->journal));
    assert_int_equal(expect_event(scene, JOURNAL_COMMITTED).batch, number);
    assert_true(journal_is_idle(scene->journal));
}

static struct load *load_make(enum load_kind kind, uint64_t number)
{
    struct load *load = xcalloc(1, sizeof *load);
    load->kind = kind;
    load->number = number;
    return load;
}

/* What the loop was told is on disk: the next life finds it. */
static void test_committed_batches_are_on_disk(void **state)
{
    (void)state;
    struct scene scene;
    scene_open(&scene);
    for (uint32_t i = 1; i <= 9; i++) {
        uint64_t before = scene.stats.batches;
        commit_sample(&scene, i);
        if (i > 2) { /* the first ones may be told together with those of the start */
            assert_int_equal(scene.stats.batches, before + 1); /* never split */
        }
    }
    journal_close(&scene.journal, true);
    char **expected = world_expected(9);
    struct store *store = world_open(scene.directory, &scene.facts);
    assert_true(scene.facts.was_clean);
    char *dump = world_dump(store);
    assert_string_equal(dump, expected[9]);
    free(dump);
    store_close(&store, true);
    world_expected_free(&expected, 9);
    scene_close(&scene);
}

/* The end waits for the batch in commit, also when nobody looks at its event any more. */
static void test_closing_finishes_the_batch_in_commit(void **state)
{
    (void)state;
    for (int i = 0; i < 20; i++) {
        struct scene scene;
        struct sample sample;
        scene_open(&scene);
        journal_commit(scene.journal, sample_make(&sample, 1));
        journal_close(&scene.journal, true);
        struct store *store = world_open(scene.directory, &scene.facts);
        struct task_row row;
        assert_true(scene.facts.was_clean);
        assert_int_equal(store_task(store, id_make(3, 4), &row), QUERN_OK);
        store_close(&store, true);
        scene_close(&scene);
    }
}

static void test_an_unclean_close_marks_nothing(void **state)
{
    (void)state;
    struct scene scene;
    scene_open(&scene);
    commit_sample(&scene, 1);
    journal_close(&scene.journal, false);
    struct store *store = world_open(scene.directory, &scene.facts);
    assert_false(scene.facts.was_clean);
    store_close(&store, true);
    scene_close(&scene);
}

/* The loop refuses submits on a full disk from its first moment on. */
static void test_stats_come_at_the_start(void **state)
{
    (void)state;
    struct scene scene;
    scene_open(&scene);
    struct journal_event event = expect_event(&scene, JOURNAL_STATS);
    assert_true(event.stats.disk_free_bytes > 0);
    assert_true(event.stats.file_bytes > 0);
    assert_false(event.stats.disk_low);
    scene_close(&scene);
}

/* ---- loads ---- */

static void test_outcomes_are_loaded_in_the_order_asked(void **state)
{
    (void)state;
    struct scene scene;
    scene_open(&scene);
    for (uint32_t i = 1; i <= 5; i++) {
        commit_sample(&scene, i);
    }
    struct load *load = load_make(LOAD_OUTCOMES, 99);
    load->ids[0] = id_make(2, 16);
    load->ids[1] = id_make(9, 9); /* not there */
    load->ids[2] = id_make(3, 5);
    load->ids[3] = id_make(2, 4);
    load->count = 4;
    journal_load(scene.journal, &load);
    assert_null(load);
    struct loaded *loaded = expect_event(&scene, JOURNAL_LOADED).loaded;
    assert_int_equal(loaded->kind, LOAD_OUTCOMES);
    assert_int_equal(loaded->number, 99);
    assert_int_equal(loaded->outcome_count, 3);
    assert_int_equal(loaded->outcomes[0].id, id_make(2, 16));
    assert_int_equal(loaded->outcomes[1].id, id_make(3, 5));
    assert_int_equal(loaded->outcomes[2].id, id_make(2, 4));
    assert_true(bytes_is(loaded->outcomes[1].kind, "DivisionByZero"));
    assert_true(bytes_is(loaded->outcomes[1].message, "division by zero"));
    assert_int_equal(loaded->outcomes[1].detail.n, 700);
    assert_null(loaded->outcomes[1].result.p);
    assert_non_null(loaded->outcomes[0].result.p);
    assert_true(bytes_is(loaded->outcomes[0].worker, "host:77"));
    journal_loaded_free(&loaded);
    assert_null(loaded);
    scene_close(&scene);
}

static struct loaded *show(struct scene *scene, uint64_t id)
{
    struct load *load = load_make(LOAD_SHOW, id);
    load->ids[0] = id;
    load->count = 1;
    journal_load(scene->journal, &load);
    struct loaded *loaded = expect_event(scene, JOURNAL_LOADED).loaded;
    assert_int_equal(loaded->number, id);
    return loaded;
}

static void test_show_loads_a_task_or_an_outcome_with_its_call_and_failures(void **state)
{
    (void)state;
    struct scene scene;
    scene_open(&scene);
    for (uint32_t i = 1; i <= 5; i++) {
        commit_sample(&scene, i);
    }
    struct loaded *loaded = show(&scene, id_make(3, 5 * 4 + 3)); /* live, 120 bytes of arguments */
    assert_true(loaded->has_task);
    assert_int_equal(loaded->outcome_count, 0);
    assert_int_equal(loaded->failure_count, 0);
    assert_int_equal(loaded->task.args.n, 120);
    assert_true(bytes_is(loaded->call.function, "square"));
    assert_true(bytes_is(loaded->call.queue, "default"));
    journal_loaded_free(&loaded);

    loaded = show(&scene, id_make(3, 2 * 4 + 2)); /* finished, after a crash */
    assert_false(loaded->has_task);
    assert_int_equal(loaded->outcome_count, 1);
    assert_int_equal(loaded->outcomes[0].state, TASK_DONE);
    assert_int_equal(loaded->failure_count, 1);
    assert_int_equal(loaded->failures[0].signal, 9);
    assert_true(bytes_is(loaded->failures[0].kind, "Signal"));
    assert_true(bytes_is(loaded->call.function, "square"));
    journal_loaded_free(&loaded);

    loaded = show(&scene, 12345); /* never was */
    assert_false(loaded->has_task);
    assert_int_equal(loaded->outcome_count, 0);
    assert_int_equal(loaded->call.id, 0);
    journal_loaded_free(&loaded);
    scene_close(&scene);
}

static void test_a_listing_stops_at_its_limit(void **state)
{
    (void)state;
    struct scene scene;
    scene_open(&scene);
    for (uint32_t i = 1; i <= 5; i++) {
        commit_sample(&scene, i);
    }
    static const size_t limits[] = {1, 7, 1000};
    static const size_t counts[] = {1, 7, 25};
    for (size_t i = 0; i < 3; i++) {
        struct load *load = load_make(LOAD_LIST, i);
        load->limit = limits[i];
        journal_load(scene.journal, &load);
        struct loaded *loaded = expect_event(&scene, JOURNAL_LOADED).loaded;
        assert_int_equal(loaded->list_count, counts[i]);
        assert_int_equal(loaded->list[0].id, id_make(3, 5 * 4 + 3));
        journal_loaded_free(&loaded);
    }
    scene_close(&scene);
}

/* So many rows, none of them wanted, that a listing needs many slices. */
static void fill(struct scene *scene, uint64_t count)
{
    struct change *changes = xcalloc(count, sizeof *changes);
    for (uint64_t i = 0; i < count; i++) {
        changes[i] = (struct change){.kind = CHANGE_OUTCOME, .outcome = {.id = i + 1, .state = TASK_DONE}};
    }
    struct batch batch = {.number = 1, .changes = changes, .count = count};
    journal_commit(scene->journal, &batch);
    assert_int_equal(expect_event(scene, JOURNAL_COMMITTED).batch, 1);
    free(changes);
}

#define LISTING_COUNT 4u

/* Long listings, then a short load, then a batch. The answers in the order in which they came: 0 the commit, otherwise
 * the load's number. */
static void race(struct scene *scene, uint32_t batch, uint64_t order[LISTING_COUNT + 2])
{
    struct sample sample;
    const struct batch *made = sample_make(&sample, batch);
    for (uint64_t i = 1; i <= LISTING_COUNT + 1; i++) {
        bool is_short = i > LISTING_COUNT;
        struct load *load = load_make(is_short ? LOAD_SHOW : LOAD_LIST, i);
        load->ids[0] = 5;
        load->count = 1;
        load->list.session = 77; /* nothing has it */
        load->limit = 10;
        journal_load(scene->journal, &load);
    }
    journal_commit(scene->journal, made);
    for (size_t n = 0; n < LISTING_COUNT + 2;) {
        struct journal_event event;
        struct pollfd fd = {.fd = journal_fd(scene->journal), .events = POLLIN};
        assert_int_equal(poll(&fd, 1, SAFETY_NET_MS), 1);
        while (journal_next(scene->journal, &event)) {
            if (event.kind == JOURNAL_COMMITTED) {
                order[n++] = 0;
            } else if (event.kind == JOURNAL_LOADED) {
                order[n++] = event.loaded->number;
                journal_loaded_free(&event.loaded);
            }
        }
    }
}

/* Queries in front of it do not hold up a commit: it goes between two slices; nor a short load behind a long one. On a
 * busy machine the listings may be done before the others are asked for, so it has several tries. */
static void test_a_commit_and_a_short_load_pass_long_listings(void **state)
{
    (void)state;
    struct scene scene;
    bool has_passed = false;
    scene_open(&scene);
    fill(&scene, 200000);
    for (uint32_t i = 2; i < 22 && !has_passed; i++) {
        uint64_t order[LISTING_COUNT + 2];
        race(&scene, i, order);
        has_passed =
            (order[0] == 0 && order[1] == LISTING_COUNT + 1) || (order[1] == 0 && order[0] == LISTING_COUNT + 1);
    }
    assert_true(has_passed);
    scene_close(&scene);
}

/* The broker goes down with queries open: they are dropped, nothing waits for them. */
static void test_closing_drops_open_loads(void **state)
{
    (void)state;
    struct scene scene;
    scene_open(&scene);
    fill(&scene, 50000);
    for (uint64_t i = 0; i < 8; i++) {
        struct load *load = load_make(LOAD_LIST, i);
        load->list.session = 77;
        load->limit = 10;
        journal_load(scene.journal, &load);
    }
    scene_close(&scene);
}

/* ---- a full disk ---- */

static int remove_faults(void **state)
{
    (void)state;
    fault_remove();
    return 0;
}

/* Wait until the loop was told that the disk is low or is not. */
static void expect_full_at_least_once(struct scene *scene)
{
    while (!fault_hit()) {
        struct pollfd fd = {.fd = journal_fd(scene->journal), .events = POLLIN};
        poll(&fd, 1, 10);
        struct journal_event event;
        while (journal_next(scene->journal, &event)) {
            assert_int_equal(event.kind, JOURNAL_STATS);
        }
    }
}

static void test_a_full_disk_keeps_the_batch_until_there_is_room(void **state)
{
    (void)state;
    struct scene scene;
    struct sample sample;
    fault_install();
    scene_open(&scene);
    commit_sample(&scene, 1);
    fault_arm(FAULT_FULL, 1, true);
    journal_commit(scene.journal, sample_make(&sample, 2));
    expect_full_at_least_once(&scene);
    assert_false(journal_is_idle(scene.journal));
    /* What is on disk can still be asked for. */
    struct loaded *loaded = show(&scene, id_make(3, 4));
    assert_true(loaded->has_task);
    journal_loaded_free(&loaded);
    fault_disarm();
    assert_int_equal(expect_event(&scene, JOURNAL_COMMITTED).batch, 2);
    journal_close(&scene.journal, true);
    struct store *store = world_open(scene.directory, NULL);
    char **expected = world_expected(2);
    char *dump = world_dump(store);
    assert_string_equal(dump, expected[2]); /* all of it, as it was */
    free(dump);
    world_expected_free(&expected, 2);
    store_close(&store, true);
    scene_close(&scene);
    fault_remove();
}

/* The end on a full disk does not wait for ever, and does not claim to be a clean one. */
static void test_closing_on_a_full_disk_gives_up_unclean(void **state)
{
    (void)state;
    struct scene scene;
    struct sample sample;
    fault_install();
    scene_open(&scene);
    commit_sample(&scene, 1);
    fault_arm(FAULT_FULL, 1, true);
    journal_commit(scene.journal, sample_make(&sample, 2));
    expect_full_at_least_once(&scene);
    journal_close(&scene.journal, true);
    fault_disarm();
    struct store *store = world_open(scene.directory, &scene.facts);
    struct task_row row;
    assert_false(scene.facts.was_clean);
    assert_int_equal(store_task(store, id_make(3, 4), &row), QUERN_OK);
    assert_int_equal(store_task(store, id_make(3, 8), &row), QUERN_UNKNOWN);
    store_close(&store, true);
    scene_close(&scene);
    fault_remove();
}

/* ---- fail-stop ---- */

/* In a child: commit under this fault and epoch. It must not live to hear of it. */
static int commit_in_child(const char *directory, enum fault_kind kind, uint32_t epoch_shift)
{
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        struct store_facts facts;
        struct sample sample;
        fault_install();
        struct store *store = world_open(directory, &facts);
        struct journal *journal = journal_open(&store, facts.epoch + epoch_shift);
        struct journal_event event;
        fault_arm(kind, 1, false);
        journal_commit(journal, sample_make(&sample, 1));
        for (;;) {
            struct pollfd fd = {.fd = journal_fd(journal), .events = POLLIN};
            poll(&fd, 1, SAFETY_NET_MS);
            while (journal_next(journal, &event)) {
                if (event.kind == JOURNAL_COMMITTED) {
                    _exit(0);
                }
                if (event.kind == JOURNAL_STATS && event.stats.disk_low) { /* it waits for room and tries again */
                    _exit(1);
                }
            }
        }
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void test_an_unknown_commit_ends_the_process_before_anything_is_said(void **state)
{
    (void)state;
    char *directory = world_directory();
    assert_int_equal(commit_in_child(directory, FAULT_IO_SYNC, 0), EXIT_STORE_FAILURE);
    assert_int_equal(commit_in_child(directory, FAULT_IO_WRITE, 0), EXIT_STORE_FAILURE);
    assert_int_equal(commit_in_child(directory, FAULT_NONE, 1), EXIT_STORE_FAILURE); /* fenced */
    assert_int_equal(commit_in_child(directory, FAULT_NONE, 0), 0);
    world_remove(&directory);
}

static unsigned thread_count(void)
{
    unsigned count = 0;
    DIR *directory = opendir("/proc/self/task");
    assert_non_null(directory);
    for (const struct dirent *entry; (entry = readdir(directory)) != NULL;) {
        count += entry->d_name[0] != '.';
    }
    closedir(directory);
    return count;
}

/* A broker without a store: the loop notices no difference, but that nothing is ever found. */
static void test_without_a_store_batches_count_at_once_and_loads_find_nothing(void **state)
{
    (void)state;
    unsigned threads = thread_count();
    struct scene scene = {.journal = journal_open(NULL, 1)};
    assert_int_equal(thread_count(), threads);
    commit_sample(&scene, 1);
    struct load *load = load_make(LOAD_SHOW, 7);
    load->count = 1;
    load->ids[0] = id_make(3, 1);
    journal_load(scene.journal, &load);
    struct loaded *loaded = expect_event(&scene, JOURNAL_LOADED).loaded;
    assert_int_equal(loaded->number, 7);
    assert_false(loaded->has_task);
    assert_int_equal(loaded->outcome_count, 0);
    journal_loaded_free(&loaded);
    assert_int_equal(scene.stats_count, 0);
    load = load_make(LOAD_LIST, 8); /* one that nobody fetches */
    load->limit = 10;
    journal_load(scene.journal, &load);
    journal_close(&scene.journal, true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        /* First: it forks, which threads that ran before would make a gamble. */
        cmocka_unit_test(test_an_unknown_commit_ends_the_process_before_anything_is_said),
        cmocka_unit_test(test_without_a_store_batches_count_at_once_and_loads_find_nothing),
        cmocka_unit_test(test_committed_batches_are_on_disk),
        cmocka_unit_test(test_closing_finishes_the_batch_in_commit),
        cmocka_unit_test(test_an_unclean_close_marks_nothing),
        cmocka_unit_test(test_stats_come_at_the_start),
        cmocka_unit_test(test_outcomes_are_loaded_in_the_order_asked),
        cmocka_unit_test(test_show_loads_a_task_or_an_outcome_with_its_call_and_failures),
        cmocka_unit_test(test_a_listing_stops_at_its_limit),
        cmocka_unit_test(test_a_commit_and_a_short_load_pass_long_listings),
        cmocka_unit_test(test_closing_drops_open_loads),
        cmocka_unit_test_teardown(test_a_full_disk_keeps_the_batch_until_there_is_room, remove_faults),
        cmocka_unit_test_teardown(test_closing_on_a_full_disk_gives_up_unclean, remove_faults),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/*
 * test_crash_store: the power goes at any write, sync, truncation, making, naming or removing of a file, and the disk
 * has kept any part of what was not synced: torn sectors, garbage, writes out of order, sizes, names. The real store is
 * opened anew by the broker's own way, and what it holds is compared with what had been acknowledged.
 *
 *   test_crash_store                      1000 crashes, spread over the operations by chance
 *   test_crash_store --crashes N          so many
 *   test_crash_store --seed S             another chance (default: by the clock; printed)
 *   test_crash_store --seed S --at W.N.D  that one again: workload, operation, damage, as a failure prints them
 * Start at check_image for what must hold, at the workloads for what is done meanwhile.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "support/disk_model.h"
#include "support/fault_vfs.h"
#include "support/store_world.h"

#include "broker/store_sqlite.h"
#include "common/check.h"
#include "common/random.h"

#include <inttypes.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CRASHES_DEFAULT 1000u
#define BATCH_COUNT 24u
/* So small that the workload copies its log many times. */
#define CHECKPOINT_PAGES 30
/* In so many crashes each kind of luck comes up. */
#define MANY_CRASHES 5000u
/* Losing all that was not synced, and keeping all of it, besides chance. */
#define FIXED_DAMAGE_COUNT 2u

enum workload { WORKLOAD_LIVES, WORKLOAD_BACKUP, WORKLOAD_MIGRATION, WORKLOAD_COUNT };

static const char *const workload_names[] = {"lives", "backup", "migration"};

static struct {
    uint64_t seed;
    uint64_t crashes; /* wanted, over all workloads */
    bool is_replay;
    uint64_t replay[3]; /* workload, operation, damage */
} chosen = {.crashes = CRASHES_DEFAULT};

/* What has happened so far in a workload, as somebody outside knows it. */
static struct {
    enum workload workload;
    uint64_t operation;
    uint64_t operations; /* of the whole workload; 0 while they are counted */
    uint64_t chance;
    char *directory;
    uint32_t reported;  /* batches acknowledged */
    uint32_t submitted; /* batches that were handed over */
    uint32_t epoch;     /* told to somebody */
    bool is_copy_told;  /* the copy was said to be there */
    uint32_t copied;    /* batches in it at least */
    uint64_t images;
    uint64_t one_more; /* images in which the batch in commit was already whole */
    uint64_t with_copy;
    uint64_t migrated;
} now;

static char **expected;

/* splitmix64 */
static uint64_t roll(uint64_t *state)
{
    uint64_t z = (*state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

/* ---- what must hold after a crash ---- */

static void fail_here(uint64_t damage, const char *what)
{
    fault_remove();
    fail_msg("workload %s, operation %" PRIu64 ", damage %" PRIu64 ": %s\nreplay: test_crash_store --seed %" PRIu64
             " --at %d.%" PRIu64 ".%" PRIu64,
             workload_names[now.workload], now.operation, damage, what, chosen.seed, (int)now.workload, now.operation,
             damage);
}

static char *path_in(const char *directory, const char *name)
{
    char *path = NULL;
    CHECK(asprintf(&path, "%s/%s", directory, name) > 0);
    return path;
}

static bool is_whole(sqlite3 *db)
{
    sqlite3_stmt *statement = NULL;
    bool is = sqlite3_prepare_v2(db, "PRAGMA integrity_check", -1, &statement, NULL) == SQLITE_OK &&
              sqlite3_step(statement) == SQLITE_ROW &&
              strcmp((const char *)sqlite3_column_text(statement, 0), "ok") == 0;
    sqlite3_finalize(statement);
    return is;
}

/* Which prefix of the batches it holds, whole; UINT32_MAX: none. */
static uint32_t batches_in(struct store *store, const struct store_facts *facts, uint32_t first, uint32_t last)
{
    char *dump = world_dump(store);
    uint32_t found = UINT32_MAX;
    for (uint32_t i = first; i <= last; i++) {
        bool is_meta = i == 0 || facts->meta.series_next == 4 + i; /* written with the batch */
        if (strcmp(dump, expected[i]) == 0 && is_meta) {
            found = i;
        }
    }
    free(dump);
    return found;
}

static uint32_t open_and_compare(const char *directory, const char *name, uint32_t first, uint32_t last,
                                 uint64_t damage)
{
    struct limits limits = world_limits();
    struct store_facts facts;
    struct store *store = NULL;
    char *why = NULL;
    char *path = path_in(directory, name);
    enum quern_err err = store_open(path, &limits, &store, &facts, &why);
    if (err != QUERN_OK) {
        fail_here(damage, why);
    }
    if (facts.epoch <= now.epoch && strcmp(name, "quern.db") == 0) {
        fail_here(damage, "the epoch went back");
    }
    if (!is_whole(store->db)) {
        fail_here(damage, "the file is not whole");
    }
    uint32_t found = batches_in(store, &facts, first, last);
    if (found == UINT32_MAX) {
        fail_here(damage,
                  "it holds neither all that was acknowledged, nor one batch more, nor anything but whole batches");
    }
    store_close(&store, true);
    free(path);
    return found;
}

static void check_copy(const char *image, uint64_t damage)
{
    char *path = path_in(image, "copy.db");
    bool is_there = access(path, F_OK) == 0;
    free(path);
    if (now.is_copy_told && !is_there) {
        fail_here(damage, "a copy that was said to be on disk is gone");
    }
    if (is_there) {
        now.with_copy++;
        (void)open_and_compare(image, "copy.db", now.copied, now.submitted, damage);
    }
}

/* ---- migration: two steps that are none of the store's own, so the broker's way cannot open what they leave ---- */

static const char *const extra_steps[] = {
    "ALTER TABLE call ADD COLUMN colour TEXT; UPDATE call SET colour = 'red'",
    "CREATE TABLE extra (id INTEGER PRIMARY KEY) STRICT; INSERT INTO extra VALUES (7)"};

static int64_t number_of(sqlite3 *db, const char *sql)
{
    sqlite3_stmt *statement = NULL;
    int64_t number = -1;
    if (sqlite3_prepare_v2(db, sql, -1, &statement, NULL) == SQLITE_OK && sqlite3_step(statement) == SQLITE_ROW) {
        number = sqlite3_column_int64(statement, 0);
    }
    sqlite3_finalize(statement);
    return number;
}

static void check_migrated(const char *image, uint64_t damage)
{
    sqlite3 *db = NULL;
    char *path = path_in(image, "quern.db");
    char name[64];
    CHECK(sqlite3_open(path, &db) == SQLITE_OK);
    int64_t version = number_of(db, "PRAGMA user_version");
    bool is_new = version == (int64_t)schema_step_count + 2;
    if (!is_whole(db) || (!is_new && version != schema_step_count)) {
        fail_here(damage, "neither of the old version nor of the new one");
    }
    if ((number_of(db, "SELECT id FROM extra") == 7) != is_new ||
        (number_of(db, "SELECT count(colour) > 0 FROM call") == 1) != is_new) {
        fail_here(damage, "half a step");
    }
    sqlite3_close(db);
    free(path);
    if (!is_new) {
        (void)open_and_compare(image, "quern.db", now.reported, now.reported, damage);
        return;
    }
    now.migrated++;
    snprintf(name, sizeof name, "quern.db.version-%u", schema_step_count);
    path = path_in(image, name);
    if (access(path, F_OK) != 0) {
        fail_here(damage, "brought up to date, and the store as it was is not beside it");
    }
    free(path);
    uint32_t epoch = now.epoch;
    now.epoch = 0;
    (void)open_and_compare(image, name, now.reported, now.reported, damage);
    now.epoch = epoch;
}

static void check_image(uint64_t damage)
{
    char *image = world_directory();
    uint64_t seed = damage;
    if (damage >= FIXED_DAMAGE_COUNT) {
        uint64_t state = chosen.seed ^ now.operation << 20 ^ damage;
        seed = roll(&state) | 2;
    }
    model_power_loss(image, seed);
    fault_pause(true);
    now.images++;
    if (now.workload == WORKLOAD_MIGRATION) {
        check_migrated(image, damage);
    } else {
        now.one_more += open_and_compare(image, "quern.db", now.reported, now.submitted, damage) > now.reported;
        check_copy(image, damage);
    }
    fault_pause(false);
    world_remove(&image);
}

/* So many crashes as this operation's share is; what is left over by chance. */
static void on_operation(void *context)
{
    (void)context;
    now.operation++;
    if (chosen.is_replay) {
        if (chosen.replay[0] == now.workload && chosen.replay[1] == now.operation) {
            check_image(chosen.replay[2]);
        }
        return;
    }
    if (now.operations == 0) {
        return;
    }
    uint64_t wanted = chosen.crashes / WORKLOAD_COUNT + 1;
    uint64_t share = wanted / now.operations + (roll(&now.chance) % now.operations < wanted % now.operations);
    uint64_t first = roll(&now.chance) % 4; /* if there is one only: lost, kept, or chance twice as often */
    for (uint64_t i = 0; i < share; i++) {
        check_image(first + i);
    }
}

/* ---- what is done meanwhile ---- */

static struct store *life_begin(void)
{
    struct store_facts facts;
    struct store *store = world_open(now.directory, &facts);
    store->checkpoint_pages = CHECKPOINT_PAGES;
    now.epoch = facts.epoch;
    return store;
}

static void apply_next(struct store *store)
{
    now.submitted++;
    assert_int_equal(world_apply(store, now.epoch, now.submitted), STORE_OK);
    now.reported = now.submitted;
    assert_int_equal(store_rest(store), QUERN_OK);
}

/* A store is made, lives begin and end, cleanly or not; every kind of row change, retention's deletions among them. */
static void run_lives(void)
{
    struct store *store = life_begin();
    while (now.submitted < BATCH_COUNT) {
        apply_next(store);
        if (now.submitted % 5 == 0) {
            store_close(&store, now.submitted % 10 == 0);
            store = life_begin();
        }
    }
    store_close(&store, true);
}

static void run_backup(void)
{
    struct store *store = life_begin();
    struct backup *backup = NULL;
    char *path = path_in(now.directory, "copy.db");
    char *why = NULL;
    uint64_t bytes;
    while (now.submitted < BATCH_COUNT / 2) {
        apply_next(store);
    }
    now.copied = now.reported;
    assert_int_equal(backup_open(store, path, &backup, &why), QUERN_OK);
    enum quern_err err = QUERN_OK;
    while ((err = backup_slice(backup, 0, &why)) == QUERN_OK) {
        if (now.submitted < BATCH_COUNT) {
            apply_next(store);
        }
        now.copied = now.reported;
    }
    assert_int_equal(err, QUERN_END);
    assert_int_equal(backup_finish(backup, &bytes, &why), QUERN_OK);
    now.is_copy_told = true;
    backup_close(&backup);
    if (now.submitted < BATCH_COUNT) {
        apply_next(store);
    }
    store_close(&store, true);
    free(path);
}

/* Those that were there before anybody watched. */
static void know_files(void)
{
    static const char *const names[] = {"quern.db", "quern.db-wal", "quern.db.lock"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char *path = path_in(now.directory, names[i]);
        (void)model_open(path, true);
        free(path);
    }
}

static void run_migration(void)
{
    const char *steps[16];
    char *why = NULL;
    struct store *store = life_begin();
    CHECK(schema_step_count + 2 <= 16);
    memcpy(steps, schema_steps, schema_step_count * sizeof *steps);
    memcpy(steps + schema_step_count, extra_steps, sizeof extra_steps);
    while (now.submitted < 5) {
        apply_next(store);
    }
    store_close(&store, false);
    fault_watch(on_operation, NULL); /* only now: before, there is nothing that the other workloads have not */
    know_files();
    store = life_begin();
    assert_int_equal(schema_migrate(store, steps, schema_step_count + 2, &why), QUERN_OK);
    store_close(&store, true);
}

static void run_workload(enum workload workload)
{
    static void (*const runs[])(void) = {run_lives, run_backup, run_migration};
    now.workload = workload;
    now.operation = 0;
    now.reported = 0;
    now.submitted = 0;
    now.copied = 0;
    now.epoch = 0;
    now.is_copy_told = false;
    now.directory = world_directory();
    fault_install();
    if (workload != WORKLOAD_MIGRATION) {
        fault_watch(on_operation, NULL);
    }
    runs[workload]();
    fault_remove();
    world_remove(&now.directory);
}

/* Once to count its operations, once with the crashes. */
static void crash_workload(enum workload workload)
{
    uint64_t images = now.images;
    now.operations = 0;
    now.chance = chosen.seed + workload;
    run_workload(workload);
    now.operations = now.operation;
    if (!chosen.is_replay) {
        run_workload(workload);
    }
    print_message("%s: %" PRIu64 " operations, %" PRIu64 " crashes\n", workload_names[workload], now.operations,
                  now.images - images);
    assert_true(now.operations > 20);
}

/* Whatever was acknowledged is there, and a batch is there whole or not at all. */
static void test_a_crash_at_any_operation_keeps_what_was_acknowledged(void **state)
{
    (void)state;
    crash_workload(WORKLOAD_LIVES);
    assert_true(chosen.crashes < MANY_CRASHES ||
                now.one_more > 0); /* the reported ones alone would be too easy a claim */
}

/* A copy has its name when it is whole, and when it was said to be there it is. */
static void test_a_crash_while_a_copy_is_made_leaves_a_whole_one_or_none(void **state)
{
    (void)state;
    crash_workload(WORKLOAD_BACKUP);
    assert_true(chosen.is_replay || now.with_copy > 0);
}

/* Of one version or of the other, never between; and the way back is on disk first. */
static void test_a_crash_while_a_store_is_brought_up_to_date_leaves_one_version(void **state)
{
    (void)state;
    crash_workload(WORKLOAD_MIGRATION);
    assert_true(chosen.is_replay || now.migrated > 0);
}

static int make_expected(void **state)
{
    (void)state;
    expected = world_expected(BATCH_COUNT);
    return 0;
}

static int summarise(void **state)
{
    (void)state;
    world_expected_free(&expected, BATCH_COUNT);
    print_message("%" PRIu64 " crashes with seed %" PRIu64 ": nothing acknowledged lost, no batch by halves; %" PRIu64
                  " with the batch in commit already whole, %" PRIu64 " with a copy, %" PRIu64
                  " already of the next version\n",
                  now.images, chosen.seed, now.one_more, now.with_copy, now.migrated);
    return 0;
}

static int remove_faults(void **state)
{
    (void)state;
    fault_remove();
    return 0;
}

static int usage(void)
{
    fprintf(stderr, "usage: test_crash_store [--crashes N] [--seed S [--at WORKLOAD.OPERATION.DAMAGE]]\n");
    return 2;
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_a_crash_at_any_operation_keeps_what_was_acknowledged, remove_faults),
        cmocka_unit_test_teardown(test_a_crash_while_a_copy_is_made_leaves_a_whole_one_or_none, remove_faults),
        cmocka_unit_test_teardown(test_a_crash_while_a_store_is_brought_up_to_date_leaves_one_version, remove_faults),
    };
    random_fill(&chosen.seed, sizeof chosen.seed);
    chosen.seed >>= 32;
    if (argc == 2 && strncmp(argv[1], "test_", 5) == 0) {
        cmocka_set_test_filter(argv[1]);
        argc = 1;
    }
    for (int i = 1; i < argc; i += 2) {
        if (i + 1 < argc && strcmp(argv[i], "--crashes") == 0) {
            chosen.crashes = strtoull(argv[i + 1], NULL, 10);
        } else if (i + 1 < argc && strcmp(argv[i], "--seed") == 0) {
            chosen.seed = strtoull(argv[i + 1], NULL, 10);
        } else if (i + 1 < argc && strcmp(argv[i], "--at") == 0) {
            chosen.is_replay = sscanf(argv[i + 1], "%" SCNu64 ".%" SCNu64 ".%" SCNu64, &chosen.replay[0],
                                      &chosen.replay[1], &chosen.replay[2]) == 3;
        } else {
            return usage();
        }
    }
    return cmocka_run_group_tests(tests, make_expected, summarise);
}

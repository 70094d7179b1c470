/*
 * test_backup: a copy made while the store is written to is a whole store as of its end, or is not there at all.
 * Start at test_a_copy_under_load_is_the_store_as_of_its_end.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "support/fault_vfs.h"
#include "support/store_world.h"

#include "broker/store_sqlite.h"
#include "common/check.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define BATCH_COUNT 30u
/* A slice of no time is one step: as many commits between slices as there can be. */
#define SLICE_US 0

static char *path_in(const char *directory, const char *name)
{
    char *path = NULL;
    CHECK(asprintf(&path, "%s/%s", directory, name) > 0);
    return path;
}

static bool is_there(const char *directory, const char *name)
{
    char *path = path_in(directory, name);
    bool is = access(path, F_OK) == 0;
    free(path);
    return is;
}

/* Files of that beginning. */
static size_t count_files(const char *directory, const char *prefix)
{
    size_t count = 0;
    DIR *dir = opendir(directory);
    const struct dirent *entry;
    while ((entry = readdir(dir)) != NULL) {
        count += strncmp(entry->d_name, prefix, strlen(prefix)) == 0;
    }
    closedir(dir);
    return count;
}

struct scene {
    char *directory;
    char *aside; /* where copies go */
    struct store *store;
    struct store_facts facts;
    uint32_t batches;
};

static struct scene scene_open(uint32_t batches)
{
    struct scene scene = {.directory = world_directory()};
    scene.aside = path_in(scene.directory, "aside");
    CHECK(mkdir(scene.aside, 0700) == 0);
    scene.store = world_open(scene.directory, &scene.facts);
    scene.store->checkpoint_pages = 40;
    while (scene.batches < batches) {
        assert_int_equal(world_apply(scene.store, scene.facts.epoch, ++scene.batches), STORE_OK);
    }
    return scene;
}

static void scene_close(struct scene *scene)
{
    store_close(&scene->store, true);
    free(scene->aside);
    world_remove(&scene->directory);
}

/* All slices, with a batch before each as long as there are batches; the answer of the whole. */
static enum quern_err copy_all(struct scene *scene, const char *name, uint32_t batch_last, char **why_out)
{
    char *path = path_in(scene->aside, name);
    struct backup *backup = NULL;
    uint64_t bytes = 0;
    enum quern_err err = backup_open(scene->store, path, &backup, why_out);
    while (err == QUERN_OK) {
        if (scene->batches < batch_last) {
            assert_int_equal(world_apply(scene->store, scene->facts.epoch, ++scene->batches), STORE_OK);
            assert_int_equal(store_rest(scene->store), QUERN_OK);
        }
        err = backup_slice(backup, SLICE_US, why_out);
    }
    if (err == QUERN_END) {
        err = backup_finish(backup, &bytes, why_out);
        assert_true(err != QUERN_OK || bytes > 0);
    }
    backup_close(&backup);
    free(path);
    return err;
}

static char *dump_of(const char *directory, struct store_facts *facts)
{
    struct store *store = world_open(directory, facts);
    char *dump = world_dump(store);
    store_close(&store, true);
    return dump;
}

static void expect_copy_is_store(const struct scene *scene, struct store_facts *facts)
{
    char *wanted = world_dump(scene->store);
    char *found = dump_of(scene->aside, facts);
    assert_string_equal(found, wanted);
    free(wanted);
    free(found);
}

/* Not as of its beginning, nor a mixture: what was committed while it was made is in it. */
static void test_a_copy_under_load_is_the_store_as_of_its_end(void **state)
{
    (void)state;
    struct scene scene = scene_open(BATCH_COUNT / 2);
    struct store_facts facts;
    char *why = NULL;
    assert_int_equal(copy_all(&scene, "quern.db", BATCH_COUNT, &why), QUERN_OK);
    assert_true(scene.batches > BATCH_COUNT / 2 + 3); /* many slices, a commit between any two */
    expect_copy_is_store(&scene, &facts);
    assert_false(uuid_equal(&facts.uuid, &scene.facts.uuid));
    scene_close(&scene);
}

/* One file that can be carried away, and opened where nothing can be written beside it. */
static void test_a_copy_is_one_file_for_its_owner(void **state)
{
    (void)state;
    struct scene scene = scene_open(3);
    struct stat st;
    char *why = NULL;
    mode_t mask = umask(0);
    assert_int_equal(copy_all(&scene, "copy.db", 0, &why), QUERN_OK);
    umask(mask);
    assert_int_equal(count_files(scene.aside, "copy.db"), 1);
    char *path = path_in(scene.aside, "copy.db");
    CHECK(stat(path, &st) == 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    char head[20];
    CHECK(read(fd, head, sizeof head) == sizeof head && close(fd) == 0);
    assert_int_equal(head[18], 1); /* no log is asked for */
    assert_int_equal(head[19], 1);
    free(path);
    scene_close(&scene);
}

static void test_nothing_is_overwritten(void **state)
{
    (void)state;
    struct scene scene = scene_open(3);
    struct stat st;
    char *path = path_in(scene.aside, "copy.db");
    char *why = NULL;
    FILE *file = fopen(path, "w");
    CHECK(file != NULL && fputs("dear diary", file) >= 0 && fclose(file) == 0);
    assert_int_equal(copy_all(&scene, "copy.db", 0, &why), QUERN_DENIED);
    assert_non_null(strstr(why, "is there already"));
    free(why);
    CHECK(unlink(path) == 0);
    /* Also if it appears while the copy is made. */
    struct backup *backup = NULL;
    uint64_t bytes;
    assert_int_equal(backup_open(scene.store, path, &backup, &why), QUERN_OK);
    while (backup_slice(backup, SLICE_US, &why) == QUERN_OK) {
    }
    file = fopen(path, "w");
    CHECK(file != NULL && fputs("dear diary", file) >= 0 && fclose(file) == 0);
    assert_int_equal(backup_finish(backup, &bytes, &why), QUERN_DENIED);
    backup_close(&backup);
    CHECK(stat(path, &st) == 0);
    assert_int_equal(st.st_size, 10);
    assert_int_equal(count_files(scene.aside, "copy.db"), 1);
    free(why);
    free(path);
    scene_close(&scene);
}

/* A batch that did not fit is rolled back, and what of it had gone into the copy goes too. */
static void test_a_batch_that_did_not_fit_is_not_in_the_copy(void **state)
{
    (void)state;
    struct scene scene = scene_open(10);
    struct store_facts facts;
    char *path = path_in(scene.aside, "quern.db");
    char *why = NULL;
    struct backup *backup = NULL;
    uint64_t bytes;
    fault_install();
    store_close(&scene.store, true);
    scene.store = world_open(scene.directory, &scene.facts);
    bool is_hit = true;
    for (uint64_t at = 1; is_hit; at++) { /* every write of it */
        assert_int_equal(backup_open(scene.store, path, &backup, &why), QUERN_OK);
        assert_int_equal(backup_slice(backup, SLICE_US, &why), QUERN_OK);
        fault_arm(FAULT_FULL, at, false);
        enum store_verdict verdict = world_apply(scene.store, scene.facts.epoch, scene.batches + 1);
        is_hit = fault_hit();
        assert_true(is_hit || at > 1);
        assert_int_equal(verdict, is_hit ? STORE_FULL : STORE_OK);
        scene.batches += is_hit ? 0 : 1;
        fault_disarm();
        enum quern_err err;
        while ((err = backup_slice(backup, SLICE_US, &why)) == QUERN_OK) {
        }
        assert_int_equal(err, QUERN_END);
        assert_int_equal(backup_finish(backup, &bytes, &why), QUERN_OK);
        backup_close(&backup);
        fault_pause(true);
        expect_copy_is_store(&scene, &facts);
        fault_pause(false);
        CHECK(unlink(path) == 0);
    }
    free(path);
    scene_close(&scene);
    fault_remove();
}

/* Whether the copy failed. */
static bool copy_with_fault(enum fault_kind kind, uint64_t at, bool forever, bool *is_hit_out)
{
    struct scene scene = scene_open(4);
    char *why = NULL;
    fault_install();
    fault_arm(kind, at, forever);
    enum quern_err err = copy_all(&scene, "quern.db", 0, &why);
    *is_hit_out = fault_hit();
    fault_remove();
    assert_true(err == QUERN_OK || why != NULL);
    assert_true(err == QUERN_OK || *is_hit_out);
    assert_int_equal(is_there(scene.aside, "quern.db"), err == QUERN_OK);
    if (kind != FAULT_IO_DELETE) { /* what cannot be deleted is in nobody's way: below */
        assert_int_equal(count_files(scene.aside, "quern.db"), err == QUERN_OK);
    }
    if (err == QUERN_OK) {
        struct store_facts facts;
        expect_copy_is_store(&scene, &facts);
    }
    assert_int_equal(world_apply(scene.store, scene.facts.epoch, ++scene.batches), STORE_OK);
    free(why);
    scene_close(&scene);
    return err != QUERN_OK;
}

/* Whatever fails while a copy is made: the store goes on, and under the copy's name there is nothing or a whole store.
 */
static void test_a_copy_on_a_failing_disk_is_whole_or_not_there(void **state)
{
    (void)state;
    static const enum fault_kind kinds[] = {FAULT_FULL,    FAULT_IO_WRITE, FAULT_SHORT_WRITE, FAULT_IO_READ,
                                            FAULT_IO_SYNC, FAULT_IO_OPEN,  FAULT_IO_TRUNCATE, FAULT_IO_DELETE};
    bool is_every_one = getenv("QUERN_ALL") != NULL;
    size_t failed = 0;
    for (size_t k = 0; k < 2 * sizeof kinds / sizeof kinds[0]; k++) { /* once, or for ever */
        enum fault_kind kind = kinds[k / 2];
        bool is_hit = true;
        for (uint64_t at = 1; is_hit; at += fault_stride() * (kind == FAULT_IO_READ && !is_every_one ? 7 : 1)) {
            failed += copy_with_fault(kind, at, k % 2 == 1, &is_hit);
        }
    }
    print_message("%zu copies failed\n", failed);
    assert_true(failed > 10 || fault_stride() > 1);
}

static void test_a_copy_that_is_cancelled_leaves_nothing(void **state)
{
    (void)state;
    struct scene scene = scene_open(20);
    char *path = path_in(scene.aside, "copy.db");
    char *why = NULL;
    struct backup *backup = NULL;
    uint64_t bytes;
    assert_int_equal(backup_open(scene.store, path, &backup, &why), QUERN_OK);
    assert_int_equal(backup_slice(backup, SLICE_US, &why), QUERN_OK);
    backup_close(&backup); /* in the middle */
    assert_int_equal(count_files(scene.aside, "copy.db"), 0);
    assert_int_equal(backup_open(scene.store, path, &backup, &why), QUERN_OK);
    while (backup_slice(backup, SLICE_US, &why) == QUERN_OK) {
    }
    backup_cancel(backup); /* at its end */
    assert_int_equal(backup_finish(backup, &bytes, &why), QUERN_DRAINING);
    free(why);
    backup_close(&backup);
    assert_int_equal(count_files(scene.aside, "copy.db"), 0);
    assert_int_equal(world_apply(scene.store, scene.facts.epoch, ++scene.batches), STORE_OK);
    free(path);
    scene_close(&scene);
}

/* A broker that was killed has left half a copy: the next one begins anew. */
static void test_a_half_that_was_left_behind_is_in_nobodys_way(void **state)
{
    (void)state;
    struct scene scene = scene_open(5);
    static const char *const names[] = {"quern.db.part", "quern.db.part-wal", "quern.db.part-journal"};
    struct store_facts facts;
    char *why = NULL;
    for (size_t i = 0; i < 3; i++) {
        char *path = path_in(scene.aside, names[i]);
        FILE *file = fopen(path, "w");
        CHECK(file != NULL && fputs("half of something", file) >= 0 && fclose(file) == 0);
        free(path);
    }
    assert_int_equal(copy_all(&scene, "quern.db", 0, &why), QUERN_OK);
    assert_int_equal(count_files(scene.aside, "quern.db"), 1);
    expect_copy_is_store(&scene, &facts);
    scene_close(&scene);
}

static void test_a_copy_to_nowhere_is_refused_with_the_reason(void **state)
{
    (void)state;
    struct scene scene = scene_open(2);
    char *why = NULL;
    assert_int_equal(copy_all(&scene, "nowhere/copy.db", 0, &why), QUERN_IO);
    assert_non_null(strstr(why, "No such file"));
    free(why);
    scene.store->disk.free_floor = UINT64_MAX / 2;
    assert_int_equal(copy_all(&scene, "copy.db", 0, &why), QUERN_DISK);
    assert_non_null(strstr(why, "no room"));
    assert_int_equal(count_files(scene.aside, "copy.db"), 0);
    free(why);
    scene_close(&scene);
}

/* What was restored is not what workers and clients know, also if it is put into the very file that it was copied from,
 * in the same life of the broker: that life went on after the copy. */
static void test_a_restored_copy_has_an_identity_of_its_own(void **state)
{
    (void)state;
    struct scene scene = scene_open(5);
    struct store_facts facts;
    struct store_facts again;
    char *why = NULL;
    char *copy = path_in(scene.aside, "copy.db");
    char *db = path_in(scene.directory, "quern.db");
    assert_int_equal(copy_all(&scene, "copy.db", 0, &why), QUERN_OK);
    store_close(&scene.store, true);
    int from = open(copy, O_RDONLY | O_CLOEXEC);
    int to = open(db, O_WRONLY | O_TRUNC | O_CLOEXEC); /* the same inode, as cp does */
    char block[4096];
    ssize_t n;
    while ((n = read(from, block, sizeof block)) > 0) {
        CHECK(write(to, block, (size_t)n) == n);
    }
    close(from);
    close(to);
    scene.store = world_open(scene.directory, &facts);
    assert_false(uuid_equal(&facts.uuid, &scene.facts.uuid));
    store_close(&scene.store, true);
    scene.store = world_open(scene.directory, &again); /* and keeps it */
    assert_true(uuid_equal(&facts.uuid, &again.uuid));
    free(copy);
    free(db);
    scene_close(&scene);
}

/* SQLite would lay the log of the store that died over the one that was restored. */
static void test_a_restored_copy_is_refused_while_the_old_log_is_there(void **state)
{
    (void)state;
    struct scene scene = scene_open(5);
    struct limits limits = world_limits();
    struct store_facts facts;
    char *why = NULL;
    char *copy = path_in(scene.aside, "copy.db");
    char *db = path_in(scene.directory, "quern.db");
    char *wal = path_in(scene.directory, "quern.db-wal");
    assert_int_equal(copy_all(&scene, "copy.db", 0, &why), QUERN_OK);
    assert_int_equal(world_apply(scene.store, scene.facts.epoch, ++scene.batches), STORE_OK);
    store_close(&scene.store, false);
    CHECK(rename(copy, db) == 0);
    assert_int_equal(store_open(db, &limits, &scene.store, &facts, &why), QUERN_MALFORMED);
    assert_non_null(strstr(why, "move the log away"));
    free(why);
    CHECK(unlink(wal) == 0);
    assert_int_equal(store_open(db, &limits, &scene.store, &facts, &why), QUERN_OK);
    free(copy);
    free(db);
    free(wal);
    scene_close(&scene);
}

static int remove_faults(void **state)
{
    (void)state;
    fault_remove();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_copy_under_load_is_the_store_as_of_its_end),
        cmocka_unit_test(test_a_copy_is_one_file_for_its_owner),
        cmocka_unit_test(test_nothing_is_overwritten),
        cmocka_unit_test_teardown(test_a_batch_that_did_not_fit_is_not_in_the_copy, remove_faults),
        cmocka_unit_test_teardown(test_a_copy_on_a_failing_disk_is_whole_or_not_there, remove_faults),
        cmocka_unit_test(test_a_copy_that_is_cancelled_leaves_nothing),
        cmocka_unit_test(test_a_half_that_was_left_behind_is_in_nobodys_way),
        cmocka_unit_test(test_a_copy_to_nowhere_is_refused_with_the_reason),
        cmocka_unit_test(test_a_restored_copy_has_an_identity_of_its_own),
        cmocka_unit_test(test_a_restored_copy_is_refused_while_the_old_log_is_there),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

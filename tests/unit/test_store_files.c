/*
 * The layer between SQLite and its VFS: what was gathered is seen by reads, covered by syncs, and what of it failed is
 * told where it is heeded. What a whole store makes of it: test_store_faults, test_crash_store.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "broker/store_sqlite.h"
#include "support/fault_vfs.h"
#include "support/store_world.h"

#include "common/check.h"

#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PIECE_SIZE 4096
#define PIECE_COUNT 100

static struct scene {
    char *directory;
    char path[256];
    struct store_files *files;
    sqlite3_vfs *vfs;
    sqlite3_file *file;
} scene;

static int scene_open(void **state)
{
    (void)state;
    fault_install();
    scene.directory = world_directory();
    /* SQLite's open takes a name that two zero bytes end. */
    memset(scene.path, 0, sizeof scene.path);
    snprintf(scene.path, sizeof scene.path - 1, "%s/quern.db", scene.directory);
    scene.files = store_files_open(false);
    scene.vfs = sqlite3_vfs_find(store_files_name(scene.files));
    CHECK(scene.vfs != NULL);
    scene.file = calloc(1, (size_t)scene.vfs->szOsFile);
    CHECK(scene.file != NULL);
    int flags = SQLITE_OPEN_MAIN_DB | SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE;
    return scene.vfs->xOpen(scene.vfs, scene.path, scene.file, flags, &flags);
}

static int scene_close(void **state)
{
    (void)state;
    fault_disarm();
    scene.file->pMethods->xClose(scene.file);
    free(scene.file);
    store_files_close(&scene.files);
    world_remove(&scene.directory);
    fault_remove();
    return 0;
}

static int piece_write(size_t number, char byte)
{
    char piece[PIECE_SIZE];
    memset(piece, byte, sizeof piece);
    return scene.file->pMethods->xWrite(scene.file, piece, PIECE_SIZE, (sqlite3_int64)number * PIECE_SIZE);
}

static char piece_read(size_t number)
{
    char piece[PIECE_SIZE];
    assert_int_equal(scene.file->pMethods->xRead(scene.file, piece, PIECE_SIZE, (sqlite3_int64)number * PIECE_SIZE),
                     SQLITE_OK);
    return piece[PIECE_SIZE - 1];
}

static int sync_file(void)
{
    return scene.file->pMethods->xSync(scene.file, SQLITE_SYNC_NORMAL);
}

static void pieces_write(size_t count)
{
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(piece_write(i, (char)('a' + i % 26)), SQLITE_OK);
    }
}

static void test_writes_that_follow_one_another_go_to_the_disk_as_few(void **state)
{
    (void)state;
    fault_arm(FAULT_FULL, 6, false);
    pieces_write(PIECE_COUNT);
    assert_int_equal(sync_file(), SQLITE_OK);
    assert_false(fault_hit());
    for (size_t i = 0; i < PIECE_COUNT; i++) {
        assert_int_equal(piece_read(i), 'a' + i % 26);
    }
}

static void test_a_read_and_a_size_see_what_was_written_last(void **state)
{
    (void)state;
    sqlite3_int64 size = 0;
    pieces_write(3);
    assert_int_equal(piece_write(1, 'x'), SQLITE_OK);
    assert_int_equal(piece_read(1), 'x');
    assert_int_equal(piece_write(3, 'y'), SQLITE_OK);
    assert_int_equal(scene.file->pMethods->xFileSize(scene.file, &size), SQLITE_OK);
    assert_int_equal(size, 4 * PIECE_SIZE);
    assert_int_equal(piece_write(4, 'z'), SQLITE_OK);
    assert_int_equal(scene.file->pMethods->xTruncate(scene.file, 4 * PIECE_SIZE), SQLITE_OK);
    assert_int_equal(sync_file(), SQLITE_OK);
    assert_int_equal(scene.file->pMethods->xFileSize(scene.file, &size), SQLITE_OK);
    assert_int_equal(size, 4 * PIECE_SIZE);
}

/* SQLite heeds what a write and a sync say. */
static void test_what_failed_is_told_by_the_next_write_or_sync_and_once(void **state)
{
    (void)state;
    for (int by_write = 0; by_write <= 1; by_write++) {
        pieces_write(2);
        fault_arm(FAULT_FULL, 1, false);
        assert_int_equal(by_write ? piece_write(9, 'x') : sync_file(), SQLITE_FULL);
        assert_true(fault_hit());
        fault_disarm();
        pieces_write(2);
        assert_int_equal(sync_file(), SQLITE_OK);
        assert_int_equal(piece_read(1), 'b');
    }
}

/* SQLite does not heed what a hint or the truncation of a log says. */
static void test_what_failed_before_a_truncation_is_told_again_by_the_sync(void **state)
{
    (void)state;
    pieces_write(2);
    fault_arm(FAULT_FULL, 1, false);
    sqlite3_int64 hint = PIECE_SIZE * 2;
    (void)scene.file->pMethods->xFileControl(scene.file, SQLITE_FCNTL_SIZE_HINT, &hint);
    (void)scene.file->pMethods->xTruncate(scene.file, PIECE_SIZE * 2);
    assert_true(fault_hit());
    fault_disarm();
    assert_int_equal(sync_file(), SQLITE_FULL);
    assert_int_equal(store_files_syncs(scene.files), 0);
    assert_int_equal(sync_file(), SQLITE_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_writes_that_follow_one_another_go_to_the_disk_as_few, scene_open,
                                        scene_close),
        cmocka_unit_test_setup_teardown(test_a_read_and_a_size_see_what_was_written_last, scene_open, scene_close),
        cmocka_unit_test_setup_teardown(test_what_failed_is_told_by_the_next_write_or_sync_and_once, scene_open,
                                        scene_close),
        cmocka_unit_test_setup_teardown(test_what_failed_before_a_truncation_is_told_again_by_the_sync, scene_open,
                                        scene_close),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/*
 * Opening the store: who is refused and with which words, what an older or a copied store becomes. A wrong refusal
 * costs a start, a wrong acceptance costs the data.
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

#include <errno.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char *path_in(const char *directory, const char *name)
{
    char *path = NULL;
    CHECK(asprintf(&path, "%s/%s", directory, name) > 0);
    return path;
}

/* Open what is expected to be refused; the sentence must contain all these words. */
static void expect_refused(const char *path, enum quern_err wanted, const char *const words[], size_t count)
{
    struct limits limits = world_limits();
    struct store_facts facts;
    struct store *store = NULL;
    char *why = NULL;
    enum quern_err err = store_open(path, &limits, &store, &facts, &why);
    assert_int_equal(err, wanted);
    assert_null(store);
    assert_non_null(why);
    for (size_t i = 0; i < count; i++) {
        if (strstr(why, words[i]) == NULL) {
            fail_msg("\"%s\" does not say \"%s\"", why, words[i]);
        }
    }
    free(why);
}

#define EXPECT_REFUSED(path, err, ...)                                                                                 \
    do {                                                                                                               \
        const char *const words[] = {__VA_ARGS__};                                                                     \
        expect_refused(path, err, words, sizeof words / sizeof words[0]);                                              \
    } while (0)

static void write_file(const char *path, const void *p, size_t n)
{
    FILE *file = fopen(path, "wb");
    CHECK(file != NULL);
    CHECK(n == 0 || fwrite(p, n, 1, file) == 1);
    CHECK(fclose(file) == 0);
}

static void copy_file(const char *from, const char *to)
{
    struct stat st;
    FILE *file = fopen(from, "rb");
    CHECK(file != NULL && stat(from, &st) == 0);
    char *bytes = xmalloc((size_t)st.st_size);
    CHECK(fread(bytes, (size_t)st.st_size, 1, file) == 1);
    fclose(file);
    write_file(to, bytes, (size_t)st.st_size);
    free(bytes);
}

static void run_sql(const char *path, const char *sql)
{
    sqlite3 *db = NULL;
    CHECK(sqlite3_open(path, &db) == SQLITE_OK);
    int code = sqlite3_exec(db, sql, NULL, NULL, NULL);
    CHECK_THAT(code == SQLITE_OK, "%s", sqlite3_errmsg(db));
    CHECK(sqlite3_close(db) == SQLITE_OK);
}

/* A store with three batches in it, closed cleanly. */
static void make_store(const char *directory, struct store_facts *facts)
{
    struct store *store = world_open(directory, facts);
    for (uint32_t i = 1; i <= 3; i++) {
        assert_int_equal(world_apply(store, facts->epoch, i), STORE_OK);
    }
    store_close(&store, true);
}

/* Two brokers on one store would each undo what the other promised. */
static void test_a_second_opener_is_refused_and_named_the_first(void **state)
{
    (void)state;
    char *directory = world_directory();
    char *path = path_in(directory, "quern.db");
    struct store *store = world_open(directory, NULL);
    char pid[32];
    snprintf(pid, sizeof pid, "pid %ld", (long)getpid());
    EXPECT_REFUSED(path, QUERN_IN_USE, path, pid);
    store_close(&store, true);
    store = world_open(directory, NULL);
    store_close(&store, true);
    free(path);
    world_remove(&directory);
}

/* Also under another name: the lock belongs to the file, not to the words it was asked for with. */
static void test_a_symbolic_link_leads_to_the_same_lock(void **state)
{
    (void)state;
    char *directory = world_directory();
    char *path = path_in(directory, "quern.db");
    char *link = path_in(directory, "other.db");
    CHECK(symlink("quern.db", link) == 0);
    struct store *store = world_open(directory, NULL);
    EXPECT_REFUSED(link, QUERN_IN_USE, path);
    store_close(&store, true);
    free(path);
    free(link);
    world_remove(&directory);
}

/* The inode of the log; 0: there is none. */
static ino_t log_inode(const char *directory)
{
    struct stat st;
    char *path = path_in(directory, "quern.db-wal");
    ino_t inode = stat(path, &st) == 0 ? st.st_ino : 0;
    free(path);
    return inode;
}

/* In a child (POSIX locks do not hold within one process): read from the store, say so, keep it until told to end. */
static void hold_open(const char *path, int ready, int done)
{
    sqlite3 *db = NULL;
    char byte = 0;
    CHECK(sqlite3_open(path, &db) == SQLITE_OK);
    CHECK(sqlite3_exec(db, "BEGIN; SELECT count(*) FROM task", NULL, NULL, NULL) == SQLITE_OK);
    CHECK(write(ready, "r", 1) == 1);
    CHECK(read(done, &byte, 1) >= 0);
    _exit(0);
}

/* Somebody who looks into the file with SQLite's own tool would be in the way of the log, and the log must not be
 * renewed under him. */
static void test_a_store_that_another_program_has_open_is_refused(void **state)
{
    (void)state;
    for (int is_clean = 0; is_clean < 2; is_clean++) {
        char *directory = world_directory();
        char *path = path_in(directory, "quern.db");
        struct store_facts facts;
        struct store *store = world_open(directory, &facts);
        assert_int_equal(world_apply(store, facts.epoch, 1), STORE_OK);
        store_close(&store, is_clean);
        int ready[2];
        int done[2];
        char byte;
        CHECK(pipe(ready) == 0 && pipe(done) == 0);
        pid_t child = fork();
        if (child == 0) {
            close(done[1]);
            hold_open(path, ready[1], done[0]);
        }
        CHECK(read(ready[0], &byte, 1) == 1);
        ino_t before = log_inode(directory);
        EXPECT_REFUSED(path, QUERN_IN_USE, path, "in use");
        assert_true(log_inode(directory) == before);
        close(done[1]);
        waitpid(child, NULL, 0);
        close(done[0]);
        close(ready[0]);
        close(ready[1]);
        store = world_open(directory, NULL);
        struct task_row row;
        assert_int_equal(store_task(store, id_make(3, 4), &row), QUERN_OK);
        store_close(&store, true);
        free(path);
        world_remove(&directory);
    }
}

static void test_a_missing_directory_is_named(void **state)
{
    (void)state;
    char *directory = world_directory();
    char *path = path_in(directory, "nowhere/quern.db");
    char *missing = path_in(directory, "nowhere");
    EXPECT_REFUSED(path, QUERN_IO, missing, "No such file", "create it");
    free(path);
    free(missing);
    world_remove(&directory);
}

static void test_what_is_no_regular_file_is_refused(void **state)
{
    (void)state;
    char *directory = world_directory();
    char *path = path_in(directory, "quern.db");
    CHECK(mkdir(path, 0700) == 0);
    EXPECT_REFUSED(path, QUERN_DENIED, path, "regular file");
    CHECK(rmdir(path) == 0);
    CHECK(symlink("/nowhere/at/all", path) == 0);
    EXPECT_REFUSED(path, QUERN_DENIED, path, "regular file");
    free(path);
    world_remove(&directory);
}

static void test_a_file_of_another_user_is_refused(void **state)
{
    (void)state;
    if (geteuid() != 0) {
        print_message("skipped: only root can give a file away\n");
        skip();
    }
    char *directory = world_directory();
    char *path = path_in(directory, "quern.db");
    write_file(path, "", 0);
    CHECK(chown(path, 12345, 12345) == 0);
    EXPECT_REFUSED(path, QUERN_DENIED, "12345", "owner");
    free(path);
    world_remove(&directory);
}

static void test_file_systems_without_reliable_locks_are_known(void **state)
{
    (void)state;
    assert_string_equal(disk_refuses(0x6969), "NFS");
    assert_string_equal(disk_refuses(0xff534d42), "CIFS");
    assert_string_equal(disk_refuses(0x01021997), "9P");
    assert_string_equal(disk_refuses(0x65735546), "FUSE");
    assert_null(disk_refuses(0xef53));     /* ext4 */
    assert_null(disk_refuses(0x58465342)); /* xfs */
    assert_null(disk_refuses(0x9123683e)); /* btrfs */
    assert_null(disk_refuses(0x01021994)); /* tmpfs */
    assert_null(disk_refuses(0x794c7630)); /* overlayfs */
}

static void test_a_newer_store_is_refused_and_left_alone(void **state)
{
    (void)state;
    char *directory = world_directory();
    char *path = path_in(directory, "quern.db");
    struct store_facts facts;
    make_store(directory, &facts);
    char sql[64];
    snprintf(sql, sizeof sql, "PRAGMA user_version = %u", schema_step_count + 1);
    run_sql(path, sql);
    EXPECT_REFUSED(path, QUERN_VERSION, path, "newer quern");
    snprintf(sql, sizeof sql, "PRAGMA user_version = %u", schema_step_count);
    run_sql(path, sql);
    struct store_facts again;
    struct store *store = world_open(directory, &again);
    assert_int_equal(again.epoch, facts.epoch + 1); /* the refused opening took none */
    store_close(&store, true);
    free(path);
    world_remove(&directory);
}

static void test_a_database_of_another_program_is_refused_and_left_alone(void **state)
{
    (void)state;
    char *directory = world_directory();
    char *path = path_in(directory, "quern.db");
    run_sql(path, "CREATE TABLE recipes (name TEXT); INSERT INTO recipes VALUES ('bread')");
    EXPECT_REFUSED(path, QUERN_MALFORMED, path, "some other program");
    run_sql(path, "PRAGMA application_id = 77");
    EXPECT_REFUSED(path, QUERN_MALFORMED, path, "some other program");
    run_sql(path, "UPDATE recipes SET name = 'cake' WHERE name = 'bread'; DROP TABLE recipes");
    free(path);
    world_remove(&directory);
}

static void test_garbage_is_refused(void **state)
{
    (void)state;
    char *directory = world_directory();
    char *path = path_in(directory, "quern.db");
    char garbage[9000];
    for (size_t i = 0; i < sizeof garbage; i++) {
        garbage[i] = (char)(i * 37 + (i >> 7));
    }
    write_file(path, garbage, sizeof garbage);
    EXPECT_REFUSED(path, QUERN_MALFORMED, path, "is not a quern store");
    write_file(path, "hello\n", 6);
    EXPECT_REFUSED(path, QUERN_MALFORMED, path, "is not a quern store");
    free(path);
    world_remove(&directory);
}

static void test_a_truncated_store_is_refused(void **state)
{
    (void)state;
    char *directory = world_directory();
    char *path = path_in(directory, "quern.db");
    struct store_facts facts;
    make_store(directory, &facts);
    struct stat st;
    CHECK(stat(path, &st) == 0);
    for (off_t size = st.st_size / 2; size > 100; size /= 3) {
        CHECK(truncate(path, size) == 0);
        EXPECT_REFUSED(path, QUERN_MALFORMED, path);
    }
    free(path);
    world_remove(&directory);
}

/* After an unclean end the whole file is looked through, also pages that a start does not read. */
static void test_damage_is_found_after_an_unclean_end(void **state)
{
    (void)state;
    char *directory = world_directory();
    char *path = path_in(directory, "quern.db");
    struct store_facts facts;
    make_store(directory, &facts);
    run_sql(path, "UPDATE meta SET is_clean = 0; PRAGMA wal_checkpoint(TRUNCATE)");
    struct stat st;
    CHECK(stat(path, &st) == 0);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    char zeros[STORE_PAGE_SIZE] = {0};
    for (off_t at = 12 * STORE_PAGE_SIZE; at < st.st_size; at += STORE_PAGE_SIZE) {
        CHECK(pwrite(fd, zeros, sizeof zeros, at) == sizeof zeros);
    }
    close(fd);
    EXPECT_REFUSED(path, QUERN_MALFORMED, path);
    free(path);
    world_remove(&directory);
}

/* A crash right after the file was made leaves it empty: that is a new store, not a damaged one. */
static void test_an_empty_file_becomes_a_store(void **state)
{
    (void)state;
    char *directory = world_directory();
    char *path = path_in(directory, "quern.db");
    write_file(path, "", 0);
    struct store_facts facts;
    struct store *store = world_open(directory, &facts);
    assert_true(facts.is_new);
    assert_false(uuid_is_zero(&facts.uuid));
    assert_int_equal(world_apply(store, facts.epoch, 1), STORE_OK);
    store_close(&store, true);
    run_sql(path, "SELECT 1 FROM task");
    free(path);
    world_remove(&directory);
}

/* Nobody else reads what tasks carry. */
static void test_files_are_for_their_owner_alone(void **state)
{
    (void)state;
    char *directory = world_directory();
    mode_t mask = umask(0);
    struct store *store = world_open(directory, NULL);
    assert_int_equal(umask(mask), 0); /* and the caller's mask is as it was */
    const char *const names[] = {"quern.db", "quern.db-wal", "quern.db.lock"};
    for (size_t i = 0; i < 3; i++) {
        struct stat st;
        char *path = path_in(directory, names[i]);
        CHECK(stat(path, &st) == 0);
        assert_int_equal(st.st_mode & 0077, 0);
        free(path);
    }
    store_close(&store, true);
    world_remove(&directory);
}

/* ---- identity ---- */

/* A copy must not speak for the store that workers know. */
static void test_a_copied_store_gets_a_new_identity(void **state)
{
    (void)state;
    char *directory = world_directory();
    char *path = path_in(directory, "quern.db");
    char *copy = path_in(directory, "copy.db");
    struct store_facts facts;
    make_store(directory, &facts);
    copy_file(path, copy);
    CHECK(rename(copy, path) == 0);
    struct store_facts again;
    struct store *store = world_open(directory, &again);
    assert_false(uuid_equal(&again.uuid, &facts.uuid));
    assert_int_equal(again.epoch, facts.epoch + 1);
    store_close(&store, true);
    store = world_open(directory, &facts); /* and keeps it from then on */
    assert_true(uuid_equal(&again.uuid, &facts.uuid));
    store_close(&store, true);
    free(path);
    free(copy);
    world_remove(&directory);
}

/* Copied back into the same file: the inode is the same, but the lock file remembers a later life. */
static void test_a_store_that_went_back_in_time_gets_a_new_identity(void **state)
{
    (void)state;
    char *directory = world_directory();
    char *path = path_in(directory, "quern.db");
    char *copy = path_in(directory, "copy.db");
    struct store_facts facts;
    make_store(directory, &facts);
    copy_file(path, copy);
    struct store *store = world_open(directory, &facts);
    store_close(&store, true);
    copy_file(copy, path);
    struct store_facts again;
    store = world_open(directory, &again);
    assert_false(uuid_equal(&again.uuid, &facts.uuid));
    store_close(&store, true);
    free(path);
    free(copy);
    world_remove(&directory);
}

static void test_a_renamed_store_keeps_its_identity(void **state)
{
    (void)state;
    char *directory = world_directory();
    char *other = path_in(directory, "moved");
    char *path = path_in(directory, "quern.db");
    char *moved = path_in(directory, "moved/quern.db");
    CHECK(mkdir(other, 0700) == 0);
    struct store_facts facts;
    make_store(directory, &facts);
    CHECK(rename(path, moved) == 0);
    struct store_facts again;
    struct store *store = world_open(other, &again);
    assert_true(uuid_equal(&again.uuid, &facts.uuid));
    store_close(&store, true);
    free(path);
    free(moved);
    free(other);
    world_remove(&directory);
}

/* ---- migration ---- */

static int64_t one_number(const char *path, const char *sql)
{
    sqlite3 *db = NULL;
    sqlite3_stmt *statement = NULL;
    CHECK(sqlite3_open(path, &db) == SQLITE_OK);
    CHECK(sqlite3_prepare_v2(db, sql, -1, &statement, NULL) == SQLITE_OK);
    CHECK(sqlite3_step(statement) == SQLITE_ROW);
    int64_t number = sqlite3_column_int64(statement, 0);
    sqlite3_finalize(statement);
    CHECK(sqlite3_close(db) == SQLITE_OK);
    return number;
}

static void test_steps_bring_a_store_up_to_date_and_keep_a_copy(void **state)
{
    (void)state;
    char *directory = world_directory();
    char *path = path_in(directory, "quern.db");
    char *copy = path_in(directory, "quern.db.version-2");
    struct store_facts facts;
    struct store *store = world_open(directory, &facts);
    assert_int_equal(world_apply(store, facts.epoch, 1), STORE_OK);
    const char *const steps[] = {schema_steps[0], schema_steps[1], "ALTER TABLE call ADD COLUMN colour TEXT",
                                 "CREATE TABLE extra (id INTEGER PRIMARY KEY) STRICT"};
    char *why = NULL;
    assert_int_equal(schema_migrate(store, steps, 4, &why), QUERN_OK);
    assert_int_equal(schema_migrate(store, steps, 4, &why), QUERN_OK); /* nothing left to do */
    store_close(&store, true);
    assert_int_equal(one_number(path, "PRAGMA user_version"), 4);
    assert_int_equal(one_number(path, "SELECT count(colour) + (SELECT count(*) FROM extra) FROM call"), 0);
    assert_int_equal(one_number(path, "SELECT count(*) FROM task"), 4);
    assert_int_equal(one_number(copy, "PRAGMA user_version"), 2);
    assert_int_equal(one_number(copy, "SELECT count(*) FROM task"), 4);
    free(path);
    free(copy);
    world_remove(&directory);
}

static void test_a_step_that_fails_leaves_the_store_as_it_was(void **state)
{
    (void)state;
    char *directory = world_directory();
    char *path = path_in(directory, "quern.db");
    struct store *store = world_open(directory, NULL);
    const char *const steps[] = {schema_steps[0], schema_steps[1], "CREATE TABLE extra (id INTEGER PRIMARY KEY) STRICT",
                                 "CREATE TABLE task (id INTEGER PRIMARY KEY) STRICT"};
    char *why = NULL;
    assert_int_equal(schema_migrate(store, steps, 4, &why), QUERN_MALFORMED);
    assert_non_null(why);
    free(why);
    store_close(&store, true);
    assert_int_equal(one_number(path, "PRAGMA user_version"), 2);
    assert_int_equal(one_number(path, "SELECT count(*) FROM sqlite_schema WHERE name = 'extra'"), 0);
    store = world_open(directory, NULL);
    store_close(&store, true);
    free(path);
    world_remove(&directory);
}

/* Those of the first quern had no place for output. */
static void test_a_store_of_version_1_is_brought_up_to_date(void **state)
{
    (void)state;
    char *directory = world_directory();
    char *path = path_in(directory, "quern.db");
    char *copy = path_in(directory, "quern.db.version-1");
    struct store_facts facts;
    struct store *store = world_open(directory, &facts);
    assert_int_equal(world_apply(store, facts.epoch, 1), STORE_OK);
    assert_int_equal(world_apply(store, facts.epoch, 2), STORE_OK);
    store_close(&store, true);
    run_sql(path, "ALTER TABLE outcome DROP COLUMN output; ALTER TABLE failure DROP COLUMN output;"
                  "PRAGMA user_version = 1");
    store = world_open(directory, &facts);
    assert_int_equal(world_apply(store, facts.epoch, 3), STORE_OK);
    store_close(&store, true);
    assert_int_equal(one_number(path, "PRAGMA user_version"), schema_step_count);
    assert_int_equal(one_number(path, "SELECT count(*) FROM outcome WHERE output IS NULL") > 0, 1);
    assert_int_equal(one_number(copy, "PRAGMA user_version"), 1);
    free(path);
    free(copy);
    world_remove(&directory);
}

/* ---- somebody meddles ---- */

static void test_a_database_that_was_replaced_is_noticed(void **state)
{
    (void)state;
    char *directory = world_directory();
    char *path = path_in(directory, "quern.db");
    char *aside = path_in(directory, "aside.db");
    struct store *store = world_open(directory, NULL);
    struct store_stats stats;
    assert_int_equal(store_stats(store, &stats), QUERN_OK);
    CHECK(rename(path, aside) == 0);
    write_file(path, "", 0);
    assert_int_equal(store_stats(store, &stats), QUERN_OK); /* looks at most once a second */
    store->has_looked = false;
    assert_int_equal(store_stats(store, &stats), QUERN_IO);
    store_close(&store, false);
    free(path);
    free(aside);
    world_remove(&directory);
}

static void test_a_log_that_was_removed_is_noticed(void **state)
{
    (void)state;
    char *directory = world_directory();
    char *wal = path_in(directory, "quern.db-wal");
    struct store *store = world_open(directory, NULL);
    CHECK(unlink(wal) == 0);
    struct store_stats stats;
    assert_int_equal(store_stats(store, &stats), QUERN_IO);
    store_close(&store, false);
    free(wal);
    world_remove(&directory);
}

/* ---- an opening on a failing disk ---- */

static void open_under_fault(const char *directory, enum fault_kind kind, uint64_t at, bool forever, bool *hit_out)
{
    char *path = path_in(directory, "quern.db");
    struct limits limits = world_limits();
    struct store_facts facts;
    struct store *store = NULL;
    char *why = NULL;
    fault_arm(kind, at, forever);
    enum quern_err err = store_open(path, &limits, &store, &facts, &why);
    *hit_out = fault_hit();
    fault_disarm();
    if (err == QUERN_OK) {
        assert_int_equal(world_apply(store, facts.epoch, 4), STORE_OK);
    } else {
        assert_null(store);
        assert_non_null(why);
        assert_true(err == QUERN_IO || err == QUERN_MALFORMED);
        free(why);
    }
    store_close(&store, err == QUERN_OK);
    free(path);
}

/* Whatever fails while a store is opened, the next opening finds what was there. */
static void test_an_opening_that_fails_at_any_operation_loses_nothing(void **state)
{
    (void)state;
    static const enum fault_kind kinds[] = {FAULT_FULL,        FAULT_IO_WRITE,    FAULT_IO_SYNC,
                                            FAULT_IO_READ,     FAULT_SHORT_WRITE, FAULT_IO_OPEN,
                                            FAULT_IO_TRUNCATE, FAULT_IO_DELETE,   FAULT_IO_LOCK};
    size_t hits = 0;
    fault_install();
    for (size_t k = 0; k < sizeof kinds / sizeof kinds[0]; k++) {
        for (int mode = 0; mode < 4; mode++) { /* new or not, once or for ever */
            bool is_hit = true;
            for (uint64_t at = 1; is_hit; at += fault_stride()) {
                char *directory = world_directory();
                struct store_facts facts;
                if (mode % 2 == 0) {
                    make_store(directory, &facts);
                }
                open_under_fault(directory, kinds[k], at, mode >= 2, &is_hit);
                struct store *store = world_open(directory, &facts);
                struct task_row row;
                assert_int_equal(store_task(store, id_make(3, 4), &row), mode % 2 == 0 ? QUERN_OK : QUERN_UNKNOWN);
                assert_int_equal(world_apply(store, facts.epoch, 5), STORE_OK);
                store_close(&store, true);
                world_remove(&directory);
                hits += is_hit;
            }
        }
    }
    fault_remove();
    assert_true(hits > 40 || fault_stride() > 1);
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
        cmocka_unit_test(test_a_second_opener_is_refused_and_named_the_first),
        cmocka_unit_test(test_a_symbolic_link_leads_to_the_same_lock),
        cmocka_unit_test(test_a_store_that_another_program_has_open_is_refused),
        cmocka_unit_test(test_a_missing_directory_is_named),
        cmocka_unit_test(test_what_is_no_regular_file_is_refused),
        cmocka_unit_test(test_a_file_of_another_user_is_refused),
        cmocka_unit_test(test_file_systems_without_reliable_locks_are_known),
        cmocka_unit_test(test_a_newer_store_is_refused_and_left_alone),
        cmocka_unit_test(test_a_database_of_another_program_is_refused_and_left_alone),
        cmocka_unit_test(test_garbage_is_refused),
        cmocka_unit_test(test_a_truncated_store_is_refused),
        cmocka_unit_test(test_damage_is_found_after_an_unclean_end),
        cmocka_unit_test(test_an_empty_file_becomes_a_store),
        cmocka_unit_test(test_files_are_for_their_owner_alone),
        cmocka_unit_test(test_a_copied_store_gets_a_new_identity),
        cmocka_unit_test(test_a_store_that_went_back_in_time_gets_a_new_identity),
        cmocka_unit_test(test_a_renamed_store_keeps_its_identity),
        cmocka_unit_test(test_steps_bring_a_store_up_to_date_and_keep_a_copy),
        cmocka_unit_test(test_a_step_that_fails_leaves_the_store_as_it_was),
        cmocka_unit_test(test_a_store_of_version_1_is_brought_up_to_date),
        cmocka_unit_test(test_a_database_that_was_replaced_is_noticed),
        cmocka_unit_test(test_a_log_that_was_removed_is_noticed),
        cmocka_unit_test_teardown(test_an_opening_that_fails_at_any_operation_loses_nothing, remove_faults),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

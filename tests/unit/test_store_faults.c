/*
 * The store on failing disks (power losses: crash/test_crash_store.c): whatever was reported as committed is there
 * after any crash, and nothing is half there. The verdict says what is known: FULL (not applied), UNKNOWN (stop), never
 * OK for what is not on disk.
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
#include <inttypes.h>
#include <sched.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#define BATCH_COUNT 12u
/* So small that the workload above copies its log several times. */
#define CHECKPOINT_PAGES 30

static char **expected;

static int make_expected(void **state)
{
    (void)state;
    expected = world_expected(BATCH_COUNT);
    return 0;
}

static int free_expected(void **state)
{
    (void)state;
    world_expected_free(&expected, BATCH_COUNT);
    return 0;
}

static int remove_faults(void **state)
{
    (void)state;
    fault_remove();
    return 0;
}

static void expect_whole(struct store *store)
{
    sqlite3_stmt *statement = NULL;
    CHECK(sqlite3_prepare_v2(store->db, "PRAGMA integrity_check", -1, &statement, NULL) == SQLITE_OK);
    assert_int_equal(sqlite3_step(statement), SQLITE_ROW);
    assert_string_equal(sqlite3_column_text(statement, 0), "ok");
    sqlite3_finalize(statement);
}

/* Open after the crash: all that was reported is there, at most one batch more, nothing by halves. How many batches. */
static uint32_t expect_prefix(const char *directory, uint32_t reported, const char *when)
{
    struct store *store = world_open(directory, NULL);
    expect_whole(store);
    char *dump = world_dump(store);
    uint32_t found = reported;
    if (strcmp(dump, expected[reported]) != 0) {
        found = reported + 1;
        if (found > BATCH_COUNT || strcmp(dump, expected[found]) != 0) {
            fail_msg("%s: not what %u or %u batches leave", when, reported, found);
        }
    }
    free(dump);
    store_close(&store, true);
    return found;
}

/* ---- one operation fails ---- */

struct run {
    uint32_t reported;
    uint32_t full;
    bool is_unknown;
};

/* Apply all batches; a FULL one again, at most twice more. */
static struct run run_workload(const char *directory, enum fault_kind kind, uint64_t at, bool forever)
{
    struct run run = {0};
    struct store_facts facts;
    struct store *store = world_open(directory, &facts);
    store->checkpoint_pages = CHECKPOINT_PAGES;
    fault_arm(kind, at, forever);
    uint32_t tries = 0;
    while (run.reported < BATCH_COUNT && !run.is_unknown && tries < 3) {
        enum store_verdict verdict = world_apply(store, facts.epoch, run.reported + 1);
        switch (verdict) {
        case STORE_OK:
            run.reported++;
            tries = 0;
            break;
        case STORE_FULL:
            run.full++;
            tries++;
            break;
        case STORE_UNKNOWN:
            run.is_unknown = true;
            break;
        case STORE_FENCED:
            fail_msg("fenced");
        }
    }
    if (run.is_unknown) { /* and nothing further is taken */
        assert_int_equal(world_apply(store, facts.epoch, run.reported + 1), STORE_UNKNOWN);
    }
    store_close(&store, false);
    return run;
}

/* The N-th operation of a kind fails, for every N until none is left. */
static uint64_t fail_each(enum fault_kind kind, bool forever, void (*check)(const struct run *run, bool is_hit))
{
    bool is_hit = true;
    uint64_t at;
    fault_install();
    for (at = 1; is_hit; at += fault_stride()) {
        char *directory = world_directory();
        struct run run = run_workload(directory, kind, at, forever);
        is_hit = fault_hit();
        fault_disarm();
        check(&run, is_hit);
        char when[64];
        snprintf(when, sizeof when, "failure at %" PRIu64, at);
        expect_prefix(directory, run.reported, when);
        world_remove(&directory);
    }
    fault_remove();
    return at;
}

/* The same for a kind that every batch needs. */
static void fail_every(enum fault_kind kind, bool forever, void (*check)(const struct run *run, bool is_hit))
{
    assert_true(fail_each(kind, forever, check) > BATCH_COUNT);
}

static void check_full_once(const struct run *run, bool is_hit)
{
    (void)is_hit;
    assert_false(run->is_unknown);
    assert_true(run->full <= 1); /* none: it hit the copying of the log, which can wait */
    assert_int_equal(run->reported, BATCH_COUNT);
}

static void check_full_forever(const struct run *run, bool is_hit)
{
    assert_false(run->is_unknown);
    assert_int_equal(run->full, is_hit && run->reported < BATCH_COUNT ? 3 : 0);
}

static void check_unknown(const struct run *run, bool is_hit)
{
    assert_int_equal(run->full, 0);
    /* The last batches' log may be left uncopied, so a failure there can pass unseen only after all were reported. */
    assert_true(run->is_unknown == is_hit || (is_hit && run->reported == BATCH_COUNT));
}

static void test_a_write_that_finds_the_disk_full_once_delays_its_batch(void **state)
{
    (void)state;
    fail_every(FAULT_FULL, false, check_full_once);
}

/* Nothing of it is on disk, and room may be made: as with a full disk. */
static void test_a_used_up_quota_is_a_full_disk(void **state)
{
    (void)state;
    fail_every(FAULT_QUOTA, false, check_full_once);
}

static void test_a_disk_that_stays_full_keeps_what_was_reported(void **state)
{
    (void)state;
    fail_every(FAULT_FULL, true, check_full_forever);
}

static void test_a_write_that_fails_stops_the_store(void **state)
{
    (void)state;
    fail_every(FAULT_IO_WRITE, false, check_unknown);
    fail_every(FAULT_IO_WRITE, true, check_unknown);
    fail_every(FAULT_SHORT_WRITE, false, check_unknown); /* half of it is there */
    fail_every(FAULT_SHORT_WRITE, true, check_unknown);
}

static void check_unknown_if_hit(const struct run *run, bool is_hit)
{
    assert_int_equal(run->full, 0);
    assert_true(!run->is_unknown || is_hit);
}

/* What is rarer than writes and syncs: reading a page back, cutting a log or a file, removing one, taking a lock. */
static void test_any_other_operation_that_fails_stops_the_store_or_does_not_matter(void **state)
{
    (void)state;
    static const enum fault_kind kinds[] = {FAULT_IO_READ, FAULT_IO_TRUNCATE, FAULT_IO_DELETE, FAULT_IO_LOCK,
                                            FAULT_IO_OPEN};
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        fail_each(kinds[i], false, check_unknown_if_hit);
        fail_each(kinds[i], true, check_unknown_if_hit);
    }
}

/* A failed sync is never tried again: the kernel may have dropped the pages and call the next one good. */
static void test_a_sync_that_fails_stops_the_store(void **state)
{
    (void)state;
    fail_every(FAULT_IO_SYNC, false, check_unknown);
    fail_every(FAULT_IO_SYNC, true, check_unknown);
}

/* After a failed sync Linux shows the bytes to whoever reads and never writes them. So what a restart has read from the
 * log, and is about to tell, must be on disk before it is told: power is lost right after the next opening. */
static void test_what_a_restart_reads_after_a_failed_sync_is_on_disk(void **state)
{
    (void)state;
    bool is_hit = true;
    fault_install();
    for (uint64_t at = 1; is_hit; at += fault_stride()) {
        char *directory = world_directory();
        char *image = world_directory();
        fault_watch(NULL, NULL);
        struct run run = run_workload(directory, FAULT_IO_SYNC, at, false);
        is_hit = fault_hit();
        fault_disarm();
        struct store *store = world_open(directory, NULL);
        char *told = world_dump(store);
        fault_power_loss(image, 0);
        store_close(&store, false);
        fault_remove();
        assert_true(run.is_unknown || !is_hit || run.reported == BATCH_COUNT);
        store = world_open(image, NULL);
        char *found = world_dump(store);
        assert_string_equal(found, told);
        free(found);
        free(told);
        store_close(&store, false);
        world_remove(&image);
        world_remove(&directory);
        fault_install();
    }
    fault_remove();
}

/* After a failure the end writes nothing more: no clean mark, no last copying of the log. */
static void test_a_failed_store_is_closed_without_a_further_write(void **state)
{
    (void)state;
    char *directory = world_directory();
    struct store_facts facts;
    fault_install();
    struct store *store = world_open(directory, &facts);
    assert_int_equal(world_apply(store, facts.epoch, 1), STORE_OK);
    fault_arm(FAULT_IO_SYNC, 1, false);
    assert_int_equal(world_apply(store, facts.epoch, 2), STORE_UNKNOWN);
    fault_arm(FAULT_IO_WRITE, 1, true);
    store_close(&store, true);
    assert_false(fault_hit());
    fault_arm(FAULT_IO_SYNC, 1, true);
    fault_remove();
    store = world_open(directory, &facts);
    assert_false(facts.was_clean);
    store_close(&store, true);
    world_remove(&directory);
}

/* ---- kill -9 ---- */

static void commit_and_report(const char *directory, int out)
{
    struct store_facts facts;
    struct store *store = world_open(directory, &facts);
    store->checkpoint_pages = CHECKPOINT_PAGES;
    for (uint32_t i = 1; i <= BATCH_COUNT; i++) {
        if (world_apply(store, facts.epoch, i) != STORE_OK || write(out, &i, sizeof i) != sizeof i) {
            _exit(1);
        }
    }
    for (;;) { /* until the kill comes */
        pause();
    }
}

/* The reports that came, after at least so many the kill. */
static uint32_t kill_after(const char *directory, uint32_t enough)
{
    int pipe_fds[2];
    CHECK(pipe(pipe_fds) == 0);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        close(pipe_fds[0]);
        commit_and_report(directory, pipe_fds[1]);
    }
    close(pipe_fds[1]);
    uint32_t last = 0;
    while (last < enough && read(pipe_fds[0], &last, sizeof last) == sizeof last) {
    }
    CHECK(kill(child, SIGKILL) == 0);
    while (read(pipe_fds[0], &last, sizeof last) == sizeof last) {
    }
    close(pipe_fds[0]);
    int status;
    CHECK(waitpid(child, &status, 0) == child);
    assert_true(WIFSIGNALED(status));
    return last;
}

static void test_kill_9_loses_nothing_reported(void **state)
{
    (void)state;
    uint32_t midway = 0;
    for (uint32_t i = 0; i < 3 * BATCH_COUNT; i++) {
        char *directory = world_directory();
        uint32_t last = kill_after(directory, 1 + i % BATCH_COUNT);
        midway += last < BATCH_COUNT;
        expect_prefix(directory, last, "kill -9");
        world_remove(&directory);
    }
    print_message("%u of %u kills hit before the end\n", midway, 3 * BATCH_COUNT);
    assert_true(midway > 0);
}

/* ---- a disk that is really full ---- */

static bool write_text(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    bool done = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);
    if (fd >= 0) {
        close(fd);
    }
    return done;
}

/* A small file system of our own, seen by this process alone; needs no root where user namespaces are allowed. */
static bool mount_small(const char *directory, const char *options)
{
    char map[64];
    snprintf(map, sizeof map, "0 %u 1", (unsigned)geteuid());
    if (unshare(CLONE_NEWNS) != 0) {
        if (unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0 || !write_text("/proc/self/setgroups", "deny") ||
            !write_text("/proc/self/uid_map", map)) {
            return false;
        }
    }
    return mount("none", "/", "none", MS_REC | MS_PRIVATE, NULL) == 0 &&
           mount("tmpfs", directory, "tmpfs", 0, options) == 0;
}

#define FILLER_SIZE (1024u * 1024u)
#define TASK_ARGS_SIZE 50000u

static uint8_t args[TASK_ARGS_SIZE];

static enum store_verdict submit(struct store *store, uint32_t epoch, uint64_t id)
{
    struct change change = {
        .kind = CHANGE_TASK,
        .task = {.id = id, .session = 1, .call = 1, .state = 3, .args = bytes_of(args, sizeof args)}};
    return store_apply(store, epoch, &change, 1);
}

/* Until it is full; the id that did not fit. *with_ballast_out: how many fitted only because the ballast went. */
static uint64_t submit_until_full(struct store *store, uint32_t epoch, uint64_t *with_ballast_out)
{
    struct store_stats stats;
    *with_ballast_out = 0;
    for (uint64_t id = 1;; id++) {
        enum store_verdict verdict = submit(store, epoch, id);
        CHECK(store_stats(store, &stats) == QUERN_OK);
        if (verdict == STORE_FULL) {
            return id;
        }
        CHECK(verdict == STORE_OK);
        *with_ballast_out += stats.ballast_given_up;
        CHECK(id < 1000);
    }
}

static void look_again(struct store *store, struct store_stats *stats)
{
    store->has_looked = false; /* once a second is too slow for a test */
    CHECK(store_stats(store, stats) == QUERN_OK);
}

/* Plain checks: it runs in a child, where cmocka's would not be heard. */
static void fill_the_disk(const char *directory)
{
    char path[4096];
    char filler[4096];
    struct limits limits = world_limits();
    limits.ballast_bytes = 512 * KIB;
    limits.wal_bytes_max = 256 * KIB;
    limits.disk_reserve_bytes = 256 * KIB;
    snprintf(path, sizeof path, "%s/quern.db", directory);
    snprintf(filler, sizeof filler, "%s/filler", directory);
    int fd = open(filler, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    CHECK(fd >= 0 && posix_fallocate(fd, 0, 2 * FILLER_SIZE) == 0);
    CHECK(close(fd) == 0);

    struct store *store = NULL;
    struct store_facts facts;
    struct store_stats stats;
    char *why = NULL;
    CHECK_THAT(store_open(path, &limits, &store, &facts, &why) == QUERN_OK, "%s", why);
    look_again(store, &stats);
    CHECK(!stats.disk_low && !stats.ballast_given_up);

    uint64_t with_ballast;
    uint64_t id = submit_until_full(store, facts.epoch, &with_ballast);
    CHECK_THAT(with_ballast > 0, "full at %" PRIu64, id);
    look_again(store, &stats);
    CHECK(stats.disk_low && stats.ballast_given_up);
    CHECK(submit(store, facts.epoch, id) == STORE_FULL); /* it stays full, and says so again */

    CHECK(unlink(filler) == 0);
    CHECK(submit(store, facts.epoch, id) == STORE_OK); /* the batch unchanged */
    look_again(store, &stats);
    CHECK(!stats.disk_low && !stats.ballast_given_up);
    CHECK(submit(store, facts.epoch, id + 1) == STORE_OK);
    store_close(&store, false);

    CHECK_THAT(store_open(path, &limits, &store, &facts, &why) == QUERN_OK, "%s", why);
    for (uint64_t i = 1; i <= id + 1; i++) {
        struct task_row row;
        CHECK(store_task(store, i, &row) == QUERN_OK && row.args.n == sizeof args);
    }
    store_close(&store, true);
}

/* A broker whose disk ran full while it was down can still start and finish what it has. */
static void open_on_a_full_disk(const char *directory)
{
    char path[4096];
    char filler[4096];
    struct limits limits = world_limits();
    limits.ballast_bytes = 256 * KIB;
    snprintf(path, sizeof path, "%s/again.db", directory);
    snprintf(filler, sizeof filler, "%s/filler", directory);
    struct store *store = NULL;
    struct store_facts facts;
    struct store_stats stats;
    char *why = NULL;
    CHECK_THAT(store_open(path, &limits, &store, &facts, &why) == QUERN_OK, "%s", why);
    CHECK(submit(store, facts.epoch, 1) == STORE_OK);
    store_close(&store, true);
    int fd = open(filler, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    CHECK(fd >= 0);
    while (write(fd, args, 4096) > 0) { /* to the last page */
    }
    CHECK(close(fd) == 0);
    CHECK_THAT(store_open(path, &limits, &store, &facts, &why) == QUERN_OK, "%s", why);
    look_again(store, &stats);
    CHECK(stats.disk_low && stats.ballast_given_up);
    struct change done = {.kind = CHANGE_OUTCOME, .had_task = true, .outcome = {.id = 1, .state = 7}};
    CHECK(store_apply(store, facts.epoch, &done, 1) == STORE_OK);
    store_close(&store, true);
    CHECK(unlink(filler) == 0 && unlink(path) == 0);
}

#define EXIT_CANNOT_MOUNT 77

static void test_a_full_disk_delays_and_loses_nothing(void **state)
{
    (void)state;
    char *directory = world_directory();
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        if (!mount_small(directory, "size=5m")) {
            _exit(EXIT_CANNOT_MOUNT);
        }
        open_on_a_full_disk(directory);
        fill_the_disk(directory);
        _exit(0);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child);
    world_remove(&directory);
    if (WIFEXITED(status) && WEXITSTATUS(status) == EXIT_CANNOT_MOUNT) {
        print_message("SKIPPED: cannot mount a small tmpfs here (neither root nor user namespaces)\n");
        skip();
    }
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_a_write_that_finds_the_disk_full_once_delays_its_batch, remove_faults),
        cmocka_unit_test_teardown(test_a_used_up_quota_is_a_full_disk, remove_faults),
        cmocka_unit_test_teardown(test_a_disk_that_stays_full_keeps_what_was_reported, remove_faults),
        cmocka_unit_test_teardown(test_a_write_that_fails_stops_the_store, remove_faults),
        cmocka_unit_test_teardown(test_a_sync_that_fails_stops_the_store, remove_faults),
        cmocka_unit_test_teardown(test_any_other_operation_that_fails_stops_the_store_or_does_not_matter,
                                  remove_faults),
        cmocka_unit_test_teardown(test_what_a_restart_reads_after_a_failed_sync_is_on_disk, remove_faults),
        cmocka_unit_test_teardown(test_a_failed_store_is_closed_without_a_further_write, remove_faults),
        cmocka_unit_test(test_kill_9_loses_nothing_reported),
        cmocka_unit_test(test_a_full_disk_delays_and_loses_nothing),
    };
    return cmocka_run_group_tests(tests, make_expected, free_expected);
}

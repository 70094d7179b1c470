/*
 * test_store_damage: what is damaged, or no store at all, is refused with what to do, whatever is damaged, without a
 * crash and without a write to it; and what `quern-broker --check` says of it. Start at
 * test_random_damage_never_crashes_a_start.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "support/store_world.h"

#include "broker/core.h"
#include "broker/store_sqlite.h"
#include "common/check.h"

#include <fcntl.h>
#include <inttypes.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define BATCH_COUNT 12u
#define RANDOM_COUNT_DEFAULT 300u

/* ---- files ---- */

static char *path_in(const char *directory, const char *name)
{
    char *path = NULL;
    CHECK(asprintf(&path, "%s/%s", directory, name) > 0);
    return path;
}

static struct buf file_read(const char *path)
{
    struct buf bytes = {0};
    struct stat st;
    FILE *file = fopen(path, "rb");
    if (file != NULL) {
        CHECK(fstat(fileno(file), &st) == 0);
        buf_reserve(&bytes, (size_t)st.st_size);
        bytes.n = fread(bytes.p, 1, (size_t)st.st_size, file);
        CHECK(fclose(file) == 0 && bytes.n == (size_t)st.st_size);
    }
    return bytes;
}

static void file_write(const char *path, const void *p, size_t n)
{
    FILE *file = fopen(path, "wb");
    CHECK(file != NULL && (n == 0 || fwrite(p, n, 1, file) == 1) && fclose(file) == 0);
}

static void bytes_write(const char *path, size_t at, const void *p, size_t n)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    CHECK(fd >= 0 && pwrite(fd, p, n, (off_t)at) == (ssize_t)n && close(fd) == 0);
}

static size_t file_size(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 ? (size_t)st.st_size : 0;
}

/* ---- a store ---- */

struct place {
    char *directory;
    char *db;
    char *wal;
    char *lock;
};

static struct place place_make(bool is_clean)
{
    struct place place = {.directory = world_directory()};
    struct store_facts facts;
    place.db = path_in(place.directory, "quern.db");
    place.wal = path_in(place.directory, "quern.db-wal");
    place.lock = path_in(place.directory, "quern.db.lock");
    struct store *store = world_open(place.directory, &facts);
    store->checkpoint_pages = 60;
    for (uint32_t i = 1; i <= BATCH_COUNT; i++) {
        assert_int_equal(world_apply(store, facts.epoch, i), STORE_OK);
        assert_int_equal(store_rest(store), QUERN_OK);
    }
    store_close(&store, is_clean);
    return place;
}

static void place_remove(struct place *place)
{
    free(place->db);
    free(place->wal);
    free(place->lock);
    world_remove(&place->directory);
}

/* Where the root page of a table is in the file. */
static size_t root_of(const struct place *place, const char *table)
{
    char sql[128];
    sqlite3 *db = NULL;
    sqlite3_stmt *statement = NULL;
    snprintf(sql, sizeof sql, "SELECT rootpage FROM sqlite_schema WHERE name = '%s'", table);
    CHECK(sqlite3_open(place->db, &db) == SQLITE_OK);
    CHECK(sqlite3_prepare_v2(db, sql, -1, &statement, NULL) == SQLITE_OK && sqlite3_step(statement) == SQLITE_ROW);
    size_t page = (size_t)sqlite3_column_int64(statement, 0);
    sqlite3_finalize(statement);
    CHECK(sqlite3_close(db) == SQLITE_OK);
    return (page - 1) * STORE_PAGE_SIZE;
}

static void run_sql(const char *path, const char *sql)
{
    sqlite3 *db = NULL;
    CHECK(sqlite3_open(path, &db) == SQLITE_OK);
    CHECK_THAT(sqlite3_exec(db, sql, NULL, NULL, NULL) == SQLITE_OK, "%s", sqlite3_errmsg(db));
    CHECK(sqlite3_close(db) == SQLITE_OK);
}

/* ---- refused, with words, and left alone ---- */

static enum quern_err open_and_load(const char *path, char **why_out)
{
    struct limits limits = world_limits();
    struct store_facts facts;
    struct store_visitor visitor;
    struct store *store = NULL;
    enum quern_err err = store_open(path, &limits, &store, &facts, why_out);
    if (err == QUERN_OK) {
        struct core *core = core_open(&limits, &facts);
        core_visitor(core, &visitor);
        err = store_load(store, &visitor, why_out);
        if (err == QUERN_OK) {
            core_begin(core, 1000, 1700000000000);
        }
        core_close(&core);
        store_close(&store, false);
    }
    return err;
}

static void expect_refused_untouched(const struct place *place, const char *words)
{
    char *why = NULL;
    struct buf db = file_read(place->db);
    struct buf wal = file_read(place->wal);
    assert_int_equal(open_and_load(place->db, &why), QUERN_MALFORMED);
    struct buf db_after = file_read(place->db);
    struct buf wal_after = file_read(place->wal);
    assert_non_null(why);
    assert_non_null(strstr(why, place->db));
    if (strstr(why, words) == NULL) {
        fail_msg("\"%s\" does not say \"%s\"", why, words);
    }
    assert_true(bytes_equal(buf_bytes(&db), buf_bytes(&db_after)));
    assert_true(bytes_equal(buf_bytes(&wal), buf_bytes(&wal_after)));
    buf_fini(&db);
    buf_fini(&wal);
    buf_fini(&db_after);
    buf_fini(&wal_after);
    free(why);
}

/* Nothing is changed, made or removed by it; the answer. */
static enum quern_err check_untouched(const struct place *place, struct store_report *report, char **why_out)
{
    struct buf db = file_read(place->db);
    struct buf wal = file_read(place->wal);
    bool had_lock = access(place->lock, F_OK) == 0;
    bool had_wal = access(place->wal, F_OK) == 0;
    enum quern_err err = store_check(place->db, report, why_out);
    struct buf db_after = file_read(place->db);
    struct buf wal_after = file_read(place->wal);
    assert_true(bytes_equal(buf_bytes(&db), buf_bytes(&db_after)));
    assert_true(bytes_equal(buf_bytes(&wal), buf_bytes(&wal_after)));
    assert_int_equal(access(place->wal, F_OK) == 0, had_wal);
    assert_int_equal(access(place->lock, F_OK) == 0, had_lock);
    buf_fini(&db);
    buf_fini(&wal);
    buf_fini(&db_after);
    buf_fini(&wal_after);
    return err;
}

static void expect_faults(const struct place *place)
{
    struct store_report report;
    char *why = NULL;
    assert_int_equal(check_untouched(place, &report, &why), QUERN_OK);
    assert_true(report.fault_count > 0);
    store_report_fini(&report);
}

static void test_a_damaged_page_of_any_table_is_refused(void **state)
{
    (void)state;
    static const char *const tables[] = {"meta",   "call",   "session", "taken",   "description",
                                         "series", "worker", "task",    "outcome", "failure"};
    char garbage[STORE_PAGE_SIZE];
    memset(garbage, 0xa5, sizeof garbage);
    for (size_t i = 0; i < sizeof tables / sizeof tables[0]; i++) {
        struct place place = place_make(true);
        bytes_write(place.db, root_of(&place, tables[i]), garbage, sizeof garbage);
        expect_refused_untouched(&place, "restore a backup");
        expect_faults(&place);
        place_remove(&place);
    }
}

static void test_a_damaged_head_is_refused(void **state)
{
    (void)state;
    char garbage[STORE_PAGE_SIZE];
    memset(garbage, 0xa5, sizeof garbage);
    struct place place = place_make(true);
    bytes_write(place.db, 16, garbage, 84); /* behind the magic: page size, versions, counts */
    expect_refused_untouched(&place, place.db);
    place_remove(&place);
    place = place_make(true);
    bytes_write(place.db, 100, garbage, sizeof garbage - 100); /* the list of tables */
    expect_refused_untouched(&place, "restore a backup");
    place_remove(&place);
    place = place_make(true);
    bytes_write(place.db, 0, garbage, STORE_PAGE_SIZE);
    expect_refused_untouched(&place, "is not a quern store");
    place_remove(&place);
}

static void test_a_damaged_list_of_free_pages_is_refused(void **state)
{
    (void)state;
    struct place place = place_make(true);
    uint8_t trunk[4];
    run_sql(place.db, "DELETE FROM outcome; DELETE FROM failure; DELETE FROM task");
    struct buf head = file_read(place.db);
    memcpy(trunk, head.p + 32, 4);
    size_t page = (size_t)trunk[2] << 8 | trunk[3];
    assert_true(page > 1);
    char garbage[64];
    memset(garbage, 0xa5, sizeof garbage);
    bytes_write(place.db, (page - 1) * STORE_PAGE_SIZE, garbage, sizeof garbage);
    expect_refused_untouched(&place, "restore a backup");
    expect_faults(&place);
    buf_fini(&head);
    place_remove(&place);
}

static void test_a_truncated_file_is_refused_wherever_it_ends(void **state)
{
    (void)state;
    struct place place = place_make(true);
    size_t size = file_size(place.db);
    struct buf whole = file_read(place.db);
    for (size_t i = 1; i < 40; i++) {
        file_write(place.db, whole.p, size * i / 40);
        expect_refused_untouched(&place, place.db);
    }
    buf_fini(&whole);
    place_remove(&place);
}

/* A copy that did not come about, a file system that lost it: a new store in its place would hide the loss. */
static void test_an_emptied_store_does_not_begin_anew(void **state)
{
    (void)state;
    struct place place = place_make(true);
    file_write(place.db, "", 0);
    expect_refused_untouched(&place, "restore a backup");
    place_remove(&place);
    place = place_make(false); /* with its log beside it */
    assert_true(file_size(place.wal) > 0);
    CHECK(unlink(place.db) == 0);
    char *why = NULL;
    assert_int_equal(open_and_load(place.db, &why), QUERN_MALFORMED);
    assert_non_null(strstr(why, "put the database back"));
    assert_true(file_size(place.wal) > 0);
    assert_int_not_equal(access(place.db, F_OK), 0);
    free(why);
    CHECK(unlink(place.wal) == 0); /* as it says: the log is away, and with no database there is nothing to lose */
    assert_int_equal(open_and_load(place.db, &why), QUERN_OK);
    place_remove(&place);
}

/* SQLite cannot tell a damaged log from one that was being written when the power went, so it may be cut short; but
 * what comes up is whole. */
static void test_a_damaged_log_leaves_a_whole_store(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 24; i++) {
        struct place place = place_make(false);
        char garbage[40];
        char *why = NULL;
        size_t size = file_size(place.wal);
        assert_true(size > STORE_PAGE_SIZE);
        memset(garbage, 0xa5, sizeof garbage);
        bytes_write(place.wal, i == 0 ? 0 : size / 24 * i, garbage, sizeof garbage);
        assert_int_equal(open_and_load(place.db, &why), QUERN_OK);
        struct store_report report;
        assert_int_equal(check_untouched(&place, &report, &why), QUERN_OK);
        assert_int_equal(report.epoch > 0 ? 0 : 1, 0);
        store_report_fini(&report);
        place_remove(&place);
    }
}

/* ---- anything ---- */

/* splitmix64 */
static uint64_t roll(uint64_t *state)
{
    uint64_t z = (*state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static void damage(const char *path, uint64_t *seed)
{
    size_t size = file_size(path);
    uint8_t bytes[STORE_PAGE_SIZE];
    if (size == 0) {
        return;
    }
    size_t n = 1 + roll(seed) % (roll(seed) % 3 == 0 ? STORE_PAGE_SIZE : 8);
    size_t at = roll(seed) % size;
    n = n < size - at ? n : size - at;
    uint64_t kind = roll(seed) % 3;
    for (size_t i = 0; i < n; i++) {
        bytes[i] = kind == 0 ? 0 : kind == 1 ? 0xff : (uint8_t)roll(seed);
    }
    bytes_write(path, at, bytes, n);
}

/* In a child: whether it ends by itself, and how the opening went. */
static bool start_survives(const char *path, bool *is_refused_out)
{
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        char *why = NULL;
        struct store_report report;
        CHECK(store_check(path, &report, &why) != QUERN_IN_USE);
        store_report_fini(&report);
        free(why);
        why = NULL;
        enum quern_err err = open_and_load(path, &why);
        CHECK(err == QUERN_OK || why != NULL);
        free(why);
        _exit(err == QUERN_OK ? 0 : 1);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child);
    *is_refused_out = WIFEXITED(status) && WEXITSTATUS(status) == 1;
    return WIFEXITED(status) && WEXITSTATUS(status) <= 1;
}

/* The store's bytes come from a disk, so they are validated like any other bytes from outside: a start with any of them
 * garbled comes up or is refused, and never aborts. QUERN_DAMAGE_SEED, QUERN_DAMAGE_COUNT: where to begin, how many. */
static void test_random_damage_never_crashes_a_start(void **state)
{
    (void)state;
    const char *first = getenv("QUERN_DAMAGE_SEED");
    const char *wanted = getenv("QUERN_DAMAGE_COUNT");
    uint64_t begin = first != NULL ? strtoull(first, NULL, 10) : 1;
    uint64_t count = wanted != NULL ? strtoull(wanted, NULL, 10) : RANDOM_COUNT_DEFAULT;
    uint64_t refused = 0;
    struct place clean = place_make(true);
    struct place unclean = place_make(false);
    struct buf clean_db = file_read(clean.db);
    struct buf unclean_db = file_read(unclean.db);
    struct buf unclean_wal = file_read(unclean.wal);
    for (uint64_t seed = begin; seed < begin + count; seed++) {
        struct place place = {.directory = world_directory()};
        uint64_t chance = seed;
        bool is_refused = false;
        bool is_clean = seed % 2 == 0;
        struct buf *db = is_clean ? &clean_db : &unclean_db;
        place.db = path_in(place.directory, "quern.db");
        place.wal = path_in(place.directory, "quern.db-wal");
        file_write(place.db, db->p, db->n);
        if (!is_clean) {
            file_write(place.wal, unclean_wal.p, unclean_wal.n);
        }
        for (uint64_t times = 1 + roll(&chance) % 4; times > 0; times--) {
            damage(is_clean || roll(&chance) % 2 == 0 ? place.db : place.wal, &chance);
        }
        if (!start_survives(place.db, &is_refused)) {
            fail_msg("a start with damage of seed %" PRIu64 " crashed (QUERN_DAMAGE_SEED=%" PRIu64
                     " QUERN_DAMAGE_COUNT=1)",
                     seed, seed);
        }
        refused += is_refused;
        place_remove(&place);
    }
    print_message("%" PRIu64 " damaged stores from seed %" PRIu64 ": %" PRIu64 " refused, none crashed\n", count, begin,
                  refused);
    assert_true(count < RANDOM_COUNT_DEFAULT || (refused > count / 4 && refused < count));
    buf_fini(&clean_db);
    buf_fini(&unclean_db);
    buf_fini(&unclean_wal);
    place_remove(&clean);
    place_remove(&unclean);
}

/* ---- --check ---- */

static void test_a_whole_store_has_no_faults_clean_or_not(void **state)
{
    (void)state;
    for (int is_clean = 0; is_clean < 2; is_clean++) {
        struct place place = {.directory = world_directory()};
        struct store_facts facts;
        struct store_report report;
        char *why = NULL;
        place.db = path_in(place.directory, "quern.db");
        place.wal = path_in(place.directory, "quern.db-wal");
        place.lock = path_in(place.directory, "quern.db.lock");
        struct store *store = world_open(place.directory, &facts);
        struct change changes[] = {
            {.kind = CHANGE_META, .meta = {.series_next = 9, .session_next = 9, .worker_next = 9, .call_next = 9}},
            {.kind = CHANGE_CALL, .call = {.id = 1, .queue = bytes_text("q"), .function = bytes_text("f")}},
            {.kind = CHANGE_SESSION, .session = {.id = 1, .completion_last = 4, .acked_prefix = 1}},
            {.kind = CHANGE_TAKEN, .taken = {1, 3, 4}},
            {.kind = CHANGE_SERIES, .series = {.id = 3, .session = 1, .submitted_high = 9}},
            {.kind = CHANGE_TASK, .task = {.id = id_make(3, 9), .session = 1, .call = 1, .state = 3}},
            {.kind = CHANGE_OUTCOME,
             .outcome = {.id = id_make(3, 2),
                         .session = 1,
                         .completion = 2,
                         .call = 1,
                         .state = 7,
                         .result = bytes_text("xyz")}},
            {.kind = CHANGE_FAILURE, .failure = {.task = id_make(3, 9), .attempt = 1, .cause = 2}},
        };
        assert_int_equal(store_apply(store, facts.epoch, changes, sizeof changes / sizeof changes[0]), STORE_OK);
        assert_int_equal(store_check(place.db, &report, &why), QUERN_IN_USE);
        assert_non_null(strstr(why, "in use by the broker with pid"));
        free(why);
        store_report_fini(&report);
        store_close(&store, is_clean);
        assert_int_equal(check_untouched(&place, &report, &why), QUERN_OK);
        for (size_t i = 0; i < report.fault_count; i++) {
            print_error("%s (%" PRIu64 ")\n", report.faults[i].text, report.faults[i].count);
        }
        assert_int_equal(report.fault_count, 0);
        assert_true(uuid_equal(&report.uuid, &facts.uuid));
        assert_int_equal(report.was_clean, is_clean);
        assert_int_equal(report.tasks, 1);
        assert_int_equal(report.outcomes, 1);
        assert_int_equal(report.sessions, 1);
        assert_int_equal(report.failures, 1);
        store_report_fini(&report);
        place_remove(&place);
    }
}

/* Each rule of SCHEMA.md, broken by hand: found, and told in words. */
static void test_a_row_that_refers_to_nothing_is_found(void **state)
{
    (void)state;
    static const struct {
        const char *sql;
        const char *words;
    } breaks[] = {
        {"UPDATE task SET session = 77", "session is missing"},
        {"UPDATE task SET call = 77", "call is missing"},
        {"UPDATE task SET state = 4, worker = 77", "worker that is missing"},
        {"UPDATE task SET epoch = 7", "of an epoch that is yet to come"},
        {"UPDATE task SET state = 11", "row 12884901889 of table task"},
        {"UPDATE outcome SET id = (SELECT min(id) FROM task) WHERE id = (SELECT min(id) FROM outcome)",
         "that have an outcome too"},
        {"UPDATE series SET submitted_high = 1", "beyond what their series has come to"},
        {"UPDATE outcome SET call = 77", "outcomes whose call is missing"},
        {"UPDATE outcome SET completion = 77", "beyond the last completion"},
        {"UPDATE outcome SET state = 3", "state or cause"},
        {"UPDATE outcome SET size = size + 1", "whose size is not"},
        {"UPDATE outcome SET completion = 7", "with one completion number"},
        {"DELETE FROM outcome WHERE completion = 8", "neither acknowledged nor any outcome's"},
        {"DELETE FROM taken", "neither acknowledged nor any outcome's"},
        {"UPDATE failure SET task = 77 + attempt", "failures of tasks that are missing"},
        {"UPDATE series SET session = 77", "series whose session is missing"},
        {"UPDATE taken SET session = 77", "acknowledgements whose session is missing"},
        {"UPDATE taken SET last = 77", "acknowledgements beyond"},
        {"UPDATE description SET session = 77", "descriptions whose session is missing"},
        {"UPDATE session SET name = 'one', is_ending = 0", "sessions of one name"},
        {"UPDATE session SET acked_prefix = 77", "of table session"},
        {"UPDATE meta SET series_next = 3", "series that was not reserved"},
        {"UPDATE meta SET session_next = 1", "sessions with a number"},
        {"UPDATE meta SET call_next = 1", "calls with a number"},
        {"UPDATE meta SET worker_next = 1", "workers with a number"},
        {"UPDATE meta SET uuid = x'00'", "row of meta"},
        {"DELETE FROM meta", "row of meta"},
    };
    for (size_t i = 0; i <= sizeof breaks / sizeof breaks[0]; i++) {
        struct place place = {.directory = world_directory()};
        struct store_report report;
        char *why = NULL;
        bool is_broken = i < sizeof breaks / sizeof breaks[0];
        place.db = path_in(place.directory, "quern.db");
        place.wal = path_in(place.directory, "quern.db-wal");
        place.lock = path_in(place.directory, "quern.db.lock");
        struct buf fixture = {0};
        buf_printf(&fixture, TESTS_DIR "/golden/store-%u.sql", schema_step_count);
        buf_put_u8(&fixture, 0);
        struct buf sql = file_read((const char *)fixture.p);
        buf_fini(&fixture);
        buf_put_u8(&sql, 0);
        run_sql(place.db, (const char *)sql.p);
        if (is_broken) {
            run_sql(place.db, breaks[i].sql);
        }
        assert_int_equal(check_untouched(&place, &report, &why), QUERN_OK);
        bool is_told = !is_broken && report.fault_count == 0;
        for (size_t k = 0; k < report.fault_count; k++) {
            is_told = is_told || (is_broken && strstr(report.faults[k].text, breaks[i].words) != NULL);
        }
        if (!is_told) {
            fail_msg("%s: %zu faults, the first: %s", is_broken ? breaks[i].sql : "nothing broken", report.fault_count,
                     report.fault_count > 0 ? report.faults[0].text : "-");
        }
        store_report_fini(&report);
        buf_fini(&sql);
        place_remove(&place);
    }
}

/* The core could not go on without what they name: told before it sees them. */
static void test_a_task_that_names_nothing_is_refused(void **state)
{
    (void)state;
    static const char *const breaks[] = {
        "UPDATE task SET session = 77",      "UPDATE task SET session = 0",
        "UPDATE task SET call = 77",         "UPDATE task SET state = 5, worker = 77",
        "UPDATE series SET refused = x'c1'", "UPDATE series SET refused = x'9193050104'", /* from 5 to 1 */
    };
    for (size_t i = 0; i < sizeof breaks / sizeof breaks[0]; i++) {
        struct place place = place_make(true);
        char *why = NULL;
        run_sql(place.db, breaks[i]);
        assert_int_equal(open_and_load(place.db, &why), QUERN_MALFORMED);
        assert_non_null(strstr(why, "restore a backup"));
        free(why);
        place_remove(&place);
    }
}

/* A store that no broker of this version has opened yet is looked at as it is. */
static void test_an_older_store_has_no_faults_either(void **state)
{
    (void)state;
    for (uint32_t version = 1; version <= schema_step_count; version++) {
        struct place place = {.directory = world_directory()};
        struct store_report report;
        char *why = NULL;
        char *fixture = NULL;
        CHECK(asprintf(&fixture, TESTS_DIR "/golden/store-%" PRIu32 ".sql", version) > 0);
        place.db = path_in(place.directory, "quern.db");
        place.wal = path_in(place.directory, "quern.db-wal");
        place.lock = path_in(place.directory, "quern.db.lock");
        struct buf sql = file_read(fixture);
        buf_put_u8(&sql, 0);
        run_sql(place.db, (const char *)sql.p);
        assert_int_equal(check_untouched(&place, &report, &why), QUERN_OK);
        if (report.fault_count > 0) {
            fail_msg("version %" PRIu32 ": %s", version, report.faults[0].text);
        }
        assert_int_equal(report.version, version);
        store_report_fini(&report);
        buf_fini(&sql);
        free(fixture);
        place_remove(&place);
    }
}

static void expect_no_check(const struct place *place, enum quern_err wanted, const char *words)
{
    struct store_report report;
    char *why = NULL;
    assert_int_equal(check_untouched(place, &report, &why), wanted);
    assert_non_null(why);
    if (strstr(why, words) == NULL) {
        fail_msg("\"%s\" does not say \"%s\"", why, words);
    }
    free(why);
    store_report_fini(&report);
}

static void test_what_is_no_store_cannot_be_checked(void **state)
{
    (void)state;
    struct place place = {.directory = world_directory()};
    char sql[64];
    place.db = path_in(place.directory, "quern.db");
    place.wal = path_in(place.directory, "quern.db-wal");
    place.lock = path_in(place.directory, "quern.db.lock");
    expect_no_check(&place, QUERN_UNKNOWN, "there is no store");
    file_write(place.db, "dear diary\n", 11);
    expect_no_check(&place, QUERN_MALFORMED, "is not a quern store");
    file_write(place.db, "", 0);
    expect_no_check(&place, QUERN_UNKNOWN, "no store yet");
    CHECK(unlink(place.db) == 0);
    run_sql(place.db, "CREATE TABLE recipes (name TEXT)");
    expect_no_check(&place, QUERN_MALFORMED, "some other program");
    place_remove(&place);
    place = place_make(true);
    snprintf(sql, sizeof sql, "PRAGMA user_version = %u", schema_step_count + 1);
    run_sql(place.db, sql);
    expect_no_check(&place, QUERN_VERSION, "newer quern");
    place_remove(&place);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_damaged_page_of_any_table_is_refused),
        cmocka_unit_test(test_a_damaged_head_is_refused),
        cmocka_unit_test(test_a_damaged_list_of_free_pages_is_refused),
        cmocka_unit_test(test_a_truncated_file_is_refused_wherever_it_ends),
        cmocka_unit_test(test_an_emptied_store_does_not_begin_anew),
        cmocka_unit_test(test_a_damaged_log_leaves_a_whole_store),
        cmocka_unit_test(test_random_damage_never_crashes_a_start),
        cmocka_unit_test(test_a_whole_store_has_no_faults_clean_or_not),
        cmocka_unit_test(test_a_row_that_refers_to_nothing_is_found),
        cmocka_unit_test(test_a_task_that_names_nothing_is_refused),
        cmocka_unit_test(test_an_older_store_has_no_faults_either),
        cmocka_unit_test(test_what_is_no_store_cannot_be_checked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

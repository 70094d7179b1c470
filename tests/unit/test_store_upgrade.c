/*
 * test_store_upgrade: a store written by every version of the schema opens, and everything in it is found again.
 * tests/golden/store-N.sql is a store of version N as text; once N was released it is never written anew. A change of
 * the schema adds one: `test_store_upgrade --write`, with what is new in fixture_rows. Start at fixture_rows for what
 * is in them, at test_a_store_of_every_version_is_found_whole for what is asked.
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
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FIXTURE_SIZE_MAX (256u * 1024u)
#define FIXTURE_ROW_COUNT_MAX 32u

/* ---- what is in a fixture ---- */

static struct change row_session(uint32_t number)
{
    return (struct change){
        .kind = CHANGE_SESSION,
        .session = {.id = number,
                    .name = number == 1 ? bytes_text("nightly") : (struct bytes){0},
                    .description = number == 1 ? bytes_text("what the client said") : (struct bytes){0},
                    .owner = {{1, 2, (uint8_t)number}},
                    .owner_text = bytes_text("host:4711"),
                    .completion_last = number == 1 ? 9 : 3,
                    .acked_prefix = number == 1 ? 4 : 3,
                    .ordinal_high = 6,
                    .digest = {9, 8, 7},
                    .failed = 2,
                    .keep = number == 1,
                    .is_ending = number == 2,
                    .is_cancelling = number == 2,
                    .created = 1600000000001,
                    .used = 1600000000002,
                    .expire_ms = 86400000}};
}

/* One in every state that a live task can have. */
static struct change row_task(uint32_t state)
{
    return (struct change){.kind = CHANGE_TASK,
                           .task = {.id = id_make(3, state),
                                    .session = 1,
                                    .call = 1 + state % 2,
                                    .state = state,
                                    .priority = (int32_t)state - 4,
                                    .attempt = state,
                                    .epoch = 1,
                                    .worker = 1,
                                    .attempts = 1,
                                    .crashes = 2,
                                    .losses = 3,
                                    .due = 1700000000000 + state,
                                    .created = 1600000000003,
                                    .ordinal = state,
                                    .retry_of = id_make(2, 1),
                                    .args = bytes_text("\x92\x01\x02")}};
}

static struct change row_outcome(uint32_t version, uint32_t state)
{
    bool is_done = state == TASK_DONE;
    return (struct change){.kind = CHANGE_OUTCOME,
                           .outcome = {.id = id_make(3, state),
                                       .session = 1,
                                       .completion = state,
                                       .call = 1,
                                       .state = state,
                                       .cause = is_done ? CAUSE_NONE : CAUSE_CRASHED,
                                       .attempt = 4,
                                       .attempts = 3,
                                       .worker = bytes_text("host:77"),
                                       .signal = 11,
                                       .exit_status = 3,
                                       .created = 1600000000004,
                                       .started = 1600000000005,
                                       .finished = 1600000000006,
                                       .run_us = 400000,
                                       .cpu_us = 390000,
                                       .peak = 70000,
                                       .ordinal = state,
                                       .retry_of = id_make(2, 2),
                                       .kind = bytes_text("DivisionByZero"),
                                       .message = bytes_text("division by zero"),
                                       .detail = bytes_text("\x81\xa1x\x01"),
                                       .report = bytes_text("\x92\xa1y\x02"),
                                       .result = is_done ? bytes_text("\x31") : (struct bytes){0},
                                       .args = bytes_text("\x91\x07"),
                                       .output = version < 2 ? (struct bytes){0} : bytes_text("\x92\x01\xc4\x01x"),
                                       .args_size = 2,
                                       .args_hash = UINT64_MAX - state}};
}

static struct change row_failure(uint32_t version, uint32_t attempt)
{
    return (struct change){.kind = CHANGE_FAILURE,
                           .failure = {.task = id_make(3, TASK_BACKOFF),
                                       .attempt = attempt,
                                       .at = 1600000000007,
                                       .worker = bytes_text("host:78"),
                                       .cause = CAUSE_CRASHED,
                                       .signal = 9,
                                       .exit_status = 1,
                                       .run_us = 5000,
                                       .cpu_us = 4000,
                                       .peak = 3000,
                                       .kind = bytes_text("Signal"),
                                       .message = bytes_text("killed by signal 9"),
                                       .detail = bytes_text("\x90"),
                                       .report = bytes_text("\x80"),
                                       .output = version < 2 ? (struct bytes){0} : bytes_text("\x92\x02\xc4\x01y")}};
}

/* Rows of every kind, with something in every column, as a store of that version could hold them: a column that came
 * later keeps its default in older versions (`version < N ? 0 : ...`). */
static size_t fixture_rows(uint32_t version, struct change rows[FIXTURE_ROW_COUNT_MAX])
{
    size_t n = 0;
    (void)version;
    rows[n++] = (struct change){.kind = CHANGE_META,
                                .meta = {.series_next = 260, .session_next = 261, .worker_next = 2, .call_next = 3}};
    for (uint32_t i = 1; i <= 2; i++) {
        rows[n++] = (struct change){.kind = CHANGE_CALL,
                                    .call = {.id = i,
                                             .queue = bytes_text(i == 1 ? "default" : "night"),
                                             .function = bytes_text("square"),
                                             .options = i == 1 ? (struct bytes){0} : bytes_text("\x91\x05")}};
        rows[n++] = row_session(i);
    }
    rows[n++] = (struct change){.kind = CHANGE_TAKEN, .taken = {.session = 1, .first = 5, .last = 6}};
    rows[n++] = (struct change){.kind = CHANGE_SERIES,
                                .series = {.id = 3,
                                           .session = 1,
                                           .instance = {{7, 7, 7}},
                                           .submitted_high = 40,
                                           .refused = bytes_text("\x91\x93\x0a\x0b\x05")}};
    rows[n++] = (struct change){
        .kind = CHANGE_WORKER,
        .worker = {
            .id = 1, .name = bytes_text("HOST-0"), .instance = {{8, 8}}, .host = bytes_text("host"), .pid = 1000}};
    for (uint32_t state = TASK_DELAYED; state <= TASK_BACKOFF; state++) {
        rows[n++] = row_task(state);
    }
    for (uint32_t state = TASK_DONE; state <= TASK_CANCELLED; state++) {
        rows[n++] = row_outcome(version, state);
    }
    rows[n++] = row_failure(version, 1);
    rows[n++] = row_failure(version, 3);
    CHECK(n <= FIXTURE_ROW_COUNT_MAX);
    return n;
}

static void write_rows(const char *directory, uint32_t version)
{
    struct change rows[FIXTURE_ROW_COUNT_MAX];
    struct store_facts facts;
    struct store *store = world_open(directory, &facts);
    size_t count = fixture_rows(version, rows);
    assert_int_equal(store_apply(store, facts.epoch, rows, count), STORE_OK);
    store_close(&store, true);
}

/* ---- a store as text ---- */

static char *path_of(const char *directory)
{
    char *path = NULL;
    CHECK(asprintf(&path, "%s/quern.db", directory) > 0);
    return path;
}

static char *fixture_path(uint32_t version)
{
    char *path = NULL;
    CHECK(asprintf(&path, TESTS_DIR "/golden/store-%" PRIu32 ".sql", version) > 0);
    return path;
}

static sqlite3_stmt *prepare(sqlite3 *db, const char *sql)
{
    sqlite3_stmt *statement = NULL;
    CHECK_THAT(sqlite3_prepare_v2(db, sql, -1, &statement, NULL) == SQLITE_OK, "%s: %s", sql, sqlite3_errmsg(db));
    return statement;
}

static int64_t one_number(sqlite3 *db, const char *sql)
{
    sqlite3_stmt *statement = prepare(db, sql);
    CHECK(sqlite3_step(statement) == SQLITE_ROW);
    int64_t number = sqlite3_column_int64(statement, 0);
    sqlite3_finalize(statement);
    return number;
}

static void table_write(FILE *out, sqlite3 *db, const char *table)
{
    char sql[128];
    snprintf(sql, sizeof sql, "SELECT * FROM %s ORDER BY 1, 2", table);
    sqlite3_stmt *rows = prepare(db, sql);
    while (sqlite3_step(rows) == SQLITE_ROW) {
        fprintf(out, "INSERT INTO %s VALUES (", table);
        for (int i = 0; i < sqlite3_column_count(rows); i++) {
            sqlite3_stmt *quote = prepare(db, "SELECT quote(?1)");
            CHECK(sqlite3_bind_value(quote, 1, sqlite3_column_value(rows, i)) == SQLITE_OK);
            CHECK(sqlite3_step(quote) == SQLITE_ROW);
            fprintf(out, "%s%s", i == 0 ? "" : ", ", (const char *)sqlite3_column_text(quote, 0));
            sqlite3_finalize(quote);
        }
        fprintf(out, ");\n");
    }
    sqlite3_finalize(rows);
}

static void store_write(FILE *out, sqlite3 *db)
{
    fprintf(out,
            "-- A quern store of schema version %" PRId64
            ", written by test_store_upgrade. Never edited, never written "
            "anew.\n",
            one_number(db, "PRAGMA user_version"));
    sqlite3_stmt *tables = prepare(db, "SELECT name, sql FROM sqlite_schema WHERE type = 'table' ORDER BY name");
    while (sqlite3_step(tables) == SQLITE_ROW) {
        fprintf(out, "%s;\n", (const char *)sqlite3_column_text(tables, 1));
        table_write(out, db, (const char *)sqlite3_column_text(tables, 0));
    }
    sqlite3_finalize(tables);
    fprintf(out, "PRAGMA application_id = %" PRId64 ";\nPRAGMA user_version = %" PRId64 ";\n",
            one_number(db, "PRAGMA application_id"), one_number(db, "PRAGMA user_version"));
}

/* What `--write` does: a fixture of the present version, unless there is one. */
static int fixture_write(void)
{
    char *directory = world_directory();
    char *db_path = path_of(directory);
    char *path = fixture_path(schema_step_count);
    sqlite3 *db = NULL;
    write_rows(directory, schema_step_count);
    CHECK(sqlite3_open(db_path, &db) == SQLITE_OK);
    CHECK(sqlite3_exec(db, "UPDATE meta SET uuid = x'000102030405060708090a0b0c0d0e0f', inode = 11, born_ns = 12", NULL,
                       NULL, NULL) == SQLITE_OK);
    FILE *out = fopen(path, "wx");
    if (out != NULL) {
        store_write(out, db);
        CHECK(fclose(out) == 0);
    }
    printf("%s: %s\n", path, out != NULL ? "written" : "is there; a released fixture is never written anew");
    sqlite3_close(db);
    free(path);
    free(db_path);
    world_remove(&directory);
    return out != NULL ? 0 : 1;
}

static void fixture_make(const char *directory, uint32_t version)
{
    static char text[FIXTURE_SIZE_MAX];
    char *path = fixture_path(version);
    char *db_path = path_of(directory);
    sqlite3 *db = NULL;
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        fail_msg("%s is missing: write it with `test_store_upgrade --write`", path);
    }
    size_t n = fread(text, 1, sizeof text - 1, file);
    text[n] = '\0';
    CHECK(fclose(file) == 0 && n < sizeof text - 1);
    CHECK(sqlite3_open(db_path, &db) == SQLITE_OK);
    CHECK_THAT(sqlite3_exec(db, text, NULL, NULL, NULL) == SQLITE_OK, "%s: %s", path, sqlite3_errmsg(db));
    assert_int_equal(one_number(db, "PRAGMA user_version"), version);
    CHECK(sqlite3_close(db) == SQLITE_OK);
    free(db_path);
    free(path);
}

/* ---- claims ---- */

static char *dump_of_rows(uint32_t version)
{
    char *directory = world_directory();
    write_rows(directory, version);
    struct store *store = world_open(directory, NULL);
    char *dump = world_dump(store);
    store_close(&store, true);
    world_remove(&directory);
    return dump;
}

/* The promise to whoever upgrades: nothing of an old store is lost, renamed or read as something else. */
static void test_a_store_of_every_version_is_found_whole(void **state)
{
    (void)state;
    for (uint32_t version = 1; version <= schema_step_count; version++) {
        char *directory = world_directory();
        fixture_make(directory, version);
        struct store_facts facts;
        struct store *store = world_open(directory, &facts);
        assert_false(facts.is_new);
        assert_int_equal(facts.epoch, 2);
        assert_int_equal(facts.meta.series_next, 260);
        assert_int_equal(facts.meta.session_next, 261);
        assert_int_equal(facts.meta.worker_next, 2);
        assert_int_equal(facts.meta.call_next, 3);
        char *found = world_dump(store);
        char *wanted = dump_of_rows(version);
        assert_string_equal(found, wanted);
        assert_int_equal(world_apply(store, facts.epoch, 1), STORE_OK); /* and it is written to like any other */
        store_close(&store, true);
        free(found);
        free(wanted);
        world_remove(&directory);
    }
}

/* Before a step changes it, the store as it was is put beside it: the way back. */
static void test_an_older_store_is_kept_beside(void **state)
{
    (void)state;
    for (uint32_t version = 1; version < schema_step_count; version++) {
        char *directory = world_directory();
        char *copy = NULL;
        sqlite3 *db = NULL;
        fixture_make(directory, version);
        struct store *store = world_open(directory, NULL);
        store_close(&store, true);
        CHECK(asprintf(&copy, "%s/quern.db.version-%" PRIu32, directory, version) > 0);
        CHECK(sqlite3_open_v2(copy, &db, SQLITE_OPEN_READONLY, NULL) == SQLITE_OK);
        assert_int_equal(one_number(db, "PRAGMA user_version"), version);
        assert_int_equal(one_number(db, "SELECT count(*) FROM task"), 6);
        sqlite3_close(db);
        free(copy);
        world_remove(&directory);
    }
}

static bool column_is_told(sqlite3 *db, const char *table, const char *column)
{
    char sql[256];
    snprintf(sql, sizeof sql, "SELECT count(*) FROM %s WHERE %s IS NOT NULL AND %s <> 0 AND length(%s) > 0", table,
             column, column, column);
    return one_number(db, sql) > 0;
}

/* A column that no row of the fixture has a value in is one whose loss nobody would notice. */
static void test_a_fixture_has_something_in_every_column(void **state)
{
    (void)state;
    for (uint32_t version = 1; version <= schema_step_count; version++) {
        char *directory = world_directory();
        char *path = path_of(directory);
        sqlite3 *db = NULL;
        size_t columns = 0;
        fixture_make(directory, version);
        CHECK(sqlite3_open(path, &db) == SQLITE_OK);
        sqlite3_stmt *all = prepare(db, "SELECT t.name, c.name FROM sqlite_schema AS t, pragma_table_info(t.name) AS c"
                                        " WHERE t.type = 'table'");
        while (sqlite3_step(all) == SQLITE_ROW) {
            const char *table = (const char *)sqlite3_column_text(all, 0);
            const char *column = (const char *)sqlite3_column_text(all, 1);
            columns++;
            if (!column_is_told(db, table, column)) {
                fail_msg("store-%" PRIu32 ".sql: no row has a value in %s.%s", version, table, column);
            }
        }
        sqlite3_finalize(all);
        assert_true(columns > 80);
        CHECK(sqlite3_close(db) == SQLITE_OK);
        free(path);
        world_remove(&directory);
    }
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_store_of_every_version_is_found_whole),
        cmocka_unit_test(test_an_older_store_is_kept_beside),
        cmocka_unit_test(test_a_fixture_has_something_in_every_column),
    };
    if (argc == 2 && strcmp(argv[1], "--write") == 0) {
        return fixture_write();
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}

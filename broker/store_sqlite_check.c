/*
 * Looking through a store that nobody has open: pages, rows, and what rows say of each other. Changes nothing.
 * Must not know what a broker does with a store that is not whole.
 * Start at store_check; what must hold is in rules and in SCHEMA.md.
 */
#include "broker/store_sqlite.h"
#include "common/check.h"
#include "common/message.h"

#include <inttypes.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- faults ---- */

/* Takes the text. */
static void fault_add(struct store_report *report, uint64_t count, char *text)
{
    if (report->fault_count == STORE_FAULT_COUNT_MAX) {
        free(text);
        return;
    }
    report->faults[report->fault_count++] = (struct store_fault){.text = text, .count = count};
}

void store_report_fini(struct store_report *report)
{
    while (report->fault_count > 0) {
        free(report->faults[--report->fault_count].text);
    }
}

/* What damaged pages or rows make of a query. */
static void fault_add_code(const struct store *store, struct store_report *report, const char *what)
{
    fault_add(report, 1, sentence("%s cannot be read: %s", what, sqlite3_errmsg(store->db)));
}

/* ---- pages ---- */

static void check_pages(struct store *store, struct store_report *report)
{
    sqlite3_stmt *statement = NULL;
    int code = sqlite3_prepare_v2(store->db, "PRAGMA integrity_check(100)", -1, &statement, NULL);
    while (code == SQLITE_OK && (code = sqlite3_step(statement)) == SQLITE_ROW) {
        const char *line = (const char *)sqlite3_column_text(statement, 0);
        if (line != NULL && strcmp(line, "ok") != 0) {
            fault_add(report, 1, sentence("the file: %s", line));
        }
        code = SQLITE_OK;
    }
    if (code != SQLITE_DONE) {
        fault_add_code(store, report, "the file");
    }
    sqlite3_finalize(statement);
}

/* ---- rows by themselves: as a broker would load them ---- */

static void check_rows(struct store *store, struct store_report *report)
{
    const struct store_visitor nobody = {0};
    char *why = NULL;
    if (store_prepare(store, &why) != QUERN_OK || store_scan(store, &nobody, &why) != QUERN_OK) {
        fault_add(report, 1, why);
    }
}

/* ---- rows among each other ---- */

/* What is wrong with the rows counted; SQL: how many, and one of them. */
static const struct {
    const char *what;
    const char *sql;
} rules[] = {
    {"tasks whose session is missing",
     "SELECT count(*), min(id) FROM task WHERE session NOT IN (SELECT id FROM session)"},
    {"tasks whose call is missing", "SELECT count(*), min(id) FROM task WHERE call NOT IN (SELECT id FROM call)"},
    {"tasks held by a worker that is missing",
     "SELECT count(*), min(id) FROM task WHERE state IN (4, 5) AND worker NOT IN (SELECT id FROM worker)"},
    {"tasks with a token of an epoch that is yet to come",
     "SELECT count(*), min(id) FROM task WHERE epoch > (SELECT epoch FROM meta)"},
    {"tasks that have an outcome too", "SELECT count(*), min(id) FROM task WHERE id IN (SELECT id FROM outcome)"},
    {"tasks beyond what their series has come to",
     "SELECT count(*), min(t.id) FROM task AS t JOIN series AS s ON s.session = t.session AND s.id = t.id >> 32"
     " WHERE (t.id & 4294967295) > s.submitted_high"},
    {"outcomes whose call is missing", "SELECT count(*), min(id) FROM outcome WHERE call NOT IN (SELECT id FROM call)"},
    {"outcomes beyond the last completion of their session",
     "SELECT count(*), min(o.id) FROM outcome AS o JOIN session AS s ON s.id = o.session"
     " WHERE o.completion > s.completion_last OR o.completion < 1"},
    {"outcomes beyond what their series has come to",
     "SELECT count(*), min(o.id) FROM outcome AS o JOIN series AS s ON s.session = o.session AND s.id = o.id >> 32"
     " WHERE (o.id & 4294967295) > s.submitted_high"},
    {"outcomes of a state or cause that is none",
     "SELECT count(*), min(id) FROM outcome WHERE state NOT BETWEEN 7 AND 9 OR cause NOT BETWEEN 0 AND 8"},
    {"outcomes whose size is not that of their parts",
     "SELECT count(*), min(id) FROM outcome WHERE size <> ifnull(length(CAST(kind AS BLOB)), 0)"
     " + ifnull(length(CAST(message AS BLOB)), 0) + ifnull(length(detail), 0) + ifnull(length(report), 0)"
     " + ifnull(length(args), 0) + ifnull(length(result), 0) + ifnull(length(output), 0)"},
    {"failures of tasks that are missing",
     "SELECT count(*), min(task) FROM failure WHERE task NOT IN (SELECT id FROM task) AND task NOT IN (SELECT id FROM"
     " outcome)"},
    {"series whose session is missing",
     "SELECT count(*), min(id) FROM series WHERE session NOT IN (SELECT id FROM session)"},
    {"acknowledgements whose session is missing",
     "SELECT count(*), min(session) FROM taken WHERE session NOT IN (SELECT id FROM session)"},
    {"descriptions whose session is missing",
     "SELECT count(*), min(session) FROM description WHERE session NOT IN (SELECT id FROM session)"},
    {"acknowledgements beyond the last completion of their session",
     "SELECT count(*), min(t.session) FROM taken AS t JOIN session AS s ON s.id = t.session WHERE t.last >"
     " s.completion_last"},
    {"sessions of one name",
     "SELECT count(*), min(id) FROM session WHERE name IN (SELECT name FROM session WHERE is_ending = 0 GROUP BY name"
     " HAVING count(name) > 1) AND is_ending = 0"},
    {"series with a number that was not reserved",
     "SELECT count(*), min(id) FROM series WHERE id >= (SELECT series_next FROM meta)"},
    {"tasks of a series that was not reserved",
     "SELECT count(*), min(id) FROM task WHERE id >> 32 >= (SELECT series_next FROM meta)"},
    {"outcomes of a series that was not reserved",
     "SELECT count(*), min(id) FROM outcome WHERE id >> 32 >= (SELECT series_next FROM meta)"},
    {"sessions with a number that was not reserved",
     "SELECT count(*), min(id) FROM session WHERE id >= (SELECT session_next FROM meta)"},
    {"calls with a number that is to be given again",
     "SELECT count(*), min(id) FROM call WHERE id >= (SELECT call_next FROM meta)"},
    {"workers with a number that is to be given again",
     "SELECT count(*), min(id) FROM worker WHERE id >= (SELECT worker_next FROM meta)"},
};

/* The example as people write it: ids of tasks are larger than any other number. */
static char *rule_text(const char *what, uint64_t example)
{
    char text[ID_TEXT_SIZE];
    return example >> 32 != 0 ? sentence("%s, such as %s", what, id_text(example, text))
                              : sentence("%s, such as number %" PRIu64, what, example);
}

static void check_rule(struct store *store, struct store_report *report, const char *what, const char *sql)
{
    sqlite3_stmt *statement = NULL;
    int code = sqlite3_prepare_v2(store->db, sql, -1, &statement, NULL);
    if ((code & 0xff) == SQLITE_ERROR && report->version < schema_step_count) {
        return; /* about a column that came later */
    }
    code = code != SQLITE_OK ? code : sqlite3_step(statement);
    if (code != SQLITE_ROW) {
        fault_add_code(store, report, what);
    } else if (sqlite3_column_int64(statement, 0) > 0) {
        fault_add(report, (uint64_t)sqlite3_column_int64(statement, 0),
                  rule_text(what, (uint64_t)sqlite3_column_int64(statement, 1)));
    }
    sqlite3_finalize(statement);
}

/* ---- completions: each of a session, beyond what is acknowledged, is an outcome's or acknowledged by itself ---- */

struct completions {
    uint64_t session;
    uint64_t covered; /* all up to it are accounted for */
    uint64_t last;
    uint64_t missing;
    uint64_t example; /* session */
};

static void completions_end(struct completions *all)
{
    if (all->session != 0 && all->covered < all->last) {
        all->missing += all->last - all->covered;
        all->example = all->session;
    }
}

static void completions_row(struct completions *all, sqlite3_stmt *row)
{
    uint64_t session = (uint64_t)sqlite3_column_int64(row, 0);
    uint64_t first = (uint64_t)sqlite3_column_int64(row, 1);
    uint64_t last = (uint64_t)sqlite3_column_int64(row, 2);
    if (session != all->session) {
        completions_end(all);
        all->session = session;
        all->covered = (uint64_t)sqlite3_column_int64(row, 3);
        all->last = (uint64_t)sqlite3_column_int64(row, 4);
    }
    if (first > all->covered + 1) {
        all->missing += first - all->covered - 1;
        all->example = session;
    }
    all->covered = last > all->covered ? last : all->covered;
}

/* The first row of each session covers what is acknowledged, so that sessions without any other are seen too. */
static void check_completions(struct store *store, struct store_report *report)
{
    static const char sql[] =
        "SELECT s.id, c.first, c.last, s.acked_prefix, s.completion_last FROM session AS s JOIN ("
        "SELECT session, completion AS first, completion AS last FROM outcome"
        " UNION ALL SELECT session, first, last FROM taken"
        " UNION ALL SELECT id, 0, acked_prefix FROM session) AS c ON c.session = s.id ORDER BY 1, 2";
    struct completions all = {0};
    sqlite3_stmt *statement = NULL;
    int code = sqlite3_prepare_v2(store->db, sql, -1, &statement, NULL);
    while (code == SQLITE_OK && (code = sqlite3_step(statement)) == SQLITE_ROW) {
        completions_row(&all, statement);
        code = SQLITE_OK;
    }
    completions_end(&all);
    if (code != SQLITE_DONE) {
        fault_add_code(store, report, "the completions of sessions");
    } else if (all.missing > 0) {
        fault_add(report, all.missing,
                  rule_text("completions that are neither acknowledged nor any outcome's, in sessions", all.example));
    }
    sqlite3_finalize(statement);
    check_rule(store, report, "outcomes with one completion number of their session",
               "SELECT count(*), min(id) FROM (SELECT min(id) AS id FROM outcome GROUP BY session, completion"
               " HAVING count(*) > 1)");
}

/* ---- counts ---- */

static void count_rows(struct store *store, const char *table, uint64_t *count_out)
{
    char sql[64];
    int64_t count = 0;
    snprintf(sql, sizeof sql, "SELECT count(*) FROM %s", table);
    *count_out = store_read_number(store, sql, &count) == SQLITE_OK ? (uint64_t)count : 0;
}

static void read_counts(struct store *store, struct store_report *report)
{
    count_rows(store, "session", &report->sessions);
    count_rows(store, "series", &report->series);
    count_rows(store, "call", &report->calls);
    count_rows(store, "worker", &report->workers);
    count_rows(store, "task", &report->tasks);
    count_rows(store, "outcome", &report->outcomes);
    count_rows(store, "failure", &report->failures);
}

static void read_identity(struct store *store, struct store_report *report)
{
    sqlite3_stmt *statement = NULL;
    int code = sqlite3_prepare_v2(store->db, "SELECT uuid, epoch, is_clean FROM meta", -1, &statement, NULL);
    code = code != SQLITE_OK ? code : sqlite3_step(statement);
    if (code != SQLITE_ROW || sqlite3_column_bytes(statement, 0) != UUID_SIZE) {
        fault_add_code(store, report, "the row of meta");
    } else {
        memcpy(report->uuid.b, sqlite3_column_blob(statement, 0), UUID_SIZE);
        report->epoch = (uint32_t)sqlite3_column_int64(statement, 1);
        report->was_clean = sqlite3_column_int64(statement, 2) != 0;
    }
    sqlite3_finalize(statement);
}

/* ---- all of it ---- */

static void check_everything(struct store *store, struct store_report *report)
{
    int64_t version = 0;
    struct disk_facts facts = {0};
    if (store_read_number(store, "PRAGMA user_version", &version) == SQLITE_OK) {
        report->version = (uint32_t)version;
    }
    if (disk_look(&store->disk, &facts) == QUERN_OK) {
        report->file_bytes = facts.file_bytes;
        report->wal_bytes = facts.wal_bytes;
    }
    check_pages(store, report);
    read_identity(store, report);
    read_counts(store, report);
    if (report->version ==
        schema_step_count) { /* an older one is brought up to date by the next start, then it can be */
        check_rows(store, report);
    }
    for (size_t i = 0; i < sizeof rules / sizeof rules[0]; i++) {
        check_rule(store, report, rules[i].what, rules[i].sql);
    }
    check_completions(store, report);
}

/* As at an opening, but a database that SQLite finds damaged at its head is a store with a fault. */
static enum quern_err check_kind(struct store *store, struct store_report *report, char **why_out)
{
    bool is_new = false;
    enum quern_err err = store_look(store, why_out);
    err = err != QUERN_OK ? err : schema_check(store, &is_new, why_out);
    if (err == QUERN_OK && is_new) {
        *why_out = sentence("%s is empty: no store yet", store->disk.path);
        return QUERN_UNKNOWN;
    }
    if (err == QUERN_MALFORMED && (sqlite3_errcode(store->db) & 0xff) == SQLITE_CORRUPT) {
        fault_add(report, 1, *why_out);
        *why_out = NULL;
    }
    return err;
}

enum quern_err store_check(const char *path, struct store_report *report_out, char **why_out)
{
    struct store *store = xcalloc(1, sizeof *store);
    *report_out = (struct store_report){0};
    *why_out = NULL;
    enum quern_err err = disk_open_to_look(&store->disk, path, why_out);
    err = err != QUERN_OK ? err : check_kind(store, report_out, why_out);
    if (err == QUERN_OK) {
        sqlite3_exec(store->db, "PRAGMA cell_size_check = ON; PRAGMA trusted_schema = OFF; PRAGMA cache_size = -65536",
                     NULL, NULL, NULL);
        check_everything(store, report_out);
    }
    store->is_failed = true; /* closed without a write */
    store_close(&store, false);
    return report_out->fault_count > 0 ? QUERN_OK : err;
}

/*
 * series.c: the numbers that client processes give their tasks. A process (instance) has a series in its session; its
 * number is never given to another, not even when the series is gone. Must not know what is submitted. Rules:
 *   - only the owner of a session submits, so series of former owners answer nothing but a former owner that opens the
 * session again; the last few of them are kept, or each new owner would leave a row behind for ever;
 *   - one that went is not made again: what was submitted in it stays where it is, and who names it is sent away.
 * Start reading at series_give.
 */
#include "broker/state.h"

#include <stdlib.h>

#include "common/check.h"

static struct series *series_add(struct core *core, struct session *session, uint64_t id, const struct uuid *instance)
{
    struct series *series = xcalloc(1, sizeof *series);
    series->id = id;
    series->session = session;
    series->instance = *instance;
    series->next = session->series;
    session->series = series;
    map_put(&core->series, id, series);
    return series;
}

struct series *series_find(const struct core *core, uint64_t id)
{
    return id == 0 ? NULL : map_get(&core->series, id);
}

struct series *series_give(struct core *core, struct session *session, const struct uuid *instance)
{
    struct series *newest = NULL;
    for (struct series *series = session->series; series != NULL; series = series->next) {
        if (uuid_equal(&series->instance, instance) && (newest == NULL || series->id > newest->id)) {
            newest = series;
        }
    }
    if (newest != NULL && newest->submitted_high < core->limits.series_used_max) {
        return newest;
    }
    struct series *series = series_add(core, session, series_number_give(core), instance);
    batch_series(core, series);
    return series;
}

void series_use(struct series *series)
{
    struct session *session = series->session;
    struct series **at = &session->series;
    while (*at != series) {
        at = &(*at)->next;
    }
    *at = series->next;
    series->next = session->series;
    session->series = series;
}

static void series_free(struct core *core, struct series *series)
{
    map_remove(&core->series, series->id);
    free(series->refused);
    free(series);
}

static void series_delete_row(struct core *core, const struct series *series)
{
    if (!series->session->is_volatile) {
        struct change *change = batch_single(core, CHANGE_SERIES_DELETE);
        change->number = series->id;
        change->series = (struct series_row){.id = series->id, .session = series->session->id};
    }
}

void series_shed(struct core *core, struct session *session)
{
    struct series **at = &session->series;
    for (unsigned i = 0; i < SESSION_SERIES_COUNT_MAX && *at != NULL; i++) {
        at = &(*at)->next;
    }
    while (*at != NULL) {
        struct series *series = *at;
        *at = series->next;
        batch_forget_series(core, series);
        series_delete_row(core, series);
        series_free(core, series);
    }
}

void series_end(struct core *core, struct session *session)
{
    while (session->series != NULL) {
        struct series *series = session->series;
        session->series = series->next;
        series_free(core, series);
    }
}

void series_restore(struct core *core, const struct series_row *row)
{
    struct session *session = session_find(core, row->session);
    if (session == NULL) {
        return;
    }
    struct series *series = series_add(core, session, row->id, &row->instance);
    series->submitted_high = row->submitted_high;
    if (row->refused.n > 0) {
        struct cursor cursor = cursor_of(row->refused);
        struct value head;
        CHECK(cursor_next(&cursor, &head) && head.type == VALUE_ARRAY);
        series->refused_cap = head.count ? head.count : 1;
        series->refused = xcalloc(series->refused_cap, sizeof *series->refused);
        for (uint32_t i = 0; i < head.count; i++) {
            struct value v[4];
            CHECK(cursor_next(&cursor, &v[0]) && cursor_next(&cursor, &v[1]) && cursor_next(&cursor, &v[2]) &&
                  cursor_next(&cursor, &v[3]));
            series->refused[series->refused_count++] =
                (struct refusal){.first = (uint32_t)v[1].u, .last = (uint32_t)v[2].u, .code = (uint32_t)v[3].u};
        }
    }
}

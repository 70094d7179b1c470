/*
 * memdump.c owns a simulated store as text, for comparing.
 * It must not change it.
 * Start reading at memstore_dump.
 */
#include "memtables.h"

#include "common/ranges.h"

#include <inttypes.h>

static const char *const table_words[TABLE_COUNT] = {"call",   "session", "taken",   "series",
                                                     "worker", "task",    "outcome", "failure"};

static void dump_hex(struct buf *out, const uint8_t *p, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        buf_printf(out, "%02x", p[i]);
    }
}

/* The fixed part without its views (padding is zero or copied alike only by luck, so fields are taken by type). */
static void dump_fixed(struct buf *out, enum table_kind kind, const void *data)
{
    if (kind == SESSIONS) {
        const struct session_row *row = data;
        buf_printf(out, " last=%" PRIu64 " acked=%" PRIu64 " ordinal=%" PRIu64 " failed=%" PRIu64 " keep=%d ending=%d",
                   row->completion_last, row->acked_prefix, row->ordinal_high, row->failed, row->keep, row->is_ending);
        dump_hex(out, row->owner.b, UUID_SIZE);
        dump_hex(out, row->digest, DIGEST_SIZE);
        buf_printf(out, " %" PRId64 " %" PRId64 " %" PRIu64, row->created, row->used, row->expire_ms);
    } else if (kind == SERIES) {
        const struct series_row *row = data;
        buf_printf(out, " session=%" PRIu64 " high=%" PRIu64 " ", row->session, row->submitted_high);
        dump_hex(out, row->instance.b, UUID_SIZE);
    } else if (kind == WORKERS) {
        const struct worker_row *row = data;
        buf_printf(out, " pid=%" PRIu64 " ", row->pid);
        dump_hex(out, row->instance.b, UUID_SIZE);
    } else if (kind == TASKS) {
        const struct task_row *row = data;
        buf_printf(out, " session=%" PRIu64 " call=%" PRIu64 " state=%u priority=%d token=%u.%u worker=%" PRIu64,
                   row->session, row->call, row->state, row->priority, row->epoch, row->attempt, row->worker);
        buf_printf(out, " blame=%u/%u/%u due=%" PRId64 " created=%" PRId64 " ordinal=%" PRIu64 " of=%" PRIx64,
                   row->attempts, row->crashes, row->losses, row->due, row->created, row->ordinal, row->retry_of);
    } else if (kind == OUTCOMES) {
        const struct outcome_row *row = data;
        buf_printf(out, " session=%" PRIu64 " completion=%" PRIu64 " call=%" PRIu64 " state=%u cause=%u attempt=%u/%u",
                   row->session, row->completion, row->call, row->state, row->cause, row->attempt, row->attempts);
        buf_printf(out, " signal=%u exit=%u %" PRId64 " %" PRId64 " %" PRId64 " run=%" PRIu64 " ordinal=%" PRIu64,
                   row->signal, row->exit_status, row->created, row->started, row->finished, row->run_us, row->ordinal);
        buf_printf(out, " of=%" PRIx64 " args=%" PRIu64 "/%" PRIx64, row->retry_of, row->args_size, row->args_hash);
        buf_printf(out, " cpu=%" PRIu64 " peak=%" PRIu64, row->cpu_us, row->peak);
    } else if (kind == FAILURES) {
        const struct failure_row *row = data;
        buf_printf(out, " at=%" PRId64 " cause=%u signal=%u exit=%u run=%" PRIu64 "/%" PRIu64 "/%" PRIu64, row->at,
                   row->cause, row->signal, row->exit_status, row->run_us, row->cpu_us, row->peak);
    }
}

/* Their union: how it is cut into rows is not what is stored. */
static void dump_taken(const struct table *table, struct buf *out)
{
    struct ranges union_of = {0};
    for (size_t i = 0; i < table->count; i++) {
        const struct taken_row *row = table->rows[i].data;
        ranges_add(&union_of, row->first, row->last);
        if (i + 1 < table->count && table->rows[i + 1].key == row->session) {
            continue;
        }
        buf_printf(out, "taken %" PRIu64, row->session);
        for (size_t n = 0; n < union_of.count; n++) {
            buf_printf(out, " %" PRIu64 "-%" PRIu64, union_of.at[n].first, union_of.at[n].last);
        }
        buf_printf(out, "\n");
        ranges_clear(&union_of);
    }
    ranges_fini(&union_of);
}

void memstore_dump(const struct memstore *store, struct buf *out)
{
    buf_printf(out, "meta %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 "\n", store->meta.series_next,
               store->meta.session_next, store->meta.worker_next, store->meta.call_next);
    dump_taken(&store->tables[TAKEN], out);
    for (size_t kind = 0; kind < TABLE_COUNT; kind++) {
        for (size_t i = 0; i < store->tables[kind].count && kind != TAKEN; i++) {
            const struct row *row = &store->tables[kind].rows[i];
            buf_printf(out, "%s %" PRIx64 "/%" PRIu64, table_words[kind], row->key, row->sub);
            dump_fixed(out, (enum table_kind)kind, row->data);
            for (size_t v = 0; v < shapes[kind].count; v++) {
                struct bytes view = *view_at(row->data, shapes[kind].at[v]);
                buf_printf(out, " [");
                dump_hex(out, view.p, view.n);
                buf_printf(out, "]");
            }
            buf_printf(out, "\n");
        }
    }
}

/*
 * Owns the words and the JSON of a benchmark's figures. Must not know the broker. Start at put_bench_text.
 */
#include "client/cli/bench_report.h"
#include "client/cli/json.h"
#include <inttypes.h>

#define MIB 1048576.0

static double seconds_of(const struct phase *phase)
{
    return (double)(phase->took_us > 0 ? phase->took_us : 1) / 1e6;
}

static double percentile_ms(const struct phase *phase, double percent)
{
    return (double)histogram_percentile_us(&phase->times, percent) / 1000.0;
}

/* Arguments and results together. */
static double mib_per_second(const struct bench_report *report, const struct phase *phase)
{
    return 2.0 * (double)report->payload_size * (double)phase->tasks / MIB / seconds_of(phase);
}

/* The mean of a sync of the broker's disk, over both phases. */
static double sync_ms(const struct bench_report *report)
{
    uint64_t syncs = report->alone.store.syncs + report->all.store.syncs;
    return syncs == 0 ? 0 : (double)(report->alone.store.sync_us + report->all.store.sync_us) / 1000.0 / (double)syncs;
}

/* ---- JSON ---- */

static void put_times_json(struct buf *to, const struct phase *phase)
{
    buf_printf(to, "\"p50_ms\":%.3f,\"p90_ms\":%.3f,\"p99_ms\":%.3f,\"p999_ms\":%.3f,\"max_ms\":%.3f",
               percentile_ms(phase, 50), percentile_ms(phase, 90), percentile_ms(phase, 99), percentile_ms(phase, 99.9),
               percentile_ms(phase, 100));
}

static void put_store_json(struct buf *to, const struct phase *phase)
{
    buf_printf(to, "\"rows\":%" PRIu64 ",\"syncs\":%" PRIu64 ",\"batches\":%" PRIu64, phase->store.rows,
               phase->store.syncs, phase->store.batches);
}

void put_bench_json(struct buf *to, const struct bench_report *report)
{
    const struct phase *all = &report->all;
    buf_printf(to, "{\"quern\":\"%s\",\"broker\":", QUERN_VERSION_TEXT);
    json_put_str(to, bytes_text(report->broker_version));
    buf_printf(to, ",\"durable\":%s,\"cpus\":%u,\"slots\":%" PRIu64 ",\"clients\":%" PRId64,
               report->is_volatile ? "false" : "true", report->cpus, report->slots, report->clients);
    buf_printf(to,
               ",\"bytes\":%" PRId64 ",\"depth\":%" PRId64 ",\"rate\":%.1f,\"warm_up\":%" PRId64 ",\"sync_ms\":%.3f",
               report->payload_size, report->depth, report->rate, report->warm_up, sync_ms(report));
    buf_printf(to, ",\"tasks\":%" PRId64 ",\"seconds\":%.6f,\"tasks_per_second\":%.1f,\"mib_per_second\":%.1f,",
               all->tasks, seconds_of(all), (double)all->tasks / seconds_of(all), mib_per_second(report, all));
    put_store_json(to, all);
    buf_printf(to, ",\"latency\":{");
    put_times_json(to, all);
    buf_printf(to, "},\"one_at_a_time\":{\"tasks\":%" PRId64 ",", report->alone.tasks);
    put_times_json(to, &report->alone);
    buf_printf(to, ",");
    put_store_json(to, &report->alone);
    buf_printf(to, "}}\n");
}

/* ---- words ---- */

static void put_times_text(struct buf *to, const struct phase *phase)
{
    buf_printf(to, "p50 %.3f ms, p90 %.3f ms, p99 %.3f ms, p99.9 %.3f ms, max %.3f ms", percentile_ms(phase, 50),
               percentile_ms(phase, 90), percentile_ms(phase, 99), percentile_ms(phase, 99.9),
               percentile_ms(phase, 100));
}

static void put_store_text(struct buf *to, const struct bench_report *report, const struct phase *phase)
{
    if (!report->is_volatile) {
        buf_printf(to, "; the broker wrote %" PRIu64 " rows and made %" PRIu64 " syncs", phase->store.rows,
                   phase->store.syncs);
    }
    buf_printf(to, "\n");
}

static void put_setting_text(struct buf *to, const struct bench_report *report)
{
    buf_printf(to, "%s; %" PRId64 " client%s, %" PRIu64 " slot%s, %u CPUs here; quern %s, broker %s",
               report->is_volatile ? "volatile" : "durable", report->clients, report->clients == 1 ? "" : "s",
               report->slots, report->slots == 1 ? "" : "s", report->cpus, QUERN_VERSION_TEXT, report->broker_version);
    if (!report->is_volatile) {
        buf_printf(to, "; a sync of the broker's disk takes %.3f ms", sync_ms(report));
    }
    buf_printf(to, "; %" PRId64 " tasks to warm up\n", report->warm_up);
}

static void put_all_text(struct buf *to, const struct bench_report *report)
{
    const struct phase *all = &report->all;
    if (report->rate > 0) {
        buf_printf(to, "at %.0f tasks/s: ", report->rate);
    } else if (report->depth > 0) {
        buf_printf(to, "%" PRId64 " at a time for each client: ", report->depth);
    } else {
        buf_printf(to, "all at once: ");
    }
    buf_printf(to, "%" PRId64 " tasks in %.3f s, %.0f tasks/s", all->tasks, seconds_of(all),
               (double)all->tasks / seconds_of(all));
    if (report->payload_size > 0) {
        buf_printf(to, ", %.1f MiB/s of arguments and results", mib_per_second(report, all));
    }
    buf_printf(to, "; ");
    put_times_text(to, all);
    put_store_text(to, report, all);
}

void put_bench_text(struct buf *to, const struct bench_report *report)
{
    put_setting_text(to, report);
    buf_printf(to, "one at a time: %" PRId64 " tasks, submit to result ", report->alone.tasks);
    put_times_text(to, &report->alone);
    put_store_text(to, report, &report->alone);
    put_all_text(to, report);
}

/*
 * Owns `quern bench`: durable squares, one submit per task, every value checked; one at a time for the latency, then
 * all at once for the throughput; with what the broker wrote for it. Start at bench_main.
 */
#include "client/cli/answer.h"
#include "client/cli/arguments.h"
#include "client/cli/out.h"
#include "client/cli/signals.h"
#include "common/check.h"
#include "common/clock.h"
#include "common/codec.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define BENCH_FUNCTION "square"
#define TASKS_DEFAULT 100000
#define TASKS_MAX 10000000
#define LATENCY_COUNT_MAX 1000
#define TAKE_EVERY 256 /* submits between two looks at the outcomes */
#define WAIT_MS 100    /* before signals are looked at again */
#define SESSION_LABEL_SIZE 24

struct store_figures {
    uint64_t batches;
    uint64_t rows;
    uint64_t syncs;
};

struct bench {
    const struct cli *cli;
    struct quern_client *client;
    int64_t tasks;
    int64_t latency_count;
    int64_t *latencies_us;
    uint8_t *seen; /* by value: each must come once */
    uint64_t done; /* of this phase */
    int64_t throughput_us;
    struct store_figures latency_store;
    struct store_figures throughput_store;
};

/* ---- asking the broker ---- */

static bool worker_serves(struct bytes worker)
{
    struct answer_walk walk;
    struct bytes name;
    for (answer_walk_array(&walk, answer_field(worker, "functions")); answer_walk_next(&walk, &name);) {
        if (bytes_is(answer_scalar_bytes(name), BENCH_FUNCTION)) {
            return answer_flag(worker, "connected");
        }
    }
    return false;
}

static int check_worker(struct bytes status)
{
    struct answer_walk walk;
    struct bytes worker;
    for (answer_walk_array(&walk, answer_field(status, "workers")); answer_walk_next(&walk, &worker);) {
        if (worker_serves(worker)) {
            return STATUS_OK;
        }
    }
    say("no worker serves the function " BENCH_FUNCTION ": start one with the example module: quern-worker --module "
        ".../examples.so");
    return STATUS_NOT_DONE;
}

static int bench_look(const struct bench *bench, struct store_figures *figures, bool must_serve)
{
    struct bytes answer = {0};
    int status = query(bench->client, "status", NULL, NULL, &answer);
    if (status == STATUS_OK) {
        struct bytes stats = answer_field(answer, "store_stats");
        *figures = (struct store_figures){
            .batches = answer_u64(stats, "batches"),
            .rows = answer_u64(stats, "rows"),
            .syncs = answer_u64(stats, "syncs"),
        };
        status = must_serve ? check_worker(answer) : STATUS_OK;
    }
    free((void *)(uintptr_t)answer.p);
    return status;
}

static struct store_figures figures_between(struct store_figures before, struct store_figures after)
{
    return (struct store_figures){
        .batches = after.batches - before.batches,
        .rows = after.rows - before.rows,
        .syncs = after.syncs - before.syncs,
    };
}

/* ---- one task ---- */

/* The ordinal is the number to be squared: an outcome says which one it answers. */
static int bench_submit(struct bench *bench, uint64_t number, struct buf *args)
{
    struct quern_call call = QUERN_CALL_INIT;
    args->n = 0;
    put_array(args, 1);
    put_u64(args, number);
    call.function = BENCH_FUNCTION;
    call.args = args->p;
    call.args_size = args->n;
    call.ordinal = number;
    enum quern_err err = quern_submit(bench->client, &call, NULL, NULL);
    return err == QUERN_OK ? STATUS_OK : say_error(err, NULL);
}

static int bench_check(struct bench *bench, const struct quern_outcome *outcome)
{
    struct value value = {0};
    struct cursor cursor = cursor_of(bytes_of(outcome->result, outcome->result_size));
    uint64_t number = outcome->ordinal;
    if (outcome->state != QUERN_STATE_DONE) {
        say("task %" PRIu64 " failed: %s: %s", number, quern_cause_word(outcome->cause), outcome->message);
        return STATUS_TASK_FAILED;
    }
    bool is_right = outcome->result_size > 0 && cursor_next(&cursor, &value) && value.type == VALUE_UINT &&
                    value.u == number * number;
    if (!is_right || number == 0 || number > (uint64_t)(bench->tasks + bench->latency_count)) {
        say("the square of %" PRIu64 " came back wrong; this is a defect of quern", number);
        return STATUS_TASK_FAILED;
    }
    if ((bench->seen[number / 8] >> (number % 8) & 1) != 0) {
        say("the square of %" PRIu64 " came back twice; this is a defect of quern", number);
        return STATUS_TASK_FAILED;
    }
    bench->seen[number / 8] |= (uint8_t)(1u << (number % 8));
    bench->done++;
    return STATUS_OK;
}

/* Takes what is there; waits for the first if wait_ms is not 0. */
static int bench_take(struct bench *bench, int wait_ms)
{
    int status = STATUS_OK;
    for (int timeout_ms = wait_ms; status == STATUS_OK; timeout_ms = 0) {
        struct quern_outcome *outcome = NULL;
        enum quern_err err = quern_next(bench->client, timeout_ms, &outcome);
        if (err == QUERN_TIMEOUT || (err == QUERN_END && timeout_ms == 0)) {
            return signals_came() ? STATUS_INTERRUPTED : STATUS_OK;
        }
        if (err != QUERN_OK) {
            return say_error(err, NULL);
        }
        status = bench_check(bench, outcome);
        quern_outcome_release(&outcome);
    }
    return status;
}

/* ---- phases ---- */

static int bench_one_at_a_time(struct bench *bench)
{
    struct buf args = {0};
    int status = STATUS_OK;
    for (int64_t i = 0; i < bench->latency_count && status == STATUS_OK; i++) {
        int64_t begun_us = clock_mono_us();
        status = bench_submit(bench, (uint64_t)i + 1, &args);
        while (status == STATUS_OK && bench->done <= (uint64_t)i) {
            status = bench_take(bench, WAIT_MS);
        }
        bench->latencies_us[i] = clock_mono_us() - begun_us;
    }
    buf_fini(&args);
    return status;
}

static int bench_all_at_once(struct bench *bench)
{
    struct buf args = {0};
    int status = STATUS_OK;
    int64_t begun_us = clock_mono_us();
    bench->done = 0;
    for (int64_t i = 1; i <= bench->tasks && status == STATUS_OK; i++) {
        status = bench_submit(bench, (uint64_t)(bench->latency_count + i), &args);
        if (status == STATUS_OK && i % TAKE_EVERY == 0) {
            status = bench_take(bench, 0);
        }
    }
    while (status == STATUS_OK && bench->done < (uint64_t)bench->tasks) {
        status = bench_take(bench, WAIT_MS);
    }
    bench->throughput_us = clock_mono_us() - begun_us;
    buf_fini(&args);
    return status;
}

static int bench_phases(struct bench *bench)
{
    struct store_figures figures[3];
    int status = bench_look(bench, &figures[0], true);
    status = status == STATUS_OK ? bench_one_at_a_time(bench) : status;
    status = status == STATUS_OK ? bench_look(bench, &figures[1], false) : status;
    status = status == STATUS_OK ? bench_all_at_once(bench) : status;
    status = status == STATUS_OK ? bench_look(bench, &figures[2], false) : status;
    if (status == STATUS_OK) {
        bench->latency_store = figures_between(figures[0], figures[1]);
        bench->throughput_store = figures_between(figures[1], figures[2]);
    }
    return status;
}

/* ---- printing ---- */

static int latency_compare(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a;
    int64_t y = *(const int64_t *)b;
    return x < y ? -1 : x > y;
}

/* The smallest latency that `percent` of all do not exceed, in ms. */
static double percentile_ms(const struct bench *bench, int64_t percent)
{
    int64_t rank = (bench->latency_count * percent + 99) / 100;
    return (double)bench->latencies_us[rank > 0 ? rank - 1 : 0] / 1000.0;
}

static void put_bench_json(const struct bench *bench, double per_second, struct buf *to)
{
    buf_printf(to,
               "{\"tasks\":%" PRId64 ",\"seconds\":%.6f,\"tasks_per_second\":%.1f,\"one_at_a_time\":{\"tasks\":%" PRId64
               ",\"p50_ms\":%.3f,\"p90_ms\":%.3f,\"p99_ms\":%.3f,\"max_ms\":%.3f,\"rows\":%" PRIu64
               ",\"syncs\":%" PRIu64 ",\"batches\":%" PRIu64 "},",
               bench->tasks, (double)bench->throughput_us / 1e6, per_second, bench->latency_count,
               percentile_ms(bench, 50), percentile_ms(bench, 90), percentile_ms(bench, 99), percentile_ms(bench, 100),
               bench->latency_store.rows, bench->latency_store.syncs, bench->latency_store.batches);
    buf_printf(to, "\"rows\":%" PRIu64 ",\"syncs\":%" PRIu64 ",\"batches\":%" PRIu64 "}\n",
               bench->throughput_store.rows, bench->throughput_store.syncs, bench->throughput_store.batches);
}

static void put_bench_text(const struct bench *bench, double per_second, struct buf *to)
{
    buf_printf(to,
               "one at a time: %" PRId64 " tasks, submit to result p50 %.3f ms, p90 %.3f ms, p99 %.3f ms, max %.3f ms; "
               "the broker wrote %" PRIu64 " rows and made %" PRIu64 " syncs\n",
               bench->latency_count, percentile_ms(bench, 50), percentile_ms(bench, 90), percentile_ms(bench, 99),
               percentile_ms(bench, 100), bench->latency_store.rows, bench->latency_store.syncs);
    buf_printf(to,
               "all at once: %" PRId64 " tasks in %.3f s, %.0f tasks/s; the broker wrote %" PRIu64
               " rows and made %" PRIu64 " syncs\n",
               bench->tasks, (double)bench->throughput_us / 1e6, per_second, bench->throughput_store.rows,
               bench->throughput_store.syncs);
}

static int bench_print(struct bench *bench)
{
    struct out out;
    double seconds = (double)(bench->throughput_us > 0 ? bench->throughput_us : 1) / 1e6;
    double per_second = (double)bench->tasks / seconds;
    out_init(&out, STDOUT_FILENO);
    qsort(bench->latencies_us, (size_t)bench->latency_count, sizeof bench->latencies_us[0], latency_compare);
    (bench->cli->json ? put_bench_json : put_bench_text)(bench, per_second, &out.buf);
    int status = out_finish(&out, STATUS_OK);
    out_fini(&out);
    return status;
}

/* The outcomes of a benchmark are nobody's: the broker need not keep them for a later look. */
static void bench_drop(struct bench *bench)
{
    struct quern_session_info info = QUERN_SESSION_INFO_INIT;
    if (quern_session_info(bench->client, &info) == QUERN_OK) {
        char name[SESSION_LABEL_SIZE];
        (void)snprintf(name, sizeof name, "#%" PRIu64, info.session);
        enum quern_err err =
            quern_session_close(bench->client, name, QUERN_CLOSE_CANCEL | QUERN_CLOSE_DROP, 10 * WAIT_MS);
        (void)err; /* an unnamed session ends with its client anyway */
    }
    (void)quern_client_close(&bench->client, QUERN_CLOSE_SESSION | QUERN_CLOSE_CANCEL);
}

static int bench_run(struct bench *bench)
{
    struct quern_client_options options = QUERN_CLIENT_OPTIONS_INIT;
    int status = cli_open(bench->cli, &options, &bench->client);
    if (status != STATUS_OK) {
        return status;
    }
    signals_hold();
    bench->latency_count = bench->tasks < LATENCY_COUNT_MAX ? bench->tasks : LATENCY_COUNT_MAX;
    bench->latencies_us = xcalloc((size_t)bench->latency_count, sizeof bench->latencies_us[0]);
    bench->seen = xcalloc((size_t)(bench->tasks + bench->latency_count) / 8 + 1, 1);
    status = bench_phases(bench);
    status = status == STATUS_OK ? bench_print(bench) : status;
    bench_drop(bench);
    free(bench->latencies_us);
    free(bench->seen);
    return status;
}

int bench_main(struct cli *cli, struct arguments *arguments)
{
    struct bench bench = {.cli = cli, .tasks = TASKS_DEFAULT};
    const struct option table[] = {
        {.name = "tasks", .kind = OPTION_NUMBER, .to = &bench.tasks, .min = 1, .max = TASKS_MAX}};
    int status = arguments_parse(arguments, table, 1);
    if (status != ARGUMENTS_GO_ON) {
        return status;
    }
    return arguments_expect(arguments, 0, 0, "") ? bench_run(&bench) : STATUS_USAGE;
}

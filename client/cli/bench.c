/*
 * Owns `quern bench`: one submit per task, every result checked; after a warm-up one at a time for the latency, then
 * all at once, or at a given rate, from one client or many; with what the broker wrote for it.
 * Must not know how a single task is submitted and checked. Start at bench_main.
 */
#include "client/cli/answer.h"
#include "client/cli/arguments.h"
#include "client/cli/bench_load.h"
#include "client/cli/bench_report.h"
#include "client/cli/out.h"
#include "client/cli/signals.h"
#include "common/check.h"
#include "common/clock.h"
#include "common/limits.h"
#include <inttypes.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define TASKS_DEFAULT 100000
#define TASKS_MAX 10000000
#define ALONE_COUNT_MAX 1000
#define WARM_UP_DEFAULT 1000
#define CLIENTS_MAX 1000
#define RATE_MAX 10000000
#define CLOSE_MS 1000
#define BENCH_BYTES_MAX (PAYLOAD_SIZE_MAX - 16u) /* the heads of the array and of the bytes */
#define SESSION_LABEL_SIZE 24

struct bench;

/* One client in a thread of its own. */
struct runner {
    struct bench *bench;
    struct load load;
    struct histogram times;
    pthread_t thread;
    int status;
};

struct bench {
    const struct cli *cli;
    struct bench_report report;
    int64_t tasks;
    int64_t rate;
    struct runner *runners;
    struct bytes first_answer; /* to `status`: its texts live as long */
};

/* ---- asking the broker ---- */

static bool worker_serves(struct bytes worker, const char *function)
{
    struct answer_walk walk;
    struct bytes name;
    for (answer_walk_array(&walk, answer_field(worker, "functions")); answer_walk_next(&walk, &name);) {
        if (bytes_is(answer_scalar_bytes(name), function)) {
            return answer_flag(worker, "connected");
        }
    }
    return false;
}

static int check_workers(struct bench *bench, struct bytes status)
{
    const char *function = load_function((size_t)bench->report.payload_size);
    struct answer_walk walk;
    struct bytes worker;
    for (answer_walk_array(&walk, answer_field(status, "workers")); answer_walk_next(&walk, &worker);) {
        bench->report.slots += worker_serves(worker, function) ? answer_u64(worker, "slots") : 0;
    }
    if (bench->report.slots == 0) {
        say("no worker serves the function %s: start one with the example module: quern-worker --module "
            ".../examples.so",
            function);
        return STATUS_NOT_DONE;
    }
    return STATUS_OK;
}

static int bench_ask(const struct bench *bench, struct bytes *answer_out)
{
    return query(bench->runners[0].load.client, "status", NULL, NULL, answer_out);
}

static struct store_figures figures_of(struct bytes status)
{
    struct bytes stats = answer_field(status, "store_stats");
    return (struct store_figures){.batches = answer_u64(stats, "batches"),
                                  .rows = answer_u64(stats, "rows"),
                                  .syncs = answer_u64(stats, "syncs"),
                                  .sync_us = answer_u64(stats, "sync_us")};
}

static int bench_look(const struct bench *bench, struct store_figures *figures)
{
    struct bytes answer = {0};
    int status = bench_ask(bench, &answer);
    *figures = figures_of(answer);
    free((void *)(uintptr_t)answer.p);
    return status;
}

static int bench_check(struct bench *bench)
{
    int status = bench_ask(bench, &bench->first_answer);
    bench->report.broker_version = answer_shown(bench->first_answer, "version");
    return status == STATUS_OK ? check_workers(bench, bench->first_answer) : status;
}

/* ---- phases ---- */

static void *runner_run(void *context)
{
    struct runner *runner = context;
    runner->status = load_run(&runner->load);
    return NULL;
}

/* What the number-th of so many gets of a whole. */
static int64_t share_of(int64_t whole, int64_t number, int64_t count)
{
    return whole / count + (number < whole % count);
}

/* All clients at once; the first failure is the status. */
static int phase_run_all(struct bench *bench, int64_t tasks)
{
    int64_t clients = bench->report.clients;
    int64_t started = 0;
    int status = STATUS_OK;
    for (; started < clients; started++) {
        struct runner *runner = &bench->runners[started];
        runner->load.tasks = share_of(tasks, started, clients);
        runner->load.depth = bench->report.depth;
        runner->load.interval_us = bench->rate > 0 ? 1e6 * (double)clients / (double)bench->rate : 0;
        if (pthread_create(&runner->thread, NULL, runner_run, runner) != 0) {
            say("no thread for client %" PRId64 " of %" PRId64 ": try fewer --clients", started + 1, clients);
            status = STATUS_NOT_DONE;
            break;
        }
    }
    for (int64_t i = 0; i < started; i++) {
        (void)pthread_join(bench->runners[i].thread, NULL);
        status = status == STATUS_OK ? bench->runners[i].status : status;
    }
    return status;
}

static int phase_run_alone(struct bench *bench, int64_t tasks)
{
    struct load *load = &bench->runners[0].load;
    load->tasks = tasks;
    load->depth = 1;
    load->interval_us = 0;
    return load_run(load);
}

static int phase_run(struct bench *bench, struct phase *phase, int64_t tasks,
                     int (*run)(struct bench *bench, int64_t tasks))
{
    struct store_figures before;
    struct store_figures after;
    int status = bench_look(bench, &before);
    for (int64_t i = 0; i < bench->report.clients; i++) {
        bench->runners[i].times = (struct histogram){0};
    }
    int64_t begun_us = clock_mono_us();
    status = status == STATUS_OK ? run(bench, tasks) : status;
    phase->took_us = clock_mono_us() - begun_us;
    phase->tasks = tasks;
    status = status == STATUS_OK ? bench_look(bench, &after) : status;
    if (status == STATUS_OK) {
        phase->store = (struct store_figures){.batches = after.batches - before.batches,
                                              .rows = after.rows - before.rows,
                                              .syncs = after.syncs - before.syncs,
                                              .sync_us = after.sync_us - before.sync_us};
    }
    for (int64_t i = 0; i < bench->report.clients; i++) {
        histogram_merge(&phase->times, &bench->runners[i].times);
    }
    return status;
}

static int bench_phases(struct bench *bench)
{
    struct bench_report *report = &bench->report;
    static struct phase warm_up; /* not looked at */
    int64_t alone = bench->tasks < ALONE_COUNT_MAX ? bench->tasks : ALONE_COUNT_MAX;
    int status = bench_check(bench);
    if (status == STATUS_OK && report->warm_up > 0) {
        status = phase_run(bench, &warm_up, report->warm_up, phase_run_all);
    }
    status = status == STATUS_OK ? phase_run(bench, &report->alone, alone, phase_run_alone) : status;
    return status == STATUS_OK ? phase_run(bench, &report->all, bench->tasks, phase_run_all) : status;
}

/* ---- clients ---- */

static int runner_open(struct runner *runner)
{
    struct quern_client_options options = QUERN_CLIENT_OPTIONS_INIT;
    options.is_volatile = runner->bench->report.is_volatile;
    runner->load.to = &runner->times;
    runner->load.payload_size = (size_t)runner->bench->report.payload_size;
    return cli_open(runner->bench->cli, &options, &runner->load.client);
}

/* The outcomes of a benchmark are nobody's: the broker need not keep them for a later look. */
static void runner_drop(struct runner *runner)
{
    struct quern_session_info info = QUERN_SESSION_INFO_INIT;
    if (runner->load.client != NULL && quern_session_info(runner->load.client, &info) == QUERN_OK) {
        char name[SESSION_LABEL_SIZE];
        (void)snprintf(name, sizeof name, "#%" PRIu64, info.session);
        enum quern_err err =
            quern_session_close(runner->load.client, name, QUERN_CLOSE_CANCEL | QUERN_CLOSE_DROP, CLOSE_MS);
        (void)err; /* an unnamed session ends with its client anyway */
    }
    (void)quern_client_close(&runner->load.client, QUERN_CLOSE_SESSION | QUERN_CLOSE_CANCEL);
}

static int bench_print(struct bench *bench)
{
    struct out out;
    out_init(&out, STDOUT_FILENO);
    (bench->cli->json ? put_bench_json : put_bench_text)(&out.buf, &bench->report);
    int status = out_finish(&out, STATUS_OK);
    out_fini(&out);
    return status;
}

static int bench_run(struct bench *bench)
{
    int status = STATUS_OK;
    int64_t clients = bench->report.clients;
    bench->runners = xcalloc((size_t)clients, sizeof bench->runners[0]);
    for (int64_t i = 0; i < clients && status == STATUS_OK; i++) {
        bench->runners[i].bench = bench;
        status = runner_open(&bench->runners[i]);
    }
    if (status == STATUS_OK) {
        signals_hold();
        status = bench_phases(bench);
        status = status == STATUS_OK ? bench_print(bench) : status;
    }
    for (int64_t i = 0; i < clients; i++) {
        runner_drop(&bench->runners[i]);
    }
    free((void *)(uintptr_t)bench->first_answer.p);
    free(bench->runners);
    return status;
}

/* ---- the command line ---- */

static unsigned cpus_here(void)
{
    cpu_set_t cpus;
    return sched_getaffinity(0, sizeof cpus, &cpus) == 0 ? (unsigned)CPU_COUNT(&cpus) : 0;
}

static int bench_options_check(const struct bench *bench, const struct arguments *arguments)
{
    const struct bench_report *report = &bench->report;
    if (bench->rate > 0 && report->depth > 0) {
        return usage_error(arguments,
                           "--rate submits however late the results are, --depth waits for them: one of both");
    }
    if (report->payload_size > 0 && report->payload_size < (int64_t)sizeof(uint64_t)) {
        return usage_error(arguments, "--bytes %" PRId64 ": 0 for numbers, or at least 8", report->payload_size);
    }
    if (bench->tasks < report->clients) {
        return usage_error(arguments, "--tasks %" PRId64 ": at least one for each of %" PRId64 " clients", bench->tasks,
                           report->clients);
    }
    return ARGUMENTS_GO_ON;
}

int bench_main(struct cli *cli, struct arguments *arguments)
{
    struct bench bench = {.cli = cli, .tasks = TASKS_DEFAULT};
    struct bench_report *report = &bench.report;
    report->clients = 1;
    report->warm_up = WARM_UP_DEFAULT;
    report->cpus = cpus_here();
    const struct option table[] = {
        {.name = "tasks", .kind = OPTION_NUMBER, .to = &bench.tasks, .min = 1, .max = TASKS_MAX},
        {.name = "rate", .kind = OPTION_NUMBER, .to = &bench.rate, .min = 1, .max = RATE_MAX},
        {.name = "depth", .kind = OPTION_NUMBER, .to = &report->depth, .min = 1, .max = TASKS_MAX},
        {.name = "clients", .kind = OPTION_NUMBER, .to = &report->clients, .min = 1, .max = CLIENTS_MAX},
        {.name = "bytes", .kind = OPTION_NUMBER, .to = &report->payload_size, .min = 0, .max = BENCH_BYTES_MAX},
        {.name = "warm-up", .kind = OPTION_NUMBER, .to = &report->warm_up, .min = 0, .max = TASKS_MAX},
        {.name = "volatile", .kind = OPTION_FLAG, .to = &report->is_volatile},
    };
    int status = arguments_parse(arguments, table, sizeof table / sizeof table[0]);
    if (status != ARGUMENTS_GO_ON) {
        return status;
    }
    report->rate = (double)bench.rate;
    status = arguments_expect(arguments, 0, 0, "") ? bench_options_check(&bench, arguments) : STATUS_USAGE;
    return status == ARGUMENTS_GO_ON ? bench_run(&bench) : status;
}

/*
 * Owns `quern status`. Start at status_main.
 */
#include "client/cli/ask.h"
#include "client/cli/words.h"
#include "common/limits.h"
#include <inttypes.h>
#include <string.h>

static void put_broker(struct buf *to, struct bytes answer)
{
    char seconds[AGE_SIZE];
    buf_printf(to, "broker     version %s, protocol %" PRIu64 ", pid %" PRIu64 ", up for %s\n",
               answer_shown(answer, "version"), answer_u64(answer, "protocol"), answer_u64(answer, "pid"),
               seconds_text(answer_u64(answer, "uptime_ms"), seconds));
    buf_printf(to, "store      %s, epoch %" PRIu64 "\n", answer_shown(answer, "store"), answer_u64(answer, "epoch"));
}

static void put_tasks(struct buf *to, struct bytes answer)
{
    struct answer_walk walk;
    struct bytes key;
    struct bytes value;
    struct bytes tasks = answer_field(answer, "tasks");
    const char *separator = "";
    buf_printf(to, "tasks      ");
    for (answer_walk_map(&walk, tasks); answer_walk_pair(&walk, &key, &value); separator = ", ") {
        char name[32];
        size_t size = key.n < sizeof name - 1 ? key.n : sizeof name - 1;
        memcpy(name, key.p, size);
        name[size] = '\0';
        buf_printf(to, "%s%" PRIu64 " %s", separator, answer_u64(tasks, name), name);
    }
    buf_printf(to, "\noutcomes   %" PRIu64 " not acknowledged, %" PRIu64 " acknowledged and kept\n",
               answer_u64(answer, "unacked"), answer_u64(answer, "acked"));
    if (answer_u64(answer, "volatile_bytes") != 0) {
        buf_printf(to, "volatile   %" PRIu64 " bytes of arguments and outcomes in memory only\n",
                   answer_u64(answer, "volatile_bytes"));
    }
    buf_printf(to, "sessions   %" PRIu64 ", %" PRIu64 " of them volatile; clients %" PRIu64 "\n",
               answer_u64(answer, "sessions"), answer_u64(answer, "volatile_sessions"), answer_u64(answer, "clients"));
}

static void put_store(struct buf *to, struct bytes answer)
{
    struct bytes stats = answer_field(answer, "store_stats");
    if (!answer_flag(answer, "durable")) {
        buf_printf(to, "disk       none: the broker has no store, every session is volatile\n");
        return;
    }
    buf_printf(to,
               "disk       %" PRIu64 " MiB in the file, %" PRIu64 " MiB in the log, %" PRIu64 " MiB free%s\n"
               "written    %" PRIu64 " batches, %" PRIu64 " rows, %" PRIu64 " syncs since the start\n",
               answer_u64(stats, "file_bytes") / MIB, answer_u64(stats, "wal_bytes") / MIB,
               answer_u64(stats, "disk_free_bytes") / MIB,
               answer_flag(stats, "disk_low") ? " (LOW: submits are refused)" : "", answer_u64(stats, "batches"),
               answer_u64(stats, "rows"), answer_u64(stats, "syncs"));
}

static void put_names(struct buf *to, struct bytes names)
{
    struct answer_walk walk;
    struct bytes name;
    for (answer_walk_array(&walk, names); answer_walk_next(&walk, &name);) {
        struct bytes text = answer_scalar_bytes(name);
        buf_printf(to, " %.*s", (int)text.n, text.n > 0 ? (const char *)text.p : "");
    }
}

/* What it says of limits of memory, and whether it holds back. */
static void put_memory(struct buf *to, struct bytes row)
{
    struct bytes memory = answer_scalar_bytes(answer_field(row, "memory"));
    struct bytes scarce = answer_scalar_bytes(answer_field(row, "scarce"));
    if (memory.n > 0) {
        buf_printf(to, "; memory: %.*s", (int)memory.n, (const char *)memory.p);
    }
    if (bytes_is(scarce, "memory")) {
        buf_printf(to, "; STARTS NOTHING NEW: free memory is below its floor");
    } else if (bytes_is(scarce, "alone")) {
        buf_printf(to, "; keeps a task alone, or waits until it can");
    }
    buf_put_u8(to, '\n');
}

static void put_workers(struct buf *to, struct bytes answer)
{
    struct answer_walk walk;
    struct bytes row;
    struct bytes workers = answer_field(answer, "workers");
    if (answer_count(workers) == 0) {
        buf_printf(to, "workers    none: nothing runs until one is started (quern-worker)\n");
    }
    for (answer_walk_array(&walk, workers); answer_walk_next(&walk, &row);) {
        buf_printf(to, "worker     %s, %s:%" PRIu64 ", %" PRIu64 " slots, %" PRIu64 " tasks held%s:",
                   answer_shown(row, "name"), answer_shown(row, "host"), answer_u64(row, "pid"),
                   answer_u64(row, "slots"), answer_u64(row, "held"),
                   answer_flag(row, "connected") ? "" : ", NOT CONNECTED");
        put_names(to, answer_field(row, "functions"));
        if (answer_count(answer_field(row, "queues")) > 0) {
            buf_printf(to, "; queues:");
            put_names(to, answer_field(row, "queues"));
        }
        put_memory(to, row);
    }
}

static void put_queues(struct buf *to, struct bytes answer)
{
    struct answer_walk walk;
    struct bytes row;
    for (answer_walk_array(&walk, answer_field(answer, "queues")); answer_walk_next(&walk, &row);) {
        uint64_t workers = answer_u64(row, "workers");
        buf_printf(to, "queue      %s, function %s: %" PRIu64 " ready, %" PRIu64 " leased, %" PRIu64 " workers%s\n",
                   answer_shown(row, "queue"), answer_shown(row, "function"), answer_u64(row, "ready"),
                   answer_u64(row, "leased"), workers, workers == 0 ? " (nobody serves it)" : "");
    }
}

static void put_limits(struct buf *to, struct bytes answer)
{
    struct answer_walk walk;
    struct bytes key;
    struct bytes value;
    struct bytes limits = answer_field(answer, "limits");
    for (answer_walk_map(&walk, limits); answer_walk_pair(&walk, &key, &value);) {
        char name[64];
        size_t size = key.n < sizeof name - 1 ? key.n : sizeof name - 1;
        memcpy(name, key.p, size);
        name[size] = '\0';
        buf_printf(to, "limit      %s %" PRIu64 "\n", name, answer_u64(limits, name));
    }
}

static void put_status(struct buf *to, struct bytes answer)
{
    put_broker(to, answer);
    put_tasks(to, answer);
    put_store(to, answer);
    put_workers(to, answer);
    put_queues(to, answer);
}

static void put_status_and_limits(struct buf *to, struct bytes answer)
{
    put_status(to, answer);
    put_limits(to, answer);
}

int status_main(struct cli *cli, struct arguments *arguments)
{
    bool with_limits = false;
    const struct option table[] = {{.name = "limits", .kind = OPTION_FLAG, .to = &with_limits}};
    struct question question = {.what = "status"};
    int status = arguments_parse(arguments, table, 1);
    if (status != ARGUMENTS_GO_ON) {
        return status;
    }
    question.put_text = with_limits ? put_status_and_limits : put_status;
    return arguments_expect(arguments, 0, 0, "") ? ask(cli, &question) : STATUS_USAGE;
}

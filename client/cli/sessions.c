/*
 * Owns `quern sessions`. Start at sessions_main.
 */
#include "client/cli/ask.h"
#include "client/cli/words.h"
#include "common/clock.h"
#include <inttypes.h>

/* When it ends by itself: after a time without a client, or, if it is left already, from now on. */
static void put_end(struct table *table, struct bytes row)
{
    char text[AGE_SIZE];
    int64_t end_ms = answer_i64(row, "end_ms");
    int64_t now_ms = clock_wall_ms();
    if (end_ms != 0) {
        table_put(table, "in %s", age_text(end_ms > now_ms ? 2 * now_ms - end_ms : now_ms, text));
    } else if (answer_u64(row, "expire_ms") != 0) {
        table_put(table, "%s without a client", seconds_text(answer_u64(row, "expire_ms"), text));
    } else {
        table_put(table, "%s", "");
    }
}

/* A session that a retry has made was never owned. */
static void put_owner(struct table *table, struct bytes row)
{
    const char *owner = answer_shown(row, "owner");
    table_put(table, "%s%s", owner[0] != '\0' ? owner : "nobody",
              owner[0] == '\0' || answer_flag(row, "connected") ? "" : " (gone)");
}

static void put_sessions(struct buf *to, struct bytes answer)
{
    struct table table = {.columns = 9};
    struct answer_walk walk;
    struct bytes row;
    table_put(&table, "SESSION");
    table_put(&table, "STATE");
    table_put(&table, "KIND");
    table_put(&table, "OWNER");
    table_put(&table, "LIVE");
    table_put(&table, "UNTAKEN");
    table_put(&table, "FAILED");
    table_put(&table, "USED");
    table_put(&table, "ENDS");
    for (answer_walk_array(&walk, answer); answer_walk_next(&walk, &row);) {
        char age[AGE_SIZE];
        const char *name = answer_shown(row, "name");
        if (name[0] != '\0') {
            table_put(&table, "%s", name);
        } else {
            table_put(&table, "#%" PRIu64, answer_u64(row, "id"));
        }
        table_put(&table, "%s", answer_shown(row, "state"));
        table_put(&table, "%s", answer_flag(row, "durable") ? "durable" : "volatile");
        put_owner(&table, row);
        table_put(&table, "%" PRIu64, answer_u64(row, "live"));
        table_put(&table, "%" PRIu64, answer_u64(row, "untaken"));
        table_put(&table, "%" PRIu64, answer_u64(row, "failed"));
        table_put(&table, "%s ago", age_text(answer_i64(row, "used_ms"), age));
        put_end(&table, row);
    }
    table_print(&table, to);
}

int sessions_main(struct cli *cli, struct arguments *arguments)
{
    const struct question question = {.what = "sessions", .put_text = put_sessions};
    int status = arguments_parse(arguments, NULL, 0);
    if (status != ARGUMENTS_GO_ON) {
        return status;
    }
    return arguments_expect(arguments, 0, 0, "") ? ask(cli, &question) : STATUS_USAGE;
}

/*
 * Owns `quern list`. Start at list_main.
 */
#include "client/cli/ask.h"
#include "client/cli/options.h"
#include "client/cli/words.h"
#include "common/codec.h"
#include "common/limits.h"
#include <inttypes.h>
#include <string.h>

#define LIST_LIMIT_DEFAULT 100

struct listing {
    const char *state;
    const char *cause;
    const char *session;
    int64_t limit;
};

static void put_rows(struct buf *to, struct bytes answer)
{
    static const char *const heads[] = {"ID", "STATE", "FUNCTION", "QUEUE", "SESSION", "ATTEMPTS", "AGE", "MESSAGE"};
    struct table table = {.columns = sizeof heads / sizeof heads[0]};
    struct answer_walk walk;
    struct bytes row;
    for (size_t i = 0; i < table.columns; i++) {
        table_put(&table, "%s", heads[i]);
    }
    for (answer_walk_array(&walk, answer); answer_walk_next(&walk, &row);) {
        char age[AGE_SIZE];
        const char *cause = answer_shown(row, "cause");
        table_put(&table, "%s", answer_shown(row, "id"));
        table_put(&table, "%s%s%s%s", answer_shown(row, "state"), cause[0] != '\0' ? " (" : "", cause,
                  cause[0] != '\0' ? ")" : "");
        table_put(&table, "%s", answer_shown(row, "function"));
        table_put(&table, "%s", answer_shown(row, "queue"));
        table_put(&table, "%s%s", answer_shown(row, "session"), answer_flag(row, "durable") ? "" : " (volatile)");
        table_put(&table, "%" PRIu64, answer_u64(row, "attempts"));
        table_put(&table, "%s", age_text(answer_i64(row, "created_ms"), age));
        table_put(&table, "%s", answer_shown(row, "message"));
    }
    table_print(&table, to);
}

static void put_named(struct buf *params, const char *name, const char *value)
{
    if (value != NULL) {
        put_text(params, name);
        put_text(params, value);
    }
}

static int list_check(const struct listing *listing, const struct arguments *arguments)
{
    enum quern_state state;
    enum quern_cause cause;
    if (listing->state != NULL && !state_parse(listing->state, &state)) {
        return usage_error(arguments,
                           "--state '%s': states are delayed, waiting, ready, leased, running, backoff, done, failed, "
                           "cancelled",
                           listing->state);
    }
    if (listing->cause != NULL && !cause_parse(listing->cause, strlen(listing->cause), &cause)) {
        return usage_error(arguments,
                           "--cause '%s': causes are error, crashed, timeout, expired, memory, lost, quarantined, "
                           "unencodable",
                           listing->cause);
    }
    return ARGUMENTS_GO_ON;
}

int list_main(struct cli *cli, struct arguments *arguments)
{
    struct listing listing = {.limit = LIST_LIMIT_DEFAULT};
    const struct option table[] = {
        {.name = "state", .kind = OPTION_TEXT, .to = &listing.state},
        {.name = "cause", .kind = OPTION_TEXT, .to = &listing.cause},
        {.name = "session", .kind = OPTION_TEXT, .to = &listing.session},
        {.name = "limit", .kind = OPTION_NUMBER, .to = &listing.limit, .min = 1, .max = QUERY_ROW_COUNT_MAX},
    };
    struct buf params = {0};
    int status = arguments_parse(arguments, table, sizeof table / sizeof table[0]);
    if (status != ARGUMENTS_GO_ON) {
        return status;
    }
    if (!arguments_expect(arguments, 0, 0, "") || list_check(&listing, arguments) != ARGUMENTS_GO_ON) {
        return STATUS_USAGE;
    }
    put_map(&params, 1u + (listing.state != NULL) + (listing.cause != NULL) + (listing.session != NULL));
    put_text(&params, "limit");
    put_i64(&params, listing.limit);
    put_named(&params, "state", listing.state);
    put_named(&params, "cause", listing.cause);
    put_named(&params, "session", listing.session);
    const struct question question = {
        .what = "list", .params = &params, .about = listing.session, .put_text = put_rows};
    status = ask(cli, &question);
    buf_fini(&params);
    return status;
}

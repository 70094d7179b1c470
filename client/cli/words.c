/*
 * Owns ids as words, doing one thing for each, and times for people. Start at ids_check.
 */
#include "client/cli/words.h"

#include "common/clock.h"
#include "common/ids.h"
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

int ids_check(const struct arguments *arguments)
{
    uint64_t id;
    for (size_t i = 0; i < arguments->word_count; i++) {
        if (!id_parse(arguments->words[i], &id)) {
            return usage_error(arguments, "'%s' is no task id; ids look like 7-42 (see `quern list`)",
                               arguments->words[i]);
        }
    }
    return ARGUMENTS_GO_ON;
}

uint64_t id_of(const char *word)
{
    uint64_t id = 0;
    (void)id_parse(word, &id);
    return id;
}

int ids_each(const struct cli *cli, const struct arguments *arguments, void *context,
             int (*do_one)(void *context, struct quern_client *client, const char *id, struct out *out))
{
    struct quern_client *client = NULL;
    struct out out;
    int status = cli_open_operator(cli, &client);
    if (status != STATUS_OK) {
        return status;
    }
    out_init(&out, STDOUT_FILENO);
    for (size_t i = 0; i < arguments->word_count; i++) {
        int one = do_one(context, client, arguments->words[i], &out);
        status = one != STATUS_OK ? one : status;
        if (!out_flush(&out)) {
            break;
        }
    }
    status = out_finish(&out, status);
    out_fini(&out);
    (void)quern_client_close(&client, 0);
    return status;
}

const char *age_text(int64_t at_ms, char text[AGE_SIZE])
{
    static const struct {
        int64_t seconds;
        const char *unit;
    } units[] = {{24 * 3600, "d"}, {3600, "h"}, {60, "min"}, {1, "s"}};
    int64_t seconds = (clock_wall_ms() - at_ms) / 1000;
    size_t at = 0;
    if (at_ms == 0) {
        text[0] = '\0';
        return text;
    }
    seconds = seconds > 0 ? seconds : 0;
    while (at < 3 && seconds < 2 * units[at].seconds) {
        at++;
    }
    (void)snprintf(text, AGE_SIZE, "%" PRId64 " %s", seconds / units[at].seconds, units[at].unit);
    return text;
}

const char *seconds_text(uint64_t ms, char text[AGE_SIZE])
{
    (void)snprintf(text, AGE_SIZE, "%g s", (double)ms / 1000.0);
    return text;
}

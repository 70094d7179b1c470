/*
 * Owns opening a connection with the global options, and telling the user when the broker goes and comes.
 * Must not know commands. Start at cli_open.
 */
#include "client/cli/cli.h"
#include <stdatomic.h>

static atomic_bool is_lost;

/* Called by the library's thread. */
static void connection_changed(void *context, bool is_up, const char *text)
{
    (void)context;
    bool was_lost = atomic_exchange(&is_lost, !is_up);
    if (!is_up && !was_lost) {
        say("the broker is gone (%s); waiting for the broker, nothing is lost", text != NULL ? text : "no answer");
    } else if (is_up && was_lost) {
        say("the broker is back");
    }
}

int cli_open(const struct cli *cli, struct quern_client_options *options, struct quern_client **client_out)
{
    options->url = cli->url;
    options->connect_timeout_ms = cli->connect_timeout_ms;
    options->program = "quern";
    options->on_connection = connection_changed;
    enum quern_err err = quern_client_open(options, client_out);
    return err == QUERN_OK ? STATUS_OK : say_error(err, NULL);
}

int cli_open_operator(const struct cli *cli, struct quern_client **client_out)
{
    struct quern_client_options options = QUERN_CLIENT_OPTIONS_INIT;
    options.no_session = true;
    return cli_open(cli, &options, client_out);
}

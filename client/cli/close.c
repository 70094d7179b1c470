/*
 * Owns `quern close`: ends a session. Start at close_main.
 */
#include "client/cli/arguments.h"
#include "client/cli/json.h"
#include "client/cli/out.h"
#include <unistd.h>

static int close_print(const struct cli *cli, const char *session, bool cancel)
{
    struct out out;
    out_init(&out, STDOUT_FILENO);
    if (cli->json) {
        buf_printf(&out.buf, "{\"session\":");
        json_put_text_or_bin(&out.buf, bytes_text(session));
        buf_printf(&out.buf, ",\"closed\":true,\"cancel\":%s}\n", cancel ? "true" : "false");
    }
    int status = out_finish(&out, STATUS_OK);
    out_fini(&out);
    return status;
}

int close_main(struct cli *cli, struct arguments *arguments)
{
    bool cancel = false;
    const struct option table[] = {{.name = "cancel", .kind = OPTION_FLAG, .to = &cancel}};
    struct quern_client *client = NULL;
    int status = arguments_parse(arguments, table, 1);
    if (status != ARGUMENTS_GO_ON) {
        return status;
    }
    if (!arguments_expect(arguments, 1, 1, "the name of a session")) {
        return STATUS_USAGE;
    }
    const char *session = arguments->words[0];
    status = cli_open_operator(cli, &client);
    if (status != STATUS_OK) {
        return status;
    }
    enum quern_err err = quern_session_close(client, session, cancel ? QUERN_CLOSE_CANCEL : 0, QUERN_FOREVER);
    status = err == QUERN_OK ? close_print(cli, session, cancel) : say_error(err, session);
    (void)quern_client_close(&client, 0);
    return status;
}

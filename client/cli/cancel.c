/*
 * Owns `quern cancel`: tasks that have not started; with --force running ones too. Start at cancel_main.
 */
#include "client/cli/out.h"
#include "client/cli/words.h"
#include <unistd.h>

static void put_cancelled(struct buf *to, const struct cli *cli, const char *id, enum quern_err err)
{
    if (cli->json) {
        buf_printf(to, "{\"id\":\"%s\",\"cancelled\":%s,\"code\":\"%s\"}\n", id, err == QUERN_OK ? "true" : "false",
                   quern_err_word(err));
    } else if (err == QUERN_OK) {
        buf_printf(to, "%s cancelled\n", id);
    }
}

static int cancel_all(const struct cli *cli, struct quern_client *client, const struct arguments *arguments, bool force)
{
    int status = STATUS_OK;
    struct out out;
    out_init(&out, STDOUT_FILENO);
    for (size_t i = 0; i < arguments->word_count; i++) {
        const char *id = arguments->words[i];
        enum quern_err err = quern_cancel(client, id_of(id), force, QUERN_FOREVER);
        if (err != QUERN_OK) {
            status = say_error(err, id);
        }
        put_cancelled(&out.buf, cli, id, err);
        if (!out_flush(&out)) {
            break;
        }
    }
    status = out_finish(&out, status);
    out_fini(&out);
    return status;
}

int cancel_main(struct cli *cli, struct arguments *arguments)
{
    bool force = false;
    const struct option table[] = {{.name = "force", .kind = OPTION_FLAG, .to = &force}};
    struct quern_client *client = NULL;
    int status = arguments_parse(arguments, table, 1);
    if (status != ARGUMENTS_GO_ON) {
        return status;
    }
    if (!arguments_expect(arguments, 1, SIZE_MAX, "a task id") || ids_check(arguments) != ARGUMENTS_GO_ON) {
        return STATUS_USAGE;
    }
    status = cli_open_operator(cli, &client);
    if (status == STATUS_OK) {
        status = cancel_all(cli, client, arguments, force);
        (void)quern_client_close(&client, 0);
    }
    return status;
}

/*
 * Owns `quern cancel`: tasks that have not started; with --force running ones too. Start at cancel_main.
 */
#include "client/cli/words.h"

static void put_cancelled(struct buf *to, const struct cli *cli, const char *id, enum quern_err err)
{
    if (cli->json) {
        buf_printf(to, "{\"id\":\"%s\",\"cancelled\":%s,\"code\":\"%s\"}\n", id, err == QUERN_OK ? "true" : "false",
                   quern_err_word(err));
    } else if (err == QUERN_OK) {
        buf_printf(to, "%s cancelled\n", id);
    }
}

struct cancel {
    const struct cli *cli;
    bool force;
};

static int cancel_one(void *context, struct quern_client *client, const char *id, struct out *out)
{
    const struct cancel *cancel = context;
    enum quern_err err = quern_cancel(client, id_of(id), cancel->force, QUERN_FOREVER);
    put_cancelled(&out->buf, cancel->cli, id, err);
    return err == QUERN_OK ? STATUS_OK : say_error(err, id);
}

int cancel_main(struct cli *cli, struct arguments *arguments)
{
    struct cancel cancel = {.cli = cli};
    const struct option table[] = {{.name = "force", .kind = OPTION_FLAG, .to = &cancel.force}};
    int status = arguments_parse(arguments, table, 1);
    if (status != ARGUMENTS_GO_ON) {
        return status;
    }
    if (!arguments_expect(arguments, 1, SIZE_MAX, "a task id") || ids_check(arguments) != ARGUMENTS_GO_ON) {
        return STATUS_USAGE;
    }
    return ids_each(cli, arguments, &cancel, cancel_one);
}

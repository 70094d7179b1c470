/*
 * Owns `quern retry`: finished tasks again, as new tasks. Start at retry_main.
 */
#include "client/cli/answer.h"
#include "client/cli/json.h"
#include "client/cli/words.h"
#include "common/ids.h"
#include <stdlib.h>

/* The name of a task's session, "" if it cannot be found out. Malloc'd. */
static struct buf session_of(struct quern_client *client, uint64_t id)
{
    struct bytes answer = {0};
    struct buf name = {0};
    if (query_id(client, "show", id, &answer) == STATUS_OK) {
        struct bytes text = answer_bytes(answer, "session");
        buf_put(&name, text.p, text.n);
    }
    free((void *)(uintptr_t)answer.p);
    return name;
}

static void put_retried(struct buf *to, const struct cli *cli, const char *old, uint64_t id, struct bytes session,
                        bool is_new)
{
    char text[ID_TEXT_SIZE];
    if (!cli->json) {
        buf_printf(to, "%s\n", id_text(id, text));
        if (is_new) {
            say("%s: its session is closed: %s is in a new one, %.*s (`quern attach '%.*s'`)", old, text,
                (int)session.n, (const char *)session.p, (int)session.n, (const char *)session.p);
        }
        return;
    }
    buf_printf(to, "{\"retry_of\":\"%s\",\"id\":\"%s\",\"session\":", old, id_text(id, text));
    json_put_text_or_bin(to, session);
    buf_printf(to, ",\"new_session\":%s}\n", is_new ? "true" : "false");
}

static int retry_one(void *context, struct quern_client *client, const char *old, struct out *out)
{
    uint64_t id;
    enum quern_err err = quern_retry(client, id_of(old), &id, NULL, QUERN_FOREVER);
    if (err != QUERN_OK) {
        return say_error(err, old);
    }
    struct buf before = session_of(client, id_of(old));
    struct buf now = session_of(client, id);
    put_retried(&out->buf, context, old, id, buf_bytes(&now), !bytes_equal(buf_bytes(&before), buf_bytes(&now)));
    buf_fini(&before);
    buf_fini(&now);
    return STATUS_OK;
}

int retry_main(struct cli *cli, struct arguments *arguments)
{
    int status = arguments_parse(arguments, NULL, 0);
    if (status != ARGUMENTS_GO_ON) {
        return status;
    }
    if (!arguments_expect(arguments, 1, SIZE_MAX, "a task id") || ids_check(arguments) != ARGUMENTS_GO_ON) {
        return STATUS_USAGE;
    }
    return ids_each(cli, arguments, cli, retry_one);
}

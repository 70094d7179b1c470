/*
 * Owns `quern result`: the outcome of a task by its id, acknowledged once it is printed. Start at result_main.
 */
#include "client/cli/answer.h"
#include "client/cli/options.h"
#include "client/cli/out.h"
#include "client/cli/print.h"
#include "client/cli/waiting.h"
#include "client/cli/words.h"
#include "common/check.h"
#include "common/codec.h"
#include "common/ids.h"
#include "common/messages.h"
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char *text_or_empty(struct bytes map, const char *name)
{
    char *text = answer_text(map, name);
    return text != NULL ? text : xstrdup("");
}

/* The answer as an outcome; strings are malloc'd (outcome_fini), the rest are views into the answer. */
static struct quern_outcome outcome_of(uint64_t id, struct bytes answer)
{
    struct bytes state = answer_bytes(answer, "state");
    struct bytes cause = answer_bytes(answer, "cause");
    struct bytes result = answer_bytes(answer, "result");
    struct bytes detail = answer_bytes(answer, "detail");
    struct bytes args = answer_bytes(answer, "args");
    struct quern_outcome outcome = {
        .id = id,
        .ordinal = answer_u64(answer, "ordinal"),
        .state = bytes_is(state, "done")        ? QUERN_STATE_DONE
                 : bytes_is(state, "cancelled") ? QUERN_STATE_CANCELLED
                                                : QUERN_STATE_FAILED,
        .result = result.p,
        .result_size = result.n,
        .detail = detail.p,
        .detail_size = detail.n,
        .args = args.p,
        .args_size = args.n,
        .kind = text_or_empty(answer, "kind"),
        .message = text_or_empty(answer, "message"),
        .worker = text_or_empty(answer, "worker"),
        .attempts = (unsigned)answer_u64(answer, "attempts"),
        .run_us = answer_u64(answer, "run_us"),
        .signal = (unsigned)answer_u64(answer, "signal"),
        .exit_status = (unsigned)answer_u64(answer, "exit_status"),
    };
    if (cause.n > 0 && !cause_parse((const char *)cause.p, cause.n, &outcome.cause)) {
        outcome.cause = QUERN_CAUSE_ERROR;
    }
    return outcome;
}

static void outcome_fini(struct quern_outcome *outcome)
{
    free((void *)(uintptr_t)outcome->kind);
    free((void *)(uintptr_t)outcome->message);
    free((void *)(uintptr_t)outcome->worker);
}

static int result_print(const struct cli *cli, uint64_t id, struct bytes answer)
{
    struct out out;
    struct out err;
    struct quern_outcome outcome = outcome_of(id, answer);
    const struct printing printing = {
        .out = &out,
        .err = &err,
        .shape = cli->json ? PRINT_OBJECT : PRINT_RESULT,
        .input = INPUT_ARGS,
        .is_command = bytes_is(answer_bytes(answer, "function"), FUNCTION_COMMAND),
        .is_volatile = !answer_flag(answer, "durable"),
    };
    out_init(&out, STDOUT_FILENO);
    out_init(&err, STDERR_FILENO);
    bool is_ok = print_outcome(&printing, &outcome, (struct bytes){0});
    (void)out_flush(&err);
    int status = out_finish(&out, is_ok ? STATUS_OK : STATUS_TASK_FAILED);
    outcome_fini(&outcome);
    out_fini(&out);
    out_fini(&err);
    return status;
}

static int result_ask(struct quern_client *client, uint64_t id, const char *flag, struct bytes *answer_out)
{
    struct buf params = {0};
    char text[ID_TEXT_SIZE];
    put_map(&params, flag != NULL ? 2 : 1);
    put_text(&params, "id");
    put_u64(&params, id);
    if (flag != NULL) {
        put_text(&params, flag);
        put_flag(&params, true);
    }
    int status = query(client, "result", &params, id_text(id, text), answer_out);
    buf_fini(&params);
    return status;
}

static int result_fetch(const struct cli *cli, struct quern_client *client, uint64_t id, bool wait)
{
    struct bytes answer = {0};
    struct bytes nothing = {0};
    if (wait) {
        waiting_tell_task(client, id);
    }
    int status = result_ask(client, id, wait ? "wait" : NULL, &answer);
    if (status != STATUS_OK) {
        return status;
    }
    status = result_print(cli, id, answer);
    free((void *)(uintptr_t)answer.p);
    if (status == STATUS_OK || status == STATUS_TASK_FAILED) {
        int acked = result_ask(client, id, "ack", &nothing);
        free((void *)(uintptr_t)nothing.p);
        status = acked == STATUS_OK ? status : acked;
    }
    return status;
}

int result_main(struct cli *cli, struct arguments *arguments)
{
    bool wait = false;
    const struct option table[] = {{.name = "wait", .kind = OPTION_FLAG, .to = &wait}};
    struct quern_client *client = NULL;
    int status = arguments_parse(arguments, table, 1);
    if (status != ARGUMENTS_GO_ON) {
        return status;
    }
    if (!arguments_expect(arguments, 1, 1, "a task id") || ids_check(arguments) != ARGUMENTS_GO_ON) {
        return STATUS_USAGE;
    }
    status = cli_open_operator(cli, &client);
    if (status == STATUS_OK) {
        status = result_fetch(cli, client, id_of(arguments->words[0]), wait);
        (void)quern_client_close(&client, 0);
    }
    return status;
}

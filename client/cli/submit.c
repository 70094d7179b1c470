/*
 * Owns `quern submit`: one task; its result, or with --detach its id. Start at submit_main.
 */
#include "client/cli/arguments.h"
#include "client/cli/describe.h"
#include "client/cli/json.h"
#include "client/cli/options.h"
#include "client/cli/out.h"
#include "client/cli/print.h"
#include "client/cli/signals.h"
#include "client/cli/waiting.h"
#include "common/codec.h"
#include "common/ids.h"
#include "common/limits.h"
#include "common/messages.h"
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#define SUBMIT_OPTION_COUNT 5u
#define SUBMIT_WAIT_MS 100 /* before signals are looked at again */

struct submission {
    struct cli *cli;
    const char *function;
    const char *session;
    bool detach;
    bool take_over;
    bool is_volatile;
    uint64_t expire_ms;
    struct task_options task;
    struct buf args;
    struct quern_client *client;
    struct quern_future *future;
    struct waiting waiting;
    struct out out;
    struct out err;
};

static int put_arguments(struct submission *submission, const struct arguments *arguments)
{
    size_t count = arguments->word_count - 1;
    put_array(&submission->args, (uint32_t)count);
    for (size_t i = 1; i <= count; i++) {
        char why[JSON_ERROR_SIZE];
        const char *text = arguments->words[i];
        if (!json_to_msgpack(bytes_text(text), VALUE_DEPTH_MAX - 1, &submission->args, why)) {
            return usage_error(arguments, "argument %zu, '%.200s': %s (text needs its quotes: '\"text\"')", i, text,
                               why);
        }
    }
    return STATUS_OK;
}

/* Another run may open the same session: it is told that no map or run began it. */
static int submission_open(struct submission *submission)
{
    struct quern_client_options options = QUERN_CLIENT_OPTIONS_INIT;
    struct buf description = {0};
    put_map(&description, 1);
    put_text(&description, "command");
    put_text(&description, "submit");
    options.session = submission->session;
    options.take_over = submission->take_over;
    options.is_volatile = submission->is_volatile;
    options.expire_ms = submission->expire_ms;
    options.keep = submission->detach && submission->session == NULL;
    options.description = description.p;
    options.description_size = description.n;
    int status = cli_open(submission->cli, &options, &submission->client);
    buf_fini(&description);
    return status;
}

/* Still waiting: for the worker, or for the broker? */
static void submission_watch(struct submission *submission, enum quern_err err)
{
    if (err == QUERN_TIMEOUT) {
        cli_watch_say();
        waiting_look(&submission->waiting, submission->client);
    }
}

/* Waits until the task is durable. */
static enum quern_err submission_accept(struct submission *submission)
{
    enum quern_err err = QUERN_TIMEOUT;
    while (err == QUERN_TIMEOUT && !signals_came()) {
        err = quern_flush(submission->client, SUBMIT_WAIT_MS);
        submission_watch(submission, err);
    }
    return err == QUERN_TIMEOUT ? QUERN_INTERRUPTED : err;
}

static int print_id(struct submission *submission)
{
    char id[ID_TEXT_SIZE];
    (void)id_text(quern_future_id(submission->future), id);
    buf_printf(&submission->out.buf, submission->cli->json ? "{\"id\":\"%s\"}\n" : "%s\n", id);
    return out_finish(&submission->out, STATUS_OK);
}

static enum quern_err submission_wait(struct submission *submission, struct quern_outcome **outcome_out)
{
    enum quern_err err = QUERN_TIMEOUT;
    while (err == QUERN_TIMEOUT && !signals_came()) {
        err = quern_future_wait(submission->future, SUBMIT_WAIT_MS, outcome_out);
        submission_watch(submission, err);
    }
    return err == QUERN_TIMEOUT ? QUERN_INTERRUPTED : err;
}

/* Printed first; releasing the future acknowledges the outcome afterwards, unless the print failed. */
static int print_outcome_of(struct submission *submission)
{
    struct quern_session_info session = QUERN_SESSION_INFO_INIT;
    struct quern_outcome *outcome = NULL;
    enum quern_err err = quern_session_info(submission->client, &session);
    err = err != QUERN_OK ? err : submission_wait(submission, &outcome);
    if (err == QUERN_INTERRUPTED) {
        return STATUS_INTERRUPTED;
    }
    if (err != QUERN_OK) {
        return say_error(err, NULL);
    }
    const struct printing printing = {
        .out = &submission->out,
        .err = &submission->err,
        .shape = submission->cli->json ? PRINT_OBJECT : PRINT_RESULT,
        .input = INPUT_ARGS,
        .is_command = strcmp(submission->function, FUNCTION_COMMAND) == 0,
        .is_volatile = session.is_volatile,
    };
    bool is_ok = print_outcome(&printing, outcome, buf_bytes(&submission->args));
    int status = is_ok ? STATUS_OK : (outcome->refusal != 0 ? STATUS_NOT_DONE : STATUS_TASK_FAILED);
    (void)out_flush(&submission->err);
    status = out_finish(&submission->out, status);
    quern_outcome_release(&outcome);
    if (status == STATUS_OK || status == STATUS_TASK_FAILED || status == STATUS_NOT_DONE) {
        quern_future_release(&submission->future);
    }
    return status;
}

static int submission_do(struct submission *submission)
{
    struct quern_call call = QUERN_CALL_INIT;
    task_options_apply(&submission->task, &call);
    call.function = submission->function;
    call.args = submission->args.p;
    call.args_size = submission->args.n;
    enum quern_err err = quern_submit(submission->client, &call, &submission->future, NULL);
    if (err != QUERN_OK) {
        return say_error(err, NULL);
    }
    waiting_init(&submission->waiting, call.function, call.queue);
    submission->waiting.id = quern_future_id(submission->future);
    if (!submission->detach) {
        return print_outcome_of(submission);
    }
    err = submission_accept(submission);
    if (err == QUERN_INTERRUPTED) {
        return STATUS_INTERRUPTED;
    }
    return err == QUERN_OK ? print_id(submission) : say_error(err, NULL);
}

/* What happens to the session: a named one stays; a detached task's ends when its outcome is taken; any other now. */
static unsigned submission_close_flags(const struct submission *submission, int status)
{
    bool was_cut_off = status == STATUS_INTERRUPTED || (status == STATUS_PIPE && !submission->detach);
    if (submission->session != NULL) {
        return 0;
    }
    return was_cut_off ? QUERN_CLOSE_SESSION | QUERN_CLOSE_CANCEL : QUERN_CLOSE_SESSION;
}

static int submission_finish(struct submission *submission, int status)
{
    char id[ID_TEXT_SIZE];
    if (status == STATUS_INTERRUPTED && submission->session != NULL && submission->future != NULL) {
        (void)id_text(quern_future_id(submission->future), id);
        say("task %s stays in session '%s'; `quern result %s --wait` prints its result", id, submission->session, id);
    }
    enum quern_err err = quern_client_close(&submission->client, submission_close_flags(submission, status));
    if (err != QUERN_OK && err != QUERN_TIMEOUT &&
        status == STATUS_OK) { /* with the broker away, it ends by itself later */
        status = say_error(err, NULL);
    }
    quern_future_release(&submission->future);
    return status;
}

static int submission_run(struct submission *submission)
{
    int status = submission_open(submission);
    if (status != STATUS_OK) {
        return status;
    }
    signals_hold();
    (void)cli_watch();
    out_init(&submission->out, STDOUT_FILENO);
    out_init(&submission->err, STDERR_FILENO);
    status = submission_finish(submission, submission_do(submission));
    out_fini(&submission->out);
    out_fini(&submission->err);
    return status;
}

int submit_main(struct cli *cli, struct arguments *arguments)
{
    struct submission submission = {.cli = cli};
    struct option table[SUBMIT_OPTION_COUNT + TASK_OPTION_COUNT] = {
        {.name = "detach", .kind = OPTION_FLAG, .to = &submission.detach},
        {.name = "session", .kind = OPTION_TEXT, .to = &submission.session},
        {.name = "take-over", .kind = OPTION_FLAG, .to = &submission.take_over},
        {.name = "volatile", .kind = OPTION_FLAG, .to = &submission.is_volatile},
        {.name = "expire", .kind = OPTION_SECONDS, .to = &submission.expire_ms},
    };
    task_options_init(&submission.task);
    task_options_table(&submission.task, table + SUBMIT_OPTION_COUNT);
    int status = arguments_parse(arguments, table, SUBMIT_OPTION_COUNT + TASK_OPTION_COUNT);
    if (status != ARGUMENTS_GO_ON) {
        return status;
    }
    if (!arguments_expect(arguments, 1, SIZE_MAX, "the name of a function")) {
        return STATUS_USAGE;
    }
    status = session_options_check(submission.session, submission.expire_ms, arguments);
    status = status != ARGUMENTS_GO_ON ? status : task_options_check(&submission.task, arguments);
    if (status == ARGUMENTS_GO_ON) {
        submission.function = arguments->words[0];
        status = put_arguments(&submission, arguments);
        status = status == STATUS_OK ? submission_run(&submission) : status;
    }
    buf_fini(&submission.args);
    return status;
}

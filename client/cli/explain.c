/*
 * Owns `quern explain`: why a task does not run. Start at explain_main.
 */
#include "client/cli/ask.h"
#include "client/cli/words.h"
#include "common/codec.h"

static void put_explanation(struct buf *to, struct bytes answer)
{
    buf_printf(to, "%s is %s: %s%s\n", answer_shown(answer, "id"), answer_shown(answer, "state"),
               answer_shown(answer, "text"), answer_flag(answer, "durable") ? "" : " (its session is volatile)");
}

int explain_main(struct cli *cli, struct arguments *arguments)
{
    struct buf params = {0};
    int status = arguments_parse(arguments, NULL, 0);
    if (status != ARGUMENTS_GO_ON) {
        return status;
    }
    if (!arguments_expect(arguments, 1, 1, "a task id") || ids_check(arguments) != ARGUMENTS_GO_ON) {
        return STATUS_USAGE;
    }
    put_map(&params, 1);
    put_text(&params, "id");
    put_u64(&params, id_of(arguments->words[0]));
    const struct question question = {
        .what = "explain", .params = &params, .about = arguments->words[0], .put_text = put_explanation};
    status = ask(cli, &question);
    buf_fini(&params);
    return status;
}

/*
 * Owns asking one question and printing its answer, and tables. Must not know single questions. Start at ask.
 */
#include "client/cli/ask.h"

#include "client/cli/json.h"
#include "client/cli/out.h"
#include "common/check.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CELL_SIZE_MAX 600u

static int answer_print(const struct cli *cli, const struct question *question, struct bytes answer)
{
    struct out out;
    int status = STATUS_OK;
    out_init(&out, STDOUT_FILENO);
    if (!cli->json) {
        question->put_text(&out.buf, answer);
    } else if (question->put_json != NULL) {
        question->put_json(&out.buf, answer);
        buf_put_u8(&out.buf, '\n');
    } else {
        enum quern_err err = json_from_msgpack(answer, &out.buf);
        buf_put_u8(&out.buf, '\n');
        if (err != QUERN_OK) {
            say("%s: the broker's answer is not well-formed; is it of another version?", question->what);
            status = STATUS_NOT_DONE;
        }
    }
    status = out_finish(&out, status);
    out_fini(&out);
    return status;
}

int ask(const struct cli *cli, const struct question *question)
{
    struct quern_client *client = NULL;
    struct bytes answer = {0};
    int status = cli_open_operator(cli, &client);
    if (status != STATUS_OK) {
        return status;
    }
    status = query(client, question->what, question->params, question->about, &answer);
    if (status == STATUS_OK) {
        status = answer_print(cli, question, answer);
    }
    free((void *)(uintptr_t)answer.p);
    (void)quern_client_close(&client, 0);
    return status;
}

void table_put(struct table *table, const char *format, ...)
{
    char text[CELL_SIZE_MAX];
    va_list list;
    va_start(list, format);
    (void)vsnprintf(text, sizeof text, format, list);
    va_end(list);
    buf_put(&table->cells, text, strlen(text) + 1);
}

/* Characters, not bytes: continuation bytes of UTF-8 take no place. */
static size_t text_width(const char *text)
{
    size_t width = 0;
    for (; *text != '\0'; text++) {
        width += ((unsigned char)*text & 0xc0) != 0x80;
    }
    return width;
}

void table_print(struct table *table, struct buf *to)
{
    size_t *widths = xcalloc(table->columns, sizeof widths[0]);
    const char *end = (const char *)table->cells.p + table->cells.n;
    size_t column = 0;
    for (const char *cell = (const char *)table->cells.p; cell < end; cell += strlen(cell) + 1) {
        size_t width = text_width(cell);
        widths[column] = width > widths[column] ? width : widths[column];
        column = (column + 1) % table->columns;
    }
    column = 0;
    for (const char *cell = (const char *)table->cells.p; cell < end; cell += strlen(cell) + 1) {
        bool is_last = column + 1 == table->columns;
        buf_put(to, cell, strlen(cell));
        for (size_t i = text_width(cell); !is_last && i < widths[column] + 2; i++) {
            buf_put_u8(to, ' ');
        }
        while (is_last && to->n > 0 && to->p[to->n - 1] == ' ') {
            to->n--;
        }
        if (is_last) {
            buf_put_u8(to, '\n');
        }
        column = (column + 1) % table->columns;
    }
    free(widths);
    buf_fini(&table->cells);
}

/*
 * What the commands share that ask one question and print the answer: as JSON with --json, else as text of their own.
 * Must not know single questions.
 */
#ifndef QUERN_CLI_ASK_H
#define QUERN_CLI_ASK_H

#include "client/cli/answer.h"
#include "client/cli/arguments.h"

struct question {
    const char *what;
    const struct buf *params; /* or NULL */
    const char *about;        /* for errors; or NULL */
    void (*put_text)(struct buf *to, struct bytes answer);
    void (*put_json)(struct buf *to, struct bytes answer); /* NULL: the answer as it came */
};

/* Connects, asks, prints; the exit status. */
int ask(const struct cli *cli, const struct question *question);

/* Rows of a table: cells of the widths that fit all. */
struct table {
    struct buf cells; /* NUL-terminated texts, row by row */
    size_t columns;
};
void table_put(struct table *table, const char *format, ...) __attribute__((format(printf, 2, 3)));
void table_print(struct table *table, struct buf *to);

#endif

/*
 * An outcome on standard output: as plain result, as the output of its command, or as an object of --jsonl and --json;
 * and a failure as a line on stderr. Must not know where outcomes come from.
 */
#ifndef QUERN_CLI_PRINT_H
#define QUERN_CLI_PRINT_H

#include "client/cli/cli.h"
#include "client/cli/out.h"

enum print_shape {
    PRINT_RESULT, /* the result as JSON, one line */
    PRINT_OUTPUT, /* what the command wrote, unchanged */
    PRINT_OBJECT, /* id, line, input, ok, result or error ... */
};

enum print_input {
    INPUT_ARGS,  /* the array of arguments */
    INPUT_VALUE, /* map: its one element */
    INPUT_LINE,  /* run: the line, from QUERN_INPUT */
};

struct printing {
    struct out *out; /* standard output; the caller flushes */
    struct out *err; /* stderr; the caller flushes; what fails there is passed over */
    enum print_shape shape;
    enum print_input input;
    bool is_command;      /* results are {exit_status, stdout, stderr} */
    bool null_for_failed; /* PRINT_RESULT: a failed item keeps its place */
    bool is_volatile;     /* the session; said in objects */
};

/* Puts the outcome; false if it is a failure (or its result cannot be shown). args: of the task, if the outcome does
 * not carry them. */
bool print_outcome(const struct printing *printing, const struct quern_outcome *outcome, struct bytes args);

/* An item that was never submitted: why, in words. input: the item as it was read; none if it was too long to keep. */
void print_bad_item(const struct printing *printing, uint64_t line, struct bytes input, const char *why);

/* A result as JSON, null if there is none; of a command: its output as text where it is UTF-8. */
QUERN_MUST_USE enum quern_err print_result(struct buf *to, struct bytes result, bool is_command);

/* One line for stderr, as say() writes it. */
void say_into(struct buf *to, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif

/*
 * The description that map and run leave with a named session: what was asked for, as a msgpack map, so that a later
 * run can tell whether it is the same work. Must not talk to the broker.
 */
#ifndef QUERN_CLI_DESCRIBE_H
#define QUERN_CLI_DESCRIBE_H

#include "client/cli/options.h"

/* A longer value is kept as its digest: the description is bounded (DESCRIPTION_SIZE_MAX). */
#define DESCRIBE_VALUE_SIZE_MAX (16u * 1024u)
#define DESCRIBE_SHOWN_SIZE 80u
#define DESCRIBE_TEXT_SIZE 512u

struct description {
    const char *command; /* "map", "run", "submit" */
    const char *function;
    bool is_raw;
    bool is_null;
    const struct task_options *task;
    struct bytes argv; /* msgpack, or none */
    struct bytes env;  /* msgpack, or none */
    const char *cwd;   /* or NULL */
};

void describe(const struct description *description, struct buf *to);

/* True if both say the same. Else text names the first field that differs, with both values. */
bool describe_equal(struct bytes kept, struct bytes now, char text[DESCRIBE_TEXT_SIZE]);

/* The text of a field that is a str, NULL if it has none: "command". Malloc'd. */
char *describe_field(struct bytes description, const char *name);

#endif

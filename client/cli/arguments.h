/*
 * The words of the command line: options by name (anywhere before `--`), the rest in order. A word like -5 is a value,
 * not an option: arguments of tasks may be negative numbers. Must not know what options mean.
 */
#ifndef QUERN_CLI_ARGUMENTS_H
#define QUERN_CLI_ARGUMENTS_H

#include "client/cli/cli.h"

enum option_kind {
    OPTION_FLAG,    /* to: bool */
    OPTION_TEXT,    /* to: const char * */
    OPTION_SECONDS, /* to: uint64_t, milliseconds */
    OPTION_NUMBER,  /* to: int64_t, min..max */
    OPTION_CALL,    /* call(to, value); false after having said why */
};

struct option {
    const char *name; /* without the dashes */
    char letter;      /* of its short form; 0: none */
    enum option_kind kind;
    void *to;
    int64_t min;
    int64_t max;
    bool (*call)(void *to, const char *value);
};

#define ARGUMENTS_GO_ON (-1)

struct arguments {
    const char *command; /* NULL before it is known */
    struct cli *cli;     /* global options go here */
    char **words;        /* in: everything to look at; out: what is not an option, in order */
    size_t word_count;
    char **behind; /* what stood behind `--`, if has_behind */
    size_t behind_count;
    bool has_behind;
};

/* Takes the options out of the words. ARGUMENTS_GO_ON, or the exit status (help printed, or a usage error said). */
int arguments_parse(struct arguments *arguments, const struct option *options, size_t option_count);
/* The same for the words before the command's name: stops at the first that is not an option. */
int arguments_parse_global(struct arguments *arguments);

/* Between min and max words, counting those behind `--` too (they are moved to the words); else false, said. */
bool arguments_expect(struct arguments *arguments, size_t min, size_t max, const char *what);

/* Says the message and where help is. Answers STATUS_USAGE. */
int usage_error(const struct arguments *arguments, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* ARGUMENTS_GO_ON, or STATUS_USAGE, said: what is asked of a session that has no name. */
int session_options_check(const char *session, uint64_t expire_ms, const struct arguments *arguments);

/* Decimal seconds ("0.5") as milliseconds; false if it is none, finer than a millisecond, or over DURATION_MS_MAX. */
bool seconds_parse(const char *text, uint64_t *ms_out);
bool number_parse(const char *text, int64_t min, int64_t max, int64_t *value_out);

#endif

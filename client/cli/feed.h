/*
 * What map, run and attach share: items of stdin become tasks of a session, their outcomes are printed as they come,
 * and an outcome is acknowledged only after its print was written. feed.c reads and submits, taking.c prints and
 * acknowledges, resume.c decides whether an earlier run of the session was the same work.
 * Must not know how an item becomes arguments.
 */
#ifndef QUERN_CLI_FEED_H
#define QUERN_CLI_FEED_H

#include "client/cli/inputs.h"
#include "client/cli/json.h"
#include "client/cli/lines.h"
#include "client/cli/options.h"
#include "client/cli/order.h"
#include "client/cli/out.h"
#include "client/cli/print.h"
#include "client/cli/spool.h"
#include "client/cli/waiting.h"

#define FEED_WINDOW_DEFAULT 10000
#define FEED_WINDOW_MAX 1000000
#define FEED_TAKE_COUNT 512u                 /* outcomes printed with one write */
#define FEED_TAKE_SIZE (1024u * 1024u)       /* bytes of the same, soft by one outcome */
#define FEED_SUBMIT_COUNT 512u               /* items submitted before outcomes are looked for again */
#define FEED_HELD_SIZE (64u * 1024u * 1024u) /* with --keep-order: results that wait for an earlier one; soft */
#define FEED_ITEM_SIZE_MAX (6u * 16u * 1024u * 1024u) /* JSON text of a payload is at most six times as long */

/* What is different in map and run. */
struct feed_kind {
    const char *function;
    /* Appends the arguments; false, with the reason, if the item cannot be submitted. */
    bool (*encode)(void *context, struct bytes item, struct buf *args, char why[JSON_ERROR_SIZE]);
    void *context;
};

struct feed_options {
    const char *session; /* NULL: an unnamed one */
    bool take_over;
    bool is_volatile;
    uint64_t expire_ms; /* 0: as the session's kind does */
    bool keep_order;
    bool jsonl;
    bool is_raw;
    bool is_null;
    int64_t window;
    struct task_options task;
};

#define FEED_OPTION_COUNT 9u

enum feed_stop {
    FEED_GO_ON,
    FEED_DONE,
    FEED_INTERRUPTED,
    FEED_OUT,     /* out.state says what */
    FEED_REFUSED, /* resuming: other work */
    FEED_FAILED,  /* said; status */
};

struct feed {
    const struct cli *cli;
    const struct feed_kind *kind; /* NULL: nothing to submit (attach) */
    const struct feed_options *options;
    struct quern_client *client;
    struct quern_session_info info;
    struct printing printing;
    struct out out;
    struct out err;
    struct lines lines;
    struct order order; /* with keep_order */
    struct spool bad;   /* items of the lines that were accepted earlier which could not be submitted */
    struct waiting waiting;
    struct inputs inputs;                           /* with jsonl */
    struct buf args;                                /* of the item that waits for being submitted */
    uint64_t args_ordinal;                          /* 0: none waits */
    struct quern_outcome *printed[FEED_TAKE_COUNT]; /* printed and not yet acknowledged */
    size_t printed_end[FEED_TAKE_COUNT];            /* where the output of each ends in out.buf */
    size_t printed_count;
    size_t held_size;      /* with keep_order: bytes of what waits */
    uint64_t under_way;    /* submitted or to be printed, not printed yet */
    uint64_t earlier_left; /* part of it that earlier runs submitted */
    uint64_t printed_total;
    uint64_t failed_total;
    bool is_input_over; /* nothing further is read */
    bool is_idle;       /* quern_next said END since the last submit */
    bool wants_input;   /* lines wait for a read */
    bool was_refused;   /* the broker refused a submit: nothing further is submitted */
    enum feed_stop stop;
    int status; /* with FEED_FAILED */
};

/* The entries of the command line for map and run, without the task options. */
void feed_options_table(struct feed_options *options, struct option *table);

int feed_options_check(const struct feed_options *options, const struct arguments *arguments);

/* The whole work of map and run; description as kept with the session. Answers the exit status. */
int feed_main(const struct cli *cli, const struct feed_kind *kind, const struct feed_options *options,
              struct printing printing, struct bytes description);
/* attach: prints what comes until nothing is outstanding. The client was opened by the caller and is closed here. */
int feed_attach(const struct cli *cli, struct quern_client *client, struct printing printing, const char *session);

/* ---- between the three files ---- */

void feed_fail(struct feed *feed, enum quern_err err);
void feed_fail_system(struct feed *feed, const char *what, int error);

/* Takes and prints what is there, writes it and acknowledges it. False if there was nothing. */
bool taking_step(struct feed *feed);
/* An item that cannot be submitted: printed now, or in its place with --keep-order. */
void taking_bad_item(struct feed *feed, uint64_t number, struct bytes item, const char *why);
/* Prints the bad items of lines that earlier runs have read, those before `ordinal`. */
void taking_earlier_bad(struct feed *feed, uint64_t ordinal);
/* All outcomes are here: prints what --keep-order still holds. */
void taking_end(struct feed *feed);
/* After the client was closed, when nothing is acknowledged any more: frees what was not printed. */
void taking_free(struct feed *feed);

/* Compares description and input with what the session has; the lines that were accepted are behind it afterwards.
 * Stops the feed if they are other work. */
void resume(struct feed *feed, struct bytes description);

/* ITEM: encoded in feed->args, or bad and *why_out says why; item_out is the text as it was read. */
enum feed_item { FEED_ITEM, FEED_BAD_ITEM, FEED_WAIT, FEED_END };
enum feed_item feed_read_item(struct feed *feed, struct line *line_out, const char **why_out);
/* Waits for input, an outcome (if is_taking) or a signal. */
void feed_wait(struct feed *feed, bool is_taking);

#endif

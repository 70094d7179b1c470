/*
 * What every part of the command line tool shares: exit statuses, global options, messages to people, connecting.
 * Must not know single commands. Start reading in main.c.
 */
#ifndef QUERN_CLI_CLI_H
#define QUERN_CLI_CLI_H

#include "common/bytes.h"
#include "quern/client.h"

enum status {
    STATUS_OK = 0,
    STATUS_TASK_FAILED = 1,
    STATUS_USAGE = 2,
    STATUS_NO_BROKER = 3,
    STATUS_NOT_DONE = 4,
    STATUS_INTERRUPTED = 130,
    STATUS_PIPE = 141,
};

struct cli {
    const char *url;        /* NULL: the library's default */
    int connect_timeout_ms; /* for the first connection */
    bool json;
};

struct arguments;

struct command {
    const char *name;
    const char *summary; /* one line for `quern --help` */
    int (*run)(struct cli *cli, struct arguments *arguments);
};

/* One line on stderr, "quern: " before it; control characters are shown as \xNN. */
void say(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* The library's last error, with what it happened to before it (may be NULL); the exit status it means. */
int say_error(enum quern_err err, const char *about);
enum status status_of(enum quern_err err);

/* Opens with the global options filled in. STATUS_OK, or the exit status after having said why. */
int cli_open(const struct cli *cli, struct quern_client_options *options, struct quern_client **client_out);
/* The same for commands that only ask and tell. */
int cli_open_operator(const struct cli *cli, struct quern_client **client_out);

/* The broker's going and coming is said at once, by the library's thread; or, after cli_watch, when cli_watch_say is
 * called: for who has to look first whether the session was taken over. cli_watch answers a descriptor that is readable
 * when there is something to look at. */
int cli_watch(void);
void cli_watch_say(void);

int submit_main(struct cli *cli, struct arguments *arguments);
int result_main(struct cli *cli, struct arguments *arguments);
int map_main(struct cli *cli, struct arguments *arguments);
int run_main(struct cli *cli, struct arguments *arguments);
int status_main(struct cli *cli, struct arguments *arguments);
int sessions_main(struct cli *cli, struct arguments *arguments);
int list_main(struct cli *cli, struct arguments *arguments);
int show_main(struct cli *cli, struct arguments *arguments);
int logs_main(struct cli *cli, struct arguments *arguments);
int explain_main(struct cli *cli, struct arguments *arguments);
int cancel_main(struct cli *cli, struct arguments *arguments);
int retry_main(struct cli *cli, struct arguments *arguments);
int attach_main(struct cli *cli, struct arguments *arguments);
int close_main(struct cli *cli, struct arguments *arguments);
int backup_main(struct cli *cli, struct arguments *arguments);
int bench_main(struct cli *cli, struct arguments *arguments);

#endif

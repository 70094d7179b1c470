/*
 * Owns the texts of --help: one per command, each with examples. Start at help_print.
 */
#include "client/cli/help.h"

#include "client/cli/commands.h"
#include "client/cli/out.h"
#include <string.h>
#include <unistd.h>

#define GLOBAL_HELP                                                                                                    \
    "\nGlobal options, anywhere before `--`:\n"                                                                        \
    "  --url URL[,URL]...        where the broker listens (else $QUERN_URL, else the default socket)\n"                \
    "  --connect-timeout SECONDS give up the first connection after this time (default 5)\n"                           \
    "  --json                    print JSON\n"                                                                         \
    "  --version, --help\n"

#define TASK_HELP                                                                                                      \
    "Task options (durations in seconds, such as 0.5):\n"                                                              \
    "  --queue NAME              queue (default \"default\")\n"                                                        \
    "  --priority N              -1000..1000, higher first (default 0)\n"                                              \
    "  --delay S                 not before S seconds from now\n"                                                      \
    "  --at TIME                 not before TIME: 2026-12-01T03:00 or 03:00 (the next one), this host's time zone; "   \
    "or\n"                                                                                                             \
    "                            with Z or an offset such as +01:00 behind it\n"                                       \
    "  --expires S               fail (cause expired) if it has not started S seconds from now\n"                      \
    "  --known                   fail at once (kind UnknownFunction) if no worker serves the function in this queue\n" \
    "  --timeout S               stop an attempt after S seconds\n"                                                    \
    "  --attempts N              try again after a failure, N attempts in all (default 1)\n"                           \
    "  --retry-on CAUSE,...      which failures are tried again (default error,timeout,memory)\n"                      \
    "  --backoff S[:CAP]         wait S before the second attempt, doubling up to CAP\n"                               \
    "  --crashes N               fail (cause quarantined) at the Nth death of a process that runs it (default 3)\n"     \
    "  --losses N                fail (cause lost) when its worker is lost for the Nth time (default 10)\n"             \
    "  --at-most-once            never run it twice, whatever happens\n"                                               \
    "  --memory SIZE             stop an attempt that has taken more than SIZE bytes (500M, 2G), with what it "        \
    "started\n"                                                                                                        \
    "  --memory-growth F[:CAP]   after each failed attempt F times as much, up to CAP (default 16 times SIZE)\n"       \
    "  --alone                   start it when nothing else runs on its worker, and nothing beside it\n"               \
    "  --alone-on-retry          the same, from its second attempt on\n"                                               \
    "Without --at-most-once a task whose process dies is tried again whatever --attempts says, until --crashes.\n"

#define SESSION_HELP                                                                                                   \
    "  --volatile                a session in the broker's memory only: faster, and lost with the broker. What it "    \
    "had\n"                                                                                                            \
    "                            not finished by then fails with cause lost\n"                                         \
    "  --expire S                a session made now ends S seconds after its last client left (with --session)\n"

#define FEED_HELP                                                                                                      \
    "  --session NAME            work that survives this process: the same command with the same input goes on\n"      \
    "  --take-over               take the session from a process that is connected\n" SESSION_HELP                     \
    "  --keep-order              print in the order of the input\n"                                                    \
    "  --jsonl                   one object per item: id, line, input, ok, result or error, attempts, worker, ms,\n"    \
    "                            durable (false: in a volatile session)\n"    \
    "  --null                    items end with NUL instead of newline\n"                                              \
    "  --window N                items under way at once (default 10000)\n"

static const char usage[] =
    "usage: quern [GLOBAL OPTIONS] COMMAND ...\n"
    "\n"
    "quern runs function calls and commands on workers, and keeps them: what was accepted survives the crash of\n"
    "anything. Each call is a task; tasks belong to a session; each task has one outcome.\n"
    "\n"
    "  quern-broker &                                        # the one that keeps the tasks\n"
    "  quern-worker --module examples.so --allow-commands &  # one that runs them\n"
    "  quern submit square 7                                 # one call: prints 49\n"
    "  seq 1000 | quern map square                           # a call per line, results as they complete\n"
    "  ls *.wav | quern run -- oggenc {}                     # a command per line\n"
    "  quern map --session night f <input                    # run it again after a crash: it goes on\n"
    "  quern list --state failed; quern show 7-42            # what went wrong\n"
    "  quern logs -f 7-42                                    # what it writes, as it comes\n"
    "\nCommands (quern COMMAND --help tells more):\n";

static const char exits[] = GLOBAL_HELP
    "\nExit status: 0 all well; 1 some task failed; 2 wrong usage; 3 no broker reachable; 4 could not be done\n"
    "as asked; 130 interrupted; 141 standard output was closed.\n";

static const struct {
    const char *command;
    const char *text;
} texts[] = {
    {"submit",
     "usage: quern submit FUNCTION [JSON_ARG]... [--detach] [--session NAME] [--take-over] [--volatile]\n"
     "                    [--expire S] [TASK OPTIONS]\n"
     "\n"
     "Runs FUNCTION with the given arguments, each a JSON value, and prints the result as JSON. A failure is told on\n"
     "stderr. With --detach prints the task's id as soon as the task is durable; `quern result ID` prints the result.\n"
     "With --session the task stays when this command is interrupted.\n\n" SESSION_HELP TASK_HELP "\nExamples:\n"
     "  quern submit square 7\n"
     "  quern submit echo '\"text\"' '[1, 2]' '{\"a\": null}'\n"
     "  quern submit divide 1 0 || echo failed\n"
     "  quern submit sleep 0.5 --timeout 0.2 --attempts 3 --backoff 1:60\n"
     "  id=$(quern submit --detach factorial 20); quern result \"$id\" --wait\n"},
    {"result",
     "usage: quern result ID [--wait]\n"
     "\n"
     "Prints the result of a task as JSON, and acknowledges it once it is printed. Without --wait a task that has no\n"
     "outcome yet is an error (exit status 4).\n\nExamples:\n"
     "  quern result 7-42\n"
     "  quern result 7-42 --wait --json\n"},
    {"map",
     "usage: quern map FUNCTION [OPTIONS] <INPUT\n"
     "\n"
     "One task per line of standard input that is not empty: a JSON value, the single argument. Prints one JSON "
     "result\n"
     "per line as they complete; a failed item is a line on stderr (and null with --keep-order). Input is read as it "
     "is\n"
     "needed.\n\n"
     "With --session the line number is remembered: run again after a crash with the same input, it skips what was\n"
     "accepted, prints what was not printed, and goes on. Other input, function or options are refused. When the "
     "input\n"
     "has ended and all is printed the session is closed.\n\n" FEED_HELP
     "  --raw                     the line is the argument, as text (as binary if it is not UTF-8)\n" TASK_HELP
     "\nExamples:\n"
     "  seq 1000 | quern map square\n"
     "  find . -type f -print0 | quern map wordcount --null --raw --jsonl\n"
     "  quern map is_prime --session primes --keep-order <numbers >answers\n"},
    {"run",
     "usage: quern run [OPTIONS] [--env NAME[=VALUE]]... -- COMMAND [ARG]... <INPUT\n"
     "\n"
     "One command per line of standard input that is not empty, as `quern map`: {} anywhere in an argument is "
     "replaced\n"
     "by the line; without any {} the line is appended. The line is also in $QUERN_INPUT: the safe way into `sh -c`.\n"
     "Commands run in this working directory with the worker's environment; their standard output is printed whole "
     "and\n"
     "unchanged, also of failed ones, their stderr on stderr. A non-zero exit is a failure. Workers run commands only\n"
     "with --allow-commands.\n\n" FEED_HELP
     "  --env NAME[=VALUE]        a variable for the command; without a value, as it is here\n" TASK_HELP
     "\nExamples:\n"
     "  ls *.wav | quern run -- oggenc -q5 {}\n"
     "  find . -name '*.c' -print0 | quern run --null --keep-order -- wc -l\n"
     "  cat urls | quern run --attempts 3 --timeout 60 -- sh -c 'curl -sf \"$QUERN_INPUT\" | sha256sum'\n"},
    {"attach",
     "usage: quern attach SESSION [--jsonl] [--take-over] [--volatile]\n"
     "\n"
     "Prints the outcomes of a session in completion order, those not printed before and those still to come, until\n"
     "nothing is outstanding. The session stays, and takes further tasks; `quern close SESSION` ends it.\n"
     "--volatile: for a session that is in the broker's memory only.\n\nExamples:\n"
     "  quern attach night\n"
     "  quern attach night --take-over --jsonl | jq .error\n"},
    {"status",
     "usage: quern status [--limits] [--json]\n\nWhat the broker, its workers, queues and store do; with --limits "
     "also every limit,\nthose of its configuration and the fixed ones. --json prints all of it.\n\n"
     "Examples:\n  quern status\n  quern status --json | jq .tasks\n"},
    {"sessions", "usage: quern sessions [--json]\n\nThe sessions: durable or volatile, owner, tasks without outcome, "
                 "outcomes\nnot taken, and whether they end by themselves after a time without a client.\n\n"
                 "Examples:\n  quern sessions\n  quern sessions --json | jq -r '.[].name'\n"},
    {"list",
     "usage: quern list [--state STATE] [--cause CAUSE] [--session NAME] [--limit N] [--json]\n"
     "\n"
     "Tasks, newest first. STATE: delayed, waiting, ready, leased, running, backoff, done, failed, cancelled.\n"
     "CAUSE: error, crashed, timeout, expired, memory, lost, quarantined, unencodable. --limit: default 100.\n\n"
     "Examples:\n"
     "  quern list --state failed --cause timeout\n"
     "  quern list --session night --limit 1000 --json | jq -r '.[].id'\n"},
    {"show", "usage: quern show ID [--json]\n\nEverything about one task: its options, arguments, result, and every "
             "attempt with its failure.\n\nExamples:\n  quern show 7-42\n  quern show 7-42 --json | jq .failures\n"},
    {"logs",
     "usage: quern logs ID [--attempt N] [--stdout] [--stderr] [-f | --follow] [--json]\n"
     "\n"
     "Prints what a task wrote: to stdout what it wrote there, to stderr what it wrote there; with only one of\n"
     "--stdout and --stderr that stream, to stdout. Of each attempt the first 16 KiB and the last 48 KiB of each\n"
     "stream are kept, as long as its outcome; what is left out between is told on stderr. Without --attempt that of\n"
     "the last attempt; `quern show` lists those that failed. Of a command that ended by itself all of it. On a\n"
     "terminal control characters are written as \\xNN.\n"
     "-f, --follow goes on as it comes, with every further attempt, until the task ends: exit status 1 if it did not\n"
     "end well. With --json one object; with -f one for each piece.\n\n"
     "Examples:\n"
     "  quern logs 7-42\n"
     "  quern logs -f 7-42\n"
     "  quern logs 7-42 --attempt 1 --stderr | tail\n"
     "  quern logs 7-42 --json | jq -r '.output[].text'\n"},
    {"explain",
     "usage: quern explain ID [--json]\n\nWhy a task does not run: no worker serves its function, no credit, "
     "delayed, backing off ...\n\nExamples:\n  quern explain 7-42\n"},
    {"cancel",
     "usage: quern cancel ID... [--force] [--json]\n\nCancels tasks that have not started. One that runs, or has "
     "its outcome, is left alone:\n"
     "exit status 4. --force also stops one that runs, with every process it has started: it is asked to end\n"
     "(SIGTERM), and killed after 1 second.\n\nExamples:\n  quern cancel 7-42 7-43\n"
     "  quern cancel --force 7-44\n"
     "  quern list --state ready --json | jq -r '.[].id' | xargs quern cancel\n"},
    {"retry", "usage: quern retry ID... [--json]\n\nSubmits finished tasks again, each as a new task whose id is "
              "printed: in the old one's session,\n"
              "or in a new one, which is named on stderr, if that is closed.\n\nExamples:\n"
              "  quern retry 7-42\n"
              "  quern result \"$(quern retry 7-42)\" --wait\n"
              "  quern list --state failed --json | jq -r '.[].id' | xargs quern retry\n"},
    {"close", "usage: quern close SESSION [--cancel]\n\nEnds a session: it takes no further tasks, and goes when all "
              "its outcomes are taken.\n"
              "--cancel also cancels what has not started.\n\nExamples:\n  quern close night\n"
              "  quern close night --cancel; quern attach night\n"},
    {"backup",
     "usage: quern backup FILE [--json]\n"
     "\n"
     "Copies the broker's store into FILE while the broker works: everything that was acknowledged before is in it. "
     "FILE is\n"
     "one whole store by itself, on disk when this says so; nothing is overwritten, and under that name there is never "
     "half\n"
     "a copy. The broker makes it, on its own host and as its user; if this command is interrupted it goes on.\n"
     "To restore: end the broker, put the file in the place of its store (and take STORE-wal away, if it is there), "
     "or\n"
     "name it with `quern-broker --db`. A restored store has an identity of its own: workers drop what they had of "
     "the\n"
     "other one, so what ran then runs again.\n\n"
     "Examples:\n"
     "  quern backup /backup/quern-$(date +%F).db\n"
     "  quern backup copy.db && quern-broker --check --db copy.db\n"},
    {"bench",
     "usage: quern bench [OPTION]... [--json]\n"
     "\n"
     "Submits squares, each a task by itself, and checks every result: after a warm-up some one at a time for the\n"
     "latency, then all at once for the throughput. Times are from submit to result. Needs a worker with the example\n"
     "module. Leaves nothing behind.\n"
     "\n"
     "  --tasks N     of the last phase (default 100000)\n"
     "  --clients N   submit in the last phase, each with its own connection and share of the tasks (default 1)\n"
     "  --depth N     at most so many tasks of a client are under way (default: as many as the broker takes)\n"
     "  --rate N      submit N tasks a second in the last phase, however late results are; a task's time begins when\n"
     "                it was due, so a queue that stalls is not spared the tasks it held up\n"
     "  --bytes N     echo N bytes instead (0, or at least 8): arguments and result of each task are as long\n"
     "  --volatile    in the broker's memory only, without a write\n"
     "  --warm-up N   tasks before anything is measured (default 1000)\n"
     "\nExamples:\n  quern bench\n"
     "  quern bench --tasks 1000000 --json | jq .tasks_per_second\n"
     "  quern bench --rate 20000 --tasks 200000       # latency under a steady load\n"
     "  quern bench --bytes 1000000 --tasks 1000 --depth 16\n"},
};

static void put_overview(struct buf *to)
{
    buf_printf(to, "%s", usage);
    for (const struct command *command = command_next(NULL); command != NULL; command = command_next(command)) {
        buf_printf(to, "  %-9s %s\n", command->name, command->summary);
    }
    buf_printf(to, "%s", exits);
}

static void put_help(struct buf *to, const char *command)
{
    for (size_t i = 0; command != NULL && i < sizeof texts / sizeof texts[0]; i++) {
        if (strcmp(texts[i].command, command) == 0) {
            buf_printf(to, "%s%s", texts[i].text, GLOBAL_HELP);
            return;
        }
    }
    put_overview(to);
}

int help_print(const char *command)
{
    struct out out;
    out_init(&out, STDOUT_FILENO);
    put_help(&out.buf, command);
    int status = out_finish(&out, STATUS_OK);
    out_fini(&out);
    return status;
}

int help_version(bool json)
{
    struct out out;
    out_init(&out, STDOUT_FILENO);
    buf_printf(&out.buf, json ? "{\"version\":\"%s\"}\n" : "quern %s\n", QUERN_VERSION_TEXT);
    int status = out_finish(&out, STATUS_OK);
    out_fini(&out);
    return status;
}

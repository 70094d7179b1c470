/* The list of commands. Knows their names and where they begin, nothing else. */
#ifndef QUERN_CLI_COMMANDS_H
#define QUERN_CLI_COMMANDS_H

#include "client/cli/cli.h"

/* name, what `quern --help` says */
#define COMMAND_LIST(X)                                                                                                \
    X(submit, "run one function; print its result, or with --detach its id")                                           \
    X(result, "print the outcome of a task by its id")                                                                 \
    X(map, "run a function for every line of standard input")                                                          \
    X(run, "run a command for every line of standard input")                                                           \
    X(attach, "print the outcomes of a session as they come")                                                          \
    X(status, "what the broker, its workers and its queues do")                                                        \
    X(sessions, "the sessions and their owners")                                                                       \
    X(list, "tasks, newest first")                                                                                     \
    X(show, "everything about one task, every attempt with its failure")                                               \
    X(logs, "what a task wrote to stdout and stderr; with -f as it comes")                                             \
    X(explain, "why a task does not run")                                                                              \
    X(cancel, "cancel tasks that have not started")                                                                    \
    X(retry, "submit finished tasks again, as new tasks")                                                              \
    X(close, "end a session")                                                                                          \
    X(backup, "copy the broker's store into a file, while it works")                                                   \
    X(bench, "measure throughput and latency")

/* NULL if there is none of that name. */
const struct command *command_find(const char *name);
/* The next of the list, from NULL; NULL at the end. */
const struct command *command_next(const struct command *command);

#endif

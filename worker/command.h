/*
 * command.h: the function "quern.command": runs argv with stdin, environment and directory as asked; what it printed
 * and how it exited is the result. See FUNCTION_COMMAND in common/messages.h.
 */
#ifndef QUERN_WORKER_COMMAND_H
#define QUERN_WORKER_COMMAND_H

#include "quern/worker.h"

quern_handler command_run;

#endif

/*
 * supervisor.h: the worker as a whole: its event loop, from the start of the zygote to the last goodbye.
 */
#ifndef QUERN_WORKER_SUPERVISOR_H
#define QUERN_WORKER_SUPERVISOR_H

#include "worker/options.h"

/* Blocks until the worker is told to end. Returns the exit status of the program. */
int supervisor_run(const struct options *options);

#endif

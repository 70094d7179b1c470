/*
 * nursery.h: the zygote process itself: loads modules once, forks slots, reaps them. Single-threaded, no ZeroMQ.
 */
#ifndef QUERN_WORKER_NURSERY_H
#define QUERN_WORKER_NURSERY_H

#include "quern/worker.h"

/* argv as in zygotewire.h. Returns the exit status. */
int nursery_main(int argc, char **argv, const struct quern_module *program);

#endif

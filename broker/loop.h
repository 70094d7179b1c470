/*
 * loop.h: the broker's one thread that decides: it brings frames, time and the store's answers to the core, and carries
 * out what the core says, in the one order that keeps the promises (loop.c, loop_turn). Never blocks on disk.
 */
#ifndef QUERN_BROKER_LOOP_H
#define QUERN_BROKER_LOOP_H

#include "broker/core.h"
#include "broker/flight.h"
#include "broker/journal.h"
#include "common/link.h"
#include "common/parent.h"

/*
 * Run until a signal comes on signal_fd (a signalfd), or the parent is gone; then peers are told, what is open is
 * committed and answered, and it returns. Everything is borrowed. True: all that was accepted is on disk and answered.
 * False: the disk was full for too long to commit the rest; nobody was answered about it, the end is not clean.
 */
QUERN_MUST_USE bool loop_run(struct core *core, struct journal *journal, struct router *router, int signal_fd,
                             const struct parent *parent, struct flight *flight);

#endif

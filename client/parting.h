/*
 * parting.h: how a pool lets go of its client: step by step, while futures and outcomes stay with the program.
 * All without lock.
 */
#ifndef QUERN_CLIENT_PARTING_H
#define QUERN_CLIENT_PARTING_H

#include "client/inside.h"

/* No more submits: QUERN_CLOSED. */
void client_shut(struct quern_client *client);
/* Cancels what has not started. The session goes on if it is named, else it ends. */
enum quern_err client_cancel_queued(struct quern_client *client, const char *session);
/* Waits until every submit was answered and every outcome is here, or nothing will come any more. */
enum quern_err client_await_outcomes(struct quern_client *client);

/* ---- client.c ---- */
/* Leaves the broker and ends the client's thread; what has come can still be taken. Once. */
enum quern_err client_part(struct quern_client *client, unsigned flags, const char *why);
/* Nothing will come any more: every wait ends with that code. */
void client_break(struct quern_client *client, enum quern_err code, const char *why);

#endif

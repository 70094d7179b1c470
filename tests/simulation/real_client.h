/*
 * real_client: the client library's own protocol state (client/ledger.c with submits, completions, requests) in the
 * simulated world, in the place of the model. What is around it in the library (futures, threads, sockets) is played.
 *
 * Knows world.h and client/ledger.h. Called by client.c, which keeps what the application knows. Start at
 * sim_client_new_real in world.h.
 */
#ifndef QUERN_TESTS_REAL_CLIENT_H
#define QUERN_TESTS_REAL_CLIENT_H

#include "world.h"

bool sim_real_has_room(const struct client *client);
void sim_real_submit(struct client *client, struct piece *piece);
void sim_real_take(struct client *client, const struct took *took);
void sim_real_write(struct client *client); /* what there is to say goes out */
void sim_real_cancel(struct client *client, uint64_t task, bool force);
void sim_real_close(struct client *client, bool cancel);
void sim_real_free(struct client *client);

/* ---- client.c ---- */
struct task_options sim_client_options(const struct spec *spec);
void sim_client_args(struct buf *buf, const struct piece *submit);
struct asked *sim_client_ask(struct client *client, enum message_kind kind, uint64_t task);
void sim_client_came(struct client *client, struct took took);

#endif

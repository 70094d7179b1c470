/*
 * request: what was asked of the broker (CANCEL, RETRY, CLOSE, QUERY) and its REPLY. Pure; belongs to the ledger.
 * After a reconnect a request is asked again if asking twice does no harm; one that would (RETRY makes a task each
 * time) ends with QUERN_TIMEOUT and a text that says so.
 */
#ifndef QUERN_CLIENT_REQUEST_H
#define QUERN_CLIENT_REQUEST_H

#include "common/message.h"

#define REQUEST_COUNT_MAX 1024u
/* A reply in many messages is joined up to this. */
#define REPLY_SIZE_MAX (64u * 1024u * 1024u)

struct request {
    uint64_t number;
    enum message_kind kind;
    uint64_t task; /* CANCEL, RETRY */
    bool is_idempotent;
    bool is_own_close; /* CLOSE of this client's own session */
    bool is_sent; /* on this connection */
    bool is_done;
    enum quern_err code; /* when done */
    struct buf text;     /* NUL-terminated, when done; nothing: that of the code */
    struct buf body;     /* one msgpack value, when done; nothing if there is none */
    uint32_t part_count; /* messages of the reply so far */
    uint64_t element_count;
    struct buf message; /* as it is sent */
    struct request *next;
    struct request *prev;
};

/* {0} holds none. */
struct requests {
    struct request *first;
    struct request *last;
    uint32_t count;
    uint32_t unsent_count;
    uint64_t number_last;
};

void requests_fini(struct requests *requests);

/* message: CANCEL, RETRY, CLOSE or QUERY; its request number is given here. The answer belongs to requests until
 * requests_drop. QUERN_FULL: REQUEST_COUNT_MAX are under way; QUERN_NO_MEMORY; *request_out is NULL then. */
QUERN_MUST_USE enum quern_err requests_ask(struct requests *requests, struct message *message,
                                           struct request **request_out);
void requests_drop(struct requests *requests, struct request **request);

/* The request that this reply finished; NULL if it finished none. */
struct request *requests_reply(struct requests *requests, const struct msg_REPLY *reply);
/* The broker did not take a message of this kind: those that were sent end with the code. How many. */
uint32_t requests_refuse(struct requests *requests, uint64_t kind, enum quern_err code, struct bytes text);
/* The connection is gone. How many ended by that. */
uint32_t requests_disconnected(struct requests *requests);
/* The client's own session has gone: those that were to close it have what they asked for. How many ended by that. */
uint32_t requests_session_gone(struct requests *requests);
/* Nothing will be answered any more. How many ended by that. */
uint32_t requests_end(struct requests *requests, enum quern_err code, const char *text);

/* What the reply to RETRY says; false if it says something else. */
bool reply_retry_read(struct bytes body, uint64_t *id_out, uint64_t *session_out);

/* Appends unsent requests until the frame has its size. */
void requests_write(struct requests *requests, struct buf *frame);

#endif

/*
 * ledger.h: the protocol state of one client: its session and series, the submits without answer, the outcomes received
 * and taken, credit both ways, requests, liveness. Pure: no I/O, no threads, no clock; io.c drives it in production,
 * the simulation drives this very code in a simulated world.
 *
 *   a connection is there      client_ledger_up
 *   a frame came               client_ledger_frame   -> what to do with the connection
 *   the connection is gone     client_ledger_down
 *   after any of these, after any call below, and when client_ledger_wake_ms has come:
 *                              client_ledger_tick    -> what to do with the connection
 *                              client_ledger_write until it answers false; send each frame
 *
 * Life of a connection (struct client_ledger.phase):
 *
 *   DOWN --up--> OPENING --CHALLENGE, ECHO; WELCOME--> UP --+
 *    ^              |                                       |
 *    +---- down ----+---------------- down -----------------+      any --DENIED for good--> ENDED
 *
 * What it tells goes through struct ledger_sink, during client_ledger_frame and client_ledger_write; the sink must not
 * call the ledger. `owner` is whatever was given with the submit.
 */
#ifndef QUERN_CLIENT_LEDGER_H
#define QUERN_CLIENT_LEDGER_H

#include "client/completions.h"
#include "client/request.h"
#include "client/submits.h"
#include "common/limits.h"
#include "common/message.h"

/* A broker's text, and some words of ours. */
#define LEDGER_WHY_SIZE_MAX (ERROR_MESSAGE_SIZE_MAX + 64u)

struct ledger_options {
    struct uuid instance; /* of this client, random */
    const char *host;
    uint64_t pid;
    const char *program;
    bool is_operator;
    const char *session; /* NULL: an unnamed one */
    struct bytes description;
    bool take_over;
    bool must_exist;
    bool keep;
    bool is_volatile;
    bool may_be_volatile; /* is_volatile becomes true if the broker has no store */
    bool want_args;
    uint64_t expire_ms;
    uint64_t window_count; /* outcomes received ahead of being taken */
    uint64_t window_bytes;
    uint64_t submit_count_max; /* submits without answer */
    uint64_t submit_bytes_max;
    uint32_t series_renew_at; /* sequence after which a fresh series is asked for; 0: half of them */
    uint64_t heartbeat_ms;    /* until WELCOME says otherwise */
    uint64_t dead_ms;
};

struct ledger_sink {
    void *context;
    struct submits_sink submits; /* accepted, refused, renumbered; its context is set to the one above */
    /* A new outcome (duplicates are not told); held until client_ledger_take. */
    void (*outcome)(void *context, const struct item_outcome *outcome);
    /* The volatile session is gone, and a new one will be opened. `unfinished`: the tasks that were accepted and have
     * no outcome; to be taken over (unfinished_move). Unanswered submits were told before (submits.lost). */
    void (*session_lost)(void *context, struct unfinished *unfinished, const char *why);
    /* Requests ended: look at request->is_done. */
    void (*replied)(void *context);
};

enum ledger_verdict {
    LEDGER_GO_ON,
    LEDGER_RECONNECT,       /* break the connection and make a fresh one at once */
    LEDGER_RECONNECT_LATER, /* after a back-off */
    LEDGER_END,             /* nothing will come any more: see end_code, why */
};

/* A series that is used up by half is exchanged for a fresh one: nothing further is submitted; all is answered and what
 * was taken is told; the session is resumed without naming a series. */
enum ledger_renewal { RENEWAL_NONE, RENEWAL_FLUSHING, RENEWAL_OPENING };

enum ledger_phase { LEDGER_DOWN, LEDGER_OPENING, LEDGER_UP, LEDGER_ENDED };

/* Read it; only the functions below write it. */
struct client_ledger {
    struct ledger_options options; /* texts are copies */
    struct ledger_sink sink;
    enum ledger_phase phase;
    enum ledger_renewal renewal;
    enum quern_err end_code;       /* ENDED */
    char why[LEDGER_WHY_SIZE_MAX]; /* of the last verdict that was not GO_ON */
    uint32_t generation;
    bool is_challenged; /* on this connection: the broker answers, and a WELCOME has to wait for its disk */
    bool is_welcomed;   /* once */
    bool is_lost;       /* the volatile session is gone; the next WELCOME is to another one */
    uint32_t losses;    /* how often: completion numbers are those of one session */
    /* from WELCOME: the first, where it is about the session at its opening */
    struct uuid store;
    uint32_t epoch;
    uint64_t session;
    uint32_t series;
    bool is_new;
    bool is_ending;
    uint64_t ordinal_high;
    uint64_t live;
    uint64_t untaken;
    uint64_t failed;
    uint8_t digest[DIGEST_SIZE];
    struct buf description;
    uint64_t heartbeat_ms;
    uint64_t dead_ms;

    struct submits submits;
    struct completions completions;
    struct requests requests;

    int64_t heard_ms;
    int64_t sent_ms;
    uint64_t ping_number;
    bool hello_is_due;
    bool bye_is_due;
    bool barrier_is_due;
    uint64_t barrier_number; /* PING sent for it, 0 none */
    bool barrier_is_passed;
    struct buf control; /* messages that go out with the next frame of this connection */
};

/* False: no memory; finish it all the same. */
QUERN_MUST_USE bool client_ledger_init(struct client_ledger *ledger, const struct ledger_options *options,
                                       const struct ledger_sink *sink);
void client_ledger_fini(struct client_ledger *ledger);

void client_ledger_up(struct client_ledger *ledger, int64_t now_ms);
void client_ledger_down(struct client_ledger *ledger);
enum ledger_verdict client_ledger_frame(struct client_ledger *ledger, struct bytes frame, int64_t now_ms);
enum ledger_verdict client_ledger_tick(struct client_ledger *ledger, int64_t now_ms);
int64_t client_ledger_wake_ms(const struct client_ledger *ledger);
/* Writes the next frame into the (empty) buf; false: there is nothing to send now. */
bool client_ledger_write(struct client_ledger *ledger, int64_t now_ms, struct buf *frame);

/* Is there room for one more submit? An empty ledger takes one of any size. */
bool client_ledger_has_room(const struct client_ledger *ledger);
/* head: function, queue, delay_ms. Takes the submit on QUERN_OK only. QUERN_CLOSED: never welcomed, or ended;
 * else as submits_add. */
QUERN_MUST_USE enum quern_err client_ledger_submit(struct client_ledger *ledger, const struct msg_SUBMIT *head,
                                                   const struct task_options *options, struct submit **submit,
                                                   uint64_t *id_out);
/* Another one like the one submitted last, but for its arguments. */
QUERN_MUST_USE enum quern_err client_ledger_submit_alike(struct client_ledger *ledger, struct submit **submit,
                                                         uint64_t *id_out);
/* The application has taken this outcome. size: as outcome_payload_size said. */
void client_ledger_take(struct client_ledger *ledger, uint64_t completion, uint64_t size);
/* Bytes that an outcome takes of a window. */
uint64_t outcome_payload_size(const struct item_outcome *outcome);
/* Somebody waits for an outcome that is not here, or not any more. */
void client_ledger_want(struct client_ledger *ledger, bool is_wanted);
/* Outcomes that are still to come, submits without answer included. */
uint64_t client_ledger_outstanding(const struct client_ledger *ledger);

/* The broker has read everything that was told before: barrier_is_passed. */
void client_ledger_barrier(struct client_ledger *ledger);
/* Say goodbye with the next frame. */
void client_ledger_bye(struct client_ledger *ledger);
/* End from this side: nothing will come any more. */
void client_ledger_end(struct client_ledger *ledger, enum quern_err code, const char *why);

#endif

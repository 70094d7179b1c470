/*
 * submits: the submits of one client that the broker has not answered, in order: their numbers, what of them was sent
 * on this connection, the credit to send them, and what becomes of refused ones. Pure; belongs to the ledger.
 *
 * Sequences are given when a submit is queued. A submit that the broker refuses for lack of room, or because the
 * ordinal before it was refused, is submitted again under a fresh sequence: then nothing further is sent until
 * everything sent has been answered, and the refused ones go in front of what was never sent, which moves up. So the
 * order of submission and the chain of ordinals hold, and sequences that the broker has seen are never used for
 * something else.
 */
#ifndef QUERN_CLIENT_SUBMITS_H
#define QUERN_CLIENT_SUBMITS_H

#include "client/unfinished.h"
#include "common/message.h"
#include "common/spares.h"

/* What many submits have in common: one is shared by all submits that are alike in a row. */
struct shape {
    uint64_t refs;
    struct bytes function; /* into the same allocation */
    struct bytes queue;
    struct task_options options;
    uint64_t delay_ms;
};

#define SHAPE_CACHE_COUNT 8u

/* One unanswered submit. Made by submit_make; the ledger takes it. */
struct submit {
    struct shape *shape;
    void *owner;          /* the caller's; comes back with the answer */
    uint64_t number;      /* 1, 2, 3 ... in order of submission, never changes */
    uint64_t ordinal;     /* 0 none */
    uint64_t predecessor; /* as it was first sent */
    struct submit *next;  /* in the list of refused ones */
    bool may_wait;        /* refused for lack of room: try again instead of reporting it */
    bool has_outcome;     /* its outcome came before its answer (after a reconnect) */
    uint32_t args_size;
    uint8_t args[];
};
/* Arguments up to this fit into memory that is used again and again. */
#define SUBMIT_SMALL_SIZE 64u
/* NULL: no memory. */
struct submit *submit_make(struct bytes args, uint64_t ordinal, bool may_wait, void *owner);

struct submit_refusal {
    uint64_t id;
    uint64_t ordinal;
    enum quern_err code;
    struct bytes text; /* borrowed for the call */
};

/* Who is told; owner is that of the submit. */
struct submits_sink {
    void *context;
    void (*accepted)(void *context, void *owner, uint64_t id);
    void (*refused)(void *context, void *owner, const struct submit_refusal *refusal);
    /* It will be submitted under another id. Called from the last to the first, so that no two have one id meanwhile.
     */
    void (*renumbered)(void *context, void *owner, uint64_t old_id, uint64_t id);
    /* The ledger ends without an answer to it. May be NULL. */
    void (*dropped)(void *context, void *owner);
    /* Its session is gone, and it was sent and not answered: nobody knows what became of it. Of volatile sessions. */
    void (*lost)(void *context, void *owner, uint64_t id, uint64_t ordinal);
};

struct submits {
    const struct submits_sink *sink;
    struct spares spares; /* of answered ones */
    struct shape *shapes[SHAPE_CACHE_COUNT];
    unsigned shape_next;
    struct shape *shape_last; /* of these: of the submit that was added last */
    struct submit **ring;     /* slot of a sequence: sequence & (cap - 1); NULL: answered */
    uint32_t cap;
    uint32_t series;
    uint32_t base;              /* the lowest sequence that may be unanswered */
    uint32_t cursor;            /* the next to be sent on this connection */
    uint32_t sent_high;         /* from here on never sent */
    uint32_t next;              /* the next submit gets this */
    struct submit *again_first; /* refused, to be submitted again, in order */
    struct submit *again_last;
    uint32_t again_count;
    int64_t again_at_ms;
    uint64_t again_wait_ms; /* grows while nothing is accepted */
    uint64_t count;         /* unanswered, all of them */
    uint64_t bytes;         /* of their arguments */
    uint64_t number_last;
    uint64_t ordinal_last; /* of this process */
    uint64_t ordinal_sent; /* the next one's predecessor */
    uint64_t ordinal_high; /* the highest the broker is known to have accepted */
    bool is_ending;        /* the session takes no further submits: nothing is tried again */
    bool is_volatile;      /* the broker may lose the session: accepted ones without outcome are kept in mind */
    bool is_moving;        /* it has: what was never sent goes into the series of the next WELCOME */
    struct unfinished unfinished;
    uint64_t counted_high; /* WELCOME counted up to this sequence */
    /* totals of this connection */
    uint64_t sent_count;
    uint64_t sent_bytes;
    uint64_t credit_count;
    uint64_t credit_bytes;
};

/* False: no memory; finish it all the same. */
QUERN_MUST_USE bool submits_init(struct submits *submits, const struct submits_sink *sink);
void submits_fini(struct submits *submits);

/* As submit_make, from what answered ones left; give it to submits_add, or back. NULL: no memory. */
struct submit *submits_make(struct submits *submits, struct bytes args, bool may_wait, void *owner);
void submits_unmake(struct submits *submits, struct submit *submit);

/* QUERN_INVALID: the ordinal is not above the last; QUERN_FULL: the series has no further number; QUERN_NO_MEMORY.
 * Takes the submit on QUERN_OK only. */
QUERN_MUST_USE enum quern_err submits_add(struct submits *submits, const struct msg_SUBMIT *head,
                                          const struct task_options *options, struct submit **submit, uint64_t *id_out);
/* The same for one that differs from the one added last in its arguments only: nothing is compared for it. */
QUERN_MUST_USE enum quern_err submits_add_alike(struct submits *submits, struct submit **submit, uint64_t *id_out);

/* The session is gone. What was sent without an answer is told as lost; what was never sent, or refused for a time,
 * goes on under other numbers after the next WELCOME. Whoever calls this has taken `unfinished` over, or drops it. */
void submits_lose(struct submits *submits);
/* A task that no submit of ours announced. */
void submits_expect(struct submits *submits, uint64_t id, uint64_t ordinal);

/* WELCOME: a first one gives the series, as does one that names another while nothing is unanswered; after any of them
 * what is unanswered is sent again. QUERN_PROTOCOL: the broker does not know what it has answered: its store is not the
 * one it was. */
QUERN_MUST_USE enum quern_err submits_welcome(struct submits *submits, const struct msg_WELCOME_CLIENT *welcome);
void submits_credit(struct submits *submits, const struct msg_CREDIT *credit);

/* The answer to a range. code QUERN_OK: accepted. How many accepted tasks WELCOME had not counted. */
uint64_t submits_answer(struct submits *submits, uint32_t first, uint32_t count, enum quern_err code,
                        uint64_t ordinal_high, struct bytes text, int64_t now_ms);
/* An outcome of this task came. */
void submits_outcome(struct submits *submits, uint64_t id);

/* Appends SUBMIT runs until the frame has its size, credit is used up or all is sent. */
void submits_write(struct submits *submits, struct buf *frame, int64_t now_ms);
/* submits_write would write something. */
bool submits_has_news(const struct submits *submits, int64_t now_ms);
/* When refused ones are to be sent again; INT64_MAX never. */
int64_t submits_wake_ms(const struct submits *submits);

bool submits_is_unanswered(const struct submits *submits, uint64_t id);
/* The lowest number (see struct submit) without answer; UINT64_MAX if there is none. */
uint64_t submits_unanswered_number(const struct submits *submits);

#endif

/*
 * completions: which outcomes of the session this client has received and which the application has taken, and the
 * credit that follows. Pure; belongs to the ledger. Knows completion numbers and sizes, not outcomes.
 *
 * Credit: the broker may send window_count outcomes (window_bytes of payload) beyond what has been taken. What the
 * application holds is not taken. Where that would leave a thread waiting for an outcome that can never come, the
 * window is stretched for a while ("owed") and shrinks back as outcomes are taken.
 */
#ifndef QUERN_CLIENT_COMPLETIONS_H
#define QUERN_CLIENT_COMPLETIONS_H

#include "common/message.h"
#include "common/ranges.h"

struct completions {
    uint64_t window_count;
    uint64_t window_bytes;
    struct ranges received; /* includes the taken */
    struct ranges taken;
    struct ranges fresh; /* taken, and not yet told on this connection */
    uint64_t held_count; /* received and not taken */
    uint64_t held_bytes;
    uint64_t held_at_hello; /* what WELCOME will count as not taken though it has come */
    uint64_t remaining;     /* outcomes that are still to come: tasks without one, and those not yet sent to us */
    bool is_wanted;         /* somebody waits for an outcome that is not here */
    /* totals of this connection */
    uint64_t came_count;
    uint64_t came_bytes;
    uint64_t grant_count; /* what we would grant now */
    uint64_t grant_bytes;
    uint64_t told_count; /* what the broker was told */
    uint64_t told_bytes;
    uint64_t owed_count; /* part of the grant that the next takings pay back */
    uint64_t owed_bytes;
};

void completions_init(struct completions *completions, uint64_t window_count, uint64_t window_bytes);
void completions_fini(struct completions *completions);

/* A new connection begins: fills the fields of HELLO that speak of outcomes; ranges holds their bytes. is_resume: the
 * broker looks at what HELLO says was taken; otherwise it is told after WELCOME. */
void completions_hello(struct completions *completions, bool is_resume, struct msg_HELLO_CLIENT *hello,
                       struct buf *ranges);
void completions_welcome(struct completions *completions, const struct msg_WELCOME_CLIENT *welcome);

/* The session is gone: nothing of what came is known to the next one. */
void completions_lose(struct completions *completions);

/* True: new, and held until completions_take. False: a duplicate; if it was taken it will be acknowledged again. */
bool completions_receive(struct completions *completions, uint64_t completion, uint64_t size);
/* The application has taken it; once for each that was received. */
void completions_take(struct completions *completions, uint64_t completion, uint64_t size);

/* The window is used up: nothing can come before something is taken or credit is stretched. */
bool completions_is_exhausted(const struct completions *completions);
/* Credit has grown enough to be told without waiting for another reason to send. */
bool completions_is_urgent(const struct completions *completions);
/* CREDIT or TAKEN would be written. */
bool completions_has_news(const struct completions *completions);
/* Appends TAKEN and CREDIT if there is something to tell. */
void completions_write(struct completions *completions, struct buf *frame);

#endif

/*
 * group.h: the inside of a group, for the files that feed it (futures.c, call.c) and cancel it (cancel.c). All of it
 * belongs to the client's lock.
 */
#ifndef QUERN_CLIENT_GROUP_H
#define QUERN_CLIENT_GROUP_H

#include "client/inside.h"

struct quern_group {
    struct quern_client *client; /* a reference */
    struct quern_group *parent;
    struct quern_group *children;
    struct quern_group *prev; /* among its parent's children */
    struct quern_group *next;
    unsigned flags;
    struct quern_future *first; /* its futures, in order of submission */
    struct quern_future *last;
    uint64_t pending; /* of them, those without outcome */
    uint64_t cancelled;
    struct delivery *failure; /* the first here; a reference */
    uint64_t failure_number;  /* among all failures in groups of the client */
    bool is_cancelled;
    bool is_forced;  /* cancelled so that what runs is stopped, too */
    bool is_closing; /* failures within are its own now */
    /* being cancelled */
    bool is_in_cancels;
    struct quern_group *cancels_next;
    struct quern_future *cancel_at; /* the next to ask for */
};

/* A submit into it was queued. */
void group_joined(struct quern_future *future);
/* One of it has its outcome. */
void group_done(struct quern_future *future);

/* ---- cancel.c ---- */
/* Ask for the end of all that is in it: bit by bit, as answers come. */
void cancels_begin(struct quern_group *group);
void cancels_forget(struct quern_group *group);

#endif

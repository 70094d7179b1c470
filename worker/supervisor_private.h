/*
 * supervisor_private.h: the supervisor's one struct, shared by supervisor.c (loop, broker, end), turn.c (what a turn
 * decides), herd.c (slots: reading, tending, death), offspring.c (the zygote, and slots from it), refusals.c (what
 * cannot be made), admission.c (what may start while memory is short) and assign.c (what goes where, what takes too
 * long).
 */
#ifndef QUERN_WORKER_SUPERVISOR_PRIVATE_H
#define QUERN_WORKER_SUPERVISOR_PRIVATE_H

#include "common/link.h"
#include "common/parent.h"
#include "worker/dialogue.h"
#include "worker/floor.h"
#include "worker/heaptrim.h"
#include "worker/ledger.h"
#include "worker/name.h"
#include "worker/options.h"
#include "worker/pace.h"
#include "worker/places.h"
#include "worker/reaper.h"
#include "worker/slot.h"
#include "worker/zygote.h"

#define GUEST_COUNT_MAX 64u

struct supervisor {
    const struct options *options;
    char host[HOST_NAME_SIZE_MAX + 1];
    struct name_hold name;
    struct parent parent;
    int signals; /* signalfd */
    int events;  /* epoll: everything but the dealer */
    int life[2]; /* the life pipe; its write end is ours alone */
    /* Children that were there before us (`helper & exec quern-worker`): not ours to kill. */
    pid_t guests[GUEST_COUNT_MAX];
    size_t guest_count;
    struct zygote zygote;
    struct deaths deaths; /* of slots that outlived their zygote */
    struct zygote_plan plan;
    bool zygote_is_ready;
    uint64_t births;         /* slots that were asked for, ever */
    int64_t zygote_again_ms; /* start it again then */
    char **functions;
    size_t function_count;
    struct slot *slots; /* places_slots_max of them */
    size_t slot_count;  /* from here on none is used: those configured, and further ones while some wait */
    struct places places;
    int64_t missing;      /* slots to be made; below 0: surplus */
    char *refusal;        /* why no slot, or no zygote, can be made; NULL: they can. Told once. */
    unsigned stillborn;   /* slots in a row that died before they ran anything, */
    int64_t stillborn_ms; /* the last of them then */
    bool had_slot;        /* one was ready, ever */
    int64_t ask_ms;       /* ask for no slot before that */
    struct ledger ledger;
    struct pace pace;
    struct floor floor; /* of free memory */
    struct heaptrim heaptrim;
    char memory_text[WORKER_MEMORY_SIZE_MAX + 1];
    struct slot_yard yard;
    struct dialogue dialogue;
    struct dealer *dealer;
    bool hears_herd;   /* signals, zygote or slots have something to say, */
    bool hears_broker; /* or the dealer */
    struct buf frame;
    int64_t now_us;
    int64_t handed_us;      /* when an attempt was last handed to a slot */
    int64_t came_us;        /* when one last came, */
    uint64_t came_count;    /* and how many had come then */
    int64_t check_ms;       /* look at what runs then */
    int64_t lease_told_ms;  /* end of the lease that slots know */
    int64_t broker_down_ms; /* since when there is no welcome */
    bool is_ready_told;
    bool is_draining;
    bool is_abandoned;
    int64_t quiet_ms; /* draining: since when nothing runs and no broker is there; 0 */
    int exit_status;  /* -1: go on */
};

/* ---- supervisor.c ---- */
/* SIGTERM or SIGINT: the first drains, the second ends at once. */
void supervisor_told_to_end(struct supervisor *supervisor);
/* The program that started this worker for itself is gone: end at once. */
void supervisor_abandoned(struct supervisor *supervisor);

/* ---- turn.c ---- */
/* Take in what slots have started and finished: HELLO is about to say it. */
void turn_look(struct supervisor *supervisor);
/* Once everything was read and slots are seen to: what goes where, what is asked for, what ends. When to decide again
 * at the latest (monotonic ms). */
int64_t turn_decide(struct supervisor *supervisor);

/* ---- herd.c ---- */
/* Starts the zygote and waits for its list of functions: true, or exit_status is set. */
bool herd_begin(struct supervisor *supervisor);
/* Waits until the slots take tasks: true, or exit_status is set. */
bool herd_await_slots(struct supervisor *supervisor);
/* What epoll reported. */
void herd_events(struct supervisor *supervisor);
/* Replaces what is missing; when it wants to be called again at the latest (monotonic ms). */
int64_t herd_tend(struct supervisor *supervisor);
/* Everything of ours that still runs is killed, and waited for. Twice is once. */
void herd_end(struct supervisor *supervisor);
void herd_flush(struct supervisor *supervisor);
void herd_reap(struct supervisor *supervisor);
/* Settles and closes the slot of that pid. False: it is alive. */
bool herd_slot_dead(struct supervisor *supervisor, const struct reaped *death);
/* From now on they are heard. */
void herd_watch_zygote(struct supervisor *supervisor);
void herd_watch_slot(struct supervisor *supervisor, const struct slot *slot);

/* ---- offspring.c ---- */
/* Starts a zygote; false: that is tried again at zygote_again_ms. */
bool offspring_begin(struct supervisor *supervisor);
/* It is dead, or of no use: it is killed, and started again at zygote_again_ms. Slots there are go on until replaced.
 */
void offspring_give_up(struct supervisor *supervisor);
/* Ask for one; 0, or errno. */
int offspring_ask(struct supervisor *supervisor, struct slot *slot);
/* All that it says. */
void offspring_hear(struct supervisor *supervisor);
/* One packet of the first zygote, whose end, or refusal, is the worker's. */
void offspring_hear_first(struct supervisor *supervisor);

/* ---- waits.c ---- */
/* Answer slots that want to wait, and count who runs and who waits. */
void waits_look(struct supervisor *supervisor);

/* ---- refusals.c ---- */
/* A zygote that could not load, or a slot that could not be made, is tried again after this. */
#define AGAIN_MS 1000
/* why: taken. */
void birth_refused(struct supervisor *supervisor, char *why);
/* A slot died before it ran anything, and was not told to: sets when the next may be asked for. */
void slot_died_unused(struct supervisor *supervisor, const struct slot *slot, const struct reaped *death);
/* None can run anything, and none can be made. */
bool herd_is_barren(const struct supervisor *supervisor);
/* All slots are ready that there are to be; or at least one, where not all can be made. */
bool herd_is_complete(const struct supervisor *supervisor);

/* ---- admission.c ---- */
/* Look at free memory if it is time, and give back what has waited for it. When to look again; INT64_MAX: when there is
 * something to start. */
int64_t admission_look(struct supervisor *supervisor);
/* May this start now, as far as memory goes? */
bool admission_allows(const struct supervisor *supervisor, const struct attempt *attempt);
/* While memory is short: attempts to hold. */
uint64_t admission_capacity(const struct supervisor *supervisor);
/* A handler that waits may be waiting for it. */
bool admission_is_needed(const struct supervisor *supervisor, const struct attempt *attempt);

/* ---- assign.c ---- */
/* Hand waiting attempts to slots. */
void assign_work(struct supervisor *supervisor);
/* Starts to tell, progress, timeouts, kills; sets check_ms. */
void assign_check(struct supervisor *supervisor);
/* Tell the slots until when they may start. */
void assign_lease(struct supervisor *supervisor);
/* When no slot moves: the longer, the less is held behind what runs. */
void assign_stuck(struct supervisor *supervisor);
/* Ask for more or less. */
void assign_capacity(struct supervisor *supervisor);
/* Draining: everything that has not started goes back. */
void assign_return_all(struct supervisor *supervisor);
struct dialogue_slots assign_slots(struct supervisor *supervisor);

#endif

/*
 * slot.h: the supervisor's view of one slot: what was handed to it, what it runs, what it has finished, how it ends.
 */
#ifndef QUERN_WORKER_SLOT_H
#define QUERN_WORKER_SLOT_H

#include "worker/capture.h"
#include "worker/groups.h"
#include "worker/ledger.h"
#include "worker/memory.h"
#include "worker/meter.h"
#include "worker/pace.h"
#include "worker/postmortem.h"
#include "worker/statuspage.h"
#include "worker/zygotewire.h"

#include <sys/types.h>

/* From SIGTERM to SIGKILL. */
#define SLOT_GRACE_MS 1000

/* Buffers that large payloads left behind are given back above this. */
#define SLOT_BUFFER_KEEP_SIZE (1024u * 1024u)

enum slot_state { SLOT_NONE, SLOT_ASKED, SLOT_LIVE };

/* What an attempt took. */
struct slot_figures {
    uint64_t started_wall_ms;
    uint64_t run_us;
    uint64_t cpu_us;
    uint64_t peak_kib;
};

struct slot {
    enum slot_state state;
    uint64_t birth; /* its number among all slots of the worker */
    pid_t pid;
    int fd; /* -1: its end was seen */
    int pidfd;
    struct statuspage *page;
    uint64_t next;                               /* number of the next task to hand */
    uint64_t first;                              /* everything below is settled */
    struct attempt *queue[SLOT_QUEUE_COUNT_MAX]; /* by number % MAX; NULL: settled, revoked or forgotten */
    uint32_t expected_us[SLOT_QUEUE_COUNT_MAX];
    size_t queued;      /* not NULL */
    uint64_t queued_us; /* what they are expected to take */
    struct buf out;     /* for its socket */
    size_t out_at;
    bool wants_write; /* its socket is full */
    struct buf in;    /* from its ring */
    struct capture capture;
    bool is_muted; /* its output is not read before: */
    int64_t output_ms;
    uint64_t ring_read;
    enum stop stop;
    uint64_t stop_number;
    int64_t kill_ms; /* SIGKILL then; INT64_MAX: not */
    bool is_ready;   /* it has said that it takes tasks */
    bool is_doomed;  /* takes nothing more: it is being stopped or replaced */
    /* What was to be stopped came to its end by itself meanwhile: its figures. */
    bool has_ended;
    struct slot_figures ended;
    enum misdeed misdeed; /* it was killed for that */
    bool is_survived;     /* by something that it started, and that could not be killed */
    int64_t hung_up_ms;   /* its end of the socket was closed then; 0: it is open */
    bool is_spent;        /* it has run its share, or grown too large: to be replaced when idle */
    uint64_t tasks_max;   /* its share; 0: no limit */
    uint64_t ran;         /* tasks that ended */
    struct meter meter;
    struct memory_watch memory; /* of what it runs */
    struct memory_limit memory_limit;
    struct group group;  /* its cgroup */
    uint64_t task_limit; /* of attempts, for which the kernel's limit was set */
    bool is_orphan;      /* its zygote died: to be replaced when idle */
    bool has_run;
    bool is_waiting; /* its handler waits, and others have its place */
    int64_t dead_ms; /* its pidfd said so then; 0: alive */
    int64_t born_ms;
    int64_t idle_ms; /* one too many, and idle since; 0: not */
    int64_t progress_ms;
    uint32_t progress_version;
    uint64_t progress_number;
};

/* What all slots of a worker share. */
struct slot_yard {
    struct ledger *ledger;
    struct pace *pace;
    const char *host;
    struct memory_limit memory_limit; /* of attempts that have none of their own, and of a slot */
    struct groups groups;
    const char *proc;          /* where the kernel counts whom it has killed for memory, */
    uint64_t oom_kills;        /* as last looked at, */
    uint64_t oom_kills_before; /* and the time before: a death may be heard of after a look */
    int64_t oom_look_ms;
};

void slot_init(struct slot *slot);

/* ---- slot_process.c ---- */
/* fds: socket, page, pidfd, stdout, stderr: taken (set to -1). 0, or errno. */
int slot_open(struct slot *slot, pid_t pid, int fds[ZYGOTE_FD_COUNT], int64_t now_ms);
/* Whether a descriptor stands for the process of that pid, which is none of those that kill takes for many; or for one
 * that is dead and reaped, to which nothing can be done any more. */
bool pidfd_stands_for(int pidfd, pid_t pid);
bool pidfd_has_ended(int pidfd);
/* Frees everything; nothing may be queued. */
void slot_close(struct slot *slot, struct slot_yard *yard);
/* Send what was handed. */
void slot_flush(struct slot *slot);
void slot_signal(const struct slot *slot, int number);
/* Look at how many the kernel has killed for memory, if it is time: what a death is compared with. */
void yard_look(struct slot_yard *yard, int64_t now_ms);
/* Did the kernel kill it for memory? */
enum oom slot_oom(const struct slot *slot, const struct slot_yard *yard, int32_t status, struct group_end *end_out);

/* ---- slot.c ---- */

bool slot_has_room(const struct slot *slot);
/* What holds for this attempt. */
struct memory_limit slot_memory_limit(const struct slot_yard *yard, const struct attempt *attempt);
/* The kernel keeps one limit for the whole slot: another one can be set only when nothing runs. */
bool slot_may_limit(const struct slot *slot, const struct slot_yard *yard, const struct attempt *attempt);
void slot_hand(struct slot *slot, const struct slot_yard *yard, struct attempt *attempt, int64_t now_ms);
/* What runs has taken so much of its limit when it was first looked at. */
void slot_limit_again(struct slot *slot, uint64_t taken, int64_t now_ms);
/* It was refused at birth: why, as text to be freed; NULL: it was not. */
char *slot_refusal(struct slot *slot);
/* Take in what it has finished. False: what it wrote makes no sense; it is doomed and was killed. */
bool slot_read(struct slot *slot, const struct slot_yard *yard);

/* The attempt at the head of its queue; NULL if none. */
struct attempt *slot_front(struct slot *slot);
/* The same if it has started; the ledger is told. */
struct attempt *slot_running(struct slot *slot, const struct slot_yard *yard);
/* What this attempt has written so far, beyond what is known of it (output.h), appended to out; false: it does not run
 * here (it may have finished just now). */
bool slot_look(struct slot *slot, const struct slot_yard *yard, struct attempt *attempt,
               const uint64_t known[OUTPUT_STREAM_COUNT], struct buf *out);
/* Since when its front runs, monotonic us; now_us if it has only just begun. */
int64_t slot_started_us(const struct slot *slot, const struct attempt *attempt, int64_t now_us);

/* Take one back: true and it is WAITING; false: it has started (the ledger was told). */
bool slot_revoke(struct slot *slot, const struct slot_yard *yard, struct attempt *attempt);
/* Take back all that has not started. */
void slot_revoke_all(struct slot *slot, const struct slot_yard *yard);
/* Stop what runs: its handler and its process group are told (SIGTERM), later killed; the outcome comes with the
 * burial. False: it had finished meanwhile. */
bool slot_stop(struct slot *slot, const struct slot_yard *yard, struct attempt *attempt, enum stop stop,
               int64_t now_ms);
/* The attempt is about to be freed: keep no pointer; kill it if it runs. */
void slot_forget(struct slot *slot, const struct slot_yard *yard, struct attempt *attempt);
/* Kill it for what it did to what it shares with us. */
void slot_condemn(struct slot *slot, const struct slot_yard *yard, enum misdeed misdeed);
/* It is dead: take in what it had finished, settle what it ran, take back the rest. The slot is closed. */
void slot_bury(struct slot *slot, struct slot_yard *yard, int32_t status, uint64_t cpu_us, uint64_t peak_kib,
               int64_t now_us);

#endif

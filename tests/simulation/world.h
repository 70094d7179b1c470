/*
 * world: a simulated world in one thread, replayable by seed: one broker core that can crash between any two steps, its
 * disk, pipes that break and deliver late, model clients and workers, virtual time, and an oracle that watches all of
 * it.
 *
 * Knows core.h from outside, the protocol, and the memory store; never the core's insides. The model peers (client.c,
 * worker.c) are written from the protocol alone, so that they check it. Start at the functions of the broker below; a
 * scenario is a handful of them, chaos.c chooses among them by chance.
 */
#ifndef QUERN_TESTS_WORLD_H
#define QUERN_TESTS_WORLD_H

#include "broker/core.h"
#include "common/message.h"
#include "memstore.h"

#define WALL_START 1700000000000

struct world;
struct oracle;

/* ---- chance ---- */
struct rng {
    uint64_t state;
};
uint64_t rng_next(struct rng *rng);
uint64_t rng_below(struct rng *rng, uint64_t bound); /* 0..bound - 1 */
bool rng_percent(struct rng *rng, unsigned percent);

/* ---- pipes ---- */
struct fifo {
    struct buf *items;
    size_t head;
    size_t count; /* behind head */
    size_t cap;
};

struct peer;

#define SAID_COUNT 4u

/* One connection: two first-in-first-out pipes. */
struct wire {
    uint64_t conn; /* its number at the broker */
    uint64_t life; /* of the broker it goes to */
    uint32_t generation;
    struct peer *peer;        /* NULL: the peer let go of it */
    const struct peer *maker; /* who made it; for the oracle */
    uint64_t taken_prefix;    /* as HELLO says */
    uint64_t welcomed_at;     /* count of the batch that WELCOME waited for; for the oracle */
    bool is_cut;              /* nothing moves, nobody notices */
    bool is_cut_there;        /* nothing moves to the broker */
    bool is_cut_back;         /* nothing moves to the peer */
    bool is_broken;           /* the broker let go of it: what is in to_peer is the last */
    bool wants_closed;        /* the broker learns that it is gone once to_broker is empty */
    struct fifo to_broker;
    struct fifo to_peer;
    struct buf said[SAID_COUNT]; /* frames the broker has read, the last ones: somebody may say them again */
    size_t said_count;           /* ever */
};

/* ---- peers: what clients and workers have in common; one struct per process ---- */
enum peer_kind { PEER_CLIENT, PEER_WORKER, PEER_STRANGER };

/* What a peer is made of where it is not a model: the real state machines of client/ and worker/. */
struct role {
    void (*up)(struct peer *peer);   /* on a fresh wire */
    void (*down)(struct peer *peer); /* its wire is gone */
    void (*frame)(struct peer *peer, struct bytes frame);
    void (*tick)(struct peer *peer);  /* time has passed */
    void (*pulse)(struct peer *peer); /* the same for its other processes, which run while it is stopped; may be NULL */
    void (*die)(struct peer *peer);   /* with all its processes; may be NULL */
    int64_t (*wake)(const struct peer *peer);
};

struct peer {
    struct world *world;
    enum peer_kind kind;
    const struct role *role; /* NULL: a model */
    char name[48];
    uint64_t serial; /* of the process */
    struct uuid instance;
    uint32_t generation;
    struct wire *wire;
    bool is_dead;
    bool is_welcomed; /* on this wire */
    bool is_auto;     /* connects, beats and acts by itself as time passes */
    bool is_odd;      /* keeps to no protocol, or somebody speaks in its name: it may be told of errors */
    bool is_denied;   /* the broker ended it for good: code in denied */
    enum quern_err denied;
    int64_t paused_until; /* stopped by SIGSTOP until then */
    int64_t retry_at;     /* connect again then */
    int64_t heard;
    int64_t sent;
    int64_t heartbeat_ms;
    int64_t dead_ms;
    uint64_t ping_number;
    struct buf out; /* the frame being filled */
};

/* A frame to append messages to; sim_peer_flush sends it. */
struct buf *sim_peer_out(struct peer *peer);
void sim_peer_flush(struct peer *peer);
void sim_peer_connect(struct peer *peer);              /* a fresh wire and HELLO; nothing if the broker is down */
void sim_peer_drop_wire(struct peer *peer, bool told); /* lets go; told: the broker is told, after what is on its way */
void sim_peer_die(struct peer *peer, bool told);
void sim_peer_receive(struct peer *peer, struct bytes frame);
void sim_peer_down(struct peer *peer); /* its wire broke */
void sim_peer_tick(struct peer *peer);
int64_t sim_peer_wake(const struct peer *peer);

/* ---- model client ---- */
enum answer { ANSWER_NONE, ANSWER_ACCEPTED, ANSWER_REFUSED, ANSWER_FORGOTTEN, ANSWER_LOST };

struct spec {
    const char *function; /* NULL: "work" */
    bool at_most_once;
    int32_t priority;
    uint64_t delay_ms; /* as on the wire: above DURATION_MS_MAX a time of the wall clock */
    uint64_t expires_ms;
    bool known;
    uint64_t attempts; /* 0: default 1; else retried after errors */
    uint64_t ordinal;
    uint64_t predecessor;
    uint64_t timeout_ms;
    uint64_t memory_bytes; /* its limit */
    uint64_t depth;
    unsigned nested; /* it submits so many and waits for them */
    bool big;        /* some KiB of arguments */
};

struct piece {
    uint32_t sequence; /* of this process; of a model also that of its series */
    uint64_t task;     /* of a real client: its id now */
    struct spec spec;
    char work[64]; /* names the piece of work, unique in the world */
    enum answer answer;
    enum quern_err code; /* of a refusal */
};

struct took {
    uint64_t completion;
    uint64_t task;
    uint32_t state;
    uint32_t cause;
    uint64_t size;   /* of its payload */
    uint32_t losses; /* of a real client: sessions lost before it came */
    bool is_taken;
};

struct asked {
    uint64_t number;
    enum message_kind kind;
    uint64_t task;
    bool is_answered;
    enum quern_err code;
};

struct real_client;

struct client {
    struct peer peer;
    struct real_client *real; /* NULL: a model */
    char session_name[48];    /* "": unnamed */
    bool take_over;
    bool is_volatile; /* its session */
    bool keep;
    uint64_t expire_ms;
    bool was_welcomed; /* ever: session and series hold */
    uint64_t session;
    uint64_t series;
    uint64_t ordinal_high; /* as told by WELCOME, raised by what was accepted */
    uint64_t acked_base;
    uint32_t epoch;
    struct piece *submits; /* in sequence from 1 */
    size_t submit_count;
    size_t submit_cap;
    size_t sent_index;   /* on this wire: the next to send */
    uint64_t sent_count; /* on this wire, towards the broker's credit */
    uint64_t sent_bytes;
    uint64_t credit_count; /* given by the broker */
    uint64_t credit_bytes;
    uint64_t window; /* outcomes this client takes ahead; 0: everything */
    uint64_t granted;
    uint64_t arrived;         /* outcomes on this wire */
    uint64_t high_at_welcome; /* submitted_high of the last WELCOME */
    uint64_t last_arrived;    /* completion of the last one on this wire */
    struct took *took;        /* in order of arrival */
    size_t took_count;
    size_t took_cap;
    bool must_acknowledge;
    struct asked *requests;
    size_t request_count;
    size_t request_cap;
    uint64_t line_count; /* it reads an input of so many lines: submits them with ordinals */
    uint64_t line_next;
    bool line_rewind;
    unsigned line_ahead; /* submits in flight at most */
};

struct client *sim_client_new(struct world *world, const char *session_name);
struct client *sim_client_new_real(struct world *world, const char *session_name);
void sim_client_submit(struct client *client, const struct spec *spec); /* and flush */
void sim_client_line(struct client *client); /* the next line of its input, if there is one */
bool sim_client_take(struct client *client); /* the application takes the oldest one held */
void sim_client_take_at(struct client *client, uint64_t completion);
void sim_client_acknowledge(struct client *client);
void sim_client_cancel(struct client *client, uint64_t task, bool force);
void sim_client_close(struct client *client, bool cancel);
void sim_client_leave(struct client *client);                                   /* says goodbye, and dies */
const struct asked *sim_client_request(const struct client *client);            /* the last one */
uint64_t sim_client_task(const struct client *client, size_t sequence);         /* its id */
const struct took *sim_client_took(const struct client *client, uint64_t task); /* the outcome it has seen */
size_t sim_client_untaken(const struct client *client);
size_t sim_client_unanswered(const struct client *client);
void sim_client_free(struct client *client);
/* called by peer.c */
void sim_client_hello(struct client *client, struct buf *out);
void sim_client_message(struct client *client, const struct message *message);
void sim_client_denied(struct client *client, enum quern_err code);

/* ---- model worker ---- */
struct held {
    struct token token;
    enum held_state state;
    bool at_most_once;
    bool is_told; /* STARTED was sent */
    char work[64];
    int64_t ends_at; /* running */
    int64_t began;
    enum finished_state end;
    enum cause cause;
};

#define PING_TIME_COUNT 64u

struct real_worker;

struct worker {
    struct peer peer;
    struct real_worker *real; /* NULL: a model, which alone uses what is below but for the dice */
    struct uuid store;
    uint32_t epoch;
    uint64_t slots;
    uint64_t prefetch;
    bool is_draining;
    bool tells_start;      /* sends STARTED by itself */
    unsigned fail_percent; /* of attempts that end in an error */
    unsigned crash_percent;
    unsigned memory_percent; /* that take too much memory */
    uint64_t run_ms_max;
    int64_t lease_until;
    int64_t lease_ms;
    int64_t ping_sent;
    int64_t hello_sent;
    int64_t ping_times[PING_TIME_COUNT]; /* by number */
    uint64_t ponged;                     /* the last PING that was answered */
    uint64_t drain_ping;                 /* sent behind the news that it drains */
    uint64_t started_count;
    struct held *held;
    size_t held_count;
    size_t held_cap;
};

struct worker *sim_worker_new(struct world *world, const char *name, uint64_t slots);
struct worker *sim_worker_new_real(struct world *world, const char *name, uint64_t slots);
struct held *sim_worker_held(struct worker *worker, uint64_t task);     /* the newest attempt of it; NULL */
bool sim_worker_start(struct worker *worker, uint64_t task, bool tell); /* false: it may not */
void sim_worker_finish(struct worker *worker, uint64_t task, enum finished_state state, enum cause cause);
void sim_worker_return(struct worker *worker, uint64_t task);
void sim_worker_drain(struct worker *worker);
bool sim_worker_is_drained(const struct worker *worker); /* it may leave without hurting anything */
/* Drained, and the broker knows: nothing can be under way to it. */
bool sim_worker_is_polite(const struct worker *worker);
void sim_worker_capacity(struct worker *worker, uint64_t count);
size_t sim_worker_running(const struct worker *worker);
void sim_worker_tick(struct worker *worker);
void sim_worker_free(struct worker *worker);
/* called by peer.c */
void sim_worker_hello(struct worker *worker, struct buf *out);
void sim_worker_message(struct worker *worker, const struct message *message);
void sim_worker_ping(struct worker *worker);

/* ---- the world ---- */
#define SEALED_COUNT_MAX 4u
#define TRACE_LINE_COUNT 400u
#define TRACE_LINE_SIZE 200u

struct sealed {
    struct batch *batch;
    bool is_applied;     /* on disk; the core has not been told */
    uint64_t applied_as; /* how many batches were on disk with it */
};

struct world {
    uint64_t seed;
    struct rng rng;
    int64_t now;
    int64_t wall_shift; /* somebody has set the clock */
    struct limits limits;
    bool echo; /* trace to stdout as it happens */

    struct memstore *disk;
    struct core *core; /* NULL: the broker is down */
    struct update update;
    uint64_t life;
    int64_t wake_at;
    struct sealed sealed[SEALED_COUNT_MAX];
    size_t sealed_count;
    struct load **loads;
    size_t load_count;
    size_t load_cap;
    bool disk_low;
    int64_t wall_ahead;    /* of where the wall clock began */
    bool clock_has_jumped; /* what is kept by the wall clock comes early or late */
    int64_t stopped_until; /* the broker: SIGSTOP */
    int64_t stalled_until; /* its disk does not answer */
    int64_t full_until;    /* its disk has no room for some of the batches */
    unsigned full_percent; /* of tries to commit that meet that */
    bool is_full;          /* a batch did not fit, and waits */
    int64_t full_retry_at;
    uint64_t applied_count; /* batches on disk, ever */
    uint64_t sending_for;   /* what leaves now waited for the batch with that count */
    size_t send_left;       /* frames the broker may still send before it crashes; SIZE_MAX: it does not */
    unsigned check_every; /* steps from one look at all the invariants of the core to the next */
    uint64_t step_count;
    uint64_t crash_count;     /* of brokers */
    uint64_t death_count;     /* of other parties, and of slots */
    uint64_t lost_batches;    /* sealed or open batches with rows that died with a broker */
    uint64_t unheard_batches; /* on disk, but the broker died before it knew */
    uint64_t full_batches;    /* that did not fit on the disk at first */
    uint64_t full_ends;       /* brokers that ended on request with such a batch, or were killed with it */
    uint64_t hostile_count;   /* things that no honest peer does */
    bool workers_are_swept;   /* every start finds too many rows of workers */
    bool names_are_shared;    /* two workers of one name: who comes second speaks for one that lives */
    bool workers_were_hurt;   /* anything that may cost an attempt */

    struct wire **wires;
    size_t wire_count;
    size_t wire_cap;
    uint64_t conn_last;
    struct peer **peers; /* dead ones too */
    size_t peer_count;
    size_t peer_cap;

    struct peer stranger;
    struct oracle *oracle;
    void (*observe)(void *context, const struct event *event); /* sees every event before the core does */
    void *observe_context;
    char (*trace)[TRACE_LINE_SIZE]; /* a ring */
    uint64_t trace_count;
};

struct world *world_new(uint64_t seed);
void world_free(struct world **world);
void world_say(struct world *world, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Says what is wrong, the seed and the last events, and stops the process. */
__attribute__((noreturn, format(printf, 2, 3))) void world_fail(struct world *world, const char *format, ...);
#define WORLD_CHECK(world, fact, ...)                                                                                  \
    do {                                                                                                               \
        if (!(fact)) {                                                                                                 \
            world_fail(world, __VA_ARGS__);                                                                            \
        }                                                                                                              \
    } while (0)
void world_report(struct world *world); /* the seed and the last events, to stderr */

/* ---- the broker, step by step ---- */
void broker_start(struct world *world);
void broker_crash(struct world *world); /* what is not applied is gone; pipes break, the last frames may still arrive */
void broker_restart(struct world *world);
void broker_stop(struct world *world); /* cleanly: commits, says BYE */
void broker_tick(struct world *world);
bool broker_seal(struct world *world);   /* false: as many as may be are under way */
bool broker_apply(struct world *world);  /* the oldest sealed one to disk; false: there is none, or no room for it */
bool broker_notice(struct world *world); /* the core is told of the oldest applied one; its gated frames leave */
bool broker_answer_load(struct world *world);
void broker_stats(struct world *world, bool disk_low);

/* ---- pipes ---- */
bool wire_deliver_to_broker(struct world *world, struct wire *wire); /* one frame (or the notice that it is gone) */
bool wire_deliver_to_peer(struct world *world, struct wire *wire);
void wire_lose(struct world *world, struct wire *wire, bool to_broker, size_t keep); /* all but the first keep frames */
void wires_sweep(struct world *world); /* forget those that nobody holds */
struct wire *world_wire_make(struct world *world, struct peer *peer);
/* Somebody without manners sends these bytes on a connection of his own, which nobody reads; NULL: the broker is down.
 */
struct wire *world_stranger(struct world *world, struct bytes frame);
void wire_say(struct wire *wire, struct bytes frame);             /* one more frame to the broker */
struct bytes wire_said(const struct wire *wire, uint64_t before); /* one the broker has read; nothing: none */
/* What is in a pipe, to be copied: the newest frame to the broker; nothing: none. */
struct bytes wire_newest(const struct wire *wire);
void fifo_push(struct fifo *fifo, struct bytes frame);
struct buf fifo_pop(struct fifo *fifo);
void fifo_keep(struct fifo *fifo, size_t keep);                 /* the first ones */
struct wire *wire_of(const struct world *world, uint64_t conn); /* NULL: gone */
void wire_free(struct wire **wire);

/* ---- for scenarios ---- */
bool commit(struct world *world);                 /* seal, apply, notice, until nothing is open; false: no room */
void deliver(struct world *world);                /* everything on its way arrives, nothing commits */
void settle(struct world *world);                 /* deliver and commit until nothing moves */
void pass(struct world *world, int64_t ms);       /* time passes; automatic peers act, things arrive and commit */
void pass_still(struct world *world, int64_t ms); /* only the broker's clock and those of peers; nothing arrives */

#endif

/*
 * The connections of a router: which routing id, which descriptor, and how far each has come. Private to
 * link_router.c and link_peers.c; no ZeroMQ in here, so that the rules can be read, and tested, without it.
 */
#ifndef QUERN_COMMON_LINK_PEERS_H
#define QUERN_COMMON_LINK_PEERS_H

#include "common/limits.h"
#include "common/map.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define PEER_TEXT_SIZE_MAX 80u

/*
 * Read to its end is a listener that had no more frames. One that is never without: frames are taken from all
 * connections in turn, so who has said nothing while others were heard several times has nothing left.
 *
 *            first frame                DISCONNECTED              listener read to its end
 *  (unseen) ────────────▶ PEER_OPEN ──────────────▶ PEER_ENDING ──────────────▶ PEER_GONE
 *                             │                                                  ▲
 *                             └─kick──▶ PEER_KICKED ── DISCONNECTED, read to its end
 *
 * CLOSED is told on entering KICKED, or GONE from ENDING. Frames count in OPEN and ENDING.
 */
enum peer_state { PEER_OPEN, PEER_ENDING, PEER_KICKED, PEER_GONE };

struct peer {
    uint64_t conn;
    uint64_t key; /* listener and routing id */
    enum peer_state state;
    bool is_seen; /* a frame of it went out */
    bool is_told; /* CLOSED went out */
    size_t listener;
    uint32_t routing_id;
    int fd;
    uint64_t heard_round; /* of the listener, at its last frame */
    unsigned error_count;
    bool is_remote;
    char text[PEER_TEXT_SIZE_MAX];
};

/* How far the reading of a listener had come. */
struct reach {
    uint64_t round;
    uint64_t frame_count;
};

/* A descriptor of a listener, as its monitor tells it. */
struct slot {
    bool is_open;
    uint64_t serial; /* of the accept; 0: never */
    uint64_t conn;   /* 0: nothing was heard on it yet */
    ino_t inode;
    /* Closed before anything was heard: until the listener has been read to its end, a first frame from this
     * descriptor may still be that connection's. The listener's drain_count at that time, + 1. */
    uint64_t stale;
    struct reach stale_reach; /* then */
};

/* First in, first out, of numbers that may have lost their meaning when they come out. */
struct line {
    struct line_item {
        uint64_t number;
        int64_t due_ms;
        uint64_t serial;
        struct reach reach;
    } * items;
    size_t first;
    size_t count;
    size_t cap;
};

struct peers_listener {
    struct slot *slots;
    size_t slot_count;
    uint64_t drain_count;
    struct reach reach; /* a round ends when somebody is heard for the second time in it */
    struct line ending; /* conns, and the reach at their end */
};

struct peers {
    struct map by_key;
    struct map by_conn;
    uint64_t conn_last;
    uint64_t serial_last;
    struct line closed; /* conns whose CLOSED is to be told */
    struct line kicked; /* conns whose descriptor is shut down when due */
    struct line silent; /* accepted, nothing heard: listener and descriptor; shut down when due */
    uint64_t told;      /* a conn that goes with the next call: its text was good until then */
    struct peers_listener listeners[URL_COUNT_MAX];
};

#define PEERS_KICK_GRACE_MS 200
#define PEERS_SILENT_MS_MAX 15000
/* So many whole rounds without a frame of it, and so many frames at least (libzmq looks every 100 parts of messages, of
 * which a frame has two, who has something): nothing is left of a connection. One round would do, but that libzmq
 * changes the order when connections come and go. */
#define PEERS_ROUND_COUNT 3u
#define PEERS_FRAME_COUNT 128u

void peers_fini(struct peers *peers);

/* What the monitor says. */
void peers_accepted(struct peers *peers, size_t listener, int fd, int64_t now_ms);
void peers_disconnected(struct peers *peers, size_t listener, int fd);
/* The listener had no more frames, after the monitor's events known by then: what was ending has ended. */
void peers_drained(struct peers *peers, size_t listener);

/* A frame of it was read: once for each. */
void peers_heard(struct peers *peers, struct peer *peer);

struct peer *peers_find(const struct peers *peers, size_t listener, uint32_t routing_id);
struct peer *peers_of_conn(const struct peers *peers, uint64_t conn);
/* The text of the peer that is on the descriptor now; never NULL. */
const char *peers_text(struct peers *peers, size_t listener, int fd);
/* The first frame of a connection. NULL: it cannot be told whether this connection is the one on the descriptor now or
 * one before it (which said nothing else); the one that is there is broken off, it comes back. Or there are too many.
 */
struct peer *peers_add(struct peers *peers, size_t listener, uint32_t routing_id, int fd);
void peers_kick(struct peers *peers, struct peer *peer, int64_t due_ms);
/* The next conn whose CLOSED is to be told (those of which a frame went out); 0 none. */
uint64_t peers_next_closed(struct peers *peers);

/* Shut down what is due: kicked, and silent for too long. Answers when to come again, INT64_MAX never. */
int64_t peers_run_due(struct peers *peers, int64_t now_ms);
/* Break the connection on this descriptor, of which no peer was made. */
void peers_refuse(struct peers *peers, size_t listener, int fd);
/* Break whatever connection the listener has on this descriptor now. */
void peers_shut_down(struct peers *peers, size_t listener, int fd);

#endif

/*
 * link_peers: the connections of a router: found by routing id and by number, ended exactly once.
 * Must not know ZeroMQ: it is told what a monitor said and what frames showed.
 * Start at the diagram in link_peers.h, then peers_add and peers_drained.
 *
 * Frames and the monitor's events come on two different sockets, in no common order, and descriptors are used again.
 * What can be relied on: a connection's ACCEPTED is queued before its first frame, its DISCONNECTED after its last
 * one was queued. So before a first frame is judged the monitor is read to its end, and after a DISCONNECTED the
 * listener is read to its end, or far enough (is_passed), before the connection counts as closed.
 */
#include "common/link_peers.h"

#include "common/check.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>

#define SLOT_COUNT_MIN 64u

/* ---- lines ---- */

static void line_push(struct line *line, struct line_item item)
{
    if (line->first + line->count == line->cap) {
        if (line->first > line->cap / 2) {
            memmove(line->items, line->items + line->first, line->count * sizeof *line->items);
        } else {
            struct line wider = {.cap = line->cap == 0 ? 16 : line->cap * 2};
            wider.items = xmalloc(wider.cap * sizeof *wider.items);
            if (line->count > 0) {
                memcpy(wider.items, line->items + line->first, line->count * sizeof *line->items);
            }
            free(line->items);
            line->items = wider.items;
            line->cap = wider.cap;
        }
        line->first = 0;
    }
    line->items[line->first + line->count++] = item;
}

static const struct line_item *line_peek(const struct line *line)
{
    return line->count > 0 ? &line->items[line->first] : NULL;
}

static struct line_item line_pop(struct line *line)
{
    struct line_item item = line->items[line->first++];
    if (--line->count == 0) {
        line->first = 0;
    }
    return item;
}

/* ---- slots ---- */

static struct slot *slot_find(struct peers *peers, size_t listener, int fd)
{
    struct peers_listener *of = &peers->listeners[listener];
    return fd >= 0 && (size_t)fd < of->slot_count ? &of->slots[fd] : NULL;
}

static struct slot *slot_make(struct peers *peers, size_t listener, int fd)
{
    struct peers_listener *of = &peers->listeners[listener];
    size_t count = of->slot_count < SLOT_COUNT_MIN ? SLOT_COUNT_MIN : of->slot_count;
    while ((size_t)fd >= count) {
        count *= 2;
    }
    if (count > of->slot_count) {
        of->slots = xrealloc(of->slots, count * sizeof *of->slots);
        memset(of->slots + of->slot_count, 0, (count - of->slot_count) * sizeof *of->slots);
        of->slot_count = count;
    }
    return &of->slots[fd];
}

/* Whoever said nothing since then has nothing left. */
static bool is_passed(const struct peers_listener *of, struct reach since)
{
    return of->reach.round >= since.round + PEERS_ROUND_COUNT &&
           of->reach.frame_count >= since.frame_count + PEERS_FRAME_COUNT;
}

static bool slot_is_stale(const struct peers *peers, size_t listener, const struct slot *slot)
{
    const struct peers_listener *of = &peers->listeners[listener];
    return slot->stale == of->drain_count + 1 && !is_passed(of, slot->stale_reach);
}

static ino_t socket_inode(int fd)
{
    struct stat st;
    return fstat(fd, &st) == 0 && S_ISSOCK(st.st_mode) ? st.st_ino : 0;
}

void peers_shut_down(struct peers *peers, size_t listener, int fd)
{
    struct slot *slot = slot_find(peers, listener, fd);
    /* The descriptor is libzmq's, which may close it at any time, and someone else may get it: look who it is. */
    if (slot != NULL && slot->is_open && slot->inode != 0 && socket_inode(fd) == slot->inode) {
        shutdown(fd, SHUT_RDWR);
    }
}

void peers_refuse(struct peers *peers, size_t listener, int fd)
{
    const struct slot *slot = slot_find(peers, listener, fd);
    if (slot != NULL && slot->conn == 0) {
        peers_shut_down(peers, listener, fd);
    }
}

/* ---- what the monitor says ---- */

void peers_accepted(struct peers *peers, size_t listener, int fd, int64_t now_ms)
{
    if (fd < 0) {
        return;
    }
    struct slot *slot = slot_make(peers, listener, fd);
    if (slot->is_open) {
        peers_disconnected(peers, listener, fd);
    }
    slot->is_open = true;
    slot->serial = ++peers->serial_last;
    slot->conn = 0;
    slot->inode = socket_inode(fd);
    line_push(&peers->silent, (struct line_item){.number = (uint64_t)listener << 32 | (uint32_t)fd,
                                                 .due_ms = now_ms + PEERS_SILENT_MS_MAX,
                                                 .serial = slot->serial});
}

static void ending_push(struct peers_listener *of, const struct peer *peer)
{
    line_push(&of->ending, (struct line_item){.number = peer->conn, .reach = of->reach});
}

void peers_disconnected(struct peers *peers, size_t listener, int fd)
{
    struct peers_listener *of = &peers->listeners[listener];
    struct slot *slot = slot_find(peers, listener, fd);
    if (slot == NULL || !slot->is_open) {
        return;
    }
    slot->is_open = false;
    if (slot->conn == 0) {
        slot->stale = of->drain_count + 1;
        slot->stale_reach = of->reach;
        return;
    }
    struct peer *peer = peers_of_conn(peers, slot->conn);
    CHECK(peer != NULL && peer->fd == fd && peer->listener == listener);
    slot->conn = 0;
    if (peer->state == PEER_OPEN) {
        peer->state = PEER_ENDING;
    }
    ending_push(of, peer);
}

static void peer_free(struct peers *peers, struct peer *peer)
{
    map_remove(&peers->by_conn, peer->conn);
    free(peer);
}

static void peer_ended(struct peers *peers, struct peer *peer)
{
    map_remove(&peers->by_key, peer->key);
    if (peer->is_told) {
        peer_free(peers, peer);
        return;
    }
    if (peer->state == PEER_ENDING) {
        line_push(&peers->closed, (struct line_item){.number = peer->conn});
    }
    peer->state = PEER_GONE;
}

void peers_drained(struct peers *peers, size_t listener)
{
    struct peers_listener *of = &peers->listeners[listener];
    of->drain_count++;
    while (of->ending.count > 0) {
        struct peer *peer = peers_of_conn(peers, line_pop(&of->ending).number);
        CHECK(peer != NULL);
        peer_ended(peers, peer);
    }
}

/* In their order: one with much left to say holds those behind it up, but it comes to its end. */
static void passed_end(struct peers *peers, struct peers_listener *of)
{
    for (const struct line_item *item = line_peek(&of->ending); item != NULL; item = line_peek(&of->ending)) {
        struct peer *peer = peers_of_conn(peers, item->number);
        struct reach since = item->reach;
        CHECK(peer != NULL);
        since.round = peer->heard_round > since.round ? peer->heard_round : since.round;
        if (!is_passed(of, since)) {
            return;
        }
        (void)line_pop(&of->ending);
        peer_ended(peers, peer);
    }
}

void peers_heard(struct peers *peers, struct peer *peer)
{
    struct peers_listener *of = &peers->listeners[peer->listener];
    of->reach.frame_count++;
    if (peer->heard_round == of->reach.round) {
        of->reach.round++;
        passed_end(peers, of);
    }
    peer->heard_round = of->reach.round;
}

/* ---- peers ---- */

static uint64_t key_of(size_t listener, uint32_t routing_id)
{
    return ((uint64_t)listener + 1) << 32 | routing_id;
}

struct peer *peers_find(const struct peers *peers, size_t listener, uint32_t routing_id)
{
    return map_get(&peers->by_key, key_of(listener, routing_id));
}

struct peer *peers_of_conn(const struct peers *peers, uint64_t conn)
{
    return conn == 0 ? NULL : map_get(&peers->by_conn, conn);
}

const char *peers_text(struct peers *peers, size_t listener, int fd)
{
    const struct slot *slot = slot_find(peers, listener, fd);
    const struct peer *peer = slot == NULL ? NULL : peers_of_conn(peers, slot->conn);
    return peer != NULL ? peer->text : "not heard yet";
}

static struct peer *peer_make(struct peers *peers, size_t listener, uint32_t routing_id, int fd)
{
    struct peer *peer = xcalloc(1, sizeof *peer);
    *peer = (struct peer){.conn = ++peers->conn_last,
                          .key = key_of(listener, routing_id),
                          .state = PEER_OPEN,
                          .listener = listener,
                          .routing_id = routing_id,
                          .fd = fd};
    map_put(&peers->by_key, peer->key, peer);
    map_put(&peers->by_conn, peer->conn, peer);
    return peer;
}

struct peer *peers_add(struct peers *peers, size_t listener, uint32_t routing_id, int fd)
{
    struct slot *slot = slot_find(peers, listener, fd);
    bool is_stale = slot != NULL && slot_is_stale(peers, listener, slot);
    if (slot == NULL || (!slot->is_open && !is_stale)) {
        return NULL;
    }
    if (!slot->is_open) {
        /* It spoke and left before we came to it: heard to its end like any other. */
        struct peer *peer = peer_make(peers, listener, routing_id, fd);
        peer->state = PEER_ENDING;
        ending_push(&peers->listeners[listener], peer);
        return peer;
    }
    if (is_stale || slot->conn != 0 || peers->by_conn.count >= CONNECTION_COUNT_MAX) {
        peers_shut_down(peers, listener, fd);
        return NULL;
    }
    struct peer *peer = peer_make(peers, listener, routing_id, fd);
    slot->conn = peer->conn;
    return peer;
}

void peers_kick(struct peers *peers, struct peer *peer, int64_t due_ms)
{
    if (peer->state == PEER_KICKED || peer->state == PEER_GONE) {
        return;
    }
    if (peer->state == PEER_OPEN) {
        line_push(&peers->kicked, (struct line_item){.number = peer->conn, .due_ms = due_ms});
    }
    peer->state = PEER_KICKED;
    line_push(&peers->closed, (struct line_item){.number = peer->conn});
}

uint64_t peers_next_closed(struct peers *peers)
{
    struct peer *before = peers_of_conn(peers, peers->told);
    peers->told = 0;
    if (before != NULL && before->state == PEER_GONE) {
        peer_free(peers, before);
    }
    while (peers->closed.count > 0) {
        struct peer *peer = peers_of_conn(peers, line_pop(&peers->closed).number);
        CHECK(peer != NULL && !peer->is_told);
        peer->is_told = true;
        if (peer->is_seen) {
            peers->told = peer->conn;
            return peer->conn;
        }
        if (peer->state == PEER_GONE) {
            peer_free(peers, peer);
        }
    }
    return 0;
}

static bool is_due(const struct line *line, int64_t now_ms)
{
    const struct line_item *item = line_peek(line);
    return item != NULL && item->due_ms <= now_ms;
}

static int64_t due_ms(const struct line *line)
{
    const struct line_item *item = line_peek(line);
    return item == NULL ? INT64_MAX : item->due_ms;
}

int64_t peers_run_due(struct peers *peers, int64_t now_ms)
{
    while (is_due(&peers->kicked, now_ms)) {
        struct peer *peer = peers_of_conn(peers, line_pop(&peers->kicked).number);
        struct slot *slot = peer == NULL ? NULL : slot_find(peers, peer->listener, peer->fd);
        if (slot != NULL && slot->conn == peer->conn) {
            peers_shut_down(peers, peer->listener, peer->fd);
        }
    }
    while (is_due(&peers->silent, now_ms)) {
        struct line_item item = line_pop(&peers->silent);
        size_t listener = (size_t)(item.number >> 32);
        int fd = (int)(uint32_t)item.number;
        struct slot *slot = slot_find(peers, listener, fd);
        if (slot->serial == item.serial && slot->conn == 0) {
            peers_shut_down(peers, listener, fd);
        }
    }
    int64_t kicked_ms = due_ms(&peers->kicked);
    int64_t silent_ms = due_ms(&peers->silent);
    return kicked_ms < silent_ms ? kicked_ms : silent_ms;
}

void peers_fini(struct peers *peers)
{
    size_t at = 0;
    uint64_t key = 0;
    void *value = NULL;
    while (map_next(&peers->by_conn, &at, &key, &value)) {
        free(value);
    }
    map_fini(&peers->by_key);
    map_fini(&peers->by_conn);
    free(peers->closed.items);
    free(peers->kicked.items);
    free(peers->silent.items);
    for (size_t i = 0; i < URL_COUNT_MAX; i++) {
        free(peers->listeners[i].slots);
        free(peers->listeners[i].ending.items);
    }
}

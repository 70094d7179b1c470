/*
 * zygote.h: the supervisor's view of its zygote: start it, ask for slots, hear what it says. May be started again after
 * its death. Belongs to the supervisor's thread.
 */
#ifndef QUERN_WORKER_ZYGOTE_H
#define QUERN_WORKER_ZYGOTE_H

#include "common/log.h"
#include "worker/zygotewire.h"

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct zygote {
    pid_t pid;  /* 0: none */
    int socket; /* -1: none */
    struct zygote_packet *packet;
    /* what a slot comes with; the reader takes them (sets to -1), what is left is closed with the next packet */
    int fds[ZYGOTE_FD_COUNT];
};

struct zygote_plan {
    const char *program; /* argv[0] */
    int life;            /* read end of the life pipe */
    bool allow_commands;
    bool spawns;
    enum log_level level;
    const char *const *modules;
    size_t module_count;
};

void zygote_init(struct zygote *zygote);
/* 0, or errno. */
int zygote_start(struct zygote *zygote, const struct zygote_plan *plan);
/* 0, or errno. */
int zygote_ask_slot(struct zygote *zygote, uint64_t number);
enum zygote_heard { ZYGOTE_HEARD, ZYGOTE_SILENT, ZYGOTE_GONE };
/* The next packet in zygote->packet; does not block. GONE: its socket has ended. */
enum zygote_heard zygote_hear(struct zygote *zygote);
/* Close the socket: it kills its slots and ends. The pid stays until it is reaped. */
void zygote_leave(struct zygote *zygote);
void zygote_fini(struct zygote *zygote);

#endif

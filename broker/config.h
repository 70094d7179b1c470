/*
 * config.h: what a broker is told at its start, from a configuration file (ZPL, read with czmq) and the command line.
 *
 *     broker
 *         listen = ipc:///run/quern/broker.sock
 *         listen = tcp://127.0.0.1:7301
 *         db = /var/lib/quern/quern.db
 *         log-level = info
 *         flight-recorder = /run/quern/flight   (see flight.h; none by default)
 *     limits
 *         lease_ms = 15000
 *
 * Every name is known or an error. The limits are those of LIMITS_TUNABLE in common/limits.h.
 */
#ifndef QUERN_BROKER_CONFIG_H
#define QUERN_BROKER_CONFIG_H

#include <stdbool.h>
#include <stddef.h>

#include "common/limits.h"
#include "common/log.h"
#include "quern/err.h"

#define LISTEN_COUNT_MAX 8u
#define LIMIT_VALUE_MAX (UINT64_C(1) << 53)

struct config {
    char *listen[LISTEN_COUNT_MAX];
    size_t listen_count;
    char *db;
    bool is_volatile;      /* no store: db is not looked at */
    char *flight_recorder; /* NULL: none */
    enum log_level log_level;
    struct limits limits;
};

/* All defaults; no listener and no db yet (their defaults make directories, see main.c). */
void config_init(struct config *config);
void config_fini(struct config *config);

/* Add a listener. QUERN_FULL: more than LISTEN_COUNT_MAX; QUERN_TOO_BIG: longer than a URL may be. */
QUERN_MUST_USE enum quern_err config_add_listen(struct config *config, const char *url);

/* Read a file over what is there. QUERN_IO: not readable; QUERN_INVALID: not ZPL, an unknown name, a value that is
 * none. *why_out: malloc'd sentence that names file and key. Puts no signal handler in place and prints nothing. */
QUERN_MUST_USE enum quern_err config_load(struct config *config, const char *path, char **why_out);

/* Do the limits fit together? QUERN_INVALID with a malloc'd sentence. */
QUERN_MUST_USE enum quern_err config_check(const struct config *config, char **why_out);

#endif

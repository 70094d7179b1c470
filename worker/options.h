/*
 * options.h: what the command line of a worker says.
 */
#ifndef QUERN_WORKER_OPTIONS_H
#define QUERN_WORKER_OPTIONS_H

#include "common/limits.h"
#include "common/log.h"
#include "common/parent.h"
#include "worker/floor.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define OPTIONS_MODULE_COUNT_MAX 64u

struct options {
    const char *program; /* argv[0] */
    const char *urls[URL_COUNT_MAX];
    size_t url_count; /* 0: the default socket */
    const char *modules[OPTIONS_MODULE_COUNT_MAX];
    size_t module_count;
    const char *queues[WORKER_QUEUE_COUNT_MAX];
    size_t queue_count;
    const char *name;           /* NULL: HOST-N */
    const char *name_directory; /* where its lock is; NULL: the runtime directory */
    unsigned slot_count;
    uint64_t slot_tasks_max;    /* a slot is replaced after so many; 0: no limit */
    uint64_t slot_memory_size;  /* or when it has grown by so many bytes; 0: no limit */
    uint64_t task_memory_max;   /* an attempt that takes more, and has no limit of its own, is stopped; 0: no limit */
    uint64_t slot_memory_max;   /* or when its slot has taken more; 0: no limit */
    uint64_t address_space_max; /* RLIMIT_AS of slots; 0: as ours */
    uint64_t data_max;          /* RLIMIT_DATA of slots; 0: as ours */
    struct floor_plan floor;    /* of free memory */
    const char *proc;           /* where the state of the host is read */
    bool no_cgroups;            /* use none */
    bool pins;                  /* each slot has one CPU */
    bool allow_commands;
    bool spawns; /* slots are started afresh, not forked */
    struct parent parent;
    enum log_level level;
};

enum options_result {
    OPTIONS_RUN,
    OPTIONS_DONE,  /* help or version was printed: exit 0 */
    OPTIONS_USAGE, /* what is wrong was printed to stderr: exit 2 */
};

/* has_program: the program brings functions of its own. Views into argv and the environment. */
enum options_result options_read(struct options *options, int argc, char **argv, bool has_program);

#endif

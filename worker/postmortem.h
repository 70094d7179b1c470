/*
 * postmortem.h: the outcome of an attempt that did not end by its handler's return: its slot died, or was stopped.
 * The text names task, host, pid, and signal or exit status.
 */
#ifndef QUERN_WORKER_POSTMORTEM_H
#define QUERN_WORKER_POSTMORTEM_H

#include "worker/groups.h"
#include "worker/ledger.h"
#include "worker/memory.h"

#include <sys/types.h>

/* Why a slot is being stopped. */
enum stop { STOP_NONE, STOP_TIMEOUT, STOP_KILLED, STOP_MEMORY };

/* What a slot did to what it shares with the supervisor, and was killed for. */
enum misdeed { MISDEED_NONE, MISDEED_HUNG_UP, MISDEED_SCRIBBLED };
/* As what follows "it". */
const char *misdeed_text(enum misdeed misdeed);

#define DEATH_UNKNOWN (-1) /* a wait status that nobody saw */

/* Whether the kernel killed it for memory. */
enum oom {
    OOM_NONE,
    OOM_OWN_LIMIT, /* at the limit of its cgroup */
    OOM_HOST,      /* it, although its cgroup had room: there was none elsewhere */
    OOM_PROBABLY,  /* somebody, at that time */
};

struct death {
    const struct attempt *attempt;
    enum stop stop;
    enum misdeed misdeed;
    bool is_survived; /* not all that it had started could be killed */
    const char *host;
    pid_t pid;
    int32_t status; /* as waitpid gives it, or DEATH_UNKNOWN; not looked at for a stop */
    uint64_t started_wall_ms;
    uint64_t run_us;
    uint64_t cpu_us;
    uint64_t peak_kib;
    struct memory_watch memory; /* of the attempt, as last looked at */
    struct memory_limit memory_limit;
    enum oom oom;
    struct group_end group; /* what its cgroup says */
    struct bytes backtrace; /* backtrace.h; none: it told nothing */
};

/* text is the room for the message that the outcome then looks into. */
#define DEATH_TEXT_SIZE 640u
struct outcome postmortem(const struct death *death, char text[DEATH_TEXT_SIZE]);
/* The kernel wrote a core of it. */
bool death_dumped_core(const struct death *death);
/* What is said of slots that die while they load or initialise. */
void stillborn(int32_t status, char text[DEATH_TEXT_SIZE]);

#endif

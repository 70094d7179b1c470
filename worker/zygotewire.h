/*
 * zygotewire.h: what supervisor and zygote say to each other over a SOCK_SEQPACKET pair: one struct a packet, in the
 * machine's own layout (both are the same program). End of file at the zygote: kill everything, then end.
 */
#ifndef QUERN_WORKER_ZYGOTEWIRE_H
#define QUERN_WORKER_ZYGOTEWIRE_H

#include "common/limits.h"

#include <stdint.h>

enum zygote_word {
    /* supervisor -> zygote */
    ZYGOTE_FORK, /* make one slot; number: of the slot, never given twice */
    /* zygote -> supervisor */
    ZYGOTE_READY,   /* text: names of the functions by index, each with its NUL; count of them */
    ZYGOTE_REFUSED, /* text: why no tasks can be taken; the zygote ends */
    ZYGOTE_SLOT,    /* number, pid; descriptors: socket, status page, pidfd, stdout, stderr */
    ZYGOTE_NO_SLOT, /* number; error: errno */
    ZYGOTE_DEAD,    /* pid, status, cpu_us, peak_kib of a slot; number: not 0 if something that it started lives on */
};

#define ZYGOTE_TEXT_SIZE_MAX (WORKER_FUNCTION_COUNT_MAX * (FUNCTION_NAME_SIZE_MAX + 1u))
#define ZYGOTE_FD_COUNT 5u

struct zygote_head {
    uint32_t word;
    int32_t pid;
    int32_t status; /* as waitpid gives it; count; errno */
    uint32_t text_size;
    uint64_t number;
    uint64_t cpu_us;
    uint64_t peak_kib;
};

struct zygote_packet {
    struct zygote_head head;
    char text[ZYGOTE_TEXT_SIZE_MAX];
};

/* Arguments of the program when it is started as a zygote: --quern-zygote SOCKET LIFE COMMANDS LEVEL START [MODULE]...
 */
#define ZYGOTE_ARGUMENT "--quern-zygote"
#define ZYGOTE_FORK_SERVER "fork-server"
#define ZYGOTE_SPAWN "spawn"
/* And as a slot: --quern-slot SOCKET PAGE LIFE COMMANDS LEVEL [MODULE]... */
#define SLOT_ARGUMENT "--quern-slot"

#endif

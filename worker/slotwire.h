/*
 * slotwire.h: what supervisor and slot say to each other, in the machine's own layout (both are the same program).
 *
 * supervisor -> slot, over the socket: struct slot_task, then args. End of file: end, at once.
 * slot -> supervisor, over the ring: struct slot_result, then result, kind, message, detail.
 * slot -> supervisor, over the socket: single bytes of no meaning, each "look at the ring".
 */
#ifndef QUERN_WORKER_SLOTWIRE_H
#define QUERN_WORKER_SLOTWIRE_H

#include <stdint.h>

/* Packed: each is written where it is read, behind bytes of any number. */
struct __attribute__((packed)) slot_task {
    uint32_t args_size;
    uint32_t function; /* index in the registry */
    uint64_t number;   /* 1, 2, 3 ... in this slot's life */
    uint64_t task;
    uint64_t timeout_ms;
    uint32_t attempt;
    uint32_t depth;
    uint64_t memory; /* not 0: what it takes is watched */
};

struct __attribute__((packed)) slot_result {
    uint64_t number;
    uint64_t started_wall_ms;
    uint64_t run_us;
    uint64_t waited_us; /* of it, with the place given to others */
    uint64_t cpu_us;
    uint64_t peak_kib;
    uint64_t output_from[2]; /* of stdout and stderr: the part that was written meanwhile (capture.h) */
    uint64_t output_to[2];
    uint32_t result_size;
    uint32_t detail_size;
    uint16_t message_size;
    uint8_t kind_size;
    uint8_t state;       /* enum finished_state: done or failed */
    uint8_t cause;       /* enum cause */
    uint8_t exit_status; /* of a command, as signal */
    uint8_t signal;
    uint8_t padding[1];
};

#endif

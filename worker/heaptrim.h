/*
 * heaptrim.h: what the worker's own process has freed goes back to the kernel.
 *
 * Payloads that waited while slots, or this process, stood still are freed in the order in which they are done, and in
 * another thread than the one that read them: what is free lies between what is used, and malloc by itself gives back
 * only the end of a heap. So the worker looks now and then, while something goes on, whether much more is resident
 * than is used. Slots are processes of their own; their memory is the handlers' (memory.h).
 *
 * Any thread may use the heap meanwhile. With another malloc than the C library's nothing comes of it.
 */
#ifndef QUERN_WORKER_HEAPTRIM_H
#define QUERN_WORKER_HEAPTRIM_H

#include <stddef.h>
#include <stdint.h>

/* Looked at no more often than this: a look costs a few microseconds, a trim about a millisecond for each 10 MiB. */
#define HEAPTRIM_LOOK_MS 2000
/* So much more is resident than is used: give it back. */
#define HEAPTRIM_KEEP_SIZE ((size_t)8 * 1024 * 1024)

/* all zeros: nothing was looked at yet */
struct heaptrim {
    int64_t again_ms;
};

/* At any time of a turn that takes place anyway. */
void heaptrim_look(struct heaptrim *trim, int64_t mono_ms);

#endif

/*
 * heaptrim.h: large payloads stay in the heap while they come and go, and the heap goes back to the kernel when no more
 * come.
 *
 * A megabyte that is mapped for itself costs 256 page faults, more than all else that the broker does with it. So
 * blocks of such a size are kept in the heap, and once a while has passed without any, what is free there is given
 * back.
 */
#ifndef QUERN_BROKER_HEAPTRIM_H
#define QUERN_BROKER_HEAPTRIM_H

#include <stddef.h>
#include <stdint.h>

/* A frame of this size or more is large. */
#define HEAPTRIM_LARGE_SIZE (256u * 1024u)
/* Blocks up to this size are kept in the heap. */
#define HEAPTRIM_BLOCK_SIZE_MAX (4 * 1024 * 1024)
/* So much may be free at its end, and this is asked of the kernel at a time. */
#define HEAPTRIM_KEEP_SIZE (64 * 1024 * 1024)
#define HEAPTRIM_STEP_SIZE (4 * 1024 * 1024)
/* Without a large frame for so long: the heap is trimmed. */
#define HEAPTRIM_QUIET_MS 1000

struct heaptrim {
    int64_t due_ms; /* INT64_MAX: nothing large came since the last time */
};

/* Settings of the whole process: before its threads start. */
void heaptrim_prepare(void);
void heaptrim_init(struct heaptrim *trim);
void heaptrim_saw_frame(struct heaptrim *trim, size_t size, int64_t mono_ms);
void heaptrim_look(struct heaptrim *trim, int64_t mono_ms);

#endif

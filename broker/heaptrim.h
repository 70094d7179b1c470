/*
 * heaptrim.h: large payloads stay in the heap while they come and go, and the heap goes back to the kernel when no more
 * come. So does what a burst of small blocks leaves: malloc by itself gives back only the heap's end.
 *
 * A megabyte that is mapped for itself costs 256 page faults, more than all else that the broker does with it. So
 * blocks of such a size are kept in the heap, and once a while has passed without any, what is free there is given
 * back. To look through the heap takes a while, too: for small blocks it is done when many more were used than are now,
 * and hardly fewer become used any more; or when some more were, and nothing goes on.
 */
#ifndef QUERN_BROKER_HEAPTRIM_H
#define QUERN_BROKER_HEAPTRIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A frame of this size or more is large. */
#define HEAPTRIM_LARGE_SIZE (64u * 1024u)
/* Blocks up to this size are kept in the heap. */
#define HEAPTRIM_BLOCK_SIZE_MAX (4 * 1024 * 1024)
/* So much may be free at its end, and this is asked of the kernel at a time. */
#define HEAPTRIM_KEEP_SIZE (64 * 1024 * 1024)
#define HEAPTRIM_STEP_SIZE (4 * 1024 * 1024)
/* Without a large frame for so long: the heap is trimmed. */
#define HEAPTRIM_QUIET_MS 1000
/* So many small blocks fewer are worth a trim: about 20 MB. */
#define HEAPTRIM_FEWER_COUNT 65536u
/* And so many if as many are used for HEAPTRIM_QUIET_MS: about 1 MB. */
#define HEAPTRIM_FEW_COUNT 4096u

struct heaptrim {
    int64_t due_ms;      /* INT64_MAX: nothing to give back */
    uint64_t most_count; /* small blocks used at once since the last time */
    uint64_t due_count;  /* used when due_ms was set */
    bool is_for_few;     /* due for HEAPTRIM_FEW_COUNT only */
};

/* Settings of the whole process: before its threads start. */
void heaptrim_prepare(void);
void heaptrim_init(struct heaptrim *trim);
void heaptrim_saw_frame(struct heaptrim *trim, size_t size, int64_t mono_ms);
/* count: small blocks in use. */
void heaptrim_look(struct heaptrim *trim, uint64_t count, int64_t mono_ms);

#endif

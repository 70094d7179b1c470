/*
 * heaptrim.c: owns the settings of malloc, and when its free memory goes back.
 * It must not know what the memory was for.
 * Start reading at heaptrim_look.
 */
#include "broker/heaptrim.h"

#include <malloc.h>

void heaptrim_prepare(void)
{
    (void)mallopt(M_MMAP_THRESHOLD, HEAPTRIM_BLOCK_SIZE_MAX);
    (void)mallopt(M_TRIM_THRESHOLD, HEAPTRIM_KEEP_SIZE);
    (void)mallopt(M_TOP_PAD, HEAPTRIM_STEP_SIZE);
    (void)mallopt(M_ARENA_MAX, 2);
}

void heaptrim_init(struct heaptrim *trim)
{
    trim->due_ms = INT64_MAX;
}

void heaptrim_saw_frame(struct heaptrim *trim, size_t size, int64_t mono_ms)
{
    if (size >= HEAPTRIM_LARGE_SIZE) {
        trim->due_ms = mono_ms + HEAPTRIM_QUIET_MS;
    }
}

void heaptrim_look(struct heaptrim *trim, int64_t mono_ms)
{
    if (trim->due_ms <= mono_ms) {
        trim->due_ms = INT64_MAX;
        (void)malloc_trim(0);
    }
}

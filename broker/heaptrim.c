/*
 * heaptrim.c: owns the settings of malloc, and when its free memory goes back.
 * It must not know what the memory was for.
 * Start reading at heaptrim_look.
 */
#include "broker/heaptrim.h"

#include <malloc.h>
#include <stdbool.h>

void heaptrim_prepare(void)
{
    (void)mallopt(M_MMAP_THRESHOLD, HEAPTRIM_BLOCK_SIZE_MAX);
    (void)mallopt(M_TRIM_THRESHOLD, HEAPTRIM_KEEP_SIZE);
    (void)mallopt(M_TOP_PAD, HEAPTRIM_STEP_SIZE);
    (void)mallopt(M_ARENA_MAX, 2);
}

void heaptrim_init(struct heaptrim *trim)
{
    *trim = (struct heaptrim){.due_ms = INT64_MAX};
}

void heaptrim_saw_frame(struct heaptrim *trim, size_t size, int64_t mono_ms)
{
    if (size >= HEAPTRIM_LARGE_SIZE) {
        trim->due_ms = mono_ms + HEAPTRIM_QUIET_MS;
    }
}

static bool is_fewer(uint64_t count, uint64_t before)
{
    return count < before && before - count >= HEAPTRIM_FEWER_COUNT;
}

void heaptrim_look(struct heaptrim *trim, uint64_t count, int64_t mono_ms)
{
    trim->most_count = count > trim->most_count ? count : trim->most_count;
    bool begins = trim->due_ms == INT64_MAX && is_fewer(count, trim->most_count);
    bool is_due = trim->due_ms <= mono_ms;
    if (begins || (is_due && is_fewer(count, trim->due_count))) {
        trim->due_ms = mono_ms + HEAPTRIM_QUIET_MS;
        trim->due_count = count;
    } else if (is_due) {
        *trim = (struct heaptrim){.due_ms = INT64_MAX, .most_count = count};
        (void)malloc_trim(0);
    }
}

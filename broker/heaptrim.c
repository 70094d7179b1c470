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
        trim->is_for_few = false;
    }
}

static bool is_fewer(uint64_t count, uint64_t before, uint64_t by)
{
    return count < before && before - count >= by;
}

/* Not yet: the heap would be looked through again and again. */
static bool goes_on(const struct heaptrim *trim, uint64_t count)
{
    return trim->is_for_few ? count != trim->due_count : is_fewer(count, trim->due_count, HEAPTRIM_FEWER_COUNT);
}

void heaptrim_look(struct heaptrim *trim, uint64_t count, int64_t mono_ms)
{
    trim->most_count = count > trim->most_count ? count : trim->most_count;
    bool begins = trim->due_ms == INT64_MAX && is_fewer(count, trim->most_count, HEAPTRIM_FEW_COUNT);
    bool is_due = trim->due_ms <= mono_ms;
    bool is_much = is_fewer(count, trim->most_count, HEAPTRIM_FEWER_COUNT);
    trim->is_for_few = (begins || trim->is_for_few) && !is_much;
    if (begins || (is_due && goes_on(trim, count))) {
        trim->due_ms = mono_ms + HEAPTRIM_QUIET_MS;
        trim->due_count = count;
    } else if (is_due) {
        *trim = (struct heaptrim){.due_ms = INT64_MAX, .most_count = count};
        (void)malloc_trim(0);
    }
}

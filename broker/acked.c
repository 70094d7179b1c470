/*
 * acked.c: acknowledged outcomes that are kept for a while, oldest first: up to a million of them by default, so runs
 * of ids that lie side by side take one entry together. Must not know why one is to go. Start reading at acked_push.
 */
#include "broker/state.h"

#include <stdlib.h>

#include "common/check.h"

/* Outcomes of a run finished within this time: what is deleted by age is at most so much too old. */
#define RUN_SPAN_MS 1000
#define RING_COUNT_MIN 64u

static struct acked_run *run_at(const struct acked *acked, size_t index)
{
    return &acked->runs[(acked->head + index) & (acked->cap - 1)];
}

static void ring_grow(struct acked *acked)
{
    size_t cap = acked->cap ? acked->cap * 2 : RING_COUNT_MIN;
    struct acked_run *runs = xmalloc(cap * sizeof *runs);
    for (size_t i = 0; i < acked->run_count; i++) {
        runs[i] = *run_at(acked, i);
    }
    free(acked->runs);
    acked->runs = runs;
    acked->cap = cap;
    acked->head = 0;
}

static bool run_takes(const struct acked_run *run, uint64_t id, int64_t finished)
{
    return id == run->id + run->count && run->count < UINT32_MAX && finished >= run->first_finished &&
           finished - run->first_finished <= RUN_SPAN_MS;
}

void acked_push(struct acked *acked, uint64_t id, int64_t finished, uint64_t size)
{
    struct acked_run *last = acked->run_count > 0 ? run_at(acked, acked->run_count - 1) : NULL;
    if (last == NULL || !run_takes(last, id, finished)) {
        if (acked->run_count == acked->cap) {
            ring_grow(acked);
        }
        last = run_at(acked, acked->run_count++);
        *last = (struct acked_run){.id = id, .first_finished = finished, .last_finished = finished};
    }
    last->count++;
    last->bytes += size;
    last->last_finished = finished > last->last_finished ? finished : last->last_finished;
    acked->count++;
    acked->bytes += size;
}

int64_t acked_oldest(const struct acked *acked)
{
    CHECK(acked->count > 0);
    return run_at(acked, 0)->last_finished;
}

uint64_t acked_pop(struct acked *acked)
{
    CHECK(acked->count > 0);
    struct acked_run *run = run_at(acked, 0);
    uint64_t id = run->id++;
    uint64_t size = run->bytes / run->count; /* one is as good as another: with the last of them it is exact */
    run->bytes -= size;
    acked->bytes -= size;
    acked->count--;
    if (--run->count == 0) {
        acked->head = (acked->head + 1) & (acked->cap - 1);
        acked->run_count--;
    }
    return id;
}

static int by_finish(const void *a, const void *b)
{
    const struct acked_run *x = a;
    const struct acked_run *y = b;
    if (x->last_finished != y->last_finished) {
        return x->last_finished < y->last_finished ? -1 : 1;
    }
    return (x->id > y->id) - (x->id < y->id);
}

void acked_sort(struct acked *acked)
{
    CHECK(acked->head == 0);
    if (acked->run_count > 0) {
        qsort(acked->runs, acked->run_count, sizeof *acked->runs, by_finish);
    }
}

void acked_fini(struct acked *acked)
{
    free(acked->runs);
    *acked = (struct acked){0};
}

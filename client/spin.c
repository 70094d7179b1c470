/*
 * spin: when a waiting thread looks instead of sleeping, and for how long.
 * Knows nothing of clients, nor of what is waited for.
 * Start at spin_look.
 */
#include "client/spin.h"

#include "common/clock.h"

#include <sched.h>
#include <stddef.h>

/* Looks between two moments in which others may run: a microsecond or two. */
#define LOOK_COUNT 32u

void spin_init(struct spin *spin)
{
    cpu_set_t cpus;
    *spin = (struct spin){.has_cpus = sched_getaffinity(0, sizeof(cpus), &cpus) == 0 && CPU_COUNT(&cpus) > 1};
}

bool spin_may(const struct spin *spin, uint64_t task_count, int64_t now_us)
{
    return spin->has_cpus && spin->condition == NULL && task_count <= SPIN_TASK_COUNT_MAX && now_us >= spin->again_us;
}

void spin_begin(struct spin *spin, const pthread_cond_t *condition)
{
    spin->condition = condition;
    atomic_store_explicit(&spin->is_told, false, memory_order_relaxed);
}

static void relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#endif
}

bool spin_look(const struct spin *spin)
{
    int64_t begun_us = clock_mono_us();
    int64_t before_us = begun_us;
    int64_t after_us = begun_us;
    while (after_us - begun_us < SPIN_US_MAX && after_us - before_us < SPIN_YIELD_US_MAX) {
        for (unsigned i = 0; i < LOOK_COUNT; i++) {
            if (atomic_load_explicit(&spin->is_told, memory_order_acquire)) {
                return true;
            }
            relax();
        }
        before_us = clock_mono_us();
        sched_yield();
        after_us = clock_mono_us();
    }
    return false;
}

void spin_end(struct spin *spin, int64_t now_us)
{
    bool is_told = atomic_load_explicit(&spin->is_told, memory_order_relaxed);
    int64_t rest_ms = SPIN_REST_MS_MIN;
    spin->condition = NULL;
    if (is_told) {
        spin->vain_count = 0;
        return;
    }
    for (unsigned i = 0; i < spin->vain_count && rest_ms < SPIN_REST_MS_MAX; i++) {
        rest_ms *= 2;
    }
    spin->vain_count++;
    spin->again_us = now_us + (rest_ms < SPIN_REST_MS_MAX ? rest_ms : SPIN_REST_MS_MAX) * 1000;
}

void spin_tell(struct spin *spin, const pthread_cond_t *condition)
{
    if (spin->condition == condition) {
        atomic_store_explicit(&spin->is_told, true, memory_order_release);
    }
}

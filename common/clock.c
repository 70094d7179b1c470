/*
 * clock: the time, in whole milli- and microseconds.
 * Must not know who waits for what.
 * Start anywhere.
 */
#include "common/clock.h"

#include "common/check.h"

#include <time.h>

static int64_t clock_us(clockid_t id)
{
    struct timespec now;
    CHECK(clock_gettime(id, &now) == 0);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

int64_t clock_mono_ms(void)
{
    return clock_us(CLOCK_MONOTONIC) / 1000;
}

int64_t clock_mono_us(void)
{
    return clock_us(CLOCK_MONOTONIC);
}

int64_t clock_tick_us(void)
{
    return clock_us(CLOCK_MONOTONIC_COARSE);
}

int64_t clock_wall_ms(void)
{
    return clock_us(CLOCK_REALTIME) / 1000;
}

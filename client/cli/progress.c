/*
 * Owns the progress line. Must not know tasks. Start at progress_show.
 */
#include "client/cli/progress.h"

#include "common/clock.h"
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <unistd.h>

static bool is_on;
static atomic_bool is_shown; /* the library's thread may say something too */
static int64_t begun_ms;
static int64_t last_ms;

void progress_begin(void)
{
    is_on = isatty(STDERR_FILENO) == 1;
    begun_ms = clock_mono_ms();
    last_ms = begun_ms;
}

bool progress_is_on(void)
{
    return is_on;
}

void progress_show(uint64_t printed, uint64_t failed, uint64_t unprinted, bool is_reading)
{
    int64_t now_ms = clock_mono_ms();
    if (!is_on || now_ms - last_ms < PROGRESS_TICK_MS) {
        return;
    }
    last_ms = now_ms;
    double per_second = (double)printed * 1000.0 / (double)(now_ms - begun_ms);
    dprintf(STDERR_FILENO, "\r\033[K%" PRIu64 " printed, %" PRIu64 " failed, %" PRIu64 " under way%s, %.0f/s", printed,
            failed, unprinted, is_reading ? ", reading" : "", per_second);
    atomic_store(&is_shown, true);
}

void progress_clear(void)
{
    if (atomic_exchange(&is_shown, false)) {
        dprintf(STDERR_FILENO, "\r\033[K");
    }
}

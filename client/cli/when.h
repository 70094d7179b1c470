/*
 * A time of day or a date and time, as people write it. Must not know options.
 */
#ifndef QUERN_CLI_WHEN_H
#define QUERN_CLI_WHEN_H

#include <stdbool.h>
#include <stdint.h>

/* "2026-12-01T03:00", "2026-12-01 03:00:30", "03:00" (the next one after now_ms), of this host's time zone; or with "Z"
 * or an offset ("+01:00", "+0100") behind it. at_ms_out: since 1970. False: it is none of these, or no such time. */
bool when_parse(const char *text, int64_t now_ms, int64_t *at_ms_out);

#endif

/*
 * Owns the reading of times. Must not know options, nor the clock: what now is, is given. Start at when_parse.
 */
#include "client/cli/when.h"

#include "common/limits.h"
#include <stddef.h>
#include <string.h>
#include <time.h>

/* The formats of strptime that are taken; a time of day first, as a date begins otherwise. */
static const struct {
    const char *format;
    bool is_of_day;
} forms[] = {
    {"%H:%M:%S", true},           {"%H:%M", true},           {"%Y-%m-%dT%H:%M:%S", false}, {"%Y-%m-%dT%H:%M", false},
    {"%Y-%m-%d %H:%M:%S", false}, {"%Y-%m-%d %H:%M", false},
};

/* Behind the time: nothing (the zone of this host), or Z, or an offset. */
static bool zone_parse(const char *text, bool *is_local_out, long *east_s_out)
{
    struct tm zone = {0};
    *is_local_out = *text == '\0';
    if (*is_local_out || strcmp(text, "Z") == 0) {
        *east_s_out = 0;
        return true;
    }
    const char *end = *text == '+' || *text == '-' ? strptime(text, "%z", &zone) : NULL;
    *east_s_out = zone.tm_gmtoff;
    return end != NULL && *end == '\0';
}

/* The C library makes the 1st of March of the 29th of February of most years, and 03:00 of the 02:00 that an hour of
 * summer time leaves out; neither is what was written. */
static bool is_same(const struct tm *a, const struct tm *b)
{
    return a->tm_year == b->tm_year && a->tm_mon == b->tm_mon && a->tm_mday == b->tm_mday && a->tm_hour == b->tm_hour &&
           a->tm_min == b->tm_min;
}

/* Seconds since 1970 of this time in that zone. */
static bool moment(const struct tm *when, bool is_local, long east_s, int64_t *second_out)
{
    struct tm there = *when;
    there.tm_isdst = -1;
    time_t second = is_local ? mktime(&there) : timegm(&there);
    *second_out = (int64_t)second - east_s;
    return is_same(&there, when);
}

/* Today's there; if that is over, tomorrow's; an hour that summer time leaves out is that of the day after. */
static bool next_of_day(const struct tm *of_day, bool is_local, long east_s, int64_t now_s, int64_t *second_out)
{
    for (int days = 0; days <= 2; days++) {
        struct tm when;
        time_t there = (time_t)(now_s + east_s);
        if ((is_local ? localtime_r(&there, &when) : gmtime_r(&there, &when)) == NULL) {
            return false;
        }
        when.tm_hour = 12; /* no day of any zone is without its noon */
        when.tm_min = when.tm_sec = 0;
        when.tm_mday += days;
        when.tm_isdst = -1;
        (void)(is_local ? mktime(&when) : timegm(&when)); /* the day, as a date that there is */
        when.tm_hour = of_day->tm_hour;
        when.tm_min = of_day->tm_min;
        when.tm_sec = of_day->tm_sec;
        if (moment(&when, is_local, east_s, second_out) && *second_out > now_s) {
            return true;
        }
    }
    return false;
}

bool when_parse(const char *text, int64_t now_ms, int64_t *at_ms_out)
{
    for (size_t i = 0; i < sizeof forms / sizeof forms[0]; i++) {
        struct tm when = {0};
        bool is_local;
        long east_s;
        int64_t second = 0;
        const char *end = strptime(text, forms[i].format, &when);
        if (end == NULL || !zone_parse(end, &is_local, &east_s)) {
            continue;
        }
        bool is_one = forms[i].is_of_day ? next_of_day(&when, is_local, east_s, now_ms / 1000, &second)
                                         : moment(&when, is_local, east_s, &second);
        *at_ms_out = second * 1000;
        return is_one && second > 0 && (uint64_t)second <= WALL_MS_MAX / 1000;
    }
    return false;
}

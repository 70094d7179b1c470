/*
 * plan.c owns a plan of a random world as text: what is left out of it.
 * It must not know what an action does.
 * Start reading at chaos_plan_only.
 */
#include "acts.h"

#include <stdlib.h>
#include <string.h>

static bool name_read(struct chaos_plan *plan, const char *name, size_t size)
{
    for (unsigned i = 0; i < chaos_action_count(); i++) {
        if (strlen(chaos_action_name(i)) == size && memcmp(chaos_action_name(i), name, size) == 0) {
            plan->without |= (uint64_t)1 << i;
            return true;
        }
    }
    return false;
}

bool chaos_plan_without(struct chaos_plan *plan, const char *names)
{
    _Static_assert(ACTION_COUNT <= 64, "a bit for each");
    while (*names != '\0') {
        size_t size = strcspn(names, ",");
        if (!name_read(plan, names, size)) {
            return false;
        }
        names += size + (names[size] == ',');
    }
    return true;
}

bool chaos_plan_only(struct chaos_plan *plan, const char *ranges)
{
    memset(plan->skips, true, sizeof plan->skips);
    while (*ranges != '\0') {
        char *end;
        uint64_t first = strtoull(ranges, &end, 10);
        uint64_t last = *end == '-' ? strtoull(end + 1, &end, 10) : first;
        if (last < first || last >= CHAOS_STEP_COUNT_MAX || (*end != ',' && *end != '\0')) {
            return false;
        }
        memset(&plan->skips[first], false, last - first + 1);
        ranges = end + (*end == ',');
    }
    return true;
}

/*
 * limits.c owns the defaults of LIMITS_TUNABLE and setting one by its name.
 * It must not know who reads them.
 * Start reading at limits.h.
 */
#include "common/limits.h"

#include <stdbool.h>
#include <string.h>

struct limits limits_default(void)
{
    return (struct limits){
#define X(name, value, meaning) .name = (value),
        LIMITS_TUNABLE(X)
#undef X
            .series_used_max = SEQUENCE_MAX / 2,
    };
}

bool limits_set(struct limits *limits, const char *name, uint64_t value)
{
#define X(field, default_value, meaning)                                                                               \
    if (strcmp(name, #field) == 0) {                                                                                   \
        limits->field = value;                                                                                         \
        return true;                                                                                                   \
    }
    LIMITS_TUNABLE(X)
#undef X
    return false;
}

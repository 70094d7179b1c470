/*
 * Owns the table from ordinals to spooled arguments. Must not know printing. Start at inputs_put.
 */
#include "client/cli/inputs.h"

void inputs_init(struct inputs *inputs)
{
    *inputs = (struct inputs){0};
    spool_init(&inputs->spool);
}

void inputs_fini(struct inputs *inputs)
{
    spool_fini(&inputs->spool);
    map_fini(&inputs->places);
}

bool inputs_put(struct inputs *inputs, uint64_t ordinal, struct bytes args)
{
    uint64_t place;
    if (args.n < INPUTS_SIZE_MIN) {
        return true;
    }
    if (!spool_put(&inputs->spool, ordinal, args, (struct bytes){0}, &place)) {
        return false;
    }
    map_put(&inputs->places, ordinal, (void *)(uintptr_t)(place + 1));
    return true;
}

struct bytes inputs_take(struct inputs *inputs, uint64_t ordinal)
{
    struct spool_record record;
    uintptr_t place = ordinal != 0 ? (uintptr_t)map_remove(&inputs->places, ordinal) : 0;
    if (place == 0 || !spool_read(&inputs->spool, place - 1, &record)) {
        return (struct bytes){0};
    }
    spool_forget(&inputs->spool, place - 1, record.first.n + record.second.n);
    return record.first;
}

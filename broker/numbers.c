/*
 * numbers.c: numbers of sessions and series, each given once in the life of a store. They are reserved in blocks that
 * the batch after a start writes together with what else a start says, so that making a volatile session writes nothing
 * and yet its numbers are never given again. Must not know what is numbered. Start reading at number_give.
 */
#include "broker/state.h"

#include "common/check.h"

static uint64_t block_end(uint64_t next, uint64_t max)
{
    return next + NUMBER_BLOCK_COUNT <= max + 1 ? next + NUMBER_BLOCK_COUNT : max + 1;
}

static void reserve(struct core *core)
{
    core->meta.session_next = block_end(core->session_numbers.next, INT64_MAX - 1);
    core->meta.series_next = block_end(core->series_numbers.next, SERIES_MAX);
    core->open.meta_changed = true;
    core->open.is_urgent = true;
    core->numbers_batch = core->open.number;
}

/* What the store says is free begins the first block; nothing of it is durable before the first commit. */
void numbers_begin(struct core *core)
{
    core->session_numbers = (struct numbers){.next = core->meta.session_next, .durable = core->meta.session_next};
    core->series_numbers = (struct numbers){.next = core->meta.series_next, .durable = core->meta.series_next};
    core->first_session = core->meta.session_next;
    reserve(core);
}

bool series_are_left(const struct core *core)
{
    return core->series_numbers.next <= SERIES_MAX;
}

/* The next block is reserved while half of this one is left: so who opens a session seldom waits for it. */
static uint64_t number_give(struct core *core, struct numbers *numbers, uint64_t reserved)
{
    uint64_t number = numbers->next++;
    if (numbers->next + NUMBER_BLOCK_COUNT / 2 > reserved) {
        reserve(core);
    }
    return number;
}

uint64_t session_number_give(struct core *core)
{
    return number_give(core, &core->session_numbers, core->meta.session_next);
}

uint64_t series_number_give(struct core *core)
{
    CHECK(series_are_left(core));
    return number_give(core, &core->series_numbers, core->meta.series_next);
}

bool numbers_are_durable(const struct core *core, uint64_t session, uint64_t series)
{
    return session < core->session_numbers.durable && series < core->series_numbers.durable;
}

void numbers_committed(struct core *core, uint64_t batch)
{
    if (batch >= core->numbers_batch) {
        core->session_numbers.durable = core->meta.session_next;
        core->series_numbers.durable = core->meta.series_next;
    }
}

/* Nobody is told of a further one: what is left of the blocks is free again. */
void core_give_back(struct core *core)
{
    core->meta.session_next = core->session_numbers.next;
    core->meta.series_next = core->series_numbers.next;
    core->open.meta_changed = true;
    core->open.is_urgent = true;
}

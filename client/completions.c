/*
 * completions: received, taken, told; and how many more outcomes the broker may send.
 * Knows nothing of futures, threads or time.
 * Start at completions_receive, then completions_write.
 */
#include "client/completions.h"
#include "common/check.h"

/* Credit is told when it has grown by this part of the window, so that not every taken outcome costs a message. */
#define CREDIT_STEP_DIVISOR 4u

void completions_init(struct completions *completions, uint64_t window_count, uint64_t window_bytes)
{
    *completions = (struct completions){.window_count = window_count, .window_bytes = window_bytes};
}

void completions_fini(struct completions *completions)
{
    ranges_fini(&completions->received);
    ranges_fini(&completions->taken);
    ranges_fini(&completions->fresh);
}

static uint64_t max_u64(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

static uint64_t step_of(uint64_t window)
{
    return max_u64(window / CREDIT_STEP_DIVISOR, 1);
}

/* Appends ranges from *index on, at most as many as one message may hold; those within the prefix say nothing new. */
static struct list ranges_list(const struct ranges *ranges, size_t *index, uint64_t prefix, struct buf *out)
{
    struct list list = {0};
    while (*index < ranges->count && list.count < TAKEN_RANGE_COUNT_MAX) {
        struct range range = ranges->at[(*index)++];
        if (range.last > prefix) {
            struct item_range item = {.first = range.first, .last = range.last};
            item_range_put(out, &item);
            list.count++;
        }
    }
    list.items = buf_bytes(out);
    return list;
}

static uint64_t numbers_in(const struct ranges *ranges)
{
    uint64_t count = 0;
    for (size_t i = 0; i < ranges->count; i++) {
        count += ranges->at[i].last - ranges->at[i].first + 1;
    }
    return count;
}

/* What is held now can be taken without memory: the application's call that takes it has no way to fail. */
static void takes_reserve(struct completions *completions)
{
    ranges_reserve(&completions->taken, completions->taken.count + completions->held_count);
    ranges_reserve(&completions->fresh, completions->fresh.count + completions->held_count);
}

/* HELLO names what was taken; what does not fit is told after WELCOME. */
static void taken_hello(struct completions *completions, struct msg_HELLO_CLIENT *hello, struct buf *ranges)
{
    uint64_t prefix = ranges_prefix(&completions->taken);
    size_t index = 0;
    hello->taken_prefix = prefix;
    hello->taken = ranges_list(&completions->taken, &index, prefix, ranges);
    ranges_clear(&completions->fresh);
    for (; index < completions->taken.count; index++) {
        ranges_add(&completions->fresh, completions->taken.at[index].first, completions->taken.at[index].last);
    }
    takes_reserve(completions);
}

void completions_hello(struct completions *completions, bool is_resume, struct msg_HELLO_CLIENT *hello,
                       struct buf *ranges)
{
    completions->held_at_hello = completions->held_count;
    if (is_resume) {
        taken_hello(completions, hello, ranges);
    } else {
        completions->held_at_hello += numbers_in(&completions->fresh);
    }
    completions->came_count = completions->came_bytes = 0;
    /* What we hold comes again and is dropped: it must fit into the first grant, or nothing new would ever come. */
    completions->grant_count = max_u64(completions->window_count, completions->held_count);
    completions->grant_bytes = max_u64(completions->window_bytes, completions->held_bytes);
    completions->owed_count = completions->grant_count - completions->window_count;
    completions->owed_bytes = completions->grant_bytes - completions->window_bytes;
    hello->credit_count = completions->told_count = completions->grant_count;
    hello->credit_bytes = completions->told_bytes = completions->grant_bytes;
}

void completions_welcome(struct completions *completions, const struct msg_WELCOME_CLIENT *welcome)
{
    if (welcome->acked_prefix > 0) {
        ranges_add(&completions->taken, 1, welcome->acked_prefix);
        ranges_add(&completions->received, 1, welcome->acked_prefix);
        takes_reserve(completions);
    }
    uint64_t due = welcome->live + welcome->untaken;
    completions->remaining = due > completions->held_at_hello ? due - completions->held_at_hello : 0;
}

void completions_lose(struct completions *completions)
{
    bool is_wanted = completions->is_wanted;
    uint64_t window_count = completions->window_count;
    uint64_t window_bytes = completions->window_bytes;
    completions_fini(completions);
    completions_init(completions, window_count, window_bytes);
    completions->is_wanted = is_wanted;
}

static void credit_return(struct completions *completions, uint64_t size)
{
    if (completions->owed_count > 0) {
        completions->owed_count--;
    } else {
        completions->grant_count++;
    }
    uint64_t paid = size < completions->owed_bytes ? size : completions->owed_bytes;
    completions->owed_bytes -= paid;
    completions->grant_bytes += size - paid;
}

bool completions_receive(struct completions *completions, uint64_t completion, uint64_t size)
{
    completions->came_count++;
    completions->came_bytes += size;
    if (ranges_has(&completions->received, completion)) {
        if (ranges_has(&completions->taken, completion)) {
            ranges_add(&completions->fresh, completion, completion);
            takes_reserve(completions);
            credit_return(completions, size);
        }
        return false;
    }
    ranges_add(&completions->received, completion, completion);
    completions->held_count++;
    completions->held_bytes += size;
    takes_reserve(completions);
    if (completions->remaining > 0) {
        completions->remaining--;
    }
    return true;
}

void completions_take(struct completions *completions, uint64_t completion, uint64_t size)
{
    CHECK(completions->held_count > 0 && completions->held_bytes >= size);
    completions->held_count--;
    completions->held_bytes -= size;
    ranges_add(&completions->taken, completion, completion);
    ranges_add(&completions->fresh, completion, completion);
    credit_return(completions, size);
}

bool completions_is_exhausted(const struct completions *completions)
{
    return completions->came_count >= completions->told_count || completions->came_bytes >= completions->told_bytes;
}

bool completions_is_urgent(const struct completions *completions)
{
    return completions->grant_count - completions->told_count >= step_of(completions->window_count) ||
           completions->grant_bytes - completions->told_bytes >= step_of(completions->window_bytes);
}

bool completions_has_news(const struct completions *completions)
{
    return completions->fresh.count > 0 || completions_is_urgent(completions) ||
           (completions->is_wanted && completions_is_exhausted(completions));
}

static void taken_write(struct completions *completions, struct buf *frame)
{
    struct buf items = {0};
    uint64_t prefix = ranges_prefix(&completions->taken);
    size_t index = 0;
    do {
        items.n = 0;
        struct msg_TAKEN taken = {.prefix = prefix};
        taken.ranges = ranges_list(&completions->fresh, &index, prefix, &items);
        msg_TAKEN_put(frame, &taken);
    } while (index < completions->fresh.count);
    buf_fini(&items);
    ranges_clear(&completions->fresh);
}

/* Somebody waits and the broker may send nothing more: what fills the window belongs to others (held futures). */
static void credit_stretch(struct completions *completions)
{
    if (completions->came_count >= completions->grant_count) {
        uint64_t more = completions->came_count - completions->grant_count + step_of(completions->window_count);
        completions->grant_count += more;
        completions->owed_count += more;
    }
    if (completions->came_bytes >= completions->grant_bytes) {
        uint64_t more = completions->came_bytes - completions->grant_bytes + step_of(completions->window_bytes);
        completions->grant_bytes += more;
        completions->owed_bytes += more;
    }
}

void completions_write(struct completions *completions, struct buf *frame)
{
    if (completions->fresh.count > 0) {
        taken_write(completions, frame);
    }
    bool is_stuck = completions->is_wanted && completions_is_exhausted(completions);
    if (is_stuck) {
        credit_stretch(completions);
        completions->is_wanted = false; /* once for each time it was said: what comes now may be what was waited for */
    }
    if (is_stuck || completions_is_urgent(completions)) {
        struct msg_CREDIT credit = {.count = completions->grant_count, .bytes = completions->grant_bytes};
        msg_CREDIT_put(frame, &credit);
        completions->told_count = completions->grant_count;
        completions->told_bytes = completions->grant_bytes;
    }
}

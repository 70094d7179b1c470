/*
 * map_numbers: maps over the numbers 0, 1, 2 ..., for tests. Include cmocka.h before it. Start at map_of.
 */
#ifndef QUERN_TESTS_MAP_NUMBERS_H
#define QUERN_TESTS_MAP_NUMBERS_H

#include "client_calls.h"
#include "common/codec.h"
#include "quern/value.h"

/* ---- numbers 0, 1, 2 ... as inputs ---- */

struct numbers {
    uint64_t next;
    uint64_t count;
    uint64_t given;     /* by the test's own count */
    uint64_t ahead_max; /* inputs read beyond what was given, at most */
    uint64_t pad;       /* bytes of each beside the number */
    enum quern_err end; /* QUERN_END, or an error */
    uint64_t nonsense;  /* this one is no array; UINT64_MAX none */
};

static inline struct numbers numbers_of(uint64_t count)
{
    return (struct numbers){.count = count, .end = QUERN_END, .nonsense = UINT64_MAX};
}

static inline enum quern_err number(void *context, struct quern_writer *args)
{
    static const char padding[100000];
    struct numbers *numbers = context;
    if (numbers->next == numbers->count) {
        return numbers->end;
    }
    if (numbers->next == numbers->nonsense) {
        quern_write_u64(args, 7);
        numbers->next++;
        return QUERN_OK;
    }
    quern_write_array(args, 2);
    quern_write_u64(args, numbers->next++);
    quern_write_bin(args, padding, numbers->pad);
    uint64_t ahead = numbers->next - numbers->given;
    numbers->ahead_max = ahead > numbers->ahead_max ? ahead : numbers->ahead_max;
    return QUERN_OK;
}

static inline struct quern_map_options options_of(enum quern_order order)
{
    struct quern_map_options options = QUERN_MAP_OPTIONS_INIT;
    options.call.function = "square";
    options.order = order;
    return options;
}

static inline struct quern_map *map_of(struct quern_client *client, struct quern_map_options options,
                                       struct numbers *numbers)
{
    struct quern_map *map = NULL;
    enum quern_err err = quern_map_open(client, &options, number, numbers, &map);
    if (err != QUERN_OK) {
        print_error("%s\n", quern_last_error());
    }
    assert_int_equal(err, QUERN_OK);
    return map;
}

/* The first of the two arguments, which came back as the result. */
static inline uint64_t number_of(const struct quern_outcome *outcome)
{
    struct quern_reader reader;
    size_t count;
    uint64_t value = UINT64_MAX;
    quern_reader_init(&reader, outcome->result, outcome->result_size);
    assert_int_equal(quern_read_array(&reader, &count), QUERN_OK);
    assert_int_equal(quern_read_u64(&reader, &value), QUERN_OK);
    return value;
}

/* Takes one item and checks that its result is that of its input. Returns its index. */
static inline uint64_t item_take(struct quern_map *map, struct numbers *numbers)
{
    struct quern_map_item item;
    enum quern_err err = quern_map_next(map, WAIT_MS, &item);
    if (err != QUERN_OK) {
        print_error("%s\n", quern_last_error());
    }
    assert_int_equal(err, QUERN_OK);
    assert_int_equal(number_of(item.outcome), item.index);
    numbers->given++;
    quern_outcome_release(&item.outcome);
    return item.index;
}

static inline enum quern_err next_of(struct quern_map *map, int timeout_ms)
{
    struct quern_map_item item = {0};
    enum quern_err err = quern_map_next(map, timeout_ms, &item);
    quern_outcome_release(&item.outcome);
    return err;
}

/* Waits until the fake has this many submits. */
static inline void submits_await(struct fake *fake, uint64_t count)
{
    fake_lock(fake);
    fake_await(fake, fake->submit_count >= count);
    assert_int_equal(fake->submit_count, count);
    fake_unlock(fake);
}

static inline void complete(struct fake *fake, uint32_t sequence)
{
    fake_lock(fake);
    fake_complete(fake, sequence);
    fake_unlock(fake);
}

/* Tasks end only as the test says; or as a cancel does, if that is obeyed. */
static inline void by_hand(struct fake *fake, bool obeys_cancel)
{
    fake_lock(fake);
    fake->is_by_hand = true;
    fake->obeys_cancel = obeys_cancel;
    fake_unlock(fake);
}

static inline void refuse(struct fake *fake, enum quern_err code, unsigned count)
{
    fake_lock(fake);
    fake->refuse = code;
    fake->refuse_count = count;
    fake_unlock(fake);
}

#endif

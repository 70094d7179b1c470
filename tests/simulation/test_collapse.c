/*
 * test_collapse: how often batches are sealed must not show on disk. A random world writes down every event its core
 * was given; the same events are then given to fresh cores that seal after every step, or rarely, and all disks must be
 * equal. (A world of its own for each would not do: when an answer leaves changes what peers do next.)
 * Start reading at replay.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "chaos.h"
#include "common/check.h"
#include "oracle.h"

#include <stdlib.h>
#include <string.h>

#define SEED_COUNT 150u
#define STEP_COUNT 2500u

struct recorded {
    struct event event;
    struct buf frame;
};

struct tape {
    struct recorded *items;
    size_t count;
    size_t cap;
};

/* Commits are each run's own, and loads and statistics come from its disk. */
static void record(void *context, const struct event *event)
{
    struct tape *tape = context;
    if (event->kind == EVENT_COMMITTED || event->kind == EVENT_LOADED || event->kind == EVENT_STATS) {
        return;
    }
    if (tape->count == tape->cap) {
        tape->cap = tape->cap ? tape->cap * 2 : 256;
        tape->items = xrealloc(tape->items, tape->cap * sizeof *tape->items);
    }
    struct recorded *item = &tape->items[tape->count++];
    *item = (struct recorded){.event = *event};
    buf_put(&item->frame, event->frame.p, event->frame.n);
}

static void tape_fini(struct tape *tape)
{
    for (size_t i = 0; i < tape->count; i++) {
        buf_fini(&tape->items[i].frame);
    }
    free(tape->items);
}

static void record_world(uint64_t seed, struct tape *tape, struct limits *limits)
{
    struct world *world = world_new(seed);
    world->observe = record;
    world->observe_context = tape;
    struct chaos *chaos = chaos_new_tame(world);
    for (unsigned i = 0; i < STEP_COUNT; i++) {
        chaos_step(chaos);
    }
    *limits = world->limits;
    /* Credit comes with commits: a client that was given it in time would look to a replay as if it paid no heed to it.
     */
    limits->client_window_count = UINT32_MAX;
    limits->client_window_bytes = UINT32_MAX;
    limits->batch_bytes_max = UINT32_MAX; /* nor do dispatches wait for a disk that is behind */
    limits->batch_row_count_max = UINT32_MAX;
    limits->batch_submit_count_max = UINT32_MAX; /* nor submits for the next batch */
    limits->batch_submit_bytes_max = UINT32_MAX;
    limits->ready_turn_count = UINT32_MAX; /* nor does what comes next wait for a load */
    limits->ready_bytes_max = UINT32_MAX;
    chaos_free(&chaos);
    world_free(&world);
}

struct replay {
    struct memstore *disk;
    struct core *core;
    struct update update;
    const struct event *clock; /* the last event */
    uint64_t batches;
    uint64_t rows;
};

static void seal_and_commit(struct replay *replay)
{
    struct batch *batch = core_seal(replay->core);
    const char *why = memstore_apply(replay->disk, batch->changes, batch->count, false);
    assert_null(why);
    replay->batches += batch->count > 0;
    replay->rows += batch->count;
    struct event event = *replay->clock;
    event.kind = EVENT_COMMITTED;
    event.batch = batch->number;
    core_step(replay->core, &event, &replay->update);
    batch_free(replay->core, &batch);
    update_clear(&replay->update);
}

/* A worker that is not welcome is given nothing, so what is dispatched when depends on the commit of WELCOME. */
static bool frame_is_hello(struct bytes bytes)
{
    uint32_t generation;
    struct cursor cursor;
    struct message message;
    uint64_t unknown;
    const char *why;
    return frame_open(bytes, &generation, &cursor) == QUERN_OK &&
           message_next(&cursor, &message, &unknown, &why) == QUERN_OK && message.kind == MSG_HELLO_WORKER;
}

/* every: seal after so many steps; 0: only when a worker says HELLO, and at the end. */
static void replay_tape(const struct tape *tape, const struct limits *limits, unsigned every, struct buf *dump,
                        uint64_t *rows_out)
{
    struct replay replay = {.disk = memstore_open(1)};
    struct store_facts facts;
    struct store_visitor visitor;
    memstore_start(replay.disk, &facts);
    replay.core = core_open(limits, &facts);
    core_visitor(replay.core, &visitor);
    core_begin(replay.core, tape->items[0].event.mono_ms, tape->items[0].event.wall_ms);
    update_init(&replay.update);
    for (size_t i = 0; i < tape->count; i++) {
        struct event event = tape->items[i].event;
        event.frame = buf_bytes(&tape->items[i].frame);
        replay.clock = &event;
        core_step(replay.core, &event, &replay.update);
        update_clear(&replay.update);
        if ((event.kind == EVENT_FRAME && frame_is_hello(event.frame)) || (every != 0 && i % every == 0) ||
            i + 1 == tape->count) {
            seal_and_commit(&replay);
        }
    }
    replay.clock = &tape->items[tape->count - 1].event;
    seal_and_commit(&replay);
    core_check(replay.core);
    memstore_dump(replay.disk, dump);
    *rows_out = replay.rows;
    update_fini(&replay.update);
    core_close(&replay.core);
    memstore_close(&replay.disk);
}

static void show_difference(const struct buf *a, const struct buf *b, uint64_t seed)
{
    size_t at = 0;
    while (at < a->n && at < b->n && a->p[at] == b->p[at]) {
        at++;
    }
    while (at > 0 && a->p[at - 1] != '\n') {
        at--;
    }
    print_error("seed %llu:\n  %.300s\n  %.300s\n", (unsigned long long)seed, (const char *)a->p + at,
                (const char *)b->p + at);
}

/* Whatever was collapsed on the way, the tables at the end are the same. */
static void test_batches_sealed_often_or_rarely_leave_the_same_tables(void **state)
{
    (void)state;
    uint64_t rows[4] = {0};
    uint64_t with_outcomes = 0;
    const unsigned every[4] = {1, 3, 17, 0};
    for (uint64_t seed = 1; seed <= SEED_COUNT; seed++) {
        struct tape tape = {0};
        struct limits limits;
        struct buf dumps[4] = {{0}};
        record_world(seed, &tape, &limits);
        for (size_t i = 0; i < 4; i++) {
            uint64_t count;
            replay_tape(&tape, &limits, every[i], &dumps[i], &count);
            buf_put_u8(&dumps[i], 0);
            rows[i] += count;
            if (dumps[i].n != dumps[0].n || memcmp(dumps[i].p, dumps[0].p, dumps[0].n) != 0) {
                show_difference(&dumps[0], &dumps[i], seed);
                fail_msg("sealing every %u steps leaves other tables than sealing after each", every[i]);
            }
        }
        with_outcomes += strstr((const char *)dumps[0].p, "\noutcome ") != NULL;
        for (size_t i = 0; i < 4; i++) {
            buf_fini(&dumps[i]);
        }
        tape_fini(&tape);
    }
    /* Something must really have happened, and rare sealing must have collapsed some of it. */
    assert_true(with_outcomes > SEED_COUNT / 2);
    assert_true(rows[3] < rows[0]);
}

/* A seed is a whole world: whoever reports one has reported every step of it. */
static void test_a_seed_replays_the_same_world(void **state)
{
    (void)state;
    struct tape tapes[2] = {{0}};
    struct limits limits;
    for (size_t i = 0; i < 2; i++) {
        record_world(7, &tapes[i], &limits);
    }
    assert_int_equal(tapes[0].count, tapes[1].count);
    for (size_t i = 0; i < tapes[0].count; i++) {
        const struct recorded *a = &tapes[0].items[i];
        const struct recorded *b = &tapes[1].items[i];
        assert_int_equal(a->event.kind, b->event.kind);
        assert_int_equal(a->event.mono_ms, b->event.mono_ms);
        assert_int_equal(a->frame.n, b->frame.n);
        if (a->frame.n > 0) {
            assert_memory_equal(a->frame.p, b->frame.p, a->frame.n);
        }
    }
    tape_fini(&tapes[0]);
    tape_fini(&tapes[1]);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_batches_sealed_often_or_rarely_leave_the_same_tables),
        cmocka_unit_test(test_a_seed_replays_the_same_world),
    };
    if (argc > 1) {
        cmocka_set_test_filter(argv[1]);
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}

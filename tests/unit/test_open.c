/*
 * What is open in a session, page by page, while tasks move between disk and memory.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "broker/answers.h"
#include "broker/state.h"

#include <stdlib.h>

#define SERIES 7u
#define PARKED_COUNT (QUERY_OPEN_COUNT_MAX + 20)

struct bench {
    struct core *core;
    struct update update;
    struct session *session;
    struct call *call;
    struct conn *conn;
    uint8_t *told; /* by sequence */
    uint64_t after;
};

static void open_with(struct bench *bench, uint64_t parked_count)
{
    struct limits limits = limits_default();
    struct store_facts facts = {
        .epoch = 1, .was_clean = true, .meta = {.series_next = 9, .session_next = 1, .worker_next = 1, .call_next = 1}};
    struct task_options option = task_options_default();
    limits.ready_turn_count = 1;
    *bench = (struct bench){.core = core_open(&limits, &facts)};
    core_begin(bench->core, 1000, 1000);
    update_init(&bench->update);
    bench->session = session_new(bench->core, bytes_of(NULL, 0), false);
    bench->call =
        call_intern(bench->core, bytes_text("default"), bytes_text("work"), bytes_of(NULL, 0), &option, false);
    bench->told = xcalloc(parked_count + 100, 1);
    bench->conn = conn_open(bench->core, 5);
    bench->conn->role = ROLE_CLIENT;
    bench->conn->generation = 1;
    bench->conn->session = bench->session;
}

static struct task *put(struct bench *bench, uint32_t sequence)
{
    bench->call->refs++;
    struct task *task = task_new(bench->core, id_make(SERIES, sequence), bench->session, bench->call, bytes_text("x"));
    task_move(bench->core, task, TASK_READY);
    lane_push(bench->core, task);
    batch_task(bench->core, task, false);
    return task;
}

static void restore(struct bench *bench, uint32_t from, uint32_t to)
{
    for (uint32_t sequence = from; sequence <= to; sequence++) {
        assert_true(parked_restore(bench->core, id_make(SERIES, sequence), bench->session->id, bench->call->id, 1));
    }
}

static void close_all(struct bench *bench)
{
    core_check(bench->core);
    bench->conn->session = NULL;
    call_release(bench->core, bench->call);
    core_close(&bench->core);
    update_fini(&bench->update);
    free(bench->told);
}

static void told(struct bench *bench, struct bytes body)
{
    struct cursor cursor = cursor_of(body);
    struct value value;
    struct value next;
    assert_true(cursor_next(&cursor, &value) && value.type == VALUE_MAP);
    assert_true(cursor_next(&cursor, &value) && bytes_is(value.bytes, "tasks"));
    assert_true(cursor_next(&cursor, &value) && value.type == VALUE_ARRAY);
    for (uint32_t left = value.count; left > 0; left -= 2) {
        struct value first;
        assert_true(cursor_next(&cursor, &first) && cursor_next(&cursor, &next));
        for (uint64_t id = first.u; id < first.u + next.u; id++) {
            bench->told[id_sequence(id)]++;
        }
    }
    assert_true(cursor_next(&cursor, &value) && bytes_is(value.bytes, "outcomes"));
    assert_true(cursor_next(&cursor, &value) && value.count == 0);
    assert_true(cursor_next(&cursor, &value) && bytes_is(value.bytes, "after"));
    assert_true(cursor_next(&cursor, &value));
    bench->after = value.u;
}

/* The next page; what it gates is on disk afterwards. */
static void page(struct bench *bench)
{
    const struct open_query query = {.after = bench->after};
    uint32_t generation;
    struct cursor cursor;
    struct message message;
    uint64_t unknown;
    const char *why;
    bench->core->update = &bench->update;
    query_open(bench->core, bench->conn, 1, &query);
    bench->core->update = NULL;
    struct batch *batch = core_seal(bench->core);
    assert_int_equal(batch->gated.count, 1);
    assert_int_equal(frame_open(buf_bytes(&batch->gated.frames[0].frame), &generation, &cursor), QUERN_OK);
    assert_int_equal(message_next(&cursor, &message, &unknown, &why), QUERN_OK);
    assert_int_equal(message.kind, MSG_REPLY);
    told(bench, message.REPLY.body);
    struct event event = {.kind = EVENT_COMMITTED, .mono_ms = 1000, .wall_ms = 1000, .batch = batch->number};
    core_step(bench->core, &event, &bench->update);
    batch_free(bench->core, &batch);
    core_check(bench->core);
}

/* A client that goes on after a crash makes a future of each, and of no other. */
static void test_parked_tasks_are_told_page_by_page_though_some_come_back_meanwhile(void **state)
{
    (void)state;
    struct bench bench;
    open_with(&bench, PARKED_COUNT);
    put(&bench, 1);
    restore(&bench, 2, PARKED_COUNT);
    page(&bench);
    assert_true(bench.after != 0);
    const struct task_row row = {.id = id_make(SERIES, PARKED_COUNT - 1),
                                 .session = bench.session->id,
                                 .call = bench.call->id,
                                 .state = TASK_READY,
                                 .args = bytes_text("x")};
    bench.core->update = &bench.update;
    assert_non_null(task_unpark(bench.core, &row));
    bench.core->update = NULL;
    page(&bench);
    assert_int_equal(bench.after, 0);
    for (uint32_t sequence = 1; sequence <= PARKED_COUNT; sequence++) {
        assert_int_equal(bench.told[sequence], 1);
    }
    close_all(&bench);
}

/* It was in memory when the first page was told: parked now, it would be in neither part. */
static void test_what_is_in_memory_at_the_first_page_is_not_parked_before_the_last(void **state)
{
    (void)state;
    struct bench bench;
    open_with(&bench, PARKED_COUNT);
    put(&bench, 1);
    restore(&bench, 2, PARKED_COUNT);
    put(&bench, PARKED_COUNT + 1);
    page(&bench);
    assert_true(bench.after != 0);
    assert_non_null(task_find(bench.core, id_make(SERIES, PARKED_COUNT + 1)));
    page(&bench);
    assert_int_equal(bench.after, 0);
    assert_int_equal(bench.told[PARKED_COUNT + 1], 1);
    close_all(&bench);
}

/* An answer of a former broker, or nonsense: from the first on. */
static void test_a_page_that_nobody_began_is_the_first(void **state)
{
    (void)state;
    const uint64_t afters[] = {1, id_make(SERIES, 3), UINT64_MAX, UINT64_MAX / 2, (uint64_t)1 << 63};
    for (size_t i = 0; i < sizeof afters / sizeof afters[0]; i++) {
        struct bench bench;
        open_with(&bench, 10);
        put(&bench, 1);
        restore(&bench, 2, 10);
        bench.after = afters[i];
        page(&bench);
        assert_int_equal(bench.after, 0);
        for (uint32_t sequence = 1; sequence <= 10; sequence++) {
            assert_int_equal(bench.told[sequence], 1);
        }
        bench.after = UINT64_MAX; /* and nonsense from one who has begun */
        page(&bench);
        assert_int_equal(bench.after, 0);
        close_all(&bench);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parked_tasks_are_told_page_by_page_though_some_come_back_meanwhile),
        cmocka_unit_test(test_what_is_in_memory_at_the_first_page_is_not_parked_before_the_last),
        cmocka_unit_test(test_a_page_that_nobody_began_is_the_first),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/*
 * test_slot: the supervisor's view of a slot, with a status page and no process behind it: what a death settles.
 * Whatever a handler may write there: fuzz/fuzz_slot.c. Start at bench_begin.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/check.h"
#include "worker/slot.h"
#include "worker/slotwire.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct bench {
    struct ledger ledger;
    struct pace pace;
    struct slot slot;
    struct slot_yard yard;
    struct statuspage *page; /* as the slot sees it */
};

static struct bench *bench_begin(void)
{
    struct bench *bench = calloc(1, sizeof *bench);
    int fd = statuspage_create();
    int fds[ZYGOTE_FD_COUNT] = {-1, fd, -1, -1, -1};
    CHECK(bench != NULL && fd >= 0);
    bench->page = statuspage_map(fd);
    CHECK(bench->page != NULL && slot_open(&bench->slot, 2, fds, 0) == 0);
    close(fd);
    bench->slot.is_ready = true;
    bench->slot.fd = dup(STDOUT_FILENO); /* for slot_has_room only: nothing is sent */
    ledger_init(&bench->ledger);
    pace_init(&bench->pace, 2);
    bench->yard =
        (struct slot_yard){.ledger = &bench->ledger, .pace = &bench->pace, .host = "host", .proc = "/nowhere"};
    return bench;
}

static void bench_end(struct bench **bench)
{
    ledger_check(&(*bench)->ledger);
    statuspage_unmap(&(*bench)->page);
    pace_fini(&(*bench)->pace);
    ledger_fini(&(*bench)->ledger);
    free(*bench);
    *bench = NULL;
}

static struct attempt *handed(struct bench *bench, uint64_t task)
{
    struct msg_DISPATCH call = {.function = bytes_text("f")};
    struct item_dispatch item = {.task = task, .attempt = 1, .args = bytes_text("\x90")};
    struct attempt *attempt = ledger_dispatch(&bench->ledger, 0, &call, &item);
    assert_non_null(attempt);
    assert_true(slot_has_room(&bench->slot));
    slot_hand(&bench->slot, &bench->yard, attempt, 1000);
    return attempt;
}

/* The slot starts it. */
static void starts(struct bench *bench, const struct attempt *attempt)
{
    assert_true(claim_start(bench->page, attempt->number));
    statuspage_run(bench->page, attempt->number, 900000, 1000);
}

/* And puts its result into the ring: nothing (msgpack nil). */
static void finishes(struct bench *bench, const struct attempt *attempt)
{
    struct slot_result result = {.number = attempt->number, .run_us = 5, .result_size = 1};
    assert_true(ring_put(bench->page, bytes_of(&result, sizeof result)));
    assert_true(ring_put(bench->page, bytes_text("\xc0")));
}

/* It says that a task is done and dies before the supervisor looks: it died of nothing that this task did, and the next
 * one, which had not started, costs nobody anything. Without: a task that is done fails as crashed, or runs twice. */
static void test_what_a_dead_slot_had_finished_is_done(void **state)
{
    (void)state;
    struct bench *bench = bench_begin();
    const struct attempt *done = handed(bench, 1);
    const struct attempt *unstarted = handed(bench, 2);
    starts(bench, done);
    finishes(bench, done);
    slot_bury(&bench->slot, &bench->yard, 9, 100, 100, 1000000);
    assert_int_equal(done->state, ATTEMPT_FINISHED);
    assert_null(done->whole); /* done */
    assert_int_equal(unstarted->state, ATTEMPT_WAITING);
    bench_end(&bench);
}

/* One that it had started and not finished is what it died of; the one before is done all the same. */
static void test_a_death_costs_the_one_that_runs(void **state)
{
    (void)state;
    struct bench *bench = bench_begin();
    const struct attempt *done = handed(bench, 1);
    const struct attempt *running = handed(bench, 2);
    const struct attempt *unstarted = handed(bench, 3);
    starts(bench, done);
    finishes(bench, done);
    starts(bench, running);
    slot_bury(&bench->slot, &bench->yard, 9, 100, 100, 1000000);
    assert_null(done->whole); /* done */
    assert_int_equal(running->state, ATTEMPT_FINISHED);
    assert_int_equal(running->whole->cause, CAUSE_CRASHED);
    assert_int_equal(unstarted->state, ATTEMPT_WAITING);
    bench_end(&bench);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_a_dead_slot_had_finished_is_done),
        cmocka_unit_test(test_a_death_costs_the_one_that_runs),
    };
    if (argc > 1) {
        cmocka_set_test_filter(argv[1]);
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/*
 * Memory of a client that runs for very long: what was taken and released is gone. Measured is the heap in use, to the
 * byte, at moments when nothing is under way; the fake broker frees what is acknowledged.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <malloc.h>

#include "client/inside.h"
#include "client_calls.h"
#include "support/valgrind.h"

enum { WARM_UP_COUNT = 5000, MANY_COUNT = 80000, UNDER_WAY_COUNT = 500 };
/* Buffers that are as large as the last frame was, and what glibc keeps for each thread: less than a range, the
 * smallest thing there is, for each task. */
#define NOISE_SIZE_MAX (1u * MIB)
#define NO_FIGURES "valgrind's malloc tells no figures"

/* What a sanitizer's own malloc has given out. */
extern size_t __sanitizer_get_current_allocated_bytes(void) __attribute__((weak));

/* A bounded number of blocks is kept for the next: as many as were under way at once, by chance. */
static size_t spares_size(const struct spares *spares)
{
    return spares->first == NULL ? 0 : spares->count * (malloc_usable_size(spares->first) + sizeof(size_t));
}

static size_t heap_of_process(void)
{
    if (__sanitizer_get_current_allocated_bytes != NULL) {
        return __sanitizer_get_current_allocated_bytes();
    }
    struct mallinfo2 info = mallinfo2();
    return info.uordblks + info.hblkhd;
}

static size_t heap_used(struct quern_client *client)
{
    pthread_mutex_lock(&client->lock);
    size_t kept = spares_size(&client->delivery_spares) + spares_size(&client->ledger.submits.spares);
    size_t used = heap_of_process() - kept;
    pthread_mutex_unlock(&client->lock);
    return used;
}

/* When the broker has read all that was taken. */
static size_t heap_at_rest(struct quern_client *client, struct fake *fake)
{
    pthread_mutex_lock(&client->lock);
    client_ledger_barrier(&client->ledger);
    (void)io_poke(client);
    io_wake(client);
    pthread_mutex_unlock(&client->lock);
    fake_lock(fake);
    fake_await(fake, fake->acked_count == fake->completion_last && fake->live == 0);
    fake_unlock(fake);
    /* The round trip of a request: the client's thread has let go of its last frame. */
    void *answer = NULL;
    size_t size = 0;
    assert_int_equal(quern_query(client, "status", NULL, 0, WAIT_MS, &answer, &size), QUERN_OK);
    free(answer);
    return heap_used(client);
}

static void assert_no_more(size_t before, size_t after)
{
    if (after > before + NOISE_SIZE_MAX) {
        print_error("%zu bytes before, %zu after\n", before, after);
    }
    assert_true(after <= before + NOISE_SIZE_MAX);
}

/* ---- a set that is added to while it is iterated ---- */

static void take_one(struct quern_set *set)
{
    struct quern_future *future = NULL;
    struct quern_outcome *outcome = NULL;
    assert_int_equal(quern_set_next(set, WAIT_MS, &future), QUERN_OK);
    assert_int_equal(quern_future_result(future, 0, &outcome), QUERN_OK);
    quern_outcome_release(&outcome);
    quern_future_release(&future);
}

static void iterate(struct quern_client *client, struct quern_set *set, unsigned count)
{
    for (unsigned i = 0; i < count + UNDER_WAY_COUNT; i++) {
        if (i < count) {
            assert_int_equal(quern_set_add(set, submit(client)), QUERN_OK);
        }
        if (i >= UNDER_WAY_COUNT) {
            take_one(set);
        }
    }
}

static void test_a_set_keeps_nothing_of_what_was_taken(void **state)
{
    SKIP_UNDER_VALGRIND(NO_FIGURES);
    struct quern_set *set = NULL;
    struct quern_client *client = open_default(*state);
    assert_int_equal(quern_as_completed(NULL, 0, QUERN_FOREVER, &set), QUERN_OK);
    iterate(client, set, WARM_UP_COUNT);
    size_t before = heap_at_rest(client, *state);
    iterate(client, set, MANY_COUNT);
    assert_no_more(before, heap_at_rest(client, *state));
    quern_set_close(&set);
    assert_int_equal(quern_client_close(&client, 0), QUERN_OK);
}

/* ---- a set of many that are all done ---- */

static void submit_all(struct quern_client *client, struct quern_future *futures[], unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        futures[i] = submit(client);
    }
    assert_int_equal(quern_wait(futures, count, QUERN_ALL_COMPLETED, WAIT_MS, NULL, NULL), QUERN_OK);
}

/* Its memory is that of those that were not taken yet. */
static void test_a_set_shrinks_as_it_is_taken_from(void **state)
{
    SKIP_UNDER_VALGRIND(NO_FIGURES);
    static struct quern_future *futures[MANY_COUNT];
    struct quern_set *set = NULL;
    struct quern_client *client = open_default(*state);
    size_t used[3] = {0};
    submit_all(client, futures, MANY_COUNT); /* what grows once for so many stays */
    release_all(futures, MANY_COUNT);
    for (unsigned i = 0; i < MANY_COUNT; i++) {
        (void)take(client);
    }
    size_t before = heap_at_rest(client, *state);
    submit_all(client, futures, MANY_COUNT);
    assert_int_equal(quern_as_completed(futures, MANY_COUNT, QUERN_FOREVER, &set), QUERN_OK);
    used[0] = heap_used(client) - before;
    for (unsigned part = 1; part < 3; part++) {
        for (unsigned i = 0; i < MANY_COUNT / 2; i++) {
            take_one(set);
        }
        used[part] = part == 2 ? heap_at_rest(client, *state) - before : heap_used(client) - before;
    }
    assert_true(used[0] > MANY_COUNT * (sizeof(struct quern_future) + sizeof(struct tie)));
    assert_true(used[1] < used[0] / 100 * 60);
    assert_no_more(0, used[2]);
    quern_set_close(&set);
    assert_int_equal(quern_client_close(&client, 0), QUERN_OK);
}

/* ---- a whole session ---- */

static void test_a_session_keeps_nothing_of_what_was_taken(void **state)
{
    SKIP_UNDER_VALGRIND(NO_FIGURES);
    struct quern_client *client = open_default(*state);
    size_t before = 0;
    for (unsigned i = 0; i < WARM_UP_COUNT + MANY_COUNT; i += UNDER_WAY_COUNT) {
        before = i == WARM_UP_COUNT ? heap_at_rest(client, *state) : before;
        submit_plain(client, UNDER_WAY_COUNT);
        for (unsigned k = 0; k < UNDER_WAY_COUNT; k++) {
            (void)take(client);
        }
    }
    assert_no_more(before, heap_at_rest(client, *state));
    assert_int_equal(quern_client_close(&client, 0), QUERN_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_FAKE(test_a_set_keeps_nothing_of_what_was_taken),
        WITH_FAKE(test_a_set_shrinks_as_it_is_taken_from),
        WITH_FAKE(test_a_session_keeps_nothing_of_what_was_taken),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/*
 * Memory that is used up: every public call that needs some (those that need none: test_client_frugal.c) is asked with
 * the first, the second, the third ... request for memory failing, alone and with all behind it, until it succeeds.
 * Each time it must answer QUERN_NO_MEMORY, change nothing, lose nothing (ASan looks), and the client must go on.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "client/inside.h"
#include "client_calls.h"
#include "quern/pool.h"
#include "shortage.h"
#include "worker/task.h"

#define LOST_COUNT 4u

/* What a call works on, and what it gave. */
struct stage {
    struct fake *fake;
    struct quern_client *client;
    struct quern_future *future;
    struct quern_group *group;
    struct quern_set *set;
    struct quern_map *map;
    struct quern_pool *pool;
    unsigned count;
    uint64_t index;                         /* of the next item */
    struct quern_outcome *lost[LOST_COUNT]; /* kept: memory that was given back is used again */
};

typedef enum quern_err trial(struct stage *stage);

/* Tries until there is memory enough; what the call says then. */
static enum quern_err try_with_less(struct stage *stage, trial *call, bool is_lasting, unsigned *needed_out)
{
    for (unsigned at = 0;; at++) {
        shortage_begin(at, is_lasting);
        enum quern_err err = call(stage);
        unsigned failed = shortage_end();
        if (failed == 0) {
            *needed_out = at;
            return err;
        }
        if (err != QUERN_NO_MEMORY) {
            print_error("request %u for memory failed: %s (%s)\n", at, quern_err_word(err), quern_last_error());
        }
        assert_int_equal(err, QUERN_NO_MEMORY);
        assert_non_null(strstr(quern_last_error(), "memory"));
        assert_true(at < 1000);
    }
}

/* It needs memory, and says so each time. undo: after a success (may be NULL). */
static void starve(struct stage *stage, trial *call, void (*undo)(struct stage *stage))
{
    for (unsigned round = 0; round < 2; round++) {
        unsigned needed = 0;
        enum quern_err err = try_with_less(stage, call, round == 0, &needed);
        if (err != QUERN_OK) {
            print_error("with memory enough: %s\n", quern_last_error());
        }
        assert_int_equal(err, QUERN_OK);
        assert_true(needed > 0); /* else nothing was tried */
        if (undo != NULL) {
            undo(stage);
        }
    }
}

static struct stage stage_open(struct fake *fake)
{
    return (struct stage){.fake = fake, .client = open_default(fake)};
}

static struct stage stage_by_hand(struct fake *fake)
{
    fake_lock(fake);
    fake->is_by_hand = true;
    fake_unlock(fake);
    return stage_open(fake);
}

static void stage_close(struct stage *stage)
{
    assert_int_equal(quern_client_close(&stage->client, 0), QUERN_OK);
}

/* A test that failed may have left its shortage behind. */
static int setup_fed(void **state)
{
    (void)shortage_end();
    return setup_started(state);
}

#define WITH_MEMORY(test) cmocka_unit_test_setup_teardown(test, setup_fed, teardown)

static void release(struct stage *stage)
{
    quern_future_release(&stage->future);
}

/* ---- opening and closing ---- */

static enum quern_err call_open(struct stage *stage)
{
    struct quern_client_options options = QUERN_CLIENT_OPTIONS_INIT;
    options.url = stage->fake->url;
    options.session = "nightly";
    options.description = "what it is for";
    options.description_size = 14;
    options.connect_timeout_ms = WAIT_MS;
    return quern_client_open(&options, &stage->client);
}

static void test_opening_a_client(void **state)
{
    struct stage stage = {.fake = *state};
    starve(&stage, call_open, stage_close);
}

static enum quern_err call_open_default(struct stage *stage)
{
    struct quern_client_options options = QUERN_CLIENT_OPTIONS_INIT;
    options.connect_timeout_ms = 0;
    enum quern_err err = quern_client_open(&options, &stage->client);
    return err == QUERN_NO_BROKER ? QUERN_OK : err;
}

static void test_opening_a_client_at_the_default_socket(void **state)
{
    struct stage stage = {.fake = *state};
    assert_int_equal(setenv("XDG_RUNTIME_DIR", stage.fake->directory, 1), 0);
    assert_int_equal(unsetenv("QUERN_URL"), 0);
    starve(&stage, call_open_default, NULL);
}

/* It leaves all the same; only the session could not be told. */
static void test_closing_goes_through(void **state)
{
    struct fake *fake = *state;
    struct quern_client *client = open_default(fake);
    struct quern_future *future = submit(client);
    await_done(future);
    enum quern_err err = QUERN_OK;
    shortage_begin(0, true);
    assert_int_equal(quern_client_close(&client, QUERN_CLOSE_SESSION), QUERN_NO_MEMORY);
    (void)shortage_end();
    assert_null(client);
    quern_future_release(&future);
    client = open_default(fake);
    submit_plain(client, 2);
    WITHOUT_MEMORY(err = quern_client_close(&client, 0));
    assert_int_equal(err, QUERN_OK);
}

/* ---- submitting ---- */

static enum quern_err call_submit_as(struct stage *stage, struct quern_future **future_out)
{
    char function[32];
    struct quern_call call = call_of("\x91\x07");
    (void)snprintf(function, sizeof(function), "square%u", stage->count);
    call.function = function;
    return quern_submit(stage->client, &call, future_out, NULL);
}

static enum quern_err call_submit_plain(struct stage *stage)
{
    return call_submit_as(stage, NULL);
}

static enum quern_err call_submit_future(struct stage *stage)
{
    return call_submit_as(stage, &stage->future);
}

/* More than all tables begin with, so that each has to grow. */
#define SUBMIT_COUNT 100u

static void test_submitting(void **state)
{
    struct fake *fake = *state;
    struct stage stage = stage_by_hand(fake);
    struct quern_future *futures[SUBMIT_COUNT * 2];
    fake_lock(fake);
    fake->holds_answers = true;
    fake_unlock(fake);
    for (unsigned i = 0; i < SUBMIT_COUNT * 2; i++) {
        unsigned needed = 0;
        stage.count = i;
        trial *call = i % 2 == 0 ? call_submit_plain : call_submit_future;
        assert_int_equal(try_with_less(&stage, call, i % 4 < 2, &needed), QUERN_OK);
        assert_true(needed >= (i % 2 == 0 ? 2u : 3u));
        futures[i] = stage.future;
        stage.future = NULL;
    }
    fake_lock(fake);
    fake->holds_answers = false;
    fake_unlock(fake);
    assert_int_equal(quern_flush(stage.client, WAIT_MS), QUERN_OK);
    fake_lock(fake);
    assert_int_equal(fake->submit_count, SUBMIT_COUNT * 2);
    fake_unlock(fake);
    release_all(futures, SUBMIT_COUNT * 2);
    stage_close(&stage);
}

/* ---- outcomes ---- */

static enum quern_err call_next(struct stage *stage)
{
    enum quern_err err = quern_next(stage->client, WAIT_MS, &stage->lost[stage->count]);
    if (err == QUERN_OK) {
        assert_int_equal(stage->lost[stage->count]->cause, QUERN_CAUSE_LOST);
        stage->count++;
    }
    return err;
}

/* What was lost with a volatile session: made when it is asked for. */
static void test_next_of_what_was_lost(void **state)
{
    struct fake *fake = *state;
    struct quern_client_options options = QUERN_CLIENT_OPTIONS_INIT;
    options.is_volatile = true;
    fake_lock(fake);
    fake->is_by_hand = true;
    fake_unlock(fake);
    struct stage stage = {.fake = fake, .client = open_with(fake, options)};
    submit_plain(stage.client, LOST_COUNT);
    assert_int_equal(quern_flush(stage.client, WAIT_MS), QUERN_OK);
    fake_lock(fake);
    fake->deny_now = QUERN_UNKNOWN;
    fake_unlock(fake);
    assert_int_equal(call_next(&stage), QUERN_OK);
    assert_int_equal(call_next(&stage), QUERN_OK);
    starve(&stage, call_next, NULL);
    assert_int_equal(stage.count, LOST_COUNT);
    for (unsigned i = 0; i < LOST_COUNT; i++) {
        quern_outcome_release(&stage.lost[i]);
    }
    stage_close(&stage);
}

/* ---- earlier tasks ---- */

static enum quern_err call_session_futures(struct stage *stage)
{
    struct quern_future **futures = NULL;
    size_t count = 0;
    enum quern_err err = quern_session_futures(stage->client, WAIT_MS, &futures, &count);
    if (err == QUERN_OK) {
        assert_int_equal(count, 100);
        release_all(futures, (unsigned)count);
        free(futures);
    }
    return err;
}

static enum quern_err call_future_open(struct stage *stage)
{
    return quern_future_open(stage->client, id_make(FAKE_SERIES - 1, stage->count), WAIT_MS, &stage->future);
}

/* Some unfinished, some with outcomes that lie in the queue. */
static struct stage stage_left(struct fake *fake)
{
    fake_lock(fake);
    fake->is_by_hand = true;
    fake->page_size = 1000;
    fake_add_former(fake, 100);
    fake_unlock(fake);
    struct stage stage = stage_open(fake);
    for (uint32_t i = 1; i <= 50; i++) {
        end_as(fake, FAKE_FORMER + i, TASK_DONE);
    }
    int64_t deadline_ms = clock_mono_ms() + WAIT_MS;
    uint64_t held = 0;
    while (held < 50) {
        pthread_mutex_lock(&stage.client->lock);
        held = stage.client->ledger.completions.held_count;
        pthread_mutex_unlock(&stage.client->lock);
        assert_true(clock_mono_ms() < deadline_ms);
        sched_yield();
    }
    return stage;
}

static void test_futures_of_a_session(void **state)
{
    struct stage stage = stage_left(*state);
    starve(&stage, call_session_futures, NULL);
    for (unsigned i = 1; i <= 50; i++) {
        assert_int_equal(take(stage.client), i); /* none was lost on the way */
    }
    stage_close(&stage);
}

static void test_opening_a_future(void **state)
{
    struct stage stage = stage_left(*state);
    stage.count = 60;
    starve(&stage, call_future_open, release);
    stage.count = 7;
    starve(&stage, call_future_open, release);
    for (unsigned i = 1; i <= 50; i++) {
        assert_int_equal(take(stage.client), i);
    }
    stage_close(&stage);
}

/* ---- asking ---- */

static enum quern_err call_cancel(struct stage *stage)
{
    return quern_cancel(stage->client, quern_future_id(stage->future), false, WAIT_MS);
}

static enum quern_err call_future_cancel(struct stage *stage)
{
    return quern_future_cancel(stage->future, false, WAIT_MS);
}

static enum quern_err call_future_info(struct stage *stage)
{
    struct quern_task_info info = QUERN_TASK_INFO_INIT;
    return quern_future_info(stage->future, WAIT_MS, &info);
}

/* The fake broker makes no task: that its answer was read is enough. */
static enum quern_err call_retry(struct stage *stage)
{
    enum quern_err err = quern_retry(stage->client, quern_future_id(stage->future), NULL, NULL, WAIT_MS);
    return err == QUERN_PROTOCOL ? QUERN_OK : err;
}

static enum quern_err call_session_close(struct stage *stage)
{
    return quern_session_close(stage->client, "of a longer name, so that what is sent of it does not fit anyhow", 0,
                               WAIT_MS);
}

static enum quern_err call_query(struct stage *stage)
{
    static const char params[] = "\x81\xa5state\xd9\x60"
                                 "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234"
                                 "56789012345";
    void *answer = NULL;
    size_t size = 0;
    enum quern_err err = quern_query(stage->client, "list", params, sizeof(params) - 1, WAIT_MS, &answer, &size);
    free(answer);
    return err;
}

static void test_asking(void **state)
{
    trial *const calls[] = {call_cancel, call_future_cancel, call_future_info,
                            call_retry,  call_session_close, call_query};
    struct stage stage = stage_by_hand(*state);
    stage.future = submit(stage.client);
    assert_int_equal(quern_flush(stage.client, WAIT_MS), QUERN_OK);
    for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++) {
        starve(&stage, calls[i], NULL);
    }
    fake_lock(stage.fake);
    assert_int_equal(stage.fake->request_count, 2 * sizeof(calls) / sizeof(calls[0]));
    fake_unlock(stage.fake);
    release(&stage);
    stage_close(&stage);
}

/* ---- several futures ---- */

static void count_it(struct quern_future *future, void *context)
{
    struct stage *stage = context;
    (void)future;
    pthread_mutex_lock(&stage->fake->lock);
    stage->count++;
    pthread_cond_broadcast(&stage->fake->changed);
    pthread_mutex_unlock(&stage->fake->lock);
}

static enum quern_err call_on_done(struct stage *stage)
{
    return quern_future_on_done(stage->future, count_it, stage);
}

static void test_adding_callbacks(void **state)
{
    struct stage stage = stage_by_hand(*state);
    stage.future = submit(stage.client);
    starve(&stage, call_on_done, NULL);
    assert_int_equal(quern_flush(stage.client, WAIT_MS), QUERN_OK);
    end_as(stage.fake, 1, TASK_DONE);
    fake_lock(stage.fake);
    fake_await(stage.fake, stage.count == 2);
    fake_unlock(stage.fake);
    stage_close(&stage);
    release(&stage);
    assert_int_equal(stage.count, 2);
}

static enum quern_err call_wait(struct stage *stage)
{
    return quern_wait(&stage->future, 1, QUERN_ALL_COMPLETED, 0, NULL, NULL);
}

static enum quern_err call_as_completed(struct stage *stage)
{
    return quern_as_completed(&stage->future, 1, QUERN_FOREVER, &stage->set);
}

static enum quern_err call_set_add(struct stage *stage)
{
    return quern_set_add(stage->set, stage->future);
}

static void set_close(struct stage *stage)
{
    quern_set_close(&stage->set);
}

static void set_renew(struct stage *stage)
{
    quern_set_close(&stage->set);
    assert_int_equal(quern_as_completed(NULL, 0, QUERN_FOREVER, &stage->set), QUERN_OK);
}

static void test_waiting_for_several(void **state)
{
    struct stage stage = stage_by_hand(*state);
    stage.future = submit(stage.client);
    starve(&stage, call_wait, NULL);
    starve(&stage, call_as_completed, set_close);
    set_renew(&stage);
    starve(&stage, call_set_add, set_renew);
    assert_int_equal(call_set_add(&stage), QUERN_OK);
    assert_int_equal(quern_flush(stage.client, WAIT_MS), QUERN_OK);
    end_as(stage.fake, 1, TASK_DONE);
    struct quern_future *next = NULL;
    enum quern_err err = QUERN_OK;
    WITHOUT_MEMORY(err = quern_set_next(stage.set, WAIT_MS, &next));
    assert_int_equal(err, QUERN_OK);
    assert_ptr_equal(next, stage.future);
    WITHOUT_MEMORY(quern_set_close(&stage.set));
    release(&stage);
    stage_close(&stage);
}

/* ---- groups ---- */

static enum quern_err call_group_open(struct stage *stage)
{
    return quern_group_open(stage->client, NULL, 0, &stage->group);
}

static void group_close(struct stage *stage)
{
    enum quern_err err = QUERN_OK;
    WITHOUT_MEMORY(err = quern_group_close(&stage->group, NULL));
    assert_int_equal(err, QUERN_OK);
}

static enum quern_err call_group_submit(struct stage *stage)
{
    struct quern_call call = call_of("\x91\x07");
    return quern_group_submit(stage->group, &call, NULL);
}

static void test_groups(void **state)
{
    struct stage stage = stage_open(*state);
    starve(&stage, call_group_open, group_close);
    assert_int_equal(call_group_open(&stage), QUERN_OK);
    starve(&stage, call_group_submit, NULL);
    group_close(&stage);
    fake_lock(stage.fake);
    assert_int_equal(stage.fake->submit_count, 2);
    fake_unlock(stage.fake);
    stage_close(&stage);
}

/* Nobody waits for its answers, so nobody could be told: what could not be asked is asked when memory is back. */
static void test_cancelling_a_group_is_made_up_for(void **state)
{
    struct stage stage = stage_by_hand(*state);
    enum quern_err err = QUERN_OK;
    fake_lock(stage.fake);
    stage.fake->obeys_cancel = true;
    fake_unlock(stage.fake);
    assert_int_equal(call_group_open(&stage), QUERN_OK);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(call_group_submit(&stage), QUERN_OK);
    }
    assert_int_equal(quern_flush(stage.client, WAIT_MS), QUERN_OK);
    shortage_begin(0, true);
    err = quern_group_cancel(stage.group, false);
    assert_true(shortage_end() > 0);
    assert_int_equal(err, QUERN_OK);
    assert_int_equal(call_query(&stage), QUERN_OK); /* something comes */
    assert_int_equal(quern_group_close(&stage.group, NULL), QUERN_CANCELLED);
    stage_close(&stage);
}

/* The broker had no room for a cancel, and there is no memory to ask again: it is not forgotten. */
static void test_a_cancel_that_is_asked_again_is_made_up_for(void **state)
{
    struct stage stage = stage_by_hand(*state);
    struct fake *fake = stage.fake;
    assert_int_equal(call_group_open(&stage), QUERN_OK);
    assert_int_equal(call_group_submit(&stage), QUERN_OK);
    assert_int_equal(quern_flush(stage.client, WAIT_MS), QUERN_OK);
    fake_lock(fake);
    fake->reply_code = QUERN_FULL;
    fake->holds_replies = true;
    fake_unlock(fake);
    assert_int_equal(quern_group_cancel(stage.group, false), QUERN_OK);
    fake_lock(fake);
    fake_await(fake, fake->cancel_count == 1);
    fake->reply_code = QUERN_OK;
    fake->obeys_cancel = true;
    fake->holds_replies = false;
    atomic_store(&shortage_size, sizeof(struct request));
    fake_unlock(fake);
    int64_t deadline_ms = clock_mono_ms() + WAIT_MS;
    while (atomic_load(&shortage_size) != 0) {
        assert_true(clock_mono_ms() < deadline_ms);
        sched_yield();
    }
    assert_int_equal(call_query(&stage), QUERN_OK); /* something comes */
    assert_int_equal(quern_group_wait(stage.group, WAIT_MS), QUERN_OK);
    assert_int_equal(quern_group_close(&stage.group, NULL), QUERN_CANCELLED);
    stage_close(&stage);
}

/* ---- maps ---- */

/* Arguments of many sizes, for twenty items: so that what they are kept in has to grow. */
#define ITEM_COUNT 20u

static enum quern_err next_input(void *context, struct quern_writer *args)
{
    struct stage *stage = context;
    static const char bytes[400];
    if (stage->count == ITEM_COUNT) {
        return QUERN_END;
    }
    bool is_on = shortage.is_on; /* what a program writes is tried below, and ends a map */
    shortage.is_on = false;
    quern_write_array(args, 1);
    quern_write_bin(args, bytes, stage->count++ * 20);
    shortage.is_on = is_on;
    return QUERN_OK;
}

static enum quern_err call_map_open(struct stage *stage)
{
    struct quern_map_options options = QUERN_MAP_OPTIONS_INIT;
    options.call.function = "square";
    options.call.queue = "night";
    stage->count = 0;
    return quern_map_open(stage->client, &options, next_input, stage, &stage->map);
}

static void map_close(struct stage *stage)
{
    WITHOUT_MEMORY(quern_map_close(&stage->map));
}

static enum quern_err call_map_next(struct stage *stage)
{
    struct quern_map_item item = {0};
    enum quern_err err = quern_map_next(stage->map, WAIT_MS, &item);
    if (err == QUERN_OK) {
        assert_int_equal(item.index, stage->index++);
        quern_outcome_release(&item.outcome);
    }
    return err;
}

/* No input is read twice or passed over. */
static void test_maps(void **state)
{
    struct stage stage = stage_open(*state);
    unsigned total = 0;
    starve(&stage, call_map_open, map_close);
    for (unsigned round = 0; round < 2; round++) {
        enum quern_err err = QUERN_OK;
        stage.index = 0;
        assert_int_equal(call_map_open(&stage), QUERN_OK);
        for (unsigned at = 0; err == QUERN_OK || err == QUERN_NO_MEMORY;) {
            shortage_begin(at, round == 0);
            err = call_map_next(&stage);
            unsigned failed = shortage_end();
            assert_true(failed > 0 || err != QUERN_NO_MEMORY);
            at = failed > 0 ? at + 1 : 0; /* what is done already is given all the same */
            total += failed;
        }
        assert_int_equal(err, QUERN_END);
        assert_int_equal(stage.index, ITEM_COUNT);
        map_close(&stage);
    }
    assert_true(total >= 2 * 4); /* what the first input needs: to be kept, an item, a submit and its shape */
    fake_lock(stage.fake);
    assert_int_equal(stage.fake->submit_count, 2 * ITEM_COUNT);
    fake_unlock(stage.fake);
    stage_close(&stage);
}

static enum quern_err big_input(void *context, struct quern_writer *args)
{
    static const char bytes[5000];
    unsigned *count = context;
    if (++*count == 3) {
        shortage_begin(0, true);
    }
    quern_write_array(args, 1);
    quern_write_bin(args, bytes, *count * 1000);
    (void)shortage_end();
    return QUERN_OK;
}

/* What a program could not write is gone: the items before it are given. */
static void test_an_input_that_could_not_be_written_ends_its_map(void **state)
{
    struct quern_client *client = open_default(*state);
    struct quern_map_options options = QUERN_MAP_OPTIONS_INIT;
    struct quern_map_item item = {0};
    struct quern_map *map = NULL;
    unsigned count = 0;
    options.call.function = "square";
    assert_int_equal(quern_map_open(client, &options, big_input, &count, &map), QUERN_OK);
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(quern_map_next(map, WAIT_MS, &item), QUERN_OK);
        assert_int_equal(item.index, i);
        quern_outcome_release(&item.outcome);
    }
    assert_int_equal(quern_map_next(map, WAIT_MS, &item), QUERN_NO_MEMORY);
    assert_non_null(strstr(quern_last_error(), "input 2"));
    quern_map_close(&map);
    assert_int_equal(quern_client_close(&client, 0), QUERN_OK);
}

/* ---- values ---- */

static void write_all(struct quern_writer *writer)
{
    static const char text[100];
    quern_write_map(writer, 5);
    quern_write_text(writer, "numbers");
    quern_write_array(writer, 5);
    quern_write_nil(writer);
    quern_write_bool(writer, true);
    quern_write_i64(writer, INT64_MIN);
    quern_write_u64(writer, UINT64_MAX);
    quern_write_f64(writer, 0.1);
    quern_write_text(writer, "str");
    quern_write_str(writer, text, sizeof(text));
    quern_write_text(writer, "bin");
    quern_write_bin(writer, text, sizeof(text));
    quern_write_text(writer, "ext");
    quern_write_ext(writer, 1, text, sizeof(text));
    quern_write_text(writer, "raw");
    quern_write_raw(writer, "\x07", 1);
}

static enum quern_err call_write(struct stage *stage)
{
    const void *p = NULL;
    size_t n = 0;
    (void)stage;
    struct quern_writer *writer = quern_writer_new();
    if (writer == NULL) {
        return error_set(QUERN_NO_MEMORY, "no memory for a writer");
    }
    write_all(writer);
    enum quern_err err = quern_writer_error(writer);
    assert_false(quern_writer_is_empty(writer));
    quern_writer_bytes(writer, &p, &n);
    assert_true((n > 300) == (err == QUERN_OK));
    quern_writer_free(writer);
    return err == QUERN_OK ? err : error_set(err, "memory");
}

/* One that writes into memory that just suffices for what stands there already. */
static void test_writing_values(void **state)
{
    struct stage stage = {0};
    (void)state;
    unsigned failed = 0;
    starve(&stage, call_write, NULL);
    for (size_t head = 40; head < 64; head++) {
        struct quern_writer *writer = quern_writer_new();
        static const char text[64];
        quern_write_array(writer, 3);
        quern_write_bin(writer, text, head);
        shortage_begin(0, true);
        quern_write_u64(writer, UINT64_MAX);
        quern_write_f64(writer, 0.1);
        (void)shortage_end();
        enum quern_err err = quern_writer_error(writer);
        assert_true(err == QUERN_NO_MEMORY || err == QUERN_OK);
        failed += err == QUERN_NO_MEMORY;
        WITHOUT_MEMORY(quern_writer_reset(writer));
        quern_write_nil(writer);
        assert_int_equal(quern_writer_error(writer), QUERN_OK);
        quern_writer_free(writer);
    }
    assert_in_range(failed, 1, 23);
}

/* ---- for handlers ---- */

static void test_a_handler_can_say_that_memory_is_used_up(void **state)
{
    struct quern_task task = {0};
    static const char detail[1000];
    (void)state;
    task_begin(&task);
    enum quern_err err = QUERN_OK;
    struct quern_reader args;
    quern_reader_init(&args, "\x90", 1);
    shortage_begin(0, true);
    err = quern_task_fail_args(&task, &args, "it takes nothing");
    assert_int_equal(err, QUERN_TASK_FAILED);
    quern_task_detail(&task, detail, sizeof(detail));
    err = quern_task_fail(&task, "OutOfMemory", "%zu bytes of %s", sizeof(detail), "it");
    quern_task_progress(&task, 0.5, "half");
    (void)shortage_end();
    assert_int_equal(err, QUERN_TASK_FAILED);
    assert_memory_equal(task.kind.p, "OutOfMemory", 11);
    assert_memory_equal(task.message.p, "1000 bytes of it", 16);
    assert_int_equal(task.detail.n, 0);
    task_fini(&task);
}

/* ---- pools ---- */

static enum quern_err call_pool_open(struct stage *stage)
{
    static const char *const arguments[] = {"--allow-commands", NULL}; /* else it would need a module */
    struct quern_pool_options options = QUERN_POOL_OPTIONS_INIT;
    options.slots = 1;
    options.worker_args = arguments;
    options.start_timeout_ms = 60000;
    return quern_pool_open(&options, &stage->pool);
}

static void pool_close(struct stage *stage)
{
    assert_int_equal(quern_pool_close(&stage->pool, 0), QUERN_OK);
}

static void test_opening_a_pool(void **state)
{
    struct stage stage = {.fake = *state};
    assert_int_equal(setenv("XDG_RUNTIME_DIR", stage.fake->directory, 1), 0);
    assert_int_equal(setenv("QUERN_BIN", BUILD_DIR "/bin", 1), 0);
    starve(&stage, call_pool_open, pool_close);
}

/* What could not be cancelled is waited for. */
static void test_shutting_a_pool_down_goes_through(void **state)
{
    struct fake *fake = *state;
    struct quern_pool_options options = QUERN_POOL_OPTIONS_INIT;
    struct quern_pool *pool = NULL;
    options.url = fake->url;
    assert_int_equal(quern_pool_open(&options, &pool), QUERN_OK);
    struct quern_client *client = NULL;
    WITHOUT_MEMORY(client = quern_pool_client(pool));
    submit_plain(client, 3);
    shortage_begin(0, true);
    assert_int_equal(quern_pool_shutdown(pool, QUERN_POOL_CANCEL_QUEUED), QUERN_NO_MEMORY);
    (void)shortage_end();
    fake_lock(fake);
    assert_int_equal(fake->completion_last, 3);
    fake_unlock(fake);
    assert_int_equal(quern_pool_close(&pool, 0), QUERN_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_MEMORY(test_opening_a_client),
        WITH_MEMORY(test_opening_a_client_at_the_default_socket),
        WITH_MEMORY(test_closing_goes_through),
        WITH_MEMORY(test_submitting),
        WITH_MEMORY(test_next_of_what_was_lost),
        WITH_MEMORY(test_futures_of_a_session),
        WITH_MEMORY(test_opening_a_future),
        WITH_MEMORY(test_asking),
        WITH_MEMORY(test_adding_callbacks),
        WITH_MEMORY(test_waiting_for_several),
        WITH_MEMORY(test_groups),
        WITH_MEMORY(test_cancelling_a_group_is_made_up_for),
        WITH_MEMORY(test_a_cancel_that_is_asked_again_is_made_up_for),
        WITH_MEMORY(test_maps),
        WITH_MEMORY(test_an_input_that_could_not_be_written_ends_its_map),
        cmocka_unit_test(test_writing_values),
        cmocka_unit_test(test_a_handler_can_say_that_memory_is_used_up),
        WITH_MEMORY(test_opening_a_pool),
        WITH_MEMORY(test_shutting_a_pool_down_goes_through),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

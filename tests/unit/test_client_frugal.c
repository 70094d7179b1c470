/*
 * Public calls that need no memory: each is asked while there is none, and does not ask for any.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "client_calls.h"
#include "shortage.h"
#include "worker/task.h"

/* ---- futures and sessions ---- */

/* One that is done, one that is not, and one that ends while it is waited for. */
static void test_looking_and_waiting_need_no_memory(void **state)
{
    struct quern_future *futures[3];
    struct quern_outcome *outcome = NULL;
    struct quern_session_info info = QUERN_SESSION_INFO_INIT;
    bool is_so = false;
    uint64_t id = 0;
    int fd = -1;
    struct quern_client *client = open_by_hand(*state, futures, 3);
    end_as(*state, 1, TASK_DONE);
    ANSWERS_WITHOUT_MEMORY(QUERN_OK, quern_future_wait(futures[0], WAIT_MS, &outcome));
    quern_outcome_release(&outcome);
    ANSWERS_WITHOUT_MEMORY(QUERN_OK, quern_future_result(futures[0], WAIT_MS, &outcome));
    quern_outcome_release(&outcome);
    ANSWERS_WITHOUT_MEMORY(QUERN_TIMEOUT, quern_future_wait(futures[1], 0, &outcome));
    ANSWERS_WITHOUT_MEMORY(QUERN_TIMEOUT, quern_future_result(futures[1], 1, &outcome));
    end_as(*state, 3, TASK_FAILED);
    ANSWERS_WITHOUT_MEMORY(QUERN_TASK_FAILED, quern_future_result(futures[2], WAIT_MS, &outcome));
    quern_outcome_release(&outcome);
    WITHOUT_MEMORY(id = quern_future_id(futures[1]));
    assert_int_equal(id, id_make(FAKE_SERIES, 2));
    WITHOUT_MEMORY(is_so = quern_future_accepted(futures[1]));
    assert_true(is_so);
    WITHOUT_MEMORY(is_so = quern_future_done(futures[1]));
    assert_false(is_so);
    WITHOUT_MEMORY(is_so = quern_future_cancelled(futures[1]));
    assert_false(is_so);
    ANSWERS_WITHOUT_MEMORY(QUERN_OK, quern_session_info(client, &info));
    ANSWERS_WITHOUT_MEMORY(QUERN_OK, quern_flush(client, WAIT_MS));
    WITHOUT_MEMORY(fd = quern_client_fd(client));
    assert_true(fd >= 0);
    end_as(*state, 2, TASK_DONE);
    await_done(futures[1]);
    close_all(client, futures, 3);
}

static enum quern_err no_input(void *context, struct quern_writer *args)
{
    (void)context;
    (void)args;
    return QUERN_END;
}

static void test_waiting_for_groups_sets_and_maps_needs_no_memory(void **state)
{
    struct quern_client *client = open_by_hand(*state, NULL, 0);
    struct quern_call call = call_of("\x91\x07");
    struct quern_map_options options = QUERN_MAP_OPTIONS_INIT;
    struct quern_group *group = NULL;
    struct quern_set *set = NULL;
    struct quern_map *map = NULL;
    struct quern_future *next = NULL;
    int fd = -1;
    assert_int_equal(quern_group_open(client, NULL, 0, &group), QUERN_OK);
    assert_int_equal(quern_group_submit(group, &call, NULL), QUERN_OK);
    ANSWERS_WITHOUT_MEMORY(QUERN_TIMEOUT, quern_group_wait(group, 1));
    assert_int_equal(quern_flush(client, WAIT_MS), QUERN_OK);
    end_as(*state, 1, TASK_DONE);
    ANSWERS_WITHOUT_MEMORY(QUERN_OK, quern_group_wait(group, WAIT_MS));
    ANSWERS_WITHOUT_MEMORY(QUERN_OK, quern_group_close(&group, NULL));
    assert_int_equal(quern_as_completed(NULL, 0, QUERN_FOREVER, &set), QUERN_OK);
    WITHOUT_MEMORY(fd = quern_set_fd(set));
    assert_true(fd >= 0);
    ANSWERS_WITHOUT_MEMORY(QUERN_END, quern_set_next(set, WAIT_MS, &next));
    WITHOUT_MEMORY(quern_set_close(&set));
    options.call.function = "square";
    assert_int_equal(quern_map_open(client, &options, no_input, NULL, &map), QUERN_OK);
    WITHOUT_MEMORY(fd = quern_map_fd(map));
    assert_true(fd >= 0);
    WITHOUT_MEMORY(quern_map_close(&map));
    assert_int_equal(quern_client_close(&client, 0), QUERN_OK);
}

static void test_reading_values_needs_no_memory(void **state)
{
    static const char bytes[] = "\xdc\x00\x09\xc0\xc3\x07\x08\xcb\x3f\xf8\x00\x00\x00\x00\x00\x00\xa1x\xc4\x01y"
                                "\xc4\x01z\x82\x01\xd4\x05w\x02\x90";
    struct quern_reader reader;
    bool flag;
    int64_t i;
    uint64_t u;
    double f;
    const char *text;
    const void *p;
    size_t n;
    int type;
    enum quern_type peeked = QUERN_TYPE_NIL;
    (void)state;
    WITHOUT_MEMORY(quern_reader_init(&reader, bytes, sizeof(bytes) - 1));
    WITHOUT_MEMORY(peeked = quern_peek(&reader));
    assert_int_equal(peeked, QUERN_TYPE_ARRAY);
    ANSWERS_WITHOUT_MEMORY(QUERN_OK, quern_read_array(&reader, &n));
    ANSWERS_WITHOUT_MEMORY(QUERN_OK, quern_read_nil(&reader));
    ANSWERS_WITHOUT_MEMORY(QUERN_OK, quern_read_bool(&reader, &flag));
    ANSWERS_WITHOUT_MEMORY(QUERN_OK, quern_read_i64(&reader, &i));
    ANSWERS_WITHOUT_MEMORY(QUERN_OK, quern_read_u64(&reader, &u));
    ANSWERS_WITHOUT_MEMORY(QUERN_OK, quern_read_f64(&reader, &f));
    ANSWERS_WITHOUT_MEMORY(QUERN_OK, quern_read_str(&reader, &text, &n));
    ANSWERS_WITHOUT_MEMORY(QUERN_OK, quern_read_bin(&reader, &p, &n));
    ANSWERS_WITHOUT_MEMORY(QUERN_OK, quern_read_bytes(&reader, &p, &n));
    ANSWERS_WITHOUT_MEMORY(QUERN_OK, quern_read_map(&reader, &n));
    ANSWERS_WITHOUT_MEMORY(QUERN_OK, quern_read_any(&reader, &p, &n));
    ANSWERS_WITHOUT_MEMORY(QUERN_OK, quern_read_ext(&reader, &type, &p, &n));
    ANSWERS_WITHOUT_MEMORY(QUERN_OK, quern_read_i64(&reader, &i));
    ANSWERS_WITHOUT_MEMORY(QUERN_OK, quern_read_any(&reader, &p, &n));
    ANSWERS_WITHOUT_MEMORY(QUERN_OK, quern_read_close(&reader));
    ANSWERS_WITHOUT_MEMORY(QUERN_OK, quern_read_close(&reader));
    ANSWERS_WITHOUT_MEMORY(QUERN_OK, quern_reader_error(&reader));
}

static void test_words_need_no_memory(void **state)
{
    unsigned char digest[32] = {0};
    char text[QUERN_ID_TEXT_SIZE];
    uint64_t id = 0;
    const char *words[5] = {NULL};
    (void)state;
    WITHOUT_MEMORY(words[0] = quern_state_word(QUERN_STATE_DONE));
    WITHOUT_MEMORY(words[1] = quern_cause_word(QUERN_CAUSE_LOST));
    WITHOUT_MEMORY(words[2] = quern_err_word(QUERN_FULL));
    WITHOUT_MEMORY(words[3] = quern_err_text(QUERN_FULL));
    WITHOUT_MEMORY(words[4] = quern_last_error());
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        assert_non_null(words[i]);
    }
    WITHOUT_MEMORY(quern_id_text(id_make(8, 42), text));
    ANSWERS_WITHOUT_MEMORY(QUERN_OK, quern_id_parse(text, &id));
    assert_int_equal(id, id_make(8, 42));
    WITHOUT_MEMORY(quern_digest_step(digest, 1, "\x90", 1));
}

/* ---- releasing ---- */

/* Those in between stay: what was taken is no longer one run of numbers. */
static void test_releasing_needs_no_memory(void **state)
{
    struct fake *fake = *state;
    struct quern_client *client = open_default(fake);
    struct quern_outcome *outcomes[300];
    submit_plain(client, 300);
    for (unsigned i = 0; i < 300; i++) {
        enum quern_err err = quern_next(client, WAIT_MS, &outcomes[i]);
        assert_int_equal(err, QUERN_OK);
    }
    for (unsigned i = 0; i < 300; i += 2) {
        WITHOUT_MEMORY(quern_outcome_release(&outcomes[i]));
    }
    for (unsigned i = 1; i < 300; i += 2) {
        WITHOUT_MEMORY(quern_outcome_release(&outcomes[i]));
    }
    enum quern_err err = QUERN_OK;
    WITHOUT_MEMORY(err = quern_client_close(&client, 0));
    assert_int_equal(err, QUERN_OK);
    fake_lock(fake);
    assert_int_equal(fake->acked_count, 300);
    fake_unlock(fake);
}

/* Their outcomes come out of quern_next, late, in order. */
static void test_releasing_futures_needs_no_memory(void **state)
{
    struct fake *fake = *state;
    struct quern_client *client = open_default(fake);
    struct quern_future *futures[300];
    for (unsigned i = 0; i < 300; i++) {
        futures[i] = submit(client);
    }
    assert_int_equal(quern_wait(futures, 300, QUERN_ALL_COMPLETED, WAIT_MS, NULL, NULL), QUERN_OK);
    for (unsigned i = 300; i-- > 0;) {
        WITHOUT_MEMORY(quern_future_release(&futures[i]));
    }
    for (unsigned i = 1; i <= 300; i++) {
        assert_int_equal(take(client), i);
    }
    assert_int_equal(quern_client_close(&client, 0), QUERN_OK);
}

/* ---- handlers ---- */

static void test_a_handler_looks_and_waits_without_memory(void **state)
{
    struct quern_task task = {.id = 7, .attempt = 3};
    uint64_t numbers[3] = {0};
    bool is_cancelled = true;
    (void)state;
    task_begin(&task);
    ANSWERS_WITHOUT_MEMORY(QUERN_OK, quern_task_wait_begin(&task));
    WITHOUT_MEMORY(quern_task_wait_end(&task));
    WITHOUT_MEMORY(numbers[0] = quern_task_id(&task));
    WITHOUT_MEMORY(numbers[1] = quern_task_attempt(&task));
    WITHOUT_MEMORY(numbers[2] = (uint64_t)quern_task_remaining_ms(&task));
    WITHOUT_MEMORY(is_cancelled = quern_task_is_cancelled(&task));
    assert_int_equal(numbers[0], 7);
    assert_int_equal(numbers[1], 3);
    assert_false(is_cancelled);
    task_fini(&task);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_FAKE(test_looking_and_waiting_need_no_memory),
        WITH_FAKE(test_waiting_for_groups_sets_and_maps_needs_no_memory),
        WITH_FAKE(test_releasing_needs_no_memory),
        WITH_FAKE(test_releasing_futures_needs_no_memory),
        cmocka_unit_test(test_reading_values_needs_no_memory),
        cmocka_unit_test(test_words_need_no_memory),
        cmocka_unit_test(test_a_handler_looks_and_waits_without_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

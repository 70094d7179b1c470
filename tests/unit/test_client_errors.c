/*
 * Errors that the headers document, provoked one by one where no other test does: the code, and a sentence that says
 * what. tests/unit/test_documented_errors.py keeps that each has its test.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "client_calls.h"
#include "common/place.h"
#include "quern/pool.h"
#include "worker/task.h"

/* The call answers this code, and quern_last_error says these words. */
#define PROVOKES(code, words, call)                                                                                    \
    do {                                                                                                               \
        assert_int_equal(call, code);                                                                                  \
        says(words);                                                                                                   \
    } while (0)

static void says(const char *words)
{
    if (strstr(quern_last_error(), words) == NULL) {
        print_error("\"%s\" does not say \"%s\"\n", quern_last_error(), words);
    }
    assert_non_null(strstr(quern_last_error(), words));
}

/* The same in a child made by fork(). */
#define PROVOKES_IN_CHILD(code, words, call)                                                                           \
    do {                                                                                                               \
        pid_t child = fork();                                                                                          \
        assert_true(child >= 0);                                                                                       \
        if (child == 0) {                                                                                              \
            _exit((call) == (code) && strstr(quern_last_error(), words) != NULL ? 0 : 1);                              \
        }                                                                                                              \
        int status = -1;                                                                                               \
        assert_int_equal(waitpid(child, &status, 0), child);                                                           \
        assert_int_equal(status, 0);                                                                                   \
    } while (0)

/* A client that has ended: TAKEN_OVER by somebody else, or CLOSED, as its session is gone. */
static void end_client(struct fake *fake, struct quern_client *client, enum quern_err code)
{
    enum quern_err err = QUERN_OK;
    fake_lock(fake);
    fake->deny_now = code == QUERN_CLOSED ? QUERN_UNKNOWN : code;
    fake_unlock(fake);
    while (err == QUERN_OK) {
        err = quern_flush(client, WAIT_MS);
    }
    assert_int_equal(err, code);
}

/* Sets a knob of the fake broker. */
#define SET(knob, value)                                                                                               \
    do {                                                                                                               \
        fake_lock(fake);                                                                                               \
        fake->knob = value;                                                                                            \
        fake_unlock(fake);                                                                                             \
    } while (0)

static enum quern_err one_input(void *context, struct quern_writer *args)
{
    unsigned *count = context;
    if ((*count)++ > 0) {
        return QUERN_END;
    }
    quern_write_array(args, 0);
    return QUERN_OK;
}

static void count_nothing(struct quern_future *future, void *context)
{
    (void)future;
    (void)context;
}

/* ---- opening and closing ---- */

static void test_what_a_broker_denies_at_opening(void **state)
{
    struct fake *fake = *state;
    struct quern_client_options options = QUERN_CLIENT_OPTIONS_INIT;
    struct quern_client *client = NULL;
    options.url = fake->url;
    options.session = "nightly";
    options.must_exist = true;
    SET(deny, QUERN_UNKNOWN);
    PROVOKES(QUERN_UNKNOWN, "says the fake", quern_client_open(&options, &client));
    SET(deny, QUERN_FULL);
    PROVOKES(QUERN_FULL, "says the fake", quern_client_open(&options, &client));
    SET(deny, QUERN_OK);
    SET(is_newer, true);
    PROVOKES(QUERN_VERSION, "newer", quern_client_open(&options, &client));
    SET(is_newer, false);
    assert_null(client);
}

static void test_options_that_are_too_big(void **state)
{
    static const char many[] = "ipc:///1,ipc:///2,ipc:///3,ipc:///4,ipc:///5,ipc:///6,ipc:///7,ipc:///8,ipc:///9,"
                               "ipc:///10,ipc:///11,ipc:///12,ipc:///13,ipc:///14,ipc:///15,ipc:///16,ipc:///17";
    struct quern_client_options options = QUERN_CLIENT_OPTIONS_INIT;
    struct quern_client *client = NULL;
    char name[SESSION_NAME_SIZE_MAX + 2];
    (void)state;
    options.description = many;
    options.description_size = DESCRIPTION_SIZE_MAX + 1;
    PROVOKES(QUERN_TOO_BIG, "description", quern_client_open(&options, &client));
    options = (struct quern_client_options)QUERN_CLIENT_OPTIONS_INIT;
    memset(name, 'n', sizeof(name));
    name[sizeof(name) - 1] = 0;
    options.session = name;
    PROVOKES(QUERN_TOO_BIG, "session", quern_client_open(&options, &client));
    options.session = NULL;
    options.url = many;
    PROVOKES(QUERN_TOO_BIG, "addresses", quern_client_open(&options, &client));
    assert_null(client);
}

/* It takes its five seconds. */
static void test_closing_with_submits_that_nobody_answers(void **state)
{
    struct fake *fake = *state;
    struct quern_client *client = open_default(fake);
    SET(is_silent, true);
    submit_plain(client, 1);
    PROVOKES(QUERN_TIMEOUT, "1 submits were not acknowledged", quern_client_close(&client, 0));
}

static void test_closing_in_a_child(void **state)
{
    struct quern_client *client = open_default(*state);
    PROVOKES_IN_CHILD(QUERN_CLOSED, "fork", quern_client_close(&client, 0));
    assert_int_equal(quern_client_close(&client, 0), QUERN_OK);
}

/* A bit that this quern does not know may ask for anything: nothing is done, least of all the end of the session. */
static void test_flags_that_are_not_known_close_nothing(void **state)
{
    struct fake *fake = *state;
    struct quern_pool_options options = QUERN_POOL_OPTIONS_INIT;
    struct quern_client *client = open_default(fake);
    struct quern_group *group = NULL;
    struct quern_pool *pool = NULL;
    PROVOKES(QUERN_INVALID, "not known", quern_client_close(&client, QUERN_CLOSE_CANCEL | 8));
    PROVOKES(QUERN_INVALID, "not known", quern_group_open(client, NULL, 4, &group));
    PROVOKES(QUERN_INVALID, "not known", quern_session_close(client, "nightly", 8, WAIT_MS));
    assert_non_null(client);
    submit_plain(client, 1);
    assert_int_equal(quern_flush(client, WAIT_MS), QUERN_OK);
    assert_int_equal(quern_client_close(&client, 0), QUERN_OK);
    options.url = fake->url;
    assert_int_equal(quern_pool_open(&options, &pool), QUERN_OK);
    PROVOKES(QUERN_INVALID, "not known", quern_pool_shutdown(pool, 4));
    PROVOKES(QUERN_INVALID, "not known", quern_pool_close(&pool, QUERN_POOL_CANCEL_QUEUED | 4));
    assert_non_null(pool);
    submit_plain(quern_pool_client(pool), 1);
    assert_int_equal(quern_pool_close(&pool, QUERN_POOL_NO_WAIT), QUERN_OK);
    assert_null(pool);
}

/* ---- what the system does not give ---- */

/* For good, so in a child: others of this process poll, which wants its descriptors within the limit. */
static bool forbid_descriptors(void)
{
    struct rlimit limit;
    return getrlimit(RLIMIT_NOFILE, &limit) == 0 &&
           setrlimit(RLIMIT_NOFILE, &(struct rlimit){.rlim_cur = 0, .rlim_max = limit.rlim_max}) == 0;
}

static void test_a_client_for_which_there_is_no_descriptor(void **state)
{
    struct fake *fake = *state;
    struct quern_client_options options = QUERN_CLIENT_OPTIONS_INIT;
    struct quern_client *client = NULL;
    options.url = fake->url;
    PROVOKES_IN_CHILD(QUERN_IO, "eventfd", forbid_descriptors() ? quern_client_open(&options, &client) : QUERN_OK);
    assert_null(client);
}

/* No thread can be had: each would have a stack larger than what can be addressed. */
static void test_a_callback_for_which_there_is_no_thread(void **state)
{
    struct quern_future *future = NULL;
    pthread_attr_t before;
    pthread_attr_t vast;
    struct quern_client *client = open_by_hand(*state, &future, 1);
    assert_int_equal(pthread_getattr_default_np(&before), 0);
    assert_int_equal(pthread_attr_init(&vast), 0);
    assert_int_equal(pthread_attr_setstacksize(&vast, (size_t)1 << 47), 0);
    assert_int_equal(pthread_setattr_default_np(&vast), 0);
    PROVOKES(QUERN_IO, "thread for callbacks", quern_future_on_done(future, count_nothing, NULL));
    assert_int_equal(pthread_setattr_default_np(&before), 0);
    pthread_attr_destroy(&before);
    pthread_attr_destroy(&vast);
    close_all(client, &future, 1);
}

/* ---- a client that has ended ---- */

/* Everything that would wait says why nothing comes. */
static void test_waits_of_a_client_that_was_taken_over(void **state)
{
    struct fake *fake = *state;
    struct quern_future *future = NULL;
    struct quern_future *given = NULL;
    struct quern_outcome *outcome = NULL;
    struct quern_group *group = NULL;
    struct quern_set *set = NULL;
    struct quern_call call = call_of("\x91\x07");
    struct quern_client *client = open_by_hand(fake, &future, 1);
    assert_int_equal(quern_as_completed(&future, 1, QUERN_FOREVER, &set), QUERN_OK);
    assert_int_equal(quern_group_open(client, NULL, 0, &group), QUERN_OK);
    assert_int_equal(quern_group_submit(group, &call, NULL), QUERN_OK);
    SET(holds_answers, true);
    submit_plain(client, 1);
    end_client(fake, client, QUERN_TAKEN_OVER);
    PROVOKES(QUERN_TAKEN_OVER, "there:99", quern_submit(client, &call, NULL, NULL));
    PROVOKES(QUERN_TAKEN_OVER, "there:99", quern_next(client, 0, &outcome));
    PROVOKES(QUERN_TAKEN_OVER, "there:99", quern_future_result(future, 0, &outcome));
    PROVOKES(QUERN_TAKEN_OVER, "there:99", quern_set_next(set, 0, &given));
    PROVOKES(QUERN_TAKEN_OVER, "there:99", quern_group_wait(group, 0));
    PROVOKES(QUERN_TAKEN_OVER, "there:99", quern_group_close(&group, NULL));
    quern_set_close(&set);
    quern_future_release(&future);
    PROVOKES(QUERN_TAKEN_OVER, "there:99", quern_client_close(&client, 0));
}

static void test_waits_of_a_client_whose_session_is_gone(void **state)
{
    struct fake *fake = *state;
    struct quern_future *future = NULL;
    struct quern_future *given = NULL;
    struct quern_outcome *outcome = NULL;
    struct quern_set *set = NULL;
    struct quern_call call = call_of("\x91\x07");
    struct quern_client *client = open_by_hand(fake, &future, 1);
    assert_int_equal(quern_as_completed(&future, 1, QUERN_FOREVER, &set), QUERN_OK);
    SET(holds_answers, true);
    submit_plain(client, 1);
    end_client(fake, client, QUERN_CLOSED);
    PROVOKES(QUERN_CLOSED, "says the fake", quern_submit(client, &call, NULL, NULL));
    PROVOKES(QUERN_CLOSED, "says the fake", quern_next(client, 0, &outcome));
    PROVOKES(QUERN_CLOSED, "says the fake", quern_future_result(future, 0, &outcome));
    PROVOKES(QUERN_CLOSED, "says the fake", quern_set_next(set, 0, &given));
    quern_set_close(&set);
    quern_future_release(&future);
    PROVOKES(QUERN_CLOSED, "says the fake", quern_client_close(&client, 0));
}

/* What else submits or asks. */
static void test_calls_of_a_client_that_was_taken_over(void **state)
{
    struct fake *fake = *state;
    struct quern_future *future = NULL;
    struct quern_future *second = NULL;
    struct quern_future **left = NULL;
    struct quern_outcome *outcome = NULL;
    struct quern_group *group = NULL;
    struct quern_group *within = NULL;
    struct quern_task_info info = QUERN_TASK_INFO_INIT;
    struct quern_call call = call_of("\x91\x07");
    bool done = false;
    void *answer = NULL;
    size_t size = 0;
    uint64_t new_id = 0;
    struct quern_client *client = open_by_hand(fake, &future, 1);
    uint64_t id = quern_future_id(future);
    assert_int_equal(quern_group_open(client, NULL, 0, &group), QUERN_OK);
    SET(holds_answers, true);
    submit_plain(client, 1);
    end_client(fake, client, QUERN_TAKEN_OVER);
    PROVOKES(QUERN_TAKEN_OVER, "there:99", quern_flush(client, 0));
    PROVOKES(QUERN_TAKEN_OVER, "there:99", quern_future_open(client, id, 0, &second));
    PROVOKES(QUERN_TAKEN_OVER, "there:99", quern_session_futures(client, 0, &left, &size));
    PROVOKES(QUERN_TAKEN_OVER, "there:99", quern_cancel(client, id, false, 0));
    PROVOKES(QUERN_TAKEN_OVER, "there:99", quern_retry(client, id, &new_id, NULL, 0));
    PROVOKES(QUERN_TAKEN_OVER, "there:99", quern_session_close(client, "nightly", 0, 0));
    PROVOKES(QUERN_TAKEN_OVER, "there:99", quern_query(client, "status", NULL, 0, 0, &answer, &size));
    PROVOKES(QUERN_TAKEN_OVER, "there:99", quern_future_wait(future, 0, &outcome));
    PROVOKES(QUERN_TAKEN_OVER, "there:99", quern_future_on_done(future, count_nothing, NULL));
    PROVOKES(QUERN_TAKEN_OVER, "there:99", quern_future_cancel(future, false, 0));
    PROVOKES(QUERN_TAKEN_OVER, "there:99", quern_future_info(future, 0, &info));
    PROVOKES(QUERN_TAKEN_OVER, "there:99", quern_wait(&future, 1, QUERN_ALL_COMPLETED, 0, &done, NULL));
    PROVOKES(QUERN_TAKEN_OVER, "there:99", quern_group_open(client, NULL, 0, &within));
    PROVOKES(QUERN_TAKEN_OVER, "there:99", quern_group_submit(group, &call, NULL));
    PROVOKES(QUERN_TAKEN_OVER, "there:99", quern_group_cancel(group, false));
    assert_int_equal(quern_group_close(&group, NULL), QUERN_OK); /* nothing was in it */
    quern_future_release(&future);
    PROVOKES(QUERN_TAKEN_OVER, "there:99", quern_client_close(&client, 0));
}

/* ---- nothing, or somebody else's, to work on ---- */

static void test_null_is_said_so_by_every_call(void **state)
{
    struct quern_session_info session = QUERN_SESSION_INFO_INIT;
    struct quern_task_info info = QUERN_TASK_INFO_INIT;
    struct quern_map_options options = QUERN_MAP_OPTIONS_INIT;
    struct quern_map_item item = {0};
    struct quern_call call = call_of("\x90");
    struct quern_future *future = NULL;
    struct quern_future **left = NULL;
    struct quern_outcome *outcome = NULL;
    struct quern_group *group = NULL;
    struct quern_set *set = NULL;
    struct quern_map *map = NULL;
    uint64_t id = id_make(FAKE_SERIES, 1);
    void *answer = NULL;
    size_t size = 0;
    (void)state;
    options.call.function = "square";
    PROVOKES(QUERN_INVALID, "client is NULL", quern_session_info(NULL, &session));
    PROVOKES(QUERN_INVALID, "client is NULL", quern_submit(NULL, &call, NULL, NULL));
    PROVOKES(QUERN_INVALID, "client is NULL", quern_flush(NULL, 0));
    PROVOKES(QUERN_INVALID, "client is NULL", quern_next(NULL, 0, &outcome));
    PROVOKES(QUERN_INVALID, "client is NULL", quern_future_open(NULL, id, 0, &future));
    PROVOKES(QUERN_INVALID, "client is NULL", quern_session_futures(NULL, 0, &left, &size));
    PROVOKES(QUERN_INVALID, "client is NULL", quern_cancel(NULL, id, false, 0));
    PROVOKES(QUERN_INVALID, "client is NULL", quern_retry(NULL, id, NULL, NULL, 0));
    PROVOKES(QUERN_INVALID, "client is NULL", quern_session_close(NULL, "nightly", 0, 0));
    PROVOKES(QUERN_INVALID, "client is NULL", quern_query(NULL, "status", NULL, 0, 0, &answer, &size));
    PROVOKES(QUERN_INVALID, "client is NULL", quern_group_open(NULL, NULL, 0, &group));
    PROVOKES(QUERN_INVALID, "client is NULL", quern_map_open(NULL, &options, one_input, NULL, &map));
    PROVOKES(QUERN_INVALID, "future is NULL", quern_future_wait(NULL, 0, &outcome));
    PROVOKES(QUERN_INVALID, "future is NULL", quern_future_result(NULL, 0, &outcome));
    PROVOKES(QUERN_INVALID, "future is NULL", quern_future_on_done(NULL, count_nothing, NULL));
    PROVOKES(QUERN_INVALID, "future is NULL", quern_future_cancel(NULL, false, 0));
    PROVOKES(QUERN_INVALID, "future is NULL", quern_future_info(NULL, 0, &info));
    PROVOKES(QUERN_INVALID, "future is NULL", quern_wait(&future, 1, QUERN_ALL_COMPLETED, 0, NULL, NULL));
    PROVOKES(QUERN_INVALID, "future is NULL", quern_as_completed(&future, 1, 0, &set));
    PROVOKES(QUERN_INVALID, "set is NULL", quern_set_add(NULL, future));
    PROVOKES(QUERN_INVALID, "set is NULL", quern_set_next(NULL, 0, &future));
    PROVOKES(QUERN_INVALID, "group is NULL", quern_group_submit(NULL, &call, NULL));
    PROVOKES(QUERN_INVALID, "group is NULL", quern_group_cancel(NULL, false));
    PROVOKES(QUERN_INVALID, "group is NULL", quern_group_wait(NULL, 0));
    PROVOKES(QUERN_INVALID, "map is NULL", quern_map_next(NULL, 0, &item));
}

/* Closing and releasing nothing does nothing, whether there is no pointer or nothing behind it. */
static void test_null_may_be_closed_and_released(void **state)
{
    struct quern_client *client = NULL;
    struct quern_pool *pool = NULL;
    struct quern_group *group = NULL;
    struct quern_future *future = NULL;
    struct quern_outcome *outcome = NULL;
    struct quern_set *set = NULL;
    struct quern_map *map = NULL;
    (void)state;
    assert_int_equal(quern_client_close(NULL, 0), QUERN_OK);
    assert_int_equal(quern_client_close(&client, 0), QUERN_OK);
    assert_int_equal(quern_pool_close(NULL, 0), QUERN_OK);
    assert_int_equal(quern_pool_close(&pool, 0), QUERN_OK);
    assert_int_equal(quern_group_close(NULL, NULL), QUERN_OK);
    assert_int_equal(quern_group_close(&group, NULL), QUERN_OK);
    quern_future_release(NULL);
    quern_future_release(&future);
    quern_outcome_release(NULL);
    quern_outcome_release(&outcome);
    quern_set_close(NULL);
    quern_set_close(&set);
    quern_map_close(NULL);
    quern_map_close(&map);
    quern_writer_free(NULL);
}

/* What is to be written and cannot be: asked of a client that could answer. */
static void test_null_to_be_written_is_said_so_by_every_call(void **state)
{
    struct fake *fake = *state;
    struct quern_client_options options = QUERN_CLIENT_OPTIONS_INIT;
    struct quern_pool_options pool_options = QUERN_POOL_OPTIONS_INIT;
    struct quern_map_options map_options = QUERN_MAP_OPTIONS_INIT;
    struct quern_future *future = NULL;
    struct quern_future **left = NULL;
    struct quern_set *set = NULL;
    struct quern_map *map = NULL;
    unsigned count = 0;
    void *answer = NULL;
    size_t size = 0;
    struct quern_client *client = open_by_hand(fake, &future, 1);
    options.url = pool_options.url = fake->url;
    map_options.call.function = "square";
    assert_int_equal(quern_as_completed(&future, 1, 0, &set), QUERN_OK);
    assert_int_equal(quern_map_open(client, &map_options, one_input, &count, &map), QUERN_OK);
    PROVOKES(QUERN_INVALID, "client_out is NULL", quern_client_open(&options, NULL));
    PROVOKES(QUERN_INVALID, "info_out is NULL", quern_session_info(client, NULL));
    PROVOKES(QUERN_INVALID, "outcome_out is NULL", quern_next(client, 0, NULL));
    PROVOKES(QUERN_INVALID, "future_out is NULL", quern_future_open(client, quern_future_id(future), 0, NULL));
    PROVOKES(QUERN_INVALID, "futures_out is NULL", quern_session_futures(client, 0, NULL, &size));
    PROVOKES(QUERN_INVALID, "count_out is NULL", quern_session_futures(client, 0, &left, NULL));
    PROVOKES(QUERN_INVALID, "answer_out is NULL", quern_query(client, "status", NULL, 0, 0, NULL, &size));
    PROVOKES(QUERN_INVALID, "size_out is NULL", quern_query(client, "status", NULL, 0, 0, &answer, NULL));
    PROVOKES(QUERN_INVALID, "outcome_out is NULL", quern_future_wait(future, 0, NULL));
    PROVOKES(QUERN_INVALID, "outcome_out is NULL", quern_future_result(future, 0, NULL));
    PROVOKES(QUERN_INVALID, "info_out is NULL", quern_future_info(future, 0, NULL));
    PROVOKES(QUERN_INVALID, "set_out is NULL", quern_as_completed(&future, 1, 0, NULL));
    PROVOKES(QUERN_INVALID, "future_out is NULL", quern_set_next(set, 0, NULL));
    PROVOKES(QUERN_INVALID, "group_out is NULL", quern_group_open(client, NULL, 0, NULL));
    PROVOKES(QUERN_INVALID, "map_out is NULL", quern_map_open(client, &map_options, one_input, &count, NULL));
    PROVOKES(QUERN_INVALID, "item_out is NULL", quern_map_next(map, 0, NULL));
    PROVOKES(QUERN_INVALID, "pool_out is NULL", quern_pool_open(&pool_options, NULL));
    assert_int_equal(quern_id_parse("8-42", NULL), QUERN_INVALID);
    quern_set_close(&set);
    quern_map_close(&map);
    close_all(client, &future, 1);
}

/* An operator has no session to submit into or to take from. */
static void test_what_needs_a_session_says_so(void **state)
{
    struct quern_client_options options = QUERN_CLIENT_OPTIONS_INIT;
    struct quern_session_info session = QUERN_SESSION_INFO_INIT;
    struct quern_map_options map_options = QUERN_MAP_OPTIONS_INIT;
    struct quern_call call = call_of("\x90");
    struct quern_future *future = NULL;
    struct quern_future **left = NULL;
    struct quern_outcome *outcome = NULL;
    struct quern_group *group = NULL;
    struct quern_map *map = NULL;
    size_t size = 0;
    options.no_session = true;
    map_options.call.function = "square";
    struct quern_client *client = open_with(*state, options);
    PROVOKES(QUERN_INVALID, "no session", quern_session_info(client, &session));
    PROVOKES(QUERN_INVALID, "no session", quern_submit(client, &call, NULL, NULL));
    PROVOKES(QUERN_INVALID, "no session", quern_next(client, 0, &outcome));
    PROVOKES(QUERN_INVALID, "no session", quern_future_open(client, id_make(FAKE_SERIES, 1), 0, &future));
    PROVOKES(QUERN_INVALID, "no session", quern_session_futures(client, 0, &left, &size));
    PROVOKES(QUERN_INVALID, "no session", quern_map_open(client, &map_options, one_input, NULL, &map));
    assert_int_equal(quern_group_open(client, NULL, 0, &group), QUERN_OK);
    PROVOKES(QUERN_INVALID, "no session", quern_group_submit(group, &call, NULL));
    assert_int_equal(quern_group_close(&group, NULL), QUERN_OK);
    assert_int_equal(quern_client_close(&client, 0), QUERN_OK);
}

static void test_every_call_in_a_child(void **state)
{
    struct quern_session_info session = QUERN_SESSION_INFO_INIT;
    struct quern_task_info info = QUERN_TASK_INFO_INIT;
    struct quern_map_options options = QUERN_MAP_OPTIONS_INIT;
    struct quern_map_item item = {0};
    struct quern_call call = call_of("\x90");
    struct quern_future *future = NULL;
    struct quern_future *second = NULL;
    struct quern_future **left = NULL;
    struct quern_outcome *outcome = NULL;
    struct quern_group *group = NULL;
    struct quern_set *set = NULL;
    struct quern_set *more = NULL;
    struct quern_map *map = NULL;
    struct quern_map *next = NULL;
    unsigned count = 0;
    void *answer = NULL;
    size_t size = 0;
    options.call.function = "square";
    struct quern_client *client = open_by_hand(*state, &future, 1);
    uint64_t id = quern_future_id(future);
    assert_int_equal(quern_as_completed(&future, 1, 0, &set), QUERN_OK);
    assert_int_equal(quern_group_open(client, NULL, 0, &group), QUERN_OK);
    assert_int_equal(quern_map_open(client, &options, one_input, &count, &map), QUERN_OK);
    PROVOKES_IN_CHILD(QUERN_CLOSED, "fork", quern_session_info(client, &session));
    PROVOKES_IN_CHILD(QUERN_CLOSED, "fork", quern_submit(client, &call, NULL, NULL));
    PROVOKES_IN_CHILD(QUERN_CLOSED, "fork", quern_flush(client, 0));
    PROVOKES_IN_CHILD(QUERN_CLOSED, "fork", quern_next(client, 0, &outcome));
    PROVOKES_IN_CHILD(QUERN_CLOSED, "fork", quern_future_open(client, id, 0, &second));
    PROVOKES_IN_CHILD(QUERN_CLOSED, "fork", quern_session_futures(client, 0, &left, &size));
    PROVOKES_IN_CHILD(QUERN_CLOSED, "fork", quern_cancel(client, id, false, 0));
    PROVOKES_IN_CHILD(QUERN_CLOSED, "fork", quern_retry(client, id, NULL, NULL, 0));
    PROVOKES_IN_CHILD(QUERN_CLOSED, "fork", quern_session_close(client, "nightly", 0, 0));
    PROVOKES_IN_CHILD(QUERN_CLOSED, "fork", quern_query(client, "status", NULL, 0, 0, &answer, &size));
    PROVOKES_IN_CHILD(QUERN_CLOSED, "fork", quern_group_open(client, NULL, 0, &group));
    PROVOKES_IN_CHILD(QUERN_CLOSED, "fork", quern_group_submit(group, &call, NULL));
    PROVOKES_IN_CHILD(QUERN_CLOSED, "fork", quern_group_cancel(group, false));
    PROVOKES_IN_CHILD(QUERN_CLOSED, "fork", quern_group_wait(group, 0));
    PROVOKES_IN_CHILD(QUERN_CLOSED, "fork", quern_group_close(&group, NULL));
    PROVOKES_IN_CHILD(QUERN_CLOSED, "fork", quern_map_open(client, &options, one_input, &count, &next));
    PROVOKES_IN_CHILD(QUERN_CLOSED, "fork", quern_map_next(map, 0, &item));
    PROVOKES_IN_CHILD(QUERN_CLOSED, "fork", quern_future_wait(future, 0, &outcome));
    PROVOKES_IN_CHILD(QUERN_CLOSED, "fork", quern_future_result(future, 0, &outcome));
    PROVOKES_IN_CHILD(QUERN_CLOSED, "fork", quern_future_on_done(future, count_nothing, NULL));
    PROVOKES_IN_CHILD(QUERN_CLOSED, "fork", quern_future_cancel(future, false, 0));
    PROVOKES_IN_CHILD(QUERN_CLOSED, "fork", quern_future_info(future, 0, &info));
    PROVOKES_IN_CHILD(QUERN_CLOSED, "fork", quern_wait(&future, 1, QUERN_ALL_COMPLETED, 0, NULL, NULL));
    PROVOKES_IN_CHILD(QUERN_CLOSED, "fork", quern_as_completed(&future, 1, 0, &more));
    PROVOKES_IN_CHILD(QUERN_CLOSED, "fork", quern_set_add(set, future));
    PROVOKES_IN_CHILD(QUERN_CLOSED, "fork", quern_set_next(set, 0, &second));
    quern_set_close(&set);
    quern_map_close(&map);
    assert_int_equal(quern_group_close(&group, NULL), QUERN_OK);
    close_all(client, &future, 1);
}

/* ---- a group's submit ---- */

/* It answers what quern_submit does, and queues nothing then. */
static void test_a_groups_submit_answers_as_submit(void **state)
{
    static const char big[PAYLOAD_SIZE_MAX + 1];
    struct fake *fake = *state;
    struct quern_client *client = open_default(fake);
    struct quern_call call = call_of("\x91\x07");
    struct quern_group *group = NULL;
    assert_int_equal(quern_group_open(client, NULL, 0, &group), QUERN_OK);
    call.priority = 1001;
    PROVOKES(QUERN_INVALID, "priority", quern_group_submit(group, &call, NULL));
    call = call_of("\x91\x07");
    call.args = big;
    call.args_size = sizeof(big);
    PROVOKES(QUERN_TOO_BIG, "the limit is", quern_group_submit(group, &call, NULL));
    PROVOKES(QUERN_TOO_BIG, "the limit is", quern_submit(client, &call, NULL, NULL));
    SET(holds_answers, true);
    submit_plain(client, 20000);
    call = call_of("\x91\x07");
    call.wait_ms = 0;
    PROVOKES(QUERN_FULL, "20000 submits", quern_group_submit(group, &call, NULL));
    SET(holds_answers, false);
    assert_int_equal(quern_group_close(&group, NULL), QUERN_OK);
    assert_int_equal(quern_client_close(&client, 0), QUERN_OK);
    fake_lock(fake);
    assert_int_equal(fake->submit_count, 20000);
    fake_unlock(fake);
}

static void test_waits_of_a_map(void **state)
{
    const enum quern_err ends[] = {QUERN_TAKEN_OVER, QUERN_CLOSED};
    struct fake *fake = *state;
    SET(is_by_hand, true);
    for (size_t i = 0; i < 2; i++) {
        struct quern_client *client = open_default(fake);
        struct quern_map_options options = QUERN_MAP_OPTIONS_INIT;
        struct quern_map_item item = {0};
        struct quern_map *map = NULL;
        unsigned count = 0;
        options.call.function = "square";
        assert_int_equal(quern_map_open(client, &options, one_input, &count, &map), QUERN_OK);
        PROVOKES(QUERN_TIMEOUT, "0 of 1 items", quern_map_next(map, 0, &item));
        end_client(fake, client, ends[i]);
        if (ends[i] == QUERN_TAKEN_OVER) {
            PROVOKES(QUERN_TAKEN_OVER, "there:99", quern_map_next(map, 0, &item));
        } else {
            PROVOKES(QUERN_CLOSED, "there:99", quern_map_next(map, 0, &item));
        }
        quern_map_close(&map);
        (void)quern_client_close(&client, 0);
    }
}

/* ---- times that are over ---- */

static void test_times_that_are_over(void **state)
{
    struct fake *fake = *state;
    struct quern_future *future = NULL;
    struct quern_future *given = NULL;
    struct quern_outcome *outcome = NULL;
    struct quern_task_info info = QUERN_TASK_INFO_INIT;
    struct quern_set *set = NULL;
    void *answer = NULL;
    size_t size = 0;
    struct quern_client *client = open_by_hand(fake, &future, 1);
    assert_int_equal(quern_as_completed(&future, 1, QUERN_FOREVER, &set), QUERN_OK);
    submit_plain(client, 1);
    fake_lock(fake);
    fake->holds_replies = fake->holds_answers = true;
    fake_unlock(fake);
    PROVOKES(QUERN_TIMEOUT, "no outcome came", quern_next(client, 0, &outcome));
    PROVOKES(QUERN_TIMEOUT, "1 of 1 futures", quern_set_next(set, 0, &given));
    PROVOKES(QUERN_TIMEOUT, "not answered", quern_future_info(future, 0, &info));
    PROVOKES(QUERN_TIMEOUT, "not answered", quern_retry(client, quern_future_id(future), NULL, NULL, 0));
    PROVOKES(QUERN_TIMEOUT, "not answered", quern_session_close(client, "nightly", 0, 0));
    PROVOKES(QUERN_TIMEOUT, "not answered", quern_query(client, "status", NULL, 0, 0, &answer, &size));
    submit_plain(client, 1);
    PROVOKES(QUERN_TIMEOUT, "have no answer", quern_flush(client, 0));
    fake_lock(fake);
    fake->holds_replies = fake->holds_answers = false;
    fake_unlock(fake);
    quern_set_close(&set);
    close_all(client, &future, 1);
}

/* ---- what is not there, or over ---- */

static void test_nothing_is_outstanding(void **state)
{
    struct quern_client *client = open_default(*state);
    struct quern_outcome *outcome = NULL;
    PROVOKES(QUERN_END, "nothing is outstanding", quern_next(client, QUERN_FOREVER, &outcome));
    assert_int_equal(quern_client_close(&client, 0), QUERN_OK);
}

static void test_tasks_that_futures_cannot_be_had_for(void **state)
{
    struct fake *fake = *state;
    struct quern_future *future = NULL;
    struct quern_future *second = NULL;
    struct quern_client *client = open_by_hand(fake, &future, 1);
    uint64_t none = id_make(FAKE_SERIES - 1, 77);
    PROVOKES(QUERN_UNKNOWN, "no task 6-77", quern_future_open(client, none, WAIT_MS, &second));
    PROVOKES(QUERN_DUPLICATE, "7-1", quern_future_open(client, quern_future_id(future), WAIT_MS, &second));
    assert_null(second);
    close_all(client, &future, 1);
}

/* The broker's verdicts, as it sends them. */
#define ANSWERED(code, call)                                                                                           \
    do {                                                                                                               \
        fake_lock(fake);                                                                                               \
        fake->reply_code = code;                                                                                       \
        fake_unlock(fake);                                                                                             \
        PROVOKES(code, quern_err_text(code), call);                                                                    \
    } while (0)

static void test_what_a_broker_answers(void **state)
{
    struct fake *fake = *state;
    struct quern_client *client = open_default(fake);
    uint64_t id = id_make(FAKE_SERIES - 1, 1);
    void *answer = NULL;
    size_t size = 0;
    ANSWERED(QUERN_FINISHED, quern_cancel(client, id, false, WAIT_MS));
    ANSWERED(QUERN_UNKNOWN, quern_cancel(client, id, false, WAIT_MS));
    ANSWERED(QUERN_FULL, quern_cancel(client, id, false, WAIT_MS));
    ANSWERED(QUERN_UNKNOWN, quern_retry(client, id, NULL, NULL, WAIT_MS));
    ANSWERED(QUERN_NOT_FINISHED, quern_retry(client, id, NULL, NULL, WAIT_MS));
    ANSWERED(QUERN_FORGOTTEN, quern_retry(client, id, NULL, NULL, WAIT_MS));
    ANSWERED(QUERN_FULL, quern_retry(client, id, NULL, NULL, WAIT_MS));
    ANSWERED(QUERN_UNKNOWN, quern_session_close(client, "nightly", 0, WAIT_MS));
    ANSWERED(QUERN_UNKNOWN, quern_query(client, "show", NULL, 0, WAIT_MS, &answer, &size));
    ANSWERED(QUERN_NOT_FINISHED, quern_query(client, "result", NULL, 0, WAIT_MS, &answer, &size));
    ANSWERED(QUERN_UNSUPPORTED, quern_query(client, "weather", NULL, 0, WAIT_MS, &answer, &size));
    PROVOKES(QUERN_INVALID, "msgpack map", quern_query(client, "list", "\x90", 1, WAIT_MS, &answer, &size));
    PROVOKES(QUERN_INVALID, "as in #7", quern_session_close(client, "#seven", 0, WAIT_MS));
    assert_null(answer);
    SET(reply_code, QUERN_OK);
    PROVOKES(QUERN_PROTOCOL, "names no task",
             quern_retry(client, id, NULL, NULL, WAIT_MS)); /* the fake's OK is empty */
    assert_int_equal(quern_client_close(&client, 0), QUERN_OK);
}

/* Programs built against a newer header must not have a wish dropped in silence. */
static void test_a_field_of_a_newer_version_is_refused_in_every_struct(void **state)
{
    struct fake *fake = *state;
    struct quern_client *client = open_default(fake);
    struct quern_pool *pool = NULL;
    struct {
        struct quern_call known;
        uint64_t newer;
    } call = {QUERN_CALL_INIT, 1};
    struct {
        struct quern_pool_options known;
        uint64_t newer;
    } options = {QUERN_POOL_OPTIONS_INIT, 1};
    call.known.size = sizeof call;
    call.known.function = "square";
    options.known.size = sizeof options;
    PROVOKES(QUERN_UNSUPPORTED, "newer quern", quern_submit(client, &call.known, NULL, NULL));
    PROVOKES(QUERN_UNSUPPORTED, "newer quern", quern_pool_open(&options.known, &pool));
    assert_null(pool);
    assert_int_equal(quern_client_close(&client, 0), QUERN_OK);
}

/* What was waited for is refused for good: the future says with which code. */
static void test_a_refused_submit_is_its_refusals_code(void **state)
{
    struct fake *fake = *state;
    struct quern_client *client = open_default(fake);
    struct quern_call call = call_of("\x91\x07");
    struct quern_future *future = NULL;
    struct quern_outcome *outcome = NULL;
    call.wait_ms = 0;
    fake_lock(fake);
    fake->refuse = QUERN_DISK;
    fake->refuse_count = 1;
    fake_unlock(fake);
    assert_int_equal(quern_submit(client, &call, &future, NULL), QUERN_OK);
    PROVOKES(QUERN_DISK, "refused", quern_future_result(future, WAIT_MS, &outcome));
    assert_int_equal(outcome->refusal, QUERN_DISK);
    quern_outcome_release(&outcome);
    PROVOKES(QUERN_DISK, "disk", quern_flush(client, WAIT_MS));
    close_all(client, &future, 1);
}

/* ---- in a handler ---- */

static bool give_nothing(void *self, int64_t deadline_ms)
{
    (void)self;
    (void)deadline_ms;
    return false;
}

static void take_nothing(void *self)
{
    (void)self;
}

/* A group that is left so goes before the answers to its submits come. */
static void test_waits_in_a_handler_when_too_many_wait(void **state)
{
    const struct place place = {.give = give_nothing, .take = take_nothing};
    struct fake *fake = *state;
    struct quern_future *future = NULL;
    struct quern_outcome *outcome = NULL;
    struct quern_group *group = NULL;
    struct quern_call call = call_of("\x91\x07");
    struct quern_task task = {0};
    struct quern_client *client = open_by_hand(fake, &future, 1);
    SET(holds_answers, true);
    assert_int_equal(quern_group_open(client, NULL, 0, &group), QUERN_OK);
    assert_int_equal(quern_group_submit(group, &call, NULL), QUERN_OK);
    submit_plain(client, 1);
    quern_place_begin(&place, 0);
    PROVOKES(QUERN_FULL, "wait inside their handlers", quern_next(client, WAIT_MS, &outcome));
    PROVOKES(QUERN_FULL, "wait inside their handlers", quern_group_close(&group, NULL));
    assert_int_equal(quern_task_wait_begin(&task), QUERN_FULL);
    quern_place_end();
    SET(holds_answers, false);
    assert_int_equal(quern_flush(client, WAIT_MS), QUERN_OK);
    close_all(client, &future, 1);
}

/* ---- pools ---- */

static void test_pools_that_do_not_start(void **state)
{
    static const char *const idle[] = {"--log-level", "error", NULL};
    static const char *const commands[] = {"--allow-commands", NULL};
    struct fake *fake = *state;
    struct quern_pool_options options = QUERN_POOL_OPTIONS_INIT;
    struct quern_pool *pool = NULL;
    options.worker_args = commands;
    assert_int_equal(setenv("XDG_RUNTIME_DIR", fake->directory, 1), 0);
    assert_int_equal(setenv("QUERN_BIN", BUILD_DIR "/bin", 1), 0);
    options.slots = 2000;
    PROVOKES(QUERN_INVALID, "2000 slots", quern_pool_open(&options, &pool));
    options.slots = 1;
    options.start_timeout_ms = 1;
    PROVOKES(QUERN_TIMEOUT, "not ready in time", quern_pool_open(&options, &pool));
    options.start_timeout_ms = 60000;
    options.worker_args = idle;
    PROVOKES(QUERN_IO, "nothing to serve", quern_pool_open(&options, &pool));
    assert_null(pool);
}

/* The third is in the hands of a worker while the ready ones are listed, and is given back before the leased ones are:
 * it is cancelled all the same, and does not run while the pool waits for it. */
static void test_what_is_given_back_while_queued_tasks_are_cancelled_is_cancelled(void **state)
{
    struct fake *fake = *state;
    struct quern_pool_options options = QUERN_POOL_OPTIONS_INIT;
    struct quern_pool *pool = NULL;
    options.url = fake->url;
    options.session = "nightly";
    fake_lock(fake);
    fake->is_by_hand = fake->obeys_cancel = true;
    fake->late_sequence = 3;
    fake_unlock(fake);
    assert_int_equal(quern_pool_open(&options, &pool), QUERN_OK);
    submit_plain(quern_pool_client(pool), 5);
    assert_int_equal(quern_pool_shutdown(pool, QUERN_POOL_CANCEL_QUEUED | QUERN_POOL_NO_WAIT), QUERN_OK);
    fake_lock(fake);
    unsigned cancelled = fake->cancel_count;
    uint64_t ended = fake->completion_last;
    fake_unlock(fake);
    assert_int_equal(cancelled, 5);
    assert_int_equal(ended, 5);
    assert_int_equal(quern_pool_close(&pool, 0), QUERN_OK);
}

static void test_a_pool_over_others_whose_client_ends(void **state)
{
    struct fake *fake = *state;
    struct quern_pool_options options = QUERN_POOL_OPTIONS_INIT;
    struct quern_pool *pool = NULL;
    options.url = fake->url;
    SET(is_by_hand, true);
    assert_int_equal(quern_pool_open(&options, &pool), QUERN_OK);
    PROVOKES_IN_CHILD(QUERN_CLOSED, "fork", quern_pool_shutdown(pool, 0));
    submit_plain(quern_pool_client(pool), 1);
    end_client(fake, quern_pool_client(pool), QUERN_TAKEN_OVER);
    PROVOKES(QUERN_TAKEN_OVER, "there:99", quern_pool_shutdown(pool, 0));
    PROVOKES(QUERN_TAKEN_OVER, "there:99", quern_pool_close(&pool, 0));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_FAKE(test_what_a_broker_denies_at_opening),
        cmocka_unit_test(test_options_that_are_too_big),
        WITH_FAKE(test_closing_with_submits_that_nobody_answers),
        WITH_FAKE(test_closing_in_a_child),
        WITH_FAKE(test_flags_that_are_not_known_close_nothing),
        WITH_FAKE(test_a_client_for_which_there_is_no_descriptor),
        WITH_FAKE(test_a_callback_for_which_there_is_no_thread),
        WITH_FAKE(test_waits_of_a_client_that_was_taken_over),
        WITH_FAKE(test_waits_of_a_client_whose_session_is_gone),
        WITH_FAKE(test_calls_of_a_client_that_was_taken_over),
        cmocka_unit_test(test_null_is_said_so_by_every_call),
        cmocka_unit_test(test_null_may_be_closed_and_released),
        WITH_FAKE(test_null_to_be_written_is_said_so_by_every_call),
        WITH_FAKE(test_what_needs_a_session_says_so),
        WITH_FAKE(test_every_call_in_a_child),
        WITH_FAKE(test_a_groups_submit_answers_as_submit),
        WITH_FAKE(test_waits_of_a_map),
        WITH_FAKE(test_times_that_are_over),
        WITH_FAKE(test_nothing_is_outstanding),
        WITH_FAKE(test_tasks_that_futures_cannot_be_had_for),
        WITH_FAKE(test_what_a_broker_answers),
        WITH_FAKE(test_a_field_of_a_newer_version_is_refused_in_every_struct),
        WITH_FAKE(test_a_refused_submit_is_its_refusals_code),
        WITH_FAKE(test_waits_in_a_handler_when_too_many_wait),
        WITH_FAKE(test_pools_that_do_not_start),
        WITH_FAKE(test_what_is_given_back_while_queued_tasks_are_cancelled_is_cancelled),
        WITH_FAKE(test_a_pool_over_others_whose_client_ends),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

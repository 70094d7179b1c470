/*
 * test_worker_calls: what a real quern-worker calls: commands, the functions that come with it, and those of a program
 * of one's own. The broker is one of a few lines (worker_world.c).
 * Start reading anywhere.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/clock.h"
#include "common/random.h"
#include "quern/worker.h"
#include "unit/worker_world.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- commands ---- */

static void test_command_gives_output_status_and_reads_its_input(void **state)
{
    (void)state;
    struct world *world = ww_begin_with("1");
    struct quern_writer *args = quern_writer_new();
    quern_write_array(args, 2);
    quern_write_array(args, 3);
    quern_write_text(args, "sh");
    quern_write_text(args, "-c");
    quern_write_text(args, "cat; echo \"$COLOUR\" >&2; pwd; exit 7");
    quern_write_map(args, 3);
    quern_write_text(args, "stdin");
    quern_write_bin(args, "input\n", 6);
    quern_write_text(args, "env");
    quern_write_map(args, 1);
    quern_write_text(args, "COLOUR");
    quern_write_text(args, "blue");
    quern_write_text(args, "cwd");
    quern_write_text(args, "/usr");
    ww_dispatch(world, 1, &(struct ww_call){.function = FUNCTION_COMMAND}, args);
    ww_await(world, ww_is_finished, 1, "command");
    assert_int_equal(world->tasks[1].last.state, FINISHED_FAILED);
    assert_string_equal(world->tasks[1].kind, "ExitStatus");
    assert_string_equal(world->tasks[1].message, "exit status 7");
    assert_string_equal(ww_result_text(world, 1, "stdout"), "input\n/usr\n");
    assert_string_equal(ww_result_text(world, 1, "stderr"), "blue\n");
    assert_int_equal(ww_result_key_i64(world, 1, "exit_status"), 7);
    assert_int_equal(ww_end(&world), 0);
}

static void dispatch_argv(struct world *world, uint64_t task, const char *word, const char *cwd)
{
    struct quern_writer *args = quern_writer_new();
    quern_write_array(args, 2);
    quern_write_array(args, 1);
    quern_write_text(args, word);
    quern_write_map(args, 1);
    quern_write_text(args, "cwd");
    quern_write_text(args, cwd);
    ww_dispatch(world, task, &(struct ww_call){.function = FUNCTION_COMMAND}, args);
    ww_await(world, ww_is_finished, task, "command");
}

static void test_command_failures_have_their_kinds(void **state)
{
    (void)state;
    struct world *world = ww_begin_with("1");
    dispatch_argv(world, 1, "true", "/no/such/directory");
    assert_string_equal(world->tasks[1].kind, "NoDirectory");
    assert_non_null(strstr(world->tasks[1].message, "/no/such/directory"));
    dispatch_argv(world, 2, "no-such-command-here", "/");
    assert_string_equal(world->tasks[2].kind, "NotFound");
    dispatch_argv(world, 3, "/etc/passwd", "/");
    assert_string_equal(world->tasks[3].kind, "NotExecutable");
    ww_dispatch_shell(world, 4, "kill -9 $$", 0);
    ww_await(world, ww_is_finished, 4, "kill");
    assert_string_equal(world->tasks[4].kind, "Signal");
    assert_int_equal(world->tasks[4].last.cause, CAUSE_ERROR);
    ww_dispatch_shell(world, 5, "head -c 17000000 /dev/zero", 0);
    ww_await(world, ww_is_finished, 5, "head");
    assert_string_equal(world->tasks[5].kind, "OutputTooBig");
    ww_dispatch_shell(world, 6, "head -c 16000000 /dev/zero", 0);
    ww_await(world, ww_is_finished, 6, "head");
    assert_int_equal(world->tasks[6].last.state, FINISHED_DONE);
    assert_int_equal(ww_end(&world), 0);
}

/* A command that leaves something running neither hangs its task nor leaves anything behind. */
static void test_command_leaves_nothing_behind(void **state)
{
    (void)state;
    struct world *world = ww_begin_with("1");
    ww_dispatch_shell(world, 1, "setsid sleep 1000 & echo done", 0);
    ww_await(world, ww_is_finished, 1, "command");
    assert_string_equal(ww_result_text(world, 1, "stdout"), "done\n");
    assert_int_equal(ww_process_count(world), 3);
    assert_int_equal(ww_end(&world), 0);
}

/* wordcount must agree with wc and sha256sum on any bytes. */
static void test_wordcount_counts_as_wc_does(void **state)
{
    (void)state;
    struct world *world = ww_begin_with("1");
    char path[128];
    char text[128];
    snprintf(path, sizeof(path), "%s/words", world->directory);
    for (uint64_t task = 1; task < 40; task += 2) {
        uint8_t bytes[4000];
        size_t size = (size_t)(random_u64() % sizeof(bytes));
        random_fill(bytes, size);
        FILE *file = fopen(path, "we");
        assert_non_null(file);
        assert_int_equal(fwrite(bytes, 1, size, file), size);
        assert_int_equal(fclose(file), 0);
        struct quern_writer *args = quern_writer_new();
        quern_write_array(args, 1);
        quern_write_text(args, path);
        ww_dispatch(world, task, &(struct ww_call){.function = "wordcount"}, args);
        ww_dispatch_shell(world, task + 1,
                          "LC_ALL=C wc < words | tr -s ' ' | sed 's/^ //'; sha256sum < words | cut -c 1-64", 0);
        ww_await(world, ww_is_finished, task, "wordcount");
        ww_await(world, ww_is_finished, task + 1, "wc");
        int n = snprintf(text, sizeof(text), "%lld %lld %lld\n", (long long)ww_result_key_i64(world, task, "lines"),
                         (long long)ww_result_key_i64(world, task, "words"),
                         (long long)ww_result_key_i64(world, task, "bytes"));
        snprintf(text + n, sizeof(text) - (size_t)n, "%s\n", ww_result_text(world, task, "sha256"));
        assert_string_equal(text, ww_result_text(world, task + 1, "stdout"));
    }
    assert_int_equal(ww_end(&world), 0);
}

static const char *digits(struct world *world, uint64_t task)
{
    static char text[256];
    struct quern_reader reader;
    const char *p;
    size_t n;
    quern_reader_init(&reader, world->tasks[task].result.p, world->tasks[task].result.n);
    assert_int_equal(quern_read_str(&reader, &p, &n), QUERN_OK);
    snprintf(text, sizeof(text), "%.*s", (int)n, p);
    return text;
}

/* Beyond 64 bits results are decimal text, never a rounded number. */
static void test_large_results_are_exact(void **state)
{
    (void)state;
    struct world *world = ww_begin_with("1");
    ww_dispatch_i64(world, 1, "factorial", 20);
    ww_dispatch_i64(world, 2, "factorial", 25);
    ww_dispatch_i64(world, 3, "fibonacci", 90);
    ww_dispatch_i64(world, 4, "fibonacci", 100);
    ww_dispatch_i64(world, 5, "is_prime", INT64_C(9223372036854775783));
    ww_dispatch_i64(world, 6, "is_prime", INT64_C(3215031751)); /* fools the bases 2, 3, 5 and 7 */
    ww_await(world, ww_all_ended, 6, "numbers");
    assert_int_equal(ww_result_i64(world, 1), INT64_C(2432902008176640000));
    assert_string_equal(digits(world, 2), "15511210043330985984000000");
    assert_int_equal(ww_result_i64(world, 3), INT64_C(2880067194370816120));
    assert_string_equal(digits(world, 4), "354224848179261915075");
    assert_int_equal(world->tasks[5].result.p[0], 0xc3); /* true */
    assert_int_equal(world->tasks[6].result.p[0], 0xc2); /* false */
    assert_int_equal(ww_end(&world), 0);
}

/* The default queue of a slot stays short behind long tasks, and all slots are used. */
static void test_long_tasks_spread_over_the_slots(void **state)
{
    (void)state;
    struct world *world = ww_begin_with("4");
    int64_t begun_ms = clock_mono_ms();
    for (uint64_t task = 1; task <= 8; task++) {
        ww_dispatch_f64(world, task, "sleep", 0.5);
    }
    ww_await(world, ww_all_ended, 8, "sleeps");
    assert_true(clock_mono_ms() - begun_ms < 1900);
    assert_true(world->capacity <= 8);
    assert_int_equal(ww_end(&world), 0);
}

/* ---- a program of one's own ---- */

static int preloaded;

static enum quern_err initialise(const char **text_out)
{
    *text_out = "not reached";
    preloaded++;
    return QUERN_OK;
}

static enum quern_err run_preloaded(struct quern_task *task, struct quern_reader *args, struct quern_writer *result)
{
    (void)task;
    (void)args;
    quern_write_i64(result, preloaded);
    return QUERN_OK;
}

static enum quern_err run_huge(struct quern_task *task, struct quern_reader *args, struct quern_writer *result)
{
    (void)task;
    (void)args;
    void *p = calloc(1, PAYLOAD_SIZE_MAX);
    quern_write_bin(result, p, PAYLOAD_SIZE_MAX);
    free(p);
    return QUERN_OK;
}

static enum quern_err run_half(struct quern_task *task, struct quern_reader *args, struct quern_writer *result)
{
    (void)task;
    (void)args;
    quern_write_map(result, 2);
    quern_write_text(result, "only one key");
    return QUERN_OK;
}

static enum quern_err run_nothing(struct quern_task *task, struct quern_reader *args, struct quern_writer *result)
{
    (void)task;
    (void)args;
    (void)result;
    return QUERN_OK;
}

static enum quern_err run_bare_error(struct quern_task *task, struct quern_reader *args, struct quern_writer *result)
{
    (void)args;
    (void)result;
    quern_task_detail(task, "traceback", 9);
    return QUERN_RANGE;
}

/* Kind and message that are no UTF-8, and a result that must not come along. */
static enum quern_err run_wild_text(struct quern_task *task, struct quern_reader *args, struct quern_writer *result)
{
    (void)args;
    quern_write_i64(result, 1);
    return quern_task_fail(task, "K\xff", "m\xc3(%s", "x");
}

static enum quern_err run_remaining(struct quern_task *task, struct quern_reader *args, struct quern_writer *result)
{
    (void)args;
    quern_task_progress(task, 0.5, "half");
    poll(NULL, 0, 300);
    quern_write_i64(result, quern_task_remaining_ms(task));
    return QUERN_OK;
}

/* Overwrites every shared mapping it finds: what a wild pointer could do at worst. */
static enum quern_err run_scribble(struct quern_task *task, struct quern_reader *args, struct quern_writer *result)
{
    (void)task;
    (void)args;
    (void)result;
    FILE *maps = fopen("/proc/self/maps", "re");
    char line[512];
    while (maps != NULL && fgets(line, sizeof(line), maps) != NULL) {
        unsigned long from;
        unsigned long to;
        if (strstr(line, "quern-slot") != NULL && sscanf(line, "%lx-%lx", &from, &to) == 2) {
            memset((void *)from, 0xa5, to - from);
        }
    }
    return QUERN_OK;
}

static const struct quern_function own_functions[] = {
    {"preloaded", run_preloaded},
    {"huge", run_huge},
    {"half", run_half},
    {"nothing", run_nothing},
    {"bare_error", run_bare_error},
    {"wild_text", run_wild_text},
    {"remaining", run_remaining},
    {"scribble", run_scribble},
    {NULL, NULL},
};
static const struct quern_module own_module = {
    .size = sizeof(struct quern_module), .functions = own_functions, .initialise = initialise};

static void run_own(struct world *world, uint64_t task, const char *function)
{
    ww_dispatch(world, task, &(struct ww_call){.function = function}, NULL);
    ww_await(world, ww_is_finished, task, function);
}

/* A user's program is a worker by one call; what its initialiser loads is there in every slot, and ran once. */
static void test_program_of_ones_own_is_a_worker(void **state)
{
    (void)state;
    struct world *world = ww_begin();
    ww_program(world, "2");
    for (uint64_t task = 1; task <= 4; task++) {
        run_own(world, task, "preloaded");
        assert_int_equal(ww_result_i64(world, task), 1);
    }
    run_own(world, 5, "nothing");
    assert_int_equal(world->tasks[5].last.state, FINISHED_DONE);
    assert_int_equal(world->tasks[5].result.n, 1);
    assert_int_equal(world->tasks[5].result.p[0], 0xc0);
    assert_int_equal(ww_end(&world), 0);
}

static void test_results_that_cannot_be_sent_are_unencodable(void **state)
{
    (void)state;
    struct world *world = ww_begin();
    ww_program(world, "1");
    run_own(world, 1, "huge");
    assert_int_equal(world->tasks[1].last.cause, CAUSE_UNENCODABLE);
    assert_non_null(strstr(world->tasks[1].message, "16 MiB"));
    run_own(world, 2, "half");
    assert_int_equal(world->tasks[2].last.cause, CAUSE_UNENCODABLE);
    assert_non_null(strstr(world->tasks[2].message, "incomplete"));
    assert_int_equal(ww_end(&world), 0);
}

static void test_failures_carry_kind_message_and_detail(void **state)
{
    (void)state;
    struct world *world = ww_begin();
    ww_program(world, "1");
    run_own(world, 1, "bare_error");
    assert_int_equal(world->tasks[1].last.cause, CAUSE_ERROR);
    assert_string_equal(world->tasks[1].kind, "range");
    assert_int_equal(world->tasks[1].last.detail.n, 9);
    run_own(world, 2, "wild_text");
    assert_string_equal(world->tasks[2].kind, "K?");
    assert_string_equal(world->tasks[2].message, "m?(x");
    assert_int_equal(world->tasks[2].result.n, 0);
    assert_int_equal(ww_end(&world), 0);
}

static bool has_progress(struct world *world, uint64_t task)
{
    return world->tasks[task].progress > 0.4;
}

static void test_progress_and_remaining_time(void **state)
{
    (void)state;
    struct world *world = ww_begin();
    ww_program(world, "1");
    ww_dispatch(world, 1, &(struct ww_call){.function = "remaining", .timeout_ms = 60000}, NULL);
    ww_await(world, has_progress, 1, "progress");
    assert_string_equal(world->tasks[1].progress_text, "half");
    ww_await(world, ww_is_finished, 1, "remaining");
    assert_in_range(ww_result_i64(world, 1), 1, 59700);
    run_own(world, 2, "remaining");
    assert_int_equal(ww_result_i64(world, 2), -1);
    assert_int_equal(ww_end(&world), 0);
}

/* A handler that overwrites the shared memory costs itself, not the worker. */
static void test_scribbling_over_shared_memory_costs_one_attempt(void **state)
{
    (void)state;
    struct world *world = ww_begin();
    ww_program(world, "1");
    run_own(world, 1, "scribble");
    assert_int_equal(world->tasks[1].last.cause, CAUSE_CRASHED);
    run_own(world, 2, "preloaded");
    assert_int_equal(ww_result_i64(world, 2), 1);
    assert_int_equal(ww_end(&world), 0);
}

int main(int argc, char **argv)
{
    if (ww_is_program(argc, argv)) {
        return quern_worker_main(argc, argv, &own_module);
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_command_gives_output_status_and_reads_its_input),
        cmocka_unit_test(test_command_failures_have_their_kinds),
        cmocka_unit_test(test_command_leaves_nothing_behind),
        cmocka_unit_test(test_wordcount_counts_as_wc_does),
        cmocka_unit_test(test_large_results_are_exact),
        cmocka_unit_test(test_long_tasks_spread_over_the_slots),
        cmocka_unit_test(test_program_of_ones_own_is_a_worker),
        cmocka_unit_test(test_results_that_cannot_be_sent_are_unencodable),
        cmocka_unit_test(test_failures_carry_kind_message_and_detail),
        cmocka_unit_test(test_progress_and_remaining_time),
        cmocka_unit_test(test_scribbling_over_shared_memory_costs_one_attempt),
    };
    if (argc > 1) {
        cmocka_set_test_filter(argv[1]);
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}

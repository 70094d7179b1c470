/* Options of the command line, and the description that tells whether two runs are the same work. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "client/cli/describe.h"
#include "client/cli/options.h"
#include "client/cli/when.h"
#include "common/codec.h"
#include "common/limits.h"
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define WORDS_MAX 16

struct parsed {
    struct cli cli;
    struct task_options task;
    struct arguments arguments;
    const char *session;
    bool detach;
    char *words[WORDS_MAX];
    int status;
};

/* Ends with NULL. */
static void parse(struct parsed *parsed, ...)
{
    struct option table[TASK_OPTION_COUNT + 2] = {
        {.name = "session", .kind = OPTION_TEXT, .to = &parsed->session},
        {.name = "detach", .kind = OPTION_FLAG, .to = &parsed->detach},
    };
    va_list list;
    *parsed = (struct parsed){.cli = {.connect_timeout_ms = 5000}};
    parsed->arguments = (struct arguments){.command = "submit", .cli = &parsed->cli, .words = parsed->words};
    va_start(list, parsed);
    for (char *word; (word = va_arg(list, char *)) != NULL;) {
        parsed->words[parsed->arguments.word_count++] = word;
    }
    va_end(list);
    task_options_init(&parsed->task);
    task_options_table(&parsed->task, table + 2);
    parsed->status = arguments_parse(&parsed->arguments, table, TASK_OPTION_COUNT + 2);
    if (parsed->status == ARGUMENTS_GO_ON) {
        parsed->status = task_options_check(&parsed->task, &parsed->arguments);
    }
}

static void test_options_stand_anywhere_and_the_rest_keeps_its_order(void **state)
{
    (void)state;
    struct parsed p;
    parse(&p, "f", "--json", "1", "--session", "night", "--url=ipc://x", "2", "--detach", NULL);
    assert_int_equal(p.status, ARGUMENTS_GO_ON);
    assert_int_equal(p.arguments.word_count, 3);
    assert_string_equal(p.words[0], "f");
    assert_string_equal(p.words[1], "1");
    assert_string_equal(p.words[2], "2");
    assert_true(p.cli.json);
    assert_true(p.detach);
    assert_string_equal(p.session, "night");
    assert_string_equal(p.cli.url, "ipc://x");
}

/* `quern submit square -5` must work. */
static void test_negative_numbers_are_values(void **state)
{
    (void)state;
    struct parsed p;
    parse(&p, "f", "-5", "-0.5", "-", "--priority", "-7", NULL);
    assert_int_equal(p.status, ARGUMENTS_GO_ON);
    assert_int_equal(p.arguments.word_count, 4);
    assert_string_equal(p.words[1], "-5");
    assert_int_equal(p.task.priority, -7);
}

static void test_memory_is_a_size_and_grows_by_a_factor(void **state)
{
    (void)state;
    struct parsed p;
    parse(&p, "f", "--memory", "500M", "--memory-growth", "1.5:8G", "--attempts", "3", "--alone-on-retry", NULL);
    assert_int_equal(p.status, ARGUMENTS_GO_ON);
    struct quern_call call = QUERN_CALL_INIT;
    task_options_apply(&p.task, &call);
    assert_true(call.memory_bytes == 500 * MIB && call.memory_cap_bytes == 8 * GIB);
    assert_int_equal(call.memory_growth, 150);
    assert_int_equal(call.alone, QUERN_ALONE_RETRIED);
    parse(&p, "f", "--memory=1000", "--alone", NULL);
    assert_int_equal(p.status, ARGUMENTS_GO_ON);
    task_options_apply(&p.task, &call);
    assert_true(call.memory_bytes == 1000 && call.memory_growth == 0);
    assert_int_equal(call.alone, QUERN_ALONE_ALWAYS);
}

static void test_memory_that_makes_no_sense_is_refused(void **state)
{
    (void)state;
    struct parsed p;
    static char *const bad[][5] = {
        {"--memory", "0"},
        {"--memory", "5T"},
        {"--memory", "-5"},
        {"--memory", "99999999999G"},
        {"--memory-growth", "2", "--attempts=2"},
        {"--memory=1M", "--memory-growth", "0.5", "--attempts=2"},
        {"--memory=1M", "--memory-growth", "101", "--attempts=2"},
        {"--memory=1M", "--memory-growth", "2"},
        {"--memory=1G", "--memory-growth", "2:1M", "--attempts=2"},
        {"--memory=1G", "--memory-growth", "2:", "--attempts=2"},
        {"--alone-on-retry"},
        {"--alone", "--alone-on-retry", "--attempts=2"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        parse(&p, bad[i][0], bad[i][1], bad[i][2], bad[i][3], bad[i][4], NULL);
        assert_int_equal(p.status, STATUS_USAGE);
    }
}

static void test_deaths_have_limits_of_their_own(void **state)
{
    (void)state;
    struct parsed p;
    struct quern_call call = QUERN_CALL_INIT;
    parse(&p, "f", NULL);
    task_options_apply(&p.task, &call);
    assert_true(call.crashes_max == 0 && call.losses_max == 0);
    parse(&p, "f", "--crashes", "1", "--losses", "1000", NULL); /* without --attempts: they do not count there */
    assert_int_equal(p.status, ARGUMENTS_GO_ON);
    task_options_apply(&p.task, &call);
    assert_true(call.crashes_max == 1 && call.losses_max == 1000 && call.attempts == 1);
    static char *const bad[][3] = {{"--crashes", "0"},
                                   {"--crashes", "1001"},
                                   {"--losses", "0"},
                                   {"--losses", "1001"},
                                   {"--losses", "-1"},
                                   {"--at-most-once", "--crashes", "1"},
                                   {"--at-most-once", "--losses", "1"}};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        parse(&p, bad[i][0], bad[i][1], bad[i][2], NULL);
        assert_int_equal(p.status, STATUS_USAGE);
    }
}

static void test_when_it_may_start_and_until_when(void **state)
{
    (void)state;
    struct parsed p;
    struct quern_call call = QUERN_CALL_INIT;
    parse(&p, "f", "--expires", "10", "--known", NULL);
    assert_int_equal(p.status, ARGUMENTS_GO_ON);
    task_options_apply(&p.task, &call);
    assert_true(call.expires_ms == 10000 && call.known && call.at_ms == 0);
    parse(&p, "f", "--at", "2099-12-01T03:00Z", NULL);
    assert_int_equal(p.status, ARGUMENTS_GO_ON);
    task_options_apply(&p.task, &call);
    assert_true(call.at_ms == 4099777200000);
    assert_string_equal(p.task.at_text, "2099-12-01T03:00Z");
}

static void test_times_that_make_no_sense_are_refused(void **state)
{
    (void)state;
    struct parsed p;
    static char *const bad[][4] = {
        {"--at", "tomorrow"},
        {"--at", "2099-12-01"},
        {"--at", "2099-02-30T03:00"},
        {"--at", "25:00"},
        {"--at", "03:00 CET"},
        {"--at", ""},
        {"--at", "2099-12-01T03:00Z", "--delay", "1"},
        {"--expires", "1", "--delay", "2"},
        {"--expires", "1", "--delay", "1"},
        {"--expires", "1", "--at", "2099-12-01T03:00Z"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        parse(&p, bad[i][0], bad[i][1], bad[i][2], bad[i][3], NULL);
        assert_int_equal(p.status, STATUS_USAGE);
    }
}

#define BERLIN "CET-1CEST,M3.5.0,M10.5.0/3"

/* Which is the next 03:00 depends on the zone, and on what now is. */
static void test_a_time_is_read_in_the_zone_that_is_meant(void **state)
{
    (void)state;
    static const struct {
        const char *zone;
        const char *text;
        const char *now; /* UTC */
        const char *at;  /* UTC; NULL: it is none */
    } rows[] = {
        {"UTC", "03:00", "2026-11-21T02:59:59", "2026-11-21T03:00:00"},
        {"UTC", "03:00", "2026-11-21T03:00:00", "2026-11-22T03:00:00"},
        {"UTC", "23:59:30", "2026-12-31T23:59:31", "2027-01-01T23:59:30"},
        {BERLIN, "03:00", "2026-11-21T00:00:00", "2026-11-21T02:00:00"},
        {BERLIN, "2026-07-01T03:00", "2026-11-21T00:00:00", "2026-07-01T01:00:00"},
        {BERLIN, "2026-07-01 03:00:30", "2026-11-21T00:00:00", "2026-07-01T01:00:30"},
        {BERLIN, "2026-07-01T03:00Z", "2026-11-21T00:00:00", "2026-07-01T03:00:00"},
        {BERLIN, "2026-07-01T03:00-0530", "2026-11-21T00:00:00", "2026-07-01T08:30:00"},
        {BERLIN, "03:00+01:00", "2026-11-21T02:30:00", "2026-11-22T02:00:00"},
        {BERLIN, "12:00Z", "2026-11-21T11:00:00", "2026-11-21T12:00:00"},
        {BERLIN, "2026-03-29T02:30", "2026-01-01T00:00:00", NULL}, /* left out by summer time */
        {BERLIN, "02:30", "2026-03-28T12:00:00", "2026-03-30T00:30:00"},
        {BERLIN, "02:30", "2026-03-29T12:00:00", "2026-03-30T00:30:00"},
        {"UTC", "2027-02-29T00:00", "2026-01-01T00:00:00", NULL},
        {"UTC", "1969-12-31T23:00", "2026-01-01T00:00:00", NULL},
        {"UTC", "10000-01-01T00:00", "2026-01-01T00:00:00", NULL},
        {"UTC", "03:00Zulu", "2026-01-01T00:00:00", NULL},
        {"UTC", "03", "2026-01-01T00:00:00", NULL},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct tm now = {0};
        struct tm at = {0};
        int64_t found = 0;
        setenv("TZ", rows[i].zone, 1);
        tzset();
        assert_non_null(strptime(rows[i].now, "%Y-%m-%dT%H:%M:%S", &now));
        bool is_one = when_parse(rows[i].text, (int64_t)timegm(&now) * 1000, &found);
        print_message("%s\n", rows[i].text);
        assert_int_equal(is_one, rows[i].at != NULL);
        if (is_one) {
            assert_non_null(strptime(rows[i].at, "%Y-%m-%dT%H:%M:%S", &at));
            assert_int_equal(found, (int64_t)timegm(&at) * 1000);
        }
    }
    unsetenv("TZ");
    tzset();
}

static void test_nothing_behind_dashes_is_an_option(void **state)
{
    (void)state;
    struct parsed p;
    parse(&p, "--attempts", "2", "--", "sh", "--json", "--", "-c", NULL);
    assert_int_equal(p.status, ARGUMENTS_GO_ON);
    assert_false(p.cli.json);
    assert_true(p.arguments.has_behind);
    assert_int_equal(p.arguments.word_count, 0);
    assert_int_equal(p.arguments.behind_count, 4);
    assert_string_equal(p.arguments.behind[1], "--json");
    assert_string_equal(p.arguments.behind[2], "--");
}

static void test_wrong_options_are_usage_errors(void **state)
{
    (void)state;
    struct parsed p;
    static const char *const wrong[][2] = {
        {"--nothing", NULL},        {"--priority", "1001"}, {"--priority", "1x"},   {"--priority", " 1"},
        {"--delay", "-1"},          {"--delay", "1s"},      {"--delay", "0.0001"},  {"--delay", ""},
        {"--delay", "99999999999"}, {"--attempts", "0"},    {"--attempts", "1001"}, {"--timeout", "1e3"},
        {"--retry-on", "error,"},   {"--retry-on", "none"}, {"--backoff", "5:1"},   {"--backoff", ":1"},
        {"--connect-timeout", "x"}, {"--detach=1", NULL},   {"--session", NULL},    {"-x", NULL},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        parse(&p, "f", wrong[i][0], wrong[i][1], NULL);
        if (p.status != STATUS_USAGE) {
            fail_msg("%s %s was taken", wrong[i][0], wrong[i][1] != NULL ? wrong[i][1] : "");
        }
    }
}

static void test_durations_are_decimal_seconds(void **state)
{
    (void)state;
    struct parsed p;
    uint64_t ms;
    parse(&p, "--delay", "0.5", "--timeout", "2", "--backoff", "0.25:60", "--attempts", "3", "--connect-timeout", ".1",
          NULL);
    assert_int_equal(p.status, ARGUMENTS_GO_ON);
    assert_int_equal(p.task.delay_ms, 500);
    assert_int_equal(p.task.timeout_ms, 2000);
    assert_int_equal(p.task.backoff_ms, 250);
    assert_int_equal(p.task.backoff_cap_ms, 60000);
    assert_int_equal(p.cli.connect_timeout_ms, 100);
    assert_true(seconds_parse("1.500000", &ms) && ms == 1500);
    assert_true(seconds_parse("31622400", &ms) && ms == DURATION_MS_MAX);
    assert_false(seconds_parse("31622400.001", &ms));
    assert_false(seconds_parse("1.", &ms));
}

static void test_causes_become_bits(void **state)
{
    (void)state;
    struct parsed p;
    parse(&p, "--attempts", "2", "--retry-on", "timeout,crashed", NULL);
    assert_int_equal(p.status, ARGUMENTS_GO_ON);
    assert_int_equal(p.task.retry_on, 1u << QUERN_CAUSE_TIMEOUT | 1u << QUERN_CAUSE_CRASHED);
}

static void test_options_that_contradict_each_other_are_refused(void **state)
{
    (void)state;
    struct parsed p;
    parse(&p, "--at-most-once", "--attempts", "2", NULL);
    assert_int_equal(p.status, STATUS_USAGE);
    parse(&p, "--backoff", "1", NULL);
    assert_int_equal(p.status, STATUS_USAGE);
    parse(&p, "--retry-on", "error", NULL);
    assert_int_equal(p.status, STATUS_USAGE);
    parse(&p, "--at-most-once", NULL);
    assert_int_equal(p.status, ARGUMENTS_GO_ON);
}

/* ---- description ---- */

static struct buf described(const struct description *description)
{
    struct buf to = {0};
    describe(description, &to);
    assert_true(value_is_whole(buf_bytes(&to), VALUE_DEPTH_MAX));
    return to;
}

static void assert_differs(const struct description *a, const struct description *b, const char *field)
{
    char text[DESCRIBE_TEXT_SIZE] = "";
    struct buf first = described(a);
    struct buf second = described(b);
    assert_false(describe_equal(buf_bytes(&first), buf_bytes(&second), text));
    if (strstr(text, field) == NULL) {
        fail_msg("'%s' does not name %s", text, field);
    }
    buf_fini(&first);
    buf_fini(&second);
}

static void test_the_same_work_has_the_same_description(void **state)
{
    (void)state;
    char text[DESCRIBE_TEXT_SIZE];
    struct task_options task;
    task_options_init(&task);
    const struct description description = {.command = "map", .function = "square", .task = &task};
    struct buf first = described(&description);
    struct buf second = described(&description);
    assert_true(describe_equal(buf_bytes(&first), buf_bytes(&second), text));
    char *command = describe_field(buf_bytes(&first), "command");
    assert_string_equal(command, "map");
    free(command);
    buf_fini(&first);
    buf_fini(&second);
}

static void test_every_difference_is_named(void **state)
{
    (void)state;
    struct task_options task;
    struct task_options other;
    task_options_init(&task);
    const struct description base = {.command = "map", .function = "square", .task = &task};
    struct description now = base;
    now.function = "cube";
    assert_differs(&base, &now, "function was \"square\", now it is \"cube\"");
    now = base;
    now.command = "run";
    assert_differs(&base, &now, "command");
    now = base;
    now.is_raw = true;
    assert_differs(&base, &now, "raw was false, now it is true");
    now = base;
    now.is_null = true;
    assert_differs(&base, &now, "null");
    now = base;
    now.task = &other;
#define ASSERT_FIELD(field, value, word)                                                                               \
    do {                                                                                                               \
        other = task;                                                                                                  \
        other.field = value;                                                                                           \
        assert_differs(&base, &now, word);                                                                             \
    } while (0)
    ASSERT_FIELD(queue, "slow", "queue");
    ASSERT_FIELD(priority, -3, "priority");
    ASSERT_FIELD(delay_ms, 1, "delay");
    ASSERT_FIELD(timeout_ms, 2, "timeout");
    ASSERT_FIELD(attempts, 2, "attempts");
    ASSERT_FIELD(retry_on, 2, "retry_on");
    ASSERT_FIELD(backoff_ms, 2, "backoff");
    ASSERT_FIELD(backoff_cap_ms, 2, "backoff");
    ASSERT_FIELD(at_most_once, true, "at_most_once");
    ASSERT_FIELD(expires_ms, 3, "expires");
    ASSERT_FIELD(at_text, "03:00", "at was");
    ASSERT_FIELD(known, true, "known");
    ASSERT_FIELD(crashes, 1, "crashes");
    ASSERT_FIELD(losses, 1, "losses");
    now = base;
    now.cwd = "/elsewhere";
    assert_differs(&base, &now, "cwd");
    now = base;
    now.argv = bytes_of("\x91\xa1x", 3);
    assert_differs(&base, &now, "argv");
    now = base;
    now.env = bytes_of("\x80", 1);
    assert_differs(&base, &now, "env");
}

/* A description is bounded; a long command must be told from another long one all the same. */
static void test_long_commands_are_told_apart_by_digest(void **state)
{
    (void)state;
    struct task_options task;
    struct buf first = {0};
    struct buf second = {0};
    task_options_init(&task);
    for (int i = 0; i < 2; i++) {
        struct buf *argv = i == 0 ? &first : &second;
        put_array(argv, 1);
        size_t at = argv->n;
        static uint8_t bytes[100000];
        bytes[sizeof bytes - 1] = (uint8_t)i;
        put_bin(argv, bytes_of(bytes, sizeof bytes));
        assert_true(argv->n > at);
    }
    const struct description a = {.command = "run", .function = "f", .task = &task, .argv = buf_bytes(&first)};
    const struct description b = {.command = "run", .function = "f", .task = &task, .argv = buf_bytes(&second)};
    struct buf size = described(&a);
    assert_true(size.n < DESCRIPTION_SIZE_MAX);
    assert_differs(&a, &b, "argv");
    buf_fini(&size);
    buf_fini(&first);
    buf_fini(&second);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_options_stand_anywhere_and_the_rest_keeps_its_order),
        cmocka_unit_test(test_negative_numbers_are_values),
        cmocka_unit_test(test_memory_is_a_size_and_grows_by_a_factor),
        cmocka_unit_test(test_memory_that_makes_no_sense_is_refused),
        cmocka_unit_test(test_deaths_have_limits_of_their_own),
        cmocka_unit_test(test_when_it_may_start_and_until_when),
        cmocka_unit_test(test_times_that_make_no_sense_are_refused),
        cmocka_unit_test(test_a_time_is_read_in_the_zone_that_is_meant),
        cmocka_unit_test(test_nothing_behind_dashes_is_an_option),
        cmocka_unit_test(test_wrong_options_are_usage_errors),
        cmocka_unit_test(test_durations_are_decimal_seconds),
        cmocka_unit_test(test_causes_become_bits),
        cmocka_unit_test(test_options_that_contradict_each_other_are_refused),
        cmocka_unit_test(test_the_same_work_has_the_same_description),
        cmocka_unit_test(test_every_difference_is_named),
        cmocka_unit_test(test_long_commands_are_told_apart_by_digest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

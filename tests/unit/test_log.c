/* log lines, and the report of a bug: what a person reads on stderr. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/check.h"
#include "common/log.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define OUTPUT_SIZE_MAX 16384

static char output[OUTPUT_SIZE_MAX];

/* What a function writes to stderr, in output. */
static void capture(void (*say)(void))
{
    int fd = memfd_create("stderr", MFD_CLOEXEC);
    assert_true(fd >= 0);
    int saved = dup(STDERR_FILENO);
    assert_int_equal(dup2(fd, STDERR_FILENO), STDERR_FILENO);
    say();
    assert_int_equal(dup2(saved, STDERR_FILENO), STDERR_FILENO);
    close(saved);
    ssize_t size = pread(fd, output, sizeof output - 1, 0);
    assert_true(size >= 0);
    output[size] = '\0';
    close(fd);
}

static void say_ready(void)
{
    log_event(LOG_INFO, "ready", "url=\"%s\" epoch=%d", "ipc:///run/x", 3);
}

static void test_a_line_has_time_level_program_event_and_pairs(void **state)
{
    (void)state;
    log_open("broker", LOG_INFO);
    capture(say_ready);
    int size = 0;
    int year, month, day, hour, minute, second, ms;
    assert_int_equal(
        sscanf(output, "%4d-%2d-%2dT%2d:%2d:%2d.%3dZ%n", &year, &month, &day, &hour, &minute, &second, &ms, &size), 7);
    assert_int_equal(size, 24);
    assert_string_equal(output + size, " info  broker ready url=\"ipc:///run/x\" epoch=3\n");
}

static void say_bare(void)
{
    log_event(LOG_WARN, "stopping", "%s", "");
}

static void test_an_event_without_pairs_ends_with_the_event(void **state)
{
    (void)state;
    log_open("broker", LOG_INFO);
    capture(say_bare);
    assert_string_equal(output + 24, " warn  broker stopping\n");
}

static void say_all_levels(void)
{
    log_event(LOG_ERROR, "e", "%s", "");
    log_event(LOG_WARN, "w", "%s", "");
    log_event(LOG_INFO, "i", "%s", "");
    log_event(LOG_DEBUG, "d", "%s", "");
}

static unsigned line_count(void)
{
    unsigned count = 0;
    for (const char *p = output; *p != '\0'; p++) {
        count += *p == '\n';
    }
    return count;
}

static void test_levels_above_the_chosen_one_are_silent(void **state)
{
    (void)state;
    log_open("broker", LOG_WARN);
    capture(say_all_levels);
    assert_int_equal(line_count(), 2);
    assert_true(log_wants(LOG_ERROR));
    assert_false(log_wants(LOG_INFO));
    log_open("broker", LOG_DEBUG);
    capture(say_all_levels);
    assert_int_equal(line_count(), 4);
}

static void say_hostile(void)
{
    log_event(LOG_INFO, "peer", "name=\"%s\"", "a\nb\x1b[2J\x7f\xc2\x9b\xc3\xa9");
    log_event(LOG_INFO, "peer", "name=\"%s\"", "\xff\x80z");
}

/* A worker's name comes from outside: it must not forge a line, nor speak to the terminal. */
static void test_control_characters_are_escaped(void **state)
{
    (void)state;
    log_open("broker", LOG_INFO);
    capture(say_hostile);
    assert_int_equal(line_count(), 2);
    assert_non_null(strstr(output, "name=\"a\\x0ab\\x1b[2J\\x7f\\u009b\xc3\xa9\"\n"));
    assert_non_null(strstr(output, "name=\"\\xff\\x80z\"\n"));
}

static void say_long(void)
{
    static char text[3 * LOG_LINE_SIZE_MAX];
    memset(text, 'x', sizeof text - 1);
    log_event(LOG_INFO, "long", "text=%s", text);
    memset(text, '\n', sizeof text - 1);
    log_event(LOG_INFO, "long", "text=%s", text);
}

static void test_a_long_line_is_cut_and_says_so(void **state)
{
    (void)state;
    log_open("broker", LOG_INFO);
    capture(say_long);
    assert_int_equal(line_count(), 2);
    char *end = strchr(output, '\n');
    assert_true((size_t)(end - output) < LOG_LINE_SIZE_MAX);
    assert_true((size_t)(end - output) > LOG_LINE_SIZE_MAX / 2);
    assert_memory_equal(end - 3, "...", 3);
    assert_memory_equal(output + strlen(output) - 4, "...\n", 4);
}

static void say_and_keep_errno(void)
{
    errno = ENOSPC;
    log_event(LOG_INFO, "disk", "path=%s", "/full");
    assert_int_equal(errno, ENOSPC);
}

static void test_errno_is_kept(void **state)
{
    (void)state;
    log_open("broker", LOG_INFO);
    capture(say_and_keep_errno);
    assert_non_null(strstr(output, "disk path=/full\n"));
}

static void test_words_of_levels_are_parsed(void **state)
{
    (void)state;
    enum log_level level = LOG_ERROR;
    assert_true(log_level_parse("debug", &level));
    assert_int_equal(level, LOG_DEBUG);
    assert_true(log_level_parse("error", &level));
    assert_int_equal(level, LOG_ERROR);
    assert_false(log_level_parse("loud", &level));
    assert_false(log_level_parse("", &level));
    assert_int_equal(level, LOG_ERROR);
}

static void die_of_a_bug(void)
{
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        const struct rlimit none = {0, 0};
        setrlimit(RLIMIT_CORE, &none);
        signal(SIGABRT, SIG_DFL);
        int count = 2;
        CHECK(count == 2);
        CHECK_THAT(count == 3, "count %d", count);
        _exit(0);
    }
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGABRT);
}

static void test_a_bug_stops_the_process_and_says_what_and_where(void **state)
{
    (void)state;
    capture(die_of_a_bug);
    assert_non_null(strstr(output, "count == 3: count 2"));
    assert_non_null(strstr(output, "test_log.c:"));
    assert_non_null(strstr(output, "pid "));
    assert_non_null(strstr(output, "stack"));
    assert_null(strstr(output, "count == 2:"));
}

static bool spoke_before_open;

static int remember_before_open(void **state)
{
    (void)state;
    spoke_before_open = log_wants(LOG_ERROR);
    return 0;
}

/* Library code never prints: only a program opens the log. */
static void test_nothing_is_said_before_the_log_is_open(void **state)
{
    (void)state;
    assert_false(spoke_before_open);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nothing_is_said_before_the_log_is_open),
        cmocka_unit_test(test_a_line_has_time_level_program_event_and_pairs),
        cmocka_unit_test(test_an_event_without_pairs_ends_with_the_event),
        cmocka_unit_test(test_levels_above_the_chosen_one_are_silent),
        cmocka_unit_test(test_control_characters_are_escaped),
        cmocka_unit_test(test_a_long_line_is_cut_and_says_so),
        cmocka_unit_test(test_errno_is_kept),
        cmocka_unit_test(test_words_of_levels_are_parsed),
        cmocka_unit_test(test_a_bug_stops_the_process_and_says_what_and_where),
    };
    return cmocka_run_group_tests_name("log", tests, remember_before_open, NULL);
}

/*
 * test_config.c: the broker's configuration file: what is taken, and that every mistake is named with file and key.
 * Must not know: the broker. Start reading at main.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "broker/config.h"

static char *write_file(const char *text, size_t n)
{
    char *path = strdup("/tmp/quern-test-config-XXXXXX");
    int fd = mkstemp(path);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, n), n);
    assert_int_equal(close(fd), 0);
    return path;
}

static enum quern_err load_bytes(struct config *config, const char *text, size_t n, char **why_out)
{
    char *path = write_file(text, n);
    enum quern_err err = QUERN_OK;

    config_init(config);
    err = config_load(config, path, why_out);
    if (err != QUERN_OK) {
        assert_non_null(*why_out);
        assert_non_null(strstr(*why_out, path)); /* every refusal names the file */
    }
    (void)unlink(path);
    free(path);
    return err;
}

static void assert_refused(const char *text, const char *named)
{
    struct config config;
    char *why = NULL;

    assert_int_equal(load_bytes(&config, text, strlen(text), &why), QUERN_INVALID);
    if (strstr(why, named) == NULL) {
        fail_msg("\"%s\" does not name \"%s\"", why, named);
    }
    free(why);
    config_fini(&config);
}

static void test_settings_and_limits_are_taken(void **state)
{
    struct config config;
    char *why = NULL;
    const char text[] = "#   comment\n"
                        "broker\n"
                        "    listen = ipc:///run/a/broker.sock\n"
                        "    listen = tcp://127.0.0.1:7301\n"
                        "    db = /var/lib/q.db\n"
                        "    log-level = debug\n"
                        "limits\n"
                        "    lease_ms = 20000\n";

    (void)state;
    assert_int_equal(load_bytes(&config, text, strlen(text), &why), QUERN_OK);
    assert_null(why);
    assert_int_equal(config.listen_count, 2);
    assert_string_equal(config.listen[0], "ipc:///run/a/broker.sock");
    assert_string_equal(config.listen[1], "tcp://127.0.0.1:7301");
    assert_string_equal(config.db, "/var/lib/q.db");
    assert_int_equal(config.log_level, LOG_DEBUG);
    assert_int_equal(config.limits.lease_ms, 20000);
    assert_int_equal(config.limits.heartbeat_ms, limits_default().heartbeat_ms);
    config_fini(&config);
}

/* A misspelt limit that is passed over would be found when it was needed. */
static void test_unknown_names_are_refused_by_name(void **state)
{
    (void)state;
    assert_refused("broker\n    lisen = x\n", "broker/lisen");
    assert_refused("limits\n    leese_ms = 1\n", "leese_ms");
    assert_refused("worker\n    db = x\n", "worker");
    assert_refused("broker\n    db = x\n        deeper = y\n", "broker/db");
}

static void test_bad_values_are_refused_by_name(void **state)
{
    (void)state;
    assert_refused("broker\n    log-level = loud\n", "log-level");
    assert_refused("limits\n    lease_ms = -1\n", "lease_ms");
    assert_refused("limits\n    lease_ms = 10s\n", "lease_ms");
    assert_refused("limits\n    lease_ms = 99999999999999999999\n", "lease_ms");
    assert_refused("limits\n    lease_ms =\n", "lease_ms");
}

static void test_a_line_that_is_no_setting_is_named_by_number(void **state)
{
    (void)state;
    assert_refused("broker\n    db = x\n  log-level = info\n", "line 3");
    assert_refused("broker\n    ???\n", "line 2");
    assert_refused("broker\n\tdb = x\n", "line 2");
    assert_refused("broker\n    db = \"x\n", "line 2");
}

static void test_too_many_listeners_are_refused(void **state)
{
    char text[2048] = "broker\n";
    size_t n = strlen(text);

    (void)state;
    for (unsigned i = 0; i <= LISTEN_COUNT_MAX; i++) {
        n += (size_t)snprintf(text + n, sizeof(text) - n, "    listen = ipc:///run/%u\n", i);
    }
    assert_refused(text, "broker/listen");
}

static void test_a_missing_file_is_named(void **state)
{
    struct config config;
    char *why = NULL;

    (void)state;
    config_init(&config);
    assert_int_equal(config_load(&config, "/nonexistent/quern.conf", &why), QUERN_IO);
    assert_non_null(strstr(why, "/nonexistent/quern.conf"));
    free(why);
    assert_int_equal(config_load(&config, "/", &why), QUERN_IO); /* a directory */
    free(why);
    config_fini(&config);
}

/* Bytes that are no ZPL are a refusal or an empty configuration, never a crash; nor is an endless file. */
static void test_rubbish_does_not_crash(void **state)
{
    struct config config;
    char *why = NULL;
    char big[70000];
    uint32_t seed = 7;

    (void)state;
    memset(big, 'a', sizeof(big));
    assert_int_equal(load_bytes(&config, big, sizeof(big), &why), QUERN_IO);
    free(why);
    config_fini(&config);
    for (unsigned round = 0; round < 200; round++) {
        for (size_t i = 0; i < 64; i++) {
            seed = seed * 1664525u + 1013904223u;
            big[i] = (char)(seed >> 24);
        }
        (void)load_bytes(&config, big, round % 65, &why);
        free(why);
        config_fini(&config);
    }
}

/* czmq takes SIGINT and SIGTERM for itself where it can; then no broker would end cleanly. */
static void test_reading_leaves_signals_alone(void **state)
{
    struct config config;
    struct sigaction action;
    char *why = NULL;

    (void)state;
    assert_int_equal(load_bytes(&config, "broker\n    db = x\n", 18, &why), QUERN_OK);
    config_fini(&config);
    assert_int_equal(sigaction(SIGTERM, NULL, &action), 0);
    assert_true(action.sa_handler == SIG_DFL);
    assert_int_equal(sigaction(SIGINT, NULL, &action), 0);
    assert_true(action.sa_handler == SIG_DFL);
}

static void test_limits_that_do_not_fit_together_are_refused(void **state)
{
    struct config config;
    char *why = NULL;

    (void)state;
    config_init(&config);
    assert_int_equal(config.log_level, LOG_INFO);
    assert_int_equal(config_check(&config, &why), QUERN_OK);
    config.limits.dead_ms = config.limits.heartbeat_ms;
    assert_int_equal(config_check(&config, &why), QUERN_INVALID);
    assert_non_null(strstr(why, "dead_ms"));
    free(why);
    config_fini(&config);
    config_init(&config);
    config.limits.batch_bytes_max = 0;
    assert_int_equal(config_check(&config, &why), QUERN_INVALID);
    free(why);
    config_fini(&config);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_settings_and_limits_are_taken),
        cmocka_unit_test(test_unknown_names_are_refused_by_name),
        cmocka_unit_test(test_bad_values_are_refused_by_name),
        cmocka_unit_test(test_a_line_that_is_no_setting_is_named_by_number),
        cmocka_unit_test(test_too_many_listeners_are_refused),
        cmocka_unit_test(test_a_missing_file_is_named),
        cmocka_unit_test(test_rubbish_does_not_crash),
        cmocka_unit_test(test_reading_leaves_signals_alone),
        cmocka_unit_test(test_limits_that_do_not_fit_together_are_refused),
    };
    (void)signal(SIGINT, SIG_DFL); /* a shell without job control has what it runs behind it ignore this */
    (void)signal(SIGTERM, SIG_DFL);
    return cmocka_run_group_tests(tests, NULL, NULL);
}

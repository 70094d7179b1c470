/*
 * test_ids.c owns what is claimed of task ids, identities, tokens, limits and error words.
 * It must not know messages.
 * Start reading at main.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "common/ids.h"
#include "common/limits.h"
#include "quern/err.h"

/* An id is SQLite's rowid and what people type: the text and the number must be two forms of one thing. */
static void test_an_id_and_its_text_are_one(void **state)
{
    static const uint32_t numbers[] = {1, 9, 10, 42, 65536, SEQUENCE_MAX - 1, SEQUENCE_MAX};
    char text[ID_TEXT_SIZE];
    uint64_t id;

    (void)state;
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        for (size_t j = 0; j < sizeof numbers / sizeof *numbers; j++) {
            uint64_t made = id_make(numbers[i], numbers[j]);

            assert_true(id_parse(id_text(made, text), &id));
            assert_true(id == made);
            assert_int_equal(id_series(id), numbers[i]);
            assert_int_equal(id_sequence(id), numbers[j]);
            assert_true(id <= INT64_MAX);
        }
    }
    assert_string_equal(id_text(id_make(7, 42), text), "7-42");
}

/* Any number at all has a text that fits: a log line about a bad id must not overflow. */
static void test_the_text_of_any_number_fits(void **state)
{
    char text[ID_TEXT_SIZE];

    (void)state;
    assert_string_equal(id_text(UINT64_MAX, text), "4294967295-4294967295");
}

static void test_what_is_not_an_id_is_refused(void **state)
{
    static const char *const texts[] = {"",
                                        "7",
                                        "7-",
                                        "-7",
                                        "7-0",
                                        "0-7",
                                        "07-1",
                                        "7-01",
                                        " 7-1",
                                        "7-1 ",
                                        "7 -1",
                                        "7--1",
                                        "+7-1",
                                        "7-+1",
                                        "7-1-1",
                                        "2147483648-1",
                                        "1-2147483648",
                                        "a-1",
                                        "1-a",
                                        "7/1",
                                        "#7",
                                        "1-99999999999999999999999",
                                        "7-1x",
                                        "0x7-1",
                                        "7\n-1\n"};
    uint64_t id = 99;

    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        assert_false(id_parse(texts[i], &id));
        assert_true(id == 99);
    }
}

/* Who reports about which attempt is decided by this order alone: the epoch first. */
static void test_tokens_are_ordered_by_epoch_then_attempt(void **state)
{
    struct token old = {.task = 1, .epoch = 1, .attempt = 9};
    struct token new = {.task = 1, .epoch = 2, .attempt = 1};
    struct token newer = {.task = 1, .epoch = 2, .attempt = UINT32_MAX};

    (void)state;
    assert_true(token_compare(old, new) < 0);
    assert_true(token_compare(new, old) > 0);
    assert_true(token_compare(new, newer) < 0);
    assert_int_equal(token_compare(newer, newer), 0);
}

static void test_a_random_identity_is_never_none_and_never_the_same(void **state)
{
    struct uuid a = uuid_random();
    struct uuid b = uuid_random();
    struct uuid zero = {{0}};

    (void)state;
    assert_false(uuid_is_zero(&a));
    assert_false(uuid_equal(&a, &b));
    assert_true(uuid_equal(&a, &a));
    assert_true(uuid_is_zero(&zero));
}

static void test_an_identity_is_written_as_32_hex_digits(void **state)
{
    struct uuid uuid = {
        {0x00, 0x01, 0x0a, 0x10, 0x7f, 0x80, 0xab, 0xcd, 0xef, 0xf0, 0xff, 0x12, 0x34, 0x56, 0x78, 0x9a}};
    char text[2 * UUID_SIZE + 1];

    (void)state;
    assert_string_equal(uuid_text(&uuid, text), "00010a107f80abcdeff0ff123456789a");
}

static void test_a_limit_is_set_by_its_name_only(void **state)
{
    struct limits limits = limits_default();

    (void)state;
    assert_int_equal(limits.heartbeat_ms, 3000);
    assert_true(limits.resident_bytes_max == 128 * MIB);
    assert_true(limits_set(&limits, "heartbeat_ms", 250));
    assert_int_equal(limits.heartbeat_ms, 250);
    assert_int_equal(limits.dead_ms, limits_default().dead_ms);
    assert_false(limits_set(&limits, "heartbeat", 1));
    assert_false(limits_set(&limits, "", 1));
    assert_int_equal(limits.heartbeat_ms, 250);
}

/* Scripts match on words: each code has one of its own, and a code from a newer version has one too. */
static void test_every_error_has_a_word_of_its_own(void **state)
{
    static const struct {
        enum quern_err err;
        const char *word;
    } listed[] = {
#define X(code, name, word, text) {QUERN_##name, word},
        QUERN_ERR_LIST(X)
#undef X
    };
    size_t count = sizeof listed / sizeof *listed;

    (void)state;
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(listed[i].err, i); /* append-only, none is left out */
        assert_string_equal(quern_err_word(listed[i].err), listed[i].word);
        assert_true(strlen(quern_err_text(listed[i].err)) > 0);
        for (size_t j = 0; j < i; j++) {
            assert_string_not_equal(listed[i].word, listed[j].word);
        }
    }
    assert_string_equal(quern_err_word((enum quern_err)count), "unknown_code");
    assert_true(strlen(quern_err_text((enum quern_err)count)) > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_an_id_and_its_text_are_one),
        cmocka_unit_test(test_the_text_of_any_number_fits),
        cmocka_unit_test(test_what_is_not_an_id_is_refused),
        cmocka_unit_test(test_tokens_are_ordered_by_epoch_then_attempt),
        cmocka_unit_test(test_a_random_identity_is_never_none_and_never_the_same),
        cmocka_unit_test(test_an_identity_is_written_as_32_hex_digits),
        cmocka_unit_test(test_a_limit_is_set_by_its_name_only),
        cmocka_unit_test(test_every_error_has_a_word_of_its_own),
    };
    return cmocka_run_group_tests_name("ids", tests, NULL, NULL);
}

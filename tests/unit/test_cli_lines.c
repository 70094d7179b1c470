/* Items of standard input: cut where they end, numbered as they stand, bounded. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "client/cli/lines.h"
#include <string.h>
#include <unistd.h>

struct feed_pipe {
    int write_fd;
    struct lines lines;
};

static void begin(struct feed_pipe *pair, uint8_t end, size_t size_max)
{
    int fds[2];
    assert_int_equal(pipe(fds), 0);
    pair->write_fd = fds[1];
    lines_init(&pair->lines, fds[0], end, size_max);
}

static void finish(struct feed_pipe *pair)
{
    close(pair->lines.fd);
    if (pair->write_fd >= 0) {
        close(pair->write_fd);
    }
    lines_fini(&pair->lines);
}

static void say_bytes(struct feed_pipe *pair, const char *p, size_t n)
{
    assert_int_equal(write(pair->write_fd, p, n), (ssize_t)n);
    lines_fill(&pair->lines);
}

static void say_end(struct feed_pipe *pair)
{
    close(pair->write_fd);
    pair->write_fd = -1;
    lines_fill(&pair->lines);
}

static void assert_item(struct feed_pipe *pair, uint64_t number, const char *p, size_t n)
{
    struct line line;
    assert_int_equal(lines_next(&pair->lines, &line), LINES_ITEM);
    assert_int_equal(line.number, number);
    assert_int_equal(line.text.n, n);
    assert_memory_equal(line.text.p, p, n);
}

static void assert_next(struct feed_pipe *pair, enum lines_state expected)
{
    struct line line;
    assert_int_equal(lines_next(&pair->lines, &line), expected);
}

/* The physical number is the ordinal of a task: empty lines must count. */
static void test_empty_lines_are_passed_over_but_counted(void **state)
{
    (void)state;
    struct feed_pipe pair;
    begin(&pair, '\n', 100);
    say_bytes(&pair, "a\n\n\nbc\n", 7);
    assert_item(&pair, 1, "a", 1);
    assert_item(&pair, 4, "bc", 2);
    assert_next(&pair, LINES_WAIT);
    say_end(&pair);
    assert_next(&pair, LINES_END);
    assert_next(&pair, LINES_END);
    finish(&pair);
}

static void test_a_last_line_without_newline_is_an_item(void **state)
{
    (void)state;
    struct feed_pipe pair;
    begin(&pair, '\n', 100);
    say_bytes(&pair, "\nlast", 5);
    assert_next(&pair, LINES_WAIT);
    say_end(&pair);
    assert_item(&pair, 2, "last", 4);
    assert_next(&pair, LINES_END);
    finish(&pair);
}

static void test_an_item_may_come_in_pieces(void **state)
{
    (void)state;
    struct feed_pipe pair;
    begin(&pair, '\n', 100);
    say_bytes(&pair, "one\ntw", 6);
    assert_item(&pair, 1, "one", 3);
    assert_next(&pair, LINES_WAIT);
    say_bytes(&pair, "o", 1);
    assert_next(&pair, LINES_WAIT);
    say_bytes(&pair, "\nthree\n", 7);
    assert_item(&pair, 2, "two", 3);
    assert_item(&pair, 3, "three", 5);
    finish(&pair);
}

static void test_with_null_newlines_belong_to_the_item(void **state)
{
    (void)state;
    struct feed_pipe pair;
    begin(&pair, '\0', 100);
    say_bytes(&pair, "a\nb\0\0c\0", 7);
    assert_item(&pair, 1, "a\nb", 3);
    assert_item(&pair, 3, "c", 1);
    finish(&pair);
}

/* An endless line must not fill the memory, and what follows it must not be lost. */
static void test_an_item_over_the_bound_is_named_and_the_next_one_is_whole(void **state)
{
    (void)state;
    struct feed_pipe pair;
    struct line line;
    begin(&pair, '\n', 8);
    for (int i = 0; i < 100; i++) {
        say_bytes(&pair, "0123456789", 10);
        assert_next(&pair, LINES_WAIT);
        assert_true(pair.lines.buf.n <= 20);
    }
    say_bytes(&pair, "\n12345678\n123456789\nx\n", 22);
    assert_int_equal(lines_next(&pair.lines, &line), LINES_TOO_LONG);
    assert_int_equal(line.number, 1);
    assert_null(line.text.p);
    assert_item(&pair, 2, "12345678", 8);
    assert_int_equal(lines_next(&pair.lines, &line), LINES_TOO_LONG);
    assert_int_equal(line.number, 3);
    assert_item(&pair, 4, "x", 1);
    say_bytes(&pair, "123456789", 9);
    assert_next(&pair, LINES_WAIT);
    say_end(&pair);
    assert_int_equal(lines_next(&pair.lines, &line), LINES_TOO_LONG);
    assert_int_equal(line.number, 5);
    assert_next(&pair, LINES_END);
    finish(&pair);
}

static void test_an_error_of_reading_is_told(void **state)
{
    (void)state;
    struct lines lines;
    struct line line;
    lines_init(&lines, -1, '\n', 10);
    assert_int_equal(lines_next(&lines, &line), LINES_WAIT);
    lines_fill(&lines);
    assert_int_equal(lines_next(&lines, &line), LINES_FAILED);
    assert_int_not_equal(lines.error, 0);
    lines_fini(&lines);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_empty_lines_are_passed_over_but_counted),
        cmocka_unit_test(test_a_last_line_without_newline_is_an_item),
        cmocka_unit_test(test_an_item_may_come_in_pieces),
        cmocka_unit_test(test_with_null_newlines_belong_to_the_item),
        cmocka_unit_test(test_an_item_over_the_bound_is_named_and_the_next_one_is_whole),
        cmocka_unit_test(test_an_error_of_reading_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/*
 * test_crash: what a crashed slot leaves (worker/crash.c): in children that really crash, and on boards that somebody
 * has scribbled over. And the text that is made of it (worker/backtrace.c).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "worker/backtrace.h"
#include "worker/crash.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define LITERAL(text) bytes_of(text, sizeof(text) - 1)

static struct statuspage *page_open(void)
{
    int fd = statuspage_create();
    assert_true(fd >= 0);
    struct statuspage *page = statuspage_map(fd);
    assert_non_null(page);
    close(fd);
    return page;
}

/* The text for this number, as a string to be freed. */
static char *read_text(struct statuspage *page, uint64_t number)
{
    struct buf text = {0};
    crash_read(page, number, &text);
    char *copy = bytes_dup_text(buf_bytes(&text));
    buf_fini(&text);
    return copy;
}

/* ---- children that crash ---- */

__attribute__((noinline)) static void base(void (*crash_it)(void))
{
    crash_it();
    __asm__ volatile("" ::: "memory"); /* no tail call: this frame stays */
}

static volatile int *volatile nothing = (volatile int *)16; /* NULL would be told by a sanitizer */

__attribute__((noinline)) static void read_nothing(void)
{
    (void)*nothing;
}

__attribute__((noinline)) static void give_up(void)
{
    abort();
}

/* The signal it died of. */
static int crash_child(struct statuspage *page, uint64_t number, void (*crash_it)(void))
{
    pid_t pid = fork();
    if (pid == 0) {
        close(STDERR_FILENO); /* what a sanitizer or the C library says of it is no news here */
        crash_watch(page, (void (*)(void))base);
        statuspage_run(page, number, 1, 1);
        base(crash_it);
        _exit(0);
    }
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status));
    return WTERMSIG(status);
}

/* Under a sanitizer its own handlers may be there; ours are set later, so they count. */
static void test_a_crash_leaves_its_frames_and_the_signal(void **state)
{
    (void)state;
    struct statuspage *page = page_open();
    assert_int_equal(crash_child(page, 5, read_nothing), SIGSEGV);
    assert_int_equal(atomic_load(&page->crash.number), 5);
    assert_non_null(memchr(page->crash.list, BACKTRACE_EXACT, page->crash.list_size));
    assert_memory_equal(page->crash.list, "@ 10\n", 5);
    char *text = read_text(page, 5);
    assert_non_null(strstr(text, "no access to address 0x10\n#0 "));
    free(text);
    statuspage_unmap(&page);
}

static void test_an_abort_is_told_too(void **state)
{
    (void)state;
    struct statuspage *page = page_open();
    assert_int_equal(crash_child(page, 1, give_up), SIGABRT);
    char *text = read_text(page, 1);
    assert_non_null(strstr(text, "#1 "));
    assert_null(strstr(text, "no access"));
    free(text);
    statuspage_unmap(&page);
}

/* A backtrace of an earlier task must not be told of a later one. */
static void test_it_is_of_one_number(void **state)
{
    (void)state;
    struct statuspage *page = page_open();
    char *text = read_text(page, 1);
    assert_string_equal(text, "");
    free(text);
    (void)crash_child(page, 5, read_nothing);
    text = read_text(page, 6);
    assert_string_equal(text, "");
    free(text);
    statuspage_unmap(&page);
}

/* ---- boards ---- */

static struct statuspage *page_with(const char *list, uint32_t list_size, const char *text, uint32_t text_size)
{
    struct statuspage *page = page_open();
    atomic_store(&page->crash.number, 1);
    memcpy(page->crash.list, list, strlen(list));
    memcpy(page->crash.text, text, strlen(text));
    atomic_store(&page->crash.list_size, list_size);
    atomic_store(&page->crash.text_size, text_size);
    return page;
}

static void test_the_text_goes_before_the_list(void **state)
{
    (void)state;
    struct statuspage *page = page_with("M 0 /lib/x.so\nX 10\n", 19, "#0 f+0x1 x.so+0x10\n", 19);
    char *text = read_text(page, 1);
    assert_string_equal(text, "#0 f+0x1 x.so+0x10\n");
    free(text);
    atomic_store(&page->crash.text_size, 0); /* the process that finds symbols came to nothing */
    text = read_text(page, 1);
    assert_string_equal(text, "#0 x.so+0x10\n");
    free(text);
    statuspage_unmap(&page);
}

static void test_sizes_that_make_no_sense_are_not_believed(void **state)
{
    (void)state;
    static const uint32_t sizes[] = {BACKTRACE_SIZE_MAX + 1, INT32_MAX, UINT32_MAX};
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        struct statuspage *page = page_with("X 10\n", sizes[i], "", 0);
        char *text = read_text(page, 1);
        assert_string_equal(text, "");
        free(text);
        atomic_store(&page->crash.list_size, 5);
        atomic_store(&page->crash.text_size, sizes[i]);
        text = read_text(page, 1);
        assert_string_equal(text, "#0 ?+0x10\n");
        free(text);
        statuspage_unmap(&page);
    }
}

/* ---- text ---- */

static char *put_text(struct bytes list)
{
    struct buf text = {0};
    backtrace_put(list, &text);
    char *copy = bytes_dup_text(buf_bytes(&text));
    buf_fini(&text);
    return copy;
}

static void test_a_list_becomes_lines(void **state)
{
    (void)state;
    char *text = put_text(LITERAL("@ 10\nM 1000 /usr/lib/x.so\nX 1234\nF 1300\nS 20\nM 0 ?\nF 99\n"));
    assert_string_equal(text, "no access to address 0x10\n"
                              "#0 x.so+0x234\n"
                              "#1 x.so+0x2ff\n"
                              "... 32 frames\n"
                              "#34 ?+0x98\n");
    free(text);
}

static void test_a_list_that_makes_no_sense_gives_what_does(void **state)
{
    (void)state;
    const struct {
        struct bytes list;
        const char *text;
    } rows[] = {
        {LITERAL(""), ""},
        {LITERAL("\n\n\n"), ""},
        {LITERAL("X"), ""},
        {LITERAL("Q 12\nX 5"), "#0 ?+0x5\n"},
        {LITERAL("X zz\n"), "#0 ?+0x0\n"},
        {LITERAL("X ffffffffffffffffffffffff\n"), "#0 ?+0xffffffffffffffff\n"},
        {LITERAL("M 0 /a\x1b[31m \xff\nX 1\n"), "#0 a?[31m??+0x1\n"},
        {LITERAL("M 0 /\nX 1\n"), "#0 +0x1\n"},
        {bytes_of("X 1\0X 2\n", 8), "#0 ?+0x1\n"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char *text = put_text(rows[i].list);
        assert_string_equal(text, rows[i].text);
        free(text);
    }
}

static void expect_place(const char *text, const char *place)
{
    struct buf out = {0};
    backtrace_place(bytes_text(text), &out);
    assert_true(bytes_is(buf_bytes(&out), place));
    buf_fini(&out);
}

static void test_the_place_is_the_first_frame_that_is_not_the_c_librarys(void **state)
{
    (void)state;
    expect_place("", "");
    expect_place("nonsense\n#\n# \n", "");
    expect_place("#0 raise+0x1 libc.so.6+0x3\n#1 give_up+0x9 (a.c:7) a.so+0x99\n#2 main+0x1 b+0x2\n",
                 "give_up+0x9 (a.c:7)");
    expect_place("no access to address 0x0\n#0 a.so+0x99\n", "a.so+0x99");
    expect_place("#0 ?+0x0\n#1 call+0x2 a.so+0x5\n", "call+0x2");
    expect_place("#0 raise+0x1 libc.so.6+0x3\n", "");
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], BACKTRACE_ARGUMENT) == 0) {
        return backtrace_main(argc, argv); /* a child that crashed has started us for its symbols */
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_crash_leaves_its_frames_and_the_signal),
        cmocka_unit_test(test_an_abort_is_told_too),
        cmocka_unit_test(test_it_is_of_one_number),
        cmocka_unit_test(test_the_text_goes_before_the_list),
        cmocka_unit_test(test_sizes_that_make_no_sense_are_not_believed),
        cmocka_unit_test(test_a_list_becomes_lines),
        cmocka_unit_test(test_a_list_that_makes_no_sense_gives_what_does),
        cmocka_unit_test(test_the_place_is_the_first_frame_that_is_not_the_c_librarys),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

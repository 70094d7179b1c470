/*
 * test_pool_directory.c: what is removed as the private directory of a pool, and above all what is not.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/pool_directory.h"

#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define PATH_SIZE 256

static char base[] = "/tmp/quern-test-XXXXXX";

static int setup(void **state)
{
    (void)state;
    memcpy(base + sizeof(base) - 7, "XXXXXX", 6);
    return mkdtemp(base) == NULL || setenv("XDG_RUNTIME_DIR", base, 1) != 0;
}

static int teardown(void **state)
{
    (void)state;
    return rmdir(base); /* every test leaves it empty */
}

static void path_of(char path[PATH_SIZE], const char *directory, const char *name)
{
    assert_true(snprintf(path, PATH_SIZE, "%s/%s", directory, name) < PATH_SIZE);
}

static void touch(const char *directory, const char *name)
{
    char path[PATH_SIZE];
    path_of(path, directory, name);
    int fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    close(fd);
}

static void drop(const char *directory, const char *name)
{
    char path[PATH_SIZE];
    path_of(path, directory, name);
    assert_int_equal(remove(path), 0);
}

static bool is_there(const char *path)
{
    return access(path, F_OK) == 0;
}

static struct pool_directory made(void)
{
    struct pool_directory directory;
    char *why = NULL;
    assert_int_equal(pool_directory_make(&directory, &why), QUERN_OK);
    assert_null(why);
    return directory;
}

static void test_it_is_private_and_goes_with_all_that_a_pool_makes(void **state)
{
    (void)state;
    struct stat facts;
    struct pool_directory directory = made();
    char path[PATH_SIZE];
    snprintf(path, sizeof(path), "%s", directory.path);
    assert_int_equal(strncmp(path, base, strlen(base)), 0);
    assert_int_equal(stat(path, &facts), 0);
    assert_int_equal(facts.st_mode & 07777, 0700);
    touch(path, "broker.sock");
    touch(path, "broker.sock.lock");
    touch(path, "worker-0123.lock");
    pool_directory_remove(&directory);
    assert_null(directory.path);
    assert_int_equal(directory.mark_fd, -1);
    assert_false(is_there(path));
    pool_directory_remove(&directory); /* twice is once */
}

/* Somebody else's file would be lost for good; a directory that stays can be looked at. */
static void test_what_is_not_a_pools_stays_and_its_directory_with_it(void **state)
{
    (void)state;
    struct pool_directory directory = made();
    char path[PATH_SIZE];
    snprintf(path, sizeof(path), "%s", directory.path);
    touch(path, "thesis.tex");
    pool_directory_remove(&directory);
    drop(path, "thesis.tex");
    drop(path, "pool"); /* so that what comes to lie in it later does not keep it for ever */
    assert_int_equal(rmdir(path), 0);
}

/* The broker removes what its command line names: that may be anything. */
static void test_a_directory_that_is_not_proved_a_pools_is_not_touched(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        mode_t mode;
        bool has_mark;
    } others[] = {{"quern-pool-abcdef", 0755, true},
                  {"quern-pool-abcdef", 0700, false},
                  {"quern-poor-abcdef", 0700, true},
                  {"quern-pool-abcdefg", 0700, true}};
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        char path[PATH_SIZE];
        path_of(path, base, others[i].name);
        assert_int_equal(mkdir(path, 0700), 0);
        assert_int_equal(chmod(path, others[i].mode), 0);
        touch(path, "broker.sock");
        if (others[i].has_mark) {
            touch(path, "pool");
        }
        pool_directory_remove_path(path);
        drop(path, "broker.sock");
        if (others[i].has_mark) {
            drop(path, "pool");
        }
        assert_int_equal(rmdir(path), 0);
    }
}

static void test_a_link_to_a_pools_directory_is_not_followed(void **state)
{
    (void)state;
    struct pool_directory directory = made();
    char link_path[PATH_SIZE];
    path_of(link_path, base, "quern-pool-abcdef");
    assert_int_equal(symlink(directory.path, link_path), 0);
    pool_directory_remove_path(link_path);
    assert_true(is_there(directory.path));
    assert_int_equal(unlink(link_path), 0);
    pool_directory_remove(&directory);
}

/* A pool must not remove the directory of another one that lives. */
static void test_only_a_directory_whose_program_and_broker_are_gone_is_swept(void **state)
{
    (void)state;
    struct pool_directory held = made();
    struct pool_directory broker_lives = made();
    struct pool_directory abandoned = made();
    char path[PATH_SIZE];
    path_of(path, broker_lives.path, "broker.sock.lock");
    int lock = open(path, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
    assert_int_equal(flock(lock, LOCK_EX), 0);
    close(broker_lives.mark_fd);
    broker_lives.mark_fd = -1;
    close(abandoned.mark_fd);
    abandoned.mark_fd = -1;
    char empty[PATH_SIZE];
    path_of(empty, base, "quern-pool-abcdef");
    assert_int_equal(mkdir(empty, 0700), 0);
    struct pool_directory newest = made();
    assert_false(is_there(empty));
    assert_true(is_there(held.path));
    assert_true(is_there(broker_lives.path));
    assert_false(is_there(abandoned.path));
    close(lock);
    free(abandoned.path);
    pool_directory_remove(&held);
    pool_directory_remove(&broker_lives);
    pool_directory_remove(&newest);
}

/* A socket's path has 107 bytes. */
static void test_where_no_socket_fits_it_is_made_elsewhere(void **state)
{
    (void)state;
    char deep[PATH_SIZE];
    path_of(deep, base, "a-name-of-some-sixty-bytes-as-users-of-shared-machines-have-them-in-paths");
    assert_int_equal(mkdir(deep, 0700), 0);
    assert_int_equal(setenv("XDG_RUNTIME_DIR", deep, 1), 0);
    assert_int_equal(setenv("TMPDIR", base, 1), 0);
    struct pool_directory directory = made();
    assert_true(strlen(directory.path) + sizeof("/broker.sock") <= 108);
    assert_int_equal(strncmp(directory.path, base, strlen(base)), 0);
    pool_directory_remove(&directory);
    assert_int_equal(unsetenv("TMPDIR"), 0);
    assert_int_equal(rmdir(deep), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_it_is_private_and_goes_with_all_that_a_pool_makes, setup, teardown),
        cmocka_unit_test_setup_teardown(test_what_is_not_a_pools_stays_and_its_directory_with_it, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_directory_that_is_not_proved_a_pools_is_not_touched, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_link_to_a_pools_directory_is_not_followed, setup, teardown),
        cmocka_unit_test_setup_teardown(test_only_a_directory_whose_program_and_broker_are_gone_is_swept, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_where_no_socket_fits_it_is_made_elsewhere, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

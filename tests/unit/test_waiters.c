/* Who of a command's processes waits, as the slot's door counts them: real processes and a place that only counts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/check.h"
#include "common/clock.h"
#include "worker/waiters.h"
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define SAFETY_MS 20000
#define DEPTH 3u

/* The place of a slot that nobody else wants. */
static struct {
    bool is_refused;
    unsigned given;
    unsigned taken;
} slot;

static bool slot_give(void *self, int64_t deadline_ms)
{
    (void)self;
    (void)deadline_ms;
    slot.given += !slot.is_refused;
    return !slot.is_refused;
}

static void slot_take(void *self)
{
    (void)self;
    slot.taken++;
}

static const struct place place = {.give = slot_give, .take = slot_take};

static void door_open(struct waiters *waiters)
{
    *waiters = (struct waiters)WAITERS_INIT;
    memset(&slot, 0, sizeof slot);
    quern_place_begin(&place, DEPTH - 1);
    assert_true(waiters_open(waiters));
}

static void door_shut(struct waiters *waiters)
{
    waiters_close(waiters);
    waiters_close(waiters);
    quern_place_end();
    assert_int_equal(slot.given, slot.taken);
}

/* A process of the command: it says on the pipe whether it has the place, and ends when it is told or killed. */
struct process {
    pid_t pid;
    int said;
    int end;
};

static void process_live(const char *environment, int said, int end, bool waits_twice)
{
    char word;
    bool is_given;
    setenv(DOOR_ENVIRONMENT, environment, 1);
    quern_place_end(); /* as after an exec */
    is_given = quern_place_depth() == DEPTH && quern_place_give(clock_mono_ms() + SAFETY_MS);
    if (waits_twice && is_given) {
        is_given = quern_place_give(clock_mono_ms() + SAFETY_MS);
        quern_place_take();
    }
    (void)!write(said, is_given ? "g" : "r", 1);
    (void)!read(end, &word, 1);
    if (is_given) {
        quern_place_take();
    }
    (void)!write(said, "t", 1);
    (void)!read(end, &word, 1);
    _exit(0);
}

static struct process process_start(const struct waiters *waiters, bool waits_twice)
{
    char environment[DOOR_ADDRESS_SIZE + 16];
    int said[2];
    int end[2];
    assert_int_equal(pipe(said), 0);
    assert_int_equal(pipe(end), 0);
    snprintf(environment, sizeof environment, "%s:%u", waiters->address, DEPTH);
    pid_t pid = fork();
    if (pid == 0) {
        close(waiters->fd);
        process_live(environment, said[1], end[0], waits_twice);
    }
    close(said[1]);
    close(end[0]);
    return (struct process){.pid = pid, .said = said[0], .end = end[1]};
}

/* The slot serves until the fact holds. */
#define SERVE_UNTIL(waiters, fact)                                                                                     \
    do {                                                                                                               \
        int64_t until_ms = clock_mono_ms() + SAFETY_MS;                                                                \
        while (!(fact)) {                                                                                              \
            serve(waiters, -1);                                                                                        \
            assert_true(clock_mono_ms() < until_ms);                                                                   \
        }                                                                                                              \
    } while (0)

static bool serve(struct waiters *waiters, int fd)
{
    struct pollfd fds[1 + WAITERS_FD_COUNT_MAX] = {{.fd = fd, .events = POLLIN}};
    size_t count = waiters_poll_fds(waiters, fds + 1);
    assert_true(poll(fds, 1 + count, 5) >= 0);
    waiters_serve(waiters, fds + 1);
    return fds[0].revents != 0;
}

static char process_hear(struct waiters *waiters, const struct process *process)
{
    char word = 0;
    int64_t until_ms = clock_mono_ms() + SAFETY_MS;
    while (!serve(waiters, process->said)) {
        assert_true(clock_mono_ms() < until_ms);
    }
    assert_int_equal(read(process->said, &word, 1), 1);
    return word;
}

static void process_end(struct process *process, int number)
{
    kill(process->pid, number);
    assert_int_equal(waitpid(process->pid, NULL, 0), process->pid);
    close(process->said);
    close(process->end);
}

static void test_a_process_that_waits_gives_the_place_and_takes_it_back(void **state)
{
    (void)state;
    struct waiters waiters;
    door_open(&waiters);
    struct process one = process_start(&waiters, true);
    assert_int_equal(process_hear(&waiters, &one), 'g');
    assert_int_equal(slot.given, 1);
    assert_int_equal(slot.taken, 0);
    assert_int_equal(write(one.end, "e", 1), 1);
    assert_int_equal(process_hear(&waiters, &one), 't');
    SERVE_UNTIL(&waiters, slot.taken == 1);
    process_end(&one, SIGKILL);
    door_shut(&waiters);
}

/* It is gone from the list of those that wait with its last instruction. */
static void test_a_process_that_is_killed_while_it_waits_waits_no_more(void **state)
{
    (void)state;
    struct waiters waiters;
    door_open(&waiters);
    struct process one = process_start(&waiters, false);
    assert_int_equal(process_hear(&waiters, &one), 'g');
    process_end(&one, SIGKILL);
    SERVE_UNTIL(&waiters, slot.taken == 1);
    assert_int_equal(waiters.count, 0);
    door_shut(&waiters);
}

static void test_the_place_is_given_while_one_of_several_waits(void **state)
{
    (void)state;
    struct waiters waiters;
    door_open(&waiters);
    struct process one = process_start(&waiters, false);
    struct process two = process_start(&waiters, false);
    assert_int_equal(process_hear(&waiters, &one), 'g');
    assert_int_equal(process_hear(&waiters, &two), 'g');
    process_end(&one, SIGKILL);
    SERVE_UNTIL(&waiters, waiters.count == 1);
    for (unsigned i = 0; i < 10; i++) {
        serve(&waiters, -1);
    }
    assert_int_equal(slot.taken, 0);
    assert_int_equal(slot.given, 1);
    process_end(&two, SIGKILL);
    SERVE_UNTIL(&waiters, slot.taken == 1);
    door_shut(&waiters);
}

/* As many wait as the worker allows: it is told so, and the next one may ask again. */
static void test_a_refusal_reaches_the_process(void **state)
{
    (void)state;
    struct waiters waiters;
    door_open(&waiters);
    slot.is_refused = true;
    struct process one = process_start(&waiters, false);
    assert_int_equal(process_hear(&waiters, &one), 'r');
    assert_int_equal(waiters.count, 0);
    slot.is_refused = false;
    struct process two = process_start(&waiters, false);
    assert_int_equal(process_hear(&waiters, &two), 'g');
    process_end(&one, SIGKILL);
    process_end(&two, SIGKILL);
    door_shut(&waiters);
}

/* The command has ended, or is being killed: what waits no longer counts. */
static void test_the_end_of_the_command_takes_the_place(void **state)
{
    (void)state;
    struct waiters waiters;
    door_open(&waiters);
    struct process one = process_start(&waiters, false);
    assert_int_equal(process_hear(&waiters, &one), 'g');
    waiters_close(&waiters);
    assert_int_equal(slot.taken, 1);
    process_end(&one, SIGKILL);
    door_shut(&waiters);
}

/* The name of the door is no secret to the user's other programs; who is not below the slot is sent away. */
static void test_a_stranger_gives_nothing(void **state)
{
    (void)state;
    int names[2];
    int ends[2];
    char name[DOOR_ADDRESS_SIZE] = {0};
    assert_int_equal(pipe(names), 0);
    assert_int_equal(pipe(ends), 0);
    pid_t pid = fork();
    if (pid == 0) { /* the slot; the test is no child of it */
        struct waiters waiters = WAITERS_INIT;
        memset(&slot, 0, sizeof slot);
        quern_place_begin(&place, 0);
        bool is_open = waiters_open(&waiters);
        (void)!write(names[1], waiters.address, sizeof waiters.address);
        while (is_open && !serve(&waiters, ends[0])) {
        }
        _exit(is_open && slot.given == 0 && waiters.count == 0 ? 0 : 1);
    }
    assert_int_equal(read(names[0], name, sizeof name), sizeof name);
    struct sockaddr_un address;
    socklen_t size = door_address(name, &address);
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, size), 0);
    char answer = 0;
    assert_int_equal(recv(fd, &answer, 1, 0), 0);
    close(fd);
    assert_int_equal(write(ends[1], "e", 1), 1);
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    for (unsigned i = 0; i < 2; i++) {
        close(names[i]);
        close(ends[i]);
    }
}

/* What is in the environment need not be from quern; then there is no door, and a wait is a wait. */
static void test_an_environment_that_makes_no_sense_is_no_door(void **state)
{
    (void)state;
    static const char *const bad[] = {"",
                                      ":",
                                      "name",
                                      "name:",
                                      "name:0",
                                      "name:-1",
                                      "name:1x",
                                      "name:66",
                                      ":1",
                                      "name:99999999999999999999",
                                      "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa:1"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        pid_t pid = fork();
        if (pid == 0) {
            setenv(DOOR_ENVIRONMENT, bad[i], 1);
            _exit(quern_place_depth() == 0 && door_place() == NULL && quern_place_give(0) ? 0 : 1);
        }
        int status = 0;
        assert_int_equal(waitpid(pid, &status, 0), pid);
        print_message("%s\n", bad[i]);
        assert_int_equal(status, 0);
    }
}

/* Its slot is gone, or in another name space: it waits all the same. */
static void test_a_door_that_is_not_there_lets_the_wait_go_on(void **state)
{
    (void)state;
    pid_t pid = fork();
    if (pid == 0) {
        setenv(DOOR_ENVIRONMENT, "quern-slot-of-nobody:1", 1);
        bool is_given = quern_place_give(INT64_MAX);
        quern_place_take();
        _exit(is_given && quern_place_depth() == 1 ? 0 : 1);
    }
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_process_that_waits_gives_the_place_and_takes_it_back),
        cmocka_unit_test(test_a_process_that_is_killed_while_it_waits_waits_no_more),
        cmocka_unit_test(test_the_place_is_given_while_one_of_several_waits),
        cmocka_unit_test(test_a_refusal_reaches_the_process),
        cmocka_unit_test(test_the_end_of_the_command_takes_the_place),
        cmocka_unit_test(test_a_stranger_gives_nothing),
        cmocka_unit_test(test_an_environment_that_makes_no_sense_is_no_door),
        cmocka_unit_test(test_a_door_that_is_not_there_lets_the_wait_go_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

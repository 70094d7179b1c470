/*
 * Owns the signal handlers. Must not know what a command does about them. Start at on_signal.
 */
#include "client/cli/signals.h"

#include "client/cli/cli.h"
#include "common/check.h"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

static volatile sig_atomic_t is_held;
static volatile sig_atomic_t count;
static int pipe_fds[2] = {-1, -1};

static void on_signal(int number)
{
    (void)number;
    if (!is_held || count > 0) {
        _exit(STATUS_INTERRUPTED);
    }
    count = 1;
    int saved = errno;
    ssize_t written = write(pipe_fds[1], "", 1);
    (void)written;
    errno = saved;
}

void signals_install(void)
{
    static const int numbers[] = {SIGINT, SIGTERM, SIGHUP};
    (void)signal(SIGPIPE, SIG_IGN);
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        struct sigaction old;
        struct sigaction action = {.sa_handler = on_signal}; /* no SA_RESTART: a blocked write shall end */
        (void)sigemptyset(&action.sa_mask);
        if (sigaction(numbers[i], NULL, &old) == 0 && old.sa_handler != SIG_IGN) {
            (void)sigaction(numbers[i], &action, NULL);
        }
    }
}

void signals_hold(void)
{
    CHECK(pipe_fds[0] == -1);
    CHECK(pipe2(pipe_fds, O_CLOEXEC | O_NONBLOCK) == 0);
    is_held = 1;
}

bool signals_came(void)
{
    return count > 0;
}

int signals_fd(void)
{
    return pipe_fds[0];
}

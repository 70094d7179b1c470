/*
 * pool_process.c owns the start and the end of a pool's broker and worker as processes.
 * It must not know what they are for, nor when they are wanted.
 * Start reading at pool_process_start.
 */
#include "client/pool_process.h"

#include "client/inside.h"
#include "common/bytes.h"
#include "common/check.h"
#include "common/clock.h"
#include "common/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

/* Descriptors that are handed on stand above those they become. */
#define FD_MIN 10
#define FD_TIE 3
#define FD_SELF 4
#define FD_READY 5

/* ---- the ground ---- */

static void texts_free(char **texts)
{
    for (size_t i = 0; texts != NULL && texts[i] != NULL; i++) {
        free(texts[i]);
    }
    free(texts);
}

/* NULL: no memory. */
static char **environment_copy(void)
{
    size_t count = 0;
    while (environ != NULL && environ[count] != NULL) {
        count++;
    }
    char **copy = calloc(count + 1, sizeof(*copy));
    for (size_t i = 0; copy != NULL && i < count; i++) {
        copy[i] = strdup(environ[i]);
        if (copy[i] == NULL) {
            texts_free(copy);
            return NULL;
        }
    }
    return copy;
}

static void close_fd(int *fd)
{
    if (*fd >= 0) {
        close(*fd);
        *fd = -1;
    }
}

/* The same thing at a number that no standard stream has. */
static bool fd_raise(int *fd)
{
    int raised = *fd < 0 ? -1 : fcntl(*fd, F_DUPFD_CLOEXEC, FD_MIN);
    int error = errno;
    close_fd(fd);
    *fd = raised;
    errno = error;
    return raised >= 0;
}

static bool pipe_open(int ends[2])
{
    ends[0] = ends[1] = -1;
    return pipe2(ends, O_CLOEXEC) == 0 && fd_raise(&ends[0]) && fd_raise(&ends[1]);
}

enum quern_err pool_ground_open(struct pool_ground *ground_out)
{
    *ground_out = (struct pool_ground){.directory = -1, .tie = {-1, -1}, .self = -1};
    ground_out->environment = environment_copy();
    if (ground_out->environment == NULL) {
        return error_memory("a pool");
    }
    ground_out->directory = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
    ground_out->self = (int)syscall(SYS_pidfd_open, getpid(), 0);
    if (ground_out->directory < 0 || !fd_raise(&ground_out->directory) || !fd_raise(&ground_out->self) ||
        !pipe_open(ground_out->tie)) {
        return error_set(QUERN_IO, "a pool cannot be tied to this program: %s", strerror(errno));
    }
    return QUERN_OK;
}

void pool_ground_close(struct pool_ground *ground)
{
    texts_free(ground->environment);
    ground->environment = NULL;
    close_fd(&ground->directory);
    close_fd(&ground->tie[0]);
    close_fd(&ground->tie[1]);
    close_fd(&ground->self);
}

/* ---- the process ---- */

void pool_process_init(struct pool_process *process)
{
    *process = (struct pool_process){.pidfd = -1, .ready_fd = -1};
}

void pool_process_fini(struct pool_process *process)
{
    for (size_t i = 0; i < process->argc; i++) {
        free(process->argv[i]);
    }
    free(process->argv);
    free(process->path);
    process->argv = NULL;
    process->path = NULL;
    process->argc = 0;
    process->is_short = false;
}

void pool_process_add(struct pool_process *process, const char *argument)
{
    char *copy = argument == NULL ? NULL : strdup(argument);
    char **argv = copy == NULL ? NULL : realloc(process->argv, (process->argc + 2) * sizeof(*process->argv));
    process->argv = argv != NULL ? argv : process->argv;
    if (argv == NULL) {
        process->is_short = true;
        free(copy);
        return;
    }
    process->argv[process->argc++] = copy;
    process->argv[process->argc] = NULL;
}

bool pool_process_is_running(const struct pool_process *process)
{
    return process->pid != 0;
}

/* Standard streams: nothing to read; what is printed goes to the program's stderr, whose stdout is its own. A program
 * may have closed its stderr; what has that number then (some descriptor of ours, say) is for nobody to print to. */
static void streams_add(struct spawn_plan *plan)
{
    int flags = fcntl(STDERR_FILENO, F_GETFD);
    spawn_plan_open(plan, STDIN_FILENO, "/dev/null", O_RDONLY);
    if (flags < 0 || (flags & FD_CLOEXEC) != 0) {
        spawn_plan_open(plan, STDERR_FILENO, "/dev/null", O_WRONLY);
    }
    spawn_plan_dup(plan, STDERR_FILENO, STDOUT_FILENO);
}

static int spawn(struct pool_process *process, const struct pool_ground *ground, int ready_fd)
{
    struct spawn_plan plan;
    spawn_plan_init(&plan);
    streams_add(&plan);
    spawn_plan_dup(&plan, ground->tie[0], FD_TIE);
    spawn_plan_dup(&plan, ground->self, FD_SELF);
    spawn_plan_dup(&plan, ready_fd, FD_READY);
    spawn_plan_fchdir(&plan, ground->directory);
    /* Whatever the program has open is not for us: who waits for the end of a pipe waits for the program alone. */
    spawn_plan_close_from(&plan, FD_READY + 1);
    return spawn_program(&process->pid, process->path, &plan, process->argv, ground->environment);
}

int pool_process_start(struct pool_process *process, const struct pool_ground *ground)
{
    int ends[2];
    process->is_ready = false;
    process->words_size = 0;
    process->words[0] = '\0';
    if (!pipe_open(ends) || fcntl(ends[0], F_SETFL, O_NONBLOCK) != 0) {
        int err = errno;
        close_fd(&ends[0]);
        close_fd(&ends[1]);
        return err;
    }
    int err = spawn(process, ground, ends[1]);
    close_fd(&ends[1]);
    if (err != 0) {
        close_fd(&ends[0]);
        process->pid = 0;
        return err;
    }
    process->ready_fd = ends[0];
    process->pidfd = (int)syscall(SYS_pidfd_open, process->pid, 0);
    if (process->pidfd < 0) {
        err = errno;
        if (err != ESRCH) { /* else it has ended, and the program has waited for it */
            kill(process->pid, SIGKILL);
            (void)waitpid(process->pid, NULL, 0);
        }
        process->pid = 0;
        close_fd(&process->ready_fd);
    }
    return err;
}

/* ---- hearing it ---- */

static bool words_say_ready(const struct pool_process *process)
{
    const char *at = strstr(process->words, "ready ");
    return at != NULL && (at == process->words || at[-1] == '\n') && strchr(at, '\n') != NULL;
}

/* The last ones, if they are many. */
static void words_keep(struct pool_process *process, const char *chunk, size_t n)
{
    if (process->words_size + n >= sizeof(process->words)) {
        size_t kept = process->words_size / 2;
        memmove(process->words, process->words + process->words_size - kept, kept);
        process->words_size = kept;
    }
    memcpy(process->words + process->words_size, chunk, n);
    process->words_size += n;
    process->words[process->words_size] = '\0';
}

static void hear(struct pool_process *process)
{
    char chunk[512];
    ssize_t got = 0;
    while (process->ready_fd >= 0 && (got = read(process->ready_fd, chunk, sizeof(chunk))) != 0) {
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got < 0) {
            break;
        }
        words_keep(process, chunk, (size_t)got);
    }
    process->is_ready = process->is_ready || words_say_ready(process);
    if (process->is_ready || (got == 0 && process->ready_fd >= 0)) {
        close_fd(&process->ready_fd);
    }
}

static bool has_ended(const struct pool_process *process, int timeout_ms)
{
    struct pollfd end = {.fd = process->pidfd, .events = POLLIN};
    return poll(&end, 1, timeout_ms) > 0;
}

static void bury(struct pool_process *process)
{
    siginfo_t info = {0};
    process->end_number = -1;
    if (waitid(P_PIDFD, (id_t)process->pidfd, &info, WEXITED) == 0) {
        process->was_killed = info.si_code != CLD_EXITED;
        process->end_number = info.si_status;
    }
    close_fd(&process->pidfd);
    close_fd(&process->ready_fd);
    process->pid = 0;
}

void pool_process_look(struct pool_process *process)
{
    bool is_over = process->pidfd >= 0 && has_ended(process, 0); /* before reading: then these are all its words */
    hear(process);
    if (is_over) {
        bury(process);
    }
}

void pool_process_obituary(const struct pool_process *process, char *text, size_t size)
{
    const char *colon = process->words_size > 0 && !process->is_ready ? ": " : "";
    int length = (int)strcspn(process->words, "\n");
    const char *words = process->is_ready ? "" : process->words;
    if (process->end_number < 0) {
        (void)snprintf(text, size, "%s ended%s%.*s", process->path, colon, length, words);
    } else {
        (void)snprintf(text, size, "%s ended with %s %d%s%.*s", process->argv[0],
                       process->was_killed ? "signal" : "status", process->end_number, colon, length, words);
    }
}

/* ---- ending it ---- */

void pool_process_signal(const struct pool_process *process, int number)
{
    if (process->pidfd >= 0) {
        (void)syscall(SYS_pidfd_send_signal, process->pidfd, number, NULL, 0);
    }
}

bool pool_process_await_end(struct pool_process *process, int timeout_ms)
{
    int64_t deadline_ms = clock_mono_ms() + timeout_ms;
    while (process->pidfd >= 0) {
        int64_t left_ms = deadline_ms - clock_mono_ms();
        if (has_ended(process, left_ms > 0 ? (int)left_ms : 0)) {
            pool_process_look(process);
        } else if (left_ms <= 0) {
            return false;
        }
    }
    return true;
}

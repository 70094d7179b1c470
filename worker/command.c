/*
 * command.c owns running one command inside a slot: start, feed, capture, wait, report.
 * It must not know the broker or how the slot gets its tasks.
 * Start reading at command_run.
 *
 * The command stays in the slot's process group, so that a timeout reaches it. The slot itself holds SIGTERM back
 * meanwhile: the command gets its grace period, and the slot lives to reap it. Whatever a command leaves running is
 * killed once it has ended and its output was closed, or COMMAND_LINGER_MS have passed.
 */
#include "worker/command.h"

#include "common/bytes.h"
#include "common/check.h"
#include "common/clock.h"
#include "common/door.h"
#include "common/ids.h"
#include "common/limits.h"
#include "common/spawn.h"
#include "worker/board.h"
#include "worker/reaper.h"
#include "worker/task.h"
#include "worker/waiters.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

#define COMMAND_LINGER_MS 1000
/* Room for the keys around stdout and stderr. */
#define COMMAND_OUTPUT_MAX (PAYLOAD_SIZE_MAX - 128u)
#define COMMAND_READ_SIZE (64u * 1024u)
#define COMMAND_WORD_COUNT_MAX 65536u

struct words {
    char **items; /* ends with NULL */
    size_t count;
};

struct command {
    struct words argv;
    struct words env;
    char *cwd;
    struct bytes in;
    size_t in_at;
    int pipes[3]; /* our ends: stdin, stdout, stderr; -1 closed */
    int pidfd;
    pid_t pid;
    struct buf out[3]; /* [1], [2] */
    bool is_too_big;
    int status;
    struct rusage usage;
    struct waiters waiters;
};

/* ---- arguments ---- */

static void words_add(struct words *words, char *word)
{
    words->items = xrealloc(words->items, (words->count + 2) * sizeof(words->items[0]));
    words->items[words->count++] = word;
    words->items[words->count] = NULL;
}

static void words_fini(struct words *words)
{
    for (size_t i = 0; i < words->count; i++) {
        free(words->items[i]);
    }
    free(words->items);
}

/* A NUL-terminated copy; NULL if it is no text or binary, or has a NUL inside. */
static char *read_word(struct quern_reader *reader)
{
    const void *p;
    size_t n;
    if (quern_read_bytes(reader, &p, &n) != QUERN_OK || memchr(p, 0, n) != NULL) {
        return NULL;
    }
    return bytes_dup_text(bytes_of(p, n));
}

static bool read_argv(struct quern_reader *reader, struct words *argv)
{
    size_t count;
    if (quern_read_array(reader, &count) != QUERN_OK || count == 0 || count > COMMAND_WORD_COUNT_MAX) {
        return false;
    }
    for (size_t i = 0; i < count; i++) {
        char *word = read_word(reader);
        if (word == NULL) {
            return false;
        }
        words_add(argv, word);
    }
    return quern_read_close(reader) == QUERN_OK;
}

/* NAME=VALUE takes the place of an earlier NAME=. */
static void env_set(struct words *env, char *setting)
{
    size_t size = (size_t)(strchr(setting, '=') - setting) + 1;
    for (size_t i = 0; i < env->count; i++) {
        if (strncmp(env->items[i], setting, size) == 0) {
            free(env->items[i]);
            env->items[i] = setting;
            return;
        }
    }
    words_add(env, setting);
}

static bool read_env(struct quern_reader *reader, struct words *env)
{
    size_t count;
    if (quern_read_map(reader, &count) != QUERN_OK || count > COMMAND_WORD_COUNT_MAX) {
        return false;
    }
    for (size_t i = 0; i < count; i++) {
        char *name = read_word(reader);
        char *value = name == NULL ? NULL : read_word(reader);
        bool is_good = value != NULL && name[0] != '\0' && strchr(name, '=') == NULL;
        if (is_good) {
            struct buf setting = {0};
            buf_printf(&setting, "%s=%s", name, value);
            env_set(env, bytes_dup_text(buf_bytes(&setting)));
            buf_fini(&setting);
        }
        free(name);
        free(value);
        if (!is_good) {
            return false;
        }
    }
    return quern_read_close(reader) == QUERN_OK;
}

static bool read_option(struct quern_reader *reader, struct command *command)
{
    const char *key;
    size_t n;
    if (quern_read_str(reader, &key, &n) != QUERN_OK) {
        return false;
    }
    if (quern_peek(reader) == QUERN_TYPE_NIL) {
        return quern_read_nil(reader) == QUERN_OK;
    }
    if (bytes_is(bytes_of(key, n), "stdin")) {
        const void *p;
        size_t size;
        bool is_good = quern_read_bytes(reader, &p, &size) == QUERN_OK;
        command->in = is_good ? bytes_of(p, size) : command->in;
        return is_good;
    }
    if (bytes_is(bytes_of(key, n), "env")) {
        return read_env(reader, &command->env);
    }
    if (bytes_is(bytes_of(key, n), "cwd")) {
        free(command->cwd);
        command->cwd = read_word(reader);
        return command->cwd != NULL;
    }
    return quern_read_any(reader, NULL, NULL) == QUERN_OK; /* newer clients may say more */
}

static bool read_args(struct quern_reader *reader, struct command *command)
{
    size_t count;
    if (!read_argv(reader, &command->argv)) {
        return false;
    }
    for (char **setting = environ; *setting != NULL; setting++) {
        words_add(&command->env, xstrdup(*setting));
    }
    if (quern_peek(reader) == QUERN_TYPE_NONE || quern_peek(reader) == QUERN_TYPE_NIL) {
        return quern_reader_error(reader) == QUERN_OK;
    }
    if (quern_read_map(reader, &count) != QUERN_OK) {
        return false;
    }
    while (count-- > 0) {
        if (!read_option(reader, command)) {
            return false;
        }
    }
    return quern_read_close(reader) == QUERN_OK;
}

/* ---- start ---- */

static void close_fd(int *fd)
{
    if (*fd >= 0) {
        close(*fd);
        *fd = -1;
    }
}

/* Child ends of the three pipes in theirs; without stdin, that is /dev/null. */
static bool open_pipes(struct command *command, int theirs[3])
{
    for (int i = 0; i < 3; i++) {
        int ends[2];
        if (i == 0 && command->in.n == 0) {
            theirs[0] = open("/dev/null", O_RDONLY | O_CLOEXEC);
            continue;
        }
        if (pipe2(ends, O_CLOEXEC) != 0) {
            return false;
        }
        theirs[i] = ends[i == 0 ? 0 : 1];
        command->pipes[i] = ends[i == 0 ? 1 : 0];
        fcntl(command->pipes[i], F_SETFL, O_NONBLOCK);
    }
    return theirs[0] >= 0;
}

/* The command is looked for where its own PATH says, but posix_spawnp knows ours only: that is changed for the call. */
static char *path_begin(const struct command *command)
{
    const char *ours = getenv("PATH");
    char *before = ours != NULL ? xstrdup(ours) : NULL;
    for (size_t i = 0; i < command->env.count; i++) {
        if (strncmp(command->env.items[i], "PATH=", 5) == 0) {
            (void)setenv("PATH", command->env.items[i] + 5, 1);
        }
    }
    return before;
}

static void path_end(char *before)
{
    if (before != NULL) {
        (void)setenv("PATH", before, 1);
    } else {
        (void)unsetenv("PATH");
    }
    free(before);
}

static void env_put(struct words *env, const char *name, const char *value)
{
    struct buf setting = {0};
    buf_printf(&setting, "%s=%s", name, value);
    env_set(env, bytes_dup_text(buf_bytes(&setting)));
    buf_fini(&setting);
}

/* Which task it is, and how its processes say that they wait. */
static void env_complete(const struct quern_task *task, struct command *command)
{
    char text[DOOR_ADDRESS_SIZE + 16];
    env_put(&command->env, DOOR_TASK_ENVIRONMENT, id_text(task->id, text));
    if (waiters_open(&command->waiters)) {
        snprintf(text, sizeof text, "%s:%u", command->waiters.address, quern_place_depth());
        env_put(&command->env, DOOR_ENVIRONMENT, text);
    }
}

static int spawn(struct command *command, const int theirs[3])
{
    struct spawn_plan plan;
    posix_spawnattr_t attributes;
    sigset_t none;
    sigset_t changed;
    sigemptyset(&none);
    sigemptyset(&changed);
    sigaddset(&changed, SIGPIPE);
    spawn_plan_init(&plan);
    posix_spawnattr_init(&attributes);
    for (int i = 0; i < 3; i++) {
        spawn_plan_dup(&plan, theirs[i], i);
    }
    if (command->cwd != NULL) {
        spawn_plan_chdir(&plan, command->cwd);
    }
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setsigdefault(&attributes, &changed);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    char *before = path_begin(command);
    int err = plan.err != 0 ? plan.err
                            : posix_spawnp(&command->pid, command->argv.items[0], &plan.actions, &attributes,
                                           command->argv.items, command->env.items);
    path_end(before);
    spawn_plan_fini(&plan);
    posix_spawnattr_destroy(&attributes);
    return err;
}

/* Is there a file of that name on its PATH? A directory there that may not be entered is no file. */
static bool is_on_path(const struct command *command)
{
    const char *at = NULL;
    for (size_t i = 0; i < command->env.count; i++) {
        at = strncmp(command->env.items[i], "PATH=", 5) == 0 ? command->env.items[i] + 5 : at;
    }
    bool is_found = false;
    while (at != NULL && !is_found) {
        struct buf file = {0};
        buf_printf(&file, "%.*s/%s", (int)strcspn(at, ":"), at, command->argv.items[0]);
        buf_put(&file, "", 1);
        is_found = access((const char *)file.p, F_OK) == 0;
        buf_fini(&file);
        at = strchr(at, ':');
        at = at != NULL ? at + 1 : NULL;
    }
    return is_found;
}

static enum quern_err fail_start(struct quern_task *task, const struct command *command, int err)
{
    const char *name = command->argv.items[0];
    switch (err) {
    case ENOENT:
        if (strchr(name, '/') != NULL && access(name, F_OK) == 0) {
            return quern_task_fail(task, "NotStarted", "command %.1000s names an interpreter that does not exist",
                                   name);
        }
        return quern_task_fail(task, "NotFound", "command not found: %.1000s", name);
    case EACCES:
        if (strchr(name, '/') == NULL && !is_on_path(command)) {
            return quern_task_fail(task, "NotFound", "command not found: %.1000s", name);
        }
        return quern_task_fail(task, "NotExecutable", "command may not be executed: %.1000s", name);
    default:
        return quern_task_fail(task, "NotStarted", "command %.1000s could not be started: %s", name, strerror(err));
    }
}

/* 0, or why the command cannot be started in its working directory (errno). */
static int directory_error(const struct command *command)
{
    struct stat facts;
    if (command->cwd == NULL) {
        return 0;
    }
    if (stat(command->cwd, &facts) != 0) {
        return errno;
    }
    if (!S_ISDIR(facts.st_mode)) {
        return ENOTDIR;
    }
    return eaccess(command->cwd, X_OK) == 0 ? 0 : errno;
}

static enum quern_err start(struct quern_task *task, struct command *command)
{
    int err = directory_error(command);
    if (err == ENOENT) {
        return quern_task_fail(task, "NoDirectory", "the working directory %.1000s does not exist on this host",
                               command->cwd);
    }
    if (err != 0) {
        return quern_task_fail(task, "NoDirectory", "the working directory %.1000s cannot be entered on this host: %s",
                               command->cwd, strerror(err));
    }
    int theirs[3] = {-1, -1, -1};
    env_complete(task, command);
    err = open_pipes(command, theirs) ? spawn(command, theirs) : errno;
    for (int i = 0; i < 3; i++) {
        close_fd(&theirs[i]);
    }
    if (err != 0) {
        return fail_start(task, command, err);
    }
    command->pidfd = (int)syscall(SYS_pidfd_open, command->pid, 0);
    return QUERN_OK;
}

/* ---- feed and capture ---- */

static void feed(struct command *command)
{
    ssize_t put = write(command->pipes[0], command->in.p + command->in_at, command->in.n - command->in_at);
    if (put > 0) {
        command->in_at += (size_t)put;
    }
    /* A command that does not read its input is no error. */
    if (command->in_at == command->in.n || (put < 0 && errno != EAGAIN && errno != EINTR)) {
        close_fd(&command->pipes[0]);
    }
}

static void capture(struct command *command, struct quern_task *task, int which)
{
    struct buf *out = &command->out[which];
    buf_reserve(out, COMMAND_READ_SIZE);
    ssize_t got = read(command->pipes[which], out->p + out->n, COMMAND_READ_SIZE);
    if (got > 0) {
        if (task->page != NULL) {
            board_put(task->page, (enum output_stream)which, bytes_of(out->p + out->n, (size_t)got));
        }
        out->n += (size_t)got;
        command->is_too_big = command->out[1].n + command->out[2].n > COMMAND_OUTPUT_MAX;
    } else if (got == 0 || (errno != EAGAIN && errno != EINTR)) {
        close_fd(&command->pipes[which]);
    }
}

/* Until all output has ended, or the command has and its heirs keep the pipes open for too long. */
static void pump(struct command *command, struct quern_task *task)
{
    int64_t until_ms = INT64_MAX;
    while ((command->pipes[1] >= 0 || command->pipes[2] >= 0 || (until_ms == INT64_MAX && command->pidfd >= 0)) &&
           !command->is_too_big) {
        struct pollfd fds[4 + WAITERS_FD_COUNT_MAX] = {
            {.fd = command->pipes[0], .events = POLLOUT},
            {.fd = command->pipes[1], .events = POLLIN},
            {.fd = command->pipes[2], .events = POLLIN},
            {.fd = until_ms == INT64_MAX ? command->pidfd : -1, .events = POLLIN}};
        size_t count = 4 + waiters_poll_fds(&command->waiters, fds + 4);
        int64_t now_ms = clock_mono_ms();
        int64_t wake_ms = until_ms < command->waiters.take_ms ? until_ms : command->waiters.take_ms;
        if (until_ms != INT64_MAX && until_ms <= now_ms) {
            return;
        }
        if (poll(fds, count, wake_ms == INT64_MAX ? -1 : wake_ms > now_ms ? (int)(wake_ms - now_ms) : 0) < 0) {
            continue;
        }
        waiters_serve(&command->waiters, fds + 4);
        if (fds[0].revents != 0) {
            feed(command);
        }
        for (int i = 1; i < 3; i++) {
            if (fds[i].revents != 0) {
                capture(command, task, i);
            }
        }
        if (fds[3].revents != 0) {
            until_ms = clock_mono_ms() + COMMAND_LINGER_MS;
        }
    }
}

/* Reap the command, then kill and reap whatever it left; all our children are of this command. */
static void clear_away(struct command *command)
{
    for (int i = 0; i < 3; i++) {
        close_fd(&command->pipes[i]);
    }
    if (command->is_too_big) {
        kill(command->pid, SIGKILL);
    }
    while (wait4(command->pid, &command->status, 0, &command->usage) < 0 && errno == EINTR) {
    }
    close_fd(&command->pidfd);
    while (reaper_kill_strays(NULL, NULL)) {
        while (waitpid(-1, NULL, 0) < 0 && errno == EINTR) {
        }
    }
}

/* ---- result ---- */

static void write_result(const struct command *command, struct quern_writer *result)
{
    int status = command->status;
    quern_write_map(result, 3);
    quern_write_text(result, "exit_status");
    quern_write_i64(result, WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
    quern_write_text(result, "stdout");
    quern_write_bin(result, command->out[1].p, command->out[1].n);
    quern_write_text(result, "stderr");
    quern_write_bin(result, command->out[2].p, command->out[2].n);
}

static enum quern_err report(struct quern_task *task, const struct command *command, struct quern_writer *result)
{
    if (command->is_too_big) {
        return quern_task_fail(task, "OutputTooBig",
                               "stdout and stderr together are over %u bytes; let it write to a file",
                               COMMAND_OUTPUT_MAX);
    }
    write_result(command, result);
    task->keeps_result = true;
    task->peak_kib = (uint64_t)command->usage.ru_maxrss;
    if (WIFSIGNALED(command->status)) {
        int number = WTERMSIG(command->status);
        task->signal = (uint8_t)number;
        return quern_task_fail(task, "Signal", "the command died of signal %d (%s)", number, strsignal(number));
    }
    if (WEXITSTATUS(command->status) != 0) {
        task->exit_status = (uint8_t)WEXITSTATUS(command->status);
        return quern_task_fail(task, "ExitStatus", "exit status %d", WEXITSTATUS(command->status));
    }
    return QUERN_OK;
}

static void command_fini(struct command *command)
{
    waiters_close(&command->waiters);
    words_fini(&command->argv);
    words_fini(&command->env);
    free(command->cwd);
    buf_fini(&command->out[1]);
    buf_fini(&command->out[2]);
    for (int i = 0; i < 3; i++) {
        close_fd(&command->pipes[i]);
    }
}

enum quern_err command_run(struct quern_task *task, struct quern_reader *args, struct quern_writer *result)
{
    struct command command = {.pipes = {-1, -1, -1}, .pidfd = -1, .waiters = WAITERS_INIT};
    sigset_t held;
    sigset_t before;
    sigemptyset(&held);
    sigaddset(&held, SIGTERM);
    sigprocmask(SIG_BLOCK, &held, &before);
    void (*on_pipe)(int) = signal(SIGPIPE, SIG_IGN);
    enum quern_err err;
    if (!read_args(args, &command)) {
        err = quern_task_fail_args(task, args, "a command takes [[argv...], {stdin, env, cwd}], without NUL bytes");
    } else {
        err = start(task, &command);
    }
    if (err == QUERN_OK) {
        if (task->page != NULL) {
            board_begin(task->page, task->number);
        }
        pump(&command, task);
        waiters_close(&command.waiters);
        clear_away(&command);
        err = report(task, &command, result);
    }
    command_fini(&command);
    signal(SIGPIPE, on_pipe);
    sigprocmask(SIG_SETMASK, &before, NULL);
    return err;
}

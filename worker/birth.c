/*
 * birth.c owns the making of one slot process, by fork or afresh, up to the loop that runs tasks.
 * It must not know when slots are made, nor tasks.
 * Start reading at birth_slot.
 */
#include "worker/birth.h"

#include "common/check.h"
#include "common/log.h"
#include "common/messages.h"
#include "common/spawn.h"
#include "worker/child.h"
#include "worker/command.h"
#include "worker/cradle.h"
#include "worker/groups.h"
#include "worker/zygotewire.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

extern char **environ;

bool birth_load(const struct birth *birth, struct registry *registry)
{
    registry->may_have_threads = birth->is_spawned;
    if (strcmp(birth->allow_commands, "1") == 0 && !registry_add(registry, FUNCTION_COMMAND, command_run, "quern")) {
        return false;
    }
    if (birth->program != NULL && !registry_add_module(registry, birth->program, "the program")) {
        return false;
    }
    for (size_t i = 0; i < birth->module_count; i++) {
        if (!registry_load(registry, birth->modules[i])) {
            return false;
        }
    }
    return true;
}

/* ---- in the slot ---- */

/* Have the kernel send SIGKILL to our process group when the life pipe's writer, the supervisor, is gone. The pipe is
 * opened anew, because who is told is a property of the open file, not of the pipe. Best effort beside the zygote. */
static void die_with_supervisor(int life)
{
    char path[sizeof("/proc/self/fd/") + 16];
    snprintf(path, sizeof(path), "/proc/self/fd/%d", life);
    int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0 || fcntl(fd, F_SETOWN, -getpid()) != 0 || fcntl(fd, F_SETSIG, SIGKILL) != 0 ||
        fcntl(fd, F_SETFL, O_NONBLOCK | O_ASYNC) != 0) {
        log_event(LOG_WARN, "a slot is not bound to its supervisor", "why=\"%s\"", strerror(errno));
    }
    close(life);
    struct pollfd end = {.fd = fd, .events = 0};
    if (fd >= 0 && poll(&end, 1, 0) > 0 && (end.revents & POLLHUP) != 0) {
        _exit(0);
    }
}

static void default_signals(void)
{
    sigset_t none;
    for (int number = 1; number < NSIG; number++) {
        signal(number, SIG_DFL);
    }
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

static void own_process(int life)
{
    setpgid(0, 0);
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    prctl(PR_SET_NAME, "quern-slot");
    group_join();
    die_with_supervisor(life);
}

/* What functions print goes where the supervisor reads it. */
static void print_into(int output, int errors)
{
    dup2(output, STDOUT_FILENO);
    dup2(errors, STDERR_FILENO);
    close(output);
    close(errors);
}

__attribute__((noreturn)) static void become_slot(const struct birth *birth, const int fds[BIRTH_FD_COUNT],
                                                  struct statuspage *page)
{
    close(fds[BIRTH_SOCKET]);
    close(fds[BIRTH_PAGE]);
    close(fds[BIRTH_OUTPUT]);
    close(fds[BIRTH_ERRORS]);
    if (fds[BIRTH_GROUP] >= 0) {
        close(fds[BIRTH_GROUP]);
    }
    print_into(fds[BIRTH_SLOT_OUTPUT], fds[BIRTH_SLOT_ERRORS]);
    close(birth->closes[0]);
    close(birth->closes[1]);
    own_process(birth->life);
    default_signals();
    child_begin(fds[BIRTH_SLOT_SOCKET], page, birth->registry);
}

/* A descriptor that our parent named; -1 if that is none. */
static int fd_of(const char *text)
{
    char *end = NULL;
    long fd = strtol(text, &end, 10);
    if (end == text || *end != '\0' || fd < 3 || fd > INT_MAX) {
        return -1;
    }
    (void)fcntl((int)fd, F_SETFD, FD_CLOEXEC);
    return (int)fd;
}

int birth_main(int argc, char **argv, const struct quern_module *program)
{
    static struct registry registry;
    enum log_level level = LOG_INFO;
    if (argc < 7) {
        return 2;
    }
    int fd = fd_of(argv[2]);
    int page_fd = fd_of(argv[3]);
    int life = fd_of(argv[4]);
    struct birth birth = {.program = program,
                          .allow_commands = argv[5],
                          .is_spawned = true,
                          .modules = argv + 7,
                          .module_count = (size_t)argc - 7};
    struct statuspage *page = page_fd < 0 ? NULL : statuspage_map(page_fd);
    if (fd < 0 || life < 0 || page == NULL) {
        return 2;
    }
    close(page_fd);
    (void)log_level_parse(argv[6], &level);
    log_open("slot", level);
    own_process(life);
    setvbuf(stdout, NULL, _IOLBF, 0); /* a line belongs to the task that printed it */
    if (!birth_load(&birth, &registry)) {
        child_refuse(fd, page, &registry);
    }
    child_begin(fd, page, &registry);
}

/* ---- in the zygote ---- */

/* A process of the program, started afresh; it leads a process group. 0, or errno. */
static int spawn(const struct birth *birth, const int made[BIRTH_FD_COUNT], pid_t *pid_out)
{
    char texts[3][16];
    const int fds[3] = {made[BIRTH_SLOT_SOCKET], made[BIRTH_PAGE], birth->life};
    const char **argv = xcalloc(birth->module_count + 8, sizeof(*argv));
    struct spawn_plan plan;
    spawn_plan_init(&plan);
    argv[0] = birth->program_name;
    argv[1] = SLOT_ARGUMENT;
    for (size_t i = 0; i < 3; i++) {
        snprintf(texts[i], sizeof(texts[i]), "%d", fds[i]);
        argv[2 + i] = texts[i];
        spawn_plan_dup(&plan, fds[i], fds[i]);
    }
    spawn_plan_dup(&plan, made[BIRTH_SLOT_OUTPUT], STDOUT_FILENO);
    spawn_plan_dup(&plan, made[BIRTH_SLOT_ERRORS], STDERR_FILENO);
    argv[5] = birth->allow_commands;
    argv[6] = birth->level;
    memcpy(argv + 7, birth->modules, birth->module_count * sizeof(*argv));
    int err = spawn_program(pid_out, "/proc/self/exe", &plan, (char **)(uintptr_t)argv, environ);
    free(argv);
    return err;
}

static int fork_with(const struct birth *birth, const int fds[BIRTH_FD_COUNT], pid_t *pid_out)
{
    struct statuspage *page = statuspage_map(fds[BIRTH_PAGE]);
    if (page == NULL) {
        return errno;
    }
    (void)fflush(stdout); /* what an initialiser printed is not for every slot to print again */
    pid_t pid = fork();
    if (pid == 0) {
        become_slot(birth, fds, page);
    }
    int err = errno;
    statuspage_unmap(&page);
    if (pid < 0) {
        return err;
    }
    setpgid(pid, pid); /* both sides do it: whoever comes first */
    *pid_out = pid;
    return 0;
}

/* What is made, and what came of it: told through memory, because it may be made in another process (cradle.h). */
struct making {
    const struct birth *birth;
    const int *fds;
    pid_t pid;
    int err;
};

static void make(void *self)
{
    struct making *making = self;
    making->err = making->birth->is_spawned ? spawn(making->birth, making->fds, &making->pid)
                                            : fork_with(making->birth, making->fds, &making->pid);
}

/* In its cgroup, if it is to have one. 0, or errno. */
static int make_in_group(const struct birth *birth, uint64_t number, int fds[BIRTH_FD_COUNT], pid_t *pid_out)
{
    struct making making = {.birth = birth, .fds = fds};
    fds[BIRTH_GROUP] = group_make(number);
    if (fds[BIRTH_GROUP] < 0 || !cradle_run(fds[BIRTH_GROUP], make, &making)) {
        if (fds[BIRTH_GROUP] >= 0) {
            group_name(number);
        }
        make(&making);
        (void)unsetenv(GROUP_VARIABLE);
    }
    if (making.err != 0) {
        group_unmake(number);
    }
    *pid_out = making.pid;
    return making.err;
}

/* A pipe of its output: our end does not block, its end does. */
static int open_output(int *ours, int *theirs)
{
    int pair[2];
    if (pipe2(pair, O_CLOEXEC) != 0) {
        return errno;
    }
    *ours = pair[0];
    *theirs = pair[1];
    return fcntl(pair[0], F_SETFL, O_NONBLOCK) == 0 ? 0 : errno;
}

int birth_slot(const struct birth *birth, uint64_t number, int fds[BIRTH_FD_COUNT], pid_t *pid_out)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) {
        return errno;
    }
    int room = LOCAL_BUFFER_SIZE;
    (void)setsockopt(pair[0], SOL_SOCKET, SO_SNDBUF, &room, sizeof(room));
    fds[BIRTH_SOCKET] = pair[0];
    fds[BIRTH_SLOT_SOCKET] = pair[1];
    fds[BIRTH_PAGE] = statuspage_create();
    if (fds[BIRTH_PAGE] < 0) {
        return errno;
    }
    int err = open_output(&fds[BIRTH_OUTPUT], &fds[BIRTH_SLOT_OUTPUT]);
    err = err != 0 ? err : open_output(&fds[BIRTH_ERRORS], &fds[BIRTH_SLOT_ERRORS]);
    if (err == 0) {
        err = make_in_group(birth, number, fds, pid_out);
    }
    if (err != 0) {
        return err;
    }
    fds[BIRTH_PIDFD] = (int)syscall(SYS_pidfd_open, *pid_out, 0);
    err = errno;
    if (fds[BIRTH_PIDFD] < 0) {
        kill(*pid_out, SIGKILL);
        return err;
    }
    return 0;
}

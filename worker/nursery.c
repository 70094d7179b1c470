/*
 * nursery.c owns the zygote process: load, fork slots on request, reap them, and clear everything away at the end.
 * It must not know tasks, the broker or ZeroMQ, nor how a slot is made (birth.c); it has one thread.
 * Start reading at nursery_main, then fork_slot.
 *
 * Who dies with whom:
 *   - The supervisor dies: its end of our socket closes; we kill all slots with their process groups, then everything
 *     that was orphaned to us (we are a subreaper), until no child is left. Besides, each slot has asked the kernel to
 *     kill its process group when the life pipe closes, whose only writer is the supervisor: so slots die even if we
 *     died before.
 *   - We die: slots go on; they become children of the supervisor, a subreaper too.
 *   - A slot dies: what is left of its process group and what was orphaned to us is killed, and waited for; then its
 *     death is reported.
 */
#include "worker/nursery.h"

#include "common/check.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/messages.h"
#include "worker/birth.h"
#include "worker/modules.h"
#include "worker/reaper.h"
#include "worker/zygotewire.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* How long the end may take. */
#define NURSERY_CLEAR_MS 1800

struct nursery {
    int socket; /* to the supervisor */
    int life;   /* read end of the life pipe */
    int signals;
    struct registry registry;
    struct birth birth;
    pid_t slots[SLOT_COUNT_MAX * 4]; /* alive; while some wait there are more; a replaced one may still be dying */
    size_t slot_count;
    struct deaths deaths;
    bool has_strays; /* whose slot was reported: they are killed as long as there are any */
};

/* ---- talking ---- */

static void send_packet(struct nursery *nursery, const struct zygote_head *head, const char *text, const int *fds)
{
    struct iovec parts[2] = {{.iov_base = (void *)(uintptr_t)head, .iov_len = sizeof(*head)},
                             {.iov_base = (void *)(uintptr_t)text, .iov_len = head->text_size}};
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(ZYGOTE_FD_COUNT * sizeof(int))];
    } control = {0};
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};
    if (fds != NULL) {
        message.msg_control = control.bytes;
        message.msg_controllen = sizeof(control.bytes);
        struct cmsghdr *rights = CMSG_FIRSTHDR(&message);
        rights->cmsg_level = SOL_SOCKET;
        rights->cmsg_type = SCM_RIGHTS;
        rights->cmsg_len = CMSG_LEN(ZYGOTE_FD_COUNT * sizeof(int));
        memcpy(CMSG_DATA(rights), fds, ZYGOTE_FD_COUNT * sizeof(int));
    }
    /* Failing means that the supervisor is gone: end of file follows. */
    while (sendmsg(nursery->socket, &message, MSG_NOSIGNAL) < 0 && errno == EINTR) {
    }
}

static void send_ready(struct nursery *nursery)
{
    char *names = xmalloc(ZYGOTE_TEXT_SIZE_MAX);
    size_t size = 0;
    for (size_t i = 0; i < nursery->registry.count; i++) {
        size_t n = strlen(nursery->registry.functions[i].name) + 1;
        memcpy(names + size, nursery->registry.functions[i].name, n);
        size += n;
    }
    struct zygote_head head = {
        .word = ZYGOTE_READY, .status = (int32_t)nursery->registry.count, .text_size = (uint32_t)size};
    send_packet(nursery, &head, names, NULL);
    free(names);
}

static int refuse(struct nursery *nursery)
{
    const char *why = nursery->registry.why != NULL ? nursery->registry.why : "memory is used up";
    struct zygote_head head = {.word = ZYGOTE_REFUSED, .text_size = (uint32_t)strnlen(why, ZYGOTE_TEXT_SIZE_MAX)};
    send_packet(nursery, &head, why, NULL);
    return 1;
}

/* ---- the making of a slot ---- */

static void fork_slot(struct nursery *nursery, uint64_t number)
{
    int fds[BIRTH_FD_COUNT] = {-1, -1, -1, -1, -1, -1, -1, -1, -1};
    pid_t pid = 0;
    int err = nursery->slot_count == sizeof(nursery->slots) / sizeof(nursery->slots[0])
                  ? EAGAIN
                  : birth_slot(&nursery->birth, number, fds, &pid);
    if (err == 0) {
        nursery->slots[nursery->slot_count++] = pid;
        struct zygote_head head = {.word = ZYGOTE_SLOT, .pid = pid, .number = number};
        send_packet(nursery, &head, NULL, fds);
    } else {
        struct zygote_head head = {.word = ZYGOTE_NO_SLOT, .status = err, .number = number};
        send_packet(nursery, &head, NULL, NULL);
    }
    for (size_t i = 0; i < BIRTH_FD_COUNT; i++) {
        if (fds[i] >= 0) {
            close(fds[i]);
        }
    }
}

/* ---- the end of slots ---- */

static bool is_slot(void *self, pid_t pid)
{
    const struct nursery *nursery = self;
    for (size_t i = 0; i < nursery->slot_count; i++) {
        if (nursery->slots[i] == pid) {
            return true;
        }
    }
    return false;
}

static bool forget_slot(struct nursery *nursery, pid_t pid)
{
    for (size_t i = 0; i < nursery->slot_count; i++) {
        if (nursery->slots[i] == pid) {
            nursery->slots[i] = nursery->slots[--nursery->slot_count];
            return true;
        }
    }
    return false;
}

static void report_deaths(struct nursery *nursery)
{
    for (size_t i = 0; i < nursery->deaths.count; i++) {
        const struct reaped *reaped = &nursery->deaths.list[i];
        struct zygote_head head = {.word = ZYGOTE_DEAD,
                                   .pid = reaped->pid,
                                   .status = reaped->status,
                                   .number = reaped->is_survived,
                                   .cpu_us = reaped->cpu_us,
                                   .peak_kib = reaped->peak_kib};
        send_packet(nursery, &head, NULL, NULL);
        nursery->has_strays = nursery->has_strays || reaped->is_survived;
    }
    nursery->deaths.count = 0;
}

static void reap(struct nursery *nursery)
{
    struct reaped reaped;
    int64_t now_ms = clock_mono_ms();
    bool was_any = nursery->deaths.count > 0;
    nursery->has_strays = nursery->has_strays && reaper_freeze_strays(is_slot, nursery);
    while (reaper_next(&reaped)) {
        was_any = true;
        if (forget_slot(nursery, reaped.pid)) {
            deaths_add(&nursery->deaths, &reaped, now_ms);
        }
    }
    /* No process of a task is alive when its end is told. */
    if (was_any && deaths_are_complete(&nursery->deaths, is_slot, nursery, now_ms)) {
        report_deaths(nursery);
    }
}

/* Leave nothing behind. */
static void clear_away(struct nursery *nursery)
{
    int64_t began_ms = clock_mono_ms();
    int64_t until_ms = began_ms + NURSERY_CLEAR_MS;
    for (size_t i = 0; i < nursery->slot_count; i++) {
        kill(-nursery->slots[i], SIGKILL);
        kill(nursery->slots[i], SIGKILL);
    }
    struct reaped reaped;
    while (clock_mono_ms() < until_ms) {
        bool was_any = clock_mono_ms() < began_ms + REAPER_PATIENCE_MS ? reaper_kill_strays(NULL, NULL)
                                                                       : reaper_freeze_strays(NULL, NULL);
        while (reaper_next(&reaped)) {
            was_any = true;
        }
        if (!was_any && waitpid(-1, NULL, WNOHANG) < 0) {
            return;
        }
        /* SIGCHLD, or a look anyway: an orphan on its way to us sends none. */
        struct pollfd death = {.fd = nursery->signals, .events = POLLIN};
        struct signalfd_siginfo info;
        if (poll(&death, 1, 10) > 0) {
            (void)!read(nursery->signals, &info, sizeof(info));
        }
    }
}

/* ---- life ---- */

/* Slots load by themselves; what they will have is found out by a process that then ends. */
static bool load_aside(struct nursery *nursery)
{
    int status = 0;
    pid_t parent = getpid();
    pid_t pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent) {
            _exit(0);
        }
        nursery->registry.leaves_uninitialised = true;
        if (!birth_load(&nursery->birth, &nursery->registry)) {
            _exit(refuse(nursery));
        }
        send_ready(nursery);
        _exit(0);
    }
    while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    if (WIFSIGNALED(status)) {
        (void)raise(WTERMSIG(status)); /* our end says how it ended */
    }
    return pid > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

/* False: end of file. */
static bool hear(struct nursery *nursery)
{
    struct zygote_head head;
    ssize_t got = recv(nursery->socket, &head, sizeof(head), MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) {
        return true;
    }
    if (got != (ssize_t)sizeof(head)) {
        return false;
    }
    if (head.word == ZYGOTE_FORK) {
        fork_slot(nursery, head.number);
    }
    return true;
}

static void serve(struct nursery *nursery)
{
    for (;;) {
        struct pollfd fds[2] = {{.fd = nursery->socket, .events = POLLIN}, {.fd = nursery->signals, .events = POLLIN}};
        bool is_looking = nursery->deaths.count > 0 || nursery->has_strays;
        if (poll(fds, 2, is_looking ? REAPER_LOOK_MS : -1) < 0) {
            continue;
        }
        if (fds[1].revents != 0 || is_looking) {
            struct signalfd_siginfo info;
            (void)!read(nursery->signals, &info, sizeof(info));
            reap(nursery);
        }
        if (fds[0].revents != 0 && !hear(nursery)) {
            return;
        }
    }
}

static void quieten(void)
{
    /* stdout belongs to the supervisor; what a handler prints goes to stderr. */
    int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (null >= 0) {
        dup2(null, 0);
        close(null);
    }
    dup2(2, 1);
    setvbuf(stdout, NULL, _IOLBF, 0); /* a line belongs to the task that printed it */
    prctl(PR_SET_NAME, "quern-zygote");
    /* Initialisers may take long and look at no socket; from serve on, end of file tells. */
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    prctl(PR_SET_CHILD_SUBREAPER, 1);
}

/* A descriptor that our parent named; -1 if that is none. */
static int fd_of(const char *text)
{
    char *end = NULL;
    long fd = strtol(text, &end, 10);
    return end != text && *end == '\0' && fd >= 3 && fd <= INT_MAX ? (int)fd : -1;
}

int nursery_main(int argc, char **argv, const struct quern_module *program)
{
    static struct nursery nursery;
    enum log_level level = LOG_INFO;
    if (argc < 7 || (nursery.socket = fd_of(argv[2])) < 0 || (nursery.life = fd_of(argv[3])) < 0) {
        return 2;
    }
    (void)log_level_parse(argv[5], &level);
    log_open("zygote", level);
    fcntl(nursery.socket, F_SETFD, FD_CLOEXEC);
    fcntl(nursery.life, F_SETFD, FD_CLOEXEC);
    quieten();
    sigset_t child;
    sigemptyset(&child);
    sigaddset(&child, SIGCHLD);
    nursery.birth = (struct birth){.program_name = argv[0],
                                   .program = program,
                                   .life = nursery.life,
                                   .allow_commands = argv[4],
                                   .level = argv[5],
                                   .is_spawned = strcmp(argv[6], ZYGOTE_SPAWN) == 0,
                                   .modules = argv + 7,
                                   .module_count = (size_t)argc - 7,
                                   .registry = &nursery.registry};
    if (nursery.birth.is_spawned) {
        if (!load_aside(&nursery)) {
            return 1;
        }
    } else if (!birth_load(&nursery.birth, &nursery.registry)) {
        return refuse(&nursery);
    }
    sigprocmask(SIG_BLOCK, &child, NULL);
    nursery.signals = signalfd(-1, &child, SFD_CLOEXEC | SFD_NONBLOCK);
    CHECK(nursery.signals >= 0);
    nursery.birth.closes[0] = nursery.socket;
    nursery.birth.closes[1] = nursery.signals;
    /* End of file says that the supervisor is gone; but one that is stopped (SIGSTOP) reads nothing: let it go on then.
     */
    prctl(PR_SET_PDEATHSIG, SIGCONT);
    if (!nursery.birth.is_spawned) {
        send_ready(&nursery);
    }
    serve(&nursery);
    clear_away(&nursery);
    _exit(0);
}

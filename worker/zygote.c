/*
 * zygote.c owns starting a zygote and the supervisor's end of its socket.
 * It must not know tasks or what a slot does.
 * Start reading at zygote_start. The process itself is nursery.c.
 */
#include "worker/zygote.h"

#include "common/check.h"
#include "common/spawn.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

extern char **environ;

void zygote_init(struct zygote *zygote)
{
    *zygote = (struct zygote){.socket = -1, .fds = {-1, -1, -1, -1, -1}};
    zygote->packet = xmalloc(sizeof(*zygote->packet));
}

static void close_fds(struct zygote *zygote)
{
    for (size_t i = 0; i < ZYGOTE_FD_COUNT; i++) {
        if (zygote->fds[i] >= 0) {
            close(zygote->fds[i]);
            zygote->fds[i] = -1;
        }
    }
}

void zygote_leave(struct zygote *zygote)
{
    close_fds(zygote);
    if (zygote->socket >= 0) {
        close(zygote->socket);
        zygote->socket = -1;
    }
}

void zygote_fini(struct zygote *zygote)
{
    zygote_leave(zygote);
    free(zygote->packet);
    zygote->packet = NULL;
}

static int spawn(struct zygote *zygote, int socket, int life, char **argv)
{
    struct spawn_plan child;
    spawn_plan_init(&child);
    spawn_plan_dup(&child, socket, socket);
    spawn_plan_dup(&child, life, life);
    return spawn_program(&zygote->pid, "/proc/self/exe", &child, argv, environ);
}

static int spawn_with_plan(struct zygote *zygote, const struct zygote_plan *plan, int socket)
{
    static const char *const level_words[] = {"error", "warn", "info", "debug"};
    char socket_text[16];
    char life_text[16];
    snprintf(socket_text, sizeof(socket_text), "%d", socket);
    snprintf(life_text, sizeof(life_text), "%d", plan->life);
    const char **argv = xcalloc(plan->module_count + 8, sizeof(*argv));
    size_t count = 0;
    argv[count++] = plan->program;
    argv[count++] = ZYGOTE_ARGUMENT;
    argv[count++] = socket_text;
    argv[count++] = life_text;
    argv[count++] = plan->allow_commands ? "1" : "0";
    argv[count++] = level_words[plan->level];
    argv[count++] = plan->spawns ? ZYGOTE_SPAWN : ZYGOTE_FORK_SERVER;
    for (size_t i = 0; i < plan->module_count; i++) {
        argv[count++] = plan->modules[i];
    }
    int err = spawn(zygote, socket, plan->life, (char **)(uintptr_t)argv);
    free(argv);
    return err;
}

int zygote_start(struct zygote *zygote, const struct zygote_plan *plan)
{
    int pair[2];
    zygote_leave(zygote);
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0) {
        return errno;
    }
    int size = (int)sizeof(struct zygote_packet) * 2; /* the kernel caps it */
    (void)setsockopt(pair[1], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
    int err = spawn_with_plan(zygote, plan, pair[1]);
    close(pair[1]);
    if (err != 0) {
        close(pair[0]);
        zygote->pid = 0;
        return err;
    }
    zygote->socket = pair[0];
    return 0;
}

int zygote_ask_slot(struct zygote *zygote, uint64_t number)
{
    struct zygote_head head = {.word = ZYGOTE_FORK, .number = number};
    ssize_t sent = send(zygote->socket, &head, sizeof(head), MSG_NOSIGNAL | MSG_DONTWAIT);
    return sent == (ssize_t)sizeof(head) ? 0 : errno;
}

/* As many as a slot comes with; any others are not ours, and are closed. */
static void take_fds(struct zygote *zygote, struct msghdr *message)
{
    for (struct cmsghdr *rights = CMSG_FIRSTHDR(message); rights != NULL; rights = CMSG_NXTHDR(message, rights)) {
        if (rights->cmsg_level != SOL_SOCKET || rights->cmsg_type != SCM_RIGHTS) {
            continue;
        }
        size_t count = (rights->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < count; i++) {
            int fd;
            memcpy(&fd, CMSG_DATA(rights) + i * sizeof(fd), sizeof(fd));
            if (count == ZYGOTE_FD_COUNT && zygote->fds[i] < 0) {
                zygote->fds[i] = fd;
            } else {
                close(fd);
            }
        }
    }
}

enum zygote_heard zygote_hear(struct zygote *zygote)
{
    if (zygote->socket < 0) {
        return ZYGOTE_GONE;
    }
    close_fds(zygote);
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(ZYGOTE_FD_COUNT * sizeof(int))];
    } control;
    struct iovec part = {.iov_base = zygote->packet, .iov_len = sizeof(*zygote->packet)};
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof(control.bytes)};
    ssize_t got = recvmsg(zygote->socket, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (got < 0) {
        return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR ? ZYGOTE_SILENT : ZYGOTE_GONE;
    }
    take_fds(zygote, &message);
    const struct zygote_head *head = &zygote->packet->head;
    if ((size_t)got < sizeof(*head) || (size_t)got != sizeof(*head) + head->text_size) {
        return ZYGOTE_GONE; /* end of file; or not a packet of ours */
    }
    return ZYGOTE_HEARD;
}

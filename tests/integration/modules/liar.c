/*
 * liar.c: a module whose initialiser says nonsense in the zygote's name: at once, three functions, and one name without
 * an end; or, if LIAR names a file, what the first word there asks for, once it is there: "dead PID", that a slot that
 * lives is dead; "born PID", a slot that nobody has asked for; "word", a word that is none. Loaded by story_worker.py.
 */
#include <quern/worker.h>

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "worker/zygotewire.h"

#define FD_MAX 64
#define NONSENSE "abc"
#define WAIT_S_MAX 120

struct packet {
    struct zygote_head head;
    char text[sizeof NONSENSE - 1];
};

static int zygote_socket(void)
{
    for (int fd = 3; fd < FD_MAX; fd++) {
        int type = 0;
        socklen_t size = sizeof type;
        if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) == 0 && type == SOCK_SEQPACKET) {
            return fd;
        }
    }
    return -1;
}

static void say(int fd, const struct packet *packet, size_t size, int with)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(ZYGOTE_FD_COUNT * sizeof(int))];
    } control = {0};
    struct iovec part = {.iov_base = (void *)(uintptr_t)packet, .iov_len = size};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    if (with >= 0) {
        message.msg_control = control.bytes;
        message.msg_controllen = sizeof control.bytes;
        struct cmsghdr *rights = CMSG_FIRSTHDR(&message);
        rights->cmsg_level = SOL_SOCKET;
        rights->cmsg_type = SCM_RIGHTS;
        rights->cmsg_len = CMSG_LEN(ZYGOTE_FD_COUNT * sizeof(int));
        for (size_t i = 0; i < ZYGOTE_FD_COUNT; i++) {
            memcpy(CMSG_DATA(rights) + i * sizeof with, &with, sizeof with);
        }
    }
    (void)!sendmsg(fd, &message, MSG_NOSIGNAL);
}

/* In a child of the zygote. */
static void lie_later(int fd, const char *path)
{
    char word[16] = "";
    int pid = 0;
    FILE *file = NULL;
    for (int i = 0; file == NULL && i < WAIT_S_MAX * 100; i++) {
        usleep(10000); /* for the file, which nobody announces */
        file = fopen(path, "re");
    }
    if (file == NULL || fscanf(file, "%15s %d", word, &pid) < 1) {
        _exit(1);
    }
    struct packet packet = {.head = {.word = 99, .pid = pid, .number = 1000}};
    bool is_born = strcmp(word, "born") == 0;
    if (is_born || strcmp(word, "dead") == 0) {
        packet.head.word = is_born ? ZYGOTE_SLOT : ZYGOTE_DEAD;
    }
    say(fd, &packet, sizeof packet.head, is_born ? (int)syscall(SYS_pidfd_open, pid, 0) : -1);
    _exit(0);
}

static enum quern_err lie(const char **text_out)
{
    struct packet packet = {.head = {.word = ZYGOTE_READY, .status = 3, .text_size = sizeof NONSENSE - 1}};
    const char *path = getenv("LIAR");
    int fd = zygote_socket();
    (void)text_out;
    memcpy(packet.text, NONSENSE, sizeof packet.text);
    if (path == NULL) {
        say(fd, &packet, offsetof(struct packet, text) + sizeof packet.text, -1);
    } else if (access(path, F_OK) != 0 && fork() == 0) {
        lie_later(fd, path);
    }
    return QUERN_OK;
}

static const struct quern_function functions[] = {{NULL, NULL}};

QUERN_MODULE(.functions = functions, .initialise = lie)

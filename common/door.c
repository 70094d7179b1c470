/*
 * door.c owns the end of a command's process at its slot's door: connecting while a thread waits.
 * It must not know what is waited for, nor how the slot answers.
 * Start reading at door_give.
 */
#include "common/door.h"

#include "common/clock.h"
#include "common/limits.h"

#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static pthread_once_t once = PTHREAD_ONCE_INIT;
static char address[DOOR_ADDRESS_SIZE];
static unsigned depth; /* 0: there is no door */
static _Thread_local int waiting_fd = -1;

/* Whatever makes no sense is no door: somebody else's variable. */
static void environment_read(void)
{
    const char *text = getenv(DOOR_ENVIRONMENT);
    const char *colon = text == NULL ? NULL : strrchr(text, ':');
    size_t size = colon == NULL ? 0 : (size_t)(colon - text);
    if (size == 0 || size >= sizeof address || colon[1] < '1' || colon[1] > '9') {
        return;
    }
    char *end;
    unsigned long number = strtoul(colon + 1, &end, 10);
    if (*end == '\0' && number <= TASK_DEPTH_MAX + 1) {
        memcpy(address, text, size);
        depth = (unsigned)number;
    }
}

socklen_t door_address(const char *name, struct sockaddr_un *address_out)
{
    size_t size = strlen(name);
    *address_out = (struct sockaddr_un){.sun_family = AF_UNIX};
    if (size + 1 > sizeof address_out->sun_path) {
        return 0;
    }
    memcpy(address_out->sun_path + 1, name, size);
    return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + size);
}

static int slot_connect(void)
{
    struct sockaddr_un to;
    socklen_t size = door_address(address, &to);
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (fd >= 0 && (size == 0 || connect(fd, (struct sockaddr *)&to, size) != 0)) {
        close(fd);
        fd = -1;
    }
    return fd;
}

/* False: the slot said no. Who hears nothing waits all the same. */
static bool answer_await(int fd, int64_t deadline_ms)
{
    char answer = DOOR_GIVEN;
    struct pollfd readable = {.fd = fd, .events = POLLIN};
    int64_t left_ms = deadline_ms == INT64_MAX ? INT_MAX : deadline_ms - clock_mono_ms();
    left_ms = left_ms < 0 ? 0 : left_ms > INT_MAX ? INT_MAX : left_ms;
    if (poll(&readable, 1, (int)left_ms) > 0 && recv(fd, &answer, 1, MSG_DONTWAIT) <= 0) {
        answer = DOOR_GIVEN;
    }
    return answer != DOOR_REFUSED;
}

static bool door_give(void *self, int64_t deadline_ms)
{
    (void)self;
    waiting_fd = slot_connect();
    if (waiting_fd < 0 || answer_await(waiting_fd, deadline_ms)) {
        return true;
    }
    close(waiting_fd);
    waiting_fd = -1;
    return false;
}

static void door_take(void *self)
{
    (void)self;
    if (waiting_fd >= 0) {
        close(waiting_fd);
        waiting_fd = -1;
    }
}

const struct place *door_place(void)
{
    static const struct place place = {.give = door_give, .take = door_take};
    (void)pthread_once(&once, environment_read);
    return depth > 0 ? &place : NULL;
}

unsigned door_depth(void)
{
    (void)pthread_once(&once, environment_read);
    return depth;
}

/*
 * A peer that speaks ZMTP 3.0 by hand: chooses routing ids, sends what libzmq would not. No ZeroMQ in here.
 * Blocking, with a time limit on every read.
 */
#ifndef QUERN_TESTS_ZMTP_PEER_H
#define QUERN_TESTS_ZMTP_PEER_H

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#define ZMTP_GREETING_SIZE 64
#define ZMTP_MORE 0x01
#define ZMTP_COMMAND 0x04
#define ZMTP_READ_SECONDS_MAX 10

static inline bool zmtp_read(int fd, void *p, size_t n)
{
    for (size_t at = 0; at < n;) {
        ssize_t got = read(fd, (char *)p + at, n - at);
        if (got <= 0) {
            return false;
        }
        at += (size_t)got;
    }
    return true;
}

static inline bool zmtp_write(int fd, const void *p, size_t n)
{
    for (size_t at = 0; at < n;) {
        ssize_t sent = send(fd, (const char *)p + at, n - at, MSG_NOSIGNAL);
        if (sent <= 0) {
            return false;
        }
        at += (size_t)sent;
    }
    return true;
}

/* A frame of up to 255 bytes, appended at p; answers its size. */
static inline size_t zmtp_frame(uint8_t *p, uint8_t flags, const void *body, uint8_t size)
{
    p[0] = flags;
    p[1] = size;
    if (body != NULL) {
        memcpy(p + 2, body, size);
    }
    return (size_t)size + 2;
}

static inline bool zmtp_send(int fd, uint8_t flags, const void *body, uint8_t size)
{
    uint8_t frame[2 + UINT8_MAX];
    return zmtp_write(fd, frame, zmtp_frame(frame, flags, body, size));
}

/* The head of a frame of any size; its body is for the caller to send, or not. */
static inline bool zmtp_send_head(int fd, uint64_t size)
{
    uint8_t head[9] = {0x02};
    for (int i = 0; i < 8; i++) {
        head[1 + i] = (uint8_t)(size >> (8 * (7 - i)));
    }
    return zmtp_write(fd, head, sizeof head);
}

static inline size_t zmtp_property(uint8_t *p, const char *name, const void *value, uint8_t size)
{
    uint8_t name_size = (uint8_t)strlen(name);
    p[0] = name_size;
    memcpy(p + 1, name, name_size);
    const uint8_t value_size[4] = {0, 0, 0, size};
    memcpy(p + 1 + name_size, value_size, 4);
    if (value != NULL) {
        memcpy(p + 5 + name_size, value, size);
    }
    return 5u + name_size + size;
}

/* Greeting and READY, both ways. type: "DEALER", "ROUTER". */
static inline bool zmtp_handshake(int fd, const char *type, const void *id, uint8_t id_size)
{
    uint8_t greeting[ZMTP_GREETING_SIZE] = {[0] = 0xff, [9] = 0x7f, [10] = 3};
    memcpy(greeting + 12, "NULL", 4);
    uint8_t theirs[ZMTP_GREETING_SIZE];
    if (!zmtp_write(fd, greeting, sizeof greeting) || !zmtp_read(fd, theirs, sizeof theirs)) {
        return false;
    }
    uint8_t ready[UINT8_MAX] = "\x05READY";
    size_t size = 6;
    size += zmtp_property(ready + size, "Socket-Type", type, (uint8_t)strlen(type));
    size += zmtp_property(ready + size, "Identity", id, id_size);
    uint8_t head[2];
    uint8_t body[UINT8_MAX];
    return zmtp_send(fd, ZMTP_COMMAND, ready, (uint8_t)size) && zmtp_read(fd, head, sizeof head) &&
           zmtp_read(fd, body, head[1]);
}

static inline bool zmtp_address(const char *url, struct sockaddr_un *address_out)
{
    *address_out = (struct sockaddr_un){.sun_family = AF_UNIX};
    int size = snprintf(address_out->sun_path, sizeof address_out->sun_path, "%s", url + strlen("ipc://"));
    return size > 0 && (size_t)size < sizeof address_out->sun_path;
}

static inline void zmtp_limit_reads(int fd)
{
    const struct timeval limit = {.tv_sec = ZMTP_READ_SECONDS_MAX};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
}

/* A connected socket without a handshake; -1 if refused. */
static inline int zmtp_dial(const char *url)
{
    struct sockaddr_un address;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return -1;
    }
    if (!zmtp_address(url, &address) || connect(fd, (struct sockaddr *)&address, sizeof address) != 0) {
        close(fd);
        return -1;
    }
    zmtp_limit_reads(fd);
    return fd;
}

/* A DEALER that chose its routing id (or not: id_size 0); -1 if the other side broke off. */
static inline int zmtp_connect(const char *url, const void *id, uint8_t id_size)
{
    int fd = zmtp_dial(url);
    if (fd >= 0 && !zmtp_handshake(fd, "DEALER", id, id_size)) {
        close(fd);
        return -1;
    }
    return fd;
}

static inline int zmtp_listen(const char *url)
{
    struct sockaddr_un address;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return -1;
    }
    if (!zmtp_address(url, &address) || bind(fd, (struct sockaddr *)&address, sizeof address) != 0 ||
        listen(fd, 16) != 0) {
        close(fd);
        return -1;
    }
    zmtp_limit_reads(fd);
    return fd;
}

/* Reads until the other side breaks off; false if it has not within the time limit. */
static inline bool zmtp_reads_end(int fd)
{
    char bytes[4096];
    ssize_t got = 0;
    do {
        got = read(fd, bytes, sizeof bytes);
    } while (got > 0);
    return got == 0 || errno == ECONNRESET;
}

#endif

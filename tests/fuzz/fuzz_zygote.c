/*
 * fuzz_zygote.c owns what must hold of any packet on a zygote's socket, whoever scribbled over the zygote: it is heard,
 * or the zygote counts as gone; the names in it are read or refused; no descriptor stays behind.
 * It must not know what a slot is.
 * Start reading at LLVMFuzzerTestOneInput.
 */
#include "common/check.h"
#include "fuzz/input.h"
#include "worker/names.h"
#include "worker/zygote.h"

#include <dirent.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define FD_COUNT_MAX 8u

static unsigned open_count(void)
{
    unsigned count = 0;
    DIR *folder = opendir("/proc/self/fd");
    CHECK(folder != NULL);
    while (readdir(folder) != NULL) {
        count++;
    }
    closedir(folder);
    return count;
}

/* The packet, with so many descriptors beside it. */
static void send_packet(int socket, struct bytes packet, unsigned fd_count)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(FD_COUNT_MAX * sizeof(int))];
    } control = {0};
    struct iovec part = {.iov_base = (void *)(uintptr_t)packet.p, .iov_len = packet.n};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    if (fd_count > 0) {
        message.msg_control = control.bytes;
        message.msg_controllen = CMSG_SPACE(fd_count * sizeof(int));
        struct cmsghdr *rights = CMSG_FIRSTHDR(&message);
        rights->cmsg_level = SOL_SOCKET;
        rights->cmsg_type = SCM_RIGHTS;
        rights->cmsg_len = CMSG_LEN(fd_count * sizeof(int));
        for (unsigned i = 0; i < fd_count; i++) {
            memcpy(CMSG_DATA(rights) + i * sizeof(int), &socket, sizeof(int));
        }
    }
    (void)!sendmsg(socket, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
}

/* A head of a valid shape, and what stands behind it. */
static void packet_make(struct input *input, struct buf *packet)
{
    unsigned how = input_u8(input);
    struct bytes text = input_bytes(input, input_u8(input));
    struct zygote_head head = {.word = how % 8,
                               .pid = (int32_t)input_u8(input) - 3,
                               .status = (int32_t)input_u8(input) - 3,
                               .text_size = how >= 240 ? (uint32_t)input_u64(input) : (uint32_t)text.n};
    buf_put(packet, &head, how == 239 ? input_u8(input) % sizeof head : sizeof head);
    buf_put(packet, text.p, text.n);
}

static void names_check(const struct zygote_packet *packet)
{
    char **names;
    size_t count;
    size_t want = packet->head.status < 0 ? SIZE_MAX : (size_t)packet->head.status;
    char *text = malloc(packet->head.text_size + 1u); /* of that size, so that a read behind it is seen */
    CHECK(text != NULL);
    memcpy(text + 1, packet->text, packet->head.text_size);
    bool is_good = names_read(text + 1, packet->head.text_size, want, &names, &count);
    CHECK(!is_good || count == want);
    (void)names_hash(names, count);
    CHECK(names_equal(names, count, names, count));
    names_free(names, count);
    free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input input = input_of(data, size);
    struct zygote zygote;
    int pair[2];
    unsigned open_before = open_count();
    CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) == 0);
    zygote_init(&zygote);
    zygote.socket = pair[0];
    for (unsigned i = 0; i < 16 && input.left > 0; i++) {
        struct buf packet = {0};
        unsigned fd_count = input_below(&input, FD_COUNT_MAX + 1);
        packet_make(&input, &packet);
        send_packet(pair[1], buf_bytes(&packet), fd_count);
        buf_fini(&packet);
        if (zygote_hear(&zygote) == ZYGOTE_HEARD && zygote.packet->head.word == ZYGOTE_READY) {
            names_check(zygote.packet);
        }
    }
    zygote_fini(&zygote);
    close(pair[1]);
    CHECK(open_count() == open_before);
    return 0;
}

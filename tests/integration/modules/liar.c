/*
 * liar.c: a module whose initialiser says nonsense in the zygote's name: three functions, and one name without an end.
 * Loaded by story_worker.py.
 */
#include <quern/worker.h>

#include <stddef.h>
#include <string.h>
#include <sys/socket.h>

#include "worker/zygotewire.h"

#define FD_MAX 64
#define NONSENSE "abc"

static enum quern_err lie(const char **text_out)
{
    struct {
        struct zygote_head head;
        char text[sizeof NONSENSE - 1];
    } packet = {.head = {.word = ZYGOTE_READY, .status = 3, .text_size = sizeof NONSENSE - 1}};
    (void)text_out;
    memcpy(packet.text, NONSENSE, sizeof packet.text);
    for (int fd = 3; fd < FD_MAX; fd++) {
        int type = 0;
        socklen_t size = sizeof type;
        if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) == 0 && type == SOCK_SEQPACKET) {
            (void)send(fd, &packet, offsetof(__typeof__(packet), text) + sizeof packet.text, MSG_NOSIGNAL);
        }
    }
    return QUERN_OK;
}

static const struct quern_function functions[] = {{NULL, NULL}};

QUERN_MODULE(.functions = functions, .initialise = lie)

/*
 * link_accept: turns connections away before descriptors are used up. libzmq 4.3.4 aborts when accept4 on an ipc
 * listener fails with anything it has not thought of (EMFILE first of all), and spins when a tcp listener does. It
 * accepts in a thread of its own, so nothing that reacts afterwards can be quick enough: this file stands in between.
 * Our accept4 is found before the C library's. It hands every call on; while the guard is armed it closes what does
 * not fit, and calls every failure an aborted connection, which libzmq takes calmly.
 * Must not know sockets or peers. Only the broker is linked with it.
 * Start at accept4.
 */
#include "common/limits.h"
#include "common/link_private.h"

#include <errno.h>
#include <limits.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

static atomic_int fd_end = INT_MAX; /* INT_MAX: not armed */
static atomic_ulong refused_count;

void accept_guard_arm(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0) {
        return;
    }
    limit.rlim_cur = limit.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &limit) != 0) {
        getrlimit(RLIMIT_NOFILE, &limit);
    }
    /* The kernel gives out the lowest free number, so a number says how many are in use below it. */
    rlim_t end = limit.rlim_cur > 2 * RESERVED_FD_COUNT ? limit.rlim_cur - RESERVED_FD_COUNT : limit.rlim_cur / 2;
    atomic_store(&fd_end, (int)(end < GUARDED_FD_COUNT_MAX ? end : GUARDED_FD_COUNT_MAX));
}

unsigned long accept_guard_refused(void)
{
    return atomic_load(&refused_count);
}

__attribute__((visibility("default"))) int accept4(int listener, __SOCKADDR_ARG address,
                                                   socklen_t *restrict address_size, int flags)
{
    int fd = (int)syscall(SYS_accept4, listener, address.__sockaddr__, address_size, flags);
    int end = atomic_load_explicit(&fd_end, memory_order_relaxed);
    if (end == INT_MAX) {
        return fd;
    }
    if (fd >= 0 && fd < end) {
        stream_guard_begin(fd);
        return fd;
    }
    if (fd >= 0) {
        close(fd);
        atomic_fetch_add(&refused_count, 1);
        errno = ECONNABORTED;
        return -1;
    }
    if (errno != EAGAIN && errno != EINTR) {
        errno = ECONNABORTED;
    }
    return -1;
}

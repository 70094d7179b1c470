/*
 * slot_process.c owns what is done to a slot's process: its page is mapped, its socket written to, it is signalled, and
 * what held it is closed.
 * It must not know why: slot.c does.
 * Start reading at slot_flush.
 */
#include "common/check.h"
#include "worker/cgroup.h"
#include "worker/slot.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* The kernel's count of whom it has killed is looked at this often while something runs. */
#define YARD_LOOK_MS 500

bool pidfd_stands_for(int pidfd, pid_t pid)
{
    char path[sizeof("/proc/self/fdinfo/") + 16];
    char word[64];
    int found = 0;
    snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", pidfd);
    FILE *file = pidfd >= 0 ? fopen(path, "re") : NULL;
    while (file != NULL && found == 0 && fscanf(file, "%63s", word) == 1) {
        if (strcmp(word, "Pid:") == 0 && fscanf(file, "%d", &found) != 1) {
            break;
        }
    }
    if (file != NULL) {
        fclose(file);
    }
    return pid > 1 && (found == pid || found == -1);
}

bool pidfd_has_ended(int pidfd)
{
    struct pollfd end = {.fd = pidfd, .events = POLLIN};
    return pidfd < 0 || poll(&end, 1, 0) > 0;
}

int slot_open(struct slot *slot, pid_t pid, int fds[ZYGOTE_FD_COUNT], int64_t now_ms)
{
    struct statuspage *page = statuspage_map(fds[1]);
    if (page == NULL) {
        return errno;
    }
    slot_init(slot);
    slot->state = SLOT_LIVE;
    slot->pid = pid;
    slot->page = page;
    slot->fd = fds[0];
    slot->pidfd = fds[2];
    capture_open(&slot->capture, fds + 3);
    slot->next = 1;
    slot->first = 1;
    slot->born_ms = now_ms;
    fds[0] = -1;
    fds[2] = -1;
    fds[3] = -1;
    fds[4] = -1;
    return 0;
}

static void close_fd(int *fd)
{
    if (*fd >= 0) {
        close(*fd);
        *fd = -1;
    }
}

void slot_close(struct slot *slot, struct slot_yard *yard)
{
    CHECK(slot->queued == 0);
    close_fd(&slot->fd);
    close_fd(&slot->pidfd);
    capture_close(&slot->capture);
    group_close(&slot->group, &yard->groups);
    statuspage_unmap(&slot->page);
    buf_fini(&slot->out);
    buf_fini(&slot->in);
    slot_init(slot);
}

void slot_flush(struct slot *slot)
{
    while (slot->fd >= 0 && slot->out_at < slot->out.n) {
        ssize_t sent =
            send(slot->fd, slot->out.p + slot->out_at, slot->out.n - slot->out_at, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR) {
            continue;
        }
        if (sent < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
            slot->wants_write = true;
            return;
        }
        if (sent < 0) {
            break; /* it is dead: what it did not claim comes back with its burial */
        }
        slot->out_at += (size_t)sent;
    }
    slot->wants_write = false;
    slot->out.n = 0;
    slot->out_at = 0;
    if (slot->out.cap > SLOT_BUFFER_KEEP_SIZE) {
        buf_fini(&slot->out);
    }
}

void slot_signal(const struct slot *slot, int number)
{
    if (number == SIGKILL) {
        (void)group_kill(&slot->group); /* all of them in one moment; what it does not hold is found by walking */
    }
    /* While the pidfd says that the slot is there, dead or alive, its number is nobody else's. */
    if (slot->pidfd >= 0 && (syscall(SYS_pidfd_send_signal, slot->pidfd, number, NULL, 0) == 0 || errno == EPERM)) {
        (void)kill(-slot->pid, number);
    }
}

void yard_look(struct slot_yard *yard, int64_t now_ms)
{
    if (now_ms >= yard->oom_look_ms) {
        uint64_t count = cgroup_field(yard->proc, "vmstat", "oom_kill");
        yard->oom_kills_before = yard->oom_look_ms == 0 ? count : yard->oom_kills;
        yard->oom_kills = count;
        yard->oom_look_ms = now_ms + YARD_LOOK_MS;
    }
}

/* Somebody killed it, and it was not us: was it the kernel? Its own group knows; else the kernel's count is all there
 * is to go by. */
enum oom slot_oom(const struct slot *slot, const struct slot_yard *yard, int32_t status, struct group_end *end_out)
{
    *end_out = group_end(&slot->group);
    bool was_seen = status != DEATH_UNKNOWN;
    if (was_seen && (!WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL)) {
        return OOM_NONE;
    }
    if (end_out->was_killed) {
        return end_out->was_own ? OOM_OWN_LIMIT : OOM_HOST;
    }
    uint64_t now = cgroup_field(yard->proc, "vmstat", "oom_kill");
    return was_seen && now > yard->oom_kills_before && !group_is_limited(&slot->group) ? OOM_PROBABLY : OOM_NONE;
}

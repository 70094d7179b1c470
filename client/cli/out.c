/*
 * Owns writing to standard output. Must not know what is printed. Start at out_flush.
 */
#include "client/cli/out.h"

#include "client/cli/cli.h"
#include "client/cli/progress.h"
#include "client/cli/signals.h"
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* A pipe that poll calls writable takes this much at once (PIPE_BUF, POSIX). */
#define OUT_STEP_SIZE 4096u

void out_init(struct out *out, int fd)
{
    struct stat stat;
    *out = (struct out){.fd = fd};
    out->is_terminal = isatty(fd) == 1;
    out->is_file = fstat(fd, &stat) == 0 && S_ISREG(stat.st_mode);
}

void out_fini(struct out *out)
{
    buf_fini(&out->buf);
}

static void out_failed(struct out *out, int error)
{
    if (error == EPIPE) {
        out->state = OUT_CLOSED;
    } else {
        out->state = OUT_BROKEN;
        if (out->fd != STDERR_FILENO) {
            say("standard output: %s; nothing further was printed or acknowledged", strerror(error));
        }
    }
}

/* Waits until a write of OUT_STEP_SIZE would not wait, or a signal came. */
static bool out_wait(struct out *out)
{
    if (out->is_file) {
        return true;
    }
    struct pollfd fds[2] = {{.fd = out->fd, .events = POLLOUT}, {.fd = signals_fd(), .events = POLLIN}};
    while (!signals_came()) {
        int count = poll(fds, 2, -1);
        if (count > 0 && fds[0].revents != 0) {
            return true;
        }
        if (count < 0 && errno != EINTR) {
            return true; /* write will say what is wrong */
        }
    }
    out->state = OUT_INTERRUPTED;
    return false;
}

bool out_flush(struct out *out)
{
    size_t done = 0;
    if (out->state != OUT_OK) {
        return false;
    }
    if (out->buf.n > 0 && out->is_terminal) {
        progress_clear();
    }
    while (out->state == OUT_OK && done < out->buf.n && out_wait(out)) {
        size_t left = out->buf.n - done;
        ssize_t n = write(out->fd, out->buf.p + done, !out->is_file && left > OUT_STEP_SIZE ? OUT_STEP_SIZE : left);
        if (n >= 0) {
            done += (size_t)n;
        } else if (errno != EINTR && errno != EAGAIN) {
            out_failed(out, errno);
        }
    }
    out->buf.n = 0;
    out->written = done;
    return out->state == OUT_OK;
}

int out_finish(struct out *out, int status)
{
    (void)out_flush(out);
    switch (out->state) {
    case OUT_OK:
        return status;
    case OUT_CLOSED:
        return STATUS_PIPE;
    case OUT_INTERRUPTED:
        return STATUS_INTERRUPTED;
    case OUT_BROKEN:
        return STATUS_NOT_DONE;
    }
    return STATUS_NOT_DONE;
}

/*
 * Owns `quern backup`: a copy of the store while the broker works. Start at backup_main.
 */
#include "client/cli/answer.h"
#include "client/cli/arguments.h"
#include "client/cli/json.h"
#include "client/cli/out.h"
#include "common/check.h"
#include "common/codec.h"
#include "common/limits.h"
#include "common/path.h"
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define LOOK_MS 500

/* ---- progress, on a terminal ---- */

struct watcher {
    struct quern_client *client;
    int done_fd;
    pthread_t thread;
};

static void progress_say(struct quern_client *client)
{
    void *p = NULL;
    size_t n = 0;
    if (quern_query(client, "status", NULL, 0, QUERN_FOREVER, &p, &n) != QUERN_OK) {
        return;
    }
    struct bytes stats = answer_field(bytes_of(p, n), "store_stats");
    uint64_t copied = answer_u64(stats, "backup_bytes");
    uint64_t all = answer_u64(stats, "backup_all_bytes");
    if (all > 0) {
        dprintf(STDERR_FILENO, "\r\033[K%" PRIu64 " of %" PRIu64 " MiB copied", copied / MIB, all / MIB);
    }
    free(p);
}

static void *watcher_run(void *context)
{
    struct watcher *watcher = context;
    struct pollfd fd = {.fd = watcher->done_fd, .events = POLLIN};
    while (poll(&fd, 1, LOOK_MS) == 0) {
        progress_say(watcher->client);
    }
    dprintf(STDERR_FILENO, "\r\033[K");
    return NULL;
}

/* Another thread of this client asks, for this one waits. */
static bool watcher_start(struct watcher *watcher, struct quern_client *client)
{
    *watcher = (struct watcher){.client = client, .done_fd = -1};
    if (isatty(STDERR_FILENO) != 1) {
        return false;
    }
    watcher->done_fd = eventfd(0, EFD_CLOEXEC);
    return watcher->done_fd >= 0 && pthread_create(&watcher->thread, NULL, watcher_run, watcher) == 0;
}

static void watcher_end(struct watcher *watcher, bool has_started)
{
    if (has_started) {
        (void)eventfd_write(watcher->done_fd, 1);
        (void)pthread_join(watcher->thread, NULL);
    }
    if (watcher->done_fd >= 0) {
        (void)close(watcher->done_fd);
    }
}

/* ---- the question and the answer ---- */

static int backup_print(const struct cli *cli, struct bytes answer)
{
    struct out out;
    int status = STATUS_OK;
    out_init(&out, STDOUT_FILENO);
    if (cli->json) {
        status = json_from_msgpack(answer, &out.buf) == QUERN_OK ? STATUS_OK : STATUS_NOT_DONE;
        buf_put_u8(&out.buf, '\n');
    } else {
        char *file = answer_text(answer, "file");
        buf_printf(&out.buf, "%s: %" PRIu64 " bytes, whole and on disk\n", file != NULL ? file : "?",
                   answer_u64(answer, "bytes"));
        free(file);
    }
    status = out_finish(&out, status);
    out_fini(&out);
    return status;
}

static int backup_make(const struct cli *cli, const char *path)
{
    struct quern_client *client = NULL;
    struct buf params = {0};
    struct bytes answer = {0};
    struct watcher watcher;
    int status = cli_open_operator(cli, &client);
    if (status != STATUS_OK) {
        return status;
    }
    put_map(&params, 1);
    put_text(&params, "file");
    put_bin(&params, bytes_text(path));
    bool is_watching = watcher_start(&watcher, client);
    status = query(client, "backup", &params, "backup", &answer);
    watcher_end(&watcher, is_watching);
    if (status == STATUS_OK) {
        status = backup_print(cli, answer);
    }
    free((void *)(uintptr_t)answer.p);
    buf_fini(&params);
    (void)quern_client_close(&client, 0);
    return status;
}

int backup_main(struct cli *cli, struct arguments *arguments)
{
    int status = arguments_parse(arguments, NULL, 0);
    if (status != ARGUMENTS_GO_ON) {
        return status;
    }
    if (!arguments_expect(arguments, 1, 1, "the name of a file")) {
        return STATUS_USAGE;
    }
    char *directory;
    char *path = path_whole(arguments->words[0], &directory); /* the broker's working directory is another */
    if (path == NULL) {
        say("%s: %s", directory, strerror(errno));
        free(directory);
        return STATUS_NOT_DONE;
    }
    status = backup_make(cli, path);
    free(path);
    return status;
}

/*
 * backup.c: the one copy of the store that may be under way, and who waits for it. Making it is the store's work (a
 * load); a question for the same file joins those who wait, so that one that is asked again after a lost connection
 * starts nothing twice. Must not know files. Start reading at backup_ask.
 */
#include "broker/state.h"

#include <stdlib.h>
#include <string.h>

#include "common/check.h"

static void refuse(struct core *core, struct conn *conn, uint64_t request, enum quern_err code, const char *why)
{
    reply_put(core, conn, request, code, why, false, bytes_of(NULL, 0));
}

/* Copied, and NUL-terminated: what names no file is NULL. */
static char *path_of(struct bytes path)
{
    bool is_path = path.n > 1 && path.n < BACKUP_PATH_SIZE_MAX && path.p[0] == '/' && path.p[path.n - 1] != '/' &&
                   memchr(path.p, 0, path.n) == NULL;
    return is_path ? bytes_dup_text(path) : NULL;
}

static void wait_for_it(struct core *core, struct conn *conn, uint64_t request)
{
    struct backups *backups = &core->backups;
    if (backups->waiter_count == BACKUP_WAITER_COUNT_MAX) {
        refuse(core, conn, request, QUERN_FULL, "too many wait for this backup already");
        return;
    }
    backups->waiters[backups->waiter_count++] = (struct backup_waiter){.conn = conn->id, .request = request};
}

void backup_ask(struct core *core, struct conn *conn, uint64_t request, struct bytes file)
{
    struct backups *backups = &core->backups;
    char *path = path_of(file);
    if (core->is_remote) {
        refuse(core, conn, request, QUERN_DENIED, "a backup is a file on the broker's host: ask for it there");
    } else if (!core->has_store) {
        refuse(core, conn, request, QUERN_UNSUPPORTED, "this broker has no store");
    } else if (path == NULL) {
        refuse(core, conn, request, QUERN_INVALID, "a backup needs the whole path of a file, from / on");
    } else if (backups->path != NULL && strcmp(backups->path, path) != 0) {
        refuse(core, conn, request, QUERN_FULL, "another backup is under way; wait until it is done");
    } else {
        if (backups->path == NULL) {
            struct load *load = load_new(core, LOAD_BACKUP);
            load->path = xstrdup(path);
            backups->path = path;
            path = NULL;
        }
        wait_for_it(core, conn, request);
    }
    free(path);
}

void backup_made(struct core *core, const struct loaded *loaded)
{
    struct backups *backups = &core->backups;
    struct buf body = {0};
    if (loaded->code == QUERN_OK) {
        put_map(&body, 2);
        put_text(&body, "file");
        put_text(&body, backups->path);
        put_text(&body, "bytes");
        put_u64(&body, loaded->bytes);
    }
    for (size_t i = 0; i < backups->waiter_count; i++) {
        struct conn *conn = conn_find(core, backups->waiters[i].conn);
        if (conn != NULL) {
            reply_put(core, conn, backups->waiters[i].request, loaded->code, loaded->text, false, buf_bytes(&body));
        }
    }
    buf_fini(&body);
    backups_fini(core);
}

void backups_fini(struct core *core)
{
    free(core->backups.path);
    core->backups = (struct backups){0};
}

/*
 * disk_model: files as what is durable and what is only written; names likewise. Must not know SQLite.
 * Names come and go in their order, as in the journal of a file system: at a power loss some first part of those that
 * were not synced has happened. Writes have no order: each sector of each has a fate of its own. Start at
 * model_power_loss.
 */
#include "support/disk_model.h"

#include "common/bytes.h"
#include "common/check.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_COUNT_MAX 512u
#define NAME_COUNT_MAX 64u
#define NAME_OP_COUNT_MAX 512u
#define SECTOR_SIZE 512u

/* A write or a truncation that no sync has followed yet. */
struct pending {
    struct pending *next;
    bool is_truncate;
    size_t at;
    size_t n;
    uint8_t bytes[];
};

struct model_file {
    ino_t inode;
    struct buf durable;
    struct pending *first;
    struct pending **end;
};

struct name {
    char *path;
    struct model_file *file;
};

struct names {
    struct name of[NAME_COUNT_MAX];
    size_t count;
};

/* from NULL: a new name for a file. to NULL: a name that goes. */
struct name_op {
    char *from;
    char *to;
    struct model_file *file;
};

static struct {
    struct model_file *files[FILE_COUNT_MAX];
    size_t file_count;
    struct names durable;
    struct names now;
    struct name_op ops[NAME_OP_COUNT_MAX];
    size_t op_count;
} model;

/* ---- content ---- */

static void put_at(struct buf *image, size_t at, const uint8_t *p, size_t n)
{
    if (n == 0) { /* of a write that was torn, nothing */
        return;
    }
    if (image->n < at + n) {
        size_t old = image->n;
        buf_reserve(image, at + n - old);
        memset(image->p + old, 0, at + n - old);
        image->n = at + n;
    }
    memcpy(image->p + at, p, n);
}

static void put_truncate(struct buf *image, size_t size)
{
    if (size < image->n) {
        image->n = size;
    }
}

static void file_add(struct model_file *file, bool is_truncate, size_t at, const void *p, size_t n)
{
    struct pending *pending = xmalloc(sizeof *pending + n);
    *pending = (struct pending){.is_truncate = is_truncate, .at = at, .n = n};
    if (n > 0) {
        memcpy(pending->bytes, p, n);
    }
    *file->end = pending;
    file->end = &pending->next;
}

void model_write(struct model_file *file, size_t at, const void *p, size_t n)
{
    file_add(file, false, at, p, n);
}

void model_truncate(struct model_file *file, size_t size)
{
    file_add(file, true, size, NULL, 0);
}

void model_forget_writes(struct model_file *file)
{
    while (file->first != NULL) {
        struct pending *next = file->first->next;
        free(file->first);
        file->first = next;
    }
    file->end = &file->first;
}

void model_sync(struct model_file *file)
{
    for (const struct pending *p = file->first; p != NULL; p = p->next) {
        if (p->is_truncate) {
            put_truncate(&file->durable, p->at);
        } else {
            put_at(&file->durable, p->at, p->bytes, p->n);
        }
    }
    model_forget_writes(file);
}

static struct model_file *file_new(ino_t inode)
{
    CHECK(model.file_count < FILE_COUNT_MAX);
    struct model_file *file = xcalloc(1, sizeof *file);
    file->inode = inode;
    file->end = &file->first;
    model.files[model.file_count++] = file;
    return file;
}

/* What is really there becomes what is durable. */
static void file_take(struct model_file *file, const char *path)
{
    struct stat st;
    model_forget_writes(file);
    file->durable.n = 0;
    if (stat(path, &st) != 0 || st.st_size == 0) {
        return;
    }
    FILE *from = fopen(path, "rb");
    buf_reserve(&file->durable, (size_t)st.st_size);
    CHECK(from != NULL && fread(file->durable.p, (size_t)st.st_size, 1, from) == 1);
    CHECK(fclose(from) == 0);
    file->durable.n = (size_t)st.st_size;
}

/* ---- names ---- */

static struct name *name_find(struct names *names, const char *path)
{
    for (size_t i = 0; i < names->count; i++) {
        if (strcmp(names->of[i].path, path) == 0) {
            return &names->of[i];
        }
    }
    return NULL;
}

static void name_remove(struct names *names, const char *path)
{
    struct name *name = name_find(names, path);
    if (name != NULL) {
        free(name->path);
        *name = names->of[--names->count];
    }
}

static void name_put(struct names *names, const char *path, struct model_file *file)
{
    struct name *name = name_find(names, path);
    if (name == NULL) {
        CHECK(names->count < NAME_COUNT_MAX);
        name = &names->of[names->count++];
        *name = (struct name){.path = xstrdup(path)};
    }
    name->file = file;
}

static void names_fini(struct names *names)
{
    while (names->count > 0) {
        free(names->of[--names->count].path);
    }
}

static void op_apply(struct names *names, const struct name_op *op)
{
    if (op->from != NULL) {
        name_remove(names, op->from);
    }
    if (op->to != NULL) {
        name_put(names, op->to, op->file);
    }
}

static void op_add(const char *from, const char *to, struct model_file *file)
{
    CHECK(model.op_count < NAME_OP_COUNT_MAX);
    struct name_op *op = &model.ops[model.op_count++];
    *op = (struct name_op){
        .from = from != NULL ? xstrdup(from) : NULL, .to = to != NULL ? xstrdup(to) : NULL, .file = file};
    op_apply(&model.now, op);
}

void model_sync_names(void)
{
    for (size_t i = 0; i < model.op_count; i++) {
        op_apply(&model.durable, &model.ops[i]);
        free(model.ops[i].from);
        free(model.ops[i].to);
    }
    model.op_count = 0;
}

struct model_file *model_open(const char *path, bool was_there)
{
    struct stat st;
    struct name *name = name_find(&model.now, path);
    bool is_there = stat(path, &st) == 0;
    if (name != NULL && is_there && st.st_ino == name->file->inode) {
        return name->file;
    }
    struct model_file *file = file_new(is_there ? st.st_ino : 0);
    if (was_there || name != NULL) { /* from before, or by a rename that nobody told of */
        file_take(file, path);
        name_put(&model.now, path, file);
        name_put(&model.durable, path, file);
    } else {
        op_add(NULL, path, file);
    }
    return file;
}

void model_delete(const char *path)
{
    if (name_find(&model.now, path) != NULL) {
        op_add(path, NULL, NULL);
    }
}

void model_rename(const char *from, const char *to)
{
    const struct name *name = name_find(&model.now, from);
    if (name == NULL) { /* never synced: nothing of it need be there */
        model_open(from, false);
        name = name_find(&model.now, from);
    }
    op_add(from, to, name->file);
}

void model_sync_fd(int fd)
{
    struct stat st;
    char link[64];
    char path[4096];
    CHECK(fstat(fd, &st) == 0);
    if (S_ISDIR(st.st_mode)) {
        model_sync_names();
        return;
    }
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    CHECK(n > 0);
    path[n] = '\0';
    for (size_t i = 0; i < model.file_count; i++) {
        if (model.files[i]->inode == st.st_ino && model.files[i]->first != NULL) {
            model_sync(model.files[i]);
            return;
        }
    }
    file_take(model_open(path, false), path);
}

void model_clear(void)
{
    model_sync_names();
    names_fini(&model.durable);
    names_fini(&model.now);
    while (model.file_count > 0) {
        struct model_file *file = model.files[--model.file_count];
        model_forget_writes(file);
        buf_fini(&file->durable);
        free(file);
    }
}

/* ---- the power goes ---- */

/* Chance by seed: splitmix64. */
static uint64_t roll(uint64_t *state)
{
    uint64_t z = (*state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static void garble(uint8_t *p, size_t n, uint64_t *state)
{
    for (size_t i = 0; i < n; i++) {
        p[i] = (uint8_t)roll(state);
    }
}

/* Each sector that the write touches: there, missing, or garbage. */
static void write_torn(struct buf *image, const struct pending *pending, uint64_t *state)
{
    size_t done = 0;
    while (done < pending->n) {
        size_t at = pending->at + done;
        size_t n = SECTOR_SIZE - at % SECTOR_SIZE;
        n = n < pending->n - done ? n : pending->n - done;
        uint64_t fate = roll(state) % 3;
        if (fate > 0) {
            put_at(image, at, pending->bytes + done, n);
        }
        if (fate == 2) {
            garble(image->p + at, n, state);
        }
        done += n;
    }
}

static void write_maybe(struct buf *image, const struct pending *pending, uint64_t *state)
{
    uint64_t fate = roll(state) % 5;
    size_t n = pending->n;
    if (fate == 0) {
        return;
    }
    if (pending->is_truncate) {
        put_truncate(image, pending->at);
    } else if (fate == 1) {
        write_torn(image, pending, state);
    } else if (fate == 2 && n > 0) { /* its beginning alone, at no sector's end */
        put_at(image, pending->at, pending->bytes, (size_t)(roll(state) % n));
    } else {
        put_at(image, pending->at, pending->bytes, n);
        if (fate == 3) {
            garble(image->p + pending->at, n, state);
        }
    }
}

static void file_lose(const struct model_file *file, struct buf *image, uint64_t seed, uint64_t *state)
{
    buf_put(image, file->durable.p, file->durable.n);
    for (const struct pending *p = file->first; p != NULL && seed != 0; p = p->next) {
        if (seed > 1) {
            write_maybe(image, p, state);
        } else if (p->is_truncate) {
            put_truncate(image, p->at);
        } else {
            put_at(image, p->at, p->bytes, p->n);
        }
    }
}

static void names_lose(struct names *names, uint64_t seed, uint64_t *state)
{
    size_t happened = seed == 0 ? 0 : seed == 1 ? model.op_count : (size_t)(roll(state) % (model.op_count + 1));
    for (size_t i = 0; i < model.durable.count; i++) {
        name_put(names, model.durable.of[i].path, model.durable.of[i].file);
    }
    for (size_t i = 0; i < happened; i++) {
        op_apply(names, &model.ops[i]);
    }
}

void model_power_loss(const char *directory, uint64_t seed)
{
    uint64_t state = seed;
    struct names names = {0};
    names_lose(&names, seed, &state);
    for (size_t i = 0; i < names.count; i++) {
        struct buf image = {0};
        char path[4096];
        file_lose(names.of[i].file, &image, seed, &state);
        snprintf(path, sizeof path, "%s%s", directory, strrchr(names.of[i].path, '/'));
        FILE *file = fopen(path, "wb");
        CHECK(file != NULL && (image.n == 0 || fwrite(image.p, image.n, 1, file) == 1) && fclose(file) == 0);
        buf_fini(&image);
    }
    names_fini(&names);
}

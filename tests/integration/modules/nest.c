/*
 * nest.c: functions that wait for tasks they have submitted, in the ways that story_nested.py looks at.
 */
#include <quern/client.h>
#include <quern/value.h>
#include <quern/worker.h>

#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CHILD_COUNT_MAX 100
#define PATH_SIZE_MAX 400
#define LOOK_MS 2

static struct quern_client *client;

static enum quern_err client_begin(struct quern_task *task)
{
    if (client == NULL && quern_client_open(NULL, &client) != QUERN_OK) {
        return quern_task_fail(task, "NoClient", "%s", quern_last_error());
    }
    return QUERN_OK;
}

static enum quern_err fail(struct quern_task *task, enum quern_err err)
{
    return quern_task_fail(task, quern_err_word(err), "%s", quern_last_error());
}

/* args: taken. */
static enum quern_err submit(struct quern_task *task, const char *function, struct quern_writer *args,
                             struct quern_future **future_out)
{
    struct quern_call call = QUERN_CALL_INIT;
    const void *bytes;
    enum quern_err err = client_begin(task);
    call.function = function;
    quern_writer_bytes(args, &bytes, &call.args_size);
    call.args = bytes;
    if (err == QUERN_OK) {
        err = quern_submit(client, &call, future_out, NULL);
        err = err == QUERN_OK ? err : fail(task, err);
    }
    quern_writer_free(args);
    return err;
}

static struct quern_writer *one(uint64_t x)
{
    struct quern_writer *args = quern_writer_new();
    quern_write_array(args, 1);
    quern_write_u64(args, x);
    return args;
}

static struct quern_writer *path_args(const char *path)
{
    struct quern_writer *args = quern_writer_new();
    quern_write_array(args, 1);
    quern_write_text(args, path);
    return args;
}

static enum quern_err read_path(struct quern_reader *args, char path[PATH_SIZE_MAX])
{
    const char *p;
    size_t n;
    enum quern_err err = quern_read_str(args, &p, &n);
    if (err != QUERN_OK || n >= PATH_SIZE_MAX - 16) {
        return QUERN_INVALID;
    }
    memcpy(path, p, n);
    path[n] = 0;
    return QUERN_OK;
}

/* The child's result, an integer. The future is released. */
static enum quern_err take(struct quern_task *task, struct quern_future *future, uint64_t *x_out)
{
    struct quern_outcome *outcome = NULL;
    enum quern_err err = quern_future_result(future, QUERN_FOREVER, &outcome);
    if (err == QUERN_OK) {
        struct quern_reader reader;
        quern_reader_init(&reader, outcome->result, outcome->result_size);
        err = quern_read_u64(&reader, x_out);
    } else if (err == QUERN_TASK_FAILED) {
        err = quern_task_fail(task, outcome->kind, "%s", outcome->message);
    } else {
        err = fail(task, err);
    }
    quern_outcome_release(&outcome);
    quern_future_release(&future);
    return err;
}

static enum quern_err leaf(struct quern_task *task, struct quern_reader *args, struct quern_writer *result)
{
    uint64_t x;
    if (quern_read_u64(args, &x) != QUERN_OK) {
        return quern_task_fail_args(task, args, "leaf takes an integer");
    }
    quern_write_u64(result, x);
    return QUERN_OK;
}

/* [count]: so many leaves, waited for together. */
static enum quern_err fan(struct quern_task *task, struct quern_reader *args, struct quern_writer *result)
{
    uint64_t count;
    uint64_t sum = 0;
    size_t made = 0;
    struct quern_future *futures[CHILD_COUNT_MAX];
    if (quern_read_u64(args, &count) != QUERN_OK || count > CHILD_COUNT_MAX) {
        return quern_task_fail_args(task, args, "fan takes a small integer");
    }
    enum quern_err err = QUERN_OK;
    while (err == QUERN_OK && made < count) {
        err = submit(task, "leaf", one(made), &futures[made]);
        made += err == QUERN_OK;
    }
    if (err == QUERN_OK && (err = quern_wait(futures, made, QUERN_ALL_COMPLETED, QUERN_FOREVER, NULL, NULL)) != 0) {
        err = fail(task, err);
    }
    for (size_t i = 0; i < made; i++) {
        uint64_t x = 0;
        enum quern_err taken = take(task, futures[i], &x);
        err = err == QUERN_OK ? taken : err;
        sum += x;
    }
    quern_write_u64(result, sum);
    return err;
}

/* A byte for one who comes. The file, or -1. */
static int come(const char *path)
{
    int fd = open(path, O_CREAT | O_WRONLY | O_APPEND | O_CLOEXEC, 0600);
    if (fd >= 0 && write(fd, ".", 1) != 1) {
        close(fd);
        return -1;
    }
    return fd;
}

/* Counts who comes, a byte each, and waits until so many have come: with its place given. */
static enum quern_err meet(struct quern_task *task, const char *path, uint64_t count)
{
    int fd = come(path);
    if (fd < 0) {
        return quern_task_fail(task, "Meet", "%s cannot be written", path);
    }
    enum quern_err err = quern_task_wait_begin(task);
    while (err == QUERN_OK && (uint64_t)lseek(fd, 0, SEEK_END) < count) {
        (void)poll(NULL, 0, LOOK_MS);
    }
    quern_task_wait_end(task);
    close(fd);
    return err;
}

/* [n] or [n, path, count]: a chain of n more, each waiting for the next; before that, meets as many at path. */
static enum quern_err descend(struct quern_task *task, struct quern_reader *args, struct quern_writer *result)
{
    uint64_t n;
    uint64_t count;
    char path[PATH_SIZE_MAX];
    if (quern_read_u64(args, &n) != QUERN_OK) {
        return quern_task_fail_args(task, args, "descend takes an integer");
    }
    if (quern_peek(args) != QUERN_TYPE_NONE) {
        if (read_path(args, path) != QUERN_OK || quern_read_u64(args, &count) != QUERN_OK) {
            return quern_task_fail_args(task, args, "descend takes an integer, a path and a count");
        }
        enum quern_err err = meet(task, path, count);
        if (err != QUERN_OK) {
            return err;
        }
    }
    uint64_t x = 0;
    if (n > 0) {
        struct quern_future *future;
        enum quern_err err = submit(task, "descend", one(n - 1), &future);
        err = err != QUERN_OK ? err : take(task, future, &x);
        if (err != QUERN_OK) {
            return err;
        }
        x++;
    }
    quern_write_u64(result, x);
    return QUERN_OK;
}

/* [path]: runs until path exists. */
static enum quern_err until(struct quern_task *task, struct quern_reader *args, struct quern_writer *result)
{
    char path[PATH_SIZE_MAX];
    if (read_path(args, path) != QUERN_OK) {
        return quern_task_fail_args(task, args, "until takes a path");
    }
    while (access(path, F_OK) != 0) {
        (void)poll(NULL, 0, LOOK_MS);
    }
    quern_write_u64(result, 1);
    return QUERN_OK;
}

/* [path]: says its process id in PATH.pid and waits for a child that runs until path exists. */
static enum quern_err parent(struct quern_task *task, struct quern_reader *args, struct quern_writer *result)
{
    char path[PATH_SIZE_MAX];
    char name[PATH_SIZE_MAX + 8];
    uint64_t x;
    struct quern_future *future;
    if (read_path(args, path) != QUERN_OK) {
        return quern_task_fail_args(task, args, "parent takes a path");
    }
    snprintf(name, sizeof(name), "%s.pid", path);
    FILE *file = fopen(name, "a");
    if (file == NULL) {
        return quern_task_fail(task, "NoFile", "%s cannot be written", name);
    }
    fprintf(file, "%d\n", getpid());
    fclose(file);
    enum quern_err err = submit(task, "until", path_args(path), &future);
    err = err != QUERN_OK ? err : take(task, future, &x);
    if (err == QUERN_OK) {
        quern_write_u64(result, x);
    }
    return err;
}

/* In a world of tests/unit/worker_world.h: a slot counts itself, a byte in `born`, and begins once there is no `gate`.
 */
static enum quern_err begin_slot(const char **text_out)
{
    char path[PATH_SIZE_MAX];
    const char *world = getenv("QUERN_TEST_WORLD");
    if (world == NULL) {
        return QUERN_OK;
    }
    snprintf(path, sizeof(path), "%s/born", world);
    int fd = come(path);
    if (fd < 0) {
        *text_out = "the world's directory cannot be written";
        return QUERN_INVALID;
    }
    close(fd);
    snprintf(path, sizeof(path), "%s/gate", world);
    while (access(path, F_OK) == 0) {
        (void)poll(NULL, 0, LOOK_MS);
    }
    return QUERN_OK;
}

static const struct quern_function functions[] = {
    {"leaf", leaf}, {"fan", fan}, {"descend", descend}, {"until", until}, {"parent", parent}, {NULL, NULL},
};

QUERN_MODULE(.functions = functions, .initialise_slot = begin_slot)

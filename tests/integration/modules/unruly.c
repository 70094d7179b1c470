/*
 * unruly.c: functions that do to their slot what no function should, and one that is good, to see that the worker
 * lives. Loaded by story_worker.py. UNRULY in the worker's environment makes the loading itself unruly.
 */
#include <quern/worker.h>

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define DESCRIPTOR_COUNT 1024

/* What the compiler cannot see through. */
static void *volatile hidden;

static enum quern_err good(struct quern_task *task, struct quern_reader *args, struct quern_writer *result)
{
    int64_t x;
    if (quern_read_i64(args, &x) != QUERN_OK) {
        return quern_task_fail_args(task, args, "good takes an integer");
    }
    quern_write_i64(result, x + 1);
    return QUERN_OK;
}

static enum quern_err close_all(struct quern_task *task, struct quern_reader *args, struct quern_writer *result)
{
    (void)task;
    (void)args;
    for (int fd = 0; fd < DESCRIPTOR_COUNT; fd++) {
        close(fd);
    }
    quern_write_text(result, "closed");
    return QUERN_OK;
}

/* Close them, and go on: nobody can reach it any more. */
static enum quern_err close_and_stay(struct quern_task *task, struct quern_reader *args, struct quern_writer *result)
{
    enum quern_err err = close_all(task, args, result);
    for (int i = 0; i < 1000; i++) {
        sleep(1000);
    }
    return err;
}

static void note_pid(const char *path)
{
    FILE *file = fopen(path, "a");
    if (file != NULL) {
        fprintf(file, "%d\n", getpid());
        fclose(file);
    }
}

static int line_count(const char *path)
{
    FILE *file = fopen(path, "r");
    int count = 0;
    for (int c = file == NULL ? EOF : fgetc(file); c != EOF; c = fgetc(file)) {
        count += c == '\n';
    }
    if (file != NULL) {
        fclose(file);
    }
    return count;
}

/* A process that is hard to find: its parent has ended, it leads a session of its own, it heeds no SIGTERM, and it has
 * children of its own. */
static void daemonise(const char *path)
{
    if (fork() == 0) {
        setsid();
        if (fork() == 0) {
            signal(SIGTERM, SIG_IGN);
            (void)setpgid(0, 0);
            for (int i = 0; i < 2 && fork() != 0; i++) {
            }
            note_pid(path);
            for (;;) {
                pause();
            }
        }
        _exit(0);
    }
}

/* Start daemons and children that note their pids in a file; then do what the second argument says. */
static enum quern_err tree(struct quern_task *task, struct quern_reader *args, struct quern_writer *result)
{
    const char *path;
    const char *how;
    size_t size;
    size_t how_size;
    char name[4096];
    if (quern_read_str(args, &path, &size) != QUERN_OK || quern_read_str(args, &how, &how_size) != QUERN_OK) {
        return quern_task_fail_args(task, args, "tree takes a path and a word");
    }
    snprintf(name, sizeof(name), "%.*s", (int)size, path);
    daemonise(name);
    daemonise(name);
    if (fork() == 0) {
        signal(SIGTERM, SIG_IGN);
        note_pid(name);
        for (;;) {
            pause();
        }
    }
    if (memcmp(how, "deaf", 4) == 0) {
        signal(SIGTERM, SIG_IGN);
    }
    if (memcmp(how, "exit", 4) == 0) {
        while (line_count(name) < 7) {
            usleep(1000);
        }
        _exit(3);
    }
    while (memcmp(how, "asks", 4) != 0 || !quern_task_is_cancelled(task)) {
        sleep(1000);
    }
    if (memcmp(how, "asks", 4) == 0) {
        note_pid(name);
    }
    quern_write_i64(result, 1);
    return QUERN_OK;
}

static enum quern_err write_all(struct quern_task *task, struct quern_reader *args, struct quern_writer *result)
{
    char garbage[4096];
    (void)task;
    (void)args;
    memset(garbage, 0xa5, sizeof(garbage));
    signal(SIGPIPE, SIG_IGN);
    for (int fd = 3; fd < DESCRIPTOR_COUNT; fd++) {
        (void)!write(fd, garbage, sizeof(garbage));
    }
    quern_write_text(result, "written");
    return QUERN_OK;
}

/* A child that comes back from the handler as if it were the slot. */
static enum quern_err fork_and_return(struct quern_task *task, struct quern_reader *args, struct quern_writer *result)
{
    (void)task;
    (void)args;
    pid_t pid = fork();
    quern_write_i64(result, pid == 0 ? 666 : 1);
    return QUERN_OK;
}

static enum quern_err fork_and_exit(struct quern_task *task, struct quern_reader *args, struct quern_writer *result)
{
    (void)task;
    (void)args;
    if (fork() == 0) {
        exit(3);
    }
    quern_write_i64(result, 1);
    return QUERN_OK;
}

static enum quern_err fork_many(struct quern_task *task, struct quern_reader *args, struct quern_writer *result)
{
    (void)task;
    (void)args;
    for (int i = 0; i < 20; i++) {
        if (fork() == 0) {
            _exit(0);
        }
    }
    quern_write_i64(result, 20);
    return QUERN_OK;
}

static enum quern_err abort_it(struct quern_task *task, struct quern_reader *args, struct quern_writer *result)
{
    (void)task;
    (void)args;
    (void)result;
    abort();
}

static jmp_buf nowhere;

__attribute__((noinline)) static void set_jump(void)
{
    (void)setjmp(nowhere);
}

static enum quern_err jump(struct quern_task *task, struct quern_reader *args, struct quern_writer *result)
{
    (void)task;
    (void)args;
    (void)result;
    set_jump();
    memset(&nowhere, 0x5a, sizeof(nowhere));
    longjmp(nowhere, 1);
}

static enum quern_err corrupt(struct quern_task *task, struct quern_reader *args, struct quern_writer *result)
{
    (void)task;
    (void)args;
    hidden = malloc(24);
    memset((char *)hidden - 64, 0xff, 4096);
    for (int i = 0; i < 100; i++) {
        hidden = malloc((size_t)i * 100);
        free(hidden);
    }
    quern_write_i64(result, 1);
    return QUERN_OK;
}

static enum quern_err block_all(struct quern_task *task, struct quern_reader *args, struct quern_writer *result)
{
    double seconds;
    sigset_t all;
    if (quern_read_f64(args, &seconds) != QUERN_OK) {
        return quern_task_fail_args(task, args, "block_all takes seconds");
    }
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, NULL);
    usleep((useconds_t)(seconds * 1e6));
    quern_write_i64(result, 1);
    return QUERN_OK;
}

static enum quern_err raw(struct quern_task *task, struct quern_reader *args, struct quern_writer *result)
{
    (void)task;
    (void)args;
    quern_write_raw(result, "\xc1", 1);
    return QUERN_OK;
}

static enum quern_err open_array(struct quern_task *task, struct quern_reader *args, struct quern_writer *result)
{
    (void)task;
    (void)args;
    quern_write_array(result, 3);
    quern_write_i64(result, 1);
    return QUERN_OK;
}

/* It has said more than its result. */
static enum quern_err open_array_detailed(struct quern_task *task, struct quern_reader *args,
                                          struct quern_writer *result)
{
    quern_task_detail(task, "line 1\nline 2", 13);
    return open_array(task, args, result);
}

/* It fails in its own words, with a result half written; and with words that are not UTF-8. */
static enum quern_err fail_half_written(struct quern_task *task, struct quern_reader *args, struct quern_writer *result)
{
    (void)open_array(task, args, result);
    quern_task_detail(task, "\xff\x00\xfe", 3);
    return quern_task_fail(task,
                           "Gr\xf6\xdf"
                           "e",
                           "zu gro\xdf: %d", 7);
}

static enum quern_err two_values(struct quern_task *task, struct quern_reader *args, struct quern_writer *result)
{
    (void)task;
    (void)args;
    quern_write_i64(result, 1);
    quern_write_i64(result, 2);
    return QUERN_OK;
}

/* A result of so many bytes as a whole (at least 70 KiB). */
static enum quern_err big(struct quern_task *task, struct quern_reader *args, struct quern_writer *result)
{
    int64_t size;
    if (quern_read_i64(args, &size) != QUERN_OK || size < 70000) {
        return quern_task_fail_args(task, args, "big takes a size");
    }
    char *p = calloc(1, (size_t)size);
    quern_write_bin(result, p, (size_t)size - 5);
    free(p);
    return QUERN_OK;
}

/* Messages that are no UTF-8, or are cut in the middle of a character. */
static enum quern_err long_text(struct quern_task *task, struct quern_reader *args, struct quern_writer *result)
{
    char text[6001];
    (void)args;
    (void)result;
    text[0] = 'x';
    for (size_t i = 1; i + 1 < sizeof(text); i += 2) {
        memcpy(text + i, "\xc3\xa4", 2);
    }
    text[sizeof(text) - 2] = '\0';
    return quern_task_fail(task, text, "%s", text);
}

static enum quern_err return_code(struct quern_task *task, struct quern_reader *args, struct quern_writer *result)
{
    (void)task;
    (void)args;
    (void)result;
    return (enum quern_err)12345;
}

/* Keep so many bytes for good; answers the slot's pid. */
static enum quern_err leak(struct quern_task *task, struct quern_reader *args, struct quern_writer *result)
{
    int64_t size;
    if (quern_read_i64(args, &size) != QUERN_OK || size < 0) {
        return quern_task_fail_args(task, args, "leak takes a size");
    }
    char *p = malloc((size_t)size + 1);
    memset(p, 1, (size_t)size + 1);
    hidden = p;
    usleep(2000);
    quern_write_i64(result, getpid());
    return QUERN_OK;
}

static int64_t initialised_in;
static int64_t slot_initialised_in;
static int slot_initialised;

/* [the pid where initialise ran, where initialise_slot did, how often, here] */
static enum quern_err births(struct quern_task *task, struct quern_reader *args, struct quern_writer *result)
{
    (void)task;
    (void)args;
    usleep(20000); /* so that every slot has some */
    quern_write_array(result, 4);
    quern_write_i64(result, initialised_in);
    quern_write_i64(result, slot_initialised_in);
    quern_write_i64(result, slot_initialised);
    quern_write_i64(result, getpid());
    return QUERN_OK;
}

static enum quern_err own_pid(struct quern_task *task, struct quern_reader *args, struct quern_writer *result)
{
    (void)task;
    (void)args;
    quern_write_i64(result, getpid());
    return QUERN_OK;
}

/* Append a letter to a file: a side effect that can be counted. Then wait. */
static enum quern_err effect(struct quern_task *task, struct quern_reader *args, struct quern_writer *result)
{
    const char *path;
    size_t size;
    double seconds = 0;
    if (quern_read_str(args, &path, &size) != QUERN_OK ||
        (quern_peek(args) != QUERN_TYPE_NONE && quern_read_f64(args, &seconds) != QUERN_OK)) {
        return quern_task_fail_args(task, args, "effect takes a path and seconds");
    }
    char name[4096];
    snprintf(name, sizeof(name), "%.*s", (int)size, path);
    FILE *file = fopen(name, "a");
    if (file == NULL) {
        return quern_task_fail(task, "NoFile", "%s", strerror(errno));
    }
    fprintf(file, "%llu\n", (unsigned long long)quern_task_id(task));
    fclose(file);
    if (seconds > 0) {
        usleep((useconds_t)(seconds * 1e6));
    }
    quern_write_i64(result, 1);
    return QUERN_OK;
}

static enum quern_err slow_effect(struct quern_task *task, struct quern_reader *args, struct quern_writer *result)
{
    usleep(1000);
    return effect(task, args, result);
}

static void *wait_for_ever(void *self)
{
    for (;;) {
        pause();
    }
    return self;
}

static void leave_thread(void)
{
    pthread_t thread;
    pthread_create(&thread, NULL, wait_for_ever, NULL);
}

static int is_told(const char *word)
{
    const char *how = getenv("UNRULY");
    return how != NULL && strcmp(how, word) == 0;
}

__attribute__((constructor)) static void loaded(void)
{
    if (is_told("thread-at-load")) {
        leave_thread();
    }
}

/* UNRULY_WHILE: only while that file is there. */
static int is_over(void)
{
    return getenv("UNRULY_WHILE") != NULL && access(getenv("UNRULY_WHILE"), F_OK) != 0;
}

static enum quern_err initialise_slot(const char **text_out)
{
    slot_initialised_in = getpid();
    slot_initialised++;
    if (is_over()) {
        return QUERN_OK;
    }
    if (is_told("slot-fail")) {
        *text_out = "the device is busy";
        return QUERN_IO;
    }
    if (is_told("slot-crash")) {
        abort();
    }
    return QUERN_OK;
}

static enum quern_err initialise(const char **text_out)
{
    initialised_in = getpid();
    if (is_over()) {
        return QUERN_OK;
    }
    if (is_told("fail")) {
        *text_out = "the model is missing";
        return QUERN_IO;
    }
    if (is_told("thread")) {
        leave_thread();
    }
    if (is_told("crash")) {
        abort();
    }
    if (is_told("hang")) {
        pause();
    }
    return QUERN_OK;
}

static const struct quern_function functions[] = {
    {"good", good},
    {"close_all", close_all},
    {"close_and_stay", close_and_stay},
    {"tree", tree},
    {"write_all", write_all},
    {"fork_and_return", fork_and_return},
    {"fork_and_exit", fork_and_exit},
    {"fork_many", fork_many},
    {"abort", abort_it},
    {"jump", jump},
    {"corrupt", corrupt},
    {"block_all", block_all},
    {"raw", raw},
    {"open_array", open_array},
    {"open_array_detailed", open_array_detailed},
    {"fail_half_written", fail_half_written},
    {"two_values", two_values},
    {"big", big},
    {"long_text", long_text},
    {"return_code", return_code},
    {"leak", leak},
    {"births", births},
    {"own_pid", own_pid},
    {"effect", effect},
    {"slow_effect", slow_effect},
    {NULL, NULL},
};

QUERN_MODULE(.functions = functions, .initialise = initialise, .initialise_slot = initialise_slot)

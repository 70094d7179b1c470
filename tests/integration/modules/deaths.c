/*
 * deaths.c: every way in which a slot can die, each of its own making. Loaded by story_deaths.py.
 */
#include <quern/worker.h>

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#define PATH_SIZE_MAX 4096
#define DESCRIPTOR_COUNT 1024
#define LOOK_MS 2

static void *volatile hidden;
static int *volatile nowhere;
static char late_path[PATH_SIZE_MAX];

static void wait_for(const char *path)
{
    while (access(path, F_OK) != 0) {
        (void)poll(NULL, 0, LOOK_MS);
    }
}

static void stay(void)
{
    for (;;) {
        (void)poll(NULL, 0, -1);
    }
}

/* ---- signals ---- */

static void die_segv(void)
{
    *nowhere = 1;
}

static void die_bus(void)
{
    FILE *file = tmpfile();
    char *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fileno(file), 0);
    *(volatile char *)p = 1; /* behind the end of the file */
}

static void die_ill(void)
{
    raise(SIGILL);
}

static void die_fpe(void)
{
    raise(SIGFPE);
}

static void die_term(void)
{
    signal(SIGTERM, SIG_DFL);
    raise(SIGTERM);
}

static void die_kill(void)
{
    raise(SIGKILL);
}

static void die_abort(void)
{
    abort();
}

/* ---- ends ---- */

static void die_exit(void)
{
    exit(3);
}

static void die_exit_0(void)
{
    exit(0);
}

static void die_quick(void)
{
    _exit(4);
}

/* As if it had never been a slot: another program stands in its place. */
static void die_exec(void)
{
    execl("/bin/true", "true", (char *)NULL);
}

static void die_atexit(void)
{
    atexit(stay);
    exit(5);
}

static void die_stop(void)
{
    raise(SIGSTOP);
    stay();
}

static void die_thread_exit(void)
{
    pthread_exit(NULL);
}

/* The parent is gone; the child comes back from the handler as if it were the slot. */
static void die_fork(void)
{
    if (fork() != 0) {
        _exit(6);
    }
}

/* The same, and the child stays. */
static void die_fork_stay(void)
{
    if (fork() != 0) {
        _exit(7);
    }
    setsid();
    stay();
}

/* ---- memory ---- */

static void die_memory(void)
{
    const struct rlimit limit = {(rlim_t)256 << 20, (rlim_t)256 << 20};
    setrlimit(RLIMIT_AS, &limit);
    for (;;) {
        hidden = malloc(1 << 20);
        memset(hidden, 1, 1 << 20); /* nobody looked whether there is any */
    }
}

static void die_heap(void)
{
    hidden = malloc(24);
    memset(hidden, 0x41, 4096);
    for (size_t i = 0; i < 1000; i++) {
        hidden = malloc(16 + i * 8);
        free(hidden);
    }
    abort();
}

__attribute__((noinline)) static int sink(volatile char *above)
{
    volatile char room[1024];
    room[0] = above == NULL ? 1 : above[0];
    return room[0] == 0 ? 0 : sink(room) + room[0];
}

static void die_stack(void)
{
    hidden = (void *)(intptr_t)sink(NULL);
}

/* ---- descriptors ---- */

static void die_close(void)
{
    for (int fd = 0; fd < DESCRIPTOR_COUNT; fd++) {
        close(fd);
    }
    stay();
}

static void die_shut(void)
{
    for (int fd = 3; fd < DESCRIPTOR_COUNT; fd++) {
        (void)shutdown(fd, SHUT_RDWR);
    }
    stay();
}

/* It dies while its garbage lies in every pipe and socket that it has. */
static void die_garbage(void)
{
    char garbage[65536];
    memset(garbage, 0xa5, sizeof(garbage));
    signal(SIGPIPE, SIG_IGN);
    for (int fd = 3; fd < DESCRIPTOR_COUNT; fd++) {
        (void)fcntl(fd, F_SETFL, O_NONBLOCK);
        (void)!write(fd, garbage, sizeof(garbage));
    }
    _exit(8);
}

/* Everything that it shares with the supervisor is written over; then it stays. */
static void die_scribble(void)
{
    FILE *maps = fopen("/proc/self/maps", "r");
    char line[512];
    while (maps != NULL && fgets(line, sizeof(line), maps) != NULL) {
        unsigned long from;
        unsigned long to;
        if (strstr(line, "quern-slot") != NULL && sscanf(line, "%lx-%lx", &from, &to) == 2) {
            memset((void *)from, 0xff, to - from);
        }
    }
    _exit(9);
}

/* ---- threads ---- */

static void *crash_later(void *none)
{
    (void)none;
    wait_for(late_path);
    die_segv();
    return NULL;
}

static void leave_thread(void)
{
    pthread_t thread;
    pthread_create(&thread, NULL, crash_later, NULL);
}

static const struct {
    const char *how;
    void (*run)(void);
} ways[] = {
    {"segv", die_segv},
    {"bus", die_bus},
    {"ill", die_ill},
    {"fpe", die_fpe},
    {"term", die_term},
    {"kill", die_kill},
    {"abort", die_abort},
    {"exit", die_exit},
    {"exit0", die_exit_0},
    {"_exit", die_quick},
    {"exec", die_exec},
    {"atexit", die_atexit},
    {"stop", die_stop},
    {"fork", die_fork},
    {"thread-exit", die_thread_exit},
    {"fork-stay", die_fork_stay},
    {"memory", die_memory},
    {"heap", die_heap},
    {"stack", die_stack},
    {"close", die_close},
    {"shut", die_shut},
    {"garbage", die_garbage},
    {"scribble", die_scribble},
    {"late", leave_thread},
};

static bool read_path(struct quern_reader *args, char path[PATH_SIZE_MAX])
{
    const char *p;
    size_t n;
    if (quern_read_str(args, &p, &n) != QUERN_OK || n >= PATH_SIZE_MAX) {
        return false;
    }
    memcpy(path, p, n);
    path[n] = '\0';
    return true;
}

/* For a kill from outside. */
static void note_pid(const char *path)
{
    char name[PATH_SIZE_MAX + 8];
    snprintf(name, sizeof(name), "%s.pid", path);
    FILE *file = fopen(name, "w");
    if (file != NULL) {
        fprintf(file, "%d", getpid());
        fclose(file);
    }
}

/* [how, go, late]: waits for the file `go`, and dies so, in its first attempt only. The answer is its attempt. Its
 * process is in `go`.pid. */
static enum quern_err die(struct quern_task *task, struct quern_reader *args, struct quern_writer *result)
{
    char how[PATH_SIZE_MAX];
    char go[PATH_SIZE_MAX];
    if (!read_path(args, how) || !read_path(args, go) || !read_path(args, late_path)) {
        return quern_task_fail_args(task, args, "die takes a word and two paths");
    }
    if (quern_task_attempt(task) == 1) {
        note_pid(go);
    }
    wait_for(go);
    for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]) && quern_task_attempt(task) == 1; i++) {
        if (strcmp(how, ways[i].how) == 0) {
            ways[i].run();
        }
    }
    quern_write_u64(result, quern_task_attempt(task));
    return QUERN_OK;
}

/* [path]: runs until there is such a file; the answer is its process. */
static enum quern_err until(struct quern_task *task, struct quern_reader *args, struct quern_writer *result)
{
    char path[PATH_SIZE_MAX];
    if (!read_path(args, path)) {
        return quern_task_fail_args(task, args, "until takes a path");
    }
    wait_for(path);
    quern_write_i64(result, getpid());
    return QUERN_OK;
}

static enum quern_err quick(struct quern_task *task, struct quern_reader *args, struct quern_writer *result)
{
    (void)task;
    (void)args;
    quern_write_i64(result, getpid());
    return QUERN_OK;
}

static const struct quern_function functions[] = {{"die", die}, {"until", until}, {"quick", quick}, {NULL, NULL}};

QUERN_MODULE(.functions = functions)

/*
 * witness.c: functions that write down every start where quern has no part in it, and then behave well or badly.
 * Loaded by tests/crash/chaos.py and tests/bench/isolation.py. WITNESS_DIR in the worker's environment: where to write.
 */
#include <quern/worker.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define WORD_SIZE_MAX 64
#define MIB ((size_t)1 << 20)
#define HOG_MIB_MAX 200
#define LONG_S 600
#define FAMILY_COUNT 2

/* "KEY ACTION NUMBER" */
struct order {
    char key[WORD_SIZE_MAX];
    char action[WORD_SIZE_MAX];
    unsigned number;
};

static bool order_read(struct quern_reader *args, struct order *order_out)
{
    const char *p;
    size_t n;
    char text[3 * WORD_SIZE_MAX];
    if (quern_read_str(args, &p, &n) != QUERN_OK || n >= sizeof(text)) {
        return false;
    }
    memcpy(text, p, n);
    text[n] = '\0';
    return sscanf(text, "%63s %63s %u", order_out->key, order_out->action, &order_out->number) == 3;
}

/* One write to the end of the file: whole, whoever else writes to it and whoever is killed. */
static bool note(const char *name, const char *text)
{
    char path[4096];
    const char *directory = getenv("WITNESS_DIR");
    snprintf(path, sizeof(path), "%s/%s", directory != NULL ? directory : ".", name);
    int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    bool is_written = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);
    if (fd >= 0) {
        close(fd);
    }
    return is_written;
}

static unsigned times_failed(const char *key)
{
    char path[4096];
    snprintf(path, sizeof(path), "%s/fail-%s", getenv("WITNESS_DIR"), key);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    off_t size = fd >= 0 ? lseek(fd, 0, SEEK_END) : 0;
    if (fd >= 0) {
        close(fd);
    }
    return (unsigned)size;
}

/* It fails so many times by itself, and then no more. */
static enum quern_err fail(struct quern_task *task, const struct order *order)
{
    char name[WORD_SIZE_MAX + 8];
    if (times_failed(order->key) >= order->number) {
        return QUERN_OK;
    }
    snprintf(name, sizeof(name), "fail-%s", order->key);
    return note(name, ".") ? quern_task_fail(task, "AsTold", "%s", order->key) : QUERN_OK;
}

/* The same, but its process dies. */
static void die(const struct order *order)
{
    char name[WORD_SIZE_MAX + 8];
    snprintf(name, sizeof(name), "fail-%s", order->key);
    if (times_failed(order->key) < order->number && note(name, ".")) {
        abort();
    }
}

/* Processes that are hard to find: double-forked, in sessions of their own, deaf to SIGTERM. Their environment says
 * whose they are. */
static void family(const struct order *order)
{
    char task[WORD_SIZE_MAX + 16];
    char slot[64];
    snprintf(task, sizeof(task), "CHAOS_TASK=%s", order->key);
    snprintf(slot, sizeof(slot), "CHAOS_SLOT=%d", getpid());
    char life[256];
    snprintf(life, sizeof(life), "CHAOS_LIFE=%s", getenv("CHAOS_LIFE") != NULL ? getenv("CHAOS_LIFE") : "");
    char *words[] = {(char *)"sleep", (char *)"600", NULL};
    char *marks[] = {task, slot, life, NULL};
    for (int i = 0; i < FAMILY_COUNT; i++) {
        if (fork() != 0) {
            continue;
        }
        setsid();
        if (i == 0 && fork() != 0) {
            _exit(0);
        }
        signal(SIGTERM, SIG_IGN);
        execve("/bin/sleep", words, marks);
        _exit(127);
    }
}

static void hog(unsigned mib)
{
    size_t size = (mib < HOG_MIB_MAX ? mib : HOG_MIB_MAX) * MIB;
    char *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (size_t at = 0; p != MAP_FAILED && at < size; at += MIB) {
        memset(p + at, 1, MIB);
        usleep(500);
    }
    sleep(LONG_S);
}

static enum quern_err act(struct quern_task *task, const struct order *order)
{
    if (strcmp(order->action, "sleep") == 0) {
        usleep(order->number * 1000);
    } else if (strcmp(order->action, "fail") == 0) {
        return fail(task, order);
    } else if (strcmp(order->action, "die") == 0) {
        die(order);
    } else if (strcmp(order->action, "hog") == 0) {
        hog(order->number);
    } else if (strcmp(order->action, "hang") == 0) {
        family(order);
        sleep(LONG_S);
    } else if (strcmp(order->action, "abort") == 0) {
        family(order);
        abort();
    } else if (strcmp(order->action, "exit") == 0) {
        family(order);
        exit((int)order->number);
    }
    return QUERN_OK;
}

/* ["KEY ACTION NUMBER"]: notes "KEY PID ATTEMPT MONOTONIC_US", acts, and gives the key back. */
static enum quern_err witness(struct quern_task *task, struct quern_reader *args, struct quern_writer *result)
{
    struct order order;
    char line[2 * WORD_SIZE_MAX];
    if (!order_read(args, &order)) {
        return quern_task_fail_args(task, args, "witness takes a key, an action and a number");
    }
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    snprintf(line, sizeof(line), "%s %d %u %lld\n", order.key, getpid(), quern_task_attempt(task),
             (long long)now.tv_sec * 1000000 + now.tv_nsec / 1000);
    if (!note("starts", line)) {
        return quern_task_fail(task, "NoWitness", "%s", strerror(errno));
    }
    enum quern_err err = act(task, &order);
    if (err == QUERN_OK) {
        quern_write_text(result, order.key);
    }
    return err;
}

static const struct quern_function functions[] = {{"witness", witness}, {NULL, NULL}};

QUERN_MODULE(.functions = functions)

/*
 * crashes.c: functions that end in each way a program can, from functions that have names, and that say things before.
 * Loaded by story_diagnosis.py.
 */
#include <quern/worker.h>

#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

/* What the compiler cannot see through. */
static void *volatile hidden;
static int *volatile nowhere;
static void (*volatile no_function)(void);
static volatile int zero;
static volatile int sum;

#define NOINLINE __attribute__((noinline))

NOINLINE static void read_nothing(void)
{
    sum += *nowhere;
    sum++;
}

NOINLINE static void give_up(void)
{
    abort();
}

NOINLINE static int divide(int a)
{
    int quotient = a / zero;
    sum++;
    return quotient;
}

/* Every call needs its frame, for what comes after it. */
NOINLINE static int sink(int depth)
{
    volatile char room[256];
    room[depth % 256] = (char)depth;
    int below = depth == zero - 1 ? 0 : sink(depth + 1);
    return below + room[depth % 256];
}

NOINLINE static void free_twice(void)
{
    char *block = malloc(100);
    hidden = block;
    free(block);
    free(hidden);
    sum++;
}

/* The heap's own books are written over; then it is used. */
NOINLINE static void spoil_heap(void)
{
    char *block = malloc(24);
    hidden = block;
    memset(hidden, 0x41, 4096);
    for (size_t i = 0; i < 1000; i++) {
        hidden = malloc(16 + i * 8);
        free(hidden);
    }
    abort();
}

NOINLINE static void call_nothing(void)
{
    no_function();
    sum++;
}

/* The way back is written over: there is no stack to walk. */
NOINLINE static void spoil_stack(void)
{
    volatile uintptr_t *frame = __builtin_frame_address(0); /* volatile: by itself, not by a call of memset */
    for (int i = -2; i < 200; i++) {
        frame[i] = 0x4141414141414141u;
    }
    sum += *nowhere;
}

static void *thread_main(void *none)
{
    (void)none;
    read_nothing();
    return NULL;
}

NOINLINE static void crash_aside(void)
{
    pthread_t thread;
    if (pthread_create(&thread, NULL, thread_main, NULL) == 0) {
        pthread_join(thread, NULL);
    }
}

static const struct {
    const char *how;
    void (*run)(void);
} ways[] = {
    {"null", read_nothing}, {"abort", give_up},      {"free", free_twice},   {"heap", spoil_heap},
    {"call", call_nothing}, {"thread", crash_aside}, {"stack", spoil_stack},
};

static bool is_word(const char *word, size_t size, const char *text)
{
    return size == strlen(text) && memcmp(word, text, size) == 0;
}

/* ["null" | "abort" | ...] */
static enum quern_err crash(struct quern_task *task, struct quern_reader *args, struct quern_writer *result)
{
    const char *how;
    size_t size;
    if (quern_read_str(args, &how, &size) != QUERN_OK) {
        return quern_task_fail_args(task, args, "crash takes a word");
    }
    for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
        if (is_word(how, size, ways[i].how)) {
            ways[i].run();
        }
    }
    if (is_word(how, size, "divide")) {
        quern_write_i64(result, divide(7));
    } else if (is_word(how, size, "overflow")) {
        quern_write_i64(result, sink(0));
    } else if (is_word(how, size, "kill")) {
        raise(SIGKILL);
    } else if (is_word(how, size, "exit")) {
        _exit(7);
    } else if (is_word(how, size, "core")) {
        struct rlimit limit;
        getrlimit(RLIMIT_CORE, &limit);
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_CORE, &limit);
        give_up();
    }
    return quern_task_fail(task, "Alive", "nothing happened");
}

/* [text, "ok" | "fail" | "null" | "wait" | "out"]: writes the text to stderr (out: to stdout); then does that. [text]:
 * fails if it begins with '!'. */
static enum quern_err say(struct quern_task *task, struct quern_reader *args, struct quern_writer *result)
{
    const char *text;
    const char *how;
    size_t size;
    size_t how_size;
    if (quern_read_str(args, &text, &size) != QUERN_OK) {
        return quern_task_fail_args(task, args, "say takes a text and a word");
    }
    if (quern_peek(args) == QUERN_TYPE_NONE || quern_read_str(args, &how, &how_size) != QUERN_OK) {
        how = size > 0 && text[0] == '!' ? "fail" : "ok";
        how_size = strlen(how);
    }
    if (is_word(how, how_size, "out")) {
        printf("%.*s", (int)size, text);
        return quern_task_fail(task, "Said", "as asked");
    }
    fwrite(text, 1, size, stderr);
    if (is_word(how, how_size, "fail")) {
        return quern_task_fail(task, "Said", "as asked");
    }
    if (is_word(how, how_size, "null")) {
        read_nothing();
    }
    if (is_word(how, how_size, "wait")) {
        sleep(1000);
    }
    quern_write_nil(result);
    return QUERN_OK;
}

static enum quern_err fail(struct quern_task *task, struct quern_reader *args, struct quern_writer *result)
{
    (void)args;
    (void)result;
    return quern_task_fail(task, "Failed", "as asked");
}

/* [lines]: more than anybody keeps, fast; then fails. */
static enum quern_err chatter(struct quern_task *task, struct quern_reader *args, struct quern_writer *result)
{
    int64_t count = 0;
    (void)result;
    if (quern_read_i64(args, &count) != QUERN_OK) {
        return quern_task_fail_args(task, args, "chatter takes a count");
    }
    for (int64_t i = 0; i < count; i++) {
        fprintf(stderr, "line %lld of much\n", (long long)i);
    }
    return quern_task_fail(task, "Said", "much");
}

/* Writes over everything that is shared with the supervisor, wherever it is mapped, and dies of it. */
static enum quern_err scribble(struct quern_task *task, struct quern_reader *args, struct quern_writer *result)
{
    (void)task;
    (void)args;
    (void)result;
    FILE *maps = fopen("/proc/self/maps", "r");
    char line[512];
    while (maps != NULL && fgets(line, sizeof(line), maps) != NULL) {
        unsigned long from;
        unsigned long to;
        if (strstr(line, "quern-slot") != NULL && sscanf(line, "%lx-%lx", &from, &to) == 2) {
            memset((void *)from, 0xff, to - from);
        }
    }
    if (maps != NULL) {
        fclose(maps);
    }
    read_nothing();
    return QUERN_OK;
}

static const struct quern_function functions[] = {{"crash", crash},     {"say", say},           {"fail", fail},
                                                  {"chatter", chatter}, {"scribble", scribble}, {NULL, NULL}};

QUERN_MODULE(.functions = functions)

/*
 * What the programs that measure other queues share: processes, clocks, the line of JSON. A peer's program starts two
 * workers of its own, then is the client: first one task at a time, then all with a window; squares, each one checked.
 */
#ifndef QUERN_BENCH_PEER_H
#define QUERN_BENCH_PEER_H

#include <inttypes.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#define WORKER_COUNT 2
#ifndef WINDOW_TASKS_MAX
#define WINDOW_TASKS_MAX 10000
#endif
#define WARM_UP_COUNT 200
#define TASKS_MAX 10000000

static const char *peer_name;

static inline void must(bool fact, const char *what)
{
    if (!fact) {
        fprintf(stderr, "%s: %s\n", peer_name, what);
        _exit(1);
    }
}

static inline int64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static inline int64_t number_of(const char *text)
{
    char *end;
    long long number = strtoll(text, &end, 10);
    must(*end == '\0' && number >= 0 && number <= TASKS_MAX, "a number");
    return number;
}

/* Workers die with the client. */
static inline void workers_start(void (*worker)(void *context), void *context)
{
    for (int i = 0; i < WORKER_COUNT; i++) {
        pid_t pid = fork();
        must(pid >= 0, "fork");
        if (pid == 0) {
            must(prctl(PR_SET_PDEATHSIG, SIGKILL) == 0, "prctl");
            worker(context);
            _exit(1);
        }
    }
}

static int time_compare(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a;
    int64_t y = *(const int64_t *)b;
    return x < y ? -1 : x > y;
}

/* The time that so many percent of all do not exceed, in us. */
static inline double percentile_us(const int64_t *sorted_ns, int64_t count, int64_t percent)
{
    int64_t rank = (count * percent + 99) / 100;
    return (double)sorted_ns[rank > 0 ? rank - 1 : 0] / 1000;
}

/* one(context, x): submits x and waits for its square. all(context, count): squares of 1..count. Prints the figures. */
static inline void peer_measure(int64_t tasks, int64_t alone, void (*one)(void *context, uint64_t x),
                                void (*all)(void *context, int64_t count), void *context)
{
    int64_t *times_ns = calloc((size_t)alone + 1, sizeof *times_ns);
    must(times_ns != NULL, "memory");
    for (int64_t i = 0; i < WARM_UP_COUNT && i < alone; i++) {
        one(context, (uint64_t)i + 1);
    }
    for (int64_t i = 0; i < alone; i++) {
        int64_t begun_ns = now_ns();
        one(context, (uint64_t)i + 1);
        times_ns[i] = now_ns() - begun_ns;
    }
    qsort(times_ns, (size_t)alone, sizeof *times_ns, time_compare);
    int64_t begun_ns = now_ns();
    all(context, tasks);
    double seconds = (double)(now_ns() - begun_ns) / 1e9;
    printf("{\"tasks_per_second\":%.1f,\"p50_us\":%.1f,\"p99_us\":%.1f}\n", (double)tasks / seconds,
           percentile_us(times_ns, alone, 50), percentile_us(times_ns, alone, 99));
    free(times_ns);
}

#endif

/* Functions that wait, fail, crash and exit: to see what becomes of such tasks. */
#include "examples.h"

#include <signal.h>
#include <stdlib.h>
#include <time.h>

#define SLEEP_MAX 31536000.0
#define SLEEP_SLICE 0.25

static double now_seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* In slices, so that it can tell how far it is. */
static void sleep_until(struct quern_task *task, double from, double seconds)
{
    for (double slept = now_seconds() - from; slept < seconds; slept = now_seconds() - from) {
        double slice = seconds - slept < SLEEP_SLICE ? seconds - slept : SLEEP_SLICE;
        struct timespec left = {.tv_nsec = (long)(slice * 1e9)};
        quern_task_progress(task, slept / seconds, NULL);
        (void)nanosleep(&left, NULL);
    }
}

enum quern_err run_sleep(struct quern_task *task, struct quern_reader *args, struct quern_writer *result)
{
    double seconds;
    if (quern_read_f64(args, &seconds) != QUERN_OK || !args_are_done(args) || !(seconds >= 0) || seconds > SLEEP_MAX) {
        return quern_task_fail_args(task, args, "sleep takes seconds, from 0 to a year");
    }
    sleep_until(task, now_seconds(), seconds);
    quern_write_f64(result, seconds);
    return QUERN_OK;
}

/* Gives back its argument; several, or none, as a list. */
enum quern_err run_echo(struct quern_task *task, struct quern_reader *args, struct quern_writer *result)
{
    struct quern_reader ahead = *args;
    size_t count = 0;
    while (quern_peek(&ahead) != QUERN_TYPE_NONE && quern_read_any(&ahead, NULL, NULL) == QUERN_OK) {
        count++;
    }
    if (count != 1) {
        quern_write_array(result, count);
    }
    for (size_t i = 0; i < count; i++) {
        const void *p;
        size_t n;
        if (quern_read_any(args, &p, &n) != QUERN_OK) {
            return quern_task_fail_args(task, args, "echo takes anything");
        }
        quern_write_raw(result, p, n);
    }
    return QUERN_OK;
}

enum quern_err run_crash(struct quern_task *task, struct quern_reader *args, struct quern_writer *result)
{
    (void)task;
    (void)args;
    (void)result;
    raise(SIGSEGV);
    return QUERN_OK;
}

enum quern_err run_exit(struct quern_task *task, struct quern_reader *args, struct quern_writer *result)
{
    int64_t status = 0;
    (void)result;
    if ((quern_peek(args) != QUERN_TYPE_NONE && quern_read_i64(args, &status) != QUERN_OK) || !args_are_done(args) ||
        status < 0 || status > 255) {
        return quern_task_fail_args(task, args, "exit takes a status from 0 to 255");
    }
    exit((int)status);
}

enum quern_err run_fail(struct quern_task *task, struct quern_reader *args, struct quern_writer *result)
{
    const char *kind = "Failed";
    size_t kind_size = 6;
    const char *message = "as asked";
    size_t message_size = 8;
    (void)result;
    if ((quern_peek(args) != QUERN_TYPE_NONE && quern_read_str(args, &kind, &kind_size) != QUERN_OK) ||
        (quern_peek(args) != QUERN_TYPE_NONE && quern_read_str(args, &message, &message_size) != QUERN_OK) ||
        !args_are_done(args)) {
        return quern_task_fail_args(task, args, "fail takes a kind and a message");
    }
    char kind_text[129];
    size_t n = kind_size < sizeof(kind_text) - 1 ? kind_size : sizeof(kind_text) - 1;
    for (size_t i = 0; i < n; i++) {
        kind_text[i] = kind[i];
    }
    kind_text[n] = '\0';
    return quern_task_fail(task, kind_text, "%.*s", (int)(message_size < 4096 ? message_size : 4096), message);
}

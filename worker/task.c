/*
 * task.c owns what a handler can say and ask while it runs.
 * It must not know how tasks come into the slot or results leave it.
 * Start reading at quern_task_fail.
 */
#include "worker/task.h"

#include "common/clock.h"
#include "common/limits.h"
#include "common/place.h"
#include "worker/statuspage.h"

#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Memory that a huge failure text left behind is given up. */
#define TASK_TEXT_CAP_MAX (16u * 1024u)

static void text_reset(struct buf *buf)
{
    if (buf->cap > TASK_TEXT_CAP_MAX) {
        buf_fini(buf);
    }
    buf->n = 0;
}

/* ---- SIGTERM ---- */

/* A handler may ask from any of its threads, and the signal comes to any. */
static volatile sig_atomic_t asks_itself;
static volatile pid_t slot_pid;

static void on_term(int number)
{
    /* What a handler has forked does not know that it was this call that made it deaf. */
    if (!asks_itself || getpid() != slot_pid) {
        signal(number, SIG_DFL);
        (void)raise(number); /* comes once this handler returns */
    }
}

void task_take_term(void)
{
    struct sigaction action = {.sa_handler = on_term}; /* no SA_RESTART: who sleeps wakes up */
    slot_pid = getpid();
    sigemptyset(&action.sa_mask);
    (void)sigaction(SIGTERM, &action, NULL);
}

bool quern_task_is_cancelled(const struct quern_task *task)
{
    asks_itself = 1;
    return task->page != NULL && statuspage_is_stopping(task->page, task->number);
}

/* ---- beginning and end ---- */

void task_begin(struct quern_task *task)
{
    asks_itself = 0;
    text_reset(&task->kind);
    text_reset(&task->message);
    text_reset(&task->detail);
    /* So that a handler that has used up memory can say so. */
    buf_reserve(&task->kind, ERROR_KIND_SIZE_MAX);
    buf_reserve(&task->message, ERROR_MESSAGE_SIZE_MAX);
    task->cause = CAUSE_ERROR;
    task->keeps_result = false;
    task->peak_kib = 0;
    task->exit_status = 0;
    task->signal = 0;
}

void task_fini(struct quern_task *task)
{
    buf_fini(&task->kind);
    buf_fini(&task->message);
    buf_fini(&task->detail);
}

/* At most max bytes of text, without half a character at the end. */
static size_t text_fit(const char *text, size_t max)
{
    size_t n = strnlen(text, max + 1);
    if (n <= max) {
        return n;
    }
    n = max;
    while (n > 0 && ((unsigned char)text[n] & 0xc0) == 0x80) {
        n--;
    }
    return n > 0 ? n : max;
}

static void fail_with(struct quern_task *task, const char *kind, const char *format, va_list list)
{
    char message[ERROR_MESSAGE_SIZE_MAX + 2]; /* one more tells that it was cut */
    int size = vsnprintf(message, sizeof(message), format, list);
    task->kind.n = 0;
    task->message.n = 0;
    buf_put(&task->kind, kind, kind == NULL ? 0 : text_fit(kind, ERROR_KIND_SIZE_MAX));
    buf_put(&task->message, message, size < 0 ? 0 : text_fit(message, ERROR_MESSAGE_SIZE_MAX));
}

enum quern_err quern_task_fail(struct quern_task *task, const char *kind, const char *format, ...)
{
    va_list list;
    va_start(list, format);
    fail_with(task, kind, format, list);
    va_end(list);
    return QUERN_TASK_FAILED;
}

enum quern_err quern_task_fail_args(struct quern_task *task, const struct quern_reader *args, const char *usage)
{
    enum quern_err err = quern_reader_error(args);
    if (err == QUERN_OK) {
        return quern_task_fail(task, "BadArguments", "%s", usage);
    }
    return quern_task_fail(task, "BadArguments", "%s (%s)", usage, quern_err_text(err));
}

void quern_task_detail(struct quern_task *task, const void *p, size_t n)
{
    size_t room = ERROR_DETAIL_SIZE_MAX - task->detail.n;
    size_t kept = n < room ? n : room;
    if (buf_try_reserve(&task->detail, kept)) {
        buf_put(&task->detail, p, kept);
    }
}

void quern_task_progress(struct quern_task *task, double fraction, const char *text)
{
    if (task->page != NULL) {
        progress_write(task->page, task->number, fraction, text);
    }
}

enum quern_err quern_task_wait_begin(struct quern_task *task)
{
    (void)task;
    return quern_place_give(INT64_MAX) ? QUERN_OK : QUERN_FULL;
}

void quern_task_wait_end(struct quern_task *task)
{
    (void)task;
    quern_place_take();
}

int64_t quern_task_remaining_ms(const struct quern_task *task)
{
    if (task->deadline_us == INT64_MAX) {
        return -1;
    }
    int64_t left_us = task->deadline_us - clock_mono_us();
    return left_us > 0 ? (left_us + 999) / 1000 : 0;
}

uint64_t quern_task_id(const struct quern_task *task)
{
    return task->id;
}

unsigned quern_task_attempt(const struct quern_task *task)
{
    return task->attempt;
}

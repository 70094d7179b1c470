/*
 * pool_program.c: a program with an embedded pool that does what it reads from stdin, line by line, and answers each
 * with one line: story_pool.py is its user. Its first argument says what main does first: own     quern_pool_main with
 * functions of its own        none    quern_pool_main without functions forgot  nothing at all
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <quern/pool.h>

#define FUTURES_MAX 20000u
#define THREADS_MAX 8u
#define RESULT_MS 60000

/* ---- functions ---- */

static enum quern_err square(struct quern_task *task, struct quern_reader *args, struct quern_writer *result)
{
    int64_t x = 0;
    if (quern_read_i64(args, &x) != QUERN_OK) {
        return quern_task_fail_args(task, args, "square takes one integer");
    }
    quern_write_i64(result, x * x);
    return QUERN_OK;
}

/* Takes its time, in milliseconds. */
static enum quern_err take(struct quern_task *task, struct quern_reader *args, struct quern_writer *result)
{
    int64_t ms = 0;
    if (quern_read_i64(args, &ms) != QUERN_OK) {
        return quern_task_fail_args(task, args, "take takes one integer");
    }
    (void)poll(NULL, 0, (int)ms);
    quern_write_i64(result, ms);
    return QUERN_OK;
}

static enum quern_err own_pid(struct quern_task *task, struct quern_reader *args, struct quern_writer *result)
{
    (void)task;
    (void)args;
    quern_write_i64(result, getpid());
    return QUERN_OK;
}

/* Keeps x bytes of memory for good; its process id. */
static enum quern_err grow(struct quern_task *task, struct quern_reader *args, struct quern_writer *result)
{
    static void *volatile kept; /* so that no compiler leaves it out */
    int64_t x = 0;
    if (quern_read_i64(args, &x) != QUERN_OK || (kept = malloc((size_t)x)) == NULL) {
        return quern_task_fail_args(task, args, "grow takes one integer");
    }
    memset(kept, 1, (size_t)x);
    quern_write_i64(result, getpid());
    return QUERN_OK;
}

/* The same, and does not end. */
static enum quern_err keep(struct quern_task *task, struct quern_reader *args, struct quern_writer *result)
{
    enum quern_err err = grow(task, args, result);
    while (err == QUERN_OK) {
        (void)pause();
    }
    return err;
}

/* Says that it is a quarter done, and again, for that many milliseconds. */
static enum quern_err quarter(struct quern_task *task, struct quern_reader *args, struct quern_writer *result)
{
    int64_t ms = 0;
    enum quern_err err = quern_read_i64(args, &ms);
    for (; err == QUERN_OK && ms > 0; ms -= 5) {
        quern_task_progress(task, 0.25, "a quarter");
        (void)poll(NULL, 0, 5);
    }
    quern_write_i64(result, ms);
    return err;
}

/* Starts a process that is hard to find, double-forked, in a session of its own, deaf to SIGTERM; says which it is, and
 * goes on for that many milliseconds. */
static enum quern_err detach(struct quern_task *task, struct quern_reader *args, struct quern_writer *result)
{
    int64_t ms = 0;
    int ends[2];
    pid_t pid = 0;
    char text[32];
    if (quern_read_i64(args, &ms) != QUERN_OK || pipe(ends) != 0) {
        return quern_task_fail_args(task, args, "detach takes one integer");
    }
    pid_t child = fork();
    if (child == 0) {
        (void)setsid();
        (void)signal(SIGTERM, SIG_IGN);
        pid = fork();
        if (pid == 0) {
            for (;;) {
                (void)pause();
            }
        }
        _exit(write(ends[1], &pid, sizeof(pid)) == (ssize_t)sizeof(pid) ? 0 : 1);
    }
    (void)waitpid(child, NULL, 0);
    if (read(ends[0], &pid, sizeof(pid)) != (ssize_t)sizeof(pid)) {
        return quern_task_fail(task, "Detach", "no process");
    }
    (void)snprintf(text, sizeof(text), "%d", (int)pid);
    quern_task_progress(task, 0.5, text);
    (void)poll(NULL, 0, (int)ms);
    quern_write_i64(result, pid);
    return QUERN_OK;
}

/* What an attempt of a handler sees of the program's surroundings: 1 if the variable is there, and stdin is empty. */
static enum quern_err surroundings(struct quern_task *task, struct quern_reader *args, struct quern_writer *result)
{
    char byte;
    (void)args;
    (void)printf("printed by a handler\n");
    (void)fflush(stdout);
    if (getenv("STORY_VARIABLE") == NULL || read(STDIN_FILENO, &byte, 1) != 0) {
        return quern_task_fail(task, "Surroundings", "no variable, or something to read");
    }
    quern_write_i64(result, 1);
    return QUERN_OK;
}

/* The sum of squares up to x, each of them a task of its own: a handler that is a client of its own pool. */
static enum quern_err nested(struct quern_task *task, struct quern_reader *args, struct quern_writer *result)
{
    struct quern_client *client = NULL;
    int64_t x = 0;
    int64_t sum = 0;
    enum quern_err err = quern_read_i64(args, &x);
    err = err != QUERN_OK ? err : quern_client_open(NULL, &client);
    for (int64_t i = 1; err == QUERN_OK && i <= x; i++) {
        const unsigned char one[] = {0x91, (unsigned char)i};
        struct quern_call call = QUERN_CALL_INIT;
        struct quern_future *future = NULL;
        struct quern_outcome *outcome = NULL;
        struct quern_reader reader;
        int64_t value = 0;
        call.function = "square";
        call.args = one;
        call.args_size = sizeof(one);
        err = quern_submit(client, &call, &future, NULL);
        err = err != QUERN_OK ? err : quern_future_result(future, RESULT_MS, &outcome);
        if (err == QUERN_OK) {
            quern_reader_init(&reader, outcome->result, outcome->result_size);
            err = quern_read_i64(&reader, &value);
        }
        sum += value;
        quern_outcome_release(&outcome);
        quern_future_release(&future);
    }
    (void)quern_client_close(&client, 0);
    quern_write_i64(result, sum);
    return err == QUERN_OK ? err : quern_task_fail(task, "Nested", "%s", quern_last_error());
}

static const struct quern_function functions[] = {
    {"square", square},   {"take", take},     {"nested", nested},
    {"pid", own_pid},     {"grow", grow},     {"keep", keep},
    {"quarter", quarter}, {"detach", detach}, {"surroundings", surroundings},
    {NULL, NULL}};

static enum quern_err initialise(const char **text_out)
{
    *text_out = "the story wants it to fail";
    return getenv("STORY_INITIALISER_FAILS") == NULL ? QUERN_OK : QUERN_INVALID;
}

static const struct quern_module module = {.size = sizeof(module), .functions = functions, .initialise = initialise};

/* ---- the program ---- */

static struct quern_pool *pool;
static struct quern_future *futures[FUTURES_MAX];
static size_t future_count;

static void answer(enum quern_err err)
{
    if (err == QUERN_OK) {
        (void)printf("ok\n");
    } else {
        (void)printf("error %s: %s\n", quern_err_word(err), quern_last_error());
    }
}

/* NAME=VALUE of the line, NULL if it is not there. */
static const char *value_of(char *const words[], size_t count, const char *name)
{
    size_t n = strlen(name);
    for (size_t i = 1; i < count; i++) {
        if (strncmp(words[i], name, n) == 0 && words[i][n] == '=') {
            return words[i] + n + 1;
        }
    }
    return NULL;
}

static unsigned number_of(char *const words[], size_t count, const char *name)
{
    const char *value = value_of(words, count, name);
    return value == NULL ? 0 : (unsigned)strtoul(value, NULL, 10);
}

static void open_pool(char *const words[], size_t count)
{
    struct quern_pool_options options = QUERN_POOL_OPTIONS_INIT;
    const char *modules[2] = {value_of(words, count, "module"), NULL};
    const char *worker_args[2] = {value_of(words, count, "worker_arg"), NULL};
    const char *broker_args[2] = {value_of(words, count, "broker_arg"), NULL};
    options.url = value_of(words, count, "url");
    options.slots = number_of(words, count, "slots");
    options.database = value_of(words, count, "database");
    options.session = value_of(words, count, "session");
    options.modules = modules;
    options.worker_args = worker_args;
    options.broker_args = broker_args;
    options.start = (enum quern_start)number_of(words, count, "start");
    options.max_tasks_per_slot = number_of(words, count, "max_tasks");
    options.memory_per_slot = number_of(words, count, "memory");
    options.slot_memory_limit = number_of(words, count, "limit");
    if (value_of(words, count, "timeout") != NULL) {
        options.start_timeout_ms = (int)number_of(words, count, "timeout");
    }
    answer(quern_pool_open(&options, &pool));
}

static enum quern_err submit(const char *function, int64_t x)
{
    struct quern_call call = QUERN_CALL_INIT;
    struct quern_writer *args = quern_writer_new();
    const void *p = NULL;
    quern_write_array(args, 1);
    quern_write_i64(args, x);
    quern_writer_bytes(args, &p, &call.args_size);
    call.args = p;
    call.function = function;
    enum quern_err err = future_count == FUTURES_MAX
                             ? QUERN_FULL
                             : quern_submit(quern_pool_client(pool), &call, &futures[future_count], NULL);
    future_count += err == QUERN_OK;
    quern_writer_free(args);
    return err;
}

/* submit FUNCTION X [TIMES] */
static void submit_some(char *const words[], size_t count)
{
    enum quern_err err = QUERN_OK;
    unsigned long times = count > 3 ? strtoul(words[3], NULL, 10) : 1;
    for (unsigned long i = 0; err == QUERN_OK && i < times; i++) {
        err = submit(words[1], strtoll(words[2], NULL, 10));
    }
    answer(err);
}

static void say_outcome(const struct quern_outcome *outcome)
{
    struct quern_reader reader;
    int64_t value = 0;
    quern_reader_init(&reader, outcome->result, outcome->result_size);
    if (outcome->state == QUERN_STATE_DONE && quern_read_i64(&reader, &value) == QUERN_OK) {
        (void)printf("done %lld\n", (long long)value);
    } else {
        (void)printf("%s %s %s: %s\n", quern_state_word(outcome->state), quern_cause_word(outcome->cause),
                     outcome->kind, outcome->message);
    }
}

static void wait_for(const char *index)
{
    struct quern_outcome *outcome = NULL;
    size_t i = strtoul(index, NULL, 10);
    enum quern_err err = i >= future_count ? QUERN_UNKNOWN : quern_future_wait(futures[i], RESULT_MS, &outcome);
    if (err == QUERN_OK) {
        say_outcome(outcome);
        quern_outcome_release(&outcome);
    } else {
        answer(err);
    }
}

static void info(const char *index)
{
    struct quern_task_info info = QUERN_TASK_INFO_INIT;
    size_t i = strtoul(index, NULL, 10);
    enum quern_err err = i >= future_count ? QUERN_UNKNOWN : quern_future_info(futures[i], RESULT_MS, &info);
    if (err == QUERN_OK) {
        bool is_in_order = info.created_ms > 0 && info.started_ms >= info.created_ms &&
                           (info.finished_ms == 0 || info.finished_ms >= info.started_ms);
        (void)printf("%s attempt=%u failed=%u %.2f \"%s\" %s %s\n", quern_state_word((enum quern_state)info.state),
                     info.attempt, info.attempts, info.fraction, info.progress, is_in_order ? "in order" : "?",
                     info.worker);
    } else {
        answer(err);
    }
}

static void cancel(const char *index, bool force)
{
    size_t i = strtoul(index, NULL, 10);
    answer(i >= future_count ? QUERN_UNKNOWN : quern_future_cancel(futures[i], force, RESULT_MS));
}

static void next(void)
{
    struct quern_outcome *outcome = NULL;
    enum quern_err err = quern_next(quern_pool_client(pool), RESULT_MS, &outcome);
    if (err == QUERN_OK) {
        say_outcome(outcome);
        quern_outcome_release(&outcome);
    } else {
        answer(err);
    }
}

/* How many are done, cancelled, or else. */
static void tally(void)
{
    unsigned done = 0;
    unsigned cancelled = 0;
    for (size_t i = 0; i < future_count; i++) {
        cancelled += quern_future_cancelled(futures[i]);
        done += quern_future_done(futures[i]) && !quern_future_cancelled(futures[i]);
    }
    (void)printf("done=%u cancelled=%u open=%zu\n", done, cancelled, future_count - done - cancelled);
}

static void release_all(void)
{
    while (future_count > 0) {
        quern_future_release(&futures[--future_count]);
    }
    answer(QUERN_OK);
}

/* ---- forks and threads ---- */

static void fork_and_stay(void)
{
    pid_t pid = fork();
    if (pid == 0) {
        for (;;) {
            (void)pause();
        }
    }
    (void)printf("ok %d\n", (int)pid);
}

/* Every call of the pool in a forked child; the child says what they answered. */
static void fork_and_use(void)
{
    pid_t pid = fork();
    if (pid == 0) {
        enum quern_err submitted = submit("square", 3);
        enum quern_err shut = quern_pool_shutdown(pool, 0);
        enum quern_err closed = quern_pool_close(&pool, 0);
        (void)printf("%s %s %s %s\n", quern_err_word(submitted), quern_err_word(shut), quern_err_word(closed),
                     pool == NULL ? "null" : "left");
        (void)fflush(stdout);
        _exit(0);
    }
    (void)waitpid(pid, NULL, 0);
}

static void *shut_down_thread(void *context)
{
    enum quern_err *err = context;
    *err = quern_pool_shutdown(pool, 0);
    return NULL;
}

static void shut_down_together(void)
{
    pthread_t threads[THREADS_MAX];
    enum quern_err errs[THREADS_MAX];
    enum quern_err err = QUERN_OK;
    for (size_t i = 0; i < THREADS_MAX; i++) {
        (void)pthread_create(&threads[i], NULL, shut_down_thread, &errs[i]);
    }
    for (size_t i = 0; i < THREADS_MAX; i++) {
        (void)pthread_join(threads[i], NULL);
        err = err != QUERN_OK ? err : errs[i];
    }
    answer(err);
}

/* ---- lines ---- */

static void obey_about_pool(char *const words[], size_t count)
{
    unsigned flags = count > 1 ? (unsigned)strtoul(words[1], NULL, 10) : 0;
    if (strcmp(words[0], "open") == 0) {
        open_pool(words, count);
    } else if (strcmp(words[0], "submit") == 0) {
        submit_some(words, count);
    } else if (strcmp(words[0], "wait") == 0) {
        wait_for(words[1]);
    } else if (strcmp(words[0], "info") == 0) {
        info(words[1]);
    } else if (strcmp(words[0], "cancel") == 0) {
        cancel(words[1], count > 2 && strcmp(words[2], "force") == 0);
    } else if (strcmp(words[0], "next") == 0) {
        next();
    } else if (strcmp(words[0], "tally") == 0) {
        tally();
    } else if (strcmp(words[0], "release") == 0) {
        release_all();
    } else if (strcmp(words[0], "flush") == 0) {
        answer(quern_flush(quern_pool_client(pool), RESULT_MS));
    } else if (strcmp(words[0], "shutdown") == 0) {
        answer(quern_pool_shutdown(pool, flags));
    } else if (strcmp(words[0], "close") == 0) {
        answer(quern_pool_close(&pool, flags));
    } else {
        (void)printf("what is %s?\n", words[0]);
    }
}

/* False: the end of main. */
static bool obey(char *const words[], size_t count)
{
    if (strcmp(words[0], "return") == 0) {
        return false;
    } else if (strcmp(words[0], "exit") == 0) {
        exit(3);
    } else if (strcmp(words[0], "abort") == 0) {
        abort();
    } else if (strcmp(words[0], "exec") == 0) {
        (void)execlp("sleep", "sleep", "1000", (char *)NULL);
    } else if (strcmp(words[0], "chdir") == 0) {
        answer(chdir(words[1]) == 0 ? QUERN_OK : QUERN_IO);
    } else if (strcmp(words[0], "fork_and_stay") == 0) {
        fork_and_stay();
    } else if (strcmp(words[0], "fork_and_use") == 0) {
        fork_and_use();
    } else if (strcmp(words[0], "ignore_children") == 0) {
        answer(signal(SIGCHLD, SIG_IGN) != SIG_ERR ? QUERN_OK : QUERN_IO);
    } else if (strcmp(words[0], "close_stderr") == 0) {
        answer(close(STDERR_FILENO) == 0 ? QUERN_OK : QUERN_IO);
    } else if (strcmp(words[0], "together") == 0) {
        shut_down_together();
    } else {
        obey_about_pool(words, count);
    }
    return true;
}

int main(int argc, char **argv)
{
    char line[4096];
    if (argc < 2 || strcmp(argv[1], "forgot") != 0) {
        quern_pool_main(argc, argv, argc > 1 && strcmp(argv[1], "none") == 0 ? NULL : &module);
    }
    bool is_going_on = true;
    while (is_going_on && fgets(line, sizeof(line), stdin) != NULL) {
        char *words[16];
        size_t count = 0;
        char *rest = NULL;
        for (char *word = strtok_r(line, " \n", &rest); word != NULL && count < 16;
             word = strtok_r(NULL, " \n", &rest)) {
            words[count++] = word;
        }
        is_going_on = count == 0 || obey(words, count);
        (void)fflush(stdout);
    }
    return 0;
}

/*
 * hogs.c: functions that take memory, by themselves or by what they start, and that say what runs beside them.
 * Loaded by story_memory.py. HOGS_PRELOAD in the worker's environment: so many MiB are taken before slots are forked.
 */
#include <quern/worker.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MIB ((size_t)1 << 20)
/* What no test asks for: a mistake must not eat the machine. */
#define HOG_MIB_MAX 400
#define RUNAWAY_S_MAX 20
#define HEAD_COUNT_MAX 20
#define HEAD_TRIES 200
#define HEAD_NEXT_COUNT 2
#define HEAD_LIFE_US 2000
#define HYDRA_BIRTH_COUNT_MAX 20000

static unsigned char *preloaded;
static size_t preloaded_size;

/* Touched, a MiB at a time. */
static unsigned char *take(int64_t mib)
{
    unsigned char *p = mmap(NULL, (size_t)mib * MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (int64_t i = 0; p != MAP_FAILED && i < mib; i++) {
        memset(p + (size_t)i * MIB, 1, MIB);
    }
    return p == MAP_FAILED ? NULL : p;
}

static void hold(int64_t ms)
{
    usleep((useconds_t)(ms * 1000));
}

static bool read_hog(struct quern_reader *args, int64_t *mib_out, int64_t *ms_out)
{
    return quern_read_i64(args, mib_out) == QUERN_OK && quern_read_i64(args, ms_out) == QUERN_OK && *mib_out > 0 &&
           *mib_out <= HOG_MIB_MAX;
}

/* hog(MIB, MS): takes so much, and holds it for so long. */
static enum quern_err hog(struct quern_task *task, struct quern_reader *args, struct quern_writer *result)
{
    int64_t mib;
    int64_t ms;
    if (!read_hog(args, &mib, &ms)) {
        return quern_task_fail_args(task, args, "hog takes MiB and ms");
    }
    unsigned char *p = take(mib);
    if (p == NULL) {
        return quern_task_fail(task, "NoMemory", "there is none");
    }
    hold(ms);
    munmap(p, (size_t)mib * MIB);
    quern_write_i64(result, mib);
    return QUERN_OK;
}

/* hog_shared(MIB, MS): takes memory that it could share with others, which /proc does not count as its own. */
static enum quern_err hog_shared(struct quern_task *task, struct quern_reader *args, struct quern_writer *result)
{
    int64_t mib;
    int64_t ms;
    if (!read_hog(args, &mib, &ms)) {
        return quern_task_fail_args(task, args, "hog_shared takes MiB and ms");
    }
    size_t size = (size_t)mib * MIB;
    unsigned char *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) {
        return quern_task_fail(task, "NoMemory", "there is none");
    }
    memset(p, 1, size);
    hold(ms);
    munmap(p, size);
    quern_write_i64(result, mib);
    return QUERN_OK;
}

/* leak(MIB, MS): the same, and never gives it back. */
static enum quern_err leak(struct quern_task *task, struct quern_reader *args, struct quern_writer *result)
{
    int64_t mib;
    int64_t ms;
    if (!read_hog(args, &mib, &ms)) {
        return quern_task_fail_args(task, args, "leak takes MiB and ms");
    }
    if (take(mib) == NULL) {
        return quern_task_fail(task, "NoMemory", "there is none");
    }
    hold(ms);
    quern_write_i64(result, mib);
    return QUERN_OK;
}

/* family_hog(MIB, MS): a grandchild, in a session of its own, takes it; its pid is in the file that HOGS_PID names. */
static enum quern_err family_hog(struct quern_task *task, struct quern_reader *args, struct quern_writer *result)
{
    int64_t mib;
    int64_t ms;
    if (!read_hog(args, &mib, &ms)) {
        return quern_task_fail_args(task, args, "family_hog takes MiB and ms");
    }
    pid_t child = fork();
    if (child == 0) {
        setsid();
        if (fork() == 0) {
            const char *path = getenv("HOGS_PID");
            FILE *file = path == NULL ? NULL : fopen(path, "w");
            if (file != NULL) {
                fprintf(file, "%d\n", getpid());
                fclose(file);
            }
            (void)take(mib);
            hold(ms);
        }
        _exit(0);
    }
    waitpid(child, NULL, 0);
    hold(ms);
    quern_write_i64(result, mib);
    return QUERN_OK;
}

/* A process that gives way to its child at once, each in a session of its own, a byte in the file for each. */
static void run_away(const char *name)
{
    time_t until = time(NULL) + RUNAWAY_S_MAX;
    int fd = open(name, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    while (fd >= 0 && time(NULL) < until) {
        setsid();
        if (write(fd, ".", 1) != 1 || fork() != 0) {
            break;
        }
    }
    _exit(0);
}

/* runaway(FILE, MS): starts such a one, which never stands still to be found. */
static enum quern_err runaway(struct quern_task *task, struct quern_reader *args, struct quern_writer *result)
{
    const char *path;
    size_t size;
    int64_t ms;
    char name[512];
    if (quern_read_str(args, &path, &size) != QUERN_OK || quern_read_i64(args, &ms) != QUERN_OK ||
        size >= sizeof name) {
        return quern_task_fail_args(task, args, "runaway takes a file and ms");
    }
    snprintf(name, sizeof name, "%.*s", (int)size, path);
    if (fork() == 0) {
        run_away(name);
    }
    hold(ms);
    quern_write_nil(result);
    return QUERN_OK;
}

/* One head of a hydra: it holds a lock, which goes with it however it ends. */
static bool head_lock(int fd, int64_t head, bool is_asking)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = head, .l_len = 1};
    return fcntl(fd, is_asking ? F_GETLK : F_SETLK, &lock) == 0 && (!is_asking || lock.l_type == F_UNLCK);
}

/* The lock of a head that is missing, or that gives way to us. */
static bool head_take(int fd, int64_t head)
{
    for (int i = 0; i < HEAD_TRIES; i++) {
        if (head_lock(fd, head, false)) {
            return true;
        }
    }
    return false;
}

/* A byte in the file for each, so that there is an end of it. True: it is the child. */
static bool head_bear(int fd)
{
    struct stat births;
    bool may_bear = fstat(fd, &births) == 0 && births.st_size < HYDRA_BIRTH_COUNT_MAX && write(fd, ".", 1) == 1;
    return may_bear && fork() == 0;
}

/* It grows another wherever one of its next is missing, and gives way to its child again and again, each in a session
 * of its own. On a busy machine many seem to be missing: who looked at all of them would grow thousands. */
static void hydra_live(int fd, int64_t heads, int64_t head)
{
    for (;;) {
        setsid();
        if (!head_take(fd, head)) {
            _exit(0);
        }
        usleep(HEAD_LIFE_US);
        bool is_new = false;
        for (int64_t i = 1; i <= HEAD_NEXT_COUNT && !is_new; i++) {
            int64_t other = (head + i) % heads;
            is_new = head_lock(fd, other, true) && head_bear(fd);
            head = is_new ? other : head;
        }
        if (!is_new && !head_bear(fd)) {
            _exit(0);
        }
    }
}

/* hydra(FILE, MS, HEADS): keeps so many alive, HYDRA_BIRTH_COUNT_MAX in all. */
static enum quern_err hydra(struct quern_task *task, struct quern_reader *args, struct quern_writer *result)
{
    const char *path;
    size_t size;
    int64_t ms;
    int64_t heads;
    char name[512];
    if (quern_read_str(args, &path, &size) != QUERN_OK || quern_read_i64(args, &ms) != QUERN_OK ||
        quern_read_i64(args, &heads) != QUERN_OK || size >= sizeof name || heads < 1 || heads > HEAD_COUNT_MAX) {
        return quern_task_fail_args(task, args, "hydra takes a file, ms and heads");
    }
    snprintf(name, sizeof name, "%.*s", (int)size, path);
    int fd = open(name, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (fd >= 0 && fork() == 0) {
        hydra_live(fd, heads, 0);
    }
    hold(ms);
    quern_write_nil(result);
    return QUERN_OK;
}

/* reads(MS): every byte that was preloaded, in a child too; takes nothing. */
static enum quern_err reads(struct quern_task *task, struct quern_reader *args, struct quern_writer *result)
{
    int64_t ms;
    int64_t sum = 0;
    if (quern_read_i64(args, &ms) != QUERN_OK) {
        return quern_task_fail_args(task, args, "reads takes ms");
    }
    pid_t child = fork();
    for (size_t i = 0; i < preloaded_size; i += 4096) {
        sum += preloaded[i];
    }
    hold(ms);
    if (child == 0) {
        _exit(0);
    }
    waitpid(child, NULL, 0);
    quern_write_i64(result, sum);
    return QUERN_OK;
}

/* beside(FILE, MS): notes in FILE when it begins and when it ends. */
static enum quern_err beside(struct quern_task *task, struct quern_reader *args, struct quern_writer *result)
{
    const char *path;
    size_t size;
    int64_t ms;
    char name[512];
    if (quern_read_str(args, &path, &size) != QUERN_OK || quern_read_i64(args, &ms) != QUERN_OK ||
        size >= sizeof name) {
        return quern_task_fail_args(task, args, "beside takes a file and ms");
    }
    snprintf(name, sizeof name, "%.*s", (int)size, path);
    for (int i = 0; i < 2; i++) {
        FILE *file = fopen(name, "a");
        if (file != NULL) {
            fprintf(file, "%s %llu\n", i == 0 ? "begin" : "end", (unsigned long long)quern_task_id(task));
            fclose(file);
        }
        if (i == 0) {
            hold(ms);
        }
    }
    quern_write_nil(result);
    return QUERN_OK;
}

/* fails_first(FILE, MS): the same as beside, and its first attempt fails. */
static enum quern_err fails_first(struct quern_task *task, struct quern_reader *args, struct quern_writer *result)
{
    enum quern_err err = beside(task, args, result);
    return err == QUERN_OK && quern_task_attempt(task) == 1 ? quern_task_fail(task, "First", "as it should") : err;
}

/* hogs_first(FILE, MS): the same, but its first attempt takes memory, and waits to be stopped for it. */
static enum quern_err hogs_first(struct quern_task *task, struct quern_reader *args, struct quern_writer *result)
{
    if (quern_task_attempt(task) == 1) {
        (void)take(HOG_MIB_MAX / 2);
        hold(60000);
    }
    return beside(task, args, result);
}

/* burn(MS): so much CPU time. */
static enum quern_err burn(struct quern_task *task, struct quern_reader *args, struct quern_writer *result)
{
    int64_t ms;
    struct timespec used = {0};
    if (quern_read_i64(args, &ms) != QUERN_OK) {
        return quern_task_fail_args(task, args, "burn takes ms");
    }
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
    int64_t until_ms = used.tv_sec * 1000 + used.tv_nsec / 1000000 + ms;
    while (used.tv_sec * 1000 + used.tv_nsec / 1000000 < until_ms) {
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
    }
    quern_write_nil(result);
    return QUERN_OK;
}

static enum quern_err ask_malloc(struct quern_task *task, struct quern_reader *args, struct quern_writer *result)
{
    int64_t mib;
    if (quern_read_i64(args, &mib) != QUERN_OK) {
        return quern_task_fail_args(task, args, "ask_malloc takes MiB");
    }
    void *volatile p = malloc((size_t)mib * MIB);
    quern_write_bool(result, p != NULL);
    free(p);
    return QUERN_OK;
}

static enum quern_err initialise(const char **text_out)
{
    const char *mib = getenv("HOGS_PRELOAD");
    (void)text_out;
    long count = mib != NULL ? strtol(mib, NULL, 10) : 0;
    if (count > 0 && count <= HOG_MIB_MAX) {
        preloaded = take(count);
        preloaded_size = (size_t)count * MIB;
    }
    return QUERN_OK;
}

static const struct quern_function functions[] = {{"hog", hog},
                                                  {"leak", leak},
                                                  {"family_hog", family_hog},
                                                  {"reads", reads},
                                                  {"beside", beside},
                                                  {"ask_malloc", ask_malloc},
                                                  {"fails_first", fails_first},
                                                  {"runaway", runaway},
                                                  {"hydra", hydra},
                                                  {"hogs_first", hogs_first},
                                                  {"burn", burn},
                                                  {"hog_shared", hog_shared},
                                                  {NULL, NULL}};

QUERN_MODULE(.functions = functions, .initialise = initialise)

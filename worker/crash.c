/*
 * crash.c owns the handler of signals that say: this program is wrong.
 * It must not know symbols, nor what is done with a backtrace.
 * Start reading at on_crash.
 */
#include "worker/crash.h"

#include "common/check.h"
#include "common/clock.h"
#include "worker/backtrace.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>
#include <unwind.h>

extern char **environ;

/* The handler's own stack: the usual one may be what overflowed. */
#define CRASH_STACK_SIZE (128u * 1024u)
/* Innermost frames that are told, and outermost; between them those of a deep recursion are left out. */
#define FRAMES_FIRST_COUNT 40u
#define FRAMES_LAST_COUNT 16u
/* A stack that has no end is looked at no further than this. */
#define FRAMES_COUNT_MAX 200000u
/* How long the process that finds symbols may take. */
#define SYMBOLS_WAIT_MS 2000

static const int crash_signals[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP, SIGSYS};

static struct {
    struct statuspage *page;
    uintptr_t base;
    pid_t pid;
    _Atomic pid_t thread; /* that crashed; 0: none */
    atomic_int stage;     /* of the thread that crashed; the one that runs tasks looks at it */
    int signal;
    uintptr_t address; /* that could not be reached, */
    bool has_address;  /* if it was that */
    bool is_inside;    /* the walk is past the handler's own frames */
    unsigned count;    /* of frames, all */
    uintptr_t first[FRAMES_FIRST_COUNT];
    uintptr_t last[FRAMES_LAST_COUNT]; /* at (index - FIRST) % COUNT */
} crash;

/* ---- the walk ---- */

static void frame_add(uintptr_t address)
{
    if (crash.count < FRAMES_FIRST_COUNT) {
        crash.first[crash.count] = address;
    } else {
        crash.last[(crash.count - FRAMES_FIRST_COUNT) % FRAMES_LAST_COUNT] = address;
    }
    crash.count++;
}

static _Unwind_Reason_Code on_frame(struct _Unwind_Context *context, void *none)
{
    (void)none;
    int was_interrupted = 0;
    uintptr_t address = _Unwind_GetIPInfo(context, &was_interrupted);
    if (was_interrupted && !crash.is_inside) {
        crash.is_inside = true;
    } else if (!crash.is_inside) {
        return _URC_NO_REASON;
    }
    if (crash.count > 0 && _Unwind_GetRegionStart(context) == crash.base) {
        return _URC_END_OF_STACK;
    }
    frame_add(address);
    return crash.count < FRAMES_COUNT_MAX ? _URC_NO_REASON : _URC_END_OF_STACK;
}

static _Unwind_Reason_Code on_no_frame(struct _Unwind_Context *context, void *none)
{
    (void)context;
    (void)none;
    return _URC_END_OF_STACK;
}

static bool is_code(uintptr_t address)
{
    struct dl_find_object object;
    return _dl_find_object((void *)address, &object) == 0;
}

/* Who called what is no function: nothing tells how to unwind from there, but the call has just been made. */
static uintptr_t caller_of_nothing(const ucontext_t *context)
{
#if defined(__x86_64__)
    return *(const uintptr_t *)context->uc_mcontext.gregs[REG_RSP];
#elif defined(__aarch64__)
    return (uintptr_t)context->uc_mcontext.regs[30];
#else
    (void)context;
    return 0;
#endif
}

static void walk(const ucontext_t *context)
{
    (void)_Unwind_Backtrace(on_frame, NULL);
    if (crash.count == 1 && !is_code(crash.first[0])) {
        uintptr_t caller = caller_of_nothing(context);
        if (is_code(caller)) {
            frame_add(caller);
        }
    }
}

/* ---- the list (backtrace.h) ---- */

static void put_bytes(const char *p, size_t n)
{
    struct crash_board *board = &crash.page->crash;
    uint32_t size = atomic_load_explicit(&board->list_size, memory_order_relaxed);
    if (n <= sizeof(board->list) - 1 - size) {
        memcpy(board->list + size, p, n);
        board->list[size + n] = '\0';
        atomic_store_explicit(&board->list_size, size + (uint32_t)n, memory_order_relaxed);
    }
}

static void put_number(char word, uint64_t number, char end)
{
    char text[2 + 16 + 1];
    size_t at = sizeof(text);
    text[--at] = end;
    do {
        text[--at] = "0123456789abcdef"[number & 15];
        number >>= 4;
    } while (number != 0);
    text[--at] = ' ';
    text[--at] = word;
    put_bytes(text + at, sizeof(text) - at);
}

/* The module of an address, unless it is that of the frame before. */
static void put_module(uintptr_t address, const struct link_map **last)
{
    struct dl_find_object object;
    bool is_known = _dl_find_object((void *)address, &object) == 0;
    const struct link_map *module = is_known ? object.dlfo_link_map : NULL;
    if (module == *last) {
        return;
    }
    *last = module;
    put_number(BACKTRACE_MODULE, module == NULL ? 0 : module->l_addr, ' ');
    if (module != NULL) {
        put_bytes(module->l_name, strnlen(module->l_name, BACKTRACE_PATH_SIZE_MAX));
    } else {
        put_bytes("?", 1);
    }
    put_bytes("\n", 1);
}

static void put_frame(unsigned index, uintptr_t address, const struct link_map **module)
{
    put_module(index == 0 ? address : address - 1, module);
    put_number(index == 0 ? BACKTRACE_EXACT : BACKTRACE_FRAME, address, '\n');
}

static void write_list(void)
{
    const struct link_map *module = (const struct link_map *)-1;
    unsigned kept = FRAMES_FIRST_COUNT + FRAMES_LAST_COUNT;
    if (crash.has_address) {
        put_number(BACKTRACE_ADDRESS, crash.address, '\n');
    }
    for (unsigned i = 0; i < crash.count && i < FRAMES_FIRST_COUNT; i++) {
        put_frame(i, crash.first[i], &module);
    }
    unsigned from = FRAMES_FIRST_COUNT;
    if (crash.count > kept) {
        put_number(BACKTRACE_SKIPPED, crash.count - kept, '\n');
        from = crash.count - FRAMES_LAST_COUNT;
    }
    for (unsigned i = from; i < crash.count; i++) {
        put_frame(i, crash.last[(i - FRAMES_FIRST_COUNT) % FRAMES_LAST_COUNT], &module);
    }
}

/* ---- symbols: by a process that is not damaged ---- */

static void read_text(int from)
{
    struct crash_board *board = &crash.page->crash;
    int64_t until_ms = clock_mono_ms() + SYMBOLS_WAIT_MS;
    uint32_t size = 0;
    while (size < sizeof(board->text)) {
        int64_t left_ms = until_ms - clock_mono_ms();
        struct pollfd end = {.fd = from, .events = POLLIN};
        if (left_ms <= 0 || (poll(&end, 1, (int)left_ms) < 0 && errno != EINTR)) {
            return;
        }
        ssize_t got = end.revents != 0 ? read(from, board->text + size, sizeof(board->text) - size) : -1;
        if (got == 0) {
            return;
        }
        size += got > 0 ? (uint32_t)got : 0;
        atomic_store_explicit(&board->text_size, size, memory_order_relaxed);
    }
}

static void ask_for_symbols(void)
{
    char *argv[] = {(char *)"quern", (char *)BACKTRACE_ARGUMENT, crash.page->crash.list, NULL};
    int pair[2];
    if (crash.count == 0 || pipe2(pair, O_CLOEXEC) != 0) {
        return;
    }
    pid_t pid = vfork();
    if (pid == 0) {
        dup2(pair[1], STDOUT_FILENO);
        execve("/proc/self/exe", argv, environ);
        _exit(127);
    }
    close(pair[1]);
    if (pid > 0) {
        read_text(pair[0]);
        kill(pid, SIGKILL);
        while (waitpid(pid, NULL, 0) < 0 && errno == EINTR) {
        }
    }
    close(pair[0]);
}

/* ---- the handler ---- */

__attribute__((noreturn)) static void die(int number)
{
    sigset_t one;
    sigemptyset(&one);
    sigaddset(&one, number);
    signal(number, SIG_DFL);
    pthread_sigmask(SIG_UNBLOCK, &one, NULL);
    (void)raise(number);
    _exit(128 + number);
}

__attribute__((noreturn)) void crash_await_end(void)
{
    for (;;) {
        (void)pause();
    }
}

bool crash_is_under_way(void)
{
    return crash.stage != 0;
}

/* Comes back here if a step crashes: with the next. */
static void on_crash(int number, siginfo_t *info, void *context)
{
    if (getpid() != crash.pid) {
        die(number); /* a child that a handler forked: the page is not its own */
    }
    pid_t self = (pid_t)syscall(SYS_gettid);
    pid_t none = 0;
    if (!atomic_compare_exchange_strong(&crash.thread, &none, self) && none != self) {
        crash_await_end();
    }
    if (crash.stage < 1) {
        crash.stage = 1;
        crash.signal = number;
        crash.has_address = (number == SIGSEGV || number == SIGBUS) && info->si_code > 0;
        crash.address = (uintptr_t)info->si_addr;
        uint64_t running = atomic_load_explicit(&crash.page->running, memory_order_relaxed);
        atomic_store_explicit(&crash.page->crash.number, running, memory_order_relaxed);
        walk(context);
    }
    if (crash.stage < 2) {
        crash.stage = 2;
        write_list();
    }
    if (crash.stage < 3) {
        crash.stage = 3;
        ask_for_symbols();
    }
    die(crash.signal);
}

void crash_watch(struct statuspage *page, void (*base)(void))
{
    crash.page = page;
    crash.pid = getpid();
    crash.base = (uintptr_t)base;
    /* What it loads or sets up at its first call must not be done in a process that is damaged. */
    (void)_Unwind_Backtrace(on_no_frame, NULL);
    void *memory = mmap(NULL, CRASH_STACK_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory != MAP_FAILED) {
        (void)sigaltstack(&(stack_t){.ss_sp = memory, .ss_size = CRASH_STACK_SIZE}, NULL);
    }
    struct sigaction action = {.sa_sigaction = on_crash, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER};
    sigemptyset(&action.sa_mask);
    for (size_t i = 0; i < sizeof(crash_signals) / sizeof(crash_signals[0]); i++) {
        (void)sigaction(crash_signals[i], &action, NULL);
    }
}

/* ---- supervisor ---- */

void crash_read(struct statuspage *page, uint64_t number, struct buf *out)
{
    struct crash_board *board = &page->crash;
    if (atomic_load_explicit(&board->number, memory_order_relaxed) != number) {
        return;
    }
    uint32_t text_size = atomic_load_explicit(&board->text_size, memory_order_relaxed);
    uint32_t list_size = atomic_load_explicit(&board->list_size, memory_order_relaxed);
    if (text_size > 0 && text_size <= sizeof(board->text)) {
        buf_put(out, board->text, text_size);
    } else if (list_size <= sizeof(board->list)) {
        struct buf list = {0};
        buf_put(&list, board->list, list_size); /* a copy, so that it stays as it is while it is read */
        backtrace_put(buf_bytes(&list), out);
        buf_fini(&list);
    }
}

/*
 * shortage: preloaded into a program by stories. The file $QUERN_SHORTAGE holds one number, shared by every process
 * that maps it: while it is not 0, each allocation takes one from it, and the one that makes it 0 fails, once.
 */
#include <dlfcn.h>
#include <errno.h>
#include <execinfo.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static _Atomic int64_t *countdown;

__attribute__((constructor)) static void shortage_begin(void)
{
    const char *path = getenv("QUERN_SHORTAGE");
    int fd = path != NULL ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (fd >= 0) {
        void *p = mmap(NULL, sizeof *countdown, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        countdown = p != MAP_FAILED ? p : NULL;
        close(fd);
    }
}

static int is_this_one(void)
{
    if (countdown == NULL || atomic_load_explicit(countdown, memory_order_relaxed) <= 0 ||
        atomic_fetch_sub_explicit(countdown, 1, memory_order_relaxed) != 1) {
        return 0;
    }
    void *stack[32]; /* where it was, for whoever looks for what came of it */
    backtrace_symbols_fd(stack, backtrace(stack, 32), STDERR_FILENO);
    errno = ENOMEM;
    return 1;
}

/* Of the program's own allocator: the C library's or another's. To find a name that is there takes no memory. */
static void *(*next_malloc)(size_t n);
static void *(*next_calloc)(size_t count, size_t n);
static void *(*next_realloc)(void *p, size_t n);

static void find_next(void)
{
    if (next_realloc == NULL) {
        *(void **)&next_malloc = dlsym(RTLD_NEXT, "malloc");
        *(void **)&next_calloc = dlsym(RTLD_NEXT, "calloc");
        *(void **)&next_realloc = dlsym(RTLD_NEXT, "realloc");
    }
}

__attribute__((visibility("default"))) void *malloc(size_t n)
{
    find_next();
    return is_this_one() ? NULL : next_malloc(n);
}

__attribute__((visibility("default"))) void *calloc(size_t count, size_t n)
{
    find_next();
    return is_this_one() ? NULL : next_calloc(count, n);
}

__attribute__((visibility("default"))) void *realloc(void *p, size_t n)
{
    find_next();
    return is_this_one() ? NULL : next_realloc(p, n);
}

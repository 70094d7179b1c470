/*
 * cradle.c owns the process between, in which slots are born into their cgroup.
 * It must not know slots.
 * Start reading at cradle_run.
 */

#include "worker/cradle.h"

#include <errno.h>
#include <linux/sched.h>
#include <signal.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

struct cradle {
    struct clone_args args;
    void (*make)(void *self);
    void *self;
};

/* In the process between, on our stack, below the frame in which we wait for its end. */
static void lie_in(struct cradle *cradle)
{
    cradle->make(cradle->self);
    /* Not _exit: a sanitizer that counts what is entered would count that it never came back, in our memory. */
    (void)syscall(SYS_exit_group, 0);
}

/* The kernel's call itself, and no function around it: that would return on our stack first there and then here, when
 * its frame has been written over. For the same reason this returns only here, and what is called there is called
 * through a pointer that the compiler does not see through. Its pid, or -errno. */
__attribute__((noinline)) static long enter(struct cradle *cradle)
{
    void (*volatile there)(struct cradle *) = lie_in;
    long pid;
#if defined(__x86_64__)
    __asm__ volatile("syscall"
                     : "=a"(pid)
                     : "0"((long)SYS_clone3), "D"(&cradle->args), "S"(sizeof(cradle->args))
                     : "rcx", "r11", "memory");
#elif defined(__aarch64__)
    register long number __asm__("x8") = SYS_clone3;
    register long first __asm__("x0") = (long)&cradle->args;
    register long second __asm__("x1") = (long)sizeof(cradle->args);
    __asm__ volatile("svc #0" : "+r"(first) : "r"(number), "r"(second) : "memory", "cc");
    pid = first;
#else
    pid = -ENOSYS;
#endif
    if (pid == 0) {
        there(cradle);
    }
    return pid;
}

bool cradle_run(int group, void (*make)(void *self), void *self)
{
    struct cradle cradle = {
        .args = {.flags = CLONE_INTO_CGROUP | CLONE_VM | CLONE_VFORK, .cgroup = (unsigned long long)group},
        .make = make,
        .self = self};
    sigset_t all;
    sigset_t before;
    /* A handler of signals that ran there would run on memory that is ours. */
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, &before);
    long pid = enter(&cradle);
    /* Its end sends no signal (exit_signal 0), so nobody else waits for it. */
    while (pid > 0 && waitpid((pid_t)pid, NULL, __WALL) < 0 && errno == EINTR) {
    }
    sigprocmask(SIG_SETMASK, &before, NULL);
    return pid > 0;
}

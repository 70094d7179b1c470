/*
 * event_loop: many futures driven from one epoll loop that never blocks in quern: the set of futures has a descriptor
 * that is readable while one of them can be taken. A timer ticks in the same loop, to show that it goes on turning: its
 * ticks are counted while results are still to come.
 */
#include "example.h"

#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define COUNT 500

static enum quern_err square(struct quern_task *task, struct quern_reader *args, struct quern_writer *result)
{
    int64_t x;

    if (quern_read_i64(args, &x) != QUERN_OK) {
        return quern_task_fail_args(task, args, "square takes one integer");
    }
    nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL); /* as if it were work */
    quern_write_i64(result, x * x);
    return QUERN_OK;
}

static const struct quern_function functions[] = {{"square", square}, {NULL, NULL}};
static const struct quern_module module = {.size = sizeof module, .functions = functions};

static void watch(int loop, int fd)
{
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};

    if (epoll_ctl(loop, EPOLL_CTL_ADD, fd, &event) != 0) {
        perror("epoll_ctl");
        exit(1);
    }
}

/* Takes what is there, without waiting; false: all were given. */
static bool take(struct quern_set *set, int64_t *sum)
{
    struct quern_future *future;
    enum quern_err err;

    while ((err = quern_set_next(set, 0, &future)) == QUERN_OK) {
        *sum += result_i64(future); /* it is done: this does not wait */
        quern_future_release(&future);
    }
    if (err != QUERN_TIMEOUT && err != QUERN_END) {
        must(err);
    }
    return err != QUERN_END;
}

static void tick(int timer, unsigned *ticks)
{
    uint64_t count;

    if (read(timer, &count, sizeof count) == sizeof count) {
        (*ticks)++;
    }
}

int main(int argc, char **argv)
{
    quern_pool_main(argc, argv, &module);

    struct quern_pool *pool = pool_of(2);
    struct quern_set *set;
    int64_t sum = 0;
    unsigned ticks = 0;

    must(quern_as_completed(NULL, 0, QUERN_FOREVER, &set));
    for (int64_t x = 1; x <= COUNT; x++) {
        must(quern_set_add(set, submit_i64(quern_pool_client(pool), "square", x)));
    }

    int loop = epoll_create1(EPOLL_CLOEXEC);
    int timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    struct itimerspec every = {.it_interval.tv_nsec = 1000000, .it_value.tv_nsec = 1000000};
    timerfd_settime(timer, 0, &every, NULL);
    watch(loop, timer);
    watch(loop, quern_set_fd(set));
    for (bool is_going = true; is_going;) {
        struct epoll_event events[2];
        int count = epoll_wait(loop, events, 2, -1);

        for (int i = 0; i < count; i++) {
            if (events[i].data.fd == timer) {
                tick(timer, &ticks);
            } else if (!take(set, &sum)) {
                is_going = false;
            }
        }
    }
    printf("sum of the squares of 1..%d: %" PRId64 "; the timer ticked %u times meanwhile\n", COUNT, sum, ticks);
    close(loop);
    close(timer);
    quern_set_close(&set);
    must(quern_pool_close(&pool, 0));
    return 0;
}

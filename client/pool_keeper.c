/*
 * pool_keeper.c owns the thread that starts a pool's broker and worker again when they die.
 * It must not know what they were told, nor how a pool ends.
 * Start reading at keeper_main.
 */
#include "client/pool_inside.h"

#include "common/check.h"
#include "common/clock.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* The first comes back at once, the second after this; then each time twice as late, until the pool gives up. */
#define AGAIN_MS 100
/* Deaths in a row before the pool gives up; one that lived for this long begins a new row. */
#define IN_A_ROW_MAX 6u
#define LIVED_MS 10000
#define TEXT_SIZE_MAX (POOL_WORDS_SIZE_MAX + 512u)

static void part_died(struct pool_part *part, int64_t now_ms)
{
    bool has_lived = part->process.is_ready && now_ms - part->started_ms >= LIVED_MS;
    part->in_a_row = has_lived ? 1 : part->in_a_row + 1;
    part->again_ms = now_ms + (part->in_a_row < 2 ? 0 : AGAIN_MS << (part->in_a_row - 2));
}

/* False: it has died too often. */
static bool part_tend(struct quern_pool *pool, struct pool_part *part, int64_t now_ms)
{
    if (part->again_ms == INT64_MAX) {
        pool_process_look(&part->process);
        if (!pool_process_is_running(&part->process)) {
            part_died(part, now_ms);
        }
    }
    if (part->in_a_row >= IN_A_ROW_MAX) {
        return false;
    }
    if (part->again_ms <= now_ms) {
        part->started_ms = now_ms;
        part->again_ms = INT64_MAX;
        if (pool_process_start(&part->process, &pool->ground) != 0) {
            part_died(part, now_ms);
        }
    }
    return true;
}

static void give_up(struct quern_pool *pool, const struct pool_part *part)
{
    char last[TEXT_SIZE_MAX];
    char text[TEXT_SIZE_MAX + 128];
    pool_process_obituary(&part->process, last, sizeof(last));
    snprintf(text, sizeof(text), "the pool has given up: %s, %u times in a row", last, part->in_a_row);
    client_break(pool->client, QUERN_IO, text);
}

static size_t part_fds(const struct pool_part *part, struct pollfd fds[2])
{
    fds[0] = (struct pollfd){.fd = part->process.pidfd, .events = POLLIN};
    fds[1] = (struct pollfd){.fd = part->process.ready_fd, .events = POLLIN};
    return 2;
}

static int sleep_ms(const struct quern_pool *pool, int64_t now_ms)
{
    int64_t due_ms = pool->broker.again_ms < pool->worker.again_ms ? pool->broker.again_ms : pool->worker.again_ms;
    int64_t left_ms = due_ms - now_ms;
    return due_ms == INT64_MAX ? -1 : left_ms < 0 ? 0 : (int)left_ms;
}

static void *keeper_main(void *context)
{
    struct quern_pool *pool = context;
    struct pollfd fds[5] = {{.fd = pool->keeper_wake, .events = POLLIN}};
    bool is_going_on = true;
    while (fds[0].revents == 0) {
        int64_t now_ms = clock_mono_ms();
        if (is_going_on && (!part_tend(pool, &pool->broker, now_ms) || !part_tend(pool, &pool->worker, now_ms))) {
            is_going_on = false;
            give_up(pool, pool->broker.in_a_row >= IN_A_ROW_MAX ? &pool->broker : &pool->worker);
        }
        size_t count = 1;
        if (is_going_on) {
            count += part_fds(&pool->broker, fds + count);
            count += part_fds(&pool->worker, fds + count);
        }
        (void)poll(fds, count, is_going_on ? sleep_ms(pool, clock_mono_ms()) : -1);
    }
    return NULL;
}

enum quern_err keeper_start(struct quern_pool *pool)
{
    sigset_t all;
    sigset_t before;
    pool->broker.again_ms = pool->worker.again_ms = INT64_MAX;
    pool->broker.started_ms = pool->worker.started_ms = clock_mono_ms();
    pool->keeper_wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (pool->keeper_wake < 0) {
        return error_set(QUERN_IO, "the pool could not be started: eventfd: %s", strerror(errno));
    }
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int failed = pthread_create(&pool->keeper, NULL, keeper_main, pool);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pool->has_keeper = failed == 0;
    return failed == 0 ? QUERN_OK : error_set(QUERN_IO, "the pool's thread could not be started: %s", strerror(failed));
}

void keeper_stop(struct quern_pool *pool)
{
    if (pool->has_keeper) {
        CHECK(eventfd_write(pool->keeper_wake, 1) == 0);
        pthread_join(pool->keeper, NULL);
        pool->has_keeper = false;
    }
    if (pool->keeper_wake >= 0) {
        close(pool->keeper_wake);
        pool->keeper_wake = -1;
    }
}
